//! Where records end up: standard error, a file, or syslog.

use std::io::{self, Write as _};
use std::path::PathBuf;

use jiff::tz::TimeZone;

use super::file::LogFile;
use super::line::LineStyle;
use super::syslog::Syslog;
use super::writer::Record;
use crate::args::LogOptions;

/// An open way out.
#[derive(Debug)]
pub(super) enum Sink {
    Stderr,
    File(LogFile),
    Syslog(Syslog),
}

/// What came of opening a log anew.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reopened {
    /// The path names a file that lines go to.
    Yes,
    /// There is no file to open.
    NoFile,
}

impl Sink {
    /// Opens what was asked for: a file before syslog, as in the reference.
    pub(super) fn open(process_id: u32, options: &LogOptions) -> io::Result<Self> {
        match (&options.file, &options.syslog) {
            (Some(path), _) => {
                LogFile::open(path, options.file_bytes_max, TimeZone::system()).map(Self::File)
            }
            (None, Some(target)) => Syslog::open(target, process_id).map(Self::Syslog),
            (None, None) => Ok(Self::Stderr),
        }
    }

    /// Writes a record. Returns where the file before it went, if it was full.
    pub(super) fn write(
        &mut self,
        style: &LineStyle,
        record: &Record,
    ) -> io::Result<Option<PathBuf>> {
        match self {
            Self::Stderr => {
                let line = style.line(record);
                std::io::stderr().lock().write_all(line.as_bytes()).map(|()| None)
            }
            Self::File(file) => file.write(record.now, &style.line(record)),
            Self::Syslog(syslog) => syslog.write(style, record).map(|()| None),
        }
    }

    /// Opens the file anew, if there is one.
    pub(super) fn reopen(&mut self) -> io::Result<Reopened> {
        match self {
            Self::File(file) => file.reopen().map(|()| Reopened::Yes),
            Self::Stderr | Self::Syslog(_) => Ok(Reopened::NoFile),
        }
    }
}
