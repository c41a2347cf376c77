//! Publish acks before they are encoded: how their lines begin, once, and what each names. That is a third of the lines'
//! bytes, and many thousand of them wait for their commits at a time.

use bytes::Bytes;

use super::wire::PubAck;
use crate::flow::Flow;
use crate::nats::emit;

/// Bytes of the length before each guid.
const LENGTH_BYTES: usize = size_of::<u32>();
/// About what a line has beside its head and its guid.
const LINE_REST_BYTES: usize = 16;

/// Acks, or refusals, for one reply subject.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PubAcks {
    /// `MSG <reply> <sid> `.
    head: Bytes,
    /// Of each its length and its text.
    guids: Vec<u8>,
    count: usize,
    /// Why the messages were not stored; empty: they were.
    error: String,
}

impl PubAcks {
    /// None yet. `head` is `MSG <reply> <sid> `; `memory` is for the guids.
    #[must_use]
    pub fn new(head: Bytes, mut memory: Vec<u8>) -> Self {
        memory.clear();
        Self { head, guids: memory, count: 0, error: String::new() }
    }

    /// A single refusal.
    #[must_use]
    pub fn refusal(head: Bytes, guid: Option<&str>, error: String) -> Self {
        let mut refusal = Self { error, ..Self::new(head, Vec::new()) };
        guid.into_iter().for_each(|guid| refusal.push(guid));
        refusal
    }

    /// Whether lines with this very head can be added.
    #[inline]
    #[must_use]
    pub fn has_head(&self, head: &Bytes) -> bool {
        // The same bytes elsewhere only cost another piece.
        std::ptr::eq(self.head.as_ptr(), head.as_ptr()) && self.head.len() == head.len()
    }

    /// Adds one.
    #[inline]
    pub fn push(&mut self, guid: &str) {
        let length = u32::try_from(guid.len()).expect("part of one payload");
        self.guids.extend_from_slice(&length.to_le_bytes());
        self.guids.extend_from_slice(guid.as_bytes());
        self.count += 1;
    }

    /// The messages were not stored after all.
    pub fn refuse(&mut self, error: &str) {
        error.clone_into(&mut self.error);
    }

    /// Memory to be used again.
    #[must_use]
    pub fn into_memory(self) -> Vec<u8> {
        self.guids
    }

    /// About how many bytes their lines have.
    #[must_use]
    pub fn lines_size_hint(&self) -> usize {
        self.count * (self.head.len() + LINE_REST_BYTES + self.error.len()) + self.guids.len()
    }

    /// Appends their lines; tells what they are as messages.
    pub fn append_lines(&self, out: &mut Vec<u8>) -> Flow {
        let mut flow = Flow::default();
        for guid in self.guids() {
            let ack = PubAck { guid, error: &self.error };
            let length = ack.encoded_len();
            out.extend_from_slice(&self.head);
            emit::decimal(out, length);
            out.extend_from_slice(emit::LINE_END);
            ack.encode(out);
            out.extend_from_slice(emit::LINE_END);
            flow.add(length);
        }
        flow
    }

    /// Their reply subject, and each one for itself.
    pub fn each(&self) -> (&[u8], impl Iterator<Item = PubAck<'_>>) {
        let reply = self.head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        (reply, self.guids().map(|guid| PubAck { guid, error: &self.error }))
    }

    fn guids(&self) -> impl Iterator<Item = &str> {
        const OURS: &str = "push wrote it";
        let mut rest = self.guids.as_slice();
        std::iter::from_fn(move || {
            let (length, behind) = rest.split_first_chunk::<LENGTH_BYTES>()?;
            let length = usize::try_from(u32::from_le_bytes(*length)).expect(OURS);
            let (guid, behind) = behind.split_at_checked(length).expect(OURS);
            rest = behind;
            Some(std::str::from_utf8(guid).expect(OURS))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acks(guids: &[&str]) -> PubAcks {
        let mut acks = PubAcks::new(Bytes::from_static(b"MSG r 1 "), vec![1, 2, 3]);
        guids.iter().for_each(|guid| acks.push(guid));
        acks
    }

    #[test]
    fn lines_are_what_a_client_gets() {
        let mut out = b"before".to_vec();
        let flow = acks(&["a", "bc"]).append_lines(&mut out);
        assert_eq!(out, b"beforeMSG r 1 3\r\n\x0a\x01a\r\nMSG r 1 4\r\n\x0a\x02bc\r\n");
        assert_eq!(flow, Flow { messages: 2, bytes: 7 });
        assert_eq!(acks(&[]).append_lines(&mut out), Flow::default());
    }

    #[test]
    fn a_refusal_keeps_reply_and_guid() {
        // A guid with a line end in it must not be taken for the end of anything.
        let guids = ["one", "t\r\nwo", ""];
        let mut refused = acks(&guids);
        refused.refuse("no");
        let (reply, each) = refused.each();
        assert_eq!(reply, b"r");
        let seen: Vec<_> = each.map(|ack| (ack.guid, ack.error)).collect();
        assert_eq!(seen, guids.map(|guid| (guid, "no")));
    }

    #[test]
    fn the_hint_is_no_less_than_the_lines() {
        let mut refused = acks(&["a", &"b".repeat(40)]);
        refused.refuse("no");
        let mut out = Vec::new();
        refused.append_lines(&mut out);
        assert!((out.len()..out.len() + 40).contains(&refused.lines_size_hint()), "{}", out.len());
    }
}
