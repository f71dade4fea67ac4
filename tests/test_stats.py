"""Scores and their error bars, by hand."""

import math

import pytest

from digits.stats import Score


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
