"""Small valid files of every kind to start from, and random bytes where bytes are drawn from."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import fusedcell as fc
from fusedcell._dtypes import DTYPES
from fusedcell.nodes import Multiply
from json_models import Drawn, amplifier, nam, rtneural, rtneural_layer, simple_rnn, with_test
from models import EVERY_KIND, KIND, uniform
from small_models import small_models


def _saved(*layers: Any) -> Iterator[bytes]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "layer.safetensors"
        for layer in layers:
            fc.save(layer, path)
            yield path.read_bytes()


def load() -> Iterator[bytes]:
    for kind in EVERY_KIND:
        for dtype in DTYPES:
            yield from _saved(kind.make(kind.weights(2, 3, layers=2, directions=2), dtype=dtype, batch_first=True))
        yield from _saved(kind.make_cell(kind.weights(2, 3)))
    gru = KIND["gru_reset_before"].make(KIND["gru_reset_before"].weights(2, 3))
    yield from _saved(gru.astype("int8", input_scales=[0.5]), gru.with_initial_state(uniform(1, 1, 2, 3)))
    lstm = KIND["lstm"].make(KIND["lstm"].weights(2, 3))
    yield from _saved(lstm.with_initial_state(uniform(1, 1, 1, 3), uniform(2, 1, 1, 3)))


def model() -> Iterator[bytes]:
    for dtype in DTYPES:
        yield from _saved(*(fc.Model(nodes).astype(dtype) for nodes in small_models()))
    first, second, tokens, _ = small_models()
    yield from _saved(
        fc.Model(first, axes={"x": (2, "batch", "time"), "head": ("batch", 1, 2, "time")}),
        fc.Model(second, batch_first=True, axes={"x": ("time", 2), "norm": (2, "time")}),
        fc.Model(tokens, axes={"t": ("batch", 1), "y": (2,)}),
        fc.Model([("y", Multiply(), ("x", "s"))], {"x": 2, "s": 2}, axes={"s": ("batch", 2)}),
    )


def json_model() -> Iterator[bytes]:
    drawn = Drawn(1)
    one_axis = [
        rtneural_layer("conv1d", 2, drawn, 4, "relu", kernel_size=[2], dilation=[2], groups=2, strides=1),
        rtneural_layer("batchnorm", 4, drawn, 4, epsilon=0.5),
        rtneural_layer("prelu", 4, drawn, 4),
        rtneural_layer("gru", 4, drawn, 2),
        rtneural_layer("activation", 2, drawn, 2, "elu"),
    ]
    axes: dict[str, Any] = {"num_filters_in": 2, "num_features_in": 3}
    kernel: dict[str, Any] = {
        "kernel_size_time": 2,
        "kernel_size_feature": 2,
        "dilation": 1,
        "strides": 1,
        "padding": "same",
    }
    two_axes = [
        rtneural_layer("conv2d", 6, drawn, 2, **axes, **kernel),
        rtneural_layer("batchnorm2d", 6, drawn, 6, epsilon=0.1, affine=False, **axes),
    ]
    model, answer = amplifier(units=2)
    files: list[Any] = [nam(units=2, layers=2)[0], rtneural(2, one_axis)[0], rtneural(6, two_axes)[0], model]
    files += [with_test(model, answer, samples=4) | {"in_gain": 3, "out_gain": -3}, simple_rnn(units=2)]
    files += [simple_rnn(unit="GRU", units=2, layers=2)["state_dict"]]
    return (json.dumps(file).encode() for file in files)


def _dicts() -> Iterator[dict[str, np.ndarray]]:
    for name in ("lstm", "lstm_projected", "gru_reset_after", "rnn_tanh"):
        mapping = KIND[name].weights(2, 3, layers=2, directions=2)
        yield mapping
        yield {f"lstm.{key}": value for key, value in mapping.items()} | {"head.weight": np.ones((1, 3), np.float64)}
    mapping = KIND["gru_reset_after"].weights(2, 3)
    v = mapping.pop("weight_hh_l0")
    g = np.ones((len(v), 1), np.float32)
    yield mapping | {"weight_hh_l0_g": g, "weight_hh_l0_v": v}
    yield {
        "lstm.weight_ih": v,
        "lstm.parametrizations.weight_hh.original0": g,
        "lstm.parametrizations.weight_hh.original1": v,
    }


def state_dict() -> Iterator[bytes]:
    from safetensors.numpy import save

    for mapping in _dicts():
        yield save(mapping)
        yield save({name: value.astype(np.float16) for name, value in mapping.items()})


def state_dict_pytorch() -> Iterator[bytes]:
    import torch

    for mapping in _dicts():
        file = io.BytesIO()
        torch.save({name: torch.from_numpy(value) for name, value in mapping.items()}, file)
        yield file.getvalue()
    file = io.BytesIO()
    torch.save(torch.nn.GRU(2, 3, dtype=torch.bfloat16).state_dict(), file)
    yield file.getvalue()
    file = io.BytesIO()
    torch.save({"epoch": 3, "net": {"lstm": torch.nn.LSTM(2, 3).state_dict()}, "step": {0: torch.ones(1)}}, file)
    yield file.getvalue()


def whole_onnx() -> Iterator[bytes]:
    import onnx.parser
    from onnx import numpy_helper

    constants = {
        "K": np.full((3, 4, 3), 0.1, np.float32), "W": np.full((1, 6, 4), 0.1, np.float32), "eps": np.float32(1e-5),
        "R": np.full((1, 6, 2), 0.1, np.float32), "V": np.ones((2, 2), np.float32), "zero": [0], "one": [1], "two": [2],
        "both": [2, 2], "p": [0, 1, 0, 0, 0, 0], "minus": -1, "far": [2**40], "U": np.full((4, 6), 0.1, np.float32),
        "Q": np.full((2, 6), 0.1, np.float32), "G": np.full((6, 8), 0.1, np.float32), "three": [2, 2, 2],
        "four": [2, 2, 2, 2], "yes": True,
    }  # fmt: skip
    step, data, state = "float[batch,4] x, float[batch,2] h", "float[batch,time,4] x", "float[1,batch,2] h"
    bodies = {
        "a = Transpose <perm=[0,2,1]> (x) b = Conv <pads=[2,0], strides=[2]> (a, K) c = Relu(b) "
        "y = MaxPool <kernel_shape=[2]> (c)": data,
        "m = ReduceMean <axes=[-1]> (x) d = Sub(x, m) s = Mul(d, d) v = ReduceMean <axes=[-1]> (s) e = Add(v, eps) "
        "r = Sqrt(e) y = Div(d, r)": data,
        "s = Shape(x) n = Slice(s, zero, two) m = Concat <axis=0> (n, both) a = Reshape(x, m) b = Softmax(a) "
        "y = Reshape(b, s)": data,
        "a = Pad(x, p) b, d = Split <axis=2> (a, both) e = Gather <axis=1> (d, minus) y = MatMul(e, V)": data,
        "t = Transpose <perm=[1,0,2]> (x) q, hn = GRU <hidden_size=2> (t, W, R, , , h) "
        "y = Squeeze(q, one)": f"{data}, {state}",
        "q, hn = GRU <hidden_size=2> (x, W, R, , , h) y = Squeeze(q, one)": "float[1,1,4] x, float[1,1,2] h",
        "a = Gemm (x, U) b = Gemm (h, Q) i, j, k = Split <axis=1> (a, three) l, m, n = Split <axis=1> (b, three) "
        "c = Add(i, l) r = Sigmoid(c) d = Add(j, m) z = Sigmoid(d) e = Mul(r, n) f = Add(k, e) t = Tanh(f) "
        "o = Sub(h, t) p2 = Mul(z, o) hn = Add(p2, t) y = MatMul(hn, V)": step,
        "h, c = Split <axis=1> (s, both) a = Concat <axis=1> (x, h) b = MatMul(a, G) "
        "i, f, g, o = Split <axis=1> (b, four) s2 = Sigmoid(i) u = Sigmoid(f) v = Tanh(g) w = Sigmoid(o) "
        "j = Mul(s2, v) k = Mul(u, c) q = Add(j, k) l = Tanh(q) p2 = Mul(w, l) hn = Concat <axis=1> (p2, q) "
        "y = MatMul(p2, V)": "float[batch,4] x, float[batch,4] s",
        "n = Not(yes) y = If (n) <then_branch = t () => (float p) {p = Tanh(x)}, else_branch = e () => (float q) "
        "{q = Relu(x)}>": data,
        "a = Concat <axis=2> (h, x) y = Conv (a, K) hn = Slice(a, one, far, two)": "float[1,4,1] x, float[1,4,2] h",
    }
    for body, inputs in bodies.items():
        outputs = "float y, float hn" if "hn" in body else "float y"
        model = onnx.parser.parse_model(
            f'<ir_version: 8, opset_import: ["" : 17]> g ({inputs}) => ({outputs}) {{ {body} }}'
        )
        used = {name for node in model.graph.node for name in node.input}
        model.graph.initializer.extend(
            numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items() if name in used
        )
        yield model.SerializeToString()


def onnx() -> Iterator[bytes]:
    from onnx import TensorProto, helper, numpy_helper

    from onnx_models import NodeCase, arrays_for, model_of

    functions = {"RNN": ["Elu"], "GRU": ["HardSigmoid", "Affine"], "LSTM": ["Sigmoid", "ScaledTanh", "Softsign"]}
    for op in functions:
        for directions, direction in ((1, "forward"), (2, "bidirectional")):
            arrays = arrays_for(op, directions=directions, inputs=2, units=3)
            attributes = {
                "direction": direction, "clip": 2.0, "hidden_size": 3, "activations": functions[op] * directions,
                "activation_alpha": [0.5] * 4, "activation_beta": [0.25] * 2,
            }  # fmt: skip
            yield NodeCase(op, arrays, {"direction": direction}).model().SerializeToString()
            yield NodeCase(op, arrays, attributes, 14, frozenset(arrays) - {"X"}).model().SerializeToString()

    case = NodeCase("GRU", arrays_for("GRU", inputs=2, units=3, absent=("sequence_lens", "initial_h")))
    W = case.arrays["W"]

    def tensor(name: str, values: Any, dtype: Any = None) -> Any:
        return numpy_helper.from_array(np.asarray(values, dtype), name)

    def model(nodes: list[Any], *tensors: Any) -> bytes:
        others = [case.tensor("R"), case.tensor("B")]
        return bytes(model_of([*nodes, case.node()], case, initializers=[*tensors, *others]).SerializeToString())

    node = helper.make_node
    yield model([node("Constant", [], ["W"], value=tensor("", W))])
    yield model([node("Transpose", ["w"], ["W"], perm=[1, 2, 0])], tensor("w", W.transpose(2, 0, 1)))
    yield model([node("Reshape", ["w", "s"], ["W"])], tensor("w", W.reshape(-1)), tensor("s", [1, -1, 2]))
    yield model(
        [node("Slice", ["w", "a", "b", "x", "y"], ["v"]), node("Unsqueeze", ["v", "x"], ["W"])],
        *(tensor(name, [value]) for name, value in (("a", 0), ("b", 9), ("x", 0), ("y", 1))),
        tensor("w", np.concatenate([W[0], W[0]])),
    )
    yield model([node("Concat", ["a", "b"], ["W"], axis=2)], tensor("a", W[:, :, :1]), tensor("b", W[:, :, 1:]))
    yield model(
        [node("Expand", ["w", "s"], ["v"]), node("Tile", ["v", "t"], ["u"]), node("Cast", ["u"], ["W"], to=1)],
        tensor("w", W[:, :1, :1], np.float16), tensor("s", [1, 9, 1]), tensor("t", [1, 1, 2]),
    )  # fmt: skip
    yield model(
        [node("DequantizeLinear", ["q", "scale", "zero"], ["W"], axis=1)],
        tensor("q", np.ones(W.shape), np.int8),
        tensor("scale", np.ones(9), np.float32),
        tensor("zero", np.ones(9), np.int8),
    )

    function = helper.make_function(
        "f", "Recurrent", ["X", "W", "R", "B"], ["Y", "Y_h"], [case.node()], [helper.make_opsetid("", 14)]
    )
    call = node("Recurrent", ["X", "W", "R", "B"], ["Y", "Y_h"], "call", domain="f")
    yield bytes(model_of([call], case, functions=[function]).SerializeToString())
    output = helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)
    branch = helper.make_graph([case.node()], "branch", [], [output])
    either = node("If", ["flag"], ["Y"], "either", then_branch=branch, else_branch=branch)
    yield bytes(model_of([either], case).SerializeToString())

    quantised = {
        "W": np.ones((1, 2, 12), np.int8), "R": np.ones((1, 3, 12), np.int8),
        "scale": np.ones(1, np.float32), "zero": np.zeros(1, np.int8),
    }  # fmt: skip
    names = ["X", "W", "R", "", "", "", "", "", "scale", "zero", "scale", "zero"]
    lstm = node("DynamicQuantizeLSTM", names, ["Y"], "quantised", domain="com.microsoft", hidden_size=3)
    graph = helper.make_graph([lstm], "graph", [], [], [tensor(name, array) for name, array in quantised.items()])
    opset = helper.make_opsetid("com.microsoft", 1)
    yield bytes(helper.make_model(graph, opset_imports=[opset]).SerializeToString())


def _keras(suffix: str, version: int) -> Iterator[bytes]:
    from keras_models import COMPUTED, KerasCase, KerasCell, call, functional, write_case

    cells = (KerasCell("LSTM", 2), KerasCell("GRU", 2, reset_after=False), KerasCell("SimpleRNN", 2, "relu"))
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"model{suffix}"
        for cell in cells:
            for form in ("layer", "RNN", "stacked"):
                count = 2 if form == "stacked" else 1
                yield write_case(path, KerasCase((cell,) * count, 2, version, form)).read_bytes()
            for merge_mode in ("concat", "sum"):
                yield write_case(path, KerasCase((cell,), 2, version, merge_mode=merge_mode)).read_bytes()
        case = KerasCase((cells[1],), 2, version)
        state, mask = np.ones((1, 2), np.float32), np.ones((2, 3), bool)
        nodes = [
            call(version, initial_state=[state], mask=mask, training=True),
            call(version, initial_state=[COMPUTED], mask=COMPUTED),
        ]
        item = case.item()
        item["config"]["dropout"] = 0.0
        for node in nodes:
            yield write_case(path, case, model=functional([(item, [node])], before="Masking")).read_bytes()
            inner = functional([(item, [node])], "inner")
            around = {"class_name": "TimeDistributed", "config": {"name": "around", "layer": inner}}
            yield write_case(path, case, model=functional([(around, [call(version)])])).read_bytes()


def keras() -> Iterator[bytes]:
    yield from _keras(".keras", 3)
    yield from _keras(".keras", 2)


def keras_h5() -> Iterator[bytes]:
    return _keras(".h5", 2)


def keras_model() -> Iterator[bytes]:
    """A whole model of both versions."""
    from keras_models import write_whole_model

    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        for version in (2, 3):
            write_whole_model(path, version)
            yield path.read_bytes()


def random_bytes() -> Iterator[bytes]:
    for seed in range(64):
        yield np.random.default_rng(seed).bytes(16 << (seed % 4))
