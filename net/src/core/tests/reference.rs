//! What nats-server answers, recorded, and what a core answers to the same: whole, and cut at every byte.

use super::*;

/// The recording; see its head.
const RECORDED: &str = include_str!("reference.txt");

/// One exchange over some connections.
struct Exchange {
    text: &'static str,
    steps: Vec<Step>,
}

enum Step {
    Sent { name: char, bytes: Vec<u8> },
    Received { name: char, text: String },
    Closed { name: char },
}

fn exchanges() -> Vec<Exchange> {
    let blocks = RECORDED.split("\n\n").skip(1);
    blocks.map(|block| Exchange { text: block, steps: block.lines().map(step).collect() }).collect()
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
    }
}

/// The other side of an exchange: what each connection got until something is sent again.
fn replay(town: &mut Town, exchange: &Exchange, cut: Option<usize>) {
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
                let (head, tail) = bytes.split_at(cut.unwrap_or(bytes.len()));
                wire.send(town, head);
                if !tail.is_empty() {
                    wire.send(town, tail);
                }
            }
            Step::Received { name, text } => {
                let (_, wire) = wires.iter().find(|(known, _)| known == name).unwrap();
                assert_eq!(without_json(&town.heard(wire.peer)), *text, "{}", about());
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

/// Server ids and the like are not the reference's.
fn without_json(heard: &str) -> String {
    let lines = heard.split_inclusive("\r\n");
    lines.map(|line| if line.starts_with("INFO {") { "INFO\r\n" } else { line }).collect()
}

#[test]
fn answers_are_those_of_the_reference() {
    let mut town = Town::new(1, |_| {});
    let exchanges = exchanges();
    assert!(exchanges.len() > 250, "the recording was read");
    for exchange in &exchanges {
        replay(&mut town, exchange, None);
    }
}

#[test]
fn it_makes_no_difference_where_the_bytes_are_cut() {
    let mut town = Town::new(1, |_| {});
    for exchange in exchanges() {
        let mut sent = exchange.steps.iter().filter_map(|step| match step {
            Step::Sent { bytes, .. } => Some(bytes.len()),
            _ => None,
        });
        let (Some(length), None) = (sent.next(), sent.next()) else { continue };
        for cut in 0..length {
            replay(&mut town, &exchange, Some(cut));
        }
    }
}
