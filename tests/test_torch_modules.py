"""from_torch: PyTorch's recurrent modules come in with the same outputs, or are refused by name."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fusedcell as fc
from drawn import note_difference
from torch_models import (
    CELLS,
    LAYERS,
    NO_ONEDNN,
    assert_close,
    assert_same_bits,
    every_class,
    flat,
    ft,
    make,
    nn,
    states,
    torch,
)

prune: Any = pytest.importorskip("torch.nn.utils.prune")


def assert_both_close(module: Any, layer: Any, x: Any, state: Any) -> None:
    ours, theirs = run_both(module, layer, x, state)
    note_difference([np.asarray(part) for part in flat(ours)], [part.numpy() for part in flat(theirs)])
    assert_close(ours, theirs)


def run_both(module: Any, layer: Any, x: Any, state: Any) -> tuple[Any, Any]:
    with torch.inference_mode():
        return layer(x.numpy(), state), module(x, state)


@given(
    name=st.sampled_from(LAYERS),
    input_size=st.integers(1, 20),
    hidden_size=st.integers(2, 40),
    num_layers=st.integers(1, 3),
    bias=st.booleans(),
    batch_first=st.booleans(),
    bidirectional=st.booleans(),
    projected=st.booleans(),
    nonlinearity=st.sampled_from(["tanh", "relu"]),
    dropout=st.sampled_from([0.0, 0.4]),
    shape=st.sampled_from([(1, 1), (7, 3), (2, 5), (4,)]),
    with_state=st.booleans(),
    seed=st.integers(0, 1000),
)
@pytest.mark.filterwarnings(NO_ONEDNN)
def test_layers_of_any_options_compute_what_pytorch_does(
    name: str,
    input_size: int,
    hidden_size: int,
    num_layers: int,
    projected: bool,
    nonlinearity: str,
    dropout: float,
    shape: tuple[int, ...],
    with_state: bool,
    seed: int,
    **options: bool,
) -> None:
    more: dict[str, Any] = {"dropout": dropout} if num_layers > 1 else {}
    if name == "LSTM" and projected:
        more["proj_size"] = hidden_size // 2
    if name == "RNN":
        more["nonlinearity"] = nonlinearity
    module = make(name, input_size, hidden_size, num_layers, seed=seed, **options, **more)
    layer = fc.from_torch(module)
    assert (layer.num_layers, layer.bidirectional, layer.batch_first) == (
        num_layers,
        options["bidirectional"],
        options["batch_first"],
    )
    x = torch.randn(*shape, input_size)
    batch = shape[:0] if len(shape) == 1 else shape[:1] if options["batch_first"] else shape[1:]
    assert_both_close(module, layer, x, states(module, *batch) if with_state else None)


@given(
    name=st.sampled_from(CELLS),
    input_size=st.integers(1, 20),
    hidden_size=st.integers(1, 40),
    bias=st.booleans(),
    nonlinearity=st.sampled_from(["tanh", "relu"]),
    batch=st.sampled_from([(), (1,), (5,)]),
    with_state=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_cells_of_any_options_compute_what_pytorch_does(
    name: str,
    input_size: int,
    hidden_size: int,
    bias: bool,
    nonlinearity: str,
    batch: tuple[int, ...],
    with_state: bool,
    seed: int,
) -> None:
    more = {"nonlinearity": nonlinearity} if name == "RNNCell" else {}
    module = make(name, input_size, hidden_size, bias, seed=seed, **more)
    x = torch.randn(*batch, input_size)
    assert_both_close(module, fc.from_torch(module), x, states(module, *batch) if with_state else None)


@every_class
@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_weights_of_every_float_type_keep_their_values(name: str, dtype: str) -> None:
    module = make(name, 5, 6).to(getattr(torch, dtype))
    x = torch.randn(3, 5)
    with torch.inference_mode():
        expected = module.double()(x.double())
    actual = fc.from_torch(make(name, 5, 6).to(getattr(torch, dtype)))(x.numpy())
    assert_close(actual, _to_float(expected))


def _to_float(result: Any) -> Any:
    return tuple(map(_to_float, result)) if isinstance(result, tuple) else result.float()


def test_dtype_and_isa_are_those_asked_for() -> None:
    layer = fc.from_torch(make("GRU", 5, 6), dtype="int8", isa="scalar")
    assert (layer.dtype, layer.isa) == ("int8", "scalar")
    with pytest.raises(fc.UnsupportedError, match="dtype='int4' is not supported"):
        fc.from_torch(make("GRU", 5, 6), dtype="int4")


@every_class
def test_the_module_is_left_alone(name: str) -> None:
    module = make(name, 5, 6).train()
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    layer = fc.from_torch(module)
    assert module.training
    first = layer(np.ones((2, 5), np.float32))
    with torch.no_grad():
        for key, tensor in module.state_dict().items():
            assert torch.equal(tensor, before[key])
            tensor.zero_()
    assert_same_bits(layer(np.ones((2, 5), np.float32)), first)


def apply_old_weight_norm(module: Any) -> None:
    with pytest.warns(FutureWarning):
        nn.utils.weight_norm(module, "weight_hh_l0")


@pytest.mark.parametrize(
    "change",
    [
        lambda module: nn.utils.parametrizations.weight_norm(module, "weight_hh_l0"),
        lambda module: nn.utils.parametrizations.spectral_norm(module, "weight_ih_l0"),
        lambda module: nn.utils.parametrizations.orthogonal(module, "weight_ih_l0"),
        apply_old_weight_norm,
        lambda module: nn.utils.spectral_norm(module, "weight_hh_l0"),
        lambda module: prune.l1_unstructured(module, "weight_hh_l0", 40),
        lambda module: [prune.random_unstructured(module, "weight_hh_l0", 20) for _ in range(2)],
    ],
    ids=[
        "weight_norm",
        "spectral_norm",
        "orthogonal",
        "old weight_norm",
        "old spectral_norm",
        "pruned",
        "pruned twice",
    ],
)
@pytest.mark.parametrize("training", [False, True])
def test_computed_weights_are_taken_as_they_are_computed(change: Any, training: bool) -> None:
    module = make("LSTM", 5, 6)
    change(module)
    with torch.no_grad():
        for parameter in module.parameters():  # so that weights set before are not those computed from now on
            parameter.mul_(1.25)
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    layer = fc.from_torch(module.train(training))
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in module.named_buffers())
    x = torch.randn(4, 2, 5)
    with torch.no_grad():
        assert_close(layer(x.numpy()), module.eval()(x))


def test_a_class_that_only_sets_its_sizes_is_what_it_derives_from() -> None:
    class Encoder(nn.GRU):
        def __init__(self) -> None:
            super().__init__(5, 6, batch_first=True)

    module = Encoder().eval()
    x = torch.randn(3, 4, 5)
    assert_close(*run_both(module, fc.from_torch(module), x, None))


class OwnForward(nn.LSTM):
    def forward(self, *args: Any) -> Any:
        y, state = super().forward(*args)
        return 2 * y, state


class OwnFlatWeights(nn.GRU):
    def _init_flat_weights(self) -> None:
        super()._init_flat_weights()
        self._flat_weights = [2 * weight for weight in self._flat_weights]  # type: ignore[has-type] # PyTorch does not declare it


class OwnLSTM(nn.Module):
    def forward(self, x: Any) -> Any:
        return x


OwnLSTM.__name__ = "LSTM"


def with_own_forward_on_the_instance() -> Any:
    module = make("LSTM", 3, 4)
    module.forward = lambda x: x
    return module


def with_hook() -> Any:
    module = make("GRU", 3, 4)
    module.register_forward_hook(lambda *args: None)
    return module


def accelerated_with_own_forward() -> Any:
    module = make("GRU", 3, 4)
    ft.accelerate(module)
    module.forward = lambda x: x
    return module


def with_hook_on_a_part_of_a_weight() -> Any:
    module = make("GRU", 3, 4)
    apply_old_weight_norm(module)
    return prune.random_unstructured(module, "weight_hh_l0_g", 3)


def with_own_flat_weights() -> Any:
    module = make("GRU", 3, 4)
    module._flat_weights[0] = torch.zeros(12, 3)
    return module


def with_pre_hook() -> Any:
    module = make("GRU", 3, 4)
    module.register_forward_pre_hook(lambda *args: None)
    return module


@pytest.mark.parametrize(
    ("make_module", "message"),
    [
        (
            lambda: nn.Linear(2, 3),
            r"torch\.nn\.modules\.linear\.Linear is not supported; supported: torch\.nn\.RNN, LSTM",
        ),
        (
            lambda: nn.Sequential(nn.LSTM(2, 3), nn.ModuleDict({"enc": nn.GRUCell(2, 3)})),
            r"Sequential is not supported; it contains model\[0\], model\[1\]\.enc: pass one .*accelerate\(model\)",
        ),
        (lambda: nn.DataParallel(nn.LSTM(2, 3)), r"it contains model\.module: pass one of them"),
        (
            lambda: torch.jit.script(nn.Sequential(nn.LSTM(2, 3))),
            r"of Sequential is not supported; it contains model\[0\]",
        ),
        (
            lambda: nn.LSTM(2, 3).state_dict(),
            r"OrderedDict is not a module .* fusedcell.LSTM.from_state_dict\(path, 'lstm.",
        ),
        (lambda: OwnForward(3, 4).eval(), r"OwnForward replaces torch\.nn\.LSTM\.forward"),
        (with_own_forward_on_the_instance, r"LSTM replaces torch\.nn\.LSTM\.forward"),
        (accelerated_with_own_forward, r"FusedGRU replaces torch\.nn\.GRU\.forward"),
        (lambda: OwnFlatWeights(3, 4).eval(), r"OwnFlatWeights replaces torch\.nn\.GRU\._init_flat_weights"),
        (with_own_flat_weights, r"_flat_weights: weight_ih_l0 in it is not the module's"),
        (OwnLSTM, r"OwnLSTM is not supported"),
        (lambda: np.zeros(3), r"module: ndarray is not a module of PyTorch; supported: torch\.nn\.RNN, LSTM"),
        (
            lambda: nn.LSTM(3, 4, 2, dropout=0.25),
            r"dropout=0.25 in training mode is not supported; call module.eval\(\)",
        ),
        (with_hook, "a forward hook, .* can change what it computes"),
        (with_pre_hook, "a forward hook, .* can change what it computes"),
        (with_hook_on_a_part_of_a_weight, "a forward hook, .*RandomUnstructured.* can change what it computes"),
        (lambda: torch.jit.script(OwnLSTM()), "TorchScript of LSTM is not supported"),
        (lambda: torch.jit.script(nn.Linear(2, 3)), "TorchScript of Linear is not supported"),
    ],
)
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated", "ignore::DeprecationWarning")
def test_anything_else_is_refused_by_name(make_module: Any, message: str) -> None:
    with pytest.raises(fc.UnsupportedError, match=message):
        fc.from_torch(make_module())


def test_weights_without_values_and_of_other_types_are_refused_by_name() -> None:
    with pytest.raises(TypeError, match="weight_ih_l0: expected a tensor with values, got one on the device meta"):
        fc.from_torch(nn.LSTM(3, 4, device="meta"))
    module = make("GRUCell", 3, 4)
    module.bias_hh.data = module.bias_hh.data.to(torch.float8_e5m2)
    with pytest.raises(TypeError, match=r"bias_hh: expected a tensor of float32, .*, got float8_e5m2"):
        fc.from_torch(module)


def test_a_module_whose_sizes_are_not_its_weights_is_refused() -> None:
    module = make("LSTM", 3, 4)
    module.hidden_size = 5
    with pytest.raises(ValueError, match="hidden_size=5 does not fit its weights, which have 4"):
        fc.from_torch(module)


def saved_and_loaded(scripted: Any) -> Any:
    file = io.BytesIO()
    torch.jit.save(scripted, file)
    file.seek(0)
    return torch.jit.load(file)


class Scripted(nn.Module):
    def __init__(self, module: Any) -> None:
        super().__init__()
        self.inner = module

    # TorchScript reads the result's type, which is one tensor or more, from the body. A comment on the def line that
    # starts with "type:" would be a signature to it, so mypy's word stands on a line of its own.
    def forward(  # type: ignore[no-untyped-def]
        self, x: torch.Tensor
    ):
        return self.inner(x)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("LSTM", {"num_layers": 2, "batch_first": True, "bidirectional": True, "dropout": 0.5}),
        ("LSTM", {"bias": False}),
        ("GRU", {"num_layers": 2}),
        ("RNN", {"nonlinearity": "relu"}),
        ("RNNCell", {"nonlinearity": "relu"}),
        ("GRUCell", {"bias": False}),
        ("LSTMCell", {}),
    ],
)
def test_torchscript_of_them_comes_in_too(name: str, options: dict[str, Any], saved: bool) -> None:
    module = make(name, 5, 6, **options)
    scripted = torch.jit.script(Scripted(module).eval())
    if saved:
        scripted = saved_and_loaded(scripted)
    x = torch.randn(4, 5) if name in CELLS else torch.randn(3, 4, 5)
    assert_close(*run_both(module, fc.from_torch(scripted.inner), x, None))


def double_output(self: Any, input: tuple[torch.Tensor, torch.Tensor | None], output: torch.Tensor) -> torch.Tensor:
    return 2 * output


def double_input(
    self: Any, input: tuple[torch.Tensor, torch.Tensor | None]
) -> tuple[torch.Tensor, torch.Tensor | None]:
    return 2 * input[0], input[1]


class ScriptedCell(Scripted):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x, None)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize("hook", [double_output, double_input])
def test_torchscript_with_hooks_is_refused(hook: Any, saved: bool) -> None:
    cell = make("GRUCell", 5, 6)
    register = cell.register_forward_hook if hook is double_output else cell.register_forward_pre_hook
    register(hook)
    scripted = torch.jit.script(ScriptedCell(cell).eval())
    if saved:
        scripted = saved_and_loaded(scripted)
    with pytest.raises(fc.UnsupportedError, match=r"a forward hook, .* can change what it computes"):
        fc.from_torch(scripted.inner)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_a_traced_module_has_lost_its_options_and_is_refused() -> None:
    traced = torch.jit.trace(Scripted(make("LSTM", 5, 6)).eval(), torch.randn(3, 4, 5))
    with pytest.raises(fc.UnsupportedError, match=r"came through torch.jit.trace, which drops num_layers"):
        fc.from_torch(traced.inner)
