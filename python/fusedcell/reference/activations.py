"""The activation functions of the ONNX recurrent operators, in float64.

Source: the lists 'Activation functions' in the texts of the operators RNN, GRU and LSTM
(https://onnx.ai/onnx/operators/onnx__LSTM.html). Where an ONNX operator of the same name exists, alpha and beta
default to that operator's values, as the attributes activation_alpha and activation_beta say. Affine and ScaledTanh
have no such operator, so theirs must be given.

Every function takes and returns float64 arrays of any shape, is exact to a few units in the last place over the whole
range, infinities included, and returns NaN for NaN.

The two functions that Keras has called `hard_sigmoid` are both HardSigmoid:

- Keras 2 and before, clip(0.2 x + 0.5, 0, 1): `activation("HardSigmoid", alpha=0.2, beta=0.5)`, the ONNX default;
- Keras 3, relu6(x + 3) / 6 = clip(x / 6 + 0.5, 0, 1): `activation("HardSigmoid", alpha=1 / 6, beta=0.5)`.

Keras's `linear` is `activation("Affine", alpha=1, beta=0)`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np

from .arrays import Array

Activation: TypeAlias = Callable[[Array], Array]
ActivationLike: TypeAlias = str | Activation


def relu(x: Array) -> Array:
    """max(0, x)"""
    return np.maximum(x, 0.0)


def tanh(x: Array) -> Array:
    """(1 - e^{-2x}) / (1 + e^{-2x})"""
    return np.tanh(x)


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^{-x})"""
    # The exponent is never positive, so nothing overflows, and small results keep their relative accuracy.
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, e) / (1.0 + e)


def affine(x: Array, alpha: float, beta: float) -> Array:
    """alpha x + beta"""
    return alpha * x + beta


def leaky_relu(x: Array, alpha: float = 0.01) -> Array:
    """x if x >= 0 else alpha x"""
    return np.where(x >= 0, x, alpha * x)


def thresholded_relu(x: Array, alpha: float = 1.0) -> Array:
    """x if x >= alpha else 0

    The recurrent operators include the threshold itself; the operator ThresholdedRelu, x > alpha, does not.
    """
    return np.where(x < alpha, 0.0, x)


def scaled_tanh(x: Array, alpha: float, beta: float) -> Array:
    """alpha tanh(beta x)"""
    return alpha * np.tanh(beta * x)


def hard_sigmoid(x: Array, alpha: float = 0.2, beta: float = 0.5) -> Array:
    """min(max(alpha x + beta, 0), 1)"""
    return np.clip(alpha * x + beta, 0.0, 1.0)


# NumPy 1 warns of a NaN in expm1, and NaN is an allowed input.
@np.errstate(invalid="ignore")
def elu(x: Array, alpha: float = 1.0) -> Array:
    """x if x >= 0 else alpha (e^x - 1)"""
    return np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


def softsign(x: Array) -> Array:
    """x / (1 + |x|)"""
    # The limit at infinity is the sign; the quotient would be inf / inf.
    finite = np.where(np.isinf(x), 0.0, x)
    return np.where(np.isinf(x), np.sign(x), finite / (1.0 + np.abs(finite)))


def softplus(x: Array) -> Array:
    """log(1 + e^x)"""
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


class _Entry(NamedTuple):
    name: str
    function: Callable[..., Array]
    parameters: tuple[str, ...] = ()
    required: bool = False


_ENTRIES = {
    entry.name.lower(): entry
    for entry in (
        _Entry("Relu", relu),
        _Entry("Tanh", tanh),
        _Entry("Sigmoid", sigmoid),
        _Entry("Affine", affine, ("alpha", "beta"), required=True),
        _Entry("LeakyRelu", leaky_relu, ("alpha",)),
        _Entry("ThresholdedRelu", thresholded_relu, ("alpha",)),
        _Entry("ScaledTanh", scaled_tanh, ("alpha", "beta"), required=True),
        _Entry("HardSigmoid", hard_sigmoid, ("alpha", "beta")),
        _Entry("Elu", elu, ("alpha",)),
        _Entry("Softsign", softsign),
        _Entry("Softplus", softplus),
    )
}

ACTIVATIONS = tuple(entry.name for entry in _ENTRIES.values())


def _entry(name: str) -> _Entry:
    try:
        return _ENTRIES[name.lower()]
    except KeyError:
        raise ValueError(f"activation: expected one of {', '.join(ACTIVATIONS)} in any case, got {name!r}") from None


def activation_parameters(name: str) -> tuple[str, ...]:
    """Returns which of "alpha" and "beta" the named activation takes; raises ValueError for an unknown name."""
    return _entry(name).parameters


def activation(name: str, alpha: float | None = None, beta: float | None = None) -> Activation:
    """Returns the named activation as a function of one float64 array.

    Names match in any case. Raises ValueError for an unknown name, for an alpha or beta that the function does not
    take, and where Affine or ScaledTanh lacks one.
    """
    entry = _entry(name)
    given = {key: value for key, value in (("alpha", alpha), ("beta", beta)) if value is not None}
    for key, value in given.items():
        if key not in entry.parameters:
            raise ValueError(f"{key}: {entry.name} takes no {key}, got {value}")
    for key in entry.parameters:
        if entry.required and key not in given:
            raise ValueError(f"{key}: {entry.name} has no default {key}, and none was given")
    return partial(entry.function, **given)


def is_any(function: Activation, *functions: Activation) -> bool:
    """Whether `function`, as `activation` returns it or plain, is one of these."""
    return getattr(function, "func", function) in functions


def resolve(name: str, activations: Sequence[ActivationLike], count: int) -> tuple[Activation, ...]:
    """Returns `count` functions for names or functions; `name` is the argument that an error speaks of."""
    if isinstance(activations, str) or len(activations) != count:
        raise ValueError(f"{name}: expected {count} activations, got {activations!r}")
    return tuple(activation(item) if isinstance(item, str) else item for item in activations)
