"""One step at a time, with the state in the caller's hands.

Weights are in PyTorch layout: ``weight_ih`` (G * H, I), ``weight_hh`` (G * H, H), biases (G * H,), with gates in the
order i f g o (LSTM) or r z n (GRU). Any bias may be absent. Arrays are copied; a cell never changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy.typing as npt

from ._base import ARRAY_NAMES, FloatArray, check_gates, check_nonlinearity
from ._core import Stack, load_layer
from ._dtypes import check_dtype
from ._options import nonlinearity_of
from ._recurrent import Recurrent, make_stack
from .errors import UnsupportedError
from .weights.state_names import StateDict, cell_arrays

if TYPE_CHECKING:
    from typing_extensions import Self

Array: TypeAlias = npt.ArrayLike
"""Anything that NumPy can view as an array of floats, PyTorch's tensors too; C-contiguous float32 is the fast path."""


def cell_of(stack: Stack) -> Cell:
    """A cell on these packed weights."""
    cls = LSTMCell if stack.kind == "lstm" else GRUCell if stack.kind.startswith("gru") else RNNCell
    return cls._of(stack)


def cell_from_bytes(data: bytes) -> Cell:
    """The cell that a pickle holds as a file's bytes."""
    return cell_of(load_layer(bytes(data))[0])


class Cell(Recurrent):
    """What the three kinds of cells share."""

    _arrays: ClassVar[tuple[str, ...]] = ARRAY_NAMES[:4]
    _from_bytes = staticmethod(cell_from_bytes)

    # Any: which options there are, each class has in its constructor.
    @classmethod
    def from_state_dict(cls, mapping: StateDict, prefix: str = "", **options: Any) -> Self:
        """Makes a cell from the names of PyTorch's cells: ``weight_ih``, ``weight_hh``, ``bias_ih``, ``bias_hh``.

        `mapping` and `prefix` are as in :meth:`fusedcell.LSTM.from_state_dict`, and so are the errors; `options` are
        those of the class.

        >>> import numpy as np, fusedcell as fc
        >>> weights = {"cell.weight_ih": np.ones((4, 1)), "cell.weight_hh": np.zeros((4, 1))}
        >>> fc.LSTMCell.from_state_dict(weights, "cell", isa="scalar")
        LSTMCell(1, 1, dtype='float32', isa='scalar')
        """
        from .weights.state_files import open_state_dict  # with archives, which few need

        with open_state_dict(mapping) as state:
            prefix = state.found(prefix)
            if not state.is_cell(prefix):
                raise UnsupportedError(
                    f"mapping: {prefix + 'weight_hh_l0'!r} is an array of a layer; supported: cells, whose names have "
                    f"no end such as _l0; use fusedcell.{cls.__name__.removesuffix('Cell')}.from_state_dict"
                )
            return cls(**cell_arrays(state.module(prefix), prefix, cls._arrays), **options)

    def __init__(self, kind: str, dtype: str, isa: str | None, **arrays: Array | None) -> None:
        known = check_dtype(dtype)
        if isinstance(arrays["weight_ih"], int):
            name = type(self).__name__
            raise TypeError(
                f"{name}: a cell is made of trained weights, {name}(weight_ih, weight_hh, bias_ih, bias_hh), or by "
                f"{name}.from_state_dict(mapping) or fusedcell.from_torch(module); weight_ih: expected an array of "
                "floats, got int"
            )
        check_gates(kind, arrays, "")
        self._stack = make_stack(kind, [arrays], self._suffixes(), 1, known, isa)


class RNNCell(Cell):
    """h' = f(W x + b_ih + R h + b_hh), f = tanh or relu (``torch.nn.RNNCell``).

    Weights are floats, ``weight_ih`` W (H, I) and ``weight_hh`` R (H, H), and biases (H,). A call is one step.

    Raises UnsupportedError for another nonlinearity or dtype, ValueError for a tier that this machine does not run,
    and TypeError or ValueError, naming the array, for weights that are not floats, not finite, or whose shapes do not
    fit; a call so for its arguments.

    >>> import numpy as np, fusedcell as fc
    >>> cell = fc.RNNCell(np.ones((2, 3)), np.zeros((2, 2)), nonlinearity="relu")
    >>> cell(np.ones(3), np.zeros(2))
    array([3., 3.], dtype=float32)
    """

    def __init__(
        self,
        weight_ih: Array,
        weight_hh: Array,
        bias_ih: Array | None = None,
        bias_hh: Array | None = None,
        *,
        nonlinearity: str = "tanh",
        dtype: str = "float32",
        isa: str | None = None,
    ) -> None:
        check_nonlinearity(nonlinearity)
        arrays = {"weight_ih": weight_ih, "weight_hh": weight_hh, "bias_ih": bias_ih, "bias_hh": bias_hh}
        super().__init__(f"rnn_{nonlinearity}", dtype, isa, **arrays)

    @property
    def nonlinearity(self) -> str:
        """ "tanh" or "relu"."""
        return nonlinearity_of(self._stack)

    def __call__(self, x: Array, state: Array | None = None) -> FloatArray:
        """One step: x (I,) or (B, I), state h, (H,) or (B, H), zeros if None. Returns the new h."""
        return self._stack.step(x, state)[0]


class GRUCell(Cell):
    """h' = (1 - z) n + z h with r, z = sigmoid(W x + b_ih + R h + b_hh) and, by ``reset_after``,

    - True (PyTorch, Keras's default, ONNX linear_before_reset=1): n = tanh(W_n x + b_in + r (R_n h + b_hn))
    - False (Cho et al. 2014, ONNX's default): n = tanh(W_n x + b_in + R_n (r h) + b_hn)

    Weights are (3 H, I) and (3 H, H), and biases (3 H,), with rows in the order r z n. Errors as for :class:`RNNCell`.
    """

    def __init__(
        self,
        weight_ih: Array,
        weight_hh: Array,
        bias_ih: Array | None = None,
        bias_hh: Array | None = None,
        *,
        reset_after: bool = True,
        dtype: str = "float32",
        isa: str | None = None,
    ) -> None:
        arrays = {"weight_ih": weight_ih, "weight_hh": weight_hh, "bias_ih": bias_ih, "bias_hh": bias_hh}
        super().__init__("gru_reset_after" if reset_after else "gru_reset_before", dtype, isa, **arrays)

    @property
    def reset_after(self) -> bool:
        """Whether the reset gate multiplies R h + b rather than h."""
        return self._stack.kind == "gru_reset_after"

    def __call__(self, x: Array, state: Array | None = None) -> FloatArray:
        """One step: x (I,) or (B, I), state h, (H,) or (B, H), zeros if None. Returns the new h."""
        return self._stack.step(x, state)[0]


class LSTMCell(Cell):
    """c' = f c + i g and h' = o tanh(c'), with i, f, o = sigmoid and g = tanh of W x + b_ih + R h + b_hh
    (``torch.nn.LSTMCell``).

    Weights are (4 H, I) and (4 H, H), and biases (4 H,), with rows in the order i f g o.
    With ``weight_hr`` (P, H), h' = weight_hr (o tanh(c')) has size P, and ``weight_hh`` is (4 H, P) (Sak et al. 2014).
    Errors as for :class:`RNNCell`.
    """

    _arrays: ClassVar[tuple[str, ...]] = ARRAY_NAMES[:5]

    def __init__(
        self,
        weight_ih: Array,
        weight_hh: Array,
        bias_ih: Array | None = None,
        bias_hh: Array | None = None,
        *,
        weight_hr: Array | None = None,
        dtype: str = "float32",
        isa: str | None = None,
    ) -> None:
        arrays = {"weight_ih": weight_ih, "weight_hh": weight_hh, "bias_ih": bias_ih, "bias_hh": bias_hh}
        super().__init__("lstm", dtype, isa, weight_hr=weight_hr, **arrays)

    def __call__(self, x: Array, state: tuple[Array, Array] | None = None) -> tuple[FloatArray, FloatArray]:
        """One step: x (I,) or (B, I), state (h, c) to match, zeros if None. Returns the new (h, c)."""
        h, c = unpack_state(state)
        h_next, c_next = self._stack.step(x, h, c)
        assert c_next is not None  # an LSTM has a cell state
        return h_next, c_next


def unpack_state(state: Any, advice: str = "") -> tuple[Any, Any]:
    """The (h, c) of an LSTM, or (None, None); TypeError, which ends in `advice`, for anything else."""
    if state is None:
        return None, None
    if not isinstance(state, (tuple, list)) or len(state) != 2:
        raise TypeError(f"state: expected a pair (h, c), got {type(state).__name__}{advice}")
    return state[0], state[1]
