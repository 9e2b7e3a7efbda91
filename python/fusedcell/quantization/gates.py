"""What a layer makes of its pre-activations, in float64 by the reference's functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..layers import Layer
from ..reference.activations import activation, activation_parameters
from .products import Array


@dataclass(frozen=True)
class LayerGates:
    """The gates of a layer of one layer and one direction, with its options."""

    functions: tuple[Callable[[Array], Array], ...]
    clip: float
    clip_before_h: bool
    input_forget: bool
    output_peephole: Array | None

    @classmethod
    def of(cls, layer: Layer) -> LayerGates:
        """Those of this layer."""
        ((activations, clip, clip_before_h, input_forget),) = layer._stack.options
        functions = []
        for name, alpha, beta in activations:
            values = {"alpha": alpha, "beta": beta}
            functions.append(activation(name, **{key: values[key] for key in activation_parameters(name)}))
        peephole = layer._stack.arrays()[0].get("weight_peephole")
        return cls(
            tuple(functions),
            np.inf if clip is None else clip,
            clip_before_h,
            input_forget,
            None if peephole is None else peephole[2 * layer.hidden_size :].astype(np.float64),
        )

    def gate(self, a: Array) -> Array:
        """f of a pre-activation: a gate of an LSTM or GRU."""
        return self.functions[0](self._clipped(a))

    def output(self, a_o: Array, c: Array) -> Array:
        """o h(c) of an LSTM, with the pre-activation of o as it is without a peephole, and the new c."""
        o = self.gate(a_o if self.output_peephole is None else a_o + self.output_peephole * c)
        return o * self.functions[2](self._clipped(c) if self.clip_before_h else c)

    def _clipped(self, a: Array) -> Array:
        return np.clip(a, -self.clip, self.clip)
