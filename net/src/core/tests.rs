//! Transcripts: what clients send to cores, and what they get, over the real engine on a disk in memory.

mod auth;
mod discover;
mod lame_duck;
mod monitor;
mod nats;
mod partition;
mod reference;
mod reload;
mod shedding;
mod stan;
mod stan_client;
mod stopping;
mod telling;
mod upstream;

use std::time::Duration;

use weirlog_engine::disk::memory::MemoryDisk;
use weirlog_engine::runtime::Runtime;
use weirlog_engine::sim::{SimExecutor, SimRuntime};
use weirlog_engine::storage::{ChannelSlots, Storage, StorageConfig, Tuning, open_store};
use weirlog_engine::types::{ChannelLimits, Now, ShardId};

use super::{Core, Intake, Next};
use crate::address::Address;
use crate::config::NetConfig;
use crate::ids::{ConnectionId, CoreId};

/// Shards of the store under test.
const SHARD_COUNT: u16 = 4;

/// A connection's name in a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Peer {
    core: usize,
    id: ConnectionId,
}

/// Some cores with a network that loses nothing.
struct Town {
    executor: SimExecutor,
    runtime: SimRuntime,
    cores: Vec<Core<MemoryDisk, SimRuntime>>,
}

impl Town {
    fn new(core_count: u16, change: impl FnOnce(&mut NetConfig)) -> Self {
        Self::limited(core_count, ChannelLimits::default(), change)
    }

    /// With limits of all channels.
    fn limited(
        core_count: u16,
        limits: ChannelLimits,
        change: impl FnOnce(&mut NetConfig),
    ) -> Self {
        let executor = SimExecutor::new(1);
        let runtime = executor.runtime();
        // Transcripts hold no pings but those that they are about.
        let mut net =
            NetConfig { shard_count: SHARD_COUNT, first_ping_ms: 0, ..NetConfig::default() };
        change(&mut net);
        let config = StorageConfig {
            cluster_id: net.cluster_id.clone(),
            shard_count: Some(SHARD_COUNT),
            payload_size_bytes_max: 1 << 20,
            channels_max: net.channels_max,
            limits: limits.into(),
            seed: 1,
            tuning: Tuning::default(),
        };
        let slots = ChannelSlots::new(config.channels_max);
        let cores = (0..core_count)
            .map(|own| {
                let disk = MemoryDisk::default();
                let shards: Vec<ShardId> = (0..SHARD_COUNT)
                    .filter(|shard| shard % core_count == own)
                    .map(ShardId)
                    .collect();
                let opened = async {
                    let info = open_store(&disk, &config).await.unwrap();
                    let slots = slots.clone();
                    Storage::open(disk.clone(), runtime.clone(), &info, &config, slots, &shards)
                        .await
                };
                let storage = executor.block_on(opened).unwrap();
                Core::new(net.clone(), CoreId(own), core_count, storage, u64::from(own))
            })
            .collect();
        let mut town = Self { executor, runtime, cores };
        let now = town.now();
        town.cores.iter_mut().for_each(|core| core.start(now));
        town.settle();
        assert!(town.cores.iter().all(Core::is_ready));
        town
    }

    fn now(&self) -> Now {
        self.runtime.now()
    }

    /// Lets everything happen that happens within some milliseconds.
    fn settle(&mut self) {
        self.advance(20);
    }

    /// Lets time pass, a millisecond at a time.
    fn advance(&mut self, milliseconds: u64) {
        for _ in 0..milliseconds {
            for core in &self.cores {
                core.storage().pump();
            }
            self.executor.run_for(Duration::from_millis(1));
            let now = self.now();
            for at in 0..self.cores.len() {
                self.cores[at].on_storage(now);
                if self.cores[at].next_deadline().is_some_and(|deadline| deadline <= now.mono) {
                    self.cores[at].on_tick(now);
                }
                self.carry(at);
            }
        }
    }

    /// Carries what a core has for others.
    fn carry(&mut self, from: usize) {
        let now = self.now();
        let from_core = CoreId(u16::try_from(from).unwrap());
        for (to, batch) in self.cores[from].take_mesh() {
            self.cores[usize::from(to.0)].on_mesh(from_core, batch, now);
        }
    }

    /// A connection to a core, with its greeting read.
    fn join(&mut self, core: usize) -> Peer {
        let now = self.now();
        let id = self.cores[core].connection_opened(Address::of_test(), now);
        let peer = Peer { core, id };
        assert!(self.heard(peer).starts_with("INFO {"));
        peer
    }

    /// The same after `CONNECT` as modern clients send it.
    fn enter(&mut self, core: usize) -> Peer {
        let peer = self.join(core);
        let connect = "CONNECT {\"verbose\":false,\"pedantic\":false,\"protocol\":1,\"headers\":true,\"no_responders\":true}\r\nPING\r\n";
        let answer = self.say(peer, connect);
        assert!(answer.starts_with("PONG\r\nINFO {"), "{answer}");
        peer
    }

    /// Sends text and returns what the peer got until all was quiet.
    fn say(&mut self, peer: Peer, text: impl AsRef<[u8]>) -> String {
        self.tell(peer, text);
        self.settle();
        self.heard(peer)
    }

    /// Sends bytes, all of which must be taken at some time.
    fn tell(&mut self, peer: Peer, text: impl AsRef<[u8]>) {
        let mut rest = text.as_ref();
        for _ in 0..100 {
            let Intake { consumed, next } = self.offer(peer, rest);
            rest = &rest[consumed..];
            match next {
                Next::Read { .. } => {
                    assert!(rest.is_empty(), "tests send whole operations");
                    return;
                }
                Next::Close => return,
                Next::Wait => self.settle(),
            }
        }
        panic!("the core never takes the rest");
    }

    fn offer(&mut self, peer: Peer, bytes: &[u8]) -> Intake {
        let now = self.now();
        self.cores[peer.core].on_bytes(peer.id, bytes, now)
    }

    /// What was written to a peer since the last call.
    fn heard(&mut self, peer: Peer) -> String {
        let mut heard = Vec::new();
        let now = self.now();
        let core = &mut self.cores[peer.core];
        while let Some(outbox) = core.outbox(peer.id) {
            let head = outbox.head().to_vec();
            if head.is_empty() {
                break;
            }
            core.written(peer.id, head.len(), now);
            heard.extend_from_slice(&head);
        }
        String::from_utf8_lossy(&heard).into_owned()
    }

    fn leave(&mut self, peer: Peer) {
        let now = self.now();
        self.cores[peer.core].connection_closed(peer.id, now);
        self.settle();
    }

    fn is_closing(&self, peer: Peer) -> bool {
        self.cores[peer.core].is_closing(peer.id)
    }
}
