"""The commands ``fusedcell inspect FILE`` and ``fusedcell convert MODEL OUT``."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any, TypeAlias

from .._base import GATES, NONLINEARITIES
from .._dtypes import DTYPES
from .._options import described
from .._recurrent import Recurrent
from ..cells import Cell, GRUCell
from ..layers import GRU, Layer
from ..storage import load, save
from ..weights.file_kinds import KERAS, ONNX, PYTORCH, SAFETENSORS, SUFFIXES, FileKind, kind_of
from ..weights.state_files import is_own_file
from .keras_files import recurrent_names
from .keras_layers import from_keras
from .onnx_file import OnnxFile
from .onnx_graph import recurrent_nodes
from .onnx_node import IGNORABLE
from .onnx_read import NodeReport, from_onnx, report
from .onnx_write import to_onnx
from .spec import RecurrentSpec
from .state_modules import read_module
from .state_modules import report as report_modules

_Table: TypeAlias = tuple[str, list[tuple[str, str]], str]  # a title, rows, and why it cannot be loaded, if so
_KINDS_OF_OUT = (SAFETENSORS, ONNX)


def add_parsers(commands: Any) -> None:
    """Adds both commands to the parsers of the command line."""
    suffixes = ", ".join(SUFFIXES)
    inspect = commands.add_parser("inspect", help="the recurrent layers of a model file, or why they cannot be loaded")
    inspect.add_argument("file", metavar="FILE", type=Path, help=f"a file ending in {suffixes}")
    convert = commands.add_parser("convert", help="a recurrent layer of a model file to a file of ours, or of ONNX")
    convert.add_argument("model", metavar="MODEL", type=Path, help=f"a file ending in {suffixes}")
    convert.add_argument("out", metavar="OUT", type=Path, help=f"{_suffixes_of_out()}; replaced if it is there")
    convert.add_argument(
        "--node",
        "--prefix",
        "--layer",
        metavar="NAME",
        dest="which",
        help="which of several: an ONNX node, the prefix of PyTorch's names, a layer of Keras, or the number in "
        "inspect's list",
    )
    convert.add_argument("--dtype", choices=DTYPES, help="round the weights to it (float32, or the file's)")
    convert.add_argument("--nonlinearity", choices=NONLINEARITIES, help="of a state dictionary's RNN")
    convert.add_argument("--batch-first", action="store_true", help="of a state dictionary's layer: x is (B, T, I)")
    for parser in (inspect, convert):
        parser.add_argument(
            "--ignore",
            action="append",
            choices=IGNORABLE,
            default=[],
            help="of an ONNX node: take the default where the model makes it in a way that is not understood",
        )


def run(options: argparse.Namespace) -> int:
    """Runs one of the commands. Status 1, after an error or with all told, where something cannot be loaded."""
    try:
        return _inspect(options.file, options.ignore) if options.command == "inspect" else _convert(options)
    except (ValueError, ImportError, RuntimeError) as error:
        _print(f"fusedcell: {error}", sys.stderr)
        return 1


def _kind(path: Path) -> FileKind:
    kind = kind_of(path)
    if kind is None:
        raise ValueError(f"expected a file ending in {', '.join(SUFFIXES)}, got {path.name!r}")
    return kind


def _suffixes_of_out() -> str:
    return " or ".join(suffix for kind in _KINDS_OF_OUT for suffix in kind.suffixes)


def _convert(options: argparse.Namespace) -> int:
    kind, out = _kind(options.model), options.out
    if kind_of(out) not in _KINDS_OF_OUT:
        raise ValueError(f"expected to write a file ending in {_suffixes_of_out()}, got {out.name!r}")
    if out.exists() and out.samefile(options.model):
        raise ValueError(f"expected another file to write than {options.model.name!r}, which is read")
    layer = _read(kind, options)
    if kind_of(out) == SAFETENSORS:
        save(layer, out)
    elif isinstance(layer, Layer):
        to_onnx(layer, out)
    else:
        raise ValueError(f"{options.model}: holds a {type(layer).__name__}; only layers become ONNX models")
    _print(f"{out}: {layer!r}")
    return 0


def _read(kind: FileKind, options: argparse.Namespace) -> Any:
    model, which, dtype = options.model, options.which, options.dtype or "float32"
    _check_ignore(options.ignore, kind, model)
    is_own = kind == SAFETENSORS and is_own_file(model)
    if kind in (SAFETENSORS, PYTORCH) and not is_own:
        return read_module(
            model, which, nonlinearity=options.nonlinearity, batch_first=options.batch_first, dtype=dtype
        )
    if options.nonlinearity is not None or options.batch_first:
        option = "--nonlinearity" if options.nonlinearity is not None else "--batch-first"
        raise ValueError(f"{option}: is for state dictionaries, and {model.name!r} says itself what its layer is")
    if is_own:
        if which is not None:
            raise ValueError(f"--node: {model.name!r} holds one layer, so there is nothing to choose")
        layer = load(model)
        return layer if options.dtype is None else layer.astype(dtype)
    if kind == ONNX:
        return from_onnx(model, _node(model, which), dtype=dtype, ignore=options.ignore)
    return from_keras(model, _layer(model, which), dtype=dtype)


def _check_ignore(ignore: list[str], kind: FileKind, path: Path) -> None:
    if ignore and kind != ONNX:
        raise ValueError(f"--ignore: {path.name!r} is not a file ending in {ONNX.suffixes[0]}")


def _node(model: Path, text: str | None) -> str | int | None:
    """A name, or else a number in the list."""
    if text is None or not text.isdecimal():
        return text
    names = {name for found in recurrent_nodes(OnnxFile(model)) for name in (found.node.name, found.address)}
    return text if text in names else int(text)


def _layer(model: Path, text: str | None) -> str | None:
    """A name, or else that of a number in the list."""
    if text is None or not text.isdecimal():
        return text
    names = [name for name, _ in recurrent_names(model)]
    return text if text in names or int(text) >= len(names) else names[int(text)]


def _inspect(path: Path, ignore: list[str]) -> int:
    kind = _kind(path)
    _check_ignore(ignore, kind, path)
    if kind == SAFETENSORS and is_own_file(path):
        _table(path.name, _layer_rows(load(path)))
        return 0
    if kind == ONNX:
        tables, what = _nodes(path, ignore)
    else:
        tables, what = _keras_layers(path) if kind == KERAS else _modules(path)
    for index, (title, rows, _) in enumerate(tables):
        _table(f"{index}  {title}", rows)
    if not tables:
        _print(f"{path}: there is no recurrent {what}")
    refused = sum(bool(refusal) for _, _, refusal in tables)
    if refused:
        _print(f"{refused} of {len(tables)} cannot be loaded")
    return 1 if refused or not tables else 0


def _nodes(path: Path, ignore: list[str]) -> tuple[list[_Table], str]:
    reports = report(path, ignore=ignore)
    tables = [(found.occurrence.description, _node_rows(found), found.refusal) for found in reports]
    return tables, "node (RNN, GRU, LSTM)"


def _modules(path: Path) -> tuple[list[_Table], str]:
    reports, count = report_modules(path)
    tables = []
    for found in reports:
        name = type(found.layer).__name__
        call = name if isinstance(found.layer, Cell) else f"{name}.from_state_dict(path, {found.prefix!r})"
        unnamed = ['nonlinearity="tanh" or "relu"'] * name.startswith("RNN")
        unnamed += ["batch_first=True where its module has it"] * isinstance(found.layer, Layer)
        if unnamed:
            call += f", with {' and '.join(unnamed)}, which its names do not say"
        tables.append((repr(found.prefix), _module_rows(found.layer, found.refusal, call), found.refusal))
    if count > len(reports):
        _print(f"{path}: the first {len(reports)} of {count} recurrent modules")
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
        rows.append((name, f"{shape} {layer.dtypes.get(name, 'float32')}"))
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
