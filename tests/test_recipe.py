"""A recipe is read strictly: what is not one is named, with the key and the nearest valid one, in one sentence."""

import contextlib
import copy
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digits import recipe as recipes
from digits.errors import DigitsError
from digits.nn import EMA, SGD, SWA, AdamW, NoAverage, Schedule, SoftmaxCrossEntropy
from digits.recipe import Recipe, Train, from_table

PACKAGED = sorted(path.stem for path in (Path(recipes.__file__).parent / "recipes").glob("*.toml"))
SMALLEST = 'network = [{ layer = "flatten" }, { layer = "dense", units = 10 }]\n'


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(text: str, name: str = "my.toml") -> str:
    """A recipe file in the current folder."""
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text, encoding="utf-8")
    return name


def refusal(which: str) -> str:
    """The one line that is said of a recipe."""
    with pytest.raises(DigitsError) as caught:
        recipes.load(which)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 1000
    return message


# --- what is a recipe


def test_the_packaged_recipes_are_those_in_the_folder() -> None:
    assert recipes.names() == PACKAGED
    assert {"mlp", "seed"} <= set(PACKAGED)


@pytest.mark.parametrize("name", PACKAGED)
def test_a_packaged_recipe_is_found_by_its_name_and_says_what_it_is(name: str) -> None:
    recipe = recipes.load(name)
    assert recipe.name == name
    assert recipe.description
    assert recipe.build().output_shape == (10,)
    assert recipe.build().params.dtype == np.float32


def test_what_a_recipe_leaves_out_is_the_default() -> None:
    recipe = recipes.load(write(SMALLEST))
    assert recipe.name == "my"
    assert recipe.description == ""
    assert (recipe.train, recipe.optimizer, recipe.schedule, recipe.average, recipe.loss) == (
        Train(),
        AdamW(),
        Schedule(),
        NoAverage(),
        SoftmaxCrossEntropy(),
    )
    assert recipe.network[1] == {"layer": "dense", "units": 10, "init": "he", "bound": 0.5}


def test_what_a_recipe_says_is_taken() -> None:
    recipe = recipes.load(
        write(
            SMALLEST
            + """
            [train]
            epochs = 3
            batch_size = "all"
            [optimizer]
            name = "sgd"
            lr = 1
            momentum = 0.5
            nesterov = true
            [schedule]
            name = "cosine"
            warmup = 0.25
            [average]
            name = "ema"
            decay = 0.99
            [loss]
            label_smoothing = 0.1
            """
        )
    )
    assert recipe.train == Train(epochs=3, batch_size="all")
    assert recipe.optimizer == SGD(lr=1.0, momentum=0.5, nesterov=True)
    assert isinstance(recipe.optimizer.lr, float)  # an integer will do for a number
    assert recipe.schedule == Schedule("cosine", warmup=0.25)
    assert recipe.average == EMA(0.99)
    assert recipe.loss == SoftmaxCrossEntropy(0.1)


@pytest.mark.parametrize("name", ["my recipe.toml", "été/my recipe.toml", "my-recipe.toml", "./my.recipe.toml"])
def test_a_recipes_name_fits_in_a_folders_name(name: str) -> None:
    assert re.fullmatch(r"my[.-]recipe", recipes.load(write(SMALLEST, name)).name)


def test_a_file_may_begin_with_a_byte_order_mark_and_end_its_lines_in_crlf() -> None:
    Path("my.toml").write_bytes(b"\xef\xbb\xbf" + SMALLEST.replace("\n", "\r\n").encode())
    assert recipes.load("my.toml").name == "my"


@pytest.mark.parametrize("which", ["folder/mine", "./mine", "mine"])
def test_only_what_ends_in_toml_is_a_file(which: str) -> None:
    write(SMALLEST, "folder/mine")
    write(SMALLEST, "mine")
    assert f"there is no recipe {which!r}" in refusal(which)


def test_a_name_that_no_file_can_have_is_refused() -> None:
    write('extends = "a\\u0000.toml"', "my.toml")
    assert "is no name of a file" in refusal("my.toml")


FRACTIONS = st.floats(0, 0.99)
LAYERS = st.one_of(
    st.fixed_dictionaries(
        {"layer": st.just("dense"), "units": st.integers(1, 40)},
        optional={"init": st.sampled_from(["he", "uniform"]), "bound": st.floats(0.01, 2)},
    ),
    st.just({"layer": "relu"}),
    st.fixed_dictionaries({"layer": st.just("dropout"), "rate": FRACTIONS}),
)
NETWORKS = st.lists(LAYERS, max_size=4).map(
    lambda layers: [{"layer": "flatten"}, *layers, {"layer": "dense", "units": 10}]
)
TABLES = st.fixed_dictionaries(
    {"network": NETWORKS},
    optional={
        "name": st.from_regex(r"[A-Za-z0-9]+", fullmatch=True),
        "description": st.text(max_size=20),
        "train": st.fixed_dictionaries(
            {},
            optional={
                "epochs": st.integers(1, 10**6),
                "batch_size": st.integers(1, 10**6) | st.just("all"),
                "shards": st.integers(1, 64),
                "report_every": st.integers(1, 100),
                "clip": st.floats(0, 1e3),
            },
        ),
        "optimizer": st.one_of(
            st.fixed_dictionaries(
                {"name": st.just("sgd")},
                optional={
                    "lr": st.floats(0, 1e3),
                    "momentum": FRACTIONS,
                    "weight_decay": FRACTIONS,
                    "decoupled": st.booleans(),
                },
            ),
            st.fixed_dictionaries(
                {},
                optional={
                    "name": st.sampled_from(["adam", "adamw"]),
                    "lr": st.floats(0, 1e3) | st.integers(0, 9),
                    "beta1": FRACTIONS,
                    "beta2": FRACTIONS,
                    "epsilon": st.floats(1e-12, 1),
                    "weight_decay": FRACTIONS,
                },
            ),
        ),
        "schedule": st.fixed_dictionaries(
            {},
            optional={
                "name": st.sampled_from(["constant", "step", "exponential", "cosine", "one-cycle"]),
                "warmup": FRACTIONS,
                "start": FRACTIONS,
                "final": st.floats(1e-6, 0.99),
                "stages": st.integers(1, 9),
                "factor": FRACTIONS,
            },
        ),
        "average": st.one_of(
            st.fixed_dictionaries({}, optional={"name": st.just("none")}),
            st.fixed_dictionaries({"name": st.just("ema")}, optional={"decay": FRACTIONS}),
            st.fixed_dictionaries(
                {"name": st.just("swa")}, optional={"start": FRACTIONS, "every": st.integers(1, 100)}
            ),
        ),
        "loss": st.fixed_dictionaries({}, optional={"label_smoothing": FRACTIONS}),
    },
)


@given(TABLES)
@settings(deadline=None, max_examples=100)
def test_a_recipe_is_the_same_after_its_way_through_json(table: dict[str, Any]) -> None:
    recipe = from_table(table, "drawn")
    written = json.loads(json.dumps(recipe.resolved()))
    again = from_table(written, "run.json")
    assert again == recipe
    assert again.resolved() == written


@given(TABLES)
@settings(deadline=None, max_examples=50)
def test_a_resolved_recipe_has_every_key_and_keeps_what_was_said(table: dict[str, Any]) -> None:
    resolved = from_table(table, "drawn").resolved()
    for section in ("train", "optimizer", "schedule", "average", "loss"):
        assert table.get(section, {}).items() <= resolved[section].items()
    for said, line in zip(table["network"], resolved["network"], strict=True):
        assert said.items() <= line.items()
    default = from_table({"network": table["network"]}, "default").resolved()
    assert resolved.keys() == default.keys()
    assert resolved["train"].keys() == default["train"].keys()
    assert resolved["schedule"].keys() == default["schedule"].keys()


def spots(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in nested tables and lists."""
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(spot for key, inner in below for spot in spots(inner, (*path, key)))]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 300) | st.floats() | st.sampled_from(["all", "sgd", "dense", "", "x"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["layer", "name", "x"]), inner),
    max_leaves=4,
)


@given(TABLES, st.integers(0), VALUES)
@settings(deadline=None, max_examples=300)
def test_a_recipe_with_any_value_in_any_place_is_a_recipe_or_refused_in_a_sentence(
    table: dict[str, Any], at: int, value: Any
) -> None:
    table = copy.deepcopy(from_table(table, "drawn").resolved())
    places = spots(table)[1:]
    *way, last = places[at % len(places)]
    inner: Any = table
    for key in way:
        inner = inner[key]
    inner[last] = value
    try:
        recipe = from_table(table, "run.json")
    except DigitsError as error:
        assert str(error).startswith(("run.json", "recipe "))  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert "nan" not in json.dumps(recipe.resolved()).lower().replace('"nan"', "")
        assert "Infinity" not in json.dumps(recipe.resolved())


# --- what is not


def test_an_unknown_name_is_answered_with_the_nearest_and_all_there_are() -> None:
    message = refusal("mpl")
    assert "there is no recipe 'mpl', did you mean 'mlp'?" in message
    for name in PACKAGED:
        assert name in message
    assert ".toml" in message
    assert "did you mean" not in refusal("zzzzzz")
    assert "there is no recipe ''" in refusal("")


def test_a_file_that_is_not_there_is_said_to_be_missing() -> None:
    assert "there is no recipe file no/where.toml" in refusal("no/where.toml")
    assert "there is no recipe file mine.toml" in refusal("mine.toml")


def test_a_folder_in_the_place_of_the_file_is_refused() -> None:
    Path("folder.toml").mkdir()
    assert refusal("folder.toml").startswith("the recipe folder.toml can't be read")


def test_a_file_that_is_not_utf_8_is_refused() -> None:
    Path("my.toml").write_bytes(b'description = "\xe9t\xe9"\n' + SMALLEST.encode())
    message = refusal("my.toml")
    assert "my.toml" in message
    assert "UTF-8" in message or "utf-8" in message


def in_train(line: str) -> str:
    return f"{SMALLEST}[train]\n{line}\n"


def in_optimizer(line: str, name: str = "adamw") -> str:
    return f'{SMALLEST}[optimizer]\nname = "{name}"\n{line}\n'


def of_layers(*layers: str) -> str:
    return f"network = [{', '.join(f'{{ {layer} }}' for layer in layers)}]\n"


FLAT, DENSE = 'layer = "flatten"', 'layer = "dense", units = 10'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        # TOML
        ("network = [", "my.toml is not valid TOML: "),
        (SMALLEST + "a = 1\na = 2\n", "my.toml is not valid TOML: "),
        ("\0", "my.toml is not valid TOML: "),
        # keys
        (SMALLEST + "epochs = 3\n", "my.toml: unknown key 'epochs'"),
        (SMALLEST + "[trian]\nepochs = 3\n", "my.toml: unknown key 'trian', did you mean 'train'?"),
        (in_train("epoch = 3"), "my.toml, [train]: unknown key 'epoch', did you mean 'epochs'?"),
        (in_train("lr = 3"), "my.toml, [train]: unknown key 'lr'; the keys are epochs, batch_size"),
        (in_optimizer("momentum = 0.9"), "my.toml, [optimizer]: unknown key 'momentum'"),
        (in_optimizer("beta_1 = 0.9"), "my.toml, [optimizer]: unknown key 'beta_1', did you mean 'beta1'?"),
        (SMALLEST + "[schedule]\nwarm_up = 0.1\n", "my.toml, [schedule]: unknown key 'warm_up', did you mean 'warmup'"),
        (SMALLEST + "[loss]\nsmoothing = 0.1\n", "[loss]: unknown key 'smoothing', did you mean 'label_smoothing'"),
        (of_layers(FLAT, 'layer = "dense", unit = 10'), "layer 1 (dense): unknown key 'unit', did you mean 'units'?"),
        (of_layers(FLAT + ", units = 3", DENSE), "layer 0 (flatten): unknown key 'units'; it takes none"),
        (SMALLEST + 'name = "mine"\n', "my.toml: a recipe is named by its file"),
        # layers
        ("", "my.toml: network must be a list of layers"),
        ("network = []\n", "my.toml: network must be a list of layers"),
        ("[network]\nlayer = 3\n", "my.toml: network must be a list of layers"),
        ('network = "mlp"\n', "my.toml: network must be a list of layers"),
        ('network = ["flatten"]\n', "my.toml, layer 0: it must be a table with a layer"),
        (of_layers("units = 10"), "my.toml, layer 0: it must be a table with a layer"),
        (of_layers('layer = "Dense"'), "my.toml, layer 0, layer: 'Dense' is not one of"),
        (of_layers('layer = "desne", units = 10'), "did you mean 'dense'?"),
        (of_layers("layer = 3"), "my.toml, layer 0, layer: 3 is not one of"),
        (of_layers(FLAT, 'layer = "dense"'), "my.toml, layer 1 (dense): the key 'units' is missing"),
        (of_layers(FLAT, 'layer = "dropout"', DENSE), "my.toml, layer 1 (dropout): the key 'rate' is missing"),
        (of_layers(DENSE), "a dense layer wants vectors, not images of shape (28, 28, 1): put a flatten before it"),
        (of_layers(FLAT), "the network ends in the shape (784,), not in 10 logits"),
        (of_layers(FLAT, 'layer = "dense", units = 9'), "the network ends in the shape (9,), not in 10 logits"),
        # types
        (
            of_layers('layer = "conv", channels = 2, bias = "tied"'),
            "my.toml, layer 0 (conv) bias must be true or false or 'untied', not 'tied'",
        ),
        (in_train('epochs = "3"'), "my.toml, [train] epochs must be an integer, not '3'"),
        (in_train("epochs = 3.0"), "my.toml, [train] epochs must be an integer, not 3.0"),
        (in_train("epochs = true"), "my.toml, [train] epochs must be an integer, not True"),
        (in_train("batch_size = true"), "[train] batch_size must be an integer or 'all', not True"),
        (in_train('batch_size = "al"'), "[train] batch_size must be an integer or 'all', not 'al'"),
        (in_optimizer('lr = "1e-3"'), "[optimizer] lr must be a number, not '1e-3'"),
        (in_optimizer("lr = true"), "[optimizer] lr must be a number, not True"),
        (in_optimizer("lr = [1]"), "[optimizer] lr must be a number, not [1]"),
        (in_optimizer("lr = 2026-01-01"), "[optimizer] lr must be a number"),
        (in_optimizer("nesterov = 1", "sgd"), "[optimizer] nesterov must be true or false, not 1"),
        (SMALLEST + "description = 3\n", "my.toml, description must be a text, not 3"),
        (SMALLEST + "train = 3\n", "my.toml: train must be a table, [train], not 3"),
        (SMALLEST + "[[train]]\nepochs = 3\n", "my.toml: train must be a table"),
        (SMALLEST + 'optimizer = "sgd"\n', "my.toml: optimizer must be a table"),
        (SMALLEST + "extends = 3\n", "my.toml, extends must be a text, not 3"),
        (of_layers(FLAT, 'layer = "dense", units = 10.0'), "layer 1 (dense) units must be an integer, not 10.0"),
        (of_layers(FLAT, 'layer = "dense", units = true'), "layer 1 (dense) units must be an integer, not True"),
        (of_layers(FLAT, DENSE + ', init = "xavier"'), "init must be 'he' or 'uniform', not 'xavier'"),
        # ranges
        (in_train("epochs = 0"), "my.toml, [train]: epochs must be at least 1, not 0"),
        (in_train("batch_size = 0"), "[train]: batch_size must be at least 1, not 0"),
        (in_train("[mining]\nshare = 0"), "my.toml, [mining]: share must be greater than 0 and at most 1, not 0.0"),
        (
            in_train("[mining]\nhardest = 0.5"),
            "[mining]: hardest is of an epoch that leaves images out: set share below 1",
        ),
        (
            in_train("[mining]\nshare = 0.5\nhardest = 0.5\ndraws = 2"),
            "my.toml, [mining]: draws are as [augment] says, and it says nothing: set draws = 1",
        ),
        (
            in_train('batch_size = "all"\n[mining]\nshare = 0.5'),
            'my.toml, [mining]: a batch_size of "all" takes all images in each step: set share = 1 and hardest = 0',
        ),
        (in_train("shards = -1"), "[train]: shards must be at least 1, not -1"),
        (in_train("report_every = 0"), "[train]: report_every must be at least 1, not 0"),
        (of_layers(FLAT, 'layer = "dense", units = 0'), "layer 1 (dense): units must be greater than 0, not 0"),
        (of_layers(FLAT, 'layer = "dropout", rate = 1', DENSE), "rate must be at least 0 and less than 1, not 1.0"),
        (of_layers(FLAT, 'layer = "dropout", rate = nan', DENSE), "my.toml, layer 1 (dropout)"),
        (of_layers(FLAT, DENSE + ", bound = -0.5"), "bound must be greater than 0, not -0.5"),
        (of_layers(FLAT, DENSE + ", bound = nan"), "layer 1 (dense)"),
        (of_layers(FLAT, DENSE + ", bound = inf"), "layer 1 (dense)"),
        (in_optimizer("lr = -1"), "[optimizer]: lr must be at least 0, not -1.0"),
        (in_optimizer("lr = inf"), "my.toml, [optimizer]"),
        (in_optimizer("lr = nan"), "my.toml, [optimizer]"),
        (in_optimizer("lr = 1" + 400 * "0"), "my.toml, [optimizer]"),
        (in_optimizer("epsilon = 0"), "[optimizer]: epsilon must be greater than 0, not 0.0"),
        (in_optimizer("epsilon = nan"), "my.toml, [optimizer]"),
        (in_optimizer("epsilon = inf"), "my.toml, [optimizer]"),
        (in_optimizer("beta1 = 1"), "[optimizer]: beta1 must be at least 0 and less than 1, not 1.0"),
        (in_optimizer("momentum = 1.5", "sgd"), "[optimizer]: momentum must be at least 0 and less than 1, not 1.5"),
        (in_optimizer("nesterov = true", "sgd"), "[optimizer]: nesterov needs a momentum greater than 0"),
        (
            in_optimizer("", "adamv"),
            "[optimizer] name: 'adamv' is not one of sgd, adam, adamw, muon, did you mean 'adam'?",
        ),
        (SMALLEST + "[optimizer]\nname = 3\n", "[optimizer] name: 3 is not one of sgd, adam, adamw, muon"),
        (in_optimizer("decoupled = true"), "[optimizer]: unknown key 'decoupled'"),
        (in_train("clip = -1"), "[train]: clip must be at least 0, not -1.0"),
        (in_train("clip = nan"), "[train] clip must be a finite number"),
        (SMALLEST + '[schedule]\nname = "cosin"\n', "[schedule] name must be"),
        (SMALLEST + "[schedule]\nwarmup = 1\n", "[schedule]: warmup must be at least 0 and less than 1, not 1.0"),
        (SMALLEST + "[schedule]\nstages = 0\n", "[schedule]: stages must be at least 1, not 0"),
        (SMALLEST + '[average]\nname = "emma"\n', "[average] name: 'emma' is not one of none, ema, swa, did you mean"),
        (SMALLEST + "[average]\ndecay = 0.9\n", "[average]: unknown key 'decay'; it takes none"),
        (SMALLEST + '[average]\nname = "ema"\nstart = 0.9\n', "[average]: unknown key 'start'"),
        (SMALLEST + '[average]\nname = "ema"\ndecay = 1\n', "[average]: decay must be at least 0 and less than 1"),
        (SMALLEST + '[average]\nname = "swa"\nstart = 1\n', "[average]: start must be at least 0 and less than 1"),
        (SMALLEST + '[average]\nname = "swa"\nevery = 0\n', "[average]: every must be at least 1, not 0"),
        (SMALLEST + "[loss]\nlabel_smoothing = 1\n", "[loss]: label_smoothing must be at least 0 and less than 1"),
    ],
)
def test_a_fault_is_named_with_its_file_and_key(text: str, said: str) -> None:
    assert said in refusal(write(text))


@pytest.mark.parametrize("units", [10**12, 10**20, 10**400])
def test_a_network_larger_than_any_memory_is_refused(units: int) -> None:
    message = refusal(write(of_layers(FLAT, f'layer = "dense", units = {units}', DENSE)))
    assert "my" in message


# --- extends


def test_a_recipe_extends_a_packaged_one_key_by_key() -> None:
    base = recipes.load("mlp")
    recipe = recipes.load(write('extends = "mlp"\n[train]\nepochs = 3\n'))
    assert recipe.name == "my"
    assert recipe.network == base.network
    assert recipe.optimizer == base.optimizer
    assert recipe.schedule == base.schedule
    assert (recipe.train.epochs, recipe.train.batch_size) == (3, base.train.batch_size)


def test_a_recipe_extends_a_file_beside_it_wherever_it_is_read_from() -> None:
    write(SMALLEST + '[optimizer]\nname = "sgd"\nlr = 0.5\n', "folder/base.toml")
    write('extends = "base.toml"\n[train]\nepochs = 3\n', "folder/middle.toml")
    recipe = recipes.load(write('extends = "middle.toml"\n[optimizer]\nmomentum = 0.5\n', "folder/top.toml"))
    assert recipe.optimizer == SGD(lr=0.5, momentum=0.5)
    assert recipe.train.epochs == 3
    recipe = recipes.load(write('extends = "folder/top.toml"\n', "my.toml"))
    assert recipe.optimizer == SGD(lr=0.5, momentum=0.5)


def test_another_optimizer_takes_nothing_from_the_one_it_replaces() -> None:
    write(SMALLEST + '[optimizer]\nname = "adamw"\nlr = 0.5\nbeta1 = 0.5\n', "base.toml")
    recipe = recipes.load(write('extends = "base.toml"\n[optimizer]\nname = "sgd"\n'))
    assert recipe.optimizer == SGD()
    recipe = recipes.load(write('extends = "base.toml"\n[optimizer]\nname = "adamw"\nlr = 0.25\n'))
    assert recipe.optimizer == AdamW(lr=0.25, beta1=0.5)


def test_the_default_optimizer_may_be_named_without_losing_the_bases_values() -> None:
    write(SMALLEST + "[optimizer]\nlr = 0.5\n", "base.toml")  # adamw, as it names none
    recipe = recipes.load(write('extends = "base.toml"\n[optimizer]\nname = "adamw"\nbeta1 = 0.5\n'))
    assert recipe.optimizer == AdamW(lr=0.5, beta1=0.5)


def test_another_average_takes_nothing_from_the_one_it_replaces() -> None:
    write(SMALLEST + '[average]\nname = "swa"\nstart = 0.5\nevery = 2\n', "base.toml")
    assert recipes.load(write('extends = "base.toml"\n[average]\nname = "ema"\n')).average == EMA()
    assert recipes.load(write('extends = "base.toml"\n[average]\nevery = 3\n')).average == SWA(0.5, 3)


def test_an_absolute_path_may_be_extended() -> None:
    base = Path(write(SMALLEST + "[train]\nepochs = 3\n", "folder/base.toml")).absolute()
    assert recipes.load(write(f'extends = "{base}"\n')).train.epochs == 3


def test_a_fault_in_what_is_extended_is_found() -> None:
    assert "there is no recipe 'mlpp', did you mean 'mlp'?" in refusal(write('extends = "mlpp"\n'))
    assert "there is no recipe file base.toml" in refusal(write('extends = "base.toml"\n'))
    write("network = [", "base.toml")
    assert refusal(write('extends = "base.toml"\n')).startswith("base.toml is not valid TOML")
    write(SMALLEST + 'optimizer = "sgd"\n', "base.toml")
    assert "optimizer must be a table" in refusal(write('extends = "base.toml"\n'))
    with contextlib.suppress(DigitsError):  # the recipe itself mends it: taken or refused, but no traceback
        recipes.load(write('extends = "base.toml"\n[optimizer]\nname = "adamw"\n'))


@pytest.mark.parametrize(
    "files",
    [
        {"my.toml": "my.toml"},
        {"my.toml": "./my.toml"},
        {"my.toml": "folder/../my.toml"},
        {"my.toml": "a.toml", "a.toml": "my.toml"},
        {"my.toml": "folder/a.toml", "folder/a.toml": "b.toml", "folder/b.toml": "../my.toml"},
    ],
)
def test_a_recipe_that_extends_itself_in_a_circle_is_refused(files: dict[str, str]) -> None:
    Path("folder").mkdir()
    for name, base in files.items():
        write(f'extends = "{base}"\n', name)
    assert "refers to itself" in refusal("my.toml")
    assert "refers to itself" in refusal(f".{os.sep}my.toml")


def test_others_are_packaged_recipes_and_files_beside_the_one_that_names_them() -> None:
    write('extends = "mlp"\n[train]\nepochs = 3\n', "folder/short.toml")
    write('extends = "cnn"\n[ensemble]\nmembers = 7\nothers = ["mlp", "short.toml"]\n', "folder/mixed.toml")
    mixed = recipes.load(write('extends = "folder/mixed.toml"\n[train]\nepochs = 5\n'))
    assert [kind.name for kind in mixed.kinds()] == ["my", "mlp", "short"]
    assert [kind.train.epochs for kind in mixed.kinds()] == [5, recipes.load("mlp").train.epochs, 3]
    assert mixed.kinds()[1] == recipes.load("mlp")
    assert [mixed.member(number).name for number in range(7)] == ["my", "mlp", "short", "my", "mlp", "short", "my"]
    cnn, mlp = (recipes.load(name).build().count for name in ("cnn", "mlp"))
    assert mixed.parameters == 3 * cnn + 4 * mlp
    assert from_table(json.loads(json.dumps(mixed.resolved())), "run.json") == mixed


@pytest.mark.parametrize(
    ("ensemble", "said"),
    [
        ('others = ["mlpp"]\nmembers = 2', "there is no recipe 'mlpp', did you mean 'mlp'?"),
        ('others = ["none.toml"]\nmembers = 2', "there is no recipe file none.toml"),
        ('others = ["my.toml"]\nmembers = 2', "my.toml refers to itself"),
        ('others = ["best"]\nmembers = 2', "[ensemble]: others must be of single networks, and best is an ensemble"),
        ('others = "mlp"\nmembers = 2', "[ensemble] others must be a list of recipes, such as"),
        ("others = [3]\nmembers = 2", "[ensemble] others must be a text, not 3"),
        ('others = ["mlp"]', "[ensemble]: members must be at least 2, one of each recipe, not 1"),
        (
            'others = ["mlp"]\nmembers = 5\nfolds = 3',
            "[ensemble]: folds must be 0 for none, or from 2 to the number of members of each recipe, 2, not 3",
        ),
    ],
)
def test_others_that_cannot_be_are_refused(ensemble: str, said: str) -> None:
    assert said in refusal(write(f"{SMALLEST}[ensemble]\n{ensemble}\n"))


def test_a_file_named_like_a_packaged_recipe_may_extend_it() -> None:
    assert recipes.load(write('extends = "mlp"\n[train]\nepochs = 3\n', "mlp.toml")).train.epochs == 3


def test_a_recipe_is_frozen() -> None:
    recipe: Any = recipes.load("mlp")
    with pytest.raises(AttributeError):
        recipe.name = "other"
    assert isinstance(recipe, Recipe)
