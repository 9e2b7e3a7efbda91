"""`fusedcell bench model`: a step of a whole model and what each node has of it; a sequence beside ONNX Runtime."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from .._model_format import dtypes_of
from .._text import aligned, three_digits
from .._timing import FULL, QUICK, Runner, measure
from ..convert.model_files import read_model
from ..model import Model
from ..weights.file_kinds import ONNX, kind_of
from .answers import PEER_FLOAT32, PEER_INT8, make_checked
from .cases import RING
from .results import Result
from .tables import tables as short_tables
from .tiers import OURS

_MOST_CUTS = 48
_CUT = "to "  # and the name of the last node

Rows = list[tuple[Any, ...]]


def read(options: argparse.Namespace) -> Model:
    """The model that the command line names."""
    return read_model(Path(options.model), dict(options.state))


def dtype_of(model: Model) -> str:
    """The narrowest type of its weights."""
    found = dtypes_of(node for _, node, _ in model.nodes)
    return next((dtype for dtype in ("int8", "bfloat16", "float16") if dtype in found), "float32")


def onnxruntime_text() -> dict[str, str]:
    """What the head of the tables says of it."""
    try:
        return {"onnxruntime": metadata.version("onnxruntime")}
    except metadata.PackageNotFoundError:
        return {"onnxruntime": "not installed"}


def measure_model(options: argparse.Namespace) -> list[Result]:
    """Single steps, or sequences of a model that has no streams, of every cut; and the sequence beside others."""
    model = read(options)
    effort = QUICK if options.quick else FULL
    kind = "step" if model.streamable else "sequence"
    runners = {_CUT + names[-1]: _runner(cut, model, options.steps) for names, cut in _cuts(model)}
    *before, last = runners
    runners = {OURS: runners[last]} | {name: runners[name] for name in before}
    by_node = _result(options, model, kind, list(runners), measure(runners, effort))
    found = [replace(by_node, forms={OURS: last.removeprefix(_CUT)})]
    if not options.no_peers:
        session, x, failure = _session(options, model)
        expected = _first(model(*x)).astype(np.float64)
        tolerance = PEER_INT8 if dtype_of(model) == "int8" else PEER_FLOAT32
        makers: dict[str, tuple[Callable[[], Runner], Any]] = {
            OURS: (lambda: Runner(model, [x], _first), tolerance),
            "onnxruntime": (partial(_peer, session, failure, model, x), tolerance),
        }
        checked, failures = make_checked(makers, expected)
        rounds = measure(checked, effort) if checked else {}
        found.append(_result(options, model, "sequence", [OURS], rounds, ["onnxruntime"], failures, _steps(model, x)))
    return found


def _result(
    options: argparse.Namespace,
    model: Model,
    kind: Any,
    own: list[str],
    rounds: Mapping[str, Sequence[float]],
    others: Sequence[str] = (),
    failures: Mapping[str, str] | None = None,
    steps: int = 0,
) -> Result:
    return Result(
        kind,
        Path(options.model).name,
        0,
        1 if kind == "step" else steps or options.steps,
        1,
        model.isa,
        own,
        dict.fromkeys(own, dtype_of(model)) | dict.fromkeys(others, "float32"),
        rounds={name: [[ns / 1e3 for ns in values]] for name, values in rounds.items()},
        failures=dict(failures or {}),
    )


def _cuts(model: Model) -> list[tuple[list[str], Model]]:
    """Models of the first nodes that answer with all that nobody of them reads, and the names of what each has more."""
    nodes = list(model.nodes)
    ends = [part[-1] + 1 for part in np.array_split(np.arange(len(nodes)), min(_MOST_CUTS, len(nodes)))]
    found = []
    for begin, end in zip([0, *ends], ends, strict=False):
        first = nodes[:end]
        reads = {name for _, _, source in first for name in ([source] if isinstance(source, str) else source)}
        outputs = [name for name, *_ in first if name not in reads] if end < len(nodes) else list(model.outputs)
        inputs = {name: model.tokens.get(name, model.sizes[name]) for name in model.inputs if name in reads}
        found.append(([name for name, *_ in nodes[begin:end]], Model(first, inputs, outputs, isa=model.isa)))
    return found


def _runner(cut: Model, model: Model, steps: int) -> Runner:
    """A hop of the whole model's rows a call, or a sequence if it has no streams."""
    rng = np.random.default_rng(0)
    rows, read = steps, lambda answer: np.zeros(0, np.float32)
    if model.streamable:
        hop = model.hop
        rows = hop if isinstance(hop, int) else hop[0]

    def block(name: str) -> Any:
        if name in cut.tokens:
            return rng.integers(0, cut.tokens[name], rows)
        return rng.standard_normal((rows, cut.sizes[name])).astype(np.float32)

    blocks = [tuple(block(name) for name in cut.inputs) for _ in range(RING if model.streamable else 1)]
    if not model.streamable:
        return Runner(cut, blocks, read)
    stream = cut.stream()
    if rows == 1:
        return Runner(stream.step, [tuple(part[0] for part in each) for each in blocks], read)
    return Runner(stream.process, blocks, read)


def _session(options: argparse.Namespace, model: Model) -> tuple[Any, tuple[Any, ...], str]:
    """ONNX Runtime's session, x in the shape that it takes, and why there is no session if so."""
    session, failure = None, ""
    try:
        from .peers.onnxruntime_peer import OnnxRuntime

        path = Path(options.model)
        source = path.read_bytes() if kind_of(path) == ONNX else model.to_onnx().SerializeToString()
        session = OnnxRuntime()._session(source)
    except Exception as error:  # whatever another library may raise, or a model that does not become one of ONNX
        failure = f"{type(error).__name__}: {' '.join(str(error).split())}"
    taken = {item.name: item.shape for item in session.get_inputs()} if session is not None else {}
    rng = np.random.default_rng(1)
    x: list[Any] = []
    for name in model.inputs:
        shape = _shape(model, name, options.steps)
        fixed = taken.get(name, shape)
        if len(fixed) == len(shape):  # those that its file fixes
            shape = [size if isinstance(size, int) else own for size, own in zip(fixed, shape, strict=True)]
        tokens = model.tokens.get(name)
        x.append(rng.integers(0, tokens, shape) if tokens else rng.standard_normal(shape).astype(np.float32))
    return session, tuple(x), failure


def _shape(model: Model, name: str, steps: int) -> list[int]:
    """Of one sequence in a batch."""
    sizes = {"batch": 1, "time": steps}
    return [sizes[axis] if isinstance(axis, str) else axis for axis in model.axes[name]]


def _steps(model: Model, x: Sequence[Any]) -> int:
    axes = model.axes[model.inputs[0]]
    return int(x[0].shape[axes.index("time")]) if "time" in axes else 1


def _peer(session: Any, failure: str, model: Model, x: tuple[Any, ...]) -> Runner:
    if session is None:
        raise RuntimeError(failure)
    feed = dict(zip(model.inputs, x, strict=True))
    for item in session.get_inputs():
        if item.name not in feed:  # a state
            feed[item.name] = np.zeros([size if isinstance(size, int) else 1 for size in item.shape], np.float32)
    outputs = {item.name for item in session.get_outputs()}
    wanted = [model.outputs[0]] if model.outputs[0] in outputs else [session.get_outputs()[0].name]
    return Runner(session.run, [(wanted, feed)], lambda answer: np.array(answer[0], np.float32))


def _first(answer: Any) -> Any:
    return answer[0] if isinstance(answer, tuple) else answer


def call_text(result: Result) -> str:
    """What one call does."""
    return "one step" if result.kind == "step" else f"a sequence of {result.steps} steps"


def tables(results: Sequence[Result], *, details: bool = False) -> list[str]:
    """The sequence beside the other library, and the nodes and their shares."""
    by_node, *others = results
    time = by_node.time(by_node.ours)
    rows = [[name, three_digits(us), f"{100 * us / time.p50:.1f}" if time else "-"] for name, us in shares(by_node)]
    total = [["all", three_digits(time.p50), "100.0"]] if time else []
    text = [
        f"{by_node.cell}, {call_text(by_node)}, {by_node.dtype}: us, median of rounds, fusedcell on {by_node.tier}.\n"
        "The time of a node is that of the model cut after it, less that of the model cut before it.\nThe first node "
        "has what a call costs, too. A node that spares the copy of an answer is below zero.",
        aligned(("node", "us", "%"), [*rows, *total], ("node",)),
    ]
    return [*short_tables(others, details=details), "\n".join(text)]


def shares(result: Result) -> list[tuple[str, float]]:
    """Microseconds of each node, or of nodes up to this one, in the order of computation."""
    cuts = [*result.own[1:], result.ours]
    repeats = []
    for rounds in zip(*(result.rounds[name] for name in cuts), strict=True):
        if all(rounds):
            repeats.append(np.median(np.diff(np.array([[0.0] * len(rounds[0]), *rounds]), axis=0), axis=1))
    names = [*(name.removeprefix(_CUT) for name in cuts[:-1]), result.forms[result.ours]]
    return [(name, float(us)) for name, us in zip(names, np.median(repeats, axis=0), strict=True)]
