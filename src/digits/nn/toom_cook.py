"""Sums over a kernel with fewer multiplications than they have terms, as matrices: y = Aᵀ ((G w) * (Bᵀ x)).

Toom 1963 and Cook 1966 multiply polynomials by way of their values at some points. Transposed, that is a convolution;
in convolutional networks it is known as Winograd's (Lavin & Gray 2016, arXiv 1509.09308).
"""

import functools
import math

import numpy as np

from digits.nn.scratch import Array

POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 2.5)  # small ones: rounding grows with their powers


@functools.cache
def toom_cook(m: int, r: int) -> tuple[Array, Array, Array]:
    """Aᵀ (m, n), G (n, r) and Bᵀ (n, n), float64, n = m + r - 1, so that y = Aᵀ ((G w) * (Bᵀ x)).

    y[i] is the sum over k of w[k] x[i + k]. It is the transpose of multiplying two polynomials by their values at n - 1
    points and at infinity, which is why A and G hold powers of the points and B the interpolation's coefficients.
    """
    n = m + r - 1
    if m == 1 or r == 1:  # nothing to save: each weight with its own column
        return np.ones((m, n)) if m == 1 else np.eye(m), np.eye(r) if m == 1 else np.ones((n, 1)), np.eye(n)
    points = POINTS[: n - 1]
    A, G, BT = np.zeros((n, m)), np.zeros((n, r)), np.zeros((n, n))
    for row, point in enumerate(points):
        others = [other for other in points if other != point]
        A[row] = [point**i for i in range(m)]
        G[row] = [point**i / math.prod(point - other for other in others) for i in range(r)]
        BT[row, : n - 1] = np.poly(others)[::-1]
    A[-1, -1] = G[-1, -1] = 1
    BT[-1] = np.poly(points)[::-1]
    return A.T, G, BT


@functools.cache
def strided_toom_cook(m: int, kernel: int, stride: int) -> tuple[Array, Array, Array]:
    """The same for y[i] the sum over k of w[k] x[stride i + k]: side by side for each stride-th weight and column."""
    parts = [toom_cook(m, len(range(phase, kernel, stride))) for phase in range(min(stride, kernel))]
    n = sum(len(G) for _, G, _ in parts)
    AT, G, BT = np.zeros((m, n)), np.zeros((n, kernel)), np.zeros((n, stride * (m - 1) + kernel))
    row = 0
    for phase, (part_AT, part_G, part_BT) in enumerate(parts):
        rows = slice(row, row := row + len(part_G))
        AT[:, rows] = part_AT
        G[rows, phase::stride] = part_G
        BT[rows, phase::stride] = part_BT
    return AT, G, BT
