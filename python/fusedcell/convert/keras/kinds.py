"""Which classes of Keras there are, beside recurrent ones: their options, and what they do about masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from ..tracing import Rows, Tracer
from . import features, windows
from .call import Call

Make: TypeAlias = Callable[[Call, Rows], Rows]

KEPT, NEVER, WITH_MASK = "kept", "never", "with mask"


class Kind(NamedTuple):
    """A layer of one input.

    - options: the names of those that it has
    - masks: KEPT, its output has its input's; NEVER, it has none; WITH_MASK, what it computes keeps to the mask
    - mixes: whether a row of its output is made of several
    """

    make: Make
    options: str = ""
    masks: str = KEPT
    mixes: bool = False


_CONV = "filters kernel_size strides padding data_format dilation_rate groups activation use_bias"
_DEPTHWISE = "kernel_size strides padding data_format dilation_rate depth_multiplier activation use_bias groups filters"
_POOL = "pool_size strides padding data_format"
_GLOBAL = "data_format keepdims"

_LEFT_OUT = (
    *("Dropout", "AlphaDropout", "GaussianDropout", "GaussianNoise", "SpatialDropout1D", "SpatialDropout2D"),
    *("ActivityRegularization", "Identity"),
)


def _over(make: Callable[..., Rows], options: str, *given: Any) -> Kind:
    return Kind(lambda call, x: make(call, x, *given), options, NEVER, mixes=True)


KINDS: dict[str, Kind] = {
    "Dense": Kind(features.dense, "units activation use_bias"),
    "Embedding": Kind(features.embedding, "input_dim output_dim mask_zero"),
    "Masking": Kind(features.same, "mask_value"),
    **dict.fromkeys(_LEFT_OUT, Kind(features.same, "rate noise_shape stddev data_format l1 l2")),
    "Activation": Kind(features.activation, "activation"),
    "ReLU": Kind(features.relu, "max_value negative_slope threshold"),
    "LeakyReLU": Kind(features.leaky_relu, "negative_slope alpha"),
    "ELU": Kind(features.elu, "alpha"),
    "ThresholdedReLU": Kind(features.thresholded_relu, "theta"),
    "PReLU": Kind(features.prelu, "shared_axes"),
    "Softmax": Kind(features.softmax, "axis", NEVER),
    "BatchNormalization": Kind(
        features.batch_norm,
        "axis momentum epsilon center scale synchronized renorm renorm_clipping renorm_momentum fused "
        "virtual_batch_size adjustment",
    ),
    "LayerNormalization": Kind(features.layer_norm, "axis epsilon center scale rms_scaling"),
    "GroupNormalization": Kind(features.group_norm, "groups axis epsilon center scale"),
    "RMSNormalization": Kind(features.rms_norm, "axis epsilon"),
    "UnitNormalization": Kind(features.unit_norm, "axis"),
    "Normalization": Kind(features.normalization, "axis mean variance invert"),
    "Rescaling": Kind(features.rescaling, "scale offset"),
    "Flatten": Kind(features.flatten, "data_format", NEVER),
    "Reshape": Kind(features.reshape, "target_shape", NEVER),
    "Permute": Kind(features.permute, "dims", NEVER),
    "RepeatVector": Kind(features.repeat, "n", NEVER),
    "GlobalAveragePooling1D": Kind(
        lambda call, x: windows.global_pool(call, x, 1, "mean"), _GLOBAL, WITH_MASK, mixes=True
    ),
    "GlobalAveragePooling2D": _over(windows.global_pool, _GLOBAL, 2, "mean"),
}
for _rank in (1, 2):
    KINDS |= {
        f"Conv{_rank}D": _over(windows.conv, _CONV, _rank),
        f"Conv{_rank}DTranspose": _over(windows.transposed, f"{_CONV} output_padding", _rank),
        f"DepthwiseConv{_rank}D": _over(windows.depthwise, _DEPTHWISE, _rank),
        f"SeparableConv{_rank}D": _over(windows.separable, _DEPTHWISE, _rank),
        f"MaxPooling{_rank}D": _over(windows.pool, _POOL, _rank, "max"),
        f"AveragePooling{_rank}D": _over(windows.pool, _POOL, _rank, "mean"),
        f"GlobalMaxPooling{_rank}D": _over(windows.global_pool, _GLOBAL, _rank, "max"),
        f"ZeroPadding{_rank}D": _over(windows.zeros, "padding data_format", _rank),
        f"Cropping{_rank}D": _over(windows.cropped, "cropping data_format", _rank),
        f"UpSampling{_rank}D": _over(windows.upsampled, "size data_format interpolation", _rank),
    }

OPTIONS_OF_MERGES = "axis axes normalize"
MERGES: dict[str, Callable[[Call, Sequence[Any]], Rows]] = {
    "Add": partial(features.merged, kind="add"),
    "Subtract": partial(features.merged, kind="subtract"),
    "Multiply": partial(features.merged, kind="multiply"),
    "Average": partial(features.merged, kind="mean"),
    "Maximum": partial(features.merged, kind="maximum"),
    "Minimum": partial(features.merged, kind="minimum"),
    "Concatenate": features.concatenated,
    "Dot": features.dot,
}

# Operations of keras.ops.
ARITHMETIC = {
    **{name: name.lower() for name in ("Add", "Subtract", "Multiply", "Divide", "Maximum", "Minimum")},
    "TrueDivide": "divide",
}
ACTIVATIONS = {
    **{name: name.lower() for name in ("Relu", "Relu6", "Sigmoid", "Silu", "Softplus", "Softsign", "Tanh")},
    "Exp": "exponential",
}
FUNCTIONS: dict[str, Callable[[Tracer, Rows, str], Rows]] = {
    "Absolute": lambda tracer, x, place: tracer.activation(x, "Abs", place=place),
    "Expm1": lambda tracer, x, place: tracer.function(x, "expm1", place),
    "Log": lambda tracer, x, place: tracer.activation(x, "Log", place=place),
    "Log10": lambda tracer, x, place: tracer.function(x, "log10", place),
    "Log1p": lambda tracer, x, place: tracer.function(x, "log1p", place),
    "Log2": lambda tracer, x, place: tracer.function(x, "log2", place),
    "Negative": lambda tracer, x, place: tracer.multiply(x, -1.0, place),
    "Sqrt": lambda tracer, x, place: tracer.activation(x, "Sqrt", place=place),
    "Square": lambda tracer, x, place: tracer.activation(x, "Square", place=place),
}
JOINS = {"Concatenate": features.concatenated, "Stack": features.stacked}
# With their options.
OPTIONED: dict[str, tuple[str, Callable[[Call, Rows], Rows | list[Rows]]]] = {
    **{
        name: ("axis keepdims initial", partial(features.reduced, kind=name.lower())) for name in ("Mean", "Max", "Sum")
    },
    "Clip": ("x_min x_max", features.clipped),
    "ExpandDims": ("axis", features.expanded),
    "Split": ("indices_or_sections axis", features.divided),
    "Squeeze": ("axis", features.squeezed),
}
ONES = ("OnesLike", "ZerosLike")
