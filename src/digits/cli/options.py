"""The arguments and options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_RECIPE = "cnn"

DataDir = Annotated[Path, typer.Option("--data", help="The folder with train.csv and test.csv.")]
Submissions = Annotated[Path, typer.Option("--submissions", help="The folder of the runs.")]
RecipeArgument = Annotated[str, typer.Argument(help="A packaged recipe's name, or a TOML file of your own.")]
RunArgument = Annotated[
    str | None, typer.Argument(metavar="[RUN]", help="A run's id, or the beginning of one; else the newest.")
]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="The seed of everything random in the training.")]
Dev = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        max=0.5,
        help="The fraction of the labelled images to hold out; with --folds, to keep from all of them.",
        show_default="0.1",
    ),
]
Folds = Annotated[int | None, typer.Option(min=2, help="Hold out one of so many folds instead.")]
Fold = Annotated[int | None, typer.Option(min=0, help="Which fold to hold out, from 0; goes with --folds.")]
SplitSeed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="The seed that draws the dev split or the folds.")]
Full = Annotated[bool, typer.Option("--full", help="Train on all labelled images: then there is no dev score.")]
WorkerCount = Annotated[
    int | None,
    typer.Option(
        "--workers", min=1, help="Worker processes; the result is the same for any number.", show_default="cores"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON on stdout, all else on stderr.")]

DATA = Path("data")
SUBMISSIONS = Path("submissions")
