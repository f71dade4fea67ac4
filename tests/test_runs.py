"""The ledger: a folder a run, found again, locked, and never broken by a damaged neighbour."""

import errno
import json
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digits import runs
from digits.errors import DigitsError
from digits.runs import Run

RECORD: dict[str, Any] = {
    "recipe": {"name": "mlp"},
    "seed": 0,
    "split": {"fraction": 0.1, "folds": None, "fold": None, "seed": 0},
    "data": {"kind": "own", "sha256": {"train.csv": "a", "test.csv": "b"}},
    "code": {"commit": None, "dirty": None, "sha256": "c"},
}


def refusal(act: Callable[[], object]) -> str:
    """The one line that a DigitsError says."""
    with pytest.raises(DigitsError) as caught:
        act()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def create(folder: Path, label: str = "mlp-s0", created: str | None = None) -> Run:
    run = runs.create(folder, label, RECORD)
    if created:
        run.update(created=created)
    return run


@pytest.fixture
def noon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time stands still."""

    class Noon(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Noon":
            return cls(2026, 11, 23, 12, 0, 0, tzinfo=tz)

    monkeypatch.setattr(runs, "datetime", Noon)


# --- a new run


@pytest.mark.usefixtures("noon")
def test_a_run_is_named_after_when_and_what(tmp_path: Path) -> None:
    run = create(tmp_path / "some" / "submissions", "mlp-s3")
    assert run.id == run.folder.name == "20261123-120000-mlp-s3"
    assert [path.name for path in run.folder.iterdir()] == ["run.json"]
    assert json.loads(run.path("run.json").read_text()) == run.record
    assert run.record == {
        "format": 1,
        "id": "20261123-120000-mlp-s3",
        "status": "training",
        "created": "2026-11-23T12:00:00+00:00",
        "finished": None,
        **RECORD,
        "submissions": [],
    }
    assert runs.read(run.folder) == run


@pytest.mark.usefixtures("noon")
def test_runs_of_the_same_second_have_folders_of_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: create(tmp_path), range(24)))
    assert len({run.id for run in made}) == 24
    assert {run.id for run in runs.every(tmp_path)} == {run.id for run in made}
    assert {"20261123-120000-mlp-s0", "20261123-120000-mlp-s0-2"} <= {run.id for run in made}
    assert all(run.record["id"] == run.id for run in runs.every(tmp_path))


def test_a_run_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert "free some space" in refusal(lambda: create(tmp_path / "submissions"))
    assert list((tmp_path / "submissions").iterdir()) == []


def test_a_file_in_the_place_of_the_ledger_is_named(tmp_path: Path) -> None:
    (tmp_path / "submissions").write_text("mine")
    message = refusal(lambda: create(tmp_path / "submissions"))
    assert message.startswith(f"{tmp_path / 'submissions'} can't be written")
    assert "a file stands where a folder should be" in message


def test_a_record_changes_on_disk_and_in_memory_or_in_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = create(tmp_path)
    run.update(status="finished", note="ü")
    assert run.record["note"] == runs.read(run.folder).record["note"] == "ü"

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    refusal(lambda: run.update(note="x"))
    assert run.record["note"] == runs.read(run.folder).record["note"] == "ü"


# --- one process at a time


def test_a_run_is_worked_on_by_one_at_a_time(tmp_path: Path) -> None:
    run, again = create(tmp_path), runs.find(tmp_path)
    with run.lock():
        message = refusal(lambda: again.lock().__enter__())
        assert message == f"another process is at work on the run {run.id}: wait for it, or stop it"
    with again.lock():
        pass


def test_a_lock_ends_with_an_error_too(tmp_path: Path) -> None:
    run = create(tmp_path)
    with pytest.raises(ZeroDivisionError), run.lock():
        _ = 1 / 0
    with run.lock():
        pass


def test_a_training_that_nobody_is_at_is_interrupted(tmp_path: Path) -> None:
    run, other = create(tmp_path), runs.find(tmp_path)
    assert run.status == "interrupted"
    with run.lock():
        assert other.status == "training"
    assert run.status == "interrupted"
    for status in ("finished", "failed"):
        run.update(status=status)
        assert run.status == status


# --- the log


def entry(step: int) -> dict[str, Any]:
    return {"step": step, "epoch": step, "loss": 1 / step}


def test_a_log_is_read_as_it_was_written(tmp_path: Path) -> None:
    run = create(tmp_path)
    assert run.log() == []
    for step in (1, 2, 3):
        run.append_log(entry(step))
    assert run.log() == [entry(1), entry(2), entry(3)]
    assert len(run.path("log.jsonl").read_text().splitlines()) == 3


@given(st.integers(0, 200))
@settings(deadline=None, max_examples=40)
def test_a_log_that_was_cut_off_anywhere_loses_no_whole_line(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    run = Run(tmp_path_factory.getbasetemp(), {})
    run.path("log.jsonl").unlink(missing_ok=True)
    for step in (1, 2, 3):
        run.append_log(entry(step))
    text = run.path("log.jsonl").read_text()[:cut]
    run.path("log.jsonl").write_text(text)
    whole = text.count("\n") + (text[-1:] == "}")  # a line needs no newline to be whole
    assert run.log() == [entry(1), entry(2), entry(3)][:whole]
    run.rewind_log(2)
    run.append_log(entry(7))
    assert run.log() == [*[entry(1), entry(2)][: min(whole, 2)], entry(7)]


@pytest.mark.parametrize("step", [0, 1, 2, 3, 9])
def test_a_log_forgets_what_is_after_a_step(tmp_path: Path, step: int) -> None:
    run = create(tmp_path)
    for number in (1, 2, 3):
        run.append_log(entry(number))
    run.rewind_log(step)
    assert run.log() == [entry(number) for number in (1, 2, 3) if number <= step]
    assert {path.name for path in run.folder.iterdir()} == {"run.json", "log.jsonl"}


@pytest.mark.parametrize("line", [b"5\n", b"[]\n", b"null\n", b"{}\n", b"\xff\xfe\n", b'{"step": "x"}\n', b"\n"])
def test_a_log_that_was_damaged_by_hand_is_rewound_or_refused_in_a_sentence(tmp_path: Path, line: bytes) -> None:
    run = create(tmp_path)
    run.append_log(entry(1))
    with run.path("log.jsonl").open("ab") as file:
        file.write(line)
    try:
        run.rewind_log(1)
    except DigitsError as error:
        assert str(run.path("log.jsonl")) in str(error)  # noqa: PT017
    else:
        assert run.log() == [entry(1)]


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    run = create(tmp_path)
    run.path("log.jsonl").mkdir()
    assert str(run.path("log.jsonl")) in refusal(lambda: run.append_log(entry(1)))


# --- reading


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_a_half_written_record_is_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.getbasetemp() / "run"
    folder.mkdir(exist_ok=True)
    whole = json.dumps({"format": 1, "status": "finished", "created": "2026", **RECORD}, indent=2)
    (folder / "run.json").write_text(whole[: data.draw(st.integers(0, len(whole) - 1))])
    message = refusal(lambda: runs.read(folder))
    assert message.startswith(f"{folder / 'run.json'} can't be read")
    assert "mend it, or remove the run" in message


@pytest.mark.parametrize("text", ["[]", "5", "null", '"run"', "{}", '{"format": 1}'])
def test_json_that_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    assert f"{tmp_path / 'run.json'} lacks " in refusal(lambda: runs.read(tmp_path))


@pytest.mark.parametrize("key", ["format", "status", "created", "recipe", "seed", "split", "data"])
def test_a_record_that_lacks_what_others_ask_it_for_is_refused(tmp_path: Path, key: str) -> None:
    run = create(tmp_path)
    record = {name: value for name, value in run.record.items() if name != key}
    run.path("run.json").write_text(json.dumps(record))
    assert f"lacks {key}: mend it, or remove the run" in refusal(lambda: runs.read(run.folder))


@pytest.mark.parametrize("newer", [2, 99, "2", None])
def test_a_record_of_another_format_is_refused(tmp_path: Path, newer: object) -> None:
    run = create(tmp_path)
    run.update(format=newer)
    message = refusal(lambda: runs.read(run.folder))
    assert message == f"{run.path('run.json')} is of format {newer}, this version reads 1: update digits"


def test_a_record_that_is_no_text_or_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(b"\xff\xfe")
    assert "can't be read" in refusal(lambda: runs.read(tmp_path))
    (tmp_path / "run.json").unlink()
    assert refusal(lambda: runs.read(tmp_path)) == f"{tmp_path} holds no run: there is no run.json in it"
    (tmp_path / "run.json").mkdir()
    assert "can't be read" in refusal(lambda: runs.read(tmp_path))


def test_the_runs_are_listed_newest_first_and_damaged_ones_left_out(tmp_path: Path) -> None:
    middle = create(tmp_path, "b", "2026-02-01T00:00:00+00:00")
    newest = create(tmp_path, "a", "2026-03-01T00:00:00+00:00")
    oldest = create(tmp_path, "c", "2026-01-01T00:00:00+00:00")
    create(tmp_path, "half").path("run.json").write_text('{"format": 1, "sta')
    create(tmp_path, "newer").update(format=2)
    (tmp_path / "notes").mkdir()
    (tmp_path / "submission.csv").write_text("")
    assert [run.id for run in runs.every(tmp_path)] == [newest.id, middle.id, oldest.id]


def test_where_there_is_no_ledger_there_are_no_runs(tmp_path: Path) -> None:
    assert runs.every(tmp_path / "nowhere") == []


# --- finding


@pytest.mark.usefixtures("noon")
def test_a_run_is_found_by_its_id_the_beginning_of_it_or_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, other = create(tmp_path), create(tmp_path), create(tmp_path, "cnn-s0", "2026-11-24")
    assert runs.find(tmp_path, first.id) == first  # though the second one's id begins with it
    assert runs.find(tmp_path, second.id) == second
    assert runs.find(tmp_path, "20261123-120000-c") == other
    assert runs.find(tmp_path, str(second.folder)) == second
    assert runs.find(tmp_path) == other
    monkeypatch.chdir(tmp_path)
    assert runs.find(Path("elsewhere"), f"./{first.id}").record == first.record


@pytest.mark.usefixtures("noon")
def test_what_could_be_several_runs_or_none_is_refused(tmp_path: Path) -> None:
    assert "there are no runs in" in refusal(lambda: runs.find(tmp_path))
    assert "make one with `digits train`" in refusal(lambda: runs.find(tmp_path, "x"))
    first, second = create(tmp_path), create(tmp_path, "cnn-s0", "2026-11-24")
    message = refusal(lambda: runs.find(tmp_path, "20261123"))
    assert re.search(rf"could be .*{first.id}.*: give more of the id", message)
    expected = f"there is no run 2025 in {tmp_path}; the newest is {second.id}"
    assert refusal(lambda: runs.find(tmp_path, "2025")) == expected
    assert "holds no run" in refusal(lambda: runs.find(tmp_path, f"{tmp_path}/nowhere"))


def test_a_damaged_run_that_is_asked_for_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    good, bad = create(tmp_path, "a"), create(tmp_path, "b")
    bad.path("run.json").write_text("{")
    assert str(bad.path("run.json")) in refusal(lambda: runs.find(tmp_path, bad.id))
    assert runs.find(tmp_path) == good


# --- the newest submission


def test_the_newest_submission_is_a_copy_to_the_byte(tmp_path: Path) -> None:
    run = create(tmp_path)
    run.path("submission.csv").write_bytes(b"ImageId,Label\r\n1,2\n")
    (tmp_path / "submission.csv").write_text("an older one")
    assert runs.publish(run, tmp_path) == tmp_path / "submission.csv"
    assert (tmp_path / "submission.csv").read_bytes() == b"ImageId,Label\r\n1,2\n"


def test_that_of_sample_data_is_never_the_newest(tmp_path: Path) -> None:
    run = create(tmp_path)
    run.update(data={**RECORD["data"], "kind": "sample"})
    run.path("submission.csv").write_text("sample")
    assert runs.publish(run, tmp_path) is None
    assert not (tmp_path / "submission.csv").exists()
    (tmp_path / "submission.csv").write_text("the real one")
    runs.publish(run, tmp_path)
    assert (tmp_path / "submission.csv").read_text() == "the real one"


# --- two processes at once, notes, and an end


def test_two_that_change_a_record_at_once_lose_nothing(tmp_path: Path) -> None:
    run = create(tmp_path)

    def work(number: int) -> None:
        mine = runs.read(run.folder)
        for _ in range(5):
            mine.note(f"note {number}")
        mine.update(**{f"key{number}": number})

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    record = runs.read(run.folder).record
    assert sorted(note["text"] for note in record["notes"]) == [
        f"note {number}" for number in range(6) for _ in range(5)
    ]
    assert all(record[f"key{number}"] == number for number in range(6))


def test_a_change_is_of_what_is_on_disk(tmp_path: Path) -> None:
    run, other = create(tmp_path), runs.find(tmp_path)
    other.note("first")
    with run.changing():
        assert [note["text"] for note in run.record["notes"]] == ["first"]
        run.note("second")
    run.update(status="finished")
    other.update(seed=7)
    assert runs.read(run.folder) == Run(run.folder, {**run.record, "seed": 7}) == other
    assert [path.name for path in run.folder.iterdir()] == ["run.json"]


def test_a_record_that_was_damaged_meanwhile_is_not_written_over(tmp_path: Path) -> None:
    run = create(tmp_path)
    run.path("run.json").write_text("{ my own wor")
    assert "can't be read" in refusal(lambda: run.update(status="finished"))
    assert run.path("run.json").read_text() == "{ my own wor"


def test_a_run_is_removed_whole_unless_somebody_is_at_work_on_it(tmp_path: Path) -> None:
    run = create(tmp_path)
    (run.folder / "members" / "0").mkdir(parents=True)
    with run.lock():
        assert "another process is at work" in refusal(lambda: runs.remove(run.folder))
    assert runs.find(tmp_path) == run
    runs.remove(run.folder)
    assert list(tmp_path.iterdir()) == []


def test_a_link_to_a_run_is_removed_and_not_the_run(tmp_path: Path) -> None:
    run = create(tmp_path / "elsewhere")
    (tmp_path / "submissions").mkdir()
    (tmp_path / "submissions" / run.id).symlink_to(run.folder)
    runs.remove(tmp_path / "submissions" / run.id)
    assert list((tmp_path / "submissions").iterdir()) == []
    assert runs.read(run.folder) == run


# --- folders that hold no sound run


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("scores", {"dev": {"correct": 11, "images": 10}}),
        ("scores", {"dev": {"correct": 0, "images": 0}}),
        ("scores", {"dev": {"correct": True, "images": 10}}),
        ("scores", {"dev": {"correct": 1, "images": 10**400}}),
        ("submissions", ["first"]),
        ("submissions", [{"status": "COMPLETE"}]),
        ("submissions", [{"status": "a", "message": "b", "date": "c", "sha256": None, "public_score": float("nan")}]),
        ("submissions", [{"status": "a", "message": "b", "date": "c", "sha256": None, "public_score": 1.5}]),
        ("notes", "a note"),
        ("notes", [{"text": "undated"}]),
        ("seconds", {"train": "12"}),
        ("seconds", {"train": float("inf")}),
        ("code", {"sha256": "c", "commit": 7}),
        ("seed", -1),
    ],
)
def test_values_that_cannot_be_are_refused_by_name(tmp_path: Path, key: str, value: object) -> None:
    run = create(tmp_path)
    run.update(**{key: value})
    message = refusal(lambda: runs.read(run.folder))
    assert f"has something else than a run's {key}: mend it, or remove the run" in message
    assert [broken.problem for broken in runs.listed(tmp_path)[1]] == [message]


def test_folders_that_should_hold_a_run_and_do_not_are_listed_with_what_is_wrong(tmp_path: Path) -> None:
    good = create(tmp_path, "good")
    for name in ("20261123-181500-cut-s0", "odd", "notes", ".20261123-181500-gone-s0.12345678"):
        (tmp_path / name).mkdir()
    (tmp_path / "odd" / "weights.npz").write_text("")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "run.json").write_text("[" * 100_000)
    (tmp_path / "submission.csv").write_text("")
    (tmp_path / "20261123-181500-a-file").write_text("")
    (tmp_path / "20261123-181500-dangling").symlink_to(tmp_path / "nowhere")
    found, broken = runs.listed(tmp_path)
    assert found == [good]
    names = ["20261123-181500-cut-s0", "20261123-181500-dangling", "deep", "odd"]
    assert [folder.id for folder in broken] == names
    assert "there is no run.json in it" in broken[0].problem
    assert "can't be read" in broken[2].problem
    assert "there is no run.json" in refusal(lambda: runs.find(tmp_path, "20261123-181500-cut"))
    runs.remove(broken[1].folder)
    assert [folder.id for folder in runs.listed(tmp_path)[1]] == ["20261123-181500-cut-s0", "deep", "odd"]


def test_a_finished_run_knows_which_of_its_predictions_are_missing(tmp_path: Path) -> None:
    run = create(tmp_path)
    assert run.missing() == []
    run.update(status="finished", scores={"dev": {"correct": 1, "images": 2}})
    assert run.missing() == ["submission.csv", "dev.npz", "test.npz"]
    run.path("dev.npz").write_text("")
    assert run.missing() == ["submission.csv", "test.npz"]
    run.update(scores={"dev": None})
    run.path("dev.npz").unlink()
    assert run.missing() == ["submission.csv", "test.npz"]
