"""Layers in files that Keras wrote, whole models as ``.keras`` or ``.h5``. Nothing in a file is run.

Formats: keras/src/saving/saving_lib.py (``.keras``: a zip of config.json, metadata.json and model.weights.h5) and
keras/src/legacy/saving/legacy_h5_format.py (``.h5``, of Keras 2 and 3) of Keras 3.15.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from ..._files import open_file
from ...errors import UnsupportedError
from ..spec import RecurrentSpec
from .calls import Given, read_calls
from .config import LayerConfig, read_layer
from .hdf5 import Hdf5, check_h5py, open_hdf5
from .search import WRAPPER, Found, Groups, choose, every_layer, recurrent_layers, snake_case
from .weights import KerasArrays, Reader, Shape, specification

_LARGEST_JSON = 1 << 26  # bytes; a configuration has a few hundred a layer
_WEIGHTS = "model.weights.h5"
_OF_DAMAGED_ZIPS = (zipfile.BadZipFile, NotImplementedError, OverflowError, EOFError, RuntimeError, OSError)
_NUMBER = re.compile(r"(?:_[0-9]+)?(?::[0-9]+)?$")

Reading: TypeAlias = tuple[LayerConfig, RecurrentSpec, Given]


def read_keras_file(path: str | os.PathLike[str], name: str | None) -> Reading:
    """The one recurrent layer of a file, or the one called `name`, and what the model's calls give it beside x.

    Raises UnsupportedError for what cannot be honoured, ValueError for a damaged file or a name that is not there,
    what opening a file raises, ImportError without h5py, and RuntimeError where no process can be started to read in.
    """
    with open_keras_file(path) as file:
        found, _ = choose(file.model, name, file.label, file.groups)
        where = f"{file.label}: {found.item['class_name']} layer {found.name!r}"
        config = read_layer(found.item, file.version[0], where)
        given = read_calls(found.item, found.inside, config, masked=found.masked)
        return config, specification(config, file.cells(found, config)), given


def recurrent_names(path: str | os.PathLike[str]) -> list[tuple[str, str]]:
    """The name and the class of each recurrent layer of a file, in its order. Errors as for `read_keras_file`."""
    check_h5py()
    source = Path(os.fsdecode(path))
    label = os.fspath(source)
    if _is_zip(source, label):
        try:
            with zipfile.ZipFile(source) as archive:
                model = _json(_member(archive, "config.json", label), label)
        except _OF_DAMAGED_ZIPS as error:
            raise ValueError(f"{label}: not a .keras file, or damaged: {error}") from error
    else:
        with open_hdf5(source, label) as root:
            model = _json(_model_config(root, label), label)
    return [(found.name, found.item["class_name"]) for found in recurrent_layers(model, label)]


def _is_zip(path: Path, label: str) -> bool:
    if path.is_dir():
        raise _folder(path, label)
    with open_file(path) as file:
        return file.read(4) == b"PK\x03\x04"


def _folder(path: Path, label: str) -> ValueError:
    if (path / "saved_model.pb").exists():
        return UnsupportedError(
            f"{label}: a SavedModel, a folder with a graph of TensorFlow's, is not supported; supported: files of "
            "model.save(), as .keras or .h5. With the TensorFlow that wrote it: "
            "tf.keras.models.load_model(folder).save('model.h5')"
        )
    return ValueError(f"{label}: expected a file of model.save(), as .keras or .h5, got a folder")


@contextmanager
def open_keras_file(path: str | os.PathLike[str]) -> Iterator[KerasFile]:
    """A file's model, whose weights can be read as long as it is open. Raises as `read_keras_file` does."""
    check_h5py()
    source = Path(os.fsdecode(path))
    label = os.fspath(source)
    if not _is_zip(source, label):
        with open_hdf5(source, label) as root:
            text = _model_config(root, label)
            yield _Legacy(root, label, _version(root.text("keras_version"), label), _json(text, label))
        return
    try:
        with zipfile.ZipFile(source) as archive:
            version = _version(_json(_member(archive, "metadata.json", label), label).get("keras_version"), label)
            if version < (2, 12):
                raise UnsupportedError(
                    f"{label}: keras_version 2.{version[1]} is not supported in a .keras file; supported: 2.12 and "
                    "later, or the same model saved as .h5"
                )
            model = _json(_member(archive, "config.json", label), label)
            _check_member(archive, _WEIGHTS, label)
    except _OF_DAMAGED_ZIPS as error:
        raise ValueError(f"{label}: not a .keras file, or damaged: {error}") from error
    with open_hdf5(source, f"{label}: {_WEIGHTS}", _WEIGHTS) as root:
        yield _Archive(root, label, version, model)


class KerasFile(ABC):
    """An open file: its model as it is serialized, and the weights of its layers."""

    groups: Groups | None = None

    def __init__(self, root: Hdf5, label: str, version: tuple[int, int], model: dict[str, Any]) -> None:
        self._root = root
        self.label = label
        self.version = version
        self.model = model

    @abstractmethod
    def cells(self, found: Found, config: LayerConfig) -> Reader:
        """What reads the cells of a recurrent layer."""

    @abstractmethod
    def arrays(self, found: Found, shapes: Mapping[str, Shape], beside: Sequence[str] = ()) -> KerasArrays:
        """The arrays of another layer, of these names and shapes; those of the names `beside` may come after them."""


class _Archive(KerasFile):
    """``.keras``: a group for each layer, in which its variables have numbers."""

    def __init__(self, root: Hdf5, label: str, version: tuple[int, int], model: dict[str, Any]) -> None:
        super().__init__(root, label, version, model)
        self.groups: Groups = Groups(root.has, version)

    def cells(self, found: Found, config: LayerConfig) -> Reader:
        self.groups.check(found, self.label)

        def read(direction: int, index: int, shapes: Mapping[str, Shape]) -> KerasArrays:
            values = _named(self._root, found.group, found.names[-1])
            if config.output.bidirectional:
                values = values.group(("forward_layer", "backward_layer")[direction])
            if not config.directions[direction][index].cudnn:  # which has no cell
                values = values.group("cell")
            if _is_stacked(found.item, direction):
                values = values.group(f"cells/{_stacked_groups(found.item, direction)[index]}")
            return self._numbered(values.group("vars"), shapes, config.where)

        return read

    def arrays(self, found: Found, shapes: Mapping[str, Shape], beside: Sequence[str] = ()) -> KerasArrays:
        if not shapes:
            return {}
        self.groups.check(found, self.label)
        values = _named(self._root, found.group, found.names[-1]).group("vars")
        return self._numbered(values, shapes, repr(found.name), beside)

    def _numbered(
        self, values: Hdf5, shapes: Mapping[str, Shape], where: str, beside: Sequence[str] = ()
    ) -> KerasArrays:
        if values.has(str(len(shapes) + len(beside))):
            raise ValueError(f"{self.label}: {where} has more than {', '.join([*shapes, *beside])} in the file")
        return {role: values.array(str(i), shape) for i, (role, shape) in enumerate(shapes.items())}


def _named(root: Hdf5, path: str, name: str) -> Hdf5:
    """A layer's group. It says the layer's name, but in files of early versions of Keras 3."""
    group = root.group(path)
    stored = group.group("vars").text("name") if group.has("vars") else None
    if stored is not None and stored != name:
        raise ValueError(f"{path}: expected the weights of layer {name!r}, found those of {stored[:100]!r}")
    return group


class _Legacy(KerasFile):
    """``.h5``: a group for each layer of the outermost model, with the names of its weights in order."""

    def cells(self, found: Found, config: LayerConfig) -> Reader:
        _check_order(found, config.where)
        names = self._own(found, recurrent_layers(self.model, self.label))
        # The last of all cells' arrays has to be the last of the names.
        left = sum(len(direction) for direction in config.directions)

        def read(direction: int, index: int, shapes: Mapping[str, Shape]) -> KerasArrays:
            nonlocal left
            left -= 1
            arrays = {}
            for role, shape in shapes.items():
                name = next(names, "")
                if _role(name) != role:
                    raise ValueError(f"{self.label}: {config.where}: expected its {role}, found {name[:100]!r}")
                if config.output.bidirectional and _direction(name, found.names[-1]) == 1 - direction:
                    raise _unordered(config.where, f"{name[:100]!r} comes first")
                arrays[role] = self._group(found).array(name, shape)
            for surplus in () if left else names:
                raise ValueError(f"{self.label}: {config.where}: weights beside its own: {surplus[:100]!r}")
            return arrays

        return read

    def arrays(self, found: Found, shapes: Mapping[str, Shape], beside: Sequence[str] = ()) -> KerasArrays:
        if not shapes:
            return {}
        names = {_role(name): name for name in self._own(found, every_layer(self.model, self.label))}
        where = f"{self.label}: {found.name!r}"
        for role in shapes:
            if role not in names:
                raise ValueError(f"{where}: its {role} is missing; there are: {', '.join(map(repr, names))[:200]}")
        for role in names:
            if role not in (*shapes, *beside):
                raise ValueError(f"{where}: weights beside its own: {names[role][:100]!r}")
        return {role: self._group(found).array(names[role], shape) for role, shape in shapes.items()}

    def _group(self, found: Found) -> Hdf5:
        return self._root.group("model_weights").group(_outermost(found))

    def _own(self, found: Found, others: Sequence[Found]) -> Iterator[str]:
        return iter(_own_weights(found, others, self._group(found).texts("weight_names"), self.label))


def _role(name: str) -> str:
    """What a weight is in its layer, by its name, in which numbers may tell equal names apart."""
    return _NUMBER.sub("", name.rpartition("/")[2])


def _outermost(found: Found) -> str:
    """The layer of the outermost model that it is, or is inside of: each has a group."""
    return found.names[0]


def _own_weights(found: Found, others: Sequence[Found], names: list[str], label: str) -> list[str]:
    """Those of the names of an outermost layer's weights that are the layer's own.

    In a model inside the model they are known by the layer's name, and the names of models before it, if no other
    recurrent layer can be meant.
    """
    if len(set(names)) < len(names):
        raise ValueError(f"{label}: the weights of {_outermost(found)!r} have one name twice, so the file lacks some")
    if not found.in_model:
        return names
    own = _claimed(found, names)
    for other in others:
        if other.names != found.names and other.names[0] == found.names[0]:
            own = own if own.isdisjoint(_claimed(other, names)) else set()
    if not own:
        raise UnsupportedError(
            f"{label}: {found.name!r} is in a model inside the model, whose weights are not told from others by "
            "their names; supported: layers of the outermost model, other names, or the same model saved as .keras"
        )
    return [name for name in names if name in own]


def _claimed(found: Found, names: list[str]) -> set[str]:
    """The weights that may be a layer's: those behind as many of its names as there are, or all if none has a name."""
    if not any("/" in name for name in names):
        return set(names)
    for start in range(len(found.names)):
        prefix = "/".join(found.names[start:]) + "/"
        claimed = {name for name in names if f"/{prefix}" in f"/{name}"}
        if claimed:
            return claimed
    if found.inside[-1]["class_name"] == WRAPPER:  # whose name Keras 2 has for that of what is in it
        return {name for name in names if f"/{found.names[-2]}/" in f"/{name}"}
    return set()


def _model_config(root: Hdf5, label: str) -> str:
    text = root.text("model_config")
    if text is None:
        raise UnsupportedError(
            f"{label}: holds no configuration (model_config), perhaps weights alone, from which a layer's options do "
            "not follow; supported: files of model.save(), as .keras or .h5. With Keras, load the weights into the "
            "model, and pass its layer or save it whole"
        )
    return text


def _check_order(found: Found, where: str) -> None:
    """Refuses stacked cells whose weights are not in the order of the cells: trained ones come first in the file."""
    if _is_stacked(found.item, 0):
        trained = [cell["config"].get("trainable", True) for cell in _cell_item(found.item, 0)["config"]["cells"]]
        if not all(trained[: trained.count(True)]):
            raise _unordered(where, f"the cells' trainable is {trained}")


def _direction(weight: str, layer: str) -> int | None:
    """Which direction the path of a weight says. The forward layer's come second where it alone is not trained."""
    _, is_inside, inside = f"/{weight}".partition(f"/{layer}/")
    for scope in (inside if is_inside else weight).split("/")[:-1]:
        if scope.startswith(("forward_", "backward_")):
            return int(scope.startswith("backward_"))
    return None


def _unordered(where: str, what: str) -> UnsupportedError:
    return UnsupportedError(
        f"{where}: {what}, so its weights are not in order, as an .h5 file has those that are not trained last; "
        "supported: the same model saved as .keras, or with all of the layer trainable or not"
    )


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
    return [snake_case(cell["class_name"]) + (f"_{index}" if index else "") for index, cell in enumerate(cells)]


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


def _version(version: Any, label: str) -> tuple[int, int]:
    """The major version, 2 or 3, and the minor."""
    match = re.match(r"([23])\.([0-9]{1,4})", version) if isinstance(version, str) else None
    if match is None:
        raise UnsupportedError(f"{label}: keras_version {version!r:.100} is not supported; supported: 2 and 3")
    return int(match[1]), int(match[2])
