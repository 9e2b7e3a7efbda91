"""Signals: a long call lets Python's handlers run, ends at once where one raises, and then has changed nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from models import KIND, flat, uniform

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timers")

SIZE = 256
# On the slowest tier this takes minutes, so a test that waits for the end does not go unnoticed.
FOR_EVER = 400_000
CASES = pytest.mark.parametrize(
    ("name", "shape", "steps"),  # some 0.4 G multiply-adds of two rows
    [
        pytest.param("lstm", {}, 700, id="lstm"),
        pytest.param("gru_reset_before", {"layers": 3}, 200, id="gru of layers"),
        pytest.param("lstm_projected", {"directions": 2}, 600, id="lstm of directions"),
        pytest.param("lstm_coupled", {"layers": 2}, 250, id="lstm with options"),
    ],
)
THREADS = pytest.mark.parametrize("num_threads", [1, 2])


class HandlerError(Exception):
    """What a handler raises in these tests."""


@contextmanager
def alarms(handler: Callable[[], None]) -> Iterator[None]:
    """Calls the handler when 0.02 s are over, and again 0.02 s after each time that it has returned."""

    def on_alarm(*_: object) -> None:
        handler()
        signal.setitimer(signal.ITIMER_REAL, 0.02)

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def fail() -> None:
    raise HandlerError


def make(name: str, **shape: Any) -> Any:
    return KIND[name].make(KIND[name].weights(1, SIZE, **shape), isa="scalar")


def arrays_of(stream: Any) -> list[np.ndarray]:
    return [part.copy() for part in flat((stream.state,))]


@pytest.mark.parametrize("name", ["lstm", "gru_reset_before"])
@pytest.mark.parametrize("layers", [1, 3])
@THREADS
def test_a_stream_is_as_before_when_a_handler_raises(name: str, layers: int, num_threads: int) -> None:
    layer = make(name, layers=layers)
    stream, other = layer.stream(num_threads=num_threads), layer.stream()
    stream.process(uniform(1, 5, 1))
    other.process(uniform(1, 5, 1))
    before = arrays_of(stream)
    with pytest.raises(HandlerError), alarms(fail):
        stream.process(np.ones((FOR_EVER, 1), np.float32))
    for part, old in zip(arrays_of(stream), before, strict=True):
        np.testing.assert_array_equal(part, old)
    x = uniform(2, 30, 1)
    np.testing.assert_array_equal(stream.process(x), other.process(x))


@CASES
@THREADS
def test_a_layer_call_ends_when_a_handler_raises(
    name: str, shape: dict[str, Any], steps: int, num_threads: int
) -> None:
    layer = make(name, **shape)
    short = uniform(3, steps // 20, 1)
    expected = layer(short)[0]
    with pytest.raises(HandlerError), alarms(fail):
        layer(np.ones((FOR_EVER, 1), np.float32), num_threads=num_threads)
    np.testing.assert_array_equal(layer(short, num_threads=num_threads)[0], expected)


@CASES
@THREADS
def test_handlers_run_in_the_middle_of_a_call_and_change_no_bits(
    name: str, shape: dict[str, Any], steps: int, num_threads: int
) -> None:
    layer = make(name, **shape)
    x = uniform(4, steps, 2, 1)
    lengths = np.array([steps, steps - 10])
    expected = flat(layer(x, lengths=lengths))
    short, inner = uniform(5, 5, 1), []
    calls_of_its_own = layer(short)[0]

    def handler() -> None:
        inner.append(np.array_equal(layer(short, num_threads=num_threads)[0], calls_of_its_own))

    with alarms(handler):
        actual = flat(layer(x, lengths=lengths, num_threads=num_threads))
    for got, wanted in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(got, wanted)
    assert all(inner)
    assert len(inner) > 1  # one would have run after the call too


def test_a_handler_cannot_touch_the_stream_that_it_interrupts() -> None:
    stream = make("lstm").stream()
    refused: list[str] = []

    def handler() -> None:
        try:
            stream.reset()
        except RuntimeError as error:
            refused.append(str(error))
            raise HandlerError from error

    with pytest.raises(HandlerError), alarms(handler):
        stream.process(np.ones((FOR_EVER, 1), np.float32))
    assert "is using it" in refused[0]


def test_a_call_of_another_thread_goes_on_to_its_end() -> None:
    layer = make("lstm")
    x = uniform(6, 600, 1)
    expected = layer(x)[0]
    results: list[np.ndarray] = []
    worker = threading.Thread(target=lambda: results.append(layer(x)[0]))
    handled: list[None] = []
    with alarms(lambda: handled.append(None)):
        worker.start()
        worker.join()
    np.testing.assert_array_equal(results[0], expected)
    assert handled


@THREADS
def test_control_c_is_a_keyboard_interrupt_and_the_program_goes_on(num_threads: int) -> None:
    script = f"""
import numpy as np, os, signal, threading, fusedcell as fc
mapping = {{"weight_ih_l0": np.full((1024, 1), 0.1), "weight_hh_l0": np.full((1024, 256), 0.01)}}
layer = fc.LSTM.from_state_dict(mapping, isa="scalar")
stream, x = layer.stream(num_threads={num_threads}), np.ones(({FOR_EVER}, 1), np.float32)
for call in (stream.process, layer):
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        call(x)
    except KeyboardInterrupt:
        print("interrupted", not stream.state[0].any(), not stream.state[1].any())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=600)
    assert done.stdout.splitlines() == ["interrupted True True"] * 2, done.stderr


def test_import_leaves_the_handlers_alone() -> None:
    script = "import signal, fusedcell; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
