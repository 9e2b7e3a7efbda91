"""Published models: which run whole, how far from their own frameworks, and how fast. Writes docs/census.md.

python bench/census.py                  all of them; needs PyTorch, Keras, ONNX Runtime, and packages that have models
python bench/census.py silero TEN-VAD   those whose names have one of these in them, printed and not written
python bench/census.py --batch 32       each sequence so many times at once; not written either
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import re
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"  # of fusedcell, too, there is one
os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np

import fusedcell as fc
from census_models.case import Case, Entry, MissingError
from fusedcell import _core
from fusedcell._text import format_ratio, three_digits
from fusedcell._timing import Effort, Runner, measure, ratio, summarise
from fusedcell.errors import UnsupportedError

GROUPS = ("packages", "voice", "gtcrn", "keras_models", "series", "amplifiers")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "census.md"
TOLERANCE = 1e-5
EFFORT = Effort(seconds=0.3, min_rounds=9)
FOLDER = re.compile(r"^\S*/[^\s:]+:(\d+ in \w+,)? ")
LIBRARIES = ("torch", "keras", "onnxruntime", "numpy")

INTRODUCTION = """\
# Published models, whole

This page is for readers who ask whether a published model, or one like theirs, runs whole. `make census` wrote it, on
one thread of an {machine}, with {versions}.

The table lists models that run whole. The column "door" says which function reads each: `fc.Model.from_torch`,
`from_keras`, `from_onnx` or `from_json`. Models that come in packages have their own weights. The others are written
after their public definitions in `bench/census_models`, in their own size or smaller, with random weights.

- hop and delay: the rows in for one row out, and the rows before the first one; "whole" is a model that needs its whole
  sequence
- apart: the largest difference from the answer of the model's own framework, in parts of its largest answer, over whole
  sequences or many steps in float32; more than {tolerance:g} would fail the command
- a call, us: one step of a stream with its state, or one sequence of so many rows, and its median time in fusedcell in
  microseconds
- ratio: the framework's time divided by fusedcell's, measured in turns, with the 10th and 90th percentile; above 1
  fusedcell is faster

"""
RUN = ("model", "door", "from", "nodes", "hop", "delay", "KiB", "apart", "a call", "us", "beside", "ratio")
REFUSED_TEXT = """\

The next table lists models that do not run whole, with the error that names the reason and its place in the source.
Their recurrent layers, and parts of them, still run: [Bring your model](models.md).

"""
REFUSED = ("model", "door", "from", "why not")


@dataclass(frozen=True)
class Row:
    """Of the page. `apart` is None where the model does not run."""

    cells: tuple[str, ...]
    apart: float | None = None


def entries() -> list[Entry]:
    """All models of the census."""
    return [entry for group in GROUPS for entry in import_module(f"census_models.{group}").MODELS]


def flat(answers: Any) -> list[np.ndarray]:
    if isinstance(answers, tuple | list):
        return [array for part in answers for array in flat(part)]
    return [np.asarray(answers, np.float64)]


def rows_of(model: fc.Model, arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """What a stream takes at a step of the arrays that one call takes: the newest row, of the one sequence."""
    found = []
    for name, array in zip(model.inputs, arrays, strict=True):
        axes = model.axes[name]
        if array.ndim == len(axes):
            array = array[tuple({"batch": 0, "time": -1}.get(axis, slice(None)) for axis in axes)]
        found.append(np.array(array))
    return tuple(found)


def distance(ours: Any, theirs: Any) -> float:
    """Of answers, in parts of the largest of theirs."""
    apart = 0.0
    for got, expected in zip(flat(ours), flat(theirs), strict=True):
        if got.size != expected.size:
            raise SystemExit(f"an answer of shape {got.shape} for one of {expected.shape}")
        scale = max(float(np.abs(expected).max()), np.finfo(np.float32).tiny)
        apart = max(apart, float(np.abs(got.ravel() - expected.ravel()).max()) / scale)
    return apart if np.isfinite(apart) else np.inf


def in_batch(model: fc.Model, arrays: Sequence[np.ndarray], size: int) -> tuple[np.ndarray, ...]:
    """Each sequence so many times."""
    where = [model.axes[name].index("batch") if "batch" in model.axes[name] else None for name in model.inputs]
    lengths = [0] * (len(arrays) - len(where))
    axes = [*where, *lengths]
    return tuple(
        array if axis is None else np.repeat(array, size, axis) for array, axis in zip(arrays, axes, strict=True)
    )


def compare(model: fc.Model, case: Case, batch: int = 1) -> tuple[float, str, dict[str, Runner]]:
    """How far the answers are apart, what a call is, and both, to be timed."""
    if case.start is None:
        calls = [x := in_batch(model, case.calls[0], batch)]
        ours = case.ours(model)
        rows = max(steps(model, name, array) for name, array in zip(model.inputs, x, strict=False))
        runners = {"ours": Runner(ours, calls, flat), "theirs": Runner(case.theirs, calls, flat)}
        return distance(ours(*x), case.theirs(*x)), f"{rows:,} rows" if rows else "one row", runners
    stream, step = model.stream(), case.start()
    for _ in range(case.overlap):
        stream.step(*(np.zeros_like(row) for row in rows_of(model, case.calls[0])))
    apart = 0.0
    taken = [rows_of(model, call) for call in case.calls]
    for ours, call in zip(taken, case.calls, strict=True):
        apart = max(apart, distance(stream.step(*ours), step(*call)))
    return apart, "step", {"ours": Runner(stream.step, taken, flat), "theirs": Runner(step, case.calls, flat)}


def steps(model: fc.Model, name: str, array: np.ndarray) -> int:
    axes = model.axes[name]
    return array.shape[axes.index("time") - len(axes) + array.ndim] if "time" in axes else 0


def row_of(entry: Entry, batch: int = 1) -> Row:
    head = (entry.name, entry.door, entry.source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            case = entry.make()
            model = case.read()
    except (MissingError, ImportError) as error:
        return Row((*head, str(error) if isinstance(error, MissingError) else f"package not installed: {error.name}"))
    except UnsupportedError as error:
        return Row((*head, shortened(str(error))))
    apart, what, runners = compare(model, case, batch)
    times = measure(runners, EFFORT) if entry.is_timed else {}
    shape = (str(model.hop), str(model.delay)) if model.streamable else ("whole", "")
    cells = (str(len(model.nodes)), *shape, f"{model.nbytes / 1024:,.0f}", f"{apart:.1e}", what)
    micros = f"{float(three_digits(summarise(times['ours']).p50 / 1e3)):,g}" if times else ""
    quotient = format_ratio(ratio(times["theirs"], times["ours"])) if times else ""
    return Row((*head, *cells, micros, entry.framework, quotient), apart)


def shortened(refusal: str) -> str:
    """Without the folder, without what would be supported, and as a table can have it."""
    text = refusal.split("; supported:")[0].split("; a module has more")[0]
    return FOLDER.sub("", text.replace("\n", " ")).replace("|", "\\|")


def table(headings: Sequence[str], rows: Sequence[Row]) -> str:
    lines = [" | ".join(headings), "|".join("--" for _ in headings), *(" | ".join(row.cells) for row in rows)]
    return "\n".join(f"| {line} |" if "--|" not in line else f"|{line}|" for line in lines) + "\n"


def page(rows: Sequence[Row]) -> str:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    machine = ", ".join(kind["name"] for kind in _core.core_kinds())
    text = INTRODUCTION.format(machine=machine, versions=versions, tolerance=TOLERANCE)
    text += table(RUN, [row for row in rows if row.apart is not None])
    return text + REFUSED_TEXT + table(REFUSED, [row for row in rows if row.apart is None])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="parts of names; by default all models")
    parser.add_argument("--batch", type=int, default=1, help="sequences of a call; by default 1")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    rows = []
    for entry in entries():
        if not options.names or any(name in entry.name for name in options.names):
            rows.append(row_of(entry, options.batch))
            print(" | ".join(rows[-1].cells), flush=True)
    if not options.names and options.batch == 1:
        PAGE.write_text(page(rows), encoding="utf-8")
        print(PAGE)
    far = [row for row in rows if row.apart is not None and row.apart > TOLERANCE]
    for row in far:
        print(f"FAILED: {row.cells[0]} is {row.apart:.1e} from its framework", file=sys.stderr)
    return 1 if far else 0


if __name__ == "__main__":
    sys.exit(main())
