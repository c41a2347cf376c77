//! What must hold in the end, when faults have stopped and a reader has read every channel from its start.

use std::collections::{BTreeMap, BTreeSet};

use weirlog_engine::types::{Monotonic, Timestamp};

use super::group::{Group, Start};
use super::{Model, Publish, Seen};

impl Model {
    /// Checks that each message that was seen stands at one place, and those of a connection in the order of sending.
    pub(in crate::sim) fn check_channels(&mut self) {
        let mut violations = Vec::new();
        let mut places: BTreeMap<&str, u64> = BTreeMap::new();
        for (name, channel) in &self.channels {
            let mut orders: BTreeMap<u64, u64> = BTreeMap::new();
            for (sequence, seen) in channel {
                if let Some(first) = places.insert(&seen.payload, *sequence) {
                    let payload = &seen.payload;
                    violations.push(format!(
                        "channel {name}: {payload:?} stands at {first} and at {sequence}"
                    ));
                }
                let Some(publish) = self.publishes.get(&seen.payload) else { continue };
                let last = orders.insert(publish.line, publish.order);
                if last.is_some_and(|last| last > publish.order) {
                    violations.push(format!(
                        "channel {name}, sequence {sequence}: {:?} overtook an earlier one of its connection",
                        seen.payload
                    ));
                }
            }
        }
        for violation in violations {
            self.violated(violation);
        }
    }

    /// What groups that exist should have got and have not. Call it when the channels are known.
    pub(in crate::sim) fn missing(&self, now: Monotonic) -> Option<String> {
        let is_expected = |group: &&Group| {
            group.is_live()
                && (group.is_durable() || group.members.values().any(|is_there| *is_there))
        };
        for group in self.groups.iter().filter(is_expected) {
            let Some(channel) = self.channels.get(&group.channel) else { continue };
            for (sequence, seen) in channel {
                let Some(publish) = self.publishes.get(&seen.payload) else { continue };
                if self.must_have(group, *sequence, seen, publish)
                    && !group.delivered.contains(sequence)
                    && !self.may_be_gone(&group.channel, *sequence, now)
                {
                    return Some(format!(
                        "channel {}, sequence {sequence}: {} never got it",
                        group.channel,
                        group.title()
                    ));
                }
            }
        }
        None
    }

    /// Checks that no group got what lies before its start.
    pub(in crate::sim) fn check_starts(&mut self) {
        let mut violations = Vec::new();
        for group in self.groups.iter().filter(|group| !group.is_vague && !group.is_retired) {
            let Some(channel) = self.channels.get(&group.channel) else { continue };
            let Some(first) = group.delivered.first() else { continue };
            let Some(seen) = channel.get(first) else { continue };
            let known = self.known_before(group);
            let is_early = match group.start {
                Start::NewOnly => *first <= known,
                Start::LastReceived => *first < known,
                Start::Sequence(wanted) => *first < wanted.min(known + 1),
                Start::TimeDelta { ns } => {
                    let slack_ns = 1_000_000_000;
                    let start = Timestamp(group.requested_at.wall.0 - ns - slack_ns);
                    // What is new comes with whatever time a clock that was set back gave it.
                    seen.timestamp < start.min(group.time_least)
                }
                Start::First => false,
            };
            if is_early {
                violations.push(format!(
                    "channel {}, sequence {first}: before the start of {} ({} were acked before)",
                    group.channel,
                    group.title(),
                    known
                ));
            }
        }
        for violation in violations {
            self.violated(violation);
        }
    }

    /// The last sequence that was acked before a group was asked for.
    fn known_before(&self, group: &Group) -> u64 {
        let Some(channel) = self.channels.get(&group.channel) else { return 0 };
        let is_before = |seen: &Seen| {
            let acked_at = self.publishes.get(&seen.payload).and_then(|publish| publish.acked_at);
            acked_at.is_some_and(|at| at < group.requested_at.mono)
        };
        channel.iter().rev().find(|(_, seen)| is_before(seen)).map_or(0, |(sequence, _)| *sequence)
    }

    fn must_have(&self, group: &Group, sequence: u64, seen: &Seen, publish: &Publish) -> bool {
        let Some(answered) = group.answered_at else { return false };
        if publish.sent_at <= group.unread_until {
            return false;
        }
        let is_later = publish.sent_at > answered.mono;
        let is_started = match group.start {
            _ if group.is_vague => false,
            Start::First => true,
            Start::NewOnly | Start::LastReceived => false,
            Start::Sequence(wanted) => {
                // A start behind the end means new messages only.
                let is_within = wanted <= self.known_before(group);
                return is_later || (is_within && sequence >= wanted);
            }
            Start::TimeDelta { ns } => seen.timestamp >= Timestamp(answered.wall.0 - ns),
        };
        is_later || is_started
    }

    /// Messages that were acked in channels that keep all, and that the reader has not got.
    pub(in crate::sim) fn unread(&self) -> usize {
        let read: BTreeSet<&str> =
            self.audited.values().flat_map(BTreeMap::values).map(String::as_str).collect();
        let mut unread: BTreeMap<&str, usize> = BTreeMap::new();
        for (payload, publish) in &self.publishes {
            let channel = publish.channel.as_str();
            let is_kept = publish.acked_at.is_some() && !self.limits.removes(channel);
            if is_kept && !read.contains(payload.as_str()) {
                *unread.entry(channel).or_default() += 1;
            }
        }
        let left =
            |(channel, count): (&str, usize)| count.saturating_sub(self.unread_lost_count(channel));
        unread.into_iter().map(left).sum()
    }
}
