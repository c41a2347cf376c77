//! Lame duck mode: how a server goes without a crowd of clients at the next one's door. Clients are told at once; after
//! a grace period, in which those that understand leave by themselves, the others are closed one after the other,
//! spread over what is left of the time. Here is the pace; `core/leave_taking` does it.

use weirlog_engine::types::Monotonic;

use crate::config::NetConfig;

/// Two closings are no further apart, however few connections there are: the reference's rule.
const PAUSE_MS_MAX: u64 = 1_000;
/// Nor closer: what is due within it is closed together.
const PAUSE_MS_MIN: u64 = 10;

/// A lame duck's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LameDuck {
    close_from: Monotonic,
    until: Monotonic,
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// So many connections are closed.
    pub closes: usize,
    /// When the next turn is, if there is anybody left.
    pub next: Monotonic,
}

impl LameDuck {
    /// Begins now. A grace period longer than the whole time is cut to it.
    #[must_use]
    pub fn new(config: &NetConfig, now: Monotonic) -> Self {
        let grace_ms = config.lame_duck_grace_ms.min(config.lame_duck_ms);
        Self { close_from: now.after_ms(grace_ms), until: now.after_ms(config.lame_duck_ms) }
    }

    /// The time of the first turn: the end of the grace period.
    #[must_use]
    pub fn close_from(&self) -> Monotonic {
        self.close_from
    }

    /// The turn of this time, with so many connections open.
    #[must_use]
    pub fn turn(&self, open_count: usize, now: Monotonic) -> Turn {
        if now < self.close_from {
            return Turn { closes: 0, next: self.close_from };
        }
        let left_ms = self.until.since(now) / 1_000_000;
        let count = open_count as u64;
        let pause_ms = (left_ms / count.max(1)).clamp(PAUSE_MS_MIN, PAUSE_MS_MAX);
        let closes = if left_ms <= pause_ms { count } else { (count * pause_ms).div_ceil(left_ms) };
        Turn { closes: usize::try_from(closes).unwrap_or(open_count), next: now.after_ms(pause_ms) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Monotonic = Monotonic(7);

    fn lame_duck(total_ms: u64, grace_ms: u64) -> LameDuck {
        let config = NetConfig {
            lame_duck_ms: total_ms,
            lame_duck_grace_ms: grace_ms,
            ..NetConfig::default()
        };
        LameDuck::new(&config, START)
    }

    /// When the connections are closed, in milliseconds from the start.
    fn closings(duck: &LameDuck, mut count: usize) -> Vec<(u64, usize)> {
        let mut now = START;
        let mut closings = Vec::new();
        while count > 0 {
            let turn = duck.turn(count, now);
            if turn.closes > 0 {
                closings.push((now.since(START) / 1_000_000, turn.closes));
            }
            assert!(turn.next > now, "time goes on");
            count -= turn.closes;
            now = turn.next;
        }
        closings
    }

    #[test]
    fn nobody_is_closed_in_the_grace_period_and_everybody_in_time() {
        for (total_ms, grace_ms, count) in
            [(120_000, 10_000, 1), (120_000, 10_000, 50_000), (30_000, 10_000, 333), (5, 1, 9)]
        {
            let closings = closings(&lame_duck(total_ms, grace_ms), count);
            let (first, last) = (closings[0].0, closings[closings.len() - 1].0);
            assert_eq!(first, grace_ms);
            assert!(last <= total_ms, "{last} of {total_ms} with {count}");
            assert_eq!(closings.iter().map(|(_, count)| count).sum::<usize>(), count);
        }
    }

    #[test]
    fn closings_are_spread_evenly_and_at_most_a_second_apart() {
        let few = closings(&lame_duck(120_000, 10_000), 3);
        assert_eq!(few, [(10_000, 1), (11_000, 1), (12_000, 1)]);
        let many = closings(&lame_duck(20_000, 10_000), 20_000);
        let largest = many.iter().map(|(_, count)| *count).max().unwrap();
        assert!(largest <= 30, "{largest} at once");
    }

    #[test]
    fn a_grace_period_never_outlasts_the_whole() {
        assert_eq!(closings(&lame_duck(1_000, 9_000), 2), [(1_000, 2)]);
    }
}
