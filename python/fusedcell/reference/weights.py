"""The weights of one direction of one layer, and how PyTorch's state dictionaries name them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias

from numpy.typing import ArrayLike

from .arrays import Array, as_float64, check_shape
from .int8 import Int8Matrix, IsInt8, Matrix, MatrixLike


@dataclass(frozen=True, eq=False)
class Weights:
    """One direction of one layer in PyTorch's layout; G gates, each of H rows, in the order i f g o or r z n.

    weight_ih (G*H, I), weight_hh (G*H, H) or, with a projection, (G*H, P); bias_ih and bias_hh (G*H,), each optional.
    LSTM only: weight_hr (P, H), the projection, and weight_peephole (3*H,) in the order i f o. The matrices are float64
    or, from `as_int8`, `Int8Matrix`.
    """

    weight_ih: Matrix
    weight_hh: Matrix
    bias_ih: Array | None = None
    bias_hh: Array | None = None
    weight_hr: Matrix | None = None
    weight_peephole: Array | None = None

    @classmethod
    def checked(
        cls,
        gates: int,
        weight_ih: MatrixLike,
        weight_hh: MatrixLike,
        bias_ih: ArrayLike | None = None,
        bias_hh: ArrayLike | None = None,
        weight_hr: MatrixLike | None = None,
        weight_peephole: ArrayLike | None = None,
        *,
        suffix: str = "",
        int8: IsInt8 = False,
    ) -> Weights:
        """Converts to float64 or int8 and checks every shape; errors name the argument followed by `suffix`."""
        given: Iterable[tuple[str, MatrixLike | None]] = zip(
            (field.name for field in fields(cls)),
            (weight_ih, weight_hh, bias_ih, bias_hh, weight_hr, weight_peephole),
            strict=True,
        )
        arrays: dict[str, Any] = {
            name: value if isinstance(value, Int8Matrix) else as_float64(name + suffix, value)
            for name, value in given
            if value is not None
        }
        weights = cls(**arrays)

        check_shape("weight_ih" + suffix, weights.weight_ih, (f"{gates}*H", "I"))
        rows = weights.weight_ih.shape[0]
        if rows == 0 or rows % gates:
            raise ValueError(f"weight_ih{suffix}: expected {gates}*H rows with H of at least 1, got {rows}")
        hidden = rows // gates
        if weights.weight_hr is not None:
            check_shape("weight_hr" + suffix, weights.weight_hr, ("P", hidden))
        expected: dict[str, tuple[int, ...]] = {
            "weight_hh": (rows, hidden if weights.weight_hr is None else weights.weight_hr.shape[0]),
            "bias_ih": (rows,),
            "bias_hh": (rows,),
            "weight_peephole": (3 * hidden,),
        }
        for name, shape in expected.items():
            if name in arrays:
                check_shape(name + suffix, arrays[name], shape)
        return weights.as_int8(int16=int8 == "int16", suffix=suffix) if int8 else weights

    def as_int8(self, input_scale: float | None = None, *, int16: bool = False, suffix: str = "") -> Weights:
        """Returns the weights with int8 matrices, with the static scale of x, if any, and inputs in int16, if so asked.

        Biases stay as they are.

        Raises ValueError for a weight that is not finite, named with `suffix`, and for a scale outside [2^-100, 2^100].
        """

        def matrix(name: str, weights: MatrixLike, scale: float | None = None) -> Int8Matrix:
            return Int8Matrix.of(weights, scale, int16=int16, name=name + suffix)

        return replace(
            self,
            weight_ih=matrix("weight_ih", self.weight_ih, input_scale),
            weight_hh=matrix("weight_hh", self.weight_hh),
            weight_hr=None if self.weight_hr is None else matrix("weight_hr", self.weight_hr),
        )

    @property
    def input_size(self) -> int:
        """I"""
        return int(self.weight_ih.shape[1])

    @property
    def output_size(self) -> int:
        """The size of h: P with a projection, else H."""
        return int(self.weight_hh.shape[1])

    @property
    def hidden_size(self) -> int:
        """H, the number of units and the size of an LSTM's c."""
        return int((self.weight_hh if self.weight_hr is None else self.weight_hr).shape[1])


Layers: TypeAlias = Sequence[Sequence[Weights]]

_KEY = re.compile(rf"({'|'.join(field.name for field in fields(Weights))})(?:_l(0|[1-9][0-9]*)(_reverse)?)?")


def from_state_dict(mapping: Mapping[str, ArrayLike], prefix: str = "") -> list[list[Weights]]:
    """Returns the layers of a PyTorch state dictionary, each a list of its directions, forward first.

    The keys under `prefix` must be those of torch.nn.RNN, LSTM or GRU,
    `{weight_ih,weight_hh,bias_ih,bias_hh,weight_hr}_l{layer}{_reverse}`, or of a cell, which lack the suffix and make
    one layer of one direction; `weight_peephole`, which PyTorch does not have, joins them in the same way. Keys outside
    `prefix` are ignored. Values are anything NumPy can view as real numbers.

    Raises ValueError for a key under `prefix` that is none of these, for a missing weight, layer or direction.
    """
    directions: dict[tuple[int, bool], dict[str, Array]] = {}
    for key, value in mapping.items():
        if not key.startswith(prefix):
            continue
        match = _KEY.fullmatch(key[len(prefix) :])
        if match is None:
            raise ValueError(f"mapping: key {key!r} under prefix {prefix!r} is no weight of a recurrent layer")
        name, layer, reverse = match.groups()
        found = directions.setdefault((int(layer or 0), reverse is not None), {})
        if name in found:
            raise ValueError(f"mapping: key {key!r} gives {name} of layer 0 a second time")
        found[name] = as_float64(key, value)

    count = 1 + max((layer for layer, _ in directions), default=0)
    bidirectional = any(reverse for _, reverse in directions)
    layers: list[list[Weights]] = []
    for layer in range(count):
        layers.append([])
        for reverse in (False, True)[: 1 + bidirectional]:
            arrays = directions.get((layer, reverse), {})
            for name in ("weight_ih", "weight_hh"):
                if name not in arrays:
                    raise ValueError(f"mapping: expected key {prefix + name + key_suffix(layer, reverse)!r}, got none")
            layers[-1].append(Weights(**arrays))
    return layers


def key_suffix(layer: int, reverse: bool) -> str:
    """Returns PyTorch's key suffix of one direction of one layer, such as "_l1_reverse"."""
    return f"_l{layer}{'_reverse' if reverse else ''}"
