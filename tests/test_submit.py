"""The way of a run to Kaggle and back, through the command line, the real `kaggle` package and the stub of its API."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kaggle_stub import KaggleStub, answer, drop, html, reset, stub_in_this_process
from typer.testing import CliRunner, Result

import digits.kaggle.client
from digits import data, runs, submit
from digits.cli import app
from digits.competition import TEST, TRAIN
from digits.data import Data
from digits.entry import SENDING, gap
from digits.errors import DigitsError
from digits.runs import Run
from digits.stats import Score

ROOT = Path(__file__).parent.parent
QUICK = """
network = [{ layer = "flatten" }, { layer = "dense", units = 10 }]
[train]
epochs = 1
"""


@pytest.fixture
def kaggle(kaggle_stub: KaggleStub, monkeypatch: pytest.MonkeyPatch) -> KaggleStub:
    """The stub, with nobody waiting for anything."""
    hurry(monkeypatch)
    return kaggle_stub


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits.kaggle.client.KaggleClient.__init__, "__kwdefaults__", {
        **digits.kaggle.client.KaggleClient.__init__.__kwdefaults__, "sleep": lambda _: None,
    })  # fmt: skip


@pytest.fixture(scope="module")
def shop(sample_folder: Path, sample_data: Data, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with data that counts as the competition's own, a quick recipe, and a finished run of it.

    The sample data is loaded before, while it counts as what it is.
    """
    folder = tmp_path_factory.mktemp("shop")
    shutil.copytree(sample_folder, folder / "data")
    (folder / "data" / data.MARKER).unlink()
    (folder / "quick.toml").write_text(QUICK)
    with pytest.MonkeyPatch.context() as patch:
        official(folder / "data", patch)
        patch.chdir(folder)
        assert call("submission", "quick.toml").exit_code == 0
        yield folder


def official(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Have the tables in a folder count as the competition's."""
    for name, table in (("TRAIN", TRAIN), ("TEST", TEST)):
        values = data._read(folder / table.file, table, folder)
        known = replace(table, rows=len(values.values), sha256=values.sha256)
        for module in (data, submit):
            if hasattr(module, name):
                patch.setattr(module, name, known)


@pytest.fixture
def place(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder of the test's own, with all that is in the shop."""
    monkeypatch.chdir(tmp_path)
    furnish(tmp_path, shop)
    return tmp_path


def furnish(folder: Path, shop: Path) -> None:
    (folder / "data").symlink_to(shop / "data")
    shutil.copy(shop / "quick.toml", folder)
    shutil.copytree(shop / "submissions", folder / "submissions")


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def submit_quick(*arguments: str) -> Result:
    return call("submit", "--recipe", "quick.toml", *arguments)


def only_run() -> Run:
    (run,) = runs.every(Path("submissions"))
    return run


def test_a_submission_is_scored_and_written_into_the_run(kaggle: KaggleStub, place: Path) -> None:
    shutil.rmtree("submissions")
    done = submit_quick("--message", "first try")
    assert done.exit_code == 0, done.output
    run = only_run()
    (row,) = kaggle.submissions
    assert row["description"] == submit.message(run, "first try")
    assert row["description"].startswith(f"first try {run.id} dev 0.")
    assert row["description"].endswith(run.record["submission"]["sha256"][:12])
    (entry,) = run.record["submissions"]
    assert (entry["ref"], entry["status"], entry["public_score"]) == (row["ref"], "COMPLETE", 0.98765)
    assert (entry["rank"], entry["teams"], entry["left_today"]) == (7, 1300, 4)
    dev = runs.dev_score(run)
    assert dev is not None
    assert entry["gap"] == pytest.approx(0.98765 - dev.accuracy)
    for shown in ("0.98765", str(dev), "7 of 1,300", "left today     4"):
        assert shown in done.output


def test_what_goes_up_is_the_file_of_the_run(kaggle: KaggleStub, place: Path) -> None:
    submit_quick("--no-wait")
    (token,) = kaggle._uploads
    assert kaggle.uploaded(token) == only_run().path("submission.csv").read_bytes()


def test_without_waiting_the_score_comes_with_the_next_sync(kaggle: KaggleStub, place: Path) -> None:
    kaggle.polls_until_scored = 3
    done = submit_quick("--no-wait")
    assert done.exit_code == 0
    assert "leaderboard --sync" in done.output
    assert only_run().record["submissions"][0]["status"] == "PENDING"
    kaggle.submissions[0] |= {"status": "COMPLETE", "publicScore": "0.91"}
    kaggle.polls_until_scored = 0
    assert call("leaderboard", "--sync").exit_code == 0
    assert only_run().record["submissions"][0]["public_score"] is not None


def test_a_dry_run_checks_all_and_sends_nothing(kaggle: KaggleStub, place: Path) -> None:
    done = submit_quick("--dry-run")
    assert done.exit_code == 0
    assert "4 of 5" not in done.output
    assert "5 of 5 submissions left" in done.output
    assert not kaggle.submissions
    assert kaggle.calls("StartSubmissionUpload") == 0
    assert only_run().record["submissions"] == []


def test_the_same_file_is_not_submitted_twice_unless_again(kaggle: KaggleStub, place: Path) -> None:
    assert submit_quick().exit_code == 0
    refused = submit_quick()
    assert isinstance(refused.exception, DigitsError)
    assert "--again" in str(refused.exception)
    assert len(kaggle.submissions) == 1
    assert submit_quick("--again").exit_code == 0
    assert len(kaggle.submissions) == 2
    assert len(only_run().record["submissions"]) == 2


def test_a_file_that_was_submitted_elsewhere_is_known_by_its_hash(kaggle: KaggleStub, place: Path) -> None:
    submit_quick("--dry-run")
    kaggle.add_submission(f"somebody's own words {submit.mark(only_run())}")
    refused = submit_quick()
    assert "was submitted" in str(refused.exception)


def test_one_that_kaggle_could_not_score_may_be_sent_again(kaggle: KaggleStub, place: Path) -> None:
    kaggle.error = "Submission must have 28000 rows"
    failed = submit_quick()
    assert "Submission must have 28000 rows" in str(failed.exception)
    assert only_run().record["submissions"][0]["status"] == "ERROR"
    kaggle.error = ""
    assert submit_quick().exit_code == 0
    assert [entry["status"] for entry in only_run().record["submissions"]] == ["ERROR", "COMPLETE"]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda stub: stub.competition.update(userHasEntered=False), "rules"),
        (lambda stub: [stub.add_submission(f"m{i}") for i in range(5)], "tomorrow|used|left"),
        (lambda stub: stub.tokens.clear(), "token"),
    ],
    ids=["rules not accepted", "allowance used up", "bad token"],
)
def test_nothing_is_trained_in_front_of_a_closed_door(
    kaggle: KaggleStub, place: Path, spoil: Callable[[KaggleStub], object], says: str
) -> None:
    shutil.rmtree("submissions")
    spoil(kaggle)
    refused = submit_quick()
    assert isinstance(refused.exception, DigitsError)
    assert any(word in str(refused.exception) for word in says.split("|"))
    assert not runs.every(Path("submissions"))
    assert not any(secret in refused.output + str(refused.exception) for secret in kaggle.secrets)


def spoil_rows(run: Run) -> None:
    path = run.path("submission.csv")
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")


def spoil_label(run: Run) -> None:
    path = run.path("submission.csv")
    lines = path.read_text().splitlines()
    lines[1] = "1,3" if lines[1] != "1,3" else "1,4"
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (spoil_rows, "rows"),
        (spoil_label, "not what the run wrote"),
        (lambda run: run.path("submission.csv").unlink(), "missing"),
        (lambda run: run.update(status="training"), "not finished"),
        (lambda run: run.update(data={**run.record["data"], "kind": "sample"}), "sample data"),
        (lambda run: run.update(data={**run.record["data"], "sha256": {"test.csv": "0"}}), "another test.csv"),
    ],
)
def test_a_run_that_is_not_fit_never_reaches_kaggle(
    kaggle: KaggleStub, place: Path, spoil: Callable[[Run], object], says: str
) -> None:
    submit_quick("--dry-run")
    run = only_run()
    spoil(run)
    before = len(kaggle.log)
    refused = call("submit", run.id)
    assert says in str(refused.exception)
    assert len(kaggle.log) == before


def test_own_data_with_another_test_table_is_not_submitted(kaggle: KaggleStub, place: Path, sample_data: Data) -> None:
    submit_quick("--dry-run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(submit, "TEST", replace(TEST, sha256="0" * 64))
        with pytest.raises(DigitsError, match="not the competition's"):
            submit.check_run(only_run(), sample_data.sha256["test.csv"])


def test_an_attempt_that_was_cut_short_is_found_again(kaggle: KaggleStub, place: Path) -> None:
    submit_quick("--dry-run")
    run = only_run()
    text = submit.message(run)
    attempt = {"status": SENDING, "message": text, "sha256": run.record["submission"]["sha256"], "date": "2026"}
    run.update(submissions=[attempt])
    ref = kaggle.add_submission(text)
    done = call("submit", run.id)
    assert done.exit_code == 0
    assert f"had arrived, as submission {ref}" in done.output
    assert len(kaggle.submissions) == 1
    assert [entry["ref"] for entry in only_run().record["submissions"]] == [ref]


def test_an_attempt_that_never_arrived_is_made_again(kaggle: KaggleStub, place: Path) -> None:
    submit_quick("--dry-run")
    run = only_run()
    attempt = {"status": SENDING, "message": submit.message(run), "sha256": "0", "date": "2026"}
    run.update(submissions=[attempt])
    assert call("submit", run.id).exit_code == 0
    assert len(kaggle.submissions) == 1
    assert len(only_run().record["submissions"]) == 1


FAULTS = st.sampled_from(
    [
        answer(500),
        answer(503),
        answer(429),
        answer(503, after=True),
        html(),
        html(after=True),
        drop(),
        drop(after=True),
        reset(),
        reset(after=True),
    ]
)


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.lists(st.none() | FAULTS, max_size=25))
def test_under_any_faults_one_submission_is_made(
    shop: Path, tmp_path_factory: pytest.TempPathFactory, faults: list[Any]
) -> None:
    here = tmp_path_factory.mktemp("faults")
    with (
        stub_in_this_process(tmp_path_factory.mktemp("home")) as stub,
        pytest.MonkeyPatch.context() as patch,
    ):
        hurry(patch)
        patch.chdir(here)
        furnish(here, shop)
        stub.script = iter(faults)
        for _ in range(30):
            done = submit_quick()
            assert done.exception is None or isinstance(done.exception, (DigitsError, SystemExit)), done.output
            if done.exit_code == 0:
                break
            if "was submitted" in str(done.exception):
                break
        assert len(stub.submissions) == 1
        run = only_run()
        assert len([entry for entry in run.record["submissions"] if entry["status"] != SENDING]) == 1
        assert not [path for path in here.rglob(".*") if path.is_file() and path.name != ".lock"]


def test_the_gap_has_the_error_of_both_scores() -> None:
    # 0.99 of 4,200: sqrt(.99 * .01 / 4200) = 0.0015353; 0.98 of 28,000: sqrt(.98 * .02 / 28000) = 0.0008367
    difference = gap(0.98, Score(4158, 4200))
    assert difference.value == pytest.approx(-0.01)
    assert difference.standard_error == pytest.approx((0.0015353**2 + 0.0008367**2) ** 0.5, rel=1e-3)
    assert str(difference) == "-1.00 ± 0.17 points"


def test_json_is_all_that_stdout_has(kaggle: KaggleStub, place: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "digits", "submission", "quick.toml", "--data", "data", "--json"],
        env=kaggle.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    # A process of its own does not know that these tables count as official: it says so, and its stdout stays empty.
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    answered = CliRunner().invoke(app, ["submit", "--recipe", "quick.toml", "--json"])
    assert json.loads(answered.stdout)["submission"]["public_score"] == 0.98765


@pytest.mark.real
def test_the_whole_way_with_make(kaggle_stub: KaggleStub, real_zip: Path, tmp_path: Path) -> None:
    if not (ROOT / ".venv" / ".run-time").exists():
        pytest.skip("needs the environment that `make setup` makes, .venv")
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy2(ROOT / name, tmp_path)
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    (tmp_path / "quick.toml").write_text(QUICK)
    kaggle_stub.archive = real_zip.read_bytes()

    def make(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", "--no-print-directory", *arguments, "RECIPE=quick.toml"],
            cwd=tmp_path,
            env={**kaggle_stub.environment(), "COLUMNS": "200"},
            capture_output=True,
            text=True,
            check=False,
        )

    got = make("data")
    assert got.returncode == 0, got.stderr
    assert "official" in got.stdout
    assert sorted(path.name for path in (tmp_path / "data").glob("[!.]*")) == [
        "sample_submission.csv",
        "test.csv",
        "train.csv",
    ]
    assert make("submission").returncode == 0
    sent = make("submit", "MESSAGE=over the whole way")
    assert sent.returncode == 0, sent.stderr
    assert "so nothing is trained" in sent.stdout
    assert "0.98765" in sent.stdout
    (row,) = kaggle_stub.submissions
    assert row["description"].startswith("over the whole way")
    assert kaggle_stub.calls("DownloadDataFiles") == 1

    kaggle_stub.add_submission("by hand")
    synced = subprocess.run(
        [tmp_path / ".venv" / "bin" / "digits", "leaderboard", "--sync"],
        cwd=tmp_path,
        env=kaggle_stub.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "by hand" in synced.stdout
    listed = make("leaderboard")
    assert "0.98765" in listed.stdout
    assert not any(secret in sent.stdout + sent.stderr + synced.stdout for secret in kaggle_stub.secrets)
    assert not any(secret in path.read_text() for path in tmp_path.rglob("run.json") for secret in kaggle_stub.secrets)


def test_a_download_that_is_a_web_page_leaves_nothing_and_is_said(kaggle: KaggleStub, place: Path) -> None:
    kaggle.archive = b"<!DOCTYPE html><html><body>Sign in</body></html>"
    refused = call("data", "--data", "elsewhere")
    assert isinstance(refused.exception, DigitsError)
    assert "--from" in str(refused.exception)
    assert not [path for path in Path("elsewhere").rglob("*") if path.suffix in (".csv", ".zip")]


def test_no_credentials_say_how_to_get_some(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {name: value for name, value in os.environ.items() if "KAGGLE" not in name}
    done = subprocess.run(
        [sys.executable, "-m", "digits", "data", "--data", "elsewhere"],
        env={**environment, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Generate New Token" in done.stderr
    assert "make demo" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_top_of_kaggles_leaderboard_is_shown_around_the_users_place(kaggle: KaggleStub, place: Path) -> None:
    kaggle.competition["userRank"] = 30
    shown = call("leaderboard", "--top")
    assert shown.exit_code == 0
    assert "<- you" in next(line for line in shown.output.splitlines() if line.startswith("30 "))
    places = json.loads(call("leaderboard", "--top", "--json").stdout)
    assert 30 in [row["rank"] for row in places]
    assert len(places) == 20


# --- advice


def another(seed: int) -> Run:
    """One more finished run of the recipe."""
    known = {run.id for run in runs.every(Path("submissions"))}
    assert call("submission", "quick.toml", "--seed", str(seed)).exit_code == 0
    return next(run for run in runs.every(Path("submissions")) if run.id not in known)


def test_before_a_submission_its_worth_is_said(kaggle: KaggleStub, place: Path, unplotted: None) -> None:
    run = only_run()
    first = submit_quick("--dry-run")
    assert "expected public score 0." in first.output
    assert "nothing was submitted yet" in first.output
    assert "of the runs that were not submitted yet it is the best use of a submission" in first.output
    kaggle.score = "0.5"
    assert submit_quick().exit_code == 0
    other = another(1)
    dry = call("submit", other.id, "--dry-run")
    assert f"to beat the best so far, 0.50000 of {run.id}" in dry.output
    assert "with a chance of " in dry.output
    answer = json.loads(CliRunner().invoke(app, ["submit", other.id, "--dry-run", "--json"]).stdout)
    assert answer["advice"]["best_so_far"] == {"score": 0.5, "run": run.id}
    assert answer["advice"]["best_use"]["run"] == other.id
    assert 0 <= answer["advice"]["outlook"]["chance"] <= 1


def test_a_better_use_of_a_submission_is_named(kaggle: KaggleStub, place: Path, unplotted: None) -> None:
    run, better = only_run(), another(1)
    scores = {"dev": {"correct": 59, "images": 60}}
    better.update(scores=scores)
    run.update(scores={"dev": {"correct": 20, "images": 60}})
    assert f"the best use of a submission is {better.id}: expected 0.98" in call("submit", run.id, "--dry-run").output


def test_where_there_is_no_advice_the_submission_goes_on(kaggle: KaggleStub, place: Path) -> None:
    run = only_run()
    run.update(scores={"dev": None})
    assert "no run of its recipe has a dev score, so there is no telling" in call("submit", run.id, "--dry-run").output
    Path("submissions", "kaggle.json").write_text("{")
    done = call("submit", run.id)
    assert "no advice: " in done.output
    assert done.exit_code == 0
    assert len(kaggle.submissions) == 1
