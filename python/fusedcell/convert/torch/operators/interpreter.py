"""How ATen operations are followed: the values of a graph's nodes, and the table of what follows which operation."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from ....weights.tensors import to_array
from ...tracing import RefusedError, Rows, Tracer
from ..export import NAMESPACE
from .values import OTHERWISE, Final, Lengths, Opaque, StateStep, Step, has_symbols, mapped


class _OtherFormError(RefusedError, AttributeError):
    """An operation without an argument that what follows it reads; one that may be absent is read by getattr."""


class Args(SimpleNamespace):
    """An operation's arguments, by name."""

    def __getattr__(self, name: str) -> Any:
        raise _OtherFormError(f"this form of the operation, without {name!r}, is not supported; {OTHERWISE}")


Operation = Callable[["Interpreter", Args, str], Any]

OPERATIONS: dict[str, Operation] = {}
# What moves a state moves what is carried on alike.
_MOVES = {"cat", "concat", "stack", "select", "slice", "squeeze", "unsqueeze", "unbind", "view", "reshape", "permute",
          "transpose", "split", "split_with_sizes", "chunk", "contiguous", "clone", "detach", "alias", "flatten",
          "unflatten", "index_select", "to"}  # fmt: skip


def operation(*names: str) -> Callable[[Operation], Operation]:
    """Registers what follows ATen operations of these names."""

    def add(function: Operation) -> Operation:
        OPERATIONS.update(dict.fromkeys(names, function))
        return function

    return add


class Interpreter:
    """The values of a graph's nodes: symbolic ones, or PyTorch's tensors where they do not depend on the input.

    - states: what is carried on, by the key of a sequence that begins with rows of a state: that state and its rows
    """

    def __init__(self, torch: Any, tracer: Tracer, loops: Any, writes: Any, lengths: Any) -> None:
        self.torch = torch
        self.tracer = tracer
        self.values: dict[Any, Any] = {}
        self.caches: dict[Any, tuple[Rows, int]] = {}
        self.loops = loops(self)
        self._writes = writes(tracer, self.loops)
        self.node: Any = None
        self._begun: dict[str, set[int]] = {}  # which features of a state layers begin with
        self._of_lengths = lengths

    def run(self, node: Any) -> None:
        """Computes a node. Raises RefusedError for what cannot be followed."""
        self.node = node
        args = self.torch.fx.map_arg(node.args, self.values.__getitem__)
        kwargs = self.torch.fx.map_arg(node.kwargs, self.values.__getitem__)
        if not has_symbols((args, kwargs)):
            if getattr(node.target, "namespace", "") == NAMESPACE:
                raise RefusedError("a recurrent layer over constants; supported: over what depends on the input")
            self.values[node] = node.target(*args, **kwargs)
            return
        if node.target is operator.getitem:
            self.values[node] = args[0][args[1]]
            return
        schema = getattr(node.target, "_schema", None)
        if schema is None:
            raise RefusedError(f"{getattr(node.target, '__name__', node.target)} is not supported; {OTHERWISE}")
        name = schema.name.removeprefix("aten::").removeprefix(f"{NAMESPACE}::").rstrip("_")
        place = _module_of(node) or name
        if name == "copy" and isinstance(args[0], self.torch.Tensor):
            self._writes.write(node, self.values, place)
            return
        if schema.is_mutable:
            _check_is_own(node)
        given = {argument.name: argument.default_value for argument in schema.arguments if argument.has_default_value()}
        given |= {argument.name: value for argument, value in zip(schema.arguments, args, strict=False)} | kwargs
        self.values[node] = self.follow(name, given, place)

    def follow(self, name: str, given: dict[str, Any], place: str) -> Any:
        """What an operation gives of these arguments."""
        if has_symbols(given, Lengths | Opaque):
            return self._of_lengths(self, name, Args(**given), place)
        follow = OPERATIONS.get(name)
        if follow is None:
            raise RefusedError(f"{name} is not supported; {OTHERWISE}")
        if has_symbols(given, Step | StateStep):
            return self.loops.run(name, follow, given, place)
        if has_symbols(given, Final) and name in _MOVES:
            carried = mapped(given, lambda value: value.carried if isinstance(value, Final) else value)
            if not any(value is None for value in _carried(given)):
                return self._moved(follow, given, carried, place)
        if name not in ("lstm", "gru", "rnn_tanh", "rnn_relu") and not name.endswith("_cell"):
            given = mapped(given, lambda value: value.value() if isinstance(value, Final) else value)
        return follow(self, Args(**given), place)

    def _moved(self, follow: Operation, given: Any, carried: Any, place: str) -> Any:
        def value() -> Any:
            if not done:
                plain = mapped(given, lambda item: item.value() if isinstance(item, Final) else item)
                done.append(follow(self, Args(**plain), place))
            return done[0]

        done: list[Any] = []
        made = follow(self, Args(**carried), place)
        if isinstance(made, Rows):
            return Final(value, made)
        return [Final(lambda i=i: value()[i], each) for i, each in enumerate(made)]  # type: ignore[misc] # bound now

    def constant(self, value: Any) -> Any:
        """A value as the tracer takes operands."""
        if isinstance(value, self.torch.Tensor):
            return value.detach().cpu().to(self.torch.float64).numpy()
        return value

    def array(self, value: Any) -> Any:
        """A weight, or None."""
        if value is None:
            return None
        if not isinstance(value, self.torch.Tensor):
            raise RefusedError("weights that are computed from the input")
        return to_array(value, "weight")

    def is_input(self, value: Any) -> bool:
        """Whether it is features of one of the module's inputs, which has no time."""
        return (
            isinstance(value, Rows)
            and value.kind == "held"
            and len(value.parts) == 1
            and self.tracer.graph.is_input(value.parts[0])
            and bool((value.indices >= 0).all())
        )

    def carried(self, state: Rows) -> Rows:
        """Makes an input a state; what has to come back in its place."""
        graph = self.tracer.graph
        name = graph.as_state(state.parts[0])
        begun = self._begun.setdefault(name, set())
        if not begun.isdisjoint(state.indices.tolist()):
            raise RefusedError(f"the state {name!r} as the beginning of two layers")
        begun.update(state.indices.tolist())
        graph.add_input(name + "'", graph.size(name), 0, graph.axes(name), held=True)
        return replace(state, parts=(graph.as_state(name + "'"),))


def _carried(given: Any) -> list[Any]:
    """Of each final state what is carried on, if anything, and tensors that are none."""
    found: list[Any] = []
    mapped(given, lambda value: found.append(getattr(value, "carried", value)) if has_symbols(value) else None)
    return found


def _check_is_own(node: Any) -> None:
    """Refuses a change in place of a view, if what it is a view of is read again."""
    base = node.args[0] if node.args else None
    while base is not None and hasattr(base, "users"):
        schema = getattr(base.target, "_schema", None)
        returns = schema.returns if schema is not None else ()
        if not returns or returns[0].alias_info is None or base.target._schema.is_mutable or not base.args:
            return
        base = base.args[0]
        if len(getattr(base, "users", ())) > 1:
            raise RefusedError("a change in place of part of a tensor; supported: one that makes a new tensor")


def _module_of(node: Any) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    path = next(reversed(list(stack.values())), ("",))[0] if stack else ""
    return str(path).removeprefix("L['self']").strip(".").replace("._modules", "")


def ints(value: Any) -> list[int]:
    """One number, or several."""
    return [value] if isinstance(value, int) else list(value)


def each(value: Any, count: int) -> Sequence[int]:
    """So many numbers, all alike where there is one."""
    values = ints(value)
    return values * count if len(values) == 1 else values
