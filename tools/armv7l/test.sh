#!/usr/bin/env bash
# Run the tests on emulated 32-bit ARM CPUs, after tools/armv7l/setup.sh and `tools/emulated/build.sh armv7l`:
#
#   tools/armv7l/test.sh [--short] [-- PYTEST_ARGUMENTS]
#
# --short      only what is about bits, tiers and sizes; the default is all tests marked `core` and not `any_cpu`, and
#              of both, of the combinations of parameters, enough that every two values of two parameters meet
#
# The scalar tier is tested on cortex-a9, on which an instruction of the other tier's is an illegal one; that other tier,
# vfpv4, and what has nothing to do with tiers, on cortex-a15. The choice of a tier is tested on both.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
dir=$PWD/.armv7l

tests=(-o testpaths=tests)
while (($#)); do
  case $1 in
    --short) tests=(tests/test_bits.py tests/test_isa.py tests/test_model_bits.py tests/test_sizes.py) ;;
    --) shift && break ;;
    *) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2 && exit 2 ;;
  esac
  shift
done
[[ -d $dir/install/fusedcell ]] || { echo "test.sh: run tools/emulated/build.sh armv7l first" >&2; exit 1; }

source tools/emulated/pytest.sh

declare -A tiers=([cortex-a15]=vfpv4 [cortex-a9]=scalar)
built=$(QEMU_CPU=cortex-a15 "$dir/root/usr/bin/python" -c 'import fusedcell; print(*fusedcell.isas())')
[[ $built == "vfpv4 scalar" ]] || { echo "test.sh: tests vfpv4 and scalar, but there are: $built" >&2; exit 1; }

# Whether a multiply-add is one instruction is what the tiers differ in.
for tier in "${tiers[@]}"; do
  object=$(find build/armv7l-wheel -name "$tier.cc.o")
  fused=$(arm-linux-gnueabihf-objdump -d "$object" | grep -c 'vfma\.f32' || true)
  [[ $tier == vfpv4 && $fused != 0 || $tier == scalar && $fused == 0 ]] ||
    { echo "test.sh: $object has $fused fused multiply-adds" >&2; exit 1; }
done

run_cpu() { # name, pytest arguments...
  local cpu=$1 few=
  shift
  [[ $cpu == cortex-a15 ]] || few=1
  run_pytest "$cpu" "${tiers[$cpu]}" "${tests[@]}" -m "core and not any_cpu" --combinations=pairs --tiers="${tiers[$cpu]}" \
    ${few:+--tier-tests} "$@"
}

failed=0
run_cpu cortex-a15 "$@" &
run_cpu cortex-a9 "$@" || failed=1
wait $! || failed=1
exit "$failed"
