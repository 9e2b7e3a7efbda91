"""What the tests of whole PyTorch modules share: modules made of functions, and a model beside its module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusedcell as fc

torch = pytest.importorskip("torch")
nn = torch.nn


def leaves(answers: Any) -> list[Any]:
    found: list[Any] = torch.utils._pytree.tree_leaves(answers)
    return [answer.detach().float().numpy() for answer in found if answer is not None]


def close(got: Any, want: Any) -> None:
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * max(1.0, float(np.abs(want).max(initial=0))))


def as_inputs(example: Any) -> tuple[Any, ...]:
    given = example if isinstance(example, tuple) else (example,)
    return tuple(tensor.float().numpy() if tensor.is_floating_point() else tensor.numpy() for tensor in given)


def agrees(module: Any, example: Any, streams: bool = False) -> Any:
    """The module's model, after its answers, whole and step by step, were compared with the module's."""
    model = fc.Model.from_torch(module.eval(), example)
    with torch.no_grad():
        want = leaves(module(*example) if isinstance(example, tuple) else module(example))
    got = model(*as_inputs(example))
    got = got if isinstance(got, tuple) else (got,)
    assert len(got) == len(want)
    for mine, theirs in zip(got, want, strict=True):
        close(mine, theirs)
    assert model.streamable == streams
    if streams:
        steps_as_whole(model, example)
    return model


def steps_as_whole(model: Any, example: Any) -> None:
    """A stream of blocks of the input answers with the same bits as the whole call."""
    arrays = as_inputs(example)
    axes = [model.axes[name] for name in model.inputs]
    if not any("time" in axis for axis in axes):
        return
    batch = next((a.shape[axis.index("batch")] for a, axis in zip(arrays, axes, strict=True) if "batch" in axis), 1)
    timed = [axis.index("time") if "time" in axis else None for axis in axes]
    steps = next(a.shape[t] for a, t in zip(arrays, timed, strict=True) if t is not None)
    stream = model.stream(batch)
    hop = model.hop if isinstance(model.hop, int) else model.hop[0]
    blocks = []
    for start in range(0, steps, hop):
        part = [
            a if t is None else a.take(range(start, min(start + hop, steps)), t)
            for a, t in zip(arrays, timed, strict=True)
        ]
        part = [a[0] if batch == 1 and "batch" in axis else a for a, axis in zip(part, axes, strict=True)]
        blocks.append(stream.process(*part))
    blocks.append(stream.flush())
    whole = model(*arrays)
    several = isinstance(whole, tuple)
    for place, name in enumerate(model.outputs):
        answers = [block[place] if several else block for block in blocks]
        answers = [answer for answer in answers if answer is not None]
        want = whole[place] if several else whole
        if "time" not in model.axes[name]:
            continue
        time = model.axes[name].index("time")
        if batch == 1 and "batch" in model.axes[name]:
            want = want.squeeze(model.axes[name].index("batch"))
            time -= model.axes[name].index("batch") < time
        got = np.concatenate(answers, time)
        np.testing.assert_array_equal(got, want)


def module_of(forward: Callable[..., Any], **parts: Any) -> Any:
    """A module with these parts and this forward."""

    class Module(nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            for name, part in parts.items():
                setattr(self, name, part)

        def forward(self, *given: Any) -> Any:
            return forward(self, *given)

    return Module()


def seeded(function: Callable[[], Any]) -> Any:
    torch.manual_seed(0)
    return function()


def x_of(*shape: int) -> Any:
    return torch.from_numpy(np.random.default_rng(7).standard_normal(shape).astype(np.float32))


def lstm(*sizes: int, **options: Any) -> Any:
    return nn.LSTM(*sizes, batch_first=True, **options)
