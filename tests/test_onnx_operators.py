"""What we make of constants behind operators is what ONNX Runtime makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

import onnx
from onnx import TensorProto, helper, numpy_helper

import fusedcell as fc
from fusedcell.convert.onnx_constants import Constants
from fusedcell.convert.onnx_file import OnnxFile
from fusedcell.convert.onnx_graph import Scope
from onnx_models import NodeCase, arrays_for

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
I8 = np.arange(-12, 12, dtype=np.int8).reshape(2, 3, 4)
FAR = 2**62


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def model_of_one(op_type: str, inputs: list[Any], attributes: dict[str, Any], opset: int) -> onnx.ModelProto:
    names = ["" if array is None else f"i{index}" for index, array in enumerate(inputs)]
    initializers = [numpy_helper.from_array(a, n) for a, n in zip(inputs, names, strict=True) if n]
    node = helper.make_node(op_type, names, ["out"], **attributes)
    output = onnx.ValueInfoProto(name="out")
    graph = helper.make_graph([node], "graph", [], [output], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def ours(model: onnx.ModelProto) -> np.ndarray:
    scope = Scope("", {"": model.opset_import[0].version})
    scope.initialisers = {tensor.name: tensor for tensor in model.graph.initializer}
    scope.producers = {"out": model.graph.node[0]}
    return Constants(OnnxFile(model)).read(scope, "out").values


@pytest.mark.parametrize(
    ("op_type", "inputs", "attributes", "opset"),
    [
        ("Identity", [X], {}, 7),
        ("Transpose", [X], {}, 7),
        ("Transpose", [X], {"perm": [1, 2, 0]}, 13),
        ("Squeeze", [X[:, :1, :1]], {}, 13),
        ("Squeeze", [X[:1, :, :1]], {"axes": [0]}, 7),
        ("Squeeze", [X[:1, :, :1], ints(-1)], {}, 13),
        ("Unsqueeze", [X], {"axes": [0, 2]}, 7),
        ("Unsqueeze", [X, ints(-1, 0)], {}, 13),
        ("Reshape", [X, ints(0, -1)], {}, 7),
        ("Reshape", [X, ints(4, 0, 2)], {}, 14),
        ("Reshape", [X[:0], ints(3, 0)], {"allowzero": 1}, 14),
        ("Concat", [X, X[:, :, :1]], {"axis": -1}, 13),
        ("Concat", [X, X, X], {"axis": 0}, 7),
        ("Slice", [X], {"starts": [1], "ends": [FAR]}, 7),
        ("Slice", [X], {"starts": [-2, 0], "ends": [-1, 1], "axes": [2, 0]}, 7),
        ("Slice", [X, ints(-1), ints(-FAR), ints(1), ints(-1)], {}, 13),
        ("Slice", [X, ints(3, 9), ints(0, 20), ints(-1, 1), ints(-2, 1)], {}, 13),
        ("Slice", [X, ints(0, 1), ints(2, 3), None, ints(1, 2)], {}, 13),
        ("Slice", [X, ints(-100), ints(100)], {}, 11),
        ("Expand", [X[:, :1], ints(2, 1, 3, 1)], {}, 13),
        ("Expand", [X[:1, :1], ints(3, 1)], {}, 8),
        ("Tile", [X, ints(2, 1, 3)], {}, 13),
        ("Tile", [X, ints(2, 0, 3)], {}, 13),
        ("Cast", [X / 7], {"to": TensorProto.DOUBLE}, 13),
        ("Cast", [X / 7], {"to": TensorProto.FLOAT16}, 13),
        ("Cast", [X.astype(np.float64) / 7], {"to": TensorProto.FLOAT}, 9),
        ("Cast", [X.astype(np.float16) / 7], {"to": TensorProto.FLOAT}, 13),
        ("Cast", [X.astype(np.int32)], {"to": TensorProto.INT64}, 13),
        ("Cast", [I8], {"to": TensorProto.FLOAT}, 13),
        ("DequantizeLinear", [I8, np.float32(0.3)], {}, 10),
        ("DequantizeLinear", [I8, np.float32(0.3), np.int8(5)], {}, 13),
        ("DequantizeLinear", [I8, np.float32([0.3, 0.1, 7]), np.int8([5, -7, 100])], {}, 13),
        ("DequantizeLinear", [I8, np.float32([0.3, 0.1]), np.int8([5, -7])], {"axis": 0}, 13),
        ("DequantizeLinear", [I8.view(np.uint8), np.float32([0.1, 0.2, 0.3, 0.4])], {"axis": -1}, 13),
        ("DequantizeLinear", [I8, np.float16(0.3), np.int8(5)], {}, 19),
        ("DequantizeLinear", [I8.astype(np.int16), np.float32(0.3), np.int16(300)], {}, 21),
        (
            "DequantizeLinear",
            [I8, (X[:, :, ::2] / 7), I8[:, :, ::2]],
            {"axis": 2, "block_size": 2},
            21,
        ),
    ],
)
def test_operators_give_what_onnx_runtime_gives(
    op_type: str, inputs: list[Any], attributes: dict[str, Any], opset: int
) -> None:
    ort = pytest.importorskip("onnxruntime")
    model = model_of_one(op_type, [a if a is None else np.asarray(a) for a in inputs], attributes, opset)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (theirs,) = session.run(None, {})
    result = ours(model)
    assert result.dtype == theirs.dtype
    np.testing.assert_array_equal(result, theirs)


def test_a_cast_to_bfloat16_rounds_to_nearest_even() -> None:
    values = np.array([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20], np.float32)
    result = ours(model_of_one("Cast", [values], {"to": TensorProto.BFLOAT16}, 13))
    np.testing.assert_array_equal(result.astype(np.float32), [1, 1 + 2**-6, 1 + 2**-7])


@pytest.mark.parametrize(
    ("op_type", "inputs", "attributes", "message"),
    [
        ("Identity", [], {}, "expected 1 to 1 inputs, got 0"),
        ("Cast", [X], {}, "to='-1' is not supported"),
        ("Cast", [X], {"to": TensorProto.INT32}, "to='INT32' is not supported; supported: floats, and integers from i"),
        ("Cast", [X], {"to": TensorProto.STRING}, "to='STRING' is not supported"),
        ("Cast", [X], {"to": 1, "speed": 3}, "attribute speed=3 is not supported; supported: saturate, to"),
        ("Transpose", [X], {"perm": [0, 1]}, "axes don't match array"),
        ("Transpose", [X], {"perm": 3}, "attribute perm: expected type INTS, got 3"),
        ("Squeeze", [X, ints(1)], {}, "cannot select an axis to squeeze out"),
        ("Squeeze", [X[:1], ints(0)], {"axes": [0]}, "axes: expected an input or an attribute, got both"),
        ("Unsqueeze", [X], {}, "axes: missing"),
        ("Unsqueeze", [X, ints(9)], {}, "out of bounds"),
        ("Reshape", [X, ints(5, -1)], {}, "cannot reshape"),
        ("Reshape", [X, ints(-2, 4)], {}, r"shape: expected sizes from -1 on, got \[-2, 4\]"),
        ("Reshape", [X, ints(1, 1, 1, 0)], {}, "index out of range"),
        ("Reshape", [X, np.float32([24])], {}, r"shape: expected at most 64 integers, got float32 \(1,\)"),
        ("Reshape", [X, np.ones(65, np.int64)], {}, r"shape: expected at most 64 integers, got int64 \(65,\)"),
        ("Concat", [X, X], {}, "axis: missing"),
        ("Concat", [X, X.astype(np.float64)], {"axis": 0}, "expected inputs of one element type"),
        ("Concat", [X, X], {"axis": 5}, "out of bounds"),
        ("Slice", [X, ints(0)], {}, "expected 1 to 5 inputs|starts, ends: missing"),
        ("Slice", [X, ints(0), ints(1, 1)], {}, "zip"),
        ("Slice", [X, ints(0), ints(1), ints(7)], {}, "axes: expected axes of an array of 3"),
        ("Slice", [X, ints(0, 0), ints(1, 1), ints(1, -2)], {}, r"axes: expected each once, got \[1, -2\]"),
        ("Slice", [X, ints(0), ints(1), ints(0), ints(0)], {}, "slice step cannot be zero"),
        ("Expand", [X, ints(5)], {}, "shape mismatch"),
        ("Tile", [X, ints(5)], {}, r"repeats: expected 3, got \[5\]"),
        ("Tile", [X, ints(1, -1, 1)], {}, "negative"),
        ("DequantizeLinear", [X, np.float32(1)], {}, "element types float32 and float32; supported: integers and f"),
        ("DequantizeLinear", [I8, np.float32(1), np.uint8(1)], {}, r"zero point: expected int8 \(\), got uint8 \(\)"),
        ("DequantizeLinear", [I8, np.ones(2, np.float32)], {}, r"scale: expected shape \(3,\) for axis 1, got \(2,\)"),
        ("DequantizeLinear", [I8, np.ones(2, np.float32)], {"axis": 3}, "axis: expected one of 3, got 3"),
        ("DequantizeLinear", [I8, np.ones(2, np.float32)], {"block_size": 2}, "block_size=2: expected a scale of sh"),
        ("DequantizeLinear", [I8, np.float32(1)], {"output_dtype": 10}, "output_dtype='FLOAT16' is not supported"),
    ],
)
def test_what_does_not_fit_is_refused(
    op_type: str, inputs: list[Any], attributes: dict[str, Any], message: str
) -> None:
    model = model_of_one(op_type, [np.asarray(a) for a in inputs], attributes, 25)
    with pytest.raises(ValueError, match=f"{op_type} node 'out': .*({message})"):
        ours(model)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_weights_that_are_not_finite_are_refused(value: float) -> None:
    case = NodeCase("RNN", arrays_for("RNN"))
    case.arrays["W"][0, 0, 0] = value  # type: ignore[index]
    with pytest.raises(ValueError, match=r"weight_ih_l0: expected finite values, got 1 (NaN|infinite) of"):
        fc.from_onnx(case.model())
