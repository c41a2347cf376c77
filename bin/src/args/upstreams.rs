//! The value of `-ns`: the NATS servers to be a client of, as URLs with commas between them.

use percent_encoding::percent_decode_str;
use weirlog_net::front::upstream::UpstreamAddress;
use weirlog_net::upstream::Login;

use super::values::{PORT_DEFAULT, ValueError};

/// Some servers; none: this server has its own clients. A type of its own, since clap gives lists a meaning.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Upstreams(pub(super) Vec<UpstreamAddress>);

impl Upstreams {
    /// `nats://[user:password@|token@]host[:port]`, the scheme optional, or the same with `tls://`. An empty text names nobody.
    pub(super) fn parse(text: &str) -> Result<Self, ValueError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        text.split(',').map(|url| server(url.trim())).collect::<Result<_, _>>().map(Self)
    }
}

fn server(url: &str) -> Result<UpstreamAddress, ValueError> {
    let (place, is_tls) = match url.split_once("://") {
        Some(("nats", place)) => (place, false),
        Some(("tls", place)) => (place, true),
        Some(_) => return Err(ValueError::NotAServer),
        None => (url, false),
    };
    let place = place.strip_suffix('/').unwrap_or(place);
    let (login, place) = match place.rsplit_once('@') {
        Some((login, place)) => (login_of(login)?, place),
        None => (Login::Open, place),
    };
    let (host, port) = match place.rsplit_once(':') {
        // An IPv6 address without a port ends with its bracket.
        Some((host, port)) if !port.ends_with(']') => {
            (host, port.parse().ok().filter(|port| *port > 0).ok_or(ValueError::NotAServer)?)
        }
        _ => (place, PORT_DEFAULT),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() || host.contains(['/', ' ', '?']) {
        return Err(ValueError::NotAServer);
    }
    Ok(UpstreamAddress { host: host.to_owned(), port, login, is_tls })
}

fn login_of(text: &str) -> Result<Login, ValueError> {
    let decoded = |text: &str| {
        percent_decode_str(text)
            .decode_utf8()
            .map(std::borrow::Cow::into_owned)
            .map_err(|_| ValueError::NotUtf8)
    };
    Ok(match text.split_once(':') {
        Some((name, password)) => {
            Login::User { name: decoded(name)?, password: decoded(password)? }
        }
        None => Login::Token(decoded(text)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host: &str, port: u16, login: Login) -> UpstreamAddress {
        UpstreamAddress { host: host.to_owned(), port, login, is_tls: false }
    }

    #[test]
    fn urls_as_nats_clients_write_them() {
        let user = Login::User { name: "me".to_owned(), password: "a@b:c".to_owned() };
        let parsed =
            Upstreams::parse("nats://a, b:5222,nats://tok@c/,nats://me:a%40b:c@[::1]:7,[::2]");
        let expected = vec![
            address("a", 4222, Login::Open),
            address("b", 5222, Login::Open),
            address("c", 4222, Login::Token("tok".to_owned())),
            address("::1", 7, user),
            address("::2", 4222, Login::Open),
        ];
        assert_eq!(parsed, Ok(Upstreams(expected)));
        let tls = UpstreamAddress { is_tls: true, ..address("a", 4222, Login::Open) };
        assert_eq!(Upstreams::parse("tls://a"), Ok(Upstreams(vec![tls])));
        assert_eq!(Upstreams::parse(""), Ok(Upstreams::default()));
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in ["http://a", "a:0", "a:x", "nats://", "a,,b", "a:99999", "nats://u:p@"] {
            assert_eq!(Upstreams::parse(text), Err(ValueError::NotAServer), "{text}");
        }
    }
}
