//! A store with damaged files is opened: it never panics, and never serves what was not published under its number.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| weirlog_engine::fuzzing::recovery(data));
