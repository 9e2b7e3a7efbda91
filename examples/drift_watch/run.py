"""Watches a deployed network while its instruments are exchanged, and swaps retrained weights in under its streams.

python examples/drift_watch/run.py [--fleet SEED] [--picture FILE] [--check]

NumPy, fusedcell and river do; PyTorch is compared with if it is installed, and --picture needs Matplotlib. --check
fails if the alert or the scores are not what they should be, or if a float32 logit is not that of the formulas in
float64, never because of a time.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
from fleet_days import DAYS, ENTRY, FLEET, REFIT, SENSORS, SLOTS, Array, Fleet
from numpy.typing import NDArray
from watch import DEPLOYED, FALL, GATHER, RETRAINED, Scorer, TakeOver, Watch, Weights, auc_of

import fusedcell as fc

DTYPES = ("float32", "float16", "int8")
SPANS = (5, 15, 30, 60)  # days after the swap
TOLERANCE = 1e-4  # of float32's logits, from those in float64

Values = NDArray[np.floating]
Gru = Callable[[Weights, Array, Values], tuple[Values, Values]]  # x (T, B, I) and h_0 (2, B, 32) to y and h_n


def forgotten(scorer: Scorer, slot: int) -> fc.Stream:
    """As if the engine were new."""
    return scorer.layer.stream()


def carried(scorer: Scorer, slot: int) -> fc.Stream:
    """In the state of the stream on the old weights, which have misread the new instruments."""
    successor = scorer.layer.stream()
    successor.state = scorer.streams[slot].state
    return successor


def resumed(fleet: Fleet, end: int) -> TakeOver:
    """In the state at the exchange, from which on the new weights read the engine's flights again."""

    def take_over(scorer: Scorer, slot: int) -> fc.Stream:
        successor = scorer.layer.stream()
        first, exchange = np.flatnonzero(fleet.is_new[:end, slot])[-1], np.argmax(fleet.refitted[:, slot])
        if first < exchange:
            successor.state = scorer.at_exchange[slot].state
        successor.process(scorer.weights.scaled(fleet.sensors[max(first, exchange) : end, slot]))
        return successor

    return take_over


class Service(NamedTuple):
    """What came of a network in service, with the weights swapped on a day, or never."""

    logits: Array  # (DAYS, SLOTS)
    rolling: list[float | None]  # a day
    alert: int | None
    us: float  # a day: the recurrent step of all engines
    size: str  # bytes of the recurrent matrices + those of biases, and with int8 of scales and sums of rows


def size_of(layer: fc.GRU) -> str:
    return f"{layer.matrix_nbytes:,} + {layer.nbytes - layer.matrix_nbytes:,}"


def serve(fleet: Fleet, dtype: str, swap: int = DAYS, take_over: TakeOver = carried) -> Service:
    scorer, watch = Scorer(Weights.load(DEPLOYED), dtype), Watch(fleet)
    logits = np.zeros((DAYS, SLOTS), np.float32)
    rolling: list[float | None] = []
    for day in range(DAYS):
        if day == swap:
            scorer.swap(Weights.load(RETRAINED), take_over)
        logits[day, fleet.flying[day]] = scorer(fleet, day)
        rolling.append(watch(day, logits))
    alert = next((day for day, auc in enumerate(rolling) if watch.fallen(auc)), None)
    return Service(logits, rolling, alert, float(np.median(scorer.step_times[ENTRY:])) / 1e3, size_of(scorer.layer))


def in_batches(fleet: Fleet, swap: int, gru: Gru, dtype: type[np.floating]) -> tuple[Values, float]:
    """Logits (DAYS, SLOTS) of the same network by another GRU, its states in `dtype`, and its us a day.

    Each day is a batch of the engines that fly, whose states are gathered and put back.
    """
    weights = Weights.load(DEPLOYED)
    h = np.zeros((2, SLOTS, len(weights.head)), dtype)
    at_exchange, logits, times = np.zeros_like(h), np.zeros((DAYS, SLOTS), dtype), []
    for day in range(DAYS):
        if day == swap:
            weights = Weights.load(RETRAINED)
            for slot in range(SLOTS):
                first, exchange = np.flatnonzero(fleet.is_new[:day, slot])[-1], np.argmax(fleet.refitted[:, slot])
                flights = weights.scaled(fleet.sensors[max(first, exchange) : day, slot])
                start_h = at_exchange[:, [slot]] if first < exchange else np.zeros_like(h[:, [slot]])
                h[:, [slot]] = gru(weights, flights[:, None], start_h)[1]
        h[:, fleet.is_new[day]] = 0.0
        exchanged = np.flatnonzero(fleet.refitted[day] & ~fleet.refitted[day - 1])
        at_exchange[:, exchanged] = h[:, exchanged]
        flying = np.flatnonzero(fleet.flying[day])
        x = weights.scaled(fleet.sensors[day, flying])
        start = time.perf_counter_ns()
        y, h[:, flying] = gru(weights, x[None], h[:, flying])
        times.append(time.perf_counter_ns() - start)
        logits[day, flying] = weights.logits(y[0])
    return logits, float(np.median(times[ENTRY:])) / 1e3


def in_float64(fleet: Fleet, swap: int) -> Values:
    """Logits by the formulas."""
    return in_batches(fleet, swap, lambda weights, x, h: fc.reference.gru(x, weights.gru, h), np.float64)[0]


def with_torch(fleet: Fleet, swap: int) -> Service | None:
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(1)

    def module_of(weights: Weights) -> torch.nn.GRU:
        module = torch.nn.GRU(len(SENSORS), len(weights.head), num_layers=2)
        module.load_state_dict({name: torch.from_numpy(value) for name, value in weights.gru.items()})
        return module

    modules = {weights.day: module_of(weights) for weights in map(Weights.load, (DEPLOYED, RETRAINED))}

    def gru(weights: Weights, x: Array, h: Values) -> tuple[Values, Values]:
        y, h_n = modules[weights.day](torch.from_numpy(x), torch.from_numpy(h))
        return y.numpy(), h_n.numpy()

    with torch.inference_mode():
        logits, us = in_batches(fleet, swap, gru, np.float32)
    arrays = Weights.load(DEPLOYED).gru
    matrices = sum(array.nbytes for name, array in arrays.items() if name.startswith("weight"))
    biases = sum(array.nbytes for name, array in arrays.items() if name.startswith("bias"))
    return Service(logits, [], None, us, f"{matrices:,} + {biases:,}")


def picture(path: str, alert: int, swap: int, lines: dict[str, Service], first_days: dict[str, list[float]]) -> None:
    import matplotlib.pyplot as plt

    figure, (watch, after) = plt.subplots(2, 1, figsize=(9, 8), height_ratios=(3, 2), layout="constrained")
    for (name, service), colour in zip(lines.items(), ("tab:grey", "tab:blue"), strict=True):
        known = [(day, auc) for day, auc in enumerate(service.rolling) if auc is not None]
        watch.plot(*zip(*known, strict=True), label=name, color=colour)
    first = next(auc for auc in lines["deployed weights kept"].rolling if auc is not None)
    watch.axhline(first - FALL, color="tab:red", linestyle=":", label="alert below")
    watch.axvspan(*REFIT, color="tab:orange", alpha=0.2, label="instruments exchanged")
    watch.axvline(alert, color="tab:red", label="alert")
    watch.axvline(swap, color="tab:blue", linestyle="--", label="weights swapped")
    watch.set(title="AUC of the last 4,000 judged flights", xlabel="day", ylabel="AUC")
    watch.legend(fontsize="small", loc="lower left")
    for i, (name, values) in enumerate(first_days.items()):
        after.bar(np.arange(len(values)) + 0.2 * (i - 1.5), values, 0.2, label=name)
    after.set_xticks(range(len(SPANS)), [f"first {span} days" for span in SPANS])
    after.set(title="What becomes of the streams' states at the swap", ylabel="AUC", ylim=(0.8, 1.03))
    after.legend(fontsize="small", ncols=4)
    figure.savefig(path, dpi=110)
    print(f"picture in {path}")


def probability(logits: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-logits))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fleet", type=int, default=FLEET, metavar="SEED", help=f"which to simulate ({FLEET})")
    parser.add_argument("--picture", metavar="FILE", help="PNG or SVG to write")
    parser.add_argument("--check", action="store_true", help="fail if alert or scores are not what they should be")
    arguments = parser.parse_args()
    if arguments.picture and find_spec("matplotlib") is None:
        parser.error("--picture needs Matplotlib: pip install matplotlib")

    fleet, swap = Fleet.simulate(arguments.fleet), Weights.load(RETRAINED).day
    kept = serve(fleet, "float32")
    alert = kept.alert
    # Another fleet has its alert on another day, and takes the same weights all the same.
    if alert is None or (arguments.fleet == FLEET and alert + GATHER > swap):
        print(f"weights.npz was trained for day {swap}, but the alert is on {alert}", file=sys.stderr)
        return 1
    print(
        f"{SLOTS} engines; instruments exchanged on days {REFIT[0]} to {REFIT[1]}, alert on {alert}, swap on {swap}\n"
    )

    services = {f"fusedcell, {dtype}": serve(fleet, dtype, swap, resumed(fleet, swap)) for dtype in DTYPES}
    exact = in_float64(fleet, swap)
    theirs = with_torch(fleet, swap)
    before, between, after = slice(ENTRY, REFIT[0]), slice(REFIT[1], swap), slice(swap, DAYS)
    print(f"{'AUC':24}{'before':>8}{'between':>9}{'after':>8}{'us a day':>10}{'matrices + rest':>17}{'largest dp':>12}")

    def line(name: str, service: Service) -> list[float]:
        found = [auc_of(fleet, service.logits, days) for days in (before, between, after)]
        off = np.max(np.abs(probability(service.logits) - probability(exact)))
        print(
            f"{name:24}{found[0]:8.4f}{found[1]:9.4f}{found[2]:8.4f}{service.us:10.1f}{service.size:>17}"
            f"{'' if service is kept else f'{off:.1e}':>12}"
        )
        return found

    line("deployed weights kept", kept)
    if theirs is not None:
        line("PyTorch, float32", theirs)
    found = [line(name, service) for name, service in services.items()]

    choices = {
        "deployed weights kept": kept,
        "swap, states forgotten": serve(fleet, "float32", swap, forgotten),
        "swap, states carried": serve(fleet, "float32", swap, carried),
        "swap, states resumed": services["fusedcell, float32"],
    }
    print(f"\n{'AUC after the swap':24}" + "".join(f"{f'{span} days':>10}" for span in SPANS))
    first_days = {}
    for name, service in choices.items():
        first_days[name] = [auc_of(fleet, service.logits, slice(swap, swap + span)) for span in SPANS]
        print(f"{name:24}" + "".join(f"{value:10.4f}" for value in first_days[name]))

    if arguments.picture:
        lines = {"deployed weights kept": kept, "swapped, states resumed": services["fusedcell, float32"]}
        picture(arguments.picture, alert, swap, lines, first_days)
    if arguments.check:
        off = np.max(np.abs(services["fusedcell, float32"].logits - exact))
        seen = REFIT[0] < alert and all(auc[0] - auc[1] >= FALL for auc in found)
        mended = all(auc[2] >= auc[0] - 0.02 for auc in found)
        others = (first_days[f"swap, states {name}"] for name in ("forgotten", "carried"))
        kept_memory = all(first_days["swap, states resumed"][0] > other[0] for other in others)
        if not (seen and mended and kept_memory and off <= TOLERANCE):
            print("the alert or the scores are not what they should be", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
