//! Publishes of one connection that are read ahead of their turn, so that what they need can be brought together.

use weirlog_engine::disk::Disk;
use weirlog_engine::placement::shard_of_channel;
use weirlog_engine::runtime::Runtime;
use weirlog_engine::storage::PREFETCH_MAX;
use weirlog_engine::types::ShardId;

use super::Core;
use crate::nats::op::Op;
use crate::nats::parse::{ParseLimits, Parsed, parse};

/// Operations that are next in a connection's bytes, with the length of each. They change nothing before their turn, and
/// may be forgotten: whoever asks again parses them again.
#[derive(Debug, Default)]
pub(super) struct Lookahead<'a> {
    /// The next one last.
    ops: Vec<(Op<'a>, usize)>,
}

impl<'a> Lookahead<'a> {
    /// The one whose turn it is, if it was read ahead.
    #[inline]
    pub(super) fn next(&mut self) -> Option<(Op<'a>, usize)> {
        self.ops.pop()
    }

    /// Takes the whole publishes at the front of `input`. A publish does not change how the next one is parsed; any
    /// other operation may.
    fn fill(&mut self, mut input: &'a [u8], limits: &ParseLimits) {
        assert!(self.ops.is_empty(), "what was read ahead has its turn first");
        while self.ops.len() + 1 < PREFETCH_MAX {
            let Ok(Parsed::Op { op: op @ Op::Pub { .. }, consumed }) = parse(input, limits) else {
                break;
            };
            self.ops.push((op, consumed));
            input = &input[consumed..];
        }
        self.ops.reverse();
    }
}

impl<D: Disk, R: Runtime> Core<D, R> {
    /// Reads ahead behind `op` if that is a publish to a channel and others follow in `input`.
    #[inline]
    pub(super) fn look_ahead<'a>(
        &self,
        ahead: &mut Lookahead<'a>,
        op: &Op<'a>,
        input: &'a [u8],
        limits: &ParseLimits,
    ) {
        if input.is_empty() || self.own_channel(op).is_none() {
            return;
        }
        ahead.fill(input, limits);
        let mut before = None;
        let channels = std::iter::once(op).chain(ahead.ops.iter().rev().map(|(op, _)| op));
        let channels = channels.filter(|op| {
            let subject = subject_of(op);
            before.replace(subject) != Some(subject)
        });
        self.storage.prefetch(channels.filter_map(|op| self.own_channel(op)));
    }

    /// The channel of this core that an operation publishes to, by its subject.
    fn own_channel<'a>(&self, op: &Op<'a>) -> Option<(ShardId, &'a str)> {
        let channel = self.stan.subjects.channel_of(subject_of(op)?)?;
        let channel = std::str::from_utf8(channel).ok()?;
        let shard = shard_of_channel(channel, self.hub.config.shard_count);
        (self.hub.core_of(shard) == self.hub.own()).then_some((shard, channel))
    }
}

fn subject_of<'a>(op: &Op<'a>) -> Option<&'a [u8]> {
    match op {
        Op::Pub { subject, .. } => Some(subject),
        _ => None,
    }
}
