"""Sample data has the competition's shape, and looks enough like digits to be learnt."""

from pathlib import Path

import numpy as np
import pytest

from digits.competition import TEST_COLUMNS, TRAIN_COLUMNS
from digits.data import MARKER, Data, load
from digits.errors import DigitsError
from digits.files import write_json
from digits.sample import FONTS, GLYPH, draw_glyphs, drawn, write_sample
from digits.submission import check_submission


@pytest.fixture(scope="module")
def glyphs() -> np.ndarray:
    return draw_glyphs()


def test_it_has_the_competitions_files(sample_folder: Path) -> None:
    header, first, *_ = (sample_folder / "train.csv").read_bytes().split(b"\r\n")
    assert header.decode().split(",") == list(TRAIN_COLUMNS)
    assert first.count(b",") == 784
    assert (sample_folder / "test.csv").read_bytes().split(b"\r\n")[0].decode().split(",") == list(TEST_COLUMNS)
    check_submission(sample_folder / "sample_submission.csv", 80)
    assert not list(sample_folder.glob(".*.*"))


def test_it_is_read_as_sample_data(sample_data: Data) -> None:
    assert sample_data.kind == "sample"
    assert sample_data.images.shape == (600, 28, 28)
    assert sample_data.test_images.shape == (80, 28, 28)
    counts = np.bincount(sample_data.labels, minlength=10)
    assert counts.min() > 30
    assert counts.max() < 90


def test_its_digits_are_bright_on_dark_and_in_the_middle(sample_data: Data) -> None:
    for images in (sample_data.images, sample_data.test_images):
        assert images.max(axis=(1, 2)).min() > 100  # none is empty
        assert 0.05 < (images > 127).mean() < 0.3
        border = np.concatenate([images[:, [0, -1], :].ravel(), images[:, :, [0, -1]].ravel()])
        assert border.mean() < 5
        ink = images.sum(axis=0, dtype=float)
        rows, columns = np.indices((28, 28))
        assert np.average(rows, weights=ink) == pytest.approx(13.5, abs=1)
        assert np.average(columns, weights=ink) == pytest.approx(13.5, abs=1)


def test_few_of_its_digits_are_cut_off(sample_data: Data) -> None:
    edge = np.ones((28, 28), bool)
    edge[1:-1, 1:-1] = False
    assert ((sample_data.images > 128) & edge).any(axis=(1, 2)).mean() < 0.1


def test_no_image_is_there_twice(sample_data: Data) -> None:
    every = np.concatenate([sample_data.images, sample_data.test_images]).reshape(-1, 784)
    assert len(np.unique(every, axis=0)) == 680


def test_its_labels_are_true(sample_data: Data) -> None:
    """The nearest neighbour in the other half mostly has the same label."""
    x = sample_data.images.reshape(600, -1).astype(float)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    nearest = (x[:300] @ x[300:].T).argmax(axis=1)
    assert (sample_data.labels[300:][nearest] == sample_data.labels[:300]).mean() > 0.5  # of ten; shapes and fonts vary


def test_the_same_seed_draws_the_same_digits(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_sample(tmp_path / name, 20, 5, seed)
    files = [[(tmp_path / name / file).read_bytes() for file in ("train.csv", "test.csv")] for name in "abc"]
    assert files[0] == files[1]
    assert files[0] != files[2]


def test_the_ten_digits_of_each_font_are_different_and_whole(glyphs: np.ndarray) -> None:
    assert glyphs.shape == (len(FONTS), 10, GLYPH, GLYPH)
    assert glyphs.dtype == np.uint8
    for font, ten in zip(FONTS, glyphs, strict=True):
        assert len(np.unique(ten.reshape(10, -1), axis=0)) == 10, font
        assert (ten.max(axis=(1, 2)) == 255).all(), font
        edges = np.concatenate([ten[:, [0, -1], :].ravel(), ten[:, :, [0, -1]].ravel()])
        assert edges.max() == 0, font  # nothing is cut off, or peers in from the digit beside
        heights = [np.ptp(np.flatnonzero(one.any(axis=1))) + 1 for one in ten]
        assert 0.5 < max(heights) / GLYPH < 0.75, font


def test_it_is_drawn_only_when_all_of_it_is_there(tmp_path: Path) -> None:
    assert not drawn(tmp_path)
    write_sample(tmp_path, 20, 5)
    assert drawn(tmp_path)
    (tmp_path / "test.csv").unlink()
    assert not drawn(tmp_path)


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("mine")
    with pytest.raises(DigitsError, match="a file stands where a folder should be"):
        write_sample(tmp_path / "data", 20, 5)


def test_data_that_is_no_sample_is_not_drawn_over(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("the competition's, or mine")
    with pytest.raises(DigitsError, match=str(tmp_path)):
        write_sample(tmp_path, 20, 5)
    assert (tmp_path / "train.csv").read_text() == "the competition's, or mine"
    assert [path.name for path in tmp_path.iterdir()] == ["train.csv"]


def test_a_sample_that_was_half_drawn_is_drawn_anew(tmp_path: Path) -> None:
    write_sample(tmp_path, 20, 5)
    whole = (tmp_path / "test.csv").read_bytes()
    (tmp_path / "test.csv").unlink()
    write_sample(tmp_path, 20, 5)
    assert (tmp_path / "test.csv").read_bytes() == whole
    assert load(tmp_path).kind == "sample"


def test_tables_that_are_the_users_own_are_never_drawn_over(tmp_path: Path) -> None:
    write_sample(tmp_path, 20, 5)
    write_json(tmp_path / MARKER, {"kind": "own"})
    for name in ("train.csv", "test.csv.gz"):
        for path in tmp_path.glob("t*.csv*"):
            path.unlink()
        (tmp_path / name).write_bytes(b"mine")
        assert not drawn(tmp_path)
        with pytest.raises(DigitsError, match="not sample data"):
            write_sample(tmp_path, 20, 5)
        assert (tmp_path / name).read_bytes() == b"mine"
