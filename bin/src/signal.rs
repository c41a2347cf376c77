//! `-sl`: sends a signal to a server that runs.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::args::{SignalOptions, SignalOrder, SignalTarget};

/// Where the system tells of its processes.
const PROCESSES: &str = "/proc";

/// Why no signal was sent. `Display` is one line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SignalError {
    /// No process of this program runs.
    NobodyRuns,
    /// Several run, and which one is meant was not said.
    SeveralRun(Vec<i32>),
    /// The processes cannot be listed.
    Processes(String),
    /// The file with the process id cannot be read.
    PidFile { path: PathBuf, reason: String },
    /// What stands in the file is no process id.
    NotAPidFile(PathBuf),
    /// The system refuses.
    Refused { process: i32, reason: Errno },
}

impl fmt::Display for SignalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NobodyRuns => f.write_str("-sl: no weirlog is running"),
            Self::SeveralRun(processes) => {
                write!(f, "-sl: several are running, add =PID: {processes:?}")
            }
            Self::Processes(reason) => write!(f, "-sl: cannot list processes: {reason}"),
            Self::PidFile { path, reason } => {
                write!(f, "-sl: cannot read {}: {reason}", path.display())
            }
            Self::NotAPidFile(path) => write!(f, "-sl: {} holds no process id", path.display()),
            Self::Refused { process, reason } => {
                write!(f, "-sl: cannot signal process {process}: {}", reason.desc())
            }
        }
    }
}

/// Sends the signal.
pub(crate) fn send(options: &SignalOptions) -> Result<(), SignalError> {
    let process = match &options.target {
        SignalTarget::Process(process) => *process,
        SignalTarget::PidFile(path) => read_pid_file(path)?,
        SignalTarget::OnlyOne => only_one(others(Path::new(PROCESSES), std::process::id())?)?,
    };
    assert!(process > 0, "a signal to a group of processes was never asked for");
    kill(Pid::from_raw(process), signal(options.order))
        .map_err(|reason| SignalError::Refused { process, reason })
}

/// The reference's signal for an order.
fn signal(order: SignalOrder) -> Signal {
    match order {
        SignalOrder::Stop => Signal::SIGKILL,
        SignalOrder::Quit => Signal::SIGINT,
        SignalOrder::Term => Signal::SIGTERM,
        SignalOrder::Reopen => Signal::SIGUSR1,
        SignalOrder::Reload => Signal::SIGHUP,
        SignalOrder::LameDuck => Signal::SIGUSR2,
    }
}

fn read_pid_file(path: &Path) -> Result<i32, SignalError> {
    let text = std::fs::read_to_string(path).map_err(|error| SignalError::PidFile {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    let process = text.trim().parse().ok().filter(|process| *process > 0);
    process.ok_or_else(|| SignalError::NotAPidFile(path.to_owned()))
}

fn only_one(mut processes: Vec<i32>) -> Result<i32, SignalError> {
    processes.sort_unstable();
    match processes[..] {
        [] => Err(SignalError::NobodyRuns),
        [process] => Ok(process),
        _ => Err(SignalError::SeveralRun(processes)),
    }
}

/// The processes with the name of the process `own`, but for itself.
fn others(processes: &Path, own: u32) -> Result<Vec<i32>, SignalError> {
    let failed = |error: io::Error| SignalError::Processes(error.to_string());
    let name_of = |number: &OsStr| std::fs::read(processes.join(number).join("comm"));
    let own = own.to_string();
    let name = name_of(OsStr::new(&own)).map_err(failed)?;
    let mut found = Vec::new();
    for entry in std::fs::read_dir(processes).map_err(failed)? {
        let number = entry.map_err(failed)?.file_name();
        let process =
            std::str::from_utf8(number.as_bytes()).ok().and_then(|text| text.parse().ok());
        // One that has ended since has no name any more.
        if let Some(process) = process
            && number != OsStr::new(&own)
            && name_of(&number).is_ok_and(|other| other == name)
        {
            found.push(process);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_other_process_of_the_name_is_meant() {
        let directory = tempfile::tempdir().unwrap();
        let add = |number: &str, name: &str| {
            std::fs::create_dir(directory.path().join(number)).unwrap();
            std::fs::write(directory.path().join(number).join("comm"), name).unwrap();
        };
        add("7", "weirlog\n");
        add("8", "bash\n");
        add("self", "weirlog\n");
        std::fs::create_dir(directory.path().join("9")).unwrap();
        let found = || only_one(others(directory.path(), 7).unwrap());
        assert_eq!(found(), Err(SignalError::NobodyRuns));
        add("12", "weirlog\n");
        assert_eq!(found(), Ok(12));
        add("11", "weirlog\n");
        assert_eq!(found(), Err(SignalError::SeveralRun(vec![11, 12])));
    }

    #[test]
    fn a_pid_file_holds_one_process_id() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        assert!(matches!(read_pid_file(&path), Err(SignalError::PidFile { .. })));
        for bad in ["", "x", "0", "-1", "1 2"] {
            std::fs::write(&path, bad).unwrap();
            assert_eq!(read_pid_file(&path), Err(SignalError::NotAPidFile(path.clone())), "{bad}");
        }
        std::fs::write(&path, "42\n").unwrap();
        assert_eq!(read_pid_file(&path), Ok(42));
    }

    #[test]
    fn a_signal_arrives() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let target = SignalTarget::Process(i32::try_from(child.id()).unwrap());
        send(&SignalOptions { order: SignalOrder::Stop, target: target.clone() }).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
        let gone = send(&SignalOptions { order: SignalOrder::Stop, target });
        assert!(matches!(gone, Err(SignalError::Refused { reason: Errno::ESRCH, .. })));
    }
}
