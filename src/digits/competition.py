"""The files of the competition: what they are called, what they hold and how they are told from any other."""

from dataclasses import dataclass

PIXELS = tuple(f"pixel{i}" for i in range(784))
TRAIN_COLUMNS = ("label", *PIXELS)
TEST_COLUMNS = PIXELS


@dataclass(frozen=True)
class Table:
    """One of the two tables, as the competition has it."""

    file: str
    columns: tuple[str, ...]
    rows: int
    sha256: str


TRAIN = Table("train.csv", TRAIN_COLUMNS, 42_000, "b35cc952c291f03d995f48721373e69454f689e299d724bd9a5927bdabddfeed")
TEST = Table("test.csv", TEST_COLUMNS, 28_000, "3353d136e718a01b18f4e2097d2f0bbd2676e5887b75b9497e35d34e90820013")
SAMPLE_SUBMISSION = "sample_submission.csv"
