"""Trains this example's networks, one for each origin on what was past then, and writes weights.npz: some minutes.

pip install fusedcell[torch] tqdm
python examples/load_forecasting/train.py [--validate | --compare]

--validate trains for origins two weeks and one before the first, which sizes and rates were chosen by, with both ways
of differencing, which were not, and writes nothing. --compare trains for the first origin with PyTorch's modules, too,
in turns, says how long both take, and writes nothing.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from demand import DAY, FEATURES, HORIZON, ORIGINS, START, WEEK, WEEKS_FORECAST, differences, features, load, scale_of
from torch import nn
from torch.nn.utils import parametrize
from tqdm import tqdm

import fusedcell.torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from _training import compare

HIDDEN = 32
LAYERS = 3
WINDOW = DAY  # readings
BATCH = 64
STEPS = 150  # the past is a few weeks: with more the networks learn it by heart
DROPOUT = 0.3


class Network(nn.Module):
    def __init__(self, modules: ModuleType = fusedcell.torch) -> None:
        super().__init__()
        self.lstm = modules.LSTM(FEATURES, HIDDEN, num_layers=LAYERS, batch_first=True, dropout=DROPOUT)
        self.head = modules.Linear(HIDDEN, HORIZON)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out, _ = self.lstm(x)
        return self.head(out[:, -1])


def windows(demand: np.ndarray, scale: float, centred: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Every window of demand, (N, WINDOW, FEATURES), and how d changes from its end on, (N, HORIZON)."""
    x, d = features(demand, scale, centred=centred), differences(demand)[DAY - 1 :] / scale
    ends = range(WINDOW, len(x) - HORIZON + 1)
    changes = np.stack([d[end : end + HORIZON] - d[end - 1] for end in ends])
    return torch.from_numpy(np.stack([x[end - WINDOW : end] for end in ends])), torch.from_numpy(changes)


def batches(network: Network, x: torch.Tensor, target: torch.Tensor) -> Iterator[float]:
    """Trains for STEPS batches, and gives the loss of each."""
    # The layer drops out between layers only. A mask on the hidden-to-hidden weights, one a batch, is the recurrent
    # dropout that goes with it: Merity et al. 2018, "Regularizing and optimizing LSTM language models".
    for k in range(LAYERS):
        parametrize.register_parametrization(network.lstm, f"weight_hh_l{k}", nn.Dropout(DROPOUT))
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=STEPS)
    random = torch.Generator().manual_seed(0)
    network.train()
    for _ in range(STEPS):
        rows = torch.randint(len(x), (BATCH,), generator=random)
        optimiser.zero_grad()
        with parametrize.cached():
            loss = nn.functional.l1_loss(network(x[rows]), target[rows])
            loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        yield loss.item()
    network.eval()
    for k in range(LAYERS):
        parametrize.remove_parametrizations(network.lstm, f"weight_hh_l{k}")


def trained(demand: np.ndarray, weeks: int, *, centred: bool = True) -> Network:
    """The network that could be had after so many weeks: later demand is not read, for scaling either."""
    past = demand[: weeks * WEEK]
    torch.manual_seed(0)
    network = Network()
    losses = batches(network, *windows(past, scale_of(past), centred))
    for loss in (progress := tqdm(losses, desc=f"{weeks} weeks", total=STEPS, unit="batch")):
        progress.set_postfix(loss=f"{loss:.3f}", refresh=False)
    return network


def errors(network: Network, demand: np.ndarray, weeks: int, *, centred: bool) -> tuple[float, float]:
    """Mean absolute error, MW, in the week after the origin: of the network, and of last week's demand."""
    demand = demand[: (weeks + 1) * WEEK]
    scale = scale_of(demand[: weeks * WEEK])
    x, change = (part[-(WEEK - HORIZON) :] for part in windows(demand, scale, centred))
    with torch.no_grad():
        off = (network(x) - change).abs().mean().item() * scale
    return off, float(np.abs(differences(demand)[-WEEK:]).mean())


def error_of_stream(network: Network, demand: np.ndarray, weeks: int, *, centred: bool) -> float:
    """Mean absolute error, MW, until the next origin, as run.py has it: one stream, on a state made of the past."""
    demand = demand[: (weeks + WEEKS_FORECAST) * WEEK]
    scale = scale_of(demand[: weeks * WEEK])
    d = differences(demand)[DAY - 1 :] / scale
    with torch.no_grad():
        y, _ = network.lstm(torch.from_numpy(features(demand, scale, centred=centred))[None])
        forecast = network.head(y[0, weeks * WEEK - START : -HORIZON]).numpy()
    now = np.arange(weeks * WEEK - START, len(d) - HORIZON)
    return float(np.abs(forecast - (d[now[:, None] + 1 + np.arange(HORIZON)] - d[now, None])).mean()) * scale


def validate(demand: np.ndarray) -> None:
    """What the weeks before the first origin say, and those after it, which the choice of `centred` has seen."""
    for centred in (True, False):
        print(f"The network reads d {'less its mean over the last day' if centred else 'itself'}; mean absolute error:")
        for weeks in (ORIGINS[0] - 2, ORIGINS[0] - 1):
            network, naive = errors(trained(demand, weeks, centred=centred), demand, weeks, centred=centred)
            print(f"  week {weeks + 1}: {network:.0f} MW, of last week's demand {naive:.0f} MW")
        for weeks in ORIGINS:
            off = error_of_stream(trained(demand, weeks, centred=centred), demand, weeks, centred=centred)
            print(f"  weeks {weeks + 1} and {weeks + 2}, as a stream: {off:.0f} MW")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--validate", action="store_true", help="compare ways of differencing, and write nothing")
    parser.add_argument("--compare", action="store_true", help="time PyTorch's modules and fusedcell's in turns")
    arguments = parser.parse_args()
    demand = load()
    if arguments.validate:
        validate(demand)
        return
    if arguments.compare:
        past = demand[: ORIGINS[0] * WEEK]
        compare(lambda modules: batches(Network(modules), *windows(past, scale_of(past), True)), STEPS)
        return
    arrays: dict[str, np.ndarray] = {}
    for weeks in ORIGINS:
        arrays |= {f"{weeks}.{name}": value.numpy() for name, value in trained(demand, weeks).state_dict().items()}
        arrays[f"{weeks}.scale"] = np.array(scale_of(demand[: weeks * WEEK]))
    np.savez(Path(__file__).parent / "weights.npz", **arrays)


if __name__ == "__main__":
    main()
