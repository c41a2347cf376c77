//! The log: lines in the form of the reference, `[pid] 2026/11/22 21:30:00.123456 [INF] STREAM: text`, or JSON, on
//! standard error, in a file or to syslog.
//!
//! A [`Log`] is a handle that is cloned for whoever logs. It never waits: what it is given goes into a bounded queue
//! to a thread of its own, which composes and writes the lines one after the other, so lines of several cores never
//! mix. What finds the queue full is dropped and counted, and the log says so. Time is an argument.

mod file;
mod line;
mod sink;
mod syslog;
mod writer;

use std::fmt;
use std::io;
use std::sync::Arc;

use weirlog_engine::types::Timestamp;

use crate::args::{LogOptions, Verbosity};
pub(crate) use syslog::SyslogTarget;
pub(crate) use writer::LogThread;
use writer::{Job, Queue, Record};

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// Each operation; off by default.
    Trace,
    /// What explains the server's conduct; off by default.
    Debug,
    /// What an operator wants to know.
    Info,
    /// What an operator should look at.
    Warning,
    /// Something failed; the server goes on.
    Error,
    /// Something failed; the server ends.
    Fatal,
}

/// Who logs. Each has its own debug and trace switches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Connections and the NATS protocol.
    Server,
    /// Channels, clients, subscriptions, the store: lines start with `STREAM: `.
    Streaming,
}

/// What to log, and the way to the thread that writes it.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    server: Verbosity,
    streaming: Verbosity,
    queue: Arc<Queue>,
}

impl Log {
    /// Starts the thread that writes. The log lives until the [`LogThread`] is dropped.
    ///
    /// # Errors
    /// The file cannot be opened, syslog cannot be reached, or no thread can be made.
    pub(crate) fn start(process_id: u32, options: &LogOptions) -> io::Result<(Self, LogThread)> {
        let (queue, thread) = LogThread::start(process_id, options)?;
        let log = Self { server: options.server, streaming: options.streaming, queue };
        Ok((log, thread))
    }

    /// Whether such lines are written: ask before composing a costly one.
    #[must_use]
    pub(crate) fn is_enabled(&self, level: Level, part: Part) -> bool {
        let Verbosity { debug, trace } = match part {
            Part::Server => self.server,
            Part::Streaming => self.streaming,
        };
        match level {
            Level::Trace => trace,
            Level::Debug => debug,
            Level::Info | Level::Warning | Level::Error | Level::Fatal => true,
        }
    }

    /// Writes a line if its level is on.
    pub(crate) fn write(&self, now: Timestamp, level: Level, part: Part, text: impl fmt::Display) {
        if self.is_enabled(level, part) {
            self.queue.offer(Record { now, level, part, text: text.to_string() });
        }
    }

    /// Opens the file anew, after another program has moved it away.
    pub(crate) fn reopen(&self, now: Timestamp) {
        if !self.queue.order(Job::Reopen(now)) {
            self.error(now, "The log is too far behind to be re-opened");
        }
    }

    /// An information about streaming.
    pub(crate) fn info(&self, now: Timestamp, text: impl fmt::Display) {
        self.write(now, Level::Info, Part::Streaming, text);
    }

    /// A warning about streaming.
    pub(crate) fn warning(&self, now: Timestamp, text: impl fmt::Display) {
        self.write(now, Level::Warning, Part::Streaming, text);
    }

    /// An error of streaming.
    pub(crate) fn error(&self, now: Timestamp, text: impl fmt::Display) {
        self.write(now, Level::Error, Part::Streaming, text);
    }

    /// The last line before the process ends.
    pub(crate) fn fatal(&self, now: Timestamp, text: impl fmt::Display) {
        self.write(now, Level::Fatal, Part::Streaming, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Verbosity = Verbosity { debug: false, trace: false };

    #[test]
    fn each_part_has_its_own_switches() {
        let options = LogOptions {
            server: Verbosity { debug: true, ..QUIET },
            streaming: Verbosity { trace: true, ..QUIET },
            ..LogOptions::default()
        };
        let (log, _thread) = Log::start(42, &options).unwrap();
        let enabled =
            |level| [Part::Server, Part::Streaming].map(|part| log.is_enabled(level, part));
        assert_eq!(enabled(Level::Debug), [true, false]);
        assert_eq!(enabled(Level::Trace), [false, true]);
        for level in [Level::Info, Level::Warning, Level::Error, Level::Fatal] {
            assert_eq!(enabled(level), [true, true]);
        }
    }
}
