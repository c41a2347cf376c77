//! What a run does by chance, as a list of deeds: operations of clients, and faults. A run notes them; one that is given
//! a script does only what stands there. Each deed has a source of chance of its own and its own time, so that leaving
//! one out changes nothing of what the others draw.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use fastrand::Rng;
use weirlog_engine::types::Monotonic;

use super::FaultKind;

/// One thing that a run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deed {
    /// Something that a client does in one of its turns.
    Operation {
        /// Which client.
        client: usize,
        /// In its how manyeth turn.
        turn: u64,
    },
    /// A fault.
    Fault {
        /// When, in microseconds of virtual time.
        at_us: u64,
        /// What.
        kind: FaultKind,
        /// In which round of the workload it was drawn.
        round: u64,
    },
}

/// Deeds, and when clients and faults stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    pub(super) deeds: BTreeSet<Deed>,
    pub(super) ends_at_us: u64,
}

/// Not a list of deeds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no such deed: {0:?}")]
pub struct UnknownDeed(String);

/// A deed as it was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    pub(super) at_us: u64,
    pub(super) deed: Deed,
    pub(super) text: String,
}

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// In order.
    pub(super) done: Vec<Done>,
    /// When clients and faults stopped, or before that the first promise was broken.
    pub(super) ended_at_us: u64,
}

impl History {
    /// How many deeds there were.
    #[must_use]
    pub fn deeds_count(&self) -> usize {
        self.done.len()
    }

    /// The script of all that was done.
    pub(super) fn script(&self) -> Script {
        let deeds = self.done.iter().map(|done| done.deed).collect();
        Script { deeds, ends_at_us: self.ended_at_us }
    }

    pub(super) fn note(&mut self, deed: Deed, now: Monotonic, text: String) {
        self.done.push(Done { at_us: now.0 / 1_000, deed, text });
    }
}

impl Script {
    pub(super) fn has(&self, deed: &Deed) -> bool {
        self.deeds.contains(deed)
    }

    /// Whether a client has anything to do.
    pub(super) fn has_client(&self, wanted: usize) -> bool {
        let of_client =
            |deed: &Deed| matches!(deed, Deed::Operation { client, .. } if *client == wanted);
        self.deeds.iter().any(of_client)
    }
}

/// A source of chance that follows from the seed and what it is for, and from nothing else.
pub(super) fn own_rng(seed: u64, purpose: u64) -> Rng {
    // Seeds that lie close together must not lead to numbers that do.
    let mut rng = Rng::with_seed(seed ^ purpose.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    rng.fork()
}

/// `c2:137` is client 2's turn 137, `kill:42@53210123` the kill that was drawn in round 42, at 53,210,123 us.
impl fmt::Display for Deed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operation { client, turn } => write!(formatter, "c{client}:{turn}"),
            Self::Fault { at_us, kind, round } => write!(formatter, "{kind}:{round}@{at_us}"),
        }
    }
}

impl FromStr for Deed {
    type Err = UnknownDeed;

    fn from_str(text: &str) -> Result<Self, UnknownDeed> {
        read_deed(text).ok_or_else(|| UnknownDeed(text.to_owned()))
    }
}

fn read_deed(text: &str) -> Option<Deed> {
    let (who, when) = text.split_once(':')?;
    if let Some((round, at)) = when.split_once('@') {
        let (kind, round, at_us) = (who.parse().ok()?, round.parse().ok()?, at.parse().ok()?);
        return Some(Deed::Fault { at_us, kind, round });
    }
    let client = who.strip_prefix('c')?.parse().ok()?;
    Some(Deed::Operation { client, turn: when.parse().ok()? })
}

/// The deeds with commas between them, and the end: `c0:3,kill:42@53210123,end@60000000`.
impl fmt::Display for Script {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for deed in &self.deeds {
            write!(formatter, "{deed},")?;
        }
        write!(formatter, "end@{}", self.ends_at_us)
    }
}

impl FromStr for Script {
    type Err = UnknownDeed;

    fn from_str(text: &str) -> Result<Self, UnknownDeed> {
        let unknown = || UnknownDeed(text.to_owned());
        let (deeds, end) = text.rsplit_once("end@").ok_or_else(unknown)?;
        let ends_at_us = end.parse().map_err(|_| unknown())?;
        let deeds = deeds.split_terminator(',').map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self { deeds, ends_at_us })
    }
}

/// A line a deed, with the milliseconds of virtual time.
impl fmt::Display for History {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Done { at_us, deed, text } in &self.done {
            let who = match deed {
                Deed::Operation { client, .. } => format!("c{client} "),
                Deed::Fault { .. } => String::new(),
            };
            writeln!(formatter, "{:>9}.{:03} ms  {who}{text}", at_us / 1_000, at_us % 1_000)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_read_as_it_is_written() {
        let text = "c0:3,c12:140,write-errors:42@53210123,end@60000000";
        let script: Script = text.parse().unwrap();
        assert_eq!(script.to_string(), text);
        assert!(script.has_client(12) && !script.has_client(1));
        for wrong in ["", "c0:3", "c0:3,end@", "d0:3,end@1", "rain:1@2,end@3", "c0,end@1"] {
            assert!(wrong.parse::<Script>().is_err(), "{wrong:?}");
        }
    }
}
