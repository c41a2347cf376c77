//! Configuration files: no text panics, and what a file holds is bounded. Each file that is included is the same text.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use weirlog_net::conf::{Outside, parse};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let outside = Outside {
        read: &|_: &Path| Ok(text.to_owned()),
        variable: &|name: &str| (!name.is_empty()).then(|| name.to_owned()),
    };
    if let Err(error) = parse(Path::new("fuzz.conf"), outside) {
        assert!(error.to_string().starts_with("fuzz.conf:"));
    }
});
