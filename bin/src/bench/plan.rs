//! Who publishes what, and what each subscription is to get: message `g` of all goes to channel `g` modulo their number,
//! from publisher `g` modulo theirs.

use crate::args::{BenchOptions, BenchStart};

/// A load, worked out.
#[derive(Debug)]
pub(super) struct Plan {
    /// What was asked for.
    pub(super) options: BenchOptions,
    /// The channels' names.
    pub(super) channels: Vec<String>,
}

/// What one subscription asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The channel's number.
    pub(super) channel: usize,
    /// The sequence to begin with; none: with what is new.
    pub(super) first: Option<u64>,
    /// Messages until it has all.
    pub(super) count: u64,
}

impl Plan {
    pub(super) fn new(options: BenchOptions) -> Self {
        let name = |number| format!("{}.{number}", options.prefix);
        let channels = (0..options.channels).map(name).collect();
        Self { options, channels }
    }

    /// What subscriber `number` subscribes to.
    pub(super) fn wanted_by(&self, number: u64) -> Vec<Wanted> {
        let BenchOptions { channels, subscribers, .. } = self.options;
        let numbers: Vec<u64> = if subscribers < channels {
            (number..channels).step_by(index(subscribers)).collect()
        } else {
            vec![number % channels]
        };
        numbers.into_iter().map(|channel| self.wanted(number, channel)).collect()
    }

    fn wanted(&self, subscriber: u64, channel: u64) -> Wanted {
        let count = self.messages_in(channel);
        let first = match self.options.start {
            BenchStart::New => None,
            BenchStart::First => Some(1),
            BenchStart::Spread => {
                Some(1 + count.saturating_mul(subscriber) / self.options.subscribers.max(1))
            }
        };
        let skipped = first.map_or(0, |first| first - 1);
        Wanted { channel: index(channel), first, count: count - skipped.min(count) }
    }

    /// How many of all messages go to a channel.
    fn messages_in(&self, channel: u64) -> u64 {
        let BenchOptions { channels, messages, .. } = self.options;
        messages / channels + u64::from(channel < messages % channels)
    }

    /// When message `g` is due, in nanoseconds after the start.
    pub(super) fn due_ns(&self, g: u64) -> Option<u64> {
        let rate = u128::from(self.options.rate()?);
        let due = u128::from(g) * 1_000_000_000 / rate;
        Some(u64::try_from(due).unwrap_or(u64::MAX))
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("numbers of channels and clients are bounded")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::tests::bench::bench_options;

    fn plan(publishers: u64, subscribers: u64, channels: u64, messages: u64) -> Plan {
        Plan::new(BenchOptions { publishers, subscribers, channels, messages, ..bench_options() })
    }

    /// Against counting: every message of every channel is waited for once by each of its subscriptions.
    #[test]
    fn subscriptions_wait_for_what_is_published() {
        for (publishers, subscribers, channels, messages) in
            [(1, 1, 1, 10), (3, 2, 7, 100), (4, 9, 4, 33), (2, 5, 8, 3)]
        {
            let plan = plan(publishers, subscribers, channels, messages);
            let mut published = vec![0; index(channels)];
            (0..messages).for_each(|g| published[index(g % channels)] += 1);
            let mut is_heard = vec![false; index(channels)];
            for subscriber in 0..subscribers {
                for wanted in plan.wanted_by(subscriber) {
                    assert_eq!(wanted.count, published[wanted.channel]);
                    is_heard[wanted.channel] = true;
                }
            }
            assert!(subscribers == 0 || is_heard.iter().all(|heard| *heard));
        }
    }

    #[test]
    fn spread_subscriptions_begin_at_different_places() {
        let mut plan = plan(0, 4, 1, 100);
        plan.options.start = BenchStart::Spread;
        let wanted: Vec<_> = (0..4).flat_map(|number| plan.wanted_by(number)).collect();
        let places: Vec<_> = wanted.iter().map(|one| (one.first, one.count)).collect();
        assert_eq!(places, [(Some(1), 100), (Some(26), 75), (Some(51), 50), (Some(76), 25)]);
    }

    #[test]
    fn a_rate_gives_each_message_its_time() {
        let mut plan = plan(1, 0, 1, 10);
        assert_eq!(plan.due_ns(5), None);
        plan.options.messages_per_second = 1_000;
        assert_eq!(plan.due_ns(5), Some(5_000_000));
        assert_eq!(plan.due_ns(u64::MAX), Some(u64::MAX), "never, rather than wrapped");
    }
}
