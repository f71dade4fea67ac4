"""Batches shared out to workers: the same as in one piece, the same on any number of workers, and no growth."""

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digits.machine import single_threaded_blas
from digits.nn import (
    SGD,
    Adam,
    AdamW,
    Array,
    BatchNorm,
    Conv2D,
    DataParallel,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    Layer,
    MaxPool2D,
    Muon,
    Network,
    Optimizer,
    Pixels,
    ReLU,
    Residual,
    SoftmaxCrossEntropy,
    WorkerError,
    Workers,
    probabilities,
    softmax,
)
from digits.nn.gradient import Gradient, even_blocks
from digits.nn.parallel import FORKS, dealt, predicted_at_once
from digits.nn.plans import Plans
from digits.nn.scratch import shared_zeros

IMAGES, SHAPE = 50, (5, 4, 1)
Load = Callable[[int, int, slice], tuple[Array | Pixels, Array, np.random.Generator]]


def perceptron(dtype: type = np.float64, units: int = 12, dropout: float = 0.0, hidden: int = 1) -> Network:
    """One whose hidden layers, but for the first, have gradients that are factored if they are large for the batch."""
    layers: list[Layer] = [Flatten()]
    for _ in range(hidden):
        layers += [Dense(units), ReLU(), Dropout(dropout)]
    layers.append(Dense(10))
    return Network(layers, SHAPE, dtype).initialise(np.random.default_rng(0))


def batch(images: int = IMAGES, dtype: type = np.float64) -> tuple[Array, Array]:
    rng = np.random.default_rng(1)
    return rng.normal(size=(images, *SHAPE)).astype(dtype), rng.integers(0, 10, images)


def loader(x: Array, labels: Array) -> Load:
    return lambda number, shard, part, _: (x[part], labels[part], np.random.default_rng((number, shard)))


def trained(
    network: Network,
    optimizer: Optimizer,
    *,
    count: int = 1,
    shards: int = 4,
    steps: int = 3,
    images: int = IMAGES,
    smoothing: float = 0.1,
    clip: float = 0.0,
) -> DataParallel:
    """The network after some steps on the same batch, and the mean of its weights after each of them."""
    x, labels = batch(images, network.params.dtype.type)
    with single_threaded_blas(), Workers(count) as workers:
        load = loader(x, labels)
        average = shared_zeros(network.params.shape, network.params.dtype)
        loss = SoftmaxCrossEntropy(smoothing)
        parallel = DataParallel(network, loss, optimizer, workers, images, shards, load, clip, average)
        for step in range(1, steps + 1):
            parallel.step(images, optimizer.lr, step, 1 / step)
    return parallel


@settings(deadline=None)
@given(images=st.integers(1, 500), shards=st.integers(1, 16))
def test_shards_are_an_even_partition_of_the_batch(images: int, shards: int) -> None:
    parallel = DataParallel(perceptron(), SoftmaxCrossEntropy(), SGD(), Workers(1), images, shards, loader(*batch()))
    slices = parallel.slices(images)
    assert [i for part in slices for i in range(images)[part]] == list(range(images))
    sizes = [part.stop - part.start for part in slices]
    assert len(sizes) == min(shards, images)
    assert 1 <= min(sizes) <= max(sizes) <= min(sizes) + 1


@pytest.mark.parametrize("images", [1, 3, IMAGES])
@pytest.mark.parametrize("shards", [1, 2, 4, 7])
@pytest.mark.parametrize(("units", "hidden"), [(12, 1), (300, 2)])
def test_a_step_is_that_of_the_whole_batch_in_one_piece(images: int, shards: int, units: int, hidden: int) -> None:
    network, plain = (perceptron(units=units, hidden=hidden) for _ in range(2))
    x, labels = batch(images)
    loss = SoftmaxCrossEntropy(0.1)
    wanted = loss.forward(plain.forward(x), labels)
    plain.backward(loss.backward(images))
    parallel = DataParallel(network, SoftmaxCrossEntropy(0.1), SGD(0.5), Workers(1), IMAGES, shards, loader(x, labels))
    result = parallel.step(images, 0.5, 1)
    assert (result.loss, result.correct) == pytest.approx(wanted, rel=1e-12)
    np.testing.assert_allclose(network.params, plain.params - 0.5 * plain.grads, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("count", [1, 2])
def test_each_images_loss_is_reported_where_it_was_reckoned(count: int) -> None:
    x, labels = batch()
    losses, numbers = shared_zeros((IMAGES,), np.float64), shared_zeros((IMAGES,), np.float64)

    def report(number: int, part: slice, found: Array) -> None:
        losses[part], numbers[part] = found, number

    with single_threaded_blas(), Workers(count) as workers:
        loss, load = SoftmaxCrossEntropy(0.1), loader(x, labels)
        parallel = DataParallel(perceptron(), loss, SGD(0.0), workers, IMAGES, 4, load, report=report)
        result = parallel.step(IMAGES, 0.0, 7)
    wanted = [loss.forward(perceptron().forward(x[i : i + 1]), labels[i : i + 1])[0] for i in range(IMAGES)]
    np.testing.assert_allclose(losses, wanted, rtol=1e-10)
    assert losses.sum() == pytest.approx(result.loss, rel=1e-12)
    assert (numbers == 7).all()


def test_a_small_batch_has_no_part_of_the_large_one_before() -> None:
    used, fresh = perceptron(), perceptron()
    x, labels = batch()
    first, second = (
        DataParallel(network, SoftmaxCrossEntropy(), SGD(0.1), Workers(1), IMAGES, 8, loader(x, labels))
        for network in (used, fresh)
    )
    first.step(IMAGES, 0.1, 1)
    fresh.params[...] = used.params
    for parallel in (first, second):
        parallel.step(3, 0.1, 2)
    np.testing.assert_array_equal(used.params, fresh.params)


def test_more_images_than_a_batch_has_are_refused() -> None:
    parallel = DataParallel(perceptron(), SoftmaxCrossEntropy(), SGD(), Workers(1), 3, 2, loader(*batch()))
    with pytest.raises(ValueError, match="4 images are more than a batch of 3"):
        parallel.step(4, 0.1, 1)


def test_the_gradient_of_a_large_layer_of_a_small_batch_is_made_of_its_factors_in_blocks_of_rows() -> None:
    network = perceptron(units=300, hidden=3)  # weights of 300 x 20, 300 x 300, 300 x 300 and 10 x 300
    gradient = Gradient(network, [network.replica()], 100)
    rows = [block.rows for block in gradient.blocks]
    assert rows == [None, None, slice(0, 208), slice(208, 300), None, slice(0, 208), slice(208, 300), None]
    places = [range(network.count)[block.place] for block in gradient.blocks]
    assert list(itertools.chain(*places)) == list(range(network.count))
    for block in (block for block in gradient.blocks if block.rows):
        layer = [layer for layer in network.layers if isinstance(layer, Dense)][block.layer]
        np.testing.assert_array_equal(network.params[block.place], layer.W[block.rows].ravel())
    assert all(block.rows is None for block in Gradient(network, [network.replica()], 150).blocks)


def test_weights_that_are_to_stay_whole_are_a_block_each() -> None:
    network = perceptron(units=300, hidden=3)
    hidden = network.hidden()
    assert [shape for _, shape in hidden] == [(300, 300), (300, 300)]
    for images, rows in ((100, slice(0, 300)), (150, None)):  # made of its factors, and added up
        gradient = Gradient(network, [network.replica()], images, [place for place, _ in hidden])
        assert [block.place for block in gradient.blocks if block.place in [place for place, _ in hidden]] == [
            place for place, _ in hidden
        ]
        assert [block.rows for block in gradient.blocks] == [None, None, rows, None, rows, None]
        places = [range(network.count)[block.place] for block in gradient.blocks]
        assert list(itertools.chain(*places)) == list(range(network.count))


@pytest.mark.parametrize("images", [80, 61, 9])  # a whole batch, and what may be left for the last
@pytest.mark.parametrize("shards", [1, 3])
def test_a_gradient_that_is_made_by_tiles_is_the_layers_own(images: int, shards: int) -> None:
    network = perceptron(units=400, hidden=2)
    replicas = [network.replica() for _ in range(shards)]
    gradient = Gradient(network, replicas, 80)
    (x, labels), loss = batch(images), SoftmaxCrossEntropy()
    for shard, replica in enumerate(replicas):
        part = slice(images * shard // shards, images * (shard + 1) // shards)
        loss.forward(replica.forward(x[part]), labels[part])
        gradient.expect(shard, part)
        replica.backward(loss.backward(images))
    found = np.concatenate([gradient.of(block, shards, images, keep=True) for block in gradient.blocks])
    loss.forward(network.forward(x), labels)
    network.backward(loss.backward(images))
    np.testing.assert_allclose(found, network.grads, atol=1e-12)


@pytest.mark.parametrize(
    ("parameters", "sizes"), [(100, [100]), (10_000, [4096, 4096, 1808]), (70_000, [17_536] * 3 + [17_392])]
)
def test_the_other_parameters_are_in_even_blocks(parameters: int, sizes: list[int]) -> None:
    assert [block.place.stop - block.place.start for block in even_blocks(5, 5 + parameters)] == sizes


def test_bytes_are_a_factor_of_a_gradient_as_floats_are() -> None:
    images, labels = np.random.default_rng(0).integers(0, 256, (4, *SHAPE), np.uint8), np.arange(4)
    float_steps, byte_steps = (
        DataParallel(
            perceptron(units=300),
            SoftmaxCrossEntropy(),
            SGD(0.1),
            Workers(1),
            4,
            2,
            lambda number, shard, part, _, of=of: (of(images[part]), labels[part], np.random.default_rng(0)),  # type: ignore[misc]
        )
        for of in (lambda pixels: pixels / 255, lambda pixels: Pixels(pixels, np.float64))
    )
    for parallel in (float_steps, byte_steps):
        parallel.step(4, 0.1, 1)
    assert any(block.rows for block in byte_steps._blocks)
    np.testing.assert_allclose(byte_steps.network.params, float_steps.network.params, rtol=1e-12)


def test_a_step_plans_nothing_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planning takes longer than the calls themselves: so a step's arrays are the same objects as the last step's."""
    planned: list[object] = []
    plan = Plans._plan
    monkeypatch.setattr(Plans, "_plan", lambda self, *of: (planned.append(of), plan(self, *of))[1])
    convolution = [Conv2D(8, padding="same"), BatchNorm(), ReLU()]
    for layers in (
        [Flatten(), Dense(12), ReLU(), Dropout(0.1), Dense(12), BatchNorm(), ReLU(), Dense(10)],
        [*convolution, MaxPool2D(), Flatten(), Dropout(0.1), Dense(12), ReLU(), Dense(10)],
        [*convolution, Residual([layer.spec() for layer in convolution]), GlobalAvgPool(), BatchNorm(), Dense(10)],
    ):
        network = Network(layers, (8, 8, 1), np.float32).initialise(np.random.default_rng(0))
        x, labels = np.random.default_rng(0).random((IMAGES, 8, 8, 1), np.float32), batch()[1]
        load = loader(x, labels)
        parallel = DataParallel(network, SoftmaxCrossEntropy(), Adam(), Workers(1), IMAGES, 2, load)
        for step in range(1, 30):
            if step == 3:
                assert planned
                planned.clear()
            parallel.step(IMAGES, 1e-3, step)
        assert not planned


OPTIMIZERS = [
    SGD(0.1),
    SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    Adam(0.01, weight_decay=0.01),
    AdamW(0.01),
]


@pytest.mark.parametrize(("images", "clip"), [(IMAGES, 0.0), (IMAGES, 0.1), (200, 0.0)])
def test_the_weights_of_hidden_layers_are_updated_as_matrices(images: int, clip: float) -> None:
    network, plain = (perceptron(units=300, hidden=3) for _ in range(2))
    optimizer = Muon(0.01, momentum=0.8)
    parallel = trained(network, optimizer, images=images, clip=clip, count=2)
    x, labels = batch(images)
    loss, state = SoftmaxCrossEntropy(0.1), {name: np.zeros(plain.count) for name in optimizer.states}
    matrices = np.zeros(plain.count, bool)
    for place, _ in plain.hidden():
        matrices[place] = True
    for step in (1, 2, 3):
        loss.forward(plain.forward(x), labels)
        plain.backward(loss.backward(images))
        if clip:
            plain.grads *= clip / np.linalg.norm(plain.grads)
        before, others = plain.params.copy(), {name: vector.copy() for name, vector in state.items()}
        optimizer.update(plain.params, plain.grads.copy(), state, 0.01, step, plain.decayed())
        plain.params[matrices] = before[matrices]
        for place, shape in plain.hidden():
            matrix = {name: vector[place].reshape(shape) for name, vector in others.items()}
            params, gradient = (vector[place].reshape(shape) for vector in (plain.params, plain.grads))
            optimizer.update(params, gradient.copy(), matrix, 0.01, step, [slice(0, params.size)])
            for name in optimizer.states:
                state[name][place] = matrix[name].ravel()
    np.testing.assert_allclose(network.params, plain.params, rtol=1e-7, atol=1e-9)
    for name in optimizer.states:
        np.testing.assert_allclose(parallel.state[name], state[name], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("units", "hidden"), [(3000, 1), (300, 2)])  # in four blocks; with rows of a matrix
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_blocks_of_parameters_are_updated_as_one_vector_would_be(optimizer: Optimizer, units: int, hidden: int) -> None:
    network, plain = (perceptron(units=units, hidden=hidden) for _ in range(2))
    parallel = trained(network, optimizer)
    x, labels = batch()
    loss, state = SoftmaxCrossEntropy(0.1), {name: np.zeros(plain.count) for name in optimizer.states}
    for step in (1, 2, 3):
        loss.forward(plain.forward(x), labels)
        plain.backward(loss.backward(IMAGES))
        optimizer.update(plain.params, plain.grads, state, optimizer.lr, step, plain.decayed())
    np.testing.assert_allclose(network.params, plain.params, rtol=1e-7, atol=1e-9)
    for name in optimizer.states:
        np.testing.assert_allclose(parallel.state[name], state[name], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("units", "hidden"), [(2000, 1), (800, 2)])
@pytest.mark.parametrize("clip", [0, 0.1])
@pytest.mark.parametrize("optimizer", [*OPTIMIZERS, Muon(0.01)], ids=repr)
def test_any_number_of_workers_gives_the_same_weights_bit_for_bit(
    optimizer: Optimizer, clip: float, units: int, hidden: int
) -> None:
    one, *others = (
        trained(perceptron(np.float32, units, 0.3, hidden), optimizer, count=count, images=333, shards=7, clip=clip)
        for count in (1, 2, 4)
    )
    for other in others:
        np.testing.assert_array_equal(other.network.params, one.network.params)
        np.testing.assert_array_equal(other.average, one.average)
        for name in optimizer.states:
            np.testing.assert_array_equal(other.state[name], one.state[name])


@pytest.mark.parametrize("optimizer", [SGD(0.1, weight_decay=0.5), AdamW(0.1, weight_decay=0.5)], ids=repr)
def test_a_step_decays_weights_and_not_biases(optimizer: Optimizer) -> None:
    plain = perceptron()
    before = plain.params.copy()
    decayed = trained(perceptron(), optimizer, steps=1).network
    trained(plain, type(optimizer)(0.1, weight_decay=0), steps=1)  # type: ignore[call-arg]
    matrices = np.zeros(plain.count, bool)
    for part in plain.decayed():
        matrices[part] = True
    np.testing.assert_array_equal(decayed.params[~matrices], plain.params[~matrices])
    # lr · weight_decay = 0.05
    np.testing.assert_allclose(
        decayed.params[matrices], plain.params[matrices] - 0.05 * before[matrices], rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize(("units", "hidden"), [(3000, 1), (300, 2)])
@pytest.mark.parametrize("shards", [1, 3])
def test_a_gradient_that_is_too_long_is_cut_to_the_limit_and_a_shorter_one_is_left(
    shards: int, units: int, hidden: int
) -> None:
    def moved(clip: float = 0.0) -> Array:
        network = perceptron(units=units, hidden=hidden)
        before = network.params.copy()
        moves: Array = trained(network, SGD(1.0), steps=1, shards=shards, clip=clip).network.params - before
        return moves

    free = moved()
    length = float(np.linalg.norm(free))
    for clip, wanted in ((length / 3, free / 3), (length * 1.01, free)):
        cut = moved(clip)
        np.testing.assert_allclose(cut, wanted, rtol=1e-9, atol=1e-13)


def test_the_average_follows_the_weights(forks: bool) -> None:
    weights = [trained(perceptron(), SGD(0.1), steps=steps).network.params for steps in (1, 2, 3)]
    average = trained(perceptron(), SGD(0.1), steps=3, count=2).average
    np.testing.assert_allclose(average, np.mean(weights, axis=0), rtol=1e-12, atol=1e-15)


def arrays_of(thing: object, seen: set[int]) -> list[Array]:
    """Every array that can be reached from an object of ours."""
    if id(thing) in seen:
        return []
    seen.add(id(thing))
    if isinstance(thing, np.ndarray):
        return [thing]
    if isinstance(thing, dict):
        parts = list(thing.values())
    elif isinstance(thing, (list, tuple)):
        parts = list(thing)
    elif type(thing).__module__.startswith("digits"):
        parts = list(vars(thing).values())
    else:
        return []
    return [array for part in parts for array in arrays_of(part, seen)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("optimizer", [*OPTIMIZERS, Muon(0.01)], ids=repr)
def test_every_number_of_a_training_has_the_precision_of_the_network(optimizer: Optimizer, dtype: type) -> None:
    parallel = trained(perceptron(dtype, dropout=0.3, hidden=2), optimizer)
    own = [parallel.network, parallel.state, parallel._replicas, parallel._losses, parallel.average]
    floats = [array.dtype for array in arrays_of(own, set()) if array.dtype.kind == "f"]
    assert len(floats) > 40
    assert set(floats) == {np.dtype(dtype)}


def places(parallel: DataParallel) -> set[int]:
    """Where the layers' activations and gradients lie."""
    layers = [layer for replica in parallel._replicas for layer in replica.layers]
    return {array.__array_interface__["data"][0] for layer in layers for array in layer.scratch._kept.values()}


def test_the_steady_state_takes_no_new_memory() -> None:
    network = perceptron(np.float32, units=500)
    x, labels = batch(2000, np.float32)
    first = Pixels(np.abs(x[:500] * 50).astype(np.uint8))

    def load(number: int, shard: int, part: slice, _: Network) -> tuple[Array | Pixels, Array, np.random.Generator]:
        """One shard as bytes, the others as floats."""
        return x[part] if shard else first, labels[part], np.random.default_rng(shard)

    parallel = DataParallel(network, SoftmaxCrossEntropy(0.1), SGD(momentum=0.9), Workers(1), 2000, 4, load)

    def steps(numbers: range) -> None:
        for number in numbers:
            parallel.step(2000, 1e-3, number)

    steps(range(1, 4))
    before = places(parallel)
    tracemalloc.start()
    steps(range(4, 7))
    early, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    steps(range(7, 20))
    late, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert places(parallel) == before
    assert len(before) >= 12
    assert late - early < 20_000
    assert peak - late < 500_000  # the activations of a layer in one shard are 1,000,000 bytes


def test_a_small_batch_does_not_take_the_memory_of_the_large_ones_away() -> None:
    network = perceptron(np.float32, units=50, dropout=0.3)
    x, labels = batch(dtype=np.float32)
    parallel = DataParallel(network, SoftmaxCrossEntropy(), SGD(), Workers(1), IMAGES, 2, loader(x, labels))
    parallel.step(IMAGES, 0.1, 1)
    before = places(parallel)
    for images in (10, 3, IMAGES, 10, IMAGES):
        parallel.step(images, 0.1, 1)
    assert places(parallel) == before


@pytest.fixture(params=[True, False], ids=["processes", "threads"])
def forks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether workers are forked; on a system whose libraries don't survive that they are threads."""
    if request.param and not FORKS:
        pytest.skip("no forks on this system")
    monkeypatch.setattr("digits.nn.parallel.FORKS", request.param)
    return bool(request.param)


def test_workers_that_train_side_by_side_do_not_meet(forks: bool) -> None:
    wanted = trained(perceptron(dropout=0.3), SGD(0.1), count=1, shards=5, steps=20).network.params
    params = trained(perceptron(dropout=0.3), SGD(0.1), count=3, shards=5, steps=20).network.params
    np.testing.assert_array_equal(params, wanted)


@contextmanager
def in_step() -> Iterator[None]:
    """Two workers wait for each other after each dense layer: had they one buffer, the first one's y would be lost."""
    barrier, forward = threading.Barrier(2, timeout=30), Dense.forward

    def wait(self: Dense, x: Array | Pixels, rng: np.random.Generator | None = None) -> Array:
        y = forward(self, x, rng)
        barrier.wait()
        return y

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dense, "forward", wait)
        yield


def test_workers_in_step_do_not_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("digits.nn.parallel.FORKS", False)
    wanted = trained(perceptron(dropout=0.3), SGD(0.1), count=1, shards=2).network.params
    with in_step():
        params = trained(perceptron(dropout=0.3), SGD(0.1), count=2, shards=2).network.params
    np.testing.assert_array_equal(params, wanted)


def test_workers_that_predict_in_step_do_not_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("digits.nn.parallel.FORKS", False)
    network, (x, _) = perceptron(), batch(1024)
    wanted = softmax(network.forward(x))
    with Workers(2) as workers, in_step():
        p = probabilities(network, workers, 1024, lambda part: x[part])
    np.testing.assert_allclose(p, wanted, rtol=1e-12)


@pytest.mark.parametrize(
    ("layers", "shape", "images"),
    [
        ([Flatten(), Dense(10)], (28, 28, 1), 512),
        ([Flatten(), Dense(5000), ReLU(), Dense(10)], (28, 28, 1), 128),
        ([Conv2D(8, padding="same"), MaxPool2D(), Flatten(), Dense(10)], (28, 28, 1), 128),
        ([Residual([Conv2D(16, padding="same").spec()]), Flatten(), Dense(10)], (28, 28, 16), 64),
        ([Conv2D(99)], (100, 100, 1), 64),
    ],
)
def test_many_small_images_are_predicted_at_a_time_and_few_large_ones(
    layers: list[Layer], shape: tuple[int, int, int], images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("digits.nn.parallel.PREDICTION_NUMBERS", 1 << 20)  # whatever the processor at hand
    assert predicted_at_once(Network(layers, shape)) == images


@pytest.mark.parametrize("images", [0, 1, 511, 512, 513, 1700])
@pytest.mark.parametrize("count", [1, 3])
def test_probabilities_are_the_softmax_of_the_networks_predictions(images: int, count: int, forks: bool) -> None:
    network = perceptron(dropout=0.5)
    x, _ = batch(images)
    with Workers(count) as workers:
        p = probabilities(network, workers, images, lambda part: x[part])
    assert p.shape == (images, 10)
    if images:
        np.testing.assert_allclose(p, softmax(network.forward(x)), rtol=1e-12)


@pytest.mark.parametrize("count", [1, 2, 7, 8])
@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_each_shard_is_dealt_to_one_worker(count: int, workers: int) -> None:
    hands = [dealt(count, worker, workers) for worker in range(workers)]
    assert sorted(itertools.chain(*hands)) == list(range(count))
    assert max(map(len, hands)) - min(map(len, hands)) <= 1


def test_no_worker_has_the_larger_shard_of_every_pair() -> None:
    assert [dealt(8, worker, 2) for worker in range(2)] == [[0, 3, 4, 7], [1, 2, 5, 6]]


def test_each_worker_has_its_share_and_the_callers_numbers(forks: bool) -> None:
    seen = shared_zeros((3, 3), np.float64)

    def job(worker: int, *numbers: float) -> None:
        seen[worker] = [worker, *numbers, 0, 0][:3]

    with Workers(3) as workers:
        team = workers.team(job, 8)
        team(2.5, -1)
        np.testing.assert_array_equal(seen, [[worker, 2.5, -1] for worker in range(3)])
        team(7)
        np.testing.assert_array_equal(seen, [[worker, 7, 0] for worker in range(3)])
        workers.team(lambda worker: seen.fill(worker), 1)()  # no more workers than there is work for
        np.testing.assert_array_equal(seen, 0)


class OddError(Exception):
    """One that can't be sent to another process as it is."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"{one} and {other}")


@pytest.mark.parametrize("count", [1, 4])
def test_an_error_in_a_worker_is_raised_in_the_caller(count: int, forks: bool) -> None:
    def load(number: int, shard: int, _: slice, __: Network) -> tuple[Array, Array, np.random.Generator]:
        if shard == number:
            raise ZeroDivisionError(f"shard {shard}")
        return *batch(IMAGES // 2), np.random.default_rng(0)

    with Workers(count) as workers:
        parallel = DataParallel(perceptron(), SoftmaxCrossEntropy(), SGD(), workers, IMAGES, 2, load)
        for number in (1, 0, 1):
            with pytest.raises(ZeroDivisionError, match=f"shard {number}"):
                parallel.step(IMAGES, 0.1, number)
        parallel.step(IMAGES, 0.1, 5)  # and the team is there as before


def test_an_error_that_cant_be_sent_is_told(forks: bool) -> None:
    def job(worker: int) -> None:
        if worker:
            raise OddError(1, 2)

    with Workers(2) as workers, pytest.raises((WorkerError, OddError), match="1 and 2"):
        workers.team(job, 2)()


def test_a_worker_that_is_killed_ends_the_step() -> None:
    def job(worker: int) -> None:
        if worker:
            os.kill(os.getpid(), signal.SIGKILL)

    if not FORKS:
        pytest.skip("no forks on this system")
    with Workers(2) as workers, pytest.raises(WorkerError, match=r"signal 9.*memory"):
        workers.team(job, 2)()


def test_workers_end_with_their_context(forks: bool) -> None:
    before = set(threading.enumerate())
    with Workers(3) as workers:
        workers.team(lambda worker: None, 3)()
        members = {*multiprocessing.active_children(), *threading.enumerate()} - before
        assert len(members) == 2
    assert not any(member.is_alive() for member in members)


def test_workers_end_when_their_caller_is_killed() -> None:
    if not FORKS:
        pytest.skip("no forks on this system")
    script = """
import os, signal
from digits.nn import Workers
team = Workers(2).team(lambda worker: worker and print(os.getpid(), flush=True), 2)
team()
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert done.returncode == -signal.SIGKILL
    assert int(done.stdout)  # the worker has closed its end of the pipe too, or `run` would have waited on
