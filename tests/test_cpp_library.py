"""The C++ library gives Python's bits for every file that `save` writes, and refuses what Python refuses.

The rules of files are written twice, in storage.py with _options.py and layers.py, and in csrc/load. Here both read the
same files: each rule's own, and mutants.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import fusedcell as fc
from fusedcell.reference.activations import ACTIVATIONS
from models import EVERY_NAME, KIND, SIZE_PAIRS, Kind, flat, random_state, uniform
from test_bits import DTYPES, GOLDEN, STEPS, case, digest
from test_storage import HOSTILE, MISFITS, every_dtype, every_kind, file_of, tiny_file
from test_storage_options import OPTION_MISFITS, USUAL


class Refusal(NamedTuple):
    error: str
    message: str


class Library:
    """The program tests/cpp/run_files.cc, which loads and runs files through the library's public header."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.file, self.x, self.results = folder / "layer.safetensors", folder / "x", folder / "results"
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, x: np.ndarray, steps: int, batch: int, isa: str = "") -> np.ndarray | Refusal:
        """All results of the layer in `file`, one after another; x is repeated where it is too short."""
        self.x.write_bytes(x.astype("<f4").tobytes())
        request = (self.file, isa, steps, batch, self.x, self.results)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(*request, sep="\t", file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline().split()
        assert answer, "the program ended"
        if answer[0] == "ok":
            return np.fromfile(self.results, np.float32)
        return Refusal(answer[0], bytes.fromhex(answer[1]).decode(errors="replace"))

    def close(self) -> None:
        self._process.communicate()
        assert self._process.returncode == 0


@pytest.fixture(scope="module")
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    pytest.importorskip("safetensors", minversion="0.8")
    folder: Path | None = request.config.getoption("--cpp-tests")
    if folder is None:
        pytest.skip("pass the folder of the C++ tests' programs with --cpp-tests")
    library = Library(folder / "run_files", tmp_path_factory.mktemp("cpp"))
    yield library
    library.close()


def python_results(layer: Any, x: np.ndarray) -> np.ndarray:
    """What the program gives for x as the layer takes it: its y, and where it has streams y, state and y of streams."""
    if not hasattr(layer, "stream"):
        state: Any = None
        steps = []
        for row in x:
            state = layer(row, state)
            steps.append(state[0] if isinstance(state, tuple) else state)
        y, final = np.stack(steps), flat((state,))
    else:
        y, *state = layer(x)
        final = flat(tuple(state))
        if layer.bidirectional or layer.reverse:
            return y.ravel()
    return np.concatenate([part.ravel() for part in (y, y, *final, y)])


def arranged(layer: Any, steps: int, batch: int) -> tuple[int, int]:
    """The first two axes of x."""
    return (batch, steps) if getattr(layer, "batch_first", False) else (steps, batch)


def compare(library: Library, layer: Any, batch: int = 2, isa: str = "") -> None:
    fc.save(layer, library.file)
    x = uniform(41, *arranged(layer, 7, batch), layer.input_size)
    results = library.run(x, 7, batch, isa)
    assert isinstance(results, np.ndarray), results
    np.testing.assert_array_equal(results.view(np.uint32), python_results(layer, x).view(np.uint32))


@every_kind
@every_dtype
@pytest.mark.core
def test_every_layer_has_the_same_bits(kind: Kind, dtype: str, library: Library) -> None:
    for layers, directions in ((1, 1), (3, 1), (2, 2)):
        mapping = kind.weights(9, 17, layers=layers, directions=directions)
        for batch in (1, 2):
            for batch_first in (False, True):
                compare(library, kind.make(mapping, dtype=dtype, batch_first=batch_first), batch)
    compare(library, kind.make(kind.weights(3, 40, bias=False), dtype=dtype))
    compare(library, kind.make_cell(kind.weights(9, 17), dtype=dtype))


@every_dtype
@pytest.mark.parametrize("name", ["lstm_projected", "gru_reset_before", "lstm_coupled"])
def test_every_tier_can_be_asked_for_and_has_the_same_bits(name: str, dtype: str, isa: str, library: Library) -> None:
    compare(library, KIND[name].make(KIND[name].weights(9, 33, layers=2), dtype=dtype), isa=isa)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", EVERY_NAME)
def test_outputs_have_the_bits_of_the_published_hashes(name: str, dtype: str, isa: str, library: Library) -> None:
    golden = json.loads(GOLDEN.read_text())
    for input_size, hidden_size in SIZE_PAIRS:
        mapping, x = case(name, input_size, hidden_size)
        fc.save(KIND[name].make(mapping, dtype=dtype), library.file)
        results = library.run(x, STEPS, 1, isa)
        assert isinstance(results, np.ndarray), results
        _, output_size = mapping["weight_hh_l0"].shape
        size = STEPS * output_size  # of y, which comes first and last; h and c come before the last
        c = results[2 * size + output_size : -size]
        assert digest(results[:size], c) == golden[f"{name} {input_size} {hidden_size} {dtype}"]


@every_dtype
def test_reverse_layers_have_the_same_bits(dtype: str, library: Library) -> None:
    for name in ("lstm_peephole", "gru_after_sigmoid", "rnn_elu"):
        compare(library, KIND[name].make(KIND[name].weights(9, 17, layers=2), dtype=dtype, reverse=True))


def test_fixed_input_scales_have_the_same_bits(library: Library) -> None:
    layer = KIND["gru_reset_after"].make(KIND["gru_reset_after"].weights(9, 17, layers=2))
    compare(library, layer.astype("int8", input_scales=[0.01, 0.0078125]))


@every_kind
def test_initial_states_have_the_same_bits(kind: Kind, library: Library) -> None:
    for directions in (1, 2):
        mapping = kind.weights(9, 17, layers=2, directions=directions)
        for rows in (1, 2):
            state = random_state(kind, mapping, rows)
            layer = kind.make(mapping).with_initial_state(*(state if isinstance(state, tuple) else (state,)))
            compare(library, layer)
    fc.save(layer, library.file)
    assert library.run(uniform(1, 9), 1, 3) == Refusal(
        "invalid_argument", "batch: the layer's initial state is for a batch of 2, not 3"
    )


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_has_the_same_bits_and_takes_the_same_parameters(name: str, library: Library) -> None:
    accepted = []
    for alpha, beta in ((0, 0), (0.3, 0), (0, 0.3), (0.3, 0.3)):
        options = [USUAL | {"activations": [{"name": name, "alpha": alpha, "beta": beta}]}]
        accepted.append(agree(library, tiny_file(format_version=2, options=options), 1))
    assert accepted[0]


# Shortest decimals, halfway cases between two floats and between two doubles, the ends of both ranges.
NUMBERS = """
0.1 1e-40 1.1754943508222875e-38 3.4028234663852886e38 3.4028235677973366e38 1e39 1e-46 5e-324 1e-400 1e999 7 16777217
16777217.000000001 1.00000005960464477540 1.00000005960464477539 9007199254740993e-15 0.0 -0 -1.5 1E2 1e+2
12345678901234567890123456789 0.30000001192092896
"""


@pytest.mark.parametrize("number", NUMBERS.split())
def test_numbers_are_rounded_alike(number: str, library: Library) -> None:
    options = json.dumps([USUAL | {"activations": [{"name": "Affine", "alpha": 12321, "beta": 0.0}], "clip": 45654}])
    for value, other in (("12321", "45654"), ("45654", "12321")):
        text = options.replace(value, number).replace(other, "2.5")
        description = (
            '{"format_version": 2, "class": "RNN", "kind": "rnn_relu", "dtype": "float32", "batch_first": true, '
            f'"reverse": false, "options": {text}}}'
        )
        agree(library, container(__metadata__={"fusedcell": description}), 1)


def python_answer(path: Path, x: np.ndarray, batch: int) -> np.ndarray | Refusal:
    try:
        layer = fc.load(path)
    except fc.UnsupportedError as error:
        return Refusal("UnsupportedError", str(error))
    except ValueError as error:
        return Refusal("LoadError", str(error))
    rows = np.resize(x, (*arranged(layer, len(x), batch), layer.input_size))
    try:
        return python_results(layer, rows)
    except ValueError as error:  # the initial state is another batch's
        return Refusal("invalid_argument", str(error))


def agree(library: Library, data: bytes, batch: int = 2) -> bool:
    """Python and C++ both refuse the file with the same class of error, or give the same bits; whether they accept."""
    library.file.write_bytes(data)
    x = uniform(43, 3)
    expected = python_answer(library.file, x, batch)
    actual = library.run(x, len(x), batch)
    if isinstance(expected, Refusal):
        assert isinstance(actual, Refusal), expected
        assert actual.error == expected.error, (actual, expected)
    else:
        assert isinstance(actual, np.ndarray), actual
        np.testing.assert_array_equal(actual, expected)
    return isinstance(actual, np.ndarray)


def same_message(library: Library, data: bytes) -> None:
    """Both refuse the file, and say the same of it up to the value that came."""
    assert not agree(library, data)
    actual = library.run(uniform(43, 3), 3, 2)
    expected = python_answer(library.file, uniform(43, 3), 2)
    assert isinstance(actual, Refusal)
    assert isinstance(expected, Refusal)
    # The container's errors are the package's, and the JSON's those of json.
    for prefix in (f"{library.file}: not a safetensors file", f"{library.file}: the header's entry 'fusedcell'"):
        if actual.message.startswith(prefix):
            return

    def claim(message: str) -> str:
        # Which of several tensors of the wrong type comes first is not defined in Python.
        claim = message.split(", got ")[0].replace('"', "'")
        return claim.replace("weight_hh_l0: expected dtype", "weight_ih_l0: expected dtype")

    assert claim(actual.message) == claim(expected.message)


def test_pipes_and_devices_are_refused_alike_and_not_read(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    path = library.file.with_name("special")
    monkeypatch.setattr(library, "file", path)
    # Without the refusal this one ends, and the other need not.
    path.symlink_to("/dev/null")
    for _ in range(2):
        expected = python_answer(path, uniform(43, 3), 2)
        assert isinstance(expected, Refusal)
        assert expected.message.startswith(f"{path}: expected a regular file")
        assert library.run(uniform(43, 3), 3, 2) == expected
        path.unlink()
        os.mkfifo(path)
    path.unlink()


@pytest.mark.parametrize(("data", "message"), HOSTILE)
def test_damaged_and_hostile_files_are_refused_alike(data: bytes, message: str, library: Library) -> None:
    same_message(library, data)


@pytest.mark.parametrize(("changes", "error", "message"), MISFITS)
def test_misfits_are_refused_alike(
    changes: dict[str, Any], error: type[Exception], message: str, library: Library
) -> None:
    same_message(library, tiny_file(**changes))


@every_dtype
@pytest.mark.parametrize("name", ["lstm_projected", "lstm_peephole", "gru_reset_after", "rnn_relu"])
def test_weights_that_are_not_finite_are_refused_with_the_same_words(name: str, dtype: str, library: Library) -> None:
    kind = KIND[name]
    mapping = kind.weights(3, 4, layers=2)
    state = random_state(kind, mapping, 2)
    layer = kind.make(mapping, dtype=dtype).with_initial_state(*(state if isinstance(state, tuple) else (state,)))
    fc.save(layer, library.file)
    data = library.file.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    for tensor in set(header) - {"__metadata__"}:
        bad = {"F32": "ffffff7f 0000c0ff 000080ff", "BF16": "ff7f c0ff 80ff", "F16": "ff7f 00fe 00fc", "I8": "80"}
        first, last = (start + offset for offset in header[tensor]["data_offsets"])
        value = bytes.fromhex(bad[header[tensor]["dtype"]])[: last - first]
        library.file.write_bytes(data[:first] + value + data[first + len(value) :])
        actual, expected = library.run(uniform(43, 3), 3, 2), python_answer(library.file, uniform(43, 3), 2)
        assert isinstance(actual, Refusal)
        assert isinstance(expected, Refusal)
        assert actual == expected
        if header[tensor]["dtype"] != "I8" and "_scale" not in tensor:
            assert f"{tensor.removeprefix('initial_')}: expected finite values, got " in actual.message


@pytest.mark.parametrize(("changes", "error", "message"), OPTION_MISFITS)
def test_options_that_do_not_fit_are_refused_alike(
    changes: dict[str, Any], error: type[Exception], message: str, library: Library
) -> None:
    same_message(library, tiny_file(**{"format_version": 2, **changes}))


def container(**changes: Any) -> bytes:
    """tiny_file with other entries in its header."""
    return file_of(json.loads(HEADER) | changes, WEIGHTS)


def raw(header: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + WEIGHTS


HEADER, WEIGHTS = tiny_file()[8:-8], tiny_file()[-8:]
WEIGHT = {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]}
NOTHING = {"dtype": "F32", "shape": [0], "data_offsets": [8, 8]}


@pytest.mark.parametrize(
    ("data", "is_layer"),
    [
        (container(), True),
        (container(input_scales=NOTHING), True),
        (container(bias_ih_l0=NOTHING), False),
        (container(bias_ih_l0=NOTHING | {"shape": [0, 2**63]}), False),
        (container(bias_ih_l0=NOTHING | {"shape": [2**62, 2**62, 0]}), False),
        (container(bias_ih_l0=NOTHING | {"data_offsets": [7, 7]}), False),
        (container(weight_ih_l0=WEIGHT | {"shape": [1] * 40}), False),
        (container(weight_ih_l0=WEIGHT | {"shape": [1.0, 1]}), False),
        (container(weight_ih_l0=WEIGHT | {"shape": [-1, -1]}), False),
        (container(weight_ih_l0=WEIGHT | {"shape": 1}), False),
        (container(weight_ih_l0=WEIGHT | {"data_offsets": [4, 8]}), False),
        (container(weight_ih_l0=WEIGHT | {"data_offsets": [0, 4, 8]}), False),
        (container(weight_ih_l0=WEIGHT | {"data_offsets": [2**64, 4]}), False),
        (container(weight_ih_l0=WEIGHT | {"dtype": "F33"}), False),
        (container(weight_ih_l0=WEIGHT | {"dtype": 32}), False),
        (container(weight_ih_l0={"dtype": "F32", "shape": [1, 1]}), False),
        (container(weight_ih_l0=[]), False),
        (container(__metadata__={"format": 3}), False),
        (raw(HEADER.replace(b'"fusedcell"', b'"author": "somebody", "format": "pt", "fusedcell"')), True),
        (tiny_file() + b"more", False),
        (raw(b" " + HEADER), True),
        (raw(HEADER + b"  "), True),
        (raw(HEADER + b"\0"), False),
        (raw(HEADER.replace(b'"fusedcell"', b'"\\u0066usedcell"')), True),
        (raw(HEADER.replace(b'"fusedcell"', b'"a": "\\ud83d\\ude00\xf0\x9f\x98\x80", "fusedcell"')), True),
        (raw(HEADER.replace(b'"fusedcell"', b'"a": "\\ud83d", "fusedcell"')), False),
        (raw(HEADER.replace(b'"fusedcell"', b'"a": "\xed\xa0\xbd", "fusedcell"')), False),
        (raw(HEADER.replace(b'"fusedcell"', b'"a": "\xc0\x80", "fusedcell"')), False),
        (raw(HEADER.replace(b'"fusedcell"', b'"a": "\x1f", "fusedcell"')), False),
        (raw(HEADER.replace(b'"fusedcell"', b'"a": "\\x41", "fusedcell"')), False),
    ],
)
def test_containers_are_read_alike(data: bytes, is_layer: bool, library: Library) -> None:
    assert agree(library, data, 1) == is_layer


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            container(weight_ih_l0=WEIGHT | {"more": 1}),
            "weight_ih_l0: expected dtype, shape and data_offsets, got 'more'",
        ),
        (container(weight_ih_l0=["F32", [1, 1], [0, 4]]), "weight_ih_l0: expected an object"),
        (raw(b'{"weight_ih_l0": ' + json.dumps(WEIGHT).encode() + b", " + HEADER[1:]), "'weight_ih_l0' comes twice"),
    ],
)
def test_what_the_package_takes_and_we_do_not(data: bytes, message: str, library: Library) -> None:
    library.file.write_bytes(data)
    fc.load(library.file)
    refusal = library.run(uniform(43, 3), 3, 1)
    assert isinstance(refusal, Refusal)
    assert message in refusal.message


@every_dtype
def test_truncated_files_are_refused_alike(dtype: str, library: Library) -> None:
    kind = KIND["gru_reset_after"]
    fc.save(kind.make(kind.weights(1, 2), dtype=dtype), library.file)
    data = library.file.read_bytes()
    for size in range(len(data)):
        assert not agree(library, data[:size])


def mutants(data: bytes, count: int) -> Iterator[bytes]:
    """Bytes changed, taken out and put in again elsewhere, most of them in the header and to what JSON has."""
    random = np.random.default_rng(7)
    header = 8 + int.from_bytes(data[:8], "little")
    letters = b'{}[]:,"\\0123456789-.eE_ntfu \x00\x80\xc3\xff'
    for _ in range(count):
        mutant = bytearray(data)
        for _ in range(random.integers(1, 3)):
            at = int(random.integers(header if random.random() < 0.6 else len(mutant)))
            length = int(random.integers(1, 30))
            match random.integers(6):
                case 0:
                    mutant[at] = random.integers(256)
                case 1:
                    del mutant[at : at + length]
                case 2:
                    start = int(random.integers(header))
                    mutant[at:at] = mutant[start : start + length]
                case 3:
                    mutant[at : at + 1] = str(random.integers(2 ** random.integers(1, 63))).encode()
                case _:
                    mutant[at] = letters[random.integers(len(letters))]
        # Half of them have the size of their header right again, so that more than that is looked at.
        if random.random() < 0.5:
            mutant[:8] = (header - 8 + len(mutant) - len(data)).to_bytes(8, "little")
        yield bytes(mutant)


# What C++ refuses although Python takes it: the container's package and json both let names come twice, the package
# ignores what it does not know and takes lists for objects.
STRICTER = ("comes twice", "expected dtype, shape and data_offsets", ": expected an object, got")


@every_dtype
@pytest.mark.parametrize("name", ["lstm_projected", "gru_before_leaky", "lstm_hard"])
def test_mutants_are_refused_alike_or_have_the_same_bits(name: str, dtype: str, library: Library) -> None:
    kind = KIND[name]
    fc.save(kind.make(kind.weights(3, 2, layers=2), dtype=dtype), library.file)
    accepted = 0
    x = uniform(43, 3)
    for data in mutants(library.file.read_bytes(), 500):
        library.file.write_bytes(data)
        actual = library.run(x, len(x), 2)
        expected = python_answer(library.file, x, 2)
        if isinstance(actual, np.ndarray):
            assert isinstance(expected, np.ndarray), expected
            np.testing.assert_array_equal(actual, expected)
            accepted += 1
        else:
            assert isinstance(expected, Refusal) or any(text in actual.message for text in STRICTER), actual
    assert 0 < accepted < 400
