"""Pictures of a run, as PNG files: matplotlib is loaded only when one is drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from digits import diagnosis
from digits.files import write_whole
from digits.nn import Array
from digits.stats import Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Labels = NDArray[np.intp]
Images = NDArray[np.uint8]

INK = "#1f2933"
FAINT = "#7b8794"
TRAIN = "#3e7cb1"
DEV = "#d1495b"
COLOURS = {"train": TRAIN, "dev": DEV}
KEYS = {
    "loss": {"train": "loss", "dev": "dev_loss"},
    "accuracy": {"train": "train_accuracy", "dev": "dev_accuracy"},
}
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e7eb",
    "legend.frameon": False,
}
GALLERY = (6, 8)  # rows, at most, and columns
CELL = (41, 34)  # pixels, down and across, of an image's place in it, with room for what is said of the image


def learning_curves(path: Path, log: Sequence[dict[str, Any]], title: str, whole_batch: bool) -> None:
    """Loss and error over the training, from the lines of log.jsonl."""

    def draw(figure: "Figure") -> None:
        left, right = figure.subplots(1, 2)
        epochs = [line["epoch"] for line in log]
        marker = "o" if len(log) < 40 else None
        for axes, name, scale in ((left, "loss", 1.0), (right, "accuracy", 100.0)):
            curves = {
                who: [scale * (1 - line[key] if name == "accuracy" else line[key]) for line in log]
                for who, key in KEYS[name].items()
                if log and log[0][key] is not None
            }
            # Zero has no place on a logarithmic axis: it is drawn below all that is more.
            lowest = min((value for curve in curves.values() for value in curve if value > 0), default=1.0) / 2
            upper = max(curves, key=lambda who: curves[who][-1], default="")
            for who, values in curves.items():
                colour = COLOURS[who]
                drawn = [max(value, lowest) for value in values]
                higher = who == upper
                axes.plot(epochs, drawn, color=colour, marker=marker, markersize=3, linewidth=1.6)
                axes.annotate(
                    f"{who} {values[-1]:.3g}" + ("%" if name == "accuracy" else ""),
                    (epochs[-1], drawn[-1]),
                    xytext=(6, 1 if higher else -1),
                    textcoords="offset points",
                    color=colour,
                    va="bottom" if higher else "top",
                    annotation_clip=False,
                )
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.yaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
            axes.tick_params(which="minor", labelcolor=FAINT)
            axes.set_title("Cross-entropy" if name == "loss" else "Error, %")
            axes.set_xlabel("iteration" if whole_batch else "epoch")
        figure.suptitle(title, x=0.01, ha="left", color=FAINT, fontsize=9)

    _save(path, (10, 4), draw)


def confusion_matrix(path: Path, labels: Labels, predicted: Labels, title: str) -> None:
    """How often each label (rows) was predicted as each digit (columns); mistakes are coloured, hits are counted."""
    counts = diagnosis.confusion(labels, predicted)
    mistakes = counts * ~np.eye(10, dtype=bool)
    score = Score(int(np.trace(counts)), int(counts.sum()))

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        axes.imshow(mistakes, cmap="Reds", vmin=0, vmax=max(int(mistakes.max()), 1) * 1.25)
        axes.grid(False)
        axes.set_xticks(range(10))
        axes.set_yticks(range(10))
        for label in range(10):
            for digit in range(10):
                count = counts[label, digit]
                hit = label == digit
                if count:
                    dark = not hit and count > 0.7 * mistakes.max()
                    colour = FAINT if hit else "white" if dark else INK
                    axes.text(digit, label, str(count), ha="center", va="center", color=colour, fontsize=9)
        axes.set_xlabel("predicted")
        axes.set_ylabel("label")
        wrong = score.images - score.correct
        axes.set_title(f"Dev accuracy {score}: {wrong} of {score.images:,} wrong")
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.tick_params(length=0)
        figure.suptitle(title, x=0.01, ha="left", color=FAINT, fontsize=9)

    _save(path, (6.4, 6.6), draw)


def mistakes(path: Path, images: Images, rows: Labels, labels: Labels, p: Array, title: str) -> None:
    """The dev images that were predicted wrong, the surest mistakes first, each with its row in train.csv."""
    wrong = diagnosis.mistakes(p, labels)
    shown = wrong[: GALLERY[0] * GALLERY[1]]

    def draw(figure: "Figure") -> None:
        _gallery(figure.subplots(), images[shown], rows[shown], labels[shown], p[shown])
        few = "" if len(shown) == len(wrong) else f", the {len(shown)} surest"
        figure.suptitle(
            f"{title}: {len(wrong)} of {len(labels):,} dev images wrong{few}", x=0.01, ha="left", color=INK, fontsize=10
        )

    _save(path, (10, 0.5 + 1.5 * max(_lines(len(shown)), 1)), draw)


@dataclass(frozen=True)
class Disagreement:
    """Images that one side has right and the other wrong: a heading, and their places among all the images.

    `p` (N, 10) are the probabilities that the wrong side gives all of them.
    """

    heading: str
    places: Labels
    p: Array


def disagreements(
    path: Path, images: Images, rows: Labels, labels: Labels, sides: Sequence[Disagreement], title: str
) -> None:
    """The images that one of two sides alone has right, and what the other takes them for, each with its row.

    They are images (N, 28, 28), with rows in train.csv and labels (N,). Raises DigitsError if it can't be written.
    """
    shown = [side.places[: GALLERY[0] * GALLERY[1]] for side in sides]
    heights = [_lines(len(places)) for places in shown]

    def draw(figure: "Figure") -> None:
        ratios = [1.5 * height + 0.5 for height in heights]
        parts: Any = figure.subfigures(len(sides), 1, squeeze=False, height_ratios=ratios)
        for part, side, places in zip(parts.ravel(), sides, shown, strict=True):
            _gallery(part.subplots(), images[places], rows[places], labels[places], side.p[places])
            few = "" if len(places) == len(side.places) else f", the {len(places)} surest"
            heading = f"{side.heading}: {len(side.places)} of {len(labels):,} images{few}"
            part.suptitle(heading, x=0.01, ha="left", color=INK, fontsize=10, fontweight="bold")
        figure.suptitle(title, x=0.01, ha="left", color=FAINT, fontsize=9)

    _save(path, (10, 0.9 + sum(1.5 * height + 0.5 for height in heights)), draw)


def digit(path: Path, image: NDArray[np.uint8], p: Array, label: int | None, title: str) -> None:
    """One image beside the ten probabilities."""
    predicted = int(p.argmax())

    def draw(figure: "Figure") -> None:
        left, right = figure.subplots(1, 2)
        left.axis("off")
        _image(left, image)
        verdict = "" if label is None else f", labelled {label}"
        left.set_title(f"predicted {predicted}{verdict}", color=INK if label in (None, predicted) else DEV)
        colours = [TRAIN if k == label or (label is None and k == predicted) else FAINT for k in range(10)]
        if label is not None and predicted != label:
            colours[predicted] = DEV
        right.barh(range(10), p, color=colours)
        right.set_yticks(range(10))
        right.invert_yaxis()
        right.set_xlim(0, 1)
        right.grid(axis="y", visible=False)
        right.set_xlabel("probability")
        for k in range(10):
            if p[k] >= 0.001:
                inside = p[k] > 0.85
                right.text(
                    p[k] + (-0.02 if inside else 0.02),
                    k,
                    f"{p[k]:.1%}",
                    va="center",
                    ha="right" if inside else "left",
                    color="white" if inside else INK,
                    fontsize=9,
                )
        figure.suptitle(title, x=0.01, ha="left", color=FAINT, fontsize=9)

    _save(path, (7.5, 3.6), draw)


def _gallery(axes: "Axes", images: Images, rows: Labels, labels: Labels, p: Array) -> None:
    """Images (N, 28, 28), each with what its probabilities (10,) take it for, how surely, and its row in train.csv.

    They are one picture in one pair of axes: with a pair for each matplotlib takes more than three times as long.
    """
    (down, across), columns = CELL, GALLERY[1]
    wall = np.zeros((max(_lines(len(images)), 1) * down, columns * across), np.uint8)
    for number, (image, row, label, of) in enumerate(zip(images, rows, labels, p, strict=True)):
        height, width = image.shape
        line, column = divmod(number, columns)
        top, left = line * down + (down - height) // 2 + 1, column * across + (across - width) // 2
        wall[top : top + height, left : left + width] = image
        middle, said = left + (width - 1) / 2, int(of.argmax())
        axes.text(middle, top - 2, f"{said}, not {label}", ha="center", color=DEV, fontsize=9, fontweight="bold")
        sure = f"{of[said]:.0%} sure · #{row}"
        axes.text(middle, top + height + 1, sure, ha="center", va="top", color=FAINT, fontsize=7)
    axes.axis("off")
    _image(axes, wall)


def _lines(count: int) -> int:
    """How many lines of a gallery so many images fill."""
    return -(-count // GALLERY[1])


def _image(axes: "Axes", image: NDArray[np.uint8]) -> None:
    axes.imshow(image, cmap="gray_r", vmin=0, vmax=255, interpolation="nearest")


def _save(path: Path, inches: tuple[float, float], draw: Any) -> None:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=inches, dpi=120, layout="constrained")
        draw(figure)
        write_whole(path, lambda temporary: figure.savefig(temporary, format="png"))
