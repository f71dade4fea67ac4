"""What the finite differences don't say of the layers: first values, dropout's odds, what a layer refuses."""

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digits.nn import (
    LAYERS,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MaxPool2D,
    Network,
    ReLU,
    SiLU,
)
from digits.nn.stages import ConvStage


def initialised(layer: Layer, inputs: int) -> Network:
    return Network([layer], (inputs,), np.float64).initialise(np.random.default_rng(0))


def test_dense_is_its_equation() -> None:
    network = Network([dense := Dense(2)], (3,), np.float64)
    dense.W[...] = [[1, 2, 3], [-1, 0, 1]]
    dense.b[...] = [10, 20]
    # 1·1 + 2·0 + 3·2 + 10 = 17, -1 + 2 + 20 = 21;  0 + 2·1 + 0 + 10 = 12, 0 + 20 = 20
    np.testing.assert_array_equal(network.forward(np.array([[1.0, 0, 2], [0, 1, 0]])), [[17, 21], [12, 20]])
    dense.input_gradient = True
    # dx = dy W;  dW = dyᵀ x: its first row is 1 · (1, 0, 2) + 2 · (0, 1, 0);  db = the sum of dy over the images
    np.testing.assert_array_equal(dense.backward(np.array([[1.0, 0], [2, 1]])), [[1, 2, 3], [1, 4, 7]])
    np.testing.assert_array_equal(dense.dW, [[1, 2, 2], [0, 1, 0]])
    np.testing.assert_array_equal(dense.db, [3, 1])


def test_relu_is_its_equation() -> None:
    relu = ReLU()
    np.testing.assert_array_equal(relu.forward(np.array([[-2.0, 0.0, 3.0]])), [[0, 0, 3]])
    np.testing.assert_array_equal(relu.backward(np.array([[5.0, 6.0, 7.0]])), [[0, 0, 7]])


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_relu_behind_a_max_pooling_is_one_before_it(size: int) -> None:
    rng = np.random.default_rng(size)
    x = rng.integers(-2, 3, (3, 7, 8, 4)).astype(np.float64)  # many of them equal
    network = Network([ReLU(), MaxPool2D(size), Dropout(0.0)], x.shape[1:], np.float64)
    assert [layer.name for layer in network.order] == ["maxpool", "relu", "dropout"]
    relu, pool = ReLU(), MaxPool2D(size)
    y = pool.forward(relu.forward(x.copy(), rng), rng)
    np.testing.assert_array_equal(network.forward(x.copy(), rng), y)
    dy = rng.normal(size=y.shape)
    dx = dy.copy()
    for layer in reversed(network.order):
        dx = layer.backward(dx)
    np.testing.assert_array_equal(dx, relu.backward(pool.backward(dy.copy())))
    # And each square's gradient is that of one of its largest pixels, if any is above 0.
    squares = y.shape[1] * size, y.shape[2] * size
    assert np.isclose(dx.sum(), dy[y > 0].sum())
    assert not dx[:, squares[0] :].any()
    assert not dx[:, :, squares[1] :].any()


@pytest.mark.parametrize("after", [MaxPool2D(), SiLU(), Dropout(0.5)], ids=lambda layer: layer.name)
def test_a_dropout_of_nothing_changes_no_gradient(after: Layer) -> None:
    """It hands on what the ReLU before it still needs: the layer behind it must not write there."""

    def gradients(*between: Layer) -> np.ndarray:
        layers = [Conv2D(4, padding="same"), ReLU(), *between, copy.deepcopy(after), Flatten(), Dense(3)]
        network = Network(layers, (8, 8, 1), np.float64).initialise(np.random.default_rng(1))
        network.forward(np.random.default_rng(2).normal(size=(5, 8, 8, 1)), np.random.default_rng(3))
        network.backward(np.random.default_rng(4).normal(size=(5, 3)))
        return network.grads

    np.testing.assert_allclose(gradients(Dropout(0.0)), gradients(), rtol=1e-12)


@pytest.mark.parametrize("shape", [(12,), (3, 4), (2, 3, 2)])
@pytest.mark.parametrize("innermost", [0, 1, -1])
def test_flatten_keeps_the_order_of_an_image_however_it_lies_in_memory(shape: tuple[int, ...], innermost: int) -> None:
    x = np.arange(24.0).reshape(2, *shape)
    x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, innermost, -1)), -1, innermost)
    np.testing.assert_array_equal(Flatten().forward(x), [range(12), range(12, 24)])
    np.testing.assert_array_equal(Flatten().forward(x[:, ::-1]), x[:, ::-1].reshape(2, -1))


def test_he_draws_weights_of_variance_2_by_inputs_and_no_bias() -> None:
    dense = Dense(400)
    initialised(dense, 100)
    assert dense.W.std() == pytest.approx(np.sqrt(2 / 100), rel=0.02)  # of 40,000: a standard error of 0.35%
    assert abs(dense.W.mean()) < 4 * np.sqrt(2 / 100 / 40_000)
    kurtosis = ((dense.W / dense.W.std()) ** 4).mean()
    assert kurtosis == pytest.approx(3, abs=0.15)  # a normal distribution's; a uniform one's is 1.8
    assert not dense.b.any()


def test_uniform_draws_weights_and_biases_within_the_bound() -> None:
    dense = Dense(400, init="uniform", bound=0.25)
    initialised(dense, 100)
    for drawn, error in ((dense.W, 0.01), (dense.b, 0.1)):
        assert 0.24 < np.abs(drawn).max() <= 0.25
        assert drawn.std() == pytest.approx(0.25 / np.sqrt(3), rel=error)
        assert abs(drawn.mean()) < 5 * 0.25 / np.sqrt(3 * drawn.size)


def test_silu_is_x_times_its_sigmoid() -> None:
    x = np.array([[0.0, 1, -1, 20, -20, 1e4, -1e4]])
    sigmoid_1, sigmoid_20 = 1 / (1 + np.exp(-1.0)), 1 / (1 + np.exp(20.0))
    wanted = [[0, sigmoid_1, sigmoid_1 - 1, 20 * (1 - sigmoid_20), -20 * sigmoid_20, 1e4, 0]]
    np.testing.assert_allclose(SiLU().forward(x), wanted, rtol=1e-6, atol=1e-12)
    single = SiLU().forward(x.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, wanted, rtol=1e-5, atol=1e-6)


def test_dropout_drops_its_share_and_scales_the_rest_up() -> None:
    x = np.ones((200, 500))
    y = Dropout(0.3).forward(x, np.random.default_rng(0))
    assert set(np.unique(y)) == {0.0, y.max()}
    assert y.max() == pytest.approx(1 / 0.7, rel=1e-4)  # the rate is rounded to one of 65536
    assert (y == 0).mean() == pytest.approx(0.3, abs=0.006)  # 4 standard errors
    assert y.mean() == pytest.approx(1, abs=0.01)
    for axis in (0, 1):  # each image and each unit has its share
        assert (y == 0).mean(axis=axis).std() < 2 * np.sqrt(0.3 * 0.7 / x.shape[axis])


def test_dropout_draws_a_new_mask_at_every_step_and_the_same_from_the_same_generator() -> None:
    x, dropout = np.ones((4, 50), np.float32), Dropout(0.5)
    rng = np.random.default_rng(0)
    first, second = dropout.forward(x, rng).copy(), dropout.forward(x, rng).copy()
    assert (first != second).any()
    np.testing.assert_array_equal(dropout.forward(x, np.random.default_rng(0)), first)


def test_dropout_is_nothing_in_prediction() -> None:
    x, dropout = np.ones((4, 50)), Dropout(0.5)
    dropout.forward(x, np.random.default_rng(0))
    np.testing.assert_array_equal(dropout.forward(x), x)
    np.testing.assert_array_equal(dropout.backward(x), x)


@settings(deadline=None)
@given(rate=st.floats(0, 1, exclude_max=True))
def test_any_rate_below_1_gives_finite_numbers(rate: float) -> None:
    y = Dropout(rate).forward(np.ones((3, 7), np.float32), np.random.default_rng(0))
    assert np.isfinite(y).all()


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, float("nan")])
def test_dropout_refuses_a_rate_that_is_none(rate: float) -> None:
    with pytest.raises(ValueError, match="rate must be at least 0 and less than 1"):
        Dropout(rate)


@pytest.mark.parametrize(
    ("hyperparameters", "name"),
    [
        ({"units": 0}, "units"),
        ({"units": -3}, "units"),
        ({"units": 3, "bound": 0.0}, "bound"),
        ({"units": 3, "bound": -1.0}, "bound"),
        ({"units": 3, "bound": float("nan")}, "bound"),
        ({"units": 3, "bound": float("inf")}, "bound"),
    ],
)
def test_dense_refuses_what_makes_no_layer(hyperparameters: dict[str, float], name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be"):
        Dense(**hyperparameters)  # type: ignore[arg-type]


def test_a_convolution_refuses_a_bias_of_another_kind() -> None:
    with pytest.raises(ValueError, match="bias must be true, false or 'untied', not 'tied'"):
        Conv2D(4, bias="tied")  # type: ignore[arg-type]


def test_a_dense_layer_on_images_says_to_flatten_them() -> None:
    with pytest.raises(ValueError, match=r"layer 1 \(dense\): .*put a flatten before it"):
        Network([ReLU(), Dense(10)], (28, 28, 1))


@pytest.mark.parametrize("layer", [Dense(3, init="uniform", bound=0.25), Dropout(0.3), Flatten(), ReLU()])
def test_a_layer_is_its_spec(layer: Layer) -> None:
    spec = layer.spec()
    assert LAYERS[spec.pop("layer")](**spec) == layer


def test_every_layer_is_known_by_its_name() -> None:
    assert all(LAYERS[name].name == name for name in LAYERS)
    computed_as_one = {ConvStage}  # of layers that a recipe names by themselves
    assert subclasses(Layer) == set(LAYERS.values()) | computed_as_one


def subclasses(layer: type[Layer]) -> set[type[Layer]]:
    return {found for direct in layer.__subclasses__() for found in {direct, *subclasses(direct)}}
