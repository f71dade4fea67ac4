"""Which images an epoch is of: all of them, or the hardest and some of the others."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from digits.nn import Array


@dataclass(frozen=True)
class Mining:
    """An epoch is of `share` of the training images, and of these `hardest` are the share that is chosen as hard.

    Hard are those whose loss was the largest when they were last learnt from (hard example mining, after Shrivastava et
    al. 2016, arXiv 1604.03540; with the losses at hand instead of a forward pass for the choice, as Loshchilov & Hutter
    2016, arXiv 1511.06343). The others are drawn at random, so that what was easy once is seen again.
    """

    share: float = 1.0
    hardest: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be greater than 0 and at most 1, not {self.share}")
        if not 0 <= self.hardest <= 1:
            raise ValueError(f"hardest must be from 0 to 1, not {self.hardest}")
        if self.hardest and self.share == 1:
            raise ValueError("hardest is of an epoch that leaves images out: set share below 1")

    def count(self, images: int) -> int:
        """How many images an epoch is of, of so many that there are."""
        return max(round(images * self.share), min(images, 1))

    def chosen(self, losses: Array, rng: np.random.Generator) -> NDArray[np.intp]:
        """The images of an epoch, (count(N),), in the order in which they are learnt from, given the loss (N,) of each.

        An image that was never learnt from has the loss infinity. Of equals it is chance which is harder.
        """
        order = rng.permutation(len(losses))
        count = self.count(len(losses))
        if count == len(losses):
            return order
        hard = round(count * self.hardest)
        ranked = order[np.argsort(-losses[order], kind="stable")]
        others = rng.permutation(ranked[hard:])[: count - hard]
        return rng.permutation(np.concatenate([ranked[:hard], others]))
