"""An ensemble trained by kernels: what is pushed when, what survives, and that the run is the one made here."""

import io
import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kaggle_stub import Ending, Fault, KaggleStub, answer, drop, reset
from rich.console import Console
from sessions import run_script, settings_of
from test_submit import call, hurry

from digits import data as datasets
from digits import experiment, recipe, runs, version
from digits.cli import kernel as kernels
from digits.data import Data
from digits.errors import DigitsError
from digits.kaggle.client import KaggleClient
from digits.kernel import fleet as fleets
from digits.kernel import notebook
from digits.kernel.fleet import ATTEMPTS, STATE, Fleet, begin
from digits.kernel.notebook import Plan
from digits.split import Split

MEMBERS = 3
FILES = ("dev.npz", "test.npz", "submission.csv")


@pytest.fixture
def kaggle(kaggle_stub: KaggleStub, monkeypatch: pytest.MonkeyPatch) -> KaggleStub:
    """The stub, with nobody waiting for anything."""
    hurry(monkeypatch)
    monkeypatch.setattr(fleets, "POLL_SECONDS", 0)
    code = version.code_version()  # asked of git once, as that takes most of the time here
    monkeypatch.setattr(experiment, "code_version", lambda: code)
    monkeypatch.setattr(notebook, "code_version", lambda: code)
    monkeypatch.setattr(notebook, "tracked", lambda _: None)
    return kaggle_stub


@pytest.fixture
def works(kaggle: KaggleStub, desk: Path) -> KaggleStub:
    """The stub, whose kernels do what their text says, and a recipe with folds."""
    Path("folds.toml").write_text('extends = "quick.toml"\n[ensemble]\nmembers = 3\nfolds = 3\n')
    kaggle.run_kernel = run_script(desk / "kernels", desk / "data")
    return kaggle


@pytest.fixture
def data(desk: Path) -> Data:
    return datasets.load(Path("data"))


def command(*words: str) -> str:
    done = call("kernel", "fleet", "--recipe", "folds.toml", "--workers", "1", *words)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def assembled(data: Data, at_once: int = 5, each: int = 1) -> Fleet:
    """The fleet of the recipe, begun or gone on with."""
    run = begin(recipe.load("folds.toml"), data, Split(), 0, MEMBERS, each, 1, Path("submissions"))
    plan = Plan("folds.toml", 0, script=True, members=MEMBERS)
    return Fleet(run, data, plan, at_once, Path("submissions"))


def client() -> KaggleClient:
    return KaggleClient(sleep=lambda _: None)


def sail(fleet: Fleet, rounds: int = 100) -> list[str]:
    """Work on it until it is complete or so many rounds have gone by; what happened."""
    said = []
    left = iter(range(rounds - 1))
    with client() as kaggle:
        for word in fleet.work(kaggle, lambda: False, lambda _: None):
            if word:
                said.append(word)
            elif next(left, None) is None:
                break
    return said


def pushes(kaggle: KaggleStub) -> dict[str, int]:
    return {ref.partition("/")[2]: len(versions) for ref, versions in kaggle.kernels.items()}


ONCE_EACH = {f"digits-numpy-folds-s0-{number}-of-3": 1 for number in (1, 2, 3)}


def test_the_fleets_run_is_the_one_that_is_trained_here(works: KaggleStub, data: Data) -> None:
    said = command("--at-once", "2")
    assert "3 members on 3 kernels, 2 at a time" in said
    (run,) = runs.every(Path("submissions"))
    assert run.record["status"] == "finished"
    assert "cut_short" not in run.record
    assert runs.dev_score(run).images == len(data.labels)  # out of fold, on all of them
    assert Path("submissions/submission.csv").read_bytes() == run.path("submission.csv").read_bytes()
    here = Path("here")
    assert call("train", "folds.toml", "--submissions", str(here), "--workers", "1").exit_code == 0
    (wanted,) = runs.every(here)
    for name in FILES:
        assert run.path(name).read_bytes() == wanted.path(name).read_bytes(), name
    assert pushes(works) == ONCE_EACH
    assert [part.record["kernel"]["version"] for part in runs.members(run)] == [1, 1, 1]
    assert call("submit", run.id).exit_code == 0


def test_a_kernel_trains_as_many_members_as_it_is_told(works: KaggleStub, data: Data) -> None:
    command("--each", "2")
    assert pushes(works) == {"digits-numpy-folds-s0-1-2-of-3": 1, "digits-numpy-folds-s0-3-of-3": 1}
    body, _ = works.kernels["tester/digits-numpy-folds-s0-1-2-of-3"][0]
    words, settings = settings_of(body["text"])
    assert words == ["folds.toml"]
    assert {key: settings[key] for key in ("seed", "members", "only")} == {"seed": 0, "members": 3, "only": [0, 1]}


def test_any_recipe_can_be_a_fleet(works: KaggleStub, desk: Path) -> None:
    done = call("kernel", "fleet", "--recipe", "quick.toml", "--members", "2", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["recipe"]["ensemble"]["members"] == 2
    done = call("kernel", "fleet", "--recipe", "quick.toml")
    assert isinstance(done.exception, DigitsError)
    assert "give --members" in str(done.exception)


def test_no_more_run_at_once_than_is_said(works: KaggleStub, data: Data) -> None:
    most = 0
    run = works.run_kernel

    def count(ref: str, version: int, body: Any) -> Ending:
        nonlocal most
        most = max(most, 1 + sum(not works._ended(other) for other in works.kernels if other != ref))
        return run(ref, version, body)

    works.run_kernel = count
    sail(assembled(data, at_once=2))
    assert most == 2


def test_where_kaggle_runs_fewer_at_once_the_others_wait(works: KaggleStub, data: Data) -> None:
    works.kernels_at_once = 1
    fleet = assembled(data)
    said = sail(fleet)
    assert fleet.complete
    assert pushes(works) == ONCE_EACH
    assert any(line.startswith("Kaggle runs no more kernels at once") for line in said)
    assert {part.attempts for part in fleet.parts} == {1}


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_a_fleet_that_is_stopped_goes_on_and_pushes_nothing_twice(rounds: int, works: KaggleStub, data: Data) -> None:
    first = assembled(data, at_once=1)
    sail(first, rounds)
    assert not first.complete
    again = assembled(data, at_once=1)
    assert again.run.id == first.run.id
    assert again.parts == first.parts
    sail(again)
    assert again.complete
    assert pushes(works) == ONCE_EACH


class Killed(BaseException):
    """What ends a process."""


@pytest.mark.parametrize("state", ["pushing", "running", "done"])
def test_a_fleet_that_is_killed_at_any_write_goes_on(
    state: str, works: KaggleStub, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before or after its state is written, whichever it was about to be."""
    write = fleets.write_json
    for after in (True, False):

        def die(path: Path, value: Any, after: bool = after) -> None:
            if path.name == STATE and any(part["state"] == state for part in value):
                if after:
                    write(path, value)
                raise Killed

        fleet = assembled(data)
        with monkeypatch.context() as patch:
            patch.setattr(fleets, "write_json", die)
            with pytest.raises(Killed):
                sail(fleet)
    fleet = assembled(data)
    sail(fleet)
    assert fleet.complete
    assert pushes(works) == ONCE_EACH
    fleet.finish(1)
    assert fleet.run.record["status"] == "finished"


@pytest.mark.parametrize("fault", [drop(after=True), reset(after=True), answer(503, after=True)], ids=str)
def test_a_push_whose_answer_is_lost_is_not_made_twice(fault: Fault, works: KaggleStub, data: Data) -> None:
    works.fail("SaveKernel", fault)
    sail(assembled(data))
    assert pushes(works) == ONCE_EACH


def test_a_push_of_which_nothing_is_known_is_looked_for_in_the_next_round(works: KaggleStub, data: Data) -> None:
    fleet = assembled(data, at_once=1)
    works.fail("SaveKernel", drop(after=True))
    with client() as kaggle:
        words = fleet.work(kaggle, lambda: False, lambda _: None)
        # Signed in; then: the version before, the version once more, the push that is lost, and nothing for a while.
        works.script = iter([None, None, drop(after=True), *[drop()] * 5])
        said = next(words)
        assert said
        assert "is not known" in said
        assert fleet.parts[0].state == "pushing"
        assert json.loads(fleet.run.path(STATE).read_text())[0]["state"] == "pushing"
    works._faults.clear()
    again = assembled(data, at_once=1)
    sail(again)
    assert again.complete
    assert pushes(works) == ONCE_EACH


@pytest.mark.parametrize("name", ["GetKernelSessionStatus", "ListKernelSessionOutput", "OUTPUT", "GetKernel"])
def test_a_connection_that_is_lost_for_long_stops_nothing(name: str, works: KaggleStub, data: Data) -> None:
    works.fail(name, drop(), times=12)  # more than the client's own patience
    fleet = assembled(data)
    said = sail(fleet)
    assert fleet.complete
    assert any("going on in a while" in line for line in said)
    assert pushes(works) == ONCE_EACH


def failing(
    works: KaggleStub, how: Callable[[Ending], Ending], times: int, slug: str = "digits-numpy-folds-s0-2-of-3"
) -> None:
    """Have the kernel of one part fail so many times."""
    run = works.run_kernel

    def fail(ref: str, version: int, body: Any) -> Ending:
        made = run(ref, version, body)
        return how(made) if ref == f"tester/{slug}" and version <= times else made

    works.run_kernel = fail


HOW: dict[str, Callable[[Ending], Ending]] = {
    "error": lambda made: Ending("ERROR", log="Traceback\nMemoryError\n", failure="out of memory"),
    "cancelled": lambda made: Ending("CANCEL_ACKNOWLEDGED"),
    "no output": lambda made: Ending("COMPLETE"),
    "no member": lambda made: Ending(files={n: d for n, d in made.files.items() if "/members/1/" not in n}),
    "no predictions": lambda made: Ending(files={n: d for n, d in made.files.items() if not n.endswith("/1/test.npz")}),
}


@pytest.mark.parametrize("how", HOW)
def test_what_fails_is_pushed_again(how: str, works: KaggleStub, data: Data) -> None:
    failing(works, HOW[how], 1)
    fleet = assembled(data)
    said = sail(fleet)
    assert fleet.complete
    assert pushes(works) == {**ONCE_EACH, "digits-numpy-folds-s0-2-of-3": 2}
    assert sum("it is pushed again" in line for line in said) == 1
    assert ("MemoryError" in said) == (how == "error")
    assert fleet.parts[1].attempts == 2


def test_a_kernel_that_is_not_known_yet_is_looked_for_and_one_that_is_gone_is_pushed_again(
    works: KaggleStub, data: Data
) -> None:
    works.fail("GetKernelSessionStatus", answer(404), times=2)
    fleet = assembled(data, at_once=1)
    sail(fleet, 3)
    assert pushes(works) == {"digits-numpy-folds-s0-1-of-3": 1}
    del works.kernels["tester/digits-numpy-folds-s0-1-of-3"]
    said = sail(fleet)
    assert fleet.complete
    assert any("no kernel tester/digits-numpy-folds-s0-1-of-3" in line for line in said)
    assert pushes(works) == ONCE_EACH


def test_what_fails_again_and_again_is_given_up_and_tried_when_asked_anew(works: KaggleStub, data: Data) -> None:
    failing(works, HOW["error"], ATTEMPTS)
    fleet = assembled(data)
    with pytest.raises(DigitsError, match=r"1 of 3 kernels failed for good.*out of memory.*run the same command again"):
        sail(fleet)
    assert [part.state for part in fleet.parts] == ["done", "failed", "done"]
    assert pushes(works) == {**ONCE_EACH, "digits-numpy-folds-s0-2-of-3": ATTEMPTS}
    again = assembled(data)
    sail(again)
    assert again.complete
    assert pushes(works) == {**ONCE_EACH, "digits-numpy-folds-s0-2-of-3": ATTEMPTS + 1}


def test_a_push_that_is_refused_ends_the_work_and_costs_no_attempt(works: KaggleStub, data: Data) -> None:
    works.push_error = "Notebook source is invalid"
    fleet = assembled(data)
    with pytest.raises(DigitsError, match="Notebook source is invalid"):
        sail(fleet)
    assert {(part.state, part.attempts) for part in fleet.parts} == {("waiting", 0)}
    works.push_error = ""
    sail(fleet)
    assert fleet.complete


def test_kernels_of_an_earlier_fleet_are_not_taken_for_this_ones(works: KaggleStub, data: Data) -> None:
    sail(assembled(data))
    shutil.rmtree("submissions")
    sail(assembled(data))
    assert pushes(works) == dict.fromkeys(ONCE_EACH, 2)


def test_members_of_other_data_or_code_are_refused(works: KaggleStub, data: Data) -> None:
    def alter(made: Ending) -> Ending:
        files = dict(made.files)
        for name in files:
            if name.endswith("/members/1/run.json"):
                record = json.loads(files[name])
                record["code"]["sha256"] = "0" * 64
                files[name] = json.dumps(record).encode()
        return Ending(files=files)

    failing(works, alter, ATTEMPTS)
    with pytest.raises(DigitsError, match="other code than this fleet's"):
        sail(assembled(data))


def test_a_member_with_too_little_time_is_refused_and_not_pushed_again(works: KaggleStub, data: Data) -> None:
    def alter(made: Ending) -> Ending:
        files = dict(made.files)
        for name in files:
            if name.endswith("/members/1/run.json"):
                files[name] = json.dumps({**json.loads(files[name]), "cut_short": {"step": 5, "steps": 33}}).encode()
        return Ending(files=files)

    failing(works, alter, 1)
    fleet = assembled(data)
    with pytest.raises(DigitsError, match=r"1 of 3 .* step 5 of 33 of member 2: give it more with --hours"):
        sail(fleet)
    assert pushes(works) == ONCE_EACH
    sail(assembled(data))
    assert pushes(works) == {**ONCE_EACH, "digits-numpy-folds-s0-2-of-3": 2}


def test_a_fleet_is_worked_on_by_one_at_a_time(works: KaggleStub, data: Data) -> None:
    with assembled(data).run.lock():
        done = call("kernel", "fleet", "--recipe", "folds.toml", "--workers", "1")
    assert "another process is at work on the run" in str(done.exception)
    assert not works.kernels
    command()
    assert pushes(works) == ONCE_EACH


def test_what_kaggle_does_not_finish_can_be_finished_here(works: KaggleStub, data: Data) -> None:
    fleet = assembled(data, at_once=1)
    sail(fleet, 5)
    assert sum(part.state == "done" for part in fleet.parts) in (1, 2)
    assert call("train", "--resume", fleet.run.id, "--workers", "1").exit_code == 0
    assert runs.read(fleet.run.folder).record["status"] == "finished"


def test_the_display_has_a_line_for_each_kernel(works: KaggleStub, data: Data) -> None:
    fleet = assembled(data, at_once=1)
    sail(fleet, 4)
    console = Console(file=io.StringIO(), width=100)
    console.print(kernels._fleet_table(fleet))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines[0].split() == [
        "members",
        "kernel",
        "state",
        "version",
        "attempt",
        "dev",
        "accuracy",
    ]
    assert re.match(r" 1 +digits-numpy-folds-s0-1-of-3 +done +1 +1 +\d+\.\d\d% ± \d+\.\d\d", lines[1])
    assert lines[3].split() == ["3", "-", "waiting", "-", "-", "-"]


def test_who_is_not_signed_in_begins_no_fleet(works: KaggleStub, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    done = call("kernel", "fleet", "--recipe", "folds.toml")
    assert "no Kaggle credentials" in str(done.exception)
    assert not Path("submissions").exists()


def test_ctrl_c_leaves_the_kernels_running_and_the_same_command_goes_on(works: KaggleStub, data: Data) -> None:
    run = works.run_kernel

    def interrupt(ref: str, version: int, body: Any) -> Ending:
        os.kill(os.getpid(), signal.SIGINT)
        return run(ref, version, body)

    works.run_kernel = interrupt
    done = call("kernel", "fleet", "--recipe", "folds.toml", "--workers", "1")
    assert done.exit_code == 128 + signal.SIGINT
    assert "the same command goes on with them" in done.output
    assert len(works.kernels) == 1
    works.run_kernel = run
    command()
    assert pushes(works) == ONCE_EACH


def test_a_damaged_state_is_told_of(works: KaggleStub, data: Data) -> None:
    fleet = assembled(data)
    fleet.run.path(STATE).write_text("[{]")
    with pytest.raises(DigitsError, match=r"fleet\.json can't be read"):
        assembled(data)


def test_a_fleet_lacks_members_until_they_are_all_there(works: KaggleStub, data: Data) -> None:
    fleet = assembled(data)
    with pytest.raises(DigitsError, match="lacks members"):
        fleet.finish(1)
