"""StreamPool: slots that join, step, reset and leave without touching one another."""

from __future__ import annotations

import copy
import pickle
import sys
import threading
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import fusedcell as fc
from fusedcell._dtypes import DTYPES
from models import EVERY_KIND, KIND, Kind, flat, random_state, uniform

pytestmark = pytest.mark.core

CAPACITY = 6


def small_layer() -> Any:
    return KIND["lstm"].make(KIND["lstm"].weights(5, 9, layers=2))


def small_pool(*joined: int) -> fc.StreamPool:
    """A pool in which these slots have joined and stepped."""
    pool = fc.StreamPool(small_layer(), CAPACITY)
    for _ in range(CAPACITY):
        pool.join()
    for slot in set(range(CAPACITY)) - set(joined):
        pool.leave(slot)
    pool.step(joined, uniform(99, len(joined), 5))
    return pool


def state_of(pool: fc.StreamPool, slot: int) -> list[np.ndarray]:
    return [part.copy() for part in flat((pool.state(slot),))]


@pytest.mark.parametrize("kind", EVERY_KIND, ids=lambda kind: kind.name)
@pytest.mark.parametrize("dtype", DTYPES)
def test_slots_have_the_bits_of_streams_of_their_own(kind: Kind, dtype: str, isa: str) -> None:
    layer = kind.make(kind.weights(5, 19, layers=2), isa=isa).astype(dtype)
    pool = fc.StreamPool(layer, CAPACITY)
    streams = {pool.join(): layer.stream() for _ in range(5)}
    for seed, slots in enumerate([(0, 1, 2, 3, 4), (3,), (4, 0, 2), (1, 3), (2, 4, 1, 3, 0)]):
        X = uniform(seed, len(slots), 5)
        y = pool.step(slots, X)
        np.testing.assert_array_equal(y, [streams[slot].step(x) for slot, x in zip(slots, X, strict=True)])
    for slot, stream in streams.items():
        for own, part in zip(state_of(pool, slot), flat((stream.state,)), strict=True):
            np.testing.assert_array_equal(own, part[:, 0])


@settings(max_examples=30, stateful_step_count=30)
class AnyUse(RuleBasedStateMachine):
    """A pool beside one stream for each joined slot."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = small_layer()
        self.pool = fc.StreamPool(self.layer, CAPACITY)
        self.nbytes = self.pool.nbytes
        self.streams: dict[int, fc.Stream] = {}

    @rule()
    def join(self) -> None:
        if len(self.streams) == CAPACITY:
            with pytest.raises(RuntimeError, match="all of its 6 slots are taken"):
                self.pool.join()
        else:
            slot = self.pool.join()
            assert slot not in self.streams
            self.streams[slot] = self.layer.stream()

    @precondition(lambda self: self.streams)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(self.streams)))
        self.pool.leave(slot)
        del self.streams[slot]

    @rule(data=st.data(), seed=st.integers(0, 99))
    def step(self, data: st.DataObject, seed: int) -> None:
        slots = data.draw(st.permutations(sorted(self.streams)))[: data.draw(st.integers(0, CAPACITY))]
        X = uniform(seed, CAPACITY, 5)[: len(slots)]
        y = self.pool.step(slots, X)
        expected = [self.streams[slot].step(x) for slot, x in zip(slots, X, strict=True)]
        np.testing.assert_array_equal(y, np.reshape(expected, (len(slots), 9)))

    @rule(data=st.data())
    def reset(self, data: st.DataObject) -> None:
        slots = [slot for slot in sorted(self.streams) if data.draw(st.booleans())]
        self.pool.reset(slots)
        for slot in slots:
            self.streams[slot].reset()

    @invariant()
    def slots_are_as_their_streams(self) -> None:
        assert len(self.pool) == len(self.streams)
        assert self.pool.nbytes == self.nbytes
        for slot, stream in self.streams.items():
            for own, part in zip(state_of(self.pool, slot), flat((stream.state,)), strict=True):
                np.testing.assert_array_equal(own, part[:, 0])


TestAnyUse = pytest.mark.any_cpu(AnyUse.TestCase)


def test_a_slot_that_is_joined_again_starts_as_new() -> None:
    kind = KIND["lstm"]
    start = random_state(kind, kind.weights(5, 9, layers=2), 1)
    for layer in (small_layer(), small_layer().with_initial_state(*start)):
        pool = fc.StreamPool(layer, 1)
        slot = pool.join()
        x = uniform(1, 1, 5)
        first = pool.step([slot], x)
        pool.step([slot], x)
        pool.leave(slot)
        assert pool.join() == slot
        np.testing.assert_array_equal(pool.step([slot], x), first)
        np.testing.assert_array_equal(first[0], layer.stream().step(x[0]))
        pool.reset(slot)
        np.testing.assert_array_equal(pool.step([slot], x), first)


def test_state_is_a_view_of_the_slot_that_can_be_read_and_set() -> None:
    layer = small_layer()
    pool, stream = fc.StreamPool(layer, 4), layer.stream()
    slots = [pool.join() for _ in range(4)]
    stream.process(uniform(1, 3, 5))
    for part, value in zip(pool.state(slots[2]), stream.state, strict=True):
        assert part.shape == (2, 9)
        part[:] = value[:, 0]
    x = uniform(2, 5)
    np.testing.assert_array_equal(pool.step([slots[2]], [x.tolist()])[0], stream.step(x))
    back = layer.stream()
    back.state = pool.state(slots[2])
    np.testing.assert_array_equal(back.step(x), stream.step(x))
    view = pool.state(0)[0]
    pool.step(slots, uniform(3, 4, 5))
    del pool
    assert view.any()


def test_memory_is_known_from_the_start() -> None:
    layer = small_layer()
    small, large = (fc.StreamPool(layer, capacity).nbytes for capacity in (1000, 3000))
    states = 2 * (9 + 9) * 4  # layers, h and c, floats
    assert 2000 * states < large - small < 2000 * (states + 64)
    started = layer.with_initial_state(np.zeros((2, 1, 9), np.float32), np.zeros((2, 1, 9), np.float32))
    assert fc.StreamPool(started, 1000).nbytes == small + 1000 * states


def test_more_slots_than_one_pass_takes() -> None:
    layer = small_layer()
    pool = fc.StreamPool(layer, 300)
    slots = [pool.join() for _ in range(300)]
    stream = layer.stream(300)
    for seed in range(3):
        X = uniform(seed, 300, 5)
        np.testing.assert_array_equal(pool.step(slots, X), stream.step(X))


def test_threads_change_no_bit() -> None:
    kind = KIND["lstm_projected"]
    layer = kind.make(kind.weights(96, 160))
    pool, alone = fc.StreamPool(layer, 40, num_threads=4), layer.stream(40)
    slots = [pool.join() for _ in range(40)]
    for seed in range(3):
        X = uniform(seed, 40, 96)
        np.testing.assert_array_equal(pool.step(slots, X), alone.step(X))


def test_out_is_written_and_returned() -> None:
    pool, other = small_pool(1, 4), small_pool(1, 4)
    X, out = uniform(1, 2, 5), np.full((2, 9), np.nan, np.float32)
    assert pool.step([4, 1], X, out) is out
    np.testing.assert_array_equal(out, other.step(np.array([4, 1]), X))


@pytest.mark.parametrize(
    "slots", [np.array([1, 4], np.uint8), np.array([1, 4]), (1, 4), np.array([0, 1, 0, 0, 1, 0], bool)]
)
def test_slots_are_numbers_or_a_mask(slots: Any) -> None:
    X = uniform(1, 2, 5)
    np.testing.assert_array_equal(small_pool(1, 4).step(slots, X), small_pool(1, 4).step([1, 4], X))


BAD_CALLS: dict[str, tuple[Callable[[fc.StreamPool, np.ndarray], Any], type[Exception], str]] = {
    "not joined": (lambda p, X: p.step([1, 0], X), ValueError, "slots: expected slots that have joined, got 0"),
    "twice": (lambda p, X: p.step([1, 1], X), ValueError, "slots: expected each slot once, got 1 more than once"),
    "beyond": (lambda p, X: p.step([1, 6], X), IndexError, "slots: expected numbers from 0 to 5, got 6"),
    "negative": (lambda p, X: p.step([1, -2], X), IndexError, "slots: expected numbers from 0 to 5, got -2"),
    "far beyond": (lambda p, X: p.step([1, 2**70], X), TypeError, "slots: expected row numbers"),
    "a large number": (lambda p, X: p.step([2**63], X), IndexError, "got 9223372036854775808"),
    "no numbers": (lambda p, X: p.step(["a", "b"], X), TypeError, "slots: expected row numbers or a boolean mask"),
    "none": (lambda p, X: p.step(cast(Any, None), X), TypeError, "slots: expected row numbers or a boolean mask"),
    "a mask of another size": (
        lambda p, X: p.step(np.ones(5, bool), X),
        ValueError,
        r"slots: expected shape \(6,\) for a mask, got \(5,\)",
    ),
    "too few rows": (lambda p, X: p.step([1, 4], X[:1]), ValueError, r"x: expected shape \(2, 5\), got \(1, 5\)"),
    "wrong width": (lambda p, X: p.step([1, 4], X[:, :4]), ValueError, r"x: expected shape \(2, 5\), got \(2, 4\)"),
    "integers": (lambda p, X: p.step([1, 4], X.astype(int)), TypeError, "x: expected an array of floats"),
    "out of another shape": (
        lambda p, X: p.step([1, 4], X, np.empty((2, 8), np.float32)),
        ValueError,
        r"out: expected shape \(2, 9\), got \(2, 8\)",
    ),
    "out of another type": (
        lambda p, X: p.step([1, 4], X, np.empty((2, 9))),  # wrong on purpose
        TypeError,
        "out: expected a float32 array, got dtype float64",
    ),
    "out another slot": (
        lambda p, X: p.step([1], X[:1], p.state(4)[0][:1]),
        ValueError,
        "out: expected memory of its own",
    ),
    "leave twice": (lambda p, X: p.leave(0), ValueError, "slot: expected slots that have joined, got 0"),
    "leave beyond": (lambda p, X: p.leave(6), IndexError, "slot: expected a number from 0 to 5, got 6"),
    "leave no slot": (lambda p, X: p.leave("a"), TypeError, "slot: expected an integer, got str"),  # type: ignore[arg-type] # wrong on purpose
    "reset one not joined": (lambda p, X: p.reset([4, 0]), ValueError, "slots: expected slots that have joined, got 0"),
    "reset beyond": (lambda p, X: p.reset([4, -1]), IndexError, "slots: expected numbers from 0 to 5, got -1"),
    "state of none": (lambda p, X: p.state(0), ValueError, "slot: expected slots that have joined, got 0"),
    "state beyond": (lambda p, X: p.state(-1), IndexError, "slot: expected a number from 0 to 5, got -1"),
    "pickle": (lambda p, X: pickle.dumps(p), TypeError, "pickle"),
    "copy": (lambda p, X: copy.copy(p), TypeError, "pickle"),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_input_raises_and_leaves_every_slot_as_it_was(name: str) -> None:
    call, error, message = BAD_CALLS[name]
    pool = small_pool(1, 4)
    before = [state_of(pool, slot) for slot in (1, 4)]
    with pytest.raises(error, match=message):
        call(pool, uniform(1, 2, 5))
    assert len(pool) == 2
    for slot, parts in zip((1, 4), before, strict=True):
        for actual, part in zip(state_of(pool, slot), parts, strict=True):
            np.testing.assert_array_equal(actual, part)
    np.testing.assert_array_equal(pool.step([1, 4], uniform(1, 2, 5)), small_pool(1, 4).step([1, 4], uniform(1, 2, 5)))


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((0,), {}, ValueError, "capacity: expected at least 1, got 0"),
        ((2**40,), {}, ValueError, r"capacity: expected at most 2\*\*31"),
        ((1.5,), {}, TypeError, "capacity: expected an integer, got float"),
        ((3,), {"num_threads": 0}, ValueError, "num_threads: expected at least 1"),
    ],
)
def test_a_pool_needs_a_capacity(
    arguments: tuple[Any, ...], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        fc.StreamPool(small_layer(), *arguments, **options)


def test_a_pool_needs_a_layer_that_has_streams() -> None:
    kind = KIND["lstm"]
    with pytest.raises(fc.UnsupportedError, match="bidirectional"):
        fc.StreamPool(kind.make(kind.weights(5, 9, directions=2)), 3)
    with pytest.raises(TypeError, match="layer: expected an RNN, LSTM, GRU or Model, got LSTMCell"):
        fc.StreamPool(kind.make_cell(kind.weights(5, 9)), 3)
    rows = random_state(kind, kind.weights(5, 9), 2)
    with pytest.raises(ValueError, match="initial state is for a batch of 2, not 3"):
        fc.StreamPool(kind.make(kind.weights(5, 9)).with_initial_state(*rows), 3)


def test_x_may_be_the_states_or_out() -> None:
    kind = KIND["lstm"]
    layer = kind.make(kind.weights(129, 129))  # of which there are weights enough to take W and R together
    for part in (0, 1):
        pool, other = fc.StreamPool(layer, 2), fc.StreamPool(layer, 2)
        for each in (pool, other):
            slots = [each.join(), each.join()]
            each.step(slots, uniform(1, 2, 129))
        X = pool.state(0)[part]
        expected = other.step([0], X.copy())
        np.testing.assert_array_equal(pool.step([0], X), expected)
        X = uniform(2, 2, 129)
        expected = other.step([1, 0], X)
        np.testing.assert_array_equal(pool.step([1, 0], X, X), expected)


def test_two_threads_on_one_pool_get_an_error_rather_than_a_mixed_state() -> None:
    kind = KIND["lstm"]
    layer = kind.make(kind.weights(64, 64))  # large enough that a step gives up the GIL
    pool = fc.StreamPool(layer, 128)
    slots = [pool.join() for _ in range(128)]
    errors: list[str] = []
    done = [0, 0]

    def work(index: int) -> None:
        for seed in range(2000):
            if errors:
                return
            try:
                pool.step(slots, uniform(seed, 128, 64))
                done[index] += 1
            except RuntimeError as error:
                errors.append(str(error))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=120)
    finally:
        sys.setswitchinterval(interval)
    assert errors[0] == "pool: another thread is using it; take turns"
    assert np.isfinite(pool.step(slots, uniform(1, 128, 64))).all()


@pytest.mark.parametrize(
    ("method", "given", "message"),
    [
        ("step", (0,), r"step\(slots, x, out=None\): x is missing"),
        ("join", (0,), "data: expected bytes, got int"),
        ("leave", (0, 1), r"leave\(slot\): expected at most 1 argument, got 2"),
        ("reset", (), r"reset\(slots\): slots is missing"),
        ("state", (), r"state\(slot\): slot is missing"),
    ],
)
def test_a_call_that_no_method_takes_says_how_it_is_called(method: str, given: tuple[Any, ...], message: str) -> None:
    pool = fc.StreamPool(KIND["lstm"].make(KIND["lstm"].weights(6, 9)), 2)
    pool.join()
    with pytest.raises(TypeError, match=f"^{message}$"):
        getattr(pool, method)(*given)
    assert len(pool) == 1


def pool_of_model() -> tuple[fc.Model, fc.StreamPool]:
    """A convolution that waits for its first window, and a layer behind it."""
    window = fc.Window(uniform(1, 5, 3 * 5), taps=3)
    model = fc.Model([("conv", window, "x"), ("lstm", small_layer(), "conv")])
    return model, fc.StreamPool(model, CAPACITY)


def pool_of_layer() -> tuple[Any, fc.StreamPool]:
    h_0, c_0 = uniform(1, 2, 1, 9), uniform(2, 2, 1, 9)
    layer = small_layer().with_initial_state(h_0, c_0)
    return layer, fc.StreamPool(layer, CAPACITY)


either_pool = pytest.mark.parametrize("make", [pool_of_layer, pool_of_model])
MakePool = Callable[[], tuple[Any, fc.StreamPool]]


@either_pool
def test_a_slot_travels_as_bytes_to_another_pool_and_to_a_stream(make: MakePool) -> None:
    owner, pool = make()
    other = fc.StreamPool(owner, 2)
    slots, alone = [pool.join(), pool.join()], owner.stream()
    for seed in range(5):
        X = uniform(seed, 2, 5)
        pool.step(slots, X)
        alone.step(X[1])
    data = pool.to_bytes(slots[1])
    assert data == alone.to_bytes()
    arrived, streams = other.join(data), [pool.copy(slots[1]), owner.stream_from_bytes(data)]
    x = uniform(9, 5)
    expected = alone.step(x)
    np.testing.assert_array_equal(other.step([arrived], x[None])[0], expected)
    for stream in streams:
        np.testing.assert_array_equal(stream.step(x), expected)
    np.testing.assert_array_equal(pool.step([slots[1]], x[None])[0], expected)  # and the copies changed nothing


@either_pool
def test_norm_finiteness_and_decay_of_slots_are_those_of_streams(make: MakePool) -> None:
    owner, pool = make()
    streams = {pool.join(): owner.stream() for _ in range(4)}
    pool.leave(1)
    del streams[1]
    assert pool.slots == [0, 2, 3]
    for seed in range(4):
        X = uniform(seed, 3, 5)
        X[1, 0] = np.nan if seed == 3 else X[1, 0]
        pool.step(pool.slots, X)
        for stream, x in zip(streams.values(), X, strict=True):
            stream.step(x)
    assert pool.is_finite().tolist() == [True, False, True]
    assert pool.is_finite([3, 2]).tolist() == [True, False]
    assert pool.is_finite(np.arange(CAPACITY) == 2).tolist() == [False]
    np.testing.assert_array_equal(pool.norm([3, 0]), [streams[3].norm(), streams[0].norm()])
    pool.decay(0.25, [0, 3, 0])
    for slot in (0, 3):
        streams[slot].decay(0.25)
    assert [pool.to_bytes(slot) for slot in (0, 3)] == [streams[slot].to_bytes() for slot in (0, 3)]


@either_pool
def test_what_no_slot_can_take_is_refused_and_takes_none(make: MakePool) -> None:
    owner, pool = make()
    slot = pool.join()
    pool.step([slot], uniform(1, 1, 5))
    before = pool.to_bytes(slot)
    refused: list[tuple[Callable[[], Any], type[Exception], str]] = [
        (
            lambda: pool.join(owner.stream(2).to_bytes()),
            ValueError,
            "data: expected the state of one row, got one of 2",
        ),
        (lambda: pool.join(before[:-1]), ValueError, "data: cut or altered"),
        (lambda: pool.join(3), TypeError, "data: expected bytes"),  # type: ignore[arg-type]
        (lambda: pool.copy(1), ValueError, "slot: expected slots that have joined, got 1"),
        (lambda: pool.to_bytes(CAPACITY), IndexError, "slot: expected a number from 0 to 5, got 6"),
        (lambda: pool.decay(0.5, [slot, 1]), ValueError, "slot: expected slots that have joined, got 1"),
        (lambda: pool.decay(1.5), ValueError, "factor: expected a number from 0 to 1, got 1.5"),
        (lambda: pool.norm([True]), ValueError, r"slots: expected shape \(6,\) for a mask, got \(1,\)"),
    ]
    for call, error, message in refused:
        with pytest.raises(error, match=message):
            call()
        assert pool.slots == [slot]
        assert pool.to_bytes(slot) == before
    other = fc.StreamPool(owner, 1)
    other.join()
    with pytest.raises(RuntimeError, match="all of its 1 slots are taken"):
        other.join(before)
