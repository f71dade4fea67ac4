"""The recipe `seed` is the tutorial's network: its formulas, written plainly in float64, side by side with the kit.

The formulas have an image a column; the kit has an image a row, and keeps a column in memory: its (m, units) arrays
are views of (units, m) ones.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from digits.data import Data
from digits.machine import single_threaded_blas
from digits.nn import SGD, Array, Dense, Flatten, Network, Pixels, ReLU, SoftmaxCrossEntropy, Workers
from digits.predict import network_input, predict
from digits.recipe import Recipe, load
from digits.train import PARAMETERS, Progress, Training, generator

ALPHA = 0.1
STEPS = 20

Matrix = NDArray[np.float64]


def matrix(values: Array, rows: int, columns: int) -> Matrix:
    """The values in float64, which must be this many rows and columns."""
    assert values.shape == (rows, columns)
    return values.astype(np.float64)


class Tutorial:
    """784-10-10 by the formulas, every shape asserted. After `step`, all it went through is there to compare."""

    def __init__(self, first: Dense, second: Dense) -> None:
        self.W1 = matrix(first.W, 10, 784)
        self.b1 = matrix(first.b[:, np.newaxis], 10, 1)
        self.W2 = matrix(second.W, 10, 10)
        self.b2 = matrix(second.b[:, np.newaxis], 10, 1)

    def forward(self, X: Matrix) -> Matrix:
        """A2 = softmax(W2 A1 + b2), A1 = ReLU(W1 X + b1)"""
        m = X.shape[1]
        self.A0 = matrix(X, 784, m)
        self.Z1 = matrix(self.W1 @ self.A0 + self.b1, 10, m)
        self.A1 = matrix(np.maximum(self.Z1, 0), 10, m)
        self.Z2 = matrix(self.W2 @ self.A1 + self.b2, 10, m)
        self.A2 = matrix(np.exp(self.Z2) / np.exp(self.Z2).sum(axis=0), 10, m)
        return self.A2

    def step(self, X: Matrix, labels: NDArray[np.intp]) -> float:
        """Gradient descent on all images; the mean cross-entropy before it."""
        m = X.shape[1]
        A2 = self.forward(X)
        Y = matrix(np.eye(10)[labels].T, 10, m)
        self.dZ2 = matrix(A2 - Y, 10, m)
        self.dW2 = matrix(self.dZ2 @ self.A1.T / m, 10, 10)
        self.db2 = matrix(self.dZ2.sum(axis=1, keepdims=True) / m, 10, 1)
        self.dZ1 = matrix(self.W2.T @ self.dZ2 * (self.Z1 > 0), 10, m)
        self.dW1 = matrix(self.dZ1 @ self.A0.T / m, 10, 784)
        self.db1 = matrix(self.dZ1.sum(axis=1, keepdims=True) / m, 10, 1)
        self.W1 -= ALPHA * self.dW1
        self.b1 -= ALPHA * self.db1
        self.W2 -= ALPHA * self.dW2
        self.b2 -= ALPHA * self.db2
        return float(-np.log(A2[labels, np.arange(m)]).mean())


def columns(images: NDArray[np.uint8]) -> Matrix:
    """Images (m, 28, 28) as the tutorial has them: 784 x m, from 0 to 1."""
    return images.reshape(len(images), 784).T / 255


def dense_layers(network: Network) -> tuple[Dense, Dense]:
    first, second = (layer for layer in network.layers if isinstance(layer, Dense))
    return first, second


@pytest.fixture
def training(sample_data: Data) -> Iterator[Training]:
    """The recipe `seed` on the sample data, not a step taken."""
    none = slice(0, 0)
    images, labels = sample_data.images, sample_data.labels
    with single_threaded_blas(), Workers(2) as workers:
        yield Training(load("seed"), images, labels, images[none], labels[none], 0, workers)


def assert_close(kit: Array, tutorial: Matrix) -> None:
    """Equal to float32's precision."""
    assert kit.shape == tutorial.shape
    assert kit.dtype == np.float32
    np.testing.assert_allclose(kit, tutorial, rtol=1e-4, atol=2e-5)


def test_the_recipe_has_the_tutorials_values() -> None:
    recipe = load("seed")
    network = recipe.build()
    assert network.layers == [
        Flatten(),
        Dense(10, init="uniform", bound=0.5),
        ReLU(),
        Dense(10, init="uniform", bound=0.5),
    ]
    assert network.count == 7840 + 10 + 100 + 10
    assert recipe.optimizer == SGD(lr=ALPHA)
    assert (recipe.train.epochs, recipe.train.batch_size) == (500, "all")
    assert {recipe.schedule.multiple(step, 500) for step in (0, 250, 499)} == {1.0}
    assert recipe.loss == SoftmaxCrossEntropy()


def test_weights_and_biases_are_drawn_uniformly_from_minus_to_plus_one_half() -> None:
    network = load("seed").build().initialise(generator(0, PARAMETERS))
    first, second = dense_layers(network)
    for drawn in (first.W, first.b, second.W, second.b):
        assert (np.abs(drawn) <= 0.5).all()
        assert len(np.unique(drawn)) > 0.99 * drawn.size
        assert (drawn > 0).any()
        assert (drawn < 0).any()
    # 7960 numbers over ten equal bins: 796 in each, give or take 5 standard deviations of √(796 · 0.9)
    bins, _ = np.histogram(network.params, bins=10, range=(-0.5, 0.5))
    assert np.abs(bins - 796).max() < 5 * np.sqrt(796 * 0.9)


@pytest.mark.parametrize("kind", ["floats", "pixels"])
def test_each_step_of_the_way_is_the_tutorials_forward_and_backward(sample_data: Data, kind: str) -> None:
    images, labels = sample_data.images, sample_data.labels
    m = len(images)
    network = load("seed").build().initialise(generator(0, PARAMETERS))
    flatten, first, relu, second = network.layers
    assert isinstance(first, Dense)
    assert isinstance(second, Dense)
    tutorial = Tutorial(first, second)
    mean_loss = tutorial.step(columns(images), labels)

    x = network_input(images) if kind == "floats" else Pixels(images[..., np.newaxis])
    assert x.shape == (m, 28, 28, 1)
    a0 = flatten.forward(x)
    assert a0.shape == (m, 784)
    if isinstance(a0, np.ndarray):
        assert_close(a0.T, tutorial.A0)
    z1 = first.forward(a0)
    before = z1.copy(order="K")  # the next layer may work in place
    a1 = relu.forward(z1)
    z2 = second.forward(a1)
    for ours, theirs in ((before, tutorial.Z1), (a1, tutorial.A1), (z2, tutorial.Z2)):
        assert ours.T.flags.c_contiguous
        assert_close(ours.T, theirs)

    loss = SoftmaxCrossEntropy()
    total, correct = loss.forward(z2, labels)
    assert total / m == pytest.approx(mean_loss, rel=1e-5)
    assert correct == np.count_nonzero(tutorial.A2.argmax(axis=0) == labels)
    dz2 = loss.backward(m)
    da1 = second.backward(dz2)
    dz1 = relu.backward(da1)
    first.backward(dz1)
    for ours, theirs in ((dz2, tutorial.dZ2 / m), (dz1, tutorial.dZ1 / m)):  # ours has the mean in it already
        assert ours.T.flags.c_contiguous
        assert_close(m * ours.T, m * theirs)
    assert_close(second.dW, tutorial.dW2)
    assert_close(second.db[:, np.newaxis], tutorial.db2)
    assert_close(first.dW, tutorial.dW1)
    assert_close(first.db[:, np.newaxis], tutorial.db1)


def test_training_follows_the_tutorial_for_its_first_steps(training: Training, sample_data: Data) -> None:
    first, second = dense_layers(training.network)
    tutorial = Tutorial(first, second)
    X = columns(sample_data.images)
    start = training.network.params.copy()
    for step in range(1, STEPS + 1):
        loss = tutorial.step(X, sample_data.labels)
        progress: Progress = next(training)
        assert progress.step == step
        assert progress.loss == pytest.approx(loss, rel=1e-4)
        assert_close(first.W, tutorial.W1)
        assert_close(first.b[:, np.newaxis], tutorial.b1)
        assert_close(second.W, tutorial.W2)
        assert_close(second.b[:, np.newaxis], tutorial.b2)
    moved = np.abs(training.network.params - start).max()
    assert moved > 0.05  # hundreds of times what is called close

    p = predict(training.network, sample_data.images, Workers(1))
    assert p.shape == (len(X.T), 10)
    assert_close(p.T, tutorial.forward(X))


def test_the_second_bias_learns_which_the_tutorials_code_has_not(training: Training, sample_data: Data) -> None:
    first, second = dense_layers(training.network)
    tutorial = Tutorial(first, second)
    tutorial.step(columns(sample_data.images), sample_data.labels)
    before = second.b.copy()
    next(training)
    db2 = (before - second.b) / ALPHA
    # Each of its ten numbers is summed over the images. The tutorial's code sums over the classes as well, to one
    # number for all ten, which is zero because probabilities and one-hot labels both add up to 1.
    assert_close(db2[:, np.newaxis], tutorial.db2)
    assert abs(float(db2.sum())) < 1e-5
    assert np.abs(db2).max() > 0.01


def test_it_learns_as_the_tutorials_does(sample_data: Data) -> None:
    recipe: Recipe = load("seed")
    recipe = replace(recipe, train=replace(recipe.train, epochs=200, report_every=100))
    images, labels = sample_data.images, sample_data.labels
    with single_threaded_blas(), Workers(2) as workers:
        training = Training(recipe, images, labels, images[:0], labels[:0], 0, workers)
        records = [progress.record for progress in training if progress.record]
    tutorial = Tutorial(*dense_layers(recipe.build().initialise(generator(0, PARAMETERS))))
    losses = [tutorial.step(columns(images), labels) for _ in range(200)]
    assert [record.step for record in records] == [100, 200]
    assert [record.loss for record in records] == pytest.approx([losses[99], losses[199]], rel=0.01)
    assert records[1].loss < records[0].loss < losses[0]
