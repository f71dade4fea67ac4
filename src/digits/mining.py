"""Which images an epoch is of: all of them, or the hardest and some of the others; and how these are learnt from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from digits.nn import Array


@dataclass(frozen=True)
class Mining:
    """An epoch is of `share` of the training images, and of these `hardest` are the share that is chosen as hard.

    The hard ones are altered `draws` times, and learnt from as they are hardest for the network as it is (MaxUp,
    Gong et al. 2021, arXiv 2002.09024, who do so with all images).

    Hard are those whose loss was the largest when they were last learnt from (hard example mining, after Shrivastava et
    al. 2016, arXiv 1604.03540; with the losses at hand instead of a forward pass for the choice, as Loshchilov & Hutter
    2016, arXiv 1511.06343). The others are drawn at random, so that what was easy once is seen again.
    """

    share: float = 1.0
    hardest: float = 0.0
    draws: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be greater than 0 and at most 1, not {self.share}")
        if not 0 <= self.hardest <= 1:
            raise ValueError(f"hardest must be from 0 to 1, not {self.hardest}")
        if self.hardest and self.share == 1:
            raise ValueError("hardest is of an epoch that leaves images out: set share below 1")
        if self.draws < 1:
            raise ValueError(f"draws must be at least 1, not {self.draws}")
        if self.draws > 1 and not self.hardest:
            raise ValueError("draws above 1 are of the hardest images: set hardest above 0")

    def count(self, images: int) -> int:
        """How many images an epoch is of, of so many that there are."""
        return max(round(images * self.share), min(images, 1))

    def chosen(self, losses: Array, rng: np.random.Generator) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """The images of an epoch in the order in which they are learnt from, and which are chosen as hard, (count(N),).

        They are told by the loss (N,) that each image had. One that was never learnt from has the loss infinity. Of
        equals it is chance which is harder.
        """
        order = rng.permutation(len(losses))
        count = self.count(len(losses))
        if self.share == 1:
            return order, np.zeros(count, np.bool_)
        hard = round(count * self.hardest)
        ranked = order[np.argsort(-losses[order], kind="stable")]
        others = rng.permutation(ranked[hard:])[: count - hard]
        order = rng.permutation(np.concatenate([ranked[:hard], others]))
        return order, np.isin(order, ranked[:hard])
