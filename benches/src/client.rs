//! Programs that put a server under load: what they are told, and what they have seen.

use std::thread;

use crate::BenchError;
use crate::measure::{now_ns, seconds_since};
use crate::server::{START_POLL, START_SECONDS_MAX};

/// A load and its name.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) name: String,
    pub(crate) arguments: Vec<String>,
}

impl Load {
    /// With these flags and their values.
    pub(crate) fn new(name: impl Into<String>, flags: &[(&str, u64)]) -> Self {
        let arguments =
            flags.iter().flat_map(|(flag, value)| [(*flag).to_owned(), value.to_string()]);
        Self { name: name.into(), arguments: arguments.collect() }
    }

    /// A single message, to see whether a server answers.
    pub(crate) fn probe(flags: &[(&str, u64)]) -> Self {
        let mut probe = Self::new("probe", flags);
        probe.arguments.extend(["-prefix", "probe", "-timeout", "2s"].map(str::to_owned));
        probe
    }
}

/// What a load has shown of a server; what is not known is not a number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) rate: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) processor_us: f64,
    pub(crate) resident_megabytes: f64,
}

impl Outcome {
    /// There is none.
    pub(crate) const NONE: Self = Self {
        rate: f64::NAN,
        p50_us: f64::NAN,
        p99_us: f64::NAN,
        p999_us: f64::NAN,
        processor_us: f64::NAN,
        resident_megabytes: f64::NAN,
    };
}

/// A peer listens before it answers streaming clients: a message of a probe has to come through.
pub(crate) fn wait_until_ready(
    mut probe: impl FnMut() -> Result<Outcome, BenchError>,
) -> Result<(), BenchError> {
    let start_ns = now_ns();
    loop {
        match probe() {
            Ok(_) => return Ok(()),
            Err(error) if seconds_since(start_ns) > START_SECONDS_MAX => return Err(error),
            Err(_) => thread::sleep(START_POLL),
        }
    }
}
