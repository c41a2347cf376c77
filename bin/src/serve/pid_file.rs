//! The file that tells others the process id.

use std::io;
use std::path::{Path, PathBuf};

use super::error::ServeError;

/// The file that holds the process id while the server runs.
pub(super) struct PidFile {
    path: Option<PathBuf>,
}

impl PidFile {
    pub(super) fn write(path: Option<&Path>) -> Result<Self, ServeError> {
        if let Some(path) = path {
            let write =
                || -> io::Result<()> { std::fs::write(path, std::process::id().to_string()) };
            write().map_err(|error| ServeError::PidFile {
                path: path.to_owned(),
                reason: error.to_string(),
            })?;
        }
        Ok(Self { path: path.map(Path::to_owned) })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // It may be gone: whoever starts the server next writes a new one.
            let _ = std::fs::remove_file(path);
        }
    }
}
