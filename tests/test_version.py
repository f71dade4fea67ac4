"""Which code, and which machine, made a run."""

import shutil
import subprocess
from pathlib import Path

import pytest

from digits import machine, version


def test_the_digest_changes_with_what_decides_a_result_and_with_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(version.PACKAGE, tmp_path / "digits", ignore=shutil.ignore_patterns("__pycache__"))
    before = version.source_digest()
    monkeypatch.setattr(version, "PACKAGE", tmp_path / "digits")
    assert version.source_digest() == before
    with (tmp_path / "digits" / "cli.py").open("a") as file:
        file.write("# more\n")
    assert version.source_digest() == before
    with (tmp_path / "digits" / "nn" / "layers.py").open("a") as file:
        file.write("# more\n")
    assert version.source_digest() != before


def test_every_pattern_of_deciding_modules_finds_one() -> None:
    assert all(list(version.PACKAGE.glob(pattern)) for pattern in version.DECISIVE)


def test_the_commit_is_that_of_the_checkout_and_none_outside_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=version.PACKAGE, capture_output=True, text=True, check=False
    )
    if inside.returncode == 0:
        assert version.code_version()["commit"] == inside.stdout.strip()
    monkeypatch.setattr(version, "PACKAGE", tmp_path)
    code = version.code_version()
    assert (code["commit"], code["dirty"]) == (None, None)


def test_the_machine_is_described() -> None:
    found = machine.describe()
    assert found["cores"] == machine.cores() >= 1
    assert {"digits", "numpy", "pandas", "matplotlib"} <= found["versions"].keys()
    assert found["processor"]
