"""A model beside the answer of the framework that it came from: how far they are apart, where, and why."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .._core import as_array
from ..layers import Layer
from ..model import Model
from ..weights.tensors import to_array
from .differences import Array, Difference, difference
from .report import Check, Mistake
from .search import Search, tolerance_of

__all__ = ["Check", "Difference", "Mistake", "check"]


def check(
    model: Layer | Model,
    x: npt.ArrayLike,
    expected: npt.ArrayLike,
    *,
    tolerance: float | None = None,
    explain: bool = True,
) -> Check:
    """Runs a layer or a model on x and compares its answer with what another framework answered.

    - x: as a call takes it; a tuple of the inputs of a Model that has several
    - expected: of a layer y, or ``(y, h_n)``, or ``(y, (h_n, c_n))``; of a Model its answer, or a tuple of several.
      Arrays or tensors; axes of length 1 may be missing or more.
    - tolerance: how large a difference is none, in parts of the largest magnitude that was expected, or of 0.01 if that
      is more. None: 1e-5 for weights in float32, 2e-3, 2e-2 and 5e-2 for float16, bfloat16 and int8.
    - explain: whether to look for the mistake where it differs, by trying what is usual: the order of gates, transposed
      matrices, biases, activations, directions, axes, the state at the beginning, rounded weights, padding of windows
      and of sequences, functions at the end. One at a time, in each recurrent layer and in all of one class.

    A difference raises nothing. It runs the model once where all is well or without `explain`, and else at most 25
    times, 50 times more for each recurrent layer, and for each class that has several, and 10 for each other node; so
    give it a short x. Of random numbers, some 20 steps of 3 sequences of different content tell all mistakes apart.

    Raises TypeError or ValueError for an x or an expected that is no array of numbers, and what a call raises.

    >>> import numpy as np, fusedcell as fc
    >>> rnn = fc.RNN.from_state_dict({"weight_ih_l0": np.ones((2, 1)), "weight_hh_l0": np.zeros((2, 2))})
    >>> bool(fc.check(rnn, np.ones((3, 1)), np.tanh(np.ones((3, 2)))))
    True
    """
    if not isinstance(model, Layer | Model):
        raise TypeError(f"model: expected a layer or a Model, got {type(model).__name__}")
    inputs = tuple(_array(part, "x") for part in (x if isinstance(x, tuple) else (x,)))
    limit = tolerance_of(model) if tolerance is None else float(tolerance)
    if not limit >= 0:
        raise ValueError(f"tolerance: expected a number from 0, got {tolerance!r}")
    search = Search(model, inputs, limit)
    answers = search.run(model, inputs)
    wanted = [_array(part, "expected").astype(np.float64) for part in _flat(expected)]
    if not 1 <= len(wanted) <= len(answers):
        names = ", ".join(name for name, *_ in answers)
        raise ValueError(f"expected: expected 1 to {len(answers)} arrays ({names}), got {len(wanted)}")
    answers = answers[: len(wanted)]
    wanted = [_squeezed(each, ours) for each, (*_, ours) in zip(wanted, answers, strict=True)]
    found = tuple(difference(*ours, each, limit) for ours, each in zip(answers, wanted, strict=True))
    ok = all(each.ok for each in found)
    mistake = None if ok or not explain else search.mistake(answers, wanted)
    return Check(ok, limit, found, mistake, search.runs, tolerance_of(model))


def _flat(expected: Any) -> list[Any]:
    """One array, or those of a tuple or list of them, in which a state may be a tuple again."""
    if not isinstance(expected, tuple | list) or not any(hasattr(part, "shape") for part in expected):
        return [expected]
    return [part for item in expected for part in (item if isinstance(item, tuple | list) else (item,))]


def _array(value: Any, name: str) -> Array:
    is_integer = str(getattr(value, "dtype", "")).removeprefix("torch.").startswith(("int", "uint", "bool"))
    array = np.asarray(value) if is_integer else as_array(to_array(value, name), name)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: expected an array of numbers, got dtype {array.dtype}")
    return array


def _squeezed(expected: Array, ours: Array) -> Array:
    """In the shape of ours where both differ in axes of length 1 alone."""
    same = [size for size in expected.shape if size != 1] == [size for size in ours.shape if size != 1]
    return expected.reshape(ours.shape) if same else expected
