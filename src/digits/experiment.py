"""From a recipe and the data to a run that is whole: trained, judged, predicted, plotted and written down."""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from digits import runs
from digits.data import Data
from digits.errors import DigitsError
from digits.files import write_whole
from digits.machine import describe, single_threaded_blas
from digits.nn import Array, CheckpointError, Network, Workers, read_arrays, write_arrays
from digits.predict import predict
from digits.recipe import Recipe, from_table
from digits.runs import Run
from digits.split import Split
from digits.stats import Score
from digits.submission import write_submission
from digits.train import Progress, Training, record_table
from digits.version import code_version, source_digest

CHECKPOINT = "checkpoint.npz"
CHECKPOINT_SECONDS = 20.0  # of training that a kill may cost


def begin(recipe: Recipe, data: Data, split: Split, seed: int, threads: int, submissions: Path) -> Run:
    """A new run, not trained yet. Raises DigitsError if the folder can't be written or the split can't be drawn."""
    train, dev = split.indices(data.labels)
    record = {
        "recipe": recipe.resolved(),
        "seed": seed,
        "split": split.spec(),
        "data": {
            "kind": data.kind,
            "sha256": data.sha256,
            "train_images": len(train),
            "dev_images": len(dev),
            "test_images": len(data.test_images),
        },
        "code": code_version(),
        "machine": describe(),
        "threads": threads,
        "parameters": recipe.build().count,
    }
    label = f"{recipe.name}-s{seed}" + ("-sample" if data.kind == "sample" else "")
    return runs.create(submissions, label, record)


def trained(submissions: Path, recipe: Recipe, data: Data, split: Split, seed: int) -> Run | None:
    """The newest finished run of just this: recipe, seed, split, data and deciding source; None where there is none."""
    wanted = {"recipe": recipe.resolved(), "seed": seed, "split": split.spec()}
    for run in runs.every(submissions):
        record = run.record
        if (
            record["status"] == "finished"
            and {key: record[key] for key in wanted} == wanted
            and record["data"]["sha256"] == data.sha256
            and record["code"]["sha256"] == source_digest()
            and run.path("weights.npz").exists()
        ):
            return run
    return None


class Experiment:
    """Work on a run, as a context manager: the run is locked, BLAS held to one thread, and the workers started.

    Raises DigitsError where another process is at the run, or the data is not that which the run began with.
    """

    def __init__(self, run: Run, data: Data, submissions: Path, threads: int) -> None:
        self.run = run
        self.data = data
        self.submissions = submissions
        if run.record["data"]["sha256"] != data.sha256:
            raise DigitsError(
                f"the run {run.id} was made with other data than this ({data.verdict}): point --data at the data it "
                "began with, or train anew"
            )
        self.recipe = from_table(run.record["recipe"], f"{run.path('run.json')}, recipe")
        self.split = Split(**run.record["split"])
        self.train_rows, self.dev_rows = self.split.indices(data.labels)
        self._threads = threads
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with self._stack as stack:
            stack.enter_context(self.run.lock())
            stack.enter_context(single_threaded_blas())
            self.workers = stack.enter_context(Workers(self._threads))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def train(self, stop: Callable[[], bool]) -> Iterator[Progress]:
        """Train, from the checkpoint where there is one, and yield each step; a step is done before `stop` is heard.

        When `stop()` is true the state is saved and the iteration ends before its time; `complete` tells. Raises
        DigitsError where the training diverges, which marks the run as failed, or where it can't be written.
        """
        images, labels = self.data.images, self.data.labels
        rows, dev = self.train_rows, self.dev_rows
        self.training = training = Training(
            self.recipe, images[rows], labels[rows], images[dev], labels[dev], self.run.record["seed"], self.workers
        )
        checkpoint = self.run.path(CHECKPOINT)
        if checkpoint.exists():
            training.restore(checkpoint)
        self.run.rewind_log(training.step)
        saved = time.monotonic()
        while not self.complete:
            if stop():
                training.save(checkpoint)
                return
            try:
                progress = next(training)
            except DigitsError as error:
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

        Raises DigitsError where something can't be written; the run can then be resumed.
        """
        run, data, training = self.run, self.data, self.training
        weights = run.path("weights.npz")
        write_whole(weights, training.network.save)
        train_score, train_loss = training.evaluate(data.images[self.train_rows], data.labels[self.train_rows])
        scores: dict[str, Any] = {"train": _score_table(train_score, train_loss), "dev": None}
        if not self.split.full:
            labels = data.labels[self.dev_rows]
            score, loss = training.evaluate(data.images[self.dev_rows], labels)
            scores["dev"] = _score_table(score, loss)
            p = predict(training.network, data.images[self.dev_rows], self.workers)
            _write_arrays(run.path("dev.npz"), {"rows": self.dev_rows, "labels": labels, "probabilities": p})
        self.predict(training.network)
        self.plot()
        run.update(
            status="finished",
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            scores=scores,
            seconds={"train": round(training.seconds, 2)},
        )
        run.path(CHECKPOINT).unlink(missing_ok=True)
        runs.publish(run, self.submissions)

    def predict(self, network: Network) -> None:
        """Write the test images' probabilities and the submission."""
        run = self.run
        p = predict(network, self.data.test_images, self.workers)
        _write_arrays(run.path("test.npz"), {"probabilities": p})
        write_submission(run.path("submission.csv"), p.argmax(axis=1), len(self.data.test_images))
        digest = hashlib.sha256(run.path("submission.csv").read_bytes()).hexdigest()
        run.update(submission={"sha256": digest, "rows": len(p)})

    def plot(self) -> None:
        """Draw the learning curves, and from the dev predictions the confusion matrix and the mistakes."""
        from digits import plots

        run = self.run
        plots.learning_curves(run.path("learning-curve.png"), run.log(), run.id, self.training.whole)
        if self.split.full:
            return
        dev = read_arrays(run.path("dev.npz"))
        labels, p = dev["labels"], dev["probabilities"]
        plots.confusion_matrix(run.path("confusion.png"), labels, p.argmax(axis=1), run.id)
        plots.mistakes(run.path("mistakes.png"), self.data.images[dev["rows"]], dev["rows"], labels, p, run.id)


def weights(run: Run) -> Network:
    """The run's trained network. Raises DigitsError where it is missing or damaged."""
    try:
        return Network.load(run.path("weights.npz"))
    except CheckpointError as error:
        remedy = "train anew" if run.record["status"] == "finished" else f"go on with `digits train --resume {run.id}`"
        raise DigitsError(f"{error}: {remedy}") from error


def dev_score(run: Run) -> Score | None:
    """The run's dev score, None where it has none (yet)."""
    table = (run.record.get("scores") or {}).get("dev")
    return Score(table["correct"], table["images"]) if table else None


def _score_table(score: Score, loss: float) -> dict[str, Any]:
    return {
        "accuracy": score.accuracy,
        "standard_error": score.standard_error,
        "correct": score.correct,
        "images": score.images,
        "loss": loss,
    }


def _write_arrays(path: Path, arrays: dict[str, Array]) -> None:
    write_whole(path, lambda temporary: write_arrays(temporary, arrays))
