"""``fusedcell convert MODEL OUT``: a whole model, or a recurrent layer of it, to a file of ours or of ONNX."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, TypeVar

from .._base import NONLINEARITIES
from .._dtypes import DTYPES
from .._recurrent import Recurrent
from ..convert.keras.files import recurrent_names
from ..convert.keras.layers import from_keras
from ..convert.model_files import WHOLE_MODULE, read_model
from ..convert.onnx.file import OnnxFile
from ..convert.onnx.graph import recurrent_nodes
from ..convert.onnx.read import from_onnx
from ..convert.onnx.write import to_onnx
from ..convert.state_modules import listing, read_module
from ..errors import UnsupportedError
from ..layers import Layer
from ..model import Model
from ..storage import load, save
from ..weights.file_kinds import JSON, ONNX, PYTORCH, SAFETENSORS, FileKind, kind_of, known_kind
from ..weights.state_files import is_own_file
from .options import add_file, add_ignore, check_is_for_onnx
from .text import show

_Made = TypeVar("_Made", Model, Recurrent)
_KINDS_OF_OUT = (SAFETENSORS, ONNX)


def add_parser(commands: Any) -> None:
    """Adds it to the parsers of the command line."""
    text = "a model, or a recurrent layer of it, to a file of ours, or of ONNX"
    convert = commands.add_parser("convert", help=text, description=f"{text[0].upper()}{text[1:]}.")
    add_file(convert, "MODEL", "a file")
    convert.add_argument("out", metavar="OUT", type=Path, help=f"{_suffixes_of_out()}; replaced if it is there")
    convert.add_argument(
        "--node",
        "--prefix",
        "--layer",
        metavar="NAME",
        dest="which",
        help="this recurrent layer alone: an ONNX node, the prefix of PyTorch's names, a layer of Keras, or the number "
        "in inspect's list",
    )
    convert.add_argument("--dtype", choices=DTYPES, help="round the weights to it (float32, or the file's)")
    convert.add_argument(
        "--keep",
        metavar="NODE[,NODE]",
        type=lambda names: names.split(","),
        default=(),
        help="with --dtype, nodes of a whole model that stay as they are; inspect lists them",
    )
    convert.add_argument("--nonlinearity", choices=NONLINEARITIES, help="of a state dictionary's RNN")
    convert.add_argument("--batch-first", action="store_true", help="of a state dictionary's layer: x is (B, T, I)")
    add_ignore(convert)


def _suffixes_of_out() -> str:
    return " or ".join(suffix for kind in _KINDS_OF_OUT for suffix in kind.suffixes)


def run(options: argparse.Namespace) -> int:
    """Reads, and writes if all of it could be read."""
    kind, out = known_kind(options.model), options.out
    if kind_of(out) not in _KINDS_OF_OUT:
        raise ValueError(f"expected to write a file ending in {_suffixes_of_out()}, got {out.name!r}")
    if out.exists() and out.samefile(options.model):
        raise ValueError(f"expected another file to write than {options.model.name!r}, which is read")
    model, notes = _read(kind, options)
    if options.keep and not isinstance(model, Model):
        raise ValueError(f"--keep: is for nodes of whole models, and what is taken is one {type(model).__name__}")
    if kind_of(out) == SAFETENSORS:
        save(model, out)
    elif isinstance(model, Layer):
        to_onnx(model, out)
    elif isinstance(model, Model):
        model.to_onnx(out)
    else:
        raise ValueError(f"{options.model}: holds a {type(model).__name__}; only layers become ONNX models")
    for line in (f"{out}: {model!r}", *notes):
        show(line)
    return 0


def _read(kind: FileKind, options: argparse.Namespace) -> tuple[Any, list[str]]:
    """A model, a layer or a cell, and what there is to say of it."""
    model, which, dtype = options.model, options.which, options.dtype or "float32"
    if options.keep and options.dtype is None:
        raise ValueError("--keep: is of what --dtype rounds, which is not given")
    check_is_for_onnx(options, kind, model)
    is_own = kind == SAFETENSORS and is_own_file(model)
    if kind in (SAFETENSORS, PYTORCH) and not is_own:
        given = {"nonlinearity": options.nonlinearity, "batch_first": options.batch_first}
        module, beside = read_module(model, which, **given, dtype=dtype)
        notes = [f"not taken: {listing(beside)}; {WHOLE_MODULE} takes all of a module"] if beside else []
        if isinstance(module, Layer) and not options.batch_first:
            notes.append("x is (T, B, I); give --batch-first if its module has batch_first=True, which no name says")
        return module, notes
    if options.nonlinearity is not None or options.batch_first:
        option = "--nonlinearity" if options.nonlinearity is not None else "--batch-first"
        raise ValueError(f"{option}: is for state dictionaries, and {model.name!r} says itself what its layer is")
    if is_own or kind == JSON:
        found = load(model) if is_own else read_model(model)
        if which is not None:
            what = "a whole model" if isinstance(found, Model) else "one layer"
            raise ValueError(f"--node: {model.name!r} holds {what}, so there is nothing to choose")
        return _rounded(found, options), []
    if which is not None or options.ignore or (kind == ONNX and not options.state and _is_one_node(model)):
        return _layer_of(kind, options, dtype), []
    return _whole(kind, options, dtype), []


def _is_one_node(path: Path) -> bool:
    """Whether an ONNX model is a recurrent node and nothing else."""
    file = OnnxFile(path)
    return len(file.model.graph.node) == 1 and len(list(recurrent_nodes(file))) == 1


def _layer_of(kind: FileKind, options: argparse.Namespace, dtype: str) -> Any:
    if kind == ONNX:
        return from_onnx(options.model, _node(options.model, options.which), dtype=dtype, ignore=options.ignore)
    return from_keras(options.model, _layer(options.model, options.which), dtype=dtype)


def _whole(kind: FileKind, options: argparse.Namespace, dtype: str) -> Model:
    """The whole model; where it is refused, the error says too whether a layer of it could be taken alone."""
    try:
        model = read_model(options.model, dict(options.state))
    except (ValueError, ImportError) as refusal:
        try:
            layer = _layer_of(kind, options, dtype)
        except (ValueError, ImportError) as error:
            if str(error) == str(refusal):
                raise
            raise UnsupportedError(f"{refusal}; and no recurrent layer is taken alone: {error}") from refusal
        raise UnsupportedError(
            f"{refusal}; its one recurrent layer, {layer!r}, is taken alone by --layer 0"
        ) from refusal
    return _rounded(model, options)


def _rounded(model: _Made, options: argparse.Namespace) -> _Made:
    """A model, a layer or a cell in the type that is asked for."""
    if options.dtype is None:
        return model
    return model.astype(options.dtype, keep=options.keep) if isinstance(model, Model) else model.astype(options.dtype)


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
