//! Splits a command line as Go's `flag` package does: one dash or two are the same, a value stands after `=` or in the
//! next word, a switch takes its value after `=` only, and the first word that is no flag ends the flags.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::ArgsError;
use super::compatible::{self, Role};

/// All flags of a command, by each of their names.
#[derive(Debug, Default)]
pub(super) struct Vocabulary {
    entries: BTreeMap<String, Entry>,
}

/// What is known of a name.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The name under which clap knows the flag, or the name itself.
    pub(super) name: String,
    /// Whether it can stand without a value.
    pub(super) is_switch: bool,
    /// Whether its value names a file, which need not be UTF-8.
    pub(super) is_path: bool,
    /// Set for flags that do nothing.
    pub(super) role: Option<Role>,
}

impl Vocabulary {
    /// The flags that clap knows.
    pub(super) fn of(command: &clap::Command) -> Self {
        let mut vocabulary = Self::default();
        for argument in command.get_arguments() {
            let names = argument.get_long_and_visible_aliases().unwrap_or_default();
            for &alias in &names {
                let entry = Entry {
                    name: names.first().copied().unwrap_or(alias).to_owned(),
                    is_switch: is_switch(argument),
                    is_path: argument.get_value_hint() == clap::ValueHint::AnyPath,
                    role: None,
                };
                vocabulary.add(alias, entry);
            }
        }
        vocabulary
    }

    /// Adds the flags of the reference that do nothing.
    pub(super) fn with_compatible(mut self) -> Self {
        for (name, role) in compatible::names() {
            let is_switch = role.is_switch();
            let entry =
                Entry { name: name.to_owned(), is_switch, is_path: false, role: Some(role) };
            self.add(name, entry);
        }
        self
    }

    /// What is known of a flag.
    pub(super) fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    fn add(&mut self, alias: &str, entry: Entry) {
        let earlier = self.entries.insert(alias.to_owned(), entry);
        assert!(earlier.is_none(), "the name -{alias} is given to two flags");
    }
}

/// Whether a flag can stand without a value: the mark of a switch in `flags.rs`.
pub(super) fn is_switch(argument: &clap::Arg) -> bool {
    argument.get_num_args().is_some_and(|count| count.min_values() == 0)
}

/// A flag as it was typed.
#[derive(Debug)]
pub(super) struct Given {
    /// With one dash, as it is shown in errors.
    pub(super) typed: String,
    pub(super) value: OsString,
    pub(super) entry: Entry,
}

/// A command line, cut where its flags end.
#[derive(Debug)]
pub(super) struct Split {
    pub(super) flags: Vec<Given>,
    /// The first word that is no flag.
    pub(super) word: Option<OsString>,
    /// What follows it.
    pub(super) rest: Vec<OsString>,
}

/// Cuts `args` (without the program's name) at the end of the flags, or after a flag that asks for help: what else is
/// wrong does not matter to who asks for help.
pub(super) fn split(args: Vec<OsString>, vocabulary: &Vocabulary) -> Result<Split, ArgsError> {
    let mut args = args.into_iter();
    let mut flags = Vec::new();
    while let Some(argument) = args.next() {
        if argument == "--" {
            return Ok(Split { flags, word: args.next(), rest: args.collect() });
        }
        let Some((name, value)) = dissect(&argument)? else {
            return Ok(Split { flags, word: Some(argument), rest: args.collect() });
        };
        let typed = format!("-{}", name.to_string_lossy());
        let entry = name.to_str().and_then(|name| vocabulary.entries.get(name)).cloned();
        let Some(entry) = entry else { return Err(ArgsError::UnknownFlag { flag: typed }) };
        let value = match value {
            Some(value) => value.to_owned(),
            None if entry.is_switch => OsString::from("true"),
            None => args.next().ok_or_else(|| ArgsError::MissingValue { flag: typed.clone() })?,
        };
        let is_help = entry.name == "help" && value == "true";
        flags.push(Given { typed, value, entry });
        if is_help {
            break;
        }
    }
    Ok(Split { flags, word: None, rest: Vec::new() })
}

/// The name and the value of a word that looks like a flag; `None` if it does not.
fn dissect(argument: &OsStr) -> Result<Option<(&OsStr, Option<&OsStr>)>, ArgsError> {
    let bytes = argument.as_bytes();
    let flag = match bytes {
        [b'-', b'-', flag @ ..] | [b'-', flag @ ..] if !flag.is_empty() => flag,
        _ => return Ok(None),
    };
    if matches!(flag, [b'-' | b'=', ..]) {
        return Err(ArgsError::BadSyntax { argument: argument.to_string_lossy().into_owned() });
    }
    let mut parts = flag.splitn(2, |&byte| byte == b'=');
    let name = parts.next().unwrap_or_default();
    Ok(Some((OsStr::from_bytes(name), parts.next().map(OsStr::from_bytes))))
}
