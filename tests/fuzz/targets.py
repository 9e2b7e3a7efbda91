"""Every target: what it runs, what it starts from, and how its files are changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from fuzz import arguments, files, mutations, recordings, seeds, streams

FOUND = Path(__file__).with_name("found")
"""What made trouble once, a folder for each target."""


@dataclass(frozen=True)
class Target:
    """`run` raises where it finds something.

    - share: of the time
    - needs: the packages that it cannot do without
    - is_slow: it starts a process for each input, so tests draw few
    """

    name: str
    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    share: int
    mutate: mutations.Mutate
    needs: tuple[str, ...] = ()
    is_slow: bool = False

    def found(self) -> list[bytes]:
        return [path.read_bytes() for path in sorted((FOUND / self.name).glob("*"))]


_TARGETS = (
    Target("call", arguments.call, seeds.random_bytes, 4, mutations.drawn_bytes),
    Target("cell_step", arguments.cell_step, seeds.random_bytes, 2, mutations.drawn_bytes),
    Target("stream", streams.stream, seeds.random_bytes, 4, mutations.drawn_bytes),
    Target("make_streams", streams.make_streams, seeds.random_bytes, 1, mutations.drawn_bytes),
    Target("step_many", streams.step_many, seeds.random_bytes, 2, mutations.drawn_bytes),
    Target("pool", streams.pool, seeds.random_bytes, 2, mutations.drawn_bytes),
    Target("stream_bytes", streams.stream_bytes, streams.travellers, 1, streams.change_traveller),
    Target("weights", arguments.weights, seeds.random_bytes, 2, mutations.drawn_bytes),
    Target("load", files.load, seeds.load, 4, mutations.safetensors),
    Target("model", files.model, seeds.model, 4, mutations.safetensors),
    Target("json_model", files.json_model, seeds.json_model, 3, mutations.json_text),
    Target("state_dict", files.state_dict, seeds.state_dict, 2, mutations.safetensors, ("safetensors",)),
    Target("state_dict_pytorch", files.state_dict_pytorch, seeds.state_dict_pytorch, 3, mutations.archive, ("torch",)),
    Target("onnx", files.onnx, seeds.onnx, 5, mutations.onnx_model, ("onnx",)),
    Target("whole_onnx", files.whole_onnx, seeds.whole_onnx, 4, mutations.onnx_model, ("onnx",)),
    Target("npy", recordings.npy, recordings.npy_seeds, 1, mutations.some_bytes),
    Target("wav", recordings.wav, recordings.wav_seeds, 1, mutations.some_bytes),
    Target("keras", files.keras, seeds.keras, 3, mutations.archive, ("h5py",), is_slow=True),
    Target("keras_h5", files.keras_h5, seeds.keras_h5, 1, mutations.some_bytes, ("h5py",), is_slow=True),
    Target("keras_model", files.keras_model, seeds.keras_model, 3, mutations.archive, ("h5py",), is_slow=True),
)
TARGETS = {target.name: target for target in _TARGETS}
