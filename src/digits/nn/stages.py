"""Layers that are computed together, so that what one leaves is used by the next while it is in the cache."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from digits.nn.correlation import ByRows
from digits.nn.layers import BatchNorm, Conv2D, Layer, MaxPool2D, ReLU, Residual, reordered
from digits.nn.plans import Calls
from digits.nn.rows import added, channel_sums, rectified, rectified_back, scaled_back
from digits.nn.scratch import Array, thread_scratch
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
            db = self.scratch("dB", conv.output_shape if self._untied else conv.output_shape[2:], dy.dtype)
        db_before, db_behind = (None, db) if self._biased_behind(db) else (db, None)
        slopes = self.behind.back if self.behind else (None, None, None)
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
        conv, g = self.conv, self.conv.geometry
        a, self.c = norm.slopes(self.laid_out(x), rng)
        self.a = self.scratch("a", conv.W.shape[2:], x.dtype)
        self.a[...] = a[:, np.newaxis]  # NumPy is quicker with a matrix at each of the kernel's places
        self.V = np.multiply(conv.W, self.a, out=self.scratch.like("V", conv.W))
        of_c = np.matmul(self.c, conv.W)
        B = g.of_ones(of_c) if self._untied else of_c.sum(axis=(0, 1))
        if conv.bias:
            B += conv.b
        biases = self.scratch("B", B.shape, x.dtype)
        biases[...] = B
        return self.V, biases

    def _normed_back(self, norm: BatchNorm, dV: Array, dB: Array, dx: Array) -> None:
        """Fill in the gradients of the norm and the convolution, and make dx its input's; dV is used up."""
        conv, g = self.conv, self.conv.geometry
        # S is the same at all places where the kernel never leaves the image.
        S = g.of_ones_back(dB).astype(dB.dtype) if self._untied else dB[np.newaxis, np.newaxis]
        total = np.matmul(conv.W, S[..., np.newaxis])[..., 0].sum(axis=(0, 1), dtype=np.float64)
        products = np.vecdot(conv.W, dV).sum(axis=(0, 1), dtype=np.float64)
        of_c = thread_scratch("of c", (*S.shape[:2], *dV.shape[2:]), dV.dtype)
        np.einsum("c,abm->abcm", self.c, S, out=of_c)  # quicker than a product of broadcast arrays
        np.add(np.multiply(dV, self.a, out=dV), of_c, out=conv.dW)
        if conv.bias:
            conv.db[...] = dB.sum(axis=(0, 1)) if self._untied and conv.bias is True else dB
        norm.slopes_back(total, products)
        norm.back = (None, *norm.back[1:])  # a is in V
        if self.input_gradient and not norm.within:
            norm.scale_back(self.laid_out(dx, "dx"))

    @property
    def _untied(self) -> bool:
        """B is one a place, not one a channel."""
        return self.conv.geometry.padded or self.conv.bias == "untied"


def in_order(layers: Sequence[Layer]) -> list[Layer]:
    """The layers as they are computed: reordered, and each convolution as one with what is computed with it."""
    order: list[Layer] = []
    for layer in reordered(layers):
        if isinstance(layer, Residual):
            layer.order = in_order(layer.inner)
        match order[-1:], layer:
            case [BatchNorm() as norm], Conv2D():
                order[-1] = ConvStage(norm, layer)
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
