//! Programs that put a server under load: what they are told, and what they have seen.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use serde_json::Value;

use crate::BenchError;
use crate::measure::{now_ns, seconds_since};
use crate::server::{START_POLL, START_SECONDS_MAX, Server};

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

/// Runs `weirlog bench` of `program` against a server. None: it could not be run to its end.
pub(crate) fn run_bench(
    program: &Path,
    server: &Server,
    load: &Load,
) -> Result<Option<Outcome>, BenchError> {
    let output = Command::new(program)
        .args(["bench", "-json", "-timeout", "1m"])
        .args(["-s", &format!("127.0.0.1:{}", server.port())])
        .args(["-pid", &server.id().to_string()])
        .args(&load.arguments)
        .stderr(Stdio::null())
        .output()?;
    if !output.status.success() {
        return Ok(None);
    }
    Ok(Some(read_outcome(&serde_json::from_slice(&output.stdout)?)))
}

/// Waits until a message of `weirlog bench` comes through.
pub(crate) fn wait_until_served(program: &Path, server: &Server) -> Result<(), BenchError> {
    let probe = Load::probe(&[("-pub", 1), ("-n", 1)]);
    wait_until_ready(|| {
        run_bench(program, server, &probe)?.ok_or("the server does not answer".into())
    })
}

/// Deliveries if there are subscribers, else acks.
fn read_outcome(figures: &Value) -> Outcome {
    let part = figures.get("delivered").unwrap_or(&figures["published"]);
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    Outcome {
        rate: number(&part["messages_per_second"]),
        p50_us: number(&part["p50_us"]),
        p99_us: number(&part["p99_us"]),
        p999_us: number(&part["p999_us"]),
        processor_us: number(&figures["server_cpu_us_per_message"]),
        resident_megabytes: number(&figures["server_resident_bytes"]) / 1e6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_count_if_there_are_any() {
        let acks = serde_json::json!({
            "published": {"messages_per_second": 5.0, "p50_us": 1.0, "p99_us": 2.0, "p999_us": 3.0},
            "server_cpu_us_per_message": 0.5, "server_resident_bytes": 2_000_000,
        });
        let outcome = read_outcome(&acks);
        assert_eq!((outcome.rate, outcome.p999_us, outcome.resident_megabytes), (5.0, 3.0, 2.0));
        let mut both = acks;
        both["delivered"] = serde_json::json!({"messages_per_second": 7.0});
        let outcome = read_outcome(&both);
        assert_eq!(outcome.rate, 7.0);
        assert!(outcome.p50_us.is_nan());
    }
}
