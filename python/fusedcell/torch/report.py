"""What accelerate swapped, and the way back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import RLock
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn.utils import parametrize

from .._text import aligned
from . import packs
from .autograd import TrainedModule
from .benchmark import Benchmark, compare
from .modules import Fused, forget
from .whole import Whole

if TYPE_CHECKING:
    from typing_extensions import Self

SWAPPING = RLock()
"""Held by who changes classes of modules, which calls of them need not wait for."""

_OF_EACH_CLASS = ("__dict__", "__weakref__")


@dataclass(frozen=True)
class Entry:
    """One recurrent module, or a submodule that was tried as one model.

    `name` is its qualified name, "" for the model itself, and `also` the others it is known by.

    `class_name` is that of the module as it came; `reason` says why it was not swapped.
    """

    name: str
    class_name: str
    swapped: bool
    reason: str = ""
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class WholeSwap:
    """A submodule that becomes one model, its class before and after, and the attributes that it then has."""

    module: nn.Module
    original: type[nn.Module]
    whole: type[Whole]
    attributes: dict[str, Any]

    def do(self) -> None:
        """Makes the module one model."""
        self.module.__dict__.update(self.attributes)
        object.__setattr__(self.module, "__class__", self.whole)

    def undo(self) -> None:
        """Makes the module what it was."""
        if isinstance(self.module, Whole):
            object.__setattr__(self.module, "__class__", self.original)
            for name in self.attributes:
                self.module.__dict__.pop(name)

    def repack(self) -> None:
        """Converts it again at the next call."""
        if isinstance(self.module, Whole):
            self.module.fusedcell_weights.forget()


@dataclass(frozen=True)
class Swap:
    """A module, its class before and after, without parametrisations, and the attributes that it then has."""

    module: nn.Module
    original: type[nn.Module]
    swapped: type[Fused] | type[TrainedModule]
    attributes: dict[str, Any]

    def do(self) -> None:
        """Makes the module compute with fusedcell."""
        self.module.__dict__.update(self.attributes)
        set_class(self.module, self.swapped)

    def undo(self) -> None:
        """Makes the module what it was, unless something else has made it another thing since."""
        if not isinstance(self.module, (Fused, TrainedModule)):
            return
        set_class(self.module, self.original)  # before what calls of the other class look for goes
        for name in self.attributes:
            self.module.__dict__.pop(name)

    def repack(self) -> None:
        """Packs its weights again at the next call."""
        if isinstance(self.module, Fused):
            forget(self.module)
        elif isinstance(self.module, TrainedModule):
            packs.forget(list(self.module.parameters()))


def set_class(module: nn.Module, cls: type[nn.Module]) -> None:
    """Changes the class of a module, which keeps its parametrisations."""
    if parametrize.is_parametrized(module):
        # By a class of the module alone, which has the weights that are computed now as properties.
        namespace = {name: value for name, value in vars(type(module)).items() if name not in _OF_EACH_CLASS}
        cls = type(f"Parametrized{cls.__name__}", (cls,), namespace)
    # Past nn.Module.__setattr__, which would look for a parameter of that name.
    object.__setattr__(module, "__class__", cls)


class Report:
    """What :func:`accelerate` found: an :class:`Entry` for each recurrent module, and for what was tried as a whole.

    They are in the order of the model.

    Iterates over the entries, prints as a table, and undoes the swap at the end of a ``with`` block.
    """

    def __init__(self, model: nn.Module, entries: list[Entry], swaps: Sequence[Swap | WholeSwap]) -> None:
        self.model = model
        self.entries = tuple(entries)
        self._swaps = swaps
        self._swapped = False
        self._undone = False

    def undo(self) -> None:
        """Gives every swapped module its class back; the model is as before, and its parameters what they are now.

        Doing so once more does nothing. Calls in other threads go on, each as it began.
        """
        with SWAPPING:
            self.repack()
            self._swap(False)
            self._undone = True

    def repack(self) -> None:
        """Packs all weights again at the next call, after some values of one were written past PyTorch's notice.

        Operations in place, assignments and loading are noticed by themselves, and writing a whole weight through
        ``.data`` or a NumPy array is; writing a part of it so is not.
        """
        with SWAPPING:
            for swap in self._swaps:
                swap.repack()

    def benchmark(self, *inputs: Any, **keywords: Any) -> Benchmark:
        """Times ``model(*inputs, **keywords)`` before and after the swap, in turns, in torch.inference_mode().

        While it runs, no other thread may use the model. Raises RuntimeError after :meth:`undo`.
        """
        if self._undone:
            raise RuntimeError("benchmark: the swap has been undone; call fusedcell.torch.accelerate again")

        def call(swapped: bool) -> Any:
            if self._swapped is not swapped:
                self._swap(swapped)
            return self.model(*inputs, **keywords)

        try:
            return compare(call)
        finally:
            self._swap(True)

    def _swap(self, swapped: bool = True) -> None:
        with SWAPPING:
            for swap in self._swaps:
                if swapped:
                    swap.do()
                else:
                    swap.undo()
            self._swapped = swapped

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.undo()

    def __str__(self) -> str:
        if not self.entries:
            return "No recurrent module."
        swaps = iter(self._swaps)
        rows = []
        for entry in self.entries:
            swap = next(swaps) if entry.swapped else None
            trains = swap is not None and swap.module.training and not isinstance(swap.module, TrainedModule)
            name = entry.name or "(the model)"
            rows.append([name, entry.class_name, "yes" if entry.swapped else "no", _remark(entry, trains)])
        headings = ["module", "class", "swapped", "remark"]
        return aligned(headings, rows, set(headings))

    def __repr__(self) -> str:
        swapped = sum(entry.swapped for entry in self.entries)
        return f"<Report: {swapped} of {len(self.entries)} recurrent modules swapped>"


def _remark(entry: Entry, trains: bool) -> str:
    remarks = [entry.reason] if entry.reason else []
    if trains:
        remarks.append("in training mode, in which calls raise: call model.eval()")
    return "; ".join([*remarks, *(f"also {name}" for name in entry.also)])
