"""Inside the load forecaster: which reading opened which gate, what the cells kept of it, and what that moved."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from attribution import Array, left_of_each_lstm_step, lstm_gradient, rank_correlation
from demand import DAY, HORIZON, ORIGINS, START, WEEK, WEEKS_FORECAST, features

import fusedcell as fc

WINDOW = DAY  # readings that are looked into
LAST = 16  # of these, what is drawn and ranked: eight hours, as nothing before them moves a forecast
RECENT = 3  # readings: an hour and a half
EVERY = 11  # readings from one forecast to the next: all times of the day come up
GATES = ("input", "forget", "candidate", "output")
INPUTS = ("change since a\nweek ago*", "time of day", "own output\nbefore")


class Network(NamedTuple):
    """The weights of one origin."""

    lstm: fc.LSTM
    arrays: dict[str, Array]
    head: Array  # (HORIZON, H)
    bias: Array
    scale: float  # MW

    @classmethod
    def load(cls, path: str, weeks: int = ORIGINS[-1]) -> Network:
        with np.load(path) as file:
            own = {name.removeprefix(f"{weeks}."): file[name] for name in file.files if name.startswith(f"{weeks}.")}
        arrays = {name.removeprefix("lstm."): value for name, value in own.items() if name.startswith("lstm.")}
        lstm = fc.LSTM.from_state_dict(arrays)
        return cls(lstm, arrays, own["head.weight"], own["head.bias"], float(own["scale"]))

    def change(self, y: Array) -> Array:
        """(..., H), the top layer's output, to (..., HORIZON): MW by which each half-hour differs from last week's."""
        return self.scale * (y @ self.head.T + self.bias)


class Inside(NamedTuple):
    """WINDOW readings and the forecast after them; T is WINDOW."""

    end: int  # the number of the reading after the last
    change: Array  # (HORIZON,), MW
    contribution: Array  # (T, HORIZON), MW; with what is left of earlier readings and the bias they sum to `change`
    earlier: Array  # (HORIZON,), MW: of what was read before the window
    gradient: Array  # (T, HORIZON), MW: the gradient by the gates of all layers, times the change that is read
    occlusion: Array  # (T, HORIZON), MW that are lost when a reading's change is taken for the mean of its day
    gates: Array  # (L, T, 4, H)
    cells: Array  # (L, T, H)
    pull: Array  # (4, 3): the mean size of what each of INPUTS adds to each gate of the lowest layer

    def sizes(self) -> tuple[Array, Array, Array]:
        """Of what each reading does to the forecast, by the top layer's gates, by the gradient and by occlusion."""
        left, gradient, occlusion = (
            np.abs(moved).mean(axis=1) for moved in (self.contribution, self.gradient, self.occlusion)
        )
        return left, gradient, occlusion


def look_into(network: Network, x: Array, state: tuple[Array, Array], end: int) -> Inside:
    """x is (WINDOW, FEATURES), and `state` what earlier readings left, (L, H) each."""
    y, _, trace = network.lstm(x, state, return_gates=True, return_cells=True)
    assert trace.gates is not None
    assert trace.cells is not None
    gates, cells = trace.gates, trace.cells
    _, _, _, o = gates[-1, -1]
    c = cells[-1, -1]
    # h = o tanh(c) is shared out as c is: tanh(c) / c tends to 1 where c does to 0.
    share = o * np.where(np.abs(c) < 1e-6, 1.0, np.tanh(c) / np.where(c == 0.0, 1.0, c))
    from_cell = network.scale * network.head * share
    left = left_of_each_lstm_step(gates[-1])

    # Row t has reading t occluded, the last row none. The time of day stays: it is known anyway.
    occluded = np.repeat(x[:, None], len(x) + 1, axis=1)
    occluded[np.arange(len(x)), np.arange(len(x)), 0] = 0.0
    states = tuple(np.repeat(part[:, None], len(x) + 1, axis=1) for part in state)
    changes = network.change(network.lstm(occluded, states)[0][-1])

    gradient = np.zeros((len(x), HORIZON, network.lstm.hidden_size), np.float32)
    gradient[-1] = network.scale * network.head
    for layer in reversed(range(network.lstm.num_layers)):
        weights = (network.arrays[f"weight_{name}_l{layer}"] for name in ("ih", "hh"))
        gradient = lstm_gradient(gates[layer], cells[layer], state[1][layer], *weights, gradient)

    h_before = np.concatenate([state[0][:1], (gates[0, :, 3] * np.tanh(cells[0]))[:-1]])
    w, r = network.arrays["weight_ih_l0"], network.arrays["weight_hh_l0"]
    parts = (x[:, :1] @ w[:, :1].T, x[:, 1:] @ w[:, 1:].T, h_before @ r.T)
    return Inside(
        end=end,
        change=network.change(y[-1]),
        contribution=left @ from_cell.T,
        earlier=from_cell @ (c - left.sum(axis=0)),
        gradient=gradient[..., 0] * x[:, :1],
        occlusion=changes[-1] - changes[:-1],
        gates=gates,
        cells=cells,
        pull=np.stack([np.abs(part).reshape(len(x), 4, -1).mean(axis=(0, 2)) for part in parts], axis=1),
    )


def gradient_by_differences(network: Network, x: Array, by: float = 1e-2) -> Array:
    """What :class:`Inside` has as `gradient`, (T, HORIZON), of a network that begins with x."""
    count = len(x)
    moved = np.repeat(x[:, None], 2 * count, axis=1)
    moved[np.tile(np.arange(count), 2), np.arange(2 * count), 0] *= np.repeat([1.0 + by, 1.0 - by], count)
    more, less = np.split(network.change(network.lstm(moved)[0][-1]), 2)
    return (more - less) / (2.0 * by)


def look_into_weeks(network: Network, demand: Array, weeks: int = ORIGINS[-1]) -> list[Inside]:
    """Forecasts in the weeks that the network was not trained on, EVERY readings."""
    x = features(demand[: (weeks + WEEKS_FORECAST) * WEEK], network.scale)
    stream = network.lstm.stream()
    start = weeks * WEEK - START
    stream.process(x[:start])
    found = []
    while start + WINDOW + START + HORIZON <= len(demand):
        h, c = (np.array(part)[:, 0] for part in stream.state)
        found.append(look_into(network, x[start : start + WINDOW], (h, c), start + WINDOW + START))
        stream.process(x[start : start + EVERY])
        start += EVERY
    return found


class Agreement(NamedTuple):
    """Over forecasts: rank correlations over the last readings of the window with the size of occlusion."""

    left: Array  # of what the top layer's gates left
    gradient: Array
    recency: Array  # of how late a reading is: what no look inside is needed for
    older: tuple[float, float, float]  # shares of older readings than RECENT: left, gradient, occlusion
    largest_error: float  # MW, of the sum of contributions against the forecast


def agreement(network: Network, seen: list[Inside]) -> Agreement:
    late = np.arange(LAST, dtype=np.float32)
    sizes = np.array([inside.sizes() for inside in seen])  # (N, 3, T)
    left, gradient, recency = (
        np.array([rank_correlation(a, b) for a, b in zip(of, sizes[:, 2, -LAST:], strict=True)])
        for of in (sizes[:, 0, -LAST:], sizes[:, 1, -LAST:], np.broadcast_to(late, (len(seen), LAST)))
    )
    older = (sizes[..., :-RECENT].sum(axis=2) / sizes.sum(axis=2)).mean(axis=0)
    errors = [i.contribution.sum(axis=0) + i.earlier + network.scale * network.bias - i.change for i in seen]
    return Agreement(left, gradient, recency, (*map(float, older),), float(np.max(np.abs(errors))))


def picture(path: str, inside: Inside, pulls: Array, demand: Array) -> None:
    """`inside` is one forecast, `pulls` (4, 3) the mean of all."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(3, 2, figsize=(14, 13), width_ratios=(3, 2), layout="constrained")
    (days, pull), (by_gates, by_occlusion), (kept, lines) = axes
    past = np.arange(inside.end - WINDOW, inside.end)
    ahead = np.arange(inside.end, inside.end + HORIZON)
    hours = (np.arange(WINDOW) - WINDOW + 1) / 2.0
    ahead_hours = (1 + np.arange(HORIZON)) / 2.0
    forecast = demand[ahead - WEEK] + demand[inside.end - 1] - demand[inside.end - 1 - WEEK] + inside.change
    days.plot(hours, demand[past] / 1e3, color="black", label="demand")
    days.plot(hours, demand[past - WEEK] / 1e3, color="grey", linestyle=":", label="a week before")
    days.plot(ahead_hours, demand[ahead] / 1e3, color="black", linewidth=0.8, linestyle="--", label="what came")
    days.plot(ahead_hours, forecast / 1e3, color="tab:blue", label="forecast")
    days.axvline(0.0, color="grey", linewidth=0.8)
    days.set(title="The day that is looked into, and the day forecast", xlabel="hours from now", ylabel="GW")
    days.legend(fontsize="small", ncols=2)

    image = pull.imshow(pulls, cmap="viridis", aspect="auto")
    pull.set(title="What opens and closes the gates (lowest layer, all forecasts)")
    pull.set_xticks(range(len(INPUTS)), INPUTS)
    pull.set_xlabel("* less its mean of a day", fontsize="small")
    pull.set_yticks(range(len(GATES)), GATES)
    for (row, column), value in np.ndenumerate(pulls):
        pull.text(column, row, f"{value:.2f}", ha="center", va="center", color="white")
    figure.colorbar(image, ax=pull, label="mean size of what it adds")

    limits = (hours[-LAST] - 0.25, 0.25, 0.25, HORIZON / 2.0 + 0.25)
    limit = float(np.abs(inside.occlusion).max())
    for axis, values, title in (
        (by_gates, inside.contribution, "MW that are left of each reading, by the top layer's gates"),
        (by_occlusion, inside.occlusion, "MW that are lost without it (occlusion)"),
    ):
        image = axis.imshow(
            values[-LAST:].T, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto", origin="lower", extent=limits
        )
        axis.set(title=title, xlabel="reading, hours from now", ylabel="half-hour forecast, hours from now")
        figure.colorbar(image, ax=axis, label="MW")

    cells = inside.cells[-1]
    order = np.argsort(inside.gates[-1, :, 1].mean(axis=0))
    limit = float(np.abs(cells).max())
    image = kept.imshow(
        cells[:, order].T, cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto", extent=(hours[0], hours[-1], 32, 0)
    )
    kept.set(title="What the cells held (top layer)", xlabel="hours from now", ylabel="cell, the most lasting below")
    figure.colorbar(image, ax=kept, label="c")

    left, gradient, occlusion = (size[-LAST:] for size in inside.sizes())
    for size, label in ((left, "left"), (gradient, "gradient")):
        lines.semilogy(hours[-LAST:], size, label=f"{label}, {rank_correlation(size, occlusion):.2f}")
    lines.semilogy(hours[-LAST:], occlusion, color="black", linestyle="--", label="occlusion")
    lines.set(
        title="Which readings count (rank correlations with occlusion)",
        xlabel="reading, hours from now",
        ylabel="mean size over the day, MW",
    )
    lines.legend(fontsize="small", loc="upper left")
    figure.savefig(path, dpi=90)
    print(f"picture in {path}")
