# Disks that fail or fill up under the real server: what clients and operators see, and what a restart finds.

disk_faults=(write-error write-errors flush-error flush-errors short-write dead hang full zombie)

run_disk() {
  require
  local fault
  for fault in "$@"; do
    [[ " ${disk_faults[*]} " == *" $fault "* ]] || usage
  done
  [ $# -gt 0 ] || set -- "${disk_faults[@]}"
  prepare
  for fault in "$@"; do
    local out=$work/$fault/results.out
    mkdir -p "$work/$fault"
    local code=0
    (trap - EXIT; one_fault "$fault") >"$out" 2>&1 || code=$?
    grep -vE '^[0-9]+ passed, ' "$out" || true
    local bad=$failed
    count_results "$out"
    if ((code != 0 && failed == bad)); then
      echo "FAIL disk/$fault: the run did not come to its end, exit code $code"
      failed=$((failed + 1))
    fi
    ((failed == bad)) || keep "$work/$fault"
    "$tools/down.sh" "$work/$fault"
    rm -f "$work/$fault/blk.log"
  done
  finish
}

# A disk with room for the segments of a start and their successors, and some more: a restart needs as much again.
one_fault() {
  local fault=$1 dir=$work/$1 at reset threads=2
  export FAULTS_WORK=$dir
  # Each write that is held back holds a thread.
  [ "$fault" != zombie ] || threads=24
  THREADS=$threads "$tools/up.sh" "$dir" 320 >/dev/null
  timeout -k 5 120 "$program" disk "$fault" "$dir/mnt/data" "$dir/ctl.sock" "$dir/ledger"
  for reset in "hang 0" "dead 0" "werr 0 0" "ferr 0 0" "short 0" "wms 0"; do control "$dir" $reset; done
  at=$("$FAULTS_BIN/blkfuse" ctl "$dir/ctl.sock" seq)
  "$tools/down.sh" "$dir"
  # A restart behind the fault is one more state: all that was acked is on the disk, with what its cache held and without.
  local code=0
  "$FAULTS_BIN/blkreplay" "$dir/blk.log" "$dir/image" --points 0 --at "$at" --modes drop,all -- \
    "$tools/on-image.sh" "$dir/img" "$program" check "$dir/ledger" "$dir/img" </dev/null >"$dir/replay.out" 2>&1 || code=$?
  rm -f "$dir/image"
  if ((code == 0)); then
    echo "ok disk/$fault: a restart has all that was acked"
    echo "1 passed, 0 failed"
  else
    echo "FAIL disk/$fault: a restart has all that was acked: $(grep '^# ' "$dir/replay.out" | head -1)"
    echo "0 passed, 1 failed"
  fi
}
