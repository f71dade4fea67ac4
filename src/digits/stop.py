"""How a training is asked to end: by Ctrl-C, by the stop button of a notebook, or by SIGTERM."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """Whether Ctrl-C or SIGTERM has asked for an end; a second one is not caught any more."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self) -> bool:
        return self.signal is not None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within, a first signal is only noted, so that a step is never cut in half."""

        def note(number: int, _: FrameType | None) -> None:
            self.signal = number
            signal.signal(number, before[signal.Signals(number)])

        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in before:
            signal.signal(number, note)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
