//! Command lines and what configuration files mean: the first line of the input is the words, the rest is the text of
//! each file. Nothing panics, and what is refused is so in one line.
//!
//! The program is no library: its own files are compiled in here.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use weirlog::{args, log};
use weirlog_net::conf::Outside;

#[path = "../../bin/src"]
#[allow(dead_code, unused_imports, reason = "only the arguments are read")]
mod weirlog {
    pub(crate) mod args;
    pub(crate) mod log;
}

fuzz_target!(|data: &[u8]| {
    let Ok(input) = std::str::from_utf8(data) else { return };
    let (words, text) = input.split_once('\n').unwrap_or((input, ""));
    let outside = Outside {
        read: &|_: &Path| Ok(text.to_owned()),
        variable: &|name: &str| (!name.is_empty()).then(|| name.to_owned()),
    };
    match args::parse_with(words.split(' ').map(Into::into), outside) {
        Ok(parsed) => parsed.warnings.iter().for_each(|warning| is_one_line(warning)),
        Err(error) => is_one_line(&error.to_string()),
    }
});

fn is_one_line(text: &str) {
    assert!(!text.contains('\n'), "{text}");
}
