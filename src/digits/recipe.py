"""A recipe: a named experiment as a small TOML file of differences from the defaults, read strictly."""

import difflib
import math
import os
import re
import sys
import tomllib
import types
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from digits.augment import Augmentation
from digits.errors import DigitsError
from digits.mining import Mining
from digits.nn import (
    AVERAGES,
    LAYERS,
    OPTIMIZERS,
    AdamW,
    Array,
    Average,
    Network,
    NoAverage,
    Optimizer,
    Schedule,
    SoftmaxCrossEntropy,
    layer_of,
)
from digits.predict import Averaged, Views

IMAGE = (28, 28, 1)
CLASSES = 10
DEFAULTS = {"optimizer": AdamW.name, "average": NoAverage.name}  # of the tables whose keys depend on their name

T = TypeVar("T")


@dataclass(frozen=True)
class Train:
    """How long to train and in what portions.

    An epoch goes once over the training images, or what [mining] takes of them, in a new random order, `batch_size` at
    a time; "all" takes them all in one step, always in the same order. A batch is cut into `shards` for the workers: a
    part of the recipe, because another number adds in another order and so gives other last digits. The gradient of a
    batch is cut to the length `clip`, unless that is 0. A line is logged, with the dev score, every `report_every`
    epochs.
    """

    epochs: int = 10
    batch_size: int | Literal["all"] = 128
    shards: int = 4
    report_every: int = 1
    clip: float = 0.0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "shards", "report_every"):
            value = getattr(self, name)
            if value != "all" and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if not 0 <= self.clip < math.inf:
            raise ValueError(f"clip must be at least 0, not {self.clip}")


@dataclass(frozen=True)
class Ensemble:
    """Several trainings of the recipe, with a seed each, whose predictions are averaged; one is no ensemble.

    Member i of the run with seed s has the seed s · members + i. Where there are `others`, members are trained by the
    recipe and these in turn. With `folds` each time round holds out the next fold, and an image is judged by those that
    did not see it (out of fold); with none all hold out the same images. `average` is of "probabilities", of "logits"
    (the geometric mean of the probabilities), or of "votes", one a member.
    """

    members: int = 1
    folds: int = 0
    average: Averaged = "probabilities"
    others: "tuple[Recipe, ...]" = ()

    def __post_init__(self) -> None:
        if self.members < 1:
            raise ValueError(f"members must be at least 1, not {self.members}")
        if self.members < len(self.of_each):
            raise ValueError(f"members must be at least {len(self.of_each)}, one of each recipe, not {self.members}")
        if self.folds and not 2 <= self.folds <= min(self.of_each):
            of = "members of each recipe" if self.others else "members"
            raise ValueError(
                f"folds must be 0 for none, or from 2 to the number of {of}, {min(self.of_each)}, not {self.folds}"
            )
        for other in self.others:
            if other.ensemble.members > 1:
                raise ValueError(f"others must be of single networks, and {other.name} is an ensemble")

    @property
    def of_each(self) -> list[int]:
        """How many members are trained by the recipe, and how many by each of the others."""
        recipes = 1 + len(self.others)
        return [len(range(first, self.members, recipes)) for first in range(recipes)]

    def seed(self, run: int, member: int) -> int:
        """The seed of a member, counted from 0, of the run with this seed."""
        return run * self.members + member

    def turn(self, member: int) -> int:
        """The time round, from 0, in which a member is trained."""
        return member // (1 + len(self.others))


@dataclass(frozen=True)
class Teacher:
    """A finished run that is learnt from besides the labels, by its probabilities of the images that it held out.

    The target of an image is the `weight` of these and the rest of its label (distillation, Hinton et al. 2015, arXiv
    1503.02531, at temperature 1). An image whose label gets less than `drop_below` from them is left out, as probably
    mislabelled (Northcutt et al. 2021, arXiv 1911.00068).
    """

    run: str = ""
    weight: float = 0.0
    drop_below: float = 0.0

    def __post_init__(self) -> None:
        for name in ("weight", "drop_below"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, not {getattr(self, name)}")
        if bool(self.run) != bool(self.weight or self.drop_below):
            raise ValueError("run and weight or drop_below, above 0, go together")

    def lesson(self, labels: NDArray[np.intp], answers: Array) -> tuple[NDArray[np.bool_], NDArray[np.intp] | Array]:
        """Which of the images with these labels (N,) are to be learnt from, (N,), and the labels or targets of those.

        `answers` (N, 10) are the teacher's probabilities.
        """
        each = np.arange(len(labels))
        kept = answers[each, labels] >= self.drop_below
        if not self.weight:
            return kept, labels[kept]
        targets = self.weight * answers
        targets[each, labels] += 1 - self.weight
        return kept, targets[kept].astype(np.float32)


@dataclass(frozen=True)
class Recipe:
    """Everything that a training depends on but the seed, the data and the split."""

    name: str
    network: tuple[dict[str, Any], ...]
    description: str = ""
    train: Train = field(default_factory=Train)
    mining: Mining = field(default_factory=Mining)
    optimizer: Optimizer = field(default_factory=AdamW)
    schedule: Schedule = field(default_factory=Schedule)
    average: Average = field(default_factory=NoAverage)
    loss: SoftmaxCrossEntropy = field(default_factory=SoftmaxCrossEntropy)
    teacher: Teacher = field(default_factory=Teacher)
    augment: Augmentation = field(default_factory=Augmentation)
    predict: Views = field(default_factory=Views)
    ensemble: Ensemble = field(default_factory=Ensemble)

    def kinds(self) -> "list[Recipe]":
        """What the ensemble's members are trained by, in turn: this recipe and its others, as single networks."""
        return [replace(kind, ensemble=Ensemble()) for kind in (self, *self.ensemble.others)]

    def member(self, number: int) -> "Recipe":
        """What member `number` of the ensemble, from 0, is trained by."""
        kinds = self.kinds()
        return kinds[number % len(kinds)]

    @property
    def parameters(self) -> int:
        """The number of parameters, of all members together."""
        return sum(count * network.count for network, count in self._networks())

    @property
    def multiply_adds(self) -> int:
        """The multiply-adds of a forward pass of one image, through all members."""
        return sum(count * network.multiply_adds for network, count in self._networks())

    def _networks(self) -> list[tuple[Network, int]]:
        """The network of each kind, and how many members have it."""
        return [(kind.build(), count) for kind, count in zip(self.kinds(), self.ensemble.of_each, strict=True)]

    def build(self, dtype: Any = np.float32) -> Network:
        """The recipe's network, its parameters not drawn yet. Raises DigitsError if the layers don't fit together."""
        try:
            network = Network([layer_of(line) for line in self.network], IMAGE, dtype)
        except (ValueError, MemoryError) as error:
            raise DigitsError(f"recipe {self.name}: {error}") from error
        if network.output_shape != (CLASSES,):
            raise DigitsError(
                f"recipe {self.name}: the network ends in the shape {network.output_shape}, not in {CLASSES} "
                "logits, one for each digit: let its last layer be a dense one with units = 10"
            )
        return network

    def resolved(self) -> dict[str, Any]:
        """The whole recipe, defaults and all, as plain values; `from_table` reads it back."""
        return {
            "name": self.name,
            "description": self.description,
            "network": [dict(line) for line in self.network],
            "train": asdict(self.train),
            "mining": asdict(self.mining),
            "optimizer": {"name": self.optimizer.name, **asdict(self.optimizer)},
            "schedule": asdict(self.schedule),
            "average": {"name": self.average.name, **asdict(self.average)},
            "loss": asdict(self.loss),
            "teacher": asdict(self.teacher),
            "augment": asdict(self.augment),
            "predict": asdict(self.predict),
            "ensemble": {
                **{f.name: getattr(self.ensemble, f.name) for f in fields(Ensemble)},
                "others": [other.resolved() for other in self.ensemble.others],
            },
        }


def names() -> list[str]:
    """The recipes that come with the package."""
    folder = resources.files("digits") / "recipes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load(which: str) -> Recipe:
    """The packaged recipe of that name, or the one in a file where `which` ends in .toml.

    Raises DigitsError, naming the file, the key and the nearest valid one, for what is not a recipe.
    """
    table = _read(which)
    return from_table(table, which)


def from_table(table: dict[str, Any], where: str) -> Recipe:
    """The recipe in a table of plain values. Raises DigitsError, saying `where`, for any key or value that is wrong."""
    table = dict(table)
    _known(table, [f.name for f in fields(Recipe)], where)
    lines = table.get("network")
    if not isinstance(lines, list) or not lines:
        raise DigitsError(f'{where}: network must be a list of layers, such as [{{ layer = "dense", units = 10 }}]')
    name = str(table.get("name", ""))
    recipe = Recipe(
        name=re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "recipe",
        description=_value(table.get("description", ""), str, f"{where}, description"),
        network=tuple(_layers(lines, where)),
        train=_dataclass(Train, _table(table, "train", where), f"{where}, [train]"),
        mining=_dataclass(Mining, _table(table, "mining", where), f"{where}, [mining]"),
        optimizer=_named(OPTIMIZERS, table, "optimizer", where),
        schedule=_dataclass(Schedule, _table(table, "schedule", where), f"{where}, [schedule]"),
        average=_named(AVERAGES, table, "average", where),
        loss=_dataclass(SoftmaxCrossEntropy, _table(table, "loss", where), f"{where}, [loss]"),
        teacher=_dataclass(Teacher, _table(table, "teacher", where), f"{where}, [teacher]"),
        augment=_dataclass(Augmentation, _table(table, "augment", where), f"{where}, [augment]"),
        predict=_dataclass(Views, _table(table, "predict", where), f"{where}, [predict]"),
        ensemble=_ensemble(_table(table, "ensemble", where), f"{where}, [ensemble]"),
    )
    if recipe.train.batch_size == "all" and recipe.mining.share < 1:
        raise DigitsError(
            f'{where}, [mining]: a batch_size of "all" takes all images in each step: set share = 1 and hardest = 0'
        )
    if recipe.mining.draws > 1 and recipe.augment.none:
        raise DigitsError(f"{where}, [mining]: draws are as [augment] says, and it says nothing: set draws = 1")
    recipe.build()
    return recipe


def _read(which: str, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    """The table of a recipe, with that of the one it extends underneath."""
    if "\0" in which:
        raise DigitsError(f"{which!r} is no name of a file")
    is_file = which.endswith(".toml")
    place = os.path.realpath(which) if is_file else which  # another way to write a path makes no other file of it
    if place in seen:
        raise DigitsError(f"{which} refers to itself: {' -> '.join((*seen, place))}")
    if is_file:
        path = Path(which)
        text = _text(path)
    elif which in names():
        path = Path(f"{which}.toml")
        text = (resources.files("digits") / "recipes" / path.name).read_text(encoding="utf-8")
    else:
        raise DigitsError(
            f"there is no recipe {which!r}{_nearest(which, names())}; the recipes are {', '.join(names())}, "
            "and a file of your own ends in .toml"
        )
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DigitsError(f"{which} is not valid TOML: {error}") from error
    if "name" in table:
        raise DigitsError(f"{which}: a recipe is named by its file, so leave out the key 'name'")
    others = table["ensemble"].get("others") if isinstance(table.get("ensemble"), dict) else None
    if isinstance(others, list):
        table["ensemble"]["others"] = [
            _read(_beside(path, _value(other, str, f"{which}, [ensemble] others")), (*seen, place)) for other in others
        ]
    base = table.pop("extends", None)
    if base is not None:
        base = _value(base, str, f"{which}, extends")
        table = _over(_read(_beside(path, base), (*seen, place)), table)
    return {**table, "name": path.stem}


def _beside(path: Path, which: str) -> str:
    """A recipe that one in the file `path` names: a packaged one, or a file by its way from there."""
    return str(path.parent / which) if which.endswith(".toml") else which


def _over(base: dict[str, Any], table: dict[str, Any]) -> dict[str, Any]:
    """A table laid over another, key by key in [sections]; one of another name takes nothing from the base's."""
    merged = dict(base)
    for key, value in table.items():
        below = base.get(key)
        merged[key] = value
        if isinstance(value, dict) and isinstance(below, dict):
            usual = below.get("name", DEFAULTS.get(key))
            merged[key] = {**below, **value} if value.get("name", usual) == usual else value
    return merged


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DigitsError(f"there is no recipe file {path}; the packaged recipes are {', '.join(names())}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DigitsError(f"the recipe {path} can't be read: {error}") from error


def _ensemble(table: dict[str, Any], where: str) -> Ensemble:
    """The ensemble in a table, whose others are tables of recipes."""
    others = table.pop("others", [])
    if not (isinstance(others, list) and all(isinstance(other, dict) for other in others)):
        raise DigitsError(f'{where} others must be a list of recipes, such as ["cnn", "own.toml"], not {others!r}')
    ensemble = _dataclass(Ensemble, table, where)
    try:
        return replace(ensemble, others=tuple(from_table(other, f"{where} {other.get('name')}") for other in others))
    except ValueError as error:
        raise DigitsError(f"{where}: {error}") from error


def _layers(lines: list[Any], where: str) -> list[dict[str, Any]]:
    return [_layer(line, f"{where}, layer {number}") for number, line in enumerate(lines)]


def _layer(line: Any, where: str) -> dict[str, Any]:
    """A line of the network with its defaults filled in."""
    if not isinstance(line, dict) or "layer" not in line:
        raise DigitsError(f'{where}: it must be a table with a layer, such as {{ layer = "relu" }}, not {line!r}')
    table = dict(line)
    cls = _choice(table.pop("layer"), LAYERS, f"{where}, layer")
    where = f"{where} ({cls.name})"
    if isinstance(table.get("layers"), list):
        table["layers"] = _layers(table["layers"], where)
    return _dataclass(cls, table, where).spec()


def _table(table: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    value = table.get(key, {})
    if not isinstance(value, dict):
        raise DigitsError(f"{where}: {key} must be a table, [{key}], not {value!r}")
    return dict(value)


def _named(choices: dict[str, type[T]], table: dict[str, Any], key: str, where: str) -> T:
    """The config in the table [key], of the class that its name chooses."""
    values = _table(table, key, where)
    kind = _choice(values.pop("name", DEFAULTS[key]), choices, f"{where}, [{key}] name")
    return _dataclass(kind, values, f"{where}, [{key}]")


def _dataclass(cls: type[T], table: dict[str, Any], where: str) -> T:
    """A config of that class from a table, every key known and every value of its type."""
    assert is_dataclass(cls)
    _known(table, [f.name for f in fields(cls)], where)
    hints = get_type_hints(cls)
    values = {key: _value(value, hints[key], f"{where} {key}") for key, value in table.items()}
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        raise DigitsError(f"{where}: {_sentence(error)}") from error


def _sentence(error: Exception) -> str:
    """The error's text; for a required key that is left out, ours rather than Python's."""
    missing = re.search(r"missing \d+ required positional arguments?: (.*)", str(error))
    return f"the key {missing[1]} is missing" if missing else str(error)


def _known(table: dict[str, Any], keys: list[str], where: str) -> None:
    for key in table:
        if key not in keys:
            valid = f"; the keys are {', '.join(keys)}" if keys else "; it takes none"
            raise DigitsError(f"{where}: unknown key {key!r}{_nearest(key, keys)}{valid}")


def _choice(value: Any, choices: dict[str, T], where: str) -> T:
    if not isinstance(value, str) or value not in choices:
        raise DigitsError(f"{where}: {value!r} is not one of {', '.join(choices)}{_nearest(str(value), list(choices))}")
    return choices[value]


def _value(value: Any, hint: Any, where: str) -> Any:
    """The value, if it is of the type that is wanted; an integer will do for a float."""
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    for option in options:
        if get_origin(option) is Literal and isinstance(value, str) and value in get_args(option):
            return value
        if option is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            return _finite(value, where)
        kind = get_origin(option) or option  # list[...] is a list, whose values the caller has looked at
        if isinstance(kind, type) and isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
            return value
    raise DigitsError(f"{where} must be {' or '.join(_wanted(option) for option in options)}, not {value!r}")


def _finite(value: float, where: str) -> float:
    if not abs(value) <= sys.float_info.max:  # also where it is nan, or an integer too large for a float
        raise DigitsError(f"{where} must be a finite number, not {value!r}"[:200])
    return float(value)


def _wanted(option: Any) -> str:
    if get_origin(option) is Literal:
        return " or ".join(repr(choice) for choice in get_args(option))
    words = {int: "an integer", float: "a number", str: "a text", bool: "true or false", list: "a list of layers"}
    return words[get_origin(option) or option]


def _nearest(word: str, words: list[str]) -> str:
    close = difflib.get_close_matches(word, words, 1)
    return f", did you mean {close[0]!r}?" if close else ""
