"""Row kernels of models' nodes: as float64 has them, with the bits of the model on every tier at every size."""

from __future__ import annotations

import numpy as np
import pytest

import fusedcell as fc
import node_bit_model
from fusedcell import _core
from golden import assert_published, digest, published
from models import uniform

pytestmark = [pytest.mark.core, pytest.mark.float_weights, pytest.mark.of_bits]

OVER_PARTS = ("add", "multiply", "max_pool", "mean_pool", "sum_pool", "depthwise", "glu")
BY_FEATURE = ("scale", "prelu")
BY_PART = ("softmax", "log_softmax", "layer_norm", "rms_norm", "l2_norm")
NORMS = BY_PART[2:]
EVERY_KERNEL = OVER_PARTS + BY_FEATURE + BY_PART
SIZES = (*range(1, 41), 47, 48, 49, 63, 64, 65, 127, 128, 200, 257)
EPSILON = np.float32(1e-3)
every_kernel = pytest.mark.parametrize("kernel", EVERY_KERNEL)
every_norm = pytest.mark.parametrize("kernel", NORMS)


def run(
    kernel: str,
    x: np.ndarray,
    weight: np.ndarray | None = None,
    bias: np.ndarray | None = None,
    isa: str = "",
    epsilon: float = float(EPSILON),
) -> np.ndarray:
    y = _core.row_kernel(kernel, x, weight, bias, epsilon, isa)
    return y[0] if kernel in OVER_PARTS else y


def case(kernel: str, parts: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    parts = 2 if kernel == "glu" else parts
    x = uniform(size, parts, size) * np.float32(3) + np.float32(0.5)
    bias = uniform(size + 2, *((size,) if kernel == "depthwise" else (parts, size)))
    return x, uniform(size + 1, parts, size), bias


def exact(kernel: str, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, epsilon: float) -> np.ndarray:
    """In float64, as PyTorch's documentation has it."""
    x, weight, bias = (array.astype(np.float64) for array in (x, weight, bias))

    def mean(values: np.ndarray) -> np.ndarray:
        return values.mean(axis=1, keepdims=True)

    centred = x - mean(x)
    e = np.exp(x - x.max(axis=1, keepdims=True))
    softmax = e / e.sum(axis=1, keepdims=True)
    return {
        "add": lambda: x.sum(axis=0),
        "sum_pool": lambda: x.sum(axis=0),
        "multiply": lambda: x.prod(axis=0),
        "max_pool": lambda: x.max(axis=0),
        "mean_pool": lambda: x.mean(axis=0),
        "depthwise": lambda: (weight * x).sum(axis=0) + bias,
        "glu": lambda: x[0] / (1 + np.exp(-x[1])),
        "scale": lambda: weight * x + bias,
        "prelu": lambda: np.where(x < 0, weight * x, x),
        "softmax": lambda: softmax,
        "log_softmax": lambda: np.log(softmax),
        "layer_norm": lambda: centred / np.sqrt(mean(centred**2) + epsilon) * weight + bias,
        "rms_norm": lambda: x / np.sqrt(mean(x**2) + epsilon) * weight + bias,
        "l2_norm": lambda: x / np.maximum(np.sqrt((x**2).sum(axis=1, keepdims=True)), epsilon) * weight + bias,
    }[kernel]()


EVERY_CASE = [(parts, size) for size in SIZES for parts in (1, 3)]


def modelled(kernel: str) -> list[np.ndarray]:
    return [node_bit_model.row(kernel, *case(kernel, parts, size), EPSILON) for parts, size in EVERY_CASE]


def every_digest() -> dict[str, str]:
    """What golden.json holds of row kernels; test_bits.py writes it."""
    return {f"{kernel} of every size": digest(modelled(kernel)) for kernel in EVERY_KERNEL}


def test_every_kernel_is_tested() -> None:
    known = set(_core.kernels())
    assert known >= set(EVERY_KERNEL)
    with pytest.raises(ValueError, match="there is no row kernel 'tanh'"):
        _core.row_kernel("tanh", np.zeros((1, 1), np.float32))


@pytest.mark.any_cpu
@every_kernel
def test_results_are_as_in_float64(kernel: str) -> None:
    for size in SIZES:
        for parts in (1, 2, 3):
            x, weight, bias = case(kernel, parts, size)
            got, expected = run(kernel, x, weight, bias), exact(kernel, x, weight, bias, float(EPSILON))
            np.testing.assert_allclose(got, expected, rtol=2e-6, atol=2e-6, err_msg=f"{parts} parts of {size}")


@every_kernel
def test_the_bits_that_the_model_gives_at_every_size(kernel: str, isa: str) -> None:
    rows = [run(kernel, *case(kernel, parts, size), isa=isa) for parts, size in EVERY_CASE]
    assert_published(f"{kernel} of every size", rows, lambda: modelled(kernel))


@pytest.mark.any_cpu
@every_kernel
def test_the_model_agrees_with_golden_hashes(kernel: str) -> None:
    assert digest(modelled(kernel)) == published(f"{kernel} of every size")


@pytest.mark.parametrize("kernel", ["scale", "depthwise", *NORMS])
def test_weights_and_biases_that_are_not_given_are_ones_and_zeros(kernel: str, isa: str) -> None:
    x, weight, bias = case(kernel, 2, 21)
    ones, zeros = np.ones_like(weight), np.zeros_like(bias)
    np.testing.assert_array_equal(run(kernel, x, weight, None, isa), run(kernel, x, weight, zeros, isa))
    if kernel != "depthwise":
        np.testing.assert_array_equal(run(kernel, x, None, bias, isa), run(kernel, x, ones, bias, isa))
        np.testing.assert_array_equal(run(kernel, x, None, None, isa), run(kernel, x, ones, zeros, isa))


@pytest.mark.parametrize("kernel", [*BY_FEATURE, *BY_PART])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_part(kernel: str, value: float, isa: str) -> None:
    for size in (1, 5, 16, 35):
        x, weight, bias = case(kernel, 3, size)
        alone = run(kernel, x, weight, bias, isa)
        x[1, size // 2] = value
        got = run(kernel, x, weight, bias, isa)
        np.testing.assert_array_equal(got[[0, 2]], alone[[0, 2]])
        if np.isnan(value):
            assert np.isnan(got[1]).all() if kernel in BY_PART else np.isnan(got[1]).sum() == 1


@pytest.mark.parametrize("kernel", [kernel for kernel in OVER_PARTS if kernel != "glu"])
def test_not_a_number_in_any_part_is_so_in_its_feature_alone(kernel: str, isa: str) -> None:
    for part in range(3):
        x, weight, bias = case(kernel, 3, 21)
        x[part, 17] = np.nan
        assert np.flatnonzero(np.isnan(run(kernel, x, weight, bias, isa))).tolist() == [17]


def test_the_largest_of_infinities_and_numbers(isa: str) -> None:
    x = np.array([[-np.inf, np.inf, -np.inf, np.inf, 0.0, -0.0], [-np.inf, np.inf, 1, 1, -0.0, 0.0]], np.float32)
    got = run("max_pool", x, isa=isa)
    assert got.tolist() == [-np.inf, np.inf, 1, np.inf, 0, 0]
    assert np.signbit(got[4:]).tolist() == [False, True]  # the first of equal ones


def test_softmax_of_infinities(isa: str) -> None:
    for size in (2, 7, 16, 33):
        x = np.full((1, size), -np.inf, np.float32)
        assert np.isnan(run("softmax", x, isa=isa)).all()
        x[0, size - 1] = 2
        one = np.eye(size, dtype=np.float32)[size - 1]
        np.testing.assert_array_equal(run("softmax", x, isa=isa)[0], one)
        np.testing.assert_array_equal(run("log_softmax", x, isa=isa)[0], np.where(one == 1, 0, -np.inf))
        x[0, 0] = np.inf
        assert np.isnan(run("softmax", x, isa=isa)).all()


@pytest.mark.parametrize("kernel", ["softmax", "log_softmax"])
def test_softmax_of_large_numbers_does_not_overflow(kernel: str, isa: str) -> None:
    x = uniform(3, 1, 50) * np.float32(5) + np.float32(4096)
    np.testing.assert_allclose(run(kernel, x, isa=isa), exact(kernel, x, x, x, 0), rtol=2e-6)


@pytest.mark.parametrize("kernel", EVERY_KERNEL)
def test_zeros_have_the_same_sign_on_every_tier(kernel: str) -> None:
    tiny = np.float32(1.5 * 2.0**-126)  # differences of these are flushed to zeros of either sign
    values = np.array([0.0, -0.0, tiny, -tiny, np.nextafter(tiny, np.float32(1))], np.float32)
    for size in range(1, 40):
        x = np.resize(values, (2, size))
        weight = np.resize(values[::-1], (2, size))
        first, *others = fc.isas()
        expected = run(kernel, x, weight, isa=first, epsilon=1.0)
        for isa in others:
            got = run(kernel, x, weight, isa=isa, epsilon=1.0)
            np.testing.assert_array_equal(got.view(np.uint32), expected.view(np.uint32), f"{size}, {isa}")


@every_norm
def test_rows_of_zeros_stay_zero(kernel: str, isa: str) -> None:
    x = np.zeros((2, 19), np.float32)
    np.testing.assert_array_equal(run(kernel, x, isa=isa), x)
