"""What Kaggle answers, from its words to ours."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from digits.kaggle import KERNELS
from digits.kaggle.clock import now, utc

Status = Literal["PENDING", "COMPLETE", "ERROR"]


@dataclass(frozen=True)
class Competition:
    """What Kaggle says of the competition, and of the user in it."""

    max_daily_submissions: int
    user_has_entered: bool
    user_rank: int | None
    team_count: int
    deadline: datetime | None
    submissions_disabled: bool


@dataclass(frozen=True)
class Submission:
    """A submission of the user's team. `public_score` is the accuracy, None until Kaggle has it."""

    ref: int
    date: datetime
    description: str
    file_name: str
    status: Status
    public_score: float | None
    error_description: str
    submitted_by: str

    @property
    def done(self) -> bool:
        """Whether Kaggle has scored it, or given it up."""
        return self.status != "PENDING"


@dataclass(frozen=True)
class Allowance:
    """How many submissions the team has left today, a day that at Kaggle ends at 00:00 UTC."""

    limit: int
    used: int
    left: int
    resets_at: datetime


@dataclass(frozen=True)
class LeaderboardRow:
    """A team's place on the public leaderboard."""

    rank: int
    team_name: str
    score: float | None
    date: datetime


@dataclass(frozen=True)
class Session:
    """How the newest version of a kernel is doing, in Kaggle's words, and why it failed if it did.

    `status` is QUEUED, RUNNING, COMPLETE, ERROR, CANCEL_REQUESTED, CANCEL_ACKNOWLEDGED, or NEW_SCRIPT.
    """

    status: str
    failure: str = ""

    @property
    def done(self) -> bool:
        """It has come to its end, a good one or not."""
        return self.status in ("COMPLETE", "ERROR", "CANCEL_ACKNOWLEDGED")

    @property
    def complete(self) -> bool:
        """It has come to a good end."""
        return self.status == "COMPLETE"

    def __str__(self) -> str:
        words = self.status.lower().replace("_", " ")
        return {"cancel acknowledged": "cancelled", "new script": "not run yet"}.get(words, words)


@dataclass(frozen=True)
class Pushed:
    """A version of a kernel at Kaggle: "owner/slug", its number, and the address of its page."""

    ref: str
    version: int
    url: str


@dataclass(frozen=True)
class Outputs:
    """What a kernel has left: its files, as addresses by their names, and what it printed."""

    files: dict[str, str]
    log: str


def score_of(text: str | None) -> float | None:
    """Kaggle's scores are texts, empty until they are known."""
    try:
        score = float(text or "")
    except ValueError:
        return None
    return score if math.isfinite(score) else None


def submission_of(row: Any) -> Submission:
    """A submission as Kaggle lists it."""
    return Submission(
        ref=row.ref,
        date=utc(row.date),
        description=row.description or "",
        file_name=row.file_name or "",
        status=row.status.name,
        public_score=score_of(row.public_score),
        error_description=" ".join((row.error_description or "").split()),
        submitted_by=row.submitted_by or "",
    )


def pending(ref: int, message: str = "", name: str = "") -> Submission:
    """A submission of which no more is known than that it was made."""
    return Submission(ref, now(), message, name, "PENDING", None, "", "")


def newest_named(message: str, newest_first: Iterable[Submission]) -> Submission | None:
    """The newest with this message, though Kaggle may have changed its white space."""
    words = message.split()
    return next((one for one in newest_first if one.description.split() == words), None)


def pushed(ref: str, version: int, url: str = "") -> Pushed:
    """A version of a kernel "owner/slug", whose page is known where Kaggle does not say."""
    return Pushed(ref, version, url or f"{KERNELS}/{ref}")


def log_text(log: str) -> str:
    """What a kernel printed; Kaggle has it as a list of pieces, each with its stream and time."""
    try:
        return "".join(str(piece["data"]) for piece in json.loads(log))
    except (ValueError, TypeError, KeyError):
        return log
