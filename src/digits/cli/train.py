"""The commands that train."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from digits.cli.console import console_for, say, seconds_text
from digits.cli.data import acquire
from digits.cli.options import (
    DATA,
    DEFAULT_RECIPE,
    SUBMISSIONS,
    DataDir,
    Dev,
    Fold,
    Folds,
    Full,
    Json,
    RecipeArgument,
    RunArgument,
    Seed,
    SplitSeed,
    Submissions,
    WorkerCount,
)
from digits.errors import DigitsError

if TYPE_CHECKING:
    from rich.console import Console

    from digits.data import Data
    from digits.ensemble import EnsembleExperiment
    from digits.experiment import Experiment
    from digits.runs import Run
    from digits.split import Split


def train(
    recipe: RecipeArgument = DEFAULT_RECIPE,
    seed: Seed = 0,
    dev: Dev = None,
    folds: Folds = None,
    fold: Fold = None,
    split_seed: SplitSeed = 0,
    full: Full = False,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Go on with a run that was interrupted; it keeps its recipe.")
    ] = None,
    workers: WorkerCount = None,
    data: DataDir = DATA,
    submissions: Submissions = SUBMISSIONS,
    as_json: Json = False,
) -> None:
    """Train a recipe, as a new run.

    The run is a folder under submissions/ with its dev score, weights, predictions, submission.csv and plots. Ctrl-C
    stops it after the step at hand, and --resume goes on, bit for bit as if nothing had happened.
    """
    from digits import data as datasets
    from digits import experiment, runs
    from digits import recipe as recipes

    console = console_for(as_json)
    if resume:
        run = runs.find(submissions, resume)
        if run.record["status"] == "finished":
            raise DigitsError(f"the run {run.id} is finished, there is nothing to resume")
        loaded = datasets.load(data)
    else:
        chosen = recipes.load(recipe)
        split = split_of_options(dev, folds, fold, split_seed, full)
        loaded = datasets.load(data)
        run = experiment.begin(chosen, loaded, split, seed, worker_count(workers), submissions)
    carry_out(run, loaded, data, submissions, worker_count(workers), console)
    report(run, console, as_json)


def submission(
    recipe: RecipeArgument = DEFAULT_RECIPE,
    seed: Seed = 0,
    dev: Dev = None,
    folds: Folds = None,
    fold: Fold = None,
    split_seed: SplitSeed = 0,
    full: Full = False,
    workers: WorkerCount = None,
    data: DataDir = DATA,
    source: Annotated[
        Path | None, typer.Option("--from", help="Where to take the data from if it is not in --data yet.")
    ] = None,
    submissions: Submissions = SUBMISSIONS,
    as_json: Json = False,
) -> None:
    """Get the data, train, write submission.csv.

    Only what is needed is done: data that is there is not fetched, and where a finished run of the same recipe, seed,
    split, data and code is there, nothing is trained.
    """
    console = console_for(as_json)
    split = split_of_options(dev, folds, fold, split_seed, full)
    loaded = acquire(data, source, console, recipe)
    run = finished(recipe, seed, split, loaded, data, submissions, worker_count(workers), console)
    report(run, console, as_json)


def predict(
    run: RunArgument = None,
    workers: WorkerCount = None,
    data: DataDir = DATA,
    submissions: Submissions = SUBMISSIONS,
    as_json: Json = False,
) -> None:
    """Predict test.csv anew from a run's weights.

    Its probabilities and submission.csv are written again, and the submission becomes the newest.
    """
    from digits import data as datasets
    from digits import experiment, runs

    console = console_for(as_json)
    found = runs.find(submissions, run)
    experiment.predict_again(found, datasets.load(data), submissions, worker_count(workers))
    report(found, console, as_json)


def demo(
    recipe: RecipeArgument = DEFAULT_RECIPE,
    seed: Seed = 0,
    workers: WorkerCount = None,
    data: Annotated[Path, typer.Option("--data", help="The folder for the sample data.")] = DATA / "sample",
    submissions: Submissions = SUBMISSIONS,
    as_json: Json = False,
) -> None:
    """Do the whole job on sample data.

    The data is drawn from fonts: no account, no network and none of the competition's data is needed. The run is
    marked as sample data, which no upload accepts.
    """
    from digits import data as datasets
    from digits import experiment, sample
    from digits import recipe as recipes

    console = console_for(as_json)
    chosen = recipes.load(recipe)
    split = split_of_options(None, None, None, 0, False)
    if not sample.drawn(data):
        say(console, f"drawing sample data from fonts into {data}")
        sample.write_sample(data)
    loaded = datasets.load(data)
    run = experiment.begin(chosen, loaded, split, seed, worker_count(workers), submissions)
    carry_out(run, loaded, data, submissions, worker_count(workers), console)
    report(run, console, as_json)


def worker_count(wanted: int | None) -> int:
    from digits.machine import cores

    return wanted or cores()


def split_of_options(dev: float | None, folds: int | None, fold: int | None, seed: int, full: bool) -> "Split":
    from digits.split import DEV, Split

    for name, value in (("--folds", folds), ("--dev", dev)):
        if full and value:
            raise DigitsError(f"--full holds out nothing and {name} does: leave one of them out")
    if dev is None:
        dev = DEV if folds is None else 0.0
    return Split(0.0 if full else dev, folds, fold, seed)


def finished(
    recipe: str,
    seed: int,
    split: "Split",
    data: "Data",
    folder: Path,
    submissions: Path,
    workers: int,
    console: "Console",
    before: Callable[[], object] = lambda: None,
) -> "Run":
    """The newest finished run of just this, its submission the newest; trained, after `before`, if there is none."""
    from digits import experiment
    from digits import recipe as recipes

    chosen = recipes.load(recipe)
    run = experiment.trained(submissions, chosen, data, split, seed)
    if run:
        say(console, f"{run.id} is of the same recipe, seed, split, data and code, so nothing is trained")
        experiment.keep_submission(run, data, submissions, workers)
        return run
    say(console, f"no finished run of {recipe} with seed {seed} on this data yet, so one is trained")
    before()
    run = experiment.begin(chosen, data, split, seed, workers, submissions)
    carry_out(run, data, folder, submissions, workers, console)
    return run


def carry_out(run: "Run", data: "Data", folder: Path, submissions: Path, workers: int, console: "Console") -> None:
    """Train and finish a run; end the process where a signal asks for it."""
    from digits.display import show_ensemble, show_training
    from digits.ensemble import EnsembleExperiment
    from digits.experiment import Experiment
    from digits.stop import Stop

    places = (("--data", folder, DATA), ("--submissions", submissions, SUBMISSIONS))
    options = "".join(f" {name} {shlex.quote(str(place))}" for name, place, usual in places if place != usual)
    way = f"digits train --resume {run.id}{options}"
    stop = Stop()
    several = run.record["recipe"].get("ensemble", {}).get("members", 1) > 1
    kind = EnsembleExperiment if several else Experiment
    with stop.listening(), kind(run, data, submissions, workers) as experiment:
        seconds = announce(experiment, workers, console)
        try:
            if isinstance(experiment, EnsembleExperiment):
                show_ensemble(console, experiment, seconds, experiment.train(stop))
            else:
                show_training(console, experiment.training, experiment.train(stop), len(experiment.dev_rows))
            if experiment.complete:
                experiment.finish()
                return
        except DigitsError as error:
            if run.record["status"] == "failed":
                raise
            raise DigitsError(f"{error}; then `{way}` goes on") from error
    if isinstance(experiment, EnsembleExperiment):
        done = sum(member.record["status"] == "finished" for member in experiment.members)
        where = f"with {done} of {len(experiment.members)} members finished"
    else:
        where = f"at step {experiment.training.step} of {experiment.training.steps}"
    say(console, f"stopped {where}; go on with: {way}")
    raise typer.Exit(128 + (stop.signal or 0))


def announce(experiment: "Experiment | EnsembleExperiment", workers: int, console: "Console") -> list[float]:
    """Say what is to be trained, and how long that will take. Returns the seconds for each member, done or not."""
    from digits import outline
    from digits.ensemble import EnsembleExperiment

    run, recipe, split = experiment.run, experiment.recipe, experiment.split
    say(console, f"{run.id}: {recipe.description or recipe.name}, {run.record['parameters']:,} parameters")
    images, held_out = len(experiment.train_rows), len(experiment.dev_rows)
    whom = ""
    if isinstance(experiment, EnsembleExperiment):
        left = [float(member.record["status"] != "finished") for member in experiment.members]
        whom = f"{len(left)} members "
        if not all(left):
            say(console, f"going on with the {round(sum(left))} members that are not finished")
    else:
        step, steps = experiment.training.step, experiment.training.steps
        left = [1 - step / steps]
        if step:
            say(console, f"going on from step {step} of {steps}")
    if split.full:
        say(console, f"training {whom}on all {images:,} images: there is no dev score")
    elif split.in_turn and split.folds:
        say(console, f"training {whom}on {images:,} images, {split}: judged out of fold")
        images -= images // split.folds
    else:
        say(console, f"training {whom}on {images:,} images, {held_out:,} held out: {split}")
    seconds = outline.member_seconds(recipe, workers, images)
    expected = sum(share * each for share, each in zip(left, seconds, strict=True))
    say(console, f"expected training time: about {seconds_text(expected)}, from a look at some steps")
    return seconds


def no_score(run: "Run") -> str:
    if run.record["status"] != "finished":
        return "not known yet"
    return "none: all labelled images were trained on"


def report(run: "Run", console: "Console", as_json: bool) -> None:
    """The end of a command that made or found a finished run."""
    from digits.runs import dev_score

    if as_json:
        print(json.dumps({**run.record, "folder": str(run.folder)}))
        return
    score = dev_score(run)
    rows: list[tuple[str, Any]] = [
        ("run", run.id),
        ("dev accuracy", str(score) if score else no_score(run)),
        ("training time", f"{run.record['seconds']['train']:.1f} s" if "seconds" in run.record else "not finished yet"),
        ("submission", run.path("submission.csv")),
        *(("plot", path) for path in sorted(run.folder.glob("*.png"))),
    ]
    if "cut_short" in run.record:
        done, of = run.record["cut_short"].values()
        what = f"{done} of {of} members" if "members" in run.record["cut_short"] else f"step {done} of {of}"
        rows.append(("note", f"time was up: it is what there was after {what}"))
    if run.sample:
        rows.append(("note", "sample data: the score says nothing about the competition, and no upload accepts it"))
    for name, value in rows:
        say(console, f"{name:<14} {value}")
