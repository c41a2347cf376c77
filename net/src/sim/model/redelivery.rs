//! What was delivered and never acked comes again: in calm to some member of its queue group within the wait, and at
//! last, whatever happened to the server in between, to whoever has the subscription then.

use std::collections::BTreeMap;

use weirlog_engine::types::Monotonic;

use super::group::{Group, SubscriptionKey};
use super::{GroupIndex, Model};

/// Beyond its ack wait a redelivery may take this long.
pub(in crate::sim) const REDELIVERY_SLACK_MS: u64 = 3_000;
/// The same after a client could not be reached: its heartbeats may have failed.
pub(in crate::sim) const DISTURBED_SLACK_MS: u64 = 12_000;

/// The last delivery of a message that no subscriber ever acked.
#[derive(Debug, Clone, Copy)]
pub(in crate::sim) struct Unacked {
    at: Monotonic,
    life: u64,
}

impl Group {
    /// A member got a message.
    pub(super) fn note_delivery(&mut self, sequence: u64, life: u64, now: Monotonic) {
        if !self.acks.contains_key(&sequence) {
            self.unacked.insert(sequence, Unacked { at: now, life });
        }
    }

    fn is_queue(&self) -> bool {
        matches!(self.key, SubscriptionKey::Queue { .. })
    }

    /// Since when all its members could be reached; none: one of them cannot.
    fn calm_since(&self, reachable_since: &BTreeMap<String, Monotonic>) -> Option<Monotonic> {
        let mut members = self.members.keys();
        members.try_fold(Monotonic(0), |latest, (client, _)| {
            reachable_since.get(client).map(|at| latest.max(*at))
        })
    }
}

impl Model {
    /// A subscriber asks for this ack wait.
    pub(in crate::sim) fn may_wait(&mut self, group: GroupIndex, ack_wait_ms: u64) {
        let group = &mut self.groups[group];
        group.ack_wait_ms_max = group.ack_wait_ms_max.max(ack_wait_ms);
    }

    /// Whether there are subscriptions that must get again what they have not acked.
    fn is_served(group: &Group) -> bool {
        group.is_live() && group.members.values().any(|is_there| *is_there)
    }

    /// Whether a message may be missing: a limit removed it, or it could not be read.
    fn is_excused(&self, group: &Group, sequence: u64, now: Monotonic) -> bool {
        let seen = self.channels.get(&group.channel).and_then(|channel| channel.get(&sequence));
        let publish = seen.and_then(|seen| self.publishes.get(&seen.payload));
        publish.is_none_or(|publish| publish.sent_at <= group.unread_until)
            || self.may_be_gone(&group.channel, sequence, now)
    }

    /// Checks that queue groups whose members all could be reached for long got again what none of them acked: any
    /// member may be sent it, and the limits on what is in flight do not count. What an earlier process delivered may
    /// have to wait as a new message: see [`Model::owed`].
    pub(in crate::sim) fn check_group_redeliveries(
        &mut self,
        now: Monotonic,
        reachable_since: &BTreeMap<String, Monotonic>,
    ) {
        let late = self
            .groups
            .iter()
            .filter(|group| group.is_queue() && Self::is_served(group))
            .find_map(|group| self.late_redelivery(group, now, reachable_since));
        if let Some(what) = late {
            self.violated(what);
        }
    }

    fn late_redelivery(
        &self,
        group: &Group,
        now: Monotonic,
        reachable_since: &BTreeMap<String, Monotonic>,
    ) -> Option<String> {
        let wait_ms = group.ack_wait_ms_max;
        let calm_since = group.calm_since(reachable_since)?;
        if calm_since.after_ms(2 * wait_ms + DISTURBED_SLACK_MS) > now {
            return None;
        }
        let limit_ms = wait_ms + REDELIVERY_SLACK_MS;
        let is_late = |(sequence, unacked): &(&u64, &Unacked)| {
            unacked.life == self.life()
                && unacked.at.after_ms(limit_ms) < now
                && !self.is_excused(group, **sequence, now)
        };
        let (sequence, _) = group.unacked.iter().find(is_late)?;
        Some(format!(
            "channel {}, sequence {sequence}: {} did not ack it and did not get it again for {limit_ms} ms",
            group.channel,
            group.title()
        ))
    }

    /// What some subscription got, never acked, and did not get again though it is there and acks all now.
    pub(in crate::sim) fn owed(&self, now: Monotonic) -> Option<String> {
        self.groups.iter().filter(|group| Self::is_served(group)).find_map(|group| {
            let is_owed = |sequence: &&u64| !self.is_excused(group, **sequence, now);
            let sequence = group.unacked.keys().find(is_owed)?;
            Some(format!(
                "channel {}, sequence {sequence}: {} never acked it and did not get it again",
                group.channel,
                group.title()
            ))
        })
    }
}
