"""Files of whole models: they come back as they were, and what is wrong with one is said by name."""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedcell as fc
from fusedcell import nodes
from fusedcell._dtypes import DTYPES
from models import KIND, uniform
from small_models import every_node

pytestmark = pytest.mark.core

Description = dict[str, Any]
Tensors = dict[str, np.ndarray]


def to_file(description: Any, tensors: Tensors) -> bytes:
    """As the specification of safetensors describes it."""
    codes = {"float32": "F32", "uint16": "BF16", "float16": "F16", "int8": "I8", "float64": "F64"}
    header: dict[str, Any] = {"__metadata__": {"fusedcell": json.dumps(description)}}
    data = b""
    for name, tensor in tensors.items():
        offsets = [len(data), len(data) + tensor.nbytes]
        header[name] = {"dtype": codes[tensor.dtype.name], "shape": tensor.shape, "data_offsets": offsets}
        data += tensor.tobytes()
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def of_file(data: bytes) -> tuple[Description, Tensors]:
    types = {"F32": np.float32, "BF16": np.uint16, "F16": np.float16, "I8": np.int8}
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    description = json.loads(header.pop("__metadata__")["fusedcell"])
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + size + offset for offset in entry["data_offsets"])
        tensors[name] = np.frombuffer(data[begin:end], types[entry["dtype"]]).reshape(entry["shape"])
    return description, tensors


DESCRIPTION, TENSORS = of_file(fc.Model(every_node())._to_bytes())
NODES = {node["name"]: node for node in DESCRIPTION["nodes"]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def load_changed(path: Path, change: Callable[[Description, Tensors], object]) -> Any:
    description, tensors = copy.deepcopy(DESCRIPTION), dict(TENSORS)
    change(description, tensors)
    path.write_bytes(to_file(description, tensors))
    return fc.load(path)


def of(description: Description, name: str) -> Description:
    node: Description = next(node for node in description["nodes"] if node["name"] == name)
    return node


def set_option(name: str, /, **options: Any) -> Callable[[Description, Tensors], object]:
    return lambda description, _: of(description, name).update(options)


def test_a_model_comes_back_with_its_bits_its_bytes_and_its_nodes(path: Path) -> None:
    model = fc.Model(every_node(), outputs=("head", "softmax", "rows", "up"), batch_first=True)
    fc.save(model, path)
    loaded = fc.load(path)
    tokens, x = np.array([[3, 0, 4, 1, 2]]), uniform(21, 1, 5, 12)
    for actual, expected in zip(loaded(tokens, x), model(tokens, x), strict=True):
        np.testing.assert_array_equal(actual, expected)
    assert loaded._to_bytes() == model._to_bytes()
    assert [repr(node) for node in loaded.nodes] == [repr(node) for node in model.nodes]
    assert (loaded.inputs, loaded.outputs, loaded.batch_first) == (("t", "x"), model.outputs, True)
    again = fc.Model(loaded.nodes, {"t": 5, "x": 12}, loaded.outputs, loaded.batch_first)
    assert again._to_bytes() == model._to_bytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_narrower_matrices_come_back_with_their_bits(dtype: str, path: Path) -> None:
    model = fc.Model(every_node(), outputs=("head", "conv")).astype(dtype)
    fc.save(model, path)
    x, tokens = uniform(21, 5, 12), np.arange(5)
    for actual, expected in zip(fc.load(path)(tokens, x), model(tokens, x), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_the_package_safetensors_reads_what_is_written(path: Path) -> None:
    safetensors: Any = pytest.importorskip("safetensors.numpy")
    path.write_bytes(fc.Model([("head", nodes.Dense(uniform(1, 2, 3)), "x")])._to_bytes())
    np.testing.assert_array_equal(safetensors.load_file(path)["head.weight"], uniform(1, 2, 3))


@pytest.mark.any_cpu
@pytest.mark.parametrize(("name", "key"), [(name, key) for name, node in NODES.items() for key in node])
def test_a_key_that_is_missing_or_of_another_type_is_named(name: str, key: str, path: Path) -> None:
    labels = {"name": "nodes: (expected a )?name", "type": f"{name}.type", "layer": name}
    label = labels.get(key, f"{name}(: '|\\.){key}")
    # Without positions the layer is one over rows, of other features.
    with pytest.raises(ValueError, match="along.inputs" if name == "along" and key == "positions" else label):
        load_changed(path, lambda description, _: of(description, name).pop(key))
    for wrong in ("", -3e20, [None], {"name": 7}):
        with pytest.raises(ValueError, match=label):
            load_changed(path, set_option(name, **{key: wrong}))


@pytest.mark.parametrize("name", NODES)
def test_a_key_that_is_not_known_is_refused_as_of_a_newer_version(name: str, path: Path) -> None:
    with pytest.raises(fc.UnsupportedError, match=f"{name}: 'tap' is not one of its keys"):
        load_changed(path, lambda description, _: of(description, name).update(tap=1))


@pytest.mark.any_cpu
@pytest.mark.parametrize("full", TENSORS)
def test_what_is_wrong_with_an_array_is_said_by_its_name(full: str, path: Path) -> None:
    name, _, array = full.rpartition(".")
    label = f"{name}(\\.|: ){array}"
    before = TENSORS[full]

    def replace(new: np.ndarray) -> Callable[[Description, Tensors], object]:
        return lambda _, tensors: tensors.update({full: new})

    wrong = [before[None], before[:0], before.astype(np.float64)]
    if before.dtype == np.float32:
        wrong += [np.where(before == before.flat[0], bad, before).astype(np.float32) for bad in (np.nan, -np.inf)]
    if array not in ("weight", "weight_ih_l0", "weight_hh_l0"):
        wrong.append(before.astype(np.float16))
    if array == "indices":
        wrong += [before + np.float32(change) for change in (0.5, -9, 9)]
    elif array != "weight_ih_l0" and name != "emb":  # which may have other sizes
        wrong.append(np.concatenate([before, before], axis=-1))
    for new in wrong:
        with pytest.raises(ValueError, match=label):
            load_changed(path, replace(new))
    if array.startswith(("weight", "indices")) and NODES[name]["type"] not in ("layer_norm", "rms_norm"):
        with pytest.raises(ValueError, match=label):
            load_changed(path, lambda _, tensors: tensors.pop(full))


@pytest.mark.parametrize("full", ["conv.weights", "softmax.weight", "nobody.weight", "weight", "gru.weight_ih_l1"])
def test_an_array_that_nobody_asks_for_is_refused(full: str, path: Path) -> None:
    with pytest.raises(ValueError, match=full.replace("gru.weight", "gru: weight").partition("_ih")[0]):
        load_changed(path, lambda _, tensors: tensors.update({full: np.ones((2, 2), np.float32)}))


def set_input(index: int, **options: Any) -> Callable[[Description, Tensors], object]:
    return lambda description, _: description["inputs"][index].update(options)


def set_root(**options: Any) -> Callable[[Description, Tensors], object]:
    return lambda description, _: description.update(options)


ELU = {"name": "Elu", "alpha": 1.0, "beta": 0.0}
REFUSED: list[tuple[Callable[[Description, Tensors], object], type[ValueError], str]] = [
    (set_root(format_version=5), fc.UnsupportedError, "format_version=5 of a model is not supported; supported: 4"),
    (set_root(format_version="4"), fc.UnsupportedError, "format_version='4' of a model"),
    (set_root(batch_first=1), ValueError, "batch_first: expected a bool, got 1"),
    (set_root(newer=1), fc.UnsupportedError, "'newer' is not one of its keys"),
    (set_root(outputs=[]), ValueError, "outputs: expected at least one"),
    (set_root(outputs=["head", "head"]), ValueError, "outputs: 'head' comes twice"),
    (set_root(outputs=["heads"]), ValueError, "outputs: 'heads' is not a node"),
    (set_root(outputs=["x"]), ValueError, "outputs: 'x' is not a node"),
    (set_root(outputs="head"), ValueError, "outputs: expected a list, got 'head'"),
    (set_root(inputs=[]), ValueError, "inputs: expected at least one"),
    (set_root(nodes=[]), ValueError, "nodes: expected at least one"),
    (set_root(nodes=[1]), ValueError, "nodes: expected an object, got 1"),
    (lambda d, _: d["nodes"].extend([d["nodes"][0]] * 5000), ValueError, "nodes: 'emb' comes twice|nodes: expected at"),
    (lambda d, _: d["nodes"].append(d["nodes"][0]), ValueError, "nodes: 'emb' comes twice"),
    (lambda d, _: d["nodes"].reverse(), ValueError, "head.inputs: expected inputs and nodes before this one, got"),
    (lambda d, _: d.pop("outputs"), ValueError, "'outputs' is missing"),
    (set_input(1, name="t"), ValueError, "inputs: 't' comes twice"),
    (set_input(1, name=""), ValueError, "inputs: expected a name of 1 to 200 bytes"),
    (set_input(1, name="x" * 201), ValueError, "inputs: expected a name of 1 to 200 bytes"),
    (set_input(1, name="x\0"), ValueError, "inputs: expected a name of 1 to 200 bytes, none of them 0"),
    (set_input(1, size=0), ValueError, "x.size: expected a whole number from 1 to"),
    (set_input(1, size=2**24 + 1), ValueError, "x.size: expected a whole number from 1 to"),
    (set_input(1, size=2**24), ValueError, "rows and windows up to here have more than 2\\^24 floats together"),
    (set_input(1, size=13), ValueError, "conv.groups: expected a divisor of 13 features, got 2"),
    (set_input(1, size=14), ValueError, "conv.weight: expected shape \\(8, 21\\), got \\(8, 18\\)"),
    (set_input(1, size=12.0), ValueError, "x.size: expected a whole number from 1"),
    (set_input(1, tokens=12), fc.UnsupportedError, "inputs: 'size' is not one of its keys"),
    (set_input(0, tokens=6), ValueError, "emb.weight: expected 6 rows or more, one for each token of 't', got 5"),
    (set_option("emb", inputs=["x"]), ValueError, "emb.inputs: expected one input of tokens, got \\[\"x\"\\]"),
    (set_option("emb", inputs=["t", "t"]), ValueError, "emb.inputs: expected one input of tokens"),
    (set_option("conv", inputs=["t"]), ValueError, "conv.inputs: expected no tokens, which an embedding alone takes"),
    (set_option("conv", inputs=["t", "x"]), ValueError, "conv.inputs: expected no tokens"),
    (set_option("conv", inputs=[]), ValueError, "conv.inputs: expected at least one"),
    (set_option("conv", type="conv"), fc.UnsupportedError, "conv.type: 'conv' is not supported; supported: window, "),
    (set_option("conv", taps=0), ValueError, "conv.taps: expected a whole number from 1 to 1048576, got 0"),
    (set_option("conv", taps=4), ValueError, "conv.weight: expected shape \\(8, 24\\), got \\(8, 18\\)"),
    (set_option("conv", taps=2**20), ValueError, "conv.weight|2\\^24 floats"),
    (set_option("conv", taps=2**20 + 1), ValueError, "conv.taps"),
    (set_option("conv", stride=0), ValueError, "conv.stride"),
    (set_option("conv", stride=2**20 + 1), ValueError, "conv.stride"),
    (set_option("conv", dilation=-1), ValueError, "conv.dilation"),
    (set_option("conv", padding=[0]), ValueError, "conv.padding: expected two numbers"),
    (set_option("conv", padding=[0, 0, 0]), ValueError, "conv.padding"),
    (set_option("conv", padding=[2**20 + 1, 0]), ValueError, "conv.padding"),
    (set_option("conv", padding=[0, -(2**20) - 1]), ValueError, "conv.padding"),
    (set_option("conv", groups=0), ValueError, "conv.groups"),
    (set_option("conv", groups=5), ValueError, "conv.groups: expected a divisor of 12 features, got 5"),
    (set_option("conv", groups=3), ValueError, "conv.weight: expected shape \\(8, 12\\)"),
    (set_option("conv", repeat=3), ValueError, "conv.repeat: expected a divisor of 8 outputs, got 3"),
    (set_option("conv", positions=5), ValueError, "conv.positions: expected a divisor of 12 features, got 5"),
    (set_option("conv", positions=-1), ValueError, "conv.positions"),
    (set_option("conv", activation=ELU | {"name": "Soft"}), fc.UnsupportedError, "conv.activation: 'Soft' is not supp"),
    (set_option("conv", activation=ELU | {"alpha": None}), ValueError, "conv.activation: alpha of Elu"),
    (set_option("conv", activation=ELU | {"alpha": 1e39}), ValueError, "conv.activation: alpha of Elu"),
    (set_option("conv", activation=ELU | {"beta": 1}), ValueError, "conv.activation: beta of Elu: expected 0"),
    (set_option("conv", activation={"name": "Elu"}), ValueError, "conv.activation: expected an object with alpha"),
    (set_option("inside", repeat=2), ValueError, "inside.repeat: expected 1 with positions, got 2"),
    (set_option("inside", padding=[-1, 0]), ValueError, "inside.padding: expected 0 or more inside rows"),
    (set_option("inside", dilation=6), ValueError, "inside.taps: expected a window of at most 6 positions, got 7"),
    (set_option("inside", padding=[2**20, 2**20]), ValueError, "rows and windows up to here"),
    (set_option("up", repeat=2**20 + 1), ValueError, "up.repeat"),
    (set_option("conv", dilation=2**20), ValueError, "conv: rows and windows up to here have more than 2\\^24 floats"),
    (set_option("rows", left=2**20, right=-(2**20), inputs=["x"]), ValueError, "rows: rows and windows"),
    (set_option("depthwise", taps=4), ValueError, "depthwise.weight: expected shape \\(4, 12\\), got \\(3, 12\\)"),
    (set_option("largest", padding=[0, 1]), ValueError, "largest.padding: expected 0 or less, as zeros would be"),
    (set_option("means", taps=5), ValueError, "means.taps: expected a window of at most 4 positions, got 5"),
    (set_option("clip", activation=None), ValueError, "clip.activation: expected an activation, got None"),
    (set_option("add", inputs=["conv"]), ValueError, "add.inputs: expected two or more with equal features, got 8"),
    (set_option("add", inputs=["conv", "x"]), ValueError, "add.inputs: expected two or more .* features, got 8, 12"),
    (set_option("glu", inputs=["prelu", "lstm"]), ValueError, "glu.inputs"),
    (set_option("softmax", parts=3), ValueError, "softmax.parts: expected a divisor of 4 features, got 3"),
    (set_option("softmax", parts=0), ValueError, "softmax.parts"),
    (set_option("rms_norm", eps=-1e-9), ValueError, "rms_norm.eps: expected 0 or more, got -1e-09"),
    (set_option("rms_norm", eps=1e39), ValueError, "rms_norm.eps: expected a finite float32"),
    (set_option("take", repeat=3), ValueError, "take.repeat: expected a divisor of 4 indices, got 3"),
    (set_option("rows", left=2**20 + 1), ValueError, "rows.left"),
    (set_option("rows", right=0.5), ValueError, "rows.right"),
    (set_option("last", num_directions=3), ValueError, "last.num_directions"),
    (set_option("last", inputs=["lstm"]), ValueError, "last.num_directions: expected a divisor of 3 features, got 2"),
    (set_option("gru", inputs=["x"]), ValueError, "gru.inputs: expected 8 features, got 12"),
    (set_option("gru", layer=NODES["gru"]["layer"] | {"kind": "elman"}), fc.UnsupportedError, "gru: class='GRU' of"),
    (set_option("gru", layer=NODES["gru"]["layer"] | {"class": "GRUCell"}), ValueError, "gru: 'bias_.*' is not an"),
    (set_option("gru", layer=DESCRIPTION | {"nodes": []}), ValueError, "gru: expected a layer, got a whole model"),
    (lambda d, t: t.update({"lstm.initial_h": np.zeros((1, 2, 3), np.float32)}), ValueError, "lstm: initial_c"),
    (lambda d, t: t.update({f"lstm.initial_{s}": np.zeros((1, 2, 3), np.float32) for s in "hc"}), ValueError,
     "lstm.initial_h: expected one row, for all sequences, got 2"),
    (lambda d, t: t.update({"conv.weight_scale": np.ones(8, np.float32)}), ValueError, "conv.weight_scale: only int8"),
    (lambda d, t: t.update({"head.weight_scale": np.full(2, 1e-40, np.float32)}), ValueError, "head.weight_scale: ex"),
    (lambda d, t: t.update({"head.weight": np.full((2, 13), -128, np.int8)}), ValueError, "head.weight: expected"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "error", "message"), REFUSED, ids=[message for *_, message in REFUSED])
def test_what_is_wrong_is_said_by_name(
    change: Callable[[Description, Tensors], object], error: type[ValueError], message: str, path: Path
) -> None:
    with pytest.raises(error, match=message):
        load_changed(path, change)


def chain_of(count: int, node: Description, size: int) -> Description:
    """So many of one node, one after another."""
    names = ["x", *(f"n{index}" for index in range(count))]
    steps = [node | {"name": name, "inputs": [before]} for before, name in pairwise(names)]
    return DESCRIPTION | {"inputs": [{"name": "x", "size": size}], "outputs": [names[-1]], "nodes": steps}


def test_a_short_file_cannot_ask_for_much_memory(path: Path) -> None:
    rows = {"type": "rows", "left": 0, "right": 0}
    path.write_bytes(to_file(chain_of(4096, rows, 1 << 20), {}))
    with pytest.raises(ValueError, match="rows and windows up to here have more than 2\\^24 floats"):
        fc.load(path)
    twice = chain_of(64, rows, 1 << 10)
    for node in twice["nodes"]:
        node["inputs"] *= 2
    path.write_bytes(to_file(twice, {}))
    with pytest.raises(ValueError, match="rows and windows up to here have more than 2\\^24 floats"):
        fc.load(path)
    path.write_bytes(to_file(chain_of(4097, rows, 1), {}))
    with pytest.raises(ValueError, match="nodes: expected at most 4096"):
        fc.load(path)


def test_a_file_of_the_most_nodes_loads(path: Path) -> None:
    path.write_bytes(to_file(chain_of(4096, {"type": "activation", "activation": ELU}, 1), {}))
    assert fc.load(path)(np.full((2, 1), 3, np.float32)).tolist() == [[3], [3]]


def test_slices_of_slices_are_addresses_and_cost_nothing(path: Path) -> None:
    steps: list[tuple[str, Any, Any]] = [("wide", nodes.Dense(uniform(1, 4, 9)), "x")]
    steps += [("a", nodes.Take(range(1, 4)), "wide"), ("b", nodes.Take(range(1, 3)), ("x", "a"))]
    steps += [("c", nodes.Take([9, 10, 11]), ("x", "a")), ("d", nodes.Take([1, 2]), "c")]
    steps += [("y", nodes.Activation("relu"), ("d", "b"))]
    model = fc.Model(steps)
    fc.save(model, path)
    x = uniform(2, 6, 9)
    wide = fc.Model(steps[:1])(x)
    expected = np.maximum(np.concatenate([wide[:, 2:4], x[:, 1:3]], axis=1), 0)
    np.testing.assert_array_equal(fc.load(path)(x), expected)
    for name, columns in (("a", wide[:, 1:4]), ("d", wide[:, 2:4])):  # what answers is a value of its own
        np.testing.assert_array_equal(fc.Model(steps, outputs=name)(x), columns)


def test_who_reads_a_layer_as_a_model_hears_what_reads_it_and_the_other_way_round() -> None:
    from fusedcell._core import Model, load_layer
    from fusedcell._file_format import to_bytes

    layer = KIND["lstm"].make(KIND["lstm"].weights(2, 3))
    with pytest.raises(ValueError, match=r"expected a whole model, got class='LSTM': .*load reads layers"):
        Model(to_bytes(*layer._to_tensors()), "")
    with pytest.raises(ValueError, match=r"expected a layer, got a whole model: .*load_model reads it"):
        load_layer(fc.Model(every_node())._to_bytes())


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_file_that_was_cut_is_refused(share: float, path: Path) -> None:
    data = to_file(DESCRIPTION, TENSORS)
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match=str(path.name)):
        fc.load(path)


def test_tables_that_layers_read_alone_give_the_layers_bits_and_others_stay_where_they_are() -> None:
    gru = KIND["gru_reset_after"].make(KIND["gru_reset_after"].weights(4, 4))
    tables = [uniform(seed, 6, 4) for seed in (1, 2, 3)]
    model = fc.Model(
        [
            *((name, nodes.Embedding(table), source) for name, table, source in zip("abc", tables, "tut", strict=True)),
            ("first", gru, "a"),
            ("second", gru, "b"),
            ("third", gru, "c"),
            ("y", nodes.Add(), ("first", "second", "third", "b")),
        ],
        outputs=("y", "c"),
    )
    t, u = np.array([5, 0, 3]), np.array([1, 1, 4])
    a, b, c = tables[0][t], tables[1][u], tables[2][t]
    y, third = model(t, u)
    np.testing.assert_array_equal(y, ((gru(a)[0] + gru(b)[0]) + gru(c)[0]) + b)
    np.testing.assert_array_equal(third, c)
