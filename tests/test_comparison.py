"""Which of two runs is better, and that runs which can't be compared aren't."""

import json
from pathlib import Path

import numpy as np
import pytest
from ledgers import answers, finished_run

from digits import runs
from digits.comparison import compare, compare_seeds, p_text, recipe_runs, same_recipe
from digits.errors import DigitsError
from digits.heldout import held_out
from digits.nn import write_arrays
from digits.split import Split
from digits.stats import mcnemar, paired_difference, paired_t


def test_two_runs_are_compared_image_by_image(tmp_path: Path) -> None:
    a = finished_run(tmp_path, "cnn", wrong=[1, 2, 3, 4, 5])
    b = finished_run(tmp_path, "deep", wrong=[4, 5, 6])
    found = compare(a, b)
    assert list(found.only_a) == [6]
    assert list(found.only_b) == [1, 2, 3]
    assert found.difference == paired_difference(1, 3, 1000)
    assert found.p == mcnemar(1, 3) == 0.625  # 2 · (1 + 4) / 2⁴
    assert found.verdict.startswith(
        f"{b.id} is better than {a.id} by 0.20 ± 0.22 points: could well be noise (p = 0.62); about "
    )
    assert f"about {found.more_seeds} more seeds of each would tell" in found.verdict
    assert found.plain()["only_b_right"] == [1, 2, 3]
    json.dumps(found.plain())


def test_the_surest_mistakes_come_first_and_are_named_by_their_rows(tmp_path: Path) -> None:
    rows = [7, 19, 30, 44]
    labels = np.array(rows) % 10
    p = answers(labels, [0, 1, 3])
    p[1] *= 0.5
    a, b = finished_run(tmp_path, "a", rows=rows, p=p), finished_run(tmp_path, "b", rows=rows)
    p_surer = p[3].copy()
    p_surer[p_surer.argmax()] = 0.99
    p[3] = p_surer
    a = finished_run(tmp_path, "a", rows=rows, p=p)
    found = compare(a, b)
    assert list(found.only_b) == [3, 0, 1]
    assert found.plain()["only_b_right"] == [44, 7, 19]


def test_what_is_more_than_chance_is_said_for_these_two_runs_alone(tmp_path: Path) -> None:
    a, b = finished_run(tmp_path, "a", wrong=list(range(30))), finished_run(tmp_path, "b", wrong=[0])
    found = compare(a, b)
    assert found.more_seeds == 0
    assert "b-s0 is better than" in found.verdict
    assert found.verdict.endswith(
        "by 2.90 ± 0.54 points: more than chance (p < 0.0001) for these two; other seeds may come out otherwise"
    )
    back = compare(b, a)
    assert back.difference.value == -found.difference.value
    assert back.p == found.p


def test_a_run_is_no_better_than_itself(tmp_path: Path) -> None:
    a, b = finished_run(tmp_path, wrong=[1]), finished_run(tmp_path, wrong=[1])
    found = compare(a, b)
    assert found.p == 1
    assert found.more_seeds is None
    assert found.verdict == f"{a.id} and {b.id} have equally many right, ± 0.10 points: no difference to be seen"


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"rows": range(1000, 2000)}, "with 0 in common: train both with the same split"),
        ({"rows": range(500, 2000), "split": Split(0.0, 5, 1).spec()}, "fold 1 of 5"),
        ({"rows": range(500, 2000)}, "with 500 in common"),
        ({"rows": range(2000), "split": Split(0.0, 5).spec()}, "each of 5 folds in its turn"),
        ({"rows": None}, "held out no images"),
        ({"data": {"kind": "own", "sha256": {"train.csv": "f", "test.csv": "b" * 64}}}, "SHA-256 of train.csv differs"),
        ({"data": {"kind": "own", "sha256": {}}}, "SHA-256 of train.csv differs"),
    ],
)
def test_runs_that_are_judged_on_different_images_are_not_compared(
    tmp_path: Path, other: dict[str, object], said: str
) -> None:
    a, b = finished_run(tmp_path, "a"), finished_run(tmp_path, "b", **other)  # type: ignore[arg-type]
    for one, two in ((a, b), (b, a)):
        with pytest.raises(DigitsError) as caught:
            compare(one, two)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)


def test_other_labels_of_the_same_rows_are_seen(tmp_path: Path) -> None:
    a, b = finished_run(tmp_path, "a"), finished_run(tmp_path, "b")
    with np.load(b.path("dev.npz")) as file:
        arrays = dict(file)
    write_arrays(b.path("dev.npz"), {**arrays, "labels": (arrays["labels"] + 1) % 10})
    with pytest.raises(DigitsError, match=r"labels in the dev.npz"):
        compare(a, b)


def test_a_run_without_its_predictions_says_so(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    arrays = {"rows": np.arange(3), "labels": np.arange(3), "probabilities": np.zeros((3, 10), np.float32)}
    for name, bad in {
        "rows": np.array([2, 1, 0]),
        "labels": np.array([1, 2, 10]),
        "probabilities": np.full((3, 10), np.nan, np.float32),
    }.items():
        write_arrays(run.path("dev.npz"), {**arrays, name: bad})
        with pytest.raises(DigitsError, match=r"dev.npz holds something else"):
            held_out(run)
    write_arrays(run.path("dev.npz"), {"rows": np.arange(3)})
    with pytest.raises(DigitsError, match=r"dev.npz holds something else"):
        held_out(run)
    run.path("dev.npz").write_bytes(b"PK")
    with pytest.raises(DigitsError, match=r"is damaged .*: train it anew"):
        held_out(run)
    run.path("dev.npz").unlink()
    with pytest.raises(DigitsError, match=r"dev.npz is missing.*: train it anew"):
        held_out(run)
    run.update(status="training")
    with pytest.raises(DigitsError, match="is not finished"):
        held_out(run)


# --- groups of seeds


def test_seeds_are_paired_and_those_of_one_side_left_out(tmp_path: Path) -> None:
    a = [finished_run(tmp_path, "a", seed, list(range(seed + 3))) for seed in (0, 1, 2, 5)]
    b = [finished_run(tmp_path, "b", seed, list(range(wrong))) for seed, wrong in ((2, 1), (0, 2), (1, 3), (9, 0))]
    found = compare_seeds(a, b, "a", "b")
    assert found.seeds == (0, 1, 2)
    assert [(pair.a.run, pair.b.run) for pair in found.pairs] == [(a[0], b[1]), (a[1], b[2]), (a[2], b[0])]
    # Wrong are 3, 4, 5 and 2, 3, 1: differences of 1, 1 and 4 images, mean 2, deviation √3 images.
    assert found.over_seeds == paired_t([0.001, 0.001, 0.004])
    assert found.over_seeds.difference.value == pytest.approx(0.002)
    assert found.over_seeds.standard_deviation == pytest.approx(3**0.5 / 1000)
    assert found.over_images.value == pytest.approx(0.002)
    # Image 0 is 0, 0, 0; 1: 0, 0, 1; 2: 1, 0, 1; 3: 0, 1, 1; 4: 0, 0, 1
    assert list(found.only_b) == [2, 3]
    assert list(found.only_a) == []
    assert list(compare_seeds(b, a, "b", "a").only_a) == [2, 3]
    assert found.verdict.startswith(
        "b is better than a by 0.20 ± 0.10 points over 3 seeds: may still be noise (p = 0.18); about "
    )
    json.dumps(found.plain())


def test_a_difference_over_seeds_that_is_more_than_their_chance(tmp_path: Path) -> None:
    a = [finished_run(tmp_path, "a", seed, list(range(20 + seed))) for seed in range(4)]
    b = [finished_run(tmp_path, "b", seed, [0]) for seed in range(4)]
    found = compare_seeds(a, b, "a", "b")
    assert found.more_seeds == 0
    assert found.verdict == (
        "b is better than a by 2.05 ± 0.06 points over 4 seeds: more than the chance of the training (p < 0.0001)"
    )
    few = [finished_run(tmp_path, "a", seed, [1, 2, 3]) for seed in range(4)]
    assert compare_seeds(few, b, "a", "b").verdict.endswith(
        "though other images than these 1,000 may say otherwise"
    )  # 3 of 1,000 images against 1 is no more than their chance


def test_groups_that_make_no_pairs_are_refused(tmp_path: Path) -> None:
    a, b = finished_run(tmp_path, "a", 0), finished_run(tmp_path, "b", 1)
    with pytest.raises(DigitsError, match=r"a \(seeds 0\) and b \(seeds 1\) have no seed in common"):
        compare_seeds([a], [b], "a", "b")
    with pytest.raises(DigitsError, match="have the seed 0 in common"):
        compare_seeds([a], [finished_run(tmp_path, "b", 0)], "a", "b")
    with pytest.raises(DigitsError, match="two runs with the seed 0"):
        compare_seeds([a, finished_run(tmp_path, "a", 0)], [b], "a", "b")
    other = [finished_run(tmp_path, "b", seed, rows=range(900)) for seed in (0, 1)]
    with pytest.raises(DigitsError, match="in common: train both with the same split"):
        compare_seeds([a, finished_run(tmp_path, "a", 1)], other)


def test_the_runs_of_a_recipe_are_the_newest_of_each_seed_and_of_one_kind(tmp_path: Path) -> None:
    def dated(day: int, seed: int, **values: object) -> runs.Run:
        run = finished_run(tmp_path, "cnn", seed, **values)  # type: ignore[arg-type]
        run.update(created=f"2026-11-{day:02}")
        return run

    dated(1, 0)
    dated(2, 0, recipe_of={"train": {"epochs": 9}}).update(recipe={"name": "cnn", "train": {"epochs": 9}})
    dated(3, 1, rows=range(900), split=Split(0.2).spec())
    dated(4, 4, rows=None)
    zero, one, two = dated(5, 0), dated(6, 1), dated(7, 2)
    two.update(recipe={**two.record["recipe"], "description": "new words", "predict": {"views": 1}})
    finished_run(tmp_path, "deep").update(created="2026-11-30")
    unfinished = dated(8, 3)
    unfinished.update(status="failed")
    dated(9, 1).update(cut_short={"step": 3, "steps": 9})
    two.update(data={**two.record["data"], "train_images": 7})  # as where a teacher leaves some out
    ledger = runs.every(tmp_path)
    assert recipe_runs(ledger, "cnn") == [zero, one, two]
    folds = finished_run(tmp_path, "deep", rows=range(900), split=Split(0.2).spec())
    assert [run.record["seed"] for run in recipe_runs(ledger, "cnn", like=folds)] == [1]
    with pytest.raises(DigitsError, match=r"there is no run of the recipe mlp; there are runs of cnn, deep"):
        recipe_runs(ledger, "mlp")
    other = finished_run(tmp_path, "deep", rows=range(700), split=Split(0.3).spec())
    with pytest.raises(DigitsError, match="train both with the same split"):
        recipe_runs(ledger, "cnn", like=other)
    full = finished_run(tmp_path, "whole", rows=None)
    with pytest.raises(DigitsError, match="only runs with no dev score of the recipe whole"):
        recipe_runs([full], "whole")


def test_an_older_record_that_lacks_a_key_has_its_default(tmp_path: Path) -> None:
    old, new, other = (finished_run(tmp_path, "cnn", seed) for seed in range(3))
    for run, mining in ((old, {}), (new, {"draws": 1}), (other, {"draws": 4})):
        run.update(recipe={**run.record["recipe"], "mining": {"share": 0.25, "hardest": 0.4, **mining}})
    assert same_recipe(old, new)
    assert same_recipe(new, old)
    assert not same_recipe(old, other)


def test_runs_on_sample_data_are_compared_only_where_there_are_no_others(tmp_path: Path) -> None:
    sample = {"kind": "sample", "sha256": {"train.csv": "e" * 64, "test.csv": "f" * 64}, "test_images": 20}
    real = [finished_run(tmp_path, "cnn", seed=seed) for seed in (0, 1)]
    demo = finished_run(tmp_path, "cnn", data=sample)
    only = finished_run(tmp_path, "mlp", data=sample)
    ledger = [only, demo, *reversed(real)]
    assert recipe_runs(ledger, "cnn") == real
    assert recipe_runs(ledger, "mlp") == [only]
    for run in real:
        run.path("dev.npz").unlink()  # which is no reason yet: the data is
    with pytest.raises(DigitsError, match=r"were made with different data \(the SHA-256 of train.csv differs\)"):
        recipe_runs(ledger, "cnn", like=only)


@pytest.mark.parametrize(
    ("p", "text"),
    [(1.0, "p = 1"), (0.625, "p = 0.62"), (0.0312, "p = 0.031"), (1e-4, "p = 0.0001"), (9e-5, "p < 0.0001")],
)
def test_a_p_value_is_told_to_the_digits_that_matter(p: float, text: str) -> None:
    assert p_text(p) == text
