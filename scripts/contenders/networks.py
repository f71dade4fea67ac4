"""The networks that are timed, as lines of a recipe, and how many floating-point operations an image takes in them."""

from collections.abc import Iterable
from typing import Any

from digits.nn import Layer, Network, Shape, layer_of

Line = dict[str, Any]

IMAGE: Shape = (28, 28, 1)
CLASSES = 10
PREDICTED = 28_000  # images, as a submission takes
RELU: Line = {"layer": "relu"}
NORM: Line = {"layer": "batchnorm"}
POOL: Line = {"layer": "maxpool"}
FLATTEN: Line = {"layer": "flatten"}


def dense(units: int) -> Line:
    return {"layer": "dense", "units": units}


def conv(channels: int, kernel: int = 3, **more: Any) -> Line:
    return {"layer": "conv", "channels": channels, "kernel": kernel, **more}


def deotte() -> list[Line]:
    """Chris Deotte's network of "25 Million Images! [0.99757] MNIST", https://www.kaggle.com/code/cdeotte.

    Its convolutions of stride 2 are 'same' there, with one zero before the first pixel and two after the last. Two on
    each side make images of the same size at the same cost, and PyTorch has them without padding the images first.
    """
    drop = {"layer": "dropout", "rate": 0.4}

    def step(*line: Any, **more: Any) -> list[Line]:
        return [conv(*line, **more), RELU, NORM]

    return [
        *(*step(32), *step(32), *step(32, 5, stride=2, padding=2), drop),
        *(*step(64), *step(64), *step(64, 5, stride=2, padding=2), drop),
        *(*step(128, 4), FLATTEN, drop, dense(CLASSES)),
    ]


def small(*norm: Line) -> list[Line]:
    """C16-P-C32-P-C64-GAP, every convolution 3 x 3 with a ReLU."""

    def step(channels: int) -> list[Line]:
        return [conv(channels, padding="same"), *norm, RELU]

    return [*step(16), POOL, *step(32), POOL, *step(64), {"layer": "globalavgpool"}, dense(CLASSES)]


NETWORKS: dict[str, list[Line]] = {
    "Deotte's": deotte(),
    "C16-C32-C64": small(),
    "C16-C32-C64, batch norm": small(NORM),
    "784-10-10": [FLATTEN, dense(10), RELU, dense(CLASSES)],  # the tutorial's
    "MLP 800-800": [FLATTEN, dense(800), RELU, dense(800), RELU, dense(CLASSES)],
}


def network(name: str, dtype: Any = "float32") -> Network:
    """The network of that name, its parameters not drawn."""
    return Network([layer_of(line) for line in NETWORKS[name]], IMAGE, dtype)


def operations(network: Network, what: str) -> int:
    """Floating-point operations an image, "train" or "predict": two for each multiplication that the layers' equations
    have, in training once forward and once for each gradient. The images have none, so the first layer has but one.

    A quicker algorithm does not count for more: it gets through the same number in less time.
    """

    def passes(layer: Layer) -> int:
        return 1 if what == "predict" else 3 if layer.input_gradient else 2

    return sum(2 * passes(layer) * layer.multiply_adds for layer in leaves(network.layers))


def leaves(layers: Iterable[Layer]) -> Iterable[Layer]:
    """The layers that are not made of layers."""
    for layer in layers:
        if layer.parts():
            yield from leaves(layer.parts())
        else:
            yield layer
