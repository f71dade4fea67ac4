"""Layers that are computed together, so that what one leaves is used by the next while it is in the cache."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from digits.nn.correlation import ByRows
from digits.nn.layers import BatchNorm, Conv2D, Layer, MaxPool2D, ReLU, Residual, handed_on, reordered
from digits.nn.plans import Calls
from digits.nn.rows import channel_sums, rectified, rectified_back, scaled_back
from digits.nn.scratch import Array, thread_scratch


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
        y = conv.place_of(len(x), x.dtype)
        masks: list[Array] = []
        if self.pool:
            y, *masks = self.pool.places_of(y, rng)
        if self.relu:
            y = self.relu.place_of(y)
        self._kept = [y, *masks]
        sums = self.behind.observe(y) if self.behind and rng else None
        conv.correlated(x, W, b, rng, ByRows(self._rows, (sums, *self._kept), self._together))
        return handed_on(y, 4)

    def backward(self, dy: Array) -> Array:
        conv, drows = self.conv, self.laid_out(dy, "dy")
        slopes = self.behind.back if self.behind else (None, None, None)
        first = ByRows(self._rows_back, (*slopes, drows, *self._kept), self._together)
        own = handed_on(conv.place_of(len(dy), dy.dtype) if self.pool else drows, 4)
        if self.norm:
            return self._normed_back(own, self.norm, first)
        return conv.correlated_back(own, conv.W, conv.dW, conv.db if conv.bias else None, self.input_gradient, first)

    @property
    def _together(self) -> int:
        """How many of the convolution's rows go into one, 0 if they are kept."""
        return self.pool.size if self.pool else 0

    def _rows(self, start: int, stop: int, rows: Array, sums: Array | None, y: Array, *masks: Array) -> Calls:
        """What becomes of the convolution's rows from start to stop."""
        own = slice(start // self._together, stop // self._together) if self.pool else slice(start, stop)
        if self.pool:
            yield from self.pool.largest(rows, y[own], *[mask[:, own] for mask in masks])
        if self.relu:
            yield from rectified(y[own], y[own])
        if sums is not None:
            yield from channel_sums(y[own], y[own], sums[own])

    def _rows_back(
        self,
        start: int,
        stop: int,
        rows: Array,
        a: Array | None,
        b: Array | None,
        c: Array | None,
        dy: Array,
        y: Array,
        *masks: Array,
    ) -> Calls:
        """The gradient at those rows, from that at what became of them; if they are kept it takes that one's place."""
        own = slice(start // self._together, stop // self._together) if self.pool else slice(start, stop)
        if b is not None and c is not None:
            yield from scaled_back(y[own], dy[own], a, b, c, again=start > 0)
        if self.relu:
            yield from rectified_back(y[own], dy[own])
        if self.pool:
            yield from self.pool.to_largest(dy[own], rows, *[mask[:, own] for mask in masks])

    def _normed(self, x: Array, norm: BatchNorm, rng: np.random.Generator | None) -> tuple[Array, Array]:
        """V and B."""
        conv, g = self.conv, self.conv.geometry
        self.a, self.c = norm.slopes(self.laid_out(x), rng)
        self.V = np.multiply(conv.W, self.a[:, np.newaxis], out=self.scratch.like("V", conv.W))
        of_c = np.matmul(self.c, conv.W)
        B = g.of_ones(of_c) if self._untied else of_c.sum(axis=(0, 1))
        if conv.bias:
            B += conv.b
        biases = self.scratch("B", B.shape, x.dtype)
        biases[...] = B
        return self.V, biases

    def _normed_back(self, dy: Array, norm: BatchNorm, first: ByRows) -> Array:
        """dx; the gradients of the norm and the convolution are filled in."""
        conv, g = self.conv, self.conv.geometry
        dV, part = (thread_scratch(key, self.V.shape, self.V.dtype) for key in ("dV", "of c"))
        dB = self.scratch("dB", conv.output_shape if self._untied else conv.output_shape[2:], dy.dtype)
        dx = conv.correlated_back(dy, self.V, dV, dB, self.input_gradient, first)
        places = (g.kernel, g.kernel, g.out_channels)
        S = g.of_ones_back(dB).astype(dy.dtype) if self._untied else np.broadcast_to(dB, places)
        np.multiply(dV, self.a[:, np.newaxis], out=conv.dW)
        conv.dW += np.multiply(self.c[:, np.newaxis], S[:, :, np.newaxis], out=part)
        if conv.bias:
            conv.db[...] = dB.sum(axis=(0, 1)) if self._untied and conv.bias is True else dB
        total = np.matmul(conv.W, S[..., np.newaxis])[..., 0].sum(axis=(0, 1), dtype=np.float64)
        products = np.vecdot(conv.W, dV).sum(axis=(0, 1), dtype=np.float64)
        norm.slopes_back(total, products)
        norm.back = (None, *norm.back[1:])  # a is in V
        if self.input_gradient and not norm.within:
            norm.scale_back(self.laid_out(dx, "dx"))
        return dx

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
