//! What `weirlog bench` can be told.

use std::path::PathBuf;
use std::time::Duration;

use super::value_error::ValueError;
use super::values;

/// Where subscriptions start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BenchStart {
    /// With what is published from then on.
    New,
    /// With all that is there.
    First,
    /// Each at another place of what is there.
    Spread,
}

/// A load, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, clap::Parser)]
#[command(
    name = "bench",
    rename_all = "snake_case",
    no_binary_name = true,
    args_override_self = true
)]
#[command(disable_help_flag = true, disable_version_flag = true)]
pub(crate) struct BenchOptions {
    /// Server to put under load
    #[arg(long, visible_alias = "s", value_name = "HOST:PORT", default_value = "127.0.0.1:4222")]
    #[arg(value_parser = server)]
    pub(crate) server: String,
    /// Its cluster id
    #[arg(long, visible_alias = "cid", value_name = "ID", default_value = "test-cluster")]
    #[arg(value_parser = values::subject_part)]
    pub(crate) cluster_id: String,
    /// Clients that publish
    #[arg(long, visible_alias = "pub", value_name = "COUNT", default_value = "4")]
    #[arg(value_parser = clients)]
    pub(crate) publishers: u64,
    /// Clients that subscribe: to a channel each, or to several if there are more channels than clients
    #[arg(long, visible_alias = "sub", value_name = "COUNT", default_value = "0")]
    #[arg(value_parser = clients)]
    pub(crate) subscribers: u64,
    /// Clients that are connected and do nothing
    #[arg(long, value_name = "COUNT", default_value = "0", value_parser = clients)]
    pub(crate) idle: u64,
    /// Channels, which take turns
    #[arg(long, value_name = "COUNT", default_value = "1", value_parser = channels)]
    pub(crate) channels: u64,
    /// Beginning of the channels' names
    #[arg(long, value_name = "TEXT", default_value = "bench", value_parser = values::subject_part)]
    pub(crate) prefix: String,
    /// Messages over all channels; without publishers: those that were published before
    #[arg(long, visible_alias = "n", value_name = "COUNT", default_value = "800000")]
    #[arg(value_parser = values::unsigned)]
    pub(crate) messages: u64,
    /// Size of a message; from 16 bytes on it carries its time
    #[arg(long = "size", value_name = "SIZE", default_value = "128", value_parser = values::payload_bytes)]
    pub(crate) size_bytes: usize,
    /// Messages of a publisher that wait for their acks
    #[arg(long, value_name = "COUNT", default_value = "16384", value_parser = values::at_least_one)]
    pub(crate) window: u64,
    /// Messages a second, at fixed times, whatever the server does; 0: as fast as acks come
    #[arg(long = "rate", value_name = "COUNT", default_value = "0", value_parser = rate)]
    pub(crate) messages_per_second: u64,
    /// Where subscriptions start: new, first or spread (each at another place of what is there)
    #[arg(long, value_name = "PLACE", default_value = "new", value_parser = start)]
    pub(crate) start: BenchStart,
    /// Unacked messages of a subscription
    #[arg(long = "in_flight", value_name = "COUNT", default_value = "1024", value_parser = in_flight)]
    pub(crate) in_flight_max: i32,
    /// Subscriptions are durable
    #[arg(long = "durable", default_value = "false")]
    #[arg(num_args = 0..=1, action = clap::ArgAction::Set, value_parser = values::switch)]
    pub(crate) is_durable: bool,
    /// How long clients that do nothing are watched
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    #[arg(value_parser = values::positive_duration)]
    pub(crate) hold: Duration,
    /// When to give up
    #[arg(long, value_name = "DURATION", default_value = "2m")]
    #[arg(value_parser = values::positive_duration)]
    pub(crate) timeout: Duration,
    /// Process of the server: its processor time and memory are shown
    #[arg(long = "pid", value_name = "ID", value_parser = process)]
    pub(crate) process: Option<i32>,
    /// Figures as one line of JSON
    #[arg(long = "json", default_value = "false")]
    #[arg(num_args = 0..=1, action = clap::ArgAction::Set, value_parser = values::switch)]
    pub(crate) is_json: bool,
    /// File to which the figures are appended as a line of JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) append: Option<PathBuf>,
    /// Print this text
    #[arg(long, visible_alias = "h", default_value = "false")]
    #[arg(num_args = 0..=1, action = clap::ArgAction::Set, value_parser = values::switch)]
    pub(crate) help: bool,
}

impl BenchOptions {
    /// Messages a second at fixed times; none: as fast as acks come.
    pub(crate) fn rate(&self) -> Option<u64> {
        (self.messages_per_second > 0).then_some(self.messages_per_second)
    }
}

/// More would not find ports.
const CLIENTS_MAX: u64 = 50_000;
/// Their names are kept in memory.
const CHANNELS_MAX: u64 = 10_000_000;
/// A message a nanosecond.
const RATE_MAX: u64 = 1_000_000_000;

fn server(text: &str) -> Result<String, ValueError> {
    let address = text.strip_prefix("nats://").unwrap_or(text).trim_end_matches('/');
    let is_address = address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if is_address { Ok(address.to_owned()) } else { Err(ValueError::NotAServer) }
}

fn clients(text: &str) -> Result<u64, ValueError> {
    values::in_range(values::integer(text)?, 0, CLIENTS_MAX)
}

fn channels(text: &str) -> Result<u64, ValueError> {
    values::in_range(values::integer(text)?, 1, CHANNELS_MAX)
}

fn rate(text: &str) -> Result<u64, ValueError> {
    values::in_range(values::integer(text)?, 0, RATE_MAX)
}

fn in_flight(text: &str) -> Result<i32, ValueError> {
    let count = values::in_range(values::integer(text)?, 1, i32::MAX.unsigned_abs().into())?;
    Ok(i32::try_from(count).expect("it is in range"))
}

fn process(text: &str) -> Result<i32, ValueError> {
    let id = values::in_range(values::integer(text)?, 1, i32::MAX.unsigned_abs().into())?;
    Ok(i32::try_from(id).expect("it is in range"))
}

fn start(text: &str) -> Result<BenchStart, ValueError> {
    match text {
        "new" => Ok(BenchStart::New),
        "first" => Ok(BenchStart::First),
        "spread" => Ok(BenchStart::Spread),
        _ => Err(ValueError::NotAPlace),
    }
}
