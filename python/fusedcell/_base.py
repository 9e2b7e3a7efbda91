"""What cells and layers share: names, options, and the properties of packed weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import index
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex, TypeAlias

import numpy as np
import numpy.typing as npt

from . import _core, _options
from ._kinds import KINDS
from .cell_options import CellOptions
from .convert.floats import to_float32
from .convert.torch_tensors import to_array
from .errors import UnsupportedError

if TYPE_CHECKING:
    from typing_extensions import Self

FloatArray: TypeAlias = npt.NDArray[np.float32]
Dtype: TypeAlias = Literal["float32", "bfloat16", "float16", "int8"]

DTYPES: tuple[Dtype, ...] = ("float32", "bfloat16", "float16", "int8")
NONLINEARITIES = ("tanh", "relu")
_IN_WORDS = {1: "one gate", 3: "three gates", 4: "four gates"}
GATES = {kind.class_name: (len(kind.gates), _IN_WORDS[len(kind.gates)]) for kind in KINDS.values()}
ARRAY_NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr", "weight_peephole")
MATRIX_NAMES = ("weight_ih", "weight_hh", "weight_hr")  # those that are stored in the dtype


def check_dtype(dtype: str) -> Dtype:
    """Returns the dtype, or raises UnsupportedError that lists what there is."""
    for known in DTYPES:
        if dtype == known:
            return known
    raise UnsupportedError(f"dtype={dtype!r} is not supported; supported: {', '.join(DTYPES)}")


def check_nonlinearity(nonlinearity: str) -> str:
    """Returns the nonlinearity, or raises UnsupportedError that lists what there is."""
    if nonlinearity not in NONLINEARITIES:
        raise UnsupportedError(
            f"nonlinearity={nonlinearity!r} is not supported; supported: {', '.join(NONLINEARITIES)}"
        )
    return nonlinearity


def make_stack(
    kind: str,
    cells: Iterable[Mapping[str, Any]],
    suffixes: Sequence[str],
    num_directions: int,
    dtype: Dtype,
    isa: str | None,
    input_scales: Sequence[float] = (),
    options: Sequence[CellOptions] = (),
    reverse: bool = False,
) -> _core.Stack:
    """Packs one mapping of arrays per layer and direction; `suffixes` complete their names in errors.

    `options` are one per mapping, or none. `reverse` is for one direction, which then runs from each row's last step to
    its first.

    Raises UnsupportedError for an unknown activation, TypeError or ValueError for what does not fit, or is not finite.
    """
    if isa is not None and not isinstance(isa, str):
        raise TypeError(f"isa: expected a string or None, got {type(isa).__name__}")
    arrays = [
        {name: _narrowed(value, name + suffix) for name, value in cell.items()}
        for cell, suffix in zip(cells, suffixes, strict=True)
    ]
    kind, checked = _options.to_kernels(kind, options, suffixes)
    return _core.Stack(kind, arrays, list(suffixes), num_directions, dtype, isa or "", input_scales, checked, reverse)


def class_of_gates(weight_hh: Any, weight_hr: Any = None) -> str:
    """The class whose number of gates an array has by its shape, "" where that is none's."""
    shape: tuple[int, ...] = tuple(getattr(weight_hh, "shape", ()))
    hidden = shape if weight_hr is None else tuple(getattr(weight_hr, "shape", ()))
    if len(shape) != 2 or len(hidden) != 2 or shape[0] < 1:
        return ""
    return next((name for name, (gates, _) in GATES.items() if shape[0] == gates * hidden[1]), "")


def check_gates(kind: str, arrays: Mapping[str, Any], suffix: str) -> None:
    """Raises ValueError for arrays of one of the other kinds of layer or cell, by the number of their gates."""
    asked, weight_hh = kind.partition("_")[0].upper(), arrays.get("weight_hh")
    found = class_of_gates(weight_hh, arrays.get("weight_hr"))
    if weight_hh is not None and found not in ("", asked):
        rows = f"{GATES[asked][0]} * hidden_size".removeprefix("1 * ")
        raise ValueError(
            f"weight_hh{suffix}: expected shape ({rows}, hidden_size), got {tuple(weight_hh.shape)}, which has "
            f"{GATES[found][1]}: use fusedcell.{found}{'' if suffix else 'Cell'}"
        )


def _narrowed(value: Any, name: str) -> Any:
    """Tensors as arrays, and wide floats as float32, of which NumPy's own conversion makes infinities; others as is."""
    value = to_array(value, name)
    is_wide = isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.itemsize > 4
    return to_float32(value, name) if is_wide else value


class Recurrent:
    """Packed weights that never change, and what can be asked of them."""

    _stack: _core.Stack

    @property
    def input_size(self) -> int:
        """Features of x."""
        return self._stack.input_size

    @property
    def hidden_size(self) -> int:
        """Units of each layer and direction."""
        return self._stack.hidden_size

    @property
    def proj_size(self) -> int:
        """Size of h where there is a projection, else 0."""
        return self._stack.proj_size

    @property
    def dtype(self) -> Dtype:
        """Type in which the weights are stored."""
        return check_dtype(self._stack.dtype)

    @property
    def isa(self) -> str:
        """Instruction-set tier that runs these weights."""
        return self._stack.isa

    @property
    def nbytes(self) -> int:
        """Bytes of packed weights: matrices, biases, and the scales and sums of an int8 matrix's rows."""
        return self._stack.nbytes

    @property
    def matrix_nbytes(self) -> int:
        """Those of :attr:`nbytes` that are matrices in :attr:`dtype`, with zeros that pad them to whole vectors."""
        return self._stack.matrix_nbytes

    @property
    def input_scales(self) -> tuple[float, ...] | None:
        """The fixed scales of int8 inputs, one a layer; None where each row has its own at each step."""
        return tuple(self._stack.input_scales) or None

    @property
    def cell_options(self) -> tuple[CellOptions, ...]:
        """What each layer and direction does other than PyTorch's formulas; alpha, beta and clip are float32's."""
        return _options.of_stack(self._stack)

    def astype(self, dtype: str, *, input_scales: Sequence[float] | None = None) -> Self:
        """A new layer or cell with the weights, as they are stored in this one, rounded to `dtype`, ties to even.

        `input_scales`, for int8, are one a layer, as :func:`fusedcell.quantization.input_scales` finds them: x is then
        rounded to multiples of its layer's scale and saturates at 127 of them. None lets each row have its own scale at
        each step.

        Raises UnsupportedError for an unknown dtype, ValueError, naming the array, if it cannot hold one of the
        weights, or for scales that are not one a layer from 2^-100 to 2^100.
        """
        scales = () if input_scales is None else input_scales
        return self._with_stack(self._stack.astype(check_dtype(dtype), scales, self._suffixes()))

    def _suffixes(self) -> list[str]:
        """The ends of array names in the order of packing."""
        return [""]

    @classmethod
    def _of(cls, stack: _core.Stack) -> Self:
        instance = object.__new__(cls)
        instance._stack = stack
        return instance

    def _with_stack(self, stack: _core.Stack) -> Self:
        other = self._of(stack)
        vars(other).update(vars(self), _stack=stack)
        return other

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        from . import storage  # which imports the classes

        return storage.from_picklable, storage.to_picklable(self, index(protocol))

    def __copy__(self) -> Self:
        return self._with_stack(self._stack)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self._with_stack(self._stack)  # packed weights never change

    def __repr__(self) -> str:
        options = [f"{self.input_size}", f"{self.hidden_size}", *self._options()]
        return f"{type(self).__name__}({', '.join(options)}, dtype={self.dtype!r}, isa={self.isa!r})"

    def _options(self) -> list[str]:
        kinds = {"rnn_relu": ["nonlinearity='relu'"], "gru_reset_before": ["reset_after=False"]}
        projection = [f"proj_size={self.proj_size}"] if self.proj_size else []
        peepholes = ["peepholes=True"] if self._stack.has_peepholes else []
        return kinds.get(self._stack.kind, []) + projection + peepholes + _options.described(self.cell_options)
