"""A run knows which code made it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from digits import version

PACKAGE = Path(version.__file__).parent


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package, outside any checkout."""
    for name in [key for key in os.environ if key.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    copy = tmp_path / "src" / "digits"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(version, "PACKAGE", copy)
    return copy


@pytest.fixture
def committed(package: Path) -> Path:
    """The copy, committed."""
    git(package, "init", "-q")
    git(package, "add", ".")
    git(package, "commit", "-qm", "x")
    return package


def test_a_clean_checkout_has_its_commit(committed: Path) -> None:
    found = version.code_version()
    assert found["commit"] == git(committed, "rev-parse", "HEAD")
    assert found["dirty"] is False
    assert len(found["sha256"]) == 64


def append(name: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        with (folder / name).open("a") as file:
            file.write("\n# changed\n")

    return change


@pytest.mark.parametrize(
    "change", [append("train.py"), append("new.py"), lambda folder: (folder / "cli" / "show.py").unlink()]
)
def test_a_changed_checkout_is_dirty(committed: Path, change: Callable[[Path], object]) -> None:
    change(committed)
    found = version.code_version()
    assert found["commit"]
    assert found["dirty"] is True


def test_what_lies_beside_the_package_does_not_make_it_dirty(committed: Path) -> None:
    (committed.parent.parent / "notes.txt").write_text("x")
    assert version.code_version()["dirty"] is False


def test_outside_a_checkout_there_is_no_commit(package: Path) -> None:
    found = version.code_version()
    assert (found["commit"], found["dirty"]) == (None, None)
    assert found["sha256"] == version.source_digest()


def test_a_checkout_that_does_not_know_the_package_has_no_say(package: Path) -> None:
    """As where the package is installed into a folder of somebody else's repository, an environment say."""
    git(package.parent.parent, "init", "-q")
    (package.parent.parent / "readme").write_text("x")
    git(package.parent.parent, "add", "readme")
    git(package.parent.parent, "commit", "-qm", "x")
    assert version.code_version()["commit"] is None


def test_without_git_there_is_no_commit(committed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert version.code_version()["commit"] is None


def test_a_git_that_never_answers_is_given_up(committed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, timeout: float, **__: Any) -> None:
        assert timeout <= 10
        raise subprocess.TimeoutExpired("git", timeout)

    monkeypatch.setattr(subprocess, "run", never)
    assert version.code_version()["commit"] is None


@pytest.mark.parametrize(
    ("name", "decides"),
    [
        *((name, True) for name in ("nn/layers.py", "train.py", "predict.py", "augment.py", "split.py", "recipe.py")),
        *((name, True) for name in ("deform.py", "table.py", "nn/new.py")),
        *((name, False) for name in ("cli/train.py", "plots.py", "display.py", "kaggle/client.py", "recipes/mlp.toml")),
    ],
)
def test_the_digest_is_of_the_code_that_decides_a_result(package: Path, name: str, decides: bool) -> None:
    before = version.source_digest()
    append(name)(package)
    assert (version.source_digest() != before) == decides


def test_every_pattern_of_deciding_modules_finds_one() -> None:
    assert all(list(PACKAGE.glob(pattern)) for pattern in version.DECISIVE)


def test_the_digest_tells_a_file_that_was_moved(package: Path) -> None:
    before = version.source_digest()
    (package / "nn" / "layers.py").rename(package / "nn" / "layer.py")
    assert version.source_digest() != before


def test_the_deciding_modules_import_no_others_of_the_package() -> None:
    """Else code would decide results and not be in the digest; errors and files only refuse and write."""
    script = (
        "import sys, digits.train, digits.split, digits.table\n"
        "print(*sorted(name for name in sys.modules if name.startswith('digits.') and name.count('.') == 1))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = {name.removeprefix("digits.") for name in done.stdout.split()}
    deciding = {Path(name).stem for name in version.DECISIVE if "/" not in name} | {"nn"}
    assert loaded - deciding <= {"errors", "files", "stats"}
    assert deciding <= loaded
