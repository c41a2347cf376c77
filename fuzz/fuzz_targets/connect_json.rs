//! CONNECT as a server reads it, INFO as a client of another server does: no JSON panics, what is accepted can be read by all
//! who read it, and no secret is in a trace.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| weirlog_net::fuzzing::connect_json(data));
