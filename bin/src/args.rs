//! The command line: words -> what was asked for.
//!
//! Flags are spelled and cut as Go programs do it, so that scripts for nats-streaming-server go on working. Promise:
//! each flag of the reference is known; one that does nothing here gives a warning or an error, never silence. Errors
//! are one line and name the flag as it was typed; values of refused flags, passwords among them, are never shown.

use std::error::Error as _;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser};
use weirlog_net::conf::Outside;

mod bench;
mod compatible;
mod files;
mod flags;
mod go_style;
mod help;
mod operation;
mod options;
#[cfg(test)]
pub(crate) mod tests;
mod upstreams;
mod value_error;
mod values;

pub(crate) use bench::{BenchOptions, BenchStart};
use compatible::Role;
pub(crate) use files::FileError;
use flags::{ServeFlags, SimFlags, StoreFlags};
use go_style::{Given, Split, Vocabulary};
pub(crate) use help::{bench_help, repair_help, serve_help, sim_help, verify_help};
pub(crate) use options::{
    ListenAddress, LogFormat, LogOptions, LoginFile, LoginOptions, Options, SignalOptions,
    SignalOrder, SignalTarget, SimOptions, StoreKind, Verbosity,
};
use values::ValueError;

/// What the program shall do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "there is one in the life of the process")]
pub(crate) enum Command {
    /// Run the server.
    Serve(Options),
    /// Run the simulator.
    Sim(SimOptions),
    /// Put a server under load.
    Bench(BenchOptions),
    /// Say that flags and files are valid.
    Checked,
    /// Look whether the store in this directory is whole.
    Verify(PathBuf),
    /// Copy what is left of the store in the first directory to the second.
    Repair(PathBuf, PathBuf),
    /// Send a signal to a running server.
    Signal(SignalOptions),
    /// Print [`serve_help`].
    Help,
    /// Print [`sim_help`].
    SimHelp,
    /// Print [`bench_help`].
    BenchHelp,
    /// Print [`verify_help`].
    VerifyHelp,
    /// Print [`repair_help`].
    RepairHelp,
    /// Print [`version_line`].
    Version,
}

/// A command line that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parsed {
    /// What to do.
    pub(crate) command: Command,
    /// What to tell whoever typed it; each is one line.
    pub(crate) warnings: Vec<String>,
}

/// Why a command line was refused. `Display` gives one line without the program's name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) enum ArgsError {
    /// No flag has this name.
    UnknownFlag {
        /// As typed, with one dash.
        flag: String,
    },
    /// Dashes without a name.
    BadSyntax {
        /// The word.
        argument: String,
    },
    /// The command line ends where a value should follow.
    MissingValue {
        /// As typed, with one dash.
        flag: String,
    },
    /// The flag cannot have this value.
    InvalidValue {
        /// As typed, with one dash.
        flag: String,
        /// As typed.
        value: String,
        /// What is wrong with it.
        reason: ValueError,
    },
    /// The flag asks for what this server does not have yet.
    NotAvailable {
        /// As typed, with one dash.
        flag: String,
        /// The missing feature.
        what: &'static str,
        /// What to do for now.
        instead: &'static str,
    },
    /// A configuration file cannot be used.
    File(FileError),
    /// More channels have limits of their own than there may be channels.
    TooManyChannels {
        /// Names, not patterns.
        count: usize,
        /// The limit.
        max: u64,
    },
    /// What waits for a connection must hold a message.
    PendingBelowPayload,
    /// What all connections hold must have room for what waits for one.
    BufferedBelowPending,
    /// Channels are shared out and this server has none.
    PartitionWithoutChannels,
    /// The first word that is no flag names no command.
    UnknownCommand {
        /// The word.
        word: String,
    },
    /// A word that is no flag after the command.
    UnexpectedWord {
        /// The word.
        word: String,
    },
    /// Which store is not said.
    NoDirectory {
        /// The command, and what must follow.
        command: &'static str,
    },
    /// Flags of the server before another command.
    FlagsBeforeCommand {
        /// The command.
        command: &'static str,
    },
    /// A flag that says something about another one, which is not there.
    Needs {
        /// The flag.
        flag: &'static str,
        /// The other one.
        other: &'static str,
    },
    /// Refused by the parser underneath for a reason that the above should have caught.
    Unexplained {
        /// The parser's own kind.
        kind: ErrorKind,
    },
}

impl fmt::Display for ArgsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HINT: &str = "see weirlog --help";
        match self {
            Self::UnknownFlag { flag } => {
                write!(f, "flag provided but not defined: {} ({HINT})", flag.escape_debug())
            }
            Self::BadSyntax { argument } => write!(f, "not a flag: {argument:?} ({HINT})"),
            Self::MissingValue { flag } => write!(f, "{flag}: a value must follow ({HINT})"),
            Self::InvalidValue { flag, value, reason } => write!(f, "{flag}: {reason}: {value:?}"),
            Self::NotAvailable { flag, what, instead } => {
                write!(f, "{flag}: not available yet: {what}; {instead}")
            }
            Self::File(error) => error.fmt(f),
            Self::TooManyChannels { count, max } => write!(
                f,
                "too many channels defined ({count}). The max channels limit is set to {max}"
            ),
            Self::PartitionWithoutChannels => f.write_str(
                "partitioning needs this server's channels in store_limits.channels of a configuration file",
            ),
            Self::PendingBelowPayload => {
                f.write_str("max_payload cannot be higher than max_pending")
            }
            Self::BufferedBelowPending => {
                f.write_str("max_pending cannot be higher than max_buffered")
            }
            Self::UnknownCommand { word } => write!(f, "no such command: {word:?} ({HINT})"),
            Self::UnexpectedWord { word } => write!(f, "unexpected argument: {word:?} ({HINT})"),
            Self::NoDirectory { command } => write!(f, "{command} must follow"),
            Self::FlagsBeforeCommand { command } => {
                write!(f, "flags of {command} must follow the word {command} ({HINT})")
            }
            Self::Needs { flag, other } => write!(f, "{flag} needs {other} ({HINT})"),
            Self::Unexplained { kind } => {
                write!(f, "cannot read the command line: {kind} ({HINT})")
            }
        }
    }
}

impl std::error::Error for ArgsError {}

impl From<FileError> for ArgsError {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

/// The text of `--version`.
#[must_use]
pub(crate) fn version_line() -> String {
    format!("weirlog version {}", env!("CARGO_PKG_VERSION"))
}

/// Reads a command line without the program's own name: `parse(std::env::args_os().skip(1))`.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Parsed, ArgsError> {
    parse_with(args, files::OUTSIDE)
}

/// The same with other files and another environment.
pub(crate) fn parse_with(
    args: impl IntoIterator<Item = OsString>,
    outside: Outside<'_>,
) -> Result<Parsed, ArgsError> {
    let vocabulary = Vocabulary::of(&ServeFlags::command()).with_compatible();
    let Split { mut flags, word, rest } = go_style::split(args.into_iter().collect(), &vocabulary)?;
    let word = word.map(|word| word.to_string_lossy().into_owned());
    match word.as_deref() {
        None => serve(flags, &vocabulary, outside),
        Some("serve") => {
            let after = go_style::split(rest, &vocabulary)?;
            refuse_word(after.word)?;
            flags.extend(after.flags);
            serve(flags, &vocabulary, outside)
        }
        Some("help") => Ok(Parsed { command: Command::Help, warnings: Vec::new() }),
        Some("version") => Ok(Parsed { command: Command::Version, warnings: Vec::new() }),
        Some(word) => match COMMANDS.iter().find(|(command, _)| *command == word) {
            Some((_, parse)) if flags.is_empty() => parse(rest),
            Some((command, _)) => Err(ArgsError::FlagsBeforeCommand { command }),
            None => Err(ArgsError::UnknownCommand { word: word.to_owned() }),
        },
    }
}

/// What reads the words behind a command's name.
type ParseCommand = fn(Vec<OsString>) -> Result<Parsed, ArgsError>;
/// Commands with flags of their own.
const COMMANDS: [(&str, ParseCommand); 4] =
    [("sim", sim), ("bench", bench), ("verify", verify), ("repair", repair)];

fn serve(
    given: Vec<Given>,
    vocabulary: &Vocabulary,
    outside: Outside<'_>,
) -> Result<Parsed, ArgsError> {
    // Help and version are answered even beside flags that are refused.
    for (name, command) in [("help", Command::Help), ("version", Command::Version)] {
        if given.iter().any(|flag| flag.entry.name == name && flag.value == "true") {
            return Ok(Parsed { command, warnings: Vec::new() });
        }
    }
    let (given, mut warnings) = sift(given)?;
    let own: ServeFlags = typed_flags(&given)?;
    if own.help || own.version {
        let command = if own.help { Command::Help } else { Command::Version };
        return Ok(Parsed { command, warnings });
    }
    if let Some(signal) = own.signal() {
        return Ok(Parsed { command: Command::Signal(signal), warnings });
    }
    let from_files = files::read(own.config_file(), own.stan_config_file(), vocabulary, outside)?;
    let (mut all, file_warnings) = sift(from_files.flags)?;
    warnings.extend(from_files.warnings);
    warnings.extend(file_warnings);
    all.extend(given);
    let mut flags: ServeFlags = typed_flags(&all)?;
    if flags.has_upstream() && !from_files.login.is_empty() {
        // The command line's login stands behind them.
        all.splice(0..0, from_files.login);
        flags = typed_flags(&all)?;
    } else {
        let needless = |given: &Given| format!("{} has no effect: {NO_LOGIN}", given.typed);
        warnings.extend(from_files.login.iter().map(needless));
    }
    let is_check = flags.check;
    let has_users = from_files.settings.authorization.has_users();
    let options = flags.into_options(from_files.settings);
    if has_users && options.upstreams.is_empty() && options.login != LoginOptions::default() {
        warnings.push(format!("-user, -pass and -auth have no effect: {USERS_IN_FILE}"));
    }
    check_together(&options)?;
    let command = if is_check { Command::Checked } else { Command::Serve(options) };
    Ok(Parsed { command, warnings })
}

const NO_LOGIN: &str = "the streaming part of this server needs no login";
const USERS_IN_FILE: &str = "the configuration file has the users";

/// What only all options together can show.
fn check_together(options: &Options) -> Result<(), ArgsError> {
    let mut names: Vec<_> = options.limit_rules.iter().filter(|rule| rule.is_literal()).collect();
    names.sort_by(|left, right| left.pattern.cmp(&right.pattern));
    names.dedup_by(|left, right| left.pattern == right.pattern);
    let max = options.channels_max;
    if max > 0 && names.len() as u64 > max {
        return Err(ArgsError::TooManyChannels { count: names.len(), max });
    }
    if options.is_partitioned && options.limit_rules.is_empty() {
        return Err(ArgsError::PartitionWithoutChannels);
    }
    if options.payload_bytes_max > options.connections.pending_bytes_max {
        return Err(ArgsError::PendingBelowPayload);
    }
    if options.connections.pending_bytes_max > options.connections.buffered_bytes_max {
        return Err(ArgsError::BufferedBelowPending);
    }
    Ok(())
}

fn sim(args: Vec<OsString>) -> Result<Parsed, ArgsError> {
    let split = go_style::split(args, &Vocabulary::of(&SimFlags::command()))?;
    refuse_word(split.word)?;
    let flags: SimFlags = typed_flags(&split.flags)?;
    if flags.only.is_some() && flags.seed.is_none() && !flags.help {
        return Err(ArgsError::Needs { flag: "-only", other: "-seed" });
    }
    let command = if flags.help { Command::SimHelp } else { Command::Sim(flags.into_options()) };
    Ok(Parsed { command, warnings: Vec::new() })
}

fn bench(args: Vec<OsString>) -> Result<Parsed, ArgsError> {
    let split = go_style::split(args, &Vocabulary::of(&BenchOptions::command()))?;
    refuse_word(split.word)?;
    let options: BenchOptions = typed_flags(&split.flags)?;
    let command = if options.help { Command::BenchHelp } else { Command::Bench(options) };
    Ok(Parsed { command, warnings: Vec::new() })
}

fn verify(args: Vec<OsString>) -> Result<Parsed, ArgsError> {
    let (flags, mut words) = store_words(args)?;
    let directory = words.next();
    refuse_word(words.next())?;
    let command = match directory {
        _ if flags.help => Command::VerifyHelp,
        Some(directory) => Command::Verify(directory.into()),
        None => return Err(ArgsError::NoDirectory { command: "verify: a store's directory" }),
    };
    Ok(Parsed { command, warnings: Vec::new() })
}

fn repair(args: Vec<OsString>) -> Result<Parsed, ArgsError> {
    let (flags, mut words) = store_words(args)?;
    let (from, to) = (words.next(), words.next());
    refuse_word(words.next())?;
    let command = match (from, to) {
        _ if flags.help => Command::RepairHelp,
        (Some(from), Some(to)) => Command::Repair(from.into(), to.into()),
        _ => {
            let command = "repair: a store's directory and that of the new one";
            return Err(ArgsError::NoDirectory { command });
        }
    };
    Ok(Parsed { command, warnings: Vec::new() })
}

/// What stands behind a command about stores: its flags, and directories.
fn store_words(
    args: Vec<OsString>,
) -> Result<(StoreFlags, impl Iterator<Item = OsString>), ArgsError> {
    let split = go_style::split(args, &Vocabulary::of(&StoreFlags::command()))?;
    Ok((typed_flags(&split.flags)?, split.word.into_iter().chain(split.rest)))
}

fn refuse_word(word: Option<OsString>) -> Result<(), ArgsError> {
    word.map_or(Ok(()), |word| {
        Err(ArgsError::UnexpectedWord { word: word.to_string_lossy().into_owned() })
    })
}

/// Takes out the flags that do nothing: refuses those that ask for something, and collects warnings.
fn sift(given: Vec<Given>) -> Result<(Vec<Given>, Vec<String>), ArgsError> {
    let mut effective = Vec::new();
    let mut warnings = Vec::new();
    for flag in given {
        let invalid = |reason| invalid_value(&flag, reason);
        match flag.entry.role {
            None => effective.push(flag),
            Some(Role::Moot(moot)) => {
                let Some(reason) = moot.reason_against(&flag.value).map_err(invalid)? else {
                    continue;
                };
                let warning = format!("{} has no effect: {reason}", flag.typed);
                if !warnings.contains(&warning) {
                    warnings.push(warning);
                }
            }
            Some(Role::Missing { feature, form }) => {
                if compatible::asks_for_something(form, &flag.value).map_err(invalid)? {
                    let (what, instead) = (feature.what, feature.instead);
                    return Err(ArgsError::NotAvailable { flag: flag.typed, what, instead });
                }
            }
        }
    }
    Ok((effective, warnings))
}

/// Lets clap read the values, and turns its errors into ours.
fn typed_flags<F: Parser>(given: &[Given]) -> Result<F, ArgsError> {
    let mut words = Vec::with_capacity(given.len());
    for flag in given {
        if !flag.entry.is_path && flag.value.to_str().is_none() {
            return Err(invalid_value(flag, ValueError::NotUtf8));
        }
        let mut word = OsString::from(format!("--{}=", flag.entry.name));
        word.push(&flag.value);
        words.push(word);
    }
    F::try_parse_from(words).map_err(|error| explain(&error, given))
}

/// clap's error about one of the `given` flags, in our words.
fn explain(error: &clap::Error, given: &[Given]) -> ArgsError {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    // clap shows the flag as `--name <VALUE>`.
    let shown = context(ContextKind::InvalidArg).unwrap_or_default();
    let name = shown.trim_start_matches('-').split([' ', '=', '[']).next().unwrap_or_default();
    let value = context(ContextKind::InvalidValue).unwrap_or_default();
    let is_culprit =
        |flag: &&Given| flag.entry.name == name && flag.value.to_string_lossy() == value;
    let reason = match error.source().and_then(|source| source.downcast_ref()) {
        Some(&reason) => Some(reason),
        None => value.is_empty().then_some(ValueError::Empty),
    };
    match (given.iter().find(is_culprit), reason) {
        (Some(flag), Some(reason)) => invalid_value(flag, reason),
        _ => ArgsError::Unexplained { kind: error.kind() },
    }
}

fn invalid_value(flag: &Given, reason: ValueError) -> ArgsError {
    // An URL may have a password in it.
    let is_secret = matches!(flag.entry.name.as_str(), "pass" | "auth" | "nats_server");
    let value = if is_secret { "".into() } else { flag.value.to_string_lossy() }.into_owned();
    ArgsError::InvalidValue { flag: flag.typed.clone(), value, reason }
}
