"""Mining: an epoch is of the hardest images and of others by chance."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from digits.mining import Mining


def test_as_it_is_an_epoch_is_of_all_images_in_a_random_order() -> None:
    losses = np.arange(50, dtype=np.float32)
    order, hard = Mining().chosen(losses, np.random.default_rng(1))
    assert not hard.any()
    np.testing.assert_array_equal(order, np.random.default_rng(1).permutation(50))


@given(
    images=st.integers(1, 60),
    share=st.floats(0.01, 0.99),
    hardest=st.floats(0, 1),
    seed=st.integers(0, 100),
)
def test_the_hardest_are_in_every_epoch_and_no_image_is_twice(
    images: int, share: float, hardest: float, seed: int
) -> None:
    mining, rng = Mining(share, hardest), np.random.default_rng(seed)
    losses = rng.permutation(images).astype(np.float32)
    order, hard = mining.chosen(losses, rng)
    assert len(order) == mining.count(images) == max(round(images * share), 1)
    assert len(set(order.tolist())) == len(order)
    by_loss = np.argsort(-losses)
    assert set(by_loss[: round(len(order) * hardest)].tolist()) == set(order[hard].tolist())


def test_the_others_are_drawn_evenly_and_all_are_in_a_random_order() -> None:
    losses = np.array([9, 8, 1, 1, 2, 0], np.float32)
    mining = Mining(share=2 / 3, hardest=0.5)  # four images, of which the first two are the hardest
    drawn = [mining.chosen(losses, np.random.default_rng(seed))[0].tolist() for seed in range(2000)]
    counts = Counter(image for order in drawn for image in order)
    assert counts[0] == counts[1] == 2000
    # Each of the other four in half of the epochs: 1000 ± 5 standard deviations of 22.
    assert all(890 < counts[image] < 1110 for image in (2, 3, 4, 5))
    places = Counter(order.index(0) for order in drawn)
    assert all(400 < places[place] < 600 for place in range(4))  # 500, and a standard deviation of 19


def test_what_was_never_learnt_from_comes_first_and_equals_by_chance() -> None:
    losses = np.array([5, np.inf, 5, np.inf, 5, 5], np.float32)
    orders = [Mining(0.5, 1.0).chosen(losses, np.random.default_rng(seed))[0].tolist() for seed in range(400)]
    assert all({1, 3} < set(order) for order in orders)
    thirds = Counter((set(order) - {1, 3}).pop() for order in orders)
    assert all(50 < thirds[image] < 150 for image in (0, 2, 4, 5))  # 100, and a standard deviation of 9


@pytest.mark.parametrize(
    ("share", "hardest", "draws", "message"),
    [
        (0.0, 0.0, 1, "share must be greater than 0 and at most 1, not 0.0"),
        (1.5, 0.0, 1, "share must be greater than 0 and at most 1, not 1.5"),
        (0.5, -0.1, 1, "hardest must be from 0 to 1, not -0.1"),
        (0.5, 1.1, 1, "hardest must be from 0 to 1, not 1.1"),
        (1.0, 0.5, 1, "hardest is of an epoch that leaves images out: set share below 1"),
        (0.5, 0.5, 0, "draws must be at least 1, not 0"),
        (0.5, 0.0, 2, "draws above 1 are of the hardest images: set hardest above 0"),
    ],
)
def test_values_out_of_range_are_refused(share: float, hardest: float, draws: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mining(share, hardest, draws)
