"""The arguments of a call in a serialized model: tensors, which other calls make, and constants.

Formats, of `inbound_nodes` in a functional model: keras/src/ops/node.py and saving/serialization_lib.py of Keras 3.15,
and keras/engine/node.py of Keras 2.15.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import UnsupportedError

DEEPEST = 4  # the states of StackedRNNCells in a list of lists, and one more

NO_ARRAY = object()
"""What is written as an array and is none of numbers."""


@dataclass(frozen=True)
class Ref:
    """A tensor that a call of a layer makes: which call, and which of its results."""

    layer: str
    call: int
    index: int


def arguments(node: Any, where: str) -> tuple[list[Any], dict[str, Any]]:
    """A call's arguments by position and by name: tensors as `Ref`, arrays as such, in lists as they lie in the file.

    Raises ValueError for what is no call.
    """
    if not isinstance(node, Mapping) or "args" not in node:
        return _of_keras_2(node, where)
    args, kwargs = node["args"], node.get("kwargs", {})
    if not isinstance(args, list) or not isinstance(kwargs, Mapping):
        raise _no_call(node, where)
    return [_parsed(value, where) for value in args], {name: _parsed(value, where) for name, value in kwargs.items()}


def leaves(value: Any) -> Iterator[Any]:
    """What lists and mappings hold, in order."""
    if isinstance(value, (list, Mapping)):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from leaves(part)
    else:
        yield value


def mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """The same lists and mappings of other values."""
    if isinstance(value, list):
        return [mapped(part, change) for part in value]
    if isinstance(value, Mapping):
        return {name: mapped(part, change) for name, part in value.items()}
    return change(value)


def is_history(value: Any) -> bool:
    """Whether it is a tensor as Keras writes it: ``[layer, call, index]``, and perhaps options."""
    return (
        isinstance(value, list)
        and len(value) in (3, 4)
        and isinstance(value[0], str)
        and all(isinstance(part, int) and not isinstance(part, bool) for part in value[1:3])
    )


def _parsed(value: Any, where: str, depth: int = 0) -> Any:
    """A value of Keras 3."""
    if depth > DEEPEST:
        raise _too_deep(where)
    if isinstance(value, list):
        return [_parsed(part, where, depth + 1) for part in value]
    if not isinstance(value, Mapping):
        return value
    if "class_name" not in value:  # inputs by name
        return {name: _parsed(part, where, depth + 1) for name, part in value.items()}
    kind = value["class_name"]
    config = value["config"] if isinstance(value.get("config"), Mapping) else {}
    if kind == "__keras_tensor__":
        if not is_history(config.get("keras_history")):
            raise _no_call(value, where)
        return Ref(*config["keras_history"][:3])
    if kind in ("__numpy__", "__tensor__"):
        return _array(config.get("value"))
    if kind == "__slice__":
        ends = [config.get(name) for name in ("start", "stop", "step")]
        if all(end is None or (isinstance(end, int) and abs(end) < 1 << 31) for end in ends):
            return slice(*ends)
    return Ellipsis if kind == "__ellipsis__" else value


def _of_keras_2(node: Any, where: str) -> tuple[list[Any], dict[str, Any]]:
    """Of ``[[layer, call, index, kwargs], ...]``, an item for each input, which are one argument together."""
    tensors = list(_tensors(node, where))
    given: Any = next((tensor[3] for tensor in tensors if len(tensor) > 3), {})
    if not isinstance(given, Mapping):
        raise _no_call(given, where)
    values = []
    for tensor in tensors:
        if tensor[0] != "_CONSTANT_VALUE" and not is_history(tensor):
            raise _no_call(tensor, where)
        values.append(_array(tensor[2]) if tensor[0] == "_CONSTANT_VALUE" else Ref(*tensor[:3]))
    kwargs = {name: _of_lists(value, where) for name, value in given.items()}
    return [values if len(values) > 1 else values[0]] if values else [], kwargs


def _tensors(node: Any, where: str, depth: int = 0) -> Iterator[list[Any]]:
    """The items of a call, which may be one, or nested as the inputs are."""
    if isinstance(node, list) and len(node) >= 3 and isinstance(node[0], str):
        yield node
    elif isinstance(node, (list, Mapping)) and depth <= DEEPEST:
        for part in node.values() if isinstance(node, Mapping) else node:
            yield from _tensors(part, where, depth + 1)
    else:
        raise _no_call(node, where)


def _of_lists(value: Any, where: str, depth: int = 0) -> Any:
    """A value of Keras 2, which writes a tensor as ``[layer, call, index]`` and an array as lists of numbers."""
    if is_history(value):
        return Ref(*value[:3])
    if not isinstance(value, list):
        return value
    if depth > DEEPEST:
        raise _too_deep(where)
    if value and all(isinstance(row, list) and row and isinstance(row[0], (int, float)) for row in value):
        return _array(value)
    return [_of_lists(part, where, depth + 1) for part in value]


def _array(value: Any) -> Any:
    try:
        array = np.array(value)
    except ValueError:  # of lists of other lengths
        return NO_ARRAY
    return array.astype(np.float64) if array.dtype.kind in "biuf" else NO_ARRAY


def _no_call(got: Any, where: str) -> ValueError:
    return ValueError(f"{where}: inbound_nodes: expected a call's arguments, got {got!r:.100}")


def _too_deep(where: str) -> UnsupportedError:
    return UnsupportedError(f"{where}: inbound_nodes: lists nested more than {DEEPEST} deep are not supported")
