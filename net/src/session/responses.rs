//! Subjects that a connection may publish to only because it got a message that asks for an answer there
//! (`allow_responses`).

use std::collections::VecDeque;

use weirlog_engine::types::Monotonic;

use crate::auth::ResponseLimits;

/// Open answers of a connection at most: the oldest make room. A client that owes more has lost count.
const ANSWERS_COUNT_MAX: usize = 4_096;

#[derive(Debug)]
struct Answer {
    subject: Box<[u8]>,
    /// Messages that may still be sent; none: any number.
    left: Option<u64>,
    /// None: it may come at any time.
    until: Option<Monotonic>,
}

/// What a connection may still answer, in the order in which it was asked.
#[derive(Debug, Default)]
pub struct Responses(VecDeque<Answer>);

impl Responses {
    /// A message that asks for an answer to `subject` was delivered.
    pub fn expect(&mut self, subject: &[u8], limits: ResponseLimits, now: Monotonic) {
        while self.0.front().is_some_and(|answer| answer.is_over(now)) {
            self.0.pop_front();
        }
        if self.0.len() >= ANSWERS_COUNT_MAX {
            self.0.pop_front();
        }
        let until = limits.expires_ms.map(|ms| now.after_ms(ms));
        self.0.push_back(Answer { subject: subject.into(), left: limits.count_max, until });
    }

    /// Whether a message to `subject` is such an answer; it counts.
    pub fn take(&mut self, subject: &[u8], now: Monotonic) -> bool {
        let is_it = |answer: &Answer| *answer.subject == *subject && !answer.is_over(now);
        let Some(at) = self.0.iter().position(is_it) else { return false };
        let Some(answer) = self.0.get_mut(at) else { return false };
        if let Some(left) = &mut answer.left {
            *left -= 1;
            if *left == 0 {
                self.0.remove(at);
            }
        }
        true
    }
}

impl Answer {
    fn is_over(&self, now: Monotonic) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_and_expire() {
        let mut responses = Responses::default();
        let start = Monotonic::default();
        let limits = ResponseLimits { count_max: Some(2), expires_ms: Some(100) };
        responses.expect(b"a", limits, start);
        assert!(!responses.take(b"b", start));
        assert!(responses.take(b"a", start) && responses.take(b"a", start.after_ms(99)));
        assert!(!responses.take(b"a", start));
        responses.expect(b"a", limits, start);
        assert!(!responses.take(b"a", start.after_ms(100)));
    }

    #[test]
    fn without_limits_an_answer_stays_open() {
        let mut responses = Responses::default();
        let limits = ResponseLimits { count_max: None, expires_ms: None };
        responses.expect(b"a", limits, Monotonic::default());
        let later = Monotonic::default().after_ms(1 << 40);
        assert!((0..100).all(|_| responses.take(b"a", later)));
    }

    #[test]
    fn the_oldest_make_room() {
        let mut responses = Responses::default();
        let limits = ResponseLimits { count_max: Some(1), expires_ms: None };
        let now = Monotonic::default();
        for number in 0..=ANSWERS_COUNT_MAX {
            responses.expect(number.to_string().as_bytes(), limits, now);
        }
        assert!(!responses.take(b"0", now));
        assert!(responses.take(b"1", now) && responses.take(b"4096", now));
    }
}
