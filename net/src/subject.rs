//! Subjects and names: what is valid, and which pattern matches which subject.
//!
//! A subject is tokens joined by dots, opaque bytes otherwise. In a pattern the token `*` stands for
//! one token and the last token `>` for one or more. Only a whole token is a wildcard: `a.*b` and
//! `a>b` are literal. A subject that messages are published to may look like a pattern; it is
//! compared token by token all the same, and one with an empty token matches nothing.
//!
//! Channel names are stricter than the reference's: they must be text without spaces and control
//! characters, and of limited length, since they stand in logs, in HTTP answers and in records.

/// Bytes of a channel's name at most: what the reference could store, as file names end there.
pub const CHANNEL_NAME_SIZE_MAX: usize = 255;

/// The tokens of a subject; an empty subject has one empty token.
pub fn tokens(subject: &[u8]) -> impl Iterator<Item = &[u8]> {
    subject.split(|byte| *byte == b'.')
}

/// Whether any token is empty, the whole subject included.
#[must_use]
pub fn has_empty_token(subject: &[u8]) -> bool {
    let mut previous = b'.';
    for byte in subject {
        if *byte == b'.' && previous == b'.' {
            return true;
        }
        previous = *byte;
    }
    previous == b'.'
}

/// Whether no token is a wildcard.
#[must_use]
pub fn is_literal(pattern: &[u8]) -> bool {
    // Most subjects hold neither byte, and need no look at their tokens.
    !pattern.iter().any(|byte| matches!(byte, b'*' | b'>')) || !tokens(pattern).any(is_wildcard)
}

/// Whether `pattern` may be subscribed to: no empty token, no blank, and `>` only at the end.
#[must_use]
pub fn is_valid_pattern(pattern: &[u8]) -> bool {
    if has_empty_token(pattern) || pattern.iter().any(is_blank) {
        return false;
    }
    let mut is_after_tail = false;
    for token in tokens(pattern) {
        if is_after_tail {
            return false;
        }
        is_after_tail = token == b">";
    }
    true
}

/// Whether a pedantic client may publish to `subject`: no empty token, no blank and no wildcard.
#[must_use]
pub fn is_valid_publish(subject: &[u8]) -> bool {
    !has_empty_token(subject) && !subject.iter().any(is_blank) && is_literal(subject)
}

/// Whether a message to `subject` goes to who subscribed to the valid `pattern`.
#[must_use]
pub fn matches(pattern: &[u8], subject: &[u8]) -> bool {
    if has_empty_token(subject) {
        return false;
    }
    let mut subject_tokens = tokens(subject);
    for wanted in tokens(pattern) {
        match subject_tokens.next() {
            Some(_) if wanted == b">" => return true,
            Some(token) if wanted == b"*" || wanted == token => {}
            _ => return false,
        }
    }
    subject_tokens.next().is_none()
}

/// Whether `name` may be a channel's: a literal subject that is safe to show and to store.
#[must_use]
pub fn is_valid_channel(name: &str) -> bool {
    is_channel_text(name) && !name.bytes().any(|byte| matches!(byte, b'*' | b'>'))
}

/// The channel's name these bytes are, if they are a valid one.
#[must_use]
pub fn channel_from_bytes(bytes: &[u8]) -> Option<&str> {
    // Before the look at every byte: a peer may send a long one.
    if bytes.len() > CHANNEL_NAME_SIZE_MAX {
        return None;
    }
    std::str::from_utf8(bytes).ok().filter(|name| is_valid_channel(name))
}

/// Whether `pattern` may name channels in the configuration: as a channel, but a whole token may be
/// a wildcard, and the last `>`.
#[must_use]
pub fn is_valid_channel_pattern(pattern: &str) -> bool {
    let has_wildcard_byte = |token: &[u8]| token.iter().any(|byte| matches!(byte, b'*' | b'>'));
    is_channel_text(pattern)
        && is_valid_pattern(pattern.as_bytes())
        && tokens(pattern.as_bytes()).all(|token| is_wildcard(token) || !has_wildcard_byte(token))
}

/// Whether all subjects that match the valid pattern `inner` match the valid pattern `outer` too.
#[must_use]
pub fn covers(outer: &[u8], inner: &[u8]) -> bool {
    let mut inner_tokens = tokens(inner);
    for wanted in tokens(outer) {
        match inner_tokens.next() {
            Some(_) if wanted == b">" => return true,
            Some(token) if wanted == token || (wanted == b"*" && token != b">") => {}
            _ => return false,
        }
    }
    inner_tokens.next().is_none()
}

/// Whether there is a subject that matches both valid patterns.
#[must_use]
pub fn overlap(one: &[u8], other: &[u8]) -> bool {
    let (mut one, mut other) = (tokens(one), tokens(other));
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (None, _) | (_, None) => return false,
            (Some(b">"), _) | (_, Some(b">")) => return true,
            (Some(left), Some(right)) if left == right || left == b"*" || right == b"*" => {}
            _ => return false,
        }
    }
}

/// Whether `id` may be a client's: `^[a-zA-Z0-9_-]+$`, of any length.
#[must_use]
pub fn is_valid_client_id(id: &str) -> bool {
    !id.is_empty()
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// What channel names and patterns of them have in common.
fn is_channel_text(name: &str) -> bool {
    if name.len() > CHANNEL_NAME_SIZE_MAX || has_empty_token(name.as_bytes()) {
        return false;
    }
    // One pass over the bytes; only a name beyond ASCII is looked at by characters.
    let is_plain = |byte: u8| byte > b' ' && byte != 0x7f && byte != b'/';
    name.bytes().all(is_plain)
        && (name.is_ascii()
            || !name.chars().any(|letter| letter.is_control() || letter.is_whitespace()))
}

fn is_wildcard(token: &[u8]) -> bool {
    matches!(token, b"*" | b">")
}

fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0x0c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for valid in ["a", "a.b", "*", ">", "a.*", "a.>", "*.*.>", "a.*b", "a>b", "a.>b.c", "\u{7}"]
        {
            assert!(is_valid_pattern(valid.as_bytes()), "{valid:?}");
        }
        for invalid in ["", ".", ".a", "a.", "a..b", "..", ">.a", "a.>.b", ">.>", "a b", "a\tb"] {
            assert!(!is_valid_pattern(invalid.as_bytes()), "{invalid:?}");
        }
        for blank in [b"a\r", b"a\n", b"a\x0c"] {
            assert!(!is_valid_pattern(blank));
        }
        assert!(is_valid_pattern(b"\xff.\xfe"));
    }

    #[test]
    fn literals() {
        for literal in ["a", "a.b", "a.*b", "a>b", "**", ">>", "a..b", ""] {
            assert!(is_literal(literal.as_bytes()), "{literal:?}");
        }
        for pattern in ["*", ">", "a.*", "*.a", "a.*.b", "a.>"] {
            assert!(!is_literal(pattern.as_bytes()), "{pattern:?}");
        }
    }

    #[test]
    fn pedantic_publish() {
        for valid in ["a", "a.b", "a.*b", "a>b"] {
            assert!(is_valid_publish(valid.as_bytes()), "{valid:?}");
        }
        for invalid in ["", "a.", ".a", "a..b", "a.*", ">", "*", "a b", ">.a"] {
            assert!(!is_valid_publish(invalid.as_bytes()), "{invalid:?}");
        }
    }

    #[test]
    fn matching() {
        for (pattern, subject) in [
            ("a", "a"),
            ("a.b", "a.b"),
            ("*", "a"),
            ("*.b", "a.b"),
            ("a.*", "a.b"),
            (">", "a"),
            (">", "a.b.c"),
            ("a.>", "a.b"),
            ("a.>", "a.b.c"),
            ("a.*.>", "a.b.c"),
            ("a.*b", "a.*b"),
            ("a>b", "a>b"),
            // Published to literally.
            ("a.*", "a.*"),
            (">", ">"),
            ("*", ">"),
            ("a.>", "a.>"),
        ] {
            assert!(matches(pattern.as_bytes(), subject.as_bytes()), "{pattern} {subject}");
        }
        for (pattern, subject) in [
            ("a", "b"),
            ("a", "A"),
            ("a", "a.b"),
            ("a.b", "a"),
            ("*", "a.b"),
            ("a.*", "a"),
            ("a.>", "a"),
            ("a.*.>", "a.b"),
            ("a.b", "a.*"),
            ("a.b", "a.>"),
            ("a.*b", "a.cb"),
            ("a>b", "a.b"),
            (">", "a..b"),
            (">", ""),
            (">", ".a"),
            ("a.>", "a."),
            ("*", ""),
        ] {
            assert!(!matches(pattern.as_bytes(), subject.as_bytes()), "{pattern} {subject}");
        }
    }

    #[test]
    fn patterns_within_and_across_patterns() {
        for (outer, inner) in [("a.*", "a.b"), ("a.*", "a.*"), (">", "a.>"), ("a.>", "a.*.b")] {
            assert!(covers(outer.as_bytes(), inner.as_bytes()), "{outer} {inner}");
        }
        for (outer, inner) in [("a.*", "a.>"), ("*", ">"), ("a.b", "a.*"), ("a.>", "a"), ("a", ">")]
        {
            assert!(!covers(outer.as_bytes(), inner.as_bytes()), "{outer} {inner}");
        }
        for (one, other) in [("a.*", "*.b"), (">", "a"), ("a.>", "*.b.c"), ("a", "a"), ("*", "*")] {
            assert!(overlap(one.as_bytes(), other.as_bytes()), "{one} {other}");
            assert!(overlap(other.as_bytes(), one.as_bytes()), "{other} {one}");
        }
        for (one, other) in [("a.*", "b.*"), ("a.>", "a"), ("a", "a.b"), ("*", "a.b")] {
            assert!(!overlap(one.as_bytes(), other.as_bytes()), "{one} {other}");
            assert!(!overlap(other.as_bytes(), one.as_bytes()), "{other} {one}");
        }
    }

    #[test]
    fn channels() {
        let longest = "a".repeat(255);
        for valid in ["foo", "foo.bar", "a-b_c", "lost+found", "ä.ö", "a\\b", "a:b", &longest] {
            assert!(is_valid_channel(valid), "{valid:?}");
            assert!(is_valid_channel_pattern(valid), "{valid:?}");
            assert_eq!(channel_from_bytes(valid.as_bytes()), Some(valid));
        }
        let too_long = "a".repeat(256);
        let wide = "ä".repeat(128);
        for invalid in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a.",
            "/",
            "a/b",
            "..\\",
            "a b",
            " a",
            "a\r\nb",
            "a\0",
            "\x7f",
            "a\u{85}b",
            "a\u{a0}b",
            "a\u{2028}",
            "a\u{3000}b",
            &too_long,
            &wide,
        ] {
            assert!(!is_valid_channel(invalid), "{invalid:?}");
            assert!(!is_valid_channel_pattern(invalid), "{invalid:?}");
            assert_eq!(channel_from_bytes(invalid.as_bytes()), None);
        }
        for wildcard in ["*", ">", "a.*", "a.>", "a*", "a.b>"] {
            assert!(!is_valid_channel(wildcard), "{wildcard:?}");
        }
        assert_eq!(channel_from_bytes(b"a\xff"), None);
    }

    #[test]
    fn channel_patterns() {
        for valid in ["*", ">", "a.*", "a.>", "*.b.>"] {
            assert!(is_valid_channel_pattern(valid), "{valid:?}");
        }
        for invalid in ["a*", "a.b>", ">.a", "a.>.b", "a.*b", "* "] {
            assert!(!is_valid_channel_pattern(invalid), "{invalid:?}");
        }
    }

    #[test]
    fn client_ids() {
        for valid in ["a", "me-1_B", &"x".repeat(1000)] {
            assert!(is_valid_client_id(valid), "{valid:?}");
        }
        for invalid in ["", "a.b", "a b", "a:", "ä", "a\n", "a/b", "*"] {
            assert!(!is_valid_client_id(invalid), "{invalid:?}");
        }
    }
}
