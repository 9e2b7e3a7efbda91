"""Names in state dictionaries: which recurrent modules they are of, and the weights that several of them stand for."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import count
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from .._base import ARRAY_NAMES
from ..errors import UnsupportedError
from .tensors import Stored, to_array

# Any: arrays, tensors, and mappings of them.
StateDict: TypeAlias = Mapping[str, Any] | str | os.PathLike[str]
"""Arrays or PyTorch tensors by name, or the path of a file that holds them."""

_DEEPEST = 8  # dictionaries within dictionaries; checkpoints have two or three
_LISTED = 20
_KEY = r"([a-z_]+?)(_l(?:0|[1-9][0-9]*)(?:_reverse)?)"

_END = "|".join(ARRAY_NAMES)
_NAME = (  # compiled when the first is read
    r"(?s)(?P<prefix>.*?)(?:"
    rf"(?P<plain>(?:{_END})(?:_l(?:0|[1-9][0-9]*)(?:_reverse)?)?)(?P<hook>_g|_v|_orig|_mask|_u)?"
    rf"|parametrizations\.(?P<computed>(?:{_END})(?:_l(?:0|[1-9][0-9]*)(?:_reverse)?)?)\.(?P<original>.+))"
)


class _Part(NamedTuple):
    """A name of a recurrent module: whose, of which of its arrays, and which part of that; "" is the array itself."""

    prefix: str
    array: str
    role: str


def layer_suffixes(num_directions: int) -> Iterator[str]:
    """The ends of array names in the order of packing: _l0, _l0_reverse where there are two directions, _l1, ..."""
    for layer in count():
        yield f"_l{layer}"
        if num_directions == 2:
            yield f"_l{layer}_reverse"


def cells_by_layer(mapping: Mapping[str, Any], prefix: str, allowed: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """The arrays of each layer and direction by the end of their names, in the order of packing.

    Raises UnsupportedError for a name that is not one of `allowed` with such an end, ValueError for one that is missing
    or that only some layers have.
    """
    found = _arrays_by_suffix(mapping, prefix, allowed)
    directions = 1 + any("_reverse" in suffix for suffix in found)
    suffixes = layer_suffixes(directions)
    cells: dict[str, dict[str, Any]] = {}
    first = set(found.get("_l0", ()))
    while len(cells) < len(found) or len(cells) % directions:
        suffix = next(suffixes)
        missing = sorted((first | {"weight_ih", "weight_hh"}) - set(found.get(suffix, ())))
        if missing:
            ends = ", ".join(sorted(found)[:_LISTED])
            raise ValueError(f"mapping: {prefix}{missing[0]}{suffix} is missing, got arrays of {ends}")
        extra = sorted(set(found[suffix]) - first)
        if extra:
            raise ValueError(f"mapping: {prefix}{extra[0]}{suffix} has no counterpart in layer 0")
        cells[suffix] = found[suffix]
    return cells


def cell_arrays(mapping: Mapping[str, Any], prefix: str, allowed: tuple[str, ...]) -> dict[str, Any]:
    """The arrays of a cell by their names without the prefix.

    Raises UnsupportedError for a name that is not one of `allowed`, ValueError for a weight that is missing.
    """
    arrays = {key[len(prefix) :]: to_array(value, key) for key, value in mapping.items()}
    for name in arrays:
        if name not in allowed:
            raise UnsupportedError(
                f"mapping: {prefix + name!r} is not an array of this cell; supported: {', '.join(allowed)}"
            )
    for name in ("weight_ih", "weight_hh"):
        if name not in arrays:
            raise ValueError(f"mapping: {prefix}{name} is missing, got {', '.join(sorted(arrays))}")
    return arrays


def check_directions(cells: Mapping[str, Mapping[str, Any]], prefix: str) -> None:
    """Raises ValueError where the second layer takes the outputs of two directions, and there is one."""
    if "_l1" in cells and "_l0_reverse" not in cells:
        first, second = cells["_l0"], cells["_l1"]
        output = _size(first["weight_hr"], 0) if "weight_hr" in first else _size(first["weight_hh"], 1)
        if output and _size(second["weight_ih"], 1) == 2 * output:
            raise ValueError(
                f"mapping: {prefix}weight_ih_l1 of shape {second['weight_ih'].shape} takes both directions of layer 0, "
                "but the arrays whose names end in _reverse are missing"
            )


def _size(array: Any, axis: int) -> int:
    shape = getattr(array, "shape", ())
    return int(shape[axis]) if len(shape) == 2 else 0


def _arrays_by_suffix(mapping: Mapping[str, Any], prefix: str, allowed: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    cells: dict[str, dict[str, Any]] = {}
    for key, value in mapping.items():
        match = re.fullmatch(_KEY, key[len(prefix) :])
        if match is None or match[1] not in allowed:
            raise UnsupportedError(
                f"mapping: {key!r} is not an array of this layer; supported: {', '.join(allowed)}, each followed by "
                "_l0, _l0_reverse, _l1, ..."
            )
        cells.setdefault(match[2], {})[match[1]] = to_array(value, key)
    if not cells:
        raise ValueError(f"mapping: no name starts with {prefix + 'weight_ih_l0'!r}")
    return cells


class StateDictionary:
    """Arrays by name, and the recurrent modules that the names are of.

    A dictionary within it, as checkpoints have, is a part of the names: what is "lstm.weight_ih_l0" in
    ``{"state_dict": {...}}`` is "state_dict.lstm.weight_ih_l0" here.
    """

    def __init__(self, mapping: Mapping[str, Any], wrap: Callable[[str, Any], Any] | None = None) -> None:
        """`wrap` makes a value of each name and value of the mapping.

        Raises TypeError for what is no mapping of names, ValueError for a name that stands there twice.
        """
        self._values: dict[str, Any] = {}
        self._paths = [""]
        self._again: dict[str, str] = {}  # paths of dictionaries that stand there before, and those paths
        for name, value in self._flattened(mapping):
            if name in self._values:
                raise ValueError(f"mapping: {name!r} is there twice, also within a dictionary in it")
            self._values[name] = value if wrap is None else wrap(name, value)
        self._parts = {name: part for name in self._values if (part := _part(name)) is not None}
        self._arrays: dict[str, set[str]] = {}  # of each prefix
        for part in self._parts.values():
            self._arrays.setdefault(part.prefix, set()).add(part.array)
        self._misplaced: dict[str, str] = {}  # by prefix, a name of an array at which there is a dictionary
        for name in (path.removesuffix(".") for path in (*self._paths, *self._again)):
            if (found := _part(name)) is not None:
                self._misplaced.setdefault(found.prefix, name)

    @property
    def prefixes(self) -> list[str]:
        """Of the recurrent modules, in the order of their names in the mapping."""
        return [prefix for prefix, arrays in self._arrays.items() if _is_recurrent(arrays)]

    def beside(self, prefixes: Collection[str]) -> list[str]:
        """Names of a file's tensors that are in none of the modules of these prefixes."""
        parts = self._parts
        return [
            name
            for name, value in self._values.items()
            if isinstance(value, Stored) and not (name in parts and parts[name].prefix in prefixes)
        ]

    def is_cell(self, prefix: str) -> bool:
        """Whether the module goes one step at a call: its names have no end such as _l0."""
        return self._arrays[prefix] <= set(ARRAY_NAMES)

    def found(self, prefix: str) -> str:
        """The prefix of the module that is meant: `prefix`, with a dot, or in one dictionary of those within.

        Raises TypeError for what is no string, ValueError that lists what there is where that is none or several.
        """
        if not isinstance(prefix, str):
            raise TypeError(f"prefix: expected a string, got {type(prefix).__name__}")
        for given in (self._at_first(prefix), self._at_first(f"{prefix}.")):
            if given in self._arrays:
                return given
            self._check_arrays(given)
        longer = [path + end for path in self._paths for end in (prefix, f"{prefix}.")]
        within = [each for each in longer if each in self._arrays]
        if len(within) == 1:
            return within[0]
        if not within:
            for each in longer:
                self._check_arrays(each)
        what = f"{prefix!r} is in {len(within)} dictionaries" if within else _none_with(prefix)
        raise ValueError(f"mapping: {what}; {self.listing(within or self.prefixes)}")

    def _at_first(self, prefix: str) -> str:
        """The prefix where a dictionary of it stands first in the mapping."""
        for _ in range(_DEEPEST):
            place = next((path for path in self._again if prefix.startswith(path)), None)
            if place is None:
                break
            prefix = self._again[place] + prefix[len(place) :]
        return prefix

    def listing(self, prefixes: list[str]) -> str:
        """For errors: the modules of these prefixes."""
        if not prefixes:
            names = ", ".join(f"{name[:100]!r}" for name in list(self._values)[:3])
            return f"there are no recurrent weights here{', but ' if names else ''}{names}"
        texts = [f"{prefix[:200]!r}{' (a cell)' if self.is_cell(prefix) else ''}" for prefix in prefixes[:_LISTED]]
        more = f", and {len(prefixes) - _LISTED} more" if len(prefixes) > _LISTED else ""
        return f"recurrent weights here: {', '.join(texts)}{more}"

    def module(self, prefix: str) -> dict[str, Any]:
        """All that starts with the prefix of a module, by its whole name, with weights computed of their parts.

        Raises UnsupportedError for a weight that does not follow from its parts, ValueError or TypeError for parts that
        do not fit.
        """
        result: dict[str, Any] = {}
        computed: dict[str, dict[str, str]] = {}  # the names of the parts of each array
        for name, value in self._values.items():
            if not name.startswith(prefix):
                continue
            part = self._parts.get(name)
            if part is None or part.prefix != prefix:
                result[name] = value
            else:
                computed.setdefault(part.array, {})[part.role] = name
        self._check_arrays(prefix)
        for array, parts in computed.items():
            result[prefix + array] = (
                self._values[parts[""]] if list(parts) == [""] else self._computed(prefix + array, parts)
            )
        return result

    def _check_arrays(self, prefix: str) -> None:
        if prefix in self._misplaced:
            raise TypeError(f"mapping: {self._misplaced[prefix]!r}: expected an array of floats, got a mapping")

    def _computed(self, name: str, parts: Mapping[str, str]) -> Any:
        roles = tuple(sorted(parts))
        if roles not in _COMPUTED:
            raise UnsupportedError(
                f"mapping: {name} is computed of {', '.join(map(repr, sorted(parts.values())))}, which do not say how; "
                "supported: what weight_norm and pruning leave. Make it a plain weight before it is saved, with "
                "torch.nn.utils.parametrize.remove_parametrizations or remove_spectral_norm, or pass the live module "
                "to fusedcell.from_torch"
            )
        values = [_floats(self._values[parts[role]], parts[role]) for role in roles]
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused by name later
            return _COMPUTED[roles](name, *values)

    def _flattened(self, mapping: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        if not isinstance(mapping, Mapping):
            hint = ", whose state_dict() is one" if hasattr(mapping, "state_dict") else ""
            raise TypeError(
                f"mapping: expected a mapping of names to arrays, or a path, got {type(mapping).__name__}{hint}"
            )
        seen = {id(mapping): ("", mapping)}  # a pickle's dictionaries can hold each other
        level = [("", mapping)]
        for _ in range(_DEEPEST):
            within = []
            for path, dictionary in level:
                for key, value in dictionary.items():
                    if not isinstance(key, str):
                        if path:
                            continue  # as the numbers of an optimiser's state
                        raise TypeError(f"mapping: expected names as strings, got {key!r}")
                    if not isinstance(value, Mapping):
                        yield path + key, value
                    elif id(value) in seen:
                        self._again[f"{path}{key}."] = seen[id(value)][0]
                    else:
                        seen[id(value)] = (f"{path}{key}.", value)
                        within.append((f"{path}{key}.", value))
            self._paths += [path for path, _ in within]
            level = within


def _is_recurrent(arrays: set[str]) -> bool:
    return any(array.startswith("weight_hh") and array.replace("_hh", "_ih", 1) in arrays for array in arrays)


def _none_with(prefix: str) -> str:
    dot = "." if prefix and not prefix.endswith(".") else ""
    return f"no name starts with {f'{prefix}{dot}weight_ih_l0'!r}"


def _part(name: str) -> _Part | None:
    match = re.fullmatch(_NAME, name)
    if match is None:
        return None
    if match["plain"] is not None:
        return _Part(match["prefix"], match["plain"], match["hook"] or "")
    return _Part(match["prefix"], match["computed"], f"parametrizations.{match['original']}")


def _floats(value: Any, name: str) -> Any:
    try:
        array = np.asarray(to_array(value, name))
    except ValueError as error:  # a ragged list
        raise TypeError(f"{name}: expected an array of floats, got {type(value).__name__}") from error
    if array.dtype.kind != "f":
        raise TypeError(f"{name}: expected an array of floats, got dtype {array.dtype}")
    return array


def _weight_norm(name: str, magnitude: Any, direction: Any) -> Any:
    """g v / |v| in float64, where |v| goes over the axes along which there is one g."""
    g, v = magnitude.astype(np.float64), direction.astype(np.float64)
    if g.shape and (g.ndim != v.ndim or any(size not in (1, v.shape[axis]) for axis, size in enumerate(g.shape))):
        raise ValueError(f"mapping: {name}: a magnitude of shape {g.shape} does not fit a direction of {v.shape}")
    axes = tuple(axis for axis in range(v.ndim) if not g.shape or g.shape[axis] == 1)
    norm = np.sqrt(np.sum(v * v, axis=axes, keepdims=True))
    if not np.all((norm > 0) & (norm < np.inf)):
        raise ValueError(f"mapping: {name}: expected directions that are finite and not zero")
    return v * (g / norm)


def _pruned(name: str, mask: Any, weight: Any) -> Any:
    if weight.shape != mask.shape:
        raise ValueError(f"mapping: {name}: a mask of shape {mask.shape} does not fit a weight of {weight.shape}")
    return weight * mask


# By the sorted roles of the parts, which they are given in that order.
_COMPUTED: dict[tuple[str, ...], Callable[[str, Any, Any], Any]] = {
    ("_g", "_v"): _weight_norm,
    ("parametrizations.original0", "parametrizations.original1"): _weight_norm,
    ("_mask", "_orig"): _pruned,
}
