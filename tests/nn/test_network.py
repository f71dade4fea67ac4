"""A network's vectors, and the file it is kept in: there and back again, and damaged in every way we know."""

import gc
import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digits.nn import (
    BatchNorm,
    CheckpointError,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Layer,
    Network,
    ReLU,
    Residual,
    read_arrays,
    write_arrays,
)


def perceptron(dtype: type = np.float32) -> Network:
    layers = [Flatten(), Dense(4), ReLU(), Dropout(0.5), Dense(4), ReLU(), Dense(4), ReLU(), Dense(3, "uniform", 0.25)]
    return Network(layers, (2, 2, 1), dtype).initialise(np.random.default_rng(0))


def test_parameters_and_gradients_are_views_into_flat_vectors() -> None:
    network = Network([Flatten(), dense := Dense(3), ReLU(), last := Dense(2)], (2, 2, 1))
    assert network.count == len(network.params) == len(network.grads) == 3 * 4 + 3 + 2 * 3 + 2
    network.params[...] = range(23)
    network.grads[...] = range(100, 123)
    np.testing.assert_array_equal(dense.W, np.arange(12).reshape(3, 4))
    np.testing.assert_array_equal(dense.b, [12, 13, 14])
    np.testing.assert_array_equal(last.W, np.arange(15, 21).reshape(2, 3))
    np.testing.assert_array_equal(last.b, [21, 22])
    np.testing.assert_array_equal(dense.dW, np.arange(100, 112).reshape(3, 4))
    np.testing.assert_array_equal(last.db, [121, 122])
    assert {name: parameter.shape for name, parameter in network.named_arrays()} == {
        "1.W": (3, 4),
        "1.b": (3,),
        "3.W": (2, 3),
        "3.b": (2,),
    }


def test_weight_decay_is_for_weights_and_neither_for_biases_nor_for_norms() -> None:
    network = Network([Dense(2), BatchNorm(), ReLU(), Dense(1)], (3,))
    assert network.decayed() == [slice(0, 6), slice(12, 14)]  # then 2 biases, 2 γ and 2 β, and 1 bias
    assert Network([Conv2D(3, bias="untied")], (4, 5, 2)).decayed() == [slice(0, 54)]  # then 2 x 3 x 3 biases


@settings(deadline=None)
@given(start=st.integers(0, 15), size=st.integers(0, 15))
def test_a_block_of_the_parameters_decays_where_the_whole_does(start: int, size: int) -> None:
    network = Network([Dense(2), BatchNorm(), ReLU(), Dense(1)], (3,))
    whole, block = np.zeros(15), np.zeros(15)
    for part in network.decayed():
        whole[part] = 1
    for part in network.decayed(start, min(start + size, 15)):
        block[start : start + size][part] = 1
    np.testing.assert_array_equal(block[start : start + size], whole[start : start + size])
    assert block.sum() == whole[start : start + size].sum()


def test_hidden_weights_are_those_of_all_layers_but_the_first_and_the_last() -> None:
    inner = [Conv2D(3, kernel=1, bias=False), BatchNorm()]
    layers = [Conv2D(2), ReLU(), Conv2D(3), Residual([layer.spec() for layer in inner]), Flatten(), Dense(4), Dense(10)]
    network = Network(layers, (6, 5, 1))
    network.params[...] = range(network.count)
    (place, shape), *others = network.hidden()
    assert (place, shape) == (slice(20, 20 + 9 * 2 * 3), (18, 3))  # behind 9 x 2 weights and 2 biases
    np.testing.assert_array_equal(network.params[place].reshape(shape), layers[2].W.reshape(18, 3))  # type: ignore[attr-defined]
    assert [shape for _, shape in others] == [(3, 3), (4, 6)]
    assert Network([Flatten(), Dense(3), Dense(2)], (2, 2, 1)).hidden() == []


def test_the_same_generator_draws_the_same_parameters() -> None:
    first, second, other = perceptron(), perceptron(), perceptron().initialise(np.random.default_rng(1))
    np.testing.assert_array_equal(first.params, second.params)
    assert (first.params != other.params).any()


def test_backward_fills_in_every_gradient_anew() -> None:
    network = perceptron()
    x, dy = np.ones((5, 2, 2, 1), np.float32), np.ones((5, 3), np.float32)
    network.forward(x)
    network.backward(dy)
    once = network.grads.copy()
    network.grads[...] = np.nan
    network.backward(dy)
    np.testing.assert_array_equal(network.grads, once)


def test_an_image_alone_is_predicted_as_in_a_batch() -> None:
    network = perceptron(np.float64)
    x = np.random.default_rng(1).normal(size=(6, 2, 2, 1))
    together = network.forward(x).copy()
    alone = [network.forward(x[at : at + 1])[0].copy() for at in range(6)]
    np.testing.assert_allclose(together, alone, rtol=1e-12)


layers = st.one_of(
    st.builds(Dense, st.integers(1, 5), st.sampled_from(["he", "uniform"]), st.floats(0.1, 2)),
    st.builds(Dropout, st.floats(0, 0.9)),
    st.builds(ReLU),
    st.builds(Flatten),
)


@settings(deadline=None, max_examples=50)
@given(
    layers=st.lists(layers, max_size=6),
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_a_network_is_saved_and_loaded_whole(
    layers: list[Layer], shape: list[int], dtype: type, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("network") / "weights.npz"
    network = Network([Flatten(), *layers, Dense(3)], tuple(shape), dtype).initialise(np.random.default_rng(0))
    network.save(path)
    loaded = Network.load(path)
    assert loaded.layers == network.layers
    assert (loaded.input_shape, loaded.output_shape) == (network.input_shape, network.output_shape)
    assert loaded.params.dtype == dtype
    np.testing.assert_array_equal(loaded.params, network.params)
    x = np.random.default_rng(1).normal(size=(4, *shape)).astype(dtype)
    np.testing.assert_array_equal(loaded.forward(x), network.forward(x))


def test_equal_layers_keep_parameters_of_their_own(tmp_path: Path) -> None:
    network = perceptron()
    network.save(tmp_path / "weights.npz")
    loaded = dict(Network.load(tmp_path / "weights.npz").named_arrays())
    assert (loaded["4.W"] != loaded["6.W"]).any()
    for name, parameter in network.named_arrays():
        np.testing.assert_array_equal(loaded[name], parameter)


def test_a_network_without_parameters_is_saved_and_loaded(tmp_path: Path) -> None:
    Network([Flatten(), ReLU()], (2, 2)).save(tmp_path / "weights.npz")
    assert Network.load(tmp_path / "weights.npz").layers == [Flatten(), ReLU()]


def test_the_file_says_what_it_is_to_any_program_that_reads_npz(tmp_path: Path) -> None:
    perceptron().save(tmp_path / "weights.npz")
    with np.load(tmp_path / "weights.npz", allow_pickle=False) as file:
        spec = json.loads(str(file["network"]))
        assert spec["input_shape"] == [2, 2, 1]
        assert spec["layers"][1] == {"layer": "dense", "units": 4, "init": "he", "bound": 0.5}
        assert file["8.W"].shape == (3, 4)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Network, bytes]:
    """A small network, its file and the file's bytes."""
    network = Network([Dense(1)], (1,)).initialise(np.random.default_rng(0))
    path = tmp_path / "weights.npz"
    network.save(path)
    return path, network, path.read_bytes()


def test_a_file_that_is_cut_short_is_no_checkpoint(saved: tuple[Path, Network, bytes]) -> None:
    path, _, content = saved
    for length in range(0, len(content), 3):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=path.name):
            Network.load(path)
    gc.collect()  # a file that was left open says so now, and pytest makes it a failure


@pytest.mark.parametrize("mask", [0x01, 0xFF])
def test_an_altered_byte_is_noticed_or_does_no_harm(saved: tuple[Path, Network, bytes], mask: int) -> None:
    path, network, content = saved
    noticed = 0
    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ mask]) + content[at + 1 :])
        try:
            loaded = Network.load(path)
        except CheckpointError:
            noticed += 1
        else:  # a byte of the archive's own, such as a date
            np.testing.assert_array_equal(loaded.params, network.params)
            assert loaded.layers == network.layers
    assert noticed > len(content) / 2
    gc.collect()


@pytest.mark.parametrize("method", [1, 8, 9, 12, 14, 93, 98, 99])
def test_a_file_compressed_as_it_is_not_is_no_checkpoint(saved: tuple[Path, Network, bytes], method: int) -> None:
    path, _, content = saved
    altered = bytearray(content)
    for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):  # each file's header, and in the directory
        at = -1
        while (at := content.find(signature, at + 1)) >= 0:
            altered[at + offset] = method
    path.write_bytes(altered)
    with pytest.raises(CheckpointError, match=path.name):
        Network.load(path)


class Bomb:
    """Something that writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_no_code_in_a_file_is_run(saved: tuple[Path, Network, bytes], tmp_path: Path) -> None:
    path, sound, mark = saved[0], read_arrays(saved[0]), tmp_path / "code-was-run"
    bombs = np.array([Bomb(mark)], dtype=object)
    path.write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(CheckpointError, match=path.name):
        Network.load(path)
    np.save(tmp_path / "bomb.npy", bombs)
    with pytest.raises(CheckpointError, match=r"bomb\.npy"):
        Network.load(tmp_path / "bomb.npy")
    for name in ("0.W", "network"):
        write_arrays(path, {**sound, name: bombs})
        with pytest.raises(CheckpointError, match=path.name):
            Network.load(path)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Bomb(mark)))  # it is live
    assert mark.exists()


@pytest.fixture
def sound(saved: tuple[Path, Network, bytes]) -> dict[str, Any]:
    """The arrays of the small network's file."""
    return read_arrays(saved[0])


def test_the_sound_file_that_the_odd_ones_differ_from_is_loaded(sound: dict[str, Any], tmp_path: Path) -> None:
    assert sound.keys() == {"0.W", "0.b", "network"}
    write_arrays(tmp_path / "again.npz", sound)
    assert Network.load(tmp_path / "again.npz").layers == [Dense(1)]


@pytest.mark.parametrize(
    "odd",
    [
        {"0.W": np.ones((2, 1), np.float32)},
        {"0.W": np.ones(1, np.float32)},
        {"0.W": np.array([["one"]])},
        {"0.W": np.ones((1, 1), np.int64), "0.b": np.ones(1, np.int64)},
        {"0.W": np.ones((1, 1), complex), "0.b": np.ones(1, complex)},
        {"0.W": np.ones((1, 1), bool), "0.b": np.ones(1, bool)},
        {"1.W": np.ones((1, 1), np.float32)},
        {"network": np.array("{")},
        {"network": np.array("[]")},
        {"network": np.array("{}")},
        {"network": np.array("null")},
        {"network": np.array("[" * 100_000)},
        {"network": np.ones(3)},
    ],
    ids=lambda odd: " ".join(f"{name} {str(value)[:20]} {value.dtype}" for name, value in odd.items()),
)
def test_arrays_that_are_no_network_are_no_checkpoint(
    odd: dict[str, Any], sound: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "odd.npz"
    write_arrays(path, {**sound, **odd})
    with pytest.raises(CheckpointError, match=path.name):
        Network.load(path)


DENSE = {"layer": "dense", "units": 1}


@pytest.mark.parametrize(
    "odd",
    [
        {"layers": [[]]},
        {"layers": 1},
        {"layers": []},
        {"layers": [{}]},
        {"layers": [{"layer": "warp"}]},
        {"layers": [{"layer": ["dense"]}]},
        {"layers": [{"layer": "dense"}]},
        {"layers": [{**DENSE, "warp": 9}]},
        {"layers": [{**DENSE, "units": "1"}]},
        {"layers": [{**DENSE, "units": 1.0}]},
        {"layers": [{**DENSE, "units": -1}]},
        {"layers": [{**DENSE, "units": 10**13}]},
        {"layers": [{**DENSE, "units": 10**30}]},
        {"layers": [DENSE, DENSE]},
        {"layers": [{"layer": "relu"}]},
        {"input_shape": 1},
        {"input_shape": [-1]},
        {"input_shape": [1, 1]},
        {"input_shape": ["1"]},
        {"input_shape": None},
    ],
    ids=str,
)
def test_a_description_that_is_of_no_network_is_no_checkpoint(
    odd: dict[str, Any], sound: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "odd.npz"
    spec = {**json.loads(str(sound["network"])), **odd}
    write_arrays(path, {**sound, "network": np.array(json.dumps(spec))})
    with pytest.raises(CheckpointError, match=path.name):
        Network.load(path)


@pytest.mark.parametrize("left_out", ["0.W", "0.b", "network"])
def test_an_array_that_is_left_out_is_noticed(left_out: str, sound: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "odd.npz"
    del sound[left_out]
    write_arrays(path, sound)
    with pytest.raises(CheckpointError, match=path.name):
        Network.load(path)


def zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def huge_array() -> bytes:
    """The start of an .npy that announces 40 terabytes."""
    file = io.BytesIO()
    header: dict[str, Any] = {"descr": "<f4", "fortran_order": False, "shape": (10**13,)}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a network\n",
        b"PK\x05\x06" + bytes(18),  # an archive with nothing in it
        zipped({"network.npy": b"not an array"}),
        zipped({"network": b"not an array"}),
        zipped({"network.npy": huge_array()}),
        huge_array(),
        bytes(range(256)) * 40,
    ],
    ids=["empty", "text", "no arrays", "text in .npy", "text in zip", "huge", "huge .npy", "noise"],
)
def test_a_file_that_is_something_else_is_no_checkpoint(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=path.name):
        Network.load(path)


def test_no_file_and_a_folder_are_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"weights\.npz is missing"):
        Network.load(tmp_path / "weights.npz")
    with pytest.raises(CheckpointError, match=tmp_path.name):
        Network.load(tmp_path)


def test_arrays_come_back_as_they_went(tmp_path: Path) -> None:
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b.c": np.array("text"), "d": np.zeros(0, np.float32)}
    write_arrays(tmp_path / "arrays", arrays)  # under exactly this name, without .npz
    back = read_arrays(tmp_path / "arrays")
    assert back.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].dtype == array.dtype
