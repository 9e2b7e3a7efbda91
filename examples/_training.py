"""How long PyTorch's modules and those of fusedcell.torch take to train on the same batches, for train.py --compare."""

from collections.abc import Callable, Iterator
from time import process_time
from types import ModuleType

import numpy as np
import torch

import fusedcell.torch


def compare(training: Callable[[ModuleType], Iterator[float]], batches: int) -> None:
    """Trains with both in turns, a batch each, and prints the times and where the losses have come to.

    Args:
        training: makes a network of the modules of torch.nn or of fusedcell.torch, and gives the loss of each batch.
        batches: how many, of which the first is not counted.
    """
    torch.set_num_threads(1)
    runs = []
    for modules in (torch.nn, fusedcell.torch):
        torch.manual_seed(0)
        runs.append(training(modules))
    seconds, losses = np.empty((2, batches, 2))
    for batch in range(batches):
        for which, run in enumerate(runs):
            begin = process_time()  # of one thread, so that other programs count little
            losses[batch, which] = next(run)
            seconds[batch, which] = process_time() - begin
    theirs, ours = losses[-max(1, batches // 5) :].mean(axis=0)
    print(f"after {batches} batches: loss {theirs:.4f} with PyTorch's modules, {ours:.4f} with fusedcell's")
    print_ratio("batches a second", seconds[1:])


def print_ratio(label: str, seconds: np.ndarray, count: int = 1) -> None:
    """Of rounds (N, 2) of so many each, by PyTorch and by fusedcell: medians, and percentiles of the rounds' ratios."""
    theirs, ours = count / np.median(seconds, axis=0)
    low, middle, high = np.percentile(seconds[:, 0] / seconds[:, 1], (10, 50, 90))
    print(f"{label}: PyTorch {theirs:,.1f}, fusedcell {ours:,.1f}: {middle:.2f} ({low:.2f}..{high:.2f}) times as many")
