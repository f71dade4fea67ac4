"""The runs and what they scored, best first: the ledger as a table, with what Kaggle knows joined to it."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from digits.errors import DigitsError
from digits.files import make_folder, write_json
from digits.kaggle_client import Submission
from digits.runs import Run, dev_score
from digits.stats import Score
from digits.submit import Gap, gap, record, table

STRANGERS = "kaggle.json"  # under submissions/, those of Kaggle's list that belong to no run here


@dataclass(frozen=True)
class Row:
    """A run, or a submission that belongs to none (then `run` is its message).

    `public_score` is the best of the run's submissions, None where it has none that is scored.
    """

    run: str
    recipe: str | None
    seed: int | None
    date: str
    status: str
    dev: Score | None
    public_score: float | None

    @property
    def gap(self) -> Gap | None:
        """The public score less the dev score."""
        return gap(self.public_score, self.dev) if self.public_score is not None and self.dev else None

    def plain(self) -> dict[str, Any]:
        """The row as plain values."""
        return {
            "run": self.run,
            "recipe": self.recipe,
            "seed": self.seed,
            "date": self.date,
            "status": self.status,
            "dev_accuracy": self.dev.accuracy if self.dev else None,
            "dev_standard_error": self.dev.standard_error if self.dev else None,
            "public_score": self.public_score,
            "gap": self.gap.value if self.gap else None,
            "gap_standard_error": self.gap.standard_error if self.gap else None,
        }


def rows(ledger: Iterable[Run], submissions: Path) -> list[Row]:
    """The runs but those of sample data, and Kaggle's strangers as they were last synced, best first.

    Best is the highest public score; runs that have none follow by their dev accuracy.
    """
    found = [_row(run) for run in ledger if not run.sample]
    for entry in _strangers(submissions):
        found.append(
            Row(
                entry["message"] or f"submission {entry['ref']}",
                None,
                None,
                entry["date"],
                entry["status"],
                None,
                entry["public_score"],
            )
        )
    return sorted(found, key=_merit, reverse=True)


def sync(ledger: Iterable[Run], listed: Iterable[Submission], submissions: Path) -> int:
    """Write each submission of Kaggle's list into its run, or beside the runs if it has none; how many have none.

    A submission belongs to the run that knows its number, else to the one whose id its message has.
    """
    runs = list(ledger)
    strangers = []
    for submission in listed:
        owner = _owner(runs, submission)
        if owner:
            record(owner, submission)
        else:
            strangers.append(table(submission))
    make_folder(submissions)
    write_json(submissions / STRANGERS, strangers)
    return len(strangers)


def _row(run: Run) -> Row:
    scores = [entry["public_score"] for entry in run.record["submissions"] if entry.get("public_score") is not None]
    return Row(
        run=run.id,
        recipe=run.record["recipe"]["name"],
        seed=run.record["seed"],
        date=run.record["created"],
        status=run.status,
        dev=dev_score(run),
        public_score=max(scores, default=None),
    )


def _merit(row: Row) -> tuple[bool, float, float]:
    public = row.public_score if row.public_score is not None else -1.0
    return (row.public_score is not None, public, row.dev.accuracy if row.dev else -1.0)


def _owner(runs: list[Run], submission: Submission) -> Run | None:
    for run in runs:
        if any(entry.get("ref") == submission.ref for entry in run.record["submissions"]):
            return run
    # An id may be the beginning of another one's, which was begun in the same second.
    named = [run for run in runs if run.id in submission.description.split()]
    return named[0] if named else None


def _strangers(submissions: Path) -> list[dict[str, Any]]:
    path = submissions / STRANGERS
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return [{key: entry[key] for key in ("ref", "date", "message", "status", "public_score")} for entry in entries]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DigitsError(
            f"{path} is damaged ({error}): delete it, `digits leaderboard --sync` makes it anew"
        ) from error
