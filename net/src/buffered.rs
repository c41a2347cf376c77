//! What the connections of one core hold in memory: messages that came in part, what waits to be sent, and their
//! subscriptions. Each holder charges its part, and gives it back when it goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

/// The sum of a core's charges, in bytes. Clones are the same sum.
#[derive(Debug, Clone, Default)]
pub struct Buffered(Arc<AtomicUsize>);

impl Buffered {
    /// The sum.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// A holder's part of the sum, of nothing yet.
    #[must_use]
    pub fn charge(&self) -> Charge {
        Charge { sum: self.clone(), bytes: 0 }
    }

    /// A copy of `bytes` that counts once, however many share it, until the last of them lets go.
    #[must_use]
    pub fn shared_copy(&self, bytes: &[u8]) -> Bytes {
        let mut charge = self.charge();
        charge.set(bytes.len());
        Bytes::from_owner(SharedCopy { bytes: bytes.into(), _charge: charge })
    }
}

/// One holder's part of the sum.
#[derive(Debug, Default)]
pub struct Charge {
    sum: Buffered,
    bytes: usize,
}

impl Charge {
    /// What it is.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes it so much.
    #[inline]
    pub fn set(&mut self, bytes: usize) {
        if bytes >= self.bytes {
            self.sum.0.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else {
            self.sum.0.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}

struct SharedCopy {
    bytes: Box<[u8]>,
    _charge: Charge,
}

impl AsRef<[u8]> for SharedCopy {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_follows_its_parts() {
        let buffered = Buffered::default();
        let (mut one, mut other) = (buffered.charge(), buffered.charge());
        one.set(10);
        other.set(7);
        one.set(3);
        assert_eq!((one.bytes(), buffered.bytes()), (3, 10));
        drop(other);
        assert_eq!(buffered.bytes(), 3);
    }

    #[test]
    fn what_is_shared_counts_once_and_until_the_last_lets_go() {
        let buffered = Buffered::default();
        let copy = buffered.shared_copy(b"payload");
        let (part, whole) = (copy.slice(3..), copy.clone());
        drop(copy);
        assert_eq!((part.as_ref(), buffered.bytes()), (b"load".as_slice(), 7));
        drop((part, whole));
        assert_eq!(buffered.bytes(), 0);
    }
}
