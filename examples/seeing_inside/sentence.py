"""Inside the sentence classifier: what each word wrote into the state, and what was left of it at the end."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from attribution import Array, gru_gradient, left_of_each_gru_step, rank_correlation
from classifier import Classifier, gru_arrays
from sentences import Sentence, numbers, tokens

FEW = 6  # words: in a shorter sentence ranks say little


class Inside(NamedTuple):
    """One sentence. Directions are the forward and the backward one; steps are words, in the order of the text."""

    words: list[str]
    logit: float
    written: Array  # (2, T, H): 1 - z, the share of the state that a word replaced
    left: Array  # (2, T, H): what is left of each word in the last states
    contribution: Array  # (T,): to the logit; they and the head's bias sum to it
    gradient: Array  # (T,): the logit's by the gates, along what the word is read as
    occlusion: Array  # (T,): by how much the logit falls when the word is left out
    running: Array  # (T, T): row s, column t: the contribution of word t after the words up to s, forward direction


class Arrays(NamedTuple):
    """A direction's, as Keras stores them but transposed, with the gates in the order r z n."""

    weight_ih: Array
    weight_hh: Array
    bias_hn: Array


def arrays() -> tuple[Arrays, Arrays]:
    """Of the forward direction, and of the backward one."""
    found = gru_arrays()
    forward, backward = (
        Arrays(found["weight_ih" + suffix], found["weight_hh" + suffix], np.split(found["bias_hh" + suffix], 3)[2])
        for suffix in ("_l0", "_l0_reverse")
    )
    return forward, backward


def gradient(directions: tuple[Arrays, Arrays], gates: Array, y: Array, heads: Array) -> Array:
    """The logit's with respect to each x, (T, I), through both directions."""
    total = np.zeros((len(y), directions[0].weight_ih.shape[1]), np.float32)
    for weights, of, h, head, step in zip(directions, gates, np.split(y, 2, axis=1), heads, (1, -1), strict=True):
        from_h = np.zeros((len(h), 1, len(head)), np.float32)
        from_h[-1] = head
        total += gru_gradient(of[::step], h[::step], *weights, from_h)[::step, 0]
    return total


def look_into(classifier: Classifier, directions: tuple[Arrays, Arrays], text: str) -> Inside:
    ids = numbers(text, classifier.words)
    x = classifier.embedding[ids]
    y, h_n, trace = classifier.gru(x, return_gates=True)
    assert trace.gates is not None
    forward, backward = trace.gates
    left = np.stack([left_of_each_gru_step(forward), left_of_each_gru_step(backward[::-1])[::-1]])
    heads = classifier.head.reshape(2, -1)  # of the forward state, of the backward one
    running = np.zeros((len(ids), len(ids)), np.float32)
    for s in range(len(ids)):
        running[s, : s + 1] = left_of_each_gru_step(forward[: s + 1]) @ heads[0]

    # A masked step holds the state, so the mask's row t is the sentence without word t; the last row is all of it.
    mask = np.vstack([~np.eye(len(ids), dtype=bool), np.ones((1, len(ids)), bool)])
    _, h_without = classifier.gru(np.repeat(x[None], len(mask), axis=0), mask=mask)
    logits = classifier.logits(h_without)
    return Inside(
        words=tokens(text),
        logit=float(classifier.logits(h_n[:, None])[0]),
        written=1.0 - trace.gates[:, :, 1],
        left=left,
        contribution=np.einsum("dth,dh->t", left, heads),
        gradient=(gradient(directions, trace.gates, y, heads) * x).sum(axis=1),
        occlusion=logits[-1] - logits[:-1],
        running=running,
    )


def gradient_by_differences(classifier: Classifier, text: str, by: float = 1e-2) -> Array:
    """What :class:`Inside` has as `gradient`, from words that are read a little more and a little less strongly."""
    x = classifier.embedding[numbers(text, classifier.words)]
    count = len(x)
    moved = np.repeat(x[None], 2 * count, axis=0)
    moved[np.arange(2 * count), np.tile(np.arange(count), 2)] *= np.repeat([[1.0 + by], [1.0 - by]], count, axis=0)
    more, less = np.split(classifier.logits(classifier.gru(moved)[1]), 2)
    return (more - less) / (2.0 * by)


class Agreement(NamedTuple):
    """Over sentences of FEW words and more: rank correlations over their words, and how exact the bookkeeping is."""

    left: Array  # of what the gates left of a word and its occlusion
    gradient: Array  # of the gradient along a word and its occlusion
    sizes: Array  # of the size of what the gates left and that of occlusion
    openness: Array  # of the mean of 1 - z and the size of occlusion: what the gates alone tell
    position: Array  # of nearness to an end and the size of occlusion: what no look inside is needed for
    largest_error: float  # of the sum of contributions, against the logit


def agreement(classifier: Classifier, sentences: list[Sentence]) -> tuple[Agreement, list[Inside]]:
    directions = arrays()
    seen = [look_into(classifier, directions, sentence.text) for sentence in sentences]
    enough = [inside for inside in seen if len(inside.words) >= FEW]

    def nearness(count: int) -> Array:
        return -np.minimum(np.arange(count), np.arange(count)[::-1]).astype(np.float32)

    result = Agreement(
        np.array([rank_correlation(i.contribution, i.occlusion) for i in enough]),
        np.array([rank_correlation(i.gradient, i.occlusion) for i in enough]),
        np.array([rank_correlation(abs(i.contribution), abs(i.occlusion)) for i in enough]),
        np.array([rank_correlation(i.written.mean(axis=(0, 2)), abs(i.occlusion)) for i in enough]),
        np.array([rank_correlation(nearness(len(i.words)), abs(i.occlusion)) for i in enough]),
        max(abs(float(i.contribution.sum() + classifier.bias) - i.logit) for i in seen),
    )
    return result, seen


def openers(seen: list[Inside], classifier: Classifier, at_least: int = 8) -> list[tuple[str, float]]:
    """Words of the vocabulary and the mean share of the state that they replace, the largest first."""
    shares: dict[str, list[float]] = {}
    for inside in seen:
        for word, share in zip(inside.words, inside.written.mean(axis=(0, 2)), strict=True):
            if word in classifier.words:
                shares.setdefault(word, []).append(float(share))
    means = [(word, float(np.mean(found))) for word, found in shares.items() if len(found) >= at_least]
    return sorted(means, key=lambda pair: -pair[1])


def picture(path: str, inside: Inside, opened: list[tuple[str, float]]) -> None:
    import matplotlib.pyplot as plt

    figure, ((bars, memory), (gates, words)) = plt.subplots(
        2, 2, figsize=(13, 10), width_ratios=(3, 2), layout="constrained"
    )
    count = len(inside.words)
    at = np.arange(count)
    for shift, values, label in (
        (-0.27, inside.contribution, "left in the state at the end, by the gates"),
        (0.0, inside.gradient, "gradient by the gates, along the word"),
        (0.27, inside.occlusion, "lost when the word is left out (occlusion)"),
    ):
        agree = "" if values is inside.occlusion else f", {rank_correlation(values, inside.occlusion):.2f}"
        bars.bar(at + shift, values, 0.27, label=f"{label}{agree}")
    bars.axhline(0.0, color="grey", linewidth=0.8)
    bars.set(title="What each word says for 'positive' (rank correlations with occlusion)", ylabel="logit")
    bars.legend(fontsize="small")

    limit = float(np.abs(inside.running).max())
    image = memory.imshow(inside.running, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    memory.set(title="What is kept, reading forward: blue for, red against", ylabel="after reading ...")
    memory.set_yticks(at, inside.words)
    figure.colorbar(image, ax=memory, label="logit, of the word below")

    forward = inside.written[0]
    order = np.argsort(forward.argmax(axis=0), kind="stable")
    image = gates.imshow(forward[:, order].T, cmap="magma", vmin=0.0, vmax=1.0, aspect="auto")
    gates.set(title="Which word opened which gate (forward direction)", ylabel="unit, by the word it opened to most")
    figure.colorbar(image, ax=gates, label="1 - z, the share of the unit that is replaced")
    for axes in (bars, memory, gates):
        axes.set_xticks(at, inside.words, rotation=60, ha="right")

    shown = opened[:14] + opened[-10:]
    words.barh(range(len(shown)), [share for _, share in shown], color=["tab:red"] * 14 + ["tab:gray"] * 10)
    words.set_yticks(range(len(shown)), [word for word, _ in shown])
    words.invert_yaxis()
    words.set(title="Words of all sentences that open the gates most, and least", xlabel="mean of 1 - z")
    figure.savefig(path, dpi=90)
    print(f"picture in {path}")
