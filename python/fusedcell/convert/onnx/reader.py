"""A node's attributes by type, with errors that name the node, the attribute and its value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ...errors import UnsupportedError
from .file import import_onnx
from .graph import Attribute


class AttributeReader:
    """Reads attributes of one node, which errors call `where`.

    Raises UnsupportedError for an attribute that is not one of `known`, and ValueError where one has another type than
    it is read as.
    """

    def __init__(self, attributes: Mapping[str, Attribute], known: Iterable[str], where: str) -> None:
        self._attributes = attributes
        self._where = where
        supported = sorted(known)
        for name, attribute in attributes.items():
            if name not in supported:
                raise UnsupportedError(
                    f"{where}: attribute {name}={_text(attribute)} is not supported; "
                    f"supported: {', '.join(supported) or 'none'}"
                )

    def refusal(self, name: str, value: object, supported: str) -> UnsupportedError:
        """The error for an attribute whose value cannot be honoured."""
        return UnsupportedError(f"{self._where}: {name}={value!r} is not supported; supported: {supported}")

    def integer(self, name: str) -> int | None:
        """An INT; None where there is none, as below."""
        attribute = self._get(name, "INT")
        return None if attribute is None else int(attribute.i)

    def integers(self, name: str) -> list[int] | None:
        """INTS."""
        attribute = self._get(name, "INTS")
        return None if attribute is None else [int(value) for value in attribute.ints]

    def number(self, name: str) -> float | None:
        """A FLOAT."""
        attribute = self._get(name, "FLOAT")
        return None if attribute is None else float(attribute.f)

    def numbers(self, name: str) -> list[float]:
        """FLOATS, of which there may be none."""
        attribute = self._get(name, "FLOATS")
        return [] if attribute is None else [float(value) for value in attribute.floats]

    def string(self, name: str, default: str) -> str:
        """A STRING."""
        attribute = self._get(name, "STRING")
        return default if attribute is None else attribute.s.decode(errors="replace")

    def strings(self, name: str) -> list[str]:
        """STRINGS, of which there may be none."""
        attribute = self._get(name, "STRINGS")
        return [] if attribute is None else [value.decode(errors="replace") for value in attribute.strings]

    def tensor(self, name: str) -> Any:
        """A TENSOR, as an onnx.TensorProto."""
        attribute = self._get(name, "TENSOR")
        return None if attribute is None else attribute.t

    def check(self, name: str, kind: str) -> None:
        """Raises ValueError where an attribute that is there is of another type than ONNX's `kind`."""
        self._get(name, kind)

    def _get(self, name: str, kind: str) -> Attribute | None:
        attribute = self._attributes.get(name)
        if attribute is not None and attribute.type != getattr(import_onnx().AttributeProto, kind):
            raise ValueError(f"{self._where}: attribute {name}: expected type {kind}, got {_text(attribute)}")
        return attribute


def _text(attribute: Attribute) -> str:
    """An attribute's value for an error, or its type where that is long."""
    types: Any = import_onnx().AttributeProto
    for kind, field in (("INT", "i"), ("FLOAT", "f"), ("STRING", "s")):
        if attribute.type == getattr(types, kind):
            return repr(getattr(attribute, field))[:80]
    known = types.AttributeType
    return f"({known.Name(attribute.type) if attribute.type in known.values() else attribute.type})"
