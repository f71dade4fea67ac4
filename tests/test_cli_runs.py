"""The commands that look into runs, set them against each other and tidy them up."""

import json
from pathlib import Path
from typing import Any

import pytest
from ledgers import SHA, finished_run
from PIL import Image
from typer.testing import CliRunner, Result

from digits import data, runs
from digits import recipe as recipes
from digits.cli import app
from digits.data import Data
from digits.errors import DigitsError
from digits.runs import Run


def call(*arguments: str | Path, text: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=text)


def done(*arguments: str | Path, text: str | None = None) -> str:
    result = call(*arguments, text=text)
    assert result.exit_code == 0, result.exception or result.output
    return result.stdout


def refusal(*arguments: str | Path) -> str:
    result = call(*arguments)
    assert isinstance(result.exception, DigitsError), result.output
    return str(result.exception)


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder whose runs are in submissions/."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "submissions"


# --- run show, run diff, run note


def test_a_run_is_shown_with_all_that_it_depends_on(ledger: Path) -> None:
    run = finished_run(ledger, "cnn", 3, [1, 2], parameters=1234, machine={"processor": "Abacus 9"})
    run.note("first")
    entry = {"status": "COMPLETE", "message": "m", "date": "2026-11-24T10:00:00", "sha256": "5ha"}
    run.update(submissions=[{**entry, "public_score": 0.99, "rank": 70, "teams": 1300}])
    shown = done("run", "show", run.id[:15])
    lines = {line[:14].strip(): line[15:] for line in shown.splitlines()}
    assert lines["run"] == run.id
    assert lines["seed"] == "3"
    assert lines["held out"] == "a dev split of 10% (split seed 0)"
    assert lines["code"] == f"commit c0ffee{34 * '0'}"
    assert lines["machine"] == "Abacus 9"
    assert lines["dev accuracy"] == "99.80% ± 0.14"
    assert lines["submitted"] == "2026-11-24 0.99000 COMPLETE, rank 70 of 1,300"
    assert lines["note"].endswith(" first")
    assert lines["files"] == "dev.npz, run.json, submission.csv, test.npz"
    run.path("dev.npz").unlink()
    answer = json.loads(done("run", "show", "--json"))
    assert (answer["id"], answer["missing"]) == (run.id, ["dev.npz"])


def test_all_networks_of_an_ensemble_of_several_recipes_are_shown(ledger: Path) -> None:
    table = recipes.load("mlp").resolved()
    finished_run(ledger, "two", recipe={**table, "ensemble": {"members": 2, "others": [{**table, "name": "one"}]}})
    layers = "flatten dense1000 relu dense1000 relu dense10"
    shown = done("run", "show")
    assert f"\nnetwork        {layers}\nin turn with   one: {layers}\n" in shown
    assert "\nensemble       members=2 others=one\n" in shown


def test_the_changes_between_two_runs_are_shown(ledger: Path) -> None:
    a, b = finished_run(ledger, "cnn", 0, [1]), finished_run(ledger, "cnn", 1)
    b.update(code={**b.record["code"], "commit": "beef" + 36 * "0"})
    shown = done("run", "diff", a.id, b.id)
    assert shown.splitlines()[1].split() == ["seed", "0", "1"]
    assert "dev accuracy  99.90% ± 0.10" in " ".join(shown.split()).replace("accuracy 99", "accuracy  99")
    assert "the code: git diff c0ffee000000 beef00000000 -- src/digits" in shown
    answer = json.loads(done("run", "diff", a.id, b.id, "--json"))
    assert answer["changes"][0] == {"key": "seed", "a": "0", "b": "1"}
    assert "of the same recipe" in done("run", "diff", a.id, a.id)


def test_notes_are_added_with_their_date(ledger: Path) -> None:
    run = finished_run(ledger)
    assert "has 1 note" in done("run", "note", run.id, "wider, too slow")
    with run.lock():  # a training that goes on is no hindrance
        assert "has 2 notes" in done("run", "note", run.id, "see the 9s")
    notes = runs.read(run.folder).record["notes"]
    assert [note["text"] for note in notes] == ["wider, too slow", "see the 9s"]
    assert "see the 9s" in done("leaderboard")
    assert "the note is empty" in refusal("run", "note", run.id, "  ")


# --- run rm


def test_removing_asks_and_says_what_is_lost(ledger: Path) -> None:
    run, other = finished_run(ledger, "cnn"), finished_run(ledger, "mlp")
    entry = {"status": "COMPLETE", "message": "m", "date": "2026", "sha256": "5ha", "public_score": 0.99}
    run.update(submissions=[entry])
    blend = finished_run(ledger, "blend", recipe={"name": "blend", "blend": {"members": [run.id], "average": "votes"}})
    kept = call("run", "rm", run.id, text="n\n")
    assert kept.exit_code == 1
    assert run.folder.exists()
    assert f"{run.id} (dev 100.00% ± 0.00)" in kept.output
    assert "(submitted once: the only lasting record of its public score)" in kept.output
    assert f"(a member of {blend.id})" in kept.output
    assert call("run", "rm", other.id).exit_code == 1  # nobody answers
    done("run", "rm", run.id, other.id, text="y\n")
    assert [one.id for one in runs.every(ledger)] == [blend.id]
    done("run", "rm", blend.id, "--yes")
    assert list(ledger.iterdir()) == []


def test_a_run_that_somebody_is_at_work_on_is_not_removed(ledger: Path) -> None:
    run = finished_run(ledger)
    with run.lock():
        assert "another process is at work" in refusal("run", "rm", run.id, "--yes")
    assert runs.find(ledger) == run


def test_a_folder_with_no_sound_run_is_removed_by_its_id(ledger: Path) -> None:
    good, bad = finished_run(ledger, "good"), finished_run(ledger, "bad")
    bad.path("run.json").write_text("{")
    (ledger / "notes").mkdir()
    assert "no sound run: " in done("run", "rm", bad.id, "--yes")
    for other in ("notes", "../data", ".", ""):
        assert "there is no run" in refusal("run", "rm", other, "--yes")
    assert (ledger / "notes").exists()
    assert runs.listed(ledger) == ([good], [])


# --- compare


@pytest.fixture
def pictured(ledger: Path, sample_data: Data, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data of the runs is at hand."""
    monkeypatch.setattr(data, "load", lambda _: Data(**{**vars(sample_data), "sha256": SHA}))
    return ledger


def pair(ledger: Path, **values: Any) -> tuple[Run, Run]:
    return (
        finished_run(ledger, "cnn", wrong=[1, 2, 3, 4], rows=range(500), **values),
        finished_run(ledger, "deep", wrong=[4, 5], rows=range(500), **values),
    )


def test_two_runs_are_compared_with_a_picture(pictured: Path) -> None:
    a, b = pair(pictured)
    shown = done("compare", a.id, b.id)
    for said in (
        "500 images, the same for both",
        "+0.40 ± 0.45 points",
        "p = 0.62",
        f"{b.id} is better than {a.id} by 0.40 ± 0.45 points: could well be noise",
    ):
        assert said in shown
    where = b.path(f"against-{a.id}.png")
    assert str(where.relative_to(pictured.parent)) in shown
    with Image.open(where) as image:
        assert image.format == "PNG"
    answer = json.loads(done("compare", a.id, b.id, "--json", "--png", "here.png"))
    assert (answer["only_a_right"], answer["only_b_right"], answer["png"]) == ([5], [1, 2, 3], "here.png")
    assert Path("here.png").exists()


def test_without_the_data_there_is_no_picture_and_all_else(ledger: Path) -> None:
    a, b = pair(ledger)
    shown = done("compare", a.id, b.id)
    assert "no picture: " in shown
    assert "could well be noise" in shown
    assert json.loads(done("compare", a.id, b.id, "--json"))["png"] is None
    refusal("compare", a.id, b.id, "--png", "here.png")


def test_recipes_and_groups_are_compared_over_their_seeds(pictured: Path) -> None:
    for seed in range(3):
        for recipe, wrong in (("cnn", [1, 2, 3, 4 + seed]), ("deep", [4])):
            finished_run(pictured, recipe, seed, wrong, range(500))
    shown = done("compare", "cnn", "deep", "--recipes")
    assert "over 3 seeds" in shown
    assert "paired t-test" in shown
    assert "deep is better than cnn by 0.60 ± " in shown
    ids = {
        recipe: [run.id for run in runs.every(pictured) if f"-{recipe}-" in run.id][:2] for recipe in ("cnn", "deep")
    }
    answer = json.loads(done("compare", ",".join(ids["cnn"]), ",".join(ids["deep"]), "--json"))
    assert (answer["a"], answer["b"], answer["seeds"]) == ("A (cnn)", "B (deep)", [1, 2])
    assert answer["only_b_right"] == [1, 2, 3, 5, 6]
    assert "there is no run of the recipe mlp" in refusal("compare", "cnn", "mlp", "--recipes")


def test_runs_judged_on_other_images_are_refused(ledger: Path) -> None:
    a, b = finished_run(ledger, "a"), finished_run(ledger, "b", rows=range(500, 900))
    assert "with 400 in common: train both with the same split" in refusal("compare", a.id, b.id)
