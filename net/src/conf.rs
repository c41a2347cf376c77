//! Configuration files in the syntax of the NATS servers, read into a tree of values that know their file and line.
//!
//! ```text
//! port: 4222                      # `key: value`, `key = value` and `key value` are the same
//! streaming { dir = "/data", store_limits { max_bytes: 64MB } }
//! users = [ {user: a, password: $PASSWORD} ]
//! include "limits.conf"           // relative to the file it stands in
//! ```
//! What a key means is not known here: a scalar keeps its text, and whoever knows the key reads it as a number, size,
//! time or word. So `password: 0123` is these four characters.

mod error;
mod parse;
mod scan;
#[cfg(test)]
mod tests;

pub use error::{ConfError, Problem};
pub use parse::{Outside, SIZE_BYTES_MAX, parse};

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// Where something stands.
#[derive(Clone, PartialEq, Eq)]
pub struct Place {
    /// The file, as the command line or `include` names it.
    pub file: Arc<str>,
    /// Counted from 1.
    pub line: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", in_one_line(&self.file), self.line)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A name out of a file as it can stand in a line of a log: a string in double quotes may hold line feeds.
#[must_use]
pub fn in_one_line(text: &str) -> Cow<'_, str> {
    if text.contains(char::is_control) {
        text.escape_debug().to_string().into()
    } else {
        text.into()
    }
}

/// A value, and where it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// Where it starts; for a variable, where the variable is used.
    pub place: Place,
    /// What it is.
    pub kind: Kind,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A number, a word or a string: its text, without quotes.
    Scalar(String),
    /// `[a, b]`
    List(Vec<Value>),
    /// `{key: value}`
    Map(Map),
}

/// A key as it is written, with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As written: names of channels are told apart by case, options are not.
    pub key: String,
    /// Where the key stands.
    pub place: Place,
    /// Its value.
    pub value: Value,
}

/// The entries of `{}` or of a file, in their order. A key may stand twice: the later one counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Map {
    /// In the order of the file; included entries stand where `include` does.
    pub entries: Vec<Entry>,
}

impl Map {
    /// The last entry of this name, in any case.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().rev().find(|entry| entry.key.eq_ignore_ascii_case(key))
    }
}

impl Value {
    /// The text of a scalar.
    pub fn text(&self) -> Result<&str, ConfError> {
        match &self.kind {
            Kind::Scalar(text) => Ok(text),
            _ => Err(self.unexpected("a value")),
        }
    }

    /// The entries of a map.
    pub fn map(&self) -> Result<&Map, ConfError> {
        match &self.kind {
            Kind::Map(map) => Ok(map),
            _ => Err(self.unexpected("a map {}")),
        }
    }

    /// The values of a list; a scalar or a map is a list of one.
    pub fn list(&self) -> &[Value] {
        match &self.kind {
            Kind::List(values) => values,
            _ => std::slice::from_ref(self),
        }
    }

    /// `true`, `yes`, `on`, or the opposite, in any case.
    pub fn boolean(&self) -> Result<bool, ConfError> {
        match self.text()?.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => Ok(true),
            "false" | "no" | "off" => Ok(false),
            _ => Err(self.unexpected("true or false")),
        }
    }

    /// A whole number, with a unit as in `64MB` or `10k`: with a `b` or `i` after the letter it is one of 1024.
    pub fn integer(&self) -> Result<i64, ConfError> {
        parse::integer(self.text()?).ok_or_else(|| self.unexpected("a whole number"))
    }

    /// The error for a value that should have been `expected`.
    pub fn unexpected(&self, expected: &'static str) -> ConfError {
        ConfError { place: self.place.clone(), problem: Problem::Expected(expected) }
    }
}
