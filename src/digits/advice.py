"""What a submission is worth: how likely a run is to beat the best one so far on the public score.

The model. A run's dev score is the mean of its right answers on n held-out images, its public score that on the
28,000 test images. Both are about the same unknown accuracy p, so that the public score less the dev score has the mean
0 and the variance v (1/n + 1/28,000), v = p (1 - p). Of the best run so far the public score is known, and so this gap
is. The other run is right and wrong on much the same images, with a covariance c that shows in the share d of the test
images on which the two submissions disagree, d = v + v' - 2 c; and so its gap is like the known one: images that were
hard for one are hard for the other. Given that, its public score is normally distributed about its dev score plus the
known gap times cov / var. Where both were judged on the same dev images this is the paired comparison; on other ones,
they have the test images alone in common.

The luckiest of several seeds is no better than the others for that. So the dev scores of the seeds of one recipe are
drawn towards their mean, as far as they scatter no more than chance has it, which again their disagreement tells (the
positive-part estimate of James and Stein 1961). That the best of many recipes flatters itself is not taken off.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digits.comparison import judged_alike, same_recipe
from digits.entry import SCORED_IMAGES, SENDING
from digits.leaderboard import Row
from digits.runs import Run, dev_score
from digits.stats import Score, normal_below

SEEDS = 10  # of a recipe that are looked at beside a run
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

    `judge` is the run whose dev score that rests on: itself, or where it has none another one of its recipe. `chance`
    is the probability, 0 to 1, that it is higher than the best so far; None where nothing was submitted yet.
    """

    run: Run
    judge: Run
    expected: float
    standard_error: float
    chance: float | None

    def plain(self) -> dict[str, Any]:
        """The outlook as plain values."""
        return {
            "run": self.run.id,
            "judged_by": self.judge.id,
            "expected": self.expected,
            "standard_error": self.standard_error,
            "chance": self.chance,
        }


@dataclass(frozen=True)
class Advice:
    """What is to be said before a run is submitted: its outlook, None if no dev score tells it, and the best choice."""

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
        and other.path("submission.csv").exists()
    ]
    waiting = sorted(waiting, key=lambda other: -_dev_accuracy(_judge(other, ledger)))[:CANDIDATES]
    outlooks = [found for found in (outlook(other, best, ledger) for other in waiting) if found]
    choice = max(outlooks, key=lambda found: (found.chance or 0.0, found.expected), default=None)
    return Advice(best, outlook(run, best, ledger), choice)


def best_so_far(ledger: Sequence[Run], rows: Iterable[Row]) -> Best | None:
    """The highest public score of the runs and of what was submitted by hand."""
    scored = [row for row in rows if row.public_score is not None]
    if not scored:
        return None
    top = max(scored, key=lambda row: row.public_score or 0.0)
    return Best(top.public_score or 0.0, next((run for run in ledger if run.id == top.run), None))


def outlook(run: Run, best: Best | None, ledger: Sequence[Run] = ()) -> Outlook | None:
    """What public score to expect of a run, given the best so far; None where no dev score tells of it.

    `ledger`, newest first, has the other runs of its recipe, if there are any.
    """
    judge = _judge(run, ledger)
    dev = dev_score(judge) if judge else None
    if not judge or not dev:
        return None
    accuracy, variance = _accuracy(judge, ledger), _variance(dev)
    own = variance * (1 / dev.images + 1 / SCORED_IMAGES)
    known = dev_score(best.run) if best and best.run else None
    if not best or not best.run or not known:
        return Outlook(run, judge, accuracy, math.sqrt(own), _chance(accuracy, math.sqrt(own), best))
    its_accuracy, its_variance = _accuracy(best.run, ledger), _variance(known)
    disagreement = _disagreement(run, best.run)
    if disagreement is None:
        disagreement = variance + its_variance  # as if they had nothing in common
    covariance = (variance + its_variance - disagreement + (dev.accuracy - known.accuracy) ** 2) / 2
    covariance = min(max(covariance, 0.0), math.sqrt(variance * its_variance))
    common = _common_images(judge, best.run, dev, known)
    both = covariance * (common / (dev.images * known.images) + 1 / SCORED_IMAGES)
    share = both / (its_variance * (1 / known.images + 1 / SCORED_IMAGES))
    expected = accuracy + share * (best.score - its_accuracy)
    error = math.sqrt(max(own - share * both, 0.0))
    return Outlook(run, judge, expected, error, _chance(expected, error, best))


def _chance(expected: float, error: float, best: Best | None) -> float | None:
    """That a score is higher than the best one by an image or more."""
    if best is None:
        return None
    beyond = expected - best.score - 0.5 / SCORED_IMAGES
    return normal_below(beyond / error) if error else float(beyond > 0)


def _judge(run: Run, ledger: Sequence[Run]) -> Run | None:
    """The run, if it has a dev score, else the newest that has one of those of the same recipe and data."""
    if dev_score(run):
        return run
    tables = run.record["data"]["sha256"]
    alike = (other for other in ledger if other.record["data"]["sha256"] == tables and same_recipe(other, run))
    return next((other for other in alike if other.record["status"] == "finished" and dev_score(other)), None)


def _dev_accuracy(run: Run | None) -> float:
    score = dev_score(run) if run else None
    return score.accuracy if score else 0.0


def _accuracy(run: Run, ledger: Sequence[Run]) -> float:
    """The dev accuracy, drawn towards that of the recipe's other seeds as far as the two differ by chance alone."""
    score = dev_score(run)
    if not score:
        return 0.0
    seeds = [other for other in ledger if other.id != run.id and _is_a_seed_of(other, run)][:SEEDS]
    apart = [share for share in (_disagreement(run, other) for other in seeds) if share is not None]
    if len(apart) < 2:
        return score.accuracy
    accuracies = [score.accuracy, *(other.accuracy for other in map(dev_score, seeds) if other)]
    middle = sum(accuracies) / len(accuracies)
    scatter = sum((accuracy - middle) ** 2 for accuracy in accuracies) / (len(accuracies) - 1)
    by_chance = sum(apart) / len(apart) / 2 / score.images
    kept = max(0.0, 1 - by_chance / scatter) if scatter else 0.0
    return middle + kept * (score.accuracy - middle)


def _is_a_seed_of(other: Run, run: Run) -> bool:
    judged = other.record["status"] == "finished" and dev_score(other)
    return bool(judged and judged_alike(other, run) and same_recipe(other, run))


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
    mine, theirs = (_digits(one.path("submission.csv"), str(one.record.get("submission"))) for one in (run, other))
    if mine is None or theirs is None or mine.shape != theirs.shape or not len(mine):
        return None
    return float((mine != theirs).mean())


@lru_cache(maxsize=64)
def _digits(path: Path, _: str) -> NDArray[np.uint8] | None:
    """The digits in a submission.csv, the last characters of its lines; kept as long as its record is the same."""
    try:
        lines = path.read_bytes().split()[1:]
    except OSError:
        return None
    return np.frombuffer(b"".join(line[-1:] for line in lines), np.uint8)
