"""The commands that make a Kaggle kernel of the package, push it, and take what it has left."""

import json
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from digits.cli.console import console_for, say
from digits.cli.options import DATA, DEFAULT_RECIPE, SUBMISSIONS, DataDir, Full, Json, Seed, Submissions, WorkerCount
from digits.cli.train import report, split_of_options, worker_count
from digits.kernel import HOURS

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from digits.kaggle.answers import Session
    from digits.kaggle.client import KaggleClient
    from digits.kernel.fleet import Fleet
    from digits.stop import Stop

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Make a Kaggle kernel of the package, push it, take its run.",
)

Recipe = Annotated[str, typer.Option(help="A packaged recipe's name, or a TOML file of your own.")]
Script = Annotated[bool, typer.Option("--script", help="A script instead of a notebook.")]
Hours = Annotated[
    float,
    typer.Option(min=0.01, max=12.0, help="When to stop training and predict with what there is; Kaggle gives 12."),
]
Public = Annotated[bool, typer.Option("--public", help="Let everybody see it.")]
Folder = Annotated[Path, typer.Option("--folder", help="Where to write it, in a folder of its own.")]
Kernel = Annotated[
    str | None,
    typer.Argument(metavar="[KERNEL]", help="owner/name, or the name of one of yours; else that of --recipe."),
]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for its end.")]

BUILT = Path("build/kernel")
LINES = 20  # of the log of a kernel that has failed


@app.command()
def build(
    recipe: Recipe = DEFAULT_RECIPE,
    seed: Seed = 0,
    full: Full = False,
    script: Script = False,
    hours: Hours = HOURS,
    public: Public = False,
    folder: Folder = BUILT,
    submissions: Submissions = SUBMISSIONS,
    as_json: Json = False,
) -> None:
    """Write a notebook, or a script, that trains a recipe at Kaggle.

    It has the whole package in it, in the order in which one reads it, and needs nothing that Kaggle has not. Beside it
    is its kernel-metadata.json.
    """
    from digits.kernel.notebook import Plan, write

    plan = Plan(recipe, seed, script, full, hours)
    path = write(plan, folder / plan.slug, submissions, public=public)
    if as_json:
        print(json.dumps({"file": str(path), "slug": plan.slug, "title": plan.title}))
        return
    say(console_for(as_json), f"{path}: {plan.title}, {path.stat().st_size:,} bytes")


@app.command()
def push(
    recipe: Recipe = DEFAULT_RECIPE,
    seed: Seed = 0,
    full: Full = False,
    script: Script = False,
    hours: Hours = HOURS,
    public: Public = False,
    wait: Wait = True,
    folder: Folder = BUILT,
    submissions: Submissions = SUBMISSIONS,
    as_json: Json = False,
) -> None:
    """Build it, push it to Kaggle, which runs it, and wait for its end.

    It is private unless --public, and asks for no GPU and no internet. Where it fails, the end of its log is shown.
    """
    from digits.kernel import remote
    from digits.kernel.notebook import Plan

    console = console_for(as_json)
    plan = Plan(recipe, seed, script, full, hours)
    with _client(console) as client:
        pushed = remote.push(client, plan, folder / plan.slug, submissions, public)
        say(console, f"pushed {pushed.ref}, version {pushed.version}: {pushed.url}")
        if wait:
            _follow(client, pushed.ref, console)
            say(console, f"it is complete: take its run with `digits kernel pull {pushed.ref}`")
    if as_json:
        print(json.dumps(asdict(pushed)))


@app.command()
def status(
    kernel: Kernel = None,
    recipe: Recipe = DEFAULT_RECIPE,
    seed: Seed = 0,
    full: Full = False,
    script: Script = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for its end.")] = False,
    as_json: Json = False,
) -> None:
    """Say how a kernel is doing."""
    console = console_for(as_json)
    with _client(console) as client:
        ref = _reference(client, kernel, recipe, seed, full, script)
        session = _follow(client, ref, console) if wait else client.session(ref)
        if as_json:
            print(json.dumps({"kernel": ref, **asdict(session)}))
            return
        say(console, f"{ref}: {session}{f' ({session.failure})' if session.failure else ''}")
        if session.status == "ERROR":
            _show_log(client, ref, LINES, console)


@app.command()
def logs(
    kernel: Kernel = None,
    recipe: Recipe = DEFAULT_RECIPE,
    seed: Seed = 0,
    full: Full = False,
    script: Script = False,
    lines: Annotated[int, typer.Option(min=0, help="How many lines from the end; 0 for all of them.")] = 0,
) -> None:
    """Print what a kernel has printed."""
    console = console_for(False)
    with _client(console_for(True)) as client:
        _show_log(client, _reference(client, kernel, recipe, seed, full, script), lines, console)


@app.command()
def pull(
    kernel: Kernel = None,
    recipe: Recipe = DEFAULT_RECIPE,
    seed: Seed = 0,
    full: Full = False,
    script: Script = False,
    submissions: Submissions = SUBMISSIONS,
    as_json: Json = False,
) -> None:
    """Take the run that a kernel has made, as a run like any other.

    Its dev score, log, weights and predictions are there then, and it can be submitted. Its record names the kernel,
    its version and the commit of the code.
    """
    from digits.kernel import remote

    console = console_for(as_json)
    with _client(console) as client:
        ref = _reference(client, kernel, recipe, seed, full, script)
        session = client.session(ref)
        if not session.done:
            _follow(client, ref, console)
        elif not session.complete:
            _show_log(client, ref, LINES, console)
            raise remote.failure(ref, session)
        run = remote.take(client, ref, submissions, lambda line: say(console, line))
    report(run, console, as_json)


@app.command()
def fleet(
    recipe: Recipe = DEFAULT_RECIPE,
    seed: Seed = 0,
    members: Annotated[
        int | None, typer.Option(min=2, help="How many networks to train; else as many as the recipe has.")
    ] = None,
    each: Annotated[int, typer.Option(min=1, help="How many of them a kernel trains.")] = 1,
    at_once: Annotated[int, typer.Option(min=1, help="How many kernels to run at a time; Kaggle allows 5.")] = 5,
    full: Full = False,
    hours: Hours = HOURS,
    workers: WorkerCount = None,
    data: DataDir = DATA,
    submissions: Submissions = SUBMISSIONS,
    as_json: Json = False,
) -> None:
    """Train an ensemble at Kaggle, several kernels at a time.

    Each trains some of the members; when all have been fetched they are blended into one run, the same as if it had
    been trained here. Ctrl-C leaves the kernels running, and the same command goes on with them. What fails is pushed
    again.
    """
    from digits import data as datasets
    from digits import recipe as recipes
    from digits.kernel import fleet as fleets
    from digits.kernel.notebook import Plan
    from digits.stop import Stop

    console = console_for(as_json)
    chosen = recipes.load(recipe)
    count = members or chosen.ensemble.members
    loaded = datasets.load(data)
    split = split_of_options(None, None, None, 0, full)
    plan = Plan(recipe, seed, script=True, full=full, hours=hours, members=count)
    stop = Stop()
    with _client(console) as client, stop.listening():
        run = fleets.begin(chosen, loaded, split, seed, count, each, worker_count(workers), submissions)
        with run.lock():  # two at one fleet would push everything twice
            work = fleets.Fleet(run, loaded, plan, at_once, submissions)
            say(console, f"{run.id}: {count} members on {len(work.parts)} kernels, {at_once} at a time")
            _show_fleet(work, client, stop, console)
    if not work.complete:
        say(console, "stopped; the kernels go on, and the same command goes on with them")
        raise typer.Exit(128 + (stop.signal or 0))
    work.finish(worker_count(workers))
    report(run, console, as_json)


def _client(console: "Console") -> "KaggleClient":
    from digits.kaggle.client import KaggleClient

    return KaggleClient(lambda line: say(console, line))


def _reference(client: "KaggleClient", kernel: str | None, recipe: str, seed: int, full: bool, script: bool) -> str:
    from digits.kernel import remote
    from digits.kernel.notebook import Plan

    return remote.reference(client, kernel or Plan(recipe, seed, script, full).slug)


def _follow(client: "KaggleClient", ref: str, console: "Console") -> "Session":
    """Wait for a kernel's end and show how it is doing. Raises DigitsError, after its log's end, if it is a bad one."""
    from digits.kernel import remote

    said = ""
    with console.status(f"{ref}: waiting") as live:

        def tick(session: "Session") -> None:
            nonlocal said
            live.update(f"{ref}: {session}")
            if str(session) != said:
                said = str(session)
                say(console, f"{ref}: {session}")

        session = client.wait_for_kernel(ref, tick=tick)
    if not session.complete:
        _show_log(client, ref, LINES, console)
        raise remote.failure(ref, session)
    return session


def _show_log(client: "KaggleClient", ref: str, lines: int, console: "Console") -> None:
    from digits.kernel import remote

    for line in remote.tail(client.outputs(ref).log, lines):
        say(console, line)


def _show_fleet(work: "Fleet", client: "KaggleClient", stop: "Stop", console: "Console") -> None:
    """Go through what happens to a fleet: a table of its kernels in a terminal, a line for each event everywhere."""
    from rich.live import Live

    table = Live(_fleet_table(work), console=console) if console.is_terminal else nullcontext()
    with table as live:
        for word in work.work(client, stop):
            if word:
                say(console, word)
            if live:
                live.update(_fleet_table(work))


def _fleet_table(work: "Fleet") -> "Table":
    """The kernels of a fleet, one a row."""
    from rich.table import Table

    from digits import runs

    scores = {run.id: runs.dev_score(run) for run in runs.members(work.run)}
    table = Table(box=None, header_style="bold")
    for head in ("members", "kernel", "state", "version", "attempt", "dev accuracy"):
        table.add_column(head)
    for part in work.parts:
        state = part.status if part.state == "running" else part.state
        found = [str(scores[str(member)]) for member in part.members if scores.get(str(member))]
        table.add_row(
            ", ".join(str(member + 1) for member in part.members),
            part.ref.partition("/")[2] or "-",
            state,
            str(part.version or "-"),
            str(part.attempts or "-"),
            ", ".join(found) or "-",
        )
    return table
