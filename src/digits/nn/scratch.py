"""Arrays that are handed out again and again, so that a step allocates nothing."""

import math
import mmap
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Shape = tuple[int, ...]

LINE = 64  # bytes of a line of the cache: a vector that is in two of them takes twice as long to read
RESERVED = 1 << 23  # bytes of addresses for each array of a thread, of which the system gives memory to what is used
VIEWS = 8  # that are kept of a layer's arrays at most


class Scratch:
    """Arrays with unset values by name; asking for one again overwrites it, and gives the same object.

    Each has at least so many bytes `reserved`, so that it need not move when a larger one is asked for.
    """

    def __init__(self, reserved: int = 0) -> None:
        self._reserved = reserved
        self._kept: dict[tuple[str, np.dtype[Any]], Array] = {}
        self._views: dict[tuple[Any, ...], Array] = {}

    def __call__(self, key: str, shape: Shape, dtype: Any, order: Shape | None = None) -> Array:
        """An array of this shape, whose axes lie in memory in C order or from the outermost in another `order`."""
        asked = key, shape, dtype, order
        view = self._views.get(asked)
        if view is None:
            view = self._views[asked] = self._view(*asked)
        return view

    def _view(self, key: str, shape: Shape, dtype: Any, order: Shape | None) -> Array:
        size, dtype = math.prod(shape), np.dtype(dtype)
        kept = self._kept.get((key, dtype))
        if kept is None or kept.size < size:
            kept = self._kept[key, dtype] = lined_up(max(size, self._reserved // dtype.itemsize), dtype)
            self._views = {asked: view for asked, view in self._views.items() if asked[0] != key}
        if order is None:
            return kept[:size].reshape(shape)
        in_memory = kept[:size].reshape([shape[axis] for axis in order])
        return in_memory.transpose([order.index(axis) for axis in range(len(shape))])

    def zeros(self, key: str, shape: Shape, dtype: Any) -> Array:
        """Zeros, but for what was written where this key had these axes, whatever the length of the first."""
        key, size, dtype = f"{key} {shape[1:]}", math.prod(shape), np.dtype(dtype)
        kept = self._kept.get((key, dtype))
        if kept is None or kept.size < size:
            kept = self._kept[key, dtype] = lined_up(size, dtype)
            kept[...] = 0
        return kept[:size].reshape(shape)

    def like(self, key: str, x: Array, dtype: Any = None) -> Array:
        """An array of x's shape whose axes lie in memory in the order of x's."""
        order = sorted(range(x.ndim), key=lambda axis: -abs(x.strides[axis]))
        return self(key, x.shape, x.dtype if dtype is None else dtype, tuple(order))


class Views:
    """Views of arrays, the same object as long as it is of the same array: so it is soon known again, as by a plan."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Any, ...], tuple[Array, Array]] = {}

    def __call__(self, view: Callable[[Array], Array], of: Array) -> Array:
        """view(of), which must be a view and no copy."""
        key = view, id(of)
        kept = self._kept.get(key)
        if kept is None:
            if len(self._kept) == VIEWS:
                self._kept.clear()
            kept = self._kept[key] = of, view(of)  # the array as well, so that no other one gets its id
        return kept[1]


_of_thread = threading.local()


def thread_scratch(key: str, shape: Shape, dtype: Any, order: Shape | None = None) -> Array:
    """An array of this thread's own, shared by whatever runs in it: one that stays in its core's cache."""
    return _scratch()(key, shape, dtype, order)


def thread_zeros(key: str, shape: Shape, dtype: Any) -> Array:
    """The same of zeros, as `Scratch.zeros` has them."""
    return _scratch().zeros(key, shape, dtype)


def _scratch() -> Scratch:
    kept: Scratch | None = getattr(_of_thread, "kept", None)
    if kept is None:
        kept = _of_thread.kept = Scratch(RESERVED)
    return kept


def lined_up(size: int, dtype: np.dtype[Any]) -> Array:
    """So many numbers with unset values, the first of which begins a line of the cache."""
    memory = np.empty(size * dtype.itemsize + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + size * dtype.itemsize].view(dtype)


def shared_zeros(shape: Shape, dtype: Any) -> Array:
    """Zeros in memory that this process shares with those that are forked from it later on."""
    size, dtype = math.prod(shape), np.dtype(dtype)
    try:
        memory = mmap.mmap(-1, max(size * dtype.itemsize, 1))
    except (OSError, OverflowError) as error:
        raise MemoryError(f"no memory for {size:,} numbers") from error
    return np.frombuffer(memory, dtype, size).reshape(shape)
