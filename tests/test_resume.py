"""What happens to real processes: signals, kills, two at once. They share nothing with the tests but the disk."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from jobs import LONG, Digits, files, logged, wait_until

from digits import runs
from digits.runs import Run

FREQUENT = "from digits import experiment; experiment.CHECKPOINT_SECONDS = 0.05"
NOON = """
from datetime import datetime
from digits import runs
class Noon(datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2026, 11, 23, 12, 0, 0, tzinfo=tz)
runs.datetime = Noon
"""


@pytest.fixture
def digits(tmp_path: Path, sample_folder: Path) -> Digits:
    """The command in a folder with two recipes."""
    (tmp_path / "long.toml").write_text(LONG)
    (tmp_path / "quick.toml").write_text(LONG.replace("epochs = 10", "epochs = 2"))
    (tmp_path / "data").symlink_to(sample_folder)
    return Digits(tmp_path, plots=False)


@pytest.fixture(scope="module")
def uninterrupted(sample_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """What becomes of the long recipe if nothing comes between."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    (folder / "long.toml").write_text(LONG)
    (folder / "data").symlink_to(sample_folder)
    digits = Digits(folder, plots=False)
    status, _, err = digits("train", "long.toml", "--workers", 1)
    assert (status, err) == (0, "")
    return digits.run()


def same(run: Run, other: Run) -> None:
    """Two runs have come to the same, bit for bit."""
    assert run.record["status"] == other.record["status"] == "finished"
    assert files(run) == files(other)
    assert run.record["scores"] == other.record["scores"]
    without_times = [[{**line, "seconds": 0} for line in each.log()] for each in (run, other)]
    assert without_times[0] == without_times[1]
    assert not run.path("checkpoint.npz").exists()
    assert not [path.name for path in run.folder.glob(".*") if path.name != ".lock"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_a_training_after_a_step_and_resume_goes_on_bit_for_bit(
    digits: Digits, uninterrupted: Run, number: int, status: int
) -> None:
    process = digits.start("train", "long.toml", "--workers", 2, pause=0.1)
    wait_until(lambda: logged(digits.submissions) >= 1, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    run = digits.run()
    assert process.returncode == status
    assert err == ""
    assert re.search(rf"stopped at step \d+ of 180; go on with: digits train --resume {run.id}\n$", out)
    assert run.status == "interrupted"
    assert not run.path("submission.csv").exists()
    code, out, err = digits("train", "--resume", run.id, "--workers", 1)
    assert (code, err) == (0, "")
    assert re.search(r"going on from step [1-9]\d* of 180\n", out)
    same(digits.run(), uninterrupted)


def test_a_training_that_is_killed_again_and_again_ends_as_if_it_had_not_been(
    digits: Digits, uninterrupted: Run
) -> None:
    process = digits.start("train", "long.toml", "--workers", 1, before=FREQUENT, pause=0.03)
    for lines, pause in ((1, 0.03), (3, 0.03), (5, 0)):
        wait_until(lambda lines=lines: logged(digits.submissions) >= lines, process)
        process.kill()
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
        run = digits.run()
        assert run.status == "interrupted"
        assert [line["epoch"] for line in run.log()] == list(range(1, len(run.log()) + 1))
        process = digits.start("train", "--resume", run.id, "--workers", 1, before=FREQUENT, pause=pause)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "going on from step " in out
    same(digits.run(), uninterrupted)


def test_a_run_that_is_killed_before_its_first_checkpoint_begins_again(digits: Digits) -> None:
    process = digits.start("train", "long.toml", pause=0.1)
    wait_until(lambda: logged(digits.submissions) >= 1, process)
    process.kill()
    process.communicate(timeout=60)
    run = digits.run()
    assert not run.path("checkpoint.npz").exists()
    again = digits.start("train", "--resume", run.id, pause=0.1)
    assert again.stdout is not None
    for line in again.stdout:
        assert "going on" not in line
        if line.startswith("epoch 1/"):
            break
    again.send_signal(signal.SIGINT)
    again.communicate(timeout=60)
    assert again.returncode == 130
    assert [line["epoch"] for line in run.log()] == list(range(1, len(run.log()) + 1))


def test_ctrl_c_before_the_training_has_begun_is_no_traceback(digits: Digits) -> None:
    interrupt = "from digits import data\ndef load(_): raise KeyboardInterrupt\ndata.load = load"
    status, _, err = digits("train", "long.toml", before=interrupt)
    assert status == 130
    assert "Traceback" not in err


def test_a_second_resume_of_one_run_is_refused_in_a_sentence(digits: Digits) -> None:
    first = digits.start("train", "long.toml", pause=0.1)
    wait_until(lambda: logged(digits.submissions) >= 1, first)
    run = digits.run()
    assert run.status == "training"
    status, out, err = digits("train", "--resume", run.id)
    assert first.poll() is None
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=60)
    assert (status, out) == (1, "")
    assert err == f"digits: another process is at work on the run {run.id}: wait for it, or stop it\n"


def test_two_trainings_begun_in_the_same_second_give_two_whole_runs(digits: Digits) -> None:
    both = [digits.start("train", "quick.toml", before=NOON) for _ in range(2)]
    for process in both:
        _, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
    found = runs.every(digits.submissions)
    assert {run.id for run in found} == {
        "20261123-120000-quick-s0-sample",
        "20261123-120000-quick-s0-sample-2",
    }
    same(*found)


STUCK = """
import signal, time
from digits.train import Training
def step(self):
    before = signal.getsignal({0})
    print("stuck", flush=True)
    while signal.getsignal({0}) is before:
        time.sleep(0.001)
    print("noted", flush=True)
    while True:  # one long sleep would not hear of a signal that comes just before it
        time.sleep(0.01)
Training.__next__ = step
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_second_signal_ends_a_step_that_never_ends(digits: Digits, number: int, status: int) -> None:
    process = digits.start("train", "long.toml", before=STUCK.format(int(number)))
    assert process.stdout is not None
    for line in ("stuck\n", "noted\n"):
        while process.stdout.readline() != line:
            assert process.poll() is None
        process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert "Traceback" not in err


def test_under_json_a_stopped_training_prints_nothing_on_stdout(digits: Digits) -> None:
    process = digits.start("train", "long.toml", "--json", pause=0.1)
    wait_until(lambda: logged(digits.submissions) >= 1, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "--resume" in err


def test_a_training_that_diverges_ends_with_one_sentence(digits: Digits) -> None:
    wild = LONG + '[optimizer]\nname = "sgd"\nlr = 1e30\n'
    (digits.folder / "wild.toml").write_text(wild)
    status, _, err = digits("train", "wild.toml")
    assert status == 1
    assert re.fullmatch(
        r"digits: the loss is (nan|inf) at step \d+ of 180 with a learning rate of 1e\+30: the training diverged; "
        r"lower lr in \[optimizer\] \(try 1e\+29 with sgd\), or give \[schedule\] a longer warmup\n",
        err,
    )
    run = digits.run()
    assert run.status == "failed"
    status, _, err = digits("train", "--resume", run.id)
    assert status == 1
    assert re.fullmatch(rf"digits: the run {run.id} failed for good \(.*\): train anew\n", err)


FULL = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, resource.RLIM_INFINITY))"


@pytest.mark.parametrize("room", [0, 500, 5_000, 100_000])
def test_a_disk_that_fills_up_ends_a_training_with_one_sentence(digits: Digits, room: int) -> None:
    status, _, err = digits("train", "quick.toml", before=FULL.format(room))
    assert status == 1
    assert re.fullmatch(r"digits: \S+ can't be written \(File too large\): [^\n]+\n", err)
    left = runs.every(digits.submissions)
    for path in digits.submissions.rglob("*"):
        assert path.is_dir() or path.name in {".lock", "run.json", "log.jsonl"}, path
    assert left or not list(digits.submissions.rglob("*"))  # a run that could not begin leaves nothing
    for run in left:
        json.loads(run.path("run.json").read_text())
        assert f"`digits train --resume {run.id}` goes on" in err
        assert digits("train", "--resume", run.id)[0] == 0
        assert runs.read(run.folder).status == "finished"
        assert not list(run.folder.glob(".*.*"))


def test_stdout_that_is_closed_early_is_no_traceback(digits: Digits) -> None:
    process = subprocess.Popen(
        [os.fspath(Path(os.sys.executable).parent / "digits"), "--help"],  # type: ignore[attr-defined]
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    process.stderr.close()
    process.wait(60)
    assert "Traceback" not in err
