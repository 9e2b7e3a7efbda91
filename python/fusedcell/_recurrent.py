"""What cells and layers share: weights that are packed, and what can be asked of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import index
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

import numpy as np

from . import _core, _options
from ._base import check_isa
from ._dtypes import MIXED, QUANTISED, Dtype, check_dtype, common_dtype, with_changes, with_inputs
from ._file_format import Description, Tensors, to_bytes, to_tensors
from .cell_options import CellOptions
from .weights.floats import to_float32
from .weights.tensors import to_array

if TYPE_CHECKING:
    from typing_extensions import Self


def make_stack(
    kind: str,
    cells: Iterable[Mapping[str, Any]],
    suffixes: Sequence[str],
    num_directions: int,
    dtype: Dtype | Sequence[Mapping[str, str]],
    isa: str | None,
    input_scales: Sequence[float] = (),
    options: Sequence[CellOptions] = (),
    reverse: bool = False,
) -> _core.Stack:
    """Packs one mapping of arrays per layer and direction; `suffixes` complete their names in errors.

    `dtype` is that of all matrices, or one mapping per layer and direction that has each one's by its name. `options`
    are one per mapping, or none. `reverse` is for one direction, which then runs from each row's last step to its
    first.

    Raises UnsupportedError for an unknown activation, TypeError or ValueError for what does not fit, or is not finite.
    """
    tier = check_isa(isa)
    arrays = [
        {name: _narrowed(value, name + suffix) for name, value in cell.items()}
        for cell, suffix in zip(cells, suffixes, strict=True)
    ]
    kind, checked = _options.to_kernels(kind, options, suffixes)
    dtypes = dtype if isinstance(dtype, str) else [dict(names) for names in dtype]
    stack = _core.Stack(kind, arrays, list(suffixes), num_directions, dtypes, tier, input_scales, checked, reverse)
    _warn_of_rows(lambda: arrays, stack, suffixes)
    return stack


def _warn_of_rows(
    cells: Callable[[], Sequence[Mapping[str, Any]]], stack: _core.Stack, suffixes: Sequence[str]
) -> None:
    """Of the float arrays that int8 weights are made of."""
    if any(dtype in QUANTISED for types in stack.dtypes for dtype in types.values()):
        from ._dominance import warn_of_cells  # which other types need not load

        warn_of_cells(cells(), stack.dtypes, suffixes)


def _narrowed(value: Any, name: str) -> Any:
    """Tensors as arrays, and wide floats as float32, of which NumPy's own conversion makes infinities; others as is."""
    value = to_array(value, name)
    is_wide = isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.itemsize > 4
    return to_float32(value, name) if is_wide else value


class Recurrent:
    """Packed weights that never change, and what can be asked of them."""

    _stack: _core.Stack

    @property
    def stack(self) -> _core.Stack:
        """The packed weights as the extension has them, for the package's own modules."""
        return self._stack

    @property
    def input_size(self) -> int:
        """Features of x."""
        return self._stack.input_size

    @property
    def hidden_size(self) -> int:
        """Units of each layer and direction."""
        return self._stack.hidden_size

    @property
    def output_size(self) -> int:
        """Features of y, of both directions together where there are two; of a cell the size of h."""
        return self._stack.num_directions * (self.proj_size or self.hidden_size)

    @property
    def proj_size(self) -> int:
        """Size of h where there is a projection, else 0."""
        return self._stack.proj_size

    @property
    def dtype(self) -> Dtype | Literal["mixed"]:
        """Type in which the weights are stored, "mixed" where matrices differ."""
        return common_dtype(self._stack.dtypes)

    @property
    def dtypes(self) -> dict[str, Dtype]:
        """Type in which each matrix is stored, by its name."""
        cells = zip(self._suffixes(), self._stack.dtypes, strict=True)
        return {name + suffix: check_dtype(dtype) for suffix, cell in cells for name, dtype in cell.items()}

    @property
    def densities(self) -> dict[str, float]:
        """The part of each matrix's blocks that is stored, by its name; 1 where it is not sparse (docs/sparse.md)."""
        cells = zip(self._suffixes(), self._stack.densities, strict=True)
        return {name + suffix: density for suffix, cell in cells for name, density in cell.items()}

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
        """Those of :attr:`nbytes` that are matrices in :attr:`dtypes`, with zeros that pad them to whole vectors."""
        return self._stack.matrix_nbytes

    @property
    def input_scales(self) -> tuple[float, ...] | None:
        """The fixed scales of int8 inputs, one a layer; None where each row has its own at each step."""
        return tuple(self._stack.input_scales) or None

    @property
    def cell_options(self) -> tuple[CellOptions, ...]:
        """What each layer and direction does other than PyTorch's formulas; alpha, beta and clip are float32's."""
        return _options.of_stack(self._stack)

    def astype(
        self,
        dtype: str | Mapping[str, str],
        *,
        inputs: str | None = None,
        input_scales: Sequence[float] | None = None,
    ) -> Self:
        """A new layer or cell with the weights, as they are stored in this one, rounded to `dtype`, ties to even.

        `dtype` is that of all matrices, or a mapping by their names, with a layer's suffix or for all layers without
        it, ``{"weight_ih_l0": "float16", "weight_hh": "int8"}``; what is not named stays as it is.

        `inputs` is what int8 weights multiply: "int8", or "int16" where x or h holds large values beside small ones
        that count; :attr:`dtypes` then says "int8_int16", which is a dtype too, for some of the matrices alone.

        `input_scales`, for layers whose weight_ih are all int8, are one a layer, as
        :func:`fusedcell.quantization.input_scales` finds them: x is then rounded to multiples of its layer's scale and
        saturates at 127 of them. None lets each row have its own scale at each step; with a mapping, None leaves fixed
        scales as they are while every weight_ih is int8.

        Raises UnsupportedError for an unknown dtype or other inputs, ValueError, naming the array, if it cannot hold
        one of the weights, for a name that is no matrix of this one's, or for scales that are not one a layer from
        2^-100 to 2^100.
        """
        dtypes = with_changes(self._stack.dtypes, with_inputs(dtype, inputs), self._suffixes())
        stays = isinstance(dtype, Mapping) and all(cell["weight_ih"] in QUANTISED for cell in dtypes)
        scales = input_scales if input_scales is not None else self._stack.input_scales if stays else ()
        stack = self._stack.astype(dtypes, scales, self._suffixes())
        if input_scales is not None and not stack.input_scales:
            raise ValueError(
                "input_scales: expected one a layer, got none; None is for those that rows have themselves"
            )
        _warn_of_rows(self._stack.arrays, stack, self._suffixes())
        return self._with_stack(stack)

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

    def _to_tensors(self) -> tuple[Description, Tensors]:
        """What is in its file."""
        return to_tensors(self._stack, type(self).__name__, self._suffixes())

    @staticmethod
    @abstractmethod
    def _from_bytes(data: bytes) -> Any:
        """What pickles name: the loader of the file's bytes."""

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        data = to_bytes(*self._to_tensors())
        # From protocol 5 on a buffer, which whoever pickles may carry beside the pickle.
        return self._from_bytes, (PickleBuffer(data) if index(protocol) >= 5 else data,)

    def __copy__(self) -> Self:
        return self._with_stack(self._stack)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self._with_stack(self._stack)  # packed weights never change

    def __repr__(self) -> str:
        options = [f"{self.input_size}", f"{self.hidden_size}", *self._options()]
        dtype = self.dtypes if self.dtype == MIXED else self.dtype
        return f"{type(self).__name__}({', '.join(options)}, dtype={dtype!r}, isa={self.isa!r})"

    def _options(self) -> list[str]:
        kinds = {"rnn_relu": ["nonlinearity='relu'"], "gru_reset_before": ["reset_after=False"]}
        projection = [f"proj_size={self.proj_size}"] if self.proj_size else []
        peepholes = ["peepholes=True"] if self._stack.has_peepholes else []
        return kinds.get(self._stack.kind, []) + projection + peepholes + _options.described(self.cell_options)
