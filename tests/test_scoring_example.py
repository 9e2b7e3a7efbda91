"""Layers go to worker processes small and whole, and what workers score is what one process scores."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import KIND, flat, uniform

EXAMPLE = Path(__file__).parents[1] / "examples" / "score_sequences.py"


def answer(pickled: bytes, x: np.ndarray) -> tuple[int, str, list[bytes]]:
    """What a worker does with a layer that came to it; elsewhere only after an import of its own."""
    layer = pickle.loads(pickled)
    return os.getpid(), repr(layer), [part.tobytes() for part in flat(layer(x))]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int8"])
def test_a_pickle_holds_little_more_than_the_weights(dtype: str) -> None:
    kind = KIND["lstm_projected"]
    mapping = kind.weights(64, 64, layers=2, directions=2)
    layer = kind.make(mapping, dtype=dtype)
    width = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}[dtype]
    weights = width * sum(array.size for name, array in mapping.items() if name.startswith("weight"))
    biases = 4 * (2 * 4 * 64)  # bytes of one of the four cells
    scales = 4 * (2 * 4 * 64 + 32) if dtype == "int8" else 0  # a row of W, R and the projection has one each
    size = len(pickle.dumps(layer))
    assert weights < size < weights + 4 * (biases + scales) + 4096
    assert size < 1.05 * layer.nbytes + 4096


def test_a_layer_in_a_process_that_was_spawned_gives_the_same_bits() -> None:
    x = uniform(5, 7, 3, 12)
    layers: list[Any] = [
        KIND[name].make(KIND[name].weights(12, 20, layers=2), dtype=dtype)
        for name, dtype in (("lstm", "float32"), ("gru_reset_after", "int8"))
    ]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for layer in layers:
            pid, text, parts = pool.apply(answer, (pickle.dumps(layer), x))
            assert pid != os.getpid()
            assert text == repr(layer)
            assert parts == [part.tobytes() for part in flat(layer(x))]


def test_scores_of_a_cluster_that_loses_a_worker_are_all_there_once_and_the_same() -> None:
    pytest.importorskip("distributed")
    pytest.importorskip("tqdm")
    command = [sys.executable, str(EXAMPLE), "--sequences", "10000", "--workers", "2", "--kill"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "killed the worker" in done.stderr + done.stdout
    hashes = re.findall(r"10000 scores, sha256 ([0-9a-f]{64})", done.stdout)
    assert len(hashes) == 2
    assert hashes[0] == hashes[1]
