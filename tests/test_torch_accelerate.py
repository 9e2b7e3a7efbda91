"""accelerate: a model computes the same with its recurrent modules swapped, keeps its ways, and comes back."""

from __future__ import annotations

from threading import Thread
from typing import Any

import numpy as np
import pytest

import fusedcell as fc
from torch_models import (
    LAYERS,
    NO_ONEDNN,
    assert_close,
    assert_same_bits,
    every_class,
    ft,
    module_of,
    modules,
    nn,
    pack_sequence,
    states,
    tokens,
    torch,
)

pytestmark = pytest.mark.usefixtures("inference_mode")
every_layer = pytest.mark.parametrize("name", LAYERS)
pack_padded_sequence, pad_packed_sequence = nn.utils.rnn.pack_padded_sequence, nn.utils.rnn.pad_packed_sequence


def test_a_trained_model_with_nested_and_shared_modules(tagger: Any) -> None:
    expected = tagger(tokens())
    report = ft.accelerate(tagger)
    assert_close(tagger(tokens()), expected)
    assert [(entry.name, entry.class_name, entry.swapped, entry.also) for entry in report] == [
        ("layers.0", "LSTM", True, ()),
        ("layers.1", "GRU", True, ()),
        ("cells.refine", "GRUCell", True, ("again",)),
    ]
    assert tagger.again is tagger.cells["refine"]
    assert isinstance(tagger.layers[0], modules.FusedLSTM)


def test_undo_gives_back_the_very_same_model(tagger: Any) -> None:
    before = dict(tagger.named_modules())
    states_before = {name: dict(vars(module)) for name, module in before.items()}
    classes = {name: type(module) for name, module in before.items()}
    parameters = {name: (parameter, parameter.clone()) for name, parameter in tagger.named_parameters()}
    expected = tagger(tokens())
    report = ft.accelerate(tagger)
    tagger(tokens())
    report.undo()
    report.undo()
    assert dict(tagger.named_modules()) == before
    for name, module in tagger.named_modules():
        assert type(module) is classes[name]
        assert vars(module) == states_before[name]
    for name, parameter in tagger.named_parameters():
        assert parameter is parameters[name][0]
        assert torch.equal(parameter, parameters[name][1])
    assert_same_bits(tagger(tokens()), expected)
    with torch.inference_mode(False):
        tagger.train()(tokens()).sum().backward()  # and it trains again


def test_a_with_block_undoes_at_its_end(tagger: Any) -> None:
    with ft.accelerate(tagger) as report:
        assert len(report) == 3
        assert isinstance(tagger.layers[1], modules.FusedGRU)
    assert type(tagger.layers[1]) is nn.GRU
    with pytest.raises(TypeError), ft.accelerate(tagger):
        tagger(None)
    assert type(tagger.layers[1]) is nn.GRU


@every_class
@pytest.mark.parametrize("with_state", [False, True])
def test_the_model_may_be_a_recurrent_module_itself(name: str, with_state: bool) -> None:
    module = module_of(name, 5, 6)
    x = torch.randn(4, 3, 5) if name in LAYERS else torch.randn(3, 5)
    state = states(module, 3) if with_state else None
    expected = module(x, state), module(x[:, 0] if name in LAYERS else x[0])
    report = ft.accelerate(module)
    assert_close((module(x, state), module(x[:, 0] if name in LAYERS else x[0])), expected)
    assert_close(module(input=x, hx=state), expected[0])
    assert [entry.name for entry in report] == [""]
    assert f"(the model)  {name} " in str(report)
    assert isinstance(module(x), tuple) == (name in LAYERS or name == "LSTMCell")


@every_layer
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("enforce_sorted", [False, True])
@pytest.mark.parametrize("with_state", [False, True])
def test_packed_sequences_go_in_and_come_out(
    name: str, batch_first: bool, bidirectional: bool, enforce_sorted: bool, with_state: bool
) -> None:
    module = module_of(name, 5, 6, 2, batch_first=batch_first, bidirectional=bidirectional)
    lengths = [7, 4, 4, 1] if enforce_sorted else [4, 1, 7, 4]
    x = torch.randn(4, 7, 5) if batch_first else torch.randn(7, 4, 5)
    packed = pack_padded_sequence(x, torch.tensor(lengths), batch_first, enforce_sorted)
    state = states(module, 4) if with_state else None
    expected, expected_end = module(packed, state)
    ft.accelerate(module)
    y, end = module(packed, state)
    assert_close((y, end), (expected, expected_end))
    for a, e in zip(y[1:], expected[1:], strict=True):
        assert (a is None and e is None) or torch.equal(a, e)

    # The bits are those of the layer with lengths.
    padded, _ = pad_packed_sequence(y, batch_first)
    y_lengths, end_lengths = fc.from_torch(module)(x.numpy(), state, lengths=lengths)
    assert_same_bits((padded, end), (y_lengths, end_lengths))


def test_packed_sequences_without_a_batch_order() -> None:
    module = module_of("LSTM", 5, 6)
    packed = pack_sequence([torch.randn(4, 5), torch.randn(2, 5)])
    expected = module(packed)
    ft.accelerate(module)
    assert_close(module(packed), expected)
    assert module(packed)[0].sorted_indices is None


@pytest.mark.filterwarnings(NO_ONEDNN)
def test_projections_and_other_options() -> None:
    x = torch.randn(4, 3, 5)
    for options in (
        {"proj_size": 3, "bidirectional": True},
        {"bias": False, "num_layers": 3},
        {"dropout": 0.5, "num_layers": 2},
    ):
        module = module_of("LSTM", 5, 6, **options)
        state = states(module, 3)
        expected = module(x, state)
        ft.accelerate(module)
        assert_close(module(x, state), expected)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int8"])
def test_narrower_weights_have_the_bits_of_the_layer(dtype: str, isa: str) -> None:
    module = module_of("GRU", 9, 33)
    layer = fc.from_torch(module, dtype=dtype, isa=isa)
    ft.accelerate(module, dtype, isa=isa)
    x = torch.randn(4, 2, 9)
    assert_same_bits(module(x), layer(x.numpy()))


def test_more_threads_give_the_same_bits() -> None:
    one, two = module_of("LSTM", 64, 200), module_of("LSTM", 64, 200)
    ft.accelerate(one)
    ft.accelerate(two, num_threads=2)
    x = torch.randn(20, 8, 64)
    assert_same_bits(two(x), one(x))


def test_hooks_stay() -> None:
    module = module_of("GRU", 5, 6)
    seen = []
    module.register_forward_pre_hook(lambda module, args: (2 * args[0],))
    module.register_forward_hook(
        lambda module, args, output: seen.append(type(module).__name__) or (output[0] + 1, output[1])
    )
    x = torch.randn(4, 3, 5)
    expected = module(x)
    with ft.accelerate(module):
        handle = module.register_forward_hook(lambda *args: seen.append("later"))
        assert_close(module(x), expected)
    assert seen == ["GRU", "FusedGRU", "later"]
    handle.remove()
    assert_close(module(x), expected)
    assert seen[-1] == "GRU"


def test_no_memory_is_copied_between_pytorch_and_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    module = module_of("LSTM", 5, 6)
    ft.accelerate(module)
    taken: list[Any] = []
    given: list[Any] = []
    module(torch.randn(4, 3, 5))
    stack = module.fusedcell_last.pack.stack

    class Spy:
        def run(self, *args: Any) -> Any:
            taken.extend(array.ctypes.data for array in args[:3])
            results = stack.run(*args)
            given.extend(array.ctypes.data for array in results if array is not None)
            return results

    monkeypatch.setattr(module.fusedcell_last.pack, "stack", Spy())
    x, (h, c) = torch.randn(4, 3, 5), states(module, 3)
    y, (h_n, c_n) = module(x, (h, c))
    assert taken == [tensor.data_ptr() for tensor in (x, h, c)]
    assert given == [tensor.data_ptr() for tensor in (y, h_n, c_n)]


def test_inputs_of_any_strides_and_empty_ones() -> None:
    module = module_of("LSTM", 5, 6)
    x = torch.randn(3, 8, 5)
    expected = module(x.transpose(0, 1)[::2])
    ft.accelerate(module)
    assert_close(module(x.transpose(0, 1)[::2]), expected)
    y, (h, _) = module(torch.zeros(4, 0, 5))
    assert (y.shape, h.shape) == ((4, 0, 6), (1, 0, 6))
    negated = torch.view_as_complex(torch.randn(4, 3, 5, 2)).conj().imag
    assert negated.is_neg()
    assert_same_bits(module(negated), module(negated.resolve_neg()))


def test_attributes_and_methods_are_those_of_the_module() -> None:
    module = module_of("LSTM", 5, 6, 2, batch_first=True, bidirectional=True)
    printed = repr(module)
    ft.accelerate(module)
    assert (module.input_size, module.hidden_size, module.num_layers, module.batch_first) == (5, 6, 2, True)
    assert (module.bidirectional, module.proj_size, module.bias, module.dropout) == (True, 0, True, 0.0)
    module.flatten_parameters()
    assert [len(names) for names in module.all_weights] == [4, 4, 4, 4]
    assert repr(module) == f"Fused{printed}"
    assert isinstance(module, nn.RNNBase)
    cell = module_of("LSTMCell", 5, 6)
    ft.accelerate(cell)
    assert isinstance(cell, nn.LSTMCell)
    assert isinstance(module.to("cpu").eval(), modules.FusedLSTM)


def test_from_torch_takes_an_accelerated_module() -> None:
    module = module_of("LSTM", 5, 6)
    ft.accelerate(module)
    x = torch.randn(4, 5)
    assert_same_bits(fc.from_torch(module)(x.numpy()), module(x))


def test_a_model_without_recurrent_modules() -> None:
    report = ft.accelerate(nn.Linear(2, 3))
    assert (list(report), str(report)) == ([], "No recurrent module.")


def test_threads_share_a_module() -> None:
    module = module_of("LSTM", 16, 64)
    ft.accelerate(module)
    inputs = [torch.randn(20, 2, 16) for _ in range(8)]
    expected = [module(x) for x in inputs]
    actual: list[Any] = [None] * len(inputs)

    def work(index: int) -> None:
        with torch.inference_mode():
            for _ in range(20):
                actual[index] = module(inputs[index])

    workers = [Thread(target=work, args=(index,)) for index in range(len(inputs))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert_same_bits(actual, expected)


def test_a_benchmark_runs_both_ways_and_leaves_the_model_accelerated(
    tagger: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fusedcell._timing import QUICK

    monkeypatch.setattr("fusedcell.torch.benchmark.FULL", QUICK)
    seen = set()
    tagger.layers[0].register_forward_hook(lambda module, *args: seen.add(type(module).__name__) and None)
    report = ft.accelerate(tagger)
    result = report.benchmark(tokens())
    assert seen == {"LSTM", "FusedLSTM"}
    assert isinstance(tagger.layers[0], modules.FusedLSTM)
    assert result.before.count == result.after.count == result.ratio.count >= 3
    assert "times as fast, median (p10..p90) of" in str(result)
    assert np.isfinite([result.ratio.p10, result.ratio.p50, result.ratio.p90]).all()
    report.undo()
    with pytest.raises(RuntimeError, match="the swap has been undone"):
        report.benchmark(tokens())
