//! Why a configuration file was refused.

use std::fmt;

use weirlog_net::auth::AuthError;
use weirlog_net::conf::{ConfError, Entry, Place, in_one_line};

use super::super::values::ValueError;

/// Why a configuration file was refused. `Display` is one line that begins with file and line, and shows no value that
/// could be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FileError {
    /// The syntax, or the form of a value.
    Conf(ConfError),
    /// No option has this name.
    UnknownKey {
        /// Where it stands.
        place: Place,
        /// With the maps that it stands in.
        key: String,
    },
    /// The key cannot have this value.
    InvalidValue {
        /// Where it stands.
        place: Place,
        /// With the maps that it stands in.
        key: String,
        /// What is wrong with it.
        reason: ValueError,
    },
    /// The key asks for what this server does not have yet.
    NotAvailable {
        /// Where it stands.
        place: Place,
        /// With the maps that it stands in.
        key: String,
        /// The missing feature.
        what: &'static str,
        /// What to do for now.
        instead: &'static str,
    },
    /// Users that make no sense.
    Authorization {
        /// Where they stand.
        place: Place,
        /// Why.
        reason: AuthError,
    },
    /// A user with a key and a name or password.
    KeyAndPassword {
        /// Where it stands.
        place: Place,
    },
    /// One user and a list of them.
    UserAndUsers {
        /// Where they stand.
        place: Place,
    },
}

impl FileError {
    pub(super) fn invalid(entry: &Entry, key: &str, reason: ValueError) -> Self {
        Self::InvalidValue { place: entry.place.clone(), key: key.to_owned(), reason }
    }

    pub(super) fn unknown(entry: &Entry, path: &str) -> Self {
        Self::UnknownKey { place: entry.place.clone(), key: format!("{path}{}", entry.key) }
    }

    pub(super) fn not_available(
        entry: &Entry,
        key: &str,
        what: &'static str,
        instead: &'static str,
    ) -> Self {
        Self::NotAvailable { place: entry.place.clone(), key: key.to_owned(), what, instead }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conf(error) => error.fmt(f),
            Self::UnknownKey { place, key } => {
                write!(f, "{place}: no such option: {}", key.escape_debug())
            }
            Self::InvalidValue { place, key, reason } => {
                write!(f, "{place}: {}: {reason}", in_one_line(key))
            }
            Self::NotAvailable { place, key, what, instead } => {
                let key = in_one_line(key);
                write!(f, "{place}: {key}: not available yet: {what}; {instead}")
            }
            Self::Authorization { place, reason } => write!(f, "{place}: {reason}"),
            Self::KeyAndPassword { place } => {
                write!(f, "{place}: a user with an nkey has no name and no password")
            }
            Self::UserAndUsers { place } => {
                write!(f, "{place}: one user and a list of users cannot stand together")
            }
        }
    }
}

impl std::error::Error for FileError {}

impl From<ConfError> for FileError {
    fn from(error: ConfError) -> Self {
        Self::Conf(error)
    }
}
