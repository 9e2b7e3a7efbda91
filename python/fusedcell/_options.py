"""Cell options: what is checked of them, and their way to the kernels and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from numbers import Real
from typing import Any, TypeAlias

import numpy as np

from . import _core
from ._base import KINDS
from .cell_options import Activation, CellOptions
from .errors import UnsupportedError

ActivationTuple: TypeAlias = tuple[str, float, float]
OptionsTuple: TypeAlias = tuple[list[ActivationTuple], float | None, bool, bool]

ACTIVATIONS = _core.activations()  # which of alpha and beta each takes
_SMALLEST_NORMAL = 2.0**-126
_LARGEST = float(np.finfo(np.float32).max)


def to_kernels(kind: str, options: Sequence[CellOptions], suffixes: Sequence[str]) -> tuple[str, list[OptionsTuple]]:
    """What `_core.Stack` takes for options of cells whose names end in `suffixes`, and the kind.

    Of the two plain RNNs the kind is the one that the options say, if all cells say the same.

    Raises UnsupportedError for an unknown activation, TypeError or ValueError for what does not fit.
    """
    if options and len(options) != len(suffixes):
        raise ValueError(f"options: expected one per layer and direction, {len(suffixes)}, got {len(options)}")
    tuples = [_to_tuple(kind, item, suffix) for item, suffix in zip(options, suffixes, strict=False)]
    if kind.startswith("rnn_"):
        for rnn in ("rnn_tanh", "rnn_relu"):
            if tuples and all(item[0][0][0] == KINDS[rnn].activations[0] for item in tuples):
                kind = rnn
    return kind, tuples


def of_stack(stack: _core.Stack) -> tuple[CellOptions, ...]:
    """The options of each layer and direction, with None for what is as usual."""
    usual = KINDS[stack.kind].activations
    result = []
    for activations, clip, clip_before_h, input_forget in stack.options:
        given = tuple(Activation(name, _shortest(alpha), _shortest(beta)) for name, alpha, beta in activations)
        result.append(
            CellOptions(
                activations=None if tuple(item.name for item in given) == usual else given,
                clip=None if clip is None else _shortest(clip),
                clip_before_h=clip_before_h or clip is None or stack.kind != "lstm",
                input_forget=input_forget,
            )
        )
    return tuple(result)


def to_json(options: Sequence[CellOptions]) -> list[dict[str, Any]]:
    """In terms of JSON, as files have them."""
    values = [asdict(item) for item in options]
    return [value | {"activations": value["activations"] and list(value["activations"])} for value in values]


def nonlinearity_of(stack: _core.Stack) -> str:
    """The activation of a plain RNN in lower case, or several, if its cells differ."""
    return ", ".join(dict.fromkeys(activations[0][0].lower() for activations, *_ in stack.options))


def described(options: Sequence[CellOptions]) -> list[str]:
    """For a repr: what is not as usual."""
    texts = [_described(item) for item in options]
    if all(text == texts[0] for text in texts):
        return texts[0]
    return [f"cell_options=({'; '.join(', '.join(text) or 'as usual' for text in texts)})"]


def _described(options: CellOptions) -> list[str]:
    texts = []
    if options.activations is not None:
        names = []
        for item in options.activations:
            values = [f"{getattr(item, parameter):g}" for parameter in ACTIVATIONS[item.name]]
            names.append(item.name + (f"({', '.join(values)})" if values else ""))
        texts.append(f"activations=({', '.join(names)}{',' if len(names) == 1 else ''})")
    if options.clip is not None:
        texts.append(f"clip={options.clip:g}")
    if not options.clip_before_h:
        texts.append("clip_before_h=False")
    if options.input_forget:
        texts.append("input_forget=True")
    return texts


def _to_tuple(kind: str, options: CellOptions, suffix: str) -> OptionsTuple:
    if not isinstance(options, CellOptions):
        raise TypeError(f"options{suffix}: expected CellOptions, got {type(options).__name__}")
    usual = KINDS[kind].activations
    if options.activations is None:
        activations: list[ActivationTuple] = [(name, 0.0, 0.0) for name in usual]
    elif not isinstance(options.activations, tuple | list) or len(options.activations) != len(usual):
        functions = ("f", "f, g", "f, g, h")[len(usual) - 1]
        raise ValueError(f"activations{suffix}: expected {len(usual)} ({functions}), got {options.activations!r}")
    else:
        activations = [_checked_activation(item, suffix) for item in options.activations]
    clip = options.clip
    if clip is not None:
        clip = _checked_float32(clip, "clip" + suffix)
        if clip < _SMALLEST_NORMAL:
            raise ValueError(f"clip{suffix}: expected a number from 2^-126 on, or None, got {options.clip}")
    for name in ("clip_before_h", "input_forget"):
        if not isinstance(getattr(options, name), bool):
            raise TypeError(f"{name}{suffix}: expected a bool, got {type(getattr(options, name)).__name__}")
    if options.input_forget and kind != "lstm":
        raise ValueError(f"input_forget{suffix}: expected False, as only the LSTM has a forget gate, got True")
    return activations, clip, options.clip_before_h, options.input_forget


def _checked_activation(item: Activation, suffix: str) -> ActivationTuple:
    if not isinstance(item, Activation):
        raise TypeError(f"activations{suffix}: expected Activation, got {type(item).__name__}")
    if not isinstance(item.name, str) or item.name not in ACTIVATIONS:
        raise UnsupportedError(
            f"activations{suffix}: {item.name!r} is not supported; supported: {', '.join(ACTIVATIONS)}"
        )
    taken = ACTIVATIONS[item.name]
    for parameter in ("alpha", "beta"):
        name = f"activations{suffix}: {parameter} of {item.name}"
        value = _checked_float32(getattr(item, parameter), name)
        if value and parameter not in taken:
            raise ValueError(f"{name}: expected 0, as it takes none, got {value:g}")
    return item.name, float(item.alpha), float(item.beta)


def _checked_float32(value: Any, name: str) -> float:
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    try:
        number = float(value)
    except OverflowError:  # an integer beyond any float
        number = math.inf
    if not abs(number) <= _LARGEST:
        raise ValueError(f"{name}: expected a finite float32, got {number}")
    return number


def _shortest(value: float) -> float:
    """The shortest decimal that rounds to the same float32."""
    return float(str(np.float32(value)))
