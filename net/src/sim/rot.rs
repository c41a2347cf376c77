//! Bytes that change at rest while the server is down: a flipped bit, a damaged sector, a block that was written to
//! another's place.
//!
//! The demands stay exact: each place that is hit stands far enough from the others that no two of them are the copies
//! of the same thing, and what is hit was on disk for a while unless the server had stopped, so that nothing of it may pass
//! for a torn tail.

use std::collections::BTreeMap;
use std::time::Duration;

use super::server::Server;
use super::workload::Run;
use super::{FaultKind, World};

/// What is rotten or misdirected: the unit in which all files are written.
const BLOCK_SIZE_BYTES: usize = 4096;
/// Of a killed server damage within the last second may pass for a torn tail. Hints of it are a second apart, and writes
/// may be slow.
const SETTLED: Duration = Duration::from_secs(4);
/// Places that change while the server is down once.
const ROTS_MAX: usize = 2;
/// Writes of a dead process have landed.
const LANDED: Duration = Duration::from_secs(1);

type Files = BTreeMap<String, Vec<u8>>;
/// A block of a file.
type Place = (String, usize);

impl World {
    /// Takes in what recovery reported: before anybody has to do with that server.
    pub(super) fn hear_damage(&self, server: &Server) {
        for damage in server.take_found() {
            self.log(|| format!("recovery reports {damage:?}"));
            if self.has_rotted.get() {
                self.model.borrow_mut().told(&damage);
            } else if !self.is_disk_failing.get() {
                self.violated(format!("recovery reports damage: {damage:?}"));
            }
        }
    }
}

impl Run {
    /// Whether this run has rot: it changes what may be demanded, so most have none.
    pub(super) fn is_rotting(&self) -> bool {
        self.plan.faults.has(FaultKind::Rot) && FaultKind::Rot.rng(self.plan.seed).u8(..8) == 0
    }

    /// Behind all that clients did, where most is on disk: a deed as the others.
    pub(super) fn rot_last(&mut self) -> Result<(), String> {
        if self.world.script.is_some() || !self.is_rotting() {
            return Ok(());
        }
        self.strike_anew(FaultKind::Rot)
    }

    /// The server ends, one or two places change, and it comes back.
    pub(super) fn rot(&mut self) -> Result<(), String> {
        if !self.is_rotting() {
            return Ok(());
        }
        self.wait_until_listening()?;
        let ends = [FaultKind::Stop, FaultKind::Kill, FaultKind::Power];
        let end = ends[self.chance(FaultKind::Rot).usize(..ends.len())];
        let before = self.files();
        // What the store file says stands in each segment's header once more.
        let segments = before.keys().filter(|path| number(path, "segment-").is_some());
        let has_copies = segments.count() > self.rotted.len() + ROTS_MAX;
        if end != FaultKind::Stop {
            self.pass(SETTLED)?;
        }
        self.end_server(end)?;
        self.pass(LANDED)?;
        let files = self.files();
        let count = self.chance(FaultKind::Rot).usize(1..=ROTS_MAX);
        let mut hit: Vec<Place> = Vec::new();
        for _ in 0..count {
            let is_settled = |path: &str, at: usize, block: &[u8]| {
                let known = before.get(path).and_then(|known| block_of(known, at));
                end == FaultKind::Stop || known == Some(block)
            };
            let places = places(&files, |path, at, block| {
                let is_near = hit.iter().any(|(other, _)| directory(other) == directory(path));
                (has_copies || path != "store")
                    && !is_near
                    && self.is_apart(path)
                    && is_settled(path, at, block)
            });
            let Some(place) = self.draw_place(&places) else { break };
            self.spoil(&files, &place);
            hit.push(place);
        }
        self.rotted.extend(hit.into_iter().map(|(path, _)| path));
        self.start_server();
        self.wait_until_listening()
    }

    fn files(&self) -> Files {
        let read = |path: String| self.disk.peek(&path).map(|bytes| (path, bytes));
        self.disk.paths().into_iter().filter_map(read).collect()
    }

    /// Whether nothing that was hit before may hold a copy of what is in this file: a segment's neighbours repeat tables
    /// and names, one checkpoint stands in for the other. A superblock is written anew at each start.
    fn is_apart(&self, path: &str) -> bool {
        let is_copy = |other: &String| match (number(path, "segment-"), number(other, "segment-")) {
            (Some(one), Some(two)) => directory(path) == directory(other) && one.abs_diff(two) <= 1,
            (None, None) if number(path, "checkpoint-").is_some() => {
                directory(path) == directory(other) && number(other, "checkpoint-").is_some()
            }
            _ => path == other && !path.ends_with("superblock"),
        };
        !self.rotted.iter().any(is_copy)
    }

    /// Mostly in a segment.
    fn draw_place(&mut self, places: &[Place]) -> Option<Place> {
        let (segments, others): (Vec<&Place>, Vec<&Place>) =
            places.iter().partition(|(path, _)| number(path, "segment-").is_some());
        let rng = self.chance(FaultKind::Rot);
        let wanted = if rng.u8(..6) > 0 { [segments, others] } else { [others, segments] };
        let from = wanted.into_iter().find(|some| !some.is_empty())?;
        Some(from[rng.usize(..from.len())].clone())
    }

    fn spoil(&mut self, files: &Files, (path, at): &Place) {
        let block = block_of(&files[path], *at).expect("drawn from these files");
        let written = places(files, |other, number, _| (other, number) != (path, *at));
        let disk = self.disk.clone();
        let rng = self.chance(FaultKind::Rot);
        let used: Vec<usize> = (0..block.len()).filter(|byte| block[*byte] != 0).collect();
        let byte = (at * BLOCK_SIZE_BYTES + used[rng.usize(..used.len())]) as u64;
        let what = match rng.u8(..3) {
            0 => {
                disk.flip_bit(path, byte, rng.u8(..8));
                "a bit of it flips".to_owned()
            }
            1 => {
                disk.damage_sector(path, byte);
                "a sector of it is damaged".to_owned()
            }
            _ => {
                let own: Vec<&Place> = written.iter().filter(|(other, _)| other == path).collect();
                let all: Vec<&Place> = written.iter().collect();
                let from = if own.is_empty() || rng.bool() { all } else { own };
                let Some((other, number)) = from.get(rng.usize(..from.len().max(1))) else {
                    return;
                };
                disk.misdirect((other, (number * BLOCK_SIZE_BYTES) as u64), (path, byte));
                format!("block {number} of {other} is written there")
            }
        };
        self.world.has_rotted.set(true);
        self.world.log(|| format!("rot in {path}, byte {byte}: {what}"));
    }

    /// Whether anything was hit: then damage may be reported.
    pub(super) fn has_rotted(&self) -> bool {
        self.world.has_rotted.get()
    }
}

/// Blocks with something in them.
fn places(files: &Files, is_wanted: impl Fn(&str, usize, &[u8]) -> bool) -> Vec<Place> {
    let mut places = Vec::new();
    for (path, bytes) in files {
        for (at, block) in bytes.chunks(BLOCK_SIZE_BYTES).enumerate() {
            if block.iter().any(|byte| *byte != 0) && is_wanted(path, at, block) {
                places.push((path.clone(), at));
            }
        }
    }
    places
}

fn block_of(bytes: &[u8], at: usize) -> Option<&[u8]> {
    bytes.chunks(BLOCK_SIZE_BYTES).nth(at)
}

fn directory(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}

/// The number in the name of a segment or checkpoint.
fn number(path: &str, kind: &str) -> Option<u64> {
    path.rsplit('/').next()?.strip_prefix(kind)?.parse().ok()
}
