"""Same bits on every machine: outputs equal, float for float, to a model of the arithmetic and to published hashes."""

from __future__ import annotations

import json
from itertools import chain

import numpy as np
import pytest

import bit_model
import general_bit_model
from golden import PATH, assert_published, digest, published
from models import EVERY_NAME, KIND, SIZE_PAIRS, uniform

STEPS = 6
DTYPES = ("float32", "int8", "int8_int16")  # the others have the bits of float32 with rounded weights: test_widths.py

pytestmark = [pytest.mark.core, pytest.mark.of_bits]


def case(name: str, input_size: int, hidden_size: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    mapping = KIND[name].weights(input_size, hidden_size, seed=3)
    # Loud and quiet steps, so that gates saturate and also stay near their middle.
    x = uniform(11, STEPS, input_size) * np.array([0.1, 1, 10, 1e-3, 3, 0], np.float32)[:, None]
    return mapping, x


def modelled(name: str, input_size: int, hidden_size: int, dtype: str) -> tuple[np.ndarray, np.ndarray | None]:
    return general_bit_model.run_kind(KIND[name], *case(name, input_size, hidden_size), dtype)


def every_digest() -> dict[str, str]:
    """What golden.json holds of layers; `python tests/test_bits.py` writes it from the model, not from any kernel."""
    return {
        f"{name} {input_size} {hidden_size} {dtype}": digest(modelled(name, input_size, hidden_size, dtype))
        for dtype in DTYPES
        for name in EVERY_NAME
        for input_size, hidden_size in SIZE_PAIRS
    }


@pytest.mark.all_combinations
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", EVERY_NAME)
@pytest.mark.parametrize(("input_size", "hidden_size"), SIZE_PAIRS)
def test_outputs_have_the_bits_that_the_model_gives(
    name: str, input_size: int, hidden_size: int, dtype: str, isa: str
) -> None:
    mapping, x = case(name, input_size, hidden_size)
    y, state = KIND[name].make(mapping, dtype=dtype, isa=isa)(x)
    c = state[1][0] if isinstance(state, tuple) else None
    sizes = f"{name} {input_size} {hidden_size} {dtype}"
    assert_published(sizes, [y, c], lambda: modelled(name, input_size, hidden_size, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_number_of_inputs_gives_the_bits_of_the_scalar_tier(dtype: str, isa: str) -> None:
    for input_size in range(1, 37):  # the loops over them take up to 16 at a time
        mapping = KIND["lstm"].weights(input_size, 37 - input_size)
        for batch in (1, 7):
            x = uniform(input_size, 2, batch, input_size)
            y, (_, c) = KIND["lstm"].make(mapping, dtype=dtype, isa=isa)(x)
            expected_y, (_, expected_c) = KIND["lstm"].make(mapping, dtype=dtype, isa="scalar")(x)
            np.testing.assert_array_equal(y, expected_y, f"{input_size} inputs")
            np.testing.assert_array_equal(c, expected_c, f"{input_size} inputs")


# Inputs and units of which a matrix has 8 MB or more in float32: the kernels take such ones for beyond any second-level
# cache. Units and rows fill no whole vectors, tiles or groups.
BEYOND_CACHES = {"rnn_tanh": (8, 1451), "lstm": (713, 739), "gru_reset_after": (8, 853), "gru_reset_before": (8, 1030)}


@pytest.mark.parametrize("name", BEYOND_CACHES)
def test_rows_have_the_bits_of_each_alone_where_no_near_cache_holds_the_weights(name: str, isa: str) -> None:
    input_size, hidden_size = BEYOND_CACHES[name]
    kind = KIND[name]
    layer = kind.make(kind.weights(input_size, hidden_size), isa=isa)
    x, h, c = uniform(5, 1, 39, input_size), uniform(6, 1, 39, hidden_size), uniform(7, 1, 39, hidden_size)

    def answer(rows: slice) -> np.ndarray:
        state = (h[:, rows], c[:, rows]) if kind.gates == 4 else h[:, rows]
        return layer(x[:, rows], state)[0]

    alone = np.concatenate([answer(slice(b, b + 1)) for b in range(39)], axis=1)
    for rows in (2, 3, 4, 9, 36, 37, 38, 39):
        assert digest([answer(slice(rows))]) == digest([alone[:, :rows]]), f"{rows} rows"


@pytest.mark.any_cpu
def test_the_model_agrees_with_golden_hashes() -> None:
    for name in EVERY_NAME:
        for dtype in DTYPES:
            assert digest(modelled(name, 7, 9, dtype)) == published(f"{name} 7 9 {dtype}")


def halfway_inputs(name: str) -> np.ndarray:
    """Those x for which the exponent of 2 is exactly between two integers."""
    scale = bit_model.LOG2_E * np.float32(-2 if name == "tanh" else -1)
    exponents = np.arange(-29.5, 30)
    near = (exponents / scale).astype(np.float32).view(np.int32)[:, None] + np.arange(-2, 3, dtype=np.int32)
    x = near.astype(np.int32).view(np.float32).ravel()
    return x[np.isin(bit_model.mul(x, scale), exponents)]


def test_most_exponents_between_two_integers_have_an_input() -> None:
    assert len(halfway_inputs("tanh")) > 30
    assert len(halfway_inputs("sigmoid")) > 30


@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_activations_have_the_bits_that_the_model_gives(name: str, isa: str) -> None:
    from fusedcell import _core

    x = np.concatenate([uniform(5, 4000) * scale for scale in (1e-38, 1e-6, 0.3, 2, 40, 1e30)]).astype(np.float32)
    x = np.concatenate([x, halfway_inputs(name)])
    if name == "sigmoid":
        expected = bit_model.div(np.float32(1), bit_model.sigmoid_denominator(x))
    else:
        expected = bit_model.div(*bit_model.tanh_parts(x))
    np.testing.assert_array_equal(_core.map(name, x, isa), expected)


def test_the_models_fma_rounds_once() -> None:
    # 1 + 2^-12 squared is 1 + 2^-11 + 2^-24: a tie in float that 2^-60 breaks upwards and -2^-60 downwards.
    a = np.array([1 + 2.0**-12] * 3, np.float32)
    addend = np.array([2.0**-60, 0, -(2.0**-60)], np.float32)
    up, down = 1 + 2.0**-11 + 2.0**-23, 1 + 2.0**-11
    assert bit_model.fma(a, a, addend).tolist() == [up, down, down]


if __name__ == "__main__":
    import test_model_bits
    import test_row_kernels
    import test_sparse

    others = (test_row_kernels, test_model_bits, test_sparse)
    digests = dict(chain(every_digest().items(), *(module.every_digest().items() for module in others)))
    PATH.write_text(json.dumps(digests, indent=1) + "\n")
