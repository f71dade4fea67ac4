"""The package as a notebook and as a script: what is in it, and that it works with nothing but what Kaggle has."""

import ast
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from conftest import REAL_ZIP, ROOT

from digits import recipe, version
from digits.errors import DigitsError
from digits.kernel import notebook, prose
from digits.kernel.notebook import METADATA, Cell, Plan, as_script, build, write

PYTHON = ROOT / "build" / "kaggle" / "bin" / "python"
RUNS = ROOT / "submissions"
TINY = """
extends = "mlp"
description = "a moment's work"
network = [{ layer = "flatten" }, { layer = "dense", units = 32 }, { layer = "relu" }, { layer = "dense", units = 10 }]
[train]
epochs = 2
batch_size = 500
shards = 2
"""
# What the kit does for a recipe and a seed, without a command line: the whole of `digits train`.
KIT = """
import sys
from pathlib import Path
from digits import data, experiment, recipe
from digits.split import Split
found, folder = data.load(Path(sys.argv[2])), Path(sys.argv[3])
run = experiment.begin(recipe.load(sys.argv[1]), found, Split(), 0, 2, folder)
with experiment.Experiment(run, found, folder, 2) as work:
    for _ in work.train(lambda: False):
        pass
    work.finish()
"""
# Where a process can't have a network namespace without a network, it gets sockets that don't connect.
GUARD = """
import socket
def refuse(*_):
    raise OSError("there is no network")
for name in ("connect", "connect_ex", "sendto"):
    connect = getattr(socket.socket, name)
    def guarded(self, *a, connect=connect):
        return connect(self, *a) if self.family == socket.AF_UNIX else refuse()
    setattr(socket.socket, name, guarded)
socket.getaddrinfo = refuse
"""


def cells(text: str) -> dict[str, nbformat.NotebookNode]:
    return {cell.id: cell for cell in nbformat.reads(text, as_version=4).cells}


def files(text: str) -> dict[str, str]:
    """The files that a notebook's cells write, in their order."""
    found = {}
    for cell in cells(text).values():
        if cell.source.startswith("%%writefile "):
            first, _, rest = cell.source.partition("\n")
            found[first.split()[1]] = rest + "\n"
    return found


# --- what is in it


@pytest.mark.parametrize("name", recipe.names())
def test_a_notebook_of_every_recipe_is_valid_and_the_same_each_time(name: str) -> None:
    text = build(Plan(name), RUNS)
    nbformat.validate(nbformat.reads(text, as_version=4))
    assert text == build(Plan(name), RUNS)
    read = json.loads(text)
    assert (read["nbformat"], read["nbformat_minor"]) == (4, 5)
    assert read["metadata"]["kernelspec"]["name"] == "python3"
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in read["cells"])
    assert not re.search(r"20\d\d-\d\d-\d\dT", text)  # no time of building


def test_the_files_are_the_modules_to_the_byte() -> None:
    written = files(build(Plan("cnn"), RUNS))
    for name, text in written.items():
        assert text == (version.PACKAGE.parent / name).read_text(encoding="utf-8"), name
    assert "digits/recipes/cnn.toml" in written


def test_every_module_that_is_imported_is_there_and_none_of_the_command_line() -> None:
    written = files(build(Plan("cnn"), RUNS))
    modules = {notebook.module_of(name) for name in written if name.endswith(".py")}
    for name, text in written.items():
        if name.endswith(".py"):
            assert set(notebook.imports(text)) <= modules, name
    foreign = {
        alias.partition(".")[0]
        for name, text in written.items()
        if name.endswith(".py")
        for node in ast.walk(ast.parse(text))
        for alias in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [one.name for one in node.names]
            if isinstance(node, ast.Import)
            else []
        )
    } - set(sys.stdlib_module_names)
    assert foreign == {"digits", "numpy", "pandas", "matplotlib", "threadpoolctl"}
    assert not modules & {"digits.cli", "digits.display", "digits.kaggle", "digits.kernel", "digits.sample"}
    decisive = {path for pattern in version.DECISIVE for path in version.PACKAGE.glob(pattern)}
    assert {path.relative_to(version.PACKAGE.parent).as_posix() for path in decisive} <= written.keys()


def test_a_module_comes_after_those_that_it_imports_and_the_layers_come_early() -> None:
    order = [notebook.module_of(name) for name, _ in notebook.sources(["import digits.sitting"])]
    for at, module in enumerate(order):
        text = notebook.path_of(module).read_text(encoding="utf-8")
        later = set(notebook.imports(text)) & set(order[at + 1 :])
        assert not later, f"{module} comes before {later}"
    assert order.index("digits.nn.layers") < order.index("digits.nn.optim") < order.index("digits.train")


def test_every_chapter_names_modules_that_there_are() -> None:
    assert {*notebook.CHAPTERS, "network", "run"} == set(prose.CHAPTERS)
    for module in (
        *notebook.OPEN,
        *notebook.FIRST,
        *(one for chapter in notebook.CHAPTERS.values() for one in chapter),
    ):
        assert notebook.is_module(module), module


def test_what_a_reader_comes_for_is_open_and_the_rest_is_folded() -> None:
    found = cells(build(Plan("cnn"), RUNS))
    for name in ("digits-nn-layers-py", "digits-train-py", "digits-recipes-cnn-toml", "settings", "train"):
        assert not found[name].metadata
    for name in ("digits-data-py", "digits-files-py", "digits-nn-correlation-py"):
        assert found[name].metadata == {"_kg_hide-input": True, "jupyter": {"source_hidden": True}}


def test_the_story_has_the_committed_runs_with_their_error_bars() -> None:
    title = cells(build(Plan("cnn"), RUNS))["title"].source
    for seed in (0, 1, 2):
        assert re.search(rf"\| `\d+-\d+-cnn-s{seed}` \| 99\.\d\d% ± 0\.\d\d \|", title)
    scores = [json.loads(path.read_text(encoding="utf-8"))["scores"] for path in RUNS.glob("*-cnn-s*/run.json")]
    right = [score["dev"]["correct"] for score in scores if score["dev"]]
    assert f"**{100 * sum(right) / 4200 / len(right):.2f} %** on average" in title
    assert "not been measured" in cells(build(Plan("cnn"), RUNS / "nowhere"))["title"].source


def test_a_run_that_is_not_committed_is_not_in_the_story(tmp_path: Path) -> None:
    ledger = tmp_path / "submissions"
    for number, run in enumerate(sorted(RUNS.glob("*-cnn-s*"))[:2]):
        shutil.copytree(run, ledger / f"2026010{number}-000000-cnn-s{number}")
    assert "20260100-000000-cnn-s0" in build(Plan("cnn"), ledger)  # no checkout: all count
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "submissions/20260101-000000-cnn-s1/run.json"], check=True)
    text = build(Plan("cnn"), ledger)
    assert "20260101-000000-cnn-s1" in text
    assert "20260100-000000-cnn-s0" not in text


@pytest.mark.parametrize(
    ("name", "there", "not_there"), [("mlp", "Dense layers", "Convolution"), ("cnn", "Batch norm", "SiLU")]
)
def test_the_equations_are_those_of_the_recipe(name: str, there: str, not_there: str) -> None:
    equations = cells(build(Plan(name), RUNS))["equations"].source
    assert f"**{there}" in equations
    assert f"**{not_there}" not in equations
    assert equations.count("$$") % 2 == 0


def test_there_is_an_equation_for_every_layer_optimizer_and_average() -> None:
    from digits.nn import AVERAGES, LAYERS, OPTIMIZERS

    assert set(prose.LAYERS) == set(LAYERS) - {"flatten"}
    assert set(prose.OPTIMIZERS) == set(OPTIMIZERS)
    assert set(prose.AVERAGES) == set(AVERAGES) - {"none"}


def test_a_recipe_of_ones_own_comes_with_those_that_it_extends(tmp_path: Path) -> None:
    (tmp_path / "wide.toml").write_text('extends = "mlp"\n[train]\nepochs = 3\n')
    (tmp_path / "wider.toml").write_text('extends = "wide.toml"\n')
    written = files(build(Plan(str(tmp_path / "wider.toml")), RUNS))
    assert [name for name in written if name.endswith(".toml")] == [
        "digits/recipes/mlp.toml",
        "wide.toml",
        "wider.toml",
    ]
    (tmp_path / "in").mkdir()
    (tmp_path / "in/deep.toml").write_text('extends = "../wide.toml"\n')
    with pytest.raises(DigitsError, match=r"put it beside"):
        build(Plan(str(tmp_path / "in/deep.toml")), RUNS)


def test_an_ensemble_of_several_recipes_comes_with_all_of_them(tmp_path: Path) -> None:
    (tmp_path / "wide.toml").write_text('extends = "mlp"\n[optimizer]\nname = "sgd"\n[loss]\nlabel_smoothing = 0\n')
    mixed = tmp_path / "mixed.toml"
    mixed.write_text('extends = "cnn"\n[ensemble]\nmembers = 3\nothers = ["mlp", "wide.toml"]\n')
    text = build(Plan(str(mixed)), RUNS)
    names = [name.removeprefix("digits/recipes/") for name in files(text) if name.endswith(".toml")]
    assert names == ["cnn.toml", "mlp.toml", "wide.toml", "mixed.toml"]
    title, equations = (cells(text)[name].source for name in ("title", "equations"))
    assert "3 networks, in turn of 151,550 parameters, 11.5 million multiply-adds an image and of 1,796,010" in title
    assert "Convolutions" in equations
    assert equations.index("AdamW") < equations.index("Stochastic gradient descent")
    assert r"t = 0.95\,\mathrm{onehot} + 0.005 \text{ or } \mathrm{onehot}" in equations
    mixed.write_text('extends = "cnn"\n[ensemble]\nmembers = 2\nothers = ["in/wide.toml"]\n')
    (tmp_path / "in").mkdir()
    (tmp_path / "in/wide.toml").write_text('extends = "mlp"\n')
    with pytest.raises(DigitsError, match=r"names in/wide.toml, which is in another folder: put it beside"):
        build(Plan(str(mixed)), RUNS)


def test_the_metadata_ask_for_no_gpu_no_internet_and_privacy(tmp_path: Path) -> None:
    write(Plan("cnn"), tmp_path, RUNS, "tester")
    found = json.loads((tmp_path / METADATA).read_text())
    assert found == {
        "id": "tester/digit-recognizer-numpy-cnn",
        "title": "Digit Recognizer NumPy cnn",
        "code_file": "digit-recognizer-numpy.ipynb",
        "language": "python",
        "kernel_type": "notebook",
        "is_private": True,
        "enable_gpu": False,
        "enable_tpu": False,
        "enable_internet": False,
        "keywords": [],
        "dataset_sources": [],
        "kernel_sources": [],
        "competition_sources": ["digit-recognizer"],
        "model_sources": [],
    }
    assert notebook.metadata(Plan("cnn", script=True), public=True) | {"is_private": True} == found | {
        "id": f"{notebook.OWNER}/digit-recognizer-numpy-cnn-script",
        "title": "Digit Recognizer NumPy cnn script",
        "code_file": "digit-recognizer-numpy.py",
        "kernel_type": "script",
    }


@pytest.mark.parametrize(
    "plan",
    [
        Plan("cnn"),
        Plan("cnn", 3, True, True),
        Plan("deep", 12, True, members=100, only=(97, 98)),
        Plan("a_recipe.of-mine.toml", 1),
    ],
)
def test_a_title_is_as_long_as_kaggle_allows_and_becomes_the_address(plan: Plan) -> None:
    from slugify import slugify  # what the kaggle package makes addresses of titles with

    assert 5 <= len(plan.title) <= 50
    assert plan.slug == slugify(plan.title)


def test_a_recipe_with_a_teacher_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pupil.toml").write_text('extends = "cnn"\n[teacher]\nrun = "20261101-101010-folds-s0"\nweight = 0.5\n')
    with pytest.raises(
        DigitsError, match="learns from the run 20261101-101010-folds-s0, which a kernel has not at hand"
    ):
        build(Plan(str(tmp_path / "pupil.toml")), RUNS)
    (tmp_path / "mixed.toml").write_text('extends = "cnn"\n[ensemble]\nmembers = 2\nothers = ["pupil.toml"]\n')
    with pytest.raises(DigitsError, match="learns from the run 20261101-101010-folds-s0"):
        build(Plan(str(tmp_path / "mixed.toml")), RUNS)


def test_a_title_that_is_too_long_is_refused() -> None:
    with pytest.raises(DigitsError, match="shorten the recipe's name"):
        _ = Plan("a-recipe-with-a-name-that-goes-on-and-on.toml").title


def test_the_plans_settings_are_in_the_cell() -> None:
    found = cells(build(Plan("cnn", 4, full=True, hours=2.5, members=6, only=(1, 2)), RUNS))["settings"].source
    for line in ('"cnn",', "seed=4,", "full=True,", "hours=2.5,", "members=6,", "only=[1, 2],"):
        assert f"\n    {line}\n" in found


@pytest.mark.parametrize("text", ["'''", "a\n'''\n", "ends in a quote'", "ends in a backslash\\", "a \\ b \\n\n", ""])
def test_a_script_writes_any_text_as_it_is(text: str) -> None:
    script = as_script([Cell("file", "file", text, "a.txt")])
    written = {}
    exec(script, {"write": written.__setitem__})
    assert written == {"a.txt": text}


def test_the_script_has_the_same_files_and_words() -> None:
    plan = Plan("mlp")
    script, book = build(Plan("mlp", script=True), RUNS), build(plan, RUNS)
    compile(script, "script", "exec")
    for name, text in files(book).items():
        if name not in ("digits/outline.py",):
            assert text in script, name
    for line in cells(book)["title"].source.splitlines():
        assert f"# {line}".rstrip() in script.splitlines()


# --- it works where there is nothing but Kaggle's packages, and no network


def alone() -> list[str]:
    """What to run a program with so that it has no network; nothing where namespaces are not permitted."""
    words = ["unshare", "--map-root-user", "--net"]
    if not shutil.which("unshare") or subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        return []
    return words


class Kaggle:
    """A folder that has what /kaggle has, and Python with Kaggle's packages."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.working = root / "working"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("KAGGLE", "PYTHON"))},
            "DIGITS_KAGGLE": str(root),
            "PYTHONPATH": str(root / "guard"),
            "IPYTHONDIR": str(root / "ipython"),
            "JUPYTER_PLATFORM_DIRS": "1",
        }
        (root / "guard").mkdir(parents=True)
        (root / "guard/sitecustomize.py").write_text("" if alone() else GUARD)
        self.working.mkdir()

    def __call__(self, *words: str | Path, folder: Path | None = None, **environment: str) -> str:
        """The output of Python with these words, in the working folder."""
        done = subprocess.run(
            [*alone(), PYTHON, *words],
            cwd=folder or self.working,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def execute(self, book: Path, *cells: str) -> dict[str, nbformat.NotebookNode]:
        """The cells of a notebook, executed by a Jupyter kernel: all of it, or just these."""
        self(ROOT / "tests" / "notebook_run.py", book, self.root, self.root / "executed.ipynb", *cells)
        return {cell.id: cell for cell in nbformat.read(self.root / "executed.ipynb", as_version=4).cells}


def output(cell: nbformat.NotebookNode) -> str:
    """What a cell has printed."""
    return "".join(one.text for one in cell.outputs if one.output_type == "stream" and one.name == "stdout")


@pytest.fixture(scope="module")
def input_folder(request: pytest.FixtureRequest) -> Path:
    """The competition's data where it is at hand, else sample data."""
    folder: Path = request.getfixturevalue("real_folder" if REAL_ZIP.exists() else "sample_folder")
    return folder


@pytest.fixture(scope="module")
def kaggle(input_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Kaggle:
    """A session whose notebook has been executed from beginning to end."""
    if not PYTHON.exists():
        pytest.skip("Kaggle's packages are not at hand: `make test ON_KAGGLE=1` installs them in build/kaggle")
    root = tmp_path_factory.mktemp("kaggle")
    found = Kaggle(root)
    place = root / "input" / "competitions" / "digit-recognizer"
    shutil.copytree(input_folder, place, ignore=shutil.ignore_patterns(".cache"))
    (root / "tiny.toml").write_text(TINY)
    write(Plan(str(root / "tiny.toml")), root, RUNS)
    found.executed = found.execute(root / "digit-recognizer-numpy.ipynb")
    return found


def test_there_is_no_network(kaggle: Kaggle) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"import socket; socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 3)"
        with pytest.raises(AssertionError, match=r"Network is unreachable|there is no network"):
            kaggle("-c", code)


def test_the_versions_are_kaggles(kaggle: Kaggle) -> None:
    (record,) = [json.loads(path.read_text()) for path in kaggle.working.glob("submissions/*/run.json")]
    assert record["machine"]["versions"] | {"digits": "", "matplotlib": ""} == {
        "digits": "",
        "numpy": "2.0.2",
        "pandas": "2.2.2",
        "matplotlib": "",
    }
    assert record["status"] == "finished"
    assert record["code"]["sha256"] == version.source_digest()
    assert record["code"]["commit"] == version.code_version()["commit"]


def test_the_whole_notebook_runs_and_its_submission_is_the_kits_to_the_byte(
    kaggle: Kaggle, input_folder: Path, tmp_path: Path
) -> None:
    for cell in kaggle.executed.values():
        assert all(one.output_type != "error" for one in cell.get("outputs", []))
    for name in ("look", "augmentation", "score", "confusion", "mistakes", "doubts"):
        kinds = [set(one.data) for one in kaggle.executed[name].outputs if "data" in one]
        assert any("image/png" in kind for kind in kinds), name
    assert "epoch 2 of 2" in output(kaggle.executed["train"])
    kaggle(
        *("-c", KIT, kaggle.root / "tiny.toml", input_folder, tmp_path),
        folder=tmp_path,
        PYTHONPATH=f"{ROOT / 'src'}:{kaggle.root / 'guard'}",
    )
    (wanted,) = tmp_path.glob("*/submission.csv")
    assert (kaggle.working / "submission.csv").read_bytes() == wanted.read_bytes()


def test_a_cell_runs_alone_after_a_restart_and_nothing_is_trained_twice(kaggle: Kaggle) -> None:
    executed = kaggle.execute(kaggle.root / "digit-recognizer-numpy.ipynb", "settings", "train", "doubts", "submission")
    assert "is finished: nothing is trained" in output(executed["train"])
    assert len(list(kaggle.working.glob("submissions/*"))) == 1


def test_the_script_does_the_same(kaggle: Kaggle) -> None:
    before = (kaggle.working / "submission.csv").read_bytes()
    shutil.rmtree(kaggle.working)
    kaggle.working.mkdir()
    write(Plan(str(kaggle.root / "tiny.toml"), script=True), kaggle.root, RUNS)
    out = kaggle(kaggle.root / "digit-recognizer-numpy.py")
    assert "epoch 2 of 2" in out
    assert (kaggle.working / "submission.csv").read_bytes() == before


def test_the_packages_of_the_kit_that_kaggle_lacks_are_missing_there(kaggle: Kaggle) -> None:
    """So that a notebook which needed one of them would fail."""
    for name in ("rich", "typer", "kaggle"):
        assert importlib.util.find_spec(name)
        with pytest.raises(AssertionError, match="ModuleNotFoundError"):
            kaggle("-c", f"import {name}")
