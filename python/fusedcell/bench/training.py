"""`fusedcell bench train`: forward, backward and update of a layer beside other libraries', one thread, in turns."""

from __future__ import annotations

import argparse
import copy
import importlib
import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from .._base import FloatArray
from .._files import write_file
from .._text import Output, aligned, show_progress, three_digits
from .._timing import FULL, QUICK, Runner, Summary, measure, ratio, summarise
from ..runtime import runtime_info
from . import plot
from .bars import TIMES_FASTER, Bars
from .cases import GATES
from .limits import multiply_rate
from .options import STDOUT, writes_files
from .page import page
from .results import disturbed
from .tables import span_text

# Batch, steps, units, of which there are as many inputs.
CASES = [(1, 100, 64), (8, 128, 64), (32, 100, 64), (8, 100, 256), (32, 100, 256), (32, 100, 512)]
_LAYERS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}
_TOLERANCE = 2e-5  # of the largest derivative


def run(options: argparse.Namespace) -> int:
    """Runs the command. Returns its exit status."""
    try:
        import torch

        import fusedcell.torch
    except ImportError as error:
        print(f"fusedcell: {error}", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    out = Output(sys.stderr if options.json == STDOUT else sys.stdout, writes_files=writes_files(options))
    cases = [case for case in CASES if case[2] in options.sizes]
    runtime, keras = runtime_info(), _keras()
    versions = {"torch": torch.__version__}
    if keras is not None:
        versions["keras on torch"] = keras.__version__
    beside = " and ".join(f"{name} {version}" for name, version in versions.items())
    head = (
        f"A step of training, x with a gradient, SGD, one thread, beside {beside}: ms, medians.\n"
        "limit %: the least time to multiply, over the time of fusedcell."
    )
    out.show(f"{head}\n")
    headings = ["B", "T", "H", "fusedcell ms", "limit %", *(f"{name} ms" for name in versions), "times faster"]
    most = multiply_rate(runtime["isa"], "float32") * 1e6  # multiply-adds a ms
    results, groups, texts = [], [], [head]
    shown: dict[str, list[Summary]] = {}
    for cell in options.cells:
        rows, ratios = [], {}
        for batch, steps, units in cases:
            show_progress(f"{cell} {batch} {steps} {units}")
            x = torch.randn(steps, batch, units)
            ours = getattr(fusedcell.torch, _LAYERS[cell])(units, units)
            theirs = getattr(torch.nn, _LAYERS[cell])(units, units)
            theirs.load_state_dict(ours.state_dict())
            difference = _difference(torch, ours, theirs, x)
            if difference > _TOLERANCE:
                print(f"fusedcell: {cell}: derivatives differ by {difference:.1e} of the largest", file=sys.stderr)
                return 1
            runners = [_runner(torch, ours, x), _runner(torch, theirs, x)]
            runners += [_keras_runner(keras, cell, x.numpy())] if keras else []
            names = ["fusedcell", *versions]
            rounds = measure(dict(zip(names, runners, strict=True)), QUICK if options.quick else FULL)
            found = {name: summarise(values) for name, values in rounds.items()}
            shown[f"{cell} {batch} {steps} {units}"] = list(found.values())
            times = {name: summary.p50 / 1e6 for name, summary in found.items()}
            quotient = ratio(rounds[min(versions, key=lambda name: times[name])], rounds["fusedcell"])
            ratios[f"{batch}, {steps}, {units}"] = quotient.p50
            # Forward, and on the way back the derivatives by the inputs and by the weights.
            multiply_adds = 3 * steps * batch * GATES[cell] * units * (units + units)
            limit = multiply_adds / (most * times["fusedcell"])
            row = [*map(str, (batch, steps, units)), three_digits(times["fusedcell"]), f"{100 * limit:.0f}"]
            rows.append([*row, *(three_digits(value) for value in (*list(times.values())[1:], quotient.p50))])
            key = {"cell": cell, "batch": batch, "steps": steps, "units": units}
            results.append({**key, "ms": times, "limit": limit, "ratio": quotient})
        show_progress("")
        others = " or ".join(versions) + (", whichever is faster" if keras else "")
        text = f"fusedcell is {span_text(list(ratios.values()))} {others}."
        title = f"Training, {cell}, by batch, steps and units"
        groups.append(Bars(title, TIMES_FASTER, text, ratios, tie=1))
        texts.append(f"{cell}\n{aligned(headings, rows, ())}\n{text}")
        out.show(f"{texts[-1]}\n")
    for text in disturbed(shown):
        texts.append(f"Warning: {text}.")
        out.show(texts[-1])
    if options.html is not None:
        title = f"Training with fusedcell {runtime['fusedcell']} on {runtime['cpu']}"
        write_file(options.html, page(title, groups, [*texts, json.dumps(runtime, indent=1)]).encode())
        out.show(f"The page for a browser is {options.html.absolute().as_uri()}")
    if options.plot is not None:
        plot.draw_bars(options.plot, runtime["cpu"], groups)
        out.show(f"The figure is {options.plot}.")
    if options.json is not None:
        document = {"runtime": runtime, "versions": versions, "results": results}
        text = json.dumps(document, indent=1, default=vars) + "\n"
        if options.json == STDOUT:
            print(text, end="")
        else:
            write_file(options.json, text.encode())
    out.end()
    return 0


def _step(torch: Any, module: Any, x: Any) -> Callable[[], Any]:
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-6)
    x = x.clone().requires_grad_()

    def step() -> Any:
        x.grad = None
        optimizer.zero_grad()
        y, _ = module(x)
        y.backward(y.detach())
        optimizer.step()
        return y

    return step


def _runner(torch: Any, module: Any, x: Any) -> Runner:
    return Runner(_step(torch, module, x), [()], lambda y: np.array(y.detach()))


def _keras() -> Any:
    """The module, or None where it is not installed or does not run on PyTorch, whose one thread is its own then."""
    try:
        keras: Any = importlib.import_module("keras")
    except ImportError:
        return None
    return keras if keras.backend.backend() == "torch" else None


def _keras_runner(keras: Any, cell: str, x: FloatArray) -> Runner:
    """Keras's layer, which gives x no gradient."""
    layer = getattr(keras.layers, {"rnn": "SimpleRNN"}.get(cell, _LAYERS[cell]))(x.shape[2], return_sequences=True)
    model = keras.Sequential([keras.Input((len(x), x.shape[2])), layer])
    model.compile(keras.optimizers.SGD(1e-6), "mse")
    given = np.ascontiguousarray(x.swapaxes(0, 1))
    return Runner(lambda: model.train_on_batch(given, given), [()], lambda _: given)


def _difference(torch: Any, ours: Any, theirs: Any, x: Any) -> float:
    """The largest difference between derivatives, of the largest of each, from those in float64."""
    by_module = []
    for module in (ours, copy.deepcopy(theirs).double()):
        given = x.to(module.weight_hh_l0.dtype, copy=True).requires_grad_()
        y, _ = module(given)
        y.backward(torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape))
        by_module.append([given.grad, *(parameter.grad for parameter in module.parameters())])
        module.zero_grad()
    pairs = zip(*by_module, strict=True)
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)
