//! All channels of a shard, some at a time.

use crate::channel::{ChannelPlace, Channels};

/// Channels that are looked at in one go: with 100,000 of them clients have their turn between.
const CHANNELS_A_TURN: usize = 512;

/// The channels there were at the beginning, and how many of them had their turn.
#[derive(Debug)]
pub(super) struct Turns {
    channels: Vec<ChannelPlace>,
    done: usize,
}

impl Turns {
    pub(super) fn of(channels: &Channels) -> Self {
        Self { channels: channels.places(), done: 0 }
    }

    /// Those whose turn it is.
    pub(super) fn next(&mut self) -> &[ChannelPlace] {
        let start = self.done;
        self.done = (start + CHANNELS_A_TURN).min(self.channels.len());
        self.channels.get(start..self.done).unwrap_or_default()
    }

    /// Whether all had it.
    pub(super) fn are_over(&self) -> bool {
        self.done == self.channels.len()
    }

    /// All have another one.
    pub(super) fn begin_again(&mut self) {
        self.done = 0;
    }
}
