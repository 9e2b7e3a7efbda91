"""Which attributes of the ONNX recurrent operators each installed runtime honours: writes docs/compliance.md.

Every case is a model of one node, run by each runtime and compared with the float64 reading of the operators' text.
Cases and models are those of tests/onnx_models.py.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from onnx_models import GATES, PARAMETERS, NodeCase, arrays_for

TOLERANCE = 1e-5
TARGET = Path(__file__).resolve().parents[1] / "docs" / "compliance.md"
ABSENT = ("sequence_lens", "initial_h", "initial_c", "P")

INTRODUCTION = """\
# Which attributes each runtime honours

This page is for readers who move recurrent ONNX models between runtimes.
`make compliance` wrote it, with {versions}.

Each table is of one operator. Each row is a node with one attribute or input, and each column is a runtime, whose
answer is compared with the definition of the operator in float64 (`fusedcell.reference`). "ok" is an answer within
{tolerance:g}, "refused" is an error instead of an answer, and "wrong" is an answer that differs, with the largest
difference in brackets. There is no row for a sequence of length 0, on which the definition is silent
([ONNX](onnx.md#conventions)).
"""


def run_fusedcell(case: NodeCase) -> list[np.ndarray]:
    import fusedcell

    return case.run(fusedcell.from_onnx(case.model()))


def run_onnxruntime(case: NodeCase) -> list[np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    model = case.model().SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    outputs: list[np.ndarray] = session.run(None, given(case))
    return outputs


def run_openvino(case: NodeCase) -> list[np.ndarray]:
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = core.compile_model(core.read_model(case.model().SerializeToString()), "CPU", settings)
    outputs = compiled(given(case))
    return [outputs[name] for name in case.node().output]


def run_onnx(case: NodeCase) -> list[np.ndarray]:
    from onnx.reference import ReferenceEvaluator

    outputs: Any = ReferenceEvaluator(case.model()).run(None, given(case))
    return list(outputs)


RUNTIMES: dict[str, tuple[str, Callable[[NodeCase], list[np.ndarray]]]] = {
    "fusedcell": ("fusedcell", run_fusedcell),
    "onnxruntime": ("ONNX Runtime", run_onnxruntime),
    "openvino": ("OpenVINO", run_openvino),
    "onnx": ("onnx's evaluator", run_onnx),
}


def given(case: NodeCase) -> dict[str, np.ndarray]:
    return {role: array for role, array in case.arrays.items() if role not in case.constants}


def cases(op: str) -> dict[str, NodeCase]:
    """By what the case has beside X, W, R and B."""

    def case(*present: str, attributes: dict[str, Any] | None = None, **options: Any) -> NodeCase:
        arrays = arrays_for(op, absent=[role for role in ABSENT if role not in present], steps=6, batch=3, **options)
        if "sequence_lens" in arrays:
            arrays["sequence_lens"] = np.array([2, 6, 4], np.int32)
        if "initial_c" in arrays:  # large enough for clip to matter
            arrays["initial_c"] = arrays["initial_c"] * np.float32(3)
        return NodeCase(op, arrays, {"hidden_size": 5, **(attributes or {})}, opset=14)

    states = ("initial_h", "initial_c")
    both = {"direction": "bidirectional"}
    plain = case()
    found = {
        "nothing else": plain,
        "no B": NodeCase(op, {k: v for k, v in plain.arrays.items() if k != "B"}, plain.attributes, opset=14),
        "initial states": case(*states),
        "direction=reverse": case(*states, attributes={"direction": "reverse"}),
        "direction=bidirectional": case(*states, attributes=both, directions=2),
        "sequence_lens": case(*states, "sequence_lens"),
        "sequence_lens, reverse": case(*states, "sequence_lens", attributes={"direction": "reverse"}),
        "sequence_lens, bidirectional": case(*states, "sequence_lens", attributes=both, directions=2),
        "layout=1": case(attributes={"layout": 1}, layout=1),
        "layout=1, initial states": case(*states, attributes={"layout": 1}, layout=1),
        "clip": case(*states, attributes={"clip": 0.25}),
    }
    if op == "GRU":
        found |= {f"linear_before_reset={n}": case(attributes={"linear_before_reset": n}) for n in (0, 1)}
    if op == "LSTM":
        found["P"] = case(*states, "P")
        found["input_forget=1"] = case(*states, attributes={"input_forget": 1})
    gates = {"RNN": [], "GRU": ["Sigmoid"], "LSTM": ["Sigmoid"]}[op]
    others = {"RNN": 1, "GRU": 1, "LSTM": 2}[op]
    for name in ("Relu", "Sigmoid", "Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu",
                 "Softsign", "Softplus"):  # fmt: skip
        attributes: dict[str, Any] = {"activations": [*gates, *[name] * others]}
        for key, value in (("alpha", 0.3), ("beta", 0.4)):
            if key in PARAMETERS.get(name, ()):
                attributes[f"activation_{key}"] = [value] * others
        found[f"activations: {name}"] = case(*states, attributes=attributes)
    if op != "RNN":
        found["activations: HardSigmoid as gates"] = case(
            attributes={"activations": ["HardSigmoid"] + ["Tanh"] * others}
        )
    return found


def verdict(run: Callable[[NodeCase], list[np.ndarray]], case: NodeCase) -> str:
    """What a cell of the table says."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other projects' warnings are no answers
            outputs = run(case)
    except Exception:
        return "refused"
    worst = 0.0
    for actual, expected in zip(outputs, case.expected(), strict=True):
        if actual.shape != expected.shape:
            return f"**wrong** (shape {actual.shape} for {expected.shape})"
        error = np.abs(actual - expected) / np.maximum(1, np.abs(expected))
        worst = max(worst, float(np.nan_to_num(error, nan=np.inf).max()))
    return "ok" if worst <= TOLERANCE else f"**wrong** ({worst:.2g})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=TARGET)
    out = parser.parse_args().out

    installed = {name: runtime for name, runtime in RUNTIMES.items() if importlib.util.find_spec(name)}
    versions = ", ".join(
        f"{label} {importlib.metadata.version(name)}" for name, (label, _) in installed.items() if name != "fusedcell"
    )
    lines = [INTRODUCTION.format(versions=versions, tolerance=TOLERANCE)]
    labels = [label for label, _ in installed.values()]
    for op in GATES:
        lines += [f"## {op}", "", f"| | {' | '.join(labels)} |", "|--" * (len(labels) + 1) + "|"]
        for name, case in cases(op).items():
            verdicts = [verdict(run, case) for _, run in installed.values()]
            lines.append(f"| {name} | {' | '.join(verdicts)} |")
        lines.append("")
    out.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
