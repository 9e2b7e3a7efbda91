"""Layers that return what Keras's layers return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from . import _core
from ._base import FloatArray
from .cells import Array
from .layers import GRU, LSTM, RNN
from .weights.floats import array_of

__all__ = ["KerasLayer"]

KerasResult: TypeAlias = FloatArray | tuple[FloatArray | list[FloatArray], ...]


@dataclass(frozen=True)
class OutputRule:
    """What a Keras layer returns of what it computes.

    - stacked: the states are one list a cell, as of StackedRNNCells
    - merge_mode: how the two directions of a Bidirectional layer become one; "" for other layers
    """

    return_sequences: bool = False
    return_state: bool = False
    go_backwards: bool = False
    stateful: bool = False
    zero_output_for_mask: bool = False
    stacked: bool = False
    merge_mode: str | None = ""

    @property
    def bidirectional(self) -> bool:
        """Whether there are two directions to merge."""
        return self.merge_mode != ""


class KerasLayer:
    """A layer that is called, and answers, as the Keras layer it was made of; ``from_keras(..., keras_output=True)``.

    - layer: the plain layer, which holds the weights
    - output: return_sequences, return_state, go_backwards, stateful, zero_output_for_mask, merge_mode and `stacked`,
      as the Keras layer has them
    - state: what a stateful layer goes on from, as a call's `initial_state`; None is zeros
    - mask: what a call without a mask takes, bools (1 or B, T): a constant in the model's call of the layer. A constant
      initial state is the plain layer's `initial_state`
    - from_other_layers: which of "mask" and "initial_state" the model has other layers make, or its own inputs, so that
      whoever calls the layer has to give them for the model's answer. "mask" is there too where it may come unasked, as
      a Masking or Embedding layer with mask_zero comes before. Empty for a layer object, whose calls are not looked at
    """

    def __init__(
        self,
        layer: RNN | GRU | LSTM,
        output: OutputRule,
        state: Array | None = None,
        *,
        mask: npt.NDArray[np.bool_] | None = None,
        from_other_layers: tuple[str, ...] = (),
    ) -> None:
        self.layer = layer
        self.output = output
        self.mask = mask
        self.from_other_layers = from_other_layers
        self._state = None if state is None else self._given(state, len(leaves(state)[0]))

    def __repr__(self) -> str:
        said = [f"{name}={value!r}" for name, value in vars(self.output).items() if value not in (False, "")]
        if self.mask is not None:
            said.append(f"mask of shape {self.mask.shape}")
        if self.from_other_layers:
            said.append(f"from_other_layers={self.from_other_layers!r}")
        return f"KerasLayer({', '.join([repr(self.layer), *said])})"

    def __call__(
        self, x: Array, mask: Array | None = None, initial_state: Array | None = None, *, num_threads: int = 1
    ) -> KerasResult:
        """Runs x (B, T, I), T at least 1, and returns the output, or a tuple of it and the states with return_state.

        The output is (B, T, H), in the order of the run with go_backwards, or that of the last step, (B, H), without
        return_sequences. A Bidirectional layer merges those of both directions: 2 * H for "concat", H for "sum", "mul"
        and "ave", and for None both, as the first two items of the tuple.

        `mask` is bools, or integers 0 and 1, (B, T) in any pattern; None is the layer's own. At a step where it is
        False the state is held, and the output is zero with zero_output_for_mask, and else that of the step before,
        zero at the first.

        `initial_state` is h (B, H), or a list: [h], an LSTM's [h, c], of StackedRNNCells one such for each cell, of a
        Bidirectional layer those of the forward direction and then of the backward one. Without it the state is the
        constant that the model gives, or else zeros, or, of a stateful layer, that after the last call;
        :meth:`reset_state` makes it zeros. States return likewise.

        Raises TypeError or ValueError naming the argument for what does not fit.
        """
        try:
            x = _core.as_array(x, "x")
        except TypeError as error:
            raise ValueError(str(error)) from error
        if x.ndim != 3 or x.shape[1] < 1:
            raise ValueError(f"x: expected shape (batch, time, features) with a step at least, got {x.shape}")
        mask = self._mask(mask, x.shape)
        state = self._given(initial_state, len(x)) if initial_state is not None else self._remembered(len(x))
        run: Any = self.layer
        has_c = len(self._parts) == 2
        y, final = run(
            x,
            None if state is None else state if has_c else state[0],
            mask=mask,
            num_threads=num_threads,
        )
        finals: tuple[FloatArray, ...] = final if has_c else (final,)
        if self.output.stateful:
            self._state = finals
        directions = np.split(y, 1 + self.output.bidirectional, axis=-1)
        outputs = [self._output(part, mask, backwards=self._backwards(i)) for i, part in enumerate(directions)]
        merged = self._merged(outputs)
        if self.output.return_state:
            return (*merged, *self._states(finals))
        return merged if len(merged) > 1 else merged[0]

    def __getstate__(self) -> dict[str, Any]:
        # Of NumPy's nothing: how its arrays are pickled has changed between versions.
        return vars(self) | {"_state": [(part.dtype.str, part.shape, part.tobytes()) for part in self._state or ()]}

    def __setstate__(self, attributes: dict[str, Any]) -> None:
        # An older pickle has arrays.
        state = [array_of(part) for part in attributes["_state"] or ()]
        vars(self).update(attributes, _state=tuple(state) or None)

    def reset_state(self) -> None:
        """Forgets the state of a stateful layer."""
        self._state = None

    @property
    def _parts(self) -> str:
        return "hc" if isinstance(self.layer, LSTM) else "h"

    def _backwards(self, direction: int) -> bool:
        return direction == 1 or self.layer.reverse

    def _output(self, y: FloatArray, mask: Array | None, *, backwards: bool) -> FloatArray:
        """One direction's output: y is aligned with x, and at masked steps repeats the state."""
        if mask is not None:
            shown = _core.as_array(mask, "mask").astype(np.bool_)
            if not self.output.zero_output_for_mask:
                order = slice(None, None, -1 if backwards else 1)
                shown = np.logical_or.accumulate(shown[:, order], axis=1)[:, order]
            y = np.where(shown[..., None], y, np.float32(0))
        if not self.output.return_sequences:
            return y[:, 0 if backwards else -1]
        return y[:, ::-1] if backwards and not self.output.bidirectional else y

    def _mask(self, mask: Array | None, shape: tuple[int, ...]) -> Any:
        """The mask of a call: the one given, or the layer's own."""
        if mask is not None:
            return mask
        if self.mask is None:
            return None
        if self.mask.shape not in (shape[:2], (1, shape[1])):
            raise ValueError(
                f"mask: the model's own, of shape {self.mask.shape}, does not fit {shape[0]} rows of {shape[1]} steps; "
                "give one"
            )
        return np.repeat(self.mask, shape[0] // len(self.mask), axis=0)

    def _merged(self, outputs: list[FloatArray]) -> tuple[FloatArray, ...]:
        if len(outputs) == 1:
            return (outputs[0],)
        forward, backward = outputs
        if self.output.merge_mode is None:
            return forward, backward
        if self.output.merge_mode == "concat":
            return (np.concatenate(outputs, axis=-1),)
        if self.output.merge_mode == "mul":
            return (forward * backward,)
        total: FloatArray = forward + backward
        return (total if self.output.merge_mode == "sum" else np.float32(0.5) * total,)

    def _states(self, finals: Sequence[FloatArray]) -> list[Any]:
        """The final states in the arrangement of Keras, cell by cell or direction by direction."""
        each = [list(parts) for parts in zip(*finals, strict=True)]
        return each if self.output.stacked else list(chain.from_iterable(each))

    def _remembered(self, batch: int) -> tuple[FloatArray, ...] | None:
        """What a call without a state starts from; None is what the plain layer starts from."""
        own: Any = self.layer.initial_state
        if own is not None:
            rows = (own[0] if isinstance(own, tuple) else own).shape[1]
            if rows not in (1, batch):
                raise ValueError(
                    f"initial_state: the model's own is for a batch of {rows} rows, x has {batch}; give one"
                )
            return None
        if self._state is not None and self._state[0].shape[1] != batch:
            raise ValueError(
                f"x: expected the batch of the remembered state, {self._state[0].shape[1]} rows, got {batch}; "
                "call reset_state() first"
            )
        return self._state

    def _given(self, value: Any, batch: int) -> tuple[FloatArray, ...]:
        """An initial state in the arrangement of Keras as that of the layer: h, or h and c, (cells, B, H)."""
        parts = len(self._parts)
        count = parts * self.layer.num_layers * (1 + self.layer.bidirectional)
        arrays = [_core.as_array(array, "initial_state") for array in leaves(value)]
        shape = (batch, self.layer.hidden_size)
        if len(arrays) != count or any(array.shape != shape for array in arrays):
            raise ValueError(
                f"initial_state: expected {count} arrays of shape {shape}, got {[array.shape for array in arrays]}"
            )
        return tuple(np.stack(arrays[i::parts]) for i in range(parts))


def leaves(value: Any) -> list[Any]:
    """The arrays of nested lists and tuples, in order."""
    return list(chain.from_iterable(map(leaves, value))) if isinstance(value, (list, tuple)) else [value]
