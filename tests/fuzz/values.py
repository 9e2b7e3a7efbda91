"""Drawn arguments where an array is expected: honest ones of every form that NumPy knows, and hostile ones."""

from __future__ import annotations

import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fuzz.source import Source
from models import uniform

SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, 3e38, -1e-45)


class HostileError(Exception):
    """What the methods of drawn arguments raise: theirs, not ours, so it may come out."""


@dataclass
class Argument:
    """What is passed; what NumPy makes of it, None where nobody can say because it runs code of its own."""

    value: Any
    plain: np.ndarray | None = None
    is_huge: bool = False

    @property
    def is_honest(self) -> bool:
        return not runs_code(self.value)


@dataclass
class Hostile:
    """An object that raises, lies, or does something else while it is converted."""

    array: Any = None
    action: Callable[[], object] | None = None
    length: int = 0
    interface: Any = None

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        if self.action is not None:
            self.action()
        return self.array

    def __len__(self) -> int:
        if self.length < 0:
            raise HostileError("__len__")
        return self.length


class HostileSequence(Hostile):
    __array__ = None  # type: ignore[assignment] # so that NumPy takes it for a sequence

    def __getitem__(self, index: int) -> Any:
        if self.action is not None:
            self.action()
        if not -10 <= index < 10:
            raise IndexError
        return self.array


class HostileNumber(float):
    def __float__(self) -> float:
        raise HostileError("__float__")

    def __index__(self) -> int:
        raise HostileError("__index__")

    def __bool__(self) -> bool:
        raise HostileError("__bool__")


class Subclass(np.ndarray):
    """What many libraries do to arrays."""

    def __array_finalize__(self, other: Any) -> None:
        self.name = getattr(other, "name", "of nobody")


class Interface:
    def __init__(self, interface: Any, attribute: str) -> None:
        setattr(self, attribute, interface)


def runs_code(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(runs_code(item) for item in value)
    return isinstance(value, (Hostile, HostileNumber, Interface))


def numbers(source: Source, shape: Sequence[int]) -> np.ndarray:
    values = uniform(source.below(256), *shape)
    if values.size and source.chance(4):
        values.reshape(-1)[source.below(values.size)] = source.choice(SPECIAL)
    return values


def floats(source: Source, shape: Sequence[int], victims: Sequence[np.ndarray] = ()) -> Argument:
    """Where an array of floats of this shape is expected. `victims` are arrays that hostile ones may change."""
    values = numbers(source, shape)
    form = source.choice(FORMS)
    return _judged(form(_Draw(source, values, list(victims))), form is huge)


def integers(source: Source, shape: Sequence[int], end: int, victims: Sequence[np.ndarray] = ()) -> Argument:
    """Where integers from 0 to end - 1 are expected."""
    low, high = (-1, end + 1) if source.chance(8) else (0, end)
    values = np.array([low + source.below(high - low) for _ in range(int(np.prod(shape)))], np.int64).reshape(shape)
    kind = source.choice(("i8", "i4", "i2", "u8", "u1", ">i4", "f8", "?", "O", "m8[s]", "U8"))
    if kind == "u8" and values.size and source.chance(4):
        return _judged(np.full(shape, 2**64 - 1, np.uint64))
    draw = _Draw(source, values.astype(kind), list(victims))
    return _judged(source.choice((plain, strided, as_list, fortran, other_shape, raising, meddling, nonsense))(draw))


def bools(source: Source, shape: Sequence[int], victims: Sequence[np.ndarray] = ()) -> Argument:
    """Where bools of this shape are expected."""
    values = (uniform(source.below(256), *shape) > 0).astype(source.choice(("?", "?", "?", "u1", "f4", "O")))
    if source.chance(8):  # bytes that are neither 0 nor 1
        values = np.full(shape, 2, np.uint8).view(np.bool_)
    draw = _Draw(source, values, list(victims))
    return _judged(source.choice((plain, strided, as_list, fortran, other_shape, raising, meddling, nonsense))(draw))


@dataclass
class _Draw:
    source: Source
    values: np.ndarray
    victims: list[np.ndarray] = field(default_factory=list)


def _judged(value: Any, is_huge: bool = False) -> Argument:
    if is_huge or runs_code(value):
        return Argument(value, is_huge=is_huge)
    try:
        return Argument(value, np.array(value, order="C"))
    except (ValueError, TypeError):  # such as ragged lists
        return Argument(value, np.array(None))


def plain(draw: _Draw) -> Any:
    return draw.values.copy()


def wider(draw: _Draw) -> Any:
    return draw.values.astype(draw.source.choice(("f8", "g", ">f4", "<f4", ">f8")))


def half(draw: _Draw) -> Any:
    return np.clip(draw.values, -1000, 1000).astype(np.float16)


def other_dtype(draw: _Draw) -> Any:
    kind = draw.source.choice(("i4", "?", "c8", "O", "U4", "S4", "M8[s]", "f4,f4", "V4", "u8"))
    if kind in ("f4,f4", "V4"):
        return np.zeros(draw.values.shape, kind)
    with np.errstate(all="ignore"):
        return np.nan_to_num(np.clip(draw.values, -9, 9)).astype(kind)


def strided(draw: _Draw) -> Any:
    step = draw.source.choice((2, -1, 3, -2))
    if draw.values.ndim == 0:
        return draw.values
    axis = draw.source.below(draw.values.ndim)
    shape = list(draw.values.shape)
    shape[axis] *= abs(step)
    view = np.zeros(shape, draw.values.dtype)[(slice(None),) * axis + (slice(None, None, step),)]
    view[...] = draw.values
    return view


def fortran(draw: _Draw) -> Any:
    return np.asfortranarray(draw.values)


def broadcast(draw: _Draw) -> Any:
    if draw.values.ndim == 0 or 0 in draw.values.shape:
        return draw.values
    return np.broadcast_to(draw.values[:1], draw.values.shape)


def misaligned(draw: _Draw) -> Any:
    memory = np.zeros(draw.values.nbytes + 1, np.uint8)
    view = memory[1:].view(np.float32).reshape(draw.values.shape)
    view[...] = draw.values
    return view


def read_only(draw: _Draw) -> Any:
    values = draw.values.copy()
    values.setflags(write=False)
    return values


def subclass(draw: _Draw) -> Any:
    masked = np.ma.masked_array(draw.values, draw.values > 0) if draw.source.chance(2) else None
    return draw.values.view(Subclass) if masked is None else masked


def as_list(draw: _Draw) -> Any:
    values = draw.values.tolist()
    return tuple(values) if draw.source.chance(2) and isinstance(values, list) else values


def ragged(draw: _Draw) -> Any:
    values = draw.values.tolist()
    return [values, [values], 1.0, [[]]] if draw.source.chance(2) else [values, HostileNumber(1)]


def buffer(draw: _Draw) -> Any:
    return draw.source.choice(
        (memoryview(draw.values), draw.values.tobytes(), array.array("f", draw.values.reshape(-1).tolist()))  # type: ignore[arg-type] # NumPy's stubs do not know arrays as buffers
    )


def other_shape(draw: _Draw) -> Any:
    values = draw.values
    change = draw.source.below(6)
    if change == 0:
        return values[None]
    if change == 1:
        return values[..., None]
    if change == 2:
        return values.reshape(-1)
    if change == 3:
        return values.T
    if change == 4 and values.ndim:
        return np.concatenate([values, values], draw.source.below(values.ndim))
    return values[..., :0] if values.ndim else values


def nonsense(draw: _Draw) -> Any:
    return draw.source.choice(
        (None, 0, 1.5, "text", b"bytes", {}, {1.0}, object(), type, np.float32(1), ..., slice(1), 10**400, [], [[[]]])
    )


def huge(draw: _Draw) -> Any:
    """More than any memory holds, in four bytes."""
    return np.broadcast_to(np.zeros(1, np.float32), (2**40, *draw.values.shape[1:]))


def raising(draw: _Draw) -> Any:
    def fail() -> None:
        raise HostileError("__array__")

    lies = (
        Hostile(draw.values, fail),
        Hostile("no array"),
        Hostile(None),
        Hostile(draw.values[..., None]),
        HostileSequence(1.0, fail, 3),
        HostileSequence(1.0, None, 2**62),
        HostileSequence([1.0], None, -1),
        HostileSequence(HostileNumber(1), None, 2),
        Interface({"shape": (2**60,), "typestr": "<f4", "data": b"1234", "version": 3}, "__array_interface__"),
        Interface({"shape": "x", "typestr": 7, "version": None}, "__array_interface__"),
        Interface(3, "__array_struct__"),
        HostileNumber(1),
    )
    return draw.source.choice(lies)


def meddling(draw: _Draw) -> Any:
    """Converts well, and meanwhile changes another argument in place, as a thread could between two instructions."""
    if not draw.victims:
        return Hostile(draw.values)
    victim = draw.source.choice(draw.victims)

    def resize(size: int) -> None:
        victim.resize(size, refcheck=False)

    def reshape() -> None:
        victim.shape = (-1,)  # in place, which reshape is not

    def retype() -> None:
        victim.dtype = draw.source.choice((np.dtype(np.float64), np.dtype(np.int16)))  # type: ignore[misc] # likewise

    actions: tuple[Callable[[], object], ...] = (
        lambda: resize(0),
        lambda: resize(4096),
        reshape,
        retype,
        lambda: victim.setflags(write=False),
        lambda: victim.fill(3),
    )
    action = draw.source.choice(actions)

    def meddle() -> None:
        try:
            action()
        except (ValueError, TypeError, AttributeError) as error:  # NumPy's refusal, where memory is not the victim's
            raise HostileError("meddling") from error

    return Hostile(draw.values, meddle)


FORMS: tuple[Callable[[_Draw], Any], ...] = (
    plain,
    plain,
    plain,
    wider,
    half,
    other_dtype,
    strided,
    fortran,
    broadcast,
    misaligned,
    read_only,
    subclass,
    as_list,
    ragged,
    buffer,
    other_shape,
    nonsense,
    huge,
    raising,
    meddling,
    meddling,
)
