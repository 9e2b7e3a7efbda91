"""Whole submodules that become one model, among them all that is between their recurrent layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .._timing import QUICK, Runner, measure, ratio
from ..errors import UnsupportedError
from ..model import Model
from .operators import is_watched
from .packs import CPU

_AGREES = 1e-5  # of the largest value of an answer


@dataclass(frozen=True)
class Call:
    """What a submodule was called with, and what it answered, while the model ran on the example."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    in_tuple: bool


def calls_of(model: nn.Module, example: Any) -> dict[nn.Module, Call | str]:
    """The call of each submodule in ``model(*example)``, or why it is not one that a model can take the place of."""
    found: dict[nn.Module, Call | str] = {}

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], answer: Any) -> None:
        answers = tuple(answer) if isinstance(answer, tuple) else (answer,)
        if module in found:
            found[module] = "is called more than once"
        elif kwargs or not all(isinstance(value, Tensor) and value.device == CPU for value in (*args, *answers)):
            found[module] = "is called with, or answers with, other things than tensors"
        else:
            found[module] = Call(args, answers, isinstance(answer, tuple))

    handles = [module.register_forward_hook(note, with_kwargs=True) for module in model.modules()]
    try:
        with torch.no_grad():
            model(*(example if isinstance(example, tuple) else (example,)))
    finally:
        for handle in handles:
            handle.remove()
    return found


def converted(module: nn.Module, call: Call, dtype: str, isa: str | None) -> Model:
    """The model of a submodule that gives the same answer sooner; UnsupportedError or ValueError says why not."""
    if any(part._forward_hooks or part._forward_pre_hooks for part in module.modules()):
        raise UnsupportedError("a module in it has hooks, which would not be called")
    model: Model = Model.from_torch(module, call.inputs, dtype=dtype, isa=isa)
    if len(model.inputs) != len(call.inputs) or len(model.outputs) != len(call.outputs):
        raise UnsupportedError("its state goes in and out with each call")
    arrays = [value.numpy(force=True) for value in call.inputs]
    for answer, expected in zip(_tuple(model(*arrays)), call.outputs, strict=True):
        wanted = expected.numpy(force=True)
        if answer.shape != wanted.shape or not np.allclose(answer, wanted, rtol=0, atol=_tolerance(dtype, wanted)):
            raise UnsupportedError("its answers differ from the model's")
    runners = {
        "torch": Runner(lambda: module(*call.inputs), [()], _nothing),
        "fusedcell": Runner(lambda: model(*arrays), [()], _nothing),
    }
    with torch.inference_mode():
        times = measure(runners, QUICK)
    faster = ratio(times["torch"], times["fusedcell"]).p50
    if faster <= 1:
        raise UnsupportedError(f"as one model it is {faster:.2f} times as fast")
    return model


def _tolerance(dtype: str, wanted: Any) -> float:
    # Narrower weights are asked for, and are what makes their answers differ.
    return (_AGREES if dtype == "float32" else float(np.finfo(np.float32).max)) * max(
        1.0, float(np.abs(wanted).max(initial=0))
    )


def _tuple(answer: Any) -> tuple[Any, ...]:
    return answer if isinstance(answer, tuple) else (answer,)


def _nothing(_: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.empty(0, np.float32)


class Weights:
    """The parameters, buffers and plain attributes of a module, as they were when its model was made."""

    def __init__(self, module: nn.Module) -> None:
        self._seen = [(tensor, tensor._version, tensor.data_ptr()) for tensor in tensors_of(module)]
        self._plain = _plain_attributes(module)

    def forget(self) -> None:
        """Has them be no module's."""
        self._seen, self._plain = [], []

    def are_of(self, module: nn.Module) -> bool:
        """Whether the module has them still, unchanged as far as PyTorch knows."""
        now = list(tensors_of(module))
        return (
            len(now) == len(self._seen)
            and all(
                tensor is seen and tensor._version == version and tensor.data_ptr() == address
                for tensor, (seen, version, address) in zip(now, self._seen, strict=True)
            )
            and _plain_attributes(module) == self._plain
        )


def _plain_attributes(module: nn.Module) -> list[Any]:
    return [
        (name, value)
        for part in module.modules()
        for name, value in vars(part).items()
        if isinstance(value, int | float | str | tuple) and not name.startswith("fusedcell_")
    ]


def tensors_of(module: nn.Module) -> Iterator[Tensor]:
    """Parameters and buffers, in order."""
    yield from module.parameters()
    yield from module.buffers()


class Whole(nn.Module):
    """What a submodule becomes that is one model: a class of its own, between this and the class it had."""

    fusedcell_model: Model
    fusedcell_weights: Weights
    fusedcell_call: Call
    fusedcell_options: tuple[str, str | None, int]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As of the class it had.

        Raises RuntimeError in training mode or where a gradient would be needed, TypeError or ValueError for what
        is not as in the example.
        """
        if any(map(is_watched, (arg for arg in args if isinstance(arg, Tensor)))):
            return super().forward(*args, **kwargs)
        if self.training:
            raise RuntimeError("a module that is one model runs inference only: call model.eval(), or report.undo()")
        needed = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (*args, *tensors_of(self)))
        if needed:
            raise RuntimeError(
                "a module that is one model computes no gradients: call it in torch.inference_mode() or "
                "torch.no_grad(), or report.undo() to train"
            )
        expected = len(self.fusedcell_call.inputs)
        if kwargs:
            raise TypeError(f"{', '.join(kwargs)}: arguments by keyword; give them by position, as in the example")
        if len(args) != expected or not all(isinstance(arg, Tensor) and arg.device == CPU for arg in args):
            raise TypeError(f"expected {expected} tensors on the CPU, as in the example of accelerate")
        dtype, isa, num_threads = self.fusedcell_options
        if not self.fusedcell_weights.are_of(self):
            self.fusedcell_weights = Weights(self)
            self.fusedcell_model = Model.from_torch(_plain(self), self.fusedcell_call.inputs, dtype=dtype, isa=isa)
        answers = _tuple(self.fusedcell_model(*(arg.numpy(force=True) for arg in args), num_threads=num_threads))
        tensors = tuple(map(torch.from_numpy, answers))
        return tensors if self.fusedcell_call.in_tuple else tensors[0]

    def __reduce_ex__(self, protocol: Any) -> Any:
        # Copies and pickles are of the class that the module had, which others can import.
        plain = _plain(self)
        return _restored, (type(plain), plain.__dict__)


def whole_class(cls: type[nn.Module]) -> type[Whole]:
    """The class that a module of another becomes."""
    return type(f"Whole{cls.__name__}", (Whole, cls), {})


def _restored(cls: type[nn.Module], state: dict[str, Any]) -> nn.Module:
    module: Any = object.__new__(cls)
    module.__setstate__(state)
    result: nn.Module = module
    return result


def _plain(module: Whole) -> nn.Module:
    """The module as it was, sharing all it has."""
    other: Any = object.__new__(type(module).__mro__[2])
    state = {name: value for name, value in vars(module).items() if not name.startswith("fusedcell_")}
    object.__setattr__(other, "__dict__", state)
    result: nn.Module = other
    return result
