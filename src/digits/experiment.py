"""From a recipe and the data to a run that is whole: trained, judged, predicted, plotted and written down."""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from digits import plots, runs
from digits.data import Data
from digits.errors import DigitsError
from digits.files import remove_leftovers, write_whole
from digits.machine import describe, single_threaded_blas
from digits.nn import Array, CheckpointError, Network, WorkerError, Workers, write_arrays
from digits.predict import Images, Mix, blend, predict
from digits.recipe import Recipe, from_table
from digits.runs import Run, split_of
from digits.split import Split
from digits.stats import Score
from digits.submission import write_submission
from digits.teacher import lesson
from digits.train import DivergedError, Labels, Progress, Training, judged, record_table
from digits.version import code_version, source_digest

CHECKPOINT = "checkpoint.npz"
CHECKPOINT_SECONDS = 20.0  # of training that a kill may cost


def begin(recipe: Recipe, data: Data, split: Split, seed: int, workers: int, submissions: Path) -> Run:
    """A new run, not trained yet.

    Raises DigitsError if the folder can't be written, the split can't be drawn, or the teacher can't be learnt from.
    """
    split = split_for(recipe, split)
    label = f"{recipe.name}-s{seed}" + ("-sample" if data.kind == "sample" else "")
    return runs.create(submissions, label, beginning(recipe, data, split, seed, workers, submissions))


def beginning(recipe: Recipe, data: Data, split: Split, seed: int, workers: int, submissions: Path) -> dict[str, Any]:
    """What the record of a run begins with. Raises DigitsError if the split or the teacher can't be used."""
    learnt = lesson(recipe, data, split, submissions)
    return {
        "recipe": recipe.resolved(),
        "seed": seed,
        "split": split.spec(),
        "data": {
            "kind": data.kind,
            "sha256": data.sha256,
            "train_images": len(learnt.rows),
            "dev_images": len(learnt.held_out),
            "test_images": len(data.test_images),
        },
        "code": code_version(),
        "machine": describe(),
        "workers": workers,
        "parameters": recipe.parameters,
    }


def split_for(recipe: Recipe, split: Split) -> Split:
    """What the recipe holds out where this split is asked for: an ensemble of folds holds out each in its turn.

    Raises DigitsError where the two don't go together.
    """
    members, folds = recipe.ensemble.members, recipe.ensemble.folds
    if split.in_turn and not folds:
        raise DigitsError(
            f"{recipe.name} has no folds of its own ([ensemble] folds), so one of the {split.folds} is held out: "
            f"say which, as in `--folds {split.folds} --fold 0`"
        )
    if not folds or split.full:
        return split
    if split.folds is None:
        return Split(0.0, folds, None, split.seed)
    if split.folds != folds or split.fold is not None:
        raise DigitsError(
            f"{recipe.name} is an ensemble of {members} over {folds} folds of its own: leave out --folds and --fold"
        )
    return split


def alike(submissions: Path, recipe: Recipe, data: Data, split: Split, seed: int) -> Iterator[Run]:
    """The runs of just this recipe, seed, split, data and deciding source, finished or not, the newest first.

    Raises DigitsError where the recipe does not go with the split.
    """
    wanted = {"recipe": recipe.resolved(), "seed": seed, "split": split_for(recipe, split).spec()}
    digest = source_digest()
    for run in runs.every(submissions):
        record = run.record
        if (
            {key: record[key] for key in wanted} == wanted
            and record["data"]["sha256"] == data.sha256
            and record.get("code", {}).get("sha256") == digest
        ):
            yield run


def trained(submissions: Path, recipe: Recipe, data: Data, split: Split, seed: int) -> Run | None:
    """The newest of those alike that is finished and has its weights; None where there is none."""
    for run in alike(submissions, recipe, data, split, seed):
        if (
            run.record["status"] == "finished"
            and not run.record.get("cut_short")
            and all(part.path("weights.npz").exists() for part in runs.members(run) or [run])
        ):
            return run
    return None


@contextmanager
def deaths_told() -> Iterator[None]:
    """Within, the death of a worker process is a DigitsError."""
    try:
        yield
    except WorkerError as error:
        raise DigitsError(str(error)) from error


@contextmanager
def taken(run: Run) -> Iterator[None]:
    """Within, the run is this process's alone, with nothing half-written in its folder.

    Raises DigitsError where another process is at work on it, or has finished it since its record was read.
    """
    with run.lock():
        remove_leftovers(run.folder)
        if runs.read(run.folder).record["status"] == "finished":
            raise DigitsError(f"the run {run.id} is finished, there is nothing to resume")
        yield


class Experiment:
    """Work on a run, as a context manager: the run is locked, BLAS held to one thread, and the workers started.

    Its submission becomes the newest in the folder `submissions`, unless that is None. Raises DigitsError where another
    process is at the run, the data is not that which the run began with, or the checkpoint can't be used.
    """

    training: Training

    def __init__(self, run: Run, data: Data, submissions: Path | None, workers: int) -> None:
        check_same_data(run, data)
        if "blend" in run.record["recipe"]:
            raise DigitsError(f"{run.id} is a blend, which is not trained: make it anew with `digits blend`")
        check_not_failed(run)
        self.run = run
        self.data = data
        self.submissions = submissions
        self.recipe = from_table(run.record["recipe"], f"{run.path('run.json')}, recipe")
        self.split = split_of(run)
        self.lesson = lesson(self.recipe, data, self.split, runs.ledger(run))
        self.train_rows, self.dev_rows = self.lesson.rows, self.lesson.held_out
        self._worker_count = workers
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(taken(self.run))
            stack.enter_context(single_threaded_blas())
            self.workers = stack.enter_context(Workers(self._worker_count))
            images, labels, dev = self.data.images, self.data.labels, self.dev_rows
            self.training = Training(
                self.recipe,
                images[self.train_rows],
                self.lesson.targets,
                images[dev],
                labels[dev],
                self.run.record["seed"],
                self.workers,
            )
            if self.run.path(CHECKPOINT).exists():
                self.training.restore(self.run.path(CHECKPOINT))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def train(self, stop: Callable[[], bool]) -> Iterator[Progress]:
        """Train, from the checkpoint where there is one, and yield each step; a step is done before `stop` is heard.

        When `stop()` is true the state is saved and the iteration ends before its time; `complete` tells. Raises
        DigitsError where the training diverges, which marks the run as failed, or where it can't be written.
        """
        training, checkpoint = self.training, self.run.path(CHECKPOINT)
        self.run.rewind_log(training.step)
        saved = time.monotonic()
        while not self.complete and not stop():
            try:
                with deaths_told():
                    progress = next(training)
            except DivergedError as error:
                self.run.update(status="failed", reason=str(error))
                raise
            if progress.record:
                self.run.append_log(record_table(progress.record))
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                training.save(checkpoint)
                saved = time.monotonic()
            yield progress
        training.save(checkpoint)

    @property
    def complete(self) -> bool:
        """All steps are done."""
        return self.training.step == self.training.steps

    def finish(self) -> None:
        """Judge, predict, plot and write down what was trained; afterwards the run is finished.

        Where not all steps are done, the weights are taken as they are, and the record says so in `cut_short`. Raises
        DigitsError where something can't be written; the run can then be resumed.
        """
        run, data, training = self.run, self.data, self.training
        short = {} if self.complete else {"cut_short": {"step": training.step, "steps": training.steps}}
        with deaths_told():
            network = training.predictor()
            write_whole(run.path("weights.npz"), network.save)
            train = score_table(*training.evaluate(data.images[self.train_rows], data.labels[self.train_rows]))
            plots.learning_curves(run.path("learning-curve.png"), run.log(), run.id, training.whole)
            views = self.recipe.predict
            dev = None if self.split.full else predict(network, data.images[self.dev_rows], self.workers, views)
            test = predict(network, data.test_images, self.workers, views)
        conclude(run, data, self.dev_rows, dev, test, self.submissions, train=train, seconds=training.seconds, **short)
        run.path(CHECKPOINT).unlink(missing_ok=True)


def conclude(
    run: Run,
    data: Data,
    dev_rows: Labels,
    dev: Array | None,
    test: Array,
    submissions: Path | None,
    train: dict[str, Any] | None,
    seconds: float,
    **record: Any,
) -> None:
    """Write down what came of a run: `dev` and `test` are its probabilities; afterwards it is finished.

    Raises DigitsError where something can't be written; the run can then be resumed.
    """
    scores: dict[str, Any] = {"train": train, "dev": None}
    if dev is not None:
        labels = data.labels[dev_rows]
        scores["dev"] = score_table(*judged(dev, labels))
        _write_arrays(run.path("dev.npz"), {"rows": dev_rows, "labels": labels, "probabilities": dev})
        plots.confusion_matrix(run.path("confusion.png"), labels, dev.argmax(axis=1), run.id)
        plots.mistakes(run.path("mistakes.png"), data.images[dev_rows], dev_rows, labels, dev, run.id)
    _write_predictions(run, test)
    if submissions is not None:
        runs.publish(run, submissions)  # before the run is finished: where this fails, --resume does it
    run.update(
        status="finished",
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        scores=scores,
        seconds={"train": round(seconds, 2)},
        **record,
    )


def predict_again(run: Run, data: Data, submissions: Path, workers: int) -> None:
    """Write a run's predictions and submission from its weights, and make its submission the newest.

    Raises DigitsError where the weights are missing or damaged, or the data is not that of the run.
    """
    check_same_data(run, data)
    with run.lock(), single_threaded_blas(), Workers(workers) as team:
        _write_predictions(run, predict_with(run, data.test_images, team))
    runs.publish(run, submissions)


def predict_with(run: Run, images: Images, workers: Workers) -> Array:
    """The probabilities (N, 10) that a run's network, its ensemble's or its blend's, gives images (N, 28, 28).

    Raises DigitsError where weights are missing or damaged.
    """
    if "blend" in run.record["recipe"]:
        of, weights, powers = zip(*runs.blended(run), strict=True)
        average = run.record["recipe"]["blend"]["average"]
        return Mix(weights, powers).of([predict_with(part, images, workers) for part in of], average)
    recipe = from_table(run.record["recipe"], f"{run.path('run.json')}, recipe")
    parts = [run] if recipe.ensemble.members == 1 else runs.members(run)
    count = recipe.ensemble.members
    if "members" in run.record.get("cut_short", {}):  # it was made of those that were finished
        parts = [part for part in parts if part.record["status"] == "finished"]
        count = run.record["cut_short"]["members"]
    if len(parts) < count:
        raise DigitsError(f"{run.id} has {len(parts)} of its {count} members here: train it anew")
    kinds = [recipe] if parts == [run] else [recipe.member(int(part.id)) for part in parts]
    with deaths_told():
        answers = [
            predict(load_weights(part), images, workers, kind.predict) for part, kind in zip(parts, kinds, strict=True)
        ]
    return blend(answers, recipe.ensemble.average)


def keep_submission(run: Run, data: Data, submissions: Path, workers: int) -> None:
    """Make a finished run's submission the newest, writing it anew only if it is not what the run wrote."""
    try:
        digest = hashlib.sha256(run.path("submission.csv").read_bytes()).hexdigest()
    except OSError:
        digest = ""
    if digest == (run.record.get("submission") or {}).get("sha256"):
        runs.publish(run, submissions)
    else:
        predict_again(run, data, submissions, workers)


@dataclass(frozen=True)
class View:
    """One image (28, 28), its label where there is one, and the ten probabilities that a run gives it."""

    image: NDArray[np.uint8]
    label: int | None
    probabilities: Array
    title: str

    @property
    def prediction(self) -> int:
        """The likeliest digit."""
        return int(self.probabilities.argmax())

    def draw(self, path: Path) -> None:
        """Write the picture as PNG. Raises DigitsError if it can't be written."""
        plots.digit(path, self.image, self.probabilities, self.label, self.title)


def look_at(run: Run, data: Data, index: int, test: bool) -> View:
    """What a run makes of the image in a row, from 0, of train.csv or test.csv.

    Raises DigitsError where there is no such row, or the run has no weights.
    """
    images = data.test_images if test else data.images
    table = "test.csv" if test else "train.csv"
    if not 0 <= index < len(images):
        raise DigitsError(f"{table} has no row {index}: its rows are 0 to {len(images) - 1}")
    with single_threaded_blas(), Workers(1) as workers:
        p = predict_with(run, images[index : index + 1], workers)[0]
    if test:
        return View(images[index], None, p, f"row {index} of {table} (ImageId {index + 1})")
    known = "other data than the run's"
    if "blend" in run.record["recipe"]:
        known = "of a blend, whose members may have been trained on it"
    elif run.record["data"]["sha256"] == data.sha256:
        split = split_of(run)
        trained_on, held_out = split.indices(data.labels)
        if index in held_out:
            known = "trained on by most members" if split.in_turn else "held out"
        else:
            known = "trained on" if index in trained_on else "kept from it"
    return View(images[index], int(data.labels[index]), p, f"row {index} of {table} ({known})")


def load_weights(run: Run) -> Network:
    """The run's trained network. Raises DigitsError where it is missing or damaged."""
    try:
        return Network.load(run.path("weights.npz"))
    except CheckpointError as error:
        remedy = "train anew" if run.record["status"] != "training" else f"go on with `digits train --resume {run.id}`"
        raise DigitsError(f"{error}: {remedy}") from error


def check_not_failed(run: Run) -> None:
    """Raise DigitsError where the run has failed, so that there is nothing to go on with."""
    if run.record["status"] == "failed":
        reason = run.record.get("reason", "it diverged")
        raise DigitsError(f"the run {run.id} failed for good ({reason}): train anew")


def check_same_data(run: Run, data: Data) -> None:
    """Raise DigitsError unless the data is that which the run began with."""
    if run.record["data"]["sha256"] != data.sha256:
        raise DigitsError(
            f"the run {run.id} was made with other data than this ({data.verdict}): point --data at the folder of "
            "the data that it began with, or train anew"
        )


def _write_predictions(run: Run, p: Array) -> None:
    """Write the test images' probabilities and the submission."""
    _write_arrays(run.path("test.npz"), {"probabilities": p})
    write_submission(run.path("submission.csv"), p.argmax(axis=1), len(p))
    digest = hashlib.sha256(run.path("submission.csv").read_bytes()).hexdigest()
    run.update(submission={"sha256": digest, "rows": len(p)})


def score_table(score: Score, loss: float) -> dict[str, Any]:
    return {
        "accuracy": score.accuracy,
        "standard_error": score.standard_error,
        "correct": score.correct,
        "images": score.images,
        "loss": loss,
    }


def _write_arrays(path: Path, arrays: dict[str, Array]) -> None:
    write_whole(path, lambda temporary: write_arrays(temporary, arrays))
