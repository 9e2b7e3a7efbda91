"""Speed up a trained PyTorch model in place: Resemblyzer's speaker encoder, an LSTM of three layers and a linear one.

The model is the package's own weights (Resemblyzer 0.1.4, Apache-2.0) in the module that its voice_encoder.py
describes, and its input windows of 1.6 s from silero-vad's test recording. `fusedcell.torch.accelerate` swaps the LSTM.
Success is

- embeddings that agree with PyTorch's within 1e-5 in float32,
- the model's own bits again after `undo`.

It prints how many times as fast one window is, and what narrower weights do to the embeddings. int8 is not for this
network: its first inputs are powers of a wide range, and errors grow over a window, as fusedcell.quantization.compare
shows; bfloat16 is. PyTorch runs on one thread, as fusedcell does.
"""

from __future__ import annotations

import sys
from importlib.metadata import files

import numpy as np
import torch
from _audio import RATE, file_of_source_distribution, read_wav
from torch import Tensor, nn

import fusedcell.torch

TOLERANCE = 1e-5
MELS, FRAMES, HOP, WINDOW = 40, 160, RATE // 100, RATE // 40


class SpeakerEncoder(nn.Module):
    """(windows, frames, mels) -> (windows, 256), of length 1."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(MELS, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)

    def forward(self, mels: Tensor) -> Tensor:
        _, (hidden, _) = self.lstm(mels)
        embedding = torch.relu(self.linear(hidden[-1]))
        return embedding / embedding.norm(dim=1, keepdim=True)


def trained_encoder() -> SpeakerEncoder:
    path = next(file for file in files("Resemblyzer") or () if file.name == "pretrained.pt").locate()
    weights = torch.load(str(path), map_location="cpu", weights_only=True)["model_state"]
    model = SpeakerEncoder()
    model.load_state_dict({name: weights[name] for name in model.state_dict()})
    return model.eval()


def mel_windows(audio: np.ndarray) -> Tensor:
    """Power in 40 triangular bands of 0 to 8 kHz, even in mels, 100 times a second; in windows of 160 frames."""
    frames = np.lib.stride_tricks.sliding_window_view(audio, WINDOW)[::HOP] * np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    mel_of_8khz = 2595 * np.log10(1 + 8000 / 700)
    edges = 700 * (10 ** (np.linspace(0, mel_of_8khz, MELS + 2) / 2595) - 1)
    hertz = np.fft.rfftfreq(WINDOW, 1 / RATE)
    rise = (hertz - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - hertz) / np.diff(edges)[1:, None]
    bands = np.maximum(0, np.minimum(rise, fall)) * (2 / (edges[2:] - edges[:-2]))[:, None]
    mels = (power @ bands.T).astype(np.float32)
    count = len(mels) // FRAMES
    return torch.from_numpy(mels[: count * FRAMES].reshape(count, FRAMES, MELS))


def main() -> int:
    torch.set_num_threads(1)
    model = trained_encoder()
    windows = mel_windows(read_wav(file_of_source_distribution("silero-vad", "6.2.3", "tests/data/test.wav")))
    with torch.inference_mode():
        original = model(windows)
        report = fusedcell.torch.accelerate(model)
        difference = float((model(windows) - original).abs().max())
        print(report)
        print(f"\n{len(windows)} windows of 1.6 s; embeddings differ by {difference:.1e} at most")
        print(f"one window: {report.benchmark(windows[:1])}")
        report.undo()
        undone = torch.equal(model(windows), original)

        for dtype in ("bfloat16", "int8"):
            with fusedcell.torch.accelerate(model, dtype=dtype) as report:
                cosines = (model(windows) * original).sum(dim=1)
                print(f"{dtype}: cosine with the original {cosines.median():.5f}, at the least {cosines.min():.5f}")
                print(f"one window: {report.benchmark(windows[:1])}")
    if difference > TOLERANCE or not undone:
        print(f"FAILED: a difference of {difference:.1e}, undone: {undone}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
