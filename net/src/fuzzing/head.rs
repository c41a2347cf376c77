//! HTTP, as the monitoring port reads and writes it.

use jiff::Timestamp;
use serde_json::json;

use crate::monitor::http::{
    HEAD_SIZE_BYTES_MAX, HTML, JSON, ParsedHead, Request, Response, Status, TEXT,
};

/// A request is read when its head is whole, not before, and from its head alone; what is answered is one response.
pub(super) fn check(input: &[u8]) {
    match Request::parse(input) {
        ParsedHead::Partial => assert!(input.len() < HEAD_SIZE_BYTES_MAX),
        ParsedHead::Refused(response) => {
            assert!(!matches!(response.status, Status::Ok | Status::NoContent));
            check_response(&response);
        }
        ParsedHead::Request(request) => {
            assert!(request.length <= HEAD_SIZE_BYTES_MAX);
            let (head, _) = input.split_at(request.length);
            assert_eq!(Request::parse(head), ParsedHead::Request(request.clone()));
            for length in [0, head.len() / 2, head.len() - 1] {
                assert_eq!(Request::parse(&head[..length]), ParsedHead::Partial);
            }
            assert!(request.path.starts_with('/'));
            check_response(&Response::text(Status::NotFound, &request.path));
            let page = Response::json(&json!({ "path": request.path }));
            check_response(&page.called_back(request.query.get("callback")));
        }
    }
}

/// What is written is read as this response and nothing behind it.
fn check_response(response: &Response) {
    let bytes = response.to_bytes(false, true, Timestamp::UNIX_EPOCH);
    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut head = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(length)) = head.parse(&bytes) else {
        panic!("not a response: {bytes:?}");
    };
    let mut lengths = head.headers.iter().filter(|header| header.name == "Content-Length");
    let told = lengths.next().and_then(|header| std::str::from_utf8(header.value).ok());
    assert_eq!(told, Some(response.body.len().to_string().as_str()));
    assert_eq!(&bytes[length..], &response.body);
    let script = "application/javascript";
    assert!([JSON, TEXT, HTML, script].contains(&response.content_type));
}
