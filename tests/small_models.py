"""Small whole models: one with every node, and some of few."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fusedcell import nodes
from models import KIND, uniform

NodeList = list[tuple[str, Any, Any]]


def every_node() -> NodeList:
    """One of each, of an x of 12 features and of 5 tokens t."""
    elu = ("elu", 0.5)
    gru, lstm = KIND["gru_reset_after"], KIND["lstm"]
    state = (uniform(1, 1, 1, 3), uniform(2, 1, 1, 3))
    two_ways = lstm.make(lstm.weights(4, 1, directions=2))
    return [
        ("emb", nodes.Embedding(uniform(3, 5, 4)).astype("bfloat16"), "t"),
        ("conv", nodes.Window(uniform(4, 8, 18), uniform(5, 8), taps=3, padding=(2, 0), groups=2, activation=elu), "x"),
        ("inside", nodes.Window(uniform(6, 2, 6), taps=2, positions=4, padding=1), "x"),
        ("up", nodes.Window(uniform(7, 6, 12), uniform(8, 6), taps=1, repeat=2), "x"),
        ("depthwise", nodes.Depthwise(uniform(9, 3, 12), uniform(10, 12), padding=(2, 0), dilation=1), "x"),
        ("largest", nodes.MaxPool(2, stride=1, padding=(-1, 0)), "x"),
        ("means", nodes.MeanPool(2, positions=4), "x"),
        ("clip", nodes.Activation("clip", -1, 1), "conv"),
        ("add", nodes.Add(), ("conv", "clip")),
        ("multiply", nodes.Multiply(), ("conv", "clip", "add")),
        ("scale", nodes.Scale(uniform(11, 8), uniform(12, 8)), "add"),
        ("prelu", nodes.PReLU(uniform(13, 8)), "scale"),
        ("glu", nodes.GLU(), "prelu"),
        ("softmax", nodes.Softmax(parts=2), "glu"),
        ("log_softmax", nodes.LogSoftmax(), "glu"),
        ("layer_norm", nodes.LayerNorm(uniform(14, 8), uniform(15, 8), parts=2), "add"),
        ("rms_norm", nodes.RMSNorm(uniform(16, 8), eps=1e-6), "add"),
        ("l2_norm", nodes.L2Norm(), "add"),
        ("take", nodes.Take([3, 1, 0, 3], repeat=2), "add"),
        ("slice", nodes.Take(range(2, 6)), "add"),
        ("rows", nodes.Rows(1, -1), "slice"),
        ("gru", gru.make(gru.weights(8, 3), dtype="int8"), ("emb", "slice")),
        ("lstm", lstm.make(lstm.weights(3, 3)).with_initial_state(*state), "gru"),
        ("both", lstm.make(lstm.weights(3, 2, directions=2)), "gru"),
        ("along", nodes.Inside(two_ways.with_initial_state(uniform(19, 2, 1, 1), uniform(20, 2, 1, 1)), 2), "add"),
        ("along_mean", nodes.Mean(), "along"),
        ("last", nodes.Last(2), "both"),
        ("mean", nodes.Mean(), "lstm"),
        ("max", nodes.Max(), "lstm"),
        ("sum", nodes.Sum(), "lstm"),
        ("head", nodes.Dense(uniform(17, 2, 17), uniform(18, 2)).astype("int8"),
         ("last", "mean", "max", "sum", "along_mean")),
    ]  # fmt: skip


def small_models() -> Iterator[NodeList]:
    """The nodes of models that go step by step, and of one that cannot."""
    gru = KIND["gru_reset_after"].make(KIND["gru_reset_after"].weights(2, 2))
    yield [
        ("conv", nodes.Window(uniform(1, 2, 6), taps=3, stride=2, padding=(1, 1), activation="relu"), "x"),
        ("gru", gru, "conv"),
        ("head", nodes.Dense(uniform(2, 2, 4), activation="softmax"), ("conv", "gru")),
    ]
    yield [
        ("down", nodes.Window(uniform(3, 4, 4), taps=2, stride=2), "x"),
        ("up", nodes.Window.transposed(uniform(4, 4, 2, 4), stride=2, padding=1), "down"),
        ("sum", nodes.Add(), ("up", "x")),
        ("norm", nodes.LayerNorm(uniform(5, 2)), "sum"),
    ]
    yield [("embedding", nodes.Embedding(uniform(6, 3, 2)), "t"), ("gru", gru, "embedding"), ("y", nodes.Mean(), "gru")]
    yield every_node()
