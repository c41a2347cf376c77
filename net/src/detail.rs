//! Debug and trace lines: which are wanted, and their words. Whoever has something to tell asks first whether it is
//! wanted, so that a server which tells nothing pays one comparison.

use crate::nats::op::Op;

/// A line of ours that is sent may be this long in a trace: an INFO has its place, more is cut.
const SENT_LINE_BYTES_MAX: usize = 4096;

/// Keys of a CONNECT that prove who a client is; a key counts in any case.
const SECRETS: [&str; 4] = ["pass", "auth_token", "jwt", "sig"];

/// What is told. Each switch stands for itself, as in the reference.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Details {
    /// Connections that come and go.
    pub server_debug: bool,
    /// What clients say and what they are told.
    pub server_trace: bool,
    /// STAN clients and subscriptions that come and go.
    pub streaming_debug: bool,
    /// Messages to channels.
    pub streaming_trace: bool,
    /// Bytes shown of a payload; 0: all.
    pub payload_bytes_max: usize,
}

/// One line to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detail {
    /// Whether it is about channels and their clients, or about connections.
    pub is_streaming: bool,
    /// Whether it is a trace line, or a debug line.
    pub is_trace: bool,
    /// One line, if its parts are.
    pub text: String,
}

/// What a client said: `[PUB a 5]`, without what proves who it is.
pub(crate) fn said(op: &Op<'_>) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let optional = |bytes: Option<&[u8]>| {
        bytes.map(|bytes| format!("{} ", String::from_utf8_lossy(bytes))).unwrap_or_default()
    };
    let words = match *op {
        Op::Info => "INFO".to_owned(),
        Op::Connect(json) => format!("CONNECT {}", without_secrets(json)),
        Op::Pub { subject, reply, payload } => {
            format!("PUB {} {}{}", text(subject), optional(reply), payload.len())
        }
        Op::HPub { subject, reply, headers, block, .. } => {
            let (headers, total) = (headers.len(), block.len());
            format!("HPUB {} {}{headers} {total}", text(subject), optional(reply))
        }
        Op::Sub { subject, queue, sid } => {
            format!("SUB {} {}{}", text(subject), optional(queue), text(sid))
        }
        Op::Unsub { sid, max: None } => format!("UNSUB {}", text(sid)),
        Op::Unsub { sid, max: Some(max) } => format!("UNSUB {} {max}", text(sid)),
        Op::Ping => "PING".to_owned(),
        Op::Pong => "PONG".to_owned(),
        Op::Ok => "+OK".to_owned(),
        Op::Err(words) => format!("-ERR {}", text(words)),
    };
    format!("[{words}]")
}

/// The payload of what a client said, if it has one.
pub(crate) fn payload_of(op: &Op<'_>, payload_bytes_max: usize) -> Option<String> {
    let (Op::Pub { payload: bytes, .. } | Op::HPub { block: bytes, .. }) = *op else { return None };
    let is_cut = payload_bytes_max > 0 && bytes.len() > payload_bytes_max;
    let shown = if is_cut { bytes.get(..payload_bytes_max).unwrap_or_default() } else { bytes };
    let dots = if is_cut { "..." } else { "" };
    Some(format!("[{:?}{dots}]", String::from_utf8_lossy(shown)))
}

/// The JSON of a CONNECT; what is no JSON is not shown, since it could hold anything.
fn without_secrets(json: &[u8]) -> String {
    let Ok(serde_json::Value::Object(mut fields)) = serde_json::from_slice(json) else {
        return String::new();
    };
    for (key, value) in &mut fields {
        if SECRETS.iter().any(|secret| secret.eq_ignore_ascii_case(key)) {
            *value = "[REDACTED]".into();
        }
    }
    serde_json::Value::Object(fields).to_string()
}

/// Finds the protocol lines in what is sent to a connection, in whatever pieces that is.
#[derive(Debug, Default)]
pub struct SentLines {
    /// The beginning of a line whose end is still to come.
    line: Vec<u8>,
    /// Bytes of a payload, with its line end, that are still to come.
    payload_left: usize,
}

impl SentLines {
    /// Passes each line that ends in `bytes` to `tell`, without its end.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], mut tell: impl FnMut(&str)) {
        while !bytes.is_empty() {
            let skipped = self.payload_left.min(bytes.len());
            self.payload_left -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let piece = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
            let room = SENT_LINE_BYTES_MAX.saturating_sub(self.line.len()).min(piece.len());
            self.line.extend_from_slice(piece.get(..room).unwrap_or_default());
            let Some(end) = end else { return };
            bytes = bytes.get(end + 1..).unwrap_or_default();
            let line = std::mem::take(&mut self.line);
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches('\r');
            self.payload_left = payload_bytes(line);
            tell(line);
        }
    }
}

/// What follows a line of this server: a payload behind `MSG` and `HMSG`.
fn payload_bytes(line: &str) -> usize {
    if !line.starts_with("MSG ") && !line.starts_with("HMSG ") {
        return 0;
    }
    let length = line.rsplit(' ').next().and_then(|word| word.parse::<usize>().ok());
    length.map_or(0, |length| length.saturating_add(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_shown_as_they_came_but_for_secrets() {
        let publish = Op::Pub { subject: b"a", reply: Some(b"r"), payload: b"hello" };
        assert_eq!(said(&publish), "[PUB a r 5]");
        assert_eq!(payload_of(&publish, 0).unwrap(), "[\"hello\"]");
        assert_eq!(payload_of(&publish, 2).unwrap(), "[\"he\"...]");
        assert_eq!(said(&Op::Sub { subject: b"a.*", queue: None, sid: b"1" }), "[SUB a.* 1]");
        assert_eq!(said(&Op::Unsub { sid: b"1", max: Some(2) }), "[UNSUB 1 2]");
        assert_eq!(payload_of(&Op::Ping, 0), None);
        let json = br#"{"user":"ann","pass":"53cret","auth_token":"53cret","sig":"53cret"}"#;
        let shown = said(&Op::Connect(json));
        assert!(shown.contains("ann"), "{shown}");
        assert!(!shown.contains("53cret"), "{shown}");
        let shown = said(&Op::Connect(br#"{"PASS":"53cret","Auth_Token":"53cret"}"#));
        assert!(!shown.contains("53cret"), "keys count in any case: {shown}");
        assert_eq!(said(&Op::Connect(b"{\"pass\":\"53cret\"")), "[CONNECT ]");
    }

    #[test]
    fn sent_lines_are_found_in_pieces_of_any_size() {
        let sent = b"INFO {}\r\nMSG a 1 4\r\nx\r\ny\r\n+OK\r\nHMSG a 1 2 3\r\nabc\r\nPONG\r\n";
        let expected = ["INFO {}", "MSG a 1 4", "+OK", "HMSG a 1 2 3", "PONG"];
        for size in 1..=sent.len() {
            let mut lines = SentLines::default();
            let mut told = Vec::new();
            for piece in sent.chunks(size) {
                lines.feed(piece, |line| told.push(line.to_owned()));
            }
            assert_eq!(told, expected, "pieces of {size}");
        }
    }

    #[test]
    fn a_line_without_end_takes_no_more_memory_than_its_bound() {
        let mut lines = SentLines::default();
        for _ in 0..100 {
            lines.feed(&[b'x'; 1000], |_| panic!("it has no end"));
        }
        assert_eq!(lines.line.len(), SENT_LINE_BYTES_MAX);
    }
}
