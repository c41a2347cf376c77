//! TLS over real sockets: a front a core on a port of its own, and clients that block, on threads.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use glommio::net::TcpListener;
use glommio::{LocalExecutorBuilder, Placement};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use weirlog_engine::disk::dma::GlommioRuntime;
use weirlog_engine::disk::memory::MemoryDisk;
use weirlog_engine::runtime::Runtime as _;
use weirlog_engine::storage::{ChannelSlots, Storage, StorageConfig, Tuning, open_store};
use weirlog_engine::types::{ChannelLimits, ShardId};

use super::monitor::{MonitorPort, Site};
use super::upstream::{UpstreamAddress, Upstreams};
use super::*;
use crate::config::NetConfig;
use crate::ids::CoreId;
use crate::mesh::{MeshEnds, make_ends};
use crate::tls::tests::Authority;
use crate::tls::{ClientCertificates, HandshakeOrder, TlsClient, TlsServer, TlsSpec};
use crate::upstream::Login;

mod letting_go;
mod stopping;

/// Whoever waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);
const TICK: Duration = Duration::from_millis(5);

/// Some cores, each listening on its own port.
struct Servers {
    addresses: Vec<SocketAddr>,
    /// Of core 0, in plain and with TLS.
    monitor: [SocketAddr; 2],
    /// Other settings, for core 0 to tell.
    changes: Sender<Arc<RuntimeSettings>>,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Servers {
    fn start(core_count: u16, net: &NetConfig) -> Self {
        Self::start_with(core_count, net, None)
    }

    /// With `upstreams` core 0 joins those, and reports its address when it has.
    fn start_with(core_count: u16, net: &NetConfig, upstreams: Option<&Upstreams>) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let (report, reports) = channel();
        let free_address = |_| {
            let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            probe.local_addr().unwrap()
        };
        let monitor = [0, 1].map(free_address);
        let (changes, told) = channel();
        let mut told = Some(told);
        let spawn = |(own, ends): (u16, MeshEnds)| {
            let (net, is_over, report) = (net.clone(), is_over.clone(), report.clone());
            let upstreams = upstreams.filter(|_| own == 0).cloned();
            let monitor = (own == 0).then_some(monitor);
            let beside = Beside { upstreams, monitor, changes: told.take() };
            std::thread::spawn(move || {
                let executor = LocalExecutorBuilder::new(Placement::Unbound)
                    .io_memory(1 << 20)
                    .ring_depth(64)
                    .make()
                    .unwrap();
                executor.run(serve(CoreId(own), core_count, net, ends, beside, &report, &is_over));
            })
        };
        let threads: Vec<_> = (0..core_count).zip(make_ends(core_count)).map(spawn).collect();
        let mut addresses: Vec<_> =
            (0..core_count).map(|_| reports.recv_timeout(PATIENCE).unwrap()).collect();
        addresses.sort();
        let addresses = addresses.into_iter().map(|(_, address)| address).collect();
        Self { addresses, monitor, changes, is_over, threads }
    }

    fn plain(&self, core: usize) -> TcpStream {
        let socket = TcpStream::connect(self.addresses[core]).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A failure has been reported by the thread itself.
            let _ = thread.join();
        }
    }
}

/// What a core serves beside its clients.
struct Beside {
    upstreams: Option<Upstreams>,
    monitor: Option<[SocketAddr; 2]>,
    /// Of core 0.
    changes: Option<Receiver<Arc<RuntimeSettings>>>,
}

/// A core with a store of its own in memory, not started yet.
async fn open_front(
    own: CoreId,
    core_count: u16,
    net: NetConfig,
) -> Rc<Front<MemoryDisk, GlommioRuntime>> {
    let config = StorageConfig {
        cluster_id: net.cluster_id.clone(),
        shard_count: Some(net.shard_count),
        payload_size_bytes_max: 1 << 20,
        channels_max: 0,
        limits: ChannelLimits::default().into(),
        seed: 1,
        tuning: Tuning::default(),
    };
    let disk = MemoryDisk::default();
    let info = open_store(&disk, &config).await.unwrap();
    let shards: Vec<_> =
        (0..net.shard_count).filter(|shard| shard % core_count == own.0).map(ShardId).collect();
    let slots = ChannelSlots::new(0);
    let storage =
        Storage::open(disk, GlommioRuntime, &info, &config, slots, &shards).await.unwrap();
    let core = Core::new(net, own, core_count, storage, u64::from(own.0));
    Front::new(core, GlommioRuntime, Box::new(|_| ()))
}

async fn serve(
    own: CoreId,
    core_count: u16,
    net: NetConfig,
    ends: MeshEnds,
    beside: Beside,
    report: &Sender<(CoreId, SocketAddr)>,
    is_over: &AtomicBool,
) {
    let front = open_front(own, core_count, net).await;
    let (mesh, incoming) = ends.connect().await;
    front.start(mesh, incoming).await;
    if let Some([http, https]) = beside.monitor {
        let ports = [(http, false), (https, true)];
        let ports = ports.map(|(address, is_tls)| MonitorPort { address, is_tls });
        front.monitor(Site::default(), &ports).unwrap();
    }
    if let Some(upstreams) = beside.upstreams {
        front.join_upstream(upstreams).await.unwrap();
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    report.send((own, listener.local_addr().unwrap())).unwrap();
    let accepting = front.clone();
    let accept = glommio::spawn_local(async move {
        while let Ok(socket) = listener.shared_accept().await {
            accepting.accept(socket);
        }
    });
    while !is_over.load(Ordering::Relaxed) {
        for settings in beside.changes.iter().flat_map(Receiver::try_iter) {
            front.reload(&settings);
        }
        GlommioRuntime.sleep(TICK).await;
    }
    accept.cancel().await;
    front.stop().await;
}

fn config(spec: &TlsSpec) -> NetConfig {
    let tls = Some(Arc::new(TlsServer::load(spec).unwrap()));
    NetConfig { shard_count: 4, tls, ..NetConfig::default() }
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Begins TLS; the handshake itself happens at the first byte.
fn tls(client: &TlsClient, socket: TcpStream) -> Stream {
    let name = ServerName::try_from("127.0.0.1").unwrap();
    StreamOwned::new(ClientConnection::new(client.config.clone(), name).unwrap(), socket)
}

fn line(stream: &mut impl Read) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

/// Says `text` and expects the answer of a PING.
fn say(stream: &mut impl ReadWrite, text: &str) {
    let connect = "CONNECT {\"verbose\":false,\"pedantic\":false}\r\n";
    stream.write_all(format!("{connect}{text}PING\r\n").as_bytes()).unwrap();
    assert_eq!(line(stream), "PONG\r\n");
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

/// The connection is closed without another word.
fn is_closed_in_silence(stream: &mut impl Read) -> bool {
    let mut rest = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut rest);
    !rest.windows(4).any(|text| text == b"-ERR")
}

fn anonymous(authority: &Authority) -> TlsClient {
    let spec = authority.client("nobody@host");
    TlsClient::load(&crate::tls::TlsClientSpec { cert_file: None, key_file: None, ..spec }).unwrap()
}

#[test]
fn clients_of_one_and_of_two_cores_exchange_large_messages_over_tls() {
    let authority = Authority::new();
    let client = anonymous(&authority);
    for core_count in [1, 2] {
        let servers = Servers::start(core_count, &config(&authority.server()));
        let mut streams: Vec<Stream> = [0, usize::from(core_count) - 1]
            .into_iter()
            .map(|core| {
                let mut socket = servers.plain(core);
                let info = line(&mut socket);
                assert!(info.contains("\"tls_required\":true"), "{info}");
                assert!(!info.contains("tls_verify") && !info.contains("tls_available"), "{info}");
                tls(&client, socket)
            })
            .collect();
        say(&mut streams[0], "SUB news 1\r\n");
        let payload: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();
        let mut publisher = streams.pop().unwrap();
        let sent = payload.clone();
        let publishing = std::thread::spawn(move || {
            say(&mut publisher, "");
            for _ in 0..8 {
                publisher.write_all(b"PUB news 1000000\r\n").unwrap();
                publisher.write_all(&sent).unwrap();
                publisher.write_all(b"\r\n").unwrap();
            }
            publisher.write_all(b"PING\r\n").unwrap();
            assert_eq!(line(&mut publisher), "PONG\r\n");
        });
        for _ in 0..8 {
            assert_eq!(line(&mut streams[0]), "MSG news 1 1000000\r\n");
            let mut got = vec![0; payload.len() + 2];
            streams[0].read_exact(&mut got).unwrap();
            assert!(got.starts_with(&payload));
        }
        publishing.join().unwrap();
    }
}

#[test]
fn without_tls_a_client_is_closed_in_silence() {
    let authority = Authority::new();
    let servers = Servers::start(1, &config(&authority.server()));
    let mut socket = servers.plain(0);
    line(&mut socket);
    socket.write_all(b"CONNECT {}\r\nPING\r\n").unwrap();
    assert!(is_closed_in_silence(&mut socket));
}

#[test]
fn who_does_not_begin_is_closed_after_the_timeout() {
    let authority = Authority::new();
    let spec = TlsSpec { timeout_ms: Some(50), ..authority.server() };
    let servers = Servers::start(1, &config(&spec));
    let mut socket = servers.plain(0);
    line(&mut socket);
    assert!(is_closed_in_silence(&mut socket));
}

#[test]
fn with_the_handshake_first_nothing_is_said_in_plain() {
    let authority = Authority::new();
    let order = HandshakeOrder::HandshakeFirst;
    let spec = TlsSpec { order, timeout_ms: Some(500), ..authority.server() };
    let servers = Servers::start(1, &config(&spec));
    let mut stream = tls(&anonymous(&authority), servers.plain(0));
    assert!(line(&mut stream).starts_with("INFO {"));
    say(&mut stream, "");
    let mut rest = Vec::new();
    let _ = servers.plain(0).read_to_end(&mut rest);
    assert_eq!(rest, b"");
}

#[test]
fn either_may_begin_if_the_server_waits_a_while() {
    let authority = Authority::new();
    let order = HandshakeOrder::WaitMs(200);
    let servers = Servers::start(1, &config(&TlsSpec { order, ..authority.server() }));
    let client = anonymous(&authority);
    let mut first = tls(&client, servers.plain(0));
    assert!(line(&mut first).starts_with("INFO {"));
    say(&mut first, "");
    let mut socket = servers.plain(0);
    assert!(line(&mut socket).starts_with("INFO {"));
    say(&mut tls(&client, socket), "");
}

#[test]
fn where_plain_is_allowed_the_first_byte_decides() {
    let authority = Authority::new();
    let spec = TlsSpec { is_plain_allowed: true, ..authority.server() };
    let servers = Servers::start(1, &config(&spec));
    for is_tls in [false, true] {
        let mut socket = servers.plain(0);
        let info = line(&mut socket);
        assert!(info.contains("\"tls_available\":true"), "{info}");
        assert!(!info.contains("tls_required"), "{info}");
        if is_tls {
            say(&mut tls(&anonymous(&authority), socket), "");
        } else {
            say(&mut socket, "");
        }
    }
}

#[test]
fn a_client_certificate_is_demanded_and_checked() {
    let authority = Authority::new();
    let client_certificates = ClientCertificates::Verified;
    let servers =
        Servers::start(1, &config(&TlsSpec { client_certificates, ..authority.server() }));
    let known = TlsClient::load(&authority.client("me@host")).unwrap();
    let elsewhere = Authority::new().client("me@host");
    let ca_file = Some(authority.file("ca.pem"));
    // The other authority's files are gone with it.
    assert!(TlsClient::load(&elsewhere).is_err());
    let other = Authority::new();
    let stranger =
        TlsClient::load(&crate::tls::TlsClientSpec { ca_file, ..other.client("me@host") });
    // One certificate for all, which has signed itself, is no client's for rustls, but for Go.
    let itself = TlsClient::load(&authority.itself()).unwrap();
    for (client, is_welcome) in
        [(known, true), (itself, true), (anonymous(&authority), false), (stranger.unwrap(), false)]
    {
        let mut socket = servers.plain(0);
        assert!(line(&mut socket).contains("\"tls_verify\":true"));
        let mut stream = tls(&client, socket);
        if is_welcome {
            say(&mut stream, "");
        } else {
            let _ = stream.write_all(b"CONNECT {}\r\nPING\r\n");
            let mut byte = [0];
            let error = stream.read_exact(&mut byte).expect_err("served without a certificate");
            let text = error.to_string();
            // The words that clients of NATS look for.
            let is_told = text.contains("CertificateRequired") || text.contains("BadCertificate");
            assert!(is_told, "{text}");
        }
    }
}

#[test]
fn another_server_is_joined_over_tls_with_a_certificate() {
    let authority = Authority::new();
    let client_certificates = ClientCertificates::Verified;
    let there = Servers::start(1, &config(&TlsSpec { client_certificates, ..authority.server() }));
    let net = NetConfig {
        shard_count: 4,
        cluster_id: "guest".to_owned(),
        has_upstream: true,
        ..NetConfig::default()
    };
    let server = UpstreamAddress {
        host: "127.0.0.1".to_owned(),
        port: there.addresses[0].port(),
        login: Login::Open,
        is_tls: true,
    };
    let tls = TlsClient::load(&authority.client("me@host")).ok();
    // It starts only if it has joined.
    let upstreams = Upstreams { servers: vec![server], tls };
    let here = Servers::start_with(1, &net, Some(&upstreams));
    assert_eq!(here.addresses.len(), 1);
}

#[test]
fn a_password_is_compared_with_its_hash_beside_the_core() {
    let password = crate::auth::tests::hashed();
    let users = vec![crate::auth::UserSpec { name: "ann".to_owned(), password, permissions: None }];
    let spec = crate::auth::AuthorizationSpec { users, ..Default::default() };
    let authorization = Some(Arc::new(crate::auth::Authorization::new(&spec).unwrap()));
    let net = NetConfig { shard_count: 4, authorization, ..NetConfig::default() };
    let servers = Servers::start(2, &net);
    for (password, answer) in
        [("secret", "PONG\r\n"), ("guess", "-ERR 'Authorization Violation'\r\n")]
    {
        let mut socket = servers.plain(1);
        line(&mut socket);
        let connect = format!(
            "CONNECT {{\"verbose\":false,\"user\":\"ann\",\"pass\":\"{password}\"}}\r\nPING\r\n"
        );
        socket.write_all(connect.as_bytes()).unwrap();
        assert_eq!(line(&mut socket), answer);
    }
}

#[test]
fn a_certificate_that_was_read_again_is_shown_to_connections_to_come() {
    let (before, after) = (Authority::new(), Authority::new());
    let servers = Servers::start(2, &config(&before.server()));
    let open = |core: usize, authority: &Authority| {
        let mut socket = servers.plain(core);
        line(&mut socket);
        let mut stream = tls(&anonymous(authority), socket);
        stream.write_all(b"CONNECT {\"verbose\":false}\r\nPING\r\n").map(|()| stream)
    };
    let mut old = open(1, &before).unwrap();
    assert_eq!(line(&mut old), "PONG\r\n");
    assert!(open(1, &after).is_err(), "it is another authority's");
    let settings = RuntimeSettings::of(&config(&after.server()), ChannelLimits::default().into());
    servers.changes.send(Arc::new(settings)).unwrap();
    for core in [0, 1] {
        let opened = (0..1_000).find_map(|_| {
            std::thread::sleep(TICK);
            open(core, &after).ok()
        });
        assert_eq!(line(&mut opened.unwrap()), "PONG\r\n");
        assert!(open(core, &before).is_err(), "the old one is gone");
    }
    say(&mut old, "");
}

/// Sends `request` and returns the next response: its head, and as much behind it as the head says.
fn ask(stream: &mut impl ReadWrite, request: &str) -> (String, String) {
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        head += &line(stream);
    }
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
    (head, String::from_utf8(body).unwrap())
}

#[test]
fn monitoring_answers_one_request_after_the_other() {
    let authority = Authority::new();
    // Clients must show a certificate; whoever looks at the pages need not.
    let client_certificates = ClientCertificates::Verified;
    let spec = TlsSpec { client_certificates, ..authority.server() };
    let servers = Servers::start(2, &config(&spec));
    let connect = |address| {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    };
    let [http, https] = servers.monitor;
    let mut socket = connect(http);
    for path in ["/varz", "/streaming/channelsz", "/healthz"] {
        let (head, body) = ask(&mut socket, &format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        serde_json::from_str::<serde_json::Value>(&body).unwrap();
    }
    // Two at once are answered in turn, and the last one ends the connection.
    socket.write_all(b"GET /healthz HTTP/1.1\r\n\r\nGET /nothing HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(ask(&mut socket, "").1, "{\"status\":\"ok\"}");
    assert!(ask(&mut socket, "").0.starts_with("HTTP/1.1 404 Not Found\r\n"));
    assert!(is_closed_in_silence(&mut socket));
    // What is no request is refused, and costs its own connection only.
    let mut socket = connect(http);
    assert!(
        ask(&mut socket, "\u{16}\u{3}\u{1}\r\n\r\n").0.starts_with("HTTP/1.1 400 Bad Request\r\n")
    );
    assert!(is_closed_in_silence(&mut socket));
    // Connections that say nothing keep others out only above a bound.
    let silent: Vec<_> = (0..64).map(|_| connect(http)).collect();
    let mut beyond = connect(http);
    let _ = beyond.write_all(b"GET /healthz HTTP/1.1\r\n\r\n");
    assert!(is_closed_in_silence(&mut beyond));
    drop(silent);
    let answered = (0..200).any(|_| {
        std::thread::sleep(TICK);
        let mut socket = connect(http);
        let mut byte = [0];
        let sent = socket.write_all(b"GET /healthz HTTP/1.1\r\n\r\n");
        sent.is_ok() && socket.read(&mut byte).is_ok_and(|count| count == 1)
    });
    assert!(answered, "there is room again");
    let mut stream = tls(&anonymous(&authority), connect(https));
    let (_, body) = ask(&mut stream, "GET /varz HTTP/1.1\r\n\r\n");
    assert!(body.contains("\"tls_verify\": true"), "{body}");
}
