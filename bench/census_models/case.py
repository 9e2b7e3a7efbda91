"""What the census is made of: a model, the door it comes through, and how its own framework runs it."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import fusedcell as fc

Arrays = tuple[np.ndarray, ...]
Answer = Callable[..., Any]


class MissingError(Exception):
    """A package that is not installed; the text says how it is."""


@dataclass(frozen=True)
class Case:
    """One model at one input.

    `calls` are the inputs of one call after another: of steps, which a stream takes, if `start` is given, and of whole
    sequences if `theirs` is. Either answers as the model's framework does, in arrays or tensors.
    """

    read: Callable[[], fc.Model]
    calls: Sequence[Arrays]
    theirs: Answer | None = None
    start: Callable[[], Answer] | None = None
    overlap: int = 0
    ours: Callable[[fc.Model], Answer] = lambda model: model


@dataclass(frozen=True)
class Entry:
    """A row: the model's name, its door ("PyTorch", "Keras", "ONNX", "JSON"), its framework, and where it is from."""

    name: str
    door: str
    framework: str
    source: str
    make: Callable[[], Case]

    @property
    def is_timed(self) -> bool:
        """Formulas have no speed."""
        return self.framework != FORMULAS


FORMULAS = "its formulas, float64"


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return rng(seed).standard_normal(shape).astype(np.float32)


def tokens(count: int, *shape: int) -> np.ndarray:
    return rng().integers(0, count, shape)


def distribution_file(package: str, version: str, name: str, how: str = "--no-deps ") -> Path:
    """A file of an installed package, which is not imported."""
    missing = MissingError(f"package not installed: pip install {how}{package}=={version}")
    try:
        found = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        raise missing from None
    for file in found.files or ():
        if str(file) == name and found.version == version:
            return Path(str(file.locate()))
    raise missing


def seeded(make: Callable[[], Any]) -> Any:
    """A module of PyTorch with the same weights on every run."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = make().eval()
    for part in module.modules():
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
            part.running_mean.copy_(torch.from_numpy(normal(part.num_features, seed=1) / 4))
            part.running_var.copy_(torch.from_numpy(rng(2).uniform(0.5, 2, part.num_features)))
    return module


def of_module(make: Callable[[], Any], *inputs: np.ndarray) -> Case:
    """A module of PyTorch over whole sequences."""
    import torch

    module = seeded(make)

    def theirs(*arrays: np.ndarray) -> Any:
        with torch.inference_mode():
            return module(*map(torch.from_numpy, arrays))

    example = tuple(map(torch.from_numpy, inputs))
    return Case(lambda: fc.Model.from_torch(module, example), [inputs], theirs)


def of_stepped(
    make: Callable[[], Any], states: Sequence[np.ndarray], steps: Iterable[Arrays], overlap: int = 0
) -> Case:
    """A module of PyTorch that takes its states behind its inputs, and answers with them behind its answers."""
    import torch

    module, calls = seeded(make), list(steps)

    def start() -> Answer:
        held = [tuple(map(torch.from_numpy, states))]

        def step(*arrays: np.ndarray) -> Any:
            with torch.inference_mode():
                answers = module(*map(torch.from_numpy, arrays), *held[0])
            answers = tuple(answers)
            held[0] = answers[-len(states) :]
            return answers[: -len(states)]

        return step

    example = tuple(map(torch.from_numpy, (*calls[0], *states)))
    return Case(lambda: fc.Model.from_torch(module, example), calls, None, start, overlap)


def session(model: Any) -> Any:
    """ONNX Runtime's, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def of_graph(model: Path | bytes, *inputs: np.ndarray) -> Case:
    """An ONNX graph over whole sequences."""
    run = session(str(model) if isinstance(model, Path) else model)
    names = [given.name for given in run.get_inputs()]

    def theirs(*arrays: np.ndarray) -> Any:
        return run.run(None, dict(zip(names, arrays, strict=True)))

    return Case(lambda: fc.Model.from_onnx(model), [inputs], theirs)


def of_stepped_graph(
    model: Path | bytes,
    states: dict[str, tuple[str, np.ndarray]],
    steps: Iterable[Arrays],
    constants: dict[str, Any] | None = None,
    overlap: int = 0,
) -> Case:
    """An ONNX graph that takes its states: input -> (output, its beginning)."""
    run = session(str(model) if isinstance(model, Path) else model)
    fixed = {name: np.asarray(value) for name, value in (constants or {}).items()}
    names = [given.name for given in run.get_inputs() if given.name not in states and given.name not in fixed]
    outputs = [given.name for given in run.get_outputs()]

    def start() -> Answer:
        held = {name: begin for name, (_, begin) in states.items()}

        def step(*arrays: np.ndarray) -> Any:
            answers = dict(
                zip(outputs, run.run(None, fixed | held | dict(zip(names, arrays, strict=True))), strict=True)
            )
            for name, (back, _) in states.items():
                held[name] = answers.pop(back)
            return list(answers.values())

        return step

    back = {name: output for name, (output, _) in states.items()}
    return Case(lambda: fc.Model.from_onnx(model, back, constants=constants), list(steps), None, start, overlap)


def exported(module: Any, inputs: Arrays, names: Sequence[str], outputs: Sequence[str], axes: Any = None) -> bytes:
    """The graph that PyTorch's exporter makes of a module."""
    import io
    import warnings

    import torch

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            tuple(map(torch.from_numpy, inputs)),
            buffer,
            input_names=list(names),
            output_names=list(outputs),
            dynamic_axes=axes,
            opset_version=17,
            dynamo=False,
        )
    return buffer.getvalue()
