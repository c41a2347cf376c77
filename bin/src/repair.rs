//! `weirlog repair`: copies what can be read of a store that no server has open to a new directory.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use weirlog_engine::disk::dma::{DmaDisk, GlommioRuntime};
use weirlog_engine::error::OpenError;
use weirlog_engine::repair::{RepairError as EngineError, repair};
use weirlog_engine::storage::Tuning;

use crate::executor;
use crate::verify::{Findings, VerifyError, lock_store};

/// Why there is no new store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RepairError {
    /// Something is where the new store is to be, or where it is made.
    #[error("{0}: is there already")]
    Occupied(String),
    /// There is no store, or a server has it.
    #[error(transparent)]
    Store(#[from] VerifyError),
    /// It cannot be read at all, or the new one takes no more.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// io_uring or a thread cannot be had.
    #[error("cannot start an executor: {0}")]
    Executor(String),
    /// The new directory cannot be made or named.
    #[error("{path}: {reason}")]
    Directory {
        /// Which.
        path: String,
        /// What the system says.
        reason: io::Error,
    },
    /// The findings could not be told.
    #[error("cannot write the findings: {0}")]
    Output(io::Error),
}

/// Copies the store in `from` to `to`, which gets its name when all is in it and on disk.
///
/// # Errors
/// See [`RepairError`]. What was copied until then stays in the directory with `.unfinished` behind its name.
pub(crate) fn repair_directory(from: &Path, to: &Path) -> Result<ExitCode, RepairError> {
    let _lock = lock_store(from)?;
    let unfinished = unfinished(to);
    if let Some(path) = [to, unfinished.as_path()].into_iter().find(|path| path.exists()) {
        return Err(RepairError::Occupied(path.display().to_string()));
    }
    fs::create_dir(&unfinished).map_err(|reason| directory_error(&unfinished, reason))?;
    let roots = (from.to_owned(), unfinished.clone());
    let repaired = executor::run("weirlog-repair", || async move {
        let (source, target) = (DmaDisk::new(&roots.0).await, DmaDisk::new(&roots.1).await);
        let source = source.map_err(OpenError::from)?;
        let target = target.map_err(OpenError::from)?;
        repair(&source, &target, &GlommioRuntime, Tuning::default()).await
    });
    let repaired = repaired.map_err(RepairError::Executor)??;
    finish(&unfinished, to).map_err(|reason| directory_error(to, reason))?;
    let mut out = io::stdout().lock();
    write!(out, "{}", Findings(&repaired.verified)).map_err(RepairError::Output)?;
    let (messages, to) = (repaired.messages, to.display());
    writeln!(out, "{messages} messages copied to {to}").map_err(RepairError::Output)?;
    Ok(ExitCode::SUCCESS)
}

/// Where the new store is until it is whole.
fn unfinished(to: &Path) -> PathBuf {
    let mut name = OsString::from(to);
    name.push(".unfinished");
    name.into()
}

/// Gives the new store its name, for good.
fn finish(unfinished: &Path, to: &Path) -> io::Result<()> {
    fs::rename(unfinished, to)?;
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

fn directory_error(path: &Path, reason: io::Error) -> RepairError {
    RepairError::Directory { path: path.display().to_string(), reason }
}
