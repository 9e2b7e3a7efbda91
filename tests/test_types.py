"""What a type checker sees of the public names: mypy reads this file, and running it tries the same on objects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import fusedcell as fc
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


def test_streams() -> None:
    lstm = fc.LSTM.from_state_dict(weights("lstm"))
    stream = lstm.stream()
    assert_type(stream, fc.Stream)
    assert_type(stream.step(np.zeros(3, np.float32)), Floats)
    assert_type(stream.process(np.zeros((2, 3), np.float32)), Floats)
    assert_type(stream.to_bytes(), bytes)
    assert_type(lstm.stream_from_bytes(stream.to_bytes()), fc.Stream)
    assert_type(fc.StreamPool(lstm, 2).join(), int)


def test_cells() -> None:
    cell = fc.GRUCell(**{name.removesuffix("_l0"): value for name, value in weights("gru_reset_after").items()})
    assert_type(cell(np.zeros(3, np.float32)), Floats)


def test_files(tmp_path: Path) -> None:
    fc.save(fc.LSTM.from_state_dict(weights("lstm")), tmp_path / "m")
    assert isinstance(fc.load(tmp_path / "m"), fc.LSTM)
    assert_type(fc.isas(), list[str])
