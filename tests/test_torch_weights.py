"""An accelerated module computes with its weights as they are now, and packs them no more often than they change."""

from __future__ import annotations

import copy
import gc
import io
import weakref
from typing import Any

import pytest

from fusedcell.convert.torch.modules import form_of
from torch_models import assert_close, assert_same_bits, ft, make, module_of, nn, tokens, torch, trained_tagger

modules, operators, packs = ft.modules, ft.operators, ft.packs
pytestmark = pytest.mark.usefixtures("inference_mode")


def test_state_dictionaries_keep_their_keys_and_loading_packs_again(tagger: Any) -> None:
    keys = list(tagger.state_dict())
    ft.accelerate(tagger)
    tagger(tokens())
    state = {name: tensor * 0.5 for name, tensor in tagger.state_dict().items()}
    assert list(state) == keys
    with torch.inference_mode(False):
        other = trained_tagger()
    other.load_state_dict(state)
    tagger.load_state_dict(state)
    assert_close(tagger(tokens()), other(tokens()))
    with torch.inference_mode(False):
        tagger.load_state_dict({name: tensor * 3 for name, tensor in state.items()}, assign=True)
        other.load_state_dict({name: tensor * 3 for name, tensor in state.items()})
    assert_close(tagger(tokens()), other(tokens()))


def scale_in_place(module: Any) -> None:
    module.weight_hh_l0.mul_(1.5)


def scale_part_without_gradients(module: Any) -> None:
    with torch.inference_mode(False), torch.no_grad():
        module.bias_ih_l0[2:4] += 1


def assign_data(module: Any) -> None:
    module.weight_ih_l0.data = module.weight_ih_l0.data * 2


def assign_data_twice(module: Any) -> None:
    for _ in range(2):  # the second may get the memory that the first gave up
        module.weight_ih_l0.data = module.weight_ih_l0.data * 2


def write_through_data(module: Any) -> None:
    module.weight_hh_l0.data.mul_(1.5)


def write_through_numpy(module: Any) -> None:
    module.bias_hh_l0.numpy(force=True)[:] = 1


def assign_parameter(module: Any) -> None:
    with torch.inference_mode(False):
        module.weight_ih_l0 = nn.Parameter(module.weight_ih_l0.detach() * 3)


def to_double_and_back(module: Any) -> None:
    scale_in_place(module.double())
    module.float()


@pytest.mark.parametrize(
    "change",
    [
        scale_in_place,
        scale_part_without_gradients,
        assign_data,
        assign_data_twice,
        assign_parameter,
        to_double_and_back,
        write_through_data,
        write_through_numpy,
    ],
)
def test_changes_of_parameters_are_seen(change: Any) -> None:
    module, twin = module_of("GRU", 5, 6), module_of("GRU", 5, 6)
    ft.accelerate(module)
    x = torch.randn(4, 3, 5)
    first = module(x)
    change(module)
    change(twin)
    assert not torch.equal(module(x)[0], first[0])
    assert_close(module(x), twin(x))


@pytest.mark.parametrize("name", ["LSTM", "GRUCell"])
def test_a_change_of_any_one_value_is_seen(name: str) -> None:
    module, twin = module_of(name, 40, 50), module_of(name, 40, 50)
    ft.accelerate(module)
    x = torch.randn(3, 40)
    for row in (0, 1, 30, 149):
        first = module(x)
        for each in (module, twin):
            next(each.parameters())[row, 1] += 2
        assert not torch.equal(first[0], module(x)[0])
        assert_close(module(x), twin(x))


def test_a_transposed_view_of_the_same_memory_is_seen() -> None:
    module, twin = module_of("RNN", 6, 6), module_of("RNN", 6, 6)
    ft.accelerate(module)
    x = torch.randn(4, 3, 6)
    module(x)
    for each in (module, twin):
        each.weight_hh_l0.data = each.weight_hh_l0.data.t()
    assert_close(module(x), twin(x))


def test_another_parameter_on_the_same_memory_is_another() -> None:
    module, twin = module_of("GRU", 40, 50), module_of("GRU", 40, 50)
    ft.accelerate(module)
    x = torch.randn(4, 3, 40)
    old = module.weight_hh_l0
    with torch.inference_mode(False), torch.no_grad():
        new = nn.Parameter(old.data)
        new.add_(0)
        while old._version < new._version + 1:
            old.add_(0)
        module(x)
        while new._version < old._version:
            new[1, 1].add_(2)  # counts no version of the old one
    assert (new._version, new.data_ptr()) == (old._version, old.data_ptr())
    module.weight_hh_l0 = new
    twin.load_state_dict(module.state_dict())
    assert_close(module(x), twin(x))


@pytest.mark.parametrize("swapping", [False, True])
def test_converting_a_module_lets_go_of_what_was_packed(swapping: bool) -> None:
    module = module_of("LSTM", 5, 6)
    ft.accelerate(module)
    module(torch.randn(3, 5))
    pack = weakref.ref(module.fusedcell_last.pack)
    torch.__future__.set_swap_module_params_on_conversion(swapping)
    try:
        with torch.inference_mode(False):
            module.double()
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
    gc.collect()
    assert pack() is None


def test_what_cannot_be_seen_is_packed_again_on_request() -> None:
    module, twin = module_of("GRU", 40, 50), module_of("GRU", 40, 50)
    report = ft.accelerate(module)
    x = torch.randn(4, 3, 40)
    module(x)
    for each in (module, twin):
        each.weight_hh_l0.data[1, 1] = 3
    report.repack()
    assert_close(module(x), twin(x))


def test_an_optimiser_step_is_seen() -> None:
    module, twin = module_of("LSTM", 5, 6), module_of("LSTM", 5, 6)
    x = torch.randn(4, 3, 5)
    ft.accelerate(module)
    module(x)
    with torch.inference_mode(False):
        for each in (module, twin):
            for parameter in each.parameters():
                parameter.grad = torch.ones_like(parameter)
            torch.optim.SGD(each.parameters(), lr=0.1).step()
    assert_close(module(x), twin(x))


def test_functional_call_runs_with_the_weights_it_is_given() -> None:
    module, twin = module_of("LSTM", 5, 6), module_of("LSTM", 5, 6)
    ft.accelerate(module)
    x = torch.randn(4, 3, 5)
    weights = {name: 2 * tensor for name, tensor in module.state_dict().items()}
    assert_close(torch.func.functional_call(module, weights, (x,)), torch.func.functional_call(twin, weights, (x,)))
    assert_close(module(x), twin(x))


@pytest.mark.parametrize("name", ["LSTM", "GRUCell"])
def test_a_module_made_in_inference_mode_is_compared_by_value(name: str) -> None:
    module, twin = make(name, 5, 6), make(name, 5, 6)
    assert next(module.parameters()).is_inference()
    ft.accelerate(module)
    x = torch.randn(3, 5)
    assert_close(module(x), twin(x))
    for each in (module, twin):
        next(each.parameters()).mul_(1.5)
    assert_close(module(x), twin(x))


def norm_new(module: Any) -> None:
    nn.utils.parametrizations.weight_norm(module, "weight_hh_l0")


def norm_old(module: Any) -> None:
    with pytest.warns(FutureWarning):
        nn.utils.weight_norm(module, "weight_hh_l0")


def prune(module: Any) -> None:
    from torch.nn.utils import prune as pruning

    pruning.l1_unstructured(module, "weight_hh_l0", 40)


@pytest.mark.parametrize("change", [norm_new, norm_old, prune])
def test_computed_weights_are_computed_at_each_call(change: Any) -> None:
    module, twin = module_of("GRU", 5, 6), module_of("GRU", 5, 6)
    with torch.inference_mode(False):
        change(module)
        change(twin)
    x = torch.randn(4, 3, 5)
    report = ft.accelerate(module)
    assert [entry.swapped for entry in report] == [True]
    for _ in range(2):
        assert_close(module(x), twin(x))
        stack = module.fusedcell_last.computed[1]
        module(x)
        assert module.fusedcell_last.computed[1] is stack  # packed once for the same values
        for each in (module, twin):
            next(iter(dict(each.named_parameters()).values())).mul_(1.5)
    assert list(module.state_dict()) == list(twin.state_dict())
    report.undo()
    assert type(module) is not modules.FusedGRU
    assert_same_bits(module(x), twin(x))


def test_a_parametrisation_may_be_removed_meanwhile() -> None:
    module = module_of("GRU", 5, 6)
    with torch.inference_mode(False):
        norm_new(module)
    x = torch.randn(4, 3, 5)
    expected = module(x)
    report = ft.accelerate(module)
    nn.utils.parametrize.remove_parametrizations(module, "weight_hh_l0")
    assert_close(module(x), expected)
    report.undo()
    assert type(module) is nn.GRU
    assert_close(module(x), expected)


@pytest.mark.parametrize("before", [(), ("weight_ih_l0",)])
def test_a_parametrisation_may_be_registered_meanwhile(before: tuple[str, ...]) -> None:
    module = module_of("GRU", 5, 6)
    x = torch.randn(4, 3, 5)
    with torch.inference_mode(False), torch.no_grad():
        for name in before:
            nn.utils.parametrizations.weight_norm(module, name)
        report = ft.accelerate(module)
        norm_new(module)
        module.parametrizations.weight_hh_l0.original0.mul_(3)
        actual = module(x)
        report.undo()
        assert_close(actual, module(x))
        plain = module_of("GRU", 5, 6)
        plain.load_state_dict({name: getattr(module, name) for name in plain.state_dict()})
        assert_close(actual, plain(x))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda model: _saved_and_loaded(model)])
def test_copies_are_accelerated_and_have_weights_of_their_own(copied: Any, tagger: Any) -> None:
    ft.accelerate(tagger, "int8")
    expected = tagger(tokens())
    with torch.inference_mode(False):
        twin = copied(tagger)
    assert_same_bits(twin(tokens()), expected)
    if copied is not copy.copy:
        next(twin.layers[0].parameters()).zero_()
        assert not torch.equal(twin(tokens()), expected)
        assert_same_bits(tagger(tokens()), expected)


def _saved_and_loaded(model: Any) -> Any:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def test_packed_weights_go_with_their_tensors() -> None:
    gc.collect()
    before = len(packs._packs)
    module = module_of("LSTM", 5, 6)
    report = ft.accelerate(module)
    for _ in range(5):
        module(torch.randn(3, 5))
        module.weight_ih_l0.mul_(1.1)
        operators.layer(*layer_arguments(module, torch.randn(3, 5)))
    assert len(packs._packs) == before + 1
    pack = weakref.ref(module.fusedcell_last.pack)
    report.undo()
    gc.collect()
    assert pack() is None
    assert len(packs._packs) == before

    ft.accelerate(module)
    pack = weakref.ref(packs.packed(form_of(module), [*module.parameters()], packs.Storage("float32", None)))
    del module, report
    gc.collect()
    assert pack() is None
    assert len(packs._packs) == before


def layer_arguments(module: Any, x: Any) -> tuple[Any, ...]:
    return (
        x,
        *[None] * 5,
        [*module.parameters()],
        "LSTM",
        "tanh",
        1,
        False,
        True,
        False,
        False,
        "float32",
        None,
        1,
    )
