"""int8 that keeps what is asked, on data: weights rounded with regard to what they multiply, and a type a matrix.

The order of operations:

1. the data are split: three quarters calibrate, and a quarter, held out, judges
2. columns are scaled where a node before the matrix takes that in (:mod:`.folding`)
3. the float network runs on the first part, and the second moments of what each matrix multiplies are summed up
4. each matrix is rounded to int8 with errors compensated (:mod:`.compensation`, by GPTQ), and where that keeps less of
   the held-out answer than plain rounding, plainly
5. while the held-out SNR is below what is asked: one matrix becomes wider, the one that gains most dB a byte, as if
   what matrices lose alone added up; inputs of int8 weights in int16, which take no bytes, come first
6. each wider matrix, the largest first, becomes narrow again if all keeps what is asked without it
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .._dtypes import QUANTISED
from .._text import show_progress
from ..layers import GRU, LSTM, RNN, Layer
from ..model import Model
from . import plot
from .arguments import calls_of, number, whole
from .attribution import half_of, noise_of
from .compensation import Moments
from .folding import folded
from .networks import Call, Matrix, Network, decibels, wider_inputs
from .products import Array
from .report import Calibrated, Step, calibration_text

_HELD_OUT = 4  # one part of so many
_LEAST_STEPS = 8
_LEAST_GAIN_DB = 0.5


@dataclass(frozen=True, eq=False)
class Calibration(Calibrated):
    """What :func:`calibrate` made; ``print`` gives a report.

    - layer, model: the result, of which one is None
    - snr_db: of the answer on the held-out data, of the output that has the lowest; target_db was asked for, and
      plain_db is what plain int8 keeps on the same data
    - nbytes, nbytes_before: bytes of packed weights
    - dtypes: type of each matrix, by its name in files
    - alone_db: by the same names, the SNR of the answer with that matrix alone in int8, as it was rounded
    - folded: the matrices whose columns were scaled
    - steps: all that was tried, in order
    """

    layer: LSTM | GRU | RNN | None
    model: Model | None

    @property
    def made(self) -> LSTM | GRU | RNN | Model:
        """The layer or the model."""
        made = self.layer or self.model
        assert made is not None
        return made

    def __str__(self) -> str:
        return calibration_text(self)

    def plot(self, path: str | os.PathLike[str] | None = None) -> plot.Figure:
        """Draws the SNR over bytes of all that was tried; returns a ``matplotlib.figure.Figure``.

        A path gets it as a file, whose end says the format. Needs matplotlib, or raises ImportError.
        """
        return plot.of_steps(self, path)


def calibrate(network: Layer | Model, data: npt.ArrayLike, snr_db: float = 35.0, *, seed: int = 0) -> Calibration:
    """Makes int8 of a float layer or model, and leaves wider what has to be for an answer of `snr_db` on held-out data.

    `data` are what calls take: floats (T, I) or (T, B, I), or (B, T, I) with batch_first; of a model, arrays as its
    `axes` say, in a tuple where it has several inputs. Of a batch a quarter of the rows is held out, chosen by `seed`;
    of one sequence the last quarter of its steps. A list has several such calls, of which each fourth is held out.
    Matrices that are int8 already stay as they are. The result is a layer or model as any other of such types.

    The same data give the same bytes, with the same NumPy on the same machine. On a terminal standard error shows how
    far it is.

    Where int8 would take no fewer bytes, as of a layer of some units, the result is the network as it was.

    Raises TypeError for what is neither a layer nor a model, for data without floats, and for an `snr_db` or `seed`
    that is no number; ValueError for data that are not so, are not finite, are too few to hold some out, or give an
    answer that is empty or not finite.
    """
    if not isinstance(network, Layer | Model):
        raise TypeError(f"network: expected a layer (LSTM, GRU or RNN) or a Model, got {type(network).__name__}")
    target = number("snr_db", snr_db)
    calls, held_out = _split(network, calls_of(network, data), whole("seed", seed))
    try:
        return _Search(Network(network), calls, held_out, target).result()
    finally:
        show_progress("")


class _Search:
    """Types by matrix, and what is kept with them."""

    def __init__(self, before: Network, calls: list[Call], held_out: list[Call], target: float) -> None:
        self._before, self._held_out, self._target = before, held_out, target
        self._answers = _checked(before, held_out)
        self._steps: list[Step] = []
        show_progress("running on the data")
        self._wide, self._folded = folded(before, calls, _checked(before, calls))
        moments = Moments(self._wide, calls)
        self._int8: dict[str, Matrix] = {}
        self._alone: dict[str, dict[str, float]] = {}  # dB by name and type
        floats = {name: matrix for name, matrix in self._wide.matrices.items() if matrix.dtype not in QUANTISED}
        for done, (name, matrix) in enumerate(floats.items()):
            show_progress(f"{done} of {len(floats)} matrices rounded, {name}")
            rounded = [moments.compensated(name, matrix), matrix.astype("int8", name)]
            kept = [self._snr({name: one}) for one in rounded]
            self._int8[name] = better = rounded[int(kept[1] > kept[0])]
            others = {dtype: self._snr({name: better.astype(dtype, name)}) for dtype in wider_inputs(name)}
            self._alone[name] = {"int8": max(kept)} | others
        self._chosen = dict(self._int8)
        plain = {name: before.matrices[name].astype("int8", name) for name in floats}
        self._plain = decibels(self._answers, before.with_matrices(plain).answers(held_out))

    def _snr(self, matrices: dict[str, Matrix]) -> float:
        return decibels(self._answers, self._wide.with_matrices(matrices).answers(self._held_out))

    def _try(self, change: str, matrices: dict[str, Matrix]) -> Step:
        show_progress(f"{len(self._steps)} sets of types tried, {change}")
        other = self._wide.with_matrices(matrices)
        step = Step(change, other.nbytes, decibels(self._answers, other.answers(self._held_out)))
        self._steps.append(step)
        return step

    def result(self) -> Calibration:
        """Steps 5 and 6 of the module's list."""
        step = self._try("all int8", self._chosen)
        while step.snr_db < self._target and (wider := self._wider()) is not None:
            name, matrix = wider
            self._chosen[name] = matrix
            step = self._try(f"{name} {matrix.dtype}", self._chosen)
        widened = [name for name, matrix in self._chosen.items() if matrix.dtype != "int8"]
        for name in sorted(widened if len(widened) > 1 else [], key=lambda name: -self._chosen[name].nbytes):
            without = self._chosen | {name: self._int8[name]}
            if (tried := self._try(f"{name} int8 again", without)).snr_db >= self._target:
                self._chosen, step = without, tried
        made = self._wide.with_matrices(self._chosen)
        if self._chosen and made.nbytes >= self._before.nbytes:
            made, self._folded = self._before, []
            step = Step("as it was", made.nbytes, decibels(self._answers, made.answers(self._held_out)))
            self._steps.append(step)
        return Calibration(
            layer=made.whole if isinstance(made.whole, LSTM | GRU | RNN) else None,
            model=made.whole if isinstance(made.whole, Model) else None,
            snr_db=step.snr_db,
            target_db=self._target,
            plain_db=self._plain,
            nbytes=made.nbytes,
            nbytes_before=self._before.nbytes,
            dtypes={name: matrix.dtype for name, matrix in made.matrices.items()},
            alone_db={name: kept["int8"] for name, kept in self._alone.items()},
            folded=tuple(self._folded),
            steps=tuple(self._steps),
        )

    def _wider(self) -> tuple[str, Matrix] | None:
        """The matrix that becomes wider, and what it becomes; None where all are as they were.

        What costs no byte comes first, if it gains half a dB, and then what gains most dB a byte.
        """
        noise = {name: noise_of(self._alone[name].get(now.dtype, np.inf)) for name, now in self._chosen.items()}
        total = sum(noise.values())
        ways = []
        for name, now in self._chosen.items():
            for wider in _ways(self._wide.matrices[name], now, name):
                left = total - noise[name] + noise_of(self._alone[name].get(wider.dtype, np.inf))
                gain = 10 * np.log10(max(total, 1e-30) / max(left, 1e-30))
                extra = wider.nbytes - now.nbytes
                if extra or gain >= _LEAST_GAIN_DB:
                    ways.append((extra > 0, -gain / max(extra, 1), extra, name, wider))
        return min(ways, key=lambda way: way[:4])[3:] if ways else None


def _ways(wide: Matrix, now: Matrix, name: str) -> list[Matrix]:
    """The wider types that come next: int8 with wider inputs, two bytes, and what it was."""
    if now.dtype == wide.dtype:
        return []
    half = half_of(wide)
    wider = wide if now.dtype == half or wide.dtype != "float32" else wide.astype(half, name)
    return [*(now.astype(dtype, name) for dtype in wider_inputs(name) if now.dtype == "int8"), wider]


def _checked(network: Network, calls: Sequence[Call]) -> list[list[Array]]:
    answers = network.answers(calls)
    if any(sum(part.size for part in parts) == 0 for parts in answers):
        raise ValueError("data: a part of them gives no answer, as it has too few steps; give more")
    if not all(np.isfinite(part).all() for parts in answers for part in parts):
        raise ValueError("network: its answer to these data is not finite, so it has no error to measure")
    return answers


def _split(network: Layer | Model, calls: list[Call], seed: int) -> tuple[list[Call], list[Call]]:
    """Calls to calibrate by, and calls that judge."""
    if len(calls) > 1:
        chosen = set(np.random.default_rng(seed).permutation(len(calls))[: -(-len(calls) // _HELD_OUT)].tolist())
        return ([c for i, c in enumerate(calls) if i not in chosen], [calls[i] for i in sorted(chosen)])
    (call,) = calls
    axes = [_axes_of(network, place, array) for place, array in enumerate(call)]
    for axis, least in (("batch", 2), ("time", _LEAST_STEPS)):
        sizes = {array.shape[own.index(axis)] for own, array in zip(axes, call, strict=True) if axis in own}
        if len(sizes) == 1 and (size := sizes.pop()) >= least:
            order = np.random.default_rng(seed).permutation(size) if axis == "batch" else np.arange(size)[::-1]
            count = -(-size // _HELD_OUT)
            kept, held_out = (_taken(call, axes, axis, np.sort(part)) for part in (order[count:], order[:count]))
            return [kept], [held_out]
    raise ValueError(
        f"data: expected at least 2 batch rows, {_LEAST_STEPS} steps or a list of 2 calls, of which some can be held "
        f"out, got shape {', '.join(str(array.shape) for array in call)}"
    )


def _taken(call: Call, axes: Sequence[list[str | int]], axis: str, places: Any) -> Call:
    """Those places of an axis, of the arrays that have it."""
    return tuple(
        np.take(array, places, own.index(axis)) if axis in own else array for own, array in zip(axes, call, strict=True)
    )


def _axes_of(network: Layer | Model, place: int, array: Any) -> list[str | int]:
    """What each axis of an input is."""
    if isinstance(network, Layer):
        axes: list[str | int] = ["batch", "time", 0] if network.batch_first else ["time", "batch", 0]
    else:
        axes = list(network.axes[network.inputs[place]])
    return axes if array.ndim == len(axes) else [axis for axis in axes if axis != "batch"]
