//! The server as a whole: `/varz`, `/routez`, `/healthz`.

use std::collections::BTreeMap;

use serde::Serialize;
use weirlog_engine::types::Now;

use super::{Visit, time_text};
use crate::address::Address;
use crate::info::PROTOCOL_VERSION;
use crate::monitor::cores::{Cores, Totals};
use crate::monitor::http::{JSON, Response, Status};

/// What stands where a Go program names its runtime: tools want the field.
pub(super) const GO_VERSION: &str = "rust";
/// Clients have this long to say who they are, in seconds, where nobody is asked.
const AUTH_TIMEOUT_DEFAULT: f64 = 2.0;
/// A write that takes longer is told: the slowest healthy disks were seen to take some hundred milliseconds.
const WRITE_AGE_MS_MAX: u64 = 2_000;

/// What this server does not have, where tools look for it.
#[derive(Serialize)]
struct Nothing {}

#[derive(Serialize)]
struct Varz<'a> {
    server_id: &'a str,
    server_name: &'a str,
    version: &'a str,
    proto: u8,
    go: &'a str,
    host: &'a str,
    port: u16,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    auth_required: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    tls_required: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    tls_verify: bool,
    max_connections: usize,
    #[serde(skip_serializing_if = "super::is_zero")]
    max_subscriptions: usize,
    ping_interval: u64,
    ping_max: u32,
    http_host: &'a str,
    http_port: u16,
    http_base_path: &'a str,
    https_port: u16,
    auth_timeout: f64,
    max_control_line: usize,
    max_payload: usize,
    max_pending: usize,
    cluster: Nothing,
    gateway: Nothing,
    leaf: Nothing,
    mqtt: Nothing,
    websocket: Nothing,
    jetstream: Nothing,
    write_deadline: u64,
    start: String,
    now: String,
    uptime: String,
    mem: u64,
    cores: usize,
    gomaxprocs: u16,
    cpu: f64,
    connections: usize,
    total_connections: u64,
    routes: u64,
    remotes: u64,
    leafnodes: u64,
    in_msgs: u64,
    out_msgs: u64,
    in_bytes: u64,
    out_bytes: u64,
    slow_consumers: u64,
    subscriptions: u64,
    http_req_stats: &'a BTreeMap<String, u64>,
}

#[derive(Serialize)]
struct Routez<'a> {
    server_id: &'a str,
    server_name: &'a str,
    now: String,
    num_routes: usize,
    routes: [Nothing; 0],
}

#[derive(Serialize)]
struct Healthz {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub(super) async fn varz<C: Cores>(
    visit: &Visit<'_, C>,
    visits: &BTreeMap<String, u64>,
) -> Response {
    let totals = Totals::of(visit.cores).await;
    let config = visit.cores.config();
    let process = visit.cores.process();
    let site = visit.site;
    let here = site.http.as_ref().or(site.https.as_ref());
    let port = |address: &Option<Address>| address.as_ref().map_or(0, |address| address.port);
    let nanoseconds = |milliseconds: u64| milliseconds.saturating_mul(1_000_000);
    let authorization = config.authorization.as_ref();
    Response::json(&Varz {
        server_id: &config.server_id,
        server_name: &config.server_name,
        version: PROTOCOL_VERSION,
        proto: 1,
        go: GO_VERSION,
        host: &config.host,
        port: config.port,
        auth_required: authorization.is_some_and(|auth| auth.no_auth_identity().is_none()),
        tls_required: config.tls.as_ref().is_some_and(|tls| !tls.is_plain_allowed),
        tls_verify: config.tls.as_ref().is_some_and(|tls| tls.wants_certificates()),
        max_connections: config.connections_max,
        max_subscriptions: config.subscriptions_max,
        ping_interval: nanoseconds(config.ping_interval_ms),
        ping_max: config.ping_out_max,
        http_host: here.map_or("", |address| &address.host),
        http_port: port(&site.http),
        http_base_path: &site.base_path,
        https_port: port(&site.https),
        auth_timeout: authorization
            .map_or(AUTH_TIMEOUT_DEFAULT, |auth| auth.timeout_ms() as f64 / 1_000.0),
        max_control_line: config.control_line_bytes_max,
        max_payload: config.payload_size_bytes_max,
        max_pending: config.pending_bytes_max,
        cluster: Nothing {},
        gateway: Nothing {},
        leaf: Nothing {},
        mqtt: Nothing {},
        websocket: Nothing {},
        jetstream: Nothing {},
        write_deadline: nanoseconds(config.write_deadline_ms),
        start: time_text(site.started_at.wall),
        now: visit.now_text(),
        uptime: visit.uptime(),
        mem: process.resident_bytes,
        cores: site.processors_count,
        gomaxprocs: visit.cores.core_count(),
        cpu: (process.cpu_percent * 10.0).round() / 10.0,
        connections: totals.connections,
        total_connections: totals.connections_ever,
        routes: 0,
        remotes: 0,
        leafnodes: 0,
        in_msgs: totals.tally.traffic.received.messages,
        out_msgs: totals.tally.traffic.sent.messages,
        in_bytes: totals.tally.traffic.received.bytes,
        out_bytes: totals.tally.traffic.sent.bytes,
        slow_consumers: totals.tally.slow_consumers,
        subscriptions: totals.tally.inserted - totals.tally.removed,
        http_req_stats: visits,
    })
}

pub(super) fn routez<C: Cores>(visit: &Visit<'_, C>) -> Response {
    let config = visit.cores.config();
    Response::json(&Routez {
        server_id: &config.server_id,
        server_name: &config.server_name,
        now: visit.now_text(),
        num_routes: 0,
        routes: [],
    })
}

/// 503 if a part of the server takes no messages: before a restart, until the disk has room, or until it answers.
pub(super) async fn healthz<C: Cores>(visit: &Visit<'_, C>) -> Response {
    let Some(error) = trouble(&Totals::of(visit.cores).await, visit.now) else {
        // In one line: there are probes that look for this text.
        let body = serde_json::to_vec(&Healthz { status: "ok", error: None });
        let body = body.expect("strings are JSON");
        return Response { status: Status::Ok, content_type: JSON, body };
    };
    let page = Healthz { status: "unavailable", error: Some(error) };
    Response { status: Status::Unavailable, ..Response::json(&page) }
}

/// What keeps messages from being taken, the worst first.
fn trouble(totals: &Totals, now: Now) -> Option<String> {
    if !totals.failed_shards.is_empty() {
        let names: Vec<String> = totals.failed_shards.iter().map(ToString::to_string).collect();
        return Some(format!(
            "no messages are taken until a restart in shards {}",
            names.join(", ")
        ));
    }
    if totals.full_shards > 0 {
        let count = totals.full_shards;
        return Some(format!(
            "no space left on the device: no messages are taken until there is some in {count} shards"
        ));
    }
    let age_ms = now.mono.since(totals.shards.oldest_write?) / 1_000_000;
    (age_ms >= WRITE_AGE_MS_MAX)
        .then(|| format!("the disk does not answer: a write is on its way for {age_ms} ms"))
}
