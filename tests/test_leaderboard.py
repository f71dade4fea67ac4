"""The ledger as a table."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from digits import leaderboard, runs
from digits.errors import DigitsError
from digits.kaggle_client import Submission
from digits.runs import Run


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


@pytest.mark.parametrize("content", ["{", "[1]", '[{"ref": 1}]'])
def test_a_damaged_record_of_strangers_is_said(tmp_path: Path, content: str) -> None:
    (tmp_path / leaderboard.STRANGERS).write_text(content)
    with pytest.raises(DigitsError, match="delete it"):
        leaderboard.rows([], tmp_path)
