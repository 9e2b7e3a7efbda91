"""Model.to_onnx writes models that ONNX Runtime runs to the model's answer, whatever the batch and the length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

pytest.importorskip("onnx")

import onnx
from onnx.reference import ReferenceEvaluator

import fusedcell as fc
from drawn import examples, note_difference
from drawn_models import ELEMENTWISE, GROWING, ROOTS, drawn_models
from fusedcell import _core, nodes
from fusedcell._dtypes import DTYPES
from fusedcell.convert.onnx import builder as onnx_builder
from model_entries import LENGTHS, DrawnModel
from models import KIND, random_state, uniform
from onnx_models import NodeCase, arrays_for
from test_model_axes import arrange_inputs, arranged_models, inputs_of
from test_onnx_write import assert_close

Runner = Callable[..., list[np.ndarray]]


def runner(model: onnx.ModelProto) -> Runner:
    """What runs a valid model in ONNX Runtime."""
    onnx.checker.check_model(model, full_check=True)
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    return lambda *inputs: session.run(None, dict(zip(names, inputs, strict=True)))


def answers(model: Any, inputs: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    found = model(*inputs)
    return found if isinstance(found, tuple) else (found,)


def layer_of(name: str, inputs: int, units: int, **options: Any) -> Any:
    kind = KIND[name]
    weights = {key: options.pop(key) for key in ("layers", "directions") if key in options}
    return kind.make(kind.weights(inputs, units, **weights), **options)


def array(*shape: int) -> np.ndarray:
    return uniform(sum(shape), *shape)


# Rows of 6 features in, unless it is an embedding, which take 3 rows or more.
CASES: dict[str, tuple[type[Any], Any]] = {
    "Dense": (nodes.Dense, nodes.Dense(array(4, 6), array(4))),
    "Dense without bias, softmax": (nodes.Dense, nodes.Dense(array(4, 6), activation="softmax")),
    "Window": (nodes.Window, nodes.Window(array(4, 18), array(4), taps=3, padding=(2, 0), activation="relu")),
    "Window, stride, dilation, groups": (
        nodes.Window,
        nodes.Window(array(4, 6), taps=2, stride=2, dilation=2, padding=(1, 3), groups=2),
    ),
    "Window, more padding than taps": (nodes.Window, nodes.Window(array(4, 12), taps=2, padding=(5, 4))),
    "Window, less rows": (nodes.Window, nodes.Window(array(4, 6), taps=1, padding=(-1, -1))),
    "Window, less rows before and zeros after": (nodes.Window, nodes.Window(array(4, 12), taps=2, padding=(-4, 6))),
    "Window, zeros before and less rows after": (nodes.Window, nodes.Window(array(4, 12), taps=2, padding=(6, -4))),
    "Window, positions": (
        nodes.Window,
        nodes.Window(array(4, 4), array(4), taps=2, dilation=2, padding=(0, 2), positions=3, activation="tanh"),
    ),
    "Window, positions and groups": (
        nodes.Window,
        nodes.Window(array(4, 3), taps=3, stride=2, padding=(1, 1), positions=3, groups=2),
    ),
    "Window, repeat": (nodes.Window, nodes.Window(array(6, 12), array(6), taps=2, padding=(1, 0), repeat=3)),
    "transposed": (nodes.Window, nodes.Window.transposed(array(6, 4, 6), array(4), stride=3)),
    "transposed, padding": (
        nodes.Chain,
        nodes.Window.transposed(array(6, 2, 5), stride=3, padding=2, output_padding=1, groups=2),
    ),
    "transposed, positions": (
        nodes.Chain,
        nodes.Window.transposed(array(2, 4, 5), array(4), stride=2, padding=1, positions=3),
    ),
    "Depthwise": (nodes.Depthwise, nodes.Depthwise(array(3, 6), array(6), dilation=2, padding=4, activation="elu")),
    "Depthwise, positions": (nodes.Depthwise, nodes.Depthwise(array(2, 2), stride=2, padding=(1, 0), positions=3)),
    "MaxPool": (nodes.MaxPool, nodes.MaxPool(2, stride=1, padding=(0, -1))),
    "MaxPool, dilation": (nodes.MaxPool, nodes.MaxPool(2, dilation=2, stride=1)),
    "MaxPool, positions": (nodes.MaxPool, nodes.MaxPool(2, stride=1, positions=3)),
    "MeanPool": (nodes.MeanPool, nodes.MeanPool(3, stride=2, padding=(1, 4))),
    "MeanPool, dilation": (nodes.MeanPool, nodes.MeanPool(3, stride=1, dilation=2, padding=(2, 2))),
    "MeanPool, positions": (nodes.MeanPool, nodes.MeanPool(2, positions=3, padding=(0, 1))),
    "MeanPool, positions and dilation": (nodes.MeanPool, nodes.MeanPool(2, stride=1, positions=3, dilation=2)),
    "Embedding": (nodes.Embedding, nodes.Embedding(array(7, 5))),
    "Activation": (nodes.Activation, nodes.Activation("silu")),
    "Scale": (nodes.Scale, nodes.Scale(array(6), array(6))),
    "Scale without bias": (nodes.Scale, nodes.Scale(array(6))),
    "PReLU": (nodes.PReLU, nodes.PReLU(array(6))),
    "PReLU, one slope": (nodes.PReLU, nodes.PReLU([0.25])),
    "GLU": (nodes.GLU, nodes.GLU()),
    "Softmax": (nodes.Softmax, nodes.Softmax()),
    "Softmax, parts": (nodes.Softmax, nodes.Softmax(3)),
    "LogSoftmax": (nodes.LogSoftmax, nodes.LogSoftmax(2)),
    "LayerNorm": (nodes.LayerNorm, nodes.LayerNorm(array(6), array(6), eps=0.25)),
    "LayerNorm without weights": (nodes.LayerNorm, nodes.LayerNorm(None, array(6))),
    "LayerNorm, parts": (nodes.LayerNorm, nodes.LayerNorm(array(6), array(6), parts=2)),
    "RMSNorm": (nodes.RMSNorm, nodes.RMSNorm(eps=0.25)),
    "RMSNorm, parts": (nodes.RMSNorm, nodes.RMSNorm(array(6), parts=2)),
    "L2Norm": (nodes.L2Norm, nodes.L2Norm()),
    "L2Norm, parts": (nodes.L2Norm, nodes.L2Norm(eps=0.75, parts=3)),
    "Take, neighbours": (nodes.Take, nodes.Take(range(2, 5))),
    "Take, any": (nodes.Take, nodes.Take([5, 0, 0, 3])),
    "Take, repeat": (nodes.Take, nodes.Take([5, 0, 1, 3, 2, 2], repeat=3)),
    "Rows": (nodes.Rows, nodes.Rows(2, 1)),
    "Rows, less": (nodes.Rows, nodes.Rows(-1, -1)),
    "Rows, the same": (nodes.Rows, nodes.Rows(0, 0)),
    "Last": (nodes.Last, nodes.Last()),
    "Last, two directions": (nodes.Last, nodes.Last(2)),
    "Mean": (nodes.Mean, nodes.Mean()),
    "Max": (nodes.Max, nodes.Max()),
    "Sum": (nodes.Sum, nodes.Sum()),
    "Inside": (nodes.Inside, nodes.Inside(layer_of("gru_reset_after", 2, 5, directions=2), 3)),
    "Chain": (nodes.Chain, nodes.Chain([nodes.Dense(array(4, 6), activation="softmax"), nodes.Mean(), nodes.L2Norm()])),
}  # fmt: skip


def test_each_type_of_node_is_among_the_cases() -> None:
    of_several = {nodes.Add, nodes.Multiply}
    assert {getattr(nodes, name) for name in nodes.__all__} - {nodes.Node} == {
        cls for cls, _ in CASES.values()
    } | of_several


@pytest.mark.parametrize("case", CASES)
def test_each_node_is_what_it_is(case: str) -> None:
    """By ONNX Runtime, and by the ONNX package's own reading of the operators."""
    cls, node = CASES[case]
    assert type(node) is cls
    tokens = cls is nodes.Embedding
    model = fc.Model([("y", node, "x")], {"x": 7 if tokens else 6})
    written = model.to_onnx()
    run, reference = runner(written), ReferenceEvaluator(written)
    for steps, batch in ((9, 2), (5, 1), (6, 3)):
        x = np.random.default_rng(1).integers(0, 7, (steps, batch)) if tokens else 2 * uniform(steps, steps, batch, 6)
        assert_close(run(x), [model(x)])
        assert_close(reference.run(None, {"x": x}), [model(x)])


@pytest.mark.parametrize("node", [nodes.Add(), nodes.Multiply()])
def test_sums_and_products_of_several(node: Any) -> None:
    model = fc.Model([("b", nodes.Scale(array(4)), "x"), ("y", node, ("x", "b", "z", "x"))])
    x, z = uniform(1, 5, 3, 4), uniform(2, 5, 3, 4)
    assert_close(runner(model.to_onnx())(x, z), [model(x, z)])


FUNCTIONS = (*ELEMENTWISE, *((name,) for name in (*GROWING, *ROOTS)))


def test_each_activation_is_among_the_functions() -> None:
    assert {name for name, *_ in FUNCTIONS} == set(_core.node_activations())


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function[0])
def test_each_activation_by_itself_and_of_a_matrix(function: tuple[Any, ...]) -> None:
    activation = nodes.Activation(*function)
    matrix = nodes.Dense(np.eye(1), activation=function)
    model = fc.Model([("alone", activation, "x"), ("of", matrix, "x")], {"x": 1}, ("alone", "of"))
    x = np.array([*np.linspace(-9, 9, 145), -60, 60, 1e-6, -1e-6], np.float32)
    x = (np.abs(x) if function[0] in ROOTS else x)[:, None, None]
    assert {0.25, 0.5, -0.5} <= set(x.ravel().tolist()) or function[0] in ROOTS  # thresholds themselves
    alone, of = runner(model.to_onnx())(x)
    assert_close([alone, of], model(x))


@pytest.mark.parametrize("name", ["lstm", "gru_reset_after", "gru_reset_before", "rnn_tanh", "rnn_relu"])
@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize("options", [{}, {"layers": 3, "directions": 2}, {"batch_first": True}], ids=str)
def test_layers_within_models(name: str, state: bool, options: dict[str, Any]) -> None:
    layer = layer_of(name, 8, 5, **options)
    if state:
        weights = {key: value for key, value in options.items() if key != "batch_first"}
        given_state = random_state(KIND[name], KIND[name].weights(8, 5, **weights), 1)
        layer = layer.with_initial_state(*(given_state if isinstance(given_state, tuple) else (given_state,)))
    again = layer_of(name, 4, 3)
    head = nodes.Dense(array(4, 5 * (2 if "directions" in options else 1)))
    model = fc.Model(
        [("first", layer, ("x", "z")), ("middle", head, "first"), ("second", again, "middle")],
        {"x": 6, "z": 2}, ("second", "first"),
    )  # fmt: skip
    run = runner(model.to_onnx())
    for steps, batch in ((7, 3), (1, 1)):
        x, z = uniform(1, steps, batch, 6), uniform(2, steps, batch, 2)
        assert_close(run(x, z), model(x, z))


@pytest.mark.parametrize("attributes", [{"clip": 0.5, "input_forget": 1}, {"direction": "reverse"}], ids=str)
def test_a_layers_options_and_direction_come_back(attributes: dict[str, Any]) -> None:
    layer = fc.from_onnx(NodeCase("LSTM", arrays_for("LSTM", directions=1), attributes).model())
    x = uniform(1, 6, 3, layer.input_size)
    model = fc.Model([("y", layer, "x")])
    read = fc.from_onnx(model.to_onnx())
    assert repr(read) == repr(layer)
    np.testing.assert_array_equal(read(x)[0], model(x))


@settings(max_examples=examples(150))
@given(model=drawn_models(most_nodes=5), batch_first=st.booleans(), batch=st.integers(1, 3), data=st.data())
def test_drawn_models(model: DrawnModel, batch_first: bool, batch: int, data: st.DataObject) -> None:
    every = [entry.node.layer if isinstance(entry.node, nodes.Inside) else entry.node for entry in model.entries]
    layers = [layer for layer in every if isinstance(layer, fc.LSTM)]
    assume(not any(layer.proj_size for layer in layers))
    # What ONNX Runtime clips is not all that the operator's text says.
    assume(not any(each.clip for layer in layers for each in layer.cell_options))
    made = model.build(batch_first=batch_first)
    run = runner(made.to_onnx())
    enough = [int(steps) for steps in LENGTHS[:60] if all(value.rows[steps] for value in model.values.values())]
    assume(enough)
    theirs: list[np.ndarray] = []
    ours: list[np.ndarray] = []
    for steps in data.draw(st.lists(st.sampled_from(enough), min_size=2, max_size=3, unique=True)):
        inputs = model.draw_inputs(steps, batch)
        if batch_first:
            inputs = [np.ascontiguousarray(rows.swapaxes(0, 1)) for rows in inputs]
        theirs += run(*inputs)
        ours += answers(made, inputs)
    note_difference(ours, theirs)
    assert_close(theirs, ours)


def shapes(values: Any) -> dict[str, tuple[int, list[int | str]]]:
    return {
        value.name: (
            value.type.tensor_type.elem_type,
            [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim],
        )
        for value in values
    }


@pytest.mark.parametrize("batch_first", [False, True])
def test_inputs_and_outputs_are_the_models_by_name_and_shape(batch_first: bool) -> None:
    model = fc.Model(
        [
            ("table", nodes.Embedding(array(7, 2)), "words"),
            ("gru", layer_of("gru_reset_after", 6, 5), ("table", "x")),
            ("half", nodes.Window(array(3, 10), taps=2, stride=2), "gru"),
            ("same", nodes.Window(array(3, 10), taps=2, padding=(1, 0)), "gru"),
            ("last", nodes.Last(), "gru"),
            ("class", nodes.Dense(array(4, 5)), "last"),
        ],
        {"x": 4, "words": 7}, ("gru", "class", "half", "same"), batch_first,
    )  # fmt: skip
    written = model.to_onnx()
    rows = ["batch", "steps"] if batch_first else ["steps", "batch"]
    fewer = ["batch", "half_steps"] if batch_first else ["half_steps", "batch"]
    floats, integers = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
    assert shapes(written.graph.input) == {"x": (floats, [*rows, 4]), "words": (integers, rows)}
    assert shapes(written.graph.output) == {
        "gru": (floats, [*rows, 5]),
        "class": (floats, ["batch", 4]),
        "half": (floats, [*fewer, 3]),
        "same": (floats, [*rows, 3]),
    }
    x = uniform(1, 4, 8, 4) if batch_first else uniform(1, 8, 4, 4)
    words = np.random.default_rng(1).integers(0, 7, x.shape[:2])
    assert_close(runner(written)(x, words), model(x, words))
    assert (written.ir_version, written.opset_import[0].version) == (8, 17)


@settings(max_examples=examples(50))
@given(arranged_models(), st.integers(1, 3), st.integers(3, 9))
def test_arrays_have_the_models_axes(models: tuple[fc.Model, fc.Model], batch: int, steps: int) -> None:
    plain, model = models
    inputs = arrange_inputs(model, inputs_of(plain, batch, 2 * steps), "bt")
    assert_close(runner(model.to_onnx())(*inputs), answers(model, inputs))


AXES: list[tuple[dict[str, Any], dict[str, tuple[int, ...]], dict[str, list[int | str]]]] = [
    # A row that is the same at every step, and one token a call.
    (
        {"x": ("batch", 2, "time", 3), "z": (4, "batch"), "t": ("batch",)},
        {"x": (2, 2, 7, 3), "z": (4, 2), "t": (2,)},
        {"x": ["batch", 2, "steps", 3], "z": [4, "batch"], "t": ["batch"],
         "y": ["steps", "batch", 2], "l": ["batch", 6]},
    ),
    # A single sequence; the outputs' axes too.
    (
        {"x": (6, "time"), "z": (2, 2), "t": ("time", 1), "y": (2, "time"), "l": (3, 1, 2)},
        {"x": (6, 7), "z": (2, 2), "t": (7, 1)},
        {"x": [6, "steps"], "z": [2, 2], "t": ["steps", 1], "y": [2, "steps"], "l": [3, 1, 2]},
    ),
    # A step a call, whose answer has time if it says so.
    (
        {"x": (2, "batch", 3), "z": ("batch", 4), "t": ("batch",), "y": ("batch", "time", 2)},
        {"x": (2, 5, 3), "z": (5, 4), "t": (5,)},
        {"x": [2, "batch", 3], "z": ["batch", 4], "t": ["batch"], "y": ["batch", 1, 2], "l": ["batch", 6]},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("axes", "given_shapes", "expected"), AXES, ids=["held", "one sequence", "no time"])
def test_arrays_without_some_axes(
    axes: dict[str, Any], given_shapes: dict[str, tuple[int, ...]], expected: dict[str, list[int | str]]
) -> None:
    made = [
        ("table", nodes.Embedding(array(7, 2)), "t"),
        ("y", nodes.Dense(array(2, 12)), ("x", "z", "table")),
        ("l", nodes.Last(), "x"),
    ]
    model = fc.Model(made, {"z": 4, "x": 6, "t": 7}, ("y", "l"), axes=axes)
    written = model.to_onnx()
    declared = shapes(written.graph.input) | shapes(written.graph.output)
    assert {name: shape for name, (_, shape) in declared.items()} == expected
    generator = np.random.default_rng(1)
    inputs = [
        generator.integers(0, 7, given_shapes[name]) if name == "t" else uniform(1, *given_shapes[name])
        for name in model.inputs
    ]
    assert_close(runner(written)(*inputs), model(*inputs))


def test_values_have_the_nodes_names() -> None:
    model = fc.Model([("conv", nodes.Window(array(4, 12), taps=2), "x"), ("y", nodes.Dense(array(1, 4)), "conv")])
    assert {"conv", "y"} <= {name for node in model.to_onnx().graph.node for name in node.output}


def test_any_names_will_do() -> None:
    """Those of what is between nodes too, as long as the model has them but once."""
    begin: list[tuple[str, Any, str]] = [
        ("y", layer_of("gru_reset_after", 2, 2, layers=2), "x"),
        ("y/", nodes.Softmax(2), "y"),
    ]
    first = fc.Model(begin, batch_first=True).to_onnx()
    theirs = {name for node in first.graph.node for name in (*node.output, *node.input)} - {"x", "y", "y/", ""}
    assert len(theirs) > 10
    listed, source = begin, "y/"
    for name in [*sorted(theirs), "/", "x/", "y//", " "]:
        listed.append((name, nodes.Scale(array(2)), source))
        source = name
    model = fc.Model(listed, outputs=("y", source), batch_first=True)
    x = uniform(1, 2, 5, 2)
    assert_close(runner(model.to_onnx())(x), model(x))


def test_an_output_that_is_another_value_under_its_own_name() -> None:
    model = fc.Model(
        [("a", nodes.Dense(array(3, 6)), "x"), ("b", nodes.Rows(0, 0), "a"), ("c", nodes.Rows(0, 0), "x"),
         ("d", nodes.Rows(0, 0), "c"), ("e", nodes.Activation("tanh"), "d")],
        outputs=("b", "a", "d", "e"),
    )  # fmt: skip
    x = uniform(1, 5, 2, 6)
    assert_close(runner(model.to_onnx())(x), model(x))


@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_narrow_weights_are_written_as_the_floats_that_they_stand_for(dtype: str) -> None:
    model = fc.Model(
        [
            ("table", nodes.Embedding(array(7, 6)), "words"),
            ("conv", nodes.Window(array(5, 12), taps=2), "table"),
            ("gru", layer_of("gru_reset_after", 5, 4), "conv"),
            ("head", nodes.Dense(array(3, 4)), "gru"),
        ]
    ).astype(dtype)
    assert model.to_onnx() == model.astype("float32").to_onnx()
    assert {tensor.data_type for tensor in model.to_onnx().graph.initializer} <= {
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.INT64,
    }


def test_the_file_is_the_model_and_the_same_each_time(tmp_path: Path) -> None:
    model = fc.Model([("gru", layer_of("gru_reset_after", 3, 4), "x"), ("y", nodes.Softmax(), "gru")])
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    written = model.to_onnx(path)
    data = path.read_bytes()
    assert onnx.load(path) == written
    fc.Model._from_bytes(model._to_bytes()).to_onnx(str(path))
    assert path.read_bytes() == data
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.onnx"]


class TestRefusals:
    def refused(self, model: Any, message: str, folder: Path) -> None:
        with pytest.raises(fc.UnsupportedError, match=message):
            model.to_onnx(folder / "model.onnx")
        assert not list(folder.iterdir())

    def test_a_projection_by_the_nodes_name(self, tmp_path: Path) -> None:
        kind = KIND["lstm_projected"]
        model = fc.Model([("deep.lstm", kind.make(kind.weights(9, 17)), "x")])
        self.refused(model, "^deep.lstm: proj_size=8 is not supported; supported: none", tmp_path)

    def test_clip_before_h(self, tmp_path: Path) -> None:
        layer = fc.from_onnx(NodeCase("LSTM", arrays_for("LSTM"), {"clip": 0.5}).model(), clip_before_h=False)
        self.refused(fc.Model([("y", layer, "x")]), "^y: clip_before_h=False is not supported", tmp_path)

    def test_more_weights_than_a_file_holds(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(onnx_builder, "_LARGEST", 4 * 6 * 5)
        model = fc.Model([("a", nodes.Dense(array(5, 6)), "x"), ("b", nodes.Dense(array(2, 5)), "a")])
        self.refused(model, "^b: weights of 2 GiB and more are not supported", tmp_path)
