"""Which axes of a graph are batch and time."""

from __future__ import annotations

import ast
import re
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


import fusedcell as fc
from fusedcell.errors import UnsupportedError
from whole_onnx import array, assert_agrees, graph_of, recurrent_arrays


def test_a_graph_of_fixed_sizes_takes_others_where_nothing_in_it_depends_on_them() -> None:
    body = "a = Transpose <perm=[1,0,2]> (x) b, h = GRU <hidden_size=5> (a, W, R, B) y = Squeeze(b, one)"
    model = graph_of(body, "float[1,7,4] x", one=np.array([1]), **recurrent_arrays("GRU"))
    ours = assert_agrees(model, [(1, 7)])
    assert ours(np.zeros((3, 9, 4))).shape == (9, 3, 5)
    fixed = graph_of("a = Reshape(x, s) b = MatMul(a, w) y = Reshape(b, t)", "float[1,7,4] x",
                     s=np.array([7, 4]), t=np.array([1, 7, 3]), w=array(4, 3))  # fmt: skip
    assert_agrees(fixed, [(1, 7)])


CONV = "c = Conv <pads=[1,0]> (x, K) p = Relu(c)"
# Graphs of fixed sizes whose names say nothing, and where time is.
FIXED: dict[str, tuple[str, str, dict[str, Any], tuple[Any, ...]]] = {
    "channels, then time": (
        "float[1,4,100] x",
        f"{CONV} t = Transpose <perm=[2,0,1]> (p) y, h = GRU <hidden_size=5> (t, W, R, B)",
        {"K": array(4, 4, 2), **recurrent_arrays("GRU")},
        ("batch", 4, "time"),
    ),
    "channels, then time, convolved alone": (
        "float[1,4,100] x", f"{CONV} y = Tanh(p)", {"K": array(4, 4, 2)}, ("batch", 4, "time"),
    ),
    "an image of text": (
        "float[1,1,8,64] x",
        "c = Conv <pads=[1,1,1,1]> (x, K) p = MaxPool <kernel_shape=[8,1], strides=[8,1]> (c) s = Squeeze(p, two) "
        "t = Transpose <perm=[2,0,1]> (s) y, h = GRU <hidden_size=5> (t, W, R, B)",
        {"K": array(4, 1, 3, 3), "two": [2], **recurrent_arrays("GRU")},
        ("batch", 1, 8, "time"),
    ),
    "a spectrum": (
        "float[1,2,6,40] x",
        "c = Conv <pads=[1,2,1,0]> (x, K) t = Transpose <perm=[3,0,1,2]> (c) f = Reshape(t, s) "
        "y, h = GRU <hidden_size=5> (f, W, R, B)",
        {"K": array(3, 2, 3, 3), "s": [0, 0, -1], **recurrent_arrays("GRU", inputs=18)},
        ("batch", 2, 6, "time"),
    ),
    "a spectrum on its side": (
        "float[1,2,40,6] x",
        "c = Conv <pads=[2,1,0,1]> (x, K) t = Transpose <perm=[2,0,1,3]> (c) f = Reshape(t, s) "
        "y, h = GRU <hidden_size=5> (f, W, R, B)",
        {"K": array(3, 2, 3, 3), "s": [0, 0, -1], **recurrent_arrays("GRU", inputs=18)},
        ("batch", 2, "time", 6),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FIXED)
def test_time_is_found_at_any_axis_of_fixed_sizes(name: str) -> None:
    inputs, body, constants, axes = FIXED[name]
    ours = assert_agrees(graph_of(body, inputs, **constants), [(1, 0)])
    assert ours.axes["x"] == axes


def test_a_graph_that_is_the_same_along_several_axes_is_read_by_the_axes_that_it_is_given() -> None:
    model = graph_of("y = Conv <pads=[1,1,1,1]> (x, K)", "float[1,2,6,40] x", K=array(3, 2, 3, 3))
    with pytest.raises(UnsupportedError, match="several axes may be time") as refused:
        fc.Model.from_onnx(model)
    advice = re.findall(r"axes=(\{.*?\})", str(refused.value))
    assert str(refused.value).endswith(advice[-1])
    given = [ast.literal_eval(each) for each in advice]
    assert given == [{"x": ("batch", 2, "time", 40)}, {"x": ("batch", 2, 6, "time")}]
    for axes in given:
        assert assert_agrees(model, [(1, 0)], axes=axes).axes["x"] == axes["x"]


@pytest.mark.parametrize(
    ("inputs", "axes"),
    [
        ("float[batch,time,4] x", {"x": ("batch", "time", 4)}),
        ("float[7,1,4] x", {"x": ("batch", "time", 4)}),
        ("float[n,40] x, float[n,3,time] z", {"x": ("batch", 40), "z": ("batch", 3, "time")}),
        ("float[time,batch] x", {"x": ("time", "batch")}),
        ("float[a,b,c] x", {"x": ("batch", "time", "c")}),
    ],
)
def test_a_refusal_ends_with_the_axes_to_paste_and_change(inputs: str, axes: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError) as refused:
        fc.Model.from_onnx(graph_of("y = Det(x)", inputs))
    assert ast.literal_eval(str(refused.value).rpartition(" axes=")[2]) == axes
