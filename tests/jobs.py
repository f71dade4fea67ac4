"""Trainings that take a moment, in this process and in processes of their own."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from digits import experiment, plots, runs
from digits.data import Data
from digits.files import write_text
from digits.recipe import Recipe, from_table
from digits.runs import Run
from digits.split import Split

# Dropout makes each step depend on its random numbers.
LONG = """
network = [
    { layer = "flatten" },
    { layer = "dense", units = 64 },
    { layer = "relu" },
    { layer = "dropout", rate = 0.1 },
    { layer = "dense", units = 10 },
]
[train]
epochs = 10
batch_size = 30
"""
# For a process of its own, one that is to be stopped: each step after the first epoch's waits, so that a signal comes
# in time however busy the machine is, and what goes on without waiting is done in a moment.
SLOWED = """
import os
if pause := os.environ.get("DIGITS_TEST_PAUSE"):
    import time
    from digits.experiment import Experiment
    train = Experiment.train
    def slowly(self, stop):
        def waiting():
            if self.training.step * self.recipe.train.epochs >= self.training.steps:
                time.sleep(float(pause))
            return stop()
        return train(self, waiting)
    Experiment.train = slowly
"""
# Plots are files of a moment.
UNPLOTTED = """
from digits import files, plots
for name in ("learning_curves", "confusion_matrix", "mistakes"):
    setattr(plots, name, lambda path, *_: files.write_text(path, "a picture"))
"""
PIPED: dict[str, Any] = {
    "stdin": subprocess.DEVNULL,
    "stdout": subprocess.PIPE,
    "stderr": subprocess.PIPE,
    "text": True,
}


def without_plots(patch: pytest.MonkeyPatch) -> None:
    """Plots are written as files of a moment, as drawing them is what takes the time."""
    for name in ("learning_curves", "confusion_matrix", "mistakes", "digit"):
        patch.setattr(plots, name, lambda path, *_: write_text(path, "a picture"))


def quick_recipe(**train: Any) -> Recipe:
    """A recipe that trains in a moment, and well enough that not every image is a mistake."""
    network = [
        {"layer": "flatten"},
        {"layer": "dense", "units": 32},
        {"layer": "relu"},
        {"layer": "dropout", "rate": 0.1},
        {"layer": "dense", "units": 10},
    ]
    table = {
        "name": "quick",
        "network": network,
        "train": {"epochs": 6, "batch_size": 50, **train},
        "optimizer": {"lr": 0.005},
    }
    return from_table(table, "quick")


def begin(folder: Path, data: Data, recipe: Recipe | None = None, split: Split | None = None, seed: int = 0) -> Run:
    """A new run in a ledger."""
    return experiment.begin(recipe or quick_recipe(), data, split or Split(), seed, 1, folder)


def complete(run: Run, data: Data, count: int = 1) -> Run:
    """Train what is left of a run and finish it."""
    with experiment.Experiment(run, data, run.folder.parent, count) as work:
        for _ in work.train(lambda: False):
            pass
        work.finish()
    return run


def files(run: Run) -> dict[str, bytes]:
    """What a run has made, but for the times: the files that the same run makes the same anywhere."""
    made = ("weights.npz", "dev.npz", "test.npz", "submission.csv")
    return {name: run.path(name).read_bytes() for name in made if run.path(name).exists()}


class Digits:
    """The `digits` command in a process of its own, in a folder of its own; without plots it is quicker."""

    def __init__(self, folder: Path, *, plots: bool = True) -> None:
        self.folder = folder
        self.submissions = folder / "submissions"
        # Its workers too are processes of their own, and begin with this.
        (folder / "sitecustomize.py").write_text(SLOWED + ("" if plots else UNPLOTTED))

    def start(
        self,
        *arguments: str | Path,
        before: str = "",
        pause: float = 0,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> "subprocess.Popen[str]":
        """Start the command; `before` is Python to be run first, in the same process.

        From its second epoch on a training waits for `pause` seconds before each step.
        """
        command = [str(Path(sys.executable).parent / "digits")]
        if before:
            command = [sys.executable, "-c", f"{before}\nfrom digits.cli import main\nmain()"]
        variables = {**os.environ, "COLUMNS": "80", "PYTHONPATH": str(self.folder), **environment}
        if pause:
            variables["DIGITS_TEST_PAUSE"] = str(pause)
        return subprocess.Popen([*command, *map(str, arguments)], cwd=self.folder, env=variables, **PIPED)

    def __call__(self, *arguments: str | Path, before: str = "") -> tuple[int, str, str]:
        """Its exit status, stdout and stderr."""
        process = self.start(*arguments, before=before)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    def run(self) -> Run:
        """The only run there is."""
        (run,) = runs.every(self.submissions)
        return run


def wait_until(true: Callable[[], bool], process: "subprocess.Popen[str] | None" = None, seconds: float = 60) -> None:
    """Wait until something is so, as long as the process lives that is to make it so."""
    end = time.monotonic() + seconds
    while not true():
        if process is not None and process.poll() is not None:
            raise AssertionError(f"the process ended with {process.returncode}: {process.communicate()}")
        if time.monotonic() > end:
            raise AssertionError("it never came true")
        time.sleep(0.005)


def logged(folder: Path) -> int:
    """How many lines the newest run in a ledger has logged so far."""
    found = runs.every(folder)
    return len(found[0].log()) if found else 0
