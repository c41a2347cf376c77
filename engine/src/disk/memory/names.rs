//! A tree of names in memory, with the errors that a file system gives. `T` is what a file's name leads to.

use std::collections::{BTreeMap, BTreeSet};

use crate::disk::{DirectoryEntry, DiskResult};
use crate::error::DiskError;

/// Names of files and directories. The root "" always exists.
#[derive(Clone)]
pub(crate) struct Names<T> {
    files: BTreeMap<String, T>,
    directories: BTreeSet<String>,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self { files: BTreeMap::new(), directories: BTreeSet::new() }
    }
}

impl<T: Clone> Names<T> {
    /// The file of this name.
    pub(crate) fn file(&self, path: &str) -> DiskResult<T> {
        if self.directories.contains(path) {
            return Err(refusal(path, "open", "is a directory"));
        }
        self.files.get(path).cloned().ok_or_else(|| absent(path))
    }

    /// Gives `file` a new name.
    pub(crate) fn insert(&mut self, path: &str, file: T) -> DiskResult<()> {
        self.check_free(path)?;
        self.put(path, file);
        Ok(())
    }

    /// The names in `directory`, sorted; `length_bytes` gives a file's.
    pub(crate) fn list(
        &self,
        directory: &str,
        length_bytes: impl Fn(&T) -> u64,
    ) -> DiskResult<Vec<DirectoryEntry>> {
        self.check_directory(directory)?;
        let entry = |path: &String, length_bytes: u64, is_directory: bool| {
            let (parent, name) = split(path);
            (parent == directory).then(|| DirectoryEntry {
                name: name.to_owned(),
                length_bytes,
                is_directory,
            })
        };
        let files = self.files.iter().filter_map(|(path, file)| {
            entry(path, 0, false)
                .map(|found| DirectoryEntry { length_bytes: length_bytes(file), ..found })
        });
        let directories = self.directories.iter().filter_map(|path| entry(path, 0, true));
        let mut entries: Vec<DirectoryEntry> = files.chain(directories).collect();
        entries.sort();
        Ok(entries)
    }

    /// Makes a directory; one that exists is fine.
    pub(crate) fn create_directory(&mut self, directory: &str) -> DiskResult<()> {
        if self.is_directory(directory) {
            return Ok(());
        }
        self.check_free(directory)?;
        self.put_directory(directory);
        Ok(())
    }

    /// Moves a file's name, over another file's if there is one.
    pub(crate) fn rename(&mut self, from: &str, to: &str) -> DiskResult<()> {
        let file = self.file(from)?;
        self.check_directory(split(to).0)?;
        if self.directories.contains(to) {
            return Err(refusal(to, "rename", "is a directory"));
        }
        self.take(from);
        self.put(to, file);
        Ok(())
    }

    /// Removes a file's name.
    pub(crate) fn remove(&mut self, path: &str) -> DiskResult<()> {
        self.file(path)?;
        self.take(path);
        Ok(())
    }

    /// Whether this directory exists, as an error if not.
    pub(crate) fn check_directory(&self, directory: &str) -> DiskResult<()> {
        if self.is_directory(directory) {
            return Ok(());
        }
        if self.files.contains_key(directory) {
            return Err(refusal(directory, "open", "not a directory"));
        }
        Err(absent(directory))
    }

    /// Whether this directory exists.
    pub(crate) fn is_directory(&self, directory: &str) -> bool {
        directory.is_empty() || self.directories.contains(directory)
    }

    /// Sets a name, whatever it was before.
    pub(crate) fn put(&mut self, path: &str, file: T) {
        assert_path(path);
        self.files.insert(path.to_owned(), file);
    }

    /// Sets a directory's name.
    pub(crate) fn put_directory(&mut self, directory: &str) {
        assert_path(directory);
        self.directories.insert(directory.to_owned());
    }

    /// Takes a file's name away, if it is there.
    pub(crate) fn take(&mut self, path: &str) -> Option<T> {
        self.files.remove(path)
    }

    /// All files with their paths, in order.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &T)> {
        self.files.iter().map(|(path, file)| (path.as_str(), file))
    }

    /// Whether any name leads to `file`.
    pub(crate) fn leads_to(&self, file: &T) -> bool
    where
        T: PartialEq,
    {
        self.files.values().any(|named| named == file)
    }

    fn check_free(&self, path: &str) -> DiskResult<()> {
        let is_taken = self.is_directory(path) || self.files.contains_key(path);
        if is_taken {
            return Err(DiskError::Exists { file: path.to_owned() });
        }
        self.check_directory(split(path).0).map_err(|error| match error {
            DiskError::Absent { .. } => absent(path),
            other => other,
        })
    }
}

/// The directory and the last part of a path.
pub(crate) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

fn absent(path: &str) -> DiskError {
    DiskError::Absent { file: path.to_owned() }
}

fn refusal(path: &str, what: &'static str, reason: &str) -> DiskError {
    DiskError::Io { file: path.to_owned(), what, reason: reason.to_owned() }
}

/// Paths come from the program, never from a client: a bad one is our fault.
fn assert_path(path: &str) {
    let is_good = path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    assert!(is_good, "path {path:?} leaves the disk's root");
}
