#!/usr/bin/env bash
# Compile QEMU's instruction counter: tools/aarch64/build_plugin.sh OUTPUT.so
set -euo pipefail
output=$(realpath "${1:?usage: tools/aarch64/build_plugin.sh OUTPUT.so}")
cd "$(dirname "${BASH_SOURCE[0]}")"
gcc -std=c11 -O2 -Wall -Wextra -Werror -shared -fPIC -fvisibility=hidden -o "$output" insn_count.c
