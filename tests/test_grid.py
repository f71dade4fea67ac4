"""What a sweep tries: settings as they are typed, all combinations of them or some at random, and their recipes."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digits import recipe
from digits.errors import DigitsError
from digits.recipe import Ensemble, from_table
from digits.sweep import grid
from digits.sweep.grid import Range

BASE = """
network = [
    { layer = "flatten" },
    { layer = "dense", units = 800 },
    { layer = "relu" },
    { layer = "dropout", rate = 0.1 },
    { layer = "dense", units = 800 },
    { layer = "relu" },
    { layer = "dropout", rate = 0.1 },
    { layer = "dense", units = 10 },
]
[optimizer]
name = "adamw"
lr = 2e-3
weight_decay = 0.05
[schedule]
name = "one-cycle"
warmup = 0.2
[augment]
rotate = 8
"""
MLP = recipe.from_table({**tomllib.loads(BASE), "name": "mlp"}, "mlp")
RESIDUAL = recipe.from_table(
    {
        "name": "blocks",
        "network": [
            {"layer": "conv", "channels": 2},
            {"layer": "residual", "layers": [{"layer": "relu"}, {"layer": "dropout", "rate": 0.1}]},
            {"layer": "flatten"},
            {"layer": "dense", "units": 10},
        ],
    },
    "blocks",
)


@pytest.mark.parametrize(
    ("line", "key", "values"),
    [
        ("optimizer.lr=1e-3,3e-3", "optimizer.lr", [0.001, 0.003]),
        ("augment.rotate = 5, 10", "augment.rotate", [5, 10]),
        ("optimizer.nesterov=true,false", "optimizer.nesterov", [True, False]),
        ("schedule.name=cosine,one-cycle", "schedule.name", ["cosine", "one-cycle"]),
        ('train.batch_size="all",64', "train.batch_size", ["all", 64]),
        ("train.batch_size=all,64", "train.batch_size", ["all", 64]),
        ('x.y="a,b","c"', "x.y", ["a,b", "c"]),
        ("network=[{layer='relu'}]", "network", [[{"layer": "relu"}]]),
        ("optimizer.lr=1e-4:1e-2:log", "optimizer.lr", Range(1e-4, 1e-2, True)),
        ("augment.rotate=5:15", "augment.rotate", Range(5, 15)),
        ("augment.shift=-0.1:.5", "augment.shift", "'-0.1:.5' is not a value"),  # TOML wants a digit before the point
        ("augment.rotate=15:5", "augment.rotate", "from less to more"),
        ("optimizer.lr=0:1:log", "optimizer.lr", "from less to more, of numbers above 0"),
        ("optimizer.lr", "", "it must be a key and its values, as in `--set optimizer.lr=1e-3,3e-3`"),
        ("optimizer.lr=", "", "it must be a key and its values"),
        ("=1", "", "it must be a key and its values"),
        ("optimizer.lr=1e-3,", "optimizer.lr", [0.001]),  # TOML allows a comma at the end
        ("optimizer.lr=1e--3", "", "--set optimizer.lr=1e--3: '1e--3' is not a value as in TOML"),
        ("optimizer.lr=1,,2", "", "'' is not a value"),
        ("x.y=1]\nz=[2", "", "is not a value"),
    ],
)
def test_values_are_those_of_toml_a_word_needs_no_quotes_and_numbers_with_a_colon_are_a_range(
    line: str, key: str, values: Any
) -> None:
    if isinstance(values, str):
        with pytest.raises(DigitsError) as caught:
            grid.choices([line])
        assert values in str(caught.value)
        return
    chosen = grid.choices([line])
    assert chosen == {key: values}
    assert repr(chosen[key]) == repr(values)  # 1 is not 1.0, nor True


def test_a_key_is_given_once() -> None:
    with pytest.raises(DigitsError, match=r"--set optimizer\.lr is given twice: give its values together"):
        grid.choices(["optimizer.lr=1", "optimizer.lr=2"])


def test_a_grid_is_every_combination_the_last_key_changing_first() -> None:
    chosen = grid.choices(["optimizer.lr=1e-3,3e-3", "augment.rotate=5,10,15"])
    assert [tuple(settings.values()) for settings in grid.combinations(chosen)] == [
        *((0.001, 5), (0.001, 10), (0.001, 15)),
        *((0.003, 5), (0.003, 10), (0.003, 15)),
    ]
    assert grid.combinations({}) == [{}]
    with pytest.raises(DigitsError, match=r"augment\.rotate is a range, of which values are drawn: add `--random 20`"):
        grid.combinations(grid.choices(["augment.rotate=5:15"]))


# --- at random


def test_what_is_drawn_differs_and_is_the_same_for_a_seed_and_more_of_it_begin_alike() -> None:
    chosen = grid.choices(["optimizer.lr=1e-4:1e-2:log", "augment.rotate=5:15", "loss.label_smoothing=0,0.1"])
    few, many = grid.drawn(chosen, 5, 7), grid.drawn(chosen, 30, 7)
    assert many[:5] == few
    assert grid.drawn(chosen, 5, 8) != few
    assert all(many.count(settings) == 1 for settings in many)
    assert {settings["loss.label_smoothing"] for settings in many} == {0, 0.1}


def test_as_many_as_there_are_can_be_drawn_and_no_more() -> None:
    chosen = grid.choices(["augment.rotate=5:7", "train.shards=1,2"])
    assert sorted(tuple(settings.values()) for settings in grid.drawn(chosen, 6, 0)) == [
        *((5, 1), (5, 2), (6, 1), (6, 2), (7, 1), (7, 2)),
    ]
    with pytest.raises(DigitsError, match="--random 7: only 6 different configurations were found"):
        grid.drawn(chosen, 7, 0)
    with pytest.raises(DigitsError, match="--random draws from what --set names"):
        grid.drawn({}, 1, 0)


class Fixed:
    """A generator that always draws this."""

    def __init__(self, value: float) -> None:
        self.value = value

    def random(self) -> float:
        return self.value


@pytest.mark.parametrize(
    ("numbers", "at", "value"),
    [
        (Range(1e-4, 1e-2, True), 0.0, 1e-4),
        (Range(1e-4, 1e-2, True), 0.5, 1e-3),  # the geometric mean
        (Range(1e-4, 1e-2, True), 0.75, 0.00316),  # 10**-2.5, to three digits
        (Range(0.0, 3.0), 0.5, 1.5),
        (Range(0.0, 0.12345), 0.9999999, 0.123),
        (Range(0.0, 0.9996), 0.9999999, 0.9996),  # to three digits it would be 1
        (Range(5, 15), 0.0, 5),
        (Range(5, 15), 0.9999, 15),
        (Range(5, 15), 0.5, 10),
        (Range(16, 256, True), 0.5, 64),
    ],
)
def test_a_range_is_drawn_from_evenly_or_by_its_logarithm(numbers: Range, at: float, value: float) -> None:
    drawn = numbers.draw(Fixed(at))  # type: ignore[arg-type]
    assert drawn == value
    assert type(drawn) is type(value)


@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6), st.booleans(), st.floats(0, 1, exclude_max=True))
def test_what_is_drawn_is_within_its_range(low: float, high: float, log: bool, at: float) -> None:
    low, high = sorted((low, high))
    assert low <= Range(low, high, log).draw(Fixed(at)) <= high  # type: ignore[arg-type]


# --- recipes


def test_a_configuration_is_what_a_file_of_the_same_settings_would_be(tmp_path: Path) -> None:
    (tmp_path / "mlp.toml").write_text(BASE)
    (tmp_path / "file.toml").write_text(
        'extends = "mlp.toml"\n[optimizer]\nname = "sgd"\nlr = 0.1\n[augment]\nrotate = 5\n[schedule]\nwarmup = 0.1\n'
    )
    from_file = recipe.load(str(tmp_path / "file.toml"))
    settings = {"optimizer.name": "sgd", "optimizer.lr": 0.1, "augment.rotate": 5, "schedule.warmup": 0.1}
    configured = grid.configured(MLP, settings)
    assert grid.identity(configured.resolved()) == grid.identity(from_file.resolved())
    assert configured.schedule.name == MLP.schedule.name
    assert configured.name == "mlp-name-sgd-lr-0.1-rotate-5-warmup-0.1"
    assert recipe.load(str(tmp_path / "mlp.toml")) == MLP  # the base stays as it is


def test_without_settings_it_is_the_recipe_itself() -> None:
    assert grid.configured(MLP, {}) == MLP


def test_a_layer_is_set_by_the_number_that_recipe_show_gives_it() -> None:
    configured = grid.configured(MLP, {"network.3.rate": 0.3, "network.4.units": 100})
    assert configured.network[3]["rate"] == 0.3
    assert configured.network[4]["units"] == 100
    assert configured.network[6] == MLP.network[6]
    inner = grid.configured(RESIDUAL, {"network.1.1.rate": 0.5})
    assert inner.network[1]["layers"][1]["rate"] == 0.5
    assert RESIDUAL.network[1]["layers"][1]["rate"] == 0.1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"optimizer.lrr": 1.0}, "mlp with optimizer.lrr=1.0, [optimizer]: unknown key 'lrr', did you mean 'lr'?"),
        ({"optimiser.lr": 1.0}, "unknown key 'optimiser', did you mean 'optimizer'?"),
        ({"epochs": 3}, "mlp with epochs=3: a key has its table's name before it, did you mean 'train.epochs'?"),
        ({"name": "x"}, "mlp with name=x: a key has its table's name before it"),
        ({"rotate": 3}, "did you mean 'augment.rotate' or 'predict.rotate'?"),
        ({"optimizer.lr": "fast"}, "[optimizer] lr must be a number, not 'fast'"),
        ({"augment.rotate": -1}, "rotate"),
        ({"network.3.rat": 0.1}, "layer 3 (dropout): unknown key 'rat', did you mean 'rate'?"),
        ({"network.8.rate": 0.1}, "there is no network.8.rate"),
        ({"network.x.rate": 0.1}, "there is no network.x.rate"),
        ({"network.².rate": 0.1}, "there is no network.².rate"),
        ({"network.rate": 0.1}, "`digits recipe show mlp` numbers the layers"),
        ({"network.3.0.rate": 0.1}, "there is no network.3.0.rate"),
        ({"network": 3}, "network must be a list of layers"),
        ({"ensemble.members": 2}, "a sweep is of single networks: add `--set ensemble.members=1"),
    ],
)
def test_what_is_no_key_or_value_of_a_recipe_is_refused_by_name(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(DigitsError) as caught:
        grid.configured(MLP, settings)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_ensemble_of_several_recipes_is_swept_as_its_refusal_says() -> None:
    mixed = from_table({**MLP.resolved(), "ensemble": {"members": 4, "folds": 2, "others": [MLP.resolved()]}}, "mixed")
    with pytest.raises(DigitsError) as caught:
        grid.configured(mixed, {})
    settings = re.findall(r"--set '?([\w.]+)=([^ '`]+)", str(caught.value))
    assert grid.configured(mixed, {key: json.loads(value) for key, value in settings}).ensemble == Ensemble()


def test_a_sweep_takes_no_other_recipes_in() -> None:
    with pytest.raises(DigitsError, match=r"so \[\] is all that ensemble\.others can be set to"):
        grid.configured(MLP, {"ensemble.others": ["cnn"]})


def test_settings_that_come_to_the_same_are_one_configuration() -> None:
    lr = MLP.optimizer.lr
    sets = [{"optimizer.lr": 0.5}, {"optimizer.lr": lr}, {"optimizer.lr": 0.5}, {"augment.rotate": 8}]
    first, second = grid.configurations(MLP, sets)
    assert (first.settings, first.equal) == (sets[0], ())
    assert (second.settings, second.equal) == (sets[1], (sets[3],))  # rotate = 8 is mlp's, as its lr is


def test_configurations_have_names_of_their_own() -> None:
    layers = [dict(line) for line in MLP.network]
    wide = [{**line, "units": 90} if line.get("units") == 800 else line for line in layers]
    found = grid.configurations(MLP, [{"network": layers}, {"network": wide}])
    names = [one.recipe.name for one in found]
    assert len(set(names)) == 2
    assert all(len(name) < 100 for name in names)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({}, "as it is"),
        ({"optimizer.lr": 0.001, "schedule.name": "cosine"}, "optimizer.lr=0.001 schedule.name=cosine"),
        ({"optimizer.nesterov": True, "augment.rotate": 5}, "optimizer.nesterov=true augment.rotate=5"),
    ],
)
def test_settings_are_shown_as_they_would_be_typed(settings: dict[str, Any], text: str) -> None:
    assert grid.settings_text(settings) == text


VARIANTS = """
["no rotation"]
augment.rotate = 0

["SGD, 0.5 of dropout"]
optimizer = { name = "sgd", momentum = 0.9 }
network.3.rate = 0.5
network.6.rate = 0.5

[small]
network = [{ layer = "flatten" }, { layer = "dense", units = 10 }]
"""


def variants(folder: Path, text: str) -> dict[str, grid.Settings]:
    path = folder / "variants.toml"
    path.write_text(text)
    return grid.variants(path)


def test_each_variant_changes_the_recipe_which_takes_part_as_it_is(tmp_path: Path) -> None:
    found = grid.configurations(MLP, [{}], variants(tmp_path, VARIANTS))
    assert [one.settings["variant"] for one in found] == ["as it is", "no rotation", "SGD, 0.5 of dropout", "small"]
    assert [one.recipe.name for one in found] == ["mlp", "mlp-no-rotation", "mlp-SGD-0.5-of-dropout", "mlp-small"]
    as_it_is, unrotated, sgd, small = (one.recipe.resolved() for one in found)
    assert as_it_is == MLP.resolved()
    assert unrotated["augment"] == {**as_it_is["augment"], "rotate": 0}
    assert {**unrotated, "augment": 0, "name": 0} == {**as_it_is, "augment": 0, "name": 0}
    assert sgd["optimizer"] == {
        **{"name": "sgd", "lr": 0.1, "momentum": 0.9},
        **{"nesterov": False, "weight_decay": 0, "decoupled": False},
    }
    assert [line.get("rate") for line in sgd["network"]] == [None, None, None, 0.5, None, None, 0.5, None]
    assert len(small["network"]) == 2


def test_variants_are_of_the_recipe_with_what_is_set(tmp_path: Path) -> None:
    sets = [{"train.epochs": 3}, {"train.epochs": 4}]
    found = grid.configurations(MLP, sets, variants(tmp_path, "[short]\ntrain.epochs = 1\n[still]\naugment.rotate = 0"))
    epochs = [(one.settings["train.epochs"], one.settings["variant"], one.recipe.train.epochs) for one in found]
    # With one epoch both are the same, which is trained once.
    assert epochs == [(3, "as it is", 3), (1, "short", 1), (3, "still", 3), (4, "as it is", 4), (4, "still", 4)]
    assert [one.recipe.name for one in found][1:4] == ["mlp-epochs-1-short", "mlp-epochs-3-still", "mlp-epochs-4"]
    assert not any(one.equal for one in found)


def test_a_layer_is_not_set_in_a_variant_that_has_a_network_of_its_own(tmp_path: Path) -> None:
    changed = variants(tmp_path, '[small]\nnetwork = [{ layer = "flatten" }, { layer = "dense", units = 10 }]')
    with pytest.raises(DigitsError, match=r"'small' has a network of its own, so --set network\.1\.units has no layer"):
        grid.configurations(MLP, [{"network.1.units": 90}], changed)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("augment.rotate = [", "variants.toml can't be read: "),
        ("lr = 3", "variants.toml, 'lr': a variant is a table with a name of its own and what it sets"),
        ("[empty]", "variants.toml, 'empty': a variant is a table"),
        ('["as it is"]\naugment.rotate = 3', "'as it is' is there by itself"),
        (
            "[odd]\naugment.rotat = 3",
            "the variant 'odd': mlp with augment.rotat=3, [augment]: unknown key 'rotat', did you",
        ),
        (
            "[odd]\nrotate = 3",
            "the variant 'odd': mlp with rotate=3: a key has its table's name before it, did you mean",
        ),
    ],
)
def test_variants_that_are_none_are_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DigitsError) as caught:
        grid.configurations(MLP, [{}], variants(tmp_path, text))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "count"), [("ablation", 26), ("mining", 3)])
def test_the_variants_that_were_measured_differ_from_what_they_are_of(name: str, count: int) -> None:
    scripts = Path(__file__).parent.parent / "scripts"
    path = scripts / f"{name}.toml"
    text = path.read_text(encoding="utf-8")
    assert "digits sweep scripts/ablated.toml " in text
    (settings,) = grid.combinations(grid.choices(re.findall(r"--set (\S+)", text)))  # as its first lines say
    found = grid.configurations(recipe.load(str(scripts / "ablated.toml")), [settings], grid.variants(path))
    assert len(found) == count
    assert not any(one.equal for one in found)
