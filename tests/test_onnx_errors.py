"""What cannot be honoured is refused: the error names the attribute, its value, the node and what is supported."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

import onnx
from onnx import TensorProto, helper, numpy_helper

import fusedcell as fc
from fusedcell.convert.onnx.read import report
from onnx_models import NEWEST, NodeCase, arrays_for, model_of


def case_of(op: str = "LSTM", **options: Any) -> NodeCase:
    return NodeCase(op, arrays_for(op), **options)


@pytest.mark.parametrize(
    ("op", "attributes", "message"),
    [
        ("LSTM", {"direction": "backward"}, "direction='backward' is not supported; supported: forward, reverse, bidi"),
        ("LSTM", {"layout": 2}, "layout=2 is not supported; supported: 0, 1"),
        ("LSTM", {"clip": 0.0}, "clip=0.0 is not supported; supported: a positive number"),
        ("GRU", {"clip": -1.0}, "clip=-1.0 is not supported; supported: a positive number"),
        ("RNN", {"clip": float("nan")}, "clip=nan is not supported; supported: a positive number"),
        (
            "RNN",
            {"activations": ["Gelu"]},
            "activations='Gelu' is not supported; supported: Relu, Tanh, Sigmoid, Aff",
        ),
        (
            "GRU",
            {"activations": ["Tanh"]},
            r"activations=\['Tanh'\] is not supported; supported: 2 for each direction, 2",
        ),
        (
            "RNN",
            {"activations": ["Affine"]},
            "activations='Affine' is not supported; supported: Affine with activation_a",
        ),
        (
            "RNN",
            {"activations": ["ScaledTanh"], "activation_alpha": [1.0]},
            "activations='ScaledTanh' is not supported; supported: ScaledTanh with activation_beta",
        ),
        (
            "RNN",
            {"activation_alpha": [0.5]},
            r"activation_alpha=\[0.5\] is not supported; supported: no more values than",
        ),
        (
            "RNN",
            {"activations": ["Elu"], "activation_beta": [0.5]},
            r"activation_beta=\[0.5\] is not supported; supported: no more values than Elu take",
        ),
        (
            "RNN",
            {"activations": ["Elu"], "activation_alpha": [float("inf")]},
            "activation_alpha=inf is not supported; supported: finite numbers",
        ),
        (
            "LSTM",
            {"linear_before_reset": 1},
            "attribute linear_before_reset=1 is not supported; supported: activation_a",
        ),
        (
            "GRU",
            {"input_forget": 1},
            "attribute input_forget=1 is not supported; supported: activation_alpha, activation",
        ),
        ("RNN", {"output_sequence": 1}, "attribute output_sequence=1 is not supported"),
        ("RNN", {"dropout": 0.5}, "attribute dropout=0.5 is not supported; supported: activation_alpha, .* layout$"),
    ],
)
def test_attributes(op: str, attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(fc.UnsupportedError, match=f"{op} node 'recurrent': {message}"):
        fc.from_onnx(case_of(op).model(**attributes))


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"hidden_size": 4}, "hidden_size=4, but R is for 5 units"),
        ({"hidden_size": 2**62}, "hidden_size=4611686018427387904, but R is for 5 units"),
        ({"hidden_size": 5.0}, r"attribute hidden_size: expected type INT, got 5\.0"),
        ({"clip": 1}, "attribute clip: expected type FLOAT, got 1"),
        ({"direction": ["forward"]}, r"attribute direction: expected type STRING, got \(STRINGS\)"),
        ({"activations": "Tanh"}, "attribute activations: expected type STRINGS, got b'Tanh'"),
        ({"direction": "bidirectional"}, r"R: expected shape \(2, 20, 5\), got shape \(1, 20, 5\)"),
    ],
)
def test_attributes_that_do_not_fit(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"LSTM node 'recurrent': {message}"):
        fc.from_onnx(case_of().model(**attributes))


def test_an_attribute_given_twice() -> None:
    model = case_of().model(hidden_size=5)
    model.graph.node[0].attribute.append(helper.make_attribute("hidden_size", 5))
    with pytest.raises(ValueError, match="LSTM node 'recurrent': attribute hidden_size is given twice"):
        fc.from_onnx(model)


@pytest.mark.parametrize(("opset", "layout"), [(6, None), (1, None), (NEWEST + 1, None), (7, 1), (13, 0)])
def test_operator_sets(opset: int, layout: int | None) -> None:
    case = case_of(opset=opset)
    refused = f"operator set {opset} of the default domain .* supported: 7 to {NEWEST}"
    if layout is not None:
        refused = f"attribute layout={layout} is not supported"
    with pytest.raises(fc.UnsupportedError, match=f"LSTM node 'recurrent': {refused}"):
        fc.from_onnx(case.model(**({} if layout is None else {"layout": layout})))


def test_a_model_that_imports_no_operator_set() -> None:
    model = case_of().model()
    del model.opset_import[:]
    with pytest.raises(fc.UnsupportedError, match="operator set None of the default domain"):
        fc.from_onnx(model)


@pytest.mark.parametrize(
    ("op_type", "domain"), [("LSTM", "com.other"), ("AttnLSTM", "com.microsoft"), ("DynamicQuantizeLSTM", "")]
)
def test_operators_of_other_domains_are_found_and_refused(op_type: str, domain: str) -> None:
    model = case_of().model()
    model.graph.node[0].op_type, model.graph.node[0].domain = op_type, domain
    with pytest.raises(
        fc.UnsupportedError, match=f"{op_type} of domain '{domain}' is not supported; supported: RNN of"
    ):
        fc.from_onnx(model)


def test_the_default_domain_by_its_other_name() -> None:
    model = case_of().model()
    model.graph.node[0].domain = model.opset_import[0].domain = "ai.onnx"
    assert fc.from_onnx(model).hidden_size == 5


def test_inputs_and_outputs_that_are_not_the_operators() -> None:
    model = case_of("GRU").model()
    model.graph.node[0].output.append("gates")
    with pytest.raises(fc.UnsupportedError, match=r"GRU node 'recurrent': outputs \['gates'\] are not supported; supp"):
        fc.from_onnx(model)
    model = case_of("GRU").model()
    model.graph.node[0].input.extend(["", "", "extra"][: 7 - len(model.graph.node[0].input)] or ["extra"])
    with pytest.raises(
        fc.UnsupportedError, match=r"GRU node 'recurrent': inputs .* are not supported; supported: X, W"
    ):
        fc.from_onnx(model)


@pytest.mark.parametrize(
    ("role", "shape", "message"),
    [
        ("W", (1, 19, 3), r"W: expected shape \(1, 20, 3\), got shape \(1, 19, 3\)"),
        ("W", (20, 3), r"W: expected three axes, got shape \(20, 3\)"),
        ("W", (1, 20, 0), r"W: expected shape \(1, 20, 0\), got shape \(1, 20, 0\)"),
        ("R", (1, 20, 4), r"R: expected shape \(1, 16, 4\), got shape \(1, 20, 4\)"),
        ("R", (20, 5), r"R: expected three axes, got shape \(20, 5\)"),
        ("B", (1, 20), r"B: expected shape \(1, 40\), got shape \(1, 20\)"),
        ("P", (1, 20), r"P: expected shape \(1, 15\), got shape \(1, 20\)"),
        ("initial_h", (2, 2, 5), r"initial_h: expected shape \(1, 1, 5\) with the batch for 1, got shape \(2, 2, 5\)"),
        ("initial_c", (1, 5), r"initial_c: expected shape .*, got shape \(1, 5\)"),
    ],
)
def test_shapes_that_do_not_fit(role: str, shape: tuple[int, ...], message: str) -> None:
    arrays = arrays_for("LSTM") | {role: np.ones(shape, np.float32)}
    constants = frozenset({"W", "R", "B", "P", "initial_h", "initial_c"})
    with pytest.raises(ValueError, match=f"LSTM node 'recurrent': {message}"):
        fc.from_onnx(NodeCase("LSTM", arrays, constants=constants).model())


def test_a_missing_weight() -> None:
    model = case_of().model()
    model.graph.node[0].input[1] = ""
    with pytest.raises(ValueError, match="LSTM node 'recurrent': input W is missing"):
        fc.from_onnx(model)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones((1, 5, 3), np.int32), "W: element type int32 is not"),
        (np.full((1, 5, 3), 1e300), "W: a value is beyond float32"),
    ],
)
def test_weights_that_float32_does_not_hold(values: np.ndarray, message: str) -> None:
    model = case_of("RNN").model()
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(values, "W"))
    with pytest.raises(ValueError, match=f"RNN node 'recurrent': {message}"):
        fc.from_onnx(model)


@pytest.mark.parametrize("dtype", [TensorProto.STRING, TensorProto.COMPLEX64, TensorProto.INT4, 0, 999])
def test_element_types_that_no_weight_has(dtype: int) -> None:
    model = case_of("RNN").model()
    model.graph.initializer[0].data_type = dtype
    with pytest.raises(
        fc.UnsupportedError, match=r"input W: tensor 'W': element type .* is not supported; supported: FL"
    ):
        fc.from_onnx(model)


def test_sparse_weights() -> None:
    case = case_of("RNN")
    model = case.model()
    del model.graph.initializer[0]
    values = helper.make_tensor("W", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1, 3], [0, 0, 0])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [1, 5, 3]))
    with pytest.raises(fc.UnsupportedError, match="input W: it is the sparse initializer 'W'"):
        fc.from_onnx(model)


def test_names_defined_twice() -> None:
    model = case_of().model()
    model.graph.initializer.append(model.graph.initializer[0])
    with pytest.raises(ValueError, match="graph: 'W' is defined twice"):
        fc.from_onnx(model)


@pytest.mark.parametrize("source", [3, None, [], np.zeros(3)])
def test_what_is_no_model(source: Any) -> None:
    with pytest.raises(TypeError, match=r"model: expected a path, bytes or an onnx\.ModelProto, got"):
        fc.from_onnx(source)


def test_files_that_are_not_onnx_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(FileNotFoundError):
        fc.from_onnx(path)
    for data in (b"", b"\x08\x07", b"not a protobuf", b"\x89PNG\r\n\x1a\n" + bytes(100)):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"model\.onnx: not an ONNX model"):
            fc.from_onnx(path)
    with pytest.raises(ValueError, match=r"net\.keras: not an ONNX model.*; read a model of Keras with"):
        fc.from_onnx(path.rename(tmp_path / "net.keras"))


def test_without_onnx_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install fusedcell\[onnx\]"):
        fc.from_onnx(b"")


def _varint(value: int) -> list[int]:
    """A length as protobuf writes it."""
    digits = []
    while value > 127:
        digits.append(value % 128 + 128)
        value //= 128
    return [*digits, value]


class TestHostile:
    """Whatever a file holds, reading it ends soon, in a layer or in a ValueError."""

    def test_every_truncation(self) -> None:
        case = case_of("GRU")
        data = case.model().SerializeToString()
        expected = case.run(fc.from_onnx(data))[0]
        loaded = 0
        for size in range(len(data)):
            try:
                layer = fc.from_onnx(data[:size])
            except ValueError:
                continue
            np.testing.assert_array_equal(case.run(layer)[0], expected)
            loaded += 1
        assert loaded <= 1  # without the last entry, an operator set that no node is of

    @pytest.mark.parametrize("seed", range(4))
    def test_mutants(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        case = case_of("LSTM")
        node = helper.make_node("Slice", ["w", "first", "last", "axes"], ["W"])
        integers = {"first": [0], "last": [1], "axes": [0]}
        initializers = [helper.make_tensor(name, TensorProto.INT64, [1], value) for name, value in integers.items()]
        initializers += [numpy_helper.from_array(case.arrays["W"], "w"), *(case.tensor(role) for role in "RBP")]
        original = model_of([node, case.node(hidden_size=5, clip=1.0)], case, initializers=initializers)
        data = original.SerializeToString()
        loaded = 0
        for _ in range(500):
            mutant = bytearray(data)
            for _ in range(random.integers(1, 4)):
                mutant[random.integers(len(mutant))] = random.integers(256)
            try:
                layer = fc.from_onnx(bytes(mutant))
            except ValueError:
                continue
            layer(np.zeros((2, layer.input_size), np.float32))
            loaded += 1
        assert 50 < loaded < 450

    def test_cycles(self) -> None:
        case = case_of("RNN")
        loop = [helper.make_node("Identity", ["W"], ["V"]), helper.make_node("Identity", ["V"], ["W"])]
        initial = [helper.make_node("Expand", ["initial_h", "initial_h"], ["initial_h"])]
        others = [case.tensor(role) for role in ("R", "B")]
        with pytest.raises(fc.UnsupportedError, match=r"input W: '[VW]' is more than 100 operators away .* or a cycle"):
            fc.from_onnx(model_of([*loop, case.node()], case, initializers=others))
        with pytest.raises(fc.UnsupportedError, match=r"input initial_h: .* or a cycle"):
            fc.from_onnx(model_of([*initial, case.node()], case, initializers=[*others, case.tensor("W")]))

    @pytest.mark.parametrize(
        "dims", [[2**62, 2**62], [1, 2**40, 3], [1, -1, 3], [-5, -3], [2**62, 0, 3], [1, 5, 4], [2**31] * 100]
    )
    def test_declared_shapes_of_any_size(self, dims: list[int]) -> None:
        for raw in (True, False):
            model = case_of("RNN").model()
            tensor = model.graph.initializer[0]
            if raw:
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), "W"))
            tensor.dims[:] = dims
            with pytest.raises(ValueError, match=r"RNN node 'recurrent': |tensor 'W': "):
                fc.from_onnx(model)

    @pytest.mark.parametrize("op_type", ["Expand", "Tile", "Concat"])
    def test_little_that_claims_to_become_much(self, op_type: str) -> None:
        case = case_of("RNN")
        shape = helper.make_tensor("shape", TensorProto.INT64, [3], [2**20, 2**20, 2**20])
        nodes, last = [], "w"
        for index in range(60):
            inputs = [last, last] if op_type == "Concat" else [last, "shape"]
            attributes: dict[str, Any] = {"axis": 0} if op_type == "Concat" else {}
            nodes.append(helper.make_node(op_type, inputs, [f"v{index}"], **attributes))
            last = f"v{index}"
        node = case.node()
        node.input[1] = last
        initializers = [shape, helper.make_tensor("w", TensorProto.FLOAT, [1, 1, 1], [1.0])]
        initializers += [case.tensor(role) for role in ("R", "B")]
        with pytest.raises(
            fc.UnsupportedError, match=r"its result is too large for what the file holds|too long to follow"
        ):
            fc.from_onnx(model_of([*nodes, node], case, initializers=initializers))

    def test_subgraphs_within_subgraphs(self) -> None:
        for depth in (20, 40, 200):
            model = onnx.ModelProto(ir_version=8)
            graph = model.graph
            for _ in range(depth):
                attribute = graph.node.add(op_type="If", output=["y"]).attribute.add(name="then_branch")
                attribute.type = onnx.AttributeProto.GRAPH
                graph = attribute.g
            graph.node.append(helper.make_node("RNN", ["X", "W", "R"], ["Y"]))
            message = "nested more than 50 deep" if depth > 50 else "operator set None"
            with pytest.raises(fc.UnsupportedError, match=message):
                fc.from_onnx(model)

    def test_messages_nested_deeper_than_protobuf_reads(self) -> None:
        def field(number: int, data: bytes) -> bytes:
            return bytes([number << 3 | 2, *_varint(len(data))]) + data

        graph = b""
        for _ in range(200):
            graph = field(1, field(5, field(6, graph)))  # node.attribute.g
        with pytest.raises(ValueError, match="not an ONNX model"):
            fc.from_onnx(field(7, graph))

    def test_functions_that_call_themselves_or_double_at_each_call(self) -> None:
        def calls(name: str, times: int) -> list[onnx.NodeProto]:
            return [helper.make_node(name, ["x"], [f"y{index}"], "n" * 1000, domain="d") for index in range(times)]

        opsets = [helper.make_opsetid("", 14)]
        itself = helper.make_function("d", "f", ["x"], ["y0"], calls("f", 1), opsets)
        tower = [helper.make_function("d", f"f{i}", ["x"], ["y0"], calls(f"f{i + 1}", 2), opsets) for i in range(40)]
        for functions, name, message in (([itself], "f", "50 deep"), (tower, "f0", "more than 200000 nodes")):
            graph = helper.make_graph(calls(name, 1), "graph", [], [])
            with pytest.raises(fc.UnsupportedError, match=message):
                fc.from_onnx(helper.make_model(graph, functions=functions))

    def test_functions_of_many_names_that_are_called_many_times(self) -> None:
        names = [f"x{index}" for index in range(2000)]
        opsets = [helper.make_opsetid("", 14)]
        inner = [helper.make_node("LSTM", ["x0", "x1", "x2"], ["y"])]
        wide = helper.make_function("d", "wide", names, ["y"], inner, opsets)
        outer = helper.make_function("d", "outer", ["x"], ["y"], [helper.make_node("LSTM", ["x"] * 3, names)], opsets)
        for function in (wide, outer):
            calls = [helper.make_node(function.name, ["x"], [f"y{i}"], domain="d") for i in range(1000)]
            model = helper.make_model(helper.make_graph(calls, "graph", [], []), functions=[function])
            with pytest.raises(fc.UnsupportedError, match="the model's graphs have more than 1000000 names in all"):
                fc.from_onnx(model)

    def test_a_node_of_many_outputs_is_looked_through_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        case = case_of("RNN")
        names = [f"n{index}" for index in range(50)]
        source, sink = helper.make_node("Split", ["lengths"], names), helper.make_node("Sum", names, ["sequence_lens"])
        node = case.node()
        node.input[4] = "sequence_lens"
        walked = []

        def used_names(node: Any) -> Any:
            walked.append(node.op_type)
            return iter(node.input)

        monkeypatch.setattr("fusedcell.convert.onnx.constants._used_names", used_names)
        with pytest.raises(fc.UnsupportedError, match="sequence_lens"):
            fc.from_onnx(model_of([source, sink, node], case))
        assert sorted(walked) == ["Split", "Sum"]

    def test_one_bad_node_does_not_hide_the_others(self) -> None:
        case = case_of("RNN")
        bad, good = case.node(clip=-1.0), case.node()
        bad.output[:], good.name = ["a", "b"], "good"
        first, second = report(model_of([bad, good], case))
        assert "clip=-1.0 is not supported" in first.refusal
        assert second.refusal == ""
        assert second.reading is not None
