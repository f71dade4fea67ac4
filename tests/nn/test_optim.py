"""Optimizers and schedules against values worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digits.nn import OPTIMIZERS, SGD, Adam, AdamW, Array, Muon, Optimizer, Schedule
from digits.nn.optim import LOOK_STEPS, STEPS, clipping, forget, orthogonalised, sum_of_squares

W = (1.0, -2.0)
MATRIX_AND_BIAS = [slice(0, 1)]  # weight decay is for the first of two parameters only


def after(optimizer: Optimizer, *gradients: tuple[float, float]) -> Array:
    """The parameters W after a step on each of the gradients, at the optimizer's own learning rate."""
    w = np.array(W)
    state = {name: np.zeros(2) for name in optimizer.states}
    for step, g in enumerate(gradients, start=1):
        optimizer.update(w, np.array(g, float), state, optimizer.lr, step, MATRIX_AND_BIAS)
    return w


@pytest.mark.parametrize(
    ("optimizer", "wanted"),
    [
        # w - 0.1 (0.5, 1) = (0.95, -2.1);  then - 0.1 (1, -1)
        (SGD(0.1), (0.85, -2.0)),
        # v = (0.5, 1), w = (0.95, -2.1);  v = (0.45 + 1, 0.9 - 1) = (1.45, -0.1), w = (0.95 - 0.145, -2.1 + 0.01)
        (SGD(0.1, momentum=0.9), (0.805, -2.09)),
        # v = (0.5, 1), g + 0.9 v = (0.95, 1.9), w = (0.905, -2.19);
        # v = (1.45, -0.1), g + 0.9 v = (2.305, -1.09), w = (0.905 - 0.2305, -2.19 + 0.109)
        (SGD(0.1, momentum=0.9, nesterov=True), (0.6745, -2.081)),
        # g = (0.5 + 0.2 · 1, 1), w = (0.93, -2.1);  g = (1 + 0.2 · 0.93, -1) = (1.186, -1), w = (0.93 - 0.1186, -2)
        (SGD(0.1, weight_decay=0.2), (0.8114, -2.0)),
        # g = v = (0.7, 1), w = (0.93, -2.1);  g = (1.186, -1), v = (0.63 + 1.186, -0.1) = (1.816, -0.1)
        (SGD(0.1, momentum=0.9, weight_decay=0.2), (0.93 - 0.1816, -2.09)),
        # 0.98 w = 0.98, w = (0.98 - 0.05, -2.1);  0.98 w = 0.9114, v = (1.45, -0.1), w = (0.9114 - 0.145, -2.09)
        (SGD(0.1, momentum=0.9, weight_decay=0.2, decoupled=True), (0.7664, -2.09)),
    ],
    ids=["plain", "momentum", "nesterov", "decay", "momentum and decay", "momentum and decoupled decay"],
)
def test_gradient_descent_by_hand(optimizer: SGD, wanted: tuple[float, float]) -> None:
    np.testing.assert_allclose(after(optimizer, (0.5, 1), (1, -1)), wanted, rtol=1e-14)


def test_adamw_by_hand() -> None:
    optimizer = AdamW(0.1, beta1=0.5, beta2=0.75, epsilon=1, weight_decay=0.2)
    # Step 1: m = (2, -4) / 2 = (1, -2), v = (4, 16) / 4 = (1, 4); 1 - β1 = 1/2 and 1 - β2 = 1/4, so that
    # m̂ = (2, -4), √v̂ = √(4, 16) = (2, 4), m̂ / (√v̂ + 1) = (2/3, -4/5); the decay takes 0.1 · 0.2 · 1 of the first.
    first = np.array([1 - 0.1 * (2 / 3 + 0.2), -2 + 0.1 * 4 / 5])
    np.testing.assert_allclose(after(optimizer, (2, -4)), first, rtol=1e-14)
    # Step 2: m = (1 - 2, -2 + 4) / 2 = (-1/2, 1), v = (0.75 + 0.25 · 4, 3 + 0.25 · 16) = (7/4, 7); 1 - β1² = 3/4 and
    # 1 - β2² = 7/16, so that m̂ = (-2/3, 4/3), √v̂ = √(4, 16) = (2, 4), m̂ / (√v̂ + 1) = (-2/9, 4/15).
    second = first - 0.1 * np.array([-2 / 9 + 0.2 * first[0], 4 / 15])
    np.testing.assert_allclose(after(optimizer, (2, -4), (-2, 4)), second, rtol=1e-14)


def test_adam_by_hand() -> None:
    optimizer = Adam(0.1, beta1=0.5, beta2=0.75, epsilon=1, weight_decay=0.2)
    # Its decay makes these gradients those of the test above: 1.8 + 0.2 · 1 = 2, and w = (1 - 0.1 · 2/3, -2 + 0.08).
    first = np.array([14 / 15, -1.92])
    np.testing.assert_allclose(after(optimizer, (1.8, -4)), first, rtol=1e-14)
    second = first - 0.1 * np.array([-2 / 9, 4 / 15])
    np.testing.assert_allclose(after(optimizer, (1.8, -4), (-2 - 0.2 * 14 / 15, 4)), second, rtol=1e-14)


def lifted(s: Array) -> Array:
    """What becomes of singular values of at most 1."""
    for _ in range(STEPS):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return s


@settings(deadline=None)
@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    least=st.integers(-12, 0),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_a_matrix_is_orthogonalised_by_its_singular_values(rows: int, columns: int, least: int, dtype: type) -> None:
    rng = np.random.default_rng(rows * 41 + columns)
    U, s, Vt = np.linalg.svd(rng.normal(size=(rows, columns)), full_matrices=False)
    s *= np.logspace(0, least, len(s)) * 1e3
    found = orthogonalised((U * s @ Vt).astype(dtype))
    assert found.dtype == dtype
    wanted = U * lifted(s / np.linalg.norm(s)) @ Vt
    np.testing.assert_allclose(found, wanted, atol=2e-3 if dtype == np.float32 else 1e-11)


def test_what_has_no_small_singular_values_becomes_nearly_orthogonal() -> None:
    Q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(90, 30)))
    stretched = Q * np.linspace(1, 20, 30)
    values = np.linalg.svd(orthogonalised(stretched), compute_uv=False)
    assert 0.67 < values.min() <= values.max() < 1.21


@pytest.mark.parametrize("length", [0.0, 1e-300])
def test_no_gradient_makes_no_step(length: float) -> None:
    assert np.abs(orthogonalised(np.full((4, 3), length))).max() < 1e-250


def test_muon_by_hand() -> None:
    # Gradients that are diagonal have singular values that can be read off, and signs that stay.
    optimizer = Muon(0.1, weight_decay=0.2, momentum=0.5)
    w, state = np.full((2, 3), 2.0), {name: np.zeros((2, 3)) for name in optimizer.states}
    optimizer.update(w, np.array([[2.0, 0, 0], [0, -8 / 3, 0]]), state, 0.1, 1, [slice(0, 6)])
    # M = G, so G + M / 2 = (3, -4), (0.6, -0.8) of its length; the decay takes 0.1 · 0.2 of each weight.
    first, second = lifted(np.array([0.6, 0.8]))
    step = 0.1 * 0.2 * math.sqrt(3)
    wanted = np.array([[1.96 - step * first, 1.96, 1.96], [1.96, 1.96 + step * second, 1.96]])
    np.testing.assert_allclose(w, wanted, rtol=1e-13)
    optimizer.update(w, np.array([[-7 / 3, 0, 0], [0, 8 / 3, 0]]), state, 0.1, 2, [slice(0, 6)])
    # M = (1 - 7/3, -4/3 + 8/3) = (-4/3, 4/3), so G + M / 2 = (-3, 10/3)
    first, second = lifted(np.array([9, 10]) / math.sqrt(181))
    wanted = 0.98 * wanted + np.array([[step * first, 0, 0], [0, -step * second, 0]])
    np.testing.assert_allclose(w, wanted, rtol=1e-13)


def test_muon_is_adamw_for_all_but_matrices() -> None:
    steps = (0.5, 1.0), (1.0, -1.0)
    np.testing.assert_array_equal(after(Muon(0.1), *steps), after(AdamW(0.1, weight_decay=0.1), *steps))


def test_a_matrix_without_decay_is_moved_alone() -> None:
    w, state = np.ones((2, 2)), {name: np.zeros((2, 2)) for name in Muon().states}
    Muon().update(w, np.diag([1.0, 1.0]), state, 0.1, 1, [])
    assert (w[[0, 1], [1, 0]] == 1).all()
    assert (np.diag(w) < 1).all()


def test_adam_and_adamw_are_one_without_decay() -> None:
    steps = (0.5, 1.0), (1.0, -1.0)
    np.testing.assert_array_equal(after(Adam(0.1), *steps), after(AdamW(0.1, weight_decay=0), *steps))


def test_decay_that_is_decoupled_is_that_of_the_gradient_without_momentum() -> None:
    steps = (0.5, 1.0), (1.0, -1.0)
    coupled, decoupled = (after(SGD(0.1, weight_decay=0.2, decoupled=each), *steps) for each in (False, True))
    np.testing.assert_allclose(coupled, decoupled, rtol=1e-14)


def test_adamw_without_decay_steps_by_the_learning_rate_whatever_the_size_of_the_gradient() -> None:
    # At step 1, m̂ / √v̂ is the gradient's sign.
    np.testing.assert_allclose(after(AdamW(0.01, weight_decay=0), (1e-3, -1e3)), (0.99, -1.99), rtol=1e-6)


def runs(where: Array) -> list[slice]:
    """The slices, each of one number, where this is true."""
    return [slice(int(at), int(at) + 1) for at in np.flatnonzero(where)]


optimizers = pytest.mark.parametrize(
    "optimizer",
    [
        *(SGD(), SGD(momentum=0.9), SGD(momentum=0.9, nesterov=True, weight_decay=1e-2)),
        *(SGD(momentum=0.9, weight_decay=1e-2, decoupled=True), Adam(), Adam(weight_decay=1e-2), AdamW()),
        Muon(),
    ],
    ids=repr,
)


@optimizers
@settings(deadline=None)
@given(cut=st.integers(0, 20))
def test_an_update_of_slices_is_the_update_of_the_whole_bit_for_bit(optimizer: Optimizer, cut: int) -> None:
    rng = np.random.default_rng(0)
    matrices = np.arange(20) % 3 > 0
    w = rng.normal(size=20).astype(np.float32)
    parts, state = w.copy(), {name: np.zeros_like(w) for name in optimizer.states}
    state_of_parts = {name: vector.copy() for name, vector in state.items()}
    for step in (1, 2, 3):
        g = rng.normal(size=20).astype(np.float32)
        for part in (slice(cut, None), slice(0, cut)):
            sliced = {name: vector[part] for name, vector in state_of_parts.items()}
            optimizer.update(parts[part], g[part].copy(), sliced, 0.1, step, runs(matrices[part]))
        optimizer.update(w, g, state, 0.1, step, runs(matrices))
    np.testing.assert_array_equal(parts, w)
    for name, vector in state.items():
        np.testing.assert_array_equal(state_of_parts[name], vector)


@optimizers
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_update_keeps_the_precision(optimizer: Optimizer, dtype: type) -> None:
    w, g = np.ones(3, dtype), np.full(3, 0.1, dtype)
    state = {name: np.zeros(3, dtype) for name in optimizer.states}
    before = w.copy()
    optimizer.update(w, g, state, 0.1, 1, [slice(0, 3)])
    assert {array.dtype for array in (w, g, *state.values())} == {np.dtype(dtype)}
    assert (w < before).all()


@pytest.mark.parametrize(
    ("cls", "values", "message"),
    [
        (SGD, {"lr": -0.1}, "lr must be at least 0"),
        (SGD, {"lr": math.nan}, "lr must be at least 0"),
        (SGD, {"lr": math.inf}, "lr must be"),
        (SGD, {"momentum": 1.0}, "momentum must be at least 0 and less than 1"),
        (SGD, {"weight_decay": -1e-4}, "weight_decay must be at least 0"),
        (SGD, {"nesterov": True}, "nesterov needs a momentum"),
        (AdamW, {"lr": -1.0}, "lr must be at least 0"),
        (AdamW, {"beta1": 1.0}, "beta1 must be at least 0 and less than 1"),
        (AdamW, {"beta2": 1.0}, "beta2 must be at least 0 and less than 1"),
        (AdamW, {"epsilon": 0.0}, "epsilon must be"),
        (AdamW, {"epsilon": math.nan}, "epsilon must be"),
        (AdamW, {"epsilon": math.inf}, "epsilon must be"),
        (Schedule, {"warmup": 1.0}, "warmup must be at least 0 and less than 1"),
        (Schedule, {"final": -0.1}, "final must be at least 0"),
        (Schedule, {"name": "exponential", "final": 0.0}, "needs a final greater than 0"),
        (Schedule, {"stages": 0}, "stages must be at least 1"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(cls: type, values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cls(**values)


def test_every_optimizer_is_known_by_its_name() -> None:
    assert {name: cls.name for name, cls in OPTIMIZERS.items()} == {
        "sgd": "sgd",
        "adam": "adam",
        "adamw": "adamw",
        "muon": "muon",
    }


def test_clipping_by_hand() -> None:
    squares = np.array([9.0, 16.0])  # a gradient that is 5 long
    assert clipping(squares, 2.0) == 0.4
    assert clipping(squares, 5.0) == clipping(squares, 6.0) == 1
    assert clipping(np.zeros(2), 1e-9) == 1
    assert type(clipping(squares, 2.0)) is float
    assert clipping(np.array([np.inf, 1.0]), 2.0) == 0  # and 0 · inf is no number
    assert clipping(np.array([np.nan, 1.0]), 2.0) == 1


def test_squares_are_summed_in_float64() -> None:
    g = np.array([1e30, 3.0, 1e-30], np.float32)
    assert sum_of_squares(g[:1]) == pytest.approx(1e60, rel=1e-6)  # more than float32 holds
    assert sum_of_squares(g[1:]) == 9
    many = np.full(10**6, 0.1, np.float32)
    assert sum_of_squares(many) == pytest.approx(10**6 * float(many[0]) ** 2, rel=1e-13)


ROOT = math.sqrt(0.5)  # the cosine of an eighth of a turn


@pytest.mark.parametrize(
    ("schedule", "wanted"),
    [
        (Schedule(), [1, 1, 1, 1]),
        (Schedule("step", stages=3, factor=0.1), [1, 1, 0.1, 0.1, 0.01, 0.01]),
        (Schedule("step", stages=2, factor=0.5), [1, 1, 1, 0.5, 0.5]),  # half of 5 steps is between the third's ends
        (Schedule("exponential", final=0.01), [1, 0.01**0.25, 0.1, 0.01**0.75]),
        # 0.2 + 0.8 (1 + cos(π u)) / 2 for u = 0, 1/4, 1/2, 3/4
        (Schedule("cosine", final=0.2), [1, 0.6 + 0.4 * ROOT, 0.6, 0.6 - 0.4 * ROOT]),
        (Schedule("one-cycle", final=0.2), [1, 0.6 + 0.4 * ROOT, 0.6, 0.6 - 0.4 * ROOT]),
        # a third of 6 steps is warm-up, 1/3 and 2/3 of the way up; the other 4 are as above
        (Schedule("constant", warmup=1 / 3), [1 / 3, 2 / 3, 1, 1, 1, 1]),
        (Schedule("step", warmup=1 / 3, stages=2, factor=0.1), [1 / 3, 2 / 3, 1, 1, 0.1, 0.1]),
        (Schedule("exponential", warmup=1 / 3, final=0.01), [1 / 3, 2 / 3, 1, 0.01**0.25, 0.1, 0.01**0.75]),
        (Schedule("cosine", warmup=1 / 3, final=0.2), [1 / 3, 2 / 3, 1, 0.6 + 0.4 * ROOT, 0.6, 0.6 - 0.4 * ROOT]),
        # up from 0.2 by 0.8 (1 - cos(π/3)) / 2 = 0.8 / 4 and by 0.8 (1 - cos(2π/3)) / 2 = 0.8 · 3/4
        (Schedule("one-cycle", warmup=1 / 3, start=0.2, final=0), [0.4, 0.8, 1, 0.5 + ROOT / 2, 0.5, 0.5 - ROOT / 2]),
        # warm for half a step: the first is 1 / 1.5 of the way up, the second 0.5 / 1.5 of the way through the rest
        (Schedule("exponential", warmup=0.25, final=0.001), [2 / 3, 0.1]),
    ],
    ids=lambda value: value.name if isinstance(value, Schedule) else "",
)
def test_schedules_by_hand(schedule: Schedule, wanted: list[float]) -> None:
    multiples = [schedule.multiple(step, len(wanted)) for step in range(len(wanted))]
    assert multiples == pytest.approx(wanted, rel=1e-12)
    assert all(type(multiple) is float for multiple in multiples)


@settings(deadline=None)
@given(
    name=st.sampled_from(["constant", "step", "exponential", "cosine", "one-cycle"]),
    warmup=st.floats(0, 0.9),
    start=st.floats(0, 0.9),
    final=st.floats(1e-6, 0.9),
    stages=st.integers(1, 6),
    steps=st.integers(1, 300),
)
def test_a_schedule_rises_to_1_and_never_rises_again(
    name: str, warmup: float, start: float, final: float, stages: int, steps: int
) -> None:
    schedule = Schedule(name, warmup, start, final, stages)  # type: ignore[arg-type]
    multiples = [schedule.multiple(step, steps) for step in range(steps)]
    warm = math.ceil(warmup * steps)
    assert all(0 < multiple <= 1 for multiple in multiples)
    assert multiples[:warm] == sorted(multiples[:warm])
    assert multiples[warm:] == sorted(multiples[warm:], reverse=True)
    if not warmup:
        assert multiples[0] == 1


@pytest.mark.parametrize("optimizer", [SGD(0.1, momentum=0.9), Adam(0.1, beta2=0.9)], ids=repr)
def test_what_is_kept_of_gradients_that_became_0_is_never_subnormal(optimizer: Optimizer) -> None:
    w, smallest = np.zeros(2, np.float32), np.finfo(np.float32).smallest_normal
    state = {name: np.zeros(2, np.float32) for name in optimizer.states}
    for step in range(1, 2000):
        before = {name: mean.copy() for name, mean in state.items()}
        optimizer.update(w, np.array([step < 10, 1], np.float32), state, 1e-6, step, [])
        for name, mean in state.items():
            assert mean[0] == 0 or mean[0] >= smallest
            if step > 10 and step % LOOK_STEPS:
                assert mean[0] == pytest.approx(0.9 * before[name][0], rel=1e-6)  # and is not forgotten before
    assert all(mean[0] == 0 < mean[1] for mean in state.values())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.999])
def test_only_the_smallest_numbers_are_forgotten(dtype: type, decay: float) -> None:
    smallest = float(np.finfo(dtype).smallest_normal)
    kept = np.array([-np.inf, np.nan, -1, 1e-30, 2e6 * smallest, -2e6 * smallest], dtype)
    gone = np.array([0, smallest, -smallest, smallest / 8], dtype)
    mean = np.concatenate([kept, gone])
    forget(mean, decay, LOOK_STEPS - 1)
    np.testing.assert_array_equal(mean, np.concatenate([kept, gone]))
    forget(mean, decay, LOOK_STEPS)
    np.testing.assert_array_equal(mean[: len(kept)], kept)
    np.testing.assert_array_equal(mean[len(kept) :], 0)
