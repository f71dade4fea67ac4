"""How rows of images are spread along W, so that a correlation is matrix products of them, and back."""

import functools
import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from digits.nn.geometry import Geometry, runs
from digits.nn.plans import Calls, CallsFor
from digits.nn.products import order_of
from digits.nn.scratch import Array, Shape, thread_scratch, thread_zeros
from digits.nn.tiles import copied, in_one, merged, tiled
from digits.nn.toom_cook import POINTS, strided_toom_cook

PLAIN_CHANNELS = 8  # below which spreading costs more than it saves


class Columns(ABC):
    """How rows are spread along W, `products` matrix products over `depth` channels and `tiles` columns a row.

    Rows are (rows, W, C, N) before and (products, rows, depth, tiles, N) after.
    """

    def __init__(self, geometry: Geometry, products: int, depth: int, tiles: int) -> None:
        self.geometry = geometry
        self.products, self.depth, self.tiles = products, depth, tiles

    @property
    @abstractmethod
    def even(self) -> int:
        """The product to which a bias is added: it is part of all results of its tile, and its gradient their sum."""

    @abstractmethod
    def weights(self, W: Array) -> CallsFor:
        """What the spread rows are multiplied with, (products, k, depth, M), from W (k, k, C, M)."""

    @abstractmethod
    def weights_back(self, dweights: Array, dW: Array) -> Calls:
        """The gradient dW from that of the above as (products, k, depth, M)."""

    def rows_of(self, rows: int, images: int, dtype: Any) -> Array:
        """Where so many spread rows go, (products, rows, depth, tiles, N)."""
        return thread_scratch("rows", (self.products, rows, self.depth, self.tiles, images), dtype)

    @abstractmethod
    def spread(self, x: Array, rows: Array) -> Calls:
        """The rows of x spread."""

    def drows_of(self, rows: int, dx: Array) -> Array:
        """Where the gradient of so many spread rows goes."""
        return thread_scratch("drows", (self.products, rows, self.depth, self.tiles, dx.shape[3]), dx.dtype)

    def inner(self, drows: Array) -> Array:
        """That gradient as (products, rows, depth, tiles, N)."""
        return drows

    @abstractmethod
    def spread_back(self, drows: Array, dx: Array) -> Calls:
        """The transpose of `spread`: dx (rows, W, C, N), which may be every s-th row of an image."""

    @abstractmethod
    def products_of(self, y: Array) -> Array:
        """Where the products of the rows y (rows, Wo, M, N) go, (products, rows, M, tiles, N)."""

    @abstractmethod
    def join(self, products: Array, y: Array) -> Calls:
        """The result's rows from the products."""

    @abstractmethod
    def dproducts_of(self, shape: Shape, dtype: Any) -> Array:
        """Where the products' gradient goes, likewise, given the shape of dy."""

    @abstractmethod
    def join_back(self, dy: Array, dproducts: Array) -> Calls:
        """The transpose."""


class Shifts(Columns):
    """The plain way: each row once for each column of the kernel, those columns being further channels."""

    def __init__(self, geometry: Geometry) -> None:
        super().__init__(geometry, 1, geometry.kernel * geometry.channels, geometry.out_width)

    @property
    def even(self) -> int:
        return 0

    def weights(self, W: Array) -> CallsFor:
        yield from ()
        return W.reshape(1, len(W), -1, W.shape[3])

    def weights_back(self, dweights: Array, dW: Array) -> Calls:
        yield np.copyto, dW, dweights.reshape(dW.shape)

    def spread(self, x: Array, rows: Array) -> Calls:
        g = self.geometry
        shifted = rows.reshape(rows.shape[1], g.kernel, g.channels, g.out_width, rows.shape[4])
        for tap in range(g.kernel):
            first, last, column = self._seen(tap)
            yield shifted[:, tap, :, :first].fill, 0
            yield shifted[:, tap, :, last:].fill, 0
            seen = x[:, column : column + g.stride * (last - first) : g.stride]
            yield np.copyto, shifted[:, tap, :, first:last], seen.swapaxes(1, 2)

    def spread_back(self, drows: Array, dx: Array) -> Calls:
        g = self.geometry
        shifted = drows.reshape(drows.shape[1], g.kernel, g.channels, g.out_width, drows.shape[4])
        if g.kernel == g.stride == 1 and g.left == 0:
            yield np.copyto, dx, shifted[:, 0].swapaxes(1, 2)
            return
        yield dx.fill, 0
        for tap in range(g.kernel):
            first, last, column = self._seen(tap)
            seen = dx[:, column : column + g.stride * (last - first) : g.stride]
            yield np.add, seen, shifted[:, tap, :, first:last].swapaxes(1, 2), seen

    def products_of(self, y: Array) -> Array:
        return y.swapaxes(1, 2)[np.newaxis]  # the result itself

    def join(self, products: Array, y: Array) -> Calls:
        yield from ()

    def dproducts_of(self, shape: Shape, dtype: Any) -> Array:
        rows, width, channels, images = shape
        return thread_scratch("dproducts", (1, rows, channels, width, images), dtype)

    def join_back(self, dy: Array, dproducts: Array) -> Calls:
        yield np.copyto, dproducts[0], dy.swapaxes(1, 2)  # a row of all pixels, over which to sum at once

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
        self.reach = math.ceil(self.span / self.step) - 1  # how many tiles further on a tile's columns go

    @functools.cached_property
    def even(self) -> int:
        return int(np.flatnonzero((self.AT == 1).all(axis=0))[0])  # that of the point 1

    @functools.cached_property
    def _reads(self) -> list[tuple[int, int, int, int]]:
        """Tiles from one to another, and which of their columns, from one to another, are on the image."""
        starts = [self.step * tile - self.geometry.left for tile in range(self.tiles)]
        return runs([(max(-at, 0), min(self.geometry.width - at, self.span)) for at in starts])

    @functools.cached_property
    def _blank(self) -> list[int]:
        """The tiles with no columns on the image."""
        read = {tile for first, last, _, _ in self._reads for tile in range(first, last)}
        return sorted(set(range(self.tiles)) - read)

    @functools.cached_property
    def _writes(self) -> list[tuple[int, int, int, int]]:
        """Steps from one to another, and which of their columns, from one to another, are on the image."""
        starts = [self.step * step - self.geometry.left for step in range(self.tiles + self.reach)]
        return runs([(max(-at, 0), min(self.geometry.width - at, self.step)) for at in starts])

    @functools.cached_property
    def _joins(self) -> list[tuple[int, int, int, int]]:
        """Tiles from one to another, and how many results they have: the last may have fewer than m."""
        results = [(0, min(self.geometry.out_width - self.m * tile, self.m)) for tile in range(self.tiles)]
        return runs(results)

    def weights(self, W: Array) -> CallsFor:
        weights = thread_scratch("weights", (self.products, len(W), *W.shape[2:]), W.dtype)
        by_row = weights.reshape(self.products, len(W), -1).transpose(1, 0, 2)
        yield np.matmul, self.G.astype(W.dtype), W.reshape(*W.shape[:2], -1), by_row
        return weights

    def weights_back(self, dweights: Array, dW: Array) -> Calls:
        by_row = dweights.reshape(*dweights.shape[:2], -1).transpose(1, 0, 2)
        yield np.matmul, self.G.T.astype(dW.dtype), by_row, dW.reshape(*dW.shape[:2], -1)

    def spread(self, x: Array, rows: Array) -> Calls:
        out = rows.transpose(1, 3, 0, 2, 4)
        for tile in self._blank:
            yield out[:, tile].fill, 0
        for first, last, low, high in self._reads:
            tiles = self._tiles(x, first, last, low, high)
            yield from mapped(self.BT[:, low:high], tiles, out[:, first:last])

    def rows_of(self, rows: int, images: int, dtype: Any) -> Array:
        return tiled("rows", (self.products, rows, self.depth, self.tiles, images), dtype)

    def drows_of(self, rows: int, dx: Array) -> Array:
        # A tile's products side by side, and tiles that stay zeros at both ends: see `spread_back`.
        shape = (rows, self.tiles + 2 * self.reach, self.products, self.depth, dx.shape[3])
        return thread_zeros(f"drows {self.reach}", shape, dx.dtype)

    def inner(self, drows: Array) -> Array:
        return drows[:, self.reach : self.reach + self.tiles].transpose(2, 0, 3, 1, 4)

    def spread_back(self, drows: Array, dx: Array) -> Calls:
        # A column gets something from its own tile and the `reach` before: one product with all of them in a row.
        rows, _, products, *pixel = drows.shape
        beside = np.lib.stride_tricks.as_strided(
            drows, (rows, self.tiles + self.reach, (self.reach + 1) * products, *pixel), drows.strides
        )
        B = self._beside()
        for first, last, low, high in self._writes:
            yield from mapped(B[low:high], beside[:, first:last], self._tiles(dx, first, last, low, high))
        yield dx[:, self.step * (self.tiles + self.reach) - self.geometry.left :].fill, 0

    def products_of(self, y: Array) -> Array:
        return self._products("products", y.shape, y.dtype)

    def dproducts_of(self, shape: Shape, dtype: Any) -> Array:
        return self._products("dproducts", shape, dtype)

    def join(self, products: Array, y: Array) -> Calls:
        source = products.transpose(1, 3, 0, 2, 4)
        for first, last, _, count in self._joins:
            yield from mapped(self.AT[:count], source[:, first:last], self._results(y, first, last, count))

    def join_back(self, dy: Array, dproducts: Array) -> Calls:
        out = dproducts.transpose(1, 3, 0, 2, 4)
        for first, last, _, count in self._joins:
            yield from mapped(self.AT[:count].T, self._results(dy, first, last, count), out[:, first:last])

    def _products(self, key: str, shape: Shape, dtype: Any) -> Array:
        rows, _, channels, images = shape
        return tiled(key, (self.products, rows, channels, self.tiles, images), dtype)

    def _beside(self) -> Array:
        """What a step's columns get from the tiles `reach` before it to its own, (step, (reach + 1) n)."""
        B = np.zeros(((self.reach + 1) * self.step, self.products))
        B[: self.span] = self.BT.T
        return np.hstack([B[self.step * tile : self.step * (tile + 1)] for tile in range(self.reach, -1, -1)])

    def _tiles(self, x: Array, first: int, last: int, low: int, high: int) -> Array:
        """The columns low to high of some tiles of x's rows, (rows, tiles, columns, C, N), as a view."""
        return tiles_of(x, self.step * first - self.geometry.left + low, last - first, self.step, high - low)

    def _results(self, y: Array, first: int, last: int, count: int) -> Array:
        """The first `count` results of some tiles of y's rows, (rows, tiles, count, M, N), as a view."""
        columns = y[:, self.m * first : self.m * (last - 1) + count]
        return columns.reshape(len(y), last - first, -1, *y.shape[2:])


def quickest(geometry: Geometry) -> Columns:
    """The way with the fewest multiplications; the plain one for few channels, which are not worth the spreading."""
    g = geometry
    ways = [ToomCook(g, m) for m in range(2, 8) if m + g.taps - 2 <= len(POINTS) and g.channels >= PLAIN_CHANNELS]
    ways = [way for way in ways if way.products * way.tiles < g.kernel * g.out_width]
    return min(ways, key=lambda way: way.products * way.tiles, default=Shifts(g))


def tiles_of(x: Array, start: int, tiles: int, step: int, width: int) -> Array:
    """A view of rows x (rows, W, C, N) as (rows, tiles, width, C, N): columns `start` on, a tile every `step`."""
    row, column, *pixel = x.strides
    return np.lib.stride_tricks.as_strided(
        x[:, start:], (len(x), tiles, width, *x.shape[2:]), (row, step * column, column, *pixel)
    )


def mapped(matrix: Array, columns: Array, out: Array) -> Calls:
    """A matrix (m, n) times (rows, tiles, n, C, N), into out (rows, tiles, m, C, N).

    It is one product a tile, of all channels at once. Where they do not lie together in memory it takes less time to
    copy them, before or afterwards, than to make a product of each.
    """
    source, product = columns, out
    if not in_one(columns):
        source = yield from copied("together", columns)
    if not in_one(out):
        product = thread_scratch("to be copied", out.shape, out.dtype)
    yield np.matmul, matrix.astype(out.dtype, order_of(len(matrix))), merged(source), merged(product)
    if product is not out:
        yield np.copyto, out, product
