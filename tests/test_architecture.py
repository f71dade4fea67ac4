"""Imports run one way, heavy ones wait, and only the command line prints."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import digits

SOURCE = Path(digits.__file__).parent
MODULES = {
    ".".join(("digits", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(SOURCE.rglob("*.py"))
}
HEAVY = {"dask", "distributed", "joblib", "kaggle", "kagglesdk", "matplotlib", "pandas", "PIL", "ray", "requests"}


def imports(nodes: Iterator[ast.AST] | list[ast.stmt], module: str) -> set[str]:
    """The modules that are imported by these nodes, `from a import b` as a or, where that is one of ours, as a.b."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: an import relative to it"
            assert node.module
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else node.module)
    return found


def anywhere(module: str) -> set[str]:
    """What a module imports, in its functions too, and for its type checker."""
    return imports(ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))), module)


def at_once(module: str) -> set[str]:
    """What a module imports when it is imported itself."""

    def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
        for node in body:
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                continue
            yield node
            for inner in ("body", "orelse", "finalbody"):
                if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield from statements(getattr(node, inner, []))
            for handler in getattr(node, "handlers", []):
                yield from statements(handler.body)

    return imports(statements(ast.parse(MODULES[module].read_text(encoding="utf-8")).body), module)


def top(name: str) -> str:
    return name.partition(".")[0]


def within(package: str) -> list[str]:
    return [module for module in MODULES if f"{module}.".startswith(f"{package}.")]


def test_the_modules_are_found() -> None:
    assert {"digits", "digits.nn", "digits.nn.layers", "digits.cli", "digits.errors"} <= MODULES.keys()
    assert "digits.nn.pixels" in anywhere("digits.nn.layers")
    assert "numpy" in at_once("digits.train")
    assert "matplotlib" in {top(name) for name in anywhere("digits.plots")}


@pytest.mark.parametrize("module", within("digits.nn"))
def test_the_network_needs_numpy_alone(module: str) -> None:
    foreign = {name for name in anywhere(module) if top(name) not in sys.stdlib_module_names}
    assert all(top(name) == "numpy" or f"{name}.".startswith("digits.nn.") for name in foreign), foreign


@pytest.mark.parametrize(
    "module",
    [
        "errors",
        "files",
        "stats",
        "competition",
        "entry",
        "submission",
        "runs",
        "kaggle",
        "table",
        "split",
        "machine",
        "version",
        "submit",
        "leaderboard",
    ],
)
def test_what_does_not_need_the_network_does_not_know_it(module: str) -> None:
    reached, waiting = set(), {f"digits.{module}"}
    while waiting:
        name = waiting.pop()
        reached.add(name)
        waiting |= (anywhere(name) & MODULES.keys()) - reached
    assert not reached & set(within("digits.nn")), reached


@pytest.mark.parametrize("module", MODULES)
def test_nobody_imports_the_command_line(module: str) -> None:
    if module != "digits.__main__" and module not in within("digits.cli"):
        assert not anywhere(module) & set(within("digits.cli"))


def test_no_import_goes_round_in_a_circle() -> None:
    order: dict[str, bool] = {}  # False while a module's imports are being followed, True when they are done

    def follow(module: str) -> None:
        order[module] = False
        for name in anywhere(module) & MODULES.keys() - {"digits"}:
            assert order.get(name, True), f"{module} and {name} import each other"
            if name not in order:
                follow(name)
        order[module] = True

    for module in MODULES:
        if module not in order:
            follow(module)


@pytest.mark.parametrize("module", MODULES)
def test_only_the_command_line_prints(module: str) -> None:
    if module in ("digits.display", *within("digits.cli")):
        return
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    names = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert "print" not in names
    assert not {"rich", "typer"} & {top(name) for name in anywhere(module)}
    streams = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not {"sys.stdout", "sys.stderr"} & streams


@pytest.mark.parametrize("module", MODULES)
def test_heavy_imports_wait_until_they_are_needed(module: str) -> None:
    assert not HEAVY & {top(name) for name in at_once(module)}


@pytest.mark.parametrize("module", ["digits.nn", "digits.train", "digits.cli", "digits.leaderboard"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(answer.stdout.split())
    assert "digits" in loaded
    assert not HEAVY & loaded
    if module == "digits.nn":
        assert "numpy" in loaded
        assert not {"typer", "rich", "threadpoolctl"} & loaded
    if module in ("digits.cli", "digits.leaderboard"):
        assert "numpy" not in loaded  # so that `digits --help` answers at once, and so does the list of the runs
