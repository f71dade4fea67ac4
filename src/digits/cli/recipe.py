"""The commands that look into recipes."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from digits.cli.console import console_for, say, seconds_text, table
from digits.cli.options import (
    DEFAULT_RECIPE,
    Json,
    RecipeArgument,
    WorkerCount,
)
from digits.cli.train import worker_count

if TYPE_CHECKING:
    from rich.console import Console

    from digits.recipe import Recipe

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List the recipes, or look into one.")


@app.command("list")
def list_recipes(as_json: Json = False) -> None:
    """List the packaged recipes and what they cost, all members of an ensemble together."""
    from digits import recipe as recipes

    console = console_for(as_json)
    found: list[dict[str, Any]] = []
    for chosen in map(recipes.load, recipes.names()):
        found.append(
            {
                "name": chosen.name,
                "members": chosen.ensemble.members,
                "parameters": chosen.parameters,
                "multiply_adds": chosen.multiply_adds,
                "epochs": [kind.train.epochs for kind in chosen.kinds()],
                "description": chosen.description,
            }
        )
    if as_json:
        print(json.dumps(found))
        return
    heads = ("recipe", "members", "parameters", "multiply-adds", "epochs", "description")
    cells = [
        (
            row["name"],
            *(f"{row[key]:,}" for key in ("members", "parameters", "multiply_adds")),
            ", ".join(map(str, row["epochs"])),
            row["description"],
        )
        for row in found
    ]
    table(console, heads, cells, numbers=heads[1:5])


@app.command("show")
def show_recipe(recipe: RecipeArgument = DEFAULT_RECIPE, workers: WorkerCount = None, as_json: Json = False) -> None:
    """Show a recipe's layers and what they cost.

    That is each layer's output shape, parameters and multiply-adds of a forward pass of one image, what of the training
    is not the default, and the time that an epoch takes on this machine, measured on a second of training on noise.
    """
    from digits import outline
    from digits import recipe as recipes

    console = console_for(as_json)
    chosen = recipes.load(recipe)
    workers, epochs = worker_count(workers), chosen.train.epochs
    with console.status("timing some steps"):
        whole = outline.training_seconds(chosen, workers, outline.EPOCH_IMAGES, outline.TIMED_SECONDS)
    seconds, images = whole / epochs, chosen.mining.count(outline.EPOCH_IMAGES)
    if as_json:
        epoch = {} if chosen.ensemble.others else {"epoch_seconds": seconds, "images": images}
        answer = chosen.resolved()
        for kind, told in zip(chosen.kinds(), (answer, *answer["ensemble"]["others"]), strict=True):
            told["layers"] = [asdict(row) for row in outline.rows(kind.build().layers)]
            told |= {"parameters": kind.parameters, "multiply_adds": kind.multiply_adds}
        answer["time"] = {"training_seconds": whole, **epoch, "workers": workers}
        print(json.dumps(answer))
        return
    say(console, f"{chosen.name}: {chosen.description or 'no description'}\n")
    show_layers(console, chosen)
    say(console, "")
    for name, words in outline.tables(chosen).items():
        say(console, f"{name:<10} {' '.join(words) or 'all as by default'}")
    for other in chosen.ensemble.others:
        say(console, f"\nIn turn with it, {other.name}: {other.description or 'no description'}\n")
        show_layers(console, other)
        say(console, "")
        for name, words in outline.tables(other).items():
            if words:
                say(console, f"{name:<10} {' '.join(words)}")
    cores = f"{workers} core{'s' if workers > 1 else ''}"
    idle = workers - chosen.train.shards
    if chosen.ensemble.members == 1 and idle > 0:
        cores += f", {idle} of them mostly idle: the batch is cut into shards = {chosen.train.shards}"
    time = f"{seconds_text(seconds)} an epoch of {images:,} images, {seconds_text(whole)} for {epochs}"
    if chosen.ensemble.others:
        time = f"{seconds_text(whole)} for the {chosen.ensemble.members} members"
        say(console, "")
    say(console, f"{'time':<10} about {time}, as measured here just now on {cores}")


def show_layers(console: "Console", recipe: "Recipe") -> None:
    """A table of a recipe's layers."""
    from digits import outline

    network = recipe.build()
    heads = ("", "layer", "output", "parameters", "multiply-adds")
    cells = [
        (
            row.number,
            "  " * row.number.count(".") + " ".join([row.layer, *outline.settings_text(row.settings)]),
            " x ".join(map(str, row.output)),
            f"{row.parameters:,}" if row.parameters else "",
            f"{row.multiply_adds:,}" if row.multiply_adds else "",
        )
        for row in outline.rows(network.layers)
    ]
    total = ("", "all", "", f"{network.count:,}", f"{network.multiply_adds:,}")
    table(console, heads, [*cells, total], numbers=heads[3:])
