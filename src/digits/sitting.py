"""A run in a session of Kaggle: data where Kaggle mounts it, a limit on the time, a run that is gone on with.

A notebook or script sits down with its settings and trains; when time is up the run is finished with what there is. It
works in /kaggle/working, so that whoever starts again, or runs a single cell again, goes on where the last one was.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from digits import data as datasets
from digits import experiment, recipe
from digits.ensemble import End, EnsembleExperiment
from digits.errors import DigitsError
from digits.experiment import Experiment
from digits.files import write_whole
from digits.machine import cores
from digits.runs import Run
from digits.split import Split
from digits.stats import Score
from digits.stop import Stop
from digits.submission import check_submission

ROOT = "DIGITS_KAGGLE"  # elsewhere than on Kaggle, the folder that has input/ and working/ as /kaggle has there
NEWS_SECONDS = 0.5  # between two words of a training


@dataclass(frozen=True)
class News:
    """What is heard of a training: the share of it that is done, from 0 to 1, and where it stands.

    `line` is there at the end of an epoch or of a member, with what came of it.
    """

    share: float
    where: str
    line: str | None = None

    def __str__(self) -> str:
        return f"{self.share:4.0%}  {self.where}"


class Sitting:
    """One recipe and seed, on the data that Kaggle mounts, in at most `hours` from now on.

    `members` makes an ensemble of so many of any recipe, and `only` trains none but these of its members, as other
    sittings have the others. `full` trains on all labelled images. `commit` is where the code comes from.

    Raises DigitsError where the data is not mounted, or there is no such recipe.
    """

    def __init__(
        self,
        which: str,
        seed: int = 0,
        *,
        hours: float,
        full: bool = False,
        members: int | None = None,
        only: Sequence[int] | None = None,
        commit: str | None = None,
    ) -> None:
        self.end = time.monotonic() + 3600 * hours
        kaggle = Path(os.environ.get(ROOT, "/kaggle"))
        self.working = kaggle / "working"
        self.recipe = ensemble_of(recipe.load(which), members)
        self.seed = seed
        self.split = Split(0.0) if full else Split()
        self.only = only
        self.commit = commit
        self.workers = cores()
        self.data = datasets.load(mounted(kaggle))

    def __str__(self) -> str:
        data, hours = self.data, max(self.end - time.monotonic(), 0) / 3600
        return (
            f"{len(data.images):,} labelled and {len(data.test_images):,} test images: {data.verdict}\n"
            f"recipe {self.recipe.name}, seed {self.seed}, {experiment.split_for(self.recipe, self.split)}\n"
            f"{self.workers} cores, {hours:.1f} hours"
        )

    @property
    def run(self) -> Run:
        """The run of just this recipe, seed, data and code: the newest that is here, else a new one."""
        folder = self.working / "submissions"
        for run in experiment.alike(folder, self.recipe, self.data, self.split, self.seed):
            if run.record["status"] != "failed":
                return run
        run = experiment.begin(self.recipe, self.data, self.split, self.seed, self.workers, folder)
        if self.commit:
            commit, _, dirty = self.commit.partition("-")
            run.update(code={**run.record["code"], "commit": commit, "dirty": bool(dirty)})
        return run

    def train(self) -> Iterator[News]:
        """Train, from where the run was left, finish the run, and yield what is heard meanwhile.

        When time is up the run is finished with the weights as they are; of an ensemble, with the members that are
        finished. Raises KeyboardInterrupt where the stop button was pressed, once the state is saved, and DigitsError
        where the training diverges.
        """
        run, stop = self.run, Stop()
        if run.record["status"] == "finished":
            yield News(1.0, "finished", f"{run.id} is finished: nothing is trained")
            return
        with stop.listening(), self._experiment(run) as work:
            over = self._over(stop)
            yield from self._members(work, over) if isinstance(work, EnsembleExperiment) else self._steps(work, over)
            if not work.complete and stop():
                raise KeyboardInterrupt("stopped, and what there is is saved: run this again and it goes on")
            if not work.complete:
                yield News(1.0, "out of time", "time is up: the run is finished with what there is")
            work.finish()
        yield News(1.0, "finished")

    def write_submission(self) -> Path:
        """Put the run's submission.csv into the session's output. Raises DigitsError where the run is not finished."""
        run = self.run
        if run.record["status"] != "finished":
            raise DigitsError(f"the run {run.id} is not finished: run the training first, it goes on where it was")
        check_submission(run.path("submission.csv"), len(self.data.test_images))
        content = run.path("submission.csv").read_bytes()
        path = self.working / "submission.csv"
        write_whole(path, lambda temporary: temporary.write_bytes(content))
        return path

    def _over(self, stop: Stop) -> Callable[[], bool]:
        return lambda: stop() or time.monotonic() > self.end

    def _experiment(self, run: Run) -> Experiment | EnsembleExperiment:
        if self.recipe.ensemble.members > 1:
            return EnsembleExperiment(run, self.data, None, self.workers, self.only)
        return Experiment(run, self.data, None, self.workers)

    def _steps(self, work: Experiment, stop: Callable[[], bool]) -> Iterator[News]:
        """What is heard of one network."""
        training, dev_images = work.training, len(work.dev_rows)
        epochs = training.recipe.train.epochs
        clock = _Clock(training.step / training.steps)
        for step in work.train(stop):
            share = step.step / training.steps
            if step.record or clock.strikes():
                where = f"epoch {-(-step.step * epochs // training.steps)} of {epochs}"
                line = None
                if step.record:
                    dev = step.record.dev_accuracy
                    line = f"{where:<16}  loss {step.record.loss:.4f}  train {step.record.train_accuracy:.2%}"
                    line += f"  dev {Score(round(dev * dev_images), dev_images)}" if dev is not None else ""
                    line += f"  {step.record.seconds:.0f} s"
                yield News(share, f"{where}, loss {step.loss:.4f}, {clock.left(share)}", line)

    def _members(self, work: EnsembleExperiment, stop: Callable[[], bool]) -> Iterator[News]:
        """What is heard of an ensemble's members."""
        count = len(work.wanted)
        done: dict[int, float] = {}
        clock: _Clock | None = None
        for word in work.train(stop):
            if isinstance(word, End):
                done[word.number] = 1.0
                score = f"  dev {word.score}" if word.score else ""
                line = f"{work.label(word.number)}{score}  {word.seconds:.0f} s"
            else:
                done[word.number] = word.step / word.steps
                line = None
            share = sum(done.values()) / count
            clock = clock or _Clock(share)
            if line or clock.strikes():
                ready = sum(part == 1.0 for part in done.values())
                yield News(share, f"{ready} of {count} members, {clock.left(share)}", line)


class _Clock:
    """When to say something, and how long it will still take."""

    def __init__(self, share: float) -> None:
        self._share = share  # that was done when it was begun
        self._began = self._said = time.monotonic()

    def strikes(self) -> bool:
        """It is time for another word."""
        now = time.monotonic()
        if now - self._said < NEWS_SECONDS:
            return False
        self._said = now
        return True

    def left(self, share: float) -> str:
        """The time that is left when this share is done, in words."""
        if share <= self._share:
            return "just begun"
        seconds = (time.monotonic() - self._began) / (share - self._share) * (1 - share)
        return f"{seconds / 60:.0f} min left" if seconds > 90 else f"{seconds:.0f} s left"


def ensemble_of(chosen: recipe.Recipe, members: int | None) -> recipe.Recipe:
    """The recipe as an ensemble of so many members; as it is, where `members` is None.

    Raises DigitsError where its folds are more than that.
    """
    if members is None or members == chosen.ensemble.members:
        return chosen
    try:
        return replace(chosen, ensemble=replace(chosen.ensemble, members=members))
    except ValueError as error:
        raise DigitsError(f"recipe {chosen.name} can't have {members} members: {error}") from error


def mounted(kaggle: Path) -> Path:
    """Where the competition's data is mounted, of the two places that Kaggle has for it.

    Raises DigitsError where it is in neither.
    """
    for place in datasets.KAGGLE_INPUTS:
        folder = kaggle / place.relative_to("/kaggle")
        if folder.is_dir():
            return folder
    raise DigitsError(
        f"the competition's data is not in {kaggle / 'input'}: press Add Input, choose the competition Digit "
        "Recognizer, and run this again"
    )
