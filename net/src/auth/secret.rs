//! Passwords and tokens: as they are, or as bcrypt hashes. A plain one is compared at once, in a time that does not
//! tell how much of it was right; a hash takes a tenth of a second, which is not the core's thread's to spend.

use std::sync::Arc;

use subtle::ConstantTimeEq as _;

use super::{AuthError, Identity};

/// What bcrypt hashes begin with.
const BCRYPT_PREFIXES: [&str; 3] = ["$2a$", "$2b$", "$2y$"];

/// What a client must know.
#[derive(PartialEq, Eq)]
pub(super) enum Secret {
    /// Nothing lets in: the user is known by other means.
    None,
    /// The secret itself.
    Plain(Box<[u8]>),
    /// Its hash.
    Hash(Arc<str>),
}

/// What became of a secret that a client gave.
pub(super) enum Compared {
    Right,
    Wrong,
    /// A hash has to be made first.
    Hashed(Arc<str>),
}

impl Secret {
    /// Reads what the operator wrote.
    pub(super) fn new(text: &str) -> Result<Self, AuthError> {
        if text.is_empty() {
            return Err(AuthError::Empty);
        }
        if !BCRYPT_PREFIXES.iter().any(|prefix| text.starts_with(prefix)) {
            return Ok(Self::Plain(text.as_bytes().into()));
        }
        let is_hash = text.parse::<bcrypt::HashParts>().is_ok();
        if is_hash { Ok(Self::Hash(text.into())) } else { Err(AuthError::Bcrypt) }
    }

    pub(super) fn compare(&self, given: &str) -> Compared {
        match self {
            Self::None => Compared::Wrong,
            Self::Plain(secret) if bool::from(given.as_bytes().ct_eq(secret)) => Compared::Right,
            Self::Plain(_) => Compared::Wrong,
            Self::Hash(hash) => Compared::Hashed(hash.clone()),
        }
    }
}

/// A password to be compared with a hash, on a thread that may take its time.
pub struct PasswordCheck {
    pub(super) hash: Arc<str>,
    pub(super) given: String,
    /// Who the client is if it is right.
    pub(super) identity: Identity,
}

impl PasswordCheck {
    /// Compares; takes as long as the cost in the hash says. None: it is wrong.
    #[must_use]
    pub fn run(self) -> Option<Identity> {
        let is_right = bcrypt::verify(&self.given, &self.hash).unwrap_or(false);
        is_right.then_some(self.identity)
    }
}

impl std::fmt::Debug for PasswordCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PasswordCheck").finish_non_exhaustive()
    }
}
