"""Images that stay bytes until a product needs them, some at a time.

A full batch is the same at every step, and as float32 it is far larger than the caches: reading it costs more than
multiplying it. `Pixels` keeps the bytes, widens some images just before they are multiplied, and leaves out the columns
that are dark in all images: they add exactly 0 to a product, and their weights get exactly 0 gradient.
"""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from digits.nn.scratch import Array, Shape, thread_scratch

TILE = 64  # images in one product: OpenBLAS multiplies matrices as small as these without repacking them
TILES = 40  # that are widened at a time: few calls from Python, and floats that stay in the cache


class Pixels:
    """A batch of images (N, ...) of bytes, standing for the floats bytes / 255."""

    def __init__(self, images: Array, dtype: Any = np.float32) -> None:
        self.shape: Shape = images.shape
        self.dtype = np.dtype(dtype)
        flat = images.reshape(len(images), -1)
        self._lit = np.flatnonzero(flat.any(axis=0))
        self._bytes = np.ascontiguousarray(flat[:, self._lit])

    def __len__(self) -> int:
        return self.shape[0]

    def reshape(self, *shape: int) -> "Pixels":
        """The same images with their axes in one: all that a network asks for."""
        assert shape == (len(self), -1)
        self.shape = (len(self), math.prod(self.shape[1:]))
        return self

    def times(self, W: Array, out: Array) -> Array:
        """W xᵀ into out      x: these images as (N, D) floats   W: (M, D)   out: (M, N)"""
        w = np.take(W, self._lit, axis=1)
        w *= 1 / 255
        for rows, x in self._tiles():
            y = out[:, rows].reshape(len(W), *x.shape[:2]).transpose(1, 0, 2)
            np.matmul(w, x.transpose(0, 2, 1), out=y)
        return out

    def gradient(self, dy: Array, out: Array) -> Array:
        """dy x into out      dy: (M, N)   x: these images as (N, D) floats   out: (M, D)"""
        total = np.zeros((len(dy), len(self._lit)), self.dtype)
        for rows, x in self._tiles():
            tiles = dy[:, rows].reshape(len(dy), *x.shape[:2]).transpose(1, 0, 2)
            total += np.matmul(tiles, x, out=thread_scratch("parts", (len(x), *total.shape), self.dtype)).sum(axis=0)
        total *= 1 / 255
        out[...] = 0
        out[:, self._lit] = total
        return out

    def _tiles(self) -> Iterator[tuple[slice, Array]]:
        """The images as floats (tiles, images, D), overwritten by the next, with their rows; the last may be small."""
        whole = len(self) // TILE * TILE
        starts = [*range(0, whole, TILES * TILE), whole, len(self)]
        for start, stop in itertools.pairwise(starts):
            if start < stop:
                tile = min(TILE, stop - start)
                packed = self._bytes[start:stop]
                x = thread_scratch("pixels", packed.shape, self.dtype)
                np.copyto(x, packed)
                yield slice(start, stop), x.reshape((stop - start) // tile, tile, len(self._lit))
