"""Warns of an engine's failure, flight by flight, with two GRU layers of 32 units, and says how well and how fast.

python examples/predictive_maintenance/run.py [--engines N] [--picture FILE] [--check]

NumPy and fusedcell do; PyTorch is compared with if it is installed, and --picture needs Matplotlib. --check fails if
the warnings are worse than they should be, or if a float32 probability is not that of the formulas in float64, never
because of a time.
"""

from __future__ import annotations

import argparse
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from simulation import HORIZON, SENSORS, Run, fleet

import fusedcell as fc

FOLDER = Path(__file__).parent
DTYPES = ("float32", "float16", "int8")
IN_A_ROW = 3  # flights above the threshold that make a warning
THRESHOLD = 0.9  # the best product of precision and recall on the engines of fleet(200, seed=2)
TOO_LATE = 5  # flights: what it takes to plan a change of engines
TOLERANCE = 1e-5  # of float32's probabilities, from those in float64

Array = NDArray[np.float32]


class Weights(NamedTuple):
    """What train.py wrote: the GRU's in PyTorch's layout, the head, and the scaling of the sensors."""

    gru: dict[str, Array]
    head: Array  # (1, 32)
    bias: Array  # (1,)
    mean: Array  # (len(SENSORS),)
    std: Array

    @classmethod
    def load(cls) -> Weights:
        with np.load(FOLDER / "weights.npz") as file:
            gru = {name.removeprefix("gru."): file[name] for name in file.files if name.startswith("gru.")}
            return cls(gru, file["head.weight"], file["head.bias"], file["mean"], file["std"])

    def model(self, dtype: str) -> fc.Model:
        """A flight's sensors in, the probability that the engine fails within HORIZON flights out."""
        layers = [
            ("centred", fc.nodes.Scale(np.ones_like(self.mean), -self.mean), "sensors"),
            ("scaled", fc.nodes.Scale(1 / self.std), "centred"),
            ("gru", fc.GRU.from_state_dict(self.gru), "scaled"),
            ("fails_soon", fc.Dense(self.head, self.bias, activation="sigmoid"), "gru"),
        ]
        return fc.Model(layers).astype(dtype)


def first_warning(alarm: NDArray[np.bool_]) -> int | None:
    """The flight that completes the first IN_A_ROW alarms in a row."""
    together = np.convolve(alarm, np.ones(IN_A_ROW), "valid") == IN_A_ROW
    return int(np.argmax(together)) + IN_A_ROW - 1 if together.any() else None


class Quality(NamedTuple):
    precision: float  # warnings that come within HORIZON flights of the failure
    recall: float  # engines that are warned of, at least TOO_LATE and at most HORIZON flights ahead
    lead: list[int]  # flights from each right warning to the failure


def quality(warnings: list[int | None], runs: list[Run]) -> Quality:
    leads = [int(run.flights_left[w]) for w, run in zip(warnings, runs, strict=True) if w is not None]
    right = [lead for lead in leads if lead < HORIZON]
    in_time = [lead for lead in right if lead >= TOO_LATE]
    return Quality(len(right) / max(len(leads), 1), len(in_time) / len(runs), right)


def limits(runs: list[Run], vibration: float, exhaust: float) -> list[int | None]:
    """What is done without a network: limits on averages over ten flights."""
    found = []
    for run in runs:
        averages = np.stack(
            [
                np.convolve(run.sensors[:, SENSORS.index(name)], np.ones(10) / 10.0)[: len(run.sensors)]
                for name in ("vibration, mm/s", "exhaust, K")
            ]
        )
        averages[:, :9] = 0.0
        found.append(first_warning((averages[0] > vibration) | (averages[1] > exhaust)))
    return found


def best_limits(runs: list[Run]) -> tuple[float, float]:
    def score(pair: tuple[float, float]) -> float:
        q = quality(limits(runs, *pair), runs)
        return q.precision * q.recall

    return max(((v, e) for v in np.arange(1.3, 3.6, 0.1) for e in np.arange(960.0, 1100.0, 10.0)), key=score)


def exact_probabilities(weights: Weights, runs: list[Run]) -> list[NDArray[np.float64]]:
    """By the formulas, in float64, all engines side by side."""
    lengths = [len(run.sensors) for run in runs]
    x = np.zeros((max(lengths), len(runs), len(SENSORS)))
    for i, run in enumerate(runs):
        x[: lengths[i], i] = (run.sensors.astype(np.float64) - weights.mean) / weights.std
    y, _ = fc.reference.gru(x, weights.gru, lengths=lengths)
    probabilities = 1.0 / (1.0 + np.exp(-(y @ weights.head[0] + weights.bias)))
    return [probabilities[:length, i] for i, length in enumerate(lengths)]


def torch_probabilities(weights: Weights, runs: list[Run]) -> tuple[list[Array], float] | None:
    """Those of PyTorch, and the us a flight takes there, one at a time with the state carried along."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(1)
    gru = torch.nn.GRU(len(SENSORS), weights.head.shape[1], num_layers=2, batch_first=True)
    gru.load_state_dict({name: torch.from_numpy(value) for name, value in weights.gru.items()})
    head = torch.nn.Linear(*weights.head.shape[::-1])
    head.load_state_dict({"weight": torch.from_numpy(weights.head), "bias": torch.from_numpy(weights.bias)})
    mean, std = torch.from_numpy(weights.mean), torch.from_numpy(weights.std)

    def fails_soon(sensors: Array, h: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        y, h = gru(((torch.from_numpy(sensors) - mean) / std)[None], h)
        return head(y)[0, :, 0].sigmoid(), h

    with torch.inference_mode():
        answers = [fails_soon(run.sensors)[0].numpy() for run in runs]
        h, times = None, []
        for i in range(500):
            start = time.perf_counter_ns()
            _, h = fails_soon(runs[0].sensors[i % 100 :][:1], h)
            times.append(time.perf_counter_ns() - start)
    return answers, float(np.median(times)) / 1e3


def picture(path: str, run: Run, probabilities: dict[str, Array], leads: list[int]) -> None:
    import matplotlib.pyplot as plt

    figure, (sensors, answer, lead) = plt.subplots(3, 1, figsize=(9, 9), height_ratios=(3, 3, 2), layout="constrained")
    flights = np.arange(len(run.sensors))
    for name in ("exhaust, K", "vibration, mm/s", "compressor exit, K", "oil temperature, K"):
        column = run.sensors[:, SENSORS.index(name)]
        sensors.plot(flights, (column - column.mean()) / column.std(), label=name, linewidth=0.9)
    sensors.set(title="One engine's life, as its sensors tell it", ylabel="standard deviations")
    sensors.legend(loc="upper left", ncols=4, fontsize="small")
    for dtype, values in probabilities.items():
        answer.plot(flights, values, label=dtype, linewidth=2.5 if dtype == "float32" else 1.2)
    answer.axhline(THRESHOLD, color="grey", linestyle=":")
    answer.axvspan(len(flights) - HORIZON, len(flights), color="tab:red", alpha=0.12, label=f"last {HORIZON} flights")
    warned = first_warning(probabilities["int8"] > THRESHOLD)
    if warned is not None:
        answer.axvline(warned, color="tab:red", label="warning (int8)")
    answer.set(title="... and as the network does", xlabel="flight", ylabel=f"fails within {HORIZON} flights")
    answer.legend(loc="upper left", fontsize="small")
    lead.hist(leads, bins=range(0, HORIZON + 1, 2), color="tab:blue", edgecolor="white")
    lead.set(title="How long before the failure the right warnings come (int8)", xlabel="flights", ylabel="engines")
    figure.savefig(path, dpi=110)
    print(f"picture in {path}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engines", type=int, default=200, help="engines to watch (200)")
    parser.add_argument("--picture", metavar="FILE", help="PNG or SVG to write")
    parser.add_argument("--check", action="store_true", help="fail if the warnings are worse than they should be")
    arguments = parser.parse_args()
    if arguments.picture and find_spec("matplotlib") is None:
        parser.error("--picture needs Matplotlib: pip install matplotlib")

    weights = Weights.load()
    runs = fleet(arguments.engines, seed=3)
    print(f"{len(runs)} engines, {sum(len(run.sensors) for run in runs)} flights, all until they failed\n")
    print(
        f"{'':22}{'precision':>10}{'recall':>8}{'lead, flights':>15}{'us a flight':>13}{'bytes':>9}{'largest dp':>12}"
    )

    def line(name: str, q: Quality, us: float | None = None, size: int | None = None, off: float | None = None) -> None:
        low, middle, high = np.percentile(q.lead, (10, 50, 90)) if q.lead else (0, 0, 0)
        print(
            f"{name:22}{q.precision:10.3f}{q.recall:8.3f}{f'{middle:.0f} ({low:.0f}..{high:.0f})':>15}"
            f"{'' if us is None else f'{us:.1f}':>13}{'' if size is None else f'{size:,}':>9}"
            f"{'' if off is None else f'{off:.1e}':>12}"
        )

    exact = exact_probabilities(weights, runs)

    def largest_dp(probabilities: list[Array]) -> float:
        return max(float(np.max(np.abs(p - e))) for p, e in zip(probabilities, exact, strict=True))

    line("limits on averages", quality(limits(runs, *best_limits(fleet(100, seed=2))), runs))
    theirs = torch_probabilities(weights, runs)
    if theirs is not None:
        found_there = quality([first_warning(p > THRESHOLD) for p in theirs[0]], runs)
        line("PyTorch, float32", found_there, theirs[1], None, largest_dp(theirs[0]))

    answers: dict[str, list[Array]] = {}
    found: dict[str, Quality] = {}
    off: dict[str, float] = {}
    for dtype in DTYPES:
        model = weights.model(dtype)
        times: list[int] = []
        answers[dtype] = []
        for run in runs:
            stream, answer = model.stream(), np.empty((len(run.sensors), 1), np.float32)
            for sensors, out in zip(run.sensors, answer, strict=True):
                start = time.perf_counter_ns()
                stream.step(sensors, out=out)
                times.append(time.perf_counter_ns() - start)
            answers[dtype].append(answer[:, 0])
        found[dtype] = quality([first_warning(p > THRESHOLD) for p in answers[dtype]], runs)
        off[dtype] = largest_dp(answers[dtype])
        line(f"fusedcell, {dtype}", found[dtype], float(np.median(times)) / 1e3, model.nbytes, off[dtype])

    if arguments.picture:
        shown = int(np.argsort([len(run.sensors) for run in runs])[len(runs) // 2])
        one = {dtype: answers[dtype][shown] for dtype in DTYPES}
        picture(arguments.picture, runs[shown], one, found["int8"].lead)
    if arguments.check:
        good = all(q.precision >= 0.85 and q.recall >= 0.85 for q in found.values())
        if not (good and off["float32"] <= TOLERANCE):
            print("the warnings are not what they should be", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
