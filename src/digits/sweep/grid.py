"""What a sweep tries: values for a recipe's keys, in all combinations or drawn at random, and variants from a file."""

import copy
import itertools
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from digits.errors import DigitsError
from digits.recipe import Recipe, from_table

NUMBER = r"[-+]?[\d_]*\.?[\d_]+(?:[eE][-+]?\d+)?"
RANGE = re.compile(rf"({NUMBER}):({NUMBER})(:log)?")
WORD = re.compile(r"[A-Za-z][A-Za-z0-9-]*")  # a text that needs no quotes, such as the name of an optimizer
DIGITS = 3  # of a number that is drawn: enough, and short enough to be typed again
PATIENCE = 1000  # draws in a row of what was drawn before
LONGEST_NAME = 80
VARIANT, UNCHANGED = "variant", "as it is"  # the key that a variant's name is shown under, and the recipe's own

Settings = dict[str, Any]  # values by their keys, such as "optimizer.lr" or "network.3.rate"


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`, both included, drawn evenly; `log` draws their logarithms evenly.

    Where both are integers, integers are drawn.
    """

    low: float
    high: float
    log: bool = False

    def draw(self, rng: np.random.Generator) -> float:
        """One of them, to three digits."""
        low, high, at = self.low, self.high, rng.random()
        whole = isinstance(low, int) and isinstance(high, int)
        if self.log:
            value = low * (high / low) ** at
            value = round(value) if whole else value
        else:
            value = low + int((high - low + 1) * at) if whole else low + (high - low) * at
        return min(max(value if whole else float(f"{value:.{DIGITS}g}"), low), high)


Choices = dict[str, Sequence[Any] | Range]


@dataclass(frozen=True)
class Configuration:
    """What is set, a variant by its name, and the recipe that this makes, which is named after it.

    `equal` are other settings that come to the same recipe.
    """

    settings: Settings
    recipe: Recipe
    equal: tuple[Settings, ...] = ()


def choices(lines: Iterable[str]) -> Choices:
    """What lines such as `optimizer.lr=1e-3,3e-3` or `augment.rotate=5:15` choose from.

    Raises DigitsError for one that can't be read, or a key that comes twice.
    """
    found: Choices = {}
    for line in lines:
        key, equals, text = line.partition("=")
        key = key.strip()
        if not equals or not key or not text.strip():
            raise DigitsError(f"--set {line}: it must be a key and its values, as in `--set optimizer.lr=1e-3,3e-3`")
        if key in found:
            raise DigitsError(f"--set {key} is given twice: give its values together, as in `--set {key}=1,2`")
        found[key] = _values(text.strip(), line)
    return found


def combinations(chosen: Choices) -> list[Settings]:
    """Every combination of the values, the first key's changing last. Raises DigitsError where there is a range."""
    for key, values in chosen.items():
        if isinstance(values, Range):
            raise DigitsError(f"--set {key} is a range, of which values are drawn: add `--random 20`, or list some")
    return [dict(zip(chosen, values, strict=True)) for values in itertools.product(*chosen.values())]  # type: ignore[arg-type]


def drawn(chosen: Choices, count: int, seed: int) -> list[Settings]:
    """So many different settings at random; of more with the same seed these are the first.

    Raises DigitsError where there is nothing to draw from, or there are not so many.
    """
    if not chosen:
        raise DigitsError("--random draws from what --set names: add some, as in `--set optimizer.lr=1e-4:1e-2:log`")
    rng = np.random.default_rng(seed)
    found: list[Settings] = []
    misses = 0
    while len(found) < count:
        settings = {
            key: values.draw(rng) if isinstance(values, Range) else values[int(rng.integers(len(values)))]
            for key, values in chosen.items()
        }
        misses = misses + 1 if settings in found else 0
        if not misses:
            found.append(settings)
        elif misses == PATIENCE:
            raise DigitsError(f"--random {count}: only {len(found)} different configurations were found; ask for fewer")
    return found


def variants(path: Path) -> dict[str, Settings]:
    """The settings of each table of a TOML file, by the table's name, and first the recipe as it is.

    Raises DigitsError where the file can't be read, or holds anything but tables that set something.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise DigitsError(f"there is no file of variants {path}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DigitsError(f"the variants {path} can't be read: {error}") from error
    found: dict[str, Settings] = {UNCHANGED: {}}
    for name, table in tables.items():
        settings = dict(_flat(table)) if isinstance(table, dict) else {}
        if not settings or name == UNCHANGED:
            raise DigitsError(
                f"{path}, {name!r}: a variant is a table with a name of its own and what it sets, as "
                f'`["more dropout"]` with `network.3.rate = 0.5` below it; {UNCHANGED!r} is there by itself'
            )
        found[name] = settings
    return found


def configurations(
    base: Recipe, sets: Iterable[Settings], changed: Mapping[str, Settings] | None = None
) -> list[Configuration]:
    """The recipe with each of these settings, and each as every one of the variants changes it, if there are any.

    Those that come to the same recipe are one, the first. Raises DigitsError, naming the key and the nearest valid one,
    for what is not a recipe's, or an ensemble.
    """
    found: dict[str, Configuration] = {}
    names: set[str] = set()
    for settings in sets:
        for configuration in _varied(base, settings, changed):
            recipe = configuration.recipe
            same = identity(recipe.resolved())
            if same not in found:
                name, number = recipe.name, 1
                while recipe.name in names:
                    number += 1
                    recipe = replace(recipe, name=f"{name}-{number}")
                names.add(recipe.name)
                found[same] = replace(configuration, recipe=recipe)
            elif configuration.settings not in [found[same].settings, *found[same].equal]:
                found[same] = replace(found[same], equal=(*found[same].equal, configuration.settings))
    return list(found.values())


def _varied(base: Recipe, settings: Settings, changed: Mapping[str, Settings] | None) -> Iterable[Configuration]:
    """The recipe with these settings as every variant changes it, whose values come before these; or just so."""
    if changed is None:
        return [Configuration(settings, configured(base, settings))]
    found = []
    for variant, changes in changed.items():
        own = {key: changes.get(key, value) for key, value in settings.items()}
        layer = next((key for key in settings if key.startswith("network.")), None)
        if layer and "network" in changes:
            raise DigitsError(f"the variant {variant!r} has a network of its own, so --set {layer} has no layer to set")
        try:
            recipe = configured(base, {**own, **changes})
        except DigitsError as error:
            raise DigitsError(f"the variant {variant!r}: {error}") from error
        named = {**own, **({VARIANT: variant} if changes else {})}
        found.append(Configuration({**own, VARIANT: variant}, replace(recipe, name=_name(base.name, named))))
    return found


def configured(base: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """The recipe with these settings, named after them. Raises DigitsError for a key or a value that is wrong."""
    where = f"{base.name} with {settings_text(settings)}" if settings else base.name
    table = copy.deepcopy(base.resolved())
    tables: dict[str, dict[str, Any]] = {}
    for key, value in settings.items():
        first, _, rest = key.partition(".")
        if key == "network":
            table["network"] = value
        elif first == "network":
            _set_in_layer(table["network"], rest.split("."), value, where, base.name)
        elif key == "ensemble.others" and value:
            raise DigitsError(
                f"{where}: a sweep is of single networks, so [] is all that ensemble.others can be set to"
            )
        elif not rest or first in ("name", "description"):
            raise DigitsError(f"{where}: a key has its table's name before it{_tables_with(key, table)}")
        else:
            tables.setdefault(first, {})[rest] = value
    for first, changes in tables.items():
        below = table.get(first, {})
        # As where one recipe extends another: a table of another name takes nothing from the one below.
        same = changes.get("name", below.get("name")) == below.get("name")
        table[first] = {**below, **changes} if same else changes
    table["name"] = _name(base.name, settings)
    recipe = from_table(table, where)
    if recipe.ensemble.members > 1:
        alone = "--set ensemble.members=1 --set ensemble.folds=0"
        alone += " --set 'ensemble.others=[]'" if recipe.ensemble.others else ""
        raise DigitsError(
            f"{where} is an ensemble of {recipe.ensemble.members}, and a sweep is of single networks: add `{alone}`"
        )
    return recipe


def identity(recipe: Mapping[str, Any]) -> str:
    """What a training knows of a resolved recipe: all but its name and description, the same text for the same."""
    return json.dumps({key: recipe[key] for key in recipe if key not in ("name", "description")}, sort_keys=True)


def settings_text(settings: Mapping[str, Any]) -> str:
    """The settings in a line, `optimizer.lr=0.001 augment.rotate=5`; "as it is" where nothing is set."""
    return " ".join(f"{key}={value_text(value)}" for key, value in settings.items()) or UNCHANGED


def value_text(value: Any) -> str:
    """A value as it would be typed."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _values(text: str, line: str) -> Sequence[Any] | Range:
    if bounds := RANGE.fullmatch(text):
        low, high = (_toml(bound) for bound in bounds.group(1, 2))
        if len(low) == len(high) == 1:
            return _range(low[0], high[0], bool(bounds[3]), line)
    return _toml(text) or [_value(piece.strip(), line) for piece in text.split(",")]


def _value(text: str, line: str) -> Any:
    values = _toml(text) or ([text] if WORD.fullmatch(text) else [])
    if len(values) != 1:
        raise DigitsError(f"--set {line}: {text!r} is not a value as in TOML, nor a range such as 1e-4:1e-2:log")
    return values[0]


def _range(low: Any, high: Any, log: bool, line: str) -> Range:
    if not low < high or (log and low <= 0):
        raise DigitsError(f"--set {line}: a range is from less to more{', of numbers above 0' if log else ''}")
    return Range(low, high, log)


def _toml(text: str) -> list[Any]:
    """The values in a list of TOML without its brackets; none where it is not one."""
    try:
        table = tomllib.loads(f"values = [{text}\n]")
    except tomllib.TOMLDecodeError:
        return []
    return list(table["values"]) if list(table) == ["values"] else []


def _set_in_layer(layers: Any, path: list[str], value: Any, where: str, name: str) -> None:
    """Set a key of the layer that `digits recipe show` numbers so; `path` is its number's parts and the key."""
    *numbers, key = path
    layer: Any = None
    for number in numbers:
        if not isinstance(layers, list) or not number.isdecimal() or int(number) >= len(layers):
            numbers = []
            break
        layer = layers[int(number)]
        layers = layer.get("layers")
    if not numbers:
        raise DigitsError(
            f"{where}: there is no network.{'.'.join(path)}: a layer's key has its number before it, as in "
            f"`network.3.rate`, and `digits recipe show {name}` numbers the layers"
        )
    layer[key] = value


def _tables_with(key: str, table: Mapping[str, Any]) -> str:
    """A hint where the key is one of a table's."""
    found = [f"{first}.{key}" for first, inner in table.items() if isinstance(inner, dict) and key in inner]
    return f", did you mean {' or '.join(map(repr, found))}?" if found else ", as in `optimizer.lr`"


def _name(base: str, settings: Mapping[str, Any]) -> str:
    """The name of a configuration, which is in those of its runs."""
    parts = [
        "-".join(re.findall(r"[\w.]+", str(value)))
        if key == VARIANT
        else f"{key.split('.', 1)[-1]}-{value_text(value)}"
        for key, value in settings.items()
    ]
    return "-".join([base, *parts])[:LONGEST_NAME]


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values in a table of tables by their keys, `optimizer.lr` or `network.3.rate`."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
