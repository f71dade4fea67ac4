"""Finished runs blended into one: a run like any other, whose probabilities are the average of its members'."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digits import runs
from digits.competition import TEST, TRAIN
from digits.data import Data
from digits.errors import DigitsError
from digits.experiment import check_same_data, conclude
from digits.heldout import HeldOut, check_same_tables, held_out
from digits.machine import describe
from digits.nn import Array, CheckpointError, read_arrays
from digits.predict import Averaged, Mix, log_ratios, sharpened
from digits.runs import Run, dev_score, split_text
from digits.split import Split
from digits.version import code_version

PARTS = 10  # of the images, each judged with weights that were fitted on the others
ENOUGH = 1e-6  # of the mean log loss, how near to the least the fitted weights come
STEPS = 10_000  # at most, to come there
DECIMALS = 4  # of a fitted weight
SHARPEST = 10.0  # the power to which probabilities that are always right would be raised without end


@dataclass(frozen=True)
class Blend:
    """Members, how they are averaged with which weights, and what comes of it.

    `dev` are the answers on the images that all members held out, None where `unjudged` says why there are none; where
    the weights were `fitted`, each image's are by weights that were fitted without it. `test` are the probabilities
    (N, 10) of the test images.
    """

    members: tuple[Run, ...]
    average: Averaged
    mix: Mix
    fitted: bool
    parts: tuple[HeldOut, ...]
    dev: Array | None
    unjudged: str | None
    test: Array

    def write(self, data: Data, submissions: Path) -> Run:
        """Make a finished run of it. Raises DigitsError where the data isn't the members', or it can't be written."""
        for member in self.members:
            check_same_data(member, data)
        label = "blend-s0" + ("-sample" if data.kind == "sample" else "")
        run = runs.create(submissions, label, self._beginning(data))
        rows = self.parts[0].rows if self.parts else np.arange(0)
        seconds = sum(member.record["seconds"]["train"] for member in self.members)
        members = [
            {"run": member.id, "weight": weight, "power": power, "recipe": member.record["recipe"]["name"]}
            | {key: member.record.get(key) for key in ("seed", "split", "scores", "seconds", "submission")}
            for member, weight, power in zip(self.members, self.mix.weights, self.mix.powers, strict=True)
        ]
        with run.lock():
            conclude(run, data, rows, self.dev, self.test, submissions, None, seconds, members=members)
        return run

    def _beginning(self, data: Data) -> dict[str, Any]:
        """What the record begins with."""
        first = self.members[0].record
        names = ", ".join(f"{member.record['recipe']['name']}-s{member.record['seed']}" for member in self.members)
        images = len(self.parts[0].rows) if self.parts else 0
        return {
            "recipe": {
                "name": "blend",
                "description": f"{names}: the average of their {self.average}",
                "blend": {
                    "members": [member.id for member in self.members],
                    "average": self.average,
                    "weights": "fit" if self.fitted else "equal",
                },
            },
            "seed": 0,
            "split": self._split(),
            "data": {**first["data"], "train_images": len(data.labels) - images, "dev_images": images},
            "code": code_version(),
            "machine": describe(),
            "workers": 1,
            "parameters": sum(member.record.get("parameters") or 0 for member in self.members),
        }

    def _split(self) -> dict[str, Any]:
        """The split of the member that held out just what all did; where there is none such, all their splits."""
        if not self.parts:
            return Split(0.0).spec()
        count = len(self.parts[0].rows)
        for member in self.members:
            score = dev_score(member)
            if score and score.images == count:
                return dict(member.record["split"])
        return {"common": [member.record["split"] for member in self.members]}


def blended(members: Sequence[Run], average: Averaged = "probabilities", fit: bool = False) -> Blend:
    """The blend of finished runs, with equal weights or such as make the log loss on held-out images least.

    The weights are fitted on the images that no member was trained on, out-of-fold ones included. Raises DigitsError
    where there are none to fit on, the runs are of different data, or their predictions are not at hand.
    """
    if len({member.id for member in members}) < max(len(members), 2):
        raise DigitsError("a blend is of two runs or more, each of them once")
    for member in members:
        if member.record["status"] != "finished":
            raise DigitsError(f"the run {member.id} is not finished: go on with `digits train --resume {member.id}`")
    check_same_tables(list(members), TRAIN.file, TEST.file)
    tests = [_test(member) for member in members]
    if len({len(test) for test in tests}) > 1:
        raise DigitsError(
            "the runs predicted different numbers of test images: predict them anew with `digits predict`"
        )
    parts, unjudged = _judged_together(members)
    if fit and average == "votes":
        raise DigitsError("votes have no log loss that weights could make less: leave out `--weights fit`, or vote not")
    if fit and unjudged:
        raise DigitsError(f"weights are fitted on images that no member was trained on, and there are none: {unjudged}")
    answers = [part.probabilities for part in parts]
    mix = Mix((1 / len(members),) * len(members), (1.0,) * len(members))
    dev = mix.of(answers, average) if parts else None
    if fit:
        mix = fitted(answers, parts[0].labels, average)
        dev = cross_fitted(answers, parts[0].labels, average)
    return Blend(tuple(members), average, mix, fit, tuple(parts), dev, unjudged, mix.of(tests, average))


def fitted(parts: Sequence[Array], labels: NDArray[np.intp], average: Averaged) -> Mix:
    """The weights, 0 or more and 1 together, with which the blend of probabilities (N, 10) has the least log loss.

    Each member's probabilities are raised to a power first, that with which its own log loss is least: or one would be
    preferred because it is surer of itself, as is one that was trained with less label smoothing, and not because it
    knows better. The weights are found by exponentiated gradients (Kivinen and Warmuth 1997), each step as long as it
    makes the loss less. The loss is convex in them, so that w·g - min g of its gradient g bounds how far it is from the
    least (Jaggi 2013), and says when to stop. They are rounded to `DECIMALS`.
    """
    powers = tuple(round(_best_power(part, labels), 2) for part in parts)
    sharp = [sharpened(part, power) for part, power in zip(parts, powers, strict=True)]
    loss_of = _mixture_loss(sharp, labels) if average == "probabilities" else _product_loss(sharp, labels)
    weights, step = np.full(len(parts), 1 / len(parts)), 1.0
    loss, gradient = loss_of(weights)
    for _ in range(STEPS):
        least = gradient.min()
        if weights @ gradient - least < ENOUGH:
            break
        while True:
            tried = weights * np.exp(-step * (gradient - least))
            tried /= tried.sum()
            tried_loss, tried_gradient = loss_of(tried)
            if tried_loss < loss or step < 1e-9:
                break
            step /= 2
        weights, loss, gradient, step = tried, tried_loss, tried_gradient, step * 1.5
    weights = weights.round(DECIMALS)
    weights[weights.argmax()] += 1 - weights.sum()
    return Mix(tuple(round(float(weight), DECIMALS) for weight in weights), powers)


def cross_fitted(parts: Sequence[Array], labels: NDArray[np.intp], average: Averaged) -> Array:
    """The blend of probabilities (N, 10), a tenth at a time, by weights that were fitted on the other nine.

    So an image's own label has no say in how it is judged, and the score is no better for the fitting.
    """
    out = np.empty_like(parts[0])
    for number in range(PARTS):
        others, these = Split(0.0, PARTS, number).indices(labels)
        mix = fitted([part[others] for part in parts], labels[others], average)
        out[these] = mix.of([part[these] for part in parts], average)
    return out


def _best_power(p: Array, labels: NDArray[np.intp]) -> float:
    """The power to raise probabilities to so that their log loss is least, by Newton's method (Guo et al. 2017).

    It is the inverse of a temperature.
    """
    logs = log_ratios(p)
    own = logs[np.arange(len(labels)), labels]
    power = 1.0
    for _ in range(20):
        raised = np.exp(power * logs)
        raised /= raised.sum(axis=1, keepdims=True)
        mean = (raised * logs).sum(axis=1)
        slope = float((mean - own).mean())
        bend = float(((raised * logs**2).sum(axis=1) - mean**2).mean())
        better = power - slope / max(bend, 1e-12)
        better = min(max(better, power / 2, 1 / SHARPEST), power * 2, SHARPEST)
        if abs(better - power) < 1e-3:
            return better
        power = better
    return power


Loss = Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]]


def _mixture_loss(parts: Sequence[Array], labels: NDArray[np.intp]) -> Loss:
    """The mean of -log Σ w p over the images, p each member's probability of the label, and its gradient."""
    at = np.arange(len(labels))
    own = np.maximum([part[at, labels] for part in parts], np.finfo(np.float32).tiny, dtype=np.float64)

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        mixed = weights @ own
        return float(-np.log(mixed).mean()), -(own / mixed).mean(axis=1)

    return loss


def _product_loss(parts: Sequence[Array], labels: NDArray[np.intp]) -> Loss:
    """The mean log loss of softmax(Σ w log p), and its gradient."""
    logs = np.stack([log_ratios(part) for part in parts])  # (members, N, 10)
    own = logs[:, np.arange(len(labels)), labels]

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        mixed = np.tensordot(weights, logs, 1)
        mixed -= mixed.max(axis=1, keepdims=True)
        p = np.exp(mixed)
        total = p.sum(axis=1, keepdims=True)
        p /= total
        value = np.log(total[:, 0]) - mixed[np.arange(len(labels)), labels]
        gradient = np.tensordot(logs, p, 2) / len(labels) - own.mean(axis=1)
        return float(value.mean()), gradient

    return loss


def _judged_together(members: Sequence[Run]) -> tuple[list[HeldOut], str | None]:
    """The members' answers on the images that all held out; where there are none, why."""
    for member in members:
        if dev_score(member) is None:
            return [], f"{member.id} was trained on all labelled images"
    parts = [held_out(member) for member in members]
    common = reduce(np.intersect1d, [part.rows for part in parts])
    if not len(common):
        held = ", ".join(f"{member.id} held out {split_text(member)}" for member in members)
        return [], f"{held}, so that each image was trained on by one of them"
    return [part.at(common) for part in parts], None


def _test(member: Run) -> Array:
    """The probabilities (N, 10) of the test images. Raises DigitsError where they are missing or damaged."""
    try:
        p = read_arrays(member.path("test.npz"))["probabilities"]
    except (CheckpointError, KeyError) as error:
        raise DigitsError(f"{error}: write it anew with `digits predict {member.id}`") from error
    if p.ndim != 2 or p.shape[1] != 10 or not np.isfinite(p).all():
        raise DigitsError(
            f"{member.path('test.npz')} holds no probabilities: write it with `digits predict {member.id}`"
        )
    return p
