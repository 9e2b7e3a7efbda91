"""Errors that know what the caller meant say what to call, and objects say what they are."""

from __future__ import annotations

import copy
import pickle
import pydoc
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fusedcell as fc
from fusedcell._dtypes import DTYPES
from models import EVERY_KIND, KIND, Kind, random_state, uniform

pytestmark = [pytest.mark.core, pytest.mark.any_cpu]

every_kind = pytest.mark.parametrize("kind", EVERY_KIND, ids=lambda kind: kind.name)


def layer_of(name: str, **options: Any) -> Any:
    return KIND[name].make(KIND[name].weights(3, 4), **options)


LSTM, GRU, RNN = layer_of("lstm"), layer_of("gru_reset_after"), layer_of("rnn_relu")
X = uniform(1, 5, 2, 3)


@pytest.mark.parametrize("cls", [fc.LSTM, fc.GRU, fc.RNN])
@pytest.mark.parametrize(("given", "named"), [((10, 64), {}), ((40,), {"batch_first": True}), ((), {}), ((LSTM,), {})])
def test_who_calls_a_layers_class_hears_what_makes_one(cls: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
    makers = ("from_state_dict", "from_torch", "from_keras", "from_onnx", "load")
    with pytest.raises(TypeError, match=f"^{cls.__name__}: a layer is made of .*" + ".*".join(makers)):
        cls(*given, **named)
    text = pydoc.render_doc(cls)
    assert "stack" not in text.split("Methods defined here")[0]
    assert all(maker in text.split("Methods defined here")[0] for maker in makers)


@pytest.mark.parametrize("given", [(), (LSTM,), (3,), (LSTM, 2)])
def test_who_calls_the_class_of_streams_hears_what_makes_one(given: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError, match=r"^Stream: made by layer\.stream\(batch_size\), layer\.stream_from_bytes"):
        fc.Stream(*given)


MASK, LENGTHS = np.ones((5, 2), np.bool_), np.array([5, 3])


@pytest.mark.parametrize("value", [MASK, MASK.tolist(), LENGTHS, LENGTHS.tolist(), MASK.astype(np.uint8)])
def test_a_mask_or_lengths_in_the_place_of_the_state(value: Any) -> None:
    for layer in (GRU, RNN):
        with pytest.raises(TypeError, match=r"the argument is the state, and lengths and masks are given by name$"):
            layer(X, value)
    if isinstance(value, np.ndarray):
        with pytest.raises(TypeError, match=r"expected a pair \(h, c\), got ndarray; lengths and masks are given by"):
            LSTM(X, value)


def test_packed_sequences_and_tensors_that_want_gradients() -> None:
    torch: Any = pytest.importorskip("torch")
    packed = torch.nn.utils.rnn.pack_sequence([torch.ones(3, 3), torch.ones(2, 3)])
    wanting = torch.ones(5, 2, 3, requires_grad=True)
    for layer in (LSTM, GRU, RNN, GRU.with_initial_state(np.zeros((1, 1, 4), np.float32))):
        with pytest.raises(TypeError, match="got PackedSequence; give padded data with lengths=, or accelerate the mo"):
            layer(packed)
        for call in (layer, layer.stream(2).process):
            with pytest.raises((TypeError, RuntimeError), match=r"\.detach\(\)"):
                call(wanting)
    with torch.no_grad():
        np.testing.assert_array_equal(GRU(wanting.detach())[0], GRU(np.ones((5, 2, 3), np.float32))[0])


def test_what_numpy_says_of_a_value_is_passed_on() -> None:
    with pytest.raises(TypeError, match=r"x: expected an array of floats, got list: .*inhomogeneous"):
        GRU([[1.0], [1.0, 2.0]])


@every_kind
@pytest.mark.parametrize("batch", [1, 2])
def test_states_of_another_kind_of_layer(kind: Kind, batch: int) -> None:
    mapping = kind.weights(3, 4)
    layer, pair = kind.make(mapping), (np.zeros((1, batch, 4), np.float32),) * 2
    stream = layer.stream(batch)
    x = uniform(1, 2, batch, 3)
    calls: list[Callable[[Any], Any]] = [lambda state: setattr(stream, "state", state), lambda state: layer(x, state)]
    for call in calls:
        if kind.gates == 4:
            with pytest.raises(TypeError, match=r"state: expected a pair \(h, c\), got (numpy\.)?ndarray"):
                call(pair[0])
        else:
            with pytest.raises(ValueError, match=r"; only an LSTM's state is a pair \(h, c\)$"):
                call(pair)
            with pytest.raises(ValueError, match=r"expected shape .* got \(1, \d, 5\)$"):
                call(np.zeros((1, batch, 5), np.float32))


def test_states_that_travelled_to_other_weights() -> None:
    state = random_state(KIND["lstm"], KIND["lstm"].weights(3, 4), 1)
    for dtype in DTYPES[1:]:
        narrow = LSTM.astype(dtype)
        stream = narrow.stream()
        stream.state = state
        with pytest.raises(ValueError, match=rf"which are these in {dtype}: use layer\.astype\('{dtype}'\)$"):
            LSTM.stream_from_bytes(stream.to_bytes())
        again = LSTM.astype(dtype).stream_from_bytes(stream.to_bytes())
        np.testing.assert_array_equal(again.state, stream.state)
        with pytest.raises(
            ValueError, match=rf"which are others, or these in another dtype than {dtype} or with other input_scales$"
        ):
            narrow.stream_from_bytes(LSTM.stream().to_bytes())
    other = KIND["lstm"].make(KIND["lstm"].weights(3, 4, seed=2))
    with pytest.raises(
        ValueError, match=r"which are others, or these in another dtype than float32 or with other input_scales$"
    ):
        LSTM.stream_from_bytes(other.stream().to_bytes())
    with pytest.raises(ValueError, match=r"which are of another size or kind of layer$"):
        GRU.stream_from_bytes(LSTM.stream().to_bytes())


def test_a_stream_has_copies_and_no_pickle() -> None:
    stream = GRU.stream(2)
    stream.process(X)
    for clone in (copy.copy(stream), copy.deepcopy(stream), copy.deepcopy([stream])[0]):
        assert clone is not stream
        assert clone.to_bytes() == stream.to_bytes()
        clone.step(X[0])
        assert clone.to_bytes() != stream.to_bytes()
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(
            TypeError, match=r"cannot pickle a Stream; send stream\.to_bytes\(\), which layer\.stream_f"
        ):
            pickle.dumps({"state": stream}, protocol)
    pool = fc.StreamPool(GRU, 3)
    for call in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match=r"cannot pickle or copy a StreamPool; .*pool\.to_bytes\(slot\)"):
            call(pool)


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    path = tmp_path / "layer"
    for value, advice in (
        ({"lstm": LSTM}, "got dict; a file holds one layer"),
        (GRU.stream(), "got Stream$"),
        ([LSTM], "got list$"),
        (SimpleNamespace(layer=LSTM), r"got SimpleNamespace; save its \.layer$"),
    ):
        with pytest.raises(TypeError, match=f"layer: expected a layer, a cell or a Model, {advice}"):
            fc.save(value, path)  # type: ignore[arg-type] # wrong on purpose
    assert not path.exists()


@pytest.mark.parametrize("ending", [".onnx", ".keras", ".h5", ".hdf5", ".PT", ".pth", ".ckpt", ".bin", ".nam", ".json"])
def test_nothing_is_saved_under_a_name_that_other_files_have(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"m{ending}"
    model = fc.Model([("lstm", LSTM, "x")])
    cell = fc.RNNCell(np.ones((1, 1)), np.ones((1, 1)))
    for value, call in (
        (LSTM, r"; fusedcell\.to_onnx\(layer, path\)"),
        (model, r"; model\.to_onnx\(path\)"),
        (cell, ""),
    ):
        end = f"{call} writes an ONNX model" if ending == ".onnx" and call else ""
        with pytest.raises(
            ValueError, match=rf"ending in \.safetensors, got '.*', which is how files of others end{end}$"
        ):
            fc.save(value, path)
    assert not path.exists()


def test_a_model_is_no_layer_to_write_as_onnx() -> None:
    pytest.importorskip("onnx")
    with pytest.raises(TypeError, match=r"got Model; model\.to_onnx\(path\) writes it$"):
        fc.to_onnx(fc.Model([("lstm", LSTM, "x")]))  # type: ignore[arg-type] # wrong on purpose


@pytest.mark.parametrize(
    ("ending", "reader"), [(".onnx", "onnx"), (".keras", "keras"), (".h5", "keras"), (".nam", "json")]
)
def test_a_file_of_others_is_sent_to_who_reads_it_whole(ending: str, reader: str, tmp_path: Path) -> None:
    (tmp_path / f"m{ending}").write_bytes(b"not ours")
    layer = "" if reader == "json" else rf", or a recurrent layer of it with fusedcell\.from_{reader}\(path\)"
    with pytest.raises(ValueError, match=rf"with fusedcell\.Model\.from_{reader}\(path\){layer}$"):
        fc.load(tmp_path / f"m{ending}")
    if reader != "json":
        with pytest.raises(ValueError, match=rf"not JSON that can be read: .* with fusedcell\.Model\.from_{reader}\("):
            fc.Model.from_json(tmp_path / f"m{ending}")


@pytest.mark.parametrize("name", ["LSTM", "Sequential", "Linear"])
def test_a_module_of_pytorch_is_not_saved(name: str, tmp_path: Path) -> None:
    torch: Any = pytest.importorskip("torch")
    module = getattr(torch.nn, name)(*([] if name == "Sequential" else [3, 4]))
    with pytest.raises(TypeError, match=f"got {name}; make a model of it first, by fusedcell.Model.from_torch"):
        fc.save(module, tmp_path / "layer")


@every_kind
@pytest.mark.parametrize("batch_first", [False, True])
def test_layers_streams_and_pools_say_what_they_are(kind: Kind, batch_first: bool) -> None:
    layer = kind.make(kind.weights(3, 4, layers=2), dtype="int8", batch_first=batch_first)
    assert repr(layer).startswith(f"{kind.layer.__name__}(3, 4, num_layers=2, ")
    assert ("batch_first=True" in repr(layer)) == batch_first
    assert "dtype='int8'" in repr(layer)
    assert repr(layer.stream(7)) == f"Stream({layer!r}, batch_size=7)"
    assert repr(layer.stream_from_bytes(layer.stream().to_bytes())) == f"Stream({layer!r}, batch_size=1)"
    pool = fc.StreamPool(layer, 5)
    pool.join()
    assert re.fullmatch(rf"StreamPool\({re.escape(repr(layer))}, 1 of 5 slots, \d+ bytes\)", repr(pool))
