"""A whole model as a table: what each node reads, makes and costs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .. import _model_format
from .._text import aligned
from ..errors import UnsupportedError
from ..layers import Layer
from ..model import Model
from ..nodes import Depthwise, Embedding, Inside, Max, Mean, Sum
from ..nodes.base import MatrixNode

_ONCE = (Mean, Max, Sum)  # which answer when the sequence has ended


def model_rows(model: Model) -> list[tuple[str, str]]:
    """Names and values of what holds for all of it."""
    products = _products(model)
    per_step = sum(count for count, once in products.values() if not once)
    whole = sum(count for count, once in products.values() if once)
    return [
        ("whole model", f"{len(model._core.nodes)} nodes, batch_first={model.batch_first}"),
        ("inputs", _ports(model, model.inputs)),
        ("outputs", _ports(model, model.outputs)),
        ("stream", _stream(model)),
        ("multiplications", f"{per_step:,.6g} a step" + (f", and {whole:,.6g} at the end" if whole else "")),
        ("bytes", f"{model.nbytes:,}"),
    ]


def node_table(model: Model) -> list[str]:
    """Lines, the headings first; a node that costs nothing is part of who reads it, and so are some tables."""
    products = _products(model)
    run = {name: (str(size), f"{nbytes:,}") for name, size, nbytes in model._core.nodes}
    rows = []
    readers = {source: name for name, _, source in _nodes(model)}
    for name, node, source in _nodes(model):
        sources = source if isinstance(source, str) else ", ".join(source)
        count, once = products[name]
        number = f"{count:,.6g}{' once' if once else ''}" if count else ""
        features, nbytes = run.get(name, ("", f"in {readers.get(name)}" if isinstance(node, Embedding) else ""))
        rows.append([name, type(node).__name__, sources, features, number, nbytes])
    headings = ("node", "kind", "of", "features", "multiplications", "bytes")
    return aligned(headings, rows, ("node", "kind", "of")).splitlines()


def _nodes(model: Model) -> list[tuple[str, Any, Any]]:
    """Those of its file, where a node with a softmax is two."""
    return list(_model_format.from_bytes(model._to_bytes(), model.isa)[0])


def _products(model: Model) -> dict[str, tuple[float, bool]]:
    """Multiplications by weights for each row of the input, on average, or those of the one row of a sequence."""
    rates = dict.fromkeys(model.inputs, 1.0)
    once = dict.fromkeys(model.inputs, False)
    sizes = {name: size for name, size, _ in model._core.nodes}
    found = {}
    for name, node, source in _nodes(model):
        sources = [source] if isinstance(source, str) else list(source)
        rate = min(rates[each] for each in sources)
        once[name] = isinstance(node, _ONCE) or any(once[each] for each in sources)
        inside = getattr(node, "positions", None)
        windows = rate if inside else rate / getattr(node, "stride", 1)
        rates[name] = windows * getattr(node, "repeat", 1)
        count = 0.0
        if isinstance(node, Layer | Inside):
            cells = (node if isinstance(node, Layer) else node.layer).stack.arrays()
            count = sum(array.size for cell in cells for array in cell.values() if array.ndim == 2) * (inside or 1)
        elif isinstance(node, MatrixNode | Depthwise) and not isinstance(node, Embedding):
            weight: Any = getattr(node, "weight")  # noqa: B009 - which each of these classes has
            features = weight.shape[1] if isinstance(node, Depthwise) else len(weight)
            count = weight.size * (sizes[name] // features if inside else 1)
        found[name] = (count if once[name] else count * windows, once[name])
    return found


def _ports(model: Model, names: Iterable[str]) -> str:
    tokens, axes = model.tokens, model._core.axes
    return ", ".join(
        f"{name} ({f'{tokens[name]} tokens' if name in tokens else model.sizes[name]})"
        + (f" as ({', '.join(map(str, axes[name]))})" if name in axes else "")
        for name in names
    )


def _stream(model: Model) -> str:
    if not model.streamable:
        try:
            model.stream()
        except UnsupportedError as why:
            return f"no: {str(why).removeprefix('stream: ')}"
    hop = model.hop
    rows = f"{hop} rows in for one out" if isinstance(hop, int) else f"{hop[0]} rows in for {hop[1]} out"
    return f"hop {hop} ({rows}), delay {model.delay}" if hop != 1 else f"hop 1, delay {model.delay}"
