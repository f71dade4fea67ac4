"""What a submission is worth: how likely a run is to beat the best one so far on the public score.

The model. A run's dev score is the mean of its right answers on n held-out images, its public score that on the 28,000
test images; both are about the same unknown accuracy, so that the public score less the dev score, G, has the mean 0 and
the variance v (1/n + 1/28,000), v = p (1 - p). Of the best run so far the public score is known, and so its G is. The
other run's answers are right and wrong on much the same images, with a covariance c that shows in how many test images
the two submissions disagree on, d = v + v' - 2 c; and so its G is like the known one: the images that were hard for one
are hard for the other. Given that, the other's public score is normally distributed about its dev score plus b G with
b = cov / var. Where both are judged on the same dev images this is the paired comparison; where on other ones, they have
but the test images in common. That the best of many dev scores flatters is not taken off.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digits.leaderboard import Row
from digits.runs import Run, dev_score
from digits.stats import Score, normal_below
from digits.submit import SCORED_IMAGES, SENDING

CANDIDATES = 20  # the unsubmitted runs with the best dev scores, of which the best use of a submission is chosen


@dataclass(frozen=True)
class Best:
    """The best public score so far, and the run that has it; None where it was submitted by hand."""

    score: float
    run: Run | None

    @property
    def name(self) -> str:
        """The run's id, or what else it is."""
        return self.run.id if self.run else "a submission by hand"


@dataclass(frozen=True)
class Outlook:
    """The public score that is to be expected of a run, with its standard error.

    `chance` is the probability, 0 to 1, that it is higher than the best so far; None where nothing was submitted yet.
    """

    run: Run
    expected: float
    standard_error: float
    chance: float | None

    def plain(self) -> dict[str, Any]:
        """The outlook as plain values."""
        return {
            "run": self.run.id,
            "expected": self.expected,
            "standard_error": self.standard_error,
            "chance": self.chance,
        }


@dataclass(frozen=True)
class Advice:
    """What is to be said before a run is submitted: its outlook, None if it has no dev score, and the best choice."""

    best: Best | None
    outlook: Outlook | None
    choice: Outlook | None

    def plain(self) -> dict[str, Any]:
        """The advice as plain values."""
        return {
            "best_so_far": {"score": self.best.score, "run": self.best.run and self.best.run.id} if self.best else None,
            "outlook": self.outlook.plain() if self.outlook else None,
            "best_use": self.choice.plain() if self.choice else None,
        }


def advise(run: Run, ledger: Sequence[Run], rows: Iterable[Row]) -> Advice:
    """What to say before this run is submitted; `rows` are those of the leaderboard, Kaggle's strangers included.

    The best use of a submission is the unsubmitted run, of the same data, that most likely beats the best so far; where
    nothing was submitted yet, the one with the highest expected score.
    """
    best = best_so_far(ledger, rows)
    entries = (entry for other in ledger for entry in other.record["submissions"])
    sent = {entry["sha256"] for entry in entries if entry["status"] not in (SENDING, "ERROR")}
    waiting = [
        other
        for other in ledger
        if other.record["status"] == "finished"
        and not other.sample
        and other.record["data"]["sha256"] == run.record["data"]["sha256"]
        and (other.record.get("submission") or {}).get("sha256") not in (None, *sent)
        and dev_score(other)
        and other.path("submission.csv").exists()
    ]
    waiting = sorted(waiting, key=lambda other: -_accuracy(other))[:CANDIDATES]
    outlooks = [found for found in (outlook(other, best) for other in waiting) if found]
    choice = max(outlooks, key=lambda found: (found.chance or 0.0, found.expected), default=None)
    return Advice(best, outlook(run, best), choice)


def best_so_far(ledger: Sequence[Run], rows: Iterable[Row]) -> Best | None:
    """The highest public score of the runs and of what was submitted by hand."""
    scored = [row for row in rows if row.public_score is not None]
    if not scored:
        return None
    top = max(scored, key=lambda row: row.public_score or 0.0)
    return Best(top.public_score or 0.0, next((run for run in ledger if run.id == top.run), None))


def outlook(run: Run, best: Best | None) -> Outlook | None:
    """What public score to expect of a run, given the best so far; None where it has no dev score."""
    dev = dev_score(run)
    if not dev:
        return None
    variance, images = _variance(dev), dev.images
    other = dev_score(best.run) if best and best.run else None
    if not best or not best.run or not other:
        expected, error = dev.accuracy, math.sqrt(variance * (1 / images + 1 / SCORED_IMAGES))
        return Outlook(run, expected, error, _chance(expected, error, best))
    disagreement = _disagreement(run, best.run)
    if disagreement is None:
        disagreement = variance + _variance(other)  # as if they had nothing in common
    covariance = (variance + _variance(other) - disagreement + (dev.accuracy - other.accuracy) ** 2) / 2
    covariance = min(max(covariance, 0.0), math.sqrt(variance * _variance(other)))
    common = _common_images(run, best.run, dev, other)
    with_known = covariance * (common / (images * other.images) + 1 / SCORED_IMAGES)
    of_known = _variance(other) * (1 / other.images + 1 / SCORED_IMAGES)
    share = with_known / of_known
    expected = dev.accuracy + share * (best.score - other.accuracy)
    left = variance * (1 / images + 1 / SCORED_IMAGES) - share * with_known
    error = math.sqrt(max(left, 0.0))
    return Outlook(run, expected, error, _chance(expected, error, best))


def _chance(expected: float, error: float, best: Best | None) -> float | None:
    """That a score is higher than the best one by an image or more."""
    if best is None:
        return None
    beyond = expected - best.score - 0.5 / SCORED_IMAGES
    return normal_below(beyond / error) if error else float(beyond > 0)


def _accuracy(run: Run) -> float:
    score = dev_score(run)
    return score.accuracy if score else 0.0


def _variance(score: Score) -> float:
    """Of being right on one image; half an image is added each way, so that no run is taken for infallible."""
    p = (score.correct + 0.5) / (score.images + 1)
    return p * (1 - p)


def _common_images(run: Run, other: Run, score: Score, its_score: Score) -> int:
    """How many dev images both were judged on, as their splits have it."""
    splits = run.record["split"], other.record["split"]
    if run.record["data"]["sha256"] != other.record["data"]["sha256"]:
        return 0
    in_turn = any(split.get("folds") and split.get("fold") is None for split in splits)
    return min(score.images, its_score.images) if splits[0] == splits[1] or in_turn else 0


def _disagreement(run: Run, other: Run) -> float | None:
    """The share of the test images for which two submissions have different digits; None if that can't be told."""
    mine, theirs = _digits(run), _digits(other)
    if mine is None or theirs is None or mine.shape != theirs.shape or not len(mine):
        return None
    return float((mine != theirs).mean())


def _digits(run: Run) -> NDArray[np.uint8] | None:
    """The last characters of the lines of a run's submission.csv, its digits."""
    try:
        lines = run.path("submission.csv").read_bytes().split()[1:]
    except OSError:
        return None
    return np.frombuffer(b"".join(line[-1:] for line in lines), np.uint8)
