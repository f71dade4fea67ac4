"""Averages of the weights over a training: of the last ones, better than any of them.

An average starts as zeros and moves towards the weights after each step, by a `rate` from 0 to 1 that is told from the
number of the step alone; so the vector is all its state. Its first rate is 1, which leaves nothing of the zeros.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from digits.nn.optim import within
from digits.nn.scratch import Array, thread_scratch


@dataclass(frozen=True)
class NoAverage:
    """No average: the weights are those of the last step."""

    name: ClassVar[str] = "none"

    def first(self, steps: int, epoch: int) -> int:
        """The step after which the average is there, counted from 1, in a training of `steps`, `epoch` to an epoch."""
        return steps + 1

    def rate(self, step: int, steps: int, epoch: int) -> float:
        """How far the average moves towards the weights after step `step`, counted from 1."""
        return 0.0


@dataclass(frozen=True)
class EMA:
    """a = (1 - d) Σ dᵗ⁻ⁱ wᵢ / (1 - dᵗ)      wᵢ: the weights after step i of t,  d: `decay`

    An exponential moving average (Polyak & Juditsky 1992, SIAM J. Control Optim. 30) freed of its bias towards the
    zeros that it starts from as Adam's are (arXiv 1412.6980, section 3), so that it needs no warm-up.
    """

    name: ClassVar[str] = "ema"
    decay: float = 0.999

    def __post_init__(self) -> None:
        within(self, decay=(0, 1))

    def first(self, steps: int, epoch: int) -> int:
        """The step after which the average is there, counted from 1, in a training of `steps`, `epoch` to an epoch."""
        return 1

    def rate(self, step: int, steps: int, epoch: int) -> float:
        """How far the average moves towards the weights after step `step`, counted from 1."""
        return (1 - self.decay) / (1 - self.decay**step)


@dataclass(frozen=True)
class SWA:
    """The mean of the weights after every `every`-th epoch, the last one included, later than `start` of the training.

    Stochastic weight averaging (Izmailov et al. 2018, arXiv 1803.05407). It wants a learning rate that stays high in
    the epochs that it averages.
    """

    name: ClassVar[str] = "swa"
    start: float = 0.75
    every: int = 1

    def __post_init__(self) -> None:
        within(self, start=(0, 1))
        if self.every < 1:
            raise ValueError(f"every must be at least 1, not {self.every}")

    def first(self, steps: int, epoch: int) -> int:
        """The step after which the average is there, counted from 1, in a training of `steps`, `epoch` to an epoch."""
        period = self.every * epoch
        later = math.ceil((steps - self.start * steps) / period) - 1
        return steps - later * period

    def rate(self, step: int, steps: int, epoch: int) -> float:
        """How far the average moves towards the weights after step `step`, counted from 1."""
        taken, between = divmod(step - self.first(steps, epoch), self.every * epoch)
        return 0.0 if between or taken < 0 else 1 / (taken + 1)


Average = NoAverage | EMA | SWA
AVERAGES: dict[str, type[NoAverage] | type[EMA] | type[SWA]] = {"none": NoAverage, "ema": EMA, "swa": SWA}


def move(average: Array, weights: Array, rate: float) -> None:
    """average += rate (weights - average), in place, for all or a part of them."""
    part = thread_scratch("part", weights.shape, weights.dtype)
    np.subtract(weights, average, out=part)
    part *= rate
    average += part
