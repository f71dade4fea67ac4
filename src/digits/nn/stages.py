"""Layers that are computed together, so that what one leaves is used by the next while it is in the cache."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from digits.nn.correlation import ByRows
from digits.nn.layers import BatchNorm, Conv2D, Layer, MaxPool2D, ReLU, Residual, reordered
from digits.nn.plans import Calls
from digits.nn.rows import added, channel_sums, rectified, rectified_back, scaled_back
from digits.nn.scratch import Array, Shape, thread_scratch
from digits.nn.tiles import add_sums


@dataclass
class ConvStage(Layer):
    """A convolution and what is computed with it: a batch norm before it, a max pooling and a ReLU behind it, and part
    of a batch norm behind these.

    With the norm before it is y = V ⋆ x + B,  V = a W,  B = b + W ⋆ c: a x + c is what the norm makes of x, and W ⋆ c
    the convolution of an image that is c everywhere. So the norm does not pass over the images but for μ and σ. With
    dV = x ⋆ dy, which is V's gradient, and S, of a kernel's place the sum of the dy whose kernel has it on the image,
    (k, k, M), dW = a dV + c S. The input gradient of V is a g, g being the gradient at the norm's output; and all else
    that the norm needs, Σ g and Σ g x, are sums of W S and of W dV.

    What is behind is done with some rows of the convolution's as soon as they are there, and backwards just before they
    are needed, while they are in the cache. Of the norm `behind` that is the sums for μ and σ, and its input gradient.
    """

    norm: BatchNorm | None
    conv: Conv2D
    pool: MaxPool2D | None = None
    relu: ReLU | None = None
    behind: BatchNorm | None = None

    def parts(self) -> Sequence[Layer]:
        return [layer for layer in (self.norm, self.conv, self.pool, self.relu) if layer]

    def be_first(self) -> None:
        super().be_first()
        if not self.norm:
            self.conv.be_first()

    def forward(self, x: Array, rng: np.random.Generator | None = None) -> Array:
        conv = self.conv
        W, b = self._normed(x, self.norm, rng) if self.norm else (conv.W, conv.b if conv.bias else None)
        b, b_behind = (None, b) if self._biased_behind(b) else (b, None)
        y = conv.place_of(len(x), x.dtype)
        masks: list[Array] = []
        if self.pool:
            y, *masks = self.pool.places_of(y, rng)
        self._kept = [y, *masks]
        sums = self.behind.observe(y) if self.behind and rng else None
        conv.correlated(x, W, b, rng, ByRows(self._rows, (b_behind, sums, *self._kept), self._together))
        return self.handed_on(y)

    def backward(self, dy: Array) -> Array:
        conv, drows = self.conv, self.laid_out(dy, "dy")
        W, dW, db = conv.W, conv.dW, conv.db if conv.bias else None
        if self.norm:
            W, dW = self.V, thread_scratch("dV", self.V.shape, self.V.dtype)
            db = self.scratch("dB", self._biases_shape, dy.dtype)
        db_before, db_behind = (None, db) if self._biased_behind(db) else (db, None)
        slopes = self.behind.back(dy.dtype) if self.behind else (None, None, None)
        first = ByRows(self._rows_back, (db_behind, *slopes, drows, *self._kept), self._together)
        own = self.handed_on(conv.place_of(len(dy), dy.dtype) if self.pool else drows)
        dx = conv.correlated_back(own, W, dW, db_before, self.input_gradient, first)
        if self.norm and db is not None:
            self._normed_back(self.norm, dW, db, dx)
        return dx

    def _biased_behind(self, b: Array | None) -> bool:
        """These biases, (M,), are added behind the pooling: there are fewer numbers, and the largest is the same."""
        return self.pool is not None and b is not None and b.ndim == 1

    @property
    def _together(self) -> int:
        """How many of the convolution's rows go into one, 0 if they are kept."""
        return self.pool.size if self.pool else 0

    def _own(self, start: int, stop: int) -> slice:
        """The rows that those of the convolution from start to stop become."""
        return slice(start // self.pool.size, stop // self.pool.size) if self.pool else slice(start, stop)

    def _rows(
        self, start: int, stop: int, rows: Array, bias: Array | None, sums: Array | None, y: Array, *masks: Array
    ) -> Calls:
        """What becomes of the convolution's rows from start to stop."""
        own = self._own(start, stop)
        if self.pool:
            yield from self.pool.largest(rows, y[own], *[mask[:, own] for mask in masks])
        if bias is not None:
            yield from added(y[own], bias, again=start > 0)
        if self.relu:
            yield from rectified(y[own], y[own])
        if sums is not None:
            yield from channel_sums(y[own], y[own], sums[own])

    def _rows_back(
        self,
        start: int,
        stop: int,
        rows: Array,
        dbias: Array | None,
        a: Array | None,
        b: Array | None,
        c: Array | None,
        dy: Array,
        y: Array,
        *masks: Array,
    ) -> Calls:
        """The gradient at those rows, from that at what became of them; if they are kept it takes that one's place."""
        own = self._own(start, stop)
        if b is not None and c is not None:
            yield from scaled_back(y[own], dy[own], a, b, c, again=start > 0)
        if self.relu:
            yield from rectified_back(y[own], dy[own])
        if dbias is not None:
            if start == 0:
                yield dbias.fill, 0
            yield from add_sums(dy[own].swapaxes(1, 2), dbias)
        if self.pool:
            yield from self.pool.to_largest(dy[own], rows, *[mask[:, own] for mask in masks])

    def _normed(self, x: Array, norm: BatchNorm, rng: np.random.Generator | None) -> tuple[Array, Array]:
        """V and B."""
        conv, rows = self.conv, self.laid_out(x)
        self.V = self.scratch("V", conv.W.shape, x.dtype)
        B = self.scratch("B", self._biases_shape, x.dtype)
        b = conv.b if conv.bias else None
        self.plans(self._folded, rows, conv.W, b, self.V, B, *norm.sources(rows, rng))
        return self.V, B

    def _normed_back(self, norm: BatchNorm, dV: Array, dB: Array, dx: Array) -> None:
        """Fill in the gradients of the norm and the convolution, and make dx its input's; dV is used up."""
        conv = self.conv
        db = conv.db if conv.bias else None
        drows = self.laid_out(dx, "dx") if self.input_gradient and not norm.within else None
        self.plans(self._folded_back, norm.x, dV, dB, drows, conv.W, conv.dW, db, *norm.targets())

    def _folded(self, x: Array, W: Array, b: Array | None, V: Array, B: Array, *sources: Array) -> Calls:
        """Fill in V and B from the convolution's W and b, and the norm's a and c."""
        assert self.norm is not None
        a, c = yield from self.norm.slopes(x, *sources)
        yield np.copyto, self._a(x), a[:, np.newaxis]
        yield np.multiply, W, self._a(x), V
        of_c = self.scratch("W of c", (*W.shape[:2], W.shape[3]), x.dtype)
        yield np.matmul, c, W, of_c
        if self._untied:
            sums = self.scratch("sums of c", B.shape, np.float64)
            yield self.conv.geometry.of_ones, of_c, sums
        else:
            sums = self.scratch("sums of c", B.shape, x.dtype)
            yield np.add.reduce, of_c, (0, 1), None, sums
        if b is None:
            yield np.copyto, B, sums
        else:
            yield np.add, sums, b, B

    def _folded_back(
        self,
        x: Array,
        dV: Array,
        dB: Array,
        dx: Array | None,
        W: Array,
        dW: Array,
        db: Array | None,
        *targets: Array,
    ) -> Calls:
        """The same; dx is there where it is to be made the norm's."""
        assert self.norm is not None
        norm, g = self.norm, self.conv.geometry
        _, c = norm.forth(x.dtype)
        # S is the same at all places where the kernel never leaves the image.
        S = dB[np.newaxis, np.newaxis]
        if self._untied:
            S = self.scratch("S", (*W.shape[:2], W.shape[3]), dB.dtype)
            yield g.of_ones_back, dB, S
        sums = self.scratch("norm's sums", (2, W.shape[2]), np.float64)
        of_S, of_V = (self.scratch(key, W.shape[:3], W.dtype) for key in ("of S", "of V"))
        yield np.matmul, W, S[..., np.newaxis], of_S[..., np.newaxis]
        yield np.add.reduce, of_S, (0, 1), np.float64, sums[0]
        yield np.vecdot, W, dV, of_V
        yield np.add.reduce, of_V, (0, 1), np.float64, sums[1]
        of_c = thread_scratch("of c", (*S.shape[:2], *dV.shape[2:]), dV.dtype)
        product = partial(np.einsum, out=of_c)  # quicker than NumPy's of broadcast arrays
        yield product, "c,abm->abcm", c, S
        yield np.multiply, dV, self._a(x), dV
        yield np.add, dV, of_c, dW  # dW = a dV + c S
        if db is not None and db.ndim < dB.ndim:
            yield np.add.reduce, dB, (0, 1), None, db
        elif db is not None:
            yield np.copyto, db, dB
        yield from norm.slopes_back(x, sums, *targets)
        if dx is not None:
            yield from scaled_back(x, dx, *norm.back(x.dtype))

    @property
    def _untied(self) -> bool:
        """B is one a place, not one a channel."""
        return self.conv.geometry.padded or self.conv.bias == "untied"

    def _a(self, x: Array) -> Array:
        """Where a is as (C, M): NumPy is quicker with a matrix at each of the kernel's places than with a column."""
        return self.scratch("a", self.conv.W.shape[2:], x.dtype)

    @property
    def _biases_shape(self) -> Shape:
        """That of B."""
        return self.conv.output_shape if self._untied else self.conv.output_shape[2:]


def in_order(layers: Sequence[Layer]) -> list[Layer]:
    """The layers as they are computed: reordered, and each convolution as one with what is computed with it."""
    order: list[Layer] = []
    for layer in reordered(layers):
        if isinstance(layer, Residual):
            layer.order = in_order(layer.inner)
        match order[-1:], layer:
            case [BatchNorm() as norm], Conv2D():
                order[-1], norm.folded = ConvStage(norm, layer), True
            case _, Conv2D():
                order.append(ConvStage(None, layer))
            case [ConvStage(pool=None, relu=None) as stage], MaxPool2D():
                stage.pool = layer
            case [ConvStage(relu=None) as stage], ReLU():
                stage.relu = layer
            case [ConvStage() as stage], BatchNorm():
                stage.behind, layer.within = layer, True
                order.append(layer)
            case _:
                order.append(layer)
    return order
