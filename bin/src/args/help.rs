//! The text of `--help`, made from the same tables as the parser, so that neither can know a flag the other does not.

use std::fmt::Write as _;

use clap::CommandFactory;

use super::bench::BenchOptions;
use super::compatible::{MISSING_FEATURES, MOOT_FLAGS, MissingFeature};
use super::flags::{ServeFlags, SimFlags, StoreFlags};
use super::go_style;

/// No line is longer.
const WIDTH_MAX: usize = 100;
/// A blank at which no line breaks.
const FIRM_BLANK: &str = "\u{a0}";
/// Where the explanation of a flag starts.
const TEXT_COLUMN: usize = 34;

const HEAD: &str = "
Usage: weirlog [serve] [flags]     run the server
       weirlog sim [flags]         run the server in a simulator, see weirlog sim --help
       weirlog bench [flags]       put a server under load, see weirlog bench --help
       weirlog verify DIRECTORY    read a store that no server has open and tell what is damaged
       weirlog repair DIRECTORY NEW    copy what is left of a damaged store to a new one

Flags are those of nats-streaming-server. One dash or two are the same, and so are -cid x and
-cid=x; a switch is -x, -x=true or -x=false. Durations: 100ms, 30s, 1m30s, 1.5h, 0. Sizes: 1048576,
64kb, 1mb (1024 to the kb; 1000 to the k).

SIGHUP reads the configuration files again; SIGTERM stops the server.

Unlike nats-streaming-server, which keeps messages in memory unless told otherwise, the store is
`file` by default, and an acknowledgement means that the message is on disk.
";

const VERIFY_HEAD: &str = "\
Usage: weirlog verify DIRECTORY     read a store that no server has open, and change nothing

Each record is read and checked. A line tells each damage, with the channel and the messages that
are lost by it, if any are: a server leaves them out and serves the rest. The last line counts. The
exit code is 1 if anything is not as it was written.

Flags:
";

const REPAIR_HEAD: &str = "\
Usage: weirlog repair DIRECTORY NEW     copy what can be read of a store to the directory NEW

No server may have the store open; nothing in it is changed, and NEW must not be there. The copy has
the same channels, sequences, times, clients and positions. What is damaged is told as by weirlog
verify; messages that are lost leave gaps in the copy, which nobody misses there any more. Needs as
much room again as the store takes. The exit code is 0 when NEW is there, whatever was lost.

Flags:
";

/// The whole help of the server.
#[must_use]
pub(crate) fn serve_help() -> String {
    let mut text = super::version_line();
    text.push_str(": a persistent-log server for NATS Streaming and NATS clients\n");
    text.push_str(HEAD);
    write_flags(&mut text, &ServeFlags::command());
    write_moot(&mut text);
    write_missing(&mut text);
    text
}

/// The help of the simulator.
#[must_use]
pub(crate) fn sim_help() -> String {
    command_help("Usage: weirlog sim [flags]\n\nFlags:\n", &SimFlags::command())
}

/// The help of the load.
#[must_use]
pub(crate) fn bench_help() -> String {
    let head =
        "Usage: weirlog bench [flags]     put a NATS Streaming server under load\n\nFlags:\n";
    command_help(head, &BenchOptions::command())
}

/// The help of the look at a store.
#[must_use]
pub(crate) fn verify_help() -> String {
    command_help(VERIFY_HEAD, &StoreFlags::command())
}

/// The help of the copy of what is left.
#[must_use]
pub(crate) fn repair_help() -> String {
    command_help(REPAIR_HEAD, &StoreFlags::command())
}

fn command_help(head: &str, command: &clap::Command) -> String {
    let mut text = String::from(head);
    write_flags(&mut text, command);
    text
}

/// The flags of `command` under their headings.
fn write_flags(text: &mut String, command: &clap::Command) {
    let mut heading = None;
    for argument in command.get_arguments() {
        if argument.get_help_heading() != heading {
            heading = argument.get_help_heading();
            let _ = write!(text, "\n{}:\n", heading.unwrap_or("Flags"));
        }
        write_entry(text, &spellings(argument), &explanation(argument));
    }
}

/// `-cid, -cluster_id ID`: the short names first.
fn spellings(argument: &clap::Arg) -> String {
    let mut names = argument.get_long_and_visible_aliases().unwrap_or_default();
    names.sort_by_key(|name| name.len());
    let mut line = format!("-{}", names.join(", -"));
    if let Some([value, ..]) = argument.get_value_names().filter(|_| !go_style::is_switch(argument))
    {
        let _ = write!(line, " {value}");
    }
    line
}

/// The flag's text, and its default where that is not a plain "no".
fn explanation(argument: &clap::Arg) -> String {
    let mut line = argument.get_help().map(ToString::to_string).unwrap_or_default();
    if let Some(default) =
        argument.get_default_values().first().filter(|value| *value != "false" && !value.is_empty())
    {
        let _ = write!(line, " [default: {}]", default.to_string_lossy());
    }
    match line.split_once(" [") {
        Some((words, default)) => format!("{words} [{}", default.replace(' ', FIRM_BLANK)),
        None => line,
    }
}

fn write_moot(text: &mut String) {
    text.push_str("\nAccepted for compatibility (no effect, a warning says why):\n");
    for flag in &MOOT_FLAGS {
        write_entry(text, &format!("-{}", flag.name), flag.reason);
    }
}

fn write_missing(text: &mut String) {
    text.push_str("\nNot available yet (refused):\n");
    for MissingFeature { what, instead, switches, numbers, texts } in &MISSING_FEATURES {
        let _ = writeln!(text, "  {what}: {instead}");
        let names = [*texts, *switches, *numbers].concat();
        write_wrapped(text, 6, &format!("-{}", names.join(", -")));
    }
}

/// A flag on the left, its explanation on the right or below.
fn write_entry(text: &mut String, left: &str, right: &str) {
    let _ = write!(text, "  {left}");
    if left.len() + 4 > TEXT_COLUMN {
        text.push('\n');
    } else {
        text.extend(std::iter::repeat_n(' ', TEXT_COLUMN - 2 - left.len()));
    }
    let start = text.len();
    write_wrapped(text, TEXT_COLUMN, right);
    if left.len() + 4 <= TEXT_COLUMN {
        // The first line's indent is already there: the flag stands in it.
        text.replace_range(start..start + TEXT_COLUMN, "");
    }
}

/// Words in lines of at most [`WIDTH_MAX`], each with the same indent.
fn write_wrapped(text: &mut String, indent: usize, words: &str) {
    let mut width = 0;
    for word in words.split(' ') {
        let word_width = word.chars().count();
        if width == 0 || width + 1 + word_width > WIDTH_MAX {
            if width > 0 {
                text.push('\n');
            }
            text.extend(std::iter::repeat_n(' ', indent));
            width = indent + word_width;
        } else {
            text.push(' ');
            width += 1 + word_width;
        }
        text.push_str(&word.replace(FIRM_BLANK, " "));
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_too_wide() {
        for line in [serve_help(), sim_help(), bench_help(), verify_help(), repair_help()]
            .iter()
            .flat_map(|text| text.lines())
        {
            assert!(line.chars().count() <= WIDTH_MAX, "{line}");
            assert_eq!(line, line.trim_end());
        }
    }

    #[test]
    fn fragments_are_as_agreed() {
        let help = serve_help();
        let golden = [
            "\nNATS Streaming options:\n  \
             -cid, -cluster_id ID            Cluster ID, part of all subjects; fixed when the store is made\n",
            "\nStorage:\n  \
             -st, -store KIND                Where messages are kept: file or memory (nats-streaming-server:\n",
            "  -dir DIRECTORY                  Root directory of the file store [default: ./weirlog-data]\n",
            "\nLimits (0 is unlimited):\n  \
             -mc, -max_channels COUNT        Channels [default: 100]\n",
            "  -ma, -max_age DURATION          How long a message is kept [default: 0s]\n",
            "\nHeartbeats:\n",
            "  -a, -net, -addr HOST            Address or host name to listen on [default: 0.0.0.0]\n",
            "  -p, -port PORT                  Port for clients; -1 picks a free one [default: 4222]\n",
            "  -n, -name, -server_name NAME    Name shown to clients [default: a random one]\n",
            "  -T, -logtime                    Start each line with the time [default: true]\n",
            "  -SDV                            Both of them\n",
            "the store is\n`file` by default",
            "\nAccepted for compatibility (no effect, a warning says why):\n",
            "  -file_sync                      every acknowledgement waits for the disk\n",
            "\nNot available yet (refused):\n  clustering: run one server\n      -cluster_node_id, ",
            "  -c, -config FILE                NATS configuration file, also for streaming if it is the only one;\n",
        ];
        for fragment in golden {
            assert!(help.contains(fragment), "{fragment:?} is not in:\n{help}");
        }
        assert!(sim_help().contains("  -seed NUMBER                    Run this seed only\n"));
    }
}
