"""Deformed images: what is moved is where it should be, and the random amounts are what they say."""

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digits.data import Data
from digits.deform import Deformation, deform, elastic_noise, homography, look_up, places

MIDDLE = 13.5  # of 28 pixels


class Largest:
    """A generator that draws the upper limit of everything."""

    def uniform(self, low: float, high: float, size: tuple[int, ...]) -> Any:
        return np.full(size, high)


def dot(row: int, column: int, side: int = 28) -> Any:
    """An image of one lit square of two by two pixels around that place, from the middle."""
    image = np.zeros((1, side, side), np.uint8)
    top, left = row + side // 2 - 1, column + side // 2 - 1
    image[0, top : top + 2, left : left + 2] = 200
    return image


def whereabouts(image: Any) -> tuple[float, float]:
    """The centre of mass of an image, from the middle."""
    axis = np.arange(len(image)) - (len(image) - 1) / 2
    ink = image.astype(float) / image.sum()
    return float(ink.sum(axis=1) @ axis), float(ink.sum(axis=0) @ axis)


@pytest.mark.parametrize(
    ("by", "wanted"),
    [
        (Deformation(), (4, -5)),
        # The places where a pixel looks move down and right by a quarter of 28: what it shows moves up and left.
        (Deformation(shift=0.25), (-3, -12)),
        # The pixel at (y, x) looks at (-x, y), so what is at (r, c) is seen at (c, -r).
        (Deformation(rotate=90), (-5, -4)),
        (Deformation(rotate=180), (-4, 5)),
        (Deformation(scale=0.5), (6, -7.5)),
        # The pixel at (y, x) looks at (y, x + y).
        (Deformation(shear=45), (4, -9)),
    ],
    ids=str,
)
def test_what_is_in_an_image_is_moved(by: Deformation, wanted: tuple[float, float]) -> None:
    for points in (1, 2):
        moved = deform(dot(4, -5), Largest(), by, points=points)[0]  # type: ignore[arg-type]
        assert whereabouts(moved) == pytest.approx(wanted, abs=0.1)


def test_shape_and_size_are_kept_or_changed_as_the_deformation_says() -> None:
    image = np.zeros((1, 28, 28), np.uint8)
    image[0, 10:18, 12:16] = 250  # 8 by 4
    rng: Any = Largest()
    ink = float(image.sum())
    assert deform(image, rng, Deformation(rotate=30), side=28).sum() == pytest.approx(ink, rel=0.02)
    assert deform(image, rng, Deformation(shear=20), side=28).sum() == pytest.approx(ink, rel=0.02)
    assert deform(image, rng, Deformation(scale=0.5), side=28).sum() == pytest.approx(1.5**2 * ink, rel=0.02)
    assert deform(image, rng, Deformation(), side=28, zoom=2).sum() == pytest.approx(ink / 4, rel=0.02)
    rotated = deform(image, rng, Deformation(rotate=90), side=28)[0] > 125
    assert (rotated.any(axis=1).sum(), rotated.any(axis=0).sum()) == (4, 8)


def test_no_deformation_leaves_images_as_they_are(sample_data: Data) -> None:
    images = sample_data.images[:50]
    np.testing.assert_array_equal(deform(images, np.random.default_rng(0), Deformation()), images)


def test_points_in_a_pixel_are_averaged(sample_data: Data) -> None:
    images = sample_data.images[:50]
    # Along each axis a pixel is the mean of two points, a quarter of a pixel to both sides of its middle.
    blurred = images.astype(float)
    for axis in (1, 2):
        wide = np.pad(blurred, [(1, 1) if axis == this else (0, 0) for this in range(3)])
        before, at, after = (np.take(wide, range(start, start + 28), axis) for start in (0, 1, 2))
        blurred = before / 8 + at * 3 / 4 + after / 8
    np.testing.assert_allclose(deform(images, np.random.default_rng(0), Deformation(), points=2), blurred, atol=0.51)


def test_a_pixel_of_two_by_two_pixels_is_their_mean() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 20, 20), dtype=np.uint8)
    means = images.reshape(5, 10, 2, 10, 2).mean(axis=(2, 4))
    for points in (1, 2):
        halved = deform(images, np.random.default_rng(0), Deformation(), side=10, zoom=2, points=points)
        np.testing.assert_allclose(halved, means, atol=0.51)


def test_beyond_the_border_all_is_dark() -> None:
    lit = np.full((1, 28, 28), 255, np.uint8)
    shifted = deform(lit, Largest(), Deformation(shift=0.25), side=28)[0]  # type: ignore[arg-type]
    assert (shifted[:20, :20] == 255).sum() > 19 * 19
    assert not shifted[22:].any()
    assert not shifted[:, 22:].any()
    gone = deform(lit, Largest(), Deformation(shift=0.99), side=28)[0]  # type: ignore[arg-type]
    assert not gone[1:].any()
    assert not gone[:, 1:].any()


def test_looking_between_pixels_by_hand() -> None:
    image = np.array([[[0], [10]], [[20], [30]]], np.uint8)
    rows = np.array([0, 0.5, 1, 0.25, -0.5, 1.5, -1, 9, 0, -9], np.float32)
    columns = np.array([0, 0.5, 1, 0, 1, 1, 1, 9, 1.75, 0.5], np.float32)
    # (0 + 10 + 20 + 30) / 4;  a quarter of the way from 0 to 20;  halfway from 0 outside to 10, from 30 to 0 outside
    wanted = [0, 15, 30, 5, 5, 15, 0, 0, 2.5, 0]
    seen = look_up(image, np.stack([rows, columns]).reshape(2, 10, 1, 1))
    np.testing.assert_allclose(seen.ravel(), wanted, atol=1e-5)


def plain_look_up(image: Any, row: float, column: float) -> float:
    """The bilinear sum over the four pixels around a place, one by one."""
    total = 0.0
    for r in (int(np.floor(row)), int(np.floor(row)) + 1):
        for c in (int(np.floor(column)), int(np.floor(column)) + 1):
            if 0 <= r < image.shape[0] and 0 <= c < image.shape[1]:
                total += float(image[r, c]) * (1 - abs(row - r)) * (1 - abs(column - c))
    return total


@settings(deadline=None)
@given(
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    at=st.lists(st.tuples(st.floats(-8, 8, width=32), st.floats(-8, 8, width=32)), min_size=1, max_size=5),
)
def test_looking_anywhere_is_a_weighted_mean_of_four_pixels(
    height: int, width: int, at: list[tuple[float, float]]
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, height, width), dtype=np.uint8)
    wanted = [[[plain_look_up(image, *place) for image in images] for place in at]]
    where = np.repeat(np.array(at, np.float32).T.reshape(2, 1, len(at), 1), 3, axis=3)
    np.testing.assert_allclose(look_up(images.transpose(1, 2, 0), where), wanted, atol=2e-3)


@settings(deadline=None)
@given(down=st.integers(-30, 30), right=st.integers(-30, 30))
def test_a_shift_by_whole_pixels_is_exact_and_lets_in_zeros(down: int, right: int) -> None:
    images = np.random.default_rng(0).integers(1, 256, (28, 28, 2), dtype=np.uint8)
    y, x = np.indices((28, 28), np.float32)
    where = np.repeat(np.stack([y + down, x + right])[..., np.newaxis], 2, axis=3)
    wide = np.pad(images, ((30, 30), (30, 30), (0, 0)))
    wanted = wide[30 + down : 58 + down, 30 + right : 58 + right]
    np.testing.assert_array_equal(look_up(images, where), wanted)


EVERYTHING = Deformation(rotate=15, shear=15, scale=0.15, shift=0.1, perspective=0.1, elastic=1.0, smooth=4.0)


def test_the_same_generator_draws_the_same_images(sample_data: Data) -> None:
    images = sample_data.images[:20]
    first, second, other = (deform(images, np.random.default_rng(seed), EVERYTHING, side=28) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any(axis=(1, 2)).all()


def test_each_image_draws_its_own_amounts() -> None:
    images = np.repeat(dot(0, 0), 50, axis=0)
    deformed = deform(images, np.random.default_rng(0), EVERYTHING, side=28)
    assert len({image.tobytes() for image in deformed}) == 50


@pytest.mark.parametrize(("side", "shape"), [(28, (28, 28)), (28, (80, 80)), (14, (28, 20)), (7, (5, 9))])
def test_the_result_is_a_square_of_bytes(side: int, shape: tuple[int, int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)
    given_images = images.copy()
    deformed = deform(images, np.random.default_rng(0), EVERYTHING, side=side, zoom=2.0, points=3)
    assert deformed.shape == (3, side, side)
    assert deformed.dtype == np.uint8
    np.testing.assert_array_equal(images, given_images)


AXIS = (np.arange(28) - MIDDLE).astype(np.float32)[:, np.newaxis]
PIXELS = np.stack(np.broadcast_arrays(AXIS, AXIS.T))[..., np.newaxis]  # as `places` has those of a square left as it is


def test_amounts_are_drawn_evenly_between_the_limits() -> None:
    rows, columns = places(4000, np.random.default_rng(0), Deformation(shift=0.1), side=28)
    down, right = rows - AXIS[:, np.newaxis], columns - AXIS
    for moved in (down, right):
        assert np.ptp(moved, axis=(0, 1)).max() < 1e-4  # an image moves as a whole
        assert np.abs(moved).max() <= 2.8 + 1e-4
        assert moved[0, 0].std() == pytest.approx(2.8 / np.sqrt(3), rel=0.05)
        assert abs(moved.mean()) < 5 * 2.8 / np.sqrt(3 * 4000)
    assert abs(np.corrcoef(down[0, 0], right[0, 0])[0, 1]) < 0.08


def test_height_and_width_are_scaled_each_by_its_own_amount() -> None:
    rows, columns = places(4000, np.random.default_rng(0), Deformation(scale=0.2), side=28)
    tall, wide = MIDDLE / rows[-1, -1], MIDDLE / columns[-1, -1]
    for scale in (tall, wide):
        assert 0.8 <= scale.min() < 0.81 < 1.19 < scale.max() <= 1.2
        assert scale.std() == pytest.approx(0.2 / np.sqrt(3), rel=0.05)
    assert abs(np.corrcoef(tall, wide)[0, 1]) < 0.08


def test_pixels_look_a_step_apart_around_the_middle() -> None:
    rows, columns = places(1, np.random.default_rng(0), Deformation(), side=3, step=2.5, middle=(10.0, 20.0))
    np.testing.assert_array_equal(rows[..., 0], [[7.5] * 3, [10] * 3, [12.5] * 3])
    np.testing.assert_array_equal(columns[..., 0], [[17.5, 20, 22.5]] * 3)


def projected(plane: Any, points: Any) -> Any:
    """Points (n, 2) seen through one homography (3, 3)."""
    y, x, depth = plane @ np.column_stack([points, np.ones(len(points))]).T
    return np.column_stack([y / depth, x / depth])


SQUARE = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]], float)


@settings(deadline=None)
@given(moves=st.lists(st.floats(-0.49, 0.49), min_size=8, max_size=8), reach=st.sampled_from([1.0, 14.0]))
def test_a_homography_takes_corners_to_where_they_should_be_and_lines_to_lines(
    moves: list[float], reach: float
) -> None:
    corners = reach * (SQUARE + np.reshape(moves, (4, 2)))
    plane = homography(corners.T.reshape(2, 2, 2, 1), reach)[..., 0]
    np.testing.assert_allclose(projected(plane, reach * SQUARE), corners, atol=1e-9 * reach)
    inside = reach * np.random.default_rng(0).uniform(-1, 1, (50, 2))
    assert (plane[2] @ np.column_stack([inside, np.ones(50)]).T > 0).all()  # nothing comes from behind the eye
    # The diagonals meet in the middle, and so do those of the corners.
    (a, b, c, d), middle = corners, projected(plane, np.zeros((1, 2)))[0]
    for start, end in ((a, d), (b, c)):
        (uy, ux), (vy, vx) = end - start, middle - start
        assert abs(uy * vx - ux * vy) < 1e-8 * reach**2


def test_a_homography_by_hand() -> None:
    # A square whose lower side is twice as far away: y' = y / w, x' = x / w with w = (3 + y) / 2, moved and stretched.
    plane = np.array([[0.5, 0, -0.25], [0, 1, 0], [0.25, 0, 1]])
    found = homography(projected(plane, SQUARE).T.reshape(2, 2, 2, 1), 1.0)
    np.testing.assert_allclose(found[..., 0], plane, atol=1e-12)


def test_each_corner_moves_by_up_to_the_fraction_of_the_side() -> None:
    limit, count = 0.2, 2000
    where = places(count, np.random.default_rng(0), Deformation(perspective=limit), side=28).astype(float)
    # An image's corner is half a pixel beyond that of its corner pixel. A homography is known from four pixels, so
    # each image's is fitted by least squares to all of them, and asked for the four corners.
    y, x = (axis.ravel() for axis in np.indices((28, 28)) - MIDDLE)
    none, one = np.zeros_like(y), np.ones_like(y)
    moved = []
    for image in range(50):
        rows, columns = where[..., image].reshape(2, -1)
        left = np.stack([y, x, one, none, none, none, -y * rows, -x * rows], axis=1)
        right = np.stack([none, none, none, y, x, one, -y * columns, -x * columns], axis=1)
        known = np.linalg.lstsq(np.concatenate([left, right]), np.concatenate([rows, columns]), rcond=None)[0]
        moved.append(projected(np.append(known, 1).reshape(3, 3), 14 * SQUARE) - 14 * SQUARE)
    moves = np.array(moved) / 28
    assert np.abs(moves).max() <= limit + 1e-3
    assert np.abs(moves).max() > 0.95 * limit
    assert moves.std() == pytest.approx(limit / np.sqrt(3), rel=0.1)
    assert np.abs(np.corrcoef(moves.reshape(50, 8).T) - np.eye(8)).max() < 0.6  # each by its own amount


def test_corners_that_all_move_alike_move_the_image() -> None:
    where = places(1, Largest(), Deformation(perspective=0.2), side=28)  # type: ignore[arg-type]
    np.testing.assert_allclose(where, PIXELS + 0.2 * 28, atol=1e-4)


def test_perspective_comes_before_the_affine_map() -> None:
    by = Deformation(perspective=0.2)
    turned = Deformation(perspective=0.2, rotate=90)
    rows, columns = places(2, Largest(), by, side=28).copy()  # type: ignore[arg-type]
    other_rows, other_columns = places(2, Largest(), turned, side=28)  # type: ignore[arg-type]
    np.testing.assert_allclose(other_rows, -columns, atol=1e-4)
    np.testing.assert_allclose(other_columns, rows, atol=1e-4)


@pytest.mark.parametrize("smooth", [1.7, 3.0, 6.0])
@pytest.mark.parametrize(("side", "finer"), [(28, 1), (56, 2)])
def test_an_elastic_deformation_is_as_large_and_as_smooth_as_it_says(side: int, finer: int, smooth: float) -> None:
    elastic, count = 1.5, 1000
    by = Deformation(elastic=elastic, smooth=smooth)
    rows, columns = places(count, np.random.default_rng(0), by, side=side)
    assert rows.dtype == columns.dtype == np.float32
    y = (np.arange(side) - (side - 1) / 2).astype(np.float32)[:, np.newaxis]
    # In pixels of 28, whatever the side. The errors of a thousand images' deviations are 2.2%.
    down, right = (rows - y[:, np.newaxis]) / finer, (columns - y) / finer
    for moved in (down, right):
        deviation = moved.std(axis=2)
        assert deviation.mean() == pytest.approx(elastic, rel=0.03)
        assert np.abs(deviation / elastic - 1).max() < 0.15  # at the border as in the middle
        assert np.abs(moved.mean(axis=2)).max() < 5 * elastic / np.sqrt(count)
        # White noise smoothed by a Gaussian of deviation s has the correlation exp(-d² / 4s²) at the distance d.
        middle = side // 2
        for distance in (1, 3, 6):
            near = moved[middle, middle], moved[middle, middle + distance * finer]
            down_by = moved[middle, middle], moved[middle + distance * finer, middle]
            for pair in (near, down_by):
                wanted = np.exp(-(distance**2) / (4 * smooth**2))
                assert np.corrcoef(*pair)[0, 1] == pytest.approx(wanted, abs=0.1)
    assert abs(np.corrcoef(down[5, 5], right[5, 5])[0, 1]) < 0.16


def test_a_displacement_is_as_large_as_the_pixels_that_it_is_measured_in() -> None:
    once, thrice = (
        places(3, np.random.default_rng(0), Deformation(elastic=1.0), 28, step) - step * PIXELS for step in (1.0, 3.0)
    )
    assert np.abs(once).max() > 1
    np.testing.assert_allclose(3 * once, thrice, atol=1e-4)


class OneNode:
    """A generator whose noise is 0 but at one node of the grid, by turns, so that fields are the nodes' weights."""

    def __init__(self, node: tuple[int, int]) -> None:
        self.node = node

    def random(self, dtype: type, out: Any) -> None:
        nodes = out.shape[1]
        out[...] = 0.5
        out[0].reshape(nodes, nodes, -1)[self.node] += 1 / math.sqrt(12)


@pytest.mark.parametrize("smooth", [1.0, 2.5, 4.0, 9.0])
def test_noise_at_nodes_is_that_of_every_pixel_smoothed(smooth: float) -> None:
    """The covariance of all pairs of pixels, without sampling error: the sum over the nodes of their weights."""
    nodes = math.ceil(27 / smooth) + 5
    covariance = np.zeros((28 * 28, 28 * 28))
    for row in range(nodes):
        for column in range(nodes):
            rng: Any = OneNode((row, column))
            field = elastic_noise(1, rng, 28, smooth, 1.0)[0].astype(float).ravel()
            covariance += field[:, np.newaxis] * field
    y, x = (axis.ravel() for axis in np.indices((28, 28)))
    squared = (y[:, np.newaxis] - y) ** 2 + (x[:, np.newaxis] - x) ** 2
    np.testing.assert_allclose(covariance, np.exp(-squared / (4 * smooth**2)), atol=5e-4)
    np.testing.assert_allclose(np.diag(covariance), 1, rtol=1e-5)


def test_noise_smoothed_over_less_than_a_pixel_is_white() -> None:
    field = elastic_noise(2000, np.random.default_rng(0), 28, 0.1, 1.0)[0, 10]
    assert np.abs(np.corrcoef(field[:8]) - np.eye(8)).max() < 0.12


def test_the_second_time_it_allocates_only_what_it_returns(sample_data: Data) -> None:
    images, rng = sample_data.images[:64], np.random.default_rng(0)
    deform(images, rng, EVERYTHING)
    tracemalloc.start()
    try:
        deformed = deform(images, rng, EVERYTHING)
        left, peak = tracemalloc.get_traced_memory()
        for _ in range(5):
            deform(images, rng, EVERYTHING)
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # What it returns is a byte a pixel, and one array of floats is four. The rest is a hundred numbers an image.
    assert left < 1.2 * deformed.nbytes
    assert peak < 3 * deformed.nbytes
    assert grown < left + 5000


def test_images_are_innermost_in_memory_and_stay_when_more_are_deformed(sample_data: Data) -> None:
    first = deform(sample_data.images[:8], np.random.default_rng(0), EVERYTHING)
    assert first.transpose(1, 2, 0).flags.c_contiguous
    kept = first.copy()
    deform(sample_data.images[8:16], np.random.default_rng(1), EVERYTHING)
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rotate": -1.0}, "rotate must be at least 0 and less than 360, not -1"),
        ({"shear": 90.0}, "shear must be at least 0 and less than 90"),
        ({"scale": 1.0}, "scale must be at least 0 and less than 1"),
        ({"shift": 1.5}, "shift must be at least 0 and less than 1"),
        ({"elastic": float("nan")}, "elastic must be at least 0"),
        ({"elastic": 28.0}, "elastic must be at least 0 and less than 28"),
        ({"perspective": -0.1}, "perspective must be at least 0 and less than 0.25, not -0.1"),
        ({"perspective": 0.25}, "perspective must be at least 0 and less than 0.25, not 0.25"),
        ({"smooth": 0.0}, "smooth must be from 0.1 to 100 pixels, not 0.0"),
        ({"smooth": 101.0}, "smooth must be from 0.1 to 100 pixels"),
        ({"smooth": float("nan")}, "smooth must be from 0.1 to 100 pixels"),
    ],
)
def test_a_deformation_that_makes_no_sense_is_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Deformation(**values)


def test_a_deformation_knows_whether_it_does_anything() -> None:
    assert not Deformation().deforms
    assert not Deformation(smooth=9.0).deforms
    for name in ("rotate", "shear", "scale", "shift", "perspective", "elastic"):
        assert Deformation(**{name: 0.1}).deforms


@pytest.mark.parametrize(
    "by",
    [
        Deformation(rotate=359.9, shear=89.9999999, scale=0.9999999, shift=0.999, perspective=0.2499999),
        Deformation(elastic=27.9, smooth=0.1, perspective=0.2499999),
        Deformation(elastic=27.9, smooth=100.0),
    ],
    ids=str,
)
def test_the_largest_amounts_there_are_raise_nothing(by: Deformation) -> None:
    deform(np.full((500, 28, 28), 255, np.uint8), np.random.default_rng(0), by)
