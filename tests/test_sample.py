"""Sample data drawn from fonts."""

from pathlib import Path

import numpy as np

from digits.data import Data, load
from digits.sample import FONTS, GLYPH, draw_glyphs, drawn, write_sample
from digits.table import TEST_COLUMNS, TRAIN_COLUMNS


def test_it_is_shaped_like_the_competitions(sample_folder: Path, sample_data: Data) -> None:
    assert (sample_data.images.shape, sample_data.test_images.shape) == ((600, 28, 28), (80, 28, 28))
    for name, columns in (("train.csv", TRAIN_COLUMNS), ("test.csv", TEST_COLUMNS)):
        content = (sample_folder / name).read_bytes()
        assert content.split(b"\r\n")[0].decode() == ",".join(columns)
        assert content.count(b"\n") == content.count(b"\r\n")
    assert sample_data.kind == "sample"


def test_all_digits_come_up_about_equally_often(sample_data: Data) -> None:
    counts = np.bincount(sample_data.labels, minlength=10)
    assert counts.min() > 30
    assert counts.max() < 90


def test_images_are_dark_with_a_lit_digit_that_is_not_cut_off(sample_data: Data) -> None:
    lit = sample_data.images > 128
    assert (lit.mean(axis=(1, 2)) > 0.02).all()
    assert (lit.mean(axis=(1, 2)) < 0.5).all()
    edge = np.ones((28, 28), bool)
    edge[1:-1, 1:-1] = False
    assert (lit & edge).any(axis=(1, 2)).mean() < 0.1


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_sample(tmp_path / name, 12, 3, seed)
    a, b, c = ((tmp_path / name / "train.csv").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_a_folder_is_drawn_once_all_is_there(tmp_path: Path) -> None:
    assert not drawn(tmp_path)
    write_sample(tmp_path, 12, 3)
    assert drawn(tmp_path)
    assert len(load(tmp_path).labels) == 12
    (tmp_path / "test.csv").unlink()
    assert not drawn(tmp_path)


def test_every_glyph_is_there_in_the_middle_of_its_height() -> None:
    glyphs = draw_glyphs()
    assert glyphs.shape == (len(FONTS), 10, GLYPH, GLYPH)
    assert (glyphs.max(axis=(2, 3)) == 255).all()
    for font in glyphs:
        rows = np.flatnonzero(font.any(axis=(0, 2)))
        assert abs(int(rows[0]) + int(rows[-1]) - (GLYPH - 1)) <= 2
        assert all((font[i] != font[j]).any() for i in range(10) for j in range(i))
