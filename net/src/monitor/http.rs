//! HTTP/1.1 as far as monitoring needs it: the head of a request, a whole response. No sockets here.

use jiff::Timestamp;
use percent_encoding::percent_decode_str;

/// A request's head at most.
pub(crate) const HEAD_SIZE_BYTES_MAX: usize = 8 << 10;
/// Header lines in it at most.
const HEADERS_COUNT_MAX: usize = 64;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    /// The path, decoded; it begins with a slash.
    pub(crate) path: String,
    /// The query.
    pub(crate) query: Query,
    /// Whether only the response's head is wanted.
    pub(crate) is_head: bool,
    /// Whether the connection goes on behind the response.
    pub(crate) is_kept: bool,
    /// Bytes of the head.
    pub(crate) length: usize,
}

/// The names and values behind the question mark. Of a name that comes twice the first counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

/// Parts of a head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ParsedHead {
    /// There is more to come.
    Partial,
    /// It is whole.
    Request(Request),
    /// It cannot be served; the connection closes behind this.
    Refused(Response),
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: Status,
    pub(crate) content_type: &'static str,
    pub(crate) body: Vec<u8>,
}

/// The status codes in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Ok,
    NoContent,
    BadRequest,
    NotFound,
    NotAllowed,
    TooLarge,
    Unavailable,
}

pub(crate) const JSON: &str = "application/json";
pub(crate) const TEXT: &str = "text/plain; charset=utf-8";
pub(crate) const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "application/javascript";

impl Query {
    /// From its text.
    pub(crate) fn parse(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// The value of a name; empty: there is none.
    pub(crate) fn get(&self, name: &str) -> &str {
        let mut values = self.0.iter().filter(|(other, _)| other == name);
        values.next().map_or("", |(_, value)| value)
    }
}

impl Request {
    /// Reads a head from what has come so far.
    pub(crate) fn parse(input: &[u8]) -> ParsedHead {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_COUNT_MAX];
        let mut head = httparse::Request::new(&mut headers);
        let length = match head.parse(input) {
            Ok(httparse::Status::Complete(length)) if length <= HEAD_SIZE_BYTES_MAX => length,
            Ok(httparse::Status::Partial) if input.len() < HEAD_SIZE_BYTES_MAX => {
                return ParsedHead::Partial;
            }
            Ok(_) | Err(httparse::Error::TooManyHeaders) => {
                return ParsedHead::Refused(Response::text(
                    Status::TooLarge,
                    "the head is too long",
                ));
            }
            Err(error) => {
                return ParsedHead::Refused(Response::text(Status::BadRequest, &error.to_string()));
            }
        };
        let is_head = match head.method {
            Some("GET") => false,
            Some("HEAD") => true,
            _ => {
                let text = "monitoring only answers GET and HEAD";
                return ParsedHead::Refused(Response::text(Status::NotAllowed, text));
            }
        };
        // A proxy may send the whole URL.
        let target = head.path.unwrap_or("/");
        let target = target
            .strip_prefix("http://")
            .map_or(target, |rest| rest.find('/').map_or("/", |at| rest.split_at(at).1));
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if !path.starts_with('/') {
            let text = "the request's target is no path";
            return ParsedHead::Refused(Response::text(Status::BadRequest, text));
        }
        let value_of = |name: &str| {
            let mut found = head.headers.iter().filter(|it| it.name.eq_ignore_ascii_case(name));
            found.next().map(|header| String::from_utf8_lossy(header.value).to_ascii_lowercase())
        };
        let connection = value_of("connection").unwrap_or_default();
        let is_kept = match head.version {
            Some(1) => !connection.contains("close"),
            _ => connection.contains("keep-alive"),
        };
        // A body is not read, and what is behind it cannot be told from it.
        let has_body = value_of("content-length").is_some_and(|length| length.trim() != "0")
            || value_of("transfer-encoding").is_some();
        ParsedHead::Request(Self {
            path: percent_decode_str(path).decode_utf8_lossy().into_owned(),
            query: Query::parse(query),
            is_head,
            is_kept: is_kept && !has_body,
            length,
        })
    }
}

impl Response {
    /// A page of JSON, indented by two blanks as the reference does.
    pub(crate) fn json(page: &impl serde::Serialize) -> Self {
        let body = serde_json::to_vec_pretty(page).expect("strings and numbers are JSON");
        Self { status: Status::Ok, content_type: JSON, body }
    }

    /// A line of text.
    pub(crate) fn text(status: Status, text: &str) -> Self {
        Self { status, content_type: TEXT, body: format!("{text}\n").into_bytes() }
    }

    /// The same JSON as a call of the function `callback` (JSONP).
    pub(crate) fn called_back(mut self, callback: &str) -> Self {
        if callback.is_empty() || self.content_type != JSON {
            return self;
        }
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_.$".contains(&byte);
        if !callback.bytes().all(is_name) {
            return Self::text(Status::BadRequest, "callback is not the name of a function");
        }
        let json = String::from_utf8_lossy(&self.body);
        self.body = format!("{callback}({json})").into_bytes();
        self.content_type = SCRIPT;
        self
    }

    /// As it goes over the wire.
    pub(crate) fn to_bytes(&self, is_head: bool, is_kept: bool, now: Timestamp) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {}\r\n", self.status.text());
        let date = now.strftime("%a, %d %b %Y %H:%M:%S GMT");
        head += &format!("Date: {date}\r\nX-Content-Type-Options: nosniff\r\n");
        if self.status == Status::NotAllowed {
            head += "Allow: GET, HEAD\r\n";
        }
        if self.status != Status::NoContent {
            let length = self.body.len();
            head += &format!("Content-Type: {}\r\nContent-Length: {length}\r\n", self.content_type);
        }
        if self.content_type == JSON || self.content_type == SCRIPT {
            head += "Access-Control-Allow-Origin: *\r\n";
        }
        if !is_kept {
            head += "Connection: close\r\n";
        }
        head += "\r\n";
        let mut bytes = head.into_bytes();
        if !is_head && self.status != Status::NoContent {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}

impl Status {
    fn text(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::NoContent => "204 No Content",
            Self::BadRequest => "400 Bad Request",
            Self::NotFound => "404 Not Found",
            Self::NotAllowed => "405 Method Not Allowed",
            Self::TooLarge => "431 Request Header Fields Too Large",
            Self::Unavailable => "503 Service Unavailable",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> Request {
        match Request::parse(text.as_bytes()) {
            ParsedHead::Request(request) => request,
            other => panic!("{other:?}"),
        }
    }

    fn refusal(text: &str) -> Status {
        match Request::parse(text.as_bytes()) {
            ParsedHead::Refused(response) => response.status,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_is_read_when_it_is_whole() {
        let text =
            "GET /streaming/channelsz?channel=a%20b&subs=1&subs=2&x HTTP/1.1\r\nHost: h\r\n\r\n";
        for end in 0..text.len() {
            assert_eq!(Request::parse(&text.as_bytes()[..end]), ParsedHead::Partial, "{end}");
        }
        let whole = request(&format!("{text}GET /next"));
        assert_eq!((whole.path.as_str(), whole.length), ("/streaming/channelsz", text.len()));
        assert_eq!(whole.query.get("channel"), "a b");
        assert_eq!(whole.query.get("subs"), "1");
        assert_eq!((whole.query.get("x"), whole.query.get("y")), ("", ""));
        assert!(whole.is_kept && !whole.is_head);
    }

    #[test]
    fn the_connection_goes_on_as_both_sides_understand_it() {
        assert!(!request("GET / HTTP/1.0\r\n\r\n").is_kept);
        assert!(request("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").is_kept);
        assert!(!request("HEAD / HTTP/1.1\r\nconnection: Close\r\n\r\n").is_kept);
        assert!(!request("GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\n").is_kept);
        assert!(request("GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n").is_kept);
        assert_eq!(request("GET http://h:1/varz?a=b HTTP/1.1\r\n\r\n").path, "/varz");
        assert_eq!(request("GET http://h:1 HTTP/1.1\r\n\r\n").path, "/");
    }

    #[test]
    fn what_is_no_request_is_refused() {
        assert_eq!(refusal("POST /varz HTTP/1.1\r\n\r\n"), Status::NotAllowed);
        for target in ["*", "varz", "%2Fvarz", "https://h/varz"] {
            assert_eq!(refusal(&format!("GET {target} HTTP/1.1\r\n\r\n")), Status::BadRequest);
        }
        assert_eq!(refusal("\x16\x03\x01 what?\r\n\r\n"), Status::BadRequest);
        assert_eq!(refusal(&format!("GET /{} HTTP/1.1\r\n", "a".repeat(9_000))), Status::TooLarge);
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(65));
        assert_eq!(refusal(&many), Status::TooLarge);
    }

    #[test]
    fn a_response_has_what_tools_look_at() {
        let now = Timestamp::from_second(1_764_245_345).unwrap();
        let page = Response::json(&serde_json::json!({ "a": 1 }));
        let text = String::from_utf8(page.to_bytes(false, true, now)).unwrap();
        assert!(
            text.starts_with("HTTP/1.1 200 OK\r\nDate: Thu, 27 Nov 2025 12:09:05 GMT\r\n"),
            "{text}"
        );
        assert!(text.contains("\r\nContent-Type: application/json\r\nContent-Length: 12\r\n"));
        assert!(text.contains("\r\nAccess-Control-Allow-Origin: *\r\n"));
        assert!(text.ends_with("\r\n\r\n{\n  \"a\": 1\n}"), "{text}");
        let head = String::from_utf8(page.to_bytes(true, false, now)).unwrap();
        assert!(
            head.contains("Content-Length: 12\r\n") && head.ends_with("Connection: close\r\n\r\n")
        );
        let called = page.clone().called_back("f.g");
        assert_eq!(called.body, b"f.g({\n  \"a\": 1\n})");
        assert_eq!(called.content_type, "application/javascript");
        assert_eq!(page.called_back("alert(1);").status, Status::BadRequest);
        let none = Response { status: Status::NoContent, content_type: TEXT, body: Vec::new() };
        let none = String::from_utf8(none.to_bytes(false, true, now)).unwrap();
        assert!(none.starts_with("HTTP/1.1 204 ") && !none.contains("Content-Length"));
        let missing = Response::text(Status::NotFound, "Channel x not found");
        assert_eq!(missing.body, b"Channel x not found\n");
    }
}
