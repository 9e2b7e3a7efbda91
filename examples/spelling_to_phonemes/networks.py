"""The network of train.py: encoder and GRU by fusedcell or in float64, with attention in NumPy, and all in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from search import Array, State

import fusedcell as fc

CELL = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class Memory(NamedTuple):
    keys: Array  # (words, units of the decoder, letters): whose product with h says where to look
    values: Array  # (words, letters, size of attentional): what is found there
    absent: Array  # (words, 1, letters): -inf where a word has no letter


class Attending:
    """An encoder, letters (words, letters) to keys and values, a decoder's GRU, and in NumPy the attention between."""

    def __init__(
        self, weights: dict[str, Array], encoder: Callable[..., tuple[Array, Array]], decoder: Callable[..., Array]
    ) -> None:
        self.encoder, self.decoder = encoder, decoder
        self.phonemes = weights["phonemes.weight"]
        self.units = len(weights["keys.weight"])
        self.from_h = weights["attentional.weight"].T[: self.units]
        self.output, self.output_bias = weights["output.weight"].T, weights["output.bias"]

    def encode(self, spellings: list[list[int]]) -> tuple[Memory, State]:
        letters, lengths = padded(spellings)
        keys, values = self.encoder(letters, lengths=lengths)
        memory = Memory(keys.swapaxes(1, 2), values, absent(lengths))
        return memory, State.zeros(len(spellings), self.units, values.shape[2])

    def step(self, memory: Memory, symbols: NDArray[np.int64], state: State) -> tuple[Array, State, Array]:
        h = self.decoder(np.concatenate((self.phonemes[symbols], state.attentional), axis=1), state.h)
        attention = h.reshape(len(memory.keys), -1, h.shape[1]) @ memory.keys
        attention += memory.absent
        attention -= attention.max(axis=2, keepdims=True)
        np.exp(attention, out=attention)
        attention /= attention.sum(axis=2, keepdims=True)
        attentional = h @ self.from_h
        attentional += (attention @ memory.values).reshape(attentional.shape)
        np.tanh(attentional, out=attentional)
        return attentional @ self.output + self.output_bias, State(h, attentional), attention


def of_values(weights: dict[str, Array]) -> tuple[Array, Array]:
    """What makes values of what is encoded: the attention adds up to one, so the bias may be in them, and projecting
    them before it does so once a letter."""
    return weights["attentional.weight"][:, len(weights["keys.weight"]) :], weights["attentional.bias"]


def fused(weights: dict[str, Array], dtype: str) -> tuple[Attending, int, int]:
    """The network by fusedcell, the bytes of its GRUs' matrices, and those of all that the GRUs have."""
    gru = fc.GRU.from_state_dict(weights, "encoder.", dtype=dtype)
    encoder = fc.Model(
        [
            ("letters", fc.Embedding(weights["letters.weight"]), "text"),
            ("encoded", gru, "letters"),
            ("keys", fc.Dense(weights["keys.weight"]), "encoded"),
            ("values", fc.Dense(*of_values(weights)), "encoded"),
        ],
        outputs=("keys", "values"),
        batch_first=True,
    )
    decoder = fc.GRUCell(*(weights[f"decoder.{name}"] for name in CELL), dtype=dtype)
    return Attending(weights, encoder, decoder), gru.matrix_nbytes + decoder.matrix_nbytes, gru.nbytes + decoder.nbytes


def exact(weights: dict[str, Array]) -> Attending:
    """All of it in float64, the GRUs by their formulas."""
    wide = {name: value.astype(np.float64) for name, value in weights.items()}
    to_values, bias = of_values(wide)

    def encoder(letters: NDArray[np.int64], lengths: NDArray[np.int64]) -> tuple[Array, Array]:
        letters_seen = wide["letters.weight"][letters]
        encoded, _ = fc.reference.gru(letters_seen, wide, prefix="encoder.", lengths=lengths, batch_first=True)
        return encoded @ wide["keys.weight"].T, encoded @ to_values.T + bias

    cell = {name: wide[f"decoder.{name}"] for name in CELL}
    return Attending(wide, encoder, partial(fc.reference.gru_step, **cell))


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
    decoder = load(torch.nn.GRUCell(weights["decoder.weight_ih"].shape[1], units), "decoder.")
    from_h, to_values = tensors["attentional.weight"].T.split((units, 2 * encoder.hidden_size))

    class Torch:
        @torch.inference_mode()
        def encode(self, spellings: list[list[int]]) -> tuple[tuple[torch.Tensor, ...], State]:
            letters, lengths = padded(spellings)
            x = tensors["letters.weight"][torch.from_numpy(letters)]
            if len(spellings) == 1:
                encoded = encoder(x)[0]
            else:
                packed = torch.nn.utils.rnn.pack_padded_sequence(
                    x, torch.from_numpy(lengths), batch_first=True, enforce_sorted=False
                )
                encoded = torch.nn.utils.rnn.pad_packed_sequence(encoder(packed)[0], batch_first=True)[0]
            keys = tensors["keys.weight"] @ encoded.transpose(1, 2)
            values = encoded @ to_values + tensors["attentional.bias"]
            memory = keys, values, torch.from_numpy(absent(lengths))
            return memory, State.zeros(len(spellings), units, values.shape[2])

        @staticmethod
        @torch.inference_mode()
        def decoder(x: Array, h: Array) -> Array:
            return decoder(torch.from_numpy(x), torch.from_numpy(h)).numpy()

        @torch.inference_mode()
        def step(
            self, memory: tuple[torch.Tensor, ...], symbols: NDArray[np.int64], state: State
        ) -> tuple[Array, State, Array]:
            keys, values, absent = memory
            symbol = tensors["phonemes.weight"][torch.from_numpy(symbols)]
            h = decoder(torch.cat((symbol, torch.from_numpy(state.attentional)), 1), torch.from_numpy(state.h))
            attention = (h.view(len(keys), -1, units) @ keys + absent).softmax(2)
            attentional = (h @ from_h + (attention @ values).view(len(h), -1)).tanh()
            logits = torch.nn.functional.linear(attentional, tensors["output.weight"], tensors["output.bias"])
            return logits.numpy(), State(h.numpy(), attentional.numpy()), attention.numpy()

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
