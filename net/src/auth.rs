//! Who may connect, and what for: users and tokens as the operator wrote them, compiled once; credentials as a client
//! sent them in CONNECT; and the decision between the two, which is pure.
//!
//! The value is built before the cores start and never changes, so all of them share it.

mod change;
mod permissions;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use subtle::ConstantTimeEq as _;

pub use change::Login;
pub use permissions::{PermissionSpec, Permissions, RuleSpec};

/// How long a client may take for its CONNECT, unless told otherwise: two seconds, as in the reference.
pub const TIMEOUT_MS_DEFAULT: u64 = 2_000;

/// What passwords hashed by bcrypt begin with.
const BCRYPT_PREFIXES: [&str; 3] = ["$2a$", "$2b$", "$2y$"];

/// Why a set of users was refused. No text holds a password or a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// A login without a name, a password or a token would let in whoever says nothing.
    #[error("a user needs a name and a password, a token must not be empty")]
    Empty,
    /// Two users of one name.
    #[error("user {0:?} is there twice")]
    Duplicate(String),
    /// A hash, which would take the core's thread for a tenth of a second at each CONNECT.
    #[error("bcrypt passwords are not available yet: use a plain one")]
    Bcrypt,
    /// The user for connections without credentials is not among the users.
    #[error("no_auth_user {0:?} is not among the users")]
    NoAuthUser(String),
    /// A rule that is no subject, or no "subject queue".
    #[error("{0:?} is no subject and no \"subject queue\"")]
    Subject(String),
    /// A queue where only subjects can stand.
    #[error("{0:?}: a publish rule has no queue")]
    Queue(String),
}

/// A user as the operator wrote it.
#[derive(Clone, PartialEq, Eq)]
pub struct UserSpec {
    /// The name.
    pub name: String,
    /// The password, as it is.
    pub password: String,
    /// What it may do; none: what [`AuthorizationSpec::default_permissions`] says.
    pub permissions: Option<PermissionSpec>,
}

/// All that the operator wrote about authorization.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AuthorizationSpec {
    /// The users, at most one of a name.
    pub users: Vec<UserSpec>,
    /// Whoever knows it may come in, beside the users.
    pub token: Option<String>,
    /// What those may do that have no permissions of their own; none: everything.
    pub default_permissions: Option<PermissionSpec>,
    /// The user that connections without credentials are.
    pub no_auth_user: Option<String>,
    /// How long a client may take for its CONNECT; none: [`TIMEOUT_MS_DEFAULT`].
    pub timeout_ms: Option<u64>,
}

impl fmt::Debug for UserSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserSpec").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for AuthorizationSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationSpec").field("users", &self.users).finish_non_exhaustive()
    }
}

/// Who a connection is: what it may do. `None`: everything.
pub type Identity = Option<Arc<Permissions>>;

/// Wrong credentials, or none. The client is told no more than that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation;

#[derive(PartialEq, Eq)]
struct User {
    password: Box<[u8]>,
    identity: Identity,
}

/// Who may connect. See the module.
pub struct Authorization {
    users: BTreeMap<String, User>,
    token: Option<Box<[u8]>>,
    token_identity: Identity,
    no_auth_identity: Option<Identity>,
    timeout_ms: u64,
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorization").field("users", &self.users.len()).finish_non_exhaustive()
    }
}

impl Authorization {
    /// Compiles what the operator wrote.
    ///
    /// # Errors
    /// Something in it has no meaning, or would let in whoever says nothing.
    pub fn new(spec: &AuthorizationSpec) -> Result<Self, AuthError> {
        let compile = |permissions: Option<&PermissionSpec>| match permissions {
            Some(spec) => Permissions::new(spec).map(|permissions| Some(Arc::new(permissions))),
            None => Ok(None),
        };
        let default_identity: Identity = compile(spec.default_permissions.as_ref())?;
        let mut users = BTreeMap::new();
        for UserSpec { name, password, permissions } in &spec.users {
            if name.is_empty() {
                return Err(AuthError::Empty);
            }
            let identity = match permissions {
                Some(_) => compile(permissions.as_ref())?,
                None => default_identity.clone(),
            };
            let user = User { password: secret(password)?, identity };
            if users.insert(name.clone(), user).is_some() {
                return Err(AuthError::Duplicate(name.clone()));
            }
        }
        let no_auth_identity = match &spec.no_auth_user {
            Some(name) => {
                let user = users.get(name).ok_or_else(|| AuthError::NoAuthUser(name.clone()))?;
                Some(user.identity.clone())
            }
            None => None,
        };
        Ok(Self {
            users,
            token: spec.token.as_deref().map(secret).transpose()?,
            token_identity: default_identity,
            no_auth_identity,
            timeout_ms: spec.timeout_ms.unwrap_or(TIMEOUT_MS_DEFAULT),
        })
    }

    /// Who a connection without credentials is; none: it must send some.
    #[must_use]
    pub fn no_auth_identity(&self) -> Option<&Identity> {
        self.no_auth_identity.as_ref()
    }

    /// How long a client may take for its CONNECT.
    #[must_use]
    pub fn timeout_ms(&self) -> u64 {
        self.timeout_ms
    }

    /// Who a client with these credentials is. The time it takes does not tell how much of a secret was right.
    ///
    /// # Errors
    /// Nobody.
    pub fn decide(&self, credentials: &Credentials) -> Result<Identity, Violation> {
        let Credentials { user, pass, auth_token } = credentials;
        if let (Some(given), Some(token)) = (auth_token, &self.token) {
            let is_right = bool::from(given.as_bytes().ct_eq(token));
            return if is_right { Ok(self.token_identity.clone()) } else { Err(Violation) };
        }
        if let Some(name) = user {
            let user = self.users.get(name).ok_or(Violation)?;
            let given = pass.as_deref().unwrap_or_default();
            let is_right = bool::from(given.as_bytes().ct_eq(&user.password));
            return if is_right { Ok(user.identity.clone()) } else { Err(Violation) };
        }
        if auth_token.is_some() {
            return Err(Violation);
        }
        self.no_auth_identity.clone().ok_or(Violation)
    }
}

/// A secret that can be compared as it is.
fn secret(text: &str) -> Result<Box<[u8]>, AuthError> {
    if text.is_empty() {
        return Err(AuthError::Empty);
    }
    if BCRYPT_PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
        return Err(AuthError::Bcrypt);
    }
    Ok(text.as_bytes().into())
}

/// What a client says in CONNECT about who it is. It lives as long as the decision takes.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Credentials {
    user: Option<String>,
    pass: Option<String>,
    auth_token: Option<String>,
}

impl Credentials {
    /// Reads them from the JSON of a CONNECT. Empty is the same as missing: clients send empty fields.
    #[must_use]
    pub fn parse(json: &[u8]) -> Option<Self> {
        let mut credentials: Self = serde_json::from_slice(json).ok()?;
        credentials.user = credentials.user.filter(|text| !text.is_empty());
        credentials.auth_token = credentials.auth_token.filter(|text| !text.is_empty());
        Some(credentials)
    }
}
