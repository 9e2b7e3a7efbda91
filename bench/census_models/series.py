"""Time series, control, text recognition, language."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .case import Case, Entry, exported, normal, of_graph, of_module, of_stepped, seeded, tokens


class DeepAR(nn.Module):
    """Lagged values and covariates, an embedded series id, LSTMs, and a distribution's parameters at each step."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(370, 20)
        self.lstm = nn.LSTM(1 + 4 + 20, 40, 3, batch_first=True, dropout=0.1)
        self.mean, self.scale = nn.Linear(40, 1), nn.Linear(40, 1)

    def forward(self, values: Tensor, series: Tensor) -> tuple[Tensor, Tensor]:
        embedded = self.embed(series).unsqueeze(1).expand(-1, values.shape[1], -1)
        hidden, _ = self.lstm(torch.cat((values, embedded), dim=2))
        return self.mean(hidden).squeeze(2), nn.functional.softplus(self.scale(hidden)).squeeze(2)


class CudaLSTM(nn.Module):
    """A catchment's forcings and attributes to its discharge on the last day."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5 + 27, 64)
        self.dropout = nn.Dropout(0.4)
        self.head = nn.Linear(64, 1)

    def forward(self, forcings: Tensor, attributes: Tensor) -> Tensor:
        x = forcings.transpose(0, 1)
        static = attributes.unsqueeze(0).repeat(x.shape[0], 1, 1)
        hidden, _ = self.lstm(torch.cat([x, static], dim=-1))
        return self.head(self.dropout(hidden.transpose(0, 1)))


class TinySleepNet(nn.Module):
    """30 s of EEG in convolutions and pools, an LSTM whose state goes on to the next epoch, and a sleep stage."""

    def __init__(self) -> None:
        super().__init__()

        def conv(inputs: int, kernel: int, stride: int) -> list[nn.Module]:
            padding = nn.ConstantPad1d(((kernel - stride) // 2, (kernel - stride + 1) // 2), 0)
            return [padding, nn.Conv1d(inputs, 128, kernel, stride, bias=False), nn.BatchNorm1d(128), nn.ReLU()]

        self.cnn = nn.Sequential(
            *conv(1, 50, 6),
            nn.MaxPool1d(8, 8),
            nn.Dropout(),
            *conv(128, 8, 1),
            *conv(128, 8, 1),
            *conv(128, 8, 1),
            nn.MaxPool1d(4, 4),
            nn.Flatten(),
            nn.Dropout(),
        )
        self.rnn = nn.LSTM(128 * 15, 128, batch_first=True)
        self.fc = nn.Linear(128, 5)

    def forward(self, epoch: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, ...]:
        x, (h, c) = self.rnn(self.cnn(epoch).unsqueeze(1), (h, c))
        return torch.softmax(self.fc(x[:, 0]), dim=1), h, c


class ActorRNN(nn.Module):
    """rsl_rl's recurrent actor as it is exported: observations normalised, one step of a GRU, and an MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.randn(1, 48))
        self.register_buffer("std", torch.rand(1, 48) + 0.5)
        self.rnn = nn.GRU(48, 256)
        self.actor = nn.Sequential(nn.Linear(256, 128), nn.ELU(), nn.Linear(128, 64), nn.ELU(), nn.Linear(64, 12))

    def forward(self, obs: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        x, h = self.rnn(((obs - self.mean) / (self.std + 1e-2)).unsqueeze(0), h)
        return self.actor(x.squeeze(0)), h


class DeepConvLSTM(nn.Module):
    """Sensors of a body through convolutions along time, LSTMs, and the last step's class."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            *[part for i in range(4) for part in (nn.Conv2d(64 if i else 1, 64, (5, 1)), nn.ReLU())]
        )
        self.lstm = nn.LSTM(64 * 9, 128, 2, batch_first=True)
        self.fc = nn.Linear(128, 18)

    def forward(self, x: Tensor) -> Tensor:
        x = self.convs(x.unsqueeze(1)).permute(0, 2, 3, 1)
        x, _ = self.lstm(x.reshape(x.shape[0], x.shape[1], -1))
        return self.fc(x[:, -1, :])


class TesseractLike(nn.Module):
    """Columns of a text line: a convolution, an LSTM up each column, then along the line both ways."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(1, 16, 3, padding=1), nn.MaxPool2d(3, 3)
        self.up = nn.LSTM(16, 48, batch_first=True)
        self.along, self.back = nn.LSTM(48, 96, batch_first=True), nn.LSTM(96, 96, batch_first=True)
        self.final = nn.LSTM(96, 192, batch_first=True)
        self.out = nn.Linear(192, 111)

    def forward(self, line: Tensor) -> Tensor:
        x = self.pool(torch.tanh(self.conv(line)))
        batch, channels, height, width = x.shape
        x = x.permute(0, 3, 2, 1).reshape(batch * width, height, channels)
        x = self.up(x)[0][:, -1].reshape(batch, width, 48)
        x, _ = self.along(x)
        x = self.back(x.flip(1))[0].flip(1)
        return torch.softmax(self.out(self.final(x)[0]), dim=-1)


class EasyOCR(nn.Module):
    """A VGG over an image of a word, two BiLSTMs along its columns, and letters."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        sizes = [1, width // 8, width // 4, width // 2, width // 2, width, width, width]
        parts: list[nn.Module] = []
        for index, (before, after) in enumerate(pairwise(sizes)):
            last = index == 6
            parts.append(nn.Conv2d(before, after, 2 if last else 3, 1, 0 if last else 1, bias=index not in (4, 5)))
            parts += [nn.BatchNorm2d(after)] if index in (4, 5) else []
            parts.append(nn.ReLU())
            parts += [nn.MaxPool2d(2, 2)] if index < 2 else [nn.MaxPool2d((2, 1), (2, 1))] if index in (3, 5) else []
        self.cnn = nn.Sequential(*parts)
        self.pool = nn.AdaptiveAvgPool2d((None, 1))
        self.lstms = nn.ModuleList(nn.LSTM(width, width, bidirectional=True, batch_first=True) for _ in range(2))
        self.linears = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(2))
        self.prediction = nn.Linear(width, 97)

    def forward(self, image: Tensor) -> Tensor:
        x = self.pool(self.cnn(image).permute(0, 3, 1, 2)).squeeze(3)
        for lstm, linear in zip(self.lstms, self.linears, strict=True):
            x = linear(lstm(x)[0])
        return self.prediction(x)


class AWDLSTM(nn.Module):
    """A language model of three LSTMs, whose output matrix is its embedding; a step at a time, or many."""

    def __init__(self, words: int = 2000, embedded: int = 100, hidden: int = 288) -> None:
        super().__init__()
        self.encoder = nn.Embedding(words, embedded)
        sizes = [embedded, hidden, hidden, embedded]
        self.rnns = nn.ModuleList(nn.LSTM(before, after) for before, after in pairwise(sizes))
        self.decoder = nn.Linear(embedded, words)
        self.decoder.weight = self.encoder.weight

    def forward(self, words: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        x, after = self.encoder(words), []
        for index, rnn in enumerate(self.rnns):
            x, state = rnn(x, states[2 * index : 2 * index + 2])
            after += state
        return (self.decoder(x), *after)


class Tagger(nn.Module):
    """flair's sequence tagger without its CRF: embedded words of many lengths, packed, and a BiLSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding2nn = nn.Linear(100, 100)
        self.rnn = nn.LSTM(100, 128, bidirectional=True, batch_first=True)
        self.linear = nn.Linear(256, 20)

    def forward(self, embedded: Tensor, lengths: Tensor) -> Tensor:
        x = self.embedding2nn(embedded)
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        x, _ = nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
        return self.linear(x)


class TacotronDecoder(nn.Module):
    """One step of Tacotron 2's decoder: prenet, attention over the encoded text, two cells."""

    def __init__(self) -> None:
        super().__init__()
        self.prenet = nn.Sequential(nn.Linear(80, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU())
        self.attention_rnn, self.decoder_rnn = nn.LSTMCell(256 + 512, 256), nn.LSTMCell(256 + 512, 256)
        self.query, self.memory, self.energy = nn.Linear(256, 128), nn.Linear(512, 128), nn.Linear(128, 1)
        self.projection = nn.Linear(256 + 512, 80)

    def forward(self, mel: Tensor, memory: Tensor, context: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        h, c = self.attention_rnn(torch.cat((self.prenet(mel), context), -1), states[:2])
        energies = self.energy(torch.tanh(self.query(h.unsqueeze(1)) + self.memory(memory))).squeeze(-1)
        context = torch.bmm(torch.softmax(energies, dim=1).unsqueeze(1), memory).squeeze(1)
        h2, c2 = self.decoder_rnn(torch.cat((h, context), -1), states[2:])
        return self.projection(torch.cat((h2, context), dim=1)), context, h, c, h2, c2


def zeros(count: int, *shape: int) -> list[np.ndarray]:
    return [np.zeros(shape, np.float32)] * count


def awd_lstm() -> Any:
    states = [np.zeros((1, 1, size), np.float32) for size in (288, 288, 288, 288, 100, 100)]
    return of_stepped(AWDLSTM, states, [(word.reshape(1, 1),) for word in tokens(2000, 8)])


def flair() -> Case:
    """Of the rows that sentences have; what stands behind them is the framework's affair."""
    lengths = np.array([20, 13, 5])
    of_all = of_module(Tagger, normal(3, 20, 100), lengths)

    def valid(answers: Any) -> list[np.ndarray]:
        return [np.asarray(rows)[:length] for rows, length in zip(answers, lengths.tolist(), strict=True)]

    return replace(
        of_all,
        theirs=lambda x, n: valid(of_all.theirs(x, n)),
        ours=lambda model: lambda x, n: valid(model(x, lengths=n)),
    )


def graph_of_easyocr() -> Any:
    x = normal(1, 1, 64, 160)
    return of_graph(exported(seeded(EasyOCR), (x,), ["x"], ["y"]), x)


MODELS = [
    Entry(
        "DeepAR",
        "PyTorch",
        "PyTorch",
        "husnejahan/DeepAR-pytorch",
        lambda: of_module(DeepAR, normal(4, 48, 5), tokens(370, 4)),
    ),
    Entry(
        "CudaLSTM",
        "PyTorch",
        "PyTorch",
        "neuralhydrology/neuralhydrology",
        lambda: of_module(CudaLSTM, normal(4, 365, 5), normal(4, 27)),
    ),
    Entry(
        "TinySleepNet",
        "PyTorch",
        "PyTorch",
        "akaraspt/tinysleepnet",
        lambda: of_stepped(TinySleepNet, zeros(2, 1, 1, 128), [(normal(1, 1, 3000, seed=i),) for i in range(3)]),
    ),
    Entry(
        "rsl_rl's recurrent actor",
        "PyTorch",
        "PyTorch",
        "leggedrobotics/rsl_rl",
        lambda: of_stepped(ActorRNN, zeros(1, 1, 1, 256), [(normal(1, 48, seed=i),) for i in range(8)]),
    ),
    Entry(
        "DeepConvLSTM",
        "PyTorch",
        "PyTorch",
        "STRCWearlab/DeepConvLSTM",
        lambda: of_module(DeepConvLSTM, normal(1, 24, 9)),
    ),
    Entry(
        "Tesseract-like",
        "PyTorch",
        "PyTorch",
        "tesseract-ocr/tesseract",
        lambda: of_module(TesseractLike, normal(1, 1, 36, 240)),
    ),
    Entry("EasyOCR-like", "PyTorch", "PyTorch", "JaidedAI/EasyOCR", lambda: of_module(EasyOCR, normal(1, 1, 64, 160))),
    Entry("EasyOCR-like", "ONNX", "ONNX Runtime", "JaidedAI/EasyOCR", graph_of_easyocr),
    Entry("AWD-LSTM", "PyTorch", "PyTorch", "salesforce/awd-lstm-lm", awd_lstm),
    Entry("flair's tagger", "PyTorch", "PyTorch", "flairNLP/flair", flair),
    Entry(
        "Tacotron 2's decoder",
        "PyTorch",
        "PyTorch",
        "NVIDIA/tacotron2",
        lambda: of_module(TacotronDecoder, normal(1, 80), normal(1, 30, 512), normal(1, 512), *zeros(4, 1, 256)),
    ),
]
