"""Probabilities from networks and images: of one view of each image or of several, of one network or of several."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from digits.deform import Deformation, deform
from digits.nn import Array, Network, Workers, folded, probabilities

Images = NDArray[np.uint8]
Averaged = Literal["probabilities", "logits", "votes"]  # what a blend is the average of


@dataclass(frozen=True)
class Views(Deformation):
    """What a network is shown of each image that it predicts (test-time augmentation).

    The first of the `views` is the image as it is, the others are deformed at random, the same ones each time; the
    probabilities are their means.
    """

    views: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.views < 1:
            raise ValueError(f"views must be at least 1, not {self.views}")
        if self.deforms != (self.views > 1):
            raise ValueError("views above 1 and a deformation, such as rotate = 5, go together")


ONE_VIEW = Views()


def network_input(images: Images) -> Array:
    """Images (N, 28, 28) of integers 0-255 as a network takes them: float32 (N, 28, 28, 1) from 0 to 1.

    The images are innermost in memory, as layers have them.
    """
    x = np.ascontiguousarray(images.transpose(1, 2, 0)).astype(np.float32)
    x *= np.float32(1 / 255)
    return x.transpose(2, 0, 1)[..., np.newaxis]


def predict(network: Network, images: Images, workers: Workers, by: Views = ONE_VIEW) -> Array:
    """The probability of each digit, (N, 10), for images (N, 28, 28)."""
    ready = folded(network)

    def seen(view: int, block: slice) -> Array:
        chosen = images[block]
        if view:
            chosen = deform(chosen, np.random.Generator(np.random.Philox(key=view, counter=block.start)), by)
        return network_input(chosen)

    def view_of(view: int) -> Array:
        return probabilities(ready, workers, len(images), lambda block: seen(view, block))

    return blend([view_of(view) for view in range(by.views)])


def blend(
    parts: Sequence[Array],
    how: Averaged = "probabilities",
    weights: NDArray[np.float64] | None = None,
) -> Array:
    """The average of probabilities, each (N, K): of themselves, of their logits, or of one vote each, as (N, K).

    `weights`, 1 together, say how much each part counts; equally much where there are none.
    """
    if how == "votes":
        parts = [np.eye(part.shape[1], dtype=part.dtype)[part.argmax(axis=1)] for part in parts]
    if how != "logits":
        return _mean(parts, weights).astype(parts[0].dtype)
    least = np.finfo(parts[0].dtype).tiny
    geometric = np.exp(_mean([np.log(np.maximum(part, least, dtype=np.float64)) for part in parts], weights))
    normed: Array = (geometric / geometric.sum(axis=1, keepdims=True)).astype(parts[0].dtype)
    return normed


def _mean(parts: Sequence[Array], weights: NDArray[np.float64] | None) -> NDArray[np.float64]:
    if weights is None:
        mean: NDArray[np.float64] = np.mean(parts, axis=0, dtype=np.float64)
        return mean
    weighted: NDArray[np.float64] = np.tensordot(weights, np.asarray(parts, np.float64), 1)
    return weighted


@dataclass(frozen=True)
class Mix:
    """How much each member counts, 1 together, and the power to which its probabilities are raised before that."""

    weights: tuple[float, ...]
    powers: tuple[float, ...]

    def of(self, parts: Sequence[Array], average: Averaged) -> Array:
        """The blend of the members' probabilities, each (N, 10)."""
        if len(set(self.weights)) == 1 and set(self.powers) == {1.0}:
            return blend(parts, average)
        sharp = [sharpened(part, power) for part, power in zip(parts, self.powers, strict=True)]
        return blend(sharp, average, np.array(self.weights))


def sharpened(p: Array, power: float) -> Array:
    """Probabilities (N, 10) raised to a power, and made to be 1 together again."""
    raised = np.exp(power * log_ratios(p))
    sharp: Array = (raised / raised.sum(axis=1, keepdims=True)).astype(p.dtype)
    return sharp


def log_ratios(p: Array) -> NDArray[np.float64]:
    """The logarithms of probabilities (N, K), less the largest of each image."""
    logs: NDArray[np.float64] = np.log(np.maximum(p, np.finfo(np.float32).tiny, dtype=np.float64))
    logs -= logs.max(axis=1, keepdims=True)
    return logs
