//! NATS Streaming: `/streaming/serverz`, `storez`, `clientsz`, `channelsz`.

use std::collections::BTreeMap;

use serde::Serialize;
use weirlog_engine::request::Client;
use weirlog_engine::types::ChannelLimits;

use super::server::GO_VERSION;
use super::{Page, Visit, time_text};
use crate::monitor::cores::{Cores, Totals, ask_shard, home_of, shards};
use crate::monitor::http::{Response, Status};
use crate::monitor::report::{ChannelReport, Inquiry, Report, SubscriptionReport};
use crate::stan::about::About;
use channels::ChannelPage;

pub(super) mod channels;

/// Subscriptions on a page: above, the page ends with the channel or client it is at.
const SUBSCRIPTIONS_A_PAGE: usize = 16_384;
/// Channels or clients that are asked for at once, so that no core is asked for too much.
const ASKED_AT_ONCE: usize = 64;

#[derive(Serialize)]
struct Serverz<'a> {
    cluster_id: &'a str,
    server_id: &'a str,
    version: &'a str,
    go: &'a str,
    state: &'a str,
    now: String,
    start_time: String,
    uptime: String,
    clients: usize,
    subscriptions: usize,
    channels: usize,
    total_msgs: u64,
    total_bytes: u64,
    in_msgs: u64,
    in_bytes: u64,
    out_msgs: u64,
    out_bytes: u64,
    #[serde(skip_serializing_if = "super::is_zero")]
    open_fds: u64,
    #[serde(skip_serializing_if = "super::is_zero")]
    max_fds: u64,
}

#[derive(Serialize)]
struct Storez<'a> {
    cluster_id: &'a str,
    server_id: &'a str,
    now: String,
    #[serde(rename = "type")]
    kind: &'a str,
    limits: StoreLimits,
    total_msgs: u64,
    total_bytes: u64,
}

#[derive(Serialize)]
struct StoreLimits {
    max_channels: u64,
    #[serde(flatten)]
    general: Limits,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    channels: BTreeMap<String, Limits>,
}

/// Limits of channels; durations in nanoseconds.
#[derive(Serialize)]
struct Limits {
    max_msgs: u64,
    max_bytes: u64,
    max_age: u64,
    max_subscriptions: u64,
    max_inactivity: u64,
}

/// The head of a list.
#[derive(Serialize)]
struct Head<'a> {
    cluster_id: &'a str,
    server_id: &'a str,
    now: String,
    offset: usize,
    limit: usize,
    count: usize,
    total: usize,
}

#[derive(Serialize)]
struct Clientsz<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    clients: Vec<ClientRow>,
}

#[derive(Serialize)]
struct ClientRow {
    id: String,
    hb_inbox: String,
    subs_count: usize,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    subscriptions: BTreeMap<String, Vec<SubscriptionRow>>,
}

#[derive(Serialize)]
struct ChannelNamesz<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    names: Vec<String>,
}

#[derive(Serialize)]
struct Channelsz<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    channels: Vec<ChannelRow>,
}

#[derive(Serialize)]
struct ChannelRow {
    name: String,
    msgs: u64,
    bytes: u64,
    first_seq: u64,
    last_seq: u64,
    subs_count: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions: Vec<SubscriptionRow>,
}

#[derive(Serialize)]
struct SubscriptionRow {
    client_id: String,
    inbox: String,
    ack_inbox: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    durable_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_name: Option<String>,
    is_durable: bool,
    is_offline: bool,
    max_inflight: u32,
    ack_wait: u64,
    last_sent: u64,
    pending_count: usize,
    is_stalled: bool,
}

impl From<ChannelLimits> for Limits {
    fn from(limits: ChannelLimits) -> Self {
        let nanoseconds = |milliseconds: u64| milliseconds.saturating_mul(1_000_000);
        Self {
            max_msgs: limits.messages_max,
            max_bytes: limits.bytes_max,
            max_age: nanoseconds(limits.age_ms_max),
            max_subscriptions: limits.subscriptions_max,
            max_inactivity: nanoseconds(limits.inactivity_ms_max),
        }
    }
}

impl From<SubscriptionReport> for SubscriptionRow {
    fn from(report: SubscriptionReport) -> Self {
        Self {
            client_id: report.client_id,
            inbox: report.inbox,
            ack_inbox: report.ack_inbox,
            durable_name: report.durable_name,
            queue_name: report.queue_name,
            is_durable: report.is_durable,
            is_offline: report.is_offline,
            max_inflight: report.in_flight_max,
            // Whole seconds, as the protocol has them; a part of one is shown as none.
            ack_wait: report.ack_wait_ms / 1_000,
            last_sent: report.last_sent,
            pending_count: report.pending_count,
            is_stalled: report.is_stalled,
        }
    }
}

impl ChannelRow {
    fn new(name: &str, report: ChannelReport) -> Self {
        Self {
            name: name.to_owned(),
            msgs: report.view.stored.messages,
            bytes: report.view.stored.bytes,
            first_seq: report.view.first.0,
            last_seq: report.view.last.0,
            subs_count: report.subscriptions_count,
            subscriptions: report.subscriptions.into_iter().map(Into::into).collect(),
        }
    }
}

pub(super) async fn serverz<C: Cores>(visit: &Visit<'_, C>) -> Response {
    let totals = Totals::of(visit.cores).await;
    let config = visit.cores.config();
    let process = visit.cores.process();
    let traffic = totals.tally.channels.messages;
    Response::json(&Serverz {
        cluster_id: &config.cluster_id,
        server_id: &config.server_id,
        version: visit.site.version,
        go: GO_VERSION,
        state: if totals.failed_shards.is_empty() { "STANDALONE" } else { "FAILED" },
        now: visit.now_text(),
        start_time: time_text(visit.site.started_at.wall),
        uptime: visit.uptime(),
        clients: totals.shards.clients,
        subscriptions: totals.shards.subscriptions,
        channels: totals.shards.channels,
        total_msgs: totals.shards.stored.messages,
        total_bytes: totals.shards.stored.bytes,
        in_msgs: traffic.received.messages,
        in_bytes: traffic.received.bytes,
        out_msgs: traffic.sent.messages,
        out_bytes: traffic.sent.bytes,
        open_fds: process.open_files as u64,
        max_fds: process.open_files_max,
    })
}

pub(super) async fn storez<C: Cores>(visit: &Visit<'_, C>) -> Response {
    let totals = Totals::of(visit.cores).await;
    let config = visit.cores.config();
    let rules = totals.limits.expect("a server has a shard");
    Response::json(&Storez {
        cluster_id: &config.cluster_id,
        server_id: &config.server_id,
        now: visit.now_text(),
        kind: if visit.site.is_durable { "FILE" } else { "MEMORY" },
        limits: StoreLimits {
            max_channels: config.channels_max,
            general: rules.general().into(),
            channels: rules.patterns().map(|(name, limits)| (name, limits.into())).collect(),
        },
        total_msgs: totals.shards.stored.messages,
        total_bytes: totals.shards.stored.bytes,
    })
}

pub(super) async fn channelsz<C: Cores>(visit: &Visit<'_, C>) -> Response {
    let has_subscriptions = visit.query.get("subs") == "1";
    let wanted = visit.query.get("channel");
    if !wanted.is_empty() {
        return match channels::one(visit.cores, wanted, has_subscriptions).await {
            Some(report) => Response::json(&ChannelRow::new(wanted, report)),
            None => Response::text(Status::NotFound, &format!("Channel {wanted} not found")),
        };
    }
    let page = Page::lenient(visit.query);
    let config = visit.cores.config();
    let head = |count, total| Head {
        cluster_id: &config.cluster_id,
        server_id: &config.server_id,
        now: visit.now_text(),
        offset: page.offset,
        limit: page.limit,
        count,
        total,
    };
    if has_subscriptions {
        let ChannelPage { total, channels } = channels::page(visit.cores, page, true).await;
        let rows = channels.into_iter().map(|(name, report)| ChannelRow::new(&name, report));
        let channels: Vec<_> = rows.collect();
        return Response::json(&Channelsz { head: head(channels.len(), total), channels });
    }
    let (total, names) = channels::names(visit.cores, page).await;
    let names: Vec<String> = names.into_iter().map(Into::into).collect();
    Response::json(&ChannelNamesz { head: head(names.len(), total), names })
}

pub(super) async fn clientsz<C: Cores>(visit: &Visit<'_, C>) -> Response {
    let has_subscriptions = visit.query.get("subs") == "1";
    let wanted = visit.query.get("client");
    if !wanted.is_empty() {
        let home = home_of(visit.cores, wanted);
        let inquiry = Inquiry::Client { shard: home, id: wanted.to_owned() };
        let Report::Clients(_, found) = ask_shard(visit.cores, home, inquiry).await else {
            unreachable!("a core answers what it was asked")
        };
        let mut rows = client_rows(visit.cores, &found, has_subscriptions).await;
        return match rows.pop() {
            Some(row) => Response::json(&row),
            None => Response::text(Status::NotFound, &format!("Client {wanted} not found")),
        };
    }
    let page = Page::lenient(visit.query);
    let (mut total, mut found) = (0, Vec::new());
    for shard in shards(visit.cores) {
        let inquiry = Inquiry::Clients { shard, count_max: page.end() };
        let Report::Clients(count, clients) = ask_shard(visit.cores, shard, inquiry).await else {
            unreachable!("a core answers what it was asked")
        };
        total += count;
        found.extend(clients);
    }
    found.sort_unstable_by(|one, other| one.id.cmp(&other.id));
    let mut clients = Vec::new();
    let mut shown = 0;
    for part in page.cut(found).chunks(ASKED_AT_ONCE) {
        let rows = client_rows(visit.cores, part, has_subscriptions).await;
        shown +=
            rows.iter().flat_map(|row| row.subscriptions.values()).map(Vec::len).sum::<usize>();
        clients.extend(rows);
        if shown > SUBSCRIPTIONS_A_PAGE {
            break;
        }
    }
    let config = visit.cores.config();
    let head = Head {
        cluster_id: &config.cluster_id,
        server_id: &config.server_id,
        now: visit.now_text(),
        offset: page.offset,
        limit: page.limit,
        count: clients.len(),
        total,
    };
    Response::json(&Clientsz { head, clients })
}

/// Clients with their subscriptions, which are in any shard.
async fn client_rows(
    cores: &impl Cores,
    clients: &[Client],
    has_subscriptions: bool,
) -> Vec<ClientRow> {
    let inbox = |client: &Client| {
        let about = About::parse(&client.about);
        about.map_or(String::new(), |about| {
            String::from_utf8_lossy(&about.heartbeat_inbox).into_owned()
        })
    };
    let new_row = |client: &Client| ClientRow {
        id: client.id.clone(),
        hb_inbox: inbox(client),
        subs_count: 0,
        subscriptions: BTreeMap::new(),
    };
    let mut rows: Vec<ClientRow> = clients.iter().map(new_row).collect();
    if rows.is_empty() {
        return rows;
    }
    for shard in shards(cores) {
        let inquiry = Inquiry::ClientSubscriptions {
            shard,
            clients: clients.iter().map(|client| client.key).collect(),
            has_subscriptions,
        };
        let Report::ClientSubscriptions(found) = ask_shard(cores, shard, inquiry).await else {
            unreachable!("a core answers what it was asked")
        };
        for (row, (count, subscriptions)) in rows.iter_mut().zip(found) {
            row.subs_count += count;
            for report in subscriptions {
                let channel = report.channel.to_string();
                row.subscriptions.entry(channel).or_default().push(report.into());
            }
        }
    }
    rows
}
