"""``fusedcell inspect FILE``: the whole model, its recurrent layers, and why what cannot be loaded cannot."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any, TypeAlias

from .._base import GATES
from .._options import described
from .._recurrent import Recurrent
from ..cells import Cell, GRUCell
from ..convert.amplifiers.model import sample_rate
from ..convert.keras.files import recurrent_names
from ..convert.keras.layers import from_keras
from ..convert.model_files import WHOLE_MODULE, read_model
from ..convert.onnx.file import OnnxFile
from ..convert.onnx.read import NodeReport, report
from ..convert.spec import RecurrentSpec
from ..convert.state_modules import listing
from ..convert.state_modules import report as report_modules
from ..layers import GRU, Layer
from ..model import Model
from ..storage import load
from ..weights.file_kinds import JSON, KERAS, ONNX, SAFETENSORS, known_kind
from ..weights.state_files import is_own_file
from .model_table import model_rows, node_table
from .options import add_file, add_ignore, check_is_for_onnx
from .text import show, table

_MOST_PORTS = 50
_Table: TypeAlias = tuple[str, list[tuple[str, str]], str]  # a title, rows, and why it cannot be loaded, if so
_CALLS = {ONNX: "from_onnx(path{})", KERAS: "from_keras(path)", JSON: "from_json(path)"}


def add_parser(commands: Any) -> None:
    """Adds it to the parsers of the command line."""
    text = "what a file holds: the whole model by node, its recurrent layers, and why what cannot be loaded cannot"
    inspect = commands.add_parser("inspect", help=text, description=f"{text[0].upper()}{text[1:]}.")
    add_file(inspect, "FILE", "a file")
    add_ignore(inspect)


def run(options: argparse.Namespace) -> int:
    """Status 1 if one of the recurrent layers cannot be loaded, or there is nothing that can."""
    path = options.file
    kind = known_kind(path)
    check_is_for_onnx(options, kind, path)
    if kind == SAFETENSORS and is_own_file(path):
        found = load(path)
        if isinstance(found, Model):
            _show_model(path.name, found, "load(path)")
        else:
            table(path.name, _layer_rows(found))
        return 0
    if kind == JSON:
        rate = sample_rate(path)
        _show_model(path.name, read_model(path), f"Model.{_CALLS[kind]}", f"{rate:,.6g} Hz" if rate else "")
        return 0
    if kind == ONNX:
        tables, what = _nodes(path, options.ignore)
    else:
        tables, what = _keras_layers(path) if kind == KERAS else _modules(path)
    model = None
    if kind in _CALLS:
        try:
            model = read_model(path, dict(options.state))
        except (ValueError, ImportError) as refusal:
            table(path.name, [("whole model", f"no: {refusal}"), *(_graph_rows(path) if kind == ONNX else [])])
        else:
            states = f", states={dict(options.state)!r}" if options.state else ""
            _show_model(path.name, model, f"Model.{_CALLS[kind].format(states)}")
    for index, (title, rows, _) in enumerate(tables):
        table(f"{index}  {title}", rows)
    if not tables and model is None:
        show(f"{path}: there is no recurrent {what}")
    refused = sum(bool(refusal) for _, _, refusal in tables)
    if refused:
        show(f"{refused} of {len(tables)} cannot be loaded")
    return 1 if refused or not (tables or model) else 0


def _show_model(title: str, model: Model, call: str, rate: str = "") -> None:
    table(title, [*model_rows(model), *([("sample rate", rate)] if rate else []), ("loads", f"as fusedcell.{call}")])
    for line in node_table(model):
        show(f"   {line}")


def _graph_rows(path: Path) -> list[tuple[str, str]]:
    """What a graph takes and gives, by which states are named."""
    graph = OnnxFile(path).model.graph
    own = {tensor.name for tensor in graph.initializer}
    found = {"inputs": [value for value in graph.input if value.name not in own], "outputs": list(graph.output)}
    return [(key, ", ".join(map(_port, values[:_MOST_PORTS]))) for key, values in found.items()]


def _port(value: Any) -> str:
    sizes = [str(dim.dim_value or dim.dim_param or "?") for dim in value.type.tensor_type.shape.dim]
    return f"{value.name} ({', '.join(sizes)})"


def _nodes(path: Path, ignore: list[str]) -> tuple[list[_Table], str]:
    reports = report(path, ignore=ignore)
    tables = [(found.occurrence.description, _node_rows(found), found.refusal) for found in reports]
    return tables, "node (RNN, GRU, LSTM)"


def _modules(path: Path) -> tuple[list[_Table], str]:
    held = report_modules(path)
    if held.beside:
        whole = f"no: weights have no order of computation; {WHOLE_MODULE} takes all of a module"
        table(path.name, [("whole model", whole), ("beside these", listing(held.beside))])
    tables = []
    for found in held.modules:
        name = type(found.layer).__name__
        call = name if isinstance(found.layer, Cell) else f"{name}.from_state_dict(path, {found.prefix!r})"
        unnamed = ['nonlinearity="tanh" or "relu"'] * name.startswith("RNN")
        unnamed += ["batch_first=True where its module has it"] * isinstance(found.layer, Layer)
        if unnamed:
            call += f", with {' and '.join(unnamed)}, which its names do not say"
        tables.append((repr(found.prefix), _module_rows(found.layer, found.refusal, call), found.refusal))
    if held.count > len(held.modules):
        show(f"{path}: the first {len(held.modules)} of {held.count} recurrent modules")
    return tables, "module (RNN, GRU, LSTM, or their cells)"


def _keras_layers(path: Path) -> tuple[list[_Table], str]:
    tables = []
    for name, class_name in recurrent_names(path):
        layer, refusal = None, ""
        given: tuple[str, ...] = ()
        try:
            layer = from_keras(path, name)
            given = from_keras(path, name, keras_output=True).from_other_layers
        except ValueError as error:
            refusal = str(error)
        rows = _module_rows(layer, refusal, f"from_keras(path, {name!r})")
        if given:
            rows.append(("from other layers", f"{', '.join(given)}, which a call of it takes beside x"))
        tables.append((f"{class_name} layer {name!r}", rows, refusal))
    return tables, "layer"


def _module_rows(layer: Recurrent | None, refusal: str, call: str) -> list[tuple[str, str]]:
    if layer is None:
        return [("loads", f"no: {refusal}")]
    name = type(layer).__name__
    rows = [
        ("kind", f"{name}, of {GATES[name.removesuffix('Cell')][1]}"),
        ("sizes", f"{layer.input_size} → {layer.hidden_size}" + f" → {layer.proj_size}" * bool(layer.proj_size)),
    ]
    if isinstance(layer, Layer):
        direction = "bidirectional" if layer.bidirectional else "reverse" if layer.reverse else "forward"
        rows += [("layers", str(layer.num_layers)), ("direction", direction)]
    options = [f"reset_after={layer.reset_after}"] if isinstance(layer, (GRU, GRUCell)) else []
    options += described(layer.cell_options)
    if isinstance(layer, Layer) and layer.batch_first:
        options.append("batch_first=True")
    return [*rows, ("options", ", ".join(options) or "none"), ("loads", f"as fusedcell.{call}")]


def _node_rows(found: NodeReport) -> list[tuple[str, str]]:
    node = found.occurrence.node
    rows = [
        ("name", node.name or "none"),
        ("operator", f"{node.domain + '.' if node.domain else ''}{node.op_type}, operator set {found.opset}"),
        ("where", found.occurrence.scope.path or "graph"),
        *found.connections,
    ]
    if found.reading is not None:
        spec, weights = found.reading.spec, found.reading.weights
        rows += [
            ("sizes", f"{spec.cells[0]['weight_ih'].shape[1]} → {spec.cells[0]['weight_hh'].shape[1]}"),
            ("direction", "bidirectional" if len(spec.cells) == 2 else "reverse" if spec.reverse else "forward"),
            ("options", ", ".join(_spec_options(spec)) or "none"),
            ("weights", f"{', '.join(weights.types)} from {weights.source}"),
            *(("ignored", text) for text in found.reading.ignored),
        ]
    if found.reading is not None and found.reading.from_call:
        given = ", ".join(found.reading.from_call)
        rows.append(("not in the layer", f"{given}: not fixed in the file, so a call takes it beside x"))
    rows.append(("loads", f"no: {found.refusal}" if found.refusal else f"as {_class_of(found)}"))
    return rows


def _class_of(found: NodeReport) -> str:
    assert found.reading is not None  # as it was not refused
    return f"fusedcell.{found.reading.spec.kind.partition('_')[0].upper()}"


def _spec_options(spec: RecurrentSpec) -> list[str]:
    options = described(spec.options)
    if spec.kind.startswith("gru"):
        options.insert(0, f"reset_after={spec.kind == 'gru_reset_after'}")
    if "weight_peephole" in spec.cells[0]:
        options.append("peepholes=True")
    if spec.batch_first:
        options.append("batch_first=True")
    if spec.initial_state is not None:
        options.append(f"initial_state of batch {spec.initial_state[0].shape[1]}")
    return options


def _layer_rows(layer: Recurrent) -> list[tuple[str, str]]:
    description, tensors = layer._to_tensors()
    rows = [("layer" if isinstance(layer, Layer) else "cell", repr(layer))]
    rows += [(key, str(value)) for key, value in description.items() if key not in ("class", "options")]
    for name, tensor in tensors.items():
        shape = " x ".join(map(str, tensor.shape))
        density = layer.densities.get(name, 1)
        stored = f", {density:.0%} of its blocks" if density < 1 else ""
        rows.append((name, f"{shape} {layer.dtypes.get(name, 'float32')}{stored}"))
    rows.append(("values", f"{sum(math.prod(tensor.shape) for tensor in tensors.values()):,}"))
    return rows
