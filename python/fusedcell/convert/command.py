"""The commands ``fusedcell inspect FILE`` and ``fusedcell convert MODEL OUT``."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

from .._base import DTYPES, Recurrent
from .._options import described
from ..layers import Layer
from ..storage import load, save, to_tensors
from .onnx_file import OnnxFile
from .onnx_graph import recurrent_nodes
from .onnx_node import IGNORABLE
from .onnx_read import NodeReport, from_onnx, report
from .onnx_write import to_onnx
from .spec import RecurrentSpec

_ONNX, _SAFETENSORS = ".onnx", ".safetensors"


def add_parsers(commands: Any) -> None:
    """Adds both commands to the parsers of the command line."""
    inspect = commands.add_parser(
        "inspect", help="the recurrent nodes of an ONNX model, or what a .safetensors file of ours holds"
    )
    inspect.add_argument("file", metavar="FILE", type=Path)
    _add_ignore(inspect)
    convert = commands.add_parser(
        "convert", help="an ONNX model's node to a .safetensors file, or that to an ONNX model"
    )
    convert.add_argument("model", metavar="MODEL", type=Path, help=f"a file ending in {_ONNX} or {_SAFETENSORS}")
    convert.add_argument("out", metavar="OUT", type=Path, help="the other of the two; replaced if it is there")
    convert.add_argument("--node", help="which recurrent node of several: its name, or its number in inspect's list")
    convert.add_argument("--dtype", choices=DTYPES, help="round the weights to it (float32, or the file's)")
    _add_ignore(convert)


def _add_ignore(parser: argparse.ArgumentParser) -> None:
    text = "of an ONNX node: take the default where the model makes it in a way that is not understood"
    parser.add_argument("--ignore", action="append", choices=IGNORABLE, default=[], help=text)


def run(options: argparse.Namespace) -> int:
    """Runs one of the commands. Status 1, after an error or with all told, where something cannot be loaded."""
    try:
        return _inspect(options.file, options.ignore) if options.command == "inspect" else _convert(options)
    except (ValueError, ImportError) as error:
        _print(f"fusedcell: {error}", sys.stderr)
        return 1


def _convert(options: argparse.Namespace) -> int:
    model, out, dtype = options.model, options.out, options.dtype
    ways = {(_ONNX, _SAFETENSORS), (_SAFETENSORS, _ONNX)}
    if (model.suffix.lower(), out.suffix.lower()) not in ways:
        raise ValueError(f"expected {_ONNX} to {_SAFETENSORS} or the reverse, got {model.name!r} to {out.name!r}")
    if model.suffix.lower() == _ONNX:
        layer: Any = from_onnx(model, _node(model, options.node), dtype=dtype or "float32", ignore=options.ignore)
        save(layer, out)
    else:
        if options.node is not None:
            raise ValueError(f"--node: {model.name!r} holds one layer, so there is nothing to choose")
        layer = load(model)
        if not isinstance(layer, Layer):
            raise ValueError(f"{model}: holds a {type(layer).__name__}; only layers become ONNX models")
        layer = layer if dtype is None else layer.astype(dtype)
        to_onnx(layer, out)
    _print(f"{out}: {layer!r}")
    return 0


def _node(model: Path, text: str | None) -> str | int | None:
    """A name, or else a number in the list."""
    if text is None or not text.isdecimal():
        return text
    names = {name for found in recurrent_nodes(OnnxFile(model)) for name in (found.node.name, found.address)}
    return text if text in names else int(text)


def _inspect(path: Path, ignore: list[str]) -> int:
    if path.suffix.lower() == _SAFETENSORS:
        _table(path.name, _layer_rows(load(path)))
        return 0
    reports = report(path, ignore=ignore)
    for index, found in enumerate(reports):
        _table(f"{index}  {found.occurrence.description}", _node_rows(found))
    if not reports:
        _print(f"{path}: there is no recurrent node (RNN, GRU, LSTM)")
    refused = sum(bool(found.refusal) for found in reports)
    if refused:
        _print(f"{refused} of {len(reports)} cannot be loaded")
    return 1 if refused or not reports else 0


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
    description, tensors = to_tensors(layer)
    rows = [("layer" if isinstance(layer, Layer) else "cell", repr(layer))]
    rows += [(key, str(value)) for key, value in description.items() if key not in ("class", "options")]
    for name, tensor in tensors.items():
        shape = " x ".join(map(str, tensor.shape))
        rows.append((name, f"{shape} {layer.dtype if tensor.dtype != 'float32' else 'float32'}"))
    rows.append(("values", f"{sum(math.prod(tensor.shape) for tensor in tensors.values()):,}"))
    return rows


def _table(title: str, rows: list[tuple[str, str]]) -> None:
    width = max(len(key) for key, _ in rows)
    _print(title)
    for index, (key, value) in enumerate(rows):
        edge = "└" if index + 1 == len(rows) else "├"
        _print(f"{edge}─ {key:<{width}}  {value}")


def _print(text: str, file: Any = None) -> None:
    """Prints text that may hold names from a file: control characters are escaped, unknown ones become "?"."""
    file = file or sys.stdout
    encoding = file.encoding or "utf-8"
    shown = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
    print(shown.encode(encoding, "replace").decode(encoding), file=file)
