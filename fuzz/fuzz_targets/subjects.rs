//! Subjects and patterns: all ways to compare them agree, and a name that is read is written as the same.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| weirlog_net::fuzzing::subjects(data));
