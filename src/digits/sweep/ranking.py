"""What came of a sweep's configurations, the best first, and whether a variant is better than the recipe as it is."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from digits import runs
from digits.comparison import compare, compare_seeds
from digits.stats import Difference
from digits.sweep.grid import UNCHANGED, VARIANT, Settings, settings_text
from digits.sweep.halving import Standing
from digits.sweep.sweep import Entry, Sweep
from digits.sweep.trial import accuracy, epochs


@dataclass(frozen=True)
class Row:
    """What came of a configuration so far: `standing` is of its final dev scores, or at `epoch` where it is stopped.

    `seconds` are the mean of its runs' training times.
    """

    settings: Settings
    runs: list[str]
    seeds: list[int]
    status: Literal["finished", "stopped", "diverged", "training"]
    epoch: int
    epochs: int
    standing: Standing | None
    seconds: float | None
    reason: str | None

    def plain(self) -> dict[str, Any]:
        """The row as plain values."""
        standing = self.standing
        return {
            "settings": self.settings,
            "runs": self.runs,
            "seeds": self.seeds,
            "status": self.status,
            "epoch": self.epoch,
            "epochs": self.epochs,
            "dev_accuracies": list(standing.accuracies) if standing else None,
            "dev_accuracy": standing.mean if standing else None,
            "standard_deviation": standing.deviation if standing else None,
            "standard_error": standing.standard_error if standing else None,
            "seconds": self.seconds,
            "reason": self.reason,
        }


def rows(sweep: Sweep) -> list[Row]:
    """What came of each configuration, the best first; the stopped ones follow, and those that diverged."""
    order = ("diverged", "training", "stopped", "finished")

    def merit(row: Row) -> tuple[int, float]:
        return order.index(row.status), row.standing.mean if row.standing else 0.0

    return sorted((_row(sweep, entry) for entry in sweep.entries), key=merit, reverse=True)


def differences(sweep: Sweep, ranked: Sequence[Row]) -> list[Difference | None]:
    """Of each variant's accuracy, a fraction, from that of the recipe as it is; the error is for other images too.

    None of what is not finished or no variant. Raises DigitsError where a run's predictions are not there.
    """

    def beside(row: Row) -> str:
        """What is set in its variants alike."""
        return settings_text({key: value for key, value in row.settings.items() if key != VARIANT})

    finished = [row for row in ranked if row.status == "finished"]
    unchanged = {beside(row): row for row in finished if row.settings.get(VARIANT) == UNCHANGED}

    def against(row: Row) -> Difference | None:
        base = unchanged.get(beside(row))
        if base is None or row.status != "finished" or row.settings.get(VARIANT, UNCHANGED) == UNCHANGED:
            return None
        a, b = ([runs.read(sweep.submissions / run) for run in one.runs] for one in (base, row))
        return compare(a[0], b[0]).difference if len(a) == 1 else compare_seeds(a, b).over_images

    return [against(row) for row in ranked]


def _row(sweep: Sweep, entry: Entry) -> Row:
    """What the files of a configuration's runs say of it."""
    folders = [sweep.submissions / run for run in entry.runs]
    begun = [runs.read(folder) for folder in folders if folder.joinpath("run.json").exists()]
    logs = [epochs(run) for run in begun]
    complete = len(begun) == len(entry.runs)
    failed = [run for run in begun if run.record["status"] == "failed"]
    last = min((log[-1]["epoch"] if log else 0 for log in logs), default=0) if complete else 0
    status: Literal["finished", "stopped", "diverged", "training"] = "training"
    if failed:
        status = "diverged"
    elif complete and all(run.record["status"] == "finished" for run in begun):
        status, last = "finished", entry.recipe.train.epochs
    elif entry.stopped:
        status, last = "stopped", int(entry.stopped["epoch"])
    accuracies = [] if failed else [accuracy(run, last, entry.recipe.train.epochs) for run in begun]
    seconds = [
        run.record["seconds"]["train"] if "seconds" in run.record else log[-1]["seconds"]
        for run, log in zip(begun, logs, strict=True)
        if log or "seconds" in run.record
    ]
    known = [one for one in accuracies if one is not None]
    return Row(
        settings=entry.settings,
        runs=entry.runs,
        seeds=sweep.seeds,
        status=status,
        epoch=last,
        epochs=entry.recipe.train.epochs,
        standing=Standing(tuple(known), sweep.images) if len(known) == len(sweep.seeds) else None,
        seconds=statistics.fmean(seconds) if seconds else None,
        reason=str(failed[0].record.get("reason")) if failed else None,
    )
