"""What a recipe comes to, before it is trained."""

import time
from typing import Any

import numpy as np
import pytest

from digits import outline
from digits import recipe as recipes
from digits.nn import Network
from digits.recipe import Recipe, from_table

NETWORK = [
    {
        "layer": "residual",
        "layers": [{"layer": "conv", "channels": 4, "stride": 2, "padding": "same"}, {"layer": "batchnorm"}],
    },
    {"layer": "flatten"},
    {"layer": "dense", "units": 10},
]


def small(**train: Any) -> Recipe:
    return from_table({"network": NETWORK, "train": {"batch_size": 100, **train}}, "small")


@pytest.mark.parametrize("recipe", [small(), *map(recipes.load, recipes.names())], ids=lambda recipe: recipe.name)
def test_rows_add_up_to_the_network(recipe: Recipe) -> None:
    network = recipe.build()
    rows = list(outline.rows(network.layers))
    assert sum(row.parameters for row in rows) == network.count
    assert sum(row.multiply_adds for row in rows) == network.multiply_adds
    assert rows[-1].output == (10,)


def test_a_row_says_what_a_layer_is_and_does() -> None:
    rows = list(outline.rows(small().build().layers))
    assert [(row.number, row.layer, row.output, row.parameters, row.multiply_adds) for row in rows] == [
        ("0", "residual", (14, 14, 4), 0, 0),
        ("0.0", "conv", (14, 14, 4), 4 * 9 + 4, 14 * 14 * 4 * 9),
        ("0.1", "batchnorm", (14, 14, 4), 8, 0),
        ("0.2", "conv", (14, 14, 4), 4, 14 * 14 * 4),  # the projection
        ("1", "flatten", (784,), 0, 0),
        ("2", "dense", (10,), 7850, 7840),
    ]
    assert rows[1].settings == {"channels": 4, "stride": 2, "padding": "same"}
    assert rows[0].settings == rows[2].settings == {}


def test_settings_are_what_is_not_the_default() -> None:
    mlp = recipes.load("mlp")
    assert outline.settings(mlp.train) == {"epochs": 160, "batch_size": 256, "shards": 2, "report_every": 20}
    assert outline.settings(recipes.load("seed").loss) == {}


def test_tables_are_all_of_a_recipes_and_say_what_is_not_the_default() -> None:
    found = outline.tables(recipes.load("best"))
    learning, rest = (
        ["train", "mining", "optimizer", "schedule", "average", "loss"],
        ["teacher", "augment", "predict", "ensemble"],
    )
    assert list(found) == learning + rest
    assert found["optimizer"] == ["adamw", "lr=0.003", "weight_decay=0.02"]
    assert found["schedule"] == ["one-cycle", "warmup=0.2"]
    assert found["average"] == ["none"]
    assert found["predict"] == ["rotate=5.0", "shear=3.0", "scale=0.05", "shift=0.03", "views=5"]
    assert found["ensemble"] == ["members=8", "others=deotte,tiny,cnn"]


def test_an_epochs_time_is_that_of_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(self: Network, x: np.ndarray, rng: object = None, forward: Any = Network.forward) -> Any:
        if rng:
            time.sleep(0.01)
        return forward(self, x, rng)

    monkeypatch.setattr(Network, "forward", slow)
    # 5 steps of 2 shards, each of which sleeps a hundredth of a second; some more for its work
    assert 0.1 < outline.epoch_seconds(small(shards=2), 1, images=450, look=0.2) < 1
    assert 0.02 < outline.epoch_seconds(small(shards=2, batch_size="all"), 1, images=450, look=0.2) < 0.4


def test_a_trainings_time_is_its_epochs_and_its_members_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def epoch(_: Recipe, workers: int, images: int, look: float) -> float:
        asked.append((workers, images, look))
        return 3.0

    monkeypatch.setattr(outline, "epoch_seconds", epoch)
    assert outline.training_seconds(small(epochs=5), 2, 100) == 15
    many = from_table({**small(epochs=5).resolved(), "ensemble": {"members": 7}}, "many")
    assert outline.training_seconds(many, 2, 100, look=5.0) == 15 * 7 / 2
    assert asked == [(2, 100, outline.GLANCE_SECONDS), (1, 100, 5.0)]
    others = {"members": 5, "others": [small(epochs=100).resolved()]}
    mixed = from_table({**small(epochs=5).resolved(), "ensemble": others}, "mixed")
    assert outline.training_seconds(mixed, 2, 100) == 3 * (3 * 5 + 2 * 100) / 2
    assert outline.member_seconds(mixed, 2, 100) == [7.5, 150, 7.5, 150, 7.5]
    assert outline.tables(mixed)["ensemble"] == ["members=5", f"others={small().name}"]


def test_a_recipe_that_would_diverge_is_timed_all_the_same() -> None:
    table = {**small().resolved(), "optimizer": {"name": "sgd", "lr": 1e30}, "train": {"epochs": 1}}
    assert 0 < outline.epoch_seconds(from_table(table, "wild"), 1, images=300, look=0.05) < 60
