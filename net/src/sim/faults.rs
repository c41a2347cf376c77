//! What a run does to the server besides using it, by kind: each kind can be left out, so that a failing seed can be
//! made small.

use std::fmt;
use std::str::FromStr;

use fastrand::Rng;

/// A kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// Power fails: what was not durable is drawn.
    Power,
    /// The process is killed, the machine runs on.
    Kill,
    /// SIGTERM.
    Stop,
    /// Writes and syncs fail, once or until the disk is replaced.
    WriteErrors,
    /// Reads fail, once or until the server has been started anew.
    ReadErrors,
    /// There is no space, for a while.
    FullDisk,
    /// All that the disk does takes long, for a while.
    SlowDisk,
    /// The wall clock jumps, forth or back.
    Clock,
    /// Connections are cut; one side may learn of it long after the other.
    Cuts,
    /// All that is sent takes long, for a while.
    Lag,
    /// Clients read nothing for a while.
    Stalls,
    /// The number of cores is another at each start, and some starts ask first for another number of shards, which is
    /// refused.
    Cores,
    /// Channels have limits, and the store may have one on channels.
    Limits,
    /// Bytes change at rest, or are another place's, in one run of eight.
    Rot,
}

/// Some kinds of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultKinds(u16);

/// No kind of trouble has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no such fault: {0:?}")]
pub struct UnknownFault(String);

impl FaultKind {
    /// All, in the order of their bits.
    pub const ALL: [Self; 14] = [
        Self::Power,
        Self::Kill,
        Self::Stop,
        Self::WriteErrors,
        Self::ReadErrors,
        Self::FullDisk,
        Self::SlowDisk,
        Self::Clock,
        Self::Cuts,
        Self::Lag,
        Self::Stalls,
        Self::Cores,
        Self::Limits,
        Self::Rot,
    ];

    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Power => "power",
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::WriteErrors => "write-errors",
            Self::ReadErrors => "read-errors",
            Self::FullDisk => "full-disk",
            Self::SlowDisk => "slow-disk",
            Self::Clock => "clock",
            Self::Cuts => "cuts",
            Self::Lag => "lag",
            Self::Stalls => "stalls",
            Self::Cores => "cores",
            Self::Limits => "limits",
            Self::Rot => "rot",
        }
    }

    /// What the workload does, as a list of deeds names it.
    pub(super) fn deed(self) -> &'static str {
        match self {
            Self::Power => "power fails",
            Self::Kill => "the process is killed",
            Self::Stop => "the server is stopped",
            Self::WriteErrors => "writes fail for a while",
            Self::ReadErrors => "reads fail for a while",
            Self::FullDisk => "the disk is full for a while",
            Self::SlowDisk => "the disk is slow for a while",
            Self::Clock => "the wall clock jumps",
            Self::Cuts => "a connection is cut",
            Self::Lag => "the network is slow for a while",
            Self::Rot => "the server ends, and bytes change before it comes back",
            Self::Stalls | Self::Cores | Self::Limits => "nothing",
        }
    }

    /// How often the workload does it, in thousandths of its rounds; 0: it is no event of the workload.
    pub(super) fn per_mille(self) -> u32 {
        match self {
            // Few runs have it.
            Self::Rot => 80,
            Self::Cuts => 40,
            Self::Power => 30,
            Self::Kill => 20,
            Self::Stop | Self::WriteErrors | Self::FullDisk | Self::Clock => 10,
            Self::ReadErrors | Self::SlowDisk | Self::Lag => 6,
            Self::Stalls | Self::Cores | Self::Limits => 0,
        }
    }

    /// Its own source of chance: what one kind does changes nothing of what another draws.
    pub(super) fn rng(self, seed: u64) -> Rng {
        Rng::with_seed(seed ^ (0x9e37_79b9_7f4a_7c15_u64).rotate_left(self as u32))
    }

    fn bit(self) -> u16 {
        1 << self as u16
    }
}

impl FaultKinds {
    /// All of them.
    #[must_use]
    pub fn all() -> Self {
        Self(FaultKind::ALL.iter().fold(0, |bits, kind| bits | kind.bit()))
    }

    /// All but this one.
    #[must_use]
    pub fn without(self, kind: FaultKind) -> Self {
        Self(self.0 & !kind.bit())
    }

    /// Whether this one is among them.
    #[must_use]
    pub fn has(self, kind: FaultKind) -> bool {
        self.0 & kind.bit() != 0
    }

    /// The names of those that are left out, with commas; empty: none.
    #[must_use]
    pub fn left_out(self) -> String {
        let out = FaultKind::ALL.iter().filter(|kind| !self.has(**kind));
        out.map(|kind| kind.name()).collect::<Vec<_>>().join(",")
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for FaultKind {
    type Err = UnknownFault;

    fn from_str(text: &str) -> Result<Self, UnknownFault> {
        let known = Self::ALL.into_iter().find(|kind| kind.name() == text);
        known.ok_or_else(|| UnknownFault(text.to_owned()))
    }
}
