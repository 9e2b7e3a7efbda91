"""ncnn: a net of one layer with its states as blobs, loaded from files as any ncnn model is."""

from __future__ import annotations

import importlib
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..._base import FloatArray
from ..._timing import Runner
from ..answers import PEER_INT8
from ..cases import GATES, Case
from .base import Forms, Peer
from .weights import by_row, with_one_bias

_LAYERS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}
# Blocks of PyTorch's order i f g o or r z n that make ncnn's I F O G or R U N.
_ORDER = {"lstm": (0, 1, 3, 2), "gru": (0, 1, 2), "rnn": (0,)}
_INT8_TAG = 0x000D4B38


class Ncnn(Peer):
    """ncnn on one thread, with storage and arithmetic held to float32."""

    name = "ncnn"
    cells = frozenset(_LAYERS)
    _parameters: ClassVar[str] = ""

    def __init__(self) -> None:
        self._ncnn: Any = importlib.import_module("ncnn")
        self.version = str(self._ncnn.__version__)

    def step_forms(self, case: Case) -> Forms:
        """An extractor a step, its states fed back."""
        return self._forms(case, [row[None] for row in case.rows])

    def sequence_forms(self, case: Case) -> Forms:
        """An extractor a sequence."""
        return self._forms(case, [case.inputs])

    def _forms(self, case: Case, blocks: list[FloatArray]) -> Forms:
        return {"Extractor": partial(self._runner, self._load(case), case, blocks)}

    def _load(self, case: Case) -> Any:
        states = _states(case)
        blobs = ["x", *states, "y", *(f"{name}_n" for name in states)]
        inputs = "".join(f"Input {name} 0 1 {name}\n" for name in ("x", *states))
        count = 1 + len(states)
        parameters = (
            f"7767517\n{count + 1} {2 * count}\n{inputs}"
            f"{_LAYERS[case.cell]} cell {count} {count} {' '.join(blobs)} "
            f"0={case.size} 1={GATES[case.cell] * case.size * case.input_size} 2=0{self._parameters}\n"
        )
        net = self._ncnn.Net()
        options = net.opt
        options.num_threads = 1
        options.use_vulkan_compute = False
        for name in dir(options):
            if name.startswith(("use_fp16_", "use_bf16_")):
                setattr(options, name, False)
        net.opt = options
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder)
            (path / "model.param").write_text(parameters, encoding="ascii")
            (path / "model.bin").write_bytes(self._model(case))
            for load, name in ((net.load_param, "model.param"), (net.load_model, "model.bin")):
                if load(str(path / name)) != 0:
                    raise RuntimeError(f"ncnn does not load {name}")
        return net

    def _model(self, case: Case) -> bytes:
        """The layer's model file."""
        of_x, of_h, bias = with_one_bias(case, _ORDER[case.cell])
        return b"".join(map(_raw, (of_x, bias, of_h)))

    def _runner(self, net: Any, case: Case, blocks: list[FloatArray]) -> Runner:
        mat = self._ncnn.Mat
        names = [(name, f"{name}_n") for name in _states(case)]
        # A Mat made of an array is a view of it and does not keep it alive, so the clone is what lasts.
        zeros = np.zeros((1, case.size), np.float32)
        state = {name: mat(zeros).clone() for name, _ in names}
        single = len(blocks[0]) == 1

        def run(x: Any) -> Any:
            extractor = net.create_extractor()
            extractor.input("x", x)
            for name, _ in names:
                extractor.input(name, state[name])
            # For one step the new h is all that is asked for, and it is the answer.
            y = None if single else _extract(extractor, "y")
            for name, after in names:
                state[name] = _extract(extractor, after)
            return state["h"] if single else y

        def read(answer: Any) -> FloatArray:
            array: FloatArray = np.array(answer)
            return array.reshape(-1) if single else array

        return Runner(run, [(mat(block).clone(),) for block in blocks], read)


class NcnnInt8(Ncnn):
    """The same with int8 weights, as its own tool stores them; inputs are quantised at each step."""

    name = "ncnn int8"
    dtype = "int8"
    tolerance = PEER_INT8
    _parameters = " 8=2"

    def _model(self, case: Case) -> bytes:
        of_x, of_h, bias = with_one_bias(case, _ORDER[case.cell])
        (x, x_scales), (h, h_scales) = _quantised(of_x), _quantised(of_h)
        return x + _raw(bias) + h + x_scales + h_scales


def _states(case: Case) -> tuple[str, ...]:
    return ("h", "c") if case.cell == "lstm" else ("h",)


def _extract(extractor: Any, name: str) -> Any:
    status, answer = extractor.extract(name)
    if status != 0:
        raise RuntimeError(f"ncnn cannot compute {name}: status {status}")
    return answer


def _raw(array: FloatArray) -> bytes:
    """float32 in a model file, after a zero that says so."""
    return np.zeros(1, "<u4").tobytes() + np.ascontiguousarray(array, "<f4").tobytes()


def _quantised(weights: FloatArray) -> tuple[bytes, bytes]:
    """Integers after their tag, filled up to whole words, and the scales, which ncnn divides by."""
    integers, scales = by_row(weights)
    data = integers.tobytes()
    return np.array([_INT8_TAG], "<u4").tobytes() + data + bytes(-len(data) % 4), (1 / scales).astype("<f4").tobytes()
