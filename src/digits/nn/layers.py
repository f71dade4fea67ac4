"""The layers of a network: each one is its equation, forward and backward.

A layer is a dataclass of its hyperparameters, so that a recipe's TOML, a checkpoint and the code all say the same
thing. Shapes are without the batch axis in `build` and with it, as N, in `forward` and `backward`. No dtype is written
down here: a layer computes in the dtype of its parameters and of what comes in.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from digits.nn.pixels import Array, Pixels, Shape


@dataclass
class Layer(ABC):
    """A step of the network: `forward` keeps what `backward` needs, `backward` fills in the gradients.

    A parameter `W` is an attribute of that name, and its gradient is `dW`; both are views into the flat vectors of the
    network, which binds them. A layer is written as if it were alone: another thread has a replica of its own.
    """

    name: ClassVar[str]

    def __post_init__(self) -> None:
        self.input_gradient = True  # below the first layer with parameters nobody asks for it
        self._scratch: dict[str, Array] = {}

    def build(self, shape: Shape) -> Shape:
        """The shape of one image after this layer, given its shape before; raises ValueError if it can't be."""
        return shape

    def parameter_shapes(self) -> dict[str, Shape]:
        """The shape of each parameter, known once the layer is built."""
        return {}

    def initialise(self, rng: np.random.Generator) -> None:
        """Draw the parameters' first values."""

    @abstractmethod
    def forward(self, x: Array, rng: np.random.Generator | None = None) -> Array:
        """y from x; `rng` is there in training and None in prediction. What is returned is overwritten next time."""

    @abstractmethod
    def backward(self, dy: Array) -> Array:
        """dx from dy, for the x of the last `forward`; the gradients of the parameters are overwritten."""

    def scratch(self, key: str, shape: Shape, dtype: Any) -> Array:
        """An array with unset values that is handed out again at every call: a step allocates nothing."""
        size = math.prod(shape)
        kept = self._scratch.get(key)
        if kept is None or kept.size < size or kept.dtype != dtype:
            kept = self._scratch[key] = np.empty(size, dtype)
        return kept[:size].reshape(shape)

    def scratch_like(self, key: str, x: Array, dtype: Any = None) -> Array:
        """A scratch array of x's shape whose axes lie in memory in x's order."""
        dtype = x.dtype if dtype is None else dtype
        if x.flags.f_contiguous and not x.flags.c_contiguous:
            return self.scratch(key, x.shape[::-1], dtype).T
        return self.scratch(key, x.shape, dtype)

    def spec(self) -> dict[str, Any]:
        """The layer as a line of a recipe: `{"layer": "dense", "units": 10, ...}`."""
        return {"layer": self.name, **asdict(self)}


@dataclass
class Flatten(Layer):
    """y = x, an image's axes in one      x: (N, ...)   y: (N, D)"""

    name = "flatten"

    def build(self, shape: Shape) -> Shape:
        return (math.prod(shape),)

    def forward(self, x: Any, rng: np.random.Generator | None = None) -> Any:
        self.shape = x.shape
        return x.reshape(len(x), -1)

    def backward(self, dy: Array) -> Array:
        return dy.reshape(self.shape)


@dataclass
class Dense(Layer):
    """y = x Wᵀ + b      x: (N, D)   W: (M, D)   b: (M,)   y: (N, M)

    dW = dyᵀ x,  db = the sum of dy over N,  dx = dy W. `init = "he"` draws W from a normal distribution with variance
    2 / D (He et al. 2015, arXiv 1502.01852) and sets b to 0; `init = "uniform"` draws W and b from (-bound, bound).
    In memory y has its units first, y being a view: sums over N, and the softmax over M, then run along whole rows.
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

    def build(self, shape: Shape) -> Shape:
        if len(shape) != 1:
            raise ValueError(f"a dense layer wants vectors, not images of shape {shape}: put a flatten before it")
        (self.inputs,) = shape
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
            np.matmul(self.W, x.T, out=y)
        y += self.b[:, np.newaxis]
        return y.T

    def backward(self, dy: Array) -> Array:
        np.sum(dy, axis=0, out=self.db)
        if isinstance(self.x, Pixels):
            return self.x.gradient(dy.T, out=self.dW)
        np.matmul(dy.T, self.x, out=self.dW)
        if not self.input_gradient:
            return dy
        return np.matmul(self.W.T, dy.T, out=self.scratch("dx", self.x.shape[::-1], dy.dtype)).T


@dataclass
class ReLU(Layer):
    """y = max(x, 0),  dx = dy where x > 0, else 0"""

    name = "relu"

    def forward(self, x: Array, rng: np.random.Generator | None = None) -> Array:
        self.y = np.maximum(x, 0, out=self.scratch_like("y", x))
        return self.y

    def backward(self, dy: Array) -> Array:
        alive = np.greater(self.y, 0, out=self.scratch_like("alive", self.y, bool))
        return np.multiply(dy, alive, out=self.scratch_like("dx", dy))


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

    def forward(self, x: Array, rng: np.random.Generator | None = None) -> Array:
        self.scale: Array | None = None
        if rng is None or self.rate == 0:
            return x
        # Two random bytes a unit are cheaper to draw than a float, and finer than any rate needs.
        dropped = min(round(self.rate * 65536), 65535)
        self.scale = self.scratch_like("scale", x)
        keep = np.frombuffer(rng.bytes(2 * x.size), np.uint16) >= dropped
        np.multiply(keep, 65536 / (65536 - dropped), out=self.scale.reshape(-1, order="A"))
        return np.multiply(x, self.scale, out=self.scratch_like("y", x))

    def backward(self, dy: Array) -> Array:
        if self.scale is None:
            return dy
        return np.multiply(dy, self.scale, out=self.scratch_like("dx", dy))


LAYERS: dict[str, type[Layer]] = {layer.name: layer for layer in (Dense, Dropout, Flatten, ReLU)}


def positive(layer: Layer, *names: str) -> None:
    """Raise ValueError unless the hyperparameters with these names are greater than zero."""
    for name in names:
        if not 0 < getattr(layer, name) < math.inf:
            raise ValueError(f"{name} must be greater than 0, not {getattr(layer, name)}")
