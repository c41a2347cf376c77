//! What the front is told at start, and the bounds of its queues, each with its reason.

use std::sync::Arc;

use crate::auth::Authorization;
use crate::connection_count::ConnectionCount;
use crate::detail::Details;
use crate::partition::Partition;
use crate::tls::TlsServer;

/// Bytes waiting for one connection above which deliveries of channel messages to it pause: history is read at the
/// pace of its reader. A megabyte keeps a fast link busy for some milliseconds.
pub const OUTBOX_SOFT_BYTES: usize = 1 << 20;
/// Below this the deliveries go on: half, so that a pause is worth its bookkeeping.
pub const OUTBOX_RESUME_BYTES: usize = OUTBOX_SOFT_BYTES / 2;
/// Bytes published over one connection and not yet acked, above which it is not read further.
pub const CONNECTION_UNACKED_BYTES_MAX: usize = 16 << 20;
/// The same for all connections of a core together.
pub const CORE_UNACKED_BYTES_MAX: usize = 64 << 20;
/// Bytes of core NATS messages on the way to other cores from one connection, above which it is not read further: some
/// hundred microseconds of work, so that the wait for word of it costs nothing beside.
pub const ROUTED_BYTES_MAX: usize = 1 << 20;
/// The same for all connections of a core together, as long as each has its least share.
pub const CORE_ROUTED_BYTES_MAX: usize = 64 << 20;
/// That least share: a read's worth.
pub const ROUTED_BYTES_MIN: usize = 64 << 10;
/// A connection that has more than three quarters of `pending_bytes_max` waiting holds those back that publish to it.
pub const CROWDED_QUARTERS: usize = 3;
/// How long such a publisher is not read: within what the reference takes for a read, 2 to 10 ms.
pub const CROWDED_PAUSE_MS: u64 = 5;
/// What a published message costs beside its payload: channel, ids, its place in a queue.
pub const PUBLISH_OVERHEAD_BYTES: usize = 64;
/// Bytes of deliveries on the way from one core to one connection of another.
pub const DELIVERY_WINDOW_BYTES: usize = 256 << 10;
/// The same while the connection behind a subscription is not known yet.
pub const DELIVERY_PROBE_BYTES: usize = 8 << 10;
/// A client that holds an id is asked whether it is still there; it has this long to answer.
pub const PROBE_TIMEOUT_MS: u64 = 500;
/// After a ping of a client that failed heartbeats the next heartbeat comes this soon.
pub const HEARTBEAT_NUDGE_MS: u64 = 1;
/// Subscribe, close and connect requests of one client id that wait for each other.
pub const CLIENT_QUEUE_MAX: usize = 64;

/// What the subject of connect requests begins with, unless told otherwise: what clients expect.
pub const DISCOVER_PREFIX_DEFAULT: &str = "_STAN.discover";

/// Settings of the front. Milliseconds and bytes, as the names say.
#[derive(Debug, Clone)]
pub struct NetConfig {
    /// Part of all STAN subjects.
    pub cluster_id: String,
    /// What the subject of connect requests begins with; the cluster ID follows after a dot.
    pub discover_prefix: String,
    /// Shown to clients.
    pub server_name: String,
    /// Shown to clients; new for each start.
    pub server_id: String,
    /// The address listened on, as INFO shows it.
    pub host: String,
    /// The port listened on, as INFO shows it.
    pub port: u16,
    /// Number of shards of the store.
    pub shard_count: u16,
    /// Channels at most; 0: no limit. The engine keeps it; here it only decides whether order matters.
    pub channels_max: u64,
    /// Headers and payload of one message at most.
    pub payload_size_bytes_max: usize,
    /// Arguments of one control line at most.
    pub control_line_bytes_max: usize,
    /// Bytes waiting for one connection, above which it is closed as a slow consumer.
    pub pending_bytes_max: usize,
    /// Bytes that all connections of a core hold in memory at most: messages that came in part, what waits to be sent,
    /// subscriptions. Above it the one that holds most is closed.
    pub buffered_bytes_max: usize,
    /// A write that makes no progress for this long closes the connection.
    pub write_deadline_ms: u64,
    /// Connections at most, over all cores; 0: no limit.
    pub connections_max: usize,
    /// The count of connections that the limit looks at: one for all cores.
    pub connections: ConnectionCount,
    /// Subscriptions of a connection at most; 0: no limit.
    pub subscriptions_max: usize,
    /// Whether messages may have headers.
    pub has_headers: bool,
    /// A new connection is pinged after this long, however busy it is, to measure its round trip; 0: it is not.
    pub first_ping_ms: u64,
    /// A connection that was silent for this long is pinged.
    pub ping_interval_ms: u64,
    /// Pings without answer, after which a connection is stale.
    pub ping_out_max: u32,
    /// From the first word of lame duck mode to the last closed connection.
    pub lame_duck_ms: u64,
    /// The part of it, at its start, in which clients may leave by themselves.
    pub lame_duck_grace_ms: u64,
    /// Time between two heartbeats to a STAN client.
    pub heartbeat_interval_ms: u64,
    /// How long a STAN client has for its answer.
    pub heartbeat_timeout_ms: u64,
    /// More failures than these in a row close the client.
    pub heartbeat_fail_count_max: u32,
    /// Whether clients are those of another NATS server: see [`crate::upstream`].
    pub has_upstream: bool,
    /// The channels of this server, if several share its cluster id.
    pub partition: Option<Arc<Partition>>,
    /// Whether a durable that is in use is taken over by its next subscriber.
    pub replaces_durable: bool,
    /// Debug and trace lines that are told.
    pub details: Details,
    /// Who may connect; none: everybody, for everything. Never changed, so all cores share it.
    pub authorization: Option<Arc<Authorization>>,
    /// TLS for clients; none: all are served in plain.
    pub tls: Option<Arc<TlsServer>>,
}

impl Default for NetConfig {
    fn default() -> Self {
        Self {
            cluster_id: "test-cluster".to_owned(),
            discover_prefix: DISCOVER_PREFIX_DEFAULT.to_owned(),
            server_name: "weirlog".to_owned(),
            server_id: "weirlog".to_owned(),
            host: "0.0.0.0".to_owned(),
            port: 4222,
            shard_count: 8,
            channels_max: 0,
            payload_size_bytes_max: 1 << 20,
            control_line_bytes_max: 4096,
            pending_bytes_max: 64 << 20,
            buffered_bytes_max: 512 << 20,
            write_deadline_ms: 10_000,
            connections_max: 65_536,
            connections: ConnectionCount::default(),
            subscriptions_max: 0,
            has_headers: true,
            first_ping_ms: 2_000,
            ping_interval_ms: 120_000,
            ping_out_max: 2,
            lame_duck_ms: 120_000,
            lame_duck_grace_ms: 10_000,
            heartbeat_interval_ms: 30_000,
            heartbeat_timeout_ms: 10_000,
            heartbeat_fail_count_max: 10,
            has_upstream: false,
            partition: None,
            replaces_durable: false,
            details: Details::default(),
            authorization: None,
            tls: None,
        }
    }
}
