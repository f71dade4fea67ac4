"""Images drawn out of shape at random, vectorised over the batch: (images, rng) -> images.

An image is asked what it shows at other places than its pixels' own: `places` are where, `look_up` is the answer.
Coordinates are pixels, (row, column). In here images are innermost, (H, W, N), as the network has them in memory, so
that each step is an operation on long rows; the arrays between the steps are this thread's scratch.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from digits.nn.scratch import Array, thread_scratch

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

CORNERS = np.stack(np.meshgrid([-1.0, 1.0], [-1.0, 1.0], indexing="ij"))[..., np.newaxis]  # (y or x, 2, 2, 1)
MARGIN = 2  # nodes of the elastic noise beyond the border: the Gaussians of those further out hardly reach in


@dataclass(frozen=True)
class Deformation:
    """How far images are drawn out of shape; each image draws its own amounts, uniform in ± the limit.

    rotate, shear: degrees; scale: as a fraction of the size; shift: as a fraction of the image's side; perspective:
    how far each corner moves along each axis, as a fraction of the side, below 1/4 so that no corner passes the line
    between its neighbours; elastic: the standard deviation of the displacement of a pixel, in pixels, and `smooth`
    that of the Gaussian which smooths it (Simard et al. 2003, "Best practices for convolutional neural networks").
    """

    rotate: float = 0.0
    shear: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    perspective: float = 0.0
    elastic: float = 0.0
    smooth: float = 4.0

    def __post_init__(self) -> None:
        limits = {"rotate": 360.0, "shear": 90.0, "scale": 1.0, "shift": 1.0, "perspective": 0.25, "elastic": 28.0}
        for name, limit in limits.items():
            value = getattr(self, name)
            if not 0 <= value < limit:
                raise ValueError(f"{name} must be at least 0 and less than {limit:g}, not {value}")
        if not 0.1 <= self.smooth <= 100:
            raise ValueError(f"smooth must be from 0.1 to 100 pixels, not {self.smooth}")

    @property
    def deforms(self) -> bool:
        """It draws images out of shape."""
        return any((self.rotate, self.shear, self.scale, self.shift, self.perspective, self.elastic))


def deform(
    images: Bytes, rng: np.random.Generator, by: Deformation, side: int = 28, zoom: float = 1.0, points: int = 1
) -> Bytes:
    """Images (N, side, side) from images (N, H, W), each deformed at random; beyond the border all is 0.

    A pixel of the result covers `zoom` pixels of the image; `points` by `points` places in it are averaged. The
    images returned lie innermost in memory.
    """
    count, height, width = images.shape
    where = places(count, rng, by, points * side, zoom / points, ((height - 1) / 2, (width - 1) / 2))
    seen = look_up(images.transpose(1, 2, 0), where)
    if points > 1:
        seen = seen.reshape(side, points, side, points, count).mean(axis=(1, 3))
    seen += 0.5
    return seen.astype(np.uint8).transpose(2, 0, 1)


def places(
    count: int,
    rng: np.random.Generator,
    by: Deformation,
    side: int,
    step: float = 1.0,
    middle: tuple[float, float] = (0.0, 0.0),
) -> Floats:
    """Where to look for each pixel of `count` squares: rows and columns, (2, side, side, count), in scratch.

    Neighbouring pixels look `step` apart, and the middle of a square that is not deformed looks at `middle`. A pixel
    (y, x) from its square's middle looks at A Q (y, x, 1), Q being the perspective and A affine.
    """
    # (2, 3, count): the rows and columns of A, for y, x and 1
    angle, slant, tall, wide, down, right = rng.uniform(-1, 1, (6, count))
    angle, slant = math.radians(by.rotate) * angle, np.tan(math.radians(by.shear) * slant)
    tall, wide = 1 + by.scale * tall, 1 + by.scale * wide
    sine, cosine = np.sin(angle), np.cos(angle)
    affine = step * np.array(
        [
            [cosine / tall, -sine / tall, side * by.shift * down],
            [sine / wide + slant, cosine / wide, side * by.shift * right],
        ]
    )
    affine[:, 2] += np.array(middle)[:, np.newaxis]
    where = thread_scratch("places", (2, side, side, count), np.float32)
    flat = where.reshape(2, side * side, count)
    pixels = _pixels(side)
    if by.perspective:
        moved = CORNERS + 2 * by.perspective * rng.uniform(-1, 1, (2, 2, 2, count))
        plane = homography(side / 2 * moved, side / 2)
        affine = np.einsum("abn,bcn->acn", affine, plane)
        depth = thread_scratch("depth", (side * side, count), np.float32)
        np.matmul(pixels, plane[2].astype(np.float32), out=depth)
    np.matmul(pixels, affine.astype(np.float32), out=flat)
    if by.perspective:
        flat /= depth
    if by.elastic:
        finer = side / 28  # the limits in pixels are meant for images of the competition's size
        where += elastic_noise(count, rng, side, by.smooth * finer, by.elastic * finer * step)
    return where


def homography(corners: Array, reach: float) -> Array:
    """The perspective Q (3, 3, N) that takes a square's corners, at ±reach, to others: (y or x, 2, 2, N).

    With s and t being ±1, q the corner that (s, t) goes to and Q = [a b c; g h 1] in units of reach, each corner says
    q (1 + g s + h t) = a s + b t + c. Weighted by s t, s, t or 1 and summed, the four are 0 = Σ q (s t + g t + h s),
    4 a = Σ q (s + g + h s t), 4 b = Σ q (t + g s t + h) and 4 c = Σ q (1 + g s + h t).
    """
    s, t = CORNERS
    q, q_s, q_t, q_st = ((corners * weight).mean(axis=(1, 2)) for weight in (1, s, t, s * t))

    def cross(u: Array, v: Array) -> Array:
        product: Array = u[0] * v[1] - u[1] * v[0]
        return product

    g = cross(q_st, q_s) / cross(q_s, q_t)
    h = cross(q_t, q_st) / cross(q_s, q_t)
    a, b, c = q_s + g * q + h * q_st, q_t + g * q_st + h * q, q + g * q_s + h * q_t
    plane = np.array([[a[0], b[0], c[0]], [a[1], b[1], c[1]], [g, h, np.ones_like(g)]])
    plane[:, :2] /= reach
    return plane


@lru_cache
def _pixels(side: int) -> Floats:
    """(side * side, 3): each pixel's (y, x, 1) from the middle."""
    axis = np.arange(side, dtype=np.float32) - np.float32((side - 1) / 2)
    return np.stack([np.repeat(axis, side), np.tile(axis, side), np.ones(side * side, np.float32)], axis=1)


def elastic_noise(count: int, rng: np.random.Generator, side: int, smooth: float, deviation: float) -> Floats:
    """Displacements (2, side, side, count) along rows and columns, in scratch.

    Simard's field is uniform noise at every pixel, smoothed by a Gaussian. One of deviation s leaves nothing in it
    that is finer than s, so here the noise is drawn at nodes s pixels apart. By Poisson's summation formula that
    changes the covariance of two pixels, exp(-d² / 4s²) at a distance of d, by 2 exp(-π²), a ten-thousandth, an axis.
    """
    gauss = _gauss(side, smooth)
    nodes = gauss.shape[1]
    noise = thread_scratch("nodes", (2, nodes, nodes * count), np.float32)
    rng.random(dtype=np.float32, out=noise)
    noise -= 0.5
    noise *= deviation * math.sqrt(12)  # the variance of uniform noise one wide is 1 / 12
    columns = thread_scratch("columns", (2, side, nodes * count), np.float32)
    np.matmul(gauss, noise, out=columns)
    field = thread_scratch("field", (2, side, side, count), np.float32)
    return np.matmul(gauss, columns.reshape(2, side, nodes, count), out=field)


@lru_cache
def _gauss(side: int, smooth: float) -> Floats:
    """(side, nodes): the weights of the nodes at each pixel of an axis, their squares adding up to 1."""
    apart = max(smooth, 1.0)  # smoothed over less than a pixel it is noise at every pixel
    nodes = np.arange(-MARGIN, math.ceil((side - 1) / apart) + MARGIN + 1) * apart
    gauss = np.exp(-((np.arange(side)[:, np.newaxis] - nodes) ** 2) / (2 * smooth**2))
    gauss /= np.sqrt((gauss**2).sum(axis=1, keepdims=True))
    return gauss.astype(np.float32)


def look_up(images: Bytes, where: Floats) -> Floats:
    """The images (H, W, N) at places (2, h, w, N): (h, w, N) in scratch, bilinear between pixels, 0 outside.

    `where` is used up.
    """
    height, width, count = images.shape
    _, *shape = where.shape
    # Outside there are zeros: one before, and two behind, as a place on the first of these has a neighbour too.
    padded = thread_scratch("padded", (height + 3, width + 3, count), np.float32)
    padded.fill(0)
    padded[1:-2, 1:-2] = images
    for axis, size in zip(where, (height, width), strict=True):
        np.clip(axis, -1, size, out=axis)
    where += 1
    whole = np.floor(where, out=thread_scratch("whole", where.shape, np.float32))
    where -= whole
    down, along = where
    top, left = whole
    top *= width + 3
    top += left
    at = thread_scratch("at", tuple(shape), np.intp)
    np.copyto(at, top, casting="unsafe")
    at *= count
    at += np.arange(count)
    below = (width + 3) * count
    flat = padded.reshape(-1)

    def between(start: int, name: str) -> Floats:
        """Along a row, from the pixels at `start` from each place's."""
        left, right = (thread_scratch(f"{name} {side}", tuple(shape), np.float32) for side in ("left", "right"))
        # Every index is within the array: "wrap" is the quickest of the modes that write to `out` directly.
        np.take(flat[start:], at, out=left, mode="wrap")
        np.take(flat[start + count :], at, out=right, mode="wrap")
        right -= left
        right *= along
        left += right
        return left

    upper, lower = between(0, "upper"), between(below, "lower")
    lower -= upper
    lower *= down
    upper += lower
    return upper
