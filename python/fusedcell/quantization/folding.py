"""Columns of a matrix made alike by scaling what they multiply, where a node before it can take that into itself.

With s_k = sqrt(max |W_ik| / max |x_k|), x_k s_k and W_ik / s_k have maxima that are alike (SmoothQuant, G. Xiao and
others, 2023), and neither a few weights nor a few features take an int8 scale for themselves. Each s_k is rounded to a
power of two, so products have the bits that they had; where a value would leave float32's range nothing is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._base import FloatArray
from ..cell_options import Activation
from ..layers import Layer
from ..model import Model
from ..nodes import Dense, LayerNorm, RMSNorm, Scale, Window
from .networks import Call, Matrix, Network, decibels, full
from .products import Array

_LEAST_GAIN_DB = 0.5
_HOMOGENEOUS = ("Relu", "LeakyRelu")  # f(s x) = s f(x) for s > 0


def folded(network: Network, calls: Sequence[Call], answers: Sequence[Sequence[Array]]) -> tuple[Network, list[str]]:
    """The network with what gains half a dB or more where the matrix alone is in int8, and the matrices' names."""
    done: list[str] = []
    if not isinstance(network.whole, Model):
        return network, done
    for name, node, source in network.nodes:
        labels = _columns_of(node)
        before = _producer(network, source)
        if not labels or before is None:
            continue
        names = [full(name, label) for label in labels]
        seen = np.max([np.abs(network.inputs(name, call)).max(axis=(0, 1)) for call in calls], axis=0)
        scales = _scales(node, np.concatenate([network.matrices[one].values for one in names]), seen)
        producer = _scaled(network.nodes[before][1], scales)
        columns = np.tile(scales, network.matrices[names[0]].values.shape[1] // len(scales))
        scaled = {one: Matrix(network.matrices[one].values / columns, "float32") for one in names}
        is_exact = all((scaled[one].values * columns == network.matrices[one].values).all() for one in names)
        if producer is None or not is_exact or any(network.matrices[one].dtype != "float32" for one in names):
            continue
        other = network.with_matrices(scaled)
        nodes = list(other.nodes)
        nodes[before] = (nodes[before][0], producer, nodes[before][2])
        other = other.with_nodes(tuple(nodes))
        if _alone(other, names, calls, answers) >= _alone(network, names, calls, answers) + _LEAST_GAIN_DB:
            network = other
            done += names
    return network, done


def _alone(network: Network, names: Sequence[str], calls: Sequence[Call], answers: Any) -> float:
    small = {name: network.matrices[name].astype("int8", name) for name in names}
    return decibels(answers, network.with_matrices(small).answers(calls))


def _columns_of(node: Any) -> list[str]:
    """Its matrices whose columns are the features of what it sees."""
    if isinstance(node, Layer):
        return [name for name in node.dtypes if name.startswith("weight_ih_l0")]
    has_features = isinstance(node, Dense) or (isinstance(node, Window) and node.groups == 1 and node.positions is None)
    return ["weight"] if has_features else []


def _producer(network: Network, source: Any) -> int | None:
    """The place of the one node that is read, if nothing else reads it."""
    assert isinstance(network.whole, Model)
    read = [one for _, _, sources in network.nodes for one in ((sources,) if isinstance(sources, str) else sources)]
    if not isinstance(source, str) or read.count(source) > 1 or source in network.whole.outputs:
        return None
    return next((place for place, (name, *_) in enumerate(network.nodes) if name == source), None)


def _scales(node: Any, weights: FloatArray, seen: FloatArray) -> FloatArray:
    largest = np.abs(weights).max(axis=0).reshape(-1, len(seen)).max(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        exponents = np.rint(np.log2(largest / seen) / 2)
    return np.exp2(np.where(np.isfinite(exponents), exponents, 0)).astype(np.float32)


def _scaled(node: Any, scales: FloatArray) -> Any:
    """The node whose features are multiplied by the scales, or None where that is not exact."""
    activation: Activation | None = getattr(node, "activation", None)
    if activation is not None and activation.name not in _HOMOGENEOUS:
        return None
    if isinstance(node, LayerNorm | RMSNorm | Scale):
        weight = np.ones_like(scales) if node.weight is None else node.weight
        changed = {"weight": weight * scales}
    elif isinstance(node, Dense) or (isinstance(node, Window) and node.repeat == 1 and node.positions is None):
        if node.dtype != "float32":
            return None
        changed = {"weight": node.weight * scales[:, None]}
    else:
        return None
    if getattr(node, "bias", None) is not None:
        changed["bias"] = node.bias * scales
    for name, array in changed.items():
        back = array / (scales[:, None] if array.ndim == 2 else scales)
        if getattr(node, name) is not None and not (back == getattr(node, name)).all():
            return None
        array.setflags(write=False)
    return node._with(**changed)
