"""Scores and their error bars by hand, tests of differences against figures of SciPy and statsmodels."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digits.stats import (
    Score,
    mcnemar,
    normal_below,
    normal_difference,
    paired_difference,
    paired_t,
    pairs_needed,
    t_limit,
    t_power,
    t_test,
)


@pytest.mark.parametrize(
    ("score", "accuracy", "error", "text"),
    [
        (Score(50, 100), 0.5, 0.05, "50.00% ± 5.00"),  # √(0.5 · 0.5 / 100) = 0.5 / 10
        (Score(80, 100), 0.8, 0.04, "80.00% ± 4.00"),  # √(0.8 · 0.2 / 100) = 0.4 / 10
        (Score(3_780, 4_200), 0.9, 0.3 / math.sqrt(4_200), "90.00% ± 0.46"),
        (Score(4_137, 4_200), 0.985, math.sqrt(0.985 * 0.015 / 4_200), "98.50% ± 0.19"),
        (Score(7, 7), 1.0, 0.0, "100.00% ± 0.00"),
        (Score(0, 7), 0.0, 0.0, "0.00% ± 0.00"),
        (Score(1, 1), 1.0, 0.0, "100.00% ± 0.00"),
    ],
)
def test_a_score_has_its_standard_error(score: Score, accuracy: float, error: float, text: str) -> None:
    assert score.accuracy == pytest.approx(accuracy, rel=1e-14)
    assert score.standard_error == pytest.approx(error, rel=1e-12)
    assert str(score) == text


def test_four_times_the_images_halve_the_error() -> None:
    assert Score(360, 400).standard_error == pytest.approx(Score(90, 100).standard_error / 2)


# --- differences; figures of SciPy are of 1.17.1, those of statsmodels of 0.15.0


def test_the_paired_difference_of_a_textbook() -> None:
    # Agresti, Categorical Data Analysis: 1,600 people asked twice, 150 and 86 of whom changed their mind:
    # 0.04, standard error 0.0095, 95 % interval 0.021 to 0.059.
    difference = paired_difference(86, 150, 1600)
    assert difference.value == 0.04
    assert difference.standard_error == pytest.approx(0.0095, abs=1e-4)
    assert (difference.low, difference.high) == (pytest.approx(0.021, abs=5e-4), pytest.approx(0.059, abs=5e-4))
    assert difference.telling


def test_the_paired_difference_of_statsmodels() -> None:
    # DescrStatsW([-1, 1, 0], weights=[5.5, 12.5, 4184], ddof=0): .mean ± 1.96 .std / √4202
    difference = paired_difference(5, 12, 4200)
    assert difference.value == pytest.approx(7 / 4200, rel=1e-14)
    assert difference.standard_error == pytest.approx(0.001009344642797286, rel=1e-12)
    assert difference.low == pytest.approx(-0.00031240575424904145, rel=1e-12)
    assert difference.high == pytest.approx(0.003644152541493211, rel=1e-12)
    assert not difference.telling
    assert str(difference) == "+0.17 ± 0.10 points (95 % interval -0.03 to +0.36)"


def test_no_disagreement_is_no_certainty() -> None:
    difference = paired_difference(0, 0, 98)
    assert difference.value == 0
    assert difference.standard_error == pytest.approx(math.sqrt(1 / 100) / 10)  # half an image each way, of 100
    assert difference.low == pytest.approx(-difference.high)


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [
        (0, 0, 1.0),
        (1, 1, 1.0),
        (5, 0, 0.0625),  # 2 / 2⁵
        (0, 5, 0.0625),
        (9, 10, 1.0),
        (3, 17, 0.0025768280029296875),  # statsmodels' mcnemar(exact=True), and SciPy's binomtest, to here
        (12, 25, 0.04703102743951604),
        (86, 150, 3.7159361395713866e-05),
        (400, 512, 0.00023341572231213312),
        (20_000, 20_300, 0.13637447838816735),
    ],
)
def test_mcnemars_exact_test(only_a: int, only_b: int, p: float) -> None:
    assert mcnemar(only_a, only_b) == pytest.approx(p, rel=1e-11)
    assert mcnemar(only_b, only_a) == mcnemar(only_a, only_b)


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemars_p_is_a_probability_and_falls_with_the_imbalance(only_a: int, only_b: int) -> None:
    p = mcnemar(only_a, only_b)
    assert 0 < p <= 1
    if only_b >= only_a:
        assert mcnemar(only_a, only_b + 1) <= p or only_a == only_b


@pytest.mark.parametrize(
    ("t", "freedom", "p"),  # scipy.stats.t.sf, doubled
    [
        (0, 5, 1.0),
        (1, 1, 0.5),
        (12.706204736, 1, 0.05),
        (2, 2, 0.18350341907227397),
        (2.5, 3, 0.08770664700806556),
        (0.3, 4, 0.7791214282774598),
        (3, 7, 0.019942126131992536),
        (-2.2, 10, 0.05244106844935316),
        (1.5, 29, 0.14442369604038574),
        (5, 100, 2.450173413502802e-06),
    ],
)
def test_the_tails_of_students_t(t: float, freedom: int, p: float) -> None:
    assert t_test(t, freedom) == pytest.approx(p, rel=1e-9)


@pytest.mark.parametrize(
    ("freedom", "limit"),  # scipy.stats.t.ppf(0.975, freedom)
    [
        (1, 12.706204736174694),
        (2, 4.302652729749462),
        (3, 3.1824463052837078),
        (9, 2.262157162798205),
        (30, 2.042272456),
    ],
)
def test_the_limits_of_students_t(freedom: int, limit: float) -> None:
    assert t_limit(freedom) == pytest.approx(limit, rel=1e-8)


def test_the_paired_test_over_seeds_is_scipys() -> None:
    a, b = (0.9957, 0.9962, 0.9969, 0.9960), (0.9962, 0.9964, 0.9967, 0.9971)
    test = paired_t([y - x for x, y in zip(a, b, strict=True)])
    # scipy.stats.ttest_rel(b, a) and its confidence_interval()
    assert test.p == pytest.approx(0.2402587220245088, rel=1e-9)
    assert test.difference.value == pytest.approx(0.0004, rel=1e-9)
    assert test.difference.low == pytest.approx(-0.0004715488147264251, rel=1e-7)
    assert test.difference.high == pytest.approx(0.0012715488147263926, rel=1e-7)
    assert test.pairs == 4
    assert not test.difference.telling


def test_seeds_that_agree_by_chance_are_no_proof() -> None:
    assert paired_t([0.001, 0.001]).p == 0
    assert paired_t([0.0, 0.0]).p == 1
    floored = paired_t([5 / 4200, 5 / 4200], least_deviation=1 / 4200)
    assert floored.p == pytest.approx(t_test(5 * math.sqrt(2), 1))
    assert floored.p > 0.05
    spread = [0.001, 0.002, 0.0045]
    assert paired_t(spread, least_deviation=1e-5) == paired_t(spread)


@pytest.mark.parametrize(
    ("effect", "pairs", "power"),  # statsmodels' TTestPower().power(effect, pairs, 0.05)
    [
        (0.5, 5, 0.140516689990298),
        (-0.5, 5, 0.140516689990298),
        (1, 3, 0.1792553937765517),
        (1, 2, 0.09280915505633597),
        (0.2, 50, 0.2835924146674735),
        (2, 4, 0.7549839171140109),
        (3, 3, 0.7452680070062834),
        (0, 6, 0.05),
    ],
)
def test_the_power_of_the_paired_test(effect: float, pairs: int, power: float) -> None:
    assert t_power(effect, pairs) == pytest.approx(power, abs=5e-5)


@pytest.mark.parametrize(
    ("effect", "pairs"),  # statsmodels' TTestPower().solve_power(effect, alpha=0.05, power=0.8), rounded up
    [(0.1, 787), (0.3, 90), (0.5, 34), (-0.5, 34), (0.8, 15), (1, 10), (2, 5), (5, 3), (0.01, None), (0, None)],
)
def test_how_many_seeds_would_tell(effect: float, pairs: int | None) -> None:
    assert pairs_needed(effect) == pairs


def test_a_normal_difference_is_within_1_96_errors() -> None:
    difference = normal_difference(0.01, 0.004)
    assert (difference.low, difference.high) == (
        pytest.approx(0.00216014, rel=1e-5),
        pytest.approx(0.01783986, rel=1e-5),
    )
    assert normal_below(0) == 0.5
    assert normal_below(1.959963984540054) == pytest.approx(0.975)
