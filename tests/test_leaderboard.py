"""The ledger as a table."""

import json
import resource
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledgers import finished_run
from typer.testing import CliRunner

from digits import leaderboard, runs
from digits import recipe as recipes
from digits.cli import app
from digits.errors import DigitsError
from digits.kaggle.answers import Submission
from digits.runs import Run
from digits.split import Split


def new_run(folder: Path, label: str, correct: int | None = None, **record: Any) -> Run:
    dev = {"correct": correct, "images": 1000} if correct is not None else None
    content = {
        "recipe": {"name": label},
        "seed": 0,
        "split": {},
        "data": {"kind": "official", "sha256": {}},
        "scores": {"dev": dev},
        "submission": {"sha256": "5ha"},
        **record,
    }
    run = runs.create(folder, label, content)
    run.update(status="finished")
    return run


def submission(ref: int, description: str, score: float | None = 0.5, status: Any = "COMPLETE") -> Submission:
    when = datetime(2026, 11, 23, 18, 15, tzinfo=UTC)
    return Submission(ref, when, description, "submission.csv", status, score, "", "tester")


def test_the_best_public_score_is_first_then_the_best_dev_score(tmp_path: Path) -> None:
    low, high, none = new_run(tmp_path, "low", 900), new_run(tmp_path, "high", 950), new_run(tmp_path, "none")
    public = new_run(tmp_path, "public", 800)
    leaderboard.sync(runs.every(tmp_path), [submission(1, f"x {public.id}", 0.79)], tmp_path)
    rows = leaderboard.rows(runs.every(tmp_path), tmp_path)
    assert [row.run for row in rows] == [public.id, high.id, low.id, none.id]
    assert rows[0].gap is not None
    assert rows[0].gap.value == pytest.approx(-0.01)
    assert rows[1].gap is None


def test_submissions_are_joined_by_number_then_by_the_id_in_the_message(tmp_path: Path) -> None:
    first, second = new_run(tmp_path, "a"), new_run(tmp_path, "a")
    assert second.id == f"{first.id}-2"  # begun in the same second, and its id begins with the other one's
    listed = [submission(1, f"by hand {second.id} dev 0.9"), submission(2, "words")]
    first.update(submissions=[{"ref": 2, "message": "m", "status": "PENDING", "sha256": "5ha", "date": "2026"}])
    assert leaderboard.sync(runs.every(tmp_path), listed, tmp_path) == 0
    assert [entry["ref"] for entry in runs.read(second.folder).record["submissions"]] == [1]
    (entry,) = runs.read(first.folder).record["submissions"]
    assert (entry["status"], entry["public_score"], entry["sha256"]) == ("COMPLETE", 0.5, "5ha")


def test_a_second_sync_changes_nothing(tmp_path: Path) -> None:
    run = new_run(tmp_path, "a")
    for _ in range(2):
        leaderboard.sync(runs.every(tmp_path), [submission(1, run.id)], tmp_path)
    assert len(runs.read(run.folder).record["submissions"]) == 1


def test_strangers_are_rows_of_their_own_and_are_kept_for_later(tmp_path: Path) -> None:
    assert leaderboard.sync([], [submission(1, "by hand", 0.99), submission(2, "", None, "ERROR")], tmp_path) == 2
    rows = leaderboard.rows([], tmp_path)
    assert [(row.run, row.public_score, row.recipe) for row in rows] == [
        ("by hand", 0.99, None),
        ("submission 2", None, None),
    ]
    json.dumps([row.plain() for row in rows])


def test_runs_of_sample_data_are_not_listed(tmp_path: Path) -> None:
    run = new_run(tmp_path, "a", 900, data={"kind": "sample", "sha256": {}})
    assert run.sample
    assert leaderboard.rows(runs.every(tmp_path), tmp_path) == []


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[1]",
        '[{"ref": 1}]',
        '[{"ref": "x", "date": "", "message": "", "status": "", "public_score": null}]',
        '[{"ref": 1, "date": "", "message": "", "status": "", "public_score": "best"}]',
    ],
)
def test_a_damaged_record_of_strangers_is_said(tmp_path: Path, content: str) -> None:
    (tmp_path / leaderboard.STRANGERS).write_text(content)
    with pytest.raises(DigitsError, match="delete it"):
        leaderboard.rows([], tmp_path)


def test_a_row_says_what_its_score_is_of_and_what_it_cost(tmp_path: Path) -> None:
    finished_run(tmp_path, "dev", wrong=[1])
    finished_run(tmp_path, "oof", split=Split(0.0, 5).spec())
    finished_run(tmp_path, "fold", split=Split(0.0, 5, 2).spec()).note("a")
    finished_run(tmp_path, "full", rows=None).path("submission.csv").unlink()
    by_recipe = {row.recipe: row for row in leaderboard.rows(runs.every(tmp_path), tmp_path)}
    assert {name: row.judged for name, row in by_recipe.items()} == {
        "dev": "dev",
        "oof": "oof",
        "fold": "fold",
        "full": None,
    }
    plain = by_recipe["dev"].plain()
    assert (plain["seconds"], plain["commit"][:6], plain["dirty"], plain["dev_images"]) == (12.5, "c0ffee", False, 1000)
    assert plain["problem"] is None
    assert by_recipe["fold"].notes == ("a",)
    assert by_recipe["full"].problem == "no submission.csv"


def test_rows_are_chosen_by_recipe_and_date(tmp_path: Path) -> None:
    for day, recipe in enumerate(("cnn", "deep", "deep40", "mlp"), start=1):
        finished_run(tmp_path, recipe).update(created=f"2026-11-{day:02}T23:59:59+00:00")
    (tmp_path / "20261103-120000-cnn-s0").mkdir()
    sound, broken = runs.listed(tmp_path)
    rows = leaderboard.rows(sound, tmp_path, broken)

    def chosen(*arguments: Any) -> set[str | None]:
        return {row.recipe for row in leaderboard.chosen(rows, *arguments)}

    assert chosen() == {"cnn", "deep", "deep40", "mlp", None}
    assert chosen(["deep*"]) == {"deep", "deep40"}
    assert chosen(["deep", "mlp"]) == {"deep", "mlp"}
    assert chosen((), "2026-11-03") == {"deep40", "mlp", None}
    assert chosen((), "2026-11-02", "2026-11-02") == {"deep"}
    assert chosen(["cnn"], "2026-11-02") == set()


def call(*arguments: str | Path) -> str:
    done = CliRunner().invoke(app, ["leaderboard", *map(str, arguments)])
    assert done.exit_code == 0, done.exception
    return done.stdout


def test_the_list_is_printed_as_a_table_json_or_csv(tmp_path: Path) -> None:
    run = finished_run(tmp_path, "cnn", 3, [1, 2])
    run.note('said "well", twice')
    (tmp_path / "20261123-181500-cut-s0").mkdir()
    table = call("--submissions", tmp_path)
    day = run.record["created"][:10]
    assert f"{run.id}  99.80% ± 0.14  1,000 dev  -       -    {day}  cnn        3  12 s  c0ffee0  said" in table
    assert table.splitlines()[-1].startswith("20261123-181500-cut-s0  -              broken  ")
    assert table.splitlines()[-1].endswith("there is no run.json in it")
    rows = json.loads(call("--submissions", tmp_path, "--json"))
    assert [(row["run"], row["status"]) for row in rows] == [
        (run.id, "finished"),
        ("20261123-181500-cut-s0", "broken"),
    ]
    lines = call("--submissions", tmp_path, "--csv", "--recipe", "cnn").splitlines()
    assert lines[0].split(",") == list(rows[0])
    assert lines[1].startswith(f"{run.id},cnn,3,20")
    assert '"said ""well"", twice"' in lines[1]
    assert len(lines) == 2
    both = CliRunner().invoke(app, ["leaderboard", "--json", "--csv", "--submissions", str(tmp_path)])
    assert isinstance(both.exception, DigitsError)
    wrong = CliRunner().invoke(app, ["leaderboard", "--since", "yesterday"])
    assert wrong.exit_code == 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_whatever_is_edited_into_a_record_never_breaks_the_list(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "edited"
    if not folder.exists():
        finished_run(folder, "good")
        bad = finished_run(folder, "bad")
        entry = {"status": "COMPLETE", "message": "m", "date": "2026", "sha256": "5ha", "public_score": 0.5}
        bad.update(submissions=[entry], notes=[{"date": "2026", "text": "t"}])
        (folder / "original.json").write_text(json.dumps({**bad.record, "folder": bad.id}))
    record = json.loads((folder / "original.json").read_text())
    name = record.pop("folder")
    table: Any = record
    while isinstance(table, dict | list) and table:
        keys = sorted(table) if isinstance(table, dict) else range(len(table))
        key: Any = data.draw(st.sampled_from(list(keys)))
        if not isinstance(table[key], dict | list) or data.draw(st.booleans()):
            table[key] = data.draw(JSON)
            break
        table = table[key]
    (folder / name / "run.json").write_text(json.dumps(record))
    assert "good-s0" in call("--submissions", folder)
    sound, broken = runs.listed(folder)
    assert len(sound) + len(broken) == 2
    json.dumps([row.plain() for row in leaderboard.rows(sound, folder, broken)])
    shown = CliRunner().invoke(app, ["run", "show", name, "--submissions", str(folder)])
    assert shown.exception is None or isinstance(shown.exception, DigitsError), shown.exception


def test_a_thousand_runs_list_in_under_a_second(tmp_path: Path) -> None:
    # Of processor time, as the machine may be busy with something else; the best of some, as it is counted for the
    # whole core. A record is as long as a training writes it.
    run = finished_run(tmp_path, "deep")
    run.update(recipe=recipes.load("deep").resolved())
    text = run.path("run.json").read_text()
    assert len(text) > 4000
    for number in range(999):
        folder = tmp_path / f"{20261123:08}-{number:06}-deep-s{number}"
        folder.mkdir()
        for name in ("run.json", "dev.npz", "test.npz", "submission.csv"):
            (folder / name).write_text(text if name == "run.json" else "")
    command = [sys.executable, "-m", "digits", "leaderboard", "--submissions", str(tmp_path)]

    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert len(done.stdout.splitlines()) == 1001
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert any(seconds() < 1 for _ in range(4))
