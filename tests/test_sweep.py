"""Configurations side by side: each as `digits train` would have it, however they are stopped and gone on with."""

import json
import os
import shutil
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jobs import UNPLOTTED, begin, complete, files, quick_recipe

from digits import runs
from digits.data import Data
from digits.errors import DigitsError
from digits.recipe import Recipe, from_table
from digits.runs import Run
from digits.split import Split
from digits.sweep import fanout, grid, ranking, sweep, sweeps
from digits.sweep.fanout import Place, Task
from digits.sweep.sweep import Rung, Sweep
from digits.sweep.trial import Failure, News

HERE = Place(workers=1)  # this process, so that what is patched is so where trainings are
LEARNS = {"optimizer.lr": 0.005}
CRAWLS = {"optimizer.lr": 1e-7}
DIVERGES = {"optimizer.lr": 1e30}


def recipe() -> Recipe:
    """A recipe of 8 epochs whose schedule is of all of them."""
    table = quick_recipe(epochs=8).resolved()
    return from_table({**table, "schedule": {"name": "one-cycle"}}, "quick")


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for news."""
    monkeypatch.setattr(sweep, "LOOK_SECONDS", 0.01)


@pytest.fixture
def folder(tmp_path: Path, sample_folder: Path) -> Path:
    """A folder with data; its ledger is under `submissions`."""
    (tmp_path / "data").symlink_to(sample_folder)
    return tmp_path


def swept(folder: Path, data: Data, *settings: dict[str, Any], seeds: int = 1, **options: Any) -> Sweep:
    """The sweep of these settings, not trained yet."""
    configurations = grid.configurations(recipe(), settings)
    return sweeps.begin(folder / "submissions", "quick", configurations, data, Split(), range(seeds), **options)


def train(
    work: Sweep, data: Data, place: Place = HERE, stop: Callable[[], bool] = lambda: False
) -> list[News | Failure | Rung]:
    """All that is heard of it."""
    return list(work.train(data, work.submissions.parent / "data", place, stop))


def runs_of(work: Sweep) -> list[Run]:
    return [runs.read(trial.folder) for trial in work.trials()]


def log(run: Run) -> list[dict[str, Any]]:
    return [{**line, "seconds": 0} for line in run.log()]


def alone(folder: Path, data: Data, settings: dict[str, Any], seed: int) -> Run:
    """The run that `digits train` makes of it."""
    return complete(begin(folder, data, grid.configured(recipe(), settings), seed=seed), data)


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(DigitsError) as caught:
        act()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- what comes of a sweep


@pytest.mark.usefixtures("unplotted")
def test_runs_are_those_of_digits_train_and_one_that_is_stopped_is_the_beginning_of_it(
    folder: Path, sample_data: Data
) -> None:
    work = swept(folder, sample_data, LEARNS, CRAWLS, seeds=2)
    heard = train(work, sample_data)
    assert work.finished
    for trial, run in zip(work.trials(), runs_of(work), strict=True):
        settings = work.entries[trial.number].settings
        expected = alone(folder / "alone", sample_data, settings, trial.seed)
        if settings == LEARNS:
            assert files(run) == files(expected)
            assert run.record["scores"] == expected.record["scores"]
            assert log(run) == log(expected)
        else:
            assert log(run) == log(expected)[:2]
            assert run.status == "interrupted"
            assert files(complete(run, sample_data)) == files(expected)  # and it can still be gone on with
        assert run.record["sweep"] == {"id": work.id, "settings": settings}
        assert run.record["workers"] == 1
    (rung,) = [each for each in heard if isinstance(each, Rung)]  # then one is left, and goes on to the end
    assert (rung.fraction, rung.configurations, [loser.number for loser in rung.losers]) == (0.25, 2, [1])
    epochs = [each.epoch for each in heard if isinstance(each, News) and each.trial.number == 0]
    assert sorted(epochs) == sorted([*range(1, 9)] * 2)
    assert [each.epoch for each in heard if isinstance(each, News) and each.last and each.trial.seed] == [2, 2, 8]
    assert not (folder / "submissions" / "submission.csv").exists()  # which one to submit, a person says


@pytest.mark.usefixtures("unplotted")
def test_its_rows_are_the_best_first_with_what_was_stopped_and_what_diverged(folder: Path, sample_data: Data) -> None:
    work = swept(folder, sample_data, DIVERGES, CRAWLS, LEARNS, seeds=2)
    heard = train(work, sample_data)
    assert {each.trial.number for each in heard if isinstance(each, Failure)} == {0}
    best, stopped, diverged = ranking.rows(work)
    scores = [run.record["scores"]["dev"]["accuracy"] for run in runs_of(work) if "scores" in run.record]
    seconds = [run.record["seconds"]["train"] for run in runs_of(work) if "seconds" in run.record]
    assert (best.settings, best.status, best.epoch, best.epochs) == (LEARNS, "finished", 8, 8)
    assert best.standing is not None
    assert (best.standing.accuracies, best.standing.images) == (tuple(scores), 60)
    assert best.seconds == pytest.approx(sum(seconds) / 2)
    assert (stopped.settings, stopped.status, stopped.epoch, stopped.epochs) == (CRAWLS, "stopped", 2, 8)
    assert stopped.standing is not None
    at_two = [run.log()[1]["dev_accuracy"] for run in runs_of(work)[2:4]]
    assert stopped.standing.accuracies == tuple(at_two)
    assert (diverged.settings, diverged.status, diverged.standing) == (DIVERGES, "diverged", None)
    assert "the training diverged" in str(diverged.reason)
    plain = json.loads(json.dumps([row.plain() for row in ranking.rows(work)]))
    assert plain[0]["dev_accuracy"] == pytest.approx(sum(scores) / 2)
    assert plain[0]["standard_error"] == best.standing.standard_error
    assert plain[2]["dev_accuracies"] is None


@pytest.mark.usefixtures("unplotted")
def test_without_rungs_all_are_trained_to_the_end_and_the_stopped_ones_go_on(folder: Path, sample_data: Data) -> None:
    first = swept(folder, sample_data, LEARNS, CRAWLS)
    train(first, sample_data)
    assert ranking.rows(first)[1].status == "stopped"
    second = swept(folder, sample_data, LEARNS, CRAWLS, halving=())
    assert second.id != first.id
    assert [entry.runs for entry in second.entries] == [entry.runs for entry in first.entries]
    heard = train(second, sample_data)
    assert [each.epoch for each in heard if isinstance(each, News)] == [3, 4, 5, 6, 7, 8]
    assert [row.status for row in ranking.rows(second)] == ["finished", "finished"]


# --- nothing is trained twice


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever trains fails the test."""
    monkeypatch.setattr(sweep, "side_by_side", lambda *_: pytest.fail("it was trained"))


@pytest.mark.usefixtures("unplotted")
def test_the_same_again_is_the_same_sweep_and_trains_nothing(
    folder: Path, sample_data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, meanwhile = (swept(folder, sample_data, LEARNS, CRAWLS) for _ in range(2))
    train(work, sample_data)
    rows = ranking.rows(work)
    monkeypatch.setattr(sweep, "side_by_side", lambda *_: pytest.fail("it was trained"))
    again = swept(folder, sample_data, LEARNS, CRAWLS)
    assert again.id == work.id
    assert again.finished
    assert train(again, sample_data) == []
    assert ranking.rows(again) == rows
    record = (work.folder / "sweep.json").read_bytes()
    assert train(meanwhile, sample_data) == []  # as another process that has read it before
    assert {**meanwhile.record, "finished": None} == {**json.loads(record), "finished": None}
    for other in (
        swept(folder, sample_data, LEARNS, CRAWLS, seeds=2),
        swept(folder, sample_data, LEARNS),
        sweeps.begin(
            folder / "submissions", "quick", grid.configurations(recipe(), [LEARNS]), sample_data, Split(0.2), [0]
        ),
    ):
        assert other.id != work.id


@pytest.mark.usefixtures("unplotted")
def test_a_larger_sweep_takes_over_the_runs_that_are_there_whoever_made_them(folder: Path, sample_data: Data) -> None:
    by_hand = alone(folder / "submissions", sample_data, LEARNS, 0)
    abandoned = begin(folder / "submissions", sample_data, grid.configured(recipe(), CRAWLS), seed=0)
    work = swept(folder, sample_data, LEARNS, CRAWLS, seeds=2)
    assert work.entries[0].runs[0] == by_hand.id
    assert abandoned.id not in work.entries[1].runs  # a training that somebody interrupted is left alone
    heard = train(work, sample_data)
    assert all(each.trial.folder.name != by_hand.id for each in heard if isinstance(each, News))
    assert ranking.rows(work)[0].runs == work.entries[0].runs
    larger = swept(folder, sample_data, {"optimizer.lr": 0.004}, LEARNS, CRAWLS, seeds=2)
    assert [entry.runs for entry in larger.entries[1:]] == [entry.runs for entry in work.entries]
    assert not set(larger.entries[0].runs) & {run.id for run in runs.every(folder / "submissions")}


@pytest.mark.usefixtures("untrained", "unplotted")
def test_a_run_that_time_cut_short_is_not_taken_over(folder: Path, sample_data: Data) -> None:
    mine = alone(folder / "submissions", sample_data, LEARNS, 0)
    mine.update(cut_short={"step": 3, "steps": 9})
    assert swept(folder, sample_data, LEARNS).entries[0].runs != [mine.id]


@pytest.mark.usefixtures("untrained")
def test_runs_of_other_data_code_or_split_are_not_taken_over(
    folder: Path, sample_data: Data, monkeypatch: pytest.MonkeyPatch, unplotted: None
) -> None:
    mine = alone(folder / "submissions", sample_data, LEARNS, 0)
    assert swept(folder, sample_data, LEARNS).entries[0].runs == [mine.id]
    others = replace(sample_data, sha256={**sample_data.sha256, "train.csv": "other"})
    assert swept(folder, others, LEARNS).entries[0].runs != [mine.id]
    monkeypatch.setattr(sweeps, "source_digest", lambda: "other code")
    assert swept(folder, sample_data, LEARNS).entries[0].runs != [mine.id]
    monkeypatch.undo()
    mine.path("weights.npz").unlink()
    assert swept(folder, sample_data, LEARNS, seeds=2).entries[0].runs[0] != mine.id


# --- stopped, and gone on with


@pytest.mark.usefixtures("unplotted")
@pytest.mark.parametrize("after", [1, 6])
def test_a_sweep_that_is_stopped_goes_on_and_comes_to_the_same(
    folder: Path, sample_data: Data, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    monkeypatch.setattr(fanout, "LOOK_SECONDS", 0.0)
    work = swept(folder, sample_data, LEARNS, CRAWLS, seeds=2)

    def stop() -> bool:
        return sum(len(run.log()) for run in runs.every(folder / "submissions")) >= after

    heard = train(work, sample_data, stop=stop)
    lines = sum(len(run.log()) for run in runs.every(folder / "submissions"))
    assert lines < 20
    assert not work.finished
    again = sweeps.find(folder / "submissions", work.id)
    heard += train(again, sample_data)
    assert sorted((each.trial.folder.name, each.epoch) for each in heard if isinstance(each, News)) == sorted(
        (run.id, line["epoch"]) for run in runs_of(again) for line in run.log()
    )  # every epoch is heard of once
    assert [row.status for row in ranking.rows(again)] == ["finished", "stopped"]
    for seed in (0, 1):
        assert files(runs_of(again)[seed]) == files(alone(folder / "alone", sample_data, LEARNS, seed))


@pytest.mark.usefixtures("unplotted")
def test_a_rung_is_decided_once(folder: Path, sample_data: Data) -> None:
    """Else a sweep that was interrupted behind it would stop half of those that are left, too."""
    work = swept(folder, sample_data, LEARNS, CRAWLS, {"optimizer.lr": 2e-7}, {"optimizer.lr": 3e-7})
    heard = work.train(sample_data, folder / "data", HERE, lambda: False)
    rung = next(each for each in heard if isinstance(each, Rung))
    heard.close()
    assert len(rung.losers) == 2
    again = sweeps.find(folder / "submissions", work.id)
    assert sum(entry.stopped is not None for entry in again.entries) == 2
    assert [each.fraction for each in train(again, sample_data) if isinstance(each, Rung)] == [0.5]


@pytest.mark.usefixtures("unplotted")
def test_a_worker_whose_caller_is_gone_stops(folder: Path, sample_data: Data) -> None:
    work = swept(folder, sample_data, LEARNS)
    (trial,) = work.trials()
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    orphan = replace(work._task(trial, 1.0, folder / "data"), caller=child)
    assert fanout.advance(orphan) is None
    assert trial.run() is None
    assert fanout.advance(replace(orphan, host="elsewhere")) is None  # of whom nothing is known
    assert runs.read(trial.folder).status == "finished"


def test_a_worker_that_joblib_begins_anew_is_no_news(folder: Path, sample_data: Data) -> None:
    # Joblib's own words, for a sweep's tasks are far too small here to make it say so.
    def begun_anew(task: Task) -> None:
        warnings.warn("A worker stopped while some jobs were given to the executor.", UserWarning, stacklevel=1)

    work = swept(folder, sample_data, LEARNS)
    task = work._task(work.trials()[0], 1.0, folder / "data")
    with pytest.MonkeyPatch.context() as patched, warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        patched.setattr(fanout, "advance", begun_anew)
        thread = threading.Thread(target=fanout.side_by_side, args=([task], HERE))  # one that is deaf to Ctrl-C then
        thread.start()
        thread.join()
        assert not heard
        begun_anew(task)
        assert len(heard) == 1


def test_a_run_that_somebody_still_holds_is_waited_for(
    folder: Path, sample_data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fanout, "PATIENCE_SECONDS", 0.2)
    work = swept(folder, sample_data, LEARNS)
    (trial,) = work.trials()
    run = begin(folder / "elsewhere", sample_data, work.entries[0].recipe)
    shutil.move(run.folder, trial.folder)
    task = work._task(trial, 1.0, folder / "data")
    with runs.read(trial.folder).lock():
        assert f"another process is at work on the run {trial.folder.name}" in str(fanout.advance(task))


# --- what can't be


def test_what_cannot_be_is_refused_before_a_sweep_is_begun(folder: Path, sample_data: Data) -> None:
    configurations = grid.configurations(recipe(), [LEARNS])

    def act(split: Split, halving: Sequence[float] = ()) -> Callable[[], object]:
        return lambda: sweeps.begin(
            folder / "submissions", "quick", configurations, sample_data, split, range(1), halving
        )

    assert "something must be held out: give --dev or --folds" in refusal(act(Split(0.0)))
    assert "say which, as in `--folds 3 --fold 0`" in refusal(act(Split(0.0, 3)))
    for halving in ([0.5, 0.25], [-0.5], [1.0], [0.2, 0.2], [float("nan")]):
        assert "fractions of the epochs, ascending" in refusal(act(Split(), halving))
    configurations = grid.configurations(recipe(), [{"teacher.run": "nobody", "teacher.weight": 0.5}])
    assert "[teacher] run: there are no runs in " in refusal(act(Split()))
    assert not (folder / "submissions").exists()


@pytest.mark.usefixtures("untrained")
def test_a_sweep_goes_on_only_with_the_data_and_the_code_that_it_began_with(
    folder: Path, sample_data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = swept(folder, sample_data, LEARNS)
    other = replace(sample_data, sha256={**sample_data.sha256, "test.csv": "other"})
    assert "began with other data" in refusal(lambda: train(work, other))
    monkeypatch.setattr(sweep, "source_digest", lambda: "other code")
    assert "began with another version of the code: start it anew" in refusal(lambda: train(work, sample_data))


@pytest.mark.usefixtures("untrained")
def test_a_sweep_is_trained_by_one_at_a_time(folder: Path, sample_data: Data) -> None:
    work = swept(folder, sample_data, LEARNS)
    with work._lock():
        assert f"another process is at work on the sweep {work.id}" in refusal(lambda: train(work, sample_data))


def test_a_worker_with_other_code_data_or_run_says_so_and_trains_nothing(folder: Path, sample_data: Data) -> None:
    work = swept(folder, sample_data, LEARNS)
    (trial,) = work.trials()
    task = work._task(trial, 1.0, folder / "data")
    assert "is not that of the sweep: have the same on all machines" in str(fanout.advance(replace(task, code="x")))
    assert "is not that which the sweep began with" in str(fanout.advance(replace(task, sha256={})))
    assert "train.csv is missing" in str(fanout.advance(replace(task, data=str(folder))))
    assert trial.run() is None
    shutil.move(begin(folder / "elsewhere", sample_data, seed=5).folder, trial.folder)
    assert "is of another recipe or seed" in str(fanout.advance(task))
    (trial.folder / "run.json").write_text("{}")
    assert "run.json lacks format" in str(fanout.advance(task))
    assert "run.json lacks format" in refusal(lambda: train(work, sample_data))


def test_a_worker_that_cannot_write_ends_the_sweep_in_a_sentence(folder: Path, sample_data: Data) -> None:
    work = swept(folder, sample_data, LEARNS)
    work.trials()[0].folder.write_text("in the way")
    assert "a file stands where a folder should be" in refusal(lambda: train(work, sample_data))


@pytest.mark.usefixtures("untrained")
def test_a_record_damaged_by_hand_is_refused_in_a_sentence_and_breaks_no_other_sweep(
    folder: Path, sample_data: Data
) -> None:
    good, bad = swept(folder, sample_data, CRAWLS), swept(folder, sample_data, LEARNS)
    path = bad.folder / "sweep.json"
    record = json.loads(path.read_text())
    broken: list[Any] = ["", "[]", "{", {**record, "format": 2}]
    for key in ("format", "seeds", "split", "data", "halving", "configurations", "rungs", "recipe", "code"):
        broken += [{**record, key: value} for value in (None, "x", -1, {}, [None])]
        broken.append({name: value for name, value in record.items() if name != key})
    for key in record["configurations"][0]:
        broken.append({**record, "configurations": [{**record["configurations"][0], key: 7}]})
    for each in broken:
        path.write_text(each if isinstance(each, str) else json.dumps(each))
        try:
            found = sweeps.find(folder / "submissions", bad.id)
            ranking.rows(found)
            assert isinstance(found.finished, bool)
        except DigitsError as error:
            assert "\n" not in str(error)  # noqa: PT017
            assert str(path) in str(error)  # noqa: PT017
        assert good.id in [work.id for work in sweeps.every(folder / "submissions")]
        assert swept(folder, sample_data, CRAWLS).id == good.id


def test_a_sweep_is_found_by_the_beginning_of_its_id(folder: Path, sample_data: Data) -> None:
    ledger = folder / "submissions"
    assert "there are none yet" in refusal(lambda: sweeps.find(ledger, "2026"))
    first = swept(folder, sample_data, LEARNS)
    assert sweeps.find(ledger, first.id[:12]).id == first.id
    second = swept(folder, sample_data, CRAWLS)
    assert first.id != second.id
    assert "give more of the id" in refusal(lambda: sweeps.find(ledger, "2"))
    assert f"the newest is {second.id}" in refusal(lambda: sweeps.find(ledger, "1999"))
    assert all(work.id.endswith("-quick-sample") for work in sweeps.every(ledger))
    assert all(run.endswith("-s0-sample") for entry in first.entries for run in entry.runs)
    assert runs.every(ledger) == []  # a sweep is not a run


# --- where trainings are


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ({"backend": "dask"}, "--backend dask needs its scheduler's address"),
        ({"backend": "loky", "scheduler": "tcp://127.0.0.1:1"}, "--scheduler goes with `--backend dask`"),
    ],
)
def test_a_place_that_cannot_be_is_refused(place: dict[str, Any], said: str) -> None:
    assert said in refusal(lambda: Place(**place))


@pytest.mark.parametrize(
    ("backend", "package", "install"), [("dask", "distributed", "dask distributed"), ("ray", "ray", "ray")]
)
def test_a_cluster_whose_packages_are_not_here_says_what_to_install(
    folder: Path, sample_data: Data, monkeypatch: pytest.MonkeyPatch, backend: Any, package: str, install: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    work = swept(folder, sample_data, LEARNS)
    message = refusal(lambda: train(work, sample_data, Place(backend, "tcp://127.0.0.1:1")))
    assert f"`pip install {install}`" in message


def test_a_scheduler_that_is_not_there_is_told_in_a_sentence(
    folder: Path, sample_data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fanout, "CONNECT_SECONDS", 0.3)
    work = swept(folder, sample_data, LEARNS)
    message = refusal(lambda: train(work, sample_data, Place("dask", "tcp://127.0.0.1:1")))
    assert message.startswith("there is no Dask scheduler at tcp://127.0.0.1:1 (")


def test_what_a_worker_is_given_is_plain(folder: Path, sample_data: Data) -> None:
    work = swept(folder, sample_data, LEARNS)
    task = work._task(work.trials()[0], 0.25, folder / "data")
    assert Task(**json.loads(json.dumps(vars(task)))) == task


@pytest.mark.usefixtures("unplotted")
def test_a_dask_cluster_makes_the_same_runs(folder: Path, sample_data: Data) -> None:
    from distributed import Client, LocalCluster

    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        client.run(exec, UNPLOTTED, {})
        work = swept(folder, sample_data, LEARNS, {"optimizer.lr": 0.004})
        train(work, sample_data, Place("dask", cluster.scheduler_address))
    assert [row.status for row in ranking.rows(work)] == ["finished", "finished"]
    for trial, run in zip(work.trials(), runs_of(work), strict=True):
        expected = alone(folder / "alone", sample_data, work.entries[trial.number].settings, 0)
        assert files(run) == files(expected)
        assert log(run) == log(expected)
