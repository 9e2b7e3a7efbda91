"""One ONNX operator apart from its graph: what it makes of constants, and which shape that has, by the package onnx.

Only operators whose result follows from their inputs, and whose size is known before it is made, are run.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from ...errors import UnsupportedError
from .file import Values, element_name, import_onnx
from .graph import Attribute
from .reader import AttributeReader
from .sizes import Number, Size, product

Dims: TypeAlias = "tuple[Number, ...]"
Known: TypeAlias = "tuple[Dims | None, Values | None, np.dtype[Any]]"  # a tensor's shape, values and type

# Of these each element of the result follows from one element of each input.
ELEMENTWISE = frozenset(
    (
        "Abs", "Add", "And", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Cast", "Ceil", "Clip",
        "Cos", "Div", "Elu", "Equal", "Erf", "Exp", "Floor", "Greater", "GreaterOrEqual", "HardSigmoid", "Identity",
        "IsInf", "IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mod", "Mul", "Neg", "Not",
        "Or", "Pow", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt",
        "Sub", "Sum", "Tan", "Tanh", "Where", "Xor",
    )
)  # fmt: skip
REDUCTIONS = frozenset(
    f"Reduce{name}" for name in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
)
OTHERS = frozenset(
    (
        "Concat", "CumSum", "DequantizeLinear", "Flatten", "Gather", "Gemm", "LpNormalization", "MatMul",
        "MatMulInteger", "Pad", "QuantizeLinear", "Range", "Slice", "Softmax", "Split", "Squeeze", "Transpose", "Trilu",
        "Unsqueeze",
    )
)  # fmt: skip

_MAX_PARAMETERS = 1000  # elements of an axes, sizes or pads input
# Multiplications that cost as much as an element made: of the types that NumPy has a library for, and of others.
_PRODUCTS_FOR_ONE = {"float32": 256, "float64": 256}
_SLOW_PRODUCTS_FOR_ONE = 16
# The evaluator has this of an operator set in which an older node means the same.
_EVALUATED_SINCE = {"DequantizeLinear": 19}
_SIMPLE = ("FLOAT", "INT", "STRING", "FLOATS", "INTS", "STRINGS")


class Operation:
    """A node of the default domain, its attributes as the call of its function has them.

    Raises UnsupportedError for an operator set or an attribute that is not known, ValueError for attributes of another
    type than the operator's.
    """

    def __init__(self, op_type: str, opset: int, attributes: Mapping[str, Attribute], outputs: int, where: str) -> None:
        onnx: Any = import_onnx()
        self.op_type, self.where = op_type, where
        self._opset, self._outputs = opset, [f"o{index}" for index in range(outputs)]
        try:
            self._schema: Any = onnx.defs.get_schema(op_type, opset, "")
        except onnx.defs.SchemaError as error:
            raise UnsupportedError(f"{where}: {op_type} of operator set {opset} is not known") from error
        self.attributes = AttributeReader(attributes, self._schema.attributes, where)
        self._attributes = []
        for name, value in attributes.items():
            kind = self._schema.attributes[name].type.name
            self.attributes.check(name, kind)
            if kind in _SIMPLE:
                self._attributes.append(onnx.AttributeProto())
                self._attributes[-1].CopyFrom(value)
                self._attributes[-1].name = name

    def _node(self, present: Sequence[bool]) -> Any:
        inputs = [f"i{index}" if there else "" for index, there in enumerate(present)]
        return import_onnx().NodeProto(
            op_type=self.op_type, input=inputs, output=self._outputs, attribute=self._attributes
        )

    def check_count(self, present: Sequence[bool]) -> None:
        """Raises ValueError for more or fewer inputs than the operator has."""
        least, most = self._schema.min_input, self._schema.max_input
        if not least <= len(present) <= most or not all(present[:least]):
            raise ValueError(f"{self.where}: expected {least} to {most} inputs, got {sum(present)}")

    def fill(self, array_of: Callable[[Any], Values]) -> Values | None:
        """What ConstantOfShape fills a shape with, read from its tensor by `array_of`; None of other operators."""
        if self.op_type != "ConstantOfShape":
            return None
        value = self.attributes.tensor("value")
        array = np.zeros((), np.float32) if value is None else array_of(value)
        if array.size != 1:
            raise ValueError(f"{self.where}: value: expected one element, got {array.size}")
        return array.reshape(())

    def shapes(self, inputs: Sequence[Known | None]) -> list[Dims | None]:
        """The outputs' shapes, from what is known of the inputs. Raises ValueError where they do not fit."""
        onnx: Any = import_onnx()
        self.check_count([given is not None for given in inputs])
        tokens: dict[Size, str] = {}
        types, data = {}, {}
        for index, given in enumerate(inputs):
            if given is None:
                continue
            dims, values, dtype = given
            texts = (
                None
                if dims is None
                else [tokens.setdefault(size, f"s{len(tokens)}") if isinstance(size, Size) else size for size in dims]
            )
            element = onnx.helper.np_dtype_to_tensor_dtype(dtype)
            types[f"i{index}"] = onnx.helper.make_tensor_type_proto(element, texts)
            if values is not None and values.dtype.kind in "iuf" and values.size <= _MAX_PARAMETERS:
                data[f"i{index}"] = onnx.numpy_helper.from_array(np.asarray(values, order="C"))
        node = self._node([given is not None for given in inputs])
        opsets = [onnx.helper.make_opsetid("", self._opset)]
        try:
            found = onnx.shape_inference.infer_node_outputs(self._schema, node, types, data, opset_imports=opsets)
        except Exception as error:  # of which there are many kinds
            raise ValueError(f"{self.where}: its inputs do not fit: {error}") from error
        sizes = {token: size for size, token in tokens.items()}
        return [_dims(found.get(name), sizes, self.where) for name in self._outputs]

    def run(self, arrays: Sequence[Values | None], spend: Callable[[int, str], None]) -> list[Values]:
        """The outputs. `spend` is told beforehand how many elements they have, and may raise.

        Raises ValueError where the inputs do not fit, UnsupportedError where the sizes cannot be told.
        """
        onnx: Any = import_onnx()
        shapes = self.shapes([None if array is None else (array.shape, array, _dtype(array)) for array in arrays])
        for shape in shapes:
            spend(self._work(shape, arrays), self.where)
        node = self._node([array is not None for array in arrays])
        graph = onnx.GraphProto(
            node=[node],
            input=[onnx.ValueInfoProto(name=name) for name in node.input if name],
            output=[onnx.ValueInfoProto(name=name) for name in self._outputs],
        )
        self._check_cast(arrays)
        opsets = {"": max(self._opset, _EVALUATED_SINCE.get(self.op_type, 0))}
        try:
            evaluator = importlib.import_module("onnx.reference").ReferenceEvaluator(graph, opsets=opsets)
            with np.errstate(all="ignore"):  # who uses the values says what is too large
                found = evaluator.run(None, {f"i{i}": array for i, array in enumerate(arrays) if array is not None})
            outputs = [np.asarray(values) for values in found]
        except Exception as error:  # of which there are many kinds, as the evaluator trusts the model
            raise ValueError(f"{self.where}: its inputs do not fit: {error}") from error
        for values, shape in zip(outputs, shapes, strict=True):
            if values.dtype.kind not in (
                "biufVO" if any(a is not None and a.dtype == object for a in arrays) else "biufV"
            ):
                raise UnsupportedError(f"{self.where}: element type {values.dtype} is not supported")
            if self.op_type != "Slice" and values.shape != shape:
                raise UnsupportedError(f"{self.where}: its result is of shape {values.shape}, not {shape}")
        return outputs

    def _work(self, shape: Dims | None, arrays: Sequence[Any]) -> int:
        """How many elements an output has, and what else there is to do, in elements."""
        size = None if shape is None else product(shape)
        if self.op_type == "Slice":  # of whose older versions onnx does not always tell it
            size = arrays[0].size
        if not isinstance(size, int):
            raise UnsupportedError(f"{self.where}: the size of its result cannot be told before it is made")
        if self.op_type in ("MatMul", "Gemm", "MatMulInteger"):
            products = _PRODUCTS_FOR_ONE.get(arrays[0].dtype.name, _SLOW_PRODUCTS_FOR_ONE)
            size += size * max(arrays[0].shape, default=1) // products
        blocks = self.attributes.integer("block_size") or 0  # for which scales are repeated
        return size + (arrays[1].size * abs(blocks) if blocks else 0)

    def _check_cast(self, arrays: Sequence[Values | None]) -> None:
        """Refuses casts to integers that do not hold the number, as runtimes differ there."""
        if self.op_type != "Cast":
            return
        onnx: Any = import_onnx()
        to = self.attributes.integer("to")
        array: Any = arrays[0]
        if to is None or to not in onnx.helper.get_all_tensor_dtypes():
            raise self.attributes.refusal("to", to, "an element type")
        dtype = onnx.helper.tensor_dtype_to_np_dtype(to)
        if dtype.kind in "iu" and array.dtype.kind in "fV":
            info, floats = np.iinfo(dtype), array.astype(np.float64)
            if not ((floats >= info.min) & (floats <= info.max)).all():
                raise self.attributes.refusal("to", element_name(to), "integers that hold every value")


def _dtype(array: Values) -> np.dtype[Any]:
    return np.dtype(np.int64) if array.dtype == object else array.dtype  # objects are sizes


def _dims(found: Any, sizes: Mapping[str, Size], where: str) -> Dims | None:
    """A shape of onnx's; sizes that it does not know become new ones."""
    if found is None or not found.tensor_type.HasField("shape"):
        return None
    dims: list[Number] = []
    for dim in found.tensor_type.shape.dim:
        known = int(dim.dim_value) if dim.HasField("dim_value") else sizes.get(dim.dim_param)
        dims.append(Size.new(f"a size that {where} makes") if known is None else known)
    return tuple(dims)
