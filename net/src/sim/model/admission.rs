//! Limits on who may come: channels of the store, subscriptions of a channel. Nobody is refused while there certainly
//! was room, and never are there certainly more than allowed. What is under way at the same time, or was never answered,
//! counts as may be.

use std::collections::{BTreeMap, BTreeSet};

use weirlog_engine::types::Monotonic;

use super::group::{Member, SubscriptionKey};
use super::{GroupIndex, Limits, Model};

/// What counts as one subscription: a durable however often it is taken up, else each member.
type Seat = (SubscriptionKey, Option<Member>);

/// What is known of a seat.
#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    /// It certainly exists since then.
    sure_since: Option<Monotonic>,
    /// It certainly did not exist any more then.
    gone_at: Option<Monotonic>,
}

/// Who was let in.
#[derive(Debug, Default)]
pub(super) struct Admission {
    /// Channels that somebody ever asked for.
    asked: BTreeSet<String>,
    /// Channels that certainly exist, since when.
    there: BTreeMap<String, Monotonic>,
    seats: BTreeMap<String, BTreeMap<Seat, Taken>>,
    /// From this process on there are no such limits.
    lifted_in: Option<u64>,
}

fn seat_of(key: &SubscriptionKey, member: &Member) -> Seat {
    let is_durable = matches!(key, SubscriptionKey::Durable { .. });
    (key.clone(), (!is_durable).then(|| member.clone()))
}

impl Admission {
    /// A request may make this channel.
    pub(super) fn channel_asked(&mut self, channel: &str) {
        if !self.asked.contains(channel) {
            self.asked.insert(channel.to_owned());
        }
    }

    /// An answer says that it exists. What is wrong with that?
    pub(super) fn channel_sure(
        &mut self,
        channel: &str,
        limits: &Limits,
        now: Monotonic,
    ) -> Option<String> {
        if !self.there.contains_key(channel) {
            self.there.insert(channel.to_owned(), now);
        }
        let (count, max) = (self.there.len() as u64, limits.channels_max);
        let is_over = max > 0 && count > max && self.lifted_in.is_none();
        is_over.then(|| format!("there are {count} channels, {max} are allowed"))
    }

    /// Why the limit on channels does not explain a refusal; none: it does.
    fn channel_has_room(&self, channel: &str, max: u64, sent_at: Monotonic) -> Option<String> {
        if self.there.get(channel).is_some_and(|since| *since < sent_at) {
            return Some("it exists".to_owned());
        }
        let others = self.asked.iter().filter(|other| *other != channel).count() as u64;
        let has_room = max == 0 || others < max;
        has_room.then(|| format!("there are {others} others at most, {max} are allowed"))
    }

    pub(super) fn seat_asked(&mut self, channel: &str, key: &SubscriptionKey, member: &Member) {
        let seats = self.seats.entry(channel.to_owned()).or_default();
        seats.entry(seat_of(key, member)).or_default().gone_at = None;
    }

    /// An answer says that a seat is taken. What is wrong with that?
    fn seat_sure(&mut self, channel: &str, seat: Seat, max: u64, now: Monotonic) -> Option<String> {
        let seats = self.seats.entry(channel.to_owned()).or_default();
        seats.entry(seat).or_default().sure_since.get_or_insert(now);
        let count = seats.values().filter(|taken| taken.sure_since.is_some()).count() as u64;
        let is_over = max > 0 && count > max && self.lifted_in.is_none();
        is_over.then(|| format!("channel {channel}: {count} subscriptions, {max} are allowed"))
    }

    /// From now on nobody knows whether it is there.
    pub(super) fn seat_doubted(&mut self, channel: &str, key: &SubscriptionKey, member: &Member) {
        if let Some(taken) = self.taken(channel, &seat_of(key, member)) {
            taken.sure_since = None;
        }
    }

    /// From now on nobody knows which channels and subscriptions there are, of all that somebody ever asked for.
    pub(super) fn all_doubted(&mut self) {
        self.there.clear();
        self.seats
            .values_mut()
            .flat_map(BTreeMap::values_mut)
            .for_each(|taken| *taken = Taken::default());
    }

    pub(super) fn seat_gone(
        &mut self,
        channel: &str,
        key: &SubscriptionKey,
        member: &Member,
        now: Monotonic,
    ) {
        if let Some(taken) = self.taken(channel, &seat_of(key, member)) {
            *taken = Taken { sure_since: None, gone_at: Some(now) };
        }
    }

    fn taken(&mut self, channel: &str, seat: &Seat) -> Option<&mut Taken> {
        self.seats.get_mut(channel)?.get_mut(seat)
    }

    /// Why the limit on a channel's subscriptions does not explain a refusal; none: it does.
    fn seat_has_room(
        &self,
        channel: &str,
        seat: &Seat,
        max: u64,
        sent_at: Monotonic,
    ) -> Option<String> {
        let seats = self.seats.get(channel)?;
        let was_sure = |taken: &Taken| taken.sure_since.is_some_and(|since| since < sent_at);
        if seats.get(seat).is_some_and(was_sure) {
            return Some("it exists".to_owned());
        }
        let may_be = |taken: &Taken| taken.gone_at.is_none_or(|at| at >= sent_at);
        let others = seats.iter().filter(|(other, taken)| *other != seat && may_be(taken)).count();
        // A durable group that all have left is there still, and counts.
        let durable_groups: BTreeSet<&SubscriptionKey> = seats
            .keys()
            .map(|(key, _)| key)
            .filter(|key| matches!(key, SubscriptionKey::Queue { is_durable: true, .. }))
            .collect();
        let has_member = |key: &SubscriptionKey| {
            seats.iter().any(|((of, _), taken)| of == key && was_sure(taken))
        };
        let left_behind = durable_groups.into_iter().filter(|key| !has_member(key)).count();
        let count = (others + left_behind) as u64;
        let has_room = max == 0 || count < max;
        has_room.then(|| format!("there are {count} others at most, {max} are allowed"))
    }
}

impl Model {
    /// The next process has no limits on who may come.
    pub(in crate::sim) fn admits_all(&mut self) {
        let next = self.life() + 1;
        self.admission.lifted_in.get_or_insert(next);
    }

    fn is_lifted(&self, life: u64) -> bool {
        self.admission.lifted_in.is_some_and(|lifted| life >= lifted)
    }

    /// A subscription exists, and its channel.
    pub(super) fn admitted(&mut self, index: GroupIndex, member: &Member, now: Monotonic) {
        let group = &self.groups[index];
        let max = self.limits.of(&group.channel).subscriptions_max;
        let seat = seat_of(&group.key, member);
        let seats = self.admission.seat_sure(&group.channel, seat, max, now);
        let channels = self.admission.channel_sure(&group.channel, &self.limits, now);
        if let Some(what) = seats.or(channels) {
            self.violated(what);
        }
    }

    /// A process refused a publish, since there were too many channels.
    pub(in crate::sim) fn publish_refused(&mut self, payload: &str, life: u64) {
        let publish =
            self.publishes.get_mut(payload).expect("only what was published is waited for");
        publish.is_refused = true;
        let (channel, sent_at) = (publish.channel.clone(), publish.sent_at);
        self.channel_refused(&channel, life, sent_at);
    }

    fn channel_refused(&mut self, channel: &str, life: u64, sent_at: Monotonic) {
        let max = if self.is_lifted(life) { 0 } else { self.limits.channels_max };
        if let Some(why) = self.admission.channel_has_room(channel, max, sent_at) {
            self.violated(format!("channel {channel} was refused as one too many: {why}"));
        }
    }

    /// A process refused a subscription for a limit, that of channels or that of the channel's subscriptions.
    pub(in crate::sim) fn subscribe_refused(
        &mut self,
        index: GroupIndex,
        member: &Member,
        is_channel: bool,
        (life, sent_at): (u64, Monotonic),
        now: Monotonic,
    ) {
        let group = &mut self.groups[index];
        group.members.remove(member);
        let (channel, key) = (group.channel.clone(), group.key.clone());
        if group.answered_at.is_none() && group.members.is_empty() {
            self.retire(index);
        }
        if is_channel {
            self.channel_refused(&channel, life, sent_at);
        } else {
            let max = self.limits.of(&channel).subscriptions_max;
            let max = if self.is_lifted(life) { 0 } else { max };
            let seat = seat_of(&key, member);
            if let Some(why) = self.admission.seat_has_room(&channel, &seat, max, sent_at) {
                let title = self.groups[index].title();
                self.violated(format!(
                    "channel {channel}: {title} was refused as one too many: {why}"
                ));
            }
        }
        self.admission.seat_gone(&channel, &key, member, now);
    }
}
