//! Another NATS server, or a cluster of them, that this server is a client of: clients of STAN are connected there, and
//! all that STAN says and hears goes over one connection.
//!
//! ```text
//! INFO -> CONNECT, PING -> PONG -> who else serves this cluster id? -> nobody -> SUB ..., PING -> PONG -> serving
//! ```
//! The connection is a session like any other, with one subscription to everything: what is routed to anybody leaves
//! over it, as PUB. What comes in as MSG is taken as if a client had published it here.

use serde::{Deserialize, Serialize};
use weirlog_engine::disk::Disk;
use weirlog_engine::runtime::Runtime;
use weirlog_engine::types::Now;

use crate::address::Address;
use crate::auth::{Seed, UserCredentials};
use crate::core::{Core, Message, Notice, TimerEvent};
use crate::ids::ConnectionId;
use crate::info::Connect;
use crate::link::StanMessage;
use crate::nats::emit;
use crate::nats::parse::{ParseError, ParseLimits, Parsed};
use crate::nats::server_op::{ServerOp, parse_server};
use crate::session::Subscription;
use crate::stan::Question;
use crate::stan::subjects::{INBOX_PATTERN, INBOX_PREFIX, ServerInbox};

/// Another server with the same cluster id answers within this (spec stan.md, 2.11).
const STAND_ALONE_WAIT_MS: u64 = 250;
/// A server's INFO at most.
pub(crate) const GREETING_SIZE_BYTES_MAX: usize = 64 << 10;
/// The subscription to what other servers of this cluster id say about their channels.
const PARTITION_SID: usize = 0;
/// INFO names all servers of a cluster; a message of nats-server is never larger than its own hard maximum.
const LIMITS: ParseLimits = ParseLimits {
    control_line_bytes_max: GREETING_SIZE_BYTES_MAX,
    payload_bytes_max: 64 << 20,
    has_headers: true,
};
/// How a status of "nobody is there" begins.
const NO_RESPONDERS: &[u8] = b"NATS/1.0 503";

/// How this server logs in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Login {
    /// Without a word.
    #[default]
    Open,
    /// With a token.
    Token(String),
    /// With a name and a password.
    User {
        /// The name.
        name: String,
        /// The password.
        password: String,
    },
    /// With a key, whose owner signs the server's nonce.
    Key(Seed),
    /// With what an account has signed, and a key.
    Credentials(UserCredentials),
}

/// Where the connection stands, as its edge sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamState {
    /// Not there, or not yet.
    Joining,
    /// Clients are served.
    Serving,
    /// It makes no sense to go on.
    Failed(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Greeting,
    Joining,
    Checking,
    Subscribing,
    Serving,
}

#[derive(Debug)]
struct Current {
    connection: ConnectionId,
    login: Login,
    stage: Stage,
}

/// The connection, if there is one, and what is known for the next.
#[derive(Debug, Default)]
pub(crate) struct Upstream {
    current: Option<Current>,
    /// Whether it is known that nobody else serves this cluster id: asked once, at the start.
    is_alone: bool,
    /// The last words of the server.
    last_error: Option<String>,
    failure: Option<String>,
}

/// What matters of a server's INFO.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Greeting {
    tls_required: bool,
    tls_available: bool,
    /// To be signed; empty: there is nothing to sign.
    pub(crate) nonce: String,
}

impl Greeting {
    /// From the JSON of an INFO; what is none says nothing.
    pub(crate) fn read(json: &[u8]) -> Self {
        serde_json::from_slice(json).unwrap_or_default()
    }
}

/// What a server's INFO says about TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsOffer {
    /// Nothing: it does not speak it.
    None,
    /// It may be spoken.
    Available,
    /// It must be.
    Required,
}

impl TlsOffer {
    /// Reads it from the line with a server's INFO; without one the answer is [`TlsOffer::None`].
    #[must_use]
    pub fn of(line: &[u8]) -> Self {
        let greeting = match parse_server(line, &LIMITS) {
            Ok(Parsed::Op { op: ServerOp::Info(json), .. }) => Greeting::read(json),
            _ => Greeting::default(),
        };
        match greeting {
            Greeting { tls_required: true, .. } => Self::Required,
            Greeting { tls_available: true, .. } => Self::Available,
            Greeting { .. } => Self::None,
        }
    }
}

#[derive(Debug, Serialize)]
struct Hello<'a> {
    verbose: bool,
    pedantic: bool,
    echo: bool,
    headers: bool,
    no_responders: bool,
    protocol: u8,
    lang: &'a str,
    version: &'a str,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pass: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nkey: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sig: Option<String>,
}

impl Upstream {
    /// Whether this is the connection.
    #[inline]
    pub(crate) fn is(&self, id: ConnectionId) -> bool {
        self.current.as_ref().is_some_and(|current| current.connection == id)
    }

    fn stage(&self) -> Option<Stage> {
        self.current.as_ref().map(|current| current.stage)
    }

    fn enter(&mut self, stage: Stage) {
        if let Some(current) = &mut self.current {
            current.stage = stage;
        }
    }
}

impl<D: Disk, R: Runtime> Core<D, R> {
    /// The edge has connected to another server at `address`. One at a time.
    pub fn upstream_opened(&mut self, address: Address, login: Login, now: Now) -> ConnectionId {
        assert!(self.upstream.current.is_none(), "one at a time");
        let id = self.hub.open(address, now);
        if let Some(session) = self.hub.sessions.get_mut(id) {
            session.options = Connect {
                verbose: false,
                pedantic: false,
                echo: false,
                headers: true,
                ..Connect::default()
            };
        }
        self.upstream.current = Some(Current { connection: id, login, stage: Stage::Greeting });
        let ping_interval_ms = self.hub.config.ping_interval_ms;
        self.hub.set_timer(now, ping_interval_ms, TimerEvent::Ping(id));
        id
    }

    /// Where the connection to the other server stands.
    #[must_use]
    pub fn upstream_state(&self) -> UpstreamState {
        match (&self.upstream.failure, self.upstream.stage()) {
            (Some(failure), _) => UpstreamState::Failed(failure.clone()),
            (None, Some(Stage::Serving)) => UpstreamState::Serving,
            (None, _) => UpstreamState::Joining,
        }
    }

    /// The other server's last error, without its quotes.
    #[must_use]
    pub fn upstream_error(&self) -> Option<&str> {
        self.upstream.last_error.as_deref()
    }

    /// One operation of the other server.
    pub(crate) fn upstream_step(
        &mut self,
        id: ConnectionId,
        input: &[u8],
        now: Now,
    ) -> Result<Parsed<()>, ParseError> {
        match parse_server(input, &LIMITS)? {
            Parsed::Op { op, consumed } => {
                self.on_server_op(id, &op, now);
                Ok(Parsed::Op { op: (), consumed })
            }
            Parsed::Incomplete { needed } => Ok(Parsed::Incomplete { needed }),
        }
    }

    fn on_server_op(&mut self, id: ConnectionId, op: &ServerOp<'_>, now: Now) {
        match *op {
            ServerOp::Info(json) => self.on_upstream_info(id, json),
            ServerOp::Msg { subject, reply, header_bytes, block } => {
                self.on_upstream_message(
                    id,
                    &Message { subject, reply, header_bytes, block, shared: None },
                    now,
                );
            }
            ServerOp::Ping => self.hub.write(id, 8, emit::pong),
            ServerOp::Pong => self.on_upstream_pong(id, now),
            ServerOp::Ok => {}
            ServerOp::Err(text) => {
                let text = String::from_utf8_lossy(text).trim().trim_matches('\'').to_owned();
                self.hub.notices.push(Notice::UpstreamError { text: text.clone() });
                self.upstream.last_error = Some(text);
            }
        }
    }

    fn on_upstream_info(&mut self, id: ConnectionId, json: &[u8]) {
        let Some(current) = self.upstream.current.as_mut() else { return };
        if current.stage != Stage::Greeting {
            return;
        }
        current.stage = Stage::Joining;
        let nonce = Greeting::read(json).nonce;
        let hello = hello(&self.hub.config.cluster_id, &current.login, &nonce);
        self.hub.write(id, hello.len() + 32, |out| {
            emit::connect(out, &hello);
            emit::ping(out);
        });
    }

    fn on_upstream_pong(&mut self, id: ConnectionId, now: Now) {
        match self.upstream.stage() {
            Some(Stage::Joining) => {
                let everything = Subscription {
                    sid: Box::default(),
                    subject: (*b">").into(),
                    queue: None,
                    delivered: 0,
                    max: 0,
                    is_filtered: false,
                };
                self.hub.add_subscription(id, everything);
                let partition = self.stan.subjects.partition.as_deref();
                self.hub.write(id, 64, |out| {
                    emit::sub(out, INBOX_PATTERN.as_bytes(), 1);
                    // Before the question: of two servers that start together one hears the other.
                    if let Some(subject) = partition {
                        emit::sub(out, subject.as_bytes(), PARTITION_SID);
                    }
                });
                if self.upstream.is_alone {
                    self.subscribe_upstream();
                    return;
                }
                self.upstream.enter(Stage::Checking);
                let asked = self.ask_who_else_serves(now);
                assert!(asked.is_some(), "the connection takes everything");
            }
            Some(Stage::Subscribing) => {
                self.upstream.enter(Stage::Serving);
                self.hub.notices.push(Notice::UpstreamJoined);
            }
            _ => {}
        }
    }

    /// Asks whether another server has this cluster id, or some of this server's channels.
    fn ask_who_else_serves(&mut self, now: Now) -> Option<u64> {
        if let Some((subject, announcement)) = self.partition_announcement() {
            let (subject, question) = (subject.as_bytes(), Question::Partition);
            return self.ask_with(subject, &announcement, question, STAND_ALONE_WAIT_MS, now);
        }
        let subject = self.stan.subjects.connect.clone();
        self.ask(subject.as_bytes(), Question::StandAlone, STAND_ALONE_WAIT_MS, now)
    }

    /// Another server has a channel of this one.
    pub(crate) fn on_partition_refused(&mut self, channel: &[u8]) {
        let channel = String::from_utf8_lossy(channel);
        self.fail_upstream(format!("another server has the channel {channel:?}"));
    }

    fn fail_upstream(&mut self, failure: String) {
        self.upstream.failure = Some(failure);
        if let Some(current) = &self.upstream.current {
            self.hub.close(current.connection, None);
        }
    }

    /// Somebody has answered a request of this cluster id, which nobody else may.
    pub(crate) fn on_stand_alone_answered(&mut self) {
        let cluster_id = &self.hub.config.cluster_id;
        let failure = format!("discovered another streaming server with cluster ID {cluster_id:?}");
        self.fail_upstream(failure);
    }

    /// Nobody else serves this cluster id.
    pub(crate) fn on_stand_alone_silent(&mut self) {
        if self.upstream.stage() == Some(Stage::Checking) {
            self.upstream.is_alone = true;
            self.subscribe_upstream();
        }
    }

    fn subscribe_upstream(&mut self) {
        let Some(current) = self.upstream.current.as_mut() else { return };
        current.stage = Stage::Subscribing;
        let subjects = &self.stan.subjects;
        let partition = self.hub.config.partition.clone();
        let partition = partition.as_deref();
        let channels: Vec<&str> = partition.map_or(vec![">"], |own| own.channels().collect());
        let publishes = channels.iter().map(|channel| format!("{}.{channel}", subjects.publish));
        let services = [
            &subjects.connect,
            &subjects.ping,
            &subjects.subscribe,
            &subjects.unsubscribe,
            &subjects.close_subscription,
            &subjects.close,
        ];
        self.hub.write(current.connection, 512, |out| {
            for (subject, sid) in publishes.chain(services.into_iter().cloned()).zip(2..) {
                emit::sub(out, subject.as_bytes(), sid);
            }
            emit::ping(out);
        });
    }

    fn on_upstream_message(&mut self, id: ConnectionId, message: &Message<'_>, now: Now) {
        let headers = message.header_bytes.and_then(|bytes| message.block.get(..bytes));
        if headers.is_some_and(|headers| headers.starts_with(NO_RESPONDERS)) {
            // Nobody is there to answer what was asked.
            if message.subject.starts_with(INBOX_PREFIX)
                && let Some(ServerInbox::Reply { core, nonce }) =
                    ServerInbox::parse(message.subject)
                && usize::from(core.0) < self.hub.links.core_count()
            {
                self.send_stan_from(id, core, StanMessage::NobodyToAsk { nonce });
            }
            return;
        }
        // What is no request of STAN's was meant for nobody here.
        self.serve(id, message, now);
    }

    /// The connection to the other server is gone.
    pub(crate) fn upstream_closed(&mut self) {
        let was_serving = self.upstream.stage() == Some(Stage::Serving);
        self.upstream.current = None;
        if was_serving {
            self.hub.notices.push(Notice::UpstreamLost);
        }
    }
}

/// The JSON of the CONNECT that answers an INFO.
pub(crate) fn hello(cluster_id: &str, login: &Login, nonce: &str) -> Vec<u8> {
    let mut hello = Hello {
        verbose: false,
        pedantic: false,
        echo: false,
        headers: true,
        no_responders: true,
        protocol: 1,
        lang: "rust",
        version: env!("CARGO_PKG_VERSION"),
        name: format!("_NSS-{cluster_id}-weirlog"),
        auth_token: None,
        user: None,
        pass: None,
        nkey: None,
        jwt: None,
        sig: None,
    };
    // A server that gives no nonce asks for no signature.
    let signed = |seed: &Seed| (!nonce.is_empty()).then(|| seed.sign(nonce));
    match login {
        Login::Open => {}
        Login::Token(token) => hello.auth_token = Some(token),
        Login::User { name, password } => {
            hello.user = Some(name);
            hello.pass = Some(password);
        }
        Login::Key(seed) => {
            hello.nkey = Some(seed.public_key());
            hello.sig = signed(seed);
        }
        Login::Credentials(UserCredentials { jwt, seed }) => {
            hello.jwt = Some(jwt);
            hello.sig = signed(seed);
        }
    }
    serde_json::to_vec(&hello).expect("strings and flags are JSON")
}
