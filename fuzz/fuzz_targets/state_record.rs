//! State records: what is read is written and read again as the same, and any of them in a row make subscriptions.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| weirlog_engine::fuzzing::state_record(data));
