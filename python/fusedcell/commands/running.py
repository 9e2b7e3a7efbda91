"""``fusedcell run MODEL IN OUT``: a model over a file, in blocks, so that no more than one is held."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._base import FloatArray
from .._files import open_file, write_file
from ..convert.amplifiers.model import sample_rate
from ..convert.model_files import read_model
from ..model import Model
from ..weights.file_kinds import JSON, kind_of, known_kind
from .npy import Array, open_npy
from .options import add_file, check_is_for_onnx
from .text import show
from .wav import Wav, open_wav

_FLOATS_OF_A_BLOCK = 2**18


def add_parser(commands: Any) -> None:
    """Adds it to the parsers of the command line."""
    text = "a model over an array or a sound, from file to file, by a stream in blocks"
    run = commands.add_parser(
        "run",
        help=text,
        description=f"{text[0].upper()}{text[1:]}. A .npy file is arranged as a call of the model takes it: (T, I) or "
        "(T, B, I), or (B, T, I) where the model has the batch first, without I for tokens. Each channel of a .wav "
        "file goes through a stream of its own. A model that needs the whole sequence, or whose arrays have other "
        "axes, is given all at once, and so are sequences of several lengths.",
    )
    add_file(run, "MODEL", "a file")
    run.add_argument("source", metavar="IN", type=Path, help="a .npy file, or .wav for a model of one feature")
    run.add_argument("out", metavar="OUT", type=Path, help=".npy, or .wav where IN is; replaced if it is there")
    run.add_argument("--output", metavar="NAME", help="which of several outputs")
    run.add_argument(
        "--lengths", metavar="FILE", type=Path, help=".npy, integers (B,): how many steps each sequence of IN has"
    )
    run.set_defaults(ignore=[])


def run(options: argparse.Namespace) -> int:
    """Reads the model and the head of the input before anything is written."""
    _check_files(options)
    model = read_model(options.model, dict(options.state))
    place, path, out = _place(options, model), options.source, options.out
    if path.suffix.lower() == ".wav":
        with open_wav(path) as source:
            said = _of_sound(model, place, source, out)
            _warn_of_rate(options.model, source)
    else:
        lengths = open_npy(options.lengths) if options.lengths else None
        said = _of_array(model, place, open_npy(path), lengths, path, out)
    show(f"{out}: {said}")
    return 0


def _check_files(options: argparse.Namespace) -> None:
    """ValueError for names of files that do not go together."""
    path, out = options.source, options.out
    known, given = {".npy", ".wav"}, path.suffix.lower()
    if given not in known:
        open_file(path).close()  # which says so where there is none
    if given not in known or out.suffix.lower() not in known - ({".wav"} - {given}):
        raise ValueError(f"expected .npy to .npy, or .wav to .wav or .npy, got {path.name!r} to {out.name!r}")
    check_is_for_onnx(options, known_kind(options.model), options.model)
    if options.lengths and (given == ".wav" or options.lengths.suffix.lower() != ".npy"):
        raise ValueError(
            f"--lengths: expected a .npy file for sequences of a .npy file, got {options.lengths.name!r} for "
            f"{path.name!r}"
        )
    for read in filter(None, (path, options.model, options.lengths)):
        if out.exists() and out.samefile(read):
            raise ValueError(f"expected another file to write than {read.name!r}, which is read")


def _place(options: argparse.Namespace, model: Model) -> int:
    """Which of the outputs is asked for."""
    if len(model.inputs) != 1:
        raise ValueError(f"{options.model}: has {len(model.inputs)} inputs, {', '.join(model.inputs)}; run takes one")
    if options.output is None and len(model.outputs) > 1:
        raise ValueError(f"--output: expected one of {', '.join(model.outputs)}, as there are several")
    if options.output not in (None, *model.outputs):
        raise ValueError(f"--output: expected one of {', '.join(model.outputs)}, got {options.output!r}")
    return 0 if options.output is None else model.outputs.index(options.output)


def _warn_of_rate(model: Path, source: Wav) -> None:
    rate = sample_rate(model) if kind_of(model) == JSON else None
    if rate and rate != source.rate:
        show(
            f"fusedcell: {source.path} has {source.rate:,} Hz and {model} is of {rate:,.6g} Hz, so the answer sounds "
            "otherwise than what the model was made of: resample first",
            sys.stderr,
        )


def _of_array(model: Model, place: int, x: Array, lengths: Array | None, path: Path, out: Path) -> str:
    name, size, tokens = model._core.inputs[0]
    features = () if tokens else (size,)
    if model._core.axes or not model.streamable or lengths is not None:
        answer = model(_native(x), lengths=None if lengths is None else _native(lengths))
        answer = answer[place] if isinstance(answer, tuple) else answer
        write_file(out, [_npy_head(answer.shape), np.ascontiguousarray(answer, "<f4").tobytes()])
        return f"float32 {answer.shape}"
    batched = x.ndim == 2 + len(features)
    if x.ndim - len(features) not in (1, 2) or x.shape[1 + batched :] != features:
        rows = [("T",), ("B", "T") if model.batch_first else ("T", "B")]
        shapes = " or ".join(f"({', '.join([*axes, *map(str, features)])})" for axes in rows)
        raise ValueError(f"{path}: expected shape {shapes} for {name!r}, got {x.shape}")
    if not x.size:
        raise ValueError(f"{path}: expected at least one step of one sequence, got shape {x.shape}")
    if batched and model.batch_first:  # sequences that lie one after the other in the file go one after the other
        return _write_npy(model, place, list(x), False, (len(x),), out)
    return _write_npy(model, place, [x], batched, (), out)


def _of_sound(model: Model, place: int, source: Wav, out: Path) -> str:
    name, size, tokens = model._core.inputs[0]
    if size != 1 or tokens:
        what = f"tokens, {tokens} of them" if tokens else f"{size} features"
        raise ValueError(f"{source.path}: a sound is for a model of one feature, and {name!r} has {what}")
    if not model.streamable:
        model.stream()  # which raises, and names the node
    if not source.frames:
        raise ValueError(f"{source.path}: has no samples")
    if model._core.axes:  # which samples have no need of
        model = Model(model.nodes, {name: size}, model.outputs, isa=model.isa)
    if out.suffix.lower() == ".npy":
        return f"{_write_npy(model, place, [source], True, (), out)}, a sequence for each channel"
    rows, width = _shape(model, place, source.frames)
    if (rows, width) != (source.frames, 1):
        raise ValueError(
            f"{out}: expected a model that answers a sample for each, got {rows or 'one'} x {width} for "
            f"{source.frames}; write to .npy"
        )
    clipped = [0]
    write_file(out, source.encoded((block[..., 0] for block in _answers(model, place, source, True)), clipped))
    said = f"{source.frames / source.rate:.3f} s, {source.channels} channels, {source.rate} Hz, {source.format}"
    return said + (f"; {clipped[0]:,} samples were beyond full scale and are clipped" if clipped[0] else "")


def _shape(model: Model, place: int, steps: int) -> tuple[int | None, int]:
    """Rows, None of an answer of the whole sequence, and features of an output."""
    _, width, once = model._core.outputs[place]
    rows = model.rows(steps)
    return None if once else rows[place] if isinstance(rows, tuple) else rows, width


def _write_npy(
    model: Model, place: int, parts: Sequence[Any], batched: bool, before: tuple[int, ...], out: Path
) -> str:
    """Of sequences, or batches of them, that have `before` as axes together."""
    rows, width = _shape(model, place, parts[0].shape[0])
    row = (parts[0].shape[1], width) if batched else (width,)
    shape = (*before, *(() if rows is None else (rows,)), *row)

    def chunks() -> Iterator[bytes]:
        yield _npy_head(shape)
        for part in parts:
            last: FloatArray = np.zeros(row, "<f4")
            for block in _answers(model, place, part, batched):
                if rows is not None:
                    yield block.tobytes()
                elif len(block):
                    last = block[-1]
            if rows is None:
                yield last.tobytes()

    write_file(out, chunks())
    return f"float32 {shape}"


def _answers(model: Model, place: int, x: Any, batched: bool) -> Iterator[FloatArray]:
    """The rows of one output, block by block, (t, O) or (t, B, O); x is (T, ...) or a sound."""
    batch = x.shape[1] if batched else 1
    stream = model.stream(batch)
    turned = model.batch_first and batched and batch > 1  # without a batch axis where the stream has one row
    count = max(1, _FLOATS_OF_A_BLOCK // max(1, int(np.prod(x.shape[1:]))))
    for begin in range(0, x.shape[0] + count, count):
        if begin >= x.shape[0]:
            answer = stream.flush()
        else:
            block = _native(x[begin : begin + count])
            block = block[:, 0] if batched and batch == 1 else block.swapaxes(0, 1) if turned else block
            answer = stream.process(block)
        array = answer[place] if isinstance(answer, tuple) else answer
        array = array.swapaxes(0, 1) if turned else array
        yield np.ascontiguousarray(array[:, None] if batched and batch == 1 else array, "<f4")


def _native(block: Array) -> Array:
    return np.ascontiguousarray(block, block.dtype.newbyteorder("="))


def _npy_head(shape: tuple[int, ...]) -> bytes:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return head.getvalue()
