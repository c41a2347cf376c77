//! State records: one by one, and a whole shard's subscriptions made of them.

use crate::format::fields::Reader;
use crate::format::state::{DecodedState, decode_state, put_state};
use crate::record::{StateRecord, SubscriptionPosition};
use crate::subscriptions::Recovering;

/// A record that is intact is trusted about how much was in flight; more than this would only be slow.
pub(super) const PENDING_MAX: u64 = 10_000;

/// What is read is written and read again as the same.
pub(super) fn one(input: &[u8]) {
    let DecodedState::Known(record) = decode_state(input) else { return };
    check_same(&record);
}

/// Records in a row, each with its length before it, make subscriptions; a snapshot of these makes the same again.
pub(super) fn many(input: &[u8]) {
    let mut get = Reader::new(input);
    let mut recovering = Recovering::default();
    let mut pending_count = 0;
    while let Some(content) = get.u8().and_then(|length| get.take(usize::from(length))) {
        let DecodedState::Known(record) = decode_state(content) else { continue };
        pending_count += pending(&record);
        if pending_count > PENDING_MAX {
            return;
        }
        recovering.apply(&record);
    }
    let first = snapshot(recovering);
    let mut again = Recovering::default();
    for record in &first {
        again.apply(record);
    }
    assert_eq!(snapshot(again), first);
}

fn snapshot(recovering: Recovering) -> Vec<StateRecord> {
    let mut records = Vec::new();
    recovering.finish().snapshot(|record| records.push(record));
    records.iter().for_each(check_same);
    records
}

fn check_same(record: &StateRecord) {
    let mut written = Vec::new();
    put_state(&mut written, record);
    assert_eq!(decode_state(&written), DecodedState::Known(record.clone()));
}

/// Messages in flight by this record.
pub(super) fn pending(record: &StateRecord) -> u64 {
    let count = |position: &SubscriptionPosition| {
        position.pending.iter().map(|run| u64::from(run.count)).sum()
    };
    match record {
        StateRecord::Subscription(state) => count(&state.position),
        StateRecord::Position(position) => count(position),
        _ => 0,
    }
}
