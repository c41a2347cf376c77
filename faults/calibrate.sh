# Shows that the checks can fail: servers with one known fault each, built from a copy of this tree with a patch of
# mutants/. A patch's head says what it does and which checks must catch it.

run_calibrate() {
  require
  local patch mutant copy=$here/.work/mutants/tree binary
  local mutants=("$@")
  if [ ${#mutants[@]} = 0 ]; then
    for patch in "$here"/mutants/*.patch; do mutants+=("$(basename "$patch" .patch)"); done
  fi
  rm -rf "$copy"
  mkdir -p "$copy"
  (cd "$here/.." && git ls-files -z | xargs -0 cp -p --parents -t "$copy")
  for mutant in "${mutants[@]}"; do
    patch=$here/mutants/$mutant.patch
    [ -e "$patch" ] || usage
    binary=$here/.work/mutants/weirlog-$mutant
    build_mutant "$copy" "$patch" "$binary"
    catch_mutant "$mutant" "$patch" "$binary"
  done
  trap - EXIT
  finish
}

# One target directory for all: only what the patch touches is built again.
build_mutant() {
  local copy=$1 patch=$2 binary=$3
  patch -d "$copy" -p1 -s --no-backup-if-mismatch <"$patch"
  (cd "$copy" && CARGO_TARGET_DIR=$here/.work/mutants/target cargo build --release --locked --quiet -p weirlog)
  cp "$here/.work/mutants/target/release/weirlog" "$binary"
  patch -d "$copy" -p1 -s -R --no-backup-if-mismatch <"$patch"
}

# The first check that fails is enough; the checks are those of the tool itself, as anybody runs them.
catch_mutant() {
  local mutant=$1 patch=$2 binary=$3 check out=$here/.work/mutants/$1.out
  for check in $(sed -n 's/^found by: //p' "$patch"); do
    local command=(power --fs "ext4,xfs" --states 120)
    case $check in
      lossy) command=(power --fs lossyfs --states 40) ;;
      disk) command=(disk) ;;
    esac
    if ! SUT=$binary "$here/run" "${command[@]}" >"$out" 2>&1 && grep -q '^FAIL ' "$out"; then
      echo "ok calibrate/$mutant: caught by ${command[*]}: $(tail -1 "$out")"
      passed=$((passed + 1))
      return
    fi
  done
  echo "FAIL calibrate/$mutant: nothing has caught it"
  failed=$((failed + 1))
}
