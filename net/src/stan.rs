//! NATS Streaming over a core: requests come as messages to the cluster's subjects and leave as messages to their
//! reply subjects; in between they are engine requests, on the core that runs the shard.

pub mod about;
pub mod ack;
pub mod connect;
pub mod errors;
pub mod heartbeat;
pub mod pub_acks;
pub mod publish;
pub mod subjects;
pub mod subscribe;
pub mod waiters;
pub mod wire;

use std::collections::VecDeque;

use bytes::Bytes;
use weirlog_engine::disk::Disk;
use weirlog_engine::request::{Answer, ClientKey, Ticket};
use weirlog_engine::runtime::Runtime;
use weirlog_engine::types::{FastMap, Now, ShardId};

use crate::config::NetConfig;
use crate::core::{Core, Message};
use crate::ids::{ConnectionId, CoreId};
use crate::link::{LinkMessage, StanMessage};
use connect::Home;
use heartbeat::Heart;
use subjects::{ServerInbox, Service, Subjects};
use waiters::{SpareBuffers, Waiters};

/// What an answer of the engine is for.
#[derive(Debug)]
pub(crate) enum Pending {
    /// The home registers a client.
    OpenClient {
        /// Its id.
        client_id: String,
    },
    /// The home forgets a client.
    CloseClient {
        /// Its id.
        client_id: String,
    },
    /// A shard ends a client's subscriptions because its home says so.
    EndClient {
        /// The home's core.
        home: CoreId,
        /// The home's number.
        operation: u64,
    },
    /// A shard ends subscriptions of a client that was gone at start.
    EndOrphan,
    /// A subscription is made.
    Subscribe {
        /// Its shard.
        shard: ShardId,
        /// Its channel, as the client wrote it.
        channel: String,
        /// Where the answer goes.
        reply: Bytes,
    },
    /// A subscription is ended.
    Unsubscribe {
        /// Where the answer goes.
        reply: Bytes,
    },
}

/// What STAN's timers are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimerCall {
    /// A client's next heartbeat is due.
    Heartbeat {
        /// The client.
        key: ClientKey,
        /// Which of its timers: only the last one set counts.
        round: u64,
    },
    /// A message has waited long enough for its client: see [`crate::partition`].
    Registration,
    /// A question was not answered in time.
    Unanswered {
        /// Names the question.
        nonce: u64,
    },
}

/// A message of ours that awaits a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Question {
    /// Is the client that holds this id still there?
    Probe {
        /// The id.
        client_id: String,
    },
    /// A heartbeat.
    Heartbeat(ClientKey),
    /// Does another server serve this cluster id?
    StandAlone,
    /// Does another server have one of this one's channels?
    Partition,
}

/// STAN's state on one core.
#[derive(Debug)]
pub(crate) struct Stan {
    pub(crate) subjects: Subjects,
    /// Publishes that wait for their commit, by shard.
    pub(crate) waiters: Vec<Waiters>,
    pub(crate) spares: SpareBuffers,
    /// A buffer for what is encoded and sent at once.
    pub(crate) scratch: Vec<u8>,
    /// Shards whose log is known to be finished.
    pub(crate) finished: Vec<ShardId>,
    pub(crate) home: Home,
    pub(crate) hearts: FastMap<ClientKey, Heart>,
    pub(crate) questions: FastMap<u64, Question>,
    pending: FastMap<Ticket, Pending>,
    tickets: u64,
    /// Requests of this core to itself.
    calls: VecDeque<StanMessage>,
    /// How many shards of this core still end a client's subscriptions.
    ending: FastMap<(CoreId, u64), usize>,
}

impl Stan {
    pub(crate) fn new(config: &NetConfig, shards: &[ShardId]) -> Self {
        assert!(
            shards.iter().all(|shard| shard.0 < config.shard_count),
            "shards are below their count"
        );
        Self {
            subjects: Subjects::of(config),
            waiters: (0..config.shard_count).map(|_| Waiters::default()).collect(),
            spares: SpareBuffers::default(),
            scratch: Vec::new(),
            finished: Vec::new(),
            home: Home::default(),
            hearts: FastMap::default(),
            questions: FastMap::default(),
            pending: FastMap::default(),
            tickets: 0,
            calls: VecDeque::new(),
            ending: FastMap::default(),
        }
    }

    /// A ticket for a request to the engine.
    pub(crate) fn ticket(&mut self, pending: Pending) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.pending.insert(ticket, pending);
        ticket
    }
}

impl<D: Disk, R: Runtime> Core<D, R> {
    /// A message to one of the cluster's subjects.
    pub(crate) fn on_stan_request(
        &mut self,
        id: ConnectionId,
        service: Service,
        payload: &[u8],
        reply: &[u8],
        now: Now,
    ) {
        match service {
            Service::Connect => self.on_connect_request(id, payload, reply, now),
            Service::Ping => self.on_client_ping(id, payload, reply),
            Service::Subscribe => self.on_subscription_request(id, payload, reply, now),
            Service::Unsubscribe | Service::CloseSubscription => {
                self.on_unsubscribe_request(id, service, payload, reply);
            }
            Service::Close => self.on_close_request(id, payload, reply, now),
            Service::Partition => self.on_partition_announced(payload, reply),
        }
    }

    /// A message to an inbox that this server made.
    pub(crate) fn on_server_inbox(
        &mut self,
        id: ConnectionId,
        inbox: ServerInbox,
        payload: &[u8],
        now: Now,
    ) {
        match inbox {
            ServerInbox::Ack { shard, subscription, token } => {
                self.on_ack_message(id, (shard, subscription, token), payload, now);
            }
            ServerInbox::Reply { core, nonce } => {
                if usize::from(core.0) < self.hub.links.core_count() {
                    let payload = Bytes::copy_from_slice(payload);
                    self.send_stan_from(id, core, StanMessage::InboxReply { nonce, payload });
                }
            }
        }
    }

    /// Sends a request to `core`, which may be this one.
    pub(crate) fn send_stan(&mut self, core: CoreId, message: StanMessage) {
        if core == self.hub.own() {
            self.stan.calls.push_back(message);
        } else {
            self.hub.links.push(core, LinkMessage::Stan(message));
        }
    }

    /// The same, as something that a connection has caused.
    pub(crate) fn send_stan_from(&mut self, id: ConnectionId, core: CoreId, message: StanMessage) {
        self.send_stan(core, message);
        if core != self.hub.own()
            && let Some(session) = self.hub.sessions.get_mut(id)
        {
            self.hub.links.mark(core, &mut session.marks);
        }
    }

    /// Sends a message to all other cores.
    pub(crate) fn broadcast_stan(&mut self, message: impl Fn() -> StanMessage) {
        for core in self.hub.links.others() {
            self.hub.links.push(core, LinkMessage::Stan(message()));
        }
    }

    /// Does what this core has asked of itself.
    pub(crate) fn run_stan_calls(&mut self, now: Now) {
        while let Some(message) = self.stan.calls.pop_front() {
            let own = self.hub.own();
            self.on_stan_message(own, message, now);
        }
    }

    /// A request or its continuation, from any core.
    pub(crate) fn on_stan_message(&mut self, from: CoreId, message: StanMessage, now: Now) {
        match message {
            StanMessage::Connect(call) => self.on_connect_call(*call, now),
            StanMessage::Close { client_id, reply } => self.on_close_call(client_id, reply, now),
            StanMessage::Nudge(key) => self.on_nudge(key, now),
            StanMessage::Registered(client) => {
                self.hub.registry.insert(&client);
                self.release_held(now);
            }
            StanMessage::EndClient { key, operation } => {
                self.on_end_client(from, key, operation, now)
            }
            StanMessage::ClientEnded { operation } => self.on_client_ended(operation, now),
            StanMessage::Responsive { key, is_responsive } => {
                self.on_responsive(key, is_responsive)
            }
            StanMessage::Subscribe { shard, request, reply } => {
                self.on_subscribe_call(shard, *request, reply, now);
            }
            StanMessage::Unsubscribe { shard, channel, subscription, client, how, reply } => {
                let ticket = self.stan.ticket(Pending::Unsubscribe { reply });
                self.with_shard(shard, |shard| {
                    shard.end_subscription(&channel, &subscription, client, how, ticket, now);
                });
            }
            StanMessage::InboxReply { nonce, payload } => {
                self.on_question_answered(nonce, &payload, now);
            }
            StanMessage::NobodyToAsk { nonce } => self.on_question_unanswered(nonce, now),
            StanMessage::CopiesSent => self.on_copies_sent(now),
            StanMessage::Ready(_) => self.on_core_ready(),
        }
    }

    /// The engine has done, or refused, what a ticket stands for.
    pub(crate) fn on_answer(&mut self, ticket: Ticket, answer: Answer, now: Now) {
        let pending = self.stan.pending.remove(&ticket).expect("each ticket is answered once");
        match pending {
            Pending::OpenClient { client_id } => self.on_client_opened(&client_id, answer, now),
            Pending::CloseClient { client_id } => self.on_client_closed(&client_id, answer, now),
            Pending::EndClient { home, operation } => self.on_shard_ended_client(home, operation),
            Pending::EndOrphan => self.on_orphan_ended(),
            Pending::Subscribe { shard, channel, reply } => {
                self.on_subscribed(shard, &channel, &reply, answer, now);
            }
            Pending::Unsubscribe { reply } => self.on_unsubscribed(&reply, &answer),
        }
    }

    /// A timer of STAN's has come.
    pub(crate) fn on_stan_timer(&mut self, call: TimerCall, now: Now) {
        match call {
            TimerCall::Heartbeat { key, round } => self.on_heartbeat_due(key, round, now),
            TimerCall::Registration => self.release_held(now),
            TimerCall::Unanswered { nonce } => self.on_question_unanswered(nonce, now),
        }
    }

    fn on_question_unanswered(&mut self, nonce: u64, now: Now) {
        match self.stan.questions.remove(&nonce) {
            Some(Question::Probe { client_id }) => self.on_probe_failed(&client_id, now),
            Some(Question::Heartbeat(key)) => self.on_heartbeat_failed(key, now),
            Some(Question::StandAlone | Question::Partition) => self.on_stand_alone_silent(),
            None => {}
        }
    }

    fn on_question_answered(&mut self, nonce: u64, payload: &[u8], now: Now) {
        match self.stan.questions.remove(&nonce) {
            Some(Question::Probe { client_id }) => self.on_probe_answered(&client_id, now),
            Some(Question::Heartbeat(key)) => self.on_heartbeat_answered(key, now),
            Some(Question::StandAlone) => self.on_stand_alone_answered(),
            Some(Question::Partition) => self.on_partition_refused(payload),
            None => {}
        }
    }

    /// Sends an empty message to `subject` that awaits a reply. None: nobody is there to receive it.
    pub(crate) fn ask(
        &mut self,
        subject: &[u8],
        question: Question,
        wait_ms: u64,
        now: Now,
    ) -> Option<u64> {
        self.ask_with(subject, b"", question, wait_ms, now)
    }

    /// The same with a payload.
    pub(crate) fn ask_with(
        &mut self,
        subject: &[u8],
        block: &[u8],
        question: Question,
        wait_ms: u64,
        now: Now,
    ) -> Option<u64> {
        let nonce = self.hub.rng.u64(..);
        let inbox = ServerInbox::Reply { core: self.hub.own(), nonce }.to_subject();
        let message = Message { reply: Some(inbox.as_bytes()), ..Message::plain(subject, block) };
        if !self.hub.route(&message, None) {
            return None;
        }
        self.stan.questions.insert(nonce, question);
        let call = TimerCall::Unanswered { nonce };
        self.hub.set_timer(now, wait_ms, crate::core::TimerEvent::Stan(call));
        Some(nonce)
    }

    /// Sends a response to a reply subject, if there is one.
    pub(crate) fn respond(&mut self, reply: &[u8], encode: impl FnOnce(&mut Vec<u8>)) {
        if reply.is_empty() {
            return;
        }
        let mut scratch = std::mem::take(&mut self.stan.scratch);
        scratch.clear();
        encode(&mut scratch);
        self.hub.route(&Message::plain(reply, &scratch), None);
        self.stan.scratch = scratch;
    }

    /// A client is closed at its home: forgets it and ends its subscriptions on this core's shards.
    fn on_end_client(&mut self, home: CoreId, key: ClientKey, operation: u64, now: Now) {
        self.hub.registry.remove(key);
        let shards = self.storage.shards().to_vec();
        if shards.is_empty() {
            self.send_stan(home, StanMessage::ClientEnded { operation });
            return;
        }
        self.stan.ending.insert((home, operation), shards.len());
        for shard in shards {
            let ticket = self.stan.ticket(Pending::EndClient { home, operation });
            self.with_shard(shard, |shard| shard.end_client_subscriptions(key, ticket, now));
        }
    }

    fn on_shard_ended_client(&mut self, home: CoreId, operation: u64) {
        let missing = self.stan.ending.get_mut(&(home, operation)).expect("one answer a shard");
        *missing -= 1;
        if *missing == 0 {
            self.stan.ending.remove(&(home, operation));
            self.send_stan(home, StanMessage::ClientEnded { operation });
        }
    }

    fn on_responsive(&mut self, key: ClientKey, is_responsive: bool) {
        self.hub.registry.set_responsive(key, is_responsive);
        for shard in self.storage.shards().to_vec() {
            self.with_shard(shard, |shard| shard.set_client_responsive(key, is_responsive));
        }
    }
}
