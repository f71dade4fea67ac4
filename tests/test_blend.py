"""Blends: weights that are right, scores that are honest, and runs like any other."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jobs import begin, complete
from ledgers import answers, finished_run
from typer.testing import CliRunner

from digits import blend as blends
from digits import experiment, leaderboard, runs
from digits.blend import blended, cross_fitted, fitted
from digits.cli import app
from digits.comparison import compare
from digits.data import Data
from digits.errors import DigitsError
from digits.heldout import held_out
from digits.nn import Workers, read_arrays
from digits.predict import blend
from digits.runs import Run
from digits.split import Split

AVERAGES: list[Any] = ["probabilities", "logits"]


def loss(p: np.ndarray, labels: np.ndarray) -> float:
    return float(-np.log(p[np.arange(len(labels)), labels].astype(np.float64)).mean())


def drawn(seed: int, images: int = 200, members: int = 3, sure: float = 3.0) -> tuple[list[np.ndarray], np.ndarray]:
    """Probabilities that are right more often than not, the first member's most often."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, images)
    parts = []
    for member in range(members):
        logits = rng.normal(size=(images, 10))
        logits[np.arange(images), labels] += sure - member
        p = np.exp(logits)
        parts.append((p / p.sum(axis=1, keepdims=True)).astype(np.float32))
    return parts, labels


# --- the weights


@pytest.mark.parametrize("average", AVERAGES)
@given(seed=st.integers(0, 10**6), members=st.integers(2, 4))
@settings(deadline=None, max_examples=12)
def test_fitted_weights_are_a_share_each_and_no_others_are_better(average: Any, seed: int, members: int) -> None:
    parts, labels = drawn(seed, members=members)
    mix = fitted(parts, labels, average)
    assert all(weight >= 0 for weight in mix.weights)
    assert sum(mix.weights) == pytest.approx(1, abs=1e-9)
    least = loss(mix.of(parts, average), labels)
    rng = np.random.default_rng(seed)
    for other in [*np.eye(members), *rng.dirichlet(np.ones(members), 20)]:
        assert least <= loss(blends.Mix(tuple(other), mix.powers).of(parts, average), labels) + 1e-5


def test_the_weights_of_two_members_by_hand() -> None:
    # One gives two images' labels the probabilities 0.8 and 0.4, the other 0.2 and 0.8. The loss, the mean of
    # -log(0.2 + 0.6 w) and -log(0.8 - 0.4 w), is least where 0.6 (0.8 - 0.4 w) = 0.4 (0.2 + 0.6 w): at w = 5/6.
    p = np.zeros((2, 2, 10))
    p[:, :, 0] = [[0.8, 0.4], [0.2, 0.8]]
    p[:, :, 9] = 1 - p[:, :, 0]
    labels = np.array([0, 0])
    loss_of = blends._mixture_loss(list(p), labels)
    value, gradient = loss_of(np.array([5 / 6, 1 / 6]))
    assert value == pytest.approx(-(np.log(0.7) + np.log(1.4 / 3)) / 2)
    assert gradient[0] == pytest.approx(gradient[1])
    assert min(loss_of(np.array([0.8, 0.2]))[0], loss_of(np.array([0.87, 0.13]))[0]) > value


@pytest.mark.parametrize("average", AVERAGES)
def test_the_gradients_are_those_of_the_losses(average: Any) -> None:
    parts, labels = drawn(5)
    loss_of = (blends._mixture_loss if average == "probabilities" else blends._product_loss)(parts, labels)
    weights = np.array([0.5, 0.3, 0.2])
    value, gradient = loss_of(weights)
    assert value == pytest.approx(loss(blend(parts, average, weights), labels), rel=1e-5)
    for member in range(3):
        step = np.eye(3)[member] * 1e-6
        slope = (loss_of(weights + step)[0] - loss_of(weights - step)[0]) / 2e-6
        assert gradient[member] == pytest.approx(slope, rel=1e-5)


def test_a_member_is_not_preferred_for_being_surer_of_itself() -> None:
    parts, labels = drawn(3, images=400, members=2)
    doubted = [parts[0], blends.sharpened(parts[1], 0.4)]
    one, other = fitted(parts, labels, "probabilities"), fitted(doubted, labels, "probabilities")
    assert one.weights == pytest.approx(other.weights, abs=0.01)
    assert other.powers[1] == pytest.approx(one.powers[1] / 0.4, abs=0.03)


def test_a_power_makes_a_members_own_loss_least() -> None:
    parts, labels = drawn(4)
    power = blends._best_power(parts[0], labels)
    least = loss(blends.sharpened(parts[0], power), labels)
    assert least < loss(parts[0], labels)
    for other in (0.9, 0.99, 1.01, 1.1):
        assert least <= loss(blends.sharpened(parts[0], power * other), labels)
    right = answers(np.arange(50) % 10, [])
    assert 5 < blends._best_power(right, np.arange(50) % 10) <= blends.SHARPEST


def test_no_image_is_judged_with_weights_that_know_its_label() -> None:
    parts, labels = drawn(6, images=120)
    out = cross_fitted(parts, labels, "probabilities")
    others, these = Split(0.0, blends.PARTS, 3).indices(labels)
    mix = fitted([part[others] for part in parts], labels[others], "probabilities")
    np.testing.assert_array_equal(out[these], mix.of([part[these] for part in parts], "probabilities"))
    assert loss(out, labels) > loss(fitted(parts, labels, "probabilities").of(parts, "probabilities"), labels)


def test_members_that_know_nothing_get_no_better_score_by_fitting() -> None:
    # Ten members that guess: weights fitted on the images that they are judged on would seem to have learnt something.
    scores = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 10, 150)
        parts = [rng.dirichlet(np.ones(10), 150).astype(np.float32) for _ in range(10)]
        out = cross_fitted(parts, labels, "probabilities")
        scores.append(float((out.argmax(axis=1) == labels).mean()))
    assert np.mean(scores) < 0.1 + 3 * np.sqrt(0.09 / 600)


# --- the run


@pytest.fixture
def trio(sample_data: Data, tmp_path: Path, unplotted: None) -> list[Run]:
    """Three trained runs of one split."""
    return [complete(begin(tmp_path, sample_data, seed=seed), sample_data) for seed in range(3)]


def test_a_blend_is_a_run_like_any_other(trio: list[Run], sample_data: Data, tmp_path: Path) -> None:
    run = blended(trio[:2]).write(sample_data, tmp_path)
    assert runs.read(run.folder) == run
    assert run.status == "finished"
    assert run.sample
    assert run.id.endswith("-blend-s0-sample")
    assert run.record["recipe"]["blend"] == {
        "members": [member.id for member in trio[:2]],
        "average": "probabilities",
        "weights": "equal",
    }
    assert [(one["run"], one["weight"]) for one in run.record["members"]] == [(one.id, 0.5) for one in trio[:2]]
    tests = [read_arrays(one.path("test.npz"))["probabilities"] for one in trio[:2]]
    np.testing.assert_array_equal(read_arrays(run.path("test.npz"))["probabilities"], blend(tests))
    answers, first = held_out(run), held_out(trio[0])
    np.testing.assert_array_equal(answers.rows, first.rows)
    np.testing.assert_array_equal(answers.probabilities, blend([held_out(one).probabilities for one in trio[:2]]))
    assert run.record["split"] == trio[0].record["split"]
    assert run.record["seconds"]["train"] == pytest.approx(
        sum(one.record["seconds"]["train"] for one in trio[:2]), abs=0.01
    )
    assert run.missing() == []
    assert compare(trio[0], run).plain()["b"]["recipe"] == "blend"
    run.update(data={**run.record["data"], "kind": "own"})
    (row,) = leaderboard.rows([runs.read(run.folder)], tmp_path)
    assert (row.recipe, row.judged, row.problem) == ("blend", "dev", None)


def test_a_blend_predicts_what_its_members_do_together(trio: list[Run], sample_data: Data, tmp_path: Path) -> None:
    run = blended(trio, "logits", fit=True).write(sample_data, tmp_path)
    before = {name: run.path(name).read_bytes() for name in ("submission.csv", "dev.npz")}
    wanted = read_arrays(run.path("test.npz"))["probabilities"]
    with Workers(1) as workers:
        p = experiment.predict_with(run, sample_data.test_images, workers)
    np.testing.assert_allclose(p, wanted, rtol=1e-4, atol=1e-7)
    experiment.predict_again(run, sample_data, tmp_path, 1)
    assert {name: run.path(name).read_bytes() for name in before} == before
    assert "blend" in experiment.look_at(run, sample_data, 3, test=False).title
    with pytest.raises(DigitsError, match="is a blend, which is not trained"):
        experiment.Experiment(run, sample_data, tmp_path, 1)
    again = blended([run, trio[0]]).write(sample_data, tmp_path)
    assert held_out(again).rows.tolist() == held_out(run).rows.tolist()
    runs.remove(trio[1].folder)
    with pytest.raises(DigitsError, match="holds no run"), Workers(1) as workers:
        experiment.predict_with(run, sample_data.test_images, workers)


def test_a_fitted_blend_is_judged_across_and_predicts_with_all(
    trio: list[Run], sample_data: Data, tmp_path: Path
) -> None:
    found = blended(trio, fit=True)
    parts = [held_out(one).probabilities for one in trio]
    labels = held_out(trio[0]).labels
    assert found.mix == fitted(parts, labels, "probabilities")
    run = found.write(sample_data, tmp_path)
    np.testing.assert_array_equal(held_out(run).probabilities, cross_fitted(parts, labels, "probabilities"))
    assert tuple(one["weight"] for one in run.record["members"]) == found.mix.weights
    assert run.record["recipe"]["blend"]["weights"] == "fit"


def test_only_images_that_no_member_was_trained_on_are_judged(tmp_path: Path) -> None:
    a = finished_run(tmp_path, "a", rows=range(0, 600), wrong=[450], split=Split(0.0, 5, 0).spec())
    b = finished_run(tmp_path, "b", rows=range(400, 900), wrong=[1], split=Split(0.3, seed=7).spec())
    c = finished_run(tmp_path, "c", rows=range(1000), wrong=[450, 451], split=Split(0.0, 5).spec())
    found = blended([a, b, c])
    assert found.parts[0].rows.tolist() == list(range(400, 600))
    assert [part.right.sum() for part in found.parts] == [199, 199, 198]
    assert found._split() == {"common": [a.record["split"], b.record["split"], c.record["split"]]}
    assert blended([a, c])._split() == a.record["split"]


def test_a_blend_with_nothing_to_judge_it_on_has_no_dev_score_and_no_fitted_weights(tmp_path: Path) -> None:
    a = finished_run(tmp_path, "a", rows=range(0, 500), split=Split(0.0, 2, 0).spec())
    b = finished_run(tmp_path, "b", rows=range(500, 1000), split=Split(0.0, 2, 1).spec())
    full = finished_run(tmp_path, "c", rows=None)
    found = blended([a, b])
    assert found.dev is None
    assert found.unjudged == (
        f"{a.id} held out fold 0 of 2 (split seed 0), {b.id} held out fold 1 of 2 (split seed 0), "
        "so that each image was trained on by one of them"
    )
    assert blended([a, full]).unjudged == f"{full.id} was trained on all labelled images"
    for other in (b, full):
        with pytest.raises(DigitsError, match="fitted on images that no member was trained on, and there are none"):
            blended([a, other], fit=True)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda run: run.update(status="training"), "is not finished"),
        (lambda run: run.update(data={**run.record["data"], "sha256": {"train.csv": "0"}}), "different data"),
        (lambda run: run.path("test.npz").unlink(), "digits predict"),
        (lambda run: run.path("test.npz").write_bytes(b"PK"), "digits predict"),
        (lambda run: run.path("dev.npz").unlink(), "dev.npz is missing"),
    ],
)
def test_runs_that_cannot_be_blended_are_refused(tmp_path: Path, spoil: Any, said: str) -> None:
    a, b = finished_run(tmp_path, "a"), finished_run(tmp_path, "b")
    spoil(b)
    with pytest.raises(DigitsError, match=said):
        blended([a, b])


def test_a_blend_is_of_two_or_more(tmp_path: Path) -> None:
    a, b = finished_run(tmp_path, "a"), finished_run(tmp_path, "b", test=answers(np.arange(30) % 10, []))
    for few in ([a], [a, a], []):
        with pytest.raises(DigitsError, match="two runs or more, each of them once"):
            blended(few)
    with pytest.raises(DigitsError, match="different numbers of test images"):
        blended([a, b])
    with pytest.raises(DigitsError, match="votes have no log loss"):
        blended([a, finished_run(tmp_path, "c")], "votes", fit=True)


def test_the_command_blends_and_says_what_it_is_worth(trio: list[Run], sample_folder: Path, tmp_path: Path) -> None:
    where = ["--submissions", str(tmp_path), "--data", str(sample_folder)]
    done = CliRunner().invoke(app, ["blend", trio[0].id, trio[2].id, "--weights", "fit", *where])
    assert done.exit_code == 0, done.exception
    (made,) = (run for run in runs.every(tmp_path) if run.record["recipe"]["name"] == "blend")
    for said in (made.id, str(runs.dev_score(made)), "judged with weights that were fitted on the others"):
        assert said in done.stdout
    assert any(word in done.stdout for word in ("is better than", "equally many right"))
    shown = CliRunner().invoke(app, ["run", "show", made.id, "--submissions", str(tmp_path)])
    assert shown.exit_code == 0, shown.exception
    assert shown.stdout.count("blended of") == 2
    done = CliRunner().invoke(app, ["blend", made.id, trio[1].id, "--average", "votes", "--json", *where])
    answer = json.loads(done.stdout)
    assert answer["recipe"]["blend"]["average"] == "votes"
    assert answer["scores"]["dev"]["images"] == 60
