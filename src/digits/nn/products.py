"""Matrix products, cut so that OpenBLAS is quick with them.

With AVX-512 OpenBLAS multiplies small matrices as they lie in memory, and larger ones after copying them into an order
of its own. That pays for larger matrices than most of a network's: cut into small ones these take up to a quarter less.
"""

import functools
import sys
from typing import Literal

import numpy as np

from digits.nn.scratch import Array, thread_scratch

SMALL_PRODUCT = 1_000_000  # multiplications up to which OpenBLAS multiplies without repacking, if it has AVX-512 for it
SIMD = set(np.show_config(mode="dicts")["SIMD Extensions"]["found"])
SMALL_PRODUCTS = not SIMD.isdisjoint({"AVX512F", "X86_V4"})
LARGE = 256 if "AVX512_SPR" in SIMD else sys.maxsize  # rows, columns and terms from which on it pays to copy them
LEAST = 16  # rows and columns of a small product, at least, and terms of its sums: for fewer it does not pay
ROWS, COLUMNS = 4, (16, 8)  # that the code for small products does at a time: multiples of these are quickest


def multiply(left: Array, right: Array, out: Array) -> None:
    """out (M, N) = left (M, K) right (K, N), by tiles of `out` where these are quicker."""
    (M, K), N = left.shape, right.shape[1]
    rows, columns = tile(M, K, N)
    if not rows:
        np.matmul(left, right, out=out)
        return
    tiles = right.reshape(K, N // columns, columns).swapaxes(0, 1)
    if not tiles.flags.c_contiguous:
        copy = thread_scratch("right", tiles.shape, tiles.dtype)
        copy[...] = tiles
        tiles = copy
    multiply_tiles(left, tiles, out)


def multiply_tiles(left: Array, right: Array, out: Array) -> None:
    """The same, with right as (N / columns, K, columns), for any number of columns: those of a tile lie together."""
    (M, K), (tiles, _, columns) = left.shape, right.shape
    rows = tile_rows(M, K, columns)
    out = out.reshape(M // rows, rows, tiles, columns).swapaxes(1, 2)
    np.matmul(left.reshape(M // rows, 1, rows, K), right, out=out)


@functools.cache
def tile(M: int, K: int, N: int) -> tuple[int, int]:
    """Rows and columns of the result of (M, K) times (K, N) to compute at a time, 0 and 0 for all of it.

    Of the tiles that are small products it is the one with the most multiplications for the numbers that it is of.
    Intel's processors from Sapphire Rapids on copy so quickly that large products are left whole there; on a Zen 4 that
    would cost the perceptron 1 to 4 % of its speed, on a Zen 5 it has not been measured. From 128 on it pays a little
    as well, but then the recipe `mlp` would not have the same weights, to the bit, on all processors with AVX-512: sums
    are rounded in another order.
    """
    most = SMALL_PRODUCT // K
    if not SMALL_PRODUCTS or K < LEAST or most >= M * N or min(M, K, N) >= LARGE:
        return 0, 0
    for multiple in COLUMNS:
        tiles = [
            (rows, columns)
            for columns in multiples(N, multiple)
            for rows in multiples(M, ROWS)
            if rows * columns <= most
        ]
        if tiles:
            return max(tiles, key=lambda tile: (tile[0] * tile[1] / (tile[0] + tile[1]), tile))
    return 0, 0


@functools.cache
def tile_rows(M: int, K: int, columns: int) -> int:
    """How many of M rows go into a tile of so many columns: as many as make it a small product, all if that pays not.

    For the columns of `tile` they are its rows.
    """
    if not SMALL_PRODUCTS or K < LEAST or columns % COLUMNS[-1]:
        return M
    return max((rows for rows in multiples(M, ROWS) if rows * K * columns <= SMALL_PRODUCT), default=M)


def order_of(rows: int) -> Literal["C", "F"]:
    """How a matrix of few rows had best lie in memory that is to be multiplied with one of many columns.

    So it was measured with OpenBLAS 0.3.31 on a Zen 5, for up to 20 rows: as if six went together in F order, four in C
    order. The result is the same to the bit.
    """
    return "F" if rows % 6 < 4 else "C"


def multiples(length: int, of: int) -> list[int]:
    """The lengths, multiples of a number, of equal pieces of a length, from the least that pays on."""
    return [piece for piece in range(of, length + 1, of) if piece >= LEAST and length % piece == 0]
