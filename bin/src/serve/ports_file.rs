//! The file that tells others where clients connect: `weirlog_<process id>.ports` in a directory of their choice, there
//! from the moment that clients can come in until the server ends. With `-p -1` tests find the port in it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::error::ServeError;

/// A file to be written when the server listens.
pub(super) struct PortsFile {
    path: Option<PathBuf>,
    content: String,
    is_written: bool,
}

impl PortsFile {
    /// A file in `directory`, if there is one; with no address clients are those of other servers. `pages`: where
    /// monitoring is served.
    pub(super) fn new(
        directory: Option<&Path>,
        address: Option<SocketAddr>,
        pages: &[String],
    ) -> Self {
        let name = format!("weirlog_{}.ports", std::process::id());
        let urls: Vec<String> = address.iter().map(|address| format!("nats://{address}")).collect();
        let mut content = serde_json::json!({ "nats": urls });
        if !pages.is_empty() {
            content["monitoring"] = pages.into();
        }
        Self {
            path: directory.map(|directory| directory.join(name)),
            content: content.to_string(),
            is_written: false,
        }
    }

    /// Writes it under another name first, so that whoever waits for it never reads a part.
    pub(super) fn write(&mut self) -> Result<(), ServeError> {
        let Some(path) = &self.path else { return Ok(()) };
        let draft = path.with_extension("ports.new");
        let written =
            std::fs::write(&draft, &self.content).and_then(|()| std::fs::rename(&draft, path));
        self.is_written = written.is_ok();
        written
            .map_err(|error| ServeError::PidFile { path: path.clone(), reason: error.to_string() })
    }
}

impl Drop for PortsFile {
    fn drop(&mut self) {
        if let Some(path) = self.path.as_ref().filter(|_| self.is_written) {
            // It may be gone.
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_there_from_the_start_to_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(format!("weirlog_{}.ports", std::process::id()));
        let address = SocketAddr::from(([127, 0, 0, 1], 4333));
        let pages = ["http://127.0.0.1:8222".to_owned()];
        let mut file = PortsFile::new(Some(directory.path()), Some(address), &pages);
        assert!(!path.exists());
        file.write().unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "{\"monitoring\":[\"http://127.0.0.1:8222\"],\"nats\":[\"nats://127.0.0.1:4333\"]}"
        );
        drop(file);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        PortsFile::new(None, None, &[]).write().unwrap();
        assert!(PortsFile::new(Some(&path), None, &[]).write().is_err());
    }
}
