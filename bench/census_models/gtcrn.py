"""GTCRN (Xiaobin-Rong/gtcrn), a grouped temporal convolutional recurrent network, from complex spectra to others."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .case import Entry, normal, of_module


class Bands(nn.Module):
    """The upper 192 bins as 64 bands, and back."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Linear(192, 64, bias=False)
        self.up = nn.Linear(64, 192, bias=False)

    def merge(self, x: Tensor) -> Tensor:
        return torch.cat([x[..., :65], self.down(x[..., 65:])], dim=-1)

    def split(self, x: Tensor) -> Tensor:
        return torch.cat([x[..., :65], self.up(x[..., 65:])], dim=-1)


class Neighbours(nn.Module):
    """Each band with those beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.unfold = nn.Unfold((1, 3), stride=(1, 1), padding=(0, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.unfold(x).reshape(x.shape[0], x.shape[1] * 3, x.shape[2], x.shape[3])


class TimeAttention(nn.Module):
    """A gate of each channel, from a GRU over its energies."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gru = nn.GRU(channels, channels * 2, batch_first=True)
        self.fc = nn.Linear(channels * 2, channels)

    def forward(self, x: Tensor) -> Tensor:
        energies = torch.mean(x.pow(2), dim=-1)
        gates, _ = self.gru(energies.transpose(1, 2))
        return x * torch.sigmoid(self.fc(gates)).transpose(1, 2)[..., None]


def block(inputs: int, outputs: int, groups: int, turned: bool, last: bool) -> nn.Module:
    kind = nn.ConvTranspose2d if turned else nn.Conv2d
    conv = kind(inputs, outputs, (1, 5), (1, 2), (0, 2), groups=groups)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.Tanh() if last else nn.PReLU())


class Temporal(nn.Module):
    """Half of the channels through a causal depthwise convolution in time, shuffled with the other half."""

    def __init__(self, dilation: int, turned: bool) -> None:
        super().__init__()
        kind = nn.ConvTranspose2d if turned else nn.Conv2d
        self.pad = 2 * dilation
        self.neighbours = Neighbours()
        padding = (self.pad, 1) if turned else (0, 1)
        self.point1, self.norm1, self.act1 = kind(24, 16, 1), nn.BatchNorm2d(16), nn.PReLU()
        self.depth = kind(16, 16, (3, 3), (1, 1), padding, dilation=(dilation, 1), groups=16)
        self.norm2, self.act2 = nn.BatchNorm2d(16), nn.PReLU()
        self.point2, self.norm3 = kind(16, 8, 1), nn.BatchNorm2d(8)
        self.attention = TimeAttention(8)

    def forward(self, x: Tensor) -> Tensor:
        first, second = torch.chunk(x, 2, dim=1)
        h = self.act1(self.norm1(self.point1(self.neighbours(first))))
        h = nn.functional.pad(h, [0, 0, self.pad, 0])
        h = self.norm3(self.point2(self.act2(self.norm2(self.depth(h)))))
        both = torch.stack([self.attention(h), second], dim=1).transpose(1, 2).contiguous()
        return both.flatten(1, 2)


class Grouped(nn.Module):
    """Two GRUs, each on half of the features."""

    def __init__(self, inputs: int, hidden: int, bidirectional: bool) -> None:
        super().__init__()
        self.rnn1 = nn.GRU(inputs // 2, hidden // 2, batch_first=True, bidirectional=bidirectional)
        self.rnn2 = nn.GRU(inputs // 2, hidden // 2, batch_first=True, bidirectional=bidirectional)

    def forward(self, x: Tensor) -> Tensor:
        first, second = torch.chunk(x, 2, dim=-1)
        return torch.cat([self.rnn1(first)[0], self.rnn2(second)[0]], dim=-1)


class DualPath(nn.Module):
    """A recurrence over the bands of a frame, and one over time for each band."""

    def __init__(self) -> None:
        super().__init__()
        self.intra, self.intra_fc, self.intra_norm = Grouped(16, 8, True), nn.Linear(16, 16), nn.LayerNorm((33, 16))
        self.inter, self.inter_fc, self.inter_norm = Grouped(16, 16, False), nn.Linear(16, 16), nn.LayerNorm((33, 16))

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        batch, time, bands, channels = x.shape
        intra = self.intra_fc(self.intra(x.reshape(batch * time, bands, channels)))
        x = x + self.intra_norm(intra.reshape(batch, time, bands, channels))
        y = x.permute(0, 2, 1, 3)
        inter = self.inter_fc(self.inter(y.reshape(batch * bands, time, channels)))
        inter = inter.reshape(batch, bands, time, channels).permute(0, 2, 1, 3)
        return (x + self.inter_norm(inter)).permute(0, 3, 1, 2)


class GTCRN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bands, self.neighbours = Bands(), Neighbours()
        self.encoder = nn.ModuleList([block(9, 16, 1, False, False), block(16, 16, 2, False, False)])
        self.encoder.extend(Temporal(dilation, False) for dilation in (1, 2, 5))
        self.paths = nn.Sequential(DualPath(), DualPath())
        self.decoder = nn.ModuleList(Temporal(dilation, True) for dilation in (5, 2, 1))
        self.decoder.extend([block(16, 16, 2, True, False), block(16, 2, 1, True, True)])

    def forward(self, spec: Tensor) -> Tensor:
        real, imaginary = spec[..., 0].permute(0, 2, 1), spec[..., 1].permute(0, 2, 1)
        magnitude = torch.sqrt(real**2 + imaginary**2 + 1e-12)
        x = self.neighbours(self.bands.merge(torch.stack([magnitude, real, imaginary], dim=1)))
        skips = []
        for part in self.encoder:
            x = part(x)
            skips.append(x)
        x = self.paths(x)
        for part in self.decoder:
            x = part(x + skips.pop())
        mask = self.bands.split(x)
        masked = (real * mask[:, 0] - imaginary * mask[:, 1], imaginary * mask[:, 0] + real * mask[:, 1])
        return torch.stack(masked, dim=1).permute(0, 3, 2, 1)


MODELS = [Entry("GTCRN", "PyTorch", "PyTorch", "Xiaobin-Rong/gtcrn", lambda: of_module(GTCRN, normal(1, 257, 63, 2)))]
