//! Who may connect, and what for: users and tokens as the operator wrote them, compiled once; credentials as a client
//! sent them in CONNECT; and the decision between the two, which is pure.
//!
//! The value is built before the cores start and never changes, so all of them share it.

mod change;
pub(crate) mod nkey;
mod permissions;
mod secret;
mod seed;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use nkey::UserKey;
use secret::{Compared, Secret};
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};

pub use change::Login;
pub use nkey::nonce;
pub use permissions::{PermissionSpec, Permissions, ResponseLimits, RuleSpec};
pub use secret::PasswordCheck;
pub use seed::{Seed, UserCredentials};

/// How long a client may take for its CONNECT, unless told otherwise: two seconds, as in the reference.
pub const TIMEOUT_MS_DEFAULT: u64 = 2_000;

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
    /// It begins like a bcrypt hash and is none.
    #[error("a password that begins like a bcrypt hash is none")]
    Bcrypt,
    /// Not the public key of a user.
    #[error("{0:?} is no public key of a user")]
    Key(String),
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
    /// The password, as it is or as a bcrypt hash. Empty only where certificates say who a client is.
    pub password: String,
    /// What it may do; none: what [`AuthorizationSpec::default_permissions`] says.
    pub permissions: Option<PermissionSpec>,
}

/// A user that signs a nonce instead of knowing a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySpec {
    /// Its public key, `U...`.
    pub key: String,
    /// What it may do; none: what [`AuthorizationSpec::default_permissions`] says.
    pub permissions: Option<PermissionSpec>,
}

/// All that the operator wrote about authorization.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AuthorizationSpec {
    /// The users, at most one of a name.
    pub users: Vec<UserSpec>,
    /// Users that sign, at most one of a key.
    pub keys: Vec<KeySpec>,
    /// Whether users may be without a password: the names in clients' certificates say who they are.
    pub has_certificate_users: bool,
    /// Whoever knows it may come in, beside the users.
    pub token: Option<String>,
    /// What those may do that have no permissions of their own; none: everything.
    pub default_permissions: Option<PermissionSpec>,
    /// The user that connections without credentials are.
    pub no_auth_user: Option<String>,
    /// How long a client may take from its connection to its CONNECT; none: [`TIMEOUT_MS_DEFAULT`].
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

/// What a connection knows about its client beside what CONNECT says.
#[derive(Debug, Clone, Copy, Default)]
pub struct Proof<'a> {
    /// What was to be signed; none: nothing.
    pub nonce: Option<&'a str>,
    /// The names in its certificate, if they are to say who it is.
    pub certificate_names: Option<&'a [String]>,
}

/// Who a client is.
#[derive(Debug)]
pub enum Decision {
    /// This one.
    Known(Identity),
    /// To be seen: a password must be compared with a hash first.
    Hashed(PasswordCheck),
}

#[derive(PartialEq, Eq)]
struct User {
    password: Secret,
    identity: Identity,
}

/// Who may connect. See the module.
pub struct Authorization {
    users: BTreeMap<String, User>,
    keys: BTreeMap<UserKey, Identity>,
    token: Option<Secret>,
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
        let identity_of = |permissions: Option<&PermissionSpec>| match permissions {
            Some(_) => compile(permissions),
            None => Ok(default_identity.clone()),
        };
        let mut users = BTreeMap::new();
        for UserSpec { name, password, permissions } in &spec.users {
            if name.is_empty() {
                return Err(AuthError::Empty);
            }
            let identity = identity_of(permissions.as_ref())?;
            let password = match password.is_empty() && spec.has_certificate_users {
                true => Secret::None,
                false => Secret::new(password)?,
            };
            let user = User { password, identity };
            if users.insert(name.clone(), user).is_some() {
                return Err(AuthError::Duplicate(name.clone()));
            }
        }
        let mut keys = BTreeMap::new();
        for KeySpec { key, permissions } in &spec.keys {
            let identity = identity_of(permissions.as_ref())?;
            let parsed = UserKey::parse(key).ok_or_else(|| AuthError::Key(key.clone()))?;
            if keys.insert(parsed, identity).is_some() {
                return Err(AuthError::Duplicate(key.clone()));
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
            keys,
            token: spec.token.as_deref().map(Secret::new).transpose()?,
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

    /// How long a client may take from its connection to its CONNECT.
    #[must_use]
    pub fn timeout_ms(&self) -> u64 {
        self.timeout_ms
    }

    /// Whether clients need a nonce to sign.
    #[must_use]
    pub fn wants_signatures(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Who a client with these credentials is. The time it takes does not tell how much of a secret was right.
    ///
    /// # Errors
    /// Nobody.
    pub fn decide(
        &self,
        credentials: &Credentials,
        proof: Proof<'_>,
    ) -> Result<Decision, Violation> {
        match self.claim_of(credentials, proof) {
            Claim::Certificate(name) => {
                let user = name.and_then(|name| self.users.get(name)).ok_or(Violation)?;
                Ok(Decision::Known(user.identity.clone()))
            }
            Claim::Key(key) => {
                let signature = credentials.sig.as_deref().unwrap_or_default();
                self.decide_by_key(key, signature, proof.nonce).map(Decision::Known)
            }
            Claim::Token(token, given) => compared(token, given, &self.token_identity),
            Claim::User(name) => {
                let user = self.users.get(name).ok_or(Violation)?;
                let given = credentials.pass.as_deref().unwrap_or_default();
                compared(&user.password, given, &user.identity)
            }
            Claim::UnwantedToken => Err(Violation),
            Claim::Nobody => self.no_auth_identity.clone().map(Decision::Known).ok_or(Violation),
        }
    }

    /// Which of a client's credentials count: the first of these that there is.
    fn claim_of<'a>(&'a self, credentials: &'a Credentials, proof: Proof<'a>) -> Claim<'a> {
        if let Some(names) = proof.certificate_names {
            let mut known = names.iter().filter(|name| self.users.contains_key(*name));
            return Claim::Certificate(known.next().map(String::as_str));
        }
        match (credentials, &self.token) {
            (Credentials { nkey: Some(key), .. }, _) => Claim::Key(key),
            (Credentials { auth_token: Some(given), .. }, Some(token)) => {
                Claim::Token(token, given)
            }
            (Credentials { user: Some(name), .. }, _) => Claim::User(name),
            (Credentials { auth_token: Some(_), .. }, None) => Claim::UnwantedToken,
            _ => Claim::Nobody,
        }
    }

    fn decide_by_key(
        &self,
        key: &str,
        signature: &str,
        nonce: Option<&str>,
    ) -> Result<Identity, Violation> {
        let key = UserKey::parse(key).ok_or(Violation)?;
        let identity = self.keys.get(&key).ok_or(Violation)?;
        let is_right = nonce.is_some_and(|nonce| key.has_signed(nonce, signature));
        if is_right { Ok(identity.clone()) } else { Err(Violation) }
    }
}

/// As whom a client wants to come in.
enum Claim<'a> {
    /// As the user that its certificate names; none: it names nobody who is known.
    Certificate(Option<&'a str>),
    /// As the owner of a key.
    Key(&'a str),
    /// By the token, which is to be compared with what was given.
    Token(&'a Secret, &'a str),
    /// As a user.
    User(&'a str),
    /// By a token where there is none.
    UnwantedToken,
    /// Without a word.
    Nobody,
}

fn compared(secret: &Secret, given: &str, identity: &Identity) -> Result<Decision, Violation> {
    let identity = identity.clone();
    match secret.compare(given) {
        Compared::Right => Ok(Decision::Known(identity)),
        Compared::Wrong => Err(Violation),
        Compared::Hashed(hash) => {
            Ok(Decision::Hashed(PasswordCheck { hash, given: given.to_owned(), identity }))
        }
    }
}

/// What a client says in CONNECT about who it is. It lives as long as the decision takes.
#[derive(Default)]
pub struct Credentials {
    user: Option<String>,
    pass: Option<String>,
    auth_token: Option<String>,
    nkey: Option<String>,
    sig: Option<String>,
}

impl Credentials {
    /// Reads them from the JSON of a CONNECT, as [`Connect`](crate::info::Connect) reads the rest of it. Empty is the
    /// same as missing: clients send empty fields.
    #[must_use]
    pub fn parse(json: &[u8]) -> Option<Self> {
        let mut credentials = Self::default();
        let mut input = serde_json::Deserializer::from_slice(json);
        input.deserialize_any(Said(&mut credentials)).and_then(|()| input.end()).ok()?;
        credentials.user = credentials.user.filter(|text| !text.is_empty());
        credentials.auth_token = credentials.auth_token.filter(|text| !text.is_empty());
        credentials.nkey = credentials.nkey.filter(|text| !text.is_empty());
        Some(credentials)
    }
}

/// Takes what a CONNECT says about who its client is.
struct Said<'a>(&'a mut Credentials);

impl<'de> Visitor<'de> for Said<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let Self(credentials) = self;
        while let Some(key) = map.next_key::<String>()? {
            let field = match key.to_ascii_lowercase().as_str() {
                "user" => &mut credentials.user,
                "pass" => &mut credentials.pass,
                "auth_token" => &mut credentials.auth_token,
                "nkey" => &mut credentials.nkey,
                "sig" => &mut credentials.sig,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            if let Some(text) = map.next_value()? {
                *field = Some(text);
            }
        }
        Ok(())
    }
}
