//! The codec against an independent one: same bytes out, same values in, same opinion of garbage.

use prost::Message as _;

use super::*;

/// A value to put in a field, zero often enough.
trait Random {
    fn random(random: &mut fastrand::Rng) -> Self;
}

impl Random for u64 {
    fn random(random: &mut fastrand::Rng) -> Self {
        match random.u8(..4) {
            0 => 0,
            1 => random.u64(..300),
            2 => random.u64(..) >> random.u32(..64),
            _ => u64::MAX - random.u64(..2),
        }
    }
}

impl Random for i64 {
    fn random(random: &mut fastrand::Rng) -> Self {
        u64::random(random).cast_signed()
    }
}

impl Random for u32 {
    fn random(random: &mut fastrand::Rng) -> Self {
        if random.bool() { random.u32(..) >> random.u32(..32) } else { 0 }
    }
}

impl Random for i32 {
    fn random(random: &mut fastrand::Rng) -> Self {
        let value = u32::random(random).cast_signed();
        if random.bool() { value } else { value.wrapping_neg() }
    }
}

impl Random for bool {
    fn random(random: &mut fastrand::Rng) -> Self {
        random.bool()
    }
}

impl Random for String {
    fn random(random: &mut fastrand::Rng) -> Self {
        let count = random.usize(..40);
        (0..count).map(|_| if random.u8(..8) == 0 { random.char(..) } else { 'x' }).collect()
    }
}

impl Random for Vec<u8> {
    fn random(random: &mut fastrand::Rng) -> Self {
        let size_max = if random.u8(..20) == 0 { 20_000 } else { 200 };
        let count = if random.u8(..4) == 0 { 0 } else { random.usize(..size_max) };
        (0..count).map(|_| random.u8(..)).collect()
    }
}

/// The same message for both codecs, and the checks that need both.
macro_rules! mirror {
    ($($name:ident { $($kind:ident $field:ident: $owned:ty = $tag:tt,)* })*) => {
        mod reference {
            $(#[derive(Clone, PartialEq, prost::Message)]
            pub(super) struct $name {
                $(#[prost($kind, tag = $tag)] pub(super) $field: $owned,)*
            })*
        }

        $(impl Random for reference::$name {
            fn random(random: &mut fastrand::Rng) -> Self {
                Self { $($field: Random::random(random),)* }
            }
        }

        impl From<$name<'_>> for reference::$name {
            fn from(ours: $name<'_>) -> Self {
                Self { $($field: ours.$field.into(),)* }
            }
        })*

        /// Each kind of message: what was written by the reference is read and written the same.
        fn check_round_trips(random: &mut fastrand::Rng) {
            $({
                let theirs = reference::$name::random(random);
                let bytes = theirs.encode_to_vec();
                let ours = $name::decode(&bytes).unwrap();
                assert_eq!(reference::$name::from(ours), theirs);
                assert_eq!(ours.encoded_len(), bytes.len());
                let mut written = b"before".to_vec();
                ours.encode(&mut written);
                assert_eq!(written.strip_prefix(b"before").unwrap(), bytes);
                check_any(&damage(bytes, random));
            })*
        }

        /// Whatever the bytes are, both codecs read the same from them, or nothing.
        fn check_any(bytes: &[u8]) {
            $({
                let ours = $name::decode(bytes);
                let theirs = reference::$name::decode(bytes);
                assert_eq!(ours.map(reference::$name::from).ok(), theirs.ok(), "{bytes:02x?}");
                if let Ok(message) = ours {
                    let mut written = Vec::new();
                    message.encode(&mut written);
                    assert_eq!(written.len(), message.encoded_len());
                    assert_eq!($name::decode(&written), Ok(message));
                }
            })*
        }
    };
}

mirror! {
    PubMsg {
        string client_id: String = "1",
        string guid: String = "2",
        string subject: String = "3",
        string reply: String = "4",
        bytes data: Vec<u8> = "5",
        bytes conn_id: Vec<u8> = "6",
        bytes sha256: Vec<u8> = "10",
    }
    PubAck { string guid: String = "1", string error: String = "2", }
    MsgProto {
        uint64 sequence: u64 = "1",
        string subject: String = "2",
        string reply: String = "3",
        bytes data: Vec<u8> = "4",
        int64 timestamp: i64 = "5",
        bool is_redelivered: bool = "6",
        uint32 redelivery_count: u32 = "7",
        uint32 crc32: u32 = "10",
    }
    Ack { string subject: String = "1", uint64 sequence: u64 = "2", }
    ConnectRequest {
        string client_id: String = "1",
        string heartbeat_inbox: String = "2",
        int32 protocol: i32 = "3",
        bytes conn_id: Vec<u8> = "4",
        int32 ping_interval: i32 = "5",
        int32 ping_max_out: i32 = "6",
    }
    ConnectResponse {
        string pub_prefix: String = "1",
        string sub_requests: String = "2",
        string unsub_requests: String = "3",
        string close_requests: String = "4",
        string error: String = "5",
        string sub_close_requests: String = "6",
        string ping_requests: String = "7",
        int32 ping_interval: i32 = "8",
        int32 ping_max_out: i32 = "9",
        int32 protocol: i32 = "10",
        string public_key: String = "100",
    }
    Ping { bytes conn_id: Vec<u8> = "1", }
    PingResponse { string error: String = "1", }
    SubscriptionRequest {
        string client_id: String = "1",
        string subject: String = "2",
        string queue_group: String = "3",
        string inbox: String = "4",
        int32 max_in_flight: i32 = "5",
        int32 ack_wait_seconds: i32 = "6",
        string durable_name: String = "7",
        int32 start_position: i32 = "10",
        uint64 start_sequence: u64 = "11",
        int64 start_time_delta: i64 = "12",
    }
    SubscriptionResponse { string ack_inbox: String = "2", string error: String = "3", }
    UnsubscribeRequest {
        string client_id: String = "1",
        string subject: String = "2",
        string inbox: String = "3",
        string durable_name: String = "4",
    }
    CloseRequest { string client_id: String = "1", }
    CloseResponse { string error: String = "1", }
}

/// Cuts, overwrites, doubles or extends a message.
fn damage(mut bytes: Vec<u8>, random: &mut fastrand::Rng) -> Vec<u8> {
    bytes.truncate(2_000);
    for _ in 0..random.usize(1..4) {
        match random.u8(..4) {
            0 => bytes.truncate(random.usize(..=bytes.len())),
            1 => bytes.extend_from_within(..random.usize(..=bytes.len().min(300))),
            2 => bytes.insert(random.usize(..=bytes.len()), random.u8(..)),
            _ => {
                let position = random.usize(..=bytes.len());
                bytes.get_mut(position).into_iter().for_each(|byte| *byte = random.u8(..));
            }
        }
    }
    bytes
}

/// Bytes that look like fields of any number and layout, groups in groups included.
fn fields(random: &mut fastrand::Rng, depth: u32, out: &mut Vec<u8>) {
    for _ in 0..random.usize(..4) {
        let is_odd = random.u8(..8) == 0;
        let number = random.u32(if is_odd { 0..100_000 } else { 0..13 });
        let wire_type = random.u32(if is_odd { 0..8 } else { 0..4 });
        prost::encoding::encode_varint(u64::from(number << 3 | wire_type), out);
        match wire_type {
            0 => prost::encoding::encode_varint(u64::random(random), out),
            1 => out.extend((0..8).map(|_| random.u8(..))),
            2 => {
                let count = random.usize(..6);
                prost::encoding::encode_varint(count as u64, out);
                out.extend((0..count).map(|_| random.u8(..160)));
            }
            3 if depth > 0 => {
                fields(random, depth - 1, out);
                prost::encoding::encode_varint(u64::from(number << 3 | 4), out);
            }
            5 => out.extend((0..4).map(|_| random.u8(..))),
            _ => {}
        }
    }
}

#[test]
fn messages_are_the_references() {
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..2_000 {
        check_round_trips(&mut random);
    }
}

#[test]
fn garbage_is_read_as_the_reference_reads_it() {
    let mut random = fastrand::Rng::with_seed(2);
    for _ in 0..20_000 {
        let count = random.usize(..24);
        let bytes: Vec<u8> = (0..count).map(|_| random.u8(..)).collect();
        check_any(&bytes);
        let mut bytes = Vec::new();
        fields(&mut random, 3, &mut bytes);
        check_any(&bytes);
    }
}

#[test]
fn zero_values_take_no_bytes() {
    assert_eq!(PubMsg::decode(b"").unwrap(), PubMsg::default());
    assert_eq!(MsgProto::default().encoded_len(), 0);
    let mut out = Vec::new();
    MsgProto::default().encode(&mut out);
    assert!(out.is_empty());
    // Written out by someone else, they are read.
    assert_eq!(Ack::decode(b"\x0a\x00\x10\x00").unwrap(), Ack::default());
}

#[test]
fn golden_bytes() {
    let message = PubMsg {
        client_id: "me",
        guid: "g",
        subject: "foo",
        data: b"hi",
        conn_id: b"c",
        ..PubMsg::default()
    };
    let mut out = Vec::new();
    message.encode(&mut out);
    assert_eq!(out, b"\x0a\x02me\x12\x01g\x1a\x03foo\x2a\x02hi\x32\x01c");
    out.clear();
    ConnectResponse { protocol: -1, public_key: "k", ..ConnectResponse::default() }
        .encode(&mut out);
    assert_eq!(out, b"\x50\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\xa2\x06\x01k");
}

#[test]
fn data_may_be_sent_from_elsewhere() {
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..1_000 {
        let bytes = reference::MsgProto::random(&mut random).encode_to_vec();
        let message = MsgProto::decode(&bytes).unwrap();
        let mut parts = Vec::new();
        message.encode_before_data(&mut parts);
        parts.extend_from_slice(message.data);
        message.encode_after_data(&mut parts);
        assert_eq!(parts, bytes);
    }
}

#[test]
fn errors_tell_why() {
    let decode = |bytes: &'static [u8]| Ack::decode(bytes).unwrap_err();
    assert_eq!(decode(b"\x0a"), DecodeError::Truncated);
    assert_eq!(decode(b"\x0a\x05foo"), DecodeError::Truncated);
    // A length of 2^64 - 1 neither wraps nor allocates.
    assert_eq!(decode(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), DecodeError::Truncated);
    assert_eq!(
        decode(b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"),
        DecodeError::VarintOverflow
    );
    assert_eq!(
        decode(b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        DecodeError::VarintOverflow
    );
    assert_eq!(decode(b"\x02\x00"), DecodeError::Key);
    assert_eq!(decode(b"\x1f"), DecodeError::Key);
    assert_eq!(decode(b"\x80\x80\x80\x80\x10\x00"), DecodeError::Key);
    assert_eq!(decode(b"\x08\x01"), DecodeError::WireType { number: 1 });
    assert_eq!(decode(b"\x12\x00"), DecodeError::WireType { number: 2 });
    assert_eq!(decode(b"\x0a\x01\xff"), DecodeError::Utf8 { number: 1 });
    assert_eq!(decode(b"\x1c"), DecodeError::Group);
    assert_eq!(decode(b"\x1b\x24"), DecodeError::Group);
    assert_eq!(decode(b"\x1b"), DecodeError::Truncated);
}

#[test]
fn groups_nest_to_a_limit() {
    for depth in 98..103 {
        for inner in [&b""[..], b"\x20\x01"] {
            let mut bytes = b"\x1b".repeat(depth);
            bytes.extend_from_slice(inner);
            bytes.extend(b"\x1c".repeat(depth));
            check_any(&bytes);
        }
    }
    // Far deeper, so that a stack without the limit would overflow.
    assert_eq!(Ack::decode(&b"\x1b".repeat(1_000_000)), Err(DecodeError::Group));
}

#[test]
fn start_positions() {
    let all: Vec<_> = (-1..6).map(StartPosition::from_number).collect();
    assert_eq!(
        all,
        [
            None,
            Some(StartPosition::NewOnly),
            Some(StartPosition::LastReceived),
            Some(StartPosition::TimeDeltaStart),
            Some(StartPosition::SequenceStart),
            Some(StartPosition::First),
            None
        ]
    );
}
