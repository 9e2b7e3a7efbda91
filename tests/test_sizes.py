"""Sizes that no memory has: a MemoryError or an error that names the argument, on machines of 32 and 64 bits alike."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusedcell as fc
from models import KIND, Kind, flat, uniform

pytestmark = pytest.mark.core

# What follows asks for some 2 GiB and more, which a machine of 64 bits would go and get.
on_32_bits = pytest.mark.skipif(sys.maxsize > 2**32, reason="is memory on a machine of 64 bits")

LSTM, GRU = KIND["lstm"], KIND["gru_reset_after"]
NARROW = LSTM.weights(1, 3)
every_kind = pytest.mark.parametrize("kind", [LSTM, GRU, KIND["lstm_projected"]], ids=lambda kind: kind.name)


@pytest.mark.parametrize("size", [2**31 + 1, 2**32, 2**32 + 1, 2**40, 2**63 - 1])
@pytest.mark.parametrize("initial", [False, True], ids=["zeros", "initial state"])
def test_rows_beyond_any_memory_are_refused_by_name(size: int, initial: bool) -> None:
    layer = LSTM.make(NARROW)
    if initial:
        layer = layer.with_initial_state(uniform(1, 1, 1, 3), uniform(2, 1, 1, 3))
    with pytest.raises(ValueError, match=rf"batch_size: expected at most 2\*\*31, got {size}"):
        layer.stream(size)
    with pytest.raises(ValueError, match=rf"capacity: expected at most 2\*\*31, got {size}"):
        fc.StreamPool(layer, size)


@pytest.mark.parametrize("number", [2**31, 2**32, 2**32 + 1, 2**63 - 1])
def test_numbers_that_wrap_around_to_a_row_or_slot_are_none(number: int) -> None:
    layer = LSTM.make(NARROW)
    stream, pool = layer.stream(2), fc.StreamPool(layer, 2)
    pool.join()
    before = [part.copy() for part in stream.state]
    refused: list[tuple[Callable[[], Any], str]] = [
        (lambda: stream.reset([number]), f"rows: expected numbers from 0 to 1, got {number}"),
        (lambda: stream.reset(np.array([number])), f"rows: expected numbers from 0 to 1, got {number}"),
        (lambda: stream.decay(0.5, [-number]), f"rows: expected numbers from 0 to 1, got -{number}"),
        (lambda: pool.leave(number), f"slot: expected a number from 0 to 1, got {number}"),
        (lambda: pool.state(number), f"slot: expected a number from 0 to 1, got {number}"),
        (lambda: pool.reset([number]), f"slots: expected numbers from 0 to 1, got {number}"),
        (lambda: pool.step([number], uniform(1, 1, 1)), f"slots: expected numbers from 0 to 1, got {number}"),
    ]
    for call, message in refused:
        with pytest.raises(IndexError, match=message):
            call()
    assert len(pool) == 1
    for actual, expected in zip(stream.state, before, strict=True):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("length", [2**31, 2**32, 2**32 + 3, 2**63 - 1])
def test_lengths_that_wrap_around_to_a_good_one_are_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"lengths: expected values from 0 to the number of steps, 4, got {length}"):
        LSTM.make(NARROW)(uniform(1, 4, 1, 1), lengths=np.array([length], np.int64))


@pytest.mark.parametrize("num_threads", [2**31, 2**32, 2**32 + 1, 2**63 - 1])
def test_any_number_of_threads_is_as_many_as_there_are_cpus(num_threads: int) -> None:
    layer = LSTM.make(NARROW)
    x = uniform(1, 4, 1)
    expected = layer(x)[0]
    stream, pool = layer.stream(num_threads=num_threads), fc.StreamPool(layer, 1, num_threads=num_threads)
    pool.join()
    np.testing.assert_array_equal(layer(x, num_threads=num_threads)[0], expected)
    np.testing.assert_array_equal(stream.process(x), expected)
    np.testing.assert_array_equal(pool.step([0], x[:1]), expected[:1])
    stream.reset()
    np.testing.assert_array_equal(layer.step_many([stream], x[:1], num_threads=num_threads), expected[:1])


def test_a_count_of_threads_that_is_no_machines_integer_is_refused() -> None:
    with pytest.raises(TypeError):
        LSTM.make(NARROW).stream(num_threads=2**64)


@on_32_bits
@every_kind
@pytest.mark.parametrize("size", [2**31, 2**31 - 1, 2**30, 2**29])
@pytest.mark.parametrize("initial", [False, True], ids=["zeros", "initial state"])
def test_rows_that_there_are_no_addresses_for_are_a_memory_error(kind: Kind, size: int, initial: bool) -> None:
    layer = kind.make(kind.weights(1, 3))
    if initial:
        layer = layer.with_initial_state(*(np.zeros_like(part) for part in flat((layer.stream().state,))))
    with pytest.raises(MemoryError):
        layer.stream(size)
    for node in (layer, fc.Model([("layer", layer, "x")])):
        with pytest.raises(MemoryError):
            fc.StreamPool(node, size)


@on_32_bits
@pytest.mark.parametrize("kind", [LSTM, GRU], ids=lambda kind: kind.name)
def test_results_that_there_are_no_addresses_for_are_a_memory_error(kind: Kind) -> None:
    mapping = kind.weights(1, 512)
    layer, cell = kind.make(mapping), kind.make_cell(mapping)
    x = np.zeros((2**20, 1), np.float32)
    calls: list[Callable[[], Any]] = [
        lambda: layer(x),
        lambda: layer(x[None]),
        lambda: layer.stream().process(x),
        lambda: cell(x),
    ]
    for call in calls:
        with pytest.raises(MemoryError):
            call()


@on_32_bits
def test_traces_that_there_are_no_addresses_for_are_a_memory_error() -> None:
    layer = LSTM.make(LSTM.weights(1, 128))
    x = np.zeros((2**20, 1), np.float32)
    with pytest.raises(MemoryError):
        layer(x, return_gates=True)


@on_32_bits
def test_rows_of_many_streams_that_add_up_to_more_than_addresses_are_a_memory_error() -> None:
    layer = LSTM.make(NARROW)
    stream = layer.stream(2**20)
    with pytest.raises(MemoryError):
        layer.step_many([stream] * 2048, uniform(1, 1, 1))


def test_so_many_rows_that_their_number_times_that_of_their_parts_has_32_bits_are_each_stepped() -> None:
    rows = 2**19 + 3  # in parts of 128
    one = np.ones((1, 1), np.float32)
    layer = KIND["rnn_relu"].make({"weight_ih_l0": one, "weight_hh_l0": one})
    stream = layer.stream(rows)
    x = np.arange(rows, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(layer.step_many([stream], x), x)
    np.testing.assert_array_equal(layer.step_many([stream], x), 2 * x)
