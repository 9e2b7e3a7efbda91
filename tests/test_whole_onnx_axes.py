"""Which axes of a graph are batch and time."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


from whole_onnx import array, assert_agrees, graph_of, recurrent_arrays


def test_a_graph_of_fixed_sizes_takes_others_where_nothing_in_it_depends_on_them() -> None:
    body = "a = Transpose <perm=[1,0,2]> (x) b, h = GRU <hidden_size=5> (a, W, R, B) y = Squeeze(b, one)"
    model = graph_of(body, "float[1,7,4] x", one=np.array([1]), **recurrent_arrays("GRU"))
    ours = assert_agrees(model, [(1, 7)])
    assert ours(np.zeros((3, 9, 4))).shape == (9, 3, 5)
    fixed = graph_of("a = Reshape(x, s) b = MatMul(a, w) y = Reshape(b, t)", "float[1,7,4] x",
                     s=np.array([7, 4]), t=np.array([1, 7, 3]), w=array(4, 3))  # fmt: skip
    assert_agrees(fixed, [(1, 7)])
