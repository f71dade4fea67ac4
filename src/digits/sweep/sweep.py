"""A sweep at work: its configurations trained from rung to rung, and what is heard of them."""

import json
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from digits import runs
from digits.data import Data
from digits.errors import DigitsError
from digits.files import alone, mendable, write_json
from digits.recipe import Recipe, from_table
from digits.split import Split
from digits.sweep.fanout import Place, Task, side_by_side
from digits.sweep.grid import Settings, settings_text
from digits.sweep.halving import Loser, Standing, losing, rung
from digits.sweep.trial import Failure, News, Trial, accuracy, epochs
from digits.version import source_digest

FORMAT = 1  # of sweep.json
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
class Rung:
    """A fraction of the epochs is trained; of so many configurations these are stopped."""

    fraction: float
    configurations: int
    losers: list[Loser]


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

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The sweep in a folder. Raises DigitsError where there is none that can be read."""
        path = folder / "sweep.json"
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DigitsError(
                f"{path} can't be read ({error}): remove {folder}, and the same command finds its runs"
            ) from error
        return cls(folder, record)

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
            now = Sweep.read(self.folder)  # another process may have been at it since
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
            self.update(status="finished", finished=datetime.now(UTC).isoformat(timespec="seconds"))

    def check(self, data: Data) -> None:
        """Raise DigitsError unless the data and the code are those that the sweep began with."""
        if self.record["data"]["sha256"] != data.sha256:
            raise DigitsError(
                f"the sweep {self.id} began with other data than this ({data.verdict}): point --data at it"
            )
        if self.record["code"] != source_digest():
            raise DigitsError(f"the sweep {self.id} began with another version of the code: start it anew")

    def update(self, **changes: Any) -> None:
        """Change entries of sweep.json. Raises DigitsError where it can't be written."""
        record = {**self.record, **changes}
        write_json(self.folder / "sweep.json", record)
        self.record = record

    def _waiting(self, fraction: float) -> list[Trial]:
        """The trials that are not trained so far and are to be."""
        found = []
        alive = self._alive()
        for trial in self.trials():
            train, run = self.entries[trial.number].recipe.train, trial.run()
            epoch = rung(train, fraction)
            if trial.number not in alive or (run and run.record["status"] == "finished"):
                continue
            if run is None or epoch == train.epochs or accuracy(run, epoch, train.epochs) is None:
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
            at = [accuracy(run, rung(train, fraction), train.epochs) for run in each]
            standings[number] = Standing(tuple(one for one in at if one is not None), self.images)
        # One that is finished, in another sweep say, has nothing left to be stopped.
        losers = [
            loser for loser in losing(standings) if any(trial.number == loser.number for trial in self._waiting(1.0))
        ]
        for loser in losers:
            entry = self.entries[loser.number]
            epoch = rung(entry.recipe.train, fraction)
            entry.stopped = dict(zip(STOPPED, (epoch, loser.difference, loser.standard_error), strict=True))
        self.update(configurations=[entry.record() for entry in self.entries], rungs=[*self.record["rungs"], fraction])
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
            trial: max([line["epoch"] for line in epochs(run)] if (run := trial.run()) else [], default=0)
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
            for line in epochs(run):
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
