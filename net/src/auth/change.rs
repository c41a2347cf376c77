//! What a change of the users means for those who are in already.

use super::nkey::UserKey;
use super::{Authorization, Credentials, Proof};

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
        if let Some(names) = proof.certificate_names {
            let name = names.iter().find(|name| self.users.contains_key(*name));
            return name.map_or(Login::Anonymous, |name| Login::User(name.clone()));
        }
        match credentials {
            Credentials { nkey: Some(key), .. } => Login::Key(key.clone()),
            Credentials { auth_token: Some(_), .. } if self.token.is_some() => Login::Token,
            Credentials { user: Some(name), .. } => Login::User(name.clone()),
            _ => Login::Anonymous,
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
