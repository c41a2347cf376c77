//! What the operator is told: the words of a start's findings and of cores' notices.

use weirlog_engine::disk::Disk;
use weirlog_engine::disk::dma::GlommioRuntime;
use weirlog_engine::storage::Storage;
use weirlog_engine::types::Timestamp;
use weirlog_net::core::Notice;

use crate::log::{Level, Log, Part};

/// What opening the store has found.
pub(super) fn tell_recovery<D: Disk>(log: &Log, storage: &Storage<D, GlommioRuntime>) {
    let report = storage.report();
    if report.cut_frames > 0 {
        let text = format!("Cut {} batches that were never acknowledged", report.cut_frames);
        log.info(wall_time(), text);
    }
    for damage in &report.damage {
        log.error(wall_time(), format!("Damage in {damage}"));
    }
}

/// What a core wants the operator to hear.
pub(super) fn tell(log: &Log, notice: &Notice) {
    match notice {
        Notice::SlowConsumer { number, client_ip, pending_bytes } => log.warning(
            wall_time(),
            format!("Slow consumer: connection {number} of {client_ip} closed, {pending_bytes} bytes waited for it"),
        ),
        Notice::Shed { number, client_ip, buffered_bytes } => log.warning(
            wall_time(),
            format!("Too much buffered: connection {number} of {client_ip} closed, {buffered_bytes} bytes were its part"),
        ),
        Notice::Detail(detail) => {
            let level = if detail.is_trace { Level::Trace } else { Level::Debug };
            let part = if detail.is_streaming { Part::Streaming } else { Part::Server };
            log.write(wall_time(), level, part, &detail.text);
        }
        Notice::ClientTimedOut { client_id } => {
            log.info(wall_time(), format!("[Client:{client_id}] Timed out on heartbeats"));
        }
        Notice::HandshakeFailed { client_ip, reason } => {
            log.error(wall_time(), format!("TLS handshake with {client_ip} failed: {reason}"));
        }
        Notice::UpstreamError { text } => {
            log.error(wall_time(), format!("NATS server: {text}"));
        }
        Notice::UpstreamJoined => log.info(wall_time(), "Joined a NATS server"),
        Notice::UpstreamLost => {
            log.warning(wall_time(), "Lost the connection to the NATS server, trying to join it again");
        }
        Notice::Damage(damage) => log.error(wall_time(), format!("Damage in {damage}")),
        Notice::LogFinished { shard, reason } => {
            log.error(wall_time(), format!("Shard {shard} takes no more messages until a restart: {reason}"));
        }
    }
}

/// The time of a line.
pub(super) fn wall_time() -> Timestamp {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    Timestamp(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}
