"""torch.compile and torch.export keep an accelerated module as one operator, with the bits of a plain call."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from torch_models import (
    CELLS,
    LAYERS,
    NO_ONEDNN,
    Graphs,
    assert_close,
    assert_same_bits,
    ft,
    make,
    nn,
    states,
    torch,
    trained_tagger,
)

# Compilers warn of what they find in PyTorch and Python; errors are what counts here.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
    pytest.mark.filterwarnings(NO_ONEDNN),
]


@pytest.fixture(autouse=True)
def _forget_compiled_code() -> None:
    torch.compiler.reset()


def calls(graph: Any) -> list[str]:
    """The operators that a graph calls, but for those that take results apart."""
    targets = [str(node.target).removesuffix(".default") for node in graph.nodes if node.op.startswith("call_")]
    return [target for target in targets if "getitem" not in target]


@pytest.mark.parametrize("name", LAYERS + CELLS)
@pytest.mark.parametrize("with_state", [False, True])
def test_compiled_code_has_one_operator_and_the_same_bits(name: str, with_state: bool) -> None:
    module = make(name, 5, 6)
    ft.accelerate(module)
    backend = Graphs()
    compiled = torch.compile(module, fullgraph=True, backend=backend)
    x = torch.randn(4, 3, 5) if name in LAYERS else torch.randn(3, 5)
    state = states(module, 3) if with_state else None
    with torch.inference_mode():
        assert_same_bits(compiled(x, state), module(x, state))
    (graph,) = backend.graphs
    assert calls(graph) == ["fusedcell.layer" if name in LAYERS else "fusedcell.cell"]


def test_inductor_compiles_a_whole_model_for_any_size() -> None:
    model = trained_tagger()
    ft.accelerate(model)
    compiled = torch.compile(model, fullgraph=True, dynamic=True)
    with torch.inference_mode():
        for shape in ((3, 9), (5, 4), (2, 13)):
            tokens = torch.randint(0, 20, shape)
            assert_close(compiled(tokens), model(tokens), atol=1e-6)
        for parameter in model.layers[0].parameters():  # changes are seen by code that is compiled already
            parameter.mul_(1.5)
        assert_close(compiled(tokens), model(tokens), atol=1e-6)


def test_a_parametrised_module_compiles() -> None:
    module = make("GRU", 5, 6)
    nn.utils.parametrizations.weight_norm(module, "weight_hh_l0")
    ft.accelerate(module)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    with torch.inference_mode():
        for _ in range(2):
            x = torch.randn(4, 3, 5)
            assert_close(compiled(x), module(x))
            module.parametrizations.weight_hh_l0.original0.mul_(1.5)


def test_compiled_code_follows_undo() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = make("GRUCell", 5, 6)

        def forward(self, x: Any) -> Any:
            return self.cell(x)

    module = Model().eval()
    report = ft.accelerate(module)
    backend = Graphs()
    compiled = torch.compile(module, fullgraph=True, backend=backend)
    x = torch.randn(3, 5)
    with torch.inference_mode():
        compiled(x)
        report.undo()
        assert_same_bits(compiled(x), module(x))
    assert len(backend.graphs) == 2
    assert not any("fusedcell" in target for target in calls(backend.graphs[1]))


def test_compiled_code_refuses_training_and_gradients() -> None:
    module = make("LSTM", 5, 6)
    ft.accelerate(module)
    compiled = torch.compile(module, backend="eager")
    with pytest.raises(RuntimeError, match="computes no gradients"):
        compiled(torch.randn(3, 5))
    with torch.no_grad(), pytest.raises(RuntimeError, match="is in training mode"):
        compiled.train()(torch.randn(3, 5))


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("LSTM", {"num_layers": 2, "bidirectional": True, "batch_first": True}),
        ("LSTM", {"proj_size": 3}),
        ("GRU", {"bias": False}),
        ("RNN", {"nonlinearity": "relu"}),
    ],
)
def test_exported_programs_carry_their_weights_and_take_any_size(
    name: str, options: dict[str, Any], strict: bool
) -> None:
    module = make(name, 5, 6, **options)
    steps, batch = torch.export.Dim("steps", min=2), torch.export.Dim("batch", min=2)
    with torch.no_grad():
        expected = [(x, module(x)) for x in (torch.randn(4, 3, 5), torch.randn(9, 2, 5), torch.randn(2, 11, 5))]
        ft.accelerate(module)
        exported = torch.export.export(module, (expected[0][0],), dynamic_shapes=({0: steps, 1: batch},), strict=strict)
        assert calls(exported.graph) == ["fusedcell.layer"]
        file = io.BytesIO()
        torch.export.save(exported, file)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.zero_()
        del module, exported
        file.seek(0)
        loaded = torch.export.load(file).module()
        for x, y in expected:
            assert_close(loaded(x), y)


def test_cells_export() -> None:
    module = make("LSTMCell", 5, 6)
    x, state = torch.randn(3, 5), states(module, 3)
    ft.accelerate(module)
    with torch.no_grad():
        exported = torch.export.export(module, (x, state))
        assert_same_bits(exported.module()(x, state), module(x, state))


def test_an_exported_program_runs_in_another_process(tmp_path: Path) -> None:
    module = make("GRU", 5, 6)
    ft.accelerate(module, "bfloat16")
    x = torch.randn(4, 3, 5)
    with torch.no_grad():
        torch.export.save(torch.export.export(module, (x,)), tmp_path / "program.pt2")
        torch.save((x, module(x)), tmp_path / "data.pt")
    script = """
import sys, torch, fusedcell.torch
program = torch.export.load(sys.argv[1] + "/program.pt2").module()
x, expected = torch.load(sys.argv[1] + "/data.pt")
for a, e in zip(program(x), expected):
    assert torch.equal(a, e)
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # as of PyTorch's own modules, which compare sizes too
def test_a_trace_keeps_the_operator_and_no_constants() -> None:
    module = make("LSTM", 5, 6)
    ft.accelerate(module)
    with torch.no_grad():
        traced = torch.jit.trace(module, torch.randn(4, 3, 5))
        x = torch.randn(7, 2, 5)
        assert "fusedcell::layer" in str(traced.graph)
        assert_same_bits(traced(x), module(x))


def test_recording_modes_meet_the_operator() -> None:
    from torch._subclasses import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx

    module = make("LSTM", 5, 6, bidirectional=True)
    ft.accelerate(module)
    with torch.no_grad():
        graph = make_fx(lambda x: module(x)[0])(torch.randn(4, 3, 5))
        assert "fusedcell.layer.default" in str(graph.graph)
        x = torch.randn(4, 3, 5)
        assert_same_bits(graph(x), module(x)[0])
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            y, (h, c) = module(mode.from_tensor(x))
        assert (y.shape, h.shape, c.shape) == ((4, 3, 12), (2, 3, 6), (2, 3, 6))


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("shape", [(4, 3, 5), (4, 5), (0, 3, 5)])
@pytest.mark.parametrize("batch_first", [False, True])
def test_the_layer_operator_is_what_its_registration_says(name: str, shape: tuple[int, ...], batch_first: bool) -> None:
    options = {"proj_size": 3} if name == "LSTM" else {}
    module = make(name, 5, 6, 2, bidirectional=True, **options)
    weights = [parameter.detach() for parameter in module.parameters()]
    arguments = (name, "tanh", 2, True, True, bool(options), batch_first, "float32", None, 1)
    torch.library.opcheck(torch.ops.fusedcell.layer, (torch.randn(shape), *[None] * 5, weights, *arguments))


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("with_state", [False, True])
def test_the_layer_operator_is_that_of_packed_sequences_too(name: str, with_state: bool) -> None:
    module = make(name, 5, 6, 2, bidirectional=True)
    weights = [parameter.detach() for parameter in module.parameters()]
    state = states(module, 3) if with_state else None
    h, c = state if isinstance(state, tuple) else (state, None)
    sizes, arguments = torch.tensor([3, 3, 1]), (name, "tanh", 2, True, True, False, False, "float32", None, 1)
    torch.library.opcheck(
        torch.ops.fusedcell.layer,
        (torch.randn(7, 5), h, c, sizes, None, None, weights, *arguments),
        test_utils=("test_schema", "test_faketensor"),  # gradients of a size that the data says are not for this
    )


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("batch", [(), (3,)])
def test_the_cell_operator_is_what_its_registration_says(name: str, batch: tuple[int, ...]) -> None:
    module = make(name, 5, 6)
    weights = [parameter.detach() for parameter in module.parameters()]
    state = states(module, *batch)
    h, c = state if isinstance(state, tuple) else (state, None)
    torch.library.opcheck(
        torch.ops.fusedcell.cell, (torch.randn(*batch, 5), h, c, weights, name, "tanh", True, "float32", None)
    )


def test_importing_fusedcell_does_not_import_pytorch() -> None:
    script = "import sys, fusedcell; assert 'torch' not in sys.modules and 'fusedcell.torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_without_pytorch_the_error_names_the_extra() -> None:
    script = "import sys; sys.modules['torch'] = None; import fusedcell.torch"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "ImportError: fusedcell.torch needs PyTorch: pip install fusedcell[torch]" in result.stderr
