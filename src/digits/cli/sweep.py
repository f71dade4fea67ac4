"""The command that compares settings by training them."""

import json
import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from digits.cli.console import console_for, say, seconds_text, table
from digits.cli.options import (
    DATA,
    DEFAULT_RECIPE,
    SUBMISSIONS,
    DataDir,
    Dev,
    Fold,
    Folds,
    Json,
    RecipeArgument,
    SplitSeed,
    Submissions,
)
from digits.cli.train import split_of_options
from digits.errors import DigitsError

if TYPE_CHECKING:
    from rich.console import Console

    from digits.sweep.fanout import Place
    from digits.sweep.ranking import Row
    from digits.sweep.sweep import Sweep


class Backend(StrEnum):
    """What joblib can fan out to."""

    loky = "loky"
    dask = "dask"
    ray = "ray"


def sweep(
    recipe: RecipeArgument = DEFAULT_RECIPE,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUES",
            help="Values of a key of the recipe to try, as optimizer.lr=1e-3,3e-3 or network.3.rate=0.1,0.3; for "
            "--random a range too, as 5:15 or 1e-4:1e-2:log. May be given for several keys.",
        ),
    ] = None,
    variants: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A TOML file of variants, each a table with its name and what it changes in the recipe; the recipe as "
            "it is takes part too. What --set says is set in all of them.",
        ),
    ] = None,
    random: Annotated[
        int | None, typer.Option(min=1, help="Draw so many configurations at random instead of all combinations.")
    ] = None,
    random_seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="The seed of that draw.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="Train each configuration with so many seeds, from 0.")] = 1,
    halving: Annotated[
        str,
        typer.Option(
            metavar="FRACTIONS",
            help="After these fractions of the epochs stop the configurations that are not in the better half and are "
            "behind the best by more than 2 standard errors of the difference; 0 stops none.",
        ),
    ] = "0.25,0.5",
    dev: Dev = None,
    folds: Folds = None,
    fold: Fold = None,
    split_seed: SplitSeed = 0,
    resume: Annotated[
        str | None, typer.Option(metavar="SWEEP", help="Go on with a sweep that was stopped; it keeps all the above.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="So many runs are trained at a time, one core each; a Dask cluster's workers are all used.",
            show_default="cores",
        ),
    ] = None,
    backend: Annotated[Backend, typer.Option(help="Where joblib trains them: processes here, or a cluster.")] = (
        Backend.loky
    ),
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="The cluster's, as tcp://10.0.0.1:8786. Its machines must see the data and the runs under the same "
            "paths as this one, and have the same version of digits.",
        ),
    ] = None,
    data: DataDir = DATA,
    submissions: Submissions = SUBMISSIONS,
    as_json: Json = False,
) -> None:
    """Compare settings of a recipe by training them.

    Each run is one like any other. Configurations that are clearly losing are stopped early. Ctrl-C stops it, and the
    same command, or --resume, goes on; what is trained already, in a sweep or not, is not trained again.
    """
    from digits import data as datasets
    from digits.display import show_sweep
    from digits.stop import Stop
    from digits.sweep import sweeps

    console = console_for(as_json)
    place = place_of_options(backend, scheduler, workers)
    if resume:
        found = sweeps.find(submissions, resume)
        loaded = datasets.load(data)
    else:
        from digits import recipe as recipes
        from digits.sweep import grid

        chosen = grid.choices(sets or [])
        picked = grid.combinations(chosen) if random is None else grid.drawn(chosen, random, random_seed)
        base = recipes.load(recipe)
        configurations = grid.configurations(base, picked, grid.variants(variants) if variants else None)
        for one in configurations:
            for other in one.equal:
                texts = grid.settings_text(other), grid.settings_text(one.settings)
                say(console, "{} comes to the same recipe as {}, which alone is trained".format(*texts))
        split = split_of_options(dev, folds, fold, split_seed, False)
        loaded = datasets.load(data)
        rungs = fractions(halving)
        found = sweeps.begin(submissions, base.name, configurations, loaded, split, range(seeds), rungs)
    stop = Stop()
    if not found.finished or found.record["status"] != "finished":
        found.check(loaded)
        announce(found, place, console)
        options = [
            *(("--data", data) if data != DATA else ()),
            *(("--submissions", submissions) if submissions != SUBMISSIONS else ()),
            *(("--backend", backend.value) if backend != Backend.loky else ()),
            *(("--scheduler", scheduler) if scheduler else ()),
        ]
        way = shlex.join(["digits", "sweep", "--resume", found.id, *map(str, options)])
        with stop.listening():
            try:
                show_sweep(console, found, found.train(loaded, data, place, stop))
            except DigitsError as error:
                raise DigitsError(f"{error}; then `{way}` goes on") from error
        if not found.finished:
            say(console, f"stopped; go on with: {way}")
            raise typer.Exit(128 + (stop.signal or 0))
    report(found, console, as_json)


def place_of_options(backend: Backend, scheduler: str | None, workers: int | None) -> "Place":
    from digits.machine import cores
    from digits.sweep.fanout import Place

    return Place(backend.value, scheduler, workers or (cores() if backend is Backend.loky else None))


def fractions(text: str) -> list[float]:
    try:
        return [fraction for fraction in map(float, text.split(",")) if fraction]
    except ValueError:
        raise DigitsError(f"--halving {text}: it must be fractions of the epochs, as in 0.25,0.5, or 0") from None


def announce(sweep: "Sweep", place: "Place", console: "Console") -> None:
    """Say what is to be trained, where, and how long that may take."""
    from digits import outline
    from digits.sweep.grid import settings_text

    trials = sweep.trials()
    left = [trial for trial in trials if (run := trial.run()) is None or run.record["status"] == "training"]
    many, seeds = len(sweep.entries), len(sweep.seeds)
    what = f"{many} configuration{'s' if many > 1 else ''} of {sweep.record['recipe']}"
    say(console, f"{sweep.id}: {what}, {seeds} seed{'s' if seeds > 1 else ''} each")
    if same := {key: value for key, value in sweep.entries[0].settings.items() if key not in sweep.varied}:
        say(console, f"all with {settings_text(same)}")
    if done := len(trials) - len(left):
        say(console, f"{done} of the {len(trials)} runs {'is' if done == 1 else 'are'} trained already")
    record = sweep.record["data"]
    say(
        console,
        f"training on {record['train_images']:,} images, {record['dev_images']:,} held out: {sweep.split}",
    )
    if sweep.halving:
        when = " and ".join(f"{fraction:.0%}" for fraction in sweep.halving)
        say(console, f"configurations that are clearly losing after {when} of the epochs are stopped")
    if place.workers and left:
        first = sweep.entries[left[0].number].recipe
        images: int = record["train_images"]
        seconds = outline.epoch_seconds(first, 1, images, outline.GLANCE_SECONDS) / first.mining.count(images)
        recipes = [sweep.entries[trial.number].recipe for trial in left]
        learnt = sum(recipe.train.epochs * recipe.mining.count(images) for recipe in recipes)
        most = seconds_text(seconds * learnt / min(place.workers, len(left)))
        unless = " if none is stopped" if sweep.halving else ""
        say(console, f"expected training time: about {most}{unless}, from a look at some steps of the first")


def report(sweep: "Sweep", console: "Console", as_json: bool) -> None:
    """The end: a table of the configurations, best first."""
    from digits.comparison import difference_plain
    from digits.sweep import ranking
    from digits.sweep.grid import value_text

    rows, keys = ranking.rows(sweep), sweep.varied
    differences = ranking.differences(sweep, rows)
    if as_json:
        answer = {
            **sweep.record,
            "folder": str(sweep.folder),
            "configurations": [
                {**row.plain(), "difference": one and difference_plain(one)}
                for row, one in zip(rows, differences, strict=True)
            ],
        }
        print(json.dumps(answer))
        return
    heads = (*keys, "seeds", "dev accuracy", "sd", "time", "trained")
    cells = [(*(value_text(row.settings.get(key)) for key in keys), *result_cells(row)) for row in rows]
    if any(differences):
        heads = (*heads, "difference")
        cells = [(*line, one.short if one else "-") for line, one in zip(cells, differences, strict=True)]
    table(console, heads, cells, numbers=("seeds", "sd", "time"))
    if sweep.sample:
        say(console, "sample data: the scores say nothing about the competition")


def result_cells(row: "Row") -> tuple[str, ...]:
    standing = row.standing
    deviation = standing.deviation if standing else None
    trained = {
        "finished": f"{row.epochs} epoch{'s' if row.epochs > 1 else ''}",
        "stopped": f"stopped at epoch {row.epoch} of {row.epochs}",
        "diverged": "diverged",
        "training": f"{row.epoch} of {row.epochs} epochs",
    }
    return (
        str(len(row.seeds)),
        str(standing) if standing else "-",
        f"{100 * deviation:.2f}" if deviation is not None else "-",
        seconds_text(row.seconds) if row.seconds is not None else "-",
        trained[row.status],
    )
