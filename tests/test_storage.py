"""What is saved comes back with the same bits, always as the same bytes, and a damaged file is refused."""

from __future__ import annotations

import copy
import json
import os
import pickle
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fusedcell as fc
from fusedcell._file_format import to_bytes
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
    fc.save(quantised, tmp_path / "layer")
    assert fc.load(tmp_path / "layer").input_scales == quantised.input_scales


def test_a_pickle_is_hardly_larger_than_the_weights() -> None:
    layer = KIND["lstm"].make(KIND["lstm"].weights(128, 128), dtype="int8")
    assert len(pickle.dumps(layer)) < 1.05 * layer.nbytes


@every_dtype
def test_a_file_is_what_the_package_safetensors_writes(dtype: str, path: Path) -> None:
    safetensors: Any = pytest.importorskip("safetensors", minversion="0.8")
    for name in ("gru_reset_after", "lstm_coupled"):
        fc.save(layer_of(KIND[name], dtype), path)
        data = path.read_bytes()
        size = int.from_bytes(data[:8], "little")
        specs, arrays = {}, []
        types = {"F32": "float32", "BF16": "bfloat16", "F16": "float16", "I8": "int8"}
        for tensor, entry in safetensors.deserialize(data):
            arrays.append(np.frombuffer(entry["data"], np.uint8))
            specs[tensor] = safetensors.TensorSpec(
                dtype=types[entry["dtype"]],
                shape=entry["shape"],
                data_ptr=arrays[-1].ctypes.data,
                data_len=arrays[-1].nbytes,
            )
        assert safetensors.serialize(specs, json.loads(data[8 : 8 + size])["__metadata__"]) == data


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
    path = tmp_path_factory.getbasetemp() / "with metadata"
    data = tiny_file()
    header = json.loads(data[8:-8])
    header["__metadata__"] |= entries
    path.write_bytes(file_of(header, data[-8:]))
    assert fc.load(path)(np.array([[1], [1]], np.float32))[0].tolist() == [[2], [8]]


# What else a description may not say, the exception, and what its message has.
MISFITS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"format_version": 4}, fc.UnsupportedError, "format_version=4 is not supported; supported: 1, 2, 3"),
    ({"dtype": "mixed"}, fc.UnsupportedError, "dtype='mixed' is not supported; supported: float32, bfloat16"),
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


def int8_file(weight: int = 5, scale: float = 0.5, is_mixed: bool = False, **tensors: Any) -> bytes:
    arrays = {
        "weight_ih": np.array([[weight]], np.int8),
        "weight_hh": np.array([[5]], np.int8),
        "weight_ih_scale": np.array([scale], np.float32),
        "weight_hh_scale": np.array([0.5], np.float32),
        **tensors,
    }
    dtype = {"format_version": 3, "dtype": "mixed"} if is_mixed else {"format_version": 1, "dtype": "int8"}
    description = {"class": "RNNCell", "kind": "rnn_relu", **dtype}
    header: dict[str, Any] = {"__metadata__": {"fusedcell": json.dumps(description)}}
    data = b""
    for name, array in arrays.items():
        if array is not None:
            code = {"int8": "I8", "uint16": "BF16", "float32": "F32", "float64": "F64"}[array.dtype.name]
            end = len(data) + array.nbytes
            header[name] = {"dtype": code, "shape": array.shape, "data_offsets": [len(data), end]}
            data += array.tobytes()
    return file_of(header, data)


def test_an_int8_file_made_by_hand_loads(path: Path) -> None:
    path.write_bytes(int8_file())
    assert fc.load(path)(np.array([1], np.float32)) == pytest.approx([2.5])


def test_an_int8_matrix_with_inputs_in_int16_made_by_hand_loads(path: Path) -> None:
    scale = np.array([0.5], np.float32)
    path.write_bytes(int8_file(is_mixed=True, weight_ih_scale=None, weight_ih_scale_int16=scale))
    cell = fc.load(path)
    assert cell.dtypes == {"weight_ih": "int8_int16", "weight_hh": "int8"}
    assert cell(np.array([1], np.float32)) == pytest.approx([2.5])


def test_a_file_of_one_int8_matrix_and_one_float32_made_by_hand_loads(path: Path) -> None:
    path.write_bytes(int8_file(is_mixed=True, weight_ih=np.array([[3]], np.float32), weight_ih_scale=None))
    cell = fc.load(path)
    assert cell.dtypes == {"weight_ih": "float32", "weight_hh": "int8"}
    assert cell(np.array([1], np.float32), np.array([2], np.float32)) == pytest.approx([8])


# Files that no layer can be made of, and what the message has.
HOSTILE: list[tuple[bytes, str]] = [
    (int8_file(weight=-128), r"weight_ih: expected whole numbers from -127 to 127, got -128"),
    (int8_file(scale=0), r"weight_ih: expected zero, as the row's scale is zero, got 5"),
    (int8_file(scale=-1), "weight_ih_scale: expected 0 or a scale"),
    (int8_file(scale=np.nan), "weight_ih_scale: expected 0 or a scale"),
    (int8_file(scale=np.inf), "weight_ih_scale: expected 0 or a scale"),
    (int8_file(scale=1e-40), "weight_ih_scale: expected 0 or a scale"),
    (int8_file(weight_ih_scale_int16=np.ones(1, np.float32)), "'weight_ih_scale_int16' is not an array of a cell"),
    (
        int8_file(is_mixed=True, weight_ih_scale_int16=np.ones(1, np.float32)),
        "weight_ih_scale: expected it without weight_ih_scale_int16, or that alone",
    ),
    (
        int8_file(
            is_mixed=True,
            weight_ih=np.ones((1, 1), np.float32),
            weight_ih_scale=None,
            weight_ih_scale_int16=np.ones(1, np.float32),
        ),
        "weight_ih_scale_int16: only int8 weights have scales",
    ),
    (int8_file(weight_hh_scale=None), "weight_hh_scale is missing; int8 weights need their scales"),
    (int8_file(weight_ih_scale=None), "weight_ih_scale is missing; int8 weights need their scales"),
    (int8_file(is_mixed=True, weight_hh_scale=None), "weight_hh_scale is missing; int8 weights need their scales"),
    (int8_file(is_mixed=True, weight_ih=np.ones((1, 1), np.float32)), "weight_ih_scale: only int8 weights have scales"),
    (int8_file(is_mixed=True, bias_ih=np.ones(1, np.int8)), "bias_ih: expected dtype float32, got int8"),
    (int8_file(weight_ih_scale=np.ones(2, np.float32)), r"weight_ih_scale: expected shape \(1,\), got \(2,\)"),
    (int8_file(weight_hh=np.ones((2, 1), np.int8)), r"weight_hh: expected shape \(1, 1\), got \(2, 1\)"),
    (int8_file(weight_hh=np.ones((1, 1), np.float32)), "weight_hh: expected dtype int8, got float32"),
    (int8_file(weight_hh=np.ones((1, 1), np.uint16)), "weight_hh: expected dtype int8, got bfloat16"),
    (int8_file(bias_ih=np.ones(1)), "bias_ih: dtype F64 is not one of a layer's"),
    (int8_file(bias_ih=np.ones(1, np.int8)), "bias_ih: expected dtype float32, got int8"),
    (int8_file(bias_hr=np.ones(1, np.float32)), "'bias_hr' is not an array of a cell"),
    (int8_file(input_scales=np.ones(2, np.float32)), "input_scales: expected one a layer, 1, got 2"),
    (int8_file(input_scales=np.ones((1, 1), np.float32)), r"input_scales: expected shape \(num_layers,\)"),
    (int8_file(input_scales=np.zeros(1, np.float32)), "input_scales: expected scales from 2"),
    (b"", "not a safetensors file"),
    (file_of({"a\0b": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}}, b"0000"), "has a NUL in it"),
    (struct.pack("<Q", 52) + b'{"__metadata__":{"fusedcell":"{}","fusedcell":"{}"}}', "'fusedcell' comes twice"),
    (b"PK\x03\x04" * 10, "not a safetensors file"),
    (file_of({}, b""), "not written by fusedcell.save"),
    (file_of({"__metadata__": None}, b""), "not written by fusedcell.save"),
    (file_of({"__metadata__": {"fusedcell": "[" * 100_000}}, b""), "nested too deeply"),
    (file_of({"__metadata__": {"fusedcell": "3"}}, b""), "not an object"),
    (file_of({"__metadata__": {"fusedcell": "{"}}, b""), "the header's entry 'fusedcell' is not JSON: expected"),
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


def container(**changes: Any) -> bytes:
    """tiny_file with other entries in its header."""
    return file_of(json.loads(HEADER) | changes, WEIGHTS)


def raw(header: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + WEIGHTS


HEADER, WEIGHTS = tiny_file()[8:-8], tiny_file()[-8:]
WEIGHT = {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]}
NOTHING = {"dtype": "F32", "shape": [0], "data_offsets": [8, 8]}


@pytest.mark.parametrize(
    ("data", "is_layer"),
    [
        (container(), True),
        (container(input_scales=NOTHING), True),
        (container(bias_ih_l0=NOTHING), False),
        (container(bias_ih_l0=NOTHING | {"shape": [0, 2**63]}), False),
        (container(bias_ih_l0=NOTHING | {"shape": [2**62, 2**62, 0]}), False),
        (container(bias_ih_l0=NOTHING | {"data_offsets": [7, 7]}), False),
        (container(weight_ih_l0=WEIGHT | {"shape": [1] * 40}), False),
        (container(weight_ih_l0=WEIGHT | {"shape": [1.0, 1]}), False),
        (container(weight_ih_l0=WEIGHT | {"shape": [-1, -1]}), False),
        (container(weight_ih_l0=WEIGHT | {"shape": 1}), False),
        (container(weight_ih_l0=WEIGHT | {"data_offsets": [4, 8]}), False),
        (container(weight_ih_l0=WEIGHT | {"data_offsets": [0, 4, 8]}), False),
        (container(weight_ih_l0=WEIGHT | {"data_offsets": [2**64, 4]}), False),
        (container(weight_ih_l0=WEIGHT | {"dtype": "F33"}), False),
        (container(weight_ih_l0=WEIGHT | {"dtype": 32}), False),
        (container(weight_ih_l0={"dtype": "F32", "shape": [1, 1]}), False),
        (container(weight_ih_l0=[]), False),
        (container(__metadata__={"format": 3}), False),
        (raw(HEADER.replace(b'"fusedcell"', b'"author": "somebody", "format": "pt", "fusedcell"')), True),
        (tiny_file() + b"more", False),
        (raw(b" " + HEADER), True),
        (raw(HEADER + b"  "), True),
        (raw(HEADER + b"\0"), False),
        (raw(HEADER.replace(b'"fusedcell"', b'"\\u0066usedcell"')), True),
        (raw(HEADER.replace(b'"fusedcell"', b'"a": "\\ud83d\\ude00\xf0\x9f\x98\x80", "fusedcell"')), True),
        (raw(HEADER.replace(b'"fusedcell"', b'"a": "\\ud83d", "fusedcell"')), False),
        (raw(HEADER.replace(b'"fusedcell"', b'"a": "\xed\xa0\xbd", "fusedcell"')), False),
        (raw(HEADER.replace(b'"fusedcell"', b'"a": "\xc0\x80", "fusedcell"')), False),
        (raw(HEADER.replace(b'"fusedcell"', b'"a": "\x1f", "fusedcell"')), False),
        (raw(HEADER.replace(b'"fusedcell"', b'"a": "\\x41", "fusedcell"')), False),
    ],
)
def test_containers_are_read_by_their_specification(data: bytes, is_layer: bool, path: Path) -> None:
    path.write_bytes(data)
    if is_layer:
        assert fc.load(path)(np.array([[1], [1]], np.float32))[0].tolist() == [[2], [8]]
    else:
        with pytest.raises(ValueError, match=re.escape(f"{path}: ")):
            fc.load(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (container(weight_ih_l0=WEIGHT | {"more": 1}), "weight_ih_l0: expected dtype, shape and data_offsets, got 'mo"),
        (container(weight_ih_l0=["F32", [1, 1], [0, 4]]), "weight_ih_l0: expected an object"),
        (raw(b'{"weight_ih_l0": ' + json.dumps(WEIGHT).encode() + b", " + HEADER[1:]), "'weight_ih_l0' comes twice"),
        (raw(HEADER.replace(b'\\"dtype\\"', b'\\"class\\": 1, \\"dtype\\"')), "'class' comes twice"),
    ],
)
def test_what_the_package_safetensors_takes_and_we_do_not(data: bytes, message: str, path: Path) -> None:
    pytest.importorskip("safetensors", minversion="0.8").deserialize(data)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message):
        fc.load(path)


def test_a_direction_that_the_last_layer_lacks_is_missed(path: Path) -> None:
    kind = KIND["rnn_tanh"]
    description, tensors = kind.make(kind.weights(3, 2, layers=2, directions=2))._to_tensors()
    path.write_bytes(to_bytes(description, {name: tensors[name] for name in tensors if "l1_reverse" not in name}))
    with pytest.raises(ValueError, match="bias_hh_l1_reverse is missing"):
        fc.load(path)


def test_a_long_value_is_cut_between_characters(path: Path) -> None:
    letter = "\u00e9"  # two bytes
    path.write_bytes(tiny_file(batch_first=letter * 100))
    with pytest.raises(ValueError, match=f"batch_first: expected a bool, got '{letter * 29}[.]{{3}}$"):
        fc.load(path)


def mutants(data: bytes, count: int) -> Iterator[bytes]:
    """Bytes changed, taken out and put in again elsewhere, most of them in the header and to what JSON has."""
    random = np.random.default_rng(7)
    header = 8 + int.from_bytes(data[:8], "little")
    letters = b'{}[]:,"\\0123456789-.eE_ntfu \x00\x80\xc3\xff'
    for _ in range(count):
        mutant = bytearray(data)
        for _ in range(random.integers(1, 3)):
            at = int(random.integers(header if random.random() < 0.6 else len(mutant)))
            length = int(random.integers(1, 30))
            match random.integers(6):
                case 0:
                    mutant[at] = random.integers(256)
                case 1:
                    del mutant[at : at + length]
                case 2:
                    start = int(random.integers(header))
                    mutant[at:at] = mutant[start : start + length]
                case 3:
                    mutant[at : at + 1] = str(random.integers(2 ** random.integers(1, 63))).encode()
                case _:
                    mutant[at] = letters[random.integers(len(letters))]
        # Half of them have the size of their header right again, so that more than that is looked at.
        if random.random() < 0.5:
            mutant[:8] = (header - 8 + len(mutant) - len(data)).to_bytes(8, "little")
        yield bytes(mutant)


@every_dtype
@pytest.mark.parametrize("name", ["lstm_projected", "lstm_coupled", "gru_before_leaky"])
def test_mutants_are_refused_or_are_files_to_others_too(name: str, dtype: str, path: Path) -> None:
    safetensors: Any = pytest.importorskip("safetensors", minversion="0.8")
    fc.save(KIND[name].make(KIND[name].weights(3, 2, layers=2), dtype=dtype), path)
    accepted = 0
    for data in mutants(path.read_bytes(), 1000):
        path.write_bytes(data)
        try:
            layer = fc.load(path)
        except ValueError:
            continue
        layer(np.zeros((2, layer.input_size), np.float32))
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        assert json.loads(header["__metadata__"]["fusedcell"])["dtype"] == layer.dtype
        stored = {tensor: entry["shape"] for tensor, entry in safetensors.deserialize(data)}
        written = {tensor: list(array.shape) for tensor, array in layer._to_tensors()[1].items()}
        assert stored.items() <= written.items()
        accepted += 1
    assert 0 < accepted < 800


def test_what_cannot_be_saved_leaves_the_old_file(path: Path) -> None:
    path.write_bytes(b"precious")
    with pytest.raises(TypeError, match="layer: expected a layer, a cell or a Model, got int"):
        fc.save(3, path)  # type: ignore[arg-type] # wrong on purpose
    assert path.read_bytes() == b"precious"


def test_the_name_of_a_tier_is_a_string(path: Path) -> None:
    fc.save(layer_of(KIND["lstm"], "int8"), path)
    with pytest.raises(TypeError, match="isa: expected a string or None, got int"):
        fc.load(path, isa=3)  # type: ignore[arg-type] # wrong on purpose
    with pytest.raises(ValueError, match=f"{path}: .*'avx3'"):
        fc.load(path, isa="avx3")


def test_a_file_that_is_not_there(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        fc.load(path)
