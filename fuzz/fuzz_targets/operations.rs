//! A store is used and ended in any order: what it promised holds at each opening.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| weirlog_engine::fuzzing::operations(data));
