"""How whole models are written to files, and what of a file their nodes are; csrc/load reads them to run them.

docs/file_format.md has the names.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from operator import index
from typing import Any, TypeAlias, overload

import numpy as np

from . import _file_format
from ._dominance import of_node
from .layers import Layer, layer_from_bytes
from .nodes import Add, Chain, Embedding, Inside, Multiply, Node, node_of
from .nodes.base import MatrixNode, Tensors

Source: TypeAlias = "str | Sequence[str]"
NodeList: TypeAlias = Sequence[tuple[str, Node | Layer, Source]]
# A node of a file, with the names of all its sources.
_Step: TypeAlias = tuple[str, "Node | Layer", tuple[str, ...]]

VERSION = 4
_TYPES = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16, "I8": np.int8}


def to_bytes(
    nodes: NodeList,
    inputs: Mapping[str, int] | Sequence[str] | str | None = None,
    outputs: Source | None = None,
    batch_first: bool = False,
    axes: Mapping[str, Sequence[str | int]] | None = None,
) -> bytes:
    """The file of a model, whose nodes are (name, node, source or tuple of sources) in order.

    `inputs` are the names of the model's inputs, with or without their numbers of features, or of tokens where
    embeddings read them; None takes the sources that are no nodes, in order. `outputs` is one or several nodes, None
    the last. `axes` are those of inputs and outputs that have other ones than usual.

    Raises TypeError or ValueError that names the node for what is no list of nodes; its values are for who reads it.
    """
    steps = _steps(nodes)
    names = {name for name, *_ in steps}
    if isinstance(inputs, str):
        inputs = [inputs]
    given = dict(inputs) if isinstance(inputs, Mapping) else {}
    outside = dict.fromkeys(source for _, _, sources in steps for source in sources if source not in names)
    listed = list(outside if inputs is None else inputs)
    for name in listed:
        if not isinstance(name, str):
            raise TypeError(f"inputs: expected names, got {name!r}")
    unknown = [source for source in outside if source not in listed]
    if unknown:
        reader = next(name for name, _, sources in steps if unknown[0] in sources)
        raise ValueError(f"{reader}: source {unknown[0]!r} is neither an input nor a node; inputs: {listed}")
    tokens = {
        source: min(len(node.table) for _, node, sources in steps if isinstance(node, Embedding) and source in sources)
        for _, node, sources in steps
        if isinstance(node, Embedding)
        for source in sources
        if source in listed
    }
    known = {name: size for name, size in given.items() if name not in tokens} | dict.fromkeys(tokens, 1)
    sizes = _sizes(steps, listed, known)
    described: list[dict[str, Any]] = []
    tensors: Tensors = {}
    for name, node, sources in steps:
        options: dict[str, Any]
        if isinstance(node, Layer):
            layer, arrays = node._to_tensors()
            options = {"type": "layer", "layer": layer}
        else:
            sized = node._sized(sum(sizes[source] or 0 for source in sources))
            options, arrays = sized._to_file()
            options["type"] = sized.type
        described.append({"name": name, "inputs": sources, **options})
        tensors |= {f"{name}.{label}": array for label, array in arrays.items()}
    chosen = [steps[-1][0]] if outputs is None else [outputs] if isinstance(outputs, str) else list(outputs)
    return _file_format.to_bytes(
        {
            "format_version": VERSION,
            "class": "Model",
            "batch_first": bool(batch_first),
            "inputs": [
                {"name": name, "tokens": given.get(name, tokens[name])}
                if name in tokens
                else {"name": name, "size": sizes[name]}
                for name in listed
            ],
            "outputs": chosen,
            "nodes": described,
            **({"axes": _axes(axes)} if axes else {}),
        },
        tensors,
    )


def _axes(axes: Mapping[str, Sequence[str | int]]) -> dict[str, list[str | int]]:
    if not isinstance(axes, Mapping):
        raise TypeError(f"axes: expected a mapping from names to tuples, got {type(axes).__name__}")
    found: dict[str, list[str | int]] = {}
    for name, given in axes.items():
        try:
            if not isinstance(given, tuple | list):
                raise TypeError
            found[name] = [axis if isinstance(axis, str) else index(axis) for axis in given]
        except TypeError:
            expected = "a tuple of 'batch', 'time' and numbers of features"
            raise TypeError(f"axes: {name}: expected {expected}, got {given!r}") from None
    return found


def from_bytes(
    data: bytes, isa: str = ""
) -> tuple[list[tuple[str, Node | Layer, str | tuple[str, ...]]], dict[str, int], list[str], bool]:
    """What `to_bytes` took, of bytes that `_core.Model` has taken: nodes, inputs with sizes, outputs, batch_first."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    model = json.loads(header.pop("__metadata__")["fusedcell"])
    tensors: dict[str, Tensors] = {}
    for full, entry in header.items():
        node_name, _, name = full.rpartition(".")
        begin, _ = entry["data_offsets"]
        count = int(np.prod(entry["shape"], dtype=np.int64))
        array = np.frombuffer(data, _TYPES[entry["dtype"]], count, end + begin).reshape(entry["shape"])
        tensors.setdefault(node_name, {})[name] = array
    nodes: list[tuple[str, Node | Layer, str | tuple[str, ...]]] = []
    for item in model["nodes"]:
        name, arrays, sources = item["name"], tensors.get(item["name"], {}), item["inputs"]
        if item["type"] == "layer":
            node = layer_from_bytes(_file_format.to_bytes(item["layer"], arrays), isa)
            node = Inside(node, item["positions"]) if "positions" in item else node
        else:
            node = node_of(item["type"], item, arrays)
        nodes.append((name, node, sources[0] if len(sources) == 1 else tuple(sources)))
    sizes = {item["name"]: item.get("size", item.get("tokens")) for item in model["inputs"]}
    return nodes, sizes, model["outputs"], model["batch_first"]


def astype(
    nodes: NodeList, dtype: str | Mapping[str, Any], *, keep: Iterable[str] = ()
) -> list[tuple[str, Node | Layer, Source]]:
    """The same nodes with the matrices of layers, Dense, Window and Embedding rounded to other types.

    `dtype` is one for all, or a mapping from names of nodes to what their `astype` takes; `keep` names those that stay.
    A name stands for the nodes whose names go on with a dot after it, too.

    Raises ValueError for a name that is no node with a matrix, or that both say; naming the node, what its `astype`
    raises.
    """
    if not isinstance(keep, Iterable):
        raise TypeError(f"keep: expected names of nodes, got {type(keep).__name__}")
    keep = (keep,) if isinstance(keep, str) else tuple(keep)
    names = [name for name, *_ in nodes]
    weighty = [name for name, node, _ in nodes if dtypes_of([node])]
    changes = dict(dtype) if isinstance(dtype, Mapping) else dict.fromkeys(names, dtype)
    for label, given in (("keep", keep), ("dtype", changes)):
        for name in given:
            if not any(_is_of(node, name) for node in names):
                raise ValueError(f"{label}: {name!r} is not a node; nodes: {', '.join(names)}")
            if (label == "keep" or isinstance(dtype, Mapping)) and not any(_is_of(node, name) for node in weighty):
                raise ValueError(f"{label}: {name!r} has no matrix; nodes that have one: {', '.join(weighty)}")
    for name in changes if isinstance(dtype, Mapping) else ():
        if any(_is_of(name, kept) for kept in keep):
            raise ValueError(f"keep: expected nodes that dtype does not name, got {name!r} in both")
    result: list[tuple[str, Node | Layer, Source]] = []
    for name, node, source in nodes:
        if not any(_is_of(name, kept) for kept in keep):
            named = max((change for change in changes if _is_of(name, change)), key=len, default=None)
            node = node if named is None else _astype(node, changes[named], name)
        result.append((name, node, source))
    return result


def dtypes_of(nodes: Iterable[Node | Layer]) -> set[str]:
    """The types of weights in nodes and layers."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, Chain):
            found |= dtypes_of(node.nodes)
        elif isinstance(node, Inside):
            found |= dtypes_of([node.layer])
        elif isinstance(node, Layer):
            found |= set(node.dtypes.values())
        elif isinstance(node, MatrixNode):
            found.add(node.dtype)
    return found


def _is_of(node: str, name: str) -> bool:
    return node == name or node.startswith(name + ".")


@overload
def _astype(node: Node, dtype: Any, name: str) -> Node: ...
@overload
def _astype(node: Layer, dtype: Any, name: str) -> Layer: ...
def _astype(node: Node | Layer, dtype: Any, name: str) -> Node | Layer:
    if isinstance(node, Chain):
        return Chain([_astype(item, dtype, name) for item in node.nodes])
    if isinstance(node, Inside):
        return Inside(_astype(node.layer, dtype, name), node.positions)
    if not isinstance(node, MatrixNode | Layer):
        return node
    try:
        with of_node(name):
            return node.astype(dtype)
    except ValueError as error:
        raise type(error)(f"{name}: {error}") from error


def _steps(nodes: NodeList) -> list[_Step]:
    """The nodes of the file, in which some of these are several."""
    steps: list[_Step] = []
    seen: set[str] = set()
    for place, item in enumerate(nodes):
        if not isinstance(item, tuple | list) or len(item) != 3:
            raise TypeError(f"nodes[{place}]: expected (name, node, source), got {item!r}")
        name, node, source = item
        if not isinstance(name, str):
            raise TypeError(f"nodes[{place}]: expected a name, got {name!r}")
        if not isinstance(node, Node | Layer):
            raise TypeError(f"{name}: expected a node or a layer, got {type(node).__name__}")
        sources = (source,) if isinstance(source, str) else tuple(source) if isinstance(source, tuple | list) else ()
        if not sources or not all(isinstance(part, str) for part in sources):
            raise TypeError(f"{name}: expected the name of its source or a tuple of them, got {source!r}")
        expanded = [("", node)] if isinstance(node, Layer) else node._expanded()
        for suffix, part in expanded:
            if name + suffix in seen:
                raise ValueError(f"{name + suffix}: two nodes have that name")
            seen.add(name + suffix)
            steps.append((name + suffix, part, sources))
            sources = (name + suffix,)
    if not steps:
        raise ValueError("nodes: expected at least one node")
    places = {name: place for place, (name, *_) in enumerate(steps)}
    for place, (name, _, sources) in enumerate(steps):
        for late in sources:
            if places.get(late, -1) >= place:
                raise ValueError(f"{name}: its source {late!r} has to come before it")
    return steps


def _sizes(steps: Sequence[_Step], inputs: Sequence[str], known: Mapping[str, int]) -> dict[str, int | None]:
    """Features of each input and node, as far as they say so themselves or follow from each other.

    Raises ValueError for an input of which nothing does.
    """
    sizes: dict[str, int | None] = dict.fromkeys([*inputs, *(name for name, *_ in steps)])
    sizes.update(known)
    before = -1
    while before != (before := sum(size is not None for size in sizes.values())):
        for name, node, sources in [*steps, *reversed(steps)]:
            _follow(name, node, sources, sizes)
    for name in inputs:
        if sizes[name] is None:
            raise ValueError(f"inputs: the number of features of {name!r} does not follow; give it, {{{name!r}: size}}")
    return sizes


def _follow(name: str, node: Node | Layer, sources: Sequence[str], sizes: dict[str, int | None]) -> None:
    if isinstance(node, Add | Multiply):
        alike = [name, *sources]
        found = next((sizes[part] for part in alike if sizes[part] is not None), None)
        sizes.update({part: found for part in alike if sizes[part] is None})
        return
    if isinstance(node, Layer):
        size: int | None = node.input_size
        sizes[name] = node.output_size
    else:
        size = node._input_size()
        if size is None and node._same_size():
            size = sizes[name]
    unknown = [part for part in sources if sizes[part] is None]
    rest = sum(sizes[part] or 0 for part in sources)
    if size is not None and len(unknown) == 1 and size > rest:
        sizes[unknown[0]] = size - rest
        rest, unknown = size, []
    if isinstance(node, Node) and not unknown:
        sizes[name] = node._output_size(rest)
