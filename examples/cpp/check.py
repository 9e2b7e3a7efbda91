"""Runs the C++ example on a layer made here, and holds its answer against Python's, bit for bit.

python examples/cpp/check.py PROGRAM
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import fusedcell as fc

rng = np.random.default_rng(3)
weights = {}
for layer, inputs in enumerate((12, 48)):
    weights[f"weight_ih_l{layer}"] = rng.uniform(-0.3, 0.3, (3 * 48, inputs))
    weights[f"weight_hh_l{layer}"] = rng.uniform(-0.3, 0.3, (3 * 48, 48))
    weights[f"bias_ih_l{layer}"] = rng.uniform(-0.3, 0.3, 3 * 48)
    weights[f"bias_hh_l{layer}"] = rng.uniform(-0.3, 0.3, 3 * 48)
x = rng.standard_normal((500, 12)).astype(np.float32)

with tempfile.TemporaryDirectory() as folder:
    file, signal, answer = (Path(folder) / name for name in ("layer.safetensors", "signal", "answer"))
    signal.write_bytes(x.astype("<f4").tobytes())
    for dtype in ("float32", "float16", "int8"):
        gru = fc.GRU.from_state_dict(weights, dtype=dtype)
        fc.save(gru, file)
        subprocess.run([sys.argv[1], file, signal, answer], check=True)
        y = np.fromfile(answer, "<f4").reshape(500, 48)
        if y.tobytes() != gru(x)[0].tobytes():
            sys.exit(f"{dtype}: the C++ example's answer is not Python's")
print("the same bits as in Python")
