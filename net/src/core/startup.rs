//! Before the listener opens: each core tells the others the clients it is the home of, then ends what subscriptions
//! of its shards belong to clients that are gone (a crash between a client's close and its subscriptions' end).

use weirlog_engine::disk::Disk;
use weirlog_engine::request::ClientKey;
use weirlog_engine::runtime::Runtime;
use weirlog_engine::types::{FastSet, Now, ShardId};

use super::Core;
use crate::link::{LinkMessage, StanMessage};
use crate::stan::Pending;

/// How far the start is.
#[derive(Debug)]
pub(crate) struct Startup {
    /// Cores whose clients are not all known here, this one included.
    copies_missing: usize,
    /// Ends of subscriptions that are not yet committed.
    ends_missing: usize,
    /// Cores that are not ready, this one included.
    ready_missing: usize,
    is_told: bool,
}

impl Startup {
    pub(crate) fn new(core_count: u16) -> Self {
        let count = usize::from(core_count);
        Self { copies_missing: count, ends_missing: 0, ready_missing: count, is_told: false }
    }
}

impl<D: Disk, R: Runtime> Core<D, R> {
    /// Begins the exchange. Call it once, before all other events.
    pub fn start(&mut self, now: Now) {
        for shard in self.storage.shards().to_vec() {
            for client in self.storage.with(shard, |shard| shard.clients()) {
                self.broadcast_stan(|| StanMessage::Registered(client.clone()));
                self.hub.registry.insert(&client);
                self.watch_client(&client, now);
            }
        }
        self.broadcast_stan(|| StanMessage::CopiesSent);
        self.on_copies_sent(now);
        self.settle(now);
    }

    /// Whether all cores are ready: the listener may open.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.startup.ready_missing == 0
    }

    /// One more core has told its clients.
    pub(crate) fn on_copies_sent(&mut self, now: Now) {
        assert!(self.startup.copies_missing > 0, "each core tells once");
        self.startup.copies_missing -= 1;
        if self.startup.copies_missing == 0 {
            self.end_orphans(now);
            self.tell_ready();
        }
    }

    /// One more core is ready.
    pub(crate) fn on_core_ready(&mut self) {
        assert!(self.startup.ready_missing > 0, "each core is ready once");
        self.startup.ready_missing -= 1;
    }

    /// The subscriptions of one client that is gone are ended.
    pub(crate) fn on_orphan_ended(&mut self) {
        assert!(self.startup.ends_missing > 0, "each end is answered once");
        self.startup.ends_missing -= 1;
        self.tell_ready();
    }

    fn end_orphans(&mut self, now: Now) {
        for shard in self.storage.shards().to_vec() {
            let owners = self.storage.with(shard, |shard| shard.subscribed_clients());
            let orphans: FastSet<ClientKey> =
                owners.into_iter().filter(|key| !self.hub.registry.contains(*key)).collect();
            let mut orphans: Vec<ClientKey> = orphans.into_iter().collect();
            orphans.sort_unstable();
            for key in orphans {
                self.end_orphan(shard, key, now);
            }
        }
    }

    fn end_orphan(&mut self, shard: ShardId, key: ClientKey, now: Now) {
        self.startup.ends_missing += 1;
        let ticket = self.stan.ticket(Pending::EndOrphan);
        self.with_shard(shard, |shard| shard.end_client_subscriptions(key, ticket, now));
    }

    fn tell_ready(&mut self) {
        let startup = &self.startup;
        if startup.copies_missing > 0 || startup.ends_missing > 0 || startup.is_told {
            return;
        }
        self.startup.is_told = true;
        for core in self.hub.links.others() {
            let own = self.hub.own();
            self.hub.links.push(core, LinkMessage::Stan(StanMessage::Ready(own)));
        }
        self.on_core_ready();
    }
}
