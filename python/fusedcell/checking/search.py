"""Which mistake explains a difference: tried one after the other, the likelier first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias, cast

import numpy as np

from .._model_format import dtypes_of
from ..cell_options import CellOptions
from ..layers import Layer
from ..model import Model
from .alternatives import Alternative, of_layer, of_node
from .differences import Array, Labels, fits
from .padding import paddings
from .readings import readings
from .report import Mistake

# Of what is off by rounding alone, by the type of the weights.
_TOLERANCES = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 2e-2, "int8": 5e-2, "int8_int16": 5e-2}

Answers: TypeAlias = list[tuple[str, Labels, Array]]  # name, names of the axes, values


class Search:
    """Runs of a model and of others that differ from it by one mistake; `runs` counts them."""

    def __init__(self, model: Layer | Model, inputs: tuple[Array, ...], tolerance: float) -> None:
        self.model, self.inputs, self.tolerance = model, inputs, tolerance
        self.runs = 0

    def run(self, model: Layer | Model, inputs: tuple[Array, ...], lengths: Sequence[int] | None = None) -> Answers:
        """Every output, with its name and those of its axes."""
        self.runs += 1
        if isinstance(model, Layer):
            y, state = cast(Any, model)(*inputs, lengths=lengths)
            rows = ("sequence", "step") if model.batch_first else ("step", "sequence")
            names = {
                "y": (*rows, "feature"),
                "h_n": ("layer", "sequence", "unit"),
                "c_n": ("layer", "sequence", "unit"),
            }
            arrays = [y, *(state if isinstance(state, tuple) else (state,))]
            return [_answer(*item, array) for item, array in zip(names.items(), arrays, strict=False)]
        answer = model(*inputs, lengths=lengths)
        arrays = list(answer) if isinstance(answer, tuple) else [answer]
        return [_answer(name, _axes(model, name), array) for name, array in zip(model.outputs, arrays, strict=True)]

    def mistake(self, answers: Answers, wanted: list[Array]) -> Mistake | None:
        """The first that explains every output."""
        return next(
            (
                Mistake(node, mistake, advice, max(map(_largest, found, wanted_then)))
                for node, mistake, advice, found, wanted_then in self._candidates(answers, wanted)
                if all(fits(a, b, self.tolerance) for a, b in zip(found, wanted_then, strict=True))
            ),
            None,
        )

    def _candidates(
        self, answers: Answers, wanted: list[Array]
    ) -> Iterator[tuple[str, str, str, list[Array], list[Array]]]:
        yield from self._of_readings(answers, wanted)
        yield from self._of_padding(wanted)
        for mistake, advice, found in self._of_inputs(answers):
            yield "", mistake, advice, found, wanted
        alike = all(ours.shape == each.shape for (*_, ours), each in zip(answers, wanted, strict=True))
        if not alike:
            return  # as nothing that follows changes a shape
        for node, each in self._of_parts():
            try:
                found = [array for *_, array in self.run(each.make(), self.inputs)]
            except ValueError:  # of weights that a type cannot hold, or rows that no longer meet
                continue
            yield node, each.mistake, each.advice, found[: len(wanted)], wanted
        yield from self._of_first_state(wanted)

    def _of_readings(
        self, answers: Answers, wanted: list[Array]
    ) -> Iterator[tuple[str, str, str, list[Array], list[Array]]]:
        wrong = [
            (ours, each, labels)
            for (_, labels, ours), each in zip(answers, wanted, strict=True)
            if not fits(ours, each, self.tolerance)
        ]
        directions = 2 if isinstance(self.model, Layer) and self.model.bidirectional else 1
        first, *rest = (readings(*each, directions, self.tolerance) for each in wrong)
        others = [{each.mistake: each for each in more} for more in rest]
        for each in first:
            if all(each.mistake in other for other in others):
                same = [each, *(other[each.mistake] for other in others)]
                yield "", each.mistake, each.advice, [one.ours for one in same], [one.expected for one in same]

    def _of_padding(self, wanted: list[Array]) -> Iterator[tuple[str, str, str, list[Array], list[Array]]]:
        axes = [_input_axes(self.model, place, array) for place, array in enumerate(self.inputs)]
        for array, names in zip(self.inputs, axes, strict=True):
            for each in paddings(array, names) if "time" in names else ():
                moved = tuple(map(each.moved, self.inputs, axes))
                try:
                    answers = self.run(self.model, moved, each.lengths)
                except ValueError:  # of inputs of other lengths
                    continue
                rows = [_rows(self.model, length, len(answers)) for length in each.lengths]
                pairs = [
                    each.compared(ours, expected, labels, [row[place] for row in rows])
                    for place, ((_, labels, ours), expected) in enumerate(zip(answers, wanted, strict=False))
                ]
                yield "", each.mistake, each.advice, [a for a, _ in pairs], [b for _, b in pairs]

    def _of_inputs(self, answers: Answers) -> Iterator[tuple[str, str, list[Array]]]:
        """Other ways to read x; each is the same for all inputs."""
        labels, count = [labels for _, labels, _ in answers], len(answers)
        axes = [_input_axes(self.model, place, array) for place, array in enumerate(self.inputs)]
        if all({"batch", "time"} <= set(names) for names in axes):
            names = [axis if isinstance(axis, str) else "..." for axis in axes[0]]
            swapped = [{"batch": "time", "time": "batch"}.get(name, name) for name in names]
            found = self._tried(
                tuple(
                    array.swapaxes(names.index("batch"), names.index("time"))
                    for array, names in zip(self.inputs, axes, strict=True)
                ),
                count,
            )
            both = {"step", "sequence"}
            turned = [
                array.swapaxes(names.index("step"), names.index("sequence")) if both <= set(names) else array
                for array, names in zip(found, labels, strict=True)
            ]
            text = f"the axes of x are ({', '.join(swapped)}), and were taken as ({', '.join(names)})"
            yield text, f"load the model with batch_first={not self.model.batch_first}, or swap these axes of x", turned
        if all("time" in names for names in axes):
            times = [names.index("time") for names in axes]
            found = self._tried(tuple(np.flip(*each) for each in zip(self.inputs, times, strict=True)), count)
            text = "x runs backward in time, and the answer"
            yield (
                f"{text} is aligned with it again",
                "turn x and the answer round along time, or load the layer as reverse",
                [np.flip(a, n.index("step")) if "step" in n else a for a, n in zip(found, labels, strict=True)],
            )
            yield f"{text} goes with it", "turn x round along time", found
            twice = tuple(np.concatenate([array, array], time) for array, time in zip(self.inputs, times, strict=True))
            found = self._tried(twice, count)
            after = [
                np.split(a, 2, n.index("step"))[1] if "step" in n and a.shape[n.index("step")] % 2 == 0 else a
                for a, n in zip(found, labels, strict=True)
            ]
            yield _NOT_RESET, _RESET, after
        if len(self.inputs) == 1 and isinstance(axes[0][-1], int):
            (array,) = self.inputs
            size = array.shape[-1]
            yield (
                "the features of x are in the opposite order, as channels of an image can be",
                "give x[..., ::-1]",
                self._tried((array[..., ::-1],), count),
            )
            for parts in [each for each in range(2, size) if size % each == 0][:8]:
                order = np.arange(size).reshape(parts, -1).T.ravel()
                yield (
                    f"the features of x are {parts} x {size // parts}, flattened the other way round",
                    f"give x[..., np.arange({size}).reshape({parts}, {size // parts}).T.ravel()]",
                    self._tried((array[..., order],), count),
                )

    def _tried(self, inputs: tuple[Array, ...], count: int) -> list[Array]:
        """Empty arrays where that is no x."""
        try:
            return [array for *_, array in self.run(self.model, inputs)][:count]
        except ValueError:
            return [np.zeros(0)] * count

    def _of_parts(self) -> Iterator[tuple[str, Alternative]]:
        model = self.model
        if isinstance(model, Layer):
            yield from (("", each) for each in of_layer(model))
            yield from (("", each) for each in _rounded(model))
            return
        layers = {name: node for name, node, _ in model.nodes if isinstance(node, Layer)}
        of_each = {name: {each.mistake: each for each in of_layer(layer)} for name, layer in layers.items()}
        for cls in dict.fromkeys(type(layer) for layer in layers.values()):
            names = [name for name, layer in layers.items() if type(layer) is cls]
            for mistake in dict.fromkeys(text for name in names for text in of_each[name]):
                changes = {name: of_each[name][mistake] for name in names if mistake in of_each[name]}
                if len(changes) > 1:
                    yield ", ".join(changes), _in_model(model, changes)
        for name, alternatives in of_each.items():
            yield from ((name, _in_model(model, {name: each})) for each in alternatives.values())
        known = {name: node for name, node, _ in model.nodes}
        for name, node, source in model.nodes:
            if name not in layers:
                read = known.get(source) if isinstance(source, str) else None
                yield from ((name, _in_model(model, {name: each})) for each in of_node(node, read))
        yield from (("", each) for each in _rounded(model))

    def _of_first_state(self, wanted: list[Array]) -> Iterator[tuple[str, str, str, list[Array], list[Array]]]:
        """Goes on from the state that was expected after the first steps, where y says what that is."""
        layer, expected = self.model, wanted[0]
        if not isinstance(layer, Layer) or layer.num_layers > 1 or layer.bidirectional or layer.reverse:
            return
        (x,) = self.inputs
        time = 1 if layer.batch_first and x.ndim == 3 else 0
        if x.shape[time] < 4 or not np.isfinite(expected).all():
            return
        steps, state = 1, expected.take(0, time)[None].astype(np.float32)
        call = cast(Any, layer)
        if layer.stack.kind == "lstm":
            if layer.proj_size or layer.stack.has_peepholes or layer.cell_options != (CellOptions(),):
                return
            # c of h = o tanh(c), as o is made of x and of the h before.
            self.runs += 1
            *_, trace = call(x.take([1], time), (state, np.zeros_like(state)), return_gates=True)
            h = expected.take(1, time)[None]
            part = h / np.maximum(trace.gates[..., 3, :].reshape(h.shape).astype(np.float64), 1e-30)
            c = np.arctanh(np.clip(part, -_ALMOST_ONE, _ALMOST_ONE))
            steps, state = 2, (h.astype(np.float32), c.astype(np.float32))
        self.runs += 1
        y = np.asarray(call(np.delete(x, range(steps), time), state)[0], np.float64)
        yield "", _NOT_RESET, _RESET, [y], [np.delete(expected, range(steps), time)]


_ALMOST_ONE = 1 - 1e-9
_NOT_RESET = "the state did not begin as it does here: it goes on from an earlier call that was not reset"
_RESET = "reset the framework's state before the call, or give both the same state, by layer(x, state) or a stream"


def _rounded(model: Layer | Model) -> Iterator[Alternative]:
    if tolerance_of(model) == _TOLERANCES["float32"]:
        for dtype in ("float16", "bfloat16"):
            yield Alternative(
                f"its weights are rounded to {dtype}, and are float32 here",
                f"compare with the framework's model in float32, or with .astype({dtype!r}) of this one",
                partial(model.astype, dtype),
            )


def _rows(model: Layer | Model, steps: int, outputs: int) -> tuple[int, ...]:
    """Of each output, for so many rows in."""
    rows = steps if isinstance(model, Layer) else model.rows(steps)
    return rows if isinstance(rows, tuple) else (rows,) * outputs


def _in_model(model: Model, changes: Mapping[str, Alternative]) -> Alternative:
    """The model with these nodes in place of its own."""

    def make() -> Model:
        nodes = [
            (name, changes[name].make() if name in changes else node, source) for name, node, source in model.nodes
        ]
        inputs = {name: model.tokens.get(name, model.sizes[name]) for name in model.inputs}
        axes = model._core.axes
        return type(model)(nodes, inputs, model.outputs, model.batch_first, axes=axes, isa=model.isa)

    mistake, advice, _ = next(iter(changes.values()))
    return Alternative(mistake, advice, make)


def _axes(model: Model, name: str) -> Labels:
    """Names of an output's axes in a batch."""
    names = {"batch": "sequence", "time": "step"}
    return tuple(names.get(axis, "feature") if isinstance(axis, str) else "feature" for axis in model.axes[name])


def _input_axes(model: Layer | Model, place: int, array: Array) -> tuple[str | int, ...]:
    """Of an input's array, which may be without the batch."""
    if isinstance(model, Model):
        axes = model.axes[model.inputs[place]]
    else:
        axes = ("batch", "time", model.input_size) if model.batch_first else ("time", "batch", model.input_size)
    return axes if array.ndim == len(axes) else tuple(axis for axis in axes if axis != "batch")


def _answer(name: str, labels: Labels, array: Any) -> tuple[str, Labels, Array]:
    """Without the axis of sequences where there is but one, and with each name once."""
    if array.ndim < len(labels):
        labels = tuple(label for label in labels if label != "sequence")
    if len(labels) != array.ndim:
        labels = tuple(f"axis {axis}" for axis in range(array.ndim))
    unique = tuple(label if labels.count(label) == 1 else f"{label} {axis}" for axis, label in enumerate(labels))
    return name, unique, np.asarray(array, np.float64)


def tolerance_of(model: Layer | Model) -> float:
    """What rounding explains, by the narrowest type of its weights."""
    parts = [model] if isinstance(model, Layer) else [node for _, node, _ in model.nodes]
    return max((_TOLERANCES[dtype] for dtype in dtypes_of(parts)), default=_TOLERANCES["float32"])


def _largest(ours: Array, expected: Array) -> float:
    apart = np.abs(ours - expected)
    return float(apart[np.isfinite(apart)].max(initial=0.0))
