//! Flow control of deliveries to other cores: so many bytes may be on the way to one connection. Which connection
//! stands behind a subscription's target is learned from the credits that come back; until then little may be sent.
//!
//! ```text
//! unknown, 8 KiB on the way -- credit names the connection --> known, 256 KiB on the way to that connection
//! known -- nothing on the way --> forgotten
//! ```

use weirlog_engine::types::{FastMap, ShardId, SubscriptionId};

use crate::config::{DELIVERY_PROBE_BYTES, DELIVERY_WINDOW_BYTES};
use crate::ids::{ConnectionId, CoreId};
use crate::link::Credit;

/// A subscription of a shard of this core.
pub(crate) type SubscriptionKey = (ShardId, SubscriptionId);

#[derive(Debug)]
struct Way {
    core: CoreId,
    connection: Option<ConnectionId>,
    /// Bytes on the way.
    bytes: usize,
    /// Those of them that count in the connection's window.
    charged: usize,
    is_paused: bool,
}

#[derive(Debug, Default)]
struct Window {
    bytes: usize,
    paused: Vec<SubscriptionKey>,
}

/// What is on the way from this core to connections of others.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    ways: FastMap<SubscriptionKey, Way>,
    windows: FastMap<(CoreId, ConnectionId), Window>,
}

impl Windows {
    /// Whether one more delivery may be sent to `core`. If not, the subscription is named by a later
    /// [`Windows::credit`].
    pub(crate) fn has_room(&mut self, core: CoreId, subscription: SubscriptionKey) -> bool {
        let Some(way) = self.ways.get_mut(&subscription) else { return true };
        if way.core != core {
            return true;
        }
        let Some(connection) = way.connection else {
            way.is_paused = way.bytes >= DELIVERY_PROBE_BYTES;
            return !way.is_paused;
        };
        let window = self.windows.entry((core, connection)).or_default();
        if window.bytes < DELIVERY_WINDOW_BYTES {
            return true;
        }
        if !way.is_paused {
            way.is_paused = true;
            window.paused.push(subscription);
        }
        false
    }

    /// A delivery of `bytes` was sent to `core`.
    pub(crate) fn sent(&mut self, core: CoreId, subscription: SubscriptionKey, bytes: usize) {
        if self.ways.get(&subscription).is_some_and(|way| way.core != core) {
            self.forget(subscription);
        }
        let fresh = Way { core, connection: None, bytes: 0, charged: 0, is_paused: false };
        let way = self.ways.entry(subscription).or_insert(fresh);
        way.bytes += bytes;
        if let Some(connection) = way.connection {
            way.charged += bytes;
            self.windows.entry((core, connection)).or_default().bytes += bytes;
        }
    }

    /// `core` has taken deliveries in. Appends to `resumed` the subscriptions that may go on.
    pub(crate) fn credit(
        &mut self,
        core: CoreId,
        credit: Credit,
        resumed: &mut Vec<SubscriptionKey>,
    ) {
        let key = (credit.shard, credit.subscription);
        let Some(way) = self.ways.get_mut(&key) else { return };
        if way.core != core {
            return;
        }
        assert!(way.bytes >= credit.bytes, "no more comes back than was sent");
        way.bytes -= credit.bytes;
        if let Some(old) = way.connection {
            let window = self.windows.entry((core, old)).or_default();
            window.bytes -= way.charged;
        }
        // All that is still on the way counts for the connection which is known now.
        way.connection = credit.connection;
        way.charged = if credit.connection.is_some() { way.bytes } else { 0 };
        if let Some(new) = credit.connection {
            self.windows.entry((core, new)).or_default().bytes += way.charged;
        }
        if std::mem::take(&mut way.is_paused) {
            resumed.push(key);
        }
        let is_done = way.bytes == 0;
        if let Some(connection) = credit.connection {
            self.open_window(core, connection, resumed);
        }
        if is_done {
            self.forget(key);
        }
    }

    fn open_window(
        &mut self,
        core: CoreId,
        connection: ConnectionId,
        resumed: &mut Vec<SubscriptionKey>,
    ) {
        let Some(window) = self.windows.get_mut(&(core, connection)) else { return };
        if window.bytes >= DELIVERY_WINDOW_BYTES / 2 {
            return;
        }
        let paused = std::mem::take(&mut window.paused);
        if window.bytes == 0 {
            self.windows.remove(&(core, connection));
        }
        for key in paused {
            let was_paused =
                self.ways.get_mut(&key).is_some_and(|way| std::mem::take(&mut way.is_paused));
            if was_paused {
                resumed.push(key);
            }
        }
    }

    fn forget(&mut self, subscription: SubscriptionKey) {
        let Some(way) = self.ways.remove(&subscription) else { return };
        let Some(connection) = way.connection else { return };
        if let Some(window) = self.windows.get_mut(&(way.core, connection)) {
            window.bytes -= way.charged;
            if window.bytes == 0 && window.paused.is_empty() {
                self.windows.remove(&(way.core, connection));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CORE: CoreId = CoreId(1);
    const CONNECTION: ConnectionId = ConnectionId { slot: 3, generation: 0 };

    fn key(number: u64) -> SubscriptionKey {
        (ShardId(2), SubscriptionId(number))
    }

    fn credit(
        windows: &mut Windows,
        number: u64,
        connection: Option<ConnectionId>,
        bytes: usize,
    ) -> Vec<u64> {
        let mut resumed = Vec::new();
        let (shard, subscription) = key(number);
        windows.credit(CORE, Credit { shard, subscription, connection, bytes }, &mut resumed);
        resumed.into_iter().map(|(_, subscription)| subscription.0).collect()
    }

    #[test]
    fn an_unknown_connection_gets_little_until_a_credit_names_it() {
        let mut windows = Windows::default();
        assert!(windows.has_room(CORE, key(1)));
        windows.sent(CORE, key(1), DELIVERY_PROBE_BYTES);
        assert!(!windows.has_room(CORE, key(1)));
        windows.sent(CORE, key(1), 1);
        assert_eq!(credit(&mut windows, 1, Some(CONNECTION), DELIVERY_PROBE_BYTES), [1]);
        windows.sent(CORE, key(1), DELIVERY_WINDOW_BYTES / 2);
        assert!(windows.has_room(CORE, key(1)), "known now");
    }

    #[test]
    fn all_subscriptions_of_a_connection_share_its_window() {
        let mut windows = Windows::default();
        for number in [1, 2] {
            windows.sent(CORE, key(number), 2);
            credit(&mut windows, number, Some(CONNECTION), 1);
        }
        windows.sent(CORE, key(1), DELIVERY_WINDOW_BYTES);
        assert!(!windows.has_room(CORE, key(1)));
        assert!(!windows.has_room(CORE, key(2)), "the other's bytes count");
        assert_eq!(credit(&mut windows, 1, Some(CONNECTION), DELIVERY_WINDOW_BYTES), [1, 2]);
        assert!(windows.has_room(CORE, key(2)));
    }

    #[test]
    fn nothing_stays_when_nothing_is_on_the_way() {
        let mut windows = Windows::default();
        windows.sent(CORE, key(1), 10);
        credit(&mut windows, 1, Some(CONNECTION), 4);
        windows.sent(CORE, key(1), 10);
        credit(&mut windows, 1, Some(CONNECTION), 16);
        windows.sent(CORE, key(2), 10);
        credit(&mut windows, 2, None, 10);
        assert!(windows.ways.is_empty());
        assert!(windows.windows.is_empty());
    }

    #[test]
    fn a_target_that_moved_to_another_core_starts_anew() {
        let mut windows = Windows::default();
        windows.sent(CORE, key(1), 10);
        credit(&mut windows, 1, Some(CONNECTION), 4);
        assert!(windows.has_room(CoreId(2), key(1)));
        windows.sent(CoreId(2), key(1), 5);
        assert!(windows.windows.is_empty());
        assert!(credit(&mut windows, 1, Some(CONNECTION), 6).is_empty(), "late, from the old core");
        assert_eq!(windows.ways.len(), 1);
    }
}
