"""Calls of NumPy that are written down once and made again and again.

A convolution of a few images is a hundred short calls, and saying of what each is to be, by slices, shapes and strides,
takes Python as long as NumPy takes to do it. But a step's arrays lie where the last step's lay, so that it need be said
but once: the first time makes a plan, as Frigo & Johnson 2005 call it in FFTW (Proceedings of the IEEE 93), and the
next ones go by it.
"""

from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Any

import numpy as np

from digits.nn.scratch import Array

Call = tuple[Any, ...]  # a function and its arguments, among them the array that it writes to
Calls = Iterator[Call]
CallsFor = Generator[Call, None, Array]  # at the end of which the array that is returned has its values

Plan = list[Callable[[], Any]]

KEPT = 4  # plans of the same work at most: one for full batches, one for the last of an epoch, and some to spare
KNOWN = 16  # arrays for which a plan is known without looking where they lie, which takes longer


class Plans:
    """Work that is written as a generator of calls, done by making them; its plans are kept for the arrays at hand.

    What is written may depend on where the arrays lie, on their shapes, strides and dtypes, but not on the numbers in
    them. Whatever other memory a call uses, the plan keeps: so it must be the same thread's every time, and what one
    work leaves there for another must be among the arrays of both, or a layer's own and of one shape for good.
    """

    def __init__(self) -> None:
        self._kept: dict[Callable[..., Calls], dict[tuple[Any, ...], Plan]] = {}
        self._known: dict[tuple[Any, ...], tuple[Plan, tuple[Any, ...]]] = {}

    def __call__(self, write: Callable[..., Calls], *arrays: Array | Callable[..., Calls] | int | None) -> None:
        """Do what `write(*arrays)` yields; with arrays goes what is the same thing at every step, as a function is.

        In one place there is always an array or never one, but for None.
        """
        key = (write, *[id(array) if isinstance(array, np.ndarray) else array for array in arrays])
        known = self._known.get(key)
        if known is None:
            if len(self._known) == KNOWN:
                self._known.clear()
            plan = self._plan(write, arrays)
            known = self._known[key] = plan, arrays  # as long as these arrays are there no others get their ids
        for call in known[0]:
            call()

    def _plan(self, write: Callable[..., Calls], arrays: tuple[Any, ...]) -> Plan:
        """The plan for arrays that lie where these do."""
        plans = self._kept.setdefault(write, {})
        key = tuple([place(array) if isinstance(array, np.ndarray) else array for array in arrays])
        plan = plans.get(key)
        if plan is None:
            if len(plans) == KEPT:
                del plans[next(iter(plans))]  # the oldest
            plan = plans[key] = [partial(function, *arguments) for function, *arguments in write(*arrays)]
        return plan


def place(array: Array) -> tuple[Any, ...]:
    """What tells an array from all others that are there at the same time."""
    return array.__array_interface__["data"][0], array.shape, array.strides, array.dtype
