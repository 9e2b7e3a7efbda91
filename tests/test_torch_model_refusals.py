"""PyTorch modules that no model can be, and what else is looked at before one is."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import numpy as np
import pytest

import fusedcell as fc
from fusedcell.convert.torch.operators.interpreter import OPERATIONS

torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional
rnn = torch.nn.utils.rnn

from torch_whole_modules import (  # noqa: E402 - as torch may be absent
    lstm,
    module_of,
    seeded,
    x_of,
)


def test_torchscript_inside_a_module_is_refused_by_its_name() -> None:
    module = nn.Sequential()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module.add_module("part", torch.jit.script(nn.Linear(5, 6)))
    with pytest.raises(fc.UnsupportedError, match="'part' of it is TorchScript; bring the module"):
        fc.Model.from_torch(module, x_of(3, 5))


# What is refused, each with the line that does it.
ATTENTION = r"attention, .* is not supported; fusedcell\.torch\.accelerate\(model, example=\.\.\.\)"


class Refused(nn.Module):  # type: ignore[name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.conv, self.lstm = nn.GRU(5, 6, batch_first=True), nn.Conv1d(5, 6, 3), lstm(5, 6)
        self.drop, self.norm, self.cell, self.d = nn.Dropout(), nn.BatchNorm1d(5), nn.GRUCell(5, 6), nn.Linear(6, 1)
        self.both = nn.GRU(5, 6, bidirectional=True, batch_first=True)


class Dropped(Refused):
    def forward(self, x: Any) -> Any:
        return self.drop(self.rnn(x)[0])  # here


class Branch(Refused):
    def forward(self, x: Any) -> Any:
        y, _ = self.rnn(x)
        return y if y.mean() > 0 else -y  # here


class Attention(Refused):
    def forward(self, x: Any) -> Any:
        y, _ = self.rnn(x)
        return y @ y.transpose(1, 2)  # here


class AttentionPool(Refused):
    def forward(self, x: Any) -> Any:
        y, _ = self.rnn(x)
        w = torch.softmax(self.d(y), dim=1)  # here
        return (w * y).sum(1)


class NormOverTime(Refused):
    def forward(self, x: Any) -> Any:
        return F.instance_norm(self.conv(x.transpose(1, 2)))  # here


class Reflected(Refused):
    def forward(self, x: Any) -> Any:
        x = F.pad(x.transpose(1, 2), (2, 0), mode="reflect")  # here
        return self.conv(x)


class FirstRows(Refused):
    def forward(self, x: Any) -> Any:
        return self.rnn(x)[0][:, :4]


class MiddleRow(Refused):
    def forward(self, x: Any) -> Any:
        return self.d(self.rnn(x)[0][:, 4])


class OwnCell(Refused):
    def forward(self, x: Any) -> Any:
        h = x.new_zeros(x.size(0), 6)
        for t in range(x.size(1)):
            h = torch.tanh(h + self.cell.bias_ih[:6] + F.pad(x[:, t], (0, 1)))  # here
        return h


class NormedState(Refused):
    def forward(self, x: Any) -> Any:
        h = x.new_zeros(x.size(0), 6)
        for t in range(x.size(1)):
            h = torch.tanh(self.cell(x[:, t], h))  # here
        return h


class EveryOtherRow(Refused):
    def forward(self, x: Any) -> Any:
        h = x.new_zeros(x.size(0), 6)
        for t in range(0, x.size(1), 2):
            h = self.cell(x[:, t], h)  # here
        return h


class PartInPlace(Refused):
    def forward(self, x: Any) -> Any:
        y, _ = self.rnn(x)
        y[:, :, :2].mul_(2)  # here
        return y


class Chosen(Refused):
    def forward(self, x: Any) -> Any:
        return torch.where(x > 0, 1 / x, x)  # here


class Summed(Refused):
    def forward(self, x: Any) -> Any:
        return self.rnn(x)[0] * x.max().item()  # here


class MeanOfAll(Refused):
    def forward(self, x: Any) -> Any:
        return self.rnn(x - x.mean(1, keepdim=True))[0]  # here


class FixedRows(Refused):
    def forward(self, x: Any) -> Any:
        return F.layer_norm(self.rnn(x)[0].transpose(1, 2), (9,))  # here


class Scaled(Refused):
    def forward(self, x: Any) -> Any:
        y, _ = self.rnn(x)
        return F.scaled_dot_product_attention(y, y, y)  # here


class Heads(Refused):
    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, x: Any) -> Any:
        y, _ = self.rnn(x)
        return self.heads(y, y, y)[0]  # here


class Summands(Refused):
    def forward(self, x: Any) -> Any:
        y, _ = self.rnn(x)
        return torch.einsum("btc,bsc->bts", y, y)  # here


class Rounded(Refused):
    def forward(self, x: Any) -> Any:
        return self.rnn(x.long().float())[0]  # here


class Handed(Refused):
    def forward(self, x: Any) -> Any:
        _, h = self.rnn(x)
        return self.rnn(x, h)[0]  # here


class Nan(Refused):
    def forward(self, x: Any) -> Any:
        return self.rnn(torch.where(x != x, torch.zeros_like(x), x))[0]  # here


class OfConstants(Refused):
    def forward(self, x: Any) -> Any:
        return self.rnn(torch.ones(5).expand_as(x))[0] + x[..., :1]  # here


class Sine(Refused):
    def forward(self, x: Any) -> Any:
        return torch.sin(self.rnn(x)[0])  # here


class LastButOne(Refused):
    def forward(self, x: Any) -> Any:
        return self.rnn(x)[0][:, -2]  # here


REFUSED = {
    Nan: "ne of a value and itself, as to find NaN",
    OfConstants: "a recurrent layer over constants",
    Sine: r"sin is not supported; fusedcell\.torch\.accelerate\(model, example=\.\.\.\) runs",
    LastButOne: "row 35 of a sequence; supported: the last and the first",
    Dropped: r"in training mode; supported: module\.eval",
    Branch: "a branch, or a size, that depends on what the input holds",
    Attention: ATTENTION,
    AttentionPool: "softmax along time, as in " + ATTENTION,
    NormOverTime: "a norm over all rows of a sequence",
    Reflected: "reflect padding along time",
    FirstRows: "at 'slice' depends on the number of rows",
    MiddleRow: "row 4 of a sequence",
    OwnCell: "one row of a sequence beside",
    NormedState: "a cell that is not what the same cell gave",
    EveryOtherRow: "a cell that is not what the same cell gave",
    PartInPlace: "a change in place of part",
    Chosen: "a choice between values that may be infinite",
    Summed: "a max of everything",
    MeanOfAll: "the answer of a whole sequence, such as its mean",
    FixedRows: "runs at no other number of rows than the example's",
    Scaled: ATTENTION,
    Heads: ATTENTION,
    Summands: ATTENTION,
    Rounded: "which rounds",
    Handed: "an encoder as the initial state of a decoder",
}


@pytest.mark.parametrize("cls", REFUSED)
def test_what_a_model_cannot_do_is_refused_with_its_line(cls: Any, capfd: Any) -> None:
    module = seeded(cls)
    module.train(cls is Dropped)
    lines, first = inspect.getsourcelines(cls)
    with pytest.raises(fc.UnsupportedError, match=REFUSED[cls]) as caught:
        fc.Model.from_torch(module, x_of(2, 9, 5))
    for place, line in enumerate(lines):
        if line.endswith("# here\n") and cls is not FixedRows:  # whose line is the layer's that it keeps from time
            assert f"{__file__}:{first + place} in forward, {line.strip()!r}" in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_what_was_made_of_a_module_is_refused_with_a_word_about_it() -> None:
    module = nn.Sequential(nn.Linear(5, 5), nn.ReLU()).eval()
    quantised = torch.ao.quantization.quantize_dynamic(module)
    with pytest.raises(fc.UnsupportedError, match="'0' is quantised; bring the module that it was made of"):
        fc.Model.from_torch(quantised, x_of(2, 9, 5))
    with pytest.raises(fc.UnsupportedError, match=r"an ExportedProgram, .* bring the module that it was made of"):
        fc.Model.from_torch(torch.export.export(module, (x_of(2, 9, 5),)), x_of(2, 9, 5))


def test_tokens_beside_each_other_are_refused_with_the_inputs_axes() -> None:
    module = seeded(
        lambda: module_of(lambda s, x: s.rnn(s.emb(x).flatten(2))[0], emb=nn.Embedding(9, 4), rnn=lstm(8, 3))
    )
    with pytest.raises(fc.UnsupportedError, match=r"of axes \(batch, time, 2\); supported: tokens without an axis"):
        fc.Model.from_torch(module, torch.ones(2, 9, 2, dtype=torch.int64))


class Turned(nn.Module):  # type: ignore[name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.rnn = lstm(5, 6)

    def forward(self, x: Any) -> Any:
        y = self.rnn(x)[0]
        z = y.flip(1)  # here
        return y, z


class Together(Turned):
    def forward(self, x: Any) -> Any:
        return self.rnn(x)[0].flatten(0, 1)  # here


@pytest.mark.parametrize(("cls", "message"), [(Turned, "that runs backwards"), (Together, "in which some are merged")])
def test_an_answer_that_a_model_cannot_give_is_refused_with_the_line_that_makes_it(cls: Any, message: str) -> None:
    lines, first = inspect.getsourcelines(cls)
    (place,) = [first + place for place, line in enumerate(lines) if line.endswith("# here\n")]
    with pytest.raises(fc.UnsupportedError, match=rf"{__file__}:{place} in forward, .*{message}"):
        fc.Model.from_torch(cls(), x_of(2, 9, 5))


@pytest.mark.parametrize(
    ("forward", "what"),
    [
        (lambda s, x: torch.where(s.rnn(x)[0] > 0)[0], "this form of the operation, without 'self', is not supported"),
        (lambda s, x: torch.ones(1, 3, 6) @ s.rnn(x)[0].mT, "a product of 3 axes of weights with 3 axes"),
        (lambda s, x: torch.tensor_split(s.rnn(x)[0], torch.tensor([1, 3]), -1)[0], "tensor_split by a tensor"),
        (lambda s, x: F.cosine_similarity(s.rnn(x)[0], x[..., :1], -1), "cosine_similarity of"),
        (lambda s, x: s.rnn(x)[0].norm(p=3, dim=-1), "a norm of order 3"),
        (lambda s, x: torch.roll(s.rnn(x)[0], 1, 1), "roll along time; supported: along features"),
        (lambda s, x: torch.logsumexp(s.rnn(x)[0], 1), "logsumexp over rows or sequences"),
    ],
)
def test_forms_of_operations_that_are_not_followed_are_refused_and_no_fault(forward: Any, what: str) -> None:
    with pytest.raises(fc.UnsupportedError, match=what):
        fc.Model.from_torch(module_of(forward, rnn=lstm(5, 6)).eval(), x_of(2, 9, 5))


def test_a_fault_of_our_own_is_a_refusal_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(interpreter: Any, a: Any, place: str) -> Any:
        return interpreter.nothing

    monkeypatch.setitem(OPERATIONS, "neg", broken)
    with pytest.raises(
        fc.UnsupportedError, match=r"following aten\.neg.* a fault of fusedcell, AttributeError: .*report"
    ):
        fc.Model.from_torch(module_of(lambda self, x: -x), x_of(2, 9, 5))


def test_what_a_node_says_of_weights_is_no_fault() -> None:
    layer = nn.Linear(5, 6)
    with torch.no_grad():
        layer.weight[0, 0] = float("nan")
    with pytest.raises(fc.UnsupportedError, match="weight: expected finite values, got 1 NaN of 30") as caught:
        fc.Model.from_torch(layer, x_of(2, 9, 5))
    assert "fault" not in str(caught.value)


def test_lengths_as_an_answer_are_refused_as_such() -> None:
    def forward(self: Any, x: Any, lengths: Any) -> Any:
        p = rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return rnn.pad_packed_sequence(self.rnn(p)[0], batch_first=True)

    module = seeded(lambda: module_of(forward, rnn=lstm(5, 6))).eval()
    with pytest.raises(fc.UnsupportedError, match="answer 1, from 0 on, is a constant"):
        fc.Model.from_torch(module, (x_of(3, 9, 5), torch.tensor([3, 9, 7])))


@pytest.mark.parametrize(
    ("answers", "what"),
    [
        (lambda s, x: (s.rnn(x)[0], s.k), r"answer 1, from 0 on, is a constant of shape \(6,\), which is not computed"),
        (lambda s, x: {"y": s.rnn(x)[0], "rate": 16000}, "answer 1, from 0 on, is 16000, which is not computed"),
        (lambda s, x: {"name": "gru", "y": s.rnn(x)[0]}, "answer 0, from 0 on, is 'gru', which is not computed"),
        (lambda s, x: None, "it answers with nothing"),
    ],
)
def test_an_answer_that_is_not_computed_of_the_input_is_refused_by_its_place(answers: Any, what: str) -> None:
    with pytest.raises(fc.UnsupportedError, match=what):
        fc.Model.from_torch(module_of(answers, rnn=lstm(5, 6), k=nn.Parameter(torch.ones(6))).eval(), x_of(2, 9, 5))


def test_batch_norm_in_training_is_refused() -> None:
    with pytest.raises(fc.UnsupportedError, match=r"the batch's own mean; supported: module\.eval"):
        fc.Model.from_torch(nn.BatchNorm1d(5), x_of(2, 5, 9))


class Swapped(Refused):
    def forward(self, x: Any, states: Any) -> Any:
        y, (h, c) = self.lstm(x, states)
        return y, (c, h)


class Kept(Refused):
    def forward(self, x: Any, states: Any) -> Any:
        return self.lstm(x, states)[0]


class Changed(Refused):
    def forward(self, x: Any, states: Any) -> Any:
        y, (h, c) = self.lstm(x, states)
        return y, (0.5 * h, c)


class Other(Refused):
    def forward(self, x: Any, states: Any) -> Any:
        y, _ = self.lstm(x, states)
        return y, states


@pytest.mark.parametrize("cls", [Swapped, Kept, Changed, Other])
def test_a_state_that_is_not_the_layers_is_refused(cls: Any) -> None:
    states = (torch.zeros(1, 2, 6), torch.zeros(1, 2, 6))
    with pytest.raises(fc.UnsupportedError, match="given back"):
        fc.Model.from_torch(seeded(cls).eval(), (x_of(2, 9, 5), states))


def padded_mean(s: Any, x: Any, lengths: Any) -> Any:
    p = rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return rnn.pad_packed_sequence(s.rnn(p)[0], batch_first=True)[0].mean(1)


def padded_last(s: Any, x: Any, lengths: Any) -> Any:
    p = rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return rnn.pad_packed_sequence(s.rnn(p)[0], batch_first=True)[0][:, -1]


@pytest.mark.parametrize("forward", [padded_mean, padded_last])
def test_what_lengths_make_otherwise_than_a_model_is_refused(forward: Any) -> None:
    module = seeded(lambda: module_of(forward, rnn=lstm(5, 6))).eval()
    with pytest.raises(fc.UnsupportedError, match="mask what is past a sequence's length"):
        fc.Model.from_torch(module, (x_of(3, 9, 5), torch.tensor([3, 9, 7])))


def test_a_model_that_does_not_answer_as_the_module_is_refused() -> None:
    class Odd(nn.Module):  # type: ignore[name-defined]
        def forward(self, x: Any) -> Any:
            return x * (2 if max(x.shape) > 20 else 3)

    with pytest.raises(fc.UnsupportedError, match="is not the module's"):
        fc.Model.from_torch(Odd(), x_of(2, 8, 3))


def refused(forward: Any, x: Any, text: str, **parts: Any) -> None:
    with pytest.raises(fc.UnsupportedError, match=text):
        fc.Model.from_torch(seeded(lambda: module_of(forward, **parts)).eval(), x)


def test_what_modules_do_beyond_some_length_is_refused() -> None:
    parts = {"g": nn.GRU(5, 6, batch_first=True)}
    x = x_of(2, 20, 5)
    refused(lambda self, x: self.g(x[:, :500])[0], x, "is not the module's", **parts)
    refused(lambda self, x: self.g(x[:, -200:])[0], x, "a slice along time from -200", **parts)
    refused(lambda self, x: self.g(x[:, -200:] if x.size(1) > 200 else x)[0], x, "is not the module's", **parts)


def test_rows_that_a_stride_would_leave_out_anyhow_may_be_left_out_before() -> None:
    def forward(self: Any, x: Any) -> Any:
        x = x[:, : x.size(1) // 2 * 2].transpose(1, 2)
        return self.g(self.d(F.relu(self.c(x))).transpose(1, 2))[0]

    parts = {"c": nn.Conv1d(5, 6, 2, 2), "d": nn.Conv1d(6, 6, 2, 2), "g": nn.GRU(6, 6, batch_first=True)}
    module = seeded(lambda: module_of(forward, **parts)).eval()
    model = fc.Model.from_torch(module, x_of(2, 22, 5))
    for steps in range(4, 25):
        with torch.no_grad():
            np.testing.assert_allclose(model(x := x_of(2, steps, 5)), module(x), rtol=0, atol=1e-5)


def test_shapes_that_depend_on_there_being_one_sequence_or_row_are_refused() -> None:
    refused(
        lambda self, x: self.o(self.g(x)[0]).squeeze(),
        x_of(2, 20, 5),
        r"of shape \(1, 23\), and not \(23,\), as by squeeze\(\) without a dimension",
        g=nn.GRU(5, 6, batch_first=True),
        o=nn.Linear(6, 1),
    )


def test_a_state_that_two_layers_begin_with_is_refused() -> None:
    def forward(self: Any, x: Any, h: Any) -> Any:
        x, _ = self.a(x, h)
        return self.b(x, h)

    parts = {"a": nn.GRU(6, 6, batch_first=True), "b": nn.GRU(6, 6, batch_first=True)}
    refused(forward, (x_of(2, 9, 6), torch.zeros(1, 2, 6)), "the state '.*' as the beginning of two layers", **parts)


def test_numbers_among_the_arguments_are_no_inputs() -> None:
    parts = {"g": nn.GRU(5, 6, batch_first=True)}
    model = fc.Model.from_torch(module_of(lambda self, x, k: self.g(x)[0] * 2.0, **parts).eval(), (x_of(2, 9, 5), 3))
    assert len(model.inputs) == 1


def test_all_layers_final_states_are_an_answer() -> None:
    module = seeded(lambda: module_of(lambda self, x: self.g(x)[1], g=nn.GRU(5, 6, 2, batch_first=True))).eval()
    x = x_of(2, 9, 5)
    with torch.no_grad():
        np.testing.assert_allclose(fc.Model.from_torch(module, x)(x), module(x), rtol=0, atol=1e-5)


def test_a_copied_state_is_the_state() -> None:
    def forward(self: Any, x: Any, h: Any) -> Any:
        h = self.cell(x, h)
        return self.o(h), h.detach().clone().to(x.dtype)

    module = seeded(lambda: module_of(forward, cell=nn.GRUCell(5, 6), o=nn.Linear(6, 2))).eval()
    model = fc.Model.from_torch(module, (x_of(1, 5), torch.zeros(1, 6)))
    assert len(model.inputs) == 1


def test_the_module_is_as_it_was() -> None:
    module = nn.Sequential(nn.Conv1d(5, 4, 3), nn.BatchNorm1d(4))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(fc.UnsupportedError, match="the batch's own mean"):
        fc.Model.from_torch(module.train(), x_of(2, 5, 9))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
