"""torch.export of a module, with recurrent layers whole and packed sequences as padded ones."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

from ...errors import UnsupportedError

_lock = threading.RLock()
_followed = 0
_OPTIONS = "bool has_biases, int num_layers, float dropout, bool train, bool bidirectional, bool batch_first"
_LAYERS = {
    "lstm": f"lstm(Tensor input, Tensor[] hx, Tensor[] params, {_OPTIONS}) -> (Tensor, Tensor, Tensor)",
    **{
        name: f"{name}(Tensor input, Tensor hx, Tensor[] params, {_OPTIONS}) -> (Tensor, Tensor)"
        for name in ("gru", "rnn_tanh", "rnn_relu")
    },
}
_WEIGHTS = "Tensor w_ih, Tensor w_hh, Tensor? b_ih=None, Tensor? b_hh=None"
_CELLS = {
    "lstm_cell": f"lstm_cell(Tensor input, Tensor[] hx, {_WEIGHTS}) -> (Tensor, Tensor)",
    **{
        name: f"{name}(Tensor input, Tensor hx, {_WEIGHTS}) -> Tensor"
        for name in ("gru_cell", "rnn_tanh_cell", "rnn_relu_cell")
    },
}
NAMESPACE = "fusedcell_export"


def exported(torch: Any, module: Any, args: tuple[Any, ...]) -> tuple[Any, bool]:
    """The program, and whether it packs sequences. Raises UnsupportedError with the user's line."""
    try:
        with torch.no_grad(), warnings.catch_warnings(), _quiet(), _replaced(torch) as packed:
            warnings.simplefilter("ignore")
            if isinstance(module, torch.jit.ScriptModule):
                from torch._export.converter import TS2EPConverter

                return TS2EPConverter(module, args, {}).convert(), False
            # Within it the hook's handle removes the hook at the end.
            with module.register_forward_hook(lambda _, __, answers: without_dataclasses(torch, answers)):
                return torch.export.export(module, args, strict=False), bool(packed)
    except Exception as error:  # of many kinds: whatever PyTorch, or the module's own code, finds
        if isinstance(error, MemoryError | RecursionError):
            raise
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)[:500]
        if isinstance(module, torch.jit.ScriptModule):
            raise UnsupportedError(
                f"module: PyTorch cannot turn this TorchScript into a program: {first}; bring the module that it was "
                "made of"
            ) from error
        place = users_line(torch, [tuple(frame) for frame in traceback.extract_tb(error.__traceback__)])
        if "data-dependent" in first or "unbacked" in first:
            first = f"a branch, or a size, that depends on what the input holds; supported: torch.where ({first})"
        raise UnsupportedError(f"{place or 'module'}: torch.export cannot follow it: {first}") from error


def without_dataclasses(torch: Any, answers: Any) -> Any:
    """What a module answers, with tuples of their fields in place of dataclasses, which torch.export does not take."""

    def opened(value: Any) -> Any:
        if not is_dataclass(value):
            return value
        return tuple(without_dataclasses(torch, getattr(value, field.name)) for field in fields(value))

    return torch.utils._pytree.tree_map(opened, answers)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch.export prints of programs that it cannot follow, whose line the error says."""
    known = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(known)


def is_followed() -> bool:
    """Whether a module is exported for us, who know PyTorch's own operators."""
    return _followed > 0


def users_line(torch: Any, frames: Sequence[Any]) -> str:
    """The innermost line of the user's own code among frames, (file, line, function, text)."""
    inside = tuple(os.path.dirname(path) + os.sep for path in (torch.__file__, os.path.dirname(__file__)))
    for file, line, function, text in reversed(frames):
        if not file.startswith((*inside, "<")) and file != contextlib.__file__:
            return f"{file}:{line} in {function}, {(text or '').strip()!r}"
    return ""


@cache
def _operators(torch: Any) -> Any:
    """Layers and cells as torch.export sees them; it would compute every step of PyTorch's own, for their shapes."""
    library = torch.library.Library(NAMESPACE, "DEF")
    for schema in [*_LAYERS.values(), *_CELLS.values()]:
        library.define(schema)
    for name in _LAYERS:
        library.impl(name, _shapes_of_layer, "Meta")
    for name in _CELLS:
        library.impl(name, _shapes_of_cell, "Meta")
    return library


def _shapes_of_layer(x: Any, hx: Any, params: Any, *options: Any) -> Any:
    states = hx if isinstance(hx, list | tuple) else [hx]
    directions = 1 + options[4]
    y = x.new_empty((*x.shape[:-1], directions * states[0].shape[-1]))
    return (y, *(state.new_empty(state.shape) for state in states))


def _shapes_of_cell(x: Any, hx: Any, *weights: Any) -> Any:
    made = [state.new_empty(state.shape) for state in (hx if isinstance(hx, list | tuple) else [hx])]
    return tuple(made) if isinstance(hx, list | tuple) else made[0]


@contextmanager
def _replaced(torch: Any) -> Iterator[list[int]]:
    """Within it layers are one operator, and packed sequences hold all rows of padded ones.

    torch.export cannot follow what is packed, as its size depends on the lengths. The list has an entry for each
    sequence that was packed.
    """
    global _followed
    found: list[int] = []
    functions = torch._VF
    _operators(torch)

    def pack(x: Any, lengths: Any, batch_first: bool) -> tuple[Any, Any]:
        found.append(1)
        x = x.transpose(0, 1) if batch_first else x
        return x.reshape(-1, *x.shape[2:]), _Full([x.shape[1]] * x.shape[0])

    def pad(data: Any, sizes: Any, batch_first: bool, value: float, total: int) -> tuple[Any, Any]:
        if value:
            raise UnsupportedError(f"pad_packed_sequence with a padding of {value}; supported: 0")
        y = data.reshape(len(sizes), sizes[0], *data.shape[1:])
        return (y.transpose(0, 1) if batch_first else y), torch.full((sizes[0],), len(sizes))

    def layer(name: str) -> Any:
        run = getattr(getattr(torch.ops, NAMESPACE), name)

        def replaced(x: Any, second: Any, *more: Any) -> Any:
            if not isinstance(second, _Full):
                return run(x, second, *more)
            y, *states = run(x.reshape(len(second), second[0], *x.shape[1:]), *more, False)
            return (y.reshape(-1, *y.shape[2:]), *states)

        return replaced

    changed = {"_pack_padded_sequence": pack, "_pad_packed_sequence": pad, **{name: layer(name) for name in _LAYERS}}
    changed |= {name: getattr(getattr(torch.ops, NAMESPACE), name) for name in _CELLS}
    with _lock:
        known = {name: vars(functions).get(name) for name in changed}
        vars(functions).update(changed)
        _followed += 1
        try:
            yield found
        finally:
            _followed -= 1
            for name, function in known.items():
                if function is None:
                    del vars(functions)[name]
                else:
                    vars(functions)[name] = function


class _Device:
    type = "cpu"


class _Full(list[int]):
    """The batch sizes of sequences that are all of full length, as packed sequences have them."""

    device = _Device()

    def size(self, dim: int = 0) -> int:
        """How many rows."""
        return len(self)
