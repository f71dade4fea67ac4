"""Competition-shaped sample data, drawn from the fonts that ship with matplotlib: no account and no network needed."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from digits.competition import SAMPLE_SUBMISSION, TEST, TRAIN
from digits.data import mark_sample, marked
from digits.deform import Deformation, deform
from digits.errors import DigitsError
from digits.files import make_folder, write_whole
from digits.submission import HEADER

FONTS = (
    *(f"DejaVu{family}" for family in ("Sans", "Sans-Bold", "Sans-Oblique", "Sans-BoldOblique")),
    *(f"DejaVu{family}" for family in ("SansMono", "SansMono-Bold", "SansMono-Oblique", "SansMono-BoldOblique")),
    *(f"DejaVu{family}" for family in ("Serif", "Serif-Bold", "Serif-Italic", "Serif-BoldItalic")),
    *("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
    *("cmb10", "cmr10", "cmss10", "cmtt10"),
)
GLYPH = 80  # pixels, the side of a drawn digit's image
DIGIT = 20  # pixels of 28, the height of a digit, as in the competition
SHAPES = Deformation(rotate=15, shear=15, scale=0.15, shift=0.06, elastic=0.6, smooth=4.0)
CHUNK = 50  # digits that are drawn at a time


def write_sample(folder: Path, train_images: int = 5_000, test_images: int = 1_000, seed: int = 0) -> None:
    """Write train.csv, test.csv and sample_submission.csv of so many digits, and mark the folder as sample data.

    The same seed gives the same digits. Raises DigitsError if the files can't be written.
    """
    names = [name for table in (TRAIN, TEST) for name in (table.file, f"{table.file}.gz")]
    if marked(folder) != "sample" and any((folder / name).exists() for name in names):
        raise DigitsError(f"{folder} holds data that is not sample data: choose another folder with --data")
    rng = np.random.default_rng(seed)
    glyphs = draw_glyphs()
    make_folder(folder)
    mark_sample(folder)
    labels, images = draw(train_images, glyphs, rng)
    table = np.column_stack([labels, images.reshape(train_images, -1)])
    _write_table(folder / TRAIN.file, TRAIN.columns, table)
    _, images = draw(test_images, glyphs, rng)
    _write_table(folder / TEST.file, TEST.columns, images.reshape(test_images, -1))
    blank = np.column_stack([np.arange(1, test_images + 1), np.zeros(test_images, int)])
    _write_table(folder / SAMPLE_SUBMISSION, HEADER.split(","), blank)


def drawn(folder: Path) -> bool:
    """The folder has its sample data already."""
    tables = (TRAIN.file, TEST.file, SAMPLE_SUBMISSION)
    return marked(folder) == "sample" and all((folder / name).exists() for name in tables)


def draw(count: int, glyphs: NDArray[np.uint8], rng: np.random.Generator) -> tuple[NDArray[np.intp], NDArray[np.uint8]]:
    """Labels (count,) and images (count, 28, 28) of random digits in random fonts and shapes."""
    labels = rng.integers(0, 10, count)
    fonts = rng.integers(0, len(glyphs), count)
    zoom = GLYPH * 0.6 / DIGIT
    images = [
        deform(glyphs[fonts[at : at + CHUNK], labels[at : at + CHUNK]], rng, SHAPES, zoom=zoom, points=2)
        for at in range(0, count, CHUNK)
    ]
    return labels, np.concatenate(images)


def draw_glyphs() -> NDArray[np.uint8]:
    """The ten digits in each font, white on black: (fonts, 10, GLYPH, GLYPH)."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    glyphs = []
    for font in FONTS:
        figure = Figure(figsize=(10, 1), dpi=GLYPH, facecolor="black")
        canvas = FigureCanvasAgg(figure)
        properties = FontProperties(fname=folder / f"{font}.ttf", size=59)  # a digit is then 0.6 of GLYPH high
        for digit in range(10):
            figure.text(
                (digit + 0.5) / 10, 0.5, str(digit), color="white", fontproperties=properties, ha="center", va="center"
            )
        canvas.draw()
        row = np.asarray(canvas.buffer_rgba())[..., 0]
        inked = np.flatnonzero(row.any(axis=1))
        row = np.roll(row, (GLYPH - 1 - inked[0] - inked[-1]) // 2, axis=0)  # the digits in the middle of their height
        glyphs.append(row.reshape(GLYPH, 10, GLYPH).transpose(1, 0, 2))
    return np.stack(glyphs)


def _write_table(path: Path, columns: tuple[str, ...] | list[str], table: NDArray[np.integer]) -> None:
    """Write a table as the competition's are written, with CRLF line ends."""
    lines = [",".join(columns), *(",".join(map(str, row)) for row in table.tolist()), ""]
    text = "\r\n".join(lines)
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="ascii", newline=""))
