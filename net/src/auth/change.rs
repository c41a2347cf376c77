//! What a change of the users means for those who are in already.

use super::nkey::UserKey;
use super::{Authorization, Claim, Credentials, Proof};

/// As whom a connection has come in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Login {
    /// Without saying who, as all may or as `no_auth_user`.
    #[default]
    Anonymous,
    /// By the token.
    Token,
    /// As a user of this name.
    User(String),
    /// As the owner of this key.
    Key(String),
}

impl Authorization {
    /// As whom these credentials, which were found right, let a connection in.
    #[must_use]
    pub fn login_of(&self, credentials: &Credentials, proof: Proof<'_>) -> Login {
        match self.claim_of(credentials, proof) {
            Claim::Certificate(Some(name)) | Claim::User(name) => Login::User(name.to_owned()),
            Claim::Key(key) => Login::Key(key.to_owned()),
            Claim::Token(..) => Login::Token,
            Claim::Certificate(None) | Claim::UnwantedToken | Claim::Nobody => Login::Anonymous,
        }
    }

    /// Whether whoever came in as `login` could do so under `new` with the same secret, and may do the same.
    #[must_use]
    pub fn holds_under(&self, new: &Self, login: &Login) -> bool {
        match login {
            Login::Anonymous => {
                new.no_auth_identity.is_some() && self.no_auth_identity == new.no_auth_identity
            }
            Login::Token => {
                self.token.is_some()
                    && self.token == new.token
                    && self.token_identity == new.token_identity
            }
            Login::Key(key) => {
                let key = UserKey::parse(key);
                let of = |keys: &Self| key.as_ref().and_then(|key| keys.keys.get(key).cloned());
                of(self).is_some() && of(self) == of(new)
            }
            Login::User(name) => {
                self.users.contains_key(name) && self.users.get(name) == new.users.get(name)
            }
        }
    }
}
