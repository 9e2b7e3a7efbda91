"""Same bits, however you call it: no output depends on chunking, batch, position, neighbours, lengths or tier."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fusedcell as fc
from models import EVERY_KIND, KIND, Kind, flat, random_state, uniform

pytestmark = [pytest.mark.core, pytest.mark.float_weights]

every_kind = pytest.mark.parametrize("kind", EVERY_KIND, ids=lambda kind: kind.name)
INPUT_SIZE = 9
HIDDEN_SIZES = (5, 33)


def same(actual: Any, expected: Any) -> None:
    for a, e in zip(flat(actual), flat(expected), strict=True):
        np.testing.assert_array_equal(a, e)


def row_of_state(state: Any, row: int) -> Any:
    return tuple(part[:, row] for part in state) if isinstance(state, tuple) else state[:, row]


@every_kind
@pytest.mark.parametrize("hidden_size", HIDDEN_SIZES)
def test_steps_blocks_and_whole_sequences(kind: Kind, hidden_size: int, isa: str) -> None:
    layer = kind.make(kind.weights(INPUT_SIZE, hidden_size, layers=2), isa=isa)
    x = uniform(3, 40, INPUT_SIZE)
    y, state = layer(x)
    for block in (1, 2, 3, 7, 39, 40):
        stream = layer.stream()
        parts = [stream.process(x[t : t + block]) for t in range(0, len(x), block)]
        same(np.concatenate(parts), y)
        same(tuple(part[:, 0] for part in flat((stream.state,))), tuple(flat((state,))))
    stream = layer.stream()
    same(np.array([stream.step(row) for row in x]), y)


@every_kind
@pytest.mark.parametrize("hidden_size", HIDDEN_SIZES)
@pytest.mark.parametrize("batch", [1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 19])
def test_each_row_of_a_batch_is_as_if_alone(kind: Kind, hidden_size: int, batch: int, isa: str) -> None:
    mapping = kind.weights(INPUT_SIZE, hidden_size)
    layer = kind.make(mapping, isa=isa)
    x = uniform(4, 5, batch, INPUT_SIZE) * np.logspace(-3, 3, batch, dtype=np.float32)[:, None]
    state = random_state(kind, mapping, batch)
    y, end = layer(x, state)
    for row in range(batch):
        alone_y, alone_end = layer(x[:, row], row_of_state(state, row))
        same((y[:, row], row_of_state(end, row)), (alone_y, alone_end))


@every_kind
def test_a_sequence_longer_than_any_internal_block(kind: Kind, isa: str) -> None:
    layer = kind.make(kind.weights(INPUT_SIZE, 5, layers=3), isa=isa)
    x = uniform(5, 600, INPUT_SIZE)
    stream = layer.stream()
    y, end = layer(x)
    same(np.array([stream.step(row) for row in x]), y)
    same(tuple(part[:, 0] for part in flat((stream.state,))), tuple(flat((end,))))


@every_kind
def test_a_neighbour_full_of_nan_changes_nothing(kind: Kind, isa: str) -> None:
    layer = kind.make(kind.weights(INPUT_SIZE, 33), isa=isa)
    x = uniform(6, 4, 8, INPUT_SIZE)
    spoilt = x.copy()
    spoilt[:, 3] = [[np.nan], [np.inf], [-np.inf], [np.nan]]
    y, _ = layer(x)
    spoilt_y, _ = layer(spoilt)
    others = [row for row in range(8) if row != 3]
    same(spoilt_y[:, others], y[:, others])
    assert np.isnan(spoilt_y[-1, 3]).all()


@pytest.mark.parametrize("batch", [127, 128, 129, 253, 254, 255])
@pytest.mark.parametrize("left", [126, 127, 128])
def test_rows_that_go_on_when_most_of_a_large_batch_has_ended_are_as_alone(batch: int, left: int, isa: str) -> None:
    for dtype in ("float32", "int8"):
        layer = KIND["lstm"].make(KIND["lstm"].weights(INPUT_SIZE, 17), dtype=dtype, isa=isa)
        lengths = np.ones(batch, int)
        lengths[-min(left, batch) :] = 5  # the last of them: the order of rows is not that of lengths
        x = uniform(8, 5, batch, INPUT_SIZE)
        y, _ = layer(x, lengths=lengths)
        alone, _ = layer(x[:, -min(left, batch) :])
        np.testing.assert_array_equal(y[:, -min(left, batch) :], alone)


@every_kind
@pytest.mark.parametrize(
    ("hidden_size", "sizes", "lengths"),
    [
        (17, {"layers": 2, "directions": 2}, [0, 7, 1, 5, 7, 0, 2]),
        (5, {"layers": 3}, [90, 0, 38, 39, 77, 1, 100]),  # that end in different pieces of a stack
    ],
    ids=["both_directions", "pieces"],
)
def test_lengths_cut_a_row_as_if_it_ended_there(
    kind: Kind, hidden_size: int, sizes: dict[str, Any], lengths: list[int], isa: str
) -> None:
    mapping = kind.weights(INPUT_SIZE, hidden_size, **sizes)
    layer = kind.make(mapping, isa=isa)
    x = uniform(8, max(lengths), len(lengths), INPUT_SIZE)
    state = random_state(kind, mapping, len(lengths))
    y, end = layer(x, state, lengths=lengths)
    for row, length in enumerate(lengths):
        alone_y, alone_end = layer(x[:length, row], row_of_state(state, row))
        same((y[:length, row], row_of_state(end, row)), (alone_y, alone_end))
        assert not y[length:, row].any()


@pytest.mark.any_cpu
@every_kind
@pytest.mark.parametrize("hidden_size", HIDDEN_SIZES)
def test_every_tier_gives_the_same_bits(kind: Kind, hidden_size: int) -> None:
    mapping = kind.weights(INPUT_SIZE, hidden_size, layers=2, directions=2)
    x = uniform(9, 20, 7, INPUT_SIZE) * np.float32(3)
    results = [kind.make(mapping, isa=tier)(x) for tier in fc.isas()]
    for result in results[1:]:
        same(result, results[0])


@every_kind
def test_cells_layers_and_streams_agree(kind: Kind, isa: str) -> None:
    mapping = kind.weights(INPUT_SIZE, 17)
    layer, cell = kind.make(mapping, isa=isa), kind.make_cell(mapping, isa=isa)
    x = uniform(10, 6, INPUT_SIZE)
    y, _ = layer(x)
    state = None
    for x_t, y_t in zip(x, y, strict=True):
        state = cell(x_t, state)
        same(state[0] if isinstance(state, tuple) else state, y_t)
