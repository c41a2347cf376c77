//! Sets of numbers as ranges.

/// Ranges of numbers, ends included. What is added in order takes the memory of its gaps only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    ranges: Vec<(u64, u64)>,
}

impl Ranges {
    /// Adds `first..=last`.
    pub(crate) fn add(&mut self, first: u64, last: u64) {
        match self.ranges.last_mut() {
            Some(behind) if behind.1.checked_add(1) == Some(first) => behind.1 = last,
            _ => self.ranges.push((first, last)),
        }
    }

    /// The ranges, as they were added.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.ranges.iter().copied()
    }

    /// The same numbers in order, no range touching another.
    pub(crate) fn joined(&self) -> Vec<(u64, u64)> {
        let mut sorted = self.ranges.clone();
        sorted.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for (first, last) in sorted {
            match joined.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => {
                    before.1 = before.1.max(last)
                }
                _ => joined.push((first, last)),
            }
        }
        joined
    }

    /// What of `first..=last` is not in it, in order.
    pub(crate) fn missing_of(&self, first: u64, last: u64) -> Vec<(u64, u64)> {
        let mut sorted = self.ranges.clone();
        sorted.sort_unstable();
        let mut missing = Vec::new();
        let mut next = first;
        for (begin, end) in sorted.into_iter().take_while(|(begin, _)| *begin <= last) {
            if begin > next {
                missing.push((next, begin - 1));
            }
            let Some(behind) = end.checked_add(1) else { return missing };
            next = next.max(behind);
        }
        if next <= last {
            missing.push((next, last));
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_what_was_not_added() {
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..2_000 {
            let mut ranges = Ranges::default();
            let mut is_in = [false; 40];
            for _ in 0..rng.usize(..6) {
                let first = rng.usize(..40);
                let last = rng.usize(first..40);
                ranges.add(first as u64, last as u64);
                is_in[first..=last].fill(true);
            }
            let (first, last) = (rng.usize(..40), rng.usize(..40));
            let missing = ranges.missing_of(first as u64, last as u64);
            let numbers: Vec<u64> = missing.iter().flat_map(|(begin, end)| *begin..=*end).collect();
            let wanted: Vec<u64> =
                (first..=last).filter(|at| !is_in[*at]).map(|at| at as u64).collect();
            assert_eq!(numbers, wanted);
            let joined = ranges.joined();
            let numbers = joined.iter().flat_map(|(begin, end)| *begin..=*end);
            let wanted = (0..40).filter(|at| is_in[*at]).map(|at| at as u64);
            assert_eq!(numbers.collect::<Vec<_>>(), wanted.collect::<Vec<_>>());
            assert!(joined.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{joined:?}");
        }
    }

    #[test]
    fn numbers_at_the_end_are_no_trouble() {
        let mut ranges = Ranges::default();
        ranges.add(5, u64::MAX);
        assert_eq!(ranges.missing_of(1, u64::MAX), [(1, 4)]);
        ranges.add(0, 3);
        assert_eq!(ranges.missing_of(0, u64::MAX), [(4, 4)]);
        assert_eq!(ranges.missing_of(7, 6), []);
    }
}
