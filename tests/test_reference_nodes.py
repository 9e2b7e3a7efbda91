"""The specification of models' nodes agrees with PyTorch's float64 functions to 1e-12."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from drawn import examples
from fusedcell import reference
from fusedcell.reference import nodes, windows

torch = pytest.importorskip("torch")
F = torch.nn.functional

small = st.integers(1, 4)
ROWS = np.random.default_rng(3).standard_normal((9, 12))


def drawn(*shape: int, seed: int = 5) -> Any:
    return np.random.default_rng(seed).standard_normal(shape)


def as_torch(rows: Any) -> Any:
    """(T, C) as PyTorch's (1, C, T)."""
    return torch.from_numpy(rows.T.copy())[None]


def assert_same(ours: Any, theirs: Any) -> None:
    theirs = theirs.numpy()
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


def channels_last(y: Any) -> Any:
    return y[0].T


@settings(max_examples=examples(40))
@given(
    steps=st.integers(0, 20),
    taps=st.integers(1, 5),
    stride=small,
    dilation=small,
    groups=small,
    sizes=st.tuples(small, small),
    left=st.integers(-3, 7),
    right=st.integers(-3, 7),
    has_bias=st.booleans(),
)
def test_windows_are_convolutions(
    steps: int,
    taps: int,
    stride: int,
    dilation: int,
    groups: int,
    sizes: tuple[int, int],
    left: int,
    right: int,
    has_bias: bool,
) -> None:
    inputs, outputs = (groups * size for size in sizes)
    weight, bias = drawn(outputs, inputs // groups, taps), drawn(outputs) if has_bias else None
    x = drawn(steps, inputs)
    # PyTorch refuses what leaves no rows.
    assume(steps + min(left, 0) + min(right, 0) > 0 and steps + left + right > (taps - 1) * dilation)
    padded = F.pad(as_torch(x), (left, right))
    theirs = F.conv1d(
        padded,
        torch.from_numpy(weight),
        None if bias is None else torch.from_numpy(bias),
        stride=stride,
        dilation=dilation,
        groups=groups,
    )
    matrix = weight.swapaxes(1, 2).reshape(outputs, -1)  # the taps' features beside each other
    options: Any = {"taps": taps, "stride": stride, "dilation": dilation, "padding": (left, right)}
    assert_same(windows.window(x, matrix, bias, groups=groups, **options), channels_last(theirs))
    # Every row, seen as positions, is such a sequence.
    flat = np.stack([x.reshape(-1), 2 * x.reshape(-1)])
    y = windows.window(flat, matrix, bias, groups=groups, positions=steps, **options)
    assert_same(y[0], channels_last(theirs).reshape(-1))
    assert y.shape == (2, theirs.numel())

    depth = F.conv1d(padded, torch.from_numpy(weight[:1, :1]).expand(inputs, 1, -1), None, stride, 0, dilation, inputs)
    tap_weights = np.repeat(weight[0, 0][:, None], inputs, axis=1)
    del options["taps"]
    assert_same(windows.depthwise(x, tap_weights, **options), channels_last(depth))
    assert_same(windows.depthwise(flat, tap_weights, positions=steps, **options)[0], channels_last(depth).reshape(-1))


@settings(max_examples=examples(40))
@given(
    steps=st.integers(1, 12),
    taps=st.integers(1, 8),
    stride=st.integers(1, 5),
    groups=small,
    padding=st.integers(0, 5),
    more=st.integers(0, 4),
)
def test_transposed_convolutions(steps: int, taps: int, stride: int, groups: int, padding: int, more: int) -> None:
    assume(more < stride and (steps - 1) * stride - 2 * padding + taps + more > 0)
    weight, bias, x = drawn(2 * groups, 3, taps), drawn(3 * groups), drawn(steps, 2 * groups)
    theirs = F.conv_transpose1d(
        as_torch(x), torch.from_numpy(weight), torch.from_numpy(bias), stride, padding, more, groups
    )
    options = {"stride": stride, "padding": padding, "output_padding": more, "groups": groups}
    assert_same(windows.transposed(x, weight, bias, **options), channels_last(theirs))


@settings(max_examples=examples(40))
@given(steps=st.integers(1, 20), taps=st.integers(1, 5), stride=small, dilation=small, padding=st.integers(0, 2))
def test_pools(steps: int, taps: int, stride: int, dilation: int, padding: int) -> None:
    x = drawn(steps, 3)
    if steps > (taps - 1) * dilation:
        theirs = F.max_pool1d(as_torch(x), taps, stride, 0, dilation)
        assert_same(windows.max_pool(x, taps=taps, stride=stride, dilation=dilation), channels_last(theirs))
    if 2 * padding <= taps <= steps + 2 * padding:
        theirs = F.avg_pool1d(as_torch(x), taps, stride, padding)
        assert_same(windows.mean_pool(x, taps=taps, stride=stride, padding=(padding, padding)), channels_last(theirs))
        inside = windows.mean_pool(
            x.reshape(1, -1), taps=taps, stride=stride, padding=(padding, padding), positions=steps
        )
        assert_same(inside[0], channels_last(theirs).reshape(-1))


def test_pools_without_a_stride_do_not_overlap() -> None:
    np.testing.assert_array_equal(windows.max_pool([[1.0], [3.0], [2.0], [0.0], [9.0]], taps=2), [[3.0], [2.0]])
    np.testing.assert_array_equal(windows.mean_pool([[1.0], [3.0], [2.0], [0.0], [9.0]], taps=2), [[2.0], [1.0]])


@pytest.mark.parametrize("parts", [1, 3])
def test_norms_and_softmax(parts: int) -> None:
    weight, bias = drawn(12), drawn(12, seed=6)
    inner = torch.from_numpy(ROWS.reshape(9, parts, -1))
    size = inner.shape[-1]

    def of_parts(function: Any, *more: Any, **options: Any) -> Any:
        return function(inner, *more, **options).reshape(9, 12)

    assert_same(nodes.softmax(ROWS, parts=parts), of_parts(F.softmax, dim=-1))
    assert_same(nodes.log_softmax(ROWS, parts=parts), of_parts(F.log_softmax, dim=-1))
    w, b = torch.from_numpy(weight), torch.from_numpy(bias)
    assert_same(
        nodes.layer_norm(ROWS, weight, bias, eps=1e-3, parts=parts), of_parts(F.layer_norm, (size,), eps=1e-3) * w + b
    )
    assert_same(nodes.layer_norm(ROWS, parts=parts), of_parts(F.layer_norm, (size,)))
    assert_same(nodes.rms_norm(ROWS, weight, eps=1e-3, parts=parts), of_parts(F.rms_norm, (size,), eps=1e-3) * w)
    assert_same(nodes.l2_norm(ROWS, parts=parts), of_parts(F.normalize, dim=-1))
    np.testing.assert_array_equal(nodes.l2_norm(np.zeros((1, 6))), np.zeros((1, 6)))


def test_norms_with_weights_are_the_frameworks() -> None:
    weight, bias = drawn(12), drawn(12, seed=6)
    x, w, b = map(torch.from_numpy, (ROWS, weight, bias))
    assert_same(nodes.layer_norm(ROWS, weight, bias), F.layer_norm(x, (12,), w, b))
    assert_same(nodes.rms_norm(ROWS, weight, eps=1e-6), F.rms_norm(x, (12,), w, 1e-6))


ELEMENTWISE: dict[str, Any] = {
    "Gelu": F.gelu,
    "GeluTanh": lambda x: F.gelu(x, approximate="tanh"),
    "Silu": F.silu,
    "Abs": torch.abs,
    "Square": torch.square,
    "Sqrt": torch.sqrt,
    "Exp": torch.exp,
    "Log": torch.log,
    "Relu": F.relu,
    "Elu": F.elu,
    "LeakyRelu": F.leaky_relu,
    "Tanh": torch.tanh,
    "Sigmoid": torch.sigmoid,
}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_functions(name: str) -> None:
    x = np.concatenate([np.linspace(-30, 30, 401), [-0.0, np.nan, np.inf, -np.inf]])[None]
    actual, expected = nodes.elementwise(x, name=name), ELEMENTWISE[name](torch.from_numpy(x)).numpy()
    if name in ("Gelu", "GeluTanh", "Silu"):  # PyTorch gives NaN for -inf, where the limit is 0
        assert actual[0, -1] == 0
        actual, expected = actual[:, :-1], expected[:, :-1]
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


def test_bounds_of_clip() -> None:
    assert nodes.elementwise([[-9.0, -0.5, 9.0]], name="Clip", alpha=-1, beta=6).tolist() == [[-1, -0.5, 6]]
    assert nodes.elementwise([[-9.0, 9.0]], name="Clip", alpha=0).tolist() == [[0, 9]]


def test_every_activation_has_a_value_in_the_middle() -> None:
    for name in reference.NODE_ACTIVATIONS:
        given_both = {"alpha": 0.5, "beta": 1.5} if name in ("Affine", "ScaledTanh", "Clip") else {}
        assert math.isfinite(nodes.elementwise([[0.75]], name=name, **given_both)[0, 0])


def test_what_looks_at_features_one_by_one() -> None:
    weight = drawn(12)
    x, w = torch.from_numpy(ROWS), torch.from_numpy(weight)
    assert_same(nodes.prelu(ROWS, weight), F.prelu(x, w))
    assert_same(nodes.glu(ROWS), F.glu(x))
    assert_same(nodes.scale(ROWS, weight, weight), x * w + w)
    assert_same(nodes.embedding(np.array([2, 0, 8]), ROWS), F.embedding(torch.tensor([2, 0, 8]), x))
    assert_same(nodes.take(ROWS, [3, 3, 0]), x[:, [3, 3, 0]])
    assert_same(nodes.add(ROWS, ROWS, ROWS), 3 * x)
    assert_same(nodes.multiply(ROWS, ROWS, ROWS), x**3)


def test_what_looks_at_all_rows() -> None:
    x = torch.from_numpy(ROWS)
    expected = {"mean": x.mean(0), "max": x.amax(0), "sum": x.sum(0), "last": x[-1]}
    for name, row in expected.items():
        assert_same(reference.NODES[name](ROWS), row[None])
        assert reference.NODES[name](ROWS[:0]).shape == (0, 12)


def test_the_last_row_of_both_directions_is_the_final_state() -> None:
    torch.manual_seed(1)
    module = torch.nn.GRU(12, 5, bidirectional=True).double()
    with torch.no_grad():
        h_n = module(torch.from_numpy(ROWS))[1].reshape(1, 10)
    y = reference.gru(ROWS, module.state_dict())[0]
    assert_same(nodes.last(y, num_directions=2), h_n)


def test_a_model_is_its_nodes_one_after_another() -> None:
    weight = drawn(4, 24)
    description = [
        reference.ModelNode("conv", "window", ("x",), {"weight": weight, "taps": 2, "padding": (1, 0)}),
        reference.ModelNode("both", "take", ("conv", "x"), {"indices": [0, 4]}),
        reference.ModelNode("sum", "add", ("both", "both")),
    ]
    values = reference.model(description, {"x": ROWS})
    before = np.concatenate([np.zeros((1, 12)), ROWS[:-1]])
    conv = np.concatenate([before, ROWS], axis=1) @ weight.T
    np.testing.assert_allclose(values["sum"], 2 * np.stack([conv[:, 0], ROWS[:, 0]], axis=1), rtol=1e-12)
    assert list(values) == ["x", "conv", "both", "sum"]


def test_sources_of_other_lengths_are_refused_by_name() -> None:
    description = [
        reference.ModelNode("short", "rows", ("x",), {"padding": (-1, 0)}),
        reference.ModelNode("sum", "add", ("short", "x")),
    ]
    with pytest.raises(ValueError, match="sum: expected sources with as many rows, got short 8, x 9"):
        reference.model(description, {"x": ROWS})


def test_int8_windows_quantise_what_each_group_sees() -> None:
    weight = drawn(4, 6)
    y = windows.window(ROWS, weight, taps=1, groups=2, int8=True)
    halves = [
        reference.int8_linear(part, *reference.quantise_weights(matrix), bounded=False)
        for part, matrix in zip(np.split(ROWS, 2, axis=1), np.split(weight, 2), strict=True)
    ]
    np.testing.assert_array_equal(y, np.concatenate(halves, axis=1))
