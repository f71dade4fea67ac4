"""A submission's entry in its run: what Kaggle says of it, and how far its score is from the dev score."""

import math
from dataclasses import dataclass
from typing import Any

from digits.competition import TEST
from digits.kaggle.answers import Submission
from digits.runs import Run
from digits.stats import Score

# The public score is of all test images: recent ones, such as 0.99689, are whole numbers of 28,000 images, of no less.
SCORED_IMAGES = TEST.rows
SENDING = "SENDING"  # an attempt whose answer is not known


@dataclass(frozen=True)
class Gap:
    """The public score less the dev score, both fractions, with the standard error of the difference."""

    value: float
    standard_error: float

    def __str__(self) -> str:
        return f"{100 * self.value:+.2f} ± {100 * self.standard_error:.2f} points"


def gap(public_score: float, dev: Score) -> Gap:
    """How far the public score is from the dev score; both are means of independent images."""
    public = Score(round(public_score * SCORED_IMAGES), SCORED_IMAGES)
    return Gap(public_score - dev.accuracy, math.hypot(public.standard_error, dev.standard_error))


def record(run: Run, submission: Submission, **more: Any) -> None:
    """Put what Kaggle says of a submission into the run, over what was known of it; on disk only if it is news.

    Raises DigitsError if the run's record can't be read or written.
    """
    with run.changing():
        entries = run.record["submissions"]
        known = next((entry for entry in entries if entry.get("ref") == submission.ref), None) or next(
            (entry for entry in entries if entry["status"] == SENDING and entry["message"] == submission.description),
            None,
        )
        sha256 = (run.record.get("submission") or {}).get("sha256")
        entry = {"sha256": sha256, **(known or {}), **table(submission), **more}
        if entry != known:
            run.update(submissions=[*(other for other in entries if other is not known), entry])


def table(submission: Submission) -> dict[str, Any]:
    """A submission as run.json has it."""
    return {
        "ref": submission.ref,
        "date": submission.date.isoformat(timespec="seconds"),
        "message": submission.description,
        "status": submission.status,
        "public_score": submission.public_score,
        "error": submission.error_description or None,
    }
