"""num_threads: the bits of one thread, workers only when asked for, no trouble with other threads or forks."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest

from fusedcell import _core
from models import EVERY_KIND, KIND, Kind, flat, uniform

several_cpus = pytest.mark.skipif(_core.available_cpus() < 2, reason="one CPU, so never two threads")
every_kind = pytest.mark.parametrize("kind", EVERY_KIND, ids=lambda kind: kind.name)

# Large enough to be worth a second thread, in slices, by directions and as a wavefront.
SHAPES = [
    pytest.param({"hidden_size": 400}, 60, id="slices"),
    pytest.param({"hidden_size": 100, "directions": 2}, 400, id="directions"),
    pytest.param({"hidden_size": 100, "layers": 2}, 400, id="wavefront"),
]


def run_python(script: str) -> str:
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()


def same(actual: Any, expected: Any) -> None:
    for a, e in zip(flat(actual), flat(expected), strict=True):
        np.testing.assert_array_equal(a, e)


@every_kind
@pytest.mark.parametrize("dtype", ["float32", "int8", "int8_int16"])
@pytest.mark.parametrize(("shape", "steps"), SHAPES)
def test_the_bits_are_those_of_one_thread(kind: Kind, dtype: str, shape: dict[str, Any], steps: int) -> None:
    layer = kind.make(kind.weights(40, **shape), dtype=dtype)
    x = uniform(41, steps, 2, 40)
    lengths = [steps, steps // 3]
    for num_threads in (2, 3, 1000):
        same(layer(x, num_threads=num_threads), layer(x))
        same(layer(x, lengths=lengths, num_threads=num_threads), layer(x, lengths=lengths))


@every_kind
def test_streams_have_the_same_bits_with_threads(kind: Kind) -> None:
    layer = kind.make(kind.weights(256, 512))
    x = uniform(42, 30, 256)
    alone, together = layer.stream(), layer.stream(num_threads=2)
    for step in x[:20]:
        same((together.step(step),), (alone.step(step),))
    same((together.copy().process(x[20:]),), (alone.process(x[20:]),))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot bind a process to a CPU")
def test_no_more_cpus_than_the_process_may_use() -> None:
    script = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
    assert run_python(script + "from fusedcell import _core; print(_core.available_cpus())") == "1"
    assert 1 <= _core.available_cpus() <= len(os.sched_getaffinity(0))


@several_cpus
@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="counts threads in /proc")
def test_workers_start_when_a_call_needs_them_and_not_before() -> None:
    script = """
import os, numpy as np, fusedcell as fc
def threads(): return len(os.listdir("/proc/self/task"))
before = threads()
mapping = {"weight_ih_l0": np.ones((2048, 512)), "weight_hh_l0": np.ones((2048, 512))}
lstm, x = fc.LSTM.from_state_dict(mapping), np.zeros((50, 512), np.float32)
lstm(x)
lstm(x[:0], num_threads=2)
small = fc.RNN.from_state_dict({"weight_ih_l0": np.ones((4, 4)), "weight_hh_l0": np.ones((4, 4))})
small(np.zeros((3, 4), np.float32), num_threads=2)
made_early = threads() - before
lstm(x, num_threads=2)
print(made_early, threads() - before)
"""
    assert run_python(script) == "0 1"


@pytest.mark.parametrize("num_threads", [0, -1])
def test_a_number_of_threads_below_one_is_refused(num_threads: int) -> None:
    layer = KIND["gru_reset_after"].make(KIND["gru_reset_after"].weights(3, 4))
    with pytest.raises(ValueError, match=f"num_threads: expected at least 1, got {num_threads}"):
        layer(np.zeros((2, 3), np.float32), num_threads=num_threads)
    with pytest.raises(ValueError, match=f"num_threads: expected at least 1, got {num_threads}"):
        layer.stream(num_threads=num_threads)


def test_callers_at_the_same_time_get_their_own_results() -> None:
    layer = KIND["lstm"].make(KIND["lstm"].weights(64, 256, layers=2))
    inputs = [uniform(50 + i, 40, 64) for i in range(4)]
    expected = [layer(x)[0] for x in inputs]
    wrong: list[int] = []

    def call(index: int) -> None:
        for _ in range(30):
            if not np.array_equal(layer(inputs[index], num_threads=2)[0], expected[index]):
                wrong.append(index)

    callers = [threading.Thread(target=call, args=(index,)) for index in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_makes_its_own_workers() -> None:
    script = """
import os, sys, numpy as np, fusedcell as fc
mapping = {"weight_ih_l0": np.full((2048, 512), 0.01), "weight_hh_l0": np.full((2048, 512), -0.01)}
lstm, x = fc.LSTM.from_state_dict(mapping), np.ones((50, 512), np.float32)
expected = lstm(x)[0]
assert np.array_equal(lstm(x, num_threads=2)[0], expected)
for _ in range(3):
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(lstm(x, num_threads=2)[0], expected) else 1)
    assert os.waitpid(child, 0)[1] == 0
assert np.array_equal(lstm(x, num_threads=2)[0], expected)
print("ok")
"""
    assert run_python(script) == "ok"
