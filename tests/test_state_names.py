"""State dictionaries under the names that programs give them, and weights that are kept in parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fusedcell as fc
from drawn import examples
from models import KIND, flat, uniform

CLASSES: dict[str, Any] = {"lstm": fc.LSTM, "gru_reset_after": fc.GRU, "rnn_tanh": fc.RNN}
KINDS = st.sampled_from(list(CLASSES))
WORDS = st.text("abXY_019é-", min_size=1, max_size=6)
PREFIXES = st.lists(WORDS, max_size=4).map(lambda parts: "".join(f"{part}." for part in parts))
WRAPPERS = ["module.", "model.", "_orig_mod.", "net.", "module._orig_mod.model."]
pytestmark = [pytest.mark.core, pytest.mark.any_cpu]


def weights(kind: str, **options: Any) -> dict[str, Any]:
    return KIND[kind].weights(3, 4, **options)


def prefixed(mapping: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {prefix + name: array for name, array in mapping.items()}


def same(actual: Any, expected: Any) -> None:
    x = uniform(5, 6, 2, 3)
    for a, e in zip(flat(actual(x)), flat(expected(x)), strict=True):
        np.testing.assert_array_equal(a, e)


@settings(max_examples=examples(60))
@given(kind=KINDS, prefix=PREFIXES, data=st.data())
def test_a_prefix_is_found_with_and_without_its_dot_and_in_dictionaries_within(
    kind: str, prefix: str, data: st.DataObject
) -> None:
    make, module = CLASSES[kind].from_state_dict, weights(kind)
    state = {"head.weight": np.ones(2), **prefixed(module, prefix)} if prefix else module
    keys = data.draw(st.lists(WORDS, max_size=3))
    nested: dict[Any, Any] = state
    for key in reversed(keys):
        nested = {"epoch": 3, key: nested, "optimizer": {"state": {0: {"step": 1}}}}
    expected = make(module)
    for given_prefix in {prefix, prefix.removesuffix(".")}:
        same(make(nested, given_prefix), expected)
        whole = "".join(f"{key}." for key in keys) + given_prefix
        same(make(nested, whole), expected)


@pytest.mark.parametrize("value", [{}, {1: 2}, {"a": {}}, {"a": np.ones(8)}], ids=["empty", "number", "deep", "array"])
@pytest.mark.parametrize("prefix", ["", "lstm."])
def test_a_dictionary_in_the_place_of_an_array_is_refused(value: dict[Any, Any], prefix: str) -> None:
    broken = prefixed(weights("lstm"), prefix) | {f"{prefix}bias_ih_l0": value}
    for path, mapping in (("", broken), ("net.", {"net": broken})):
        message = f"^mapping: '{path}{prefix}bias_ih_l0': expected an array of floats, got a mapping$"
        with pytest.raises(TypeError, match=message):
            fc.LSTM.from_state_dict(mapping, prefix)


@pytest.mark.parametrize("path", ["", "net."])
def test_a_dictionary_that_is_there_twice_is_seen_at_both_places(path: str) -> None:
    empty: dict[str, Any] = {}
    broken = {"hparams": empty, **prefixed(weights("lstm"), "lstm."), "lstm.bias_ih_l0": empty}
    with pytest.raises(TypeError, match=f"^mapping: '{path}lstm.bias_ih_l0': expected an array of floats, got a map"):
        fc.LSTM.from_state_dict({path[:-1]: broken} if path else broken, "lstm")
    module = prefixed(weights("lstm"), "lstm.")
    cyclic = {"model": module, "ema": module}
    cyclic["again"] = cyclic
    for prefix in ("lstm", "model.lstm.", "ema.lstm", "again.ema.lstm", "again.again.model.lstm."):
        same(fc.LSTM.from_state_dict(cyclic, prefix), fc.LSTM.from_state_dict(weights("lstm")))


@pytest.mark.parametrize("wrapper", ["", "state_dict."])
def test_dictionaries_in_the_place_of_all_arrays_are_refused(wrapper: str) -> None:
    flax = {name: {"value": array} for name, array in weights("lstm").items()}
    empty: dict[str, Any] = {name: {} for name in weights("lstm")}
    for mapping in (empty, flax):
        with pytest.raises(TypeError, match=r"_l0': expected an array of floats, got a mapping$"):
            fc.LSTM.from_state_dict({"state_dict": mapping} if wrapper else mapping)


def test_dictionaries_elsewhere_may_have_the_names_of_arrays() -> None:
    module = prefixed(weights("lstm"), "lstm.")
    optimizer = {"state": {name: {"step": 1} for name in module}}
    same(fc.LSTM.from_state_dict(module | {"optimizer": optimizer}, "lstm."), fc.LSTM.from_state_dict(module, "lstm."))


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_wrong_prefix_is_told_those_there_are(wrapper: str) -> None:
    state = prefixed(weights("lstm"), f"{wrapper}lstm.") | prefixed(weights("gru_reset_after"), f"{wrapper}dec.gru.")
    state[f"{wrapper}head.weight"] = np.ones((2, 2))
    listing = rf"recurrent weights here: '{wrapper}lstm\.', '{wrapper}dec\.gru\.'$"
    for prefix in ("", "lstm.", "lstm", "decoder.", "dec", wrapper):
        with pytest.raises(ValueError, match=listing):
            fc.LSTM.from_state_dict(state, prefix)
    same(fc.LSTM.from_state_dict(state, f"{wrapper}lstm"), fc.LSTM.from_state_dict(weights("lstm")))


def test_a_prefix_that_is_in_two_dictionaries_is_refused_and_each_can_be_named() -> None:
    other = {name: array / 2 for name, array in weights("lstm").items()}
    state = {"model": prefixed(weights("lstm"), "lstm."), "ema": prefixed(other, "lstm.")}
    with pytest.raises(ValueError, match=r"'lstm.' is in 2 dictionaries; .* here: 'model.lstm.', 'ema.lstm.'"):
        fc.LSTM.from_state_dict(state, "lstm.")
    same(fc.LSTM.from_state_dict(state, "ema.lstm."), fc.LSTM.from_state_dict(other))
    top = state | prefixed(other, "lstm.")
    same(fc.LSTM.from_state_dict(top, "lstm."), fc.LSTM.from_state_dict(other))
    with pytest.raises(ValueError, match=r"'a.lstm.weight_hh_l0' is there twice"):
        fc.LSTM.from_state_dict({"a": prefixed(other, "lstm."), "a.lstm.weight_hh_l0": other["weight_hh_l0"]}, "lstm")


def test_dictionaries_that_hold_each_other_come_to_an_end() -> None:
    state: dict[str, Any] = prefixed(weights("lstm"), "lstm.")
    state["self"] = state
    wide: dict[str, Any] = state
    for _ in range(40):
        wide = {"a": wide, "b": wide}
    same(fc.LSTM.from_state_dict(state, "lstm."), fc.LSTM.from_state_dict(weights("lstm")))
    with pytest.raises(ValueError, match="no recurrent weights here"):
        fc.LSTM.from_state_dict(wide, "lstm.")


def test_what_is_no_state_dictionary_or_prefix_says_what_is() -> None:
    with pytest.raises(TypeError, match="prefix: expected a string, got NoneType"):
        fc.LSTM.from_state_dict(weights("lstm"), None)  # type: ignore[arg-type] # wrong on purpose
    with pytest.raises(ValueError, match=r"there are no recurrent weights here, but 'conv.weight'"):
        fc.LSTM.from_state_dict({"conv.weight": np.ones(2)}, "lstm.")
    cell = {name.removesuffix("_l0"): array for name, array in weights("gru_reset_after").items()}
    with pytest.raises(fc.UnsupportedError, match=r"'c.weight_hh' is an array of a cell, .* use fusedcell.GRUCell"):
        fc.GRU.from_state_dict(prefixed(cell, "c."), "c.")
    with pytest.raises(ValueError, match=r"recurrent weights here: 'c\.' \(a cell\)"):
        fc.GRU.from_state_dict(prefixed(cell, "c."), "gru.")


CELLS: dict[str, Any] = {"lstm": fc.LSTMCell, "gru_reset_after": fc.GRUCell, "rnn_tanh": fc.RNNCell}


@pytest.mark.parametrize("kind", CELLS)
def test_a_cell_is_read_by_its_names_and_steps_as_it_does_of_its_arrays(kind: str) -> None:
    arrays = {name.removesuffix("_l0"): array for name, array in weights(kind).items()}
    state = {"epoch": 3, "state_dict": {"head.weight": np.ones(2), **prefixed(arrays, "dec.cell.")}}
    expected = CELLS[kind](**arrays)
    x = uniform(6, 2, 3)
    for cell in (CELLS[kind].from_state_dict(arrays), CELLS[kind].from_state_dict(state, "dec.cell")):
        for ours, theirs in zip(flat((cell(x),)), flat((expected(x),)), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        assert cell.output_size == 4
    g, v = np.linalg.norm(arrays["weight_hh"], axis=1, keepdims=True), arrays["weight_hh"]
    parts = {name: array for name, array in arrays.items() if name != "weight_hh"}
    normed = CELLS[kind].from_state_dict(parts | {"weight_hh_g": g, "weight_hh_v": v}, isa="scalar", dtype="float16")
    assert (normed.isa, normed.dtype) == ("scalar", "float16")


def test_options_of_a_cell_go_with_its_state_dictionary() -> None:
    arrays = {name.removesuffix("_l0"): array for name, array in weights("gru_reset_after").items()}
    assert not fc.GRUCell.from_state_dict(arrays, reset_after=False).reset_after
    plain = {name.removesuffix("_l0"): array for name, array in weights("rnn_tanh").items()}
    assert fc.RNNCell.from_state_dict(plain, nonlinearity="relu").nonlinearity == "relu"


def test_what_is_no_cell_is_refused() -> None:
    with pytest.raises(fc.UnsupportedError, match=r"'weight_hh_l0' is an array of a layer; .* use fusedcell.LSTM.from"):
        fc.LSTMCell.from_state_dict(weights("lstm"))
    arrays = {name.removesuffix("_l0"): array for name, array in weights("lstm").items()}
    with pytest.raises(ValueError, match=r"which has four gates: use fusedcell.LSTMCell"):
        fc.GRUCell.from_state_dict(arrays)
    with pytest.raises(
        fc.UnsupportedError, match=r"'c.weight_hr' is not an array of this cell; supported: weight_ih, "
    ):
        fc.GRUCell.from_state_dict(prefixed(arrays | {"weight_hr": np.ones(1)}, "c."), "c.")


GATES = {"lstm": ("LSTM", "four gates"), "gru_reset_after": ("GRU", "three gates"), "rnn_tanh": ("RNN", "one gate")}


@pytest.mark.parametrize("given_kind", CLASSES)
@pytest.mark.parametrize("asked", CLASSES)
def test_another_kind_of_weights_is_told_its_class(given_kind: str, asked: str) -> None:
    name, gates = GATES[given_kind]
    if given_kind == asked:
        return
    for layers in (1, 2):
        with pytest.raises(ValueError, match=rf"weight_hh_l0: .*, which has {gates}: use fusedcell.{name}$"):
            CLASSES[asked].from_state_dict(weights(given_kind, layers=layers))
    cell = {each.removesuffix("_l0"): array for each, array in weights(given_kind).items()}
    with pytest.raises(ValueError, match=rf"weight_hh: .*, which has {gates}: use fusedcell.{name}Cell$"):
        KIND[asked].cell(**cell)


@pytest.mark.parametrize("lost", ["_l1", "_l1_reverse", "_l0_reverse", "_reverse", "_l0"])
@pytest.mark.parametrize("kind", CLASSES)
def test_layers_and_directions_lost_on_the_way_are_missed(kind: str, lost: str) -> None:
    state = weights(kind, layers=3, directions=2)
    left = {name: array for name, array in state.items() if not name.endswith(lost)}
    assert len(left) < len(state)
    with pytest.raises(ValueError, match="missing"):
        CLASSES[kind].from_state_dict(left)
    if lost == "_reverse":
        with pytest.raises(
            ValueError, match=r"x.weight_ih_l1 of shape .* takes both directions .* _reverse are missing"
        ):
            CLASSES[kind].from_state_dict(prefixed(left, "x."), "x.")
    one_direction = weights(kind, layers=3)
    gap = {name: array for name, array in one_direction.items() if not name.endswith("_l1")}
    with pytest.raises(ValueError, match=r"_hh_l1 is missing, got arrays of _l0, _l2$"):
        CLASSES[kind].from_state_dict(gap)


SIZES = st.integers(1, 7)


@settings(max_examples=examples(60))
@given(rows=SIZES, columns=SIZES, axis=st.sampled_from([0, 1, None]), seed=st.integers(0, 999), form=st.booleans())
def test_weight_norm_is_its_formula_in_float64(
    rows: int, columns: int, axis: int | None, seed: int, form: bool
) -> None:
    state: dict[str, Any] = {
        "weight_ih_l0": uniform(seed, rows, columns),
        "weight_hh_l0": uniform(seed + 1, rows, rows),
    }
    v = state.pop("weight_ih_l0") + np.float32(0.01)
    shape = () if axis is None else (rows, 1) if axis == 0 else (1, columns)
    g = uniform(seed + 2, *shape) if shape else np.asarray(np.float32(seed / 500 - 1))
    names = ("parametrizations.weight_ih_l0.original0", "parametrizations.weight_ih_l0.original1")
    state |= dict(zip(names if form else ("weight_ih_l0_g", "weight_ih_l0_v"), (g, v), strict=True))
    layer = fc.RNN.from_state_dict(prefixed(state, "rnn."), "rnn.")
    wide = v.astype(np.float64)
    norms = np.linalg.norm(wide, axis=None if axis is None else 1 - axis, keepdims=True)
    expected = (wide * g / norms).astype(np.float32)
    actual = layer._stack.arrays()[0]["weight_ih"]
    np.testing.assert_allclose(actual, expected, rtol=2**-23, atol=0)


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        (
            {"weight_hh_l0_g": (12, 1)},
            fc.UnsupportedError,
            "weight_hh_l0 is computed of 'a.weight_hh_l0_g', which do not",
        ),
        (
            {"weight_hh_l0_orig": (12, 4), "weight_hh_l0_u": (12,), "weight_hh_l0_v": (4,)},
            fc.UnsupportedError,
            "spectral",
        ),
        (
            {"parametrizations.weight_hh_l0.original": (12, 4), "parametrizations.weight_hh_l0.0._u": (12,)},
            fc.UnsupportedError,
            "'a.parametrizations.weight_hh_l0.original', which do not say how; .*remove_parametrizations.*from_torch",
        ),
        (
            {"parametrizations.weight_hh_l0.original0": (12, 2), "parametrizations.weight_hh_l0.original1": (2, 4)},
            ValueError,
            r"weight_hh_l0: a magnitude of shape \(12, 2\) does not fit a direction of \(2, 4\)",
        ),
        ({"weight_hh_l0_g": (4, 1), "weight_hh_l0_v": (12, 4)}, ValueError, "does not fit a direction"),
        ({"weight_hh_l0_orig": (12, 4), "weight_hh_l0_mask": (4, 4)}, ValueError, r"a mask of shape \(4, 4\)"),
        (
            {"weight_hh_l0_g": (12, 1), "weight_hh_l0_v": (12, 4), "weight_hh_l0": (12, 4)},
            fc.UnsupportedError,
            "not say",
        ),
    ],
)
def test_parts_that_do_not_make_a_weight_are_refused_by_name(
    parts: dict[str, tuple[int, ...]], error: type[Exception], message: str
) -> None:
    state = weights("gru_reset_after")
    del state["weight_hh_l0"]
    state |= {name: np.ones(shape, np.float32) for name, shape in parts.items()}
    with pytest.raises(error, match=message):
        fc.GRU.from_state_dict(prefixed(state, "a."), "a.")


def test_a_direction_of_no_length_is_refused() -> None:
    state = weights("gru_reset_after")
    v = state.pop("weight_hh_l0")
    for value in (0, np.nan, np.inf):
        v[3] = value
        parts = {"weight_hh_l0_g": np.ones((12, 1), np.float32), "weight_hh_l0_v": v}
        with pytest.raises(ValueError, match="weight_hh_l0: expected directions that are finite and not zero"):
            fc.GRU.from_state_dict(state | parts)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1e300])
@pytest.mark.parametrize("ends", [("_g", "_v"), ("_mask", "_orig")])
def test_parts_of_a_weight_that_is_not_finite_are_refused_by_its_name_alone(
    value: float, ends: tuple[str, str]
) -> None:
    state = weights("gru_reset_after")
    v = state.pop("weight_hh_l0")
    v[:, 0] = 0  # which times infinity is NaN, of which NumPy would warn
    parts = {ends[0]: np.full((12, 1) if ends[0] == "_g" else v.shape, value, np.float64), ends[1]: v}
    with pytest.raises(ValueError, match=r"weight_hh_l0: (expected finite values|a value is beyond float32)"):
        fc.GRU.from_state_dict(state | {f"weight_hh_l0{end}": part for end, part in parts.items()})


def test_load_says_who_reads_the_files_of_others(tmp_path: Path) -> None:
    pytest.importorskip("safetensors", minversion="0.8")
    from safetensors.numpy import save_file

    for name, reader in (
        ("m.pt", r"fusedcell.LSTM.from_state_dict\(path, 'lstm.'\)"),
        ("m.CKPT", r"fusedcell.LSTM.from_state_dict\(path, 'lstm.'\)"),
        ("m.keras", "fusedcell.from_keras"),
        ("m.h5", "fusedcell.from_keras"),
        ("m.onnx", "fusedcell.from_onnx"),
    ):
        (tmp_path / name).write_bytes(b"PK\x03\x04 something else")
        with pytest.raises(ValueError, match=rf"{name}: not a safetensors file: .*; read .* with {reader}"):
            fc.load(tmp_path / name)
    save_file(weights("lstm"), tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"not written by fusedcell.save: .* fusedcell.LSTM.from_state_dict\(path"):
        fc.load(tmp_path / "a.safetensors")


def test_load_advises_nothing_that_it_does_not_take(tmp_path: Path) -> None:
    pytest.importorskip("safetensors", minversion="0.8")
    from safetensors.numpy import load_file, save_file

    path = tmp_path / "layer.safetensors"
    fc.save(fc.LSTM.from_state_dict(weights("lstm")), path)
    data = path.read_bytes()
    metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    save_file({**load_file(path), "head.weight": np.ones(2, np.float32)}, path, metadata)
    with pytest.raises(ValueError, match=r"'head\.weight' is not an array of this layer") as raised:
        fc.load(path)
    assert "prefix" not in str(raised.value)
