"""A trial: one seed of a configuration, and what is heard of it, all of which is read from its run's folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from digits import runs
from digits.errors import DigitsError
from digits.runs import Run


@dataclass(frozen=True)
class Trial:
    """One seed of configuration `number`, and its run's folder."""

    number: int
    seed: int
    folder: Path

    def run(self) -> Run | None:
        """Its run, if it has begun."""
        try:
            return runs.read(self.folder)
        except DigitsError:  # what is wrong with it, a worker will say
            return None


@dataclass(frozen=True)
class News:
    """What is heard of a trial: the epoch that it has trained, of `epochs`, its dev accuracy, and the seconds so far.

    The accuracy is 0 to 1; `last` says that there will be no other before the next rung.
    """

    trial: Trial
    epoch: int
    epochs: int
    accuracy: float
    seconds: float
    last: bool


@dataclass(frozen=True)
class Failure:
    """A trial has diverged, and why."""

    trial: Trial
    reason: str


def epochs(run: Run) -> list[dict[str, Any]]:
    """The lines of a run's log, each of an epoch."""
    needed = {"epoch": int, "dev_accuracy": float, "seconds": float}
    return [line for line in run.log() if all(isinstance(line.get(key), kind) for key, kind in needed.items())]


def accuracy(run: Run, epoch: int, last: int) -> float | None:
    """A run's on the dev images, 0 to 1, after an epoch of which `last` is the last; None where it is not known."""
    score = runs.dev_score(run)
    if score and epoch == last:
        return score.accuracy
    at = (float(line["dev_accuracy"]) for line in epochs(run) if line["epoch"] == epoch)
    return next(at, score.accuracy if score else None)
