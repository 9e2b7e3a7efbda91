#!/usr/bin/env bash
# The C++ library under Valgrind's memcheck: its own tests, and a layer of every kind and type of weights and some whole
# models loaded and run on each tier that Valgrind's CPU has, which lacks AVX-512. Of the other C++ tests, test_bounds has guard pages where
# memcheck sees less, test_float_mode needs exception flags, which Valgrind's CPU lacks too, and test_real_time the kernel.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
memcheck=(valgrind --quiet --error-exitcode=9 --leak-check=full)
programs=build/dev/tests/cpp

tools/build_cpp.sh dev
"${memcheck[@]}" "$programs/test_library"
echo "test_library: no error"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
PYTHONPATH=tests .venv/bin/python tests/fuzz/make_corpus.py "$folder/layers"
for tier in $("${memcheck[@]}" "$programs/run_files" --isas | grep -v vnni); do
  # Four steps of two rows; any bytes do for x.
  for layer in "$folder"/layers/*; do
    batch=2
    if [[ $layer == */model-* ]]; then batch=2m; fi
    printf '%s\t%s\t4\t%s\t%s\t/dev/null\n' "$layer" "$tier" "$batch" "$layer"
  done >"$folder/requests"
  "${memcheck[@]}" "$programs/run_files" <"$folder/requests" >"$folder/answers"
  if grep -v '^ok$' "$folder/answers"; then exit 1; fi
  echo "$tier: $(wc -l <"$folder/answers") layers and models, no error"
done
