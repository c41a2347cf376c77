//! Keys about connections that have no flag.

use std::time::Duration;

use super::FileSettings;
use crate::args::values::{self, ValueError};

/// The longest control line that may be asked for. Each connection's buffer grows with its lines, and a subject of a
/// megabyte is nobody's.
const CONTROL_LINE_BYTES_MAX: u64 = 1 << 20;
/// The shortest: a CONNECT must fit.
const CONTROL_LINE_BYTES_MIN: u64 = 256;

/// `max_connections`: 0 is the default, and what is negative is no limit, as in nats-server.
pub(super) fn connections_max(settings: &mut FileSettings, text: &str) -> Result<(), ValueError> {
    match values::size_bytes(text)? {
        0 => {}
        count => settings.connections.connections_max = count_or_unlimited(count)?,
    }
    Ok(())
}

/// `max_subscriptions` of a connection: no limit at 0 and below.
pub(super) fn subscriptions_max(settings: &mut FileSettings, text: &str) -> Result<(), ValueError> {
    settings.connections.subscriptions_max = count_or_unlimited(values::size_bytes(text)?)?;
    Ok(())
}

/// `max_control_line`
pub(super) fn control_line_bytes_max(
    settings: &mut FileSettings,
    text: &str,
) -> Result<(), ValueError> {
    let (min, max) = (CONTROL_LINE_BYTES_MIN, CONTROL_LINE_BYTES_MAX);
    let bytes = u64::try_from(values::size_bytes(text)?).ok();
    let bytes = bytes.filter(|bytes| (min..=max).contains(bytes));
    let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok());
    settings.connections.control_line_bytes_max =
        bytes.ok_or(ValueError::OutOfRange { min, max })?;
    Ok(())
}

/// `max_pending`
pub(super) fn pending_bytes_max(settings: &mut FileSettings, text: &str) -> Result<(), ValueError> {
    settings.connections.pending_bytes_max = positive_bytes(text)?;
    Ok(())
}

/// `max_buffered`
pub(super) fn buffered_bytes_max(
    settings: &mut FileSettings,
    text: &str,
) -> Result<(), ValueError> {
    settings.connections.buffered_bytes_max = positive_bytes(text)?;
    Ok(())
}

/// `ping_interval`
pub(super) fn ping_interval(settings: &mut FileSettings, text: &str) -> Result<(), ValueError> {
    settings.connections.ping_interval = duration(text)?;
    Ok(())
}

/// `ping_max`
pub(super) fn pings_out_max(settings: &mut FileSettings, text: &str) -> Result<(), ValueError> {
    let count = values::failure_count(text)?;
    if count > 0 {
        settings.connections.pings_out_max = count;
    }
    Ok(())
}

/// `write_deadline`
pub(super) fn write_deadline(settings: &mut FileSettings, text: &str) -> Result<(), ValueError> {
    settings.connections.write_deadline = duration(text)?;
    Ok(())
}

/// Above 0.
fn positive_bytes(text: &str) -> Result<usize, ValueError> {
    let bytes = usize::try_from(values::size_bytes(text)?).ok().filter(|bytes| *bytes > 0);
    bytes.ok_or(ValueError::NotPositive)
}

/// Above 0, with a unit; without one in seconds, as old files write it.
fn duration(text: &str) -> Result<Duration, ValueError> {
    match values::integer(text) {
        Ok(_) => values::positive_duration(&format!("{text}s")),
        Err(_) => values::positive_duration(text),
    }
}

/// 0 for no limit.
fn count_or_unlimited(count: i128) -> Result<usize, ValueError> {
    usize::try_from(count.max(0)).map_err(|_| ValueError::TooLarge)
}
