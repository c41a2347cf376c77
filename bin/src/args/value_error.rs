//! Why the value of a flag was refused.

use std::fmt;

use weirlog_net::sim::FaultKind;

/// Why a value was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) enum ValueError {
    /// Not one of Go's spellings of true and false.
    NotASwitch,
    /// Not an integer.
    NotANumber,
    /// Not an integer with an optional suffix.
    NotASize,
    /// Not a Go duration.
    NotADuration,
    /// Right in form, but no machine word holds it.
    TooLarge,
    /// Outside of what this flag allows.
    OutOfRange {
        /// The least value.
        min: u64,
        /// The greatest value.
        max: u64,
    },
    /// A limit below 0.
    NegativeLimit,
    /// A time that must be above 0.
    NotPositive,
    /// Neither file nor memory.
    UnknownStore,
    /// The SQL store of the reference.
    SqlStore,
    /// Not a word that can stand in a subject.
    NotASubjectPart,
    /// Not a channel's name or a pattern of some.
    NotAChannel,
    /// Empty, or with blanks, where a name is wanted.
    NotAName,
    /// Not the URL of a NATS server.
    NotAServer,
    /// Not a place where subscriptions can start.
    NotAPlace,
    /// Neither text nor json.
    UnknownLogFormat,
    /// Not the URL of a syslog daemon.
    NotASyslog,
    /// A syslog daemon behind TCP.
    TcpSyslog,
    /// Not an order that is sent as a signal.
    UnknownSignal,
    /// Not a process that could be signalled.
    NotAProcess,
    /// Not kinds of the simulator's faults.
    UnknownFault,
    /// Not a list of what a simulated run did.
    UnknownDeed,
    /// Not valid UTF-8.
    NotUtf8,
    /// Nothing where something is needed.
    Empty,
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotASwitch => f.write_str("a switch is true or false"),
            Self::NotANumber => f.write_str("not a whole number"),
            Self::NotASize => f.write_str("not a size (such as 1048576, 64kb, 1mb)"),
            Self::NotADuration => {
                f.write_str("not a duration (such as 100ms, 30s, 1m30s, 1.5h, 0)")
            }
            Self::TooLarge => f.write_str("too large"),
            Self::OutOfRange { min, max } => write!(f, "must be from {min} to {max}"),
            Self::NegativeLimit => f.write_str("limit cannot be negative"),
            Self::NotPositive => f.write_str("must be longer than 0"),
            Self::UnknownStore => f.write_str("unsupported store type, use file or memory"),
            Self::SqlStore => f.write_str("not available: SQL stores, use file or memory"),
            Self::NotASubjectPart => {
                f.write_str("must be a word that can stand in a subject: no blanks, no wildcards")
            }
            Self::NotAChannel => f.write_str("not a channel's name or pattern"),
            Self::NotAName => f.write_str("must be a name without blanks"),
            Self::NotAServer => f.write_str("not a server (such as nats://host:4222)"),
            Self::UnknownLogFormat => f.write_str("unknown form of log lines, use text or json"),
            Self::NotAPlace => f.write_str("not a place to start at, use new, first or spread"),
            Self::NotASyslog => f.write_str("not a syslog (such as udp://host:514)"),
            Self::TcpSyslog => {
                f.write_str("not available yet: syslog over TCP, use udp://host:port")
            }
            Self::UnknownSignal => {
                f.write_str("unknown order, use stop, quit, term, reopen, reload or ldm")
            }
            Self::NotAProcess => f.write_str("a process id is at least 1"),
            Self::UnknownDeed => f.write_str(
                "not a list of operations and faults (such as c0:3,kill:42@53210123,end@60000000)",
            ),
            Self::UnknownFault => {
                let names = FaultKind::ALL.map(FaultKind::name).join(", ");
                write!(f, "unknown fault, there are {names}")
            }
            Self::NotUtf8 => f.write_str("not valid UTF-8"),
            Self::Empty => f.write_str("must not be empty"),
        }
    }
}

impl std::error::Error for ValueError {}
