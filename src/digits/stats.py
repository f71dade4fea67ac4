"""How far a score can be trusted, and whether a difference of two is more than noise."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Z = 1.959963984540054  # a normal variable is within ± Z of its mean 95 % of the time
LEVEL = 0.05  # a p-value below this is called more than chance
MOST_PAIRS = 1000  # nobody trains more seeds to see a difference


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


@dataclass(frozen=True)
class Difference:
    """One accuracy less another, both 0 to 1, with its standard error and the ends of its 95 % interval."""

    value: float
    standard_error: float
    low: float
    high: float

    @property
    def telling(self) -> bool:
        """The interval leaves out 0."""
        return not self.low <= 0 <= self.high

    @property
    def short(self) -> str:
        """In percentage points, without the interval."""
        return f"{100 * self.value:+.2f} ± {100 * self.standard_error:.2f}"

    def __str__(self) -> str:
        return f"{self.short} points (95 % interval {100 * self.low:+.2f} to {100 * self.high:+.2f})"


def normal_difference(value: float, standard_error: float) -> Difference:
    """A difference that is normally distributed."""
    return Difference(value, standard_error, value - Z * standard_error, value + Z * standard_error)


def paired_difference(only_a: int, only_b: int, images: int) -> Difference:
    """The accuracy of B less that of A on the same images, of which A alone has `only_a` right and B alone `only_b`.

    The error and the interval are Wald's with half an image added to each of the four counts (Agresti and Min 2005),
    so that no disagreement at all is not taken for certainty.
    """
    count, a, b = images + 2, only_a + 0.5, only_b + 0.5
    middle = (b - a) / count
    error = math.sqrt((a + b) / count - middle**2) / math.sqrt(count)
    return Difference((only_b - only_a) / images, error, middle - Z * error, middle + Z * error)


def mcnemar(only_a: int, only_b: int) -> float:
    """McNemar's exact test: the p-value, two-sided, of A and B being right equally often.

    Of the images that only one of them has right, each is B's with probability ½ then.
    """
    count, fewer = only_a + only_b, min(only_a, only_b)
    ways = total = 1
    for k in range(fewer):
        ways = ways * (count - k) // (k + 1)
        total += ways
    return min(1.0, 2 * total / (1 << count))


@dataclass(frozen=True)
class SeedTest:
    """The paired t-test over seeds: the mean difference of so many pairs, their standard deviation, the p-value."""

    difference: Difference
    standard_deviation: float
    p: float
    pairs: int


def paired_t(differences: Sequence[float], least_deviation: float = 0.0) -> SeedTest:
    """Student's paired t-test of differences B less A, one a seed, two or more; two-sided.

    `least_deviation` is what their standard deviation is taken for where it comes out smaller: two seeds that agree to
    the image by chance are no proof.
    """
    count = len(differences)
    mean = math.fsum(differences) / count
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in differences) / (count - 1))
    deviation = max(deviation, least_deviation)
    error = deviation / math.sqrt(count)
    width = t_limit(count - 1) * error
    p = t_test(mean / error, count - 1) if error else float(mean == 0)
    return SeedTest(Difference(mean, error, mean - width, mean + width), deviation, p, count)


def t_test(t: float, freedom: int) -> float:
    """The probability that a variable of Student's t distribution is further from 0 than t.

    The finite sums for whole degrees of freedom (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4).
    """
    angle = math.atan(abs(t) / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = term if freedom > 1 else 0.0
    for k in range(2 + odd, freedom - 1, 2):
        term *= (k - 1) / k * cosine**2
        total += term
    within = 2 / math.pi * (angle + sine * total) if odd else sine * total
    return min(max(1 - within, 0.0), 1.0)


def t_limit(freedom: int) -> float:
    """A variable of Student's t distribution is within ± this 95 % of the time."""
    return _root(lambda t: LEVEL - t_test(t, freedom), 0.0, 13.0)


def t_power(effect: float, pairs: int) -> float:
    """How likely the paired t-test is to find (p < 0.05) a difference of so many standard deviations in so many pairs.

    The test's t is (Z + √n effect) / s, of a normal Z and s = √(χ² / freedom): its tails are averaged over s.
    """
    freedom, shift = pairs - 1, abs(effect) * math.sqrt(pairs)
    limit = t_limit(freedom)
    wide = 8 / math.sqrt(2 * freedom)  # s is within 8 standard deviations of 1
    low, high = max(0.0, 1 - wide), 1 + wide
    points = 400
    total = weights = 0.0
    for k in range(points):
        s = low + (k + 0.5) * (high - low) / points
        density = math.exp((freedom - 1) * math.log(s) - freedom * (s * s - 1) / 2)
        weights += density
        total += density * (normal_below(shift - limit * s) + normal_below(-shift - limit * s))
    return total / weights


def pairs_needed(effect: float, power: float = 0.8) -> int | None:
    """How many pairs the paired t-test needs to find a difference of so many standard deviations with that power.

    None where that is more than `MOST_PAIRS`.
    """
    low, high = 1, 2
    while t_power(effect, high) < power:
        low, high = high, 2 * high
        if low >= MOST_PAIRS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if t_power(effect, middle) >= power else (middle, high)
    return high if high <= MOST_PAIRS else None


def normal_below(z: float) -> float:
    """The probability that a standard normal variable is below z."""
    return math.erfc(-z / math.sqrt(2)) / 2


def _root(rising: Callable[[float], float], low: float, high: float) -> float:
    """Where a rising function is 0, by bisection."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if rising(middle) > 0 else (middle, high)
    return (low + high) / 2
