"""A narrower layer against the layer it was made from, on data."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from .._base import FloatArray
from .._dominance import outside
from ..layers import Layer
from ..model import Model
from . import plot, report
from .arguments import calls_of, is_several, whole
from .attribution import Loss, Proposal, losses, proposal, warn_of
from .growth import growth_of
from .networks import Call, Network, decibels
from .products import Array
from .report import Findings
from .single import as_steps, check_layer, reverse_flags
from .sources import find_sources


@dataclass(frozen=True, eq=False)
class Comparison(Findings):
    """What :func:`compare` found. An error is the narrower layer's y minus the wider one's, in the units of y.

    Steps are counted as each direction takes them, the first one is 0. So in a bidirectional layer step k of the
    arrays by step is time k of y's forward half and time T - 1 - k of its reverse half.

    - rms_by_step, max_by_step: float64 (T,), the error's rms and largest magnitude over batch rows and units of y
    - rms, largest: the same over all steps
    - snr_db: 20 log10(rms of the wider layer's y / rms), dB; inf where there is no error
    - growth: rms over the last T // 10 steps divided by that over as many from step 10 on. About 1: the error is
      stationary; above: it accumulates. inf if the early ones have no error; None if T < 20, or neither has one
    - dtype_before, dtype_after, nbytes_before, nbytes_after: of the weights; bytes as
      :attr:`fusedcell.layers.Layer.nbytes`
    - sources: one a layer, direction and gate, see :class:`Source`
    - rows: the worst rows of weights, worst first, see :class:`Row`; those without error are not among them
    - matrices: what each matrix costs alone, the costliest first, see :class:`Loss`
    - proposal: the one matrix to leave wider, see :class:`Proposal`; None where none gains 3 dB
    """

    def __str__(self) -> str:
        return report.text(self)

    def plot(self, path: str | os.PathLike[str] | None = None) -> plot.Figure:
        """Draws the error over time and the sources by gate; returns a ``matplotlib.figure.Figure``.

        A path, whose end says the format (.png, .svg, ...), gets it as a file. Needs matplotlib, or raises ImportError
        (``pip install fusedcell[plot]``). Opens no window.
        """
        return plot.figure(self, path)


@dataclass(frozen=True, eq=False)
class ModelComparison:
    """What :func:`compare` found of models.

    - snr_db: by output, 20 log10(rms of the wider model's answer / rms of the error), dB
    - nbytes_before, nbytes_after: of packed weights
    - matrices, proposal: as in a :class:`Comparison`, of the output that has the lowest SNR in each case
    """

    snr_db: dict[str, float]
    nbytes_before: int
    nbytes_after: int
    matrices: tuple[Loss, ...]
    proposal: Proposal | None

    def __str__(self) -> str:
        size = f"{self.nbytes_before:,} -> {self.nbytes_after:,} bytes ({self.nbytes_after / self.nbytes_before:.3f})"
        outputs = ", ".join(f"{name} {snr:.1f} dB" for name, snr in self.snr_db.items())
        parts = [report.matrices_text(self.matrices, self.proposal, self.nbytes_before)] if self.matrices else []
        return "\n\n".join([f"SNR {outputs}; {size}", *parts])


@overload
def compare(layer: Layer, quantised: Layer, data: npt.ArrayLike, *, rows: int = 10) -> Comparison: ...
@overload
def compare(layer: Model, quantised: Model, data: npt.ArrayLike, *, rows: int = 10) -> ModelComparison: ...
def compare(
    layer: Layer | Model, quantised: Layer | Model, data: Any, *, rows: int = 10
) -> Comparison | ModelComparison:
    """Runs both layers, or both models, on data from state zero and tells where they differ, by how much, and why.

    `layer` is usually float32 and `quantised` is ``layer.astype(...)``. `data` is an array of floats, (T, I) or
    (T, B, I), or (B, T, I) with batch_first; what a call takes of a model, in a tuple where it has several inputs.
    `rows` is how many of a layer's worst rows are kept.

    Gives a :class:`fusedcell.QuantizationWarning` for an int8 matrix that alone leaves the answer less than 25 dB, and
    a UserWarning where the two seem exchanged, or not made from one another.

    Raises TypeError for what is not a layer or a model, or not floats, or for a list of calls; ValueError for layers
    that differ in more than their dtype and weights, models of other nodes, data of another shape, without a step or a
    batch row, or not finite, a negative `rows`, or an output that is not finite.
    """
    rows = whole("rows", rows)
    if is_several(data):
        raise TypeError("data: expected one call's, got a list of several; compare takes them one by one")
    if isinstance(layer, Model):
        if not isinstance(quantised, Model):
            raise TypeError(f"quantised: expected a Model, as layer is, got {type(quantised).__name__}")
        return _of_models(layer, quantised, *calls_of(layer, data))
    _check_alike(layer, quantised)
    assert isinstance(quantised, Layer)
    (data,) = data if isinstance(data, tuple) and len(data) == 1 else (data,)
    x = as_steps("data", data, layer)
    if not x.size:
        raise ValueError(f"data: expected at least one step and one batch row, got shape {np.shape(data)}")
    y = _output("layer", layer, x)
    error = _output("quantised", quantised, x) - y
    flags = reverse_flags(layer)
    for part, reverse in zip(np.split(error, len(flags), axis=2), flags, strict=True):
        if reverse:
            part[:] = part[::-1].copy()
    mean_squares = (error**2).mean(axis=(1, 2))
    max_by_step = np.abs(error).max(axis=(1, 2))
    rms = float(np.sqrt(mean_squares.mean()))
    sources, worst = find_sources(layer, quantised, x, rows)
    call = (x.swapaxes(0, 1) if layer.batch_first else x,)
    found, mending = _attributed(Network(layer), Network(quantised), call)
    return Comparison(
        dtype_before=layer.dtype,
        dtype_after=quantised.dtype,
        nbytes_before=layer.nbytes,
        nbytes_after=quantised.nbytes,
        rms=rms,
        largest=float(max_by_step.max()),
        snr_db=_decibels(float(np.sqrt((y**2).mean())), rms),
        growth=growth_of(mean_squares),
        rms_by_step=np.sqrt(mean_squares),
        max_by_step=max_by_step,
        sources=tuple(sources),
        rows=tuple(worst),
        matrices=tuple(found),
        proposal=mending,
    )


def _attributed(wide: Network, narrow: Network, call: Call) -> tuple[list[Loss], Proposal | None]:
    answers = wide.answers([call])
    found = losses(wide, narrow, [call], answers)
    mending = proposal(wide, narrow, [call], answers, found)
    if not _warn_of_strangers(wide, narrow, decibels(answers, narrow.answers([call]))):
        warn_of(wide, [call], found, mending)
    return found, mending


def _warn_of_strangers(wide: Network, narrow: Network, snr_db: float) -> bool:
    """Gives a UserWarning where `narrow` is hardly made from `wide`; what is lost then says nothing of rounding."""
    pairs = [(before, narrow.matrices[name]) for name, before in wide.matrices.items()]
    widths = [(before.bytes_of_weight, after.bytes_of_weight) for before, after in pairs]
    text = ""
    if all(before <= after for before, after in widths) and any(before < after for before, after in widths):
        text = "the first network's weights are narrower than the second's; are the two exchanged?"
    elif snr_db <= 0 and any(np.linalg.norm(b.values - a.values) > np.linalg.norm(b.values) / 2 for b, a in pairs):
        text = f"the answers have no more in common than {snr_db:.1f} dB; are the second network's weights the first's?"
    if text:
        warnings.warn(f"quantised: {text}", UserWarning, outside())
    return bool(text)


def _of_models(model: Model, quantised: Model, call: Call) -> ModelComparison:
    wide, narrow = Network(model), Network(quantised)
    if [(name, type(node), source) for name, node, source in wide.nodes] != [
        (name, type(node), source) for name, node, source in narrow.nodes
    ] or wide.matrices.keys() != narrow.matrices.keys():
        raise ValueError("quantised: expected the nodes of model, with other types of weights")
    answers, others = wide.answers([call]), narrow.answers([call])
    for name, parts in (("model", answers), ("quantised", others)):
        if not all(part.size and np.isfinite(part).all() for (part,) in parts):
            raise ValueError(f"{name}: an answer to these data is empty or not finite, so it has no error to measure")
    snr = {name: decibels([a], [b]) for name, a, b in zip(model.outputs, answers, others, strict=True)}
    found, mending = _attributed(wide, narrow, call)
    return ModelComparison(snr, model.nbytes, quantised.nbytes, tuple(found), mending)


def _decibels(signal: float, error: float) -> float:
    if error == 0:
        return float("inf")
    return float(20 * np.log10(signal / error)) if signal else -float("inf")


def _output(name: str, layer: Layer, x: FloatArray) -> Array:
    y = layer.stack.run(x)[0].astype(np.float64)
    if not np.isfinite(y).all():
        raise ValueError(f"{name}: its output for these data is not finite, so it has no error to measure")
    return y


def _check_alike(layer: Any, quantised: Any) -> None:
    check_layer("layer", layer)
    check_layer("quantised", quantised)
    wanted, got = _properties(layer), _properties(quantised)
    for name, value in wanted.items():
        if got[name] != value:
            raise ValueError(f"quantised: expected {name} {value}, as of layer, got {got[name]}")


def _properties(layer: Layer) -> dict[str, Any]:
    names = (
        "input_size",
        "hidden_size",
        "proj_size",
        "num_layers",
        "bidirectional",
        "reverse",
        "batch_first",
        "cell_options",
    )
    return {
        "class": type(layer).__name__,
        "kind": layer.stack.kind,
        **{name: getattr(layer, name) for name in names},
    }
