"""What a serialized model calls, in order: each layer with its inputs, in nested and shared models too.

Formats, of `input_layers` and `output_layers` in a functional model: keras/src/models/functional.py of Keras 3.15, and
keras/engine/functional.py of Keras 2.15.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from ...errors import UnsupportedError
from .arguments import DEEPEST, Ref, arguments, is_history, leaves, mapped
from .search import MODELS, Item, name_of

Names: TypeAlias = tuple[str, ...]
Apply: TypeAlias = Callable[[Names, Item, "list[Any]", "dict[str, Any]"], Any]
"""What the layer of these names makes of the arguments of a call: a value, or a list of them."""

_MOST_CALLS = 20_000
_INPUT = "InputLayer"


class Calls:
    """Follows the calls of a model; `apply` is asked what each layer makes of its arguments.

    Raises ValueError for a model that is damaged, UnsupportedError for arguments of kinds that no layer here takes.
    """

    def __init__(self, apply: Apply, label: str) -> None:
        self._apply = apply
        self._label = label
        self._count = 0

    def run(self, model: Item, values: Sequence[Any], names: Names = ()) -> Any:
        """What a model makes of the values of its inputs, in their order: nested as its outputs are."""
        if model.get("registered_name") not in (None, model["class_name"]):
            raise UnsupportedError(
                f"{self._label}: the class {str(model['registered_name'])[:100]!r} of {'/'.join(names) or 'the model'} "
                f"is not Keras's own; supported: {', '.join(MODELS)}"
            )
        if model["class_name"] == "Sequential":
            return self._sequential(layers_of(model), list(values), names)
        config = _config_of(model, self._label)
        inputs = list(leaves(_refs(config.get("input_layers"), self._label)))
        if len(inputs) != len(values):
            raise ValueError(
                f"{self._label}: {'/'.join(names) or 'the model'} has {len(inputs)} inputs, got {len(values)}"
            )
        known: dict[tuple[str, int], Any] = {(ref.layer, 0): [value] for ref, value in zip(inputs, values, strict=True)}
        calls: dict[tuple[str, int], tuple[Item, Any]] = {}
        for item in layers_of(model):
            nodes = item.get("inbound_nodes") or []
            if not isinstance(nodes, list):
                raise ValueError(f"{self._label}: inbound_nodes: expected a list of calls, got {type(nodes).__name__}")
            for index, node in enumerate(nodes):
                if calls.setdefault((name_of(item), index), (item, node))[0] is not item:
                    raise ValueError(f"{self._label}: two layers are called {name_of(item)[:100]!r}")
        outputs = _refs(config.get("output_layers"), self._label)
        for ref in leaves(outputs):
            self._find(ref, known, calls, names)
        return mapped(outputs, lambda ref: self._result(ref, known))

    def _sequential(self, items: Sequence[Item], values: list[Any], names: Names) -> Any:
        if len(values) != 1:
            raise ValueError(f"{self._label}: a Sequential model has one input, got {len(values)}")
        value = values[0]
        if len({name_of(item) for item in items}) < len(items):
            raise ValueError(f"{self._label}: two layers of a Sequential model have one name")
        for item in items:
            if item["class_name"] != _INPUT:
                value = self.call(item, [value], {}, names)
        return value

    def _find(self, wanted: Ref, known: dict[tuple[str, int], Any], calls: Mapping[Any, Any], names: Names) -> None:
        """Makes every call that a tensor takes, in order."""
        todo = [(wanted.layer, wanted.call)]
        begun: dict[tuple[str, int], tuple[list[Any], dict[str, Any]]] = {}
        while todo:
            key = todo[-1]
            if key in known:
                todo.pop()
                continue
            if key not in calls:
                raise ValueError(f"{self._label}: there is no call {key[1]} of a layer {key[0][:100]!r}")
            item, node = calls[key]
            if key not in begun:
                begun[key] = arguments(node, f"{self._label}: {key[0][:100]!r}")
                refs = [part for part in leaves(list(begun[key])) if isinstance(part, Ref)]
                needed = [(ref.layer, ref.call) for ref in refs if (ref.layer, ref.call) not in known]
                if any(need in begun for need in needed):
                    raise ValueError(f"{self._label}: {key[0][:100]!r} is called with what it makes itself")
                todo += needed
                continue
            args, kwargs = mapped(list(begun[key]), lambda part: self._result(part, known))
            result = self.call(item, args, kwargs, names)
            if isinstance(result, Mapping) and len(result) > 1:  # whose order the file does not say
                raise UnsupportedError(
                    f"{self._label}: {key[0][:100]!r}: a model inside the model with named outputs is not supported; "
                    "supported: a list of outputs"
                )
            known[key] = list(leaves(result)) if isinstance(result, (list, Mapping)) else [result]

    def _result(self, part: Any, known: Mapping[tuple[str, int], Any]) -> Any:
        if not isinstance(part, Ref):
            return part
        results = known[part.layer, part.call]
        if not 0 <= part.index < len(results):
            raise ValueError(
                f"{self._label}: {part.layer[:100]!r} has {len(results)} results, and {part.index} is asked for"
            )
        return results[part.index]

    def call(self, item: Item, args: list[Any], kwargs: dict[str, Any], names: Names) -> Any:
        """What a layer or model, which is inside of those of these names, makes of the arguments."""
        self._count += 1
        if self._count > _MOST_CALLS:
            raise UnsupportedError(f"{self._label}: more than {_MOST_CALLS} calls of layers are not supported")
        inner = (*names, name_of(item))
        if item["class_name"] not in MODELS:
            return self._apply(inner, item, args, kwargs)
        for name, value in kwargs.items():
            if value is not None and not (name == "training" and value is False):
                raise UnsupportedError(
                    f"{self._label}: {'/'.join(inner)!r} is called with {name[:100]!r}; supported: x alone"
                )
        values = args[0] if len(args) == 1 else args
        if isinstance(values, Mapping):
            order = named_inputs(item, self._label)
            if set(order) != set(values):
                raise ValueError(
                    f"{self._label}: {'/'.join(inner)!r} is called with {list(values)}, its inputs are {order}"
                )
            values = [values[name] for name in order]
        return self.run(item, list(leaves(values)), inner)


def layers_of(model: Item) -> list[Item]:
    """A model's layers, serialized; `keras_search.every_layer` has checked them."""
    config: Any = model["config"]
    found: list[Item] = config["layers"] if isinstance(config, Mapping) else config
    return found


def named_inputs(model: Item, label: str) -> dict[str, tuple[int | None, ...]]:
    """A model's inputs by name, in order, and their shapes without the batch.

    Raises UnsupportedError for a Sequential model that does not say what it takes.
    """
    items = layers_of(model)
    if model["class_name"] == "Sequential":
        first: Any = items[0] if items else model
        while first["class_name"] == "Sequential" and first is not model and layers_of(first):
            first = layers_of(first)[0]
        if first["class_name"] in MODELS and first is not model:
            shapes = list(named_inputs(first, label).values())
            if len(shapes) == 1:
                return {"x": shapes[0]}
        config: Any = model["config"] if isinstance(model["config"], Mapping) else {}
        shape = _shape_of(first, label) or config.get("build_input_shape") or _built(first)
        if not shape:
            raise UnsupportedError(
                f"{label}: the Sequential model has no input shape; supported: one that begins with keras.Input, or "
                "was built or called before it was saved"
            )
        name = name_of(first) if first["class_name"] == _INPUT else "x"
        return {name: _checked(shape, label)}
    by_name = {name_of(item): item for item in items}
    refs = _refs(_config_of(model, label).get("input_layers"), label)
    named = refs.items() if isinstance(refs, Mapping) else [(ref.layer, ref) for ref in leaves(refs)]
    found = {}
    for name, ref in named:
        if not isinstance(ref, Ref) or ref.layer not in by_name or not isinstance(name, str):
            raise ValueError(f"{label}: input_layers: expected names of layers, got {name!r:.100}")
        found[name] = _checked(_shape_of(by_name[ref.layer], label), label)
    if not found:
        raise ValueError(f"{label}: the model has no inputs")
    return found


def named_outputs(model: Item, label: str) -> list[str]:
    """What a model's outputs are called, in their order; "" where nothing says so."""
    if model["class_name"] == "Sequential":
        items = layers_of(model)
        return [name_of(items[-1]) if items else ""]
    refs = _refs(_config_of(model, label).get("output_layers"), label)
    if isinstance(refs, Mapping):
        return list(map(str, refs))
    names = [ref.layer for ref in leaves(refs)]
    return [name if names.count(name) == 1 else f"{name}.{names[:i].count(name)}" for i, name in enumerate(names)]


def _config_of(model: Item, label: str) -> Mapping[str, Any]:
    config = model.get("config")
    if not isinstance(config, Mapping):
        raise ValueError(f"{label}: config: expected an object, got {type(config).__name__}")
    return config


def _shape_of(item: Item, label: str) -> Any:
    config: Any = item["config"] if isinstance(item.get("config"), Mapping) else {}
    if config.get("sparse") or config.get("ragged"):
        raise UnsupportedError(f"{label}: the input {name_of(item)!r} is sparse or ragged; supported: dense ones")
    return config.get("batch_shape") or config.get("batch_input_shape")


def _built(item: Item) -> Any:
    built = item.get("build_config")
    return built.get("input_shape") if isinstance(built, Mapping) else None


def _checked(shape: Any, label: str) -> tuple[int | None, ...]:
    sizes = shape[1:] if isinstance(shape, list) else None
    if not sizes or any(
        isinstance(s, bool) or not (s is None or (isinstance(s, int) and 0 < s < 1 << 24)) for s in sizes
    ):
        raise ValueError(f"{label}: expected the shape of an input, (batch, sizes or null), got {shape!r:.100}")
    return tuple(sizes)


def _refs(value: Any, label: str, depth: int = 0) -> Any:
    """Tensors of `input_layers` and `output_layers`, nested as these are."""
    if is_history(value):
        return Ref(*value[:3])
    if depth > DEEPEST or not isinstance(value, (list, Mapping)) or not value:
        raise ValueError(f"{label}: expected a model's inputs and outputs as [layer, call, index], got {value!r:.100}")
    if isinstance(value, Mapping):
        return {name: _refs(part, label, depth + 1) for name, part in sorted(value.items())}  # Keras's own order
    return [_refs(part, label, depth + 1) for part in value]
