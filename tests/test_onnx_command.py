"""`fusedcell inspect` and `fusedcell convert`."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("safetensors", minversion="0.8")

import onnx

import fusedcell as fc
from fusedcell.__main__ import main
from models import KIND, uniform
from onnx_models import NodeCase, arrays_for, model_of

Capture = pytest.CaptureFixture[str]


def save_two_nodes(path: Path, second: str = "good", **attributes: object) -> None:
    case = NodeCase("LSTM", arrays_for("LSTM"), {"direction": "reverse", "clip": 0.5})
    nodes = [case.node(), case.node(**attributes)]
    nodes[0].output[:], nodes[0].name, nodes[1].name = ["a", "b", "c"], "first", second
    onnx.save(model_of(nodes, case), path)


def test_inspect_lists_every_node(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "model.onnx"
    save_two_nodes(path, clip=1.0)
    assert main(["inspect", str(path)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for text in (
        "0  LSTM node 'first'",
        "1  LSTM node 'good'",
        "LSTM, operator set 22",
        "graph",
        "3 → 5",
        "reverse",
        "clip=0.5, peepholes=True",
        "clip=1, peepholes=True",
        "float32 from initializer 'W'",
        "as fusedcell.LSTM",
    ):
        assert text in out
    assert "cannot be loaded" not in out


def test_inspect_names_inputs_outputs_and_the_order_of_axes(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "model.onnx"
    case = NodeCase("GRU", arrays_for("GRU", absent=("sequence_lens", "initial_h", "B")))
    first, second = case.node(), case.node(layout=1)
    first.input[0], first.output[:], second.output[:] = "turned", ["", "last"], ["all"]
    turn = onnx.helper.make_node("Transpose", ["X"], ["turned"], perm=[1, 0, 2])
    onnx.save(model_of([turn, first, second], case), path)
    assert main(["inspect", str(path)]) == 0
    lines = [line.split(maxsplit=2)[1:] for line in capsys.readouterr().out.splitlines() if line[0] in "├└"]
    values = [" ".join(words) for words in lines]
    for text in (
        "inputs X=turned, W=W, R=R",
        "outputs Y_h=last",
        "axes of X steps, batch, inputs; the model makes it by Transpose of X",
        "inputs X=X, W=W, R=R",
        "outputs Y=all",
        "axes of X batch, steps, inputs",
    ):
        assert text in [" ".join(value.split()) for value in values]


def test_inspect_says_what_comes_with_the_call(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "model.onnx"
    case = NodeCase("GRU", arrays_for("GRU", absent=("sequence_lens", "B")))
    node = case.node()
    node.input[5] = "made"
    made = onnx.helper.make_node("Exp", ["initial_h"], ["made"])
    onnx.save(model_of([made, node], case), path)
    assert main(["inspect", str(path)]) == 0
    assert "initial_h: not fixed in the file, so a call takes it beside x" in capsys.readouterr().out


def save_drawn_state(path: Path) -> None:
    """A state that no reader can know: it is drawn when the model runs."""
    case = NodeCase("GRU", arrays_for("GRU", absent=("sequence_lens",)))
    node = onnx.helper.make_node("RandomNormal", [], ["initial_h"], shape=[1, 2, 5])
    onnx.save(model_of([node, case.node()], case, initializers=[case.tensor(role) for role in ("W", "R", "B")]), path)


def test_what_is_ignored_is_said(tmp_path: Path, capsys: Capture) -> None:
    path, ours = tmp_path / "model.onnx", tmp_path / "layer.safetensors"
    save_drawn_state(path)
    assert main(["inspect", str(path)]) == 1
    assert "ignore=('initial_state',) takes a state of zeros instead" in capsys.readouterr().out
    assert main(["inspect", str(path), "--ignore", "initial_state"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "ignored input initial_h: it comes from RandomNormal node 'initial_h'" in out
    assert "taken instead: a state of zeros" in out
    assert main(["convert", str(path), str(ours)]) == 1
    capsys.readouterr()
    assert main(["convert", str(path), str(ours), "--ignore", "initial_state"]) == 0
    err = capsys.readouterr().err
    assert err.startswith("fusedcell: GRU node 'recurrent': ignored: input initial_h: ")
    assert err.endswith(": a state of zeros\n")


def test_inspect_tells_what_cannot_be_loaded_and_why(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "model.onnx"
    save_two_nodes(path, clip=-1.0)
    assert main(["inspect", str(path)]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert "no: LSTM node 'good': clip=-1.0 is not supported; supported: a positive number" in out
    assert "1 of 2 cannot be loaded" in out


def test_inspect_of_a_model_without_recurrent_nodes(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(model_of([], NodeCase("RNN", arrays_for("RNN"))), path)
    assert main(["inspect", str(path)]) == 1
    assert "there is no recurrent node" in capsys.readouterr().out


def test_inspect_of_a_file_of_ours(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "layer.safetensors"
    kind = KIND["gru_reset_before"]
    fc.save(kind.make(kind.weights(9, 17), dtype="int8", batch_first=True), path)
    assert main(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    for text in (
        "GRU(9, 17, reset_after=False, batch_first=True, dtype='int8'",
        "gru_reset_before",
        "51 x 9 int8",
        "51 x 17 int8",
        "51 float32",
    ):
        assert text in out


def test_names_from_a_file_do_not_steer_the_terminal(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "model.onnx"
    save_two_nodes(path, "\x1b[2Jnaïve\n0  fake")
    assert main(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\n0  fake" not in out
    assert "naïve" in out


def test_output_that_knows_few_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.onnx"
    save_two_nodes(path)
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["inspect", str(path)]) == 0
    stream.flush()
    assert b"3 ? 5" in stream.buffer.getvalue()


@pytest.mark.parametrize("name", ["model.onnx", "layer.safetensors"])
def test_files_that_are_broken_or_missing(name: str, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / name
    assert main(["inspect", str(path)]) == 2
    path.write_bytes(b"something else")
    assert main(["inspect", str(path)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "No such file" in err
    assert f"{path}: not a" in err
    assert "Traceback" not in err


def test_convert_there_and_back(tmp_path: Path, capsys: Capture) -> None:
    source, ours, back = tmp_path / "a.onnx", tmp_path / "b.safetensors", tmp_path / "c.onnx"
    save_two_nodes(source, clip=1.0)
    for node in ("good", "1"):
        assert main(["convert", str(source), str(ours), "--node", node]) == 0
        assert capsys.readouterr().out.startswith(f"{ours}: LSTM(3, 5, ")
        x = uniform(1, 4, 3)
        expected = fc.from_onnx(source, "good")(x)[0]
        np.testing.assert_array_equal(fc.load(ours)(x)[0], expected)
    assert main(["convert", str(ours), str(back)]) == 0
    np.testing.assert_array_equal(fc.from_onnx(back)(x)[0], expected)


def test_convert_rounds_to_a_dtype(tmp_path: Path) -> None:
    source, ours, back = tmp_path / "a.onnx", tmp_path / "b.safetensors", tmp_path / "c.onnx"
    onnx.save(NodeCase("GRU", arrays_for("GRU")).model(), source)
    assert main(["convert", str(source), str(ours), "--dtype", "int8"]) == 0
    assert fc.load(ours).dtype == "int8"
    fc.save(fc.from_onnx(source), ours)
    assert main(["convert", str(ours), str(back), "--dtype", "bfloat16"]) == 0
    bits = np.concatenate([a.ravel() for a in fc.from_onnx(back)._stack.arrays()[0].values() if a.ndim == 2]).view("u4")
    assert not (bits & 0xFFFF).any()


def test_what_cannot_be_converted_leaves_no_file(tmp_path: Path, capsys: Capture) -> None:
    model, ours, cell = tmp_path / "a.onnx", tmp_path / "b.safetensors", tmp_path / "cell.safetensors"
    save_two_nodes(model)
    fc.save(fc.RNNCell(np.ones((1, 1)), np.ones((1, 1))), cell)
    out = tmp_path / "out.onnx"
    for arguments, message in (
        ([str(model), str(ours)], "there are 2 recurrent nodes; name one of them: "),
        ([str(model), str(ours), "--node", "9"], "node: expected an index from 0 to 1, got 9"),
        ([str(model), str(model.with_suffix(".pt"))], "expected to write a file ending in .safetensors or .onnx, got"),
        ([str(model), str(model)], "expected another file to write than 'a.onnx', which is read"),
        ([str(cell), str(out)], "holds a RNNCell; only layers become ONNX models"),
        ([str(cell), str(out), "--node", "0"], "holds one layer, so there is nothing to choose"),
    ):
        assert main(["convert", *arguments]) == 1
        assert message in capsys.readouterr().err
    assert not ours.exists()
    assert not out.exists()
    assert main(["convert", str(model), str(ours), "--dtype", "int4"]) == 2
