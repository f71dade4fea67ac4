"""A teacher: targets of its answers and the labels, doubtful labels dropped, and nothing held out seen through it."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jobs import begin, complete, files, quick_recipe, without_plots

from digits import runs
from digits.blend import blended
from digits.data import Data
from digits.ensemble import EnsembleExperiment
from digits.errors import DigitsError
from digits.experiment import Experiment
from digits.heldout import held_out
from digits.nn import read_arrays, write_arrays
from digits.recipe import Recipe, from_table
from digits.runs import Run
from digits.split import Split
from digits.teacher import Lesson, _seen, lesson

pytestmark = pytest.mark.usefixtures("unplotted")

ASIDE = Split(0.2, 2)  # what the teacher's folds are of, and what its pupil holds out
HELD_OUT = Split(0.2)


def taught_by(run: str, weight: float = 0.0, drop_below: float = 0.0, **changes: Any) -> Recipe:
    table = {**quick_recipe(epochs=2).resolved(), **changes}
    return from_table({**table, "teacher": {"run": run, "weight": weight, "drop_below": drop_below}}, "pupil")


def of_folds(folder: Path, data: Data, split: Split) -> Run:
    recipe = from_table({**quick_recipe(epochs=4).resolved(), "ensemble": {"members": 2, "folds": 2}}, "folds")
    run = begin(folder, data, recipe, split)
    with EnsembleExperiment(run, data, folder, 1) as work:
        list(work.train(lambda: False))
        work.finish()
    return runs.read(run.folder)


@pytest.fixture(scope="module")
def teacher(sample_data: Data, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An ensemble of two folds of what a dev split of a fifth leaves, alone in its ledger but for its pupils."""
    with pytest.MonkeyPatch.context() as patch:
        without_plots(patch)
        return of_folds(tmp_path_factory.mktemp("ledger"), sample_data, ASIDE)


def learnt(teacher: Run, data: Data, split: Split = HELD_OUT, **how: float) -> Lesson:
    return lesson(taught_by(teacher.id, **how), data, split, teacher.folder.parent)


def test_the_folds_of_what_is_left_judge_all_of_it_and_never_see_the_rest(teacher: Run, sample_data: Data) -> None:
    rows, dev = HELD_OUT.indices(sample_data.labels)
    np.testing.assert_array_equal(held_out(teacher).rows, rows)
    for member in runs.members(teacher):
        seen, judged = Split(**member.record["split"]).indices(sample_data.labels)
        assert not np.isin(dev, np.concatenate([seen, judged])).any()
        assert not np.isin(seen, judged).any()


def test_without_a_teacher_the_labels_are_learnt(sample_data: Data, tmp_path: Path) -> None:
    found = lesson(quick_recipe(), sample_data, HELD_OUT, tmp_path)
    rows, dev = HELD_OUT.indices(sample_data.labels)
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_array_equal(found.held_out, dev)
    np.testing.assert_array_equal(found.targets, sample_data.labels[rows])


def test_targets_are_the_weighted_mean_of_answer_and_label(teacher: Run, sample_data: Data) -> None:
    found = learnt(teacher, sample_data, weight=0.25)
    answers = held_out(teacher)
    np.testing.assert_array_equal(found.rows, answers.rows)
    for at in range(0, len(found.rows), 37):
        one_hot = np.zeros(10)
        one_hot[sample_data.labels[found.rows[at]]] = 1
        np.testing.assert_allclose(found.targets[at], 0.75 * one_hot + 0.25 * answers.probabilities[at], atol=1e-6)
    assert found.targets.dtype == np.float32
    np.testing.assert_allclose(found.targets.sum(axis=1), 1, atol=1e-5)


def test_doubtful_labels_are_dropped(teacher: Run, sample_data: Data) -> None:
    answers = held_out(teacher)
    of_label = answers.probabilities[np.arange(len(answers.rows)), answers.labels]
    doubtful = answers.rows[of_label < 0.2]
    assert 0 < len(doubtful) < len(answers.rows)
    found = learnt(teacher, sample_data, drop_below=0.2)
    np.testing.assert_array_equal(found.rows, np.setdiff1d(answers.rows, doubtful))
    np.testing.assert_array_equal(found.targets, sample_data.labels[found.rows])
    both = learnt(teacher, sample_data, drop_below=0.2, weight=1.0)
    np.testing.assert_array_equal(both.rows, found.rows)
    np.testing.assert_allclose(both.targets, answers.at(found.rows).probabilities, atol=1e-6)


def test_a_run_learns_what_its_lesson_says_and_counts_it(teacher: Run, sample_data: Data) -> None:
    folder = teacher.folder.parent
    recipe = taught_by(teacher.id, weight=0.5, drop_below=0.2)
    run = begin(folder, sample_data, recipe, HELD_OUT)
    found = lesson(recipe, sample_data, HELD_OUT, folder)
    assert run.record["data"]["train_images"] == len(found.rows) < len(held_out(teacher).rows)
    with Experiment(run, sample_data, folder, 1) as work:
        np.testing.assert_array_equal(work.training._labels, found.targets)
        np.testing.assert_array_equal(work.training._images, sample_data.images[found.rows])
    complete(run, sample_data)
    plain = complete(begin(folder, sample_data, quick_recipe(epochs=2), HELD_OUT), sample_data)
    assert files(run)["weights.npz"] != files(plain)["weights.npz"]


def test_a_pupil_that_was_stopped_goes_on_bit_for_bit(teacher: Run, sample_data: Data) -> None:
    folder, recipe = teacher.folder.parent, taught_by(teacher.id, weight=0.5)
    whole = complete(begin(folder, sample_data, recipe, HELD_OUT, seed=3), sample_data)
    run = begin(folder, sample_data, recipe, HELD_OUT, seed=3)
    with Experiment(run, sample_data, folder, 1) as work:
        list(work.train(lambda: work.training.step >= 5))
    assert files(complete(runs.read(run.folder), sample_data)) == files(whole)


def test_an_answer_that_is_the_label_teaches_the_label(teacher: Run, sample_data: Data) -> None:
    """Of a teacher that is sure of each label the targets are the labels, so the weights come out almost the same."""
    folder = teacher.folder.parent
    plain = complete(begin(folder, sample_data, quick_recipe(epochs=2), HELD_OUT), sample_data)
    arrays = read_arrays(teacher.path("dev.npz"))
    sure = {**arrays, "probabilities": np.eye(10, dtype=np.float32)[arrays["labels"]]}
    content = teacher.path("dev.npz").read_bytes()
    try:
        write_arrays(teacher.path("dev.npz"), sure)
        run = complete(begin(folder, sample_data, taught_by(teacher.id, weight=1.0), HELD_OUT), sample_data)
    finally:
        teacher.path("dev.npz").write_bytes(content)
    ours, theirs = (read_arrays(one.path("test.npz"))["probabilities"] for one in (run, plain))
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_members_of_an_ensemble_learn_from_the_teacher_of_their_ledger(teacher: Run, sample_data: Data) -> None:
    folder = teacher.folder.parent
    recipe = taught_by(teacher.id, weight=0.5, ensemble={"members": 2})
    run = begin(folder, sample_data, recipe, HELD_OUT)
    with EnsembleExperiment(run, sample_data, folder, 1) as work:
        list(work.train(lambda: False))
        work.finish()
    alone = complete(begin(folder, sample_data, taught_by(teacher.id, weight=0.5), HELD_OUT, seed=1), sample_data)
    assert files(runs.members(run)[1]) == files(alone)


def test_a_blend_of_teachers_teaches(teacher: Run, sample_data: Data) -> None:
    folder = teacher.folder.parent
    other = of_folds(folder, sample_data, ASIDE)
    blend = blended([teacher, other]).write(sample_data, folder)
    found = learnt(blend, sample_data, weight=1.0)
    mean = (held_out(teacher).probabilities + held_out(other).probabilities) / 2
    np.testing.assert_allclose(found.targets, mean, atol=1e-6)


def test_all_images_may_be_learnt_from_a_teacher_that_held_out_each(sample_data: Data, tmp_path: Path) -> None:
    teacher = of_folds(tmp_path, sample_data, Split())
    found = learnt(teacher, sample_data, Split(0.0), weight=0.5)
    np.testing.assert_array_equal(found.rows, np.arange(len(sample_data.labels)))
    assert not len(found.held_out)
    for split in (Split(0.1), Split(0.0, 10, 0), Split(0.0, 10)):  # the last as an ensemble of folds holds them out
        with pytest.raises(DigitsError, match="was trained on 60 of the 60 images to hold out, so a dev score would"):
            learnt(teacher, sample_data, split, weight=0.5)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (Split(0.1), r"held out 480 images, so \d+ of the 540 to train on have no answer from it: name a finished run"),
        (Split(0.0), "held out 480 images, so 120 of the 600 to train on have no answer from it"),
        (Split(0.0, 2, 0), "have no answer from it"),
        (Split(0.2, 2, 0), "was trained on 240 of the 240 images to hold out, so a dev score would flatter"),
        (Split(0.2, seed=1), "have no answer from it"),
    ],
    ids=str,
)
def test_a_teacher_of_other_images_is_refused(teacher: Run, sample_data: Data, split: Split, message: str) -> None:
    with pytest.raises(DigitsError, match=message):
        begin(teacher.folder.parent, sample_data, taught_by(teacher.id, weight=0.5), split)


def test_a_teacher_that_learnt_from_what_is_held_out_is_refused_though_it_answered_all_else(
    sample_data: Data, tmp_path: Path
) -> None:
    """Its training images are the pupil's dev images, and those that it held out are the pupil's to train on."""
    teacher = complete(begin(tmp_path, sample_data, quick_recipe(epochs=1), Split(0.0, 2, 0)), sample_data)
    with pytest.raises(DigitsError, match="was trained on 300 of the 300 images to hold out"):
        lesson(taught_by(teacher.id, weight=0.5), sample_data, Split(0.0, 2, 1), tmp_path)


def test_what_a_teacher_was_taught_counts_as_seen(sample_data: Data, tmp_path: Path) -> None:
    """It trained on one fold itself, and its own teacher on all images."""
    first = of_folds(tmp_path, sample_data, Split())
    second = complete(begin(tmp_path, sample_data, quick_recipe(epochs=1), Split(0.0, 2, 1)), sample_data)
    assert len(_seen(second, sample_data)) == 300
    second.update(recipe=taught_by(first.id, weight=0.5).resolved())
    assert len(_seen(second, sample_data)) == 600


def test_a_teacher_that_is_missing_unfinished_or_of_other_data_is_refused(
    teacher: Run, sample_data: Data, tmp_path: Path
) -> None:
    with pytest.raises(DigitsError, match=r"quick, \[teacher\] run: there is no run nobody in "):
        begin(teacher.folder.parent, sample_data, taught_by("nobody", weight=0.5), HELD_OUT)
    unfinished = begin(tmp_path, sample_data)
    with pytest.raises(DigitsError, match=r"\[teacher\] run: the run .* is not finished"):
        lesson(taught_by(unfinished.id, weight=0.5), sample_data, HELD_OUT, tmp_path)
    other = runs.read(shutil.copytree(teacher.folder, tmp_path / teacher.id))
    other.update(data={**other.record["data"], "sha256": {"train.csv": "0"}})
    with pytest.raises(DigitsError, match=r"learnt from another train\.csv"):
        lesson(taught_by(other.id, weight=0.5), sample_data, HELD_OUT, tmp_path)
    assert len(runs.every(tmp_path)) == 2


def test_a_bound_that_leaves_no_image_is_refused(teacher: Run, sample_data: Data) -> None:
    with pytest.raises(DigitsError, match="drop_below: 1 leaves no image to train on"):
        learnt(teacher, sample_data, drop_below=1.0)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"weight": 0.5}, "run and weight or drop_below, above 0, go together"),
        ({"run": "x"}, "run and weight or drop_below, above 0, go together"),
        ({"run": "x", "weight": 1.5}, "weight must be from 0 to 1, not 1.5"),
        ({"run": "x", "drop_below": -0.1}, "drop_below must be from 0 to 1, not -0.1"),
    ],
)
def test_a_teacher_that_says_too_little_or_too_much_is_refused(table: dict[str, Any], message: str) -> None:
    with pytest.raises(DigitsError, match=message):
        from_table({**quick_recipe().resolved(), "teacher": table}, "pupil")
