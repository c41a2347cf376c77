//! What a change of the users means for those who are in already.

use super::{Authorization, Credentials};

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
}

impl Authorization {
    /// As whom these credentials, which were found right, let a connection in.
    #[must_use]
    pub fn login_of(&self, credentials: &Credentials) -> Login {
        match credentials {
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
            Login::User(name) => {
                self.users.contains_key(name) && self.users.get(name) == new.users.get(name)
            }
        }
    }
}
