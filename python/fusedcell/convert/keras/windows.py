"""Keras's convolutions, pools, and what pads, crops and repeats rows, on symbolic tensors.

Sources: keras/src/layers/{convolutional,pooling,reshaping} of Keras 3.15 and keras/layers of Keras 2.15. "same" pads so
that there are ceil(size / stride) windows, more at the end where the zeros are odd in number.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from ..._base import FloatArray
from ..tracing import RefusedError, Rows
from .call import Call

Pair: TypeAlias = "tuple[int, int]"


def conv(call: Call, x: Rows, rank: int) -> Rows:
    """Conv1D and Conv2D."""
    filters, groups = _one(call, "filters"), _one(call, "groups", 1)
    moved, taps, options = _windows(call, x, rank, causal=rank == 1)
    channels = call.size(moved, 1)
    if channels % groups or filters % groups:
        raise RefusedError(f"groups={groups} of {channels} channels and {filters} filters")
    arrays = call.weights(kernel=(*taps, channels // groups, filters), bias=_bias(call, filters))
    weight = arrays["kernel"].transpose(rank + 1, rank, *range(rank))
    made = call.tracer.conv(moved, weight, arrays.get("bias"), groups=groups, place=call.place, **options)
    return call.activated(_last(call, made))


def depthwise(call: Call, x: Rows, rank: int) -> Rows:
    """DepthwiseConv1D and DepthwiseConv2D."""
    moved, taps, options = _windows(call, x, rank)
    channels, times = call.size(moved, 1), _one(call, "depth_multiplier", 1)
    name = "kernel" if call.version == 3 else "depthwise_kernel"
    arrays = call.weights(**{name: (*taps, channels, times), "bias": _bias(call, channels * times)})
    made = call.tracer.conv(
        moved, _of_depthwise(arrays[name]), arrays.get("bias"), groups=channels, place=call.place, **options
    )
    return call.activated(_last(call, made))


def separable(call: Call, x: Rows, rank: int) -> Rows:
    """SeparableConv1D and SeparableConv2D."""
    filters, times = _one(call, "filters"), _one(call, "depth_multiplier", 1)
    moved, taps, options = _windows(call, x, rank, causal=rank == 1)
    channels = call.size(moved, 1)
    arrays = call.weights(
        depthwise_kernel=(*taps, channels, times),
        pointwise_kernel=(*[1] * rank, channels * times, filters),
        bias=_bias(call, filters),
    )
    inner = call.tracer.conv(
        moved, _of_depthwise(arrays["depthwise_kernel"]), groups=channels, place=f"{call.place}.depthwise", **options
    )
    matrix = arrays["pointwise_kernel"].reshape(channels * times, filters).T
    inner = inner.moved(1, -1)
    made = call.tracer.linear(inner, matrix, arrays.get("bias"), call.place).moved(-1, 1)
    return call.activated(_last(call, made))


def transposed(call: Call, x: Rows, rank: int) -> Rows:
    """Conv1DTranspose and Conv2DTranspose."""
    filters = _one(call, "filters")
    taps, strides = call.options.integers("kernel_size", rank), call.options.integers("strides", rank, 1)
    dilation = call.options.integers("dilation_rate", rank, 1)
    same = call.options.choice("padding", ("valid", "same"), "valid") == "same"
    given = call.options.get("output_padding")
    extra = [None] * rank if given is None else call.options.integers("output_padding", rank, least=0)
    moved = _first(call, x, rank)
    channels = call.size(moved, 1)
    arrays = call.weights(kernel=(*taps, filters, channels), bias=_bias(call, filters))
    crops = [
        _crops(span, stride, pad, same=same)
        for span, stride, pad in zip(_spans(taps, dilation), strides, extra, strict=True)
    ]
    # What is cut off at the right beyond what is at the left is cut off afterwards.
    options = {
        "stride": strides,
        "dilation": dilation,
        "padding": [left for left, _ in crops],
        "output_padding": [max(0, left - right) for left, right in crops],
    }
    made = call.tracer.conv_transposed(
        moved, arrays["kernel"].transpose(rank + 1, rank, *range(rank)), arrays.get("bias"), place=call.place, **options
    )
    for dim, (left, right) in enumerate(crops, 2):
        made = call.tracer.pad(made, dim, 0, -max(0, right - left), place=call.place)
    return call.activated(_last(call, made))


def _crops(span: int, stride: int, extra: int | None, *, same: bool) -> Pair:
    """What of all rows that taps reach is left out at both ends; less than nothing is rows of zeros."""
    if not same:
        return 0, -(max(span, stride) - span if extra is None else extra)
    total = stride + span - 2 if extra is None else span + span % 2 - 2 + extra
    left = min(total // 2 + total % 2, span - 1)
    return span - 1 - left, span - 1 - (total - left)


def pool(call: Call, x: Rows, rank: int, kind: str) -> Rows:
    """MaxPooling and AveragePooling; these count no padding."""
    moved = _first(call, x, rank)
    taps = call.options.integers("pool_size", rank, 2)
    strides = taps if call.options.get("strides") is None else call.options.integers("strides", rank)
    same = call.options.choice("padding", ("valid", "same"), "valid") == "same"
    padding = [
        _same(call, moved, dim, span, stride) if same else (0, 0)
        for dim, (span, stride) in enumerate(zip(taps, strides, strict=True), 2)
    ]
    made = call.tracer.pool(
        moved, kind, taps=taps, stride=strides, padding=padding, count_include_pad=False, place=call.place
    )
    return _last(call, made)


def global_pool(call: Call, x: Rows, rank: int, kind: str) -> Rows:
    """GlobalMaxPooling and GlobalAveragePooling."""
    keeps = call.options.boolean("keepdims")
    moved = _first(call, x, rank)
    made = call.tracer.reduce(moved, kind, range(2, 2 + rank), keepdims=keeps, place=call.place)
    return _last(call, made) if keeps else made


def zeros(call: Call, x: Rows, rank: int) -> Rows:
    """ZeroPadding1D and ZeroPadding2D."""
    moved = _first(call, x, rank)
    for dim, (left, right) in enumerate(_pairs(call, "padding", rank), 2):
        moved = call.tracer.pad(moved, dim, left, right, place=call.place)
    return _last(call, moved)


def cropped(call: Call, x: Rows, rank: int) -> Rows:
    """Cropping1D and Cropping2D."""
    moved = _first(call, x, rank)
    for dim, (left, right) in enumerate(_pairs(call, "cropping", rank), 2):
        sizes = moved.sizes[dim]
        if left + right >= min(sizes):
            raise RefusedError(f"cropping={left, right} of {min(sizes)}")
        moved = call.tracer.slice(moved, dim, left, tuple(size - right for size in sizes), place=call.place)
    return _last(call, moved)


def upsampled(call: Call, x: Rows, rank: int) -> Rows:
    """UpSampling1D and UpSampling2D, by repetition."""
    call.options.choice("interpolation", ("nearest",), "nearest")
    moved = _first(call, x, rank)
    for dim, times in enumerate(call.options.integers("size", rank, 2), 2):
        if times == 1:
            continue
        if isinstance(moved.axes[dim], int):
            moved = moved.taken(dim, np.arange(moved.sizes[dim][0]).repeat(min(times, 1 << 20)))
        elif rank > 1:
            raise RefusedError(f"size={times} along time, of frames; supported: along features")
        else:
            channels = call.size(moved, 1)
            ones = np.ones((channels, 1, times), np.float32)
            options = {"stride": (times,), "dilation": (1,), "padding": (0,), "output_padding": (0,)}
            moved = call.tracer.conv_transposed(moved, ones, groups=channels, place=call.place, **options)
    return _last(call, moved)


def _windows(
    call: Call, x: Rows, rank: int, *, causal: bool = False
) -> tuple[Rows, tuple[int, ...], dict[str, object]]:
    """The input with its channels first, the taps, and what a convolution is told of them."""
    options = call.options
    taps, strides = options.integers("kernel_size", rank), options.integers("strides", rank, 1)
    dilation = options.integers("dilation_rate", rank, 1)
    moved = _first(call, x, rank)
    kind = options.choice("padding", ("valid", "same", *(["causal"] if causal else [])), "valid")
    spans = _spans(taps, dilation)
    padding = [(span - 1, 0) if kind == "causal" else (0, 0) for span in spans]
    if kind == "same":
        padding = [
            _same(call, moved, dim, span, stride)
            for dim, (span, stride) in enumerate(zip(spans, strides, strict=True), 2)
        ]
    return moved, taps, {"stride": strides, "dilation": dilation, "padding": padding}


def _same(call: Call, x: Rows, dim: int, span: int, stride: int) -> Pair:
    """The zeros at both ends of "same": they depend on how often the stride goes into the size."""
    size = call.lasting(x, dim)
    totals = (
        [max(span - (size % stride or stride), 0)] if size else [max(span - rest, 0) for rest in range(1, stride + 1)]
    )
    lefts = {total // 2 for total in totals}
    if len(lefts) > 1:
        raise RefusedError(
            f"padding='same' with strides={stride} along time, which begins elsewhere for other lengths, is not "
            "supported; supported: 'valid', 'causal', strides=1, or an input of a fixed length"
        )
    left = lefts.pop()
    return left, max(totals) - left


def _first(call: Call, x: Rows, rank: int) -> Rows:
    """The input with its channels before the axes that windows run over."""
    if len(x.axes) != rank + 2:
        raise RefusedError(f"an input of {len(x.axes)} axes is not supported; supported: {rank + 2}")
    return x.moved(-1, 1) if _is_last(call) else x


def _last(call: Call, x: Rows) -> Rows:
    return x.moved(1, -1) if _is_last(call) else x


def _is_last(call: Call) -> bool:
    return call.options.get("data_format") is None or (
        call.options.choice("data_format", ("channels_last", "channels_first"), None) == "channels_last"
    )


def _of_depthwise(kernel: FloatArray) -> FloatArray:
    """Keras's (taps, channels, multiplier) as (channels * multiplier, 1, taps)."""
    taps = kernel.shape[:-2]
    moved: FloatArray = kernel.reshape(*taps, 1, -1).transpose(len(taps) + 1, len(taps), *range(len(taps)))
    return moved


def _spans(taps: tuple[int, ...], dilation: tuple[int, ...]) -> list[int]:
    return [(count - 1) * step + 1 for count, step in zip(taps, dilation, strict=True)]


def _bias(call: Call, size: int) -> tuple[int] | None:
    return (size,) if call.options.boolean("use_bias", required=True) else None


def _one(call: Call, key: str, default: int | None = None) -> int:
    return call.options.integers(key, 1, default)[0]


def _pairs(call: Call, key: str, rank: int) -> list[Pair]:
    """Both ends of each axis, which options give as one number, one for each axis, or pairs."""
    given = call.options.get(key)
    if rank == 1 or isinstance(given, int):
        ends = call.options.integers(key, 2, 1, least=0)
        return [(ends[0], ends[1])] * rank
    if not isinstance(given, list) or len(given) != rank:
        raise RefusedError(f"{key}={given!r:.100}; supported: a number, or a pair for each axis")
    pairs: list[Pair] = []
    for each in given:
        ends = tuple(each) if isinstance(each, list) else (each, each)
        if len(ends) != 2 or any(
            isinstance(end, bool) or not isinstance(end, int) or not 0 <= end < 1 << 31 for end in ends
        ):
            raise RefusedError(f"{key}={given!r:.100}; supported: a number, or a pair for each axis")
        pairs.append((ends[0], ends[1]))
    return pairs
