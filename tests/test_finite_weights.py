"""A weight that is NaN or infinite is refused, whoever reads it: by the array's name, with how many there are."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fusedcell as fc
from drawn import examples
from fusedcell._dtypes import DTYPES
from models import EVERY_KIND, EVERY_NAME, KIND, Kind, flat, random_state, uniform

pytestmark = pytest.mark.core


every_kind = pytest.mark.parametrize("kind", EVERY_KIND, ids=lambda kind: kind.name)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)

# How many of an array's values are NaN and infinite, of the first eight, and how the error counts them.
COUNTS = [(1, 0, "1 NaN"), (0, 1, "1 infinite"), (3, 1, "3 NaN and 1 infinite"), (2, 2, "2 NaN and 2 infinite")]


def spoilt(array: np.ndarray, nans: int, infinities: int, seed: int = 0) -> np.ndarray:
    """The array with so many such values in drawn places, infinities of both signs."""
    values = array.copy()
    places = np.random.default_rng(seed).permutation(array.size)[: nans + infinities]
    values.reshape(-1)[places] = [np.nan, -np.nan, np.nan][:nans] + [-np.inf, np.inf][:infinities]
    return values


def refusal(name: str, counts: str, size: int) -> str:
    return re.escape(f"{name}: expected finite values, got {counts} of {size}") + "$"


@settings(max_examples=examples(200))
@given(data=st.data())
def test_every_array_of_every_layer_and_cell(data: st.DataObject) -> None:
    kind = KIND[data.draw(st.sampled_from(EVERY_NAME))]
    dtype = data.draw(st.sampled_from(DTYPES))
    source = data.draw(st.sampled_from(["f4", "f8", "f2", ">f4"]))
    is_cell = data.draw(st.booleans())
    mapping = kind.weights(3, 4, layers=1 if is_cell else 2, directions=1 if is_cell else 2)
    name = data.draw(st.sampled_from(sorted(mapping)))
    nans, infinities, counts = data.draw(st.sampled_from(COUNTS))
    bad = spoilt(mapping[name], nans, infinities, data.draw(st.integers(0, 99))).astype(source)
    make = kind.make_cell if is_cell else kind.make
    called = name.removesuffix("_l0") if is_cell else name
    with pytest.raises(ValueError, match=refusal(called, counts, bad.size)):
        make({**mapping, name: bad}, dtype=dtype)


@every_dtype
def test_sums_of_biases_beyond_float32(dtype: Any) -> None:
    for kind in EVERY_KIND:
        mapping = kind.weights(3, 4)
        rows = kind.gates * 4
        mapping["bias_ih_l0"] = mapping["bias_hh_l0"] = np.full(rows, 3e38, np.float32)
        with pytest.raises(ValueError, match=r"bias_ih_l0: expected a finite sum with bias_hh_l0, got 3.* at index 0"):
            kind.make(mapping, dtype=dtype)
        mapping["bias_hh_l0"] = -mapping["bias_ih_l0"]
        assert np.isfinite(kind.make(mapping, dtype=dtype)(uniform(1, 2, 3))[0]).all()
    # The candidate's biases are not added up where r multiplies one of them.
    kind = KIND["gru_reset_after"]
    mapping = kind.weights(3, 4)
    for name in ("bias_ih_l0", "bias_hh_l0"):
        mapping[name][8:] = 3e38
    kind.make(mapping, dtype=dtype)


@every_dtype
def test_biases_that_are_saved_come_back(dtype: Any) -> None:
    kind = KIND["lstm"]
    mapping = kind.weights(3, 4)
    mapping["bias_ih_l0"][:], mapping["bias_hh_l0"][:] = 1.7e38, 1.7e38
    layer = kind.make(mapping, dtype=dtype)
    assert pickle.loads(pickle.dumps(layer))._stack.arrays()[0]["bias_ih"][0] == np.float32(1.7e38) * 2


@every_kind
def test_initial_states(kind: Kind) -> None:
    mapping = kind.weights(3, 4, layers=2)
    layer = kind.make(mapping)
    state = random_state(kind, mapping, 2)
    parts = list(state) if isinstance(state, tuple) else [state]
    for index, part in enumerate(parts):
        for nans, infinities, counts in COUNTS:
            bad = [*parts[:index], spoilt(part, nans, infinities), *parts[index + 1 :]]
            with pytest.raises(ValueError, match=refusal("hc"[index], counts, part.size)):
                layer.with_initial_state(*bad)
    # A state is no weight: one that broke can be looked at, kept and mended.
    stream = layer.with_initial_state(*parts).stream(2)
    flat((stream.state,))[0][0, 0, 0] = np.nan
    assert stream.is_finite().tolist() == [False, True]
    assert layer.with_initial_state(*parts).stream_from_bytes(stream.to_bytes()).is_finite().tolist() == [False, True]


@every_kind
@pytest.mark.parametrize(("dtype", "value"), [("float16", 65520.0), ("float16", -1e5), ("bfloat16", 3.4e38)])
def test_weights_that_a_half_would_make_infinite(kind: Kind, dtype: Any, value: float) -> None:
    mapping = kind.weights(3, 4, layers=2)
    for name in mapping:
        large = {**mapping, name: mapping[name].copy()}
        large[name].reshape(-1)[3] = value
        layer = kind.make(large)
        if name.startswith("weight") and "peephole" not in name:
            place = f"{3 // mapping[name].shape[1]}, {3 % mapping[name].shape[1]}"
            message = rf"{name}: expected weights that {dtype} can hold, got .* at index \({place}\)$"
            with pytest.raises(ValueError, match=message):
                layer.astype(dtype)
            with pytest.raises(ValueError, match=message):
                kind.make(large, dtype=dtype)
        else:  # which stay float32
            layer.astype(dtype)


def test_a_cells_array_is_named_as_the_cell_names_it() -> None:
    cell = fc.RNNCell(np.array([[1.0]]), np.array([[1e6]]))
    with pytest.raises(ValueError, match=r"^weight_hh: expected weights that float16 can hold, got 1e\+06 at"):
        cell.astype("float16")


def quantised_file(path: Path, **arrays: np.ndarray) -> Path:
    """An int8 RNNCell of one unit, weights as given."""
    tensors: dict[str, np.ndarray] = {
        "weight_ih": np.array([[127]], np.int8),
        "weight_hh": np.array([[1]], np.int8),
        "weight_ih_scale": np.array([1], np.float32),
        "weight_hh_scale": np.array([1], np.float32),
        **arrays,
    }
    description = {"format_version": 1, "class": "RNNCell", "kind": "rnn_relu", "dtype": "int8"}
    return write(path, description, tensors)


def write(path: Path, description: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Path:
    """A file as docs/file_format.md describes it, whatever is in the tensors."""
    codes = {"float32": "F32", "float16": "F16", "uint16": "BF16", "int8": "I8"}
    header: dict[str, Any] = {"__metadata__": {"fusedcell": json.dumps(description)}}
    data = b""
    for name, array in tensors.items():
        offsets = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": codes[array.dtype.name], "shape": array.shape, "data_offsets": offsets}
        data += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


@pytest.mark.parametrize(("scale", "is_taken"), [(3e38, False), (2.7e36, False), (2.6e36, True)])
def test_int8_rows_that_no_float32_holds_are_refused(scale: float, is_taken: bool, tmp_path: Path) -> None:
    path = quantised_file(tmp_path / "file", weight_ih_scale=np.array([scale], np.float32))
    if is_taken:  # 127 times it is 3.3e38
        assert fc.load(path).astype("float32").dtype == "float32"
    else:
        with pytest.raises(
            ValueError, match=r"weight_ih_scale: expected 0 or a scale from .* of which 127 times is finite"
        ):
            fc.load(path)


@every_dtype
@every_kind
def test_files(kind: Kind, dtype: Any, tmp_path: Path) -> None:
    mapping = kind.weights(3, 4, layers=2)
    state = random_state(kind, mapping, 1)
    layer = kind.make(mapping, dtype=dtype).with_initial_state(*(state if isinstance(state, tuple) else (state,)))
    description, tensors = layer._to_tensors()
    assert fc.load(write(tmp_path / "file", description, tensors)).dtype == dtype
    for name, array in tensors.items():
        if array.dtype == np.int8 or "_scale" in name:
            continue  # the scales are in test_storage.py
        bad = array.copy()
        if array.dtype == np.uint16:
            bad.reshape(-1)[:4] = [0x7FC0, 0xFFFF, 0x7F81, 0xFF80]  # of bfloat16: three NaN and an infinity
        else:
            bad = spoilt(array, 3, 1)
        message = refusal(name, "3 NaN and 1 infinite", array.size)
        with pytest.raises(ValueError, match=message):
            fc.load(write(tmp_path / "file", description, {**tensors, name: bad}))


@every_dtype
def test_pickles(dtype: Any) -> None:
    kind = KIND["lstm_peephole"]
    mapping = kind.weights(3, 4)
    mark = np.float32(0.71828)
    for name in ("bias_ih_l0", "weight_peephole_l0"):
        marked = {**mapping, name: mapping[name].copy(), "bias_hh_l0": np.zeros_like(mapping["bias_hh_l0"])}
        marked[name][1] = mark
        data = pickle.dumps(kind.make(marked, dtype=dtype))
        assert data.count(mark.tobytes()) == 1
        for value, counts in ((np.nan, "1 NaN"), (-np.inf, "1 infinite")):
            with pytest.raises(ValueError, match=refusal(name, counts, mapping[name].size)):
                pickle.loads(data.replace(mark.tobytes(), np.float32(value).tobytes()))


@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
def test_onnx(op: str) -> None:
    pytest.importorskip("onnx")
    from onnx_models import NodeCase, arrays_for

    named = {"W": "weight_ih_l0", "R": "weight_hh_l0", "B": "bias_(ih|hh)_l0", "P": "weight_peephole_l0"}
    case = NodeCase(op, arrays_for(op), constants=frozenset({"W", "R", "B", "P", "initial_h", "initial_c"}))
    for role in case.constants & set(case.arrays):
        name = named.get(role, "hc"[role == "initial_c"])
        arrays = {**case.arrays, role: spoilt(case.arrays[role], 0, 1)}
        with pytest.raises(ValueError, match=rf"{name}: expected finite values, got 1 infinite of"):
            fc.from_onnx(NodeCase(op, arrays, constants=case.constants).model())


@pytest.mark.any_cpu
@pytest.mark.parametrize("class_name", ["SimpleRNN", "GRU", "LSTM"])
def test_keras(class_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("h5py")
    from keras_models import KerasCase, KerasCell, write_case

    plain = KerasCell.arrays
    named = {"kernel": "weight_ih_l0", "recurrent_kernel": "weight_hh_l0", "bias": "bias_(ih|hh)_l0"}
    for key, name in named.items():
        monkeypatch.setattr(
            KerasCell,
            "arrays",
            lambda self, inputs, seed, key=key: {
                other: spoilt(array, 1, 0) if other == key else array
                for other, array in plain(self, inputs, seed).items()
            },
        )
        path = write_case(tmp_path / "model", KerasCase([KerasCell(class_name, 4)]))
        with pytest.raises(ValueError, match=rf"{name}: expected finite values, got 1 NaN of"):
            fc.from_keras(path)


@pytest.mark.any_cpu
@pytest.mark.parametrize("layer", ["table", "conv", "norm", "inner", "bi", "head"])
def test_whole_keras_models(layer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("h5py")
    import keras_models

    config, weights = keras_models.whole_model(3)
    cells = [{name: spoilt(array, 0, 1) for name, array in cell.items()} for cell in weights[layer]]
    monkeypatch.setattr(keras_models, "whole_model", lambda version: (config, weights | {layer: cells}))
    keras_models.write_whole_model(tmp_path / "model.keras", 3)
    with pytest.raises(ValueError, match=rf"layer '.*{layer}.*': .*: expected finite values, got 1 infinite of"):
        fc.Model.from_keras(tmp_path / "model.keras")


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"])
def test_pytorch_modules_and_their_files(name: str, tmp_path: Path) -> None:
    torch: Any = pytest.importorskip("torch")
    from torch_models import module_of

    module = module_of(name, 3, 4)
    for parameter in list(module.state_dict()):
        spoilt_module = module_of(name, 3, 4)
        with torch.no_grad():
            getattr(spoilt_module, parameter).view(-1)[2] = float("nan")
        size = getattr(module, parameter).numel()
        with pytest.raises(ValueError, match=refusal(parameter, "1 NaN", size)):
            fc.from_torch(spoilt_module)
        if not name.endswith("Cell"):
            torch.save(spoilt_module.state_dict(), tmp_path / "model.pt")
            with pytest.raises(ValueError, match=refusal(parameter, "1 NaN", size)):
                getattr(fc, name).from_state_dict(tmp_path / "model.pt")


def test_accelerated_modules_whose_weights_break_say_so_until_they_are_mended() -> None:
    torch: Any = pytest.importorskip("torch")
    ft: Any = pytest.importorskip("fusedcell.torch")
    from torch_models import assert_close, module_of

    model = torch.nn.ModuleDict({"good": module_of("GRU", 3, 4), "bad": module_of("LSTM", 3, 4)}).eval()
    x = torch.ones(5, 2, 3)
    report = ft.accelerate(model)
    with torch.no_grad():
        expected = [model[name](x)[0] for name in model]
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        model["bad"].weight_hh_l0[3, 1] = float("nan")
        for _ in range(2):
            with pytest.raises(ValueError, match=refusal("weight_hh_l0", "1 NaN", 64)):
                model["bad"](x)
        assert_close(model["good"](x)[0], expected[0])
        model.load_state_dict(state)
        assert_close([model[name](x)[0] for name in model], expected)
        model["bad"].weight_hh_l0[3, 1] = float("inf")
        report.undo()
        again = ft.accelerate(model)
        assert {entry.name: entry.reason for entry in again if not entry.swapped} == {
            "bad": "weight_hh_l0: expected finite values, got 1 infinite of 64"
        }
        assert torch.isnan(model["bad"](x)[0]).any()  # as PyTorch says
