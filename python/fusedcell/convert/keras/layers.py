"""Layers from Keras: layer objects, and files that Keras wrote."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from typing import Any, Literal, TypeAlias, cast, overload

import numpy as np

from ...errors import UnsupportedError
from ...keras import KerasLayer, leaves
from ...layers import GRU, LSTM, RNN
from ...weights.floats import to_float32
from ..spec import RecurrentSpec, build
from .calls import Given
from .config import RECURRENT, LayerConfig, read_layer
from .weights import KerasArrays, Shape, fits, specification

KerasSource: TypeAlias = str | os.PathLike[str] | Any  # or a Keras layer: Keras has no types


@overload
def from_keras(
    layer: KerasSource,
    name: str | None = None,
    *,
    dtype: str = "float32",
    isa: str | None = None,
    keras_output: Literal[False] = False,
) -> RNN | GRU | LSTM: ...
@overload
def from_keras(
    layer: KerasSource,
    name: str | None = None,
    *,
    dtype: str = "float32",
    isa: str | None = None,
    keras_output: Literal[True],
) -> KerasLayer: ...
def from_keras(
    layer: KerasSource,
    name: str | None = None,
    *,
    dtype: str = "float32",
    isa: str | None = None,
    keras_output: bool = False,
) -> RNN | GRU | LSTM | KerasLayer:
    """Makes a layer of a recurrent layer of Keras, or of a file that Keras 2 or 3 wrote: exactly that, or an error.

    `layer` is a Keras 3 object, SimpleRNN, LSTM, GRU, RNN of their cells or of StackedRNNCells of one kind and size, or
    Bidirectional of one of these; or the path of a whole model, ``.keras`` or ``.h5``, where CuDNNLSTM and CuDNNGRU of
    Keras 2 may be too. Of several recurrent layers in a file `name` chooses one, by its name, behind those of models
    and TimeDistributed layers it is inside of, as in "encoder/lstm". Nothing in a file is run, and Keras is not needed
    to read one.

    What a file's model calls the layer with is the layer's own if it is constant: an initial state becomes its
    `initial_state`, and a mask, for which `keras_output` is needed, that of the KerasLayer. What other layers make is
    the caller's to give; `from_other_layers` of a KerasLayer lists it. A layer object answers as a call of it with x
    alone.

    The layer has batch_first=True and returns y for each step and the state, whatever return_sequences and
    return_state say. go_backwards becomes reverse=True, with y aligned with x, where Keras returns it in the order of
    its run. At masked steps y repeats the state. With `keras_output` a :class:`fusedcell.keras.KerasLayer` is returned,
    which has that layer and returns what Keras does; a Bidirectional layer that does not concatenate needs it.

    Raises UnsupportedError naming the option, or the argument of a model's call, that cannot be honoured, ValueError
    for a damaged file, shapes that do not fit, or a name that is not there, ImportError without h5py for a file
    (``pip install fusedcell[keras]``), and RuntimeError where the process that a file is read in cannot be started.
    """
    if isinstance(layer, (str, os.PathLike)):
        from .files import read_keras_file

        if name is not None and not isinstance(name, str):
            raise TypeError(f"name: expected a string or None, got {type(name).__name__}")
        config, spec, given = read_keras_file(layer, name)
        states = None  # which files do not hold
    else:
        if name is not None:
            raise TypeError("name: is for files; a Keras layer is one already")
        (config, spec, states), given = read_object(layer), Given()
    if not keras_output and config.output.merge_mode not in ("", "concat"):
        raise UnsupportedError(
            f"{config.where}: merge_mode={config.output.merge_mode!r} is not supported by a layer, whose directions "
            "are concatenated; supported: 'concat', or any with keras_output=True"
        )
    if not keras_output and given.mask is not None:
        raise UnsupportedError(
            f"{config.where}: the model calls it with a constant mask, which a plain layer has not; supported: "
            "keras_output=True"
        )
    spec = replace(spec, initial_state=given.initial_state)
    built = cast("RNN | GRU | LSTM", build(spec, dtype=dtype, isa=isa))
    if not keras_output:
        return built
    state = None if states is None else [values_of(variable) for variable in leaves(states)]
    return KerasLayer(built, config.output, state, mask=given.mask, from_other_layers=given.computed)


def read_object(layer: Any) -> tuple[LayerConfig, RecurrentSpec, Any]:
    """What it computes, and the variables that hold a stateful layer's states, nested, in Keras's order."""
    class_name = class_of_keras(layer)
    if class_name not in RECURRENT:
        raise UnsupportedError(
            f"layer: {type(layer).__module__}.{type(layer).__qualname__} is not supported; supported: the path of a "
            f"file, or a layer of Keras 3: {', '.join(RECURRENT)}"
        )
    if not layer.built:
        raise ValueError(f"layer: {class_name} layer {layer.name!r} has no weights yet; build it or call it once")
    config = read_layer({"class_name": class_name, "config": layer.get_config()}, 3)
    directions = (layer.forward_layer, layer.backward_layer) if config.output.bidirectional else (layer,)
    cells = [list(each.cell.cells) if config.output.stacked else [each.cell] for each in directions]
    for item in (layer, *directions, *chain.from_iterable(cells)):
        check_own(item, config.where)
    for cell in chain.from_iterable(cells):
        check_functions(cell, config.where)

    def read(direction: int, index: int, shapes: Mapping[str, Shape]) -> KerasArrays:
        arrays = {}
        for role, shape in shapes.items():
            array = values_of(getattr(cells[direction][index], role))
            if not fits(array.shape, shape):
                raise ValueError(f"{config.where}: {role}: expected shape {shape}, got {array.shape}")
            arrays[role] = to_float32(array, f"{config.where}: {role}")
        return arrays

    states = [each.states for each in directions] if config.output.stateful else None
    return config, specification(config, read), states


def check_own(item: Any, where: str) -> None:
    """A layer or cell can be given another cell, or a call of its own, of which a configuration says nothing."""
    if not class_of_keras(item) or "call" in vars(item):
        raise UnsupportedError(
            f"{where}: {type(item).__qualname__} is not Keras's own, or its call is not; supported: layers and cells "
            "as Keras has them"
        )


def class_of_keras(item: Any) -> str:
    """The class's name if it is one of Keras 3's own, and else nothing. Keras is not imported: who has it has."""
    keras: Any = sys.modules.get("keras")
    own = type(item).__module__.startswith(("keras.src.layers.", "keras.src.models."))
    if keras is None or not own or not str(getattr(keras, "__version__", "")).startswith("3."):
        return ""
    return type(item).__name__


def check_functions(cell: Any, where: str) -> None:
    """A configuration has an activation's name alone, which a function of the user's may have too."""
    for name in ("activation", "recurrent_activation"):
        function = getattr(cell, name, None)
        if function is not None and not str(getattr(function, "__module__", "")).startswith("keras.src.activations."):
            raise UnsupportedError(
                f"{where}: {name}={function!r} is not supported; supported: functions of keras.activations"
            )


def values_of(variable: Any) -> Any:
    """The values of a variable of Keras, as an array of NumPy's."""
    value = variable.value
    if hasattr(value, "detach"):  # a tensor of PyTorch's, which may need a gradient or be on another device
        value = value.detach().cpu()
        return (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    return np.asarray(value)
