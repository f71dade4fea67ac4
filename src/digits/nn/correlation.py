"""Correlating images with small kernels: where a convolutional network spends its time.

    y[n, i, j, m] = the sum over a, b, c of W[a, b, c, m] x[n, s i + a - top, s j + b - left, c]

Images lie in memory as (H, W, C, N), the images innermost. Along W a row is spread out once, in one of two ways, and
the kernel's rows are windows of what comes of it: no patches are copied along H.

- `Shifts` copies it once for each column of the kernel: the plain way, for kernels of few channels or a single column;
- `ToomCook` computes m outputs from r = `kernel` weights with m + r - 1 multiplications instead of m r, by
  interpolation of a polynomial (Toom 1963, Cook 1966; in convolutional networks Winograd's, Lavin & Gray 2016, arXiv
  1509.09308): y = Aᵀ ((G w) * (Bᵀ x)). A stride of s makes it s such sums, over each s-th column.

What remains are matrix products, (M, C·rows) by (C·rows, N) of a tile or, without AVX-512 and where the results of all
tiles of a row lie together in memory, by (C·rows, tiles·N) of these. They are made of a block of image rows at a time,
whose buffers stay in the caches. The backward pass spreads the rows anew: that takes less time than to fetch them from
memory, where they would be larger than the images. Each linear map of the forward pass has its transpose there.
"""

import functools
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from digits.nn.plans import Call, Calls, CallsFor, Plans
from digits.nn.products import SMALL_PRODUCT, SMALL_PRODUCTS, order_of
from digits.nn.scratch import Array, Shape, thread_scratch, thread_zeros

BLOCK_BYTES = 3 << 18  # of spread rows and products at a time: few enough for a core's cache, many for the overlap
PREDICTION_BLOCK_BYTES = 3 << 19  # the same in prediction, where larger blocks pay: in training they do not
PASSING_BLOCKS = 2  # for whose rows there is room: what the next block takes on does not overlap its new place
STRIP = 32  # images, or whatever a product is cut along, at least in such a one
TURNED_DEPTH = 24  # rows of a matrix from which on transposing what it is multiplied with pays
GATHERED_CHANNELS = 64  # from which on gathering rows for a single product over all of them pays, if it may be large
PLAIN_CHANNELS = 8  # below which spreading costs more than it saves
POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 2.5)  # small ones: rounding grows with their powers


class ByRows(NamedTuple):
    """What is to be done with some rows in the cache: of y as soon as they are there, of dy just before their use.

    `work(start, stop, rows, *arrays)` yields the calls, given the rows from start to stop. It gets multiples of so many
    rows as it takes `together`, but for the last ones, and they are not kept; any number, and kept, where that is 0.
    """

    work: Callable[..., Calls]
    arrays: tuple[Array | None, ...]
    together: int = 0

    def to_plan(self) -> tuple[Any, ...]:
        """What a plan depends on."""
        return self.work, *self.arrays


class Passing:
    """Rows (products, rows, ...) of which a few are there at a time, in an array of so many."""

    def __init__(self, few: Array) -> None:
        self._few = few
        self._origin = self.end = 0  # the first of all rows that has a place, and the first that has none yet

    def move(self, start: int, stop: int) -> Calls:
        """Make room for the rows from start to stop; those that are there already stay."""
        if stop - self._origin > self._few.shape[1]:
            stay = self[start : max(self.end, start)]
            yield np.copyto, self._few[:, : stay.shape[1]], stay
            self._origin = start
        self.end = stop

    def __getitem__(self, rows: slice) -> Array:
        """A view of these rows, by their numbers among all; without a stop of whatever follows in memory as well."""
        start = rows.start - self._origin
        return self._few[:, start : None if rows.stop is None else rows.stop - self._origin]


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

    @property
    def padded(self) -> bool:
        """Zeros around the image are seen."""
        bottom, right = ((size - 1) * self.stride + self.kernel for size in (self.out_height, self.out_width))
        before, behind = (self.top, self.left), (bottom - self.top - self.height, right - self.left - self.width)
        return max(*before, *behind) > 0

    @functools.cached_property
    def _met(self) -> tuple[Array, Array]:
        """1 where a row of the result has a row of the kernel on the image, else 0, (H', k); (W', k) for columns."""

        def met(size: int, padding: int, out: int) -> Array:
            places = self.stride * np.arange(out)[:, np.newaxis] + np.arange(self.kernel) - padding
            on_image: Array = (places >= 0) & (places < size)
            return on_image.astype(np.float64)

        return met(self.height, self.top, self.out_height), met(self.width, self.left, self.out_width)

    def of_ones(self, weights: Array) -> Array:
        """What weights (k, k, M) make of an image of ones in a single channel: (H', W', M)."""
        rows, columns = self._met
        across = rows @ weights.reshape(self.kernel, -1)
        y: Array = columns @ across.reshape(self.out_height, *weights.shape[1:])
        return y

    def of_ones_back(self, dy: Array) -> Array:
        """The transpose: (k, k, M) from (H', W', M)."""
        rows, columns = self._met
        across = columns.T @ dy
        weights: Array = (rows.T @ across.reshape(self.out_height, -1)).reshape(self.kernel, *across.shape[1:])
        return weights


class Correlation:
    """The correlation of one geometry, forward and backward, on arrays (H, W, C, N) in C order."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = g = geometry
        self._plans = Plans()
        self._taps = taps = math.ceil(g.kernel / g.stride)  # of the kernel's rows that one row of x meets
        ways = [ToomCook(g, m) for m in range(2, 8) if m + taps - 2 <= len(POINTS) and g.channels >= PLAIN_CHANNELS]
        ways = [way for way in ways if way.products * way.tiles < g.kernel * g.out_width]
        self._columns: Columns = min(ways, key=lambda way: way.products * way.tiles, default=Shifts(g))

        # Which of the kernel's rows each row of y meets; for each phase, which of its rows a row of dx meets.
        tops = [g.stride * row - g.top for row in range(g.out_height)]
        self._forward_taps = [(max(-top, 0), min(g.height - top, g.kernel)) for top in tops]
        self._blank = [row for row, (low, high) in enumerate(self._forward_taps) if low >= high]
        self._turns = g.kernel * self._columns.depth >= TURNED_DEPTH
        wide = g.stride == 1 and min(g.channels, g.out_channels) >= GATHERED_CHANNELS
        self._gathers = wide and not SMALL_PRODUCTS
        self._backward_taps = [self._taps_of(phase) for phase in range(min(g.stride, g.kernel))]
        met = {
            g.stride * q + phase - g.top
            for phase, taps in enumerate(self._backward_taps)
            for q, (low, high) in enumerate(taps)
            if low < high
        }
        self._unmet = sorted(set(range(g.height)) - met)

    def forward(
        self,
        x: Array,
        W: Array,
        y: Array,
        b: Array | None = None,
        then: ByRows | None = None,
        *,
        training: bool = False,
    ) -> None:
        """y (Ho, Wo, M, N) from x (H, Wd, C, N), W (k, k, C, M) and, if there are biases, b.

        b is one a channel, (M,), or one a place, (Ho, Wo, M). If there is something to do with it `then`, y need not be
        filled in. `training` changes nothing but how many rows are computed at a time.
        """
        most = BLOCK_BYTES if training else PREDICTION_BLOCK_BYTES
        y, at_once = self._result_rows(y, x, most, then)
        self._plans(self._forward, x, W, y, b, most, at_once, *(then.to_plan() if then else ()))

    def backward(
        self,
        x: Array,
        W: Array,
        dy: Array,
        dW: Array,
        db: Array | None = None,
        dx: Array | None = None,
        first: ByRows | None = None,
    ) -> None:
        """dW (k, k, C, M), and db and dx (H, Wd, C, N) if they are wanted, from dy (Ho, Wo, M, N) and x.

        db is (M,) or (Ho, Wo, M), as b is. What is to be done `first` changes the rows of dy in place; if it takes some
        together it makes them, and of dy only the shape matters.
        """
        dy, at_once = self._result_rows(dy, x, BLOCK_BYTES, first)
        self._plans(self._backward, x, W, dy, dW, db, dx, at_once, *(first.to_plan() if first else ()))

    def _forward(
        self,
        x: Array,
        W: Array,
        y: Array,
        b: Array | None,
        most: int,
        at_once: int | None,
        then: Callable[..., Calls] | None = None,
        *others: Array,
    ) -> Calls:
        g, columns = self.geometry, self._columns
        blocks = self._blocks(x, most, at_once)
        rows = self._spread_rows(x, blocks)
        weights = yield from columns.weights(W)
        if b is not None and b.ndim == 1:
            (biases,) = tiled("biases", (1, 1, len(b), columns.tiles, y.shape[3]), y.dtype)
            yield np.copyto, biases, b[:, np.newaxis, np.newaxis]  # NumPy is quickest with equal rows
        for start, stop in blocks:
            yield from self._spread(x, rows, start, stop)
            out = y[: stop - start] if at_once else y[start:stop]
            products = columns.products_of(out)
            for first, last, low, high in runs(self._forward_taps, start, stop):
                met = windows(rows[g.stride * first + low :], last - first, high - low, g.stride)
                yield multiply(transposed(weights[:, low:high]), met, products[:, first - start : last - start])
            for row in self._blank:
                if start <= row < stop:
                    yield products[:, row - start].fill, 0
            if b is not None and b.ndim == 1:
                yield np.add, products[columns.even], biases, products[columns.even]
            yield from columns.join(products, out)
            if b is not None and b.ndim == 3:
                yield np.add, out, b[start:stop, ..., np.newaxis], out
            if then:
                yield from then(start, stop, out, *others)

    def _backward(
        self,
        x: Array,
        W: Array,
        dy: Array,
        dW: Array,
        db: Array | None,
        dx: Array | None,
        at_once: int | None,
        first: Callable[..., Calls] | None = None,
        *others: Array,
    ) -> Calls:
        g, columns = self.geometry, self._columns
        before = self._taps - 1  # rows of dy, before its own, that a row of dx meets
        blocks = self._blocks(x, BLOCK_BYTES, at_once)
        rows = self._spread_rows(x, blocks)
        few = min(PASSING_BLOCKS * (largest(blocks) + before), g.out_height)
        dproducts = Passing(columns.dproducts_of((few, *dy.shape[1:]), dy.dtype))
        shape = (columns.products, g.kernel, columns.depth, g.out_channels)
        dweights = thread_scratch("dweights", shape, dy.dtype)
        yield dweights.fill, 0
        if db is not None:
            yield db.fill, 0
        if dx is not None:
            for row in self._unmet:
                yield dx[row].fill, 0
            weights = yield from self._backward_weights(W)
        for start, stop in blocks:
            out = dy[: stop - start] if at_once else dy[start:stop]
            if first:
                yield from first(start, stop, out, *others)
            yield from dproducts.move(max(start - before, 0), stop)
            yield from columns.join_back(out, dproducts[start:stop])
            if db is not None and db.ndim == 1:
                yield from add_sums(dproducts[start:stop][columns.even], db)
            elif db is not None:
                yield np.add.reduce, out, 3, None, db[start:stop]
            yield from self._spread(x, rows, start, stop)
            yield from self._weight_gradient(rows, dproducts[start:stop], start, stop, dweights)
            if dx is not None:
                yield from self._input_gradient(
                    weights, dproducts, start, stop if stop < g.out_height else stop + before, dx
                )
        yield from columns.weights_back(dweights, dW)

    def _weight_gradient(self, rows: Passing, dproducts: Array, start: int, stop: int, dweights: Array) -> Calls:
        """Add what the rows of dy from start to stop, given as `dproducts`, make of dW as (products, k, depth, M)."""
        g = self.geometry
        pixels = matrices(dproducts).swapaxes(3, 4)
        if self._turns:
            pixels = yield from copied("by column", pixels)
            if self._gathers:
                yield from self._gathered_gradient(rows[start : stop + g.kernel - 1], pixels, start, stop, dweights)
                return
        for first, last, low, high in runs(self._forward_taps, start, stop):
            met = matrices(windows(rows[g.stride * first + low :], last - first, high - low, g.stride))
            total = dweights[:, low:high].reshape(len(met), -1, g.out_channels)
            yield from add_products(met, pixels[:, first - start : last - start], total)

    def _gathered_gradient(self, rows: Array, pixels: Array, start: int, stop: int, dweights: Array) -> Calls:
        """The same where the stride is 1, by one product for each row of the kernel over all rows of dy that it meets.

        Given are only the spread rows that are met, and of those of dy their pixels (products, rows, 1, tiles · N, M).
        """
        g = self.geometry
        # (products, depth, rows, tiles · N)
        channels = yield from copied("by channel", merged(rows).swapaxes(1, 2))
        for tap in range(g.kernel):
            first, last = max(g.top - tap, start), min(g.top - tap + g.height, stop)
            if first < last:
                met = channels[:, :, first - start + tap : last - start + tap]
                theirs = pixels[:, first - start : last - start].reshape(len(pixels), 1, 1, -1, g.out_channels)
                yield from add_products(met.reshape(len(met), 1, 1, met.shape[1], -1), theirs, dweights[:, tap])

    def _input_gradient(self, weights: list[Array], dproducts: Passing, start: int, stop: int, dx: Array) -> Calls:
        """The rows of dx whose last row of dy is one from start to stop."""
        g, columns, s = self.geometry, self._columns, self.geometry.stride
        for phase, phase_weights in enumerate(weights):
            taps = phase_weights.shape[2]
            for first, last, low, high in runs(self._backward_taps[phase], start, stop):
                met = windows(dproducts[first - taps + 1 + low :], last - first, high - low, 1)
                drows = columns.drows_of(last - first, dx)
                flat = phase_weights[:, :, low:high].reshape(*phase_weights.shape[:2], -1)
                yield multiply(flat, met, columns.inner(drows))
                at = s * first + phase - g.top
                yield from columns.spread_back(drows, dx[at : at + s * (last - first - 1) + 1 : s])

    def _backward_weights(self, W: Array) -> Generator[Call, None, list[Array]]:
        """The weights for dx's rows of each phase, (products, depth, taps, M): every s-th row of the kernel, backwards.

        The padded image's rows s q + phase, for any q, meet the same rows of the kernel.
        """
        g = self.geometry
        weights = (yield from self._columns.weights(W)).transpose(0, 2, 1, 3)
        phases = []
        for phase in range(min(g.stride, g.kernel)):
            rows = weights[:, :, phase :: g.stride][:, :, ::-1]
            phases.append((yield from copied(f"backward {phase}", rows)))
        return phases

    def _taps_of(self, phase: int) -> list[tuple[int, int]]:
        """For each q, which of the weights above the padded image's row s q + phase meets: none if it is padding."""
        g, taps = self.geometry, math.ceil((self.geometry.kernel - phase) / self.geometry.stride)
        found = []
        for q in range(g.out_height + self._taps - 1):
            oldest = q - taps + 1  # row of dy, that the first of the weights is for
            inside = 0 <= g.stride * q + phase - g.top < g.height
            found.append((max(-oldest, 0), min(g.out_height - oldest, taps)) if inside else (0, 0))
        return found

    def _blocks(self, x: Array, most: int, at_once: int | None) -> list[tuple[int, int]]:
        """The rows of the result, from one to another, to compute at a time: so many, or at most so many bytes."""
        height = self.geometry.out_height
        if at_once is None:
            count = math.ceil(height / self._fitting(x, most))
            edges = [height * block // count for block in range(count + 1)]
        else:
            edges = [*range(0, height, at_once), height]
        return list(itertools.pairwise(edges))

    def _result_rows(self, rows: Array, x: Array, most: int, work: ByRows | None) -> tuple[Array, int | None]:
        """Where rows of the result are, and how many at a time if they are not kept: a multiple of those together."""
        if not work or not work.together:
            return rows, None
        fitting = max(self._fitting(x, most) // work.together, 1) * work.together
        at_once = min(fitting, len(rows))
        return thread_scratch("passing", (at_once, *rows.shape[1:]), rows.dtype), at_once

    def _fitting(self, x: Array, most: int) -> int:
        """How many rows of the result, one at least, are `most` bytes with what is spread for them, of x's images."""
        g, columns = self.geometry, self._columns
        depth = g.stride * columns.depth + g.out_channels
        row_bytes = columns.products * columns.tiles * x.shape[3] * x.itemsize * depth
        return max(most // int(row_bytes), 1)

    def _met_by(self, rows: int) -> int:
        """How many of the padded image's rows so many rows of the result meet."""
        return self.geometry.stride * (rows - 1) + self.geometry.kernel

    def _spread_rows(self, x: Array, blocks: list[tuple[int, int]]) -> Passing:
        """Where the padded image's rows pass by when they are spread."""
        few = min(PASSING_BLOCKS * self._met_by(largest(blocks)), self._met_by(self.geometry.out_height))
        return Passing(self._columns.rows_of(few, x.shape[3], x.dtype))

    def _spread(self, x: Array, rows: Passing, start: int, stop: int) -> Calls:
        """Have the rows spread that those of the result from start to stop meet; what is padding stays unset."""
        g = self.geometry
        begin, end = g.stride * start, g.stride * (stop - 1) + g.kernel
        first, last = max(rows.end, begin, g.top), min(end, g.top + g.height)
        yield from rows.move(begin, end)
        if first < last:
            yield from self._columns.spread(x[first - g.top : last - g.top], rows[first:last])


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
            yield mapped(self.BT[:, low:high], tiles, out[:, first:last])

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
            yield mapped(B[low:high], beside[:, first:last], self._tiles(dx, first, last, low, high))
        yield dx[:, self.step * (self.tiles + self.reach) - self.geometry.left :].fill, 0

    def products_of(self, y: Array) -> Array:
        return self._products("products", y.shape, y.dtype)

    def dproducts_of(self, shape: Shape, dtype: Any) -> Array:
        return self._products("dproducts", shape, dtype)

    def join(self, products: Array, y: Array) -> Calls:
        source = products.transpose(1, 3, 0, 2, 4)
        for first, last, _, count in self._joins:
            yield mapped(self.AT[:count], source[:, first:last], self._results(y, first, last, count))

    def join_back(self, dy: Array, dproducts: Array) -> Calls:
        out = dproducts.transpose(1, 3, 0, 2, 4)
        for first, last, _, count in self._joins:
            yield mapped(self.AT[:count].T, self._results(dy, first, last, count), out[:, first:last])

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


def largest(blocks: list[tuple[int, int]]) -> int:
    """How many rows there are in the largest of some blocks."""
    return max(stop - start for start, stop in blocks)


def tiles_of(x: Array, start: int, tiles: int, step: int, width: int) -> Array:
    """A view of rows x (rows, W, C, N) as (rows, tiles, width, C, N): columns `start` on, a tile every `step`."""
    row, column, *pixel = x.strides
    return np.lib.stride_tricks.as_strided(
        x[:, start:], (len(x), tiles, width, *x.shape[2:]), (row, step * column, column, *pixel)
    )


def mapped(matrix: Array, columns: Array, out: Array) -> Call:
    """A matrix (m, n) times (rows, tiles, n, C, N), into out (rows, tiles, m, C, N).

    It is one product a tile where all channels lie together, else one a channel.
    """
    matrix = matrix.astype(out.dtype, order_of(len(matrix)))
    if in_one(columns) and in_one(out):
        return np.matmul, matrix, merged(columns), merged(out)
    return np.matmul, matrix, columns.swapaxes(2, 3), out.swapaxes(2, 3)


def windows(rows: Array, count: int, kernel: int, stride: int) -> Array:
    """A view of (products, rows, depth, tiles, N): windows of rows, (products, count, kernel · depth, tiles, N)."""
    product, row, depth, tile, image = rows.strides
    within = depth if rows.shape[2] > 1 else row  # an axis of length 1 may have any stride
    shape = (len(rows), count, kernel * rows.shape[2], *rows.shape[3:])
    return np.lib.stride_tricks.as_strided(rows, shape, (product, stride * row, within, tile, image))


def merged(rows: Array) -> Array:
    """A view of five axes as four, the last two in one: (products, rows, depth, tiles · N) for instance."""
    return rows.reshape(*rows.shape[:3], -1)


def add_sums(rows: Array, to: Array) -> Calls:
    """Add to (M,) the sum of (rows, M, tiles, N) over all else."""
    by_tile = merged(rows[np.newaxis]) if in_one(rows) else rows.transpose(2, 0, 1, 3)
    sums, total = (thread_scratch(key, of, to.dtype) for key, of in (("sums", by_tile.shape[:3]), ("sum", to.shape)))
    yield np.matmul, by_tile, np.ones(by_tile.shape[3], rows.dtype), sums
    yield np.add.reduce, sums, (0, 1), None, total
    yield np.add, to, total, to


def tiled(key: str, shape: Shape, dtype: Any) -> Array:
    """An array (products, rows, depth, tiles, N); where products are to be small, those of a tile lie together.

    What such a product reads is then one run of memory. With the other tiles in between, the first-level cache would
    hold less of it, as the addresses are apart by a power of two.
    """
    return thread_scratch(key, shape, dtype, (0, 3, 1, 2, 4) if SMALL_PRODUCTS else None)


def matrices(rows: Array) -> Array:
    """A view of (products, rows, depth, tiles, N) as matrices (products, rows, tiles, depth, N).

    Tiles that lie together are one: (products, rows, 1, depth, tiles · N).
    """
    return merged(rows)[:, :, np.newaxis] if in_one(rows) else rows.transpose(0, 1, 3, 2, 4)


def copied(key: str, rows: Array) -> CallsFor:
    """A copy, in C order, of a view whose axes lie otherwise in memory: with it OpenBLAS is up to twice as quick."""
    copy = thread_scratch(key, rows.shape, rows.dtype)
    yield np.copyto, copy, rows
    return copy


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


@functools.cache
def pieces(length: int, most: int) -> int:
    """The least number of equal pieces of a length that are no longer than `most`; 1 if they would be short ones."""
    fitting = (count for count in range(1, length // STRIP + 1) if length % count == 0 and length <= most * count)
    return next(fitting, 1)


def transposed(weights: Array) -> Array:
    """A view of (products, taps, depth, M) as matrices (products, M, taps · depth)."""
    return weights.reshape(len(weights), -1, weights.shape[3]).transpose(0, 2, 1)


def multiply(matrices: Array, rows: Array, out: Array) -> Call:
    """Matrices (products, M, K) times rows (products, rows, K, tiles, N) into out (products, rows, M, tiles, N)."""
    if not SMALL_PRODUCTS and in_one(rows) and in_one(out):
        return np.matmul, matrices[:, np.newaxis], merged(rows), merged(out)
    images = rows.shape[4]
    width = images // pieces(images, SMALL_PRODUCT // (matrices.shape[1] * matrices.shape[2]))
    return np.matmul, matrices[:, np.newaxis, np.newaxis, np.newaxis], strips(rows, width), strips(out, width)


def in_one(rows: Array) -> bool:
    """The last two axes of rows lie in memory as one."""
    return bool(rows.strides[-2] == rows.shape[-1] * rows.strides[-1])


def strips(x: Array, width: int) -> Array:
    """A view of (products, rows, K, tiles, N) as (products, rows, tiles, N / width, K, width)."""
    return x.reshape(*x.shape[:4], -1, width).transpose(0, 1, 3, 4, 2, 5)


def runs(values: list[tuple[int, int]], start: int = 0, stop: int | None = None) -> list[tuple[int, int, int, int]]:
    """Equal neighbours from start to stop together: (first, last, low, high), leaving out ranges that are empty."""
    found, at = [], start
    for value, group in itertools.groupby(values[start:stop]):
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
