"""The sums that save multiplications against the sums that they stand for."""

import numpy as np
import pytest

from digits.nn.toom_cook import POINTS, strided_toom_cook, toom_cook

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
