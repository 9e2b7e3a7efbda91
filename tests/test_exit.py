"""The interpreter's end: threads that are inside calls then, as daemon threads may be, do not disturb it."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

SETUP = """
import sys, threading, time
from contextlib import suppress
import numpy as np
import fusedcell as fc
from fusedcell import _core
from fusedcell._file_format import to_bytes

rng = np.random.default_rng(1)
mapping = {"weight_ih_l0": rng.normal(size=(1024, 64)) / 20, "weight_hh_l0": rng.normal(size=(1024, 256)) / 40}
layer = fc.LSTM.from_state_dict(mapping)
cell = fc.LSTMCell(mapping["weight_ih_l0"], mapping["weight_hh_l0"])
x, rows = rng.normal(size=(40, 64)).astype(np.float32), rng.normal(size=(8, 64)).astype(np.float32)
wide = rng.normal(size=(20, 50, 64))  # the conversion of so many floats gives up the GIL
one, batch, other, third = layer.stream(), layer.stream(8), layer.stream(), layer.stream()
pool, many = fc.StreamPool(layer, 8), [layer.stream() for _ in range(8)]
slots = [pool.join() for _ in range(8)]
file, newer = to_bytes(*layer._to_tensors()), to_bytes({"format_version": 9}, {})

class Slow:
    \"\"\"Converted by code of its own, which gives up the GIL.\"\"\"
    def __init__(self, array): self.array = array
    def __array__(self, dtype=None, copy=None):
        time.sleep(0.002)
        return self.array

class Items(Slow):
    \"\"\"The same of a sequence, or a number.\"\"\"
    __array__ = property()
    def __len__(self):
        time.sleep(0.0002)
        return len(self.array)
    def __getitem__(self, i):
        time.sleep(0.0002)
        return self.array[i]
    def __index__(self):
        time.sleep(0.0002)
        return self.array

def refused(data):
    with suppress(fc.UnsupportedError):
        _core.load_layer(data)

calls = {
    "a step": lambda: one.step(x[0]),
    "a step of a batch": lambda: batch.step(rows),
    "a bound step": other.bind(x[0].copy(), np.empty(256, np.float32)),
    "a block": lambda: third.process(x),
    "a layer": lambda: layer(x),
    "threads": lambda: layer(x, num_threads=2),
    "a cell": lambda: cell(rows),
    "streams": lambda: layer.step_many(many, rows),
    "a pool": lambda: pool.step(slots, rows),
    "wide floats": lambda: layer(wide),
    "weights": lambda: fc.LSTM.from_state_dict({name: Slow(array) for name, array in mapping.items()}),
    "another type": lambda: layer.astype("int8"),
    "a slow array": lambda: layer(Slow(x)),
    "a slow sequence": lambda: layer.stream().step(Items(x[0])),
    "a slow number": lambda: layer.stream(Items(2)),
    "a slow state": lambda: setattr(layer.stream(), "state", (Slow(np.zeros((1, 256))), Slow(np.zeros((1, 256))))),
    "slow rows": lambda: layer.stream(8).reset(Slow(np.arange(3))),
    "a slow iterable": lambda: layer.step_many((time.sleep(0.001) or stream for stream in [layer.stream()]), x[:1]),
    "bytes": lambda: layer.stream().to_bytes(),
    "a file": lambda: _core.load_layer(file),
    "a file that is refused": lambda: refused(newer),
    "a timing": lambda: _core.read_seconds(1 << 16, 100),
}
begun = set()

def repeat(name):
    while True:
        begun.add(name)
        calls[name]()

def start(names):
    for name in names:
        threading.Thread(target=repeat, args=(name,), daemon=True).start()
    while len(begun) < len(names):
        time.sleep(0.001)
    time.sleep(0.02)
"""
CALLS = re.findall('^    "(.+?)": ', SETUP, re.MULTILINE)


def end_of(script: str) -> tuple[int, str]:
    """The exit status of a program that runs the script, and what it wrote."""
    done = subprocess.run([sys.executable, "-c", SETUP + script], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("name", CALLS)
def test_a_daemon_thread_inside_a_call_does_not_disturb_the_end(name: str) -> None:
    assert end_of(f"start([{name!r}])") == (0, "")


def test_daemon_threads_inside_every_call_at_once_do_not_disturb_the_end() -> None:
    for _ in range(3):
        assert end_of("start(list(calls))") == (0, "")


def test_the_exit_status_is_the_programs_own() -> None:
    assert end_of("start(['a layer', 'threads', 'streams'])\nsys.exit(7)") == (7, "")


def test_workers_that_are_no_daemon_threads_finish_their_call_first() -> None:
    script = """
def finish():
    time.sleep(0.05)
    print(np.array_equal(layer(wide, num_threads=2)[0], layer(wide)[0]))
threading.Thread(target=finish).start()
"""
    assert end_of(script) == (0, "True\n")


def test_calls_while_the_interpreter_ends_still_work() -> None:
    script = """
class Last:
    def __del__(self, layer=layer, wide=wide, x=x, stream=one, sys=sys, print=print):
        layer(wide, num_threads=2)
        stream.process(x)
        print(stream.step(x[0]).shape, sys.is_finalizing())
last = Last()
"""
    assert end_of(script) == (0, "(256,) True\n")
