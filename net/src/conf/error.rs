//! What is wrong with a configuration file, and where.

use std::path::PathBuf;

use super::{Place, in_one_line};

/// A file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct ConfError {
    /// Where it was noticed.
    pub place: Place,
    /// What it is.
    pub problem: Problem,
}

/// What can be wrong with the syntax, or with the form of a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Something else stands where this should.
    #[error("expected {0}")]
    Expected(&'static str),
    /// A key without a value.
    #[error("the key has no value")]
    NoValue,
    /// Two values in a row.
    #[error("expected a new line, a comma or a semicolon after the value")]
    NoSeparator,
    /// A `}` or `]` too many.
    #[error("nothing is open that this closes")]
    NothingOpen,
    /// The file ends too early.
    #[error("{0} that starts here is not closed")]
    Unclosed(&'static str),
    /// A backslash before something that has no meaning after it.
    #[error("unknown escape after \\ in a string in double quotes")]
    UnknownEscape,
    /// Neither an earlier key nor the environment has it.
    #[error("the variable ${0} is neither set before nor in the environment")]
    UnknownVariable(String),
    /// Maps and lists inside each other.
    #[error("maps and lists are nested more than {max} deep")]
    TooDeep {
        /// What is allowed.
        max: usize,
    },
    /// Files that include files, perhaps in a circle.
    #[error("files include each other more than {max} deep")]
    TooManyIncludes {
        /// What is allowed.
        max: usize,
    },
    /// All files and used variables together.
    #[error("the configuration is larger than {max_bytes} bytes")]
    TooLarge {
        /// What is allowed.
        max_bytes: usize,
    },
    /// The file is not there, or is not text.
    #[error("cannot read {}: {reason}", in_one_line(&file.to_string_lossy()))]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system says.
        reason: String,
    },
}
