"""Batch norm folded into its neighbours: in prediction it is one multiplication and one addition a channel.

With a = γ / σ and c = β - μ a it makes a x + c of x. Behind a convolution or a dense layer with weights W and bias b
that is the same layer with a W and a b + c; before one, with W a and b + W c. Where a convolution sees zeros around the
image, which are no a 0 + c, that W c is not the same everywhere, and its biases become one a place. All of it is exact
(Jacob et al. 2018, arXiv 1712.05877).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from digits.nn.geometry import Geometry
from digits.nn.layers import BatchNorm, Conv2D, Dense, Dropout, Flatten, Layer, Residual
from digits.nn.network import Network, leaves
from digits.nn.scratch import Array

Arrays = dict[str, Array]


@dataclass
class Piece:
    """A layer that is made anew, and the arrays of each of its leaves by name, in float64 while they change.

    `geometry` is a convolution's.
    """

    layer: Layer
    arrays: list[Arrays]
    geometry: Geometry | None = None


def folded(network: Network) -> Network:
    """A network that predicts what this one does, with fewer layers; it is not one to train.

    Dropout, which does nothing in prediction, is left out too. Where there is no batch norm it is the network itself.
    """
    if not any(isinstance(layer, BatchNorm) for _, layer in leaves(network.layers)):
        return network
    with np.errstate(all="ignore"):  # weights that are not finite make predictions that say so
        pieces = fold(network.layers)
        twin = Network([piece.layer for piece in pieces], network.input_shape, network.params.dtype)
        arrays = [arrays for piece in pieces for arrays in piece.arrays]
        for (_, layer), values in zip(leaves(twin.layers), arrays, strict=True):
            for name, value in values.items():
                getattr(layer, name)[...] = value
    return twin


def fold(layers: Sequence[Layer]) -> list[Piece]:
    """These layers with each batch norm folded that can be, and without dropout unless there is nothing else."""
    pieces: list[Piece] = []
    for layer in [layer for layer in layers if not isinstance(layer, Dropout)] or layers:
        piece = piece_of(layer)
        if isinstance(layer, BatchNorm) and pieces and isinstance(pieces[-1].layer, Conv2D | Dense):
            norm_behind(pieces[-1], piece)
        else:
            pieces.append(piece)
    for at in range(len(pieces) - 2, -1, -1):  # from the end, so that of two norms in a row both find their layer
        after = next((piece for piece in pieces[at + 1 :] if not isinstance(piece.layer, Flatten)), None)
        if isinstance(pieces[at].layer, BatchNorm) and after and isinstance(after.layer, Conv2D | Dense):
            norm_before(after, pieces[at])
            del pieces[at]
    return pieces


def piece_of(layer: Layer) -> Piece:
    """A layer as it is, but for what is folded within a residual block."""
    if isinstance(layer, Residual):
        inner = fold(layer.inner)
        arrays = [arrays for piece in inner for arrays in piece.arrays]
        if layer.projection:
            arrays.append({"W": layer.projection.W})
        return Piece(Residual([piece.layer.spec() for piece in inner]), arrays)
    names = [*layer.parameter_shapes(), *layer.statistic_shapes()]
    values = {name: getattr(layer, name).astype(np.float64) for name in names}
    if not isinstance(layer, Conv2D):
        return Piece(replace(layer), [values])
    return Piece(replace(layer, bias=layer.bias or True), [{"b": np.zeros(layer.channels), **values}], layer.geometry)


def norm_behind(piece: Piece, norm: Piece) -> None:
    """Let a convolution or dense layer do what the norm behind it does."""
    (arrays,) = piece.arrays
    a, c = slope_and_intercept(norm)
    arrays["W"] *= a if isinstance(piece.layer, Conv2D) else a[:, np.newaxis]
    arrays["b"] *= a
    arrays["b"] += c


def norm_before(piece: Piece, norm: Piece) -> None:
    """Let a convolution or dense layer do what the norm before it does."""
    (arrays,) = piece.arrays
    W, b = arrays["W"], arrays["b"]
    a, c = slope_and_intercept(norm)
    if isinstance(piece.layer, Conv2D) and piece.geometry:
        if piece.geometry.padded:
            piece.layer = replace(piece.layer, bias="untied")
            arrays["b"] = b + piece.geometry.of_ones(c @ W)
        else:
            b += c @ W.sum(axis=(0, 1))
        W *= a[:, np.newaxis]
    else:  # where a flatten is between, an image's pixels one after the other, each with its channels
        pixels = W.shape[1] // len(a)
        b += W @ np.tile(c, pixels)
        W *= np.tile(a, pixels)


def slope_and_intercept(norm: Piece) -> tuple[Array, Array]:
    """a and c, each (C,)."""
    (arrays,) = norm.arrays
    assert isinstance(norm.layer, BatchNorm)
    a = arrays["gamma"] / np.sqrt(arrays["variance"] + norm.layer.epsilon)
    return a, arrays["beta"] - arrays["mean"] * a
