"""Convolutions against six plain loops, and the sums that save multiplications against the sums they stand for."""

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digits.nn import Array, Conv2D, Network, correlation
from digits.nn.correlation import POINTS, ToomCook, add_products, pieces, strided_toom_cook, toom_cook
from digits.nn.plans import Plans


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
        patch.setattr(correlation, "SMALL_PRODUCTS", small_products)  # whatever the processor at hand
        patch.setattr(correlation, "GATHERED_CHANNELS", 1 if wide else 64)
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


TILES = [(m, r) for m in range(1, 9) for r in range(1, 8) if m == 1 or r == 1 or m + r - 2 <= len(POINTS)]


@pytest.mark.parametrize(("m", "r"), TILES)
def test_toom_cook_is_the_sum_with_fewer_multiplications(m: int, r: int) -> None:
    AT, G, BT = toom_cook(m, r)
    assert len(G) == m + r - 1
    rng = np.random.default_rng(0)
    w, x = rng.normal(size=r), rng.normal(size=m + r - 1)
    np.testing.assert_allclose(AT @ ((G @ w) * (BT @ x)), [w @ x[i : i + r] for i in range(m)], atol=1e-11)


@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize(("m", "kernel"), [(2, 3), (4, 5), (3, 2), (3, 4), (2, 1)])
def test_strides_are_sums_side_by_side(m: int, kernel: int, stride: int) -> None:
    AT, G, BT = strided_toom_cook(m, kernel, stride)
    rng = np.random.default_rng(0)
    w, x = rng.normal(size=kernel), rng.normal(size=stride * (m - 1) + kernel)
    wanted = [w @ x[stride * i : stride * i + kernel] for i in range(m)]
    np.testing.assert_allclose(AT @ ((G @ w) * (BT @ x)), wanted, atol=1e-12)


def test_what_deottes_network_saves() -> None:
    """Its second layer, 3 x 3 on 26 x 26, needs half of the multiplications, or fewer."""
    network = Network([Conv2D(32), Conv2D(32)], (28, 28, 1))
    columns = network.layers[1]._correlation._columns  # type: ignore[attr-defined]
    assert isinstance(columns, ToomCook)
    assert columns.products * columns.tiles <= 24 * 3 / 2


@pytest.mark.parametrize(
    ("length", "most", "count"),
    [(64, 325, 1), (64, 50, 2), (128, 100, 2), (48, 1, 1), (1, 1, 1), (37, 10, 1), (96, 40, 3), (1664, 488, 4)],
)
def test_what_makes_too_large_a_product_is_cut_into_equal_pieces_that_are_not_short(
    length: int, most: int, count: int
) -> None:
    assert pieces(length, most) == count


@pytest.mark.parametrize(
    "shape", [(2, 3, 1, 96, 64, 32), (1, 2, 3, 288, 128, 96), (1, 2, 1, 24, 1792, 64), (3, 1, 2, 100, 61, 500)]
)
@pytest.mark.parametrize("small_products", [False, True])
def test_products_are_summed_over_rows_and_tiles_however_they_are_cut(
    shape: tuple[int, int, int, int, int, int], small_products: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(correlation, "SMALL_PRODUCTS", small_products)
    *leading, depth, length, channels = shape
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(*leading, depth, length)), rng.normal(size=(*leading, length, channels))
    total = np.ones((leading[0], depth, channels))
    Plans()(add_products, left, right, total)
    np.testing.assert_allclose(total, 1 + np.einsum("prtdk,prtkm->pdm", left, right), atol=1e-11)
