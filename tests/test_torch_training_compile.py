"""What is trained also compiles and exports: torch.compile and torch.export meet operators, which have the bits of a
plain call."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest

from torch_models import CELLS, LAYERS, Graphs, assert_same_bits, ft, nn, torch

# Compilers warn of what they find in PyTorch and Python; errors are what counts here.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning", "ignore::ResourceWarning"
)


@pytest.fixture(autouse=True)
def _forget_compiled_code() -> None:
    torch.compiler.reset()


def calls(graph: Any) -> list[str]:
    """Our operators that a graph calls."""
    targets = [str(node.target).removesuffix(".default") for node in graph.nodes if node.op == "call_function"]
    return [target for target in targets if target.startswith("fusedcell.")]


def flat(result: Any) -> list[Any]:
    return [part for each in result for part in flat(each)] if isinstance(result, tuple) else [result]


def run(function: Any, parameters: list[Any], x: Any, **keywords: Any) -> list[Any]:
    """What the function returns, and derivatives by x and the parameters."""
    x = x.clone().requires_grad_()
    torch.manual_seed(2)
    outputs = flat(function(x, **keywords))
    by_outputs = [torch.arange(o.numel(), dtype=torch.float32).cos().reshape(o.shape) for o in outputs]
    return [*outputs, *torch.autograd.grad(outputs, [x, *parameters], by_outputs)]


def sequences(steps: int, batch: int) -> dict[str, Any]:
    torch.manual_seed(3)
    return {
        "lengths": torch.randint(0, steps + 1, (batch,)),
        "mask": torch.rand(steps, batch) < 0.7,
        "resets": torch.rand(steps, batch) < 0.3,
    }


EVERYTHING = {"num_layers": 2, "bidirectional": True, "dropout": 0.2, "recurrent_dropout": 0.3}


@pytest.mark.parametrize(
    ("name", "options", "has"),
    [
        ("LSTM", {}, []),
        ("LSTM", {"proj_size": 3, "batch_first": True}, ["lengths"]),
        ("LSTM", {**EVERYTHING, "zoneout": (0.2, 0.4)}, ["lengths", "mask", "resets"]),
        ("GRU", {"bias": False, "checkpoint": True}, ["resets"]),
        ("GRU", {**EVERYTHING, "zoneout": 0.2}, ["mask"]),
        ("RNN", {**EVERYTHING, "nonlinearity": "relu"}, []),
        ("LSTMCell", {}, []),
        ("GRUCell", {}, []),
        ("RNNCell", {}, []),
        ("Linear", {}, []),
    ],
)
def test_compiled_training_has_the_bits_of_a_plain_call(name: str, options: dict[str, Any], has: list[str]) -> None:
    torch.manual_seed(1)
    module = getattr(ft, name)(5, 7, **options)
    x = torch.randn(4, 3, 5) if name not in CELLS else torch.randn(3, 5)
    drawn = sequences(3, 4) if options.get("batch_first") else sequences(4, 3)
    keywords = {key: drawn[key] for key in has}
    parameters = list(module.parameters())
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    assert_same_bits(run(compiled, parameters, x, **keywords), run(module, parameters, x, **keywords))


class Forecaster(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.gru = ft.GRU(5, 7, num_layers=2, batch_first=True, dropout=0.2)
        self.lstm = ft.LSTM(7, 7, batch_first=True, recurrent_dropout=0.2)
        self.head = ft.Linear(7, 2)

    def forward(self, x: Any) -> Any:
        return self.head(self.lstm(self.gru(x)[0])[0][:, -1])


def test_inductor_draws_and_trains_as_a_plain_call_does() -> None:
    model = Forecaster()
    parameters = list(model.parameters())
    compiled = torch.compile(model, fullgraph=True)
    x = torch.randn(3, 6, 5)
    assert_same_bits(run(compiled, parameters, x), run(model, parameters, x))


def test_each_layer_and_each_call_has_a_draw_of_its_own() -> None:
    module = ft.GRU(5, 5, recurrent_dropout=0.5)
    compiled = torch.compile(lambda x: (module(x)[0], module(x)[0]), fullgraph=True, backend="aot_eager")
    x = torch.randn(4, 3, 5)
    drawn = [y for _ in range(2) for y in compiled(x)]
    assert all(not torch.equal(a, b) for i, a in enumerate(drawn) for b in drawn[:i])


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("trains", [True, False])
def test_code_is_compiled_once_for_any_batch_and_number_of_steps(name: str, trains: bool) -> None:
    module = getattr(ft, name)(5, 7)
    backend = Graphs()
    compiled = torch.compile(module, fullgraph=True, backend=backend)
    with torch.set_grad_enabled(trains):
        for steps, batch in ((4, 3), (9, 2), (2, 11)):
            x, lengths = torch.randn(steps, batch, 5), torch.randint(0, steps + 1, (batch,))
            for tensor, axes in ((x, (0, 1)), (lengths, (0,))):
                for axis in axes:
                    torch._dynamo.mark_dynamic(tensor, axis)
            assert_same_bits(compiled(x, lengths=lengths), module(x, lengths=lengths))
    (graph,) = backend.graphs
    assert calls(graph) == ["fusedcell.train_forward" if trains else "fusedcell.layer"]


class Tagger(torch.nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layer = getattr(ft, name)(5, 7, 2, batch_first=True, bidirectional=True)
        self.cell = getattr(ft, f"{name}Cell")(14, 6)
        self.head = ft.Linear(6, 2)

    def forward(self, x: Any, lengths: Any) -> Any:
        y, last = self.layer(x, lengths=lengths)
        h = self.cell(y[:, -1])
        return self.head(h[0] if isinstance(h, tuple) else h), last


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("strict", [False, True])
def test_exported_programs_carry_their_weights_and_take_any_size(name: str, strict: bool) -> None:
    model = Tagger(name).eval()
    batch, steps = torch.export.Dim("batch", min=2), torch.export.Dim("steps", min=2)
    inputs = [(torch.randn(b, t, 5), torch.randint(0, t + 1, (b,))) for b, t in ((3, 4), (2, 9), (11, 2))]
    with torch.no_grad():
        expected = [model(*each) for each in inputs]
    exported = torch.export.export(model, inputs[0], dynamic_shapes=({0: batch, 1: steps}, {0: batch}), strict=strict)
    assert calls(exported.graph) == ["fusedcell.layer", "fusedcell.cell", "fusedcell.linear"]
    file = io.BytesIO()
    torch.export.save(exported, file)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    file.seek(0)
    loaded = torch.export.load(file).module()
    with torch.no_grad():
        for each, results in zip(inputs, expected, strict=True):
            assert_same_bits(loaded(*each), results)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # as of PyTorch's own modules
def test_what_is_exported_in_training_mode_or_traced_has_pytorchs_operators() -> None:
    module, x = ft.GRU(5, 7), torch.randn(4, 3, 5)
    assert calls(torch.export.export(module, (x,)).graph) == []
    assert "fusedcell::" not in str(torch.jit.trace(module.eval(), x, check_trace=False).inlined_graph)


def test_copies_are_compiled_with_weights_of_their_own() -> None:
    model = Forecaster().eval()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    x = torch.randn(3, 6, 5)
    with torch.no_grad():
        expected = compiled(x)
        other = copy.deepcopy(compiled)
        for parameter in other.parameters():
            parameter.mul_(2)
        assert not torch.equal(other(x), expected)
        assert_same_bits(compiled(x), expected)


class Answers(torch.utils.data.Dataset):
    """What a module answers, in whichever process asks, and how its first weight's derivative is."""

    def __init__(self, module: Any, x: Any) -> None:
        self.module, self.x = module, x

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Any:
        y, _ = self.module(self.x[index])
        (found,) = torch.autograd.grad(y.square().sum(), [self.module.weight_ih_l0])
        return y.detach(), found


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_workers_of_a_data_loader_compute_what_their_parent_does() -> None:
    module, x = ft.LSTM(5, 7, num_threads=2), torch.randn(4, 6, 3, 5)
    answers = Answers(module, x)
    expected = [answers[index] for index in range(len(x))]  # with threads that the workers do not inherit
    loader = torch.utils.data.DataLoader(answers, batch_size=None, num_workers=2, multiprocessing_context="fork")
    for found, own in zip(loader, expected, strict=True):
        assert_same_bits(found, own)


@pytest.mark.parametrize("name", LAYERS)
def test_shapes_are_known_without_values(name: str) -> None:
    from torch._subclasses import FakeTensorMode

    real = getattr(ft, name)(5, 7, 2, bidirectional=True, dropout=0.2)
    expected = [o.shape for o in flat(real(torch.randn(4, 3, 5)))]
    with FakeTensorMode():
        module = getattr(ft, name)(5, 7, 2, bidirectional=True, dropout=0.2)
        outputs = flat(module(torch.randn(4, 3, 5)))
        outputs[0].sum().backward()
        assert [o.shape for o in outputs] == expected
        assert module.weight_hh_l0.grad.shape == module.weight_hh_l0.shape
    module = real.to("meta")
    x = torch.empty(4, 3, 5, device="meta")
    for function in (module, torch.compile(module, fullgraph=True, backend="aot_eager")):
        outputs = flat(function(x))
        assert [(o.shape, o.device.type) for o in outputs] == [(shape, "meta") for shape in expected]


def test_packed_sequences_part_the_graph() -> None:
    module = ft.GRU(5, 7)
    packed = nn.utils.rnn.pack_sequence([torch.randn(4, 5), torch.randn(2, 5)])
    compiled = torch.compile(module, backend="eager")
    assert_same_bits(compiled(packed)[0].data, module(packed)[0].data)
    torch.compiler.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported, match="the padded tensor and lengths="):
        torch.compile(module, backend="eager", fullgraph=True)(packed)


def test_operators_have_no_second_derivatives_either() -> None:
    module = ft.LSTM(5, 7)
    x = nn.Parameter(torch.randn(4, 3, 5))  # a tensor of another class, as which might replace what is done to it
    with pytest.raises(RuntimeError, match="no second derivatives"):
        torch.autograd.grad(module(x)[0].sum(), [x], create_graph=True)


@pytest.mark.parametrize("kind", ["lstm", "gru_reset_after", "rnn_tanh"])
@pytest.mark.parametrize("saves", [True, False])
def test_the_training_operator_is_what_its_registration_says(kind: str, saves: bool) -> None:
    gates = {"lstm": 4, "gru_reset_after": 3, "rnn_tanh": 1}[kind]

    def drawn(*shape: int) -> Any:
        return torch.randn(shape, requires_grad=True)

    tensors = drawn(4, 3, 5), drawn(3, 7), drawn(3, 7) if kind == "lstm" else None
    weights = drawn(gates * 7, 5), drawn(gates * 7, 7), drawn(gates * 7), drawn(gates * 7), None
    given = torch.tensor([4, 1, 3]), None, torch.rand(4, 3) < 0.3, torch.tensor(5)
    options = kind, False, 0, [0.2, 0.1, 0.0], False, saves, 1
    # What is saved has room for steps past a sequence's end, which nothing writes or reads, so results of two calls are
    # not compared.
    torch.library.opcheck(
        torch.ops.fusedcell.train_forward,
        (*tensors, *weights, *given, *options),
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )


def test_the_other_operators_are_what_their_registrations_say() -> None:
    x, weight = torch.randn(6, 5, requires_grad=True), torch.randn(7, 5, requires_grad=True)
    torch.library.opcheck(torch.ops.fusedcell.linear, (x, weight, torch.randn(7, requires_grad=True), 1))
    torch.library.opcheck(torch.ops.fusedcell.linear, (x, weight, None, 1))
    x = torch.randn(4, 3, 5, requires_grad=True)
    torch.library.opcheck(torch.ops.fusedcell.dropout, (x, torch.tensor(3), 0, 0.3))
