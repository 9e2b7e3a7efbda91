"""Whole models of Keras, of files and live ones, as nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ...errors import UnsupportedError
from ...nodes import Embedding
from ..spec import ModelSpec
from ..tracing import BATCH, TIME, Axis, RefusedError, Rows, Tracer
from .arguments import leaves
from .call import Absent, Call, Mask, Value, activated
from .calls import check_training
from .config import Options, is_own, is_recurrent
from .features import item as item_of
from .graph import Calls, Names, named_inputs, named_outputs
from .kinds import (
    ACTIVATIONS,
    ARITHMETIC,
    FUNCTIONS,
    JOINS,
    KINDS,
    MERGES,
    NEVER,
    ONES,
    OPTIONED,
    OPTIONS_OF_MERGES,
    WITH_MASK,
    Kind,
)
from .recurrent import recurrent
from .search import WRAPPER, Item, every_layer
from .sources import Source, open_source
from .weights import KerasArrays, Shape

_LENGTHS = (5040, 7560)  # of what has any length: whatever strides there are divide them
_SOME = 2, 2, 3  # sequences
_MOVES = ("Reshape", "Permute")
_OPERATIONS = {*ARITHMETIC, *ACTIVATIONS, *FUNCTIONS, *OPTIONED, *JOINS, "GetItem"}
_MOST_FEATURES = 2**22  # each takes a microsecond


def read_model(model: Any) -> ModelSpec:
    """The nodes of a file or a live model.

    Raises UnsupportedError that names the layer for what cannot be computed exactly, and ValueError, TypeError,
    ImportError and RuntimeError as ``fusedcell.from_keras`` does.
    """
    with open_source(model) as source:
        inputs = named_inputs(source.model, source.label)
        moves = any(found.item["class_name"] in _MOVES for found in every_layer(source.model, source.label))
        tokens: set[str] = set()
        refusals: list[UnsupportedError] = []
        while True:
            try:
                for gathers, timed in _readings(inputs, tokens, moves=moves):
                    try:
                        return _Conversion(source, inputs, tokens, timed, gathers=gathers).spec()
                    except UnsupportedError as error:
                        refusals.append(error)
            except _TokensFoundError as found:
                tokens.add(found.name)
                refusals = []
                continue
            raise refusals[0]


class _TokensFoundError(Exception):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def _readings(
    inputs: Mapping[str, tuple[int | None, ...]], tokens: set[str], *, moves: bool
) -> Iterator[tuple[bool, dict[str, int]]]:
    """Which axis of which inputs may be time, and whether rows are gathered; the most likely first.

    It is the axis of any length, or the first of several of a fixed one, or none; and only where none of that can be,
    another, or the only one, if the model `moves` axes, as all layers but Reshape and Permute have time in front.
    """
    free = {name: shape.index(None) for name, shape in inputs.items() if None in shape}
    fixed = {name: shape for name, shape in inputs.items() if None not in shape}
    usual, other = [], []
    for dim in range(max(map(len, fixed.values()), default=0)):
        sizes = {name: shape[dim] for name, shape in fixed.items() if dim < len(shape)}
        for size in dict.fromkeys(sizes.values()):
            timed = {name: dim for name, own in sizes.items() if own == size}
            rows = {name: dim for name in timed if not dim and (fixed[name][1:] or name in tokens)}
            if rows:
                usual.append(free | rows)
            if rows != timed:
                other.append(free | timed)
    for gathers in (False, True)[: 1 + bool(usual)]:
        yield from ((gathers, timed) for timed in (*usual, free))
    for gathers in (False, True)[: 2 * moves]:
        yield from ((gathers, timed) for timed in other)


class _Conversion:
    """Follows a model with some of its inputs as sequences."""

    def __init__(
        self,
        source: Source,
        inputs: Mapping[str, tuple[int | None, ...]],
        tokens: set[str],
        timed: Mapping[str, int],
        *,
        gathers: bool,
    ) -> None:
        self._source = source
        self._inputs = inputs
        self._tokens = tokens
        self._timed = timed
        self._gathers = gathers
        fixed = [inputs[name][dim] for name, dim in timed.items() if None not in inputs[name]]
        self._is_fixed = bool(fixed)
        length = fixed[0] if fixed else None
        first, second = (length, 2 * length) if length else _LENGTHS
        self._tracer = Tracer(_SOME, (first, second, first))
        self._calls = Calls(self._apply, source.label)
        self._kept: list[Rows] = []
        self._features = 0
        self._masked: list[str] = []  # who keeps to masks
        self._padded: list[str] = []  # who reads what a mask says is padding

    def spec(self) -> ModelSpec:
        """The model as nodes."""
        label = self._source.label
        values = [Value(self._tracer.input(name, self._axes(name))) for name in self._inputs]
        results = list(leaves(self._calls.run(self._source.model, values)))
        names = named_outputs(self._source.model, label)
        if len(names) != len(results):
            names = [f"{names[0]}.{index}" for index in range(len(results))]
        if self._masked and self._padded:
            raise UnsupportedError(
                f"{self._padded[0]}: it reads rows that a mask says are padding, to which {self._masked[0]} keeps; "
                "supported: behind a mask layers that work step by step, recurrent ones and GlobalAveragePooling1D"
            )
        try:
            made = self._tracer.finish([(name, _rows(value)) for name, value in zip(names, results, strict=True)])
        except RefusedError as error:
            name = names[error.answer] if error.answer is not None else ""
            what = f"output {name!r}" if name else "the model's outputs"
            raise UnsupportedError(f"{label}: {what}: {error}") from error
        for name, node, read in made.nodes:
            for token in self._tokens.intersection([read] if isinstance(read, str) else read):
                if not isinstance(node, Embedding):
                    raise UnsupportedError(f"{label}: {name}: the input {token!r} is of tokens, and read otherwise too")
        return replace(_renamed(made, names), notes=tuple(map(_of_masks, self._masked[:1])))

    def _axes(self, name: str) -> tuple[Axis, ...]:
        shape = self._inputs[name]
        axes = tuple(TIME if self._timed.get(name) == dim else size for dim, size in enumerate(shape))
        if None in axes:
            raise UnsupportedError(
                f"{self._source.label}: the input {name!r} of shape {(None, *shape)} has several axes of any length; "
                "supported: batch and one more"
            )
        return (BATCH, *axes)  # type: ignore[arg-type] # no None, as checked

    def _apply(self, names: Names, item: Item, args: list[Any], kwargs: dict[str, Any]) -> Any:
        where = f"{self._source.label}: {item['class_name'][:100]} layer {'/'.join(names)!r}"
        try:
            for value in leaves([args, kwargs]):
                if isinstance(value, Absent):
                    raise RefusedError(
                        f"{value.why}, which it reads, is not supported; supported: outputs, and the last h of a layer"
                    )
            return self._of_call(names, item, args, kwargs, where)
        except RefusedError as error:
            raise UnsupportedError(f"{where}: {error}") from error
        except ValueError as error:
            if str(error).startswith(self._source.label):
                raise
            kind = UnsupportedError if isinstance(error, UnsupportedError) else ValueError
            raise kind(f"{where}: {error}") from error

    def _of_call(self, names: Names, item: Item, args: list[Any], kwargs: dict[str, Any], where: str) -> Any:
        name, module = item["class_name"], item.get("module")
        call = partial(self._call, names, item, where)
        if _is_operation(item):
            return self._operation(name, call, args, kwargs, where)
        if not is_own(item):
            raise RefusedError(f"{str(module)[:100]}.{name[:100]} is not Keras's own; supported: {_supported()}")
        if is_recurrent(item):
            return self._recurrent(names, item, args, kwargs, where)
        if name not in KINDS and name not in MERGES and name != WRAPPER:
            raise RefusedError(f"{name[:100]} is not supported; supported: {_supported()}")
        for key, value in kwargs.items():
            if value is not None and key != "mask" and not (key == "training" and not value):
                raise RefusedError(f"the model calls it with {key[:100]}={value!r:.100}; supported: x alone")
        if name in MERGES:
            values = list(leaves(args))
            if not values or not all(isinstance(value, Value) for value in values):
                raise RefusedError("the model calls it with a constant; supported: tensors")
            return self._together(values, MERGES[name](call(OPTIONS_OF_MERGES), [value.rows for value in values]))
        given = list(leaves(args))
        if len(given) != 1 or not isinstance(given[0], Value):
            raise RefusedError(f"the model calls it with {len(given)} inputs, or a constant; supported: one tensor")
        x = given[0]
        self._check_mask(kwargs.get("mask"), x)
        if name == WRAPPER:
            return x.with_rows(self._each_step(names, item, x.rows, where))
        return self._simple(name, KINDS[name], call(KINDS[name].options), x, where)

    def _simple(self, name: str, kind: Kind, call: Call, x: Value, where: str) -> Value:
        """A layer of one input, and what becomes of its mask."""
        if name == "Embedding" and x.rows.parts[0] in set(self._inputs) - self._tokens:
            raise _TokensFoundError(x.rows.parts[0])
        rows = kind.make(call, x.rows)
        self._features += len(rows.indices)
        if self._features > _MOST_FEATURES:
            raise RefusedError(f"more than {_MOST_FEATURES} features of all layers together are not supported")
        if name == "Masking" or (name == "Embedding" and call.options.boolean("mask_zero")):
            if not rows.has_time and name == "Masking":
                raise RefusedError("a mask without time; supported: of sequences")
            self._kept.append(x.rows)
            return Value(rows, frozenset([id(x.rows)]), padded=True)
        if kind.masks == WITH_MASK:
            self._keeps_to_mask(x, where)
            return Value(rows)
        if x.padded and (kind.mixes or rows.steps != x.rows.steps):
            self._padded.append(where)
        return Value(rows, frozenset() if kind.masks == NEVER else x.mask, padded=x.padded and rows.kind == "rows")

    def _recurrent(self, names: Names, item: Item, args: list[Any], kwargs: dict[str, Any], where: str) -> Any:
        given = dict(zip(("initial_state", "mask", "training"), args[1:], strict=False)) | kwargs
        x, *states = leaves(args[:1])
        for key, value in given.items():
            if key not in ("initial_state", "mask", "training") and value is not None:
                raise RefusedError(f"the model calls it with {key[:100]!r}; supported: initial_state, mask, training")
        check_training(item, [given], where)
        if not isinstance(x, Value):
            raise RefusedError("the model calls it with a constant; supported: a tensor")
        self._check_mask(given.get("mask"), x)
        self._keeps_to_mask(x, where)
        states += [state for state in leaves(given.get("initial_state")) if state is not None]
        config, spec = self._source.layer(names, item, where)
        if x.mask and config.output.go_backwards and config.output.return_sequences:
            raise RefusedError(
                "go_backwards=True with return_sequences=True behind a mask, which Keras then has for other steps than "
                "the output; supported: without a mask, or Bidirectional"
            )
        call = self._call(names, {"config": {}}, where, "")
        results = recurrent(call, x.rows, states, config, spec)
        sequences = (2 if config.output.merge_mode is None else 1) if config.output.return_sequences else 0
        return [
            result
            if isinstance(result, Absent)
            else Value(result, x.mask if index < sequences else frozenset(), padded=x.padded and index < sequences)
            for index, result in enumerate(results)
        ]

    def _operation(self, name: str, call: Any, args: list[Any], kwargs: dict[str, Any], where: str) -> Any:
        """An operation of Keras's that a model has as a layer."""
        values = list(leaves([args, kwargs]))
        if name == "NotEqual" and isinstance(values[0], Value):
            return Mask(frozenset([id(values[0].rows)]))
        if name in ONES:
            return Mask(None if name == "OnesLike" else frozenset())
        masks = [value for value in values if isinstance(value, Mask)]
        if masks:
            known = [mask.sources for mask in masks if mask.sources is not None]
            return Mask(frozenset().union(*known) if len(known) == len(masks) else None)
        if name in JOINS and not kwargs and all(isinstance(value, Value) for value in values):
            return self._together(values, JOINS[name](call("axis"), [value.rows for value in values]))
        if name not in _OPERATIONS:
            raise RefusedError(
                f"the operation {name[:100]} is not supported; supported: {', '.join(sorted(_OPERATIONS))}"
            )
        options, function = OPTIONED.get(name, ("", None))
        made, rest = call(options), args[1:]
        x = next((value for value in values if isinstance(value, Value)), None)
        if x is None or kwargs:
            raise RefusedError("an operation with options; supported: with tensors alone")
        if name in ARITHMETIC and len(args) == 2:
            pair = [value.rows if isinstance(value, Value) else value for value in args]
            if any(not isinstance(value, Rows) and not isinstance(value, int | float) for value in pair):
                raise RefusedError("an operation with a constant array; supported: a number")
            rows = getattr(self._tracer, ARITHMETIC[name])(*pair, made.place)
        elif name == "GetItem" and len(rest) == 1 and args[0] is x:
            rows = item_of(made, x.rows, rest[0])
        elif function is not None and not rest:
            rows = function(made, x.rows)
        elif name in ACTIVATIONS and not rest:
            rows = activated(made, x.rows, ACTIVATIONS[name])
        elif name in FUNCTIONS and not rest:
            rows = FUNCTIONS[name](self._tracer, x.rows, made.place)
        else:
            raise RefusedError(f"the operation {name[:100]} of {len(args)} arguments; supported: of tensors alone")
        padded = any(isinstance(value, Value) and value.padded for value in values)
        several = rows if isinstance(rows, list) else [rows]
        if x.padded and any((each.kind, each.steps) != (x.rows.kind, x.rows.steps) for each in several):
            self._padded.append(where)
        made_of_it = [Value(each, padded=padded) for each in several]
        return made_of_it if isinstance(rows, list) else made_of_it[0]

    def _each_step(self, names: Names, item: Item, x: Rows, where: str) -> Rows:
        """TimeDistributed: the steps as so many more sequences."""
        if len(x.axes) < 3:
            raise RefusedError(f"an input of {len(x.axes)} axes is not supported; supported: from 3 on")
        Options(item["config"], frozenset(["layer"]), where)
        inner = x.reshaped([(shape[0] * shape[1], *shape[2:]) for shape in x.shapes])
        wrapped = item["config"]["layer"]
        results = list(leaves(self._calls.call(wrapped, [Value(inner)], {}, names)))
        if len(results) != 1 or not isinstance(results[0], Value):
            raise RefusedError("a layer of several outputs at each step; supported: one")
        made = results[0].rows
        return made.reshaped([(*old[:2], *new[1:]) for old, new in zip(x.shapes, made.shapes, strict=True)])

    def _call(self, names: Names, item: Item, where: str, known: str) -> Call:
        config = item.get("config")
        if not isinstance(config, Mapping):
            raise ValueError(f"{where}: config: expected an object, got {type(config).__name__}")
        # These change weights; Keras writes them where they are not in use, too.
        unused = frozenset(["quantization_config", "lora_rank", "lora_alpha"])
        options = Options(config, frozenset(known.split()) | unused, where)
        for key in unused:
            options.choice(key, (None,), None)
        arrays = partial(self._arrays, names, where)
        return Call(self._tracer, "/".join(names), self._source.version, self._is_fixed, self._gathers, options, arrays)

    def _arrays(self, names: Names, where: str, shapes: Mapping[str, Shape], beside: Sequence[str]) -> KerasArrays:
        arrays = self._source.arrays(names, where, shapes, beside)
        for name, array in arrays.items():
            wrong = {"NaN": np.isnan(array).sum(), "infinite": np.isinf(array).sum()}
            counts = " and ".join(f"{count} {kind}" for kind, count in wrong.items() if count)
            if counts:
                raise ValueError(f"{where}: {name}: expected finite values, got {counts} of {array.size}")
        return arrays

    def _check_mask(self, given: Any, x: Value) -> None:
        """Refuses a mask that is not the one that comes with x."""
        if given is None or (
            isinstance(given, Mask) and (given.sources == x.mask or (given.sources is None and not x.mask))
        ):
            return
        raise RefusedError(
            "the model calls it with a mask of its own, which is not supported; supported: those that come of Masking "
            "and Embedding layers"
        )

    def _keeps_to_mask(self, x: Value, where: str) -> None:
        if x.mask:
            if not x.rows.has_time:
                raise RefusedError("a mask without time; supported: of sequences")
            self._masked.append(where)
        elif x.padded:
            self._padded.append(where)

    def _together(self, values: Sequence[Value], rows: Rows) -> Value:
        """What is made of several tensors has a mask if all have one."""
        masks = [value.mask for value in values]
        kept = frozenset().union(*masks) if all(masks) else frozenset()
        return Value(rows, kept, padded=any(value.padded for value in values) and rows.kind == "rows")


def _is_operation(item: Item) -> bool:
    """Whether it is one of keras.ops; ``.h5`` files do not say where classes are, but of layers whether they train."""
    module = item.get("module")
    if module is None:
        own = isinstance(item.get("config"), Mapping) and item["config"].keys() == {"name"}
        return own or item["class_name"] in (*OPTIONED, "Stack")
    return isinstance(module, str) and module.startswith("keras.src.ops.")


def _of_masks(where: str) -> str:
    return (
        f"{where}: Keras leaves out rows that are padding by what is in them; a Model counts all rows, unless a call "
        "says with lengths= where sequences end"
    )


def _renamed(spec: ModelSpec, wanted: Sequence[str]) -> ModelSpec:
    """With the names of the source's outputs for the nodes that answer, where nodes before them have these."""
    changes: dict[str, str] = {}
    names = {name for name, *_ in spec.nodes}
    for name, node in zip(wanted, spec.outputs, strict=True):
        if name != node and name in names and not {name, node} & changes.keys():
            count = next(count for count in range(len(names) + 1) if f"{name}.{count}" not in names | {node})
            changes |= {node: name, name: f"{name}.{count}"}
            names.add(f"{name}.{count}")

    def new(source: Any) -> Any:
        return changes.get(source, source) if isinstance(source, str) else tuple(map(new, source))

    nodes = [(new(name), node, new(source)) for name, node, source in spec.nodes]
    axes = {new(name): given for name, given in spec.axes.items()}
    return replace(spec, nodes=nodes, outputs=new(spec.outputs), axes=axes)


def _rows(value: Any) -> Rows:
    if isinstance(value, Absent):
        raise RefusedError(f"{value.why} is not supported; supported: outputs, and the last h of a layer")
    if not isinstance(value, Value):
        raise RefusedError("a constant or a mask")
    return value.rows


def _supported() -> str:
    return ", ".join(sorted([*KINDS, *MERGES, WRAPPER, "SimpleRNN", "GRU", "LSTM", "RNN", "Bidirectional"]))
