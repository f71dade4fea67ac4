"""Calls that are written down once."""

from collections.abc import Callable

import numpy as np
import pytest

from digits.nn import plans as plans_module
from digits.nn.plans import KEPT, KNOWN, Calls, Plans
from digits.nn.scratch import Array


def doubling() -> tuple[Plans, list[int], Callable[..., Calls]]:
    """Plans, the lengths that were written for so far, and what writes y = 2 x."""
    lengths: list[int] = []

    def double(x: Array, y: Array) -> Calls:
        lengths.append(len(x))
        yield np.add, x, x, y

    return Plans(), lengths, double


def test_a_plan_is_written_once_and_made_with_the_numbers_at_hand() -> None:
    plans, lengths, double = doubling()
    x, y = np.arange(3.0), np.empty(3)
    for start in (0.0, 5.0):
        x[...] = np.arange(start, start + 3)
        plans(double, x, y)
        np.testing.assert_array_equal(y, 2 * x)
    assert lengths == [3]


def test_another_view_of_the_same_memory_is_written_for_anew() -> None:
    plans, lengths, double = doubling()
    x, y = np.arange(8.0), np.empty(8)
    for part in (x[:4], x[4:], x[::2], x[:4], x[:4].view(np.int64)):
        y[...] = -1
        plans(double, part, y[: len(part)])
        np.testing.assert_array_equal(y[:4], 2 * part)
    assert lengths == [4] * 4


def test_the_oldest_plans_are_given_up() -> None:
    plans, lengths, double = doubling()
    x, y = np.arange(20.0), np.empty(20)
    for size in (*range(1, KEPT + 2), KEPT + 1, 1):
        plans(double, x[:size], y[:size])
        np.testing.assert_array_equal(y[:size], 2 * x[:size])
    assert lengths == [*range(1, KEPT + 2), 1]


def test_a_function_or_nothing_in_place_of_an_array_is_part_of_what_is_kept() -> None:
    plans, y = Plans(), np.zeros(2)

    def fill(y: Array, value: object) -> Calls:
        yield y.fill, 1 if value is None else 2

    for value, wanted in ((None, 1), (fill, 2), (None, 1)):
        plans(fill, y, value)
        np.testing.assert_array_equal(y, wanted)


def test_memory_is_not_given_up_while_a_plan_is_for_it() -> None:
    plans, lengths, double = doubling()
    y = np.empty(1000)
    for number in range(KEPT):
        plans(double, np.full(1000, number, float), y)
        np.testing.assert_array_equal(y, 2 * number)
    assert lengths == [1000] * KEPT  # a new array may lie nowhere but beside those


def test_arrays_that_come_and_go_are_never_taken_for_others() -> None:
    plans, _, double = doubling()
    memory, y = np.arange(4.0 * KNOWN), np.empty(3)
    for start in (*range(2 * KNOWN), *range(2 * KNOWN)):  # each view is another object, perhaps with the id of one gone
        plans(double, memory[start : start + 3], y)
        np.testing.assert_array_equal(y, 2 * np.arange(start, start + 3))


def test_where_known_arrays_lie_is_not_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    plans, lengths, double = doubling()
    x, y = np.arange(3.0), np.empty(3)
    plans(double, x, y)
    monkeypatch.delattr(plans_module, "place")
    plans(double, x, y)
    assert lengths == [3]
    with pytest.raises(NameError):
        plans(double, x[:], y)
