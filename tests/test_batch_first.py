"""With batch_first a stream takes and gives (B, T, ...) as its layer does, with its bits, however it came to be."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fusedcell as fc
from drawn import examples
from fusedcell._dtypes import DTYPES
from fusedcell.quantization import compare, input_scales
from models import EVERY_KIND, EVERY_NAME, KIND, Kind, flat, random_state, uniform

pytestmark = pytest.mark.core

every_kind = pytest.mark.parametrize("kind", EVERY_KIND, ids=lambda kind: kind.name)
SIZES = st.integers(1, 5)
TOLERANCE = 2e-6  # as in test_against_reference.py


def bits(array: np.ndarray) -> Any:
    return array.view(np.uint32).tolist()


@settings(max_examples=examples(60))
@given(
    name=st.sampled_from(EVERY_NAME),
    dtype=st.sampled_from(DTYPES),
    batch=SIZES,
    steps=SIZES,
    layers=st.integers(1, 2),
    cut=st.integers(0, 5),
    clone=st.sampled_from(["none", "copy", "copy.copy", "copy.deepcopy", "bytes", "state"]),
)
def test_a_stream_takes_blocks_as_its_layer_takes_x(
    name: str, dtype: str, batch: int, steps: int, layers: int, cut: int, clone: str
) -> None:
    kind = KIND[name]
    mapping = kind.weights(3, 4, layers=layers)
    layer = kind.make(mapping, dtype=dtype, batch_first=True)
    x = uniform(steps, batch, steps, 3)
    y, *state = layer(x)
    stream = layer.stream(batch)
    cut = min(cut, steps)
    first = stream.process(x[:, :cut])
    if clone == "state":
        stream, old = layer.stream(batch), stream
        stream.state = old.state
    else:
        stream = {
            "none": lambda: stream,
            "copy": stream.copy,
            "copy.copy": lambda: copy.copy(stream),
            "copy.deepcopy": lambda: copy.deepcopy(stream),
            "bytes": lambda: layer.stream_from_bytes(stream.to_bytes()),
        }[clone]()
    assert stream.batch_first
    parts = np.concatenate([first, stream.process(x[:, cut:])], axis=1)
    assert parts.shape == (batch, steps, stream.output_size)
    assert bits(parts) == bits(y)
    assert [bits(part) for part in flat((stream.state,))] == [bits(part) for part in flat(tuple(state))]

    by_step = layer.stream(batch)
    rows = np.stack([by_step.step(x[0, t] if batch == 1 else x[:, t]).reshape(batch, -1) for t in range(steps)], axis=1)
    assert bits(rows) == bits(y)
    if dtype == "float32":
        expected = flat(kind.expected(x, mapping, batch_first=True))
        for actual, wanted in zip([parts, *flat((stream.state,))], expected, strict=True):
            np.testing.assert_allclose(actual, wanted, rtol=0, atol=TOLERANCE)


@every_kind
def test_one_row_may_have_no_axis_of_its_own(kind: Kind) -> None:
    layer = kind.make(kind.weights(3, 4), batch_first=True)
    x = uniform(1, 6, 3)
    y = layer(x)[0]
    assert bits(layer.stream().process(x)) == bits(y)
    assert bits(layer.stream().process(x[None])) == bits(y[None])


@pytest.mark.parametrize("batch_first", [False, True])
def test_blocks_in_the_other_arrangement_are_refused_and_change_nothing(batch_first: bool) -> None:
    kind = KIND["lstm"]
    layer = kind.make(kind.weights(3, 4), batch_first=batch_first)
    for batch in (1, 2):
        stream = layer.stream(batch)
        stream.step(uniform(1, *(() if batch == 1 else (batch,)), 3))
        before = stream.to_bytes()
        rows = f"{batch}, steps" if batch_first else f"steps, {batch}"
        with pytest.raises(ValueError, match=rf"block: expected shape .*\({rows}, 3\), got"):
            stream.process(np.zeros((5, batch, 3) if batch_first else (batch, 5, 3), np.float32))
        assert stream.to_bytes() == before


def test_a_block_may_be_a_view_in_any_order_of_memory() -> None:
    kind = KIND["gru_reset_after"]
    layer = kind.make(kind.weights(3, 4), batch_first=True)
    x = uniform(1, 2, 7, 3)
    expected = bits(layer(x)[0])
    for view in (np.swapaxes(np.swapaxes(x, 0, 1).copy(), 0, 1), np.asfortranarray(x), x.astype(np.float64)):
        assert bits(layer.stream(2).process(view)) == expected


def test_bytes_are_of_the_state_and_the_receiving_layer_says_how_blocks_are_arranged() -> None:
    kind = KIND["lstm"]
    mapping = kind.weights(3, 4)
    time_first, batch_first = kind.make(mapping), kind.make(mapping, batch_first=True)
    x = uniform(1, 2, 2, 3)  # as many steps as rows
    stream = time_first.stream(2)
    stream.process(x)
    data = stream.to_bytes()
    assert batch_first.stream_from_bytes(data).to_bytes() == data
    expected = stream.process(x)
    y = batch_first.stream_from_bytes(data).process(np.swapaxes(x, 0, 1))
    assert bits(y) == bits(np.ascontiguousarray(np.swapaxes(expected, 0, 1)))


@every_kind
def test_initial_states_threads_and_other_dtypes_keep_the_arrangement(kind: Kind) -> None:
    mapping = kind.weights(3, 4, layers=2)
    state = random_state(kind, mapping, 2)
    layer = kind.make(mapping, batch_first=True).with_initial_state(*(state if isinstance(state, tuple) else (state,)))
    x = uniform(1, 2, 2, 3)
    for other in (layer, layer.astype("int8"), copy.copy(layer)):
        assert bits(other.stream(2, num_threads=2).process(x)) == bits(other(x)[0])


@every_kind
@pytest.mark.parametrize("steps", [3, 4])
def test_rows_of_many_streams_and_of_pools_are_those_of_the_layer(kind: Kind, steps: int) -> None:
    layer = kind.make(kind.weights(3, 4), batch_first=True)
    x = uniform(1, 3, steps, 3)
    y = layer(x)[0]
    streams, pool = [layer.stream(), layer.stream(2)], fc.StreamPool(layer, 3)
    slots = [pool.join() for _ in range(3)]
    for t in range(steps):
        assert bits(layer.step_many(streams, x[:, t])) == bits(np.ascontiguousarray(y[:, t]))
        assert bits(pool.step(slots, x[:, t])) == bits(np.ascontiguousarray(y[:, t]))
    stream = layer.stream()
    stream.state = pool.state(slots[0])
    more = uniform(2, 1, 2, 3)
    assert bits(stream.process(more)) == bits(streams[0].process(more))


@pytest.mark.any_cpu
@every_kind
@pytest.mark.parametrize("steps", [3, 5])
def test_what_quantisation_measures_does_not_depend_on_the_arrangement(kind: Kind, steps: int) -> None:
    mapping = kind.weights(3, 4, layers=2)
    time_first, batch_first = kind.make(mapping), kind.make(mapping, batch_first=True)
    x = uniform(1, 3, steps, 3)
    swapped = np.swapaxes(x, 0, 1)
    scales = input_scales(batch_first, [x, x])
    assert scales == input_scales(time_first, [swapped, swapped])
    found = compare(batch_first, batch_first.astype("int8", input_scales=scales), x)
    expected = compare(time_first, time_first.astype("int8", input_scales=scales), swapped)
    assert str(found) == str(expected)
    np.testing.assert_array_equal(found.rms_by_step, expected.rms_by_step)
    assert (found.sources, found.rows) == (expected.sources, expected.rows)
