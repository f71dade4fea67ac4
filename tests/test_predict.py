"""From bytes to probabilities."""

from typing import Any

import numpy as np
import pytest

from digits.data import Data
from digits.nn import BatchNorm, Conv2D, Dense, Dropout, Flatten, Network, ReLU, Workers, softmax
from digits.predict import Mix, Views, blend, network_input, predict, sharpened


def classifier() -> Network:
    layers = [Dropout(0.5), Flatten(), Dense(10)]
    return Network(layers, (28, 28, 1)).initialise(np.random.default_rng(0))


def test_bytes_become_numbers_from_0_to_1() -> None:
    images = np.arange(256, dtype=np.uint8).repeat(784).reshape(256, 28, 28)
    x = network_input(images)
    assert x.shape == (256, 28, 28, 1)
    assert x.dtype == np.float32
    assert x.min() == 0
    assert x.max() == 1
    np.testing.assert_allclose(x[:, 3, 5, 0], np.arange(256) / 255, rtol=1e-6)


def test_predictions_are_one_distribution_an_image_in_the_images_order(sample_data: Data) -> None:
    images, network = sample_data.images, classifier()
    p = predict(network, images, Workers(1))
    assert p.shape == (600, 10)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(p, softmax(network.forward(network_input(images))), rtol=1e-4, atol=1e-6)


def test_norms_are_folded_and_predict_the_same(sample_data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network([Conv2D(4, 5, 3), BatchNorm(), ReLU(), Flatten(), Dense(10)], (28, 28, 1))
    network.initialise(np.random.default_rng(0))
    network.statistics[...] = np.random.default_rng(1).uniform(0.5, 2, len(network.statistics))
    wanted = softmax(network.forward(network_input(sample_data.images)))
    monkeypatch.setattr(BatchNorm, "forward", lambda *_: pytest.fail("a norm was not folded"))
    np.testing.assert_allclose(predict(network, sample_data.images, Workers(1)), wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("count", [2, 4])
def test_any_number_of_workers_predicts_the_same(sample_data: Data, count: int) -> None:
    network = classifier()
    with Workers(count) as workers:
        p = predict(network, sample_data.images, workers)
    np.testing.assert_array_equal(p, predict(network, sample_data.images, Workers(1)))


def test_prediction_changes_neither_images_nor_weights(sample_data: Data) -> None:
    network = classifier()
    images, params = sample_data.images.copy(), network.params.copy()
    predict(network, sample_data.images, Workers(1))
    np.testing.assert_array_equal(sample_data.images, images)
    np.testing.assert_array_equal(network.params, params)


def test_no_images_have_no_probabilities() -> None:
    assert predict(classifier(), np.zeros((0, 28, 28), np.uint8), Workers(1)).shape == (0, 10)


@pytest.mark.parametrize("norm", [False, True])
def test_weights_that_training_has_lost_give_no_warning(sample_data: Data, norm: bool) -> None:
    network = Network([Flatten(), Dense(10), BatchNorm()], (28, 28, 1)) if norm else classifier()
    network.params[...] = network.statistics[...] = 3e38
    assert np.isnan(predict(network, sample_data.images, Workers(1))).all()


def test_a_weighted_blend_is_the_weighted_mean_by_hand() -> None:
    parts = [np.array([[0.8, 0.2]]), np.array([[0.2, 0.8]]), np.array([[0.3, 0.7]])]
    weights = np.array([0.5, 0.25, 0.25])
    np.testing.assert_allclose(blend(parts, weights=weights), [[0.525, 0.475]])  # 0.4 + 0.05 + 0.075
    np.testing.assert_allclose(blend(parts, "votes", weights), [[0.5, 0.5]])
    # 0.8^½ 0.2^¼ 0.3^¼ : 0.2^½ 0.8^¼ 0.7^¼
    first, second = 0.8**0.5 * 0.2**0.25 * 0.3**0.25, 0.2**0.5 * 0.8**0.25 * 0.7**0.25
    np.testing.assert_allclose(blend(parts, "logits", weights), [[first / (first + second), second / (first + second)]])


@pytest.mark.parametrize("how", ["probabilities", "logits", "votes"])
def test_equal_weights_are_none(how: Any) -> None:
    parts = [np.random.default_rng(seed).dirichlet(np.ones(10), 50).astype(np.float32) for seed in range(3)]
    np.testing.assert_allclose(blend(parts, how, np.full(3, 1 / 3)), blend(parts, how), rtol=1e-6)
    np.testing.assert_array_equal(Mix((1 / 3,) * 3, (1.0,) * 3).of(parts, how), blend(parts, how))


def test_a_mix_sharpens_each_member_before_it_is_weighed() -> None:
    parts = [np.array([[0.8, 0.2]]), np.array([[0.5, 0.5]])]
    np.testing.assert_allclose(sharpened(parts[0], 2.0), [[0.64 / 0.68, 0.04 / 0.68]])
    mixed = Mix((0.75, 0.25), (2.0, 1.0)).of(parts, "probabilities")
    np.testing.assert_allclose(mixed, [[0.75 * 0.64 / 0.68 + 0.125, 0.75 * 0.04 / 0.68 + 0.125]])
    np.testing.assert_array_equal(sharpened(np.array([[0.0, 1.0]], np.float32), 3.0), [[0.0, 1.0]])


# --- test-time augmentation


def test_the_first_view_is_the_image_and_the_others_are_deformed(sample_data: Data) -> None:
    images, network = sample_data.images, classifier()
    one = predict(network, images, Workers(1))
    two = predict(network, images, Workers(1), Views(views=2, shift=0.1))
    other = 2 * two - one  # the probabilities of the second view, as the mean is of the two
    np.testing.assert_allclose(other.sum(axis=1), 1, rtol=1e-4)
    assert np.abs(other - one).max(axis=1).mean() > 0.01
    assert other.min() > -1e-5
    more = predict(network, images, Workers(1), Views(views=9, shift=0.1))
    assert np.abs(more - one).mean() < np.abs(other - one).mean()


def test_views_are_the_same_each_time_and_on_any_number_of_workers(sample_data: Data) -> None:
    network, by = classifier(), Views(views=3, rotate=10, elastic=1)
    p = predict(network, sample_data.images, Workers(1), by)
    np.testing.assert_array_equal(p, predict(network, sample_data.images, Workers(1), by))
    with Workers(2) as workers:
        np.testing.assert_array_equal(p, predict(network, sample_data.images, workers, by))


@pytest.mark.parametrize("values", [{"views": 0}, {"views": 2}, {"rotate": 5}, {"views": 1, "shift": 0.1}])
def test_views_that_make_no_sense_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="views"):
        Views(**values)  # type: ignore[arg-type]
