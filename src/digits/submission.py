"""submission.csv: the predicted label of each test image, as Kaggle wants it."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digits.errors import DigitsError
from digits.files import write_whole

HEADER = "ImageId,Label"


def write_submission(path: Path, labels: NDArray[np.integer[Any]], rows: int) -> None:
    """Write the labels (rows,) of the test images, in the order of test.csv, with ids from 1.

    The file is checked against `rows`, the number of rows of test.csv, before it is put in place. Raises DigitsError
    if it does not fit or can't be written; then nothing is changed.
    """
    import pandas as pd

    table = pd.DataFrame({"ImageId": np.arange(1, len(labels) + 1), "Label": labels})

    def write(temporary: Path) -> None:
        table.to_csv(temporary, index=False, lineterminator="\n")
        check_submission(temporary, rows, str(path))

    write_whole(path, write)


def check_submission(
    path: Path, rows: int, name: str = "", remedy: str = "write it anew with `digits predict`"
) -> None:
    """Raise DigitsError, with line and column, unless the file is a submission for a test.csv of so many rows."""
    name = name or str(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise DigitsError(f"{name} is missing: {remedy}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DigitsError(f"{name} can't be read as text ({error}): {remedy}") from error
    # not splitlines, which also parts a line where neither Kaggle nor a spreadsheet does
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    if lines[0] != HEADER:
        raise DigitsError(f"{name}, line 1: the header must be {HEADER}: {remedy}")
    for number, line in enumerate(lines[1:], start=1):
        cells = line.split(",")
        where = f"{name}, line {number + 1}"
        if len(cells) != 2:
            raise DigitsError(f"{where}: there must be an ImageId and a Label, not {line[:40]!r}: {remedy}")
        if cells[0] != str(number):
            raise DigitsError(f"{where}, column 1 (ImageId): it must be {number}, not {cells[0][:20]!r}: {remedy}")
        if len(cells[1]) != 1 or cells[1] not in "0123456789":
            raise DigitsError(
                f"{where}, column 2 (Label): it must be an integer from 0 to 9, not {cells[1][:20]!r}: {remedy}"
            )
    if len(lines) - 1 != rows:
        raise DigitsError(f"{name} has {len(lines) - 1:,} rows and test.csv has {rows:,}: {remedy}")
