"""The C++ library gives Python's bits for every file that `save` writes, and says the same where it refuses one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import fusedcell as fc
from drawn import examples
from drawn_models import drawn_models
from fusedcell.reference.activations import ACTIVATIONS, activation_parameters
from golden import digest, published
from model_entries import DrawnModel
from models import EVERY_NAME, KIND, SIZE_PAIRS, Kind, flat, random_state, uniform
from test_bits import DTYPES, STEPS, case
from test_models import has_answers, listed
from test_sparse import mapping_of as pruned_mapping
from test_storage import HOSTILE, MISFITS, every_dtype, every_kind, tiny_file
from test_storage_options import OPTION_MISFITS, USUAL


class Refusal(NamedTuple):
    error: str
    message: str


class Library:
    """The program tests/cpp/run_files.cc, which loads and runs files through the library's public header."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.file, self.x, self.results = folder / "layer.safetensors", folder / "x", folder / "results"
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, x: np.ndarray, steps: int, batch: int | str, isa: str = "") -> np.ndarray | Refusal:
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
    for input_size, hidden_size in SIZE_PAIRS:
        mapping, x = case(name, input_size, hidden_size)
        fc.save(KIND[name].make(mapping, dtype=dtype), library.file)
        results = library.run(x, STEPS, 1, isa)
        assert isinstance(results, np.ndarray), results
        _, output_size = mapping["weight_hh_l0"].shape
        size = STEPS * output_size  # of y, which comes first and last; h and c come before the last
        c = results[2 * size + output_size : -size]
        assert digest([results[:size], c]) == published(f"{name} {input_size} {hidden_size} {dtype}")


@every_dtype
def test_reverse_layers_have_the_same_bits(dtype: str, library: Library) -> None:
    for name in ("lstm_peephole", "gru_after_sigmoid", "rnn_elu"):
        compare(library, KIND[name].make(KIND[name].weights(9, 17, layers=2), dtype=dtype, reverse=True))


@pytest.mark.parametrize("changes", [{"weight_hh": "int8"}, {"weight_ih_l0": "float16", "weight_hh": "bfloat16"}])
def test_matrices_of_different_types_have_the_same_bits(changes: dict[str, str], library: Library) -> None:
    compare(library, KIND["lstm"].make(KIND["lstm"].weights(5, 17, layers=2)).astype(changes))


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("name", ["lstm", "gru_reset_before", "lstm_coupled"])
def test_pruned_layers_have_the_same_bits(name: str, dtype: str, isa: str, library: Library) -> None:
    layer = KIND[name].make(pruned_mapping(KIND[name], 70, 111, 0.2, layers=2), dtype=dtype)
    assert min(layer.densities.values()) < 0.5
    compare(library, layer, isa=isa)


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
def test_every_activation_has_the_same_bits(name: str, library: Library) -> None:
    activation = {"name": name, "alpha": 0.0, "beta": 0.0} | dict.fromkeys(activation_parameters(name), 0.3)
    library.file.write_bytes(tiny_file(format_version=2, options=[USUAL | {"activations": [activation]}]))
    compare(library, fc.load(library.file))


def python_refusal(path: Path) -> Refusal:
    try:
        layer = fc.load(path)
    except fc.UnsupportedError as error:
        return Refusal("UnsupportedError", str(error))
    except ValueError as error:
        return Refusal("LoadError", str(error))
    pytest.fail(f"expected a refusal, got {layer!r}")


def test_what_is_refused_is_so_with_the_same_words(library: Library) -> None:
    files = [data for data, _ in HOSTILE] + [tiny_file(**changes) for changes, _, _ in MISFITS]
    files += [tiny_file(**{"format_version": 2, **changes}) for changes, _, _ in OPTION_MISFITS]
    for data in files:
        library.file.write_bytes(data)
        assert library.run(uniform(43, 3), 3, 2) == python_refusal(library.file)


def test_pipes_and_devices_are_refused_alike_and_not_read(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    path = library.file.with_name("special")
    monkeypatch.setattr(library, "file", path)
    # Without the refusal this one ends, and the other need not.
    path.symlink_to("/dev/null")
    for _ in range(2):
        expected = python_refusal(path)
        assert expected.message.startswith(f"{path}: expected a regular file")
        assert library.run(uniform(43, 3), 3, 2) == expected
        path.unlink()
        os.mkfifo(path)
    path.unlink()


@settings(max_examples=examples(60))
@given(
    drawn=drawn_models(),
    dtype=st.sampled_from(DTYPES),
    steps=st.integers(1, 40),
    batch=st.integers(1, 3),
    batch_first=st.booleans(),
    seed=st.integers(1, 99),
)
def test_whole_models_have_the_same_bits(
    drawn: DrawnModel, dtype: str, steps: int, batch: int, batch_first: bool, seed: int, isa: str, library: Library
) -> None:
    assume(has_answers(drawn, steps))
    model = drawn.build(batch_first=batch_first).astype(dtype)
    inputs = drawn.draw_inputs(steps, batch, seed=seed)
    if batch_first:
        inputs = [np.ascontiguousarray(x.swapaxes(0, 1)) for x in inputs]
    answers = listed(model(*inputs))
    if model.streamable:
        stream = model.stream(batch)
        answers += listed(stream.process(*inputs)) + listed(stream.flush())
    fc.save(model, library.file)
    x = np.concatenate([x.astype(np.float32).ravel() for x in inputs])
    results = library.run(x, steps, f"{batch}m", isa)
    assert isinstance(results, np.ndarray), results
    expected = np.concatenate([y.ravel() for y in answers])
    np.testing.assert_array_equal(results.view(np.uint32), expected.view(np.uint32))
