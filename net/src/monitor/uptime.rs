//! Durations as the reference shows them.

use std::time::Duration;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const YEAR: u64 = 365 * DAY;

/// `1y2d3h4m5s`, from the greatest part that is not 0.
pub(crate) fn uptime(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let parts = [
        (YEAR, u64::MAX, 'y'),
        (DAY, YEAR, 'd'),
        (HOUR, DAY, 'h'),
        (MINUTE, HOUR, 'm'),
        (1, MINUTE, 's'),
    ];
    let mut text = String::new();
    for (unit, above, letter) in parts {
        if seconds >= unit || unit == 1 {
            text.push_str(&format!("{}{letter}", seconds % above / unit));
        }
    }
    text
}

/// As Go prints it, in the largest of its units that is not below 1: `136µs`, `1.5ms`.
pub(crate) fn go_duration(nanoseconds: u64) -> String {
    let (unit, name) = match nanoseconds {
        0 => return "0s".to_owned(),
        1..1_000 => (1, "ns"),
        1_000..1_000_000 => (1_000, "µs"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        // A round trip of a minute is shown in seconds too: there is none.
        _ => (1_000_000_000, "s"),
    };
    let rest = format!("{:09}", nanoseconds % unit * (1_000_000_000 / unit));
    let rest = rest.trim_end_matches('0');
    let dot = if rest.is_empty() { "" } else { "." };
    format!("{}{dot}{rest}{name}", nanoseconds / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptimes_are_those_of_the_reference() {
        let shown = |seconds| uptime(Duration::from_secs(seconds));
        assert_eq!(shown(0), "0s");
        assert_eq!(shown(59), "59s");
        assert_eq!(shown(60), "1m0s");
        assert_eq!(shown(3_600), "1h0m0s");
        assert_eq!(shown(90_061), "1d1h1m1s");
        assert_eq!(shown(2 * YEAR + DAY + 1), "2y1d0h0m1s");
    }

    #[test]
    fn durations_are_those_of_go() {
        let cases = [
            (0, "0s"),
            (17, "17ns"),
            (136_000, "136µs"),
            (1_500_000, "1.5ms"),
            (1_000_050, "1.00005ms"),
            (2_000_000_000, "2s"),
            (2_250_000_000, "2.25s"),
        ];
        for (nanoseconds, text) in cases {
            assert_eq!(go_duration(nanoseconds), text);
        }
    }
}
