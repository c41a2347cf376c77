//! Requests to the monitoring port: no bytes panic, a request is read from its head alone, and the answer is one response.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| weirlog_net::fuzzing::http_head(data));
