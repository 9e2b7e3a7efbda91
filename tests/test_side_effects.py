"""No side effects: importing starts nothing, calls leave the CPU's mode alone, and silence costs no denormals."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

import fusedcell as fc
from models import KIND, KINDS, Kind, uniform

pytestmark = pytest.mark.float_weights

every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def in_new_interpreter(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.core
def test_import_starts_no_thread_and_pulls_in_numpy_only() -> None:
    code = """
import json, os, sys, threading
import numpy
count = lambda: len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else threading.active_count()
modules, threads = set(sys.modules), count()
import fusedcell
added = {name.partition(".")[0] for name in set(sys.modules) - modules}
print(json.dumps([count() - threads, sorted(added - set(sys.stdlib_module_names))]))
"""
    threads, modules = json.loads(in_new_interpreter(code))
    assert threads == 0
    assert set(modules) <= {"fusedcell", "numpy"}


@pytest.mark.core
def test_rooms_of_the_package_load_when_they_are_asked_for() -> None:
    code = """
import json, sys
ours = lambda: [name for name in sys.modules if name.partition(".")[0] == "fusedcell"]
import fusedcell
alone = ours()
fusedcell.LSTM, fusedcell.load
print(json.dumps([alone, ours()]))
"""
    alone, used = json.loads(in_new_interpreter(code))
    assert set(alone) == {"fusedcell", "fusedcell._core"}
    assert len(used) < 20
    elsewhere = ("bench", "convert", "keras", "quantization", "reference", "torch")
    assert not [name for name in used if name.split(".")[1:2] and name.split(".")[1] in elsewhere]


@pytest.mark.any_cpu
@pytest.mark.core
def test_every_name_is_there_however_it_is_asked_for() -> None:
    code = """
import fusedcell
listed = dir(fusedcell)
assert fusedcell.layers.LSTM is fusedcell.LSTM and fusedcell.keras.KerasLayer
for name in ("lstm", "_nothing", ".", "", "bench.command"):
    assert not hasattr(fusedcell, name), name
import sys
sys.modules["torch"] = None  # as where it is not installed
assert not hasattr(fusedcell, "torch")
try:
    fusedcell.torch
except AttributeError as error:
    assert "pip install fusedcell[torch]" in str(error)
else:
    raise AssertionError("there is no PyTorch")
names = {}
exec("from fusedcell import *", names)
assert set(fusedcell.__all__) <= set(names) and set(fusedcell.__all__) <= set(listed)
import pydoc
assert "Long short-term memory" in pydoc.render_doc(fusedcell)
"""
    in_new_interpreter(code)
    stub = ast.parse(Path(fc.__file__).with_suffix(".pyi").read_text())
    imported = [alias.asname for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted(map(str, imported)) == fc.__all__


@pytest.mark.core
def test_import_does_not_look_at_the_environment() -> None:
    in_new_interpreter("import fusedcell", FUSEDCELL_ISA="no such tier")


@pytest.mark.core
@every_kind
def test_the_callers_denormals_survive_a_call(kind: Kind, isa: str) -> None:
    denormal = np.full(4, 1e-40, np.float32)
    layer = kind.make(kind.weights(6, 9), isa=isa)
    stream = layer.stream()
    for call in (lambda: layer(uniform(1, 3, 6)), lambda: stream.step(uniform(1, 6)), lambda: stream.step(None)):
        with contextlib.suppress(TypeError):  # an error is a way out of a call too
            call()
        assert (denormal * np.float32(0.5) > 0).all()


@pytest.mark.core
@every_kind
def test_denormal_inputs_states_and_weights_count_as_zero(kind: Kind, isa: str) -> None:
    mapping = kind.weights(6, 9)
    layer = kind.make(mapping, isa=isa)
    zeros, tiny = np.zeros((3, 6), np.float32), np.full((3, 6), 1e-40, np.float32)
    np.testing.assert_array_equal(layer(tiny)[0], layer(zeros)[0])
    tiny_weights = {name: array * np.float32(1e-45) for name, array in mapping.items()}
    zero_weights = {name: array * np.float32(0) for name, array in mapping.items()}
    x = uniform(2, 3, 6)
    np.testing.assert_array_equal(kind.make(tiny_weights, isa=isa)(x)[0], kind.make(zero_weights, isa=isa)(x)[0])


@pytest.mark.core
@every_kind
def test_a_state_that_fades_to_silence_holds_no_denormals(kind: Kind, isa: str) -> None:
    stream = kind.make(kind.weights(6, 9, bias=False), isa=isa).stream()
    stream.process(uniform(3, 5, 6))
    y = stream.process(np.zeros((400, 6), np.float32))
    magnitude = np.abs(y[y != 0])
    assert magnitude.size == 0 or magnitude.min() >= np.finfo(np.float32).smallest_normal


@pytest.mark.core
def test_a_step_into_out_makes_no_python_objects() -> None:
    stream = KIND["lstm"].make(KIND["lstm"].weights(32, 32)).stream()
    x, out = uniform(4, 32), np.empty(32, np.float32)
    for _ in range(10):
        stream.step(x, out)
    before = sys.getallocatedblocks()
    for _ in range(100):
        stream.step(x, out)
    assert sys.getallocatedblocks() - before < 10


def test_the_package_is_small_and_typed() -> None:
    folder = Path(fc.__file__).parent
    assert (folder / "py.typed").is_file()
    assert (folder / "_core.pyi").is_file()
    # A wheel is a zip archive of these files.
    size = sum(len(zlib.compress(file.read_bytes())) for file in folder.rglob("*.*") if "__pycache__" not in file.parts)
    assert size < 2_000_000
