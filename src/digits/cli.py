"""The command line: parse, call, print. Nothing imports it, and heavy imports wait until a command needs them."""

import io
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from digits import __version__
from digits.errors import DigitsError

if TYPE_CHECKING:
    from rich.console import Console

    from digits.data import Data
    from digits.experiment import Experiment
    from digits.runs import Run
    from digits.split import Split
    from digits.submit import Outcome

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help answers twice as fast
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Kaggle's Digit Recognizer with a neural network in NumPy alone: from train.csv to submission.csv.",
)

recipe_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List the recipes, or look into one.")
app.add_typer(recipe_app, name="recipe")

DEFAULT_RECIPE = "mlp"

DataDir = Annotated[Path, typer.Option("--data", help="The folder with train.csv and test.csv.")]
Submissions = Annotated[Path, typer.Option("--submissions", help="The folder of the runs.")]
RecipeArgument = Annotated[str, typer.Argument(help="A packaged recipe's name, or a TOML file of your own.")]
RunArgument = Annotated[
    str | None, typer.Argument(metavar="[RUN]", help="A run's id, or the beginning of one; else the newest.")
]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="The seed of everything random in the training.")]
Dev = Annotated[float, typer.Option(min=0.0, max=0.5, help="The fraction of the labelled images to hold out.")]
Folds = Annotated[int | None, typer.Option(min=2, help="Hold out one of so many folds instead.")]
Fold = Annotated[int | None, typer.Option(min=0, help="Which fold to hold out, from 0; goes with --folds.")]
SplitSeed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="The seed that draws the dev split or the folds.")]
Full = Annotated[bool, typer.Option("--full", help="Train on all labelled images: then there is no dev score.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Worker threads; the result is the same for any number.", show_default="cores")
]
Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON on stdout, all else on stderr.")]

DATA = Path("data")
SUBMISSIONS = Path("submissions")


def version(wanted: bool) -> None:
    """Print the version and end."""
    if wanted:
        print(f"digits {__version__}")
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Kaggle's Digit Recognizer with a neural network in NumPy alone: from train.csv to submission.csv."""


@app.command()
def data(
    data: DataDir = DATA,
    source: Annotated[
        Path | None, typer.Option("--from", help="digit-recognizer.zip, or a folder with its files.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Take the files anew, over those that are there.")] = False,
    own: Annotated[bool, typer.Option("--own", help="These are files of my own, with any number of rows.")] = False,
    as_json: Json = False,
) -> None:
    """Get the competition's data, and check it.

    It is taken from --data if it is there already, else from --from, else from where Kaggle mounts it in a kernel,
    else downloaded with your Kaggle token.
    """
    console = _console(as_json)
    found = _acquire(data, source, console, replace=replace, own=own)
    _say(console, f"{data}: {len(found.images):,} labelled and {len(found.test_images):,} test images")
    _say(console, f"{data}: {found.verdict}")
    if as_json:
        print(
            json.dumps(
                {
                    "kind": found.kind,
                    "train_images": len(found.images),
                    "test_images": len(found.test_images),
                    "sha256": found.sha256,
                }
            )
        )


@app.command()
def train(
    recipe: RecipeArgument = DEFAULT_RECIPE,
    seed: Seed = 0,
    dev: Dev = 0.1,
    folds: Folds = None,
    fold: Fold = None,
    split_seed: SplitSeed = 0,
    full: Full = False,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Go on with a run that was interrupted; it keeps its recipe.")
    ] = None,
    threads: Threads = None,
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

    console = _console(as_json)
    if resume:
        run = runs.find(submissions, resume)
        if run.record["status"] == "finished":
            raise DigitsError(f"the run {run.id} is finished, there is nothing to resume")
        loaded = datasets.load(data)
    else:
        chosen = recipes.load(recipe)
        split = _split(dev, folds, fold, split_seed, full)
        loaded = datasets.load(data)
        run = experiment.begin(chosen, loaded, split, seed, _threads(threads), submissions)
    _carry_out(run, loaded, data, submissions, _threads(threads), console)
    _report(run, console, as_json)


@app.command()
def submission(
    recipe: RecipeArgument = DEFAULT_RECIPE,
    seed: Seed = 0,
    dev: Dev = 0.1,
    folds: Folds = None,
    fold: Fold = None,
    split_seed: SplitSeed = 0,
    full: Full = False,
    threads: Threads = None,
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
    console = _console(as_json)
    split = _split(dev, folds, fold, split_seed, full)
    loaded = _acquire(data, source, console, recipe)
    run = _finished(recipe, seed, split, loaded, data, submissions, _threads(threads), console)
    _report(run, console, as_json)


@app.command()
def submit(
    run: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="A run's id, or the beginning of one; else that of --recipe and --seed."),
    ] = None,
    recipe: Annotated[
        str, typer.Option(help="Whose newest run to submit; it is trained first if there is none.")
    ] = DEFAULT_RECIPE,
    seed: Seed = 0,
    message: Annotated[str, typer.Option(help="A text of your own, before the run's id in the message.")] = "",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the score.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Do every check and send nothing.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Send it even if this very file was submitted.")] = False,
    threads: Threads = None,
    data: DataDir = DATA,
    source: Annotated[
        Path | None, typer.Option("--from", help="Where to take the data from if it is not in --data yet.")
    ] = None,
    submissions: Submissions = SUBMISSIONS,
    as_json: Json = False,
) -> None:
    """Submit a run to Kaggle, read the score back.

    Everything is checked before a byte goes up: the file, that it is new to Kaggle, your token, that you accepted the
    competition's rules, and what is left of the day's allowance. The score, the gap to the dev score and the rank are
    written into the run.
    """
    from digits import runs
    from digits import submit as submitting
    from digits.data import TEST
    from digits.kaggle_client import KaggleClient

    console = _console(as_json)

    def say(line: str) -> None:
        _say(console, line)

    def preflight() -> None:
        """Don't let a long training end in front of a closed door."""
        with KaggleClient(say) as client:
            client.check_may_submit()

    loaded = _acquire(data, source, console, recipe)
    if run:
        found = runs.find(submissions, run)
    else:
        split = _split(0.1, None, None, 0, False)
        found = _finished(recipe, seed, split, loaded, data, submissions, _threads(threads), console, preflight)
    submitting.check_run(found, loaded.sha256[TEST.file])
    say(f"{found.id}: submission.csv is sound")
    with found.lock(), KaggleClient(say) as client:
        sent = submitting.settle(found, client)
        if sent:
            say(f"an earlier attempt had arrived, as submission {sent.ref}")
        else:
            submitting.check(found, runs.every(submissions), client, again, say)
            text = submitting.message(found, message)
            if dry_run:
                say(f"would submit it as: {text}")
                if as_json:
                    print(json.dumps({"run": found.id, "dry_run": True, "message": text}))
                return
            sent = submitting.send(found, client, text, again)
            say(f"sent as submission {sent.ref}")
        if wait:
            with console.status("waiting for the score"):
                sent = client.wait(sent.ref)
        outcome = submitting.conclude(found, client, sent)
    if as_json:
        entry = next(entry for entry in found.record["submissions"] if entry["ref"] == sent.ref)
        print(json.dumps({"run": found.id, "submission": entry}))
    _tell(found, outcome, console)


@app.command()
def leaderboard(
    sync: Annotated[bool, typer.Option("--sync", help="Read all submissions from Kaggle first.")] = False,
    top: Annotated[bool, typer.Option("--top", help="Show Kaggle's own leaderboard around your place.")] = False,
    submissions: Submissions = SUBMISSIONS,
    as_json: Json = False,
) -> None:
    """List the runs, best first.

    With dev score, public score, the gap between them, date, recipe and seed. It works from what is recorded, with no
    network; --sync brings the record up to date, with submissions that were made by hand too.
    """
    from digits import leaderboard as boards
    from digits import runs
    from digits.kaggle_client import KaggleClient

    console = _console(as_json)
    if top:
        with KaggleClient(lambda line: _say(console, line)) as client:
            rank = client.competition().user_rank
            places = client.leaderboard(rank)
        if as_json:
            print(json.dumps([{**asdict(place), "date": place.date.isoformat()} for place in places]))
            return
        lines = [(str(place.rank), place.team_name, _score(place.score), f"{place.date:%Y-%m-%d}") for place in places]
        _table(console, ("rank", "team", "score", "date"), lines, None if rank is None else str(rank))
        return
    if sync:
        with KaggleClient(lambda line: _say(console, line)) as client:
            strangers = boards.sync(runs.every(submissions), client.submissions(), submissions)
        _say(console, f"synced; {strangers} submissions at Kaggle belong to no run here")
    rows = boards.rows(runs.every(submissions), submissions)
    if as_json:
        print(json.dumps([row.plain() for row in rows]))
        return
    cells = [
        (
            row.run,
            str(row.dev or "-"),
            _score(row.public_score),
            str(row.gap or "-"),
            row.date[:10],
            row.recipe or "-",
            "-" if row.seed is None else str(row.seed),
        )
        for row in rows
    ]
    _table(console, ("run", "dev accuracy", "public", "gap", "date", "recipe", "seed"), cells)


@app.command()
def predict(
    run: RunArgument = None,
    threads: Threads = None,
    data: DataDir = DATA,
    submissions: Submissions = SUBMISSIONS,
    as_json: Json = False,
) -> None:
    """Predict test.csv anew from a run's weights.

    Its probabilities and submission.csv are written again, and the submission becomes the newest.
    """
    from digits import data as datasets
    from digits import experiment, runs

    console = _console(as_json)
    found = runs.find(submissions, run)
    experiment.predict_again(found, datasets.load(data), submissions, _threads(threads))
    _report(found, console, as_json)


@app.command()
def show(
    run: RunArgument = None,
    index: Annotated[int, typer.Option(min=0, help="The image's row in the table, from 0.")] = 0,
    test: Annotated[bool, typer.Option("--test", help="An image of test.csv, not of train.csv.")] = False,
    png: Annotated[
        Path | None, typer.Option(help="Where to put the picture; else into the run's folder.", show_default=False)
    ] = None,
    data: DataDir = DATA,
    submissions: Submissions = SUBMISSIONS,
    as_json: Json = False,
) -> None:
    """Show an image and what a run makes of it.

    That is the prediction, the label where there is one, and the ten probabilities; also as a PNG file.
    """
    from digits import data as datasets
    from digits import experiment, runs
    from digits.display import picture

    console = _console(as_json)
    found = runs.find(submissions, run)
    view = experiment.look_at(found, datasets.load(data), index, test)
    where = png or found.path(f"{'test' if test else 'train'}-{index}.png")
    view.draw(where)
    answer = {
        "run": found.id,
        "image": view.title,
        "prediction": view.prediction,
        "label": view.label,
        "probabilities": [round(float(value), 6) for value in view.probabilities],
        "png": str(where),
    }
    if as_json:
        print(json.dumps(answer))
        return
    console.print(picture(view.image, view.probabilities), highlight=False, markup=False, emoji=False, soft_wrap=True)
    _say(console, f"\n{view.title}, seen by {found.id}")
    label = "" if view.label is None else f"   label: {view.label}"
    _say(console, f"prediction: {view.prediction}{label}")
    _say(console, f"picture: {where}")


@recipe_app.command("list")
def list_recipes(as_json: Json = False) -> None:
    """List the packaged recipes."""
    from digits import recipe as recipes

    console = _console(as_json)
    found: list[dict[str, Any]] = []
    for chosen in map(recipes.load, recipes.names()):
        network = chosen.build()
        found.append(
            {
                "name": chosen.name,
                "parameters": network.count,
                "multiply_adds": network.multiply_adds,
                "epochs": chosen.train.epochs,
                "description": chosen.description,
            }
        )
    if as_json:
        print(json.dumps(found))
        return
    heads = ("recipe", "parameters", "multiply-adds", "epochs", "description")
    cells = [tuple(f"{value:,}" if isinstance(value, int) else value for value in row.values()) for row in found]
    _table(console, heads, cells, numbers=heads[1:4])


@recipe_app.command("show")
def show_recipe(recipe: RecipeArgument = DEFAULT_RECIPE, threads: Threads = None, as_json: Json = False) -> None:
    """Show a recipe's layers and what they cost.

    That is each layer's output shape, parameters and multiply-adds of a forward pass of one image, what of the training
    is not the default, and the time that an epoch takes on this machine, measured on a second of training on noise.
    """
    from digits import outline
    from digits import recipe as recipes

    console = _console(as_json)
    chosen = recipes.load(recipe)
    network = chosen.build()
    rows = list(outline.rows(network.layers))
    workers, epochs = _threads(threads), chosen.train.epochs
    with console.status("timing some steps"):
        seconds = outline.epoch_seconds(chosen, workers)
    if as_json:
        answer = {
            **chosen.resolved(),
            "layers": [asdict(row) for row in rows],
            "parameters": network.count,
            "multiply_adds": network.multiply_adds,
            "time": {"epoch_seconds": seconds, "images": outline.EPOCH_IMAGES, "threads": workers},
        }
        print(json.dumps(answer))
        return
    _say(console, f"{chosen.name}: {chosen.description or 'no description'}\n")
    heads = ("", "layer", "output", "parameters", "multiply-adds")
    cells = [
        (
            row.number,
            "  " * row.number.count(".") + " ".join([row.layer, *_settings(row.settings)]),
            " x ".join(map(str, row.output)),
            f"{row.parameters:,}" if row.parameters else "",
            f"{row.multiply_adds:,}" if row.multiply_adds else "",
        )
        for row in rows
    ]
    total = ("", "all", "", f"{network.count:,}", f"{network.multiply_adds:,}")
    _table(console, heads, [*cells, total], numbers=heads[3:])
    _say(console, "")
    for name in ("train", "optimizer", "schedule", "average", "loss", "augment"):
        config = getattr(chosen, name)
        words = [*([config.name] if hasattr(config, "name") else []), *_settings(outline.settings(config), "name")]
        _say(console, f"{name:<10} {' '.join(words) or 'all as by default'}")
    cores = f"{workers} core{'s' if workers > 1 else ''}"
    time = f"{_seconds(seconds)} an epoch of {outline.EPOCH_IMAGES:,} images, {_seconds(seconds * epochs)} for {epochs}"
    _say(console, f"{'time':<10} about {time}, as measured here just now on {cores}")


@app.command()
def demo(
    recipe: RecipeArgument = DEFAULT_RECIPE,
    seed: Seed = 0,
    threads: Threads = None,
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

    console = _console(as_json)
    chosen = recipes.load(recipe)
    split = _split(0.1, None, None, 0, False)
    if not sample.drawn(data):
        _say(console, f"drawing sample data from fonts into {data}")
        sample.write_sample(data)
    loaded = datasets.load(data)
    run = experiment.begin(chosen, loaded, split, seed, _threads(threads), submissions)
    _carry_out(run, loaded, data, submissions, _threads(threads), console)
    _report(run, console, as_json)


def main() -> None:
    """The console script: a DigitsError is one line on stderr and exit status 1, a usage error 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # one that knows no "±" shows a "?" and ends nothing
    try:
        app()
    except DigitsError as error:
        print(f"digits: {error}", file=sys.stderr)
        sys.exit(1)


def _console(as_json: bool) -> "Console":
    from rich.console import Console

    return Console(stderr=as_json)


def _say(console: "Console", line: str) -> None:
    console.print(line, highlight=False, markup=False, emoji=False, soft_wrap=True)


def _threads(wanted: int | None) -> int:
    from digits.machine import cores

    return wanted or cores()


def _acquire(
    data: Path,
    source: Path | None,
    console: "Console",
    recipe: str | None = None,
    *,
    replace: bool = False,
    own: bool = False,
) -> "Data":
    """Get the data; a recipe that is to be trained on it is read first, lest a long download precede a typing error."""
    from digits.data import acquire

    if recipe is not None:
        from digits import recipe as recipes

        recipes.load(recipe)

    def download(folder: Path) -> Path:
        from digits.display import download_bar
        from digits.kaggle_client import KaggleClient

        try:
            with KaggleClient(lambda line: _say(console, line)) as client, download_bar(console) as progress:
                return client.download(folder, progress)
        except DigitsError as error:
            raise DigitsError(f"{error}; or take a zip that you have, with --from (make: FROM=)") from error

    return acquire(data, source, replace=replace, own=own, say=lambda line: _say(console, line), download=download)


def _finished(
    recipe: str,
    seed: int,
    split: "Split",
    data: "Data",
    folder: Path,
    submissions: Path,
    threads: int,
    console: "Console",
    before: Callable[[], object] = lambda: None,
) -> "Run":
    """The newest finished run of just this, its submission the newest; trained, after `before`, if there is none."""
    from digits import experiment
    from digits import recipe as recipes

    chosen = recipes.load(recipe)
    run = experiment.trained(submissions, chosen, data, split, seed)
    if run:
        _say(console, f"{run.id} is of the same recipe, seed, split, data and code, so nothing is trained")
        experiment.keep_submission(run, data, submissions, threads)
        return run
    _say(console, f"no finished run of {recipe} with seed {seed} on this data yet, so one is trained")
    before()
    run = experiment.begin(chosen, data, split, seed, threads, submissions)
    _carry_out(run, data, folder, submissions, threads, console)
    return run


def _split(dev: float, folds: int | None, fold: int | None, seed: int, full: bool) -> "Split":
    from digits.split import Split

    if full and folds is not None:
        raise DigitsError("--full holds out nothing and --folds does: leave one of them out")
    return Split(0.0 if full or folds is not None else dev, folds, fold, seed)


def _carry_out(run: "Run", data: "Data", folder: Path, submissions: Path, threads: int, console: "Console") -> None:
    """Train and finish a run; end the process where a signal asks for it."""
    from digits.display import Stop, show_training
    from digits.experiment import Experiment

    places = (("--data", folder, DATA), ("--submissions", submissions, SUBMISSIONS))
    options = "".join(f" {name} {shlex.quote(str(place))}" for name, place, usual in places if place != usual)
    way = f"digits train --resume {run.id}{options}"
    stop = Stop()
    with stop.listening(), Experiment(run, data, submissions, threads) as experiment:
        _announce(experiment, console)
        try:
            show_training(console, experiment.training, experiment.train(stop), len(experiment.dev_rows))
            if experiment.complete:
                experiment.finish()
                return
        except DigitsError as error:
            if run.record["status"] == "failed":
                raise
            raise DigitsError(f"{error}; then `{way}` goes on") from error
    step, steps = experiment.training.step, experiment.training.steps
    _say(console, f"stopped at step {step} of {steps}; go on with: {way}")
    raise typer.Exit(128 + (stop.signal or 0))


def _announce(experiment: "Experiment", console: "Console") -> None:
    run = experiment.run
    recipe = experiment.recipe
    _say(console, f"{run.id}: {recipe.description or recipe.name}, {run.record['parameters']:,} parameters")
    images = f"{len(experiment.train_rows):,} images"
    if experiment.split.full:
        _say(console, f"training on all {images}: there is no dev score")
    else:
        _say(console, f"training on {images}, {len(experiment.dev_rows):,} held out: {experiment.split}")
    if experiment.training.step:
        _say(console, f"going on from step {experiment.training.step} of {experiment.training.steps}")


def _tell(run: "Run", outcome: "Outcome", console: "Console") -> None:
    """What came of a submission. Raises DigitsError where Kaggle could not score it."""
    from digits.runs import dev_score

    sent = outcome.submission
    if sent.status == "ERROR":
        raise DigitsError(
            f"Kaggle could not score the submission {sent.ref} ({sent.error_description or 'it gave no reason'}): "
            f"mend that, then submit again"
        )
    if sent.public_score is None:
        _say(console, "no score yet: `digits leaderboard --sync` reads it later")
    rows = [
        ("public score", _score(sent.public_score)),
        ("dev accuracy", str(dev_score(run) or "-")),
        ("gap", str(outcome.gap or "-")),
        ("rank", f"{outcome.rank:,} of {outcome.teams:,}" if outcome.rank and outcome.teams else "-"),
        ("left today", str(outcome.allowance.left) if outcome.allowance else "-"),
    ]
    for name, value in rows:
        _say(console, f"{name:<14} {value}")


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.5f}"


def _seconds(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds > 90 else f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def _settings(values: dict[str, Any], *but: str) -> list[str]:
    return [f"{key}={str(value).lower()}" for key, value in values.items() if key not in but]


def _table(
    console: "Console",
    heads: tuple[str, ...],
    rows: Sequence[tuple[str, ...]],
    marked: str | None = None,
    numbers: tuple[str, ...] = (),
) -> None:
    """Columns as wide as their content, `numbers` flush right; the row that begins with `marked` has an arrow."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    sides = [">" if head in numbers else "<" for head in heads]
    for row in (heads, *rows):
        line = "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)).rstrip()
        _say(console, line + ("  <- you" if marked is not None and row[0] == marked else ""))


def _no_score(run: "Run") -> str:
    if run.record["status"] != "finished":
        return "not known yet"
    return "none: all labelled images were trained on"


def _report(run: "Run", console: "Console", as_json: bool) -> None:
    """The end of a command that made or found a finished run."""
    from digits.runs import dev_score

    if as_json:
        print(json.dumps({**run.record, "folder": str(run.folder)}))
        return
    score = dev_score(run)
    rows: list[tuple[str, Any]] = [
        ("run", run.id),
        ("dev accuracy", str(score) if score else _no_score(run)),
        ("training time", f"{run.record['seconds']['train']:.1f} s" if "seconds" in run.record else "not finished yet"),
        ("submission", run.path("submission.csv")),
        *(("plot", path) for path in sorted(run.folder.glob("*.png"))),
    ]
    if run.sample:
        rows.append(("note", "sample data: the score says nothing about the competition, and no upload accepts it"))
    for name, value in rows:
        _say(console, f"{name:<14} {value}")
