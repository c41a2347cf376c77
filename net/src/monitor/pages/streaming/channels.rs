//! Channels by the page, in order of their names, from all shards.

use compact_str::CompactString;
use weirlog_engine::types::ShardId;

use super::super::Page;
use super::{ASKED_AT_ONCE, SUBSCRIPTIONS_A_PAGE};
use crate::monitor::cores::{Cores, ask_shard, shard_of, shards};
use crate::monitor::report::{ChannelReport, Inquiry, Report};

/// Some channels.
pub(in crate::monitor::pages) struct ChannelPage {
    /// How many there are in all.
    pub(in crate::monitor::pages) total: usize,
    /// The ones of this page, in order.
    pub(in crate::monitor::pages) channels: Vec<(CompactString, ChannelReport)>,
}

/// How many channels there are, and the names of a page.
pub(super) async fn names(cores: &impl Cores, page: Page) -> (usize, Vec<CompactString>) {
    let (mut total, mut found) = (0, Vec::new());
    for shard in shards(cores) {
        let inquiry = Inquiry::ChannelNames { shard, count_max: page.end() };
        let Report::ChannelNames(count, names) = ask_shard(cores, shard, inquiry).await else {
            unreachable!("a core answers what it was asked")
        };
        total += count;
        found.extend(names);
    }
    found.sort_unstable();
    (total, page.cut(found))
}

/// A page of channels. It ends early if there are very many subscriptions on it.
pub(in crate::monitor::pages) async fn page(
    cores: &impl Cores,
    page: Page,
    has_subscriptions: bool,
) -> ChannelPage {
    let (total, names) = names(cores, page).await;
    let mut channels = Vec::with_capacity(names.len());
    let mut shown = 0;
    for names in names.chunks(ASKED_AT_ONCE) {
        let found = some(cores, names, has_subscriptions).await;
        shown += found.iter().map(|(_, report)| report.subscriptions.len()).sum::<usize>();
        channels.extend(found);
        if shown > SUBSCRIPTIONS_A_PAGE {
            break;
        }
    }
    ChannelPage { total, channels }
}

/// The channel of this name.
pub(super) async fn one(
    cores: &impl Cores,
    name: &str,
    has_subscriptions: bool,
) -> Option<ChannelReport> {
    let names = [CompactString::from(name)];
    some(cores, &names, has_subscriptions).await.pop().map(|(_, report)| report)
}

/// Those of some channels that are still there, in the same order.
async fn some(
    cores: &impl Cores,
    names: &[CompactString],
    has_subscriptions: bool,
) -> Vec<(CompactString, ChannelReport)> {
    let mut by_shard: Vec<(ShardId, Vec<usize>)> = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let shard = shard_of(cores, name);
        match by_shard.iter_mut().find(|(other, _)| *other == shard) {
            Some((_, places)) => places.push(at),
            None => by_shard.push((shard, vec![at])),
        }
    }
    let mut reports: Vec<Option<ChannelReport>> = names.iter().map(|_| None).collect();
    for (shard, places) in by_shard {
        let wanted = places.iter().map(|at| names[*at].clone()).collect();
        let inquiry = Inquiry::Channels { shard, names: wanted, has_subscriptions };
        let Report::Channels(found) = ask_shard(cores, shard, inquiry).await else {
            unreachable!("a core answers what it was asked")
        };
        for (at, report) in places.into_iter().zip(found) {
            reports[at] = report;
        }
    }
    let pairs = names.iter().cloned().zip(reports);
    pairs.filter_map(|(name, report)| Some((name, report?))).collect()
}
