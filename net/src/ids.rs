//! Names of the front's things: cores, connections, subscribers.

use std::fmt;

use weirlog_engine::types::ShardId;

/// An executor thread with its own connections and shards: from 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreId(pub u16);

impl CoreId {
    /// The core that runs `shard` when there are `core_count` cores.
    #[must_use]
    pub fn of_shard(shard: ShardId, core_count: usize) -> Self {
        let count = u16::try_from(core_count).expect("a core's number is a u16");
        assert!(count > 0);
        Self(shard.0 % count)
    }
}

impl fmt::Display for CoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A connection of one core: its slot there, and how often the slot was used before. A name of a closed connection
/// is never the name of a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    /// Index among the core's connections.
    pub slot: u32,
    /// Connections that had the slot before.
    pub generation: u32,
}

/// One subscription of one connection of this core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subscriber {
    /// The connection.
    pub connection: ConnectionId,
    /// Index among the connection's subscriptions.
    pub index: u32,
}
