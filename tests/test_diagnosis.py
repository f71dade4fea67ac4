"""What held-out probabilities tell: golden values worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from digits.diagnosis import BINS, calibration, confusion, doubted, margins, mistakes


def probabilities(*rows: dict[int, float]) -> np.ndarray:
    """Probabilities (N, 10) from those that are not 0."""
    p = np.zeros((len(rows), 10), np.float32)
    for at, row in enumerate(rows):
        for digit, value in row.items():
            p[at, digit] = value
    return p


def test_labels_are_rows_and_predictions_columns() -> None:
    counts = confusion(np.array([3, 3, 3, 5]), np.array([3, 8, 8, 5]))
    assert counts.shape == (10, 10)
    assert (counts[3, 3], counts[3, 8], counts[8, 3], counts[5, 5], counts.sum()) == (1, 2, 0, 1, 4)


def test_the_surest_mistake_is_first() -> None:
    p = probabilities({1: 0.6, 2: 0.4}, {1: 0.9, 2: 0.1}, {2: 1.0}, {3: 0.8, 2: 0.2})
    assert mistakes(p, np.array([2, 2, 2, 2])).tolist() == [1, 3, 0]


def test_calibration_by_hand() -> None:
    # Two bins: 0.95 and 0.97 are in (14/15, 1], both right; 0.52 and 0.50 in (7/15, 8/15], one of them right.
    p = probabilities({0: 0.95, 1: 0.05}, {1: 0.97, 2: 0.03}, {2: 0.52, 3: 0.48}, {3: 0.5, 4: 0.4, 5: 0.1})
    found = calibration(p, np.array([0, 1, 2, 4]))
    assert [(one.images, one.accuracy) for one in found.bins] == [(2, 0.5), (2, 1.0)]
    assert [one.confidence for one in found.bins] == pytest.approx([0.51, 0.96])
    assert found.error == pytest.approx((2 * abs(0.5 - 0.51) + 2 * abs(1 - 0.96)) / 4)
    assert found.confidence == pytest.approx((0.95 + 0.97 + 0.52 + 0.5) / 4)


def test_a_bin_has_its_upper_end() -> None:
    third = np.float64(5) / BINS  # the upper end of the fifth bin
    p = np.zeros((2, 10))
    p[0, :3] = third
    p[1, :2] = 0.5
    assert len(calibration(p, np.array([0, 0])).bins) == 2
    p[1, :3], p[1, 3] = 0.32, 0.04
    assert len(calibration(p, np.array([0, 0])).bins) == 1


def test_one_who_is_always_sure_and_right_is_calibrated() -> None:
    found = calibration(np.eye(10, dtype=np.float32), np.arange(10))
    assert (found.error, found.confidence, len(found.bins)) == (0, 1, 1)


def test_the_margin_is_below_0_where_another_digit_is_predicted() -> None:
    p = probabilities({1: 0.7, 2: 0.3}, {1: 0.7, 2: 0.2, 5: 0.1})
    assert margins(p, np.array([1, 2])).tolist() == pytest.approx([0.4, -0.5])


def test_confident_learning_by_hand() -> None:
    # The thresholds: of 1 the mean of 0.9, 0.8 and 0.1, which is 0.6; of 2 the mean of 0.9, 0.7 and 0.2, 0.6 too.
    p = probabilities(
        {1: 0.9, 2: 0.1},
        {1: 0.8, 2: 0.2},
        {1: 0.1, 2: 0.9},  # labelled 1, and 0.9 reaches the threshold of 2: in doubt
        {2: 0.9, 1: 0.1},
        {2: 0.7, 1: 0.3},
        {2: 0.2, 1: 0.55, 3: 0.25},  # labelled 2 and predicted 1, but 0.55 doesn't reach the threshold of 1
    )
    labels = np.array([1, 1, 1, 2, 2, 2])
    assert doubted(p, labels).tolist() == [2]
    assert mistakes(p, labels).tolist() == [2, 5]


def test_the_clearest_doubt_is_first_and_a_digit_that_no_label_has_raises_none() -> None:
    p = probabilities({1: 0.9}, {1: 0.9}, {2: 0.9}, {2: 0.9}, {2: 0.75, 1: 0.25}, {2: 0.95}, {7: 1.0})
    labels = np.array([1, 1, 2, 2, 1, 1, 1])
    assert doubted(p, labels).tolist() == [5]  # the threshold of 2 is 0.9, which 0.75 doesn't reach; none is labelled 7
    p[4, 2], p[4, 1] = 0.92, 0.08
    assert doubted(p, labels).tolist() == [5, 4]


@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_what_holds_of_any_probabilities(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    p, labels = rng.dirichlet(np.full(10, 0.3), count), rng.integers(0, 10, count)
    found = calibration(p, labels)
    assert sum(one.images for one in found.bins) == count
    assert 0 <= found.error <= 1
    assert set(mistakes(p, labels)) == set(np.flatnonzero(margins(p, labels) < 0))
    thresholds = {k: p[labels == k, k].mean() for k in set(labels.tolist())}
    for at in doubted(p, labels):
        reaching = {k: p[at, k] for k, threshold in thresholds.items() if p[at, k] >= threshold}
        assert max(reaching, key=lambda k: reaching[k]) != labels[at]
