//! Syslog, by datagrams of RFC 3164: to the machine's own socket, or over UDP.

use std::fmt;
use std::io;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use super::Level;
use super::line::{LineStyle, one_line, time_of};
use super::writer::Record;
use crate::args::LogFormat;

/// Where the sockets of syslog daemons are.
const LOCAL_SOCKETS: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];
/// The facility of daemons, 3, in its place.
const FACILITY: u8 = 3 << 3;
/// The name in front of each line.
const TAG: &str = "weirlog";
/// No daemon reads more; a longer text is cut rather than refused by the socket.
const TEXT_BYTES_MAX: usize = 8 << 10;

/// Which syslog to write to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SyslogTarget {
    /// The machine's own.
    Local,
    /// The daemon behind this socket.
    Unix(PathBuf),
    /// `host:port`, by UDP.
    Udp(String),
}

impl SyslogTarget {
    /// Reads `udp://host:port` or `unix:///path`; none: it is neither.
    pub(crate) fn parse(url: &str) -> Option<Self> {
        if let Some(address) = url.strip_prefix("udp://") {
            let (host, port) = address.rsplit_once(':')?;
            let is_good = !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0);
            return is_good.then(|| Self::Udp(address.to_owned()));
        }
        let path = url.strip_prefix("unix://")?;
        (!path.is_empty()).then(|| Self::Unix(PathBuf::from(path)))
    }
}

/// A socket to a syslog daemon. A datagram finds room or is lost: the daemon holds nobody up for long.
pub(super) struct Syslog {
    socket: Socket,
    process_id: u32,
    /// Stands in lines that leave the machine.
    host: Option<String>,
}

enum Socket {
    Unix(UnixDatagram),
    Udp(UdpSocket),
}

impl fmt::Debug for Syslog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Syslog").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Syslog {
    /// Connects to the daemon.
    pub(super) fn open(target: &SyslogTarget, process_id: u32) -> io::Result<Self> {
        let (socket, host) = match target {
            SyslogTarget::Local => (Socket::Unix(connect_local()?), None),
            SyslogTarget::Unix(path) => (Socket::Unix(connect(path)?), None),
            SyslogTarget::Udp(address) => {
                let socket = UdpSocket::bind("[::]:0").or_else(|_| UdpSocket::bind("0.0.0.0:0"))?;
                socket.connect(address)?;
                (Socket::Udp(socket), Some(host_name()))
            }
        };
        Ok(Self { socket, process_id, host })
    }

    /// Sends one record.
    pub(super) fn write(&self, style: &LineStyle, record: &Record) -> io::Result<()> {
        let datagram = self.datagram(style, record);
        match &self.socket {
            Socket::Unix(socket) => socket.send(datagram.as_bytes())?,
            Socket::Udp(socket) => socket.send(datagram.as_bytes())?,
        };
        Ok(())
    }

    /// `<30>Nov 22 21:30:00 weirlog[42]: text`, with the host's name before the tag if it leaves the machine.
    fn datagram(&self, style: &LineStyle, record: &Record) -> String {
        let time = time_of(record.now, &style.zone, "%b %e %H:%M:%S");
        let host = self.host.as_ref().map(|host| format!("{host} ")).unwrap_or_default();
        let mut text = match style.format {
            LogFormat::Text => one_line(record),
            LogFormat::Json => style.line(record).trim_end().to_owned(),
        };
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        let priority = FACILITY | severity(record.level);
        format!("<{priority}>{time} {host}{TAG}[{}]: {text}", self.process_id)
    }
}

/// The severities that the reference uses.
fn severity(level: Level) -> u8 {
    match level {
        Level::Fatal => 2,
        Level::Error => 3,
        Level::Warning => 4,
        Level::Info | Level::Trace => 5,
        Level::Debug => 7,
    }
}

fn connect_local() -> io::Result<UnixDatagram> {
    let found = LOCAL_SOCKETS.iter().find_map(|path| connect(Path::new(path)).ok());
    found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no syslog socket on this machine"))
}

fn connect(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    Ok(socket)
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "localhost".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use weirlog_engine::types::Timestamp;

    use super::super::Part;
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_383_000_123_456_789);

    fn style() -> LineStyle {
        LineStyle {
            process_id: 42,
            format: LogFormat::Text,
            is_time_shown: true,
            zone: TimeZone::UTC,
        }
    }

    fn record(text: &str) -> Record {
        Record { now: NOW, level: Level::Warning, part: Part::Streaming, text: text.to_owned() }
    }

    #[test]
    fn a_record_is_one_datagram_of_the_machines_daemon() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let daemon = UnixDatagram::bind(&path).unwrap();
        let syslog = Syslog::open(&SyslogTarget::Unix(path), 42).unwrap();
        syslog.write(&style(), &record("slow\nconsumer")).unwrap();
        let mut buffer = [0; 256];
        let length = daemon.recv(&mut buffer).unwrap();
        let expected = "<28>Nov 22 21:30:00 weirlog[42]: STREAM: slow\\nconsumer";
        assert_eq!(std::str::from_utf8(&buffer[..length]).unwrap(), expected);
    }

    #[test]
    fn a_record_over_udp_names_the_host_and_is_cut_where_it_is_too_long() {
        let daemon = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = daemon.local_addr().unwrap();
        let target = SyslogTarget::parse(&format!("udp://{address}")).unwrap();
        let syslog = Syslog::open(&target, 42).unwrap();
        syslog.write(&style(), &record(&"é".repeat(TEXT_BYTES_MAX))).unwrap();
        let mut buffer = [0; TEXT_BYTES_MAX * 2];
        let length = daemon.recv(&mut buffer).unwrap();
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        let head = format!("<28>Nov 22 21:30:00 {} weirlog[42]: STREAM: éé", host_name());
        assert!(text.starts_with(&head), "{text}");
    }

    #[test]
    fn targets_are_urls() {
        assert_eq!(SyslogTarget::parse("udp://h:514"), Some(SyslogTarget::Udp("h:514".to_owned())));
        assert_eq!(SyslogTarget::parse("unix:///s"), Some(SyslogTarget::Unix("/s".into())));
        for bad in ["", "h:514", "udp://h", "udp://:514", "udp://h:0", "tcp://h:514", "unix://"] {
            assert_eq!(SyslogTarget::parse(bad), None, "{bad}");
        }
    }
}
