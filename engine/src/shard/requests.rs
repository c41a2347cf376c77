//! Clients and subscriptions: what is asked of a shard and answered once it is on disk.

use super::Shard;
use crate::channel::NameLookup;
use crate::disk::{Disk, DiskFile};
use crate::error::RequestError;
use crate::index::TimePlace;
use crate::index::frames::FrameNote;
use crate::index::runs::Run;
use crate::log::{Log, Need};
use crate::record::StateRecord;
use crate::request::{
    Answer, Client, ClientKey, StartAt, Subscribe, SubscriptionEnd, SubscriptionRef, Ticket,
};
use crate::subscriptions::{Admission, Journal};
use crate::types::{ChannelId, Now, Sequence, Timestamp};

/// A client or subscription, with a new channel's name, takes no more in the log.
const STATE_SIZE_BYTES: usize = 1 << 10;

/// Appends what the subscriptions change to the open batch.
pub(super) struct Journaled<'a, F: DiskFile> {
    pub log: &'a mut Log<F>,
}

impl<F: DiskFile> Journal for Journaled<'_, F> {
    fn append(&mut self, record: StateRecord) {
        self.log.push_state(&record, true);
    }
}

/// Where a start position leads to.
enum Start {
    After(Sequence),
    /// A read is under way; try again after it.
    Later,
}

impl<D: Disk> Shard<D> {
    /// Registers a client that is not registered. Answer: `ClientOpened`.
    pub fn open_client(
        &mut self,
        id: &str,
        connection_id: &[u8],
        about: &[u8],
        ticket: Ticket,
        _now: Now,
    ) {
        assert!(!self.clients.contains_key(id), "the front closes the old registration first");
        if let Err(refused) = self.check_room(STATE_SIZE_BYTES, Need::State) {
            self.answers.push((ticket, Answer::Refused(refused)));
            return;
        }
        self.last_incarnation += 1;
        let client = Client {
            key: ClientKey { home: self.id, incarnation: self.last_incarnation },
            id: id.to_owned(),
            connection_id: bytes::Bytes::copy_from_slice(connection_id),
            about: bytes::Bytes::copy_from_slice(about),
        };
        self.append(&StateRecord::ClientOpened(client.clone()));
        self.clients.insert(client.id.clone(), client.clone());
        self.answer_when_committed(ticket, Answer::ClientOpened(client));
    }

    /// Forgets a client. Answer: `Done`, or `Refused(UnknownClient)`.
    pub fn close_client(&mut self, client: ClientKey, ticket: Ticket, _now: Now) {
        if let Err(refused) = self.check_room(STATE_SIZE_BYTES, Need::State) {
            self.answers.push((ticket, Answer::Refused(refused)));
            return;
        }
        let id =
            self.clients.values().find(|known| known.key == client).map(|known| known.id.clone());
        let Some(id) = id else {
            self.answers.push((ticket, Answer::Refused(RequestError::UnknownClient)));
            return;
        };
        self.clients.remove(&id);
        self.append(&StateRecord::ClientClosed(client));
        self.answer_when_committed(ticket, Answer::Done);
    }

    /// Makes or resumes a subscription. Answer: `Subscribed` or `Refused`.
    pub fn subscribe(&mut self, request: Subscribe, ticket: Ticket, now: Now) {
        if let Err(refused) = self.try_subscribe(request, ticket, now) {
            self.answers.push((ticket, Answer::Refused(refused)));
        }
    }

    fn try_subscribe(
        &mut self,
        request: Subscribe,
        ticket: Ticket,
        now: Now,
    ) -> Result<(), RequestError> {
        self.check_room(STATE_SIZE_BYTES, Need::State)?;
        let channel = self.channel_for(&request.channel, now)?;
        let start = if self.subscriptions.would_resume(&request, channel) {
            Start::After(Sequence(0))
        } else {
            self.resolve(channel, request.start)
        };
        let Start::After(start) = start else {
            self.lookups.push((request, ticket));
            return Ok(());
        };
        let token = self.rng.u64(..);
        let limits = self.channels.get(channel).expect("just found or made").limits;
        let subscriptions_max = limits.subscriptions_max;
        let admission = Admission { channel, start_after: start, subscriptions_max, token };
        let mut journal = Journaled { log: &mut self.log };
        let id = self.subscriptions.subscribe(&request, admission, &mut journal)?;
        self.answer_when_committed(ticket, Answer::Subscribed { id, token });
        Ok(())
    }

    /// A read ended: starts that waited for one are tried again.
    pub(super) fn retry_lookups(&mut self, now: Now) {
        for (request, ticket) in std::mem::take(&mut self.lookups) {
            self.subscribe(request, ticket, now);
        }
    }

    /// The sequence behind which a subscription starts (spec stan.md, 2.4).
    fn resolve(&mut self, id: ChannelId, start: StartAt) -> Start {
        let channel = self.channels.get(id).expect("just found or made");
        let (first, last) = (channel.first, channel.last);
        Start::After(match start {
            StartAt::NewOnly => last,
            StartAt::LastReceived => last.previous(),
            StartAt::First => first.previous(),
            StartAt::Sequence(sequence) if sequence > last => last,
            StartAt::Sequence(sequence) => sequence.max(first).previous(),
            StartAt::Time(time) => return self.resolve_time(id, time),
        })
    }

    /// The index knows times of frames, in which those of other channels are too. So a run may turn out to be before
    /// `time` as a whole: then it is the next one, or one behind it.
    fn resolve_time(&mut self, id: ChannelId, time: Timestamp) -> Start {
        let channel = self.channels.get(id).expect("just found or made");
        let (mut from, last) = (channel.first, channel.last);
        loop {
            let channel = self.channels.get(id).expect("just found or made");
            let found = match channel.index.find_time(time, from, &self.frames) {
                TimePlace::None if channel.last_time < time => return Start::After(last),
                TimePlace::None => {
                    let unwritten = self.log.first_unwritten_since(id, time);
                    return Start::After(unwritten.map_or(last, |at| at.max(from).previous()));
                }
                TimePlace::Run(run, note) => Some((run, note)),
                TimePlace::Sealed(segment, end) => {
                    let Some(footer) = self.footers.get(segment) else {
                        self.reads.want(super::ReadKey::Footer(segment), id);
                        return Start::Later;
                    };
                    let found = footer.find_time(id, from, time);
                    from = if found.is_none() { end.next() } else { from };
                    found
                }
            };
            let Some((run, note)) = found else { continue };
            if note.first_time >= time {
                return Start::After(run.first.max(from).previous());
            }
            match self.count_before(id, (&run, &note), time) {
                None => return Start::Later,
                Some(early) if early < run.count => {
                    let start = Sequence(run.first.0 + u64::from(early)).previous();
                    return Start::After(start);
                }
                Some(_) => from = run.last().next(),
            }
        }
    }

    /// How many messages of the run are before `time`; `None`: its frame is read first.
    fn count_before(
        &mut self,
        id: ChannelId,
        (run, note): (&Run, &FrameNote),
        time: Timestamp,
    ) -> Option<u32> {
        let place = note.place();
        let Some(frame) = self.tail.get(place).or_else(|| self.history.get(place)) else {
            self.reads.want(super::ReadKey::Frame(place), id);
            return None;
        };
        let Some(record) = frame.record_of(id, run) else { return Some(run.count) };
        let is_early = |offset: &u32| {
            let sequence = Sequence(run.first.0 + u64::from(*offset));
            let message = frame.message(record + offset, id, sequence);
            message.is_none_or(|message| message.0 < time)
        };
        let early = (0..run.count).take_while(is_early).count();
        Some(u32::try_from(early).expect("of the run"))
    }

    /// Ends a subscription of `client`. Answer: `Done` or `Refused`.
    pub fn end_subscription(
        &mut self,
        channel: &str,
        subscription: &SubscriptionRef,
        client: ClientKey,
        how: SubscriptionEnd,
        ticket: Ticket,
        now: Now,
    ) {
        let room = self.check_room(STATE_SIZE_BYTES, Need::State);
        let result = match (room, self.channels.look_up(channel)) {
            (Err(refused), _) => Err(refused),
            (Ok(()), NameLookup::Found(id)) => {
                let mut journal = Journaled { log: &mut self.log };
                self.subscriptions.end(id, subscription, client, how, now.mono, &mut journal)
            }
            (Ok(()), _) => Err(RequestError::UnknownChannel),
        };
        match result {
            Ok(()) => self.answer_when_committed(ticket, Answer::Done),
            Err(refused) => self.answers.push((ticket, Answer::Refused(refused))),
        }
    }

    /// Closes all subscriptions of a client. Answer: `Done` (also if there were none).
    pub fn end_client_subscriptions(&mut self, client: ClientKey, ticket: Ticket, now: Now) {
        if let Some(failure) = self.failure() {
            self.answers.push((ticket, Answer::Refused(failure)));
            return;
        }
        let mut journal = Journaled { log: &mut self.log };
        self.subscriptions.end_client(client, now.mono, &mut journal);
        self.answer_when_committed(ticket, Answer::Done);
    }
}
