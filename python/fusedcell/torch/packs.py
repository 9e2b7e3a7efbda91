"""Packed weights of PyTorch's tensors, kept for as long as the tensors live and do not change.

A change is seen by a tensor's version, which every operation in place counts up, and by its address and strides,
which assigning to ``.data`` changes. Writing through ``.data`` or a NumPy array counts no version; it is seen where it
changes one of a few values of each weight that are looked at too, as writing a whole weight does.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .._core import Stack
from ..convert.torch.modules import Form

CPU = torch.device("cpu")
META = torch.device("meta")
_SAMPLES = 16


class Storage(NamedTuple):
    """How weights are stored: the type, and the tier asked for."""

    dtype: str
    isa: str | None


class _Seen:
    """What a weight was when it was packed."""

    def __init__(self, weight: Tensor, when_it_dies: Callable[[object], object]) -> None:
        self.reference = weakref.ref(weight, when_it_dies)
        self.version = weight._version
        self.strides = weight.stride()
        # Of the tensor's own memory, which therefore stays, so that no other weight can come to have its address.
        values = weight.numpy(force=True).ravel(order="K")
        self.address = weight.data_ptr()
        self.samples = values[:: max(1, values.size // _SAMPLES)]
        self.sampled = self.samples.tobytes()

    def is_of(self, weight: Tensor) -> bool:
        """Whether that is the weight, unchanged."""
        return (
            self.reference() is weight
            and weight._version == self.version
            and weight.data_ptr() == self.address
            and weight.stride() == self.strides
            and self.samples.tobytes() == self.sampled
        )


class Pack:
    """The packed weights of some tensors as they are now."""

    def __init__(
        self, form: Form, weights: Sequence[Tensor], storage: Storage, when_one_dies: Callable[[object], object]
    ) -> None:
        check(form, weights)
        # Looked at before they are read, so that a change by another thread meanwhile is seen at the next call.
        self._seen = [_Seen(weight, when_one_dies) for weight in weights]
        self.form = form
        self.stack = pack(form, weights, storage)

    def is_of(self, form: Form, weights: Sequence[Tensor]) -> bool:
        """Whether that is the form, and these are the tensors, unchanged."""
        return (form is self.form or form == self.form) and all(map(_Seen.is_of, self._seen, weights))


_packs: dict[tuple[object, ...], Pack] = {}


def packed(form: Form, weights: Sequence[Tensor], storage: Storage) -> Pack:
    """The pack of these versioned tensors, made again if one of them has changed."""
    # An entry goes when one of its tensors does, so that no other can come with its id.
    key = (form, storage, *map(id, weights))
    found = _packs.get(key)
    if found is None or not found.is_of(form, weights):
        found = _packs[key] = Pack(form, weights, storage, lambda _: _packs.pop(key, None))
    return found


def are_versioned(weights: Sequence[Tensor]) -> bool:
    """Whether changes of these tensors can be seen. Those made in inference mode have no versions."""
    return not any(weight.is_inference() for weight in weights)


def forget(weights: Sequence[Tensor]) -> None:
    """Lets go of what was packed of any of these tensors."""
    ids = set(map(id, weights))
    for key in list(_packs):
        if not ids.isdisjoint(key[2:]):
            _packs.pop(key, None)


def pack(form: Form, weights: Sequence[Tensor], storage: Storage) -> Stack:
    """Packs the weights. Raises TypeError or ValueError, naming the tensor, for one that cannot stand in for itself."""
    check(form, weights)
    arrays = {name: weight.numpy(force=True) for name, weight in zip(form.names(), weights, strict=True)}
    return form.make(arrays, batch_first=False, dtype=storage.dtype, isa=storage.isa).stack


def check(form: Form, weights: Sequence[Tensor], device: torch.device = CPU) -> None:
    """Raises TypeError, naming the tensor, unless all are float32 on the CPU, or on a device without memory."""
    for name, weight in zip(form.names(), weights, strict=True):
        if weight.dtype != torch.float32 or weight.device != device:
            raise TypeError(f"{name}: expected a float32 tensor on the CPU, got {describe(weight)}")


def describe(tensor: Tensor) -> str:
    """The tensor's dtype and device, as errors name them."""
    return f"{str(tensor.dtype).removeprefix('torch.')} on {tensor.device}"
