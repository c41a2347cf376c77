//! The lock on a data directory: one process serves it.
//!
//! It stands on an ordinary descriptor, and the holder's process id stands in the file. A server that was killed may
//! keep it for a while: its io_uring workers share the descriptors and end only when their writes have. So a lock held
//! by a live process is refused at once, and one held by a dead process is waited for.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use super::dma::{create_directory, from_io, sync_directory};
use crate::error::OpenError;

const LOCK_FILE: &str = "LOCK";
/// Stands in each file store of NATS Streaming (spec stan.md, 6.1).
const PREDECESSOR_FILE: &str = "server.dat";
/// How often the lock of a dead process is tried.
const RETRY_INTERVAL: Duration = Duration::from_millis(5);
/// Tries before it is told that a dead process still holds the lock: a second.
const TRIES_BETWEEN_WORDS: u32 = 200;

/// Held by the process that serves a data directory; freed when dropped, and when the process dies.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

/// Takes the data directory for this process, and makes it if it is absent. Waits for the writes of a dead process,
/// and says so each second on stderr.
///
/// # Errors
/// [`OpenError::InUse`] at once if a live process has it.
pub fn lock_directory(root: &Path) -> Result<DirectoryLock, OpenError> {
    let failed = |what| move |error: io::Error| from_io(LOCK_FILE, what, &error);
    refuse_foreign(root)?;
    create_directories(root).map_err(failed("create the data directory"))?;
    let mut options = File::options();
    options.create(true).read(true).write(true).truncate(false);
    let mut file = options.open(root.join(LOCK_FILE)).map_err(failed("open"))?;
    let mut tries = 0;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(error)) => return Err(failed("lock")(error).into()),
            Err(TryLockError::WouldBlock) if is_holder_alive(&mut file) => {
                return Err(OpenError::InUse { file: LOCK_FILE.to_owned() });
            }
            Err(TryLockError::WouldBlock) => {
                tries += 1;
                if tries % TRIES_BETWEEN_WORDS == 0 {
                    eprintln!("waiting for the last writes of a server that was killed");
                }
                std::thread::sleep(RETRY_INTERVAL);
            }
        }
    }
    write_holder(&mut file).map_err(failed("write"))?;
    // The name is durable before anything else is made: found by `faults/run power --fs lossyfs`, a power loss left the
    // probe without it, and the directory was refused as somebody else's.
    sync_directory(root).map_err(failed("sync the directory"))?;
    Ok(DirectoryLock { _file: file })
}

/// Whether a directory has a store in it, or what is left of one.
pub fn holds_store(root: &Path) -> bool {
    names_in(root).iter().any(|name| is_of_store(name))
}

fn is_of_store(name: &str) -> bool {
    name == "store" || name.starts_with("shard-")
}

/// None if it cannot be read.
fn names_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// A directory that holds something else, and was never ours, is left exactly as it is.
fn refuse_foreign(root: &Path) -> Result<(), OpenError> {
    let names = names_in(root);
    let is_ours = |name: &String| name == LOCK_FILE || is_of_store(name);
    match names.iter().find(|name| *name != "lost+found") {
        Some(foreign) if !names.iter().any(is_ours) => {
            let is_predecessor = names.iter().any(|name| name == PREDECESSOR_FILE);
            let reason = if is_predecessor {
                "a NATS Streaming file store, which cannot be imported yet"
            } else {
                "the directory holds something else"
            };
            Err(OpenError::Format { file: foreign.clone(), reason: reason.into() })
        }
        _ => Ok(()),
    }
}

fn write_holder(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

/// Whether the process that wrote its id into the file lives. One that cannot be told counts as living.
fn is_holder_alive(file: &mut File) -> bool {
    let mut text = String::new();
    if file.rewind().and_then(|()| file.read_to_string(&mut text)).is_err() {
        return true;
    }
    let Ok(id) = text.trim().parse::<u32>() else { return true };
    match std::fs::read_to_string(format!("/proc/{id}/stat")) {
        // The state is the first field behind the name, which may hold anything but ends with the last parenthesis.
        Ok(stat) => {
            let state = stat.rsplit_once(") ").and_then(|(_, fields)| fields.chars().next());
            !matches!(state, Some('Z' | 'X'))
        }
        Err(_) => false,
    }
}

fn create_directories(root: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = root
        .ancestors()
        .take_while(|directory| !directory.as_os_str().is_empty() && !directory.exists())
        .collect();
    missing.into_iter().rev().try_for_each(create_directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server killed under load held the lock on for some milliseconds, and the next start refused.
    #[test]
    fn the_lock_of_a_dead_process_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(LOCK_FILE);
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let dead = child.id();
        child.wait().unwrap();
        std::fs::write(&path, format!("{dead}\n")).unwrap();
        let held = File::options().read(true).write(true).open(&path).unwrap();
        held.lock().unwrap();
        let root = directory.path().to_owned();
        let waiting = std::thread::spawn(move || lock_directory(&root).map(drop));
        drop(held);
        assert_eq!(waiting.join().unwrap(), Ok(()));
    }

    /// A lock file and a probe used to be left in it.
    #[test]
    fn a_foreign_directory_is_refused_and_not_changed() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("server.dat"), b"of another server").unwrap();
        let refused = lock_directory(directory.path()).map(drop).unwrap_err().to_string();
        assert!(
            refused.starts_with("server.dat: ") && refused.contains("NATS Streaming"),
            "{refused}"
        );
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_lock_of_a_live_process_is_refused_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("made/with/parents");
        let lock = lock_directory(&root).unwrap();
        let refused = lock_directory(&root).map(drop);
        assert_eq!(refused, Err(OpenError::InUse { file: LOCK_FILE.to_owned() }));
        drop(lock);
        assert!(lock_directory(&root).is_ok());
        let below = root.join("LOCK/x");
        assert!(matches!(lock_directory(&below), Err(OpenError::Disk(_))));
    }
}
