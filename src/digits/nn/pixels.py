"""Images that stay bytes until a product needs them, a block at a time.

A full batch is the same at every step, and as float32 it is far larger than the caches: reading it costs more than
multiplying it. `Pixels` keeps the bytes, widens a block of images just before it is multiplied, and leaves out the
columns that are dark in a whole block: they add exactly 0 to a product, and their weights get exactly 0 gradient.
"""

import math
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Shape = tuple[int, ...]

BLOCK = 3072  # images, at most, that are widened at a time and share their dark columns
SMALL = 64  # images in one product: OpenBLAS multiplies matrices as small as these without repacking them


class Pixels:
    """A batch of images (N, ...) of bytes, standing for the floats bytes / 255."""

    def __init__(self, images: Array, dtype: Any = np.float32) -> None:
        self.shape: Shape = images.shape
        self.dtype = np.dtype(dtype)
        flat = images.reshape(len(images), -1)
        self._blocks: list[tuple[slice, Array, Array]] = []
        size = SMALL * -(-len(flat) // (SMALL * -(-len(flat) // BLOCK)))  # even blocks, of whole small products
        for start in range(0, len(flat), size):
            rows = slice(start, min(start + size, len(flat)))
            lit = np.flatnonzero(flat[rows].any(axis=0))
            self._blocks.append((rows, np.ascontiguousarray(flat[rows][:, lit]), lit))

    def __len__(self) -> int:
        return self.shape[0]

    def reshape(self, *shape: int) -> "Pixels":
        """The same images with their axes in one: all that a network asks for."""
        assert shape == (len(self), -1)
        self.shape = (len(self), math.prod(self.shape[1:]))
        return self

    def times(self, W: Array, out: Array) -> Array:
        """W xᵀ into out      x: these images as (N, D) floats   W: (M, D)   out: (M, N)"""
        for rows, packed, lit in self._blocks:
            x = self._widen(packed)
            w = np.take(W, lit, axis=1)
            w *= 1 / 255
            tiles = len(x) // SMALL
            whole = tiles * SMALL
            y = out[:, rows.start : rows.start + whole].reshape(len(W), tiles, SMALL).transpose(1, 0, 2)
            np.matmul(w, x[:whole].reshape(tiles, SMALL, len(lit)).transpose(0, 2, 1), out=y)
            np.matmul(w, x[whole:].T, out=out[:, rows.start + whole : rows.stop])
        return out

    def gradient(self, dy: Array, out: Array) -> Array:
        """dy x into out      dy: (M, N)   x: these images as (N, D) floats   out: (M, D)"""
        out[...] = 0
        for rows, packed, lit in self._blocks:
            x = self._widen(packed)
            tiles = len(x) // SMALL
            whole = tiles * SMALL
            parts = self._scratch("parts", (tiles, len(dy), len(lit)))
            cotangents = dy[:, rows.start : rows.start + whole].reshape(len(dy), tiles, SMALL).transpose(1, 0, 2)
            np.matmul(cotangents, x[:whole].reshape(tiles, SMALL, len(lit)), out=parts)
            total = parts.sum(axis=0)
            total += dy[:, rows.start + whole : rows.stop] @ x[whole:]
            total *= 1 / 255
            out[:, lit] += total
        return out

    def _widen(self, packed: Array) -> Array:
        x = self._scratch("x", packed.shape)
        np.copyto(x, packed)
        return x

    def _scratch(self, key: str, shape: Shape) -> Array:
        """An array of this thread's own, for whichever images it is at: one that stays in the cache."""
        size = math.prod(shape)
        kept: Array | None = getattr(_of_thread, key, None)
        if kept is None or kept.size < size or kept.dtype != self.dtype:
            kept = np.empty(size, self.dtype)
            setattr(_of_thread, key, kept)
        return kept[:size].reshape(shape)


_of_thread = threading.local()
