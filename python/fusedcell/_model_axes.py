"""Models whose arrays are arranged as those of what they were made of: between these and the rows that _core takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np

from . import _core
from .model_stream import ModelStream

Array = Any
Axes: TypeAlias = "tuple[str | int, ...]"
_Label: TypeAlias = "str | int"  # "batch", "time", or which of the numbers of features
_Sizes: TypeAlias = "dict[_Label, int]"

BATCH, TIME = "batch", "time"


def axes_of(core: _core.Model, given: Mapping[str, Axes] | None = None) -> dict[str, Axes]:
    """What each axis of each input and output is, where these are given, by default those of the file."""
    given = core.axes if given is None else given
    lead = _lead(core)
    has_time = any(TIME in given.get(name, lead) for name, *_ in core.inputs)
    inputs = {name: (*lead, *(() if tokens else (size,))) for name, size, tokens in core.inputs}
    outputs = {name: (*(lead if has_time and not whole else (BATCH,)), size) for name, size, whole in core.outputs}
    return inputs | outputs | dict(given)


def arrangement_of(core: _core.Model) -> Arrangement | None:
    """None where all arrays are as _core has them."""
    return Arrangement(core) if core.axes and axes_of(core) != axes_of(core, {}) else None


def _lead(core: _core.Model) -> tuple[str, ...]:
    return (BATCH, TIME) if core.batch_first else (TIME, BATCH)


class _Rows:
    """An input or an output."""

    def __init__(self, name: str, axes: Axes, row: tuple[int, ...], batch_first: bool, tokens: int = 0) -> None:
        self.name = name
        self.tokens = tokens
        self.row = row  # as _core has one
        self.numbers: tuple[int, ...] = tuple(axis for axis in axes if not isinstance(axis, str))
        count = iter(range(len(axes)))
        self.labels: tuple[_Label, ...] = tuple(axis if isinstance(axis, str) else next(count) for axis in axes)
        self.own = tuple(range(len(self.numbers)))
        place = self.labels.index(BATCH) + 1 if batch_first and BATCH in axes else 0
        self._timed = self.labels if TIME in axes else (*self.labels[:place], TIME, *self.labels[place:])

    def taken(self, has_batch: bool, has_time: bool) -> tuple[_Label, ...]:
        """Its axes in arrays that may have such."""
        return _without(self.labels, *([] if has_batch else [BATCH]), *([] if has_time else [TIME]))

    def given(self, has_batch: bool, has_time: bool) -> tuple[_Label, ...]:
        """Its axes in answers that do have time."""
        return _without(self._timed, *([] if has_batch else [BATCH]), *([] if has_time else [TIME]))

    def check_tokens(self, array: Any) -> None:
        """ValueError that has the place of a token beyond, in these axes."""
        if self.row or array.dtype.kind not in "iu" or not (wrong := (array < 0) | (array >= self.tokens)).any():
            return
        place = tuple(np.argwhere(wrong)[0].tolist())
        at = f" at {place}" if place else ""
        raise ValueError(f"{self.name}: expected tokens from 0 to {self.tokens - 1}, got {array[place]}{at}")

    def shape(self, labels: Iterable[_Label], sizes: Mapping[_Label, int]) -> tuple[Any, ...]:
        return tuple(sizes.get(label, label) if isinstance(label, str) else self.numbers[label] for label in labels)


class Arrangement:
    """Of the arrays that calls of a model and its streams take and give."""

    def __init__(self, core: _core.Model, axes: Mapping[str, Axes] | None = None) -> None:
        axes = axes_of(core) if axes is None else axes
        self._core = core
        self._lead = _lead(core)
        self._inputs = [
            _Rows(name, axes[name], () if tokens else (size,), core.batch_first, tokens)
            for name, size, tokens in core.inputs
        ]
        self._outputs = [_Rows(name, axes[name], (size,), core.batch_first) for name, size, _ in core.outputs]
        self.num_inputs = len(self._inputs)
        self._has_time = any(TIME in item.labels for item in self._inputs)
        batched = {name: given if BATCH in given else (BATCH, *given) for name, given in axes.items()}
        self._many = self if batched == axes else Arrangement(core, batched)

    def run(self, values: Sequence[Array], lengths: Array, num_threads: int) -> Any:
        """A call of the model."""
        sizes: _Sizes = {} if self._has_time else {TIME: 1}
        taken, is_batched = self._take(values, self._lead, sizes, None)
        self.check_batch(sizes.get(BATCH, 1))
        answers = self._core.run(taken, lengths, num_threads)
        return self._give(answers, self._lead, is_batched is not False, is_call=True)

    def check_batch(self, batch: int) -> None:
        """ValueError where an array has no axis for so many sequences."""
        for item in [*self._inputs, *self._outputs]:
            if batch != 1 and BATCH not in item.labels:
                raise ValueError(f"{item.name}: expected a batch of 1, as its axes have no 'batch', got {batch}")

    def process(self, run: Callable[..., Any], batch: int, values: Sequence[Array]) -> Any:
        """A block of a stream of so many sequences."""
        sizes: _Sizes = {BATCH: batch} if self._has_time else {BATCH: batch, TIME: 1}
        taken, is_batched = self._take(values, self._front(batch), sizes, True if batch > 1 else None)
        return self._give(run(*taken), self._front(batch), bool(is_batched))

    def stream_answers(self, answers: Any, batch: int) -> Any:
        """What a stream of so many sequences answers without having been asked in any arrangement."""
        return self._give(answers, self._front(batch), batch > 1)

    def step(self, run: Callable[..., Any], batch: int, values: Sequence[Array], out: Any) -> Any:
        """A hop of a stream of so many sequences."""
        return self._hop(lambda taken: run(*taken), values, out, self._front(batch), batch)

    def steps_are_rows(self, batch: int) -> bool:
        """Whether the usual steps of so many sequences are arranged as _core has them."""
        lead = _without(self._front(batch), TIME)
        inputs = all(item.taken(batch > 1, False) == (*lead, 0)[: len(lead) + len(item.row)] for item in self._inputs)
        outputs = all(item.given(batch > 1, False) == (*lead, 0) for item in self._outputs)
        return inputs and outputs and self._core.hop == (1, 1)

    def plain_step(self) -> tuple[str, tuple[int, ...], tuple[int, ...], tuple[int, ...]] | None:
        """The input's name, shape and row, and the answer's shape, where a step of one sequence is but another shape.

        Of one input, which is not of tokens, and one output.
        """
        if self._core.hop != (1, 1) or not self._has_time or len(self._inputs) > 1 or len(self._outputs) > 1:
            return None
        x, y = self._inputs[0], self._outputs[0]
        if x.tokens:
            return None
        return x.name, x.shape(x.taken(False, False), {}), x.row, y.shape(y.given(False, False), {})

    def _front(self, batch: int) -> tuple[str, ...]:
        return self._lead if batch > 1 else (TIME,)

    def step_many(self, run: Callable[[Any], Any], rows: int, values: Any, out: Any) -> Any:
        """A hop of so many rows of streams, whose axis is in front where axes have no batch."""
        if len(self._inputs) == 1:
            return self._many._hop(lambda taken: run(taken[0]), (values,), out, (BATCH, TIME), rows)
        if not isinstance(values, tuple | list):
            return run(values)  # which says what is wrong
        return self._many._hop(run, values, out, (BATCH, TIME), rows)

    def _hop(
        self, run: Callable[[Any], Any], values: Sequence[Array], out: Any, lead: tuple[str, ...], batch: int
    ) -> Any:
        hop, answer_hop = self._core.hop
        front = lead if hop > 1 else _without(lead, TIME)
        taken, found = self._take(values, front, {BATCH: batch, TIME: hop}, True if BATCH in lead else None)
        is_batched = bool(found)
        sizes: _Sizes = {BATCH: batch, TIME: answer_hop}
        outs = None
        if out is not None:
            shapes = [item.shape(item.given(is_batched, answer_hop > 1), sizes) for item in self._outputs]
            outs = _checked_outs(out, shapes)
        given = self._give(run(taken), lead, is_batched)
        answers = given if isinstance(given, tuple) else (given,)
        if outs is None or any(y is None or y.shape != o.shape for y, o in zip(answers, outs, strict=True)):
            return given
        for y, o in zip(answers, outs, strict=True):
            o[...] = y
        return out

    def _take(
        self, values: Sequence[Array], lead: tuple[str, ...], sizes: _Sizes, is_batched: bool | None
    ) -> tuple[tuple[Array, ...], bool | None]:
        """The inputs behind these axes, and whether they came with a batch axis, which None leaves to them.

        `sizes` are those that are known, and gets the others.
        """
        if len(values) != len(self._inputs):
            return tuple(values), None  # whoever takes them says what is wrong
        arrays = [_core.as_array(value, item.name) for item, value in zip(self._inputs, values, strict=True)]
        found: list[tuple[_Rows, Any, tuple[_Label, ...]]] = []
        for item, array in zip(self._inputs, arrays, strict=True):
            is_open = is_batched is None and BATCH in item.labels
            if is_open:
                is_batched = array.ndim != len(item.taken(False, TIME in lead))
            labels = item.taken(is_batched is not False, TIME in lead)
            expected = item.shape(labels, sizes)
            if len(expected) != array.ndim or any(
                not isinstance(size, str) and size != got for size, got in zip(expected, array.shape, strict=True)
            ):
                shapes = [expected]
                if is_open and len(expected) != array.ndim:
                    shapes = [item.shape(item.taken(has_batch, TIME in lead), sizes) for has_batch in (True, False)]
                advice = _core.transposing(
                    array.shape, [[-1 if isinstance(size, str) else size for size in shape] for shape in shapes]
                )
                texts = " or ".join(map(_text, shapes))
                raise ValueError(f"{item.name}: expected shape {texts}, got {array.shape}{advice}")
            item.check_tokens(array)
            sizes.update(
                {label: size for label, size in zip(labels, array.shape, strict=True) if label in (BATCH, TIME)}
            )
            found.append((item, array, labels))
        sizes.setdefault(BATCH, 1)
        taken = []
        for item, array, labels in found:
            moved = _moved(array, labels, lead + item.own)
            rows = moved.reshape(moved.shape[: len(lead)] + item.row)
            wanted = tuple([sizes[axis] for axis in lead]) + item.row
            taken.append(rows if rows.shape == wanted else np.broadcast_to(rows, wanted))
        return tuple(taken), is_batched

    def _give(self, answers: Any, lead: tuple[str, ...], is_batched: bool, is_call: bool = False) -> Any:
        """The answers, which are behind these axes or have no time among them."""
        several = answers if isinstance(answers, tuple) else (answers,)
        given = []
        for item, answer in zip(self._outputs, several, strict=True):
            if answer is not None:
                has = lead if answer.ndim > len(lead) else _without(lead, TIME)
                labels = item.given(is_batched, TIME in has and not (is_call and TIME not in item.labels))
                if labels != (*has, 0):
                    parts = answer.reshape(answer.shape[:-1] + item.numbers)
                    answer = np.asarray(_moved(parts, has + item.own, labels), order="C")
            given.append(answer)
        return tuple(given) if isinstance(answers, tuple) else given[0]


_step = _core.ModelStream.step


class ArrangedStream(ModelStream):
    """A stream of a model whose arrays have axes of their own."""

    def __init__(self, owner: Any, batch_size: int = 1, num_threads: int = 1) -> None:
        super().__init__(owner, batch_size, num_threads)
        self._arrangement: Arrangement = owner._arrangement if isinstance(owner, ArrangedStream) else Arrangement(owner)
        self._arrangement.check_batch(self.batch_size)
        self._steps_are_rows = self._arrangement.steps_are_rows(self.batch_size)
        self._plain = self._arrangement.plain_step() if self.batch_size == 1 else None

    def step(self, /, *inputs: Array, out: Any = None) -> Any:
        """As that of a ModelStream, in the model's axes but for "time" where a hop is one row."""
        if self._plain is not None and out is None and len(inputs) == 1:
            name, shape, row, answer_shape = self._plain
            array = _core.as_array(inputs[0], name)
            if array.shape == shape:
                answer = _step(self, array.reshape(row))
                if answer is not None and answer.ndim == 1:
                    return answer.reshape(answer_shape)
                return self._arrangement.stream_answers(answer, 1)
        if len(inputs) == self._arrangement.num_inputs + 1:
            if out is not None:
                return super().step(*inputs, out=out)  # which says what is wrong
            inputs, out = inputs[:-1], inputs[-1]
        if out is None or not self._steps_are_rows:
            return self._arrangement.step(super().step, self.batch_size, inputs, out)
        answers = super().step(*inputs, out=out)
        return answers if answers is out else self._arrangement.stream_answers(answers, self.batch_size)

    def process(self, /, *inputs: Array) -> Any:
        """As that of a ModelStream, in the model's axes."""
        return self._arrangement.process(super().process, self.batch_size, inputs)

    def flush(self) -> Any:
        """As that of a ModelStream, in the model's axes."""
        return self._arrangement.stream_answers(super().flush(), self.batch_size)


@lru_cache(1024)
def _without(labels: tuple[_Label, ...], *axes: str) -> tuple[Any, ...]:
    return tuple(label for label in labels if label not in axes)


@lru_cache(1024)
def _places(has: tuple[_Label, ...], wanted: tuple[_Label, ...]) -> tuple[list[int], list[int]]:
    """Where the wanted axes are, -1 for none; and all axes, those in front."""
    places = [has.index(label) if label in has else -1 for label in wanted]
    kept = [place for place in places if place >= 0]
    return places, [*kept, *(place for place in range(len(has)) if place not in kept)]


def _moved(array: Any, has: tuple[_Label, ...], wanted: tuple[_Label, ...]) -> Any:
    """The array with its axes in another order; those that one of the two lacks are of size 1."""
    places, order = _places(has, wanted)
    return array.transpose(order).reshape([1 if place < 0 else array.shape[place] for place in places])


def _checked_outs(out: Any, shapes: Sequence[tuple[int, ...]]) -> Sequence[Any]:
    """Arrays to write to, one an output; TypeError or ValueError."""
    if len(shapes) == 1:
        _core.check_out(out, "out", shapes[0])
        return (out,)
    if not isinstance(out, tuple | list) or len(out) != len(shapes):
        raise TypeError(f"out: expected a tuple of {len(shapes)} arrays, one an output, got {type(out).__name__}")
    for place, (array, shape) in enumerate(zip(out, shapes, strict=True)):
        _core.check_out(array, f"out[{place}]", shape)
        for other in range(place):
            if np.may_share_memory(array, out[other]):
                raise ValueError(f"out[{place}]: expected memory of its own, got some of out[{other}]")
    return tuple(out)


def _text(shape: Sequence[Any]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
