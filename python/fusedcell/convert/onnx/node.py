"""A recurrent node's inputs and attributes as a `RecurrentSpec`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..._base import FloatArray
from ...errors import UnsupportedError
from ...weights.floats import to_float32
from ..spec import Arrays, RecurrentSpec, reordered
from .attributes import NodeAttributes, Operator, operator_of, read_attributes
from .constants import Constants, NotConstantError
from .file import Values
from .graph import Occurrence
from .quantized import QuantisedMatrix, quantised_matrix
from .sizes import Size
from .tensors import Tensor

_PEEPHOLE_BLOCKS = (0, 2, 1)  # i o f -> i f o

# What may be left to its default where it cannot be read, and what that is.
IGNORABLE = {"initial_state": "a state of zeros", "lengths": "all steps of every row"}


@dataclass(frozen=True)
class NodeReading:
    """What a node becomes, and what its weights W are in the file.

    - ignored: a text for each input that was
    - from_call: roles of inputs that come from the model's own, which a call of the layer takes beside x
    """

    spec: RecurrentSpec
    weights: Tensor
    ignored: tuple[str, ...] = ()
    from_call: tuple[str, ...] = ()


def read_node(
    occurrence: Occurrence, constants: Constants, *, clip_before_h: bool = True, ignore: Collection[str] = ()
) -> NodeReading:
    """The layer that a node is; of `ignore`, names of `IGNORABLE`, what cannot be read takes its default.

    Raises UnsupportedError naming the attribute, input or output that cannot be honoured, ValueError for what does not
    fit together.
    """
    operator = operator_of(occurrence)
    attributes = read_attributes(occurrence, operator, clip_before_h=clip_before_h)
    return _NodeReader(occurrence, operator, attributes, constants, ignore).read()


class _NodeReader:
    def __init__(
        self,
        occurrence: Occurrence,
        operator: Operator,
        attributes: NodeAttributes,
        constants: Constants,
        ignore: Collection[str],
    ) -> None:
        node = occurrence.node
        self._where = occurrence.description
        self._scope = occurrence.scope
        self._operator = operator
        self._attributes = attributes
        self._constants = constants
        self._ignore = ignore
        self._ignored: list[str] = []
        self._from_call: list[str] = []
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
            quantised = {role: self._quantised(role, sources[role].known) for role in ("W", "R")}
            W, R = (quantised[role].floats for role in ("W", "R"))
        else:
            W, R = (to_float32(sources[role].known, f"{self._where}: {role}") for role in ("W", "R"))

        if R.ndim != 3:
            raise self._misfit("R", "three axes", sources["R"].known.shape)
        units = R.shape[2]
        if attributes.hidden_size is not None and attributes.hidden_size != units:
            raise ValueError(f"{self._where}: hidden_size={attributes.hidden_size}, but R is for {units} units")
        rows = gates * units
        self._check("R", R, (directions, rows, units))
        if W.ndim != 3:
            raise self._misfit("W", "three axes", sources["W"].known.shape)
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
        return NodeReading(spec, sources["W"], tuple(self._ignored), tuple(self._from_call))

    def _kind(self) -> str:
        if self._operator.family == "GRU":
            return "gru_reset_after" if self._attributes.linear_before_reset else "gru_reset_before"
        return "lstm" if self._operator.family == "LSTM" else "rnn_tanh"

    def _quantised(self, role: str, values: Values) -> QuantisedMatrix:
        scale, zero_point = (self._weights(f"{role}_{name}").known for name in ("scale", "zero_point"))
        return quantised_matrix(f"{self._where}: {role}", values, scale, zero_point)

    def _misfit(self, role: str, expected: object, got: tuple[object, ...]) -> ValueError:
        return ValueError(f"{self._where}: {role}: expected {expected}, got shape {got}")

    def _check(self, role: str, array: npt.NDArray[Any], shape: tuple[int, ...]) -> None:
        if array.shape != shape or 0 in shape:
            raise self._misfit(role, f"shape {shape}", array.shape)

    def _weights(self, role: str) -> Tensor:
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
        array = to_float32(self._weights(role).known, f"{self._where}: {role}")
        self._check(role, array, shape)
        return array

    def _check_lengths(self) -> None:
        """A layer has no lengths of its own: they come with each call, so others than all steps would be dropped."""
        if "sequence_lens" not in self._names or "X" not in self._names:
            return
        steps = self._constants.shape(self._scope, self._names["X"], 3)[1 if self._attributes.layout else 0]
        tensor = self._constants.tensor(self._scope, self._names["sequence_lens"])
        if tensor.values is None:
            self._refuse("sequence_lens", "lengths", tensor)
        elif tensor.dtype.kind not in "iu" or any(length != steps for length in tensor.values.flat):
            lengths = ", ".join(str(length) for length in tensor.values.flat[:8])
            error = UnsupportedError(
                f"[{lengths}], made by the model itself, and X has {steps} steps; a layer takes its lengths with each "
                "call, so supported: the number of steps for each row, or lengths from outside"
            )
            self._refuse("sequence_lens", "lengths", replace(tensor, values=None, reason=error))

    def _refuse(self, role: str, ignorable: str, tensor: Tensor) -> None:
        """Lets pass what comes from outside, which the caller then gives; refuses what the model makes by itself."""
        if isinstance(tensor.reason, NotConstantError) or self._constants.depends_on_data(
            self._scope, self._names[role]
        ):
            self._from_call.append(role)
            return
        text = f"input {role}: {tensor.reason}"
        if ignorable not in self._ignore:
            raise UnsupportedError(
                f"{self._where}: {text}; ignore=({ignorable!r},) takes {IGNORABLE[ignorable]} instead"
            ) from tensor.reason
        self._ignored.append(f"{text}; taken instead: {IGNORABLE[ignorable]}")

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
        if role not in self._names:
            return None
        directions, batch_axis = self._attributes.num_directions, 0 if self._attributes.layout else 1
        row = (1, directions, units) if batch_axis == 0 else (directions, 1, units)
        tensor = self._constants.tensor(self._scope, self._names[role])
        if tensor.depends_on_sizes:
            reason = UnsupportedError("its values depend on the sizes of the model's inputs")
            tensor = replace(tensor, values=None, reason=reason)
        if tensor.values is None:
            self._refuse(role, "initial_state", tensor)
            return None
        dims = row if tensor.dims is None else tensor.dims
        shape = [full if isinstance(size, Size) else size for size, full in zip(dims, row, strict=False)]
        shape[batch_axis : batch_axis + 1] = tensor.values.shape[batch_axis : batch_axis + 1] or [1]
        if len(dims) != 3 or any(shape[axis] != row[axis] for axis in range(3) if axis != batch_axis):
            raise self._misfit(role, f"shape {row} with the batch for 1", dims)
        state = to_float32(np.broadcast_to(tensor.values, shape), f"{self._where}: {role}")
        return state.swapaxes(0, 1) if batch_axis == 0 else state
