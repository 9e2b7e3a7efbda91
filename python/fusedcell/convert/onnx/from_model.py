"""ONNX models from whole models."""

from __future__ import annotations

import os
from typing import Any

from ... import _model_format
from ..._files import write_file
from ..._model_axes import BATCH, TIME, Axes
from ...errors import UnsupportedError
from ...model import Model
from .builder import Builder
from .from_nodes import NodeWriter, Rows


def to_onnx_model(model: Model, path: str | os.PathLike[str] | None = None) -> Any:
    """What :meth:`fusedcell.Model.to_onnx` does."""
    result = _ModelWriter(model).result()
    if path is not None:
        write_file(path, result.SerializeToString(deterministic=True))
    return result


class _ModelWriter:
    def __init__(self, model: Model) -> None:
        self._model = model
        self._axes = model.axes
        self._graph = Builder()
        self._nodes, *_ = _model_format.from_bytes(model._to_bytes(), model.isa)
        self._values: dict[str, Rows] = {}
        self._writers: dict[str, NodeWriter] = {}
        self._taken = {*model.inputs, *(name for name, *_ in self._nodes)}  # names, and beginnings of others
        self._renamed: dict[str, str] = {}

    def result(self) -> Any:
        for name in sorted(self._model.inputs, key=lambda name: TIME not in self._axes[name]):
            self._input(name)
        for name, node, source in self._nodes:
            sources = [self._values[each] for each in ((source,) if isinstance(source, str) else source)]
            try:
                rows = self._writer(name).write(node, sources)
            except UnsupportedError as error:
                raise UnsupportedError(f"{name}: {error}") from error
            self._values[name] = rows
            if name not in self._model.outputs and all(rows.name != each.name for each in sources):
                self._renamed[rows.name] = name
        for name in self._model.outputs:
            self._output(name)
        inputs, outputs = ([self._value(name) for name in names] for names in (self._model.inputs, self._model.outputs))
        return self._graph.model(inputs, outputs, self._renamed)

    def _writer(self, name: str) -> NodeWriter:
        """Its names begin with the node's, and are no others."""
        if name not in self._writers:
            prefix = f"{name}/"
            while any(taken.startswith(prefix) for taken in self._taken):
                prefix += "/"
            self._taken.add(prefix)
            self._writers[name] = NodeWriter(self._graph, name, prefix)
        return self._writers[name]

    # How arrays are arranged outside

    def _input(self, name: str) -> None:
        """Makes rows of its array; where that has no time, after those that have it."""
        axes, writer, value = self._axes[name], self._writer(name), name
        order = _order(axes)
        if order != sorted(order):
            value = writer.add("Transpose", value, perm=order)
        if lacking := _lacking(axes):
            value = writer.add("Unsqueeze", value, writer.integers(*lacking))
        row = () if name in self._model.tokens else (self._model.sizes[name],)
        if _numbers(axes) != row:
            value = writer.reshape(value, 0, 0, *row)
        steps: int | str = "steps" if TIME in axes else 1
        timed = next((rows for rows in self._values.values() if rows.steps == "steps"), None)
        if steps == 1 and timed is not None:
            count = writer.add("Shape", timed.name, end=1)
            shape = writer.add("Concat", count, writer.integers(*[1] * (1 + len(row))), axis=0)
            value, steps = writer.add("Expand", value, shape), "steps"
        self._values[name] = Rows(value, self._model.sizes[name], steps)

    def _output(self, name: str) -> None:
        """Makes an array of its rows."""
        axes, writer, value = self._axes[name], self._writer(name), self._values[name].name
        order = _order(axes)
        if len(_numbers(axes)) != 1:
            value = writer.reshape(value, 0, 0, *_numbers(axes))
        if lacking := _lacking(axes):
            value = writer.add("Squeeze", value, writer.integers(*lacking))
        if order != sorted(order):
            value = writer.add("Transpose", value, perm=[order.index(axis) for axis in range(len(axes))])
        if value in self._model.inputs or value in self._renamed:
            value = writer.add("Identity", value)
        self._renamed[value] = name

    def _value(self, name: str) -> Any:
        has_batch = all(BATCH in axes for axes in self._axes.values())
        sizes = {TIME: self._values[name].steps, BATCH: BATCH if has_batch else 1}
        shape = [sizes[axis] if isinstance(axis, str) else axis for axis in self._axes[name]]
        return self._graph.value(name, shape, integers=name in self._model.tokens)


# Within the graph axes are time, batch, features.


def _order(axes: Axes) -> list[int]:
    """Which of these axes comes first, second, ... there."""
    return sorted(range(len(axes)), key=lambda axis: {TIME: 0, BATCH: 1}.get(str(axes[axis]), 2))


def _lacking(axes: Axes) -> list[int]:
    """Which axes they lack of those there."""
    return [place for place, axis in enumerate((TIME, BATCH)) if axis not in axes]


def _numbers(axes: Axes) -> tuple[int, ...]:
    return tuple(axis for axis in axes if isinstance(axis, int))
