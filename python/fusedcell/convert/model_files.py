"""A whole model of any file that holds one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..errors import UnsupportedError
from ..layers import Layer
from ..model import Model
from ..storage import load
from ..weights.file_kinds import JSON, KERAS, ONNX, SAFETENSORS, known_kind
from ..weights.state_files import is_own_file

WHOLE_MODULE = "fusedcell.Model.from_torch(module, example)"


def read_model(path: Path, states: Mapping[str, str] | None = None, *, isa: str | None = None) -> Model:
    """The model; of a file of ours that holds one layer, a model of that layer.

    `states` are those of ``Model.from_onnx``. Raises what the readers raise, ValueError for a file of another kind,
    UnsupportedError for one that has weights alone.
    """
    kind = known_kind(path)
    if states and kind != ONNX:
        raise ValueError(f"--state: is for ONNX files, and {path.name!r} says itself what its states are")
    if kind == ONNX:
        return Model.from_onnx(path, states, isa=isa)
    if kind == KERAS:
        return Model.from_keras(path, isa=isa)
    if kind == JSON:
        return Model.from_json(path, isa=isa)
    if kind != SAFETENSORS or not is_own_file(path):
        raise UnsupportedError(
            f"{path}: holds weights by their names, and not what a model computes of them; supported: the module "
            f"itself, by {WHOLE_MODULE}, or one recurrent layer, by fusedcell convert"
        )
    found = load(path, isa=isa)
    if isinstance(found, Layer):
        return Model([("layer", found, "x")], batch_first=found.batch_first, isa=isa)
    if not isinstance(found, Model):
        raise UnsupportedError(f"{path}: holds a {type(found).__name__}; supported: whole models and layers")
    return found
