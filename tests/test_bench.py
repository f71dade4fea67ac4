"""The bench: what is counted, how contenders are asked, and what comes out of it. Nothing is timed in earnest."""

import json
import os
import sys
import textwrap
from pathlib import Path

import pytest
from typer.testing import CliRunner

import bench
from bench import (
    KIT,
    ONE_WORKER,
    PEAK,
    PLAIN,
    SKLEARN,
    SKLEARN_64,
    TASKS,
    TORCH,
    TWO_WORKERS,
    Bench,
    Entrant,
    Results,
    Row,
    Task,
)
from contenders import kit, networks, plain, process, serving
from contenders.networks import NETWORKS, network, operations
from contenders.process import Contender, ContenderError
from contenders.serving import Job

ROOT = Path(__file__).parent.parent

# A contender that counts to 100 in no time at all, and does what a job's network says.
FAKE = """
    import os, sys, time
    from contextlib import contextmanager
    from contenders.serving import serve

    @contextmanager
    def prepare(job):
        print("a library chats")
        if job.network == "impossible":
            raise ValueError("not that one\\nand more")
        if job.network == "large":
            kept = b"x" * (55 << 20)
        print("ready", job.batch, job.variant, file=sys.stderr, flush=True)

        def step():
            if job.network == "dies":
                sys.exit("a fatal mistake")
            if job.network == "hangs":
                time.sleep(60)
            return 100

        yield step
        print("over", job.batch, job.variant, file=sys.stderr, flush=True)

    names = {"colour": "COLOUR", "held": "OPENBLAS_CORETYPE", "kept": "MALLOC_TRIM_THRESHOLD_", "own": "GLIBC_TUNABLES"}
    serve(prepare, "numpy", **{key: os.environ.get(name) for key, name in names.items()})
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Contender:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=0")
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)  # a Dask cluster that was begun here leaves one behind
    script = tmp_path / "fake.py"
    script.write_text(textwrap.dedent(FAKE), encoding="utf-8")
    path = os.pathsep.join(str(ROOT / folder) for folder in ("scripts", "src"))
    environment = {"PYTHONPATH": path, "COLOUR": "blue"}
    return Contender("fake", [sys.executable, str(script)], environment, tmp_path / "logs" / "fake.log")


@pytest.mark.parametrize(
    ("name", "parameters", "multiply_adds", "first"),
    [
        # 3 x 3 x 32 weights at each of 26 x 26 places
        ("Deotte's", 326_410, 15_162_752, 194_688),
        # 28² · 9 · 16, 14² · 9 · 16 · 32, 7² · 9 · 32 · 64, 64 · 10
        ("C16-C32-C64", 160 + 4_640 + 18_496 + 650, 112_896 + 903_168 + 903_168 + 640, 112_896),
        ("C16-C32-C64, batch norm", 23_946 + 2 * 112, 1_919_872, 112_896),
        ("MLP 800-800", 628_000 + 640_800 + 8_010, 627_200 + 640_000 + 8_000, 627_200),
        ("784-10-10", 7_960, 7_940, 7_840),
    ],
)
def test_the_networks_are_those_of_their_names(name: str, parameters: int, multiply_adds: int, first: int) -> None:
    net = network(name)
    assert (net.count, net.multiply_adds) == (parameters, multiply_adds)
    assert operations(net, "predict") == 2 * multiply_adds
    assert operations(net, "train") == 6 * multiply_adds - 2 * first


def test_the_operations_of_a_block_are_those_of_its_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    block = {"layer": "residual", "layers": [networks.conv(4, 1), networks.RELU]}
    monkeypatch.setitem(NETWORKS, "blocks", [networks.conv(4, 1), block, networks.FLATTEN])
    first, second = 28 * 28 * 4, 28 * 28 * 16
    assert operations(network("blocks"), "train") == 4 * first + 6 * second


def test_every_task_has_a_network() -> None:
    assert {task.network for task in TASKS} == set(NETWORKS)
    assert len({str(task) for task in TASKS}) == len(TASKS)
    assert {bench.SCALING, bench.MEMORY, bench.SKLEARN_TASK} <= set(TASKS)


def test_a_contender_says_who_it_is_and_runs_without_what_holds_libraries_back(fake: Contender) -> None:
    with fake:
        assert fake.ask(Job("train"), 0.01) > 1000
        assert set(fake.about["versions"]) == {"numpy"}
        assert (fake.about["colour"], fake.about["held"]) == ("blue", None)
        assert (fake.about["kept"], fake.about["own"]) == (str(1 << 32), "glibc.malloc.hugetlb=0")


def test_a_job_is_kept_ready_until_one_comes_that_differs_in_more_than_its_variant(fake: Contender) -> None:
    with fake:
        for batch, variant in ((1, "a"), (1, "b"), (1, "a"), (2, "a")):
            fake.ask(Job("train", batch=batch, variant=variant), 0)
    said = fake._log.read_text(encoding="utf-8").splitlines()
    assert [line for line in said if "chats" not in line] == [
        *("ready 1 a", "ready 1 b", "over 1 b", "over 1 a", "ready 2 a", "over 2 a"),
    ]


def test_a_job_that_fails_is_told_and_the_next_one_is_done(fake: Contender) -> None:
    with fake:
        with pytest.raises(ContenderError, match=r"^fake can't do it \(ValueError: not that one\)$"):
            fake.ask(Job("train", "impossible"), 0)
        assert fake.ask(Job("train"), 0) > 0
        with pytest.raises(ContenderError, match=r"^fake has ended \(a fatal mistake\)$"):
            fake.ask(Job("train", "dies"), 0)
        assert fake.ask(Job("train"), 0) > 0


def test_a_contender_that_does_not_answer_is_given_up(fake: Contender, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "JOB_SECONDS", 0.2)
    with fake, pytest.raises(ContenderError, match="did not answer in 0 s"):
        fake.ask(Job("train", "hangs"), 0)
    assert fake._process is None


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["/nowhere/python"], r"\(/nowhere/python: No such file or directory\)"),
        ([sys.executable, "-c", "import torchvision_of_old"], r"\(ModuleNotFoundError: No module named '.*'\)"),
    ],
)
def test_a_contender_that_is_missing_says_so_each_time(command: list[str], reason: str, tmp_path: Path) -> None:
    with Contender("PyTorch", command, {}, tmp_path / "log") as missing:
        for _ in range(2):
            with pytest.raises(ContenderError, match=f"^PyTorch is missing {reason}$"):
                missing.ask(Job("train"), 0)


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="this system does not tell shared memory")
def test_the_memory_of_a_job_is_what_it_grows_by(fake: Contender) -> None:
    with fake:
        assert fake.memory(Job("train"), 0.05) < 10 << 20
    with fake:
        assert 50 << 20 <= fake.memory(Job("train", "large"), 0.05) < 60 << 20


def test_steps_are_timed_after_those_that_warm_up() -> None:
    taken: list[int] = []
    answer = serving.timed(lambda: len(taken.append(0) or taken), 0, 3)  # type: ignore[func-returns-value]
    assert (answer["steps"], answer["count"], len(taken)) == (1, 4, 4)
    assert serving.timed(lambda: 1, 0.02, 0)["seconds"] >= 0.02


@pytest.mark.parametrize(
    ("job", "wanted"),
    [
        (Job("train", "MLP 800-800", 64), 64),
        (Job("train", "C16-C32-C64", 64, cores=2, shards=2), 64),
        (Job("predict", "784-10-10", cores=2), networks.PREDICTED),
    ],
)
def test_the_kit_does_its_jobs(job: Job, wanted: int) -> None:
    with kit.prepare(job) as step:
        assert step() == wanted
        assert step() == wanted


def test_the_kit_and_plain_numpy_do_the_tutorials_steps(sample_folder: Path) -> None:
    job = Job("tutorial", "784-10-10", steps=3, data=str(sample_folder))
    with pytest.MonkeyPatch.context() as patch:
        for module in (kit, plain):
            patch.setattr(module, "SET_ASIDE", 100)  # of 600 images
        with kit.prepare(job) as ours, plain.prepare(job) as theirs:
            assert ours() == theirs() == 3 * 500


def test_all_are_asked_in_turn_and_one_that_fails_is_out_of_the_race() -> None:
    asked: list[str] = []

    class Scripted(Contender):
        def __init__(self, name: str, *rates: float | None) -> None:
            super().__init__(name, [], {}, Path())
            self.rates = list(rates)

        def ask(self, job: Job, seconds: float) -> float:
            asked.append(self.name)
            rate = self.rates.pop(0)
            if rate is None:
                raise ContenderError(f"{self.name} broke down")
            return rate

    scripted = {one.name: one for one in (Scripted("a", 1, 5, 3), Scripted("b", 2, None), Scripted("c", 7, 9, 8))}
    task = Task("train", "C16-C32-C64", 64)
    runs = Bench(dict(scripted), 0, repetitions=3, pause=0)
    runs.race(task, [Entrant(name, Job("train")) for name in scripted])
    assert "".join(asked) == "abcabcac"
    assert [(row.contender, row.samples, row.median) for row in runs.results.rows] == [
        ("a", [1, 5, 3], 3),
        ("c", [7, 9, 8], 8),
    ]
    assert runs.results.notes == ["b broke down"]


def test_pytorch_is_timed_in_its_quickest_variant_and_compiled_where_that_pays() -> None:
    speeds = {"first": 10.0, "last": 20.0, "last, compiled": 5.0}
    asked: list[str] = []

    class Torch(Contender):
        def ask(self, job: Job, seconds: float) -> float:
            asked.append(job.variant)
            return speeds[job.variant]

    runs = Bench({TORCH: Torch(TORCH, [], {}, Path())}, 0, repetitions=1, pause=0)
    task, layouts = Task("train", "C16-C32-C64", 64), ["first", "last"]
    assert runs.quickest_variant(task, Job("train"), layouts, compiling=False) == "last"
    assert runs.quickest_variant(task, Job("train"), layouts, compiling=True) == "last"
    assert asked == ["first", "last", "first", "last", "last, compiled"]
    # it did not pay: the other batch sizes of the network go without
    runs.quickest_variant(Task("train", "C16-C32-C64", 128), Job("train"), layouts, compiling=True)
    assert asked[5:] == ["first", "last"]
    speeds["last, compiled"] = 30.0
    other = Task("train", "Deotte's", 64)
    assert runs.quickest_variant(other, Job("train"), layouts, compiling=True) == "last, compiled"
    assert runs.results.tried[str(other)] == {"first": 10.0, "last": 20.0, "last, compiled": 30.0}


def results() -> Results:
    """Of a machine with a peak of 100 GFLOP/s."""
    found = Results(memory={KIT: 500_000_000})
    operation = 2 * (3 * 15_162_752 - 194_688)
    for task in TASKS:
        if task.what == "train" and task.network == "Deotte's":
            rate = 70e9 / operation
            samples = {KIT: rate, TORCH: rate / (2.0 if task.batch == 128 else 1.4), PEAK: 100e9}
            samples |= {ONE_WORKER: rate / 1.8, TWO_WORKERS: rate} if task == bench.SCALING else {}
        elif task == bench.SKLEARN_TASK:
            samples = {KIT: 40.0, SKLEARN: 20.0, SKLEARN_64: 10.0}
        elif task.what == "tutorial":
            samples = {KIT: 90.0, PLAIN: 30.0}
        else:
            continue
        found.rows += [Row(task, name, "", [0.9 * median, median, 1.1 * median]) for name, median in samples.items()]
    return found


def test_figures_are_of_the_worst_batch_size_and_say_whether_they_are_reached() -> None:
    figures = {figure.name: figure for figure in bench.figures(results())}
    worst = figures["training, Deotte's: times PyTorch's best"]
    assert worst.value == pytest.approx(1.4)
    assert worst.detail == "64: 1.40, 128: 2.00, 256: 1.40"
    share = figures["training, Deotte's: of the machine's float32 matmul"]
    assert (share.value, share.reached) == (pytest.approx(0.7), True)
    reached = {name: figure.reached for name, figure in figures.items() if figure.value is not None}
    assert reached == {
        "training, Deotte's: times PyTorch's best": False,
        "training, Deotte's: of the machine's float32 matmul": True,
        "Deotte's, batch 128: 2 workers, times 1": False,
        "Deotte's, batch 128: working memory": True,
        "MLP 800-800, batch 256: times scikit-learn": False,
        "MLP 800-800, batch 256: times scikit-learn as it comes": True,
        "784-10-10, full batch: times plain float64 NumPy": False,
    }
    assert len(figures) == 12
    assert {figure.reached for figure in bench.figures(Results())} == {None}


def test_the_report_has_all_that_its_figures_follow_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in process.HOLDS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    for name in process.KEEPS:
        monkeypatch.delenv(name, raising=False)
    out = tmp_path / "build" / "bench.json"
    about = {KIT: {"python": "3.11", "versions": {"numpy": "2.4"}, "blas": ["openblas SkylakeX"]}}
    bench.report(results(), about, 0.5, out)
    said = capsys.readouterr().out
    content = json.loads(out.read_text(encoding="utf-8"))
    assert content["removed"] == ["OPENBLAS_CORETYPE"]
    assert content["set"] == process.KEEPS
    assert "OPENBLAS_CORETYPE held libraries back" in said
    assert content["contenders"] == about
    assert "openblas SkylakeX" in said
    assert content["machine"]["load"] == 0.5
    for row in content["rows"]:
        samples = sorted(row["samples_per_second"])
        assert row["median_per_second"] == samples[len(samples) // 2]
        facts = content["networks"][row["network"]]
        operations = facts["prediction_operations" if row["what"] == "predict" else "training_operations"]
        each = 1 if row["counted"] == "operations" else operations
        assert row["gflops"] == pytest.approx(row["median_per_second"] * each / 1e9)
    (ours,) = (row for row in content["rows"] if row["contender"] == KIT and row["what"] == "tutorial")
    assert ours["times_best_peer"] == pytest.approx(3)
    assert content["peak_gflops"] == pytest.approx(100)
    for figure in content["figures"]:
        word = {True: "reached", False: "not reached", None: "not measured"}[figure["reached"]]
        assert any(figure["name"] in line and word in line for line in said.splitlines())


def test_the_bench_runs_and_says_what_is_missing(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    options = ["--only", "784", "--quick", "--peers", str(tmp_path / "none"), "--data", str(tmp_path)]
    result = CliRunner().invoke(bench.app, [*options, "--out", str(out)])
    assert result.exit_code == 0, result.output
    notes = json.loads(out.read_text(encoding="utf-8"))["notes"]
    for name in (TORCH, SKLEARN):
        assert any(note.startswith(f"{name} is missing") and "make bench PEERS=1" in note for note in notes)
    assert any("train.csv is missing" in note for note in notes)


def test_a_task_that_there_is_not_is_refused() -> None:
    result = CliRunner().invoke(bench.app, ["--only", "resnet"])
    assert result.exit_code == 2
    assert "no task has 'resnet' in its name" in " ".join(result.output.split())
