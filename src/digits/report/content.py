"""What the report shows of a run, as plain values: what can't be read is left out, and it is said what and why."""

import hashlib
import math
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from digits import outline, plots, runs
from digits.competition import TRAIN
from digits.diagnosis import calibration, confusion, doubted, margins, mistakes
from digits.errors import DigitsError
from digits.heldout import HeldOut, held_out
from digits.nn import LAYERS, Array
from digits.recipe import CLASSES, from_table
from digits.runs import Run, dev_score, split_text
from digits.stats import Score

T = TypeVar("T")

GALLERY = 40  # mistakes of a run that are shown
DOUBTS = 24  # labels in doubt that are shown
POINTS = 60  # of a learning curve


class Account:
    """What is told of one run: `table` is all of it, `judged` what it answered on held-out images, None if unknown.

    In the table, `missing` says what of the run is not here, `wrong` what is not as it should be.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self._missing: list[str] = []
        self._wrong: list[str] = []
        self._members: list[Run] = self._or_wrong(lambda: runs.members(run)) or []
        self.judged = self._judged()
        record = run.record
        self.table: dict[str, Any] = {
            "description": str(record["recipe"].get("description") or ""),
            "split": split_text(run),
            "data": _data_text(record),
            "code": part(record.get("code"), "commit", "dirty"),
            "machine": part(record.get("machine"), "processor", "cores", "system", "python", "blas"),
            "versions": part(part(record.get("machine"), "versions").get("versions")),
            "parameters": number(record.get("parameters")),
            "train": score_table((record.get("scores") or {}).get("train")),
            "settings": self._or_wrong(self._settings),
            "members": self._member_tables(),
            "curves": self._curves(),
            **self._diagnosis(),
            "missing": self._missing,
            "wrong": self._wrong,
        }

    def _judged(self) -> HeldOut | None:
        score = dev_score(self.run)
        if self.run.record["status"] != "finished" or score is None:
            return None
        if not self.run.path("dev.npz").exists():
            self._missing.append("dev.npz, what the run answered on its held-out images")
            return None
        found = self._or_wrong(lambda: held_out(self.run))
        if found is not None and score != Score(int(found.right.sum()), len(found.rows)):
            self._wrong.append(
                f"run.json says that {score.correct:,} of {score.images:,} are right, and dev.npz has "
                f"{int(found.right.sum()):,} of {len(found.rows):,}: one of the two was changed"
            )
        return found

    def _or_wrong(self, tell: Callable[[], T]) -> T | None:
        """What `tell` returns; None where it raises DigitsError, which is what is wrong then."""
        try:
            return tell()
        except DigitsError as error:
            # The page names the run already, and where it is on this machine is nobody else's business.
            self._wrong.append(str(error).replace(f"{self.run.folder}{os.sep}", ""))
            return None

    def _settings(self) -> dict[str, list[str]] | None:
        """What of the recipe is not the default, in words; None for a blend, which has none of its own."""
        if "network" not in self.run.record["recipe"]:
            return None
        recipe = from_table(self.run.record["recipe"], f"{self.run.path('run.json')}, recipe")
        return {"network": [_layer_text(line) for line in recipe.network], **outline.tables(recipe)}

    def _member_tables(self) -> list[dict[str, Any]]:
        """The members, from their folders, or where those are not here as far as the run's record has them."""
        recorded = self.run.record.get("members")  # a blend's are runs of their own, with weights
        records = [{**member.record, "status": member.status} for member in self._members]
        records = records or [one for one in (recorded if isinstance(recorded, list) else []) if isinstance(one, dict)]
        return [
            {
                "run": str(record.get("run", "")),
                "weight": number(record.get("weight")),
                "seed": number(record.get("seed")),
                "split": _fold_text(record.get("split")),
                "status": str(record.get("status", "finished")),
                "dev": score_table(part(record.get("scores"), "dev").get("dev")),
                "seconds": number(part(record.get("seconds"), "train").get("train")),
            }
            for record in records
        ]

    def _curves(self) -> dict[str, Any] | None:
        """Loss and error over the training: of the run, or of each member on what it holds out."""
        members = [(f"member {at}", member) for at, member in enumerate(self._members)]
        charts: dict[str, list[dict[str, Any]]] = {"loss": [], "accuracy": []}
        for name, run in members or [("", self.run)]:
            try:
                log = run.log()
            except OSError as error:
                self._wrong.append(f"log.jsonl can't be read ({error.strerror})")
                continue
            for chart, lines in charts.items():
                for who in ("dev",) if members else ("train", "dev"):
                    x, y = _curve(log, plots.KEYS[chart][who], percent=chart == "accuracy")
                    if x:
                        lines.append({"name": name or who, "who": who, "x": x, "y": y})
        if not any(charts.values()):
            trained = self.run.record["status"] == "finished" and "network" in self.run.record["recipe"]
            if trained and not self.run.path("log.jsonl").exists():
                self._missing.append("log.jsonl, its learning curves")
            return None
        whole = part(self.run.record["recipe"].get("train"), "batch_size").get("batch_size") == "all"
        return {"unit": "iteration" if whole else "epoch", "loss": charts["loss"], "error": charts["accuracy"]}

    def _diagnosis(self) -> dict[str, Any]:
        """What the answers on held-out images tell."""
        if self.judged is None:
            return {}
        labels, p = self.judged.labels, self.judged.probabilities
        counts = confusion(labels, self.judged.predicted)
        shown, doubts, told = mistakes(p, labels), doubted(p, labels), calibration(p, labels)
        sha256 = str(self.run.record["data"]["sha256"].get(TRAIN.file))
        key = hashlib.sha256(sha256.encode() + self.judged.rows.astype("<i8").tobytes() + labels.astype("i1").tobytes())
        return {
            "judged": {"key": key.hexdigest()[:16], "images": len(labels), "wrong": len(shown)},
            "confusion": counts.tolist(),
            "digits": [_digit_table(int(counts[k, k]), int(counts[k].sum())) for k in range(CLASSES)],
            "calibration": {
                "bins": [[one.images, round(one.confidence, 4), round(one.accuracy, 4)] for one in told.bins],
                "error": round(told.error, 5),
                "confidence": round(told.confidence, 5),
                "accuracy": round(float(self.judged.right.mean()), 5),
            },
            "mistakes": [self._card(self.judged, at) for at in shown[:GALLERY]],
            "doubts": [self._card(self.judged, at) for at in doubts[:DOUBTS]],
            "doubted": len(doubts),
        }

    @staticmethod
    def _card(judged: HeldOut, at: int) -> list[Any]:
        return card(judged.rows[at], judged.labels[at], judged.probabilities[at])

    def listed(self) -> dict[str, Any] | None:
        """All mistakes, for comparisons: rows as steps from one to the next, labels and predictions as digits."""
        if self.judged is None:
            return None
        wrong = self.judged.at(self.judged.rows[~self.judged.right])
        return {
            "steps": np.diff(wrong.rows, prepend=0).tolist(),
            "labels": "".join(map(str, wrong.labels)),
            "predicted": "".join(map(str, wrong.predicted)),
            "sure": np.floor(100 * wrong.probabilities.max(axis=1)).astype(int).tolist(),
        }


def card(row: int, label: int, p: Array) -> list[Any]:
    """One image: its row in train.csv, its label, and its ten probabilities in thousandths."""
    return [int(row), int(label), np.rint(1000 * p).astype(int).tolist()]


def pooled(judged: Sequence[HeldOut]) -> dict[str, Any] | None:
    """The labels that runs together speak against: of the images that any held out, the means of what those say.

    All are of the same train.csv. Only those with at most twice the least error are asked, as a poor network's doubts
    are of itself. None where there are none.
    """
    if not judged:
        return None
    errors = [1 - float(one.right.mean()) for one in judged]
    good = [one for one, error in zip(judged, errors, strict=True) if error <= 2 * min(errors)]
    size = 1 + max(int(one.rows[-1]) for one in good)
    sums, asked, against, labels = (np.zeros(shape) for shape in ((size, CLASSES), size, size, size))
    for one in good:
        sums[one.rows] += one.probabilities
        asked[one.rows] += 1
        against[one.rows] += ~one.right
        labels[one.rows] = one.labels
    rows = np.flatnonzero(asked)
    p, known = sums[rows] / asked[rows, None], labels[rows].astype(int)
    clear = doubted(p, known)
    rest = np.setdiff1d(np.flatnonzero(p.argmax(axis=1) != known), clear)
    rest = rest[np.argsort(margins(p[rest], known[rest]), kind="stable")]
    return {
        "runs": len(good),
        "images": len(rows),
        "doubted": len(clear),
        "cards": [
            [*card(rows[at], known[at], p[at]), int(against[rows[at]]), int(asked[rows[at]])]
            for at in [*clear, *rest][:GALLERY]
        ],
    }


def _curve(log: list[dict[str, Any]], key: str, percent: bool) -> tuple[list[float], list[float]]:
    """The epochs and values of a key of the log, thinned out; errors in per cent of what is an accuracy."""
    found = [(number(line.get("epoch")), number(line.get(key))) for line in log]
    points = [(epoch, value) for epoch, value in found if epoch is not None and value is not None]
    if len(points) > POINTS:
        points = [points[at] for at in np.linspace(0, len(points) - 1, POINTS).round().astype(int)]
    values = [100 * (1 - value) if percent else value for _, value in points]
    return [epoch for epoch, _ in points], [float(f"{value:.4g}") for value in values]


def _layer_text(line: dict[str, Any]) -> str:
    """ "conv channels=24 padding=same": a layer and what of it is not the default."""
    values = {key: value for key, value in line.items() if key != "layer"}
    parts = [_layer_text(part) for part in values.pop("layers", [])]
    known = outline.settings(LAYERS[line["layer"]](**values)) if not parts else values
    text = " ".join([line["layer"], *outline.settings_text(known)])
    return f"{text} ({', '.join(parts)})" if parts else text


def _digit_table(right: int, images: int) -> list[Any]:
    """How many are right, of how many, and the accuracy in words."""
    return [right, images, str(Score(right, images)) if images else "–"]


def _fold_text(split: Any) -> str:
    table = part(split, "fraction", "fold", "folds")
    if None not in (table.get("fold"), table.get("folds")):
        return f"fold {table['fold']} of {table['folds']}"
    return "nothing" if table.get("fraction") == 0 else "dev"


def _data_text(record: dict[str, Any]) -> str:
    kinds = {"official": "the competition's", "sample": "sample data drawn from fonts", "own": "data of your own"}
    counts = [
        f"{count:,} {word}"
        for key, word in (("train_images", "trained on"), ("dev_images", "held out"), ("test_images", "to predict"))
        if isinstance(count := record["data"].get(key), int)
    ]
    return ": ".join([kinds[record["data"]["kind"]], *([", ".join(counts)] if counts else [])])


def score_table(score: Any) -> dict[str, Any] | None:
    """A score of a record, as text and numbers; None where there is none, or something else."""
    table = part(score, "correct", "images")
    correct, images = table.get("correct"), table.get("images")
    if not isinstance(correct, int) or not isinstance(images, int) or not 0 <= correct <= images or not images:
        return None
    found = Score(correct, images)
    return {
        "correct": correct,
        "images": images,
        "accuracy": found.accuracy,
        "error": found.standard_error,
        "text": str(found),
    }


def part(table: Any, *keys: str) -> dict[str, Any]:
    """Those of a table's keys that it has, of all without `keys`; nothing where it is no table."""
    return {key: table[key] for key in keys or table if key in table} if isinstance(table, dict) else {}


def number(value: Any) -> float | int | None:
    """A number that JSON and a chart can show; None for anything else."""
    sound = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if sound else None
