"""Whole ONNX graphs in ONNX's text form, and ONNX Runtime's answers to hold a model's against."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper

import fusedcell as fc
from onnx_graphs import session_of

SIZES = ((3, 12), (1, 20))


def array(*shape: int, low: float = -0.5, high: float = 0.5) -> np.ndarray:
    size = int(np.prod(shape))
    return np.random.default_rng(size).uniform(low, high, shape).astype(np.float32)


def graph_of(
    body: str,
    inputs: str = "float[batch,time,4] x",
    outputs: str = "float y",
    *,
    opset: int = 18,
    **constants: Any,
) -> onnx.ModelProto:
    """A model in ONNX's text form, with initializers by name."""
    text = (
        f'<ir_version: 8, opset_import: ["" : {opset}, "com.microsoft" : 1]> g ({inputs}) => ({outputs}) {{ {body} }}'
    )
    model = onnx.parser.parse_model(text)
    for output in model.graph.output:
        if not output.type.tensor_type.shape.dim:  # which the text has for any shape
            output.type.tensor_type.ClearField("shape")
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items())
    return model


def feeds_of(model: onnx.ModelProto, batch: int, steps: int) -> dict[str, np.ndarray]:
    held = {tensor.name for tensor in model.graph.initializer}
    feeds = {}
    for seed, value in enumerate(each for each in model.graph.input if each.name not in held):
        kind = value.type.tensor_type
        shape = [{"batch": batch, "time": steps}.get(dim.dim_param, dim.dim_value) for dim in kind.shape.dim]
        random = np.random.default_rng(seed)
        is_float = kind.elem_type == onnx.TensorProto.FLOAT
        feeds[value.name] = (
            random.uniform(-1, 1, shape).astype(np.float32) if is_float else random.integers(0, 7, shape)
        )
    return feeds


def assert_agrees(model: onnx.ModelProto, sizes: Any = SIZES, tolerance: float = 1e-5, **options: Any) -> fc.Model:
    ours = fc.Model.from_onnx(model, **options)
    session = session_of(model)
    names = [output.name for output in session.get_outputs()]
    states = options.get("states", {})
    for batch, steps in sizes:
        feeds = feeds_of(model, batch, steps)
        feeds |= {name: np.zeros_like(feeds[name]) for name in states}
        feeds |= options.get("constants", {})
        expected = dict(zip(names, session.run(None, feeds), strict=True))
        answers = ours(*(feeds[name] for name in ours.inputs))
        answers = answers if isinstance(answers, tuple) else (answers,)
        wanted = [name for name in names if name not in states.values()]
        assert len(answers) == len(wanted)
        for name, answer in zip(wanted, answers, strict=True):
            np.testing.assert_allclose(answer, expected[name], rtol=tolerance, atol=tolerance, err_msg=name)
    return ours


def recurrent_arrays(op: str, directions: int = 1, units: int = 5, inputs: int = 4) -> dict[str, Any]:
    rows = {"RNN": 1, "GRU": 3, "LSTM": 4}[op] * units
    shapes = {"W": (directions, rows, inputs), "R": (directions, rows, units), "B": (directions, 2 * rows)}
    return {name: array(*shape) for name, shape in shapes.items()}
