# Power losses: the server runs on a logged disk; the log is cut at many positions, and each image that could be left is
# mounted, served and checked against the ledger.

# Of 100 states: so many on each. A state of lossyfs is a run of its own and takes ten times as long.
declare -A share=([ext4]=47 [xfs]=47 [lossyfs]=6)
declare -A size_mb=([ext4]=192 [xfs]=336)
# States of one scenario before the server runs anew, under other timing.
round_states=200

run_power() {
  local states=300 seconds=0 fs="" seed=1
  while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || usage
    case $1 in
      --states) states=$2 ;;
      --seconds) seconds=$2 ;;
      --fs) fs=$2 ;;
      --seed) seed=$2 ;;
      *) usage ;;
    esac
    shift 2
  done
  require
  deadline=$((seconds > 0 ? began + seconds : began + 10000000))
  prepare
  local systems=() system total=0
  for system in ${fs//,/ }; do systems+=("$system"); done
  [ ${#systems[@]} -gt 0 ] || systems=(ext4 xfs lossyfs)
  choose_systems
  for system in "${systems[@]}"; do total=$((total + share[$system])); done
  # Side by side: a check mostly waits.
  local pids=() n
  for system in "${systems[@]}"; do
    mkdir -p "$work/$system"
    (trap - EXIT; "on_${system/ext4/block}" "$system" $(((states * share[$system] + total - 1) / total)) "$seed") >"$work/$system/results.out" 2>&1 &
    pids+=($!)
  done
  for n in "${!pids[@]}"; do
    local code=0
    wait "${pids[n]}" || code=$?
    report "${systems[n]}" "$code"
  done
  finish
}

# Leaves out what this machine does not have.
choose_systems() {
  local wanted=("${systems[@]}") system
  systems=()
  for system in "${wanted[@]}"; do
    if [ -z "${share[$system]:-}" ]; then
      usage
    elif [ "$system" != lossyfs ] && ! command -v "mkfs.$system" >/dev/null; then
      say "left out: no mkfs.$system"
    else
      systems+=("$system")
    fi
  done
}

report() {
  local system=$1 code=$2 out=$work/$1/results.out
  grep -vE '^[0-9]+ passed, |^(drop|all|subset|last|torn) ' "$out" || true
  local before=$((passed + failed)) bad=$failed
  count_results "$out"
  local late=
  ((SECONDS < deadline)) || late=", then the time was over"
  say "$system: $((passed + failed - before)) states, $((failed - bad)) violations$late"
  if ((failed > bad)); then
    keep "$work/$system"
  elif ((code != 0)); then
    echo "FAIL power/$system: the run did not come to its end, exit code $code"
    failed=$((failed + 1))
    keep "$work/$system"
  fi
}

on_xfs() { on_block "$@"; }

# Rounds of both scenarios on one file system. Half of the rounds have slow flushes: more writes are on their way.
on_block() {
  local system=$1 states=$2 seed=$3 done=0 round=0 scenario
  while ((done < states && SECONDS < deadline)); do
    for scenario in life space; do
      local left=$((states - done)) wanted
      wanted=$((left < 2 * round_states && round % 2 == 0 ? (left + 1) / 2 : left))
      ((wanted <= round_states)) || wanted=$round_states
      ((wanted > 0)) || continue
      one_log "$system" "$scenario" "$wanted" $((seed * 1000 + round))
      done=$((done + states_done))
      round=$((round + 1))
    done
  done
}

# One run of the server on a fresh disk, and the states that its log gives. Sets states_done.
one_log() {
  local system=$1 scenario=$2 wanted=$3 seed=$4 dir=$work/$1
  states_done=0
  export FAULTS_WORK=$dir
  THREADS=4 "$tools/up.sh" "$dir" "${size_mb[$system]}" "$system" >/dev/null
  ((seed % 4 < 2)) || control "$dir" fms 2
  "$program" load "$scenario" "$dir/mnt/data" "$dir/ctl.sock" "$dir/ledger"
  "$tools/down.sh" "$dir"
  local marks
  marks=$("$FAULTS_BIN/blkreplay" "$dir/blk.log" | sed -n 's/^\([0-9]*\): mark \(.*\)/\1 \2/p' | grep -vE ' (formatted|unmounting)$')
  phase_ends "$dir" "$scenario" "$marks" "$seed"
  while ((states_done < wanted && SECONDS < deadline)); do
    all_phases "$dir" "$scenario" "$marks" "$wanted" "$seed"
    seed=$((seed + 100000))
  done
}

# The moment right behind each phase, once a log, whatever chance makes of the others: behind a clean stop, before and behind
# a kill, behind the last message.
phase_ends() {
  local dir=$1 scenario=$2 marks=$3 seed=$4 ends
  ends=$(tail -n +2 <<<"$marks" | cut -d ' ' -f 1 | paste -sd ,)
  replay "$dir" "$scenario/ends" --points 0 --at "$ends" --seed "$seed"
}

# Positions in each phase: from its mark to the next one.
all_phases() {
  local dir=$1 scenario=$2 marks=$3 wanted=$4 seed=$5 from=0 phase=start mark name count
  count=$(wc -l <<<"$marks")
  # About three states a position.
  local points=$(((wanted - states_done) / count / 3))
  ((points > 0)) || points=1
  # A few at a time: the deadline is looked at between them.
  ((points <= 6)) || points=6
  while read -r mark name; do
    if ((from > 0 && SECONDS < deadline && states_done < wanted)); then
      replay "$dir" "$scenario/$phase" --from "$from" --to "$mark" --points "$points" --seed "$seed"
    fi
    from=$mark phase=$name
  done <<<"$marks"
}

# Replays some states, with a second try where the machine, not the server, was in the way.
replay() {
  local dir=$1 phase=$2 code=0 out=$1/replay.out
  shift 2
  for _ in 1 2; do
    code=0
    "$FAULTS_BIN/blkreplay" "$dir/blk.log" "$dir/image" "$@" -- \
      "$tools/on-image.sh" "$dir/img" "$program" check "$dir/ledger" "$dir/img" </dev/null >"$out" 2>&1 || code=$?
    ((code == 2)) || break
  done
  if ((code == 2)); then
    cat "$out"
    return 2
  fi
  local line
  line=$(tail -1 "$out")
  [[ $line =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed ]]
  states_done=$((states_done + BASH_REMATCH[1] + BASH_REMATCH[2]))
  if ((code != 0)); then
    echo "FAIL power/$(basename "$dir")/$phase: blkreplay ... $*"
    grep -E '^(# |FAIL )' "$out" || true
  fi
  echo "$line"
}

# The strict file system: names whose directory was not synced are gone.
on_lossyfs() {
  local dir=$work/lossyfs left=600
  export FAULTS_WORK=$dir
  mkdir -p "$dir/mnt"
  setsid "$FAULTS_BIN/lossyfs" "$dir/mnt" "$dir/lossy.sock" </dev/null >"$dir/lossyfs.out" 2>&1 &
  for _ in $(seq 100); do mountpoint -q "$dir/mnt" && break; sleep 0.05; done
  left=$((deadline - SECONDS))
  ((left > 1)) || return 0
  local code=0
  "$program" lossy "$dir/mnt" "$dir/lossy.sock" "$2" "$3" "$left" || code=$?
  unmount "$dir/mnt" # it holds all that was ever written in memory
  return $code
}
