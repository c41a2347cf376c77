//! State records' bytes: kind u8, then fields; strings and lists carry their length.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use bytes::Bytes;

use super::fields::{Reader, put_bytes, put_u16, put_u32, put_u64};
use crate::record::{PendingRun, StateRecord, SubscriptionPosition, SubscriptionState};
use crate::request::{Client, ClientKey, SubscriptionKind};
use crate::types::{ChannelId, Sequence, ShardId, SubscriptionId};

/// A record of a kind with this bit must be understood; one without may be skipped by an older program.
pub(crate) const MUST_UNDERSTAND: u8 = 0x80;

const CHANNEL_CREATED: u8 = 0x82;
const CHANNEL_DELETED: u8 = 0x83;
const TRIMMED: u8 = 0x84;
const CLIENT_OPENED: u8 = 0x85;
const CLIENT_CLOSED: u8 = 0x86;
const SUBSCRIPTION: u8 = 0x87;
const SUBSCRIPTION_REMOVED: u8 = 0x88;
const POSITION: u8 = 0x89;
const LOST: u8 = 0x8A;

/// Appends a record's content.
pub(crate) fn put_state(out: &mut Vec<u8>, record: &StateRecord) {
    match record {
        StateRecord::ChannelCreated { id, name } => {
            out.push(CHANNEL_CREATED);
            put_u64(out, id.0);
            put_bytes(out, name.as_bytes());
        }
        StateRecord::ChannelDeleted { id } => {
            out.push(CHANNEL_DELETED);
            put_u64(out, id.0);
        }
        StateRecord::Trimmed { id, first } => {
            out.push(TRIMMED);
            put_u64(out, id.0);
            put_u64(out, first.0);
        }
        StateRecord::Lost { id, first, last } => {
            out.push(LOST);
            put_u64(out, id.0);
            put_u64(out, first.0);
            put_u64(out, last.0);
        }
        StateRecord::ClientOpened(client) => {
            out.push(CLIENT_OPENED);
            put_client_key(out, client.key);
            put_bytes(out, client.id.as_bytes());
            put_bytes(out, &client.connection_id);
            put_bytes(out, &client.about);
        }
        StateRecord::ClientClosed(key) => {
            out.push(CLIENT_CLOSED);
            put_client_key(out, *key);
        }
        StateRecord::Subscription(state) => {
            out.push(SUBSCRIPTION);
            put_subscription(out, state);
        }
        StateRecord::SubscriptionRemoved(id) => {
            out.push(SUBSCRIPTION_REMOVED);
            put_u64(out, id.0);
        }
        StateRecord::Position(position) => {
            out.push(POSITION);
            put_position(out, position);
        }
    }
}

fn put_client_key(out: &mut Vec<u8>, key: ClientKey) {
    put_u16(out, key.home.0);
    put_u64(out, key.incarnation);
}

fn put_subscription(out: &mut Vec<u8>, state: &SubscriptionState) {
    put_position(out, &state.position);
    put_u64(out, state.channel.0);
    put_client_key(out, state.client);
    put_bytes(out, state.client_id.as_bytes());
    match &state.kind {
        SubscriptionKind::Plain => out.push(0),
        SubscriptionKind::Durable { name } => {
            out.push(1);
            put_bytes(out, name.as_bytes());
        }
        SubscriptionKind::Queue { group, is_durable } => {
            out.push(if *is_durable { 3 } else { 2 });
            put_bytes(out, group.as_bytes());
        }
    }
    put_bytes(out, &state.target);
    put_u64(out, state.token);
    put_u32(out, state.in_flight_max);
    put_u64(out, state.ack_wait_ms);
    out.push(u8::from(state.is_active));
}

fn put_position(out: &mut Vec<u8>, position: &SubscriptionPosition) {
    put_u64(out, position.id.0);
    put_u64(out, position.last_sent.0);
    put_u32(out, super::count_u32(position.pending.len()));
    for run in &position.pending {
        put_u64(out, run.first.0);
        put_u32(out, run.count);
        put_u32(out, run.redelivery_count);
    }
}

/// What a state record's bytes turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DecodedState {
    /// A record.
    Known(StateRecord),
    /// A later program's record that this one may skip.
    Skipped,
    /// A later program's record that this one must not skip.
    Unknown(u8),
    /// Not a record.
    Corrupt,
}

/// Reads a record's content.
pub(crate) fn decode_state(content: &[u8]) -> DecodedState {
    let mut get = Reader::new(content);
    let Some(kind) = get.u8() else { return DecodedState::Corrupt };
    if kind & MUST_UNDERSTAND == 0 {
        return DecodedState::Skipped;
    }
    let record = match kind {
        CHANNEL_CREATED => created(&mut get),
        CHANNEL_DELETED => get.u64().map(|id| StateRecord::ChannelDeleted { id: ChannelId(id) }),
        TRIMMED => trimmed(&mut get),
        LOST => lost(&mut get),
        CLIENT_OPENED => client(&mut get),
        CLIENT_CLOSED => client_key(&mut get).map(StateRecord::ClientClosed),
        SUBSCRIPTION => subscription(&mut get).map(StateRecord::Subscription),
        SUBSCRIPTION_REMOVED => {
            get.u64().map(|id| StateRecord::SubscriptionRemoved(SubscriptionId(id)))
        }
        POSITION => position(&mut get).map(StateRecord::Position),
        other => return DecodedState::Unknown(other),
    };
    record.map_or(DecodedState::Corrupt, DecodedState::Known)
}

fn created(get: &mut Reader<'_>) -> Option<StateRecord> {
    Some(StateRecord::ChannelCreated { id: ChannelId(get.u64()?), name: get.string()? })
}

fn trimmed(get: &mut Reader<'_>) -> Option<StateRecord> {
    Some(StateRecord::Trimmed { id: ChannelId(get.u64()?), first: sequence(get)? })
}

fn lost(get: &mut Reader<'_>) -> Option<StateRecord> {
    let (id, first, last) = (ChannelId(get.u64()?), sequence(get)?, sequence(get)?);
    (first <= last).then_some(StateRecord::Lost { id, first, last })
}

/// A sequence with another after it: the greatest number is no message's.
fn sequence(get: &mut Reader<'_>) -> Option<Sequence> {
    get.u64().filter(|number| *number < u64::MAX).map(Sequence)
}

fn client_key(get: &mut Reader<'_>) -> Option<ClientKey> {
    Some(ClientKey { home: ShardId(get.u16()?), incarnation: get.u64()? })
}

fn client(get: &mut Reader<'_>) -> Option<StateRecord> {
    Some(StateRecord::ClientOpened(Client {
        key: client_key(get)?,
        id: get.string()?,
        connection_id: Bytes::copy_from_slice(get.bytes()?),
        about: Bytes::copy_from_slice(get.bytes()?),
    }))
}

fn subscription(get: &mut Reader<'_>) -> Option<SubscriptionState> {
    let position = position(get)?;
    let channel = ChannelId(get.u64()?);
    let client = client_key(get)?;
    let client_id = get.string()?;
    let kind = match get.u8()? {
        0 => SubscriptionKind::Plain,
        1 => SubscriptionKind::Durable { name: get.string()? },
        durable @ (2 | 3) => {
            SubscriptionKind::Queue { group: get.string()?, is_durable: durable == 3 }
        }
        _ => return None,
    };
    Some(SubscriptionState {
        channel,
        client,
        client_id,
        kind,
        target: Bytes::copy_from_slice(get.bytes()?),
        token: get.u64()?,
        in_flight_max: get.u32()?,
        ack_wait_ms: get.u64()?,
        is_active: get.u8()? != 0,
        position,
    })
}

fn position(get: &mut Reader<'_>) -> Option<SubscriptionPosition> {
    let (id, last_sent, count) = (SubscriptionId(get.u64()?), sequence(get)?, get.u32()?);
    let mut pending = Vec::new();
    for _ in 0..count {
        let run =
            PendingRun { first: sequence(get)?, count: get.u32()?, redelivery_count: get.u32()? };
        run.first.0.checked_add(u64::from(run.count))?;
        pending.push(run);
    }
    Some(SubscriptionPosition { id, last_sent, pending })
}
