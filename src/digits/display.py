"""What `cli` shows of a training while it lasts: a progress bar in a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from digits.ensemble import End, EnsembleExperiment, Word
from digits.stats import Score
from digits.sweep.sweep import Rung, Sweep
from digits.sweep.trial import Failure, News, Trial
from digits.train import Progress as Step
from digits.train import Record, Training

SHADES = " ░▒▓█"
BAR = 24  # characters, of a certain probability
MOST_BARS = 16  # of a sweep's runs: a cluster has more than a terminal has lines


def show_training(console: Console, training: Training, steps: Iterable[Step], dev_images: int) -> None:
    """Go through the steps of a training and show them."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("loss {task.fields[loss]}  dev {task.fields[dev]}"),
        TimeRemainingColumn(),
    )
    began, from_step = time.monotonic(), None
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=training.steps, loss="", dev="-")
        for step in steps:
            from_step = step.step - 1 if from_step is None else from_step
            bar.update(task, completed=step.step, loss=f"{step.loss:.4f}", description=_where(training, step.step))
            if step.record:
                pace = (time.monotonic() - began) / (step.step - from_step)
                left = "" if console.is_terminal else f"  {_duration(pace * (training.steps - step.step))} left"
                console.print(_line(training, step.record, dev_images) + left, highlight=False, soft_wrap=True)
                if step.record.dev_accuracy is not None:
                    bar.update(task, dev=f"{step.record.dev_accuracy:.2%}")


def show_ensemble(
    console: Console, ensemble: EnsembleExperiment, seconds: Sequence[float], words: Iterable[Word | End]
) -> None:
    """Go through what an ensemble's members say: a bar for each that is at work, one for all, a line for each end.

    `seconds` are what each member is expected to take: of several recipes some take longer than others.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[loss]}"),
        TimeRemainingColumn(),
    )
    total, began = sum(seconds), time.monotonic()
    done, at_first = [0.0] * len(seconds), None
    tasks: dict[int, TaskID] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        whole = bar.add_task(f"{len(seconds)} members", total=total, loss="")
        for word in words:
            number = word.number
            if isinstance(word, End):
                done[number] = seconds[number]
                if number in tasks:
                    bar.remove_task(tasks.pop(number))
                parts = [ensemble.label(number), *([f"dev {word.score}"] if word.score else [])]
                left = ""
                if at_first is not None and not console.is_terminal and sum(done) < total:
                    pace = (time.monotonic() - began) / (sum(done) - at_first)
                    left = f"  {_duration(pace * (total - sum(done)))} left"
                line = "  ".join([*parts, f"{word.seconds:.1f} s"]) + left
                console.print(line, highlight=False, soft_wrap=True)
            else:
                at_first = sum(done) if at_first is None else at_first
                done[number] = seconds[number] * word.step / word.steps
                if number not in tasks:
                    tasks[number] = bar.add_task(ensemble.label(number), total=word.steps, loss="")
                bar.update(tasks[number], completed=word.step, loss=f"loss {word.loss:.4f}")
            bar.update(whole, completed=sum(done))


def show_sweep(console: Console, sweep: Sweep, news: Iterable[News | Failure | Rung]) -> None:
    """Go through what is heard of a sweep: a bar for each run that is at work, one for all, a line for each end."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[dev]}"),
        TimeRemainingColumn(),
    )
    done = dict.fromkeys(sweep.trials(), 0.0)
    tasks: dict[Trial, TaskID] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        whole = bar.add_task(f"{len(done)} runs", total=len(done), dev="")
        for heard in news:
            if isinstance(heard, Rung):
                losers = {loser.number for loser in heard.losers}
                done = {trial: share for trial, share in done.items() if trial.number not in losers}
                bar.update(whole, description=f"{len(done)} runs", total=len(done))
                for line in _rung_lines(sweep, heard):
                    console.print(line, highlight=False, markup=False, soft_wrap=True)
            else:
                trial, reached = heard.trial, isinstance(heard, Failure) or heard.last
                name = f"{sweep.label(trial.number)}  seed {trial.seed}"
                if isinstance(heard, Failure):
                    done[trial], line = 1.0, f"{name}  diverged"
                else:
                    dev = f"dev {heard.accuracy:.2%}"
                    done[trial] = heard.epoch / heard.epochs
                    line = f"{name}  epoch {heard.epoch}/{heard.epochs}  {dev}  {heard.seconds:.1f} s"
                    if not reached and trial not in tasks and len(tasks) < MOST_BARS:
                        tasks[trial] = bar.add_task(name, total=heard.epochs, dev="")
                    if trial in tasks:
                        bar.update(tasks[trial], completed=heard.epoch, dev=dev)
                if reached:
                    console.print(line, highlight=False, markup=False, soft_wrap=True)
                    if trial in tasks:
                        bar.remove_task(tasks.pop(trial))
            bar.update(whole, completed=sum(done.values()))


@contextmanager
def download_bar(console: Console) -> Iterator[Callable[[int, int | None], None]]:
    """A function that is told of the bytes so far and their total, and shows them."""
    columns = (TextColumn("downloading"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _rung_lines(sweep: Sweep, rung: Rung) -> Iterator[str]:
    """What comes of a rung: each configuration that is stopped, and why."""
    count = f"{len(rung.losers) or 'none'} of {rung.configurations} configurations"
    yield f"after {rung.fraction:.0%} of the epochs {count} {'are' if len(rung.losers) > 1 else 'is'} stopped"
    for loser in rung.losers:
        behind = f"{100 * loser.difference:.2f} ± {100 * loser.standard_error:.2f} points behind the best"
        yield f"  {sweep.label(loser.number)}: {behind}"


def _where(training: Training, step: int) -> str:
    epochs = training.recipe.train.epochs
    word = "iteration" if training.whole else "epoch"
    return f"{word} {-(-step * epochs // training.steps)}/{epochs}"


def _line(training: Training, record: Record, dev_images: int) -> str:
    parts = [
        _where(training, record.step),
        f"loss {record.loss:.4f}",
        f"train {record.train_accuracy:.4f}",
    ]
    if record.dev_accuracy is not None:
        parts.append(f"dev {Score(round(record.dev_accuracy * dev_images), dev_images)}")
    return "  ".join([*parts, f"{record.seconds:.1f} s"])


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def picture(image: NDArray[np.uint8], p: NDArray[np.floating]) -> str:
    """An image (28, 28) as shades, two characters a pixel, with the ten probabilities beside it."""
    shades = np.array(list(SHADES))[(image.astype(int) * len(SHADES) - 1).clip(0) // 255 % len(SHADES)]
    lines = ["".join(pixel * 2 for pixel in row) for row in shades]
    best = int(p.argmax())
    for digit in range(10):
        mark = "◀" if digit == best else ""
        lines[4 + 2 * digit] += f"   {digit} {'█' * round(BAR * float(p[digit])):<{BAR}} {p[digit]:7.2%} {mark}"
    return "\n".join(line.rstrip() for line in lines)
