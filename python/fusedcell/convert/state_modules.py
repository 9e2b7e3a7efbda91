"""The recurrent modules of a state dictionary in a file: what each of them is, and one of them as a layer or cell."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from .._base import ARRAY_NAMES, GATES, class_of_gates
from .._recurrent import Recurrent
from ..errors import UnsupportedError
from ..weights.state_files import open_state_dict
from ..weights.state_names import StateDictionary
from ..weights.tensors import to_array
from .torch.modules import Form

_MOST = 100  # that are reported
_LISTED = 6


@dataclass(frozen=True)
class ModuleReport:
    """One module: the prefix of its names, and either what it becomes, an RNN with tanh, or why it cannot be loaded."""

    prefix: str
    layer: Recurrent | None
    refusal: str


@dataclass(frozen=True)
class FileReport:
    """The first hundred recurrent modules of a file, how many there are, and the names of all tensors beside them."""

    modules: list[ModuleReport]
    count: int
    beside: list[str]


def report(path: str | os.PathLike[str]) -> FileReport:
    """What a file holds. Errors as of `open_state_dict`."""
    reports = []
    with open_state_dict(path) as state:
        for prefix in state.prefixes[:_MOST]:
            layer, refusal = None, ""
            try:
                name, arrays = _read(state, prefix)
                nonlinearity = "tanh" if name == "RNN" else None
                layer = _make(state, prefix, name, arrays, nonlinearity, batch_first=False, dtype="float32")
            except (ValueError, TypeError) as error:
                refusal = str(error)
            reports.append(ModuleReport(prefix, layer, refusal))
        return FileReport(reports, len(state.prefixes), state.beside(state.prefixes))


def listing(names: list[str]) -> str:
    """How many tensors these are, and of which modules."""
    modules = list(dict.fromkeys(f"{name.rpartition('.')[0]}.*" if "." in name else name for name in names))
    shown = ", ".join(module[:100] for module in modules[:_LISTED])
    return f"{len(names)} other tensor{'s' * (len(names) > 1)}: {shown}{', ...' * (len(modules) > _LISTED)}"


def read_module(
    path: str | os.PathLike[str], which: str | None, *, nonlinearity: str | None, batch_first: bool, dtype: str
) -> tuple[Recurrent, list[str]]:
    """A recurrent module of a file, the only one or that of a prefix or of a number in the report, and what is beside.

    That is the names of the other tensors.

    Raises what `open_state_dict` and ``from_state_dict`` do, and ValueError where `which` is missing or wrong, or
    `nonlinearity` is, which a plain RNN needs and others have not.
    """
    with open_state_dict(path) as state:
        try:
            prefix = _chosen(state, which)
            name, arrays = _read(state, prefix)
            made = _make(state, prefix, name, arrays, nonlinearity, batch_first=batch_first, dtype=dtype)
            return made, state.beside([prefix])
        except (ValueError, TypeError) as error:
            raise (UnsupportedError if isinstance(error, UnsupportedError) else ValueError)(
                f"{os.fspath(path)}: {error}"
            ) from error


def _chosen(state: StateDictionary, which: str | None) -> str:
    prefixes = state.prefixes
    if which is None:
        if len(prefixes) == 1:
            return prefixes[0]
        choose = f"--prefix: there are {len(prefixes)} recurrent modules, so name one; " if prefixes else ""
        raise ValueError(choose + state.listing(prefixes))
    if which.isdecimal() and not {which, f"{which}."} & set(prefixes) and int(which) < len(prefixes):
        return prefixes[int(which)]
    return state.found(which)


def _read(state: StateDictionary, prefix: str) -> tuple[str, dict[str, Any]]:
    """The class of a module, by the shape of one of its weights, and its arrays."""
    arrays = state.module(prefix)
    end = "" if state.is_cell(prefix) else "_l0"
    hidden, projection = f"{prefix}weight_hh{end}", f"{prefix}weight_hr{end}"
    weight_hh = to_array(arrays.get(hidden), hidden)
    name = class_of_gates(weight_hh, to_array(arrays.get(projection), projection))
    if not name:
        kinds = ", ".join(f"{gates} of {kind}" for kind, (_, gates) in GATES.items())
        got = "nothing" if weight_hh is None else f"shape {tuple(weight_hh.shape)}"
        raise ValueError(f"{hidden}: expected a row for each unit in each gate, {kinds}, got {got}")
    return name, arrays


def _make(
    state: StateDictionary,
    prefix: str,
    name: str,
    arrays: dict[str, Any],
    nonlinearity: str | None,
    *,
    batch_first: bool,
    dtype: str,
) -> Recurrent:
    if name != "RNN" and nonlinearity is not None:
        raise ValueError(f"--nonlinearity: is for RNNs alone, and {prefix!r} is of class {name}")
    if name == "RNN" and nonlinearity is None:
        raise ValueError(
            f"--nonlinearity: expected tanh or relu for {prefix!r}, an RNN, whose names do not say which it has"
        )
    own = {key.removeprefix(prefix): to_array(value, key) for key, value in arrays.items()}
    if state.is_cell(prefix):
        if batch_first:
            raise ValueError(f"--batch-first: is for layers, and {prefix!r} is a cell")
        known = ARRAY_NAMES[: 5 if name == "LSTM" else 4]
        unknown = sorted(set(own) - set(known))
        if unknown:
            raise UnsupportedError(f"{unknown[0]!r} is not an array of a {name}Cell; supported: {', '.join(known)}")
        if "weight_ih" not in own:
            raise ValueError(f"{prefix}weight_ih is missing")
        name += "Cell"
    return Form(name, nonlinearity or "tanh").make(own, batch_first=batch_first, dtype=dtype, isa=None)
