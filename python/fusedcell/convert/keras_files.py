"""Recurrent layers in files that Keras wrote, whole models as ``.keras`` or ``.h5``. Nothing in a file is run.

Formats: keras/src/saving/saving_lib.py (``.keras``: a zip of config.json, metadata.json and model.weights.h5) and
keras/src/legacy/saving/legacy_h5_format.py (``.h5``, of Keras 2 and 3) of Keras 3.15.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._files import open_file
from ..errors import UnsupportedError
from .keras_config import LayerConfig, is_recurrent, read_layer
from .keras_hdf5 import Hdf5, check_h5py, open_hdf5
from .keras_weights import KerasArrays, Shape, specification
from .spec import RecurrentSpec

_LARGEST_JSON = 1 << 26  # bytes; a configuration has a few hundred a layer
_DEEPEST = 50
_WEIGHTS = "model.weights.h5"
_MODELS = ("Sequential", "Functional", "Model")
_WEIGHT = re.compile(r"(kernel|recurrent_kernel|bias)(?:_[0-9]+)?(?::[0-9]+)?")


@dataclass(frozen=True)
class Found:
    """A recurrent layer of a file: its name behind those of the models it is in, its serialized form, its group."""

    name: str
    item: Mapping[str, Any]
    group: str


def read_keras_file(path: str | os.PathLike[str], name: str | None) -> tuple[LayerConfig, RecurrentSpec]:
    """The one recurrent layer of a file, or the one called `name`.

    Raises UnsupportedError for what cannot be honoured, ValueError for a damaged file or a name that is not there,
    what opening a file raises, ImportError without h5py, and RuntimeError where no process can be started to read in.
    """
    check_h5py()
    source = Path(os.fsdecode(path))
    label = os.fspath(source)
    with open_file(source) as file:
        is_zip = file.read(4) == b"PK\x03\x04"
    return (_read_zip if is_zip else _read_legacy)(source, label, name)


def _read_zip(path: Path, label: str, name: str | None) -> tuple[LayerConfig, RecurrentSpec]:
    try:
        with zipfile.ZipFile(path) as archive:
            version = _major(_json(_member(archive, "metadata.json", label), label).get("keras_version"), label)
            if version != 3:
                raise UnsupportedError(
                    f"{label}: keras_version 2 is not supported in a .keras file; supported: 3, or the same model "
                    "saved as .h5"
                )
            model = _json(_member(archive, "config.json", label), label)
            found = _choose(model, name, label, nested_groups=True)
            config = _config(found, version, label)
            _check_member(archive, _WEIGHTS, label)
    except (zipfile.BadZipFile, NotImplementedError, OverflowError, EOFError, RuntimeError, OSError) as error:
        raise ValueError(f"{label}: not a .keras file, or damaged: {error}") from error
    with open_hdf5(path, f"{label}: {_WEIGHTS}", _WEIGHTS) as root:

        def read(direction: int, index: int, shapes: Mapping[str, Shape]) -> KerasArrays:
            layer = _named(root, found.group, found.name.rpartition("/")[2])
            if config.output.bidirectional:
                layer = layer.group(("forward_layer", "backward_layer")[direction])
            cell = layer.group("cell")
            if _is_stacked(found.item, direction):
                cell = cell.group(f"cells/{_stacked_groups(found.item, direction)[index]}")
            values = cell.group("vars")
            if values.has(str(len(shapes))):
                raise ValueError(f"{label}: {config.where} has more than {', '.join(shapes)} in the file")
            return {role: values.array(str(i), shape) for i, (role, shape) in enumerate(shapes.items())}

        return config, specification(config, read)


def _named(root: Hdf5, path: str, name: str) -> Hdf5:
    """A layer's group. It says the layer's name, but in files of early versions of Keras 3."""
    group = root.group(path)
    stored = group.group("vars").text("name") if group.has("vars") else None
    if stored is not None and stored != name:
        raise ValueError(f"{path}: expected the weights of layer {name!r}, found those of {stored[:100]!r}")
    return group


def _read_legacy(path: Path, label: str, name: str | None) -> tuple[LayerConfig, RecurrentSpec]:
    with open_hdf5(path, label) as root:
        text = root.text("model_config")
        if text is None:
            raise UnsupportedError(
                f"{label}: holds no configuration (model_config), perhaps weights alone, from which a layer's options "
                "do not follow; supported: files of model.save(), as .keras or .h5. With Keras, load the weights into "
                "the model, and pass its layer or save it whole"
            )
        version = _major(root.text("keras_version"), label)
        found = _choose(_json(text, label), name, label, nested_groups=False)
        config = _config(found, version, label)
        if "/" in found.name:
            raise UnsupportedError(
                f"{label}: {found.name!r} is in a model inside the model, whose weights an .h5 file does not tell "
                "apart by layer; supported: layers of the outermost model, or the same model saved as .keras"
            )
        _check_order(found, config.where)
        layer = root.group("model_weights").group(found.group)
        names = iter(layer.texts("weight_names"))

        def read(direction: int, index: int, shapes: Mapping[str, Shape]) -> KerasArrays:
            arrays = {}
            for role, shape in shapes.items():
                name = next(names, "")
                match = _WEIGHT.fullmatch(name.rpartition("/")[2])
                if match is None or match[1] != role:
                    raise ValueError(f"{label}: {config.where}: expected its {role}, found {name[:100]!r}")
                if config.output.bidirectional and _is_of_direction(1 - direction, name, found.name):
                    raise _unordered(config.where, f"{name[:100]!r} comes first")
                arrays[role] = layer.array(name, shape)
            return arrays

        spec = specification(config, read)
        for left in names:
            raise ValueError(f"{label}: {config.where}: weights beside its own: {left[:100]!r}")
        return config, spec


def _check_order(found: Found, where: str) -> None:
    """Refuses stacked cells whose weights are not in the order of the cells: trained ones come first in the file."""
    if _is_stacked(found.item, 0):
        trained = [cell["config"].get("trainable", True) for cell in _cell_item(found.item, 0)["config"]["cells"]]
        if not all(trained[: trained.count(True)]):
            raise _unordered(where, f"the cells' trainable is {trained}")


def _is_of_direction(direction: int, weight: str, layer: str) -> bool:
    """Whether the path of a weight says so. The forward layer's come second where it alone is not trained."""
    scopes = weight.split("/")[:-1]
    inside = scopes[scopes.index(layer) + 1 :] if layer in scopes else scopes
    return any(scope.startswith(("forward_", "backward_")[direction]) for scope in inside)


def _unordered(where: str, what: str) -> UnsupportedError:
    return UnsupportedError(
        f"{where}: {what}, so its weights are not in order, as an .h5 file has those that are not trained last; "
        "supported: the same model saved as .keras, or with all of the layer trainable or not"
    )


def _config(found: Found, version: int, label: str) -> LayerConfig:
    return read_layer(found.item, version, f"{label}: {found.item['class_name']} layer {found.name!r}")


def _choose(model: Mapping[str, Any], name: str | None, label: str, *, nested_groups: bool) -> Found:
    found = list(_recurrent_layers(model, "", "", 0, label))
    listing = ", ".join(f"{layer.name!r} ({layer.item['class_name']})" for layer in found[:50])
    if not found:
        raise ValueError(f"{label}: there is no recurrent layer in the {', '.join(_MODELS)} that it holds")
    if name is None:
        if len(found) > 1:
            raise ValueError(f"{label}: there are {len(found)} recurrent layers; choose with name=: {listing}")
        chosen = found
    else:
        chosen = [layer for layer in found if layer.name == name]
    if len(chosen) != 1:
        raise ValueError(f"name: {len(chosen) or 'no'} recurrent layers are called {name!r}; there are: {listing}")
    return chosen[0] if nested_groups else Found(chosen[0].name, chosen[0].item, chosen[0].name.rpartition("/")[2])


def _recurrent_layers(model: Any, names: str, group: str, depth: int, label: str) -> Iterator[Found]:
    """The recurrent layers of a model and of the models in it, in the order of the file.

    Keras gives a layer's weights a group by the name of its class, with a number from the second of that class on.
    """
    if not isinstance(model, Mapping):
        raise ValueError(f"{label}: expected a serialized model, got {type(model).__name__}")
    class_name, config = model.get("class_name"), model.get("config")
    if class_name not in _MODELS:
        raise UnsupportedError(
            f"{label}: a model of class {str(class_name)[:100]!r} is not supported, as its code decides what it "
            f"computes; supported: {', '.join(_MODELS)}, or a layer of the model as a Keras object"
        )
    # Keras before 2.2.3 wrote a Sequential model's layers without a name for the list.
    layers = config.get("layers") if isinstance(config, Mapping) else config
    if not isinstance(layers, list):
        raise ValueError(f"{label}: expected a list of layers, got {type(layers).__name__}")
    counts: dict[str, int] = {}
    for item in layers:
        if not isinstance(item, Mapping) or not isinstance(item.get("class_name"), str):
            raise ValueError(f"{label}: expected a serialized layer, got {item!r:.100}")
        base = _snake_case(item["class_name"].rpartition(">")[2])
        counts[base] = counts.get(base, -1) + 1
        inner = item.get("config")
        name = inner.get("name") if isinstance(inner, Mapping) else None
        path = f"{group}layers/{base}" + (f"_{counts[base]}" if counts[base] else "")
        if is_recurrent(item):
            if not isinstance(name, str) or not name:
                raise ValueError(f"{label}: a {item['class_name']} layer has no name")
            yield Found(names + name, item, path)
        elif item["class_name"] in _MODELS:
            if depth == _DEEPEST:
                raise UnsupportedError(f"{label}: models nested more than {_DEEPEST} deep are not supported")
            yield from _recurrent_layers(item, f"{names}{name or base}/", f"{path}/", depth + 1, label)


def _cell_item(item: Mapping[str, Any], direction: int) -> Mapping[str, Any]:
    """The serialized cell of an RNN layer's or, of a Bidirectional one, a direction's; nothing of other layers."""
    config = item["config"]
    if item["class_name"] == "Bidirectional":
        inner = config.get("backward_layer") if direction else None
        return _cell_item(inner or config["layer"], 0)
    cell: Mapping[str, Any] = config["cell"] if item["class_name"] == "RNN" else {}
    return cell


def _is_stacked(item: Mapping[str, Any], direction: int) -> bool:
    return _cell_item(item, direction).get("class_name") == "StackedRNNCells"


def _stacked_groups(item: Mapping[str, Any], direction: int) -> list[str]:
    """The groups of stacked cells: one class, as others are refused, so numbers from the second on."""
    cells = _cell_item(item, direction)["config"]["cells"]
    return [_snake_case(cell["class_name"]) + (f"_{index}" if index else "") for index, cell in enumerate(cells)]


def _snake_case(name: str) -> str:
    """Keras's name of a class in weight files: SimpleRNN is simple_rnn."""
    return re.sub(r"(?<=.)(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", "_", re.sub(r"\W", "", name)).lower()


def _member(archive: zipfile.ZipFile, name: str, label: str) -> bytes:
    info = _check_member(archive, name, label)
    if info.file_size > _LARGEST_JSON:
        raise UnsupportedError(f"{label}: {name} has {info.file_size} bytes; supported: up to {_LARGEST_JSON}")
    return archive.read(info)


def _check_member(archive: zipfile.ZipFile, name: str, label: str) -> zipfile.ZipInfo:
    try:
        info = archive.getinfo(name)
    except KeyError as error:
        raise ValueError(f"{label}: not a .keras file: there is no {name} in it") from error
    # Of what is stored as it is there cannot be more than the file holds.
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
        raise UnsupportedError(f"{label}: {name} in it is compressed, which Keras does not do")
    return info


def _json(data: bytes | str, label: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{label}: its configuration is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{label}: expected a JSON object, got {type(value).__name__}")
    return value


def _major(version: Any, label: str) -> int:
    """2 or 3."""
    match = re.match(r"([23])\.", version) if isinstance(version, str) else None
    if match is None:
        raise UnsupportedError(f"{label}: keras_version {version!r:.100} is not supported; supported: 2 and 3")
    return int(match[1])
