//! Several servers that share one cluster id over another NATS server, each with channels of its own (spec stan.md,
//! 7.3). All of them answer connects, pings and closes, and a client takes the first answer; what concerns a channel is
//! answered by the one that has it, and by nobody if none has.
//!
//! A server says at its start which channels it has; one that has some of them answers with a name, and the start fails.
//!
//! A client may publish here while its connect, answered by another server, is still on its way to this one's disk.
//! Such a message waits, and with it all that comes after it, for a second at most.

use std::collections::VecDeque;

use bytes::Bytes;
use weirlog_engine::disk::Disk;
use weirlog_engine::runtime::Runtime;
use weirlog_engine::types::{Monotonic, Now};

use crate::core::{Core, TimerEvent};
use crate::ids::ConnectionId;
use crate::session::Stop;
use crate::stan::TimerCall;
use crate::stan::connect::ConnectCall;
use crate::stan::wire::{CtrlMsg, PubMsg, SubscriptionRequest};
use crate::subject::{is_valid_channel_pattern, matches, overlap};

/// A client is registered within this after its connect came, or not at all.
const REGISTRATION_WAIT_MS: u64 = 1_000;
/// Connects that are remembered for so long; of more the oldest are forgotten, and their clients may have to try again.
const RECENT_CONNECTS_MAX: usize = 1_024;
/// `CtrlMsg.MsgType`: a list of channels.
const PARTITIONING: u32 = 4;

/// The channels that this server has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    channels: Vec<String>,
}

impl Partition {
    /// Of names and patterns.
    #[must_use]
    pub fn new(channels: Vec<String>) -> Self {
        assert!(
            channels.iter().all(|channel| is_valid_channel_pattern(channel)),
            "they are checked where they are read"
        );
        Self { channels }
    }

    /// The names and patterns.
    pub fn channels(&self) -> impl Iterator<Item = &str> {
        self.channels.iter().map(String::as_str)
    }

    fn serves(&self, channel: &str) -> bool {
        self.channels().any(|own| matches(own.as_bytes(), channel.as_bytes()))
    }

    /// What is sent to the other servers.
    fn announcement(&self, server_id: &str) -> Vec<u8> {
        let mut data = Vec::new();
        for channel in self.channels() {
            let length = u16::try_from(channel.len()).expect("names have 255 bytes at most");
            data.extend_from_slice(&length.to_le_bytes());
            data.extend_from_slice(channel.as_bytes());
        }
        let mut out = Vec::new();
        CtrlMsg { kind: PARTITIONING, server_id, data: &data }.encode(&mut out);
        out
    }

    /// The first of another server's channels that this one has, too. Nothing in what is no list.
    pub(crate) fn conflict<'a>(&self, data: &'a [u8]) -> Option<&'a str> {
        names(data).find(|name| {
            is_valid_channel_pattern(name)
                && self.channels().any(|own| overlap(own.as_bytes(), name.as_bytes()))
        })
    }
}

/// Each name with its length before it, up to the first that is cut off or no text.
fn names(mut data: &[u8]) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let (length, rest) = data.split_first_chunk::<2>()?;
        let (name, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        data = rest;
        std::str::from_utf8(name).ok()
    })
}

/// What waits for its client.
#[derive(Debug)]
struct Held {
    connection: ConnectionId,
    is_publish: bool,
    payload: Box<[u8]>,
    reply: Box<[u8]>,
}

#[derive(Debug)]
struct RecentConnect {
    client_id: String,
    connection_id: Bytes,
    until: Monotonic,
}

/// Connects that are on their way, and the messages that wait for one of them: at most one of a connection, which is
/// not read meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Registrations {
    recent: VecDeque<RecentConnect>,
    held: Vec<Held>,
}

impl<D: Disk, R: Runtime> Core<D, R> {
    /// Whether a channel is this server's.
    #[inline]
    pub(crate) fn serves_channel(&self, channel: &str) -> bool {
        self.hub.config.partition.as_ref().is_none_or(|partition| partition.serves(channel))
    }

    /// The announcement of this server's channels, and the subject for it; none: all channels are its own.
    pub(crate) fn partition_announcement(&self) -> Option<(String, Vec<u8>)> {
        let config = &self.hub.config;
        let partition = config.partition.as_ref()?;
        let subject = self.stan.subjects.partition.clone()?;
        Some((subject, partition.announcement(&config.server_id)))
    }

    /// Another server has said which channels it has: if one of them is here, it is told.
    pub(crate) fn on_partition_announced(&mut self, payload: &[u8], reply: &[u8]) {
        let config = &self.hub.config;
        let Ok(message) = CtrlMsg::decode(payload) else { return };
        if message.kind != PARTITIONING || message.server_id == config.server_id {
            return;
        }
        let conflict =
            config.partition.as_ref().and_then(|partition| partition.conflict(message.data));
        if let Some(name) = conflict.map(ToOwned::to_owned) {
            self.respond(reply, |out| out.extend_from_slice(name.as_bytes()));
        }
    }

    /// A connect is on its way to its client's home.
    pub(crate) fn note_connect(&mut self, call: &ConnectCall, now: Now) {
        if self.hub.config.partition.is_none() {
            return;
        }
        let recent = &mut self.registrations.recent;
        while recent.len() >= RECENT_CONNECTS_MAX
            || recent.front().is_some_and(|connect| connect.until <= now.mono)
        {
            recent.pop_front();
        }
        recent.push_back(RecentConnect {
            client_id: call.client_id.clone(),
            connection_id: call.connection_id.clone(),
            until: now.mono.after_ms(REGISTRATION_WAIT_MS),
        });
    }

    /// Keeps a publish, and its connection's input, if its client is still being registered. Whether it did.
    pub(crate) fn holds_publish(
        &mut self,
        id: ConnectionId,
        message: &PubMsg<'_>,
        (payload, reply): (&[u8], &[u8]),
        now: Now,
    ) -> bool {
        let registry = &self.hub.registry;
        let is_known = match message.conn_id {
            [] => registry.by_id(message.client_id).is_some(),
            connection_id => registry.by_connection(connection_id).is_some(),
        };
        let is_coming = |connect: &RecentConnect| match message.conn_id {
            [] => connect.client_id == message.client_id,
            connection_id => connect.connection_id == connection_id,
        };
        !is_known && self.holds(id, is_coming, (true, payload, reply), now)
    }

    /// The same for a subscription request.
    pub(crate) fn holds_subscription(
        &mut self,
        id: ConnectionId,
        request: &SubscriptionRequest<'_>,
        (payload, reply): (&[u8], &[u8]),
        now: Now,
    ) -> bool {
        let is_known = self.hub.registry.by_id(request.client_id).is_some();
        let is_coming = |connect: &RecentConnect| connect.client_id == request.client_id;
        !is_known && self.holds(id, is_coming, (false, payload, reply), now)
    }

    fn holds(
        &mut self,
        connection: ConnectionId,
        is_coming: impl Fn(&RecentConnect) -> bool,
        (is_publish, payload, reply): (bool, &[u8], &[u8]),
        now: Now,
    ) -> bool {
        let recent = self.registrations.recent.iter();
        let until = recent.filter(|connect| is_coming(connect)).map(|connect| connect.until).max();
        let Some(until) = until.filter(|until| now.mono < *until) else { return false };
        let Some(session) = self.hub.sessions.get_mut(connection) else { return false };
        session.stop = Some(Stop::Registration);
        let held = Held { connection, is_publish, payload: payload.into(), reply: reply.into() };
        self.registrations.held.push(held);
        let wait_ms = until.since(now.mono).div_ceil(1_000_000);
        self.hub.set_timer(now, wait_ms, TimerEvent::Stan(TimerCall::Registration));
        true
    }

    /// A client was registered, or its time is over: what was kept is tried again, and its connection read on.
    pub(crate) fn release_held(&mut self, now: Now) {
        for held in std::mem::take(&mut self.registrations.held) {
            let Held { connection, is_publish, payload, reply } = held;
            let Some(session) = self.hub.sessions.get_mut(connection) else { continue };
            assert!(
                session.stop == Some(Stop::Registration),
                "a kept message stops its connection"
            );
            session.stop = None;
            self.hub.wakes.push(connection);
            if is_publish {
                let reply = (!reply.is_empty()).then_some(&*reply);
                self.on_channel_message(connection, &payload, reply, now);
            } else {
                self.on_subscription_request(connection, &payload, &reply, now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(channels: &[&str]) -> Partition {
        Partition::new(channels.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn a_channel_of_both_is_named() {
        let own = partition(&["orders.*", "stock"]);
        for (other, expected) in [
            (&["bills", "orders.eu"][..], Some("orders.eu")),
            (&["orders.eu.1", "orders"], None),
            (&["*.eu"], Some("*.eu")),
            (&["stock"], Some("stock")),
            (&["*"], Some("*")),
        ] {
            let bytes = partition(other).announcement("other");
            let message = CtrlMsg::decode(&bytes).unwrap();
            assert_eq!((message.kind, message.server_id), (PARTITIONING, "other"));
            assert_eq!(own.conflict(message.data), expected, "{other:?}");
        }
        // Cut off anywhere: no more than what is whole.
        let bytes = b"\x05\x00stock\x05\x00sto";
        for end in 0..bytes.len() {
            assert_eq!(own.conflict(&bytes[..end]).is_some(), end >= 7);
        }
    }
}
