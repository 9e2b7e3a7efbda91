"""Weights are found wherever a file holds them: behind operators, in subgraphs, in functions, in other files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

import onnx
from onnx import TensorProto, helper, numpy_helper

import fusedcell as fc
from fusedcell.convert.onnx.read import report
from onnx_models import NodeCase, arrays_for, model_of

Array = np.ndarray
Built = tuple[list[onnx.NodeProto], list[onnx.TensorProto]]


def case_of(op: str = "LSTM", **options: Any) -> NodeCase:
    return NodeCase(op, arrays_for(op, absent=("sequence_lens", "initial_h", "initial_c"), **options))


def same_as_plain(model: onnx.ModelProto, case: NodeCase, node: Any = None) -> None:
    plain = case.run(fc.from_onnx(case.model()))
    for a, e in zip(case.run(fc.from_onnx(model, node)), plain, strict=True):
        np.testing.assert_array_equal(a, e)


def tensor(name: str, array: Any, dtype: Any = None) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(array, dtype), name)


def constant(array: Array) -> Built:
    return [helper.make_node("Constant", [], ["W"], value=tensor("", array))], []


def constant_floats(array: Array) -> Built:
    nodes = [
        helper.make_node("Constant", [], ["flat"], value_floats=array.reshape(-1).tolist()),
        helper.make_node("Constant", [], ["shape"], value_ints=array.shape),
        helper.make_node("Reshape", ["flat", "shape"], ["W"]),
    ]
    return nodes, []


def identity(array: Array) -> Built:
    nodes = [helper.make_node("Identity", ["w"], ["v"]), helper.make_node("Identity", ["v"], ["W"])]
    return nodes, [tensor("w", array)]


def cast(array: Array) -> Built:
    return [helper.make_node("Cast", ["w"], ["W"], to=TensorProto.FLOAT)], [tensor("w", array, np.float64)]


def transpose(array: Array) -> Built:
    return [helper.make_node("Transpose", ["w"], ["W"], perm=[1, 2, 0])], [tensor("w", array.transpose(2, 0, 1))]


def squeeze(array: Array) -> Built:
    nodes = [helper.make_node("Squeeze", ["w", "axes"], ["W"])]
    return nodes, [tensor("w", array[:, None]), tensor("axes", [1], np.int64)]


def unsqueeze(array: Array) -> Built:
    nodes = [helper.make_node("Unsqueeze", ["w", "axes"], ["W"])]
    return nodes, [tensor("w", array[0]), tensor("axes", [0], np.int64)]


def reshape(array: Array) -> Built:
    nodes = [helper.make_node("Reshape", ["w", "shape"], ["W"])]
    return nodes, [tensor("w", array.reshape(-1)), tensor("shape", [1, -1, array.shape[2]], np.int64)]


def as_exporters_reorder_gates(array: Array) -> Built:
    """PyTorch's i f g o becomes ONNX's i o f c by slices, as in silero-vad's files."""
    gates = np.split(array[0], 4)
    torch_order = np.concatenate([gates[0], gates[2], gates[3], gates[1]])
    units = len(gates[0])
    nodes = []
    limits = {"from_i": (0, 1), "from_o": (3, 4), "from_f": (1, 3)}
    for name, (first, last) in limits.items():
        nodes.append(helper.make_node("Constant", [], [f"{name}_first"], value_ints=[first * units]))
        nodes.append(helper.make_node("Constant", [], [f"{name}_last"], value_ints=[last * units]))
        nodes.append(helper.make_node("Slice", ["w", f"{name}_first", f"{name}_last", "axis"], [name]))
    nodes.append(helper.make_node("Concat", list(limits), ["joined"], axis=0))
    nodes.append(helper.make_node("Unsqueeze", ["joined", "axis"], ["W"]))
    return nodes, [tensor("w", torch_order), tensor("axis", [0], np.int64)]


def concat(array: Array) -> Built:
    nodes = [helper.make_node("Concat", ["a", "b"], ["W"], axis=2)]
    return nodes, [tensor("a", array[:, :, :1]), tensor("b", array[:, :, 1:])]


BUILDERS: tuple[Callable[[Array], Built], ...] = (
    constant, constant_floats, identity, cast, transpose, squeeze, unsqueeze, reshape, as_exporters_reorder_gates,
    concat,
)  # fmt: skip


@pytest.mark.parametrize("build", BUILDERS, ids=lambda build: build.__name__)
def test_weights_behind_operators(build: Callable[[Array], Built]) -> None:
    case = case_of()
    nodes, initializers = build(case.arrays["W"])
    others = [case.tensor(role) for role in ("R", "B", "P")]
    model = model_of([*nodes, case.node()], case, initializers=[*initializers, *others])
    same_as_plain(model, case)


@pytest.mark.parametrize(
    ("op_type", "attribute"), [("Squeeze", {"axes": [1]}), ("Unsqueeze", {"axes": [0]}), ("Slice", {"starts": [0]})]
)
def test_operators_of_old_opsets_with_attributes_for_inputs(op_type: str, attribute: dict[str, Any]) -> None:
    case = NodeCase("RNN", case_of("RNN").arrays, opset=7)
    W = case.arrays["W"]
    stored = {"Squeeze": W[:, None], "Unsqueeze": W[0], "Slice": np.concatenate([W, W])}[op_type]
    ends: dict[str, Any] = {"ends": [1], "axes": [0]} if op_type == "Slice" else {}
    nodes = [helper.make_node(op_type, ["w"], ["W"], **attribute, **ends), case.node()]
    initializers = [tensor("w", stored), case.tensor("R"), case.tensor("B")]
    same_as_plain(model_of(nodes, case, initializers=initializers), case)


@pytest.mark.parametrize("axis", [None, 1])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_weights_behind_dequantize_linear(axis: int | None, dtype: type) -> None:
    """y = (x - zero_point) * scale, per tensor or per row."""
    case = case_of("GRU")
    rows = case.arrays["W"].shape[1]
    info = np.iinfo(dtype)
    q: np.ndarray = np.random.default_rng(2).integers(info.min, info.max + 1, case.arrays["W"].shape).astype(dtype)
    scale = np.linspace(0.001, 0.004, rows).astype(np.float32) if axis else np.float32(0.003)
    zero: np.ndarray = np.full(np.shape(scale), 7, dtype)
    broadcast = (lambda a: a[None, :, None]) if axis else (lambda a: a)
    case.arrays["W"] = (q.astype(np.float32) - broadcast(zero).astype(np.float32)) * broadcast(scale)  # type: ignore[index] # the case has arrays
    options: dict[str, Any] = {} if axis is None else {"axis": axis}
    nodes = [helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["W"], **options), case.node()]
    initializers = [tensor("q", q), tensor("scale", scale), tensor("zero", zero), case.tensor("R"), case.tensor("B")]
    model = model_of(nodes, case, initializers=initializers)
    same_as_plain(model, case)
    (found,) = report(model)
    assert found.reading is not None
    assert found.reading.weights.source == "initializer 'q' through DequantizeLinear"
    assert found.reading.weights.types == (np.dtype(dtype).name,)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: helper.make_node("Relu", ["X"], ["W"]), "'X', an input of the graph"),
        (lambda: helper.make_node("LRN", ["X"], ["W"], size=1), "computed by LRN node 'W'"),
        (lambda: helper.make_node("Identity", ["X"], ["W"]), "'X', an input of the graph"),
        (lambda: helper.make_node("Det", ["R"], ["W"]), "it comes from Det node 'W', and Det of constants is not foll"),
        (
            lambda: helper.make_node("Cast", ["missing"], ["W"], to=1),
            "it is 'missing', which the model does not define",
        ),
        (lambda: helper.make_node("Identity", ["R"], ["W"], domain="other"), "it comes from Identity node 'W'"),
    ],
)
def test_weights_that_are_not_found_are_refused_by_operator_and_input(make: Callable[[], Any], name: str) -> None:
    case = case_of("RNN")
    model = model_of([make(), case.node()], case, initializers=[case.tensor("R"), case.tensor("B")])
    with pytest.raises(fc.UnsupportedError, match=f"RNN node 'recurrent': input W: ?(is )?{name}|input W is {name}"):
        fc.from_onnx(model)


def test_an_input_of_the_graph_is_no_weight_and_one_with_a_default_is() -> None:
    case = case_of("RNN")
    model = case.model()
    model.graph.input.append(helper.make_tensor_value_info("W", TensorProto.FLOAT, case.arrays["W"].shape))
    same_as_plain(model, case)
    del model.graph.initializer[0]
    with pytest.raises(fc.UnsupportedError, match="input W is 'W', an input of the graph; supported: weights that the"):
        fc.from_onnx(model)


class TestSubgraphs:
    def branches(self, cases: Sequence[NodeCase], *, outside: bool) -> onnx.ModelProto:
        """If with one LSTM a branch, whose weights are Constant nodes inside, or initialisers around."""
        graphs, initializers = [], []
        for index, case in enumerate(cases):
            nodes = []
            for role in ("W", "R", "B", "P"):
                name = f"{role}{index}" if outside else role
                if outside:
                    initializers.append(tensor(name, case.arrays[role]))
                else:
                    nodes.append(helper.make_node("Constant", [], [name], value=tensor("", case.arrays[role])))
            node = case.node()
            if outside:
                node.input[1:4] = [f"{role}{index}" for role in ("W", "R", "B")]
                node.input[7] = f"P{index}"
            outputs = [helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)]
            graphs.append(helper.make_graph([*nodes, node], f"branch{index}", [], outputs))
        branch = helper.make_node("If", ["flag"], ["out"], "If_0", then_branch=graphs[0], else_branch=graphs[1])
        inputs = [
            helper.make_tensor_value_info("flag", TensorProto.BOOL, []),
            helper.make_tensor_value_info("X", TensorProto.FLOAT, None),
        ]
        outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)]
        graph = helper.make_graph([branch], "graph", inputs, outputs, initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)

    @pytest.mark.parametrize("outside", [False, True])
    def test_branches_of_if(self, outside: bool) -> None:
        cases = [case_of(seed=1), case_of(seed=2, units=4)]
        model = self.branches(cases, outside=outside)
        same_as_plain(model, cases[0], "If_0.then_branch/recurrent")
        same_as_plain(model, cases[1], "If_0.else_branch/recurrent")
        same_as_plain(model, cases[1], 0)  # attributes are in the order of their names
        with pytest.raises(
            ValueError, match=r"0: LSTM node 'If_0\.else_branch/recurrent', 1: LSTM node 'If_0\.then_branch"
        ):
            fc.from_onnx(model)
        with pytest.raises(ValueError, match="2 recurrent nodes are called 'recurrent'"):
            fc.from_onnx(model, "recurrent")

    def test_the_body_of_a_loop_whose_own_names_hide_those_around(self) -> None:
        case = case_of("RNN")
        node = case.node()
        inputs = [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("X", TensorProto.FLOAT, None),
        ]
        outputs = [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("Y_h", TensorProto.FLOAT, None),
        ]
        body = helper.make_graph(
            [helper.make_node("Identity", ["go"], ["still"]), node], "body", inputs, outputs,
            [tensor("W", case.arrays["W"])],
        )  # fmt: skip
        loop = helper.make_node("Loop", ["n", "yes", "X"], ["last"], "loop", body=body)
        wrong = [tensor("W", np.ones((9, 9), np.float32)), case.tensor("R"), case.tensor("B")]
        model = model_of([loop], case, initializers=wrong)
        same_as_plain(model, case)
        body = model.graph.node[0].attribute[0].g
        del body.initializer[0]
        body.input.append(helper.make_tensor_value_info("W", TensorProto.FLOAT, None))
        with pytest.raises(fc.UnsupportedError, match=r"input W is 'W', an input of loop\.body"):
            fc.from_onnx(model)
        body.initializer.append(tensor("W", case.arrays["W"]))  # the default of an input that every pass is given
        with pytest.raises(fc.UnsupportedError, match=r"input W is 'W', an input of loop\.body"):
            fc.from_onnx(model)


class TestFunctions:
    def model(self, case: NodeCase) -> onnx.ModelProto:
        """A function of one LSTM, called twice with weights of its caller and attributes of the call."""
        node = case.node()
        for name in ("hidden_size", "direction"):
            kind = onnx.AttributeProto.INT if name == "hidden_size" else onnx.AttributeProto.STRING
            node.attribute.append(onnx.AttributeProto(name=name, ref_attr_name=name, type=kind))
        node.input[3] = "bias"
        function = helper.make_function(
            "local", "Recurrent", ["X", "W", "R", "bias", "P"], ["Y"], [node], [helper.make_opsetid("", 14)],
            attributes=["hidden_size"],
            attribute_protos=[helper.make_attribute("direction", "reverse")],
        )  # fmt: skip
        calls = [
            helper.make_node("Recurrent", ["X", "w", "R", "B", "P"], ["Y1"], "first", domain="local", hidden_size=5),
            helper.make_node("Recurrent", ["X", "w", "R", "", "P"], ["Y"], domain="local", direction="forward"),
        ]
        initializers = [tensor("w", case.arrays["W"]), *(case.tensor(role) for role in ("R", "B", "P"))]
        return model_of(calls, case, initializers=initializers, functions=[function])

    def test_each_call_is_a_node_with_its_callers_weights_and_attributes(self) -> None:
        case = case_of()
        model = self.model(case)
        backward = NodeCase("LSTM", case.arrays, {"direction": "reverse"})
        same_as_plain(model, backward, "first/recurrent")
        without_bias = {role: array for role, array in case.arrays.items() if role != "B"}
        same_as_plain(model, NodeCase("LSTM", without_bias), "Y/recurrent")
        assert [found.opset for found in report(model)] == [14, 14]

    def test_an_attribute_of_the_call_that_does_not_fit_is_refused(self) -> None:
        model = self.model(case_of())
        model.graph.node[0].attribute[0].i = 6
        with pytest.raises(ValueError, match="'first/recurrent': hidden_size=6, but R is for 5 units"):
            fc.from_onnx(model, "first/recurrent")

    def test_one_that_replaces_a_standard_operator_is_not_taken_for_that(self) -> None:
        case = case_of("RNN")
        double = helper.make_function(
            "", "Identity", ["x"], ["y"], [helper.make_node("Add", ["x", "x"], ["y"])], [helper.make_opsetid("", 14)]
        )
        initializers = [tensor("w", case.arrays["W"]), case.tensor("R"), case.tensor("B")]
        nodes = [helper.make_node("Identity", ["w"], ["W"]), case.node()]
        model = model_of(nodes, case, initializers=initializers)
        same_as_plain(model, case)
        model.functions.append(double)
        with pytest.raises(fc.UnsupportedError, match="input W: it comes from Identity node 'W'"):
            fc.from_onnx(model)


class TestExternalData:
    def save(self, folder: Path, **options: Any) -> tuple[NodeCase, Path]:
        case = case_of()
        path = folder / "model.onnx"
        model = case.model()
        for entry in model.graph.initializer:  # only raw data moves out
            entry.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(entry), entry.name))
        onnx.save_model(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0, **options)
        return case, path

    def edit(self, path: Path, **entries: str) -> None:
        model = onnx.load(path, load_external_data=False)
        external = model.graph.initializer[0].external_data
        for key, value in entries.items():
            found = [entry for entry in external if entry.key == key]
            (found[0] if found else external.add(key=key)).value = value
        path.write_bytes(model.SerializeToString())

    def test_weights_in_another_file(self, tmp_path: Path) -> None:
        case, path = self.save(tmp_path)
        plain = case.run(fc.from_onnx(case.model()))
        for a, e in zip(case.run(fc.from_onnx(path)), plain, strict=True):
            np.testing.assert_array_equal(a, e)
        (found,) = report(path)
        assert found.reading is not None
        assert found.reading.weights.source == "initializer 'W' in weights.bin"

    def test_without_a_path_there_is_no_folder(self, tmp_path: Path) -> None:
        _, path = self.save(tmp_path)
        with pytest.raises(
            ValueError, match=r"tensor 'W': its data is in the file 'weights\.bin'; pass the model's path"
        ):
            fc.from_onnx(path.read_bytes())

    @pytest.mark.parametrize(
        "location", ["../weights.bin", "../../etc/passwd", "/etc/passwd", "", "a\0b", "link.bin", "up/weights.bin"]
    )
    def test_nothing_outside_the_models_folder_is_read(self, location: str, tmp_path: Path) -> None:
        inner = tmp_path / "inner"
        inner.mkdir()
        _, path = self.save(inner)
        (tmp_path / "weights.bin").write_bytes((inner / "weights.bin").read_bytes())
        (inner / "link.bin").symlink_to(tmp_path / "weights.bin")
        (inner / "up").symlink_to(tmp_path)
        self.edit(path, location=location)
        with pytest.raises(ValueError, match="tensor 'W': expected external data in the model's folder, got location"):
            fc.from_onnx(path)

    @pytest.mark.parametrize(
        ("entries", "message"),
        [
            ({"location": "none.bin"}, "which is not a file in the model's folder"),
            ({"location": "."}, "which is not a file in the model's folder"),
            ({"offset": str(2**62)}, "expected 240 bytes in 'weights.bin'"),
            ({"offset": "-8"}, "got offset -8"),
            ({"length": str(2**62)}, "length 4611686018427387904"),
            ({"length": "4"}, "and length 4"),
            ({"offset": "ten"}, "expected numbers as offset and length"),
        ],
    )
    def test_sizes_and_places_that_do_not_fit_are_refused(
        self, entries: dict[str, str], message: str, tmp_path: Path
    ) -> None:
        _, path = self.save(tmp_path)
        self.edit(path, **entries)
        with pytest.raises(ValueError, match=f"tensor 'W': .*{message}"):
            fc.from_onnx(path)
