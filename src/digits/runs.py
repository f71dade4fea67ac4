"""The ledger: one folder a run under submissions/, and run.json in each says all that its numbers depend on."""

import fcntl
import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from digits.errors import DigitsError
from digits.files import TakenError, alone, make_folder, mendable, write_json, write_whole
from digits.split import Split
from digits.stats import Score

FORMAT = 1  # of run.json; a newer one is not understood
AVERAGES = ("probabilities", "logits", "votes")
RIGHT: dict[str, Any] = {  # what a record holds, as far as others ask it; a key below with a ? may be missing
    "status": ("training", "finished", "failed"),
    "created": str,
    "recipe": {"name": str, "description?": str, "blend?": {"members": [str], "average": AVERAGES}},
    "seed": int,
    "split": dict,
    "data": {
        "kind": ("official", "sample", "own"),
        "sha256": dict,
        **{f"{part}_images?": int for part in ("train", "dev", "test")},
    },
    "code": {"sha256": str, "commit?": (None, str), "dirty?": (None, True, False)},
    "scores": (None, {"dev": (None, {"correct": int, "images": int})}),
    "submission": (None, {"sha256": str}),
    "submissions": [
        {
            **dict.fromkeys(("status", "message", "date"), str),
            "sha256": (None, str),
            "public_score?": (None, float),
            **dict.fromkeys(("ref?", "rank?", "teams?"), (None, int)),
        }
    ],
    "seconds": (None, {"train": float}),
    "notes": [{"date": str, "text": str}],
    "members": [{"run?": str, "weight?": float, "power?": float}],
    "machine": {"versions?": dict},
    "parameters": int,
}
NEWEST = "submission.csv"  # under submissions/, a copy of the newest run's
MEMBERS = "members"  # the folder in an ensemble's for its members
ID = re.compile(r"\d{8}-\d{6}-.")  # how the name of a run's folder begins
FILES = ("weights.npz", "log.jsonl", "checkpoint.npz", "dev.npz", "test.npz")  # that only a run's folder holds


@dataclass
class Run:
    """A run's folder and its record, the content of run.json.

    The record's keys: format, id, status ("training", "finished" or "failed"), created, finished, recipe (resolved),
    seed, split, data, code, machine, workers, parameters, scores, seconds, submission (its SHA-256 and rows),
    submissions (those made of it on Kaggle), notes (with their dates), for an ensemble members (seed, split, scores
    and times of each), for a blend members (the runs, with their weights), for one of a sweep sweep (its id, and what
    it sets), for one that time cut short cut_short (what was done, of what), and for one from Kaggle kernel (its
    address and version).
    """

    folder: Path
    record: dict[str, Any]
    _held: bool = field(default=False, init=False, repr=False, compare=False)

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
        """Change keys of the record, on disk first. Raises DigitsError if it can't be written.

        What another process has changed meanwhile is kept, but for these keys.
        """
        with self.changing():
            record = {**self.record, **changes}
            write_json(self.path("run.json"), record)
            self.record = record

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the record still: within, it is what is on disk, and no other process changes it.

        For a change that depends on what is there, such as one more note; it waits where another process is at that.
        Raises DigitsError if the record on disk can't be read.
        """
        if self._held:
            yield
            return
        with mendable(self.path("run.json")):
            descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if self.path("run.json").exists():
                self.record = read(self.folder).record
            self._held = True
            yield
        finally:
            self._held = False
            os.close(descriptor)

    def note(self, text: str) -> None:
        """Add a note, with the date, to the record. Raises DigitsError if it can't be written."""
        with self.changing():
            one = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "text": text}
            self.update(notes=[*self.record.get("notes", []), one])

    def missing(self) -> list[str]:
        """Those of its files that a finished run lacks and that more than a look at it needs."""
        if self.record["status"] != "finished":
            return []
        files = ["submission.csv", *(["dev.npz"] if dev_score(self) else []), "test.npz"]
        there = _names(self.folder)
        return [name for name in files if name not in there]

    def lock(self) -> AbstractContextManager[None]:
        """Be the only process that works on this run. Raises DigitsError where another one is."""
        return alone(self.path(".lock"), f"another process is at work on the run {self.id}: wait for it, or stop it")

    def _locked(self) -> bool:
        try:
            with self.lock():
                return False
        except TakenError:
            return True
        except DigitsError:  # the folder can't be written, so nobody is at work in it
            return False

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


def create_in(folder: Path, record: dict[str, Any]) -> Run:
    """A new run in a folder that has none yet, and a name of its own. Raises DigitsError if it can't be written."""
    make_folder(folder)
    return _written(folder, record)


def member(run: Run, number: int, record: dict[str, Any]) -> Run:
    """Member `number`, from 0, of an ensemble's run, which is a run in a folder of its own, with its run.json.

    Where it is there already it is the one that is there, if its record has these values. Raises DigitsError if it has
    others, or can't be read or written.
    """
    folder = run.path(MEMBERS) / str(number)
    if not (folder / "run.json").exists():
        return create_in(folder, record)
    found = read(folder)
    for key in ("recipe", "seed", "split"):
        if found.record[key] != record[key]:
            raise DigitsError(f"{folder} is of another {key} than the ensemble {run.id}: remove that folder")
    return found


def ledger(run: Run) -> Path:
    """The folder of the runs that a run is one of, or its ensemble is."""
    parent = run.folder.parent
    return parent.parent.parent if parent.name == MEMBERS else parent


def members(run: Run) -> list[Run]:
    """The members of an ensemble's run that have been begun; none of a run of one network."""
    folders = [path.parent for path in run.path(MEMBERS).glob("*/run.json") if path.parent.name.isdigit()]
    return [read(folder) for folder in sorted(folders, key=lambda folder: int(folder.name))]


def blended(run: Run) -> list[tuple[Run, float, float]]:
    """The runs that a blend is of, with their weights and the powers that their probabilities are raised to.

    Raises DigitsError where one of them is not there any more.
    """
    try:
        of = [(str(one["run"]), float(one["weight"]), float(one["power"])) for one in run.record["members"]]
    except (KeyError, TypeError, ValueError) as error:
        raise DigitsError(
            f"{run.path('run.json')} does not say what was blended: mend it, or remove the run"
        ) from error
    return [(read(run.folder.parent / one), weight, power) for one, weight, power in of]


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
    except (FileNotFoundError, NotADirectoryError):
        raise DigitsError(f"{folder} holds no run: there is no run.json in it") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DigitsError(f"{path} can't be read ({error}): mend it, or remove the run") from error
    needed = ("format", "status", "created", "recipe", "seed", "split", "data")
    missing = [key for key in needed if not isinstance(record, dict) or key not in record]
    if missing:
        raise DigitsError(f"{path} lacks {', '.join(missing)}: mend it, or remove the run")
    if record["format"] != FORMAT or isinstance(record["format"], bool):
        raise DigitsError(f"{path} is of format {record['format']}, this version reads {FORMAT}: update digits")
    wrong = [key for key, fits in FITS.items() if key in record and not fits(record[key])]
    wrong = wrong or _out_of_range(record)
    if wrong:
        raise DigitsError(f"{path} has something else than a run's {', '.join(wrong)}: mend it, or remove the run")
    return Run(folder, record)


def _fits(right: Any) -> Callable[[Any], bool]:
    """What tells if a value is of the type, one of the values, a list of such, or a table with such under the keys.

    It is made once and asked of each run, of which there may be a thousand.
    """
    if right is float:
        return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
    if right is int:
        return lambda value: isinstance(value, int) and not isinstance(value, bool)
    if isinstance(right, type):
        return lambda value: isinstance(value, right)
    if isinstance(right, list):
        item = _fits(right[0])
        return lambda value: isinstance(value, list) and all(map(item, value))
    if isinstance(right, tuple):
        some = [_fits(one) for one in right]
        return lambda value: any(one(value) for one in some)
    if isinstance(right, dict):
        needed = {key for key in right if not key.endswith("?")}
        fits = [(key.removesuffix("?"), _fits(one)) for key, one in right.items()]
        return lambda value: (
            isinstance(value, dict)
            and needed <= value.keys()
            and all(one(value[key]) for key, one in fits if key in value)
        )
    return lambda value: bool(value == right)


FITS = {key: _fits(right) for key, right in RIGHT.items()}


def _out_of_range(record: dict[str, Any]) -> list[str]:
    """The keys whose values are of the right type and yet can't be."""
    dev = (record.get("scores") or {}).get("dev")
    scores = [entry.get("public_score") for entry in record.get("submissions", [])]
    found = {
        "seed": record["seed"] >= 0,
        "scores": not dev or (0 <= dev["correct"] <= dev["images"] and 0 < dev["images"] < 1e9),
        "submissions": all(score is None or 0 <= score <= 1 for score in scores),
    }
    return [key for key, right in found.items() if not right]


@dataclass(frozen=True)
class Broken:
    """A folder that should hold a run, and what is wrong with it, in a sentence."""

    folder: Path
    problem: str

    @property
    def id(self) -> str:
        """The name of the folder."""
        return self.folder.name


def listed(submissions: Path) -> tuple[list[Run], list[Broken]]:
    """The runs that can be read, newest first, and the folders of those that can't, by name.

    A folder should hold a run if it has a run.json or another file that only runs have, or is named like one. Those
    whose names begin with a dot are being removed.
    """
    found, broken = [], []
    for folder in (submissions / name for name in sorted(_names(submissions)) if not name.startswith(".")):
        try:
            found.append(read(folder))
        except DigitsError as error:
            named = ID.match(folder.name) and (folder.is_dir() or folder.is_symlink())
            if named or _names(folder) & {"run.json", *FILES}:
                broken.append(Broken(folder, str(error)))
    return sorted(found, key=lambda run: (str(run.record["created"]), run.id), reverse=True), broken


def _names(folder: Path) -> set[str]:
    """The names of what is in a folder; none where it can't be read, or is none."""
    try:
        return {entry.name for entry in os.scandir(folder)}
    except OSError:
        return set()


def every(submissions: Path) -> list[Run]:
    """The runs that can be read, newest first."""
    return listed(submissions)[0]


def find(submissions: Path, which: str | None = None) -> Run:
    """The run with that id, the beginning of one, or that folder; the newest where `which` is None.

    Raises DigitsError where there is none, or more than one.
    """
    if which is not None and (submissions / which / "run.json").exists():
        return read(submissions / which)
    if which is not None and os.sep in which:
        return read(Path(which))
    known, broken = listed(submissions)
    if which is None and known:
        return known[0]
    found = pick(known, which, submissions, broken)
    if isinstance(found, Broken):
        raise DigitsError(found.problem)
    return found


def pick(known: Sequence[Run], which: str | None, submissions: Path, broken: Sequence[Broken] = ()) -> Run | Broken:
    """The one of these, newest first, or else of the broken ones, that has this id or an id that begins so.

    Raises DigitsError where there is none, or more than one.
    """
    for among in (known, broken):
        exact = [one for one in among if one.id == which]
        matches = exact or [one for one in among if which and one.id.startswith(which)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise DigitsError(f"{which} could be {', '.join(one.id for one in matches[:5])}: give more of the id")
    if not known:
        raise DigitsError(f"there are no runs in {submissions}: make one with `digits train`")
    raise DigitsError(f"there is no run {which} in {submissions}; the newest is {known[0].id}")


def remove(folder: Path) -> None:
    """Remove a run's folder, whether it can be read or not, as one.

    Raises DigitsError where another process is at work on the run, or it can't be removed.
    """
    if folder.is_symlink():
        with mendable(folder):
            folder.unlink()
        return
    run = Run(folder, {})
    with run.lock(), mendable(folder):
        gone = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
        folder.rename(gone)
        shutil.rmtree(gone)


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


def split_of(run: Run) -> Split:
    """The run's split. Raises DigitsError where its record has none that can be."""
    try:
        return Split(**run.record["split"])
    except TypeError as error:
        raise DigitsError(f"{run.path('run.json')} has no split ({error}): mend it, or remove the run") from error


def split_text(run: Run) -> str:
    """In words, which images the run held out."""
    try:
        return str(Split(**run.record["split"]))
    except (TypeError, DigitsError):
        return "those that all its members held out" if "blend" in run.record["recipe"] else "a split that is none"
