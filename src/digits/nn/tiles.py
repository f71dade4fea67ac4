"""Rows of pixels spread into tiles, arrays (products, rows, depth, tiles, N), and matrix products with them.

The products are small ones, of a tile or of a part of one, where OpenBLAS multiplies such without repacking, else as
large as they can be; see `products`.
"""

import functools
from typing import Any

import numpy as np

from digits.nn.plans import Call, Calls, CallsFor
from digits.nn.products import SMALL_PRODUCT, SMALL_PRODUCTS
from digits.nn.scratch import Array, Shape, thread_scratch

STRIP = 32  # images, or whatever a product is cut along, at least in such a one


def tiled(key: str, shape: Shape, dtype: Any) -> Array:
    """An array (products, rows, depth, tiles, N); where products are to be small, those of a tile lie together.

    What such a product reads is then one run of memory. With the other tiles in between, the first-level cache would
    hold less of it, as the addresses are apart by a power of two.
    """
    return thread_scratch(key, shape, dtype, (0, 3, 1, 2, 4) if SMALL_PRODUCTS else None)


def in_one(rows: Array) -> bool:
    """The last two axes of rows lie in memory as one."""
    return bool(rows.strides[-2] == rows.shape[-1] * rows.strides[-1])


def merged(rows: Array) -> Array:
    """A view of five axes as four, the last two in one: (products, rows, depth, tiles · N) for instance."""
    return rows.reshape(*rows.shape[:3], -1)


def matrices(rows: Array) -> Array:
    """A view of (products, rows, depth, tiles, N) as matrices (products, rows, tiles, depth, N).

    Tiles that lie together are one: (products, rows, 1, depth, tiles · N).
    """
    return merged(rows)[:, :, np.newaxis] if in_one(rows) else rows.transpose(0, 1, 3, 2, 4)


def windows(rows: Array, count: int, kernel: int, stride: int) -> Array:
    """A view of (products, rows, depth, tiles, N): windows of rows, (products, count, kernel · depth, tiles, N)."""
    product, row, depth, tile, image = rows.strides
    within = depth if rows.shape[2] > 1 else row  # an axis of length 1 may have any stride
    shape = (len(rows), count, kernel * rows.shape[2], *rows.shape[3:])
    return np.lib.stride_tricks.as_strided(rows, shape, (product, stride * row, within, tile, image))


def strips(x: Array, width: int) -> Array:
    """A view of (products, rows, K, tiles, N) as (products, rows, tiles, N / width, K, width)."""
    return x.reshape(*x.shape[:4], -1, width).transpose(0, 1, 3, 4, 2, 5)


def transposed(weights: Array) -> Array:
    """A view of (products, taps, depth, M) as matrices (products, M, taps · depth)."""
    return weights.reshape(len(weights), -1, weights.shape[3]).transpose(0, 2, 1)


def copied(key: str, rows: Array) -> CallsFor:
    """A copy, in C order, of a view whose axes lie otherwise in memory: with it OpenBLAS is up to twice as quick."""
    copy = thread_scratch(key, rows.shape, rows.dtype)
    yield np.copyto, copy, rows
    return copy


def multiply_rows(matrices: Array, rows: Array, out: Array) -> Call:
    """Matrices (products, M, K) times rows (products, rows, K, tiles, N) into out (products, rows, M, tiles, N)."""
    width = rows.shape[4]
    if SMALL_PRODUCTS:
        width //= pieces(width, SMALL_PRODUCT // (matrices.shape[1] * matrices.shape[2]))
    elif in_one(rows) and in_one(out):
        return np.matmul, matrices[:, np.newaxis], merged(rows), merged(out)
    return np.matmul, matrices[:, np.newaxis, np.newaxis, np.newaxis], strips(rows, width), strips(out, width)


def add_products(left: Array, right: Array, to: Array) -> Calls:
    """Add to (products, D, M) left (products, rows, tiles, D, K) times right (products, rows, tiles, K, M).

    The products are summed over rows and tiles.
    """
    (products, rows, tiles, D, K), M = left.shape, right.shape[4]
    width, height = K, D
    if SMALL_PRODUCTS:
        width = K // pieces(K, SMALL_PRODUCT // (M * min(D, STRIP)))
        height = D // pieces(D, SMALL_PRODUCT // (M * width))
    shape = (products, rows, tiles, K // width, D // height)
    parts = thread_scratch("parts", (*shape, height, M), left.dtype)
    total = thread_scratch("total", (products, D // height, height, M), left.dtype)
    lefts = left.reshape(products, rows, tiles, D // height, height, K // width, width).transpose(0, 1, 2, 5, 3, 4, 6)
    yield np.matmul, lefts, right.reshape(products, rows, tiles, K // width, 1, width, M), parts
    yield np.add.reduce, parts, (1, 2, 3), None, total
    yield np.add, to, total.reshape(to.shape), to


def add_sums(rows: Array, to: Array) -> Calls:
    """Add to (M,) the sum of (rows, M, tiles, N) over all else."""
    by_tile = merged(rows[np.newaxis]) if in_one(rows) else rows.transpose(2, 0, 1, 3)
    sums, total = (thread_scratch(key, of, to.dtype) for key, of in (("sums", by_tile.shape[:3]), ("sum", to.shape)))
    yield np.matmul, by_tile, np.ones(by_tile.shape[3], rows.dtype), sums
    yield np.add.reduce, sums, (0, 1), None, total
    yield np.add, to, total, to


@functools.cache
def pieces(length: int, most: int) -> int:
    """The least number of equal pieces of a length that are no longer than `most`; 1 if they would be short ones."""
    fitting = (count for count in range(1, length // STRIP + 1) if length % count == 0 and length <= most * count)
    return next(fitting, 1)
