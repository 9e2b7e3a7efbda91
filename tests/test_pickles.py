"""Pickles of layers and cells name nothing of NumPy's, whose insides have moved between its versions."""

from __future__ import annotations

import copy
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedcell as fc
from fusedcell import storage
from fusedcell._file_format import to_bytes
from fusedcell.keras import KerasLayer, OutputRule
from models import EVERY_KIND, KIND, Kind, flat, uniform

pytestmark = pytest.mark.core
every_kind = pytest.mark.parametrize("kind", EVERY_KIND, ids=lambda kind: kind.name)
every_protocol = pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
DTYPES = ("float32", "bfloat16", "float16", "int8")


def globals_of(data: bytes) -> set[str]:
    """The modules that a pickle imports from, also where it takes a name from the stack or the memo."""
    modules: set[str] = set()
    texts: list[str] = []
    memo: dict[Any, Any] = {}
    argument: Any
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name == "GLOBAL":
            modules.add(argument.partition(" ")[0])
        elif opcode.name == "STACK_GLOBAL":
            modules.add(texts[-2])
        elif opcode.name == "MEMOIZE":
            memo[len(memo)] = texts[-1] if texts else None
        elif opcode.name in ("BINGET", "LONG_BINGET", "GET"):
            texts.append(memo.get(argument, ""))
        if isinstance(argument, str) and "UNICODE" in opcode.name:
            texts.append(argument)
    return modules


def layers_of(kind: Kind, dtype: str) -> list[Any]:
    layer = kind.make(kind.weights(9, 17, layers=2), dtype=dtype)
    state = [uniform(seed, 2, 1, size) for seed, size in enumerate((layer.proj_size or 17, 17))]
    started = layer.with_initial_state(*state[: 1 + isinstance(layer, fc.LSTM)])
    return [layer, started, kind.make_cell(kind.weights(9, 17), dtype=dtype)]


def outputs(layer: Any) -> list[Any]:
    x = uniform(3, 2, 9) if "Cell" in type(layer).__name__ else uniform(3, 5, 2, 9)
    return list(flat(layer(x)))


@pytest.mark.any_cpu
@every_kind
@every_protocol
def test_no_name_of_numpy_stands_in_a_pickle(kind: Kind, protocol: int) -> None:
    for dtype in DTYPES:
        for layer in layers_of(kind, dtype):
            data = pickle.dumps(layer, protocol)
            assert b"numpy" not in data
            assert globals_of(data) <= {"fusedcell.layers", "fusedcell.cells", "_codecs"}
            again = pickle.loads(data)
            assert repr(again) == repr(layer)
            for actual, expected in zip(outputs(again), outputs(layer), strict=True):
                np.testing.assert_array_equal(actual, expected)


def test_a_stateful_keras_layer_pickles_and_copies_with_its_state() -> None:
    kind = next(kind for kind in EVERY_KIND if kind.name == "lstm")
    rule = OutputRule(return_sequences=True, stateful=True)
    layer = KerasLayer(kind.make(kind.weights(9, 17), batch_first=True), rule)
    x = uniform(3, 2, 5, 9)
    fresh = pickle.loads(pickle.dumps(layer))
    np.testing.assert_array_equal(fresh(x), layer(x))
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert b"numpy" not in pickle.dumps(layer, protocol)
    clones = [pickle.loads(pickle.dumps(layer, 2)), copy.copy(layer), copy.deepcopy(layer)]
    older = object.__new__(KerasLayer)
    older.__setstate__(vars(layer))
    expected = layer(x)
    for clone in (*clones, older):
        np.testing.assert_array_equal(clone(x), expected)


@pytest.mark.parametrize("protocol", range(3, pickle.HIGHEST_PROTOCOL + 1))  # before, there are no bytes in pickles
def test_a_pickle_is_the_bytes_of_the_file(protocol: int, tmp_path: Path) -> None:
    for layer in layers_of(KIND["lstm_coupled"], "int8"):
        fc.save(layer, tmp_path / "layer")
        data = pickle.dumps(layer, protocol)
        assert (tmp_path / "layer").read_bytes() in data
        assert len(data) < 200 + (tmp_path / "layer").stat().st_size


@every_kind
def test_weights_can_travel_beside_the_pickle(kind: Kind) -> None:
    for layer in layers_of(kind, "bfloat16"):
        buffers: list[Any] = []
        data = pickle.dumps(layer, 5, buffer_callback=buffers.append)
        assert [bytes(buffer) for buffer in buffers] == [to_bytes(*layer._to_tensors())]
        assert len(data) < 200
        for given in (buffers, [buffer.raw() for buffer in buffers], [bytes(buffer) for buffer in buffers]):
            again = pickle.loads(data, buffers=given)
            for actual, expected in zip(outputs(again), outputs(layer), strict=True):
                np.testing.assert_array_equal(actual, expected)


class AsOnceWritten:
    """Pickles as layers did that had tensors in their pickles: arrays, or their dtype's code, shape and bytes."""

    def __init__(self, layer: Any, *, as_arrays: bool) -> None:
        self.layer = layer
        self.as_arrays = as_arrays

    def __reduce__(self) -> tuple[Any, ...]:
        description, tensors = self.layer._to_tensors()
        if self.as_arrays:
            return storage.from_tensors, (description, tensors)
        plain = {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in tensors.items()}
        return storage.from_picklable, (description, plain)


@every_kind
@pytest.mark.parametrize("as_arrays", [True, False])
def test_older_pickles_load_as_they_did(as_arrays: bool, kind: Kind) -> None:
    for layer in layers_of(kind, "int8"):
        again = pickle.loads(pickle.dumps(AsOnceWritten(layer, as_arrays=as_arrays)))
        for actual, expected in zip(outputs(again), outputs(layer), strict=True):
            np.testing.assert_array_equal(actual, expected)
