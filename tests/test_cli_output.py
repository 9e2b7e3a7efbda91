"""The command line wherever its output goes: closed, full, no longer read; and where there is but a refusal to say."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedcell as fc
from fusedcell.__main__ import main
from fusedcell.bench import command
from fusedcell.bench.machine import own_cpus
from fusedcell.bench.options import STDOUT, SUBCOMMANDS, writable

PROGRAM = [sys.executable, "-m", "fusedcell"]
TINY = ["bench", "--quick", "--sizes", "8", "--cells", "rnn", "--isa", "scalar", "--no-peers", "--steps", "3"]
FULL = "fusedcell: [Errno 28] No space left on device"

posix = pytest.mark.skipif(os.name != "posix", reason="this system closes files in other ways")


@contextmanager
def output(kind: str) -> Iterator[int | None]:
    """What a process gets as its output, to which nothing can be written."""
    if kind == "closed":
        yield None
        return
    if kind == "full":
        descriptor = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, descriptor = os.pipe()
        os.close(reader)
    yield descriptor
    os.close(descriptor)


def run(
    arguments: list[str], stdout: str = "", stderr: str = "", *, stdin: str = "", buffered: bool = True, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Runs the command with these streams "closed", "full" or "unread", and captures the others."""
    closed = [fd for fd, kind in enumerate((stdin, stdout, stderr)) if kind == "closed"]

    def close() -> None:
        for fd in closed:
            os.close(fd)

    env = {name: text for name, text in os.environ.items() if name != "PYTHONUNBUFFERED"}
    env |= command.ONE_THREAD | options.pop("env", {})  # so that bench need not start anew
    with output(stdout) if stdout else capture() as out, output(stderr) if stderr else capture() as err:
        return subprocess.run(
            [*PROGRAM, *arguments],
            stdout=out,
            stderr=err,
            text=True,
            env=env if buffered else env | {"PYTHONUNBUFFERED": "1"},
            preexec_fn=close if closed else None,
            timeout=300,
            **options,
        )


@contextmanager
def capture() -> Iterator[int]:
    yield subprocess.PIPE


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    path = tmp_path / "layer.safetensors"
    fc.save(fc.RNN.from_state_dict({"weight_ih_l0": np.ones((1, 1)), "weight_hh_l0": np.ones((1, 1))}), path)
    return path


COMMANDS = pytest.mark.parametrize(
    "arguments", [["info"], ["--help"], ["bench", "report", "--help"], ["inspect", "LAYER"], TINY], ids=" ".join
)


@posix
@COMMANDS
@pytest.mark.parametrize(("kind", "status", "said"), [("closed", 0, ""), ("full", 2, f"{FULL}\n"), ("unread", 141, "")])
def test_output_that_nobody_gets(kind: str, status: int, said: str, arguments: list[str], layer: Path) -> None:
    """Closed is as good as /dev/null; a reader that has gone is one who has had enough, and a full disk an error."""
    done = run([str(layer) if argument == "LAYER" else argument for argument in arguments], stdout=kind)
    assert (done.returncode, done.stderr) == (status, said)


@posix
@pytest.mark.parametrize("kind", ["full", "unread"])
def test_output_without_a_buffer(kind: str) -> None:
    for arguments in (["info"], ["--help"]):
        done = run(arguments, stdout=kind, buffered=False)
        assert (done.returncode, done.stderr) == ((2, f"{FULL}\n") if kind == "full" else (141, ""))


@posix
@pytest.mark.parametrize("kind", ["closed", "full"])
@pytest.mark.parametrize("arguments", [["inspect", "no such file.onnx"], ["measure"], ["bench", "--fast"]])
def test_refusals_that_nobody_gets(kind: str, arguments: list[str]) -> None:
    pytest.importorskip("onnx")
    done = run(arguments, stderr=kind)
    assert (done.returncode, done.stdout) == (2, "")


@posix
def test_all_is_closed() -> None:
    bench_starts_anew = {"OMP_NUM_THREADS": "2"}
    for arguments, status in ((["info"], 0), (["measure"], 2), (TINY, 0)):
        done = run(arguments, stdin="closed", stdout="closed", stderr="closed", env=bench_starts_anew)
        assert done.returncode == status


@posix
@pytest.mark.parametrize(("kind", "status"), [("closed", 0), ("unread", 141), ("full", 2)])
def test_what_was_converted_is_there_though_nobody_hears_of_it(kind: str, status: int, layer: Path) -> None:
    pytest.importorskip("onnx")
    out = layer.with_name("layer.onnx")
    done = run(["convert", str(layer), str(out)], stdin="closed", stdout=kind)
    assert done.returncode == status
    assert "Traceback" not in done.stderr
    assert fc.from_onnx(out).hidden_size == 1


@posix
@pytest.mark.parametrize(("kind", "status"), [("unread", 141), ("full", 2)])
def test_files_of_the_bench_are_written_though_nobody_reads_its_tables(kind: str, status: int, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    files = {"--json": "results.json", "--html": "page.html", "--plot": "bars.svg", "--plot-us": "lines.svg"}
    done = run([*TINY, *(text for pair in files.items() for text in pair)], stdout=kind, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (status, FULL + "\n" if kind == "full" else "")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted(files.values())
    # Results that nobody reads keep no page from being written.
    done = run([*TINY, "--json", "-", "--html", "other.html"], stdout=kind, cwd=tmp_path)
    assert done.returncode == status
    assert (tmp_path / "other.html").is_file()


@posix
@pytest.mark.parametrize("of_group", [True, False])
def test_control_c_is_status_130_and_no_traceback(of_group: bool) -> None:
    arguments = ["bench", "--sizes", "1024", "--cells", "lstm", "--isa", "scalar", "--no-peers"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*PROGRAM, *arguments], start_new_session=True, **pipes) as process:
        assert process.stdout is not None
        process.stdout.readline()  # a process of its own measures by now
        (os.killpg if of_group else os.kill)(process.pid, signal.SIGINT)
        assert process.communicate(timeout=300)[1] == ""
    assert process.returncode == 130


# What --json - writes


@pytest.mark.parametrize("arguments", [[], ["many"], ["report"]])
def test_results_on_standard_output_are_alone_there(arguments: list[str], tmp_path: Path) -> None:
    noise = "print('noise', flush=True); os.write(1, b'noise')"
    code = (
        "import os, sys; from fusedcell.bench import command; from fusedcell.__main__ import main\n"
        f"command.measure_study = lambda *_: exec({noise!r}) or command.Findings()\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "bench", *arguments, "--json", "-", "--no-peers"],
        env=os.environ | command.ONE_THREAD,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["options"]["study"] == (arguments[0] if arguments else None)
    assert done.stderr.count("noise") >= 2
    assert "Times are medians in microseconds" in done.stderr
    assert list(tmp_path.iterdir()) == []


@posix
def test_results_come_on_standard_output_and_tables_beside_them(tmp_path: Path) -> None:
    done = run([*TINY, "--json", "-"], cwd=tmp_path)
    assert done.returncode == 0
    assert {(result["cell"], result["size"]) for result in json.loads(done.stdout)["results"]} == {("rnn", 8)}
    assert "One step, batch 1, float32" in done.stderr
    assert list(tmp_path.iterdir()) == []
    for kind, status in (("unread", 141), ("full", 2)):
        done = run([*TINY, "--json", "-"], stdout=kind)
        assert done.returncode == status
        assert "Traceback" not in done.stderr


@posix
def test_a_name_that_output_cannot_show_is_escaped(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff\xc3\xa9.json")
    arguments = ["report", "--sizes", "8", "--cells", "gru", "--isa", "scalar", "--no-peers", "--json", name]
    done = run(["bench", *arguments], cwd=tmp_path, env={"PYTHONIOENCODING": "ascii"})
    assert "\\udcff\\xe9.json: times, board, CPU" in done.stdout.splitlines()[-1]
    assert (done.returncode, done.stderr) == (0, "")
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


# What is listed, and what is refused

OPTIONS = {
    "--cells": "lstm",
    "--sizes": "64",
    "--dtype": "int8",
    "--isa": "scalar",
    "--quick": None,
    "--no-peers": None,
    "--repeats": "2",
    "--json": "-",
    "--plot": "figure.png",
    "--plot-us": "figure.svg",
    "--html": "page.html",
    "--details": None,
    "--inputs": "5",
    "--steps": "5",
    "--steps-tail": "100",
    "--batches": "2",
    "--streams": "2",
    "--threads": "1",
    "--state": "h=h_n",
    "--force": None,
    "--fail-slower": "5",
}


@pytest.mark.parametrize("study", ["", *SUBCOMMANDS])
def test_help_lists_the_options_that_are_taken_and_no_others(
    study: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fusedcell.bench.command.run", lambda options, arguments: 0)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    options = OPTIONS | ({"--cpu": str(own_cpus()[0])} if own_cpus() else {})
    file = tmp_path / "results.json"
    file.touch()
    command = ["bench", *([study] if study else []), *[str(file)] * {"compare": 2, "model": 1}.get(study, 0)]
    assert main(["bench", *([study] if study else []), "--help"]) == 0
    listed = set(re.findall(r"^  (--[a-z-]+)", capsys.readouterr().out, re.MULTILINE)) - {"--cpu"}
    taken = {
        name for name, value in options.items() if main([*command, *([name] if value is None else [name, value])]) == 0
    }
    assert taken - {"--cpu"} == listed


REFUSED = """

measure
info --fast
info more
inspect
inspect FOLDER
inspect FOLDER/nothing.onnx
inspect FOLDER/nothing.safetensors
inspect FOLDER/folder.onnx
inspect FOLDER/folder.safetensors
inspect FOLDER/text.onnx
inspect FOLDER/text.safetensors
inspect FOLDER/text.onnx more
inspect FOLDER/secret.onnx
inspect FOLDER/secret.safetensors
convert
convert FOLDER/nothing.onnx
convert FOLDER/nothing.onnx FOLDER/out.safetensors
convert FOLDER/nothing.safetensors FOLDER/out.onnx
convert FOLDER/folder.safetensors FOLDER/out.onnx
convert FOLDER/secret.safetensors FOLDER/out.onnx
convert FOLDER/text.onnx FOLDER/out.safetensors
convert FOLDER/layer.safetensors FOLDER/nothing/out.onnx
convert FOLDER/layer.safetensors FOLDER/folder.onnx
convert FOLDER/layer.safetensors FOLDER/out.onnx --dtype int4
convert FOLDER/layer.safetensors FOLDER/out.onnx --fast
bench --fast
bench measure
bench --json FOLDER
bench --json FOLDER/nothing/out.json
bench step --sizes
bench step --steps 5
bench report --dtype int8
bench compare
bench compare FOLDER/nothing.json FOLDER/text.onnx
bench compare FOLDER FOLDER
bench compare FOLDER/text.onnx FOLDER/text.onnx
bench compare FOLDER/secret.onnx FOLDER/secret.onnx
bench model
bench model FOLDER/nothing.safetensors
bench model FOLDER/text.safetensors --no-peers
bench model FOLDER/text.npy
run
run FOLDER/layer.safetensors
run FOLDER/layer.safetensors FOLDER/nothing.npy FOLDER/out.npy
run FOLDER/layer.safetensors FOLDER/text.onnx FOLDER/out.npy
run FOLDER/nothing.safetensors FOLDER/nothing.npy FOLDER/out.npy
run FOLDER/text.safetensors FOLDER/nothing.wav FOLDER/out.wav
""".splitlines()[1:]


@pytest.mark.parametrize("line", REFUSED)
def test_a_refusal_is_one_line_and_changes_nothing(line: str, layer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnx")
    folder = layer.parent
    for suffix in ("onnx", "safetensors"):
        (folder / f"folder.{suffix}").mkdir()
        (folder / f"text.{suffix}").write_bytes(b"\xff neither")
        (folder / f"secret.{suffix}").write_bytes(b"\xff nor")
        (folder / f"secret.{suffix}").chmod(0)

    def content() -> dict[str, tuple[int, int, int]]:
        found = {path.name: path.stat() for path in folder.iterdir()}
        return {name: (each.st_mode, each.st_size, each.st_mtime_ns) for name, each in found.items()}

    before = content()
    assert main(line.replace("FOLDER", str(folder)).split()) in (1, 2)
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"fusedcell.*\n", err)
    assert content() == before


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "there is not enough memory"),
        (MemoryError("Unable to allocate 8 TiB"), "Unable to allocate 8 TiB"),
    ],
)
def test_what_no_memory_holds_is_a_refusal(
    error: MemoryError, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> int:
        raise error

    monkeypatch.setattr("fusedcell.__main__.commands.run", fail)
    assert main(["inspect", "file"]) == 2
    assert capsys.readouterr() == ("", f"fusedcell: {said}\n")


def test_a_file_called_minus_can_still_be_asked_for() -> None:
    assert writable("-") == STDOUT
    assert writable("./-") == Path("-")
