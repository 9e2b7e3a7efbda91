"""What is differentiated: a layer in one direction, dropout, and a linear map, each in two forms.

A plain call goes through a torch.autograd.Function. What is compiled or recorded meets an operator instead, which
compilers leave alone; its way from Python through PyTorch's dispatcher would cost a small layer as much as its
arithmetic does. Both compute with the same functions and save the same tensors.

Where an operator has no result of a kind, it returns a tensor of one dimension without elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import _core
from .autograd import array_of, flags_of, refuse_second_derivatives

STREAMS = 4  # of draws, of a layer in one direction: its input, h where R meets it, and zoneout of h and c


class Options(NamedTuple):
    """What of a layer's run in one direction has no derivative. Of operators the first four are tensors.

    `rates` are those of recurrent dropout and of zoneout of h and c, of which `expects` asks for the mean.
    """

    lengths: Any
    mask: Any
    resets: Any
    seed: Any
    kind: str
    reverse: bool
    stream: int
    rates: tuple[float, float, float]
    expects: bool
    saves: bool
    num_threads: int

    @property
    def middle(self) -> tuple[Any, ...]:
        """As the extension takes them, after the tensors."""
        random = self.seed, self.stream, *self.rates, self.expects
        return self.lengths, self.mask, self.resets, self.reverse, random

    def of_arrays(self) -> Options:
        """The same, of an operator's tensors."""
        seed = 0 if self.seed is None else int(self.seed)
        lengths, mask, resets = array_of(self.lengths), flags_of("mask", self.mask), flags_of("resets", self.resets)
        return self._replace(lengths=lengths, mask=mask, resets=resets, seed=seed)


def direction(*arguments: Any, watched: bool) -> tuple[Tensor, ...]:
    """y, h_n and, for an LSTM, c_n of one layer in one direction.

    Takes x (T, B, I), h_0, c_0, the two weights, the two biases, the projection's weight and :class:`Options`.
    """
    if not watched:
        found: tuple[Tensor, ...] = Direction.apply(*arguments)
        return found
    *tensors, options = arguments
    results = torch.ops.fusedcell.train_forward(*tensors, *options)
    return tuple(results[: 3 if options.kind == "lstm" else 2])


def dropout(x: Tensor, seed: Any, stream: int, rate: float, *, watched: bool) -> Tensor:
    """x (T, B, size) with features dropped."""
    found: Tensor = (torch.ops.fusedcell.dropout if watched else _Dropout.apply)(x, seed, stream, rate)
    return found


def affine(x: Tensor, weight: Tensor, bias: Tensor | None, num_threads: int, *, watched: bool) -> Tensor:
    """y = x W^T + b, x (N, I)."""
    found: Tensor = (torch.ops.fusedcell.linear if watched else _Affine.apply)(x, weight, bias, num_threads)
    return found


def draw_seed(*, watched: bool) -> Any:
    """One number of PyTorch's generator: in what is watched a tensor, so that each run of it draws its own."""
    place = torch.empty((), dtype=torch.int64)
    # A compiler may take two calls with the same inputs for one, but never two new tensors.
    return torch.ops.fusedcell.seed(place) if watched else int(place.random_())


def _train_forward(tensors: Sequence[Tensor | None], options: Options) -> list[Any]:
    """y, h_n, c_n, and what the way back needs of gates, states before a projection or zoneout, and c, or None."""
    taken: Any = (options.kind, *map(array_of, tensors), *options.middle, options.saves, options.num_threads, "")
    return [None if array is None else torch.from_numpy(array) for array in _core.train_forward(*taken)]


def _train_backward(tensors: Sequence[Tensor | None], options: Options, wanted: Sequence[bool]) -> list[Any]:
    """The derivatives by the first eight tensors of the way there, or None.

    Takes those by y, h_n and c_n, then y, gates, raw states and c, then what the way there took.
    """
    taken: Any = (options.kind, *map(array_of, tensors), *options.middle, wanted, options.num_threads, "")
    return [None if array is None else torch.from_numpy(array) for array in _core.train_backward(*taken)]


def _save(ctx: Any, results: Sequence[Any], tensors: Sequence[Any], saves: bool) -> None:
    y, _, _, *saved = results
    tensors = list(tensors)
    if saves:  # or gates are made again, with the biases
        tensors[5:7] = None, None
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(y, *saved, *tensors)


class Direction(torch.autograd.Function):
    """One layer in one direction."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Any:
        """As :func:`direction`."""
        *tensors, options = arguments
        results = _train_forward(tensors, options)
        _save(ctx, results, tensors, options.saves)
        ctx.options = options
        return tuple(results[: 3 if options.kind == "lstm" else 2])

    @staticmethod
    def backward(ctx: Any, *derivatives: Tensor | None) -> Any:
        """Returns the derivatives by what forward took."""
        refuse_second_derivatives()
        tensors = (*(*derivatives, None)[:3], *ctx.saved_tensors)
        return (*_train_backward(tensors, ctx.options, ctx.needs_input_grad[:8]), None)


_TENSORS = (
    "Tensor x, Tensor? h_0, Tensor? c_0, Tensor weight_ih, Tensor weight_hh, Tensor? bias_ih, Tensor? bias_hh, "
    "Tensor? weight_hr"
)
_OPTIONS = (
    "Tensor? lengths, Tensor? mask, Tensor? resets, Tensor? seed, str kind, bool reverse, int stream, float[] rates, "
    "bool expects, bool saves, int num_threads"
)
_SAVED = "Tensor? dy, Tensor? dh_n, Tensor? dc_n, Tensor y, Tensor gates, Tensor raw, Tensor c"


def _operator(name: str, schema: str) -> Any:
    return torch.library.custom_op(f"fusedcell::{name}", mutates_args=(), device_types="cpu", schema=schema)


@_operator(
    "train_forward",
    f"({_TENSORS}, {_OPTIONS}) -> (Tensor y, Tensor h_n, Tensor c_n, Tensor gates, Tensor raw, Tensor c)",
)
def _forward(*arguments: Any) -> tuple[Tensor, ...]:
    tensors, options = arguments[:8], Options(*arguments[8:]).of_arrays()
    return tuple(torch.empty(0) if each is None else each for each in _train_forward(tensors, options))


@_forward.register_fake
def _(*arguments: Any) -> tuple[Tensor, ...]:
    x, _, _, _, weight_hh, _, _, weight_hr, *rest = arguments
    options = Options(*rest)
    steps, batch, _ = x.shape
    rows, outputs = weight_hh.shape
    projected = weight_hr is not None
    units, gates, has_raw = _core.saved_sizes(options.kind, int(rows), projected, *options.rates[1:], "")
    is_lstm = options.kind == "lstm"
    states = (steps, batch, units)
    shapes = [
        (steps, batch, outputs),
        (batch, outputs),
        (batch, units) if is_lstm else (0,),
        (steps, batch, gates) if gates and options.saves else (0,),
        states if has_raw and options.saves else (0,),
        states if is_lstm else (0,),
    ]
    return tuple(x.new_empty(shape) for shape in shapes)


def _setup(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.mark_non_differentiable(*output[3:])
    options = Options(*inputs[8:])
    _save(ctx, output, inputs[:12], options.saves)
    ctx.options = options[4:]


def _back(ctx: Any, *derivatives: Tensor | None) -> Any:
    refuse_second_derivatives()
    wanted = ctx.needs_input_grad[:8]
    is_lstm = ctx.options[0] == "lstm"
    by_results = *derivatives[:2], derivatives[2] if is_lstm else None
    found = torch.ops.fusedcell.train_backward(*by_results, *ctx.saved_tensors, *ctx.options, wanted)
    return (*_placed(found, wanted), *[None] * len(Options._fields))


_forward.register_autograd(_back, setup_context=_setup)


@_operator("train_backward", f"({_SAVED}, {_TENSORS}, {_OPTIONS}, bool[] wanted) -> Tensor[]")
def _backward(*arguments: Any) -> list[Tensor]:
    *by_results, y, gates, raw, c = arguments[:7]
    saved = (each if each.dim() > 1 else None for each in (gates, raw, c))
    options = Options(*arguments[15:-1]).of_arrays()
    found = _train_backward((*by_results, y, *saved, *arguments[7:15]), options, arguments[-1])
    return [each for each in found if each is not None]


@_backward.register_fake
def _(*arguments: Any) -> list[Tensor]:
    x, _, _, weight_ih, weight_hh, _, _, weight_hr = arguments[7:15]
    rows, outputs = weight_hh.shape
    batch, units = x.shape[1], rows // 4  # of an LSTM, which alone has c
    shapes = [
        x.shape,
        (batch, outputs),
        (batch, units),
        weight_ih.shape,
        weight_hh.shape,
        (rows,),
        (rows,),
        None if weight_hr is None else weight_hr.shape,
    ]
    return [x.new_empty(shape) for shape, is_wanted in zip(shapes, arguments[-1], strict=True) if is_wanted]


def _placed(found: Sequence[Tensor], wanted: Sequence[bool]) -> list[Tensor | None]:
    each = iter(found)
    return [next(each) if is_wanted else None for is_wanted in wanted]


class _Dropout(torch.autograd.Function):
    """Dropout, which the way back draws again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *draws: Any) -> Tensor:
        ctx.draws = draws
        return torch.from_numpy(_core.dropout(array_of(x), *draws))

    @staticmethod
    def backward(ctx: Any, *derivatives: Tensor) -> Any:
        refuse_second_derivatives()
        return torch.from_numpy(_core.dropout(array_of(derivatives[0]), *ctx.draws)), None, None, None


@torch.library.custom_op(
    "fusedcell::seed",
    mutates_args=(),
    device_types="cpu",
    schema="(Tensor place) -> Tensor",
    tags=(torch.Tag.nondeterministic_seeded,),
)
def _seed(place: Tensor) -> Tensor:
    return torch.empty_like(place).random_()


@_seed.register_fake
def _(place: Tensor) -> Tensor:
    return torch.empty_like(place)


@_operator("dropout", "(Tensor x, Tensor seed, int stream, float rate) -> Tensor")
def _drop(x: Tensor, seed: Tensor, stream: int, rate: float) -> Tensor:
    return torch.from_numpy(_core.dropout(array_of(x), int(seed), stream, rate))


@_drop.register_fake
def _(x: Tensor, *_draws: Any) -> Tensor:
    return x.new_empty(x.shape)


def _drop_setup(ctx: Any, inputs: Any, output: Any) -> None:
    _, seed, *ctx.draws = inputs
    ctx.save_for_backward(seed)


def _drop_back(ctx: Any, derivative: Tensor) -> Any:
    refuse_second_derivatives()
    return torch.ops.fusedcell.dropout(derivative, *ctx.saved_tensors, *ctx.draws), None, None, None


_drop.register_autograd(_drop_back, setup_context=_drop_setup)


class _Affine(torch.autograd.Function):
    """A linear map."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, num_threads: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.num_threads = num_threads
        return _affine_forward(x, weight, bias, num_threads)

    @staticmethod
    def backward(ctx: Any, *derivatives: Tensor) -> Any:
        refuse_second_derivatives()
        taken: Any = (*derivatives, *ctx.saved_tensors, ctx.needs_input_grad[:3], ctx.num_threads)
        return (*_affine_backward(*taken), None)


def _affine_forward(x: Tensor, weight: Tensor, bias: Tensor | None, num_threads: int) -> Tensor:
    return torch.from_numpy(_core.linear_forward(array_of(x), array_of(weight), array_of(bias), num_threads, ""))


def _affine_backward(dy: Tensor, x: Tensor, weight: Tensor, wanted: Sequence[bool], num_threads: int) -> list[Any]:
    found = _core.linear_backward(array_of(dy), array_of(x), array_of(weight), wanted, num_threads, "")
    return [None if array is None else torch.from_numpy(array) for array in found]


@_operator("linear", "(Tensor x, Tensor weight, Tensor? bias, int num_threads) -> Tensor")
def _linear(x: Tensor, weight: Tensor, bias: Tensor | None, num_threads: int) -> Tensor:
    return _affine_forward(x, weight, bias, num_threads)


@_linear.register_fake
def _(x: Tensor, weight: Tensor, *_: Any) -> Tensor:
    return x.new_empty((x.shape[0], weight.shape[0]))


def _linear_setup(ctx: Any, inputs: Any, output: Any) -> None:
    x, weight, _, ctx.num_threads = inputs
    ctx.save_for_backward(x, weight)


def _linear_back(ctx: Any, derivative: Tensor) -> Any:
    refuse_second_derivatives()
    wanted = ctx.needs_input_grad[:3]
    found = torch.ops.fusedcell.linear_backward(derivative, *ctx.saved_tensors, wanted, ctx.num_threads)
    return (*_placed(found, wanted), None)


_linear.register_autograd(_linear_back, setup_context=_linear_setup)


@_operator("linear_backward", "(Tensor dy, Tensor x, Tensor weight, bool[] wanted, int num_threads) -> Tensor[]")
def _linear_backward(*arguments: Any) -> list[Tensor]:
    return [each for each in _affine_backward(*arguments) if each is not None]


@_linear_backward.register_fake
def _(dy: Tensor, x: Tensor, weight: Tensor, wanted: Sequence[bool], _num_threads: int) -> list[Tensor]:
    shapes = x.shape, weight.shape, weight.shape[:1]
    return [dy.new_empty(shape) for shape, is_wanted in zip(shapes, wanted, strict=True) if is_wanted]
