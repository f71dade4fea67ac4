"""Averages of the weights against their definitions, and batch norm's statistics for weights nobody trained with."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digits.nn import (
    AVERAGES,
    EMA,
    SWA,
    Array,
    Average,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Network,
    NoAverage,
    ReLU,
    Workers,
    renew_statistics,
)
from digits.nn.averaging import move


def averaged(average: Average, weights: Array, epoch: int) -> Array:
    """The average of weights (steps, n), those after each step of a training."""
    a = np.zeros_like(weights[0])
    for step, w in enumerate(weights, start=1):
        rate = average.rate(step, len(weights), epoch)
        if rate:
            move(a, w, rate)
    return a


def walk(steps: int, dtype: type = np.float64) -> Array:
    return np.random.default_rng(0).normal(size=(steps, 7)).astype(dtype)


def test_an_exponential_average_by_hand() -> None:
    weights = np.array([[2.0], [4.0], [8.0]])
    # (2/4 + 4/2 + 8) / (1/4 + 1/2 + 1) = 10.5 / 1.75
    np.testing.assert_allclose(averaged(EMA(0.5), weights, 1), [6.0], rtol=1e-15)
    np.testing.assert_array_equal(averaged(EMA(0.999), weights[:1], 1), [2.0])  # nothing of the zeros is left


@settings(deadline=None)
@given(decay=st.floats(0, 0.9999), steps=st.integers(1, 60))
def test_an_exponential_average_is_the_weighted_mean_of_all_weights(decay: float, steps: int) -> None:
    weights = walk(steps)
    shares = decay ** np.arange(steps - 1, -1, -1.0)
    np.testing.assert_allclose(averaged(EMA(decay), weights, 5), shares @ weights / shares.sum(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("average", "steps", "epoch", "taken"),
    [
        (SWA(), 12, 1, [10, 11, 12]),  # 9 is not later than three quarters
        (SWA(start=0.5, every=2), 12, 1, [8, 10, 12]),
        (SWA(start=0.5, every=2), 24, 2, [16, 20, 24]),
        (SWA(start=0, every=5), 12, 1, [2, 7, 12]),
        (SWA(start=0.9), 10, 1, [10]),
        (SWA(start=0.99, every=40), 5, 5, [5]),  # the last is always there
        (SWA(start=0), 3, 1, [1, 2, 3]),
    ],
    ids=repr,
)
def test_the_mean_of_late_epochs_by_hand(average: SWA, steps: int, epoch: int, taken: list[int]) -> None:
    assert [step for step in range(1, steps + 1) if average.rate(step, steps, epoch)] == taken
    assert average.first(steps, epoch) == taken[0]
    weights = walk(steps)
    np.testing.assert_allclose(
        averaged(average, weights, epoch), weights[np.array(taken) - 1].mean(axis=0), rtol=1e-12, atol=1e-15
    )


@settings(deadline=None)
@given(
    average=st.one_of(st.builds(EMA, st.floats(0, 0.9999)), st.builds(SWA, st.floats(0, 0.99), st.integers(1, 9))),
    epochs=st.integers(1, 20),
    epoch=st.integers(1, 9),
)
def test_the_first_rate_is_1_and_before_it_there_is_none(average: Average, epochs: int, epoch: int) -> None:
    steps = epochs * epoch
    rates = [average.rate(step, steps, epoch) for step in range(1, steps + 1)]
    first = average.first(steps, epoch)
    assert 1 <= first <= steps
    assert rates[first - 1] == 1
    assert not any(rates[: first - 1])
    assert rates[-1] > 0  # the last weights are part of it
    assert all(0 <= rate <= 1 for rate in rates)


def test_no_average_is_never_there() -> None:
    assert NoAverage().first(10, 2) > 10
    assert not any(NoAverage().rate(step, 10, 2) for step in range(1, 11))


def test_an_average_of_parts_is_that_of_the_whole_bit_for_bit_in_its_own_precision() -> None:
    weights = walk(9, np.float32)
    parts = [averaged(SWA(0), weights[:, part], 1) for part in (slice(0, 3), slice(3, 7))]
    whole = averaged(SWA(0), weights, 1)
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert whole.dtype == np.float32


@pytest.mark.parametrize(
    ("cls", "values", "message"),
    [
        (EMA, {"decay": 1.0}, "decay must be at least 0 and less than 1"),
        (EMA, {"decay": float("nan")}, "decay must be"),
        (SWA, {"start": 1.0}, "start must be at least 0 and less than 1"),
        (SWA, {"start": -0.1}, "start must be at least 0"),
        (SWA, {"every": 0}, "every must be at least 1"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(cls: type, values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cls(**values)


def test_every_average_is_known_by_its_name() -> None:
    assert {name: cls.name for name, cls in AVERAGES.items()} == {"none": "none", "ema": "ema", "swa": "swa"}


# --- batch norm's statistics


IMAGES = 300


def normed(dtype: type = np.float64, dropout: float = 0.0) -> Network:
    layers = [Conv2D(3), BatchNorm(), ReLU(), Dropout(dropout), Flatten(), Dense(5), BatchNorm(), Dense(2)]
    return Network(layers, (5, 6, 2), dtype).initialise(np.random.default_rng(0))


def pictures() -> Array:
    return np.random.default_rng(1).normal(3, 2, size=(IMAGES, 5, 6, 2))


def renewed(network: Network, count: int = 1) -> Array:
    x = pictures().astype(network.params.dtype)
    with Workers(count) as workers:
        renew_statistics(network, workers, IMAGES, lambda part: (x[part], np.random.default_rng(part.start)))
    return network.statistics.copy()


def test_statistics_are_those_of_the_images_whatever_they_were() -> None:
    network = normed()
    network.statistics[...] = 1e9
    renewed(network)
    first, second = (layer for layer in network.layers if isinstance(layer, BatchNorm))
    before = network.layers[0].forward(pictures())
    np.testing.assert_allclose(first.mean, before.mean(axis=(0, 1, 2)), rtol=1e-9)
    np.testing.assert_allclose(first.variance, before.var(axis=(0, 1, 2)), rtol=0.01)
    # The second sees what the first makes of each block, and so differs a little more.
    x = pictures()
    for layer in network.layers[:6]:
        x = layer.forward(x)
    np.testing.assert_allclose(second.mean, x.mean(axis=0), atol=0.05 * x.std())
    np.testing.assert_allclose(second.variance, x.var(axis=0), rtol=0.1)
    # In prediction the last norm's outputs have mean 0 and variance 1 again.
    y = second.forward(x)
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=0.05)
    np.testing.assert_allclose(y.std(axis=0), 1, atol=0.05)


@pytest.mark.parametrize("count", [2, 4])
def test_statistics_are_the_same_on_any_number_of_workers(count: int) -> None:
    one, several = normed(np.float32, 0.3), normed(np.float32, 0.3)
    np.testing.assert_array_equal(renewed(several, count), renewed(one))
    assert several.statistics.dtype == np.float32


def test_statistics_leave_the_weights_alone() -> None:
    network = normed()
    before = network.params.copy()
    renewed(network)
    np.testing.assert_array_equal(network.params, before)


def test_a_network_without_statistics_is_not_run() -> None:
    network = Network([Flatten(), Dense(2)], (5, 6, 2))
    renew_statistics(network, Workers(1), IMAGES, lambda part: pytest.fail("it was run"))
