//! `weirlog verify`: reads a store that no server has open, and tells what is not as it was written.

use std::fmt;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use weirlog_engine::disk::dma::{DmaDisk, GlommioRuntime};
use weirlog_engine::disk::lock::{DirectoryLock, holds_store, lock_directory};
use weirlog_engine::error::{Damage, OpenError};
use weirlog_engine::runtime::Runtime as _;
use weirlog_engine::verify::{Verified, verify};

use crate::executor;

/// Why a store could not be looked at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerifyError {
    /// There is nothing of ours.
    #[error("{0}: not a Weirlog store")]
    NoStore(String),
    /// A server has it, or could not open it either.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// io_uring or a thread cannot be had.
    #[error("cannot start an executor: {0}")]
    Executor(String),
    /// The findings could not be told.
    #[error("cannot write the findings: {0}")]
    Output(#[from] io::Error),
}

/// Tells what is in `directory`; fails if anything is not as it was written.
///
/// # Errors
/// See [`VerifyError`].
pub(crate) fn verify_directory(directory: &Path) -> Result<ExitCode, VerifyError> {
    let _lock = lock_store(directory)?;
    let root = directory.to_owned();
    let verified = executor::run("weirlog-verify", || async move {
        let disk = DmaDisk::new(&root).await?;
        verify(&disk, GlommioRuntime.now()).await
    });
    let verified = verified.map_err(VerifyError::Executor)??;
    write!(io::stdout().lock(), "{}", Findings(&verified))?;
    let is_whole = verified.damage.is_empty() && verified.missing == 0;
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Keeps servers from the store in `directory`.
///
/// # Errors
/// There is none, or a server has it.
pub(crate) fn lock_store(directory: &Path) -> Result<DirectoryLock, VerifyError> {
    // Before the lock, which would make a directory that is not there.
    if !holds_store(directory) {
        return Err(VerifyError::NoStore(directory.display().to_string()));
    }
    Ok(lock_directory(directory)?)
}

/// A line for each damage, and one for the whole.
pub(crate) struct Findings<'a>(pub(crate) &'a Verified);

impl fmt::Display for Findings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verified { info, channels, messages, missing, lost, cut_frames, damage } = self.0;
        for damage in joined(damage) {
            writeln!(f, "{damage}")?;
        }
        if *cut_frames > 0 {
            writeln!(f, "{cut_frames} batches behind the end were never acknowledged")?;
        }
        if *lost > 0 {
            writeln!(f, "{lost} messages were lost before this store was made by weirlog repair")?;
        }
        write!(f, "cluster {}, {} shards, ", info.cluster_id, info.shard_count)?;
        write!(f, "{channels} channels, {messages} messages: ")?;
        match (missing, damage.len()) {
            (0, 0) => writeln!(f, "all is as it was written"),
            (0, _) => writeln!(f, "no message is missing"),
            (missing, _) => writeln!(f, "{missing} messages are missing"),
        }
    }
}

/// The same damage of messages that follow each other as one.
fn joined(damage: &[Damage]) -> Vec<Damage> {
    let mut joined: Vec<Damage> = Vec::new();
    for damage in damage {
        match joined.last_mut() {
            Some(last)
                if !damage.name.is_empty()
                    && last.last.0.checked_add(1) == Some(damage.first.0)
                    && *damage
                        == (Damage { first: damage.first, last: damage.last, ..last.clone() }) =>
            {
                last.last = damage.last;
            }
            _ => joined.push(damage.clone()),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use weirlog_engine::types::{ChannelId, SegmentNumber, Sequence, ShardId};

    fn damage(name: &str, first: u64, last: u64) -> Damage {
        Damage {
            shard: ShardId(1),
            segment: SegmentNumber(2),
            channel: ChannelId(3),
            name: name.into(),
            first: Sequence(first),
            last: Sequence(last),
            what: "gone",
        }
    }

    #[test]
    fn neighbours_are_told_together() {
        let found = [damage("a", 1, 1), damage("a", 2, 4), damage("a", 6, 6), damage("b", 7, 7)];
        assert_eq!(joined(&found), [damage("a", 1, 4), damage("a", 6, 6), damage("b", 7, 7)]);
        let files = [damage("", 0, 0), damage("", 0, 0)];
        assert_eq!(joined(&files), files);
    }
}
