"""The shapes of a correlation, and which of the kernel's rows and columns are on the image where."""

import functools
import itertools
import math
from dataclasses import dataclass

import numpy as np

from digits.nn.scratch import Array


@dataclass(frozen=True)
class Geometry:
    """The shapes of a correlation: images (height, width, channels), kernels and what comes out, without N."""

    height: int
    width: int
    channels: int
    kernel: int
    stride: int
    top: int
    left: int
    out_height: int
    out_width: int
    out_channels: int

    @functools.cached_property
    def padded(self) -> bool:
        """Zeros around the image are seen."""
        bottom, right = ((size - 1) * self.stride + self.kernel for size in (self.out_height, self.out_width))
        before, behind = (self.top, self.left), (bottom - self.top - self.height, right - self.left - self.width)
        return max(*before, *behind) > 0

    @property
    def taps(self) -> int:
        """Of the kernel's rows, or columns, how many one of x meets, at most."""
        return math.ceil(self.kernel / self.stride)

    @functools.cached_property
    def _met(self) -> tuple[Array, Array]:
        """1 where a row of the result has a row of the kernel on the image, else 0, (H', k); (W', k) for columns."""

        def met(size: int, padding: int, out: int) -> Array:
            places = self.stride * np.arange(out)[:, np.newaxis] + np.arange(self.kernel) - padding
            on_image: Array = (places >= 0) & (places < size)
            return on_image.astype(np.float64)

        return met(self.height, self.top, self.out_height), met(self.width, self.left, self.out_width)

    def of_ones(self, weights: Array, out: Array | None = None) -> Array:
        """What weights (k, k, M) make of an image of ones in a single channel, (H', W', M), in `out` if it is given."""
        rows, columns = self._met
        across = rows @ weights.reshape(self.kernel, -1)
        y: Array = np.matmul(columns, across.reshape(self.out_height, *weights.shape[1:]), out=out)
        return y

    def of_ones_back(self, dy: Array, out: Array) -> None:
        """The transpose: fill in `out` (k, k, M) from dy (H', W', M)."""
        rows, columns = self._met
        across = columns.T @ dy
        np.matmul(rows.T, across.reshape(self.out_height, -1), out=out.reshape(self.kernel, -1))


def runs(values: list[tuple[int, int]], start: int = 0, stop: int | None = None) -> list[tuple[int, int, int, int]]:
    """Equal neighbours from start to stop together: (first, last, low, high), leaving out ranges that are empty."""
    found, at = [], start
    for value, group in itertools.groupby(values[start:stop]):
        last = at + len(list(group))
        if value[0] < value[1]:
            found.append((at, last, *value))
        at = last
    return found
