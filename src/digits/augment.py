"""Images drawn out of shape: (images, rng) -> images, vectorised over the batch.

An image is asked what it shows at other places than its pixels' own: `places` are where, `look_up` is the answer.
Coordinates are pixels, (row, column), with the image's middle at ((height - 1) / 2, (width - 1) / 2).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Deformation:
    """How far images are drawn out of shape; each image draws its own amounts, uniform in ± the limit.

    rotate, shear: degrees; scale: as a fraction of the size; shift: as a fraction of the image's side;
    elastic: the standard deviation of the displacement of a pixel, in pixels, and `smooth` that of the Gaussian which
    smooths it (Simard et al. 2003, "Best practices for convolutional neural networks").
    """

    rotate: float = 0.0
    shear: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    elastic: float = 0.0
    smooth: float = 4.0

    def __post_init__(self) -> None:
        limits = {"rotate": 360.0, "shear": 90.0, "scale": 1.0, "shift": 1.0, "elastic": math.inf}
        for name, limit in limits.items():
            value = getattr(self, name)
            if not 0 <= value < limit:
                raise ValueError(f"{name} must be at least 0 and less than {limit:g}, not {value}")
        if not 0 < self.smooth < math.inf:
            raise ValueError(f"smooth must be greater than 0 pixels, not {self.smooth}")

    @property
    def none(self) -> bool:
        """It leaves images as they are."""
        return not any((self.rotate, self.shear, self.scale, self.shift, self.elastic))


def deform(
    images: NDArray[np.uint8],
    rng: np.random.Generator,
    by: Deformation,
    side: int = 28,
    zoom: float = 1.0,
    points: int = 1,
) -> NDArray[np.uint8]:
    """Images (N, side, side) from images (N, H, W), each deformed at random; beyond the border all is 0.

    A pixel of the result covers `zoom` pixels of the image; `points` by `points` places in it are averaged.
    """
    rows, columns = places(len(images), rng, by, points * side)
    step = zoom / points
    height, width = images.shape[1:]
    seen = look_up(images, rows * step + (height - 1) / 2, columns * step + (width - 1) / 2)
    if points > 1:
        seen = seen.reshape(len(images), side, points, side, points).mean(axis=(2, 4))
    seen += 0.5
    return seen.astype(np.uint8)


def places(count: int, rng: np.random.Generator, by: Deformation, side: int) -> tuple[Floats, Floats]:
    """Where to look for each pixel of `count` squares: rows and columns, (count, side, side), from the middle."""

    def draw(limit: float) -> Floats:
        return rng.uniform(-limit, limit, (count, 1, 1)).astype(np.float32)

    axis = np.arange(side, dtype=np.float32) - (side - 1) / 2
    y, x = axis[:, np.newaxis], axis[np.newaxis, :]
    angle = draw(math.radians(by.rotate))
    slant = np.tan(draw(math.radians(by.shear)))
    tall, wide = 1 + draw(by.scale), 1 + draw(by.scale)
    rows = (np.cos(angle) * y - np.sin(angle) * x) / tall + side * draw(by.shift)
    columns = (np.sin(angle) * y + np.cos(angle) * x) / wide + slant * y + side * draw(by.shift)
    if by.elastic:
        scale = side / 28  # the limits in pixels are meant for images of the competition's size
        rows += scale * _smooth_noise(count, rng, by, side, scale)
        columns += scale * _smooth_noise(count, rng, by, side, scale)
    return rows, columns


def look_up(images: NDArray[np.uint8], rows: Floats, columns: Floats) -> Floats:
    """The images (N, H, W) at places (N, h, w), bilinear between pixels, 0 outside."""
    count, height, width = images.shape
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    rows, columns = np.clip(rows, -1, height) + np.float32(1), np.clip(columns, -1, width) + np.float32(1)
    top, left = np.minimum(rows.astype(np.int32), height), np.minimum(columns.astype(np.int32), width)
    down, right = rows - top.astype(np.float32), columns - left.astype(np.float32)
    stride = width + 2
    at = (np.arange(count, dtype=np.int32) * (height + 2) * stride)[:, np.newaxis, np.newaxis] + top * stride + left
    flat = padded.reshape(-1).astype(np.float32)
    upper = flat[at] * (1 - right) + flat[at + 1] * right
    lower = flat[at + stride] * (1 - right) + flat[at + stride + 1] * right
    blend: Floats = upper * (1 - down) + lower * down
    return blend


def _smooth_noise(count: int, rng: np.random.Generator, by: Deformation, side: int, scale: float) -> Floats:
    """Noise (count, side, side) of standard deviation `by.elastic`, smoothed along both axes by a Gaussian."""
    axis = np.arange(side, dtype=np.float32)
    gauss = np.exp(-((axis[:, np.newaxis] - axis) ** 2) / (2 * (by.smooth * scale) ** 2))
    gauss /= np.sqrt((gauss**2).sum(axis=1, keepdims=True))  # the variance of a weighted sum of unit noise is 1
    noise = rng.standard_normal((count, side, side), np.float32)
    smooth: Floats = by.elastic * (gauss @ noise @ gauss.T)
    return smooth
