"""Draw the README's figures from sample data, which anyone can draw again: `make figures`."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from matplotlib.figure import Figure

from digits.augment import Augmentation, augment
from digits.sample import draw, draw_glyphs

app = typer.Typer(add_completion=False, rich_markup_mode=None)

# A card of its own colour, so that it looks the same on a light page and on a dark one.
CARD = "#1c2128"
INK = "#dfe5ec"
FAINT = "#9aa5b1"

ROWS: tuple[tuple[str, Augmentation], ...] = (
    ("as they are", Augmentation()),
    ("rotate = 20", Augmentation(rotate=20)),
    ("shear = 20", Augmentation(shear=20)),
    ("scale = 0.25", Augmentation(scale=0.25)),
    ("shift = 0.15", Augmentation(shift=0.15)),
    ("perspective = 0.2", Augmentation(perspective=0.2)),
    ("elastic = 1", Augmentation(elastic=1)),
    ("all of these, halved", Augmentation(10, 10, 0.125, 0.075, 0.1, 0.5)),
    ("erase = 1", Augmentation(erase=1)),
    ("mixup = 1", Augmentation(mixup=1)),
    ("cutmix = 1", Augmentation(cutmix=1)),
)
LABEL, CELL, GAP, CAPTION, MARGIN = 140, 56, 10, 18, 20  # pixels, of which each is drawn as two by two


def one_of_each() -> tuple[np.ndarray, np.ndarray]:
    """Images (10, 28, 28) of the ten digits in order, in fonts and shapes of the sample data, and their labels."""
    labels, images = draw(200, draw_glyphs(), np.random.default_rng(0))
    first = np.array([np.flatnonzero(labels == digit)[0] for digit in range(10)])
    return images[first], labels[first]


def shares(target: np.ndarray) -> str:
    """The classes of a mixed image, the larger share first: "70% 3, 30% 8"."""
    parts = [(digit, round(100 * target[digit])) for digit in np.argsort(-target, kind="stable")]
    return ", ".join(f"{share}% {digit}" for digit, share in parts if share)


@app.command()
def main(
    out: Annotated[Path, typer.Option(help="The folder to draw into.")] = Path("docs"),
    seed: Annotated[int, typer.Option(help="Of what is done to the digits.")] = 1,
) -> None:
    """Draw what each augmentation does to the ten digits."""
    images, labels = one_of_each()
    width = 2 * MARGIN + LABEL + 10 * CELL + 9 * GAP
    captions = sum(CAPTION for _, by in ROWS if by.mixes)
    height = 2 * MARGIN + len(ROWS) * (CELL + GAP) - GAP + captions
    figure = Figure(figsize=(width / 100, height / 100), dpi=200, facecolor=CARD)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    top = MARGIN
    for name, by in ROWS:
        seen, targets = augment(images, labels, np.random.default_rng(seed), by)
        axes.text(MARGIN, top + CELL / 2, name, color=INK, fontsize=8.5, va="center")
        for column, image in enumerate(seen):
            left = MARGIN + LABEL + column * (CELL + GAP)
            place = (left, left + CELL, top + CELL, top)
            axes.imshow(image, "gray", vmin=0, vmax=255, extent=place, interpolation="nearest")
            if by.mixes:
                middle, under = left + CELL / 2, top + CELL + CAPTION / 2
                axes.text(middle, under, shares(targets[column]), color=FAINT, fontsize=5.6, ha="center", va="center")
        top += CELL + GAP + (CAPTION if by.mixes else 0)
    axes.set(xlim=(0, width), ylim=(height, 0))
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "augmentation.png", facecolor=CARD, metadata={"Software": None})


if __name__ == "__main__":
    app()
