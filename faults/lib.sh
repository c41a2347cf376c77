# Sourced by run and its parts: tools, the program, results, cleaning up.

tools=${FAULTS_TOOLS:-$here/../../shared/faults}
passed=0 failed=0
began=$SECONDS

say() { printf '# %s\n' "$*"; }

# Exits with 77 where this machine cannot play a failing disk: a reason, never a failure.
require() {
  local reason=
  if [ ! -x "$tools/up.sh" ]; then
    reason="no fault tools in \$FAULTS_TOOLS or beside the checkout"
  elif [ "$(id -u)" != 0 ]; then
    reason="needs root for mounts and loop devices"
  elif [ ! -c /dev/fuse ]; then
    reason="no /dev/fuse"
  elif ! losetup -f >/dev/null 2>&1; then
    reason="no loop devices"
  elif ! may_mount; then
    reason="may not mount file systems"
  elif ! command -v go >/dev/null; then
    reason="no Go"
  fi
  [ -z "$reason" ] || { say "skipped: $reason"; exit 77; }
  if ! SUT=$(command -v "${SUT:-$here/../target/release/weirlog}"); then
    echo "no server binary at \$SUT" >&2
    exit 2
  fi
  SUT=$(realpath "$SUT")
  export SUT
}

# Root of a container often may not.
may_mount() {
  local place code=0
  place=$(mktemp -d)
  { mount -t tmpfs none "$place" && umount "$place"; } 2>/dev/null || code=1
  rmdir "$place"
  return $code
}

# Builds the fault tools and the program of this folder, one run at a time.
prepare() {
  mkdir -p "$here/.work"
  tools=$(realpath "$tools")
  if [ -z "${FAULTS_BIN:-}" ] && [ -x "$tools/target/release/blkreplay" ]; then
    export FAULTS_BIN=$tools/target/release
  elif [ -z "${FAULTS_BIN:-}" ]; then
    export FAULTS_BIN=$here/.work/tools/release
    (flock 9 && cd "$tools" && CARGO_TARGET_DIR=$here/.work/tools cargo build --release --locked --quiet) 9>"$here/.work/lock"
  fi
  program=$here/.work/weirlog-faults
  (flock 9 && cd "$here/go" && go build -o "$program" .) 9>"$here/.work/lock"
  make_work
}

# Disks and their logs are files: in memory, where there is room for them.
make_work() {
  local parent=${FAULTS_DIR:-}
  if [ -z "$parent" ]; then
    parent=$here/.work
    [ "$(df --output=avail -B1M /dev/shm 2>/dev/null | tail -1)" -lt 3000 ] 2>/dev/null || parent=/dev/shm
  fi
  work=$(mktemp -d "$parent/weirlog-faults.XXXXXX")
  trap clean EXIT
  trap 'exit 143' TERM INT HUP
}

# Takes down all disks of this run, whatever is left of them. Loop devices are freed with their mounts.
clean() {
  local dir pid
  for pid in $(jobs -p); do kill "$pid" 2>/dev/null || true; done
  wait || true
  for dir in "$work"/*/; do
    [ ! -e "$dir/ctl.sock" ] || for fault in "hang 0" "dead 0"; do control "$dir" $fault; done
    if [ -e "$dir/lossy.sock" ]; then unmount "$dir/mnt"; else "$tools/down.sh" "$dir" 2>/dev/null || true; fi
    unmount "$dir/img"
  done
  rm -rf "$work"
}

# A server that was killed may have writes on their way: the mount is busy as long.
unmount() {
  local try
  for try in $(seq 50); do
    grep -q " ${1//\/\//\/} " /proc/self/mounts || return 0
    umount "$1" 2>/dev/null || sleep 0.1
  done
  echo "$1 is still in use" >&2
}

control() { timeout 5 "$FAULTS_BIN/blkfuse" ctl "$1/ctl.sock" "${@:2}" >/dev/null 2>&1 || true; }

# Adds up 'N passed, M failed' lines.
count_results() {
  local line
  while read -r line; do
    [[ $line =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed ]] || continue
    passed=$((passed + BASH_REMATCH[1])) failed=$((failed + BASH_REMATCH[2]))
  done <"$1"
}

# Keeps what a failed run needs to be looked at: everything but the images.
keep() {
  local kept
  kept=$here/.work/failed/$(basename "$work")-$(basename "$1")
  mkdir -p "$kept"
  cp "$1"/{blk.log,ledger,*.out,server-*.log} "$kept" 2>/dev/null || true # not all of them are there each time
  say "kept: $kept"
}

finish() {
  echo "$passed passed, $failed failed"
  ((failed == 0 && passed > 0))
}
