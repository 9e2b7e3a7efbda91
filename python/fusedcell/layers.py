"""Layers: stacked, bidirectional, projected; whole sequences in one call, or streams that go step by step.

Conventions are PyTorch's. With L layers, D directions (2 when bidirectional), H = hidden_size and P = proj_size or H:
x is (T, B, I), or (B, T, I) with batch_first, or (T, I); y is (T, B, D * P) in the same arrangement; states are
(L * D, B, P) for h and (L * D, B, H) for c, layer-major, without the batch axis where x has none.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from inspect import Signature
from itertools import islice
from operator import index
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, TypeAlias, overload

import numpy as np

from ._base import ARRAY_NAMES, FloatArray, check_gates, check_nonlinearity, describe_as
from ._core import Stack, Stream, as_array, expect_finite, load_layer, step_many
from ._dtypes import check_dtype
from ._file_format import Description, Tensors
from ._options import nonlinearity_of
from ._recurrent import Recurrent, make_stack
from ._stream_bytes import from_bytes
from .cells import Array, cell_of, unpack_state
from .errors import UnsupportedError
from .weights.floats import to_float32
from .weights.state_names import StateDict, cells_by_layer, check_directions, layer_suffixes
from .weights.tensors import to_array

if TYPE_CHECKING:
    from typing_extensions import Self

_MOST_ROWS = 2**31  # of a stream
_BY_NAME = "; lengths and masks are given by name"


class Trace(NamedTuple):
    """What a run went through, for each layer and direction in the states' order; None where it was not asked for.

    - cells: c after each step, (L * D, T, B, H), or (L * D, B, T, H) with batch_first, or (L * D, T, H) for one
      sequence. Where a step is masked c is held, and past a row's length it is zero.
    - gates: the values of i f g o or r z n at each step, likewise with the axes G, H at the end; zero where a step is
      masked or past the end.
    """

    cells: FloatArray | None
    gates: FloatArray | None


_StateOfLSTM: TypeAlias = tuple[FloatArray, FloatArray]


def layer_from_bytes(data: bytes, isa: str = "") -> Any:
    """The layer or cell of a file's bytes; ValueError, or UnsupportedError, that says what is wrong with them."""
    stack, is_cell, batch_first, state = load_layer(bytes(data), isa)
    if is_cell:
        return cell_of(stack)
    layer = layer_of(stack, batch_first)
    layer._initial_state = state or None
    return layer


class _NoArguments:
    """The signature of a class whose constructor is not for users, so that `help` shows none; objects keep theirs."""

    def __get__(self, layer: object | None, owner: type) -> Signature:
        if layer is not None:
            raise AttributeError("__signature__")
        return Signature()


class Layer(Recurrent):
    """What the three kinds of layers share.

    Made of trained weights by ``from_state_dict``, :func:`fusedcell.from_torch`, :func:`fusedcell.from_keras`,
    :func:`fusedcell.from_onnx` or :func:`fusedcell.load`.

    A call takes, with T steps, B rows, I inputs, L layers, D directions and outputs of size P, which is H where there
    is no projection:

    - x: floats (T, B, I), or (B, T, I) with batch_first, or (T, I) of one row. y has the shape of x, but D * P for I.
    - state: h_0 (L * D, B, P), and an LSTM's c_0 (L * D, B, H); without B where x has none. The final state is so, too.
    - lengths: integers (B,) from 0 to T in any order. Past a row's length y is zero, and the final state is that after
      its last step; the reverse direction starts at that step.
    - mask: bools, or integers 0 and 1, of x's shape without the last axis, in any pattern. Where False the step does
      not count: its x has no influence, the state is held, and y repeats it. With lengths too, a step counts if both
      say so.
    - num_threads: up to so many threads share the work, as many as pay and at most the CPUs that the process may use.
      The result has the same bits with any number.
    - return_gates, and return_cells of an LSTM: return a :class:`.Trace` too. y has the same bits with and without.

    Raises TypeError or ValueError that names the argument for what is not so, or is of another shape.

    >>> import numpy as np, fusedcell as fc
    >>> gru = fc.GRU.from_state_dict({"weight_ih_l0": np.ones((6, 3)), "weight_hh_l0": np.ones((6, 2))})
    >>> y, h_n = gru(np.ones((5, 4, 3)), lengths=[5, 2, 0, 1])
    >>> y.shape, h_n.shape
    ((5, 4, 2), (1, 4, 2))
    """

    _arrays: ClassVar[tuple[str, ...]] = ARRAY_NAMES[:4]
    _from_bytes = staticmethod(layer_from_bytes)
    _initial_state: tuple[FloatArray, ...] | None = None
    _batch_first = False
    __signature__ = _NoArguments()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        describe_as(cls, Layer)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Raises TypeError that says what makes a layer, as it is made of trained weights."""
        name = type(self).__name__
        raise TypeError(
            f"{name}: a layer is made of trained weights, by {name}.from_state_dict(mapping), fusedcell.from_torch"
            "(module), from_keras(model), from_onnx(model) or load(path)"
        )

    @classmethod
    def _of(cls, stack: Stack, *, batch_first: bool = False) -> Self:
        layer = super()._of(stack)
        layer._batch_first = bool(batch_first)
        return layer

    @property
    def num_layers(self) -> int:
        """Layers stacked on each other."""
        return self._stack.num_layers

    @property
    def bidirectional(self) -> bool:
        """Whether each layer also runs from the last step to the first."""
        return self._stack.num_directions == 2

    @property
    def reverse(self) -> bool:
        """Whether the one direction runs from each row's last step to its first; y stays aligned with x."""
        return self._stack.reverse

    @property
    def batch_first(self) -> bool:
        """Whether x and y are (B, T, ...) rather than (T, B, ...)."""
        return self._batch_first

    @property
    def initial_state(self) -> FloatArray | tuple[FloatArray, FloatArray] | None:
        """What calls without a state, and streams, start from: h, or (h, c) for an LSTM; None is zeros.

        The arrays are read-only, (num_layers * D, 1, size) for a batch of any size or (num_layers * D, B, size) for B.
        """
        state = self._initial_state
        return state if state is None or len(state) == 2 else state[0]

    def with_initial_state(self, h: Array, c: Array | None = None) -> Self:
        """A new layer on the same weights that starts from h, or h and c for an LSTM, where it is given no state.

        Shapes are those of :attr:`initial_state`. Raises TypeError or ValueError for arrays that are not so, or not of
        finite floats.
        """
        has_c = self._stack.kind == "lstm"
        if has_c != (c is not None):
            raise TypeError(f"c: expected {'an array' if has_c else 'None'}, got {type(c).__name__}")
        states = self.num_layers * self._stack.num_directions
        given = {"h": (h, self.proj_size or self.hidden_size)} | ({"c": (c, self.hidden_size)} if has_c else {})
        arrays: list[FloatArray] = []
        for name, (value, size) in given.items():
            source = as_array(to_array(value, name), name)
            if source.dtype.kind != "f":
                raise TypeError(f"{name}: expected an array of floats, got dtype {source.dtype}")
            array = to_float32(source, name).copy()
            rows = arrays[0].shape[1] if arrays else array.shape[1] if array.ndim == 3 else 1
            if array.shape != (states, rows, size) or rows < 1:
                raise ValueError(f"{name}: expected shape {(states, rows or 'batch', size)}, got {array.shape}")
            expect_finite(name, array)
            array.setflags(write=False)
            arrays.append(array)
        other = self._with_stack(self._stack)
        other._initial_state = tuple(arrays)
        return other

    def _start(self, batch: int) -> tuple[FloatArray, ...]:
        """The initial state for so many rows; ValueError if it is one for another number."""
        assert self._initial_state is not None
        rows = self._initial_state[0].shape[1]
        if rows not in (1, batch):
            raise ValueError(f"state: the layer's initial state is for a batch of {rows}, not {batch}; give one")
        if any(part.nbytes * batch > sys.maxsize for part in self._initial_state):
            raise MemoryError(f"state: the layer's initial state for a batch of {batch} is beyond any memory")
        return tuple(np.repeat(part, batch, axis=1) if rows == 1 else part for part in self._initial_state)

    def _start_of(self, x: Array) -> tuple[Any, Any]:
        """The h and c, or None, that a call starts from which is given no state, in the shape that x asks for."""
        if self._initial_state is None:
            return None, None
        shape = x.shape if hasattr(x, "shape") else as_array(x, "x").shape
        if len(shape) not in (2, 3):
            return None, None
        state = self._start(1 if len(shape) == 2 else shape[0 if self._batch_first else 1])
        return state[0], state[1] if len(state) == 2 else None

    def stream(self, batch_size: int = 1, *, num_threads: int = 1) -> Stream:
        """A new stream at :attr:`initial_state` on this layer's weights; any number can share them.

        Its blocks are arranged as this layer's x: (T, B, I), or (B, T, I) with batch_first. `num_threads` is as in a
        call of the layer.

        Raises UnsupportedError for a bidirectional or reverse layer, whose output needs the end of the sequence.
        """
        start = self._stream_start(batch_size, "batch_size")
        return Stream(self._stack, batch_size, num_threads, self._batch_first, *start)

    def _stream_start(self, batch: int, name: str) -> tuple[FloatArray, ...]:
        """What streams of so many rows start from: empty, h, or h and c. Errors as for :meth:`stream`.

        `name` is what errors call `batch`, which whoever makes the streams checks; beyond what it can be nothing of
        that size is made here.
        """
        self._check_has_streams()
        try:
            rows = index(batch)
        except TypeError:
            raise TypeError(f"{name}: expected an integer, got {type(batch).__name__}") from None
        return self._start(rows) if self._initial_state is not None and 1 <= rows <= _MOST_ROWS else ()

    def _check_has_streams(self) -> None:
        if not self._stack.has_streams:
            which = "bidirectional" if self.bidirectional else "reverse"
            raise UnsupportedError(
                f"stream: a {which} layer needs the whole sequence, so it has no streams; call the layer instead"
            )

    def step_many(
        self, streams: Iterable[Stream], x: Array, out: FloatArray | None = None, *, num_threads: int = 1
    ) -> FloatArray:
        """One time step of many streams of this layer, wherever they are, in one call that reads the weights once.

        x is (N, input_size), where N counts the rows of all streams, in the order of `streams`. Returns h,
        (N, output_size), in `out` if that is given: a C-contiguous float32 array of that shape, away from the states.
        Every stream has the bits, in h and in its state, of a step of its own. `num_threads` is as in a call of the
        layer.

        Raises TypeError or ValueError for what is no stream of this layer or comes twice, or for x or out that are not
        as described, RuntimeError if another thread is using one of the streams; all of them are then as they were.
        UnsupportedError as for :meth:`stream`.
        """
        self._check_has_streams()
        return step_many(self._stack, streams, x, out, num_threads)

    def stream_from_bytes(self, data: bytes, *, num_threads: int = 1) -> Stream:
        """The stream whose ``to_bytes`` gave `data`: its state, batch size, and what it resets to.

        Its blocks are arranged as this layer's x. `num_threads` is as in a call of the layer. The layer need not be the
        one that the stream was of, nor run on the same instruction-set tier or machine, but must have the same weights,
        in the same dtype.

        Raises TypeError for what is not bytes, ValueError for a state of other weights, of another version of the
        format, or that was cut or altered, UnsupportedError as for :meth:`stream`.
        """
        self._check_has_streams()
        return from_bytes(self._stack, data, num_threads, self._batch_first)

    def _to_tensors(self) -> tuple[Description, Tensors]:
        description, tensors = super()._to_tensors()
        initial = zip(("initial_h", "initial_c"), self._initial_state or (), strict=False)
        return description | {"batch_first": self._batch_first}, tensors | dict(initial)

    def _options(self) -> list[str]:
        layers = [f"num_layers={self.num_layers}"] if self.num_layers > 1 else []
        directions = ["bidirectional=True"] if self.bidirectional else ["reverse=True"] if self.reverse else []
        batch_first = ["batch_first=True"] if self._batch_first else []
        return layers + super()._options() + directions + batch_first

    def _suffixes(self) -> list[str]:
        directions = self._stack.num_directions
        return list(islice(layer_suffixes(directions), self.num_layers * directions))

    @classmethod
    def _stack_from(cls, kind: str, mapping: StateDict, prefix: str, dtype: str, isa: str | None) -> Stack:
        from .weights.state_files import open_state_dict  # with archives, which few need

        known = check_dtype(dtype)
        with open_state_dict(mapping) as state:
            prefix = state.found(prefix)
            if state.is_cell(prefix):
                raise UnsupportedError(
                    f"mapping: {prefix + 'weight_hh'!r} is an array of a cell, as its name has no end such as _l0; "
                    f"supported: layers; use fusedcell.{kind.partition('_')[0].upper()}Cell.from_state_dict"
                )
            cells = cells_by_layer(state.module(prefix), prefix, cls._arrays)
        check_gates(kind, cells["_l0"], "_l0")
        check_directions(cells, prefix)
        return make_stack(kind, cells.values(), list(cells), 1 + any("_reverse" in key for key in cells), known, isa)


def stream_text(stream: Stream) -> str:
    """What a stream's ``repr`` is."""
    return f"Stream({layer_of(stream._stack, stream.batch_first)!r}, batch_size={stream.batch_size})"


def layer_of(stack: Stack, batch_first: bool) -> Layer:
    """A layer on these packed weights."""
    cls = LSTM if stack.kind == "lstm" else GRU if stack.kind.startswith("gru") else RNN
    return cls._of(stack, batch_first=batch_first)


class LSTM(Layer):
    """Long short-term memory, ``torch.nn.LSTM``'s formulas (see :class:`fusedcell.LSTMCell`)."""

    _arrays: ClassVar[tuple[str, ...]] = ARRAY_NAMES

    @classmethod
    def from_state_dict(
        cls,
        mapping: StateDict,
        prefix: str = "",
        *,
        batch_first: bool = False,
        dtype: str = "float32",
        isa: str | None = None,
    ) -> LSTM:
        """Makes a layer from PyTorch's names: ``weight_ih_l0``, ``weight_hh_l0_reverse``, ``weight_hr_l1``, ...

        Names that do not start with `prefix` belong to other modules and are left alone; every name that does must be
        understood. Sizes, layers, directions and projection follow from names and shapes. Biases may be absent.
        Peepholes, which PyTorch does not have, are ``weight_peephole_l0`` (3 * H,), ..., order i f o. Weights that
        weight_norm or pruning keep in parts, as ``weight_hh_l0_g`` and ``_v``, are computed of them in float64 and in
        their own type.

        `prefix` may leave out its last dot. In a mapping of dictionaries, as checkpoints are, it is that of the module
        in the one of them that has it; "state_dict.lstm." says which.

        `mapping` holds NumPy arrays or PyTorch tensors, or is the path of a file of them, of which only what starts
        with `prefix` is read: ``.safetensors``, or ``.pt``, ``.pth``, ``.pth.tar``, ``.ckpt`` and ``.bin`` as
        torch.save writes state dictionaries (``pip install fusedcell[torch]``), where nothing in it is ever run.

        Raises UnsupportedError for a name, dtype or kind of file that is not known, or a weight that does not follow
        from its parts, ValueError for a prefix or an array that is missing, a shape that does not fit, a value
        that is not finite, a damaged file or a tier that this machine does not run, TypeError for an array that is
        not of floats.
        """
        return cls._of(cls._stack_from("lstm", mapping, prefix, dtype, isa), batch_first=batch_first)

    @overload
    def __call__(
        self,
        x: Array,
        state: tuple[Array, Array] | None = None,
        *,
        lengths: Array | None = None,
        mask: Array | None = None,
        num_threads: int = 1,
        return_cells: Literal[False] = False,
        return_gates: Literal[False] = False,
    ) -> tuple[FloatArray, _StateOfLSTM]: ...
    @overload
    def __call__(
        self,
        x: Array,
        state: tuple[Array, Array] | None = None,
        *,
        lengths: Array | None = None,
        mask: Array | None = None,
        num_threads: int = 1,
        return_cells: Literal[True],
        return_gates: bool = False,
    ) -> tuple[FloatArray, _StateOfLSTM, Trace]: ...
    @overload
    def __call__(
        self,
        x: Array,
        state: tuple[Array, Array] | None = None,
        *,
        lengths: Array | None = None,
        mask: Array | None = None,
        num_threads: int = 1,
        return_cells: bool = False,
        return_gates: Literal[True],
    ) -> tuple[FloatArray, _StateOfLSTM, Trace]: ...
    @overload
    def __call__(
        self,
        x: Array,
        state: tuple[Array, Array] | None = None,
        *,
        lengths: Array | None = None,
        mask: Array | None = None,
        num_threads: int = 1,
        return_cells: bool = False,
        return_gates: bool = False,
    ) -> tuple[FloatArray, _StateOfLSTM] | tuple[FloatArray, _StateOfLSTM, Trace]: ...
    def __call__(
        self,
        x: Array,
        state: tuple[Array, Array] | None = None,
        *,
        lengths: Array | None = None,
        mask: Array | None = None,
        num_threads: int = 1,
        return_cells: bool = False,
        return_gates: bool = False,
    ) -> tuple[FloatArray, _StateOfLSTM] | tuple[FloatArray, _StateOfLSTM, Trace]:
        """Runs whole sequences: returns ``y, (h_n, c_n)``, and a :class:`.Trace` where cells or gates are asked for.

        `state` is (h_0, c_0), `initial_state` if None. The other arguments are in the class's description.
        """
        h_0, c_0 = self._start_of(x) if state is None else unpack_state(state, _BY_NAME)
        y, h_n, c_n, cells, gates = self._stack.run(
            x, h_0, c_0, lengths, mask, self._batch_first, num_threads, return_cells, return_gates
        )
        assert c_n is not None  # an LSTM has a cell state
        if return_cells or return_gates:
            return y, (h_n, c_n), Trace(cells, gates)
        return y, (h_n, c_n)


class GRU(Layer):
    """Gated recurrent unit in both its forms (see :class:`fusedcell.GRUCell`)."""

    @property
    def reset_after(self) -> bool:
        """Whether the reset gate multiplies R h + b rather than h."""
        return self._stack.kind == "gru_reset_after"

    @classmethod
    def from_state_dict(
        cls,
        mapping: StateDict,
        prefix: str = "",
        *,
        reset_after: bool = True,
        batch_first: bool = False,
        dtype: str = "float32",
        isa: str | None = None,
    ) -> GRU:
        """As :meth:`LSTM.from_state_dict`; ``reset_after=True`` is PyTorch's form."""
        kind = "gru_reset_after" if reset_after else "gru_reset_before"
        return cls._of(cls._stack_from(kind, mapping, prefix, dtype, isa), batch_first=batch_first)

    @overload
    def __call__(
        self,
        x: Array,
        state: Array | None = None,
        *,
        lengths: Array | None = None,
        mask: Array | None = None,
        num_threads: int = 1,
        return_gates: Literal[False] = False,
    ) -> tuple[FloatArray, FloatArray]: ...
    @overload
    def __call__(
        self,
        x: Array,
        state: Array | None = None,
        *,
        lengths: Array | None = None,
        mask: Array | None = None,
        num_threads: int = 1,
        return_gates: Literal[True],
    ) -> tuple[FloatArray, FloatArray, Trace]: ...
    @overload
    def __call__(
        self,
        x: Array,
        state: Array | None = None,
        *,
        lengths: Array | None = None,
        mask: Array | None = None,
        num_threads: int = 1,
        return_gates: bool = False,
    ) -> tuple[FloatArray, FloatArray] | tuple[FloatArray, FloatArray, Trace]: ...
    def __call__(
        self,
        x: Array,
        state: Array | None = None,
        *,
        lengths: Array | None = None,
        mask: Array | None = None,
        num_threads: int = 1,
        return_gates: bool = False,
    ) -> tuple[FloatArray, FloatArray] | tuple[FloatArray, FloatArray, Trace]:
        """Runs whole sequences: returns ``y, h_n``, and a :class:`.Trace` where gates are asked for.

        `state` is h_0, `initial_state` if None. The other arguments are in the class's description.
        """
        h_0 = self._start_of(x)[0] if state is None else state
        y, h_n, _, _, gates = self._stack.run(
            x, h_0, None, lengths, mask, self._batch_first, num_threads, False, return_gates
        )
        if return_gates:
            return y, h_n, Trace(None, gates)
        return y, h_n


class RNN(Layer):
    """Plain recurrent layer with tanh or relu (see :class:`fusedcell.RNNCell`)."""

    @property
    def nonlinearity(self) -> str:
        """ "tanh" or "relu"; another activation's name in lower case where `cell_options` have one."""
        return nonlinearity_of(self._stack)

    @classmethod
    def from_state_dict(
        cls,
        mapping: StateDict,
        prefix: str = "",
        *,
        nonlinearity: str = "tanh",
        batch_first: bool = False,
        dtype: str = "float32",
        isa: str | None = None,
    ) -> RNN:
        """As :meth:`LSTM.from_state_dict`; `nonlinearity` is "tanh" or "relu"."""
        kind = f"rnn_{check_nonlinearity(nonlinearity)}"
        return cls._of(cls._stack_from(kind, mapping, prefix, dtype, isa), batch_first=batch_first)

    def __call__(
        self,
        x: Array,
        state: Array | None = None,
        *,
        lengths: Array | None = None,
        mask: Array | None = None,
        num_threads: int = 1,
    ) -> tuple[FloatArray, FloatArray]:
        """Runs whole sequences: returns ``y, h_n``.

        `state` is h_0, `initial_state` if None. The other arguments are in the class's description.
        """
        h_0 = self._start_of(x)[0] if state is None else state
        y, h_n, *_ = self._stack.run(x, h_0, None, lengths, mask, self._batch_first, num_threads)
        return y, h_n
