"""The command that gets the data, and how others get theirs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from digits.cli.console import console_for, say
from digits.cli.options import DATA, DataDir, Json
from digits.errors import DigitsError

if TYPE_CHECKING:
    from rich.console import Console

    from digits.data import Data


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
    console = console_for(as_json)
    found = acquire(data, source, console, replace=replace, own=own)
    say(console, f"{data}: {len(found.images):,} labelled and {len(found.test_images):,} test images")
    say(console, f"{data}: {found.verdict}")
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


def acquire(
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
        from digits.kaggle.client import KaggleClient

        try:
            with KaggleClient(lambda line: say(console, line)) as client, download_bar(console) as progress:
                return client.download(folder, progress)
        except DigitsError as error:
            raise DigitsError(f"{error}; or take a zip that you have, with --from (make: FROM=)") from error

    return acquire(data, source, replace=replace, own=own, say=lambda line: say(console, line), download=download)
