"""Forecasts the next day's demand for electricity at each half-hourly reading, and flags the peak to come.

python examples/load_forecasting/run.py [--high PERCENT] [--picture FILE] [--check]

NumPy and fusedcell do; PyTorch is compared with if it is installed, and --picture needs Matplotlib. --check fails if
the forecasts are worse than they should be, never because of a time.
"""

from __future__ import annotations

import argparse
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from demand import (
    DAY,
    FEATURES,
    HORIZON,
    ORIGINS,
    START,
    WEEK,
    WEEKS_FORECAST,
    Array,
    features,
    load,
    scale_of,
    time_of_day,
)
from numpy.typing import NDArray

import fusedcell as fc

DTYPES = ("float32", "float16", "int8")
HIGH = 90  # percentile of the past's demand: readings whose next day will exceed it are flagged


class Weights(NamedTuple):
    """Those of one origin: the LSTM's in PyTorch's layout, the head, and what differences are divided by."""

    lstm: dict[str, Array]
    head: Array  # (HORIZON, hidden size)
    bias: Array
    scale: float

    @classmethod
    def load(cls, weeks: int) -> Weights:
        with np.load(Path(__file__).parent / "weights.npz") as file:
            own = {name.removeprefix(f"{weeks}."): file[name] for name in file.files if name.startswith(f"{weeks}.")}
        lstm = {name.removeprefix("lstm."): value for name, value in own.items() if name.startswith("lstm.")}
        return cls(lstm, own["head.weight"], own["head.bias"], float(own["scale"]))

    def model(self, dtype: str) -> fc.Model:
        """A reading in MW and its time of day in, MW in each of the next HORIZON half-hours out, from START on."""
        from_mean = (np.arange(DAY) == DAY - 1) - 1.0 / DAY
        layers = [
            ("difference", fc.Window([[-1.0, 1.0]], taps=2, dilation=WEEK), "reading"),
            ("centred", fc.Window(from_mean[None] / self.scale, taps=DAY), "difference"),
            ("clock", fc.nodes.Rows(-START, 0), "time_of_day"),
            ("lstm", fc.LSTM.from_state_dict(self.lstm), ("centred", "clock")),
            ("change", fc.Dense(self.scale * self.head, self.scale * self.bias), "lstm"),
            ("now", fc.nodes.Rows(1 - DAY, 0), "difference"),
            ("now_throughout", fc.nodes.Take([0] * HORIZON), "now"),
            ("week_before", fc.Window(np.eye(HORIZON), taps=HORIZON, padding=(-DAY, HORIZON - WEEK)), "reading"),
            ("forecast", fc.nodes.Add(), ("week_before", "now_throughout", "change")),
        ]
        model = fc.Model(layers, inputs={"reading": 1, "time_of_day": 2})
        return model.astype(dtype, keep=("difference", "centred", "week_before"))  # what counts in MW stays exact


class Forecasts(NamedTuple):
    """All of one way of forecasting, a row a reading."""

    demand: Array  # (N, HORIZON), MW
    us: float | None = None  # a reading
    size: int | None = None  # bytes of one origin's model


class Quality(NamedTuple):
    mae: float  # MW
    percent: float  # the same, of the demand
    peak: float  # MW by which the highest of the next day's half-hours is off, on average
    precision: float  # of the flags that the next day exceeds what is high
    recall: float


class Test(NamedTuple):
    """The readings at which the next day is forecast, and what that day became."""

    now: NDArray[np.int64]  # (N,)
    actual: Array  # (N, HORIZON), MW
    high: Array  # (N, 1), MW: percentile of the past at the origin
    last_week: Array  # (N, HORIZON), MW: the day as a week before, which is the seasonal naive forecast
    difference: Array  # (N, 1), MW: of now from a week before

    @classmethod
    def of(cls, demand: Array, high: float) -> Test:
        now = np.arange(ORIGINS[0] * WEEK, len(demand) - HORIZON)  # what is forecast later cannot be judged
        ahead = now[:, None] + 1 + np.arange(HORIZON)
        limits = np.array([np.percentile(demand[: weeks * WEEK], high) for weeks in ORIGINS], np.float32)
        origin = np.searchsorted(np.array(ORIGINS) * WEEK, now, side="right") - 1
        return cls(
            now,
            demand[ahead],
            limits[origin][:, None],
            demand[ahead - WEEK],
            (demand[now] - demand[now - WEEK])[:, None],
        )

    def quality(self, forecast: Array) -> Quality:
        off = np.abs(forecast - self.actual)
        peak = np.abs(forecast.max(axis=1) - self.actual.max(axis=1))
        flagged, exceeded = (np.any(values > self.high, axis=1) for values in (forecast, self.actual))
        right = np.count_nonzero(flagged & exceeded)
        return Quality(
            float(off.mean()),
            float(100.0 * (off / self.actual).mean()),
            float(peak.mean()),
            right / max(np.count_nonzero(flagged), 1),
            right / max(np.count_nonzero(exceeded), 1),
        )


class Part(NamedTuple):
    """An origin: the weights trained on its past, that past, and the readings until the next origin."""

    weights: Weights
    past: Array
    coming: Array

    @property
    def x(self) -> Array:
        """What the network reads of the past, from START on, and of the readings."""
        return features(np.concatenate([self.past, self.coming]), self.weights.scale)


def parts(demand: Array) -> list[Part]:
    found = []
    for weeks in ORIGINS:
        weights, past = Weights.load(weeks), demand[: weeks * WEEK]
        if abs(weights.scale / scale_of(past) - 1.0) > 1e-6:
            raise ValueError(
                f"weights.npz: its scale at {weeks} weeks is not that of the demand until then; train anew"
            )
        found.append(Part(weights, past, demand[weeks * WEEK : (weeks + WEEKS_FORECAST) * WEEK]))
    return found


def forecasts_from(outputs: list[Array], demand: Array, test: Test) -> Array:
    """(N, HORIZON), MW, from what the LSTM gave at the readings of each part, (readings, hidden size)."""
    changes = [
        part.weights.scale * (y @ part.weights.head.T + part.weights.bias)
        for part, y in zip(parts(demand), outputs, strict=True)
    ]
    return test.last_week + test.difference + np.concatenate(changes)[: len(test.now)]


def streamed(demand: Array, dtype: str) -> Forecasts:
    """Reading by reading. At each origin new weights take over, on a state made of the past."""
    rows, times = [], []
    for part in parts(demand):
        model = part.weights.model(dtype)
        stream = model.stream()
        clock = time_of_day(0, len(part.past) + len(part.coming))
        stream.process(part.past[:, None], clock[: len(part.past)])
        for reading, phase in zip(part.coming[:, None], clock[len(part.past) :], strict=True):
            row = np.empty(HORIZON, np.float32)
            start = time.perf_counter_ns()
            stream.step(reading, phase, out=row)
            times.append(time.perf_counter_ns() - start)
            rows.append(row)
    return Forecasts(np.stack(rows[:-HORIZON]), float(np.median(times)) / 1e3, model.nbytes)


def in_float64(demand: Array, test: Test) -> Array:
    """By the formulas."""
    outputs = [fc.reference.lstm(part.x, part.weights.lstm)[0][-len(part.coming) :] for part in parts(demand)]
    return forecasts_from(outputs, demand, test)


def with_torch(demand: Array, test: Test) -> dict[str, Forecasts]:
    """PyTorch's, with the last day's window at each reading, as it was trained, and one step at a time."""
    try:
        import torch
    except ImportError:
        return {}
    torch.set_num_threads(1)
    windowed, stepped, times = [], [], {"window": [], "step": []}
    for part in parts(demand):
        hidden = part.weights.head.shape[1]
        lstm = torch.nn.LSTM(FEATURES, hidden, num_layers=len(part.weights.lstm) // 4, batch_first=True)
        lstm.load_state_dict({name: torch.from_numpy(value) for name, value in part.weights.lstm.items()})
        with torch.inference_mode():
            x = torch.from_numpy(part.x)
            windows = x[-len(part.coming) - DAY + 1 :].unfold(0, DAY, 1).transpose(1, 2)
            windowed.append(lstm(windows)[0][:, -1].numpy())
            stepped.append(lstm(x[None])[0][0, -len(part.coming) :].numpy())
            state = None
            for i in range(200):
                start = time.perf_counter_ns()
                lstm(windows[i : i + 1])
                middle = time.perf_counter_ns()
                _, state = lstm(x[None, i : i + 1], state)
                times["window"].append(middle - start)
                times["step"].append(time.perf_counter_ns() - middle)
    return {
        f"PyTorch, {name}": Forecasts(forecasts_from(outputs, demand, test), float(np.median(times[key])) / 1e3)
        for name, key, outputs in (("window anew", "window", windowed), ("one step", "step", stepped))
    }


def picture(path: str, demand: Array, test: Test, forecast: Array) -> None:
    import matplotlib.pyplot as plt

    figure, (days, ahead, weeks) = plt.subplots(3, 1, figsize=(10, 10), height_ratios=(4, 2, 2), layout="constrained")
    naive_off, off = (np.abs(values - test.actual) for values in (test.last_week, forecast))
    by_week = [np.flatnonzero(test.now // WEEK == week) for week in np.unique(test.now // WEEK)]
    shown = max(by_week, key=lambda rows: naive_off[rows].mean())
    t = test.now[shown] + 1
    days.plot(t / DAY, demand[t], color="black", label="demand")
    days.plot(t / DAY, test.last_week[shown, 0], color="grey", linestyle=":", label="a week before")
    for row in shown[::DAY]:  # at midnight
        at = test.now[row] + 1 + np.arange(HORIZON)
        first = row == shown[0]
        days.plot(
            at / DAY, forecast[row], color="tab:blue", linewidth=1.2, label="forecast of each midnight" if first else ""
        )
        peak = int(np.argmax(forecast[row]))
        colour = "tab:red" if forecast[row, peak] > test.high[row, 0] else "tab:green"
        days.plot(at[peak] / DAY, forecast[row, peak], "v", color=colour)
    days.axhline(test.high[shown[0], 0], color="tab:red", linewidth=0.8, linestyle="--", label="high (flagged in red)")
    days.set(title="The week that last week tells least of, and the peaks to come", xlabel="day", ylabel="MW")
    days.legend(ncols=4, fontsize="small", loc="lower left")
    hours = (1 + np.arange(HORIZON)) / 2.0
    ahead.plot(hours, naive_off.mean(axis=0), color="grey", linestyle=":", label="a week before")
    ahead.plot(hours, off.mean(axis=0), color="tab:blue", label="network, int8")
    ahead.set(title="Error by hours ahead", xlabel="hours", ylabel="mean absolute, MW", ylim=(0, None))
    ahead.legend(fontsize="small")
    numbers = np.array([test.now[rows[0]] // WEEK + 1 for rows in by_week])
    weeks.bar(
        numbers - 0.2, [naive_off[rows].mean() for rows in by_week], 0.4, color="lightgrey", label="a week before"
    )
    weeks.bar(numbers + 0.2, [off[rows].mean() for rows in by_week], 0.4, color="tab:blue", label="network, int8")
    weeks.set(title="Error by week; new weights at 7, 9 and 11", xlabel="week", ylabel="mean absolute, MW")
    weeks.legend(fontsize="small")
    figure.savefig(path, dpi=110)
    print(f"picture in {path}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--high", type=float, default=HIGH, metavar="PERCENT", help=f"what is high: percentile ({HIGH})"
    )
    parser.add_argument("--picture", metavar="FILE", help="PNG or SVG to write")
    parser.add_argument("--check", action="store_true", help="fail if the forecasts are worse than they should be")
    arguments = parser.parse_args()
    if arguments.picture and find_spec("matplotlib") is None:
        parser.error("--picture needs Matplotlib: pip install matplotlib")

    if not 0 < arguments.high < 100:
        parser.error(f"--high: expected a percentile between 0 and 100, got {arguments.high}")
    demand = load()
    test = Test.of(demand, arguments.high)
    exact = in_float64(demand, test)
    ours = {f"fusedcell, {dtype}": streamed(demand, dtype) for dtype in DTYPES}
    print(f"{len(test.now)} readings of six weeks, {HORIZON // 2} hours forecast at each\n")
    print(
        f"{'':22}{'error, MW':>9}{'error, %':>9}{'peak, MW':>10}{'precision':>11}{'recall':>8}{'us a reading':>14}"
        f"{'bytes':>9}{'largest dy, MW':>16}"
    )
    simple = {
        "a week before": Forecasts(test.last_week),
        "... and its change": Forecasts(test.last_week + test.difference),
    }
    for name, found in {**simple, **with_torch(demand, test), **ours}.items():
        q = test.quality(found.demand)
        off = "" if found.us is None else f"{float(np.max(np.abs(found.demand - exact))):.1e}"
        us = "" if found.us is None else f"{found.us:.1f}"
        size = "" if found.size is None else f"{found.size:,}"
        print(
            f"{name:22}{q.mae:9.0f}{q.percent:9.2f}{q.peak:10.0f}{q.precision:11.3f}{q.recall:8.3f}{us:>14}"
            f"{size:>9}{off:>16}"
        )

    if arguments.picture:
        picture(arguments.picture, demand, test, ours["fusedcell, int8"].demand)
    if arguments.check:
        better = all(
            test.quality(found.demand).mae <= 0.7 * test.quality(test.last_week).mae for found in ours.values()
        )
        off = np.max(np.abs(ours["fusedcell, float32"].demand - exact))
        if not (better and off <= 0.05):
            print("the forecasts are not what they should be", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
