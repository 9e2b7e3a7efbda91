"""Whole models that Hypothesis draws: as fusedcell takes them, and as the specification does."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from fusedcell import nodes
from fusedcell.reference import ModelNode
from model_entries import LENGTHS, DrawnModel, Entry, Value
from models import GENERAL_KINDS, KINDS, GeneralKind, Kind, layer_from_cells, random_state, reference_options, uniform

SIZES = st.integers(1, 40)
# What functions take, alpha and beta as both sides are given them.
ELEMENTWISE: tuple[tuple[Any, ...], ...] = (
    ("Relu",),
    ("Tanh",),
    ("Sigmoid",),
    ("Affine", 0.5, -0.25),
    ("LeakyRelu", 0.125),
    ("ThresholdedRelu", 0.25),
    ("ScaledTanh", 1.25, 0.75),
    ("HardSigmoid", 0.25, 0.5),
    ("Elu", 0.75),
    ("Softsign",),
    ("Softplus",),
    ("Gelu",),
    ("GeluTanh",),
    ("Silu",),
    ("Clip", -0.5, 0.75),
    ("Abs",),
)
GROWING = ("Exp", "Square")  # on what is about 1 in size alone, as a few in a row leave the range of floats
ROOTS = ("Sqrt", "Log")  # of what Softplus gives
BOUNDED = ("Tanh", "Sigmoid", "ScaledTanh", "HardSigmoid", "Softsign", "Clip")


def windows_of(rows: Sequence[int], span: int, stride: int, padding: tuple[int, int]) -> np.ndarray:
    """How many windows of so many rows there are."""
    return np.maximum(0, (np.array(rows) + sum(padding) - span) // stride + 1)


class Drawing:
    """A model while it is drawn."""

    def __init__(self, draw: Callable[[Any], Any], has_streams: bool) -> None:
        self.draw = draw
        self.has_streams = has_streams
        self.seed = 1000 * draw(st.integers(1, 50))
        self.values: dict[str, Value] = {}
        self.entries: list[Entry] = []
        every = tuple(map(int, LENGTHS))
        self.inputs = [
            Value(f"in{i}", draw(st.integers(1, 12)), every, about_one=True) for i in range(draw(st.integers(1, 2)))
        ]
        if draw(st.integers(0, 4)) == 0:
            self.inputs.append(Value("tokens", 1, every, tokens=draw(st.integers(1, 30))))
        self.values |= {value.name: value for value in self.inputs}
        if self.inputs[-1].tokens:
            self.embedding()

    def floats(self, *shape: int) -> np.ndarray:
        self.seed += 1
        return uniform(self.seed, *shape)

    def matrix(self, rows: int, columns: int) -> np.ndarray:
        return self.floats(rows, columns) * np.float32(1.5 / np.sqrt(columns))

    def maybe(self, array: np.ndarray) -> np.ndarray | None:
        return array if self.draw(st.integers(0, 3)) else None

    def pick(self, *items: Any) -> Any:
        return self.draw(st.sampled_from(items))

    def add(
        self,
        node: Any,
        sources: Sequence[Value],
        description: Sequence[tuple[str, Mapping[str, Any]]],
        size: int,
        rows: Sequence[int] | np.ndarray | None = None,
        **properties: Any,
    ) -> Value:
        """Appends a node, which the specification has as one or several, one after another."""
        name = f"{type(node).__name__.lower()}{len(self.entries)}"
        names = tuple(source.name for source in sources)
        steps = []
        for i, (kind, arguments) in enumerate(description):
            is_last = i == len(description) - 1
            steps.append(
                ModelNode(
                    name if is_last else f"{name}.{i}", kind, names if i == 0 else (f"{name}.{i - 1}",), arguments
                )
            )
        self.entries.append(Entry(name, node, names, tuple(steps)))
        properties.setdefault("pooled", sources[0].pooled)
        counts = sources[0].rows if rows is None else tuple(map(int, rows))
        self.values[name] = Value(name, size, counts, **properties)
        return self.values[name]

    # What a node may read

    def source(self, *, pooled: bool = True) -> Value:
        """A value, most often the newest."""
        found = [v for v in self.values.values() if not v.tokens and (pooled or not v.pooled)]
        return found[-1] if self.draw(st.integers(0, 2)) else self.pick(*reversed(found))

    def beside(self, value: Value) -> list[Value]:
        """Values that may come together with this one, which is among them, last."""
        return [
            v
            for v in self.values.values()
            if not v.tokens and v.name != value.name and v.pooled == value.pooled and v.rows == value.rows
        ] + [value]

    def sources(self, *, pooled: bool = True) -> list[Value]:
        """One value, or several that are read beside each other."""
        value = self.source(pooled=pooled)
        more = (
            self.draw(st.lists(st.sampled_from(self.beside(value)[::-1]), max_size=2))
            if self.draw(st.booleans())
            else []
        )
        return [value, *more]

    # Nodes

    def embedding(self) -> None:
        tokens = self.inputs[-1]
        table = self.floats(tokens.tokens, self.draw(SIZES))
        self.add(nodes.Embedding(table), [tokens], [("embedding", {"table": table})], table.shape[1], about_one=True)

    def activation(self) -> tuple[tuple[Any, ...] | str | None, list[tuple[str, Any]], bool]:
        """As a node takes it, as the specification has it, and whether it is bounded."""
        found = self.pick(None, *ELEMENTWISE, "softmax", "log_softmax")
        if found is None:
            return None, [], False
        if isinstance(found, str):
            return found, [(found, {})], found == "softmax"
        return found, [("activation", named(found))], found[0] in BOUNDED

    def dense(self, sources: Sequence[Value] | None = None, size: int | None = None) -> Value:
        read = self.sources() if sources is None else list(sources)
        weight = self.matrix(self.draw(SIZES) if size is None else size, sum(v.size for v in read))
        bias = self.maybe(self.floats(len(weight)))
        function, steps, bounded = self.activation()
        node = nodes.Dense(weight, bias, activation=function)
        description = [("window", {"weight": weight, "bias": bias}), *steps]
        return self.add(node, read, description, len(weight), about_one=bounded or all(v.about_one for v in read))

    def padding(self, span: int) -> tuple[int, int]:
        kind = self.pick("causal", "same", "valid", "any")
        if kind == "causal":
            return span - 1, 0
        if kind == "valid":
            return 0, 0
        left = self.draw(st.integers(-3, span + 2))
        return left, span - 1 - left if kind == "same" else self.draw(st.integers(-3, span + 2))

    def stride(self, value: Value) -> int:
        """Such that enough rows are left."""
        return self.draw(st.integers(1, 3)) if value.rows[-1] >= 60 else 1

    def repeat(self, value: Value) -> int:
        return self.draw(st.integers(1, 3)) if value.rows[-1] <= 400 else 1

    def window(self) -> None:
        read = self.sources(pooled=False)
        taps, dilation = self.draw(st.integers(1, 5)), self.draw(st.integers(1, 3))
        span = (taps - 1) * dilation + 1
        options = {"taps": taps, "stride": self.stride(read[0]), "dilation": dilation, "padding": self.padding(span)}
        self.convolution(read, options)
        # Another that has as many rows of the same, so that both can meet.
        if self.draw(st.booleans()):
            taps, dilation = self.draw(st.integers(1, 5)), self.draw(st.integers(1, 3))
            total = sum(options["padding"]) - span + (taps - 1) * dilation + 1
            left = self.draw(st.integers(-2, 6))
            self.convolution(read, options | {"taps": taps, "dilation": dilation, "padding": (left, total - left)})

    def convolution(self, read: Sequence[Value], options: dict[str, Any]) -> None:
        size = sum(v.size for v in read)
        groups = self.pick(*(g for g in (1, 2, 3) if size % g == 0))
        repeat = self.repeat(read[0])
        outputs = groups * repeat * self.draw(st.integers(1, 12))
        weight = self.matrix(outputs, options["taps"] * size // groups)
        bias = self.maybe(self.floats(outputs))
        function, steps, bounded = self.activation()
        if repeat > 1 and isinstance(function, str):
            function, steps, bounded = None, [], False
        node = nodes.Window(weight, bias, groups=groups, repeat=repeat, activation=function, **options)
        arguments = {"weight": weight, "bias": bias, "groups": groups, "repeat": repeat, **options}
        span = (options["taps"] - 1) * options["dilation"] + 1
        rows = repeat * windows_of(read[0].rows, span, options["stride"], options["padding"])
        about_one = bounded or all(v.about_one for v in read)
        self.add(node, read, [("window", arguments), *steps], outputs // repeat, rows, about_one=about_one)

    def transposed(self) -> None:
        read = self.sources(pooled=False)
        size = sum(v.size for v in read)
        groups = self.pick(*(g for g in (1, 2, 3) if size % g == 0))
        stride, taps = self.repeat(read[0]), self.draw(st.integers(1, 7))
        options: dict[str, Any] = {
            "stride": stride,
            "padding": self.draw(st.integers(0, 3)),
            "output_padding": self.draw(st.integers(0, stride - 1)),
            "groups": groups,
        }
        outputs = self.draw(st.integers(1, 8))
        weight = self.floats(size, outputs, taps) * np.float32(1 / np.sqrt(size * taps / groups))
        bias = self.maybe(self.floats(groups * outputs))
        node = nodes.Window.transposed(weight, bias, **options)
        rows = (np.array(read[0].rows) - 1) * stride - 2 * options["padding"] + taps + options["output_padding"]
        arguments = {"weight": weight, "bias": bias, **options}
        self.add(node, read, [("transposed", arguments)], groups * outputs, np.maximum(0, rows))

    def over_rows(self) -> None:
        """Depthwise, or a pool."""
        read = self.sources(pooled=False)
        size = sum(v.size for v in read)
        kind = self.pick("depthwise", "max_pool", "mean_pool")
        taps, dilation = self.draw(st.integers(1, 4)), self.draw(st.integers(1, 3))
        span = (taps - 1) * dilation + 1
        options = {"stride": self.stride(read[0]), "dilation": dilation, "padding": self.padding(span)}
        about_one = all(v.about_one for v in read)
        if kind == "depthwise":
            weight, bias = self.floats(taps, size), self.maybe(self.floats(size))
            node: Any = nodes.Depthwise(weight, bias, **options)
            description = [(kind, {"weight": weight, "bias": bias, **options})]
        elif kind == "max_pool":
            options["padding"] = self.pick((0, 0), (-1, 0), (0, -2))
            node, description = nodes.MaxPool(taps, **options), [(kind, {"taps": taps, **options})]
        else:
            node, description = nodes.MeanPool(taps, **options), [(kind, {"taps": taps, **options})]
        rows = windows_of(read[0].rows, span, options["stride"], options["padding"])
        self.add(node, read, description, size, rows, about_one=about_one)

    def in_rows(self) -> None:
        """A window, a depthwise one or a pool inside each row."""
        read = self.sources()
        size = sum(v.size for v in read)
        positions = self.pick(*(p for p in (1, 2, 3, 4, 5, 6, 8, 10, 12) if size % p == 0))
        features = size // positions
        taps, dilation = self.draw(st.integers(1, 3)), self.draw(st.integers(1, 2))
        kind = self.pick("window", "depthwise", "max_pool", "mean_pool")
        span = (taps - 1) * dilation + 1
        pad = st.just(0) if kind == "max_pool" else st.integers(0, 2)
        padding = (self.draw(pad), self.draw(pad))
        if positions + sum(padding) < span:
            taps, span = 1, 1
        options = {
            "stride": self.draw(st.integers(1, 2)),
            "dilation": dilation,
            "padding": padding,
            "positions": positions,
        }
        count = int(windows_of([positions], span, options["stride"], padding)[0])
        about_one = all(v.about_one for v in read)
        node: Any
        if kind in ("max_pool", "mean_pool"):
            node = (nodes.MaxPool if kind == "max_pool" else nodes.MeanPool)(taps, **options)
            self.add(node, read, [(kind, {"taps": taps, **options})], count * features, about_one=about_one)
            return
        if kind == "depthwise":
            weight, bias, outputs = self.floats(taps, features), self.maybe(self.floats(features)), features
            arguments = {"weight": weight, "bias": bias, **options}
            node = nodes.Depthwise(weight, bias, **options)
        else:
            groups = self.pick(*(g for g in (1, 2) if features % g == 0))
            outputs = groups * self.draw(st.integers(1, 4))
            weight, bias = self.matrix(outputs, taps * features // groups), self.maybe(self.floats(outputs))
            arguments = {"weight": weight, "bias": bias, "taps": taps, "groups": groups, **options}
            node = nodes.Window(weight, bias, taps=taps, groups=groups, **options)
        self.add(node, read, [(kind, arguments)], count * outputs, about_one=about_one)

    def layer(self) -> None:
        read = self.sources(pooled=False)
        kind: Kind = self.pick(*KINDS, *GENERAL_KINDS)
        size = sum(v.size for v in read)
        positions = self.pick(None, None, None, *(count for count in range(1, size + 1) if size % count == 0))
        is_one_way = self.has_streams and positions is None
        directions = 1 if is_one_way else self.draw(st.integers(1, 2))
        reverse = not is_one_way and directions == 1 and kind in KINDS and self.draw(st.booleans())
        layers = 1 if reverse else self.draw(st.integers(1, 2))
        self.seed += 1
        size //= positions or 1
        mapping = kind.weights(size, self.draw(SIZES), layers=layers, directions=directions, seed=self.seed)
        made = kind.make(mapping)
        if reverse:
            arrays = {name.removesuffix("_l0"): array for name, array in mapping.items()}
            made = layer_from_cells(kind.name.removesuffix("_projected"), [arrays], reverse=True)
        state = random_state(kind, mapping) if self.draw(st.booleans()) else None
        if state is not None:
            parts = state if isinstance(state, tuple) else (state,)
            made = made.with_initial_state(*(part[:, None] for part in parts))
        arguments = {"kind": kind.reference.__name__, "layers": mapping, "state": state, "reverse": reverse}
        arguments |= {**kind.options, "positions": positions}
        if isinstance(kind, GeneralKind):
            arguments |= reference_options(kind.cell_options)
        outputs = directions * mapping["weight_hh_l0"].shape[1] * (positions or 1)
        made = made if positions is None else nodes.Inside(made, positions)
        about_one = not any(name in kind.name for name in ("relu", "elu", "hard", "leaky", "projected"))
        self.add(made, read, [("layer", arguments)], outputs, about_one=about_one)

    def elementwise(self) -> None:
        value = self.source()
        if self.draw(st.integers(0, 4)) == 0:
            softplus = self.elementwise_of(value, ("Softplus",), about_one=value.about_one)
            self.elementwise_of(softplus, (self.pick(*ROOTS),), about_one=False)
        elif value.about_one and self.draw(st.integers(0, 2)) == 0:
            self.elementwise_of(value, (self.pick(*GROWING),), about_one=False)
        else:
            function = self.pick(*ELEMENTWISE)
            self.elementwise_of(value, function, about_one=value.about_one or function[0] in BOUNDED)

    def elementwise_of(self, value: Value, function: tuple[Any, ...], *, about_one: bool) -> Value:
        node = nodes.Activation(*function)
        return self.add(node, [value], [("activation", named(function))], value.size, about_one=about_one)

    def row(self) -> None:
        """What looks at one row: a norm, softmax, a scale, part of it."""
        read = self.sources()
        size = sum(v.size for v in read)
        parts = self.pick(*(p for p in (1, 2, 3, 4) if size % p == 0))
        weight, bias = self.maybe(self.floats(size)), self.maybe(self.floats(size))
        about_one = all(v.about_one for v in read)
        kind = self.pick("softmax", "log_softmax", "layer_norm", "rms_norm", "l2_norm", "scale", "prelu", "take", "glu")
        if kind in ("softmax", "log_softmax", "l2_norm"):
            make = {"softmax": nodes.Softmax, "log_softmax": nodes.LogSoftmax, "l2_norm": nodes.L2Norm}[kind]
            self.add(make(parts=parts), read, [(kind, {"parts": parts})], size, about_one=kind != "log_softmax")
        elif kind == "layer_norm":
            norm = nodes.LayerNorm(weight, bias, parts=parts, eps=2.0**-10)
            arguments: dict[str, Any] = {"weight": weight, "bias": bias, "parts": parts, "eps": 2.0**-10}
            self.add(norm, read, [(kind, arguments)], size)
        elif kind == "rms_norm":
            node: Any = nodes.RMSNorm(weight, parts=parts, eps=2.0**-10)
            self.add(node, read, [(kind, {"weight": weight, "parts": parts, "eps": 2.0**-10})], size)
        elif kind == "scale":
            weight = self.floats(size)
            node = nodes.Scale(weight, bias)
            self.add(node, read, [(kind, {"weight": weight, "bias": bias})], size, about_one=about_one)
        elif kind == "prelu":
            slope = self.floats(size)
            self.add(nodes.PReLU(slope), read, [(kind, {"slope": slope})], size, about_one=about_one)
        elif kind == "take" or size % 2:
            indices = self.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=20))
            if self.draw(st.booleans()):
                indices = list(range(min(indices), max(indices) + 1))
            self.add(nodes.Take(indices), read, [("take", {"indices": indices})], len(indices), about_one=about_one)
        else:
            self.add(nodes.GLU(), read, [("glu", {})], size // 2, about_one=about_one)

    def combine(self) -> None:
        """The sum or product of values of one size, one of which is made so."""
        value = self.source()
        others = [v for v in self.beside(value) if v.size == value.size]
        read = [value, self.pick(*others)]
        if self.draw(st.booleans()):
            read[1] = self.dense([self.pick(*self.beside(value))], value.size)
        if self.draw(st.integers(0, 3)) == 0:
            read.append(self.pick(*others))
        if self.draw(st.booleans()) and all(v.about_one for v in read):
            self.add(nodes.Multiply(), read, [("multiply", {})], value.size)
        else:
            self.add(nodes.Add(), read, [("add", {})], value.size)

    def rows(self) -> None:
        value = self.source(pooled=False)
        padding = (self.draw(st.integers(-3, 3)), self.draw(st.integers(-3, 3)))
        rows = windows_of(value.rows, 1, 1, padding)
        self.add(
            nodes.Rows(*padding), [value], [("rows", {"padding": padding})], value.size, rows, about_one=value.about_one
        )

    def pool(self) -> None:
        value = self.source(pooled=False)
        kinds: list[tuple[Any, str, dict[str, Any]]] = [(nodes.Last(), "last", {})]
        if not self.has_streams:
            kinds += [(nodes.Mean(), "mean", {}), (nodes.Max(), "max", {}), (nodes.Sum(), "sum", {})]
            if value.size % 2 == 0:
                kinds.append((nodes.Last(num_directions=2), "last", {"num_directions": 2}))
        node, kind, arguments = self.pick(*kinds)
        rows = np.minimum(value.rows, 1)
        about_one = value.about_one and kind != "sum"
        self.add(node, [value], [(kind, arguments)], value.size, rows, pooled=True, about_one=about_one)

    def finish(self) -> DrawnModel:
        """Outputs are the newest value and perhaps others; what these do not need is left out."""
        newest = list(self.values.values())[-1]
        outputs = [newest.name]
        if self.draw(st.integers(0, 3)) == 0:
            same = [v for v in self.beside(newest)[:-1] if v.name not in {i.name for i in self.inputs}]
            outputs += [self.pick(*same).name] if same else []
        needed = set(outputs)
        kept: list[Entry] = []
        for entry in reversed(self.entries):
            if entry.name in needed:
                needed |= set(entry.sources)
                kept.append(entry)
        inputs = tuple(value for value in self.inputs if value.name in needed)
        values = {name: value for name, value in self.values.items() if name in needed}
        return DrawnModel(inputs, tuple(reversed(kept)), tuple(outputs), values, self.has_streams)


def named(function: Sequence[Any]) -> dict[str, Any]:
    """The specification's arguments of an activation with its alpha and beta."""
    return dict(zip(("name", "alpha", "beta"), function, strict=False))


@st.composite
def drawn_models(draw: Any, *, has_streams: bool | None = None, most_nodes: int = 7) -> DrawnModel:
    """A model of up to so many draws, and some of two nodes; one in four has no streams, unless it is said."""
    drawing = Drawing(draw, draw(st.integers(0, 3)) > 0 if has_streams is None else has_streams)
    over_time = [
        drawing.window,
        drawing.window,
        drawing.transposed,
        drawing.over_rows,
        drawing.layer,
        drawing.layer,
        drawing.rows,
    ]
    of_rows = [drawing.dense, drawing.row, drawing.row, drawing.elementwise, drawing.combine, drawing.in_rows]
    for make in draw(st.lists(st.sampled_from(over_time + of_rows), min_size=1, max_size=most_nodes)):
        make()
    if draw(st.integers(0, 3)) == 0:
        drawing.pool()
        for make in draw(st.lists(st.sampled_from(of_rows), max_size=2)):
            make()
    return drawing.finish()


def blocks(rows: int) -> st.SearchStrategy[list[tuple[int, int]]]:
    """Cuts of so many rows: (begin, end) of each block, some of them empty."""
    inner = st.lists(st.integers(0, rows), max_size=6).map(sorted)
    return inner.map(lambda cuts: list(itertools.pairwise([0, *cuts, rows])))
