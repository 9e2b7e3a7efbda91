"""States that travel: to_bytes and stream_from_bytes."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
import struct
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fusedcell as fc
from fusedcell._dtypes import DTYPES
from fusedcell._stream_bytes import fingerprint
from models import EVERY_KIND, KIND, Kind, flat, one_unit, random_state, uniform

pytestmark = pytest.mark.core

every_kind = pytest.mark.parametrize("kind", EVERY_KIND, ids=lambda kind: kind.name)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)

HEADER = 72
CHECKSUM = 16


def small_layer() -> Any:
    return KIND["lstm"].make(KIND["lstm"].weights(3, 4))


def small_state() -> bytes:
    stream = small_layer().stream()
    stream.process(uniform(1, 5, 3))
    return stream.to_bytes()


def sealed(content: bytes) -> bytes:
    """With the checksum that docs/file_format.md describes."""
    return content + hashlib.blake2b(content, digest_size=CHECKSUM).digest()


def assert_same(stream: fc.Stream, other: fc.Stream) -> None:
    for part, expected in zip(flat((stream.state,)), flat((other.state,)), strict=True):
        np.testing.assert_array_equal(part, expected)


@every_kind
@every_dtype
@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_stream_goes_on_as_if_it_had_never_left(kind: Kind, dtype: str, started: bool, batch_size: int) -> None:
    mapping = kind.weights(6, 9, layers=2)
    layer = kind.make(mapping).astype(dtype)
    if started:
        layer = layer.with_initial_state(*flat((random_state(kind, mapping, batch_size),)))
    stream = layer.stream(batch_size)
    stream.process(uniform(1, 5, batch_size, 6))
    other = layer.stream_from_bytes(stream.to_bytes())
    assert other.batch_size == batch_size
    assert_same(other, stream)
    x = uniform(2, 5, batch_size, 6)
    np.testing.assert_array_equal(other.process(x), stream.process(x))
    for each in (stream, other):
        each.reset()
    np.testing.assert_array_equal(other.process(x), stream.process(x))


def test_what_is_not_finite_travels_too() -> None:
    stream = small_layer().stream()
    stream.state[0][0, 0] = [np.nan, np.inf, -np.inf, -0.0]
    other = small_layer().stream_from_bytes(stream.to_bytes())
    assert other.state[0].tobytes() == stream.state[0].tobytes()


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_the_bytes_may_be_in_any_buffer(wrap: Any) -> None:
    assert small_layer().stream_from_bytes(wrap(small_state())).to_bytes() == small_state()


def test_threads_of_the_new_stream_are_for_the_caller_to_say() -> None:
    assert small_layer().stream_from_bytes(small_state(), num_threads=2).to_bytes() == small_state()
    with pytest.raises(ValueError, match="num_threads: expected at least 1"):
        small_layer().stream_from_bytes(small_state(), num_threads=0)


def test_a_stream_outlives_its_layer_and_so_do_its_copies() -> None:
    data = small_layer().stream_from_bytes(small_state()).copy().to_bytes()
    assert data == small_state()


def test_the_bytes_are_as_documented() -> None:
    """Taken apart by hand, as docs/file_format.md says."""
    layer = KIND["lstm_projected"].make(KIND["lstm_projected"].weights(3, 4, layers=2))
    start = random_state(KIND["lstm_projected"], KIND["lstm_projected"].weights(3, 4, layers=2), 1)
    stream = layer.with_initial_state(*start).stream(5)
    stream.process(uniform(1, 2, 5, 3))
    data = stream.to_bytes()
    magic, version, flags, layers, batch, h_size, c_size, digest = struct.unpack("<8sHHIQQQ32s", data[:HEADER])
    assert magic == b"\x89fcs\r\n\x1a\n"
    assert (version, flags, layers, batch, h_size, c_size) == (1, 1, 2, 5, 2, 4)
    assert digest == fingerprint(layer._stack)
    floats = np.frombuffer(data[HEADER:-CHECKSUM], "<f4")
    h, c, initial_h, initial_c = np.split(floats, np.cumsum([2 * 5 * 2, 2 * 5 * 4, 2 * 5 * 2]))
    np.testing.assert_array_equal(h.reshape(2, 5, 2), stream.state[0])
    np.testing.assert_array_equal(c.reshape(2, 5, 4), stream.state[1])
    np.testing.assert_array_equal(initial_h.reshape(2, 5, 2), np.repeat(start[0], 5, axis=1))
    np.testing.assert_array_equal(initial_c.reshape(2, 5, 4), np.repeat(start[1], 5, axis=1))
    assert data == sealed(data[:-CHECKSUM])


def test_every_byte_that_is_altered_is_noticed() -> None:
    data, layer = small_state(), small_layer()
    for index in range(len(data)):
        for change in (0x01, 0x80, 0xFF):
            altered = bytearray(data)
            altered[index] ^= change
            with pytest.raises(ValueError, match=r"^data: "):
                layer.stream_from_bytes(bytes(altered))


def test_every_cut_is_noticed() -> None:
    data, layer = small_state(), small_layer()
    for size in range(len(data)):
        with pytest.raises(ValueError, match=r"^data: "):
            layer.stream_from_bytes(data[:size])
        with pytest.raises(ValueError, match=r"^data: "):
            layer.stream_from_bytes(data[size + 1 :])
    with pytest.raises(ValueError, match=r"data: cut or altered: expected \d+ bytes by its header, got"):
        layer.stream_from_bytes(data + b"\0")


@pytest.mark.any_cpu
@settings(max_examples=100)
@given(data=st.data())
def test_no_bytes_do_worse_than_raise_a_value_error(data: st.DataObject) -> None:
    content = bytearray(small_state()[:-CHECKSUM])
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(8, len(content)))
        content[start : start + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=12))
    try:
        stream = small_layer().stream_from_bytes(sealed(bytes(content)))
    except ValueError as error:
        refusal: str | None = str(error)
    else:  # only the state's own values were altered
        refusal = None
        assert stream.to_bytes() == sealed(bytes(content))
    assert refusal is None or refusal.startswith("data: ")


@pytest.mark.parametrize(
    ("offset", "form", "value", "message"),
    [
        (8, "<H", 2, "data: expected version 1 of the format, got 2"),
        (8, "<H", 0, "data: expected version 1 of the format, got 0"),
        (10, "<H", 2, "data: expected a state of 1 layers, h of 4, c of 4 and at least 1 row, got"),
        (12, "<I", 2, "data: cut or altered: expected .* bytes by its header"),
        (16, "<Q", 2**63, "data: cut or altered: expected .* bytes by its header"),
        (24, "<QQ", (8, 0), "data: expected a state of 1 layers, h of 4, c of 4 and at least 1 row, got"),
        (40, "<Q", 7, "data: expected a state of this layer's weights, [0-9a-f]{16} .*, got one of 0700000000000000"),
    ],
)
def test_a_header_that_does_not_fit_is_refused_though_its_checksum_is_right(
    offset: int, form: str, value: Any, message: str
) -> None:
    content = bytearray(small_state()[:-CHECKSUM])
    if offset == 40:
        content[40:72] = bytes(32)
    struct.pack_into(form, content, offset, *(value if isinstance(value, tuple) else (value,)))
    with pytest.raises(ValueError, match=message):
        small_layer().stream_from_bytes(sealed(bytes(content)))


def test_a_state_of_no_rows_is_refused() -> None:
    content = bytearray(small_state()[:HEADER])
    struct.pack_into("<Q", content, 16, 0)
    with pytest.raises(ValueError, match="at least 1 row"):
        small_layer().stream_from_bytes(sealed(bytes(content)))


@pytest.mark.parametrize("data", ["text", None, 3, [1, 2], np.zeros(3)])
def test_only_bytes_are_read(data: Any) -> None:
    with pytest.raises(TypeError, match="data: expected bytes, got"):
        small_layer().stream_from_bytes(data)


def test_what_is_no_state_is_refused() -> None:
    for data in (b"", b"PK\x03\x04 no state at all", pickle.dumps(small_layer())):
        with pytest.raises(ValueError, match="data: expected the state of a stream, which starts with"):
            small_layer().stream_from_bytes(data)


def test_a_bidirectional_layer_has_no_streams() -> None:
    kind = KIND["lstm"]
    with pytest.raises(fc.UnsupportedError, match="bidirectional"):
        kind.make(kind.weights(3, 4, directions=2)).stream_from_bytes(small_state())


def spike(array: np.ndarray) -> np.ndarray:
    """0.125 in its first place."""
    values = np.zeros_like(array)
    values.flat[0] = 0.125
    return values


def other_layers() -> dict[str, Any]:
    """Layers that differ in one thing from `small_layer`."""
    lstm = KIND["lstm"]
    mapping = lstm.weights(3, 4)
    layers = {
        f"another {name}": lstm.make({**mapping, name: array + spike(array)})
        for name, array in mapping.items()
        if name != "bias_hh_l0"  # which is added to bias_ih
    }
    layers |= {f"in {dtype}": small_layer().astype(dtype) for dtype in DTYPES[1:]}
    int8 = small_layer().astype("int8")
    layers["with a fixed scale"] = small_layer().astype("int8", input_scales=[1.0])
    layers["with another scale"] = int8.astype("int8", input_scales=[2.0])
    layers["two layers"] = lstm.make(lstm.weights(3, 4, layers=2))
    layers["larger"] = lstm.make(lstm.weights(3, 5))
    layers["a projection"] = KIND["lstm_projected"].make(KIND["lstm_projected"].weights(3, 8))
    layers["peepholes"] = KIND["lstm_peephole"].make(KIND["lstm_peephole"].weights(3, 4))
    layers["hard gates"] = KIND["lstm_hard"].make(mapping)
    for name in ("gru_reset_after", "gru_reset_before", "gru_before_clipped", "rnn_tanh", "rnn_relu", "rnn_elu"):
        layers[name] = KIND[name].make(KIND[name].weights(3, 4))
    return layers


def test_a_state_of_any_other_weights_is_refused() -> None:
    layers = {"itself": small_layer(), **other_layers()}
    assert len({fingerprint(layer._stack) for layer in layers.values()}) == len(layers)
    for name, layer in layers.items():
        data = layer.stream().to_bytes()
        for other_name, other in layers.items():
            if name != other_name:
                with pytest.raises(ValueError, match="data: expected a state of this layer's weights"):
                    other.stream_from_bytes(data)


@pytest.mark.any_cpu
@every_kind
@every_dtype
def test_equal_weights_have_one_fingerprint_on_every_tier_and_however_they_came(kind: Kind, dtype: str) -> None:
    mapping = kind.weights(6, 21, layers=2)
    layer = kind.make(mapping).astype(dtype)
    same = [kind.make(mapping, isa=isa).astype(dtype) for isa in fc.isas()]
    same += [pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer), layer.astype(dtype)]
    same += [layer.with_initial_state(*flat((random_state(kind, mapping, 1),)))]
    assert {fingerprint(other._stack) for other in same} == {fingerprint(layer._stack)}
    stream = layer.stream()
    stream.process(uniform(1, 3, 6))
    for other in same:
        assert_same(other.stream_from_bytes(stream.to_bytes()), stream)


def documented_fingerprint(mapping: Mapping[str, np.ndarray], q: bool) -> str:
    """Of the one-unit network below, by hand."""
    tensors: list[tuple[str, np.ndarray]] = [
        ("input_scales", np.zeros(0, "<f4")),
        ("bias_hh", np.zeros(1, "<f4")),
        ("bias_ih", np.zeros(1, "<f4")),
        ("weight_hh", np.array([[127]], "i1") if q else mapping["weight_hh_l0"]),
    ]
    tensors += [("weight_hh_scale", np.array([0.5 / 127], "<f4"))] if q else []
    tensors += [("weight_ih", np.array([[64, 127]], "i1") if q else mapping["weight_ih_l0"])]
    tensors += [("weight_ih_scale", np.array([2 / 127], "<f4"))] if q else []
    description = {
        "kind": "rnn_relu",
        "dtype": "int8" if q else "float32",
        "num_directions": 1,
        "reverse": False,
        "options": [{"activations": None, "clip": None, "clip_before_h": True, "input_forget": False}],
        "tensors": [[name, list(array.shape)] for name, array in tensors],
    }
    text = json.dumps(description, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode() + b"".join(array.tobytes() for _, array in tensors)).hexdigest()


def test_the_fingerprint_is_as_documented_and_the_same_on_every_machine() -> None:
    layer = one_unit([1.0, 2.0], 0.5)
    mapping = {"weight_ih_l0": np.array([[1, 2]], "<f4"), "weight_hh_l0": np.array([[0.5]], "<f4")}
    assert fingerprint(layer._stack).hex() == documented_fingerprint(mapping, q=False)
    assert fingerprint(layer.astype("int8")._stack).hex() == documented_fingerprint(mapping, q=True)


@pytest.mark.any_cpu
def test_bytes_of_a_stream_in_use_are_refused_rather_than_mixed() -> None:
    kind = KIND["lstm"]
    stream = kind.make(kind.weights(64, 64)).stream()
    block = uniform(8, 20_000, 64)
    errors: list[str] = []
    stop = threading.Event()

    def keep_busy() -> None:
        while not stop.is_set():
            try:
                stream.process(block)  # gives up the GIL, so the other thread comes while it runs
            except RuntimeError:
                continue

    thread = threading.Thread(target=keep_busy)
    thread.start()
    try:
        for _ in range(100_000):
            try:
                stream.to_bytes()
            except RuntimeError as error:
                errors.append(str(error))
                break
    finally:
        stop.set()
        thread.join(timeout=120)
    assert "another thread is using it" in errors[0]
