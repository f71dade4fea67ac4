"""What changed between two runs."""

from pathlib import Path
from typing import Any

import pytest
from ledgers import finished_run

from digits.changes import Change, changes
from digits.recipe import from_table
from digits.runs import Run
from digits.split import Split

CONV = {"layer": "conv", "channels": 16}
LAYERS: list[dict[str, Any]] = [CONV, {"layer": "relu"}, {"layer": "flatten"}, {"layer": "dense", "units": 10}]


def made_by(folder: Path, network: list[dict[str, Any]] = LAYERS, **tables: Any) -> Run:
    recipe = from_table({"name": "r", "network": network, **tables}, "r").resolved()
    return finished_run(folder, "r", recipe=recipe)


def found(a: Run, b: Run) -> list[tuple[str, str | None, str | None]]:
    return [(change.key, change.a, change.b) for change in changes(a, b)]


def test_runs_of_the_same_have_no_changes_but_what_was_changed(tmp_path: Path) -> None:
    a, b = made_by(tmp_path), made_by(tmp_path, train={"epochs": 20}, optimizer={"name": "sgd"})
    assert found(a, a) == []
    keys = {key: (x, y) for key, x, y in found(a, b)}
    assert keys["recipe.train.epochs"] == ("10", "20")
    assert keys["recipe.optimizer.name"] == ("adamw", "sgd")
    assert keys["recipe.optimizer.beta1"] == ("0.9", None)
    assert keys["recipe.optimizer.nesterov"] == (None, "false")
    assert all(key.startswith(("recipe.train", "recipe.optimizer")) for key in keys)


def test_layers_are_compared_with_those_that_they_stand_for(tmp_path: Path) -> None:
    wider = [{**CONV, "channels": 24}, {"layer": "relu"}, {"layer": "dropout", "rate": 0.3}, *LAYERS[2:]]
    assert found(made_by(tmp_path), made_by(tmp_path, wider)) == [
        ("recipe.network.0 (conv).channels", "16", "24"),
        ("recipe.network.2", None, "dropout rate=0.3"),
    ]
    assert found(made_by(tmp_path, wider), made_by(tmp_path))[1] == ("recipe.network.2", "dropout rate=0.3", None)


def test_layers_within_a_block_are_compared_too(tmp_path: Path) -> None:
    def block(kernel: int) -> list[dict[str, Any]]:
        inner = {**CONV, "kernel": kernel, "padding": "same"}
        return [{"layer": "residual", "layers": [inner, {"layer": "relu"}]}, *LAYERS]

    first = {**CONV, "kernel": 1}
    one, other = [first, *block(3)], [first, *block(5)]
    assert found(made_by(tmp_path, one), made_by(tmp_path, other)) == [
        ("recipe.network.1.layers.0 (conv).kernel", "3", "5")
    ]
    (change,) = changes(made_by(tmp_path, [first, *LAYERS]), made_by(tmp_path, one))
    assert change.key == "recipe.network.1"
    assert change.b is not None
    assert change.b.startswith("residual [conv channels=16 kernel=3")


def test_the_other_recipes_of_an_ensemble_are_compared_in_their_order(tmp_path: Path) -> None:
    table = made_by(tmp_path).record["recipe"]
    one, two = {**table, "name": "one"}, {**table, "name": "two"}
    longer = {**one, "train": {**table["train"], "epochs": 77}, "network": [*one["network"][:-1], {"layer": "relu"}]}
    longer["network"].append(one["network"][-1])
    a, b = made_by(tmp_path), made_by(tmp_path)
    a.update(recipe={**table, "ensemble": {"members": 3, "others": [one]}})
    b.update(recipe={**table, "ensemble": {"members": 3, "others": [longer, two]}})
    before = table["train"]["epochs"]
    assert found(a, b) == [
        ("recipe.ensemble.others", "one", "one, two"),
        ("recipe.ensemble.others.0 (one).train.epochs", str(before), "77"),
        (f"recipe.ensemble.others.0 (one).network.{len(one['network']) - 1}", None, "relu"),
    ]
    b.update(recipe={**table, "ensemble": {"members": 3, "others": [one, one]}})
    assert found(a, b) == [("recipe.ensemble.others", "one", "one, one")]


def test_seed_split_data_code_and_versions_are_compared(tmp_path: Path) -> None:
    a, b = made_by(tmp_path), made_by(tmp_path)
    a.update(machine={"versions": {"numpy": "2.4.6"}})
    b.update(
        seed=1,
        split=Split(0.0, 5, 1).spec(),
        data={**b.record["data"], "sha256": {"train.csv": "e" * 64, "test.csv": "b" * 64}},
        code={**b.record["code"], "dirty": True},
        machine={"versions": {"numpy": "2.3.0"}},
    )
    assert found(a, b) == [
        ("seed", "0", "1"),
        ("split.fraction", "0.1", "0.0"),
        ("split.folds", "none", "5"),
        ("split.fold", "none", "1"),
        ("data.sha256.train.csv", "a" * 64, "e" * 64),
        ("code.dirty", "false", "true"),
        ("machine.versions.numpy", "2.4.6", "2.3.0"),
    ]
    assert changes(a, b)[0].plain() == {"key": "seed", "a": "0", "b": "1"}


def test_an_older_record_has_the_defaults_of_what_its_code_knew_nothing_of(tmp_path: Path) -> None:
    a, b = made_by(tmp_path), made_by(tmp_path)
    recipe = {key: value for key, value in a.record["recipe"].items() if key not in ("predict", "ensemble")}
    a.update(recipe=recipe)
    assert found(a, b) == []


@pytest.mark.parametrize(
    "recipe",
    [
        {"name": "blend", "blend": {"members": ["x", "y"], "average": "logits", "weights": "fit"}},
        {"name": "r", "network": "edited"},
        {"name": "r", "network": [7, {"layer": "relu"}], "train": None},
    ],
)
def test_what_is_no_recipe_is_compared_as_it_is(tmp_path: Path, recipe: dict[str, Any]) -> None:
    a, b = made_by(tmp_path), finished_run(tmp_path, "blend", recipe=recipe)
    there, back = changes(a, b), changes(b, a)
    assert there
    assert {Change(one.key, one.b, one.a) for one in back} == set(there)
