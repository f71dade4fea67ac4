"""A sweep: configurations of a recipe, some seeds of each, trained side by side, those clearly losing stopped early.

Each run is one like any other, in the ledger; the sweep has a folder of its own there, under `sweeps/`, whose
sweep.json says what it is of and how far it is. All that is known of a run is read from its folder, and all that stops
it is a file in the sweep's: so it does not matter in which process, or on which machine that sees these folders, it is
trained.
"""

import itertools
import json
import os
import socket
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from digits import runs
from digits.comparison import compare, compare_seeds
from digits.data import Data
from digits.errors import DigitsError
from digits.experiment import split_for
from digits.fanout import Place, Task, side_by_side
from digits.files import alone, make_folder, mendable, write_json
from digits.grid import UNCHANGED, VARIANT, Configuration, Settings, identity, settings_text
from digits.halving import RUNGS, Loser, Standing, losing, rung
from digits.recipe import Recipe, from_table
from digits.runs import Run
from digits.split import Split
from digits.stats import Difference
from digits.teacher import lesson
from digits.version import source_digest

FORMAT = 1  # of sweep.json
FOLDER = "sweeps"  # under submissions/
STOPPED = ("epoch", "difference", "standard_error")  # what sweep.json has of a configuration that was stopped
LOOK_SECONDS = 0.5  # between two looks at what the runs have logged

Stop = Callable[[], bool]


@dataclass
class Entry:
    """A configuration, the ids of its runs, a seed each, and what it was stopped for, if it was: the epoch and why."""

    settings: Settings
    recipe: Recipe
    runs: list[str]
    stopped: dict[str, float] | None = None

    def record(self) -> dict[str, Any]:
        """As sweep.json has it."""
        return {
            "settings": self.settings,
            "recipe": self.recipe.resolved(),
            "runs": self.runs,
            "stopped": self.stopped,
        }


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

    `last` says that there will be no other before the next rung.
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


@dataclass(frozen=True)
class Rung:
    """A fraction of the epochs is trained; of so many configurations these are stopped."""

    fraction: float
    configurations: int
    losers: list[Loser]


@dataclass(frozen=True)
class Row:
    """What came of a configuration so far: `standing` is of its final dev scores, or at `epoch` where it is stopped.

    `seconds` are the mean of its runs' training times.
    """

    settings: Settings
    runs: list[str]
    seeds: list[int]
    status: Literal["finished", "stopped", "diverged", "training"]
    epoch: int
    epochs: int
    standing: Standing | None
    seconds: float | None
    reason: str | None

    def plain(self) -> dict[str, Any]:
        """The row as plain values."""
        standing = self.standing
        return {
            "settings": self.settings,
            "runs": self.runs,
            "seeds": self.seeds,
            "status": self.status,
            "epoch": self.epoch,
            "epochs": self.epochs,
            "dev_accuracies": list(standing.accuracies) if standing else None,
            "dev_accuracy": standing.mean if standing else None,
            "standard_deviation": standing.deviation if standing else None,
            "standard_error": standing.standard_error if standing else None,
            "seconds": self.seconds,
            "reason": self.reason,
        }


class Sweep:
    """A sweep's folder and its record, the content of sweep.json.

    Raises DigitsError where the record is not one.
    """

    def __init__(self, folder: Path, record: dict[str, Any]) -> None:
        self.folder = folder
        self.submissions = folder.parent.parent
        try:
            if record["format"] != FORMAT:
                raise DigitsError(f"{folder / 'sweep.json'} is of format {record['format']}: update digits")
            self.record = record
            self.entries = [
                Entry(
                    dict(one["settings"]),
                    from_table(one["recipe"], folder.name),
                    [str(run) for run in one["runs"]],
                    {key: float(one["stopped"][key]) for key in STOPPED} if one["stopped"] else None,
                )
                for one in record["configurations"]
            ]
            self.seeds = [int(seed) for seed in record["seeds"]]
            self.split = Split(**record["split"])
            self.halving = [float(fraction) for fraction in record["halving"]]
            self.images = int(record["data"]["dev_images"])
            if any(len(entry.runs) != len(self.seeds) for entry in self.entries):
                raise ValueError("a configuration has other runs than seeds")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DigitsError(
                f"{folder / 'sweep.json'} is damaged ({error!r}): remove {folder}, and the same command finds its runs"
            ) from error

    @property
    def id(self) -> str:
        """The name of the folder: when and what, `20261123-181500-mlp`."""
        return self.folder.name

    @property
    def sample(self) -> bool:
        """It is of sample data."""
        return bool(self.record["data"]["kind"] == "sample")

    @property
    def varied(self) -> list[str]:
        """The keys that are not set to the same in all configurations."""
        first = self.entries[0].settings
        return [key for key in first if any(entry.settings.get(key) != first[key] for entry in self.entries)]

    def label(self, number: int) -> str:
        """What tells a configuration from the others, in a line."""
        return settings_text({key: self.entries[number].settings.get(key) for key in self.varied})

    def trials(self) -> list[Trial]:
        """All of them."""
        return [
            Trial(number, seed, self.submissions / run)
            for number, entry in enumerate(self.entries)
            for seed, run in zip(self.seeds, entry.runs, strict=True)
        ]

    @property
    def finished(self) -> bool:
        """Nothing is left to be trained."""
        return not self._waiting(1.0)

    def train(self, data: Data, folder: Path, place: Place, stop: Stop) -> Iterator[News | Failure | Rung]:
        """Train what is not trained yet, and yield what is heard; `folder` is where workers find the data.

        When `stop()` is true each run saves its state and the iteration ends before its time; `finished` tells. Raises
        DigitsError as `check` does, and where another process is at the sweep or a run can't be trained.
        """
        self.check(data)
        # One thread fans out all that there is: Ray, for one, is gone when the thread that began it ends.
        with self._lock(), ThreadPoolExecutor(1) as thread:
            now = _read(self.folder)  # another process may have been at it since
            self.record, self.entries = now.record, now.entries
            self._stop_file.unlink(missing_ok=True)
            for fraction in (*self.halving, 1.0):
                if fraction < 1 and len(self._alive()) < 2:
                    continue  # there is nobody to be compared with
                waiting = self._waiting(fraction)
                if waiting:
                    yield from self._advance(waiting, fraction, folder, place, stop, thread)
                    if stop():
                        return
                    if left := self._waiting(fraction):
                        raise DigitsError(
                            f"a worker gave the run {left[0].folder.name} up, as if nobody were waiting for it: "
                            "see that each machine of the cluster has a host name of its own"
                        )
                if fraction < 1 and fraction not in self.record["rungs"] and self._waiting(1.0):
                    yield self._halve(fraction)
            self._update(status="finished", finished=datetime.now(UTC).isoformat(timespec="seconds"))

    def check(self, data: Data) -> None:
        """Raise DigitsError unless the data and the code are those that the sweep began with."""
        if self.record["data"]["sha256"] != data.sha256:
            raise DigitsError(
                f"the sweep {self.id} began with other data than this ({data.verdict}): point --data at it"
            )
        if self.record["code"] != source_digest():
            raise DigitsError(f"the sweep {self.id} began with another version of the code: start it anew")

    def rows(self) -> list[Row]:
        """What came of each configuration, the best first; the stopped ones follow, and those that diverged."""
        order = ("diverged", "training", "stopped", "finished")

        def merit(row: Row) -> tuple[int, float]:
            return order.index(row.status), row.standing.mean if row.standing else 0.0

        return sorted((self._row(entry) for entry in self.entries), key=merit, reverse=True)

    def differences(self, rows: Sequence[Row]) -> list[Difference | None]:
        """Of each variant's accuracy, a fraction, from that of the recipe as it is; the error is for other images too.

        None of what is not finished or no variant. Raises DigitsError where a run's predictions are not there.
        """

        def beside(row: Row) -> str:
            """What is set in its variants alike."""
            return settings_text({key: value for key, value in row.settings.items() if key != VARIANT})

        finished = [row for row in rows if row.status == "finished"]
        unchanged = {beside(row): row for row in finished if row.settings.get(VARIANT) == UNCHANGED}

        def against(row: Row) -> Difference | None:
            base = unchanged.get(beside(row))
            if base is None or row.status != "finished" or row.settings.get(VARIANT, UNCHANGED) == UNCHANGED:
                return None
            a, b = ([runs.read(self.submissions / run) for run in one.runs] for one in (base, row))
            return compare(a[0], b[0]).difference if len(a) == 1 else compare_seeds(a, b).over_images

        return [against(row) for row in rows]

    def _row(self, entry: Entry) -> Row:
        begun = [
            runs.read(folder) for run in entry.runs if (folder := self.submissions / run).joinpath("run.json").exists()
        ]
        logs = [_epochs(run) for run in begun]
        complete = len(begun) == len(entry.runs)
        failed = [run for run in begun if run.record["status"] == "failed"]
        last = min((log[-1]["epoch"] if log else 0 for log in logs), default=0) if complete else 0
        status: Literal["finished", "stopped", "diverged", "training"] = "training"
        if failed:
            status = "diverged"
        elif complete and all(run.record["status"] == "finished" for run in begun):
            status, last = "finished", entry.recipe.train.epochs
        elif entry.stopped:
            status, last = "stopped", int(entry.stopped["epoch"])
        accuracies = [] if failed else [self._accuracy(run, last, entry.recipe.train.epochs) for run in begun]
        seconds = [
            run.record["seconds"]["train"] if "seconds" in run.record else log[-1]["seconds"]
            for run, log in zip(begun, logs, strict=True)
            if log or "seconds" in run.record
        ]
        known = [accuracy for accuracy in accuracies if accuracy is not None]
        return Row(
            settings=entry.settings,
            runs=entry.runs,
            seeds=self.seeds,
            status=status,
            epoch=last,
            epochs=entry.recipe.train.epochs,
            standing=Standing(tuple(known), self.images) if len(known) == len(self.seeds) else None,
            seconds=statistics.fmean(seconds) if seconds else None,
            reason=str(failed[0].record.get("reason")) if failed else None,
        )

    def _accuracy(self, run: Run, epoch: int, epochs: int) -> float | None:
        """On the dev images, after an epoch."""
        score = runs.dev_score(run)
        if score and epoch == epochs:
            return score.accuracy
        at = (float(line["dev_accuracy"]) for line in _epochs(run) if line["epoch"] == epoch)
        return next(at, score.accuracy if score else None)

    def _waiting(self, fraction: float) -> list[Trial]:
        """The trials that are not trained so far and are to be."""
        found = []
        alive = self._alive()
        for trial in self.trials():
            train, run = self.entries[trial.number].recipe.train, trial.run()
            epoch = rung(train, fraction)
            if trial.number not in alive or (run and run.record["status"] == "finished"):
                continue
            if run is None or epoch == train.epochs or self._accuracy(run, epoch, train.epochs) is None:
                found.append(trial)
        return found

    def _alive(self) -> list[int]:
        """The configurations that are neither stopped nor diverged."""
        diverged = {
            trial.number for trial in self.trials() if (run := trial.run()) and run.record["status"] == "failed"
        }
        return [number for number, one in enumerate(self.entries) if not one.stopped and number not in diverged]

    def _halve(self, fraction: float) -> Rung:
        """Stop the configurations that are clearly losing."""
        standings = {}
        for number in self._alive():
            entry = self.entries[number]
            train = entry.recipe.train
            each = [runs.read(self.submissions / run) for run in entry.runs]
            at = [self._accuracy(run, rung(train, fraction), train.epochs) for run in each]
            standings[number] = Standing(tuple(one for one in at if one is not None), self.images)
        # One that is finished, in another sweep say, has nothing left to be stopped.
        losers = [
            loser for loser in losing(standings) if any(trial.number == loser.number for trial in self._waiting(1.0))
        ]
        for loser in losers:
            entry = self.entries[loser.number]
            epoch = rung(entry.recipe.train, fraction)
            entry.stopped = dict(zip(STOPPED, (epoch, loser.difference, loser.standard_error), strict=True))
        self._update(configurations=[entry.record() for entry in self.entries], rungs=[*self.record["rungs"], fraction])
        return Rung(fraction, len(standings), losers)

    def _advance(
        self,
        waiting: list[Trial],
        fraction: float,
        folder: Path,
        place: Place,
        stop: Stop,
        thread: ThreadPoolExecutor,
    ) -> Iterator[News | Failure]:
        """Train trials up to a rung and yield what is heard of them."""
        tasks = [self._task(trial, fraction, folder) for trial in waiting]
        heard = {
            trial: max([line["epoch"] for line in _epochs(run)] if (run := trial.run()) else [], default=0)
            for trial in waiting
        }
        failed: set[Trial] = set()
        work = thread.submit(side_by_side, tasks, place)
        try:
            while wait([work], LOOK_SECONDS).not_done:
                yield from self._look(waiting, fraction, heard, failed)
                if stop():
                    self._stop_all()
        finally:
            if not work.done():
                self._stop_all()
        yield from self._look(waiting, fraction, heard, failed)
        try:
            errors = [error for error in work.result() if error]
        except DigitsError:
            if stop():  # a process that had not yet learnt to be deaf to Ctrl-C is lost, and nothing else
                return
            raise
        if errors:
            raise DigitsError(errors[0])

    def _look(
        self, trials: list[Trial], fraction: float, heard: dict[Trial, int], failed: set[Trial]
    ) -> Iterator[News | Failure]:
        """What the files of trials say that was not heard yet."""
        for trial in trials:
            train = self.entries[trial.number].recipe.train
            until = rung(train, fraction)
            if trial in failed or heard[trial] >= until or (run := trial.run()) is None:
                continue
            for line in _epochs(run):
                if line["epoch"] > heard[trial]:
                    heard[trial] = epoch = line["epoch"]
                    yield News(trial, epoch, train.epochs, line["dev_accuracy"], line["seconds"], epoch >= until)
            if run.record["status"] == "failed":
                failed.add(trial)
                yield Failure(trial, str(run.record.get("reason")))

    def _task(self, trial: Trial, fraction: float, folder: Path) -> Task:
        entry = self.entries[trial.number]
        return Task(
            folder=str(trial.folder.resolve()),
            data=str(folder.resolve()),
            sha256=self.record["data"]["sha256"],
            code=self.record["code"],
            recipe=entry.recipe.resolved(),
            split=self.split.spec(),
            seed=trial.seed,
            sweep={"id": self.id, "settings": entry.settings},
            epoch=rung(entry.recipe.train, fraction),
            stop=str(self._stop_file.resolve()),
            host=socket.gethostname(),
            caller=os.getpid(),
        )

    @property
    def _stop_file(self) -> Path:
        return self.folder / "stop"

    def _stop_all(self) -> None:
        with mendable(self._stop_file):
            self._stop_file.touch()

    def _lock(self) -> AbstractContextManager[None]:
        return alone(
            self.folder / ".lock", f"another process is at work on the sweep {self.id}: wait for it, or stop it"
        )

    def _update(self, **changes: Any) -> None:
        record = {**self.record, **changes}
        write_json(self.folder / "sweep.json", record)
        self.record = record


def begin(
    submissions: Path,
    name: str,
    configurations: Sequence[Configuration],
    data: Data,
    split: Split,
    seeds: Sequence[int],
    halving: Sequence[float] = RUNGS,
) -> Sweep:
    """The sweep of just this that was begun already, the newest if there are several; else a new one.

    A new one takes over runs in the ledger that are of its configurations and seeds, whatever they were made for.
    Raises DigitsError where the split can't be drawn or holds nothing out, a teacher can't be learnt from, or the
    folder can't be written.
    """
    split = split_for(configurations[0].recipe, split)
    train, dev = split.indices(data.labels)
    if split.full:
        raise DigitsError("a sweep compares by dev scores, so something must be held out: give --dev or --folds")
    if not all(0 < low < high for low, high in itertools.pairwise([*halving, 1.0])):
        raise DigitsError(
            "the rungs of --halving are fractions of the epochs, ascending, as in 0.25,0.5; 0 is for none"
        )
    for configuration in configurations:
        lesson(configuration.recipe, data, split, submissions)
    record = {
        "format": FORMAT,
        "status": "training",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "finished": None,
        "recipe": name,
        "seeds": list(seeds),
        "split": split.spec(),
        "data": {
            "kind": data.kind,
            "sha256": data.sha256,
            "train_images": len(train),
            "dev_images": len(dev),
        },
        "code": source_digest(),
        "halving": list(halving) if len(configurations) > 1 else [],
        "rungs": [],
        "configurations": [Entry(one.settings, one.recipe, []).record() for one in configurations],
    }
    record = json.loads(json.dumps(record))
    for sweep in every(submissions):
        if _what(sweep.record) == _what(record):
            return sweep
    return _create(submissions, record)


def every(submissions: Path) -> list[Sweep]:
    """The sweeps that can be read, newest first."""
    found = []
    for path in sorted((submissions / FOLDER).glob("*/sweep.json"), reverse=True):
        try:
            found.append(_read(path.parent))
        except DigitsError:
            continue
    return found


def find(submissions: Path, which: str) -> Sweep:
    """The sweep with that id, or the beginning of one. Raises DigitsError where there is none, or more than one."""
    if (submissions / FOLDER / which / "sweep.json").exists():
        return _read(submissions / FOLDER / which)
    known = [path.parent.name for path in sorted((submissions / FOLDER).glob("*/sweep.json"))]
    matches = [name for name in known if name.startswith(which)]
    if len(matches) == 1:
        return _read(submissions / FOLDER / matches[0])
    if matches:
        raise DigitsError(f"{which} could be {', '.join(matches[:5])}: give more of the id")
    newest = f"the newest is {known[-1]}" if known else "there are none yet"
    raise DigitsError(f"there is no sweep {which} in {submissions / FOLDER}; {newest}")


def _read(folder: Path) -> Sweep:
    path = folder / "sweep.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DigitsError(
            f"{path} can't be read ({error}): remove {folder}, and the same command finds its runs"
        ) from error
    return Sweep(folder, record)


def _what(record: dict[str, Any]) -> Any:
    """What makes a sweep this one and no other."""
    same = ("recipe", "seeds", "split", "data", "code", "halving")
    each = [[identity(one["recipe"]), one["settings"].get(VARIANT)] for one in record["configurations"]]
    return [record.get(key) for key in same], each


def _create(submissions: Path, record: dict[str, Any]) -> Sweep:
    """A new sweep's folder, whose name's time is in the names of its runs."""
    make_folder(submissions / FOLDER)
    here = _ledger(submissions)
    sample = "-sample" if record["data"]["kind"] == "sample" else ""
    while True:
        stamp = f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
        folder = submissions / FOLDER / f"{stamp}-{record['recipe']}{sample}"
        new: list[str] = []
        for entry in record["configurations"]:
            each = [{**record, **entry, "seed": seed, "code": {"sha256": record["code"]}} for seed in record["seeds"]]
            own = [f"{stamp}-{entry['recipe']['name']}-s{seed}{sample}" for seed in record["seeds"]]
            entry["runs"] = [here.get(_key(run), name) for run, name in zip(each, own, strict=True)]
            new += set(entry["runs"]) & set(own)
        if not any((submissions / name).exists() for name in new):
            with mendable(folder), suppress(FileExistsError):
                folder.mkdir()
                break
        time.sleep(0.1)  # another's are of this second
    sweep = Sweep(folder, {**record, "id": folder.name})
    sweep._update()
    return sweep


def _ledger(submissions: Path) -> dict[str, str]:
    """The ids of the runs that a sweep may take over, by what they are of; of several the one that came furthest."""
    found: dict[str, str] = {}
    order = {"interrupted": 0, "failed": 1, "finished": 2}
    usable = [run for run in runs.every(submissions) if _usable(run)]
    for run in sorted(usable, key=lambda run: (order[run.status], len(run.log()))):
        found[_key(run.record)] = run.id
    return found


def _epochs(run: Run) -> list[dict[str, Any]]:
    """The lines of a run's log, each of an epoch."""
    needed = {"epoch": int, "dev_accuracy": float, "seconds": float}
    return [line for line in run.log() if all(isinstance(line.get(key), kind) for key, kind in needed.items())]


def _usable(run: Run) -> bool:
    """It is finished or has diverged here, or a sweep has left it; and nobody is at it."""
    status, log = run.status, run.log()
    if status == "finished":
        return bool(log) and run.path("weights.npz").exists() and not runs.members(run)
    return status == "failed" or (status == "interrupted" and "sweep" in run.record)


def _key(record: dict[str, Any]) -> str:
    """What a run is of, the same text for the same."""
    what = [record["seed"], record["split"], record["data"]["sha256"], record.get("code", {}).get("sha256")]
    return json.dumps([identity(record["recipe"]), what], sort_keys=True)
