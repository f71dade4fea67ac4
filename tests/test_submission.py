"""submission.csv is what Kaggle wants, and is checked before it is put in place."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digits.errors import DigitsError
from digits.submission import check_submission, write_submission

GOOD = "ImageId,Label\n1,7\n2,0\n3,9\n"


def refusal(path: Path, rows: int = 3) -> str:
    """The one line that is said of the file."""
    with pytest.raises(DigitsError) as caught:
        check_submission(path, rows)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "digits predict" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("dtype", [np.intp, np.uint8, np.int32])
def test_a_row_is_the_images_number_from_1_and_its_label(tmp_path: Path, dtype: type[np.integer]) -> None:
    write_submission(tmp_path / "submission.csv", np.array([7, 0, 9], dtype), 3)
    assert (tmp_path / "submission.csv").read_bytes() == GOOD.encode()
    assert [path.name for path in tmp_path.iterdir()] == ["submission.csv"]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30))
@settings(deadline=None, max_examples=30)
def test_what_is_written_passes_the_check(tmp_path_factory: pytest.TempPathFactory, labels: list[int]) -> None:
    path = tmp_path_factory.getbasetemp() / "submission.csv"
    write_submission(path, np.array(labels), len(labels))
    check_submission(path, len(labels))
    rows = [line.split(",") for line in path.read_text().splitlines()]
    assert rows == [["ImageId", "Label"], *([str(i), str(label)] for i, label in enumerate(labels, start=1))]


@pytest.mark.parametrize(
    ("labels", "rows", "said"),
    [
        ([1, 2], 3, "has 2 rows and test.csv has 3"),
        ([1, 2, 3, 4], 3, "has 4 rows and test.csv has 3"),
        ([1, 10, 3], 3, r"line 3, column 2 \(Label\): it must be an integer from 0 to 9, not '10'"),
        ([1, 2, -1], 3, r"line 4, column 2 \(Label\): it must be an integer from 0 to 9, not '-1'"),
        ([], 3, "has 0 rows"),
    ],
)
def test_labels_that_do_not_fit_leave_the_old_file_alone(
    tmp_path: Path, labels: list[int], rows: int, said: str
) -> None:
    path = tmp_path / "submission.csv"
    path.write_text("the old one")
    with pytest.raises(DigitsError, match=said) as caught:
        write_submission(path, np.array(labels, int), rows)
    assert re.match(rf"{re.escape(str(path))}[ ,]", str(caught.value))  # not a temporary file that is gone by now
    assert path.read_text() == "the old one"
    assert [path.name for path in tmp_path.iterdir()] == ["submission.csv"]


@pytest.mark.parametrize("change", [lambda t: t, lambda t: t.replace("\n", "\r\n"), str.strip, lambda t: "\ufeff" + t])
def test_line_ends_and_a_byte_order_mark_do_not_matter(tmp_path: Path, change: object) -> None:
    path = tmp_path / "submission.csv"
    path.write_text(change(GOOD), encoding="utf-8", newline="")  # type: ignore[operator]
    check_submission(path, 3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: the header must be ImageId,Label"),
        ("\n" + GOOD, "line 1: the header must be ImageId,Label"),
        (GOOD.replace("ImageId", "Id"), "line 1: the header"),
        (GOOD.replace("ImageId,Label", "Label,ImageId"), "line 1: the header"),
        (GOOD.replace("ImageId,Label", "ImageId, Label"), "line 1: the header"),
        (GOOD.replace("2,0", "2"), "line 3: there must be an ImageId and a Label, not '2'"),
        (GOOD.replace("2,0", "2,0,0"), "line 3: there must be an ImageId and a Label, not '2,0,0'"),
        (GOOD.replace("2,0", ""), "line 3: there must be"),
        (GOOD + "\n", "line 5: there must be"),
        (GOOD.replace("1,7", "0,7"), "line 2, column 1 (ImageId): it must be 1, not '0'"),
        (GOOD.replace("2,0", "3,0"), "line 3, column 1 (ImageId): it must be 2, not '3'"),
        (GOOD.replace("2,0", " 2,0"), "line 3, column 1 (ImageId): it must be 2, not ' 2'"),
        (GOOD.replace("2,0", "02,0"), "line 3, column 1 (ImageId): it must be 2, not '02'"),
        (GOOD.replace("3,9", "3,10"), "line 4, column 2 (Label): it must be an integer from 0 to 9, not '10'"),
        (GOOD.replace("3,9", "3,9.0"), "line 4, column 2 (Label)"),
        (GOOD.replace("3,9", "3,"), "line 4, column 2 (Label)"),
        (GOOD.replace("3,9", "3, 9"), "line 4, column 2 (Label)"),
        (GOOD.replace("3,9", "3,٣"), "line 4, column 2 (Label)"),
        (GOOD.replace("3,9", "3,x"), "line 4, column 2 (Label)"),
        (GOOD.replace("3,9\n", ""), "has 2 rows and test.csv has 3"),
        (GOOD + "4,0\n", "has 4 rows and test.csv has 3"),
        (GOOD.replace("1,7\n2,0", "1,7\f2,0"), "line 2"),
        (GOOD.replace("1,7\n2,0", "1,7\u20282,0"), "line 2"),
        (GOOD.replace("1,7\n2,0", "1,7\r2,0"), "line 2"),
    ],
)
def test_each_way_to_be_wrong_is_named_with_line_and_column(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "submission.csv"
    path.write_text(text, encoding="utf-8", newline="")
    assert said in refusal(path)


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    assert "is missing" in refusal(tmp_path / "submission.csv")
    (tmp_path / "submission.csv").write_bytes(b"\xff\xfe\x00")
    assert "can't be read as text" in refusal(tmp_path / "submission.csv")
    (tmp_path / "folder").mkdir()
    assert "can't be read" in refusal(tmp_path / "folder")
