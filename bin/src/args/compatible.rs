//! The flags of nats-streaming-server that do nothing here: those without effect, accepted with a warning, and those
//! that ask for something this server does not have yet, refused.
//!
//! A refused flag that asks for nothing (`-tls=false`, `-m 0`, an empty text) is let through in silence: scripts that
//! spell out defaults go on working.

use std::ffi::OsStr;

use super::values::{self, ValueError};

/// What a flag's value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueForm {
    Switch,
    Number,
    Size,
    Duration,
    Text,
}

/// A flag that tunes what this server does not have.
#[derive(Debug)]
pub(super) struct MootFlag {
    pub(super) name: &'static str,
    pub(super) form: ValueForm,
    /// Why it has no effect; ends the warning's sentence.
    pub(super) reason: &'static str,
    /// What this server does anyway: asking for it needs no warning.
    pub(super) is_always: Option<bool>,
}

/// Something that is missing, with all flags that ask for it.
#[derive(Debug)]
pub(super) struct MissingFeature {
    pub(super) what: &'static str,
    /// What to do for now.
    pub(super) instead: &'static str,
    pub(super) switches: &'static [&'static str],
    pub(super) numbers: &'static [&'static str],
    pub(super) texts: &'static [&'static str],
}

/// What became of a flag that does nothing.
#[derive(Debug, Clone, Copy)]
pub(super) enum Role {
    Moot(&'static MootFlag),
    Missing { feature: &'static MissingFeature, form: ValueForm },
}

impl Role {
    /// Whether the flag can stand without a value.
    pub(super) fn is_switch(self) -> bool {
        match self {
            Self::Moot(flag) => flag.form == ValueForm::Switch,
            Self::Missing { form, .. } => form == ValueForm::Switch,
        }
    }
}

impl MootFlag {
    /// Why setting it to `value` has no effect; `None` if the server does so anyway.
    pub(super) fn reason_against(&self, value: &OsStr) -> Result<Option<&'static str>, ValueError> {
        let text = value.to_str().ok_or(ValueError::NotUtf8)?;
        let is_on = match self.form {
            ValueForm::Switch => Some(values::switch(text)?),
            ValueForm::Number => values::integer(text).map(|_| None)?,
            ValueForm::Size => values::size_bytes(text).map(|_| None)?,
            ValueForm::Duration => values::duration_ns(text).map(|_| None)?,
            ValueForm::Text => None,
        };
        let is_done_anyway = is_on.is_some() && is_on == self.is_always;
        Ok((!is_done_anyway).then_some(self.reason))
    }
}

/// Whether `value` asks for the feature at all.
pub(super) fn asks_for_something(form: ValueForm, value: &OsStr) -> Result<bool, ValueError> {
    let Some(text) = value.to_str() else { return Ok(true) };
    match form {
        ValueForm::Switch => values::switch(text),
        ValueForm::Number => Ok(values::integer(text) != Ok(0)),
        ValueForm::Size | ValueForm::Duration | ValueForm::Text => Ok(!text.is_empty()),
    }
}

/// Each name that does nothing, with its role.
pub(super) fn names() -> impl Iterator<Item = (&'static str, Role)> {
    let moot = MOOT_FLAGS.iter().map(|flag| (flag.name, Role::Moot(flag)));
    let missing = MISSING_FEATURES.iter().flat_map(|feature| {
        let of = |names: &'static [&'static str], form| {
            names.iter().map(move |&name| (name, Role::Missing { feature, form }))
        };
        of(feature.switches, ValueForm::Switch)
            .chain(of(feature.numbers, ValueForm::Number))
            .chain(of(feature.texts, ValueForm::Text))
    });
    moot.chain(missing)
}

const COMPACTION: &str = "segments are cleaned in the background";
const CHECKSUM: &str = "each record is always checked";
const SLICES: &str = "segments have a size of their own";

const fn moot(name: &'static str, form: ValueForm, reason: &'static str) -> MootFlag {
    MootFlag { name, form, reason, is_always: None }
}

/// The flags without effect.
pub(super) static MOOT_FLAGS: [MootFlag; 20] = [
    moot("file_compact_enabled", ValueForm::Switch, COMPACTION),
    moot("file_compact_frag", ValueForm::Number, COMPACTION),
    moot("file_compact_interval", ValueForm::Number, COMPACTION),
    moot("file_compact_min_size", ValueForm::Size, COMPACTION),
    moot("file_buffer_size", ValueForm::Size, "batches are written as they are, without a buffer"),
    MootFlag { is_always: Some(true), ..moot("file_crc", ValueForm::Switch, CHECKSUM) },
    moot("file_crc_poly", ValueForm::Number, "checksums are always CRC-32C"),
    MootFlag {
        is_always: Some(true),
        ..moot("file_sync", ValueForm::Switch, "every acknowledgement waits for the disk")
    },
    moot("file_slice_max_msgs", ValueForm::Number, SLICES),
    moot("file_slice_max_bytes", ValueForm::Size, SLICES),
    moot("file_slice_max_age", ValueForm::Duration, SLICES),
    moot("file_slice_archive_script", ValueForm::Text, "no script is run and nothing is archived"),
    moot("file_fds_limit", ValueForm::Number, "open files do not grow with the channels"),
    moot("file_parallel_recovery", ValueForm::Number, "shards always recover side by side"),
    moot("file_truncate_bad_eof", ValueForm::Switch, "a torn end of the log is always cut off"),
    moot("file_read_buffer_size", ValueForm::Size, "reads are as long as what is asked for"),
    moot("file_auto_sync", ValueForm::Duration, "every acknowledgement waits for the disk"),
    moot("syslog_name", ValueForm::Text, "it names a source of the Windows event log"),
    moot("io_batch_size", ValueForm::Number, "batches follow the load"),
    moot("io_sleep_time", ValueForm::Number, "batches follow the load"),
];

/// The features that are missing.
pub(super) static MISSING_FEATURES: [MissingFeature; 8] = [
    MissingFeature {
        what: "clustering",
        instead: "run one server",
        switches: &[
            "clustered",
            "cluster_bootstrap",
            "cluster_sync",
            "cluster_raft_logging",
            "cluster_proceed_on_restore_failure",
            "cluster_allow_add_remove_node",
        ],
        numbers: &["cluster_log_cache_size", "cluster_log_snapshots", "cluster_trailing_logs"],
        texts: &["cluster_node_id", "cluster_peers", "cluster_log_path"],
    },
    MissingFeature {
        what: "fault tolerance groups",
        instead: "run one server and let a supervisor restart it",
        texts: &["ft_group"],
        ..NOTHING
    },
    MissingFeature {
        what: "SQL stores",
        instead: "use -store file",
        switches: &["sql_no_caching"],
        numbers: &["sql_max_open_conns", "sql_bulk_insert_limit"],
        texts: &["sql_driver", "sql_source"],
    },
    MissingFeature {
        what: "encryption at rest",
        instead: "put -dir on an encrypted file system",
        switches: &["encrypt"],
        texts: &["encryption_cipher", "encryption_key"],
        ..NOTHING
    },
    MissingFeature {
        what: "profiling over HTTP",
        instead: "use perf on the process",
        numbers: &["profile"],
        ..NOTHING
    },
    MissingFeature {
        what: "a help text on TLS alone",
        instead: "see the flags under TLS in weirlog --help",
        switches: &["help_tls"],
        ..NOTHING
    },
    MissingFeature {
        what: "routes to other NATS servers",
        instead: "let clients connect to this server",
        switches: &["no_advertise"],
        numbers: &["connect_retries"],
        texts: &["routes", "cluster", "cluster_name", "cluster_listen", "cluster_advertise"],
    },
    MissingFeature {
        what: "JetStream",
        instead: "use the channels of NATS Streaming",
        switches: &["js", "jetstream"],
        texts: &["sd", "store_dir"],
        ..NOTHING
    },
];

const NOTHING: MissingFeature =
    MissingFeature { what: "", instead: "", switches: &[], numbers: &[], texts: &[] };
