"""A ledger with a run of every kind that a report has to do with."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ledgers import finished_run

from digits import recipe as recipes
from digits import runs
from digits.data import Data
from digits.runs import Run

HOSTILE = '</script><script>document.title = "taken"</script><img src=x onerror="document.title=1"> & "wider" `make`'


def log(run: Run, lines: int) -> None:
    """A training that gets better."""
    for epoch in range(1, lines + 1):
        run.append_log(
            {
                "step": 10 * epoch,
                "epoch": epoch,
                "lr": 0.001,
                "loss": 1 / epoch,
                "train_accuracy": 1 - 0.5 / epoch,
                "dev_loss": 0.5 / epoch,
                "dev_accuracy": 1 - 0.25 / epoch,
                "seconds": 1.0,
            }
        )


def scored(run: Run, score: float, ref: int) -> None:
    """Submitted, with that public score."""
    entry = {"ref": ref, "date": "2026-11-25T12:00:00+00:00", "message": f"try {run.id}", "status": "COMPLETE"}
    run.update(submissions=[{**entry, "public_score": score, "sha256": "a" * 64}])


def run_of(
    folder: Path, source: Data, name: str, seed: int, wrong: Iterable[int], rows: Iterable[int], **record: Any
) -> Run:
    """A run on that data, with a whole recipe and a log of 5 epochs; `wrong` are places among `rows`."""
    record = {"data": {"kind": "own", "sha256": source.sha256, "train_images": 500}, **record}
    created = record.pop("created", "2026-11-25T10:00:00+00:00")
    run = finished_run(folder, name, seed, list(wrong), list(rows), **record)
    resolved = {**recipes.load("seed").resolved(), "name": name, "description": f"the recipe {name}"}
    run.update(recipe=resolved, created=created, parameters=1234)
    log(run, 5)
    return run


def ledger(folder: Path, data: Data) -> dict[str, Run]:
    """Runs by what they are, in a new folder, beside one that can't be read and a submission that belongs to none."""
    first = range(200)
    found = {
        "best": run_of(folder, data, "deep", 0, [3, 7, 11], first, created="2026-11-20T10:00:00+00:00"),
        "second": run_of(folder, data, "deep", 1, [3, 20, 21, 22, 23], first, created="2026-11-21T10:00:00+00:00"),
        "worst": run_of(folder, data, "mlp", 0, range(0, 120, 2), first, created="2026-11-22T10:00:00+00:00"),
        "elsewhere": run_of(
            folder, data, "mlp", 1, [1], range(200, 400), split={"fraction": 0.0, "folds": 3, "fold": 1}
        ),
        "bare": run_of(folder, data, "bare", 0, [5, 6, 8, 9], first),
        "begun": run_of(folder, data, "begun", 0, [5], first),
        "ensemble": run_of(folder, data, "trio", 0, [2, 3, 4, 6], first),
        "blend": run_of(folder, data, "blend", 0, [2, 3, 4, 6, 7, 8], first),
    }
    found["second"].update(notes=[{"date": "2026-11-25T12:00:00+00:00", "text": HOSTILE}])
    scored(found["second"], 0.975, 1)
    scored(found["worst"], 0.9, 2)
    for name in ("dev.npz", "log.jsonl", "test.npz"):
        found["bare"].path(name).unlink()
    begun = found["begun"]
    begun.update(status="training", scores=None, recipe={**begun.record["recipe"], "name": "<b id=bad>bold</b>"})
    trio = found["ensemble"]
    trio.path("log.jsonl").unlink()
    for number in range(3):
        shutil.copytree(found["best"].folder, trio.path("members") / str(number))
    found["blend"].update(recipe={"name": "blend", "blend": {"members": ["a", "b"], "average": "logits"}})
    members = [{"run": run.id, "weight": 0.5, "power": 1, "seed": 0, "split": {}} for run in (found["best"], trio)]
    found["blend"].update(members=members)
    found["blend"].path("log.jsonl").unlink()
    (folder / "20261123-101010-torn-s0").mkdir()
    (folder / "20261123-101010-torn-s0" / "run.json").write_text('{"format": 1')
    stranger = {"ref": 9, "date": "2026-11-01T10:00:00+00:00", "message": "by hand", "status": "COMPLETE"}
    (folder / "kaggle.json").write_text(json.dumps([{**stranger, "public_score": 0.5}]))
    return {name: runs.read(run.folder) for name, run in found.items()}
