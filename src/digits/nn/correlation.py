"""Correlating images with small kernels: where a convolutional network spends its time.

    y[n, i, j, m] = the sum over a, b, c of W[a, b, c, m] x[n, s i + a - top, s j + b - left, c]

Images lie in memory as (H, W, C, N), the images innermost. Along W a row is spread out once, in one of two ways
(`columns`), and the kernel's rows are windows of what comes of it: no patches are copied along H.

- `Shifts` copies it once for each column of the kernel: the plain way, for kernels of few channels or a single column;
- `ToomCook` computes m outputs from r = `kernel` weights with m + r - 1 multiplications instead of m r, by
  interpolation of a polynomial (`toom_cook`). A stride of s makes it s such sums, over each s-th column.

What remains are matrix products, (M, C·rows) by (C·rows, N) of a tile or, without AVX-512 and where the results of all
tiles of a row lie together in memory, by (C·rows, tiles·N) of these. They are made of a block of image rows at a time,
whose buffers stay in the caches. The backward pass spreads the rows anew: that takes less time than to fetch them from
memory, where they would be larger than the images. Each linear map of the forward pass has its transpose there.
"""

import itertools
import math
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import numpy as np

from digits.nn.columns import quickest
from digits.nn.geometry import Geometry, runs
from digits.nn.plans import Call, Calls, Plans
from digits.nn.products import SMALL_PRODUCTS
from digits.nn.scratch import Array, thread_scratch
from digits.nn.tiles import add_products, add_sums, copied, matrices, multiply_rows, tiled, transposed, windows

BLOCK_BYTES = 3 << 18  # of spread rows and products at a time: few enough for a core's cache, many for the overlap
PREDICTION_BLOCK_BYTES = 3 << 19  # the same in prediction, where larger blocks pay: in training they do not
PASSING_BLOCKS = 2 if SMALL_PRODUCTS else 4  # for whose rows there is room; 2 at least, so that none moves onto itself
TURNED_DEPTH = 24  # rows of a matrix from which on transposing what it is multiplied with pays, in small products


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


class Correlation:
    """The correlation of one geometry, forward and backward, on arrays (H, W, C, N) in C order."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = g = geometry
        self._plans = Plans()
        self._columns = quickest(g)

        # Which of the kernel's rows each row of y meets; for each phase, which of its rows a row of dx meets.
        tops = [g.stride * row - g.top for row in range(g.out_height)]
        self._forward_taps = [(max(-top, 0), min(g.height - top, g.kernel)) for top in tops]
        self._blank = [row for row, (low, high) in enumerate(self._forward_taps) if low >= high]
        self._turns = SMALL_PRODUCTS and g.kernel * self._columns.depth >= TURNED_DEPTH
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
                yield multiply_rows(transposed(weights[:, low:high]), met, products[:, first - start : last - start])
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
        before = g.taps - 1  # rows of dy, before its own, that a row of dx meets
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
        for first, last, low, high in runs(self._forward_taps, start, stop):
            met = matrices(windows(rows[g.stride * first + low :], last - first, high - low, g.stride))
            total = dweights[:, low:high].reshape(len(met), -1, g.out_channels)
            yield from add_products(met, pixels[:, first - start : last - start], total)

    def _input_gradient(self, weights: list[Array], dproducts: Passing, start: int, stop: int, dx: Array) -> Calls:
        """The rows of dx whose last row of dy is one from start to stop."""
        g, columns, s = self.geometry, self._columns, self.geometry.stride
        for phase, phase_weights in enumerate(weights):
            taps = phase_weights.shape[2]
            for first, last, low, high in runs(self._backward_taps[phase], start, stop):
                met = windows(dproducts[first - taps + 1 + low :], last - first, high - low, 1)
                drows = columns.drows_of(last - first, dx)
                flat = phase_weights[:, :, low:high].reshape(*phase_weights.shape[:2], -1)
                yield multiply_rows(flat, met, columns.inner(drows))
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
        for q in range(g.out_height + g.taps - 1):
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


def largest(blocks: list[tuple[int, int]]) -> int:
    """How many rows there are in the largest of some blocks."""
    return max(stop - start for start, stop in blocks)
