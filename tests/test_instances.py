"""Instances of the extension's classes: none that was not initialised can be used, and none is kept for ever."""

from __future__ import annotations

import contextlib
import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusedcell as fc
from fusedcell import _core
from models import KIND, uniform

pytestmark = [pytest.mark.core, pytest.mark.float_weights]

LAYER = KIND["lstm"].make(KIND["lstm"].weights(6, 9))
X = uniform(1, 6)
ROW = X[None]


class Late(fc.StreamPool):
    """A subclass whose __init__ makes use of the instance too early."""

    def __init__(self, use: Callable[[Any], object]) -> None:
        use(self)
        super().__init__(LAYER, 2)


CLASSES = [_core.Stack, _core.Stream, _core.StreamPool, fc.StreamPool, Late]


class Plain:
    """What a class of no base has is Python's own, and says nothing of an instance of ours."""


PYTHONS_OWN = {*dir(Plain), "__getstate__", "_pybind11_conduit_v1_"}
ARGUMENTS: list[tuple[Any, ...]] = [(), (X,), (ROW,), (X, np.zeros(9, np.float32)), ([0], ROW), (0,), (0.5,), ("int8",)]


@pytest.mark.parametrize("cls", CLASSES)
def test_everything_of_an_instance_that_was_not_initialised_is_a_type_error(cls: Any) -> None:
    names = set(dir(cls)) - PYTHONS_OWN
    assert len(names) > 8
    for name in names:
        for arguments in ARGUMENTS:
            instance = cls.__new__(cls)
            with pytest.raises(TypeError, match=r"never initialised|argument|missing"):
                getattr(instance, name)(*arguments)


def test_setting_an_instance_that_was_not_initialised_is_a_type_error() -> None:
    stream = fc.Stream.__new__(fc.Stream)
    with pytest.raises(TypeError, match="never initialised"):
        stream.state = (np.zeros((1, 9)), np.zeros((1, 9)))
    with pytest.raises(TypeError, match="never initialised"):
        repr(fc.StreamPool.__new__(fc.StreamPool))


def test_an_argument_that_was_not_initialised_is_a_type_error() -> None:
    stack, stream = _core.Stack.__new__(_core.Stack), _core.Stream.__new__(_core.Stream)
    calls: list[Callable[[], Any]] = [
        lambda: _core.Stream(stack),
        lambda: _core.StreamPool(stack, 1),
        lambda: _core.step_many(stack, [], np.zeros((0, 6))),
        lambda: LAYER.step_many([stream], ROW),
        lambda: LAYER.step_many([LAYER.stream(), stream], np.zeros((2, 6))),
    ]
    for call in calls:
        with pytest.raises(TypeError, match="never initialised"):
            call()


@pytest.mark.parametrize("name", ["capacity", "nbytes", "join", "step", "state"])
def test_a_subclass_cannot_use_an_instance_before_it_is_initialised(name: str) -> None:
    arguments = {"step": ([0], ROW), "state": (0,)}.get(name, ())
    with pytest.raises(TypeError, match="never initialised"):
        Late(lambda pool: getattr(pool, name)(*arguments))
    assert Late(lambda pool: None).capacity == 2


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_cannot_be_pickled_says_so_in_every_protocol(protocol: int) -> None:
    bound = LAYER.stream().bind(X.copy(), np.zeros(9, np.float32))
    for instance in (LAYER._stack, LAYER.stream(), fc.StreamPool(LAYER, 2), bound.__self__):
        with pytest.raises(TypeError, match="cannot pickle"):
            pickle.dumps(instance, protocol)
        if not isinstance(instance, fc.Stream):  # whose copies are its own
            with pytest.raises(TypeError, match="cannot pickle"):
                copy.copy(instance)


class Array(np.ndarray):
    """Holds whatever it is given."""

    session: Any


class Session:
    """What a server keeps of one caller."""

    def __init__(self, *, holder: str) -> None:
        self.stream = LAYER.stream()
        x, out = np.zeros(6, np.float32), np.zeros(9, np.float32)
        if holder in ("x", "both"):
            x = x.view(Array)
            x.session = self  # type: ignore[attr-defined] # a subclass takes any attribute
        if holder in ("out", "both"):
            out = out.view(Array)
            out.session = self  # type: ignore[attr-defined] # likewise
        self.step = self.stream.bind(x, out)
        self.step()


@pytest.mark.any_cpu
@pytest.mark.parametrize("holder", ["x", "out", "both"])
def test_sessions_that_hold_their_bound_steps_are_collected(holder: str) -> None:
    gc.collect()
    sessions = [Session(holder=holder) for _ in range(20)]
    alive = [weakref.ref(part) for session in sessions for part in (session, session.stream)]
    del sessions
    gc.collect()
    assert [part() for part in alive] == [None] * 40


def test_a_bound_step_that_holds_itself_is_collected() -> None:
    out = np.zeros(9, np.float32).view(Array)
    stream = LAYER.stream()
    out.session = stream.bind(X.copy(), out)
    alive = weakref.ref(stream)
    del stream, out
    gc.collect()
    assert alive() is None


@pytest.mark.any_cpu
def test_a_pool_that_holds_itself_is_collected() -> None:
    pool = fc.StreamPool(LAYER, 2)
    pool.itself = pool  # type: ignore[attr-defined] # a subclass takes any attribute
    alive = weakref.ref(pool)
    del pool
    gc.collect()
    assert alive() is None


@pytest.mark.any_cpu
def test_bound_steps_outlive_all_else_while_the_collector_runs() -> None:
    x = uniform(2, 6).copy()
    expected = LAYER.stream().step(x)
    session = Session(holder="both")
    step = LAYER.stream().bind(x, np.zeros(9, np.float32).view(Array))
    del session
    gc.collect()
    np.testing.assert_array_equal(step(), expected)
    with contextlib.suppress(TypeError):
        step(1)
    gc.collect()
    assert np.isfinite(step()).all()
