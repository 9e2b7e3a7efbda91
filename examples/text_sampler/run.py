"""Writes on from a prompt, character by character, many texts at once, with one model from character to logits.

python examples/text_sampler/run.py [--prompt TEXT] [--temperatures T ...] [--picture FILE] [--check]

NumPy and fusedcell do; PyTorch is compared with if it is installed, and --picture needs Matplotlib. --check fails if
the network predicts worse than it should, if float32's log-probabilities are not those of the formulas in float64, or
if a text depends on the company it is written in, never because of a time.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # NumPy reads it when it loads; a character is too little for more

import numpy as np
from numpy.typing import NDArray

import fusedcell as fc

Array = NDArray[np.float32]
Logits = NDArray[np.float64]

FOLDER = Path(__file__).parent
DTYPES = ("float32", "float16", "int8")
MANY = 64
PROMPT = "And it came to pass"
PERPLEXITY = 3.4
WORSE = {"float16": 1.001, "int8": 1.01}  # than float32's perplexity, at most
TOLERANCE = 1e-4  # of a character's log-probability in float32, from that in float64


class Weights(NamedTuple):
    """What train.py wrote, in PyTorch's layout."""

    characters: str
    embedding: Array  # (characters, inputs)
    gru: dict[str, Array]
    head: Array  # (characters, units)
    bias: Array

    @classmethod
    def load(cls) -> Weights:
        with np.load(FOLDER / "weights.npz") as file:
            gru = {name.removeprefix("gru."): file[name] for name in file.files if name.startswith("gru.")}
            characters, *others = (
                file[name] for name in ("characters", "embedding.weight", "head.weight", "head.bias")
            )
            return cls(str(characters), others[0], gru, *others[1:])

    def model(self, dtype: str) -> fc.Model:
        """Numbers of characters in, logits of the next character out."""
        layers = [
            ("embedding", fc.Embedding(self.embedding), "character"),
            ("gru", fc.GRU.from_state_dict(self.gru), "embedding"),
            ("logits", fc.Dense(self.head, self.bias), "gru"),
        ]
        return fc.Model(layers).astype(dtype)


class Writer:
    """The network in one dtype. A text being written is a stream and the logits of its next character."""

    def __init__(self, weights: Weights, dtype: str) -> None:
        self.model = weights.model(dtype)
        self.characters = weights.characters

    def encode(self, text: str) -> NDArray[np.intp]:
        unknown = sorted(set(text) - set(self.characters))
        if not text or unknown:
            raise SystemExit(f"the prompt needs characters of {self.characters!r}, and has {unknown}")
        return np.array([self.characters.index(character) for character in text])

    def read(self, prompt: str) -> tuple[fc.ModelStream, Array]:
        """A text that begins with the prompt."""
        stream = self.model.stream()
        return stream, stream.process(self.encode(prompt))[-1]

    def write_one(self, stream: fc.ModelStream, logits: Array, temperature: float, chances: Logits) -> str:
        """A character for each of `chances`, which are uniform in [0, 1)."""
        text = []
        for chance in chances:
            code = choose(logits[None], np.array([temperature]), chance[None])[0]
            text.append(self.characters[code])
            logits = stream.step(code)
        return "".join(text)

    def write_many(
        self, streams: list[fc.ModelStream], logits: Array, temperatures: Logits, chances: Logits
    ) -> list[str]:
        """The same for many texts: `logits` (texts, characters), `temperatures` (texts,), `chances` (texts, n)."""
        codes = np.empty(chances.shape, np.intp)
        for n, chance in enumerate(chances.T):
            codes[:, n] = choose(logits, temperatures, chance)
            logits = self.model.step_many(streams, codes[:, n])
        return ["".join(self.characters[code] for code in row) for row in codes]

    def log_probabilities(self, text: str) -> Logits:
        """Of each character but the first, given those before it."""
        codes = self.encode(text)
        return log_probabilities_of(codes, self.model(codes[:-1]))


def log_softmax(logits: Array | Logits) -> Logits:
    logits = logits.astype(np.float64)
    logits -= logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def log_probabilities_of(codes: NDArray[np.intp], logits: Array | Logits) -> Logits:
    """(n - 1,): of each of n codes but the first, by the logits (n - 1, characters) that were there before it."""
    return log_softmax(logits)[np.arange(len(codes) - 1), codes[1:]]


def choose(logits: Array, temperatures: Logits, chance: Logits) -> NDArray[np.intp]:
    """A character for each row, by softmax(logits / temperature); temperature 0 takes the likeliest."""
    divisors = np.maximum(temperatures, 1e-9)[:, None]
    sums = np.cumsum(np.exp((logits - logits.max(axis=1, keepdims=True)) / divisors), axis=1)
    return (sums <= (chance * sums[:, -1])[:, None]).sum(axis=1)


def chances_of(seeds: Iterable[int], length: int) -> Logits:
    """Each text has a generator of its own, so that what it becomes depends on its seed alone."""
    return np.stack([np.random.default_rng(seed).random(length) for seed in seeds])


def continuations(writer: Writer, arguments: argparse.Namespace) -> None:
    """The prompt is read once, and every text goes on from a copy of the stream that read it."""
    stream, logits = writer.read(arguments.prompt)
    wanted = [
        (temperature, seed)
        for temperature in arguments.temperatures
        # Without chance all texts are the same.
        for seed in range(arguments.seed, arguments.seed + (arguments.continuations if temperature else 1))
    ]
    temperatures = np.array([temperature for temperature, _ in wanted], float)
    chances = chances_of([seed for _, seed in wanted], arguments.length)
    streams = [stream.copy() for _ in wanted]
    texts = writer.write_many(streams, np.tile(logits, (len(streams), 1)), temperatures, chances)
    for (temperature, seed), text in zip(wanted, texts, strict=True):
        print(f"temperature {temperature:3g}, seed {seed}: {(arguments.prompt + text)!r}")


class Speed(NamedTuple):
    one: float  # us a character of one text
    many: float  # ... of MANY, by step_many
    step: float  # ... of which the model
    step_many: float
    same: bool  # whether each of the MANY is what it is alone


def seconds(run: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    begin = clock()
    run()
    return clock() - begin


def speed(writer: Writer, length: int) -> Speed:
    stream, logits = writer.read(PROMPT)
    temperatures, chances = np.full(MANY, 0.8), chances_of(range(MANY), length)
    alone: list[str] = []
    together: list[str] = []
    streams = [stream.copy() for _ in range(MANY)]

    def one_by_one() -> None:
        for i in range(MANY):
            alone.append(writer.write_one(stream.copy(), logits, temperatures[i], chances[i]))

    def at_once() -> None:
        together.extend(writer.write_many(streams, np.tile(logits, (MANY, 1)), temperatures, chances))

    # A whole text takes longer than a thread is left alone, so that its own clock is what counts.
    one, many = (seconds(run, time.thread_time) * 1e6 / MANY / length for run in (one_by_one, at_once))
    code, out, rows = np.array(0), np.empty_like(logits), np.empty((MANY, len(logits)), np.float32)
    codes = np.arange(MANY) % len(logits)
    step = [seconds(lambda: stream.step(code, out=out)) for _ in range(2000)]
    step_many = [seconds(lambda: writer.model.step_many(streams, codes, rows)) for _ in range(200)]
    return Speed(
        one,
        many,
        float(np.median(step)) * 1e6,
        float(np.median(step_many)) * 1e6 / MANY,
        together == alone,
    )


def in_float64(weights: Weights, codes: NDArray[np.intp]) -> Logits:
    """Log-probabilities by the formulas: some seconds, as NumPy takes single steps."""
    y, _ = fc.reference.gru(weights.embedding[codes[:-1]], weights.gru)
    return log_probabilities_of(codes, y @ weights.head.T + weights.bias)


def torch_results(weights: Weights, codes: NDArray[np.intp]) -> tuple[Logits, float, float] | None:
    """PyTorch's log-probabilities, and the us the network takes there for a character of one text and of MANY."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(1)
    embedding = torch.nn.Embedding.from_pretrained(torch.from_numpy(weights.embedding))
    gru = torch.nn.GRU(weights.embedding.shape[1], weights.head.shape[1], num_layers=2)
    gru.load_state_dict({name: torch.from_numpy(value) for name, value in weights.gru.items()})
    head = torch.nn.Linear(*weights.head.shape[::-1])
    head.load_state_dict({"weight": torch.from_numpy(weights.head), "bias": torch.from_numpy(weights.bias)})
    with torch.inference_mode():
        found = log_probabilities_of(codes, head(gru(embedding(torch.from_numpy(codes[:-1])))[0]).numpy())
        times = []
        for batch in (1, MANY):
            x, h = torch.zeros(1, batch, dtype=torch.int64), torch.zeros(2, batch, gru.hidden_size)
            each = [seconds(lambda x=x, h=h: head(gru(embedding(x), h)[0])) for _ in range(300)]
            times.append(np.median(each) * 1e6 / batch)
    return found, *times


def picture(path: str, writers: dict[str, Writer], text: str) -> None:
    import matplotlib.pyplot as plt

    verse = text.splitlines()[0] + "\n"
    writer = writers["float32"]
    codes = writer.encode(verse)
    shares = np.exp(log_softmax(writer.model(codes[:-1])))
    shown = np.argsort(-shares.max(axis=0))[:26]
    shown = shown[np.argsort([writer.characters[code].lower() for code in shown])]
    names = [{" ": "␣", "\n": "⏎"}.get(writer.characters[code], writer.characters[code]) for code in shown]
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(13, 8), height_ratios=(3, 1), sharex=True, layout="constrained")
    top.imshow(shares[:, shown].T ** 0.5, aspect="auto", cmap="magma", interpolation="nearest")
    place = {code: row for row, code in enumerate(shown)}
    at = [(n, place[code]) for n, code in enumerate(codes[1:]) if code in place]
    top.scatter(*zip(*at, strict=True), s=14, facecolors="none", edgecolors="tab:cyan", linewidths=0.9)
    top.set(yticks=range(len(shown)), title="What comes next, as the network sees it; circles: what did")
    top.set_yticklabels(names)
    for dtype, line in (("float32", 2.6), ("int8", 1.0)):
        bits = -writers[dtype].log_probabilities(verse) / np.log(2)
        bottom.plot(bits, drawstyle="steps-mid", label=dtype, linewidth=line)
    bottom.set(ylabel="bits of surprise", xticks=range(len(verse) - 1))
    bottom.set_xticklabels([*verse[1:-1], "⏎"], fontsize=8)
    bottom.legend()
    figure.savefig(path, dpi=110)
    print(f"picture in {path}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompt", default=PROMPT, help=f"what to go on from ({PROMPT!r})")
    parser.add_argument("--temperatures", type=float, nargs="+", default=[0, 0.5, 0.8, 1.1], metavar="T")
    parser.add_argument("--continuations", type=int, default=3, help="at each temperature (3)")
    parser.add_argument("--length", type=int, default=100, help="characters of each (100)")
    parser.add_argument("--seed", type=int, default=0, help="of the first at each temperature (0)")
    parser.add_argument("--picture", metavar="FILE", help="PNG or SVG to write")
    parser.add_argument("--check", action="store_true", help="fail if predictions are worse than they should be")
    arguments = parser.parse_args()
    if arguments.picture and find_spec("matplotlib") is None:
        parser.error("--picture needs Matplotlib: pip install matplotlib")
    if min(arguments.temperatures) < 0 or arguments.continuations < 1 or arguments.length < 1:
        parser.error("temperatures are 0 or more, continuations and length 1 or more")

    weights = Weights.load()
    writers = {dtype: Writer(weights, dtype) for dtype in DTYPES}
    continuations(writers["float32"], arguments)

    text = (FOLDER / "held_out.txt").read_text()
    print(f"\n{len(text):,} characters that training did not see; us a character, of the model and with drawing")
    print(
        f"{'':20}{'perplexity':>11}{'largest dlogp':>15}{'model':>8}{f'in {MANY}':>8}{'all':>8}{f'in {MANY}':>8}",
        end="",
    )
    print(f"{'characters a s':>22}{'bytes':>12}")
    codes = writers["float32"].encode(text)
    exact = in_float64(weights, codes)
    theirs = torch_results(weights, codes)
    if theirs is not None:
        values, one, many = theirs
        off = float(np.abs(values - exact).max())
        print(f"{'PyTorch, float32':20}{np.exp(-values.mean()):11.4f}{off:15.1e}{one:8.1f}{many:8.2f}")
    failures = []
    perplexities = {}
    for dtype, writer in writers.items():
        values = writer.log_probabilities(text)
        perplexities[dtype] = float(np.exp(-values.mean()))
        off = float(np.abs(values - exact).max())
        times = speed(writer, arguments.length)
        print(f"{'fusedcell, ' + dtype:20}{perplexities[dtype]:11.4f}{off:15.1e}", end="")
        print(f"{times.step:8.1f}{times.step_many:8.2f}{times.one:8.1f}{times.many:8.2f}", end="")
        print(f"{f'{1e6 / times.one:,.0f}; {1e6 / times.many:,.0f}':>22}{writer.model.nbytes:>12,}")
        if not times.same:
            failures.append(f"with {dtype} a text is another one in company")
        if dtype == "float32" and off > TOLERANCE:
            failures.append(f"a log-probability is off by {off:.1e}")
    if not failures:
        print(f"Each of {MANY} texts is the same, written alone and in company.")
    if perplexities["float32"] > PERPLEXITY:
        failures.append(f"a perplexity of {perplexities['float32']:.3f}, more than {PERPLEXITY}")
    failures += [
        f"{dtype} is worse by more than {most}"
        for dtype, most in WORSE.items()
        if perplexities[dtype] > most * perplexities["float32"]
    ]

    if arguments.picture:
        picture(arguments.picture, writers, text)
    if arguments.check and failures:
        print("failed: " + "; ".join(failures), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
