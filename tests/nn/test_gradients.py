"""Every layer, and whole networks, against finite differences in float64. A new layer is one more line of CASES.

A layer is checked along random directions with a random cotangent c: f(x) = c · y(x) has the gradient that `backward`
makes of c, so (f(x + h u) - f(x - h u)) / 2h = u · gradient for any direction u.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from digits.nn import (
    LAYERS,
    Array,
    AvgPool2D,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    Layer,
    MaxPool2D,
    Network,
    ReLU,
    Residual,
    Shape,
    SiLU,
    SpatialDropout,
)

IMAGES, LARGER = 5, 9
H = 1e-5
MASK_SEED = 7  # of the generator that each `forward` of a check is given afresh: the same dropout masks every time


@dataclass(frozen=True)
class Case:
    """Layers, and the shape of an image before them."""

    layers: tuple[Layer, ...]
    shape: Shape

    def network(self, dtype: type = np.float64) -> Network:
        """The layers with random parameters, biases too, and all of them with a gradient for their input."""
        network = Network(copy.deepcopy(self.layers), self.shape, dtype)
        network.params[...] = np.random.default_rng(1).normal(size=network.count)
        for layer in network.order:
            layer.input_gradient = True
        return network


CASES = {
    "dense": Case((Dense(4),), (6,)),
    "dense, uniform": Case((Dense(3, init="uniform"),), (5,)),
    "dense, one unit": Case((Dense(1),), (6,)),
    "dense, one input": Case((Dense(4),), (1,)),
    "relu": Case((ReLU(),), (6,)),
    "relu on images": Case((ReLU(),), (4, 3, 2)),
    "silu": Case((SiLU(),), (6,)),
    "silu on images": Case((SiLU(),), (4, 3, 2)),
    "silu in the place of what came before": Case((Conv2D(8, bias=False), SiLU(), Conv2D(4), SiLU()), (7, 8, 8)),
    "dropout": Case((Dropout(0.4),), (6,)),
    "dropout on images": Case((Dropout(0.4),), (4, 3, 2)),
    "dropout that drops nothing": Case((Dropout(0.0),), (6,)),
    "flatten": Case((Flatten(),), (4, 3, 2)),
    "linear network": Case((Flatten(), Dense(3)), (4, 3, 1)),
    "tutorial's network": Case((Flatten(), Dense(5, init="uniform"), ReLU(), Dense(5, init="uniform")), (4, 3, 1)),
    "perceptron": Case(
        (Flatten(), Dense(8), ReLU(), Dropout(0.3), Dense(6), ReLU(), Dropout(0.2), Dense(4)), (3, 3, 1)
    ),
    "convolution": Case((Conv2D(3),), (5, 6, 2)),
    "convolution of many channels": Case((Conv2D(5),), (7, 9, 8)),
    "convolution, same": Case((Conv2D(4, 5, padding="same"),), (6, 7, 8)),
    "convolution, stride 2": Case((Conv2D(4, 5, 2, "same"),), (9, 12, 8)),
    "convolution, stride 2, few channels": Case((Conv2D(4, 3, 2, "same"),), (9, 12, 2)),
    "convolution, stride 3 that leaves pixels out": Case((Conv2D(3, 2, 3),), (7, 8, 8)),
    "convolution, padded": Case((Conv2D(2, 3, 1, 2, bias=False),), (4, 3, 8)),
    "convolution, a bias a place": Case((Conv2D(4, 3, 2, "same", "untied"), ReLU()), (9, 12, 8)),
    "convolution, 1 x 1": Case((Conv2D(3, 1),), (4, 3, 9)),
    "convolution of the whole image": Case((Conv2D(6, 4),), (4, 4, 8)),
    "batch norm": Case((BatchNorm(),), (4, 3, 2)),
    "batch norm on vectors": Case((BatchNorm(epsilon=0.1),), (6,)),
    "batch norm before a convolution": Case((BatchNorm(), Conv2D(4)), (6, 7, 8)),
    "batch norm before a convolution without biases": Case((BatchNorm(), Conv2D(4, 2, 2, bias=False)), (6, 7, 2)),
    "batch norm before a padded convolution": Case((ReLU(), BatchNorm(), Conv2D(4, 5, 2, "same")), (9, 12, 8)),
    "batch norm before a padded one without biases": Case((BatchNorm(), Conv2D(3, 4, 1, 3, False)), (3, 2, 2)),
    "batch norm before a bias a place": Case((BatchNorm(), Conv2D(4, 3, bias="untied")), (5, 6, 2)),
    "two batch norms before a convolution": Case((BatchNorm(), BatchNorm(), Conv2D(4, padding=1)), (4, 5, 2)),
    "max pooling": Case((MaxPool2D(),), (4, 6, 2)),
    "max pooling that leaves pixels out": Case((MaxPool2D(3),), (7, 8, 2)),
    "max pooling by 1": Case((MaxPool2D(1),), (2, 3, 2)),
    "average pooling": Case((AvgPool2D(),), (5, 6, 2)),
    "global average pooling": Case((GlobalAvgPool(),), (3, 4, 2)),
    "spatial dropout": Case((SpatialDropout(0.4),), (3, 2, 5)),
    "residual": Case(
        (Residual([{"layer": "conv", "channels": 3, "padding": "same"}, {"layer": "relu"}, {"layer": "batchnorm"}]),),
        (4, 5, 3),
    ),
    "residual with a projection": Case(
        (Residual([{"layer": "batchnorm"}, {"layer": "conv", "channels": 4, "stride": 2, "padding": "same"}]),),
        (5, 6, 3),
    ),
    "residual in a residual": Case(
        (Residual([Residual([{"layer": "relu"}]).spec(), {"layer": "conv", "channels": 2, "kernel": 1}]), ReLU()),
        (3, 3, 2),
    ),
    "convolutional network": Case(
        (
            *(Conv2D(8, padding="same"), ReLU(), MaxPool2D(), Conv2D(9, bias=False), BatchNorm(), ReLU()),
            *(SpatialDropout(0.2), Conv2D(4, 3, 2, 1), Flatten(), Dropout(0.2), Dense(3)),
        ),
        (8, 9, 1),
    ),
    "dropout first": Case((Dropout(0.2), Flatten(), Dense(4), ReLU(), Dense(3)), (3, 3, 2)),
}

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())

LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "rows first": np.ascontiguousarray,
    "units first": np.asfortranarray,
    "with gaps": lambda x: np.repeat(x, 2, axis=0)[::2],
}


def inputs(case: Case, images: int = IMAGES, dtype: type = np.float64) -> Array:
    return np.random.default_rng(2).normal(size=(images, *case.shape)).astype(dtype)


def cotangent(network: Network, images: int = IMAGES) -> Array:
    c = np.random.default_rng(3).normal(size=(images, *network.output_shape))
    return c.astype(network.params.dtype)


def forward(network: Network, x: Array) -> Array:
    """A copy of the output in training, always with the same dropout masks."""
    return network.forward(x, np.random.default_rng(MASK_SEED)).copy()


def backward(network: Network, dy: Array) -> Array:
    """The gradient at the network's input, which `Network.backward` leaves out; `grads` are filled in."""
    for layer in reversed(network.order):
        dy = layer.backward(dy)
    return dy.copy()


@every_case
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_gradients_are_the_finite_differences(case: Case, layout: Callable[[Array], Array]) -> None:
    network, rng = case.network(), np.random.default_rng(4)
    x = inputs(case)
    forward(network, layout(x))
    c = cotangent(network)
    dx = backward(network, layout(c))
    grads = network.grads.copy()

    def f(x: Array, params: Array) -> float:
        twin = case.network()
        twin.params[...] = params
        return float((c * forward(twin, layout(x))).sum())

    for _ in range(3):
        u, v = rng.normal(size=x.shape), rng.normal(size=network.count)
        along_x = (f(x + H * u, network.params) - f(x - H * u, network.params)) / (2 * H)
        along_params = (f(x, network.params + H * v) - f(x, network.params - H * v)) / (2 * H)
        assert along_x == pytest.approx(float((dx * u).sum()), rel=1e-7, abs=1e-8)
        assert along_params == pytest.approx(float(grads @ v), rel=1e-7, abs=1e-8)


def test_the_table_has_every_layer() -> None:
    assert {type(layer) for case in CASES.values() for layer in case.layers} == set(LAYERS.values())


@every_case
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_the_order_of_an_array_in_memory_changes_no_prediction(case: Case, layout: Callable[[Array], Array]) -> None:
    network, x = case.network(), inputs(case)
    y = network.forward(x).copy()
    np.testing.assert_allclose(network.forward(layout(x)), y, rtol=1e-12, atol=1e-12)


@every_case
@pytest.mark.parametrize("images", [1, 2, LARGER])
def test_a_batch_leaves_nothing_behind_for_the_next(case: Case, images: int) -> None:
    fresh, used = case.network(), case.network()
    x, c = inputs(case), cotangent(fresh)
    forward(used, inputs(case, images))
    backward(used, cotangent(used, images))
    np.testing.assert_array_equal(forward(used, x), forward(fresh, x))
    np.testing.assert_array_equal(backward(used, c), backward(fresh, c))
    np.testing.assert_array_equal(used.grads, fresh.grads)


@every_case
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_network_computes_in_its_own_precision(case: Case, dtype: type) -> None:
    network = case.network(dtype)
    y = forward(network, inputs(case, dtype=dtype))
    dx = backward(network, cotangent(network))
    assert {network.params.dtype, network.grads.dtype, y.dtype, dx.dtype} == {np.dtype(dtype)}


@every_case
def test_float32_agrees_with_float64(case: Case) -> None:
    single, double = case.network(np.float32), case.network()
    x, c = inputs(case, dtype=np.float32), cotangent(single)
    for one, other in (
        (forward(single, x), forward(double, x.astype(float))),
        (backward(single, c), backward(double, c.astype(float))),
        (single.grads, double.grads),
    ):
        # A number that is the difference of large ones has their error: what counts is the size of the largest.
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * np.abs(other).max(initial=1e-3))


@every_case
def test_a_layer_does_not_write_on_its_input_or_its_parameters(case: Case) -> None:
    network, x = case.network(), inputs(case)
    given, params = x.copy(), network.params.copy()
    forward(network, x)
    backward(network, cotangent(network))
    np.testing.assert_array_equal(x, given)
    np.testing.assert_array_equal(network.params, params)


@every_case
def test_a_replica_computes_the_same_and_keeps_its_work_to_itself(case: Case) -> None:
    network, x = case.network(), inputs(case)
    c = cotangent(network)
    y = network.forward(x, np.random.default_rng(MASK_SEED))
    network.backward(c)
    before = y.copy(), network.grads.copy()
    twin = network.replica()
    assert np.shares_memory(twin.params, network.params) or not network.count
    twin.forward(-x, np.random.default_rng(MASK_SEED + 1))
    twin.backward(-2 * c)
    np.testing.assert_array_equal(y, before[0])
    np.testing.assert_array_equal(network.grads, before[1])
    np.testing.assert_array_equal(forward(twin, x), before[0])
    twin.backward(c)
    np.testing.assert_array_equal(twin.grads, before[1])


@every_case
def test_shapes_are_known_before_the_first_batch(case: Case) -> None:
    network = case.network()
    x = inputs(case)
    for layer in network.layers:
        x = layer.forward(x)
        assert x.shape == (IMAGES, *layer.output_shape)
    assert network.output_shape == network.layers[-1].output_shape
