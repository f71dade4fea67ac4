"""Training: it learns, it is the same every time and however it is interrupted, and it says when it can't go on."""

import itertools
import json
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from digits.augment import augment as augmented
from digits.data import Data
from digits.errors import DigitsError
from digits.machine import single_threaded_blas
from digits.nn import Array, Workers, read_arrays, softmax, write_arrays
from digits.predict import network_input
from digits.recipe import Recipe, from_table
from digits.train import DivergedError, Progress, Record, Training, generator, record_table

FLATTEN, RELU, OUT = {"layer": "flatten"}, {"layer": "relu"}, {"layer": "dense", "units": 10}


def recipe(**changes: Any) -> Recipe:
    """A small perceptron: 20 images a step, so that the last batch of the tests' 90 is a small one."""
    table: dict[str, Any] = {
        "name": "small",
        "network": [FLATTEN, {"layer": "dense", "units": 16}, RELU, {"layer": "dropout", "rate": 0.2}, OUT],
        "train": {"epochs": 3, "batch_size": 20},
        "optimizer": {"name": "adamw", "lr": 0.002},
        "schedule": {"name": "one-cycle", "warmup": 0.3},
        "loss": {"label_smoothing": 0.05},
    }
    return from_table({**table, **changes}, "small")


PLAIN = {"loss": {}, "schedule": {}, "network": [FLATTEN, {"layer": "dense", "units": 32}, RELU, OUT]}

Start = Callable[..., Training]


@pytest.fixture(scope="session")
def start(sample_data: Data) -> Start:
    """`start(recipe)` is the training of it on 90 images of the sample data, judged on 40 others."""

    def start(
        recipe: Recipe, seed: int = 0, workers: Workers | None = None, images: int = 90, dev: int = 40
    ) -> Training:
        some, judged = slice(0, images), slice(500, 500 + dev)
        of = sample_data.images, sample_data.labels
        return Training(recipe, *(x[some] for x in of), *(x[judged] for x in of), seed, workers or Workers(1))

    return start


def state(training: Training, path: Path) -> dict[str, Any]:
    """All of a training's state but the time it took, as its checkpoint has it."""
    training.save(path)
    arrays = read_arrays(path)
    progress = json.loads(str(arrays.pop("progress")))
    del progress["seconds"]
    return {**arrays, **progress}


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


def timeless(steps: list[Progress]) -> list[Progress]:
    return [replace(step, record=step.record and replace(step.record, seconds=0)) for step in steps]


def test_it_learns_32_images_by_heart(start: Start) -> None:
    by_heart = recipe(**PLAIN, train={"epochs": 60, "batch_size": 8}, optimizer={"name": "adamw", "lr": 0.01})
    *_, last = start(by_heart, images=32)
    assert last.record is not None
    assert last.record.train_accuracy == 1
    assert last.record.loss < 0.01


def test_it_learns_what_holds_for_other_images(start: Start) -> None:
    *_, last = start(recipe(**PLAIN, train={"epochs": 15, "batch_size": 20}), images=500, dev=100)
    assert last.record is not None
    assert last.record.dev_accuracy is not None
    assert last.record.dev_accuracy > 0.6  # guessing gives 0.1


@pytest.mark.parametrize("batch_size", [20, "all"])
def test_the_same_seed_gives_the_same_training(start: Start, batch_size: int | str, tmp_path: Path) -> None:
    chosen = recipe(train={"epochs": 3, "batch_size": batch_size}, **{k: PLAIN[k] for k in ("loss",)})
    first, second = start(chosen), start(chosen)
    assert timeless(list(first)) == timeless(list(second))
    assert_same(state(first, tmp_path / "a.npz"), state(second, tmp_path / "b.npz"))


def test_other_seeds_give_other_weights_order_and_dropout(start: Start) -> None:
    first, second = start(recipe(), seed=0), start(recipe(), seed=1)
    assert (first.network.params != second.network.params).mean() > 0.9
    second.network.params[...] = first.network.params
    assert next(first).loss != next(second).loss


@pytest.mark.parametrize("batch_size", [20, "all"])
@pytest.mark.parametrize("augment", [{}, {"rotate": 10, "elastic": 0.5}, {"erase": 0.5, "mixup": 0.3, "cutmix": 1}])
def test_any_number_of_workers_gives_the_same_training(
    start: Start, batch_size: int | str, augment: dict[str, float], tmp_path: Path
) -> None:
    mining = DRAWN if batch_size == 20 and augment else {}
    chosen = recipe(train={"epochs": 3, "batch_size": batch_size}, augment=augment, mining=mining)
    results = []
    for count in (1, 2, 4):
        with single_threaded_blas(), Workers(count) as workers:
            training = start(chosen, workers=workers)
            results.append((timeless(list(training)), state(training, tmp_path / f"{count}.npz")))
    for steps, arrays in results[1:]:
        assert steps == results[0][0]
        assert_same(arrays, results[0][1])


@pytest.mark.parametrize("places", [[1, 4, 30], range(7, 29), range(3, 19), range(40)])  # 9, 66, 48 and 120 draws
@pytest.mark.parametrize("augment", [{"rotate": 20, "elastic": 0.5}, {"shift": 0.1, "mixup": 0.5}])
def test_a_hard_image_is_learnt_from_as_it_is_hardest(
    start: Start, augment: dict[str, float], places: Sequence[int]
) -> None:
    chosen = recipe(network=NORMED, augment=augment, mining={"share": 0.9, "hardest": 0.5, "draws": 3})
    training = start(chosen)
    for _ in range(5):
        next(training)
    rows, hard = np.arange(40), np.array(places)
    images, labels = training._hardest_draws(rows, hard, np.random.default_rng(3), training.network)
    # By hand: all draws, one after the other, and the loss of each by the network as it predicts.
    each = np.concatenate([rows, hard, hard])
    drawn, targets = augmented(
        training._images[each], training._labels[each], np.random.default_rng(3), chosen.augment, 10
    )
    if targets.ndim == 1:
        targets = np.eye(10)[targets]
    smooth = chosen.loss.label_smoothing
    p = softmax(training.network.forward(network_input(drawn)))
    losses = -(((1 - smooth) * targets + smooth / 10) * np.log(p)).sum(axis=1)
    assert images.shape == (40, 28, 28)
    for place in range(40):
        candidates = [place, *(40 + np.flatnonzero(each[40:] == place))]  # a row's number is its place
        hardest = max(candidates, key=lambda at: losses[at])
        np.testing.assert_array_equal(images[place], drawn[hardest])
        shares = labels[place] if labels.ndim == 2 else np.eye(10)[labels[place]]
        np.testing.assert_allclose(shares, targets[hardest], atol=1e-6)
    assert any((images[place] != drawn[place]).any() for place in hard)


def test_only_the_hard_ones_are_drawn_again(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = recipe(augment=AUGMENT, mining={"share": 0.5, "hardest": 0.4, "draws": 4}, train={"epochs": 3})
    with Workers(1) as workers:
        training, seen = start(chosen, workers=workers), []
        real = Training._augmented

        def counted(self: Training, rows: Array, rng: np.random.Generator) -> Any:
            seen.append(len(rows))
            return real(self, rows, rng)

        monkeypatch.setattr(Training, "_augmented", counted)
        list(training)
    assert sum(seen) == 3 * (45 + 3 * 18)  # 45 of 90 images an epoch, 18 of them hard


def test_an_epoch_is_of_the_images_that_were_hardest_when_they_were_last_learnt_from(start: Start) -> None:
    # With nothing random in a step and next to no learning rate, an image's loss is the same whenever it is seen.
    still = {"network": [FLATTEN, OUT], "loss": {}, "optimizer": {"name": "sgd", "lr": 1e-30}}
    train = {"epochs": 4, "batch_size": 20}
    training = start(recipe(**still, train=train, mining={"share": 0.5, "hardest": 1.0}))
    records = [step.record for step in training if step.record]
    assert training.steps == 4 * 3  # 45 of the 90 images, 20 a step
    images, labels = training._images, training._labels
    losses = -np.log(softmax(training.network.forward(network_input(images)))[np.arange(90), labels])
    # Images never seen are the hardest, so two epochs see each image once; from then on it is the same half.
    first, second, third, fourth = (record.loss for record in records)
    assert first + second == pytest.approx(2 * losses.mean(), rel=1e-5)
    hardest = np.sort(losses)[45:].mean()
    assert third == pytest.approx(hardest, rel=1e-5)
    assert fourth == pytest.approx(hardest, rel=1e-5)


AUGMENT = {"rotate": 10, "shift": 0.1, "elastic": 0.5}
NORMED = [
    {"layer": "conv", "channels": 4, "kernel": 5, "stride": 3},
    {"layer": "batchnorm"},
    RELU,
    FLATTEN,
    {"layer": "dense", "units": 12},
    {"layer": "batchnorm"},
    {"layer": "dropout", "rate": 0.2},
    OUT,
]
MINING = {"share": 0.5, "hardest": 0.4}
DRAWN = {"share": 0.6, "hardest": 0.5, "draws": 3}
AVERAGES: list[dict[str, Any]] = [{"name": "none"}, {"name": "ema", "decay": 0.8}, {"name": "swa", "start": 0.4}]

OPTIMIZERS: list[dict[str, Any]] = [
    {"name": "adamw"},
    {"name": "sgd", "lr": 0.05},
    {"name": "sgd", "lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.001},
    {"name": "muon", "lr": 0.01},
]


FIRST: dict[str, Any] = {"optimizer": OPTIMIZERS[0], "batch_size": 20}


@settings(deadline=None, max_examples=25)
@given(
    at=st.integers(0, 15),
    again=st.integers(0, 15),
    optimizer=st.sampled_from(OPTIMIZERS),
    batch_size=st.sampled_from([20, "all"]),
    augment=st.sampled_from([{}, AUGMENT]),
    average=st.sampled_from(AVERAGES),
    network=st.sampled_from([recipe().resolved()["network"], NORMED]),
    mining=st.sampled_from([{}, MINING]),
)
@example(at=3, again=4, **FIRST, augment={}, average=AVERAGES[0], network=NORMED, mining={})  # within the first epoch
@example(at=7, again=12, **FIRST, augment=AUGMENT, average=AVERAGES[1], network=NORMED, mining={})
@example(at=7, again=12, **FIRST, augment={}, average=AVERAGES[2], network=NORMED, mining={})  # around its start
@example(at=4, again=8, **FIRST, augment=AUGMENT, average=AVERAGES[0], network=NORMED, mining=MINING)  # of 3 a time
@example(at=4, again=8, **FIRST, augment=AUGMENT, average=AVERAGES[0], network=NORMED, mining=DRAWN)
def test_a_training_that_is_interrupted_ends_as_one_that_is_not(
    start: Start,
    at: int,
    again: int,
    optimizer: dict[str, Any],
    batch_size: int | str,
    augment: dict[str, float],
    average: dict[str, Any],
    network: list[dict[str, Any]],
    mining: dict[str, float],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("checkpoints")
    epochs = 3 if batch_size == 20 else 15
    train = {"epochs": epochs, "batch_size": batch_size, "report_every": 2}
    tables: dict[str, Any] = {"optimizer": optimizer, "augment": augment, "average": average, "network": network}
    chosen = recipe(train=train, mining=mining if batch_size == 20 else {}, **tables)
    whole = start(chosen)
    wanted = list(whole)

    steps = []
    for stop in sorted((at, again)):
        part = start(chosen)
        if steps:
            part.restore(folder / "checkpoint.npz")
        steps += itertools.islice(part, stop - len(steps))
        part.save(folder / "checkpoint.npz")
    last = start(chosen)
    last.restore(folder / "checkpoint.npz")
    steps += last
    assert timeless(steps) == timeless(wanted)
    assert_same(state(last, folder / "last.npz"), state(whole, folder / "whole.npz"))
    for name, array in last.predictor().named_arrays():
        np.testing.assert_array_equal(array, dict(whole.predictor().named_arrays())[name])


@pytest.mark.parametrize(
    ("average", "shares"),
    [
        ({"name": "ema", "decay": 0.8}, 0.8 ** np.arange(14, -1, -1.0)),
        ({"name": "swa", "start": 0.4}, [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]),
    ],
    ids=["ema", "swa"],
)
def test_the_weights_that_are_judged_are_the_average_of_those_after_each_step(
    start: Start, average: dict[str, Any], shares: Array
) -> None:
    training, plain = start(recipe(average=average)), start(recipe())
    weights, scores = [], []
    for progress in training:
        weights.append(training.network.params.copy())
        if progress.record:
            scores.append((progress.record.dev_accuracy, progress.record.dev_loss))
    list(plain)
    np.testing.assert_array_equal(training.network.params, plain.network.params)  # nothing else has changed
    wanted = np.average(weights, axis=0, weights=shares)
    np.testing.assert_allclose(training.predictor().params, wanted, rtol=1e-4, atol=1e-6)
    score, loss = training.evaluate(training._dev_images, training._dev_labels)
    assert scores[-1] == (score.accuracy, loss)
    assert loss != plain.evaluate(training._dev_images, training._dev_labels)[1]
    plain.network.params[...] = training.predictor().params
    assert loss == plain.evaluate(training._dev_images, training._dev_labels)[1]


def test_until_an_average_is_there_the_weights_themselves_are_judged(start: Start) -> None:
    training = start(recipe(average={"name": "swa", "start": 0.4}))
    for progress in training:
        assert (training.predictor() is training.network) == (progress.step < 10)


def test_averaged_weights_have_statistics_of_their_own(start: Start) -> None:
    longer = {"train": {"epochs": 8, "batch_size": 20}, "optimizer": {"lr": 0.01}}
    training = start(recipe(network=NORMED, average={"name": "ema", "decay": 0.9}, **longer), images=500, dev=100)
    list(training)
    averaged = training.predictor()
    observed = averaged.statistics.copy()
    x = network_input(training._images)
    convolved = averaged.layers[0].forward(x)
    np.testing.assert_allclose(averaged.layers[1].mean, convolved.mean(axis=(0, 1, 2)), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(averaged.layers[1].variance, convolved.var(axis=(0, 1, 2)), rtol=0.02)
    assert (observed != training.network.statistics).all()
    score, _ = training.evaluate(training._dev_images, training._dev_labels)
    assert score.accuracy > 0.5  # with statistics that are not theirs it guesses
    np.testing.assert_array_equal(averaged.statistics, observed)


@pytest.mark.parametrize("average", AVERAGES[1:], ids=lambda average: average["name"])
def test_any_number_of_workers_gives_the_same_averaged_weights(start: Start, average: dict[str, Any]) -> None:
    results = []
    for count in (1, 2, 4):
        with single_threaded_blas(), Workers(count) as workers:
            training = start(recipe(network=NORMED, average=average, augment=AUGMENT), workers=workers)
            results.append((timeless(list(training)), dict(training.predictor().named_arrays())))
    for steps, arrays in results[1:]:
        assert steps == results[0][0]
        assert_same(arrays, results[0][1])


def test_a_checkpoint_takes_a_training_back_too(start: Start, tmp_path: Path) -> None:
    training = start(recipe())
    next(training)
    training.save(tmp_path / "checkpoint.npz")
    first = list(training)
    training.restore(tmp_path / "checkpoint.npz")
    assert training.step == 1
    assert timeless(list(training)) == timeless(first)


def test_the_time_goes_on_from_the_checkpoint(start: Start, tmp_path: Path) -> None:
    training = start(recipe())
    next(training)
    assert training.seconds > 0
    training.save(tmp_path / "checkpoint.npz")
    other = start(recipe())
    other.restore(tmp_path / "checkpoint.npz")
    assert other.seconds == training.seconds


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def without(name: str) -> Callable[[Path], None]:
    def leave_out(path: Path) -> None:
        arrays = read_arrays(path)
        del arrays[name]
        write_arrays(path, arrays)

    return leave_out


def with_(**changes: Array) -> Callable[[Path], None]:
    return lambda path: write_arrays(path, {**read_arrays(path), **changes})


@pytest.mark.parametrize(
    "spoil",
    [
        damaged,
        Path.unlink,
        lambda path: path.write_text("not a checkpoint"),
        without("params"),
        without("state.m"),
        without("statistics"),
        without("progress"),
        with_(params=np.zeros(3, np.float32)),
        with_(progress=np.array("{")),
        with_(progress=np.array("[]")),
        with_(progress=np.array("{}")),
        with_(progress=np.array('{"step": "three", "seconds": 0, "loss": 0, "correct": 0}')),
        with_(progress=np.array('{"step": -1, "seconds": 0, "loss": 0, "correct": 0}')),
        with_(progress=np.array('{"step": 16, "seconds": 0, "loss": 0, "correct": 0}')),
        with_(progress=np.array('{"step": Infinity, "seconds": 0, "loss": 0, "correct": 0}')),
    ],
)
def test_a_checkpoint_that_is_none_says_so_and_changes_nothing(
    start: Start, spoil: Callable[[Path], None], tmp_path: Path
) -> None:
    training, path = start(recipe()), tmp_path / "checkpoint.npz"
    next(training)
    training.save(path)
    spoil(path)
    before = state(training, tmp_path / "before.npz")
    with pytest.raises(DigitsError, match=r"checkpoint\.npz can't be used .*: delete it"):
        training.restore(path)
    assert_same(state(training, tmp_path / "after.npz"), before)


def test_a_checkpoint_of_another_network_is_refused(start: Start, tmp_path: Path) -> None:
    start(recipe()).save(tmp_path / "checkpoint.npz")
    with pytest.raises(DigitsError, match="params is not of this network"):
        start(recipe(**PLAIN)).restore(tmp_path / "checkpoint.npz")


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(start: Start, tmp_path: Path) -> None:
    training, path = start(recipe()), tmp_path / "folder" / "checkpoint.npz"
    with pytest.raises(DigitsError, match=r"checkpoint\.npz can't be written"):
        training.save(path)
    path.parent.mkdir()
    training.save(path)
    training.save(path)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[bytes]]:
    """The images that networks are given from now on, under "train" to learn from, under "predict" to judge."""
    looks: dict[str, list[bytes]] = {"train": [], "predict": []}

    def watch(why: str) -> None:
        def watched(images: Array) -> Array:
            looks[why].extend(image.tobytes() for image in images)
            return network_input(images)

        monkeypatch.setattr(f"digits.{why}.network_input", watched)

    for why in looks:
        watch(why)
    return looks


def test_an_epoch_shows_every_image_once_in_a_new_order(start: Start, looks: dict[str, list[bytes]]) -> None:
    shown = looks["train"]
    training = start(recipe(), dev=0)
    epochs = []
    for progress in training:
        if progress.record:
            epochs.append(list(shown))
            shown.clear()
    assert len(epochs) == 3
    assert Counter(epochs[0]) == Counter(epochs[1]) == Counter(epochs[2])
    assert len(set(epochs[0])) == 90
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_no_stream_of_random_numbers_is_used_twice(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[float] = []

    def watched(*stream: int) -> np.random.Generator:
        drawn.append(generator(*stream).random())
        return generator(*stream)

    monkeypatch.setattr("digits.train.generator", watched)
    for seed in (0, 5):
        list(start(recipe(), seed=seed))
    # In a training the parameters have one, each of 3 epochs one, and so has each of 4 shards of each of 15 steps.
    assert len(drawn) == 2 * (1 + 3 + 4 * 15)
    assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize("batch_size", [20, "all"])
def test_images_to_learn_from_are_deformed_anew_at_every_look_and_those_to_judge_by_never(
    start: Start, batch_size: int | str, sample_data: Data, looks: dict[str, list[bytes]]
) -> None:
    list(start(recipe(train={"epochs": 3, "batch_size": batch_size}, augment=AUGMENT)))
    images = [image.tobytes() for image in sample_data.images]
    assert len(looks["train"]) == len(set(looks["train"])) == 3 * 90
    assert not set(looks["train"]) & set(images)
    assert looks["predict"] == 3 * images[500:540]


def test_a_full_batch_stays_bytes(start: Start, looks: dict[str, list[bytes]]) -> None:
    assert len(list(start(recipe(train={"epochs": 3, "batch_size": "all"})))) == 3
    assert not looks["train"]


def test_records_say_where_the_training_stands(start: Start) -> None:
    chosen = recipe(train={"epochs": 5, "batch_size": 20, "report_every": 2})
    training = start(chosen)
    assert training.steps == 25
    steps, records = [], []
    for progress in training:
        steps.append(progress)
        if progress.record:
            records.append(progress.record)
            score, dev_loss = training.evaluate(training._dev_images, training._dev_labels)
            assert (progress.record.dev_accuracy, progress.record.dev_loss) == (score.accuracy, dev_loss)
    assert [step.step for step in steps] == list(range(1, 26))
    assert [(record.epoch, record.step) for record in records] == [(2, 10), (4, 20), (5, 25)]
    # The mean over the images of the epoch: its last batch is of 10, the others of 20.
    weights = np.array([20, 20, 20, 20, 10]) / 90
    assert records[1].loss == pytest.approx(weights @ [step.loss for step in steps[15:20]], rel=1e-9)
    assert records[2].lr == 0.002 * chosen.schedule.multiple(24, 25)
    assert 0 < records[0].seconds < records[1].seconds < records[2].seconds
    assert list(training) == []  # it is over


def test_without_a_dev_split_there_are_no_dev_figures(start: Start) -> None:
    *_, last = start(recipe(), dev=0)
    assert last.record is not None
    assert (last.record.dev_loss, last.record.dev_accuracy) == (None, None)


def test_a_record_is_a_line_of_json() -> None:
    record = Record(5, 1, 0.1, 2.3, 0.1, None, None, 1.5)
    assert json.loads(json.dumps(record_table(record))) == {
        "step": 5,
        "epoch": 1,
        "lr": 0.1,
        "loss": 2.3,
        "train_accuracy": 0.1,
        "dev_loss": None,
        "dev_accuracy": None,
        "seconds": 1.5,
    }


def test_evaluation_is_the_share_that_is_right_and_the_mean_cross_entropy(start: Start, sample_data: Data) -> None:
    training = start(recipe())
    images, labels = sample_data.images, sample_data.labels
    score, loss = training.evaluate(images, labels)
    p = softmax(training.network.forward(network_input(images)))
    assert (score.correct, score.images) == (np.count_nonzero(p.argmax(axis=1) == labels), 600)
    assert loss == pytest.approx(-np.log(p[range(600), labels]).mean(), rel=1e-5)


def test_a_probability_of_zero_is_a_large_loss_and_no_infinite_one(start: Start, sample_data: Data) -> None:
    training = start(recipe())
    training.network.params[...] *= 1e4
    _, loss = training.evaluate(sample_data.images, sample_data.labels)
    assert 10 < loss < math.inf


def test_a_batch_size_beyond_the_data_is_all_of_it(start: Start) -> None:
    training = start(recipe(train={"epochs": 2, "batch_size": 1000}))
    assert training.steps == 2
    assert next(training).loss == pytest.approx(next(start(recipe(train={"epochs": 2, "batch_size": 90}))).loss)


def test_a_full_batch_is_worth_what_its_images_are_in_any_order(start: Start) -> None:
    whole = start(recipe(**PLAIN, train={"epochs": 8, "batch_size": "all"}))
    batch = start(recipe(**PLAIN, train={"epochs": 8, "batch_size": 90}))
    losses = [[step.loss for step in training] for training in (whole, batch)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    np.testing.assert_allclose(whole.network.params, batch.network.params, atol=1e-3)


@pytest.mark.parametrize(
    "network",
    [
        [FLATTEN, OUT],
        [FLATTEN, FLATTEN, OUT],
        [{"layer": "dropout", "rate": 0.2}, FLATTEN, OUT],
        [FLATTEN, {"layer": "dropout", "rate": 0.2}, OUT],
        [FLATTEN, RELU, OUT],
        [RELU, FLATTEN, OUT],
    ],
    ids=lambda layers: " ".join(layer["layer"] for layer in layers),
)
@pytest.mark.parametrize("batch_size", [20, "all"])
def test_any_layer_may_come_first_whatever_the_batch(
    start: Start, network: list[dict[str, Any]], batch_size: int | str
) -> None:
    steps = list(start(recipe(network=network, train={"epochs": 5, "batch_size": batch_size})))
    assert steps[-1].loss < steps[0].loss


@pytest.mark.parametrize("batch_size", [20, "all"])
def test_blank_images_are_images_too(sample_data: Data, batch_size: int | str) -> None:
    images, labels = np.zeros((30, 28, 28), np.uint8), sample_data.labels[:30]
    training = Training(
        recipe(train={"epochs": 2, "batch_size": batch_size}), images, labels, images, labels, 0, Workers(1)
    )
    *_, last = training
    assert math.isfinite(last.loss)


def test_a_clipped_training_takes_shorter_steps_and_is_the_same_on_any_number_of_workers(start: Start) -> None:
    sgd = {"optimizer": {"name": "sgd", "lr": 1.0}, "schedule": {}}
    clipped = recipe(**sgd, train={"epochs": 1, "batch_size": 20, "clip": 0.01})
    weights = []
    for count in (1, 3):
        with single_threaded_blas(), Workers(count) as workers:
            training = start(clipped, workers=workers)
            for _ in range(3):
                before = training.network.params.astype(float)
                next(training)
                assert np.linalg.norm(training.network.params - before) == pytest.approx(0.01, rel=1e-3)
            weights.append(training.network.params.copy())
    np.testing.assert_array_equal(*weights)


@pytest.mark.parametrize("lr", [1e30, 1e38])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_loss_that_is_no_longer_finite_ends_the_training(start: Start, optimizer: str, lr: float) -> None:
    training = start(recipe(optimizer={"name": optimizer, "lr": lr}, schedule={}))
    with pytest.raises(DivergedError) as caught:
        list(training)
    step = training.step + 1
    assert step > 1
    for part in (f"step {step} of 15", f"learning rate of {lr:g}", "lower lr in [optimizer]", f"{lr / 10:g}", "warmup"):
        assert part in str(caught.value)


def test_an_infinite_loss_ends_the_training_as_one_that_is_no_number_does(start: Start) -> None:
    training = start(recipe())
    training.network.params[-10:] = [-3e38, 3e38] * 5  # the biases of the last layer: log 0 for every other label
    with pytest.raises(DivergedError, match="the loss is inf at step 1 of 15"):
        next(training)


@pytest.mark.parametrize("dev", [0, 40])
def test_weights_that_the_last_step_has_lost_end_the_training_too(start: Start, dev: int) -> None:
    one_step = recipe(optimizer={"name": "sgd", "lr": 1e300}, schedule={}, train={"epochs": 1, "batch_size": "all"})
    with pytest.raises(DivergedError, match="lower lr"):
        list(start(one_step, dev=dev))


def test_nothing_touches_the_global_random_state(start: Start, tmp_path: Path) -> None:
    before = random.getstate(), np.random.get_state()  # noqa: NPY002
    training = start(recipe())
    list(training)
    training.save(tmp_path / "checkpoint.npz")
    training.restore(tmp_path / "checkpoint.npz")
    after = random.getstate(), np.random.get_state()  # noqa: NPY002
    assert after[0] == before[0]
    assert str(after[1]) == str(before[1])
    np.testing.assert_array_equal(after[1][1], before[1][1])


def test_the_global_random_state_changes_no_training(start: Start) -> None:
    losses = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        losses.append([step.loss for step in start(recipe())])
    assert losses[0] == losses[1]


def test_a_training_is_float32_and_says_so_in_its_checkpoint(start: Start, tmp_path: Path) -> None:
    training = start(recipe())
    list(training)
    training.save(tmp_path / "checkpoint.npz")
    kinds = {name: array.dtype for name, array in read_arrays(tmp_path / "checkpoint.npz").items()}
    assert kinds.pop("progress").kind == "U"
    assert kinds == dict.fromkeys(("params", "statistics", "state.m", "state.v"), np.dtype(np.float32))


def test_the_images_and_labels_stay_as_they_are(start: Start, sample_data: Data) -> None:
    images, labels = sample_data.images.copy(), sample_data.labels.copy()
    for batch_size in (20, "all"):
        list(start(recipe(train={"epochs": 1, "batch_size": batch_size})))
    np.testing.assert_array_equal(sample_data.images, images)
    np.testing.assert_array_equal(sample_data.labels, labels)
