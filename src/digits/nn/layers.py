"""The layers of a network: each one is its equation, forward and backward.

A layer is a dataclass of its hyperparameters, so that a recipe's TOML, a checkpoint and the code all say the same
thing. Shapes are without the batch axis in `build` and with it, as N, in `forward` and `backward`. No dtype is written
down here: a layer computes in the dtype of its parameters and of what comes in.

Images are (N, H, W, C). In memory a layer lays them out as (H, W, C, N) and hands on a view, because that is what
`correlation` is quick with; a pixel is then a run of C N numbers. What goes pixel by pixel is in `rows`, and what is
computed with the layers beside it in `stages`.
"""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np

from digits.nn.correlation import ByRows, Correlation
from digits.nn.geometry import Geometry
from digits.nn.pixels import Pixels
from digits.nn.plans import Call, Calls, Plans
from digits.nn.products import multiply
from digits.nn.rows import channel_sums, largest, rectified, rectified_back, scaled, scaled_back, to_largest
from digits.nn.scratch import Array, Scratch, Shape, Views, thread_scratch


@dataclass
class Layer(ABC):
    """A step of the network: `forward` keeps what `backward` needs, `backward` fills in the gradients.

    A parameter `W` is an attribute of that name, and its gradient is `dW`; both are views into the flat vectors of the
    network, which binds them. A layer is written as if it were alone: another shard has a replica of its own.
    """

    name: ClassVar[str]

    def __post_init__(self) -> None:
        self.input_gradient = True  # below the first layer with parameters nobody asks for it
        self.in_place = False  # the layer before is one that `spares` what it has returned
        self.output_shape: Shape = ()  # of one image, known once the layer is built
        self.multiply_adds = 0  # of a forward pass of one image, likewise
        self.scratch = Scratch()
        self.views = Views()
        self.plans = Plans()

    def build(self, shape: Shape) -> Shape:
        """The shape of one image after this layer, given its shape before; raises ValueError if it can't be."""
        return shape

    def parts(self) -> "Sequence[Layer]":
        """The layers that this one is made of, if it is made of layers."""
        return ()

    def parameter_shapes(self) -> dict[str, Shape]:
        """The shape of each parameter, known once the layer is built."""
        return {}

    def statistic_shapes(self) -> dict[str, Shape]:
        """The shape of each number that is not trained but observed in training, for prediction.

        A statistic `mean` is an attribute of that name, a view into the network's flat vector `statistics`; what the
        last batch has of it is `batch_mean`.
        """
        return {}

    @property
    def pace(self) -> float:
        """How far the statistics move towards each batch's, from 0 to 1."""
        return 0.0

    @property
    def spares(self) -> bool:
        """No `backward` needs anything of what `forward` returned: the next layer may overwrite it, then or later."""
        return True

    def initialise(self, rng: np.random.Generator) -> None:
        """Draw the parameters' first values."""

    def be_first(self) -> None:
        """Nobody will ask for the gradient of what comes in."""
        self.input_gradient = False

    @abstractmethod
    def forward(self, x: Array, rng: np.random.Generator | None = None) -> Array:
        """y from x; `rng` is there in training and None in prediction. What is returned is overwritten next time."""

    @abstractmethod
    def backward(self, dy: Array) -> Array:
        """dx from dy, which may be overwritten, for the x of the last `forward` in training; gradients likewise."""

    def laid_out(self, x: Array, key: str = "x") -> Array:
        """Images (N, H, W, C) as (H, W, C, N), vectors (N, C) as (1, 1, C, N), in C order: a view where it can be, else
        a copy in this layer's `key`.
        """
        rows = self.views(rows_of, x)
        return rows if rows.flags.c_contiguous else self.copied(rows, key)

    def handed_on(self, rows: Array, ndim: int = 4) -> Array:
        """The view that undoes `laid_out`."""
        return self.views(images_of if ndim == 4 else vectors_of, rows)

    def copied(self, rows: Array, key: str = "x") -> Array:
        """A copy of rows (H, W, C, N) that is in the same place at every step, as plans want it."""
        copy = self.scratch(f"laid out {key}", rows.shape, rows.dtype)
        copy[...] = rows
        return copy

    def spec(self) -> dict[str, Any]:
        """The layer as a line of a recipe: `{"layer": "dense", "units": 10, ...}`."""
        return {"layer": self.name, **asdict(self)}


@dataclass
class Flatten(Layer):
    """y = x, an image's axes in one      x: (N, ...)   y: (N, D)"""

    name = "flatten"

    @property
    def spares(self) -> bool:
        return False  # it is the layer's before

    def build(self, shape: Shape) -> Shape:
        self.shape = shape
        return (math.prod(shape),)

    def forward(self, x: Any, rng: np.random.Generator | None = None) -> Any:
        if isinstance(x, Pixels) or x.flags.c_contiguous:  # as images come from outside
            return x.reshape(len(x), -1)
        return self.views(flattened, x) if np.moveaxis(x, 0, -1).flags.c_contiguous else flattened(x)

    def backward(self, dy: Array) -> Array:
        dx = self.views(self._unflattened, dy) if dy.T.flags.c_contiguous else self._unflattened(dy)
        return self.handed_on(self.laid_out(dx)) if dx.ndim == 4 else dx

    def _unflattened(self, dy: Array) -> Array:
        return np.moveaxis(dy.T.reshape(*self.shape, len(dy)), -1, 0)


@dataclass
class Dense(Layer):
    """y = x Wᵀ + b      x: (N, D)   W: (M, D)   b: (M,)   y: (N, M)

    dW = dyᵀ x,  db = the sum of dy over N,  dx = dy W. `init = "he"` draws W from a normal distribution with variance
    2 / D (He et al. 2015, arXiv 1502.01852) and sets b to 0; `init = "uniform"` draws W and b from (-bound, bound).
    In memory y has its units first, y being a view: sums over N, and the softmax over M, then run along whole rows.
    Where `factors` are set, dyᵀ (M, N) and x (N, D), or x by tiles (N, tiles, D / tiles), are left there for others to
    multiply, and dW is not filled in.
    """

    name = "dense"
    units: int
    init: Literal["he", "uniform"] = "he"
    bound: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "units", "bound")
        self.W: Array
        self.b: Array
        self.dW: Array
        self.db: Array
        self.factors: tuple[Array, ...] = ()

    def build(self, shape: Shape) -> Shape:
        if len(shape) != 1:
            raise ValueError(f"a dense layer wants vectors, not images of shape {shape}: put a flatten before it")
        (self.inputs,) = shape
        self.multiply_adds = self.units * self.inputs
        return (self.units,)

    def parameter_shapes(self) -> dict[str, Shape]:
        return {"W": (self.units, self.inputs), "b": (self.units,)}

    def initialise(self, rng: np.random.Generator) -> None:
        if self.init == "he":
            self.W[...] = rng.normal(0.0, math.sqrt(2.0 / self.inputs), self.W.shape)
            self.b[...] = 0.0
        else:
            self.W[...] = rng.uniform(-self.bound, self.bound, self.W.shape)
            self.b[...] = rng.uniform(-self.bound, self.bound, self.b.shape)

    def forward(self, x: Array | Pixels, rng: np.random.Generator | None = None) -> Array:
        self.x = x
        y = self.scratch("y", (self.units, len(x)), x.dtype)
        if isinstance(x, Pixels):
            x.times(self.W, out=y)
        else:
            multiply(self.W, x.T, y)
        y += self.b[:, np.newaxis]
        return self.views(np.transpose, y)

    def backward(self, dy: Array) -> Array:
        np.sum(dy, axis=0, out=self.db)
        if self.factors:
            for factor, values in zip(self.factors, (dy.T, self.x), strict=True):
                factor[...] = np.asarray(values).reshape(factor.shape)
        elif isinstance(self.x, Pixels):
            self.x.gradient(dy.T, out=self.dW)
        else:
            multiply(dy.T, self.x, self.dW)
        if not self.input_gradient:
            return dy
        dx = self.scratch("dx", self.x.shape[::-1], dy.dtype)
        multiply(self.W.T, dy.T, dx)
        return self.views(np.transpose, dx)


@dataclass
class Conv2D(Layer):
    """y[n, i, j] = b + the sum over the kernel's places (a, c) of x[n, s i + a - p, s j + c - p] W[a, c]

    x: (N, H, W, C)   W: (k, k, C, M)   b: (M,)   y: (N, H', W', M), s being the stride and p the padding with zeros:
    none where it is "valid", a number on each side, or as much as makes H' = ceil(H / s), the odd one at the end, where
    it is "same". Biases that are "untied" are one a place, b: (H', W', M), not one a channel. W is drawn as in a dense
    layer of D = k k C inputs, b starts at 0. `correlation` has the arithmetic.
    """

    name = "conv"
    channels: int
    kernel: int = 3
    stride: int = 1
    padding: Literal["valid", "same"] | int = "valid"
    bias: bool | Literal["untied"] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "channels", "kernel", "stride")
        if self.bias not in (True, False, "untied"):
            raise ValueError(f"bias must be true, false or 'untied', not {self.bias!r}")
        if not (self.padding in ("valid", "same") or (isinstance(self.padding, int) and self.padding >= 0)):
            raise ValueError(f"padding must be 'valid', 'same' or a number of pixels from 0 on, not {self.padding!r}")
        self.W: Array
        self.b: Array
        self.dW: Array
        self.db: Array

    def build(self, shape: Shape) -> Shape:
        height, width, self.inputs = images_shape(self, shape)
        (top, out_height), (left, out_width) = self._padded(height), self._padded(width)
        if min(out_height, out_width) < 1:
            raise ValueError(f"a kernel of {self.kernel} does not fit into images of {height} x {width}")
        self.geometry = Geometry(
            *(height, width, self.inputs, self.kernel, self.stride),
            *(top, left, out_height, out_width, self.channels),
        )
        self._correlation = Correlation(self.geometry)
        self.multiply_adds = out_height * out_width * self.channels * self.kernel**2 * self.inputs
        return (out_height, out_width, self.channels)

    def parameter_shapes(self) -> dict[str, Shape]:
        W = (self.kernel, self.kernel, self.inputs, self.channels)
        b = self.output_shape if self.bias == "untied" else (self.channels,)
        return {"W": W, "b": b} if self.bias else {"W": W}

    def initialise(self, rng: np.random.Generator) -> None:
        self.W[...] = rng.normal(0.0, math.sqrt(2.0 / (self.kernel**2 * self.inputs)), self.W.shape)
        if self.bias:
            self.b[...] = 0.0

    def forward(self, x: Array, rng: np.random.Generator | None = None) -> Array:
        return self.correlated(x, self.W, self.b if self.bias else None, rng)

    def backward(self, dy: Array) -> Array:
        return self.correlated_back(dy, self.W, self.dW, self.db if self.bias else None, self.input_gradient)

    def correlated(
        self, x: Array, W: Array, b: Array | None, rng: np.random.Generator | None, then: ByRows | None = None
    ) -> Array:
        """y with these weights and biases, whatever the layer's own are, and what is to be done with it `then`."""
        y = self.place_of(len(x), x.dtype)
        # Where no gradient is wanted they come from outside, and each batch has a place of its own.
        images = self.laid_out(x) if self.input_gradient else self.copied(x.transpose(1, 2, 3, 0))
        self.x = images if rng else None
        self._correlation.forward(images, W, y, b, then, training=rng is not None)
        return self.handed_on(y)

    def place_of(self, images: int, dtype: Any) -> Array:
        """Where y goes, (H', W', M, N)."""
        g = self.geometry
        return self.scratch("y", (g.out_height, g.out_width, g.out_channels, images), dtype)

    def correlated_back(
        self, dy: Array, W: Array, dW: Array, db: Array | None, input_gradient: bool, first: ByRows | None = None
    ) -> Array:
        """dx, if it is wanted, for the weights of the last `correlated`; dW and, if there is one, db are filled in.

        What is to be done `first` makes the rows of dy, or changes them.
        """
        g, dx = self.geometry, None
        assert self.x is not None, "the last pass was a prediction"
        if input_gradient:
            dx = self.scratch("dx", (g.height, g.width, g.channels, len(dy)), dy.dtype)
        self._correlation.backward(self.x, W, self.laid_out(dy, "dy"), dW, db, dx, first)
        return dy if dx is None else self.handed_on(dx)

    def _padded(self, size: int) -> tuple[int, int]:
        """How many zeros go before the first pixel of an axis, and the size of the axis afterwards."""
        if self.padding == "same":
            out = -(-size // self.stride)
            return max((out - 1) * self.stride + self.kernel - size, 0) // 2, out
        pad = 0 if self.padding == "valid" else int(self.padding)
        return pad, (size + 2 * pad - self.kernel) // self.stride + 1


@dataclass
class BatchNorm(Layer):
    """y = γ (x - μ) / σ + β      x, y: (N, H, W, C) or (N, C)   γ, β: (C,)

    In training μ and σ² are the mean and variance of each channel over the batch's shard (plus `epsilon`, for σ²), in
    prediction those observed in training: after each step they go `momentum` of the way to the batch's (Ioffe & Szegedy
    2015, arXiv 1502.03167). With n numbers a channel and x̂ = (x - μ) / σ,
    dγ = Σ dy x̂,  dβ = Σ dy,  dx = γ / σ (dy - dβ / n - x̂ dγ / n).
    """

    name = "batchnorm"
    momentum: float = 0.1
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "momentum", "epsilon")
        if self.momentum > 1:
            raise ValueError(f"momentum must be at most 1, not {self.momentum}")
        self.gamma: Array
        self.beta: Array
        self.dgamma: Array
        self.dbeta: Array
        self.mean: Array
        self.variance: Array
        self.batch_mean: Array
        self.batch_variance: Array

    def build(self, shape: Shape) -> Shape:
        self.channels = shape[-1]
        self.within = False  # or the convolution before makes the sums of x, and its gradient
        self.folded = False  # or the convolution behind is computed with the norm
        return shape

    def parameter_shapes(self) -> dict[str, Shape]:
        return {"gamma": (self.channels,), "beta": (self.channels,)}

    def statistic_shapes(self) -> dict[str, Shape]:
        return {"mean": (self.channels,), "variance": (self.channels,)}

    @property
    def pace(self) -> float:
        return self.momentum

    def initialise(self, rng: np.random.Generator) -> None:
        self.gamma[...] = self.variance[...] = 1.0
        self.beta[...] = self.mean[...] = 0.0

    def forward(self, x: Array, rng: np.random.Generator | None = None) -> Array:
        rows = self.laid_out(x)
        y = self.scratch("y", rows.shape, x.dtype)
        self.plans(self._forward, rows, y, *self.sources(rows, rng))
        return self.handed_on(y, x.ndim)

    def backward(self, dy: Array) -> Array:
        drows = self.laid_out(dy, "dy")
        self.plans(self._backward, self.x, drows, *self.targets())
        return self.handed_on(drows, dy.ndim)

    def observe(self, x: Array) -> Array:
        """Where the sums of the rows of x and of their squares go, (H, 2, C); x is as `laid_out` has it."""
        self.x = x
        self.sums = self.scratch("sums", (len(x), 2, self.channels), x.dtype)
        return self.sums

    def sources(self, x: Array, rng: np.random.Generator | None) -> tuple[Array | None, ...]:
        """What `slopes` takes besides x as `laid_out` has it: the sums, in training alone, and four arrays (C,)."""
        if rng is None:
            return None, self.mean, self.variance, self.gamma, self.beta
        if not self.within:
            self.observe(x)
        return self.sums, self.batch_mean, self.batch_variance, self.gamma, self.beta

    def slopes(
        self, x: Array, sums: Array | None, mean: Array, variance: Array, gamma: Array, beta: Array
    ) -> Generator[Call, None, tuple[Array, Array]]:
        """Fill in `forth`, and return it. Where there are sums, the mean and the variance are made of them."""
        a, c = self.forth(x.dtype)
        sigma = self._channels("sigma", x.dtype)
        if sums is None:
            yield np.add, variance, self.epsilon, sigma
        else:
            if not self.within:
                yield from channel_sums(x, x, sums)
            n = x.size // self.channels
            moments = mu, square = self.scratch("moments", (2, self.channels), np.float64)
            of_mu = self._channels("exact", np.float64)
            yield np.add.reduce, sums, 0, np.float64, moments
            yield np.divide, moments, n, moments
            yield np.multiply, mu, mu, of_mu
            yield np.subtract, square, of_mu, square  # Σ x² / n - μ²
            yield partial(np.maximum, out=square), square, 0
            yield np.copyto, mean, mu
            yield np.multiply, square, n / max(n - 1, 1), variance  # of all images, as a sample tells it
            yield np.copyto, sigma, square
            yield np.add, sigma, self.epsilon, sigma
        yield np.sqrt, sigma, sigma
        yield np.divide, gamma, sigma, a  # a = γ / σ
        yield np.multiply, mean, a, c
        yield np.subtract, beta, c, c  # c = β - μ a
        return a, c

    def targets(self) -> tuple[Array, ...]:
        """What `slopes_back` takes besides x and the sums, (C,) each."""
        return self.batch_mean, self.dgamma, self.dbeta

    def slopes_back(self, x: Array, sums: Array, mean: Array, dgamma: Array, dbeta: Array) -> Calls:
        """Fill in dγ, dβ and `back`, given Σ dy and Σ dy x, (2, C) in float64, after a pass in training."""
        n = x.size // self.channels
        total, products = sums
        (a, _), (_, b, c) = self.forth(x.dtype), self.back(x.dtype)
        sigma, of_mean = self._channels("sigma", x.dtype), self._channels("part", x.dtype)
        exact = self._channels("exact", np.float64)
        yield np.copyto, dbeta, total
        yield np.multiply, mean, total, exact
        yield np.subtract, products, exact, exact
        yield np.divide, exact, sigma, dgamma  # dγ = (Σ dy x - μ Σ dy) / σ
        yield np.multiply, a, dgamma, b
        yield np.divide, b, sigma, b
        yield np.divide, b, -n, b  # b = -a dγ / (σ n)
        yield np.multiply, a, dbeta, c
        yield np.divide, c, -n, c
        yield np.multiply, b, mean, of_mean
        yield np.subtract, c, of_mean, c  # c = -a dβ / n - b μ

    def forth(self, dtype: Any) -> tuple[Array, Array]:
        """Where a and c of y = a x + c are, (C,) each."""
        return self._channels("a", dtype), self._channels("c", dtype)

    def back(self, dtype: Any) -> tuple[Array | None, Array, Array]:
        """Where a, b and c of dx = a dy + b x + c are, (C,) each; no a where the convolution behind has seen to it."""
        a = None if self.folded else self.forth(dtype)[0]
        return a, self._channels("b back", dtype), self._channels("c back", dtype)

    def _forward(self, x: Array, y: Array, *sources: Array) -> Calls:
        a, c = yield from self.slopes(x, *sources)
        yield from scaled(x, a, c, y)

    def _backward(self, x: Array, dy: Array, *targets: Array) -> Calls:
        """dx in place of dy, unless the convolution before makes it."""
        by_row = self.scratch("dy sums", (len(x), 2, self.channels), x.dtype)
        sums = self.scratch("dy sums", by_row.shape[1:], np.float64)
        yield from channel_sums(dy, x, by_row)
        yield np.add.reduce, by_row, 0, np.float64, sums
        yield from self.slopes_back(x, sums, *targets)
        if not self.within:
            yield from scaled_back(x, dy, *self.back(x.dtype))

    def _channels(self, key: str, dtype: Any) -> Array:
        return self.scratch(key, (self.channels,), dtype)


@dataclass
class ReLU(Layer):
    """y = max(x, 0),  dx = dy where x > 0, else 0"""

    name = "relu"

    @property
    def spares(self) -> bool:
        return False

    def forward(self, x: Array, rng: np.random.Generator | None = None) -> Array:
        rows = self.laid_out(x)
        self.y = rows if self.in_place else self.scratch("y", rows.shape, x.dtype)
        self.plans(rectified, rows, self.y)
        return self.handed_on(self.y, x.ndim)

    def backward(self, dy: Array) -> Array:
        drows = self.laid_out(dy, "dy")
        self.plans(rectified_back, self.y, drows)
        return self.handed_on(drows, dy.ndim)


@dataclass
class SiLU(Layer):
    """y = x σ(x) = h (1 + t)      h = x / 2,  t = tanh h,  σ(x) = 1 / (1 + exp(-x)) = (1 + t) / 2

    dx = dy (1 + y + t (1 - y)) / 2. A ReLU without the corner (Elfwing et al. 2018, arXiv 1702.03118; as "swish" in
    Ramachandran et al. 2017, arXiv 1710.05941); tanh overflows nowhere, and NumPy has it quicker than exp.
    """

    name = "silu"

    def forward(self, x: Array, rng: np.random.Generator | None = None) -> Array:
        rows = self.laid_out(x)
        y = rows if self.in_place else self.scratch("y", rows.shape, x.dtype)
        if rng:
            self.slopes = self.scratch("slopes", rows.shape, x.dtype)
        h, t = (thread_scratch(key, rows.shape[1:], x.dtype) for key in ("half", "tanh"))
        for at, (row, out) in enumerate(zip(rows, y, strict=True)):
            np.multiply(row, 0.5, out=h)
            np.tanh(h, out=t)
            np.multiply(h, t, out=out)
            out += h
            if rng:
                slope = np.subtract(1, out, out=self.slopes[at])
                slope *= t
                slope += out
                slope += 1
                slope *= 0.5
        return self.handed_on(y, x.ndim)

    def backward(self, dy: Array) -> Array:
        drows = self.laid_out(dy, "dy")
        drows *= self.slopes
        return self.handed_on(drows, dy.ndim)


@dataclass
class MaxPool2D(Layer):
    """y = the largest of each channel's `size` by `size` pixels, which alone gets dy (of equals, one of them)

    x: (N, H, W, C)   y: (N, H // size, W // size, C); what is left over at the right and at the bottom is not seen.
    """

    name = "maxpool"
    size: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "size")

    def build(self, shape: Shape) -> Shape:
        return pooled_shape(self, shape, self.size)

    def forward(self, x: Array, rng: np.random.Generator | None = None) -> Array:
        rows = self.laid_out(x)
        self.dx = rows if self.in_place else self.scratch("dx", rows.shape, x.dtype)
        y, *self.larger = self.places_of(rows, rng)
        self.plans(self.largest, rows, y, *self.larger)
        return self.handed_on(y)

    def backward(self, dy: Array) -> Array:
        self.plans(self.to_largest, self.laid_out(dy, "dy"), self.dx, *self.larger)
        return self.handed_on(self.dx)

    def places_of(self, x: Array, rng: np.random.Generator | None) -> tuple[Array, Array, Array]:
        """Where y and two masks go: of each pixel of a column of the square but the first, and of each such column,
        whether it is larger than those before. Only training needs to know.
        """
        height, width, *pixel = x.shape
        y = self.scratch("y", (height // self.size, width // self.size, *pixel), x.dtype)
        others = self.size - 1 if rng else 0
        down = self.scratch("down", (others, *self._tall(x)), bool)
        return y, down, self.scratch("along", (others, *y.shape), bool)

    def largest(self, x: Array, y: Array, down: Array, along: Array) -> Calls:
        """The rows of y that those of x are for."""
        tall = thread_scratch("tall", self._tall(x), x.dtype)
        yield from largest(self._taps(x, 0), tall, down)
        first, *others = self._taps(tall, 1)
        yield np.copyto, y, first  # NumPy is quicker with one array of strides than with two
        yield from largest([y, *others], y, along)

    def to_largest(self, dy: Array, dx: Array, down: Array, along: Array) -> Calls:
        """The rows of dx for those of dy."""
        dtall = thread_scratch("tall", self._tall(dx), dy.dtype)
        yield from to_largest(dy, self._taps(dtall, 1), along)
        yield dtall[:, dx.shape[1] // self.size * self.size :].fill, 0
        yield from to_largest(dtall, self._taps(dx, 0), down)
        yield dx[len(dx) // self.size * self.size :].fill, 0

    def _tall(self, x: Array) -> Shape:
        """The shape between, when rows are together and columns are not yet."""
        return (len(x) // self.size, *x.shape[1:])

    def _taps(self, x: Array, axis: int) -> list[Array]:
        """Views of the first, second, ... of each `size` pixels along an axis."""
        end = x.shape[axis] // self.size * self.size
        return [x[(slice(None),) * axis + (slice(tap, end, self.size),)] for tap in range(self.size)]


@dataclass
class AvgPool2D(Layer):
    """y = the mean of each channel's `size` by `size` pixels      x: (N, H, W, C)   y: (N, H // size, W // size, C)

    What is left over at the right and at the bottom is not seen.
    """

    name = "avgpool"
    size: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "size")

    def build(self, shape: Shape) -> Shape:
        return pooled_shape(self, shape, self.size)

    def forward(self, x: Array, rng: np.random.Generator | None = None) -> Array:
        rows = self.laid_out(x)
        self.shape = rows.shape
        height, width, *pixel = rows.shape
        y = self.scratch("y", (height // self.size, width // self.size, *pixel), x.dtype)
        y[...] = 0
        for tap in self._taps(rows):
            y += tap
        y *= 1 / self.size**2
        return self.handed_on(y)

    def backward(self, dy: Array) -> Array:
        dx = self.scratch("dx", self.shape, dy.dtype)
        dx[...] = 0
        share = self.laid_out(dy * (1 / self.size**2), "dy")
        for tap in self._taps(dx):
            tap[...] = share
        return self.handed_on(dx)

    def _taps(self, x: Array) -> Iterator[Array]:
        """Views of the pixels at each place of the squares."""
        size = self.size
        height, width = x.shape[0] // size * size, x.shape[1] // size * size
        for a, b in itertools.product(range(size), repeat=2):
            yield x[a:height:size, b:width:size]


@dataclass
class GlobalAvgPool(Layer):
    """y = the mean of each channel over the image      x: (N, H, W, C)   y: (N, C)"""

    name = "globalavgpool"

    def build(self, shape: Shape) -> Shape:
        return images_shape(self, shape)[2:]

    def forward(self, x: Array, rng: np.random.Generator | None = None) -> Array:
        rows = self.laid_out(x)
        self.shape = rows.shape
        pixels = rows.reshape(-1, rows.shape[2] * rows.shape[3])
        y = self.scratch("y", rows.shape[2:], x.dtype)
        np.matmul(np.full(len(pixels), 1 / len(pixels), x.dtype), pixels, out=y.reshape(-1))  # quicker than a sum
        return self.views(np.transpose, y)

    def backward(self, dy: Array) -> Array:
        dx = self.scratch("dx", self.shape, dy.dtype)
        dx[...] = dy.T * (1 / (self.shape[0] * self.shape[1]))
        return self.handed_on(dx)


@dataclass
class Dropout(Layer):
    """y = x * keep / (1 - rate) in training, where keep is 0 with probability `rate`, else 1; y = x in prediction

    Srivastava et al. 2014, JMLR 15, in its inverted form, so that prediction needs no scaling.
    """

    name = "dropout"
    rate: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.rate < 1:
            raise ValueError(f"rate must be at least 0 and less than 1, not {self.rate}")

    @property
    def spares(self) -> bool:
        return self.rate > 0  # else it is the layer's before

    def forward(self, x: Array, rng: np.random.Generator | None = None) -> Array:
        self.scale: Array | None = None
        if rng is None or self.rate == 0:
            return x
        rows = self.laid_out(x)
        self.scale = self.scratch("scale", self._masked(rows.shape), x.dtype)
        # Two random bytes a unit are cheaper to draw than a float, and finer than any rate needs.
        dropped = min(round(self.rate * 65536), 65535)
        raw = rng.bit_generator.random_raw(-(-self.scale.size // 4)).view(np.uint16)[: self.scale.size]
        factor = x.dtype.type(65536 / (65536 - dropped))  # a number of Python's would make NumPy go by float64
        np.multiply((raw >= dropped).reshape(self.scale.shape), factor, out=self.scale)
        y = rows if self.in_place else self.scratch("y", rows.shape, x.dtype)
        return self.handed_on(np.multiply(rows, self.scale, out=y), x.ndim)

    def backward(self, dy: Array) -> Array:
        if self.scale is None:
            return dy
        drows = self.laid_out(dy, "dy")
        drows *= self.scale
        return self.handed_on(drows, dy.ndim)

    def _masked(self, shape: Shape) -> Shape:
        """The shape of the mask for (H, W, C, N)."""
        return shape


@dataclass
class SpatialDropout(Dropout):
    """Dropout that keeps or drops whole channels of an image (Tompson et al. 2015, arXiv 1411.4280)."""

    name = "spatialdropout"

    def build(self, shape: Shape) -> Shape:
        images_shape(self, shape)
        return shape

    def _masked(self, shape: Shape) -> Shape:
        return (1, 1, *shape[2:])


@dataclass
class Residual(Layer):
    """y = f(x) + x, f being `layers` in a row; where their shapes differ, y = f(x) + P x with a 1 x 1 convolution P

    He et al. 2016 (arXiv 1512.03385), whose projection P is this with the stride that the shapes ask for.
    """

    name = "residual"
    layers: list[dict[str, Any]]

    def __post_init__(self) -> None:
        super().__post_init__()
        self.inner = [layer_of(line) for line in self.layers]
        self.order = reordered(self.inner)
        if not self.inner:
            raise ValueError("a residual block needs layers")
        self.layers = [layer.spec() for layer in self.inner]
        self.projection: Conv2D | None = None

    def build(self, shape: Shape) -> Shape:
        height, width, _ = images_shape(self, shape)
        out = built(self.inner, shape)
        self.projection = None
        if out != shape:
            if len(out) != 3:
                raise ValueError(f"its layers make images of {shape} into {out}, to which the input can't be added")
            stride = -(-height // out[0])
            self.projection = Conv2D(out[2], 1, stride, bias=False)
            if built([self.projection], shape) != out:
                raise ValueError(f"no stride makes images of {height} x {width} into its layers' {out[0]} x {out[1]}")
        self.multiply_adds = sum(layer.multiply_adds for layer in self.parts())
        return out

    def parts(self) -> Sequence[Layer]:
        return [*self.inner, *([self.projection] if self.projection else [])]

    def initialise(self, rng: np.random.Generator) -> None:
        for layer in self.parts():
            layer.initialise(rng)

    def forward(self, x: Array, rng: np.random.Generator | None = None) -> Array:
        y = x
        for layer in self.order:
            y = layer.forward(y, rng)
        shortcut = self.projection.forward(x, rng) if self.projection else x
        return np.add(y, shortcut, out=self.scratch.like("y", y))

    def backward(self, dy: Array) -> Array:
        if self.projection:
            shortcut = self.projection.backward(dy)
        else:
            shortcut = self.scratch.like("dshortcut", dy)
            shortcut[...] = dy
        dx = dy
        for layer in reversed(self.order):
            dx = layer.backward(dx)
        return np.add(dx, shortcut, out=self.scratch.like("dx", shortcut))


LAYERS: dict[str, type[Layer]] = {
    layer.name: layer
    for layer in (
        *(AvgPool2D, BatchNorm, Conv2D, Dense, Dropout, Flatten, GlobalAvgPool, MaxPool2D, ReLU, Residual),
        *(SiLU, SpatialDropout),
    )
}


def layer_of(line: Mapping[str, Any]) -> Layer:
    """The layer of a spec. Raises KeyError or TypeError if it is none, ValueError if a value is out of range."""
    return LAYERS[line["layer"]](**{key: value for key, value in line.items() if key != "layer"})


def built(layers: Sequence[Layer], shape: Shape) -> Shape:
    """The shape after layers in a row, each built. Raises ValueError, naming the layer that can't follow."""
    for number, layer in enumerate(layers):
        try:
            shape = layer.output_shape = layer.build(shape)
        except ValueError as error:
            raise ValueError(f"layer {number} ({layer.name}): {error}") from None
    spared = False
    for layer in reordered(layers):
        layer.in_place, spared = spared, layer.spares
    return shape


def reordered(layers: Sequence[Layer]) -> list[Layer]:
    """The layers with a ReLU behind the max pooling that follows it, the same there on fewer numbers."""
    order = list(layers)
    for at in range(len(order) - 1):
        if isinstance(order[at], ReLU) and isinstance(order[at + 1], MaxPool2D):
            order[at : at + 2] = order[at + 1], order[at]
    return order


def positive(layer: Layer, *names: str) -> None:
    """Raise ValueError unless the hyperparameters with these names are greater than zero."""
    for name in names:
        if not 0 < getattr(layer, name) < math.inf:
            raise ValueError(f"{name} must be greater than 0, not {getattr(layer, name)}")


def images_shape(layer: Layer, shape: Shape) -> tuple[int, int, int]:
    """The shape, if it is that of images. Raises ValueError if it is not."""
    if len(shape) != 3:
        raise ValueError(f"a {layer.name} layer wants images, not vectors of shape {shape}: put it before the flatten")
    return shape


def pooled_shape(layer: Layer, shape: Shape, size: int) -> Shape:
    """The shape of images after squares of `size` are made one pixel. Raises ValueError if none fits in."""
    height, width, channels = images_shape(layer, shape)
    if min(height, width) < size:
        raise ValueError(f"squares of {size} do not fit into images of {height} x {width}")
    return (height // size, width // size, channels)


def rows_of(x: Array) -> Array:
    """A view of images (N, H, W, C) as (H, W, C, N), of vectors (N, C) as (1, 1, C, N)."""
    return np.transpose(x, (1, 2, 3, 0)) if x.ndim == 4 else np.transpose(x)[np.newaxis, np.newaxis]


def images_of(rows: Array) -> Array:
    """The reverse, images."""
    return rows.transpose(3, 0, 1, 2)


def vectors_of(rows: Array) -> Array:
    """The reverse, vectors."""
    return np.transpose(rows[0, 0])


def flattened(x: Array) -> Array:
    """(N, ...) as vectors (N, D), a view where the first axis is innermost in memory."""
    return np.moveaxis(x, 0, -1).reshape(-1, len(x)).T
