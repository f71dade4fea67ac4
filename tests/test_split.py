"""The held-out images: a fair share of each label, the same ones for ever."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from digits.errors import DigitsError
from digits.split import Split

Labels = NDArray[np.intp]

# How many of each digit the competition's train.csv has.
COUNTS = (4132, 4684, 4177, 4351, 4072, 3795, 4137, 4401, 4063, 4188)

label_lists = st.lists(st.integers(0, 9), min_size=20, max_size=300).map(np.array)


def competition_like() -> Labels:
    """42,000 labels, as many of each as the competition has, in an order that is always the same."""
    labels = np.repeat(np.arange(10), COUNTS)
    return labels[np.arange(42_000) * 11_003 % 42_000]  # 11,003 is prime to 42,000


def check_partition(labels: Labels, train: Labels, dev: Labels) -> None:
    np.testing.assert_array_equal(np.sort(np.concatenate([train, dev])), np.arange(len(labels)))
    np.testing.assert_array_equal(train, np.sort(train))
    np.testing.assert_array_equal(dev, np.sort(dev))


@settings(deadline=None)
@given(labels=label_lists, fraction=st.floats(0.05, 0.5), seed=st.integers(0, 2**64))
def test_a_fraction_is_held_out_and_the_rest_is_trained_on(labels: Labels, fraction: float, seed: int) -> None:
    train, dev = Split(fraction, seed=seed).indices(labels)
    check_partition(labels, train, dev)
    assert len(dev) == np.floor(len(labels) * fraction + 1e-9)


@settings(deadline=None)
@given(labels=label_lists, fraction=st.floats(0.05, 0.5), seed=st.integers(0, 99))
def test_each_label_has_its_share_to_within_one_image(labels: Labels, fraction: float, seed: int) -> None:
    _, dev = Split(fraction, seed=seed).indices(labels)
    held_out = np.bincount(labels[dev], minlength=10)
    assert (np.abs(held_out - fraction * np.bincount(labels, minlength=10)) < 1 + 1e-6).all()


@settings(deadline=None)
@given(labels=label_lists, folds=st.integers(2, 20), seed=st.integers(0, 99))
def test_folds_hold_out_each_image_once_and_their_share_of_each_label(labels: Labels, folds: int, seed: int) -> None:
    parts = [Split(0.0, folds=folds, fold=fold, seed=seed).indices(labels) for fold in range(folds)]
    for train, dev in parts:
        check_partition(labels, train, dev)
    np.testing.assert_array_equal(np.sort(np.concatenate([dev for _, dev in parts])), np.arange(len(labels)))
    sizes = [len(dev) for _, dev in parts]
    assert max(sizes) - min(sizes) <= 1
    shares = np.array([np.bincount(labels[dev], minlength=10) for _, dev in parts])
    assert (shares.max(axis=0) - shares.min(axis=0) <= 1).all()


@pytest.mark.parametrize(
    ("split", "size"),
    [
        (Split(), 4_200),
        (Split(0.2), 8_400),
        (Split(0.3), 12_600),
        (Split(0.5), 21_000),
        (Split(0.0, folds=5, fold=4), 8_400),
    ],
    ids=str,
)
def test_the_competitions_images_are_split_to_the_number(split: Split, size: int) -> None:
    labels = competition_like()
    train, dev = split.indices(labels)
    assert (len(train), len(dev)) == (42_000 - size, size)
    assert np.abs(np.bincount(labels[dev]) - np.array(COUNTS) * size / 42_000).max() < 1


@pytest.mark.parametrize(
    ("split", "digest"),
    [
        (Split(), "cae9fc11e855ea77"),
        (Split(seed=1), "d714ccc704259740"),
        (Split(0.0, folds=5, fold=0), "062268b6915286b1"),
    ],
    ids=str,
)
def test_a_split_is_the_same_for_ever(split: Split, digest: str) -> None:
    _, dev = split.indices(competition_like())
    assert hashlib.sha256(dev.astype("<u4").tobytes()).hexdigest()[:16] == digest


def test_a_split_depends_on_its_seed_alone() -> None:
    labels = competition_like()
    first = Split(seed=0).indices(labels)[1]
    np.random.random()  # noqa: NPY002
    np.testing.assert_array_equal(Split(seed=0).indices(labels)[1], first)
    other = Split(seed=1).indices(labels)[1]
    assert len(np.intersect1d(first, other)) == pytest.approx(420, abs=100)  # as chance has it: a tenth of 4,200


def test_held_out_images_are_drawn_from_everywhere() -> None:
    _, dev = Split().indices(competition_like())
    per_tenth, _ = np.histogram(dev, bins=10, range=(0, 42_000))
    assert np.abs(per_tenth - 420).max() < 5 * np.sqrt(420)


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.int64])
def test_the_type_of_the_labels_does_not_matter(kind: type) -> None:
    labels = competition_like()
    np.testing.assert_array_equal(Split().indices(labels.astype(kind))[1], Split().indices(labels)[1])


def test_folds_without_a_fold_are_held_out_each_in_its_turn() -> None:
    labels = competition_like()
    split = Split(0.0, folds=5, seed=3)
    train, dev = split.indices(labels)
    assert split.in_turn
    assert not split.full
    np.testing.assert_array_equal(train, np.arange(len(labels)))
    np.testing.assert_array_equal(dev, np.arange(len(labels)))
    turns = [split.turn(number) for number in range(10)]
    assert turns[:5] == [Split(0.0, folds=5, fold=fold, seed=3) for fold in range(5)] == turns[5:]
    assert Split(**split.spec()) == split
    assert str(split) == "each of 5 folds in its turn (split seed 3)"


@settings(deadline=None)
@given(labels=label_lists, fraction=st.floats(0.05, 0.5), folds=st.integers(2, 5), seed=st.integers(0, 99))
def test_folds_of_what_a_fraction_leaves_never_hold_its_images(
    labels: Labels, fraction: float, folds: int, seed: int
) -> None:
    rest, dev = Split(fraction, seed=seed).indices(labels)
    aside = Split(fraction, folds, seed=seed)
    for part in aside.indices(labels):
        np.testing.assert_array_equal(part, rest)
    parts = [aside.turn(fold).indices(labels) for fold in range(folds)]
    for train, held_out in parts:
        np.testing.assert_array_equal(np.sort(np.concatenate([train, held_out])), rest)
        assert not np.isin(dev, train).any()
    np.testing.assert_array_equal(np.sort(np.concatenate([held_out for _, held_out in parts])), rest)
    shares = np.array([np.bincount(labels[held_out], minlength=10) for _, held_out in parts])
    assert (shares.max(axis=0) - shares.min(axis=0) <= 1).all()


@pytest.mark.parametrize("split", [Split(), Split(0), Split(0.0, folds=5, fold=2)])
def test_a_split_that_is_not_in_turn_is_every_members(split: Split) -> None:
    assert not split.in_turn
    assert split.turn(1) == split


def test_the_labels_stay_as_they_are() -> None:
    labels = competition_like()
    Split().indices(labels)
    np.testing.assert_array_equal(labels, competition_like())


def test_nothing_is_held_out_when_nothing_is_to_be() -> None:
    split = Split(0)
    assert split.full
    train, dev = split.indices(np.arange(10))
    np.testing.assert_array_equal(train, np.arange(10))
    assert not len(dev)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fraction": -0.1}, "from 0 to 0.5 of the images, not -0.1"),
        ({"fraction": 0.6}, "from 0 to 0.5 of the images, not 0.6"),
        ({"fraction": float("nan")}, "from 0 to 0.5 of the images"),
        ({"fold": 0}, "a fold is one of several folds: give both"),
        ({"folds": 1, "fold": 0}, "2 folds or more, not 1"),
        ({"folds": 5, "fold": 5}, "fold is from 0 to 4, not 5"),
        ({"folds": 5, "fold": -1}, "fold is from 0 to 4, not -1"),
        ({"seed": -1}, "a seed is 0 or more"),
    ],
)
def test_a_split_that_makes_no_sense_is_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(DigitsError, match=message):
        Split(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("split", "images"), [(Split(), 9), (Split(0.5), 1), (Split(0), 0), (Split(0.0, folds=5, fold=3), 3), (Split(), 0)]
)
def test_too_few_images_to_hold_out_one_and_keep_one_are_refused(split: Split, images: int) -> None:
    with pytest.raises(DigitsError, match=f"{images} images are too few"):
        split.indices(np.zeros(images, np.intp))


@pytest.mark.parametrize(
    "split", [Split(), Split(0.25, seed=3), Split(0.0, folds=5, fold=1, seed=2), Split(0)], ids=str
)
def test_a_split_is_its_spec(split: Split) -> None:
    assert Split(**split.spec()) == split


def test_a_split_says_what_it_is() -> None:
    assert str(Split()) == "a dev split of 10% (split seed 0)"
    assert str(Split(0.125, seed=3)) == "a dev split of 12.5% (split seed 3)"
    assert str(Split(0.0, folds=5, fold=1, seed=2)) == "fold 1 of 5 (split seed 2)"
    assert str(Split(0.2, folds=5, fold=1)) == "fold 1 of 5 of what a dev split of 20% leaves (split seed 0)"
    assert str(Split(0.2, folds=5)) == "each of 5 folds of what a dev split of 20% leaves in its turn (split seed 0)"
    assert str(Split(0)) == "no dev split"
