//! Which limits a channel has: those of all channels, and rules for the names that match a pattern.
//!
//! A rule may leave limits out: they are those of the nearest wider pattern that matches too, and in the end those of
//! all channels (spec stan.md, section 5). So the rules that match are applied one over the other, from the widest to
//! the narrowest.

use std::sync::Arc;

use crate::types::ChannelLimits;

/// One part of a channel's name, between dots. The order is from wide to narrow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum NamePart {
    /// All parts that follow, at least one.
    Rest,
    /// Any one part.
    Any,
    /// This part.
    Exactly(Box<str>),
}

/// Limits for the channels that match. `None`: as the next wider rule says; `Some(0)`: unlimited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitRule {
    /// The parts of the names. Not empty; [`NamePart::Rest`] is the last one.
    pub pattern: Vec<NamePart>,
    /// See [`ChannelLimits::messages_max`].
    pub messages_max: Option<u64>,
    /// See [`ChannelLimits::bytes_max`].
    pub bytes_max: Option<u64>,
    /// See [`ChannelLimits::age_ms_max`].
    pub age_ms_max: Option<u64>,
    /// See [`ChannelLimits::subscriptions_max`].
    pub subscriptions_max: Option<u64>,
    /// See [`ChannelLimits::inactivity_ms_max`].
    pub inactivity_ms_max: Option<u64>,
}

/// The limits of all channels. A clone costs nothing: the cores share the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelLimitRules {
    general: ChannelLimits,
    /// From the widest to the narrowest.
    rules: Arc<[LimitRule]>,
}

impl LimitRule {
    /// A rule that leaves all limits as they are.
    #[must_use]
    pub fn new(pattern: Vec<NamePart>) -> Self {
        assert!(!pattern.is_empty(), "a name has a part");
        let is_last = |at: usize| at + 1 == pattern.len();
        let is_rest_last =
            pattern.iter().enumerate().all(|(at, part)| *part != NamePart::Rest || is_last(at));
        assert!(is_rest_last, "nothing follows the rest");
        Self {
            pattern,
            messages_max: None,
            bytes_max: None,
            age_ms_max: None,
            subscriptions_max: None,
            inactivity_ms_max: None,
        }
    }

    /// Whether it is about one channel only.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        self.pattern.iter().all(|part| matches!(part, NamePart::Exactly(_)))
    }

    /// The pattern as text: `orders.*.>`.
    #[must_use]
    pub fn pattern_text(&self) -> String {
        let parts = self.pattern.iter().map(|part| match part {
            NamePart::Exactly(text) => text.as_ref(),
            NamePart::Any => "*",
            NamePart::Rest => ">",
        });
        parts.collect::<Vec<_>>().join(".")
    }

    fn matches(&self, name: &str) -> bool {
        let mut parts = name.split('.');
        for part in &self.pattern {
            let Some(own) = parts.next() else { return false };
            match part {
                NamePart::Rest => return true,
                NamePart::Any => {}
                NamePart::Exactly(wanted) if **wanted == *own => {}
                NamePart::Exactly(_) => return false,
            }
        }
        parts.next().is_none()
    }

    fn over(&self, wider: ChannelLimits) -> ChannelLimits {
        ChannelLimits {
            messages_max: self.messages_max.unwrap_or(wider.messages_max),
            bytes_max: self.bytes_max.unwrap_or(wider.bytes_max),
            age_ms_max: self.age_ms_max.unwrap_or(wider.age_ms_max),
            subscriptions_max: self.subscriptions_max.unwrap_or(wider.subscriptions_max),
            inactivity_ms_max: self.inactivity_ms_max.unwrap_or(wider.inactivity_ms_max),
        }
    }
}

impl ChannelLimitRules {
    /// `general` for all channels but those that `rules` speak of. Of two rules with the same pattern the last counts.
    #[must_use]
    pub fn new(general: ChannelLimits, mut rules: Vec<LimitRule>) -> Self {
        // Two patterns that match one name differ first where one of them is wider, so this is from wide to narrow;
        // the sort keeps the order of equals.
        rules.sort_by(|left, right| left.pattern.cmp(&right.pattern));
        Self { general, rules: rules.into() }
    }

    /// The limits of the channel `name`.
    #[must_use]
    pub fn of(&self, name: &str) -> ChannelLimits {
        let matching = self.rules.iter().filter(|rule| rule.matches(name));
        matching.fold(self.general, |wider, rule| rule.over(wider))
    }

    /// The limits of channels that no rule speaks of.
    #[must_use]
    pub fn general(&self) -> ChannelLimits {
        self.general
    }

    /// Each rule's pattern with the limits it leads to, those taken from wider rules included.
    pub fn patterns(&self) -> impl Iterator<Item = (String, ChannelLimits)> {
        self.rules.iter().map(|rule| {
            let text = rule.pattern_text();
            // A wider pattern matches a narrower one's text as it matches names.
            let limits = self.of(&text);
            (text, limits)
        })
    }

    /// Whether time alone can remove messages or channels.
    pub(crate) fn has_time_limit(&self) -> bool {
        let has_one = |limits: ChannelLimits| limits.age_ms_max > 0 || limits.inactivity_ms_max > 0;
        let none = ChannelLimits { age_ms_max: 0, inactivity_ms_max: 0, ..self.general };
        has_one(self.general) || self.rules.iter().any(|rule| has_one(rule.over(none)))
    }
}

/// The same limits for all channels.
impl From<ChannelLimits> for ChannelLimitRules {
    fn from(general: ChannelLimits) -> Self {
        Self::new(general, Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GENERAL: ChannelLimits = ChannelLimits {
        messages_max: 1,
        bytes_max: 2,
        age_ms_max: 0,
        subscriptions_max: 4,
        inactivity_ms_max: 0,
    };

    fn rule(pattern: &str) -> LimitRule {
        let part = |text: &str| match text {
            ">" => NamePart::Rest,
            "*" => NamePart::Any,
            _ => NamePart::Exactly(text.into()),
        };
        LimitRule::new(pattern.split('.').map(part).collect())
    }

    fn messages(pattern: &str, max: u64) -> LimitRule {
        LimitRule { messages_max: Some(max), ..rule(pattern) }
    }

    #[test]
    fn the_narrowest_pattern_counts() {
        // From narrow to wide, to be sorted.
        let rules = ChannelLimitRules::new(
            GENERAL,
            vec![
                messages("a.b", 60),
                messages("a.*", 50),
                messages("*.b", 40),
                messages("a.>", 30),
                messages("*.*", 25),
                messages("*.>", 20),
                messages(">", 10),
            ],
        );
        for (name, max) in [
            ("a.b", 60),
            ("a.c", 50),
            ("c.b", 40),
            ("a.c.d", 30),
            ("c.d", 25),
            ("c.d.e", 20),
            ("a", 10),
            ("c", 10),
        ] {
            assert_eq!(rules.of(name).messages_max, max, "{name}");
        }
    }

    #[test]
    fn the_rest_is_at_least_one_part() {
        let rules = ChannelLimitRules::new(GENERAL, vec![messages("a.>", 30)]);
        assert_eq!(rules.of("a"), GENERAL);
        assert_eq!(rules.of("a.b").messages_max, 30);
        assert_eq!(rules.of("ab.c"), GENERAL);
    }

    #[test]
    fn what_is_left_out_is_that_of_the_next_wider_pattern() {
        let rules = ChannelLimitRules::new(
            GENERAL,
            vec![
                LimitRule { age_ms_max: Some(7), ..rule("a.b.c") },
                LimitRule { subscriptions_max: Some(0), bytes_max: Some(9), ..rule("a.*.*") },
                LimitRule { messages_max: Some(0), bytes_max: Some(8), ..rule("a.>") },
            ],
        );
        let inherited = ChannelLimits {
            messages_max: 0,
            bytes_max: 9,
            age_ms_max: 7,
            subscriptions_max: 0,
            inactivity_ms_max: 0,
        };
        assert_eq!(rules.of("a.b.c"), inherited);
        assert_eq!(rules.of("a.b.d"), ChannelLimits { age_ms_max: 0, ..inherited });
        assert_eq!(rules.of("x"), GENERAL);
        let patterns: Vec<_> = rules.patterns().collect();
        assert_eq!(patterns[0], ("a.>".to_owned(), rules.of("a.x")));
        assert_eq!(patterns[1], ("a.*.*".to_owned(), rules.of("a.x.y")));
        assert_eq!(patterns[2], ("a.b.c".to_owned(), inherited));
        assert!(rules.has_time_limit());
        assert!(!ChannelLimitRules::from(GENERAL).has_time_limit());
    }

    #[test]
    fn of_two_equal_patterns_the_last_counts() {
        let rules = ChannelLimitRules::new(GENERAL, vec![messages("a", 5), messages("a", 6)]);
        assert_eq!(rules.of("a").messages_max, 6);
        assert!(rule("a.b").is_literal());
        assert!(!rule("a.*").is_literal());
    }
}
