# Shows that the checks can fail: servers with one known fault each, built from a copy of this tree with a patch of
# mutants/. A patch's head says what it does and which checks must catch it.
source "$here/../mutants/lib.sh"

run_calibrate() {
  require
  local mutant copy=$here/.work/mutants/tree binary
  local names=("$@")
  [ ${#names[@]} -gt 0 ] || mapfile -t names < <(found_by 'power|lossy|disk|zombie')
  rm -rf "$copy"
  copy_tree "$copy"
  for mutant in "${names[@]}"; do
    [ -e "$mutants/$mutant.patch" ] || usage
    binary=$here/.work/mutants/weirlog-$mutant
    build_mutant "$copy" "$mutant" "$binary"
    catch_mutant "$mutant" "$binary"
  done
  trap - EXIT
  finish
}

# One target directory for all: only what the patch touches is built again.
build_mutant() {
  local copy=$1 mutant=$2 binary=$3
  put_in "$mutant" "$copy"
  (cd "$copy" && CARGO_TARGET_DIR=$here/.work/mutants/target cargo build --release --locked --quiet -p weirlog)
  cp "$here/.work/mutants/target/release/weirlog" "$binary"
  take_out "$mutant" "$copy"
}

# The first check that fails is enough; the checks are those of the tool itself, as anybody runs them.
catch_mutant() {
  local mutant=$1 binary=$2 check out=$here/.work/mutants/$1.out
  for check in $(finders "$mutant"); do
    local command
    case $check in
      power) command=(power --fs "ext4,xfs" --states 120) ;;
      lossy) command=(power --fs lossyfs --states 40) ;;
      disk) command=(disk) ;;
      zombie) command=(disk zombie) ;;
      *) continue ;; # the part of mutants/run
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
