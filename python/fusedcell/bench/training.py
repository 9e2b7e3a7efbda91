"""`fusedcell bench train`: forward, backward and update of a layer beside PyTorch's, one thread, in turns."""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from .._files import write_file
from .._text import aligned, show_progress, three_digits
from .._timing import FULL, QUICK, Runner, Summary, measure, ratio, summarise
from ..runtime import runtime_info
from .options import STDOUT
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
    out = sys.stderr if options.json == STDOUT else sys.stdout
    cases = [case for case in CASES if case[2] in options.sizes]
    print(
        f"A step of training, x with a gradient, SGD, one thread, beside torch {torch.__version__}: ms, medians.\n",
        file=out,
    )
    results = []
    shown: dict[str, list[Summary]] = {}
    for cell in options.cells:
        rows, ratios = [], []
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
            runners = {name: _runner(torch, module, x) for name, module in (("ours", ours), ("torch", theirs))}
            rounds = measure(runners, QUICK if options.quick else FULL)
            found = {name: summarise(values) for name, values in rounds.items()}
            shown[f"{cell} {batch} {steps} {units}"] = list(found.values())
            times = {name: summary.p50 / 1e6 for name, summary in found.items()}
            quotient = ratio(rounds["torch"], rounds["ours"])
            ratios.append(quotient.p50)
            rows.append([*map(str, (batch, steps, units)), *map(three_digits, (*times.values(), quotient.p50))])
            results.append(
                {"cell": cell, "batch": batch, "steps": steps, "units": units, "ms": times, "ratio": quotient}
            )
        show_progress("")
        print(f"{cell}\n{aligned(['B', 'T', 'H', 'fusedcell ms', 'torch ms', 'times faster'], rows, ())}", file=out)
        print(f"fusedcell is {span_text(ratios)} torch.\n", file=out, flush=True)
    for text in disturbed(shown):
        print(f"Warning: {text}.", file=out)
    if options.json is not None:
        document = {"runtime": runtime_info(), "torch": torch.__version__, "results": results}
        text = json.dumps(document, indent=1, default=vars) + "\n"
        if options.json == STDOUT:
            print(text, end="")
        else:
            write_file(options.json, text.encode())
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
