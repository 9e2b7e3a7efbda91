"""from_onnx gives the layer that computes what the ONNX operators' text says."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings

pytest.importorskip("onnx")

import onnx
from onnx import TensorProto, helper, numpy_helper

import fusedcell as fc
from drawn import examples, note_difference
from onnx_models import GATES, NEWEST, NodeCase, arrays_for, cases, model_of


def assert_close(actual: list[np.ndarray], expected: list[np.ndarray], tolerance: float) -> None:
    for a, e in zip(actual, expected, strict=True):
        assert a.shape == e.shape
        np.testing.assert_allclose(a, e, rtol=tolerance, atol=tolerance)


@pytest.fixture(params=sorted(GATES))
def op(request: pytest.FixtureRequest) -> str:
    return request.param


@given(cases())
@settings(max_examples=examples(150))
def test_any_node_gives_the_specifications_answer(case: NodeCase) -> None:
    actual, expected = case.run(fc.from_onnx(case.model())), case.expected()
    note_difference(actual, expected)
    assert_close(actual, expected, 2e-6)


@given(cases(for_ort=True))
@settings(max_examples=examples(60))
def test_any_node_gives_onnx_runtimes_answer_where_that_follows_the_text(case: NodeCase) -> None:
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(case.model().SerializeToString(), options, providers=["CPUExecutionProvider"])
    theirs = session.run(None, {role: a for role, a in case.arrays.items() if role not in case.constants})
    ours = case.run(fc.from_onnx(case.model(), clip_before_h=False))
    note_difference(ours, theirs)
    assert_close(ours, theirs, 1e-5)


def test_clip_before_h_is_the_text_and_false_is_onnx_runtime() -> None:
    arrays = arrays_for("LSTM")
    case = NodeCase("LSTM", arrays | {"initial_c": arrays["initial_c"] * 8}, {"clip": 0.5})
    text, other = (case.run(fc.from_onnx(case.model(), clip_before_h=flag)) for flag in (True, False))
    assert_close(text, case.expected(), 2e-6)
    assert_close(other, case.expected(clip_before_h=False), 2e-6)
    assert np.abs(text[0] - other[0]).max() > 1e-3


def node_cases() -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other operators' cases overflow on purpose
        from onnx.backend.test.case.node import collect_testcases

        found = collect_testcases()
    return [case for case in found if case.model and any(node.op_type in GATES for node in case.model.graph.node)]


def test_the_onnx_projects_own_node_cases_pass() -> None:
    found = node_cases()
    assert len(found) >= 18
    for case in found:
        (node,) = case.model.graph.node
        for inputs, outputs in case.data_sets:
            arrays = dict(zip((name for name in node.input if name), inputs, strict=True))
            model = onnx.ModelProto.FromString(case.model.SerializeToString())
            for role in set(arrays) & {"W", "R", "B", "P"}:
                model.graph.initializer.append(numpy_helper.from_array(arrays[role], role))
            attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            ours = NodeCase(node.op_type, arrays, attributes).run(fc.from_onnx(model))
            wanted = [name for name in node.output if name]
            by_name = dict(zip(("Y", "Y_h", "Y_c"), ours, strict=False))
            index = [("Y", "Y_h", "Y_c")[i] for i, name in enumerate(node.output) if name]
            assert len(wanted) == len(outputs)
            for role, expected in zip(index, outputs, strict=True):
                np.testing.assert_allclose(by_name[role], expected, rtol=case.rtol, atol=case.atol, err_msg=case.name)


def test_a_path_bytes_and_a_message_are_the_same_layer(op: str, tmp_path: Path) -> None:
    case = NodeCase(op, arrays_for(op))
    data = case.model().SerializeToString()
    path = tmp_path / "modèle.onnx"
    path.write_bytes(data)
    expected = case.run(fc.from_onnx(case.model()))
    for source in (path, str(path), data, bytearray(data)):
        for a, e in zip(case.run(fc.from_onnx(source)), expected, strict=True):
            np.testing.assert_array_equal(a, e)


def test_sizes_classes_and_conventions(op: str) -> None:
    case = NodeCase(op, arrays_for(op, directions=2, layout=1), {"direction": "bidirectional", "layout": 1})
    layer = fc.from_onnx(case.model(), dtype="int8", isa="scalar")
    assert type(layer).__name__ == op
    assert (layer.input_size, layer.hidden_size, layer.bidirectional, layer.batch_first) == (3, 5, True, True)
    assert (layer.dtype, layer.isa) == ("int8", "scalar")


@pytest.mark.parametrize("lbr", [0, 1, 7])
def test_linear_before_reset_says_which_gru_it_is(lbr: int) -> None:
    model = NodeCase("GRU", arrays_for("GRU"), {"linear_before_reset": lbr}).model()
    assert cast(fc.GRU, fc.from_onnx(model)).reset_after == (lbr != 0)


def test_options_of_the_usual_formulas_are_no_options() -> None:
    case = NodeCase("LSTM", arrays_for("LSTM", absent=("P",)), {"activations": ["sigmoid", "TANH", "Tanh"]})
    (options,) = fc.from_onnx(case.model()).cell_options
    assert options == dataclasses.replace(options, activations=None, clip=None, input_forget=False)


def test_an_infinite_clip_bounds_nothing() -> None:
    case = NodeCase("LSTM", arrays_for("LSTM"), {"clip": float("inf")})
    assert fc.from_onnx(case.model()).cell_options[0].clip is None


def test_doubles_are_rounded_to_nearest() -> None:
    arrays = arrays_for("RNN", units=1, inputs=1, absent=("B", "initial_h", "sequence_lens"))
    arrays["W"] = np.array([[[1 + 2.0**-24 + 2.0**-40]]])
    arrays["R"] = np.array([[[0.0]]])
    case = NodeCase("RNN", arrays, {"activations": ["Affine"], "activation_alpha": [1.0], "activation_beta": [0.0]})
    layer = fc.from_onnx(dataclasses.replace(case, dtype=TensorProto.DOUBLE).model())
    assert layer(np.ones((1, 1), np.float32))[0] == np.float32(1 + 2.0**-23)


class TestInitialState:
    def test_a_constant_of_the_file_is_the_layers(self, op: str) -> None:
        case = NodeCase(op, arrays_for(op), constants=frozenset({"W", "R", "B", "P", "initial_h", "initial_c"}))
        layer: Any = fc.from_onnx(case.model())
        parts = layer.initial_state if op == "LSTM" else (layer.initial_state,)
        for part, role in zip(parts, ("initial_h", "initial_c"), strict=False):
            np.testing.assert_array_equal(part, case.arrays[role])
        assert_close(case.run(layer), case.expected(), 2e-6)

    def test_zeros_are_none(self, op: str) -> None:
        arrays = arrays_for(op)
        zeros = {role: np.zeros_like(arrays[role]) for role in arrays if role.startswith("initial")}
        case = NodeCase(op, arrays | zeros, constants=frozenset({"W", "R", "B", "P", "initial_h", "initial_c"}))
        assert fc.from_onnx(case.model()).initial_state is None

    @pytest.mark.parametrize("value", [0.0, 0.5])
    def test_states_of_different_batches_are_refused(self, value: float) -> None:
        case = NodeCase("LSTM", arrays_for("LSTM"), constants=frozenset({"W", "R", "B", "P", "initial_h", "initial_c"}))
        case.arrays["initial_c"] = np.full((1, 3, 5), value, np.float32)  # type: ignore[index] # the case has arrays
        with pytest.raises(ValueError, match=r"initial_h and initial_c: expected one batch, got \[2, 3\] rows"):
            fc.from_onnx(case.model())

    @pytest.mark.parametrize("layout", [0, 1])
    @pytest.mark.parametrize("repeat", ["Expand", "Tile"])
    def test_a_learned_row_that_is_repeated_over_the_batch(self, layout: int, repeat: str) -> None:
        """As exporters write a learned state: the batch size comes from the shape of X."""
        arrays = arrays_for("GRU", layout=layout, directions=2)
        row = arrays["initial_h"][:1] if layout else arrays["initial_h"][:, :1]
        arrays["initial_h"] = np.repeat(row, 2, axis=0 if layout else 1)
        case = NodeCase(
            "GRU",
            arrays,
            {"direction": "bidirectional", "layout": layout},
            constants=frozenset({"W", "R", "B", "initial_h"}),
        )
        batch = [
            helper.make_node("Shape", ["X"], ["shape"]),
            helper.make_node("Gather", ["shape", "axis"], ["batch"], axis=0),
        ]
        sizes = ["batch", "two" if repeat == "Expand" else "one", "units" if repeat == "Expand" else "one"]
        if not layout:
            sizes[0], sizes[1] = sizes[1], sizes[0]
        nodes = [
            *batch,
            helper.make_node("Concat", sizes, ["sizes"], axis=0),
            helper.make_node(repeat, ["row", "sizes"], ["initial_h"]),
            case.node(),
        ]
        integers = {"axis": [0 if layout else 1], "one": [1], "two": [2], "units": [5]}
        initializers = [case.tensor(role) for role in ("W", "R", "B")]
        initializers += [helper.make_tensor(name, TensorProto.INT64, [1], value) for name, value in integers.items()]
        initializers.append(numpy_helper.from_array(row, "row"))
        model = model_of(nodes, case, initializers=initializers)
        layer = fc.from_onnx(model)
        np.testing.assert_array_equal(layer.initial_state, row.swapaxes(0, 1) if layout else row)
        assert_close(case.run(layer), case.expected(), 2e-6)

    @pytest.mark.parametrize("value", [0.0, 0.25])
    def test_one_value_of_a_shape_that_the_model_computes(self, value: float) -> None:
        """As PyTorch exports a network that is given no state."""
        case = NodeCase("RNN", arrays_for("RNN"), constants=frozenset({"W", "R", "B", "initial_h"}))
        case = dataclasses.replace(case, arrays={**case.arrays, "initial_h": np.full((1, 2, 5), value, np.float32)})
        fill = helper.make_tensor("", TensorProto.FLOAT, [1], [value])
        nodes = [
            helper.make_node("Shape", ["X"], ["shape"]),
            helper.make_node("Gather", ["shape", "index"], ["batch"], axis=0),
            helper.make_node("Concat", ["batch", "units"], ["sizes"], axis=0),
            helper.make_node("ConstantOfShape", ["sizes"], ["filled"], value=fill),
            helper.make_node("Unsqueeze", ["filled", "zero"], ["initial_h"]),
            case.node(),
        ]
        integers = {"index": [1], "units": [5], "zero": [0]}
        initializers = [case.tensor(role) for role in ("W", "R", "B")]
        initializers += [helper.make_tensor(name, TensorProto.INT64, [1], item) for name, item in integers.items()]
        layer = fc.from_onnx(model_of(nodes, case, initializers=initializers))
        assert (layer.initial_state is None) == (value == 0)
        assert_close(case.run(layer), case.expected(), 2e-6)

    @pytest.mark.parametrize("value", [0.0, 0.25])
    @pytest.mark.parametrize("filled", [np.zeros(()), np.zeros((1, 2, 5))], ids=["a scalar", "the batch of the export"])
    def test_one_value_that_is_expanded_and_sliced(self, filled: np.ndarray, value: float) -> None:
        """As PyTorch's two exporters write the same."""
        case = NodeCase("RNN", arrays_for("RNN"), constants=frozenset({"W", "R", "B", "initial_h"}))
        case = dataclasses.replace(case, arrays={**case.arrays, "initial_h": np.full((1, 2, 5), value, np.float32)})
        nodes = [
            helper.make_node("Shape", ["X"], ["batch"], start=1, end=2),
            helper.make_node("Concat", ["one", "batch", "units"], ["sizes"], axis=0),
            helper.make_node("Expand", ["filled", "sizes"], ["expanded"]),
            helper.make_node("Slice", ["expanded", "zero", "one", "zero"], ["initial_h"]),
            case.node(),
        ]
        integers = {"one": [1], "units": [5], "zero": [0]}
        initializers = [case.tensor(role) for role in ("W", "R", "B")]
        initializers += [helper.make_tensor(name, TensorProto.INT64, [1], item) for name, item in integers.items()]
        initializers.append(numpy_helper.from_array((filled + value).astype(np.float32), "filled"))
        layer = fc.from_onnx(model_of(nodes, case, initializers=initializers))
        assert (layer.initial_state is None) == (value == 0)
        assert_close(case.run(layer), case.expected(), 2e-6)

    @pytest.mark.parametrize("value", [0.0, 0.25])
    def test_one_value_in_a_shape_that_does_not_fit_is_refused(self, value: float) -> None:
        case = NodeCase("RNN", arrays_for("RNN"), constants=frozenset({"W", "R", "B", "initial_h"}))
        case.arrays["initial_h"] = np.full((2, 2, 5), value, np.float32)  # type: ignore[index] # the case has arrays
        with pytest.raises(ValueError, match=r"initial_h: expected shape \(1, 1, 5\) with the batch for 1, got shape"):
            fc.from_onnx(case.model())

    def test_one_that_cannot_be_seen_through_is_refused(self) -> None:
        case = NodeCase("RNN", arrays_for("RNN"), constants=frozenset({"W", "R", "B", "initial_h"}))
        nodes = [helper.make_node("RandomNormal", [], ["initial_h"], shape=[1, 2, 5]), case.node()]
        model = model_of(nodes, case, initializers=[case.tensor(role) for role in ("W", "R", "B")])
        with pytest.raises(fc.UnsupportedError, match="'recurrent': input initial_h: it comes from RandomNormal node"):
            fc.from_onnx(model)

    def test_one_that_the_model_computes_from_its_inputs_comes_with_the_call(self) -> None:
        case = NodeCase("RNN", arrays_for("RNN"))
        nodes = [helper.make_node("Neg", ["initial_h"], ["negated"]), case.node()]
        nodes[1].input[5] = "negated"
        layer = fc.from_onnx(model_of(nodes, case))
        assert layer.initial_state is None
        assert_close(case.run(layer), case.expected(), 2e-6)


class TestSequenceLens:
    def constant(self, lengths: list[int], x_shape: list[Any] | None) -> onnx.ModelProto:
        arrays = arrays_for("GRU") | {"sequence_lens": np.array(lengths, np.int32)}
        model = NodeCase("GRU", arrays, constants=frozenset({"W", "R", "B", "sequence_lens"})).model()
        model.graph.input[0].CopyFrom(helper.make_tensor_value_info("X", TensorProto.FLOAT, x_shape))
        return model

    def test_constants_equal_to_the_number_of_steps_change_nothing(self) -> None:
        model = self.constant([4, 4], [4, None, 3])
        case = NodeCase("GRU", arrays_for("GRU"))
        assert_close(case.run(fc.from_onnx(model)), case.expected(), 2e-6)

    @pytest.mark.parametrize(
        ("lengths", "shape", "reason"),
        [
            ([4, 3], [4, 2, 3], "X has 4 steps"),
            ([4, 4], [None, 2, 3], r"X has X\[0\] steps"),
            ([4, 4], ["time", 2, 3], "X has time steps"),
            ([4, 4], None, r"X has X\[0\] steps"),
        ],
    )
    def test_other_constants_are_refused_rather_than_dropped(self, lengths: list[int], shape: Any, reason: str) -> None:
        with pytest.raises(
            fc.UnsupportedError, match=f"sequence_lens: .*made by the model itself.*{reason}.*each call"
        ):
            fc.from_onnx(self.constant(lengths, shape))


class TestIgnore:
    def model(self) -> onnx.ModelProto:
        """A state and lengths that are drawn when the model runs."""
        case = NodeCase("RNN", arrays_for("RNN", absent=()), constants=frozenset({"W", "R", "B"}))
        nodes = [
            helper.make_node("RandomNormal", [], ["initial_h"], shape=[1, 2, 5]),
            helper.make_node("RandomUniform", [], ["drawn"], shape=[2], low=1.0, high=4.0),
            helper.make_node("Cast", ["drawn"], ["sequence_lens"], to=TensorProto.INT32),
            case.node(),
        ]
        return model_of(nodes, case, initializers=[case.tensor(role) for role in ("W", "R", "B")])

    @pytest.mark.parametrize(
        ("ignore", "refused"),
        [((), "sequence_lens"), (("initial_state",), "sequence_lens"), (("lengths",), "initial_h")],
    )
    def test_only_what_is_named_takes_its_default(self, ignore: tuple[str, ...], refused: str) -> None:
        with pytest.raises(fc.UnsupportedError, match=rf"input {refused}: .*; ignore=\('\w+',\) takes "):
            fc.from_onnx(self.model(), ignore=ignore)

    def test_what_is_ignored_is_said_and_is_zeros_and_all_steps(self) -> None:
        with pytest.warns(UserWarning, match="ignored: input") as told:
            layer = fc.from_onnx(self.model(), ignore=("lengths", "initial_state"))
        first, second = (str(warning.message) for warning in told)
        assert "RNN node 'recurrent': ignored: input sequence_lens: it comes from RandomUniform node 'drawn'" in first
        assert first.endswith("taken instead: all steps of every row")
        assert second.endswith("taken instead: a state of zeros")
        assert layer.initial_state is None
        plain = NodeCase("RNN", arrays_for("RNN", absent=("sequence_lens", "initial_h")))
        assert_close(plain.run(layer), plain.expected(), 2e-6)

    def test_what_can_be_read_is_not_ignored(self) -> None:
        case = NodeCase("RNN", arrays_for("RNN"), constants=frozenset({"W", "R", "B", "initial_h"}))
        layer = fc.from_onnx(case.model(), ignore=("lengths", "initial_state"))
        assert_close(case.run(layer), case.expected(), 2e-6)

    @pytest.mark.parametrize("ignore", ["lengths", ("length",), ("initial_state", "W"), [3]])
    def test_other_names_are_refused_with_a_list(self, ignore: Any) -> None:
        with pytest.raises(ValueError, match="ignore: expected a tuple of 'initial_state' and 'lengths', got"):
            fc.from_onnx(self.model(), ignore=ignore)


def test_the_oldest_and_newest_operator_sets_load(op: str) -> None:
    for opset in (7, NEWEST):
        assert fc.from_onnx(NodeCase(op, arrays_for(op), opset=opset).model()).hidden_size == 5


class TestChoice:
    def model(self, *names: str) -> onnx.ModelProto:
        case = NodeCase("RNN", arrays_for("RNN"))
        nodes = []
        for index, name in enumerate(names):
            node = case.node()
            node.name = name
            node.output[:] = [f"Y{index}", f"Y_h{index}"]
            nodes.append(node)
        return model_of(nodes, case)

    def test_one_of_several_by_name_index_or_address(self) -> None:
        model = self.model("a", "", "c")
        for node in ("a", 0, "Y1", 1, "c", 2):
            assert fc.from_onnx(model, node).hidden_size == 5
            assert fc.from_onnx(model, node=node).hidden_size == 5

    @pytest.mark.parametrize(
        ("node", "error", "message"),
        [
            (None, ValueError, "there are 2 recurrent nodes; name one of them: 0: RNN node 'a', 1: RNN node 'b'"),
            ("d", ValueError, "no recurrent nodes are called 'd'; there are: 0: RNN node 'a'"),
            (2, ValueError, "node: expected an index from 0 to 1, got 2"),
            (-1, ValueError, "node: expected an index from 0 to 1, got -1"),
            (True, TypeError, "node: expected a name, an index or None, got bool"),
            (1.0, TypeError, "node: expected a name, an index or None, got float"),
        ],
    )
    def test_others_are_refused_with_a_list(self, node: Any, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            fc.from_onnx(self.model("a", "b"), node)

    def test_two_nodes_of_one_name(self) -> None:
        with pytest.raises(ValueError, match="node: 2 recurrent nodes are called 'a'"):
            fc.from_onnx(self.model("a", "a"), "a")
        assert fc.from_onnx(self.model("a", "a"), 1).hidden_size == 5

    def test_a_model_without_recurrent_nodes(self) -> None:
        with pytest.raises(ValueError, match="model: there is no recurrent node"):
            fc.from_onnx(self.model())
