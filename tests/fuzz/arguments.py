"""Targets of the argument layer: whatever is passed, an answer with the bits of plain arrays, or a clear refusal."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from fusedcell._dtypes import DTYPES
from fuzz.outcome import FindingError, check, may_raise, same
from fuzz.source import Source
from fuzz.values import Argument, HostileError, HostileNumber, bools, floats, integers, nonsense, numbers
from fuzz.values import _Draw as Draw
from models import EVERY_KIND, KIND, Kind

DOCUMENTED = (ValueError, TypeError, HostileError)
SIZES = ((3, 5), (1, 1), (17, 33), (8, 16))


@cache
def layer_of(name: str, dtype: str, sizes: tuple[int, int], layers: int, directions: int, batch_first: bool) -> Any:
    kind = KIND[name]
    mapping = kind.weights(*sizes, layers=layers, directions=directions)
    return kind.make(mapping, dtype=dtype, batch_first=batch_first)


def drawn_layer(source: Source, directions: int = 2) -> tuple[Kind, Any]:
    kind = source.choice(EVERY_KIND)
    return kind, layer_of(
        kind.name,
        source.choice(DTYPES),
        source.choice(SIZES),
        1 + source.below(2),
        1 + source.below(directions),
        source.chance(2),
    )


def threads(source: Source) -> Any:
    good = (1, 2, 3, np.int64(1), 2**31, True)
    return source.choice((*good, *good, 0, -1, 2**80, "2", 1.5, None, HostileNumber(2)))


def is_float(argument: Argument, *accepted: tuple[int, ...]) -> bool:
    array = argument.plain
    return array is not None and array.dtype.kind == "f" and array.shape in accepted


def as_float32(argument: Argument | None) -> np.ndarray | None:
    if argument is None or argument.plain is None or argument.value is None:
        return None
    with np.errstate(all="ignore"):
        return argument.plain.astype(np.float32)


def is_of_zeros_and_ones(array: np.ndarray) -> bool:
    return array.dtype.kind in "iu" and bool(np.isin(array, (0, 1)).all())


def as_bools(array: np.ndarray) -> np.ndarray:
    """Also of bools whose bytes are neither 0 nor 1."""
    return (array.view(np.uint8) if array.dtype == np.bool_ else array) != 0


def settled(valid: bool | None, refused: Exception | None, what: str) -> None:
    """What is right must be taken and what is wrong refused; of hostile arguments neither can be told."""
    if valid and refused is not None:
        raise FindingError(f"{what}: refused, though it is as documented: {refused}") from refused
    if valid is False and refused is None:
        raise FindingError(f"{what}: taken, though it is not as documented")


def state_of(source: Source, shapes: list[tuple[int, ...]], victims: list[np.ndarray]) -> tuple[Any, list[Argument]]:
    """A state of these shapes, (h) or (h, c), in a form that is right or wrong, and its parts where it is right."""
    h = floats(source, shapes[0], victims)
    if isinstance(h.value, np.ndarray) and h.value.flags.owndata:
        victims = [*victims, h.value]
    parts = [h] + [floats(source, shape, victims) for shape in shapes[1:]]
    values = [part.value for part in parts]
    if len(shapes) == 1:
        return h.value, parts
    form = source.below(8)
    if form == 7:
        wrong = (values[0], (*values, values[0]), (values[0],), "hc", nonsense(Draw(source, np.zeros(1))))
        return source.choice(wrong), []
    return (list(values) if form == 6 else tuple(values)), parts


def call(data: bytes) -> None:
    """A layer on a whole sequence, with a state, lengths, a mask and all options."""
    source = Source(data)
    kind, layer = drawn_layer(source)
    T, B = source.choice((3, 1, 0, 2, 17)), source.choice((2, 1, 0, 5))
    batched = not source.chance(4)
    rows: tuple[int, ...] = () if not batched else (B, T) if layer.batch_first else (T, B)
    rows = rows or (T,)
    B = B if batched else 1
    x = floats(source, (*rows, layer.input_size))
    owned = [x.value] if isinstance(x.value, np.ndarray) and x.value.flags.owndata else []
    states = layer.num_layers * (1 + layer.bidirectional)
    sizes = [layer.proj_size or layer.hidden_size, *([layer.hidden_size] if kind.gates == 4 else [])]
    shape: list[tuple[int, ...]] = [(states, B, size) if batched else (states, size) for size in sizes]

    arguments: dict[str, Any] = {}
    parts: list[Argument] = []
    if source.chance(2):
        arguments["state"], parts = state_of(source, shape, owned)
    lengths = integers(source, (B,), T + 1, owned) if source.chance(3) else None
    mask = bools(source, rows, owned) if source.chance(3) else None
    if lengths is not None:
        arguments["lengths"] = lengths.value
    if mask is not None:
        arguments["mask"] = mask.value
    if source.chance(3):
        arguments["num_threads"] = threads(source)
    names = ("return_gates", "return_cells")[: {1: 0, 3: 1, 4: 2}[kind.gates]]
    flags = {name: source.chance(4) for name in names}

    before = x.value.tobytes() if isinstance(x.value, np.ndarray) and not x.is_huge else b""
    documented = (*DOCUMENTED, MemoryError) if any(a.is_huge for a in (x, *parts)) else DOCUMENTED
    result: Any = None
    with may_raise(*documented) as refusal:
        result = layer(x.value, **arguments, **flags)

    lengths, mask = (None if a is None or a.value is None else a for a in (lengths, mask))
    given = [x, *parts, *(a for a in (lengths, mask) if a is not None)]
    if any(a.plain is None for a in given) or type(arguments.get("num_threads", 1)) not in (int, np.int64):
        return
    if "state" in arguments and not parts:
        settled(None if arguments["state"] is None else False, refusal.error, "state")
        return
    # What fits x, of whatever shape it came to be.
    got: tuple[int, ...] = () if x.plain is None else x.plain.shape
    valid = len(got) in (2, 3) and is_float(x, (*got[:-1], layer.input_size))
    rows, batched = got[:-1], len(got) == 3
    if valid:
        T, B = (rows[0], 1) if not batched else rows[::-1] if layer.batch_first else rows
    accepted: list[list[tuple[int, ...]]] = [
        [(states, B, size)] if batched else [(states, size), (states, 1, size)] for size in sizes
    ]
    valid &= all(p.value is None or is_float(p, *shapes) for p, shapes in zip(parts, accepted, strict=False))
    valid &= 1 <= arguments.get("num_threads", 1) < 2**63
    if lengths is not None:
        a = lengths.plain
        valid &= a is not None and a.dtype.kind in "iu" and a.shape == (B,) and bool(((a >= 0) & (a <= T)).all())
    if mask is not None:
        a = mask.plain
        valid &= a is not None and a.shape == rows and (a.dtype == np.bool_ or is_of_zeros_and_ones(a))
    settled(valid, refusal.error, "call")
    if result is None:
        return
    check(not before or x.value.tobytes() == before, "x was written to")
    state = tuple(as_float32(part) for part in parts)
    plain_arguments = {
        "state": None if not parts else state if kind.gates == 4 else state[0],
        "lengths": None if lengths is None else lengths.plain,
        "mask": None if mask is None or mask.plain is None else as_bools(mask.plain),
    }
    same(result, layer(as_float32(x), **plain_arguments, **flags), "call")


@cache
def cell_of(name: str, dtype: str, sizes: tuple[int, int]) -> Any:
    return KIND[name].make_cell(KIND[name].weights(*sizes), dtype=dtype)


def cell_step(data: bytes) -> None:
    """A cell's step on one row or several."""
    source = Source(data)
    kind = source.choice(EVERY_KIND)
    cell = cell_of(kind.name, source.choice(DTYPES), source.choice(SIZES))
    rows = source.choice(((), (1,), (0,), (4,)))
    x = floats(source, (*rows, cell.input_size))
    owned = [x.value] if isinstance(x.value, np.ndarray) and x.value.flags.owndata else []
    sizes = [cell.proj_size or cell.hidden_size, *([cell.hidden_size] if kind.gates == 4 else [])]
    arguments: list[Any] = []
    parts: list[Argument] = []
    if source.chance(2):
        state, parts = state_of(source, [(*rows, size) for size in sizes], owned)
        arguments.append(state)
    result: Any = None
    with may_raise(*DOCUMENTED, *([MemoryError] if any(a.is_huge for a in (x, *parts)) else [])) as refusal:
        result = cell(x.value, *arguments)
    if any(a.plain is None for a in (x, *parts)):
        return
    if arguments and not parts:
        settled(None if arguments[0] is None else False, refusal.error, "state")
        return
    if any(part.value is None for part in parts):
        return
    # What fits x, of whatever shape it came to be.
    rows = () if x.plain is None else x.plain.shape[:-1]
    valid = len(rows) < 2 and is_float(x, (*rows, cell.input_size))
    valid &= all(is_float(part, (*rows, size)) for part, size in zip(parts, sizes, strict=False))
    settled(valid, refusal.error, "cell")
    if result is not None:
        state = tuple(as_float32(part) for part in parts)
        same(result, cell(as_float32(x), None if not parts else state if kind.gates == 4 else state[0]), "cell")


def weights(data: bytes) -> None:
    """Layers and cells of drawn arrays under drawn names."""
    source = Source(data)
    kind = source.choice(EVERY_KIND[:6])
    dtype: Any = source.choice((*DTYPES, *DTYPES, "int4", None, 3))
    honest = kind.weights(*source.choice(SIZES), layers=1 + source.below(2), directions=1 + source.below(2))
    drawn: dict[Any, Argument] = {name: Argument(array, array) for name, array in honest.items()}
    victims = [array for array in honest.values() if array.flags.owndata]
    for _ in range(source.below(3)):
        name = source.choice(list(honest))
        drawn[name] = floats(source, honest[name].shape, [v for v in victims if v is not honest[name]])
    renamed = source.below(12)
    if renamed == 11:
        drawn[source.choice((3, "weight_ih_l9", "weight_ih_l" + "9" * 5000, "bias_ih_l0_reverse", "x", "", None))] = (
            drawn.pop(source.choice(list(drawn)))
        )
    elif renamed == 10:
        drawn.pop(source.choice(list(drawn)))
    mapping = {name: argument.value for name, argument in drawn.items()}
    result: Any = None
    of_one_layer = set(mapping) <= {
        f"{name}_l0" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
    }
    make = None if of_one_layer and not source.chance(2) else kind.make
    with may_raise(*DOCUMENTED, *([MemoryError] if any(a.is_huge for a in drawn.values()) else [])) as refusal:
        result = (make or kind.make_cell)(mapping, dtype=dtype)
    if renamed >= 10 or any(argument.plain is None for argument in drawn.values()):
        return
    arrays = [argument.plain for argument in drawn.values() if argument.plain is not None]
    fits = all((np.abs(array) < 60000).all() for array in arrays if array.dtype.kind == "f")  # in any of the types
    given = [argument.plain for argument in drawn.values() if argument.value is not None]
    if any(array is not None and array.dtype.kind != "f" for array in given):
        settled(False, refusal.error, "weights")
    if not all(is_float(drawn[name], array.shape) for name, array in honest.items()):
        return  # other sizes, which may fit together, or a bias that is absent
    if not all(np.isfinite(array).all() for array in arrays):
        settled(False, refusal.error, "weights")
    settled((dtype in DTYPES) if fits else None, refusal.error, "weights")
    if result is not None:
        converted: dict[str, Any] = {name: as_float32(argument) for name, argument in drawn.items()}
        clean = (make or kind.make_cell)(converted, dtype=dtype)
        x = numbers(Source(b"\7"), (result.input_size,) if make is None else (2, result.input_size))
        same(result(x), clean(x), "weights")
