//! The values of flags: text -> typed value, as Go's `flag` package, `time.ParseDuration` and NATS configuration
//! files read them.
//!
//! Promise: no input panics, and what cannot be represented is refused, never clipped. Nothing here knows the name of
//! the flag: whoever asked adds it to a [`ValueError`].

use std::time::Duration;

use weirlog_net::sim::{FaultKinds, Script};

use super::options::StoreKind;
pub(crate) use super::value_error::ValueError;

/// The port of NATS and of `-p 0`.
pub(super) const PORT_DEFAULT: u16 = 4222;
/// Shards a store can have; ours to choose, since a shard's number is a small integer on disk and each costs memory.
pub(super) const SHARDS_MAX: u64 = 64;
/// Cores asked for by hand: far above any machine, low enough that a slip of the finger is caught.
const CORES_MAX: u64 = 1024;
/// The largest message a connection may announce: what nats-server allows to be waiting for one client.
const PAYLOAD_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Decimals of a duration beyond this many are below a nanosecond in every unit.
const FRACTION_DIGITS_MAX: usize = 18;

/// A switch, in Go's spellings.
pub(super) fn switch(text: &str) -> Result<bool, ValueError> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(ValueError::NotASwitch),
    }
}

/// An integer as a Go literal: decimal, `0x`, `0o` (or a leading 0), `0b`, `_` between digits.
pub(super) fn integer(text: &str) -> Result<i128, ValueError> {
    let (is_negative, unsigned) = split_sign(text);
    let (radix, digits) = split_radix(unsigned);
    let is_well_separated =
        !digits.starts_with('_') && !digits.ends_with('_') && !digits.contains("__");
    if digits.is_empty() || !is_well_separated {
        return Err(ValueError::NotANumber);
    }
    let mut value: i128 = 0;
    for digit in digits.chars().filter(|&c| c != '_') {
        let digit = digit.to_digit(radix).ok_or(ValueError::NotANumber)?;
        value = value * i128::from(radix) + i128::from(digit);
        if value > i128::from(u64::MAX) {
            return Err(ValueError::TooLarge);
        }
    }
    Ok(if is_negative { -value } else { value })
}

/// A limit: 0 is unlimited. The upper bound is that of the reference's signed integers.
pub(super) fn limit_count(text: &str) -> Result<u64, ValueError> {
    limit(integer(text)?)
}

/// A limit in bytes.
pub(super) fn limit_bytes(text: &str) -> Result<u64, ValueError> {
    limit(size_bytes(text)?)
}

/// A limit in milliseconds from a Go duration, rounded up: what is above 0 must not become unlimited.
pub(super) fn limit_ms(text: &str) -> Result<u64, ValueError> {
    let nanoseconds = limit(duration_ns(text)?)?;
    Ok(nanoseconds.div_ceil(1_000_000))
}

fn limit(value: i128) -> Result<u64, ValueError> {
    if value < 0 {
        return Err(ValueError::NegativeLimit);
    }
    i64::try_from(value).map(i64::unsigned_abs).map_err(|_| ValueError::TooLarge)
}

/// A time that must pass, above 0.
pub(super) fn positive_duration(text: &str) -> Result<Duration, ValueError> {
    match u64::try_from(duration_ns(text)?) {
        Ok(0) | Err(_) => Err(ValueError::NotPositive),
        Ok(nanoseconds) => Ok(Duration::from_nanos(nanoseconds)),
    }
}

/// How often something may fail.
pub(super) fn failure_count(text: &str) -> Result<u32, ValueError> {
    u32::try_from(limit_count(text)?).map_err(|_| ValueError::TooLarge)
}

/// A port: -1 asks the system for a free one, 0 is the default port as in the reference.
pub(super) fn port(text: &str) -> Result<Option<u16>, ValueError> {
    match integer(text)? {
        -1 => Ok(None),
        0 => Ok(Some(PORT_DEFAULT)),
        value => u16::try_from(value)
            .map(Some)
            .map_err(|_| ValueError::OutOfRange { min: 1, max: u64::from(u16::MAX) }),
    }
}

/// A number of shards.
pub(super) fn shard_count(text: &str) -> Result<u16, ValueError> {
    let count = in_range(integer(text)?, 1, SHARDS_MAX)?;
    Ok(u16::try_from(count).expect("SHARDS_MAX fits"))
}

/// A number of cores.
pub(super) fn core_count(text: &str) -> Result<usize, ValueError> {
    let count = in_range(integer(text)?, 1, CORES_MAX)?;
    Ok(usize::try_from(count).expect("CORES_MAX fits"))
}

/// The largest message.
pub(super) fn payload_bytes(text: &str) -> Result<usize, ValueError> {
    let bytes = in_range(size_bytes(text)?, 1, PAYLOAD_BYTES_MAX)?;
    Ok(usize::try_from(bytes).expect("PAYLOAD_BYTES_MAX fits"))
}

/// An unsigned number: a seed, or how many.
pub(super) fn unsigned(text: &str) -> Result<u64, ValueError> {
    in_range(integer(text)?, 0, u64::MAX)
}

/// How many, at least one.
pub(super) fn at_least_one(text: &str) -> Result<u64, ValueError> {
    in_range(integer(text)?, 1, u64::MAX)
}

/// All kinds of the simulator's faults but these, with commas between them.
pub(super) fn faults_without(text: &str) -> Result<FaultKinds, ValueError> {
    text.split(',').try_fold(FaultKinds::all(), |faults, name| {
        let kind = name.trim().parse().map_err(|_| ValueError::UnknownFault)?;
        Ok(faults.without(kind))
    })
}

/// What is done of a simulated run.
pub(super) fn script(text: &str) -> Result<Script, ValueError> {
    text.parse().map_err(|_| ValueError::UnknownDeed)
}

pub(super) fn in_range(value: i128, min: u64, max: u64) -> Result<u64, ValueError> {
    u64::try_from(value)
        .ok()
        .filter(|value| (min..=max).contains(value))
        .ok_or(ValueError::OutOfRange { min, max })
}

/// The kind of store, in any case.
pub(super) fn store_kind(text: &str) -> Result<StoreKind, ValueError> {
    match text.to_ascii_lowercase().as_str() {
        "file" => Ok(StoreKind::File),
        "memory" => Ok(StoreKind::Memory),
        "sql" => Err(ValueError::SqlStore),
        _ => Err(ValueError::UnknownStore),
    }
}

/// A cluster ID: it ends up inside subjects, where a blank would end the subject and a wildcard match others.
pub(super) fn subject_part(text: &str) -> Result<String, ValueError> {
    let is_token = |token: &str| {
        !token.is_empty()
            && !token.contains(|c: char| c.is_whitespace() || c.is_control() || "*>".contains(c))
    };
    if text.split('.').all(is_token) {
        Ok(text.to_owned())
    } else {
        Err(ValueError::NotASubjectPart)
    }
}

/// A name to show: the server's, or a host's.
pub(super) fn name(text: &str) -> Result<String, ValueError> {
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(ValueError::NotAName);
    }
    Ok(text.to_owned())
}

/// A host to listen on; the brackets of an IPv6 address are taken off.
pub(super) fn host(text: &str) -> Result<String, ValueError> {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    name(inner.unwrap_or(text))
}

/// A size in bytes: digits and a suffix in any case. As in NATS configuration files `k` is 1000 and `kb` 1024.
pub(super) fn size_bytes(text: &str) -> Result<i128, ValueError> {
    let (is_negative, unsigned) = split_sign(text);
    let suffix_start = unsigned.find(|c: char| !c.is_ascii_digit()).unwrap_or(unsigned.len());
    let (digits, suffix) = unsigned.split_at(suffix_start);
    if digits.is_empty() {
        return Err(ValueError::NotASize);
    }
    let unit = size_unit(suffix).ok_or(ValueError::NotASize)?;
    let value = digits.parse::<i128>().ok().and_then(|count| count.checked_mul(unit));
    let value = value.filter(|&value| value <= i128::from(i64::MAX)).ok_or(ValueError::TooLarge)?;
    Ok(if is_negative { -value } else { value })
}

fn size_unit(suffix: &str) -> Option<i128> {
    let suffix = suffix.to_ascii_lowercase();
    let Some(letter) = suffix.chars().next() else { return Some(1) };
    let power = u32::try_from("kmgtpe".find(letter)?).ok()? + 1;
    match &suffix[1..] {
        "" => Some(1000_i128.pow(power)),
        "b" | "i" | "ib" => Some(1024_i128.pow(power)),
        _ => None,
    }
}

/// A Go duration in nanoseconds: `1h30m`, `1.5h`, `-2s`, `0`; no unit may be left out but after a lone 0.
pub(super) fn duration_ns(text: &str) -> Result<i128, ValueError> {
    let (is_negative, mut rest) = split_sign(text);
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(ValueError::NotADuration);
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let (nanoseconds, after) = duration_term(rest)?;
        total += nanoseconds;
        if total > i128::from(i64::MAX) {
            return Err(ValueError::TooLarge);
        }
        rest = after;
    }
    Ok(if is_negative { -total } else { total })
}

/// The first `number unit` of a duration, in nanoseconds, and what follows it.
fn duration_term(text: &str) -> Result<(i128, &str), ValueError> {
    let (whole, rest) = split_digits(text);
    let (fraction, rest) = rest.strip_prefix('.').map_or(("", rest), split_digits);
    if whole.is_empty() && fraction.is_empty() {
        return Err(ValueError::NotADuration);
    }
    let unit_end = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_end);
    let unit_ns: i128 = match unit {
        "ns" => 1,
        // Both code points that look like a mu are in use.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return Err(ValueError::NotADuration),
    };
    let fraction = &fraction[..fraction.len().min(FRACTION_DIGITS_MAX)];
    let scale = fraction.chars().fold(1_i128, |scale, _| scale * 10);
    let nanoseconds = digits_value(whole)?
        .checked_mul(unit_ns)
        .and_then(|ns| ns.checked_add(digits_value(fraction).ok()? * unit_ns / scale))
        .filter(|&ns| ns <= i128::from(i64::MAX))
        .ok_or(ValueError::TooLarge)?;
    Ok((nanoseconds, rest))
}

fn digits_value(digits: &str) -> Result<i128, ValueError> {
    if digits.is_empty() { Ok(0) } else { digits.parse().map_err(|_| ValueError::TooLarge) }
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

fn split_sign(text: &str) -> (bool, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

fn split_radix(text: &str) -> (u32, &str) {
    for (prefix, radix) in [("0x", 16), ("0X", 16), ("0o", 8), ("0O", 8), ("0b", 2), ("0B", 2)] {
        if let Some(digits) = text.strip_prefix(prefix) {
            // Go allows one separator after the prefix.
            return (radix, digits.strip_prefix('_').unwrap_or(digits));
        }
    }
    if text.len() > 1 && text.starts_with('0') { (8, text) } else { (10, text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_go_literals() {
        let good = [
            ("0", 0),
            ("-0", 0),
            ("+7", 7),
            ("-12", -12),
            ("1_000_000", 1_000_000),
            ("0x1F", 31),
            ("0x_ff", 255),
            ("0b101", 5),
            ("0o17", 15),
            ("010", 8),
            ("18446744073709551615", i128::from(u64::MAX)),
        ];
        for (text, value) in good {
            assert_eq!(integer(text), Ok(value), "{text}");
        }
        for text in
            ["", "-", "+", "1.5", "1e3", "_1", "1_", "1__0", "0x", "09", "ten", " 1", "--1", "١"]
        {
            assert_eq!(integer(text), Err(ValueError::NotANumber), "{text}");
        }
        assert_eq!(integer("18446744073709551616"), Err(ValueError::TooLarge));
        assert_eq!(integer(&"9".repeat(500)), Err(ValueError::TooLarge));
    }

    #[test]
    fn sizes_have_two_families_of_suffixes() {
        let good = [
            ("0", 0),
            ("1048576", 1_048_576),
            ("1k", 1_000),
            ("1K", 1_000),
            ("1kb", 1_024),
            ("1Ki", 1_024),
            ("1KiB", 1_024),
            ("2m", 2_000_000),
            ("2MB", 2_097_152),
            ("1g", 1_000_000_000),
            ("1gib", 1 << 30),
            ("1t", 1_000_000_000_000),
            ("1tb", 1 << 40),
            ("1pb", 1 << 50),
            ("7eb", 7 << 60),
            ("-1kb", -1_024),
        ];
        for (text, value) in good {
            assert_eq!(size_bytes(text), Ok(value), "{text}");
        }
        for text in ["", "k", "1.5g", "1 k", "1kk", "1kbb", "1b", "1x", "1kµ", "µ", "-"] {
            assert_eq!(size_bytes(text), Err(ValueError::NotASize), "{text}");
        }
        for text in ["8eb", "9223372036854775808", "99999999999999999999999999999999999999999k"] {
            assert_eq!(size_bytes(text), Err(ValueError::TooLarge), "{text}");
        }
    }

    #[test]
    fn durations_are_those_of_go() {
        let good = [
            ("0", 0),
            ("-0", 0),
            ("0s", 0),
            ("1ns", 1),
            ("5us", 5_000),
            ("5\u{b5}s", 5_000),
            ("5\u{3bc}s", 5_000),
            ("100ms", 100_000_000),
            ("30s", 30_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("1h0m0.000000001s", 3_600_000_000_001),
            ("-2s", -2_000_000_000),
            ("+2s", 2_000_000_000),
            ("0.3333333333333333333333333h", 1_200_000_000_000 - 1),
        ];
        for (text, value) in good {
            assert_eq!(duration_ns(text), Ok(value), "{text}");
        }
        for text in [
            "", "-", "1", "s", ".s", ".", "1d", "1s ", "1 s", "1s2", "1S", "1..5s", "--1s", "1s-1s",
        ] {
            assert_eq!(duration_ns(text), Err(ValueError::NotADuration), "{text}");
        }
        let long = "9".repeat(100) + "s";
        for text in ["3000000h", long.as_str(), "2562047h48m"] {
            assert_eq!(duration_ns(text), Err(ValueError::TooLarge), "{text}");
        }
    }

    #[test]
    fn limits_round_up_and_refuse_what_is_negative() {
        assert_eq!(limit_ms("1ns"), Ok(1));
        assert_eq!(limit_ms("1500us"), Ok(2));
        assert_eq!(limit_ms("0"), Ok(0));
        assert_eq!(limit_ms("-1ms"), Err(ValueError::NegativeLimit));
        assert_eq!(limit_count("-1"), Err(ValueError::NegativeLimit));
        assert_eq!(limit_bytes("-1k"), Err(ValueError::NegativeLimit));
        assert_eq!(limit_count("9223372036854775808"), Err(ValueError::TooLarge));
        assert_eq!(positive_duration("1ms"), Ok(Duration::from_millis(1)));
        for text in ["0", "-1s"] {
            assert_eq!(positive_duration(text), Err(ValueError::NotPositive), "{text}");
        }
    }

    #[test]
    fn ranges_hold() {
        assert_eq!(port("-1"), Ok(None));
        assert_eq!(port("0"), Ok(Some(4222)));
        assert_eq!(port("65535"), Ok(Some(65535)));
        for text in ["65536", "-2"] {
            assert_eq!(port(text), Err(ValueError::OutOfRange { min: 1, max: 65535 }), "{text}");
        }
        assert_eq!(shard_count("64"), Ok(64));
        for text in ["0", "65", "-1"] {
            assert_eq!(
                shard_count(text),
                Err(ValueError::OutOfRange { min: 1, max: 64 }),
                "{text}"
            );
        }
        assert_eq!(payload_bytes("64mb"), Ok(64 << 20));
        assert!(payload_bytes("65mb").is_err());
        assert!(payload_bytes("0").is_err());
        assert!(core_count("0").is_err());
    }

    #[test]
    fn names_stay_in_one_word() {
        for text in ["test-cluster", "a.b", "ü"] {
            assert_eq!(subject_part(text).as_deref(), Ok(text));
        }
        for text in ["", ".", "a.", "a b", "a\r\n", "a.*", ">", "a\tb"] {
            assert_eq!(subject_part(text), Err(ValueError::NotASubjectPart), "{text:?}");
        }
        assert_eq!(host("[::1]").as_deref(), Ok("::1"));
        assert_eq!(host("localhost").as_deref(), Ok("localhost"));
        for text in ["", "a b", "[]"] {
            assert_eq!(host(text), Err(ValueError::NotAName), "{text:?}");
        }
    }
}
