//! Seeds, credentials, keys, hashes and permissions, from files and from clients: no text panics.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| weirlog_net::fuzzing::proof(data));
