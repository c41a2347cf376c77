//! `/metrics`: numbers for Prometheus, in its text format. Those of single channels and subscriptions only on request
//! (`?channels=1`, with `offset` and `limit`): with many channels they are many.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use weirlog_engine::storage::Distribution;
use weirlog_engine::types::Now;

use super::streaming::channels::{ChannelPage, page};
use super::{Page, Visit, switch};
use crate::monitor::cores::{Cores, Totals};
use crate::monitor::http::{Response, Status};
use crate::monitor::process::ProcessReport;
use crate::monitor::report::Missing;

/// The text format's type.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Latencies are told from 32 microseconds to 4 seconds, in powers of two.
const LATENCY_POWERS: std::ops::RangeInclusive<u32> = 5..=22;
/// Records of a batch are told up to 65,535.
const RECORDS_POWERS: std::ops::RangeInclusive<u32> = 1..=16;

/// All numbers of one moment.
#[derive(Debug)]
struct Snapshot {
    version: &'static str,
    cluster_id: String,
    server_id: String,
    now: Now,
    started_at: Now,
    totals: Totals,
    process: ProcessReport,
    /// Bytes that the store's file system has for this process; none: nothing is stored.
    free_bytes: Option<u64>,
    channels: Option<ChannelPage>,
}

impl fmt::Debug for ChannelPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelPage").field("total", &self.total).finish_non_exhaustive()
    }
}

pub(super) async fn metrics<C: Cores>(visit: &Visit<'_, C>) -> Response {
    let has_channels = match switch(visit.query, "channels") {
        Ok(has_channels) => has_channels,
        Err(refusal) => return refusal,
    };
    let config = visit.cores.config();
    let directory = visit.site.directory.as_deref();
    let snapshot = Snapshot {
        version: visit.site.version,
        cluster_id: config.cluster_id,
        server_id: config.server_id,
        now: visit.now,
        started_at: visit.site.started_at,
        totals: Totals::of(visit.cores).await,
        process: visit.cores.process(),
        free_bytes: directory.and_then(|directory| {
            let space = nix::sys::statvfs::statvfs(directory).ok()?;
            Some(space.blocks_available() * space.fragment_size())
        }),
        channels: if has_channels {
            Some(page(visit.cores, Page::lenient(visit.query), true).await)
        } else {
            None
        },
    };
    let mut registry = Registry::default();
    registry.register_collector(Box::new(snapshot));
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry).expect("writing to a string never fails");
    Response { status: Status::Ok, content_type: CONTENT_TYPE, body: text.into_bytes() }
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        self.put_server(&mut out)?;
        self.put_traffic(&mut out)?;
        self.put_store(&mut out)?;
        put_missing(&self.totals.missing, &mut out)?;
        if let Some(page) = &self.channels {
            self.put_channels(page, &mut out)?;
        }
        Ok(())
    }
}

impl Snapshot {
    fn put_server(&self, out: &mut Out<'_>) -> fmt::Result {
        let labels = [
            ("version", self.version),
            ("cluster_id", &self.cluster_id),
            ("server_id", &self.server_id),
        ];
        out.family("weirlog_info", "The server", [(labels.to_vec(), 1.0)])?;
        let started_at = self.started_at.wall.0 as f64 / 1e9;
        out.gauge("weirlog_start_time_seconds", "When the server was started", started_at)?;
        let up = self.now.mono.since(self.started_at.mono) as f64 / 1e9;
        out.gauge("weirlog_uptime_seconds", "Time since then", up)?;
        let process = &self.process;
        let memory = process.resident_bytes as f64;
        out.gauge("process_resident_memory_bytes", "Memory in use", memory)?;
        out.counter_f64("process_cpu_seconds", "Processor time", process.cpu_seconds)?;
        out.gauge("process_open_fds", "Open descriptors", process.open_files as f64)?;
        let open_files_max = process.open_files_max as f64;
        out.gauge("process_max_fds", "How many there may be", open_files_max)
    }

    fn put_traffic(&self, out: &mut Out<'_>) -> fmt::Result {
        let (totals, tally) = (&self.totals, &self.totals.tally);
        let subscriptions = tally.inserted - tally.removed;
        let (nats, channels) = (tally.traffic, tally.channels.messages);
        out.gauge("weirlog_connections", "Open connections", totals.connections as f64)?;
        out.gauge("weirlog_subscriptions", "Subscriptions of connections", subscriptions as f64)?;
        let counters = [
            ("weirlog_connections", "Connections there ever were", totals.connections_ever),
            ("weirlog_slow_consumers", "Connections closed as slow", tally.slow_consumers),
            ("weirlog_shed_connections", "Connections closed for what they buffered", tally.shed),
            ("weirlog_received_messages", "Messages from connections", nats.received.messages),
            ("weirlog_received_bytes", "Bytes of these", nats.received.bytes),
            ("weirlog_sent_messages", "Messages to connections", nats.sent.messages),
            ("weirlog_sent_bytes", "Bytes of these", nats.sent.bytes),
            ("weirlog_published_messages", "Requests to publish", channels.received.messages),
            ("weirlog_published_bytes", "Bytes of these", channels.received.bytes),
            ("weirlog_delivered_messages", "Deliveries to subscriptions", channels.sent.messages),
            ("weirlog_delivered_bytes", "Bytes of these", channels.sent.bytes),
            (
                "weirlog_redelivered_messages",
                "Deliveries after the first",
                tally.channels.redelivered,
            ),
            ("weirlog_acked_messages", "Acks of subscribers", tally.channels.acked),
        ];
        counters.iter().try_for_each(|(name, help, value)| out.counter(name, help, *value))
    }

    fn put_store(&self, out: &mut Out<'_>) -> fmt::Result {
        let (totals, shards) = (&self.totals, &self.totals.shards);
        let gauges = [
            ("weirlog_clients", "Registered clients", shards.clients as u64),
            ("weirlog_channels", "Channels", shards.channels as u64),
            ("weirlog_channel_subscriptions", "Their subscriptions", shards.subscriptions as u64),
            ("weirlog_stored_messages", "Messages kept", shards.stored.messages),
            ("weirlog_stored_bytes", "Bytes of these", shards.stored.bytes),
            ("weirlog_segments", "Segments of the log", shards.segments as u64),
            (
                "weirlog_clustered_segments",
                "Those rewritten with each channel's messages together",
                shards.clustered_segments as u64,
            ),
            ("weirlog_segment_bytes", "Bytes of these", shards.segment_bytes),
            (
                "weirlog_uncommitted_bytes",
                "Bytes on their way to the disk",
                shards.uncommitted_bytes as u64,
            ),
            (
                "weirlog_damage",
                "Places found that are not as they were written",
                shards.damage as u64,
            ),
            ("weirlog_full_shards", "Shards without space", totals.full_shards as u64),
            (
                "weirlog_failed_shards",
                "Shards that take nothing until a restart",
                totals.failed_shards.len() as u64,
            ),
        ];
        for (name, help, value) in gauges {
            out.gauge(name, help, value as f64)?;
        }
        if let Some(free_bytes) = self.free_bytes {
            let help = "Space left on the store's file system";
            out.gauge("weirlog_disk_free_bytes", help, free_bytes as f64)?;
        }
        let disk = &totals.disk;
        let help = "Time from a batch's seal to the end of its write";
        out.histogram(
            "weirlog_commit_duration_seconds",
            help,
            &disk.latency_us,
            LATENCY_POWERS,
            1e6,
        )?;
        let help = "Records of a batch";
        out.histogram("weirlog_commit_records", help, &disk.records, RECORDS_POWERS, 1.0)?;
        out.counter("weirlog_commit_bytes", "Bytes of written batches", disk.bytes.sum())?;
        out.counter("weirlog_commit_failures", "Writes that failed", disk.failed_count)?;
        out.counter(
            "weirlog_history_reads",
            "Reads of messages that are not in memory",
            disk.history_reads,
        )
    }

    fn put_channels(&self, page: &ChannelPage, out: &mut Out<'_>) -> fmt::Result {
        let channels = &page.channels;
        let of_channels = |number: fn(&crate::monitor::report::ChannelReport) -> u64| {
            channels.iter().map(move |(name, report)| {
                (vec![("channel", name.to_string())], number(report) as f64)
            })
        };
        let messages = of_channels(|report| report.view.stored.messages);
        out.family("weirlog_channel_messages", "Messages of a channel", messages)?;
        let bytes = of_channels(|report| report.view.stored.bytes);
        out.family("weirlog_channel_bytes", "Bytes of these", bytes)?;
        let last = of_channels(|report| report.view.last.0);
        out.family("weirlog_channel_last_sequence", "The last sequence of a channel", last)?;
        let now = self.now.wall.0;
        let of_subscriptions =
            |number: &dyn Fn(&crate::monitor::report::SubscriptionReport) -> f64| {
                let all = channels.iter().flat_map(|(_, report)| &report.subscriptions);
                all.map(|one| (labels_of(one), number(one))).collect::<Vec<_>>()
            };
        let pending = of_subscriptions(&|one| one.pending_count as f64);
        out.family("weirlog_subscription_pending", "Messages that wait for an ack", pending)?;
        let last = of_subscriptions(&|one| one.last_sent as f64);
        out.family("weirlog_subscription_last_sent", "The last sequence sent", last)?;
        let lag = of_subscriptions(&|one| one.lag.messages as f64);
        out.family("weirlog_subscription_lag_messages", "Messages that were never sent", lag)?;
        let lag = of_subscriptions(&|one| one.lag.bytes as f64);
        out.family("weirlog_subscription_lag_bytes", "Bytes of these, by the average", lag)?;
        let lag = of_subscriptions(&|one| {
            one.lag.oldest.map_or(0.0, |oldest| now.saturating_sub(oldest.0).max(0) as f64 / 1e9)
        });
        out.family("weirlog_subscription_lag_seconds", "Age of the first of these, at most", lag)
    }
}

/// A gauge for each of the first ranges of missing messages, and one without a channel for all others: a broken disk does
/// not make a page without end.
fn put_missing(missing: &Missing, out: &mut Out<'_>) -> fmt::Result {
    let of = |channel: &str, first: String, last: String| {
        vec![("channel", channel.to_owned()), ("first", first), ("last", last)]
    };
    let named = missing.named.iter().map(|range| {
        let labels = of(&range.channel, range.first.to_string(), range.last.to_string());
        (labels, range.count() as f64)
    });
    let others =
        (missing.others > 0).then(|| (of("", String::new(), String::new()), missing.others as f64));
    let help =
        "Messages found missing, by channel and sequences; those of all other places together";
    out.family("weirlog_damage_messages", help, named.chain(others))
}

fn labels_of(
    subscription: &crate::monitor::report::SubscriptionReport,
) -> Vec<(&'static str, String)> {
    vec![
        ("channel", subscription.channel.to_string()),
        ("client_id", subscription.client_id.clone()),
        ("inbox", subscription.inbox.clone()),
        ("durable_name", subscription.durable_name.clone().unwrap_or_default()),
        ("queue_name", subscription.queue_name.clone().unwrap_or_default()),
        ("is_durable", subscription.is_durable.to_string()),
        ("is_offline", subscription.is_offline.to_string()),
    ]
}

/// Writes metrics, each with what it means.
struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        metric.encode_gauge(&value)
    }

    /// The name gets `_total` behind it.
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, u64, f64>(&value, None)
    }

    fn counter_f64(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, f64, f64>(&value, None)
    }

    /// A gauge for each set of labels.
    fn family<V: AsRef<str>>(
        &mut self,
        name: &str,
        help: &str,
        members: impl IntoIterator<Item = (Vec<(&'static str, V)>, f64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in members {
            let labels: Vec<(&str, &str)> =
                labels.iter().map(|(name, value)| (*name, value.as_ref())).collect();
            metric.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// Values in buckets up to powers of two, each divided by `scale`.
    fn histogram(
        &mut self,
        name: &str,
        help: &str,
        values: &Distribution,
        powers: std::ops::RangeInclusive<u32>,
        scale: f64,
    ) -> fmt::Result {
        let mut buckets = Vec::new();
        let mut counted = 0;
        for (greatest, count) in values.counts_below(powers) {
            // What was measured is rounded down where it is scaled, so a bucket ends at the next number.
            let end = if scale > 1.0 { greatest + 1 } else { greatest };
            buckets.push((end as f64 / scale, count - counted));
            counted = count;
        }
        buckets.push((f64::INFINITY, values.count() - counted));
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        let sum = values.sum() as f64 / scale;
        metric.encode_histogram::<NoLabelSet>(sum, values.count(), &buckets, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weirlog_engine::shard::MissingMessages;
    use weirlog_engine::types::Sequence;

    struct Only(Missing);

    impl fmt::Debug for Only {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.fmt(f)
        }
    }

    impl Collector for Only {
        fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
            put_missing(&self.0, &mut Out(encoder))
        }
    }

    fn lines(missing: Missing) -> Vec<String> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Only(missing)));
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry).unwrap();
        let values = text.lines().filter(|line| !line.starts_with('#'));
        values.map(str::to_owned).collect()
    }

    fn range(channel: &str, first: u64, last: u64) -> MissingMessages {
        let (first, last) = (Sequence(first), Sequence(last));
        MissingMessages { channel: channel.into(), first, last }
    }

    #[test]
    fn missing_messages_are_named() {
        let mut missing = Missing::default();
        assert_eq!(lines(missing.clone()), [""; 0]);
        missing.add(vec![range("b \"x\"", 3, 7)], 0);
        missing.add(vec![range("a", 9, 9)], 0);
        let wanted = [
            r#"weirlog_damage_messages{channel="a",first="9",last="9"} 1.0"#,
            r#"weirlog_damage_messages{channel="b \"x\"",first="3",last="7"} 5.0"#,
        ];
        assert_eq!(lines(missing), wanted);
    }

    /// However much is broken: a hundred places are named, the rest is one number.
    #[test]
    fn what_is_over_the_bound_is_one_number() {
        let mut missing = Missing::default();
        for shard in 0..3_u64 {
            let ranges = (0..50).map(|at| range("a", 1 + shard + at * 10, 2 + shard + at * 10));
            missing.add(ranges.collect(), shard);
        }
        let lines = lines(missing);
        assert_eq!(lines.len(), Missing::COUNT_MAX + 1);
        assert_eq!(lines[0], r#"weirlog_damage_messages{channel="a",first="1",last="2"} 2.0"#);
        let others = r#"weirlog_damage_messages{channel="",first="",last=""} 103.0"#;
        assert_eq!(lines.last().map(String::as_str), Some(others));
    }
}
