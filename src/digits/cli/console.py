"""What commands print with."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def console_for(as_json: bool) -> "Console":
    from rich.console import Console

    return Console(stderr=as_json)


def say(console: "Console", line: str) -> None:
    console.print(line, highlight=False, markup=False, emoji=False, soft_wrap=True)


def table(
    console: "Console",
    heads: tuple[str, ...],
    rows: Sequence[tuple[str, ...]],
    marked: str | None = None,
    numbers: tuple[str, ...] = (),
) -> None:
    """Columns as wide as their content, `numbers` flush right; the row that begins with `marked` has an arrow."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    sides = [">" if head in numbers else "<" for head in heads]
    lines = []
    for row in (heads, *rows):
        line = "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)).rstrip()
        lines.append(line + ("  <- you" if marked is not None and row[0] == marked else ""))
    say(console, "\n".join(lines))


def csv_text(rows: Sequence[dict[str, Any]], heads: tuple[str, ...]) -> str:
    """Rows as CSV with a line of heads, no newline at the end."""
    import csv
    import io

    text = io.StringIO()
    writer = csv.DictWriter(text, heads, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().removesuffix("\n")


def score_text(value: float | None) -> str:
    return "-" if value is None else f"{value:.5f}"


def seconds_text(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds > 90 else f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
