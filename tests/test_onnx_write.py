"""to_onnx writes models that ONNX Runtime runs to the layer's answer, and that come back with the layer's bits."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("onnx")

import onnx

import fusedcell as fc
from drawn import examples, note_difference
from fusedcell._dtypes import DTYPES
from models import KIND, KIND_NAMES, flat, random_state, uniform
from onnx_models import NodeCase, arrays_for, cases

KINDS = [KIND[name] for name in KIND_NAMES if name != "lstm_projected"]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def run_ort(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs: list[np.ndarray] = session.run(None, inputs)
    return outputs


def assert_close(actual: Any, expected: Any, tolerance: float = 1e-5) -> None:
    for a, e in zip(actual, expected, strict=True):
        assert a.shape == e.shape
        np.testing.assert_allclose(a, e, rtol=tolerance, atol=tolerance)


def same(actual: Any, expected: Any) -> None:
    for a, e in zip(flat(actual), flat(expected), strict=True):
        np.testing.assert_array_equal(a, e)


@every_kind
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("state", [None, "input", "one row", "a batch"])
def test_onnx_runtime_gives_the_layers_answer(
    kind: Any, layers: int, directions: int, batch_first: bool, state: str | None
) -> None:
    mapping = kind.weights(4, 5, layers=layers, directions=directions)
    layer = kind.make(mapping, batch_first=batch_first)
    x = uniform(1, 3, 3, 4)
    given_state = random_state(kind, mapping, 1 if state == "one row" else 3)
    parts = given_state if isinstance(given_state, tuple) else (given_state,)
    inputs = {"X": x}
    if state == "input":
        inputs |= dict(zip(("initial_h", "initial_c"), parts, strict=False))
        expected = layer(x, given_state)
    else:
        layer = layer if state is None else layer.with_initial_state(*parts)
        expected = layer(x)
    model = fc.to_onnx(layer, state_inputs=state == "input")
    onnx.checker.check_model(model, full_check=True)
    assert_close(run_ort(model, inputs), flat(expected))


@given(cases(for_ort=True), st.booleans())
@settings(max_examples=examples(50))
def test_any_options_go_out_and_come_back(case: NodeCase, row: bool) -> None:
    """Attributes of every kind: what from_onnx reads of to_onnx's file is the same layer, and ONNX Runtime agrees."""
    arrays = {role: array for role, array in case.arrays.items() if role != "sequence_lens"}
    if not {"initial_h", "initial_c"} <= set(arrays) or row or case.op != "LSTM":
        arrays = {role: array for role, array in arrays.items() if not role.startswith("initial")}
    case = dataclasses.replace(case, arrays=arrays, constants=case.constants | {"initial_h", "initial_c"})
    layer = fc.from_onnx(case.model())
    model = fc.to_onnx(layer)
    onnx.checker.check_model(model, full_check=True)
    again = fc.from_onnx(model)
    assert again.cell_options == layer.cell_options
    assert repr(again) == repr(layer)
    same(again(arrays["X"]), layer(arrays["X"]))
    if not (case.op == "LSTM" and "clip" in case.attributes):
        theirs, ours = run_ort(model, {"X": arrays["X"]}), flat(layer(arrays["X"]))
        note_difference(ours, theirs)
        assert_close(theirs, ours)


@every_kind
@pytest.mark.parametrize("directions", [1, 2])
def test_a_single_layer_comes_back_with_the_same_bits(kind: Any, directions: int) -> None:
    mapping = kind.weights(9, 17, directions=directions)
    state = random_state(kind, mapping, 1)
    layer = kind.make(mapping).with_initial_state(*(state if isinstance(state, tuple) else (state,)))
    again = fc.from_onnx(fc.to_onnx(layer))
    same((again.initial_state,), (state,))
    same(again(uniform(2, 6, 3, 9)), layer(uniform(2, 6, 3, 9)))
    for a, e in zip(again._stack.arrays(), layer._stack.arrays(), strict=True):
        same(list(a.values()), list(e.values()))


@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_narrow_weights_are_written_as_the_floats_that_they_stand_for(dtype: str) -> None:
    kind = KIND["gru_reset_after"]
    layer = kind.make(kind.weights(9, 17, layers=2), dtype=dtype)
    model = fc.to_onnx(layer)
    x = uniform(2, 6, 3, 9)
    assert_close(run_ort(model, {"X": x}), layer.astype("float32")(x))
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "R_1")
    assert tensor.data_type == onnx.TensorProto.FLOAT


def test_each_layer_of_a_stack_is_a_node_by_name() -> None:
    kind = KIND["lstm"]
    layer = kind.make(kind.weights(9, 17, layers=2))
    model = fc.to_onnx(layer)
    x = uniform(2, 6, 3, 9)
    between, _ = fc.from_onnx(model, "layer_0")(x)
    same(fc.from_onnx(model, "layer_1")(between)[0], layer(x)[0])


def test_the_file_is_the_model_and_the_same_each_time(tmp_path: Path) -> None:
    kind = KIND["lstm"]
    layer = kind.make(kind.weights(9, 17, layers=2, directions=2))
    path = tmp_path / "layer.onnx"
    path.write_bytes(b"old")
    model = fc.to_onnx(layer, path)
    data = path.read_bytes()
    assert onnx.load(path) == model
    fc.to_onnx(layer, str(path))
    assert path.read_bytes() == data
    assert [entry.name for entry in tmp_path.iterdir()] == ["layer.onnx"]


class TestRefusals:
    def test_a_projection(self) -> None:
        kind = KIND["lstm_projected"]
        with pytest.raises(
            fc.UnsupportedError, match="proj_size=8 is not supported; supported: none, as ONNX has none"
        ):
            fc.to_onnx(kind.make(kind.weights(9, 17)))

    def test_clip_before_h(self) -> None:
        case = NodeCase("LSTM", arrays_for("LSTM"), {"clip": 0.5})
        layer = fc.from_onnx(case.model(), clip_before_h=False)
        with pytest.raises(fc.UnsupportedError, match="clip_before_h=False is not supported; supported: True, as ONNX"):
            fc.to_onnx(layer)

    @pytest.mark.parametrize("layer", [None, 3, fc.RNNCell(np.ones((1, 1)), np.ones((1, 1)))])
    def test_what_is_no_layer(self, layer: Any, tmp_path: Path) -> None:
        with pytest.raises(TypeError, match="layer: expected a layer"):
            fc.to_onnx(layer, tmp_path / "layer.onnx")
        assert not list(tmp_path.iterdir())
