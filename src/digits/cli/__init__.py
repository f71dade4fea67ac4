"""The command line: parse, call, print. Nothing imports it, and heavy imports wait until a command needs them.

A module here holds the commands of one kind; this one puts them together.
"""

import io
import sys
from typing import Annotated

import typer

from digits import __version__
from digits.cli import compare, data, kaggle, kernel, recipe, report, run, show, sweep, train
from digits.errors import DigitsError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help answers twice as fast
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Kaggle's Digit Recognizer with a neural network in NumPy alone: from train.csv to submission.csv.",
)


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


# In the order in which --help lists them.
for command in (
    data.data,
    train.train,
    train.submission,
    sweep.sweep,
    kaggle.submit,
    kaggle.leaderboard,
    compare.compare,
    compare.blend,
    train.predict,
    show.show,
    report.report,
    train.demo,
):
    app.command()(command)
app.add_typer(run.app, name="run")
app.add_typer(recipe.app, name="recipe")
app.add_typer(kernel.app, name="kernel")


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
