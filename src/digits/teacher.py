"""What a training learns from: the labels, or what a finished run, its teacher, makes of them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from digits import runs
from digits.competition import TRAIN
from digits.data import Data
from digits.errors import DigitsError
from digits.heldout import HeldOut, Rows, held_out
from digits.nn import Array
from digits.recipe import Recipe
from digits.runs import Run, split_of
from digits.split import Split


@dataclass(frozen=True)
class Lesson:
    """The rows of train.csv to train on (N,), with their labels (N,) or targets (N, 10), and the rows held out (M,)."""

    rows: Rows
    targets: Rows | Array
    held_out: Rows


def lesson(recipe: Recipe, data: Data, split: Split, submissions: Path) -> Lesson:
    """What a recipe is to learn from under a split; its teacher, if it has one, is in the folder `submissions`.

    Raises DigitsError where the split can't be drawn, or the teacher is missing, of other data, has no answer for an
    image that is to be trained on, or was trained on one that is to be held out: then the dev score would say too much.
    """
    rows, dev = split.indices(data.labels)
    if not recipe.teacher.run:
        return Lesson(rows, data.labels[rows], dev)
    where = f"{recipe.name}, [teacher] run"
    try:
        answers = held_out(runs.find(submissions, recipe.teacher.run))
    except DigitsError as error:
        raise DigitsError(f"{where}: {error}") from error
    if answers.run.record["data"]["sha256"].get(TRAIN.file) != data.sha256[TRAIN.file]:
        raise DigitsError(f"{where}: {answers.run.id} learnt from another {TRAIN.file}: name one that was of this")
    unanswered = len(np.setdiff1d(rows, answers.rows))
    if unanswered:
        raise DigitsError(
            f"{where}: {answers.run.id} held out {len(answers.rows):,} images, so {unanswered:,} of the {len(rows):,} "
            "to train on have no answer from it: name a finished run of an ensemble of folds, which holds out all"
        )
    judged = split.turn(0).indices(data.labels)[1]
    seen = len(np.intersect1d(judged, _seen(answers.run, data)))
    if seen:
        raise DigitsError(
            f"{where}: {answers.run.id} was trained on {seen:,} of the {len(judged):,} images to hold out, so a dev "
            "score would flatter: hold out a dev split that was kept from it too, as `digits train FOLDS.toml "
            "--folds N --dev 0.2` does for a recipe of N folds, or nothing, with --full"
        )
    return _taught(recipe, rows, answers.at(rows), dev)


def _taught(recipe: Recipe, rows: Rows, answers: HeldOut, dev: Rows) -> Lesson:
    kept, targets = recipe.teacher.lesson(answers.labels, answers.probabilities)
    if not kept.any():
        below = recipe.teacher.drop_below
        raise DigitsError(f"{recipe.name}, [teacher] drop_below: {below:g} leaves no image to train on")
    return Lesson(rows[kept], targets, dev)


def _seen(run: Run, data: Data) -> Rows:
    """The images whose labels a run has learnt from: it, those that it is a blend of, and its own teacher."""
    if "blend" in run.record["recipe"]:
        return np.unique(np.concatenate([_seen(part, data) for part, *_ in runs.blended(run)]))
    rows = split_of(run).indices(data.labels)[0]
    teacher = run.record["recipe"].get("teacher", {}).get("run")
    return np.union1d(rows, _seen(runs.find(runs.ledger(run), teacher), data)) if teacher else rows
