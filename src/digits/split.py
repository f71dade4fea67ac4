"""The held-out dev split and the folds: which labelled images a run is judged on.

A split is drawn by a seed of its own, so that runs with other training seeds are judged on the same images. It uses
the raw stream of PCG64, which NumPy promises never to change, so that a split is the same in every version.
"""

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from digits.errors import DigitsError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DEV = 0.1  # of the labelled images, held out where nothing else is said


@dataclass(frozen=True)
class Split:
    """Which of the labelled images are held out: a fraction of them, one fold of several, or none (fraction 0).

    Of folds with no `fold` each is held out in its turn, by the members of an ensemble: all images are trained on and
    all are judged. Where there are folds and a fraction too, the folds are of what the fraction leaves: the dev split
    that the fraction alone holds out is kept from all, and judges nobody.
    """

    fraction: float = DEV
    folds: int | None = None
    fold: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.fold is not None and self.folds is None:
            raise DigitsError("a fold is one of several folds: give both, as in `--folds 5 --fold 0`")
        if self.folds is not None:
            if self.folds < 2:
                raise DigitsError(f"there must be 2 folds or more, not {self.folds}")
            if self.fold is not None and not 0 <= self.fold < self.folds:
                raise DigitsError(f"with {self.folds} folds, fold is from 0 to {self.folds - 1}, not {self.fold}")
        if not 0 <= self.fraction <= 0.5:
            raise DigitsError(f"the dev split is a fraction from 0 to 0.5 of the images, not {self.fraction}")
        if self.seed < 0:
            raise DigitsError(f"a seed is 0 or more, not {self.seed}")

    @property
    def full(self) -> bool:
        """Nothing is held out."""
        return self.folds is None and self.fraction == 0

    @property
    def in_turn(self) -> bool:
        """Each fold is held out in its turn."""
        return self.folds is not None and self.fold is None

    def turn(self, number: int) -> "Split":
        """What is held out the time `number`, from 0, that the members of an ensemble go round."""
        return replace(self, fold=number % self.folds) if self.folds and self.in_turn else self

    def indices(self, labels: "NDArray[np.integer[Any]]") -> "tuple[NDArray[np.intp], NDArray[np.intp]]":
        """The rows to train on and the rows held out, each ascending, of labels (N,).

        The images are lined up by label, at random within a label, and dealt out evenly along that line: every part
        has its share of each label to within one image, and of all images likewise. Raises DigitsError where there
        are too few images to hold out one and keep one.
        """
        import numpy as np  # not before: a list of runs, each with its split, needs none

        count = len(labels)
        shuffled = np.argsort(np.random.PCG64(self.seed).random_raw(count), kind="stable")
        line = shuffled[np.argsort(labels[shuffled], kind="stable")]
        place = np.arange(count)
        chosen = np.floor((place + 1) * self.fraction + 1e-9) > np.floor(place * self.fraction + 1e-9)
        train, dev = line[~chosen], line[chosen]
        if self.folds is not None:
            fold = np.arange(len(train)) % self.folds
            train, dev = (train, train) if self.in_turn else (train[fold != self.fold], train[fold == self.fold])
        if not len(train) or (not len(dev) and not self.full):
            raise DigitsError(f"{count} images are too few for {self}: hold out less, or use more images")
        return np.sort(train), np.sort(dev)

    def __str__(self) -> str:
        if self.full:
            return "no dev split"
        seed, percent = f"(split seed {self.seed})", f"{100 * self.fraction:g}%"
        if self.folds is None:
            return f"a dev split of {percent} {seed}"
        rest = f" of what a dev split of {percent} leaves" if self.fraction else ""
        if self.in_turn:
            return f"each of {self.folds} folds{rest} in its turn {seed}"
        return f"fold {self.fold} of {self.folds}{rest} {seed}"

    def spec(self) -> dict[str, Any]:
        """The split as run.json has it; `Split(**spec)` gives it back."""
        return asdict(self)
