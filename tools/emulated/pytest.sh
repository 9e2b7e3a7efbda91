# Runs pytest on emulated CPUs, for the test.sh of aarch64 and armv7l to source from the repository's root, with dir set
# to .NAME.
unset FUSEDCELL_ISA PYTHONPATH PYTHONHOME PYTEST_ADDOPTS PYTHONDONTWRITEBYTECODE
# Kept apart from the host's, which is another Python and may be running the same tests right now.
export PYTHONPYCACHEPREFIX=$dir/pycache HYPOTHESIS_STORAGE_DIRECTORY=$dir/hypothesis
mkdir -p "$dir/log"

# run_pytest CPU TIERS PYTEST_ARGUMENTS...: one line that says how it went, and the end of the log if it went wrong. TIERS
# is for that line. QEMU takes the CPU and its options from CPU, as in max,pauth-impdef=on.
run_pytest() {
  local cpu=$1 tiers=$2 log=$dir/log/${1%%,*}.txt status=0 verdict=ok start=$SECONDS summary temporary
  shift 2
  # Pytest removes old folders beside its own, and where two do that at once one of them fails.
  temporary=$(mktemp -d)
  chmod 755 "$temporary"
  TMPDIR=$temporary QEMU_CPU=$cpu "$dir/root/usr/bin/python" -m pytest -p no:cacheprovider --color=no "$@" \
    >"$log" 2>&1 </dev/null || status=$?
  rm -rf "$temporary"
  summary=$(sed -n 's/^=\{3,\} \(.* in [0-9.]*s.*\) =\{3,\}$/\1/p' "$log") # empty after a crash
  # Nothing collected is pytest's status 5, but everything skipped is its 0.
  if ((status == 0)) && ! grep -Eq '\b[1-9][0-9]* passed\b' <<<"$summary"; then status=5; fi
  if ((status)); then
    verdict=FAILED
    tail -n 100 "$log"
    ((status != 5)) || summary="no test ran: $summary"
    summary=${summary:-exit status $status}
  fi
  printf '%-12s %s: %s (%s; %d s; %s)\n' "${cpu%%,*}" "$verdict" "$summary" "$tiers" "$((SECONDS - start))" \
    "${log#"$PWD"/}"
  return "$status"
}
