//! The values of flags about the running process: where and how it logs, and which signal goes to which process.

use super::options::{ListenAddress, LogFormat, SignalOptions, SignalOrder, SignalTarget};
use super::values::{self, ValueError};
use crate::log::SyslogTarget;

/// A form of log lines.
pub(super) fn log_format(text: &str) -> Result<LogFormat, ValueError> {
    match text.to_ascii_lowercase().as_str() {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(ValueError::UnknownLogFormat),
    }
}

/// The address of a server as its clients see it.
pub(super) fn advertised(text: &str) -> Result<ListenAddress, ValueError> {
    // Colons stand in an IPv6 address too: there a port needs brackets before it.
    let is_bare = text.matches(':').count() > 1 && !text.contains("]:");
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !is_bare => (host, Some(port)),
        _ => (text, None),
    };
    let port = port.map(values::at_least_one).transpose()?;
    let port =
        port.map(|port| u16::try_from(port).map_err(|_| ValueError::TooLarge)).transpose()?;
    Ok(ListenAddress { host: values::host(host)?, port })
}

/// Where monitoring is to be served, if anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MonitorAddress {
    /// None: the host that clients connect to.
    host: Option<String>,
    port: MonitorPort,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MonitorPort {
    None,
    Any,
    This(u16),
}

impl MonitorAddress {
    /// The address to listen on, on `host` unless another was given.
    pub(super) fn on(&self, host: &str) -> Option<ListenAddress> {
        let host = self.host.clone().unwrap_or_else(|| host.to_owned());
        match self.port {
            MonitorPort::None => None,
            MonitorPort::Any => Some(ListenAddress { host, port: None }),
            MonitorPort::This(port) => Some(ListenAddress { host, port: Some(port) }),
        }
    }
}

/// `8222`, `-1`, `127.0.0.1:8222`, `[::1]:8222`, `:8222`.
pub(super) fn monitor_port(text: &str) -> Result<MonitorAddress, ValueError> {
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let host = if host.is_empty() { None } else { Some(values::host(host)?) };
    let port = match values::integer(port)? {
        0 => MonitorPort::None,
        -1 => MonitorPort::Any,
        port => {
            let max = u64::from(u16::MAX);
            let port = u16::try_from(port).map_err(|_| ValueError::OutOfRange { min: 1, max })?;
            MonitorPort::This(port)
        }
    };
    Ok(MonitorAddress { host, port })
}

/// How much of a payload is traced.
pub(super) fn traced_bytes(text: &str) -> Result<usize, ValueError> {
    usize::try_from(values::limit_count(text)?).map_err(|_| ValueError::TooLarge)
}

/// The URL of a syslog daemon.
pub(super) fn syslog_target(text: &str) -> Result<SyslogTarget, ValueError> {
    if text.starts_with("tcp://") {
        return Err(ValueError::TcpSyslog);
    }
    SyslogTarget::parse(text).ok_or(ValueError::NotASyslog)
}

/// An order for a running server, with `=` and a process id or a file that holds one.
pub(super) fn signal(text: &str) -> Result<SignalOptions, ValueError> {
    let (order, target) = text.split_once('=').unwrap_or((text, ""));
    let order = match order {
        "stop" => SignalOrder::Stop,
        "quit" => SignalOrder::Quit,
        "term" => SignalOrder::Term,
        "reopen" => SignalOrder::Reopen,
        "reload" => SignalOrder::Reload,
        "ldm" => SignalOrder::LameDuck,
        _ => return Err(ValueError::UnknownSignal),
    };
    let target = match target.parse::<i64>() {
        _ if target.is_empty() => SignalTarget::OnlyOne,
        // 0 and what is negative would reach whole groups of processes.
        Ok(process) => {
            let process = i32::try_from(process).ok().filter(|process| *process > 0);
            SignalTarget::Process(process.ok_or(ValueError::NotAProcess)?)
        }
        Err(_) => SignalTarget::PidFile(target.into()),
    };
    Ok(SignalOptions { order, target })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_names_an_order_and_perhaps_a_process() {
        use SignalOrder::{LameDuck, Quit, Reload, Reopen, Stop, Term};
        let orders = [
            ("stop", Stop),
            ("quit", Quit),
            ("term", Term),
            ("reopen", Reopen),
            ("reload", Reload),
            ("ldm", LameDuck),
        ];
        for (text, order) in orders {
            let made = |target| Ok(SignalOptions { order, target });
            assert_eq!(signal(text), made(SignalTarget::OnlyOne));
            assert_eq!(signal(&format!("{text}=42")), made(SignalTarget::Process(42)));
            let file = SignalTarget::PidFile("/run/w.pid".into());
            assert_eq!(signal(&format!("{text}=/run/w.pid")), made(file));
        }
        for group in ["stop=0", "stop=-1", "stop=4294967296"] {
            assert_eq!(signal(group), Err(ValueError::NotAProcess), "{group}");
        }
        for unknown in ["", "STOP", "kill", "=1"] {
            assert_eq!(signal(unknown), Err(ValueError::UnknownSignal), "{unknown}");
        }
    }

    #[test]
    fn an_advertised_address_may_have_a_port() {
        let made = |host: &str, port| Ok(ListenAddress { host: host.to_owned(), port });
        assert_eq!(advertised("example.com"), made("example.com", None));
        assert_eq!(advertised("example.com:4333"), made("example.com", Some(4333)));
        assert_eq!(advertised("[::1]:4333"), made("::1", Some(4333)));
        assert_eq!(advertised("::1"), made("::1", None));
        assert_eq!(advertised("h:70000"), Err(ValueError::TooLarge));
        assert!(advertised("h:x").is_err());
        assert!(advertised("").is_err());
        assert!(advertised(":4222").is_err());
    }

    #[test]
    fn monitoring_is_served_on_a_port_or_an_address() {
        let on = |text: &str| {
            let address = monitor_port(text).unwrap().on("0.0.0.0");
            address.map(|address| (address.host, address.port))
        };
        let made = |host: &str, port| Some((host.to_owned(), port));
        assert_eq!(on("0"), None);
        assert_eq!(on("8222"), made("0.0.0.0", Some(8222)));
        assert_eq!(on(":8222"), made("0.0.0.0", Some(8222)));
        assert_eq!(on("-1"), made("0.0.0.0", None));
        assert_eq!(on("127.0.0.1:8222"), made("127.0.0.1", Some(8222)));
        assert_eq!(on("[::1]:-1"), made("::1", None));
        for wrong in ["", "x", "70000", "-2", "h:", "a b:1"] {
            assert!(monitor_port(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lines_are_text_or_json_and_syslog_is_reached_by_datagrams() {
        assert_eq!(log_format("JSON"), Ok(LogFormat::Json));
        assert_eq!(log_format("text"), Ok(LogFormat::Text));
        assert_eq!(log_format("xml"), Err(ValueError::UnknownLogFormat));
        assert_eq!(syslog_target("tcp://h:514"), Err(ValueError::TcpSyslog));
        assert_eq!(syslog_target("h:514"), Err(ValueError::NotASyslog));
        assert!(syslog_target("udp://h:514").is_ok());
    }
}
