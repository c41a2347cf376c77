//! The engine's words as types: what is a sequence can never be passed as a position.

use std::fmt;
use std::hash::BuildHasherDefault;

#[allow(clippy::disallowed_types, reason = "the hasher is fixed")]
/// A map with a fixed, fast hasher: the same insertions give the same order in each run.
pub type FastMap<K, V> =
    std::collections::hash_map::HashMap<K, V, BuildHasherDefault<rustc_hash::FxHasher>>;
#[allow(clippy::disallowed_types, reason = "the hasher is fixed")]
/// A set with the same hasher as [`FastMap`].
pub type FastSet<K> =
    std::collections::hash_set::HashSet<K, BuildHasherDefault<rustc_hash::FxHasher>>;

macro_rules! newtype {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

newtype!(
    /// The number of a message in its channel: from 1, +1 for each, never used twice. 0: none.
    Sequence(u64)
);
newtype!(
    /// A channel's number in its shard: from 1, never used twice. 0 is the shard's own state.
    ChannelId(u64)
);
newtype!(
    /// A shard of the store: from 0, below the shard count.
    ShardId(u16)
);
newtype!(
    /// A subscription's number in its shard: from 1, never used twice.
    SubscriptionId(u64)
);
newtype!(
    /// The number of a batch (a group commit) in its shard's log: from 1, +1 for each.
    Index(u64)
);
newtype!(
    /// The reign of a writer: +1 for each open of the log.
    Term(u32)
);
newtype!(
    /// A segment's number in its shard: from 1, +1 for each.
    SegmentNumber(u32)
);
newtype!(
    /// 64 random bits of a segment file's life, mixed into its checksums and never sent out.
    Generation(u64)
);
newtype!(
    /// A place in a segment file, in bytes from its start.
    Position(u64)
);
newtype!(
    /// Wall clock time in nanoseconds since 1970, as messages carry it.
    Timestamp(i64)
);
newtype!(
    /// Monotonic time in nanoseconds since some start: for timers, never stored.
    Monotonic(u64)
);

impl Sequence {
    /// The one after this.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The one before this; 0 stays 0.
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl Index {
    /// The one after this.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Monotonic {
    /// This time and `ms` milliseconds.
    #[must_use]
    pub fn after_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms.saturating_mul(1_000_000)))
    }

    /// Nanoseconds from `earlier` to this; 0 if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// What a publisher gives and every subscriber gets, unchanged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Content<'a> {
    /// The message itself.
    pub payload: &'a [u8],
    /// Where the publisher awaits an answer from subscribers; empty: nowhere. At most [`Content::REPLY_BYTES_MAX`].
    pub reply: &'a [u8],
}

impl Content<'_> {
    /// The longest reply that a record has room for.
    pub const REPLY_BYTES_MAX: usize = 4096;

    /// Payload and reply.
    #[must_use]
    pub fn len(&self) -> usize {
        self.payload.len() + self.reply.len()
    }

    /// Whether there is neither payload nor reply.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A payload alone.
impl<'a, T: AsRef<[u8]> + ?Sized> From<&'a T> for Content<'a> {
    fn from(payload: &'a T) -> Self {
        Self { payload: payload.as_ref(), reply: &[] }
    }
}

/// Both clocks, read once at the edge and passed down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Now {
    /// For what is stored or shown.
    pub wall: Timestamp,
    /// For what is waited for.
    pub mono: Monotonic,
}

/// Where a channel stands among those of its shard: leads to it without a search. A later channel may have the slot after
/// a deletion.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TableSlot(pub(crate) u32);

/// Limits of a channel; 0 is unlimited (spec stan.md, section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelLimits {
    /// Messages kept; the oldest go first.
    pub messages_max: u64,
    /// Bytes kept, by [`stored_size_bytes`]; the newest message is kept even if it is larger.
    pub bytes_max: u64,
    /// Milliseconds a message is kept.
    pub age_ms_max: u64,
    /// Subscriptions at once, offline durables included.
    pub subscriptions_max: u64,
    /// Milliseconds without active subscription and publish after which the channel is deleted.
    pub inactivity_ms_max: u64,
}

impl Default for ChannelLimits {
    fn default() -> Self {
        Self {
            messages_max: 1_000_000,
            bytes_max: 1_024_000_000,
            age_ms_max: 0,
            subscriptions_max: 1_000,
            inactivity_ms_max: 0,
        }
    }
}

/// What a message counts against `bytes_max`: its record on disk.
#[must_use]
pub fn stored_size_bytes(record_length: usize) -> u64 {
    record_length as u64
}
