"""The ledger: one folder a run under submissions/, and run.json in each says all that its numbers depend on."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from digits.errors import DigitsError
from digits.files import make_folder, mendable, write_json, write_whole
from digits.split import Split
from digits.stats import Score

FORMAT = 1  # of run.json; a newer one is not understood
RIGHT: dict[str, Any] = {  # what a record holds, as far as others ask it
    "status": ("training", "finished", "failed"),
    "created": str,
    "recipe": {"name": str},
    "seed": int,
    "split": dict,
    "data": {"kind": ("official", "sample", "own"), "sha256": dict},
    "code": {"sha256": str},
    "scores": (None, {"dev": (None, {"correct": int, "images": int})}),
    "submission": (None, {"sha256": str}),
    "submissions": list,
}
NEWEST = "submission.csv"  # under submissions/, a copy of the newest run's


@dataclass
class Run:
    """A run's folder and its record, the content of run.json.

    The record's keys: format, id, status ("training", "finished" or "failed"), created, finished, recipe (resolved),
    seed, split, data, code, machine, workers, parameters, scores, seconds, submission (its SHA-256 and rows), and
    submissions (those made of it on Kaggle).
    """

    folder: Path
    record: dict[str, Any]

    @property
    def id(self) -> str:
        """The name of the folder: when and what, `20261123-181500-cnn-s0`."""
        return self.folder.name

    @property
    def status(self) -> str:
        """ "training", "finished" or "failed"; or "interrupted", if it should be training and nobody is at it."""
        status = str(self.record["status"])
        return "interrupted" if status == "training" and not self._locked() else status

    @property
    def sample(self) -> bool:
        """It is of sample data, which no upload accepts."""
        return bool(self.record["data"]["kind"] == "sample")

    def path(self, name: str) -> Path:
        """A file of the run."""
        return self.folder / name

    def update(self, **changes: Any) -> None:
        """Change keys of the record, on disk first. Raises DigitsError if it can't be written."""
        record = {**self.record, **changes}
        write_json(self.path("run.json"), record)
        self.record = record

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only process that works on this run. Raises DigitsError where another one is."""
        with mendable(self.path(".lock")):
            descriptor = os.open(self.path(".lock"), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DigitsError(f"another process is at work on the run {self.id}: wait for it, or stop it") from None
            yield
        finally:
            os.close(descriptor)

    def _locked(self) -> bool:
        try:
            with self.lock():
                return False
        except DigitsError:
            return True

    def log(self) -> list[dict[str, Any]]:
        """The lines of log.jsonl, up to one that was cut short by a kill or is damaged."""
        try:
            lines = self.path("log.jsonl").read_bytes().splitlines()
        except FileNotFoundError:
            return []
        entries = []
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                break
            if not isinstance(entry, dict) or not isinstance(entry.get("step"), int):
                break
            entries.append(entry)
        return entries

    def append_log(self, entry: dict[str, Any]) -> None:
        """Add a line to log.jsonl. Raises DigitsError if it can't be written."""
        with mendable(self.path("log.jsonl")), self.path("log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def rewind_log(self, step: int) -> None:
        """Forget the lines after a step, those of a training that went on past its checkpoint."""
        kept = [json.dumps(entry) + "\n" for entry in self.log() if entry["step"] <= step]
        write_whole(self.path("log.jsonl"), lambda temporary: temporary.write_text("".join(kept), encoding="utf-8"))


def create(submissions: Path, label: str, record: dict[str, Any]) -> Run:
    """A new run's folder, named after the time (UTC) and a label such as "cnn-s0", with its run.json.

    Two that start in the same second get two folders. Raises DigitsError if it can't be written.
    """
    make_folder(submissions)
    name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{label}"
    number = 1
    while True:
        folder = submissions / (name if number == 1 else f"{name}-{number}")
        with mendable(folder):
            try:
                folder.mkdir()
                break
            except FileExistsError:
                number += 1
    try:
        return _written(folder, record)
    except DigitsError:
        folder.rmdir()
        raise


def member(run: Run, number: int, record: dict[str, Any]) -> Run:
    """Member `number`, from 0, of an ensemble's run, which is a run in a folder of its own, with its run.json.

    Where it is there already it is the one that is there, if its record has these values. Raises DigitsError if it has
    others, or can't be read or written.
    """
    folder = run.path("members") / str(number)
    if not (folder / "run.json").exists():
        make_folder(folder)
        return _written(folder, record)
    found = read(folder)
    for key in ("recipe", "seed", "split"):
        if found.record[key] != record[key]:
            raise DigitsError(f"{folder} is of another {key} than the ensemble {run.id}: remove that folder")
    return found


def members(run: Run) -> list[Run]:
    """The members of an ensemble's run that have been begun; none of a run of one network."""
    folders = [path.parent for path in run.path("members").glob("*/run.json") if path.parent.name.isdigit()]
    return [read(folder) for folder in sorted(folders, key=lambda folder: int(folder.name))]


def _written(folder: Path, record: dict[str, Any]) -> Run:
    """A new run in an empty folder."""
    run = Run(folder, {})
    run.update(
        format=FORMAT,
        id=folder.name,
        status="training",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        finished=None,
        **record,
        submissions=[],
    )
    return run


def read(folder: Path) -> Run:
    """The run in a folder. Raises DigitsError, saying what is wrong, where it holds none that can be read."""
    path = folder / "run.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DigitsError(f"{folder} holds no run: there is no run.json in it") from None
    except (OSError, ValueError) as error:
        raise DigitsError(f"{path} can't be read ({error}): mend it, or remove the run") from error
    needed = ("format", "status", "created", "recipe", "seed", "split", "data")
    missing = [key for key in needed if not isinstance(record, dict) or key not in record]
    if missing:
        raise DigitsError(f"{path} lacks {', '.join(missing)}: mend it, or remove the run")
    if record["format"] != FORMAT or isinstance(record["format"], bool):
        raise DigitsError(f"{path} is of format {record['format']}, this version reads {FORMAT}: update digits")
    wrong = [key for key, right in RIGHT.items() if key in record and not _fits(record[key], right)]
    if not wrong and record["seed"] < 0:
        wrong = ["seed"]
    if wrong:
        raise DigitsError(f"{path} has something else than a run's {', '.join(wrong)}: mend it, or remove the run")
    return Run(folder, record)


def _fits(value: Any, right: Any) -> bool:
    """The value is of the type, one of the values, or a table with such values under the keys that are given."""
    if isinstance(right, dict):
        return isinstance(value, dict) and all(key in value and _fits(value[key], right[key]) for key in right)
    if isinstance(right, tuple):
        return any(_fits(value, one) for one in right)
    if isinstance(right, type):
        return isinstance(value, right) and not (right is int and isinstance(value, bool))
    return bool(value == right)


def every(submissions: Path) -> list[Run]:
    """The runs that can be read, newest first."""
    found = []
    for path in submissions.glob("*/run.json"):
        try:
            found.append(read(path.parent))
        except DigitsError:
            continue
    return sorted(found, key=lambda run: (str(run.record["created"]), run.id), reverse=True)


def find(submissions: Path, which: str | None = None) -> Run:
    """The run with that id, the beginning of one, or that folder; the newest where `which` is None.

    Raises DigitsError where there is none, or more than one.
    """
    if which is not None and (submissions / which / "run.json").exists():
        return read(submissions / which)
    if which is not None and os.sep in which:
        return read(Path(which))
    known = every(submissions)
    matches = [run for run in known if which is None or run.id.startswith(which)]
    if which is None and matches:
        return matches[0]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise DigitsError(f"{which} could be {', '.join(run.id for run in matches[:5])}: give more of the id")
    if not known:
        raise DigitsError(f"there are no runs in {submissions}: make one with `digits train`")
    raise DigitsError(f"there is no run {which} in {submissions}; the newest is {known[0].id}")


def publish(run: Run, submissions: Path) -> Path | None:
    """Copy the run's submission to submissions/submission.csv; not that of sample data, lest somebody upload it."""
    if run.sample:
        return None
    content = run.path("submission.csv").read_bytes()
    newest = submissions / NEWEST
    write_whole(newest, lambda temporary: temporary.write_bytes(content))
    return newest


def dev_score(run: Run) -> Score | None:
    """The run's dev score, None where it has none (yet)."""
    table = (run.record.get("scores") or {}).get("dev")
    return Score(table["correct"], table["images"]) if table else None


def split_text(run: Run) -> str:
    """In words, which images the run held out."""
    try:
        return str(Split(**run.record["split"]))
    except (TypeError, DigitsError):
        return "those that all its members held out" if "blend" in run.record["recipe"] else "a split that is none"
