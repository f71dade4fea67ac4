"""What the report shows of a run, as plain values: a part that can't be read is left out, and it is said which and why."""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from digits import outline, plots, runs
from digits.data import TRAIN
from digits.diagnosis import calibration, confusion, doubted, margins, mistakes
from digits.errors import DigitsError
from digits.experiment import split_of
from digits.nn import LAYERS, Array, CheckpointError, read_arrays
from digits.recipe import CLASSES, Recipe, from_table
from digits.runs import Run, dev_score
from digits.stats import Score

GALLERY = 40  # mistakes of a run that are shown
DOUBTS = 24  # labels in doubt that are shown
POINTS = 60  # of a learning curve
TABLES = ("train", "optimizer", "schedule", "average", "loss", "augment", "predict", "ensemble")


@dataclass(frozen=True)
class Judged:
    """What a run was judged on: rows (N,) of train.csv, labels (N,) and probabilities (N, 10) of images held out.

    `images` says which images these are: the same text for the same ones of the same train.csv.
    """

    rows: Array
    labels: Array
    probabilities: Array
    images: str

    @property
    def wrong(self) -> Array:
        """Which of them are predicted wrong, (N,) of booleans."""
        return self.probabilities.argmax(axis=1) != self.labels


def judged(run: Run) -> Judged:
    """What is in the run's dev.npz. Raises DigitsError where it is missing, damaged or not what it should be."""
    path = run.path("dev.npz")
    try:
        arrays = read_arrays(path)
        rows, labels, p = (arrays[name] for name in ("rows", "labels", "probabilities"))
    except CheckpointError as error:
        raise DigitsError(str(error)) from error
    except KeyError as error:
        raise DigitsError(f"{path} has no {error}") from error
    sound = (
        len(rows) > 0
        and rows.shape == labels.shape == (len(p),)
        and p.shape == (len(rows), CLASSES)
        and rows.dtype.kind == labels.dtype.kind == "i"
        and p.dtype.kind == "f"
        and bool(np.isfinite(p).all() and (rows >= 0).all() and (np.diff(rows) > 0).all())
        and bool((labels >= 0).all() and (labels < CLASSES).all())
    )
    if not sound:
        raise DigitsError(f"{path} holds something else than a run's predictions")
    sha256 = str(run.record["data"]["sha256"].get(TRAIN.file))
    digest = hashlib.sha256(sha256.encode() + rows.astype("<i8").tobytes())
    return Judged(rows, labels, p, digest.hexdigest()[:16])


class Telling:
    """What is told of one run: `table`, what of it is `missing` here, and what is `wrong` with it, in sentences."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.missing: list[str] = []
        self.wrong: list[str] = []
        self.judged: Judged | None = None
        self._parts: list[Run] = self._or_wrong(lambda: runs.members(run)) or []
        record = run.record
        if record["status"] == "finished":
            self._judge()
        self.table: dict[str, Any] = {
            "description": str(record["recipe"].get("description") or ""),
            "split": self._or_wrong(lambda: str(split_of(run))),
            "data": _data_text(record),
            "code": _known(record.get("code"), "commit", "dirty", "sha256"),
            "machine": _known(record.get("machine"), "processor", "cores", "system", "python", "blas"),
            "versions": _known(record.get("machine"), "versions").get("versions"),
            "parameters": _number(record.get("parameters")),
            "train": _score_table((record.get("scores") or {}).get("train")),
            "settings": self._or_wrong(self._settings),
            "members": self._or_wrong(self._members) or [],
            "curves": self._curves(),
            **self._diagnosis(),
            "missing": self.missing,
            "wrong": self.wrong,
        }

    def _judge(self) -> None:
        score = dev_score(self.run)
        if not self.run.path("dev.npz").exists():
            if score:
                self.missing.append(
                    "dev.npz, the probabilities of the held-out images, is not here: git does not keep it, so it is "
                    "only where the run was trained"
                )
            return
        try:
            found = judged(self.run)
        except DigitsError as error:
            self.wrong.append(str(error))
            return
        right = len(found.labels) - int(found.wrong.sum())
        if score != Score(right, len(found.labels)):
            said = f"{score.correct:,} right of {score.images:,}" if score else "no dev score"
            self.wrong.append(
                f"run.json says {said} and dev.npz {right:,} right of {len(found.labels):,}: one of them was changed"
            )
        self.judged = found

    def _or_wrong(self, tell: Callable[[], Any]) -> Any:
        """What `tell` returns; None where it raises DigitsError, which is what is wrong then."""
        try:
            return tell()
        except DigitsError as error:
            self.wrong.append(str(error))
            return None

    def _settings(self) -> dict[str, Any]:
        recipe = from_table(self.run.record["recipe"], f"{self.run.path('run.json')}, recipe")
        return {"network": [_layer_text(line) for line in recipe.network], **_tables(recipe)}

    def _members(self) -> list[dict[str, Any]]:
        return [
            {
                "seed": member.record["seed"],
                "split": str(split_of(member)),
                "status": member.status,
                "dev": _score_table((member.record.get("scores") or {}).get("dev")),
                "seconds": _number(_known(member.record.get("seconds"), "train").get("train")),
            }
            for member in self._parts
        ] or self._members_recorded()

    def _members_recorded(self) -> list[dict[str, Any]]:
        """The members as the ensemble's record has them: their folders stay where it was trained."""
        recorded = self.run.record.get("members")
        return [
            {
                "seed": _number(entry.get("seed")),
                "split": f"fold {entry['split']['fold']} of {entry['split']['folds']}"
                if _known(entry.get("split"), "fold").get("fold") is not None
                else "",
                "status": "finished",
                "dev": _score_table((entry.get("scores") or {}).get("dev")),
                "seconds": _number(_known(entry.get("seconds"), "train").get("train")),
            }
            for entry in (recorded if isinstance(recorded, list) else [])
            if isinstance(entry, dict)
        ]

    def _curves(self) -> dict[str, Any] | None:
        """Loss and error over the training: of the run, or of each member on what it holds out."""
        logs = [(f"member {number}", member.log()) for number, member in enumerate(self._parts)]
        charts: dict[str, list[dict[str, Any]]] = {"loss": [], "accuracy": []}
        for name, log in logs or [("", self.run.log())]:
            for chart, lines in charts.items():
                for who in ("dev",) if logs else ("train", "dev"):
                    x, y = _curve(log, plots.KEYS[chart][who], percent=chart == "accuracy")
                    if x:
                        lines.append({"name": name or who, "who": who, "x": x, "y": y})
        if not any(charts.values()):
            if self.run.record["status"] == "finished":
                self.missing.append(
                    "log.jsonl, the learning curves, is not here: git does not keep it, so it is only where the run was "
                    "trained"
                )
            return None
        whole = _known(self.run.record["recipe"].get("train"), "batch_size").get("batch_size") == "all"
        return {"unit": "iteration" if whole else "epoch", "loss": charts["loss"], "error": charts["accuracy"]}

    def _diagnosis(self) -> dict[str, Any]:
        """What the held-out probabilities tell."""
        if self.judged is None:
            return {}
        labels, p = self.judged.labels, self.judged.probabilities
        counts = confusion(labels, p.argmax(axis=1))
        shown, doubts, told = mistakes(p, labels), doubted(p, labels), calibration(p, labels)
        return {
            "confusion": counts.tolist(),
            "digits": [
                [int(counts[k, k]), int(counts[k].sum()), str(Score(int(counts[k, k]), int(counts[k].sum())))]
                if counts[k].any()
                else [0, 0, "no images"]
                for k in range(CLASSES)
            ],
            "calibration": {
                "bins": [[one.images, round(one.confidence, 4), round(one.accuracy, 4)] for one in told.bins],
                "error": round(told.error, 5),
                "confidence": round(told.confidence, 5),
            },
            "images": self.judged.images,
            "mistakes": [self.card(at) for at in shown[:GALLERY]],
            "doubts": [self.card(at) for at in doubts[:DOUBTS]],
            "doubted": len(doubts),
        }

    def card(self, at: int) -> list[Any]:
        """One image: its row in train.csv, its label, and its ten probabilities in thousandths."""
        assert self.judged is not None
        return card(int(self.judged.rows[at]), int(self.judged.labels[at]), self.judged.probabilities[at])

    def listed(self) -> dict[str, Any]:
        """All mistakes, for comparisons: rows as steps from one to the next, labels and predictions as digits."""
        assert self.judged is not None
        at = np.flatnonzero(self.judged.wrong)
        p = self.judged.probabilities[at]
        return {
            "steps": np.diff(self.judged.rows[at], prepend=0).tolist(),
            "labels": "".join(map(str, self.judged.labels[at])),
            "predicted": "".join(map(str, p.argmax(axis=1))),
            "sure": np.floor(100 * p.max(axis=1)).astype(int).tolist(),
        }


def card(row: int, label: int, p: Array) -> list[Any]:
    return [row, label, np.rint(1000 * p).astype(int).tolist()]


def pooled(told: Sequence[Telling]) -> dict[str, Any] | None:
    """Labels that the runs together speak against: of the images that any of them held out, the means of what they say.

    Only runs on the same train.csv as the first are asked, and only those with at most twice the least error, as a poor
    network's doubts are its own.
    """
    asked = [one for one in told if one.judged is not None]
    if not asked:
        return None
    source = asked[0].run.record["data"]["sha256"].get(TRAIN.file)
    asked = [one for one in asked if one.run.record["data"]["sha256"].get(TRAIN.file) == source]
    errors = [float(one.judged.wrong.mean()) for one in asked if one.judged]
    good = [one.judged for one, error in zip(asked, errors, strict=True) if one.judged and error <= 2 * min(errors)]
    size = 1 + max(int(one.rows[-1]) for one in good)
    sums, counts = np.zeros((size, CLASSES)), np.zeros(size, int)
    against, labels = np.zeros(size, int), np.zeros(size, int)
    for one in good:
        sums[one.rows] += one.probabilities
        counts[one.rows] += 1
        against[one.rows] += one.wrong
        labels[one.rows] = one.labels
    rows = np.flatnonzero(counts)
    p = sums[rows] / counts[rows, None]
    flagged = doubted(p, labels[rows])
    rest = np.argsort(margins(p, labels[rows]), kind="stable")
    known = set(flagged.tolist())
    ordered = [*flagged.tolist(), *(at for at in rest.tolist() if at not in known and against[rows[at]])]
    return {
        "runs": len(good),
        "images": len(rows),
        "doubted": len(flagged),
        "cards": [
            [*card(int(rows[at]), int(labels[rows[at]]), p[at]), int(against[rows[at]]), int(counts[rows[at]])]
            for at in ordered[:GALLERY]
        ],
    }


def _curve(log: list[dict[str, Any]], key: str, percent: bool) -> tuple[list[float], list[float]]:
    """The epochs and values of a key of the log, thinned out; errors in per cent of what is an accuracy."""
    found = [(_number(line.get("epoch")), _number(line.get(key))) for line in log]
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
    text = " ".join([line["layer"], *(f"{key}={_value_text(value)}" for key, value in known.items())])
    return f"{text} ({', '.join(parts)})" if parts else text


def _tables(recipe: Recipe) -> dict[str, list[str]]:
    """Of each of the recipe's tables what is not the default."""
    return {
        name: [
            *([config.name] if hasattr(config, "name") else []),
            *(f"{key}={_value_text(value)}" for key, value in outline.settings(config).items() if key != "name"),
        ]
        for name in TABLES
        for config in [getattr(recipe, name)]
    }


def _value_text(value: Any) -> str:
    return str(value).lower()


def _data_text(record: dict[str, Any]) -> str:
    kinds = {"official": "the competition's", "sample": "sample data drawn from fonts", "own": "data of your own"}
    counts = [
        f"{count:,} {word}"
        for key, word in (("train_images", "trained on"), ("dev_images", "held out"), ("test_images", "to predict"))
        if isinstance(count := record["data"].get(key), int)
    ]
    return ": ".join([kinds[record["data"]["kind"]], *([", ".join(counts)] if counts else [])])


def _score_table(score: Any) -> dict[str, Any] | None:
    """A score of a record, as text and numbers; None where there is none, or something else."""
    table = _known(score, "correct", "images")
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


def _known(table: Any, *keys: str) -> dict[str, Any]:
    """Those of a table's keys that it has; nothing where it is no table."""
    return {key: table[key] for key in keys if key in table} if isinstance(table, dict) else {}


def _number(value: Any) -> float | int | None:
    """A number that JSON and a chart can show; None for anything else."""
    sound = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if sound else None
