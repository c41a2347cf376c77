//! Clients come and go, decided in their home shard.
//!
//! ```text
//! connect -> is the id held? -- no --------------------------------> open -> spread -> answer
//!                 | yes: ask the holder                               ^
//!                 +-- it answers: refused                             |
//!                 +-- nobody there, or no answer: close -> end -------+
//! close, or heartbeats failed  ->  close -> end -> answer
//!
//! close: the home forgets the client, committed      end: all shards end its subscriptions, committed
//! open: the home registers it, committed             spread: all cores have its copy
//! ```
//! Requests for one id wait for each other; but while the holder is asked, a second connect is refused at once.

use std::collections::VecDeque;

use bytes::Bytes;
use weirlog_engine::disk::Disk;
use weirlog_engine::error::RequestError;
use weirlog_engine::placement::home_of_client;
use weirlog_engine::request::{Answer, ClientKey};
use weirlog_engine::runtime::Runtime;
use weirlog_engine::types::{FastMap, Now, ShardId};

use super::about::About;
use super::errors;
use super::wire::{CloseRequest, CloseResponse, ConnectRequest, ConnectResponse};
use super::{Pending, Question};
use crate::config::{CLIENT_QUEUE_MAX, PROBE_TIMEOUT_MS};
use crate::core::{Core, Then};
use crate::ids::{ConnectionId, CoreId};
use crate::link::StanMessage;
use crate::subject::{is_valid_client_id, is_valid_publish};

/// A checked connect request on its way to the client's home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectCall {
    /// The wanted id.
    pub client_id: String,
    /// The id of the client's connection.
    pub connection_id: Bytes,
    /// Its settings.
    pub about: About,
    /// Where the answer goes.
    pub reply: Bytes,
}

/// What the home does for a client id, one after the other.
#[derive(Debug)]
enum HomeRequest {
    Connect(Box<ConnectCall>),
    Close {
        reply: Bytes,
    },
    /// Its heartbeats failed; only this registration is meant.
    Expire(ClientKey),
}

/// How far a request is. See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Asking,
    Closing,
    Ending { cores_missing: usize },
    Opening,
    Spreading,
}

#[derive(Debug)]
struct Work {
    request: HomeRequest,
    stage: Stage,
    waiting: VecDeque<HomeRequest>,
}

/// What this core does as the home of clients.
#[derive(Debug, Default)]
pub(crate) struct Home {
    works: FastMap<String, Work>,
    /// Operations over all shards: for which client id.
    operations: FastMap<u64, (String, ClientKey)>,
    operations_count: u64,
}

impl<D: Disk, R: Runtime> Core<D, R> {
    /// A message to the discover subject.
    pub(crate) fn on_connect_request(
        &mut self,
        id: ConnectionId,
        payload: &[u8],
        reply: &[u8],
        now: Now,
    ) {
        let call = match check_connect(payload, reply) {
            Ok(call) => call,
            Err(error) => {
                self.respond(reply, |out| {
                    ConnectResponse { error, ..Default::default() }.encode(out)
                });
                return;
            }
        };
        self.note_connect(&call, now);
        let core = self.home_core(&call.client_id);
        self.send_stan_from(id, core, StanMessage::Connect(Box::new(call)));
    }

    /// A message to the close subject. It goes on when all cores have applied what the connection sent before: its
    /// acks and publishes come first.
    pub(crate) fn on_close_request(
        &mut self,
        id: ConnectionId,
        payload: &[u8],
        reply: &[u8],
        now: Now,
    ) {
        let Ok(request) = CloseRequest::decode(payload) else {
            self.respond(reply, |out| CloseResponse { error: errors::INVALID_CLOSE }.encode(out));
            return;
        };
        let core = self.home_core(request.client_id);
        let client_id = request.client_id.to_owned();
        let message = StanMessage::Close { client_id, reply: Bytes::copy_from_slice(reply) };
        let marks =
            self.hub.sessions.get(id).map(|session| session.marks.clone()).unwrap_or_default();
        self.after_applied(marks, Then::Send(core, message), now);
    }

    fn home_core(&self, client_id: &str) -> CoreId {
        self.hub.core_of(self.home_shard(client_id))
    }

    fn home_shard(&self, client_id: &str) -> ShardId {
        home_of_client(client_id, self.hub.config.shard_count)
    }

    /// A connect request at the client's home.
    pub(crate) fn on_connect_call(&mut self, call: ConnectCall, now: Now) {
        let is_asking = self
            .stan
            .home
            .works
            .get(&call.client_id)
            .is_some_and(|work| work.stage == Stage::Asking);
        if is_asking {
            self.refuse_connect(&call.reply, errors::CLIENT_EXISTS);
            return;
        }
        let client_id = call.client_id.clone();
        self.enqueue(client_id, HomeRequest::Connect(Box::new(call)), now);
    }

    /// A close request at the client's home.
    pub(crate) fn on_close_call(&mut self, client_id: String, reply: Bytes, now: Now) {
        self.enqueue(client_id, HomeRequest::Close { reply }, now);
    }

    /// A client of this home does not answer its heartbeats.
    pub(crate) fn expire_client(&mut self, client_id: String, key: ClientKey, now: Now) {
        self.enqueue(client_id, HomeRequest::Expire(key), now);
    }

    fn enqueue(&mut self, client_id: String, request: HomeRequest, now: Now) {
        let Some(work) = self.stan.home.works.get_mut(&client_id) else {
            self.begin(client_id, request, VecDeque::new(), now);
            return;
        };
        if work.waiting.len() < CLIENT_QUEUE_MAX {
            work.waiting.push_back(request);
            return;
        }
        // So many wait for one id that refusing is the answer.
        match request {
            HomeRequest::Connect(call) => self.refuse_connect(&call.reply, errors::CLIENT_EXISTS),
            HomeRequest::Close { reply } => self.answer_close(&reply, errors::UNKNOWN_CLIENT),
            HomeRequest::Expire(_) => {}
        }
    }

    fn begin(
        &mut self,
        client_id: String,
        request: HomeRequest,
        waiting: VecDeque<HomeRequest>,
        now: Now,
    ) {
        let shard = self.home_shard(&client_id);
        let holder = self.storage.with(shard, |shard| {
            shard.client(&client_id).map(|client| (client.key, About::parse(&client.about)))
        });
        let stage =
            if matches!(request, HomeRequest::Connect(_)) { Stage::Asking } else { Stage::Closing };
        let work = Work { request, stage, waiting };
        let request =
            &self.stan.home.works.entry(client_id.clone()).insert_entry(work).into_mut().request;
        match (request, holder) {
            (HomeRequest::Connect(_), None) => self.open_client(&client_id, now),
            (HomeRequest::Connect(_), Some((key, about))) => {
                let inbox = about.map(|about| about.heartbeat_inbox).unwrap_or_default();
                let question = Question::Probe { client_id: client_id.clone() };
                if self.ask(&inbox, question, PROBE_TIMEOUT_MS, now).is_none() {
                    self.close_client(&client_id, key, now);
                }
            }
            (HomeRequest::Close { reply }, None) => {
                let reply = reply.clone();
                self.answer_close(&reply, errors::UNKNOWN_CLIENT);
                self.finish(&client_id, now);
            }
            (HomeRequest::Expire(wanted), Some((key, _))) if *wanted != key => {
                self.finish(&client_id, now)
            }
            (HomeRequest::Expire(_), None) => self.finish(&client_id, now),
            (HomeRequest::Close { .. } | HomeRequest::Expire(_), Some((key, _))) => {
                self.close_client(&client_id, key, now);
            }
        }
    }

    /// The holder of an id is there.
    pub(crate) fn on_probe_answered(&mut self, client_id: &str, now: Now) {
        let Some(work) = self.stan.home.works.get(client_id) else { return };
        if let (Stage::Asking, HomeRequest::Connect(call)) = (work.stage, &work.request) {
            let reply = call.reply.clone();
            self.refuse_connect(&reply, errors::CLIENT_EXISTS);
            self.finish(client_id, now);
        }
    }

    /// The holder of an id did not answer: it is replaced.
    pub(crate) fn on_probe_failed(&mut self, client_id: &str, now: Now) {
        if self.stan.home.works.get(client_id).is_none_or(|work| work.stage != Stage::Asking) {
            return;
        }
        let shard = self.home_shard(client_id);
        let holder =
            self.storage.with(shard, |shard| shard.client(client_id).map(|client| client.key));
        match holder {
            Some(key) => self.close_client(client_id, key, now),
            None => self.open_client(client_id, now),
        }
    }

    fn close_client(&mut self, client_id: &str, key: ClientKey, now: Now) {
        self.set_stage(client_id, Stage::Closing);
        let home = &mut self.stan.home;
        home.operations_count += 1;
        home.operations.insert(home.operations_count, (client_id.to_owned(), key));
        self.stan.hearts.remove(&key);
        let ticket = self.stan.ticket(Pending::CloseClient { client_id: client_id.to_owned() });
        self.with_shard(key.home, |shard| shard.close_client(key, ticket, now));
    }

    /// The home has forgotten a client; now all shards end its subscriptions.
    pub(crate) fn on_client_closed(&mut self, client_id: &str, answer: Answer, now: Now) {
        let cores_missing = self.hub.links.core_count();
        self.set_stage(client_id, Stage::Ending { cores_missing });
        let operation = self.stan.home.operations.iter().find(|(_, (id, _))| id == client_id);
        let Some((operation, key)) = operation.map(|(operation, (_, key))| (*operation, *key))
        else {
            return;
        };
        if let Answer::Refused(RequestError::LogFinished(_) | RequestError::Full) = answer {
            // The truth could not be changed: the client stays.
            self.stan.home.operations.remove(&operation);
            self.refuse_work(client_id, &answer, now);
            return;
        }
        self.broadcast_stan(|| StanMessage::EndClient { key, operation });
        let own = self.hub.own();
        self.send_stan(own, StanMessage::EndClient { key, operation });
    }

    /// One more core has ended a client's subscriptions.
    pub(crate) fn on_client_ended(&mut self, operation: u64, now: Now) {
        let Some((client_id, _)) = self.stan.home.operations.get(&operation) else { return };
        let client_id = client_id.clone();
        let Some(work) = self.stan.home.works.get_mut(&client_id) else { return };
        let Stage::Ending { cores_missing } = &mut work.stage else { return };
        *cores_missing -= 1;
        if *cores_missing > 0 {
            return;
        }
        self.stan.home.operations.remove(&operation);
        self.hub.debug_streaming(|| format!("[Client:{client_id}] Closed"));
        match &work.request {
            HomeRequest::Connect(_) => {
                self.open_client(&client_id, now);
                return;
            }
            HomeRequest::Close { reply } => {
                let reply = reply.clone();
                self.answer_close(&reply, "");
            }
            HomeRequest::Expire(_) => {}
        }
        self.finish(&client_id, now);
    }

    fn open_client(&mut self, client_id: &str, now: Now) {
        self.set_stage(client_id, Stage::Opening);
        let ticket = self.stan.ticket(Pending::OpenClient { client_id: client_id.to_owned() });
        let work = self.stan.home.works.get(client_id).expect("its stage was set");
        let HomeRequest::Connect(call) = &work.request else {
            unreachable!("only a connect opens a client")
        };
        let (connection_id, about) = (call.connection_id.clone(), call.about.to_bytes());
        let shard = self.home_shard(client_id);
        self.with_shard(shard, |shard| {
            shard.open_client(client_id, &connection_id, &about, ticket, now)
        });
    }

    /// The home has registered a client; now all cores get a copy.
    pub(crate) fn on_client_opened(&mut self, client_id: &str, answer: Answer, now: Now) {
        let Answer::ClientOpened(client) = answer else {
            self.refuse_work(client_id, &answer, now);
            return;
        };
        self.set_stage(client_id, Stage::Spreading);
        self.hub.registry.insert(&client);
        self.release_held(now);
        self.watch_client(&client, now);
        self.broadcast_stan(|| StanMessage::Registered(client.clone()));
        let marks = self.hub.links.mark_all();
        self.after_applied(marks, Then::Connected { client_id: client_id.to_owned() }, now);
    }

    /// All cores know a client: its connect is answered.
    pub(crate) fn on_client_spread(&mut self, client_id: &str, now: Now) {
        let Some(work) = self.stan.home.works.get(client_id) else { return };
        let HomeRequest::Connect(call) = &work.request else { return };
        let (reply, about) = (call.reply.clone(), call.about.clone());
        let subjects = self.stan.subjects.clone();
        self.respond(&reply, |out| {
            let is_pinging = about.protocol >= 1;
            let response = ConnectResponse {
                pub_prefix: &subjects.publish,
                sub_requests: &subjects.subscribe,
                unsub_requests: &subjects.unsubscribe,
                close_requests: &subjects.close,
                sub_close_requests: &subjects.close_subscription,
                ping_requests: if is_pinging { &subjects.ping } else { "" },
                ping_interval: if is_pinging { about.ping_interval } else { 0 },
                ping_max_out: if is_pinging { about.ping_max_out } else { 0 },
                protocol: 1,
                ..Default::default()
            };
            response.encode(out);
        });
        self.hub.debug_streaming(|| format!("[Client:{client_id}] Connected"));
        self.finish(client_id, now);
    }

    /// The engine did not do what a request needs.
    fn refuse_work(&mut self, client_id: &str, answer: &Answer, now: Now) {
        let Answer::Refused(error) = answer else { return };
        let text = errors::text_of(error, "");
        let Some(work) = self.stan.home.works.get(client_id) else { return };
        match &work.request {
            HomeRequest::Connect(call) => {
                let reply = call.reply.clone();
                self.refuse_connect(&reply, &text);
            }
            HomeRequest::Close { reply } => {
                let reply = reply.clone();
                self.answer_close(&reply, &text);
            }
            HomeRequest::Expire(_) => {}
        }
        self.finish(client_id, now);
    }

    /// A request is answered: the next one for the same id begins.
    fn finish(&mut self, client_id: &str, now: Now) {
        let Some(mut work) = self.stan.home.works.remove(client_id) else { return };
        if let Some(next) = work.waiting.pop_front() {
            self.begin(client_id.to_owned(), next, work.waiting, now);
        }
    }

    fn set_stage(&mut self, client_id: &str, stage: Stage) {
        let work = self.stan.home.works.get_mut(client_id).expect("a stage belongs to a work");
        work.stage = stage;
    }

    fn refuse_connect(&mut self, reply: &[u8], error: &str) {
        self.respond(reply, |out| ConnectResponse { error, ..Default::default() }.encode(out));
    }

    fn answer_close(&mut self, reply: &[u8], error: &str) {
        self.respond(reply, |out| CloseResponse { error }.encode(out));
    }
}

/// Reads a connect request and checks it in the order of the reference.
fn check_connect(payload: &[u8], reply: &[u8]) -> Result<ConnectCall, &'static str> {
    let request = ConnectRequest::decode(payload).map_err(|_| errors::INVALID_CONNECT)?;
    // An inbox that is no subject could never be written into a line of the protocol.
    if !is_valid_publish(request.heartbeat_inbox.as_bytes()) {
        return Err(errors::INVALID_CONNECT);
    }
    if !is_valid_client_id(request.client_id) {
        return Err(errors::INVALID_CLIENT_ID);
    }
    Ok(ConnectCall {
        client_id: request.client_id.to_owned(),
        connection_id: Bytes::copy_from_slice(request.conn_id),
        about: About {
            heartbeat_inbox: Bytes::copy_from_slice(request.heartbeat_inbox.as_bytes()),
            protocol: request.protocol,
            ping_interval: request.ping_interval,
            ping_max_out: request.ping_max_out,
        },
        reply: Bytes::copy_from_slice(reply),
    })
}
