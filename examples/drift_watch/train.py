"""Retrains the deployed network on what the fleet's new instruments had read when the retraining was due: a minute.

pip install torch tqdm river
python examples/drift_watch/train.py

The instruments have changed and not the engines, so what is trained is a gain and an offset for each of those that were
exchanged, in front of the deployed network: few enough for the few failures there were. They begin as those that give
the readings the mean and deviation that they had before. Both are then multiplied into the first layer's input weights.
The rest stays, and with it what a state means, so that streams can go on in theirs. Of the last HORIZON days nothing is
taken: there, only failures are known yet.
"""

from itertools import pairwise

import numpy as np
import torch
from fleet_days import DAYS, ENTRY, HORIZON, NEW_INSTRUMENTS, REFIT, SENSORS, SLOTS, Fleet
from torch import nn
from tqdm import trange
from watch import DEPLOYED, GATHER, RETRAINED, Scorer, Watch, Weights

EPOCHS = 8
BATCH = 32


class Network(nn.Module):
    """The deployed network behind gains and offsets of the sensors that have been exchanged."""

    def __init__(self, deployed: Weights, old: np.ndarray, new: np.ndarray) -> None:
        """`old` and `new` are scaled readings of the instruments before and after, (N, len(SENSORS))."""
        super().__init__()
        exchanged = np.array([name in NEW_INSTRUMENTS for name in SENSORS])
        gain = np.where(exchanged, old.std(axis=0) / new.std(axis=0), 1.0).astype(np.float32)
        offset = np.where(exchanged, old.mean(axis=0) - gain * new.mean(axis=0), 0.0).astype(np.float32)
        self.exchanged = torch.from_numpy(exchanged)
        self.gain, self.offset = nn.Parameter(torch.from_numpy(gain)), nn.Parameter(torch.from_numpy(offset))
        self.gru = nn.GRU(len(SENSORS), len(deployed.head), num_layers=2, batch_first=True).requires_grad_(False)
        self.gru.load_state_dict({name: torch.from_numpy(value) for name, value in deployed.gru.items()})
        self.head, self.bias = torch.from_numpy(deployed.head), deployed.bias

    def forward(self, x: torch.Tensor, refitted: torch.Tensor) -> torch.Tensor:
        x = torch.where(refitted[..., None] & self.exchanged, self.gain * x + self.offset, x)
        return self.gru(x)[0] @ self.head + self.bias

    def folded(self) -> dict[str, np.ndarray]:
        """The GRU's weights that compute the same without gains and offsets."""
        weights = {name: value.clone() for name, value in self.gru.state_dict().items()}
        with torch.no_grad():
            weights["bias_ih_l0"] += weights["weight_ih_l0"] @ self.offset
            weights["weight_ih_l0"] *= self.gain
        return {name: value.numpy() for name, value in weights.items()}


def day_of_alert(fleet: Fleet, weights: Weights) -> int:
    """The day on which the watch of the deployed network gives the alert."""
    scorer, watch = Scorer(weights, "float32"), Watch(fleet)
    logits = np.zeros((DAYS, SLOTS), np.float32)
    for day in range(DAYS):
        logits[day, fleet.flying[day]] = scorer(fleet, day)
        if watch.fallen(watch(day, logits)):
            return day
    raise ValueError("the watch gave no alert; there is nothing to retrain for")


def engines_until(fleet: Fleet, end: int) -> list[tuple[slice, int]]:
    """The days and the slot of each engine, up to a day, that the new instruments have read."""
    found = []
    for slot in range(SLOTS):
        starts = [*np.flatnonzero(fleet.is_new[:end, slot]), end]
        found += [(slice(a, b), slot) for a, b in pairwise(starts) if fleet.refitted[b - 1, slot]]
    return found


def main() -> None:
    torch.manual_seed(0)
    fleet, deployed = Fleet.simulate(), Weights.load(DEPLOYED)
    swap = day_of_alert(fleet, deployed) + GATHER
    engines = engines_until(fleet, swap - HORIZON)
    shape = (len(engines), max(days.stop - days.start for days, _ in engines))
    x, soon, refitted = np.zeros((*shape, len(SENSORS)), np.float32), np.zeros(shape, np.float32), np.zeros(shape, bool)
    for i, engine in enumerate(engines):
        flights = engine[0].stop - engine[0].start
        x[i, :flights] = deployed.scaled(fleet.sensors[engine])
        soon[i, :flights], refitted[i, :flights] = fleet.fails_soon[engine], fleet.refitted[engine]
    print(f"for day {swap}: {len(engines)} engines, {refitted.sum()} flights; {soon[refitted].mean():.3f} fail soon")

    old = fleet.sensors[ENTRY : REFIT[0]][fleet.flying[ENTRY : REFIT[0]]]
    network = Network(deployed, deployed.scaled(old), x[refitted])
    optimiser = torch.optim.Adam([network.gain, network.offset])
    batches = -(-len(engines) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.02, epochs=EPOCHS, steps_per_epoch=batches)
    arrays = [torch.from_numpy(array) for array in (x, soon, refitted)]
    for _ in (progress := trange(EPOCHS, unit="epoch")):
        for rows in torch.randperm(len(engines)).split(BATCH):
            part, target, counts = (array[rows] for array in arrays)
            optimiser.zero_grad()
            loss = nn.functional.binary_cross_entropy_with_logits(network(part, counts)[counts], target[counts])
            loss.backward()
            optimiser.step()
            schedule.step()
        progress.set_postfix(loss=f"{loss.item():.4f}")
    for name, gain, offset in zip(SENSORS, network.gain.tolist(), network.offset.tolist(), strict=True):
        print(f"{name:24}{gain:8.2f}{offset:8.2f}")
    gru = {f"gru.{name}": value for name, value in network.folded().items()}
    head = {"head.weight": deployed.head[None], "head.bias": np.array([deployed.bias], np.float32)}
    np.savez(RETRAINED, mean=deployed.mean, std=deployed.std, day=np.array(swap), **gru, **head)


if __name__ == "__main__":
    main()
