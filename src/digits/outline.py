"""What a recipe comes to: its layers with their shapes and costs, and the time that an epoch takes on this machine."""

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np

from digits.machine import single_threaded_blas
from digits.nn import Layer, Shape, Workers
from digits.recipe import IMAGE, Recipe
from digits.train import Training

EPOCH_IMAGES = 37_800  # the competition's 42,000 without a dev split of a tenth
TIMED_SECONDS = 1.0
GLANCE_SECONDS = 0.3
WARM_STEPS = 2  # in which workers start and buffers are made


@dataclass(frozen=True)
class Row:
    """A layer: its number ("2", or "2.0" for the first part of layer 2), name, and what of it is not the default.

    `output` is the shape of one image after it; `parameters` and `multiply_adds` are 0 for a layer that is made of
    others, as those have rows of their own.
    """

    number: str
    layer: str
    settings: dict[str, Any]
    output: Shape
    parameters: int
    multiply_adds: int


def rows(layers: Sequence[Layer], prefix: str = "") -> Iterator[Row]:
    """A row for each of these layers, which are built, and for their parts."""
    for number, layer in enumerate(layers):
        parts = layer.parts()
        yield Row(
            number=f"{prefix}{number}",
            layer=layer.name,
            settings={} if parts else settings(layer),
            output=layer.output_shape,
            parameters=sum(math.prod(shape) for shape in layer.parameter_shapes().values()),
            multiply_adds=0 if parts else layer.multiply_adds,
        )
        yield from rows(parts, f"{prefix}{number}.")


def settings(config: Any) -> dict[str, Any]:
    """The fields of a dataclass whose values are not the defaults."""
    values = {f.name: getattr(config, f.name) for f in fields(config)}
    return {f.name: values[f.name] for f in fields(config) if f.default is MISSING or values[f.name] != f.default}


def settings_text(values: dict[str, Any]) -> list[str]:
    """Settings in words, ["channels=24", "bias=false"]."""
    return [f"{key}={str(value).lower()}" for key, value in values.items()]


def tables(recipe: Recipe) -> dict[str, list[str]]:
    """By each of the recipe's tables, what of it is not the default in words, its name first where it has one."""
    found = {}
    for one in fields(Recipe):
        config: Any = getattr(recipe, one.name)
        if is_dataclass(config):
            name = [config.name] if hasattr(config, "name") else []
            values = {key: value for key, value in settings(config).items() if key not in ("name", "others")}
            found[one.name] = [*name, *settings_text(values)]
    if recipe.ensemble.others:
        found["ensemble"].append(f"others={','.join(other.name for other in recipe.ensemble.others)}")
    return found


def training_seconds(recipe: Recipe, workers: int, images: int, look: float = GLANCE_SECONDS) -> float:
    """The seconds that training by the recipe on so many images takes here, told from `look` seconds of real steps."""
    return sum(member_seconds(recipe, workers, images, look))


def member_seconds(recipe: Recipe, workers: int, images: int, look: float = GLANCE_SECONDS) -> list[float]:
    """What each of the recipe's members adds to the seconds that `training_seconds` says.

    The members of an ensemble train side by side, on one core each; a single network is its own only member.
    """
    if recipe.ensemble.members == 1:
        return [recipe.train.epochs * epoch_seconds(recipe, workers, images, look)]
    kinds = [kind.train.epochs * epoch_seconds(kind, 1, images, look) / workers for kind in recipe.kinds()]
    return [kinds[number % len(kinds)] for number in range(recipe.ensemble.members)]


def epoch_seconds(recipe: Recipe, workers: int, images: int = EPOCH_IMAGES, look: float = TIMED_SECONDS) -> float:
    """The seconds that training for an epoch of so many images takes here, told from `look` seconds of real steps.

    They are steps on noise, as large as digits are, with a learning rate of 0, lest it diverge.
    """
    rng = np.random.default_rng(0)
    pictures = np.zeros((images, *IMAGE[:2]), np.uint8)
    pictures[:, 4:24, 4:24] = rng.integers(0, 256, (images, 20, 20), np.uint8)
    labels = rng.integers(0, 10, images)
    epochs = 1_000_000  # more than there is time for
    timed = replace(recipe, train=replace(recipe.train, epochs=epochs), optimizer=replace(recipe.optimizer, lr=0.0))
    with single_threaded_blas(), Workers(workers) as team:
        training = Training(timed, pictures, labels, pictures[:0], labels[:0], 0, team)
        for _ in range(WARM_STEPS):
            next(training)
        taken: list[float] = []
        while sum(taken) < look:
            before = training.seconds
            next(training)
            taken.append(training.seconds - before)
    return statistics.median(taken) * (training.steps // epochs)
