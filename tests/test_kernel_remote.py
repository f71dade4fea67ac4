"""A kernel pushed to Kaggle, followed, and its run taken: the real `kaggle` package over HTTP, against the stub."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from calls import DEATHS, Killed, anew, dying_after
from hypothesis import given, settings
from hypothesis import strategies as st
from kaggle_stub import Ending, Fault, KaggleStub, answer, drop, garbage, hang, html, reset, truncate
from sessions import run_script
from test_submit import call, hurry

from digits import runs
from digits.errors import DigitsError
from digits.kaggle.answers import Session
from digits.kaggle.client import KaggleClient
from digits.kaggle.errors import KaggleError
from digits.kernel import remote
from digits.kernel.notebook import OWNER, Plan, metadata

REF = "tester/digit-recognizer-numpy-quick-script"
FULL = "Maximum batch CPU session count of 5 reached."


@pytest.fixture
def kaggle(kaggle_stub: KaggleStub, monkeypatch: pytest.MonkeyPatch) -> KaggleStub:
    """The stub, with nobody waiting for anything."""
    hurry(monkeypatch)
    return kaggle_stub


@pytest.fixture
def works(kaggle: KaggleStub, desk: Path) -> KaggleStub:
    """The stub, whose kernels do what their text says."""
    kaggle.run_kernel = run_script(desk / "kernels", desk / "data")
    return kaggle


def kernel(*words: str) -> str:
    """The stdout of a `digits kernel` command that succeeds."""
    done = call("kernel", *words)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def refusal(*words: str) -> tuple[str, str]:
    """What a `digits kernel` command that is refused prints before, and its sentence."""
    done = call("kernel", *words)
    assert isinstance(done.exception, DigitsError), (done.output, done.exception)
    assert "\n" not in str(done.exception)
    return done.output, str(done.exception)


def sign_in(said: Callable[[str], object] = lambda _: None, patience: float = 10.0) -> KaggleClient:
    return KaggleClient(said, read_timeout=patience, sleep=lambda _: None)


def push(said: Callable[[str], object] = lambda _: None, patience: float = 10.0, before: int | None = None) -> int:
    """Push a kernel by the client alone; its version."""
    with sign_in(said, patience) as client:
        return client.push(metadata(Plan("quick.toml", script=True), "tester"), "print(1)\n", before=before).version


QUICK = ("--recipe", "quick.toml", "--script")


def test_pushed_followed_taken_and_submitted(works: KaggleStub, desk: Path) -> None:
    said = kernel("push", *QUICK)
    assert f"pushed {REF}, version 1: {works.url}/code/{REF}" in said
    assert [line.removeprefix(f"{REF}: ") for line in said.splitlines()[1:4]] == ["queued", "running", "complete"]
    said = kernel("pull", *QUICK)
    (run,) = runs.every(Path("submissions"))
    assert run.id in said
    assert run.record["kernel"] == {"ref": REF, "version": 1}
    assert run.record["recipe"]["name"] == "quick"
    assert runs.dev_score(run)
    assert run.log()
    assert Path("submissions/submission.csv").read_bytes() == run.path("submission.csv").read_bytes()
    assert not list(Path("submissions").glob(".incoming-*"))
    done = call("submit", run.id)
    assert done.exit_code == 0, done.output
    assert len(works.submissions) == 1


def test_what_is_sent_is_what_the_metadata_say(works: KaggleStub, desk: Path) -> None:
    kernel("push", *QUICK, "--no-wait")
    body, _ = works.kernels[REF][0]
    assert body["slug"] == REF
    assert body["newTitle"] == "Digit Recognizer NumPy quick script"
    assert (body["language"], body["kernelType"]) == ("python", "script")
    assert body["competitionDataSources"] == ["digit-recognizer"]
    assert (body["isPrivate"], body["enableGpu"], body["enableInternet"]) == (True, False, False)
    assert body["text"] == Path("build/kernel", REF.partition("/")[2], "digit-recognizer-numpy.py").read_text()


def test_a_notebook_is_sent_with_each_cell_as_one_text_and_public_if_asked(kaggle: KaggleStub, desk: Path) -> None:
    answered = json.loads(kernel("push", "--recipe", "quick.toml", "--public", "--no-wait", "--json"))
    body, _ = kaggle.kernels["tester/digit-recognizer-numpy-quick"][0]
    assert answered == {
        "ref": "tester/digit-recognizer-numpy-quick",
        "version": 1,
        "url": f"{kaggle.url}/code/tester/digit-recognizer-numpy-quick",
    }
    assert (body["kernelType"], body["isPrivate"]) == ("notebook", False)
    assert all(isinstance(cell["source"], str) for cell in json.loads(body["text"])["cells"])


def test_a_kernel_is_built_with_nobody_signed_in(kaggle: KaggleStub, desk: Path) -> None:
    answered = json.loads(kernel("build", *QUICK, "--json"))
    assert Path(answered["file"]).exists()
    assert json.loads(Path(answered["file"]).with_name("kernel-metadata.json").read_text())["id"].startswith(
        f"{OWNER}/"
    )
    assert not kaggle.log
    assert "digit-recognizer-numpy.ipynb" in kernel("build", "--recipe", "quick.toml", "--folder", "elsewhere")


@pytest.mark.parametrize("fault", [drop(), reset(), answer(503), html(), answer(429)], ids=str)
def test_a_push_that_did_not_arrive_is_made_again(fault: Fault, kaggle: KaggleStub, desk: Path) -> None:
    kaggle.fail("SaveKernel", fault)
    said: list[str] = []
    assert push(said.append) == 1
    assert len(kaggle.kernels[REF]) == 1
    assert said


@pytest.mark.parametrize(
    "fault", [drop(after=True), reset(after=True), answer(503, after=True), html(after=True)], ids=str
)
def test_a_push_whose_answer_was_lost_is_found_and_not_made_twice(fault: Fault, kaggle: KaggleStub, desk: Path) -> None:
    push()
    kaggle.fail("SaveKernel", fault)
    assert push() == 2
    assert len(kaggle.kernels[REF]) == 2


def test_a_push_that_hangs_after_it_arrived_is_found(kaggle: KaggleStub, desk: Path) -> None:
    kaggle.fail("SaveKernel", hang(after=True))
    assert push(patience=0.2) == 1
    assert len(kaggle.kernels[REF]) == 1


def test_where_there_is_no_knowing_whether_a_push_arrived_it_is_told(kaggle: KaggleStub, desk: Path) -> None:
    with sign_in() as client:
        kaggle.fail("SaveKernel", drop(after=True))
        kaggle.script = iter([None, None, *[drop()] * 9])
        with pytest.raises(KaggleError, match="arrived is not known") as caught:
            client.push(metadata(Plan("quick.toml", script=True), "tester"), "print(1)\n")
    assert caught.value.passing
    # The next attempt knows the version that there was before, and looks first.
    kaggle.script = iter(())
    assert push(before=0) == 1
    assert len(kaggle.kernels[REF]) == 1


def test_an_attempt_that_had_not_arrived_is_made(kaggle: KaggleStub, desk: Path) -> None:
    push()
    assert push(before=1) == 2
    assert len(kaggle.kernels[REF]) == 2


def test_a_push_that_is_refused_is_told(kaggle: KaggleStub, desk: Path) -> None:
    kaggle.reasons["SaveKernel"] = (400, "The title is taken")
    _, sentence = refusal("push", *QUICK)
    assert "The title is taken" in sentence
    kaggle.reasons["SaveKernel"] = (403, "You must verify your phone number")
    assert "phone number verified" in refusal("push", *QUICK)[1]
    assert kaggle.calls("SaveKernel") == 2


def test_an_error_in_an_answer_of_success_is_a_refusal(kaggle: KaggleStub, desk: Path) -> None:
    kaggle.push_error = "Notebook source is invalid"
    assert f"did not take the kernel {REF} (Notebook source is invalid)" in refusal("push", *QUICK)[1]
    kaggle.push_error = FULL
    assert "wait until one of your kernels has ended" in refusal("push", *QUICK)[1]
    assert kaggle.calls("SaveKernel") == 2
    assert not kaggle.kernels


def test_a_competition_that_is_refused_is_told_of(kaggle: KaggleStub, desk: Path) -> None:
    body = {"ref": f"/code/{REF}", "versionNumber": 1, "invalidCompetitionSources": ["digit-recognizer"]}
    kaggle.fail("SaveKernel", garbage(json.dumps(body)))
    assert "accept the rules" in refusal("push", *QUICK)[1]


def test_a_kernel_that_fails_shows_the_end_of_its_log(kaggle: KaggleStub, desk: Path) -> None:
    log = "".join(f"line {number}\n" for number in range(50)) + "ValueError: no such thing\n"
    kaggle.run_kernel = lambda ref, version, body: Ending("ERROR", log=log, failure="exit code 1")
    for words in (("push", *QUICK), ("pull", REF)):
        output, sentence = refusal(*words)
        assert sentence == f"the kernel {REF} has failed (exit code 1): mend what its log says, then push it again"
        assert "line 49\nValueError: no such thing\n" in output
        assert "line 20\n" not in output
    assert f"{REF}: error (exit code 1)\n" in kernel("status", REF)
    assert kernel("logs", REF) == log
    assert kernel("logs", REF, "--lines", "1") == "ValueError: no such thing\n"
    assert json.loads(kernel("status", "digit-recognizer-numpy-quick-script", "--json")) == {
        "kernel": REF,
        "status": "ERROR",
        "failure": "exit code 1",
    }


@pytest.mark.parametrize("status", ["CANCEL_ACKNOWLEDGED"])
def test_a_kernel_that_is_cancelled_is_told_of(status: str, kaggle: KaggleStub, desk: Path) -> None:
    kaggle.run_kernel = lambda ref, version, body: Ending(status)
    assert refusal("push", *QUICK)[1] == f"the kernel {REF} is cancelled: push it again"
    assert kernel("status", REF) == f"{REF}: cancelled\n"


def test_a_kernel_that_there_is_not(kaggle: KaggleStub, desk: Path) -> None:
    for command in ("status", "logs", "pull"):
        assert "Kaggle has no kernel tester/nothing-here" in refusal(command, "nothing-here")[1]


def test_a_kernel_that_is_not_known_yet_is_waited_for_and_one_that_stays_so_is_told(
    kaggle: KaggleStub, desk: Path
) -> None:
    push()
    kaggle.fail("GetKernelSessionStatus", answer(404), answer(403))
    with sign_in() as client:
        assert client.wait_for_kernel(REF) == Session("COMPLETE")
        with pytest.raises(KaggleError, match="no kernel tester/nothing"):
            client.wait_for_kernel("tester/nothing")


def test_pull_waits_for_a_kernel_that_is_still_at_work(works: KaggleStub, desk: Path) -> None:
    kernel("push", *QUICK, "--no-wait")
    assert "running" in kernel("pull", *QUICK)
    assert len(runs.every(Path("submissions"))) == 1


def test_a_run_that_is_here_already_is_not_fetched_again(works: KaggleStub, desk: Path) -> None:
    kernel("push", *QUICK)
    kernel("pull", *QUICK)
    fetched = works.calls("OUTPUT")
    assert "is there already" in kernel("pull", *QUICK)
    assert works.calls("OUTPUT") == fetched


@pytest.mark.parametrize("missing", ["run.json", "submission.csv", "test.npz"])
def test_output_that_is_missing_is_told_of_and_leaves_nothing(missing: str, works: KaggleStub, desk: Path) -> None:
    run = works.run_kernel

    def lose(ref: str, version: int, body: object) -> Ending:
        made = run(ref, version, body)
        return Ending("COMPLETE", {name: data for name, data in made.files.items() if not name.endswith(f"/{missing}")})

    works.run_kernel = lose
    kernel("push", *QUICK)
    sentence = refusal("pull", *QUICK)[1]
    assert missing in sentence
    assert REF in sentence
    assert list(Path("submissions").glob("*")) == []


def test_output_that_is_not_what_the_run_wrote_is_refused(works: KaggleStub, desk: Path) -> None:
    run = works.run_kernel

    def alter(ref: str, version: int, body: object) -> Ending:
        files = run(ref, version, body).files
        return Ending(files={name: data[:-2] if name.endswith(".csv") else data for name, data in files.items()})

    works.run_kernel = alter
    kernel("push", *QUICK)
    assert "is not what the run wrote" in refusal("pull", *QUICK)[1]
    assert not runs.every(Path("submissions"))


@pytest.mark.parametrize("name", ["ListKernelSessionOutput", "OUTPUT", "GetKernelSessionStatus"])
@pytest.mark.parametrize("fault", [drop(), truncate(), answer(503)], ids=str)
def test_trouble_in_between_passes(name: str, fault: Fault, works: KaggleStub, desk: Path) -> None:
    works.run_kernel = lambda ref, version, body: Ending(
        files={"submissions/20260101-000000-quick-s0/run.json": b"{}", "more.txt": b"abc" * 1000}, log="said\n"
    )
    push()
    works.fail(name, fault)
    with sign_in() as client:
        assert client.wait_for_kernel(REF) == Session("COMPLETE")
        found = client.outputs(REF)
        client.fetch(found.files["more.txt"], desk / "more.txt")
    assert (desk / "more.txt").read_bytes() == b"abc" * 1000
    assert found.log == "said\n"


def test_all_pages_of_the_output_are_read(kaggle: KaggleStub, desk: Path) -> None:
    kaggle.largest_page = 2
    kaggle.run_kernel = lambda ref, version, body: Ending(files={f"{n}.txt": b"" for n in range(7)})
    push()
    with sign_in() as client:
        assert sorted(client.outputs(REF).files) == [f"{n}.txt" for n in range(7)]


def test_a_file_that_would_land_elsewhere_is_left_alone(works: KaggleStub, desk: Path) -> None:
    run = works.run_kernel

    def add(ref: str, version: int, body: object) -> Ending:
        files = run(ref, version, body).files
        root = remote.run_folder(files, ref)
        return Ending(files={**files, f"{root}/../../../../outside.txt": b"no"})

    works.run_kernel = add
    kernel("push", *QUICK)
    kernel("pull", *QUICK)
    assert not list(desk.rglob("outside.txt"))


def test_an_ensemble_comes_with_its_members(works: KaggleStub, desk: Path) -> None:
    Path("two.toml").write_text('extends = "quick.toml"\n[ensemble]\nmembers = 2\n')
    words = ("--recipe", "two.toml", "--script")
    kernel("push", *words)
    kernel("pull", *words)
    (run,) = runs.every(Path("submissions"))
    assert [part.record["status"] for part in runs.members(run)] == ["finished"] * 2


FAULTS = st.sampled_from(
    [answer(status) for status in (400, 429, 500, 503)]
    + [html(), html(502), garbage("{}"), drop(), reset(), truncate()]
)
STRIKES = st.one_of(st.none(), FAULTS, FAULTS.map(lambda fault: replace(fault, after=True)))


@settings(max_examples=25, deadline=None)
@given(script=st.lists(STRIKES, max_size=25), deaths=DEATHS)
def test_whatever_happens_there_is_one_version(script: list[Fault | None], deaths: list[int | None]) -> None:
    """Push until it works, knowing from the second attempt on what there was before the first."""
    with anew() as (stub, _):
        stub.script = iter(script)
        for attempt in range(60):
            try:
                with dying_after(deaths.pop() if deaths else None):
                    version = push(before=0 if attempt else None)
            except (DigitsError, Killed):
                continue
            break
        assert len(stub.kernels[REF]) == version == 1


def test_no_secret_is_ever_printed(kaggle: KaggleStub, desk: Path) -> None:
    kaggle.reasons["SaveKernel"] = (400, "no")
    everything = "".join(refusal("push", *QUICK))
    kaggle.reasons["GetKernelSessionStatus"] = (400, "no")
    everything += "".join(refusal("status", REF))
    for secret in kaggle.secrets:
        assert secret not in everything


def test_who_has_no_name_is_told(kaggle: KaggleStub, desk: Path) -> None:
    with sign_in() as client:
        assert client.username == "tester"
        client._connection._username = ""
        with pytest.raises(KaggleError, match="did not say whose"):
            _ = client.username
