//! The secret half of a user's key, as it stands in files: `SU...`, alone, between dashes, or behind the JWT of a
//! credentials file. It signs the nonce of another NATS server.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::fmt;
use std::io;
use std::path::Path;

use data_encoding::BASE64URL_NOPAD;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use super::nkey::{self, KEY_SIZE_BYTES, USER_PREFIX};

/// The first bytes of a user's seed: 18 in the upper five bits, the letter S, and the kind of key in the next eight.
pub(super) const USER_SEED_PREFIX: [u8; 2] =
    [(18 << 3) | (USER_PREFIX >> 5), (USER_PREFIX & 31) << 3];

/// The seed of a user's key.
#[derive(Clone, PartialEq, Eq)]
pub struct Seed([u8; KEY_SIZE_BYTES]);

/// What a credentials file says: who the user is, signed by its account, and the seed that proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserCredentials {
    /// The JWT, as it stands there.
    pub jwt: String,
    /// The seed.
    pub seed: Seed,
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}

impl Seed {
    /// Reads a seed as it is written; none: it is none, or not a user's.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = nkey::read_whole(text)?;
        let (prefix, seed) = bytes.split_first_chunk()?;
        // A pair can be made of any 32 bytes.
        let seed = seed.try_into().ok()?;
        (*prefix == USER_SEED_PREFIX).then_some(Self(seed))
    }

    /// The first line of a file that is a seed.
    ///
    /// # Errors
    /// The file cannot be read, or has none.
    pub fn load(path: &Path) -> io::Result<Self> {
        Self::find(&std::fs::read_to_string(path)?)
    }

    /// The same in the file's text.
    pub(crate) fn find(text: &str) -> io::Result<Self> {
        let found = text.lines().find_map(|line| Self::parse(line.trim()));
        found.ok_or_else(|| io::Error::other("there is no seed of a user in it (SU...)"))
    }

    /// The public key, as it is written.
    #[must_use]
    pub fn public_key(&self) -> String {
        nkey::written(&[USER_PREFIX], self.pair().public_key().as_ref())
    }

    /// A server's nonce, signed.
    #[must_use]
    pub fn sign(&self, nonce: &str) -> String {
        BASE64URL_NOPAD.encode(self.pair().sign(nonce.as_bytes()).as_ref())
    }

    fn pair(&self) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&self.0).expect("a seed is of this length")
    }
}

impl UserCredentials {
    /// Reads a credentials file.
    ///
    /// # Errors
    /// It cannot be read, or lacks the JWT or the seed.
    pub fn load(path: &Path) -> io::Result<Self> {
        Self::find(&std::fs::read_to_string(path)?)
    }

    /// The same in the file's text.
    pub(crate) fn find(text: &str) -> io::Result<Self> {
        let is_jwt = |line: &&str| line.starts_with("ey") && line.split('.').count() == 3;
        let jwt = text.lines().map(str::trim).find(is_jwt);
        let jwt = jwt.ok_or_else(|| io::Error::other("there is no JWT in it"))?;
        Ok(Self { jwt: jwt.to_owned(), seed: Seed::find(text)? })
    }
}

#[cfg(test)]
mod tests {
    use super::super::nkey::tests::{key_pair, seed_text};
    use super::*;

    #[test]
    fn a_seed_signs_as_its_public_key_says() {
        let text = seed_text(4);
        assert!(text.starts_with("SU") && text.len() == 58, "{text}");
        let seed = Seed::parse(&text).unwrap();
        assert_eq!(seed.public_key(), key_pair(4).1);
        let key = nkey::UserKey::parse(&seed.public_key()).unwrap();
        assert!(key.has_signed("nonce", &seed.sign("nonce")));
        assert_eq!(format!("{seed:?}"), "Seed(..)");
        for wrong in ["", "SU", &text[1..], &text.replacen("SU", "SA", 1), &key_pair(4).1] {
            assert_eq!(Seed::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn files_hold_a_seed_alone_or_behind_a_jwt() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let load = |text: &str| {
            std::fs::write(&path, text).unwrap();
            (Seed::load(&path).ok(), UserCredentials::load(&path).ok())
        };
        let seed = Seed::parse(&seed_text(5)).unwrap();
        let text = seed_text(5);
        assert_eq!(load(&format!("  {text} \n")), (Some(seed.clone()), None));
        assert_eq!(load("nothing"), (None, None));
        let decorated = format!(
            "-----BEGIN NATS USER JWT-----\neyJ0.eyJq.c2ln\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{text}\n------END USER NKEY SEED------\n"
        );
        let credentials = UserCredentials { jwt: "eyJ0.eyJq.c2ln".to_owned(), seed: seed.clone() };
        assert_eq!(load(&decorated), (Some(seed), Some(credentials)));
        assert!(Seed::load(&directory.path().join("none")).is_err());
    }
}
