#!/usr/bin/env bash
# The C++ tests, and the quick part of the Python tests on two tiers and the least, every pair of parameters once, under
# AddressSanitizer and UndefinedBehaviorSanitizer. The C++ tests run kernels of every tier.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tools/sanitized.sh true # builds
ctest --preset sanitize
# The best one may have kernels for int8 alone, and the next those for floats.
tiers=$(.venv/bin/python -c 'import fusedcell as fc; print(*dict.fromkeys([*fc.isas()[:2], "scalar"]), sep=",")')
tools/sanitized.sh .venv/bin/python -m pytest -m core --combinations=pairs --tiers="$tiers" -n 2 \
  -p no:cacheprovider --cpp-tests=build/sanitize/tests/cpp
