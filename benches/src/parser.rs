//! The codecs alone: nanoseconds for one operation, the best of several runs.
//!
//! The buffer holds many operations behind each other, as a busy connection's does, so that the processor cannot
//! learn one of them by heart.

use std::hint::black_box;

use weirlog_net::nats::parse::{ParseLimits, Parsed, parse};
use weirlog_net::stan::wire::{MsgProto, PubAck, PubMsg};

use crate::BenchError;
use crate::measure::now_ns;
use crate::report::Row;

/// Bytes of a buffer of operations: a read of a socket.
const BUFFER_BYTES: usize = 64 * 1024;
const RUNS: usize = 7;
const RUN_NS: u64 = 100_000_000;
const PAYLOAD_SIZES: [usize; 3] = [16, 128, 1_024];
const SUBJECT: &str = "orders.europe.1";
const GUID: &str = "Qg7Vp2TnX0hYbL4kWc9RsD";
const CONNECTION_ID: &[u8] = b"hG3kWc9RsDQg7Vp2TnX0hY";

/// Runs all cases.
pub(crate) fn run() -> Result<Vec<Row>, BenchError> {
    let mut rows = Vec::new();
    for size in PAYLOAD_SIZES {
        rows.push(parse_publishes(size)?);
    }
    for size in PAYLOAD_SIZES {
        rows.push(decode_messages(size)?);
    }
    rows.push(encode_acks());
    for size in PAYLOAD_SIZES {
        rows.push(encode_deliveries(size));
    }
    Ok(rows)
}

fn parse_publishes(payload_bytes: usize) -> Result<Row, BenchError> {
    let mut operation = format!("PUB {SUBJECT} {payload_bytes}\r\n").into_bytes();
    operation.extend(vec![b'x'; payload_bytes]);
    operation.extend(b"\r\n");
    let count = BUFFER_BYTES / operation.len();
    let buffer = operation.repeat(count);
    let limits = ParseLimits::default();
    let read_all = || {
        let (mut position, mut operations) = (0, 0_u64);
        while let Some(rest) = buffer.get(position..).filter(|rest| !rest.is_empty()) {
            match parse(black_box(rest), &limits) {
                Ok(Parsed::Op { op, consumed }) => {
                    black_box(op);
                    position += consumed;
                    operations += 1;
                }
                Ok(Parsed::Incomplete { .. }) | Err(_) => break,
            }
        }
        operations
    };
    if read_all() != count as u64 {
        return Err("the parser did not find all operations".into());
    }
    Ok(row(format!("parse PUB {payload_bytes}"), payload_bytes, read_all))
}

fn decode_messages(payload_bytes: usize) -> Result<Row, BenchError> {
    let data = vec![b'x'; payload_bytes];
    let message = PubMsg {
        client_id: "publisher-17",
        guid: GUID,
        subject: SUBJECT,
        reply: "",
        data: &data,
        conn_id: CONNECTION_ID,
        sha256: &[],
    };
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    if PubMsg::decode(&bytes)? != message {
        return Err("a message was not decoded as it was encoded".into());
    }
    let count = BUFFER_BYTES / bytes.len();
    let buffer = bytes.repeat(count);
    let decode_all = || {
        let decoded = buffer.chunks_exact(bytes.len()).filter(|bytes| {
            PubMsg::decode(black_box(bytes))
                .is_ok_and(|message| black_box(message).sha256.is_empty())
        });
        decoded.count() as u64
    };
    Ok(row(format!("decode PubMsg {payload_bytes}"), payload_bytes, decode_all))
}

fn encode_acks() -> Row {
    let mut out = Vec::with_capacity(BUFFER_BYTES);
    let encode_all = || {
        out.clear();
        let mut count = 0;
        while out.len() < BUFFER_BYTES - 64 {
            black_box(PubAck { guid: GUID, error: "" }).encode(&mut out);
            count += 1;
        }
        black_box(&out);
        count
    };
    row("encode PubAck".into(), 0, encode_all)
}

fn encode_deliveries(payload_bytes: usize) -> Row {
    let data = vec![b'x'; payload_bytes];
    let mut out = Vec::with_capacity(BUFFER_BYTES);
    let encode_all = || {
        out.clear();
        let mut sequence = 1_u64 << 20;
        let mut count = 0;
        while out.len() < BUFFER_BYTES - 128 - payload_bytes {
            let message = MsgProto {
                sequence,
                subject: SUBJECT,
                data: &data,
                timestamp: 1_700_000_000_000_000_000,
                ..MsgProto::default()
            };
            black_box(message).encode(&mut out);
            sequence += 1;
            count += 1;
        }
        black_box(&out);
        count
    };
    row(format!("encode MsgProto {payload_bytes}"), payload_bytes, encode_all)
}

fn row(case: String, payload_bytes: usize, work: impl FnMut() -> u64) -> Row {
    let each_ns = best_ns(work);
    Row::new(case)
        .with("nanoseconds_each", "ns/op", each_ns)
        .with("millions_per_second", "M/s", 1e3 / each_ns)
        .with("payload_megabytes_per_second", "MB/s", payload_bytes as f64 * 1e3 / each_ns)
}

/// Nanoseconds of one of the operations that `work` does and counts.
fn best_ns(mut work: impl FnMut() -> u64) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..RUNS {
        let start_ns = now_ns();
        let mut count = 0;
        while now_ns() - start_ns < RUN_NS {
            count += work();
        }
        best = best.min((now_ns() - start_ns) as f64 / count as f64);
    }
    best
}
