//! Log lines on standard error, in the form of the reference:
//! `[pid] 2026/11/22 21:30:00.123456 [INF] STREAM: text`.
//!
//! A [`Log`] is a small value that is copied to whoever logs; there is no global state. Time is an argument. A line is
//! written with one call, so lines of several cores never mix, and stays one line whatever the text.

use std::fmt;
use std::io::Write as _;

use weirlog_engine::types::Timestamp;

use crate::args::{LogOptions, Verbosity};

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "the levels are complete, though not each is logged yet")]
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

impl Level {
    fn tag(self) -> &'static str {
        match self {
            Self::Trace => "TRC",
            Self::Debug => "DBG",
            Self::Info => "INF",
            Self::Warning => "WRN",
            Self::Error => "ERR",
            Self::Fatal => "FTL",
        }
    }
}

/// Who logs. Each has its own debug and trace switches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "both parts have their switches, though not each logs yet")]
pub(crate) enum Part {
    /// Connections and the NATS protocol.
    Server,
    /// Channels, clients, subscriptions, the store: lines start with `STREAM: `.
    Streaming,
}

/// What to log, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Log {
    process_id: u32,
    options: LogOptions,
}

#[allow(dead_code, reason = "one for each level, though not each is logged yet")]
impl Log {
    /// A log for this process.
    #[must_use]
    pub(crate) fn new(process_id: u32, options: LogOptions) -> Self {
        Self { process_id, options }
    }

    /// Whether such lines are written: ask before composing a costly one.
    #[must_use]
    pub(crate) fn is_enabled(self, level: Level, part: Part) -> bool {
        let Verbosity { debug, trace } = match part {
            Part::Server => self.options.server,
            Part::Streaming => self.options.streaming,
        };
        match level {
            Level::Trace => trace,
            Level::Debug => debug,
            Level::Info | Level::Warning | Level::Error | Level::Fatal => true,
        }
    }

    /// Writes a line if its level is on. A line that cannot be written is lost: there is nowhere to say so.
    pub(crate) fn write(self, now: Timestamp, level: Level, part: Part, text: impl fmt::Display) {
        if self.is_enabled(level, part) {
            let line = self.line(now, &jiff::tz::TimeZone::system(), level, part, text);
            let _ = std::io::stderr().lock().write_all(line.as_bytes());
        }
    }

    /// An information about streaming.
    pub(crate) fn info(self, now: Timestamp, text: impl fmt::Display) {
        self.write(now, Level::Info, Part::Streaming, text);
    }

    /// A warning about streaming.
    pub(crate) fn warning(self, now: Timestamp, text: impl fmt::Display) {
        self.write(now, Level::Warning, Part::Streaming, text);
    }

    /// An error of streaming.
    pub(crate) fn error(self, now: Timestamp, text: impl fmt::Display) {
        self.write(now, Level::Error, Part::Streaming, text);
    }

    /// The last line before the process ends.
    pub(crate) fn fatal(self, now: Timestamp, text: impl fmt::Display) {
        self.write(now, Level::Fatal, Part::Streaming, text);
    }

    fn line(
        self,
        now: Timestamp,
        zone: &jiff::tz::TimeZone,
        level: Level,
        part: Part,
        text: impl fmt::Display,
    ) -> String {
        let mut line = format!("[{}] ", self.process_id);
        if self.options.is_time_shown {
            line.push_str(&local_time(now, zone));
        }
        line.push_str(&format!("[{}] ", level.tag()));
        if part == Part::Streaming {
            line.push_str("STREAM: ");
        }
        push_one_line(&mut line, &text.to_string());
        line.push('\n');
        line
    }
}

/// `2026/11/22 21:30:00.123456 `, with the blank that separates it from what follows.
fn local_time(now: Timestamp, zone: &jiff::tz::TimeZone) -> String {
    // A clock outside of jiff's years gives the start of its time rather than no line.
    let timestamp = jiff::Timestamp::from_nanosecond(i128::from(now.0)).unwrap_or_default();
    timestamp.to_zoned(zone.clone()).strftime("%Y/%m/%d %H:%M:%S%.6f ").to_string()
}

/// Text from outside may hold line ends, with which it could forge a line of its own.
fn push_one_line(line: &mut String, text: &str) {
    for character in text.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_383_000_123_456_789);
    const QUIET: Verbosity = Verbosity { debug: false, trace: false };

    fn log(server: Verbosity, streaming: Verbosity, is_time_shown: bool) -> Log {
        Log::new(42, LogOptions { server, streaming, is_time_shown })
    }

    fn line(log: Log, level: Level, part: Part, text: &str) -> String {
        log.line(NOW, &jiff::tz::TimeZone::UTC, level, part, text)
    }

    #[test]
    fn lines_look_like_the_references() {
        let log = log(QUIET, QUIET, true);
        assert_eq!(
            line(log, Level::Info, Part::Streaming, "Streaming Server is ready"),
            "[42] 2026/11/22 21:30:00.123456 [INF] STREAM: Streaming Server is ready\n"
        );
        assert_eq!(
            line(log, Level::Error, Part::Server, "a\nb\u{1b}"),
            "[42] 2026/11/22 21:30:00.123456 [ERR] a\\nb\\u{1b}\n"
        );
        let zone = jiff::tz::TimeZone::fixed(jiff::tz::offset(-5));
        assert!(local_time(NOW, &zone).starts_with("2026/11/22 16:30:00."));
    }

    #[test]
    fn time_can_be_left_out() {
        let log = log(QUIET, QUIET, false);
        for (level, tag) in [
            (Level::Trace, "TRC"),
            (Level::Debug, "DBG"),
            (Level::Info, "INF"),
            (Level::Warning, "WRN"),
            (Level::Error, "ERR"),
            (Level::Fatal, "FTL"),
        ] {
            assert_eq!(line(log, level, Part::Server, "x"), format!("[42] [{tag}] x\n"));
        }
    }

    #[test]
    fn each_part_has_its_own_switches() {
        let log = log(
            Verbosity { debug: true, trace: false },
            Verbosity { debug: false, trace: true },
            true,
        );
        let enabled =
            |level| [Part::Server, Part::Streaming].map(|part| log.is_enabled(level, part));
        assert_eq!(enabled(Level::Debug), [true, false]);
        assert_eq!(enabled(Level::Trace), [false, true]);
        for level in [Level::Info, Level::Warning, Level::Error, Level::Fatal] {
            assert_eq!(enabled(level), [true, true]);
        }
    }

    #[test]
    fn any_time_gives_a_line() {
        for nanoseconds in [i64::MIN, -1, 0, i64::MAX] {
            assert!(!local_time(Timestamp(nanoseconds), &jiff::tz::TimeZone::UTC).is_empty());
        }
    }
}
