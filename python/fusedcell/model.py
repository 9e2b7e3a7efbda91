"""Whole models: an ordered list of nodes over rows, run in one call, or as streams that go step by step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, partial
from operator import index
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any, SupportsIndex

from . import _core, _model_format
from ._base import check_isa
from ._dtypes import with_inputs
from ._model_axes import ArrangedStream, Arrangement, arrangement_of, axes_of
from ._model_sources import ModelSources
from ._text import aligned
from .cells import Array
from .model_stream import ModelStream, set_file, stream_from_bytes

if TYPE_CHECKING:
    from typing_extensions import Self

    from ._model_format import NodeList, Source

# An array, or a tuple of them where the model has several outputs; a union would need a cast wherever there is one.
_Answer = Any


class Model(ModelSources):
    """A trained network from input to answer: nodes over rows, each of which reads inputs or nodes before it.

    A row is what one time step of one sequence brings. `nodes` are (name, node, source): a node is a recurrent layer
    or one of :mod:`fusedcell.nodes`, and its source the name of an input or of an earlier node, or a tuple of such
    names, whose features it then sees beside each other. The answers have the same bits in one call, step by step and
    in blocks, in any batch, on every instruction-set tier.

    - inputs: the names of the inputs, in the order in which calls take them; None: what sources name and is no node.
      A mapping from names gives the features too, where they do not follow from who reads them, or how many tokens
      there are.
    - outputs: the node that answers, or a tuple of them; None: the last.
    - batch_first: whether arrays are (B, T, ...) rather than (T, B, ...).
    - axes: by name, how the arrays of an input or output are arranged where it is not (B, T, features) or
      (T, B, features), or of tokens without the last: a tuple of "batch", "time" and numbers of features, in C order of
      which a row has its features. An input without "time" is one row a call, the same at every step if another input
      has time; one without "batch" is of one sequence. Calls and streams take and give arrays arranged so.
    - isa: the instruction-set tier, as for a layer.

    Raises TypeError or ValueError that names the node and the argument for what does not fit.

    >>> import numpy as np, fusedcell as fc
    >>> model = fc.Model([
    ...     ("conv", fc.Window(np.ones((4, 6)), taps=3, padding=(2, 0), activation="relu"), "x"),
    ...     ("head", fc.Dense(np.ones((1, 4)), activation="sigmoid"), "conv"),
    ... ])
    >>> model(np.zeros((10, 2), np.float32)).shape
    (10, 1)
    >>> stream = model.stream()
    >>> stream.step(np.zeros(2, np.float32))
    array([0.5], dtype=float32)
    """

    _core: _core.Model
    _data: bytes
    _arrangement: Arrangement | None

    def __init__(
        self,
        nodes: NodeList,
        inputs: Mapping[str, int] | Sequence[str] | str | None = None,
        outputs: Source | None = None,
        batch_first: bool = False,
        *,
        axes: Mapping[str, Sequence[str | int]] | None = None,
        isa: str | None = None,
    ) -> None:
        self._set(_model_format.to_bytes(nodes, inputs, outputs, batch_first, axes or {}), check_isa(isa))
        vars(self)["nodes"] = tuple((name, node, source) for name, node, source in nodes)

    @classmethod
    def _from_bytes(cls, data: bytes, isa: str = "") -> Self:
        """The model of a file's bytes; ValueError, or UnsupportedError, that says what is wrong with them."""
        model = object.__new__(cls)
        model._set(bytes(data), isa)
        return model

    def _set(self, data: bytes, isa: str) -> None:
        self._data = data
        self._core = _core.Model(data, isa)
        self._arrangement = arrangement_of(self._core)
        set_file(self._core, data)

    def _to_bytes(self) -> bytes:
        """Its file."""
        return self._data

    # Any of the nodes: which class each is, its user knows, and a union has no attribute that all of them have.
    @cached_property
    def nodes(self) -> tuple[tuple[str, Any, Source], ...]:
        """The nodes: their names, what they are, and the names of what they read."""
        return tuple(_model_format.from_bytes(self._data, self.isa)[0])

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs, in the order in which calls take them."""
        return tuple(name for name, *_ in self._core.inputs)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the nodes that answer, in the order of the answers."""
        return tuple(name for name, *_ in self._core.outputs)

    @property
    def sizes(self) -> dict[str, int]:
        """Features of a row of each input and output; 1 of tokens."""
        return {name: size for name, size, _ in [*self._core.inputs, *self._core.outputs]}

    @property
    def tokens(self) -> dict[str, int]:
        """How many tokens there are, of each input that takes tokens: integers from 0 on."""
        return {name: tokens for name, _, tokens in self._core.inputs if tokens}

    @property
    def batch_first(self) -> bool:
        """Whether arrays are (B, T, ...) rather than (T, B, ...)."""
        return self._core.batch_first

    @property
    def axes(self) -> dict[str, tuple[str | int, ...]]:
        """What each axis of the arrays of each input and output is: "batch", "time", or a number of features."""
        return axes_of(self._core)

    @property
    def streamable(self) -> bool:
        """Whether rows can be taken one by one; :meth:`stream` says why not."""
        return not self._core.why_no_streams

    @property
    def hop(self) -> int | tuple[int, int]:
        """Rows in for a row out, or (rows in, rows out) where rows out come in groups.

        Raises UnsupportedError as for :meth:`stream`, as does :attr:`delay`.
        """
        rows_in, rows_out = self._core.hop
        return rows_in if rows_out == 1 else (rows_in, rows_out)

    @property
    def delay(self) -> int:
        """Rows in until every output has had a row, less those of a hop: 0 where nothing looks ahead."""
        return self._core.delay

    @property
    def nbytes(self) -> int:
        """Bytes of packed weights."""
        return self._core.nbytes

    @property
    def isa(self) -> str:
        """Instruction-set tier that runs the model."""
        return self._core.isa

    def rows(self, steps: int) -> int | tuple[int, ...]:
        """Rows out for so many rows in, of each output; 1 of an answer of the whole sequence.

        Raises ValueError that names the node where what comes together has other numbers of rows then.
        """
        rows = self._core.rows(steps)
        return rows[0] if len(rows) == 1 else tuple(rows)

    def __call__(self, x: Array, *more: Array, lengths: Array | None = None, num_threads: int = 1) -> _Answer:
        """Runs whole sequences.

        - x, and more of a model with several inputs: floats (T, B, I), or (B, T, I) with batch_first, or (T, I) of one
          sequence; of tokens integers without the last axis.
        - lengths: integers (B,) from 0 to T. Each sequence is computed as if it were alone, its padding too; past its
          last row the answers are zero, and so is the answer of the whole sequence if that has no rows.
        - num_threads: up to so many threads share the work of layers. The result has the same bits with any number.

        Returns float32 (T', B, O), arranged as x is, or (B, O) of an answer of the whole sequence, without B where x
        has none; a tuple where the model has several outputs. :meth:`rows` says what T' is.

        Raises TypeError or ValueError that names the input for what is not so.
        """
        if self._arrangement is not None:
            return self._arrangement.run((x, *more), lengths, num_threads)
        return self._core.run((x, *more), lengths, num_threads)

    def stream(self, batch_size: int = 1, *, num_threads: int = 1) -> ModelStream:
        """A new stream, as sequences begin; any number can share the weights.

        Raises UnsupportedError that names the node which needs the whole sequence.
        """
        return self._streams(self._core, batch_size, num_threads)

    @property
    def _streams(self) -> type[ModelStream]:
        return ModelStream if self._arrangement is None else ArrangedStream

    def stream_from_bytes(self, data: bytes, *, num_threads: int = 1) -> ModelStream:
        """The stream whose ``to_bytes`` gave `data`: of this model or one that is equal, on any tier or machine.

        Raises TypeError for what is not bytes, ValueError for a state of another model, of another version of the
        format, or that was cut or altered, UnsupportedError as for :meth:`stream`.
        """
        return stream_from_bytes(self._streams, self._core, data, num_threads)

    def step_many(self, streams: Iterable[ModelStream], x: Array, out: _Answer = None) -> _Answer:
        """One step of many streams of this model, wherever they are, in one call that reads the weights once.

        x is (N, I), where N counts the rows of all streams, in the order of `streams`, or (N, hop, I) where a hop is
        more than one row; of tokens integers without the last axis; in other :attr:`axes`, those of a step with N in
        the place of the batch, or in front where there is none. It is a tuple of arrays where the model has several
        inputs. Returns the answers arranged alike, in `out` if that is given: C-contiguous float32. Every stream has
        the bits, in its answers and its state, of a step of its own. Rows that have no answer yet are NaN.

        Raises TypeError or ValueError for what is no stream of this model or comes twice, for one whose padding gives
        more rows at its first step than usual, or for x or out that are not as described, RuntimeError if another
        thread is using one of the streams; all of them are then as they were. UnsupportedError as for :meth:`stream`.
        """
        is_sequence = hasattr(streams, "__iter__") or hasattr(streams, "__getitem__")
        if self._arrangement is None or not is_sequence:  # of what is none _core says so
            return _core.step_many_of_model(self._core, streams, x, out)
        streams = tuple(streams)
        rows = sum(getattr(stream, "batch_size", 1) for stream in streams)
        return self._arrangement.step_many(partial(_core.step_many_of_model, self._core, streams), rows, x, out)

    def astype(
        self,
        dtype: str | Mapping[str, str | Mapping[str, str]],
        *,
        inputs: str | None = None,
        keep: Iterable[str] = (),
    ) -> Self:
        """A new model with the matrices of layers, Dense, Window and Embedding rounded to other types.

        `dtype` is one for all nodes, or a mapping from names of nodes to what their ``astype`` takes; `keep` names
        nodes that stay as they are. `inputs`, "int8" or "int16", is what int8 weights multiply.

        Raises UnsupportedError for an unknown dtype or other inputs, ValueError for a name that is no node with a
        matrix, or that `keep` and a mapping both have, or a weight that the dtype cannot hold.
        """
        nodes = _model_format.astype(self.nodes, with_inputs(dtype, inputs), keep=keep)
        sizes = {name: tokens or size for name, size, tokens in self._core.inputs}
        return type(self)(nodes, sizes, self.outputs, self.batch_first, axes=self._core.axes, isa=self.isa)

    def describe(self) -> str:
        """A table of the nodes: what each reads, the features of its rows, and bytes of its weights.

        The last two are empty for a node that costs nothing, as it is part of who reads it: features that follow each
        other, and an embedding that a layer has in its own weights.
        """
        nodes, *_ = _model_format.from_bytes(self._data, self.isa)
        rows = [
            [name, "input", "", f"{tokens} tokens" if tokens else str(size), ""]
            for name, size, tokens in self._core.inputs
        ]
        run = {name: [str(size), f"{nbytes:,}"] for name, size, nbytes in self._core.nodes}
        for name, node, source in nodes:
            sources = source if isinstance(source, str) else ", ".join(source)
            rows.append([name, type(node).__name__, sources, *run.get(name, ["", ""])])
        return aligned(("name", "node", "of", "features", "bytes"), rows, ("name", "node", "of"))

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        # From protocol 5 on a buffer, which whoever pickles may carry beside the pickle.
        return type(self)._from_bytes, (PickleBuffer(self._data) if index(protocol) >= 5 else self._data,)

    def __copy__(self) -> Self:
        return self  # nothing of it ever changes

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __repr__(self) -> str:
        def text(items: Iterable[str]) -> str:
            return ", ".join(f"{name} ({self.sizes[name]})" for name in items)

        count = len(self._core.nodes)
        nodes = f"{count} node{'s' if count > 1 else ''}, {self.nbytes:,} bytes"
        return f"Model({text(self.inputs)} -> {text(self.outputs)}; {nodes}, isa={self.isa!r})"
