"""A stack of layers over one flat vector of parameters."""

import copy
import json
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from digits.nn.layers import LAYERS, Layer
from digits.nn.pixels import Array, Pixels, Shape

# What NumPy and zipfile raise between them on a file that is cut short, altered or something else.
DAMAGE = (
    *(OSError, ValueError, EOFError, KeyError, IndexError, TypeError, AttributeError, OverflowError, MemoryError),
    *(RuntimeError, SyntaxError, tokenize.TokenError, struct.error, zipfile.BadZipFile, zlib.error),
)


class CheckpointError(ValueError):
    """A file that should hold arrays or a network does not; the message says which file and why."""


class Network:
    """Layers in a row: `forward` maps images (N, *input_shape) to logits (N, K), `backward` fills in the gradients.

    All parameters are views into the vector `params` and all gradients into `grads`, each of shape (count,), so that
    an optimizer, an average or a checkpoint is a few operations on one array.

    Raises ValueError, naming the layer, where a layer can't follow the one before.
    """

    def __init__(self, layers: Sequence[Layer], input_shape: Shape, dtype: Any = np.float32) -> None:
        self.layers = list(layers)
        self.input_shape = tuple(input_shape)
        self.shapes: list[Shape] = []
        shape = self.input_shape
        for number, layer in enumerate(self.layers):
            try:
                shape = layer.build(shape)
            except ValueError as error:
                raise ValueError(f"layer {number} ({layer.name}): {error}") from None
            self.shapes.append(shape)
        self.output_shape = shape
        self.params = np.zeros(self.count, dtype)
        self._bind()

    @property
    def count(self) -> int:
        """The number of parameters."""
        return sum(math.prod(shape) for _, _, shape in self._parameters())

    def initialise(self, rng: np.random.Generator) -> Self:
        """Draw all parameters anew."""
        for layer in self.layers:
            layer.initialise(rng)
        return self

    def replica(self) -> "Network":
        """A network of the same parameter vector with gradients, caches and buffers of its own, for another thread."""
        twin = copy.copy(self)
        twin.layers = [LAYERS[layer.name](**hyperparameters(layer)) for layer in self.layers]
        shape = self.input_shape
        for layer in twin.layers:
            shape = layer.build(shape)
        twin._bind()
        return twin

    def forward(self, images: Array | Pixels, rng: np.random.Generator | None = None) -> Array:
        """Logits (N, K) of images (N, *input_shape); `rng` is given in training, None in prediction."""
        x: Any = images
        for layer in self.layers:
            x = layer.forward(x, rng)
        logits: Array = x
        return logits

    def backward(self, dlogits: Array) -> None:
        """Fill `grads` from the loss's gradient (N, K) at the logits of the last `forward`."""
        dy = dlogits
        for layer in reversed(self.layers):
            dy = layer.backward(dy)
            if not layer.input_gradient:
                break

    def named_parameters(self) -> Iterator[tuple[str, Array]]:
        """Each parameter with its name, "<layer's number>.<name>", as a view."""
        for number, layer in enumerate(self.layers):
            for name in layer.parameter_shapes():
                yield f"{number}.{name}", getattr(layer, name)

    def decays(self) -> Array:
        """A vector like `params`: 1 where weight decay applies (matrices), 0 where it does not (biases)."""
        return np.concatenate(
            [np.full(math.prod(shape), len(shape) > 1, self.params.dtype) for _, _, shape in self._parameters()]
            or [np.zeros(0, self.params.dtype)]
        )

    def save(self, path: Path) -> None:
        """Write a checkpoint that describes itself: the layers as JSON and each parameter by its name, as .npz."""
        layers = [layer.spec() for layer in self.layers]
        spec = {"input_shape": self.input_shape, "dtype": self.params.dtype.name, "layers": layers}
        write_arrays(path, {**dict(self.named_parameters()), "network": np.array(json.dumps(spec))})

    @classmethod
    def load(cls, path: Path) -> "Network":
        """The network that `save` wrote. Raises CheckpointError if the file is not that, or damaged."""
        arrays = read_arrays(path)
        try:
            spec = json.loads(str(arrays.pop("network")))
            layers = [LAYERS[line.pop("layer")](**line) for line in spec["layers"]]
            if spec["dtype"] not in ("float32", "float64"):
                raise ValueError(f"its parameters are {spec['dtype']}")
            network = cls(layers, spec["input_shape"], spec["dtype"])
            wanted = dict(network.named_parameters())
            if wanted.keys() != arrays.keys():
                raise ValueError("its parameters are not those of its layers")
            for name, parameter in wanted.items():
                if arrays[name].shape != parameter.shape or arrays[name].dtype != parameter.dtype:
                    raise ValueError(f"{name} is not {parameter.shape} numbers of {parameter.dtype}")
                parameter[...] = arrays[name]
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError, MemoryError, RecursionError) as error:
            raise CheckpointError(f"{path} holds no network of this version: {error}") from error
        return network

    def _parameters(self) -> list[tuple[Layer, str, Shape]]:
        return [(layer, name, shape) for layer in self.layers for name, shape in layer.parameter_shapes().items()]

    def _bind(self) -> None:
        self.grads = np.zeros_like(self.params)
        at = 0
        for layer, name, shape in self._parameters():
            end = at + math.prod(shape)
            setattr(layer, name, self.params[at:end].reshape(shape))
            setattr(layer, f"d{name}", self.grads[at:end].reshape(shape))
            at = end
        first = next((layer for layer in self.layers if layer.parameter_shapes()), None)
        if first:
            first.input_gradient = False


def hyperparameters(layer: Layer) -> dict[str, Any]:
    """The layer's spec without its name."""
    return {key: value for key, value in layer.spec().items() if key != "layer"}


def write_arrays(path: Path, arrays: dict[str, Array]) -> None:
    """Write arrays as .npz under exactly this name."""
    with path.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def read_arrays(path: Path) -> dict[str, Array]:
    """The arrays of an .npz, checked against its checksums. Raises CheckpointError if it is damaged."""
    try:
        arrays: dict[str, Array] = {}
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                with archive.open(name) as member:
                    arrays[name.removesuffix(".npy")] = np.lib.format.read_array(member, allow_pickle=False)
                    # Read on to the member's end, where its checksum is checked: np.load stops where the array's own
                    # header says that it ends, and that may be what is damaged.
                    if member.read(1):
                        raise ValueError(f"{name} goes on behind its array")
        return arrays
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing") from None
    except DAMAGE as error:
        raise CheckpointError(f"{path} is damaged ({' '.join(str(error).split())})") from error
