"""A recurrent node's inputs and attributes as a `RecurrentSpec`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .._base import FloatArray
from ..errors import UnsupportedError
from .floats import to_float32
from .onnx_attributes import NodeAttributes, Operator, operator_of, read_attributes
from .onnx_constants import Constant, Constants, NotConstantError
from .onnx_file import Values
from .onnx_graph import Occurrence
from .onnx_quantized import QuantisedMatrix, quantised_matrix
from .spec import Arrays, RecurrentSpec, reordered

_PEEPHOLE_BLOCKS = (0, 2, 1)  # i o f -> i f o


@dataclass(frozen=True)
class NodeReading:
    """What a node becomes, and what its weights W are in the file."""

    spec: RecurrentSpec
    weights: Constant


def read_node(occurrence: Occurrence, constants: Constants, *, clip_before_h: bool = True) -> NodeReading:
    """The layer that a node is.

    Raises UnsupportedError naming the attribute, input or output that cannot be honoured, ValueError for what does not
    fit together.
    """
    operator = operator_of(occurrence)
    attributes = read_attributes(occurrence, operator, clip_before_h=clip_before_h)
    return _NodeReader(occurrence, operator, attributes, constants).read()


class _NodeReader:
    def __init__(
        self, occurrence: Occurrence, operator: Operator, attributes: NodeAttributes, constants: Constants
    ) -> None:
        node = occurrence.node
        self._where = occurrence.description
        self._scope = occurrence.scope
        self._operator = operator
        self._attributes = attributes
        self._constants = constants
        for kind, given, known in (("inputs", node.input, operator.inputs), ("outputs", node.output, operator.outputs)):
            if len(given) > len(known):
                unknown = list(given[len(known) :])
                raise UnsupportedError(
                    f"{self._where}: {kind} {unknown} are not supported; supported: {', '.join(known)}"
                )
        roles = zip(operator.inputs, node.input, strict=False)
        self._names = {role: name for role, name in roles if not self._scope.is_absent(name)}

    def read(self) -> NodeReading:
        operator, attributes = self._operator, self._attributes
        directions, gates = attributes.num_directions, operator.gates
        sources = {role: self._weights(role) for role in ("W", "R")}
        quantised: dict[str, QuantisedMatrix] = {}
        if operator.domain:
            quantised = {role: self._quantised(role, sources[role].values) for role in ("W", "R")}
            W, R = (quantised[role].floats for role in ("W", "R"))
        else:
            W, R = (to_float32(sources[role].values, f"{self._where}: {role}") for role in ("W", "R"))

        if R.ndim != 3:
            raise self._misfit("R", "three axes", sources["R"].values.shape)
        units = R.shape[2]
        if attributes.hidden_size is not None and attributes.hidden_size != units:
            raise ValueError(f"{self._where}: hidden_size={attributes.hidden_size}, but R is for {units} units")
        rows = gates * units
        self._check("R", R, (directions, rows, units))
        if W.ndim != 3:
            raise self._misfit("W", "three axes", sources["W"].values.shape)
        self._check("W", W, (directions, rows, W.shape[2]))
        B = self._optional("B", (directions, 2 * rows))
        P = self._optional("P", (directions, 3 * units))
        self._check_lengths()

        cells = []
        for d in range(directions):
            cell: Arrays = {
                "weight_ih": reordered(W[d], operator.blocks),
                "weight_hh": reordered(R[d], operator.blocks),
            }
            if B is not None:
                cell["bias_ih"], cell["bias_hh"] = (reordered(part, operator.blocks) for part in np.split(B[d], 2))
            if P is not None:
                cell["weight_peephole"] = reordered(P[d], _PEEPHOLE_BLOCKS)
            cells.append(cell)
        int8_cells = None
        if quantised and all(matrix.fits_int8 for matrix in quantised.values()):
            int8_cells = tuple(
                cell
                | quantised["W"].int8_arrays("weight_ih", d, operator.blocks)
                | quantised["R"].int8_arrays("weight_hh", d, operator.blocks)
                for d, cell in enumerate(cells)
            )
        spec = RecurrentSpec(
            kind=self._kind(),
            cells=tuple(cells),
            options=attributes.options,
            int8_cells=int8_cells,
            reverse=attributes.direction == "reverse",
            batch_first=attributes.layout == 1,
            initial_state=self._initial_state(units),
        )
        return NodeReading(spec, sources["W"])

    def _kind(self) -> str:
        if self._operator.family == "GRU":
            return "gru_reset_after" if self._attributes.linear_before_reset else "gru_reset_before"
        return "lstm" if self._operator.family == "LSTM" else "rnn_tanh"

    def _quantised(self, role: str, values: Values) -> QuantisedMatrix:
        scale, zero_point = (self._weights(f"{role}_{name}").values for name in ("scale", "zero_point"))
        return quantised_matrix(f"{self._where}: {role}", values, scale, zero_point)

    def _misfit(self, role: str, expected: object, got: tuple[int, ...]) -> ValueError:
        return ValueError(f"{self._where}: {role}: expected {expected}, got shape {got}")

    def _check(self, role: str, array: npt.NDArray[Any], shape: tuple[int, ...]) -> None:
        if array.shape != shape or 0 in shape:
            raise self._misfit(role, f"shape {shape}", array.shape)

    def _weights(self, role: str) -> Constant:
        if role not in self._names:
            raise ValueError(f"{self._where}: input {role} is missing")
        try:
            return self._constants.read(self._scope, self._names[role])
        except NotConstantError as error:
            raise UnsupportedError(
                f"{self._where}: input {role} is {error}; supported: weights that the file holds"
            ) from error
        except UnsupportedError as error:
            raise UnsupportedError(f"{self._where}: input {role}: {error}") from error

    def _optional(self, role: str, shape: tuple[int, ...]) -> FloatArray | None:
        if role not in self._names:
            return None
        array = to_float32(self._weights(role).values, f"{self._where}: {role}")
        self._check(role, array, shape)
        return array

    def _check_lengths(self) -> None:
        """A layer has no lengths of its own: they come with each call, so constant ones would be dropped."""
        if "sequence_lens" not in self._names:
            return
        name = self._names["sequence_lens"]
        try:
            lengths = self._constants.read(self._scope, name).values
        except (NotConstantError, UnsupportedError) as error:
            self._check_computed("sequence_lens", name, error)
            return
        steps = self._scope.static_size(self._names.get("X", ""), 1 if self._attributes.layout else 0)
        if steps is None or lengths.dtype.kind not in "iu" or not (lengths == steps).all():
            count = "an unknown number of" if steps is None else steps
            raise UnsupportedError(
                f"{self._where}: sequence_lens={lengths.reshape(-1)[:8].tolist()} is a constant of the file, and "
                f"X has {count} steps; a layer takes its lengths with each call, so supported: "
                "constants equal to the number of steps, or lengths that come from outside"
            )

    def _check_computed(self, role: str, name: str, error: Exception) -> None:
        """Lets pass what comes from outside, which the caller then gives; refuses what the file makes by itself."""
        if not self._constants.depends_on_data(self._scope, name):
            raise UnsupportedError(f"{self._where}: input {role}: {error}") from error

    def _initial_state(self, units: int) -> tuple[FloatArray, ...] | None:
        roles = ("initial_h", "initial_c") if self._operator.family == "LSTM" else ("initial_h",)
        states = [self._initial(role, units) for role in roles]
        given = [state for state in states if state is not None and state.any()]
        if not given:
            return None
        batches = {state.shape[1] for state in states if state is not None}
        if len(batches - {1}) > 1:
            raise ValueError(f"{self._where}: initial_h and initial_c: expected one batch, got {sorted(batches)} rows")
        batch = max(state.shape[1] for state in given)
        shape = (self._attributes.num_directions, batch, units)
        zeros = np.zeros(shape, np.float32)
        return tuple(zeros if state is None else np.broadcast_to(state, shape) for state in states)

    def _initial(self, role: str, units: int) -> FloatArray | None:
        """The constant state (D, 1 or B, H) of the file; None for zeros and for one that the caller gives."""
        name = self._names.get(role)
        if name is None:
            return None
        directions, batch_axis = self._attributes.num_directions, 0 if self._attributes.layout else 1
        row = (1, directions, units) if batch_axis == 0 else (directions, 1, units)
        label = f"{self._where}: {role}"
        values = self._constants.rows(self._scope, name, row)
        if values is None:
            try:
                values = self._constants.read(self._scope, name).values
            except (NotConstantError, UnsupportedError) as error:
                uniform = self._constants.uniform_value(self._scope, name)
                if uniform is None:
                    self._check_computed(role, name, error)
                    return None
                values = np.full(row, uniform)
            expected = (row[0] if batch_axis else -1, -1 if batch_axis else row[1], units)
            if values.ndim != 3 or any(size not in (-1, got) for size, got in zip(expected, values.shape, strict=True)):
                raise self._misfit(role, f"shape {row} with the batch for 1", values.shape)
        state = to_float32(values, label)
        return state.swapaxes(0, 1) if batch_axis == 0 else state
