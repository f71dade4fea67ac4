"""Two runs, or two recipes over several seeds, on the same images: which is better, and is it more than noise?"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digits import plots
from digits.competition import TRAIN
from digits.errors import DigitsError
from digits.heldout import HeldOut, Rows, check_same_images, check_same_tables, held_out
from digits.recipe import Recipe
from digits.runs import Run, dev_score
from digits.stats import (
    LEVEL,
    Difference,
    Score,
    SeedTest,
    mcnemar,
    normal_difference,
    paired_difference,
    paired_t,
    pairs_needed,
)

DEFAULTS = Recipe("", ()).resolved()
FEW = 1e-4  # a smaller p-value is not told apart


@dataclass(frozen=True)
class Comparison:
    """Run B against run A on the same held-out images.

    `difference` is B's accuracy less A's, `p` that of McNemar's exact test; `only_a` and `only_b` are the places, in
    the arrays of `a` and `b`, of the images that A alone and B alone has right, the surest mistakes first. `more_seeds`
    is how many further seeds of each would tell, none where the difference is more than chance already, None where no
    number that anybody would train does.
    """

    a: HeldOut
    b: HeldOut
    difference: Difference
    p: float
    only_a: Rows
    only_b: Rows
    more_seeds: int | None

    @property
    def verdict(self) -> str:
        """What to make of it, in plain words."""
        a, b = self.a.run.id, self.b.run.id
        words = _better(self.difference, a, b)
        if self.p < LEVEL:
            return f"{words}: more than chance ({p_text(self.p)}) for these two; other seeds may come out otherwise"
        return f"{words}: {_noise(self.difference, self.p, self.more_seeds)}"

    def plain(self) -> dict[str, Any]:
        """The comparison as plain values, the images by their rows in train.csv."""
        return {
            "a": _run_plain(self.a),
            "b": _run_plain(self.b),
            "images": len(self.a.rows),
            "difference": difference_plain(self.difference),
            "mcnemar_p": self.p,
            "only_a_right": [int(row) for row in self.a.rows[self.only_a]],
            "only_b_right": [int(row) for row in self.b.rows[self.only_b]],
            "more_seeds": self.more_seeds,
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class SeedComparison:
    """Recipe B against recipe A over seeds that both were trained with, all judged on the same images.

    `pairs` has a comparison for each of the `seeds`. `over_seeds` says how far the difference is more than the chance
    of the training, on these images; `over_images` how far it would hold on others. `only_a` and `only_b` are the
    places of the images that more of A's, or of B's, runs have right, by at least half of them, the clearest first.
    """

    name_a: str
    name_b: str
    seeds: tuple[int, ...]
    pairs: tuple[Comparison, ...]
    over_seeds: SeedTest
    over_images: Difference
    only_a: Rows
    only_b: Rows
    more_seeds: int | None

    @property
    def verdict(self) -> str:
        """What to make of it, in plain words."""
        test = self.over_seeds
        words = f"{_better(test.difference, self.name_a, self.name_b)} over {test.pairs} seeds"
        if test.p >= LEVEL:
            return f"{words}: {_noise(test.difference, test.p, self.more_seeds)}"
        words += f": more than the chance of the training ({p_text(test.p)})"
        if not self.over_images.telling:
            words += f", though other images than these {len(self.pairs[0].a.rows):,} may say otherwise"
        return words

    def plain(self) -> dict[str, Any]:
        """The comparison as plain values, the images by their rows in train.csv."""
        rows = self.pairs[0].a.rows
        return {
            "a": self.name_a,
            "b": self.name_b,
            "images": len(rows),
            "seeds": list(self.seeds),
            "pairs": [{key: pair.plain()[key] for key in ("a", "b", "difference", "mcnemar_p")} for pair in self.pairs],
            "difference": difference_plain(self.over_seeds.difference),
            "standard_deviation": self.over_seeds.standard_deviation,
            "t_test_p": self.over_seeds.p,
            "difference_over_images": difference_plain(self.over_images),
            "only_a_right": [int(row) for row in rows[self.only_a]],
            "only_b_right": [int(row) for row in rows[self.only_b]],
            "more_seeds": self.more_seeds,
            "verdict": self.verdict,
        }


def compare(a: Run, b: Run) -> Comparison:
    """Compare two runs. Raises DigitsError, saying why, where they weren't judged on the same images."""
    return compare_held_out(held_out(a), held_out(b))


def compare_held_out(a: HeldOut, b: HeldOut) -> Comparison:
    """Compare the answers of two runs. Raises DigitsError, saying why, where they aren't on the same images.

    One training of each says nothing of how much the chance of the training matters: for `more_seeds` all that the two
    disagree on is taken for that, image by image, so that the difference of a pair of seeds scatters by its own error.
    """
    check_same_images([a, b])
    only_a, only_b = _surest(a.right & ~b.right, b), _surest(b.right & ~a.right, a)
    difference = paired_difference(len(only_a), len(only_b), len(a.rows))
    p = mcnemar(len(only_a), len(only_b))
    needed = pairs_needed(difference.value / difference.standard_error)
    more = 0 if p < LEVEL else None if needed is None else max(needed - 1, 1)
    return Comparison(a, b, difference, p, only_a, only_b, more)


def compare_seeds(a: Sequence[Run], b: Sequence[Run], name_a: str = "A", name_b: str = "B") -> SeedComparison:
    """Compare runs of A with runs of B, paired by their seeds; seeds that only one of them has are left out.

    Raises DigitsError, saying why, where they weren't judged on the same images or have fewer than two common seeds.
    """
    by_seed_a, by_seed_b = _by_seed(a, name_a), _by_seed(b, name_b)
    seeds = sorted(by_seed_a.keys() & by_seed_b.keys())
    if len(seeds) < 2:
        both = f"the seed {seeds[0]}" if seeds else "no seed"
        raise DigitsError(
            f"{name_a} (seeds {_listed(by_seed_a)}) and {name_b} (seeds {_listed(by_seed_b)}) have {both} in common, "
            "and a test over seeds needs two or more: train the missing ones"
        )
    pairs = [compare(by_seed_a[seed], by_seed_b[seed]) for seed in seeds]
    check_same_images([pair.a for pair in pairs])
    images = len(pairs[0].a.rows)
    test = paired_t([pair.difference.value for pair in pairs], least_deviation=1 / images)
    by_image = np.mean([pair.b.right.astype(float) - pair.a.right for pair in pairs], axis=0)
    over_images = normal_difference(float(by_image.mean()), float(by_image.std(ddof=1)) / images**0.5)
    needed = pairs_needed(test.difference.value / test.standard_deviation)
    more = 0 if test.p < LEVEL else None if needed is None else max(needed - len(seeds), 1)
    by_most = np.argsort(-np.abs(by_image), kind="stable")
    only_a, only_b = (by_most[sign * by_image[by_most] >= 0.5] for sign in (-1, 1))
    return SeedComparison(name_a, name_b, tuple(seeds), tuple(pairs), test, over_images, only_a, only_b, more)


def recipe_runs(ledger: Sequence[Run], name: str, like: Run | None = None) -> list[Run]:
    """The newest finished run of each seed of a recipe, ascending by seed: those that the newest one of all is like.

    That is in its recipe, split and data; with `like`, in the split and data of that run instead. Runs on sample data
    are taken where there are no others. `ledger` has the newest runs first. Raises DigitsError where there are none.
    """
    named = [
        run
        for run in ledger
        if run.record["recipe"]["name"] == name
        and run.record["status"] == "finished"
        and "cut_short" not in run.record  # else it is not of the whole recipe
    ]
    named = [run for run in named if not run.sample] or named
    judged = [run for run in named if dev_score(run)]
    known = sorted({run.record["recipe"]["name"] for run in ledger})
    if not judged:
        what = "no run" if not named else "only runs with no dev score"
        raise DigitsError(f"there is {what} of the recipe {name}; there are runs of {', '.join(known) or 'none'}")
    fits = [run for run in judged if like is None or judged_alike(run, like)]
    if not fits:
        check_same_tables([like or judged[0], judged[0]], TRAIN.file)
        compare(like or judged[0], judged[0])  # these say why they can't be compared
        raise DigitsError(f"no run of {name} has the split and data of {(like or judged[0]).id}: train one")
    newest = fits[0]
    by_seed: dict[int, Run] = {}
    for run in fits:
        if judged_alike(run, newest) and same_recipe(run, newest):
            by_seed.setdefault(run.record["seed"], run)
    return [by_seed[seed] for seed in sorted(by_seed)]


def draw(found: Comparison | SeedComparison, images: NDArray[np.uint8], path: Path) -> None:
    """Draw the images that A alone or B alone has right, of all labelled images (N, 28, 28), as a PNG file.

    Raises DigitsError if it can't be written.
    """
    pairs = [found] if isinstance(found, Comparison) else found.pairs
    names = (pairs[0].a.run.id, pairs[0].b.run.id) if isinstance(found, Comparison) else (found.name_a, found.name_b)
    p_a, p_b = (np.mean([side.probabilities for side in sides], axis=0) for sides in _sides(pairs))
    for p in (p_a, p_b):  # what the mistake is taken for, though the mean of the seeds may be right
        p[np.arange(len(p)), pairs[0].a.labels] = 0
    most = "" if len(pairs) == 1 else " in half of the seeds or more"
    rows, labels = pairs[0].a.rows, pairs[0].a.labels
    sides = [
        plots.Disagreement(f"{names[0]} right, {names[1]} wrong{most}", found.only_a, p_b),
        plots.Disagreement(f"{names[1]} right, {names[0]} wrong{most}", found.only_b, p_a),
    ]
    plots.disagreements(path, images[rows], rows, labels, sides, found.verdict)


def _sides(pairs: Sequence[Comparison]) -> tuple[list[HeldOut], list[HeldOut]]:
    return [pair.a for pair in pairs], [pair.b for pair in pairs]


def judged_alike(run: Run, other: Run) -> bool:
    """The runs are of the same split and data, and so were judged on the same images."""
    data = [one.record["data"]["sha256"] for one in (run, other)]  # a teacher may leave out some to train on
    return bool(run.record["split"] == other.record["split"] and data[0] == data[1])


def same_recipe(run: Run, other: Run) -> bool:
    """The recipes agree in all tables that both have, where a key that one lacks has its default.

    An older record lacks the tables and keys that the code of its day knew nothing of.
    """
    mine, theirs = run.record["recipe"], other.record["recipe"]
    return all(
        _whole(key, mine[key]) == _whole(key, theirs[key]) for key in mine.keys() & theirs.keys() - {"description"}
    )


def _whole(key: str, table: Any) -> Any:
    """A table of a recipe with its defaults, where it is one."""
    return {**DEFAULTS.get(key, {}), **table} if isinstance(table, dict) else table


def difference_plain(difference: Difference) -> dict[str, float]:
    """A difference as plain values."""
    return {
        "value": difference.value,
        "standard_error": difference.standard_error,
        "low": difference.low,
        "high": difference.high,
    }


def p_text(p: float) -> str:
    """A p-value to the digits that matter."""
    return f"p < {FEW:.4f}" if p < FEW else f"p = {p:.2g}" if p < 0.995 else "p = 1"


def _better(difference: Difference, a: str, b: str) -> str:
    value, error = 100 * difference.value, 100 * difference.standard_error
    if not value:
        return f"{a} and {b} have equally many right, ± {error:.2f} points"
    better, other = (b, a) if value > 0 else (a, b)
    return f"{better} is better than {other} by {abs(value):.2f} ± {error:.2f} points"


def _noise(difference: Difference, p: float, more_seeds: int | None) -> str:
    if not difference.value:
        return "no difference to be seen"
    words = f"{'may still' if p < 4 * LEVEL else 'could well'} be noise ({p_text(p)})"
    if more_seeds is None:
        return f"{words}, and no number of seeds that anybody would train would tell"
    return f"{words}; about {more_seeds} more seed{'s' if more_seeds > 1 else ''} of each would tell"


def _surest(where: NDArray[np.bool_], mistaken: HeldOut) -> Rows:
    """The places that are true, those first where the one that is mistaken is surest."""
    places = np.flatnonzero(where)
    return places[np.argsort(-mistaken.probabilities[places].max(axis=1), kind="stable")]


def _run_plain(judged: HeldOut) -> dict[str, Any]:
    score = Score(int(judged.right.sum()), len(judged.rows))
    return {
        "run": judged.run.id,
        "recipe": judged.run.record["recipe"]["name"],
        "seed": judged.run.record["seed"],
        "accuracy": score.accuracy,
        "standard_error": score.standard_error,
        "correct": score.correct,
    }


def _by_seed(runs: Sequence[Run], name: str) -> dict[int, Run]:
    by_seed: dict[int, Run] = {}
    for run in runs:
        seed = run.record["seed"]
        if seed in by_seed:
            raise DigitsError(
                f"{name} has two runs with the seed {seed}, {by_seed[seed].id} and {run.id}: leave one out"
            )
        by_seed[seed] = run
    return by_seed


def _listed(seeds: dict[int, Run]) -> str:
    return ", ".join(map(str, sorted(seeds)))
