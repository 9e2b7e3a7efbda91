"""What narrower weights cost: figures worked by hand, the report and the plot, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusedcell as fc
from fusedcell.quantization import compare, input_scales
from models import EVERY_KIND, KIND, Kind, one_unit, uniform

every_kind = pytest.mark.parametrize("kind", EVERY_KIND, ids=lambda kind: kind.name)
stacks = pytest.mark.parametrize("directions", [1, 2])


def test_an_error_worked_by_hand() -> None:
    # W = (1, 0.3) has scale 1/127 and integers (127, 38). x is rounded to whole numbers: (10, 4), then (3, 2).
    layer = one_unit([1, 0.3], 0.5)
    quantised = layer.astype("int8", input_scales=[1])
    comparison = compare(layer, quantised, np.array([[10.25, 4], [3, 1.5]], np.float32))
    of_weights = np.array([4, 1.5]) * (38 / 127 - 0.3)
    of_inputs = np.array([-0.25, 0.5 * 38 / 127])
    in_one_step = of_weights + of_inputs
    error = np.array([in_one_step[0], in_one_step[1] + 0.5 * in_one_step[0]])
    assert error == pytest.approx([-0.2531496, 0.0218504], abs=1e-7)
    y = np.array([11.45, 9.175])

    close: dict[str, Any] = {"rel": 1e-5, "abs": 1e-6}
    assert comparison.rms_by_step == pytest.approx(abs(error), **close)
    assert comparison.max_by_step == pytest.approx(abs(error), **close)
    assert comparison.rms == pytest.approx(0.1796693, **close)
    assert comparison.largest == pytest.approx(0.2531496, **close)
    assert comparison.snr_db == pytest.approx(10 * np.log10((y**2).sum() / (error**2).sum()), rel=1e-4)
    assert comparison.growth is None
    assert (comparison.dtype_before, comparison.dtype_after) == ("float32", "int8")
    assert (comparison.nbytes_before, comparison.nbytes_after) == (layer.nbytes, quantised.nbytes)

    (source,) = comparison.sources
    assert (source.layer, source.direction, source.gate) == (0, "forward", "h")
    assert source.rms == pytest.approx(np.sqrt((in_one_step**2).mean()), **close)
    assert source.parts["weight_ih"] == pytest.approx(np.sqrt((of_weights**2).mean()), **close)
    assert source.parts["x"] == pytest.approx(np.sqrt((of_inputs**2).mean()), **close)
    assert source.parts["weight_hh"] == pytest.approx(0, abs=1e-6)
    assert source.parts["h"] == pytest.approx(0, abs=1e-6)

    (row,) = comparison.rows
    assert (row.layer, row.direction, row.gate, row.unit) == (0, "forward", "h", 0)
    assert (row.rms, row.share) == (pytest.approx(source.rms), pytest.approx(1))


@stacks
def test_an_integrator_integrates_its_error(directions: int) -> None:
    # Every step adds the same error, in both directions, so it is (step + 1) times that of one step.
    layer = one_unit([1, 0.3], 1, ("_l0", "_l0_reverse")[:directions])
    comparison = compare(layer, layer.astype("int8"), np.ones((100, 2), np.float32))
    one_step = 0.3 - 38 / 127
    np.testing.assert_allclose(comparison.rms_by_step, one_step * np.arange(1, 101), rtol=1e-2, atol=1e-4)
    expected = np.sqrt((np.arange(91, 101) ** 2).sum() / (np.arange(11, 21) ** 2).sum())
    assert comparison.growth == pytest.approx(expected, rel=1e-2)
    assert "The error grows (x6.0" in str(comparison)


@every_kind
@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_contractive_networks_have_a_stationary_error(kind: Kind, dtype: str) -> None:
    layer = kind.make(kind.weights(8, 24))
    comparison = compare(layer, layer.astype(dtype), uniform(2, 400, 4, 8))
    assert comparison.growth == pytest.approx(1, abs=0.2)
    assert "The error is stationary" in str(comparison)


@every_kind
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_identical_layers_have_no_error(kind: Kind, dtype: str) -> None:
    layer = kind.make(kind.weights(5, 8, layers=2), dtype=dtype)
    comparison = compare(layer, layer, uniform(7, 30, 5))
    assert (comparison.rms, comparison.largest, comparison.snr_db) == (0, 0, np.inf)
    assert comparison.growth is None
    assert not comparison.rms_by_step.any()
    assert not comparison.max_by_step.any()
    assert all(source.rms == 0 for source in comparison.sources)
    assert comparison.rows == ()
    assert str(comparison) == f"{dtype} against {dtype}: no error; {layer.nbytes:,} -> {layer.nbytes:,} bytes (1.000)"


def test_the_arrangement_of_the_axes() -> None:
    mapping = KIND["gru_reset_after"].weights(5, 8, directions=2)
    x = uniform(8, 12, 3, 5)

    def rms(x: np.ndarray, batch_first: bool = False) -> np.ndarray:
        layer = fc.GRU.from_state_dict(mapping, batch_first=batch_first)
        comparison = compare(layer, layer.astype("int8"), x)
        assert comparison.rms_by_step.shape == comparison.max_by_step.shape == (12,)
        return comparison.rms_by_step

    np.testing.assert_array_equal(rms(x.swapaxes(0, 1), batch_first=True), rms(x))
    np.testing.assert_array_equal(rms(x[:, 0]), rms(x[:, :1]))
    np.testing.assert_array_equal(rms(x[:, 0].astype(np.float64), batch_first=True), rms(x[:, :1]))


OTHERS = [
    ("class RNN, as of layer, got GRU", KIND["gru_reset_after"].make(KIND["gru_reset_after"].weights(3, 4))),
    ("kind rnn_tanh, as of layer, got rnn_relu", KIND["rnn_relu"].make(KIND["rnn_relu"].weights(3, 4))),
    ("input_size 3, as of layer, got 2", KIND["rnn_tanh"].make(KIND["rnn_tanh"].weights(2, 4))),
    ("hidden_size 4, as of layer, got 5", KIND["rnn_tanh"].make(KIND["rnn_tanh"].weights(3, 5))),
    ("num_layers 1, as of layer, got 2", KIND["rnn_tanh"].make(KIND["rnn_tanh"].weights(3, 4, layers=2))),
    ("bidirectional False, as of layer, got True", KIND["rnn_tanh"].make(KIND["rnn_tanh"].weights(3, 4, directions=2))),
    ("batch_first False, as of layer, got True", KIND["rnn_tanh"].make(KIND["rnn_tanh"].weights(3, 4), batch_first=1)),
]


@pytest.mark.parametrize(("message", "other"), OTHERS, ids=[message.split()[0] for message, _ in OTHERS])
def test_layers_that_differ_are_refused(message: str, other: Any) -> None:
    layer = KIND["rnn_tanh"].make(KIND["rnn_tanh"].weights(3, 4))
    with pytest.raises(ValueError, match=f"quantised: expected {message}"):
        compare(layer, other, uniform(1, 5, 3))


def test_a_reversed_layer_is_as_the_forward_one_on_flipped_data() -> None:
    kind = KIND["lstm_coupled"]
    mapping = kind.weights(5, 9, layers=3)
    x = uniform(12, 60, 2, 5)
    forward, backward = kind.make(mapping), kind.make(mapping, reverse=True)
    scales = input_scales(forward, x[::-1].copy())
    assert input_scales(backward, x) == scales
    one, other = (compare(layer, layer.astype("int8"), data) for layer, data in ((forward, x[::-1]), (backward, x)))
    np.testing.assert_array_equal(other.rms_by_step, one.rms_by_step)
    assert other.growth == one.growth
    assert [source.direction for source in other.sources] == ["reverse"] * len(one.sources)
    assert [source.rms for source in other.sources] == [source.rms for source in one.sources]
    with pytest.raises(ValueError, match="quantised: expected reverse False, as of layer, got True"):
        compare(forward, backward, x)


def test_options_that_differ_are_refused() -> None:
    kind, other = KIND["lstm_peephole"], KIND["lstm_coupled"]
    mapping = kind.weights(5, 9)
    with pytest.raises(ValueError, match=r"quantised: expected cell_options .*input_forget=False.* as of layer, got"):
        compare(kind.make(mapping), other.make(mapping), uniform(1, 4, 5))


def test_projections_that_differ_are_refused() -> None:
    lstm, projected = (KIND[name].make(KIND[name].weights(3, 4)) for name in ("lstm", "lstm_projected"))
    with pytest.raises(ValueError, match="quantised: expected proj_size 0, as of layer, got 2"):
        compare(lstm, projected, uniform(1, 5, 3))


def test_what_is_not_a_layer_is_refused() -> None:
    kind = KIND["lstm"]
    layer, cell = kind.make(kind.weights(3, 4)), kind.make_cell(kind.weights(3, 4))
    x = uniform(1, 5, 3)
    with pytest.raises(TypeError, match=r"layer: expected a layer \(LSTM, GRU or RNN\), got LSTMCell"):
        compare(cell, layer, x)
    with pytest.raises(TypeError, match="quantised: expected a layer"):
        compare(layer, cell, x)
    with pytest.raises(TypeError, match="layer: expected a layer"):
        input_scales(cell, x)


BAD_DATA = [
    (np.zeros((5, 3), int), TypeError, "expected an array of floats, got dtype int"),
    (np.zeros(3), ValueError, r"expected shape \(T, 3\) or \(T, B, 3\), got \(3,\)"),
    (np.zeros((5, 2, 4)), ValueError, r"expected shape \(T, 3\) or \(T, B, 3\), got \(5, 2, 4\)"),
    (np.array([[0, 0, 0], [0, np.nan, 0]]), ValueError, "expected finite floats, got nan at step 1, row 0, input 1"),
    (
        np.array([[[0, 0, 0], [0, 0, -np.inf]]]),
        ValueError,
        "expected finite floats, got -inf at step 0, row 1",
    ),
    (np.array([[0, 1e39, 0]]), ValueError, "expected finite floats, got inf at step 0, row 0, input 1"),
]
bad_data = pytest.mark.parametrize(("data", "error", "message"), BAD_DATA, ids=[str(i) for i in range(len(BAD_DATA))])


@bad_data
def test_data_that_do_not_fit_are_refused(data: Any, error: type[Exception], message: str) -> None:
    layer = KIND["lstm"].make(KIND["lstm"].weights(3, 4))
    with pytest.raises(error, match=f"^data: {message}"):
        compare(layer, layer.astype("int8"), data)
    with pytest.raises(error, match=f"^blocks: {message}"):
        input_scales(layer, data)
    with pytest.raises(error, match=rf"^blocks\[1\]: {message}"):
        input_scales(layer, [np.ones((2, 3)), data])


def test_a_list_of_calls_is_not_taken_for_a_batch() -> None:
    layer = KIND["lstm"].make(KIND["lstm"].weights(3, 4))
    model = fc.Model([("lstm", layer, "x")])
    x = uniform(1, 5, 3)
    for network in (layer, model):
        for calls in ([x], [x, x[:2]], [(x,)]):
            with pytest.raises(TypeError, match=r"^data: expected one call's, got a list of several"):
                compare(network, network.astype("int8"), calls)
        compare(network, network.astype("int8"), (x,))
    assert compare(layer, layer.astype("int8"), x.astype(np.float64).tolist()).snr_db > 20


def test_what_was_not_made_from_the_other_is_said() -> None:
    layer, x = KIND["lstm"].make(KIND["lstm"].weights(6, 8)), uniform(1, 40, 6)
    with pytest.warns(UserWarning, match=r"^quantised: the first network's weights are narrower .* exchanged"):
        compare(layer.astype("int8"), layer, x)
    stranger = KIND["lstm"].make({name: -array for name, array in KIND["lstm"].weights(6, 8).items()})
    with pytest.warns(UserWarning, match=r"^quantised: the answers have no more in common than -\d+\.\d dB"):
        compare(layer, stranger.astype("int8"), x)


def test_nothing_to_compare_is_refused() -> None:
    layer = KIND["lstm"].make(KIND["lstm"].weights(3, 4))
    for shape in ((0, 3), (0, 2, 3), (4, 0, 3)):
        with pytest.raises(ValueError, match="data: expected at least one step and one batch row"):
            compare(layer, layer.astype("int8"), np.zeros(shape))
    with pytest.raises(ValueError, match="rows: expected a whole number from 0, got -1"):
        compare(layer, layer.astype("int8"), np.zeros((2, 3)), rows=-1)
    with pytest.raises(TypeError, match=r"rows: expected a whole number, got 1\.5"):
        compare(layer, layer.astype("int8"), np.zeros((2, 3)), rows=1.5)  # type: ignore[call-overload]
    explosive = one_unit([1], 1e10)
    with pytest.raises(ValueError, match="layer: its output for these data is not finite"):
        compare(explosive, explosive.astype("int8"), np.ones((10, 1), np.float32))


@every_kind
@stacks
@pytest.mark.filterwarnings("ignore::fusedcell.QuantizationWarning")  # of projections, whose m is small
def test_the_report_has_the_key_figures(kind: Kind, directions: int) -> None:
    layer = kind.make(kind.weights(20, 24, layers=2, directions=directions))
    quantised = layer.astype("int8")
    comparison = compare(layer, quantised, uniform(11, 1000, 2, 20))
    report = str(comparison)
    lines = report.splitlines()
    assert lines[0].startswith(f"int8 against float32: SNR {comparison.snr_db:.1f} dB, rms ")
    assert f"; {layer.nbytes:,} -> {quantised.nbytes:,} bytes (0." in lines[0]
    assert lines[1] == f"The error is stationary (x{comparison.growth:.2f} from step 10 to 1000)"
    assert sum(line.endswith("#") for line in lines) == 10
    assert "900..999" in report
    for row in comparison.rows[:4]:
        assert any(line.split()[-4:-3] == [f"{row.unit}"] for line in lines)
    assert len(lines) <= 50
    assert max(map(len, lines)) <= 100


def test_the_report_of_a_single_step() -> None:
    layer = one_unit([1, 0.3], 0.5)
    report = str(compare(layer, layer.astype("int8"), np.ones((1, 2))))
    assert "The error may grow or not: telling takes 20 steps" in report
    assert "rms 7.9e-4, largest 7.9e-4" in report


@pytest.mark.filterwarnings("ignore::fusedcell.QuantizationWarning")  # of the first step, whose h is small
@pytest.mark.parametrize("steps", [1, 50])
def test_the_plot_is_written(steps: int, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    before = set(sys.modules)
    layer = KIND["lstm_projected"].make(KIND["lstm_projected"].weights(5, 8, layers=2, directions=2))
    comparison = compare(layer, layer.astype("int8"), uniform(12, steps, 5))
    figure = comparison.plot(tmp_path / "error.png")
    comparison.plot(str(tmp_path / "error.svg"))
    assert (tmp_path / "error.png").read_bytes().startswith(b"\x89PNG\r\n")
    assert b"<svg" in (tmp_path / "error.svg").read_bytes()
    left, right = figure.axes
    assert left.get_yscale() == "log"
    lengths = [sum(bar.get_width() for bar in bars) for bars in zip(*right.containers, strict=True)]
    assert lengths == pytest.approx([source.rms for source in comparison.sources])
    assert f"SNR {comparison.snr_db:.1f} dB" in figure.texts[0].get_text()
    assert "matplotlib.pyplot" not in set(sys.modules) - before


def test_the_plot_of_no_error(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    layer = KIND["lstm"].make(KIND["lstm"].weights(5, 8))
    assert compare(layer, layer, uniform(13, 20, 5)).plot(tmp_path / "none.png") is not None


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    layer = one_unit([1, 0.3], 0.5)
    with pytest.raises(ImportError, match=r"plot needs matplotlib: pip install fusedcell\[plot\]"):
        compare(layer, layer.astype("int8"), np.ones((3, 2))).plot()
