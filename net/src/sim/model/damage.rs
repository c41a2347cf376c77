//! What may be missing because bytes changed at rest: what the server's reports of damage name, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use weirlog_engine::error::Damage;
use weirlog_engine::types::{ChannelId, Sequence};
use weirlog_engine::verify::Verified;

use super::Model;

/// Reports after which clients and subscriptions may be older than what was promised, or unknown.
const STATE_LOST: [&str; 2] = ["acknowledged batches are lost", "the record's checksum is wrong"];

/// What was reported so far.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// Sequences by channel.
    named: BTreeMap<String, BTreeSet<u64>>,
    /// How often state was reported lost.
    state: u64,
}

impl Model {
    /// The server reports damage.
    pub(in crate::sim) fn told(&mut self, damage: &Damage) {
        if damage.name.is_empty() {
            if damage.channel != ChannelId(0) {
                self.violated(format!("a report of messages without their channel: {damage:?}"));
            } else if STATE_LOST.contains(&damage.what) {
                self.losses.state += 1;
                self.retire_all();
            }
            return;
        }
        let published = self.published_counts.get(&damage.name).copied().unwrap_or(0);
        let (Sequence(first), Sequence(last)) = (damage.first, damage.last);
        if first == 0 || first > last || last > published {
            self.violated(format!("damage to messages that never were: {damage:?}"));
            return;
        }
        self.losses.named.entry(damage.name.clone()).or_default().extend(first..=last);
    }

    /// How often state was reported lost: then registrations are unknown, positions are older or unknown.
    pub(in crate::sim) fn state_losses(&self) -> u64 {
        self.losses.state
    }

    /// Whether a message was reported lost.
    pub(super) fn is_lost(&self, channel: &str, sequence: u64) -> bool {
        self.lost(channel).contains(&sequence)
    }

    /// How many from `first` to `last` were reported lost.
    pub(super) fn lost_count(&self, channel: &str, first: u64, last: u64) -> u64 {
        let is_within = |sequence: &&u64| (first..=last).contains(*sequence);
        self.lost(channel).iter().filter(is_within).count() as u64
    }

    /// How many were reported lost that nobody had seen.
    pub(super) fn unseen_lost_count(&self, channel: &str) -> usize {
        let seen = self.channels.get(channel);
        let is_unseen = |sequence: &&u64| seen.is_none_or(|seen| !seen.contains_key(*sequence));
        self.lost(channel).iter().filter(is_unseen).count()
    }

    /// How many were reported lost that the reader at the end has not got either.
    pub(super) fn unread_lost_count(&self, channel: &str) -> usize {
        let read = self.audited.get(channel);
        let is_unread = |sequence: &&u64| read.is_none_or(|read| !read.contains_key(*sequence));
        self.lost(channel).iter().filter(is_unread).count()
    }

    /// Checks what was found offline, when the server had stopped: in channels without limits it misses what the reader
    /// at the end has not got, and nothing else.
    pub(in crate::sim) fn check_verified(&mut self, found: &Verified) {
        let mut missing: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
        for damage in found.damage.iter().filter(|damage| !damage.name.is_empty()) {
            missing.entry(&damage.name).or_default().extend(damage.first.0..=damage.last.0);
        }
        let nothing = BTreeSet::new();
        let mut violations = Vec::new();
        for (name, read) in &self.audited {
            let missing = missing.get(name.as_str()).unwrap_or(&nothing);
            if let Some(sequence) = read.keys().find(|sequence| missing.contains(*sequence)) {
                violations.push(format!(
                    "channel {name}, sequence {sequence}: it was read, and verify misses it"
                ));
            }
            let (Some(first), Some(last)) = (read.keys().next(), read.keys().next_back()) else {
                continue;
            };
            let is_untold =
                |sequence: &u64| !read.contains_key(sequence) && !missing.contains(sequence);
            if !self.limits.removes(name)
                && let Some(sequence) = (*first..=*last).find(is_untold)
            {
                violations.push(format!(
                    "channel {name}, sequence {sequence}: it cannot be read, and verify finds it"
                ));
            }
        }
        for violation in violations {
            self.violated(violation);
        }
    }

    /// What was reported lost.
    pub(super) fn lost(&self, channel: &str) -> &BTreeSet<u64> {
        const NONE: &BTreeSet<u64> = &BTreeSet::new();
        self.losses.named.get(channel).unwrap_or(NONE)
    }
}
