#!/usr/bin/env bash
# Run the tests on emulated AArch64 CPUs, after tools/aarch64/setup.sh and `tools/emulated/build.sh aarch64`:
#
#   tools/aarch64/test.sh [--all] [--cpu NAME]... [-- PYTEST_ARGUMENTS]
#
# --all        every test; the default is those marked `core` and not `any_cpu`, of kernels rather than of states, files and
#              arguments, a tenth of the drawn cases, and of combinations of parameters enough that every value meets every
#              tier, because emulation is some 20 times slower
# --cpu NAME   a CPU of `qemu-aarch64 -cpu help`, may be repeated, to run the tests of all its tiers on
#
# The default is one CPU for each level of features: cortex-a53 (NEON), neoverse-n1 (and dotprod) and max (and i8mm). A
# tier's tests run on the least CPU that has it, where an instruction beyond the tier's is an illegal one. Of `scalar`, of
# tiers that only load otherwise than another, and of `dotprod`, whose other tests i8mm runs, these are the tests of bits.
# The choice of a tier is tested on all three, and what has nothing to do with tiers on max.
#
# Subprocesses work: sys.executable is a native script that starts QEMU with the same CPU. Time under emulation means
# nothing: a test that must run here has no deadline.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
dir=$PWD/.aarch64
parallel=2

usage() { sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; }

cpus=()
select=(-m "core and not any_cpu" --combinations=tiers --bits-alone=scalar,neon_ld64,dotprod,dotprod_ld64
  --hypothesis-profile=emulated)
# Pytest takes a minute to collect all files here. Of these, tests.yml runs the tests on an ARM machine.
elsewhere='argument_code|batch_first|finite_weights|initial_state|instances|model_files|pickles|storage|stream_bytes|stream_states'
mapfile -t files < <(grep -l 'pytest\.mark\.core' tests/test_*.py | grep -vE "test_($elsewhere)\.py")
while (($#)); do
  case $1 in
    --all) select=() files=(tests) ;;
    --cpu) cpus+=("${2:?--cpu needs a name}") && shift ;;
    --) shift && break ;;
    -h | --help) usage && exit ;;
    *) usage >&2 && exit 2 ;;
  esac
  shift
done

[[ -d $dir/install/fusedcell ]] || { echo "test.sh: run tools/emulated/build.sh aarch64 first" >&2; exit 1; }

source tools/emulated/pytest.sh

options_of() { # a CPU with QEMU's options
  # The pointer authentication that the architecture defines is slow to emulate, and nothing here is about it.
  if [[ $1 == max ]]; then echo max,pauth-impdef=on; else echo "$1"; fi
}
isas_of() { QEMU_CPU=$(options_of "$1") "$dir/root/usr/bin/python" -c 'import fusedcell; print(*fusedcell.isas())'; }

declare -A tiers=() # those that a CPU is the least to have, where not all of its tiers are tested on it
if ((!${#cpus[@]})); then
  cpus=(max cortex-a53 neoverse-n1) # the longest first
  taken=
  for cpu in cortex-a53 neoverse-n1 max; do
    isas=$(isas_of "$cpu")
    tiers[$cpu]=$(tr ' ' '\n' <<<"$isas" | grep -vxF "$taken" | paste -sd,)
    taken+=${isas// /$'\n'}$'\n'
  done
  tested=$(printf '%s\n' "${tiers[@]}" | tr ',' '\n' | sort)
  built=$("$dir/root/usr/bin/python" -c 'from fusedcell import _core; print(*_core.compiled_isas(), sep="\n")' | sort)
  [[ $tested == "$built" ]] || { echo "test.sh: tests" $tested "but the build has" $built >&2; exit 1; }
fi

run_cpu() { # name, pytest arguments...
  local cpu=$1 isas only=${tiers[$1]:-} few=
  shift
  local chosen=("${files[@]}")
  if [[ -n $only && $cpu != max ]]; then
    few=1
    mapfile -t chosen < <(grep -rlw isa --include='test_*.py' "${files[@]}")
  fi
  isas=$(isas_of "$cpu" 2>&1) || {
    printf '%-12s FAILED: import fusedcell\n%s\n' "$cpu" "$isas"
    return 1
  }
  run_pytest "$(options_of "$cpu")" "${only:-$isas}" "${chosen[@]}" ${only:+--tiers="$only"} ${few:+--tier-tests} "$@"
}

pids=()
for cpu in "${cpus[@]}"; do
  while (($(jobs -rp | wc -l) >= parallel)); do wait -n || true; done
  run_cpu "$cpu" "${select[@]}" "$@" &
  pids+=($!)
done
failed=0
for pid in "${pids[@]}"; do wait "$pid" || failed=$((failed + 1)); done
((failed == 0)) || { echo "test.sh: failed on $failed of ${#cpus[@]} CPUs" >&2; exit 1; }
