"""The network against PyTorch, in float64: outputs, gradients, statistics and steps of the optimizers.

Skipped where PyTorch is not at hand: `make proof` installs it beside the kit and runs these.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="PyTorch is not installed here: make proof")

from contenders.networks import NETWORKS, network  # noqa: E402
from contenders.pytorch import model_of  # noqa: E402
from digits.nn import (  # noqa: E402
    LAYERS,
    SGD,
    Adam,
    AdamW,
    Array,
    BatchNorm,
    DataParallel,
    Dropout,
    Layer,
    Muon,
    Network,
    Optimizer,
    Shape,
    SoftmaxCrossEntropy,
    Workers,
    layer_of,
)
from digits.nn.network import leaves  # noqa: E402

STEPS = 5
CLASSES = 4
Line = dict[str, Any]
proof = settings(
    deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@st.composite
def image_layers(draw: st.DrawFn, shape: Shape, depth: int = 0) -> tuple[list[Line], Shape]:
    """A few layers that keep images images, and the shape after them."""
    lines: list[Line] = []
    for _ in range(draw(st.integers(2, 5 - depth))):
        kinds = ["conv"] * 3 + ["batchnorm", "relu", "silu", "maxpool", "avgpool"] + ["residual"] * 2 * (depth < 2)
        line: Line = {"layer": draw(st.sampled_from(kinds))}
        smallest = min(shape[:2])
        if line["layer"] == "conv":
            padding = draw(st.sampled_from(["valid", "same", 0, 1, 2]))
            room = smallest + 2 * padding if isinstance(padding, int) else 6 if padding == "same" else smallest
            line |= {
                "channels": draw(st.integers(1, 10)),
                "kernel": draw(st.integers(1, min(room, 6))),
                "stride": draw(st.integers(1, 3)),
                "padding": padding,
                "bias": draw(st.booleans()),
            }
        elif line["layer"] in ("maxpool", "avgpool"):
            line["size"] = draw(st.integers(1, min(smallest, 3)))
        elif line["layer"] == "batchnorm":
            line |= {"momentum": draw(st.sampled_from([0.1, 0.5, 1.0])), "epsilon": draw(st.sampled_from([1e-5, 1e-2]))}
        elif line["layer"] == "residual":
            line["layers"], _ = draw(image_layers(shape, depth + 1))
            if not fits(line, shape):
                continue
        lines.append(line)
        shape = layer_of(line).build(shape)
    return lines, shape


def fits(line: Line, shape: Shape) -> bool:
    """Whether the layer can follow images of this shape: some strides leave nothing to project a residual to."""
    try:
        layer_of(line).build(shape)
    except ValueError:
        return False
    return True


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """A convolutional network, or a perceptron, with random parameters."""
    shape = (draw(st.integers(2, 12)), draw(st.integers(2, 12)), draw(st.integers(1, 9)))
    lines = draw(image_layers(shape))[0] if draw(st.sampled_from([True] * 4 + [False])) else []
    lines.append({"layer": draw(st.sampled_from(["flatten", "globalavgpool"]))})
    for _ in range(draw(st.integers(0, 2))):
        lines += [{"layer": "dense", "units": draw(st.integers(1, 9))}, {"layer": "relu"}]
        lines += [{"layer": "batchnorm"}] * draw(st.integers(0, 1))
    lines.append({"layer": "dense", "units": CLASSES})
    note(f"images of {shape}, layers {lines}")
    return drawn(Network([layer_of(line) for line in lines], shape, np.float64), draw(st.integers(0, 2**32)))


def drawn(network: Network, seed: int) -> Network:
    """The network with every parameter random, γ and β of batch norms too."""
    rng = np.random.default_rng(seed)
    network.initialise(rng)
    network.params += 0.1 * rng.normal(size=network.count)
    return network


def batch(network: Network, seed: int, images: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(images, *network.input_shape)), rng.integers(0, CLASSES, images)


class Twin:
    """The network as PyTorch has it, with the same parameters; arrays come out in the kit's order of axes."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.model = model_of(network).double().train()
        with torch.no_grad():
            for layer, module in self.pairs():
                if isinstance(layer, BatchNorm):
                    module.running_mean.copy_(torch.from_numpy(layer.mean))
                    module.running_var.copy_(torch.from_numpy(layer.variance))
                for array, tensor in zip(parameters(layer), module.parameters(), strict=True):
                    tensor.copy_(torch.from_numpy(array.copy()))

    def pairs(self) -> Iterator[tuple[Layer, Any]]:
        """Each layer that has parameters, and its module."""
        layers = [layer for _, layer in leaves(self.network.layers) if layer.parameter_shapes()]
        modules = [module for module in self.model.modules() if list(module.parameters(recurse=False))]
        return zip(layers, modules, strict=True)

    def forward(self, x: Array) -> Any:
        channels_first = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
        return self.model(torch.from_numpy(channels_first))

    def check(self, gradients: bool = False) -> None:
        """Parameters and statistics, or the gradients, are the same."""
        for layer, module in self.pairs():
            ours, theirs = parameters(layer, "d" if gradients else ""), list(module.parameters())
            for array, tensor in zip(ours, theirs, strict=True):
                close(array, tensor.grad if gradients else tensor)
            if isinstance(layer, BatchNorm) and not gradients:
                close(layer.mean, module.running_mean)
                close(layer.variance, module.running_var)


def parameters(layer: Layer, prefix: str = "") -> list[Array]:
    """The parameters of a layer, or their gradients, as PyTorch has them: kernels are (M, C, k, k) there."""
    arrays = [getattr(layer, prefix + name) for name in layer.parameter_shapes()]
    return [array.transpose(3, 2, 0, 1) if array.ndim == 4 else array for array in arrays]


def close(ours: Array, theirs: Any) -> None:
    wanted = theirs.detach().numpy()
    np.testing.assert_allclose(ours, wanted, rtol=1e-8, atol=1e-8 * max(1.0, float(np.abs(wanted).max(initial=0))))


@proof
@given(
    network=networks(),
    seed=st.integers(0, 2**32),
    images=st.integers(3, 9),
    smoothing=st.sampled_from([0, 0.1]),
    soft=st.booleans(),
)
def test_outputs_gradients_and_statistics_are_pytorchs(
    network: Network, seed: int, images: int, smoothing: float, soft: bool
) -> None:
    x, labels = batch(network, seed, images)
    if soft:
        labels = np.random.default_rng(seed).dirichlet(np.ones(CLASSES), images)
    twin = Twin(network)
    loss = SoftmaxCrossEntropy(smoothing)

    logits = network.forward(x, np.random.default_rng(0))
    theirs = twin.forward(x)
    close(logits, theirs)

    total, _ = loss.forward(logits, labels)
    mean = torch.nn.functional.cross_entropy(theirs, torch.from_numpy(labels), label_smoothing=smoothing)
    assert total / images == pytest.approx(mean.item(), rel=1e-8, abs=1e-10)

    network.backward(loss.backward(images))
    mean.backward()
    twin.check(gradients=True)

    network.observe([network], [images])
    twin.check()
    twin.model.eval()
    close(network.forward(x), twin.forward(x))


# The gradient of weights before a batch norm may be nothing but rounding, and Adam makes all gradients steps of about
# the same size: an epsilon of 1e-4 leaves small ones small. The usual epsilon is checked on given gradients, below.
OPTIMIZERS = {
    "plain": SGD(0.02),
    "momentum": SGD(0.02, momentum=0.9, weight_decay=0.05),
    "Nesterov": SGD(0.02, momentum=0.8, nesterov=True, weight_decay=0.01),
    "Adam": Adam(1e-3, epsilon=1e-4, weight_decay=0.1),
    "AdamW": AdamW(2e-3, beta1=0.8, beta2=0.95, epsilon=1e-4, weight_decay=0.1),
}


def theirs_of(optimizer: Optimizer, parameters: Sequence[Any]) -> Any:
    """The same optimizer in PyTorch; biases and norms do not decay."""
    groups = [
        {"params": [one for one in parameters if one.ndim > 1], "weight_decay": optimizer.weight_decay},
        {"params": [one for one in parameters if one.ndim == 1], "weight_decay": 0.0},
    ]
    if isinstance(optimizer, SGD):
        return torch.optim.SGD(groups, optimizer.lr, optimizer.momentum, nesterov=optimizer.nesterov)
    kind = torch.optim.AdamW if isinstance(optimizer, AdamW) else torch.optim.Adam
    return kind(groups, optimizer.lr, (optimizer.beta1, optimizer.beta2), optimizer.epsilon)


@settings(proof, max_examples=40)
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
@given(network=networks(), seed=st.integers(0, 2**32), images=st.integers(4, 9))
def test_steps_of_an_optimizer_are_pytorchs(optimizer: Optimizer, network: Network, seed: int, images: int) -> None:
    twin = Twin(network)
    theirs = theirs_of(optimizer, list(twin.model.parameters()))
    batches = [batch(network, seed + number, images) for number in range(STEPS)]

    def load(number: int, _: int, part: slice, __: Network) -> tuple[Array, Array, np.random.Generator]:
        x, labels = batches[number - 1]
        return x[part], labels[part], np.random.default_rng(number)

    with Workers(1) as workers:
        parallel = DataParallel(network, SoftmaxCrossEntropy(0.1), optimizer, workers, images, 1, load)
        for number, (x, labels) in enumerate(batches, 1):
            result = parallel.step(images, optimizer.lr, number)
            theirs.zero_grad()
            loss = torch.nn.functional.cross_entropy(twin.forward(x), torch.from_numpy(labels), label_smoothing=0.1)
            loss.backward()
            theirs.step()
            assert result.loss / images == pytest.approx(loss.item(), rel=1e-8, abs=1e-10)
            twin.check()


@pytest.mark.parametrize("optimizer", [*OPTIMIZERS.values(), Adam(), AdamW(0.1, weight_decay=0.5)], ids=repr)
def test_updates_of_an_optimizer_from_given_gradients_are_pytorchs(optimizer: Optimizer) -> None:
    rng = np.random.default_rng(0)
    w, b = rng.normal(size=(5, 4)), rng.normal(size=5)
    weights = [torch.tensor(array, requires_grad=True) for array in (w, b)]
    theirs = theirs_of(optimizer, weights)
    params = np.concatenate([w.ravel(), b])
    state = {name: np.zeros(25) for name in optimizer.states}
    for number in range(1, STEPS + 1):
        gradient = rng.normal(size=25) * 10.0 ** rng.integers(-9, 3, 25)
        for tensor, part in zip(weights, (gradient[:20].reshape(5, 4), gradient[20:]), strict=True):
            tensor.grad = torch.from_numpy(part.copy())
        theirs.step()
        optimizer.update(params, gradient, state, optimizer.lr, number, [slice(0, 20)])
        wanted = torch.cat([tensor.detach().ravel() for tensor in weights]).numpy()
        np.testing.assert_allclose(params, wanted, rtol=1e-12, atol=1e-14)


def test_a_matrix_moves_as_pytorchs_muon_moves_it() -> None:
    # PyTorch's reckons with the 8 binary digits of bfloat16, so that a step is off by a hundredth of its length.
    rng = np.random.default_rng(0)
    w = rng.normal(size=(72, 20))
    tensor = torch.tensor(w, requires_grad=True)
    ours, state = Muon(0.01), {name: np.zeros_like(w) for name in Muon().states}
    theirs = torch.optim.Muon([tensor], 0.01, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    start = w.copy()
    for number in range(1, STEPS + 1):
        gradient = rng.normal(size=w.shape)
        tensor.grad = torch.from_numpy(gradient.copy())
        theirs.step()
        ours.update(w, gradient, state, 0.01, number, [slice(0, w.size)])
    wanted = tensor.detach().numpy()
    assert np.linalg.norm(w - wanted) < 0.02 * np.linalg.norm(wanted - start)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_networks_that_are_timed_side_by_side_are_the_same(name: str) -> None:
    net = drawn(network(name, np.float64), 0)
    x, _ = batch(net, 1, 4)
    twin = Twin(net)
    for one in twin.model.modules():
        if isinstance(one, torch.nn.Dropout):
            one.p = 0.0
    for layer in net.layers:
        if isinstance(layer, Dropout):
            layer.rate = 0.0
    close(net.forward(x, np.random.default_rng(0)), twin.forward(x))
    assert sum(one.numel() for one in twin.model.parameters()) == net.count


def test_every_layer_has_a_module_that_drops_what_it_drops() -> None:
    lines: list[Line] = [{"layer": "dropout", "rate": 0.3}, {"layer": "spatialdropout", "rate": 0.2}]
    first, second = model_of(Network([layer_of(line) for line in lines], (3, 3, 2)))
    assert (type(first), first.p) == (torch.nn.Dropout, 0.3)
    assert (type(second), second.p) == (torch.nn.Dropout2d, 0.2)
    shapes: dict[str, Shape] = {"dense": (5,), "flatten": (4, 4, 2)}
    values: dict[str, Line] = {
        "dense": {"units": 2},
        "conv": {"channels": 3},
        "dropout": {"rate": 0.1},
        "spatialdropout": {"rate": 0.1},
        "residual": {"layers": [{"layer": "relu"}]},
    }
    for name in LAYERS:
        line = {"layer": name, **values.get(name, {})}
        net = Network([layer_of(line)], shapes.get(name, (4, 4, 2)))
        assert len(model_of(net)) == 1
