"""int8 by calibration: rounding worked by hand, what is kept on held-out data, and what may not change."""

from __future__ import annotations

import io
import itertools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fusedcell as fc
from collapsing import powers, speaker_encoder
from drawn import examples
from fusedcell._dtypes import DTYPES
from fusedcell.quantization import Calibration, calibrate
from fusedcell.quantization.compensation import compensated
from fusedcell.quantization.folding import folded
from fusedcell.quantization.networks import Network
from models import EVERY_KIND, KIND, Kind

every_kind = pytest.mark.parametrize("kind", EVERY_KIND, ids=lambda kind: kind.name)


def snr(y: Any, other: Any) -> float:
    y, other = np.asarray(y, np.float64), np.asarray(other, np.float64)
    return float(10 * np.log10((y**2).sum() / ((y - other) ** 2).sum()))


def saved(network: Any, path: Path) -> bytes:
    fc.save(network, path)
    return path.read_bytes()


def correlated(steps: int, rows: int, size: int, seed: int = 0) -> np.ndarray:
    """Features that are mixtures of a third as many."""
    rng = np.random.default_rng(seed)
    mixture = np.random.default_rng(99).standard_normal((max(1, size // 3), size))
    x = rng.standard_normal((steps, rows, len(mixture))) @ mixture + 0.1 * rng.standard_normal((steps, rows, size))
    return x.astype(np.float32)


def test_two_columns_worked_by_hand() -> None:
    # Features that are nearly the same: the first column's error of 0.4 goes to the second one, and 0.4 becomes 1.
    moments = np.array([[1.0, 0.99], [0.99, 0.98]])
    # With damping 0.03 * 0.99 = 0.0297, the second weight becomes 0.4 + 0.4 * 0.99 / (0.98 + 0.0297) = 0.792.
    assert compensated(np.array([[10.4, 0.4]]), moments).tolist() == [[10, 1]]
    assert compensated(np.array([[10.4, 0.1]]), moments).tolist() == [[10, 0]]  # 0.492
    assert compensated(np.array([[10.4, 0.12]]), moments).tolist() == [[10, 1]]  # 0.512
    # The larger moment goes first.
    assert compensated(np.array([[0.4, 10.4]]), moments[::-1, ::-1].copy()).tolist() == [[1, 10]]
    # Features that have nothing to do with each other are rounded by themselves, and none beyond 127.
    assert compensated(np.array([[10.4, 0.4], [127, -127]]), np.eye(2)).tolist() == [[10, 0], [127, -127]]


@settings(max_examples=examples(30))
@given(st.integers(2, 4), st.integers(0, 10**6))
def test_no_rounding_of_all_down_or_up_is_half_as_good(depth: int, seed: int) -> None:
    """By trying every way to round each weight down or up, in float64, beside plain rounding."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((50, depth)) @ rng.standard_normal((depth, depth))
    moments = x.T @ x
    row = rng.uniform(-40, 40, depth)
    damped = moments + 0.03 * moments.diagonal().mean() * np.eye(depth)

    def cost(q: Any) -> float:
        return float((row - q) @ damped @ (row - q))

    best = min(cost(np.floor(row) + np.array(ups)) for ups in itertools.product((0, 1), repeat=depth))
    found = compensated(row[None], moments)[0]
    assert cost(found) <= max(2.0 * best, 1.5 * cost(np.rint(row)))


@every_kind
def test_calibration_keeps_more_than_plain_int8_of_data_that_it_has_not_seen(kind: Kind) -> None:
    layer = kind.make(kind.weights(24, 32))
    found = calibrate(layer, correlated(60, 12, 24), 0)
    assert found.model is None
    assert found.layer is not None
    assert found.layer.dtype == "int8"
    x = correlated(60, 8, 24, seed=1)
    y = layer(x)[0]
    assert snr(y, found.layer(x)[0]) > snr(y, layer.astype("int8")(x)[0]) + 0.4
    assert found.nbytes == layer.astype("int8").nbytes


@pytest.mark.parametrize("name", ["lstm", "gru_reset_before", "lstm_projected"])
def test_the_bytes_are_those_of_the_data_and_the_seed(name: str, tmp_path: Path) -> None:
    kind = KIND[name]
    layer = kind.make(kind.weights(6, 9, layers=2, directions=2))
    x = correlated(30, 8, 6)
    first = calibrate(layer, x, 45)
    again = calibrate(layer, x.copy(), 45)
    assert saved(first.layer, tmp_path / "a") == saved(again.layer, tmp_path / "b")
    assert str(first) == str(again)
    assert saved(calibrate(layer, x, 45, seed=1).layer, tmp_path / "c") != saved(first.layer, tmp_path / "d")


def test_a_layer_that_is_loaded_has_the_bits_of_the_one_that_was_made(tmp_path: Path) -> None:
    kind = KIND["lstm"]
    x = correlated(40, 6, 12)
    found = calibrate(kind.make(kind.weights(12, 16)), x, 60)
    assert found.layer is not None
    fc.save(found.layer, tmp_path / "layer.safetensors")
    np.testing.assert_array_equal(fc.load(tmp_path / "layer.safetensors")(x)[0], found.layer(x)[0])
    assert found.dtypes == found.layer.dtypes


@pytest.mark.parametrize("asked", [20, 45, 55, 70, 200])
def test_what_is_asked_is_kept_with_no_matrix_wider_than_it_needs(asked: float) -> None:
    kind = KIND["gru_reset_after"]
    layer = kind.make(kind.weights(12, 16, layers=2))
    found = calibrate(layer, correlated(60, 8, 12), asked)
    assert found.layer is not None
    assert found.snr_db >= asked
    assert found.nbytes == found.layer.nbytes <= layer.nbytes
    assert [step.change for step in found.steps][:1] == ["all int8"]
    if found.steps[0].snr_db >= asked:
        assert found.layer.dtype == "int8"
    last = found.steps[-1]
    if len(found.steps) > 1 and not last.change.endswith("again"):
        assert found.steps[-2].snr_db < asked <= last.snr_db


def test_a_network_that_int8_loses_is_kept() -> None:
    layer, x = speaker_encoder(units=64, layers=1), powers()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # calibration rounds what it has judged itself
        found = calibrate(layer, x, 30)
    assert found.layer is not None
    assert found.plain_db < 20
    assert found.snr_db >= 30
    assert found.dtypes["weight_ih_l0"] != "int8"
    fresh = powers(seed=1)
    assert snr(layer(fresh)[0], found.layer(fresh)[0]) > 28


@pytest.mark.skipif("int8_int16" not in DTYPES, reason="there are no inputs in int16")
def test_inputs_in_int16_come_before_wider_weights() -> None:
    kind = KIND["lstm"]
    mapping, x = kind.weights(8, 12), correlated(40, 8, 8)
    mapping["weight_ih_l0"][:, 3] = 0
    x[:, :, 3] *= 30  # which takes the scale of what counts
    found = calibrate(kind.make(mapping), x, 35)
    assert found.snr_db >= 35 > found.steps[0].snr_db
    assert found.dtypes == {"weight_ih_l0": "int8_int16", "weight_hh_l0": "int8"}
    assert found.nbytes == found.steps[0].nbytes


def test_what_is_int8_already_stays_as_it_is() -> None:
    kind = KIND["lstm"]
    layer = kind.make(kind.weights(12, 16)).astype({"weight_hh": "int8"})
    found = calibrate(layer, correlated(40, 6, 12), 20)
    assert found.layer is not None
    assert "weight_hh_l0" not in found.alone_db
    before, after = (one.stack.arrays()[0] for one in (layer, found.layer))
    for name in ("weight_hh", "weight_hh_scale", "bias_ih", "bias_hh"):
        np.testing.assert_array_equal(before[name], after[name])


def test_fixed_input_scales_stay() -> None:
    kind, x = KIND["lstm"], correlated(40, 6, 12)
    layer = kind.make(kind.weights(12, 16)).astype({"weight_ih": "int8"}, input_scales=[0.25])
    found = calibrate(layer, x, 20)
    assert found.layer is not None
    assert found.layer.input_scales == layer.input_scales
    assert found.layer.dtype == "int8"


def model(rng: np.random.Generator, scale: Any) -> fc.Model:
    def array(*shape: int) -> Any:
        return rng.uniform(-0.4, 0.4, shape).astype(np.float32)

    lstm = {"weight_ih_l0": array(32, 6), "weight_hh_l0": array(32, 8)}
    layers = [
        ("conv", fc.Window(array(6, 9), taps=3, padding=(2, 0), activation="relu"), "x"),
        ("scaled", scale, "conv"),
        ("lstm", fc.LSTM.from_state_dict(lstm).with_initial_state(array(1, 1, 8), array(1, 1, 8)), "scaled"),
        ("words", fc.Embedding(array(7, 4)), "token"),
        ("head", fc.Dense(array(5, 12), array(5), activation="softmax"), ("lstm", "words")),
    ]
    return fc.Model(layers, inputs={"x": 3, "token": 7}, batch_first=True)


def test_models_of_several_inputs() -> None:
    rng = np.random.default_rng(8)
    wide = model(rng, fc.nodes.Scale(np.ones(6)))
    x = correlated(40, 8, 3).swapaxes(0, 1), rng.integers(0, 7, (8, 40))
    found = calibrate(wide, x, 40)
    assert found.layer is None
    assert found.model is not None
    assert found.snr_db >= 40
    assert found.model.nbytes == found.nbytes
    assert snr(wide(*x), found.model(*x)) > 38
    assert set(found.dtypes) == {
        "conv.weight", "lstm.weight_ih_l0", "lstm.weight_hh_l0", "words.table", "head.linear.weight",
    }  # fmt: skip


@pytest.mark.parametrize("batch_first", [False, True])
def test_models_of_one_answer_a_sequence_and_of_other_axes(batch_first: bool) -> None:
    lstm = KIND["lstm"].make(KIND["lstm"].weights(5, 8))
    nodes: list[Any] = [("lstm", lstm, "x"), ("last", fc.nodes.Last(), "lstm"), ("head", fc.Dense(np.eye(8)), "last")]
    x = correlated(40, 6, 5)
    arranged = x.swapaxes(0, 1) if batch_first else x
    model_of_last = fc.Model(nodes, batch_first=batch_first)
    found = calibrate(model_of_last, arranged, 30)
    assert found.snr_db >= 30
    assert np.isfinite(calibrate(model_of_last, x[:, 0], 30).snr_db)
    other = fc.Model(nodes, axes={"x": ("batch", 5, "time")})
    same = calibrate(other, np.ascontiguousarray(x.transpose(1, 2, 0)), 30)
    assert same.snr_db == pytest.approx(found.snr_db)
    assert same.dtypes == found.dtypes
    assert calibrate(fc.Model([("scaled", fc.nodes.Scale(np.ones(5)), "x")]), x, 30).dtypes == {}


@pytest.mark.parametrize(
    "producer",
    [
        fc.nodes.Scale(np.ones(6), np.zeros(6)),
        fc.nodes.RMSNorm(),
        fc.nodes.LayerNorm(np.ones(6), np.zeros(6)),
        fc.Dense(np.eye(6), np.zeros(6), activation="relu"),
    ],
    ids=lambda node: type(node).__name__,
)
def test_columns_are_scaled_where_a_node_before_takes_it_and_float_answers_keep_their_bits(producer: Any) -> None:
    rng = np.random.default_rng(3)
    size = np.exp2(np.array([6, -5, 0, 1, -4, 5])).astype(np.float32)
    x = np.abs(correlated(60, 8, 6)) * (size if type(producer).__name__ in ("Scale", "Dense") else 1)
    if not isinstance(producer, fc.nodes.Scale | fc.Dense):
        producer = type(producer)(size)
    weights = {
        "weight_ih_l0": rng.uniform(-1, 1, (16, 6)) / size,
        "weight_hh_l0": rng.uniform(-0.3, 0.3, (16, 4)),
        "bias_ih_l0": rng.uniform(-1, 1, 16),
    }
    wide = fc.Model([("before", producer, "x"), ("lstm", fc.LSTM.from_state_dict(weights), "before")])
    found = calibrate(wide, x, 10)
    assert found.folded == ("lstm.weight_ih_l0",)
    assert found.snr_db > found.plain_db + 5
    network = Network(wide)
    scaled, names = folded(network, [(x,)], network.answers([(x,)]))
    assert names == ["lstm.weight_ih_l0"]
    again: Any = scaled.whole
    np.testing.assert_array_equal(again(x), wide(x))
    read_twice = fc.Model([*wide.nodes, ("sum", fc.Dense(np.ones((1, 6))), "before")], outputs=("lstm", "sum"))
    assert calibrate(read_twice, x, 10).folded == ()


@pytest.mark.parametrize(
    "options",
    [{"groups": 3}, {"stride": 2, "dilation": 2, "padding": (3, -2)}, {"positions": 5, "padding": (1, 0), "groups": 2}],
    ids=lambda options: next(iter(options)),
)
def test_what_a_window_multiplies_gives_its_answer(options: dict[str, Any]) -> None:
    rng = np.random.default_rng(4)
    window = fc.Window(rng.uniform(-1, 1, (12, 12 // options.get("groups", 1))).astype(np.float32), taps=2, **options)
    wide = fc.Model([("conv", window, "x")])
    x = correlated(9, 4, 6 * options.get("positions", 1))
    (found,) = Network(wide).products((x,))
    ((*products,),) = found.values()
    answer = np.concatenate([seen.astype(np.float64) @ window.weight[rows].T for rows, seen in products], axis=1)
    expected = wide(x).reshape(-1, 12)
    order, order_expected = np.argsort(answer[:, 0]), np.argsort(expected[:, 0])
    np.testing.assert_allclose(answer[order], expected[order_expected], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("state", [False, True])
@every_kind
def test_what_a_layer_multiplies_is_what_it_has_at_each_step(kind: Kind, state: bool) -> None:
    layer = kind.make(kind.weights(3, 5, layers=2))
    x = correlated(7, 2, 3)
    if state:
        sizes = [layer.proj_size or 5, 5][: 2 if isinstance(layer, fc.LSTM) else 1]
        layer = layer.with_initial_state(*(np.full((2, 1, size), 0.25, np.float32) for size in sizes))
    first, second = Network(layer).products((x,))
    y, _ = layer(x)
    ((_, seen_x),) = first["weight_ih_l0"]
    np.testing.assert_array_equal(seen_x.reshape(x.shape), x)
    (_, h) = second["weight_hh_l1"][0]
    np.testing.assert_array_equal(h.reshape(y.shape)[1:], y[:-1])
    assert (h.reshape(y.shape)[0] == (0.25 if state else 0)).all()
    if layer.proj_size:
        ((_, m),) = second["weight_hr_l1"]
        weight_hr = layer.stack.arrays()[1]["weight_hr"]
        np.testing.assert_allclose((m @ weight_hr.T).reshape(y.shape), y, rtol=1e-4, atol=1e-6)
    if layer.stack.kind == "gru_reset_before":
        (_, (rows_of_candidate, reset_h)) = second["weight_hh_l1"]
        assert rows_of_candidate == slice(10, None)
        assert (np.abs(reset_h) <= np.abs(h) + 1e-6).all()


def test_data_are_split_by_rows_by_steps_or_by_calls() -> None:
    kind = KIND["rnn_tanh"]
    layer = kind.make(kind.weights(5, 8))
    x = correlated(64, 1, 5)
    one = calibrate(layer, x[:, 0], 0)
    assert one.layer is not None
    y, _ = layer(x[48:, 0])
    assert one.snr_db == pytest.approx(snr(y, one.layer(x[48:, 0])[0]), abs=1e-6)
    listed = calibrate(layer, [correlated(steps, 1, 5, seed=steps)[:, 0] for steps in (20, 30, 40, 25, 10)], 0)
    assert np.isfinite(listed.snr_db)
    first = kind.make(kind.weights(5, 8), batch_first=True)
    assert calibrate(first, correlated(20, 8, 5).swapaxes(0, 1), 0).dtypes == one.dtypes


def test_what_cannot_be_calibrated_is_refused() -> None:
    kind = KIND["lstm"]
    layer, x = kind.make(kind.weights(5, 8)), correlated(20, 4, 5)
    with pytest.raises(TypeError, match="network: expected a layer"):
        calibrate(kind.make_cell(kind.weights(5, 8)), x)
    with pytest.raises(ValueError, match="snr_db: expected a finite number, got nan"):
        calibrate(layer, x, float("nan"))
    with pytest.raises(ValueError, match=r"data: expected at least 2 batch rows, 8 steps .* got shape \(7, 1, 5\)"):
        calibrate(layer, x[:7, :1])
    with pytest.raises(ValueError, match=r"^data: expected shape .* got \(20, 4, 4\)"):
        calibrate(layer, x[:, :, :4])
    weights = {"weight_ih_l0": np.full((1, 1), 1e30), "weight_hh_l0": np.full((1, 1), 1e30)}
    explosive = fc.RNN.from_state_dict(weights, nonlinearity="relu")
    with pytest.raises(ValueError, match="network: its answer to these data is not finite"):
        calibrate(explosive, np.ones((20, 1)))
    for nothing in (np.ones(5), np.ones((2, 3, 4, 5)), np.ones(0).tolist()):
        with pytest.raises(ValueError, match=r"^data: expected shape \(T, 5\) or \(T, B, 5\), got"):
            calibrate(layer, nothing)
    wide = fc.Model([("conv", fc.Window(np.ones((1, 15)), taps=3), "x")])
    with pytest.raises(ValueError, match="data: a part of them gives no answer"):
        calibrate(wide, x[:8, 0])
    with pytest.raises(ValueError, match="data: expected an array for each of x, got 2"):
        calibrate(wide, (x, x))


@pytest.mark.parametrize("last", [-1, 0])
def test_data_are_looked_at_before_they_are_cut(last: int) -> None:
    """Whichever part a value falls into, it is the data's fault, at its place in them."""
    kind = KIND["lstm"]
    layer, x = kind.make(kind.weights(5, 8)), correlated(20, 1, 5)[:, 0]
    model = fc.Model([("lstm", layer, "x")])
    bad = x.copy()
    bad[last, 3] = np.nan
    step = last % 20
    with pytest.raises(ValueError, match=f"^data: expected finite floats, got nan at step {step}, row 0, input 3"):
        calibrate(layer, bad)
    with pytest.raises(ValueError, match=rf"^data\[2\]: expected finite floats, got nan at \({step}, 3\)"):
        calibrate(model, [x, x, bad])
    no_data: tuple[Any, ...] = (None, "x.npy", {"x": x}, x.astype(int), [x, "x"])
    for network in (layer, model):
        for nothing in no_data:
            with pytest.raises(TypeError, match=r"^data(\[1\])?: expected an array of floats, got dtype"):
                calibrate(network, nothing)


def test_data_of_several_inputs_are_spoken_of_by_theirs() -> None:
    kind = KIND["gru_reset_after"]
    model = fc.Model(
        [
            ("table", fc.Embedding(np.ones((7, 5))), "words"),
            ("both", fc.nodes.Add(), ("table", "x")),
            ("gru", kind.make(kind.weights(5, 4)), "both"),
        ],
        inputs={"words": 7, "x": 5},
    )
    words, x = np.zeros(20, int), np.ones((20, 5))
    assert calibrate(model, (words, x), 0).model is not None
    with pytest.raises(TypeError, match=r"^data, words: expected an array of integers, got dtype float64"):
        calibrate(model, (x, x))
    with pytest.raises(ValueError, match=r"^data, x: expected shape \(time, batch, 5\) or \(time, 5\), got \(20, 4\)"):
        calibrate(model, (words, x[:, :4]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"snr_db": "35"}, "snr_db: expected a number, got '35'"),
        ({"snr_db": None}, "snr_db: expected a number, got None"),
        ({"snr_db": [35]}, r"snr_db: expected a number, got \[35\]"),
        ({"seed": "a"}, "seed: expected a whole number, got 'a'"),
        ({"seed": 1.5}, "seed: expected a whole number, got 1.5"),
    ],
)
def test_numbers_are_numbers(options: dict[str, Any], message: str) -> None:
    kind = KIND["lstm"]
    with pytest.raises(TypeError, match=message):
        calibrate(kind.make(kind.weights(5, 8)), correlated(20, 4, 5), **options)
    with pytest.raises(ValueError, match="seed: expected a whole number from 0, got -1"):
        calibrate(kind.make(kind.weights(5, 8)), correlated(20, 4, 5), seed=-1)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_int8_would_enlarge_stays_as_it_was(dtype: str) -> None:
    kind = KIND["gru_reset_after"]
    tiny = kind.make(kind.weights(1, 1)).astype(dtype)
    assert tiny.astype("int8").nbytes > tiny.nbytes
    found = calibrate(tiny, correlated(20, 4, 1), 0)
    assert (found.nbytes, found.snr_db, set(found.dtypes.values())) == (tiny.nbytes, np.inf, {dtype})
    assert found.steps[-1].change == "as it was"
    assert "as it was" in str(found)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_only_a_terminal_sees_how_far_it_is(stream: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = KIND["lstm"]
    monkeypatch.setattr("sys.stderr", said := stream())
    calibrate(kind.make(kind.weights(5, 8)), correlated(20, 4, 5), 0)
    assert ("1 of 2 matrices rounded, weight_hh_l0" in said.getvalue()) == isinstance(said, Terminal)
    assert not said.getvalue().strip() or said.getvalue().endswith("\r")


def calibration() -> Calibration:
    kind = KIND["lstm"]
    return calibrate(kind.make(kind.weights(12, 16)), correlated(40, 6, 12), 60)


def test_the_report_has_every_matrix_and_everything_that_was_tried() -> None:
    found = calibration()
    lines = str(found).splitlines()
    assert lines[0].startswith(
        f"SNR {found.snr_db:.1f} dB on held-out data (60.0 asked, plain int8 {found.plain_db:.1f})"
    )
    for name, dtype in found.dtypes.items():
        assert any(line.split()[:3] == [name, dtype, f"{found.alone_db[name]:.1f}"] for line in lines)
    for step in found.steps:
        assert any(line.split()[-2:] == [f"{step.nbytes:,}", f"{step.snr_db:.1f}"] for line in lines)


def test_the_plot_is_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = calibration()
    (axes,) = found.plot(tmp_path / "steps.png").axes
    assert (tmp_path / "steps.png").read_bytes().startswith(b"\x89PNG\r\n")
    assert axes.lines[0].get_xydata().tolist() == [[step.nbytes, step.snr_db] for step in found.steps]
