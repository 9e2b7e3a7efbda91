"""Says whether a sentence is positive or negative, with a model out of Keras's file, and what padding does.

python examples/sentence_classifier/run.py [--picture FILE] [--check] [SENTENCE ...]

NumPy, h5py and fusedcell do; Keras on PyTorch and vaderSentiment are compared with if they are installed, and
--picture needs Matplotlib.
--check fails if the answers are worse than they should be, if float32's are not those of the formulas in float64, or if
padding changes a bit of them, never because of a time.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
from classifier import DTYPES, MODEL, Array, Classifier
from numpy.typing import NDArray
from sentences import Ids, Sentence, auc, held_out, numbers, padded, tokens, vocabulary

BATCH = 64  # sentences, padded to the longest of them
FIXED = 256  # words: what all are padded to where padding is read, as one does who knows no masks
SHORT = 12  # words: those of the sentences shown
TOLERANCE = 1e-5  # of float32's probabilities, from those in float64
PADDINGS = (0, 8, 32, 128)  # words that are none, behind a sentence


class Answers(NamedTuple):
    masked: Array  # probabilities, one a sentence
    unmasked: Array
    us: float  # median time of a sentence by itself, from text to probability
    bytes: int | None = None  # of the model


def of_vader(sentences: list[Sentence]) -> tuple[Array, float] | None:
    """By the lexicon and rules of the package that the sentences come from: from -1 to 1, and its us a sentence."""
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    except ImportError:
        return None
    analyzer = SentimentIntensityAnalyzer()
    scores = np.array([analyzer.polarity_scores(sentence.text)["compound"] for sentence in sentences], np.float32)
    return scores, median_us(analyzer.polarity_scores, [sentence.text for sentence in sentences])


def in_batches(answer: Callable[[Ids], Array], ids: list[Ids], length: int | None = None) -> Array:
    parts = [answer(padded(ids[start : start + BATCH], length)) for start in range(0, len(ids), BATCH)]
    return np.concatenate(parts)


def median_us(call: Callable[[str], object], texts: list[str]) -> float:
    times = []
    for text in texts:
        start = time.perf_counter_ns()
        call(text)
        times.append(time.perf_counter_ns() - start)
    return float(np.median(times)) / 1e3


def ours(dtype: str, sentences: list[Sentence], ids: list[Ids]) -> Answers:
    classifier = Classifier(dtype)
    return Answers(
        in_batches(classifier.batch, ids),
        in_batches(lambda batch: classifier.batch(batch, masked=False), ids, FIXED),
        median_us(classifier, [sentence.text for sentence in sentences]),
        classifier.model.nbytes,
    )


def of_keras(sentences: list[Sentence], ids: list[Ids]) -> Answers | None:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    try:
        import keras
        import torch
    except ImportError:
        return None
    torch.set_num_threads(1)
    words = vocabulary()
    model = keras.models.load_model(MODEL)
    embedding, encoder, positive = (model.get_layer(name) for name in ("embedding", "encoder", "positive"))

    def unmasked(batch: Ids) -> Array:
        x = embedding(batch).float()  # a tensor without the mask that Keras hangs on the embedding's
        return positive(encoder(x)).cpu().numpy()[:, 0]

    with torch.inference_mode():
        return Answers(
            in_batches(lambda batch: model(batch).cpu().numpy()[:, 0], ids),
            in_batches(unmasked, ids, FIXED),
            median_us(lambda text: model(numbers(text, words)[None]), [s.text for s in sentences[:100]]),
        )


def with_padding(classifier: Classifier, ids: Ids, *, masked: bool) -> Array:
    """The answers to one sentence behind which there is ever more padding."""
    batches = [padded([ids], len(ids) + padding) for padding in PADDINGS]
    return np.concatenate([classifier.batch(batch, masked=masked) for batch in batches])


def padding_changes_nothing(classifier: Classifier, ids: list[Ids]) -> bool:
    """Whether padding, however much, leaves every bit of the answers and the states."""
    exact = padded(ids)
    expected = classifier.answers(exact)
    longer = classifier.answers(padded(ids, exact.shape[1] + 100))
    alone = map(np.concatenate, zip(*(classifier.answers(one[None]) for one in ids), strict=True))
    return all(map(np.array_equal, expected, longer)) and all(map(np.array_equal, expected, alone))


def picture(path: str, sentences: list[Sentence], ids: list[Ids], answers: dict[str, Answers]) -> None:
    import matplotlib.pyplot as plt

    figure, ((roc, drift), (bars, reading)) = plt.subplots(2, 2, figsize=(11, 9), layout="constrained")
    positive = np.array([sentence.rating > 0 for sentence in sentences])

    def curve(scores: Array, label: str, **style: object) -> None:
        order = np.argsort(-scores, kind="stable")
        found = np.cumsum(positive[order]) / positive.sum()
        wrong = np.cumsum(~positive[order]) / (~positive).sum()
        roc.plot(wrong, found, label=f"{label}: AUC {auc(positive, scores):.3f}", **style)

    curve(answers["float32"].masked, "float32, padding masked", linewidth=3)
    curve(answers["int8"].masked, "int8, padding masked", linewidth=1.2, color="black")
    curve(answers["float32"].unmasked, "float32, padding read", linestyle="--", color="tab:red")
    roc.set(title="Positive or negative?", xlabel="share of negative ones taken for positive")
    roc.set_ylabel("share of positive ones found")
    roc.legend(loc="lower right")

    classifier = Classifier()
    lengths = np.arange(0, 129, 4)
    shown = [i for i in range(len(ids)) if SHORT / 2 <= len(ids[i]) <= SHORT][:6]
    for i, colour in zip(shown, plt.rcParams["axes.prop_cycle"].by_key()["color"], strict=False):
        batches = [padded([ids[i]], len(ids[i]) + int(n)) for n in lengths]
        drift.plot(lengths, [classifier.batch(batch)[0] for batch in batches], color=colour, linewidth=2.5)
        drift.plot(lengths, [classifier.batch(batch, masked=False)[0] for batch in batches], color=colour, ls="--")
    drift.set(title="Six sentences: masked (solid), padding read (dashed)", xlabel="words of padding behind")
    drift.set(ylabel="probability of positive", ylim=(-0.02, 1.02))

    sources = sorted({sentence.source for sentence in sentences})
    where = np.arange(len(sources))
    for i, (name, values) in enumerate(
        {"masked": answers["int8"].masked, "padding read": answers["int8"].unmasked}.items()
    ):
        of = [np.array([sentence.source == source for sentence in sentences]) for source in sources]
        bars.bar(where + 0.4 * i - 0.2, [auc(positive[m], values[m]) for m in of], 0.38, label=f"int8, {name}")
    bars.set(title="By source", ylabel="AUC", ylim=(0.5, 1.0))
    bars.set_xticks(where, sources)
    bars.legend(loc="lower right")

    text = "The plot is thin and the jokes are stale, but I loved every minute of it!"
    ids_of_text = numbers(text, classifier.words)
    prefixes = classifier.batch(padded([ids_of_text[: n + 1] for n in range(len(ids_of_text))]))
    words = tokens(text)
    colours = ["tab:green" if p > 0.5 else "tab:red" for p in prefixes]
    reading.barh(range(len(words)), prefixes - 0.5, left=0.5, color=colours)
    reading.set_yticks(range(len(words)), words)
    reading.invert_yaxis()
    reading.set(title="One sentence, word by word", xlabel="probability of positive after so many words", xlim=(0, 1))
    figure.savefig(path, dpi=100)
    print(f"picture in {path}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sentences", nargs="*", metavar="SENTENCE", help="judged instead of those held out")
    parser.add_argument("--picture", metavar="FILE", help="PNG or SVG to write")
    parser.add_argument("--check", action="store_true", help="fail if the answers are not what they should be")
    arguments = parser.parse_args()
    if arguments.picture and find_spec("matplotlib") is None:
        parser.error("--picture needs Matplotlib: pip install matplotlib")
    if arguments.sentences:
        classifier = Classifier("int8")
        for text in arguments.sentences:
            print(f"{classifier(text):.3f}  {text}")
        return 0

    sentences = held_out()
    words = vocabulary()
    ids = [numbers(sentence.text, words) for sentence in sentences]
    positive: NDArray[np.bool_] = np.array([sentence.rating > 0 for sentence in sentences])
    longest = max(map(len, ids))
    print(f"{len(sentences)} sentences that training did not see, {positive.sum()} positive, up to {longest} words\n")

    answers: dict[str, Answers] = {}
    if (theirs := of_keras(sentences, ids)) is not None:
        answers["Keras"] = theirs
    answers |= {dtype: ours(dtype, sentences, ids) for dtype in DTYPES}
    exact = in_batches(Classifier().in_float64, ids)
    off = {name: float(np.max(np.abs(a.masked - exact))) for name, a in answers.items()}
    print(f"{'':20}{'AUC':>8}{'correct':>9}{'padding read':>14}{'us a sentence':>15}{'bytes':>12}", end="")
    print(f"{'largest dp':>12}")
    if (lexicon := of_vader(sentences)) is not None:
        scores, us = lexicon
        print(f"{'vaderSentiment':20}{auc(positive, scores):8.4f}{np.mean((scores > 0) == positive):9.4f}{us:29.1f}")
    for name, a in answers.items():
        print(
            f"{'Keras, float32' if name == 'Keras' else f'fusedcell, {name}':20}{auc(positive, a.masked):8.4f}"
            f"{np.mean((a.masked > 0.5) == positive):9.4f}{auc(positive, a.unmasked):14.4f}{a.us:15.1f}"
            f"{'' if a.bytes is None else f'{a.bytes:,}':>12}{off[name]:12.1e}"
        )

    print(f"\nThe same sentence with {', '.join(map(str, PADDINGS))} words of padding behind it (float32):")
    classifier = Classifier()
    drift = np.abs(answers["float32"].unmasked - answers["float32"].masked)
    shown = int(np.argmax(drift * np.array([len(one) <= SHORT for one in ids])))
    print(f"  {sentences[shown].text}")
    for name, masked in (("masked", True), ("padding read", False)):
        print(f"  {name:14}{'  '.join(f'{p:.4f}' for p in with_padding(classifier, ids[shown], masked=masked))}")
    same_bits = {dtype: padding_changes_nothing(Classifier(dtype), ids[:BATCH]) for dtype in DTYPES}
    print(f"Masked, the same answers and states, bit for bit, however much: {same_bits}")

    if arguments.picture:
        picture(arguments.picture, sentences, ids, answers)
    if arguments.check:
        quality = {name: auc(positive, a.masked) for name, a in answers.items()}
        good = min(quality.values()) >= 0.9 and quality["float32"] - quality["int8"] <= 0.005
        shown = all(auc(positive, a.unmasked) < quality[name] - 0.01 for name, a in answers.items())
        if not (good and shown and off["float32"] <= TOLERANCE and all(same_bits.values())):
            print("the answers are not what they should be", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
