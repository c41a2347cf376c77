//! What a load has taken, and how it is told.

use histogram::Histogram;
use serde_json::{Value, json};
use weirlog_net::monitor::process::Usage;

use super::plan::Plan;

/// What came, and how long it took since it was sent.
pub(super) struct Arrivals {
    pub(super) count: u64,
    latencies: Histogram,
}

impl Default for Arrivals {
    fn default() -> Self {
        // To under one percent, up to 18 minutes.
        let latencies = Histogram::new(7, 40).expect("these powers are in its range");
        Self { count: 0, latencies }
    }
}

impl Arrivals {
    /// One more; without the time when it was sent it only counts.
    pub(super) fn add(&mut self, sent_ns: Option<u64>, now_ns: u64) {
        self.count += 1;
        if let Some(sent_ns) = sent_ns {
            let _ = self.latencies.increment(now_ns.saturating_sub(sent_ns));
        }
    }

    fn percentile_us(&self, percentile: f64) -> Option<f64> {
        let bucket = self.latencies.percentile(percentile).ok()??;
        Some(bucket.end() as f64 / 1e3)
    }
}

/// What came so far.
#[derive(Default)]
pub(super) struct Results {
    pub(super) acks: Arrivals,
    pub(super) deliveries: Arrivals,
    pub(super) redelivered: u64,
    /// From the start until the last of what came.
    pub(super) seconds: f64,
}

impl Results {
    /// All figures.
    pub(super) fn to_json(&self, plan: &Plan, usage: Option<(Usage, Usage)>) -> Value {
        let options = &plan.options;
        let mut all = json!({
            "publishers": options.publishers,
            "subscribers": options.subscribers,
            "idle": options.idle,
            "channels": options.channels,
            "size_bytes": options.size_bytes,
            "window": options.window,
            "rate": options.rate(),
            "seconds": self.seconds,
        });
        if options.publishers > 0 {
            all["published"] = self.arrivals(&self.acks);
        }
        if options.subscribers > 0 {
            all["delivered"] = self.arrivals(&self.deliveries);
            all["redelivered"] = json!(self.redelivered);
        }
        if let Some((before, after)) = usage {
            let cpu_seconds = after.cpu_seconds - before.cpu_seconds;
            let count = self.acks.count + self.deliveries.count;
            all["server_cpu_seconds"] = json!(cpu_seconds);
            all["server_cpu_us_per_message"] =
                json!((count > 0).then(|| cpu_seconds * 1e6 / count as f64));
            all["server_resident_bytes"] = json!(after.resident_bytes);
        }
        all
    }

    fn arrivals(&self, arrivals: &Arrivals) -> Value {
        json!({
            "messages": arrivals.count,
            "messages_per_second": arrivals.count as f64 / self.seconds.max(f64::MIN_POSITIVE),
            "p50_us": arrivals.percentile_us(50.0),
            "p99_us": arrivals.percentile_us(99.0),
            "p999_us": arrivals.percentile_us(99.9),
        })
    }
}

/// The figures for people.
pub(super) fn to_text(all: &Value) -> String {
    let mut text = String::new();
    for (name, what) in [("published", "acks after"), ("delivered", "deliveries after")] {
        let Some(part) = all.get(name) else { continue };
        text.push_str(&format!(
            "{name} {} messages of {} bytes over {} channels in {:.2} s: {:.0}/s",
            part["messages"],
            all["size_bytes"],
            all["channels"],
            all["seconds"].as_f64().unwrap_or(0.0),
            part["messages_per_second"].as_f64().unwrap_or(0.0),
        ));
        if let (Some(p50), Some(p99), Some(p999)) =
            (part["p50_us"].as_f64(), part["p99_us"].as_f64(), part["p999_us"].as_f64())
        {
            text.push_str(&format!(
                "; {what} {p50:.0} us (p50), {p99:.0} us (p99), {p999:.0} us (p999)"
            ));
        }
        text.push('\n');
    }
    if let Some(cpu) = all["server_cpu_seconds"].as_f64() {
        text.push_str(&format!("server: {cpu:.2} s of processor time"));
        if let Some(each) = all["server_cpu_us_per_message"].as_f64() {
            text.push_str(&format!(", {each:.2} us a message"));
        }
        let resident = all["server_resident_bytes"].as_f64().unwrap_or(0.0);
        text.push_str(&format!(", {:.1} MB resident\n", resident / 1e6));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::BenchOptions;
    use crate::args::tests::bench::bench_options;

    #[test]
    fn figures_are_told_to_people_and_to_programs() {
        let plan = Plan::new(BenchOptions { subscribers: 1, ..bench_options() });
        let mut results = Results { seconds: 2.0, ..Results::default() };
        (0..1_000).for_each(|at| results.acks.add(Some(0), at * 1_000));
        results.deliveries.add(None, 5);
        let before = Usage { cpu_seconds: 1.0, resident_bytes: 0 };
        let after = Usage { cpu_seconds: 1.5, resident_bytes: 2_000_000 };
        let all = results.to_json(&plan, Some((before, after)));
        assert_eq!(all["published"]["messages_per_second"], 500.0);
        let text = to_text(&all);
        assert!(text.contains("published 1000 messages of 128 bytes over 1 channels in 2.00 s: 500/s; acks after 50"), "{text}");
        assert!(
            text.contains("\ndelivered 1 messages of 128 bytes over 1 channels in 2.00 s: 0/s\n"),
            "{text}"
        );
        assert!(
            text.ends_with(
                "server: 0.50 s of processor time, 499.50 us a message, 2.0 MB resident\n"
            ),
            "{text}"
        );
    }
}
