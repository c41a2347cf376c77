//! A record as one line, whatever its text: the reference's form, or JSON.

use jiff::tz::TimeZone;
use weirlog_engine::types::Timestamp;

use super::writer::Record;
use super::{Level, Part};
use crate::args::LogFormat;

/// How lines are written.
#[derive(Debug, Clone)]
pub(super) struct LineStyle {
    /// Shown in each line.
    pub(super) process_id: u32,
    /// Text or JSON.
    pub(super) format: LogFormat,
    /// Whether a line of text starts with the time; JSON always has it.
    pub(super) is_time_shown: bool,
    /// The zone of the times of text; those of JSON are in UTC.
    pub(super) zone: TimeZone,
}

impl LineStyle {
    /// The record's line, with its end.
    pub(super) fn line(&self, record: &Record) -> String {
        let mut line = match self.format {
            LogFormat::Text => self.text(record),
            LogFormat::Json => self.json(record),
        };
        line.push('\n');
        line
    }

    fn text(&self, record: &Record) -> String {
        let mut line = format!("[{}] ", self.process_id);
        if self.is_time_shown {
            line.push_str(&time_of(record.now, &self.zone, "%Y/%m/%d %H:%M:%S%.6f "));
        }
        line.push_str(&format!("[{}] ", record.level.tag()));
        line.push_str(&one_line(record));
        line
    }

    fn json(&self, record: &Record) -> String {
        let part = match record.part {
            Part::Server => "server",
            Part::Streaming => "streaming",
        };
        serde_json::json!({
            "time": time_of(record.now, &TimeZone::UTC, "%Y-%m-%dT%H:%M:%S%.6fZ"),
            "level": record.level.name(),
            "pid": self.process_id,
            "part": part,
            "message": record.text,
        })
        .to_string()
    }
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

    fn name(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }
}

/// The record's text behind the name of its part. Text from outside may hold line ends, with which it could forge a
/// line of its own: they are escaped.
pub(super) fn one_line(record: &Record) -> String {
    let mut line = String::with_capacity(record.text.len() + 16);
    if record.part == Part::Streaming {
        line.push_str("STREAM: ");
    }
    for character in record.text.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

/// A time in a form of strftime.
pub(super) fn time_of(now: Timestamp, zone: &TimeZone, form: &str) -> String {
    // A clock outside of jiff's years gives the start of its time rather than no line.
    let timestamp = jiff::Timestamp::from_nanosecond(i128::from(now.0)).unwrap_or_default();
    timestamp.to_zoned(zone.clone()).strftime(form).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_383_000_123_456_789);

    fn style(format: LogFormat, is_time_shown: bool) -> LineStyle {
        LineStyle { process_id: 42, format, is_time_shown, zone: TimeZone::UTC }
    }

    fn record(level: Level, part: Part, text: &str) -> Record {
        Record { now: NOW, level, part, text: text.to_owned() }
    }

    #[test]
    fn lines_look_like_the_references() {
        let style = style(LogFormat::Text, true);
        assert_eq!(
            style.line(&record(Level::Info, Part::Streaming, "Streaming Server is ready")),
            "[42] 2026/11/22 21:30:00.123456 [INF] STREAM: Streaming Server is ready\n"
        );
        assert_eq!(
            style.line(&record(Level::Error, Part::Server, "a\nb\u{1b}")),
            "[42] 2026/11/22 21:30:00.123456 [ERR] a\\nb\\u{1b}\n"
        );
        let style = LineStyle { zone: TimeZone::fixed(jiff::tz::offset(-5)), ..style };
        let line = style.line(&record(Level::Info, Part::Server, ""));
        assert!(line.starts_with("[42] 2026/11/22 16:30:00."), "{line}");
    }

    #[test]
    fn time_can_be_left_out() {
        for (level, tag) in [
            (Level::Trace, "TRC"),
            (Level::Debug, "DBG"),
            (Level::Info, "INF"),
            (Level::Warning, "WRN"),
            (Level::Error, "ERR"),
            (Level::Fatal, "FTL"),
        ] {
            let line = style(LogFormat::Text, false).line(&record(level, Part::Server, "x"));
            assert_eq!(line, format!("[42] [{tag}] x\n"));
        }
    }

    #[test]
    fn a_line_of_json_is_one_object() {
        let line = style(LogFormat::Json, false).line(&record(
            Level::Warning,
            Part::Streaming,
            "a \"b\"\nc",
        ));
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "time": "2026-11-22T21:30:00.123456Z",
                "level": "warning",
                "pid": 42,
                "part": "streaming",
                "message": "a \"b\"\nc",
            })
        );
    }

    #[test]
    fn any_time_gives_a_line() {
        for nanoseconds in [i64::MIN, -1, 0, i64::MAX] {
            assert!(!time_of(Timestamp(nanoseconds), &TimeZone::UTC, "%Y").is_empty());
        }
    }
}
