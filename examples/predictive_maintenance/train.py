"""Trains the network of this example on simulated engines, and writes weights.npz beside itself: some minutes.

pip install fusedcell[torch] tqdm
python examples/predictive_maintenance/train.py [--compare]

--compare trains for some batches with PyTorch's modules, too, in turns, says how long both take, and writes nothing.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from simulation import SENSORS, Run, fleet
from torch import nn
from tqdm import trange

import fusedcell.torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from _training import compare

EPOCHS = 25
BATCH = 50
HIDDEN = 32


class Network(nn.Module):
    def __init__(self, modules: ModuleType = fusedcell.torch) -> None:
        super().__init__()
        self.gru = modules.GRU(len(SENSORS), HIDDEN, num_layers=2, batch_first=True, dropout=0.2)
        self.head = modules.Linear(HIDDEN, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.gru(x)[0])[..., 0]


def padded(runs: list[Run], mean: np.ndarray, std: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sensors (engines, flights, sensors), whether the engine fails soon, and which flights there are."""
    flights = max(len(run.sensors) for run in runs)
    x = np.zeros((len(runs), flights, len(SENSORS)), np.float32)
    soon = np.zeros((len(runs), flights), np.float32)
    there = np.zeros((len(runs), flights), np.float32)
    for i, run in enumerate(runs):
        n = len(run.sensors)
        x[i, :n], soon[i, :n], there[i, :n] = (run.sensors - mean) / std, run.fails_soon, 1.0
    return torch.from_numpy(x), torch.from_numpy(soon), torch.from_numpy(there)


def loss_of(network: Network, x: torch.Tensor, soon: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    return nn.functional.binary_cross_entropy_with_logits(network(x), soon, there, reduction="sum") / there.sum()


def batches(network: Network, runs: tuple[torch.Tensor, ...]) -> Iterator[float]:
    """Trains for EPOCHS, and gives the loss of each batch."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=4e-3, weight_decay=1e-3)
    count = -(-len(runs[0]) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 8e-3, epochs=EPOCHS, steps_per_epoch=count)
    random = torch.Generator().manual_seed(0)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(runs[0]), generator=random).split(BATCH):
            optimiser.zero_grad()
            loss = loss_of(network, *(part[rows] for part in runs))
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            yield loss.item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compare", action="store_true", help="time PyTorch's modules and fusedcell's in turns")
    is_comparison = parser.parse_args().compare
    torch.manual_seed(0)
    train, validation = fleet(1500, seed=1), fleet(200, seed=2)
    readings = np.concatenate([run.sensors for run in train])
    mean, std = readings.mean(axis=0), readings.std(axis=0)
    runs, of_validation = padded(train, mean, std), padded(validation, mean, std)
    if is_comparison:
        compare(lambda modules: batches(Network(modules), runs), 60)
        return

    network = Network()
    training, best = batches(network, runs), float("inf")
    for _ in (progress := trange(EPOCHS, unit="epoch")):
        network.train()
        for _ in range(-(-len(train) // BATCH)):
            next(training)
        network.eval()
        with torch.no_grad():
            loss = loss_of(network, *of_validation).item()
        if loss < best:
            best = loss
            weights = {name: value.numpy().copy() for name, value in network.state_dict().items()}
        progress.set_postfix(loss=f"{loss:.4f}", best=f"{best:.4f}")
    np.savez(Path(__file__).parent / "weights.npz", mean=mean, std=std, **weights)


if __name__ == "__main__":
    main()
