"""Gains back what int8 loses where readings come as shares of their nominal values: two epochs, about a minute.

pip install fusedcell[torch] tqdm
python examples/predictive_maintenance/fine_tune.py [--engines N] [--check]

The network of this example reads sensors less their means, over their spreads, and loses nothing to speak of in int8.
Here the same network reads each sensor over its nominal value, as plants often deliver them: all readings are then near
1 and what matters of them are a few hundredths, of which int8's steps of 1/127 leave little. That is made of the
trained weights exactly, and so are the float answers.

Two epochs then train it as it will run, by fusedcell.torch.quantize. Beside it two epochs of the plain network show
what more training alone does. Losses are those of fusedcell's own models, on engines that no training has seen.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from simulation import fleet
from torch import Tensor, nn
from train import BATCH, Network, padded

import fusedcell as fc
import fusedcell.torch

EPOCHS = 2
RATE = 2e-3


def nominal_network() -> tuple[Network, np.ndarray]:
    """The trained network, of readings over their nominal values, and these."""
    with np.load(Path(__file__).parent / "weights.npz") as arrays:
        weights = {name: arrays[name].astype(np.float64) for name in arrays}
    mean, std = weights.pop("mean"), weights.pop("std")
    weights["gru.bias_ih_l0"] -= weights["gru.weight_ih_l0"] @ (mean / std)
    weights["gru.weight_ih_l0"] *= mean / std
    network = Network(nn)
    network.load_state_dict({name: torch.from_numpy(value).float() for name, value in weights.items()})
    return network.eval(), mean


def loss_of(logits: Tensor, soon: Tensor, there: Tensor) -> Tensor:
    """Cross-entropy of "fails within 30 flights", a flight."""
    return nn.functional.binary_cross_entropy_with_logits(logits, soon, there, reduction="sum") / there.sum()


def fine_tune(network: Network, runs: tuple[Tensor, ...], label: str) -> None:
    torch.manual_seed(0)
    optimiser = torch.optim.Adam(network.parameters(), RATE)
    batches = [rows for _ in range(EPOCHS) for rows in torch.randperm(len(runs[0])).split(BATCH)]
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, len(batches))
    network.train()
    begin = perf_counter()
    for rows in batches:
        x, soon, there = (part[rows] for part in runs)
        optimiser.zero_grad()
        loss_of(network(x), soon, there).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    network.eval()
    print(f"{label}: {EPOCHS} epochs in {perf_counter() - begin:.0f} s")


def answers(network: Network, x: Tensor, dtype: str) -> Tensor:
    """Logits (engines, flights) of the network as fusedcell runs it."""
    model = fc.Model.from_torch(network, x[:1, :50]).astype(dtype)
    return torch.from_numpy(model(x.numpy())).reshape(x.shape[:2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engines", type=int, default=1500, help="how many to train on (default 1500)")
    parser.add_argument("--check", action="store_true", help="fail unless half of the loss is gained back")
    options = parser.parse_args()
    torch.set_num_threads(1)

    network, nominal = nominal_network()
    runs, (x, soon, there) = (
        padded(fleet(engines, seed), 0.0 * nominal, nominal) for engines, seed in ((options.engines, 5), (300, 6))
    )
    plain, trained = copy.deepcopy(network), copy.deepcopy(network)
    fine_tune(plain, runs, "plain")
    fusedcell.torch.quantize(trained)
    fine_tune(trained, runs, "as it will run in int8")
    with torch.no_grad():
        expected = trained(x)
    logits = {
        "float32": answers(network, x, "float32"),
        "int8": answers(network, x, "int8"),
        "float32, trained on": answers(plain, x, "float32"),
        "int8, trained on as float32": answers(plain, x, "int8"),
        "int8, trained on as int8": answers(trained, x, "int8"),
    }
    print(f"\n{'':30}{'loss':>8}{'wrong flights':>15}")
    losses = []
    for label, found in logits.items():
        losses.append(float(loss_of(found, soon, there)))
        wrong = float((((found > 0) != (soon > 0)) * there).sum() / there.sum())
        print(f"{label:30}{losses[-1]:8.4f}{wrong:15.2%}")
    gained = (losses[1] - losses[4]) / (losses[1] - losses[0])
    differs = ((logits["int8, trained on as int8"] - expected).abs() * there > 1e-4).sum() / there.sum()
    print(f"\n{gained:.0%} of what int8 lost is gained back.")
    print(f"{differs:.2%} of its logits are off the trained module's by more than 1e-4, for some steps after a tie.")
    if options.check and (gained < 0.5 or differs > 0.2):
        raise SystemExit("the loss was not gained back, or the module did not train as the model runs")


if __name__ == "__main__":
    main()
