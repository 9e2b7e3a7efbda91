"""Whatever a hostile HDF5 file does to the process that reads it, here it is an error, soon and at little memory."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fusedcell as fc
from drawn import examples
from fusedcell.convert.keras import hdf5, hdf5_process
from keras_models import KerasCase, KerasCell, sequential, write_case

h5py: Any = pytest.importorskip("h5py")

LSTM = KerasCase([KerasCell("LSTM", 4)])
not_on_windows = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")
with_limits = pytest.mark.skipif(
    sys.platform != "linux" or "QEMU_CPU" in os.environ, reason="Linux alone limits memory, and QEMU does not"
)
DAMAGED = "m.h5: .*not an HDF5 file, or damaged: "


def with_false_length(tmp_path: Path) -> Path:
    """A file whose configuration says that it has nearly 4 GiB."""
    path = write_case(tmp_path / "m.h5", LSTM)
    data = bytearray(path.read_bytes())
    length, heap = len(json.dumps(sequential([LSTM.item()]))), data.index(b"GCOL")
    at = data.index(struct.pack("<IQ", length, heap))  # a text elsewhere is its length, then where that is
    data[at : at + 4] = b"\xf0\xff\xff\xff"
    path.write_bytes(data)
    return path


def with_a_text_many_times(tmp_path: Path) -> Path:
    """A file of a megabyte with a list of 3,000 texts, each of which is the same megabyte."""
    path = write_case(tmp_path / "m.h5", LSTM)
    with h5py.File(path, "a") as file:
        texts = np.array(["x" * 1_000_000] + ["y"] * 2_999, dtype=object)
        file["model_weights/recurrent"].attrs.create("weight_names", texts, dtype=h5py.string_dtype())
    data = bytearray(path.read_bytes())
    # A text elsewhere is its length, then where that is, in 16 bytes.
    found = re.search(struct.pack("<I", 1_000_000) + b".{12}" + struct.pack("<I", 1), data, re.DOTALL)
    assert found
    first = found.start()
    data[first : first + 16 * 3_000] = data[first : first + 16] * 3_000
    path.write_bytes(data)
    return path


def with_a_heap_without_end(tmp_path: Path) -> Path:
    """A file where the object after the configuration takes no room, so that whoever goes from it to the next stays."""
    path = write_case(tmp_path / "m.h5", LSTM)
    data = bytearray(path.read_bytes())
    heap = data.index(b"GCOL")
    size = struct.unpack_from("<Q", data, heap + 24)[0]
    struct.pack_into("<HHIQ", data, heap + 32 + -(-size // 8) * 8, 0, 0, 0, 0)
    path.write_bytes(data)
    return path


IN_MEMORY_OF_ITS_OWN = """
import resource, sys
import fusedcell as fc
try:
    fc.from_keras(sys.argv[1])
except ValueError as error:
    print(error, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, sep="|")
"""


def test_a_file_for_another_reader_says_which(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"not of HDF5")
    with pytest.raises(ValueError, match=r"not an HDF5 file, or damaged: .*; read an ONNX model with"):
        fc.from_keras(path)


@with_limits
@pytest.mark.parametrize("make", [with_false_length, with_a_text_many_times])
def test_memory_goes_by_the_files_size(tmp_path: Path, make: Any) -> None:
    path = make(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", IN_MEMORY_OF_ITS_OWN, str(path)], capture_output=True, text=True, check=True
    )
    message, _, kilobytes = done.stdout.rpartition("|")
    assert "not an HDF5 file, or damaged: " in message
    assert int(kilobytes) < 200_000  # of which NumPy and h5py take 50,000


def test_time_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5, "_CPU_SECONDS", 1)
    with pytest.raises(ValueError, match=f"{DAMAGED}(reading it ended with SIGXCPU|it took over 60 s)"):
        fc.from_keras(with_a_heap_without_end(tmp_path))


class TestTheProcess:
    """With scripts in the place of the one that reads, as no file is known that makes it do these."""

    @pytest.fixture
    def replace(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
        def replace(name: str, body: str) -> None:
            script = tmp_path / "script.py"
            script.write_text(
                f"import os, runpy, signal, sys, time\nscript = runpy.run_path({hdf5_process.__file__!r})\n"
                f"def method(self, **arguments):\n    {body}\nscript['Reader'].{name} = method\nscript['main']()\n"
            )
            monkeypatch.setattr(hdf5, "_SCRIPT", script)

        return replace

    def refused(self, tmp_path: Path, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            fc.from_keras(write_case(tmp_path / "m.h5", LSTM))

    @pytest.mark.parametrize(
        ("body", "ending"),
        [
            ("os._exit(3)", "exit code 3"),
            pytest.param("os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV", marks=not_on_windows),
            pytest.param("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL", marks=not_on_windows),
        ],
    )
    @pytest.mark.parametrize("request_", ["open", "find", "texts", "read"])
    def test_ending_it_ends_no_other(self, tmp_path: Path, replace: Any, request_: str, body: str, ending: str) -> None:
        replace(request_, body)
        self.refused(tmp_path, f"{DAMAGED}reading it ended with {ending}")

    def test_waiting_for_an_answer_ends(self, tmp_path: Path, replace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        replace("texts", "time.sleep(600)")
        monkeypatch.setattr(hdf5, "_SECONDS", 1)
        self.refused(tmp_path, f"{DAMAGED}it took over 1 s")

    def test_an_answer_of_any_size_is_not_taken(self, tmp_path: Path, replace: Any) -> None:
        replace("texts", "sys.stdout.buffer.write(bytes(15) + b'\\x7f' * 9)")
        self.refused(tmp_path, f"{DAMAGED}[0-9]{{19}} bytes were read from it")

    def test_values_of_another_size_are_not_taken(self, tmp_path: Path, replace: Any) -> None:
        replace("read", "return {}, bytes(100)")
        self.refused(tmp_path, "kernel:0: expected 192 bytes, got 100")

    @with_limits
    def test_its_limits_are_set_before_the_file_is_opened(self, tmp_path: Path, replace: Any) -> None:
        replace(
            "open", "import resource as r; raise ValueError([r.getrlimit(k)[0] for k in (r.RLIMIT_CORE, r.RLIMIT_AS)])"
        )
        with pytest.raises(ValueError, match=r"ValueError: \[[01], [0-9]+\]") as caught:
            fc.from_keras(write_case(tmp_path / "m.h5", LSTM))
        assert int(str(caught.value).rpartition(" ")[2][:-1]) < 1 << 30

    @pytest.mark.parametrize("executable", ["", None, "/no/such/python", os.devnull])
    def test_where_none_can_be_started_the_error_says_so(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executable: Any
    ) -> None:
        path = write_case(tmp_path / "m.h5", LSTM)
        monkeypatch.setattr(sys, "executable", executable)
        with pytest.raises(RuntimeError, match=r"HDF5 is read in a process of its own, and .* could not start one: "):
            fc.from_keras(path)

    @not_on_windows
    def test_what_is_not_python_is_not_taken_for_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write_case(tmp_path / "m.h5", LSTM)
        monkeypatch.setattr(sys, "executable", shutil.which("false"))
        with pytest.raises(RuntimeError, match=r"false' .* could not start one: reading it ended with exit code 1"):
            fc.from_keras(path)

    def test_a_frozen_program_is_not_started_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write_case(tmp_path / "m.h5", LSTM)
        monkeypatch.setattr(sys, "frozen", True, raising=False)
        with pytest.raises(RuntimeError, match="could not start one: it is not Python's own"):
            fc.from_keras(path)

    def test_an_h5py_that_does_not_import_is_no_damaged_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = write_case(tmp_path / "m.h5", LSTM)
        (tmp_path / "h5py.py").write_text("raise ImportError('built for another NumPy')")
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(RuntimeError, match="could not start one: ImportError: built for another NumPy"):
            fc.from_keras(path)

    @pytest.mark.parametrize("content", [None, b"\x89HDF\r\n\x1a\n"])
    def test_nothing_of_it_stays(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None) -> None:
        started: list[Any] = []

        class Popen(subprocess.Popen):  # type: ignore[type-arg] # a stand-in of any type
            def __init__(self, *arguments: Any, **options: Any) -> None:
                super().__init__(*arguments, **options)
                started.append(self)

        monkeypatch.setattr(subprocess, "Popen", Popen)
        path = write_case(tmp_path / "m.h5", LSTM)
        threads = threading.active_count()
        if content is None:
            fc.from_keras(path)
        else:
            path.write_bytes(content)
            with pytest.raises(ValueError, match=DAMAGED):
                fc.from_keras(path)
        assert threading.active_count() == threads
        (process,) = started
        assert process.returncode is not None
        assert process.stdin.closed
        assert process.stdout.closed


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("keras")
    both = KerasCase([KerasCell("LSTM", 4)], merge_mode="concat")
    return {suffix: write_case(folder / f"m{suffix}", both).read_bytes() for suffix in (".h5", ".keras")}


CHANGE = st.tuples(st.integers(0, 1 << 20), st.sampled_from([0, 1, 0x7F, 0xFF]) | st.integers(0, 255))


@settings(max_examples=examples(25))
@given(
    suffix=st.sampled_from([".h5", ".keras"]),
    cut=st.none() | st.integers(0, 1 << 20),
    changes=st.lists(CHANGE, min_size=1, max_size=16),
)
def test_truncated_and_mutated_files_are_read_or_end_in_an_error_of_ours(
    tmp_path_factory: pytest.TempPathFactory,
    files: dict[str, bytes],
    suffix: str,
    cut: int | None,
    changes: list[tuple[int, int]],
) -> None:
    data = bytearray(files[suffix])
    for at, value in changes:
        data[at % len(data)] = value
    path = tmp_path_factory.mktemp("mutants") / f"m{suffix}"
    path.write_bytes(data if cut is None else data[: cut % len(data)])
    with contextlib.suppress(ValueError, OSError):
        fc.from_keras(path, keras_output=True)(np.zeros((1, 2, 3), np.float32))
