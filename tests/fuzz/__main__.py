"""Runs one target under Atheris: ``python -m fuzz TARGET SEEDS CORPUS [libFuzzer's options]``.

What it starts from is written to SEEDS, which libFuzzer reads beside the corpus that it keeps.
"""

from __future__ import annotations

import resource
import sys
import warnings
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(include=["fusedcell"]):
    import fusedcell
    import fusedcell.convert.amplifiers.model
    import fusedcell.convert.keras.model
    import fusedcell.convert.onnx.model
    import fusedcell.convert.onnx.read  # imported here to be instrumented
    from fusedcell.weights import state_files  # noqa: F401 - likewise

    for name in fusedcell.__all__:  # which are loaded when they are asked for
        getattr(fusedcell, name)
from fuzz.targets import TARGETS

MEBIBYTES = 1024  # that one input may take
SECONDS = 10


def main() -> None:
    target = TARGETS[sys.argv[1]]
    folder, corpus = Path(sys.argv[2]), Path(sys.argv[3])
    for needed in target.needs:
        if find_spec(needed) is None:
            sys.exit(f"{target.name} needs the package {needed}")
    folder.mkdir(parents=True, exist_ok=True)
    corpus.mkdir(parents=True, exist_ok=True)
    for data in (*target.seeds(), *target.found()):
        (folder / sha256(data).hexdigest()[:20]).write_bytes(data)
    warnings.simplefilter("error", RuntimeWarning)  # such as a cast that overflows where nobody said that it may
    for data in list(target.seeds())[:4]:  # what is imported on first use counts as there before
        target.run(data)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        random = Random(seed)
        if random.random() < 0.1:
            return bytes(atheris.Mutate(data, max_size))
        changed = target.mutate(bytes(data), random)
        return changed if len(changed) <= max_size else bytes(data)

    options = [f"-rss_limit_mb={used + MEBIBYTES}", f"-timeout={SECONDS}", "-print_final_stats=1", "-max_len=32768"]
    atheris.Setup([sys.argv[0], *options, *sys.argv[4:], str(corpus), str(folder)], target.run, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
