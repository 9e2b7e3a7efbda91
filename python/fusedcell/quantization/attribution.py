"""What each matrix alone, narrow where all else is wide, costs the answer; and the one change that mends most."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .._dominance import LARGEST_RATIO, outside, ratios
from .._dtypes import MIXED, QUANTISED
from ..errors import QuantizationWarning
from ..layers import Layer
from ..model import Model
from ..nodes.base import MatrixNode
from .networks import Call, Matrix, Network, decibels, wider_inputs
from .products import Array, has_bounded_products
from .single import single_layers

# A matrix alone leaves trained networks 28 dB or more, and 6 dB the one that collapses.
_LEAST_DB = 25.0
_LEAST_GAIN_DB = 3.0
_AS_GOOD_DB = 1.0
_MOST_NAMED = 4


@dataclass(frozen=True)
class Loss:
    """What one matrix costs: the SNR of the answer in dB where this matrix alone is narrow, of the worst output.

    `name` is that of files, weight_ih_l0, or node.weight_ih_l0 in a model; `dtype` the narrow type. `snr_db` is the SNR
    with all of it, `weights_db` where its weights are rounded and what it multiplies is not, and `inputs_db` what the
    rounding of that leaves: inf where nothing is lost, as by other types than int8. Fixed input scales are left aside.
    """

    name: str
    dtype: str
    snr_db: float
    weights_db: float
    inputs_db: float


@dataclass(frozen=True)
class Proposal:
    """One matrix wider: `types` are for ``wide.astype(types)``, and what comes of it on the same data.

    `name` and `dtype` are the matrix's and its new type, `snr_db` and `nbytes` of all then.
    """

    name: str
    dtype: str
    types: Mapping[str, Any]
    snr_db: float
    nbytes: int


def losses(wide: Network, narrow: Network, calls: Sequence[Call], answers: Sequence[Sequence[Array]]) -> list[Loss]:
    """Of each matrix that differs, the costliest first; `answers` are the wide network's."""
    found = []
    for name, before in wide.matrices.items():
        after = narrow.matrices[name]
        if after.dtype == before.dtype and np.array_equal(after.values, before.values):
            continue

        def with_it(matrix: Matrix, name: str = name) -> float:
            return decibels(answers, wide.with_matrices({name: matrix}).answers(calls))

        snr = of_weights = with_it(after)
        if after.dtype in QUANTISED:
            of_weights = with_it(Matrix(after.values, "float32"))
        found.append(Loss(name, after.dtype, snr, of_weights, _rest(snr, of_weights)))
    return sorted(found, key=lambda loss: loss.snr_db)


def _rest(snr: float, part: float) -> float:
    """The SNR of what is lost beside a part of the loss, as if the two had nothing to do with each other."""
    rest = noise_of(snr) - noise_of(part)
    return float("inf") if rest <= 0 else float(-10 * np.log10(rest))


def noise_of(snr_db: float) -> float:
    """The error's power where the answer has 1."""
    return float(10 ** (-snr_db / 10))


def proposal(
    wide: Network, narrow: Network, calls: Sequence[Call], answers: Sequence[Sequence[Array]], found: Sequence[Loss]
) -> Proposal | None:
    """The costliest int8 matrix in the type that gains most, if that is 3 dB, or in fewer bytes if that is as good."""
    snr = decibels(answers, narrow.answers(calls))
    name = next((loss.name for loss in found if loss.dtype in QUANTISED), None)
    if name is None or not np.isfinite(snr):
        return None
    matrix = narrow.matrices[name]
    ways = [matrix.astype(dtype, name) for dtype in wider_inputs(name) if dtype != matrix.dtype]
    ways.append(wide.matrices[name].astype(half_of(wide.matrices[name]), name))
    made = [narrow.with_matrices({name: way}) for way in ways]
    gained = [decibels(answers, one.answers(calls)) for one in made]
    best = next(place for place, one in enumerate(gained) if one >= max(gained) - _AS_GOOD_DB)
    if gained[best] < snr + _LEAST_GAIN_DB:
        return None
    return Proposal(name, ways[best].dtype, _types_of(made[best], wide.whole), gained[best], made[best].nbytes)


def half_of(matrix: Matrix) -> str:
    """The type of two bytes that holds a matrix best."""
    return "float16" if np.abs(matrix.values).max() < np.finfo(np.float16).max else "bfloat16"


def _types_of(network: Network, whole: Layer | Model) -> dict[str, Any]:
    """What `whole.astype` takes to make these types; of several nodes that one of the whole's is, the wider type."""
    if not isinstance(network.whole, Model) or not isinstance(whole, Model):
        return _of_names({name: matrix.dtype for name, matrix in network.matrices.items()})
    types: dict[str, Any] = {}
    for name, node, _ in network.nodes:
        owners = [owner for owner, *_ in whole.nodes if f"{name}.".startswith(f"{owner}.")]
        if isinstance(node, MatrixNode) and types.get(max(owners, key=len)) in (None, *QUANTISED):
            types[max(owners, key=len)] = node.dtype
        elif isinstance(node, Layer):
            types[max(owners, key=len)] = _of_names(node.dtypes) if node.dtype == MIXED else node.dtype
    return types


def _of_names(dtypes: Mapping[str, str]) -> dict[str, str]:
    """The type of most matrices of a name, weight_ih, and those of others by their own, weight_ih_l0."""
    kinds: dict[str, list[str]] = {}
    for name, dtype in dtypes.items():
        kinds.setdefault(name.partition("_l")[0], []).append(dtype)
    usual = {kind: max(found, key=found.count) for kind, found in kinds.items()}
    return usual | {name: dtype for name, dtype in dtypes.items() if dtype != usual[name.partition("_l")[0]]}


def warn_of(wide: Network, calls: Sequence[Call], found: Sequence[Loss], mending: Proposal | None) -> None:
    """A QuantizationWarning for each int8 matrix that alone costs more than any of a network that int8 suits."""
    for loss in found:
        if loss.dtype not in QUANTISED or loss.snr_db >= _LEAST_DB:
            continue
        text = f"{loss.name}: in {loss.dtype} it alone leaves the answer {loss.snr_db:.1f} dB; "
        text += _blamed(wide, calls, loss)
        if mending is not None and mending.name == loss.name:
            text += f". In {mending.dtype} it leaves all {mending.snr_db:.1f} dB, by astype({mending.types})"
        warnings.warn(f"{text}. fusedcell.quantization.calibrate chooses types", QuantizationWarning, outside())


def _blamed(wide: Network, calls: Sequence[Call], loss: Loss) -> str:
    """What dominates rows or vectors, whichever costs more."""
    seen = [x for call in calls for products in wide.products(call) for _, x in products.get(loss.name, [])]
    if not seen:
        return "its rows are taken one by one"  # of an embedding
    if loss.weights_db <= loss.inputs_db:
        weights = wide.matrices[loss.name]
        of_rows = ratios(weights.values)
        count = int(np.count_nonzero(of_rows > LARGEST_RATIO))
        rows = np.argsort(-of_rows, kind="stable")[: min(_MOST_NAMED, count)]
        errors = np.square(weights.values - weights.astype("int8", loss.name).values, dtype=np.float64).sum(axis=0)
        columns = errors.reshape(-1, seen[0].shape[1]).sum(axis=0) * _sum_of(
            np.square(x, dtype=np.float64) for x in seen
        )
        of_few = f", most in rows {rows.tolist()}, a weight is more than {LARGEST_RATIO} times the median one, and"
        return (
            f"rounding its weights leaves {loss.weights_db:.1f} dB: "
            f"{f'in {count} of {len(of_rows)} rows{of_few} ' if len(rows) else ''}"
            f"{_largest(columns)} of the error"
        )
    begins = f"rounding what it multiplies leaves {loss.inputs_db:.1f} dB: "
    if _is_bounded(wide, loss.name):
        rms = np.sqrt(np.mean([np.square(x, dtype=np.float64).mean() for x in seen]))
        levels = 127 if loss.dtype == "int8" else 127 * 128
        return f"{begins}it has a level every 1/{levels}, and an rms of {rms:.2g}"
    counts = _sum_of(np.abs(x) == np.abs(x).max(axis=1, keepdims=True) for x in seen)
    return f"{begins}{_largest(counts)} of the scales"


def _sum_of(parts: Iterable[npt.NDArray[Any]]) -> Array:
    """Over all vectors."""
    total: Array = np.stack([part.sum(axis=0, dtype=np.float64) for part in parts]).sum(axis=0)
    return total


def _largest(shares: Array) -> str:
    """Those with the largest shares, and what they have together."""
    found = [k for k in np.argsort(-shares, kind="stable")[:_MOST_NAMED].tolist() if shares[k] >= 0.05 * shares.sum()]
    return f"features {found} make {100 * shares[found].sum() / max(shares.sum(), 1e-300):.0f} %"


def _is_bounded(network: Network, name: str) -> bool:
    """Whether the matrix multiplies what is rounded to multiples of 1/127."""
    node_name, _, label = name.rpartition(".")
    nodes = {known: node for known, node, _ in network.nodes}
    if not label.startswith(("weight_hh", "weight_hr")):
        return False
    layer: Layer = nodes[node_name]
    return has_bounded_products(single_layers(layer)[0][0]) and not (layer.proj_size and "hh" in label)
