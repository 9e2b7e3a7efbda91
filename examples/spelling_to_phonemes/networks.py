"""The network of train.py: encoder and decoder by fusedcell or in float64, attention in NumPy, and all in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from search import Array

import fusedcell as fc

CELL = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class Memory(NamedTuple):
    keys: Array  # (words, units of the decoder, letters): whose product with h says where to look
    values: Array  # (words, letters, size of attentional): what is found there
    absent: Array  # (words, 1, letters): -inf where a word has no letter


class Decoder(Protocol):
    """Rows of the decoder, each of which goes on from its own h."""

    def step(self, symbols: NDArray[np.int64], attentional: Array) -> tuple[Array, Array]:
        """h of each row, and what h brings to the next attentional, which `attentional` is the last of."""

    def reorder(self, rows: NDArray[np.int64]) -> None: ...


class Attending(NamedTuple):
    """An encoder, letters (words, letters) to keys and values, a decoder, and in NumPy the attention between."""

    encoder: Callable[..., tuple[Array, Array]]
    decoder: Callable[[int], Decoder]  # of so many rows
    output: Array
    output_bias: Array

    def begin(self, spellings: list[list[int]], width: int = 1) -> Attended:
        letters, lengths = padded(spellings)
        keys, values = self.encoder(letters, lengths=lengths)
        memory = Memory(keys.swapaxes(1, 2), values, absent(lengths))
        return Attended(self, memory, self.decoder(width * len(spellings)), width)


class Attended:
    """Hypotheses of words, with what was encoded of these."""

    def __init__(self, network: Attending, memory: Memory, decoder: Decoder, width: int) -> None:
        self.network, self.memory, self.decoder = network, memory, decoder
        words, _, size = memory.values.shape
        self.attentional = np.zeros((words * width, size), memory.values.dtype)

    def step(self, symbols: NDArray[np.int64]) -> tuple[Array, Array]:
        keys, values, absent = self.memory
        h, attentional = self.decoder.step(symbols, self.attentional)
        attention = h.reshape(len(keys), -1, h.shape[1]) @ keys
        attention += absent
        attention -= attention.max(axis=2, keepdims=True)
        np.exp(attention, out=attention)
        attention /= attention.sum(axis=2, keepdims=True)
        attentional += (attention @ values).reshape(attentional.shape)
        self.attentional = np.tanh(attentional, out=attentional)
        return attentional @ self.network.output + self.network.output_bias, attention

    def reorder(self, rows: NDArray[np.int64]) -> None:
        self.decoder.reorder(rows)
        self.attentional = self.attentional[rows]


def split_attentional(weights: dict[str, Array]) -> tuple[Array, Array]:
    """The part of its weights that h goes through, and the part of values. As the attention adds up to one, values
    may have the bias in them, and projecting them before it does so once a letter."""
    units = len(weights["keys.weight"])
    return weights["attentional.weight"][:, :units], weights["attentional.weight"][:, units:]


class ModelDecoder:
    """By a stream of a model, whose one row has no batch axis."""

    def __init__(self, model: fc.Model, rows: int) -> None:
        self.stream = model.stream(rows)
        self.reorder = self.stream.reorder

    def step(self, symbols: NDArray[np.int64], attentional: Array) -> tuple[Array, Array]:
        if len(symbols) > 1:
            return self.stream.step(symbols, attentional)
        h, from_h = self.stream.step(symbols[0], attentional[0])
        return h[None], from_h[None]


def fused(weights: dict[str, Array], dtype: str) -> tuple[Attending, int, int]:
    """The network by fusedcell, the bytes of its GRUs' matrices, and those of all that the GRUs have."""
    from_h, of_values = split_attentional(weights)
    encoding = fc.GRU.from_state_dict(weights, "encoder.", dtype=dtype)
    encoder = fc.Model(
        [
            ("letters", fc.Embedding(weights["letters.weight"]), "text"),
            ("encoded", encoding, "letters"),
            ("keys", fc.Dense(weights["keys.weight"]), "encoded"),
            ("values", fc.Dense(of_values, weights["attentional.bias"]), "encoded"),
        ],
        outputs=("keys", "values"),
        batch_first=True,
    )
    decoding = fc.GRU.from_state_dict({f"{name}_l0": weights[f"decoder.{name}"] for name in CELL}, dtype=dtype)
    decoder = fc.Model(
        [
            ("symbol", fc.Embedding(weights["phonemes.weight"]), "phoneme"),
            ("h", decoding, ("symbol", "attentional")),
            ("from_h", fc.Dense(from_h), "h"),
        ],
        inputs=("phoneme", "attentional"),
        outputs=("h", "from_h"),
    )
    network = Attending(encoder, partial(ModelDecoder, decoder), weights["output.weight"].T, weights["output.bias"])
    return network, encoding.matrix_nbytes + decoding.matrix_nbytes, encoding.nbytes + decoding.nbytes


class ExactDecoder:
    def __init__(self, weights: dict[str, Array], rows: int) -> None:
        self.symbols, self.from_h = weights["phonemes.weight"], split_attentional(weights)[0].T
        self.cell = {name: weights[f"decoder.{name}"] for name in CELL}
        self.h = np.zeros((rows, len(self.from_h)))

    def step(self, symbols: NDArray[np.int64], attentional: Array) -> tuple[Array, Array]:
        x = np.concatenate((self.symbols[symbols], attentional), axis=1)
        self.h = fc.reference.gru_step(x, self.h, **self.cell)
        return self.h, self.h @ self.from_h

    def reorder(self, rows: NDArray[np.int64]) -> None:
        self.h = self.h[rows]


def exact(weights: dict[str, Array]) -> Attending:
    """All of it in float64, the GRUs by their formulas."""
    wide = {name: value.astype(np.float64) for name, value in weights.items()}
    _, of_values = split_attentional(wide)

    def encoder(letters: NDArray[np.int64], lengths: NDArray[np.int64]) -> tuple[Array, Array]:
        letters_seen = wide["letters.weight"][letters]
        encoded, _ = fc.reference.gru(letters_seen, wide, prefix="encoder.", lengths=lengths, batch_first=True)
        return encoded @ wide["keys.weight"].T, encoded @ of_values.T + wide["attentional.bias"]

    return Attending(encoder, partial(ExactDecoder, wide), wide["output.weight"].T, wide["output.bias"])


def torch_network(weights: dict[str, Array]) -> Any:
    """The same in PyTorch on one thread, or None without it."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(1)
    tensors = {name: torch.from_numpy(value) for name, value in weights.items()}

    def load(module: torch.nn.Module, prefix: str) -> torch.nn.Module:
        module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        return module.eval()

    units, size = weights["decoder.weight_hh"].shape[1], weights["phonemes.weight"].shape[1]
    encoder = torch.nn.GRU(size, weights["encoder.weight_hh_l0"].shape[1], bidirectional=True, batch_first=True)
    load(encoder, "encoder.")
    cell = load(torch.nn.GRUCell(weights["decoder.weight_ih"].shape[1], units), "decoder.")
    from_h, to_values = (part.T for part in split_attentional(tensors))

    class TorchDecoder:
        def __init__(self, rows: int) -> None:
            self.h = torch.zeros(rows, units)

        def tensors(self, symbols: NDArray[np.int64], attentional: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            symbol = tensors["phonemes.weight"][torch.from_numpy(symbols)]
            self.h = cell(torch.cat((symbol, attentional), 1), self.h)
            return self.h, self.h @ from_h

        @torch.inference_mode()
        def step(self, symbols: NDArray[np.int64], attentional: Array) -> tuple[Array, Array]:
            h, from_h = self.tensors(symbols, torch.from_numpy(attentional))
            return h.numpy(), from_h.numpy()

    class TorchHypotheses:
        @torch.inference_mode()
        def __init__(self, spellings: list[list[int]], width: int = 1) -> None:
            letters, lengths = padded(spellings)
            x = tensors["letters.weight"][torch.from_numpy(letters)]
            if len(spellings) == 1:
                encoded = encoder(x)[0]
            else:
                packed = torch.nn.utils.rnn.pack_padded_sequence(
                    x, torch.from_numpy(lengths), batch_first=True, enforce_sorted=False
                )
                encoded = torch.nn.utils.rnn.pad_packed_sequence(encoder(packed)[0], batch_first=True)[0]
            self.keys = tensors["keys.weight"] @ encoded.transpose(1, 2)
            self.values = encoded @ to_values + tensors["attentional.bias"]
            self.absent = torch.from_numpy(absent(lengths))
            self.decoder = TorchDecoder(width * len(spellings))
            self.attentional = torch.zeros(width * len(spellings), self.values.shape[2])

        @torch.inference_mode()
        def step(self, symbols: NDArray[np.int64]) -> tuple[Array, Array]:
            h, brought = self.decoder.tensors(symbols, self.attentional)
            attention = (h.view(len(self.keys), -1, units) @ self.keys + self.absent).softmax(2)
            self.attentional = (brought + (attention @ self.values).view(len(h), -1)).tanh()
            logits = torch.nn.functional.linear(self.attentional, tensors["output.weight"], tensors["output.bias"])
            return logits.numpy(), attention.numpy()

        @torch.inference_mode()
        def reorder(self, rows: NDArray[np.int64]) -> None:
            order = torch.from_numpy(rows)
            self.decoder.h, self.attentional = self.decoder.h[order], self.attentional[order]

    class Torch:
        begin = TorchHypotheses
        decoder = TorchDecoder

    return Torch()


def padded(spellings: list[list[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    lengths = np.array([len(spelling) for spelling in spellings])
    letters = np.zeros((len(spellings), lengths.max()), np.int64)
    for row, spelling in zip(letters, spellings, strict=True):
        row[: len(spelling)] = spelling
    return letters, lengths


def absent(lengths: NDArray[np.int64]) -> Array:
    there = np.arange(lengths.max()) < lengths[:, None]
    return np.where(there, np.float32(0.0), np.float32(-np.inf))[:, None]
