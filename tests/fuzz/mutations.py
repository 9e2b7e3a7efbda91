"""Changes that leave a file's frame whole, so that what is inside it is reached."""

from __future__ import annotations

import copy
import io
import json
import struct
import zipfile
from collections.abc import Callable
from random import Random
from typing import Any

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 7, 2**31, 2**53, 2**63, 2**64, 10**30, -(2**63), 0.5, 1e308, -0.0, 1e-45,
    "", "x", "l0", "\ud800", "a" * 5000, "weight_ih_l1", "weight_hh_l0_reverse", "bias_ih_l0", "weight_peephole_l0",
    "initial_h", "input_scales", "relu", "tanh", "hard_sigmoid", "int8", "float16", "F16", "BF16", "I8", "LSTM", "GRU",
    "RNN", "Dense", "Flatten", "UpSampling1D", "ZeroPadding1D", "Masking", "Bidirectional",
    "StackedRNNCells", "TimeDistributed", "__numpy__", "__keras_tensor__", "mask",
    "2.13.0", [], {}, [[]], [1], [0, 4], {"x": 1},
)  # fmt: skip

Mutate = Callable[[bytes, Random], bytes]


def some_bytes(data: bytes, random: Random) -> bytes:
    """A few bytes changed, taken out, put in or doubled."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 4)):
        at, length = random.randrange(len(changed) + 1), random.choice((1, 1, 2, 4, 8, 64))
        pieces = (random.randbytes(length), b"\0" * length, b"\xff" * length, bytes(changed[at : at + length]))
        piece = random.choice(pieces)
        end = random.choice((at, at + length))  # in between, or instead
        changed[at:end] = random.choice((piece, piece, b""))
    return bytes(changed)


def drawn_bytes(data: bytes, random: Random) -> bytes:
    """Where cases are drawn from bytes: other ones, or those that led somewhere with changes."""
    return random.randbytes(random.randint(0, 120)) if random.random() < 0.5 else some_bytes(data, random)


def json_value(value: Any, random: Random) -> Any:
    """One change somewhere in the tree."""
    places: list[tuple[Any, Any]] = []
    todo = [value]
    while todo:
        node = todo.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        places += [(node, key) for key in keys]
        todo += [node[key] for key in keys]
    if not places or random.random() < 0.02:
        return copy.deepcopy(random.choice(VALUES))
    parent, key = random.choice(places)
    action = random.randrange(8)
    if action <= 2:
        parent[key] = copy.deepcopy(random.choice(VALUES))
    elif action == 3:
        del parent[key]
    elif action == 4 and isinstance(parent[key], int) and not isinstance(parent[key], bool):
        parent[key] += random.choice((1, -1, 4, -4, 2**32))
    elif action == 5:
        parent[key] = [parent[key]]
    elif action == 6 and isinstance(parent, dict):
        parent[random.choice((str(random.choice(VALUES)), *parent))] = copy.deepcopy(parent[key])
    else:
        other, other_key = random.choice(places)
        parent[key] = copy.deepcopy(other[other_key])
    return value


def json_text(text: bytes, random: Random) -> bytes:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return some_bytes(text, random)
    for _ in range(random.randint(1, 3)):
        value = json_value(value, random)
    changed = json.dumps(value).encode()
    if random.random() < 0.05:  # one key twice
        changed = changed.replace(b"{", b'{"' + random.choice((b"config", b"__metadata__")) + b'": null, ', 1)
    return changed


def safetensors(data: bytes, random: Random) -> bytes:
    """The header's JSON, that within its metadata, or the values."""
    size = int.from_bytes(data[:8], "little")
    header, body = data[8 : 8 + size], data[8 + size :]
    part = random.randrange(8)
    if part == 0 and body:
        body = some_bytes(body, random)
    elif part <= 4:
        try:
            value = json.loads(header)
            value["__metadata__"]["fusedcell"] = json_text(value["__metadata__"]["fusedcell"].encode(), random).decode()
            header = json.dumps(value).encode()
        except (ValueError, TypeError, KeyError, AttributeError):
            header = json_text(header, random)
    else:
        header = json_text(header, random)
    return struct.pack("<Q", len(header)) + header + body


def archive(data: bytes, random: Random) -> bytes:
    """A member of a zip: its JSON, or its bytes. Sizes and checksums are made anew."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as old:
            members = [(info.filename, old.read(info)) for info in old.infolist()]
    except Exception:  # of the many that damaged archives raise
        return some_bytes(data, random)
    if not members:
        return some_bytes(data, random)
    # Values and heaps of numbers are mostly of no consequence.
    weights = [8 if name.endswith((".json", ".pkl")) else 1 for name, _ in members]
    index = random.choices(range(len(members)), weights)[0]
    name, content = members[index]
    content = json_text(content, random) if name.endswith(".json") else some_bytes(content, random)
    members[index] = (name, content)
    if random.random() < 0.02:
        del members[index]
    new = io.BytesIO()
    with zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED if random.random() < 0.01 else zipfile.ZIP_STORED) as file:
        for member, value in members:
            file.writestr(member, value)
    return new.getvalue()


def onnx_model(data: bytes, random: Random) -> bytes:
    """Fields of the model's messages."""
    import onnx

    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
        for _ in range(random.randint(1, 4)):
            _change_message(model, random)
        return bytes(model.SerializeToString())
    except Exception:  # of protobuf, for what cannot be parsed or written
        return some_bytes(data, random)


def _change_message(message: Any, random: Random) -> None:
    found, todo = [], [message]
    while todo:
        node = todo.pop()
        found.append(node)
        for field, value in node.ListFields():
            if field.type == field.TYPE_MESSAGE:
                todo += [value] if hasattr(value, "ListFields") else list(value)
    node = random.choice(found)
    fields = node.DESCRIPTOR.fields if random.random() < 0.2 else [field for field, _ in node.ListFields()]
    if not fields:
        return
    field = random.choice(list(fields))
    value = getattr(node, field.name)
    repeated = not isinstance(value, (int, float, str, bytes)) and not hasattr(value, "ListFields")
    if field.type == field.TYPE_MESSAGE:
        if repeated and len(value) and random.random() < 0.7:
            at = random.randrange(len(value))
            if random.random() < 0.4:
                value.add().CopyFrom(random.choice(value))
            elif random.random() < 0.5:
                del value[at]
            else:
                value[at].CopyFrom(random.choice(value))
        elif repeated:
            value.add()
        elif random.random() < 0.3:
            node.ClearField(field.name)
        else:
            value.SetInParent()
        return
    new = _scalar(field, random)
    if not repeated:
        setattr(node, field.name, new)
    elif not len(value) or random.random() < 0.3:
        value.append(new)
    elif random.random() < 0.3:
        del value[random.randrange(len(value))]
    else:
        value[random.randrange(len(value))] = new


def _scalar(field: Any, random: Random) -> Any:
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return random.choice((0.0, 1.0, -1.0, 0.2, 1e-40, 3e38, float("inf"), float("nan")))
    if field.type == field.TYPE_STRING:
        names = ("", "W", "R", "B", "X", "P", "Y", "graph", "LSTM", "GRU", "RNN", "If", "Loop", "Constant", "Transpose")
        operators = ("Reshape", "Squeeze", "Unsqueeze", "Concat", "Slice", "Expand", "Tile", "Cast", "DequantizeLinear")
        more = ("perm", "axes", "axis", "value", "layout", "direction", "clip", "location", "../x", "com.microsoft")
        return random.choice((*names, *operators, *more))
    if field.type == field.TYPE_BYTES:
        return random.choice((b"", b"\0" * 4, b"forward", b"bidirectional", b"Affine", b"Elu", b"\xff\xfe", b"\0" * 60))
    if field.type == field.TYPE_ENUM:
        return random.choice([value.number for value in field.enum_type.values])
    return random.choice((0, 1, 2, 3, 5, 7, 14, 22, 100, -1, -2, 64, 2**31 - 1, -(2**31), 2**16, 16))
