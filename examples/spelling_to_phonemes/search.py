"""Greedy and beam search over any network that encodes spellings and takes one step of its decoder at a time."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from words import END

Array = NDArray[np.float32]
MOST_PHONEMES = 40


class Hypotheses(Protocol):
    """A row for each hypothesis, those of a word beside each other."""

    def step(self, symbols: NDArray[np.int64]) -> tuple[Array, Array]:
        """Logits (rows, symbols) after `symbols`, and attention (words, rows a word, letters)."""

    def reorder(self, rows: NDArray[np.int64]) -> None:
        """Row i goes on from what row rows[i] has been: to branch is to name a row twice, to drop is not to name it."""


class Network(Protocol):
    def begin(self, spellings: list[list[int]], width: int = 1) -> Hypotheses:
        """`width` hypotheses a word, all alike."""


class Answer(NamedTuple):
    symbols: NDArray[np.int64]  # (steps,), the last is END if the word ended
    logits: Array  # (steps, symbols)
    attention: Array  # (steps, letters)

    @property
    def said(self) -> NDArray[np.int64]:
        return self.symbols[self.symbols != END]

    @property
    def probabilities(self) -> Array:
        """Of each of `symbols`."""
        return np.exp(log_softmax(self.logits))[np.arange(len(self.symbols)), self.symbols]


def greedy(network: Network, spellings: list[list[int]]) -> list[Answer]:
    """The likeliest symbol at each step, for all words together, until the last word ends."""
    hypotheses = network.begin(spellings)
    symbols = np.full(len(spellings), END)
    ended = np.zeros(len(spellings), bool)
    chosen, likely, attended = [], [], []
    while not ended.all() and len(chosen) < MOST_PHONEMES:
        logits, attention = hypotheses.step(symbols)
        symbols = logits.argmax(axis=1)
        ended |= symbols == END
        chosen.append(symbols)
        likely.append(logits)
        attended.append(attention[:, 0])
    by_word = (np.stack(steps, axis=1) for steps in (chosen, likely, attended))
    answers = []
    for symbols, logits, attention in zip(*by_word, strict=True):
        steps = int(np.argmax(symbols == END)) + 1 if END in symbols else len(symbols)
        answers.append(Answer(symbols[:steps], logits[:steps], attention[:steps]))
    return answers


def beam(network: Network, spellings: list[list[int]], width: int) -> list[NDArray[np.int64]]:
    """The likeliest of `width` hypotheses a word. A word is done when its best has ended, as others only lose."""
    hypotheses = network.begin(spellings, width)
    words = len(spellings)
    score = np.full((words, width), -np.inf, np.float32)
    score[:, 0] = 0.0  # all start alike, so one counts
    said = np.full((words * width, 1), END)
    ended = np.zeros(words * width, bool)
    first = width * np.arange(words)[:, None]
    while said.shape[1] <= MOST_PHONEMES:
        logits, _ = hypotheses.step(said[:, -1])
        log_p = log_softmax(logits)
        log_p[ended] = -np.inf
        log_p[ended, END] = 0.0
        total = (score[:, :, None] + log_p.reshape(words, width, -1)).reshape(words, -1)
        best = np.argpartition(total, -width, axis=1)[:, -width:]
        score = np.take_along_axis(total, best, axis=1)
        parent, symbol = np.divmod(best, logits.shape[1])
        rows = (first + parent).ravel()
        hypotheses.reorder(rows)
        said = np.concatenate((said[rows], symbol.reshape(-1, 1)), axis=1)
        ended = ended[rows] | (symbol.ravel() == END)
        leader = first[:, 0] + score.argmax(axis=1)
        if ended[leader].all():
            break
    return [row[row != END] for row in said[leader]]


def log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
