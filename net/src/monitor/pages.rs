//! The pages: which path shows what. Names, fields and their order are those of nats-server and nats-streaming-server
//! (spec stan.md, section 4).

mod connections;
mod index;
mod metrics;
mod server;
mod streaming;
mod subscriptions;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;

use weirlog_engine::types::{Now, Timestamp};

use super::cores::Cores;
use super::http::{Query, Request, Response, Status};
use crate::address::Address;

/// Rows of a page, unless asked otherwise.
const ROWS_DEFAULT: usize = 1024;
/// Rows of a page at most, whatever is asked for.
const ROWS_MAX: usize = 16_384;
/// How often a page was shown is counted for this many paths: there are no more.
const PATHS_COUNT_MAX: usize = 32;

/// What stays the same while the server runs.
#[derive(Debug, Clone, Default)]
pub struct Site {
    /// When the server was started.
    pub started_at: Now,
    /// The program's version.
    pub version: &'static str,
    /// Processors of the machine that the process may use.
    pub processors_count: usize,
    /// Whether messages are kept on disk.
    pub is_durable: bool,
    /// Where they are kept, if they are.
    pub directory: Option<PathBuf>,
    /// Where this is served in plain.
    pub http: Option<Address>,
    /// Where this is served with TLS.
    pub https: Option<Address>,
    /// What all paths begin with; empty, or with a slash at its start and none at its end.
    pub base_path: String,
}

/// All pages of a server.
pub(crate) struct Pages {
    site: Site,
    /// How often each path was asked for.
    visits: RefCell<BTreeMap<String, u64>>,
}

/// What a page is made from.
struct Visit<'a, C> {
    site: &'a Site,
    cores: &'a C,
    query: &'a Query,
    now: Now,
}

impl Pages {
    pub(crate) fn new(site: Site) -> Self {
        Self { site, visits: RefCell::default() }
    }

    /// Answers a request.
    pub(crate) async fn answer(&self, request: &Request, cores: &impl Cores) -> Response {
        let query = &request.query;
        let not_found = || Response::text(Status::NotFound, "404 page not found");
        let Some(path) = request.path.strip_prefix(self.site.base_path.as_str()) else {
            return not_found();
        };
        let visit = Visit { site: &self.site, cores, query, now: cores.now() };
        let response = match path {
            "" | "/" => index::nats(),
            "/varz" => {
                self.count(path);
                let visits = self.visits.borrow().clone();
                server::varz(&visit, &visits).await
            }
            "/connz" => connections::connz(&visit).await,
            "/subsz" | "/subscriptionsz" => subscriptions::subsz(&visit).await,
            "/routez" => server::routez(&visit),
            "/healthz" => server::healthz(&visit).await,
            "/metrics" => metrics::metrics(&visit).await,
            "/streaming" | "/streaming/" => index::streaming(path),
            "/streaming/serverz" => streaming::serverz(&visit).await,
            "/streaming/storez" => streaming::storez(&visit).await,
            "/streaming/clientsz" => streaming::clientsz(&visit).await,
            "/streaming/channelsz" => streaming::channelsz(&visit).await,
            // Nobody stands by.
            "/streaming/isFTActive" => Response {
                status: Status::NoContent,
                content_type: super::http::TEXT,
                body: Vec::new(),
            },
            _ => return not_found(),
        };
        if path != "/varz" {
            self.count(path);
        }
        response.called_back(query.get("callback"))
    }

    fn count(&self, path: &str) {
        let path = if path.is_empty() { "/" } else { path };
        let mut visits = self.visits.borrow_mut();
        if visits.len() < PATHS_COUNT_MAX || visits.contains_key(path) {
            *visits.entry(path.to_owned()).or_default() += 1;
        }
    }
}

/// A part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Page {
    offset: usize,
    limit: usize,
}

impl Page {
    /// As NATS Streaming reads it: what is no number is as if it were not there.
    fn lenient(query: &Query) -> Self {
        let number = |name: &str| query.get(name).parse::<i64>().unwrap_or(0);
        Self::of(number("offset"), number("limit"))
    }

    /// As nats-server reads it: what is no number is an error.
    fn strict(query: &Query) -> Result<Self, Response> {
        Ok(Self::of(integer(query, "offset")?, integer(query, "limit")?))
    }

    fn of(offset: i64, limit: i64) -> Self {
        let limit = usize::try_from(limit).unwrap_or(0);
        Self {
            offset: usize::try_from(offset).unwrap_or(0),
            limit: if limit == 0 { ROWS_DEFAULT } else { limit.min(ROWS_MAX) },
        }
    }

    /// How many rows from the first one on have to be known.
    fn end(self) -> usize {
        self.offset.saturating_add(self.limit)
    }

    /// The rows of this part.
    fn cut<T>(self, mut rows: Vec<T>) -> Vec<T> {
        rows.truncate(self.end());
        rows.split_off(self.offset.min(rows.len()))
    }
}

/// A number of the query; 0: it is not there.
fn integer(query: &Query, name: &str) -> Result<i64, Response> {
    match query.get(name) {
        "" => Ok(0),
        text => text.parse().map_err(|_| {
            let text = format!("Error decoding int for '{name}': {text:?} is no number");
            Response::text(Status::BadRequest, &text)
        }),
    }
}

/// A switch of the query, as Go reads it; off: it is not there.
fn switch(query: &Query, name: &str) -> Result<bool, Response> {
    match query.get(name) {
        "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        text => {
            let text = format!("Error decoding boolean for '{name}': {text:?} is no boolean");
            Err(Response::text(Status::BadRequest, &text))
        }
    }
}

/// Whether a number is left out, as Go's `omitempty` does.
fn is_zero<N: Default + PartialEq>(number: &N) -> bool {
    *number == N::default()
}

/// RFC 3339 with as many decimals as there are.
fn time_text(time: Timestamp) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(time.0)).unwrap_or_default().to_string()
}

impl<C> Visit<'_, C> {
    fn now_text(&self) -> String {
        time_text(self.now.wall)
    }

    fn uptime(&self) -> String {
        let nanoseconds = self.now.mono.since(self.site.started_at.mono);
        super::uptime::uptime(std::time::Duration::from_nanos(nanoseconds))
    }
}
