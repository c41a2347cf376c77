//! The limits of a run: which channels have which, and payloads that make byte limits exact.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use fastrand::Rng;
use weirlog_engine::limits::{ChannelLimitRules, LimitRule, NamePart};
use weirlog_engine::types::ChannelLimits;

use super::{FaultKind, SimPlan};

/// What a message counts besides its payload against a byte limit: the head of its record.
const RECORD_HEAD_BYTES: usize = 12;

pub(super) const NO_LIMITS: ChannelLimits = ChannelLimits {
    messages_max: 0,
    bytes_max: 0,
    age_ms_max: 0,
    subscriptions_max: 0,
    inactivity_ms_max: 0,
};

/// What is limited in a run.
#[derive(Debug, Clone, Default)]
pub(super) struct Limits {
    /// Of the channels that have some.
    pub(super) channels: BTreeMap<String, ChannelLimits>,
    /// Channels of the store; 0: any number.
    pub(super) channels_max: u64,
    /// Lengths of payloads for channels with a byte limit. The server may count what it removes by the average of what
    /// lies together, so what stays is exact where all are equally long, and known within bounds elsewhere.
    payload_bytes: BTreeMap<String, RangeInclusive<usize>>,
}

impl Limits {
    /// Some channels keep only so many messages or bytes, or only for so long, or take only so many subscriptions.
    pub(super) fn draw(plan: &SimPlan, channels: &[String]) -> Self {
        let mut rng = FaultKind::Limits.rng(plan.seed);
        let mut limits = Self::default();
        if !plan.faults.has(FaultKind::Limits) {
            return limits;
        }
        // Where all channels have some, whole segments die and are used again.
        let kinds = [6, 8, 12][rng.usize(..3)];
        for channel in channels {
            let ages_s = [2..20, 20..200][rng.usize(..2)].clone();
            let age_ms_max = rng.u64(ages_s) * 1_000;
            let messages_max = rng.u64(1..80);
            let (payload_bytes, bytes_max) = draw_bytes(&mut rng);
            let (messages_max, bytes_max, age_ms_max) = match rng.u8(..kinds) {
                0 => (messages_max, 0, 0),
                1 => (0, 0, age_ms_max),
                2 => (messages_max, 0, age_ms_max),
                3 => (0, bytes_max, 0),
                4 => (0, bytes_max, age_ms_max),
                5 => (messages_max, bytes_max, 0),
                _ => (0, 0, 0),
            };
            let subscriptions_max = if rng.u8(..4) == 0 { rng.u64(1..9) } else { 0 };
            let drawn = ChannelLimits {
                messages_max,
                bytes_max,
                age_ms_max,
                subscriptions_max,
                ..NO_LIMITS
            };
            if drawn != NO_LIMITS {
                limits.channels.insert(channel.clone(), drawn);
            }
            if bytes_max > 0 {
                limits.payload_bytes.insert(channel.clone(), payload_bytes);
            }
        }
        if rng.u8(..6) == 0 {
            limits.channels_max = rng.u64(1..=channels.len() as u64);
        }
        limits
    }

    pub(super) fn of(&self, channel: &str) -> ChannelLimits {
        self.channels.get(channel).copied().unwrap_or(NO_LIMITS)
    }

    /// How long payloads to a channel are, where that is given.
    pub(super) fn payload_bytes(&self, channel: &str) -> Option<RangeInclusive<usize>> {
        self.payload_bytes.get(channel).cloned()
    }

    /// How many of the newest messages count and byte limits leave at least, and at most; none: all. The newest one stays
    /// however long it is.
    pub(super) fn kept_counts(&self, channel: &str) -> Option<(u64, u64)> {
        let ChannelLimits { messages_max, bytes_max, .. } = self.of(channel);
        let by_count = (messages_max > 0).then_some((messages_max, messages_max));
        let lengths = self.payload_bytes.get(channel);
        let by_bytes = lengths.map(|lengths| {
            let count = |length: usize| (bytes_max / (length + RECORD_HEAD_BYTES) as u64).max(1);
            (count(*lengths.end()), count(*lengths.start()))
        });
        match (by_count, by_bytes) {
            (Some(one), Some(other)) => Some((one.0.min(other.0), one.1.min(other.1))),
            (one, other) => one.or(other),
        }
    }

    /// Whether messages of a channel go in time.
    pub(super) fn removes(&self, channel: &str) -> bool {
        self.kept_counts(channel).is_some() || self.of(channel).age_ms_max > 0
    }

    /// Whether somebody may be refused for them.
    pub(super) fn refuses(&self) -> bool {
        self.channels_max > 0 || self.channels.values().any(|limits| limits.subscriptions_max > 0)
    }

    /// Refuses nobody from now on.
    pub(super) fn admit_all(&mut self) {
        self.channels_max = 0;
        self.channels.values_mut().for_each(|limits| limits.subscriptions_max = 0);
    }

    /// As the server is given them.
    pub(super) fn rules(&self) -> ChannelLimitRules {
        let rules = self.channels.iter().map(|(name, limits)| rule(name, limits));
        ChannelLimitRules::new(NO_LIMITS, rules.collect())
    }
}

/// Lengths of payloads, and a limit for them: often just enough for some messages, or one byte too little.
fn draw_bytes(rng: &mut Rng) -> (RangeInclusive<usize>, u64) {
    let shortest = rng.usize(40..700);
    let longest = if rng.u8(..4) == 0 { shortest + rng.usize(..=shortest / 4) } else { shortest };
    let record_bytes = (shortest + RECORD_HEAD_BYTES) as u64;
    let whole = rng.u64(1..60) * record_bytes;
    let bytes_max = match rng.u8(..3) {
        0 => whole,
        1 => whole - 1,
        _ => whole + rng.u64(..record_bytes),
    };
    (shortest..=longest, bytes_max)
}

fn rule(name: &str, limits: &ChannelLimits) -> LimitRule {
    let parts = name.split('.').map(|part| NamePart::Exactly(part.into()));
    LimitRule {
        messages_max: Some(limits.messages_max),
        bytes_max: Some(limits.bytes_max),
        age_ms_max: Some(limits.age_ms_max),
        subscriptions_max: Some(limits.subscriptions_max),
        ..LimitRule::new(parts.collect())
    }
}
