"""com.microsoft.DynamicQuantizeLSTM: its weights, exactly; our arithmetic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

import onnx
from onnx import helper, numpy_helper

import fusedcell as fc
from fusedcell import reference
from models import flat
from onnx_models import NodeCase, arrays_for, model_of

ROLES = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
SCALES = ("W_scale", "W_zero_point", "R_scale", "R_zero_point")


def quantised(
    dtype: Any, per_row: bool, *, directions: int = 1, limit: int | None = None
) -> tuple[onnx.ModelProto, dict[str, np.ndarray], NodeCase]:
    """A model of random integers, the float64 weights that they stand for, and the inputs."""
    case = NodeCase("LSTM", arrays_for("LSTM", directions=directions))
    random = np.random.default_rng(5)
    info = np.iinfo(dtype)
    low, high = (info.min, info.max) if limit is None else (-limit, limit)
    zero = 0 if dtype == np.int8 else 131
    tensors = {role: case.arrays[role] for role in ("B", "P")}
    weights = {}
    for role in ("W", "R"):
        _, rows, depth = case.arrays[role].shape
        q = random.integers(low, high + 1, (directions, depth, rows)).astype(dtype)
        shape = (directions, rows) if per_row else (directions,)
        scale = random.uniform(0.001, 0.004, shape).astype(np.float32)
        zeros = np.full(shape, zero, dtype)
        spread = scale.reshape(directions, 1, -1).astype(np.float64)
        weights[role] = ((q.astype(np.int64) - zero) * spread).swapaxes(1, 2)
        tensors |= {role: q, f"{role}_scale": scale, f"{role}_zero_point": zeros}
    names = [role if role in (*case.arrays, *tensors) else "" for role in (*ROLES, *SCALES)]
    direction = "bidirectional" if directions == 2 else "reverse"
    node = helper.make_node(
        "DynamicQuantizeLSTM", names, ["Y", "Y_h", "Y_c"], "quantised", domain="com.microsoft", hidden_size=5,
        direction=direction,
    )  # fmt: skip
    initializers = [numpy_helper.from_array(array, name) for name, array in tensors.items()]
    return model_of([node], case, initializers=initializers), weights, case


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("per_row", [False, True])
@pytest.mark.parametrize("directions", [1, 2])
def test_the_layer_is_that_of_the_weights_that_the_integers_stand_for(
    dtype: Any, per_row: bool, directions: int
) -> None:
    model, weights, case = quantised(dtype, per_row, directions=directions)
    given: dict[str, Any] = {**case.arrays, **weights}
    expected = reference.onnx_lstm(**given, direction="bidirectional" if directions == 2 else "reverse")
    for a, e in zip(case.run(fc.from_onnx(model)), expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("per_row", [False, True])
def test_int8_keeps_integers_from_minus_127_to_127(per_row: bool) -> None:
    model, weights, _ = quantised(np.int8, per_row, limit=127)
    (cell,) = fc.from_onnx(model, dtype="int8")._stack.arrays()
    for role, name in (("W", "weight_ih"), ("R", "weight_hh")):
        i, o, f, c = np.split(weights[role][0], 4)
        held = cell[name].astype(np.float64) * cell[f"{name}_scale"].astype(np.float64)[:, None]
        np.testing.assert_array_equal(held, np.concatenate([i, f, c, o]))


def test_int8_rounds_integers_that_it_cannot_hold() -> None:
    model, weights, _ = quantised(np.uint8, False)
    (cell,) = fc.from_onnx(model, dtype="int8")._stack.arrays()
    i, o, f, c = np.split(weights["R"][0], 4)
    held = cell["weight_hh"] * cell["weight_hh_scale"][:, None]
    error = np.abs(held - np.concatenate([i, f, c, o])).max(axis=1)
    assert (error <= 0.5001 * cell["weight_hh_scale"]).all()
    assert error.max() > 0


def test_what_onnx_runtimes_quantiser_writes(tmp_path: Path) -> None:
    """The float model, quantised by its tool: the same network, to what eight bits of weights and inputs lose."""
    pytest.importorskip("onnxruntime")
    import logging

    from onnxruntime.quantization import quantize_dynamic

    arrays = arrays_for("LSTM", units=24, inputs=16, steps=20, absent=("sequence_lens", "initial_h", "initial_c", "P"))
    case = NodeCase("LSTM", arrays, opset=14)
    model = case.model(hidden_size=24)
    for value in model.graph.output:
        value.type.tensor_type.shape.dim.extend([onnx.TensorShapeProto.Dimension()] * (4 if value.name == "Y" else 3))
    source, target = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    onnx.save(model, source)
    logging.disable(logging.WARNING)
    try:
        quantize_dynamic(source, target, op_types_to_quantize=["LSTM"])
    finally:
        logging.disable(logging.NOTSET)
    assert [node.op_type for node in onnx.load(target).graph.node] == ["DynamicQuantizeLSTM"]
    exact = case.expected()
    for dtype in ("float32", "int8"):
        for a, e in zip(case.run(fc.from_onnx(target, dtype=dtype)), exact, strict=True):
            assert 1e-6 < np.abs(a - e).max() < 0.02


@pytest.mark.parametrize(
    ("role", "array", "message"),
    [
        ("W", np.ones((1, 3, 20), np.int16), "W: element type int16 is not supported; supported: int8, uint8"),
        ("W", np.ones((3, 20), np.int8), r"W: expected three axes, got shape \(3, 20\)"),
        ("W_scale", np.ones(1), "W_scale: element type float64 is not supported; supported: float32"),
        ("R_scale", np.ones(2, np.float32), r"R_scale: expected shape \(1,\) or \(1, 20\), got \(2,\)"),
        ("R_scale", -np.ones(1, np.float32), "R_scale: expected finite numbers from 0 on"),
        ("R_scale", np.full(1, np.nan, np.float32), "R_scale: expected finite numbers from 0 on"),
        ("R_zero_point", np.ones(1, np.uint8), "R_zero_point: expected element type int8, got uint8"),
        ("R_zero_point", np.ones((1, 5), np.int8), r"R_zero_point: expected shape \(1,\) or \(1, 20\), got \(1, 5\)"),
    ],
)
def test_inputs_that_do_not_fit(role: str, array: np.ndarray, message: str) -> None:
    model, _, _ = quantised(np.int8, False)
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == role)
    tensor.CopyFrom(numpy_helper.from_array(array, role))
    with pytest.raises(ValueError, match=f"DynamicQuantizeLSTM node 'quantised': {message}"):
        fc.from_onnx(model)


@pytest.mark.parametrize("role", SCALES)
def test_missing_scales_and_zero_points(role: str) -> None:
    model, _, _ = quantised(np.int8, False)
    names = model.graph.node[0].input
    names[list(names).index(role)] = ""
    with pytest.raises(ValueError, match=f"DynamicQuantizeLSTM node 'quantised': input {role} is missing"):
        fc.from_onnx(model)


def test_layout_is_not_an_attribute_of_it() -> None:
    model, _, _ = quantised(np.int8, False)
    model.graph.node[0].attribute.append(helper.make_attribute("layout", 0))
    with pytest.raises(fc.UnsupportedError, match="attribute layout=0 is not supported"):
        fc.from_onnx(model)


def test_a_scale_of_zero_is_zeros() -> None:
    model, _, case = quantised(np.int8, False, limit=127)
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == "W_scale")
    tensor.CopyFrom(numpy_helper.from_array(np.zeros(1, np.float32), "W_scale"))
    for dtype in ("float32", "int8"):
        layer = fc.from_onnx(model, dtype=dtype)
        assert not layer._stack.arrays()[0]["weight_ih"].any()
        assert all(np.isfinite(part).all() for part in flat(case.run(layer)))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("per_row", [False, True])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("attributes", [{}, {"clip": 0.5}, {"input_forget": 1}])
def test_the_named_mode_is_onnx_runtimes_arithmetic(
    dtype: Any, per_row: bool, directions: int, attributes: dict[str, Any]
) -> None:
    ort = pytest.importorskip("onnxruntime")
    # Where the CPU has no VNNI, ONNX Runtime cuts sums of two products of int8 off at 16 bits unless they fit.
    model, _, case = quantised(dtype, per_row, directions=directions, limit=64 if dtype == np.int8 else None)
    model.graph.node[0].attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    theirs = session.run(None, {name: case.arrays[name] for name in ("X", "initial_h", "initial_c")})
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    inputs = {name: case.arrays[name] for name in ("X", "initial_h", "initial_c")} | tensors
    direction = "bidirectional" if directions == 2 else "reverse"
    mode = reference.ort_dynamic_quantize_lstm(**inputs, direction=direction, **attributes)
    floats = case.run(fc.from_onnx(model, clip_before_h=False))
    for ours, exact, expected in zip(mode, floats, theirs, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)
        assert np.abs(exact - expected).max() > 1e-4
