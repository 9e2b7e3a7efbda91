"""``fusedcell quantize MODEL OUT --data FILE``: int8 that keeps what is asked, on data."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from ..convert.model_files import read_model
from ..layers import Layer
from ..quantization import calibrate
from ..storage import load, save
from ..weights.file_kinds import SAFETENSORS, kind_of, known_kind
from ..weights.state_files import is_own_file
from .npy import open_npy
from .options import add_file, check_is_for_onnx
from .text import show


def add_parser(commands: Any) -> None:
    """Adds it to the parsers of the command line."""
    text = "a model or layer to int8 that keeps an SNR on data, with wider matrices where it has to"
    quantize = commands.add_parser(
        "quantize",
        help=text,
        description=f"{text[0].upper()}{text[1:]}. A part of the data is held out, and judges.",
    )
    add_file(quantize, "MODEL", "a file")
    quantize.add_argument("out", metavar="OUT", type=Path, help=f"{SAFETENSORS.suffixes[0]}; replaced if it is there")
    quantize.add_argument(
        "--data",
        action="append",
        required=True,
        type=Path,
        metavar="FILE",
        help="a .npy array as a call takes it; once for each input of the model, in their order",
    )
    quantize.add_argument("--snr", type=float, default=35.0, metavar="DB", help="what the answer has to keep (35)")
    quantize.add_argument("--seed", type=int, default=0, help="of what is held out (0)")
    quantize.add_argument("--picture", type=Path, metavar="FILE", help="draw what was tried; needs Matplotlib")
    quantize.set_defaults(ignore=[])


def run(options: argparse.Namespace) -> int:
    """Reads everything before anything is written."""
    path, out = options.model, options.out
    kind = known_kind(path)
    check_is_for_onnx(options, kind, path)
    if kind_of(out) != SAFETENSORS:
        raise ValueError(f"expected to write a file ending in {SAFETENSORS.suffixes[0]}, got {out.name!r}")
    for read in (path, *options.data):
        if out.exists() and out.samefile(read):
            raise ValueError(f"expected another file to write than {read.name!r}, which is read")
    is_own = kind == SAFETENSORS and is_own_file(path)
    network = load(path) if is_own else read_model(path, dict(options.state))
    arrays = [np.ascontiguousarray(array, array.dtype.newbyteorder("=")) for array in map(open_npy, options.data)]
    if isinstance(network, Layer) and len(arrays) > 1:
        raise ValueError(f"--data: {path.name!r} holds a layer, which takes one array, got {len(arrays)}")
    found = calibrate(network, arrays[0] if len(arrays) == 1 else tuple(arrays), options.snr, seed=options.seed)
    save(found.made, out)
    if options.picture is not None:
        found.plot(options.picture)
    print(found)
    show(f"{out}: {found.made!r}")
    return 0
