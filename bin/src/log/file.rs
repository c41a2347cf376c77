//! A log file: opened anew when it was moved away, and moved away by itself when it has become too long.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use weirlog_engine::types::Timestamp;

use super::line::time_of;

/// Readable by the group, as in the reference: log readers need not be the server's user.
const MODE: u32 = 0o640;

/// The file that lines are appended to.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    size_bytes: u64,
    /// Above this the file is moved away; 0: never.
    size_bytes_max: u64,
    zone: TimeZone,
}

impl LogFile {
    /// Opens the file, or makes it.
    pub(super) fn open(path: &Path, size_bytes_max: u64, zone: TimeZone) -> io::Result<Self> {
        let (file, size_bytes) = open(path)?;
        Ok(Self { path: path.to_owned(), file, size_bytes, size_bytes_max, zone })
    }

    /// Appends a line with one write. One that would make the file too long goes to a new file, and the old one's new
    /// name is returned.
    pub(super) fn write(&mut self, now: Timestamp, line: &str) -> io::Result<Option<PathBuf>> {
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        let is_full = self.size_bytes_max > 0
            && self.size_bytes > 0
            && self.size_bytes.saturating_add(length) > self.size_bytes_max;
        let moved = if is_full { Some(self.rotate(now)?) } else { None };
        self.file.write_all(line.as_bytes())?;
        self.size_bytes = self.size_bytes.saturating_add(length);
        Ok(moved)
    }

    /// Opens the file's path anew. If that fails the open file goes on.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        let (file, size_bytes) = open(&self.path)?;
        self.file = file;
        self.size_bytes = size_bytes;
        Ok(())
    }

    /// Moves the file to a name with the time, as the reference does.
    fn rotate(&mut self, now: Timestamp) -> io::Result<PathBuf> {
        let mut name = self.path.clone().into_os_string();
        name.push(time_of(now, &self.zone, ".%Y.%m.%d.%H.%M.%S.%9f"));
        let moved = PathBuf::from(name);
        std::fs::rename(&self.path, &moved)?;
        self.reopen()?;
        Ok(moved)
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().append(true).create(true).mode(MODE).open(path)?;
    let size_bytes = file.metadata()?.len();
    Ok((file, size_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_383_000_123_456_789);

    #[test]
    fn a_file_that_was_moved_away_is_opened_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        std::fs::write(&path, "before\n").unwrap();
        let mut file = LogFile::open(&path, 0, TimeZone::UTC).unwrap();
        file.write(NOW, "one\n").unwrap();
        let old = directory.path().join("old");
        std::fs::rename(&path, &old).unwrap();
        file.write(NOW, "two\n").unwrap();
        file.reopen().unwrap();
        file.write(NOW, "three\n").unwrap();
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "before\none\ntwo\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
    }

    #[test]
    fn a_full_file_makes_room_for_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut file = LogFile::open(&path, 8, TimeZone::UTC).unwrap();
        assert_eq!(file.write(NOW, "a line of more than 8\n").unwrap(), None);
        let moved = file.write(NOW, "two\n").unwrap().expect("the file is full");
        assert_eq!(moved, directory.path().join("log.2026.11.22.21.30.00.123456789"));
        assert_eq!(file.write(NOW, "3\n").unwrap(), None);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n3\n");
        assert_eq!(std::fs::read_to_string(&moved).unwrap(), "a line of more than 8\n");
    }
}
