"""Convolutions against six plain loops."""

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digits.nn import Array, Conv2D, Network, correlation, tiles
from digits.nn.columns import ToomCook


@dataclass(frozen=True)
class Plain:
    """A convolution as its equation has it, forward and backward, on (N, H, W, C)."""

    stride: int
    pad: tuple[int, int]

    def terms(self, x: Array, W: Array, y_shape: tuple[int, ...]):  # type: ignore[no-untyped-def]
        """All (n, i, j, h, w, a, b) for which the image has a pixel (h, w) under the kernel's (a, b)."""
        for n, i, j, a, b in itertools.product(*map(range, (*y_shape[:3], *W.shape[:2]))):
            h, w = self.stride * i + a - self.pad[0], self.stride * j + b - self.pad[1]
            if 0 <= h < x.shape[1] and 0 <= w < x.shape[2]:
                yield n, i, j, h, w, a, b

    def forward(self, x: Array, W: Array, bias: Array, y_shape: tuple[int, ...]) -> Array:
        y = np.zeros(y_shape) + bias
        for n, i, j, h, w, a, b in self.terms(x, W, y_shape):
            for c in range(x.shape[3]):
                y[n, i, j] += W[a, b, c] * x[n, h, w, c]
        return y

    def backward(self, x: Array, W: Array, dy: Array) -> tuple[Array, Array, Array]:
        dx, dW = np.zeros_like(x), np.zeros_like(W)
        for n, i, j, h, w, a, b in self.terms(x, W, dy.shape):
            for c in range(x.shape[3]):
                dW[a, b, c] += dy[n, i, j] * x[n, h, w, c]
                dx[n, h, w, c] += dy[n, i, j] @ W[a, b, c]
        return dx, dW, dy.sum(axis=0)


def padding_of(layer: Conv2D, size: int) -> int:
    """How many zeros come before an axis of so many pixels, by the words of the layer's description."""
    if layer.padding == "same":
        return max((-(-size // layer.stride) - 1) * layer.stride + layer.kernel - size, 0) // 2
    return 0 if layer.padding == "valid" else int(layer.padding)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Conv2D, tuple[int, int, int, int]]:
    kernel, stride = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    padding = draw(st.sampled_from(["valid", "same", 0, 1, 2]))
    smallest = 1 if padding == "same" else max(kernel - 2 * (padding if isinstance(padding, int) else 0), 1)
    height, width = draw(st.integers(smallest, smallest + 6)), draw(st.integers(smallest, smallest + 9))
    channels, images = draw(st.sampled_from([1, 2, 8, 9])), draw(st.integers(1, 3))
    layer = Conv2D(draw(st.integers(1, 3)), kernel, stride, padding, draw(st.sampled_from([False, True, "untied"])))
    return layer, (images, height, width, channels)


@settings(deadline=None, max_examples=250)
@given(convolutions(), st.booleans(), st.booleans(), st.integers(0, 2**32 - 1))
def test_a_convolution_is_its_six_loops(
    case: tuple[Conv2D, tuple[int, int, int, int]], small_products: bool, wide: bool, seed: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for module in (correlation, tiles):
            patch.setattr(module, "SMALL_PRODUCTS", small_products)  # whatever the processor at hand
        for bytes_of in ("BLOCK_BYTES", "PREDICTION_BLOCK_BYTES"):
            patch.setattr(correlation, bytes_of, 1 << (10 if wide else 30))  # several blocks, or one
        check_against_loops(*case, seed)


def check_against_loops(layer: Conv2D, shape: tuple[int, int, int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    network = Network([layer], shape[1:], np.float64)
    layer.input_gradient = True
    plain = Plain(layer.stride, (padding_of(layer, shape[1]), padding_of(layer, shape[2])))
    x = np.empty((*shape[1:], shape[0])).transpose(3, 0, 1, 2)  # as images lie between layers
    for _ in range(2):  # the second time by the plans that the first one made
        network.params[...] = rng.normal(size=network.count)
        x[...] = rng.normal(size=shape)
        bias = layer.b if layer.bias else np.zeros(layer.channels)
        expected = plain.forward(x, layer.W, bias, (len(x), *layer.output_shape))
        np.testing.assert_allclose(layer.forward(x), expected, atol=1e-10)
        y = layer.forward(x, rng)
        np.testing.assert_allclose(y, expected, atol=1e-10)
        y[...] = dy = rng.normal(size=y.shape)
        dx, dW, db = plain.backward(x, layer.W, dy)
        np.testing.assert_allclose(layer.backward(y), dx, atol=1e-10)
        np.testing.assert_allclose(layer.dW, dW, atol=1e-9)
        if layer.bias:
            np.testing.assert_allclose(layer.db, db if layer.bias == "untied" else db.sum(axis=(0, 1)), atol=1e-10)


@pytest.mark.parametrize(
    ("padding", "stride", "size", "out"),
    [
        ("same", 1, 28, 28),
        ("same", 2, 28, 14),
        ("same", 2, 27, 14),
        ("valid", 1, 28, 26),
        ("valid", 2, 28, 13),
        (1, 1, 5, 5),
    ],
)
def test_how_large_the_result_is(padding: str | int, stride: int, size: int, out: int) -> None:
    assert Network([Conv2D(4, 3, stride, padding)], (size, size, 1)).output_shape == (out, out, 4)  # type: ignore[arg-type]


def test_what_deottes_network_saves() -> None:
    """Its second layer, 3 x 3 on 26 x 26, needs half of the multiplications, or fewer."""
    network = Network([Conv2D(32), Conv2D(32)], (28, 28, 1))
    columns = network.layers[1]._correlation._columns  # type: ignore[attr-defined]
    assert isinstance(columns, ToomCook)
    assert columns.products * columns.tiles <= 24 * 3 / 2
