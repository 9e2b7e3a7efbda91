"""mask=: a step where it is False does not count. Its x has no influence, the state is held, and y repeats it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models import EVERY_KIND, KIND, Kind, flat, random_state, uniform

every_kind = pytest.mark.parametrize("kind", EVERY_KIND, ids=lambda kind: kind.name)
STEPS, BATCH, INPUT_SIZE = 100, 5, 9
LENGTHS = [100, 0, 64, 33, 1]


def pattern(*shape: int) -> np.ndarray:
    """About half true, with runs, and rows that begin and end with either."""
    return (uniform(31, *shape) + np.roll(uniform(31, *shape), 1, axis=0)) > 0


def same(actual: Any, expected: Any) -> None:
    for a, e in zip(flat(actual), flat(expected), strict=True):
        np.testing.assert_array_equal(a, e)


@pytest.mark.any_cpu
@pytest.mark.core
@every_kind
@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("directions", [1, 2])
def test_any_pattern_is_as_in_the_reference(kind: Kind, lengths: Any, directions: int) -> None:
    mapping = kind.weights(INPUT_SIZE, 17, layers=2, directions=directions)
    x, mask = uniform(32, STEPS, BATCH, INPUT_SIZE), pattern(STEPS, BATCH)
    state = random_state(kind, mapping, BATCH)
    actual = kind.make(mapping)(x, state, lengths=lengths, mask=mask)
    expected = kind.expected(x, mapping, state, lengths=lengths, mask=mask)
    for a, e in zip(flat(actual), flat(expected), strict=True):
        np.testing.assert_allclose(a, e, rtol=0, atol=2e-6)


@pytest.mark.core
@every_kind
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_steps_that_do_not_count_might_as_well_not_be_there(kind: Kind, dtype: str, isa: str) -> None:
    layer = kind.make(kind.weights(INPUT_SIZE, 17, layers=2), dtype=dtype, isa=isa)
    x, mask = uniform(33, STEPS, BATCH, INPUT_SIZE), pattern(STEPS, BATCH)
    y, state = layer(np.where(mask[..., None], x, np.float32(np.nan)), mask=mask)
    for row in range(BATCH):
        counting = mask[:, row]
        alone_y, alone_state = layer(x[counting, row])
        same(y[counting, row], alone_y)
        same(tuple(part[:, row] for part in flat((state,))), tuple(flat((alone_state,))))


@every_kind
def test_y_repeats_the_state_and_starts_with_the_initial_one(kind: Kind) -> None:
    mapping = kind.weights(INPUT_SIZE, 8)
    state = random_state(kind, mapping, 1)
    h_0 = flat((state,))[0]
    mask = np.array([[False], [False], [True], [False], [True], [False]])
    y, _ = kind.make(mapping)(uniform(34, 6, 1, INPUT_SIZE), state, mask=mask)
    np.testing.assert_array_equal(y[:2], np.broadcast_to(h_0, y[:2].shape))
    np.testing.assert_array_equal(y[3], y[2])
    np.testing.assert_array_equal(y[5], y[4])


@every_kind
def test_a_mask_without_gaps_changes_nothing(kind: Kind) -> None:
    layer = kind.make(kind.weights(INPUT_SIZE, 17, layers=2, directions=2))
    x = uniform(35, 7, 3, INPUT_SIZE)
    same(layer(x, mask=np.ones((7, 3), bool)), layer(x))


@every_kind
def test_a_mask_that_hides_everything_returns_the_state(kind: Kind) -> None:
    mapping = kind.weights(INPUT_SIZE, 17, layers=2)
    state = random_state(kind, mapping, 3)
    _, end = kind.make(mapping)(uniform(36, 7, 3, INPUT_SIZE), state, mask=np.zeros((7, 3), bool))
    same((end,), (state,))


@every_kind
def test_batch_first_and_one_sequence(kind: Kind) -> None:
    mapping = kind.weights(INPUT_SIZE, 17)
    x, mask = uniform(37, 20, 3, INPUT_SIZE), pattern(20, 3)
    y, state = kind.make(mapping)(x, mask=mask)
    first_y, first_state = kind.make(mapping, batch_first=True)(x.swapaxes(0, 1), mask=mask.T)
    same((first_y.swapaxes(0, 1), first_state), (y, state))
    alone_y, alone_state = kind.make(mapping)(x[:, 1], mask=mask[:, 1])
    same((alone_y, alone_state), (y[:, 1], tuple(part[:, 1] for part in flat((state,)))))


@every_kind
@pytest.mark.parametrize("shape", [{"hidden_size": 300}, {"hidden_size": 100, "layers": 3}], ids=str)
def test_threads_give_the_same_bits(kind: Kind, shape: dict[str, Any]) -> None:
    layer = kind.make(kind.weights(40, **shape))
    x, mask = uniform(38, 90, 4, 40), pattern(90, 4)
    same(layer(x, mask=mask, num_threads=3), layer(x, mask=mask))


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (np.ones((4, 2), np.float32), TypeError, "mask: expected an array of bools, got dtype float32"),
        (np.full((4, 2), 2), ValueError, "mask: expected bools, or integers 0 and 1, got 2"),
        (np.full((4, 2), -1, np.int8), ValueError, "mask: expected bools, or integers 0 and 1, got -1"),
        (
            np.ones((2, 4), bool),
            ValueError,
            r"mask: expected shape \(4, 2\) \(x's without its last axis\), got \(2, 4\)",
        ),
        (np.ones(4, bool), ValueError, r"mask: expected shape \(4, 2\)"),
        (np.ones((4, 2, 1), bool), ValueError, r"mask: expected shape \(4, 2\)"),
        ("yes", TypeError, "mask: expected an array of bools"),
    ],
)
def test_what_is_no_mask_is_refused(mask: Any, error: type[Exception], message: str) -> None:
    layer = KIND["gru_reset_after"].make(KIND["gru_reset_after"].weights(3, 5))
    with pytest.raises(error, match=message):
        layer(uniform(39, 4, 2, 3), mask=mask)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.int16])
def test_integers_0_and_1_are_a_mask(dtype: type) -> None:
    layer = KIND["lstm"].make(KIND["lstm"].weights(3, 5))
    x, mask = uniform(41, 6, 2, 3), pattern(6, 2)
    same(layer(x, mask=mask.astype(dtype)), layer(x, mask=mask))
    same(layer(x, mask=np.asfortranarray(mask.astype(dtype))), layer(x, mask=mask))


def test_bytes_that_are_neither_0_nor_1_count_as_true() -> None:
    layer = KIND["lstm"].make(KIND["lstm"].weights(3, 5))
    x = uniform(40, 4, 2, 3)
    odd = np.array([[2, 0], [255, 1], [0, 0], [7, 128]], np.uint8)
    same(layer(x, mask=odd.view(bool)), layer(x, mask=odd != 0))
