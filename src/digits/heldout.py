"""What a run answered on the images that it was not trained on: its dev.npz."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digits.competition import TRAIN
from digits.errors import DigitsError
from digits.nn import Array, CheckpointError, read_arrays
from digits.runs import Run, dev_score, split_text

Rows = NDArray[np.intp]


@dataclass(frozen=True)
class HeldOut:
    """A run's answers on held-out images: their rows in train.csv (N,), labels (N,) and probabilities (N, 10)."""

    run: Run
    rows: Rows
    labels: Rows
    probabilities: Array

    @property
    def predicted(self) -> Rows:
        """The likeliest digit of each image, (N,)."""
        predicted: Rows = self.probabilities.argmax(axis=1)
        return predicted

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether that is the label, (N,)."""
        right: NDArray[np.bool_] = self.predicted == self.labels
        return right

    def at(self, rows: Rows) -> "HeldOut":
        """The answers on some of the images, given by their rows in train.csv, ascending."""
        kept = np.isin(self.rows, rows)
        return HeldOut(self.run, self.rows[kept], self.labels[kept], self.probabilities[kept])


def held_out(run: Run) -> HeldOut:
    """What a run answered on held-out images. Raises DigitsError, saying why, where there is no such thing at hand."""
    if run.record["status"] != "finished":
        raise DigitsError(f"the run {run.id} is not finished: go on with `digits train --resume {run.id}`")
    if dev_score(run) is None:
        raise DigitsError(f"the run {run.id} held out no images, so there is nothing to judge it on")
    path = run.path("dev.npz")
    try:
        arrays = read_arrays(path)
    except CheckpointError as error:
        raise DigitsError(f"{error}, and it holds what the run answered on its dev images: train it anew") from error
    rows, labels, p = (arrays.get(name) for name in ("rows", "labels", "probabilities"))
    if rows is None or labels is None or p is None or not _sound(rows, labels, p):
        raise DigitsError(f"{path} holds something else than a run's answers on its dev images: train it anew")
    return HeldOut(run, rows.astype(np.intp), labels.astype(np.intp), p)


def check_same_images(runs: list[HeldOut]) -> None:
    """Raise DigitsError, saying why, unless all were judged on the same images."""
    first = runs[0]
    for other in runs[1:]:
        check_same_tables([first.run, other.run], TRAIN.file)
        if not np.array_equal(first.rows, other.rows):
            common = len(np.intersect1d(first.rows, other.rows))
            raise DigitsError(
                f"{first.run.id} is judged on {len(first.rows):,} images, {split_text(first.run)}, and {other.run.id} "
                f"on {len(other.rows):,}, {split_text(other.run)}, with {common:,} in common: train both with the "
                "same split"
            )
        if not np.array_equal(first.labels, other.labels):
            raise DigitsError(f"the labels in the dev.npz of {first.run.id} and {other.run.id} differ: train one anew")


def check_same_tables(runs: list[Run], *files: str) -> None:
    """Raise DigitsError unless the runs were made with the same of these tables, by SHA-256."""
    first = runs[0]
    for other in runs[1:]:
        for file in files:
            mine, theirs = first.record["data"]["sha256"].get(file), other.record["data"]["sha256"].get(file)
            if mine is None or mine != theirs:
                raise DigitsError(
                    f"{first.id} and {other.id} were made with different data (the SHA-256 of {file} differs): "
                    "train both on the same"
                )


def _sound(rows: Array, labels: Array, p: Array) -> bool:
    """The arrays go together, as a run writes them."""
    count: Any = len(rows) if rows.ndim == 1 else -1
    return bool(
        count > 0
        and labels.shape == (count,)
        and p.shape == (count, 10)
        and np.issubdtype(rows.dtype, np.integer)
        and np.issubdtype(labels.dtype, np.integer)
        and np.issubdtype(p.dtype, np.floating)
        and (np.diff(rows) > 0).all()
        and ((labels >= 0) & (labels < 10)).all()
        and np.isfinite(p).all()
    )
