"""Augmented images: parts are erased and images mixed as is said of them, and labels become shares of the classes."""

import tracemalloc
from typing import Any

import numpy as np
import pytest

from digits.augment import Augmentation, augment, cutmix, erase, mixup, rectangles
from digits.data import Data
from digits.deform import deform

SHAPES = {"rotate": 10.0, "shear": 5.0, "scale": 0.1, "shift": 0.1, "perspective": 0.1, "elastic": 1.0}
ALL = Augmentation(**SHAPES, erase=0.5, mixup=0.5, cutmix=1.0)


def shades(count: int, side: int = 28) -> Any:
    """Images (side, side, count) of one grey each: image n is n + 1 everywhere."""
    return np.ones((side, side, 1), np.uint8) * np.arange(1, count + 1, dtype=np.uint8)


class Drawing:
    """A generator that draws given amounts in turn, whatever it is asked for."""

    def __init__(self, *amounts: Any) -> None:
        self.amounts = list(amounts)

    def next(self, *_: Any) -> Any:
        return np.array(self.amounts.pop(0))

    random = uniform = beta = permutation = next


def test_nothing_to_do_gives_back_what_came(sample_data: Data) -> None:
    images, labels = sample_data.images[:5], sample_data.labels[:5]
    seen, targets = augment(images, labels, Drawing(), Augmentation())  # type: ignore[arg-type]
    assert seen is images
    assert targets is labels


def test_shapes_alone_are_a_deformation_and_labels_stay(sample_data: Data) -> None:
    images, labels = sample_data.images[:20], sample_data.labels[:20]
    by = Augmentation(**SHAPES)
    seen, targets = augment(images, labels, np.random.default_rng(0), by)
    np.testing.assert_array_equal(seen, deform(images, np.random.default_rng(0), by))
    assert targets is labels


@pytest.mark.parametrize(
    "by", [ALL, Augmentation(erase=1.0), Augmentation(mixup=1.0), Augmentation(cutmix=1.0)], ids=["all", *"emc"]
)
def test_the_same_generator_makes_the_same_of_images_that_stay_as_they_are(by: Augmentation, sample_data: Data) -> None:
    images, labels = sample_data.images[:20], sample_data.labels[:20]
    first, second, other = (augment(images, labels, np.random.default_rng(seed), by) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    assert (first[0] != other[0]).any()
    np.testing.assert_array_equal(images, sample_data.images[:20])
    assert first[0].shape == (20, 28, 28)
    assert first[0].dtype == np.uint8
    assert first[0].transpose(1, 2, 0).flags.c_contiguous  # innermost in memory


@pytest.mark.parametrize("by", [Augmentation(erase=1.0), Augmentation(mixup=1.0)], ids=["erase", "mixup"])
def test_images_that_lie_innermost_already_stay_as_they_are_too(by: Augmentation) -> None:
    images = shades(9).transpose(2, 0, 1)
    augment(images, np.arange(9), np.random.default_rng(0), by)
    np.testing.assert_array_equal(images, shades(9).transpose(2, 0, 1))


def test_rectangles_by_hand() -> None:
    inside = rectangles(np.array([[0, 1], [1, 2]]), np.array([[2, 1], [3, 3]]), 3, 4)
    np.testing.assert_array_equal(inside[..., 0], [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]])
    assert not inside[..., 1].any()  # from row 1 up to row 1 there is none


def test_erasing_by_hand() -> None:
    images = shades(3, 10)
    rng: Any = Drawing(
        [0.3, 0.7, 0.3],  # the first and the third are below 0.5
        [0.2, 0.2, 0.36],  # areas
        [-1.0, 0.0, 0.0],  # 0.3 ** -1 is a height of 3.33 times the width, 1 a square
        [[0.99, 0, 0.5], [0.3, 0, 0.5]],
    )
    erase(images, rng, Augmentation(erase=0.5))
    # √(0.2 / 0.3) 10 = 8.16 by √(0.2 · 0.3) 10 = 2.45; 0.99 (10 - 8 + 1) = 2.97 and 0.3 (10 - 2 + 1) = 2.7
    wanted = shades(3, 10)
    wanted[2:10, 2:4, 0] = 0
    wanted[2:8, 2:8, 2] = 0  # 0.5 (10 - 6 + 1) = 2.5
    np.testing.assert_array_equal(images, wanted)


@pytest.mark.parametrize(("least", "most"), [(0.02, 0.2), (0.3, 0.3), (0.5, 1.0), (1e-6, 1e-5)])
def test_erased_rectangles_are_whole_and_have_the_areas_that_they_should(least: float, most: float) -> None:
    count, probability = 4000, 0.6
    images = np.ones((28, 28, count), np.uint8)
    by = Augmentation(erase=probability, erase_least=least, erase_most=most)
    erase(images, np.random.default_rng(0), by)
    gone = images == 0
    rows, columns = gone.any(axis=1), gone.any(axis=0)
    area = gone.sum(axis=(0, 1))
    heights, widths = rows.sum(axis=0), columns.sum(axis=0)
    np.testing.assert_array_equal(area, heights * widths)  # a rectangle, and in one piece
    for lines in (rows, columns):
        assert (np.diff(lines.astype(int), axis=0) == 1).sum(axis=0).max() <= 1
    chosen = area > 0
    assert chosen.mean() == pytest.approx(probability, abs=5 * np.sqrt(0.24 / count))
    # Height and width are rounded by up to half a pixel, and a pixel at least.
    sides = 28 * np.sqrt(most / 0.3), 28 * np.sqrt(least * 0.3)
    assert heights.max() <= max(1, min(28, sides[0] + 0.5))
    assert heights[chosen].min() >= max(1, sides[1] - 0.5)
    mean = max((least + most) / 2, 1 / 784)
    assert area[chosen].mean() / 784 == pytest.approx(mean, rel=0.03)
    # Tall or wide alike, and anywhere alike.
    assert abs((heights > widths).mean() - (widths > heights).mean()) < 0.05
    often = gone.mean(axis=2)
    np.testing.assert_allclose(often, often[::-1], atol=0.08)
    np.testing.assert_allclose(often, often[:, ::-1], atol=0.08)


def test_mixup_by_hand() -> None:
    images = np.array([[[200, 0, 101]], [[0, 255, 7]]], np.uint8)
    stays = mixup(images, np.array([1, 2, 2]), Drawing([0.75, 0.2, 0.5]), 1.0)  # type: ignore[arg-type]
    np.testing.assert_array_equal(stays, [0.75, 0.2, 0.5])
    # 0.75 · 200;  0.8 · 101 = 80.8;  itself  |  0.25 · 255 = 63.75;  0.2 · 255 + 0.8 · 7 = 56.6;  itself
    np.testing.assert_array_equal(images, [[[150, 81, 101]], [[64, 57, 7]]])


def test_cutmix_by_hand() -> None:
    images = shades(3, 10)
    rng: Any = Drawing([0.64, 0.75, 1.0], [[0.5, 0.1, 0.5], [0.5, 0.9, 0.5]])
    stays = cutmix(images, np.array([1, 2, 0]), rng, 1.0)
    wanted = shades(3, 10)
    wanted[2:8, 2:8, 0] = 2  # √0.36 10 = 6
    wanted[0:4, 6:10, 1] = 3  # √0.25 10 = 5 around (1, 9): from -1.5 to 3.5, and from 6.5 to 11.5
    np.testing.assert_array_equal(images, wanted)
    # 6 · 6 of the first's pixels are the second's, 4 · 4 of the second's the third's, and none of the third's
    np.testing.assert_allclose(stays, [0.64, 0.84, 1.0], rtol=1e-12)


@pytest.mark.parametrize("mixing", ["mixup", "cutmix"])
def test_targets_are_the_shares_of_the_pixels(mixing: str) -> None:
    count = 60
    images = np.ascontiguousarray(shades(count).transpose(2, 0, 1))
    labels = np.random.default_rng(1).integers(0, 10, count)
    seen, targets = augment(images, labels, np.random.default_rng(0), Augmentation(**{mixing: 1.0}))
    assert targets.shape == (count, 10)
    assert targets.dtype == np.float32
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-6)
    partners = np.random.default_rng(0).permutation(count)
    assert (np.count_nonzero(targets, axis=1) <= 2).all()
    for n in range(count):
        if labels[n] == labels[partners[n]]:
            assert targets[n, labels[n]] == 1
        elif mixing == "cutmix":
            assert targets[n, labels[n]] == pytest.approx((seen[n] == n + 1).mean(), abs=1e-6)
            assert targets[n, labels[partners[n]]] == pytest.approx((seen[n] == partners[n] + 1).mean(), abs=1e-6)
        else:
            mean = targets[n, labels[n]] * (n + 1) + targets[n, labels[partners[n]]] * (partners[n] + 1)
            assert (np.abs(seen[n] - mean) <= 0.501).all()


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_how_much_stays_has_the_beta_distribution(alpha: float) -> None:
    count = 20_000
    partners, rng = np.arange(count), np.random.default_rng(0)
    stays = mixup(np.zeros((2, 2, count), np.uint8), partners, rng, alpha)
    # Its variance is 1 / (4 (2 alpha + 1)).
    deviation = 0.5 / np.sqrt(2 * alpha + 1)
    assert stays.mean() == pytest.approx(0.5, abs=5 * deviation / np.sqrt(count))
    assert stays.std() == pytest.approx(deviation, rel=0.03)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_the_rectangles_that_are_pasted_have_areas_of_the_beta_distribution(alpha: float) -> None:
    count = 20_000
    images = np.zeros((28, 28, count), np.uint8)
    images[..., count // 2 :] = 1
    stays = cutmix(images, np.arange(count)[::-1], np.random.default_rng(0), alpha)
    pasted = images != (np.arange(count) >= count // 2)
    np.testing.assert_allclose(stays, 1 - pasted.mean(axis=(0, 1)), atol=1e-12)
    # Those that touch no border are not cut off. A larger one is so more seldom: with a probability of 1 - its height
    # for each axis. Each weighted by what makes up for that, up to half of the area, they have the distribution.
    inner = ~(pasted[[0, -1]].any(axis=(0, 1)) | pasted[:, [0, -1]].any(axis=(0, 1)))
    area = 1 - stays[inner]
    smaller, larger = (area > 0.05) & (area < 0.25), (area > 0.25) & (area < 0.5)
    often = [np.sum((1 - np.sqrt(area[part])) ** -2.0) for part in (smaller, larger)]
    drawn = np.random.default_rng(1).beta(alpha, alpha, 200_000)
    wanted = [((drawn > 0.05) & (drawn < 0.25)).mean(), ((drawn > 0.25) & (drawn < 0.5)).mean()]
    assert often[0] / often[1] == pytest.approx(wanted[0] / wanted[1], rel=0.25)


def test_a_rectangle_is_pasted_anywhere_alike() -> None:
    count = 4000
    images = np.repeat(np.arange(2, dtype=np.uint8), count // 2) * np.ones((28, 28, 1), np.uint8)
    pasted = images.copy()
    cutmix(pasted, np.arange(count)[::-1], np.random.default_rng(0), 1.0)
    often = (pasted != images).mean(axis=2)
    np.testing.assert_allclose(often, often[::-1], atol=0.06)
    np.testing.assert_allclose(often, often[:, ::-1], atol=0.06)
    np.testing.assert_allclose(often, often.T, atol=0.06)


def test_where_both_are_set_each_shard_draws_one_of_them_evenly() -> None:
    images = np.zeros((8, 28, 28), np.uint8)
    images[4:] = 200
    labels, cut = np.repeat([0, 1], 4), 0
    for seed in range(400):
        seen, _ = augment(images, labels, np.random.default_rng(seed), Augmentation(mixup=5.0, cutmix=5.0))
        greys = set(np.unique(seen)) - {0, 200}
        assert not greys or all(len(np.unique(image)) == 1 for image in seen)  # all of the shard by the same one
        cut += not greys
    assert 160 < cut < 240  # 4 standard deviations


def test_parts_are_erased_after_deforming_and_before_mixing() -> None:
    images = np.full((2, 28, 28), 200, np.uint8)
    by = Augmentation(erase=1.0, erase_least=1.0, erase_most=1.0, mixup=1.0)
    seen, _ = augment(images, np.array([3, 4]), np.random.default_rng(0), by)
    assert not seen.any()


def test_an_image_alone_is_mixed_with_itself() -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 28, 28), dtype=np.uint8)
    for by in (Augmentation(mixup=1.0), Augmentation(cutmix=1.0)):
        seen, targets = augment(image, np.array([7]), np.random.default_rng(0), by)
        np.testing.assert_array_equal(seen, image)
        np.testing.assert_array_equal(targets, np.eye(10)[[7]])


@pytest.mark.parametrize("by", [Augmentation(**SHAPES, erase=0.5, mixup=1.0), Augmentation(erase=1.0, cutmix=1.0)])
def test_the_second_time_it_allocates_hardly_more_than_it_returns(by: Augmentation, sample_data: Data) -> None:
    images, labels, rng = sample_data.images[:64], sample_data.labels[:64], np.random.default_rng(0)
    augment(images, labels, rng, by)
    tracemalloc.start()
    try:
        made: Any = augment(images, labels, rng, by)
        left, peak = tracemalloc.get_traced_memory()
        for _ in range(5):
            made = augment(images, labels, rng, by)
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    size = sum(array.nbytes for array in made)
    assert left < 1.2 * size
    assert peak < 3 * size  # where to erase and to paste is a byte a pixel; one array of floats would be four
    assert grown < left + 5000


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"erase": -0.1}, "erase must be from 0 to 1, not -0.1"),
        ({"erase": 1.1}, "erase must be from 0 to 1, not 1.1"),
        ({"erase": float("nan")}, "erase must be from 0 to 1"),
        ({"erase_least": 0.0}, "erase_least must be greater than 0, at most erase_most, and that at most 1, not 0.0"),
        ({"erase_least": 0.3}, "and that at most 1, not 0.3 and 0.2"),
        ({"erase_most": 1.5}, "and that at most 1, not 0.02 and 1.5"),
        ({"mixup": -1.0}, "mixup must be at least 0, not -1"),
        ({"mixup": float("inf")}, "mixup must be at least 0, not inf"),
        ({"cutmix": float("nan")}, "cutmix must be at least 0, not nan"),
        ({"rotate": -1.0}, "rotate must be at least 0 and less than 360, not -1"),
    ],
)
def test_an_augmentation_that_makes_no_sense_is_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Augmentation(**values)


def test_an_augmentation_knows_whether_it_does_anything() -> None:
    assert Augmentation().none
    assert Augmentation(smooth=9.0, erase_least=0.1, erase_most=0.9).none
    for name in ("rotate", "perspective", "elastic", "erase", "mixup", "cutmix"):
        some = Augmentation(**{name: 0.1})
        assert not some.none
        assert some.mixes == (name in ("mixup", "cutmix"))
