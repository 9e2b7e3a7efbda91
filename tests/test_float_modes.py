"""The caller's floating-point mode does not change a bit of what is made or run, traps nothing, and is as it was."""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pytest

from fusedcell import _core
from fusedcell._dtypes import DTYPES
from fusedcell.weights.floats import to_float32
from models import KIND, Kind, flat, uniform

X86 = platform.machine().lower() in ("x86_64", "amd64")
ARM_32 = not X86 and sys.maxsize < 2**32

if sys.platform != "linux" or ctypes.util.find_library("m") is None:
    pytest.skip("sets modes by way of glibc", allow_module_level=True)

pytestmark = pytest.mark.core
libm = ctypes.CDLL(ctypes.util.find_library("m"))
# <bits/fenv.h>: FE_UPWARD and so on.
ROUNDING = (
    {"upward": 0x800, "downward": 0x400, "towards zero": 0xC00}
    if X86
    else {"upward": 0x400000, "downward": 0x800000, "towards zero": 0xC00000}
)


class Environment(ctypes.Structure):
    """fenv_t: of x86-64 28 bytes of the x87 and MXCSR, of AArch64 FPCR and FPSR, of 32-bit ARM FPSCR and no more."""

    _fields_: ClassVar = [
        ("x87", ctypes.c_uint32 * (7 if X86 else 0)),
        ("control", ctypes.c_uint32),
        ("more", ctypes.c_uint32),
    ]


def environment() -> Environment:
    got = Environment()
    assert libm.fegetenv(ctypes.byref(got)) == 0
    return got


# The bits of `control`: MXCSR's, FPCR's, or FPSCR's, where those of the last comparison count as flags here.
FLUSH = 0x8040 if X86 else 1 << 24
UPWARD = 0x4000 if X86 else 1 << 22
FLAGS = 0x3F if X86 else 0xF800009F if ARM_32 else 0
INEXACT_MASK = 1 << 12
MASKS = 0x1F80


def changed(change: Callable[[int], int]) -> Callable[[], object]:
    def set_environment() -> None:
        wanted = environment()
        wanted.control = change(wanted.control)
        assert libm.fesetenv(ctypes.byref(wanted)) == 0

    return set_environment


MODES: dict[str, Callable[[], object]] = {
    **{name: partial(libm.fesetround, value) for name, value in ROUNDING.items()},
    "flush to zero": changed(lambda control: control | FLUSH),
    "upward, flush to zero": changed(lambda control: control | FLUSH | UPWARD),
}
if X86:  # the AArch64 CPUs that can trap are few, and QEMU's are not among them
    # What is inexact traps nearly everywhere, the standard library's hash tables included: see the test of it.
    MODES["traps"] = changed(lambda control: control & ~(MASKS | FLAGS) | INEXACT_MASK)
    MODES["traps, upward"] = changed(lambda control: control & ~(MASKS | FLAGS) | INEXACT_MASK | UPWARD)
every_mode = pytest.mark.parametrize("mode", MODES)
# Which round in all the places there are: projections, second passes over R, gates with options.
some_kinds = pytest.mark.parametrize(
    "kind",
    [KIND[name] for name in ("rnn_relu", "lstm_projected", "gru_reset_before", "lstm_hard")],
    ids=lambda kind: kind.name,
)


@contextmanager
def caller_in(mode: str) -> Iterator[None]:
    """The mode is set within, and found to be as it was set at the end."""
    before = environment()
    MODES[mode]()
    inside = environment().control & ~FLAGS
    try:
        yield
        assert environment().control & ~FLAGS == inside
    finally:
        assert libm.fesetenv(ctypes.byref(before)) == 0


def same(actual: Any, expected: Any) -> None:
    for a, e in zip(flat(actual), flat(expected), strict=True):
        np.testing.assert_array_equal(a, e)


def wide(seed: int, *shape: int) -> np.ndarray:
    """Doubles that no float32 holds."""
    return uniform(seed, *shape).astype(np.float64) * (1 + 2.0**-30) + 2.0**-40


@every_mode
@some_kinds
@pytest.mark.parametrize("dtype", DTYPES)
def test_packing_and_converting_round_to_nearest(kind: Kind, dtype: str, mode: str) -> None:
    mapping = {name: array * (1 + 2.0**-30) for name, array in kind.weights(5, 9, layers=2).items()}

    def made() -> list[np.ndarray]:
        layer = kind.make(mapping, dtype=dtype)
        layers = [layer, layer.astype("float32"), layer.astype("int8")]
        return [array for each in layers for cell in each._stack.arrays() for array in cell.values()]

    expected = made()
    with caller_in(mode):
        actual = made()
    same(tuple(actual), tuple(expected))


@every_mode
@some_kinds
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_calls_and_streams_round_to_nearest(kind: Kind, dtype: str, mode: str, isa: str) -> None:
    layer = kind.make(kind.weights(6, 17, layers=2), dtype=dtype, isa=isa)
    cell = kind.make_cell(kind.weights(6, 17), dtype=dtype, isa=isa)
    blocks = (wide(1, 9, 6), uniform(2, 9, 6))

    def run(stream: Any) -> list[Any]:
        results: list[Any] = []
        for x in blocks:
            results += [layer(x), layer(x, num_threads=2), cell(x[0])]
            out = np.empty(stream.output_size, np.float32)
            results += [stream.step(x[0]), stream.step(x[1], out), stream.process(x), stream.copy().step(x[2])]
            state = stream.state
            stream.state = tuple(part.astype(np.float64) / 3 for part in flat((state,))) if kind.gates == 4 else state
        return flat(tuple(results))

    expected = run(layer.stream())
    streams = layer.stream(), layer.stream()
    with caller_in(mode):
        actual = run(streams[0])
    same(tuple(actual), tuple(expected))


@every_mode
def test_decay_rounds_to_nearest(mode: str) -> None:
    kind = KIND["lstm"]
    layer = kind.make(kind.weights(6, 17)).with_initial_state(uniform(5, 1, 1, 17), uniform(6, 1, 1, 17))

    def decayed() -> Any:
        stream = layer.stream()
        stream.state = (uniform(3, 1, 1, 17), uniform(4, 1, 1, 17))
        stream.decay(1 / 3)
        return stream.state

    expected = decayed()
    with caller_in(mode):
        actual = decayed()
    same(actual, expected)


@every_mode
def test_norms_and_checks_of_states_round_to_nearest_and_trap_nothing(mode: str) -> None:
    kind = KIND["lstm"]
    layer = kind.make(kind.weights(6, 17, layers=2))
    streams = [layer.stream(5), layer.stream()]
    for stream in streams:
        stream.state = (uniform(3, 2, stream.batch_size, 17) / 3, uniform(4, 2, stream.batch_size, 17) / 7)
        stream.state[0][0, 0, 3] = 1e-42  # a denormal, which counts
    streams[1].state[1][0, 0, :2] = np.array([0x7FA00000, 0x7F800000], np.uint32).view(np.float32)  # traps, if it may

    def judged() -> list[np.ndarray]:
        return [np.asarray(result) for stream in streams for result in (stream.norm(), stream.is_finite())]

    expected = judged()
    h, c = (part.astype(np.float64).transpose(1, 0, 2).reshape(5, -1) for part in streams[0].state)
    np.testing.assert_allclose(expected[0], np.sqrt((h**2).sum(1) + (c**2).sum(1)), rtol=1e-15)
    with caller_in(mode):
        actual = judged()
    same(tuple(actual), tuple(expected))


@every_mode
def test_wide_arrays_of_layers_and_converters_become_the_nearest_floats(mode: str) -> None:
    kind = KIND["lstm"]
    layer = kind.make(kind.weights(6, 17))

    def made() -> list[np.ndarray]:
        started = layer.with_initial_state(wide(5, 1, 1, 17), wide(6, 1, 1, 17).astype(np.longdouble))
        return [*started.initial_state, to_float32(wide(7, 3, 4), "x")]

    expected = made()
    with caller_in(mode):
        actual = made()
    same(tuple(actual), tuple(expected))


@functools.cache
def one_for_threads() -> tuple[Any, np.ndarray, np.ndarray]:
    """A layer large enough for threads, x and its y; made once, as an emulated CPU takes seconds for it."""
    layer = KIND["lstm"].make(KIND["lstm"].weights(64, 512))
    x = uniform(3, 12, 64)
    return layer, x, layer(x)[0]


@every_mode
def test_threads_keep_the_kernels_mode_and_their_own(mode: str) -> None:
    layer, x, expected = one_for_threads()
    with caller_in(mode):
        actual = [layer(x, num_threads=2)[0] for _ in range(5)]
    for y in (*actual, layer(x, num_threads=2)[0]):
        np.testing.assert_array_equal(y, expected)


@every_mode
def test_activations_of_helpers_round_to_nearest(mode: str, isa: str) -> None:
    x = wide(4, 200)
    calls: list[Callable[[], np.ndarray]] = [
        lambda: _core.map("tanh", x, isa),
        lambda: _core.map("sigmoid", x, isa),
        lambda: _core.activate("ScaledTanh", x, 1 / 3, 2 / 3, isa),
        lambda: _core.activate("Elu", x, 0.1, 0.0, isa),
    ]
    expected = [call() for call in calls]
    with caller_in(mode):
        actual = [call() for call in calls]
    same(tuple(actual), tuple(expected))


@every_mode
@pytest.mark.parametrize(
    ("bad", "error"),
    [(np.zeros(3, np.float32), ValueError), (np.zeros(6, np.int32), TypeError), ("x", TypeError), (None, TypeError)],
)
def test_the_mode_is_as_before_after_an_error(mode: str, bad: Any, error: type[Exception]) -> None:
    layer = KIND["lstm"].make(KIND["lstm"].weights(6, 9))
    stream = layer.stream()
    mapping = {"weight_ih_l0": np.full((4, 1), np.nan), "weight_hh_l0": np.full((4, 1), np.inf)}
    with caller_in(mode):
        for call in (stream.step, stream.process, layer, lambda x: stream.bind(x, x)):
            with pytest.raises(error):
                call(bad)
        with pytest.raises(ValueError, match="weight_ih_l0: expected finite values, got 4 NaN of 4"):
            KIND["lstm"].make(mapping, dtype="int8")


def test_flags_that_the_caller_has_raised_stay_and_no_other_is_raised_where_the_mode_holds_them() -> None:
    stream = KIND["lstm"].make(KIND["lstm"].weights(6, 9)).stream()
    x, out = uniform(5, 6), np.empty(9, np.float32)
    all_flags = 0x3D if X86 else 0x1F
    overflow = 0x08 if X86 else 0x04
    libm.feclearexcept(all_flags)
    stream.step(x, out)
    raised = libm.fetestexcept(all_flags)
    libm.feraiseexcept(overflow)
    stream.step(x, out)
    still = libm.fetestexcept(overflow)
    libm.feclearexcept(all_flags)
    assert still == overflow
    assert raised == 0 or not (X86 or ARM_32)


@pytest.mark.skipif(not X86, reason="needs a CPU that can trap")
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_no_exception_traps_in_a_run_not_even_inexact(dtype: str) -> None:
    # In a process of its own, as all else that rounds meanwhile would end it.
    script = f"""
import numpy as np, fusedcell as fc
from test_float_modes import changed, environment, libm, MASKS, FLAGS
import ctypes
rng = np.random.default_rng(1)
mapping = {{"weight_ih_l0": rng.normal(size=(2048, 64)) / 20, "weight_hh_l0": rng.normal(size=(2048, 512)) / 40}}
layer = fc.LSTM.from_state_dict(mapping, dtype="{dtype}")
x = rng.normal(size=(60, 64)).astype(np.float32)
x[5, 5], x[6, 6], x[7, 7] = np.inf, np.nan, 1e-42
expected = layer(x)[0]
stream, wide, out = layer.stream(num_threads=2), x.astype(np.float64), np.empty((60, 512), np.float32)
before, trap = environment(), changed(lambda control: control & ~(MASKS | FLAGS))
trap()
results = [layer(x)[0], layer(x, num_threads=2)[0], layer(wide)[0], stream.process(x)]
stream.reset()
for row, y in zip(x, out): stream.step(row, y)
libm.fesetenv(ctypes.byref(before))
print([np.array_equal(result, expected, equal_nan=True) for result in (*results, out)])
"""
    paths = [path for path in sys.path if path]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}\n{script}"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert done.stdout.strip() == str([True] * 5)
