"""ONNX models while they are written: their nodes, constants by name, and the message of it all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from ... import _core
from ...errors import UnsupportedError
from .file import import_onnx

# The newest that the versions of ONNX Runtime and OpenVINO of the last years all read.
_OPSET = 17
_IR_VERSION = 8
_LARGEST = 2**31 - 2**20  # protobuf's limit, and room for what is not weights


class Builder:
    """A graph that grows. Whoever adds to it chooses the names, each for one value."""

    def __init__(self) -> None:
        self._onnx: Any = import_onnx()
        self._nodes: list[Any] = []
        self._initializers: dict[str, Any] = {}
        self._bytes = 0

    def add(
        self, op_type: str, inputs: Sequence[str], outputs: str | Sequence[str], name: str = "", **attributes: Any
    ) -> str:
        """Appends a node, which has its first output's name if it is given none; returns that output."""
        results = [outputs] if isinstance(outputs, str) else outputs
        self._nodes.append(self._onnx.helper.make_node(op_type, inputs, results, name or results[0], **attributes))
        return results[0]

    def constant(self, name: str, array: Any) -> str:
        """An initializer, the same if there is one of that name. Raises UnsupportedError where no file can hold it."""
        if name not in self._initializers:
            self._bytes += array.nbytes
            if self._bytes > _LARGEST:
                raise UnsupportedError(
                    "weights of 2 GiB and more are not supported; supported: what one ONNX file holds"
                )
            self._initializers[name] = self._onnx.numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def integers(self, name: str, *values: int) -> str:
        """An initializer of these int64."""
        return self.constant(name, np.array(values, np.int64))

    def value(self, name: str, shape: Sequence[Any], *, integers: bool = False) -> Any:
        """An input or output of the graph: float32, or int64."""
        types = self._onnx.TensorProto
        return self._onnx.helper.make_tensor_value_info(name, types.INT64 if integers else types.FLOAT, shape)

    def model(
        self, inputs: Sequence[Any], outputs: Sequence[Any], renamed: Mapping[str, str] = MappingProxyType({})
    ) -> Any:
        """The ``onnx.ModelProto``, with other names for some of the nodes' outputs."""
        helper = self._onnx.helper
        for node in self._nodes if renamed else ():
            for names in (node.input, node.output):
                names[:] = [renamed.get(name, name) for name in names]
        graph = helper.make_graph(self._nodes, "fusedcell", inputs, outputs, list(self._initializers.values()))
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", _OPSET)],
            ir_version=_IR_VERSION,
            producer_name="fusedcell",
            producer_version=_core.__version__,
        )
