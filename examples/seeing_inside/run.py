"""Looks into the sentence classifier and the load forecaster: what opened their gates, and what their states kept.

python examples/seeing_inside/run.py [--sentence TEXT] [--picture FOLDER] [--check]

NumPy, h5py and fusedcell do; --picture writes sentence.png and forecast.png into FOLDER, with Matplotlib. --check fails
if what the gates left does not add up to the answer, or their gradient is not that of small differences or agrees with
occlusion less than it should.
"""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np

sys.path.extend(str(Path(__file__).parents[1] / name) for name in ("sentence_classifier", "load_forecasting"))
import forecast
import sentence
from attribution import Array
from classifier import Classifier
from demand import load
from sentences import held_out

TEXT = "The plot is thin and the jokes are stale, but I loved every minute of it!"
SEEN_BY = ("top layer's gates", "gradient", "occlusion")


def line(name: str, correlations: Array) -> float:
    low, middle, high = np.percentile(correlations, (10, 50, 90))
    print(f"  {name:58}{middle:7.3f}  ({low:.2f}..{high:.2f})")
    return float(middle)


def gradients_are_right(classifier: Classifier, network: forecast.Network, demand: Array) -> bool:
    """Whether they are what small differences of the input give, to what float32 lets those tell."""
    inside = sentence.look_into(classifier, sentence.arrays(), TEXT)
    words = np.allclose(inside.gradient, sentence.gradient_by_differences(classifier, TEXT), rtol=0.01, atol=1e-3)
    x = forecast.features(demand, network.scale)[: forecast.WINDOW]
    start = np.zeros((network.lstm.num_layers, network.lstm.hidden_size), np.float32)
    gradient = forecast.look_into(network, x, (start, start), end=0).gradient
    return words and np.allclose(gradient, forecast.gradient_by_differences(network, x), rtol=0.01, atol=0.02)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sentence", default=TEXT, metavar="TEXT", help="the sentence to draw")
    parser.add_argument("--picture", metavar="FOLDER", help="where to write sentence.png and forecast.png")
    parser.add_argument("--check", action="store_true", help="fail if the two views agree less than they should")
    arguments = parser.parse_args()
    if arguments.picture and find_spec("matplotlib") is None:
        parser.error("--picture needs Matplotlib: pip install matplotlib")

    classifier = Classifier()
    words, seen = sentence.agreement(classifier, held_out())
    print(f"Sentence classifier, {len(words.sizes)} sentences: rank correlation over words, median (p10..p90)")
    by_words = line("the gradient by the gates, and occlusion", words.gradient)
    line("left at the end by the gates, and occlusion", words.left)
    line("sizes of what is left, and of occlusion", words.sizes)
    line("openness of the gates, and the size of occlusion", words.openness)
    line("nearness to an end, and the size of occlusion", words.position)
    print(f"  what is left sums to the logit within {words.largest_error:.1e}")
    opened = sentence.openers(seen, classifier)
    print(f"  words that open the gates most:  {', '.join(word for word, _ in opened[:12])}")
    print(f"  ... and least:                   {', '.join(word for word, _ in opened[:-13:-1])}\n")

    demand = load()
    network = forecast.Network.load(str(Path(__file__).parents[1] / "load_forecasting" / "weights.npz"))
    windows = forecast.look_into_weeks(network, demand)
    readings = forecast.agreement(network, windows)
    print(f"Load forecaster, {len(windows)} forecasts: rank correlation over readings, median (p10..p90)")
    by_readings = line("the gradient by the gates of all layers, and occlusion", readings.gradient)
    line("left at the end by the top layer's gates, and occlusion", readings.left)
    line("how late a reading is, and occlusion", readings.recency)
    shares = ", ".join(f"{name} {share:.2f}" for name, share in zip(SEEN_BY, readings.older, strict=True))
    print(f"  share of readings older than {forecast.RECENT / 2:.1f} hours: {shares}")
    print(f"  what is left sums to the forecast within {readings.largest_error:.1e} MW")

    if arguments.picture:
        folder = Path(arguments.picture)
        folder.mkdir(parents=True, exist_ok=True)
        sentence.picture(
            str(folder / "sentence.png"), sentence.look_into(classifier, sentence.arrays(), arguments.sentence), opened
        )
        shown = max(windows, key=lambda inside: float(np.abs(inside.change).max()))
        pulls = np.mean([inside.pull for inside in windows], axis=0)
        forecast.picture(str(folder / "forecast.png"), shown, pulls, demand)
    if arguments.check:
        adds_up = words.largest_error <= 1e-5 and readings.largest_error <= 0.01
        right = gradients_are_right(classifier, network, demand)
        if not (adds_up and right and by_words >= 0.9 and by_readings >= 0.95):
            print("what is seen inside is not what it should be", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
