//! Who listens to what: `/subsz`.

use serde::Serialize;

use super::{Page, Visit, switch};
use crate::ids::CoreId;
use crate::monitor::cores::{Cores, Totals};
use crate::monitor::http::{Response, Status};
use crate::monitor::report::{Inquiry, InterestReport, Report};
use crate::subject::is_valid_publish;

#[derive(Serialize)]
struct Subsz<'a> {
    server_id: &'a str,
    now: String,
    num_subscriptions: u64,
    num_cache: u64,
    num_inserts: u64,
    num_removes: u64,
    num_matches: u64,
    cache_hit_rate: f64,
    max_fanout: u64,
    avg_fanout: f64,
    total: usize,
    offset: usize,
    limit: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list: Vec<InterestRow>,
}

/// One subscription, here and in `/connz?subs=detail`.
#[derive(Serialize)]
pub(super) struct InterestRow {
    account: &'static str,
    subject: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    qgroup: Option<String>,
    sid: String,
    msgs: u64,
    #[serde(skip_serializing_if = "super::is_zero")]
    max: u64,
    cid: u64,
}

impl From<InterestReport> for InterestRow {
    fn from(report: InterestReport) -> Self {
        Self {
            account: super::connections::ACCOUNT,
            subject: report.subject,
            qgroup: report.queue,
            sid: report.sid,
            msgs: report.delivered,
            max: report.max,
            cid: report.connection,
        }
    }
}

pub(super) async fn subsz<C: Cores>(visit: &Visit<'_, C>) -> Response {
    subsz_or_refusal(visit).await.unwrap_or_else(|refusal| refusal)
}

async fn subsz_or_refusal<C: Cores>(visit: &Visit<'_, C>) -> Result<Response, Response> {
    let page = Page::strict(visit.query)?;
    let has_list = switch(visit.query, "subs")?;
    let subject = Some(visit.query.get("test")).filter(|test| !test.is_empty());
    if let Some(test) = subject
        && !is_valid_publish(test.as_bytes())
    {
        let text = format!("invalid test subject, must be literal: {test}");
        return Err(Response::text(Status::BadRequest, &text));
    }
    let (mut total, mut rows) = (0, Vec::new());
    if has_list {
        for core in 0..visit.cores.core_count() {
            let inquiry = Inquiry::Subscriptions {
                count_max: page.end() - rows.len().min(page.end()),
                subject: subject.map(Into::into),
            };
            let report = visit.cores.ask(CoreId(core), inquiry).await;
            let Report::Subscriptions(count, found) = report else {
                unreachable!("a core answers what it was asked")
            };
            total += count;
            rows.extend(found);
        }
    }
    let rows = page.cut(rows).into_iter().map(InterestRow::from).collect();
    let config = visit.cores.config();
    let tally = Totals::of(visit.cores).await.tally;
    Ok(Response::json(&Subsz {
        server_id: &config.server_id,
        now: visit.now_text(),
        num_subscriptions: tally.inserted - tally.removed,
        num_cache: 0,
        num_inserts: tally.inserted,
        num_removes: tally.removed,
        num_matches: tally.lookups,
        cache_hit_rate: 0.0,
        max_fanout: tally.found_max,
        avg_fanout: if tally.lookups == 0 {
            0.0
        } else {
            tally.found as f64 / tally.lookups as f64
        },
        total,
        offset: page.offset,
        limit: page.limit,
        subscriptions_list: rows,
    }))
}
