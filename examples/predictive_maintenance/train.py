"""Trains the network of this example on simulated engines, and writes weights.npz beside itself: some minutes.

pip install torch tqdm
python examples/predictive_maintenance/train.py
"""

from pathlib import Path

import numpy as np
import torch
from simulation import SENSORS, Run, fleet
from torch import nn
from tqdm import trange

EPOCHS = 25
BATCH = 50
HIDDEN = 32


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(len(SENSORS), HIDDEN, num_layers=2, batch_first=True, dropout=0.2)
        self.head = nn.Linear(HIDDEN, 1)

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


def main() -> None:
    torch.manual_seed(0)
    train, validation = fleet(1500, seed=1), fleet(200, seed=2)
    readings = np.concatenate([run.sensors for run in train])
    mean, std = readings.mean(axis=0), readings.std(axis=0)
    x, soon, there = padded(train, mean, std)
    x_validation, soon_validation, there_validation = padded(validation, mean, std)

    network = Network()
    optimiser = torch.optim.AdamW(network.parameters(), lr=4e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 8e-3, epochs=EPOCHS, steps_per_epoch=-(-len(x) // BATCH))

    def loss_of(x: torch.Tensor, soon: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        return nn.functional.binary_cross_entropy_with_logits(network(x), soon, there, reduction="sum") / there.sum()

    best = float("inf")
    for _ in (progress := trange(EPOCHS, unit="epoch")):
        network.train()
        for rows in torch.randperm(len(x)).split(BATCH):
            optimiser.zero_grad()
            loss_of(x[rows], soon[rows], there[rows]).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
        network.eval()
        with torch.no_grad():
            loss = loss_of(x_validation, soon_validation, there_validation).item()
        if loss < best:
            best = loss
            weights = {name: value.numpy().copy() for name, value in network.state_dict().items()}
        progress.set_postfix(loss=f"{loss:.4f}", best=f"{best:.4f}")
    np.savez(Path(__file__).parent / "weights.npz", mean=mean, std=std, **weights)


if __name__ == "__main__":
    main()
