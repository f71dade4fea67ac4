"""What is shown of a training, in a terminal and elsewhere."""

import io
import re
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from jobs import quick_recipe
from rich.console import Console

from digits.data import Data
from digits.display import download_bar, picture, show_ensemble, show_sweep, show_training
from digits.ensemble import End, EnsembleExperiment, Word
from digits.machine import single_threaded_blas
from digits.nn import Workers
from digits.recipe import Ensemble, Recipe
from digits.split import Split
from digits.stats import Score
from digits.stop import Stop
from digits.sweep import grid, sweeps
from digits.sweep.halving import Loser
from digits.sweep.sweep import Rung
from digits.sweep.trial import Failure, News
from digits.train import Training


def console(terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=100, color_system=None)


def text(shown: Console) -> str:
    assert isinstance(shown.file, io.StringIO)
    return shown.file.getvalue()


@pytest.fixture
def workers() -> Iterator[Workers]:
    with single_threaded_blas(), Workers(1) as workers:
        yield workers


def training(data: Data, workers: Workers, recipe: Recipe) -> Training:
    train, dev = Split().indices(data.labels)
    return Training(
        recipe, data.images[train], data.labels[train], data.images[dev], data.labels[dev], seed=0, workers=workers
    )


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize(("batch", "unit"), [(50, "epoch"), ("all", "iteration")])
def test_a_training_is_shown_a_line_a_record(
    sample_data: Data, workers: Workers, terminal: bool, batch: int | str, unit: str
) -> None:
    shown = console(terminal)
    work = training(sample_data, workers, quick_recipe(epochs=5, batch_size=batch, report_every=2))
    show_training(shown, work, work, dev_images=60)
    assert work.step == work.steps
    lines = [line for line in re.split(r"[\r\n]+", text(shown)) if re.search(rf"{unit} \d/5  loss", line)]
    assert [re.findall(rf"{unit} (\d)/5", line)[0] for line in lines] == ["2", "4", "5"]
    for line in lines:
        pattern = r"loss \d\.\d{4}  train [01]\.\d{4}  dev \d+\.\d\d% ± \d+\.\d\d  \d+\.\d s"
        assert re.search(pattern + ("" if terminal else r"  \d+:\d\d left$"), line)
    if not terminal:
        assert len(text(shown).splitlines()) == 3  # and there is no bar
        assert "\x1b" not in text(shown)


def test_a_training_that_goes_on_tells_the_time_by_its_own_steps(sample_data: Data, workers: Workers) -> None:
    work = training(sample_data, workers, quick_recipe(epochs=4))
    for _ in range(20):
        next(work)
    shown = console(terminal=False)
    show_training(shown, work, work, dev_images=60)
    assert [line.split("  ")[0] for line in text(shown).splitlines()] == ["epoch 2/4", "epoch 3/4", "epoch 4/4"]
    assert text(shown).splitlines()[-1].endswith("0:00 left")


def test_a_training_with_nothing_left_shows_nothing(sample_data: Data, workers: Workers) -> None:
    work = training(sample_data, workers, quick_recipe(epochs=1))
    list(work)
    shown = console(terminal=False)
    show_training(shown, work, work, dev_images=60)
    assert text(shown) == ""


class Three:
    """As much of an ensemble as is shown: it has three members, of one recipe or of two."""

    label = EnsembleExperiment.label

    def __init__(self, others: int) -> None:
        one = replace(quick_recipe(), name="quick")
        self.recipe = replace(one, ensemble=Ensemble(3, others=(replace(one, name="other"),) * others))


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("names", [("", "", ""), (" (quick)", " (other)", " (quick)")])
def test_an_ensemble_is_shown_a_line_a_finished_member(names: tuple[str, ...], terminal: bool) -> None:
    words = [
        End(0, Score(59, 60), 12.34),
        Word(2, 1, 4, 0.5),
        Word(1, 2, 4, 0.25),
        End(1, Score(60, 60), 20.0),
        Word(2, 3, 4, 0.125),
        End(2, None, 21.0),
    ]
    shown = console(terminal)
    show_ensemble(shown, cast("EnsembleExperiment", Three(others=int(any(names)))), (30.0, 20.0, 21.0), words)
    plain = re.sub(r"\x1b\[[0-9?]*[A-Za-z]", "", text(shown))
    lines = [line for line in re.split(r"[\r\n]+", plain) if re.search(r"member \d/3 .*\d s", line)]
    assert [line.split("  ")[: 2 + ("dev" in line)] for line in lines] == [
        [f"member 1/3{names[0]}", "dev 98.33% ± 1.65", "12.3 s"],
        [f"member 2/3{names[1]}", "dev 100.00% ± 0.00", "20.0 s"],
        [f"member 3/3{names[2]}", "21.0 s"],
    ]
    if not terminal:
        assert len(text(shown).splitlines()) == 3  # and there is no bar
        assert [bool(re.search(r" \d+:\d\d left$", line)) for line in lines] == [False, True, False]
        assert "\x1b" not in text(shown)


def test_the_time_left_of_an_ensemble_is_that_of_members_that_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(monotonic=iter([0.0, 20.0, 120.0]).__next__)
    monkeypatch.setattr("digits.display.time", clock)
    words = [Word(1, 1, 2, 0.5), End(1, None, 20.0), Word(0, 1, 2, 0.5), End(2, None, 20.0), End(0, None, 200.0)]
    shown = console(terminal=False)
    show_ensemble(shown, cast("EnsembleExperiment", Three(others=0)), (100.0, 10.0, 10.0), words)
    # twice as long as expected: 110 seconds are left then; later 50, at 120 seconds for 70
    assert re.findall(r"\d:\d\d left", text(shown)) == ["3:40 left", "1:26 left"]


def test_a_download_is_shown_in_a_terminal_only() -> None:
    for terminal in (False, True):
        shown = console(terminal)
        with download_bar(shown) as progress:
            progress(1_000, None)
            progress(5_000_000, 10_000_000)
            progress(10_000_000, 10_000_000)
        assert ("10.0/10.0 MB" in text(shown)) == terminal
        assert bool(text(shown)) == terminal


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_first_signal_is_noted_and_a_second_one_is_not_caught(number: signal.Signals) -> None:
    heard = []
    before = signal.signal(number, lambda *_: heard.append("outside"))
    try:
        stop = Stop()
        with stop.listening():
            assert not stop()
            signal.raise_signal(number)
            assert stop()
            assert stop.signal == number
            assert heard == []
            signal.raise_signal(number)
            assert heard == ["outside"]
        signal.raise_signal(number)
        assert heard == ["outside", "outside"]
    finally:
        signal.signal(number, before)


def test_signals_are_given_back_after_an_error_too() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(ZeroDivisionError), Stop().listening():
        _ = 1 / 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_an_image_is_shown_in_shades_with_the_likeliest_digit_marked() -> None:
    image = np.zeros((28, 28), np.uint8)
    image[3, 5:9] = [1, 64, 128, 255]
    p = np.array([0, 0, 0.25, 0, 0, 0, 0, 0.75, 0, 0])
    lines = picture(image, p).split("\n")
    assert len(lines) == 28
    assert lines[3][16:18] == "██"
    assert lines[0] == ""
    said = [line[56:] for line in lines if "%" in line]
    assert [line.split()[0] for line in said] == [str(digit) for digit in range(10)]
    assert "█" * 6 + " " in said[2]
    assert "25.00%" in said[2]
    assert "█" * 18 + " " in said[7]
    assert said[7].endswith("75.00% ◀")
    assert "".join(said).count("◀") == 1


def test_a_brighter_pixel_is_never_shown_darker() -> None:
    image = np.arange(256, dtype=np.uint8).repeat(4)[: 28 * 28].reshape(28, 28)  # 0 to 195
    for pixels in (image, image + np.uint8(60)):
        lines = picture(pixels, np.full(10, 0.1)).split("\n")
        shades = [" ░▒▓█".index(shade) for line in lines for shade in f"{line:<56}"[:56:2]]
        assert shades == sorted(shades)
        assert set(shades) >= {1, 2, 3}
    assert shades[-1] == 4
    assert picture(np.zeros((28, 28), np.uint8), np.full(10, 0.1)).split("\n")[0] == ""


@pytest.mark.parametrize("terminal", [False, True])
def test_a_sweep_is_shown_a_line_each_time_that_a_run_comes_to_a_rung(
    sample_data: Data, tmp_path: Path, terminal: bool
) -> None:
    settings = [{"optimizer.lr": lr, "augment.rotate": 5} for lr in (0.001, 0.01, 0.1)]
    configurations = grid.configurations(quick_recipe(epochs=4), settings)
    work = sweeps.begin(tmp_path, "quick", configurations, sample_data, Split(), [0])
    first, second, third = work.trials()
    shown = console(terminal)
    news = [
        News(first, 1, 4, 0.5, 1.0, last=True),
        News(second, 1, 4, 0.25, 1.5, last=True),
        Failure(third, "it diverged"),
        Rung(0.25, 2, [Loser(1, 0.25, 0.1)]),
        News(first, 2, 4, 0.6, 2.0, last=False),
        News(first, 3, 4, 0.7, 3.0, last=False),
        News(first, 4, 4, 0.8, 4.0, last=True),
    ]
    show_sweep(shown, work, iter(news))
    expected = [
        "optimizer.lr=0.001  seed 0  epoch 1/4  dev 50.00%  1.0 s",
        "optimizer.lr=0.01  seed 0  epoch 1/4  dev 25.00%  1.5 s",
        "optimizer.lr=0.1  seed 0  diverged",
        "after 25% of the epochs 1 of 2 configurations is stopped",
        "  optimizer.lr=0.01: 25.00 ± 10.00 points behind the best",
        "optimizer.lr=0.001  seed 0  epoch 4/4  dev 80.00%  4.0 s",
    ]
    if terminal:
        lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in re.split(r"[\r\n]+", text(shown))]
        assert [line for line in lines if line in expected] == expected
        assert [line for line in lines if re.match(r"\d runs", line)][-1].startswith("2 runs ")
    else:
        assert text(shown).splitlines() == expected
