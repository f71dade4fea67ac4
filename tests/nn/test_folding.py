"""A network whose batch norms are folded predicts what it did before."""

import numpy as np
import pytest
from test_gradients import CASES, Case, every_case, inputs

from digits.nn import (
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
    SpatialDropout,
    folded,
)


def trained(layers: list[Layer], shape: Shape, dtype: type = np.float64) -> Network:
    """A network with parameters and statistics as a training might leave them, some γ below 0."""
    network = Network(layers, shape, dtype).initialise(np.random.default_rng(0))
    rng = np.random.default_rng(1)
    network.params += rng.normal(0, 0.3, network.count).astype(dtype)
    for layer in norms(network):
        layer.gamma[...] = rng.normal(1, 1, layer.gamma.shape)
        layer.mean[...] = rng.normal(0, 2, layer.mean.shape)
        layer.variance[...] = rng.uniform(0.1, 4, layer.variance.shape)
    return network


def norms(network: Network) -> list[BatchNorm]:
    def below(layers: list[Layer]) -> list[Layer]:
        return [leaf for layer in layers for leaf in (below(list(layer.parts())) if layer.parts() else [layer])]

    return [layer for layer in below(network.layers) if isinstance(layer, BatchNorm)]


def names(network: Network) -> str:
    return " ".join(layer.name for layer in network.layers)


def assert_same(network: Network, x: Array, rtol: float = 1e-10, atol: float = 1e-10) -> Network:
    wanted = network.forward(x).copy()
    params, statistics = network.params.copy(), network.statistics.copy()
    twin = folded(network)
    np.testing.assert_allclose(twin.forward(x), wanted, rtol=rtol, atol=atol)
    np.testing.assert_array_equal(network.params, params)
    np.testing.assert_array_equal(network.statistics, statistics)
    assert twin.params.dtype == network.params.dtype
    assert twin.output_shape == network.output_shape
    return twin


@every_case
def test_a_network_of_any_layers_predicts_the_same_when_it_is_folded(case: Case) -> None:
    assert_same(trained(list(case.network().layers), case.shape), inputs(case))


def block(*layers: Layer) -> Residual:
    return Residual([layer.spec() for layer in layers])


# The layers, an image's shape, and the layers that are left.
FOLDS: dict[str, tuple[list[Layer], Shape, str]] = {
    "behind a convolution": ([Conv2D(3, bias=False), BatchNorm(), ReLU()], (5, 6, 2), "conv relu"),
    "behind a padded convolution": ([Conv2D(3, 5, 2, "same"), BatchNorm()], (7, 6, 8), "conv"),
    "behind a dense layer": ([Dense(4), BatchNorm(epsilon=0.1)], (6,), "dense"),
    "behind a dropout": ([Conv2D(3), SpatialDropout(0.2), BatchNorm(), Dropout(0.1)], (5, 6, 2), "conv"),
    "before a convolution": ([BatchNorm(), Conv2D(3)], (5, 6, 2), "conv"),
    "before a convolution of stride 2": ([ReLU(), BatchNorm(), Conv2D(3, 3, 2)], (6, 7, 2), "relu conv"),
    "before a 1 x 1 convolution": ([ReLU(), BatchNorm(), Conv2D(3, 1, padding="same")], (4, 4, 8), "relu conv"),
    "before a convolution that pads nothing": ([BatchNorm(), Conv2D(3, 2, 2, "same")], (4, 6, 2), "conv"),
    "before a padded convolution": ([BatchNorm(), Conv2D(3, padding=1)], (5, 6, 2), "conv"),
    "before one padded at the end": ([BatchNorm(), Conv2D(3, 2, padding="same")], (4, 4, 2), "conv"),
    "before one padded at the right": ([BatchNorm(), Conv2D(3, 2, 2, "same")], (4, 5, 2), "conv"),
    "before one of stride 2 without biases": ([BatchNorm(), Conv2D(3, 5, 2, "same", False)], (9, 8, 8), "conv"),
    "before one with a bias a place": ([BatchNorm(), Conv2D(3, 3, bias="untied")], (5, 6, 2), "conv"),
    "before and behind a padded convolution": (
        [ReLU(), BatchNorm(), Conv2D(3, 5, 2, "same"), BatchNorm()],
        (7, 6, 8),
        "relu conv",
    ),
    "two in a row before a padded convolution": ([BatchNorm(), BatchNorm(), Conv2D(3, padding=2)], (5, 6, 2), "conv"),
    "between two padded convolutions": (
        [Conv2D(3, padding=1), ReLU(), BatchNorm(), Conv2D(2, padding=1), ReLU(), BatchNorm(), Conv2D(2, padding=1)],
        (6, 6, 2),
        "conv relu conv relu conv",
    ),
    "before a dense layer": ([Dense(5), ReLU(), BatchNorm(), Dropout(0.5), Dense(3)], (4,), "dense relu dense"),
    "before a flatten and a dense layer": ([ReLU(), BatchNorm(), Flatten(), Dense(3)], (3, 4, 2), "relu flatten dense"),
    "before two flattens": ([BatchNorm(), Flatten(), Flatten(), Dense(3)], (3, 4, 2), "flatten flatten dense"),
    "two in a row behind": ([Dense(4), BatchNorm(), BatchNorm()], (6,), "dense"),
    "two in a row before": ([ReLU(), BatchNorm(), BatchNorm(), Dense(4)], (6,), "relu dense"),
    "before and behind": ([ReLU(), BatchNorm(), Conv2D(3), BatchNorm()], (5, 6, 2), "relu conv"),
    "between two convolutions": ([Conv2D(3), BatchNorm(), Conv2D(2)], (6, 6, 2), "conv conv"),
    "on its own": ([ReLU(), BatchNorm(), ReLU()], (6,), "relu batchnorm relu"),
    "last": ([Dense(3), ReLU(), BatchNorm()], (6,), "dense relu batchnorm"),
    "before pooling": ([ReLU(), BatchNorm(), MaxPool2D(), Conv2D(2)], (8, 8, 2), "relu batchnorm maxpool conv"),
    "behind pooling": (
        [Conv2D(2), AvgPool2D(), BatchNorm(), GlobalAvgPool()],
        (6, 6, 2),
        "conv avgpool batchnorm globalavgpool",
    ),
    "in a residual block": (
        [block(Conv2D(2, padding="same"), BatchNorm(), ReLU(), BatchNorm(), Conv2D(2, padding="same"))],
        (5, 6, 2),
        "residual",
    ),
    "in a block with a projection": (
        [Conv2D(2, bias=False), block(Conv2D(4, 3, 2, "same", bias=False), BatchNorm()), BatchNorm(), Conv2D(3)],
        (11, 10, 2),
        "conv residual conv",
    ),
    "in a block in a block": ([block(block(Conv2D(2, 1), BatchNorm()), ReLU(), BatchNorm())], (4, 4, 2), "residual"),
    "beside a block of dropout alone": ([block(Dropout(0.5)), BatchNorm()], (4, 4, 2), "residual batchnorm"),
    "around a block": ([BatchNorm(), block(Conv2D(2, 1)), BatchNorm()], (4, 4, 2), "batchnorm residual batchnorm"),
}


@pytest.mark.parametrize(("layers", "shape", "left"), FOLDS.values(), ids=FOLDS.keys())
def test_a_norm_is_folded_where_that_is_exact_and_only_there(layers: list[Layer], shape: Shape, left: str) -> None:
    network = trained(layers, shape)
    x = np.random.default_rng(2).normal(1, 2, size=(5, *shape))
    twin = assert_same(network, x)
    assert names(twin) == left


def test_norms_within_a_block_are_folded() -> None:
    layers, shape, _ = FOLDS["in a residual block"]
    assert len(norms(trained(layers, shape))) == 2
    assert not norms(folded(trained(layers, shape)))


def test_in_float32_the_difference_is_that_of_rounding() -> None:
    layers = [
        Conv2D(8, padding="same", bias=False),
        BatchNorm(),
        ReLU(),
        Conv2D(8),
        ReLU(),
        BatchNorm(),
        Conv2D(8, 5, 2, "same"),
        ReLU(),
        BatchNorm(),
        Flatten(),
        Dense(4),
    ]
    network = trained(layers, (8, 9, 1), np.float32)
    x = np.random.default_rng(2).random((20, 8, 9, 1), np.float32)
    scale = np.abs(network.forward(x)).max()
    assert_same(network, x, rtol=1e-4, atol=1e-5 * scale)


def test_a_network_without_norms_is_left_as_it_is() -> None:
    network = CASES["perceptron"].network()
    assert folded(network) is network


def test_what_is_folded_is_a_network_of_its_own() -> None:
    network = trained([Dense(4), BatchNorm(), Dense(3)], (6,))
    twin, x = folded(network), np.ones((2, 6))
    before = twin.forward(x).copy()
    network.params[...] = 0
    np.testing.assert_array_equal(twin.forward(x), before)
    assert twin.layers == [Dense(4), Dense(3)]
