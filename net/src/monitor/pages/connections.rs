//! Connections: `/connz`.

use std::time::Duration;

use serde::Serialize;

use super::subscriptions::InterestRow;
use super::{Page, Visit, integer, switch, time_text};
use crate::ids::CoreId;
use crate::monitor::cores::Cores;
use crate::monitor::http::{Response, Status};
use crate::monitor::report::{
    ConnectionOrder, ConnectionReport, ConnectionState, ConnectionsInquiry, Inquiry, Report,
};
use crate::monitor::uptime::{go_duration, uptime};

/// The one account there is.
pub(super) const ACCOUNT: &str = "$G";

#[derive(Serialize)]
struct Connz<'a> {
    server_id: &'a str,
    now: String,
    num_connections: usize,
    total: usize,
    offset: usize,
    limit: usize,
    connections: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    cid: u64,
    kind: &'static str,
    #[serde(rename = "type")]
    protocol: &'static str,
    ip: String,
    port: u16,
    start: String,
    last_activity: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt: Option<String>,
    uptime: String,
    idle: String,
    pending_bytes: usize,
    in_msgs: u64,
    out_msgs: u64,
    in_bytes: u64,
    out_bytes: u64,
    subscriptions: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lang: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authorized_user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list_detail: Vec<InterestRow>,
}

/// How much of subscriptions is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subscriptions {
    Counted,
    Named,
    Detailed,
}

pub(super) async fn connz<C: Cores>(visit: &Visit<'_, C>) -> Response {
    connz_or_refusal(visit).await.unwrap_or_else(|refusal| refusal)
}

async fn connz_or_refusal<C: Cores>(visit: &Visit<'_, C>) -> Result<Response, Response> {
    let query = visit.query;
    let page = Page::strict(query)?;
    let has_user = switch(query, "auth")?;
    let subscriptions = match query.get("subs") {
        "detail" => Subscriptions::Detailed,
        _ if switch(query, "subs")? => Subscriptions::Named,
        _ => Subscriptions::Counted,
    };
    let state = state(query.get("state"))?;
    let order = order(query.get("sort"))?;
    if matches!(order, ConnectionOrder::Stop | ConnectionOrder::Reason)
        && state == ConnectionState::Open
    {
        let text = format!("sort by {} only valid on closed connections", query.get("sort"));
        return Err(Response::text(Status::BadRequest, &text));
    }
    let number = u64::try_from(integer(query, "cid")?).ok().filter(|number| *number > 0);
    let user = Some(query.get("user")).filter(|user| !user.is_empty());
    let inquiry = ConnectionsInquiry {
        state,
        number,
        user: user.map(str::to_owned),
        order,
        count_max: page.end(),
        has_subscriptions: subscriptions != Subscriptions::Counted,
    };
    let (mut total, mut found) = (0, Vec::new());
    for core in 0..visit.cores.core_count() {
        let asked = Inquiry::Connections(inquiry.clone());
        let Report::Connections(count, reports) = visit.cores.ask(CoreId(core), asked).await else {
            unreachable!("a core answers what it was asked")
        };
        total += count;
        found.extend(reports);
    }
    found.sort_by_key(|report| report.number);
    found.sort_by(|one, other| {
        let left = (&one.standing, one.closing_text.as_deref());
        let right = (&other.standing, other.closing_text.as_deref());
        order.compare(left, right, visit.now.wall)
    });
    let rows: Vec<Row> = page
        .cut(found)
        .into_iter()
        .map(|report| row(report, visit, has_user, subscriptions))
        .collect();
    let config = visit.cores.config();
    Ok(Response::json(&Connz {
        server_id: &config.server_id,
        now: visit.now_text(),
        num_connections: rows.len(),
        total,
        offset: page.offset,
        limit: page.limit,
        connections: rows,
    }))
}

fn row<C>(
    report: ConnectionReport,
    visit: &Visit<'_, C>,
    has_user: bool,
    shown: Subscriptions,
) -> Row {
    let standing = report.standing;
    let end = standing.closed_at.unwrap_or(visit.now.wall);
    let since = |time: weirlog_engine::types::Timestamp| {
        uptime(Duration::from_nanos(u64::try_from(end.0.saturating_sub(time.0)).unwrap_or(0)))
    };
    let (mut names, mut details) = (Vec::new(), Vec::new());
    match shown {
        Subscriptions::Counted => {}
        Subscriptions::Named => names.extend(report.subscriptions.into_iter().map(|it| it.subject)),
        Subscriptions::Detailed => {
            details.extend(report.subscriptions.into_iter().map(InterestRow::from));
        }
    }
    Row {
        cid: report.number,
        kind: "Client",
        protocol: "nats",
        ip: report.address.host,
        port: report.address.port,
        start: time_text(standing.opened_at),
        last_activity: time_text(standing.active_at),
        stop: standing.closed_at.map(time_text),
        reason: standing.closed_at.map(|_| reason(report.closing_text.as_deref()).to_owned()),
        rtt: standing.round_trip_ns.map(go_duration),
        uptime: since(standing.opened_at),
        idle: since(standing.active_at),
        pending_bytes: standing.pending_bytes,
        in_msgs: standing.traffic.received.messages,
        out_msgs: standing.traffic.sent.messages,
        in_bytes: standing.traffic.received.bytes,
        out_bytes: standing.traffic.sent.bytes,
        subscriptions: standing.subscriptions_count,
        name: given(report.name),
        lang: given(report.language),
        version: given(report.version),
        authorized_user: report.user.filter(|_| has_user),
        account: has_user.then_some(ACCOUNT),
        subscriptions_list: names,
        subscriptions_list_detail: details,
    }
}

/// Clients send empty texts for what they do not know.
fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn state(text: &str) -> Result<ConnectionState, Response> {
    match text.to_ascii_lowercase().as_str() {
        "" | "open" | "opened" | "0" => Ok(ConnectionState::Open),
        "closed" | "1" => Ok(ConnectionState::Closed),
        "all" | "any" | "2" => Ok(ConnectionState::All),
        _ => {
            let text = format!("Error decoding state for {text}");
            Err(Response::text(Status::BadRequest, &text))
        }
    }
}

fn order(text: &str) -> Result<ConnectionOrder, Response> {
    Ok(match text {
        "" | "cid" => ConnectionOrder::Number,
        "start" => ConnectionOrder::Start,
        "subs" => ConnectionOrder::Subscriptions,
        "pending" => ConnectionOrder::Pending,
        "msgs_to" => ConnectionOrder::MessagesTo,
        "msgs_from" => ConnectionOrder::MessagesFrom,
        "bytes_to" => ConnectionOrder::BytesTo,
        "bytes_from" => ConnectionOrder::BytesFrom,
        "last" => ConnectionOrder::Last,
        "idle" => ConnectionOrder::Idle,
        "uptime" => ConnectionOrder::Uptime,
        "stop" => ConnectionOrder::Stop,
        "reason" => ConnectionOrder::Reason,
        "rtt" => ConnectionOrder::RoundTrip,
        _ => {
            let text = format!("invalid sorting option: {text}");
            return Err(Response::text(Status::BadRequest, &text));
        }
    })
}

/// Why a connection was closed, in the reference's words where they are not those that the client was told.
fn reason(text: Option<&str>) -> &str {
    match text {
        None => "Client Closed",
        Some("Authorization Violation") => "Authentication Failure",
        Some("maximum connections exceeded") => "Maximum Connections Exceeded",
        Some("Maximum Payload Violation") => "Maximum Message Payload Exceeded",
        Some("maximum control line exceeded") => "Maximum Control Line Exceeded",
        Some("Unknown Protocol Operation" | "Parser Error") => "Parse Error",
        Some(other) => other,
    }
}
