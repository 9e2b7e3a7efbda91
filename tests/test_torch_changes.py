"""What changes while a module is accelerated: attributes that PyTorch reads at each call, and the swap itself."""

from __future__ import annotations

import subprocess
import sys
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest

import fusedcell as fc
from torch_models import (
    CELLS,
    LAYERS,
    assert_close,
    assert_same_bits,
    every_class,
    ft,
    module_of,
    nn,
    pack_sequence,
    states,
    torch,
)

pytestmark = pytest.mark.usefixtures("inference_mode")
# What PyTorch's forward reads, with another value for each; `batch_first` aside.
READ = {
    "input_size": 4,
    "hidden_size": 7,
    "num_layers": 1,
    "bias": False,
    "bidirectional": False,
    "proj_size": 3,
}
IGNORED = {"dropout": 0.5, "mode": "GRU", "nonlinearity": "relu", "unknown": 3}


def accelerated_pair(name: str, *sizes: int, **options: Any) -> tuple[Any, Any, Any]:
    """Two equal modules, the second one accelerated, and its report."""
    plain, module = module_of(name, *sizes, **options), module_of(name, *sizes, **options)
    return plain, module, ft.accelerate(module)


@pytest.mark.parametrize("name", ["RNN", "RNNCell"])
@pytest.mark.parametrize("parametrised", [False, True])
def test_the_nonlinearity_is_the_one_that_is_set_now(name: str, parametrised: bool) -> None:
    attribute = "mode" if name == "RNN" else "nonlinearity"
    plain, module, report = accelerated_pair(name, 5, 6)
    if parametrised:
        for each in (plain, module):
            nn.utils.parametrize.register_parametrization(
                each, next(iter(dict(each.named_parameters()))), nn.Identity()
            )
    x = 3 * torch.randn(4, 5)
    for nonlinearity in ("relu", "tanh", "relu"):
        for each in (plain, module):
            setattr(each, attribute, f"RNN_{nonlinearity.upper()}" if name == "RNN" else nonlinearity)
        assert_close(module(x), plain(x))
    setattr(module, attribute, "sigmoid")
    known = "'RNN_TANH' or 'RNN_RELU'" if name == "RNN" else "'tanh' or 'relu'"
    with pytest.raises(ValueError, match=f"^{attribute}: expected {known}, got 'sigmoid'"):
        module(x)
    report.undo()
    assert getattr(module, attribute) == "sigmoid"


@pytest.mark.parametrize("name", LAYERS)
def test_batch_first_is_what_is_set_now(name: str) -> None:
    plain, module, _ = accelerated_pair(name, 5, 6)
    x = torch.randn(4, 3, 5)
    for batch_first in (True, False):
        plain.batch_first = module.batch_first = batch_first
        assert_close(module(x), plain(x))


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("attribute", READ)
def test_a_layer_of_other_sizes_than_its_weights_is_refused_by_name(name: str, attribute: str) -> None:
    module = module_of(name, 5, 6, 2, bidirectional=True)
    ft.accelerate(module)
    x = torch.randn(4, 3, 5)
    expected = module(x)
    before = getattr(module, attribute)
    setattr(module, attribute, READ[attribute])
    with pytest.raises(
        ValueError,
        match=rf"^{attribute}: expected {before}, as it was when .* got {READ[attribute]}; call report.undo\(\)",
    ):
        module(x)
    setattr(module, attribute, before)
    assert_same_bits(module(x), expected)


@every_class
def test_what_pytorch_does_not_read_in_evaluation_changes_nothing(name: str) -> None:
    plain, module, _ = accelerated_pair(name, 5, 6)
    x = torch.randn(4, 5)
    for attribute, value in IGNORED.items():
        if (name, attribute) not in {("RNN", "mode"), ("RNNCell", "nonlinearity")}:
            setattr(plain, attribute, value)
            setattr(module, attribute, value)
    if name in CELLS:
        plain.bias = module.bias = False
        plain.input_size = module.input_size = 4
    assert_close(module(x), plain(x))


@every_class
def test_a_weight_that_is_gone_is_refused_by_name(name: str) -> None:
    module = module_of(name, 5, 6)
    ft.accelerate(module)
    weight = "bias_ih_l0" if name in LAYERS else "bias_ih"
    setattr(module, weight, None)
    with pytest.raises(TypeError, match=rf"^{weight}: expected a tensor, .* got NoneType; call report.undo\(\)"):
        module(torch.randn(4, 5))


def test_a_list_of_weights_that_somebody_has_written_to_is_refused() -> None:
    module = module_of("LSTM", 5, 6)
    ft.accelerate(module)
    module._flat_weights[1] = torch.zeros(24, 6)
    with pytest.raises(fc.UnsupportedError, match="_flat_weights: weight_hh_l0 in it is not the module's"):
        module(torch.randn(4, 5))
    module._init_flat_weights()
    module(torch.randn(4, 5))
    module._parameters["weight_hh_l0"] = nn.Parameter(torch.zeros(24, 6))  # which PyTorch finds at the next call
    plain = module_of("LSTM", 5, 6)
    plain._parameters["weight_hh_l0"] = nn.Parameter(torch.zeros(24, 6))
    x = torch.randn(4, 5)
    assert_close(module(x), plain(x))


def test_sizes_that_did_not_fit_before_are_a_reason() -> None:
    module = module_of("LSTM", 5, 6)
    module.hidden_size = 7
    (entry,) = ft.accelerate(module)
    assert entry.reason == "hidden_size=7 does not fit its weights, which have 6"


@pytest.mark.parametrize(
    ("num_threads", "error", "message"),
    [
        (0, ValueError, "at least 1, got 0"),
        (-(2**70), ValueError, f"at least 1, got -{2**70}"),
        (2**70, TypeError, f"an int of 64 bits, got {2**70}"),
        (True, TypeError, "an integer, got bool"),
        (1.5, TypeError, "an integer, got float"),
        ("2", TypeError, "an integer, got str"),
        (None, TypeError, "an integer, got NoneType"),
    ],
)
def test_a_number_of_threads_that_is_none_is_refused_by_name(
    num_threads: Any, error: type[Exception], message: str
) -> None:
    module = module_of("GRU", 5, 6)
    layer = fc.from_torch(module)
    x = torch.zeros(3, 5).numpy()
    calls = (
        lambda: ft.accelerate(module, num_threads=num_threads),
        lambda: layer(x, num_threads=num_threads),
        lambda: layer.stream(num_threads=num_threads),
        lambda: layer.step_many([layer.stream()], x[:1], num_threads=num_threads),
        lambda: fc.StreamPool(layer, 2, num_threads=num_threads),
    )
    for call in calls:
        with pytest.raises(error, match=f"^num_threads: expected {message}"):
            call()
    assert type(module) is nn.GRU


class Watching(torch.utils._python_dispatch.TorchDispatchMode):
    """Under which a module calls its operator."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return function(*args, **(kwargs or {}))


def test_any_number_of_threads_of_64_bits_from_one_on_is_taken() -> None:
    x = torch.randn(4, 5)
    expected = fc.from_torch(module_of("GRU", 5, 6))(x.numpy())
    for num_threads in (1, np.int64(2), 2**31, 2**63 - 1):
        module = module_of("GRU", 5, 6)
        ft.accelerate(module, num_threads=num_threads)
        assert_same_bits(module(x), expected)
        with Watching():
            assert_same_bits(module(x), expected)
        assert_same_bits(fc.from_torch(module)(x.numpy(), num_threads=num_threads), expected)


class Pausing:
    """A forward of PyTorch or fusedcell that waits where it looks an attribute up for the nth time, until told."""

    def __init__(self, module: Any, at: int) -> None:
        self.module, self.left = module, at
        self.waiting, self.go_on = Event(), Event()

    def trace(self, frame: Any, event: str, argument: Any) -> Any:
        if event == "line" and frame.f_code.co_name != "trace":
            self.left -= 1
            if self.left == 0:
                self.waiting.set()
                self.go_on.wait(10)
        return self.trace

    def call(self, *inputs: Any) -> Any:
        result: list[Any] = []

        def work() -> None:
            sys.settrace(lambda frame, *_: self.trace if frame.f_code.co_name != "work" else None)
            try:
                with torch.inference_mode():
                    result.append(self.module(*inputs))
            except Exception as error:
                result.append(error)
            finally:
                sys.settrace(None)
                self.waiting.set()

        thread = Thread(target=work)
        thread.start()
        self.waiting.wait(10)
        return thread, result


@every_class
@pytest.mark.parametrize("swaps", [True, False])
def test_a_call_under_way_is_of_one_class_as_a_whole(name: str, swaps: bool) -> None:
    # The other thread is stopped at every line in turn of Python's that a call runs, and the class changes there.
    plain, module = module_of(name, 5, 6), module_of(name, 5, 6)
    x = (
        torch.randn(3, 5)
        if name in CELLS
        else pack_sequence([torch.randn(2, 5), torch.randn(4, 5), torch.ones(1, 5)], False)
    )
    state = states(module, 3)
    for_lines = 0
    while True:
        for_lines += 1
        report: Any = None if swaps else ft.accelerate(module)
        pausing = Pausing(module, for_lines)
        thread, result = pausing.call(x, state)
        if swaps:
            report = ft.accelerate(module)
        else:
            report.undo()
        pausing.go_on.set()
        thread.join()
        report.undo()
        assert not isinstance(result[0], Exception), (for_lines, result)
        assert_close(result[0], plain(x, state))
        assert type(module) is type(plain)
        assert vars(module).keys() == vars(plain).keys()
        if pausing.left > 0:
            break
    assert for_lines > 10


def test_threads_call_a_model_while_it_is_swapped_and_undone(tagger: Any) -> None:
    tokens = torch.arange(27).reshape(3, 9) % 20
    expected = tagger(tokens)
    done, errors = Event(), []

    def work() -> None:
        with torch.inference_mode():
            while not done.is_set():
                try:
                    assert_close(tagger(tokens), expected)
                except BaseException as error:
                    errors.append(error)
                    return

    def swap() -> None:
        for _ in range(50):
            ft.accelerate(tagger).undo()

    callers, swappers = [Thread(target=work) for _ in range(2)], [Thread(target=swap) for _ in range(2)]
    for thread in (*callers, *swappers):
        thread.start()
    for thread in swappers:
        thread.join()
    done.set()
    for thread in callers:
        thread.join()
    assert errors == []
    assert [type(module).__name__ for module in tagger.layers] == ["LSTM", "GRU"]
    assert not any(key.startswith("fusedcell") for module in tagger.modules() for key in vars(module))


def test_the_report_says_what_training_mode_does() -> None:
    model = nn.ModuleDict({"encoder": module_of("LSTM", 5, 6), "decoder": module_of("GRU", 5, 6)})
    model["encoder"].train()
    report = ft.accelerate(model)
    encoder, decoder = str(report).splitlines()[1:]
    assert encoder.endswith("in training mode, in which calls raise: call model.eval()")
    assert "training" not in decoder
    model.eval()
    assert "training" not in str(report)


@every_class
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scripting_names_the_way_back(name: str) -> None:
    module = module_of(name, 5, 6)
    report = ft.accelerate(module)
    for model in (module, nn.Sequential(module), nn.ModuleDict({"a": nn.Sequential(module)})):
        with pytest.raises(RuntimeError, match=rf"torch.jit.script: Fused{name} has no TorchScript; call report.undo"):
            torch.jit.script(model)
    report.undo()
    with torch.inference_mode(False):
        torch.jit.script(module)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # as of PyTorch's own modules
@pytest.mark.parametrize(("name", "dynamo"), [*((name, False) for name in LAYERS + CELLS), ("LSTM", True)])
def test_onnx_export_names_the_way_back(name: str, dynamo: bool, tmp_path: Any) -> None:
    pytest.importorskip("onnxscript")
    module = module_of(name, 5, 6)
    ft.accelerate(module)
    x = torch.randn(3, 5) if name in CELLS else torch.randn(4, 3, 5)
    with torch.inference_mode(False), torch.no_grad(), pytest.raises(Exception, match=r"call report.undo\(\)"):
        torch.onnx.export(module, (x.clone(),), tmp_path / "model.onnx", dynamo=dynamo, verbose=False)
    assert not (tmp_path / "model.onnx").exists()


def test_packed_sequences_meet_the_operator_too() -> None:
    module = module_of("LSTM", 5, 6, bidirectional=True)
    ft.accelerate(module)
    sequence = pack_sequence([torch.randn(2, 5), torch.randn(4, 5)], False)
    expected = module(sequence)
    with Watching():
        assert_same_bits(module(sequence), expected)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory where Linux says it")
@pytest.mark.parametrize("bidirectional", [False, True])
def test_one_long_sequence_among_many_takes_no_room_for_the_others(bidirectional: bool) -> None:
    # Padded they would take 1.6 GiB.
    script = """
import sys
from pathlib import Path
import torch, fusedcell.torch
from torch.nn.utils.rnn import pack_sequence

def peak():
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) >> 10

module = torch.nn.LSTM(8, 8, bidirectional=sys.argv[1] == "True").eval()
sequence = pack_sequence([torch.ones(10000, 8)] + [torch.ones(1, 8)] * 4999)
fusedcell.torch.accelerate(module)
with torch.inference_mode():
    module(pack_sequence([torch.ones(2, 8)]))
    before = peak()
    module(sequence)
assert peak() - before < 48, (before, peak())
"""
    subprocess.run([sys.executable, "-c", script, str(bidirectional)], check=True, timeout=120)
