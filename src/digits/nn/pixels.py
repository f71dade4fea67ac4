"""Images that stay bytes until a product needs them, some at a time.

A full batch is the same at every step, and as float32 it is far larger than the caches: reading it costs more than
multiplying it. `Pixels` keeps the bytes, widens some images just before they are multiplied, of a small shard once for
both of its products, and leaves out the columns that are dark in all images: they add exactly 0 to a product, and their
weights get exactly 0 gradient.
"""

import itertools
import math
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from digits.nn.products import SMALL_PRODUCTS
from digits.nn.scratch import Array, Scratch, Shape, thread_scratch

# Images in one product, 64 of which OpenBLAS multiplies without repacking them if it has AVX-512 for it, and how many
# such tiles are widened at a time, at most: few calls from Python, and floats that stay in the cache.
TILE, TILES = (64, 46) if SMALL_PRODUCTS else (256, 12)


class Widened(threading.local):
    """A thread's floats, where nothing else is written, and what they are of: the images and their start."""

    def __init__(self) -> None:
        self.scratch = Scratch()
        self.block: tuple[Pixels, int] | None = None


_widened = Widened()


class Pixels:
    """A batch of images (N, ...) of bytes, standing for the floats bytes / 255."""

    def __init__(self, images: Array, dtype: Any = np.float32) -> None:
        self.shape: Shape = images.shape
        self.dtype = np.dtype(dtype)
        flat = images.reshape(len(images), -1)
        self._lit = np.flatnonzero(flat.any(axis=0))
        tiles = -(-len(flat) // TILE)
        self._bytes = np.zeros((tiles * TILE, len(self._lit)), np.uint8)  # dark images fill the last tile
        self._bytes[: len(flat)] = flat[:, self._lit]
        count = max(-(-tiles // TILES), 1)
        bounds = [tiles * i // count * TILE for i in range(count + 1)]
        self._blocks = [slice(*pair) for pair in itertools.pairwise(bounds)]

    def __len__(self) -> int:
        return self.shape[0]

    def reshape(self, *shape: int) -> "Pixels":
        """The same images with their axes in one: all that a network asks for."""
        assert shape == (len(self), -1)
        self.shape = (len(self), math.prod(self.shape[1:]))
        return self

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """The floats themselves, (N, ...), as NumPy asks for them. Raises ValueError where it wants no copy."""
        if copy is False:
            raise ValueError("the floats of bytes are always a copy")
        flat = np.zeros((len(self), math.prod(self.shape[1:])), dtype or self.dtype)
        flat[:, self._lit] = self._bytes[: len(self)]
        flat *= 1 / 255
        return flat.reshape(self.shape)

    def times(self, W: Array, out: Array) -> Array:
        """W xᵀ into out      x: these images as (N, D) floats   W: (M, D)   out: (M, N)"""
        w = np.take(W, self._lit, axis=1)
        w *= 1 / 255
        products = thread_scratch("products", (len(W), len(self._bytes)), self.dtype)
        for rows, x in self._tiles(self._blocks):
            y = products[:, rows].reshape(len(W), *x.shape[:2]).transpose(1, 0, 2)
            np.matmul(w, x.transpose(0, 2, 1), out=y)
        out[...] = products[:, : len(self)]
        return out

    def gradient(self, dy: Array, out: Array) -> Array:
        """dy x into out      dy: (M, N)   x: these images as (N, D) floats   out: (M, D)"""
        padded = thread_scratch("products", (len(dy), len(self._bytes)), self.dtype)
        padded[:, : len(self)] = dy
        padded[:, len(self) :] = 0
        total = np.zeros((len(dy), len(self._lit)), self.dtype)
        for rows, x in self._tiles(self._blocks[::-1]):  # from the end: those floats are still there
            tiles = padded[:, rows].reshape(len(dy), *x.shape[:2]).transpose(1, 0, 2)
            total += np.matmul(tiles, x, out=thread_scratch("parts", (len(x), *total.shape), self.dtype)).sum(axis=0)
        total *= 1 / 255
        out[...] = 0
        out[:, self._lit] = total
        return out

    def _tiles(self, blocks: Iterable[slice]) -> Iterator[tuple[slice, Array]]:
        """These images as floats (tiles, TILE, D), overwritten by the next, with their rows."""
        for block in blocks:
            packed = self._bytes[block]
            x = _widened.scratch("floats", packed.shape, self.dtype)
            if _widened.block != (self, block.start):
                np.copyto(x, packed)
                _widened.block = self, block.start
            yield block, x.reshape(len(x) // TILE, TILE, len(self._lit))
