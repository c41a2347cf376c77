//! The protocol as another NATS server speaks it to us (`-ns`): see `cut_in_two`.

#![no_main]

mod cut_in_two;

use cut_in_two::{LIMITS, check};
use libfuzzer_sys::fuzz_target;
use weirlog_net::nats::server_op::{ServerOp, parse_server};

fuzz_target!(|data: &[u8]| {
    check(
        data,
        |input| parse_server(input, &LIMITS),
        |op| {
            if let ServerOp::Msg { header_bytes, block, .. } = *op {
                assert!(header_bytes.unwrap_or(0) <= block.len());
                assert!(block.len() <= LIMITS.payload_bytes_max);
            }
        },
    );
});
