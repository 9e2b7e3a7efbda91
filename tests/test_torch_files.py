"""from_state_dict takes PyTorch's tensors, and the paths of files of them, which cannot do it any harm."""

from __future__ import annotations

import builtins
import importlib
import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedcell as fc
from torch_models import assert_close, assert_same_bits, make, torch

safetensors_torch: Any = pytest.importorskip("safetensors.torch")

LAYERS: dict[str, Any] = {"LSTM": fc.LSTM, "GRU": fc.GRU, "RNN": fc.RNN}


def write(state: dict[str, Any], path: Path) -> Path:
    if path.suffix == ".safetensors":
        safetensors_torch.save_file({name: value.contiguous() for name, value in state.items()}, path)
    else:
        torch.save(state, path)
    return path


every_suffix = pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@every_suffix
def test_tensors_and_files_of_every_float_type(name: str, dtype: str, suffix: str, tmp_path: Path) -> None:
    state = make(name, 5, 6, 2, bidirectional=True).to(getattr(torch, dtype)).state_dict()
    x = np.linspace(-1, 1, 15, dtype=np.float32).reshape(3, 5)
    expected = LAYERS[name].from_state_dict({key: value.float().numpy() for key, value in state.items()})(x)
    assert_same_bits(LAYERS[name].from_state_dict(state)(x), expected)
    path = write(state, tmp_path / f"weights{suffix}")
    for given in (path, str(path)):
        assert_same_bits(LAYERS[name].from_state_dict(given)(x), expected)


def test_tensors_may_require_gradients() -> None:
    module = make("LSTM", 5, 6)
    x = torch.randn(3, 5)
    with torch.no_grad():
        layer = fc.LSTM.from_state_dict(dict(module.named_parameters()))
        assert_close(layer(x.numpy()), module(x))
        cell = make("LSTMCell", 5, 6)
        assert_close(fc.LSTMCell(**dict(cell.named_parameters()))(x.numpy()), cell(x))
    h, c = (torch.randn(1, 1, 6, requires_grad=True) for _ in range(2))
    for actual, expected in zip(layer.with_initial_state(h, c).initial_state or (), (h, c), strict=True):
        np.testing.assert_array_equal(actual, expected.detach())


def test_inputs_that_require_gradients_are_told_to_detach() -> None:
    layer = fc.LSTM.from_state_dict(make("LSTM", 5, 6).state_dict())
    x = torch.randn(3, 5, requires_grad=True)
    for call in (layer, layer.stream().process):
        with pytest.raises(TypeError, match=r"\w+: expected an array of floats, got Tensor: .*detach\(\)"):
            call(x)


@every_suffix
def test_a_file_of_a_whole_model_is_read_only_under_the_prefix(suffix: str, tmp_path: Path) -> None:
    module = make("GRU", 5, 6)
    state = {f"encoder.gru.{name}": value for name, value in module.state_dict().items()}
    path = write(state | {"head.weight": torch.ones(4, 4, dtype=torch.int64)}, tmp_path / f"model{suffix}")
    x = torch.randn(3, 5)
    with torch.no_grad():
        assert_close(fc.GRU.from_state_dict(path, "encoder.gru.")(x.numpy()), module(x))
    with pytest.raises(ValueError, match=r"no name starts with 'decoder.weight_ih_l0'"):
        fc.GRU.from_state_dict(path, "decoder.")


@pytest.mark.parametrize("name", ["m.pt", "m.PT", "m.pth", "m.Pth", "m.pth.tar", "m.ckpt", "m.bin", "m.SafeTensors"])
def test_files_are_known_by_every_end_that_programs_give_them(name: str, tmp_path: Path) -> None:
    module = make("LSTM", 5, 6)
    state = {f"lstm.{key}": value for key, value in module.state_dict().items()}
    if name == "m.SafeTensors":
        safetensors_torch.save_file(state, tmp_path / name)
    else:
        torch.save(state, tmp_path / name)
    x = torch.randn(3, 5)
    with torch.no_grad():
        assert_close(fc.LSTM.from_state_dict(tmp_path / name, "lstm")(x.numpy()), module(x))


def test_checkpoints_with_other_entries_are_read_where_the_prefix_is(tmp_path: Path) -> None:
    model = torch.nn.ModuleDict({"lstm": make("LSTM", 5, 6), "gru": make("GRU", 5, 6, seed=2)})
    optimiser = torch.optim.Adam(model.parameters())
    sum(parameter.sum() for parameter in model.parameters()).backward()
    optimiser.step()
    x = torch.randn(3, 5)
    for key, prefix in (
        ("state_dict", "model."),
        ("model", ""),
        ("net", "module."),
        ("model_state_dict", "_orig_mod."),
    ):
        path = tmp_path / f"{key}.ckpt"
        named = {prefix + name: value for name, value in model.state_dict().items()}
        torch.save({"epoch": 3, key: named, "optimizer": optimiser.state_dict(), "hparams": {"size": 6}}, path)
        for cls, name in ((fc.LSTM, "lstm"), (fc.GRU, "gru")):
            for given in (f"{prefix}{name}.", f"{prefix}{name}", f"{key}.{prefix}{name}."):
                with torch.no_grad():
                    assert_close(cls.from_state_dict(path, given)(x.numpy()), model[name](x))
        with pytest.raises(ValueError, match=rf"here: '{key}.{prefix}lstm.', '{key}.{prefix}gru.'$"):
            fc.LSTM.from_state_dict(path, "rnn.")


def test_the_names_of_wrapped_models_are_listed(tmp_path: Path) -> None:
    model = torch.nn.Sequential(make("LSTM", 5, 6))
    for wrapped, prefix in (
        (torch.nn.DataParallel(model), "module.0."),
        (torch.compile(model, backend="eager"), "_orig_mod.0."),
    ):
        torch.save(wrapped.state_dict(), tmp_path / "m.pt")
        with pytest.raises(ValueError, match=rf"recurrent weights here: '{prefix}'$"):
            fc.LSTM.from_state_dict(tmp_path / "m.pt", "0.")
        layer = fc.LSTM.from_state_dict(tmp_path / "m.pt", prefix)
        assert_same_bits(layer(np.ones((3, 5))), fc.from_torch(model[0])(np.ones((3, 5))))


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("norm", ["parametrizations.weight_norm", "weight_norm"])
@pytest.mark.parametrize("dim", [0, 1, None])
def test_weight_norm_is_computed_to_a_few_roundings_of_what_pytorch_computes(
    dim: int | None, norm: str, suffix: str, tmp_path: Path
) -> None:
    module = make("LSTM", 40, 50, bidirectional=True)
    *path, function = norm.split(".")
    utils = torch.nn.utils
    normed = getattr(getattr(utils, path[0]) if path else utils, function)
    for name in ("weight_ih_l0", "weight_hh_l0_reverse", "bias_ih_l0"):
        normed(module, name, dim=None if name.startswith("bias") else dim)
    state = module.state_dict()
    for name in state:
        if name.endswith(("_g", "original0")):
            state[name] = state[name] * 1.7
    module.load_state_dict(state)
    assert "weight_ih_l0" not in state
    layer = fc.LSTM.from_state_dict(write(state, tmp_path / f"m{suffix}"))
    for actual, expected in zip(layer._stack.arrays(), fc.from_torch(module)._stack.arrays(), strict=True):
        for name, array in actual.items():
            # PyTorch's norm is of float32: sums of 50 squares or 2,000 and so, in some order of its own.
            np.testing.assert_allclose(array, expected[name], rtol=2e-6, atol=1e-7 if name == "bias_ih" else 0)


def test_pruned_weights_are_those_that_are_left(tmp_path: Path) -> None:
    module = make("GRU", 5, 6)
    prune: Any = importlib.import_module("torch.nn.utils.prune")
    prune.l1_unstructured(module, "weight_hh_l0", 0.5)
    torch.save(module.state_dict(), tmp_path / "m.pt")
    x = np.ones((3, 5), np.float32)
    assert_same_bits(fc.GRU.from_state_dict(tmp_path / "m.pt")(x), fc.from_torch(module)(x))


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("norm", ["parametrizations.spectral_norm", "spectral_norm", "parametrizations.orthogonal"])
def test_weights_that_names_do_not_tell_are_refused_and_the_live_module_is_taken(norm: str, tmp_path: Path) -> None:
    module = make("GRU", 5, 6)
    *path, function = norm.split(".")
    utils = torch.nn.utils
    getattr(getattr(utils, path[0]) if path else utils, function)(module, "weight_hh_l0")
    torch.save({f"rnn.{name}": value for name, value in module.state_dict().items()}, tmp_path / "m.pt")
    with pytest.raises(fc.UnsupportedError, match=r"rnn.weight_hh_l0 is computed of .* fusedcell.from_torch"):
        fc.GRU.from_state_dict(tmp_path / "m.pt", "rnn.")
    assert fc.from_torch(module.eval()).hidden_size == 6


def test_other_tensors_of_a_safetensors_file_are_not_read(tmp_path: Path) -> None:
    weights = {"rnn.weight_ih_l0": [[2.0]], "rnn.weight_hh_l0": [[3.0]]}
    size = 1 << 40
    header: dict[str, Any] = {"huge": {"dtype": "U8", "shape": [size], "data_offsets": [8, 8 + size]}}
    for index, name in enumerate(weights):
        header[name] = {"dtype": "F32", "shape": [1, 1], "data_offsets": [4 * index, 4 * index + 4]}
    text = json.dumps(header).encode()
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + np.array([2, 3], np.float32).tobytes())
        try:
            file.truncate(8 + len(text) + 8 + size)
        except OSError:
            pytest.skip("this file system has no sparse files of that size")
    layer = fc.RNN.from_state_dict(path, "rnn.", nonlinearity="relu")
    assert layer(np.array([[1], [1]], np.float32))[0].tolist() == [[2], [8]]


def safetensors_file(path: Path, header: bytes, size: int) -> Path:
    path.write_bytes(struct.pack("<Q", len(header)) + header + np.array([2, 3], np.float32).tobytes()[:size])
    return path


BOTH = (
    b'"r.weight_ih_l0": {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]}, '
    b'"r.weight_hh_l0": {"dtype": "F32", "shape": [1, 1], "data_offsets": [4, 8]}'
)


def test_tensors_of_a_type_that_is_not_known_do_not_hide_the_others(tmp_path: Path) -> None:
    header = b"{" + BOTH + b', "head": {"dtype": "F3_NEW", "shape": [99], "data_offsets": [8, 8]}}'
    layer = fc.RNN.from_state_dict(safetensors_file(tmp_path / "a.safetensors", header, 8), "r.", nonlinearity="relu")
    assert layer(np.array([[1], [1]], np.float32))[0].tolist() == [[2], [8]]


@pytest.mark.parametrize(
    ("more", "size", "message"),
    [
        (b'"x": {"dtype": "NEW", "shape": [1], "data_offsets": [8, 4]}', 8, "x: expected some bytes, got those"),
        (b'"x": {"dtype": "U8", "shape": [1], "data_offsets": [8, 8]}', 8, "x: expected 1 bytes, got those"),
        (b'"x": {"dtype": "U8", "shape": [0]}', 8, "x: expected dtype, shape and data_offsets"),
        (b'"x": {"shape": [' + b"0, " * 64 + b"0]}", 8, "x: shape: expected at most 64 numbers"),
        (b'"x": {"shape": 0}', 8, "x: shape: expected a list, got 0"),
        (b'"x": 3', 8, "x: expected an object, got 3"),
        (BOTH, 8, "'r.weight_ih_l0' comes twice"),
        (b'"x": {"dtype": "U8", "shape": [0], "data_offsets": [8, 8]}', 7, "expected data from byte 4 of 7 on, got 4"),
        (b'"x": {"dtype": "U8", "shape": [0], "data_offsets": [7, 7]}', 8, "expected data from byte 8 of 8 on, got 7"),
        (b'"__metadata__": {"fusedcell": 3}', 8, "__metadata__: expected strings, got 3"),
        (b'"x": ' + b"[" * 33, 8, "its header is not JSON: expected values that are not nested too deeply"),
        (b'"\xff": 3', 8, "its header is not JSON: expected UTF-8"),
    ],
)
def test_headers_that_do_not_fit_the_file_are_refused(more: bytes, size: int, message: str, tmp_path: Path) -> None:
    path = safetensors_file(tmp_path / "a.safetensors", b"{" + BOTH + b", " + more + b"}", size)
    with pytest.raises(ValueError, match=f"^{path}: not a safetensors file: .*{message}"):
        fc.RNN.from_state_dict(path)


@pytest.mark.parametrize("data", [b"", b"{}", struct.pack("<Q", 2**63) + b"{}", struct.pack("<Q", 3) + b"{}"])
def test_the_size_of_a_header_is_not_trusted(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"^{path}: not a safetensors file: (expected 8 bytes|its header has)"):
        fc.RNN.from_state_dict(path)


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("evil",)


def hostile(path: Path, what: str) -> None:
    state = make("GRU", 2, 3).state_dict()
    if what == "code":
        torch.save({**state, "weight_ih_l0": Evil()}, path)
    elif what == "a pickle":
        path.write_bytes(pickle.dumps(Evil()))
    elif what == "a module":
        torch.save(make("GRU", 2, 3), path)
    elif what == "an old format":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    elif what == "a giant of four bytes":
        torch.save({**state, "weight_ih_l0": torch.zeros(1).expand(1 << 20, 1 << 20)}, path)
    elif what == "compressed":
        file = io.BytesIO()
        torch.save(state, file)
        with zipfile.ZipFile(file) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
            for name in old.namelist():
                new.writestr(name, old.read(name))
    elif what == "a list":
        torch.save([torch.zeros(3)], path)
    elif what == "empty":
        path.write_bytes(b"")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("code", r"not a file of weights alone: it holds objects, of '\w+.mkdir' for one"),
        ("a pickle", "not an archive that torch.save writes"),
        (
            "a module",
            r"of 'torch.nn.modules.rnn.GRU' for one, .*Model.from_torch\(module, example\), .*torch.save\(model",
        ),
        ("an old format", "not an archive that torch.save writes since PyTorch 1.6"),
        ("a giant of four bytes", r"weight_ih_l0 of shape \(1048576, 1048576\) is stored in 4 bytes"),
        ("compressed", "is compressed, which torch.save does not do"),
        ("a list", "expected a state dictionary, got list"),
        ("empty", "not an archive that torch.save writes"),
    ],
)
def test_files_of_other_content_are_refused_and_run_nothing(
    what: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pt"
    hostile(path, what)
    with pytest.raises(ValueError, match=message) as raised:
        fc.GRU.from_state_dict(path)
    assert "weights.pt" in str(raised.value)
    assert "do those steps only if you trust" not in str(raised.value)
    assert not (tmp_path / "evil").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torchscript_archive_says_where_it_goes(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(make("GRU", 2, 3)), tmp_path / "model.pt")
    with pytest.raises(fc.UnsupportedError, match=r"is a TorchScript archive; .* fusedcell.from_torch"):
        fc.GRU.from_state_dict(tmp_path / "model.pt")


@every_suffix
def test_truncated_files_are_refused(suffix: str, tmp_path: Path) -> None:
    path = write(make("GRU", 2, 3).state_dict(), tmp_path / f"weights{suffix}")
    data = path.read_bytes()
    for size in [*range(0, len(data), 41), len(data) - 1]:
        path.write_bytes(data[:size])
        with pytest.raises(ValueError, match=r"not a safetensors file|not an archive|not a file of weights"):
            fc.GRU.from_state_dict(path)


@every_suffix
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_mutants_load_or_raise(suffix: str, tmp_path: Path) -> None:
    path = write(make("GRU", 2, 3).state_dict(), tmp_path / f"weights{suffix}")
    original = path.read_bytes()
    random = np.random.default_rng(5)
    refused = 0
    for _ in range(400):
        data = bytearray(original)
        for _ in range(random.integers(1, 4)):
            data[random.integers(len(data))] = random.integers(256)
        path.write_bytes(data)
        try:
            layer = fc.GRU.from_state_dict(path)
        except (ValueError, TypeError):
            refused += 1
        else:
            layer(np.zeros((2, layer.input_size), np.float32))
    assert refused > 20


def test_files_that_are_not_there_and_of_unknown_kinds(tmp_path: Path) -> None:
    others = (("a.h5", "from_keras"), ("a.keras", "from_keras"), ("a.onnx", "from_onnx"))
    for name in ("a.pt", "a.safetensors", "a.xyz", *(name for name, _ in others)):
        with pytest.raises(FileNotFoundError):
            fc.LSTM.from_state_dict(tmp_path / name)
    for name in ("a.xyz", *(name for name, _ in others)):
        (tmp_path / name).touch()
    with pytest.raises(
        fc.UnsupportedError, match=r"a.xyz' is not a kind of file .*; supported: .safetensors, .pt, .pth"
    ):
        fc.LSTM.from_state_dict(tmp_path / "a.xyz")
    for name, reader in others:
        with pytest.raises(fc.UnsupportedError, match=rf"read a.* model.* with fusedcell.{reader}\(path\)"):
            fc.LSTM.from_state_dict(tmp_path / name)
    with pytest.raises(TypeError, match="expected a mapping of names to arrays, or a path, got int"):
        fc.LSTM.from_state_dict(3)  # type: ignore[arg-type] # wrong on purpose


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (lambda: torch.zeros(9, 2, dtype=torch.int64), "weight_ih_l0: expected a tensor of float32, .* got int64"),
        (
            lambda: torch.zeros(9, 2).to_sparse(),
            "weight_ih_l0: expected a dense tensor, got one with layout sparse_coo",
        ),
        (lambda: torch.zeros(9, 2, device="meta"), "weight_ih_l0: expected a tensor with values"),
    ],
)
def test_tensors_that_are_not_dense_floats_are_refused_by_name(tensor: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        fc.GRU.from_state_dict({**make("GRU", 2, 3).state_dict(), "weight_ih_l0": tensor()})


def test_a_safetensors_file_of_whole_numbers_is_refused_by_name(tmp_path: Path) -> None:
    state = make("GRU", 2, 3).state_dict()
    path = write({**state, "bias_hh_l0": torch.zeros(9, dtype=torch.int32)}, tmp_path / "a.safetensors")
    with pytest.raises(TypeError, match="bias_hh_l0: expected a dtype of F64, F32, F16, BF16, got I32"):
        fc.GRU.from_state_dict(path)


def test_without_pytorch_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real_import = builtins.__import__

    def no_import(name: str, *args: Any) -> Any:
        if name == "torch":
            raise ImportError(name)
        return real_import(name, *args)

    monkeypatch.setattr(builtins, "__import__", no_import)
    with pytest.raises(ImportError, match=r"pip install fusedcell\[torch\]"):
        fc.LSTM.from_state_dict(tmp_path / "a.pt")
