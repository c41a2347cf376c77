//! Configuration files: what `-c` and `-sc` name is read as if its keys were flags that stand before those of the
//! command line, so that the same rules hold for both and the command line wins.
//!
//! The keys are in [`keys`]. Promise: each has an effect, gives a warning, or is refused; none is passed over. The one
//! file that is given serves both as that of `-c` and as that of `-sc`.

mod authorization;
mod channels;
mod connections;
mod error;
mod keys;
#[cfg(test)]
mod mutations;
#[cfg(test)]
mod tests;
mod tls;

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::path::Path;

use weirlog_engine::limits::LimitRule;
use weirlog_net::conf::{self, Entry, Map, Outside, Place, SIZE_BYTES_MAX};
use weirlog_net::config::DISCOVER_PREFIX_DEFAULT;
use weirlog_net::tls::{ClientCertificates, TlsSpec};

use super::compatible::{Role, ValueForm};
use super::go_style::{Given, Vocabulary};
use super::options::{ConnectionOptions, LoginFile};
use super::values::ValueError;
pub(super) use authorization::FileAuthorization;
pub(crate) use error::FileError;
use keys::{Action, Key, NATS_KEYS, STREAMING_KEYS};

/// What only files can set.
#[derive(Debug, Clone)]
pub(super) struct FileSettings {
    pub(super) discover_prefix: String,
    pub(super) connections: ConnectionOptions,
    pub(super) authorization: FileAuthorization,
    pub(super) tls: Option<TlsSpec>,
    pub(super) is_plain_allowed: bool,
    pub(super) limit_rules: Vec<LimitRule>,
    pub(super) monitor_base_path: String,
    pub(super) login_file: Option<LoginFile>,
}

impl Default for FileSettings {
    fn default() -> Self {
        Self {
            discover_prefix: DISCOVER_PREFIX_DEFAULT.to_owned(),
            connections: ConnectionOptions::default(),
            authorization: FileAuthorization::default(),
            tls: None,
            is_plain_allowed: false,
            limit_rules: Vec::new(),
            monitor_base_path: String::new(),
            login_file: None,
        }
    }
}

/// What the files say.
#[derive(Debug, Default)]
pub(super) struct FromFiles {
    /// Keys that are flags, in their order.
    pub(super) flags: Vec<Given>,
    /// How to log in at the server that `nats_server` names; without one this has no effect.
    pub(super) login: Vec<Given>,
    pub(super) settings: FileSettings,
    pub(super) warnings: Vec<String>,
}

/// Reads the files of `-c` and `-sc`.
pub(super) fn read(
    config: Option<&Path>,
    stan_config: Option<&Path>,
    vocabulary: &Vocabulary,
    outside: Outside<'_>,
) -> Result<FromFiles, FileError> {
    let load = |file: &Path| conf::parse(file, outside).map_err(FileError::from);
    let mut reader = Reader { vocabulary, found: FromFiles::default(), no_auth_user_at: None };
    match (config, stan_config) {
        (Some(nats), Some(streaming)) if nats != streaming => {
            reader.keys(&load(nats)?, &[NATS_KEYS], "")?;
            reader.streaming_file(&load(streaming)?)?;
        }
        (Some(both), _) | (None, Some(both)) => reader.one_file(&load(both)?)?,
        (None, None) => {}
    }
    reader.check_authorization()?;
    Ok(reader.found)
}

/// The files and the environment of this process.
pub(super) const OUTSIDE: Outside<'static> =
    Outside { read: &text_of, variable: &|name| std::env::var(name).ok() };

/// The text of a file, but not more than can be used: it may be a device without an end.
fn text_of(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = std::fs::File::open(file)?;
    file.take(SIZE_BYTES_MAX as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

/// The map in which options of streaming may stand by themselves.
const STREAMING: &str = "streaming";

struct Reader<'a> {
    vocabulary: &'a Vocabulary,
    found: FromFiles,
    no_auth_user_at: Option<Place>,
}

impl Reader<'_> {
    /// A file for both: options of streaming stand in `streaming{}`, or without that among the others.
    fn one_file(&mut self, map: &Map) -> Result<(), FileError> {
        let Some(streaming) = map.get(STREAMING) else {
            return self.keys(map, &[NATS_KEYS, STREAMING_KEYS], "");
        };
        self.keys(streaming.value.map()?, &[STREAMING_KEYS], "streaming.")?;
        self.keys(map, &[NATS_KEYS, &[keys::READ_ALREADY]], "")
    }

    /// A file of `-sc` beside one of `-c`: with `streaming{}` in it the rest is somebody else's.
    fn streaming_file(&mut self, map: &Map) -> Result<(), FileError> {
        let Some(streaming) = map.get(STREAMING) else {
            return self.keys(map, &[STREAMING_KEYS], "");
        };
        self.keys(streaming.value.map()?, &[STREAMING_KEYS], "streaming.")?;
        for Entry { key, place, .. } in &map.entries {
            if !key.eq_ignore_ascii_case(STREAMING) {
                self.found.warnings.push(format!(
                    "{place}: {key} has no effect: beside streaming{{}} it belongs into the file of -config"
                ));
            }
        }
        Ok(())
    }

    /// Does what each key of `map` says; `path` is how errors begin their names.
    fn keys(&mut self, map: &Map, tables: &[&[Key]], path: &str) -> Result<(), FileError> {
        for entry in &map.entries {
            let is_it = |key: &&Key| key.names.iter().any(|n| n.eq_ignore_ascii_case(&entry.key));
            let name = format!("{path}{}", entry.key);
            let key = tables.iter().copied().flatten().find(is_it);
            let Some(key) = key else {
                return Err(FileError::UnknownKey { place: entry.place.clone(), key: name });
            };
            self.key(&key.action, entry, &name)?;
        }
        Ok(())
    }

    fn key(&mut self, action: &Action, entry: &Entry, name: &str) -> Result<(), FileError> {
        let invalid = |reason| FileError::invalid(entry, name, reason);
        match action {
            Action::Flag(flag) => {
                let given = self.given(flag, entry, name)?;
                self.found.flags.push(given);
            }
            Action::Count(flag) => {
                let count = entry.value.integer().map_err(|_| invalid(ValueError::NotANumber))?;
                let given = self.given(flag, entry, name)?;
                self.found.flags.push(Given { value: count.to_string().into(), ..given });
            }
            Action::Login(flag) => {
                let given = self.given(flag, entry, name)?;
                self.found.login.push(given);
            }
            Action::Listen => self.listen(entry, name)?,
            Action::Set(set) => {
                set(&mut self.found.settings, entry.value.text()?).map_err(invalid)?;
            }
            Action::Block(keys) => {
                self.keys(entry.value.map()?, &[keys], &format!("{name}."))?;
            }
            Action::Channels => {
                let rules = channels::rules(entry.value.map()?)?;
                self.found.settings.limit_rules.extend(rules);
            }
            Action::Authorization => {
                self.found.settings.authorization.read(entry.value.map()?)?;
            }
            Action::Tls => {
                let spec = tls::read(entry.value.map()?)?;
                let is_mapped = spec.client_certificates == ClientCertificates::Mapped;
                self.found.settings.authorization.set_certificate_users(is_mapped);
                self.found.settings.tls = Some(spec);
            }
            Action::SetSwitch(set) => set(&mut self.found.settings, entry.value.boolean()?),
            Action::NoAuthUser => {
                self.found.settings.authorization.set_no_auth_user(entry.value.text()?);
                self.no_auth_user_at = Some(entry.place.clone());
            }
            Action::Moot(reason) => {
                let warning = format!("{}: {name} has no effect: {reason}", entry.place);
                self.found.warnings.push(warning);
            }
            Action::Missing { what, instead } => {
                if keys::asks_for_something(&entry.value) {
                    return Err(FileError::not_available(entry, name, what, instead));
                }
            }
            Action::Done => {}
        }
        Ok(())
    }

    /// The key as if it were the flag `flag`.
    fn given(&self, flag: &str, entry: &Entry, name: &str) -> Result<Given, FileError> {
        let known = self.vocabulary.get(flag).expect("the tables name flags that there are");
        let value = if known.is_switch {
            entry.value.boolean()?.to_string()
        } else if let Some(Role::Missing { form, .. }) = known.role {
            // If it asks for something it is refused, so that its form does not matter.
            let is_asked = keys::asks_for_something(&entry.value);
            let nothing = if form == ValueForm::Number { "0" } else { "" };
            if is_asked { "something" } else { nothing }.to_owned()
        } else {
            entry.value.text()?.to_owned()
        };
        let typed = format!("{}: {name}", entry.place);
        Ok(Given { typed, value: OsString::from(value), entry: known.clone() })
    }

    /// `listen: 4222`, `listen: host:4222`, `listen: host`.
    fn listen(&mut self, entry: &Entry, name: &str) -> Result<(), FileError> {
        let text = entry.value.text()?;
        let is_port = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if is_port(port) => (host, Some(port)),
            None if is_port(text) => ("", Some(text)),
            _ => (text, None),
        };
        for (flag, value) in [("addr", Some(host)), ("port", port)] {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                let given = self.given(flag, entry, name)?;
                self.found.flags.push(Given { value: value.into(), ..given });
            }
        }
        Ok(())
    }

    /// What can be known only at the end.
    fn check_authorization(&self) -> Result<(), FileError> {
        self.found.settings.authorization.check(self.no_auth_user_at.as_ref())
    }
}
