//! What subjects and patterns mean for each other, and the names that stand in subjects, in messages of other servers
//! and in what is kept with a client.

use bytes::Bytes;

use super::parts;
use crate::ids::CoreId;
use crate::interest::{RemoteInterest, RemoteMatches};
use crate::partition::Partition;
use crate::stan::about::About;
use crate::stan::subjects::{ServerInbox, Subjects};
use crate::subject::{
    channel_from_bytes, covers, is_literal, is_valid_channel, is_valid_channel_pattern,
    is_valid_pattern, is_valid_publish, matches, overlap,
};

/// Three patterns and a subject: the ways to compare them agree with each other, and with the index by which messages
/// find their subscribers.
pub(super) fn patterns(input: &[u8]) {
    let [one, two, three, subject] = parts(input);
    let all = [one, two, three];
    let patterns: Vec<&[u8]> = all.into_iter().filter(|it| is_valid_pattern(it)).collect();
    for outer in &patterns {
        assert!(covers(outer, outer) && overlap(outer, outer));
        for inner in &patterns {
            check_pair(outer, inner, subject);
        }
    }
    check_index(&patterns, subject);
}

fn check_pair(outer: &[u8], inner: &[u8], subject: &[u8]) {
    let (is_in_outer, is_in_inner) = (matches(outer, subject), matches(inner, subject));
    assert_eq!(overlap(outer, inner), overlap(inner, outer));
    assert!(!(is_in_outer && is_in_inner) || overlap(outer, inner));
    if covers(outer, inner) {
        assert!(overlap(outer, inner));
        assert!(!is_in_inner || is_in_outer);
    }
    if is_literal(inner) {
        assert!(is_valid_publish(inner));
        assert_eq!(matches(outer, inner), covers(outer, inner));
        assert_eq!(matches(outer, inner), overlap(outer, inner));
    }
}

/// Each pattern is one of another core.
fn check_index(patterns: &[&[u8]], subject: &[u8]) {
    let mut interest = RemoteInterest::default();
    let cores = || (0..).map(CoreId).zip(patterns);
    for (core, pattern) in cores() {
        interest.add(core, pattern, None);
    }
    let mut found = RemoteMatches::default();
    interest.matches(subject, &mut found);
    for (core, pattern) in cores() {
        assert_eq!(found.cores().contains(core), matches(pattern, subject));
        interest.remove(core, pattern, None);
    }
    assert_eq!(interest.patterns_count(), 0);
}

/// The input as each kind of name.
pub(super) fn names(input: &[u8]) {
    if let Some(inbox) = ServerInbox::parse(input) {
        assert_eq!(inbox.to_subject().as_bytes(), input);
    }
    let subjects = Subjects::new("cluster", "_STAN.discover", true);
    if let Some(channel) = subjects.channel_of(input) {
        assert!(input.ends_with(channel) && subjects.service(input).is_none());
    }
    if let Some(channel) = channel_from_bytes(input) {
        assert!(is_valid_channel(channel) && is_valid_channel_pattern(channel));
        assert!(is_valid_publish(input));
    }
    let all = Partition::new(vec![">".to_owned()]);
    if let Some(name) = all.conflict(input) {
        assert!(is_valid_channel_pattern(name));
    }
    let input = Bytes::copy_from_slice(input);
    if let Some(about) = About::parse(&input) {
        assert_eq!(about.to_bytes(), input);
    }
}
