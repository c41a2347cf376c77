//! Whatever happens to the files of a small store, in each place of each file in turn: a server starts; what it serves is
//! what was published; what it does not serve it names, with channel and sequences, and so does `verify`; no file gets
//! shorter; `repair` makes a store of all the rest. See [`harm`] for what happens to files, and [`meaning`] for the bytes
//! that mean nothing.

use std::collections::BTreeSet;

use super::verify::{Files, contents, verified};
use super::*;
use crate::error::Damage;
use crate::repair::repair;
use crate::verify::Verified;

mod harm;
mod meaning;
mod tiny;

use harm::Harm;
use meaning::{Meaning, frames_end, meaning};
use tiny::{CHANNELS, End, Key, Life, Messages, Tiny, fast};

const BLOCK_BYTES: usize = crate::disk::BLOCK_SIZE_BYTES;
const SECTOR_BYTES: usize = 512;

/// A store, and what was found in it.
struct Trial<'a> {
    tiny: &'a Tiny,
    meaning: Meaning,
    /// What `verify` said so far: the first store of each kind is looked at longer.
    known: BTreeSet<String>,
    tried: usize,
    /// How many were told of, and how many messages were lost in how many.
    told: usize,
    harmed: usize,
    /// In how many not all that is missing is named.
    unnamed: usize,
}

impl<'a> Trial<'a> {
    fn new(tiny: &'a Tiny) -> Self {
        let meaning = meaning(&tiny.files);
        let mut trial = Self {
            tiny,
            meaning,
            known: BTreeSet::new(),
            tried: 0,
            told: 0,
            harmed: 0,
            unnamed: 0,
        };
        let none = Harm { what: "nothing".into(), changed: Vec::new(), is_witnessed: true };
        trial.check(&none, true);
        assert_eq!((trial.told, trial.harmed), (0, 0), "a store that is whole");
        trial
    }

    /// All that must hold of a harmed store. `is_long`: with a second start, what `repair` makes of it, and new messages.
    fn check(&mut self, harm: &Harm, is_long: bool) {
        let what = &harm.what;
        let files = harm.done_to(&self.tiny.files);
        let (executor, disk) = on_disk(&files);
        let found = match verified(&executor, &disk) {
            Ok(found) => found,
            // Neither the store file nor a segment says what store it is.
            Err(OpenError::Format { file, .. }) if file == "store" && !harm.is_witnessed => {
                assert!(Life::open(&executor, &disk).is_err(), "{what}");
                return;
            }
            Err(error) => panic!("{what}: {error}"),
        };
        let is_long = is_long || self.known.insert(format!("{found:?}"));
        assert!(!is_long || contents(&disk) == files, "{what}: verify changes nothing");

        let life = Life::open(&executor, &disk).unwrap_or_else(|error| panic!("{what}: {error}"));
        let durables = life.durables();
        let served = life.read_all();
        let mut told = life.storage.report().damage.clone();
        told.extend(life.with(|shard| shard.take_damage()));

        let missing = self.missing(&served, what);
        let is_named = named(&told) == missing;
        if harm.is_witnessed {
            assert!(
                is_named,
                "{what}: the server names what is missing: {told:?}, not {missing:?}"
            );
        } else {
            assert!(named(&told).is_subset(&missing), "{what}: {told:?}, not {missing:?}");
            assert!(is_named || !told.is_empty(), "{what}: lost in silence: {missing:?}");
        }
        assert_eq!(named(&found.damage), named(&told), "{what}: so does verify: {found:?}");
        assert_eq!(found.missing, named(&told).len() as u64, "{what}: {found:?}");
        self.unnamed += usize::from(!is_named);
        assert_eq!(found.messages, served.len() as u64, "{what}: {found:?}");
        for (channel, name, sent, _) in &durables {
            let mut known = self.tiny.durables.iter();
            let is_behind = known.any(|k| (&k.0, &k.1) == (channel, name) && k.2 >= *sent);
            assert!(is_behind, "{what}: {channel} {name} was never at {sent}");
        }
        if durables != self.tiny.durables {
            let is_told = !told.is_empty() && !found.damage.is_empty();
            assert!(is_told, "{what}: forgotten in silence: {durables:?}");
        }
        if found.damage.is_empty() {
            assert_eq!(told, [], "{what}: {found:?}");
            assert!(!self.means_something(harm), "{what}: it is found offline");
        }
        self.tried += 1;
        self.told += usize::from(!found.damage.is_empty());
        self.harmed += usize::from(!missing.is_empty());
        if is_long {
            if is_named {
                self.check_numbers(&life, what);
            }
            life.stop();
            self.check_files(&files, &contents(&disk), what);
            let again = Life::open(&executor, &disk).unwrap().read_all();
            let is_there = |(key, payload): (&Key, &Vec<u8>)| again.get(key) == Some(payload);
            assert!(served.iter().all(is_there), "{what}: served before, and not again");
            self.check_repair(&files, &found, &served, what);
        } else {
            life.kill();
        }
    }

    /// What was published and is not served; what is served is right.
    fn missing(&self, served: &Messages, what: &str) -> BTreeSet<Key> {
        for (key, payload) in served {
            let published = self.tiny.published.get(key);
            assert!(published == Some(payload), "{what}: {key:?} was never published as that");
        }
        let missing = self.tiny.published.keys().filter(|key| !served.contains_key(*key));
        missing.cloned().collect()
    }

    /// Whether any byte was changed that means something.
    fn means_something(&self, harm: &Harm) -> bool {
        harm.changed.iter().any(|(path, bytes)| {
            let before = &self.tiny.files[path];
            let now = bytes.as_deref().unwrap_or_default();
            // A whole one of an earlier moment is as good: the log has what came later.
            let mut others =
                self.tiny.files.iter().filter(|(path, _)| path.contains("checkpoint-"));
            if path.contains("checkpoint-") && others.any(|(_, other)| other == now) {
                return false;
            }
            let ranges = self.meaning[path].iter();
            ranges.clone().any(|range| now.get(range.clone()) != before.get(range.clone()))
        })
    }

    /// No number is given a second time.
    fn check_numbers(&self, life: &Life<'_>, what: &str) {
        for channel in CHANNELS {
            let (index, sequence) = life.publish(channel, b"new");
            life.wait(index);
            assert_eq!(sequence, self.tiny.last(channel) + 1, "{what}: {channel}");
        }
    }

    /// No file is shorter than it was found, and what stands before the damage is as it was found.
    fn check_files(&self, before: &Files, after: &Files, what: &str) {
        for (path, bytes) in before {
            let clean = &self.tiny.files[path];
            let end = if path.contains("segment-") { frames_end(clean) } else { 0 };
            let Some(now) = after.get(path) else {
                let is_empty = end == 0 || bytes.iter().skip(BLOCK_BYTES).all(|byte| *byte == 0);
                assert!(path.contains("checkpoint-") || is_empty, "{what}: {path} is gone");
                continue;
            };
            assert!(now.len() >= bytes.len(), "{what}: {path} was cut to {}", now.len());
            let whole = bytes.iter().zip(clean).take_while(|(one, two)| one == two).count();
            let whole = whole.min(end);
            assert!(now[..whole] == bytes[..whole], "{what}: {path} was written over");
        }
    }

    /// The copy has all that is served, and nobody misses anything in it.
    fn check_repair(&self, files: &Files, found: &Verified, served: &Messages, what: &str) {
        let (executor, disk) = on_disk(files);
        let target = SimDisk::new(executor.runtime(), 2);
        fast(&target);
        let group = executor.group();
        let repaired = executor.block_on(repair(&disk, &target, &group, Tuning::small())).unwrap();
        group.kill();
        assert!(contents(&disk) == *files, "{what}: repair changes nothing");
        assert_eq!(repaired.verified, *found, "{what}");
        assert_eq!(repaired.messages, served.len() as u64, "{what}");
        let again = verified(&executor, &target).unwrap();
        assert_eq!((&again.damage[..], again.missing), (&[][..], 0), "{what}");
        let copy = Life::open(&executor, &target).unwrap();
        assert!(copy.read_all() == *served, "{what}: the copy has other messages");
        let told = copy.with(|shard| shard.take_damage());
        assert_eq!((copy.storage.report().damage.as_slice(), told.as_slice()), (&[][..], &[][..]));
        if named(&found.damage).len() + served.len() == self.tiny.published.len() {
            self.check_numbers(&copy, what);
        }
        copy.kill();
    }

    /// What was tried, and that it was enough: one of `told_of` was told of, and half of these cost messages.
    fn end(&self, tried_min: usize, told_of: usize) {
        let Self { tried, told, harmed, unnamed, .. } = self;
        println!(
            "{tried} tried, {told} told, {harmed} with losses, {unnamed} of them not all named"
        );
        assert!(*tried >= tried_min, "{tried}");
        assert!(*told > tried / told_of, "{told} of {tried}");
        assert!(*harmed > tried / told_of / 2, "{harmed} of {tried}");
    }
}

/// A new disk with these files.
fn on_disk(files: &Files) -> (SimExecutor, SimDisk) {
    let executor = SimExecutor::new(1);
    let disk = SimDisk::holding(executor.runtime(), 1, files);
    fast(&disk);
    (executor, disk)
}

/// The messages that damage names.
fn named(damage: &[Damage]) -> BTreeSet<Key> {
    let known = damage.iter().filter(|damage| !damage.name.is_empty());
    let each = known.flat_map(|damage| {
        (damage.first.0..=damage.last.0).map(|sequence| (damage.name.clone(), sequence))
    });
    each.collect()
}

/// All parts of so many bytes.
fn each_part(end: End, unit: usize, tried_min: usize) {
    let tiny = Tiny::new(end);
    let mut trial = Trial::new(&tiny);
    harm::parts(&tiny, unit, |harm| trial.check(harm, true));
    trial.end(tried_min, 3);
}

fn each_file(end: End, tried_min: usize) {
    let tiny = Tiny::new(end);
    let mut trial = Trial::new(&tiny);
    harm::cuts(&tiny, |harm| trial.check(harm, true));
    harm::files(&tiny, |harm| trial.check(harm, true));
    trial.end(tried_min, 3);
}

/// Of the bytes that mean nothing one in so many is tried, or all.
const PADDING_STEP: usize = 16;

/// One bit of each byte that means something, and of some that do not; or all bits of all.
fn each_bit(end: End, is_all: bool, tried_min: usize) {
    let tiny = Tiny::new(end);
    let mut trial = Trial::new(&tiny);
    let meaning = trial.meaning.clone();
    let wants = |path: &str, at: usize, bit: u8| {
        let mut ranges = meaning[path].iter();
        let is_meant = ranges.any(|range| range.contains(&at)) || path.ends_with("superblock");
        let is_its_turn = usize::from(bit) == (at + at / 8) % 8;
        is_all || (is_its_turn && (is_meant || at % PADDING_STEP == at / 256 % PADDING_STEP))
    };
    harm::flips(&tiny, wants, |harm| trial.check(harm, false));
    // Of a small store's blocks seven eighths are padding.
    trial.end(tried_min, if is_all { 12 } else { 3 });
}

#[test]
fn blocks_of_a_stopped_store() {
    each_part(End::Stopped, BLOCK_BYTES, 200);
}

#[test]
fn blocks_of_a_killed_store() {
    each_part(End::Killed, BLOCK_BYTES, 200);
    each_part(End::KilledYoung, BLOCK_BYTES, 45);
}

#[test]
fn sectors_of_a_stopped_store() {
    each_part(End::Stopped, SECTOR_BYTES, 270);
}

#[test]
fn sectors_of_a_killed_store() {
    each_part(End::Killed, SECTOR_BYTES, 270);
    each_part(End::KilledYoung, SECTOR_BYTES, 60);
}

#[test]
fn cut_lost_and_swapped_files_of_a_stopped_store() {
    each_file(End::Stopped, 400);
}

#[test]
fn cut_lost_and_swapped_files_of_a_killed_store() {
    each_file(End::Killed, 400);
    each_file(End::KilledYoung, 150);
}

#[test]
fn a_bit_of_each_byte_of_a_stopped_store() {
    each_bit(End::Stopped, false, 36_000);
}

#[test]
fn a_bit_of_each_byte_of_a_killed_store() {
    each_bit(End::Killed, false, 35_000);
}

#[test]
fn a_bit_of_each_byte_of_a_young_store() {
    each_bit(End::KilledYoung, false, 17_000);
}

/// To run it: `cargo test --release -p weirlog-engine --lib every_bit -- --ignored`.
#[test]
#[ignore = "ten minutes in a release build; its tests of each day try one bit a byte"]
fn every_bit_of_a_stopped_store() {
    each_bit(End::Stopped, true, 1_200_000);
}

/// See [`every_bit_of_a_stopped_store`].
#[test]
#[ignore = "ten minutes in a release build; its tests of each day try one bit a byte"]
fn every_bit_of_a_killed_store() {
    each_bit(End::Killed, true, 1_200_000);
    each_bit(End::KilledYoung, true, 500_000);
}
