"""Targets of streams: alone, together, in pools and as bytes, each operation as on plain arrays or refused."""

from __future__ import annotations

import random
import struct
from functools import partial
from hashlib import blake2b
from typing import Any

import numpy as np

import fusedcell as fc
from fuzz.arguments import DOCUMENTED, as_float32, drawn_layer, is_float, layer_of, settled, state_of, threads
from fuzz.outcome import FindingError, bits, check, may_raise, same
from fuzz.source import Source
from fuzz.values import Argument, Hostile, HostileNumber, bools, floats, integers, nonsense, numbers
from fuzz.values import _Draw as Draw
from models import flat, uniform


class Shadow:
    """A stream, and one beside it that is only ever given plain arrays."""

    def __init__(self, source: Source) -> None:
        self.kind, layer = drawn_layer(source, directions=1)
        self.batch = source.choice((1, 3, 2))
        self.layer = layer
        self.stream = layer.stream(self.batch, num_threads=source.choice((1, 1, 2)))
        self.other = layer.stream(self.batch)
        self.rows = () if self.batch == 1 else (self.batch,)
        self.bound: list[tuple[Any, np.ndarray, np.ndarray]] = []

    def states(self) -> list[Any]:
        return bits((self.stream.state,))

    def check(self, what: str) -> None:
        if self.states() != bits((self.other.state,)):
            raise FindingError(f"{what}: the state is not what it is for plain arrays")

    def adopt(self) -> None:
        """After hostile code ran, of which only the stream itself can tell how far it came."""
        parts = tuple(part.copy() for part in flat((self.stream.state,)))
        self.other.state = parts if self.kind.gates == 4 else parts[0]


def step(shadow: Shadow, source: Source) -> None:
    layer = shadow.layer
    x_shape, y_shape = (*shadow.rows, layer.input_size), (*shadow.rows, shadow.stream.output_size)
    owned = np.full(y_shape, np.nan, np.float32)
    reenter = source.chance(8)
    x = floats(source, x_shape, [owned])
    if reenter:
        x = Argument(Hostile(np.zeros(x_shape, np.float32), lambda: shadow.stream.step(np.ones(x_shape, np.float32))))
    outs = (None, owned, owned[..., :-1], owned[None], owned.astype("f8"), "out", flat((shadow.stream.state,))[0][0])
    out = source.choice(outs) if source.chance(2) else None
    if source.chance(16) and isinstance(x.value, np.ndarray):
        out = x.value
    given = {} if out is None else {"out": out}
    result: Any = None
    with may_raise(*DOCUMENTED, *([MemoryError] if x.is_huge else [])) as refusal:
        result = shadow.stream.step(x.value, **given)
    if x.plain is None:
        shadow.adopt()
        return
    good_out = out is None or out is owned
    if out is not x.value or out is None:
        settled(is_float(x, x_shape) and good_out, refusal.error, "step")
    if result is not None:
        check(out is None or result is out, "step returned another array than out")
        same(result, shadow.other.step(as_float32(x)), "step")


def bind(shadow: Shadow, source: Source) -> None:
    x = numbers(source, (*shadow.rows, shadow.layer.input_size))
    out = np.zeros((*shadow.rows, shadow.stream.output_size), np.float32)
    if source.chance(4):
        bad = floats(source, x.shape).value
        with may_raise(*DOCUMENTED):
            shadow.stream.bind(bad, out)
        with may_raise(*DOCUMENTED):
            shadow.stream.bind(x, bad)
        return
    shadow.bound.append((shadow.stream.bind(x, out), x, out))


def call_bound(shadow: Shadow, source: Source) -> None:
    if not shadow.bound:
        return
    function, x, out = source.choice(shadow.bound)
    meddling = source.below(10)
    try:
        if meddling == 9:
            (x if source.chance(2) else out).resize(source.below(64), refcheck=False)
        elif meddling == 8:
            (x if source.chance(2) else out).dtype = np.int32  # type: ignore[assignment, misc] # stubs forbid it, NumPy does not
        elif meddling == 7:
            out.setflags(write=False)
    except (ValueError, TypeError):
        pass
    result: Any = None
    with may_raise(*DOCUMENTED):
        result = function()
    if result is not None:
        check(result is out, "a bound step returned another array than out")
        same(result, shadow.other.step(x), "bound step")


def process(shadow: Shadow, source: Source) -> None:
    steps = source.choice((2, 1, 0, 33))
    size, batch, batch_first = shadow.layer.input_size, shadow.batch, shadow.layer.batch_first
    blocks = (batch, steps, size) if batch_first else (steps, batch, size)
    accepted = [(steps, size) if batch == 1 else blocks, blocks]
    x = floats(source, accepted[source.below(2)])
    result: Any = None
    with may_raise(*DOCUMENTED, *([MemoryError] if x.is_huge else [])) as refusal:
        result = shadow.stream.process(x.value)
    if x.plain is None:
        shadow.adopt()
        return
    # Any number of steps will do.
    time = 1 if batch_first and x.plain.ndim == 3 else 0
    got = (*x.plain.shape[:time], *x.plain.shape[time + 1 :])
    valid = x.plain.dtype.kind == "f" and got in ((batch, size), (size,) if batch == 1 else (batch, size))
    settled(valid, refusal.error, "process")
    if result is not None:
        same(result, shadow.other.process(as_float32(x)), "process")


def reset(shadow: Shadow, source: Source) -> None:
    rows: Any = None
    if source.chance(2):
        pick = source.below(3)
        argument = (
            integers(source, (source.below(3),), shadow.batch + 1)
            if pick == 0
            else bools(source, (shadow.batch,))
            if pick == 1
            else Argument(nonsense(Draw(source, np.zeros(1))), None)
        )
        rows = argument.value
    with may_raise(*DOCUMENTED, IndexError) as refusal:
        shadow.stream.reset(rows)
    if refusal:
        shadow.check("a refused reset")
    else:
        shadow.adopt()


def reorder(shadow: Shadow, source: Source) -> None:
    rows = [source.below(shadow.batch + (8 if source.chance(4) else 0)) for _ in range(shadow.batch)]
    given = nonsense(Draw(source, np.zeros(1))) if source.chance(4) else rows
    before = [part.copy() for part in flat((shadow.stream.state,))]
    with may_raise(*DOCUMENTED, IndexError) as refusal:
        shadow.stream.reorder(given)
    if refusal:
        shadow.check("a refused reorder")
        return
    if given is rows:
        after = tuple(part[:, rows] for part in before)
        check(bits((shadow.stream.state,)) == bits(after), "rows do not go on from those that were named")
    shadow.adopt()


def set_state(shadow: Shadow, source: Source) -> None:
    parts = [part.shape for part in flat((shadow.stream.state,))]
    if shadow.batch == 1 and source.chance(2):
        parts = [(shape[0], shape[2]) for shape in parts]
    value, _ = state_of(source, parts, [])
    with may_raise(*DOCUMENTED, MemoryError) as refusal:
        shadow.stream.state = value
    if refusal:
        shadow.check("a refused state")
    else:
        shadow.adopt()


def copy(shadow: Shadow, source: Source) -> None:
    shadow.stream = shadow.stream.copy()
    shadow.bound.clear()  # which step the stream that was copied


OPERATIONS = (step, process, bind, call_bound, reset, reorder, set_state, copy, step, call_bound)


def stream(data: bytes) -> None:
    """A stream in use: each operation as on plain arrays, or refused with the state as it was."""
    source = Source(data)
    shadow = Shadow(source)
    for _ in range(40):
        if source.is_empty:
            break
        source.choice(OPERATIONS)(shadow, source)
        shadow.check("after an operation")


def make_streams(data: bytes) -> None:
    """Streams of drawn batch sizes, threads and initial states."""
    source = Source(data)
    kind, layer = drawn_layer(source)
    sizes = [layer.proj_size or layer.hidden_size, *([layer.hidden_size] if kind.gates == 4 else [])]
    states, batch = layer.num_layers * (1 + layer.bidirectional), 1 + source.below(3)
    with may_raise(*DOCUMENTED, MemoryError):
        parts = [floats(source, (states, batch, size)).value for size in sizes]
        layer = layer.with_initial_state(*parts)
    batch_size = source.choice((1, batch, 2, 0, -1, 2**31 + 1, 2**80, "2", None, 1.5, HostileNumber(1)))
    with may_raise(*DOCUMENTED):
        streams = layer.stream(batch_size, num_threads=threads(source))
        streams.step(numbers(source, (*(() if batch_size == 1 else (batch_size,)), layer.input_size)))
    with may_raise(*DOCUMENTED, MemoryError):
        layer(numbers(source, (2, batch, layer.input_size)))


def drawn_streams(source: Source, streams: list[fc.Stream], others: list[fc.Stream]) -> Any:
    """Some of the streams in some order, or what is no such thing."""
    chosen: list[Any] = [source.choice(streams) for _ in range(source.below(5))]
    form = source.below(12)
    if form == 11:
        chosen.append(source.choice((None, 3, "stream", streams, fc.Stream.__new__(fc.Stream), others[0])))
    elif form == 10:
        return nonsense(Draw(source, np.zeros(1)))
    return iter(chosen) if form == 9 else tuple(chosen) if form == 8 else chosen


def step_many(data: bytes) -> None:
    """Several streams of a layer in one call."""
    source = Source(data)
    kind, layer = drawn_layer(source, directions=1)
    streams = [layer.stream(1 + source.below(3)) for _ in range(4)]
    others = [stream.copy() for stream in streams]
    strangers = [layer_of(kind.name, "float32", (3, 5), 1, 1, False).astype("float16").stream()]
    for _ in range(4):
        given = drawn_streams(source, streams, strangers)
        listed = given if isinstance(given, (list, tuple)) else []
        known = [streams.index(item) for item in listed if any(item is stream for stream in streams)]
        once = isinstance(given, (list, tuple)) and len(known) == len(listed) == len(set(known))
        rows = sum(streams[at].batch_size for at in known)
        out = source.choice((None, None, np.zeros((rows, streams[0].output_size), np.float32), np.zeros(3), "out"))
        x = floats(source, (rows, layer.input_size), [out] if isinstance(out, np.ndarray) else [])
        before = [bits((stream.state,)) for stream in streams]
        result: Any = None
        with may_raise(*DOCUMENTED, *([MemoryError] if x.is_huge else [])) as refusal:
            result = layer.step_many(given, x.value, out, num_threads=threads(source))
        if refusal:
            check([bits((stream.state,)) for stream in streams] == before, "a refused step_many changed a state")
            continue
        if x.plain is None or not isinstance(given, (list, tuple)):
            return
        check(once and is_float(x, (rows, layer.input_size)), "step_many took what is not as documented")
        at = 0
        plain = as_float32(x)
        assert plain is not None
        for index in known:
            count = streams[index].batch_size
            alone = others[index].step(plain[at] if count == 1 else plain[at : at + count])
            same(result[at] if count == 1 else result[at : at + count], alone, "step_many")
            check(bits((streams[index].state,)) == bits((others[index].state,)), "step_many left another state")
            at += count


def pool(data: bytes) -> None:
    """A pool whose slots join, step and leave."""
    source = Source(data)
    _, layer = drawn_layer(source, directions=1)
    capacity: Any = source.choice((3, 1, 5, 0, -1, 2**80, 2**31 + 1, "3", 1.5, None, HostileNumber(1)))
    pool: Any = None
    with may_raise(*DOCUMENTED) as refusal:
        pool = fc.StreamPool(layer, capacity, num_threads=threads(source))
    if refusal:
        return
    alone: dict[int, fc.Stream] = {}
    for _ in range(20):
        action = source.below(6)
        if action == 0 or not alone:
            with may_raise(RuntimeError) as refusal:
                alone[pool.join()] = layer.stream()
            check(
                bool(refusal) == (len(alone) == capacity and bool(refusal)), "a pool that is not full refused to join"
            )
        elif action == 1:
            slot = source.choice((*alone, -1, capacity, 2**80, None, 1.5))
            with may_raise(*DOCUMENTED, IndexError) as refusal:
                pool.leave(slot)
            check(bool(refusal) == (alone.pop(slot, None) is None), "leave")
        elif action == 2:
            argument = integers(source, (source.below(3),), capacity)
            with may_raise(*DOCUMENTED, IndexError, RuntimeError) as refusal:
                pool.reset(argument.value)
            if not refusal:
                for slot, stream in alone.items():
                    stream.state = tuple(_of(pool, slot)) if len(_of(pool, slot)) > 1 else _of(pool, slot)[0]
        else:
            slots = list(dict.fromkeys(source.choice(list(alone)) for _ in range(1 + source.below(4))))
            given: Any = slots if source.below(4) else np.array(slots, source.choice(("i8", "u1", "i4", "f4", "O")))
            x = floats(source, (len(slots), layer.input_size))
            if source.chance(8):  # which comes back to the pool while the pool is in the call
                x = Argument(
                    Hostile(np.zeros((len(slots), layer.input_size), np.float32), partial(pool.leave, slots[0]))
                )
            result: Any = None
            with may_raise(*DOCUMENTED, IndexError, RuntimeError, MemoryError):
                result = pool.step(given, x.value)
            if result is not None and x.plain is not None:
                plain = as_float32(x)
                assert plain is not None
                for row, slot in enumerate(slots):
                    same(result[row], alone[slot].step(plain[row]), "a pool's step")
            elif result is not None:
                for slot in slots:
                    alone[slot].state = tuple(_of(pool, slot)) if len(_of(pool, slot)) > 1 else _of(pool, slot)[0]
        check(len(pool) == len(alone), "a pool has another number of slots")
        for slot, stream in alone.items():
            check([b for _, b in bits((pool.state(slot),))] == [b for _, b in bits((stream.state,))], "a slot's state")


def _of(pool: Any, slot: int) -> list[np.ndarray]:
    return [part.copy() for part in flat((pool.state(slot),))]


_TRAVELLER = ("lstm", "float32", (3, 5), 2, 1, False)


def stream_bytes(data: bytes) -> None:
    """Bytes for `stream_from_bytes`."""
    layer = layer_of(*_TRAVELLER)
    stream: Any = None
    with may_raise(ValueError):
        stream = layer.stream_from_bytes(data)
    if stream is not None:
        check(stream.to_bytes() == data, "a stream that came from bytes goes as others")
        stream.step(np.zeros((*(() if stream.batch_size == 1 else (stream.batch_size,)), 3), np.float32))
        stream.reset()


def travellers() -> list[bytes]:
    """States as bytes: of one row and of several, with and without a state that they reset to."""
    layer = layer_of(*_TRAVELLER)
    streams = [layer.stream(), layer.stream(3)]
    streams += [layer.with_initial_state(uniform(1, 2, 1, 5), uniform(2, 2, 1, 5)).stream(batch) for batch in (1, 2)]
    for stream in streams:
        stream.process(uniform(3, 4, stream.batch_size, 3))
    return [stream.to_bytes() for stream in streams]


def change_traveller(data: bytes, draws: random.Random) -> bytes:
    """Fields of the header, or values, under a checksum that fits."""
    content = bytearray(data[:-16])
    if draws.random() < 0.7 and len(content) >= 72:
        at, form = draws.choice(((8, "<H"), (10, "<H"), (12, "<I"), (16, "<Q"), (24, "<Q"), (32, "<Q")))
        limit = 256 ** struct.calcsize(form)
        (value,) = struct.unpack_from(form, content, at)
        new = draws.choice((0, 1, 2, 3, value + 1, value - 1, value * 2, limit - 1, limit // 2, limit // 8, 2**31))
        struct.pack_into(form, content, at, new % limit)
    if draws.random() < 0.5:
        at = draws.randrange(len(content) + 1)
        content[at : at + draws.choice((0, 1, 4, 60))] = draws.randbytes(draws.choice((0, 1, 4, 60)))
    return bytes(content) + blake2b(bytes(content), digest_size=16).digest()
