"""`fusedcell quantize`: what `calibrate` makes, from file to file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fusedcell as fc
from fusedcell.__main__ import main
from fusedcell.quantization import calibrate
from models import KIND, uniform

Capture = pytest.CaptureFixture[str]


def command(folder: Path, *more: str, out: str = "small.safetensors", data: tuple[str, ...] = ("x.npy",)) -> int:
    given = [part for name in data for part in ("--data", str(folder / name))]
    return main(["quantize", str(folder / "wide.safetensors"), str(folder / out), *given, *more])


def written(network: object, folder: Path) -> np.ndarray:
    fc.save(network, folder / "wide.safetensors")  # type: ignore[arg-type]
    x = uniform(3, 40, 6, 5)
    np.save(folder / "x.npy", x)
    return x


def test_a_layer_is_what_calibrate_makes(tmp_path: Path, capsys: Capture) -> None:
    layer = KIND["lstm"].make(KIND["lstm"].weights(5, 8))
    x = written(layer, tmp_path)
    expected = calibrate(layer, x, 50, seed=3)
    assert command(tmp_path, "--snr", "50", "--seed", "3") == 0
    small = fc.load(tmp_path / "small.safetensors")
    assert small.dtypes == expected.dtypes
    np.testing.assert_array_equal(small(x)[0], expected.layer(x)[0])  # type: ignore[misc]
    said = capsys.readouterr()
    assert said.out == f"{expected}\n{tmp_path / 'small.safetensors'}: {expected.layer!r}\n"
    assert said.err == ""


def test_models_of_several_inputs_and_other_byte_orders(tmp_path: Path) -> None:
    gru = KIND["gru_reset_after"].make(KIND["gru_reset_after"].weights(8, 4))
    wide = fc.Model(
        [("words", fc.Embedding(uniform(1, 9, 3)), "token"), ("gru", gru, ("x", "words"))], inputs={"x": 5, "token": 9}
    )
    x = written(wide, tmp_path)
    tokens = np.random.default_rng(0).integers(0, 9, (40, 6))
    np.save(tmp_path / "x.npy", x.astype(">f8"))
    np.save(tmp_path / "tokens.npy", tokens.astype(">i2"))
    assert command(tmp_path, data=("x.npy", "tokens.npy")) == 0
    expected = calibrate(wide, (x, tokens)).model
    assert expected is not None
    np.testing.assert_array_equal(fc.load(tmp_path / "small.safetensors")(x, tokens), expected(x, tokens))


@pytest.mark.parametrize(
    ("more", "out", "data", "message"),
    [
        ((), "small.onnx", ("x.npy",), "expected to write a file ending in .safetensors, got 'small.onnx'"),
        ((), "wide.safetensors", ("x.npy",), "expected another file to write than 'wide.safetensors', which is read"),
        (
            (),
            "small.safetensors",
            ("x.npy", "x.npy"),
            "--data: 'wide.safetensors' holds a layer, which takes one array",
        ),
        ((), "small.safetensors", ("none.npy",), "No such file"),
        (("--snr", "nan"), "small.safetensors", ("x.npy",), "snr_db: expected a finite number, got nan"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_written(
    more: tuple[str, ...], out: str, data: tuple[str, ...], message: str, tmp_path: Path, capsys: Capture
) -> None:
    written(KIND["lstm"].make(KIND["lstm"].weights(5, 8)), tmp_path)
    before = (tmp_path / "wide.safetensors").read_bytes()
    assert command(tmp_path, *more, out=out, data=data) in (1, 2)
    assert message in capsys.readouterr().err
    assert (tmp_path / "wide.safetensors").read_bytes() == before
    assert not (tmp_path / "small.safetensors").exists()
