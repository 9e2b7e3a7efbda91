"""What readers of whole models share: symbolic tensors, and the nodes that their operations make."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fusedcell as fc
from fusedcell.convert.tracing import BATCH, TIME, RefusedError, Tracer

B, T = 3, 37
rng = np.random.default_rng(0)


def array(*shape: int) -> Any:
    return rng.standard_normal(shape)


def traced(*axes: Any) -> tuple[Tracer, Any]:
    tracer = Tracer((B,), (T,))
    return tracer, tracer.input("x", axes)


def answer(tracer: Tracer, y: Any, x: Any) -> tuple[fc.Model, Any]:
    model = tracer.finish([("y", y)]).make(fc.Model)
    return model, model(x)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (0, 1, 3, 2)], ids=["rows are time", "columns are time"])
def test_a_convolution_along_time_and_features_is_the_same_for_images_on_their_side(order: tuple[int, ...]) -> None:
    x, weight, bias = array(2, 2, 11, 8), array(4, 2, 3, 5), array(4)
    padded = np.pad(x, ((0, 0), (0, 0), (2, 0), (1, 2)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 5), (2, 3))[:, :, :, ::2]
    expected = np.einsum("bctfij,ocij->botf", windows, weight) + bias[:, None, None]
    axes = tuple(np.array((BATCH, 2, TIME, 8), object)[list(order)])
    tracer, symbol = traced(*[axis if isinstance(axis, str) else int(axis) for axis in axes])
    options: Any = {"stride": (1, 2), "dilation": (1, 1), "padding": ((2, 0), (1, 2))}
    if order[2] == 3:
        options = {name: given[::-1] for name, given in options.items()}
    y = tracer.conv(symbol, weight.transpose(order), bias, **options)
    _, got = answer(tracer, y, x.transpose(order).astype(np.float32))
    np.testing.assert_allclose(got, expected.transpose(order), rtol=0, atol=1e-5)


def test_a_convolution_of_an_image_without_a_batch_axis_is_that_of_the_image() -> None:
    tracer, x = traced(1, 2, 6, 8)
    weight, given = array(4, 2, 3, 5), array(1, 2, 6, 8).astype(np.float32)
    y = tracer.conv(x, weight, None, stride=(2, 1), dilation=(1, 1), padding=((1, 1), (2, 2)))
    assert y.axes == (1, 4, 3, 8)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(given, ((0, 0), (0, 0), (1, 1), (2, 2))), (3, 5), (2, 3))
    expected = np.einsum("bctfij,ocij->botf", windows[:, :, ::2], weight)
    spec = tracer.finish([("y", y)])
    got = fc.Model(spec.nodes, {"x": given.size}, spec.outputs)(given.reshape(1, -1))
    np.testing.assert_allclose(got, expected.reshape(1, -1), rtol=0, atol=1e-5)


def test_rows_that_a_convolution_makes_for_nothing_are_not_made_so_that_nothing_waits_for_them() -> None:
    tracer, x = traced(BATCH, 2, TIME)
    weight = array(4, 2, 5)
    y = tracer.conv(x, weight, None, stride=(1,), dilation=(1,), padding=((4, 4),))
    y = tracer.activation(tracer.slice(y, 2, 0, T), "Relu")
    model, got = answer(tracer, y, given := array(2, 2, 9).astype(np.float32))
    assert [type(node).__name__ for _, node, _ in model.nodes] == ["Window"]
    assert model.delay == 0
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(given, ((0, 0), (0, 0), (4, 0))), 5, 2)
    np.testing.assert_allclose(got, np.maximum(np.einsum("bctk,ock->bot", windows, weight), 0), rtol=0, atol=1e-5)


def test_a_norm_and_an_activation_behind_a_convolution_inside_rows_become_part_of_it() -> None:
    tracer, x = traced((BATCH, TIME), 2, 8)
    weight, mean, variance = array(4, 2, 3), array(4), 1 + array(4) ** 2
    y = tracer.conv(x, weight, None, stride=(1,), dilation=(1,), padding=((1, 1),))
    y = tracer.activation(tracer.batch_norm(y, 1, mean, variance, None, None, 0.0), "Tanh")
    y = y.reshaped([(B, T, 32)])
    spec = tracer.finish([("y", y)])
    assert [type(node).__name__ for _, node, _ in spec.nodes] == ["Take", "Window", "Take"]
    model = fc.Model(spec.nodes, {"x": 16}, spec.outputs)
    given = array(5, 16).astype(np.float32)
    padded = np.pad(given.reshape(5, 2, 8), ((0, 0), (0, 0), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, 3, 2)
    made = np.einsum("tcfk,ock->tof", windows, weight)
    expected = np.tanh((made - mean[:, None]) / np.sqrt(variance)[:, None])
    np.testing.assert_allclose(model(given), expected.reshape(5, 32), rtol=0, atol=1e-5)


def test_sums_of_what_was_moved_alike_are_moved_once() -> None:
    tracer, x = traced(BATCH, TIME, 4, 3)
    first, second = (tracer.linear(x, array(3, 3)).permuted((0, 1, 3, 2)) for _ in range(2))
    spec = tracer.finish([("y", tracer.add(first, second))])
    assert [type(node).__name__ for _, node, _ in spec.nodes] == ["Window", "Window", "Add", "Take"]


def test_a_state_that_is_also_read_as_data_is_refused() -> None:
    tracer, x = traced(BATCH, TIME, 4)
    state = tracer.input("h", (1, BATCH, 2))
    y = tracer.concat([x, tracer.expand(state.permuted((1, 0, 2)), [(B, T, 2)])], 2)
    tracer.graph.as_state("h")
    with pytest.raises(RefusedError, match="the state 'h' is read otherwise"):
        tracer.finish([("y", y)])


@pytest.mark.parametrize(
    ("axes", "shape", "made"),
    [
        ((BATCH, TIME, 6), (B * T, 6), ((BATCH, TIME), 6)),
        (((BATCH, TIME), 6), (B, T, 2, 3), (BATCH, TIME, 2, 3)),
        ((BATCH, 1, TIME, 4, 2), (B, T, 8), (BATCH, TIME, 8)),
        ((BATCH, TIME, 4), (1, B, T, 4, 1), (1, BATCH, TIME, 4, 1)),
        ((BATCH, 6, TIME), (B * 6, T), ((BATCH, 6), TIME)),
        ((BATCH, TIME, 4), (B, -1), (BATCH, (TIME, 4))),
    ],
)
def test_reshapes_keep_batch_and_time_whole(axes: Any, shape: Any, made: Any) -> None:
    _, x = traced(*axes)
    assert x.reshaped([shape]).axes == made


def test_reshapes_that_mix_are_refused() -> None:
    _, x = traced(BATCH, TIME, 6)
    with pytest.raises(RefusedError, match="mixes batch, time and features"):
        x.reshaped([(B * 2, T, 3)])
    with pytest.raises(RefusedError, match="which has another size"):
        x.reshaped([(B, T, 7)])


@pytest.mark.parametrize("count", [2, 3])
def test_rows_become_one_and_what_is_left_at_the_end_goes(count: int) -> None:
    tracer, x = traced(BATCH, TIME, 4)
    y = tracer.joined(x, count)
    assert y.shapes == [(B, T // count, 4 * count)]
    for steps in (count, 10, 11):
        given = array(2, steps, 4).astype(np.float32)
        _, got = answer(tracer, y, given)
        whole = steps // count
        np.testing.assert_array_equal(got, given[:, : whole * count].reshape(2, whole, 4 * count))


def test_a_row_becomes_several_of_its_parts_or_of_itself() -> None:
    tracer, x = traced(BATCH, TIME, 6)
    given = array(2, 5, 6).astype(np.float32)
    parts = tracer.spread(x, x.indices, 3, axes=(BATCH, TIME, 2))
    assert parts.shapes == [(B, 3 * T, 2)]
    np.testing.assert_array_equal(answer(tracer, parts, given)[1], given.reshape(2, 15, 2))
    tracer, x = traced(BATCH, TIME, 6)
    same = tracer.spread(x, np.tile(x.indices, 2), 2)
    np.testing.assert_array_equal(answer(tracer, same, given)[1], given.repeat(2, 1))


def test_rows_that_run_backwards_are_not_spread() -> None:
    tracer, x = traced(BATCH, TIME, 6)
    with pytest.raises(RefusedError, match="runs backwards"):
        tracer.spread(x.flipped([1]), x.indices, 2)


@pytest.mark.parametrize("copies", [3, 5000])
def test_a_feature_that_stands_beside_itself_often_is_no_source_each_time(copies: int) -> None:
    tracer, x = traced(BATCH, 1)
    y = tracer.activation(tracer.expand(x, [(B, copies)]), "Tanh")
    given = array(2, 1).astype(np.float32)
    model, got = answer(tracer, y, given)
    np.testing.assert_allclose(got, np.tanh(given).repeat(copies, 1), rtol=0, atol=1e-6)
    assert all(isinstance(sources, str) or len(sources) <= 1024 for *_, sources in model.nodes)
