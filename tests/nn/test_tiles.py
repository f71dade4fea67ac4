"""Products of spread rows, however they are cut."""

import numpy as np
import pytest

from digits.nn import tiles
from digits.nn.plans import Plans
from digits.nn.tiles import add_products, pieces


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
    monkeypatch.setattr(tiles, "SMALL_PRODUCTS", small_products)
    *leading, depth, length, channels = shape
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(*leading, depth, length)), rng.normal(size=(*leading, length, channels))
    total = np.ones((leading[0], depth, channels))
    Plans()(add_products, left, right, total)
    np.testing.assert_allclose(total, 1 + np.einsum("prtdk,prtkm->pdm", left, right), atol=1e-11)
