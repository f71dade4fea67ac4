"""A run in a session of Kaggle: what it finds, how it goes on, and that it ends in time with what there is."""

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from jobs import complete
from sessions import kaggle_root

from digits import data as datasets
from digits import experiment, recipe, runs, sitting
from digits.errors import DigitsError
from digits.machine import single_threaded_blas
from digits.nn import Workers, read_arrays
from digits.runs import Run
from digits.sitting import ROOT, News, Sitting, mounted
from digits.split import Split

QUICK = """
network = [{ layer = "flatten" }, { layer = "dense", units = 16 }, { layer = "relu" }, { layer = "dense", units = 10 }]
[train]
epochs = 3
batch_size = 50
[optimizer]
lr = 0.01
"""
ENSEMBLE = 'extends = "quick.toml"\n[ensemble]\nmembers = 3\nfolds = 3\n'

pytestmark = pytest.mark.usefixtures("unplotted")


@pytest.fixture
def kaggle(tmp_path: Path, sample_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that has what /kaggle has, and the current folder with recipes."""
    monkeypatch.setenv(ROOT, str(kaggle_root(tmp_path / "kaggle", sample_folder)))
    monkeypatch.chdir(tmp_path)
    Path("quick.toml").write_text(QUICK)
    Path("three.toml").write_text(ENSEMBLE)
    return tmp_path / "kaggle"


def run_of(here: Sitting) -> Run:
    (run,) = runs.every(here.working / "submissions")
    return run


def local(folder: Path, data: Path, which: str, seed: int = 0) -> Run:
    """The run that the kit makes of it here."""
    found = datasets.load(data)
    run = experiment.begin(recipe.load(which), found, Split(), seed, 2, folder)
    return complete(run, found, 2)


@pytest.mark.parametrize("place", ["competitions/digit-recognizer", "digit-recognizer"])
def test_the_data_is_found_in_both_places(place: str, tmp_path: Path) -> None:
    (tmp_path / "input" / place).mkdir(parents=True)
    assert mounted(tmp_path) == tmp_path / "input" / place


def test_data_that_is_not_mounted_is_told_of_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DigitsError, match="press Add Input"):
        mounted(tmp_path)


def test_a_sitting_does_what_the_kit_does(kaggle: Path, sample_folder: Path, tmp_path: Path) -> None:
    here = Sitting("quick.toml", 3, hours=1, commit="0123abc-dirty")
    heard = list(here.train())
    assert heard[-1] == News(1.0, "finished")
    assert [news.line.split("  ")[0].strip() for news in heard if news.line] == [f"epoch {n} of 3" for n in (1, 2, 3)]
    run = run_of(here)
    wanted = local(tmp_path / "local", sample_folder, "quick.toml", 3)
    for name in ("weights.npz", "dev.npz", "test.npz", "submission.csv"):
        assert run.path(name).read_bytes() == wanted.path(name).read_bytes()
    assert (run.record["code"]["commit"], run.record["code"]["dirty"]) == ("0123abc", True)
    assert "cut_short" not in run.record
    assert here.write_submission().read_bytes() == wanted.path("submission.csv").read_bytes()
    assert here.write_submission() == kaggle / "working" / "submission.csv"


def test_what_is_finished_is_not_trained_again_and_another_seed_is(kaggle: Path) -> None:
    for _ in range(2):
        heard = list(Sitting("quick.toml", hours=1).train())
    assert [news.line for news in heard] == [
        f"{runs.every(kaggle / 'working/submissions')[0].id} is finished: nothing is trained"
    ]
    list(Sitting("quick.toml", 1, hours=1).train())
    assert len(runs.every(kaggle / "working" / "submissions")) == 2


def test_no_submission_is_written_of_a_run_that_is_not_finished(kaggle: Path) -> None:
    with pytest.raises(DigitsError, match="run the training first"):
        Sitting("quick.toml", hours=1).write_submission()


def test_when_time_is_up_the_run_is_finished_with_the_weights_as_they_are(kaggle: Path) -> None:
    here = Sitting("quick.toml", hours=1)
    lines = []
    for news in here.train():
        lines.append(news.line)
        if news.line and news.line.startswith("epoch 1"):
            here.end = time.monotonic()
    run = run_of(here)
    assert "time is up: the run is finished with what there is" in lines
    short = run.record["cut_short"]
    assert 0 < short["step"] < short["steps"] == 33  # 540 images, 50 at a time, three times
    assert run.record["status"] == "finished"
    assert runs.dev_score(run)
    assert here.write_submission().exists()
    # It does not count as a run of the whole recipe.
    assert experiment.trained(run.folder.parent, here.recipe, here.data, here.split, 0) is None


def test_an_ensemble_out_of_time_is_made_of_the_members_that_are_finished(kaggle: Path) -> None:
    here = Sitting("three.toml", hours=1)
    here.workers = 1
    for news in here.train():
        if news.line and news.line.startswith("member"):
            here.end = time.monotonic()
    run = run_of(here)
    done = [part for part in runs.members(run) if part.record["status"] == "finished"]
    assert 1 <= len(done) < 3
    assert run.record["cut_short"] == {"members": len(done), "of": 3}
    held_out = read_arrays(run.path("dev.npz"))
    rows = np.sort(np.concatenate([read_arrays(part.path("dev.npz"))["rows"] for part in done]))
    assert np.array_equal(held_out["rows"], rows)
    if len(done) == 1:
        assert np.array_equal(held_out["probabilities"], read_arrays(done[0].path("dev.npz"))["probabilities"])
    assert here.write_submission().exists()
    # What is here can be predicted with again.
    with single_threaded_blas(), Workers(1) as workers:
        p = experiment.predict_with(run, here.data.test_images, workers)
    assert np.array_equal(p, read_arrays(run.path("test.npz"))["probabilities"])


def test_an_ensemble_with_no_time_for_one_member_takes_the_weights_as_they_are(kaggle: Path) -> None:
    here = Sitting("three.toml", hours=0)
    list(here.train())
    run = run_of(here)
    assert run.record["status"] == "finished"
    assert here.write_submission().exists()
    assert all("cut_short" in part.record for part in runs.members(run) if part.record["status"] == "finished")
    assert "cut_short" in run.record


def test_an_ensemble_all_of_whose_members_were_at_work_when_time_was_up_says_so(kaggle: Path) -> None:
    here = Sitting("three.toml", hours=0)
    here.workers = 3
    list(here.train())
    run = run_of(here)
    parts = [part.record["cut_short"] for part in runs.members(run)]
    assert len(parts) == 3
    assert run.record["cut_short"] == min(parts, key=lambda part: part["step"])
    assert experiment.trained(run.folder.parent, here.recipe, here.data, here.split, 0) is None


def test_the_stop_button_saves_and_the_same_cell_goes_on(kaggle: Path, sample_folder: Path, tmp_path: Path) -> None:
    here = Sitting("quick.toml", hours=1)

    def press_stop_after_an_epoch() -> None:
        for news in here.train():
            if news.line:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="run this again and it goes on"):
        press_stop_after_an_epoch()
    assert run_of(here).record["status"] == "training"
    again = Sitting("quick.toml", hours=1)
    lines = [news.line for news in again.train() if news.line]
    assert len(lines) == 2
    wanted = local(tmp_path / "local", sample_folder, "quick.toml")
    assert run_of(again).path("weights.npz").read_bytes() == wanted.path("weights.npz").read_bytes()


def test_members_can_be_asked_for_of_any_recipe_and_not_more_folds_than_members(kaggle: Path) -> None:
    assert Sitting("quick.toml", hours=1, members=4).recipe.ensemble.members == 4
    with pytest.raises(DigitsError, match="can't have 2 members"):
        sitting.ensemble_of(recipe.load("three.toml"), 2)


def test_only_some_of_the_members_are_trained(kaggle: Path) -> None:
    here = Sitting("three.toml", hours=1, only=[2])
    list(here.train())
    run = run_of(here)
    assert [part.id for part in runs.members(run) if part.record["status"] == "finished"] == ["2"]
    assert run.record["cut_short"] == {"members": 1, "of": 3}


def test_all_images_are_trained_on_where_that_is_asked_for(kaggle: Path) -> None:
    here = Sitting("quick.toml", hours=1, full=True)
    list(here.train())
    record = json.loads(run_of(here).path("run.json").read_text())
    assert record["data"]["dev_images"] == 0
    assert record["scores"]["dev"] is None
    assert "no dev split" in str(here)
