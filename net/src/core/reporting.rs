//! What a core tells of itself for monitoring. Nothing here changes anything.

use compact_str::CompactString;
use weirlog_engine::disk::Disk;
use weirlog_engine::request::{ClientKey, SubscriptionKind};
use weirlog_engine::runtime::Runtime;
use weirlog_engine::shard::{Lag, Shard};
use weirlog_engine::subscriptions::SubscriptionView;
use weirlog_engine::types::{Monotonic, Now, ShardId, Timestamp};

use super::Core;
use crate::auth::Login;
use crate::ids::CoreId;
use crate::link::LinkMessage;
use crate::monitor::report::{
    ChannelReport, ConnectionOrder, ConnectionReport, ConnectionsInquiry, CoreTotals, Inquiry,
    InterestReport, Missing, Report, ReportTicket, Standing, SubscriptionReport,
};
use crate::session::{Session, Subscription};
use crate::stan::subjects::ServerInbox;
use crate::subject;

impl<D: Disk, R: Runtime> Core<D, R> {
    /// Asks a core, which may be this one. The answer comes out of [`Core::take_reports`], once.
    pub fn inquire(&mut self, core: CoreId, inquiry: Inquiry, now: Now) -> ReportTicket {
        let hub = &mut self.hub;
        hub.inquiries_count += 1;
        let ticket = ReportTicket(hub.inquiries_count);
        if core == hub.own() {
            let report = self.report(&inquiry, now);
            self.hub.reports.push((ticket, report));
        } else {
            hub.links.push(core, LinkMessage::Inquiry(ticket, inquiry));
        }
        ticket
    }

    /// Answers that have come.
    pub fn take_reports(&mut self) -> Vec<(ReportTicket, Report)> {
        std::mem::take(&mut self.hub.reports)
    }

    /// What this core tells.
    pub(super) fn report(&self, inquiry: &Inquiry, now: Now) -> Report {
        match inquiry {
            Inquiry::Totals => Report::Totals(Box::new(self.totals())),
            Inquiry::Connections(wanted) => self.connections(wanted, now),
            Inquiry::Subscriptions { count_max, subject } => {
                self.subscriptions(*count_max, subject.as_deref())
            }
            Inquiry::ChannelNames { shard, count_max } => self.storage.with(*shard, |shard| {
                Report::ChannelNames(shard.channel_count(), shard.first_channel_names(*count_max))
            }),
            Inquiry::Channels { shard, names, has_subscriptions } => {
                self.storage.with(*shard, |shard| {
                    let channels = names.iter();
                    Report::Channels(
                        channels.map(|name| channel(shard, name, *has_subscriptions)).collect(),
                    )
                })
            }
            Inquiry::Clients { shard, count_max } => self.storage.with(*shard, |shard| {
                let clients = shard.first_clients(*count_max).cloned().collect();
                Report::Clients(shard.client_count(), clients)
            }),
            Inquiry::Client { shard, id } => self.storage.with(*shard, |shard| {
                Report::Clients(
                    shard.client_count(),
                    shard.client(id).cloned().into_iter().collect(),
                )
            }),
            Inquiry::ClientSubscriptions { shard, clients, has_subscriptions } => {
                self.storage.with(*shard, |shard| {
                    let clients = clients.iter();
                    Report::ClientSubscriptions(
                        clients.map(|key| of_client(shard, *key, *has_subscriptions)).collect(),
                    )
                })
            }
        }
    }

    fn totals(&self) -> CoreTotals {
        let shards = self.storage.shards();
        let totals_of =
            |shard: &ShardId| (*shard, self.storage.with(*shard, |shard| shard.totals()));
        let mut missing = Missing::default();
        for shard in shards {
            let of_shard = |shard: &mut Shard<D>| shard.missing_messages(Missing::COUNT_MAX);
            let (named, others) = self.storage.with(*shard, of_shard);
            missing.add(named, others);
        }
        CoreTotals {
            connections: self.hub.sessions.len(),
            connections_ever: self.hub.connections_count,
            tally: self.hub.tally,
            disk: self.storage.statistics(),
            shards: shards.iter().map(totals_of).collect(),
            missing,
            limits: shards
                .first()
                .map(|shard| self.storage.with(*shard, |shard| shard.limits().clone())),
        }
    }

    fn connections(&self, wanted: &ConnectionsInquiry, now: Now) -> Report {
        let is_wanted = |number: u64, login: Option<&str>| {
            wanted.number.is_none_or(|only| only == number)
                && wanted.user.as_deref().is_none_or(|only| Some(only) == login)
        };
        let mut found: Vec<Candidate<'_>> = Vec::new();
        if wanted.state.includes(false) {
            let open = self.hub.sessions.iter().filter(|session| {
                is_wanted(session.number, user_of(session)) && !self.upstream.is(session.id)
            });
            found.extend(open.map(Candidate::Open));
        }
        if wanted.state.includes(true) {
            let closed = self.hub.closed.iter();
            let closed = closed.filter(|gone| is_wanted(gone.number, gone.user.as_deref()));
            found.extend(closed.map(Candidate::Closed));
        }
        let total = found.len();
        found.sort_unstable_by_key(Candidate::number);
        if wanted.order != ConnectionOrder::Number {
            found.sort_by(|one, other| {
                let (left, right) = (one.standing(now), other.standing(now));
                wanted.order.compare((&left, one.reason()), (&right, other.reason()), now.wall)
            });
        }
        found.truncate(wanted.count_max);
        let reports = found.iter().map(|candidate| match candidate {
            Candidate::Open(session) if wanted.has_subscriptions => ConnectionReport {
                subscriptions: interests_of(session).collect(),
                ..candidate.report(now)
            },
            _ => candidate.report(now),
        });
        Report::Connections(total, reports.collect())
    }

    fn subscriptions(&self, count_max: usize, subject: Option<&str>) -> Report {
        let mut total = 0;
        let mut reports = Vec::new();
        for session in self.hub.sessions.iter().filter(|session| !self.upstream.is(session.id)) {
            for subscription in session.subscriptions.iter() {
                let is_wanted =
                    |subject: &str| subject::matches(&subscription.subject, subject.as_bytes());
                if subject.is_none_or(is_wanted) {
                    total += 1;
                    if reports.len() < count_max {
                        reports.push(interest(session, subscription));
                    }
                }
            }
        }
        Report::Subscriptions(total, reports)
    }
}

/// A connection that may be shown.
#[derive(Clone, Copy)]
enum Candidate<'a> {
    Open(&'a Session),
    Closed(&'a ConnectionReport),
}

impl Candidate<'_> {
    fn number(&self) -> u64 {
        match self {
            Self::Open(session) => session.number,
            Self::Closed(report) => report.number,
        }
    }

    fn standing(&self, now: Now) -> Standing {
        match self {
            Self::Open(session) => standing(session, now),
            Self::Closed(report) => report.standing,
        }
    }

    fn reason(&self) -> Option<&str> {
        match self {
            Self::Open(session) => session.closing_text.as_deref(),
            Self::Closed(report) => report.closing_text.as_deref(),
        }
    }

    fn report(&self, now: Now) -> ConnectionReport {
        match self {
            Self::Open(session) => connection_report(session, now),
            Self::Closed(report) => (*report).clone(),
        }
    }
}

/// What is told of a connection, without its subscriptions.
pub(super) fn connection_report(session: &Session, now: Now) -> ConnectionReport {
    ConnectionReport {
        number: session.number,
        address: session.address.clone(),
        standing: standing(session, now),
        closing_text: session.closing_text.clone(),
        name: session.options.name.clone(),
        language: session.options.lang.clone(),
        version: session.options.version.clone(),
        user: user_of(session).map(str::to_owned),
        subscriptions: Vec::new(),
    }
}

fn standing(session: &Session, now: Now) -> Standing {
    Standing {
        opened_at: session.opened_at.wall,
        active_at: wall_time(session.active_at, now),
        closed_at: None,
        round_trip_ns: session.round_trip_ns,
        pending_bytes: session.outbox.len(),
        traffic: session.traffic,
        subscriptions_count: session.subscriptions.len(),
    }
}

/// A moment of the past.
fn wall_time(at: Monotonic, now: Now) -> Timestamp {
    let ago_ns = i64::try_from(now.mono.since(at)).unwrap_or(i64::MAX);
    Timestamp(now.wall.0.saturating_sub(ago_ns))
}

fn user_of(session: &Session) -> Option<&str> {
    match &session.login {
        Login::User(name) | Login::Key(name) => Some(name),
        Login::Token => Some("[REDACTED]"),
        Login::Anonymous => None,
    }
}

fn interests_of(session: &Session) -> impl Iterator<Item = InterestReport> {
    session.subscriptions.iter().map(|subscription| interest(session, subscription))
}

fn interest(session: &Session, subscription: &Subscription) -> InterestReport {
    InterestReport {
        connection: session.number,
        subject: text_of(&subscription.subject),
        queue: subscription.queue.as_deref().map(text_of),
        sid: text_of(&subscription.sid),
        delivered: subscription.delivered,
        max: subscription.max,
    }
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn channel<D: Disk>(shard: &Shard<D>, name: &str, has_all: bool) -> Option<ChannelReport> {
    let (view, subscriptions) = shard.channel_view(name)?;
    let mut report = ChannelReport { view, subscriptions_count: 0, subscriptions: Vec::new() };
    for (view, lag) in subscriptions {
        report.subscriptions_count += 1;
        if has_all {
            report.subscriptions.push(subscription(shard.id(), name, &view, lag));
        }
    }
    Some(report)
}

fn of_client<D: Disk>(
    shard: &Shard<D>,
    key: ClientKey,
    has_all: bool,
) -> (usize, Vec<SubscriptionReport>) {
    let mut count = 0;
    let mut reports = Vec::new();
    for (channel, view) in shard.client_subscriptions(key) {
        count += 1;
        if has_all {
            reports.push(subscription(shard.id(), channel, &view, Lag::default()));
        }
    }
    (count, reports)
}

fn subscription(
    shard: ShardId,
    channel: &str,
    view: &SubscriptionView<'_>,
    lag: Lag,
) -> SubscriptionReport {
    let (durable_name, queue_name, is_durable) = match view.kind {
        SubscriptionKind::Plain => (None, None, false),
        SubscriptionKind::Durable { name } => (Some(name.clone()), None, true),
        SubscriptionKind::Queue { group, is_durable } => (None, Some(group.clone()), *is_durable),
    };
    let ack_inbox = ServerInbox::Ack { shard, subscription: view.id, token: view.token };
    SubscriptionReport {
        channel: CompactString::from(channel),
        client_id: view.client_id.to_owned(),
        inbox: text_of(view.target),
        ack_inbox: ack_inbox.to_subject(),
        durable_name,
        queue_name,
        is_durable,
        is_offline: !view.is_active,
        in_flight_max: view.in_flight_max,
        ack_wait_ms: view.ack_wait_ms,
        last_sent: view.last_sent.0,
        pending_count: view.pending_count,
        is_stalled: view.is_stalled,
        lag,
    }
}
