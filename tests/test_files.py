"""Files are written whole or not at all, in place of the old one and as open as it was; none without an end is read."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fusedcell as fc
from fusedcell._files import open_file, write_file

posix = pytest.mark.skipif(os.name != "posix", reason="this system has other files")
root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
linux = pytest.mark.skipif(sys.platform != "linux", reason="the file is Linux's")


def rnn(size: int) -> fc.RNN:
    weights = np.full((size, size), 1 / size, np.float32)
    return fc.RNN.from_state_dict({"weight_ih_l0": weights, "weight_hh_l0": weights})


def save(path: Path) -> None:
    fc.save(rnn(8), path)


def to_onnx(path: Path) -> None:
    pytest.importorskip("onnx")
    fc.to_onnx(rnn(8), path)


every_writer = pytest.mark.parametrize("write", [save, to_onnx])


def in_a_process(code: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    script = f"import os, sys\nimport fusedcell as fc\nfrom fusedcell._files import write_file\n{code}"
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, timeout=300, **options
    )


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# Savers and readers at the same time


def size_of(path: Path) -> int | None:
    """The units of the layer that a file holds; None where there is no file."""
    try:
        return int(fc.load(path).hidden_size)
    except FileNotFoundError:
        return None


def test_threads_that_save_to_one_path_leave_one_of_their_files_whole(tmp_path: Path) -> None:
    path = tmp_path / "layer.safetensors"
    layers = {size: rnn(size) for size in (8, 600, 200, 400)}
    found: set[int | None] = set()
    for _ in range(20):
        together = threading.Barrier(len(layers))

        def saver(layer: fc.RNN, together: threading.Barrier = together) -> None:
            together.wait()
            fc.save(layer, path)

        savers = [threading.Thread(target=saver, args=(layer,)) for layer in layers.values()]
        for thread in savers:
            thread.start()
        while any(thread.is_alive() for thread in savers):
            found.add(size_of(path))
        found.add(size_of(path))
    assert found - {None} <= layers.keys()
    assert names(tmp_path) == [path.name]


def test_processes_with_the_same_number_may_save_to_one_path(tmp_path: Path) -> None:
    """As the first processes of two containers have, both of which write to one volume."""
    path = tmp_path / "layer.safetensors"
    code = """
import numpy as np
os.getpid, os.fsync = lambda: 1, lambda fd: None
size, path = int(sys.argv[1]), sys.argv[2]
weights = np.ones((size, size), np.float32)
layer = fc.RNN.from_state_dict({"weight_ih_l0": weights, "weight_hh_l0": weights})
print(flush=True)
sys.stdin.readline()
for _ in range(40):
    fc.save(layer, path)
"""
    sizes = (8, 600, 300)
    command = [sys.executable, "-c", f"import os, sys\nimport fusedcell as fc\n{code}"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    savers = [subprocess.Popen([*command, str(size), str(path)], **pipes) for size in sizes]  # type: ignore[call-overload] # the mapping has each option's type
    for process in savers:
        process.stdout.readline()
    for process in savers:
        process.stdin.write("\n")
        process.stdin.flush()
    found = set()
    while any(process.poll() is None for process in savers):
        found.add(size_of(path))
    for process in savers:
        process.communicate()
    assert [process.returncode for process in savers] == [0] * len(savers)
    assert found - {None} <= set(sizes)
    assert size_of(path) in sizes
    assert names(tmp_path) == [path.name]


def test_what_replaces_a_file_is_on_the_disk_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    synced: list[tuple[int, bytes]] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append((os.fstat(fd).st_ino, path.read_bytes())))
    write_file(path, b"new")
    assert synced == [(path.stat().st_ino, b"old")]


# Errors


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@every_writer
def test_after_an_error_the_old_file_is_there_and_nothing_else(
    step: str, error: BaseException, write: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write(path)
    path.write_bytes(b"precious")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(type(error), match=re.escape(repr(str(path))) if isinstance(error, OSError) else None):
        write(path)
    assert path.read_bytes() == b"precious"
    assert names(tmp_path) == [path.name]


@posix
def test_a_full_disk_costs_nothing_but_an_error(tmp_path: Path) -> None:
    code = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
for path in sys.argv[1:]:
    try:
        write_file(path, bytes(1001))
    except OSError as error:
        print(error)
"""
    there, new = tmp_path / "there", tmp_path / "new"
    there.write_bytes(b"precious")
    done = in_a_process(code, there, new)
    assert done.stdout.splitlines() == [f"[Errno 27] File too large: '{path}'" for path in (there, new)]
    assert names(tmp_path) == [there.name]
    assert there.read_bytes() == b"precious"


@every_writer
def test_errors_name_the_path_that_was_asked_for(write: Callable[[Path], None], tmp_path: Path) -> None:
    for path, error in (
        (tmp_path, IsADirectoryError),
        (tmp_path / "no such folder" / "file", FileNotFoundError),
        (tmp_path / f"{'x' * 256}", OSError),
    ):
        with pytest.raises(error) as raised:
            write(path)
        assert raised.value.filename == str(path)
    assert names(tmp_path) == []


# What a file's place and access are afterwards


@posix
@given(length=st.integers(1, 255))
def test_every_name_that_a_file_can_have_can_be_written(length: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / ("x" * length)
    for data in (b"one", b"two"):
        write_file(path, data)
        assert path.read_bytes() == data
    path.unlink()


@posix
@given(mode=st.integers(0, 0o777), mask=st.sampled_from([0o022, 0o077, 0o002, 0]))
def test_a_file_that_is_replaced_keeps_its_mode_and_a_new_one_has_what_the_umask_leaves(
    mode: int, mask: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "moded"
    before = os.umask(mask)
    try:
        write_file(path, b"one")
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
        path.chmod(mode)
        write_file(path, b"two")
        assert stat.S_IMODE(path.stat().st_mode) == mode
    finally:
        os.umask(before)
        path.unlink()


@posix
def test_nobody_may_read_half_a_file_who_may_not_read_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o640)
    modes: list[int] = []
    create = os.open

    def record(name: Any, flags: int, mode: int) -> int:
        fd = create(name, flags, mode)
        modes.append(stat.S_IMODE(os.fstat(fd).st_mode))
        return fd

    monkeypatch.setattr(os, "open", record)
    write_file(path, b"new")
    assert modes == [0o600]


@root
def test_a_file_that_root_replaces_keeps_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    os.chown(path, 1234, 4321)
    path.chmod(0o640)
    write_file(path, b"new")
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 4321, 0o640)


@root
def test_what_a_group_was_allowed_no_other_group_is() -> None:
    with tempfile.TemporaryDirectory() as folder:  # not where tests have theirs, to which other users have no way
        os.chmod(folder, 0o777)
        check_what_a_group_was_allowed(Path(folder, "file"))


def check_what_a_group_was_allowed(path: Path) -> None:
    path.write_bytes(b"old")
    os.chown(path, 1234, 4321)
    path.chmod(0o664)
    # Imports first, as another user may not read what is imported.
    code = "os.setgid(2345); os.setuid(2345); write_file(sys.argv[1], b'new')"
    done = in_a_process(code, path, extra_groups=[])
    assert done.returncode == 0, done.stderr
    found = path.stat()
    assert (path.read_bytes(), found.st_uid, found.st_gid) == (b"new", 2345, 2345)
    assert stat.S_IMODE(found.st_mode) == 0o604


@posix
def test_a_handler_that_raises_at_any_moment_leaves_nothing_behind(tmp_path: Path) -> None:
    code = """
import signal
from collections import Counter

class Late(Exception):
    pass

def raises(signum, frame):
    raise Late

signal.signal(signal.SIGALRM, raises)
ended = Counter()
for delay in range(300):
    try:
        signal.setitimer(signal.ITIMER_REAL, 2e-5 + delay * 2e-6)
        write_file(sys.argv[1], b"x" * 1000)
        signal.setitimer(signal.ITIMER_REAL, 0)
        ended["whole"] += 1
    except Late:
        ended["stopped"] += 1
print(ended["stopped"] > 0, len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 4)
"""
    done = in_a_process(code, tmp_path / "file")
    assert done.stdout.split()[0] == "True", done.stderr
    assert int(done.stdout.split()[1]) < 10, "files that nobody has closed"
    assert names(tmp_path) in ([], ["file"])


@posix
def test_a_handlers_error_comes_out_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def late(descriptor: int) -> None:
        raise TimeoutError("late")

    monkeypatch.setattr(os, "fsync", late)
    with pytest.raises(TimeoutError, match="late"):
        write_file(tmp_path / "file", b"new")
    assert names(tmp_path) == []


@posix
@every_writer
def test_links_stay_and_what_they_lead_to_is_written(write: Callable[[Path], None], tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    first, second, target = tmp_path / "first", folder / "second", folder / "target"
    first.symlink_to("folder/second")
    second.symlink_to("target")
    sizes = []
    for _ in range(2):  # at first it leads nowhere
        write(first)
        assert first.is_symlink()
        assert second.is_symlink()
        sizes.append(target.stat().st_size)
    assert min(sizes) > 0
    assert names(tmp_path) == ["first", "folder"]
    assert names(folder) == ["second", "target"]


@posix
def test_a_link_where_the_unfinished_file_would_be_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, path, victim = tmp_path / "folder", tmp_path / "folder" / "file", tmp_path / "victim"
    folder.mkdir()
    victim.write_bytes(b"precious")
    created: list[str] = []
    create = os.open
    monkeypatch.setattr(os, "urandom", bytes)
    monkeypatch.setattr(os, "open", lambda name, *rest, **mode: created.append(name) or create(name, *rest, **mode))
    write_file(path, b"old")
    (unfinished,) = created
    Path(unfinished).symlink_to(victim)
    with pytest.raises(FileExistsError):
        write_file(path, b"new")
    assert (victim.read_bytes(), path.read_bytes()) == (b"precious", b"old")
    assert Path(unfinished).is_symlink()


# What is no file


@posix
@every_writer
def test_a_pipe_gets_the_file_and_stays_a_pipe(write: Callable[[Path], None], tmp_path: Path) -> None:
    expected, path = tmp_path / "expected", tmp_path / "pipe"
    write(expected)
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    write(path)
    assert os.read(reader, 100_000) == expected.read_bytes()
    os.close(reader)
    assert path.is_fifo()
    assert names(tmp_path) == ["expected", "pipe"]


def device(folder: Path, name: str, number: int) -> Path:
    """One like /dev/NAME, which itself root's tests could replace."""
    path = folder / name
    if os.geteuid() != 0:
        path.symlink_to(f"/dev/{name}")
        return path
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, number))
        path.open("rb").close()
    except OSError as error:
        pytest.skip(f"no devices here: {error}")
    return path


@linux
def test_a_device_is_written_to_and_stays_a_device(tmp_path: Path) -> None:
    null = device(tmp_path, "null", 3)
    write_file(null, b"data")
    assert null.is_char_device()
    assert null.read_bytes() == b""
    assert names(tmp_path) == ["null"]


@linux
def test_a_device_that_takes_no_more_is_an_error(tmp_path: Path) -> None:
    full = device(tmp_path, "full", 7)
    with pytest.raises(OSError, match=f"No space left on device: '{full}'"):
        write_file(full, b"data")


@linux
def test_output_is_written_to_wherever_it_goes(tmp_path: Path) -> None:
    paths = ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"]
    code = "for path in sys.argv[1:]: write_file(path, path.encode())"
    assert in_a_process(code, *paths).stdout == "".join(paths)
    out = tmp_path / "out"
    with out.open("w+") as file:
        (tmp_path / "link").symlink_to(f"/dev/fd/{file.fileno()}")
        for path in (f"/dev/fd/{file.fileno()}", f"/proc/self/fd/{file.fileno()}", tmp_path / "link"):
            write_file(path, b"data")
            # The file that is open, and not another of its name.
            file.seek(0)
            assert file.read() == "data"
            assert os.fstat(file.fileno()).st_ino == out.stat().st_ino
            file.truncate(0)


def load_onnx(path: Path) -> Any:
    pytest.importorskip("onnx")
    return fc.from_onnx(path)


def load_keras(path: Path) -> Any:
    pytest.importorskip("h5py")
    return fc.from_keras(path)


def load_safetensors(path: Path) -> Any:
    return fc.load(path)


def load_state_dict(path: Path) -> Any:
    if path.suffix == ".pt":
        pytest.importorskip("torch")
    return fc.LSTM.from_state_dict(path)


every_reader = pytest.mark.parametrize(
    ("read", "suffix"),
    [
        (load_safetensors, ".safetensors"),
        (load_state_dict, ".safetensors"),
        (load_state_dict, ".pt"),
        (load_onnx, ".onnx"),
        (load_keras, ".keras"),
        (load_keras, ".h5"),
    ],
)


@posix
@every_reader
def test_pipes_and_devices_are_refused_and_not_read(read: Callable[[Path], Any], suffix: str, tmp_path: Path) -> None:
    # Without the refusal this one ends, and the other need not.
    path = tmp_path / f"device{suffix}"
    path.symlink_to("/dev/null")
    for _ in range(2):
        with pytest.raises(ValueError, match=f"^{path}: expected a regular file, got a pipe, a device or a socket"):
            read(path)
        path.unlink()
        os.mkfifo(path)


@every_reader
def test_folders_and_files_that_are_not_there_are_named(
    read: Callable[[Path], Any], suffix: str, tmp_path: Path
) -> None:
    folder = tmp_path / f"folder{suffix}"
    folder.mkdir()
    for path, errors in ((folder, (IsADirectoryError, ValueError)), (tmp_path / f"nothing{suffix}", FileNotFoundError)):
        with pytest.raises(errors, match=re.escape(path.name)):
            read(path)


@linux
@pytest.mark.parametrize("path", ["/dev/zero", "/dev/full", "/dev/random", "/dev/tty"])
def test_what_has_no_end_is_no_file(path: str) -> None:
    with pytest.raises(ValueError, match=f"^{path}: expected a regular file"):
        open_file(Path(path))


@posix
def test_a_file_may_come_by_way_of_standard_input(tmp_path: Path) -> None:
    path = tmp_path / "layer.safetensors"
    fc.save(rnn(8), path)
    with path.open("rb") as file:
        assert in_a_process("print(fc.load('/dev/stdin').hidden_size)", stdin=file).stdout == "8\n"
