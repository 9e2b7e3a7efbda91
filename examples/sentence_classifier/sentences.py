"""Sentences as the network reads them: words, their numbers, and the padding that makes a batch of them."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).parent
PADDING, UNKNOWN, WORDS = 0, 1, 2  # numbers of words: those of the vocabulary begin at WORDS

# Words, n't and 's apart, emoticons, numbers, runs of ! and ?, and any other sign by itself.
TOKEN = re.compile(r"n't|'[a-z]+|[a-z]+?(?=n't)|[a-z]+|[:;=]-?[()dp/|]|[0-9]+|[!?]+|\S")

Ids = NDArray[np.int32]


class Sentence(NamedTuple):
    text: str
    source: str  # tweets, movies, products or editorials
    rating: float  # the mean of twenty people's, from -4 to 4


def tokens(text: str) -> list[str]:
    return TOKEN.findall(html.unescape(text).lower())


def vocabulary() -> dict[str, int]:
    words = json.loads((FOLDER / "vocabulary.json").read_text(encoding="utf-8"))
    return {word: WORDS + i for i, word in enumerate(words)}


def held_out() -> list[Sentence]:
    """The sentences that training did not see."""
    file = json.loads((FOLDER / "held_out.json").read_text(encoding="utf-8"))
    return [Sentence(*row) for row in file["sentences"]]


def numbers(text: str, words: dict[str, int]) -> Ids:
    return np.array([words.get(token, UNKNOWN) for token in tokens(text)], np.int32)


def padded(sentences: list[Ids], length: int | None = None) -> Ids:
    """(len(sentences), length), by default that of the longest; what is longer is cut."""
    length = max(map(len, sentences)) if length is None else length
    batch = np.full((len(sentences), length), PADDING, np.int32)
    for row, ids in zip(batch, sentences, strict=True):
        row[: len(ids)] = ids[:length]
    return batch


def auc(positive: NDArray[np.bool_], scores: NDArray[np.floating]) -> float:
    """How often a positive sentence scores above a negative one: the area under the ROC curve, ties counted half."""
    _, index, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2.0)[index]
    n = int(positive.sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2.0) / (n * (len(ranks) - n)))
