//! CONNECT: what a client says about itself and asks for.
//!
//! It is read as the reference reads it: a key counts in any case, the last of several wins, `null` says nothing, and
//! a key that is missing leaves what an earlier CONNECT has said. A key that is known must have a value of its type.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

/// What a client has said in its CONNECTs so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// `+OK` for each operation.
    pub verbose: bool,
    /// Subjects of publishes are checked.
    pub pedantic: bool,
    /// A connection gets its own messages.
    pub echo: bool,
    /// HMSG is understood.
    pub headers: bool,
    /// 503 for a request that nobody receives.
    pub no_responders: bool,
    /// 0 or 1.
    pub protocol: i64,
    /// Shown in monitoring.
    pub name: Option<String>,
    /// The client library's language, shown in monitoring.
    pub lang: Option<String>,
    /// The client library's version, shown in monitoring.
    pub version: Option<String>,
    /// An account: there are none to choose from.
    pub account: Option<String>,
    /// The same.
    pub new_account: bool,
}

impl Default for Connect {
    /// What holds for a client that has said nothing.
    fn default() -> Self {
        Self {
            verbose: true,
            pedantic: true,
            echo: true,
            headers: false,
            no_responders: false,
            protocol: 0,
            name: None,
            lang: None,
            version: None,
            account: None,
            new_account: false,
        }
    }
}

/// Why a CONNECT closes the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Not JSON, or a field of another type.
    #[error("malformed CONNECT")]
    Malformed,
    /// Neither 0 nor 1.
    #[error("invalid client protocol")]
    Protocol,
    /// `no_responders` without `headers`.
    #[error("no responders requires headers support")]
    NoHeaders,
    /// An account was asked for.
    #[error("Authorization Violation")]
    Account,
}

impl ConnectError {
    /// The text of the `-ERR`; none: close without a word.
    #[must_use]
    pub fn error_text(self) -> Option<&'static str> {
        match self {
            Self::Malformed => None,
            Self::Protocol => Some("invalid client protocol"),
            Self::NoHeaders => Some("no responders requires headers support"),
            Self::Account => Some("Authorization Violation"),
        }
    }
}

impl Connect {
    /// What holds after a CONNECT with this JSON, at a server that has headers or has not.
    ///
    /// # Errors
    /// The connection is to be closed.
    pub fn updated_by(&self, json: &[u8], has_headers: bool) -> Result<Self, ConnectError> {
        let mut connect = self.clone();
        let mut input = serde_json::Deserializer::from_slice(json);
        Update(&mut connect)
            .deserialize(&mut input)
            .and_then(|()| input.end())
            .map_err(|_| ConnectError::Malformed)?;
        if connect.account.as_ref().is_some_and(|account| !account.is_empty())
            || connect.new_account
        {
            return Err(ConnectError::Account);
        }
        if !matches!(connect.protocol, 0 | 1) {
            return Err(ConnectError::Protocol);
        }
        connect.headers &= has_headers;
        if connect.no_responders && !connect.headers {
            return Err(ConnectError::NoHeaders);
        }
        Ok(connect)
    }
}

/// Writes what a CONNECT says over what was said before.
struct Update<'a>(&'a mut Connect);

impl<'de> DeserializeSeed<'de> for Update<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Update<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        let Self(connect) = self;
        while let Some(key) = map.next_key::<String>()? {
            match key.to_ascii_lowercase().as_str() {
                "verbose" => update(&mut map, &mut connect.verbose)?,
                "pedantic" => update(&mut map, &mut connect.pedantic)?,
                "echo" => update(&mut map, &mut connect.echo)?,
                "headers" => update(&mut map, &mut connect.headers)?,
                "no_responders" => update(&mut map, &mut connect.no_responders)?,
                "protocol" => update(&mut map, &mut connect.protocol)?,
                "new_account" => update(&mut map, &mut connect.new_account)?,
                "name" => update_text(&mut map, &mut connect.name)?,
                "lang" => update_text(&mut map, &mut connect.lang)?,
                "version" => update_text(&mut map, &mut connect.version)?,
                "account" => update_text(&mut map, &mut connect.account)?,
                // Read by who decides about them; here it matters that they are text.
                "user" | "pass" | "auth_token" | "nkey" | "sig" | "jwt" => {
                    map.next_value::<Option<String>>()?;
                }
                "tls_required" => {
                    map.next_value::<Option<bool>>()?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

fn update<'de, M: MapAccess<'de>, T: serde::Deserialize<'de>>(
    map: &mut M,
    field: &mut T,
) -> Result<(), M::Error> {
    if let Some(value) = map.next_value::<Option<T>>()? {
        *field = value;
    }
    Ok(())
}

fn update_text<'de, M: MapAccess<'de>>(
    map: &mut M,
    field: &mut Option<String>,
) -> Result<(), M::Error> {
    if let Some(value) = map.next_value::<Option<String>>()? {
        *field = Some(value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(json: &str) -> Result<Connect, ConnectError> {
        Connect::default().updated_by(json.as_bytes(), true)
    }

    #[test]
    fn missing_keys_mean_what_the_reference_takes_them_for() {
        let connect = first("{\"x\":{}}").unwrap();
        assert_eq!(connect, Connect::default());
        assert!(connect.verbose);
        assert!(connect.pedantic);
        assert_eq!(first("null").unwrap(), connect);
        assert_eq!(first("{\"verbose\":null,\"name\":null,\"user\":null}").unwrap(), connect);
    }

    #[test]
    fn keys_count_in_any_case_and_the_last_wins() {
        assert!(!first("{\"VERBOSE\":false}").unwrap().verbose);
        assert!(first("{\"Verbose\":false,\"verbose\":true}").unwrap().verbose);
        assert!(!first("{\"verbose\":true,\"verbose\":false}").unwrap().verbose);
    }

    /// A second CONNECT of `{}` made a connection verbose and pedantic again.
    #[test]
    fn a_second_connect_changes_only_what_it_names() {
        let before = first("{\"verbose\":false,\"headers\":true,\"name\":\"n\"}").unwrap();
        let after = before.updated_by(b"{\"no_responders\":true}", true).unwrap();
        assert_eq!(after, Connect { no_responders: true, ..before.clone() });
        assert_eq!(after.updated_by(b"{\"headers\":false}", true), Err(ConnectError::NoHeaders));
    }

    #[test]
    fn a_wrong_connect_closes_with_its_text() {
        let text = |json: &str| first(json).unwrap_err().error_text();
        let malformed = [
            "",
            "{",
            "[]",
            "3",
            "\"x\"",
            "{} x",
            "{\"verbose\":3}",
            "{\"lang\":5}",
            "{\"user\":5}",
            "{\"echo\":\"x\"}",
            "{\"protocol\":1.5}",
            "{\"protocol\":\"1\"}",
            "{\"tls_required\":0}",
        ];
        for json in malformed {
            assert_eq!(text(json), None, "{json}");
        }
        assert_eq!(text("{\"protocol\":2}"), Some("invalid client protocol"));
        assert_eq!(
            text("{\"no_responders\":true}"),
            Some("no responders requires headers support")
        );
        assert_eq!(text("{\"account\":\"A\",\"protocol\":2}"), Some("Authorization Violation"));
        assert_eq!(text("{\"new_account\":true}"), Some("Authorization Violation"));
    }
}
