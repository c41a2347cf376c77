//! Where clients come in: a port of this server's own, or other NATS servers.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use weirlog_net::auth::{Authorization, Seed, UserCredentials};
use weirlog_net::config::NetConfig;
use weirlog_net::front::upstream::{UpstreamAddress, Upstreams};
use weirlog_net::tls::{TlsClient, TlsError, TlsServer};
use weirlog_net::upstream::Login;

use super::addresses::Addresses;
use super::error::ServeError;
use super::settings;
use crate::args::{LoginFile, LoginOptions, Options};

/// Where clients come in.
#[derive(Debug, Clone)]
pub(super) enum Entrance {
    /// They connect here.
    Port {
        /// The address.
        address: SocketAddr,
        /// Who may; none: everybody.
        authorization: Option<Arc<Authorization>>,
        /// TLS; none: in plain.
        tls: Option<Arc<TlsServer>>,
    },
    /// They are those of other servers, which this one joins.
    Upstreams {
        /// The servers.
        servers: Upstreams,
        /// TLS, for monitoring only.
        tls: Option<Arc<TlsServer>>,
    },
}

impl Entrance {
    /// The entrance that was asked for. With other servers a login on the command line is the one to use there.
    pub(super) fn find(options: &Options, addresses: &mut Addresses) -> Result<Self, ServeError> {
        let tls = settings::tls(options).map_err(ServeError::Tls)?;
        if options.upstreams.is_empty() {
            let authorization = settings::authorization(options, tls.as_deref())
                .map_err(ServeError::Authorization)?;
            let address = addresses.claim(&options.listen)?;
            return Ok(Self::Port { address, authorization, tls });
        }
        let mut servers = options.upstreams.clone();
        if let Some(login) = login_there(options)? {
            servers.iter_mut().for_each(|server| server.login = login.clone());
        }
        servers.iter_mut().for_each(|server| server.is_tls |= options.tls_there.is_demanded);
        let tls_there = match TlsClient::load(&options.tls_there.files) {
            Ok(tls) => Some(tls),
            // Nobody has asked for TLS; a server that demands it will be left with an error.
            Err(TlsError::NoRoots) if servers.iter().all(|server| !server.is_tls) => None,
            Err(error) => return Err(ServeError::Tls(error)),
        };
        Ok(Self::Upstreams { servers: Upstreams { servers, tls: tls_there }, tls })
    }

    /// The address listened on, if there is one.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Port { address, .. } => Some(*address),
            Self::Upstreams { .. } => None,
        }
    }

    /// What the front is told.
    pub(super) fn net_config(&self, options: &Options, shard_count: u16) -> NetConfig {
        match self {
            Self::Port { address, authorization, tls } => NetConfig {
                authorization: authorization.clone(),
                tls: tls.clone(),
                ..settings::net_config(options, *address, shard_count)
            },
            Self::Upstreams { tls, .. } => NetConfig {
                has_upstream: true,
                tls: tls.clone(),
                ..settings::net_config(options, SocketAddr::from(([0, 0, 0, 0], 0)), shard_count)
            },
        }
    }
}

/// The login for all servers, whatever their URLs say: on the command line, else in a file.
fn login_there(options: &Options) -> Result<Option<Login>, ServeError> {
    let LoginOptions { user, password, token } = &options.login;
    if !user.is_empty() {
        let (name, password) = (user.clone(), password.clone());
        return Ok(Some(Login::User { name, password }));
    }
    if !token.is_empty() {
        return Ok(Some(Login::Token(token.clone())));
    }
    let (path, login) = match &options.login_file {
        None => return Ok(None),
        Some(LoginFile::NkeySeed(path)) => (path, Seed::load(path).map(Login::Key)),
        Some(LoginFile::Credentials(path)) => {
            (path, UserCredentials::load(path).map(Login::Credentials))
        }
    };
    let unusable = |error: std::io::Error| ServeError::LoginFile {
        path: path.clone(),
        reason: error.to_string(),
    };
    login.map(Some).map_err(unusable)
}

impl fmt::Display for Entrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port { address, .. } => address.fmt(f),
            Self::Upstreams { servers: Upstreams { servers, .. }, .. } => {
                // Without the logins.
                let url = |server: &UpstreamAddress| {
                    let scheme = if server.is_tls { "tls" } else { "nats" };
                    format!("{scheme}://{}:{}", server.host, server.port)
                };
                let names: Vec<String> = servers.iter().map(url).collect();
                f.write_str(&names.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Command, parse};

    fn servers(line: &str) -> Vec<UpstreamAddress> {
        let parsed = parse(line.split_whitespace().map(Into::into)).unwrap();
        let Command::Serve(options) = parsed.command else { panic!("{line} does not serve") };
        match Entrance::find(&options, &mut Addresses::default()).unwrap() {
            Entrance::Upstreams { servers, .. } => servers.servers,
            Entrance::Port { .. } => panic!("{line} listens"),
        }
    }

    #[test]
    fn a_login_on_the_command_line_is_for_the_other_server() {
        let in_url = &servers("-ns nats://u:p@a")[0];
        assert_eq!(in_url.login, Login::User { name: "u".to_owned(), password: "p".to_owned() });
        let user = &servers("-ns nats://u:p@a -user me -pass x")[0];
        assert_eq!(user.login, Login::User { name: "me".to_owned(), password: "x".to_owned() });
        let all = servers("-ns a,b -auth t");
        assert!(all.iter().all(|server| server.login == Login::Token("t".to_owned())));
        let shown = |line: &str| {
            let servers = Upstreams { servers: servers(line), tls: None };
            Entrance::Upstreams { servers, tls: None }.to_string()
        };
        assert_eq!(shown("-ns nats://u:p@a"), "nats://a:4222");
        assert_eq!(shown("-ns tls://u:p@a,b"), "tls://a:4222,nats://b:4222");
        assert_eq!(shown("-ns a,b -secure"), "tls://a:4222,tls://b:4222");
    }
}
