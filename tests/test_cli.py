"""The command line but for `bench`, and what is refused before anything runs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import fusedcell as fc
from fusedcell.__main__ import main


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    printed = capsys.readouterr().out
    for isa in fc.isas():
        assert isa in printed
    assert main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == fc.runtime_info()


def test_info_fits_a_terminal_of_100_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    words = " ".join(lines).replace(",", "").split()
    assert {*fc.runtime_info()["kernels"]} <= {*words}


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect", "nope"],
        ["convert", "nope", "out.onnx"],
        ["quantize", "nope", "out.safetensors", "--data", "x.npy"],
        ["run", "nope", "in.npy", "out.npy"],
        ["run", "model.onnx", "nope", "out.npy"],
        ["bench", "model", "nope"],
    ],
)
def test_a_file_that_is_not_there_is_said_not_to_be_there(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err == "fusedcell: [Errno 2] No such file or directory: 'nope'\n"


@pytest.mark.parametrize("arguments", [["info"], ["--help"]])
def test_the_bench_is_imported_by_its_own_command_alone(arguments: list[str]) -> None:
    code = (
        "import sys; from fusedcell.__main__ import main; main(sys.argv[1:])\n"
        "assert not {'fusedcell.bench.command', 'fusedcell.bench.options'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "command"),
        (["measure"], "'measure'"),
        (["bench", "guess"], "invalid choice: 'guess'"),
        (["bench", "--fast"], "--fast"),
        (["bench", "--cells", "lstm,transformer"], "'transformer' is not a cell; there are: lstm, gru"),
        (["bench", "--sizes", "16,none"], "'none' is not a whole number from 1 to 8192"),
        (["bench", "--sizes", "0"], "'0' is not a whole number from 1 to 8192"),
        (["bench", "--sizes", ""], "'' is not a whole number"),
        (["bench", "--isa", "sse9"], "'sse9' is not a tier that this machine runs; there are: "),
        (["bench", "--dtype", "int4"], "'int4' is not a dtype; there are: float32, bfloat16, float16, int8"),
        (["bench", "--dtype", "int8,float32"], "'int8,float32' is not a dtype"),
        (["bench", "--json", "no such folder/results.json"], "is not a file in a folder that exists"),
        (["bench", "--json", "."], "is not a file in a folder that exists"),
        (["bench", "sequence", "--steps", "0"], "'0' is not a whole number from 1 to 100000"),
        (["bench", "step", "--steps", "5"], "--steps"),
        (["bench", "--steps", "5", "step"], "--steps: bench step does not have it"),
        (["bench", "step", "--steps-tail", "99"], "'99' is not a whole number from 100 to 10000000"),
        (["bench", "sequence", "--steps-tail", "1000"], "--steps-tail"),
        (["bench", "step", "--repeats", "0"], "'0' is not a whole number from 1 to 100"),
        (["bench", "--repeats", "3", "compare", "a", "b"], "--repeats: bench compare does not have it"),
        (["bench", "--quick", "report"], "--quick: bench report does not have it"),
        (["bench", "report", "--dtype", "int8"], "--dtype"),
        (["bench", "batch", "--batches", "1,0"], "'0' is not a whole number from 1 to 1024"),
        (["bench", "many", "--streams", "1"], "'1' is not a whole number from 2 to 1024"),
        (["bench", "--plot-us", "figure.png", "many"], "--plot-us: bench many does not have it"),
        (["bench", "threads", "--threads", "two"], "'two' is not a whole number from 1 to 1024"),
        (["bench", "step", "--plot", "figure.pdf"], "'figure.pdf' ends neither in .png nor in .svg"),
        (["bench", "step", "--plot", "no such folder/figure.png"], "is not a file in a folder that exists"),
    ],
)
def test_bad_options_are_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("--fast info", "fusedcell"),
        ("info --fast", "fusedcell info"),
        ("run model.onnx in.npy out.npy more", "fusedcell run"),
        ("bench --fast step", "fusedcell bench"),
        ("bench report --quick", "fusedcell bench report"),
        ("bench --quick report", "fusedcell bench report"),
        ("bench --sizes 100 train", "fusedcell bench train"),
        ("bench step --sizes 0", "fusedcell bench step"),
    ],
)
def test_a_refusal_names_the_help_of_its_subcommand(
    line: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line.split()) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"{command}: ")
    assert err.endswith(f"; see {command} --help\n")


@pytest.mark.parametrize("arguments", [["info"], ["info", "--json"], ["bench", "--quick"]])
def test_an_unknown_tier_in_the_environment_is_refused(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FUSEDCELL_ISA", "sse9")
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("fusedcell: FUSEDCELL_ISA")
    assert len(err.splitlines()) == 1
