//! What nats-server and nats-streaming-server answer, recorded, and what a core answers to the same: whole, and cut at
//! every byte.

use std::sync::Arc;

use weirlog_engine::types::ChannelLimits;

use super::auth::{rule, user};
use super::*;
use crate::auth::{Authorization, AuthorizationSpec, RuleSpec};

/// Core NATS; see its head.
const PLAIN: &str = include_str!("reference.txt");
/// A restricted user, and limits of a connection; see its head.
const GUARDED: &str = include_str!("guarded.txt");
/// Requests of NATS Streaming; see its head.
const STREAMING: &str = include_str!("streaming.txt");

/// One exchange over some connections.
struct Exchange {
    text: &'static str,
    /// The server's command line.
    arguments: &'static str,
    steps: Vec<Step>,
}

enum Step {
    Sent { name: char, bytes: Vec<u8> },
    Received { name: char, text: String },
    Closed { name: char },
}

fn exchanges(recorded: &'static str) -> Vec<Exchange> {
    recorded.trim_end().split("\n\n").skip(1).map(exchange).collect()
}

fn exchange(text: &'static str) -> Exchange {
    let (arguments, lines) = match text.strip_prefix("# weirlog ") {
        Some(rest) => rest.split_once('\n').unwrap(),
        None => ("", text),
    };
    Exchange { text, arguments, steps: lines.lines().map(step).collect() }
}

/// A server as an exchange wants it.
fn town_for(arguments: &str) -> Town {
    let words: Vec<&str> = arguments.split_whitespace().collect();
    let mut channels_max = NetConfig::default().channels_max;
    let mut limits = ChannelLimits::default();
    for pair in words.chunks(2) {
        match pair {
            ["-mc", count] => channels_max = count.parse().unwrap(),
            ["-msu", count] => limits.subscriptions_max = count.parse().unwrap(),
            _ => panic!("{arguments}"),
        }
    }
    Town::limited(1, limits, |net| net.channels_max = channels_max)
}

fn step(line: &str) -> Step {
    let mut letters = line.chars();
    let (name, kind) = (letters.next().unwrap(), letters.next().unwrap());
    let bytes = unescaped(letters.as_str().strip_prefix(' ').unwrap_or_default());
    match kind {
        '>' => Step::Sent { name, bytes },
        '<' => Step::Received { name, text: String::from_utf8_lossy(&bytes).into_owned() },
        '!' => Step::Closed { name },
        _ => panic!("{line}"),
    }
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let plain = match (byte, byte == b'\\') {
            (_, false) => byte,
            _ => match rest.next().unwrap() {
                b'r' => b'\r',
                b'n' => b'\n',
                b't' => b'\t',
                b'x' => {
                    let digits = [rest.next().unwrap(), rest.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                other => other,
            },
        };
        bytes.push(plain);
    }
    bytes
}

/// A connection as a reader keeps it: with the rest that was not taken.
struct Wire {
    peer: Peer,
    rest: Vec<u8>,
}

impl Wire {
    fn send(&mut self, town: &mut Town, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        let Intake { consumed, next } = town.offer(self.peer, &self.rest);
        assert_ne!(next, Next::Wait, "one core waits for nobody");
        self.rest.drain(..consumed);
        town.settle();
    }
}

/// Where an exchange is cut: in which step, before which byte.
type Cut = (usize, usize);

/// The other side of an exchange: what each connection got until something is sent again.
fn replay(town: &mut Town, exchange: &Exchange, cut: Option<Cut>) {
    let mut wires: Vec<(char, Wire)> = Vec::new();
    for (at, step) in exchange.steps.iter().enumerate() {
        let about = || format!("{}\nstep {at}, cut {cut:?}", exchange.text);
        match step {
            Step::Sent { name, bytes } => {
                // What was not recorded must not come either.
                for (name, wire) in &wires {
                    assert_eq!(town.heard(wire.peer), "", "{name} of {}", about());
                }
                if !wires.iter().any(|(known, _)| known == name) {
                    wires.push((*name, Wire { peer: town.join(0), rest: Vec::new() }));
                }
                let (_, wire) = wires.iter_mut().find(|(known, _)| known == name).unwrap();
                let end = cut.filter(|(step, _)| *step == at).map_or(bytes.len(), |(_, byte)| byte);
                let (head, tail) = bytes.split_at(end);
                wire.send(town, head);
                if !tail.is_empty() {
                    wire.send(town, tail);
                }
            }
            Step::Received { name, text } => {
                let (_, wire) = wires.iter().find(|(known, _)| known == name).unwrap();
                assert_eq!(without_names(&town.heard(wire.peer)), *text, "{}", about());
            }
            Step::Closed { name } => {
                let (_, wire) = wires.iter().find(|(known, _)| known == name).unwrap();
                assert!(town.is_closing(wire.peer), "{}", about());
            }
        }
    }
    let closed = |name: char| {
        exchange.steps.iter().any(|step| matches!(step, Step::Closed { name: at } if *at == name))
    };
    let now = town.now();
    for (name, wire) in wires {
        assert_eq!(town.heard(wire.peer), "", "{name} of {}\ncut {cut:?}", exchange.text);
        assert_eq!(town.is_closing(wire.peer), closed(name), "{}\ncut {cut:?}", exchange.text);
        town.cores[0].connection_closed(wire.peer.id, now);
    }
}

/// Server ids, inboxes and the like are not the reference's.
fn without_names(heard: &str) -> String {
    let mut shown = String::new();
    let mut lines = heard.split_inclusive("\r\n").peekable();
    while let Some(line) = lines.next() {
        if line.starts_with("INFO {") {
            shown.push_str("INFO\r\n");
        } else if lines.next_if(|next| next.contains("_INBOX.WL.A")).is_some() {
            shown.push_str("SUBSCRIBED\r\n");
        } else {
            shown.push_str(line);
        }
    }
    shown
}

#[test]
fn answers_are_those_of_the_reference() {
    let mut town = Town::new(1, |_| {});
    let exchanges = exchanges(PLAIN);
    assert!(exchanges.len() > 250, "the recording was read");
    for exchange in &exchanges {
        replay(&mut town, exchange, None);
    }
}

#[test]
fn it_makes_no_difference_where_the_bytes_are_cut() {
    let mut town = Town::new(1, |_| {});
    for exchange in exchanges(PLAIN) {
        if let [(step, length)] = sent(&exchange)[..] {
            (0..length).for_each(|byte| replay(&mut town, &exchange, Some((step, byte))));
        }
    }
}

/// A server with the configuration of conformance/record/guarded.py.
fn guarded() -> Town {
    let some = user("some", rule(&["a.>"], &["a.no"]), rule(&["b.>", "q workers"], &["b.no"]));
    let users = vec![user("root", RuleSpec::default(), RuleSpec::default()), some];
    let spec = AuthorizationSpec { users, ..AuthorizationSpec::default() };
    let authorization = Arc::new(Authorization::new(&spec).unwrap());
    Town::new(1, |net| {
        net.authorization = Some(authorization);
        net.control_line_bytes_max = 128;
        net.subscriptions_max = 2;
    })
}

#[test]
fn who_is_restricted_is_answered_as_by_the_reference() {
    let exchanges = exchanges(GUARDED);
    assert!(exchanges.len() > 40, "the recording was read");
    let mut town = guarded();
    for exchange in &exchanges {
        replay(&mut town, exchange, None);
        for (step, length) in sent(exchange) {
            (0..length).for_each(|byte| replay(&mut town, exchange, Some((step, byte))));
        }
    }
}

#[test]
fn requests_are_answered_as_by_the_reference() {
    let exchanges = exchanges(STREAMING);
    assert!(exchanges.len() > 100, "the recording was read");
    for exchange in &exchanges {
        replay(&mut town_for(exchange.arguments), exchange, None);
    }
}

#[test]
fn it_makes_no_difference_where_a_request_is_cut() {
    for exchange in exchanges(STREAMING) {
        // All before it says what the request is about.
        let (step, length) = *sent(&exchange).last().unwrap();
        for byte in 0..length {
            replay(&mut town_for(exchange.arguments), &exchange, Some((step, byte)));
        }
    }
}

/// The steps of an exchange that send, with how many bytes.
fn sent(exchange: &Exchange) -> Vec<Cut> {
    let steps = exchange.steps.iter().enumerate();
    let lengths = steps.filter_map(|(at, step)| match step {
        Step::Sent { bytes, .. } => Some((at, bytes.len())),
        _ => None,
    });
    lengths.collect()
}
