"""accelerate with an example: whole submodules become one model, where that is the same answer and sooner."""

from __future__ import annotations

import copy
import io
import warnings
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import fusedcell.torch  # noqa: E402 - as torch may be absent
from fusedcell.torch import whole  # noqa: E402 - likewise

nn = torch.nn


class Encoder(nn.Module):  # type: ignore[name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(5, 12, 3, padding=1)
        self.norm = nn.BatchNorm1d(12)
        self.rnn = nn.GRU(12, 8, batch_first=True)

    def forward(self, x: Any) -> Any:
        y = torch.relu(self.norm(self.conv(x.transpose(1, 2))))
        return self.rnn(y.transpose(1, 2))[0]


class Attentive(nn.Module):  # type: ignore[name-defined]
    """Something that no model can be, around something that one can."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.head = nn.Linear(8, 3)

    def forward(self, x: Any) -> Any:
        y = self.encoder(x)
        weights = torch.softmax(y @ y.transpose(1, 2), -1)
        return self.head(weights @ y)


@pytest.fixture(autouse=True)
def always_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which of the two is faster is this machine's matter, and no promise."""
    monkeypatch.setattr(whole, "ratio", lambda *_: _Median(2.0))


class _Median:
    def __init__(self, p50: float) -> None:
        self.p50 = p50


def a_model() -> Any:
    torch.manual_seed(0)
    return Attentive().eval()


def test_the_largest_submodule_that_can_be_a_model_becomes_one_and_the_rest_stays() -> None:
    model, x = a_model(), torch.randn(2, 11, 5)
    with torch.inference_mode():
        expected = model(x)
        longer = torch.randn(3, 29, 5)
        expected_longer = model(longer)
        report = fusedcell.torch.accelerate(model, example=x)
        assert isinstance(model.encoder, whole.Whole)
        assert isinstance(model.encoder, Encoder)
        torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(model(longer), expected_longer, rtol=0, atol=1e-5)
    entries = {entry.name: entry for entry in report}
    assert not entries[""].swapped
    assert "depend on the input" in entries[""].reason
    assert entries["encoder"].swapped
    assert entries["encoder.rnn"].reason == "is within encoder, one model"


def test_undoing_gives_the_very_modules_back() -> None:
    model, x = a_model(), torch.randn(2, 11, 5)
    before = {name: type(module) for name, module in model.named_modules()}
    attributes = set(vars(model.encoder))
    with torch.inference_mode():
        expected = model(x)
        with fusedcell.torch.accelerate(model, example=x):
            pass
        assert {name: type(module) for name, module in model.named_modules()} == before
        assert set(vars(model.encoder)) == attributes
        assert torch.equal(model(x), expected)


def test_changed_weights_are_seen_at_the_next_call() -> None:
    model, x = a_model(), torch.randn(2, 11, 5)
    with torch.inference_mode():
        fusedcell.torch.accelerate(model, example=x)
    with torch.no_grad():
        model.encoder.conv.weight.mul_(2)
        model.encoder.norm.running_mean.add_(0.5)
        answer = model(x)
    plain = a_model()
    plain.load_state_dict(model.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(answer, plain(x), rtol=0, atol=1e-5)


def test_changed_attributes_are_seen_at_the_next_call() -> None:
    model, x = a_model(), torch.randn(2, 11, 5)
    with torch.no_grad():
        fusedcell.torch.accelerate(model, example=x)
        plain = a_model()
        model.encoder.norm.eps = plain.encoder.norm.eps = 1.0
        torch.testing.assert_close(model(x), plain(x), rtol=0, atol=1e-5)


def test_copies_and_pickles_are_of_pytorchs_class() -> None:
    model, x = a_model(), torch.randn(2, 11, 5)
    with torch.inference_mode():
        fusedcell.torch.accelerate(model, example=x)
        assert type(copy.deepcopy(model).encoder) is Encoder
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        loaded = torch.load(file, weights_only=False)
        assert type(loaded.encoder) is Encoder
        torch.testing.assert_close(loaded(x), model(x), rtol=0, atol=1e-5)


def test_what_is_slower_is_left_and_its_layers_are_swapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole, "ratio", lambda *_: _Median(0.5))
    model, x = a_model(), torch.randn(2, 11, 5)
    with torch.inference_mode():
        report = fusedcell.torch.accelerate(model, example=x)
    entries = {entry.name: entry for entry in report}
    assert entries["encoder"].reason == "as one model it is 0.50 times as fast"
    assert entries["encoder.rnn"].swapped


def test_training_and_gradients_and_other_arguments_raise() -> None:
    model, x = a_model(), torch.randn(2, 11, 5)
    with torch.inference_mode():
        fusedcell.torch.accelerate(model, example=x)
    with pytest.raises(RuntimeError, match="computes no gradients"):
        model.encoder(x)
    with torch.no_grad(), pytest.raises(TypeError, match="expected 1 tensors on the CPU"):
        model.encoder(x, x)
    with torch.no_grad(), pytest.raises(RuntimeError, match=r"call model.eval\(\)"):
        model.train().encoder(x)


def test_a_module_with_hooks_inside_stays() -> None:
    model, x = a_model(), torch.randn(2, 11, 5)
    seen = []
    model.encoder.conv.register_forward_hook(lambda *_: seen.append(1))
    with torch.inference_mode():
        report = fusedcell.torch.accelerate(model, example=x)
        seen.clear()
        model(x)
    assert seen == [1]
    assert {entry.name: entry.reason for entry in report}["encoder"].startswith("a module in it has hooks")


def test_narrower_weights_and_threads_are_as_asked() -> None:
    model, x = a_model(), torch.randn(2, 11, 5)
    with torch.inference_mode():
        expected = model(x)
        fusedcell.torch.accelerate(model, "int8", example=x, num_threads=2)
        assert model.encoder.fusedcell_model.nodes[0][1].dtype == "int8"
        torch.testing.assert_close(model(x), expected, rtol=0, atol=0.05)


def test_exports_see_pytorchs_modules() -> None:
    model, x = a_model(), torch.randn(2, 11, 5)
    with torch.no_grad():
        expected = model(x)
        fusedcell.torch.accelerate(model, example=x)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what PyTorch does to its own modules
            exported = torch.export.export(model, (x,)).module()
        torch.testing.assert_close(exported(x), expected, rtol=0, atol=1e-5)
