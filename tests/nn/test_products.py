"""Products that are cut into small ones: by which tiles, and the same however they are cut."""

import sys

import numpy as np
import pytest

from digits.nn import products
from digits.nn.products import SMALL_PRODUCT, multiply, multiply_tiles, order_of

tile, tile_rows = products.tile.__wrapped__, products.tile_rows.__wrapped__  # which forget what other tests have asked


@pytest.mark.parametrize(
    ("M", "K", "N", "rows", "columns"),
    [
        (800, 784, 32, 32, 32),
        (800, 800, 64, 32, 32),  # 16 rows of all 64 columns would be of more numbers
        (800, 784, 512, 32, 32),
        (1000, 784, 128, 20, 32),  # 25 are no multiple of 4
        (80, 64, 784, 80, 112),
        (64, 128, 1000, 32, 200),  # no multiple of 16 is a piece of 1000, so it is one of 8
        (10, 800, 32, 0, 0),  # too few rows
        (3920, 10, 4096, 0, 0),  # sums of too few terms
        (80, 64, 32, 0, 0),  # small already
        (800, 784, 31, 0, 0),  # a prime number
    ],
)
def test_a_tile_is_a_small_product_of_many_multiplications_for_its_numbers(
    M: int, K: int, N: int, rows: int, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "SMALL_PRODUCTS", True)
    monkeypatch.setattr(products, "LARGE", sys.maxsize)
    assert tile(M, K, N) == (rows, columns)
    assert rows * K * columns <= SMALL_PRODUCT
    assert not rows or tile_rows(M, K, columns) == rows
    monkeypatch.setattr(products, "SMALL_PRODUCTS", False)
    assert tile(M, K, N) == (0, 0)


@pytest.mark.parametrize(
    ("M", "K", "N", "whole"),
    [(800, 784, 512, True), (784, 800, 256, True), (800, 784, 128, False), (80, 256, 784, False)],
)
def test_a_large_product_is_left_whole_where_copying_pays(
    M: int, K: int, N: int, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "SMALL_PRODUCTS", True)
    monkeypatch.setattr(products, "LARGE", 256)
    assert (tile(M, K, N) == (0, 0)) == whole


@pytest.mark.parametrize(("M", "K", "columns"), [(208, 100, 300), (80, 15, 784), (30, 784, 32), (800, 1500, 80)])
def test_all_rows_go_into_a_tile_where_small_products_do_not_pay(
    M: int, K: int, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for columns that are no multiple of 8, few terms, rows that are no multiple of 4, and too large a tile."""
    monkeypatch.setattr(products, "SMALL_PRODUCTS", True)
    assert tile_rows(M, K, columns) == M


@pytest.mark.parametrize("shape", [(800, 784, 32), (160, 128, 1000), (96, 2000, 48), (10, 800, 32), (7, 5, 3)])
@pytest.mark.parametrize("small_products", [False, True])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_product_by_tiles_is_the_product(
    shape: tuple[int, int, int], small_products: bool, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "SMALL_PRODUCTS", small_products)  # whatever the processor at hand
    monkeypatch.setattr(products, "LARGE", sys.maxsize)
    monkeypatch.setattr(products, "tile", tile)
    monkeypatch.setattr(products, "tile_rows", tile_rows)
    (M, K, N), rng = shape, np.random.default_rng(0)
    for _ in range(2):
        left, right = (np.asarray(rng.normal(size=size), order=order) for size in ((M, K), (K, N)))  # type: ignore[call-overload]
        out = np.full((M, N), np.nan)
        multiply(left, right, out)
        np.testing.assert_allclose(out, left @ right, atol=1e-10)


@pytest.mark.parametrize("columns", [1, 20, 80, 400])  # as few as are too few for a small product, and all
@pytest.mark.parametrize("terms", [7, 64, 300])
@pytest.mark.parametrize("small_products", [False, True])
def test_columns_may_lie_in_tiles_of_any_width(
    columns: int, terms: int, small_products: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "SMALL_PRODUCTS", small_products)
    monkeypatch.setattr(products, "tile_rows", tile_rows)
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(80, terms)), rng.normal(size=(terms, 400))
    out = np.full((80, 400), np.nan)
    tiles = np.ascontiguousarray(right.reshape(terms, -1, columns).swapaxes(0, 1))
    multiply_tiles(left, tiles, out)
    np.testing.assert_allclose(out, left @ right, atol=1e-10)


@pytest.mark.parametrize("rows", range(2, 20))
def test_the_order_of_a_matrix_changes_how_long_a_product_takes_and_no_bit_of_it(rows: int) -> None:
    if not products.SMALL_PRODUCTS:
        pytest.skip("without AVX-512 products are made another way, for which no order is promised")
    rng = np.random.default_rng(rows)
    left, right = rng.random((rows, 16), np.float32), rng.random((16, 512), np.float32)
    there = np.asarray(left, order=order_of(rows))
    for order in "CF":
        np.testing.assert_array_equal(np.asarray(left, order=order) @ right, there @ right)  # type: ignore[call-overload]
