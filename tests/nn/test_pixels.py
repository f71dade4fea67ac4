"""Bytes that are multiplied as floats: as good as the plain product, whatever the sizes and whatever is dark."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from digits.nn import Array, BatchNorm, Dense, Flatten, Layer, Network, Pixels, ReLU
from digits.nn.pixels import TILE, TILES

UNITS = 3
BLOCK = TILES * TILE  # images that are widened at a time


def sparse(images: int, inputs: int, seed: int = 0) -> Array:
    """Bytes of which two columns in three are dark throughout, other ones only in the first half of the images."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (images, inputs), dtype=np.uint8)
    pixels[:, rng.random(inputs) < 2 / 3] = 0
    pixels[: images // 2, rng.random(inputs) < 1 / 2] = 0
    return pixels


def check(images: Array, dtype: type = np.float64) -> None:
    """Both products, written over arrays of rubbish, are the plain dense ones."""
    rng, (count, inputs) = np.random.default_rng(1), images.shape
    x = images.astype(np.float64) / 255
    W = rng.normal(size=(UNITS, inputs)).astype(dtype)
    dy = rng.normal(size=(UNITS, count)).astype(dtype)
    pixels = Pixels(images, dtype)
    y = pixels.times(W, out=np.full((UNITS, count), np.nan, dtype))
    dW = pixels.gradient(dy, out=np.full((UNITS, inputs), np.nan, dtype))
    assert y.dtype == dW.dtype == dtype
    np.testing.assert_allclose(np.asarray(pixels), x, rtol=1e-6 if dtype == np.float32 else 1e-12)
    precision = float(np.finfo(dtype).eps) * 10
    np.testing.assert_allclose(y, W @ x.T, rtol=0, atol=precision * inputs)
    np.testing.assert_allclose(dW, dy @ x, rtol=0, atol=precision * np.sqrt(count) * 10)


@pytest.mark.parametrize(
    "images",
    [1, 2, *(edge + by for edge in (TILE, 2 * TILE, BLOCK, BLOCK + TILE, 2 * BLOCK) for by in (-1, 0, 1))],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_at_the_edges_of_the_tiles(images: int, dtype: type) -> None:
    check(sparse(images, 12), dtype)


@settings(max_examples=60, deadline=None)
@given(images=st.integers(1, 7000), inputs=st.integers(1, 12), seed=st.integers(0, 99))
@example(images=1, inputs=1, seed=0)
def test_products_of_any_size(images: int, inputs: int, seed: int) -> None:
    check(sparse(images, inputs, seed))


@pytest.mark.parametrize("images", [1, TILE, 2 * TILE + 2, BLOCK + 52])
@pytest.mark.parametrize("value", [0, 1, 255])
def test_all_dark_and_all_lit_images(images: int, value: int) -> None:
    check(np.full((images, 7), value, np.uint8))


def test_dark_images_among_lit_ones() -> None:
    images = sparse(3 * BLOCK, 5)
    images[BLOCK : 2 * BLOCK] = 0
    check(images)


def test_a_pixel_that_is_lit_once() -> None:
    for at in (0, BLOCK - 1, BLOCK, 2 * BLOCK - 1):
        images = np.zeros((2 * BLOCK, 9), np.uint8)
        images[at, 4] = 200
        check(images)


def test_images_with_gaps_in_memory() -> None:
    check(sparse(300, 20)[::2, ::2])


def test_weights_and_gradients_with_gaps_in_memory() -> None:
    images = sparse(200, 12)
    rng, pixels = np.random.default_rng(0), Pixels(images, np.float64)
    W, dy = rng.normal(size=(12, UNITS)).T, rng.normal(size=(200, UNITS)).T
    np.testing.assert_allclose(pixels.times(W, np.empty((UNITS, 200))), W @ (images.T / 255), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(pixels.gradient(dy, np.empty((UNITS, 12))), dy @ (images / 255), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("count", [200, BLOCK + 200])
def test_images_of_the_same_size_in_turn(count: int) -> None:
    # The floats of one must not be taken for the other's.
    several = [sparse(count, 12, seed) for seed in range(3)]
    all_pixels = [Pixels(images, np.float64) for images in several]
    W, dy = np.random.default_rng(0).normal(size=(UNITS, 12)), np.random.default_rng(1).normal(size=(UNITS, count))
    products = [pixels.times(W, np.empty((UNITS, count))) for pixels in all_pixels]
    gradients = [pixels.gradient(dy, np.empty((UNITS, 12))) for pixels in all_pixels]
    for images, y, dW in zip(several, products, gradients, strict=True):
        np.testing.assert_allclose(y, W @ (images.T / 255), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(dW, dy @ (images / 255), rtol=1e-10, atol=1e-10)


def test_the_products_change_neither_the_bytes_nor_each_other() -> None:
    images = sparse(200, 12)
    given, pixels = images.copy(), Pixels(images)
    rng = np.random.default_rng(0)
    W, dy = rng.normal(size=(UNITS, 12)).astype(np.float32), rng.normal(size=(UNITS, 200)).astype(np.float32)
    first = pixels.times(W, np.empty((UNITS, 200), np.float32))
    pixels.gradient(dy, np.empty((UNITS, 12), np.float32))
    np.testing.assert_array_equal(pixels.times(W, np.empty((UNITS, 200), np.float32)), first)
    np.testing.assert_array_equal(images, given)


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [Flatten(), Dense(3)],
        lambda: [Flatten(), Flatten(), Dense(3)],
        lambda: [Flatten(), Dense(40), BatchNorm(), ReLU(), Dense(3)],  # in whose buffers the floats must not be
    ],
)
def test_a_network_takes_pixels_as_it_takes_floats(layers: Callable[[], list[Layer]]) -> None:
    images = sparse(150, 12).reshape(150, 4, 3, 1)
    rng = np.random.default_rng(0)
    network = Network(layers(), (4, 3, 1)).initialise(rng)
    dy = rng.normal(size=(150, 3)).astype(np.float32)
    floats = images / np.float32(255)
    wanted = network.forward(floats, rng).copy()
    network.backward(dy.copy())
    grads = network.grads.copy()
    pixels = Pixels(images)
    for _ in range(2):  # the same batch comes at every step
        np.testing.assert_allclose(network.forward(pixels, rng), wanted, rtol=1e-5, atol=1e-5)
        network.backward(dy.copy())
        np.testing.assert_allclose(network.grads, grads, rtol=1e-4, atol=1e-4)
    assert len(pixels) == 150
