"""The command `digits sweep`: what it prints, refuses, and makes of a signal."""

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from jobs import LONG, Digits, complete, files, logged, wait_until
from typer.testing import CliRunner, Result

from digits import data, experiment, outline, runs
from digits import recipe as recipes
from digits.cli import app
from digits.comparison import compare, compare_seeds
from digits.errors import DigitsError
from digits.split import Split
from digits.sweep import grid, sweep, sweeps

QUICK = LONG.replace("epochs = 10", "epochs = 4")


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["sweep", *map(str, arguments)])


def done(*arguments: str | Path) -> str:
    result = call(*arguments)
    assert result.exit_code == 0, result.exception
    return result.stdout


@pytest.fixture
def shop(tmp_path: Path, sample_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with data of the user's own and a quick recipe."""
    shutil.copytree(sample_folder, tmp_path / "data")
    (tmp_path / "data" / data.MARKER).write_text('{"kind": "own"}')
    (tmp_path / "quick.toml").write_text(QUICK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sweep, "LOOK_SECONDS", 0.01)
    return tmp_path


LINES = ("--set", "optimizer.lr=1e-3,1e-7,1e30", "--set", "network.3.rate=0.2", "--seeds", "2", "--workers", "1")


@pytest.mark.usefixtures("unplotted")
def test_it_tells_what_it_does_and_what_came_of_it(shop: Path) -> None:
    text = done("quick.toml", *LINES)
    (work,) = sweeps.every(shop / "submissions")
    assert text.startswith(f"{work.id}: 3 configurations of quick, 2 seeds each\nall with network.3.rate=0.2\n")
    assert "training on 540 images, 60 held out: a dev split of 10% (split seed 0)\n" in text
    assert "configurations that are clearly losing after 25% and 50% of the epochs are stopped\n" in text
    assert re.search(r"^expected training time: about \d\S* s if none is stopped", text, re.MULTILINE)
    for seed in (0, 1):
        for epoch in (1, 4):  # at the second rung there is only one left, and it goes on to the end
            line = rf"^optimizer\.lr=0\.001  seed {seed}  epoch {epoch}/4  dev \d+\.\d\d%  \d+\.\d s$"
            assert re.search(line, text, re.MULTILINE)
        assert not re.search(rf"^optimizer\.lr=1e-07  seed {seed}  epoch 2/4", text, re.MULTILINE)
        assert f"\noptimizer.lr=1e+30  seed {seed}  diverged\n" in text
    assert re.search(
        r"^after 25% of the epochs 1 of 2 configurations is stopped\n"
        r"  optimizer\.lr=1e-07: \d+\.\d\d ± \d+\.\d\d points behind the best$",
        text,
        re.MULTILINE,
    )
    assert "after 50% of the epochs none" not in text
    table = text[text.index("optimizer.lr  seeds  dev accuracy") :].splitlines()
    assert [line.split()[0] for line in table] == ["optimizer.lr", "0.001", "1e-07", "1e+30"]
    assert re.fullmatch(r"0\.001 +2  +\d+\.\d\d% ± \d+\.\d\d  +\d+\.\d\d  +\S+ s  4 epochs", table[1])
    assert table[2].endswith("s  stopped at epoch 1 of 4")
    assert re.fullmatch(r"1e\+30 +2  - +-  +\S+( s)?  diverged", table[3])


@pytest.mark.usefixtures("unplotted")
def test_it_answers_in_json_and_the_same_command_again_says_the_same_at_once(shop: Path) -> None:
    result = call("quick.toml", *LINES, "--json")
    answer = json.loads(result.stdout)
    assert "seed 1  epoch 4/4" in result.stderr
    assert [row["status"] for row in answer["configurations"]] == ["finished", "stopped", "diverged"]
    assert answer["configurations"][0]["settings"] == {"optimizer.lr": 0.001, "network.3.rate": 0.2}
    assert answer["status"] == "finished"
    again = call("quick.toml", *LINES, "--json")
    assert json.loads(again.stdout) == answer
    assert again.stderr == ""
    assert json.loads(done("--resume", answer["id"], "--json")) == answer
    best = answer["configurations"][0]["runs"][0]
    assert runs.find(shop / "submissions", best).status == "finished"


@pytest.mark.usefixtures("unplotted")
def test_with_nothing_set_it_is_the_recipe_with_several_seeds(shop: Path) -> None:
    text = done("quick.toml", "--seeds", 2, "--workers", 1)
    assert "1 configuration of quick, 2 seeds each\n" in text
    assert "stopped" not in text
    assert [run.id[16:] for run in runs.every(shop / "submissions")] == ["quick-s1", "quick-s0"]
    assert re.search(r"^seeds  dev accuracy +sd +time  trained\n +2  \d", text, re.MULTILINE)


@pytest.mark.usefixtures("unplotted")
def test_a_variant_that_is_another_once_more_is_said_to_be(shop: Path) -> None:
    (shop / "variants.toml").write_text("[short]\ntrain.epochs = 1\n")
    text = done("quick.toml", "--variants", "variants.toml", "--set", "train.epochs=1", "--workers", 1)
    wanted = "train.epochs=1 variant=short comes to the same recipe as train.epochs=1 variant=as it is, which alone is"
    assert text.startswith(f"{wanted} trained\n")
    assert "1 configuration of quick, 1 seed each\n" in text


@pytest.mark.usefixtures("unplotted")
def test_the_time_that_is_expected_is_by_the_images_that_an_epoch_is_of(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outline, "epoch_seconds", lambda *_: 100.0)  # of the first, that is of all 540 images
    (shop / "variants.toml").write_text("[mined]\ntrain.epochs = 2\nmining = { share = 0.1 }\n")
    text = done("quick.toml", "--variants", "variants.toml", "--set", "train.epochs=1", "--workers", 1)
    assert "\nexpected training time: about 2.0 min if none" in text


@pytest.mark.usefixtures("unplotted")
def test_variants_are_in_the_table_by_their_names(shop: Path) -> None:
    (shop / "variants.toml").write_text('["half the rate"]\noptimizer.lr = 5e-4\n[shifted]\naugment.shift = 0.1\n')
    line = (
        "quick.toml",
        "--variants",
        "variants.toml",
        "--set",
        "train.epochs=2",
        "--workers",
        1,
        "--halving",
        0,
        "--seeds",
    )
    text = done(*line, 1)
    assert "3 configurations of quick, 1 seed each\nall with train.epochs=2\n" in text
    heads, *rows = (re.split(r"  +", row) for row in text.splitlines()[-4:])
    assert (heads[0], heads[-1]) == ("variant", "difference")
    assert {row[0] for row in rows} == {"as it is", "half the rate", "shifted"}
    ledger = {run.id[16:]: run for run in runs.every(shop / "submissions")}
    base = ledger.pop("quick-epochs-2-s0")
    assert ledger.keys() == {"quick-epochs-2-half-the-rate-s0", "quick-epochs-2-shifted-s0"}
    for name, run in ledger.items():
        difference = compare(base, run).difference
        (shown,) = (row[-1] for row in rows if row[0].replace(" ", "-") in name)
        assert shown == f"{100 * difference.value:+.2f} ± {100 * difference.standard_error:.2f}"
    assert [row[-1] for row in rows if row[0] == "as it is"] == ["-"]

    found = json.loads(done(*line, 2, "--json"))["configurations"]
    all_runs = runs.every(shop / "submissions")
    as_it_is, shifted = (
        [run for run in all_runs if run.record["recipe"]["name"] == name]
        for name in ("quick-epochs-2", "quick-epochs-2-shifted")
    )
    over_images = compare_seeds(as_it_is, shifted).over_images
    differences = {one["settings"]["variant"]: one["difference"] for one in found}
    assert differences["as it is"] is None
    assert differences["shifted"]["value"] == over_images.value
    assert differences["shifted"]["standard_error"] == over_images.standard_error

    # Under another name it is in the table under that, and trained no second time.
    (shop / "variants.toml").write_text('["half the rate"]\noptimizer.lr = 5e-4\n[moved]\naugment.shift = 0.1\n')
    renamed = json.loads(done(*line, 2, "--json"))["configurations"]
    assert {one["settings"]["variant"] for one in renamed} == {"as it is", "half the rate", "moved"}
    assert [run.id for run in runs.every(shop / "submissions")] == [run.id for run in all_runs]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--variants", "none.toml"], "there is no file of variants none.toml"),
        (["--set", "optimizer.lrr=1"], "unknown key 'lrr', did you mean 'lr'?"),
        (["--set", "optimizer.lr=1,fast!"], "'fast!' is not a value as in TOML"),
        (["--set", "optimizer.lr=1:2"], "add `--random 20`"),
        (["--random", "3"], "--random draws from what --set names"),
        (["--halving", "half"], "--halving half: it must be fractions of the epochs, as in 0.25,0.5, or 0"),
        (["--halving", "0.5,0.25"], "ascending"),
        (["--dev", "0"], "something must be held out"),
        (["--folds", "3"], "say which"),
        (["--backend", "dask"], "needs its scheduler's address"),
        (["--scheduler", "tcp://127.0.0.1:1"], "--scheduler goes with `--backend dask`"),
        (["--resume", "2026"], "there is no sweep 2026 in submissions/sweeps; there are none yet"),
        (["--data", "nowhere"], "nowhere/train.csv is missing: run `digits data`"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_begun(shop: Path, arguments: list[str], said: str) -> None:
    result = call("quick.toml", *arguments)
    assert isinstance(result.exception, DigitsError), result.output
    assert said in str(result.exception)
    assert "\n" not in str(result.exception)
    assert not (shop / "submissions").exists()


def test_a_failure_says_how_to_go_on(shop: Path) -> None:
    (shop / "submissions").mkdir()
    work = sweeps.begin(
        shop / "submissions",
        "quick",
        grid.configurations(recipes.load("quick.toml"), [{}]),
        data.load(shop / "data"),
        Split(),
        [0],
    )
    work.trials()[0].folder.write_text("in the way")
    message = str(call("--resume", work.id, "--workers", 1).exception)
    assert "a file stands where a folder should be" in message
    assert message.endswith(f"; then `digits sweep --resume {work.id}` goes on")


def test_ctrl_c_stops_all_processes_in_order_and_the_same_command_goes_on_bit_for_bit(
    tmp_path: Path, sample_folder: Path, unplotted: None
) -> None:
    (tmp_path / "long.toml").write_text(LONG)
    (tmp_path / "data").symlink_to(sample_folder)
    command: Any = ["sweep", "long.toml", "--seeds", "2", "--workers", "2"]
    digits = Digits(tmp_path, plots=False)
    process = digits.start(*command, before="import os; os.setpgid(0, 0)", pause=0.1)
    wait_until(lambda: logged(digits.submissions) >= 1, process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to the workers too
    out, err = process.communicate(timeout=60)
    (work,) = sweeps.every(digits.submissions)
    assert (process.returncode, err) == (130, "")
    assert out.endswith(f"\nstopped; go on with: digits sweep --resume {work.id}\n")
    assert not [run for run in runs.every(digits.submissions) if run.status != "interrupted"]
    assert all(run.path("checkpoint.npz").exists() for run in runs.every(digits.submissions))
    again = digits.start(*command)
    out, err = again.communicate(timeout=60)
    assert (again.returncode, err) == (0, "")
    assert out.startswith(f"{work.id}: ")
    loaded = data.load(sample_folder)
    first = runs.read(work.trials()[0].folder)
    chosen = recipes.load(str(tmp_path / "long.toml"))
    expected = complete(experiment.begin(chosen, loaded, Split(), 0, 1, tmp_path / "alone"), loaded)
    assert files(first) == files(expected)
    assert not subprocess.run(["pgrep", "-g", str(process.pid)], capture_output=True, text=True).stdout
