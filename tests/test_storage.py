"""What is saved comes back with the same bits, always as the same bytes, and a damaged file is refused."""

from __future__ import annotations

import copy
import json
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fusedcell as fc
from models import EVERY_KIND, KIND, Kind, flat, uniform

every_kind = pytest.mark.parametrize("kind", EVERY_KIND, ids=lambda kind: kind.name)
every_dtype = pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int8"])


def same(actual: Any, expected: Any) -> None:
    for a, e in zip(flat(actual), flat(expected), strict=True):
        np.testing.assert_array_equal(a, e)


def layer_of(kind: Kind, dtype: str, **options: Any) -> Any:
    return kind.make(kind.weights(9, 17, layers=2, directions=2), dtype=dtype, **options)


def file_of(header: dict[str, Any], data: bytes) -> bytes:
    """A safetensors file as its specification describes it."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.fixture
def path(tmp_path: Path) -> Path:
    pytest.importorskip("safetensors", minversion="0.8")
    return tmp_path / "layer.safetensors"


@pytest.mark.core
@every_kind
@every_dtype
@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_and_pickles_give_the_same_bits(kind: Kind, dtype: str, clone: Any) -> None:
    x = uniform(31, 5, 2, 9)
    layer = layer_of(kind, dtype, batch_first=True)
    same(clone(layer)(x), layer(x))
    assert repr(clone(layer)) == repr(layer)
    assert clone(layer).batch_first


@every_kind
@every_dtype
def test_a_loaded_layer_has_the_same_bits_on_every_tier(kind: Kind, dtype: str, isa: str, path: Path) -> None:
    x = uniform(31, 5, 2, 9)
    layer = layer_of(kind, dtype)
    fc.save(layer, path)
    loaded = fc.load(path, isa=isa)
    same(loaded(x), layer(x))
    assert loaded.isa == isa
    assert (type(loaded), loaded.dtype, loaded.batch_first) == (type(layer), dtype, False)


@every_kind
@every_dtype
def test_cells_save_and_load(kind: Kind, dtype: str, path: Path) -> None:
    cell = kind.make_cell(kind.weights(9, 17), dtype=dtype)
    fc.save(cell, path)
    same((fc.load(path)(uniform(32, 9)),), (cell(uniform(32, 9)),))
    same((pickle.loads(pickle.dumps(cell))(uniform(32, 9)),), (cell(uniform(32, 9)),))
    assert type(fc.load(path)) is type(cell)


@every_dtype
def test_the_same_layer_gives_the_same_bytes_in_every_process(dtype: str, path: Path) -> None:
    layer = layer_of(KIND["lstm_projected"], dtype)
    fc.save(layer, path)
    again = path.with_name("again.safetensors")
    fc.save(fc.load(path), again)
    assert again.read_bytes() == path.read_bytes()
    script = f"import fusedcell as fc; fc.save(fc.load({str(path)!r}), {str(again)!r})"
    for seed in "12":
        subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ, "PYTHONHASHSEED": seed})
        assert again.read_bytes() == path.read_bytes()


@every_kind
@pytest.mark.core
def test_int8_is_stored_as_it_is_and_not_rounded_again(kind: Kind) -> None:
    # max |w| / 127 times 127 need not be max |w| in float32, so rounding once more could move a scale.
    for seed in range(5):
        layer = kind.make(kind.weights(9, 33, seed=seed), dtype="int8")
        before, after = layer._stack.arrays(), pickle.loads(pickle.dumps(layer))._stack.arrays()
        same((layer.astype("int8")._stack.arrays()[0]["weight_ih_scale"],), (before[0]["weight_ih_scale"],))
        for name, array in before[0].items():
            np.testing.assert_array_equal(after[0][name], array)


@pytest.mark.core
def test_fixed_input_scales_travel(tmp_path: Path) -> None:
    layer = KIND["gru_reset_after"].make(KIND["gru_reset_after"].weights(9, 17, layers=2))
    quantised = layer.astype("int8", input_scales=[0.01, 0.0078125])
    assert pickle.loads(pickle.dumps(quantised)).input_scales == quantised.input_scales
    assert copy.copy(quantised).input_scales == (np.float32(0.01), 0.0078125)
    if pytest.importorskip("safetensors", minversion="0.8"):
        fc.save(quantised, tmp_path / "layer")
        assert fc.load(tmp_path / "layer").input_scales == quantised.input_scales


def test_a_pickle_is_hardly_larger_than_the_weights() -> None:
    layer = KIND["lstm"].make(KIND["lstm"].weights(128, 128), dtype="int8")
    assert len(pickle.dumps(layer)) < 1.05 * layer.nbytes


def test_a_file_is_what_its_documentation_says(path: Path) -> None:
    weight_ih = np.array([[127, -63], [0, 0]], np.float32) / 4
    weight_hh = np.array([[0.5, -1], [2, 0]], np.float32)
    cell = fc.RNNCell(weight_ih, weight_hh, np.array([1, 2], np.float32), np.array([3, 4], np.float32), dtype="int8")
    fc.save(cell, path)
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]

    def tensor(name: str, code: str, dtype: Any) -> Any:
        assert header[name]["dtype"] == code
        first, last = header[name]["data_offsets"]
        return np.frombuffer(body[first:last], dtype).reshape(header[name]["shape"]).tolist()

    assert tensor("weight_ih", "I8", np.int8) == [[127, -63], [0, 0]]
    assert tensor("weight_ih_scale", "F32", np.float32) == [0.25, 0]
    assert tensor("weight_hh", "I8", np.int8) == [[64, -127], [127, 0]]
    assert tensor("weight_hh_scale", "F32", np.float32) == [np.float32(1) / 127, np.float32(2) / 127]
    assert tensor("bias_ih", "F32", np.float32) == [4, 6]
    assert tensor("bias_hh", "F32", np.float32) == [0, 0]
    assert json.loads(header.pop("__metadata__")["fusedcell"]) == {
        "format_version": 1,
        "class": "RNNCell",
        "kind": "rnn_tanh",
        "dtype": "int8",
    }
    assert len(header) == 6


def tiny_file(**changes: Any) -> bytes:
    """A float32 RNN of one unit and one input, weights 2 and 3, written by hand."""
    description = {"format_version": 1, "class": "RNN", "kind": "rnn_relu", "dtype": "float32", "batch_first": True}
    header: dict[str, Any] = {
        "__metadata__": {"fusedcell": json.dumps({**description, **changes})},
        "weight_ih_l0": {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]},
        "weight_hh_l0": {"dtype": "F32", "shape": [1, 1], "data_offsets": [4, 8]},
    }
    return file_of(header, np.array([2, 3], np.float32).tobytes())


def test_a_file_made_by_hand_loads(path: Path) -> None:
    path.write_bytes(tiny_file())
    layer = fc.load(path)
    assert (layer.batch_first, layer.nonlinearity) == (True, "relu")
    assert layer(np.array([[1], [1]], np.float32))[0].tolist() == [[2], [8]]


@given(
    entries=st.dictionaries(st.text(min_size=1), st.text(), min_size=1).filter(lambda found: "fusedcell" not in found)
)
def test_metadata_that_others_add_is_not_looked_at(
    entries: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    pytest.importorskip("safetensors", minversion="0.8")
    path = tmp_path_factory.getbasetemp() / "with metadata"
    data = tiny_file()
    header = json.loads(data[8:-8])
    header["__metadata__"] |= entries
    path.write_bytes(file_of(header, data[-8:]))
    assert fc.load(path)(np.array([[1], [1]], np.float32))[0].tolist() == [[2], [8]]


# What else a description may not say, the exception, and what its message has.
MISFITS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"format_version": 3}, fc.UnsupportedError, "format_version=3 is not supported; supported: 1, 2"),
    ({"format_version": True}, fc.UnsupportedError, "format_version=True is not supported"),
    ({"format_version": [1]}, fc.UnsupportedError, r"format_version=\[1\] is not supported"),
    ({"colour": "red"}, fc.UnsupportedError, "'colour' is not a key of format version 1"),
    ({"reverse": True}, fc.UnsupportedError, "'reverse' is not a key of format version 1"),
    ({"class": "Transformer"}, fc.UnsupportedError, "class='Transformer' of kind='rnn_relu'"),
    ({"class": "LSTM"}, fc.UnsupportedError, "class='LSTM' of kind='rnn_relu'"),
    ({"class": "GRUCell", "kind": "gru_reset_after"}, fc.UnsupportedError, "'weight_hh_l0' is not an array of a"),
    ({"dtype": "int4"}, fc.UnsupportedError, "dtype='int4'"),
    ({"dtype": "int8"}, ValueError, "weight_hh_l0: expected dtype int8, got float32|weight_ih_l0: expected dtype"),
    ({"batch_first": "yes"}, ValueError, "batch_first: expected a bool, got 'yes'"),
    ({"class": "LSTM", "kind": "lstm"}, ValueError, "weight_ih_l0: expected shape"),
]


@pytest.mark.parametrize(("changes", "error", "message"), MISFITS)
def test_descriptions_that_do_not_fit_are_refused(
    changes: dict[str, Any], error: type[Exception], message: str, path: Path
) -> None:
    path.write_bytes(tiny_file(**changes))
    with pytest.raises(error, match=f"{path}: .*({message})"):
        fc.load(path)


def int8_file(weight: int = 5, scale: float = 0.5, **tensors: Any) -> bytes:
    arrays = {
        "weight_ih": np.array([[weight]], np.int8),
        "weight_hh": np.array([[5]], np.int8),
        "weight_ih_scale": np.array([scale], np.float32),
        "weight_hh_scale": np.array([0.5], np.float32),
        **tensors,
    }
    description = {"format_version": 1, "class": "RNNCell", "kind": "rnn_relu", "dtype": "int8"}
    header: dict[str, Any] = {"__metadata__": {"fusedcell": json.dumps(description)}}
    data = b""
    for name, array in arrays.items():
        if array is not None:
            code = {"int8": "I8", "float32": "F32", "float64": "F64"}[array.dtype.name]
            end = len(data) + array.nbytes
            header[name] = {"dtype": code, "shape": array.shape, "data_offsets": [len(data), end]}
            data += array.tobytes()
    return file_of(header, data)


def test_an_int8_file_made_by_hand_loads(path: Path) -> None:
    path.write_bytes(int8_file())
    assert fc.load(path)(np.array([1], np.float32)) == pytest.approx([2.5])


# Files that no layer can be made of, and what the message has.
HOSTILE: list[tuple[bytes, str]] = [
    (int8_file(weight=-128), r"weight_ih: expected whole numbers from -127 to 127, got -128"),
    (int8_file(scale=0), r"weight_ih: expected zero, as the row's scale is zero, got 5"),
    (int8_file(scale=-1), "weight_ih_scale: expected 0 or a scale"),
    (int8_file(scale=np.nan), "weight_ih_scale: expected 0 or a scale"),
    (int8_file(scale=np.inf), "weight_ih_scale: expected 0 or a scale"),
    (int8_file(scale=1e-40), "weight_ih_scale: expected 0 or a scale"),
    (int8_file(weight_hh_scale=None), "weight_hh: expected all weights with scales, or none"),
    (int8_file(weight_ih_scale=None), "weight_ih_scale: missing"),
    (int8_file(weight_ih_scale=np.ones(2, np.float32)), r"weight_ih_scale: expected shape \(1,\), got \(2,\)"),
    (int8_file(weight_hh=np.ones((2, 1), np.int8)), r"weight_hh: expected shape \(1, 1\), got \(2, 1\)"),
    (int8_file(weight_hh=np.ones((1, 1), np.float32)), "weight_hh: expected dtype int8, got float32"),
    (int8_file(bias_ih=np.ones(1)), "bias_ih: dtype F64 is not one of a layer's"),
    (int8_file(bias_ih=np.ones(1, np.int8)), "bias_ih: expected dtype float32, got int8"),
    (int8_file(bias_hr=np.ones(1, np.float32)), "'bias_hr' is not an array of a cell"),
    (int8_file(input_scales=np.ones(2, np.float32)), "input_scales: expected one a layer, 1, got 2"),
    (int8_file(input_scales=np.ones((1, 1), np.float32)), r"input_scales: expected shape \(num_layers,\)"),
    (int8_file(input_scales=np.zeros(1, np.float32)), "input_scales: expected scales from 2"),
    (b"", "not a safetensors file"),
    (b"PK\x03\x04" * 10, "not a safetensors file"),
    (file_of({}, b""), "not written by fusedcell.save"),
    (file_of({"__metadata__": None}, b""), "not written by fusedcell.save"),
    (file_of({"__metadata__": {"fusedcell": "[" * 100_000}}, b""), "nested too deeply|Expecting|not an object"),
    (file_of({"__metadata__": {"fusedcell": "3"}}, b""), "not an object"),
    (file_of({"__metadata__": {"fusedcell": "{"}}, b""), "Expecting"),
    (struct.pack("<Q", 2**63) + b"{}", "not a safetensors file"),
]


@pytest.mark.parametrize(("data", "message"), HOSTILE)
def test_damaged_and_hostile_files_are_refused(data: bytes, message: str, path: Path) -> None:
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message):
        fc.load(path)


def test_a_layer_number_without_bound_takes_no_memory(path: Path) -> None:
    path.write_bytes(tiny_file().replace(b"weight_ih_l0", b"weight_ih_l9"))
    with pytest.raises(ValueError, match="weight_ih_l0 is missing"):
        fc.load(path)
    description = {"format_version": 1, "class": "RNN", "kind": "rnn_tanh", "dtype": "float32"}
    header = {
        "__metadata__": {"fusedcell": json.dumps(description)},
        f"weight_ih_l{10**12}": {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]},
    }
    path.write_bytes(file_of(header, bytes(4)))
    with pytest.raises(ValueError, match="weight_hh_l0 is missing"):
        fc.load(path)


@every_dtype
def test_every_truncation_is_refused(dtype: str, path: Path) -> None:
    fc.save(KIND["gru_reset_after"].make(KIND["gru_reset_after"].weights(1, 2), dtype=dtype), path)
    data = path.read_bytes()
    for size in range(len(data)):
        path.write_bytes(data[:size])
        with pytest.raises(ValueError, match="not a safetensors file"):
            fc.load(path)


@every_dtype
@pytest.mark.parametrize("name", ["lstm_projected", "lstm_coupled"])
def test_mutants_load_or_raise(name: str, dtype: str, path: Path) -> None:
    fc.save(KIND[name].make(KIND[name].weights(3, 2, layers=2), dtype=dtype), path)
    original = path.read_bytes()
    random = np.random.default_rng(5)
    refused = 0
    for _ in range(2000):
        data = bytearray(original)
        for _ in range(random.integers(1, 4)):
            at = random.integers(len(data))
            data[at] = random.integers(256)
        path.write_bytes(data)
        try:
            layer = fc.load(path)
        except ValueError:
            refused += 1
        else:
            layer(np.zeros((2, layer.input_size), np.float32))
    assert refused > 500


def test_what_cannot_be_saved_leaves_the_old_file(path: Path) -> None:
    path.write_bytes(b"precious")
    with pytest.raises(TypeError, match="layer: expected a layer or a cell, got int"):
        fc.save(3, path)  # type: ignore[arg-type]
    assert path.read_bytes() == b"precious"


def test_without_safetensors_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match=r"pip install fusedcell\[safetensors\]"):
        fc.save(layer_of(KIND["lstm"], "int8"), tmp_path / "layer")
    with pytest.raises(ImportError, match=r"pip install fusedcell\[safetensors\]"):
        fc.load(tmp_path / "layer")


def test_a_file_that_is_not_there(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        fc.load(path)
