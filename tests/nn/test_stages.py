"""What is computed together is what its layers make of it one by one."""

import numpy as np
import pytest

from digits.nn import (
    BatchNorm,
    Conv2D,
    Dropout,
    Flatten,
    Layer,
    MaxPool2D,
    Network,
    ReLU,
    Residual,
    correlation,
    layer_of,
)
from digits.nn.stages import ConvStage, in_order

CONV = Conv2D(5, padding="same")
STACKS: dict[str, list[Layer]] = {
    "relu": [CONV, ReLU()],
    "maxpool": [CONV, MaxPool2D()],
    "maxpool of 3": [CONV, MaxPool2D(3)],
    "maxpool of all": [Conv2D(5, 3, 3, padding="same"), MaxPool2D(4), ReLU()],
    "relu and maxpool": [CONV, ReLU(), MaxPool2D()],
    "maxpool and relu": [CONV, MaxPool2D(3), ReLU()],
    "norm": [CONV, BatchNorm()],
    "relu and norm": [CONV, ReLU(), BatchNorm(), Dropout(0.0)],
    "maxpool, relu and norm": [CONV, MaxPool2D(), ReLU(), BatchNorm(), Flatten()],
    "norm of the next": [CONV, ReLU(), BatchNorm(), Conv2D(3, 3), ReLU()],
    "norm of the next, padded": [CONV, MaxPool2D(), BatchNorm(), Conv2D(3, 3, padding="same", bias=False)],
    "norm of the first": [BatchNorm(), CONV, ReLU(), BatchNorm(), Conv2D(4, 3, 2)],
    "norm, relu and maxpool": [CONV, BatchNorm(), ReLU(), MaxPool2D(), Conv2D(4)],
    "norm of no convolution": [CONV, Dropout(0.0), BatchNorm(), Conv2D(4)],
    "two norms": [CONV, BatchNorm(), BatchNorm(), Conv2D(4)],
}


def one_by_one(network: Network) -> Network:
    """A network of the same parameters whose layers are computed one after the other, as if each were alone."""
    twin = network.replica()
    twin.order = twin.layers
    for layer in twin.layers:
        layer.in_place = False
        if isinstance(layer, BatchNorm):
            layer.within = layer.folded = False
    return twin


@pytest.mark.parametrize("layers", STACKS.values(), ids=STACKS)
@pytest.mark.parametrize("block", [1, 1 << 14, 1 << 30], ids=["a row at a time", "some rows", "all rows"])
@pytest.mark.parametrize("channels", [2, 9])
def test_what_is_computed_together_is_what_its_layers_make_one_by_one(
    layers: list[Layer], block: int, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(correlation, "BLOCK_BYTES", block)
    monkeypatch.setattr(correlation, "PREDICTION_BLOCK_BYTES", block)
    rng = np.random.default_rng(0)
    shape = (11, 10, channels)
    together = Network([layer_of(layer.spec()) for layer in layers], shape, np.float64).initialise(rng)
    together.params += rng.normal(0, 0.3, together.count)  # so that there are biases, and slopes of both signs
    alone = one_by_one(together)
    assert len(together.order) < len(alone.order) or type(together.order[0]) is ConvStage
    for images in (4, 3, 4):
        x = rng.normal(size=(images, *shape))
        np.testing.assert_allclose(together.forward(x), alone.forward(x), atol=1e-12)
        y, wanted = together.forward(x, rng), alone.forward(x, rng)
        np.testing.assert_allclose(y, wanted, atol=1e-10)
        np.testing.assert_allclose(together.batch_statistics, alone.batch_statistics, atol=1e-12)
        dy = rng.normal(size=wanted.shape)
        together.backward(dy.copy())
        alone.backward(dy.copy())
        np.testing.assert_allclose(together.grads, alone.grads, atol=1e-9)


def test_a_convolution_takes_on_what_follows_it_and_a_norm_only_what_must_pass_over_the_images() -> None:
    layers: list[Layer] = [Conv2D(4), ReLU(), BatchNorm(), Conv2D(4), BatchNorm(), ReLU(), MaxPool2D(), Flatten()]
    network = Network(layers, (12, 12, 1))
    first, second, *others = network.order
    conv, relu, before, next_conv, norm, last_relu, pool, flatten = network.layers
    assert ids(first.conv, first.relu, first.pool, first.behind) == ids(conv, relu, None, before)
    assert ids(second.norm, second.conv, second.behind) == ids(before, next_conv, norm)
    assert ids(*others) == ids(norm, pool, last_relu, flatten)


def ids(*things: object) -> list[int]:
    """Which things they are: layers of the same hyperparameters are equal."""
    return [id(thing) for thing in things]


def test_a_norm_that_was_behind_a_convolution_is_alone_in_another_network() -> None:
    norm = BatchNorm()
    Network([Conv2D(2), norm], (4, 4, 2))
    network = Network([norm], (4, 4, 2), np.float64).initialise(np.random.default_rng(0))
    x = np.random.default_rng(1).normal(5, 3, (20, 4, 4, 2))
    y = network.forward(x, np.random.default_rng(2))
    np.testing.assert_allclose(y.mean(axis=(0, 1, 2)), 0, atol=1e-12)
    np.testing.assert_allclose(y.std(axis=(0, 1, 2)), 1, atol=1e-5)


def test_the_layers_of_a_residual_block_are_computed_together_too() -> None:
    block = Residual([{"layer": "conv", "channels": 2, "padding": "same"}, {"layer": "relu"}])
    assert in_order([block]) == [block]
    assert [type(layer) for layer in block.order] == [ConvStage]
