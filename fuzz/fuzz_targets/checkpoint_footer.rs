//! Checkpoints, footers, superblocks, segment headers and the store file: no bytes panic, and what is read is written
//! and read again as the same.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| weirlog_engine::fuzzing::checkpoint_footer(data));
