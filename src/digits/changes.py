"""What changed between two runs: their recipes key by key and layer by layer, seed, split, data, code and machine."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from typing import Any

from digits.errors import DigitsError
from digits.recipe import from_table
from digits.runs import Run

COMPARED = ("recipe", "seed", "split", "data", "code", "machine", "workers", "parameters")  # of the record
GONE = object()


@dataclass(frozen=True)
class Change:
    """A key of the record, with dots, and its values in A and in B, as text; None where one has no such key."""

    key: str
    a: str | None
    b: str | None

    def plain(self) -> dict[str, Any]:
        """The change as plain values."""
        return asdict(self)


def changes(a: Run, b: Run) -> list[Change]:
    """What a run depends on and is not the same in two, in the order of the record."""
    found = []
    for key in COMPARED:
        if key == "recipe":
            found += list(_recipe_changes(_resolved(a), _resolved(b)))
        else:
            found += list(_table_changes(key, a.record.get(key, GONE), b.record.get(key, GONE)))
    return found


def _resolved(run: Run) -> dict[str, Any]:
    """The run's recipe with the defaults of what the code of its day knew nothing of."""
    table: dict[str, Any] = run.record["recipe"]
    try:
        return from_table(table, run.id).resolved()
    except DigitsError:  # a blend's, or one that was edited
        return table


def _recipe_changes(a: dict[str, Any], b: dict[str, Any], where: str = "recipe") -> Iterator[Change]:
    layers_a, layers_b = a.get("network"), b.get("network")
    others_a, others_b = _others(a), _others(b)
    for change in _table_changes(where, a, b):
        if not change.key.startswith((f"{where}.network", f"{where}.ensemble.others")):
            yield change
    if isinstance(layers_a, list) and isinstance(layers_b, list):
        yield from _network_changes(f"{where}.network", layers_a, layers_b)
    elif layers_a != layers_b:
        yield Change(f"{where}.network", _text(layers_a), _text(layers_b))
    names_a, names_b = ([str(other.get("name")) for other in others] for others in (others_a, others_b))
    if names_a != names_b:
        yield Change(f"{where}.ensemble.others", _text(", ".join(names_a)), _text(", ".join(names_b)))
    for at, (name, mine, theirs) in enumerate(zip(names_a, others_a, others_b, strict=False)):
        if name == names_b[at]:
            yield from _recipe_changes(mine, theirs, f"{where}.ensemble.others.{at} ({name})")


def _others(recipe: dict[str, Any]) -> list[dict[str, Any]]:
    """The recipes by which members are trained in turn with this one."""
    ensemble = recipe.get("ensemble")
    others = ensemble.get("others", []) if isinstance(ensemble, dict) else []
    return [other for other in others if isinstance(other, dict)]


def _network_changes(where: str, a: list[Any], b: list[Any]) -> Iterator[Change]:
    """Layers of a kind that stand for each other are compared key by key, the others are there or not."""
    kinds_a, kinds_b = ([_kind(layer) for layer in layers] for layers in (a, b))
    for _, from_a, to_a, from_b, to_b in SequenceMatcher(None, kinds_a, kinds_b, autojunk=False).get_opcodes():
        same = kinds_a[from_a:to_a] == kinds_b[from_b:to_b]
        for at in range(max(to_a - from_a, to_b - from_b)):
            mine = a[from_a + at] if from_a + at < to_a else GONE
            theirs = b[from_b + at] if from_b + at < to_b else GONE
            place = f"{where}.{from_b + at if theirs is not GONE else from_a + at}"
            if same and isinstance(mine, dict) and isinstance(theirs, dict):
                inner_a, inner_b = mine.get("layers"), theirs.get("layers")
                if isinstance(inner_a, list) and isinstance(inner_b, list):
                    yield from _network_changes(f"{place}.layers", inner_a, inner_b)
                    mine, theirs = ({**layer, "layers": None} for layer in (mine, theirs))
                yield from _table_changes(f"{place} ({_kind(mine)})", mine, theirs)
            else:
                yield Change(place, _layer_text(mine), _layer_text(theirs))


def _table_changes(where: str, a: Any, b: Any) -> Iterator[Change]:
    if isinstance(a, dict) and isinstance(b, dict):
        for key in dict.fromkeys([*a, *b]):
            yield from _table_changes(f"{where}.{key}", a.get(key, GONE), b.get(key, GONE))
    elif a is not b and (a is GONE or b is GONE or a != b):
        for table in (a, b):
            if isinstance(table, dict):  # against a single value, or nothing
                for key in table:
                    yield from _table_changes(f"{where}.{key}", *((v.get(key) if v is table else GONE) for v in (a, b)))
                return
        yield Change(where, _text(a), _text(b))


def _kind(layer: Any) -> str:
    return str(layer.get("layer")) if isinstance(layer, dict) else str(layer)


def _layer_text(layer: Any) -> str | None:
    if not isinstance(layer, dict):
        return _text(layer)
    settings = [f"{key}={_text(value)}" for key, value in layer.items() if key not in ("layer", "layers")]
    inner = [f"[{', '.join(str(_layer_text(one)) for one in layer['layers'])}]"] if layer.get("layers") else []
    return " ".join([_kind(layer), *settings, *inner])


def _text(value: Any) -> str | None:
    if value is GONE:
        return None
    return str(value).lower() if isinstance(value, bool) or value is None else str(value) or "(empty)"
