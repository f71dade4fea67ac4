"""Passes over images, as calls of NumPy: what layers do pixel by pixel, or with all pixels of a channel.

Images are (H, W, C, N) in C order. Most go by rows of pixels (W, C, N), all that is done with one before the next: a
row stays in the cache. NumPy is quickest with arrays of one shape, even where one of them holds but a number a channel.
"""

from collections.abc import Generator, Sequence
from functools import partial

import numpy as np

from digits.nn.plans import Call, Calls
from digits.nn.scratch import Array, thread_scratch, thread_zeros


def rectified(x: Array, y: Array) -> Calls:
    """y = max(x, 0); y may be x."""
    for row, out in zip(x, y, strict=True):
        yield partial(np.maximum, out=out), row, thread_zeros("zeros", row.shape, row.dtype)  # quicker than a number


def rectified_back(y: Array, dy: Array) -> Calls:
    """The gradient of x in place of y's."""
    alive = thread_scratch("alive", y.shape[1:], bool)
    for row, drow in zip(y, dy, strict=True):
        yield np.greater, row, 0, alive
        yield np.multiply, drow, alive, drow


def added(x: Array, b: Array, *, again: bool = False) -> Calls:
    """x += b, with b (C,); `again` for further rows."""
    (bias,) = yield from as_rows(x, b, again=again)
    for row in x:
        yield np.add, row, bias, row


def largest(taps: Sequence[Array], out: Array, larger: Array) -> Calls:
    """The largest of arrays of one shape; `larger`, if it is of any, tells which of them exceed those before."""
    best = taps[0]
    for number, tap in enumerate(taps[1:]):
        if len(larger):
            yield np.greater, tap, best, larger[number]
        yield partial(np.maximum, out=out), tap, best
        best = out
    if best is not out:
        yield np.copyto, out, best


def to_largest(dout: Array, dtaps: Sequence[Array], larger: Array) -> Calls:
    """The gradients of those arrays: `dout` for the largest of them, which is the last that exceeds others, else 0."""
    left = dout
    for dtap, exceeds in zip(reversed(dtaps[1:]), reversed(larger), strict=True):
        yield np.multiply, left, exceeds, dtap
        yield np.subtract, left, dtap, dtaps[0]
        left = dtaps[0]
    if left is dout:
        yield np.copyto, dtaps[0], dout


def channel_sums(x: Array, other: Array, sums: Array) -> Calls:
    """Of each row of x the sum over W and N, and of its product with another such array: `sums` (H, 2, C)."""
    height, width, channels, images = x.shape
    product = thread_scratch("product", x.shape[1:], x.dtype)
    pixels = thread_scratch("pixels", (height, 2, channels * images), x.dtype)
    ones = np.ones(max(width, images), x.dtype)
    for at, row in enumerate(x):
        yield np.multiply, row, other[at], product
        for terms, total in zip((row, product), pixels[at], strict=True):
            yield np.matmul, ones[:width], terms.reshape(width, -1), total
    yield np.matmul, pixels.reshape(*sums.shape, images), ones[:images], sums


def scaled(x: Array, a: Array, c: Array, y: Array) -> Calls:
    """y = a x + c, with a and c (C,)."""
    slope, intercept = yield from as_rows(x, a, c)
    for row, out in zip(x, y, strict=True):
        yield np.multiply, row, slope, out
        yield np.add, out, intercept, out


def scaled_back(x: Array, dy: Array, a: Array | None, b: Array, c: Array, *, again: bool = False) -> Calls:
    """a dy + b x + c in place of dy, with a, b and c (C,); a is 1 if there is none.

    Of the same a, b and c for further rows it is done `again`, so that they need not be laid out anew.
    """
    part = thread_scratch("part", dy.shape[1:], dy.dtype)
    x_slope, intercept, *slope = yield from as_rows(dy, b, c, *([a] if a is not None else []), again=again)
    for row, drow in zip(x, dy, strict=True):
        if slope:
            yield np.multiply, drow, *slope, drow
        yield np.multiply, row, x_slope, part
        yield np.add, drow, part, drow
        yield np.add, drow, intercept, drow


def as_rows(like: Array, *channels: Array, again: bool = False) -> Generator[Call, None, list[Array]]:
    """Each of some (C,) at all pixels of a row, (W, C, N) as in `like`; asked for `again`, they are as they were."""
    rows = [thread_scratch(f"row {at}", like.shape[1:], like.dtype) for at in range(len(channels))]
    if not again:
        for row, of in zip(rows, channels, strict=True):
            yield np.copyto, row, of[:, np.newaxis]
    return rows
