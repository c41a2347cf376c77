# Sourced by run and by faults/calibrate.sh: which mutants there are, and how one is put into a copy of the tree.

mutants=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# The bugs that every simulator of a log is to find: an ack before the write, an unchecked checksum, a sequence given twice,
# a durable's place forgotten, a name that is not durable. The gate checks them with every change.
always=(ack-before-write skip-record-checksum reuse-sequence forget-position no-directory-sync)

# The names of those that a check finds: sim, moments, contract, power, lossy, disk, zombie.
found_by() { (cd "$mutants" && grep -lE "^found by:.* ($1)( |$)" -- *.patch | sed 's/\.patch$//'); }

# What finds a mutant.
finders() { sed -n 's/^found by: //p' "$mutants/$1.patch"; }

# A copy of what git knows of the tree. Only what differs is written: cargo builds what is newer than its last build, also
# where a run before was ended with a mutant in.
copy_tree() {
  local file
  (cd "$mutants/.." && git ls-files -z | grep -zv '^mutants/') | while IFS= read -r -d '' file; do
    cmp -s "$mutants/../$file" "$1/$file" && continue
    mkdir -p "$1/$(dirname "$file")"
    cp "$mutants/../$file" "$1/$file"
  done
}

put_in() { patch -d "$2" -p1 --quiet --no-backup-if-mismatch <"$mutants/$1.patch"; }

# Back to what it was, as a change that cargo sees.
take_out() {
  local file
  sed -n 's|^+++ b/||p' "$mutants/$1.patch" | while read -r file; do
    cp "$mutants/../$file" "$2/$file"
    rm -f "$2/$file.rej"
  done
}
