"""The sweeps under submissions/: begun, or found again by what they are of or by their id."""

import itertools
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from digits import runs
from digits.data import Data
from digits.errors import DigitsError
from digits.experiment import split_for
from digits.files import make_folder, mendable
from digits.runs import Run
from digits.split import Split
from digits.sweep.grid import VARIANT, Configuration, identity
from digits.sweep.halving import RUNGS
from digits.sweep.sweep import FORMAT, Entry, Sweep
from digits.teacher import lesson
from digits.version import source_digest

FOLDER = "sweeps"  # under submissions/


def begin(
    submissions: Path,
    name: str,
    configurations: Sequence[Configuration],
    data: Data,
    split: Split,
    seeds: Sequence[int],
    halving: Sequence[float] = RUNGS,
) -> Sweep:
    """The sweep of just this that was begun already, the newest if there are several; else a new one.

    A new one takes over runs in the ledger that are of its configurations and seeds, whatever they were made for.
    Raises DigitsError where the split can't be drawn or holds nothing out, a teacher can't be learnt from, or the
    folder can't be written.
    """
    split = split_for(configurations[0].recipe, split)
    train, dev = split.indices(data.labels)
    if split.full:
        raise DigitsError("a sweep compares by dev scores, so something must be held out: give --dev or --folds")
    if not all(0 < low < high for low, high in itertools.pairwise([*halving, 1.0])):
        raise DigitsError(
            "the rungs of --halving are fractions of the epochs, ascending, as in 0.25,0.5; 0 is for none"
        )
    for configuration in configurations:
        lesson(configuration.recipe, data, split, submissions)
    record = {
        "format": FORMAT,
        "status": "training",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "finished": None,
        "recipe": name,
        "seeds": list(seeds),
        "split": split.spec(),
        "data": {
            "kind": data.kind,
            "sha256": data.sha256,
            "train_images": len(train),
            "dev_images": len(dev),
        },
        "code": source_digest(),
        "halving": list(halving) if len(configurations) > 1 else [],
        "rungs": [],
        "configurations": [Entry(one.settings, one.recipe, []).record() for one in configurations],
    }
    record = json.loads(json.dumps(record))
    for sweep in every(submissions):
        if _what(sweep.record) == _what(record):
            return sweep
    return _create(submissions, record)


def every(submissions: Path) -> list[Sweep]:
    """The sweeps that can be read, newest first."""
    found = []
    for path in sorted((submissions / FOLDER).glob("*/sweep.json"), reverse=True):
        try:
            found.append(Sweep.read(path.parent))
        except DigitsError:
            continue
    return found


def find(submissions: Path, which: str) -> Sweep:
    """The sweep with that id, or the beginning of one. Raises DigitsError where there is none, or more than one."""
    if (submissions / FOLDER / which / "sweep.json").exists():
        return Sweep.read(submissions / FOLDER / which)
    known = [path.parent.name for path in sorted((submissions / FOLDER).glob("*/sweep.json"))]
    matches = [name for name in known if name.startswith(which)]
    if len(matches) == 1:
        return Sweep.read(submissions / FOLDER / matches[0])
    if matches:
        raise DigitsError(f"{which} could be {', '.join(matches[:5])}: give more of the id")
    newest = f"the newest is {known[-1]}" if known else "there are none yet"
    raise DigitsError(f"there is no sweep {which} in {submissions / FOLDER}; {newest}")


def _what(record: dict[str, Any]) -> Any:
    """What makes a sweep this one and no other."""
    same = ("recipe", "seeds", "split", "data", "code", "halving")
    each = [[identity(one["recipe"]), one["settings"].get(VARIANT)] for one in record["configurations"]]
    return [record.get(key) for key in same], each


def _create(submissions: Path, record: dict[str, Any]) -> Sweep:
    """A new sweep's folder, whose name's time is in the names of its runs."""
    make_folder(submissions / FOLDER)
    here = _ledger(submissions)
    sample = "-sample" if record["data"]["kind"] == "sample" else ""
    while True:
        stamp = f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
        folder = submissions / FOLDER / f"{stamp}-{record['recipe']}{sample}"
        new: list[str] = []
        for entry in record["configurations"]:
            each = [{**record, **entry, "seed": seed, "code": {"sha256": record["code"]}} for seed in record["seeds"]]
            own = [f"{stamp}-{entry['recipe']['name']}-s{seed}{sample}" for seed in record["seeds"]]
            entry["runs"] = [here.get(_key(run), name) for run, name in zip(each, own, strict=True)]
            new += set(entry["runs"]) & set(own)
        if not any((submissions / name).exists() for name in new):
            with mendable(folder), suppress(FileExistsError):
                folder.mkdir()
                break
        time.sleep(0.1)  # another's are of this second
    sweep = Sweep(folder, {**record, "id": folder.name})
    sweep.update()
    return sweep


def _ledger(submissions: Path) -> dict[str, str]:
    """The ids of the runs that a sweep may take over, by what they are of; of several the one that came furthest."""
    found: dict[str, str] = {}
    order = ["interrupted", "failed", "finished"]
    usable = []
    for run in runs.every(submissions):
        status, log = run.status, run.log()  # looked at once, as others may be at work
        if _usable(run, status, bool(log)):
            usable.append((order.index(status), len(log), run))
    for *_, run in sorted(usable, key=lambda one: one[:2]):
        found[_key(run.record)] = run.id
    return found


def _usable(run: Run, status: str, logged: bool) -> bool:
    """It is finished, with time enough, or has diverged here, or a sweep has left it; and nobody is at it."""
    if status == "finished":
        whole = run.path("weights.npz").exists() and "cut_short" not in run.record
        return logged and whole and not runs.members(run)
    return status == "failed" or (status == "interrupted" and "sweep" in run.record)


def _key(record: dict[str, Any]) -> str:
    """What a run is of, the same text for the same."""
    what = [record["seed"], record["split"], record["data"]["sha256"], record.get("code", {}).get("sha256")]
    return json.dumps([identity(record["recipe"]), what], sort_keys=True)
