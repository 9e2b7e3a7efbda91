"""What a Keras file asks for beyond what is read is refused by name, and hostile files do no harm."""

from __future__ import annotations

import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedcell as fc
from keras_models import KerasCase, KerasCell, sequential, write_case, write_h5, write_keras

h5py: Any = pytest.importorskip("h5py")

LSTM = KerasCase([KerasCell("LSTM", 4)])
GRU = KerasCase([KerasCell("GRU", 4)])
BOTH = KerasCase([KerasCell("LSTM", 4)], merge_mode="concat")
STACKED = KerasCase([KerasCell("LSTM", 4)] * 2, form="stacked")


def refusal(tmp_path: Path, item: dict[str, Any], version: str = "2.4.0") -> str:
    """What from_keras says to a file with such a layer in it."""
    path = write_h5(tmp_path / "m.h5", sequential([item]), {"recurrent": LSTM.arrays()[0]}, version)
    with pytest.raises(fc.UnsupportedError) as caught:
        fc.from_keras(path, keras_output=True)
    return str(caught.value)


@pytest.mark.parametrize(
    ("case", "options", "message"),
    [
        (
            LSTM,
            {"activation": "gelu"},
            "activation='gelu' is not supported; supported: tanh, sigmoid, relu, linear",
        ),
        (LSTM, {"recurrent_activation": "softmax"}, "recurrent_activation='softmax' is not supported; supported: tanh"),
        (LSTM, {"activation": "leaky_relu"}, "activation='leaky_relu' is not supported; .* hard_sigmoid in Keras 2$"),
        (LSTM, {"activation": {"class_name": "f", "config": "f"}}, "activation={'class_name': 'f'.* is not supported"),
        (LSTM, {"time_major": True}, "time_major=True is not supported; supported: False"),
        (
            LSTM,
            {"reset_after": True},
            "reset_after=True is not supported; supported: activation, .*, and what",
        ),
        (GRU, {"zoneout": 0.1}, "zoneout=0.1 is not supported; supported: activation, go_backwards, recurrent_activ"),
        (LSTM, {"dtype": "int8"}, "dtype='int8' is not supported; supported: float32, float64"),
        (
            LSTM,
            {"dtype": {"class_name": "QuantizedDTypePolicy", "config": {"name": "int8_from_float32"}}},
            "dtype=.*int8_from_float32.* is not supported",
        ),
        (BOTH, {"merge_mode": "max"}, "merge_mode='max' is not supported; supported: 'concat', 'sum', 'mul', 'ave', N"),
        (BOTH, {"weights": [1]}, r"weights=\[1\] is not supported"),
        (STACKED, {"num_constants": 1}, "num_constants=1 is not supported"),
    ],
)
def test_options_are_refused_by_name(tmp_path: Path, case: KerasCase, options: dict[str, Any], message: str) -> None:
    item = case.item()
    item["config"] |= options
    said = refusal(tmp_path, item)
    assert f"{item['class_name']} layer 'recurrent': " in said
    assert re.search(message, said), said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"units": 0}, "units: expected a positive integer, got 0"),
        ({"units": True}, "units: expected a positive integer, got True"),
        ({"units": 10**30}, "units: expected a positive integer, got 1000"),
        ({"units": 5}, r"expected shape \('any', 20\), got \(3, 16\)"),
        ({"use_bias": False}, r"weights beside its own: 'recurrent/cell_0/bias:0'"),
        ({"use_bias": 1}, "use_bias: expected true or false, got 1"),
        ({"return_sequences": "yes"}, "return_sequences: expected true or false, got 'yes'"),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    item = LSTM.item()
    item["config"] |= options
    path = write_h5(tmp_path / "m.h5", sequential([item]), {"recurrent": LSTM.arrays()[0]}, "2.4.0")
    with pytest.raises(ValueError, match=message):
        fc.from_keras(path)


@pytest.mark.parametrize("key", ["units", "activation", "recurrent_activation", "use_bias"])
def test_what_a_layer_computes_is_never_guessed(tmp_path: Path, key: str) -> None:
    item = LSTM.item()
    del item["config"][key]
    path = write_h5(tmp_path / "m.h5", sequential([item]), {"recurrent": LSTM.arrays()[0]}, "3.4.0")
    with pytest.raises(ValueError, match=f"{key}: expected .*, got nothing"):
        fc.from_keras(path)


def test_layers_of_the_users_own_are_not_taken_for_keras_ones(tmp_path: Path) -> None:
    for change in ({"module": "my.layers"}, {"registered_name": "my>LSTM"}):
        path = write_h5(tmp_path / "m.h5", sequential([LSTM.item() | change]), {"recurrent": []}, "3.4.0")
        with pytest.raises(ValueError, match="there is no recurrent layer"):
            fc.from_keras(path)
        wrapped = BOTH.item()
        wrapped["config"]["layer"] |= change
        assert "layer: 'LSTM' is not supported; supported: SimpleRNN" in refusal(tmp_path, wrapped, "3.4.0")
        cell = STACKED.item()
        cell["config"]["cell"]["config"]["cells"][1] |= change
        assert "cells[1]: 'LSTMCell' is not supported" in refusal(tmp_path, cell, "3.4.0")


def test_models_with_code_of_their_own_are_refused(tmp_path: Path) -> None:
    model = {"class_name": "MyModel", "config": {"units": 3}}
    with pytest.raises(fc.UnsupportedError, match="a model of class 'MyModel' is not supported, as its code decides"):
        fc.from_keras(write_h5(tmp_path / "m.h5", model, {}, "3.4.0"))


def test_lambda_layers_are_not_run(tmp_path: Path) -> None:
    code = {"class_name": "Lambda", "config": {"name": "evil", "function": ["gASVHQ==", None, None]}}
    path = write_h5(tmp_path / "m.h5", sequential([code, LSTM.item()]), {"recurrent": LSTM.arrays()[0]}, "2.4.0")
    assert fc.from_keras(path).hidden_size == 4


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("version", ["1.2.2", "4.0.0", "", "three"])
def test_versions(tmp_path: Path, version: str, suffix: str) -> None:
    model, path = sequential([LSTM.item()]), tmp_path / f"m{suffix}"
    if suffix == ".h5":
        write_h5(path, model, {"recurrent": LSTM.arrays()[0]}, version)
    else:
        write_keras(path, model, {"layers/lstm/cell": LSTM.arrays()[0][0]}, version)
    with pytest.raises(fc.UnsupportedError, match=f"keras_version '{version}' is not supported; supported: 2 and 3"):
        fc.from_keras(path)


def test_keras_files_of_versions_that_wrote_none(tmp_path: Path) -> None:
    message = r"keras_version 2\.11 is not supported in a \.keras file; supported: 2\.12 and later, or .* as \.h5"
    with pytest.raises(fc.UnsupportedError, match=message):
        fc.from_keras(write_case(tmp_path / "m.keras", LSTM, "2.11.0"))


def test_cudnn_layers_are_keras_2_alone(tmp_path: Path) -> None:
    item = LSTM.item() | {"class_name": "CuDNNLSTM"}
    assert "CuDNNLSTM is not a class of Keras 3" in refusal(tmp_path, item, "3.4.0")


def test_weights_alone_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.weights.h5", "w") as file:
        file.create_dataset("layers/lstm/cell/vars/0", data=np.zeros((3, 16)))
    with pytest.raises(fc.UnsupportedError, match=r"holds no configuration .* perhaps weights alone"):
        fc.from_keras(tmp_path / "m.weights.h5")


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"PK\x03\x04" + bytes(200), b"\x89HDF\r\n\x1a\n", b"hello" * 100]
)
def test_what_is_no_file_of_keras(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.keras").write_bytes(content)
    with pytest.raises(ValueError, match=r"m\.keras: not an? (HDF5|\.keras) file, or damaged"):
        fc.from_keras(tmp_path / "m.keras")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        fc.from_keras(tmp_path / "m.keras")


def test_without_h5py_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_case(tmp_path / "m.keras", LSTM)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"Keras files need h5py: pip install fusedcell\[keras\]"):
        fc.from_keras(path)


@pytest.mark.parametrize("name", [0, True, b"lstm"])
def test_a_name_is_a_string(tmp_path: Path, name: Any) -> None:
    with pytest.raises(TypeError, match="name: expected a string or None, got"):
        fc.from_keras(write_case(tmp_path / "m.keras", LSTM), name)


@pytest.mark.parametrize("source", [3, None, b"m.keras", np.zeros(3)])
def test_what_is_neither_a_layer_nor_a_path(source: Any) -> None:
    with pytest.raises(
        fc.UnsupportedError, match="is not supported; supported: the path of a file, or a layer of Keras"
    ):
        fc.from_keras(source)


class TestHostileFiles:
    def changed(self, tmp_path: Path, dataset: str = "kernel", **options: Any) -> Path:
        """A file where a dataset is made otherwise."""
        path = write_case(tmp_path / "m.h5", LSTM)
        with h5py.File(path, "a") as file:
            cell = file["model_weights/recurrent/recurrent/cell_0"]
            data = cell[f"{dataset}:0"][()]
            del cell[f"{dataset}:0"]
            cell.create_dataset(f"{dataset}:0", **{"data": data, **options})
        return path

    def test_a_few_bytes_that_stand_for_a_giant(self, tmp_path: Path) -> None:
        path = self.changed(tmp_path, data=None, shape=(1 << 40, 16), dtype="f4", chunks=(1024, 16))
        with pytest.raises(ValueError, match="kernel:0: 70368744177664 bytes cannot lie in a file of"):
            fc.from_keras(path)

    def test_compressed_datasets(self, tmp_path: Path) -> None:
        with pytest.raises(fc.UnsupportedError, match="kernel:0: compressed, filtered and external datasets"):
            fc.from_keras(self.changed(tmp_path, compression="gzip"))

    def test_data_in_other_files(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_bytes(bytes(4096))
        external = [(str(tmp_path / "secret"), 0, 4096)]
        with pytest.raises(fc.UnsupportedError, match="kernel:0: compressed, filtered and external datasets"):
            fc.from_keras(self.changed(tmp_path, data=None, shape=(3, 16), dtype="f4", external=external))

    @pytest.mark.parametrize("dtype", ["i4", "S4", "bool", "c8"])
    def test_what_is_no_float(self, tmp_path: Path, dtype: str) -> None:
        with pytest.raises(
            fc.UnsupportedError, match=r"kernel:0: dtype .* is not supported; supported: floats of 16 to"
        ):
            fc.from_keras(self.changed(tmp_path, data=np.zeros((3, 16), dtype)))

    @pytest.mark.parametrize("link", [h5py.ExternalLink("other.h5", "/x"), h5py.SoftLink("/model_weights/recurrent")])
    def test_links(self, tmp_path: Path, link: Any) -> None:
        path = write_case(tmp_path / "m.h5", LSTM)
        with h5py.File(path, "a") as file:
            del file["model_weights/recurrent/recurrent/cell_0/kernel:0"]
            file["model_weights/recurrent/recurrent/cell_0/kernel:0"] = link
        with pytest.raises(fc.UnsupportedError, match="kernel:0: links are not supported"):
            fc.from_keras(path)

    def test_values_beyond_float32(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="kernel:0: a value is beyond float32"):
            fc.from_keras(self.changed(tmp_path, data=np.full((3, 16), 1e300)))

    def test_weights_that_are_not_there_or_others(self, tmp_path: Path) -> None:
        path = write_case(tmp_path / "m.h5", LSTM)
        with h5py.File(path, "a") as file:
            layer = file["model_weights/recurrent"]
            names = list(layer.attrs["weight_names"])
            for wrong, message in (
                (names[:2], "expected its bias, found ''"),
                ([names[1], names[0], names[2]], "expected its kernel, found 'recurrent/cell_0/recurrent_kernel:0'"),
                ([b"/model_weights/kernel"], "/model_weights/kernel: the dataset is missing"),
                ([b"../kernel"], r"\.\./kernel: the dataset is missing"),
                ([b"kernel\xff"], "expected its kernel, found 'kernel"),
                ([1, 2, 3], "attribute weight_names: .*expected a list of texts"),
                (b"kernel", "attribute weight_names: .*expected a list of texts"),
            ):
                layer.attrs["weight_names"] = wrong
                file.flush()
                with pytest.raises(ValueError, match=message):
                    fc.from_keras(path)

    def test_directions_in_the_other_order(self, tmp_path: Path) -> None:
        """As Keras 2 writes a Bidirectional layer whose forward layer alone is frozen."""
        path = write_case(tmp_path / "m.h5", KerasCase([KerasCell("LSTM", 4)], version=2, merge_mode="concat"))
        with h5py.File(path, "a") as file:
            layer = file["model_weights/recurrent"]
            cells = ("backward_lstm/lstm_cell_2", "forward_lstm/lstm_cell_1")
            for index, cell in enumerate(cells):
                layer.move(f"recurrent/cell_{index}", f"recurrent/{cell}")
            roles = ("kernel", "recurrent_kernel", "bias")
            names = [f"recurrent/{cell}/{role}:0" for cell in cells for role in roles]
            layer.attrs["weight_names"] = [*names[3:], *names[:3]]
            file.flush()
            fc.from_keras(path)
            layer.attrs["weight_names"] = names
        with pytest.raises(fc.UnsupportedError, match=r"'recurrent/backward_lstm/.*' comes first, so .* not in order"):
            fc.from_keras(path)

    @pytest.mark.parametrize("config", ["[]", "{", "[" * 100_000, '{"class_name": 3}', '{"class_name": "Sequential"}'])
    def test_configurations_that_are_none(self, tmp_path: Path, config: str) -> None:
        path = write_case(tmp_path / "m.h5", LSTM)
        with h5py.File(path, "a") as file:
            del file.attrs["model_config"]
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(h5py.get_config(), "track_order", True)  # so that an attribute may have over 64 KiB
                file.attrs["model_config"] = config[:60_000]
        with pytest.raises(ValueError, match=r"m\.h5: "):
            fc.from_keras(path)

    def test_models_in_models_without_end(self, tmp_path: Path) -> None:
        model = sequential([LSTM.item()])
        for _ in range(60):
            model = {"class_name": "Functional", "config": {"name": "m", "layers": [model]}}
        with pytest.raises(fc.UnsupportedError, match="models nested more than 50 deep"):
            fc.from_keras(write_keras(tmp_path / "m.keras", model, {}))

    def test_compressed_archives(self, tmp_path: Path) -> None:
        path = write_keras(tmp_path / "m.keras", sequential([LSTM.item()]), {}, compression=zipfile.ZIP_DEFLATED)
        with pytest.raises(fc.UnsupportedError, match=r"metadata\.json in it is compressed"):
            fc.from_keras(path)

    @pytest.mark.parametrize("name", ["metadata.json", "config.json", "model.weights.h5"])
    def test_archives_without_a_part(self, tmp_path: Path, name: str) -> None:
        with zipfile.ZipFile(write_case(tmp_path / "m.keras", LSTM)) as archive:
            parts = {part: archive.read(part) for part in archive.namelist() if part != name}
        with zipfile.ZipFile(tmp_path / "n.keras", "w") as archive:
            for part, data in parts.items():
                archive.writestr(part, data)
        with pytest.raises(ValueError, match=f"not a .keras file: there is no {name} in it"):
            fc.from_keras(tmp_path / "n.keras")

    def test_the_weights_of_another_layer(self, tmp_path: Path) -> None:
        path = write_case(tmp_path / "m.keras", LSTM)
        with zipfile.ZipFile(path) as archive:
            parts = {part: archive.read(part) for part in archive.namelist()}
        (tmp_path / "weights").write_bytes(parts["model.weights.h5"])
        with h5py.File(tmp_path / "weights", "a") as file:
            file.create_group("layers/lstm/vars").attrs["name"] = "another"
        parts["model.weights.h5"] = (tmp_path / "weights").read_bytes()
        with zipfile.ZipFile(path, "w") as archive:
            for part, data in parts.items():
                archive.writestr(part, data)
        with pytest.raises(ValueError, match="expected the weights of layer 'recurrent', found those of 'another'"):
            fc.from_keras(path)
