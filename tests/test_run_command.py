"""`fusedcell run`: a model from file to file, the same bits as one call of it."""

from __future__ import annotations

import io
import json
import struct
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fusedcell as fc
from fusedcell import nodes
from fusedcell.__main__ import main
from fusedcell.commands import running
from models import KIND, uniform

Capture = pytest.CaptureFixture[str]


def model_of(inputs: int = 3, *, batch_first: bool = False, last: bool = False, outputs: int = 2) -> fc.Model:
    gru = fc.GRU.from_state_dict(KIND["gru_reset_after"].weights(4, 5))
    items: list[Any] = [
        ("conv", nodes.Window(uniform(1, 4, 3 * inputs), taps=3, padding=(1, 1), activation="tanh"), "x"),
        ("gru", gru, "conv"),
        ("head", nodes.Dense(uniform(2, outputs, 5) / 4, uniform(3, outputs) / 4), "gru"),
    ]
    return fc.Model([*items, ("last", nodes.Last(), "head")] if last else items, batch_first=batch_first)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_FLOATS_OF_A_BLOCK", 64)


def run(model: fc.Model | Any, x: np.ndarray, folder: Path, *more: str) -> np.ndarray:
    fc.save(model, folder / "m.safetensors")
    np.save(folder / "in.npy", x)
    assert main(["run", *(str(folder / name) for name in ("m.safetensors", "in.npy", "out.npy")), *more]) == 0
    answer = np.load(folder / "out.npy")
    assert answer.dtype == np.float32
    return answer


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("shape", [(100, 3), (1, 3), (50, 2, 3), (7, 1, 3), (4, 30, 3)])
def test_the_answer_is_that_of_one_call(shape: tuple[int, ...], batch_first: bool, last: bool, tmp_path: Path) -> None:
    model, x = model_of(batch_first=batch_first, last=last), uniform(9, *shape)
    np.testing.assert_array_equal(run(model, x, tmp_path), model(x))


def test_layers_tokens_bidirectional_models_and_types_of_arrays(tmp_path: Path) -> None:
    x = uniform(9, 40, 2, 3)
    layer = KIND["lstm"].make(KIND["lstm"].weights(3, 4))
    np.testing.assert_array_equal(run(layer, x, tmp_path), layer(x)[0])
    both = fc.Model([("lstm", KIND["lstm"].make(KIND["lstm"].weights(3, 4, directions=2)), "x")])
    np.testing.assert_array_equal(run(both, x, tmp_path), both(x))
    words = fc.Model(
        [("table", nodes.Embedding(uniform(1, 10, 4)), "ids"), ("head", nodes.Dense(uniform(2, 3, 4)), "table")]
    )
    ids = np.arange(60).reshape(30, 2) % 10
    np.testing.assert_array_equal(run(words, ids, tmp_path), words(ids))
    np.testing.assert_array_equal(run(words, ids[:, 0], tmp_path), words(ids[:, 0]))
    model = model_of()
    for other in (x.astype(">f8"), np.asfortranarray(x), x.astype(np.float16)):
        np.testing.assert_array_equal(run(model, other, tmp_path), model(other.astype(other.dtype.newbyteorder("="))))


def test_one_of_several_outputs(tmp_path: Path, capsys: Capture) -> None:
    plain = model_of()
    model = fc.Model(plain.nodes, outputs=("gru", "head"))
    x = uniform(9, 40, 3)
    np.testing.assert_array_equal(run(model, x, tmp_path, "--output", "gru"), model(x)[0])
    capsys.readouterr()
    files = [str(tmp_path / name) for name in ("m.safetensors", "in.npy", "out.npy")]
    assert main(["run", *files]) == 1
    assert "--output: expected one of gru, head, as there are several" in capsys.readouterr().err
    assert main(["run", *files, "--output", "conv"]) == 1
    assert "--output: expected one of gru, head, got 'conv'" in capsys.readouterr().err


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_sequences_of_several_lengths_are_answered_as_by_one_call(
    last: bool, batch_first: bool, tmp_path: Path
) -> None:
    model, lengths = model_of(batch_first=batch_first, last=last), np.array([30, 0, 7, 12], ">i8")
    x = uniform(9, *((4, 30) if batch_first else (30, 4)), 3).astype(">f4")
    np.save(tmp_path / "lengths.npy", lengths)
    found = run(model, x, tmp_path, "--lengths", str(tmp_path / "lengths.npy"))
    np.testing.assert_array_equal(found, model(x.astype(np.float32), lengths=[30, 0, 7, 12]))
    assert not np.array_equal(found, model(x.astype(np.float32)))


def test_lengths_that_do_not_fit_are_refused(tmp_path: Path, capsys: Capture) -> None:
    fc.save(model_of(), tmp_path / "m.safetensors")
    np.save(tmp_path / "in.npy", uniform(1, 5, 2, 3))
    write_wav(tmp_path / "in.wav", np.zeros((10, 1)), 16)
    for lengths, message in (
        (np.array([5]), "lengths: expected shape (2,) (one per batch row), got (1,)"),
        (np.array([5, 6]), "lengths: expected values from 0 to the number of steps, 5, got 6 at index 1"),
        (np.array([5.0, 2.0]), "lengths: expected an array of integers, got dtype float64"),
        (np.array(["5", "2"]), "lengths.npy: expected an array of numbers, got dtype <U1"),
    ):
        np.save(tmp_path / "lengths.npy", lengths)
        words = ["m.safetensors", "in.npy", "out.npy", "--lengths", "lengths.npy"]
        files = [word if word.startswith("--") else str(tmp_path / word) for word in words]
        assert message in refused(tmp_path, capsys, *files)
    for line, message in (
        ("in.wav out.npy --lengths lengths.npy", "--lengths: expected a .npy file for sequences of a .npy file"),
        ("in.npy out.npy --lengths lengths.txt", "--lengths: expected a .npy file for sequences of a .npy file"),
        ("in.npy out.npy --lengths out.npy", "expected another file to write than 'out.npy', which is read"),
        ("in.npy out.npy --lengths missing.npy", "No such file"),
    ):
        words = ["m.safetensors", *line.split()]
        files = [word if word.startswith("--") else str(tmp_path / word) for word in words]
        assert message in refused(tmp_path, capsys, *files)


def write_wav(path: Path, samples: np.ndarray, bits: int, rate: int = 8000) -> None:
    """Whole numbers, by the standard library."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(bits // 8)
        file.setframerate(rate)
        raw = samples.astype("<i4") if bits > 8 else (samples + 128)
        file.writeframes(
            np.ascontiguousarray(raw.astype("<i4"))
            .view(np.uint8)
            .reshape(*samples.shape, 4)[..., : bits // 8]
            .tobytes()
        )


def read_wav(path: Path, bits: int) -> np.ndarray:
    with wave.open(str(path), "rb") as file:
        assert file.getsampwidth() == bits // 8
        assert file.getframerate() == 8000
        raw = np.frombuffer(file.readframes(file.getnframes()), np.uint8).reshape(-1, file.getnchannels(), bits // 8)
    wide = np.zeros((*raw.shape[:2], 4), np.uint8)
    wide[..., 4 - bits // 8 :] = raw
    return wide.view("<i4")[..., 0] // 2 ** (32 - bits) if bits > 8 else raw[..., 0].astype(int) - 128


def amplifier(gain: float = 1.0, **options: Any) -> fc.Model:
    lstm = KIND["lstm"].make(KIND["lstm"].weights(1, 5))
    return fc.Model([("lstm", lstm, "x"), ("out", nodes.Dense(gain * uniform(4, 1, 5)), "lstm")], **options)


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
@pytest.mark.parametrize("channels", [1, 2])
def test_every_channel_of_a_sound_goes_by_itself(bits: int, channels: int, tmp_path: Path) -> None:
    full = 2 ** (bits - 1)
    samples = np.rint(uniform(5, 301, channels) * (full - 1)).astype(np.int64)
    write_wav(tmp_path / "in.wav", samples, bits)
    model = amplifier()
    fc.save(model, tmp_path / "m.safetensors")
    assert main(["run", *(str(tmp_path / name) for name in ("m.safetensors", "in.wav", "out.wav"))]) == 0
    x = (samples / full).astype(np.float32)
    expected = np.stack([model(x[:, k, None])[:, 0] for k in range(channels)], 1)
    values = np.clip(np.rint(expected.astype(np.float64) * full), -full, full - 1).astype(np.int64)
    np.testing.assert_array_equal(read_wav(tmp_path / "out.wav", bits), values)
    assert main(["run", *(str(tmp_path / name) for name in ("m.safetensors", "in.wav", "out.npy"))]) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy")[..., 0], expected)


def float_wav(samples: np.ndarray, bits: int = 32, *, extensible: bool = False, size: int | None = None) -> bytes:
    data, frame = samples.astype(f"<f{bits // 8}").tobytes(), samples.shape[1] * bits // 8
    code = 0xFFFE if extensible else 3
    fmt = struct.pack("<HHIIHH", code, samples.shape[1], 48000, 48000 * frame, frame, bits)
    fmt += struct.pack("<HHIH14s", 22, bits, 0, 3, b"\0" * 14) if extensible else b""
    chunks = [(b"fmt ", fmt), (b"LIST", b"odd"), (b"data", data)]
    body = b"".join(
        name + struct.pack("<I", len(raw) if name != b"data" or size is None else size) + raw + b"\0" * (len(raw) % 2)
        for name, raw in chunks
    )
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


@pytest.mark.parametrize("options", [{}, {"bits": 64}, {"extensible": True}, {"size": 2**32 - 1}])
def test_sounds_of_floats(options: dict[str, Any], tmp_path: Path) -> None:
    x = uniform(5, 200, 2)
    (tmp_path / "in.wav").write_bytes(float_wav(x, **options))
    model = amplifier(3.0)
    fc.save(model, tmp_path / "m.safetensors")
    assert main(["run", *(str(tmp_path / name) for name in ("m.safetensors", "in.wav", "out.wav"))]) == 0
    bits = options.get("bits", 32)
    raw = (tmp_path / "out.wav").read_bytes()
    expected = np.stack([model(x[:, k, None])[:, 0] for k in range(2)], 1)
    np.testing.assert_array_equal(np.frombuffer(raw[44:], f"<f{bits // 8}").reshape(-1, 2), expected)
    assert struct.unpack_from("<HHI", raw, 20) == (3, 2, 48000)


@pytest.mark.parametrize(
    "options", [{"batch_first": True}, {"axes": {"x": ("batch", "time"), "out": ("batch", 1, "time")}}], ids=str
)
@pytest.mark.parametrize("channels", [1, 2])
def test_sounds_need_no_arrangement(options: dict[str, Any], channels: int, tmp_path: Path) -> None:
    x, names = uniform(5, 200, channels), ("m.safetensors", "in.wav", "out.npy")
    (tmp_path / "in.wav").write_bytes(float_wav(x))
    fc.save(amplifier(inputs={"x": 1}, **options), tmp_path / "m.safetensors")
    assert main(["run", *(str(tmp_path / name) for name in names)]) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), amplifier()(x[..., None]))
    last = fc.Model([*amplifier().nodes, ("last", nodes.Last(), "out")])
    fc.save(last, tmp_path / "m.safetensors")
    assert main(["run", *(str(tmp_path / name) for name in names)]) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), last(x[..., None]))


def test_arrays_of_other_axes_are_given_at_once(tmp_path: Path) -> None:
    axes = {"x": ("batch", 3, "time"), "head": ("batch", 2, "time")}
    model = fc.Model(model_of().nodes, {"x": 3}, axes=axes)
    x = uniform(5, 4, 3, 50)
    np.testing.assert_array_equal(run(model, x, tmp_path), model(x))


def test_samples_beyond_full_scale_are_clipped_and_counted(tmp_path: Path, capsys: Capture) -> None:
    write_wav(tmp_path / "in.wav", np.rint(uniform(5, 100, 1) * 32767), 16)
    model = amplifier(40.0)
    fc.save(model, tmp_path / "m.safetensors")
    assert main(["run", *(str(tmp_path / name) for name in ("m.safetensors", "in.wav", "out.wav"))]) == 0
    said = capsys.readouterr().out
    found = read_wav(tmp_path / "out.wav", 16)
    edge = int(((found == 32767) | (found == -32768)).sum())
    assert edge
    assert f"{edge} samples were beyond full scale and are clipped" in said


@pytest.mark.parametrize(
    ("notes", "shown"),
    [
        ({"sample_rate": 44100}, "44,100 Hz"),
        ({"samplerate": "48000"}, "48,000 Hz"),
        ({"metadata": {"samplerate": "8000"}}, "8,000 Hz"),
        ({"metadata": {"sample_rate": 96000.0}, "samplerate": "unknown"}, "96,000 Hz"),
        ({}, ""),
        ({"sample_rate": None, "metadata": [44100]}, ""),
        ({"sample_rate": -1, "samplerate": [1]}, ""),
        ({"sample_rate": 10**400}, ""),
    ],
    ids=str,
)
def test_a_sound_of_another_rate_than_the_models_is_remarked(
    notes: dict[str, Any], shown: str, tmp_path: Path, capsys: Capture
) -> None:
    from json_models import amplifier as file_of_an_amplifier

    content, _ = file_of_an_amplifier()
    content.pop("metadata")
    (tmp_path / "amp.json").write_text(json.dumps(content | notes), encoding="utf-8")
    files = [str(tmp_path / name) for name in ("amp.json", "in.wav", "out.wav")]
    write_wav(tmp_path / "in.wav", np.zeros((10, 1)), 16, rate=8000)
    assert main(["inspect", files[0]]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if "sample rate" in line]
    assert [row.split("  ")[-1] for row in rows] == [shown] * bool(shown)
    assert main(["run", *files]) == 0
    err = capsys.readouterr().err
    assert ("resample first" in err) == (shown not in ("", "8,000 Hz"))
    if err:
        assert f"in.wav has 8,000 Hz and {files[0]} is of {shown}, so" in err


def refused(folder: Path, capsys: Capture, *arguments: str) -> str:
    out = folder / "out.npy"
    out.write_bytes(b"what was there")
    assert main(["run", *arguments]) in (1, 2)
    shown, err = capsys.readouterr()
    assert shown == ""
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err
    assert out.read_bytes() == b"what was there"
    assert sorted(path.name for path in folder.iterdir() if path.name.endswith(".tmp")) == []
    return err


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


HOSTILE_ARRAYS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "not an array that numpy.save writes"),
    "text": (b"hello", "not an array that numpy.save writes"),
    "cut": (npy(np.zeros((50, 3), np.float32))[:300], "not an array that numpy.save writes, or damaged"),
    "huge": (npy(np.zeros((5, 3), np.float32)).replace(b"(5, 3)", b"(5" + b"0" * 9 + b", 3)"), "or damaged"),
    "objects": (npy(np.array([{}, 1], object)), "or damaged"),
    "archive": (b"PK\x05\x06" + b"\0" * 18, "got an archive of several"),
    "text values": (npy(np.array(["a"])), "expected an array of numbers, got dtype <U1"),
    "complex": (npy(np.zeros((3, 3), complex)), "expected an array of numbers, got dtype complex128"),
    "shape": (npy(np.zeros((5, 4))), "expected shape (T, 3) or (T, B, 3) for 'x', got (5, 4)"),
    "one axis": (npy(np.zeros(3)), "expected shape (T, 3) or (T, B, 3) for 'x', got (3,)"),
    "no steps": (npy(np.zeros((0, 3))), "expected at least one step"),
    "whole numbers": (npy(np.zeros((5, 3), int)), "x"),
}


@pytest.mark.parametrize("name", HOSTILE_ARRAYS)
def test_arrays_that_are_none_are_refused(name: str, tmp_path: Path, capsys: Capture) -> None:
    data, message = HOSTILE_ARRAYS[name]
    fc.save(model_of(), tmp_path / "m.safetensors")
    (tmp_path / "in.npy").write_bytes(data)
    err = refused(tmp_path, capsys, *(str(tmp_path / each) for each in ("m.safetensors", "in.npy", "out.npy")))
    assert message in err


WAV = float_wav(uniform(5, 10, 1))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a RIFF WAVE file"),
        (b"RIFX" + WAV[4:], "not a RIFF WAVE file"),
        (WAV[:20], "without samples, or damaged"),
        (WAV[:-3], "the file ends before its samples do"),
        (WAV.replace(b"data", b"tada"), "without samples, or damaged"),
        (WAV.replace(b"fmt ", b"tmf "), "without samples, or damaged"),
        (WAV[:20] + b"\x55\0" + WAV[22:], "got format 85 of 32 bits"),
        (WAV[:22] + b"\0\0" + WAV[24:], "damaged: 0 channels"),
        (WAV[:32] + b"\0\0" + WAV[34:], "0 bytes a frame"),
        (WAV[:24] + b"\xff" * 4 + WAV[28:], "4294967295 Hz"),
        (float_wav(np.zeros((0, 1), np.float32)), "has no samples"),
    ],
)
def test_sounds_that_are_none_are_refused(data: bytes, message: str, tmp_path: Path, capsys: Capture) -> None:
    fc.save(amplifier(), tmp_path / "m.safetensors")
    (tmp_path / "in.wav").write_bytes(data)
    assert message in refused(
        tmp_path, capsys, *(str(tmp_path / each) for each in ("m.safetensors", "in.wav", "out.npy"))
    )


@given(damage=st.binary(max_size=60), at=st.integers(0, len(WAV)))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_sounds_are_read_or_refused_in_one_line(
    damage: bytes, at: int, tmp_path: Path, capsys: Capture
) -> None:
    fc.save(amplifier(), tmp_path / "m.safetensors")
    (tmp_path / "in.wav").write_bytes(WAV[:at] + damage + WAV[at + len(damage) :])
    assert main(["run", *(str(tmp_path / each) for each in ("m.safetensors", "in.wav", "out.npy"))]) in (0, 1)
    _, err = capsys.readouterr()
    assert len(err.splitlines()) <= 1


def test_what_cannot_be_run_is_refused_before_anything_is_written(tmp_path: Path, capsys: Capture) -> None:
    two = fc.Model([("sum", nodes.Add(), ("a", "b")), ("head", nodes.Dense(uniform(1, 2, 3)), "sum")])
    models = {
        "m": model_of(),
        "two": two,
        "half": fc.Model([("w", nodes.Window(uniform(1, 1, 2), taps=2, stride=2), "x")]),
    }
    for name, model in models.items():
        fc.save(model, tmp_path / f"{name}.safetensors")
    fc.save(fc.RNNCell(np.ones((1, 1)), np.ones((1, 1))), tmp_path / "cell.safetensors")
    np.save(tmp_path / "in.npy", uniform(1, 5, 3))
    write_wav(tmp_path / "in.wav", np.zeros((10, 1)), 16)
    (tmp_path / "in.txt").touch()
    for line, message in (
        ("two.safetensors in.npy out.npy", "has 2 inputs, a, b; run takes one"),
        ("cell.safetensors in.npy out.npy", "holds a RNNCell; supported: whole models and layers"),
        ("m.safetensors in.npy out.wav", "expected .npy to .npy, or .wav to .wav or .npy, got 'in.npy' to 'out.wav'"),
        ("m.safetensors in.txt out.npy", "expected .npy to .npy, or .wav"),
        ("m.safetensors in.npy in.npy", "expected another file to write than 'in.npy', which is read"),
        ("m.safetensors in.wav out.npy", "a sound is for a model of one feature, and 'x' has 3 features"),
        ("half.safetensors in.wav out.wav", "a model that answers a sample for each, got 5 x 1 for 10; write to .npy"),
        ("m.safetensors missing.npy out.npy", "No such file"),
        ("m.safetensors in.npy out.npy --state h=hn", "--state: 'm.safetensors' is not a file ending in .onnx"),
    ):
        words = [str(tmp_path / word) if "." in word else word for word in line.split()]
        assert message in refused(tmp_path, capsys, *words)
    assert main(["run", "m", "in", "out", "--state", "h"]) == 2
    assert "'h' is not IN=OUT" in capsys.readouterr().err
