//! What a reader finds who reads every channel from its start when faults have stopped: all that was acked or ever
//! delivered and that no limit has removed, dense, in order, once; and limits are respected.

use std::collections::BTreeMap;

use weirlog_engine::types::{ChannelLimits, Monotonic, Timestamp};

use super::{Model, Publish};
use crate::stan::wire::MsgProto;

/// Messages are this long under way and wait this long for the next look at ages, on a server that may just have
/// started, and go in the runs in which they came.
const AGE_SLACK_MS: u64 = 6_000;

impl Model {
    /// The reader got a message.
    pub(in crate::sim) fn audited(&mut self, message: &MsgProto<'_>) {
        let channel = self.audited.entry(message.subject.to_owned()).or_default();
        channel.insert(message.sequence, String::from_utf8_lossy(message.data).into_owned());
    }

    /// The wall clock jumps, to `now`. What was asked for by time and is not answered starts nobody knows where.
    pub(in crate::sim) fn clock_jumped(&mut self, by_ms: i64, is_followed: bool, now: Timestamp) {
        for group in &mut self.groups {
            group.time_least = group.time_least.min(now);
            group.is_vague |= group.answered_at.is_none();
        }
        if is_followed {
            self.clock_steps_ms += by_ms.unsigned_abs();
        } else {
            self.is_clock_doubted = true;
        }
    }

    /// From now on nothing is expected to have been delivered of what was sent so far: it could not be read.
    pub(in crate::sim) fn reads_failed(&mut self, now: Monotonic) {
        for group in &mut self.groups {
            group.unread_until = now;
        }
    }

    /// Whether a limit may have removed a message by now, as far as is known outside.
    pub(in crate::sim) fn may_be_gone(&self, channel: &str, sequence: u64, now: Monotonic) -> bool {
        if self.is_lost(channel, sequence) {
            return true;
        }
        if !self.limits.removes(channel) {
            return false;
        }
        let published = self.published_counts.get(channel).copied().unwrap_or(0);
        let least = self.limits.kept_counts(channel).map(|(least, _)| least);
        if least.is_some_and(|least| sequence + least <= published) {
            return true;
        }
        let seen = self.channels.get(channel).and_then(|channel| channel.get(&sequence));
        let publish = seen.and_then(|seen| self.publishes.get(&seen.payload));
        let limits = self.limits.of(channel);
        publish.is_none_or(|publish| self.may_be_expired(&limits, publish, now))
    }

    fn may_be_expired(&self, limits: &ChannelLimits, publish: &Publish, now: Monotonic) -> bool {
        let earliest = publish.sent_at.after_ms(limits.age_ms_max);
        limits.age_ms_max > 0 && earliest <= now.after_ms(self.clock_steps_ms)
    }

    /// Checks what the reader found.
    pub(in crate::sim) fn check_audit(&mut self, now: Monotonic) {
        let channels: Vec<&String> = self.published_counts.keys().collect();
        let broken = channels.into_iter().find_map(|name| self.audit_of(name, now).err());
        if let Some(what) = broken {
            self.violated(what);
        }
    }

    fn audit_of(&self, name: &str, now: Monotonic) -> Result<(), String> {
        let nothing = BTreeMap::new();
        let found = self.audited.get(name).unwrap_or(&nothing);
        let seen_last = self.channels.get(name).and_then(|channel| channel.keys().last().copied());
        // What is lost before anybody saw it counts against the limits.
        let lost_last = self.lost(name).last().copied();
        let last = seen_last.max(lost_last).unwrap_or(0);
        let first = found.keys().next().copied().unwrap_or(last + 1);
        for sequence in first..=last {
            if !found.contains_key(&sequence) && !self.is_lost(name, sequence) {
                return Err(format!("channel {name}, sequence {sequence}: it cannot be read"));
            }
        }
        self.check_limits(name, (first, last), now)?;
        self.check_acked(name, first, now)
    }

    /// Limits are respected, and nothing else is removed.
    fn check_limits(
        &self,
        name: &str,
        (first, last): (u64, u64),
        now: Monotonic,
    ) -> Result<(), String> {
        let limits = self.limits.of(name);
        let count = last + 1 - first - self.lost_count(name, first, last);
        let kept_counts = self.limits.kept_counts(name);
        if let Some((_, max)) = kept_counts.filter(|(_, max)| count > *max) {
            return Err(format!(
                "channel {name}: {count} messages are kept, {max} are allowed by {limits:?}"
            ));
        }
        let by_count = kept_counts.map_or(0, |(least, _)| last.saturating_sub(least));
        let Some(channel) = self.channels.get(name) else { return Ok(()) };
        for (sequence, seen) in channel {
            let Some(publish) = self.publishes.get(&seen.payload) else { continue };
            if *sequence < first && *sequence > by_count {
                if !self.may_be_expired(&limits, publish, now) && !self.is_lost(name, *sequence) {
                    return Err(format!(
                        "channel {name}, sequence {sequence}: no limit removes it, and it is gone"
                    ));
                }
            } else if *sequence >= first && limits.age_ms_max > 0 && !self.is_clock_doubted {
                // What lies in a sealed segment goes when the newest of its channel there is too old.
                let latest = publish.acked_at.unwrap_or(now).after_ms(2 * limits.age_ms_max);
                if latest.after_ms(AGE_SLACK_MS + self.clock_steps_ms) < now {
                    return Err(format!(
                        "channel {name}, sequence {sequence}: it is kept beyond its age"
                    ));
                }
            }
        }
        Ok(())
    }

    /// What was acked and never seen lies before the first that is kept.
    fn check_acked(&self, name: &str, first: u64, now: Monotonic) -> Result<(), String> {
        let limits = self.limits.of(name);
        let seen: BTreeMap<&str, u64> = self
            .channels
            .get(name)
            .into_iter()
            .flatten()
            .map(|(sequence, seen)| (seen.payload.as_str(), *sequence))
            .collect();
        let lost = |(payload, publish): &(&String, &Publish)| {
            publish.channel == name
                && publish.acked_at.is_some()
                && !seen.contains_key(payload.as_str())
                && !self.may_be_expired(&limits, publish, now)
                && self.lower_bound(publish, &seen) >= first
        };
        // Which message of those that damage names is which, nobody can say who has not seen it.
        match self.publishes.iter().filter(lost).nth(self.unseen_lost_count(name)) {
            Some((payload, _)) => Err(format!("channel {name}: {payload:?} was acked and is lost")),
            None => Ok(()),
        }
    }

    /// A message comes behind all that its connection sent before, and behind all that was acked before it was sent.
    fn lower_bound(&self, publish: &Publish, seen: &BTreeMap<&str, u64>) -> u64 {
        let is_before = |other: &Publish| {
            other.acked_at.is_some_and(|at| at < publish.sent_at)
                || (other.line == publish.line && other.order < publish.order)
        };
        let before = seen
            .iter()
            .filter(|(payload, _)| self.publishes.get(**payload).is_some_and(is_before))
            .map(|(_, sequence)| *sequence);
        before.max().unwrap_or(0) + 1
    }
}
