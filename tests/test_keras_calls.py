"""What a Keras model calls its recurrent layer with: constants are honoured or refused, the rest is the caller's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fusedcell as fc
from drawn import examples, note_difference
from keras_models import COMPUTED, KerasCase, KerasCell, call, flat, functional, sequential, write_case, write_keras
from models import uniform
from test_keras_files import assert_close, cases

pytest.importorskip("h5py")

GRU = KerasCase([KerasCell("GRU", 4)])
LSTM = KerasCase([KerasCell("LSTM", 4)], options={"return_sequences": True})
GRU_2 = KerasCase([KerasCell("GRU", 4)], version=2)
H, C = uniform(1, 3, 4), uniform(2, 3, 4)
MASK = uniform(3, 3, 6) > 0
X = uniform(4, 3, 6, 3)
VERSIONS = pytest.mark.parametrize("version", [2, 3])


def write(path: Path, case: KerasCase, *calls: Any, item: Any = None) -> Path:
    """A file of a functional model that calls the case's layer so."""
    return write_case(path, case, model=functional([(item or case.item(), calls)]))


def refused(path: Path, case: KerasCase, *calls: Any, message: str, item: Any = None) -> None:
    with pytest.raises(fc.UnsupportedError, match=message) as caught:
        fc.from_keras(write(path, case, *calls, item=item), keras_output=True)
    assert "layer 'recurrent': the model calls " in str(caught.value)


def arranged(case: KerasCase, state: list[np.ndarray]) -> Any:
    """A state as one gives it to the layer: a list for each of stacked cells."""
    if case.form != "stacked":
        return state
    count = case.cells[0].states
    return [state[i : i + count] for i in range(0, len(state), count)]


@settings(max_examples=examples(40))
@given(
    case=cases(),
    data=st.data(),
    rows=st.sampled_from([1, 3]),
    mask_type=st.sampled_from([None, "bool", "int64", "float32"]),
    with_state=st.booleans(),
)
def test_drawn_constants_are_what_the_layer_starts_from_and_masks(
    tmp_path_factory: pytest.TempPathFactory, case: KerasCase, data: Any, rows: int, mask_type: Any, with_state: bool
) -> None:
    count = case.state_count * (1 + case.bidirectional)
    state = [uniform(case.seed + 60 + i, rows, 4) for i in range(count)] if with_state else None
    mask = uniform(case.seed + 50, rows, 6) > -0.2 if mask_type else None
    given_state = None if state is None else arranged(case, state)
    given_mask = None if mask is None else mask.astype(mask_type)
    if case.version == 3 and data.draw(st.booleans(), label="by position"):
        node = call(3, given_state, given_mask)
    else:
        named = {
            "initial_state": given_state,
            "mask": given_mask,
            "training": data.draw(st.sampled_from([None, False])),
        }
        node = call(case.version, **named)
    suffix = data.draw(st.sampled_from([".keras", ".h5"]))
    path = write(tmp_path_factory.mktemp("keras") / f"model{suffix}", case, *[node] * data.draw(st.integers(1, 2)))
    layer = fc.from_keras(path, keras_output=True)
    assert layer.from_other_layers == ()
    x = uniform(case.seed, 3, 6, case.inputs)
    full_state = None if state is None else [np.repeat(part, 3 // rows, axis=0) for part in state]
    full_mask = None if mask is None else np.repeat(mask, 3 // rows, axis=0)
    expected = case.expected(x, full_mask, full_state)
    actual = flat(layer(x))
    note_difference(actual, expected)
    assert_close(actual, expected)
    other_state, other_mask = [uniform(90 + i, 3, 4) for i in range(count)], uniform(80, 3, 6) > 0
    assert_close(layer(x, other_mask, other_state), case.expected(x, other_mask, other_state))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@VERSIONS
def test_a_plain_layer_has_the_constant_state(tmp_path: Path, version: int, suffix: str) -> None:
    case = KerasCase([KerasCell("LSTM", 4)], version=version, merge_mode="concat")
    state = [uniform(10 + i, 3, 4) for i in range(4)]
    layer: Any = fc.from_keras(write(tmp_path / f"m{suffix}", case, call(version, initial_state=state)))
    h, c = layer.initial_state  # of the forward direction, then the backward one
    np.testing.assert_array_equal(h, [state[0], state[2]])
    np.testing.assert_array_equal(c, [state[1], state[3]])
    _, (h_n, _) = layer(X)
    assert_close(np.concatenate(list(h_n), axis=-1), case.expected(X, None, state))


def test_a_plain_layer_refuses_a_constant_mask(tmp_path: Path) -> None:
    path = write(tmp_path / "m.keras", GRU, call(3, mask=MASK))
    with pytest.raises(fc.UnsupportedError, match=r"with a constant mask, .* supported: keras_output=True"):
        fc.from_keras(path)


def test_constants_of_rows_that_are_alike_are_for_any_batch(tmp_path: Path) -> None:
    h, mask = np.repeat(H[:1], 5, axis=0), np.repeat(MASK[:1], 5, axis=0)
    layer: Any = fc.from_keras(write(tmp_path / "m.keras", GRU, call(3, initial_state=h, mask=mask)), keras_output=True)
    assert_close(layer(X), GRU.expected(X, mask[:3], [h[:3]]))
    assert layer.layer.initial_state.shape == (1, 1, 4)
    plain = fc.from_keras(write(tmp_path / "m.keras", GRU, call(3, initial_state=h)))
    stream = plain.stream()
    for x in X[0]:
        y = stream.step(x)
    assert_close(y[None], GRU.expected(X[:1], None, [h[:1]]))


def test_constants_of_rows_that_differ_are_for_their_batch_alone(tmp_path: Path) -> None:
    layer = fc.from_keras(write(tmp_path / "m.keras", GRU, call(3, initial_state=H)), keras_output=True)
    with pytest.raises(ValueError, match="initial_state: the model's own is for a batch of 3 rows, x has 2; give one"):
        layer(X[:2])
    assert_close(layer(X[:2], initial_state=H[:2]), GRU.expected(X[:2], None, [H[:2]]))
    layer = fc.from_keras(write(tmp_path / "m.keras", GRU, call(3, mask=MASK)), keras_output=True)
    for x in (X[:2], X[:, :5]):
        with pytest.raises(
            ValueError, match=r"mask: the model's own, of shape \(3, 6\), does not fit . rows of . steps"
        ):
            layer(x)


def test_a_stateful_layer_starts_each_call_from_the_constant(tmp_path: Path) -> None:
    case = KerasCase([KerasCell("GRU", 4)], options={"stateful": True})
    layer = fc.from_keras(write(tmp_path / "m.keras", case, call(3, initial_state=H)), keras_output=True)
    for _ in range(3):
        assert_close(layer(X), case.expected(X, None, [H]))
        layer.reset_state()


class TestSeveralCalls:
    @VERSIONS
    @pytest.mark.parametrize("name", ["initial_state", "mask"])
    def test_constants_that_differ(self, tmp_path: Path, name: str, version: int) -> None:
        first, second = ([H], [C]) if name == "initial_state" else (MASK, ~MASK)
        case = GRU_2 if version == 2 else GRU
        for other in ({name: second}, {name: [COMPUTED] if name == "initial_state" else COMPUTED}, {}):
            calls = [call(version, **{name: first}), call(version, **other)]
            message = f"calls it 2 times, not each time with the same constant {name}; supported: one for all calls"
            refused(tmp_path / "m.h5", case, *calls, message=message)
            refused(tmp_path / "m.h5", case, *reversed(calls), message=message)

    def test_as_many_numbers_in_another_shape(self, tmp_path: Path) -> None:
        calls = [call(3, mask=MASK), call(3, mask=MASK.reshape(6, 3))]
        refused(tmp_path / "m.h5", GRU, *calls, message="not each time with the same constant mask")

    def test_with_and_without_what_other_layers_make(self, tmp_path: Path) -> None:
        calls = [call(3), call(3, initial_state=COMPUTED), call(3, mask=COMPUTED)]
        layer = fc.from_keras(write(tmp_path / "m.h5", GRU, *calls), keras_output=True)
        assert layer.from_other_layers == ("initial_state", "mask")


class TestWhatOtherLayersMake:
    @VERSIONS
    @pytest.mark.parametrize("name", ["initial_state", "mask"])
    def test_it_is_said_and_stays_the_callers(self, tmp_path: Path, name: str, version: int) -> None:
        case = GRU_2 if version == 2 else GRU
        value = COMPUTED if name == "mask" else [COMPUTED]
        layer = fc.from_keras(write(tmp_path / "m.h5", case, call(version, **{name: value})), keras_output=True)
        assert layer.from_other_layers == (name,)
        assert repr(layer) == f"KerasLayer({layer.layer!r}, from_other_layers=('{name}',))"
        assert_close(layer(X), case.expected(X))
        assert_close(layer(X, MASK, H), case.expected(X, MASK, [H]))

    def test_states_that_keras_2_writes_as_inputs(self, tmp_path: Path) -> None:
        case = KerasCase([KerasCell("LSTM", 4)], version=2)
        node = call(2, x=[COMPUTED] * 3, initial_state=None, constants=None)
        assert fc.from_keras(write(tmp_path / "m.h5", case, node), keras_output=True).from_other_layers == (
            "initial_state",
        )

    @VERSIONS
    def test_a_state_that_is_constant_in_part(self, tmp_path: Path, version: int) -> None:
        case = KerasCase([KerasCell("LSTM", 4)], version=version)
        node = call(version, initial_state=[COMPUTED, C])
        refused(tmp_path / "m.h5", case, node, message="initial_state that is constant in part, and in part computed")

    @pytest.mark.parametrize("form", ["sequential", "functional"])
    @pytest.mark.parametrize(
        ("class_name", "options", "expected"),
        [
            ("Masking", {}, ("mask",)),
            ("Embedding", {"mask_zero": True}, ("mask",)),
            ("Embedding", {"mask_zero": False}, ()),
            ("Dense", {}, ()),
        ],
    )
    def test_masks_that_come_unasked(
        self, tmp_path: Path, form: str, class_name: str, options: dict[str, Any], expected: tuple[str, ...]
    ) -> None:
        before = {"class_name": class_name, "config": {"name": "before", **options}}
        model = sequential([before, GRU_2.item()], 2)
        if form == "functional":
            model = functional([(before, [call(2)]), (GRU_2.item(), [call(2)])])
        inner = {"class_name": "Sequential", "config": {"name": "inner", "layers": [before]}}
        for each in (model, sequential([inner, GRU_2.item()], 2)):
            path = write_case(tmp_path / "m.h5", GRU_2, model=each)
            assert fc.from_keras(path, keras_output=True).from_other_layers == expected

    def test_a_layer_before_which_nothing_masks(self, tmp_path: Path) -> None:
        after = {"class_name": "Masking", "config": {"name": "after"}}
        path = write_case(tmp_path / "m.h5", GRU, model=sequential([GRU.item(), after]))
        assert fc.from_keras(path, keras_output=True).from_other_layers == ()


class TestTraining:
    def cases(self) -> list[tuple[KerasCase, Any]]:
        """Layers whose configuration has dropout, 0.25, in one place or another, and without any."""
        cell = KerasCell("GRU", 4)
        forms: list[dict[str, Any]] = [
            {},
            {"form": "RNN"},
            {"merge_mode": "concat"},
            {"merge_mode": "sum", "form": "RNN"},
        ]
        found = [KerasCase([cell], version=version, **form) for version in (2, 3) for form in forms]
        found.append(KerasCase([cell] * 2, form="stacked"))
        return [(case, case.item()) for case in found]

    def without_dropout(self, item: Any) -> Any:
        if isinstance(item, list):
            return [self.without_dropout(part) for part in item]
        if not isinstance(item, dict):
            return item
        return {key: 0.0 if key == "dropout" else self.without_dropout(value) for key, value in item.items()}

    @pytest.mark.parametrize("kind", range(9))
    def test_dropout_that_stays_switched_on(self, tmp_path: Path, kind: int) -> None:
        case, item = self.cases()[kind]
        node = call(case.version, training=True)
        message = r"with training=True, so dropout=0\.25.* is not left out; supported: training=True without dropout"
        refused(tmp_path / "m.h5", case, call(case.version), node, item=item, message=message)
        path = write(tmp_path / "m.h5", case, node, item=self.without_dropout(item))
        assert_close(fc.from_keras(path, keras_output=True)(X), case.expected(X))

    def test_recurrent_dropout(self, tmp_path: Path) -> None:
        item = self.without_dropout(GRU.item())
        item["config"]["recurrent_dropout"] = 0.5
        refused(tmp_path / "m.h5", GRU, call(3, None, None, True), item=item, message="so recurrent_dropout=0.5 is not")

    @VERSIONS
    def test_a_model_in_the_model_that_is_called_so(self, tmp_path: Path, version: int) -> None:
        case = GRU_2 if version == 2 else GRU
        inner = functional([(case.item(), [call(version, training=False)])], "inner")
        groups = {"layers/functional/layers/gru/cell": case.arrays()[0][0]}
        for arguments, message in (
            ({"training": True}, "or what it is inside of, with training=True"),
            ({"mask": MASK}, "the model calls 'inner', which it is in, with a constant mask"),
        ):
            model = functional([(inner, [call(version, **arguments)])])
            path = write_keras(tmp_path / "m.keras", model, groups, "2.15.0" if version == 2 else "3.4.1")
            with pytest.raises(fc.UnsupportedError, match=message):
                fc.from_keras(path, keras_output=True)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (call(3, initial_state=H.tolist()), "a constant initial_state that is no array of two axes"),
        (call(3, initial_state=H[0]), "a constant initial_state that is no array of two axes"),
        (call(3, initial_state=[]), "a constant initial_state that is no array of two axes"),
        (call(3, initial_state=0), "a constant initial_state that is no array of two axes"),
        (call(3, initial_state={"h": H.tolist()}), "a constant initial_state that is no array of two axes"),
        (call(3, initial_state={"class_name": "__numpy__", "config": {"value": [["1", "2"]]}}), "no array of two axes"),
        (call(3, initial_state={"class_name": "__numpy__", "config": {"value": [[1.0], [1.0, 2.0]]}}), "no array of"),
        (call(3, mask=MASK.tolist()), "a constant mask that is no array of two axes"),
        (call(3, mask=MASK * 2), r"a constant mask that is not bools \(batch, time\)"),
        (call(3, mask=[MASK, MASK]), r"a constant mask that is not bools \(batch, time\)"),
        (call(3, constants=[H]), "with 'constants', which is not supported; supported: initial_state, mask, training"),
        (call(3, training=COMPUTED), "with training=True, so dropout=0.25"),
    ],
)
def test_constants_that_cannot_be_honoured_are_refused_by_name(tmp_path: Path, node: Any, message: str) -> None:
    refused(tmp_path / "m.h5", GRU, node, message=message)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (call(3, initial_state=[H, C]), r"constant initial_state of shapes .*; expected 1 of shape \(1 or batch, 4\)"),
        (call(3, initial_state=uniform(1, 3, 5)), r"initial_state of shapes \[\(3, 5\)\]; expected 1 of shape"),
        (call(3, initial_state=H * np.float64(1e300)), "initial_state: a value is beyond float32"),
        (call(3, initial_state=[[[[[[H]]]]]]), "lists nested more than 4 deep are not supported"),
        ({"class_name": "__numpy__"}, r"inbound_nodes: expected a call's arguments, got"),
        ({"args": 3}, "inbound_nodes: expected a call's arguments, got"),
        ({"args": [1, 2, 3, 4, 5]}, "inbound_nodes: expected a call's arguments, got"),
        ({"args": [1], "kwargs": []}, "inbound_nodes: expected a call's arguments, got"),
        ([["x", 0, 0, 3]], "inbound_nodes: expected a call's arguments, got 3"),
        ([[[[[[[["x", 0, 0]]]]]]]], "inbound_nodes: expected a call's arguments, got"),
        (3, "inbound_nodes: expected a call's arguments, got 3"),
    ],
)
def test_calls_that_are_none(tmp_path: Path, node: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fc.from_keras(write(tmp_path / "m.h5", GRU, node), keras_output=True)


def test_numbers_beyond_any_float_and_lists_without_end(tmp_path: Path) -> None:
    nested: Any = 1.0
    for _ in range(300):
        nested = [nested]
    for value in ([[10**400] * 4], nested):
        for version in (2, 3):
            wrapped = value if version == 2 else {"class_name": "__numpy__", "config": {"value": value}}
            case = GRU_2 if version == 2 else GRU
            for arguments in ({"initial_state": wrapped}, {"mask": value}):
                with pytest.raises(ValueError, match=r"GRU layer 'recurrent': "):
                    fc.from_keras(write(tmp_path / "m.h5", case, call(version, **arguments)), keras_output=True)


@pytest.mark.parametrize("nodes", [3, "x", {"a": 1}])
def test_what_is_no_list_of_calls(tmp_path: Path, nodes: Any) -> None:
    model = functional([(GRU.item(), [])])
    model["config"]["layers"][1]["inbound_nodes"] = nodes
    with pytest.raises(ValueError, match="inbound_nodes: expected a list of calls, got"):
        fc.from_keras(write_case(tmp_path / "m.h5", GRU, model=model))


class TestMasksOfACall:
    @pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int64"])
    def test_bools_and_integers_0_and_1(self, tmp_path: Path, dtype: str) -> None:
        layer = fc.from_keras(write_case(tmp_path / "m.keras", LSTM), keras_output=True)
        assert_close(layer(X, MASK.astype(dtype)), LSTM.expected(X, MASK))
        assert_close(layer(X, MASK.astype(dtype).tolist()), LSTM.expected(X, MASK))

    @pytest.mark.parametrize("wrong", [2, -1])
    def test_other_integers(self, tmp_path: Path, wrong: int) -> None:
        layer = fc.from_keras(write_case(tmp_path / "m.keras", LSTM), keras_output=True)
        with pytest.raises(ValueError, match=f"mask: expected bools, or integers 0 and 1, got {wrong}"):
            layer(X, MASK * wrong)


def test_saving_a_keras_layer_says_what_can_be_saved(tmp_path: Path) -> None:
    layer = fc.from_keras(write_case(tmp_path / "m.keras", LSTM), keras_output=True)
    with pytest.raises(TypeError, match=r"layer: expected a layer, .*, got KerasLayer; save its \.layer"):
        fc.save(layer, tmp_path / "m.safetensors")  # type: ignore[arg-type] # wrong on purpose
