//! Why the server cannot run.

use std::path::PathBuf;

use weirlog_engine::error::OpenError;
use weirlog_net::auth::AuthError;
use weirlog_net::tls::TlsError;

/// Why the server cannot run. `Display` is one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ServeError {
    /// The store cannot be opened.
    Open {
        /// Where it is; none for the memory store.
        directory: Option<PathBuf>,
        /// Why, with a file's name where one is to blame.
        error: OpenError,
    },
    /// No NATS server can be joined. One line.
    Join(String),
    /// The address cannot be listened on.
    Listen {
        /// As asked for.
        host: String,
        /// As asked for.
        port: u16,
        /// The operating system's words.
        reason: String,
    },
    /// A login at a NATS server cannot be read.
    LoginFile {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Monitoring's address cannot be listened on: it, and the operating system's words.
    Monitor(String),
    /// Monitoring over TLS, and no certificate.
    MonitorWithoutTls,
    /// A login that would let in whoever says nothing, or that cannot be checked.
    Authorization(AuthError),
    /// Certificates or keys that cannot be used.
    Tls(TlsError),
    /// The maximum payload is larger than any frame.
    Payload(usize),
    /// An executor cannot be made.
    Executor(String),
    /// The process id or the ports cannot be written.
    PidFile {
        /// Where to.
        path: PathBuf,
        /// The operating system's words.
        reason: String,
    },
    /// The log cannot be opened. The operating system's words.
    Log(String),
    /// Signals cannot be caught.
    Signals(String),
}

impl std::fmt::Display for ServeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Open { directory: Some(directory), error } => {
                write!(f, "data directory {}: {error}", directory.display())
            }
            Self::Open { directory: None, error } => error.fmt(f),
            Self::Listen { host, port, reason } => {
                write!(f, "cannot listen on {host}:{port}: {reason}")
            }
            Self::LoginFile { path, reason } => {
                write!(f, "login at the NATS server: {}: {reason}", path.display())
            }
            Self::Monitor(reason) => write!(f, "cannot serve monitoring on {reason}"),
            Self::MonitorWithoutTls => {
                f.write_str("-ms: monitoring over TLS needs -tls with -tlscert and -tlskey")
            }
            Self::Join(reason) => f.write_str(reason),
            Self::Authorization(reason) => write!(f, "-user, -pass, -auth: {reason}"),
            Self::Tls(reason) => write!(f, "TLS: {reason}"),
            Self::Payload(bytes) => write!(f, "a maximum payload of {bytes} bytes is too large"),
            Self::Executor(reason) => write!(f, "cannot start an executor: {reason}"),
            Self::PidFile { path, reason } => {
                write!(f, "cannot write {}: {reason}", path.display())
            }
            Self::Log(reason) => write!(f, "cannot open the log: {reason}"),
            Self::Signals(reason) => write!(f, "cannot catch signals: {reason}"),
        }
    }
}

impl ServeError {
    /// Monitoring cannot be served.
    pub(super) fn monitor(error: std::io::Error) -> Self {
        Self::Monitor(error.to_string())
    }
}

impl From<OpenError> for ServeError {
    fn from(error: OpenError) -> Self {
        Self::Open { directory: None, error }
    }
}
