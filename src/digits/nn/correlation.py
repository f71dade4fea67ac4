"""Correlating images with small kernels: where a convolutional network spends its time.

    y[n, i, j, m] = the sum over a, b, c of W[m, a, b, c] x[n, s i + a - top, s j + b - left, c]

Images lie in memory as (H, C, W, N), the images innermost. Then a column of pixels is a run of N numbers, a row of the
image with all its channels is one block, and the kernel's rows are windows of that memory: no patches are copied along
H. Along W a row is spread out once, in one of two ways:

- `Shifts` copies it once for each column of the kernel: the plain way, for kernels of few channels or a single column;
- `ToomCook` computes m outputs from r = `kernel` weights with m + r - 1 multiplications instead of m r, by
  interpolation of a polynomial (Toom 1963, Cook 1966; in convolutional networks Winograd's, Lavin & Gray 2016, arXiv
  1509.09308): y = Aᵀ ((G w) * (Bᵀ x)). A stride of s makes it s such sums, over each s-th column.

What remains are matrix products, (M, C·rows) by (C·rows, tiles·N), of a block of image rows at a time, whose buffers
stay in the caches; the backward pass spreads the rows anew rather than keeping what is larger than the image. Each
linear map of the forward pass has its transpose in the backward pass.
"""

import functools
import itertools
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from digits.nn.scratch import Array, thread_scratch

BLOCK_BYTES = 3 << 19  # of spread rows and products at a time: what one core has of L2 and a little of L3
SMALL_PRODUCT = 1_000_000  # multiplications up to which OpenBLAS multiplies without repacking
TILE = 64  # columns of such a product
PLAIN_CHANNELS = 8  # below which spreading costs more than it saves
POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)  # small ones: rounding grows with their powers


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


class Correlation:
    """The correlation of one geometry, forward and backward, on arrays in (H, C, W, N) memory order."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = g = geometry
        taps = math.ceil(g.kernel / g.stride)
        ways = [ToomCook(g, m) for m in (2, 3, 4) if m + taps - 2 <= len(POINTS) and g.channels >= PLAIN_CHANNELS]
        ways = [way for way in ways if way.products * way.tiles < g.kernel * g.out_width]
        self._columns: Columns = min(ways, key=lambda way: way.products * way.tiles, default=Shifts(g))

    def forward(self, x: Array, W: Array, y: Array, b: Array | None = None) -> None:
        """y (Ho, M, Wo, N) from x (H, C, Wd, N), W (M, k, k, C) and, if there are biases, b (M,)."""
        g, columns = self.geometry, self._columns
        weights = columns.weights(W).reshape(columns.products, g.out_channels, -1)
        block = self._block_rows(x)
        overlap = max(g.kernel - g.stride, 0)
        rows = self._spread_scratch("spread", g.stride * (block - 1) + g.kernel, x)
        for start in range(0, g.out_height, block):
            count = min(block, g.out_height - start)
            fresh = 0
            if start:
                rows[:, :overlap] = rows[:, g.stride * block : g.stride * block + overlap]
                fresh = overlap
            self._spread(x, g.stride * start + fresh, rows[:, fresh : g.stride * (count - 1) + g.kernel])
            out = columns.product_rows("products", y[start : start + count])
            multiply(weights, windows(rows, count, g.kernel, g.stride), flat(out))
            columns.join(out, y[start : start + count])
            if b is not None:
                y[start : start + count] += b[:, np.newaxis, np.newaxis]

    def backward(
        self, x: Array, W: Array, dy: Array, dW: Array, db: Array | None = None, dx: Array | None = None
    ) -> None:
        """dW (M, k, k, C), and db (M,) and dx (H, C, Wd, N) if they are wanted, from dy (Ho, M, Wo, N) and x."""
        g, columns, s = self.geometry, self._columns, self.geometry.stride
        block = self._block_rows(x)
        taps = math.ceil(g.kernel / s)  # of the kernel's rows that are s apart, so the rows of dy that an x row feels
        ones = np.ones(dy.shape[2] * dy.shape[3], dy.dtype)
        if db is not None:
            db[...] = 0
        dweights = np.zeros((columns.products, g.kernel * columns.depth, g.out_channels), x.dtype)
        backwards = []  # the weights for each phase of dx's rows: every s-th row of the kernel, from the last
        if dx is not None:
            weights = columns.weights(W)
            for phase in range(min(s, g.kernel)):
                reverse = np.ascontiguousarray(weights[:, :, phase::s][:, :, ::-1].transpose(0, 3, 2, 1))
                backwards.append(reverse.reshape(columns.products, columns.depth, -1))
            dx[max(s * (g.out_height + taps - 1) - g.top, 0) :] = 0
            if g.kernel < s:
                dx[...] = 0
        rows = self._spread_scratch("spread", s * (block - 1) + g.kernel, x)
        drows = thread_scratch("drows", (columns.products, block, columns.depth, columns.tiles, x.shape[3]), x.dtype)
        history = taps - 1
        products = thread_scratch(
            "dproducts", (columns.products, history + block, g.out_channels, columns.tiles, x.shape[3]), x.dtype
        )
        products[:, :history] = 0
        for start in range(0, g.out_height + (history if dx is not None else 0), block):
            stop = min(start + block, g.out_height + history)
            count = max(min(stop, g.out_height) - start, 0)
            if start:
                products[:, :history] = products[:, block : block + history]
            if count:
                if db is not None:
                    db += np.matmul(dy[start : start + count].reshape(count, len(db), -1), ones).sum(axis=0)
                columns.join_back(dy[start : start + count], products[:, history : history + count])
                spread = rows[:, : s * (count - 1) + g.kernel]
                self._spread(x, s * start, spread)
                parts = thread_scratch("parts", (columns.products, count, *dweights.shape[1:]), x.dtype)
                dout = flat(products[:, history : history + count])
                np.matmul(windows(spread, count, g.kernel, s), dout.transpose(0, 1, 3, 2), out=parts)
                for row in range(count):
                    dweights += parts[:, row]
            products[:, history + count : history + stop - start] = 0
            for phase, weights in enumerate(backwards):
                # the padded image's rows s q + phase, for q from start to stop, less those that are padding
                first = max(start, math.ceil((g.top - phase) / s))
                last = min(stop, math.ceil((g.top + g.height - phase) / s))
                if first < last:
                    own = math.ceil((g.kernel - phase) / s)
                    seen = products[:, history + first - start - own + 1 : history + last - start]
                    multiply(weights, windows(seen, last - first, own, 1), flat(drows[:, : last - first]))
                    at = s * first + phase - g.top
                    columns.spread_back(drows[:, : last - first], dx[at : at + s * (last - first - 1) + 1 : s])
        columns.weights_back(dweights.reshape(columns.products, g.kernel, columns.depth, g.out_channels), dW)

    def _block_rows(self, x: Array) -> int:
        """How many rows of the result to compute at a time."""
        g, columns = self.geometry, self._columns
        run = columns.products * columns.tiles * x.shape[3] * x.itemsize
        row = run * (g.stride * columns.depth + g.out_channels)
        fitting = (BLOCK_BYTES - run * columns.depth * (g.kernel - g.stride)) // row
        return int(max(min(g.out_height, fitting), 2))

    def _spread_scratch(self, key: str, rows: int, x: Array) -> Array:
        columns = self._columns
        return thread_scratch(key, (columns.products, rows, columns.depth, columns.tiles, x.shape[3]), x.dtype)

    def _spread(self, x: Array, start: int, rows: Array) -> None:
        """Spread the padded image's rows from `start` on, as many as `rows` holds."""
        g = self.geometry
        first, last = start - g.top, start - g.top + rows.shape[1]
        above, below = max(min(-first, last - first), 0), max(min(last - g.height, last - first), 0)
        if above:
            rows[:, :above] = 0
        if below:
            rows[:, rows.shape[1] - below :] = 0
        if above + below < rows.shape[1]:
            self._columns.spread(x[first + above : last - below], rows[:, above : rows.shape[1] - below])


class Columns(ABC):
    """How rows are spread along W, `products` matrix products over `depth` channels and `tiles` columns a row.

    Rows are (rows, C, W, N) before and (products, rows, depth, tiles, N) after.
    """

    def __init__(self, geometry: Geometry, products: int, depth: int, tiles: int) -> None:
        self.geometry = geometry
        self.products, self.depth, self.tiles = products, depth, tiles

    @abstractmethod
    def weights(self, W: Array) -> Array:
        """What the spread rows are multiplied with, (products, M, k, depth), from W (M, k, k, C)."""

    @abstractmethod
    def weights_back(self, dweights: Array, dW: Array) -> None:
        """The gradient dW from that of the above as (products, k, depth, M)."""

    @abstractmethod
    def spread(self, x: Array, rows: Array) -> None:
        """The rows of x spread."""

    @abstractmethod
    def spread_back(self, drows: Array, dx: Array) -> None:
        """The transpose: dx (rows, C, W, N), which may be every s-th row of an image."""

    @abstractmethod
    def product_rows(self, key: str, y: Array) -> Array:
        """Where the products of the rows y (rows, M, Wo, N) go, (products, rows, M, tiles, N)."""

    @abstractmethod
    def join(self, products: Array, y: Array) -> None:
        """The result's rows from the products."""

    @abstractmethod
    def join_back(self, dy: Array, dproducts: Array) -> None:
        """The transpose."""


class Shifts(Columns):
    """The plain way: each row once for each column of the kernel, those columns being further channels."""

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(geometry, 1, geometry.kernel * geometry.channels, geometry.out_width)

    def weights(self, W: Array) -> Array:
        return W.reshape(1, *W.shape[:2], -1)

    def weights_back(self, dweights: Array, dW: Array) -> None:
        dW.reshape(*dW.shape[:2], -1)[...] = dweights[0].transpose(2, 0, 1)

    def spread(self, x: Array, rows: Array) -> None:
        g = self.geometry
        shifted = rows.reshape(rows.shape[1], g.kernel, g.channels, g.out_width, rows.shape[4])
        for tap in range(g.kernel):
            first, last, column = self._seen(tap)
            shifted[:, tap, :, :first] = 0
            shifted[:, tap, :, last:] = 0
            shifted[:, tap, :, first:last] = x[:, :, column : column + g.stride * (last - first) : g.stride]

    def spread_back(self, drows: Array, dx: Array) -> None:
        g = self.geometry
        shifted = drows.reshape(drows.shape[1], g.kernel, g.channels, g.out_width, drows.shape[4])
        if g.kernel == g.stride == 1 and g.left == 0:
            dx[...] = shifted[:, 0]
            return
        dx[...] = 0
        for tap in range(g.kernel):
            first, last, column = self._seen(tap)
            dx[:, :, column : column + g.stride * (last - first) : g.stride] += shifted[:, tap, :, first:last]

    def product_rows(self, key: str, y: Array) -> Array:
        return y[np.newaxis]

    def join(self, products: Array, y: Array) -> None:
        """They are the result already."""

    def join_back(self, dy: Array, dproducts: Array) -> None:
        dproducts[0] = dy

    def _seen(self, tap: int) -> tuple[int, int, int]:
        """The results (first, last) for which column `tap` of the kernel is on the image, and the first's column."""
        g = self.geometry
        first = min(max(math.ceil((g.left - tap) / g.stride), 0), g.out_width)
        last = max(min(math.ceil((g.width + g.left - tap) / g.stride), g.out_width), first)
        return first, last, g.stride * first + tap - g.left


class ToomCook(Columns):
    """Tiles of m results a row, each from `span` columns through n multiplications."""

    def __init__(self, geometry: Geometry, m: int) -> None:
        self.m, self.step = m, m * geometry.stride
        self.AT, self.G, self.BT = strided_toom_cook(m, geometry.kernel, geometry.stride)
        self.span = self.BT.shape[1]
        super().__init__(geometry, len(self.G), geometry.channels, math.ceil(geometry.out_width / m))
        self._matrices: dict[tuple[str, Any, int, int], Array] = {}

    @functools.cached_property
    def _reads(self) -> list[tuple[int, int, int, int]]:
        """Tiles from one to another, and which of their columns, from one to another, are on the image."""
        starts = [self.step * tile - self.geometry.left for tile in range(self.tiles)]
        return runs([(max(-at, 0), min(self.geometry.width - at, self.span)) for at in starts])

    @functools.cached_property
    def _pieces(self) -> list[tuple[int, int, int, int, bool]]:
        """What of the tiles goes back to which columns: as `_reads`, and whether it is the first to go there.

        A tile's columns are in pieces of one step's width, lest neighbours' pieces overlap in one addition.
        """
        pieces = []
        for low in range(0, self.span, self.step):
            high = min(low + self.step, self.span)
            last = self.tiles - 1 if low else 0
            for tiles, first in ((range(last, self.tiles), True), (range(last), False)):
                starts = [self.step * tile - self.geometry.left for tile in tiles]
                inside = [(max(-at, low), min(self.geometry.width - at, high)) for at in starts]
                for a, b, lo, hi in runs(inside):
                    pieces.append((tiles.start + a, tiles.start + b, lo, hi, first))
        return pieces

    @functools.cached_property
    def _joins(self) -> list[tuple[int, int, int, int]]:
        """Tiles from one to another, and how many results they have: the last may have fewer than m."""
        results = [(0, min(self.geometry.out_width - self.m * tile, self.m)) for tile in range(self.tiles)]
        return runs(results)

    def weights(self, W: Array) -> Array:
        return np.ascontiguousarray(np.matmul(self.G.astype(W.dtype), W).transpose(2, 0, 1, 3))

    def weights_back(self, dweights: Array, dW: Array) -> None:
        np.matmul(self.G.T.astype(dW.dtype), dweights.transpose(3, 1, 0, 2), out=dW)

    def spread(self, x: Array, rows: Array) -> None:
        out = rows.transpose(1, 2, 3, 0, 4)
        for first, last, low, high in self._reads:
            np.matmul(
                self._matrix("BT", x, low, high), self._tiles(x, first, last, low, high), out=out[:, :, first:last]
            )

    def spread_back(self, drows: Array, dx: Array) -> None:
        source = drows.transpose(1, 2, 3, 0, 4)
        covered = self.step * (self.tiles - 1) + self.span - self.geometry.left
        if covered < self.geometry.width:
            dx[:, :, covered:] = 0
        for first, last, low, high, fresh in self._pieces:
            out = self._tiles(dx, first, last, low, high)
            B = self._matrix("B", dx, low, high)
            if fresh:
                np.matmul(B, source[:, :, first:last], out=out)
            else:
                out += np.matmul(B, source[:, :, first:last], out=thread_scratch("tail", out.shape, dx.dtype))

    def product_rows(self, key: str, y: Array) -> Array:
        return thread_scratch(key, (self.products, *y.shape[:2], self.tiles, y.shape[3]), y.dtype)

    def join(self, products: Array, y: Array) -> None:
        source = products.transpose(1, 2, 3, 0, 4)
        for first, last, _, count in self._joins:
            np.matmul(
                self._matrix("AT", y, 0, count), source[:, :, first:last], out=self._results(y, first, last, count)
            )

    def join_back(self, dy: Array, dproducts: Array) -> None:
        out = dproducts.transpose(1, 2, 3, 0, 4)
        for first, last, _, count in self._joins:
            results = self._results(dy, first, last, count)
            np.matmul(self._matrix("A", dy, 0, count), results, out=out[:, :, first:last])

    def _matrix(self, name: str, x: Array, low: int, high: int) -> Array:
        """The map from or to some of a tile's columns or results, in x's dtype."""
        key = (name, x.dtype, low, high)
        if key not in self._matrices:
            columns, results = self.BT[:, low:high], self.AT[low:high]
            matrix = {"BT": columns, "B": columns.T, "AT": results, "A": results.T}[name]
            self._matrices[key] = np.ascontiguousarray(matrix, x.dtype)
        return self._matrices[key]

    def _tiles(self, x: Array, first: int, last: int, low: int, high: int) -> Array:
        """The columns low to high of some tiles of x's rows, (rows, C, tiles, columns, N), as a view."""
        return tiles_of(x, self.step * first - self.geometry.left + low, last - first, self.step, high - low)

    def _results(self, y: Array, first: int, last: int, count: int) -> Array:
        return tiles_of(y, self.m * first, last - first, self.m, count)


def tiles_of(x: Array, start: int, tiles: int, step: int, width: int) -> Array:
    """A view of rows x (rows, C, W, N) as (rows, C, tiles, width, N): columns `start` on, a tile every `step`."""
    rows, channels, column, image = x.strides
    return np.lib.stride_tricks.as_strided(
        x[:, :, start:], (*x.shape[:2], tiles, width, x.shape[3]), (rows, channels, step * column, column, image)
    )


def windows(rows: Array, count: int, kernel: int, stride: int) -> Array:
    """A view of rows (products, rows, depth, tiles, N) as (products, count, kernel · depth, tiles · N) windows."""
    product, row, depth, _, image = rows.strides
    return np.lib.stride_tricks.as_strided(
        rows,
        (len(rows), count, kernel * rows.shape[2], rows.shape[3] * rows.shape[4]),
        (product, stride * row, depth, image),
    )


def flat(products: Array) -> Array:
    """A view (products, rows, M, tiles · N)."""
    return products.reshape(*products.shape[:3], -1)


def multiply(weights: Array, rows: Array, out: Array) -> None:
    """weights (products, M, K) times rows (products, rows, K, L) into out (products, rows, M, L)."""
    length = rows.shape[3]
    tile = tile_width(length)
    if tile < length and weights.shape[1] * weights.shape[2] * length > SMALL_PRODUCT:
        np.matmul(weights[:, np.newaxis, np.newaxis], strips(rows, tile), out=strips(out, tile))
    else:
        np.matmul(weights[:, np.newaxis], rows, out=out)


@functools.cache
def tile_width(length: int) -> int:
    """The divisor of a length that is nearest to `TILE`, or the length itself if none is near."""
    near = [width for width in range(TILE // 2, 3 * TILE // 2 + 1, 8) if length % width == 0]
    return min(near, key=lambda width: abs(width - TILE)) if near else length


def strips(x: Array, width: int) -> Array:
    """A view of (..., K, L) as (..., L / width, K, width)."""
    *outer, row, item = x.strides
    shape = (*x.shape[:-2], x.shape[-1] // width, x.shape[-2], width)
    return np.lib.stride_tricks.as_strided(x, shape, (*outer, width * item, row, item))


def runs(values: list[tuple[int, int]]) -> list[tuple[int, int, int, int]]:
    """Equal neighbours together: (first, last, *value), leaving out values (low, high) that are empty."""
    found, at = [], 0
    for value, group in itertools.groupby(values):
        last = at + len(list(group))
        if value[0] < value[1]:
            found.append((at, last, *value))
        at = last
    return found


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
