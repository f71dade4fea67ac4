"""The commands that talk to Kaggle."""

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from digits.cli.console import console_for, csv_text, say, score_text, seconds_text, table
from digits.cli.data import acquire
from digits.cli.options import (
    DATA,
    DEFAULT_RECIPE,
    SUBMISSIONS,
    DataDir,
    Json,
    Seed,
    Submissions,
    WorkerCount,
)
from digits.cli.train import finished, split_of_options, worker_count
from digits.errors import DigitsError

if TYPE_CHECKING:
    from rich.console import Console

    from digits.advice import Advice, Outlook
    from digits.runs import Run
    from digits.submit import Outcome

DAY = "%Y-%m-%d"


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
    workers: WorkerCount = None,
    data: DataDir = DATA,
    source: Annotated[
        Path | None, typer.Option("--from", help="Where to take the data from if it is not in --data yet.")
    ] = None,
    submissions: Submissions = SUBMISSIONS,
    as_json: Json = False,
) -> None:
    """Submit a run to Kaggle, read the score back.

    Everything is checked before a byte goes up: the file, that it is new to Kaggle, your token, that you accepted the
    competition's rules, and what is left of the day's allowance. It says how likely the run is to beat the best one so
    far, and which run is the best use of a submission. The score, the gap to the dev score and the rank are
    written into the run.
    """
    from digits import runs
    from digits import submit as submitting
    from digits.competition import TEST
    from digits.kaggle.client import KaggleClient

    console = console_for(as_json)

    def tell(line: str) -> None:
        say(console, line)

    def preflight() -> None:
        """Don't let a long training end in front of a closed door."""
        with KaggleClient(tell) as client:
            client.check_may_submit()

    loaded = acquire(data, source, console, recipe)
    if run:
        found = runs.find(submissions, run)
    else:
        split = split_of_options(None, None, None, 0, False)
        found = finished(recipe, seed, split, loaded, data, submissions, worker_count(workers), console, preflight)
    submitting.check_run(found, loaded.sha256[TEST.file])
    tell(f"{found.id}: submission.csv is sound")
    with found.lock(), KaggleClient(tell) as client:
        sent = submitting.settle(found, client)
        if sent:
            tell(f"an earlier attempt had arrived, as submission {sent.ref}")
        else:
            ledger = runs.every(submissions)
            submitting.check(found, ledger, client, again, tell)
            advice = advice_on(found, ledger, submissions, tell)
            text = submitting.message(found, message)
            if dry_run:
                tell(f"would submit it as: {text}")
                if as_json:
                    plain = advice.plain() if advice else None
                    print(json.dumps({"run": found.id, "dry_run": True, "message": text, "advice": plain}))
                return
            sent = submitting.send(found, client, text, again)
            tell(f"sent as submission {sent.ref}")
        if wait:
            with console.status("waiting for the score"):
                sent = client.wait(sent.ref)
        outcome = submitting.conclude(found, client, sent)
    if as_json:
        entry = next(entry for entry in found.record["submissions"] if entry["ref"] == sent.ref)
        print(json.dumps({"run": found.id, "submission": entry}))
    tell_outcome(found, outcome, console)


def leaderboard(
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            help="Only runs of this recipe, or of those like it, such as 'deep*'; may be given several times."
        ),
    ] = None,
    since: Annotated[datetime | None, typer.Option(formats=[DAY], help="Only runs begun on this day or later.")] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=[DAY], help="Only runs begun on this day or before.")
    ] = None,
    sync: Annotated[bool, typer.Option("--sync", help="Read all submissions from Kaggle first.")] = False,
    top: Annotated[bool, typer.Option("--top", help="Show Kaggle's own leaderboard around your place.")] = False,
    submissions: Submissions = SUBMISSIONS,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the list as CSV on stdout, all else on stderr.")] = False,
) -> None:
    """List the runs, best first.

    With dev accuracy ± its standard error and the images that it is of, public score, the gap between them, recipe,
    seed, training time, commit (+ where the code was changed since) and what is wrong with the run, or its last note.
    It works from what is recorded, with no network; --sync brings the record up to date, with submissions that were
    made by hand too.
    """
    from digits import leaderboard as boards
    from digits import runs
    from digits.kaggle.client import KaggleClient

    if as_json and as_csv:
        raise DigitsError("the list is printed as JSON or as CSV: leave out --json or --csv")
    console = console_for(as_json or as_csv)
    if top:
        with KaggleClient(lambda line: say(console, line)) as client:
            rank = client.competition().user_rank
            places = client.leaderboard(rank)
        plain = [{**asdict(place), "date": place.date.isoformat()} for place in places]
        if as_json or as_csv:
            print(json.dumps(plain) if as_json else csv_text(plain, ("rank", "team_name", "score", "date")))
            return
        lines = [
            (str(place.rank), place.team_name, score_text(place.score), f"{place.date:%Y-%m-%d}") for place in places
        ]
        table(console, ("rank", "team", "score", "date"), lines, None if rank is None else str(rank))
        return
    if sync:
        with KaggleClient(lambda line: say(console, line)) as client:
            strangers = boards.sync(runs.every(submissions), client.submissions(), submissions)
        say(console, f"synced; {strangers} submissions at Kaggle belong to no run here")
    sound, broken = runs.listed(submissions)
    days = [f"{day:%Y-%m-%d}" if day else "" for day in (since, until)]
    rows = boards.chosen(boards.rows(sound, submissions, broken), recipe or (), *days)
    if as_json:
        print(json.dumps([row.plain() for row in rows]))
        return
    if as_csv:
        plain = [{**row.plain(), "notes": "; ".join(row.notes)} for row in rows]
        print(csv_text(plain, tuple(boards.Row("", None, None, "", "", None, None).plain())))
        return
    cells = [
        (
            row.run,
            str(row.dev or "-"),
            f"{row.dev.images:,} {row.judged}" if row.dev else "-" if row.status == "finished" else row.status,
            score_text(row.public_score),
            str(row.gap or "-"),
            row.date[:10],
            row.recipe or "-",
            "-" if row.seed is None else str(row.seed),
            "-" if row.seconds is None else seconds_text(row.seconds),
            f"{row.commit[:7]}{'+' if row.dirty else ''}" if row.commit else "-",
            row.problem or (row.notes[-1] if row.notes else ""),
        )
        for row in rows
    ]
    heads = ("run", "dev accuracy", "on", "public", "gap", "date", "recipe", "seed", "time", "commit", "remark")
    table(console, heads, cells, numbers=("seed", "time"))


def advice_on(run: "Run", ledger: "list[Run]", submissions: Path, tell: Callable[[str], object]) -> "Advice | None":
    """Say what a submission of the run is worth. Where that can't be told it says why, and stands in nobody's way."""
    from digits import leaderboard as boards
    from digits.advice import advise

    try:
        advice = advise(run, ledger, boards.rows(ledger, submissions))
    except DigitsError as error:
        tell(f"no advice: {error}")
        return None
    best, outlook, choice = advice.best, advice.outlook, advice.choice
    if outlook and outlook.judge.id != run.id:
        tell(f"it has no dev score: what follows is by that of {outlook.judge.id}, which is of its recipe")
    if not outlook:
        tell("no run of its recipe has a dev score, so there is no telling what public score it will have")
    elif best and outlook.chance is not None:
        tell(f"expected public score {outlook_text(outlook)} to beat the best so far, {best.score:.5f} of {best.name}")
    else:
        tell(f"expected public score {outlook_text(outlook)}; nothing was submitted yet")
    if choice and choice.run.id != run.id:
        tell(f"the best use of a submission is {choice.run.id}: expected {outlook_text(choice)}")
    elif choice:
        tell("of the runs that were not submitted yet it is the best use of a submission")
    return advice


def outlook_text(outlook: "Outlook") -> str:
    chance = "" if outlook.chance is None else f", with a chance of {chance_text(outlook.chance)}"
    return f"{outlook.expected:.5f} ± {outlook.standard_error:.5f}{chance}"


def chance_text(chance: float) -> str:
    return "under 1 %" if chance < 0.01 else "over 99 %" if chance > 0.99 else f"{chance:.0%}".replace("%", " %")


def tell_outcome(run: "Run", outcome: "Outcome", console: "Console") -> None:
    """What came of a submission. Raises DigitsError where Kaggle could not score it."""
    from digits.runs import dev_score

    sent = outcome.submission
    if sent.status == "ERROR":
        raise DigitsError(
            f"Kaggle could not score the submission {sent.ref} ({sent.error_description or 'it gave no reason'}): "
            f"mend that, then submit again"
        )
    if sent.public_score is None:
        say(console, "no score yet: `digits leaderboard --sync` reads it later")
    rows = [
        ("public score", score_text(sent.public_score)),
        ("dev accuracy", str(dev_score(run) or "-")),
        ("gap", str(outcome.gap or "-")),
        ("rank", f"{outcome.rank:,} of {outcome.teams:,}" if outcome.rank and outcome.teams else "-"),
        ("left today", str(outcome.allowance.left) if outcome.allowance else "-"),
    ]
    for name, value in rows:
        say(console, f"{name:<14} {value}")
