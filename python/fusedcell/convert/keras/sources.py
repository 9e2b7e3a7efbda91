"""Where a whole model of Keras is: in a file, or in memory."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias

from ...errors import UnsupportedError
from ...weights.floats import to_float32
from ..spec import RecurrentSpec
from .config import LayerConfig, read_layer
from .files import KerasFile, open_keras_file
from .graph import Names
from .layers import check_functions, check_own, class_of_keras, read_object, values_of
from .search import MODELS, WRAPPER, Item, every_layer
from .weights import KerasArrays, Shape, fits, specification

Layer: TypeAlias = tuple[LayerConfig, RecurrentSpec]


class Source(Protocol):
    """A serialized model, Keras's version that made it, and the weights of its layers by their names."""

    label: str
    version: int
    model: Item

    def layer(self, names: Names, item: Item, where: str) -> Layer:
        """A recurrent layer."""

    def arrays(self, names: Names, where: str, shapes: Mapping[str, Shape], beside: Sequence[str]) -> KerasArrays:
        """The arrays of another layer, of these names and shapes; of those `beside` it may have more."""


@contextmanager
def open_source(model: Any) -> Iterator[Source]:
    """A file by its path, or a model in memory; of a file weights can be read as long as it is open."""
    if isinstance(model, (str, os.PathLike)):
        with open_keras_file(model) as file:
            yield _File(file)
    else:
        yield _Live(model)


class _File:
    def __init__(self, file: KerasFile) -> None:
        self.label = file.label
        self.version = file.version[0]
        self.model: Item = file.model
        self._file = file
        self._found = {found.names: found for found in every_layer(file.model, file.label, file.groups)}
        self._layers: dict[Names, Layer] = {}
        self._arrays: dict[Names, KerasArrays] = {}

    def layer(self, names: Names, item: Item, where: str) -> Layer:
        if names not in self._layers:
            found = self._found[names]
            config = read_layer(item, self.version, where)
            self._layers[names] = config, specification(config, self._file.cells(found, config))
        return self._layers[names]

    def arrays(self, names: Names, where: str, shapes: Mapping[str, Shape], beside: Sequence[str]) -> KerasArrays:
        known = self._arrays.get(names)
        if known is None or any(not fits(known[name].shape, shape) for name, shape in shapes.items()):
            self._arrays[names] = known = self._file.arrays(self._found[names], shapes, beside)
        return known


class _Live:
    label = "model"
    version = 3

    def __init__(self, model: Any) -> None:
        self._layers = dict(_layers(model, ()))
        self.model: Item = json.loads(model.to_json())
        every_layer(self.model, self.label)

    def layer(self, names: Names, item: Item, where: str) -> Layer:
        config, spec, _ = read_object(self._layers[names])
        return config, spec

    def arrays(self, names: Names, where: str, shapes: Mapping[str, Shape], beside: Sequence[str]) -> KerasArrays:
        arrays = {}
        for name, shape in shapes.items():
            layer = self._layers[names]
            adapted = f"adapt_{name}" if class_of_keras(layer) == "Normalization" else name
            array = values_of(getattr(layer, adapted))
            if not fits(array.shape, shape):
                raise ValueError(f"{where}: {name}: expected shape {shape}, got {array.shape}")
            arrays[name] = to_float32(array, f"{where}: {name}")
        return arrays


def _layers(model: Any, names: Names) -> Iterator[tuple[Names, Any]]:
    """The layers of a live model by their names, all of them Keras's own."""
    class_name = class_of_keras(model)
    if class_name not in MODELS:
        raise UnsupportedError(
            f"model: {type(model).__module__}.{type(model).__qualname__} is not supported; supported: the path of a "
            "file, or a Sequential or Functional model of Keras 3"
        )
    check_own(model, f"model {'/'.join(names)!r}")
    if not model.built:
        raise ValueError("model: it has no weights yet; build it or call it once")
    for layer in model.layers:
        yield from _inside(layer, (*names, layer.name))


def _inside(layer: Any, names: Names) -> Iterator[tuple[Names, Any]]:
    where = f"model: layer {'/'.join(names)!r}"
    check_own(layer, where)
    check_functions(layer, where)
    if class_of_keras(layer) in MODELS:
        yield from _layers(layer, names)
    elif class_of_keras(layer) == WRAPPER:
        yield from _inside(layer.layer, (*names, layer.layer.name))
    else:
        yield names, layer
