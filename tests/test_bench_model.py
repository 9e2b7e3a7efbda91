"""`fusedcell bench model`: what is timed is the model, node by node, and other libraries' answers are right first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedcell as fc
from fusedcell import nodes
from fusedcell.__main__ import main
from fusedcell.bench import command, whole
from fusedcell.bench.results import Result
from models import KIND, uniform

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in command.ONE_THREAD.items():
        monkeypatch.setenv(name, value)


def branched(**options: Any) -> fc.Model:
    return fc.Model([
        ("conv", fc.Window(uniform(1, 6, 12), taps=3, stride=2, padding=(2, 0)), "x"),
        ("gru", KIND["gru_reset_after"].make(KIND["gru_reset_after"].weights(6, 8)), "conv"),
        ("skip", fc.Dense(uniform(2, 8, 6)), "conv"),
        ("sum", nodes.Add(), ("gru", "skip")),
        ("head", fc.Dense(uniform(3, 5, 8), activation="softmax"), "sum"),
    ], **options)  # fmt: skip


def test_cuts_have_every_node_up_to_one_and_answer_as_the_model_does() -> None:
    model, x = branched(outputs=("gru", "head")), uniform(5, 20, 1, 4)
    cuts = whole._cuts(model)
    assert [names for names, _ in cuts] == [["conv"], ["gru"], ["skip"], ["sum"], ["head"]]
    assert [cut.outputs for _, cut in cuts] == [("conv",), ("gru",), ("gru", "skip"), ("sum",), ("gru", "head")]
    for ours, theirs in zip(cuts[-1][1](x), model(x), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_model_of_many_nodes_is_cut_so_many_times() -> None:
    steps: list[Any] = [("n0", nodes.Activation("tanh"), "x")]
    steps += [(f"n{place}", nodes.Activation("tanh"), f"n{place - 1}") for place in range(1, 130)]
    cuts = whole._cuts(fc.Model(steps, {"x": 3}))
    assert len(cuts) == 48
    assert [name for names, _ in cuts for name in names] == [f"n{place}" for place in range(130)]


def test_shares_are_differences_round_by_round() -> None:
    rounds = {"fusedcell": [[5.0, 9.0, 7.0]], "to a": [[1.0, 2.0, 3.0]], "to b": [[3.0, 8.0, 5.0]]}
    result = Result(
        "step", "m", 4, 1, 1, "scalar", list(rounds), dict.fromkeys(rounds, "float32"), rounds, forms={"fusedcell": "c"}
    )
    assert whole.shares(result) == [("a", 2.0), ("b", 2.0), ("c", 2.0)]
    (text,) = whole.tables([result])
    assert "m, one step, float32" in text
    assert [line.split() for line in text.splitlines()[-4:]] == [
        ["a", "2.00", "28.6"], ["b", "2.00", "28.6"], ["c", "2.00", "28.6"], ["all", "7.00", "100.0"],
    ]  # fmt: skip


@pytest.mark.parametrize("streams", [True, False])
def test_every_node_has_a_row_and_a_file_has_the_rounds(streams: bool, tmp_path: Path, capsys: Capture) -> None:
    model = branched()
    if not streams:
        model = fc.Model([*model.nodes, ("mean", nodes.Mean(), "head")], batch_first=True)
    path, results = tmp_path / "m.safetensors", tmp_path / "r.json"
    fc.save(model.astype("int8"), path)
    arguments = ["bench", "model", str(path), "--quick", "--no-peers", "--steps", "6", "--json", str(results)]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    names = ["conv", "gru", "skip", "sum", "head.linear", "head"] + ["mean"] * (not streams)
    assert f"m.safetensors, {'one step' if streams else 'a sequence of 6 steps'}, int8: us" in out
    lines = out.splitlines()
    begin = next(place for place, line in enumerate(lines) if line.split() == ["node", "us", "%"])
    assert [line.split()[0] for line in lines[begin + 1 : begin + 2 + len(names)]] == [*names, "all"]
    (found,) = json.loads(results.read_text())["results"]
    assert found["own"] == ["fusedcell", *(f"to {name}" for name in names[:-1])]
    assert found["kind"] == ("step" if streams else "sequence")
    assert all(found["medians"][name][0] > 0 for name in found["own"])


def test_a_picture_has_a_bar_for_each_node(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    path, figure = tmp_path / "m.safetensors", tmp_path / "figure.svg"
    fc.save(branched(), path)
    assert main(["bench", "model", str(path), "--quick", "--no-peers", "--plot", str(figure)]) == 0
    assert capsys.readouterr().out.endswith(f"The figure is {figure}.\n")
    text = figure.read_text()
    for name in ("conv", "gru", "skip", "sum", "head"):
        assert f"<!-- {name} -->" in text


def onnx_of(model: fc.Model, path: Path, wrong: float = 0.0) -> None:
    """A model of one Dense node, by hand."""
    onnx = pytest.importorskip("onnx")
    (_, dense, _) = model.nodes[0]
    helper, arrays = onnx.helper, onnx.numpy_helper
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", 1, ["T", "B", 3])],
        [helper.make_tensor_value_info("y", 1, ["T", "B", 2])],
        [arrays.from_array(np.ascontiguousarray(dense.weight.T) + np.float32(wrong), "w")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 8
    onnx.save(made, path)


@pytest.mark.parametrize("wrong", [0.0, 0.5])
def test_onnx_runtime_runs_the_file_and_is_timed_if_it_is_right(
    wrong: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    pytest.importorskip("onnxruntime")
    model = fc.Model([("y", fc.Dense(uniform(1, 2, 3)), "x")])
    onnx_of(model, tmp_path / "m.onnx", wrong)
    monkeypatch.setattr(fc.Model, "from_onnx", lambda path, states, isa=None: model)
    assert main(["bench", "model", str(tmp_path / "m.onnx"), "--quick", "--steps", "9"]) == 0
    out = capsys.readouterr().out
    assert ("times as fast as onnxruntime." in out) is not bool(wrong)
    assert ("onnxruntime, m.onnx, sequence, float32: wrong answer: off by" in out) is bool(wrong)


def test_a_model_that_cannot_be_read_is_one_line(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "m.safetensors").write_bytes(b"\xff neither")
    assert main(["bench", "model", str(tmp_path / "m.safetensors")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
