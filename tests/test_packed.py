"""Packed sequences run as they are packed: the bits of each sequence alone, and memory in proportion to the data."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drawn import examples
from models import KIND, uniform

OTHERS = ("rnn_tanh", "lstm", "lstm_projected", "gru_reset_after", "gru_reset_before", "lstm_hard")


def pack(x: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(B, T, ...) with falling lengths, as PyTorch packs it: the data, and how many rows each step has."""
    sizes = (lengths[:, None] > np.arange(lengths[0])).sum(0)
    return np.concatenate([x[:size, step] for step, size in enumerate(sizes)]), sizes


def made(kind_name: str, dtype: str, layers: int, directions: int) -> Any:
    kind = KIND[kind_name]
    return kind.make(kind.weights(5, 9, layers=layers, directions=directions), dtype=dtype)


@settings(max_examples=examples(60), deadline=None)
@given(
    kind_name=st.sampled_from(OTHERS),
    dtype=st.sampled_from(["float32", "bfloat16", "int8"]),
    layers=st.integers(1, 3),
    directions=st.integers(1, 2),
    lengths=st.one_of(
        st.lists(st.integers(1, 40), min_size=1, max_size=12),
        st.tuples(st.integers(200, 600), st.integers(1, 150)).map(lambda skew: [skew[0]] + [2] * skew[1]),
        st.tuples(st.integers(1, 30), st.integers(60, 150)).map(lambda equal: [equal[0]] * equal[1]),
    ),
    num_threads=st.integers(1, 2),
    with_state=st.booleans(),
)
def test_every_sequence_has_the_bits_that_it_has_alone(
    kind_name: str,
    dtype: str,
    layers: int,
    directions: int,
    lengths: list[int],
    num_threads: int,
    with_state: bool,
) -> None:
    stack = made(kind_name, dtype, layers, directions)._stack
    falling = np.sort(lengths)[::-1]
    batch, steps = len(falling), int(falling[0])
    x = uniform(3, batch, steps, 5)
    h_0 = uniform(4, layers * directions, batch, stack.proj_size or 9) if with_state else None
    c_0 = uniform(5, layers * directions, batch, 9) if with_state and stack.kind == "lstm" else None
    data, sizes = pack(x, falling)
    y, h, c = stack.run_packed(data, sizes, h_0, c_0, num_threads)
    expected = np.zeros((batch, steps, y.shape[1]), np.float32)
    for row in {*range(min(batch, 3)), batch // 2, batch - 1}:
        of_row = [None if state is None else state[:, row] for state in (h_0, c_0)]
        alone, h_alone, c_alone, *_ = stack.run(x[row, : falling[row]], *of_row)
        expected[row, : falling[row]] = alone
        taken = np.cumsum([0, *sizes])[: falling[row]] + row
        np.testing.assert_array_equal(y[taken], alone)
        np.testing.assert_array_equal(h[:, row], h_alone)
        assert (c is None) == (c_alone is None)
        if c is not None:
            np.testing.assert_array_equal(c[:, row], c_alone)

    # And so have rows of any order and lengths in a padded array.
    order = np.random.default_rng(batch).permutation(batch)
    states = [None if state is None else state[:, order] for state in (h_0, c_0)]
    padded, h_padded, *_ = stack.run(x[order], *states, falling[order], None, True, num_threads)
    np.testing.assert_array_equal(pack(padded[np.argsort(order)], falling)[0], y)
    np.testing.assert_array_equal(h_padded, h[:, order])
    assert not any(row[length:].any() for row, length in zip(padded, falling[order], strict=True))


@pytest.mark.parametrize(
    ("sizes", "error", "message"),
    [
        ([1, 2, 1], ValueError, r"never rise and add up to the rows of x, 6, got 2 at index 1 with 5 rows left"),
        ([3, 2, 0], ValueError, r"numbers from 1 on .*, got 0 at index 2"),
        ([3, 2, -1], ValueError, r"numbers from 1 on .*, got -1 at index 2"),
        ([3, 2], ValueError, r"add up to the rows of x, 6, got 5"),
        ([3, 3, 1], ValueError, r"add up to the rows of x, 6, got 1 at index 2 with 0 rows left"),
        ([2**63 - 1], ValueError, r"add up to the rows of x, 6, got 9223372036854775807 at index 0"),
        (np.array([2**64 - 1], np.uint64), ValueError, r"got -1 at index 0"),
        ([[3], [3]], ValueError, r"expected shape \(steps,\), at least 1, got \(2, 1\)"),
        (6, ValueError, r"expected shape \(steps,\), at least 1, got \(\)"),
        (np.zeros(0, int), ValueError, r"expected shape \(steps,\), at least 1, got \(0,\)"),
        ([3.0, 3.0], TypeError, r"expected an array of integers, got dtype float64"),
        (None, TypeError, r"expected an array of integers, got dtype object"),
    ],
)
def test_batch_sizes_that_pack_nothing_are_refused_by_name(sizes: Any, error: type[Exception], message: str) -> None:
    stack = made("lstm", "float32", 1, 1)._stack
    with pytest.raises(error, match=f"^batch_sizes: .*{message}"):
        stack.run_packed(np.zeros((6, 5), np.float32), sizes)


def test_arrays_that_do_not_fit_packed_sequences_are_refused_by_name() -> None:
    stack = made("lstm", "float32", 2, 1)._stack
    for x in (np.zeros((6, 4), np.float32), np.zeros((6, 1, 5), np.float32), np.zeros(5, np.float32)):
        with pytest.raises(ValueError, match=r"x: expected shape \(rows, 5\), got"):
            stack.run_packed(x, [3, 3])
    x, h, c = np.zeros((6, 5), np.float32), np.zeros((2, 3, 9), np.float32), np.zeros((2, 6, 9), np.float32)
    with pytest.raises(ValueError, match=r"c_0: expected shape \(2, 3, 9\), got \(2, 6, 9\)"):
        stack.run_packed(x, [3, 3], h, c)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory where Linux says it")
@pytest.mark.parametrize("layers", ["1", "2"])
@pytest.mark.parametrize("directions", ["1", "2"])
def test_one_long_sequence_among_many_short_ones_takes_no_memory_of_its_own(layers: str, directions: str) -> None:
    # Padded, x alone would be of 1.5 GiB.
    script = """
import sys
from pathlib import Path
import numpy as np
from models import KIND

kind = KIND["lstm"]
weights = kind.weights(8, 8, layers=int(sys.argv[1]), directions=int(sys.argv[2]))
stack = kind.make(weights)._stack
sizes = np.array([5000, *[1] * 9999])
x = np.ones((sizes.sum(), 8), np.float32)

def peak():
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) >> 10

stack.run_packed(x[:2], [1, 1])
before = peak()
stack.run_packed(x, sizes)
assert peak() - before < 32, (before, peak())
"""
    paths = [path for path in sys.path if path]
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}\n{script}", layers, directions]
    subprocess.run(command, check=True, timeout=120)
