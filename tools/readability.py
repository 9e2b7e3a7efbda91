"""Hold the prose of all pages against what a reader takes at one go: a part of `make lint`.

Prose is what is left of a page without code, tables, headings and comments. An expression in backticks counts as one
word of one syllable, and so does a number. Reading ease is Flesch's, 206.835 - 1.015 (words per sentence) - 84.6
(syllables per word), where 60 to 70 is plain English. Syllables are counted as groups of vowels, without a silent e.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LONGEST, MEAN, EASE = 40, 19.0, 60.0

# A fenced block, a comment of HTML, a table's row, a heading, a picture; each ends the sentence before it.
NO_PROSE = re.compile(r"^(`{3,}|~{3,}).*?^\1$|<!--.*?-->|^ *\|.*?$|^#.*?$|^!\[.*?\]\(.*?\)$", re.DOTALL | re.MULTILINE)
# An item of a list, or an empty line.
PARAGRAPH = re.compile(r"\n\s*\n|\n *(?:[-*]|\d+\.) ")
SENTENCE = re.compile(r"(?<=[.!?])[)\"*]*\s+(?=[^a-z])|:\s*$")


def sentences(page: str) -> list[list[str]]:
    """The words of each."""
    text = NO_PROSE.sub("\n\n", "\n" + page)
    text = re.sub(r"`[^`]+`", "Code", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    found = [
        re.findall(r"\S*\w\S*", sentence)
        for paragraph in PARAGRAPH.split(text)
        for sentence in SENTENCE.split(" ".join(paragraph.split()))
    ]
    return [words for words in found if len(words) > 2]


def syllables(word: str) -> int:
    word = word.lower().strip(".,:;()\"'*")
    return max(1, len(re.findall(r"[aeiouy]+", word)) - (word.endswith("e") and not word.endswith("le")))


def faults(page: str) -> list[str]:
    found = sentences(page)
    words = [word for sentence in found for word in sentence]
    mean = len(words) / len(found)
    ease = 206.835 - 1.015 * mean - 84.6 * sum(map(syllables, words)) / len(words)
    texts = [
        f"{len(sentence)} words, expected {LONGEST} at most: {' '.join(sentence[:8])} ..."
        for sentence in found
        if len(sentence) > LONGEST
    ]
    if mean > MEAN:
        texts.append(f"{mean:.1f} words a sentence, expected {MEAN:g} at most")
    if ease < EASE:
        texts.append(f"reading ease {ease:.0f}, expected {EASE:g} at least")
    return texts


def main() -> int:
    pages = sorted([*ROOT.glob("[A-Z]*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").rglob("*.md")])
    pages.remove(ROOT / "CHANGELOG.md")  # a list of names
    found = [
        f"{page.relative_to(ROOT)}: {fault}" for page in pages for fault in faults(page.read_text(encoding="utf-8"))
    ]
    print(*found, sep="\n", end="\n" if found else "", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
