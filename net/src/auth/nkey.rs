//! Keys of users: `U...`, base 32 of a kind, an Ed25519 public key and a check sum. A client proves that it has the
//! other half by signing the nonce of its connection.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use data_encoding::{BASE32_NOPAD, BASE64, BASE64URL_NOPAD};
use fastrand::Rng;
use ring::digest::{SHA256, digest};
use ring::signature::{ED25519, UnparsedPublicKey};

/// The first byte of a user's key: 20 in the upper five bits, the letter U.
pub(super) const USER_PREFIX: u8 = 20 << 3;
/// The bytes of an Ed25519 public key.
pub(super) const KEY_SIZE_BYTES: usize = 32;
/// Random bytes of a nonce, 15 letters.
const NONCE_SIZE_BYTES: usize = 11;

/// A user's public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct UserKey([u8; KEY_SIZE_BYTES]);

impl UserKey {
    /// Reads a key as it is written; none: it is none, or not a user's.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let bytes = read_whole(text)?;
        let (prefix, key) = bytes.split_first()?;
        let key = key.try_into().ok()?;
        (*prefix == USER_PREFIX).then_some(Self(key))
    }

    /// Whether `signature`, base64 with either alphabet, was made over `nonce` by the owner of this key.
    pub(super) fn has_signed(&self, nonce: &str, signature: &str) -> bool {
        let decoded = BASE64URL_NOPAD
            .decode(signature.as_bytes())
            .or_else(|_| BASE64.decode(signature.as_bytes()));
        decoded.is_ok_and(|signature| {
            UnparsedPublicKey::new(&ED25519, &self.0).verify(nonce.as_bytes(), &signature).is_ok()
        })
    }
}

/// A nonce for a connection. It is hashed, so that many nonces do not tell what the generator gives next.
#[must_use]
pub fn nonce(rng: &mut Rng) -> String {
    let seed: Vec<u8> = (0..4).flat_map(|_| rng.u64(..).to_le_bytes()).collect();
    let hash = digest(&SHA256, &seed);
    BASE64URL_NOPAD.encode(hash.as_ref().get(..NONCE_SIZE_BYTES).unwrap_or_default())
}

/// The bytes of a key or a seed, without their check sum; none: it is wrong, or they are none.
pub(super) fn read_whole(text: &str) -> Option<Vec<u8>> {
    let mut bytes = BASE32_NOPAD.decode(text.as_bytes()).ok()?;
    let (rest, sum) = bytes.split_last_chunk::<2>()?;
    let is_whole = u16::from_le_bytes(*sum) == crc16(rest);
    bytes.truncate(rest.len());
    is_whole.then_some(bytes)
}

/// A key or a seed as it is written: what says its kind, itself, and the check sum of both.
pub(super) fn written(prefix: &[u8], key: &[u8]) -> String {
    let mut bytes = [prefix, key].concat();
    bytes.extend_from_slice(&crc16(&bytes).to_le_bytes());
    BASE32_NOPAD.encode(&bytes)
}

/// CRC-16/XMODEM: polynomial 0x1021, nothing else.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum, byte| {
        (0..8).fold(sum ^ (u16::from(*byte) << 8), |sum, _| {
            if sum & 0x8000 == 0 { sum << 1 } else { (sum << 1) ^ 0x1021 }
        })
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

    use super::*;

    /// A user's key pair from a seed, and its public key as it is written.
    pub(crate) fn key_pair(seed: u8) -> (Ed25519KeyPair, String) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let text = written(&[USER_PREFIX], pair.public_key().as_ref());
        (pair, text)
    }

    /// The seed of `key_pair(seed)` as it is written.
    pub(crate) fn seed_text(seed: u8) -> String {
        written(&super::super::seed::USER_SEED_PREFIX, &[seed; 32])
    }

    #[test]
    fn the_check_sum_is_xmodems() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
    }

    #[test]
    fn only_a_whole_key_of_a_user_is_one() {
        let (_, text) = key_pair(1);
        assert!(text.starts_with('U') && text.len() == 56, "{text}");
        assert!(UserKey::parse(&text).is_some());
        let mut other = text.clone();
        other.replace_range(9..10, if &text[9..10] == "A" { "B" } else { "A" });
        let lower = text.to_lowercase();
        let account = text.replacen('U', "A", 1);
        for wrong in ["", "U", &text[..55], &other, &lower, &account] {
            assert_eq!(UserKey::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_the_owner_signs_and_only_this_nonce() {
        let (pair, text) = key_pair(2);
        let key = UserKey::parse(&text).unwrap();
        let signature = pair.sign(b"nonce");
        assert!(key.has_signed("nonce", &BASE64URL_NOPAD.encode(signature.as_ref())));
        assert!(key.has_signed("nonce", &BASE64.encode(signature.as_ref())));
        assert!(!key.has_signed("other", &BASE64.encode(signature.as_ref())));
        let (stranger, _) = key_pair(3);
        let signature = stranger.sign(b"nonce");
        assert!(!key.has_signed("nonce", &BASE64.encode(signature.as_ref())));
        assert!(!key.has_signed("nonce", "!"));
    }

    #[test]
    fn nonces_differ_and_follow_the_seed() {
        let mut rng = Rng::with_seed(7);
        let (one, two) = (nonce(&mut rng), nonce(&mut rng));
        assert_eq!(one.len(), 15);
        assert_ne!(one, two);
        assert_eq!(nonce(&mut Rng::with_seed(7)), one);
    }
}
