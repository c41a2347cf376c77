//! Random operations against a model that knows obligations, not algorithms:
//!
//! - a group's new messages come in order, each to one member, none left out that was there;
//! - a new one comes only to a member with less in flight than it asked for;
//! - what was acked does not come again, what was not comes again within its wait, with the right
//!   count;
//! - a resumed durable gets its old messages first, in order;
//! - wherever the log is cut, it gives a state in which every message up to the position is pending
//!   or was acked; applied twice it gives the same.

mod calm;

use super::*;
use crate::record::SubscriptionState;

const WAITS_MS: [u64; 3] = [50, 200, 1_000];

/// A message that was sent and not acked.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    holder: Option<SubscriptionId>,
    count: u32,
    sent_at: Monotonic,
}

/// What is known of a group.
#[derive(Debug, Default)]
struct Track {
    members: BTreeMap<SubscriptionId, u32>,
    is_queue: bool,
    last_sent: u64,
    waiting: BTreeMap<u64, Waiting>,
    acked: BTreeSet<u64>,
    /// What a resumed durable must get before new ones.
    owed: BTreeSet<u64>,
}

type Fold = BTreeMap<SubscriptionId, SubscriptionState>;

/// The world and what is expected of it.
struct Model {
    world: World,
    random: fastrand::Rng,
    tracks: BTreeMap<u64, Track>,
    group_of: BTreeMap<SubscriptionId, u64>,
    started: BTreeSet<SubscriptionId>,
    groups: u64,
    /// Lengths of the journal between calls.
    boundaries: Vec<usize>,
    /// From which length on the journal does not contradict itself between calls: after it was cut
    /// within one, all positions must have been written again.
    consistent_from: Option<usize>,
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut world = World::new();
        world.log.channel(ORDERS);
        Self {
            world,
            random: fastrand::Rng::with_seed(seed),
            tracks: BTreeMap::new(),
            group_of: BTreeMap::new(),
            started: BTreeSet::new(),
            groups: 0,
            boundaries: vec![0],
            consistent_from: Some(0),
        }
    }

    fn is_gone(&self, sequence: u64) -> bool {
        let kept = &self.world.log.channels[&ORDERS];
        sequence < kept.first || kept.lost.contains(&sequence)
    }

    fn step(&mut self) {
        match self.random.u32(..100) {
            0..20 => {
                let count = self.random.usize(1..5);
                self.world.publish(count);
            }
            20..30 => self.subscribe(),
            30..35 => self.activate(),
            35..55 => self.ack(),
            55..58 => self.end(),
            58 => self.end_client(),
            59..70 => {
                let ms = self.random.u64(..120);
                let end = self.world.now.mono.after_ms(ms);
                self.world.set_time(end);
                self.world.subscriptions.tick(self.world.now);
            }
            70..84 => self.dispatch(),
            84..88 => self.change_room(),
            88..92 => self.change_log(),
            92..94 => {
                let (client, is_responsive) = (self.random.u64(1..5), self.random.bool());
                self.world.subscriptions.set_client_responsive(key(client), is_responsive);
            }
            94..99 => self.log_positions(),
            _ => {
                if self.random.u32(..4) == 0 {
                    self.crash();
                } else {
                    self.calm();
                }
            }
        }
        self.boundaries.push(self.world.records.0.len());
    }

    fn subscribe(&mut self) {
        let client = self.random.u64(1..5);
        let mut request = match self.random.u32(..5) {
            0 => plain(client),
            1 | 2 => durable(client),
            3 => queue(client, false),
            _ => queue(client, true),
        };
        request.in_flight_max = self.random.u32(1..7);
        request.ack_wait_ms = WAITS_MS[self.random.usize(..WAITS_MS.len())];
        request.replaces_durable = self.random.bool();
        let start_after = self.random.u64(..=self.world.log.last(ORDERS));
        let would_resume = self.world.subscriptions.would_resume(&request, ORDERS);
        let before = self.world.subscriptions.len();
        let id = match self.world.try_subscribe(&request, start_after, 12) {
            Ok(id) => id,
            Err(RequestError::TooManySubscriptions) => return assert!(before >= 12),
            Err(error) => {
                assert_eq!(error, RequestError::DuplicateDurable);
                return assert!(would_resume && !request.replaces_durable);
            }
        };
        let view = self.world.subscriptions.view(id).unwrap();
        assert_eq!(view.client, request.client);
        self.started.remove(&id);
        self.world.inbox.room.remove(&id);
        let is_queue = matches!(request.kind, SubscriptionKind::Queue { .. });
        if self.world.subscriptions.len() == before {
            let track = self.tracks.get_mut(&self.group_of[&id]).expect("what resumes was there");
            assert!(would_resume, "only what was there resumes");
            track.members.insert(id, request.in_flight_max);
            return;
        }
        let group = if would_resume {
            let last_sent = view.last_sent.0;
            let same = |member: &SubscriptionId| {
                let other = self.world.subscriptions.view(*member);
                other.is_some_and(|other| *other.kind == request.kind)
            };
            let found = self.group_of.iter().find(|(member, _)| **member != id && same(member));
            let group = *found.expect("the group has another member").1;
            let mut jumped = self.tracks[&group].last_sent + 1..=last_sent;
            assert!(jumped.all(|sequence| self.is_gone(sequence)), "a member joins where it is");
            group
        } else {
            self.groups += 1;
            let track = Track { is_queue, last_sent: start_after, ..Track::default() };
            self.tracks.insert(self.groups, track);
            self.groups
        };
        self.group_of.insert(id, group);
        let track = self.tracks.get_mut(&group).expect("it was just found or made");
        track.members.insert(id, request.in_flight_max);
    }

    fn activate(&mut self) {
        let all: Vec<_> = self.group_of.keys().copied().collect();
        for id in all {
            let is_active = self.world.subscriptions.view(id).is_some_and(|view| view.is_active);
            if !is_active || self.started.contains(&id) || self.random.u32(..3) == 0 {
                continue;
            }
            self.world.subscriptions.activate(id);
            self.started.insert(id);
            let track = self.tracks.get_mut(&self.group_of[&id]).expect("its group is known");
            if !track.is_queue {
                track.owed = track.waiting.keys().copied().collect();
            }
        }
    }

    fn ack(&mut self) {
        for _ in 0..self.random.u32(1..8) {
            let groups: Vec<_> = self.tracks.keys().copied().collect();
            let Some(&group) = self.random.choice(&groups) else { return };
            let track = &self.tracks[&group];
            let members: Vec<_> = track.members.keys().copied().collect();
            let (Some(&id), Some(&sequence)) =
                (self.random.choice(&members), track.waiting.keys().next_back())
            else {
                continue;
            };
            let sequence = self.random.u64(sequence.saturating_sub(8)..=sequence + 1);
            let was_acked = self.world.ack(id, sequence);
            let is_active = self.world.subscriptions.view(id).unwrap().is_active;
            let is_gone = self.is_gone(sequence);
            let track = self.tracks.get_mut(&group).expect("it was just there");
            let was_waiting = track.waiting.contains_key(&sequence);
            assert!(!was_acked || was_waiting, "{sequence} was acked, but did not wait");
            assert!(!was_acked || is_active, "an ack with a token of old");
            assert!(was_acked || !was_waiting || !is_active || is_gone, "{sequence} waited");
            if is_active {
                track.waiting.remove(&sequence);
                track.owed.remove(&sequence);
            }
            if was_acked {
                track.acked.insert(sequence);
            }
        }
    }

    fn end(&mut self) {
        let ids: Vec<_> = self.group_of.keys().copied().collect();
        let Some(&id) = self.random.choice(&ids) else { return };
        if !self.world.subscriptions.view(id).unwrap().is_active {
            return;
        }
        let is_close = self.random.bool();
        let how = if is_close { SubscriptionEnd::Close } else { SubscriptionEnd::Remove };
        self.world.end(id, how);
        self.forget(id);
    }

    fn end_client(&mut self) {
        let client = self.random.u64(1..5);
        let subscriptions = &self.world.subscriptions;
        let ids: Vec<_> = subscriptions.of_client(key(client)).map(|view| view.id).collect();
        assert_eq!(self.world.end_client(client), ids.len());
        for id in ids {
            self.forget(id);
        }
    }

    /// A subscription ended: it is gone, or nobody listens.
    fn forget(&mut self, id: SubscriptionId) {
        self.started.remove(&id);
        let group = self.group_of[&id];
        let track = self.tracks.get_mut(&group).expect("its group is known");
        for waiting in track.waiting.values_mut().filter(|waiting| waiting.holder == Some(id)) {
            waiting.holder = None;
        }
        track.owed.clear();
        if self.world.subscriptions.view(id).is_none() {
            self.group_of.remove(&id);
            track.members.remove(&id);
            if track.members.is_empty() {
                self.tracks.remove(&group);
            }
        }
    }

    fn dispatch(&mut self) {
        let World { subscriptions, log, inbox, now, .. } = &mut self.world;
        let budget = self.random.usize(..40);
        let dispatched = subscriptions.dispatch(*now, log, inbox, budget);
        assert!(dispatched == Dispatched::Idle || subscriptions.has_ready());
        self.check_sent();
    }

    /// Looks at each delivery since the last call.
    fn check_sent(&mut self) {
        for sent in std::mem::take(&mut self.world.inbox.sent) {
            assert!(self.started.contains(&sent.to), "{sent:?}: nobody listens");
            assert!(!self.is_gone(sent.sequence), "{sent:?}: gone");
            let group = self.group_of[&sent.to];
            let last_sent = self.tracks[&group].last_sent;
            let between: Vec<_> = (last_sent + 1..sent.sequence).collect();
            let are_gone = between.iter().all(|sequence| self.is_gone(*sequence));
            let gone: BTreeSet<_> = {
                let owed = self.tracks[&group].owed.iter().copied();
                owed.filter(|sequence| self.is_gone(*sequence)).collect()
            };
            let waiting = self.tracks[&group].waiting.iter();
            let held = waiting.filter(|(_, waiting)| waiting.holder == Some(sent.to));
            let in_flight = held.filter(|(sequence, _)| !self.is_gone(**sequence)).count();
            let track = self.tracks.get_mut(&group).expect("its group is known");
            track.owed.retain(|sequence| !gone.contains(sequence));
            let sent_at = self.world.now.mono;
            let holder = Some(sent.to);
            let count = sent.redelivery_count;
            if count == 0 {
                assert!(sent.sequence > last_sent, "{sent:?}: out of order, after {last_sent}");
                assert!(are_gone, "{sent:?}: messages after {last_sent} left out");
                assert!(in_flight < track.members[&sent.to] as usize, "{sent:?}: over the limit");
                assert!(track.owed.is_empty(), "{sent:?}: new before {:?}", track.owed);
                track.last_sent = sent.sequence;
            } else {
                let waiting = track.waiting.get(&sent.sequence);
                let waiting = waiting.unwrap_or_else(|| panic!("{sent:?}: did not wait"));
                assert_eq!(count, waiting.count + 1, "{sent:?}");
                if let Some(first) = track.owed.first() {
                    assert_eq!(*first, sent.sequence, "{sent:?}: old ones come in order");
                    track.owed.pop_first();
                }
            }
            track.waiting.insert(sent.sequence, Waiting { holder, count, sent_at });
        }
    }

    fn change_room(&mut self) {
        if self.random.bool() {
            self.world.inbox.room.clear();
            for id in std::mem::take(&mut self.world.inbox.refused) {
                self.world.subscriptions.resume(id);
            }
        } else {
            let ids: Vec<_> = self.group_of.keys().copied().collect();
            if let Some(id) = self.random.choice(&ids) {
                self.world.inbox.room.insert(*id, self.random.usize(..3));
            }
        }
    }

    fn change_log(&mut self) {
        let last = self.world.log.last(ORDERS);
        let sequence = self.random.u64(last.saturating_sub(10)..=last).max(1);
        let kept = self.world.log.channel(ORDERS);
        match self.random.u32(..8) {
            0 => kept.first = kept.first.max(sequence.saturating_sub(8)),
            1 => drop(kept.lost.insert(sequence)),
            2..5 => drop(kept.unread.insert(sequence)),
            _ => {
                kept.unread.clear();
                self.world.subscriptions.channel_ready(ORDERS);
            }
        }
    }

    fn log_positions(&mut self) {
        let is_all = self.random.bool();
        let scope = if is_all { PositionScope::All } else { PositionScope::Durable };
        self.world.subscriptions.log_positions(scope, &mut self.world.records);
        assert_eq!(self.world.subscriptions.positions_dirty_since(), None);
        if is_all {
            let fold = fold(&self.world.records.0);
            self.check_fold(&fold, true);
            self.consistent_from.get_or_insert(self.world.records.0.len());
        }
    }

    /// What the log says of each group: nothing is missing, and if all positions were just written
    /// nothing is of old.
    fn check_fold(&self, fold: &Fold, is_current: bool) {
        let mut groups: BTreeMap<u64, Vec<&SubscriptionState>> = BTreeMap::new();
        for (id, state) in fold {
            // A member that has left since belonged to the group of those that have not.
            let mut others = fold.iter().filter(|(_, other)| is_together(state, other));
            let known = others.find_map(|(other, _)| self.group_of.get(other));
            if let Some(group) = self.group_of.get(id).or(known) {
                groups.entry(*group).or_default().push(state);
            }
        }
        for (group, states) in groups {
            let track = &self.tracks[&group];
            let last_sent = states.iter().map(|state| state.position.last_sent.0).max().unwrap();
            let mut pending = BTreeMap::new();
            for run in states.iter().flat_map(|state| &state.position.pending) {
                for sequence in run.first.0..run.first.0 + u64::from(run.count) {
                    let twice = pending.insert(sequence, run.redelivery_count);
                    assert_eq!(twice, None, "{sequence} is at two members");
                }
            }
            let is_there = |sequence: &u64| !self.is_gone(*sequence);
            for sequence in track.waiting.keys().filter(|sequence| is_there(sequence)) {
                let is_sent = *sequence <= last_sent;
                assert!(!is_sent || pending.contains_key(sequence), "{sequence} is in no position");
            }
            if is_current {
                for (sequence, count) in pending.iter().filter(|(sequence, _)| is_there(sequence)) {
                    let waiting = track.waiting.get(sequence);
                    assert_eq!(waiting.map(|waiting| waiting.count), Some(*count), "{sequence}");
                }
                assert!(last_sent >= track.last_sent, "how far the group is was written");
            }
        }
    }

    /// Starts again from the log as it is, or cut a little before its end.
    fn crash(&mut self) {
        let records = &self.world.records.0;
        for _ in 0..4 {
            let cut = self.random.usize(records.len().saturating_sub(200)..=records.len());
            self.check_fold(&recover(&records[..cut], 1), false);
        }
        let is_between_calls = self.random.bool();
        let cut = if is_between_calls {
            let recent = self.boundaries.len().saturating_sub(6);
            self.boundaries[self.random.usize(recent..self.boundaries.len())]
        } else {
            self.random.usize(records.len().saturating_sub(20)..=records.len())
        };
        let states = recover(&records[..cut], 1);
        assert_eq!(recover(&records[..cut], 2), states);
        let is_consistent = self.consistent_from.is_some_and(|from| from <= cut);
        if is_between_calls && is_consistent {
            let found = states.iter().map(|(id, state)| (id, &state.position.pending));
            let fold = fold(&records[..cut]);
            assert!(found.eq(fold.iter().map(|(id, state)| (id, &state.position.pending))));
        }
        if !(is_between_calls && is_consistent) {
            self.consistent_from = None;
        }
        self.world.restart(cut);
        self.boundaries.retain(|length| *length <= cut);
        self.check_fold(&states, false);
        self.tracks.clear();
        self.group_of.clear();
        self.started.clear();
        let mut known: Vec<(SubscriptionState, u64)> = Vec::new();
        for (id, state) in states {
            let view = self.world.subscriptions.view(id).expect("what the log has is there");
            let group =
                known.iter().find(|(other, _)| is_together(&state, other)).map(|(_, group)| *group);
            let group = group.unwrap_or_else(|| {
                self.groups += 1;
                self.groups
            });
            let track = self.tracks.entry(group).or_default();
            track.is_queue = matches!(state.kind, SubscriptionKind::Queue { .. });
            track.last_sent = view.last_sent.0;
            track.members.insert(id, state.in_flight_max);
            for run in &state.position.pending {
                for sequence in run.first.0..run.first.0 + u64::from(run.count) {
                    let holder = Some(id);
                    let (count, sent_at) = (run.redelivery_count, self.world.now.mono);
                    track.waiting.insert(sequence, Waiting { holder, count, sent_at });
                }
            }
            self.group_of.insert(id, group);
            if state.is_active {
                self.started.insert(id);
            }
            known.push((state, group));
        }
    }
}

/// Whether both are members of one queue group.
fn is_together(one: &SubscriptionState, other: &SubscriptionState) -> bool {
    matches!(one.kind, SubscriptionKind::Queue { .. }) && one.kind == other.kind
}

/// The log's records, read without any of the code that is tested.
fn fold(records: &[StateRecord]) -> Fold {
    let mut states = Fold::new();
    for record in records {
        match record {
            StateRecord::Subscription(state) => {
                states.insert(state.position.id, state.clone());
            }
            StateRecord::SubscriptionRemoved(id) => {
                states.remove(id);
            }
            StateRecord::Position(position) => {
                let state = states.get_mut(&position.id).expect("only what exists moves");
                state.position = position.clone();
            }
            other => panic!("{other:?} is none of ours"),
        }
    }
    states
}

/// What a restart makes of the records.
fn recover(records: &[StateRecord], times: usize) -> Fold {
    let mut recovering = Recovering::default();
    for _ in 0..times {
        records.iter().for_each(|record| recovering.apply(record));
    }
    let mut found = Vec::new();
    recovering.finish().snapshot(|record| found.push(record));
    fold(&found)
}

#[test]
fn random_operations_meet_the_obligations() {
    for seed in 0..300 {
        println!("seed {seed}");
        let mut model = Model::new(seed);
        for _ in 0..1_000 {
            model.step();
        }
        model.calm();
    }
}
