"""Where the layers of a serialized model are: in it, in models in it, and in TimeDistributed wrappers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from ...errors import UnsupportedError
from .config import is_recurrent

MODELS = ("Sequential", "Functional", "Model")
WRAPPER = "TimeDistributed"
_DEEPEST = 50
_OLD_CONTAINER = "_layer_checkpoint_dependencies"

Item: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Found:
    """A layer of a model.

    - names: its own behind those of the models and wrappers that it is inside of, and `inside` their serialized forms
    - group: that of its weights in a ``.keras`` file, and `last` those of the last layers of its class in its model, of
      that model's class in the one around, and so on
    - masked: whether a layer before it makes masks
    """

    names: tuple[str, ...]
    item: Item
    inside: tuple[Item, ...]
    group: str
    last: tuple[str, ...]
    masked: bool

    @property
    def name(self) -> str:
        """What users call it."""
        return "/".join(self.names)

    @property
    def in_model(self) -> bool:
        """Whether it is in a model inside the model."""
        return any(item["class_name"] in MODELS for item in self.inside)


class Groups:
    """Keras's names for groups of weights: by the class, with a number from the second layer of that class on.

    `has` tells of a path whether the file has it. Keras 2.12 to 2.14 have another name for the group of a model's
    layers. 2.12 and 2.13 count a layer with weights twice. From 2.14 on Keras 2 does not count what is saved elsewhere.
    """

    def __init__(self, has: Callable[[str], bool], version: tuple[int, int]) -> None:
        self._has = has
        self._container = _OLD_CONTAINER if has(_OLD_CONTAINER) else "layers"
        self._twice = (2, 12) <= version <= (2, 13)
        self._skips = (2, 14) <= version < (3, 0)

    def of_layers(self, group: str) -> str:
        """Where the layers of the model of this group are."""
        return f"{group}{self._container}/"

    def step(self, path: str, index: int, *, recurrent: bool) -> int:
        """How far it is to the number of the next layer of the class; `recurrent` is such a layer or has one."""
        # Without weights it counts once: then the next is where otherwise none is.
        return 2 if self._twice and (recurrent or not self._has(f"{path}_{index + 1}")) else 1

    def check(self, found: Found, label: str) -> None:
        """Refuses a layer whose number is not known: some of its class in the same model are saved in another."""
        for last in found.last if self._skips else ():
            if not self._has(last):
                raise UnsupportedError(
                    f"{label}: {found.name!r}: the file has no {last!r}, as of layers that models share it holds one "
                    "copy, and which is not told; supported: the same model saved as .h5"
                )


def every_layer(model: Any, label: str, groups: Groups | None = None) -> list[Found]:
    """All that a model has, in its order. Raises ValueError for what is no model, UnsupportedError as for `choose`."""
    search = _Search(label, groups)
    search.in_model(model, _Place())
    return search.found


def recurrent_layers(model: Any, label: str, groups: Groups | None = None) -> list[Found]:
    """Those of them that are recurrent."""
    return [found for found in every_layer(model, label, groups) if is_recurrent(found.item)]


def choose(model: Any, name: str | None, label: str, groups: Groups | None = None) -> tuple[Found, list[Found]]:
    """The one recurrent layer of a model, or the one called `name`; and all there are.

    Raises ValueError where there is none or are several, or for what is no model, UnsupportedError for a model that is
    not supported.
    """
    found = recurrent_layers(model, label, groups)
    listing = ", ".join(f"{layer.name!r} ({layer.item['class_name']})" for layer in found[:50])
    if not found:
        raise ValueError(f"{label}: there is no recurrent layer in the {', '.join(MODELS)} that it holds")
    if name is None:
        if len(found) > 1:
            raise ValueError(f"{label}: there are {len(found)} recurrent layers; name one of them: {listing}")
        return found[0], found
    chosen = [layer for layer in found if layer.name == name]
    if len(chosen) != 1:
        raise ValueError(f"name: {len(chosen) or 'no'} recurrent layers are called {name!r}; there are: {listing}")
    return chosen[0], found


@dataclass(frozen=True)
class _Place:
    """What is around a layer, as in `Found`; `group` is that of the model that it is in."""

    names: tuple[str, ...] = ()
    inside: tuple[Item, ...] = ()
    group: str = ""
    last: tuple[str, ...] = ()


class _Search:
    """Collects the layers in the order of the file."""

    def __init__(self, label: str, groups: Groups | None) -> None:
        self.found: list[Found] = []
        self._label = label
        self._groups = groups
        self._recurrent = 0
        self._masked = False

    def in_model(self, model: Any, place: _Place) -> None:
        """Those of a model."""
        if not isinstance(model, Mapping):
            raise ValueError(f"{self._label}: expected a serialized model, got {type(model).__name__}")
        class_name, config = model.get("class_name"), model.get("config")
        if class_name not in MODELS:
            raise UnsupportedError(
                f"{self._label}: a model of class {str(class_name)[:100]!r} is not supported, as its code decides what "
                f"it computes; supported: {', '.join(MODELS)}, or a layer of the model as a Keras object"
            )
        # Keras before 2.2.3 wrote a Sequential model's layers without a name for the list.
        layers = config.get("layers") if isinstance(config, Mapping) else config
        if not isinstance(layers, list):
            raise ValueError(f"{self._label}: expected a list of layers, got {type(layers).__name__}")
        totals = Counter(map(self._class_of, layers))
        counts: dict[str, int] = {}
        for item in layers:
            base, before = self._class_of(item), self._recurrent
            index = counts.get(base, 0)
            first = (self._groups.of_layers(place.group) if self._groups else "") + base
            last = (*place.last, _numbered(first, totals[base] - 1))
            self._in_layer(item, replace(place, group=_numbered(first, index), last=last))
            recurrent = self._recurrent > before
            counts[base] = index + (self._groups.step(first, index, recurrent=recurrent) if self._groups else 1)

    def _in_layer(self, item: Item, place: _Place) -> None:
        """Those of a layer, whose own group the place has."""
        inner = item.get("config")
        config: Item = inner if isinstance(inner, Mapping) else {}
        name, class_name = config.get("name"), item["class_name"]
        if is_recurrent(item):
            if not isinstance(name, str) or not name:
                raise ValueError(f"{self._label}: a {class_name} layer has no name")
            self._recurrent += 1
        names = (*place.names, name_of(item))
        if class_name in MODELS or class_name == WRAPPER:
            if len(place.inside) == _DEEPEST:
                raise UnsupportedError(f"{self._label}: models nested more than {_DEEPEST} deep are not supported")
            inside = replace(place, names=names, inside=(*place.inside, item))
            if class_name in MODELS:
                self.in_model(item, replace(inside, group=f"{place.group}/"))
            else:
                wrapped: Any = config.get("layer")
                self._class_of(wrapped)
                self._in_layer(wrapped, replace(inside, group=f"{place.group}/layer"))
        else:
            self.found.append(Found(names, item, place.inside, place.group, place.last, self._masked))
        self._masked |= class_name == "Masking" or (class_name == "Embedding" and bool(config.get("mask_zero")))

    def _class_of(self, item: Any) -> str:
        """A layer's class as groups are called by it."""
        if not isinstance(item, Mapping) or not isinstance(item.get("class_name"), str):
            raise ValueError(f"{self._label}: expected a serialized layer, got {item!r:.100}")
        return _class_of(item)


def name_of(item: Item) -> str:
    """What a model calls a layer, and errors one without a name."""
    config = item.get("config")
    name = config.get("name") if isinstance(config, Mapping) else None
    return name if isinstance(name, str) else _class_of(item)


def _class_of(item: Item) -> str:
    return snake_case(item["class_name"].rpartition(">")[2])


def _numbered(first: str, index: int) -> str:
    return f"{first}_{index}" if index else first


def snake_case(name: str) -> str:
    """Keras's name of a class in weight files: SimpleRNN is simple_rnn."""
    return re.sub(r"(?<=.)(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", "_", re.sub(r"\W", "", name)).lower()
