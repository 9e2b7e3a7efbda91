"""Layers of unlucky names, models in models, and the layout of weights in the files of each version of Keras."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fusedcell as fc
from drawn import examples
from keras_models import KerasCase, KerasCell, sequential, write_case, write_h5, write_keras
from models import uniform
from test_keras_files import assert_close

h5py: Any = pytest.importorskip("h5py")

X = uniform(4, 2, 5, 3)
OLD = "_layer_checkpoint_dependencies"
CELL = KerasCell("LSTM", 4)
WEIGHTLESS = {
    "class_name": "Sequential",
    "config": {"name": "flat", "layers": [{"class_name": "Flatten", "config": {}}]},
}


def case_of(seed: int, version: int = 2, **options: Any) -> KerasCase:
    return KerasCase([CELL], version=version, seed=seed, **options)


def arrays_of(case: KerasCase) -> Mapping[str, np.ndarray]:
    return case.arrays()[0][0]


def model_in(class_name: str, name: str, *items: Mapping[str, Any]) -> dict[str, Any]:
    return {"class_name": class_name, "config": {"name": name, "layers": list(items)}}


def time_distributed(name: str, item: Mapping[str, Any]) -> dict[str, Any]:
    return {"class_name": "TimeDistributed", "config": {"name": name, "layer": item}}


def write_named(path: Path, model: Mapping[str, Any], weights: Mapping[str, Sequence[tuple[str, Any]]]) -> Path:
    """An ``.h5`` file of Keras 2: for each outermost layer its weights by their full names, which have its kernels."""
    write_h5(path, model, {}, "2.15.0")
    with h5py.File(path, "a") as file:
        for layer, arrays in weights.items():
            group = file["model_weights"].require_group(layer)
            names = []
            for scope, cell in arrays:
                for role, array in cell.items():
                    names.append(f"{scope}{role}:0")
                    if names[-1] not in group:
                        group.create_dataset(names[-1], data=array)
            group.attrs["weight_names"] = [name.encode() for name in names]
    return path


def assert_reads(path: Path, expected: Mapping[str, KerasCase]) -> None:
    for name, case in expected.items():
        assert_close(fc.from_keras(path, name, keras_output=True)(X), case.expected(X))


NAME = st.lists(
    st.sampled_from(["a", "b", "lstm", "forward_a", "backward_b", "my lstm", "cell"]), min_size=1, max_size=3
)


@settings(max_examples=examples(12))
@given(parts=st.lists(NAME, min_size=2, max_size=2, unique_by="/".join), bidirectional=st.booleans())
def test_names_with_slashes_in_h5_files_of_keras_2(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[str]], bidirectional: bool
) -> None:
    """HDF5 has a group in a group for them."""
    names = ["/".join(each) for each in parts]
    first = case_of(1, merge_mode="concat" if bidirectional else "")
    cases = {names[0]: first, names[1]: case_of(2)}
    weights = {}
    for name, case in cases.items():
        inner = [f"{name}/{way}_{name}" for way in ("forward", "backward")] if case.bidirectional else [name]
        cells = [direction[0] for direction in case.arrays()]
        weights[name] = [(f"{scope}/lstm_cell/", cell) for scope, cell in zip(inner, cells, strict=True)]
    model = sequential([case.item(name) for name, case in cases.items()], 2)
    assert_reads(write_named(tmp_path_factory.mktemp("keras") / "m.h5", model, weights), cases)


@pytest.mark.parametrize("name", ["a//b", "a/./b", "a/"])
def test_names_that_hdf5_takes_for_shorter_ones(tmp_path: Path, name: str) -> None:
    case = case_of(1)
    path = write_named(tmp_path / "m.h5", sequential([case.item(name)]), {name: [(f"{name}/cell/", arrays_of(case))]})
    assert_reads(path, {name: case})


def test_directions_of_slashed_names_in_the_other_order(tmp_path: Path) -> None:
    case = case_of(1, merge_mode="concat")
    forward, backward = (direction[0] for direction in case.arrays())
    item = case.item("bi/x")
    scopes = [("bi/x/backward_forward_a/b/cell/", backward), ("bi/x/forward_forward_a/b/cell/", forward)]
    with pytest.raises(fc.UnsupportedError, match="comes first, so its weights are not in order"):
        fc.from_keras(write_named(tmp_path / "m.h5", sequential([item]), {"bi/x": scopes}))
    assert_reads(write_named(tmp_path / "m.h5", sequential([item]), {"bi/x": scopes[::-1]}), {"bi/x": case})


class TestModelsInModels:
    @pytest.mark.parametrize(
        ("version", "groups"),
        [
            (
                "2.13.1",
                (f"{OLD}/sequential/{OLD}/lstm", f"{OLD}/sequential_2/{OLD}/lstm", f"{OLD}/sequential_2/{OLD}/lstm_2"),
            ),
            (
                "2.14.0",
                (f"{OLD}/sequential/{OLD}/lstm", f"{OLD}/sequential_1/{OLD}/lstm", f"{OLD}/sequential_1/{OLD}/lstm_1"),
            ),
            (
                "2.15.0",
                (
                    "layers/sequential/layers/lstm",
                    "layers/sequential_1/layers/lstm",
                    "layers/sequential_1/layers/lstm_1",
                ),
            ),
            (
                "3.0.0",
                (
                    "layers/sequential/layers/lstm",
                    "layers/sequential_1/layers/lstm",
                    "layers/sequential_1/layers/lstm_1",
                ),
            ),
        ],
    )
    def test_one_name_in_several_of_a_keras_file(self, tmp_path: Path, version: str, groups: tuple[str, ...]) -> None:
        cases = [case_of(seed, int(version[0])) for seed in (1, 2, 3)]
        first = model_in("Sequential", "one", cases[0].item("lstm"))
        second = model_in("Sequential", "two", cases[1].item("lstm"), cases[2].item("other"))
        weights = {f"{group}/cell": arrays_of(case) for group, case in zip(groups, cases, strict=True)}
        path = write_keras(tmp_path / "m.keras", model_in("Functional", "m", first, second), weights, version)
        assert_reads(path, dict(zip(("one/lstm", "two/lstm", "two/other"), cases, strict=True)))

    def test_one_name_in_several_of_an_h5_file(self, tmp_path: Path) -> None:
        one, two, out = (case_of(seed) for seed in (1, 2, 3))
        model = model_in(
            "Functional",
            "m",
            model_in("Sequential", "one", one.item("lstm"), {"class_name": "Dense", "config": {"name": "d"}}),
            model_in("Functional", "two", two.item("lstm")),
            out.item("lstm"),
        )
        dense = {"kernel": np.ones((4, 1)), "bias": np.ones(1)}
        weights = {
            "one": [("lstm/lstm_cell/", arrays_of(one)), ("d/", dense)],
            "two": [("two/lstm/lstm_cell/", arrays_of(two))],
            "lstm": [("lstm/lstm_cell/", arrays_of(out))],
        }
        expected = {"one/lstm": one, "two/lstm": two, "lstm": out}
        assert_reads(write_named(tmp_path / "m.h5", model, weights), expected)

    def test_weights_without_a_layers_name(self, tmp_path: Path) -> None:
        """As Keras 3.0 writes them, where a model has one layer alone."""
        case = case_of(1, 3)
        model = model_in("Functional", "m", model_in("Sequential", "one", case.item("lstm")))
        assert_reads(write_named(tmp_path / "m.h5", model, {"one": [("", arrays_of(case))]}), {"one/lstm": case})

    @pytest.mark.parametrize(
        "scopes",
        [
            ("lstm/lstm_cell/", "lstm/lstm_cell_1/"),
            ("lstm/", "a/lstm/"),
            ("x/", "y/"),
        ],
    )
    def test_weights_that_two_layers_may_have(self, tmp_path: Path, scopes: tuple[str, str]) -> None:
        first, second = case_of(1), case_of(2)
        deep = model_in("Sequential", "b", model_in("Sequential", "a", second.item("lstm")))
        model = model_in("Functional", "m", model_in("Sequential", "out", first.item("lstm"), deep))
        weights = {"out": [(scopes[0], arrays_of(first)), (scopes[1], arrays_of(second))]}
        path = write_named(tmp_path / "m.h5", model, weights)
        for name in ("out/lstm", "out/b/a/lstm"):
            if scopes[1] == "a/lstm/" and name == "out/b/a/lstm":
                continue
            with pytest.raises(
                fc.UnsupportedError, match=r"whose weights are not told from others .* saved as \.keras"
            ):
                fc.from_keras(path, name)

    def test_a_file_that_lacks_weights_of_one_name(self, tmp_path: Path) -> None:
        """As Keras 3.0 leaves it after an error: one dataset would stand for both directions."""
        case = case_of(1, 3, merge_mode="concat")
        forward, backward = (direction[0] for direction in case.arrays())
        path = write_named(tmp_path / "m.h5", sequential([case.item("bi")]), {"bi": [("", forward), ("", backward)]})
        with pytest.raises(ValueError, match="the weights of 'bi' have one name twice, so the file lacks some"):
            fc.from_keras(path)

    @pytest.mark.parametrize("suffix", [".keras", ".h5"])
    def test_time_distributed_models_and_layers(self, tmp_path: Path, suffix: str) -> None:
        deep, plain = case_of(1), case_of(2)
        model = model_in(
            "Functional",
            "m",
            time_distributed("td", model_in("Sequential", "inner", deep.item("lstm"))),
            time_distributed("td_1", plain.item("lstm")),
        )
        if suffix == ".h5":
            weights = {"td": [("lstm/cell/", arrays_of(deep))], "td_1": [("td_1/cell/", arrays_of(plain))]}
            path = write_named(tmp_path / "m.h5", model, weights)
        else:
            groups = {
                "layers/time_distributed/layer/layers/lstm/cell": arrays_of(deep),
                "layers/time_distributed_1/layer/cell": arrays_of(plain),
            }
            path = write_keras(tmp_path / "m.keras", model, groups, "2.15.0")
        assert_reads(path, {"td/inner/lstm": deep, "td_1/lstm": plain})

    def test_a_layer_and_a_model_of_one_name_are_told_apart_or_refused(self, tmp_path: Path) -> None:
        slashed, nested = case_of(1), case_of(2)
        model = model_in("Functional", "m", slashed.item("a/b"), model_in("Sequential", "a", nested.item("b")))
        path = write_named(tmp_path / "m.h5", model, {"a/b": [("a/b/", arrays_of(slashed))]})
        with pytest.raises(ValueError, match="name: 2 recurrent layers are called 'a/b'"):
            fc.from_keras(path, "a/b")

    @pytest.mark.parametrize("wrapped", [None, 3, {}, {"class_name": 3}])
    def test_wrappers_of_nothing(self, tmp_path: Path, wrapped: Any) -> None:
        path = write_h5(tmp_path / "m.h5", sequential([time_distributed("td", wrapped)]), {}, "3.4.1")
        with pytest.raises(ValueError, match="expected a serialized layer"):
            fc.from_keras(path)

    def test_wrappers_in_wrappers_without_end(self, tmp_path: Path) -> None:
        item: Mapping[str, Any] = case_of(1).item()
        for _ in range(60):
            item = time_distributed("td", item)
        path = write_h5(tmp_path / "m.h5", sequential([item]), {}, "3.4.1")
        with pytest.raises(fc.UnsupportedError, match="models nested more than 50 deep"):
            fc.from_keras(path)


class TestLayouts:
    @pytest.mark.parametrize("version", ["2.12.0", "2.13.1", "2.14.0", "2.15.0", "2.18.0", "3.0.0"])
    def test_layers_of_one_class_are_numbered_as_the_version_does(self, tmp_path: Path, version: str) -> None:
        cases = [case_of(seed, int(version[0])) for seed in (1, 2, 3)]
        container = OLD if version in ("2.12.0", "2.13.1", "2.14.0") else "layers"
        step = 2 if version in ("2.12.0", "2.13.1") else 1
        items = [case.item(f"lstm_{i}") for i, case in enumerate(cases)]
        groups = {
            f"{container}/lstm{f'_{i * step}' if i else ''}/cell": arrays_of(case) for i, case in enumerate(cases)
        }
        path = write_keras(tmp_path / "m.keras", sequential([WEIGHTLESS, *items]), groups, version)
        assert_reads(path, {f"lstm_{i}": case for i, case in enumerate(cases)})

    @pytest.mark.parametrize("version", ["2.12.0", "2.13.1"])
    def test_models_without_weights_count_once_in_the_first_versions(self, tmp_path: Path, version: str) -> None:
        cases = [case_of(seed) for seed in (1, 2)]
        models = [WEIGHTLESS, *(model_in("Sequential", f"m{i}", case.item("lstm")) for i, case in enumerate(cases))]
        groups = {f"{OLD}/sequential_{2 * i + 1}/{OLD}/lstm/cell": arrays_of(case) for i, case in enumerate(cases)}
        path = write_keras(tmp_path / "m.keras", model_in("Functional", "m", *models), groups, version)
        assert_reads(path, {f"m{i}/lstm": case for i, case in enumerate(cases)})

    @pytest.mark.parametrize("version", ["2.14.0", "2.15.0"])
    def test_layers_that_models_share_are_not_mistaken(self, tmp_path: Path, version: str) -> None:
        """These versions leave out what is saved elsewhere, and number what is left."""
        shared, own = case_of(1), case_of(2)
        container = OLD if version == "2.14.0" else "layers"
        inner = model_in("Sequential", "inner", shared.item("shared"), own.item("own"))
        groups = {
            f"{container}/lstm/cell": arrays_of(shared),
            f"{container}/sequential/{container}/lstm/cell": arrays_of(own),
        }
        path = write_keras(
            tmp_path / "m.keras", model_in("Functional", "m", shared.item("shared"), inner), groups, version
        )
        assert_reads(path, {"shared": shared})
        for name in ("inner/shared", "inner/own"):
            with pytest.raises(fc.UnsupportedError, match=f"'{name}': the file has no .* the same model saved as .h5"):
                fc.from_keras(path, name)

    @pytest.mark.parametrize("suffix", [".keras", ".h5"])
    @pytest.mark.parametrize("form", ["layer", "stacked"])
    def test_the_modules_that_the_first_versions_of_keras_3_name(self, tmp_path: Path, form: str, suffix: str) -> None:
        """They are those where the classes are defined."""
        case = KerasCase([CELL], form=form, merge_mode="concat")
        text = json.dumps(case.item())
        modules = {"LSTM": "lstm", "LSTMCell": "lstm", "RNN": "rnn", "StackedRNNCells": "stacked_rnn_cells"}
        for name, module in {**modules, "Bidirectional": "bidirectional"}.items():
            old = f'"module": "keras.src.layers.rnn.{module}", "class_name": "{name}"'
            text = text.replace(f'"module": "keras.layers", "class_name": "{name}"', old)
        assert "keras.layers" not in text
        item = json.loads(text, object_hook=lambda found: _registered(found))
        path = write_case(tmp_path / f"m{suffix}", case, "3.0.1", sequential([item]))
        assert_reads(path, {"recurrent": case})

    @pytest.mark.parametrize("version", ["2.13.1", "2.15.0"])
    def test_cudnn_layers_have_no_group_for_a_cell(self, tmp_path: Path, version: str) -> None:
        plain = arrays_of(case_of(1))
        square = {"kernel": np.eye(4, 16, dtype=np.float32), "recurrent_kernel": np.zeros((4, 16), np.float32)}
        arrays = {**square, "bias": np.concatenate([plain["bias"], np.zeros(16, np.float32)])}
        item = {"class_name": "CuDNNLSTM", "config": {"name": "recurrent", "units": 4}}
        container = OLD if version == "2.13.1" else "layers"
        path = write_keras(tmp_path / "m.keras", sequential([item]), {f"{container}/cu_dnnlstm": arrays}, version)
        y = fc.from_keras(path, keras_output=True)(np.zeros((1, 1, 4), np.float32))
        i, _, c, o = np.split(plain["bias"].astype(np.float64), 4)
        gate = lambda v: 1 / (1 + np.exp(-v))  # noqa: E731 - the formula as it is written
        assert_close(y, [(gate(o) * np.tanh(gate(i) * np.tanh(c)))[None]])


def _registered(found: dict[str, Any]) -> dict[str, Any]:
    return {**found, "registered_name": found["class_name"]} if "registered_name" in found else found


class TestFolders:
    def test_a_saved_model(self, tmp_path: Path) -> None:
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "saved_model.pb").write_bytes(b"\x08\x01")
        message = (
            r"model: a SavedModel, .* is not supported; supported: files of model\.save\(\), .*save\('model\.h5'\)"
        )
        with pytest.raises(fc.UnsupportedError, match=message):
            fc.from_keras(tmp_path / "model")

    def test_another(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"expected a file of model\.save\(\), as \.keras or \.h5, got a folder"):
            fc.from_keras(tmp_path)
