"""The command that shows an image."""

import json
from pathlib import Path
from typing import Annotated

import typer

from digits.cli.console import console_for, say
from digits.cli.options import (
    DATA,
    SUBMISSIONS,
    DataDir,
    Json,
    RunArgument,
    Submissions,
)


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

    console = console_for(as_json)
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
    say(console, f"\n{view.title}, seen by {found.id}")
    label = "" if view.label is None else f"   label: {view.label}"
    say(console, f"prediction: {view.prediction}{label}")
    say(console, f"picture: {where}")
