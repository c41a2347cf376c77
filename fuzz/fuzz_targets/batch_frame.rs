//! Frames of the log: no bytes panic, and a damaged frame gives only what was put in.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| weirlog_engine::fuzzing::batch_frame(data));
