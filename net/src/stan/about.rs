//! What the front keeps with a client in its home shard, and reads again after a restart.
//!
//! ```text
//! version: u8 = 1 | protocol: i32 | ping interval: i32 | ping max out: i32 | heartbeat inbox: the rest
//! ```
//! Little endian.

use bytes::Bytes;

const VERSION: u8 = 1;

/// A client's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Where heartbeats go.
    pub heartbeat_inbox: Bytes,
    /// 1: the client pings.
    pub protocol: i32,
    /// As the client sent it.
    pub ping_interval: i32,
    /// As the client sent it.
    pub ping_max_out: i32,
}

impl About {
    /// As it is kept.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        for number in [self.protocol, self.ping_interval, self.ping_max_out] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&self.heartbeat_inbox);
        bytes
    }

    /// As it was kept; none: of a version that is not known here.
    #[must_use]
    pub fn parse(bytes: &Bytes) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        let (protocol, rest) = rest.split_first_chunk()?;
        let (ping_interval, rest) = rest.split_first_chunk()?;
        let (ping_max_out, inbox) = rest.split_first_chunk()?;
        (*version == VERSION).then(|| Self {
            heartbeat_inbox: bytes.slice_ref(inbox),
            protocol: i32::from_le_bytes(*protocol),
            ping_interval: i32::from_le_bytes(*ping_interval),
            ping_max_out: i32::from_le_bytes(*ping_max_out),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_come_back_as_they_were_kept() {
        let about = About {
            heartbeat_inbox: Bytes::from_static(b"_INBOX.hb"),
            protocol: 1,
            ping_interval: -50,
            ping_max_out: i32::MAX,
        };
        let bytes = Bytes::from(about.to_bytes());
        assert_eq!(About::parse(&bytes), Some(about));
        assert_eq!(bytes[..5], [1, 1, 0, 0, 0], "golden: stores hold this");
        assert_eq!(About::parse(&bytes.slice(..12)), None);
        assert_eq!(About::parse(&Bytes::from_static(&[9; 20])), None);
    }
}
