"""What a model's calls of a layer give it beside x: constants are the layer's own from then on, or refused by name.

Sequential models call their layers with x alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..._base import FloatArray
from ...errors import UnsupportedError
from ...weights.floats import to_float32
from .arguments import Ref, arguments, leaves, mapped
from .config import RECURRENT, LayerConfig

Item: TypeAlias = Mapping[str, Any]
Call: TypeAlias = dict[str, Any]
"""A call's arguments but x, as they lie in the file; of those that are tensors it says _COMPUTED alone."""

_COMPUTED = object()  # by another layer of the model, or an input of it
_INPUTS = "inputs"
_RECURRENT_ARGUMENTS = ("initial_state", "mask", "training")
_MODEL_ARGUMENTS = ("training", "mask")  # of models and of TimeDistributed


@dataclass(frozen=True)
class Given:
    """What the calls of a layer in its model give it beside x.

    - initial_state: constants as a `RecurrentSpec` has them, (cells, 1 or B, H); one row where rows are alike
    - mask: constant bools, (1 or B, T), likewise
    - computed: which of "initial_state" and "mask" other layers may compute, which is then the caller's to give
    """

    initial_state: tuple[FloatArray, ...] | None = None
    mask: npt.NDArray[np.bool_] | None = None
    computed: tuple[str, ...] = ()


def read_calls(item: Item, inside: Sequence[Item], layer: LayerConfig, *, masked: bool) -> Given:
    """What the calls of a serialized layer say, and those of the models and wrappers that it is inside of.

    `masked` says that a layer before it makes masks, which need not show in its calls.

    Raises UnsupportedError naming the argument that cannot be honoured, ValueError for what is none.
    """
    where = layer.where
    calls = list(_calls(item, where))
    outer = [(_name(each), call) for each in inside for call in _calls(each, where)]
    for call in calls:
        for name, value in call.items():
            if name not in (_INPUTS, *_RECURRENT_ARGUMENTS) and value is not None:
                raise UnsupportedError(
                    f"{where}: the model calls it with {str(name)[:100]!r}, which is not supported; supported: "
                    + ", ".join(_RECURRENT_ARGUMENTS)
                )
    check_training(item, [*calls, *(call for _, call in outer)], where)
    computed = set()
    for name, call in outer:
        masks = [leaf for leaf in leaves(call.get("mask")) if leaf is not None]
        if masks:
            computed.add("mask")
        if any(leaf is not _COMPUTED for leaf in masks):
            raise UnsupportedError(
                f"{where}: the model calls {name!r}, which it is in, with a constant mask; supported: one in the "
                "call of the layer itself"
            )
    states = _same([_constants(call, "initial_state", where) for call in calls], "initial_state", where)
    mask = _same([_constants(call, "mask", where) for call in calls], "mask", where)
    computed |= {name for name, value in (("initial_state", states), ("mask", mask)) if value is _COMPUTED}
    if masked and mask is None:
        computed.add("mask")
    for name, call in outer:
        if computed and _has_constants(call.get(_INPUTS)):
            raise UnsupportedError(
                f"{where}: the model calls {name!r}, which it is in, with constants among its inputs, and its "
                f"{', '.join(sorted(computed))} may be made of them; supported: constants in the layer's own call"
            )
    return Given(
        initial_state=arranged(states, layer) if isinstance(states, list) else None,
        mask=_mask(mask, where) if isinstance(mask, list) else None,
        computed=tuple(sorted(computed)),
    )


def _name(item: Item) -> str:
    config = item.get("config")
    return str(config.get("name") if isinstance(config, Mapping) else item["class_name"])[:100]


def _calls(item: Item, where: str) -> Iterator[Call]:
    """Each call of a serialized layer, model or wrapper."""
    nodes = item.get("inbound_nodes") or []
    if not isinstance(nodes, list):
        raise ValueError(f"{where}: inbound_nodes: expected a list of calls, got {type(nodes).__name__}")
    names = _RECURRENT_ARGUMENTS if item["class_name"] in RECURRENT else _MODEL_ARGUMENTS
    for node in nodes:
        args, kwargs = arguments(node, where)
        if len(args) > 1 + len(names):
            raise ValueError(f"{where}: inbound_nodes: expected a call's arguments, got {node!r:.100}")
        call = {_INPUTS: args[0] if args else None, **dict(zip(names, args[1:], strict=False)), **kwargs}
        inputs, is_of_keras_2 = call[_INPUTS], not (isinstance(node, Mapping) and "args" in node)
        if is_of_keras_2 and names is _RECURRENT_ARGUMENTS and isinstance(inputs, list):
            call |= {_INPUTS: inputs[:1], "initial_state": inputs[1:]}
        yield {name: mapped(value, _simplified) for name, value in call.items()}


def _simplified(value: Any) -> Any:
    return _COMPUTED if isinstance(value, Ref) else value


def _constants(call: Call, name: str, where: str) -> Any:
    """An argument of a call as None, _COMPUTED, or a list of arrays."""
    value = call.get(name)
    found = list(leaves(value))
    if value is None or (found and all(leaf is _COMPUTED for leaf in found)):
        return None if value is None else _COMPUTED
    if any(leaf is _COMPUTED for leaf in found):
        raise UnsupportedError(
            f"{where}: the model calls it with {name} that is constant in part, and in part computed by other layers; "
            "supported: all of one"
        )
    if not found or not all(isinstance(leaf, np.ndarray) and leaf.ndim == 2 and leaf.size for leaf in found):
        raise UnsupportedError(
            f"{where}: the model calls it with a constant {name} that is no array of two axes; supported: arrays, for "
            "each row of the batch or of one row for all"
        )
    return found


def _same(values: list[Any], name: str, where: str) -> Any:
    """What all calls give: None, _COMPUTED if some have it computed, or constants that are the same in each."""
    constants = [value for value in values if isinstance(value, list)]
    if not constants:
        return _COMPUTED if _COMPUTED in values else None
    first = constants[0]
    for other in constants:
        if len(other) != len(first) or any(map(_differ, first, other)):
            break
    else:
        if len(constants) == len(values):
            return first
    raise UnsupportedError(
        f"{where}: the model calls it {len(values)} times, not each time with the same constant {name}; supported: one "
        f"for all calls, or the layer as a Keras object, whose {name} you give with each call"
    )


def _differ(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> bool:
    return first.shape != second.shape or first.tobytes() != second.tobytes()


def arranged(arrays: Sequence[npt.NDArray[Any]], layer: LayerConfig) -> tuple[FloatArray, ...]:
    """Keras's list of states, cell by cell or direction by direction, as h, or h and c, of all of them."""
    cells = [cell for direction in layer.directions for cell in direction]
    parts = 2 if cells[0].kind == "lstm" else 1
    rows = max(len(array) for array in arrays)
    shapes = [array.shape for array in arrays]
    units = cells[0].units
    if len(arrays) != parts * len(cells) or any(shape not in ((1, units), (rows, units)) for shape in shapes):
        raise ValueError(
            f"{layer.where}: the model calls it with a constant initial_state of shapes {shapes[:50]}; expected "
            f"{parts * len(cells)} of shape (1 or batch, {units})"
        )
    label = f"{layer.where}: initial_state"
    full = [np.broadcast_to(to_float32(array, label), (rows, units)) for array in arrays]
    stacked = [np.stack(full[part::parts]) for part in range(parts)]
    alike = all((_bits(part) == _bits(part[:, :1])).all() for part in stacked)
    return tuple(part[:, :1] if alike else part for part in stacked)


def _bits(array: FloatArray) -> npt.NDArray[np.uint32]:
    return np.ascontiguousarray(array).view(np.uint32)  # NaN is like NaN


def _mask(arrays: Sequence[npt.NDArray[Any]], where: str) -> npt.NDArray[np.bool_]:
    if len(arrays) != 1 or not np.isin(arrays[0], (0, 1)).all():
        raise UnsupportedError(f"{where}: the model calls it with a constant mask that is not bools (batch, time)")
    mask: npt.NDArray[np.bool_] = arrays[0] != 0
    return mask[:1] if (mask == mask[:1]).all() else mask


def _has_constants(value: Any) -> bool:
    return any(leaf is not _COMPUTED and leaf is not None for leaf in leaves(value))


def check_training(item: Item, calls: Sequence[Call], where: str) -> None:
    """Refuses dropout that the model's own calls leave switched on."""
    dropout = ", ".join(_dropout(item))
    values = [call.get("training") for call in calls]
    if dropout and not all(value is None or (isinstance(value, int) and not value) for value in values):
        raise UnsupportedError(
            f"{where}: the model calls it, or what it is inside of, with training=True, so {dropout[:200]} is not left "
            "out; supported: training=True without dropout"
        )


def _dropout(item: Item) -> list[str]:
    """The dropout of a serialized layer and what it is made of, as far as it is not 0."""
    config = item["config"]
    found = [f"{key}={config[key]!r:.50}" for key in ("dropout", "recurrent_dropout") if config.get(key)]
    parts = [config.get(key) for key in ("layer", "backward_layer", "cell")]
    parts += config["cells"] if isinstance(config.get("cells"), list) else []
    return found + [
        text
        for part in parts
        if isinstance(part, Mapping) and isinstance(part.get("config"), Mapping)
        for text in _dropout(part)
    ]
