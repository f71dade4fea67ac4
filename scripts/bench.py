"""Time the kit beside its peers, in turn, on this machine: `make bench`."""

import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from digits import recipe
from digits.data import Data, load
from digits.errors import DigitsError
from digits.machine import cores, describe, single_threaded_blas
from digits.nn import Workers
from digits.train import Training

app = typer.Typer(add_completion=False, rich_markup_mode=None)
console = Console()


@dataclass(frozen=True)
class Row:
    """Seconds of one contender at one task: the median of the repetitions, the quickest and the slowest."""

    task: str
    who: str
    median: float
    quickest: float
    slowest: float


def race(task: str, contenders: dict[str, Callable[[], float]], repetitions: int) -> list[Row]:
    """Run the contenders in turn, so that a machine that slows down slows all of them; each returns its seconds."""
    seconds: dict[str, list[float]] = {who: [] for who in contenders}
    for repetition in range(repetitions):
        for who, run in contenders.items():
            seconds[who].append(run())
            console.print(f"{task}, {who}, {repetition + 1} of {repetitions}: {seconds[who][-1]:.2f} s", style="dim")
    return [Row(task, who, statistics.median(s), min(s), max(s)) for who, s in seconds.items()]


def tutorial(x: np.ndarray, labels: np.ndarray, steps: int) -> float:
    """The tutorial's system in float64 as one writes it plainly, whole matrices at a time; BLAS has all cores."""
    rng = np.random.default_rng(0)
    m = x.shape[1]
    w1, b1 = rng.random((10, 784)) - 0.5, rng.random((10, 1)) - 0.5
    w2, b2 = rng.random((10, 10)) - 0.5, rng.random((10, 1)) - 0.5
    start = time.perf_counter()
    for step in range(steps):
        z1 = w1.dot(x) + b1
        a1 = np.maximum(z1, 0)
        z2 = w2.dot(a1) + b2
        a2 = np.exp(z2) / sum(np.exp(z2))
        y = np.zeros((m, 10))
        y[np.arange(m), labels] = 1
        dz2 = a2 - y.T
        dw2 = 1 / m * dz2.dot(a1.T)
        db2 = 1 / m * np.sum(dz2, axis=1, keepdims=True)
        dz1 = w2.T.dot(dz2) * (z1 > 0)
        dw1 = 1 / m * dz1.dot(x.T)
        db1 = 1 / m * np.sum(dz1, axis=1, keepdims=True)
        w1, b1 = w1 - 0.1 * dw1, b1 - 0.1 * db1
        w2, b2 = w2 - 0.1 * dw2, b2 - 0.1 * db2
        if step % 10 == 0:
            np.sum(np.argmax(a2, 0) == labels) / m
    return time.perf_counter() - start


def kit(data: Data, rows: slice, steps: int) -> float:
    """The recipe `seed` for so many steps, as `digits train` does them, without the dev evaluations."""
    with single_threaded_blas(), Workers(cores()) as workers:
        nothing = slice(0, 0)
        start = time.perf_counter()
        training = Training(
            recipe.load("seed"),
            data.images[rows],
            data.labels[rows],
            data.images[nothing],
            data.labels[nothing],
            0,
            workers,
        )
        for _ in range(steps):
            next(training)
        return time.perf_counter() - start


@app.command()
def main(
    data: Annotated[Path, typer.Option(help="The folder with train.csv and test.csv.")] = Path("data"),
    steps: Annotated[int, typer.Option(min=1, help="Steps of the tutorial's network.")] = 500,
    repetitions: Annotated[int, typer.Option(min=1, help="How often each contender runs, in turn.")] = 3,
    out: Annotated[Path, typer.Option(help="Where to write the figures as JSON.")] = Path("build/bench.json"),
) -> None:
    """Time the kit beside its peers, in turn, on this machine."""
    try:
        loaded = load(data)
    except DigitsError as error:
        raise typer.BadParameter(str(error)) from error
    rows = slice(1000, None)  # the tutorial sets its first 1,000 images aside
    x = (loaded.images[rows].reshape(-1, 784) / 255.0).T
    labels = loaded.labels[rows]
    task = f"784-10-10, {steps} full-batch steps on {x.shape[1]:,} images"
    results = race(
        task,
        {
            "plain float64 NumPy": lambda: tutorial(x, labels, steps),
            "digits": lambda: kit(loaded, rows, steps),
        },
        repetitions,
    )
    report(results, out)


def report(rows: list[Row], out: Path) -> None:
    """Print the table and write the JSON."""
    machine = describe()
    versions = machine["versions"]
    title = f"{machine['processor']}, {machine['cores']} cores, Python {platform.python_version()}, "
    table = Table(title=title + f"NumPy {versions['numpy']}, {machine['blas']}")
    for column in ("task", "contender", "median", "quickest", "slowest", "ratio"):
        table.add_column(column, justify="left" if column in ("task", "contender") else "right")
    slowest = {row.task: max(r.median for r in rows if r.task == row.task) for row in rows}
    for row in rows:
        times = [f"{value:.2f} s" for value in (row.median, row.quickest, row.slowest)]
        table.add_row(row.task, row.who, *times, f"{slowest[row.task] / row.median:.2f} x")
    console.print(table)
    out.parent.mkdir(parents=True, exist_ok=True)
    figures: dict[str, Any] = {"machine": machine, "rows": [asdict(row) for row in rows]}
    out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    console.print(f"written to {out}")


if __name__ == "__main__":
    app()
