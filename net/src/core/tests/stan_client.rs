//! What a client of NATS Streaming sends and gets, for transcripts.

use weirlog_engine::placement::shard_of_channel;

use super::*;
use crate::stan::wire::{
    Ack, CloseRequest, CloseResponse, ConnectRequest, ConnectResponse, MsgProto, PubAck, PubMsg,
    SubscriptionRequest, SubscriptionResponse,
};

/// One MSG that a peer got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Got {
    pub(super) subject: String,
    pub(super) reply: String,
    pub(super) payload: Vec<u8>,
}

impl Town {
    pub(super) fn publish(&mut self, peer: Peer, subject: &str, reply: &str, payload: &[u8]) {
        self.tell(peer, line(subject, reply, payload));
    }

    /// The messages a peer got until all was quiet.
    pub(super) fn got(&mut self, peer: Peer) -> Vec<Got> {
        self.settle();
        let mut heard = Vec::new();
        let now = self.now();
        let core = &mut self.cores[peer.core];
        while let Some(head) = core.outbox(peer.id).map(|outbox| outbox.head().to_vec()) {
            if head.is_empty() {
                break;
            }
            core.written(peer.id, head.len(), now);
            heard.extend_from_slice(&head);
        }
        messages(&heard)
    }

    /// Sends a request and returns the answer's payload.
    pub(super) fn request(&mut self, peer: Peer, subject: &str, payload: &[u8]) -> Vec<u8> {
        self.publish(peer, subject, "answer", payload);
        let got = self.got(peer);
        let answer = got.iter().find(|got| got.subject == "answer");
        answer.unwrap_or_else(|| panic!("{subject} is not answered: {got:?}")).payload.clone()
    }

    /// A STAN client on a core: its connection, subscribed to all it needs.
    pub(super) fn client(&mut self, core: usize, id: &str) -> Peer {
        let peer = self.enter(core);
        self.tell(
            peer,
            format!("SUB answer 1\r\nSUB acks.{id} 2\r\nSUB hb.{id}.{core} 3\r\nSUB in.> 4\r\n"),
        );
        let error = self.open(peer, id);
        assert_eq!(error, "");
        peer
    }

    pub(super) fn open(&mut self, peer: Peer, id: &str) -> String {
        let heartbeat_inbox = format!("hb.{id}.{}", peer.core);
        let connection = format!("connection-{id}");
        let request = ConnectRequest {
            client_id: id,
            heartbeat_inbox: &heartbeat_inbox,
            protocol: 1,
            conn_id: connection.as_bytes(),
            ping_interval: -7,
            ping_max_out: 3,
        };
        let mut payload = Vec::new();
        request.encode(&mut payload);
        let answer = self.request(peer, "_STAN.discover.test-cluster", &payload);
        let answer = ConnectResponse::decode(&answer).unwrap();
        if answer.error.is_empty() {
            assert_eq!(answer.pub_prefix, "_STAN.pub.test-cluster");
            assert_eq!((answer.ping_interval, answer.ping_max_out), (-7, 3));
        }
        answer.error.to_owned()
    }

    /// Publishes and returns the ack's error.
    pub(super) fn store(&mut self, peer: Peer, id: &str, channel: &str, data: &str) -> String {
        let payload = pub_msg(id, channel, data);
        self.publish(
            peer,
            &format!("_STAN.pub.test-cluster.{channel}"),
            &format!("acks.{id}"),
            &payload,
        );
        let got = self.got(peer);
        let ack =
            got.iter().find(|got| got.subject == format!("acks.{id}")).expect("it is answered");
        let ack = PubAck::decode(&ack.payload).unwrap();
        assert_eq!(ack.guid, data);
        ack.error.to_owned()
    }

    /// Subscribes and returns the ack inbox, or the error, and what came with it.
    pub(super) fn subscribe(
        &mut self,
        peer: Peer,
        request: &SubscriptionRequest<'_>,
    ) -> (String, Vec<Got>) {
        let mut payload = Vec::new();
        request.encode(&mut payload);
        self.publish(peer, "_STAN.sub.test-cluster", "answer", &payload);
        let mut got = self.got(peer);
        assert_eq!(got[0].subject, "answer", "the answer comes before the first message");
        let answer = got.remove(0).payload;
        let answer = SubscriptionResponse::decode(&answer).unwrap();
        (format!("{}{}", answer.ack_inbox, answer.error), got)
    }

    /// First, last sequence and number of a channel's messages.
    pub(super) fn bounds(&self, channel: &str) -> (u64, u64, u64) {
        let shard = shard_of_channel(channel, SHARD_COUNT);
        let core = usize::from(shard.0) % self.cores.len();
        let bounds = self.cores[core].storage().with(shard, |shard| shard.channel_bounds(channel));
        let (first, last, count) = bounds.expect("the channel is there");
        (first.0, last.0, count)
    }

    pub(super) fn acknowledge(&mut self, peer: Peer, inbox: &str, channel: &str, sequence: u64) {
        let mut payload = Vec::new();
        Ack { subject: channel, sequence }.encode(&mut payload);
        self.publish(peer, inbox, "", &payload);
    }

    pub(super) fn close(&mut self, peer: Peer, id: &str) -> String {
        let mut payload = Vec::new();
        CloseRequest { client_id: id }.encode(&mut payload);
        let answer = self.request(peer, "_STAN.close.test-cluster", &payload);
        CloseResponse::decode(&answer).unwrap().error.to_owned()
    }
}

pub(super) fn line(subject: &str, reply: &str, payload: &[u8]) -> Vec<u8> {
    let mut line = format!("PUB {subject} {reply} {}\r\n", payload.len()).into_bytes();
    line.extend_from_slice(payload);
    line.extend_from_slice(b"\r\n");
    line
}

pub(super) fn pub_msg(id: &str, channel: &str, data: &str) -> Vec<u8> {
    let connection = format!("connection-{id}");
    let message = PubMsg {
        client_id: id,
        guid: data,
        subject: channel,
        data: data.as_bytes(),
        conn_id: connection.as_bytes(),
        ..Default::default()
    };
    let mut payload = Vec::new();
    message.encode(&mut payload);
    payload
}

pub(super) fn messages(mut bytes: &[u8]) -> Vec<Got> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let end = bytes.windows(2).position(|pair| pair == b"\r\n").unwrap();
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        bytes = &bytes[end + 2..];
        let fields: Vec<&str> = head.split(' ').collect();
        if fields[0] != "MSG" {
            continue;
        }
        let size: usize = fields[fields.len() - 1].parse().unwrap();
        let reply = if fields.len() == 5 { fields[3] } else { "" };
        all.push(Got {
            subject: fields[1].to_owned(),
            reply: reply.to_owned(),
            payload: bytes[..size].to_vec(),
        });
        bytes = &bytes[size + 2..];
    }
    all
}

pub(super) fn sequences(got: &[Got]) -> Vec<u64> {
    got.iter().map(|got| MsgProto::decode(&got.payload).unwrap().sequence).collect()
}

pub(super) fn from_first<'a>(
    id: &'a str,
    channel: &'a str,
    inbox: &'a str,
) -> SubscriptionRequest<'a> {
    SubscriptionRequest {
        client_id: id,
        subject: channel,
        inbox,
        max_in_flight: 2,
        ack_wait_seconds: 30,
        start_position: 4,
        ..Default::default()
    }
}
