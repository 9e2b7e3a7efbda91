"""What int8 and fusedcell.quantization.calibrate keep of trained networks, a table.

python bench/quantisation.py [--snr DB]

The networks are those of examples/ with their own weights, and, where they are installed, silero-vad, pyrnnoise,
ddddocr, Resemblyzer and tesseract-ocr-eng (see examples/README.md; the last two need PyTorch and Tesseract), each
layer on real input from the float network. The last row is a network that int8 loses, out of tests/collapsing.py.
SNRs are of y on a quarter of the data that calibration does not get at all; bytes are of packed weights, with biases,
and scales and sums of rows. The last two columns are what QuantizationWarning goes by, of each layer's worst matrix:
how many times a row's median weight its largest is, or more, in a tenth of the rows, and the SNR that it leaves alone.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np

import fusedcell as fc
from fusedcell._dominance import LEAST_SHARE, ratios
from fusedcell.quantization import calibrate, compare
from fusedcell.quantization.networks import Network

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
RECORDING = ("silero-vad", "6.2.3", "tests/data/test.wav")

Found = Iterator[tuple[str, Any, Any]]  # name, layer, x (T, B, I)


def module(path: str) -> Any:
    """One of the examples' files, with its neighbours, of which other folders have namesakes."""
    folder = (EXAMPLES / path).parent
    own = {file.stem for file in folder.glob("*.py")} if folder != EXAMPLES else set()
    for name in own:
        sys.modules.pop(name, None)
    sys.path[:0] = [str(folder), str(EXAMPLES)]
    try:
        spec = importlib.util.spec_from_file_location(Path(path).stem, EXAMPLES / path)
        assert spec is not None
        assert spec.loader is not None
        found = importlib.util.module_from_spec(spec)
        sys.modules[Path(path).stem] = found
        spec.loader.exec_module(found)
    finally:
        del sys.path[:2]
    return found


def weights_of(folder: str) -> dict[str, Any]:
    with np.load(EXAMPLES / folder / "weights.npz") as file:
        return {name: file[name] for name in file.files}


def under(weights: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): array for name, array in weights.items() if name.startswith(prefix)}


def recording(rate: int) -> Any:
    audio = module("_audio.py")
    return audio.read_wav(audio.file_of_source_distribution(*RECORDING), rate)


def load_forecasting() -> Found:
    demand, weights = module("load_forecasting/demand.py"), weights_of("load_forecasting")
    for weeks in (6, 8, 10):
        x = demand.features(demand.load(), float(weights[f"{weeks}.scale"]))
        yield f"load_forecasting {weeks}", fc.LSTM.from_state_dict(under(weights, f"{weeks}.lstm.")), x[:, None]


def engines() -> Found:
    runs = module("predictive_maintenance/simulation.py").fleet(24, seed=3)
    steps = min(len(run.sensors) for run in runs)
    for folder in ("predictive_maintenance", "drift_watch"):
        weights = weights_of(folder)
        x = np.stack([(run.sensors[-steps:] - weights["mean"]) / weights["std"] for run in runs], axis=1)
        yield folder, fc.GRU.from_state_dict(under(weights, "gru.")), x


def spelling_to_phonemes() -> Found:
    networks, words, weights = (
        module("spelling_to_phonemes/networks.py"),
        module("spelling_to_phonemes/words.py"),
        weights_of("spelling_to_phonemes"),
    )
    spelt = [words.spelt(word) for word in list(words.held_out())[:128]]
    letters = np.array([word for word in spelt if len(word) == 10])
    yield "spelling encoder", fc.GRU.from_state_dict(under(weights, "encoder.")), weights["letters.weight"][letters.T]
    network, *_ = networks.fused(weights, "float32")
    seen, decode = [], network.decoder
    network.decoder = lambda x, h: (seen.append(x.copy()), decode(x, h))[1]
    module("spelling_to_phonemes/search.py").greedy(network, spelt)
    cell = {f"{name}_l0": array for name, array in under(weights, "decoder.").items()}
    yield "spelling decoder", fc.GRU.from_state_dict(cell), np.stack(seen[:12])


def text_sampler() -> Found:
    weights = weights_of("text_sampler")
    characters = str(weights["characters"])
    text = (EXAMPLES / "text_sampler" / "held_out.txt").read_text(encoding="utf-8")
    codes = np.array([characters.index(character) for character in text if character in characters][:8000])
    x = weights["embedding.weight"][codes.reshape(8, 1000).T]
    yield "text_sampler", fc.GRU.from_state_dict(under(weights, "gru.")), x


def sentence_classifier() -> Found:
    classifier = module("sentence_classifier/classifier.py")
    sentences = module("sentence_classifier/sentences.py")
    network = classifier.Classifier()
    numbers = [sentences.numbers(sentence.text, network.words) for sentence in sentences.held_out()]
    long = np.stack([row[:20] for row in numbers if len(row) >= 20][:64])
    layer = fc.GRU.from_state_dict(classifier.gru_arrays())
    yield "sentence_classifier", layer, network.embedding[long.T]


def silero_vad() -> Found:
    silero = module("silero_vad.py")
    weights = silero.read_weights()
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    lstm = fc.LSTM.from_state_dict({f"{name}_l0": weights[f"decoder.rnn.{name}"] for name in names})
    audio = recording(silero.RATE)
    frames = np.pad(audio, (0, -len(audio) % silero.FRAME)).reshape(-1, silero.FRAME)
    before = [item for item in silero.network(weights, lstm).nodes if item[0] not in ("lstm", "decoder", "speech")]
    yield "silero-vad", lstm, fc.Model(before, inputs={"frame": silero.FRAME})(frames)[:, None]


def rnnoise() -> Found:
    rnnoise = module("speech_live/rnnoise.py")
    sound, suppressor = module("speech_live/sound.py"), module("speech_live/suppressor.py")
    model = rnnoise.read_model(rnnoise.load_library())
    audio = recording(rnnoise.RATE)[: 12 * rnnoise.RATE]
    listening, seen = suppressor.Suppressor(model), []
    features = listening._features
    listening._features = lambda *given: (seen.append(features(*given)), seen[-1])[1]
    for frame in sound.frames_of(sound.mix(audio, sound.fan(len(audio), 1), 5)):
        listening(frame)
    nodes = {name: node for name, node, _ in model.nodes}
    for source, name in (("conv2", "gru1"), ("gru1", "gru2"), ("gru2", "gru3")):
        before = fc.Model([item for item in model.nodes if item[0] not in ("gains", "speech")], outputs=source)
        yield f"rnnoise {name}", nodes[name], before(np.stack(seen))[:, None]


def textgenrnn() -> Found:
    example = module("textgenrnn_text.py")
    codes = example.json.loads(example.packaged("textgenrnn_vocab.json"))
    with example.h5py.File(example.io.BytesIO(example.packaged("textgenrnn_weights.hdf5"))) as file:
        layers = [fc.LSTM.from_state_dict(example.float64_lstm(file, name)) for name in example.LAYERS]
        embeddings = file["embedding/embedding/embeddings:0"][()]
    text = (EXAMPLES / "text_sampler" / "held_out.txt").read_text(encoding="utf-8")
    rows = [[codes.get(character, 0) for character in text[start : start + 40]] for start in range(0, 32 * 40, 40)]
    x = embeddings[np.array(rows).T]
    yield "textgenrnn 1", layers[0], x
    yield "textgenrnn 2", layers[1], layers[0](x)[0]


def ddddocr() -> Found:
    captcha = module("ddddocr_captcha.py")
    recogniser = captcha.Recogniser("common.onnx")
    seen = [
        recogniser.before(captcha.draw_captcha(text, seed)[None, None] / np.float32(255))
        for seed, text in enumerate(captcha.TEXTS)
    ]
    steps = min(map(len, seen))
    yield (
        "ddddocr",
        fc.from_onnx(captcha.package_file("common.onnx")),
        np.concatenate([x[:steps] for x in seen], axis=1),
    )


def tesseract() -> Found:
    example = module("tesseract_line.py")
    model = example.Model.read(example.traineddata("eng"))
    reading, seen = example.Recogniser(model, "float32"), []
    lstm = reading._lstm
    reading._lstm = lambda layer, x, reverse: (seen.append((layer, x.copy(), reverse)), lstm(layer, x, reverse))[1]
    reading(example.draw_line(example.LINES[0], 36))
    for layer, x, reverse in seen:
        arrays = example.arrays_of(layer, "float32")
        yield f"tesseract {layer.name}", fc.LSTM.from_state_dict(arrays), x.swapaxes(0, 1)[:: -1 if reverse else 1]


def resemblyzer() -> Found:
    speaker = module("speaker_embedding.py")
    lstm = fc.from_torch(speaker.trained_encoder().lstm)
    yield "resemblyzer", lstm, speaker.mel_windows(recording(speaker.RATE)).numpy()


def collapsing() -> Found:
    sys.path.insert(0, str(ROOT / "tests"))
    from collapsing import powers, speaker_encoder

    yield "tests/collapsing.py", speaker_encoder(), powers()


NETWORKS: tuple[Callable[[], Found], ...] = (
    load_forecasting, engines, spelling_to_phonemes, text_sampler, sentence_classifier, silero_vad, rnnoise, textgenrnn,
    ddddocr, tesseract, resemblyzer, collapsing,
)  # fmt: skip


def parted(x: Any) -> tuple[Any, Any]:
    """Three quarters and one, of the batch or else of the steps."""
    axis = 1 if x.shape[1] >= 4 else 0
    given, fresh = np.split(x, [3 * x.shape[axis] // 4], axis)
    return np.ascontiguousarray(given), np.ascontiguousarray(fresh)


def dominance(layer: Any) -> float:
    """Of the worst matrix: the ratio that a tenth of its rows have or exceed."""
    of_rows = [np.sort(ratios(matrix.values))[::-1] for matrix in Network(layer).matrices.values()]
    return max(float(found[int(np.ceil(LEAST_SHARE * len(found))) - 1]) for found in of_rows)


def snr(y: Any, other: Any) -> float:
    signal, error = (np.square(part, dtype=np.float64).sum() for part in (y, y - other))
    return float(10 * np.log10(signal / error))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--snr", type=float, default=35.0, metavar="DB", help="what calibration is asked for (35)")
    asked = parser.parse_args().snr
    warnings.simplefilter("ignore", fc.QuantizationWarning)
    print("| layer | plain int8, dB | calibrated, dB | bytes of float32's | wider than int8 | ratio | alone, dB |")
    print("|--|--|--|--|--|--|--|")
    kept, judged = [], []
    for networks in NETWORKS:
        try:
            found = list(networks())
        except (ImportError, SystemExit, OSError) as error:
            print(f"{networks.__name__}: {str(error).splitlines()[0]}", file=sys.stderr)
            continue
        for name, layer, x in found:
            given, fresh = parted(np.ascontiguousarray(x, np.float32))
            made = calibrate(layer, given, asked)
            y = layer(fresh)[0]
            plain, calibrated = (snr(y, small(fresh)[0]) for small in (layer.astype("int8"), made.made))
            wider = ", ".join(f"{matrix} {dtype}" for matrix, dtype in made.dtypes.items() if dtype != "int8")
            share = made.nbytes / made.nbytes_before
            ratio, alone = dominance(layer), compare(layer, layer.astype("int8"), fresh).matrices[0].snr_db
            print(
                f"| {name} | {plain:.1f} | {calibrated:.1f} | {share:.3f} | {wider} | {ratio:.1f} | {alone:.1f} |",
                flush=True,
            )
            if plain > 25:
                judged.append((ratio, alone))
                kept.append((plain, calibrated, made.nbytes, made.nbytes_before))
    plain, calibrated, after, before = np.array(kept).T
    means = f"{plain.mean():.1f} dB and calibrated {calibrated.mean():.1f} dB on average"
    lowest = f"{plain.min():.1f} and {calibrated.min():.1f} dB at least"
    share = after.sum() / before.sum()
    print(f"\n{len(kept)} layers that plain int8 does not lose: {means}, {lowest}, at {share:.3f} of float32's bytes")
    ratio, alone = max(ratio for ratio, _ in judged), min(alone for _, alone in judged)
    print(f"their matrices: a ratio of {ratio:.1f} at most, and {alone:.1f} dB alone at least")


if __name__ == "__main__":
    main()
