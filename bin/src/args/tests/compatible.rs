//! Flags of the reference that do nothing here: those without effect and those that are refused.

use super::*;

/// Every flag without effect, with a value and why it is moot.
pub(super) const MOOT: [(&str, &str); 20] = [
    ("file_compact_enabled=false", "segments are cleaned in the background"),
    ("file_compact_frag=50", "segments are cleaned in the background"),
    ("file_compact_interval=300", "segments are cleaned in the background"),
    ("file_compact_min_size=1mb", "segments are cleaned in the background"),
    ("file_buffer_size=2mb", "batches are written as they are, without a buffer"),
    ("file_crc=false", "each record is always checked"),
    ("file_crc_poly=3988292384", "checksums are always CRC-32C"),
    ("file_sync=false", "every acknowledgement waits for the disk"),
    ("file_slice_max_msgs=1", "segments have a size of their own"),
    ("file_slice_max_bytes=64mb", "segments have a size of their own"),
    ("file_slice_max_age=1h", "segments have a size of their own"),
    ("file_slice_archive_script=/bin/true", "no script is run and nothing is archived"),
    ("file_fds_limit=100", "open files do not grow with the channels"),
    ("file_parallel_recovery=4", "shards always recover side by side"),
    ("file_truncate_bad_eof", "a torn end of the log is always cut off"),
    ("file_read_buffer_size=2mb", "reads are as long as what is asked for"),
    ("file_auto_sync=1m", "every acknowledgement waits for the disk"),
    ("syslog_name=x", "it names a source of the Windows event log"),
    ("io_batch_size=1024", "batches follow the load"),
    ("io_sleep_time=0", "batches follow the load"),
];

#[test]
fn moot_flags_give_one_warning_each() {
    let plain = Command::Serve(options(&[]));
    for (flag, reason) in MOOT {
        let name = flag.split('=').next().unwrap();
        for dashes in ["-", "--"] {
            let line = format!("{dashes}{flag}");
            let parsed = parse(words(&[&line, &line])).unwrap();
            assert_eq!(parsed.command, plain, "{line}");
            assert_eq!(parsed.warnings, [format!("-{name} has no effect: {reason}")], "{line}");
        }
    }
    let both = parse(words(&["--file_sync=false", "-io_batch_size", "5"])).unwrap();
    assert_eq!(both.warnings.len(), 2);
    // What is done anyway needs no warning.
    assert_eq!(options(&["-file_sync", "--file_crc=true"]), options(&[]));
    // Their values are checked all the same.
    check_error(&["-file_sync=no"], "-file_sync: a switch is true or false: \"no\"");
    check_error(&["-io_batch_size", "x"], "-io_batch_size: not a whole number: \"x\"");
    check_error(&["-file_crc_poly"], "-file_crc_poly: a value must follow (see weirlog --help)");
}

/// Every refused flag, by what its error says is missing, and its value that asks for nothing.
pub(super) const REFUSED: [(&str, &str); 8] = [
    (
        "clustering",
        "clustered=false cluster_node_id= cluster_bootstrap=false cluster_peers= cluster_log_path= \
         cluster_log_cache_size=0 cluster_log_snapshots=0 cluster_trailing_logs=0 cluster_sync=false \
         cluster_raft_logging=false cluster_proceed_on_restore_failure=false \
         cluster_allow_add_remove_node=false",
    ),
    ("fault tolerance groups", "ft_group="),
    (
        "SQL stores",
        "sql_driver= sql_source= sql_no_caching=false sql_max_open_conns=0 sql_bulk_insert_limit=0",
    ),
    ("encryption at rest", "encrypt=false encryption_cipher= encryption_key="),
    ("profiling over HTTP", "profile=0"),
    ("a help text on TLS alone", "help_tls=false"),
    (
        "routes to other NATS servers",
        "routes= cluster= cluster_name= cluster_listen= cluster_advertise= no_advertise=false \
         connect_retries=0",
    ),
    ("JetStream", "js=false jetstream=false sd= store_dir="),
];

#[test]
fn refused_flags_say_what_is_missing_and_never_their_value() {
    for (what, flags) in REFUSED {
        for flag in flags.split_whitespace() {
            let (name, nothing) = flag.split_once('=').unwrap();
            let start = format!("-{name}: not available yet: {what}; ");
            for dashes in ["-", "--"] {
                let typed = format!("{dashes}{name}");
                let is_switch = nothing == "false";
                let text = if is_switch { error(&[&typed]) } else { error(&[&typed, "53cret"]) };
                assert!(text.starts_with(&start), "{text}");
                assert!(text.len() > start.len(), "{text} does not say what to do instead");
                assert!(!text.contains("53cret"), "{text}");
                // Asking for nothing is fine.
                assert_eq!(options(&[&format!("{dashes}{flag}")]), options(&[]), "{flag}");
            }
        }
    }
    check_error(&["-clustered"], "-clustered: not available yet: clustering; run one server");
    check_error(&["-tls=maybe"], "-tls: a switch is true or false: \"maybe\"");
}
