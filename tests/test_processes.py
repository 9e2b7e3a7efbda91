"""Processes: children made in any way give the right answers, and their parents go on doing so."""

from __future__ import annotations

import importlib.util
import multiprocessing
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import pytest

from models import KIND, uniform

METHODS = multiprocessing.get_all_start_methods()
needs_fork = pytest.mark.skipif("fork" not in METHODS, reason="this system has no fork")

# A layer that is worth a second thread, and helpers, for scripts that are interpreters of their own.
SETUP = """
import os, pickle, signal, sys, threading, time
import numpy as np
import fusedcell as fc
rng = np.random.default_rng(1)
mapping = {"weight_ih_l0": rng.normal(size=(2048, 64)) / 20, "weight_hh_l0": rng.normal(size=(2048, 512)) / 40}
layer = fc.LSTM.from_state_dict(mapping)
x = rng.normal(size=(60, 64)).astype(np.float32)
expected = layer(x)[0]
def right(threads=2):
    return np.array_equal(layer(x, num_threads=threads)[0], expected)
def child_is_right(work):
    child = os.fork()
    if child == 0:
        signal.alarm(60)    # of a child that hangs
        os._exit(0 if work() else 1)
    return os.waitpid(child, 0)[1] == 0
"""


def run_script(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", SETUP + script],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@needs_fork
def test_a_child_forked_before_any_call_is_right() -> None:
    assert run_script("print(child_is_right(right), right())") == "True True"


@needs_fork
def test_children_and_grandchildren_forked_after_threads_were_made_are_right() -> None:
    script = """
assert right()
print(all(child_is_right(lambda: right() and child_is_right(right) and right()) for _ in range(5)), right())
"""
    assert run_script(script) == "True True"


@needs_fork
def test_children_forked_while_other_threads_are_inside_calls_are_right() -> None:
    script = """
stop, wrong = threading.Event(), []
def call(threads):
    while not stop.is_set():
        if not right(threads):
            wrong.append(threads)
callers = [threading.Thread(target=call, args=(threads,)) for threads in (2, 2, 1)]
for caller in callers: caller.start()
children = [child_is_right(lambda: right(2) and right(1)) for _ in range(25)]
stop.set()
for caller in callers: caller.join()
print(all(children), wrong, right())
"""
    assert run_script(script) == "True [] True"


@needs_fork
def test_a_fork_of_a_thread_other_than_the_main_one_is_right() -> None:
    script = """
results = []
threads = [threading.Thread(target=lambda: results.append(child_is_right(right))) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(results, right())
"""
    assert run_script(script) == "[True, True, True, True] True"


@needs_fork
def test_parent_and_child_go_on_with_a_stream_apart() -> None:
    script = """
stream = layer.stream(num_threads=2)
stream.process(x[:30])
def rest_is_right():
    return np.array_equal(stream.process(x[30:]), expected[30:])
print(child_is_right(rest_is_right), child_is_right(rest_is_right), rest_is_right())
"""
    assert run_script(script) == "True True True"


@needs_fork
def test_a_stream_that_another_thread_was_using_is_refused_in_the_child() -> None:
    script = """
slow = fc.LSTM.from_state_dict(mapping, isa="scalar").stream()
long = np.zeros((400, 64), np.float32)
worker = threading.Thread(target=slow.process, args=(long,))
def is_refused():
    try:
        slow.copy()
    except RuntimeError as error:
        return "another thread is using it" in str(error)
    return False
worker.start()
while not is_refused():
    time.sleep(0.001)
in_child = child_is_right(is_refused)
worker.join()
print(in_child, is_refused())
"""
    assert run_script(script) == "True False"


# Calls of some 0.3 s, in the middle of which a signal comes, whose handler forks.
HANDLER_FORKS = """
import hashlib

class Stop(Exception): pass

def slow_layer(layers=1, directions=1):
    sizes = [(2048, 512 * directions if layer else 64) for layer in range(layers)]
    return fc.LSTM.from_state_dict({
        f"{name}_l{layer}{end}": rng.normal(size=size if name == "weight_ih" else (2048, 512)) / 40
        for layer, size in enumerate(sizes) for end in ["", "_reverse"][:directions]
        for name in ("weight_ih", "weight_hh")
    }, isa="scalar")

def enough(call):
    def took():
        start = time.perf_counter()
        call(16)
        return time.perf_counter() - start
    return int(16 * 0.3 / min(took() for _ in range(3))) + 16

def layer_call(layers, directions, **options):
    slow = slow_layer(layers, directions)
    h, c = rng.normal(size=(2, layers * directions, 512)).astype(np.float32)
    made = []
    def call(steps):
        made.append(slow.astype("float32"))    # the first call of a layer takes all the threads that it may
        return made[-1](np.ones((steps, 64), np.float32), (h, c), num_threads=2, **options)
    steps = enough(call)
    return lambda: call(steps)

def stream_call(layers):
    slow = slow_layer(layers)
    stream = slow.stream(num_threads=2)
    steps = enough(lambda steps: stream.process(np.ones((steps, 64), np.float32)))
    start = stream.to_bytes()
    x = rng.normal(size=(steps, 64)).astype(np.float32)
    stream.process(x)
    end = stream.to_bytes()
    def call():
        stream = slow.stream_from_bytes(start, num_threads=2)
        try:
            return stream.process(x), stream.state
        except Stop:
            assert stream.to_bytes() in (start, end)    # the end, if the call was over when the signal came
            raise
    return call

def step_many_call():
    slow = slow_layer()
    x = rng.normal(size=(256, 64)).astype(np.float32)
    return lambda: slow.step_many([slow.stream() for _ in x], x, num_threads=2)

def outcome(call):
    def digest(value):
        if isinstance(value, tuple):
            return "".join(map(digest, value))
        return hashlib.sha256(np.ascontiguousarray(value)).hexdigest() if value is not None else ""
    try:
        return digest(call())
    except Stop:
        return "stopped"

def forked_in_the_middle(call, raises):
    \"""What the call gives in this process and in the child.\"""
    child = None
    def handler(*_):
        nonlocal child
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(120)    # of a child that hangs
        if raises:
            raise Stop
    signal.signal(signal.SIGALRM, handler)
    reader, writer = os.pipe()
    signal.setitimer(signal.ITIMER_REAL, 0.11)
    found = outcome(call)
    signal.setitimer(signal.ITIMER_REAL, 0)
    if child == 0:
        os.write(writer, found.encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as pipe: return found, pipe.read()
"""


@needs_fork
@pytest.mark.parametrize(
    ("made", "is_interrupted"),
    [
        ("layer_call(1, 2, return_cells=True, return_gates=True)", True),
        ("layer_call(3, 1)", True),
        ("stream_call(1)", True),
        ("step_many_call()", False),
    ],
)
def test_a_child_that_a_signal_handler_forks_in_a_call_ends_it_as_its_parent_does(
    made: str, is_interrupted: bool
) -> None:
    script = f"""
call = {made}
expected = outcome(call)
print(forked_in_the_middle(call, False) == (expected, expected))
if {is_interrupted}:
    print(forked_in_the_middle(call, True) == ("stopped", "stopped"))
print(outcome(call) == expected)
"""
    assert set(run_script(HANDLER_FORKS + script).split()) == {"True"}


def call(layer: Any, x: np.ndarray, num_threads: int) -> np.ndarray:
    y: np.ndarray = layer(x, num_threads=num_threads)[0]
    return y


@pytest.fixture(scope="module", params=METHODS)
def pool(request: pytest.FixtureRequest) -> Iterator[ProcessPoolExecutor]:
    """Two worker processes, made in each way that this system has, after this process has made threads."""
    large = KIND["lstm"].make(KIND["lstm"].weights(64, 512))
    large(uniform(1, 50, 64), num_threads=2)
    context = multiprocessing.get_context(request.param)
    with ProcessPoolExecutor(2, context) as executor:
        yield executor


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork")
@pytest.mark.parametrize("name", ["lstm_projected", "gru_reset_before", "rnn_tanh", "lstm_hard"])
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_pickled_layers_give_the_same_bits_in_worker_processes(
    pool: ProcessPoolExecutor, name: str, dtype: str
) -> None:
    layer = KIND[name].make(KIND[name].weights(40, 300, layers=2), dtype=dtype)
    inputs = [uniform(10 + i, 50, 2, 40) for i in range(6)]
    expected = [layer(x)[0] for x in inputs]
    jobs = [pool.submit(call, layer, x, 1 + i % 2) for i, x in enumerate(inputs)]
    for job, y in zip(jobs, expected, strict=True):
        np.testing.assert_array_equal(job.result(timeout=120), y)
    np.testing.assert_array_equal(layer(inputs[0], num_threads=2)[0], expected[0])


@pytest.mark.core
def test_a_subinterpreter_is_refused_with_an_import_error() -> None:
    for name in ("_interpreters", "_xxsubinterpreters"):
        if importlib.util.find_spec(name) is not None:
            break
    else:
        pytest.skip("this Python has no module that makes subinterpreters")
    inner = """
try:
    import fusedcell
except ImportError as error:
    text = str(error)
else:
    text = "imported"
with open(path, "w") as file:
    file.write(text)
"""
    script = f"""
import os, sys, tempfile, warnings
import {name} as interpreters
warnings.simplefilter("ignore")
path = os.path.join(tempfile.mkdtemp(), "said")
interpreter = interpreters.create()
interpreters.run_string(interpreter, f"import sys; sys.path[:] = {{sys.path}}; path = {{path!r}}\\n" + {inner!r})
print(open(path).read())
import numpy as np, fusedcell as fc
print(fc.RNNCell(np.ones((1, 1)), np.ones((1, 1)))(np.zeros(1)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    refusal, works = done.stdout.splitlines()
    assert "fusedcell runs in the main interpreter alone" in refusal or "support loading in subinterpreters" in refusal
    assert works == "[0.]"
