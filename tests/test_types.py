"""What a type checker sees of the public names: mypy reads this file, and running it tries the same on objects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import fusedcell as fc
from fusedcell.layers import Trace
from models import KIND

if TYPE_CHECKING:
    from typing_extensions import assert_type
else:  # Python 3.10 has none

    def assert_type(value, expected):
        """The value, of whatever type."""
        return value


Floats = npt.NDArray[np.float32]
Pair = tuple[Floats, Floats]


def weights(kind: str) -> dict[str, Any]:
    return KIND[kind].weights(3, 4)


def test_layers() -> None:
    lstm = fc.LSTM.from_state_dict(weights("lstm"))
    assert_type(lstm, fc.LSTM)
    assert_type(lstm.astype("int8"), fc.LSTM)
    assert_type(lstm.hidden_size, int)
    assert_type(lstm.output_size, int)
    assert_type(lstm.bidirectional, bool)
    gru = fc.GRU.from_state_dict(weights("gru_reset_after"))
    assert_type(gru, fc.GRU)
    assert_type(gru.reset_after, bool)
    assert_type(fc.RNN.from_state_dict(weights("rnn_tanh")).nonlinearity, str)


def test_calls() -> None:
    x = np.zeros((5, 3), np.float32)
    y, (h, c) = fc.LSTM.from_state_dict(weights("lstm"))(x)
    assert_type(y, Floats)
    assert_type((h, c), Pair)
    gru = fc.GRU.from_state_dict(weights("gru_reset_after"))
    assert_type(gru(x), Pair)
    rnn = fc.RNN.from_state_dict(weights("rnn_tanh"))
    assert_type(rnn([[0.0, 1.0, 2.0]]), Pair)  # whatever NumPy makes an array of


def test_results_differ_by_what_is_asked_for() -> None:
    x = np.zeros((5, 3), np.float32)
    lstm = fc.LSTM.from_state_dict(weights("lstm"))
    assert_type(lstm(x), tuple[Floats, Pair])
    for found in (
        lstm(x, return_cells=True),
        lstm(x, return_gates=True),
        lstm(x, return_cells=True, return_gates=True),
    ):
        assert_type(found, tuple[Floats, Pair, Trace])
        assert len(found) == 3
    gru = fc.GRU.from_state_dict(weights("gru_reset_after"))
    y, h, trace = gru(x, return_gates=True)
    assert_type((y, h, trace), tuple[Floats, Floats, Trace])
    assert_type(trace.cells, Floats | None)


def test_streams() -> None:
    lstm = fc.LSTM.from_state_dict(weights("lstm"))
    stream = lstm.stream()
    assert_type(stream, fc.Stream)
    assert_type(stream.step(np.zeros(3, np.float32)), Floats)
    assert_type(stream.process(np.zeros((2, 3), np.float32)), Floats)
    assert_type(stream.to_bytes(), bytes)
    assert_type(lstm.stream_from_bytes(stream.to_bytes()), fc.Stream)
    assert_type(lstm.step_many([stream], np.zeros((1, 3), np.float32)), Floats)
    pool = fc.StreamPool(lstm, 2)
    assert_type(pool.join(), int)
    assert_type(pool.to_bytes(0), bytes)
    assert_type(pool.norm(), npt.NDArray[np.float64])
    assert_type(pool.is_finite(), npt.NDArray[np.bool_])


def test_data_are_arrays_lists_and_pairs_of_them() -> None:
    x = np.ones((5, 3), np.float32)
    lstm = fc.LSTM.from_state_dict(weights("lstm"))
    assert fc.check(lstm, x, lstm(x))
    assert fc.check(lstm, x.tolist(), lstm(x)[0].tolist())
    model = fc.Model([("lstm", lstm, "x")])
    assert_type(model.astype({"lstm": {"weight_hh": "int8"}}), fc.Model)
    assert_type(fc.quantization.compare(model, model.astype("int8"), x), fc.quantization.ModelComparison)
    assert_type(fc.quantization.input_scales(lstm, iter([x[:2], x[2:]])), tuple[float, ...])
    stream = model.stream(2)
    stream.decay(0.5, rows=[True, False])
    stream.reset(np.array([0]))


def test_cells() -> None:
    cell = fc.GRUCell(**{name.removesuffix("_l0"): value for name, value in weights("gru_reset_after").items()})
    assert_type(cell(np.zeros(3, np.float32)), Floats)
    state = {name.removesuffix("_l0"): value for name, value in weights("lstm").items()}
    lstm = fc.LSTMCell.from_state_dict(state)
    assert_type(lstm, fc.LSTMCell)
    assert_type(lstm(np.zeros(3, np.float32)), Pair)


def test_files(tmp_path: Path) -> None:
    fc.save(fc.LSTM.from_state_dict(weights("lstm")), tmp_path / "m")
    assert isinstance(fc.load(tmp_path / "m"), fc.LSTM)
    assert_type(fc.isas(), list[str])
