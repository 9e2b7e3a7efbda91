"""Says how English words are pronounced, with a GRU encoder, attention and a GRU decoder, and how well and how fast.

python examples/spelling_to_phonemes/run.py [WORD ...] [--words N] [--picture FILE] [--check]

NumPy and fusedcell do; PyTorch is compared with if it is installed, and --picture needs Matplotlib. --check fails if
more words are wrong than should be, or are said otherwise in float32 than in float64, never because of a time.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from networks import exact, fused, torch_network
from numpy.typing import NDArray
from search import Answer, Network, beam, greedy
from words import END, LETTERS, PHONEMES, Words, held_out, spelt

FOLDER = Path(__file__).parent
DTYPES = ("float32", "float16", "int8")
WIDTH = 4
BATCH = 64
ALONE, BATCHES, TURNS = 150, 16, 5  # words and batches that are timed, and how often
SHOWN = ("neighborhood", "physicist", "choreographed", "roughneck")  # in the picture
WORST = 36.0  # percent of words wrong that --check lets pass
PRUNED_WORSE = 1.03  # than the dense network's phoneme error rate, at most


def distance(said: tuple[str, ...], right: tuple[str, ...]) -> int:
    """Levenshtein's: phonemes to insert, delete or replace."""
    row = list(range(len(right) + 1))
    for i, a in enumerate(said, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(right, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]


class Quality(NamedTuple):
    per: float  # percent: phonemes to change, of those in the nearest right pronunciation
    wer: float  # percent: words said in none of the right ways


def quality(answers: list[NDArray[np.int64]], words: Words) -> Quality:
    changes = phonemes = wrong = 0
    for symbols, right in zip(answers, words.values(), strict=True):
        said = tuple(PHONEMES[symbol] for symbol in symbols)
        away, length = (0, len(said)) if said in right else min((distance(said, one), len(one)) for one in right)
        changes, phonemes, wrong = changes + away, phonemes + length, wrong + (away > 0)
    return Quality(100.0 * changes / phonemes, 100.0 * wrong / len(words))


def in_batches(search: Callable[[list[list[int]]], list], spellings: list[list[int]]) -> list:
    """Those of similar length together, and the answers in the words' order."""
    order = np.argsort([len(spelling) for spelling in spellings], kind="stable")
    answers: list = [None] * len(spellings)
    for rows in np.split(order, range(BATCH, len(order), BATCH)):
        for row, answer in zip(rows, search([spellings[row] for row in rows]), strict=True):
            answers[row] = answer
    return answers


class Result(NamedTuple):
    greedy: Quality
    beam: Quality
    same: int  # words that greedy search says as in float64
    off: float  # the largest difference of a probability from float64's, over those


def result(network: Network, words: Words, exact: list[Answer]) -> Result:
    spellings = [spelt(word) for word in words]
    answers = in_batches(partial(greedy, network), spellings)
    beams = in_batches(partial(beam, network, width=WIDTH), spellings)
    alike = [(a, b) for a, b in zip(answers, exact, strict=True) if np.array_equal(a.symbols, b.symbols)]
    off = max((float(np.abs(a.probabilities - b.probabilities).max()) for a, b in alike), default=0.0)
    return Result(quality([answer.said for answer in answers], words), quality(beams, words), len(alike), off)


class Times(NamedTuple):
    """us: medians over words or batches, each the best of TURNS."""

    step: float  # of the decoder before its attention, one row
    greedy: float  # a word alone
    beam: float
    greedy_batch: float  # a word in a batch of words about as long
    beam_batch: float


def times(networks: dict[str, Any], spellings: list[list[int]], size: int) -> dict[str, Times]:
    """All take turns at each word and each batch, in random order, since each leaves the caches to the next."""
    rng = np.random.default_rng(0)
    contenders = list(networks.values())
    alone = [[spellings[i]] for i in rng.permutation(len(spellings))[:ALONE]]
    by_length = sorted(spellings, key=len)
    starts = np.linspace(0, max(len(by_length) - BATCH, 0), BATCHES).astype(int)
    together = [by_length[start : start + BATCH] for start in starts]

    def medians(act: Callable[[Network, list], Any], groups: list[list]) -> list[float]:
        taken = np.empty((len(groups), TURNS, len(networks)))
        for i, group in enumerate(groups):
            for turn in range(TURNS):
                for who in rng.permutation(len(networks)):
                    start = time.perf_counter_ns()
                    act(contenders[who], group)
                    taken[i, turn, who] = (time.perf_counter_ns() - start) / 1e3 / len(group)
        return list(np.median(taken.min(axis=1), axis=0))

    def step(network: Any, some: list[list[int]]) -> None:
        decoder = network.decoder(1)
        for _ in some:
            decoder.step(symbols, attentional)

    symbols, attentional = np.full(1, END), np.zeros((1, size), np.float32)
    searches = [medians(act, groups) for groups in (alone, together) for act in (greedy, partial(beam, width=WIDTH))]
    return {name: Times(*values) for name, *values in zip(networks, medians(step, together), *searches, strict=True)}


def picture(path: str, network: Network) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(11, 8), layout="constrained")
    answers = greedy(network, [spelt(word) for word in SHOWN])
    for axis, word, answer in zip(axes.flat, SHOWN, answers, strict=True):
        letters = ["start", *word, "end"]
        axis.imshow(answer.attention[:, : len(letters)], cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axis.set_xticks(range(len(letters)), letters)
        axis.set_yticks(range(len(answer.symbols)), [(*PHONEMES, "end")[symbol] for symbol in answer.symbols])
        axis.set_title(word)
    figure.suptitle("Which letters the decoder looks at for each phoneme")
    figure.savefig(path, dpi=110)
    print(f"picture in {path}")


def load(name: str) -> dict[str, NDArray[np.float32]]:
    with np.load(FOLDER / name) as file:
        return {name: file[name] for name in file.files}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("word", nargs="*", help="words to say, and no more; otherwise those held out")
    parser.add_argument("--words", type=int, help="how many of the words held out (all)")
    parser.add_argument("--picture", metavar="FILE", help="PNG or SVG to write")
    parser.add_argument("--check", action="store_true", help="fail if more words are wrong than should be")
    arguments = parser.parse_args()
    if arguments.words is not None and arguments.words < 1:
        parser.error(f"--words: expected at least 1, got {arguments.words}")
    if arguments.picture and find_spec("matplotlib") is None:
        parser.error("--picture needs Matplotlib: pip install matplotlib")
    for word in arguments.word:
        if not word or not set(word) <= set(LETTERS):
            parser.error(f"word: expected letters a to z and apostrophes, got {word!r}")

    weights, pruned = load("weights.npz"), load("pruned.npz")
    if arguments.word:
        network, *_ = fused(weights, "float32")
        for word, symbols in zip(arguments.word, beam(network, [spelt(w) for w in arguments.word], WIDTH), strict=True):
            print(word, *(PHONEMES[symbol] for symbol in symbols))
        return 0

    words = held_out()
    if arguments.words:
        chosen = np.random.default_rng(1).permutation(len(words))[: arguments.words]
        words = dict(list(words.items())[i] for i in sorted(chosen))
    spellings = [spelt(word) for word in words]
    theirs = torch_network(weights)
    recurrent = {name: array.nbytes for name, array in weights.items() if "coder." in name}
    matrices = sum(size for name, size in recurrent.items() if "weight" in name)
    made = {"PyTorch, float32": (theirs, matrices, sum(recurrent.values()))} if theirs else {}
    made |= {f"fusedcell, {dtype}": fused(weights, dtype) for dtype in DTYPES}
    made["fusedcell, pruned"] = fused(pruned, "float32")
    networks: dict[str, Network] = {name: network for name, (network, *_) in made.items()}

    print(f"{len(words)} words that training did not see; alone, and in batches of {BATCH}\n")
    print(
        f"{'':18}{'greedy':>14}{f'beam {WIDTH}':>14}{'largest':>9}{'decoder':>9}{'us a word':>16}{'words a second':>17}"
        f"\n{'':18}{'PER %':>7}{'WER %':>7}{'PER %':>7}{'WER %':>7}{'dp':>9}{'step, us':>9}"
        f"{'greedy':>9}{'beam':>7}{'greedy':>10}{'beam':>7}{'matrices + rest':>18}"
    )
    right, right_pruned = (in_batches(partial(greedy, exact(one)), spellings) for one in (weights, pruned))
    taken = times(networks, spellings, len(weights["attentional.weight"]))
    found: dict[str, Result] = {}
    for name, (network, matrices, size) in made.items():
        exact_answers = right_pruned if name == "fusedcell, pruned" else right
        found[name], us = result(network, words, exact_answers), taken[name]
        rates = "".join(f"{q.per:7.2f}{q.wer:7.2f}" for q in (found[name].greedy, found[name].beam))
        print(
            f"{name:18}{rates}{found[name].off:9.1e}{us.step:9.1f}{us.greedy:9.0f}{us.beam:7.0f}"
            f"{1e6 / us.greedy_batch:10.0f}{1e6 / us.beam_batch:7.0f}{f'{matrices:,} + {size - matrices:,}':>18}"
        )
    around = sum(value.nbytes for name, value in weights.items() if name not in recurrent)
    alike = ", ".join(f"{one.same} ({name})" for name, one in found.items())
    print(
        f"\ndp is against float64, over the words said as in float64: {alike}"
        f"\nbytes are those of the GRUs; embeddings, attention and output are {around} more, in float32 throughout"
    )

    if arguments.picture:
        picture(arguments.picture, networks["fusedcell, float32"])
    if arguments.check:
        good = all(max(one.greedy.wer, one.beam.wer) <= WORST for one in found.values())
        dense, sparse = found["fusedcell, float32"], found["fusedcell, pruned"]
        good = good and sparse.greedy.per <= PRUNED_WORSE * dense.greedy.per
        if not (good and min(dense.same, sparse.same) >= 0.999 * len(words)):
            print("the pronunciations are not what they should be", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
