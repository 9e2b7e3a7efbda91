"""Speech: activity, wake words, noise suppression, separation, speakers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from .case import Case, Entry, exported, normal, of_graph, of_module, of_stepped, of_stepped_graph, seeded


class NSNet2(nn.Module):
    """Two GRUs between dense layers: log power of a frame to a gain a bin."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(161, 400)
        self.rnn = nn.GRU(400, 400, 2, batch_first=True)
        self.fc2, self.fc3, self.fc4 = nn.Linear(400, 600), nn.Linear(600, 600), nn.Linear(600, 161)

    def forward(self, x: Tensor) -> Tensor:
        x, _ = self.rnn(self.fc1(x))
        return torch.sigmoid(self.fc4(torch.relu(self.fc3(torch.relu(self.fc2(x))))))


class PercepNet(nn.Module):
    """Features of a frame to gains of 34 bands and to pitch filter strengths."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(70, 128), nn.ReLU())
        self.conv1 = nn.Sequential(nn.Conv1d(128, 512, 5, padding=4), nn.ReLU())
        self.conv2 = nn.Sequential(nn.Conv1d(512, 512, 3), nn.Tanh())
        self.gru1, self.gru2, self.gru3, self.gru_gb = (nn.GRU(512, 512, batch_first=True) for _ in range(4))
        self.gru_rb = nn.GRU(1024, 128, batch_first=True)
        self.fc_gb = nn.Sequential(nn.Linear(512 * 5, 34), nn.Sigmoid())
        self.fc_rb = nn.Sequential(nn.Linear(128, 34), nn.Sigmoid())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.fc(x).permute(0, 2, 1)
        convolved = self.conv2(self.conv1(x)[:, :, :-4]).permute(0, 2, 1)
        gru1, _ = self.gru1(convolved)
        gru2, _ = self.gru2(gru1)
        gru3, _ = self.gru3(gru2)
        gru_gb, _ = self.gru_gb(gru3)
        gains = self.fc_gb(torch.cat((convolved, gru1, gru2, gru3, gru_gb), dim=-1))
        strengths, _ = self.gru_rb(torch.cat((gru3, convolved), dim=-1))
        return gains, self.fc_rb(strengths)


class KeywordCRNN(nn.Module):
    """Two convolutions over mel frames, a GRU, and a head on its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, (3, 3))
        self.conv2 = nn.Conv2d(16, 16, (5, 5), stride=(1, 2))
        self.gru = nn.GRU(16 * 17, 128, batch_first=True)
        self.dense = nn.Linear(128, 128)
        self.out = nn.Linear(128, 12)

    def forward(self, mels: Tensor) -> Tensor:
        x = torch.relu(self.conv2(torch.relu(self.conv1(mels.unsqueeze(1)))))
        x = x.permute(0, 2, 1, 3).flatten(2)
        x, _ = self.gru(x)
        return torch.softmax(self.out(torch.relu(self.dense(x[:, -1]))), dim=-1)


class DemucsLike(nn.Module):
    """Strided convolutions with GLUs, an LSTM, and transposed convolutions with skips; without the resampling."""

    def __init__(self, hidden: int = 16, depth: int = 3) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        channels, inner = 1, hidden
        for index in range(depth):
            self.encoder.append(
                nn.Sequential(nn.Conv1d(channels, inner, 8, 4), nn.ReLU(), nn.Conv1d(inner, 2 * inner, 1), nn.GLU(1))
            )
            up: list[nn.Module] = [nn.Conv1d(inner, 2 * inner, 1), nn.GLU(1), nn.ConvTranspose1d(inner, channels, 8, 4)]
            self.decoder.insert(0, nn.Sequential(*up, *([nn.ReLU()] if index else [])))
            channels, inner = inner, 2 * inner
        self.lstm = nn.LSTM(channels, channels, 2)

    def forward(self, mix: Tensor) -> Tensor:
        x, skips = mix, []
        for encode in self.encoder:
            x = encode(x)
            skips.append(x)
        x, _ = self.lstm(x.permute(2, 0, 1))
        x = x.permute(1, 2, 0)
        for decode in self.decoder:
            skip = skips.pop(-1)
            x = decode(x + skip[..., : x.shape[-1]])
        return x


class OpenUnmix(nn.Module):
    """A mask on a spectrogram (frames, batch, channels, bins), from a normalised bottleneck and an LSTM."""

    def __init__(self, bidirectional: bool, hidden: int = 128, bins: int = 512, kept: int = 256) -> None:
        super().__init__()
        self.hidden, self.kept, self.bins = hidden, kept, bins
        self.fc1, self.bn1 = nn.Linear(kept * 2, hidden, bias=False), nn.BatchNorm1d(hidden)
        units = hidden // 2 if bidirectional else hidden
        self.lstm = nn.LSTM(hidden, units, 3, bidirectional=bidirectional, dropout=0.4)
        self.fc2, self.bn2 = nn.Linear(hidden * 2, hidden, bias=False), nn.BatchNorm1d(hidden)
        self.fc3, self.bn3 = nn.Linear(hidden, bins * 2, bias=False), nn.BatchNorm1d(bins * 2)
        self.input_mean, self.input_scale = nn.Parameter(torch.randn(kept)), nn.Parameter(torch.rand(kept) + 0.5)
        self.output_scale, self.output_mean = nn.Parameter(torch.ones(bins)), nn.Parameter(torch.ones(bins))

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(3, 0, 1, 2)
        frames, batch, channels, _ = x.shape
        mix = x.detach().clone()
        x = (x[..., : self.kept] + self.input_mean) * self.input_scale
        x = self.bn1(self.fc1(x.reshape(-1, channels * self.kept)))
        x = torch.tanh(x.reshape(frames, batch, self.hidden))
        x = torch.cat([x, self.lstm(x)[0]], -1)
        x = torch.relu(self.bn2(self.fc2(x.reshape(-1, x.shape[-1]))))
        x = self.bn3(self.fc3(x)).reshape(frames, batch, channels, self.bins)
        x = torch.relu(x * self.output_scale + self.output_mean) * mix
        return x.permute(1, 2, 3, 0)


class GroupedLinear(nn.Module):
    """A block-diagonal matrix, as DeepFilterNet has it."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.randn(groups, inputs // groups, outputs // groups) / 8)

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        x = torch.einsum("btgi,gih->btgh", x.view(b, t, self.groups, -1), self.weight)
        return x.flatten(2, 3)


class SeparableConv(nn.Sequential):
    """Depthwise in two axes and causal in time, pointwise, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: Sequence[int], stride: int, lookahead: int = 0) -> None:
        parts: list[nn.Module] = []
        if kernel[0] > 1:
            parts.append(nn.ConstantPad2d((0, 0, kernel[0] - 1 - lookahead, lookahead), 0.0))
        groups = int(np.gcd(inputs, outputs))
        padding = (0, kernel[1] // 2)
        parts.append(nn.Conv2d(inputs, outputs, tuple(kernel), (1, stride), padding, groups=groups, bias=False))
        if groups > 1:
            parts.append(nn.Conv2d(outputs, outputs, 1, bias=False))
        super().__init__(*parts, nn.BatchNorm2d(outputs), nn.ReLU())


class DeepFilterEncoder(nn.Module):
    """Both encoders: energies of 32 bands, and 96 complex bins, to one embedding and a local SNR."""

    def __init__(self) -> None:
        super().__init__()
        self.erb_conv0 = SeparableConv(1, 16, (3, 3), 1)
        self.erb_conv1, self.erb_conv2 = (SeparableConv(16, 16, (1, 3), 2) for _ in range(2))
        self.erb_conv3 = SeparableConv(16, 16, (1, 3), 1)
        self.df_conv0, self.df_conv1 = SeparableConv(2, 16, (3, 3), 1), SeparableConv(16, 16, (1, 3), 2)
        self.df_fc_emb = nn.Sequential(GroupedLinear(16 * 48, 16 * 8, 16), nn.ReLU())
        self.linear_in = nn.Sequential(GroupedLinear(16 * 8, 128, 16), nn.ReLU())
        self.gru = nn.GRU(128, 128, batch_first=True)
        self.linear_out = nn.Sequential(GroupedLinear(128, 16 * 8, 16), nn.ReLU())
        self.lsnr_fc = nn.Sequential(nn.Linear(16 * 8, 1), nn.Sigmoid())

    def forward(self, erb: Tensor, spec: Tensor) -> tuple[Tensor, ...]:
        e0 = self.erb_conv0(erb)
        e1 = self.erb_conv1(e0)
        e2 = self.erb_conv2(e1)
        e3 = self.erb_conv3(e2)
        c0 = self.df_conv0(spec)
        c1 = self.df_conv1(c0)
        cemb = self.df_fc_emb(c1.permute(0, 2, 3, 1).flatten(2))
        emb = e3.permute(0, 2, 3, 1).flatten(2) + cemb
        emb, _ = self.gru(self.linear_in(emb))
        emb = self.linear_out(emb)
        return e0, e1, e2, e3, emb, c0, self.lsnr_fc(emb) * 50 - 15


class TenVad(nn.Module):
    """Three frames of 41 features, two LSTM cells whose states the caller holds, and the probability of speech."""

    def __init__(self) -> None:
        super().__init__()
        self.conv0 = nn.Sequential(nn.Conv2d(1, 1, 3, padding=(0, 1)), nn.Conv2d(1, 16, 1), nn.ReLU())
        self.pool = nn.MaxPool2d((1, 3), (1, 2))
        self.conv1, self.conv2 = (
            nn.Sequential(nn.Conv2d(16, 16, (1, 3), (1, 2), groups=16), nn.Conv2d(16, 16, 1), nn.ReLU())
            for _ in range(2)
        )
        self.lstm1, self.lstm2 = nn.LSTM(64, 64, batch_first=True), nn.LSTM(64, 64, batch_first=True)
        self.dense1, self.dense2 = nn.Linear(128, 32), nn.Linear(32, 1)

    def forward(self, x: Tensor, h1: Tensor, c1: Tensor, h2: Tensor, c2: Tensor) -> tuple[Tensor, ...]:
        y = self.conv2(self.conv1(self.pool(self.conv0(x.unsqueeze(1)))))
        y = y.permute(0, 2, 3, 1).flatten(2)
        first, (h1, c1) = self.lstm1(y, (h1, c1))
        second, (h2, c2) = self.lstm2(first, (h2, c2))
        y = torch.relu(self.dense1(torch.cat((second, first), -1)))
        return torch.sigmoid(self.dense2(y)), h1, c1, h2, c2


class DeepSpeech(nn.Module):
    """19 frames at once into clipped dense layers, an LSTM, and letters."""

    def __init__(self, hidden: int = 256) -> None:
        super().__init__()
        self.context = nn.Conv1d(26, hidden, 19, padding=9)
        self.dense2, self.dense3 = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.lstm = nn.LSTM(hidden, hidden, batch_first=True)
        self.dense5, self.dense6 = nn.Linear(hidden, hidden), nn.Linear(hidden, 29)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.hardtanh(self.context(x.transpose(1, 2)).transpose(1, 2), 0, 20)
        x = torch.clamp(self.dense2(x), 0, 20)
        x = torch.clamp(self.dense3(x), 0, 20)
        x, _ = self.lstm(x)
        x = torch.clamp(self.dense5(x), 0, 20)
        return torch.log_softmax(self.dense6(x), dim=-1)


class LiGRU(nn.Module):
    """SpeechBrain's light GRU: ReLU, and batch norm in the cell."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.u = nn.Linear(40, 256, bias=False), nn.Linear(128, 256, bias=False)
        self.norm = nn.BatchNorm1d(256)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.shape[0], 128)
        w = self.w(x)
        w = self.norm(w.reshape(-1, 256)).reshape(w.shape)
        rows = []
        for t in range(x.shape[1]):
            a, z = (w[:, t] + self.u(h)).chunk(2, 1)
            z = torch.sigmoid(z)
            h = z * h + (1 - z) * torch.relu(a)
            rows.append(h)
        return torch.stack(rows, dim=1)


class PyanNet(nn.Module):
    """Speaker segmentation: convolutions with instance norms over the clip, BiLSTMs, dense layers."""

    def __init__(self) -> None:
        super().__init__()
        self.norm0 = nn.InstanceNorm1d(1, affine=True)
        self.conv1, self.norm1 = nn.Conv1d(1, 80, 251, stride=10), nn.InstanceNorm1d(80, affine=True)
        self.lstm = nn.LSTM(80, 128, 2, bidirectional=True, batch_first=True)
        self.linear, self.classifier = nn.Linear(256, 128), nn.Linear(128, 7)

    def forward(self, waveform: Tensor) -> Tensor:
        x = functional.leaky_relu(self.norm1(functional.max_pool1d(torch.abs(self.conv1(self.norm0(waveform))), 3)))
        x, _ = self.lstm(x.transpose(1, 2))
        return torch.log_softmax(self.classifier(functional.leaky_relu(self.linear(x))), dim=-1)


def ten_vad_steps() -> tuple[Any, ...]:
    frames = np.concatenate([np.zeros((1, 2, 41), np.float32), normal(1, 8, 41)], axis=1)
    return [np.zeros((1, 1, 64), np.float32)] * 4, [(frames[:, at : at + 3],) for at in range(8)], 2


def ten_vad_graph() -> Case:
    states, steps, overlap = ten_vad_steps()
    names = ["h1", "c1", "h2", "c2"]
    outputs = [name + "_out" for name in names]
    graph = exported(seeded(TenVad), (*steps[0], *states), ["x", *names], ["speech", *outputs])
    held = {name: (out, begin) for name, out, begin in zip(names, outputs, states, strict=True)}
    return of_stepped_graph(graph, held, steps, overlap=overlap)


def of_graph_too(
    make: Any, *inputs: np.ndarray, names: Sequence[str] = ("x",), outputs: Sequence[str] = ("y",)
) -> Case:
    axes = {name: {0: "batch", 1: "time"} for name in names}
    return of_graph(exported(seeded(make), inputs, names, outputs, axes), *inputs)


MODELS = [
    Entry("NSNet2", "PyTorch", "PyTorch", "microsoft/DNS-Challenge", lambda: of_module(NSNet2, normal(1, 100, 161))),
    Entry(
        "NSNet2", "ONNX", "ONNX Runtime", "microsoft/DNS-Challenge", lambda: of_graph_too(NSNet2, normal(1, 100, 161))
    ),
    Entry("PercepNet", "PyTorch", "PyTorch", "jzi040941/PercepNet", lambda: of_module(PercepNet, normal(1, 100, 70))),
    Entry(
        "CRNN for keywords",
        "PyTorch",
        "PyTorch",
        "google-research/kws_streaming",
        lambda: of_module(KeywordCRNN, normal(1, 98, 40)),
    ),
    Entry(
        "CRNN for keywords",
        "ONNX",
        "ONNX Runtime",
        "google-research/kws_streaming",
        lambda: of_graph_too(KeywordCRNN, normal(1, 98, 40)),
    ),
    Entry(
        "Demucs-like",
        "PyTorch",
        "PyTorch",
        "facebookresearch/denoiser",
        lambda: of_module(DemucsLike, normal(1, 1, 1364)),
    ),
    Entry(
        "Open-Unmix, causal",
        "PyTorch",
        "PyTorch",
        "sigsep/open-unmix-pytorch",
        lambda: of_module(lambda: OpenUnmix(False), np.abs(normal(1, 2, 512, 40))),
    ),
    Entry(
        "Open-Unmix",
        "PyTorch",
        "PyTorch",
        "sigsep/open-unmix-pytorch",
        lambda: of_module(lambda: OpenUnmix(True), np.abs(normal(1, 2, 512, 40))),
    ),
    Entry(
        "DeepFilterNet's encoder",
        "PyTorch",
        "PyTorch",
        "Rikorose/DeepFilterNet",
        lambda: of_module(DeepFilterEncoder, normal(1, 1, 60, 32), normal(1, 2, 60, 96, seed=1)),
    ),
    Entry("TEN-VAD-like", "PyTorch", "PyTorch", "TEN-framework/ten-vad", lambda: of_stepped(TenVad, *ten_vad_steps())),
    Entry("TEN-VAD-like", "ONNX", "ONNX Runtime", "TEN-framework/ten-vad", ten_vad_graph),
    Entry(
        "DeepSpeech-like", "PyTorch", "PyTorch", "mozilla/DeepSpeech", lambda: of_module(DeepSpeech, normal(1, 100, 26))
    ),
    Entry("LiGRU", "PyTorch", "PyTorch", "speechbrain/speechbrain", lambda: of_module(LiGRU, normal(1, 50, 40))),
    Entry("PyanNet", "PyTorch", "PyTorch", "pyannote/pyannote-audio", lambda: of_module(PyanNet, normal(1, 1, 8000))),
]
