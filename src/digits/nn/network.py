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

from digits.nn.layers import Layer, built, layer_of
from digits.nn.pixels import Pixels
from digits.nn.scratch import Array, Shape, shared_zeros
from digits.nn.stages import in_order

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
    an optimizer, an average or a checkpoint is a few operations on one array. `statistics` likewise holds what is
    observed in training for prediction (of batch norm: means and variances), `batch_statistics` those of the last
    batch; `observe` takes them over. All four are shared with processes that are forked from this one. `layers` are in
    the order of the recipe, `order` has them in that in which they are computed.

    Raises ValueError, naming the layer, where a layer can't follow the one before.
    """

    def __init__(self, layers: Sequence[Layer], input_shape: Shape, dtype: Any = np.float32) -> None:
        self.layers = list(layers)
        self.input_shape = tuple(input_shape)
        self.output_shape = built(self.layers, self.input_shape)
        self.params = shared_zeros((sum(math.prod(shape) for *_, shape in self._parameters()),), dtype)
        self.statistics = shared_zeros((sum(math.prod(shape) for *_, shape in self._statistics()),), dtype)
        self._bind()

    @property
    def count(self) -> int:
        """The number of parameters."""
        return len(self.params)

    @property
    def multiply_adds(self) -> int:
        """How many multiplications and additions a forward pass of one image is, as the layers' equations have them."""
        return sum(layer.multiply_adds for layer in self.layers)

    def initialise(self, rng: np.random.Generator) -> Self:
        """Draw all parameters anew, and forget what was observed."""
        for layer in self.layers:
            layer.initialise(rng)
        return self

    def replica(self) -> "Network":
        """A network of the same parameters and statistics with gradients and buffers of its own, for another shard."""
        twin = copy.copy(self)
        twin.layers = [layer_of(layer.spec()) for layer in self.layers]
        built(twin.layers, self.input_shape)
        twin._bind()
        return twin

    def forward(self, images: Array | Pixels, rng: np.random.Generator | None = None) -> Array:
        """Logits (N, K) of images (N, *input_shape); `rng` is given in training, None in prediction."""
        x: Any = images
        for layer in self.order:
            x = layer.forward(x, rng)
        logits: Array = x
        return logits

    def backward(self, dlogits: Array) -> None:
        """Fill `grads` from the loss's gradient (N, K) at the logits of the last `forward`."""
        dy = dlogits
        for layer in reversed(self.order):
            dy = layer.backward(dy)
            if not layer.input_gradient:
                break

    def observe(self, shards: Sequence["Network"], images: Sequence[int]) -> None:
        """Move `statistics` towards those of a batch whose shards, of so many images each, these replicas have seen."""
        if not len(self.statistics):
            return
        seen = sum(shard.batch_statistics * (count / sum(images)) for shard, count in zip(shards, images, strict=True))
        self.statistics += self._momenta * (seen - self.statistics)

    def named_arrays(self) -> Iterator[tuple[str, Array]]:
        """Each parameter and each statistic as a view, with its name: "<layer's number>.<name>"."""
        for number, layer, name, _ in (*self._parameters(), *self._statistics()):
            yield f"{number}.{name}", getattr(layer, name)

    def decayed(self, start: int = 0, stop: int | None = None) -> list[slice]:
        """Where in `params[start:stop]` weight decay applies: weights, and neither biases nor norms."""
        stop = self.count if stop is None else stop
        at, slices = 0, []
        for _, _, name, shape in self._parameters():
            end = at + math.prod(shape)
            first, last = max(at, start), min(end, stop)
            if name == "W" and first < last:
                slices.append(slice(first - start, last - start))
            at = end
        return slices

    def hidden(self) -> list[tuple[slice, Shape]]:
        """Where in `params` each layer's weights are but the first's and the last's, and their shape as a matrix.

        A convolution's matrix has a row for each of the k k C inputs of a place and a column for each channel.
        """
        weights = [getattr(layer, name) for _, layer, name, _ in self._parameters() if name == "W"]
        return [(self.place(W), (W.size // W.shape[-1], W.shape[-1])) for W in weights[1:-1]]

    def place(self, parameter: Array) -> slice:
        """Where in `params` a layer's parameter is."""
        start = (parameter.ctypes.data - self.params.ctypes.data) // parameter.itemsize
        return slice(start, start + parameter.size)

    def save(self, path: Path) -> None:
        """Write a checkpoint that describes itself: the layers as JSON and each array by its name, as .npz."""
        layers = [layer.spec() for layer in self.layers]
        spec = {"input_shape": self.input_shape, "dtype": self.params.dtype.name, "layers": layers}
        write_arrays(path, {**dict(self.named_arrays()), "network": np.array(json.dumps(spec))})

    @classmethod
    def load(cls, path: Path) -> "Network":
        """The network that `save` wrote. Raises CheckpointError if the file is not that, or damaged."""
        arrays = read_arrays(path)
        try:
            spec = json.loads(str(arrays.pop("network")))
            layers = [layer_of(line) for line in spec["layers"]]
            if spec["dtype"] not in ("float32", "float64"):
                raise ValueError(f"its parameters are {spec['dtype']}")
            network = cls(layers, spec["input_shape"], spec["dtype"])
            wanted = dict(network.named_arrays())
            if wanted.keys() != arrays.keys():
                raise ValueError("its parameters are not those of its layers")
            for name, array in wanted.items():
                if arrays[name].shape != array.shape or arrays[name].dtype != array.dtype:
                    raise ValueError(f"{name} is not {array.shape} numbers of {array.dtype}")
                array[...] = arrays[name]
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError, MemoryError, RecursionError) as error:
            raise CheckpointError(f"{path} holds no network of this version: {error}") from error
        return network

    def _parameters(self) -> list[tuple[str, Layer, str, Shape]]:
        return [
            (number, layer, name, shape)
            for number, layer in leaves(self.layers)
            for name, shape in layer.parameter_shapes().items()
        ]

    def _statistics(self) -> list[tuple[str, Layer, str, Shape]]:
        return [
            (number, layer, name, shape)
            for number, layer in leaves(self.layers)
            for name, shape in layer.statistic_shapes().items()
        ]

    def _bind(self) -> None:
        self.order = in_order(self.layers)
        self.grads = shared_zeros(self.params.shape, self.params.dtype)
        self.batch_statistics = shared_zeros(self.statistics.shape, self.statistics.dtype)
        bind(self._parameters(), {"": self.params, "d": self.grads})
        bind(self._statistics(), {"": self.statistics, "batch_": self.batch_statistics})
        self._momenta = np.concatenate(
            [np.full(math.prod(shape), layer.pace, self.params.dtype) for _, layer, _, shape in self._statistics()]
            or [self.statistics]
        )
        first = next(
            (layer for layer in self.order if any(leaf.parameter_shapes() for _, leaf in leaves([layer]))), None
        )
        if first:
            first.be_first()


def leaves(layers: Sequence[Layer], prefix: str = "") -> Iterator[tuple[str, Layer]]:
    """The layers that have no parts, in order, with their numbers: "2", or "2.0" for the first part of layer 2."""
    for number, layer in enumerate(layers):
        if layer.parts():
            yield from leaves(layer.parts(), f"{prefix}{number}.")
        else:
            yield f"{prefix}{number}", layer


def bind(arrays: list[tuple[str, Layer, str, Shape]], vectors: dict[str, Array]) -> None:
    """Make each array an attribute of its layer: a view into each of the vectors, under its prefix and its name."""
    at = 0
    for _, layer, name, shape in arrays:
        end = at + math.prod(shape)
        for prefix, vector in vectors.items():
            setattr(layer, f"{prefix}{name}", vector[at:end].reshape(shape))
        at = end


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
