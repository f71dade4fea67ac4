"""Successive halving: which configurations are clearly losing, and when that is asked.

Jamieson & Talwalkar 2016 (arXiv 1502.07943) keep the better part at each rung and stop the rest. Here the rest must
also be behind by more than the error bars say: what could be noise goes on.
"""

import math
import statistics
from dataclasses import dataclass

from digits.recipe import Train

RUNGS = (0.25, 0.5)  # fractions of the epochs
CLEARLY = 2.0  # standard errors of the difference


@dataclass(frozen=True)
class Standing:
    """The dev accuracies of a configuration's seeds, judged on the same so many images."""

    accuracies: tuple[float, ...]
    images: int

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return statistics.fmean(self.accuracies)

    @property
    def deviation(self) -> float | None:
        """The standard deviation over the seeds, None of a single one."""
        return statistics.stdev(self.accuracies) if len(self.accuracies) > 1 else None

    @property
    def standard_error(self) -> float:
        """Of the mean, from the images, p (1 - p) / n, which all seeds share, and from the seeds, s² / seeds."""
        from_images = self.mean * (1 - self.mean) / self.images
        return math.sqrt(from_images + (self.deviation or 0.0) ** 2 / len(self.accuracies))

    def __str__(self) -> str:
        return f"{self.mean:.2%} ± {100 * self.standard_error:.2f}"


@dataclass(frozen=True)
class Loser:
    """Configuration `number` is behind the best by this difference of accuracies, with its standard error."""

    number: int
    difference: float
    standard_error: float


def losing(standings: dict[int, Standing]) -> list[Loser]:
    """Those not in the better half that are behind the best by more than two standard errors of the difference.

    The error takes them for judged on images of their own. They share theirs, which makes a difference surer than that:
    so it errs towards letting them go on.
    """
    ranked = sorted(standings, key=lambda number: standings[number].mean, reverse=True)
    found = []
    for number in ranked[math.ceil(len(ranked) / 2) :]:
        best, other = standings[ranked[0]], standings[number]
        loser = Loser(number, best.mean - other.mean, math.hypot(best.standard_error, other.standard_error))
        if loser.difference > CLEARLY * loser.standard_error:
            found.append(loser)
    return found


def rung(train: Train, fraction: float) -> int:
    """The epoch at which that fraction is trained, at the end of which a line is logged."""
    every = train.report_every
    return min(math.ceil(round(fraction * train.epochs, 9) / every) * every, train.epochs)
