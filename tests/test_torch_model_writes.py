"""PyTorch modules that write their answers into a tensor, part by part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import fusedcell as fc

torch = pytest.importorskip("torch")
nn = torch.nn

from torch_whole_modules import agrees, lstm, module_of, seeded, x_of  # noqa: E402 - as torch may be absent


def rows(s: Any, x: Any) -> Any:
    h, outs, one = x.new_zeros(x.size(0), 6), x.new_empty(x.size(1), x.size(0), 2), torch.ones(x.size(0), x.size(1))
    for t in range(x.size(1)):
        h = s.cell(x[:, t, :], h)
        outs[t] = s.d(h)
        one[:, t] = h[:, 0]
    return outs.transpose(0, 1), one, h, outs[-1]


def backwards_and_late(s: Any, x: Any) -> Any:
    h, out = None, torch.zeros(x.size(0), x.size(1), 6)
    for t in reversed(range(1, x.size(1))):
        h = s.cell(x[:, t], h)
        out[:, t - 1] = h
    return out


def slices(s: Any, x: Any) -> Any:
    y = s.rnn(x)[0]
    late, some, one = torch.zeros_like(y), torch.zeros(x.size(0), x.size(1), 5), torch.ones(x.size(0), x.size(1), 3)
    late[:, 1:] = y[:, :-1]
    some[..., :2], some[:, :, 4:] = y[..., 2:4], y[:, :, :1]
    one[:, :, 0], one[:, :, 2] = y[:, :, 0], y.mean(-1)
    return torch.cat([late, some, one], -1)


CASES: dict[str, tuple[Callable[[], Any], bool]] = {
    "rows": (lambda: module_of(rows, cell=nn.GRUCell(5, 6), d=nn.Linear(6, 2)), True),
    "rows from the last on, one earlier": (lambda: module_of(backwards_and_late, cell=nn.GRUCell(5, 6)), False),
    "slices": (lambda: module_of(slices, rnn=nn.GRU(5, 6, batch_first=True)), True),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_written_part_by_part_is_what_it_is_together(name: str) -> None:
    make, streams = CASES[name]
    agrees(seeded(make), x_of(2, 9, 5), streams)


def read_before(s: Any, x: Any) -> Any:
    h, out = x.new_zeros(x.size(0), 6), torch.zeros(x.size(0), x.size(1), 6)
    for t in range(x.size(1)):
        h = s.cell(x[:, t] + (out[:, t - 1, :5] if t else 0), h)
        out[:, t] = h
    return out


def along_two_axes(s: Any, x: Any) -> Any:
    y = s.rnn(x)[0]
    out = torch.zeros_like(y)
    out[:, 1:] = y[:, :-1]
    out[:, :, 0] = y[:, :, 1]
    return out


def twice(s: Any, x: Any) -> Any:
    y = s.rnn(x)[0]
    out = torch.zeros_like(y)
    out[:, :, 1:] = y[:, :, :-1]
    out[:, :, 2] = y[:, :, 1]
    return out


def of_ones(s: Any, x: Any) -> Any:
    y = s.rnn(x)[0]
    out = torch.ones_like(y)
    out[:, 1:] = y[:, :-1]
    return out


def added(s: Any, x: Any) -> Any:
    y = s.rnn(x)[0]
    out = torch.zeros_like(y)
    out[:, 1:] += y[:, :-1]
    return out


@pytest.mark.parametrize(
    ("forward", "text"),
    [
        (read_before, "a change in place of part of a tensor"),
        (along_two_axes, "along one axis, before it is read"),
        (twice, "written to twice"),
        (of_ones, "constants other than zeros in front of"),
        (added, "a change in place of part of a tensor"),
    ],
)
def test_what_is_written_otherwise_is_refused(forward: Any, text: str) -> None:
    module = seeded(lambda: module_of(forward, cell=nn.GRUCell(5, 6), rnn=lstm(5, 6))).eval()
    with pytest.raises(fc.UnsupportedError, match=text):
        fc.Model.from_torch(module, x_of(2, 9, 5))
