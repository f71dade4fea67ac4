"""The command line as its users meet it."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from digits import __version__, runs
from digits.cli import app
from digits.data import TEST, TRAIN, Data
from digits.errors import DigitsError
from digits.split import Split

QUICK = """
network = [{ layer = "flatten" }, { layer = "dense", units = 10 }]
[train]
epochs = 2
"""
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
DIGITS = Path(sys.executable).with_name("digits")


@pytest.fixture
def place(sample_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with sample data in data/ and a recipe, quick.toml."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(sample_folder, "data")
    Path("quick.toml").write_text(QUICK)
    return tmp_path


@pytest.fixture(scope="module")
def trained(sample_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder in which quick.toml has been trained; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        shutil.copytree(sample_folder, "data")
        Path("quick.toml").write_text(QUICK)
        assert call("train", "quick.toml").exit_code == 0
        yield folder


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def answer(*arguments: str) -> Any:
    done = call(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def run_digits(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([DIGITS, *arguments], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_has_help(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    assert len(command.help.splitlines()[0]) <= 45  # so that the list of commands shows all of it
    for parameter in command.params:
        assert parameter.help, f"{name} {parameter.name}"


def test_help_answers_at_once() -> None:
    def seconds() -> float:
        start = time.perf_counter()
        subprocess.run([DIGITS, "--help"], capture_output=True, check=True)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(5)) < 0.3


def test_the_version_is_told() -> None:
    assert call("--version").output == f"digits {__version__}\n"


def test_what_a_user_can_mend_is_one_line_and_status_1(place: Path) -> None:
    done = run_digits("train", "mpl", folder=place)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"digits: there is no recipe 'mpl', did you mean 'mlp'\?.*\n", done.stderr)


def test_a_wrong_option_is_status_2(place: Path) -> None:
    done = run_digits("train", "--sed", "1", folder=place)
    assert done.returncode == 2
    assert "--sed" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("train", "quick.toml", "--folds", "3"), "--fold"),
        (("train", "quick.toml", "--folds", "3", "--fold", "3"), "0 to 2"),
        (("train", "quick.toml", "--full", "--folds", "3", "--fold", "0"), "--full"),
        (("train", "quick.toml", "--data", "nowhere"), "digits data"),
        (("train", "quick.toml", "--submissions", "quick.toml"), "can't be written"),
        (("train", "--resume", "nothing"), "no runs"),
        (("predict",), "no runs"),
        (("show",), "no runs"),
    ],
)
def test_bad_arguments_are_one_sentence_and_leave_nothing(place: Path, arguments: tuple[str, ...], says: str) -> None:
    done = call(*arguments)
    assert isinstance(done.exception, DigitsError)
    assert says in str(done.exception)
    assert "\n" not in str(done.exception)
    assert not runs.every(Path("submissions"))


def test_json_is_the_only_thing_on_stdout(place: Path) -> None:
    record = answer("train", "quick.toml", "--seed", "3")
    assert (record["seed"], record["status"]) == (3, "finished")
    assert Path(record["folder"], "submission.csv").exists()
    data = answer("data")
    assert (data["kind"], data["train_images"], data["test_images"]) == ("sample", 600, 80)


def test_full_says_that_there_is_no_dev_score(place: Path) -> None:
    done = call("train", "quick.toml", "--full")
    assert "training on all 600 images: there is no dev score" in done.output
    assert runs.find(Path("submissions")).record["scores"]["dev"] is None


def test_a_fold_is_held_out(place: Path) -> None:
    done = call("train", "quick.toml", "--folds", "3", "--fold", "1")
    assert "400 images, 200 held out: fold 1 of 3" in done.output


def test_the_dev_score_is_printed_with_its_standard_error(trained: Path) -> None:
    done = call("predict")
    assert re.search(r"dev accuracy +\d\d\.\d\d% ± \d\.\d\d\n", done.output)


def test_a_submission_is_trained_once(place: Path) -> None:
    first = answer("submission", "quick.toml")
    again = call("submission", "quick.toml")
    assert "so nothing is trained" in again.output
    assert [run.id for run in runs.every(Path("submissions"))] == [first["id"]]
    Path(first["folder"], "submission.csv").unlink()
    assert answer("submission", "quick.toml")["submission"] == first["submission"]
    assert Path(first["folder"], "submission.csv").exists()
    other = answer("submission", "quick.toml", "--seed", "1")
    assert other["id"] != first["id"]


def test_a_changed_recipe_or_changed_data_is_trained_anew(place: Path) -> None:
    ids = {answer("submission", "quick.toml")["id"]}
    Path("quick.toml").write_text(QUICK.replace("2", "3"))
    ids.add(answer("submission", "quick.toml")["id"])
    train = Path("data", TRAIN.file)
    train.write_bytes(train.read_bytes().replace(b"\r\n", b"\n"))
    ids.add(answer("submission", "quick.toml")["id"])
    assert len(ids) == 3


def test_sample_data_never_becomes_the_newest_submission(trained: Path) -> None:
    run = runs.find(Path("submissions"))
    assert run.id.endswith("-sample")
    assert not Path("submissions", runs.NEWEST).exists()
    done = call("predict", run.id)
    assert "no upload accepts it" in done.output
    assert not Path("submissions", runs.NEWEST).exists()


def test_own_data_becomes_the_newest_submission(place: Path) -> None:
    Path("data", "dataset.json").unlink()
    refused = call("train", "quick.toml")
    assert "digits data --own" in str(refused.exception)
    assert call("data", "--own").exit_code == 0
    record = answer("train", "quick.toml")
    newest = Path("submissions", runs.NEWEST).read_bytes()
    assert newest == Path(record["folder"], "submission.csv").read_bytes()


def test_predicting_again_writes_the_same_bytes(trained: Path) -> None:
    run = runs.find(Path("submissions"))
    before = run.path("submission.csv").read_bytes()
    assert call("predict", run.id, "--threads", "1").exit_code == 0
    assert run.path("submission.csv").read_bytes() == before


@pytest.mark.parametrize(("option", "label"), [((), True), (("--test",), False)], ids=["train.csv", "test.csv"])
def test_show_tells_the_prediction_the_label_and_ten_probabilities(
    trained: Path, tmp_path: Path, option: tuple[str, ...], label: bool
) -> None:
    png = tmp_path / "look.png"
    done = call("show", "--index", "42", "--png", str(png), *option)
    assert re.search(rf"prediction: \d{'   label: ' if label else ''}", done.output)
    assert len(re.findall(r"^.{56}.* \d .*\d%", done.output, re.MULTILINE)) == 10
    assert png.read_bytes().startswith(b"\x89PNG")
    shown = answer("show", "--index", "42", "--png", str(png), *option)
    assert (shown["label"] is not None) == label
    assert sum(shown["probabilities"]) == pytest.approx(1, abs=1e-4)
    assert shown["probabilities"][shown["prediction"]] == max(shown["probabilities"])


def test_show_says_whether_the_image_was_held_out(trained: Path, sample_data: Data) -> None:
    for rows, known in zip(Split().indices(sample_data.labels), ("trained on", "held out"), strict=True):
        shown = answer("show", "--index", str(rows[3]), "--png", "x.png")
        assert shown["image"] == f"row {rows[3]} of train.csv ({known})"


def test_show_refuses_a_row_that_is_not_there(trained: Path) -> None:
    assert "its rows are 0 to 599" in str(call("show", "--index", "600").exception)
    assert "its rows are 0 to 79" in str(call("show", "--index", "80", "--test").exception)


def test_the_demo_does_the_whole_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("quick.toml").write_text(QUICK)
    done = call("demo", "quick.toml")
    assert done.exit_code == 0, done.output
    run = runs.find(Path("submissions"))
    assert run.sample
    for shown in (run.path("submission.csv"), run.path("confusion.png"), run.path("mistakes.png"), "no upload accepts"):
        assert str(shown) in done.output
    assert len(run.path("submission.csv").read_text().splitlines()) == 1001
    drawn = Path("data", "sample", TEST.file).stat().st_mtime_ns
    assert "drawing" not in call("demo", "quick.toml").output
    assert Path("data", "sample", TEST.file).stat().st_mtime_ns == drawn


def test_the_leaderboard_works_with_no_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("leaderboard").exit_code == 0
    assert answer("leaderboard") == []


def test_a_terminal_that_knows_only_ascii_ends_nothing(trained: Path) -> None:
    done = subprocess.run(
        [DIGITS, "predict"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"dev accuracy +\d\d\.\d\d% \? ", done.stdout)
