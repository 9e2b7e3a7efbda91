"""Writes seeds for fuzz_load: a small layer of every kind and type of weights, with and without what is optional, and
small whole models.

PYTHONPATH=tests python tests/fuzz/make_corpus.py FOLDER
"""

import sys
from pathlib import Path

import fusedcell as fc
from fusedcell._dtypes import DTYPES
from models import EVERY_KIND, KIND, random_state
from small_models import small_models


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for kind in EVERY_KIND:
        for dtype in DTYPES:
            fc.save(kind.make_cell(kind.weights(2, 2), dtype=dtype), folder / f"cell-{kind.name}-{dtype}")
            mapping = kind.weights(1, 2, layers=2, directions=2, bias=dtype != "int8")
            fc.save(kind.make(mapping, dtype=dtype, batch_first=True), folder / f"layer-{kind.name}-{dtype}")
        mapping = kind.weights(1, 2)
        state = random_state(kind, mapping, 1)
        layer = kind.make(mapping).with_initial_state(*(state if isinstance(state, tuple) else (state,)))
        fc.save(layer, folder / f"state-{kind.name}")
    layer = KIND["lstm"].make(KIND["lstm"].weights(1, 2))
    fc.save(layer.astype("int8", input_scales=[0.5]), folder / "scales")
    for number, nodes in enumerate(small_models()):
        fc.save(fc.Model(nodes), folder / f"model-{number}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
