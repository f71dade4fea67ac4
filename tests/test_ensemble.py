"""Ensembles: members that are runs, trained in any order, stopped and gone on with, and averaged."""

import itertools
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jobs import LONG, Digits, begin, complete, files, quick_recipe, wait_until, without_plots

from digits import experiment, runs
from digits.data import Data
from digits.ensemble import End, EnsembleExperiment, Word
from digits.errors import DigitsError
from digits.nn import read_arrays
from digits.predict import blend
from digits.recipe import Recipe, from_table
from digits.runs import Run
from digits.split import Split
from digits.stats import Score

pytestmark = pytest.mark.usefixtures("unplotted")


def ensemble(members: int = 3, folds: int = 0, average: str = "probabilities", **changes: Any) -> Recipe:
    table = {**quick_recipe(epochs=2).resolved(), **changes}
    return from_table({**table, "ensemble": {"members": members, "folds": folds, "average": average}}, "several")


def train(run: Run, data: Data, workers: int = 1, words: int | None = None) -> list[Word | End]:
    """Train an ensemble until so many words were heard, and finish it if it is complete."""
    heard: list[Word | End] = []
    with EnsembleExperiment(run, data, run.folder.parent, workers) as work:
        for word in work.train(lambda: words is not None and len(heard) >= words):
            heard.append(word)
        if work.complete:
            work.finish()
    return heard


def whole(folder: Path, data: Data, recipe: Recipe, workers: int = 1, seed: int = 0, split: Split | None = None) -> Run:
    run = begin(folder, data, recipe, split, seed)
    train(run, data, workers)
    return runs.read(run.folder)


def all_files(run: Run) -> list[dict[str, bytes]]:
    return [files(part) for part in (run, *runs.members(run))]


@pytest.fixture(scope="module")
def three(sample_data: Data, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An ensemble of three, its members trained one after another."""
    with pytest.MonkeyPatch.context() as patch:
        without_plots(patch)
        return whole(tmp_path_factory.mktemp("three"), sample_data, ensemble(), seed=4)


@pytest.fixture
def copied(three: Run, tmp_path: Path) -> Run:
    shutil.copytree(three.folder.parent, tmp_path / "copy")
    return runs.read(tmp_path / "copy" / three.id)


def probabilities(run: Run, name: str = "test.npz") -> Any:
    return read_arrays(run.path(name))["probabilities"]


# --- what it comes to


def test_each_member_is_what_the_recipe_with_its_seed_trains_alone(
    three: Run, sample_data: Data, tmp_path: Path
) -> None:
    members = runs.members(three)
    assert [member.record["seed"] for member in members] == [12, 13, 14]
    for member in members:
        alone = complete(begin(tmp_path, sample_data, quick_recipe(epochs=2), seed=member.record["seed"]), sample_data)
        assert files(member) == files(alone)
        assert member.record["scores"] == alone.record["scores"]


def test_the_ensembles_probabilities_are_the_mean_of_its_members(three: Run) -> None:
    for name in ("test.npz", "dev.npz"):
        mean = np.mean([probabilities(member, name) for member in runs.members(three)], axis=0)
        np.testing.assert_allclose(probabilities(three, name), mean, rtol=1e-6)
    dev = read_arrays(three.path("dev.npz"))
    right = int((dev["probabilities"].argmax(axis=1) == dev["labels"]).sum())
    assert runs.dev_score(three) == Score(right, 60)


def test_its_record_says_what_it_and_each_member_is(three: Run) -> None:
    record, members = three.record, runs.members(three)
    documented = Run.__doc__ or ""
    assert all(key in documented for key in record)
    assert record["parameters"] == 3 * members[0].record["parameters"]
    assert record["scores"]["train"] is None
    assert [each["seed"] for each in record["members"]] == [12, 13, 14]
    assert [each["scores"] for each in record["members"]] == [member.record["scores"] for member in members]
    assert record["seconds"]["train"] == pytest.approx(sum(m.record["seconds"]["train"] for m in members), abs=0.02)


@pytest.mark.parametrize("workers", [2, 3, 4])
def test_members_side_by_side_give_the_same_bit_for_bit(
    three: Run, sample_data: Data, tmp_path: Path, workers: int
) -> None:
    assert all_files(whole(tmp_path, sample_data, ensemble(), workers, seed=4)) == all_files(three)


def test_with_folds_each_image_is_judged_by_those_that_did_not_see_it(sample_data: Data, tmp_path: Path) -> None:
    run = whole(tmp_path, sample_data, ensemble(5, folds=2), workers=2)
    members = runs.members(run)
    assert [member.record["split"]["fold"] for member in members] == [0, 1, 0, 1, 0]
    dev = read_arrays(run.path("dev.npz"))
    np.testing.assert_array_equal(dev["rows"], np.arange(600))
    np.testing.assert_array_equal(dev["labels"], sample_data.labels)
    parts = [read_arrays(member.path("dev.npz")) for member in members]
    for fold, judges in ((0, (0, 2, 4)), (1, (1, 3))):
        rows = Split(0.0, 2, fold).indices(sample_data.labels)[1]
        for judge in judges:
            np.testing.assert_array_equal(parts[judge]["rows"], rows)
        mean = np.mean([parts[judge]["probabilities"] for judge in judges], axis=0)
        np.testing.assert_allclose(dev["probabilities"][rows], mean, rtol=1e-6)
    assert runs.dev_score(run) is not None
    assert run.record["scores"]["dev"]["images"] == 600
    assert run.record["data"] == {**run.record["data"], "train_images": 600, "dev_images": 600}


@pytest.fixture(scope="module")
def mixed(sample_data: Data, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An ensemble of five over two folds, by two recipes in turn, the second of which predicts with three views."""
    table = quick_recipe(epochs=1).resolved()
    other = {**table, "name": "other", "predict": {"views": 3, "rotate": 20.0}, "optimizer": {"name": "sgd"}}
    recipe = from_table({**table, "ensemble": {"members": 5, "folds": 2, "others": [other]}}, "mixed")
    with pytest.MonkeyPatch.context() as patch:
        without_plots(patch)
        return whole(tmp_path_factory.mktemp("mixed"), sample_data, recipe, workers=2, seed=1)


def test_recipes_take_turns_and_each_sees_all_folds(mixed: Run, sample_data: Data, tmp_path: Path) -> None:
    members = runs.members(mixed)
    names = [member.record["recipe"]["name"] for member in members]
    assert names == ["quick", "other", "quick", "other", "quick"]
    assert [member.record["split"]["fold"] for member in members] == [0, 0, 1, 1, 0]
    assert [member.record["seed"] for member in members] == [5, 6, 7, 8, 9]
    assert mixed.record["parameters"] == sum(member.record["parameters"] for member in members)
    other = from_table(members[3].record["recipe"], "other")
    alone = complete(begin(tmp_path, sample_data, other, Split(0.0, 2, 1), 8), sample_data)
    assert files(members[3]) == files(alone)


def test_each_kind_predicts_as_its_own_recipe_says(mixed: Run, sample_data: Data, tmp_path: Path) -> None:
    mean = np.mean([probabilities(member) for member in runs.members(mixed)], axis=0)
    np.testing.assert_allclose(probabilities(mixed), mean, rtol=1e-6)
    shutil.copytree(mixed.folder.parent, tmp_path / "copy")
    again = runs.read(tmp_path / "copy" / mixed.id)
    before = files(again)
    again.path("test.npz").unlink()
    experiment.predict_again(again, sample_data, again.folder.parent, workers=2)
    assert files(again) == before


def test_on_all_images_there_is_no_dev_score_whatever_the_folds(sample_data: Data, tmp_path: Path) -> None:
    run = whole(tmp_path, sample_data, ensemble(2, folds=2), split=Split(0.0))
    assert runs.dev_score(run) is None
    assert not run.path("dev.npz").exists()
    assert [member.record["data"]["train_images"] for member in runs.members(run)] == [600, 600]


@pytest.mark.parametrize("average", ["logits", "votes"])
def test_the_average_is_the_recipes(three: Run, sample_data: Data, tmp_path: Path, average: str) -> None:
    run = whole(tmp_path, sample_data, ensemble(average=average), seed=4)
    parts = [probabilities(member) for member in runs.members(run)]
    for part, other in zip(parts, runs.members(three), strict=True):
        np.testing.assert_array_equal(part, probabilities(other))
    np.testing.assert_array_equal(probabilities(run), blend(parts, average))  # type: ignore[arg-type]
    assert not np.array_equal(probabilities(run), probabilities(three))


def test_a_finished_ensemble_is_found_again_as_long_as_its_members_have_weights(copied: Run, sample_data: Data) -> None:
    found = experiment.trained(copied.folder.parent, ensemble(), sample_data, Split(), 4)
    assert found is not None
    assert found.id == copied.id
    assert experiment.trained(copied.folder.parent, ensemble(2), sample_data, Split(), 4) is None
    runs.members(copied)[1].path("weights.npz").unlink()
    assert experiment.trained(copied.folder.parent, ensemble(), sample_data, Split(), 4) is None


def test_it_predicts_again_what_it_predicted(copied: Run, sample_data: Data) -> None:
    before = files(copied)
    copied.path("test.npz").unlink()
    experiment.predict_again(copied, sample_data, copied.folder.parent, 2)
    assert files(copied) == before
    view = experiment.look_at(copied, sample_data, 7, test=True)
    np.testing.assert_allclose(view.probabilities, probabilities(copied)[7], rtol=1e-5)


def test_without_a_member_it_predicts_nothing(copied: Run, sample_data: Data) -> None:
    shutil.rmtree(copied.path("members") / "2")
    with pytest.raises(DigitsError, match=r"has 2 of its 3 members here: train it anew"):
        experiment.predict_again(copied, sample_data, copied.folder.parent, 1)


# --- stopping and going on


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("words", [0, 1, 2, 4])
def test_a_stopped_one_goes_on_to_the_same_bit_for_bit(
    three: Run, sample_data: Data, tmp_path: Path, words: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("digits.ensemble.WORD_SECONDS", 0.0)
    run = begin(tmp_path, sample_data, ensemble(), seed=4)
    train(run, sample_data, workers, words)
    assert runs.read(run.folder).record["status"] == "training"
    assert not run.path("submission.csv").exists()
    train(run, sample_data, 3 - workers)
    assert runs.read(run.folder).record["status"] == "finished"
    assert all_files(run) == all_files(three)


def test_what_is_finished_is_not_trained_again(sample_data: Data, tmp_path: Path) -> None:
    run = begin(tmp_path, sample_data, ensemble(), seed=4)
    ended: list[int] = []
    with EnsembleExperiment(run, sample_data, tmp_path, 1) as work:
        for word in work.train(lambda: bool(ended)):
            if isinstance(word, End):
                ended.append(word.number)
    assert ended == [0]
    written = run.path("members") / "0" / "weights.npz"
    before = written.stat().st_mtime_ns
    heard = train(run, sample_data)
    assert [word.number for word in heard if isinstance(word, End)] == [0, 1, 2]
    assert {word.number for word in heard if isinstance(word, Word)} == {1, 2}
    assert written.stat().st_mtime_ns == before


def test_the_words_of_a_member_go_up_to_its_last_step(
    sample_data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("digits.ensemble.WORD_SECONDS", 0.0)
    heard = train(begin(tmp_path, sample_data, ensemble(2)), sample_data, workers=2)
    for number in (0, 1):
        words = [word for word in heard if word.number == number]
        steps = [word.step for word in words if isinstance(word, Word)]
        assert steps == sorted(set(steps))
        assert steps[-1] == words[0].steps == 22  # type: ignore[union-attr]
        assert isinstance(words[-1], End)
        assert words[-1].score is not None
        assert words[-1].seconds > 0


def test_a_finished_one_is_not_gone_on_with(copied: Run, sample_data: Data) -> None:
    with (
        pytest.raises(DigitsError, match="is finished, there is nothing to resume"),
        EnsembleExperiment(copied, sample_data, copied.folder.parent, 1),
    ):
        pass


def test_a_member_of_another_recipe_is_refused(sample_data: Data, tmp_path: Path) -> None:
    run = begin(tmp_path, sample_data, ensemble(), seed=4)
    runs.member(run, 1, experiment.beginning(quick_recipe(epochs=3), sample_data, Split(), 13, 1, tmp_path))
    with pytest.raises(DigitsError, match=r"members/1 is of another recipe than the ensemble"):
        train(run, sample_data)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_member_that_diverges_fails_the_ensemble_in_a_sentence(
    sample_data: Data, tmp_path: Path, workers: int
) -> None:
    wild = ensemble(2, optimizer={"name": "sgd", "lr": 1e30})
    run = begin(tmp_path, sample_data, wild)
    with pytest.raises(DigitsError, match="diverged"):
        train(run, sample_data, workers)
    record = runs.read(run.folder).record
    assert record["status"] == "failed"
    assert record["reason"].startswith(("member 1/2: ", "member 2/2: "))
    with pytest.raises(DigitsError, match=f"the run {run.id} failed for good"):
        train(run, sample_data, workers)


def test_a_member_whose_process_dies_is_told_of_and_the_ensemble_goes_on_later(
    three: Run, sample_data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, real = begin(tmp_path, sample_data, ensemble(), seed=4), EnsembleExperiment._train
    monkeypatch.setattr(EnsembleExperiment, "_train", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with (
        EnsembleExperiment(run, sample_data, tmp_path, 3) as work,
        pytest.raises(DigitsError, match=r"a member's process has ended \(exit status -9\)"),
    ):
        list(work.train(lambda: False))
    monkeypatch.setattr(EnsembleExperiment, "_train", real)
    train(run, sample_data, 2)
    assert all_files(run) == all_files(three)


# --- what is asked of it


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (Split(0.0, 3, 0), "is an ensemble of 4 over 2 folds of its own: leave out --folds"),
        (Split(0.0, 3), "is an ensemble of 4 over 2 folds of its own: leave out --folds"),
    ],
)
def test_folds_beside_the_recipes_own_are_refused(
    sample_data: Data, tmp_path: Path, split: Split, message: str
) -> None:
    with pytest.raises(DigitsError, match=message):
        begin(tmp_path, sample_data, ensemble(4, folds=2), split)
    assert runs.every(tmp_path) == []


def test_the_split_seed_draws_the_folds(sample_data: Data, tmp_path: Path) -> None:
    run = begin(tmp_path, sample_data, ensemble(4, folds=2), Split(seed=9))
    assert run.record["split"] == {"fraction": 0.0, "folds": 2, "fold": None, "seed": 9}


# --- blending


def test_blends_worked_out_by_hand() -> None:
    one, two = np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([[0.5, 0.5], [0.6, 0.4]])
    np.testing.assert_allclose(blend([one, two]), [[0.7, 0.3], [0.4, 0.6]])
    # The geometric means are √.45 = .6708, √.05 = .2236 and √.12 = .3464, √.32 = .5657, over their sums.
    np.testing.assert_allclose(blend([one, two], "logits"), [[0.75, 0.25], [0.379796, 0.620204]], rtol=1e-5)
    np.testing.assert_allclose(blend([one, two], "votes"), [[1.0, 0.0], [0.5, 0.5]])


@pytest.mark.parametrize("how", ["probabilities", "logits", "votes"])
def test_a_blend_of_one_is_itself_or_its_vote(how: Any) -> None:
    p = np.array([[0.9, 0.1], [0.25, 0.75]], np.float32)
    wanted = np.eye(2)[[0, 1]] if how == "votes" else p
    np.testing.assert_allclose(blend([p], how), wanted, rtol=1e-6)
    assert blend([p], how).dtype == np.float32


def test_certain_zeros_are_no_trouble_to_logits() -> None:
    p = blend([np.array([[1.0, 0.0]], np.float32), np.array([[0.0, 1.0]], np.float32)], "logits")
    np.testing.assert_allclose(p, [[0.5, 0.5]])


# --- as a process


@pytest.fixture
def digits(tmp_path: Path, sample_folder: Path) -> Digits:
    # Of an odd number two workers would train the first together, and none beside it.
    (tmp_path / "many.toml").write_text(LONG + "[ensemble]\nmembers = 4\n")
    (tmp_path / "data").symlink_to(sample_folder)
    return Digits(tmp_path, plots=False)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_all_stops_every_member_after_a_step(digits: Digits, number: int, status: int) -> None:
    process = digits.start("train", "many.toml", "--workers", 2, pause=0.1)

    def at_work() -> Iterator[Run]:
        return itertools.chain.from_iterable(map(runs.members, runs.every(digits.submissions)))

    wait_until(lambda: sum(bool(member.log()) for member in at_work()) >= 2, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (status, "")
    run = digits.run()
    assert f"stopped with 0 of 4 members finished; go on with: digits train --resume {run.id}\n" in out
    assert run.status == "interrupted"
    code, out, err = digits("train", "--resume", run.id)
    assert (code, err) == (0, "")
    assert "member 4/4  dev " in out
    assert digits.run().record["status"] == "finished"
