"""Other ways to read the same answer: without another run, is it what was expected after all?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from .differences import Array, Labels, allowed, distance, transpositions

_MOST_STEPS_LATE = 8
_MOST_FEATURES, _ROWS_TO_MATCH = 512, 64


class Reading(NamedTuple):
    """What may be wrong, what to do, and both arrays as they would be then."""

    mistake: str
    advice: str
    ours: Array
    expected: Array


def readings(ours: Array, expected: Array, labels: Labels, directions: int, tolerance: float) -> Iterator[Reading]:
    """The likelier first; shapes of both need not be equal."""
    yield from _arranged(ours, expected, labels)
    yield from _of_steps(ours, expected, labels, directions)
    if directions == 2:
        yield from _of_directions(ours, expected)
    if ours.shape == expected.shape and ours.size:
        yield from _of_functions(ours, expected)
        yield from _of_features(ours, expected, tolerance)
        yield from _scaled(ours, expected)


def _arranged(ours: Array, expected: Array, labels: Labels) -> Iterator[Reading]:
    for order in transpositions(expected.shape, ours.shape):
        named = tuple(labels[order.index(axis)] for axis in range(len(order)))
        advice = f"compare with expected.transpose{order}"
        if set(order[:2]) == {0, 1} and {"step", "sequence"} <= set(labels):
            first = named[0] == "sequence"
            advice += f", or load the model with batch_first={first}, whose x and answer are then ({', '.join(named)})"
        text = f"the axes of expected are ({', '.join(named)}), and those of the answer ({', '.join(labels)})"
        yield Reading(text, advice, ours, expected.transpose(order))


def _of_steps(ours: Array, expected: Array, labels: Labels, directions: int) -> Iterator[Reading]:
    if "step" not in labels or not ours.shape[labels.index("step")]:
        return
    axis = labels.index("step")
    for name, index in (("last", -1), ("first", 0)):
        step = ours.take(index, axis)
        if step.size == expected.size:
            text = f"expected is the {name} step alone, where this answers at every step"
            advice = f"compare with the {name} step of the answer, or end the model with fusedcell.nodes.Last()"
            yield Reading(text, advice, step, expected.reshape(step.shape))
    if directions == 2 and ours.size == expected.size * ours.shape[axis]:
        half = ours.shape[-1] // 2
        last = np.concatenate([ours.take(-1, axis)[..., :half], ours.take(0, axis)[..., half:]], -1)
        text = "expected is the last step of the forward direction and the first of the reverse one, where it ends"
        advice = "compare with h_n, or end the model with fusedcell.nodes.Last(num_directions=2)"
        yield Reading(text, advice, last, expected.reshape(last.shape))
    if ours.shape[:axis] + ours.shape[axis + 1 :] != expected.shape[:axis] + expected.shape[axis + 1 :]:
        return
    if ours.shape == expected.shape:
        yield Reading(
            "the steps of expected run backward",
            "turn expected round along time: some layers that go backward answer in the order in which they went",
            ours,
            np.flip(expected, axis),
        )
    steps, given = ours.shape[axis], expected.shape[axis]
    for late in sorted(range(-_MOST_STEPS_LATE, _MOST_STEPS_LATE + 1), key=abs):
        begin, end = max(0, -late), min(steps, given - late)
        if end - begin < 2 or (late == 0 and steps == given) or 2 * (end - begin) < steps:
            continue
        text = f"step t of the answer is step t + {late} of expected" if late else "only the number of steps differs"
        advice = (
            f"give {'more' if given > steps else 'fewer'} rows of padding, or leave rows of the answer out"
            if given != steps
            else f"move {abs(late)} rows of padding of a window or convolution to its {'left' if late > 0 else 'right'}"
        )
        yield Reading(text, advice, _cut(ours, axis, begin, end), _cut(expected, axis, begin + late, end + late))


def _cut(array: Array, axis: int, begin: int, end: int) -> Array:
    return array[(slice(None),) * axis + (slice(begin, end),)]


def _of_directions(ours: Array, expected: Array) -> Iterator[Reading]:
    forward, backward = np.split(ours, 2, axis=-1)
    advice = "a layer answers with both directions side by side, forward first; merge what it gives the same way"
    merged = {
        "the reverse direction and then the forward one": np.concatenate([backward, forward], -1),
        "the sum of both directions": forward + backward,
        "the mean of both directions": (forward + backward) / 2,
        "the product of both directions": forward * backward,
        "the forward direction alone": forward,
    }
    for name, answer in merged.items():
        if answer.shape == expected.shape:
            yield Reading(f"expected is {name}", advice, answer, expected)


def _softmax(array: Array) -> Array:
    powers = np.exp(array - array.max(-1, keepdims=True))
    result: Array = powers / powers.sum(-1, keepdims=True)
    return result


def _sigmoid(array: Array) -> Array:
    result: Array = 1 / (1 + np.exp(-array))
    return result


def _of_functions(ours: Array, expected: Array) -> Iterator[Reading]:
    several = ours.shape[-1] > 1 if ours.ndim else False
    with np.errstate(all="ignore"):
        # First, as softmax makes of logarithms of probabilities those probabilities.
        yield Reading(
            "expected is the logarithm of the answer (log_softmax against softmax)",
            "end the model with fusedcell.nodes.LogSoftmax() in place of Softmax()",
            np.log(ours),
            expected,
        )
        yield Reading(
            "the answer is the logarithm of expected (log_softmax against softmax)",
            "end the model with fusedcell.nodes.Softmax() in place of LogSoftmax()",
            np.exp(ours),
            expected,
        )
        if several:
            yield Reading(
                "expected has gone through softmax, and the answer has not",
                "end the model with fusedcell.nodes.Softmax()",
                _softmax(ours),
                expected,
            )
            yield Reading(
                "expected has gone through log_softmax, and the answer has not",
                "end the model with fusedcell.nodes.LogSoftmax()",
                np.log(_softmax(ours)),
                expected,
            )
            yield Reading(
                "the answer has gone through softmax, and expected has not",
                "leave the model's last softmax out, or compare with the softmax of expected",
                ours,
                _softmax(expected),
            )
            yield Reading(
                "the answer has gone through log_softmax, and expected has not",
                "leave the model's last log_softmax out, or compare with the log_softmax of expected",
                ours,
                np.log(_softmax(expected)),
            )
        for name, function in (("sigmoid", _sigmoid), ("tanh", np.tanh)):
            text = f"has gone through {name}"
            advice = f"end the model with an activation {name!r}"
            yield Reading(f"expected {text}, and the answer has not", advice, function(ours), expected)
            advice = f"leave the model's last {name} out"
            yield Reading(f"the answer {text}, and expected has not", advice, ours, function(expected))


def _of_features(ours: Array, expected: Array, tolerance: float) -> Iterator[Reading]:
    order = _matched(ours.reshape(-1, ours.shape[-1]), expected.reshape(-1, ours.shape[-1]), tolerance)
    if order is not None:
        shown = ", ".join(map(str, order[:16])) + (", ..." if len(order) > 16 else "")
        yield Reading(
            f"the features are the same in another order: answer[..., k] is expected[..., order[k]], order = [{shown}]",
            "put the features, or channels, into one order, as a node fusedcell.nodes.Take(order) does",
            ours,
            expected[..., order],
        )


def _matched(ours: Array, expected: Array, tolerance: float) -> list[int] | None:
    """Which of expected's features each of ours is, each once; None where they do not match."""
    count = ours.shape[1]
    if not 1 < count <= _MOST_FEATURES:
        return None
    rows = np.unique(np.linspace(0, len(ours) - 1, min(len(ours), _ROWS_TO_MATCH)).astype(int))
    most, free, order = allowed(expected, tolerance), np.ones(count, bool), []
    for feature in range(count):
        apart = distance(expected[rows], ours[rows, feature, None]).max(0)
        place = int(np.where(free, apart, np.inf).argmin())
        if not free[place] or apart[place] > most:
            return None
        free[place] = False
        order.append(place)
    return order


def _scaled(ours: Array, expected: Array) -> Iterator[Reading]:
    x, y = ours.ravel(), expected.ravel()
    if len(x) < 8 or not (np.isfinite(x).all() and np.isfinite(y).all()) or np.ptp(x) == 0 or np.ptp(y) == 0:
        return
    centred: Any = x - x.mean()
    factor = float((centred * y).sum() / (centred**2).sum())
    offset = float(y.mean() - factor * x.mean())
    yield Reading(
        f"expected is {factor:.6g} times the answer, plus {offset:.6g}",
        "look for a gain, a normalisation or a bias at the end, or before a model that is linear; "
        "fusedcell.nodes.Scale is one",
        factor * ours + offset,
        expected,
    )
