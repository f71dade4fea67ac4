"""An ensemble whose members are trained by kernels at Kaggle, several at a time.

It is an ensemble's run like any other, whose members come from somewhere else: each kernel trains some of them, and
when all are there the run is concluded as if they had been trained here. Which kernel is where is in `fleet.json` in
the run's folder, written before anything is sent, so that a fleet that was stopped goes on and nothing is pushed twice.
"""

import json
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from digits import experiment
from digits.data import Data
from digits.ensemble import EnsembleExperiment
from digits.errors import DigitsError
from digits.files import make_folder, mendable, write_json
from digits.kaggle.client import LOOKS, KaggleClient
from digits.kaggle.errors import KaggleError
from digits.kernel.notebook import Plan
from digits.kernel.remote import bad_end, checked, fetch, push, run_folder, staging, tail
from digits.recipe import Recipe
from digits.runs import Run
from digits.sitting import ensemble_of
from digits.split import Split

STATE = "fleet.json"
ATTEMPTS = 3  # at a part, before it is given up
POLL_SECONDS = 30
LOG_LINES = 10  # of a kernel that has failed
TROUBLES = 20  # rounds in a row that may fail with what may pass, before the fleet is left for another time

WAITING, PUSHING, RUNNING, DONE, FAILED = "waiting", "pushing", "running", "done", "failed"


@dataclass(frozen=True)
class Part:
    """Some members of the ensemble and the kernel that trains them.

    `state` is "waiting" to be pushed, "pushing" where the answer is not known yet, "running", "done" or "failed".
    `before` is the version that the kernel had before it was pushed for this fleet, `version` that which it has.
    """

    members: tuple[int, ...]
    state: str = WAITING
    ref: str = ""
    before: int = 0
    version: int = 0
    attempts: int = 0
    status: str = ""
    reason: str = ""


class OutOfTimeError(DigitsError):
    """A kernel had too little time for its members: pushed again as it is, it would have as little."""


class Fleet:
    """The kernels of an ensemble's run, and the work on them."""

    def __init__(self, run: Run, data: Data, plan: Plan, at_once: int, submissions: Path) -> None:
        self.run = run
        self.data = data
        self.plan = plan
        self.at_once = at_once
        self.submissions = submissions
        self.parts = _read(run)
        self._unknown: dict[int, int] = {}  # how often Kaggle did not know a part's kernel, one look after another

    @property
    def complete(self) -> bool:
        """All members are here."""
        return all(part.state == DONE for part in self.parts)

    def work(
        self,
        client: KaggleClient,
        stop: Callable[[], bool] = lambda: False,
        sleep: Callable[[float], object] = time.sleep,
    ) -> Iterator[str | None]:
        """Push, follow and fetch until all members are here, or `stop()`; yield what happened, and None each round.

        Raises DigitsError where Kaggle refuses, or parts have failed too often; the fleet can then be gone on with.
        """
        troubles = 0
        for number, part in enumerate(self.parts):
            if part.state == FAILED:  # whoever asks again wants it tried again
                self._set(number, state=WAITING, attempts=0)
        while not self.complete and not stop():
            try:
                yield from self._round(client, stop)
                troubles = 0
            except KaggleError as error:
                troubles += 1
                if not error.passing or troubles > TROUBLES:
                    raise
                yield f"{error.what}; going on in a while"
            if all(part.state in (DONE, FAILED) for part in self.parts):
                break
            yield None
            for _ in range(POLL_SECONDS):
                if not stop():
                    sleep(1.0)
        failed = [number for number, part in enumerate(self.parts) if part.state == FAILED]
        if failed:
            first = self.parts[failed[0]]
            raise DigitsError(
                f"{len(failed)} of {len(self.parts)} kernels failed for good, as {first.ref} ({first.reason}): "
                "mend that, then run the same command again, it goes on with these alone"
            )

    def finish(self, workers: int) -> None:
        """Blend the members into the run. Raises DigitsError where they are not all here, or don't belong to it."""
        with EnsembleExperiment(self.run, self.data, self.submissions, workers) as work:
            if not work.complete:
                raise DigitsError(f"{self.run.id} lacks members: run the same command again")
            work.finish()

    def _round(self, client: KaggleClient, stop: Callable[[], bool]) -> Iterator[str]:
        """Look at the kernels that run, and push what may be pushed."""
        for number, part in enumerate(self.parts):
            if part.state == RUNNING:
                yield from self._look(client, number)
        for number, part in enumerate(self.parts):
            busy = sum(other.state in (RUNNING, PUSHING) for other in self.parts)
            if part.state == PUSHING or (part.state == WAITING and busy < self.at_once):
                pushed = yield from self._push(client, number)
                if not pushed or stop():
                    return

    def _push(self, client: KaggleClient, number: int) -> Generator[str, None, bool]:
        """Push a part; an attempt that may have arrived already is looked for before. False where Kaggle is full."""
        part = self.parts[number]
        plan = replace(self.plan, only=part.members)
        ref = f"{client.username}/{plan.slug}"
        if part.state != PUSHING:
            before = client.kernel_version(ref)
            self._set(number, state=PUSHING, ref=ref, before=before, attempts=part.attempts + 1, reason="")
        part = self.parts[number]
        folder = self.run.path("kernels") / plan.slug
        try:
            pushed = push(client, plan, folder, self.submissions, before=part.before)
        except KaggleError as error:
            if error.passing or error.status is None:
                raise  # it may have arrived: the state says so
            self._set(number, state=WAITING, attempts=part.attempts - 1)
            if not error.full:
                raise
            yield f"Kaggle runs no more kernels at once: {ref} waits"
            return False
        self._set(number, state=RUNNING, version=pushed.version, status="queued")
        yield f"pushed {ref}, version {pushed.version}"
        return True

    def _look(self, client: KaggleClient, number: int) -> Iterator[str]:
        """See how a part is doing, and fetch its members when it is done."""
        part = self.parts[number]
        try:
            session = client.session(part.ref)
        except KaggleError as error:
            if error.status not in (403, 404):
                raise
            self._unknown[number] = self._unknown.get(number, 0) + 1
            if self._unknown[number] >= LOOKS:  # before, Kaggle may not know yet what was pushed just now
                yield self._failed(number, error.what)
            return
        self._unknown.pop(number, None)
        if str(session) != part.status:
            self._set(number, status=str(session))
        if not session.done:
            return
        if not session.complete:
            with suppress(KaggleError):
                yield from tail(client.outputs(part.ref).log, LOG_LINES)
            yield self._failed(number, bad_end(part.ref, session))
            return
        try:
            self._fetch(client, part)
        except KaggleError:
            raise
        except DigitsError as error:
            yield self._failed(number, str(error), hopeless=isinstance(error, OutOfTimeError))
            return
        self._set(number, state=DONE)
        yield f"fetched {part.ref}: member {_numbers(part)}"

    def _failed(self, number: int, reason: str, hopeless: bool = False) -> str:
        """Note that an attempt at a part has failed; the sentence for it."""
        part = self.parts[number]
        again = part.attempts < ATTEMPTS and not hopeless
        self._unknown.pop(number, None)
        self._set(number, state=WAITING if again else FAILED, reason=reason, status="failed")
        return f"{reason}; {'it is pushed again' if again else 'given up'}"

    def _fetch(self, client: KaggleClient, part: Part) -> None:
        """Put the members that a part has trained in place, each whole or not at all."""
        files = client.outputs(part.ref).files
        root = run_folder(files, part.ref)
        for member in part.members:
            target = self.run.path("members") / str(member)
            if (target / "run.json").exists():
                continue
            inside = root / "members" / str(member)
            if str(inside / "run.json") not in files:
                raise DigitsError(f"the kernel {part.ref} has left no member {member}")
            with staging(self.run.folder) as stage:
                fetch(client, files, inside, stage, lambda _: None)
                found = checked(stage, part.ref)
                experiment.check_same_data(found, self.data)
                if "cut_short" in found.record:
                    step, steps = found.record["cut_short"].values()
                    raise OutOfTimeError(
                        f"time was up when the kernel {part.ref} was at step {step} of {steps} of member {member + 1}: "
                        "give it more with --hours"
                    )
                if found.record["code"]["sha256"] != self.run.record["code"]["sha256"]:
                    raise DigitsError(f"the kernel {part.ref} has run other code than this fleet's")
                found.update(id=str(member), kernel={"ref": part.ref, "version": part.version})
                make_folder(target.parent)
                with mendable(target):
                    stage.rename(target)

    def _set(self, number: int, **changes: Any) -> None:
        """Change a part, on disk first."""
        parts = list(self.parts)
        parts[number] = replace(parts[number], **changes)
        _write(self.run, parts)
        self.parts = parts


def begin(
    recipe: Recipe, data: Data, split: Split, seed: int, members: int, each: int, workers: int, submissions: Path
) -> Run:
    """The run of a fleet that is not finished yet, of just this recipe, seed, split, data, code and number of members.

    A new one where there is none: `each` is how many members a kernel trains. Raises DigitsError where the recipe can't
    have so many members, or the run can't be written.
    """
    recipe = ensemble_of(recipe, members)
    if members < 2:
        raise DigitsError("a fleet trains an ensemble, which has 2 members or more: give --members")
    for run in experiment.alike(submissions, recipe, data, split, seed):
        if run.record["status"] == "training" and run.path(STATE).exists():
            return run
    run = experiment.begin(recipe, data, split, seed, workers, submissions)
    _write(run, [Part(tuple(range(first, min(first + each, members)))) for first in range(0, members, each)])
    return run


def _numbers(part: Part) -> str:
    return ", ".join(str(member + 1) for member in part.members)


def _write(run: Run, parts: list[Part]) -> None:
    write_json(run.path(STATE), [asdict(part) for part in parts])


def _read(run: Run) -> list[Part]:
    path = run.path(STATE)
    with suppress(OSError, ValueError, TypeError, KeyError):
        parts = json.loads(path.read_text(encoding="utf-8"))
        return [Part(**{**part, "members": tuple(part["members"])}) for part in parts]
    raise DigitsError(f"{path} can't be read: mend it, or remove {run.folder} and begin anew")
