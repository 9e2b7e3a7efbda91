#!/usr/bin/env bash
# The C++ tests and the quick part of the Python tests, every pair of parameters once, under AddressSanitizer and
# UndefinedBehaviorSanitizer.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tools/sanitized.sh true # builds
ctest --preset sanitize
tools/sanitized.sh .venv/bin/python -m pytest -m core --combinations=pairs -n 2 -p no:cacheprovider \
  --cpp-tests=build/sanitize/tests/cpp
