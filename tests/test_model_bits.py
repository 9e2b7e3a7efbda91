"""A whole model has the bits that its chain of operations gives, on every tier, in float32 and int8, in any cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bit_model
import fusedcell as fc
import node_bit_model
from fusedcell import nodes
from golden import assert_published, digest, published
from models import KIND, uniform

pytestmark = [pytest.mark.core, pytest.mark.of_bits]

STEPS, INPUTS, CHANNELS, UNITS, OUTPUTS = 12, 5, 19, 17, 21
EPSILON = 1e-3
DTYPES = ("float32", "int8", "int8_int16")

KERNEL, KERNEL_BIAS = uniform(1, CHANNELS, 3 * INPUTS), uniform(2, CHANNELS)
SCALE, SHIFT = uniform(3, CHANNELS), uniform(4, CHANNELS)
GRU = KIND["gru_reset_after"].weights(CHANNELS, UNITS)
HEAD, HEAD_BIAS = uniform(5, OUTPUTS, CHANNELS + UNITS), uniform(6, OUTPUTS)
X = uniform(7, STEPS, INPUTS)


def model(dtype: str, isa: str) -> fc.Model:
    steps: list[Any] = [
        ("conv", nodes.Window(KERNEL, KERNEL_BIAS, taps=3, padding=(2, 0), activation="tanh"), "x"),
        ("norm", nodes.LayerNorm(SCALE, SHIFT, eps=EPSILON), "conv"),
        ("gru", fc.GRU.from_state_dict(GRU), "norm"),
        ("answer", nodes.Dense(HEAD, HEAD_BIAS, activation="softmax"), ("conv", "gru")),
    ]
    return fc.Model(steps, isa=isa).astype(dtype)


def modelled(dtype: str) -> np.ndarray:
    """(STEPS, OUTPUTS), operation by operation."""
    product = bit_model.products(dtype)["weight_ih"]
    padded = np.concatenate([np.zeros((2, INPUTS), np.float32), X])
    sums = [product(KERNEL_BIAS, KERNEL, padded[t : t + 3].ravel(), bounded=False) for t in range(STEPS)]
    conv = np.array([bit_model.div(*bit_model.tanh_parts(row)) for row in sums])
    norm = np.array(
        [node_bit_model.row("layer_norm", row[None], SCALE[None], SHIFT[None], np.float32(EPSILON))[0] for row in conv]
    )
    h, _ = bit_model.run("gru_reset_after", GRU, norm, dtype)
    rows = np.concatenate([conv, h], axis=1)
    return np.array([node_bit_model.softmax(product(HEAD_BIAS, HEAD, row, bounded=False)) for row in rows])


def every_digest() -> dict[str, str]:
    """What golden.json holds of whole models; test_bits.py writes it."""
    return {f"model {dtype}": digest([modelled(dtype)]) for dtype in DTYPES}


@pytest.mark.parametrize("dtype", DTYPES)
def test_answers_have_the_published_bits(dtype: str, isa: str) -> None:
    assert_published(f"model {dtype}", [model(dtype, isa)(X)], lambda: [modelled(dtype)])


@pytest.mark.parametrize("dtype", DTYPES)
def test_steps_and_blocks_have_them_too(dtype: str, isa: str) -> None:
    stream = model(dtype, isa).stream()
    rows = [stream.step(X[0])[None], stream.process(X[1:6]), stream.process(X[6:]), stream.flush()]
    assert_published(f"model {dtype}", [np.concatenate(rows)], lambda: [modelled(dtype)])


@pytest.mark.any_cpu
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_model_agrees_with_golden_hashes(dtype: str) -> None:
    assert digest([modelled(dtype)]) == published(f"model {dtype}")
