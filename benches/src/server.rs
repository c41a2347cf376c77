//! Servers as processes of their own: started on a fresh directory, stopped and removed with it when they are dropped.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use crate::BenchError;
use crate::executor::fresh_directory;
use crate::measure::{now_ns, seconds_since};

/// A server has this long to listen and to answer.
pub(crate) const START_SECONDS_MAX: f64 = 20.0;
/// Between two tries.
pub(crate) const START_POLL: Duration = Duration::from_millis(20);

/// Which server, and how it keeps messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// This project's, durable.
    Ours,
    /// nats-streaming-server, on disk.
    PeerFile,
    /// nats-streaming-server, in memory.
    PeerMemory,
}

impl Kind {
    /// For tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "weirlog",
            Self::PeerFile => "peer, file store",
            Self::PeerMemory => "peer, memory store",
        }
    }
}

/// Where the peers' programs are: as asked for, or `$PEERS_BIN`, or a directory of the user's.
pub(crate) fn peers_directory(asked: Option<&Path>) -> PathBuf {
    let named =
        || asked.map(Path::to_path_buf).or_else(|| std::env::var_os("PEERS_BIN").map(Into::into));
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    named().unwrap_or_else(|| home().join(".cache/weirlog-peers"))
}

/// A server that runs.
pub(crate) struct Server {
    process: Child,
    port: u16,
    monitor_port: u16,
    root: PathBuf,
}

impl Server {
    /// Starts one, with its data below `data` and without limits of channels; it listens when this returns.
    pub(crate) fn start(data: &Path, program: &Path, kind: Kind) -> Result<Self, BenchError> {
        let root = data.join("server");
        fresh_directory(&root)?;
        let (port, monitor_port) = two_ports()?;
        let log = File::create(data.join("server.log"))?;
        let mut command = Command::new(program);
        command.args(["-p", &port.to_string(), "-m", &monitor_port.to_string()]);
        command.args(["-mc", "0", "-msu", "0", "-mm", "0", "-mb", "0"]);
        match kind {
            Kind::Ours | Kind::PeerFile => command.args(["-store", "file", "-dir"]).arg(&root),
            Kind::PeerMemory => command.args(["-store", "memory"]),
        };
        command.stdout(log.try_clone()?).stderr(log);
        eprintln!("{}: {}", kind.name(), program.display());
        let mut server = Self { process: command.spawn()?, port, monitor_port, root };
        server.wait_until_listening()?;
        Ok(server)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Where its monitoring pages are.
    pub(crate) fn monitor_port(&self) -> u16 {
        self.monitor_port
    }

    /// Where its data is.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    fn wait_until_listening(&mut self) -> Result<(), BenchError> {
        let start_ns = now_ns();
        while seconds_since(start_ns) < START_SECONDS_MAX {
            if let Some(status) = self.process.try_wait()? {
                return Err(format!("the server ended at once: {status}, see server.log").into());
            }
            if TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok() {
                return Ok(());
            }
            thread::sleep(START_POLL);
        }
        Err("the server does not listen".into())
    }
}

/// Two ports that are most likely still free in a moment.
fn two_ports() -> Result<(u16, u16), BenchError> {
    let one = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok((one.local_addr()?.port(), other.local_addr()?.port()))
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.root);
    }
}
