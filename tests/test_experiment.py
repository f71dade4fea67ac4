"""From a recipe and data to a run that is whole, however often it is interrupted on the way."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jobs import begin, complete, files, quick_recipe
from PIL import Image
from threadpoolctl import threadpool_info

from digits import experiment, runs
from digits.data import Data
from digits.errors import DigitsError
from digits.experiment import Experiment
from digits.machine import single_threaded_blas
from digits.nn import NoAverage, WorkerError, Workers
from digits.predict import predict
from digits.recipe import Recipe
from digits.runs import Run
from digits.split import Split
from digits.stats import Score
from digits.train import Training


@pytest.fixture(scope="module")
def own_data(sample_data: Data) -> Data:
    """The sample's images as if they were the user's own."""
    return replace(sample_data, kind="own")


@pytest.fixture(scope="module")
def whole(own_data: Data, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run. Tests that change it make a copy first."""
    folder = tmp_path_factory.mktemp("whole") / "submissions"
    return complete(begin(folder, own_data), own_data, count=2)


@pytest.fixture
def copied(whole: Run, tmp_path: Path) -> Run:
    """A copy of the finished run, in a ledger of its own."""
    shutil.copytree(whole.folder.parent, tmp_path / "submissions")
    return runs.read(tmp_path / "submissions" / whole.id)


def refusal(act: Callable[[], object]) -> str:
    """The one line that a DigitsError says."""
    with pytest.raises(DigitsError) as caught:
        act()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def arrays(run: Run, name: str) -> dict[str, Any]:
    with np.load(run.path(name), allow_pickle=False) as file:
        return dict(file)


# --- a whole run


def test_a_run_has_all_its_files_and_no_others(whole: Run) -> None:
    names = {path.name for path in whole.folder.iterdir()}
    assert names - {".lock"} == {
        *("run.json", "log.jsonl", "weights.npz", "dev.npz", "test.npz", "submission.csv"),
        *("learning-curve.png", "confusion.png", "mistakes.png"),
    }
    for path in whole.folder.glob("*.png"):
        with Image.open(path) as image:
            assert min(image.size) > 200


def test_its_record_has_every_key_that_is_promised(whole: Run, own_data: Data) -> None:
    record = runs.read(whole.folder).record
    documented = Run.__doc__ or ""
    assert all(key in documented for key in record)
    assert set(record) == {
        *("format", "id", "status", "created", "finished", "recipe", "seed", "split", "data", "code", "machine"),
        *("workers", "parameters", "scores", "seconds", "submission", "submissions"),
    }
    assert record["status"] == "finished"
    assert record["created"] <= record["finished"]
    assert record["recipe"] == quick_recipe().resolved()
    assert record["data"] == {
        "kind": "own",
        "sha256": own_data.sha256,
        "train_images": 540,
        "dev_images": 60,
        "test_images": 80,
    }
    assert record["parameters"] == 784 * 32 + 32 + 32 * 10 + 10
    assert record["seconds"]["train"] > 0
    content = whole.path("submission.csv").read_bytes()
    assert record["submission"] == {"sha256": hashlib.sha256(content).hexdigest(), "rows": 80}
    assert record["submissions"] == []
    assert {"processor", "cores", "versions"} <= record["machine"].keys()


def test_its_scores_are_those_of_its_probabilities(whole: Run) -> None:
    dev, scores = arrays(whole, "dev.npz"), whole.record["scores"]
    p = dev["probabilities"]
    right = int((p.argmax(axis=1) == dev["labels"]).sum())
    assert p.shape == (60, 10)
    assert p.sum(axis=1) == pytest.approx(np.ones(60), abs=1e-5)
    assert runs.dev_score(whole) == Score(right, 60)
    assert scores["dev"]["accuracy"] == pytest.approx(right / 60)
    assert scores["dev"]["standard_error"] == pytest.approx(np.sqrt(right * (60 - right) / 60**3))
    likelihood = p[np.arange(60), dev["labels"]]
    assert scores["dev"]["loss"] == pytest.approx(float(-np.log(likelihood).mean()), rel=1e-4)
    assert scores["dev"]["accuracy"] > 0.5  # it has learnt something
    assert scores["train"]["images"] == 540
    last = whole.log()[-1]
    assert last["dev_accuracy"] == pytest.approx(scores["dev"]["accuracy"])
    assert last["dev_loss"] == pytest.approx(scores["dev"]["loss"], rel=1e-5)


def test_its_dev_rows_are_those_of_the_split(whole: Run, own_data: Data) -> None:
    dev = arrays(whole, "dev.npz")
    assert np.array_equal(dev["rows"], Split().indices(own_data.labels)[1])
    assert np.array_equal(dev["labels"], own_data.labels[dev["rows"]])


def test_its_submission_has_the_likeliest_digit_of_each_test_image(whole: Run) -> None:
    p = arrays(whole, "test.npz")["probabilities"]
    rows = [f"{number},{digit}" for number, digit in enumerate(p.argmax(axis=1), start=1)]
    assert whole.path("submission.csv").read_text().split() == ["ImageId,Label", *rows]
    newest = whole.folder.parent / "submission.csv"
    assert newest.read_bytes() == whole.path("submission.csv").read_bytes()


def test_its_log_has_a_line_an_epoch(whole: Run) -> None:
    log = whole.log()
    assert [line["epoch"] for line in log] == [1, 2, 3, 4, 5, 6]
    assert [line["step"] for line in log] == [11, 22, 33, 44, 55, 66]
    assert log[-1]["loss"] < log[0]["loss"]
    assert [line["seconds"] for line in log] == sorted(line["seconds"] for line in log)


@pytest.mark.usefixtures("unplotted")
def test_the_submission_of_sample_data_stays_in_its_run(sample_data: Data, tmp_path: Path) -> None:
    run = complete(begin(tmp_path, sample_data), sample_data)
    assert run.id.endswith("-quick-s0-sample")
    assert run.path("submission.csv").exists()
    assert not (tmp_path / "submission.csv").exists()


@pytest.mark.usefixtures("unplotted")
def test_averaged_weights_are_what_a_run_saves_judges_and_predicts_with(own_data: Data, tmp_path: Path) -> None:
    table = {**quick_recipe().resolved(), "average": {"name": "ema", "decay": 0.9}}
    table["network"] = [*table["network"][:-1], {"layer": "batchnorm"}, table["network"][-1]]
    recipe = experiment.from_table(table, "averaged")
    run, stopped = begin(tmp_path, own_data, recipe), begin(tmp_path, own_data, recipe)
    complete(run, own_data)
    train_until(stopped, own_data, 66)  # all steps done, and nothing judged yet
    complete(stopped, own_data, count=2)
    assert files(stopped) == files(run)
    assert run.log()[-1]["dev_accuracy"] == run.record["scores"]["dev"]["accuracy"]
    last = begin(tmp_path, own_data, replace(recipe, average=NoAverage()))
    complete(last, own_data)
    averaged, plain = (experiment.load_weights(each) for each in (run, last))
    assert (averaged.params != plain.params).mean() > 0.5
    assert (averaged.statistics != plain.statistics).all()
    with single_threaded_blas(), Workers(1) as workers:
        p = predict(averaged, own_data.test_images, workers)
    np.testing.assert_array_equal(arrays(run, "test.npz")["probabilities"], p)


@pytest.mark.usefixtures("unplotted")
def test_without_a_dev_split_there_is_no_dev_score(own_data: Data, tmp_path: Path) -> None:
    run = complete(begin(tmp_path, own_data, split=Split(0.0)), own_data)
    assert run.record["data"]["train_images"] == 600
    assert run.record["data"]["dev_images"] == 0
    assert run.record["scores"]["dev"] is None
    assert run.record["scores"]["train"]["images"] == 600
    assert runs.dev_score(run) is None
    assert all(line["dev_loss"] is line["dev_accuracy"] is None for line in run.log())
    for name in ("dev.npz", "confusion.png", "mistakes.png"):
        assert not run.path(name).exists()
    for name in ("submission.csv", "test.npz", "learning-curve.png"):
        assert run.path(name).exists()


@pytest.mark.usefixtures("unplotted")
def test_each_image_is_held_out_by_one_fold(own_data: Data, tmp_path: Path) -> None:
    recipe = quick_recipe(epochs=1)
    folds = [complete(begin(tmp_path, own_data, recipe, Split(0.0, folds=3, fold=i)), own_data) for i in range(3)]
    held_out = [arrays(run, "dev.npz")["rows"] for run in folds]
    assert sorted(np.concatenate(held_out)) == list(range(600))
    assert [run.record["split"]["fold"] for run in folds] == [0, 1, 2]


# --- the same again


@pytest.mark.usefixtures("unplotted")
@pytest.mark.parametrize("count", [1, 3])
def test_the_same_seed_gives_the_same_files_for_any_number_of_workers(
    whole: Run, own_data: Data, tmp_path: Path, count: int
) -> None:
    again = complete(begin(tmp_path, own_data), own_data, count)
    assert files(again) == files(whole)
    assert again.record["scores"] == whole.record["scores"]
    for line, before in zip(again.log(), whole.log(), strict=True):
        assert {**line, "seconds": 0} == {**before, "seconds": 0}


@pytest.mark.usefixtures("unplotted")
def test_another_seed_trains_otherwise_and_is_judged_on_the_same_images(
    whole: Run, own_data: Data, tmp_path: Path
) -> None:
    other = complete(begin(tmp_path, own_data, seed=1), own_data)
    assert files(other)["weights.npz"] != files(whole)["weights.npz"]
    assert files(other)["submission.csv"] != files(whole)["submission.csv"]
    assert np.array_equal(arrays(other, "dev.npz")["rows"], arrays(whole, "dev.npz")["rows"])
    judged = complete(begin(tmp_path, own_data, split=Split(seed=1)), own_data)
    assert not np.array_equal(arrays(judged, "dev.npz")["rows"], arrays(whole, "dev.npz")["rows"])


# --- interrupted, and gone on with


def train_until(run: Run, data: Data, step: int, count: int = 1) -> None:
    """Train, and stop after a step as a signal would have it."""
    with Experiment(run, data, run.folder.parent, count) as work:
        list(work.train(lambda: work.training.step >= step))


@pytest.mark.usefixtures("unplotted")
def test_a_run_that_is_stopped_at_any_steps_ends_as_if_it_had_not_been(
    whole: Run, own_data: Data, tmp_path_factory: pytest.TempPathFactory
) -> None:
    @given(st.lists(st.integers(0, 66), min_size=1, max_size=4), st.integers(1, 2))
    @settings(deadline=None, max_examples=8)
    def stopped(steps: list[int], count: int) -> None:
        run = begin(tmp_path_factory.mktemp("stopped"), own_data)
        for step in sorted(steps):
            train_until(run, own_data, step, count)
            assert runs.read(run.folder).status == "interrupted"
        complete(run, own_data)
        assert files(run) == files(whole)
        assert [{**line, "seconds": 0} for line in run.log()] == [{**line, "seconds": 0} for line in whole.log()]
        seconds = [0.0, *(line["seconds"] for line in run.log())]
        assert seconds == sorted(seconds)
        assert run.record["seconds"]["train"] == pytest.approx(seconds[-1], abs=0.02)
        assert not run.path("checkpoint.npz").exists()

    stopped()


@pytest.mark.usefixtures("unplotted")
def test_a_run_killed_between_checkpoints_logs_no_epoch_twice(
    whole: Run, own_data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(tmp_path, own_data)
    train_until(run, own_data, 15)
    with Experiment(run, own_data, tmp_path, 1) as work:
        steps = work.train(lambda: False)
        while next(steps).step < 40:  # two more epochs are logged, but no checkpoint is written
            pass
        steps.close()
    assert [line["step"] for line in run.log()] == [11, 22, 33]
    complete(run, own_data)
    assert [line["step"] for line in run.log()] == [11, 22, 33, 44, 55, 66]
    assert files(run) == files(whole)


@pytest.mark.usefixtures("unplotted")
def test_checkpoints_are_written_as_time_goes_by(
    own_data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiment, "CHECKPOINT_SECONDS", 0.0)
    run = begin(tmp_path, own_data)
    with Experiment(run, own_data, tmp_path, 1) as work:
        steps = work.train(lambda: False)
        while next(steps).step < 20:
            pass
        steps.close()
    with Experiment(run, own_data, tmp_path, 1) as work:
        assert work.training.step == 20


class Fault:
    """The disk is full, or the process killed, at the n-th file that is written."""

    def __init__(self, error: BaseException) -> None:
        self.error, self.left = error, 1 << 30
        self._fsync = os.fsync

    def __call__(self, descriptor: int) -> None:
        self.left -= 1
        if self.left < 0:
            raise self.error
        self._fsync(descriptor)


FAULTS = [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt()]


@pytest.mark.usefixtures("unplotted")
@pytest.mark.parametrize("error", FAULTS, ids=["full disk", "kill"])
def test_a_run_that_cannot_write_one_of_its_files_can_be_gone_on_with(
    whole: Run, own_data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    fault = Fault(error)
    monkeypatch.setattr(os, "fsync", fault)
    trained = begin(tmp_path / "trained", own_data)
    train_until(trained, own_data, 66)
    written = 0
    while True:
        shutil.copytree(trained.folder, tmp_path / f"{written}" / trained.id)
        run = runs.read(tmp_path / f"{written}" / trained.id)
        fault.left = written
        try:
            complete(run, own_data)
        except (DigitsError, KeyboardInterrupt) as caught:
            assert "free some space" in str(caught) or isinstance(caught, KeyboardInterrupt)  # noqa: PT017
        else:
            break
        fault.left = 1 << 30
        assert not [path.name for path in run.folder.glob(".*") if path.name != ".lock"]
        assert not list(run.folder.parent.glob(".*"))
        again = runs.read(run.folder)
        if again.record["status"] == "finished":  # all but the copy in submissions/, which `digits submission` renews
            experiment.keep_submission(again, own_data, run.folder.parent, 1)
        else:
            assert again.status == "interrupted"
            complete(again, own_data)
        assert files(again) == files(whole)
        assert (run.folder.parent / "submission.csv").read_bytes() == files(whole)["submission.csv"]
        assert not again.path("checkpoint.npz").exists()
        written += 1
    assert written >= 9  # log, checkpoint, weights, 3 plots, dev.npz, test.npz, submission.csv, run.json


@pytest.mark.usefixtures("unplotted")
def test_a_full_disk_in_the_middle_of_training_costs_nothing_that_was_saved(
    whole: Run, own_data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(tmp_path, own_data)
    monkeypatch.setattr(experiment, "CHECKPOINT_SECONDS", 0.0)
    fault = Fault(FAULTS[0])
    fault.left = 30
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fault)
        message = refusal(lambda: complete(run, own_data))
    assert message.startswith(f"{run.path('checkpoint.npz')} can't be written")
    with Experiment(runs.read(run.folder), own_data, tmp_path, 1) as work:
        assert work.training.step >= 28
    complete(run, own_data)
    assert files(run) == files(whole)


# --- what is damaged


def test_a_damaged_checkpoint_is_refused_and_without_it_the_run_begins_again(
    whole: Run, own_data: Data, tmp_path: Path, unplotted: None
) -> None:
    run = begin(tmp_path, own_data)
    train_until(run, own_data, 20)
    checkpoint = run.path("checkpoint.npz")
    good = checkpoint.read_bytes()
    for bad in (b"", good[:1000], good[:-1], good[:5000] + b"x" + good[5001:], whole.path("weights.npz").read_bytes()):
        checkpoint.write_bytes(bad)
        message = refusal(lambda: complete(run, own_data))
        assert message.startswith(f"the checkpoint {checkpoint} can't be used (")
        assert "delete it, and --resume starts the run again" in message
        assert checkpoint.read_bytes() == bad
    checkpoint.unlink()
    complete(run, own_data)
    assert files(run) == files(whole)
    assert len(run.log()) == 6


def test_a_checkpoint_of_another_network_is_refused(own_data: Data, tmp_path: Path) -> None:
    run, other = begin(tmp_path, own_data), begin(tmp_path, own_data, wider())
    train_until(run, own_data, 5)
    shutil.copy(run.path("checkpoint.npz"), other.path("checkpoint.npz"))
    assert "can't be used" in refusal(lambda: complete(other, own_data))


def wider() -> Recipe:
    recipe = quick_recipe()
    return replace(recipe, network=(recipe.network[0], {**recipe.network[1], "units": 40}, *recipe.network[2:]))


@pytest.mark.parametrize("change", [{"step": -1}, {"step": 10**6}, {"step": "x"}, {"seconds": None}, {"loss": "x"}])
def test_a_checkpoint_that_says_what_cannot_be_is_refused(
    own_data: Data, tmp_path: Path, change: dict[str, Any]
) -> None:
    run = begin(tmp_path, own_data)
    train_until(run, own_data, 5)
    content = arrays(run, "checkpoint.npz")
    progress = {**json.loads(str(content["progress"])), **change}
    np.savez(run.path("checkpoint.npz"), **{**content, "progress": np.array(json.dumps(progress))})
    assert "can't be used" in refusal(lambda: Experiment(run, own_data, tmp_path, 1).__enter__())


def test_weights_damaged_in_any_byte_are_refused(copied: Run, own_data: Data) -> None:
    path = copied.path("weights.npz")
    good = path.read_bytes()
    expected = experiment.load_weights(copied).params.tobytes()

    header = good.index(b"\x93NUMPY")  # the first array's, which says how long it is and where its values begin

    @given(st.integers(0, 200) | st.integers(0, len(good) - 1), st.integers(0, 255) | st.none())
    @settings(deadline=None, max_examples=200)
    @example(header + 8, good[header + 8] - 2)  # values begin two bytes too soon
    @example(header + 9, 39)  # a header longer than NumPy reads
    @example(header + 60, 0)  # a NUL in the middle
    def damaged(at: int, byte: int | None) -> None:
        path.write_bytes(good[:at] if byte is None else good[:at] + bytes([byte]) + good[at + 1 :])
        try:
            network = experiment.load_weights(copied)
        except DigitsError as error:
            assert str(error).startswith(str(path))  # noqa: PT017
            assert str(error).endswith("train anew")  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017
        else:
            assert network.params.tobytes() == expected

    damaged()


def test_missing_weights_say_what_to_do(copied: Run, own_data: Data) -> None:
    copied.path("weights.npz").unlink()
    message = refusal(lambda: experiment.predict_again(copied, own_data, copied.folder.parent, 1))
    assert message == f"{copied.path('weights.npz')} is missing: train anew"
    assert copied.path("submission.csv").exists()
    copied.update(status="training")
    assert f"digits train --resume {copied.id}" in refusal(lambda: experiment.load_weights(copied))
    copied.update(status="failed", reason="it diverged")
    assert "--resume" not in refusal(lambda: experiment.load_weights(copied))  # for that it would refuse


def test_a_run_goes_on_only_with_the_data_that_it_began_with(own_data: Data, tmp_path: Path, copied: Run) -> None:
    other = replace(own_data, sha256={**own_data.sha256, "test.csv": "other"})
    run = begin(tmp_path, own_data)
    for act in (
        lambda: complete(run, other),
        lambda: experiment.predict_again(copied, other, copied.folder.parent, 1),
    ):
        assert "was made with other data" in refusal(act)
    assert runs.read(run.folder).record == run.record


# --- one at a time


def test_a_run_is_trained_by_one_at_a_time(own_data: Data, tmp_path: Path) -> None:
    run = begin(tmp_path, own_data)
    with Experiment(run, own_data, tmp_path, 1):
        assert f"another process is at work on the run {run.id}" in refusal(lambda: complete(run, own_data))
        assert runs.read(run.folder).status == "training"
    with Experiment(run, own_data, tmp_path, 1):
        pass


@pytest.mark.usefixtures("unplotted")
def test_a_run_that_another_process_finished_meanwhile_is_not_trained_again(own_data: Data, tmp_path: Path) -> None:
    run = begin(tmp_path, own_data)
    seen = runs.read(run.folder)  # as a second --resume sees it, before the first one is done
    complete(run, own_data)
    before = {path.name: path.stat().st_mtime_ns for path in run.folder.iterdir() if path.name != ".lock"}
    refusal(lambda: complete(seen, own_data))
    assert {path.name: path.stat().st_mtime_ns for path in run.folder.iterdir() if path.name != ".lock"} == before


def test_blas_is_held_to_one_thread_while_workers_work(own_data: Data, tmp_path: Path) -> None:
    before = [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]
    with Experiment(begin(tmp_path, own_data), own_data, tmp_path, 2):
        assert {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"} == {1}
    assert [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"] == before


def test_the_death_of_a_worker_is_told_of_and_the_training_goes_on_later(
    own_data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(tmp_path, own_data)

    def killed(_: Training) -> None:
        raise WorkerError("a worker process has ended (signal 9): is there too little memory?")

    with monkeypatch.context() as patch:
        patch.setattr(Training, "__next__", killed)
        assert "signal 9" in refusal(lambda: complete(run, own_data))
    assert runs.read(run.folder).status == "interrupted"
    complete(run, own_data)
    assert runs.read(run.folder).status == "finished"


# --- a training that diverges


@pytest.mark.usefixtures("unplotted")
def test_a_training_that_diverges_fails_for_good_and_says_what_to_try(own_data: Data, tmp_path: Path) -> None:
    table = {**quick_recipe().resolved(), "optimizer": {"name": "sgd", "lr": 1e30}}
    run = begin(tmp_path, own_data, experiment.from_table(table, "wild"))
    message = refusal(lambda: complete(run, own_data))
    for part in ("at step", "of 66", "a learning rate of 1e+30", "lower lr in [optimizer] (try 1e+29 with sgd)"):
        assert part in message
    again = runs.read(run.folder)
    assert again.status == "failed"
    assert again.record["reason"] == message
    assert not again.path("submission.csv").exists()
    assert "failed for good" in refusal(lambda: complete(again, own_data))


@pytest.mark.usefixtures("unplotted")
def test_a_training_that_diverges_in_its_very_last_step_fails_too(own_data: Data, tmp_path: Path) -> None:
    table = {**quick_recipe(epochs=1, batch_size="all").resolved(), "optimizer": {"name": "sgd", "lr": 1e39}}
    run = begin(tmp_path, own_data, experiment.from_table(table, "wild"))
    assert "diverged" in refusal(lambda: complete(run, own_data))
    assert runs.read(run.folder).status == "failed"


def test_a_run_that_failed_is_not_gone_on_with_whatever_its_record_says_of_why(own_data: Data, tmp_path: Path) -> None:
    run = begin(tmp_path, own_data)
    run.update(status="failed")
    assert "failed for good" in refusal(lambda: complete(run, own_data))


# --- a finished run serves again


def found(run: Run, data: Data, recipe: Recipe | None = None, split: Split | None = None, seed: int = 0) -> bool:
    """`digits submission` would train nothing."""
    return bool(experiment.trained(run.folder.parent, recipe or quick_recipe(), data, split or Split(), seed))


def test_a_finished_run_of_just_this_is_found(copied: Run, own_data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(copied, own_data)
    assert not found(copied, own_data, recipe=quick_recipe(epochs=7))
    assert not found(copied, own_data, recipe=wider())
    assert not found(copied, own_data, seed=1)
    assert not found(copied, own_data, split=Split(0.2))
    assert not found(copied, own_data, split=Split(seed=1))
    assert not found(copied, replace(own_data, sha256={**own_data.sha256, "train.csv": "other"}))
    monkeypatch.setattr(experiment, "source_digest", lambda: "other code")
    assert not found(copied, own_data)


def test_only_a_finished_run_with_weights_serves_again(copied: Run, own_data: Data) -> None:
    for status in ("training", "failed"):
        copied.update(status=status)
        assert not found(copied, own_data)
    copied.update(status="finished")
    assert found(copied, own_data)
    copied.path("weights.npz").unlink()
    assert not found(copied, own_data)


def test_the_newest_of_several_is_found(copied: Run, own_data: Data) -> None:
    shutil.copytree(copied.folder, copied.folder.with_name("newer"))
    newer = runs.read(copied.folder.with_name("newer"))
    newer.update(created="2999-01-01T00:00:00+00:00")
    run = experiment.trained(copied.folder.parent, quick_recipe(), own_data, Split(), 0)
    assert run is not None
    assert run.id == "newer"


def spots(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in nested tables."""
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield (*path, key)
        yield from spots(inner, (*path, key))


def look(folder: Path, data: Data) -> None:
    """Whatever reads a run."""
    run = runs.read(folder)
    _ = run.status, run.sample, runs.dev_score(run)
    experiment.check_same_data(run, data)
    experiment.look_at(run, data, 0, test=False)
    experiment.keep_submission(run, data, folder.parent, 1)
    if run.record["status"] != "finished":
        with Experiment(run, data, folder.parent, 1):
            pass


@pytest.mark.parametrize("status", ["finished", "training"])
def test_a_record_damaged_by_hand_is_refused_in_a_sentence_and_breaks_no_other_run(
    copied: Run, own_data: Data, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    folder = copied.folder
    shutil.copytree(folder, folder.with_name("good"))
    network = experiment.load_weights(copied)
    monkeypatch.setattr(experiment, "load_weights", lambda _: network)
    monkeypatch.setattr(experiment, "predict", lambda *_: np.full((1, 10), 0.1))
    monkeypatch.setattr(experiment, "_write_predictions", lambda *_: None)
    record = {**copied.record, "status": status, "machine": {}}
    monkeypatch.setattr(experiment, "source_digest", lambda: copied.record["code"]["sha256"])
    broken = []
    for *way, last in spots(record):
        for bad in (None, "x", -1, {}, "removed"):
            damaged = inner = json.loads(json.dumps(record))
            for key in way:
                inner = inner[key]
            inner[last] = bad
            if bad == "removed":
                del inner[last]
            (folder / "run.json").write_text(json.dumps(damaged))
            try:
                with contextlib.suppress(DigitsError):
                    look(folder, own_data)
                assert experiment.trained(folder.parent, quick_recipe(), own_data, Split(), 0) is not None
            except Exception as error:  # noqa: BLE001
                broken.append(f"{'.'.join([*way, last])} = {bad!r}: {error!r}")
    assert broken == []
