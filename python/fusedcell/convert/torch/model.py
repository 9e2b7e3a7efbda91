"""Whole models from PyTorch: a module is exported at several sizes, and each of its operations becomes nodes.

torch.export gives ATen operations with recurrent layers whole (https://docs.pytorch.org/docs/stable/export.html). What
differs between the exports is batch or time; a model comes of a module if the exports at all sizes make the same one,
and if it then answers as the module does.
"""

from __future__ import annotations

import copy
import re
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ... import _model_format
from ...errors import UnsupportedError
from ...model import Model
from ..spec import ModelSpec
from ..tracing import BATCH, TIME, OtherAxisError, OtherRowsError, RefusedError, Rows, Tracer
from .export import exported, users_line, without_dataclasses
from .operators import ATTENTION, Final, Interpreter, Lengths, Loops, Writes, name_of, of_lengths

LENGTHS = "lengths"
_Probes: TypeAlias = "tuple[tuple[int, int], ...]"
Roles: TypeAlias = "tuple[int | None, int | str | None]"  # which axes of an input are batch and time

# Sizes of a batch and of a sequence that a module has no reason to have anywhere else.
_PROBES = ((3, 37), (3, 53), (5, 37))
# Of modules that take numbers of rows of which other numbers are divisors.
_EVEN_PROBES = ((3, 37 * 8), (3, 53 * 8), (5, 37 * 8))
# By how many rows the example's can grow where a module takes some numbers of them only.
_STRIDES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 30, 32, 40, 48, 60, 64, 80, 96, 128, 160, 256, 320, 512)
_MOST_TRIED = 200
_TOLERANCE = 1e-4
_MANY_ROWS = 1025  # more than many modules have as their longest
_CONVERT = str(Path(__file__).parents[1])
_WHERE = re.compile(r'File "([^"]+)", line (\d+), in (.+)\n\s*(.*)')


@dataclass(frozen=True)
class _Source:
    """A module, and the arguments that it takes: those of `example` that are tensors, and the others as they are."""

    torch: Any
    module: Any
    leaves: Sequence[Any]
    structure: Any

    @property
    def tensors(self) -> list[Any]:
        """The inputs."""
        return [leaf for leaf in self.leaves if isinstance(leaf, self.torch.Tensor)]

    def arguments(self, tensors: Sequence[Any]) -> tuple[Any, ...]:
        """All arguments, with these tensors."""
        given = iter(tensors)
        leaves = [next(given) if isinstance(leaf, self.torch.Tensor) else leaf for leaf in self.leaves]
        return tuple(self.torch.utils._pytree.tree_unflatten(leaves, self.structure))

    def run(self, tensors: Sequence[Any]) -> list[Any]:
        """What the module answers, in a flat list."""
        with self.torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answers = self.module(*self.arguments([tensor.clone() for tensor in tensors]))
        found: list[Any] = self.torch.utils._pytree.tree_leaves(without_dataclasses(self.torch, answers))
        return found

    def attempt(self, tensors: Sequence[Any]) -> list[Any] | None:
        """The same, or None if it does not take them."""
        try:
            return self.run(tensors)
        except (RuntimeError, ValueError, IndexError, TypeError, AssertionError, self.torch.jit.Error):
            return None

    def runs(self, tensors: Sequence[Any]) -> bool:
        """Whether it takes them."""
        return self.attempt(tensors) is not None


@dataclass(frozen=True)
class _Followed:
    """What a module became.

    - spec: the model
    - chosen: which of the module's answers the model's are; the others are states
    - is_state: whether each input, but for lengths, is a state
    """

    spec: ModelSpec
    chosen: Sequence[int]
    is_state: Sequence[bool]


class _RefusedAtError(UnsupportedError):
    """With how many operations of the module were followed: all of them, where nothing else is said."""

    reached = sys.maxsize


class _DependsError(_RefusedAtError):
    """What the module does depends on the number of rows, so that others may be the better probes."""


def read_model(module: Any, example: Any) -> ModelSpec:
    """As :meth:`.Model.from_torch`."""
    torch: Any = sys.modules.get("torch")
    if type(module).__name__ == "ExportedProgram":
        raise UnsupportedError(
            "module: an ExportedProgram, which holds for some sizes; bring the module that it was made of"
        )
    if torch is None or not isinstance(module, torch.nn.Module):
        raise UnsupportedError(f"module: {type(module).__name__} is not a module of PyTorch")
    leaves, structure = torch.utils._pytree.tree_flatten(
        tuple(example) if isinstance(example, tuple | list) else (example,)
    )
    for value in leaves:
        if not isinstance(value, torch.Tensor | bool | int | float | str | None):
            raise TypeError(f"example: expected a tensor or a tuple of them, got {type(value).__name__}")
    source = _in_float32(_Source(torch, module, leaves, structure))
    for name, part in module.named_modules():
        if name and isinstance(part, torch.jit.ScriptModule) and not isinstance(module, torch.jit.ScriptModule):
            raise UnsupportedError(f"module: {name!r} of it is TorchScript; bring the module that this was made of")
        if ".nn.quantized." in type(part).__module__:
            raise UnsupportedError(f"module: {name or 'it'!r} is quantised; bring the module that it was made of")
    if not source.tensors:
        raise TypeError("example: expected a tensor or a tuple of them, got none")
    refusals: list[UnsupportedError] = []
    for probes, roles in _readings(source, refusals):
        try:
            followed = _read(source, roles, probes)
            _check(source, roles, followed)
            return followed.spec
        except UnsupportedError as error:
            refusals.append(error)
        except ValueError as error:  # of the model, for nodes that do not fit each other
            refusals.append(_RefusedAtError(f"module: no model can be made of it: {error}"))
    if refusals:
        farthest = max(refusals, key=lambda error: getattr(error, "reached", 0))
        raise UnsupportedError(str(farthest)) from None
    source.run(source.tensors)  # which says what is wrong with the example
    raise UnsupportedError(
        "module: it runs at no other number of rows than the example's, so none of its axes is time; supported: "
        "modules over sequences of any length"
    )


def _in_float32(source: _Source) -> _Source:
    """A copy of the module, and the example, in float32."""
    torch, module = source.torch, source.module
    try:  # or calls would leave their marks on buffers and attributes
        module = copy.deepcopy(module)
        for part in module.modules():
            if hasattr(part, "fusedcell_undo"):  # which trains for int8; a model is made of its float weights
                part.fusedcell_undo()
    except (RuntimeError, TypeError, NotImplementedError):  # of what cannot be copied, such as handles
        module = source.module
    held = [*module.parameters(), *module.buffers()]
    leaves = [
        leaf.detach().to(torch.float32) if isinstance(leaf, torch.Tensor) and leaf.is_floating_point() else leaf
        for leaf in source.leaves
    ]
    if any(tensor.is_floating_point() and tensor.dtype != torch.float32 for tensor in held):
        module = (copy.deepcopy(module) if module is source.module else module).float()
    return _Source(torch, module, leaves, source.structure)


def _readings(source: _Source, refusals: Sequence[Exception]) -> Iterator[tuple[_Probes, tuple[Roles, ...]]]:
    """What the axes of the inputs may be, the likeliest first, with sizes at which the module runs so.

    A module whose first input has axes enough for time is read without time only if none of them is. One whose first
    input has fewer is read otherwise only if they are not batch and time, or time alone.
    """
    first = source.tensors[0]
    every = list(islice(_assignments(source), _MOST_TRIED))
    together = first.ndim < (3 if first.is_floating_point() else 2)
    if together:
        usual: list[Roles] = [(None, 0)] if first.ndim == 1 else [(0, 1), (1, 0)]
        likely = [roles for roles in every if first.is_floating_point() and roles[0] in usual]
    else:
        likely = [roles for roles in every if any(isinstance(time, int) for _, time in roles)]
    others = [roles for roles in every if roles not in likely]
    for choices in (likely, others):
        sizes: list[Any] = [_PROBES, _EVEN_PROBES, *([] if choices is others and not together else _STRIDES)]
        found = False
        for place, given in enumerate(sizes):
            before = found
            for roles in choices:
                probes = given if isinstance(given, tuple) else _near(source, roles, given)
                if all(source.runs(_resized(source.torch, source.tensors, roles, probe)) for probe in probes):
                    found = True
                    yield probes, roles
            depends = any(isinstance(error, _DependsError) for error in refusals)
            if found and (not depends or (place > 1 and not before)):
                break
        if found and not together:
            return


def _near(source: _Source, roles: Sequence[Roles], stride: int) -> _Probes:
    """Numbers of rows a little larger than the example's, and about twice of it."""
    pairs = zip(source.tensors, roles, strict=True)
    steps = next((tensor.shape[time] for tensor, (_, time) in pairs if isinstance(time, int)), 1)
    whole = stride * -(-steps // stride)
    return ((3, steps + stride), (3, steps + stride + whole), (5, steps + stride))


def _assignments(source: _Source) -> Iterator[tuple[Roles, ...]]:
    """What the axes of the inputs may be, the likeliest first."""
    choices = [list(enumerate(_roles(source, tensor, place))) for place, tensor in enumerate(source.tensors)]
    count = 1
    for choice in choices:
        count *= len(choice)
    if count > 20_000:
        choices = [choice[:3] for choice in choices]
    ranked = sorted(product(*choices), key=lambda chosen: sum(rank for rank, _ in chosen))
    for chosen in ranked:
        yield tuple(roles for _, roles in chosen)


def _roles(source: _Source, tensor: Any, place: int) -> Sequence[Roles]:
    names = {type(part).__name__ for part in source.module.modules()}
    if not tensor.is_floating_point():
        if tensor.ndim == 1 and place > 0:
            return [(0, LENGTHS), (0, None), (None, 0)]
        return ([(None, None)], [(0, None), (None, 0)], [(0, 1), (1, 0)])[min(tensor.ndim, 2)]
    if not tensor.ndim:
        return [(None, None)]
    if tensor.ndim == 1:
        return [(None, None), (None, 0), (0, None)]
    if tensor.ndim == 2:
        goes_along = bool(names & {"RNN", "LSTM", "GRU", "Conv1d"}) and place == 0
        first: list[Roles] = [(None, 0), (None, 1), (0, None)] if goes_along else [(0, None), (None, 0), (None, 1)]
        return [*first, (0, 1), (1, 0), (None, None)]
    found: list[Roles] = [(0, 1), (1, 0), (0, 2)]
    found += [(0, axis) for axis in range(3, tensor.ndim)]
    rest: list[Roles] = [(1, None), (0, None), (None, None), (1, 2)]
    return [*found, *rest] if place == 0 else [*rest[:2], *found, *rest[2:]]


def _resized(torch: Any, tensors: Sequence[Any], roles: Sequence[Roles], probe: tuple[int, int]) -> list[Any]:
    made = []
    for tensor, (batch, time) in zip(tensors, roles, strict=True):
        if time == LENGTHS:
            # The longest first, as packed sequences have them.
            rows = [max(1, probe[1] - 2 * place) for place in range(probe[0])]
            made.append(torch.tensor(rows, dtype=tensor.dtype))
            continue
        for axis, size in zip((batch, time), probe, strict=True):
            if axis is not None:
                tensor = tensor.index_select(axis, torch.arange(size) % tensor.shape[axis])
        made.append(tensor)
    return made


def _read(source: _Source, roles: Sequence[Roles], probes: Sequence[tuple[int, int]]) -> _Followed:
    every: list[_Followed] = []
    files = set()
    for probe in probes:
        resized = _resized(source.torch, source.tensors, roles, probe)
        program, packed = exported(source.torch, source.module, source.arguments(resized))
        followed = _traced(source, program, resized, roles, probe)
        if packed and LENGTHS not in [time for _, time in roles]:
            raise UnsupportedError("module: packed sequences whose lengths are none of its inputs")
        every.append(followed)
        spec = followed.spec
        files.add(_model_format.to_bytes(spec.nodes, spec.inputs, spec.outputs, spec.batch_first))
    specs = [followed.spec for followed in every]
    if len(files) > 1 or any(spec.axes != specs[0].axes for spec in specs):
        raise _DependsError(
            f"module: what it computes{_where_they_differ(specs)} depends on the number of rows or sequences; "
            "supported: the same at any"
        )
    return every[0]


def _where_they_differ(specs: Sequence[ModelSpec]) -> str:
    for several in zip(*(spec.nodes for spec in specs), strict=False):
        numbers = [
            tuple(value.tobytes() for value in vars(node).values() if isinstance(value, np.ndarray))
            for _, node, _ in several
        ]
        if len({f"{name} {node!r} {source}" for name, node, source in several}) > 1 or len(set(numbers)) > 1:
            return f" at {several[0][0]!r}"
    return ""


def _traced(
    source: _Source, program: Any, tensors: Sequence[Any], roles: Sequence[Roles], probe: tuple[int, int]
) -> _Followed:
    torch, (batch, steps) = source.torch, probe
    tracer = Tracer((batch,), (steps,))
    interpreter = Interpreter(torch, tracer, Loops, Writes, of_lengths)
    held = {**program.state_dict, **program.constants}
    given = iter(zip(tensors, roles, strict=True))
    leaves = iter(source.leaves)
    signature = program.graph_signature
    buffers = {**signature.inputs_to_buffers, **signature.inputs_to_lifted_tensor_constants}
    from_module = {**signature.inputs_to_parameters, **buffers}
    names: list[str] = []
    live = _live(program.graph)
    for reached, node in enumerate(program.graph.nodes):
        if node.op == "call_function" and node not in live:
            continue
        if node.op == "placeholder":
            if node.name in from_module:
                value = held[from_module[node.name]].detach()
                interpreter.values[node] = value.clone() if node.name in buffers else value
                continue
            leaf = next(leaves)
            if not isinstance(leaf, torch.Tensor):
                interpreter.values[node] = leaf
                continue
            tensor, (batch_axis, time_axis) = next(given)
            if time_axis == LENGTHS:
                interpreter.values[node] = Lengths()
                continue
            axes = tuple(
                BATCH if axis == batch_axis else TIME if axis == time_axis else size
                for axis, size in enumerate(tensor.shape)
            )
            names.append(node.name)
            interpreter.values[node] = tracer.input(node.name, axes, tokens=_tokens(node))
            continue
        try:
            if node.op == "output":
                return _finished(interpreter, node, names)
            interpreter.run(node)
        except Exception as error:  # of any kind, if it is our fault, which is no reason to stop whoever asks
            if isinstance(error, MemoryError | RecursionError):
                raise
            at = _answer_of(node, error) if node.op == "output" else node
            place = _place(torch, at) if at is not None else "module"
            what = _what(torch, node, error)
            cls = _DependsError if isinstance(error, OtherRowsError) else _RefusedAtError
            refused = cls(f"{place}: {what}")
            refused.reached = -1 if isinstance(error, OtherAxisError) else reached
            raise refused from error
    raise AssertionError("a graph without an output")


def _live(graph: Any) -> set[Any]:
    """The operations that answers are made of, or that write: not what a module keeps to itself, such as losses."""
    found: set[Any] = set()
    for node in reversed(graph.nodes):
        writes = getattr(getattr(node.target, "_schema", None), "is_mutable", False)
        if node.op == "output" or writes or not found.isdisjoint(node.users):
            found.add(node)
    return found


def _has_numbers(answer: Sequence[Any]) -> bool:
    """Whether it is not all NaN, as a mean is of no rows, where a model has zeros."""
    tensors = [tensor for tensor in answer if tensor is not None]
    return any(tensor.numel() == 0 or not bool(tensor.isnan().all()) for tensor in tensors)


def _tokens(node: Any) -> int:
    """How many tokens there are of an input that tables are read by, 0 for any other."""
    tables = [user.args[0] for user in node.users if name_of(user) == "embedding" and user.args[1] is node]
    return min((int(table.meta["val"].shape[0]) for table in tables), default=0)


def _what(torch: Any, node: Any, error: Exception) -> str:
    """Why an operation was not followed: by a refusal, by what a layer or node says of its weights, or by our fault."""
    modules = [kind for _, kind in (node.meta.get("nn_module_stack") or {}).values()]
    if any("MultiheadAttention" in str(kind) for kind in modules) and isinstance(error, RefusedError):
        return ATTENTION
    innermost = traceback.extract_tb(error.__traceback__)[-1].filename
    if isinstance(error, RefusedError) or (
        isinstance(error, ValueError | TypeError) and not innermost.startswith(_CONVERT)
    ):
        return str(error)
    first = next(iter(str(error).splitlines()), "")[:500]
    return f"following {node.target} failed by a fault of fusedcell, {type(error).__name__}: {first}; please report it"


def _answer_of(output: Any, error: Exception) -> Any:
    """The operation of the answer that an error is about, if there is one."""
    place = error.answer if isinstance(error, RefusedError) else None
    made = None if place is None else output.args[0][place]
    return made if getattr(made, "op", None) == "call_function" else None


def _finished(interpreter: Interpreter, node: Any, names: Sequence[str]) -> _Followed:
    graph = interpreter.tracer.graph
    given = [interpreter.values.get(value, value) for value in node.args[0]]
    for place, value in enumerate(given):
        try:
            given[place] = interpreter.loops.final(value)
        except RefusedError as error:
            error.answer = place
            raise
    states = [name for name in names if graph.is_state(name)]
    back = {name: place for name in states for place, value in enumerate(given) if _is_back(graph, name, value)}
    places = [back.get(name, -1) for name in states]
    if -1 in places:
        raise RefusedError(
            f"the state {states[places.index(-1)]!r} is not given back as the layer that takes it leaves it"
        )
    if places != sorted(set(places)):
        raise RefusedError(f"the states {', '.join(states)} are given back in another order than they are taken")
    chosen = [place for place, value in enumerate(given) if place not in places and value is not None]
    if not chosen:  # a cell, which answers with its h
        chosen = places[:1]
    answers = [value.value() if isinstance(value, Final) else value for value in (given[place] for place in chosen)]
    if not answers:
        raise RefusedError("it answers with nothing; return what is computed of the input")
    for place, answer in zip(chosen, answers, strict=True):
        if not isinstance(answer, Rows):
            refusal = RefusedError(
                f"answer {place}, from 0 on, is {_said(answer)}, which is not computed of the input; leave it out of "
                "what the module returns"
            )
            refusal.answer = place
            raise refusal
    notes = tuple(_not_carried(name, place) for name, place in _given_back(graph, names, states, chosen, answers))
    try:
        spec = interpreter.tracer.finish([("", answer) for answer in answers])
    except RefusedError as error:
        if error.answer is not None:
            error.answer = chosen[error.answer]
        raise
    return _Followed(replace(spec, notes=notes), chosen, [name in states for name in names])


def _said(answer: Any) -> str:
    """What an answer is that is none of the model's."""
    if isinstance(answer, Lengths):
        return "the sequences' lengths"
    shape = getattr(answer, "shape", None)
    return f"{answer!r:.50}" if shape is None else f"a constant of shape {tuple(shape)}"


def _given_back(
    graph: Any, names: Sequence[str], states: Sequence[str], chosen: Sequence[int], answers: Sequence[Rows]
) -> Iterator[tuple[str, int]]:
    """Inputs of modules of one step that come back in their shape, and as which answer, but are no layer's states."""
    if graph.has_time:
        return
    rest = list(zip(chosen, answers, strict=True))[1:]
    for name in names[1:]:
        for pair in rest:
            if name not in states and pair[1].axes == graph.axes(name) and graph.depend(pair[1].parts, name):
                rest.remove(pair)
                yield name, pair[0]
                break


def _not_carried(name: str, place: int) -> str:
    return (
        f"the argument {name!r} is an input of the model, and no state that its streams carry: no recurrent layer "
        f"begins with it. Give each step what the one before answered in its place, which is answer {place}, from 0 on"
    )


def _is_back(graph: Any, name: str, value: Any) -> bool:
    """Whether a state comes back as it was taken, all of it."""
    carried = value.carried if isinstance(value, Final) else None
    return (
        carried is not None
        and carried.parts == (name + "'",)
        and np.array_equal(carried.indices, np.arange(graph.size(name)))
        and carried.axes == graph.axes(name)
    )


def _check(source: _Source, roles: Sequence[Roles], followed: _Followed) -> None:
    """Refuses a model whose answers are not the module's: at the example, at one sequence, one row, and many rows."""
    torch, is_state = source.torch, followed.is_state
    model = followed.spec.make(Model)
    lengths_at = [time == LENGTHS for _, time in roles]
    steps = next(
        (t.shape[time] for t, (_, time) in zip(source.tensors, roles, strict=True) if isinstance(time, int)), 1
    )
    drawn = [_drawn(torch, tensor, place) for place, tensor in enumerate(source.tensors)]

    def begin(tensors: Sequence[Any]) -> list[Any]:
        """The same with states of zeros."""
        states = iter(is_state)
        return [
            tensor if is_lengths or not next(states) else torch.zeros_like(tensor)
            for tensor, is_lengths in zip(tensors, lengths_at, strict=True)
        ]

    whole = steps * -(-_MANY_ROWS // steps)
    sizes = [[(2, steps + more)] for more in range(1, 5)]
    sizes += [[(1, steps + 3), (1, steps)], [(2, 1)], [(1, _MANY_ROWS), (1, whole)]]
    resized = [[_resized(torch, drawn, roles, size) for size in choices] for choices in sizes]
    for choices in ([source.tensors], *resized):
        tensors, expected = next(
            (
                (every, answer)
                for every in map(begin, choices)
                if (answer := source.attempt(every)) is not None and _has_numbers(answer)
            ),
            ([], None),
        )
        if expected is None:
            continue
        lengths = next((t for t, is_lengths in zip(tensors, lengths_at, strict=True) if is_lengths), None)
        plain = [tensor for tensor, is_lengths in zip(tensors, lengths_at, strict=True) if not is_lengths]
        taken = [tensor for tensor, state in zip(plain, is_state, strict=True) if not state]
        given = [
            (tensor if name in model.tokens else tensor.float()).numpy()
            for name, tensor in zip(model.inputs, taken, strict=True)
        ]
        try:
            answers = model(*given, **({} if lengths is None else {"lengths": lengths.numpy()}))
        except (ValueError, TypeError, RuntimeError) as error:
            raise _DependsError(f"module: as a model it does not take what the module takes: {error}") from error
        for name, got, place in zip(
            followed.spec.outputs,
            answers if isinstance(answers, tuple) else (answers,),
            followed.chosen,
            strict=True,
        ):
            want = expected[place].detach().to(torch.float32).numpy()
            if lengths is not None:
                want, got = (_valid(array, model.axes[name], lengths.tolist()) for array in (want, got))
            scale = max(1e-3, float(np.abs(want[np.isfinite(want)]).max(initial=0)))
            if got.shape != want.shape or not np.allclose(got, want, rtol=0, atol=_TOLERANCE * scale, equal_nan=True):
                shapes = " and ".join(str(tuple(tensor.shape)) for tensor in tensors)
                far = f"of shape {got.shape}, and not {want.shape}"
                if got.shape == want.shape:
                    far = f"{np.abs(got - want).max():.3g} apart"
                elif got.ndim != want.ndim:
                    far += ", as by squeeze() without a dimension"
                past = ""
                kind: type[_RefusedAtError] = _DependsError
                if lengths is not None:
                    past = ", and mask what is past a sequence's length before they sum over time"
                    kind = _RefusedAtError  # other numbers of rows mend nothing
                raise kind(
                    f"module: of inputs of shape {shapes} the model's answer {name!r} is not the module's: {far}; "
                    f"supported: modules that do the same at any number of rows and sequences{past}"
                )


def _drawn(torch: Any, tensor: Any, seed: int) -> Any:
    """Numbers as those of the example, but different at every place."""
    if tensor.dtype == torch.bool and tensor.ndim:
        drawn = torch.from_numpy(np.random.default_rng(seed).random(tuple(tensor.shape)) < 0.8)
        drawn[0] = drawn[..., 0] = True
        return drawn
    if not tensor.is_floating_point():
        return tensor
    spread = float(tensor.std()) if tensor.numel() > 1 else 0.0
    noise = np.random.default_rng(seed).standard_normal(tuple(tensor.shape)).astype(np.float32)
    return tensor.mean() + (spread if 0 < spread < np.inf else 1.0) * torch.from_numpy(noise)


def _valid(array: Any, axes: Sequence[Any], lengths: Sequence[int]) -> Any:
    """The rows of sequences with such lengths, zeros in place of the others."""
    if TIME not in axes or array.ndim != len(axes):
        return array
    moved = np.moveaxis(array, (axes.index(BATCH), axes.index(TIME)), (0, 1))
    return np.stack(
        [
            np.where(np.arange(len(rows)).reshape(-1, *[1] * (rows.ndim - 1)) < n, rows, 0)
            for rows, n in zip(moved, lengths, strict=True)
        ]
    )


def _place(torch: Any, node: Any) -> str:
    """The user's line that asks for an operation, or else its module."""
    line = users_line(torch, _WHERE.findall(node.meta.get("stack_trace") or ""))
    if line:
        return line
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = str(stack[-1][0]) if stack else ""
    return f"module {path!r}, {node.target}" if path else f"module, {node.target}"
