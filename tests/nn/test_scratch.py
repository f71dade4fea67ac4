"""Arrays that are handed out again."""

import numpy as np

from digits.nn.scratch import LINE, VIEWS, Scratch, Views


def test_zeros_keep_what_was_written_and_are_zeros_elsewhere() -> None:
    scratch = Scratch()
    scratch.zeros("x", (4, 3), np.float32)[1:, 0] = 7
    np.testing.assert_array_equal(scratch.zeros("x", (2, 3), np.float32), [[0, 0, 0], [7, 0, 0]])


def test_zeros_of_other_axes_another_type_or_more_of_them_are_zeros_anew() -> None:
    scratch = Scratch()
    scratch.zeros("x", (4, 3), np.float32)[...] = 7
    assert not scratch.zeros("x", (3, 4), np.float32).any()
    assert not scratch.zeros("x", (4, 3), np.float64).any()
    assert not scratch.zeros("x", (5, 3), np.float32).any()


def test_what_is_asked_for_by_the_same_name_is_the_same_memory() -> None:
    scratch = Scratch()
    x = scratch("x", (4, 3), np.float32)
    assert np.shares_memory(x, scratch("x", (2, 6), np.float32))
    assert not np.shares_memory(x, scratch("y", (4, 3), np.float32))
    assert not np.shares_memory(x, scratch.zeros("x", (4, 3), np.float32))


def test_arrays_begin_with_a_line_of_the_cache_and_do_not_move_within_what_is_reserved() -> None:
    scratch = Scratch(reserved=1 << 12)
    x = scratch("x", (4, 3), np.float32)
    assert np.shares_memory(x, scratch("x", (1 << 10,), np.float32))
    for key, size in (("y", 5), ("z", 1 << 14)):
        assert scratch(key, (size,), np.float32).ctypes.data % LINE == 0
        assert scratch.zeros(key, (size, 2), np.float64).ctypes.data % LINE == 0


def test_what_is_asked_for_alike_is_the_same_object_until_a_larger_one_is_asked_for() -> None:
    scratch = Scratch()
    x = scratch("x", (4, 3), np.float32)
    assert scratch("x", (4, 3), np.float32) is x
    assert scratch("x", (3, 4), np.float32) is not x
    larger = scratch("x", (5, 3), np.float32)
    assert not np.shares_memory(x, larger)
    assert np.shares_memory(scratch("x", (4, 3), np.float32), larger)


def test_axes_lie_in_memory_in_the_order_that_is_asked_for() -> None:
    scratch = Scratch()
    x = scratch("x", (2, 3, 4), np.float32, (1, 2, 0))
    assert x.shape == (2, 3, 4)
    assert x.transpose(1, 2, 0).flags.c_contiguous
    assert scratch.like("y", x).strides == x.strides


def test_a_view_is_the_same_object_as_long_as_it_is_of_the_same_array() -> None:
    views, x = Views(), np.arange(6.0).reshape(2, 3)
    first = views(np.transpose, x)
    assert first.base is x.base
    assert views(np.transpose, x) is first
    assert views(np.ravel, x) is not first
    for number in range(2 * VIEWS):  # arrays that come and go, perhaps where others were
        np.testing.assert_array_equal(views(np.transpose, np.full((2, 3), number)), np.full((3, 2), number))
    np.testing.assert_array_equal(views(np.transpose, x), x.T)
