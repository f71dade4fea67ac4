"""The runs and what they scored, best first: the ledger as a table, with what Kaggle knows joined to it."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from digits.entry import Gap, gap, record, table
from digits.errors import DigitsError
from digits.files import make_folder, write_json
from digits.kaggle.answers import Submission
from digits.runs import ID, Broken, Run, dev_score
from digits.stats import Score

STRANGERS = "kaggle.json"  # under submissions/, those of Kaggle's list that belong to no run here


@dataclass(frozen=True)
class Row:
    """A run, or a submission that belongs to none (then `run` is its message), or a folder that holds no sound run.

    `judged` says on what images the dev score is: "dev", those of a "fold", or all of them, each out of fold ("oof").
    `public_score` is the best of the run's submissions, None where it has none that is scored. `seconds` is what its
    training took; `commit` that of its code, which was changed since if `dirty`. `problem` says what is wrong with it.
    """

    run: str
    recipe: str | None
    seed: int | None
    date: str
    status: str
    dev: Score | None
    public_score: float | None
    judged: str | None = None
    seconds: float | None = None
    commit: str | None = None
    dirty: bool | None = None
    notes: tuple[str, ...] = ()
    problem: str | None = None

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
            "dev_images": self.dev.images if self.dev else None,
            "judged": self.judged,
            "public_score": self.public_score,
            "gap": self.gap.value if self.gap else None,
            "gap_standard_error": self.gap.standard_error if self.gap else None,
            "seconds": self.seconds,
            "commit": self.commit,
            "dirty": self.dirty,
            "notes": list(self.notes),
            "problem": self.problem,
        }


def rows(ledger: Iterable[Run], submissions: Path, broken: Iterable[Broken] = (), sample: bool = False) -> list[Row]:
    """The runs but those of sample data (unless `sample`), and Kaggle's strangers as last synced, best first.

    Best is the highest public score; runs that have none follow by their dev accuracy, folders that hold no sound run
    come last.
    """
    found = [_row(run) for run in ledger if sample or not run.sample]
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
    return sorted(found, key=_merit, reverse=True) + [_broken_row(folder) for folder in broken]


def chosen(found: Iterable[Row], recipes: Sequence[str] = (), since: str = "", until: str = "") -> list[Row]:
    """The rows of any of these recipes, which may be patterns such as "deep*", and of the dates from since to until.

    Dates are as ISO has them, days or times; the day of `until` is included.
    """
    return [
        row
        for row in found
        if (not recipes or any(row.recipe is not None and fnmatchcase(row.recipe, pattern) for pattern in recipes))
        and row.date >= since
        and (not until or row.date[: len(until)] <= until)
    ]


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
    record = run.record
    scores = [entry["public_score"] for entry in record["submissions"] if entry.get("public_score") is not None]
    missing = run.missing()
    code, split = record.get("code") or {}, record["split"]
    judged = "dev" if split.get("folds") is None else "oof" if split.get("fold") is None else "fold"
    dev = dev_score(run)
    return Row(
        run=run.id,
        recipe=record["recipe"]["name"],
        seed=record["seed"],
        date=record["created"],
        status=run.status,
        dev=dev,
        public_score=max(scores, default=None),
        judged=judged if dev else None,
        seconds=(record.get("seconds") or {}).get("train"),
        commit=code.get("commit"),
        dirty=code.get("dirty"),
        notes=tuple(note["text"] for note in record.get("notes", [])),
        problem=f"no {', '.join(missing)}" if missing else None,
    )


def _broken_row(folder: Broken) -> Row:
    day = folder.id[:8] if ID.match(folder.id) else ""
    date = "-".join((day[:4], day[4:6], day[6:])) if day else ""
    return Row(folder.id, None, None, date, "broken", None, None, problem=folder.problem)


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
        return [
            {
                "ref": int(entry["ref"]),
                **{key: str(entry[key]) for key in ("date", "message", "status")},
                "public_score": None if entry["public_score"] is None else float(entry["public_score"]),
            }
            for entry in entries
        ]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise DigitsError(
            f"{path} is damaged ({error}): delete it, `digits leaderboard --sync` makes it anew"
        ) from error
