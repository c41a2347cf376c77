//! `authorization{}`: users, a token, permissions.

use weirlog_net::auth::{
    AuthError, Authorization, AuthorizationSpec, KeySpec, PermissionSpec, Permissions,
    ResponseLimits, RuleSpec, UserSpec,
};
use weirlog_net::conf::{Entry, Kind, Map, Place, Value};

use super::error::FileError;
use crate::args::options::LoginOptions;
use crate::args::values;

/// Who may connect, as the files say.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct FileAuthorization {
    spec: AuthorizationSpec,
    /// The only user, outside of the list.
    single: Option<UserSpec>,
    /// The first user without a password, who is one only where certificates say who a client is.
    without_password: Option<Place>,
    /// Where the block stands.
    place: Option<Place>,
}

impl FileAuthorization {
    /// Reads the block.
    pub(super) fn read(&mut self, map: &Map) -> Result<(), FileError> {
        for entry in &map.entries {
            self.place.get_or_insert_with(|| entry.place.clone());
            let text = || entry.value.text().map(str::to_owned);
            match entry.key.to_ascii_lowercase().as_str() {
                "user" | "username" => self.single_user().name = text()?,
                "pass" | "password" => self.single_user().password = text()?,
                "token" => self.spec.token = Some(text()?),
                "timeout" => self.spec.timeout_ms = Some(timeout_ms(entry)?),
                "users" => {
                    for value in entry.value.list() {
                        self.user(value)?;
                    }
                }
                "default_permissions" | "default_permission" | "permissions" => {
                    self.spec.default_permissions = Some(permissions(&entry.value)?);
                }
                "auth_callout" => return Err(refused(entry, "deciding elsewhere who may connect")),
                _ => return Err(FileError::unknown(entry, "authorization.")),
            }
        }
        Ok(())
    }

    fn single_user(&mut self) -> &mut UserSpec {
        let nobody =
            || UserSpec { name: String::new(), password: String::new(), permissions: None };
        self.single.get_or_insert_with(nobody)
    }

    /// Adds one of the list.
    fn user(&mut self, value: &Value) -> Result<(), FileError> {
        let mut key = None;
        let mut user = UserSpec { name: String::new(), password: String::new(), permissions: None };
        for entry in &value.map()?.entries {
            let text = || entry.value.text().map(str::to_owned);
            match entry.key.to_ascii_lowercase().as_str() {
                "user" | "username" => user.name = text()?,
                "pass" | "password" => user.password = text()?,
                "permissions" | "permission" | "authorization" => {
                    user.permissions = Some(permissions(&entry.value)?);
                }
                "nkey" => key = Some(text()?),
                "account" => return Err(refused(entry, "accounts")),
                "allowed_connection_types" | "connection_types" | "clients" => {
                    // There is one kind of connections; a list without it shuts the user out.
                    let is_standard = |value: &Value| {
                        value.text().is_ok_and(|text| text.eq_ignore_ascii_case("standard"))
                    };
                    if !entry.value.list().iter().any(is_standard) {
                        return Err(refused(entry, "connections other than STANDARD"));
                    }
                }
                _ => return Err(FileError::unknown(entry, "users.")),
            }
        }
        if let Some(key) = key {
            if !user.name.is_empty() || !user.password.is_empty() {
                return Err(FileError::KeyAndPassword { place: value.place.clone() });
            }
            self.spec.keys.push(KeySpec { key, permissions: user.permissions });
            return Ok(());
        }
        if user.name.is_empty() {
            return Err(FileError::Authorization {
                place: value.place.clone(),
                reason: AuthError::Empty,
            });
        }
        if user.password.is_empty() {
            self.without_password.get_or_insert_with(|| value.place.clone());
        }
        self.spec.users.push(user);
        Ok(())
    }

    pub(super) fn set_no_auth_user(&mut self, name: &str) {
        self.spec.no_auth_user = Some(name.to_owned()).filter(|name| !name.is_empty());
    }

    /// Whether all that was read makes sense; `no_auth_user_at` is where that key stands.
    pub(super) fn check(&self, no_auth_user_at: Option<&Place>) -> Result<(), FileError> {
        let Some(place) = self.place.as_ref().or(no_auth_user_at) else { return Ok(()) };
        if self.single.is_some() && !self.spec.users.is_empty() {
            return Err(FileError::UserAndUsers { place: place.clone() });
        }
        if let Some(place) = self.without_password.clone().filter(|_| !self.has_certificates()) {
            return Err(FileError::Authorization { place, reason: AuthError::Empty });
        }
        let Some(spec) = self.with_login(&LoginOptions::default()) else { return Ok(()) };
        let refused = |reason| FileError::Authorization { place: place.clone(), reason };
        Authorization::new(&spec).map(drop).map_err(refused)
    }

    /// Whether certificates say who a client is.
    pub(super) fn set_certificate_users(&mut self, is_mapped: bool) {
        self.spec.has_certificate_users = is_mapped;
    }

    fn has_certificates(&self) -> bool {
        self.spec.has_certificate_users
    }

    /// Whether a login on the command line changes nothing.
    pub(in super::super) fn has_users(&self) -> bool {
        !self.spec.users.is_empty() || !self.spec.keys.is_empty()
    }

    /// Who may connect, with the login of the command line in the place of the file's single one; none: everybody.
    pub(in super::super) fn with_login(&self, login: &LoginOptions) -> Option<AuthorizationSpec> {
        let mut spec = self.spec.clone();
        if !self.has_users() {
            let LoginOptions { user, password, token } = login;
            if !user.is_empty() || !password.is_empty() {
                let (name, password) = (user.clone(), password.clone());
                spec.users.push(UserSpec { name, password, permissions: None });
            } else {
                spec.users.extend(self.single.clone());
            }
            if !token.is_empty() {
                spec.token = Some(token.clone());
            }
        }
        let asks_nobody = spec.users.is_empty() && spec.keys.is_empty() && spec.token.is_none();
        (!asks_nobody || spec.no_auth_user.is_some()).then_some(spec)
    }
}

fn refused(entry: &Entry, what: &'static str) -> FileError {
    FileError::not_available(entry, &entry.key, what, "leave it out")
}

/// Seconds, perhaps with decimals, or a duration with a unit.
pub(super) fn timeout_ms(entry: &Entry) -> Result<u64, FileError> {
    let text = entry.value.text()?;
    let with_unit = values::positive_duration(text);
    let duration = with_unit.or_else(|_| values::positive_duration(&format!("{text}s")));
    let duration = duration.map_err(|reason| FileError::invalid(entry, &entry.key, reason))?;
    Ok(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1))
}

fn permissions(value: &Value) -> Result<PermissionSpec, FileError> {
    let mut spec = PermissionSpec::default();
    for entry in &value.map()?.entries {
        match entry.key.to_ascii_lowercase().as_str() {
            "publish" | "pub" | "import" => spec.publish = rule(&entry.value)?,
            "subscribe" | "sub" | "export" => spec.subscribe = rule(&entry.value)?,
            "allow_responses" | "allow_response" => spec.responses = responses(&entry.value)?,
            _ => return Err(FileError::unknown(entry, "permissions.")),
        }
    }
    // Here, where the line is known.
    let refused = |reason| FileError::Authorization { place: value.place.clone(), reason };
    Permissions::new(&spec).map_err(refused)?;
    Ok(spec)
}

/// A switch, or limits by name. As in the reference a negative limit is none, and 0 is the default.
fn responses(value: &Value) -> Result<Option<ResponseLimits>, FileError> {
    let mut limits = ResponseLimits::default();
    let Kind::Map(map) = &value.kind else { return Ok(value.boolean()?.then_some(limits)) };
    for entry in &map.entries {
        match entry.key.to_ascii_lowercase().as_str() {
            "max" | "max_msgs" | "maxmsgs" => {
                match values::integer(entry.value.text()?) {
                    Ok(0) => {}
                    Ok(count) => limits.count_max = u64::try_from(count).ok(),
                    Err(reason) => return Err(FileError::invalid(entry, &entry.key, reason)),
                };
            }
            "expires" | "expiration" | "ttl" => {
                let is_endless = entry.value.text()?.starts_with('-');
                limits.expires_ms = if is_endless { None } else { Some(timeout_ms(entry)?) };
            }
            _ => return Err(FileError::unknown(entry, "permissions.allow_responses.")),
        }
    }
    Ok(Some(limits))
}

/// A subject, a list of them, or both lists by name.
fn rule(value: &Value) -> Result<RuleSpec, FileError> {
    let Kind::Map(map) = &value.kind else {
        return Ok(RuleSpec { allow: Some(subjects(value)?), deny: Vec::new() });
    };
    let mut spec = RuleSpec::default();
    for entry in &map.entries {
        match entry.key.to_ascii_lowercase().as_str() {
            "allow" => spec.allow = Some(subjects(&entry.value)?),
            "deny" => spec.deny = subjects(&entry.value)?,
            _ => return Err(FileError::unknown(entry, "permissions.")),
        }
    }
    Ok(spec)
}

fn subjects(value: &Value) -> Result<Vec<String>, FileError> {
    value.list().iter().map(|one| Ok(one.text()?.to_owned())).collect()
}
