"""How far a score can be trusted."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """So many of so many images right, and the accuracy that this makes, with its standard error."""

    correct: int
    images: int

    @property
    def accuracy(self) -> float:
        """The share that is right, 0 to 1."""
        return self.correct / self.images

    @property
    def standard_error(self) -> float:
        """Of the accuracy, as of the mean of independent images: √(p (1 - p) / n)."""
        return math.sqrt(self.accuracy * (1 - self.accuracy) / self.images)

    def __str__(self) -> str:
        return f"{self.accuracy:.2%} ± {100 * self.standard_error:.2f}"
