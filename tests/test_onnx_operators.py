"""What we make of constants behind operators is what ONNX Runtime makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

import onnx
from onnx import TensorProto, helper, numpy_helper

import fusedcell as fc
from fusedcell.convert.onnx.constants import Constants
from fusedcell.convert.onnx.file import OnnxFile
from fusedcell.convert.onnx.graph import Scope
from onnx_graphs import session_of
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
    values = Constants(OnnxFile(model)).read(scope, "out").values
    assert values is not None
    return values


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
        ("Add", [X, X[:1]], {}, 7),
        ("Sub", [I8.astype(np.int32), np.int32(7)], {}, 14),
        ("Mul", [X, np.array([1, 2, 3, 4], np.float32)], {}, 13),
        ("Div", [I8.astype(np.int64), ints(5)], {}, 14),
        ("Neg", [X], {}, 13),
        ("Abs", [I8.astype(np.float32)], {}, 13),
        ("Where", [X > 3, X, X[:1] * 2], {}, 16),
        ("Equal", [X, X[:1]], {}, 13),
        ("Not", [X > 3], {}, 7),
        ("Max", [X, X[:1, :, ::-1]], {}, 13),
        ("Clip", [X, np.float32(3), np.float32(9)], {}, 13),
        ("Gather", [X, ints(2, -1)], {"axis": 1}, 13),
        ("Gather", [X, np.array(1)], {"axis": 2}, 11),
        ("Split", [X], {"axis": 1}, 13),
        ("Pad", [X, ints(0, 1, 0, 0, 0, 2), np.float32(7)], {}, 13),
        ("Flatten", [X], {"axis": 2}, 13),
        ("Shape", [X], {}, 13),
        ("Shape", [X], {"start": -2}, 15),
        ("ConstantOfShape", [ints(2, 3)], {"value": numpy_helper.from_array(np.array([0.5], np.float32))}, 9),
        ("ConstantOfShape", [ints()], {}, 9),
        ("Range", [np.float32(1), np.float32(9), np.float32(2)], {}, 11),
        ("ReduceSum", [X, ints(1)], {"keepdims": 0}, 13),
        ("ReduceSum", [X], {"axes": [0, 2]}, 11),
        ("ReduceMax", [X, ints(-1)], {}, 18),
        ("Trilu", [X], {"upper": 0}, 14),
        ("CumSum", [X, np.array(2)], {}, 14),
        ("QuantizeLinear", [X - 9, np.float32(0.3), np.int8(5)], {}, 13),
        ("QuantizeLinear", [X, np.array([0.1, 0.2, 0.3], np.float32), np.array([0, 5, 9], np.uint8)], {"axis": 1}, 19),
        ("BitwiseAnd", [I8.view(np.uint8), np.uint8(15)], {}, 18),
        ("BitShift", [I8.view(np.uint8), np.uint8(4)], {"direction": "RIGHT"}, 11),
        ("Cast", [X * 3 - 20], {"to": TensorProto.INT8}, 13),
        ("DequantizeLinear", [I8, np.float32(0.3)], {}, 10),
        ("DequantizeLinear", [I8, np.float32(0.3), np.int8(5)], {}, 13),
        ("DequantizeLinear", [I8, np.array([0.3, 0.1, 7], np.float32), np.array([5, -7, 100], np.int8)], {}, 13),
        ("DequantizeLinear", [I8, np.array([0.3, 0.1], np.float32), np.array([5, -7], np.int8)], {"axis": 0}, 13),
        ("DequantizeLinear", [I8.view(np.uint8), np.array([0.1, 0.2, 0.3, 0.4], np.float32)], {"axis": -1}, 13),
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
    model = model_of_one(op_type, [a if a is None else np.asarray(a) for a in inputs], attributes, opset)
    (theirs,) = session_of(model).run(None, {})
    result = ours(model)
    assert result.dtype == theirs.dtype
    np.testing.assert_array_equal(result, theirs)


@pytest.mark.parametrize(
    ("op_type", "inputs", "attributes", "opset"),
    [
        ("MatMul", [X, X.swapaxes(1, 2)], {}, 13),
        ("Gemm", [X[0], X[1], np.array([1, 2, 3], np.float32)], {"transB": 1, "alpha": 0.5}, 13),
        ("ReduceL2", [X, ints(1)], {}, 18),
        ("ReduceL2", [X], {"axes": [1]}, 13),
        ("ReduceMean", [X], {}, 13),
        ("LpNormalization", [X + 1], {"axis": 1, "p": 2}, 1),
        *(
            (name, [X / 24], {}, 13)
            for name in ("Sqrt", "Exp", "Tanh", "Sigmoid", "Erf", "Softplus", "Sin", "Softsign")
        ),
        *((name, [X + 1], {}, 13) for name in ("Log", "Reciprocal")),
        ("Pow", [X + 1, np.float32(-0.5)], {}, 13),
        ("Softmax", [X / 24], {"axis": 1}, 13),
    ],
)
def test_functions_come_within_the_rounding_of_two_implementations(
    op_type: str, inputs: list[Any], attributes: dict[str, Any], opset: int
) -> None:
    model = model_of_one(op_type, [np.asarray(a) for a in inputs], attributes, opset)
    (theirs,) = session_of(model).run(None, {})
    result = ours(model)
    assert result.dtype == theirs.dtype
    np.testing.assert_allclose(result, theirs, rtol=2e-6, atol=1e-7)


def test_a_cast_to_bfloat16_rounds_to_nearest_even() -> None:
    values = np.array([1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20], np.float32)
    result = ours(model_of_one("Cast", [values], {"to": TensorProto.BFLOAT16}, 13))
    np.testing.assert_array_equal(result.astype(np.float32), [1, 1 + 2**-6, 1 + 2**-7])


@pytest.mark.parametrize(
    ("op_type", "inputs", "attributes", "message"),
    [
        ("Identity", [], {}, "expected 1 to 1 inputs, got 0"),
        ("Cast", [X], {}, "'to' is missing"),
        ("Cast", [X * 2**40], {"to": TensorProto.INT32}, "to='INT32' is not supported; supported: integers that hold"),
        ("Cast", [np.array([np.inf], np.float32)], {"to": TensorProto.INT8}, "to='INT8' is not supported"),
        ("Cast", [X], {"to": TensorProto.STRING}, "element type .* is not supported"),
        ("Cast", [X], {"to": 999}, "its inputs do not fit|to=999 is not supported"),
        ("Cast", [X], {"to": 1, "speed": 3}, "attribute speed=3 is not supported; supported: .*to"),
        ("Transpose", [X], {"perm": [0, 1]}, "its inputs do not fit"),
        ("Transpose", [X], {"perm": 3}, "attribute perm: expected type INTS, got 3"),
        ("Squeeze", [X, ints(1)], {}, "its inputs do not fit"),
        ("Squeeze", [X[:1], ints(0)], {"axes": [0]}, r"attribute axes=\(INTS\) is not supported"),
        ("Unsqueeze", [X], {}, "expected 2 to 2 inputs, got 1"),
        ("Unsqueeze", [X, ints(9)], {}, "its inputs do not fit"),
        ("Reshape", [X, ints(5, -1)], {}, "cannot reshape"),
        ("Reshape", [X, ints(-2, 4)], {}, r"shape: expected sizes from 0 on and at most one -1, got \[-2, 4\]"),
        ("Reshape", [X, ints(1, 1, 1, 0)], {}, "index out of range"),
        ("Reshape", [X, np.array([24], np.float32)], {}, r"expected at most 64 integers, got float32 \(1,\)"),
        ("Reshape", [X, np.ones(65, np.int64)], {}, r"expected at most 64 integers, got int64 \(65,\)"),
        ("Concat", [X, X], {}, "'axis' is missing"),
        ("Concat", [X, X.astype(np.float64)], {"axis": 0}, "inconsistent type"),
        ("Concat", [X, X], {"axis": 5}, "axis must be in"),
        ("Slice", [X, ints(0)], {}, "expected 3 to 5 inputs, got 2"),
        ("Slice", [X, ints(0), ints(1, 1)], {}, "its inputs do not fit"),
        ("Slice", [X, ints(0), ints(1), ints(7)], {}, "axis value: 7"),
        ("Slice", [X, ints(0, 0), ints(1, 1), ints(1, -2)], {}, "more than once"),
        ("Slice", [X, ints(0), ints(1), ints(0), ints(0)], {}, "'step' cannot be 0"),
        ("Expand", [X, ints(5)], {}, r"sizes \[4, 5\] do not broadcast"),
        ("Expand", [X, ints(-1)], {}, r"shape: expected sizes from 0 on, got \[-1\]"),
        ("Tile", [X, ints(5)], {}, r"repeats: expected 3 from 0 on, got \[5\]"),
        ("Tile", [X, ints(1, -1, 1)], {}, r"repeats: expected 3 from 0 on, got \[1, -1, 1\]"),
        ("Mul", [X, X[:, :2]], {}, r"sizes \[2, 3\] do not broadcast"),
        ("Mul", [X, X.astype(np.float64)], {}, "its inputs do not fit"),
        ("Sqrt", [I8], {}, "its inputs do not fit"),
        ("Split", [X], {"axis": 3, "num_outputs": 1}, "its inputs do not fit"),
        ("DequantizeLinear", [X, np.float32(1)], {}, "unsupported type"),
        ("DequantizeLinear", [I8, np.float32(1), np.uint8(1)], {}, "inconsistent type"),
        ("DequantizeLinear", [I8, np.ones(2, np.float32)], {}, "could not be broadcast"),
        ("DequantizeLinear", [I8, np.ones(2, np.float32)], {"axis": 3}, "axis is out of boundary"),
        ("DequantizeLinear", [I8, np.ones(2, np.float32)], {"block_size": 2}, "its inputs do not fit"),
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
    case.arrays["W"][0, 0, 0] = value
    with pytest.raises(ValueError, match=r"weight_ih_l0: expected finite values, got 1 (NaN|infinite) of"):
        fc.from_onnx(case.model())
