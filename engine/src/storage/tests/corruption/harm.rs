//! What may become of the files of a store: each part of each file in turn, and each file as a whole.

use std::collections::BTreeSet;
use std::ops::Range;

use super::super::verify::Files;
use super::tiny::Tiny;
use crate::disk::BLOCK_SIZE_BYTES;

/// Behind a file's last byte that is not 0 so much is tried too. All further blocks are the same zeros, and nothing knows
/// one of them from another: no frame, no footer and no hint names a place there.
const BEHIND_BYTES: usize = 2 * BLOCK_SIZE_BYTES;

/// Files as they are found, in place of what they were; `None`: gone.
pub(super) struct Harm {
    pub what: String,
    /// Whether something that is left knows each message that there was. Without a checkpoint the log alone does, and of
    /// frames that follow each other and are gone only the last one is repeated elsewhere; and of two files that change
    /// places one may be what the other is known by.
    pub is_witnessed: bool,
    pub changed: Vec<(String, Option<Vec<u8>>)>,
}

impl Harm {
    fn one(what: String, path: &str, bytes: Vec<u8>) -> Self {
        Self { what, is_witnessed: true, changed: vec![(path.to_owned(), Some(bytes))] }
    }

    /// A whole file, or its end.
    fn whole(tiny: &Tiny, what: String, path: &str, bytes: Option<Vec<u8>>) -> Self {
        let is_witnessed = tiny.files.keys().any(|path| path.contains("checkpoint-"));
        Self { what, is_witnessed, changed: vec![(path.to_owned(), bytes)] }
    }

    pub(super) fn done_to(&self, files: &Files) -> Files {
        let mut files = files.clone();
        for (path, bytes) in &self.changed {
            match bytes {
                Some(bytes) => drop(files.insert(path.clone(), bytes.clone())),
                None => drop(files.remove(path)),
            }
        }
        files
    }
}

/// Of each file, how much is tried.
fn tried_bytes(bytes: &[u8]) -> usize {
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.len().min(used.next_multiple_of(BLOCK_SIZE_BYTES) + BEHIND_BYTES)
}

/// Each part of `unit` bytes: zeroed, as it was before, what another file has there, what its neighbours have.
pub(super) fn parts(tiny: &Tiny, unit: usize, mut each: impl FnMut(&Harm)) {
    for (path, bytes) in &tiny.files {
        for at in (0..tried_bytes(bytes)).step_by(unit) {
            let place = at..(at + unit).min(bytes.len());
            let mut known = BTreeSet::from([bytes[place.clone()].to_vec()]);
            for (what, with) in replacements(tiny, path, bytes, &place) {
                if known.insert(with.clone()) {
                    let mut bytes = bytes.clone();
                    bytes[place.clone()].copy_from_slice(&with);
                    each(&Harm::one(format!("{path} {place:?}: {what}"), path, bytes));
                }
            }
        }
    }
}

/// With what a place may be found; as long as the place.
fn replacements(
    tiny: &Tiny,
    path: &str,
    bytes: &[u8],
    place: &Range<usize>,
) -> Vec<(String, Vec<u8>)> {
    let mut found = vec![("zeros".to_owned(), vec![0; place.len()])];
    let mut add = |what: String, bytes: &[u8], place: Range<usize>| {
        let with = bytes.get(place.start..).unwrap_or_default();
        let mut with = with[..with.len().min(place.len())].to_vec();
        with.resize(place.len(), 0);
        found.push((what, with));
    };
    for (nth, older) in tiny.older.iter().enumerate() {
        if let Some(older) = older.get(path) {
            add(format!("as at moment {nth}"), older, place.clone());
        }
    }
    for (other, bytes) in tiny.files.iter().filter(|(other, _)| *other != path) {
        add(format!("that of {other}"), bytes, place.clone());
    }
    if let Some(start) = place.start.checked_sub(place.len()) {
        add("the one before".to_owned(), bytes, start..place.start);
    }
    if place.end < bytes.len() {
        add("the one behind".to_owned(), bytes, place.end..place.end + place.len());
    }
    found
}

/// Each file cut at each sector.
pub(super) fn cuts(tiny: &Tiny, mut each: impl FnMut(&Harm)) {
    const SECTOR_BYTES: usize = 512;
    for (path, bytes) in &tiny.files {
        let last = bytes.len().saturating_sub(SECTOR_BYTES);
        let places = (0..tried_bytes(bytes)).step_by(SECTOR_BYTES).chain([last, last + 1]);
        for length in places.collect::<BTreeSet<_>>() {
            let what = format!("{path} cut at {length}");
            each(&Harm::whole(tiny, what, path, Some(bytes[..length].to_vec())));
        }
    }
}

/// Each file gone, as it was before, in place of each other, or the other in its place too.
pub(super) fn files(tiny: &Tiny, mut each: impl FnMut(&Harm)) {
    for (path, bytes) in &tiny.files {
        let whole = |what, bytes| Harm::whole(tiny, what, path, bytes);
        each(&whole(format!("{path} is gone"), None));
        let mut known = BTreeSet::from([bytes]);
        for (nth, older) in tiny.older.iter().enumerate() {
            if let Some(older) = older.get(path).filter(|older| known.insert(older)) {
                each(&whole(format!("{path} as at moment {nth}"), Some(older.clone())));
            }
        }
        for (other, others) in tiny.files.iter().filter(|(other, _)| *other != path) {
            each(&whole(format!("{path} is a copy of {other}"), Some(others.clone())));
            if other > path {
                let swapped = [(path, others), (other, bytes)];
                let changed = swapped.map(|(path, bytes)| (path.clone(), Some(bytes.clone())));
                let what = format!("{path} and {other} swapped");
                each(&Harm { what, is_witnessed: false, changed: changed.into() });
            }
        }
    }
}

/// The bits of each byte that `wants` says: by file, byte and bit.
pub(super) fn flips(
    tiny: &Tiny,
    mut wants: impl FnMut(&str, usize, u8) -> bool,
    mut each: impl FnMut(&Harm),
) {
    for (path, bytes) in &tiny.files {
        let mut bytes = bytes.clone();
        for at in 0..tried_bytes(&bytes) {
            for bit in 0..8 {
                if wants(path, at, bit) {
                    bytes[at] ^= 1 << bit;
                    let what = format!("{path} byte {at} bit {bit}");
                    each(&Harm::one(what, path, bytes.clone()));
                    bytes[at] ^= 1 << bit;
                }
            }
        }
    }
}
