"""Values of a stranger's JSON, each checked as it is taken, so that nothing is left that nobody looked at."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np

from ..._base import FloatArray
from ...errors import UnsupportedError
from ...weights.floats import to_float32

LARGEST_FILE = 1 << 26
_MOST_LISTS = 1 << 20  # and objects, each of which takes some twenty times its bytes
_NEEDED: Any = object()


def parse(data: bytes) -> dict[str, Any]:
    """The object that a file is. Raises ValueError, or UnsupportedError for one that is too large."""
    if len(data) > LARGEST_FILE:
        raise UnsupportedError(f"it has more than {LARGEST_FILE} bytes, which is what is supported")
    if (lists := data.count(b"[") + data.count(b"{")) > _MOST_LISTS:
        raise UnsupportedError(f"it has {lists} lists and objects; supported: up to {_MOST_LISTS}")
    try:
        value = json.loads(data, object_pairs_hook=_unique, parse_constant=_not_finite)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON that can be read: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, got {_shown(value)}")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r:.100} is there twice")
        found[key] = value
    return found


def _not_finite(name: str) -> Any:
    raise ValueError(f"{name} in it, which JSON does not have; every number has to be finite")


def listing(names: Iterable[str]) -> str:
    """Names in quotes, with commas."""
    return ", ".join(map(repr, names))


class Fields:
    """An object whose values are taken by key; :meth:`done` refuses what is left. A null is as good as nothing."""

    def __init__(self, value: Any, place: str = "") -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{place}: expected an object, got {_shown(value)}")
        self._left = {key: each for key, each in value.items() if each is not None}
        self._taken: list[str] = []
        self._place = place

    def at(self, key: str) -> str:
        """Where a key is, for errors."""
        text = (key if key.isprintable() else repr(key))[:100]
        return f"{self._place}.{text}" if self._place else text

    def __contains__(self, key: str) -> bool:
        return key in self._left

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._left))

    def take(self, key: str, default: Any = _NEEDED) -> Any:
        """A value, or the default; ValueError where there is neither."""
        self._taken.append(key)
        if key not in self._left and default is _NEEDED:
            raise ValueError(f"{self.at(key)} is missing")
        return self._left.pop(key, default)

    def text(self, key: str, default: Any = _NEEDED) -> str:
        """A string."""
        value = self.take(key, default)
        if not isinstance(value, str):
            raise ValueError(f"{self.at(key)}: expected a string, got {_shown(value)}")
        return value

    def flag(self, key: str, default: Any = _NEEDED) -> bool:
        """True or false."""
        value = self.take(key, default)
        if not isinstance(value, bool):
            raise ValueError(f"{self.at(key)}: expected true or false, got {_shown(value)}")
        return value

    def number(self, key: str, default: Any = _NEEDED) -> float:
        """A finite float32."""
        return float(self.array(key, (), default))

    def whole(self, key: str, default: Any = _NEEDED, least: int = 1, most: int = 1 << 16) -> int:
        """An integer, which may be alone in a list."""
        value = self.take(key, default)
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if type(value) not in (int, float) or not least <= value <= most or value != int(value):
            raise ValueError(f"{self.at(key)}: expected an integer from {least} to {most}, got {_shown(value)}")
        return int(value)

    def array(self, key: str, shape: tuple[int, ...], default: Any = _NEEDED) -> FloatArray:
        """Numbers as `array` has them."""
        return array(self.take(key, default), self.at(key), shape)

    def ignore(self, *keys: str) -> None:
        """Leaves out what says nothing of how the model answers."""
        for key in keys:
            self._left.pop(key, None)

    def done(self) -> None:
        """Raises UnsupportedError for what is left."""
        for key in self._left:
            known = listing(dict.fromkeys(self._taken))
            raise UnsupportedError(f"{self.at(repr(key))} is not supported; supported here: {known}")


def depth(value: Any) -> int:
    """How many lists are within each other."""
    count = 0
    while isinstance(value, list) and value:
        count, value = count + 1, value[0]
    return count


def array(value: Any, place: str, shape: tuple[int, ...]) -> FloatArray:
    """Finite float32 of numbers in lists within lists, none of them empty; -1 in a shape is any size. ValueError."""
    flat, found = [value], []
    for _ in shape:
        sizes = {len(item) if isinstance(item, list) else 0 for item in flat}
        if len(sizes) > 1 or 0 in sizes:
            what = "a list" if len(shape) == 1 else f"lists of equal sizes, {len(shape)} deep"
            raise ValueError(f"{place}: expected numbers in {what}, got {_shown(value)}")
        found.append(sizes.pop())
        flat = list(chain.from_iterable(flat))
    limit = float(np.finfo(np.float32).max)
    for item in flat:
        if type(item) not in (int, float) or not -limit <= item <= limit:
            raise ValueError(f"{place}: expected finite float32 numbers, got {_shown(item)}")
    if any(want not in (-1, size) for size, want in zip(found, shape, strict=True)):
        text = ", ".join("any" if want < 0 else str(want) for want in shape)
        raise ValueError(f"{place}: expected shape ({text}), got {tuple(found)}")
    return to_float32(np.array(flat, np.float64).reshape(found), place)


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    return f"{value!r:.60}"
