"""The command that writes the report."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from digits.cli.console import console_for, say
from digits.cli.options import DATA, SUBMISSIONS, DataDir, Json, Submissions
from digits.errors import DigitsError


def report(
    out: Annotated[
        Path | None,
        typer.Option(help="The file to write.", show_default="report.html in the folder of the runs"),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--runs", metavar="RUN", help="A run to show, or the beginning of ids; can be given again."),
    ] = None,
    open_it: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    data: DataDir = DATA,
    submissions: Submissions = SUBMISSIONS,
    as_json: Json = False,
) -> None:
    """Write the runs as a page for the browser.

    That is one HTML file, which loads nothing. It has the leaderboard, each run with its learning curves, mistakes,
    calibration and labels in doubt, any two runs compared, and dev against public scores. Runs on sample data are
    shown where there are no others, or where they are named.
    """
    from digits import data as datasets
    from digits import report as reports
    from digits import runs

    console = console_for(as_json)
    known, broken = runs.listed(submissions)
    ledger = [run for run in known if not run.sample] or known
    if only:
        for start in only:
            if not any(name.startswith(start) for name in [*(run.id for run in known), *(one.id for one in broken)]):
                raise DigitsError(f"there is no run {start} in {submissions}: `digits leaderboard` lists them")
        ledger = [run for run in known if run.id.startswith(tuple(only))]
        broken = [one for one in broken if one.id.startswith(tuple(only))]
    if not ledger and not broken:
        raise DigitsError(f"there are no runs in {submissions}: make one with `digits train`")
    remark = ""
    try:
        loaded = datasets.load(data)
    except DigitsError as error:
        loaded, remark = None, f"Images are not shown, as the data is not at hand: {error}."
    path = out or submissions / "report.html"
    written = reports.write(path, ledger, broken, submissions, loaded, remark)
    if as_json:
        print(json.dumps({**asdict(written), "path": str(written.path)}))
    else:
        for one in written.remarks:
            say(console, one)
        count = f"{written.runs:,} run{'s' * (written.runs != 1)}"
        say(console, f"report: {written.path} ({count}, {written.bytes / 1e6:.1f} MB)")
    if open_it:
        import webbrowser

        webbrowser.open(path.resolve().as_uri())
