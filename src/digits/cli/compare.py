"""The commands that set runs against each other and put them together."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from digits.cli.console import console_for, say, table
from digits.cli.options import DATA, SUBMISSIONS, DataDir, Json, Submissions
from digits.cli.train import report
from digits.errors import DigitsError

if TYPE_CHECKING:
    from rich.console import Console

    from digits.comparison import Comparison, SeedComparison
    from digits.runs import Run


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="A run, or several with commas between them; or a recipe.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The run, the runs or the recipe to set against it.")],
    recipes: Annotated[
        bool, typer.Option("--recipes", help="A and B are recipes: the newest run of each seed that both have.")
    ] = False,
    png: Annotated[
        Path | None, typer.Option(help="Where to put the picture; else into the folder of B.", show_default=False)
    ] = None,
    data: DataDir = DATA,
    submissions: Submissions = SUBMISSIONS,
    as_json: Json = False,
) -> None:
    """Say whether B is better than A, beyond the noise.

    Both must be judged on the same images. Two runs are compared by McNemar's exact test; several of each, paired by
    their seeds, by the paired t-test over seeds. Images that only one side has right are drawn, if the data is at hand.
    """
    from digits import runs
    from digits.comparison import compare as compare_runs
    from digits.comparison import compare_seeds, recipe_runs

    console = console_for(as_json)
    found: Comparison | SeedComparison
    if recipes:
        ledger = runs.every(submissions)
        group_a = recipe_runs(ledger, a)
        group_b = recipe_runs(ledger, b, like=group_a[-1])
        group_a = [
            run for run in group_a if run.record["seed"] in {other.record["seed"] for other in group_b}
        ] or group_a
    else:
        group_a, group_b = ([runs.find(submissions, which) for which in side.split(",")] for side in (a, b))
    if len(group_a) == len(group_b) == 1 and not recipes:
        found = compare_runs(group_a[0], group_b[0])
    else:
        names = (a, b) if recipes else (group_name(group_a, "A"), group_name(group_b, "B"))
        found = compare_seeds(group_a, group_b, *names)
    where = picture(found, png, data, console)
    if as_json:
        print(json.dumps({**found.plain(), "png": str(where) if where else None}))
        return
    tell_comparison(found, console)
    if where:
        say(console, f"{'picture':<16} {where}")
    say(console, f"\n{found.verdict}")


def group_name(group: "list[Run]", otherwise: str) -> str:
    """What several runs have in common: their recipe."""
    names = {run.record["recipe"]["name"] for run in group}
    return f"{otherwise} ({names.pop()})" if len(names) == 1 else otherwise


def tell_comparison(found: "Comparison | SeedComparison", console: "Console") -> None:
    from digits.comparison import Comparison, p_text
    from digits.stats import Score

    pairs = [found] if isinstance(found, Comparison) else found.pairs
    heads = ("seed", "A", "accuracy", "B", "accuracy", "only A right", "only B right", "McNemar")
    cells = []
    for pair in pairs:
        sides = [(run.run.id, str(Score(int(run.right.sum()), len(run.rows)))) for run in (pair.a, pair.b)]
        seeds = {str(run.run.record["seed"]) for run in (pair.a, pair.b)}
        counts = [str(len(pair.only_a)), str(len(pair.only_b))]
        cells.append(("/".join(sorted(seeds)), *sides[0], *sides[1], *counts, p_text(pair.p)))
    table(console, heads, cells, numbers=("seed", "only A right", "only B right"))
    say(console, "")
    say(console, f"{'judged on':<16} {len(pairs[0].a.rows):,} images, the same for both")
    if isinstance(found, Comparison):
        say(console, f"{'B less A':<16} {found.difference}")
        say(console, f"{'McNemar, exact':<16} {p_text(found.p)}")
    else:
        say(console, f"{'B less A':<16} {found.over_seeds.difference}, over {found.over_seeds.pairs} seeds")
        say(console, f"{'paired t-test':<16} {p_text(found.over_seeds.p)}")
        say(console, f"{'over images':<16} {found.over_images}")


def picture(found: "Comparison | SeedComparison", png: Path | None, folder: Path, console: "Console") -> Path | None:
    """Draw the images that A alone or B alone has right; None where the data for that is not at hand."""
    from digits import data, experiment
    from digits.comparison import Comparison, draw

    first = found if isinstance(found, Comparison) else found.pairs[0]
    try:
        loaded = data.load(folder)
        experiment.check_same_data(first.a.run, loaded)
    except DigitsError as error:
        if png:
            raise
        say(console, f"no picture: {error}")
        return None
    where = png or first.b.run.path(f"against-{first.a.run.id}.png")
    draw(found, loaded.images, where)
    return where


def blend(
    run: Annotated[list[str], typer.Argument(metavar="RUN...", help="Ids of two runs or more, or their beginnings.")],
    weights: Annotated[
        Literal["equal", "fit"], typer.Option(help="Fit makes the log loss on images that all held out least.")
    ] = "equal",
    average: Annotated[
        Literal["probabilities", "logits", "votes"], typer.Option(help="What is averaged.")
    ] = "probabilities",
    data: DataDir = DATA,
    submissions: Submissions = SUBMISSIONS,
    as_json: Json = False,
) -> None:
    """Blend finished runs into a new one.

    Their predictions are averaged, and the result is a run like any other. It is judged on the images that no member
    was trained on; fitted weights are judged on images that they were not fitted on.
    """
    from digits import blend as blends
    from digits import data as datasets
    from digits import runs
    from digits.comparison import compare_held_out
    from digits.heldout import held_out

    console = console_for(as_json)
    found = blends.blended([runs.find(submissions, which) for which in run], average, weights == "fit")
    made = found.write(datasets.load(data), submissions)
    if not as_json:
        heads = ("weight", "run", "dev accuracy")
        cells = [
            (f"{weight:.4f}", member.id, str(runs.dev_score(member) or "-"))
            for weight, member in zip(found.mix.weights, found.members, strict=True)
        ]
        table(console, heads, cells)
        say(console, "")
    report(made, console, as_json)
    if as_json:
        return
    if found.unjudged:
        say(console, f"no dev score: {found.unjudged}")
        return
    if found.fitted:
        say(console, f"each {blends.PARTS}th of the images is judged with weights that were fitted on the others")
    best = max(found.parts, key=lambda part: part.right.sum())
    say(console, compare_held_out(best, held_out(made)).verdict)
