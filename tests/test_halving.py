"""Who is clearly losing, by figures that were worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digits.recipe import Train
from digits.sweep.halving import Loser, Standing, losing, rung


def test_a_standing_has_its_mean_its_deviation_and_an_error_of_both_images_and_seeds() -> None:
    standing = Standing((0.98, 0.99), 100)
    assert standing.mean == pytest.approx(0.985)
    assert standing.deviation == pytest.approx(0.01 / 2**0.5)
    # 0.985 * 0.015 / 100 = 0.00014775 from the images and 0.00005 / 2 from the seeds
    assert standing.standard_error == pytest.approx(0.00017275**0.5)
    assert str(standing) == "98.50% ± 1.31"


def test_a_single_seed_has_no_deviation_and_the_error_of_its_images() -> None:
    standing = Standing((0.9,), 100)
    assert standing.deviation is None
    assert standing.standard_error == pytest.approx(0.03)


def standings(*accuracies: float, images: int = 1000) -> dict[int, Standing]:
    return {number: Standing((accuracy,), images) for number, accuracy in enumerate(accuracies)}


def test_the_better_half_goes_on_however_far_it_is_behind() -> None:
    assert losing(standings(0.99, 0.2)) == [Loser(1, pytest.approx(0.79), pytest.approx(0.01304, abs=1e-5))]
    assert [loser.number for loser in losing(standings(0.1, 0.99, 0.2))] == [0]
    assert [loser.number for loser in losing(standings(0.1, 0.99, 0.2, 0.3))] == [2, 0]
    assert losing(standings(0.5)) == losing({}) == []


def test_who_is_behind_by_no_more_than_two_standard_errors_goes_on() -> None:
    # √(0.9 * 0.1 / 1000 + 0.87 * 0.13 / 1000) = 0.014253; twice that is 0.0285
    assert losing(standings(0.9, 0.872)) == []
    assert [loser.number for loser in losing(standings(0.9, 0.871))] == [1]


def test_seeds_that_differ_much_make_it_less_clear() -> None:
    best = Standing((0.9, 0.9), 1000)
    assert losing({0: best, 1: Standing((0.86, 0.86), 1000)}) != []
    assert losing({0: best, 1: Standing((0.82, 0.90), 1000)}) == []


@given(st.lists(st.lists(st.floats(0, 1), min_size=2, max_size=2), min_size=1, max_size=9))
def test_the_best_is_never_stopped_nor_more_than_half(accuracies: list[list[float]]) -> None:
    field = {number: Standing(tuple(each), 100) for number, each in enumerate(accuracies)}
    stopped = {loser.number for loser in losing(field)}
    assert len(stopped) <= len(field) // 2
    assert max(field, key=lambda number: field[number].mean) not in stopped
    better = sorted(standing.mean for standing in field.values())[len(field) // 2 :]
    assert all(field[number].mean <= min(better) for number in stopped)


@pytest.mark.parametrize(
    ("epochs", "every", "fraction", "epoch"),
    [
        (12, 1, 0.25, 3),
        (12, 1, 0.5, 6),
        (10, 1, 0.25, 3),
        (10, 1, 0.3, 3),  # 0.3 * 10 is a little more than 3 in floating point, 0.1 * 3 too
        (1, 1, 0.25, 1),
        (500, 10, 0.25, 130),
        (500, 10, 0.5, 250),
        (25, 10, 0.9, 25),
        (12, 1, 1.0, 12),
    ],
)
def test_a_rung_is_at_the_end_of_an_epoch_that_is_logged(epochs: int, every: int, fraction: float, epoch: int) -> None:
    assert rung(Train(epochs=epochs, report_every=every), fraction) == epoch
