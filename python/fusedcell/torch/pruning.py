"""Prunes the matrices of a model's recurrent modules block by block while it trains, so that they run sparse."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UnsupportedError
from .acceleration import named_modules
from .modules import Fused
from .report import SWAPPING

_UNITS = 16  # rows of a block
_GROUPS = {"float32": 1, "int8": 4}  # columns of a block
_LEAST_WEIGHTS = 1 << 14  # of a matrix, below which it runs dense all the same
_UPDATES = 100  # of the masks, on the way
_GATES = {"LSTM": 4, "GRU": 3}


class Pruning:
    """What :func:`prune` returns: call :meth:`step` after each of the optimiser's."""

    def __init__(
        self, matrices: dict[str, nn.Parameter], gates: dict[str, list[float]], steps: int, group: int, diagonal: bool
    ) -> None:
        self._matrices = matrices
        self._densities = gates
        self._steps = steps
        self._group = group
        self._diagonal = diagonal
        self._count = 0
        self._masks: dict[str, Tensor] = {}
        if steps == 0:
            self._update()
            self._apply()

    def step(self) -> None:
        """Goes one step along the schedule, and makes what is pruned zero, whatever the optimiser made of it."""
        self._count += 1
        every = max(1, self._steps // _UPDATES)
        if self._count <= self._steps and (self._count % every == 0 or self._count == self._steps):
            self._update()
        self._apply()

    @property
    def densities(self) -> dict[str, float]:
        """The part of each matrix's blocks that is kept now, by the parameter's name."""
        return {
            name: float(self._masks[name].float().mean()) if name in self._masks else 1.0 for name in self._matrices
        }

    @property
    def finished(self) -> bool:
        """Whether the schedule has reached its end; :meth:`step` goes on keeping zeros zero."""
        return self._count >= self._steps

    def state_dict(self) -> dict[str, Any]:
        """What :meth:`load_state_dict` takes to go on from here."""
        return {"count": self._count, "masks": {name: mask.clone() for name, mask in self._masks.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from where another was. Raises ValueError unless that was of the same matrices."""
        masks = state["masks"]
        wrong = set(masks) - set(self._matrices)
        if wrong:
            raise ValueError(f"state: has a mask of {min(wrong)!r}, which is not pruned here")
        for name, mask in masks.items():
            shape = self._blocks_of(name, self._matrices[name]).shape[:-2]
            if mask.shape != shape:
                raise ValueError(f"state: expected a mask of shape {tuple(shape)} for {name}, got {tuple(mask.shape)}")
        self._count = int(state["count"])
        self._masks = {name: mask.to(self._matrices[name].device) for name, mask in masks.items()}
        self._apply()

    def _update(self) -> None:
        left = (1 - min(self._count, self._steps) / self._steps) ** 3 if self._steps else 0.0
        for name, matrix in self._matrices.items():
            size = self._blocks_of(name, matrix.detach()).square().sum(dim=(-1, -2))  # (gates, strips, groups)
            if self._diagonal and "weight_hh" in name:
                size[:, self._on_diagonal(size)] = torch.inf
            mask = torch.zeros_like(size, dtype=torch.bool)
            for gate, density in enumerate(self._densities[name]):
                now = density + (1 - density) * left
                kept = max(round(now * size[gate].numel()), int(size[gate].isinf().sum()))
                mask[gate].view(-1)[size[gate].flatten().topk(kept).indices] = True
            self._masks[name] = mask

    def _on_diagonal(self, size: Tensor) -> Tensor:
        first = torch.arange(size.shape[1], device=size.device)[:, None] * _UNITS
        k = torch.arange(size.shape[2], device=size.device) * self._group
        return (k + self._group > first) & (k < first + _UNITS)

    def _apply(self) -> None:
        with torch.no_grad():
            for name, mask in self._masks.items():
                matrix = self._matrices[name]
                gates, strips, groups = mask.shape
                wide = mask[:, :, None, :, None].expand(gates, strips, _UNITS, groups, self._group)
                rows = wide.reshape(gates, strips * _UNITS, groups * self._group)
                matrix.mul_(rows[:, : len(matrix) // gates, : matrix.shape[1]].reshape(matrix.shape))

    def _blocks_of(self, name: str, matrix: Tensor) -> Tensor:
        """(gates, strips, groups, units, k), padded with zeros."""
        gates = len(self._densities[name])
        parts = matrix.view(gates, -1, matrix.shape[1])
        padded = nn.functional.pad(parts, (0, -parts.shape[2] % self._group, 0, -parts.shape[1] % _UNITS))
        return padded.unflatten(2, (-1, self._group)).unflatten(1, (-1, _UNITS)).transpose(2, 3)


def prune(
    model: nn.Module,
    density: float | Sequence[float] = 0.2,
    *,
    steps: int,
    dtype: str = "float32",
    diagonal: bool = True,
    keep: str | Iterable[str] = (),
) -> Pruning:
    """Prunes ``weight_ih``, ``weight_hh`` and ``weight_hr`` of each ``nn.RNN``, ``LSTM``, ``GRU`` and cell in training.

    Of each gate's blocks of 16 units and one input those with the smallest sums of squares become zero, more and more
    over `steps` steps, until `density` of them are left: after t steps ``density + (1 - density) (1 - t / steps)^3``.
    Call ``step()`` of what is returned after each step of the optimiser, also when the schedule has ended, so that what
    is pruned stays zero. With `steps` 0 all of it is done at once. Layers made of such a model run sparse
    (docs/sparse.md); nothing else about it changes.

    `density` is that of every gate, or one a gate in PyTorch's order, of which ``weight_hr`` takes the largest. `dtype`
    is the type that the layer will have: blocks for "int8" have four inputs, and run in every type. With `diagonal` the
    blocks that hold a recurrent matrix's diagonal always stay, and count. `keep` names submodules that stay dense.
    Matrices of fewer than 16384 weights do, too, as they run no faster.

    Raises TypeError unless `model` is a module, UnsupportedError for another dtype and, naming each, for modules whose
    matrices cannot be pruned; ValueError for a density outside (0, 1] or of another number of gates, negative `steps`,
    a name in `keep` that is no submodule, or if there is nothing to prune.

    >>> import torch, fusedcell.torch as ft
    >>> pruning = ft.prune(torch.nn.GRU(128, 128), density=0.1, steps=1000)
    >>> pruning.step()  # after each of the optimiser's
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    if dtype not in _GROUPS:
        raise UnsupportedError(f"dtype={dtype!r} is not supported; supported: {', '.join(_GROUPS)}")
    if steps < 0:
        raise ValueError(f"steps: expected 0 or more, got {steps}")
    given = list(density) if isinstance(density, Sequence) else [density]
    for one in given:
        if not 0 < one <= 1:
            raise ValueError(f"density: expected more than 0 and at most 1, got {one}")
    modules = dict(model.named_modules(remove_duplicate=False))
    kept: set[nn.Module] = set()
    for name in (keep,) if isinstance(keep, str) else keep:
        if name not in modules:
            raise ValueError(f"keep: {name!r} is not a submodule; submodules: {', '.join(filter(None, modules))}")
        kept.update(modules[name].modules())
    matrices: dict[str, nn.Parameter] = {}
    densities: dict[str, list[float]] = {}
    with SWAPPING:
        for module, (path, *_) in named_modules(model).items():
            if module in kept or not isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
                continue
            gates = next((count for cell, count in _GATES.items() if cell in _mode(module)), 1)
            if len(given) not in (1, gates):
                raise ValueError(f"density: expected one, or {gates} for the gates of {path!r}, got {len(given)}")
            for name, matrix in _matrices_of(module, path):
                label = f"{path}.{name}" if path else name
                matrices[label] = matrix
                densities[label] = [max(given)] if "weight_hr" in name else (given * gates)[:gates]
    if not matrices:
        raise ValueError(f"model: has no recurrent matrix of {_LEAST_WEIGHTS} weights or more to prune")
    return Pruning(matrices, densities, steps, _GROUPS[dtype], diagonal)


def _mode(module: Any) -> str:
    return str(module.mode) if isinstance(module, nn.RNNBase) else type(module).__name__


def _matrices_of(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Parameter]]:
    if isinstance(module, Fused):
        raise UnsupportedError(f"model: {path or 'the model'!r} is accelerated: call report.undo() first")
    if hasattr(module, "parametrizations") or any(name.endswith("_orig") for name, _ in module.named_parameters()):
        raise UnsupportedError(f"model: {path or 'the model'!r} has weights that are computed from others")
    for name, matrix in module.named_parameters(recurse=False):
        if name.startswith("weight_") and matrix.dim() == 2 and matrix.numel() >= _LEAST_WEIGHTS:
            yield name, matrix
