"""Runs the C++ example on layers made here, and holds its answers against Python's, bit for bit.

python examples/cpp/check.py PROGRAM
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import fusedcell as fc

UNITS = 112
rng = np.random.default_rng(3)
weights = {}
for layer, inputs in enumerate((12, UNITS)):
    weights[f"weight_ih_l{layer}"] = rng.uniform(-0.3, 0.3, (3 * UNITS, inputs))
    weights[f"weight_hh_l{layer}"] = rng.uniform(-0.3, 0.3, (3 * UNITS, UNITS))
    weights[f"bias_ih_l{layer}"] = rng.uniform(-0.3, 0.3, 3 * UNITS)
    weights[f"bias_hh_l{layer}"] = rng.uniform(-0.3, 0.3, 3 * UNITS)
# The same with a fifth of the blocks that pruning leaves, 16 units by 4 inputs.
pruned = dict(weights)
for name in weights:
    if name.startswith("weight"):
        rows, columns = weights[name].shape
        pruned[name] = weights[name] * np.kron(rng.random((rows // 16, columns // 4)) < 0.2, np.ones((16, 4)))
x = rng.standard_normal((500, 12)).astype(np.float32)

with tempfile.TemporaryDirectory() as folder:
    file, signal, answer = (Path(folder) / name for name in ("layer.safetensors", "signal", "answer"))
    signal.write_bytes(x.astype("<f4").tobytes())
    for kind, of in {"dense": weights, "pruned": pruned}.items():
        for dtype in ("float32", "float16", "int8"):
            gru = fc.GRU.from_state_dict(of, dtype=dtype)
            fc.save(gru, file)
            subprocess.run([sys.argv[1], file, signal, answer], check=True)
            y = np.fromfile(answer, "<f4").reshape(500, UNITS)
            if y.tobytes() != gru(x)[0].tobytes():
                sys.exit(f"{kind}, {dtype}: the C++ example's answer is not Python's")
print("the same bits as in Python")
