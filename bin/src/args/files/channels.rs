//! `store_limits.channels`: limits of single channels and of patterns of them.
//!
//! Unlike those of all channels, a limit of 0 or below is none here; one that is left out is that of the next wider
//! pattern (spec stan.md, section 5).

use weirlog_engine::limits::{LimitRule, NamePart};
use weirlog_net::conf::{Entry, Map};
use weirlog_net::subject::is_valid_channel_pattern;

use super::error::FileError;
use super::keys::{MAX_AGE, MAX_BYTES, MAX_INACTIVITY, MAX_MSGS, MAX_SUBS};
use crate::args::values::{self, ValueError};

/// How the text of a limit becomes a number.
type Reading = fn(&str) -> Result<u64, ValueError>;

/// Reads the map of names and patterns.
pub(super) fn rules(map: &Map) -> Result<Vec<LimitRule>, FileError> {
    map.entries.iter().map(rule).collect()
}

fn rule(entry: &Entry) -> Result<LimitRule, FileError> {
    let name = entry.key.as_str();
    if !is_valid_channel_pattern(name) {
        return Err(FileError::invalid(entry, name, ValueError::NotAChannel));
    }
    let mut rule = LimitRule::new(name.split('.').map(part).collect());
    for limit in &entry.value.map()?.entries {
        let is = |names: &[&str]| names.iter().any(|name| name.eq_ignore_ascii_case(&limit.key));
        let (field, read): (_, Reading) = if is(MAX_MSGS) {
            (&mut rule.messages_max, count)
        } else if is(MAX_BYTES) {
            (&mut rule.bytes_max, count)
        } else if is(MAX_SUBS) {
            (&mut rule.subscriptions_max, count)
        } else if is(MAX_AGE) {
            (&mut rule.age_ms_max, milliseconds)
        } else if is(MAX_INACTIVITY) {
            (&mut rule.inactivity_ms_max, milliseconds)
        } else {
            return Err(FileError::unknown(limit, &format!("{name}.")));
        };
        let invalid = |reason| FileError::invalid(limit, &format!("{name}.{}", limit.key), reason);
        *field = Some(read(limit.value.text()?).map_err(invalid)?);
    }
    Ok(rule)
}

fn part(text: &str) -> NamePart {
    match text {
        ">" => NamePart::Rest,
        "*" => NamePart::Any,
        _ => NamePart::Exactly(text.into()),
    }
}

fn count(text: &str) -> Result<u64, ValueError> {
    u64::try_from(values::size_bytes(text)?.max(0)).map_err(|_| ValueError::TooLarge)
}

/// Rounded up: what is above 0 must not become unlimited.
fn milliseconds(text: &str) -> Result<u64, ValueError> {
    let nanoseconds = u64::try_from(values::duration_ns(text)?.max(0));
    nanoseconds.map(|ns| ns.div_ceil(1_000_000)).map_err(|_| ValueError::TooLarge)
}
