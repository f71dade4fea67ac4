"""The command line: what it prints, where, with which exit status, and that it does no more than it has to."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main
from jobs import LONG, Digits, logged, wait_until
from PIL import Image
from tables import contents, write_tables, zipped
from typer.testing import CliRunner, Result

from digits import __version__, data, experiment, outline, runs
from digits import recipe as recipes
from digits.cli import app
from digits.errors import DigitsError
from digits.runs import Run
from digits.split import Split
from digits.submission import check_submission

COMMANDS = ["data", "train", "submission", "sweep", "submit", "leaderboard", "predict", "show", "recipe", "demo"]
COMMANDS += ["compare", "blend", "run", "report", "kernel"]
BELOW = ["recipe list", "recipe show", "run show", "run diff", "run note", "run rm"]
BELOW += [f"kernel {name}" for name in ("build", "push", "status", "logs", "pull", "fleet")]
QUICK = LONG.replace("epochs = 10", "epochs = 3")


def call(*arguments: str | Path) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def done(*arguments: str | Path) -> str:
    """The stdout of a command that succeeds."""
    result = call(*arguments)
    assert result.exit_code == 0, result.exception
    return result.stdout


def answer(*arguments: str | Path) -> Any:
    """The JSON on stdout, which has nothing else."""
    return json.loads(done(*arguments, "--json"))


def refusal(*arguments: str | Path) -> str:
    """What a command that is refused says, without the `digits: ` that `main` puts before it."""
    result = call(*arguments)
    assert isinstance(result.exception, DigitsError), result.output
    assert "\n" not in str(result.exception)
    return str(result.exception)


@pytest.fixture
def shop(tmp_path: Path, sample_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with data of the user's own and a quick recipe."""
    shutil.copytree(sample_folder, tmp_path / "data")
    (tmp_path / "data" / data.MARKER).write_text('{"kind": "own"}')
    (tmp_path / "quick.toml").write_text(QUICK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(data, "KAGGLE_INPUTS", ())
    return tmp_path


@pytest.fixture(scope="module")
def trained(sample_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and a finished run. Tests that change it make a copy first."""
    folder = tmp_path_factory.mktemp("trained")
    shutil.copytree(sample_folder, folder / "data")
    (folder / "data" / data.MARKER).write_text('{"kind": "own"}')
    (folder / "quick.toml").write_text(QUICK)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done("train", "quick.toml")
    return folder


@pytest.fixture
def worked(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that, as the current folder."""
    shutil.copytree(trained, tmp_path / "worked")
    monkeypatch.chdir(tmp_path / "worked")
    return tmp_path / "worked"


def only_run() -> Run:
    (run,) = runs.every(Path("submissions"))
    return run


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever trains fails the test."""

    def train(*_: object) -> None:
        pytest.fail("it was trained")

    monkeypatch.setattr(experiment, "begin", train)


# --- help


def walk(command: Any, name: str = "digits") -> Iterator[tuple[str, Any]]:
    yield name, command
    for below, inner in getattr(command, "commands", {}).items():
        yield from walk(inner, f"{name} {below}")


TREE = dict(walk(typer.main.get_command(app)))


def test_the_commands_are_those_that_are_promised() -> None:
    assert {name.removeprefix("digits ") for name in TREE} == {"digits", *COMMANDS, *BELOW}


@pytest.mark.parametrize("name", TREE)
def test_every_command_and_option_has_a_help_text(name: str) -> None:
    command = TREE[name]
    assert command.help
    assert command.help.strip()[0].isupper()
    for parameter in command.params:
        text = getattr(parameter, "help", None)
        assert text, parameter.name
        assert parameter.name in {"help", "install_completion", "show_completion"} or text[-1] in ".)", parameter.name


@pytest.mark.parametrize("name", TREE)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_names_every_option_and_fits_in_80_columns(name: str, flag: str) -> None:
    result = CliRunner(env={"COLUMNS": "80"}).invoke(app, [*name.split()[1:], flag])
    assert result.exit_code == 0
    for parameter in TREE[name].params:
        for option in parameter.opts:
            if option.startswith("--"):
                assert option in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_the_version_is_the_packages() -> None:
    assert done("--version") == f"digits {__version__}\n"


def test_the_first_line_of_a_commands_help_fits_in_the_list() -> None:
    text = done("--help")
    for name in COMMANDS:
        assert (TREE[f"digits {name}"].help or "").splitlines()[0] in text


def test_without_a_command_there_is_help() -> None:
    result = call()
    assert "Usage" in result.output
    for name in COMMANDS:
        assert name in result.output


def test_help_answers_at_once(tmp_path: Path) -> None:
    digits, best = Digits(tmp_path), 9.0
    for _ in range(5):
        start = time.perf_counter()
        assert digits("--help")[0] == 0
        best = min(best, time.perf_counter() - start)
        if best < 0.3:
            break
    assert best < 0.3


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys\nfrom digits.cli import main\nsys.argv = ['digits', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    print(*sys.modules, file=sys.stderr)"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stderr.split()
    assert "digits.cli" in loaded
    assert not {"numpy", "pandas", "matplotlib", "kaggle", "rich.progress", "requests"} & set(loaded)


# --- exit status


def test_what_the_user_can_mend_is_one_line_on_stderr_and_status_1(tmp_path: Path) -> None:
    for arguments in (["train", "mpl"], ["predict"], ["data", "--from", "nowhere.zip"]):
        status, out, err = Digits(tmp_path)(*arguments)
        assert status == 1
        assert re.fullmatch(r"digits: [^\n]+\n", err)
        assert "Traceback" not in out + err


def test_a_bug_keeps_its_traceback(tmp_path: Path) -> None:
    broken = "from digits import runs\ndef find(*_): raise ZeroDivisionError('a bug')\nruns.find = find"
    status, _, err = Digits(tmp_path)("predict", before=broken)
    assert status == 1
    assert "Traceback" in err
    assert "ZeroDivisionError: a bug" in err


def test_python_m_digits_is_the_command(tmp_path: Path) -> None:
    asked = subprocess.run([sys.executable, "-m", "digits", "--version"], capture_output=True, text=True, check=True)
    assert asked.stdout == f"digits {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nosuch"],
        ["train", "--nosuch"],
        ["train", "a", "b"],
        ["train", "--seed", "x"],
        ["train", "--seed", "-1"],
        ["train", "--seed", "1.5"],
        ["train", "--seed", str(2**63)],
        ["train", "--dev", "0.6"],
        ["train", "--dev", "-0.1"],
        ["train", "--dev", "nan"],
        ["train", "--folds", "1", "--fold", "0"],
        ["train", "--workers", "0"],
        ["show", "--index", "-1"],
        ["show", "--index"],
        ["submit", "a", "b"],
        ["--nosuch"],
    ],
)
def test_a_command_that_is_not_one_is_status_2(arguments: list[str]) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Error: " in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--folds", "3"], "quick has no folds of its own ([ensemble] folds)"),
        (["--fold", "1"], "give both"),
        (["--folds", "3", "--fold", "3"], "fold is from 0 to 2, not 3"),
        (["--full", "--folds", "3", "--fold", "0"], "--full holds out nothing and --folds does: leave one of them out"),
        (["--full", "--dev", "0.2"], "--full holds out nothing and --dev does: leave one of them out"),
        (["--dev", "0.0001"], "too few"),
        (["--folds", "601", "--fold", "600"], "too few"),
        (["--data", "nowhere"], "nowhere/train.csv is missing: run `digits data`"),
        (["--submissions", "quick.toml"], "a file stands where a folder should be"),
        (["--resume", "nothing"], "there are no runs in submissions: make one with `digits train`"),
    ],
)
def test_what_cannot_be_is_refused_before_a_run_is_begun(shop: Path, arguments: list[str], said: str) -> None:
    assert said in refusal("train", "quick.toml", *arguments)
    assert runs.every(shop / "submissions") == []


# --- data


def test_data_says_what_there_is_and_whether_it_is_official(shop: Path) -> None:
    text = done("data")
    assert "data: 600 labelled and 80 test images\n" in text
    assert "data: not the competition's official train.csv and test.csv: scores do not compare with others'\n" in text
    assert answer("data") == {
        "kind": "own",
        "train_images": 600,
        "test_images": 80,
        "sha256": data.load(shop / "data").sha256,
    }


def test_data_is_taken_from_a_zip(shop: Path) -> None:
    path = zipped(shop / "digits.zip", contents(shop / "data"))
    found = CliRunner().invoke(app, ["data", "--data", "new", "--from", str(path), "--own", "--json"])
    assert found.exit_code == 0
    assert json.loads(found.stdout)["train_images"] == 600
    assert f"taking the files from {path}" in found.stderr
    assert "left alone" in done("data", "--from", path)
    assert "taking" in done("data", "--from", path, "--replace", "--own")


def test_data_of_ones_own_is_taken_when_that_is_said(shop: Path) -> None:
    (shop / "data" / data.MARKER).unlink()
    assert "say so with `digits data --own`" in refusal("train", "quick.toml")
    done("data", "--own")
    assert answer("data")["kind"] == "own"


def test_data_that_is_wrong_is_named_by_file_line_and_column(shop: Path) -> None:
    lines = (shop / "data" / "train.csv").read_text().split("\n")
    lines[41] = "4,x" + lines[41][lines[41].index(",", 2) :]
    (shop / "data" / "train.csv").write_text("\n".join(lines))
    for command in ("data", "train", "submission"):
        message = refusal(command)
        assert message.startswith("data/train.csv, line 42, column 2 (pixel0): 'x' is not an integer from 0 to 255")


# --- train


@pytest.mark.usefixtures("unplotted")
def test_train_tells_what_it_does_and_what_came_of_it(shop: Path) -> None:
    text = done("train", "quick.toml", "--seed", "3")
    run = only_run()
    assert f"{run.id}: quick, 50,890 parameters\n" in text
    assert "training on 540 images, 60 held out: a dev split of 10% (split seed 0)\n" in text
    for epoch in (1, 2, 3):
        pattern = rf"^epoch {epoch}/3  loss \d\.\d{{4}}  train 0\.\d{{4}}  dev \d+\.\d\d% ± \d+\.\d\d  \d+\.\d s"
        assert re.search(pattern, text, re.MULTILINE), epoch
    assert re.search(rf"^run            {run.id}$", text, re.MULTILINE)
    assert re.search(r"^dev accuracy   \d+\.\d\d% ± \d+\.\d\d$", text, re.MULTILINE)
    assert re.search(rf"^submission     submissions/{run.id}/submission.csv$", text, re.MULTILINE)
    assert text.count("\nplot           ") == 3
    assert run.record["seed"] == 3
    assert "s3" in run.id


@pytest.mark.usefixtures("unplotted")
def test_train_answers_in_json(shop: Path) -> None:
    result = call("train", "quick.toml", "--json")
    record = json.loads(result.stdout)
    assert record.pop("folder") == str(only_run().folder)
    assert record == only_run().record
    assert "epoch 3/3" in result.stderr


@pytest.mark.usefixtures("unplotted")
def test_full_has_no_dev_score_and_says_so(shop: Path) -> None:
    text = done("train", "quick.toml", "--full")
    assert "training on all 600 images: there is no dev score\n" in text
    assert "dev accuracy   none: all labelled images were trained on\n" in text
    assert not re.search(r"dev \d", text)
    assert only_run().record["scores"]["dev"] is None


@pytest.mark.usefixtures("unplotted")
def test_a_fold_is_held_out_instead_of_a_fraction(shop: Path) -> None:
    text = done("train", "quick.toml", "--folds", "3", "--fold", "1", "--split-seed", "5")
    assert "training on 400 images, 200 held out: fold 1 of 3 (split seed 5)\n" in text
    assert only_run().record["split"] == {"fraction": 0.0, "folds": 3, "fold": 1, "seed": 5}


@pytest.mark.usefixtures("unplotted")
def test_a_pupil_holds_out_what_its_teachers_folds_were_kept_from(shop: Path) -> None:
    Path("folds.toml").write_text('extends = "quick.toml"\n[ensemble]\nmembers = 2\nfolds = 2\n')
    text = done("train", "folds.toml", "--folds", "2", "--dev", "0.2")
    assert (
        "480 images, each of 2 folds of what a dev split of 20% leaves in its turn (split seed 0): judged out" in text
    )
    teacher = only_run()
    assert teacher.record["split"] == {"fraction": 0.2, "folds": 2, "fold": None, "seed": 0}
    assert teacher.record["scores"]["dev"]["images"] == 480
    rest, dev = Split(0.2).indices(data.load(Path("data")).labels)
    for row, known in ((dev[0], "kept from it"), (rest[0], "trained on by most members")):
        assert answer("show", "--index", str(row))["image"] == f"row {row} of train.csv ({known})"
    Path("pupil.toml").write_text(f'extends = "quick.toml"\n[teacher]\nrun = "{teacher.id}"\nweight = 0.5\n')
    assert "the images to hold out" not in done("train", "pupil.toml", "--dev", "0.2")
    assert "have no answer from it: name a finished run" in refusal("train", "pupil.toml")


@pytest.mark.usefixtures("unplotted")
def test_the_dev_split_is_the_same_for_other_seeds(shop: Path) -> None:
    for seed in ("0", "1"):
        done("train", "quick.toml", "--seed", seed)
    first, second = runs.every(shop / "submissions")
    assert first.record["split"] == second.record["split"]
    with np.load(first.path("dev.npz")) as one, np.load(second.path("dev.npz")) as other:
        assert np.array_equal(one["rows"], other["rows"])


def test_a_finished_run_is_not_resumed(worked: Path) -> None:
    run = only_run()
    assert refusal("train", "--resume", run.id) == f"the run {run.id} is finished, there is nothing to resume"


def test_a_run_is_not_resumed_with_other_data(worked: Path) -> None:
    run = only_run()
    run.update(status="training")
    write_tables(worked / "other", 600, 80, kind="own")
    message = refusal("train", "--resume", run.id, "--data", "other")
    assert message.startswith(f"the run {run.id} was made with other data than this")
    assert "--data" in message


def test_a_recipe_that_is_none_is_refused_before_the_data_is_read(shop: Path) -> None:
    shutil.rmtree(shop / "data")
    for command in ("train", "submission", "demo"):
        assert "there is no recipe 'mpl', did you mean 'mlp'?" in refusal(command, "mpl")


def test_a_newest_submission_that_cannot_be_written_is_named_with_a_way_on_that_works(shop: Path) -> None:
    (shop / "submissions" / "submission.csv").mkdir(parents=True)
    message = refusal("train", "quick.toml")
    assert message.startswith("submissions/submission.csv can't be written (Is a directory)")
    (shop / "submissions" / "submission.csv").rmdir()
    (way,) = re.findall(r"`digits ([^`]+)`", message)
    done(*shlex.split(way))
    assert (shop / "submissions" / "submission.csv").read_bytes() == only_run().path("submission.csv").read_bytes()


# --- submission


@pytest.mark.usefixtures("unplotted")
def test_submission_trains_once_and_then_no_more(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "so one is trained" in done("submission", "quick.toml")
    run = only_run()
    newest = shop / "submissions" / "submission.csv"
    assert newest.read_bytes() == run.path("submission.csv").read_bytes()
    check_submission(newest, 80)
    before = contents(run.folder)
    with monkeypatch.context() as patch:
        patch.setattr(experiment, "predict", None)  # nor is anything predicted
        assert f"{run.id} is of the same recipe, seed, split, data and code, so nothing is trained" in done(
            "submission", "quick.toml"
        )
    assert contents(run.folder) == before
    assert answer("submission", "quick.toml")["id"] == run.id


@pytest.mark.usefixtures("untrained", "unplotted")
@pytest.mark.parametrize("damage", ["removed", "altered", "the newest removed", "the newest altered"])
def test_a_submission_that_is_gone_or_changed_is_written_again_from_the_weights(worked: Path, damage: str) -> None:
    run, newest = only_run(), worked / "submissions" / "submission.csv"
    good = run.path("submission.csv").read_bytes()
    path = newest if "newest" in damage else run.path("submission.csv")
    if "removed" in damage:
        path.unlink()
    else:
        path.write_bytes(good.replace(b",1\n", b",2\n"))
    done("submission", "quick.toml")
    assert run.path("submission.csv").read_bytes() == good
    assert newest.read_bytes() == good


@pytest.mark.usefixtures("unplotted")
@pytest.mark.parametrize("change", ["recipe", "seed", "dev", "data", "weights"])
def test_a_submission_of_anything_else_is_trained_anew(worked: Path, change: str) -> None:
    run, arguments = only_run(), ["quick.toml"]
    if change == "recipe":
        (worked / "quick.toml").write_text(QUICK.replace("units = 64", "units = 60"))
    elif change == "seed":
        arguments += ["--seed", "1"]
    elif change == "dev":
        arguments += ["--dev", "0.2"]
    elif change == "data":
        content = (worked / "data" / "test.csv").read_bytes()
        (worked / "data" / "test.csv").write_bytes(content[: content.rindex(b"\n", 0, -2) + 1])  # a row less
        (worked / "data" / "sample_submission.csv").unlink()
    else:
        run.path("weights.npz").unlink()
    assert "so one is trained" in done("submission", *arguments)
    newest, old = runs.every(worked / "submissions")
    assert old.id == run.id
    check_submission(worked / "submissions" / "submission.csv", 79 if change == "data" else 80)
    assert (worked / "submissions" / "submission.csv").read_bytes() == newest.path("submission.csv").read_bytes()


def test_weights_that_are_damaged_are_named_when_the_submission_must_be_written_again(worked: Path) -> None:
    run = only_run()
    run.path("submission.csv").unlink()
    run.path("weights.npz").write_bytes(run.path("weights.npz").read_bytes()[:-100])
    for command in (["submission", "quick.toml"], ["predict"], ["show"]):
        message = refusal(*command)
        assert message.startswith(f"{run.path('weights.npz')} is damaged (")
        assert message.endswith("train anew")


@pytest.mark.usefixtures("unplotted")
def test_one_damaged_run_is_no_hindrance_to_others(worked: Path) -> None:
    good = only_run()
    for name, text in (("a", "{"), ("b", "[]"), ("c", '{"format": 2}'), ("d", json.dumps({**good.record, "code": 5}))):
        folder = worked / "submissions" / f"20991231-000000-{name}"
        folder.mkdir()
        (folder / "run.json").write_text(text)
    assert f"{good.id} is of the same recipe" in done("submission", "quick.toml")
    assert answer("predict", good.id)["id"] == good.id
    assert [row["run"] for row in answer("leaderboard")][:1] == [good.id]
    assert "20991231-000000-a/run.json can't be read" in refusal("predict", "20991231-000000-a")


# --- predict


def test_predict_writes_a_runs_predictions_again(worked: Path) -> None:
    run = only_run()
    before = contents(worked / "submissions")
    run.path("submission.csv").write_text("spoilt")
    run.path("test.npz").unlink()
    (worked / "submissions" / "submission.csv").unlink()
    assert f"run            {run.id}\n" in done("predict", run.id[:15], "--workers", "2")
    after = contents(worked / "submissions")
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} <= {f"{run.id}/run.json"}
    assert runs.read(run.folder).record == run.record
    assert answer("predict")["id"] == run.id


def test_predict_with_other_data_is_refused(worked: Path) -> None:
    write_tables(worked / "other", 600, 80, kind="own")
    before = contents(worked / "submissions")
    assert "was made with other data" in refusal("predict", "--data", "other")
    assert contents(worked / "submissions") == before


def test_predict_of_a_run_that_is_not_finished_is_refused_or_reported_without_a_traceback(worked: Path) -> None:
    run = only_run()
    for key in ("scores", "seconds", "submission"):
        del run.record[key]
    run.update(status="training", finished=None)  # killed between its weights and its end
    result = call("predict", run.id)
    assert result.exit_code == 0 or isinstance(result.exception, DigitsError)
    assert "all labelled images were trained on" not in result.stdout  # that is not why there is no score


# --- show


@pytest.mark.parametrize("test", [False, True], ids=["train", "test"])
def test_show_draws_an_image_and_what_the_run_makes_of_it(worked: Path, test: bool) -> None:
    run, loaded = only_run(), data.load(worked / "data")
    flags = ["--test"] if test else []
    text = done("show", "--index", "7", *flags)
    path = run.path("test-7.png" if test else "train-7.png")
    with Image.open(path) as image:
        assert min(image.size) > 200
    assert f"picture: {path}\n" in text
    assert ("label: " in text) != test
    assert text.split("row 7 of")[0].count("\n") >= 28  # the image's lines
    found = answer("show", run.id, "--index", "7", "--png", "here.png", *flags)
    assert (worked / "here.png").exists()
    assert found["png"] == "here.png"
    assert found["label"] == (None if test else int(loaded.labels[7]))
    assert len(found["probabilities"]) == 10
    assert sum(found["probabilities"]) == pytest.approx(1, abs=1e-4)
    assert found["prediction"] == found["probabilities"].index(max(found["probabilities"]))
    assert f"prediction: {found['prediction']}" in text
    assert found["run"] == run.id
    submitted = run.path("submission.csv").read_text().splitlines()[8]
    assert not test or submitted == f"8,{found['prediction']}"


@pytest.mark.usefixtures("unplotted")
def test_show_says_whether_the_run_was_trained_on_the_image(worked: Path) -> None:
    _, dev = experiment.Split().indices(data.load(worked / "data").labels)
    for index in range(20):
        assert answer("show", "--index", str(index))["image"].endswith("(held out)" if index in dev else "(trained on)")
    write_tables(worked / "other", 600, 80, kind="own")
    assert answer("show", "--data", "other")["image"].endswith("(other data than the run's)")


@pytest.mark.parametrize(("flags", "last"), [([], 599), (["--test"], 79)])
def test_show_knows_where_the_table_ends(worked: Path, unplotted: None, flags: list[str], last: int) -> None:
    assert answer("show", "--index", str(last), *flags)["prediction"] in range(10)
    message = refusal("show", "--index", str(last + 1), *flags)
    assert message == f"{'test' if flags else 'train'}.csv has no row {last + 1}: its rows are 0 to {last}"


def test_show_names_a_picture_that_cannot_be_written(worked: Path) -> None:
    assert refusal("show", "--png", "no/where.png").startswith("no/where.png can't be written")


# --- recipe


def test_recipe_list_has_every_packaged_recipe_and_its_size() -> None:
    heads, *lines = done("recipe", "list").splitlines()
    assert heads.split() == ["recipe", "members", "parameters", "multiply-adds", "epochs", "description"]
    assert [line.split()[0] for line in lines] == recipes.names()
    for row, line in zip(answer("recipe", "list"), lines, strict=True):
        recipe = recipes.load(row["name"])
        members = [recipe.member(number).build() for number in range(row["members"])]
        assert row["parameters"] == sum(network.count for network in members)
        assert row["multiply_adds"] == sum(network.multiply_adds for network in members)
        assert (row["epochs"][0], row["description"]) == (recipe.train.epochs, recipe.description)
        assert f" {', '.join(map(str, row['epochs']))}  {row['description']}" in line
        assert f" {row['parameters']:,} " in line
        assert line.endswith(recipe.description)


BLOCK = """
description = "a residual block"
network = [
    { layer = "conv", channels = 4, padding = "same", bias = false },
    { layer = "residual", layers = [{ layer = "conv", channels = 8, stride = 2, padding = "same" }] },
    { layer = "globalavgpool" },
    { layer = "dense", units = 10 },
]
[train]
epochs = 100
[optimizer]
name = "sgd"
momentum = 0.5
[schedule]
name = "cosine"
"""


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A recipe with a residual block; whoever times it hears 3 seconds an epoch."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "block.toml").write_text(BLOCK)
    monkeypatch.setattr(outline, "epoch_seconds", lambda recipe, workers, images, look: 3.0)


def test_recipe_show_prints_layers_shapes_and_costs(hasty: None) -> None:
    text = done("recipe", "show", "block.toml", "--workers", "2")
    title, _, *rest = text.splitlines()
    assert title == "block: a residual block"
    assert [" ".join(line.split()) for line in rest[:8]] == [
        "layer output parameters multiply-adds",
        "0 conv channels=4 padding=same bias=false 28 x 28 x 4 36 28,224",
        "1 residual 14 x 14 x 8",
        "1.0 conv channels=8 stride=2 padding=same 14 x 14 x 8 296 56,448",
        "1.1 conv channels=8 kernel=1 stride=2 bias=false 14 x 14 x 8 32 6,272",
        "2 globalavgpool 8",
        "3 dense units=10 10 90 80",
        "all 454 91,024",
    ]
    for line in (
        "train      epochs=100",
        "optimizer  sgd momentum=0.5",
        "schedule   cosine",
        "average    none",
        "augment    all as by default",
        "time       about 3 s an epoch of 37,800 images, 5.0 min for 100, as measured here just now on 2 cores",
    ):
        assert line in rest


def test_recipe_show_says_how_many_cores_have_no_work(hasty: None) -> None:
    for workers, words in ((4, "4 cores"), (7, "7 cores, 3 of them mostly idle: the batch is cut into shards = 4")):
        assert done("recipe", "show", "block.toml", "--workers", workers).endswith(f" just now on {words}\n")
    Path("many.toml").write_text('extends = "block.toml"\n[ensemble]\nmembers = 8\n')
    assert done("recipe", "show", "many.toml", "--workers", 7).endswith(" just now on 7 cores\n")


def test_recipe_show_says_the_same_in_json(hasty: None) -> None:
    shown = answer("recipe", "show", "block.toml", "--workers", "1")
    assert [row["number"] for row in shown["layers"]] == ["0", "1", "1.0", "1.1", "2", "3"]
    assert sum(row["parameters"] for row in shown["layers"]) == shown["parameters"] == 454
    assert sum(row["multiply_adds"] for row in shown["layers"]) == shown["multiply_adds"] == 91_024
    assert shown["time"] == {"training_seconds": 300.0, "epoch_seconds": 3.0, "images": 37_800, "workers": 1}
    assert shown["optimizer"]["momentum"] == 0.5
    assert shown["description"] == "a residual block"


def test_recipe_show_tells_the_time_of_an_ensemble_with_its_members_side_by_side(hasty: None) -> None:
    Path("many.toml").write_text('extends = "block.toml"\n[ensemble]\nmembers = 8\n')
    text = done("recipe", "show", "many.toml", "--workers", "2")
    assert "ensemble   members=8\n" in text
    assert "about 12 s an epoch of 37,800 images, 20.0 min for 100, as measured here just now on 2 cores" in text
    assert answer("recipe", "show", "many.toml", "--workers", "2")["time"]["epoch_seconds"] == 12.0


def test_recipe_show_shows_all_recipes_of_an_ensemble(hasty: None) -> None:
    Path("two.toml").write_text('extends = "block.toml"\n[ensemble]\nmembers = 3\nothers = ["mlp"]\n')
    text = done("recipe", "show", "two.toml", "--workers", "2")
    assert "ensemble   members=3 others=mlp\n" in text
    first, second = text.split("\nIn turn with it, mlp: ")
    assert "globalavgpool" in first
    assert "dense units=1000" in second
    epochs = 2 * 100 + recipes.load("mlp").train.epochs
    assert f"time       about {1.5 * epochs / 60:.1f} min for the 3 members, as measured here" in second
    shown = answer("recipe", "show", "two.toml", "--workers", "2")
    assert shown["time"] == {"training_seconds": 1.5 * epochs, "workers": 2}
    (other,) = shown["ensemble"]["others"]
    assert other["name"] == "mlp"
    for kind, parameters in ((shown, 454), (other, recipes.load("mlp").parameters)):
        assert sum(row["parameters"] for row in kind["layers"]) == kind["parameters"] == parameters
        assert sum(row["multiply_adds"] for row in kind["layers"]) == kind["multiply_adds"]


def test_recipe_show_refuses_what_is_no_recipe() -> None:
    assert "did you mean 'mlp'?" in refusal("recipe", "show", "mpl")


# --- paths and places


@pytest.mark.usefixtures("unplotted")
def test_a_path_is_printed_as_it_is(shop: Path) -> None:
    """Though it looks like the markup or an emoji of what prints it."""
    for name in ("out :fire: [red]x[/red]", "a" * 100):
        text = done("train", "quick.toml", "--submissions", name)
        (run,) = runs.every(Path(name))
        assert f"submission     {name}/{run.id}/submission.csv\n" in text


@pytest.mark.parametrize("environment", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}, {"PYTHONUTF8": "1"}], ids=str)
def test_a_stdout_of_any_encoding_will_do(worked: Path, environment: dict[str, str]) -> None:
    process = Digits(worked).start("show", environment=environment)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "prediction: " in out


# --- demo


def test_the_demo_does_the_whole_job_from_nothing(tmp_path: Path) -> None:
    (tmp_path / "quick.toml").write_text(QUICK)
    digits = Digits(tmp_path)
    start = time.monotonic()
    status, out, err = digits("demo", "quick.toml")
    assert time.monotonic() - start < 60
    assert (status, err) == (0, "")
    run = digits.run()
    assert "drawing sample data from fonts into data/sample\n" in out
    assert "no upload accepts it" in out
    assert run.sample
    assert run.record["status"] == "finished"
    assert (run.record["data"]["train_images"], run.record["data"]["test_images"]) == (4500, 1000)
    assert run.record["scores"]["dev"]["accuracy"] > 0.5
    check_submission(run.path("submission.csv"), 1000)
    assert not (tmp_path / "submissions" / "submission.csv").exists()


@pytest.mark.usefixtures("unplotted")
def test_a_second_demo_draws_nothing(shop: Path, sample_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(sample_folder, shop / "data" / "sample")
    before = contents(shop / "data")
    assert "drawing" not in done("demo", "quick.toml")
    assert contents(shop / "data") == before
    assert not (shop / "submissions" / "submission.csv").exists()
    assert answer("demo", "quick.toml")["data"]["kind"] == "sample"


def test_a_demo_that_was_stopped_says_how_to_go_on_and_that_works(tmp_path: Path, sample_folder: Path) -> None:
    (tmp_path / "long.toml").write_text(LONG)
    shutil.copytree(sample_folder, tmp_path / "data" / "sample")
    digits = Digits(tmp_path)
    process = digits.start("demo", "long.toml", pause=0.1)
    wait_until(lambda: logged(digits.submissions) >= 1, process)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    (way,) = re.findall(r"go on with: digits (.*)\n", out)
    status, _, err = digits(*shlex.split(way))
    assert (status, err) == (0, "")
    assert digits.run().record["status"] == "finished"


def test_a_demo_does_not_draw_over_other_data(shop: Path) -> None:
    before = contents(shop / "data")
    (shop / "data" / data.MARKER).unlink()
    call("demo", "quick.toml", "--data", "data")
    assert {**contents(shop / "data"), data.MARKER: b""} == {**before, data.MARKER: b""}


def test_sample_data_is_not_mixed_into_the_newest_submission(
    worked: Path, sample_folder: Path, unplotted: None
) -> None:
    newest = (worked / "submissions" / "submission.csv").read_bytes()
    shutil.copytree(sample_folder, worked / "sample")
    done("train", "quick.toml", "--data", "sample")
    done("submission", "quick.toml", "--data", "sample")
    assert (worked / "submissions" / "submission.csv").read_bytes() == newest


def test_a_leaderboard_of_no_runs_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert answer("leaderboard") == []
    assert len(done("leaderboard").splitlines()) == 1


def test_every_answer_in_json_is_all_that_stdout_has(worked: Path, unplotted: None) -> None:
    for command in (["data"], ["submission", "quick.toml"], ["predict"], ["show"], ["leaderboard"], ["recipe", "list"]):
        answer(*command)
