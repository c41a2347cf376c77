//! What can go wrong in the engine. The disk's fault is [`DiskError`]; a request that cannot be served is
//! [`RequestError`]; a store that cannot be opened is [`OpenError`].

use std::fmt;

use crate::types::{ChannelId, SegmentNumber, Sequence, ShardId};

/// A failed disk operation. `file` is relative to the data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiskError {
    /// There is no such file or directory.
    Absent {
        /// The file.
        file: String,
    },
    /// There is one already.
    Exists {
        /// The file.
        file: String,
    },
    /// No space left.
    Full {
        /// The file.
        file: String,
    },
    /// A write wrote less than asked.
    Short {
        /// The file.
        file: String,
        /// Bytes written.
        written: usize,
        /// Bytes asked for.
        wanted: usize,
    },
    /// Anything else the operating system says.
    Io {
        /// The file.
        file: String,
        /// The operation.
        what: &'static str,
        /// The operating system's words.
        reason: String,
    },
    /// The simulated machine crashed: nothing more happens.
    Off,
}

impl DiskError {
    /// What went wrong, without saying where: for those who need not know the names of a server's files.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Absent { .. } => "no such file".to_owned(),
            Self::Exists { .. } => "exists already".to_owned(),
            Self::Full { .. } => "no space left on the device".to_owned(),
            Self::Short { written, wanted, .. } => {
                format!("short write of {written} of {wanted} bytes")
            }
            Self::Io { what, reason, .. } => format!("{what}: {reason}"),
            Self::Off => "the simulated machine is off".to_owned(),
        }
    }
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent { file }
            | Self::Exists { file }
            | Self::Full { file }
            | Self::Short { file, .. }
            | Self::Io { file, .. } => write!(f, "{file}: {}", self.reason()),
            Self::Off => f.write_str(&self.reason()),
        }
    }
}

impl std::error::Error for DiskError {}

/// A request that the engine refuses; the texts for clients are the protocol's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The shard's log is finished by a failed write; it serves reads until a restart.
    #[error("the shard's log takes no more writes: {0}")]
    LogFinished(DiskError),
    /// No space for another segment; nothing was written.
    #[error("no space left on the device")]
    Full,
    /// The record is larger than a frame may be.
    #[error("message of {length_bytes} bytes is over the maximum of {max_bytes}")]
    TooLarge {
        /// Its size.
        length_bytes: usize,
        /// The bound.
        max_bytes: usize,
    },
    /// Another channel has this name in another case.
    #[error("channel {existing:?} exists in another case")]
    OtherCase {
        /// The existing channel's name.
        existing: String,
    },
    /// No further channel may be made.
    #[error("too many channels")]
    TooManyChannels,
    /// No further subscription on this channel.
    #[error("too many subscriptions per channel")]
    TooManySubscriptions,
    /// There is no such channel.
    #[error("unknown channel")]
    UnknownChannel,
    /// There is no such subscription.
    #[error("unknown subscription")]
    UnknownSubscription,
    /// The subscription belongs to another client, or the client is closed.
    #[error("unknown client")]
    UnknownClient,
    /// A durable of this client, channel and name is active.
    #[error("duplicate durable")]
    DuplicateDurable,
}

/// Why a store cannot be opened. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Another process serves this directory.
    #[error("{file}: the data directory is in use by another process")]
    InUse {
        /// The lock file.
        file: String,
    },
    /// The store belongs to another cluster.
    #[error("cluster ID {wanted:?} does not match recovered value of {found:?}")]
    OtherCluster {
        /// As configured.
        wanted: String,
        /// As stored.
        found: String,
    },
    /// The store was made with another number of shards, and `--shards` asks for a different one.
    #[error("the store has {found} shards, which are fixed; --shards {wanted} does not match")]
    OtherShards {
        /// As configured.
        wanted: u16,
        /// As stored.
        found: u16,
    },
    /// The directory holds something else, or a later format.
    #[error("{file}: not a Weirlog store of a version this program reads ({reason})")]
    Format {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
}

/// Damage found while reading: reported with channel and sequences, never served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The shard.
    pub shard: ShardId,
    /// The segment, where known.
    pub segment: SegmentNumber,
    /// The channel, where known; `ChannelId(0)` is state.
    pub channel: ChannelId,
    /// The channel's name, where known.
    pub name: String,
    /// First lost sequence.
    pub first: Sequence,
    /// Last lost sequence.
    pub last: Sequence,
    /// What was found.
    pub what: &'static str,
}

impl Damage {
    /// A checksum of a record that does not fit: see [`of_record`](Self::of_record).
    pub(crate) const BAD_RECORD: &str = "the record's checksum is wrong";

    /// A message whose record's checksum does not fit.
    pub(crate) fn of_record(
        shard: ShardId,
        segment: SegmentNumber,
        (channel, name): (ChannelId, String),
        sequence: Sequence,
    ) -> Self {
        let (first, last, what) = (sequence, sequence, Self::BAD_RECORD);
        Self { shard, segment, channel, name, first, last, what }
    }

    /// In a segment, of no message that is known; segment 0: of the shard.
    pub(crate) fn of_segment(shard: ShardId, segment: SegmentNumber, what: &'static str) -> Self {
        Self {
            shard,
            segment,
            channel: ChannelId(0),
            name: String::new(),
            first: Sequence(0),
            last: Sequence(0),
            what,
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {}", self.shard)?;
        if self.segment != SegmentNumber(0) {
            write!(f, ", segment {}", self.segment)?;
        }
        write!(f, ": {}", self.what)?;
        if self.name.is_empty() {
            return Ok(());
        }
        write!(f, ": channel {:?}, messages {} to {}", self.name, self.first, self.last)
    }
}
