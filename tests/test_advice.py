"""What a submission is worth, by hand where it can be, by simulation where it can't."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ledgers import answers, finished_run

from digits import leaderboard, runs
from digits.advice import Best, advise, best_so_far, outlook
from digits.entry import SCORED_IMAGES, SENDING
from digits.leaderboard import Row
from digits.runs import Run
from digits.split import Split
from digits.stats import Score, normal_below

IMAGES = 1000
TEST = 400


def submitted(run: Run, score: float | None, status: str = "COMPLETE") -> Run:
    entry = {"status": status, "message": run.id, "date": "2026-11-23", "sha256": run.record["submission"]["sha256"]}
    run.update(submissions=[*run.record["submissions"], {**entry, "public_score": score}])
    return run


def judged(folder: Path, recipe: str, wrong: int, disagreeing: int = 0, seed: int = 0, **values: Any) -> Run:
    """A run with so many dev images wrong, whose submission has other digits than most in so many test images."""
    labels = np.arange(TEST) % 10
    test = answers(labels, list(range(disagreeing)))
    return finished_run(folder, recipe, seed, list(range(wrong)), range(IMAGES), test=test, **values)


def variance(wrong: int) -> float:
    p = (IMAGES - wrong + 0.5) / (IMAGES + 1)
    return p * (1 - p)


def rows(ledger: list[Run], folder: Path) -> list[Row]:
    return leaderboard.rows(ledger, folder)


def test_with_nothing_to_beat_the_dev_score_is_what_is_to_be_expected(tmp_path: Path) -> None:
    run = judged(tmp_path, "a", 10)
    found = outlook(run, None)
    assert found is not None
    assert found.expected == 0.99
    assert found.standard_error == pytest.approx(math.sqrt(variance(10) * (1 / 1000 + 1 / 28_000)))
    assert found.chance is None
    by_hand = outlook(run, Best(0.98, None))
    assert by_hand is not None
    assert by_hand.chance == pytest.approx(normal_below((0.99 - 0.98 - 0.5 / 28_000) / found.standard_error))


def test_on_the_same_images_only_what_the_two_disagree_on_counts(tmp_path: Path) -> None:
    best = Best(0.985, judged(tmp_path, "best", 10))
    run = judged(tmp_path, "run", 8, disagreeing=4)
    found = outlook(run, best)
    assert found is not None
    v, other, apart = variance(8), variance(10), 4 / TEST
    c = (v + other - apart + 0.002**2) / 2
    noise = 1 / IMAGES + 1 / SCORED_IMAGES
    assert found.expected == pytest.approx(0.992 + c / other * (0.985 - 0.99))
    assert found.standard_error == pytest.approx(math.sqrt((v - c * c / other) * noise))
    # The paired difference is a little above it: its variance has (v' - c) / v' of the known gap in it, too.
    assert found.standard_error < math.sqrt(apart * noise)


def test_on_other_dev_images_the_test_images_are_still_common(tmp_path: Path) -> None:
    best = Best(0.985, judged(tmp_path, "best", 10))
    other = judged(tmp_path, "run", 8, disagreeing=4, split=Split(0.0, 10, 3).spec())
    found, same = outlook(other, best), outlook(judged(tmp_path, "same", 8, disagreeing=4), best)
    assert found is not None
    assert same is not None
    v, theirs = variance(8), variance(10)
    c = (v + theirs - 4 / TEST + 0.002**2) / 2
    both, known = c / SCORED_IMAGES, theirs * (1 / IMAGES + 1 / SCORED_IMAGES)
    assert found.expected == pytest.approx(0.992 + both / known * (0.985 - 0.99))
    assert found.standard_error == pytest.approx(math.sqrt(v * (1 / IMAGES + 1 / SCORED_IMAGES) - both**2 / known))
    assert found.standard_error > 1.1 * same.standard_error


def test_the_same_answers_have_the_same_score(tmp_path: Path) -> None:
    best = Best(0.985, judged(tmp_path, "best", 10))
    found = outlook(judged(tmp_path, "twin", 10), best)
    assert found is not None
    assert found.expected == pytest.approx(0.985)
    assert found.standard_error == pytest.approx(0, abs=1e-9)
    assert found.chance == pytest.approx(0, abs=1e-3)


def test_a_submission_that_cannot_be_read_has_nothing_in_common(tmp_path: Path) -> None:
    best = Best(0.985, judged(tmp_path, "best", 10))
    run = judged(tmp_path, "run", 8, disagreeing=4)
    run.path("submission.csv").unlink()
    found = outlook(run, best)
    assert found is not None
    assert found.expected == pytest.approx(0.992, abs=1e-5)


def test_a_run_with_no_dev_score_is_judged_by_another_of_its_recipe(tmp_path: Path) -> None:
    best = Best(0.985, judged(tmp_path, "best", 10))
    full = finished_run(tmp_path, "cnn", 5, rows=None, test=answers(np.arange(TEST) % 10, [0, 1, 2, 3]))
    assert outlook(full, best, [full, judged(tmp_path, "other", 5)]) is None
    dev = judged(tmp_path, "cnn", 8, disagreeing=9, seed=1)
    found = outlook(full, best, [full, dev])
    assert found is not None
    assert (found.run, found.judge) == (full, dev)
    # What the two have in common with the best shows in the full run's own submission, of 4 other digits.
    same = outlook(judged(tmp_path, "same", 8, disagreeing=4), best)
    assert same is not None
    assert (found.expected, found.standard_error) == (pytest.approx(same.expected), pytest.approx(same.standard_error))


def test_the_chances_come_true(tmp_path: Path) -> None:
    """Of pairs of runs whose accuracies are drawn evenly, those given a chance of about so much win about so often."""
    rng = np.random.default_rng(0)
    best, run = judged(tmp_path, "best", 10), judged(tmp_path, "run", 10, disagreeing=6)
    chances, wins = [], []
    for _ in range(1500):
        # Both right, only A, only B, neither: B - A is even from -1 to 1 %, they disagree on 1.5 % of the images.
        only_b = rng.uniform(0.0025, 0.0125)
        shares = np.array([0.975, 0.015 - only_b, only_b, 0.01])
        dev, test = rng.multinomial(IMAGES, shares), rng.multinomial(SCORED_IMAGES, shares)
        for one, at in ((best, 1), (run, 2)):
            one.record["scores"] = {"dev": {"correct": int(dev[0] + dev[at]), "images": IMAGES}}
        found = outlook(run, Best(float(test[0] + test[1]) / SCORED_IMAGES, best))
        assert found is not None
        assert found.chance is not None
        chances.append(found.chance)
        wins.append(test[2] > test[1])
    given, won = np.array(chances), np.array(wins)
    for low, high in ((0.0, 0.15), (0.15, 0.4), (0.4, 0.6), (0.6, 0.85), (0.85, 1.0)):
        these = (given >= low) & (given <= high)
        assert these.sum() > 80
        error = math.sqrt(0.25 / these.sum())
        assert abs(given[these].mean() - won[these].mean()) < max(2.5 * error, 0.04), (low, high)


def test_the_luckiest_seed_is_no_better_than_the_others(tmp_path: Path) -> None:
    # Seeds disagree on 8 of 400 test images: by chance one dev score differs from the mean by √(0.02 / 2 / 1000).
    rng = np.random.default_rng(0)
    labels = np.arange(TEST) % 10
    seeds = []
    for seed, wrong in enumerate((9, 10, 11, 14)):
        test = answers(labels, list(rng.choice(TEST, 4, replace=False)))
        seeds.append(finished_run(tmp_path, "cnn", seed, list(range(wrong)), range(IMAGES), test=test))
    other = judged(tmp_path, "other", 9)
    found = [outlook(run, None, seeds) for run in (*seeds, other)]
    assert [one.expected for one in found if one] == [pytest.approx(0.989)] * 4 + [0.991]
    # Where they scatter by more than that, it is kept: 5, 10, 30, 55 have a variance of 516.7 images, of which chance
    # makes 8 of 400 disagreements, halved, of 1,000 images: 10 or less.
    for run, wrong in zip(seeds, (5, 10, 30, 55), strict=True):
        run.update(scores={"dev": {"correct": IMAGES - wrong, "images": IMAGES}})
    spread = outlook(seeds[0], None, seeds)
    assert spread is not None
    assert 0.975 + 0.98 * 0.02 < spread.expected < 0.995
    alone = outlook(seeds[0], None, seeds[:2])
    assert alone is not None
    assert alone.expected == 0.995  # two say nothing of their scatter


def test_the_best_so_far_may_have_been_submitted_by_hand(tmp_path: Path) -> None:
    a, b = submitted(judged(tmp_path, "a", 3), 0.99), submitted(judged(tmp_path, "b", 2), None)
    ledger = [a, b]
    assert best_so_far(ledger, rows(ledger, tmp_path)) == Best(0.99, a)
    stranger = replace(rows(ledger, tmp_path)[0], run="by hand", public_score=0.995)
    best = best_so_far(ledger, [*rows(ledger, tmp_path), stranger])
    assert best == Best(0.995, None)
    assert best is not None
    assert best.name == "a submission by hand"
    assert best_so_far([b], rows([b], tmp_path)) is None


def test_the_best_use_of_a_submission_is_the_run_that_most_likely_wins(tmp_path: Path) -> None:
    best = submitted(judged(tmp_path, "best", 10), 0.99)
    poor, good = judged(tmp_path, "poor", 12, 5), judged(tmp_path, "good", 6, 6)
    submitted(judged(tmp_path, "sent", 1, 7), 0.98)
    judged(tmp_path, "twin-of-sent", 1, 7)
    judged(tmp_path, "unfinished", 1, 8).update(status="training")
    judged(tmp_path, "sample", 1, 9, data={**best.record["data"], "kind": "sample"})
    judged(tmp_path, "others", 1, 10, data={**best.record["data"], "sha256": {"test.csv": "0"}})
    judged(tmp_path, "gone", 1, 11).path("submission.csv").unlink()
    submitted(judged(tmp_path, "failed", 9, 12), None, "ERROR")
    submitted(judged(tmp_path, "lost", 9, 13), None, SENDING)
    finished_run(tmp_path, "full", rows=None, test=answers(np.arange(TEST) % 10, list(range(14))))
    ledger = runs.every(tmp_path)
    advice = advise(poor, ledger, rows(ledger, tmp_path))
    assert advice.best == Best(0.99, best)
    assert advice.outlook == outlook(poor, advice.best, ledger)
    assert advice.choice is not None
    assert advice.choice.run == good
    assert advice.choice.chance is not None
    assert advice.outlook is not None
    assert advice.outlook.chance is not None
    assert advice.choice.chance > 0.5 > advice.outlook.chance
    assert advice.plain()["best_use"]["run"] == good.id
    assert Score(990, 1000) == runs.dev_score(best)
