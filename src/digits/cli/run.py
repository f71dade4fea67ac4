"""The commands that look into runs, and tidy them up."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from digits.cli.console import console_for, say, score_text, seconds_text, table
from digits.cli.options import SUBMISSIONS, Json, RunArgument, Submissions
from digits.errors import DigitsError

if TYPE_CHECKING:
    from digits.runs import Run

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look into runs, note something, remove them.")

OneRun = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or the beginning of one.")]


@app.command("show")
def show_run(run: RunArgument = None, submissions: Submissions = SUBMISSIONS, as_json: Json = False) -> None:
    """Show what a run was made of and what came of it.

    Its recipe's settings that are not the defaults, seed, split, data, code, machine, times, scores, submissions,
    notes and files.
    """
    from digits import runs

    console = console_for(as_json)
    found = runs.find(submissions, run)
    if as_json:
        answer = {**found.record, "status": found.status, "missing": found.missing(), "folder": str(found.folder)}
        print(json.dumps(answer))
        return
    for name, value in describe(found):
        say(console, f"{name:<14} {value}".rstrip())


@app.command("diff")
def diff_runs(
    a: Annotated[str, typer.Argument(metavar="A", help="A run's id, or the beginning of one.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The run to set against it.")],
    submissions: Submissions = SUBMISSIONS,
    as_json: Json = False,
) -> None:
    """Show what changed between two runs.

    Keys of the recipe, layers, seed, split, data, code, machine and versions that are not the same, and the scores.
    """
    from digits import runs
    from digits.changes import changes

    console = console_for(as_json)
    one, two = runs.find(submissions, a), runs.find(submissions, b)
    found = changes(one, two)
    if as_json:
        print(json.dumps({"a": one.id, "b": two.id, "changes": [change.plain() for change in found]}))
        return
    cells = [(change.key, shortened(change.a), shortened(change.b)) for change in found]
    scores = [str(runs.dev_score(run) or "-") for run in (one, two)]
    table(console, ("", one.id, two.id), [*cells, ("dev accuracy", *scores)])
    if not found:
        say(console, "they are of the same recipe, seed, split, data, code and machine")
    commits = [str((run.record.get("code") or {}).get("commit") or "")[:12] for run in (one, two)]
    if all(commits) and commits[0] != commits[1]:
        say(console, f"the code: git diff {' '.join(commits)} -- src/digits")


@app.command("note")
def note_run(
    run: OneRun,
    text: Annotated[str, typer.Argument(help="What to remember of it.")],
    submissions: Submissions = SUBMISSIONS,
) -> None:
    """Write a note into a run.

    It is added to those that are there, with the date; `digits run show` shows all, `digits leaderboard` the last one.
    """
    from digits import runs

    if not text.strip():
        raise DigitsError('the note is empty: say what to remember, as in `digits run note RUN "wider, too slow"`')
    found = runs.find(submissions, run)
    found.note(text.strip())
    count = len(found.record["notes"])
    say(console_for(False), f"{found.id} has {count} note{'s' if count > 1 else ''}")


@app.command("rm")
def remove_runs(
    run: Annotated[list[str], typer.Argument(metavar="RUN...", help="Ids of runs, or their beginnings.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    submissions: Submissions = SUBMISSIONS,
) -> None:
    """Remove runs, folder and all.

    It asks first, and says what would be lost for good. A folder that holds no sound run is removed too; a run that
    another process is at work on is not.
    """
    from digits import runs

    console = console_for(False)
    ledger, broken = runs.listed(submissions)
    folders: dict[Path, Any] = {}
    for which in run:
        found = runs.pick(ledger, which, submissions, broken)
        folders[found.folder] = found
    for found in folders.values():
        say(console, " ".join([found.id, *(f"({warning})" for warning in warnings(found, ledger))]))
    if not yes:
        typer.confirm(f"remove {'it' if len(folders) == 1 else f'these {len(folders)}'} for good?", abort=True)
    for folder in folders:
        runs.remove(folder)
        say(console, f"removed {folder}")


def warnings(found: Any, ledger: "list[Run]") -> Iterator[str]:
    """What is lost with a run, beyond what a new training makes again."""
    from digits.runs import Broken, dev_score

    if isinstance(found, Broken):
        yield f"no sound run: {found.problem}"
        return
    score = dev_score(found)
    yield f"dev {score}" if score else found.status
    if found.record["submissions"]:
        count = len(found.record["submissions"])
        yield f"submitted {f'{count} times' if count > 1 else 'once'}: the only lasting record of its public score"
    blends = [other.id for other in ledger if found.id in other.record["recipe"].get("blend", {}).get("members", [])]
    if blends:
        yield f"a member of {', '.join(blends)}"
    if found.record.get("notes"):
        yield f"notes: {len(found.record['notes'])}"


def describe(run: "Run") -> Iterator[tuple[str, Any]]:
    """What there is to say of a run, as names and values."""
    from digits.runs import dev_score, split_text

    record, score = run.record, dev_score(run)
    yield "run", run.id
    yield "status", run.status + (f": {record['reason']}" if record.get("reason") else "")
    yield "begun", record["created"]
    yield from describe_recipe(record["recipe"])
    yield "seed", record["seed"]
    yield "held out", split_text(run)
    data, code, machine = record["data"], record.get("code") or {}, record.get("machine") or {}
    counts = [f"{data[f'{part}_images']:,} {part}" for part in ("train", "dev", "test") if data.get(f"{part}_images")]
    yield "data", " ".join([data["kind"], *([f"({', '.join(counts)} images)"] if counts else [])])
    changed = ", changed since" if code.get("dirty") else ""
    yield "code", f"commit {code['commit']}{changed}" if code.get("commit") else "outside a checkout"
    yield "machine", ", ".join(str(machine[key]) for key in ("processor", "system", "blas") if machine.get(key)) or "-"
    versions = machine.get("versions") or {}
    yield "versions", ", ".join(f"{name} {version}" for name, version in versions.items()) or "-"
    if record.get("parameters"):
        yield "parameters", f"{record['parameters']:,}"
    if record.get("seconds"):
        yield "training time", seconds_text(record["seconds"]["train"])
    for member in record.get("members") or []:
        if "run" in member:
            yield "blended of", f"{member['weight']:.3f} {member['run']}"
    yield "dev accuracy", str(score or "-")
    for entry in record["submissions"]:
        ranked = f", rank {entry['rank']:,} of {entry['teams']:,}" if entry.get("rank") and entry.get("teams") else ""
        yield "submitted", f"{entry['date'][:10]} {score_text(entry.get('public_score'))} {entry['status']}{ranked}"
    for note in record.get("notes") or []:
        yield "note", f"{note['date'][:10]} {note['text']}"
    yield "files", ", ".join(sorted(path.name for path in run.folder.iterdir() if not path.name.startswith(".")))
    if run.missing():
        yield "missing", ", ".join(run.missing())


def describe_recipe(recipe: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """A recipe's name, layers, and settings that are not the defaults."""
    from digits import outline
    from digits.recipe import from_table

    yield "recipe", f"{recipe['name']}: {recipe.get('description') or 'no description'}"
    try:
        known = from_table(recipe, "recipe")
    except DigitsError:  # a blend's, or one that was edited
        return
    yield "network", " ".join(layer_text(layer) for layer in known.network)
    for other in known.ensemble.others:
        yield "in turn with", f"{other.name}: {' '.join(layer_text(layer) for layer in other.network)}"
    for name, words in outline.tables(known).items():
        if words:
            yield name, " ".join(words)


def layer_text(layer: dict[str, Any]) -> str:
    """A layer in a word: conv24, dense10, residual(...)."""
    size = next((str(layer[key]) for key in ("channels", "units", "rate") if key in layer), "")
    inner = f"({' '.join(layer_text(one) for one in layer['layers'])})" if layer.get("layers") else ""
    return f"{layer['layer']}{size}{inner}"


def shortened(text: str | None) -> str:
    if text is None:
        return "-"
    return f"{text[:12]}..." if re.fullmatch("[0-9a-f]{40,}", text) else text if len(text) <= 60 else f"{text[:57]}..."
