"""What accelerate does not swap is left alone and said; what a swapped module cannot do is refused at the call."""

from __future__ import annotations

from typing import Any

import pytest

import fusedcell as fc
from torch_models import (
    CELLS,
    assert_close,
    every_class,
    ft,
    make,
    module_of,
    modules,
    nn,
    pack_sequence,
    states,
    torch,
)

pytestmark = pytest.mark.usefixtures("inference_mode")


@every_class
def test_training_and_gradients_are_refused(name: str) -> None:
    module = module_of(name, 5, 6)
    ft.accelerate(module)
    x = torch.randn(3, 5)
    with pytest.raises(RuntimeError, match=r"runs inference only, and is in training mode: call model.eval\(\)"):
        module.train()(x)
    module.eval()
    with torch.inference_mode(False):
        x = torch.randn(3, 5)
        with pytest.raises(
            RuntimeError, match=r"computes no gradients, .* torch.inference_mode\(\) or torch.no_grad\(\)"
        ):
            module(x)
        with torch.no_grad():
            assert_close(module(x.requires_grad_()), module(x.detach()))
        module.requires_grad_(False)
        module(x.detach())
        with pytest.raises(RuntimeError, match="computes no gradients"):
            module(x)
        state = states(module, 3) if name in CELLS else states(module)
        requires_grad = (state[0].requires_grad_(), state[1]) if "LSTM" in name else state.requires_grad_()
        with pytest.raises(RuntimeError, match="computes no gradients"):
            module(x.detach(), requires_grad)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_forward_gradients_are_not_dropped_in_silence() -> None:
    with torch.inference_mode(False), torch.no_grad(), torch.autograd.forward_ad.dual_level():
        module = make("LSTM", 5, 6)
        ft.accelerate(module)
        x = torch.autograd.forward_ad.make_dual(torch.randn(3, 5), torch.randn(3, 5))
        with pytest.raises(RuntimeError, match="computes no gradients"):
            module(x)
        module(torch.randn(3, 5))


@every_class
def test_other_dtypes_and_devices_are_refused_at_the_call(name: str) -> None:
    module = module_of(name, 5, 6)
    ft.accelerate(module)
    x = torch.randn(3, 5)
    for other in (x.half(), x.bfloat16(), x.double(), x.to("meta"), x.long()):
        with pytest.raises(TypeError, match=r"input: expected a float32 tensor on the CPU, got \w+ on \w+"):
            module(other)
    with pytest.raises(TypeError, match="input: expected a tensor, got ndarray"):
        module(x.numpy())
    state = states(module, 3) if name in CELLS else states(module)
    half = tuple(part.half() for part in state) if isinstance(state, tuple) else state.half()
    with pytest.raises(TypeError, match=r"hx.*: expected a float32 tensor on the CPU, got float16 on cpu"):
        module(x, half)
    with (
        torch.autocast("cpu", torch.bfloat16),
        pytest.raises(TypeError, match=r"input: expected .*, got bfloat16 on cpu"),
    ):
        module(torch.nn.functional.linear(x, torch.eye(5)))
    with (
        torch.autocast("cpu", torch.bfloat16),
        pytest.raises(RuntimeError, match=r"computes in float32, and torch\.autocast asks for less"),
    ):
        module(x)
    module.half()
    with pytest.raises(TypeError, match=r"weight_ih\w*: expected a float32 tensor on the CPU, got float16 on cpu"):
        module(x)
    module.float()
    module(x)


@pytest.mark.parametrize(
    ("name", "input_shape", "hx", "error", "message"),
    [
        ("LSTM", (3, 4), None, ValueError, r"input: expected 2 or 3 dimensions, the last 5, got shape \(3, 4\)"),
        ("LSTM", (5,), None, ValueError, r"input: expected 2 or 3 dimensions, the last 5, got shape \(5,\)"),
        ("LSTM", (3, 2, 5), "one", TypeError, r"hx: expected a pair of tensors, \(h, c\), got Tensor"),
        ("LSTM", (3, 2, 5), [(1, 2, 6), (1, 2, 7)], ValueError, r"hx\[1\]: expected 3 dimensions, the last 6"),
        ("LSTM", (3, 2, 5), [(1, 2, 6), (1, 3, 6)], ValueError, r"c_0: expected shape \(1, 2, 6\), got \(1, 3, 6\)"),
        ("GRU", (3, 5), [(1, 1, 6)], ValueError, r"hx: expected 2 dimensions, the last 6, got shape \(1, 1, 6\)"),
        ("GRU", (3, 2, 5), [(2, 2, 6)], ValueError, r"h_0: expected shape \(1, 2, 6\), got \(2, 2, 6\)"),
        ("GRUCell", (3, 2, 5), None, ValueError, r"input: expected 1 or 2 dimensions, the last 5"),
        ("GRUCell", (2, 5), [(3, 6)], ValueError, r"h: expected shape \(2, 6\), got \(3, 6\)"),
        (
            "LSTMCell",
            (5,),
            [(6,), (1, 6)],
            ValueError,
            r"hx\[1\]: expected 1 dimensions, the last 6, got shape \(1, 6\)",
        ),
    ],
)
def test_shapes_that_do_not_fit_are_refused_by_name(
    name: str, input_shape: tuple[int, ...], hx: Any, error: type[Exception], message: str
) -> None:
    module = module_of(name, 5, 6)
    ft.accelerate(module)
    if isinstance(hx, list):
        hx = tuple(torch.zeros(shape) for shape in hx)
    state = torch.zeros(1, 2, 6) if hx == "one" else hx[0] if isinstance(hx, tuple) and len(hx) == 1 else hx
    with pytest.raises(error, match=message):
        module(torch.zeros(input_shape), state)


def test_a_packed_sequence_that_does_not_fit_is_refused_by_name() -> None:
    module = module_of("LSTM", 5, 6)
    ft.accelerate(module)
    with pytest.raises(ValueError, match=r"input.data: expected 2 dimensions, the last 5, got shape \(3, 4\)"):
        module(pack_sequence([torch.zeros(3, 4)]))
    with pytest.raises(TypeError, match=r"input.data: expected a float32 tensor on the CPU, got float16 on cpu"):
        module(pack_sequence([torch.zeros(3, 5)]).to(torch.float16))
    with pytest.raises(ValueError, match=r"h_0: expected shape \(1, 1, 6\), got \(1, 2, 6\)"):
        module(pack_sequence([torch.zeros(3, 5)]), (torch.zeros(1, 2, 6), torch.zeros(1, 1, 6)))


class OwnForward(nn.LSTM):
    def forward(self, *args: Any) -> Any:
        return super().forward(*args)


class WithHelper(nn.GRU):
    def helper(self) -> int:
        return 3


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_cannot_be_swapped_is_left_alone_and_said() -> None:
    with torch.inference_mode(False):
        model = nn.ModuleDict(
            {
                "own": OwnForward(3, 4),
                "helper": WithHelper(3, 4),
                "wide": nn.LSTM(3, 4).double(),
                "narrow": nn.GRUCell(3, 4).half(),
                "meta": nn.GRU(3, 4, device="meta"),
                "script": torch.jit.script(nn.GRU(3, 4)),
                "good": nn.GRU(3, 4),
            }
        ).eval()
    classes = {name: type(module) for name, module in model.items()}
    report = ft.accelerate(model)
    reasons = {entry.name: entry.reason for entry in report if not entry.swapped}
    assert "OwnForward replaces torch.nn.LSTM.forward" in reasons["own"]
    assert reasons["helper"] == "its class WithHelper adds 'helper' to torch.nn.GRU"
    assert reasons["wide"] == "weight_ih_l0: expected a float32 tensor on the CPU, got float64 on cpu"
    assert reasons["narrow"] == "weight_ih: expected a float32 tensor on the CPU, got float16 on cpu"
    assert reasons["meta"] == "weight_ih_l0: expected a float32 tensor on the CPU, got float32 on meta"
    assert reasons["script"].startswith("is TorchScript")
    assert set(reasons) == set(classes) - {"good"}
    assert {name: type(model[name]) for name in reasons} == {name: classes[name] for name in reasons}
    assert len(str(report).splitlines()) == 8
    assert repr(report) == "<Report: 1 of 7 recurrent modules swapped>"
    again = ft.accelerate(model)
    assert {entry.name: entry.reason for entry in again}["good"] == "is accelerated already"
    again.undo()
    assert isinstance(model["good"], modules.FusedGRU)


def test_tensors_without_memory_of_their_own_are_a_reason() -> None:
    with torch.inference_mode(False), torch._subclasses.fake_tensor.FakeTensorMode():
        module = nn.LSTM(3, 4).eval()
    (entry,) = ft.accelerate(module)
    assert "is not supported for tensor subclasses" in entry.reason
    with pytest.raises(TypeError, match="weight_ih_l0: expected a tensor with values, got FakeTensor"):
        fc.from_torch(module)


def test_weights_that_a_type_cannot_hold_are_a_reason() -> None:
    module = module_of("GRU", 3, 4)
    module.weight_ih_l0[0, 0] = 1e6
    (entry,) = ft.accelerate(module, "float16")
    assert "weight_ih_l0: expected weights that float16 can hold" in entry.reason


def test_wrong_arguments_swap_nothing(tagger: Any) -> None:
    for arguments, error, message in (
        (("int4",), fc.UnsupportedError, "dtype='int4' is not supported"),
        (("float32", "sse9"), ValueError, "sse9"),
    ):
        with pytest.raises(error, match=message):
            ft.accelerate(tagger, arguments[0], isa=arguments[1] if len(arguments) > 1 else None)
    with pytest.raises(ValueError, match="num_threads: expected at least 1, got 0"):
        ft.accelerate(tagger, num_threads=0)
    with pytest.raises(TypeError, match=r"model: expected a torch.nn.Module, got dict"):
        ft.accelerate({})
    assert type(tagger.layers[0]) is nn.LSTM
