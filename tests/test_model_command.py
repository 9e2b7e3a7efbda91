"""`fusedcell inspect` and `fusedcell convert` of PyTorch's, safetensors' and Keras's files."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("safetensors", minversion="0.8")

from safetensors.numpy import save_file

import fusedcell as fc
from fusedcell.__main__ import main
from models import KIND, flat, uniform

PROJECTION = fc.LSTM.from_state_dict(KIND["lstm_projected"].weights(3, 4)).proj_size
Capture = pytest.CaptureFixture[str]


def model() -> dict[str, Any]:
    """A state dictionary with a module of each kind, and others beside them."""
    state: dict[str, Any] = {"embed.weight": np.ones((4, 4), np.float32)}
    modules = {
        "a.lstm.": KIND["lstm_projected"].weights(3, 4, layers=2, directions=2),
        "dec.gru.": KIND["gru_reset_after"].weights(3, 4),
        "dec.rnn.": KIND["rnn_tanh"].weights(3, 4, layers=2),
        "z.cell.": {name.removesuffix("_l0"): a for name, a in KIND["lstm"].weights(3, 4).items()},
    }
    for prefix, arrays in modules.items():
        state |= {prefix + name: array for name, array in arrays.items()}
    return state


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_file(model(), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def pytorch_file(folder: Path) -> Path:
    torch = pytest.importorskip("torch")
    state = {name: torch.from_numpy(array) for name, array in model().items()}
    torch.save({"state_dict": state, "epoch": 3}, folder / "model.ckpt")
    return folder / "model.ckpt"


def same(actual: Any, expected: Any) -> None:
    assert repr(actual) == repr(expected)
    x = uniform(5, 6, 3) if "Cell" in type(actual).__name__ else uniform(5, 6, 2, 3)
    for a, e in zip(flat(actual(x)), flat(expected(x)), strict=True):
        np.testing.assert_array_equal(a, e)


def listed(path: Path, prefix: str, capsys: Capture) -> None:
    assert main(["inspect", str(path)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.count("loads") == 4
    for text in (
        f"0  '{prefix}a.lstm.'",
        "LSTM, of four gates",
        f"3 → 4 → {PROJECTION}",
        "layers     2",
        "direction  bidirectional",
        f"1  '{prefix}dec.gru.'",
        "GRU, of three gates",
        f"as fusedcell.GRU.from_state_dict(path, '{prefix}dec.gru.')",
        f"2  '{prefix}dec.rnn.'",
        "RNN, of one gate",
        'nonlinearity="tanh" or "relu" and batch_first=True where its module has it, which its names do not say',
        f"3  '{prefix}z.cell.'",
        "LSTMCell, of four gates",
        "as fusedcell.LSTMCell",
        "whole model   no: weights have no order of computation; fusedcell.Model.from_torch(module, example) takes all",
        f"beside these  1 other tensor: {prefix}embed.*",
    ):
        assert text in out


def test_inspect_lists_every_module_of_a_safetensors_file(path: Path, capsys: Capture) -> None:
    listed(path, "", capsys)


def test_inspect_lists_every_module_of_a_checkpoint(tmp_path: Path, capsys: Capture) -> None:
    listed(pytorch_file(tmp_path), "state_dict.", capsys)


def test_inspect_says_what_of_a_module_cannot_be_loaded(tmp_path: Path, capsys: Capture) -> None:
    state = {"0.weight_ih_l0": np.ones((10, 3)), "0.weight_hh_l0": np.ones((10, 4)), **model()}
    state |= {"a.lstm.weight_hh_l0_orig": state.pop("a.lstm.weight_hh_l0")}
    save_file(state, tmp_path / "m.safetensors")
    assert main(["inspect", str(tmp_path / "m.safetensors")]) == 1
    out = capsys.readouterr().out
    assert "no: 0.weight_hh_l0: expected a row for each unit in each gate, four gates of LSTM" in out
    assert "no: mapping: a.lstm.weight_hh_l0 is computed of 'a.lstm.weight_hh_l0_orig'" in out
    assert "2 of 5 cannot be loaded" in out
    save_file({"w": np.ones(3)}, tmp_path / "m.safetensors")
    assert main(["inspect", str(tmp_path / "m.safetensors")]) == 1
    assert "there is no recurrent module" in capsys.readouterr().out


def test_inspect_shows_the_type_of_each_matrix(tmp_path: Path, capsys: Capture) -> None:
    layer = fc.LSTM.from_state_dict(KIND["lstm"].weights(3, 4)).astype({"weight_ih": "float16", "weight_hh": "int8"})
    fc.save(layer, tmp_path / "m.safetensors")
    assert main(["inspect", str(tmp_path / "m.safetensors")]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for text in ("weight_ih_l0 16 x 3 float16", "weight_hh_l0 16 x 4 int8", "weight_hh_scale_l0 16 float32"):
        assert text in out


def test_inspect_of_a_file_of_many_modules_has_an_end(tmp_path: Path, capsys: Capture) -> None:
    weights = KIND["rnn_tanh"].weights(1, 1)
    save_file({f"m{i}.{name}": a for i in range(103) for name, a in weights.items()}, tmp_path / "m.safetensors")
    assert main(["inspect", str(tmp_path / "m.safetensors")]) == 0
    out = capsys.readouterr().out
    assert "the first 100 of 103 recurrent modules" in out
    assert out.count("loads") == 100


CONVERSIONS = {
    ("a.lstm.", "--dtype", "int8"): lambda s: fc.LSTM.from_state_dict(s, "a.lstm.", dtype="int8"),
    ("a.lstm", "--batch-first"): lambda s: fc.LSTM.from_state_dict(s, "a.lstm.", batch_first=True),
    ("0",): lambda s: fc.LSTM.from_state_dict(s, "a.lstm."),
    ("dec.gru",): lambda s: fc.GRU.from_state_dict(s, "dec.gru."),
    ("2", "--nonlinearity", "relu"): lambda s: fc.RNN.from_state_dict(s, "dec.rnn.", nonlinearity="relu"),
    ("dec.rnn.", "--nonlinearity", "tanh"): lambda s: fc.RNN.from_state_dict(s, "dec.rnn."),
    ("z.cell", "--dtype", "bfloat16"): lambda s: fc.LSTMCell(
        **{name.removeprefix("z.cell."): a for name, a in s.items() if name.startswith("z.cell.")}, dtype="bfloat16"
    ),
}


@pytest.mark.parametrize("arguments", CONVERSIONS, ids=" ".join)
def test_convert_takes_a_module_by_its_prefix_or_number(
    arguments: tuple[str, ...], path: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "out.safetensors"
    assert main(["convert", str(path), str(out), "--prefix", *arguments]) == 0
    same(fc.load(out), CONVERSIONS[arguments](model()))
    assert capsys.readouterr().out.startswith(f"{out}: ")


def test_convert_of_a_checkpoint_and_of_the_one_module_there_is(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out.safetensors"
    assert main(["convert", str(pytorch_file(tmp_path)), str(out), "--prefix", "dec.gru."]) == 0
    same(fc.load(out), fc.GRU.from_state_dict(model(), "dec.gru."))
    save_file({f"x.{name}": a for name, a in KIND["lstm"].weights(3, 4).items()}, tmp_path / "one.safetensors")
    capsys.readouterr()
    assert main(["convert", str(tmp_path / "one.safetensors"), str(out)]) == 0
    assert "not taken" not in capsys.readouterr().out
    same(fc.load(out), fc.LSTM.from_state_dict(KIND["lstm"].weights(3, 4)))
    again = tmp_path / "again.safetensors"
    assert main(["convert", str(out), str(again), "--dtype", "float16"]) == 0
    same(fc.load(again), fc.load(out).astype("float16"))


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_what_of_a_whole_model_is_not_taken_is_said(suffix: str, tmp_path: Path, capsys: Capture) -> None:
    state = {"gru." + name: a for name, a in KIND["gru_reset_after"].weights(3, 4).items()}
    rest = [
        "b.w",
        *(f"blocks.{i}.w" for i in range(4)),
        "bn.running_mean",
        "bn.running_var",
        "conv.bias",
        "conv.weight",
    ]
    state |= {name: np.ones(2, np.float32) for name in rest}
    source, out = tmp_path / f"m{suffix}", tmp_path / "out.safetensors"
    if suffix == ".pt":
        torch = pytest.importorskip("torch")
        tensors = {name: torch.from_numpy(array) for name, array in state.items()}
        torch.save({"state_dict": tensors, "epoch": 3, "optimizer": {"param_groups": [{"lr": 0.1}]}}, source)
    else:
        save_file(state, source)
    prefix = "state_dict." if suffix == ".pt" else ""
    modules = [prefix + name for name in ("b.*", *(f"blocks.{i}.*" for i in range(4)), "bn.*")]
    listed = f"9 other tensors: {', '.join(modules)}, ..."
    for options in ([], ["--batch-first"]):
        assert main(["convert", str(source), str(out), *options]) == 0
        first, second, *rest = capsys.readouterr().out.splitlines()
        assert first.startswith(f"{out}: GRU(3, 4")
        assert second == f"not taken: {listed}; fusedcell.Model.from_torch(module, example) takes all of a module"
        assert [line[:15] for line in rest] == ([] if options else ["x is (T, B, I);"])
    assert main(["inspect", str(source)]) == 0
    assert f"beside these  {listed}" in capsys.readouterr().out


def test_convert_of_a_state_dictionary_to_onnx(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    assert main(["convert", str(path), str(tmp_path / "out.onnx"), "--prefix", "dec.gru."]) == 0
    same(fc.from_onnx(tmp_path / "out.onnx"), fc.GRU.from_state_dict(model(), "dec.gru."))


def test_what_cannot_be_converted_leaves_the_files_as_they_were(path: Path, tmp_path: Path, capsys: Capture) -> None:
    out, ours, before = tmp_path / "out.safetensors", tmp_path / "ours.safetensors", path.read_bytes()
    fc.save(fc.GRU.from_state_dict(model(), "dec.gru."), ours)
    (tmp_path / "notes.txt").write_text("no model", encoding="utf-8")
    for arguments, message in (
        (
            [path, out],
            "--prefix: there are 4 recurrent modules, so name one; recurrent weights here: 'a.lstm.', 'dec.gru.'",
        ),
        ([path, out, "--prefix", "decoder."], "no name starts with 'decoder.weight_ih_l0'; recurrent weights here: "),
        ([path, out, "--prefix", "9"], "no name starts with '9.weight_ih_l0'; recurrent weights here: "),
        ([path, out, "--prefix", "dec.rnn."], "--nonlinearity: expected tanh or relu for 'dec.rnn.'"),
        ([path, out, "--prefix", "a.lstm.", "--nonlinearity", "relu"], "--nonlinearity: is for RNNs alone"),
        (
            [path, out, "--prefix", "z.cell", "--batch-first"],
            "--batch-first: is for layers, and 'z.cell.' is a cell",
        ),
        ([path, tmp_path / "out.onnx", "--prefix", "z.cell"], "holds a LSTMCell; only layers become ONNX models"),
        ([path, path, "--prefix", "a.lstm."], "expected another file to write than 'model.safetensors'"),
        (
            [path, tmp_path / "out.pt", "--prefix", "a.lstm."],
            "expected to write a file ending in .safetensors or .onnx",
        ),
        ([ours, out, "--batch-first"], "--batch-first: is for state dictionaries, and 'ours.safetensors' says itself"),
        ([ours, out, "--prefix", "gru."], "holds one layer, so there is nothing to choose"),
        (
            [tmp_path / "notes.txt", out],
            "expected a file ending in .safetensors, .pt, .pth, .ckpt, .bin, .tar, .keras, ",
        ),
    ):
        assert main(["convert", *map(str, arguments)]) == 1
        shown, err = capsys.readouterr()
        assert shown == ""
        assert message in err
        assert len(err.splitlines()) == 1
    assert not out.exists()
    assert not (tmp_path / "out.onnx").exists()
    assert path.read_bytes() == before
    assert main(["inspect", str(tmp_path / "notes.txt")]) == 1
    assert "expected a file ending in .safetensors" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_layers_of_keras_are_listed_and_converted(suffix: str, tmp_path: Path, capsys: Capture) -> None:
    pytest.importorskip("h5py")
    from keras_models import KerasCase, KerasCell, sequential, write_h5, write_keras

    lstm = KerasCase([KerasCell("LSTM", 4)], options={"return_sequences": True})
    both = KerasCase([KerasCell("GRU", 4)], 4, merge_mode="sum")
    items = sequential([lstm.item("encoder"), both.item("decoder")])
    path, arrays = tmp_path / f"m{suffix}", lstm.arrays()[0] + [a for each in both.arrays() for a in each]
    if suffix == ".h5":
        write_h5(path, items, {"encoder": arrays[:1], "decoder": arrays[1:]}, "3.1.0")
    else:
        groups = dict(zip(("forward_layer", "backward_layer"), arrays[1:], strict=True))
        within = {f"layers/bidirectional/{direction}/cell": each for direction, each in groups.items()}
        write_keras(path, items, {"layers/lstm/cell": arrays[0], **within})
    assert main(["inspect", str(path)]) == 1
    out = capsys.readouterr().out
    for text in (
        "0  LSTM layer 'encoder'",
        "3 → 4",
        "batch_first=True",
        "as fusedcell.from_keras(path, 'encoder')",
        "1  Bidirectional layer 'decoder'",
        "no: ",
        "merge_mode='sum' is not supported",
        "1 of 2 cannot be loaded",
    ):
        assert text in out
    ours = tmp_path / "ours.safetensors"
    for which in ("encoder", "0"):
        assert main(["convert", str(path), str(ours), "--layer", which, "--dtype", "float16"]) == 0
        same(fc.load(ours), fc.from_keras(path, "encoder", dtype="float16"))
        ours.unlink()
    capsys.readouterr()
    for arguments, message in (
        ([], "there are 2 recurrent layers"),
        (["--layer", "7"], "no recurrent layers are called '7'"),
        (["--layer", "1"], "merge_mode='sum' is not supported"),
        (["--layer", "encoder", "--batch-first"], "says itself what its layer is"),
    ):
        assert main(["convert", str(path), str(ours), *arguments]) == 1
        assert message in capsys.readouterr().err
    assert not ours.exists()


def whole(*, batch_first: bool = False) -> fc.Model:
    """A window of a stride, a layer, a branch, and a head that is a softmax."""
    gru = fc.GRU.from_state_dict(KIND["gru_reset_after"].weights(6, 8))
    return fc.Model([
        ("conv", fc.Window(uniform(1, 6, 3 * 4), taps=3, stride=2, padding=(2, 0), activation="relu"), "x"),
        ("gru", gru, "conv"),
        ("skip", fc.Dense(uniform(2, 8, 6)), "conv"),
        ("sum", fc.nodes.Add(), ("gru", "skip")),
        ("head", fc.Dense(uniform(3, 5, 8), activation="softmax"), "sum"),
    ], batch_first=batch_first)  # fmt: skip


def test_a_whole_model_is_shown_node_by_node(tmp_path: Path, capsys: Capture) -> None:
    fc.save(whole(), tmp_path / "m.safetensors")
    assert main(["inspect", str(tmp_path / "m.safetensors")]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    products = {"conv": 3 * 4 * 6 / 2, "gru": 3 * 8 * (6 + 8) / 2, "skip": 6 * 8 / 2, "head.linear": 5 * 8 / 2}
    for text in (
        "├─ inputs x (4)",
        "├─ outputs head (5)",
        f"├─ stream hop 2 (2 rows in for one out), delay {whole().delay}",
        f"├─ multiplications {sum(products.values()):.0f} a step",
        f"├─ bytes {whole().nbytes:,}",
        "└─ loads as fusedcell.load(path)",
    ):
        assert text in lines
    for name, count in products.items():
        (line,) = (line.split() for line in lines if line.split()[0] == name)
        assert f"{count:.0f}" in line
    assert any(line.startswith("sum Add gru, skip 8") for line in lines)


def test_why_a_whole_model_has_no_streams_is_shown(tmp_path: Path, capsys: Capture) -> None:
    mean = [("mean", fc.nodes.Mean(), "head"), ("last", fc.Dense(uniform(4, 3, 5)), "mean")]
    fc.save(fc.Model([*whole().nodes, *mean]), tmp_path / "m.safetensors")
    assert main(["inspect", str(tmp_path / "m.safetensors")]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "stream no: mean: an answer of all rows needs the whole sequence" in out
    assert "and 15 at the end" in out
    assert "last Dense mean 3 15 once" in out


def test_a_whole_model_is_rounded_by_convert(tmp_path: Path, capsys: Capture) -> None:
    source, out = tmp_path / "m.safetensors", tmp_path / "out.safetensors"
    fc.save(whole(), source)
    x = uniform(5, 20, 2, 4)
    assert main(["convert", str(source), str(out), "--dtype", "int8"]) == 0
    assert capsys.readouterr().out.startswith(f"{out}: Model(x (4) -> head (5)")
    np.testing.assert_array_equal(fc.load(out)(x), whole().astype("int8")(x))
    assert main(["convert", str(source), str(out)]) == 0
    assert out.read_bytes() == source.read_bytes()
    assert main(["convert", str(source), str(out), "--layer", "gru"]) == 1
    assert "holds a whole model, so there is nothing to choose" in capsys.readouterr().err
    assert out.read_bytes() == source.read_bytes()


def test_nodes_that_are_to_stay_are_kept(tmp_path: Path, capsys: Capture) -> None:
    source, out = tmp_path / "m.safetensors", tmp_path / "out.safetensors"
    fc.save(whole(), source)
    arguments = ["convert", str(source), str(out), "--dtype", "int8", "--keep"]
    for keep in (["head"], ["conv", "gru"]):
        assert main([*arguments, ",".join(keep)]) == 0
        fc.save(whole().astype("int8", keep=keep), tmp_path / "expected.safetensors")
        assert out.read_bytes() == (tmp_path / "expected.safetensors").read_bytes()
    out.unlink()
    fc.save(KIND["lstm"].make(KIND["lstm"].weights(3, 4)), tmp_path / "layer.safetensors")
    save_file(model(), tmp_path / "state.safetensors")
    capsys.readouterr()
    for given, message in (
        ([*arguments, "hed"], "keep: 'hed' is not a node; nodes: conv, gru, skip, sum, head.linear, head"),
        (["convert", str(source), str(out), "--keep", "head"], "--keep: is of what --dtype rounds, which is not given"),
        (["convert", str(tmp_path / "layer.safetensors"), *arguments[2:], "gru"], "what is taken is one LSTM"),
        (["convert", str(tmp_path / "state.safetensors"), *arguments[2:], "a", "--prefix", "z.cell"], "one LSTMCell"),
    ):
        assert main(given) == 1
        shown, err = capsys.readouterr()
        assert (shown, len(err.splitlines())) == ("", 1)
        assert message in err
    assert not out.exists()


class Readers:
    """Stands in for the readers of whole models: what they are given, and what they answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
        self.given: list[tuple[Any, ...]] = []
        for name in ("from_onnx", "from_keras", "from_json"):
            monkeypatch.setattr(fc.Model, name, self.reader(name, answer))

    def reader(self, name: str, answer: Any) -> Any:
        def read(path: Path, *more: Any, isa: str | None = None) -> Any:
            self.given.append((name, path.name, *more))
            if isinstance(answer, Exception):
                raise answer
            return answer

        return read


def onnx_file(folder: Path, recurrent: int, *others: str) -> Path:
    onnx = pytest.importorskip("onnx")
    from onnx_models import NodeCase, arrays_for, model_of

    case = NodeCase("GRU", arrays_for("GRU", absent=("sequence_lens", "initial_h", "B")))
    nodes = [case.node() for _ in range(recurrent)]
    for place, node in enumerate(nodes):
        node.output[:], node.name = [f"y{place}", f"h{place}"], f"gru{place}"
    nodes += [onnx.helper.make_node(kind, ["y0"], [f"o{place}"]) for place, kind in enumerate(others)]
    onnx.save(model_of(nodes, case), folder / "m.onnx")
    return folder / "m.onnx"


def test_files_of_whole_models_are_converted_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readers = Readers(monkeypatch, whole())
    out = tmp_path / "out.safetensors"
    x = uniform(5, 20, 4)
    for name in ("m.nam", "m.json", "m.keras", "m.h5"):
        (tmp_path / name).write_bytes(b"x")
        assert main(["convert", str(tmp_path / name), str(out)]) == 0
        np.testing.assert_array_equal(fc.load(out)(x), whole()(x))
    assert [given[:2] for given in readers.given] == [
        ("from_json", "m.nam"), ("from_json", "m.json"), ("from_keras", "m.keras"), ("from_keras", "m.h5"),
    ]  # fmt: skip
    path = onnx_file(tmp_path, 1, "Sigmoid")
    assert main(["convert", str(path), str(out), "--dtype", "int8", "--state", "h=h_n"]) == 0
    assert readers.given[-1] == ("from_onnx", "m.onnx", {"h": "h_n"})
    np.testing.assert_array_equal(fc.load(out)(x), whole().astype("int8")(x))
    monkeypatch.setattr(fc.Model, "to_onnx", lambda model, target: target.write_bytes(b"onnx"))
    assert main(["convert", str(path), str(tmp_path / "out.onnx")]) == 0
    assert (tmp_path / "out.onnx").read_bytes() == b"onnx"


def test_a_layer_is_taken_alone_by_name_and_where_there_is_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers = Readers(monkeypatch, whole())
    out = tmp_path / "out.safetensors"
    for count, others, options in ((1, (), []), (2, ("Sigmoid",), ["--node", "gru1"]), (1, ("Exp",), ["--layer", "0"])):
        path = onnx_file(tmp_path, count, *others)
        assert main(["convert", str(path), str(out), *options]) == 0
        assert isinstance(fc.load(out), fc.GRU)
    assert readers.given == []


def test_where_the_whole_is_refused_both_ways_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    Readers(monkeypatch, fc.UnsupportedError("node 'top': TopK is not supported; supported: less"))
    out = tmp_path / "out.safetensors"
    assert main(["convert", str(onnx_file(tmp_path, 1, "Sigmoid")), str(out)]) == 1
    err = capsys.readouterr().err
    assert "node 'top': TopK is not supported; supported: less; its one recurrent layer, GRU(3, 5" in err
    assert "is taken alone by --layer 0" in err
    assert main(["convert", str(onnx_file(tmp_path, 2)), str(out)]) == 1
    err = capsys.readouterr().err
    assert "TopK is not supported; supported: less; and no recurrent layer is taken alone: " in err
    assert "there are 2 recurrent nodes; name one of them: 0: GRU node" in err
    assert len(err.splitlines()) == 1
    assert not out.exists()
    path = onnx_file(tmp_path, 1, "Sigmoid")
    assert main(["inspect", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "├─ whole model  no: node 'top': TopK is not supported; supported: less" in shown
    assert "├─ inputs       X (" in shown
    assert "└─ outputs      " in shown
    assert "0  GRU node 'gru0'" in shown
    assert main(["inspect", str(onnx_file(tmp_path, 0, "Sigmoid"))]) == 1
    assert "there is no recurrent node" in capsys.readouterr().out


def test_inspect_shows_the_whole_and_then_its_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    Readers(monkeypatch, whole())
    assert main(["inspect", str(onnx_file(tmp_path, 1, "Sigmoid"))]) == 0
    out = capsys.readouterr().out
    assert "as fusedcell.Model.from_onnx(path)\n" in out
    assert out.index("head.linear") < out.index("0  GRU node 'gru0'")
    assert main(["inspect", str(onnx_file(tmp_path, 0, "Sigmoid"))]) == 0
    (tmp_path / "m.nam").write_bytes(b"{}")
    capsys.readouterr()
    assert main(["inspect", str(tmp_path / "m.onnx"), "--state", "h=hn", "--state", "c=cn"]) == 0
    assert "as fusedcell.Model.from_onnx(path, states={'h': 'hn', 'c': 'cn'})\n" in capsys.readouterr().out
    assert main(["inspect", str(tmp_path / "m.nam")]) == 0
    assert "as fusedcell.Model.from_json(path)" in capsys.readouterr().out


def test_where_the_table_of_an_embedding_is_is_shown(tmp_path: Path, capsys: Capture) -> None:
    gru = fc.GRU.from_state_dict(KIND["gru_reset_after"].weights(6, 8))
    words = fc.Model([("emb", fc.nodes.Embedding(uniform(1, 9, 6)), "x"), ("gru", gru, "emb")])
    fc.save(words, tmp_path / "m.safetensors")
    assert main(["inspect", str(tmp_path / "m.safetensors")]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["emb", "Embedding", "x", "in", "gru"] in lines


@pytest.mark.parametrize("command", ["inspect", "convert", "run"])
def test_what_a_reader_has_to_say_is_one_line(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def read(path: Path, isa: str | None = None) -> fc.Model:
        warnings.warn("layer 'mask': give lengths=", UserWarning, stacklevel=2)
        return whole()

    monkeypatch.setattr(fc.Model, "from_json", read)
    (tmp_path / "m.nam").write_bytes(b"{}")
    np.save(tmp_path / "in.npy", uniform(5, 20, 4))
    more = {"inspect": [], "convert": ["out.safetensors"], "run": ["in.npy", "out.npy"]}[command]
    assert main([command, *(str(tmp_path / name) for name in ["m.nam", *more])]) == 0
    assert capsys.readouterr().err == "fusedcell: layer 'mask': give lengths=\n"


def test_states_are_for_onnx_files(tmp_path: Path, capsys: Capture) -> None:
    fc.save(whole(), tmp_path / "m.safetensors")
    for command in (["inspect"], ["convert"]):
        arguments = [
            *command,
            str(tmp_path / "m.safetensors"),
            *([str(tmp_path / "o.safetensors")] * (command == ["convert"])),
        ]
        assert main([*arguments, "--state", "a=b"]) == 1
        assert "--state: 'm.safetensors' is not a file ending in .onnx" in capsys.readouterr().err
