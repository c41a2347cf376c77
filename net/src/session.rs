//! One connection's state: what the client asked for in CONNECT, its subscriptions, what waits to be written to it,
//! and what it may not do for the moment. Decisions are made in `core/protocol`; nothing here looks anything up.

mod responses;
mod subscriptions;

pub use responses::Responses;
pub use subscriptions::{Counted, Leaving, Subscription, Subscriptions};

use bytes::Bytes;
use weirlog_engine::request::ClientKey;
use weirlog_engine::types::{Monotonic, Now, ShardId, SubscriptionId};

use crate::address::Address;
use crate::auth::{Identity, Login, Permissions};
use crate::buffered::{Buffered, Charge};
use crate::connection_count::CountedConnection;
use crate::detail::SentLines;
use crate::flow::Traffic;
use crate::ids::{ConnectionId, CoreId};
use crate::info::Connect;
use crate::link::{Credit, Marks};
use crate::outbox::Outbox;

/// Why a connection's input is not processed further, for the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Other cores have not yet applied what this connection sent before its PING.
    Barrier,
    /// Too much is published and not acked.
    Credit,
    /// The client of its last message is still being registered: see [`crate::partition`].
    Registration,
    /// Somebody it publishes to hardly keeps up.
    Crowded,
    /// Its password is being compared with a hash.
    Password,
}

/// How far the greeting went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Greeting {
    /// INFO is sent, no CONNECT came yet.
    First,
    /// CONNECT came, and no PING behind it yet.
    Introduced,
    /// A PONG was sent.
    Done,
}

/// One connection.
#[derive(Debug)]
pub struct Session {
    /// Its name on this core.
    pub id: ConnectionId,
    /// The number shown to the client.
    pub number: u64,
    /// The other end.
    pub address: Address,
    /// When it was opened.
    pub opened_at: Now,
    /// What was said on it.
    pub traffic: Traffic,
    /// Why this side closes it, as the client is told; none: the client closes it, or nothing is said.
    pub closing_text: Option<Box<str>>,
    /// What waits to be written.
    pub outbox: Outbox,
    /// What the front keeps of a message that came in part.
    pub received: Charge,
    /// The last CONNECT, or what holds without one.
    pub options: Connect,
    /// How far the greeting went.
    pub greeting: Greeting,
    /// Who it is, and so what it may do; none: it has yet to say so in CONNECT.
    pub identity: Option<Identity>,
    /// What it signs to say who it is; none: nothing.
    pub nonce: Option<String>,
    /// The CONNECT whose password is being compared.
    pub connecting: Option<Box<Connect>>,
    /// What it may answer, whatever else it may publish.
    pub responses: Responses,
    /// The names in its certificate, if they say who it is.
    pub certificate_names: Option<Vec<String>>,
    /// As whom it came in, if `identity` says that it did.
    pub login: Login,
    /// What it subscribed to.
    pub subscriptions: Subscriptions,
    /// What it caused to be sent to other cores.
    pub marks: Marks,
    /// Bytes sent to other cores since it last waited for them.
    pub routed_bytes: usize,
    /// Its place among the connections of all cores; none: of this server's own making.
    pub counted: Option<CountedConnection>,
    /// Published and not acked.
    pub unacked_bytes: usize,
    /// Why its input waits.
    pub stop: Option<Stop>,
    /// No more input is taken; the socket is closed when the outbox is empty, or now if `is_cut`.
    pub is_closing: bool,
    /// The socket is closed without sending what waits.
    pub is_cut: bool,
    /// Whether it stands on the core's list of connections to flush.
    pub is_flush_due: bool,
    /// When bytes came last.
    pub active_at: Monotonic,
    /// Pings of ours without answer.
    pub pings_out: u32,
    /// When the last ping without answer was sent.
    pub pinged_at: Option<Monotonic>,
    /// How long its last answer to a ping took, in nanoseconds; none: it has not answered one yet.
    pub round_trip_ns: Option<u64>,
    /// Whether a write deadline is set.
    pub has_write_deadline: bool,
    /// STAN subscriptions of shards on this core that wait for room in the outbox.
    pub paused: Vec<(ShardId, SubscriptionId)>,
    /// Credits of other cores that are kept back until there is room in the outbox.
    pub held_credits: Vec<(CoreId, Credit)>,
    /// For trace lines: how far what was sent is read.
    pub sent_lines: SentLines,
    /// Lookups of the last publish.
    pub publisher: Publisher,
}

/// What a publish needs to know, remembered from the last one: most publishers stay with one channel, one client and
/// one ack subject.
#[derive(Debug, Default)]
pub struct Publisher {
    /// The channel's name, if it is one.
    pub channel: String,
    /// Its shard.
    pub shard: ShardId,
    /// Whether it is known that publishing to it makes no channel out of its turn.
    pub is_channel_there: bool,
    /// The client or connection id that was looked up.
    pub client: Vec<u8>,
    /// Whether it was a connection id.
    pub is_connection_id: bool,
    /// What it led to.
    pub key: Option<ClientKey>,
    /// The registry's version at that time.
    pub registry_version: u64,
    /// The ack subject.
    pub reply: Vec<u8>,
    /// `MSG <reply> <sid> `; empty without an ack subject.
    pub ack_head: Bytes,
    /// Whether the only subscriber of the ack subject is a plain subscription of this connection.
    pub is_direct: bool,
    /// The interest's version at that time.
    pub interest_version: u64,
}

impl Session {
    /// What restricts it; none: nothing, or it has not said yet who it is and is asked before anything else.
    #[must_use]
    #[inline]
    pub fn permissions(&self) -> Option<&Permissions> {
        self.identity.as_ref()?.as_deref()
    }

    /// What it holds in memory.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.outbox.len() + self.received.bytes() + self.subscriptions.size_bytes()
    }

    /// A connection as it is after accept.
    #[must_use]
    pub fn new(
        id: ConnectionId,
        number: u64,
        address: Address,
        now: Now,
        buffered: &Buffered,
    ) -> Self {
        Self {
            id,
            number,
            address,
            opened_at: now,
            traffic: Traffic::default(),
            closing_text: None,
            outbox: Outbox::new(buffered),
            received: buffered.charge(),
            options: Connect::default(),
            greeting: Greeting::First,
            identity: Some(None),
            nonce: None,
            connecting: None,
            responses: Responses::default(),
            certificate_names: None,
            login: Login::default(),
            subscriptions: Subscriptions::new(buffered),
            marks: Marks::default(),
            routed_bytes: 0,
            counted: None,
            unacked_bytes: 0,
            stop: None,
            is_closing: false,
            is_cut: false,
            is_flush_due: false,
            active_at: now.mono,
            pings_out: 0,
            pinged_at: None,
            round_trip_ns: None,
            has_write_deadline: false,
            paused: Vec::new(),
            held_credits: Vec::new(),
            sent_lines: SentLines::default(),
            publisher: Publisher::default(),
        }
    }
}
