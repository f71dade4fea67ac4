"""The run of an ensemble: its members trained side by side in processes of their own, and their predictions averaged.

A member is a run in the ensemble's folder, members/0 and so on, with a checkpoint of its own: so an ensemble that was
stopped goes on with the members that are not finished, each where it was. A member on one core is quicker than one
that is shared out to all of them, as it never waits for another's shard; the result is the same.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Self, cast

import numpy as np

from digits import runs
from digits.data import Data
from digits.errors import DigitsError
from digits.experiment import (
    CHECKPOINT,
    Experiment,
    beginning,
    check_not_failed,
    check_same_data,
    conclude,
    taken,
)
from digits.nn import FORKS, Array, CheckpointError, read_arrays
from digits.predict import blend
from digits.recipe import CLASSES, from_table
from digits.runs import Run, split_of
from digits.stats import Score
from digits.train import Labels

WORD_SECONDS = 0.5  # of a member's training between two words of it
FORK = multiprocessing.get_context("fork")

Stop = Callable[[], bool]


@dataclass(frozen=True)
class Word:
    """What is heard of member `number` in training: the step that it is at, of `steps`, and the batch's loss."""

    number: int
    step: int
    steps: int
    loss: float


@dataclass(frozen=True)
class End:
    """Member `number` is finished: its dev score, if it held anything out, and the seconds that its training took."""

    number: int
    score: Score | None
    seconds: float


class EnsembleExperiment:
    """Work on the run of an ensemble, as a context manager: the run is locked, and its members are begun.

    With `only`, no other members than these are trained, as their machine is one of several. Raises DigitsError where
    another process is at the run, the data is not that which it began with, or a member can't be gone on with.
    """

    def __init__(
        self, run: Run, data: Data, submissions: Path | None, workers: int, only: Collection[int] | None = None
    ) -> None:
        check_same_data(run, data)
        check_not_failed(run)
        self.run = run
        self.data = data
        self.submissions = submissions
        self.recipe = from_table(run.record["recipe"], f"{run.path('run.json')}, recipe")
        self.split = split_of(run)
        self.train_rows, self.dev_rows = self.split.indices(data.labels)
        self.members: list[Run] = []
        self.wanted = range(self.recipe.ensemble.members) if only is None else sorted(only)
        self._workers = workers
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(taken(self.run))
            count, seed = self.recipe.ensemble.members, self.run.record["seed"]
            for number in range(count):
                kind, split = self.recipe.member(number), self.split.turn(self.recipe.ensemble.turn(number))
                own_seed = self.recipe.ensemble.seed(seed, number)
                own = beginning(kind, self.data, split, own_seed, self._workers, runs.ledger(self.run))
                self.members.append(runs.member(self.run, number, own))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def label(self, number: int) -> str:
        """What to call member `number`, from 0: its number from 1, and its recipe where there are several."""
        kind = f" ({self.recipe.member(number).name})" if self.recipe.ensemble.others else ""
        return f"member {number + 1}/{self.recipe.ensemble.members}{kind}"

    @property
    def complete(self) -> bool:
        """All members that are wanted are finished."""
        return all(self.members[number].record["status"] == "finished" for number in self.wanted)

    def train(self, stop: Stop) -> Iterator[Word | End]:
        """Train the members that are not finished, as many at a time as there are workers, and yield what they say.

        When `stop()` is true each saves its state and the iteration ends before its time; `complete` tells. Raises
        DigitsError where a member diverges, which marks it and the ensemble as failed, or where it can't be written.
        """
        waiting = [number for number in self.wanted if self.members[number].record["status"] != "finished"]
        yield from (self._end(number) for number in self.wanted if number not in waiting)
        # Those that would be left over at the end, with cores idle beside them, have all the cores, first and alone.
        alone = len(waiting) % self._workers if FORKS else len(waiting)
        try:
            for number in waiting[:alone]:
                yield from self._train(number, self._workers, stop)
            yield from self._side_by_side(waiting[alone:], stop)
        finally:
            self.members = [runs.read(member.folder) for member in self.members]
            for number, member in enumerate(self.members):
                if member.record["status"] == "failed":
                    self.run.update(status="failed", reason=f"{self.label(number)}: {member.record.get('reason')}")

    def finish(self) -> None:
        """Average the members' predictions, judge, plot and write them down; afterwards the run is finished.

        Where not all members are finished, it is made of those that are; where none is, of those that were at work,
        with their weights as they are. The record says either in `cut_short`. Raises DigitsError where there are none
        of these either, or something can't be read or written; the run can then be resumed.
        """
        members = self._finished() or self._as_they_are()
        tests = [_arrays(member, "test.npz")["probabilities"] for member in members]
        rows, held_out = (self.dev_rows, None) if self.split.full else self._held_out(members)
        conclude(
            self.run,
            self.data,
            rows,
            held_out,
            blend(tests, self.recipe.ensemble.average),
            self.submissions,
            train=None,
            seconds=sum(
                member.record["seconds"]["train"] * member.record["workers"] / self._workers for member in members
            ),
            members=[
                {key: member.record[key] for key in ("seed", "split", "scores", "seconds", "workers")}
                for member in members
            ],
            **self._cut_short(members),
        )

    def _cut_short(self, members: list[Run]) -> dict[str, Any]:
        """What the record says where time was up: how many members there are, else how far the last of them came."""
        if len(members) < len(self.members):
            return {"cut_short": {"members": len(members), "of": len(self.members)}}
        short = [member.record["cut_short"] for member in members if "cut_short" in member.record]
        return {"cut_short": min(short, key=lambda at: at["step"] / at["steps"])} if short else {}

    def _finished(self) -> list[Run]:
        return [member for member in self.members if member.record["status"] == "finished"]

    def _as_they_are(self) -> list[Run]:
        """Finish the members that were begun, though not all their steps are done."""
        for number, member in enumerate(self.members):
            if member.path(CHECKPOINT).exists():
                with Experiment(member, self.data, None, self._workers) as experiment:
                    experiment.finish()
                self.members[number] = runs.read(member.folder)
        finished = self._finished()
        if not finished:
            raise DigitsError(f"no member of {self.run.id} has been trained at all: give it more time")
        return finished

    def _held_out(self, members: list[Run]) -> tuple[Labels, Array]:
        """The rows (N,) that members held out, and the probabilities (N, 10) from those that did not train on them."""
        rows: dict[int | None, Array] = {}
        parts: dict[int | None, list[Array]] = {}
        for member in members:
            fold, arrays = member.record["split"]["fold"], _arrays(member, "dev.npz")
            rows[fold] = arrays["rows"]
            parts.setdefault(fold, []).append(arrays["probabilities"])
        out = np.zeros((len(self.data.labels), CLASSES), np.float32)
        for fold, those in parts.items():
            out[rows[fold]] = blend(those, self.recipe.ensemble.average)
        judged = np.sort(np.concatenate(list(rows.values())))
        return judged, out[judged]

    def _train(self, number: int, workers: int, stop: Stop) -> Iterator[Word | End]:
        """Train one member, in this process."""
        member = self.members[number]
        member.update(workers=workers)
        with Experiment(member, self.data, None, workers) as experiment:
            training = experiment.training
            said = -WORD_SECONDS
            for progress in experiment.train(stop):
                if training.seconds - said > WORD_SECONDS:
                    said = training.seconds
                    yield Word(number, progress.step, training.steps, progress.loss)
            if experiment.complete:
                experiment.finish()
                yield self._end(number)

    def _end(self, number: int) -> End:
        member = runs.read(self.members[number].folder)
        return End(number, runs.dev_score(member), member.record["seconds"]["train"])

    def _side_by_side(self, waiting: list[int], stop: Stop) -> Iterator[Word | End]:
        """Train members in processes of one worker each."""
        waiting = waiting[::-1]
        stopped = FORK.Event()
        at_work: dict[Any, Any] = {}  # processes, by the pipes that they are heard by
        failure: DigitsError | None = None
        try:
            while at_work or (waiting and not stopped.is_set()):
                while waiting and len(at_work) < self._workers and not stopped.is_set():
                    hears, says = FORK.Pipe(duplex=False)
                    process = FORK.Process(target=self._serve, args=(waiting.pop(), says, stopped, os.getpid()))
                    process.start()
                    says.close()
                    at_work[hears] = process
                for end in wait(list(at_work), timeout=0.2):
                    hears = cast("Connection", end)
                    try:
                        heard = hears.recv()
                    except EOFError:
                        process = at_work.pop(hears)
                        process.join()
                        if process.exitcode:
                            failure = failure or DigitsError(
                                f"a member's process has ended (exit status {process.exitcode}): see that there is "
                                "memory enough"
                            )
                        continue
                    if isinstance(heard, DigitsError):
                        failure = failure or heard
                    else:
                        yield heard
                if stop() or failure:
                    stopped.set()
        finally:
            stopped.set()
            for process in at_work.values():
                process.join()
        if failure:
            raise failure

    def _serve(self, number: int, says: Connection, stopped: Any, caller: int) -> None:
        """What a member's process does. A signal that a terminal sends to all of them is for the caller to hear."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            for word in self._train(number, 1, lambda: stopped.is_set() or os.getppid() != caller):
                says.send(word)
        except BrokenPipeError:  # the caller is gone
            pass
        except DigitsError as error:
            says.send(DigitsError(str(error)))
        finally:
            says.close()


def _arrays(member: Run, name: str) -> dict[str, Array]:
    """The arrays in a member's file. Raises DigitsError where it is missing or damaged."""
    try:
        arrays = read_arrays(member.path(name))
        arrays["probabilities"]
    except (CheckpointError, KeyError) as error:
        raise DigitsError(f"{member.path(name)} can't be used ({error}): remove {member.folder} and resume") from error
    return arrays
