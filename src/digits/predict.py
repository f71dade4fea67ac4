"""Probabilities from a network and images."""

import numpy as np
from numpy.typing import NDArray

from digits.nn import Array, Network, Workers, folded, probabilities


def network_input(images: NDArray[np.uint8]) -> Array:
    """Images (N, 28, 28) of integers 0-255 as a network takes them: float32 (N, 28, 28, 1) from 0 to 1.

    The images are innermost in memory, as layers have them.
    """
    x = np.ascontiguousarray(images.transpose(1, 2, 0)).astype(np.float32)
    x *= np.float32(1 / 255)
    return x.transpose(2, 0, 1)[..., np.newaxis]


def predict(network: Network, images: NDArray[np.uint8], workers: Workers) -> Array:
    """The probability of each digit, (N, 10), for images (N, 28, 28)."""
    return probabilities(folded(network), workers, len(images), lambda block: network_input(images[block]))
