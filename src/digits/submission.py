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
        check_submission(temporary, rows)

    write_whole(path, write)


def check_submission(path: Path, rows: int) -> None:
    """Raise DigitsError, with line and column, unless the file is a submission for a test.csv of so many rows."""
    remedy = "write it anew with `digits predict`"
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise DigitsError(f"{path} is missing: {remedy}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DigitsError(f"{path} can't be read as text ({error}): {remedy}") from error
    if not lines or lines[0] != HEADER:
        raise DigitsError(f"{path}, line 1: the header must be {HEADER}: {remedy}")
    for number, line in enumerate(lines[1:], start=1):
        cells = line.split(",")
        where = f"{path}, line {number + 1}"
        if len(cells) != 2:
            raise DigitsError(f"{where}: there must be an ImageId and a Label, not {line[:40]!r}: {remedy}")
        if cells[0] != str(number):
            raise DigitsError(f"{where}, column 1 (ImageId): it must be {number}, not {cells[0][:20]!r}: {remedy}")
        if len(cells[1]) != 1 or cells[1] not in "0123456789":
            raise DigitsError(
                f"{where}, column 2 (Label): it must be an integer from 0 to 9, not {cells[1][:20]!r}: {remedy}"
            )
    if len(lines) - 1 != rows:
        raise DigitsError(f"{path} has {len(lines) - 1:,} rows and test.csv has {rows:,}: {remedy}")
