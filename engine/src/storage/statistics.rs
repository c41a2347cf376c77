//! What the commits and reads of a core have cost since the start, for monitoring.

use histogram::Histogram;

/// Two buckets for each power of two: a value is known to a third.
const GROUPING_POWER: u8 = 1;
/// Values above are counted as this: 2^32 microseconds are more than an hour.
const VALUE_POWER_MAX: u8 = 32;

/// Values of one kind, counted in buckets.
#[derive(Debug, Clone)]
pub struct Distribution {
    counts: Histogram,
    sum: u64,
}

/// Commits of a core since its start, and reads.
#[derive(Debug, Clone, Default)]
pub struct DiskStatistics {
    /// Microseconds from seal to the end of the write, rounded down.
    pub latency_us: Distribution,
    /// Records in a batch, state records included.
    pub records: Distribution,
    /// Bytes of a frame, padding included.
    pub bytes: Distribution,
    /// Writes that failed.
    pub failed_count: u64,
    /// Reads of frames and footers that were not in memory.
    pub history_reads: u64,
    /// Segments that came of rewriting others.
    pub clustered_count: u64,
    /// Segments that limits have emptied, whose space is used again.
    pub emptied_count: u64,
}

impl Default for Distribution {
    fn default() -> Self {
        let counts =
            Histogram::new(GROUPING_POWER, VALUE_POWER_MAX).expect("the powers are in bounds");
        Self { counts, sum: 0 }
    }
}

impl Distribution {
    /// Counts a value.
    pub fn add(&mut self, value: u64) {
        let counted = value.min((1 << VALUE_POWER_MAX) - 1);
        self.counts.increment(counted).expect("bounded above");
        self.sum = self.sum.saturating_add(value);
    }

    /// Adds what another core counted.
    pub fn merge(&mut self, other: &Self) {
        self.counts = self.counts.checked_add(&other.counts).expect("both are made alike");
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// Sum of the values.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// How many values there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.as_slice().iter().sum()
    }

    /// How many values are at most 2^`power` - 1, for each power in `powers`.
    pub fn counts_below(
        &self,
        powers: impl Iterator<Item = u32>,
    ) -> impl Iterator<Item = (u64, u64)> {
        powers.map(|power| {
            let greatest = (1_u64 << power) - 1;
            let below = self.counts.into_iter().filter(|bucket| bucket.end() <= greatest);
            (greatest, below.map(|bucket| bucket.count()).sum())
        })
    }
}

impl DiskStatistics {
    /// A write of so many records and bytes has ended.
    pub(super) fn count<E>(
        &mut self,
        took_ns: u64,
        (records, bytes): (u64, u64),
        result: &Result<(), E>,
    ) {
        if result.is_err() {
            self.failed_count += 1;
            return;
        }
        self.latency_us.add(took_ns / 1_000);
        self.records.add(records);
        self.bytes.add(bytes);
    }

    /// Adds what another core counted.
    pub fn merge(&mut self, other: &Self) {
        self.latency_us.merge(&other.latency_us);
        self.records.merge(&other.records);
        self.bytes.merge(&other.bytes);
        self.failed_count += other.failed_count;
        self.history_reads += other.history_reads;
        self.clustered_count += other.clustered_count;
        self.emptied_count += other.emptied_count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_up_to_each_power_of_two() {
        let mut one = Distribution::default();
        for value in [0, 1, 2, 3, 4, 100, 127, 128, u64::MAX] {
            one.add(value);
        }
        let below: Vec<_> = one.counts_below([0, 1, 2, 7, 8, 32].into_iter()).collect();
        let expected = [(0, 1), (1, 2), (3, 4), (127, 7), (255, 8), (u64::from(u32::MAX), 9)];
        assert_eq!(below, expected);
        assert_eq!((one.count(), one.sum()), (9, u64::MAX));
    }

    #[test]
    fn cores_add_up() {
        let (mut one, mut other) = (DiskStatistics::default(), DiskStatistics::default());
        one.records.add(5);
        other.records.add(7);
        other.failed_count = 1;
        (one.history_reads, other.history_reads) = (2, 3);
        (one.clustered_count, other.clustered_count) = (1, 4);
        (one.emptied_count, other.emptied_count) = (6, 1);
        one.merge(&other);
        assert_eq!((one.history_reads, one.clustered_count, one.emptied_count), (5, 5, 7));
        assert_eq!((one.records.count(), one.records.sum(), one.failed_count), (2, 12, 1));
    }
}
