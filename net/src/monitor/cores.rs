//! Asking cores, and adding up what they tell.

use std::future::Future;

use weirlog_engine::limits::ChannelLimitRules;
use weirlog_engine::placement::{home_of_client, shard_of_channel};
use weirlog_engine::shard::ShardTotals;
use weirlog_engine::storage::DiskStatistics;
use weirlog_engine::types::{Now, ShardId};

use super::process::ProcessReport;
use super::report::{Inquiry, Missing, Report};
use crate::config::NetConfig;
use crate::core::Tally;
use crate::ids::CoreId;

/// The cores of a server, as the pages see them.
pub(crate) trait Cores {
    /// How many there are.
    fn core_count(&self) -> u16;

    /// How many shards there are.
    fn shard_count(&self) -> u16;

    /// The settings of now.
    fn config(&self) -> NetConfig;

    /// The time.
    fn now(&self) -> Now;

    /// What the process takes of the machine.
    fn process(&self) -> ProcessReport;

    /// What a core says.
    fn ask(&self, core: CoreId, inquiry: Inquiry) -> impl Future<Output = Report>;
}

/// What all cores count.
#[derive(Debug, Clone, Default)]
pub(crate) struct Totals {
    pub(crate) connections: usize,
    pub(crate) connections_ever: u64,
    pub(crate) tally: Tally,
    pub(crate) disk: DiskStatistics,
    pub(crate) shards: ShardTotals,
    /// Shards that take no messages for want of space.
    pub(crate) full_shards: usize,
    /// Shards that take no messages before a restart.
    pub(crate) failed_shards: Vec<ShardId>,
    pub(crate) missing: Missing,
    pub(crate) limits: Option<ChannelLimitRules>,
}

impl Totals {
    /// Asks all cores.
    pub(crate) async fn of(cores: &impl Cores) -> Self {
        let mut sum = Self::default();
        for core in 0..cores.core_count() {
            let Report::Totals(totals) = cores.ask(CoreId(core), Inquiry::Totals).await else {
                unreachable!("a core answers what it was asked")
            };
            sum.connections += totals.connections;
            sum.connections_ever += totals.connections_ever;
            sum.tally.add_all(&totals.tally);
            sum.disk.merge(&totals.disk);
            sum.missing.add(totals.missing.named, totals.missing.others);
            sum.limits = sum.limits.or(totals.limits);
            for (id, shard) in &totals.shards {
                sum.full_shards += usize::from(shard.is_full);
                if shard.is_finished {
                    sum.failed_shards.push(*id);
                }
                sum.shards.add_all(shard);
            }
        }
        sum
    }
}

/// Asks the core that runs a shard.
pub(crate) async fn ask_shard(cores: &impl Cores, shard: ShardId, inquiry: Inquiry) -> Report {
    cores.ask(CoreId::of_shard(shard, usize::from(cores.core_count())), inquiry).await
}

/// All shards.
pub(crate) fn shards(cores: &impl Cores) -> impl Iterator<Item = ShardId> {
    (0..cores.shard_count()).map(ShardId)
}

/// The shard of a channel.
pub(crate) fn shard_of(cores: &impl Cores, channel: &str) -> ShardId {
    shard_of_channel(channel, cores.shard_count())
}

/// The shard that knows a client.
pub(crate) fn home_of(cores: &impl Cores, client_id: &str) -> ShardId {
    home_of_client(client_id, cores.shard_count())
}
