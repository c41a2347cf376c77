//! What the server says, appended to an outbox.
//!
//! Nothing is checked on this path. A subject, sid or reply must come from the parser, or have been
//! checked to hold no blank, tab, carriage return or line feed (a name out of a STAN protobuf has
//! not been, by itself): else one client could write lines into another's connection. Only the text
//! of [`err`] is made one line here, as it quotes what a client sent.

/// The sizes an HMSG announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderSizes {
    /// The header block, its empty line included.
    pub headers_bytes: usize,
    /// The header block and the payload.
    pub total_bytes: usize,
}

/// `INFO {json}`, with the blank before the line end that clients are used to.
pub fn info(out: &mut Vec<u8>, json: &[u8]) {
    append(out, &[b"INFO ", json, b" \r\n"]);
}

/// A whole MSG.
pub fn msg(out: &mut Vec<u8>, subject: &[u8], sid: &[u8], reply: Option<&[u8]>, payload: &[u8]) {
    msg_head(out, subject, sid, reply, payload.len());
    append(out, &[payload, LINE_END]);
}

/// The control line of an MSG; with an empty sid that of a PUB, which is what a client says. The caller appends exactly `payload_bytes` bytes and [`LINE_END`].
pub fn msg_head(
    out: &mut Vec<u8>,
    subject: &[u8],
    sid: &[u8],
    reply: Option<&[u8]>,
    payload_bytes: usize,
) {
    out.reserve(subject.len() + sid.len() + reply.map_or(0, <[u8]>::len) + HEAD_BYTES_MAX);
    msg_name(out, subject, sid);
    if let Some(reply) = reply {
        append(out, &[reply, b" "]);
    }
    decimal(out, payload_bytes);
    out.extend_from_slice(LINE_END);
}

/// A whole HMSG. `headers` is the block as the publisher sent it, its empty line included.
pub fn hmsg(
    out: &mut Vec<u8>,
    subject: &[u8],
    sid: &[u8],
    reply: Option<&[u8]>,
    headers: &[u8],
    payload: &[u8],
) {
    let headers_bytes = headers.len();
    let sizes = HeaderSizes { headers_bytes, total_bytes: headers_bytes + payload.len() };
    hmsg_head(out, subject, sid, reply, sizes);
    append(out, &[headers, payload, LINE_END]);
}

/// The control line of an HMSG; with an empty sid that of an HPUB. The caller appends `total_bytes` of headers and payload, and
/// [`LINE_END`].
pub fn hmsg_head(
    out: &mut Vec<u8>,
    subject: &[u8],
    sid: &[u8],
    reply: Option<&[u8]>,
    sizes: HeaderSizes,
) {
    assert!(sizes.headers_bytes <= sizes.total_bytes, "the total includes the headers");
    out.reserve(subject.len() + sid.len() + reply.map_or(0, <[u8]>::len) + HEAD_BYTES_MAX);
    put_name(out, [b"HMSG ", b"HPUB "], subject, sid);
    if let Some(reply) = reply {
        append(out, &[reply, b" "]);
    }
    decimal(out, sizes.headers_bytes);
    out.push(b' ');
    decimal(out, sizes.total_bytes);
    out.extend_from_slice(LINE_END);
}

/// The beginning of [`msg_head`], without reply and size.
pub fn msg_name(out: &mut Vec<u8>, subject: &[u8], sid: &[u8]) {
    put_name(out, [b"MSG ", b"PUB "], subject, sid);
}

/// An operation's name, as a server says it or as a client does, and what follows it at once.
fn put_name(out: &mut Vec<u8>, [served, said]: [&[u8]; 2], subject: &[u8], sid: &[u8]) {
    if sid.is_empty() {
        append(out, &[said, subject, b" "]);
    } else {
        append(out, &[served, subject, b" ", sid, b" "]);
    }
}

/// `SUB <subject> <sid>`, as a client says it.
pub fn sub(out: &mut Vec<u8>, subject: &[u8], sid: usize) {
    append(out, &[b"SUB ", subject, b" "]);
    decimal(out, sid);
    out.extend_from_slice(LINE_END);
}

/// `CONNECT {json}`, as a client says it.
pub fn connect(out: &mut Vec<u8>, json: &[u8]) {
    append(out, &[b"CONNECT ", json, LINE_END]);
}

/// Tells a requester on its own reply subject that nobody listens on `subject`.
pub fn no_responders(out: &mut Vec<u8>, reply: &[u8], sid: &[u8], subject: &[u8]) {
    let headers_bytes =
        NO_RESPONDERS_STATUS.len() + subject.len() + LINE_END.len() + LINE_END.len();
    let sizes = HeaderSizes { headers_bytes, total_bytes: headers_bytes };
    hmsg_head(out, reply, sid, None, sizes);
    // The subject's line, the empty line of the headers, the end of the empty payload.
    append(out, &[NO_RESPONDERS_STATUS, subject, LINE_END, LINE_END, LINE_END]);
}

/// `+OK`, for a client that asked to be verbose.
pub fn ok(out: &mut Vec<u8>) {
    out.extend_from_slice(b"+OK\r\n");
}

/// `-ERR '<text>'`. A control character in the text becomes a blank: whatever it quotes stays in
/// its line.
pub fn err(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(b"-ERR '");
    out.extend(text.bytes().map(|byte| if byte.is_ascii_control() { b' ' } else { byte }));
    out.extend_from_slice(b"'\r\n");
}

/// `PING`.
pub fn ping(out: &mut Vec<u8>) {
    out.extend_from_slice(b"PING\r\n");
}

/// `PONG`.
pub fn pong(out: &mut Vec<u8>) {
    out.extend_from_slice(b"PONG\r\n");
}

fn append(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// A number without the machinery of `fmt`, which costs more than the rest of a control line.
pub(crate) fn decimal(out: &mut Vec<u8>, mut number: usize) {
    let mut digits = [0_u8; DECIMAL_DIGITS_MAX];
    let mut start = DECIMAL_DIGITS_MAX;
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789"[number % 10];
        number /= 10;
        start -= 1;
        if number == 0 {
            break;
        }
    }
    assert!(number == 0, "no usize has more digits");
    out.extend_from_slice(&digits[start..]);
}

/// What ends a control line and a payload.
pub const LINE_END: &[u8] = b"\r\n";

const NO_RESPONDERS_STATUS: &[u8] = b"NATS/1.0 503\r\nNats-Subject: ";

/// The digits of the largest 64-bit number.
const DECIMAL_DIGITS_MAX: usize = 20;

/// A control line but its names: the operation, the blanks, two sizes, the line end.
const HEAD_BYTES_MAX: usize = 5 + 4 + 2 * DECIMAL_DIGITS_MAX + 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        // What is already in the outbox must stay.
        let mut out = b"before|".to_vec();
        write(&mut out);
        let text = String::from_utf8(out).unwrap();
        text.strip_prefix("before|").unwrap().to_owned()
    }

    #[test]
    fn each_operation_as_on_the_wire() {
        assert_eq!(written(|out| info(out, b"{\"proto\":1}")), "INFO {\"proto\":1} \r\n");
        assert_eq!(written(ok), "+OK\r\n");
        assert_eq!(written(ping), "PING\r\n");
        assert_eq!(written(pong), "PONG\r\n");
        assert_eq!(written(|out| msg(out, b"a", b"4", None, b"")), "MSG a 4 0\r\n\r\n");
        assert_eq!(
            written(|out| msg(out, b"a.b", b"17", Some(b"_INBOX.x"), b"hello")),
            "MSG a.b 17 _INBOX.x 5\r\nhello\r\n"
        );
        assert_eq!(written(|out| msg(out, b"a", b"", None, b"hi")), "PUB a 2\r\nhi\r\n");
        assert_eq!(
            written(|out| hmsg(out, b"a", b"", Some(b"r"), b"x", b"y")),
            "HPUB a r 1 2\r\nxy\r\n"
        );
        assert_eq!(written(|out| sub(out, b"a.>", 12)), "SUB a.> 12\r\n");
        assert_eq!(written(|out| connect(out, b"{}")), "CONNECT {}\r\n");
        assert_eq!(
            written(|out| hmsg(out, b"a", b"1", None, b"NATS/1.0\r\n\r\n", b"hi")),
            "HMSG a 1 12 14\r\nNATS/1.0\r\n\r\nhi\r\n"
        );
        assert_eq!(
            written(|out| hmsg(out, b"a", b"1", Some(b"r"), b"NATS/1.0\r\n\r\n", b"")),
            "HMSG a 1 r 12 12\r\nNATS/1.0\r\n\r\n\r\n"
        );
    }

    #[test]
    fn a_payload_appended_piecewise_is_the_same_message() {
        let piecewise = written(|out| {
            msg_head(out, b"a", b"1", Some(b"r"), 10);
            append(out, &[b"01234", b"56789", LINE_END]);
        });
        assert_eq!(piecewise, written(|out| msg(out, b"a", b"1", Some(b"r"), b"0123456789")));
    }

    #[test]
    fn no_responders_counts_32_bytes_and_the_subject() {
        assert_eq!(
            written(|out| no_responders(out, b"_INBOX.1", b"9", b"svc.echo")),
            "HMSG _INBOX.1 9 40 40\r\nNATS/1.0 503\r\nNats-Subject: svc.echo\r\n\r\n\r\n"
        );
    }

    #[test]
    fn an_error_text_cannot_leave_its_line() {
        assert_eq!(written(|out| err(out, "Stale Connection")), "-ERR 'Stale Connection'\r\n");
        assert_eq!(
            written(|out| err(out, "Publish to \"a\r\nPING\0\"")),
            "-ERR 'Publish to \"a  PING \"'\r\n"
        );
    }

    #[test]
    fn decimals_at_their_edges() {
        for number in [0, 9, 10, 99, 100, 1_048_576, 4_294_967_295, usize::MAX - 1, usize::MAX] {
            assert_eq!(written(|out| decimal(out, number)), number.to_string());
        }
    }

    #[test]
    fn a_head_fits_what_was_reserved_for_it() {
        let sizes = HeaderSizes { headers_bytes: usize::MAX, total_bytes: usize::MAX };
        let head = written(|out| hmsg_head(out, b"s", b"1", Some(b"r"), sizes));
        assert_eq!(head.len(), "s1r".len() + HEAD_BYTES_MAX);
    }
}
