"""What is done to images before they are learnt from, vectorised: (images, labels, rng) -> images, labels or targets.

They are drawn out of shape, then some lose a part, then they are mixed with one another. In here images are innermost,
(H, W, N), as the network has them in memory.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from digits.deform import Bytes, Deformation, Floats, deform
from digits.nn.scratch import Array, thread_scratch

Labels = NDArray[np.intp]

SLIMMEST = 0.3  # the least height of an erased rectangle by its width, and width by height, as Zhong et al. have it


@dataclass(frozen=True)
class Augmentation(Deformation):
    """What is done to images that are learnt from: they are deformed, then erased in part, then mixed.

    erase: the probability with which an image loses a rectangle to the background, 0, of an area drawn between
    `erase_least` and `erase_most` of the image's (random erasing, Zhong et al. 2017, arXiv 1708.04896; they also fill
    with noise, but ink that is missing does occur in digits and noise does not).

    mixup, cutmix: the alpha of Beta(alpha, alpha), from which each image draws how much of it stays when it is mixed
    with another of the shard: their weighted mean (Zhang et al. 2017, arXiv 1710.09412), or a rectangle of the other
    pasted into it (Yun et al. 2019, arXiv 1905.04899). Where both are set each shard draws one of the two, evenly.
    """

    erase: float = 0.0
    erase_least: float = 0.02
    erase_most: float = 0.2
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.erase <= 1:
            raise ValueError(f"erase must be from 0 to 1, not {self.erase}")
        if not 0 < self.erase_least <= self.erase_most <= 1:
            raise ValueError(
                "erase_least must be greater than 0, at most erase_most, and that at most 1, "
                f"not {self.erase_least} and {self.erase_most}"
            )
        for name in ("mixup", "cutmix"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)}")

    @property
    def mixes(self) -> bool:
        """It mixes images with one another, so that each has shares of two classes."""
        return any((self.mixup, self.cutmix))

    @property
    def none(self) -> bool:
        """It leaves images as they are."""
        return not (self.deforms or self.erase or self.mixes)


def augment(
    images: Bytes, labels: Labels | Floats, rng: np.random.Generator, by: Augmentation, classes: int = 10
) -> tuple[Bytes, Labels | Floats]:
    """Images (N, side, side) and labels (N,), or targets (N, classes), of a shard as they are to be learnt from.

    Where images are mixed the labels become targets: the shares of the classes, which add up to 1. The images given are
    not changed, and those returned lie innermost in memory.
    """
    if by.none:
        return images, labels
    seen = images.transpose(1, 2, 0)
    seen = deform(images, rng, by, len(seen)).transpose(1, 2, 0) if by.deforms else seen.copy()
    if by.erase:
        erase(seen, rng, by)
    if not by.mixes:
        return seen.transpose(2, 0, 1), labels
    mixing = cutmix if by.cutmix and (not by.mixup or rng.random() < 0.5) else mixup
    partners = rng.permutation(len(labels))
    stays = mixing(seen, partners, rng, by.cutmix if mixing is cutmix else by.mixup)
    targets = labels if labels.ndim == 2 else np.eye(classes, dtype=np.float32)[labels]
    share = stays.astype(np.float32)[:, np.newaxis]
    return seen.transpose(2, 0, 1), share * targets + (1 - share) * targets[partners]


def erase(images: Bytes, rng: np.random.Generator, by: Augmentation) -> None:
    """Rectangles of some of the images (H, W, N) become 0, in place."""
    *sides, count = images.shape
    chosen = rng.random(count) < by.erase
    area = rng.uniform(by.erase_least, by.erase_most, count)
    slimmest = np.maximum(SLIMMEST, area)  # a rectangle slimmer than its area would be longer than the image
    aspect = slimmest ** rng.uniform(-1, 1, count)  # tall ones are as likely as wide ones
    size = np.array(sides)[:, np.newaxis]
    extent = np.maximum(np.rint(np.sqrt([area * aspect, area / aspect]) * size), 1)
    start = np.floor(rng.random((2, count)) * (size - extent + 1))
    np.copyto(images, 0, where=rectangles(start, start + chosen * extent, *sides))


def mixup(images: Bytes, partners: Labels, rng: np.random.Generator, alpha: float) -> Array:
    """Each of the images (H, W, N) becomes a mean of itself and its partner, in place; how much of it stays, (N,)."""
    stays = rng.beta(alpha, alpha, len(partners))
    mixed, others = (thread_scratch(key, images.shape, np.float32) for key in ("mixed", "others"))
    np.copyto(others, _others(images, partners))
    np.copyto(mixed, images)
    mixed -= others
    mixed *= stays.astype(np.float32)
    mixed += others
    mixed += 0.5
    np.copyto(images, mixed, casting="unsafe")
    return stays


def cutmix(images: Bytes, partners: Labels, rng: np.random.Generator, alpha: float) -> Array:
    """Each of the images (H, W, N) gets a rectangle of its partner, in place; how much of it stays, (N,).

    The rectangle has the image's shape and its middle anywhere in the image, beyond whose border it is cut off.
    """
    *sides, count = images.shape
    size = np.array(sides)[:, np.newaxis]
    half = np.sqrt(1 - rng.beta(alpha, alpha, count)) / 2 * size
    middle = rng.random((2, count)) * size
    start, stop = (np.rint(np.clip(edge, 0, size)) for edge in (middle - half, middle + half))
    np.copyto(images, _others(images, partners), where=rectangles(start, stop, *sides))
    stays: Array = 1 - (stop - start).prod(axis=0) / size.prod()
    return stays


def _others(images: Bytes, partners: Labels) -> Bytes:
    return np.take(images, partners, axis=2, out=thread_scratch("partners", images.shape, np.uint8), mode="wrap")


def rectangles(start: Array, stop: Array, height: int, width: int) -> NDArray[np.bool_]:
    """Where rectangles from `start` up to `stop` are, each (y and x, N): (height, width, N)."""
    y, x = np.arange(height)[:, np.newaxis], np.arange(width)[:, np.newaxis]
    rows = (start[0] <= y) & (y < stop[0])
    columns = (start[1] <= x) & (x < stop[1])
    inside: NDArray[np.bool_] = rows[:, np.newaxis] & columns
    return inside
