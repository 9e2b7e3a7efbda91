"""Arguments with code of their own: what it raises comes out of the call as it is, but for what says that the argument
is none of the kind that is wanted; that becomes a TypeError which names the argument."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fusedcell as fc
from fusedcell import quantization
from models import KIND, uniform

pytestmark = [pytest.mark.core, pytest.mark.float_weights]

LSTM, GRU = KIND["lstm"], KIND["gru_reset_after"]
MAPPING = LSTM.weights(6, 9)
LAYER, CELL, GRU_LAYER = LSTM.make(MAPPING), LSTM.make_cell(MAPPING), GRU.make(GRU.weights(6, 9))
STARTING = LAYER.with_initial_state(np.zeros((1, 1, 9)), np.zeros((1, 1, 9)))
X, H = uniform(1, 4, 2, 6), np.zeros((1, 2, 9), np.float32)


class ReaderError(Exception):
    """What a reader of files of its own raises."""


PASSED_ON = [
    KeyboardInterrupt,
    SystemExit,
    GeneratorExit,
    MemoryError,
    RecursionError,
    OSError,
    EOFError,
    KeyError,
    ZeroDivisionError,
    ReaderError,
]
REWORDED = [TypeError, ValueError, UnicodeError]


class Raises:
    """Raises one error from what is asked of it."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class ArrayMethod(Raises):
    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise self.error


class Interface(Raises):
    @property
    def __array_interface__(self) -> dict[str, Any]:
        raise self.error


class Struct(Raises):
    @property
    def __array_struct__(self) -> object:
        raise self.error


class Length(Raises):
    def __len__(self) -> int:
        raise self.error

    def __getitem__(self, item: int) -> float:
        return 0.0


class Item(Raises):
    def __len__(self) -> int:
        return 6

    def __getitem__(self, item: int) -> float:
        raise self.error


class Iteration(Item):
    def __iter__(self) -> Iterator[float]:
        raise self.error


class Buffer(Raises):
    """Asked from Python 3.12 on."""

    def __buffer__(self, flags: int) -> memoryview:
        raise self.error


class Number(Raises):
    def __index__(self) -> int:
        raise self.error

    def __float__(self) -> float:
        raise self.error

    def __bool__(self) -> bool:
        raise self.error


class Path(Raises):
    def __fspath__(self) -> str:
        raise self.error


class Items(Raises, Mapping[str, Any]):
    def __getitem__(self, name: str) -> Any:
        raise self.error

    def __iter__(self) -> Iterator[str]:
        return iter(MAPPING)

    def __len__(self) -> int:
        return len(MAPPING)


PROTOCOLS = [ArrayMethod, Interface, Struct, Length, Item, Iteration]
PROTOCOLS += [Buffer] if sys.version_info >= (3, 12) else []


def pool_call(name: str, *arguments: Any) -> Any:
    pool = fc.StreamPool(LAYER, 3)
    pool.join()
    return getattr(pool, name)(*arguments)


ARRAYS: dict[str, Callable[[Any], Any]] = {
    "x": LAYER,
    "x of a layer with a state": STARTING,
    "x of a GRU": GRU_LAYER,
    "h_0": lambda v: LAYER(X, (v, H)),
    "c_0": lambda v: LAYER(X, (H, v)),
    "lengths": lambda v: LAYER(X, lengths=v),
    "mask": lambda v: LAYER(X, mask=v),
    "x of a cell": CELL,
    "h": lambda v: CELL(X[0], (v, H[0])),
    "c": lambda v: CELL(X[0], (H[0], v)),
    "x of a step": lambda v: LAYER.stream().step(v),
    "block": lambda v: LAYER.stream().process(v),
    "state h": lambda v: setattr(LAYER.stream(2), "state", (v, H)),
    "state c": lambda v: setattr(LAYER.stream(2), "state", (H, v)),
    "rows": lambda v: LAYER.stream(2).reset(v),
    "rows of decay": lambda v: LAYER.stream(2).decay(0.5, v),
    "rows of reorder": lambda v: LAYER.stream(2).reorder(v),
    "x of step_many": lambda v: LAYER.step_many([LAYER.stream()], v),
    "x of a pool": lambda v: pool_call("step", [0], v),
    "slots": lambda v: pool_call("step", v, X[0, :1]),
    "slots of reset": lambda v: pool_call("reset", v),
    "h of an initial state": lambda v: LAYER.with_initial_state(v, H),
    "c of an initial state": lambda v: LAYER.with_initial_state(H, v),
    "weight_hh_l0": lambda v: LSTM.make(MAPPING | {"weight_hh_l0": v}),
    "bias_ih_l0": lambda v: LSTM.make(MAPPING | {"bias_ih_l0": v}),
    "weight_ih": lambda v: fc.GRUCell(v, np.zeros((3, 1))),
    "data": lambda v: quantization.compare(LAYER, LAYER.astype("int8"), v),
}
NUMBERS: dict[str, Callable[[Any], Any]] = {
    "num_threads": lambda v: LAYER(X, num_threads=v),
    "num_threads of a GRU": lambda v: GRU_LAYER(X, num_threads=v),
    "num_threads of a stream": lambda v: LAYER.stream(num_threads=v),
    "num_threads of step_many": lambda v: LAYER.step_many([LAYER.stream()], X[0, :1], num_threads=v),
    "num_threads of a pool": lambda v: fc.StreamPool(LAYER, 2, num_threads=v),
    "num_threads of stream_from_bytes": lambda v: LAYER.stream_from_bytes(LAYER.stream().to_bytes(), num_threads=v),
    "batch_size": lambda v: LAYER.stream(v),
    "batch_size of a layer with a state": lambda v: STARTING.stream(v),
    "capacity": lambda v: fc.StreamPool(LAYER, v),
    "slot": lambda v: pool_call("leave", v),
    "slot of state": lambda v: pool_call("state", v),
}
OTHERS: dict[str, tuple[type[Raises], Callable[[Any], Any]]] = {
    "factor": (Number, lambda v: LAYER.stream().decay(v)),
    "input_scales": (Number, lambda v: LAYER.astype("int8", input_scales=[v])),
    "input_scales as they are gone through": (Iteration, lambda v: LAYER.astype("int8", input_scales=v)),
    "return_cells": (Number, lambda v: LAYER(X, return_cells=v)),
    "return_gates": (Number, lambda v: LAYER(X, return_gates=v)),
    "streams": (Iteration, lambda v: LAYER.step_many(v, X[0, :1])),
    "a path": (Path, fc.LSTM.from_state_dict),
    "a mapping": (Items, fc.LSTM.from_state_dict),
}


@given(st.sampled_from(list(ARRAYS)), st.sampled_from(PROTOCOLS), st.integers(0, 2), st.sampled_from(PASSED_ON))
def test_what_the_code_of_an_array_raises_comes_out(
    entry: str, protocol: type[Raises], nesting: int, error: type[BaseException]
) -> None:
    raised = error("from inside")
    value: Any = protocol(raised)
    for _ in range(nesting):
        value = [value, value]
    with pytest.raises(error) as caught:
        ARRAYS[entry](value)
    assert caught.value is raised


@pytest.mark.parametrize("error", PASSED_ON)
def test_what_the_code_of_a_number_a_path_or_a_mapping_raises_comes_out(error: type[BaseException]) -> None:
    calls = {entry: (Number, call) for entry, call in NUMBERS.items()} | OTHERS
    for entry, (value, call) in calls.items():
        raised = error("from inside")
        with pytest.raises(error) as caught:
            call(value(raised))
        assert caught.value is raised, entry


@given(st.sampled_from(list(ARRAYS)), st.sampled_from([ArrayMethod, Interface, Item]), st.sampled_from(REWORDED))
def test_an_array_that_cannot_be_made_is_a_type_error_that_names_the_argument(
    entry: str, protocol: type[Raises], error: type[Exception]
) -> None:
    raised = UnicodeDecodeError("ascii", b"\xff", 0, 1, "no") if error is UnicodeError else error("from inside")
    with pytest.raises(
        TypeError, match=rf"{entry.partition(' of ')[0]}: expected .*, got {protocol.__name__}"
    ) as caught:
        ARRAYS[entry](protocol(raised))
    assert caught.value.__cause__ is raised


@given(
    st.sampled_from(list(NUMBERS)),
    st.sampled_from([2**63, -(2**63) - 1, 2**64, 2**70, -(2**70), 2**1000, 10**5000, -(10**5000)]),
)
def test_integers_of_any_size_are_refused_by_their_arguments_names(entry: str, number: int) -> None:
    with pytest.raises((TypeError, ValueError, IndexError), match=rf"{entry.partition(' of ')[0]}: expected .*, got "):
        NUMBERS[entry](number)


@pytest.mark.parametrize("entry", NUMBERS)
@pytest.mark.parametrize("value", ["2", 2.0, None, [2]])
def test_what_is_no_integer_is_refused_by_its_arguments_name(entry: str, value: Any) -> None:
    message = f"{entry.partition(' of ')[0]}: expected an integer, got {type(value).__name__}"
    with pytest.raises(TypeError, match=message):
        NUMBERS[entry](value)


@pytest.mark.parametrize("value", [np.int8(1), np.uint64(1)])
def test_numpys_integers_are_integers(value: Any) -> None:
    y = LAYER(X, num_threads=value)[0]
    np.testing.assert_array_equal(LAYER.stream(np.int32(2), num_threads=value).process(X), y)


@pytest.mark.parametrize("x", [X[0].astype(np.int64), [[1, 2, 3, 4, 5, 6]], np.ones((4, 6), bool)])
def test_integers_as_x_are_refused_with_what_to_do(x: Any) -> None:
    with pytest.raises(
        TypeError, match=r"x: expected an array of floats, got .*numpy\.asarray\(value, numpy\.float32\)"
    ):
        LAYER(x)
    LAYER(np.asarray(x, np.float32))


class Rows:
    """A sequence that NumPy sees as one only by its length and items."""

    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: int) -> Any:
        return self.rows[item]


@given(st.lists(st.booleans(), min_size=3, max_size=3))
def test_sequences_of_other_classes_have_the_bits_of_lists(nested: list[bool]) -> None:
    def shown(part: Any, depth: int) -> Any:
        if depth == 3:
            return part
        items = [shown(item, depth + 1) for item in part]
        return Rows(items) if nested[depth] else items

    np.testing.assert_array_equal(LAYER(shown(X.tolist(), 0))[0], LAYER(X)[0])
