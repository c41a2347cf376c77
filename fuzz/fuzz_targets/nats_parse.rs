//! The client protocol: see `cut_in_two`.

#![no_main]

mod cut_in_two;

use cut_in_two::{LIMITS, check};
use libfuzzer_sys::fuzz_target;
use weirlog_net::nats::op::Op;
use weirlog_net::nats::parse::parse;

fuzz_target!(|data: &[u8]| {
    check(
        data,
        |input| parse(input, &LIMITS),
        |op| {
            if let Op::HPub { headers, payload, block, .. } = *op {
                assert_eq!([headers, payload].concat(), block);
            }
        },
    );
});
