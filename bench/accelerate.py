"""Modules of fusedcell.torch beside PyTorch's own and beside streams, in turns and on one thread. Needs PyTorch.

python bench/accelerate.py packed    packed sequences: time, and, on Linux, memory at the peak of a call
python bench/accelerate.py steps     one time step at a call
python bench/accelerate.py quantize  steps of training, of a module that quantize has prepared
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pack_sequence

import fusedcell
import fusedcell.torch
from fusedcell._text import aligned, format_ratio
from fusedcell._timing import FULL, Effort, Runner, measure, ratio, summarise

RNG = np.random.default_rng(1)
SIZE = 64
LENGTHS = {
    "1 of 20,000, 1,000 of 5": [20_000] + [5] * 1000,
    "1 of 2,000, 100 of 50": [2000] + [50] * 100,
    "500, geometric of mean 40": RNG.geometric(1 / 40, 500).tolist(),
    "200 of 100": [100] * 200,
    "300, uniform from 1 to 200": RNG.integers(1, 201, 300).tolist(),
}
LONG = Effort(seconds=0.5, min_rounds=5)
TRAINING = Effort(seconds=4, min_rounds=15)
TIME_STEPS = 100


def accelerated(module: Any) -> Any:
    fusedcell.torch.accelerate(module)
    return module


def make(class_name: str, directions: int = 1) -> Any:
    torch.manual_seed(1)
    return getattr(torch.nn, class_name)(SIZE, SIZE, bidirectional=directions == 2).eval()


def pack(lengths: str) -> Any:
    return pack_sequence([torch.randn(length, SIZE) for length in LENGTHS[lengths]], enforce_sorted=False)


def speed(lengths: str, *case: Any) -> str:
    inputs = [(pack(lengths),)]
    modules = {"fusedcell": accelerated(make(*case)), "torch": make(*case)}
    times = measure({name: Runner(module, inputs, np.asarray) for name, module in modules.items()}, LONG)
    return format_ratio(ratio(times["torch"], times["fusedcell"]))


def of_this_process(name: str) -> float:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return float(line.split()[1]) / 1024


def peak(library: str, lengths: str, class_name: str, directions: str) -> float:
    """MiB that a call takes, its result included, in a process that has made another one before."""
    module, sequence = make(class_name, int(directions)), pack(lengths)
    if library == "fusedcell":
        accelerated(module)
    module(pack_sequence([torch.randn(2, SIZE)]))
    Path("/proc/self/clear_refs").write_text("5")  # the peak is from now on
    before = of_this_process("VmRSS")
    result = module(sequence)
    assert len(result) == 2
    return of_this_process("VmHWM") - before


def memory(library: str, *case: Any) -> str:
    command = [sys.executable, __file__, "peak", library, *map(str, case)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def packed() -> None:
    headings = ["lengths", "class", "directions", "PyTorch's time over fusedcell's", "MiB", "PyTorch's MiB"]
    rows = []
    for case in ((lengths, name, count) for lengths in LENGTHS for name in ("LSTM", "GRU") for count in (1, 2)):
        rows.append([*map(str, case), speed(*case), memory("fusedcell", *case), memory("torch", *case)])
        print(*rows[-1], sep=", ", file=sys.stderr)  # as the whole takes minutes
    print(aligned(headings, rows, headings[:2]))


def steps() -> None:
    headings = ["class", "PyTorch", "accelerated", "cell accelerated", "stream, us", "accelerated over stream"]
    rows = []
    for name in ("LSTM", "GRU"):
        x = torch.randn(1, 1, SIZE)
        state = make(name)(x)[1]
        of_cell = tuple(part[0] for part in state) if name == "LSTM" else state[0]
        stream = fusedcell.from_torch(make(name)).stream()
        variants = {
            "torch": Runner(make(name), [(x, state)], np.asarray),
            "module": Runner(accelerated(make(name)), [(x, state)], np.asarray),
            "cell": Runner(
                accelerated(getattr(torch.nn, name + "Cell")(SIZE, SIZE).eval()), [(x[0], of_cell)], np.asarray
            ),
            "stream": Runner(stream.step, [(x.numpy().ravel(),)], np.asarray),
        }
        times = measure(variants, FULL)
        micros = [f"{summarise(times[variant]).p50 / 1e3:.1f}" for variant in variants]
        rows.append([name, *micros, format_ratio(ratio(times["module"], times["stream"]))])
    print(aligned(headings, rows, headings[:1]))


def training(class_name: str, inputs: int, units: int, batch: int, *, quantised: bool) -> Runner:
    """A step forwards, backwards and of plain gradient descent."""
    torch.manual_seed(1)
    module = getattr(torch.nn, class_name)(inputs, units)
    if quantised:
        fusedcell.torch.quantize(module)
    optimiser = torch.optim.SGD(module.parameters(), 1e-4)

    def step(x: Any, wanted: Any) -> None:
        optimiser.zero_grad()
        torch.nn.functional.mse_loss(module(x)[0], wanted).backward()
        optimiser.step()

    x, wanted = (torch.randn(TIME_STEPS, batch, size) for size in (inputs, units))
    return Runner(step, [(x, wanted)], np.asarray)


def quantize() -> None:
    rows = []
    for sizes in ((64, 64, 1), (64, 64, 32), (64, 256, 32)):
        row = [", ".join(map(str, sizes))]
        for name in ("LSTM", "GRU"):
            variants = {kind: training(name, *sizes, quantised=kind == "prepared") for kind in ("plain", "prepared")}
            # Turns are long, and of unequal length, so that other processes would not hit all alike.
            times = measure(variants, TRAINING, time.process_time_ns)
            row.append(format_ratio(ratio(times["prepared"], times["plain"])))
        rows.append(row)
    print(aligned(["inputs, units, batch", "LSTM", "GRU"], rows, ["inputs, units, batch"]))


if __name__ == "__main__":
    torch.set_num_threads(1)
    with torch.inference_mode():
        match sys.argv[1:]:
            case ["packed"]:
                packed()
            case ["steps"]:
                steps()
            case ["quantize"]:
                with torch.inference_mode(False):
                    quantize()
            case ["peak", *what]:
                print(f"{peak(*what):.1f}")
            case _:
                sys.exit(__doc__)
