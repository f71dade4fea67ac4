"""Softmax cross-entropy: by hand, against finite differences, and at the ends of the number line."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from digits.nn import SoftmaxCrossEntropy, softmax

LOG = math.log
# Their exponentials are 1 : 2 : 5 and 4 : 3 : 1, so their softmax is (1, 2, 5) / 8 and (4, 3, 1) / 8.
LOGITS = np.array([[0, LOG(2), LOG(5)], [LOG(4), LOG(3), 0]])
LABELS = np.array([2, 1])

smoothings = pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.3])
logits = arrays(np.float64, (4, 3), elements=st.floats(-50, 50))


def test_softmax_by_hand() -> None:
    np.testing.assert_allclose(softmax(LOGITS), [[1 / 8, 2 / 8, 5 / 8], [4 / 8, 3 / 8, 1 / 8]], rtol=1e-15)


def test_cross_entropy_by_hand() -> None:
    loss, correct = (function := SoftmaxCrossEntropy()).forward(LOGITS, LABELS)
    # -log 5/8 - log 3/8, and the second image's largest logit is at 0, not at 1
    assert loss == pytest.approx(LOG(8 / 5) + LOG(8 / 3), rel=1e-14)
    assert correct == 1
    # (softmax - one-hot) / 2
    wanted = [[1 / 16, 2 / 16, -3 / 16], [4 / 16, -5 / 16, 1 / 16]]
    np.testing.assert_allclose(function.backward(2), wanted, rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.uint64])
def test_labels_of_any_integers_give_the_same(dtype: type) -> None:
    rng = np.random.default_rng(0)
    z, labels = rng.normal(size=(300, 10)), rng.integers(0, 10, 300)  # 300 images are more than a byte counts
    of_bytes, usual = SoftmaxCrossEntropy(), SoftmaxCrossEntropy()
    assert of_bytes.forward(z, labels.astype(dtype)) == usual.forward(z, labels)
    np.testing.assert_array_equal(of_bytes.backward(300), usual.backward(300))


def test_smoothed_cross_entropy_by_hand() -> None:
    loss, correct = (function := SoftmaxCrossEntropy(0.3)).forward(LOGITS, LABELS)
    # The targets are 0.3 / 3 everywhere and 0.7 more at the label: (0.1, 0.1, 0.8) and (0.1, 0.8, 0.1).
    first = 0.1 * LOG(8) + 0.1 * LOG(4) + 0.8 * LOG(8 / 5)
    second = 0.1 * LOG(2) + 0.8 * LOG(8 / 3) + 0.1 * LOG(8)
    assert loss == pytest.approx(first + second, rel=1e-14)
    np.testing.assert_allclose(function.losses, [first, second], rtol=1e-14)
    assert correct == 1
    # 1/8 - 0.1 = 0.025, 2/8 - 0.1 = 0.15, 5/8 - 0.8 = -0.175; 4/8 - 0.1 = 0.4, 3/8 - 0.8 = -0.425, 1/8 - 0.1 = 0.025
    wanted = np.array([[0.025, 0.15, -0.175], [0.4, -0.425, 0.025]]) / 2
    np.testing.assert_allclose(function.backward(2), wanted, rtol=1e-13)


# The first image is 3 parts the last class and 1 part the first; the second is mostly the middle one.
TARGETS = np.array([[0.25, 0, 0.75], [0.3, 0.5, 0.2]])


def test_cross_entropy_with_targets_by_hand() -> None:
    loss, correct = (function := SoftmaxCrossEntropy()).forward(LOGITS, TARGETS)
    first = 0.25 * LOG(8) + 0.75 * LOG(8 / 5)
    second = 0.3 * LOG(2) + 0.5 * LOG(8 / 3) + 0.2 * LOG(8)
    assert loss == pytest.approx(first + second, rel=1e-14)
    np.testing.assert_allclose(function.losses, [first, second], rtol=1e-14)
    assert correct == 1  # the first: the second's largest logit is at 0, its largest target at 1
    # softmax - target: 1/8 - 1/4, 2/8 - 0, 5/8 - 3/4; 0.5 - 0.3, 0.375 - 0.5, 0.125 - 0.2
    wanted = np.array([[-0.125, 0.25, -0.125], [0.2, -0.125, -0.075]]) / 2
    np.testing.assert_allclose(function.backward(2), wanted, rtol=1e-13)


def test_smoothed_cross_entropy_with_targets_by_hand() -> None:
    loss, correct = (function := SoftmaxCrossEntropy(0.3)).forward(LOGITS, TARGETS)
    # 0.7 of the targets and 0.1 everywhere: (0.275, 0.1, 0.625) and (0.31, 0.45, 0.24)
    first = 0.275 * LOG(8) + 0.1 * LOG(4) + 0.625 * LOG(8 / 5)
    second = 0.31 * LOG(2) + 0.45 * LOG(8 / 3) + 0.24 * LOG(8)
    assert loss == pytest.approx(first + second, rel=1e-14)
    assert correct == 1
    wanted = np.array([[-0.15, 0.15, 0], [0.19, -0.075, -0.115]]) / 2
    np.testing.assert_allclose(function.backward(2), wanted, rtol=1e-13, atol=1e-16)


@smoothings
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_targets_that_are_one_hot_are_labels(smoothing: float, dtype: type) -> None:
    rng = np.random.default_rng(0)
    z, labels = (rng.normal(size=(9, 10)) * 3).astype(dtype), rng.integers(0, 10, 9)
    targets = np.eye(10, dtype=np.float32)[labels]
    hard, soft = SoftmaxCrossEntropy(smoothing), SoftmaxCrossEntropy(smoothing)
    loss, correct = hard.forward(z, labels)
    assert soft.forward(z, targets) == (pytest.approx(loss, rel=1e-6), correct)
    dz = soft.backward(9)
    assert dz.dtype == dtype
    np.testing.assert_allclose(dz, hard.backward(9), atol=1e-8)
    np.testing.assert_array_equal(targets, np.eye(10)[labels])  # they stay as they are


@smoothings
def test_the_gradient_with_targets_is_the_finite_difference(smoothing: float) -> None:
    rng, h = np.random.default_rng(0), 1e-5
    z, targets = rng.normal(size=(7, 10)) * 3, rng.dirichlet(np.ones(10), 7)
    function = SoftmaxCrossEntropy(smoothing)
    function.forward(z, targets)
    dz = function.backward(4).copy()
    for _ in range(3):
        u = rng.normal(size=z.shape)
        up, down = (SoftmaxCrossEntropy(smoothing).forward(z + sign * h * u, targets)[0] for sign in (1, -1))
        assert (up - down) / (2 * h) / 4 == pytest.approx(float((dz * u).sum()), rel=1e-7)


def test_the_loss_is_least_where_the_probabilities_are_the_targets() -> None:
    targets = np.random.default_rng(0).dirichlet(np.ones(5), 3)
    function = SoftmaxCrossEntropy()
    loss, correct = function.forward(np.log(targets), targets)
    assert loss == pytest.approx(-(targets * np.log(targets)).sum(), rel=1e-13)
    assert correct == 3
    np.testing.assert_allclose(function.backward(1), 0, atol=1e-15)


@smoothings
def test_the_gradient_is_the_finite_difference(smoothing: float) -> None:
    rng, h = np.random.default_rng(0), 1e-5
    z, labels = rng.normal(size=(7, 10)) * 3, rng.integers(0, 10, 7)
    function = SoftmaxCrossEntropy(smoothing)
    function.forward(z, labels)
    dz = function.backward(4).copy()  # the 7 images of a batch said to be of 4: the sum is divided by 4
    for _ in range(3):
        u = rng.normal(size=z.shape)
        up, down = (SoftmaxCrossEntropy(smoothing).forward(z + sign * h * u, labels)[0] for sign in (1, -1))
        assert (up - down) / (2 * h) / 4 == pytest.approx(float((dz * u).sum()), rel=1e-7)


@smoothings
@settings(deadline=None)
@given(z=logits)
def test_a_shift_of_the_logits_changes_nothing(smoothing: float, z: np.ndarray) -> None:
    labels = np.array([0, 1, 2, 0])
    plain, shifted = SoftmaxCrossEntropy(smoothing), SoftmaxCrossEntropy(smoothing)
    assert plain.forward(z, labels)[0] == pytest.approx(shifted.forward(z + 100, labels)[0], rel=1e-9, abs=1e-9)
    np.testing.assert_allclose(plain.backward(4), shifted.backward(4), atol=1e-12)


@settings(deadline=None)
@given(z=logits)
def test_probabilities_are_positive_and_add_up_to_1(z: np.ndarray) -> None:
    p = softmax(z)
    assert (p >= 0).all()
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)


@smoothings
def test_no_logit_is_too_large(smoothing: float) -> None:
    z = np.array([[3e4, -3e4, 0], [-3e4, 3e4, 0]], np.float32)
    function = SoftmaxCrossEntropy(smoothing)
    loss, correct = function.forward(z, np.array([0, 0]))
    # Smoothing asks for s/3 of each class: (6e4 + 3e4) s/3 for the first image; the second has 6e4 (1 - s) besides
    assert loss == pytest.approx(6e4 * (1 - smoothing) + 2 * 9e4 * smoothing / 3, rel=1e-6)
    assert correct == 1
    assert np.isfinite(function.backward(2)).all()
    np.testing.assert_array_equal(softmax(z), [[1, 0, 0], [0, 1, 0]])


@smoothings
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_gradient_has_the_precision_and_the_memory_order_of_the_logits(smoothing: float, dtype: type) -> None:
    z = np.asfortranarray(np.random.default_rng(0).normal(size=(6, 10)).astype(dtype))
    function = SoftmaxCrossEntropy(smoothing)
    function.forward(z, np.arange(6))
    dz = function.backward(6)
    assert dz.dtype == dtype
    assert dz.shape == z.shape
    assert dz.T.flags.c_contiguous


@smoothings
def test_the_logits_stay_as_they_are(smoothing: float) -> None:
    for order in ("C", "F"):
        z = np.array(LOGITS, order=order)
        function = SoftmaxCrossEntropy(smoothing)
        function.forward(z, LABELS)
        function.backward(2)
        np.testing.assert_array_equal(z, LOGITS)


def test_shards_of_a_batch_add_up_to_it() -> None:
    rng = np.random.default_rng(0)
    z, labels = rng.normal(size=(11, 10)), rng.integers(0, 10, 11)
    whole, parts = SoftmaxCrossEntropy(0.1), [SoftmaxCrossEntropy(0.1), SoftmaxCrossEntropy(0.1)]
    loss, correct = whole.forward(z, labels)
    (a, b), (c, d) = parts[0].forward(z[:4], labels[:4]), parts[1].forward(z[4:], labels[4:])
    assert a + c == pytest.approx(loss, rel=1e-13)
    assert b + d == correct
    np.testing.assert_allclose(np.concatenate([part.backward(11) for part in parts]), whole.backward(11), rtol=1e-12)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, float("nan")])
def test_a_smoothing_that_is_none_is_refused(smoothing: float) -> None:
    with pytest.raises(ValueError, match="label_smoothing must be at least 0 and less than 1"):
        SoftmaxCrossEntropy(smoothing)
