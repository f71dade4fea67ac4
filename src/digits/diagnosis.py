"""What a run's held-out probabilities tell: confusion, calibration, mistakes, and labels to doubt."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from digits.nn import Array
from digits.recipe import CLASSES

Labels = NDArray[np.intp]

BINS = 15  # of confidence, as in Guo et al. 2017


def confusion(labels: Labels, predicted: Labels) -> NDArray[np.intp]:
    """How often each label (rows) was predicted as each digit (columns), (10, 10)."""
    return np.bincount(CLASSES * labels + predicted, minlength=CLASSES**2).reshape(CLASSES, CLASSES)


def mistakes(p: Array, labels: Labels) -> Labels:
    """Which of the images are predicted wrong, the surest mistakes first, for probabilities (N, 10)."""
    predicted = p.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    return wrong[np.argsort(-p[wrong, predicted[wrong]], kind="stable")]


@dataclass(frozen=True)
class Bin:
    """The images whose confidence, the probability of the predicted digit, is in one interval.

    `confidence` and `accuracy` are their means.
    """

    images: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """How far confidence is accuracy: the bins that have images, lowest confidence first.

    `error` is the expected calibration error: the mean over the images of |accuracy - confidence| of their bins.
    """

    bins: tuple[Bin, ...]
    error: float
    confidence: float


def calibration(p: Array, labels: Labels) -> Calibration:
    """Of probabilities (N, 10), in 15 bins of equal width.

    Guo et al. 2017, "On calibration of modern neural networks", arXiv 1706.04599.
    """
    confidence = p.max(axis=1).astype(np.float64)
    right = p.argmax(axis=1) == labels
    # A bin has its upper end and not its lower one.
    number = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    bins = [
        Bin(int(chosen.sum()), float(confidence[chosen].mean()), float(right[chosen].mean()))
        for chosen in (number == one for one in range(BINS))
        if chosen.any()
    ]
    error = sum(one.images * abs(one.accuracy - one.confidence) for one in bins) / len(labels)
    return Calibration(tuple(bins), error, float(confidence.mean()))


def margins(p: Array, labels: Labels) -> Array:
    """The label's probability less the largest of the others, (N,): below 0 where another digit is predicted."""
    every = np.arange(len(labels))
    others = p.copy()
    others[every, labels] = -1
    margin: Array = p[every, labels] - others.max(axis=1)
    return margin


def doubted(p: Array, labels: Labels) -> Labels:
    """Which of the images have labels that the held-out probabilities (N, 10) speak against, the clearest first.

    Confident learning (Northcutt, Jiang and Chuang 2021, arXiv 1911.00068): a digit's threshold is its mean
    probability over the images that are labelled so; an image counts as the likeliest of the digits that reach their
    thresholds, and its label is in doubt where that is another one. They are ordered by their margins.
    """
    own = p[np.arange(len(labels)), labels]
    sums, counts = np.bincount(labels, own, CLASSES), np.bincount(labels, minlength=CLASSES)
    thresholds = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    reaching = np.where(p >= thresholds, p, -1)
    found = np.flatnonzero((reaching.max(axis=1) >= 0) & (reaching.argmax(axis=1) != labels))
    return found[np.argsort(margins(p[found], labels[found]), kind="stable")]
