#!/usr/bin/env bash
# Fuzz the loader for so many seconds, from seeds that Python writes; what is found stays in build/fuzz/corpus.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
seconds=${1:-60}

tools/with_clang.sh tools/build_cpp.sh fuzz
mkdir -p build/fuzz/corpus
PYTHONPATH=tests .venv/bin/python tests/fuzz/make_corpus.py build/fuzz/seeds
build/fuzz/tests/fuzz/fuzz_load -max_total_time="$seconds" -max_len=8192 -artifact_prefix=build/fuzz/ \
  -print_final_stats=1 build/fuzz/corpus build/fuzz/seeds
