"""What a kernel of the stub does when it runs: the sitting that its text says, in this process."""

import ast
import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from kaggle_stub import Ending
from test_submit import QUICK, official

from digits.data import MARKER, Data
from digits.sitting import ROOT, Sitting
from digits.stop import Stop


@pytest.fixture(scope="module")
def stall(sample_folder: Path, sample_data: Data, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with data that counts as the competition's own, and a quick recipe.

    The sample data is loaded before, while it counts as what it is.
    """
    folder = tmp_path_factory.mktemp("stall")
    shutil.copytree(sample_folder, folder / "data")
    (folder / "data" / MARKER).unlink()
    (folder / "quick.toml").write_text(QUICK)
    with pytest.MonkeyPatch.context() as patch:
        official(folder / "data", patch)
        yield folder


@pytest.fixture
def desk(stall: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unplotted: None) -> Path:
    """A working folder of the test's own with these, and no runs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(stall / "data")
    shutil.copy(stall / "quick.toml", tmp_path)
    return tmp_path


def settings_of(text: str) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of the call in a kernel's text that sits down."""
    (call,) = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Sitting"
    ]
    return [ast.literal_eval(one) for one in call.args], {
        str(one.arg): ast.literal_eval(one.value) for one in call.keywords
    }


def kaggle_root(folder: Path, data: Path) -> Path:
    """A folder that has what /kaggle has, with this data."""
    (folder / "input").mkdir(parents=True)
    (folder / "input/digit-recognizer").symlink_to(data.resolve())
    (folder / "working").mkdir()
    return folder


def run_script(folder: Path, data: Path) -> Callable[[str, int, Any], Ending]:
    """For `kaggle_stub.run_kernel`: a script that is pushed is run in a new folder below this one.

    What one leaves is kept, and left again by any other with the same settings, recipe and data.
    """

    def run(ref: str, version: int, body: Any) -> Ending:
        words, settings = settings_of(body["text"])
        key = repr((words, settings, Path(words[0]).read_text(), data.resolve()))
        if key not in _kept:
            _kept[key] = sit(words, settings, kaggle_root(folder / f"{ref.replace('/', '-')}-{version}", data))
        return _kept[key]

    return run


_kept: dict[str, Ending] = {}


def sit(words: list[Any], settings: dict[str, Any], root: Path) -> Ending:
    """A sitting with these settings, and what it leaves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ROOT, str(root))
        patch.setattr(Stop, "listening", lambda _: nullcontext())  # signals are for a main thread, this is a server's
        here = Sitting(*words, **settings)
        log = "".join(f"{news.line}\n" for news in here.train() if news.line)
        here.write_submission()
    working = root / "working"
    files = {path.relative_to(working).as_posix(): path.read_bytes() for path in working.rglob("*") if path.is_file()}
    return Ending("COMPLETE", files, log)
