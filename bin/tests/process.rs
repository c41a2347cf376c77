//! The process from outside: its signals, its log file, its exit code.

#![allow(clippy::unwrap_used, reason = "the helpers of a test fail it")]

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::rc::Rc;
use std::time::Duration;

/// A machine under load needs some of this.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at something.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A server with a directory of its own, killed when a test fails.
struct Server {
    child: Child,
    directory: Rc<tempfile::TempDir>,
    port: u16,
}

impl Server {
    fn start(flags: &[&str]) -> Self {
        Self::start_in(Rc::new(tempfile::tempdir().unwrap()), flags)
    }

    /// One that goes on with what another has left.
    fn start_in(directory: Rc<tempfile::TempDir>, flags: &[&str]) -> Self {
        Self::start_as(Command::new(env!("CARGO_BIN_EXE_weirlog")), directory, flags)
    }

    fn start_as(mut command: Command, directory: Rc<tempfile::TempDir>, flags: &[&str]) -> Self {
        let path = |name: &str| directory.path().join(name);
        let child = command
            .args(["-a", "127.0.0.1", "-p", "-1", "-cores", "2", "-shards", "2"])
            .arg("-dir")
            .arg(path("data"))
            .arg("-l")
            .arg(path("log"))
            .arg("-P")
            .arg(path("pid"))
            .args(flags)
            .spawn()
            .unwrap();
        let mut server = Self { child, directory, port: 0 };
        server.wait_for("log", "Streaming Server is ready");
        let log = std::fs::read_to_string(server.path("log")).unwrap();
        let (_, after) = log.split_once(" on 127.0.0.1:").unwrap();
        server.port = after.split(',').next().unwrap().parse().unwrap();
        server
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Waits until a file has such a text in it.
    fn wait_for(&self, name: &str, text: &str) {
        let has_text =
            |path: &Path| std::fs::read_to_string(path).is_ok_and(|content| content.contains(text));
        until(&format!("{text:?} in {name}"), || has_text(&self.path(name)));
    }

    /// `weirlog -sl`, with the server's file of its process id.
    fn signal(&self, order: &str) {
        let pid_file = self.path("pid");
        let mut command = Command::new(env!("CARGO_BIN_EXE_weirlog"));
        let status = command.arg("-sl").arg(order).arg("-P").arg(pid_file).status().unwrap();
        assert!(status.success(), "{order}: {status}");
    }

    fn connect(&self) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = Client(BufReader::new(stream));
        assert!(client.line().starts_with("INFO {"));
        client.send("CONNECT {\"verbose\":false,\"pedantic\":false,\"protocol\":1}\r\nPING\r\n");
        assert_eq!(client.line(), "PONG\r\n");
        assert!(client.line().contains("\"connect_info\":true"));
        client
    }

    /// The page of a server that has `-m` and writes its ports to its directory.
    fn metrics(&self) -> String {
        let ports = self.path(&format!("weirlog_{}.ports", self.child.id()));
        let ports: serde_json::Value =
            serde_json::from_slice(&std::fs::read(ports).unwrap()).unwrap();
        let address = ports["monitoring"][0].as_str().unwrap().strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        page
    }

    fn end(&mut self) -> ExitStatus {
        let mut status = None;
        until("the end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line
    }

    /// What comes until the server closes.
    fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
        String::from_utf8(rest).unwrap()
    }
}

/// Looks again and again.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let tries = PATIENCE.as_millis() / LOOK_INTERVAL.as_millis();
    for _ in 0..tries {
        if is_so() {
            return;
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
    panic!("waited in vain for {what}");
}

#[test]
fn a_lame_duck_tells_its_clients_refuses_new_ones_and_ends_with_0() {
    let mut server =
        Server::start(&["-lame_duck_duration", "1s", "-lame_duck_grace_period", "500ms"]);
    let mut clients = [server.connect(), server.connect(), server.connect()];
    server.signal("ldm");
    for client in &mut clients {
        assert!(client.line().contains("\"ldm\":true"));
    }
    until("a refusal", || TcpStream::connect(("127.0.0.1", server.port)).is_err());
    for client in &mut clients {
        assert_eq!(client.rest(), "");
    }
    assert_eq!(server.end().code(), Some(0));
    let log = std::fs::read_to_string(server.path("log")).unwrap();
    assert!(log.contains("[INF] Entering lame duck mode, stop accepting new clients\n"), "{log}");
    assert!(!server.path("pid").exists());
}

#[test]
fn a_log_file_that_was_moved_is_opened_anew_and_a_reload_does_no_harm() {
    let mut server = Server::start(&["-log_format", "json"]);
    std::fs::rename(server.path("log"), server.path("old")).unwrap();
    server.signal("reopen");
    server.wait_for("log", "File log re-opened");
    server.signal("reload");
    server.wait_for("log", "Reloaded the configuration");
    assert!(!std::fs::read_to_string(server.path("old")).unwrap().contains("re-opened"));
    server.connect();
    server.signal("quit");
    assert_eq!(server.end().code(), Some(0));
    let log = std::fs::read_to_string(server.path("log")).unwrap();
    assert!(log.lines().all(|line| line.starts_with('{') && line.ends_with('}')), "{log}");
    assert!(log.contains("Shutting down"), "{log}");
}

/// Shells give a process 1,024 open files, and 1,000 clients were all it served.
#[test]
fn the_server_takes_as_many_open_files_as_it_may_have() {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -Sn 200; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_weirlog")]);
    let server = Server::start_as(command, Rc::new(tempfile::tempdir().unwrap()), &[]);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.child.id())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let words: Vec<_> = files.split_whitespace().collect();
    assert_eq!(words[3], words[4], "{files}");
}

#[test]
fn several_signals_to_end_are_as_one() {
    let mut server = Server::start(&[]);
    let mut client = server.connect();
    // Something to commit, and a client that goes on talking.
    client.send(&"PUB a 1\r\nx\r\n".repeat(1000));
    let process = std::fs::read_to_string(server.path("pid")).unwrap();
    for order in ["term", "term", "quit"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weirlog"));
        // The process may have ended: then there is nobody to signal.
        let _ = command.arg("-sl").arg(format!("{order}={process}")).output().unwrap();
    }
    assert_eq!(server.end().code(), Some(0));
}

/// Of servers that start at once with one address one has it, and the others say so.
#[test]
fn servers_that_start_at_once_do_not_share_an_address() {
    let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = probe.local_addr().unwrap().port().to_string();
    drop(probe);
    let mut children: Vec<Child> = (0..4)
        .map(|_| {
            Command::new(env!("CARGO_BIN_EXE_weirlog"))
                .args(["-a", "127.0.0.1", "-p", &port, "-st", "memory"])
                .stderr(std::process::Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    let ended = |children: &mut Vec<Child>| {
        let codes = children.iter_mut().filter_map(|child| child.try_wait().unwrap());
        codes.map(|status| status.code()).collect::<Vec<_>>()
    };
    until("all but one have ended", || ended(&mut children).len() == 3);
    assert_eq!(ended(&mut children), [Some(1); 3]);
    TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    for child in &mut children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn a_log_that_cannot_be_opened_keeps_the_server_from_starting() {
    let output = Command::new(env!("CARGO_BIN_EXE_weirlog"))
        .args(["-st", "memory", "-l", "/nowhere/log"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with("weirlog: cannot open the log: "), "{text}");
}

/// Runs `weirlog bench` against a server.
fn bench(server: &Server, flags: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_weirlog"))
        .args(["bench", "-s", &format!("127.0.0.1:{}", server.port)])
        .args(flags)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn a_load_counts_what_is_published_and_delivered() {
    let server = Server::start(&[]);
    let pid = server.child.id().to_string();
    let live = ["-pub", "2", "-sub", "4", "-channels", "3", "-n", "1000", "-pid", &pid, "-json"];
    let (is_done, text) = bench(&server, &live);
    assert!(is_done, "{text}");
    let figures: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(figures["published"]["messages"], 1000);
    // The fourth subscriber has the first one's channel.
    assert_eq!(figures["delivered"]["messages"], 1334);
    assert!(figures["published"]["p50_us"].as_f64().unwrap() > 0.0);
    assert!(figures["server_resident_bytes"].as_u64().unwrap() > 1 << 20);
    let history = ["-pub", "0", "-sub", "1", "-channels", "3", "-n", "1000", "-start", "first"];
    let (is_done, text) = bench(&server, &history);
    assert!(is_done && text.starts_with("delivered 1000 messages of 128 bytes over 3 "), "{text}");
    let paced = ["-rate", "1000", "-n", "200", "-pub", "1"];
    let (is_done, text) = bench(&server, &paced);
    assert!(is_done && text.starts_with("published 200 messages"), "{text}");
    let idle = ["-pub", "0", "-idle", "100", "-hold", "50ms"];
    assert_eq!(bench(&server, &idle), (true, String::new()));
    let (is_done, text) = bench(&server, &["-cid", "another", "-timeout", "300ms"]);
    assert!(!is_done);
    let why = "not done in time: clients registered (0 acks, 0 deliveries so far)";
    assert_eq!(text, format!("weirlog: {why}\n"));
    let (is_done, text) = bench(&server, &["-s", "127.0.0.1:1"]);
    assert!(!is_done);
    assert!(text.starts_with("weirlog: cannot connect to 127.0.0.1:1: "), "{text}");
}

/// A command about stores: its exit code and what it says.
fn about_store(command: &str, directories: &[&Path]) -> (Option<i32>, String) {
    let mut process = Command::new(env!("CARGO_BIN_EXE_weirlog"));
    let output = process.arg(command).args(directories).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

fn verify(directory: &Path) -> (Option<i32>, String) {
    about_store("verify", &[directory])
}

fn repair(from: &Path, to: &Path) -> (Option<i32>, String) {
    about_store("repair", &[from, to])
}

/// A store is looked at whole, then with a flipped bit: `verify` names the message, and so does the log of a server that
/// comes to read it, once.
#[test]
fn a_flipped_bit_is_found_offline_and_while_serving() {
    let mut server = Server::start(&[]);
    let data = server.path("data");
    let (is_done, text) = bench(&server, &["-pub", "1", "-n", "300", "-window", "50"]);
    assert!(is_done, "{text}");
    let (code, text) = verify(&data);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("in use by another process"), "{text}");
    server.signal("quit");
    assert_eq!(server.end().code(), Some(0));
    let whole =
        "cluster test-cluster, 2 shards, 1 channels, 300 messages: all is as it was written\n";
    assert_eq!(verify(&data), (Some(0), whole.to_owned()));

    flip_a_bit_of_a_payload(&data);
    let (code, text) = verify(&data);
    assert_eq!(code, Some(1), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].contains("checksum is wrong: channel \"bench.0\", messages "), "{text}");
    assert!(lines[1].ends_with(" 299 messages: 1 messages are missing"), "{text}");
    assert_eq!(verify(&data), (Some(1), text.clone()), "nothing was changed");

    let copy = server.path("copy");
    let (code, text) = repair(&data, &copy);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.ends_with(&format!("299 messages copied to {}\n", copy.display())), "{text}");
    assert!(text.contains("checksum is wrong"), "{text}");
    let (code, text) = verify(&copy);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("1 messages were lost before this store was made"), "{text}");
    assert!(text.ends_with(" 299 messages: all is as it was written\n"), "{text}");
    let (code, text) = repair(&data, &copy);
    assert_eq!((code, text), (Some(1), format!("weirlog: {}: is there already\n", copy.display())));

    // The log of the first server is in the way of waiting for the second one's words.
    std::fs::remove_file(server.path("log")).unwrap();
    let ports = server.directory.path().to_str().unwrap().to_owned();
    let flags = ["-m", "-1", "-ports_file_dir", &ports];
    let server = Server::start_in(server.directory.clone(), &flags);
    assert!(!server.metrics().contains("weirlog_damage_messages{"), "nobody has read it yet");
    for _ in 0..2 {
        let flags = ["-pub", "0", "-sub", "1", "-start", "first", "-n", "300", "-timeout", "1s"];
        assert!(!bench(&server, &flags).0, "one is lost");
    }
    server.wait_for("log", &format!("Damage in {}", lines[0]));
    let log = std::fs::read_to_string(server.path("log")).unwrap();
    assert_eq!(log.matches("Damage in").count(), 1, "{log}");
    let (_, sequence) = lines[0].rsplit_once(" to ").unwrap();
    let gauge = format!(
        "weirlog_damage_messages{{channel=\"bench.0\",first=\"{sequence}\",last=\"{sequence}\"}} 1.0"
    );
    let metrics = server.metrics();
    let gauges = metrics.lines().filter(|line| line.starts_with("weirlog_damage_messages{"));
    assert_eq!(gauges.collect::<Vec<_>>(), [gauge]);
    assert!(metrics.contains("\nweirlog_damage 1.0\n"), "{metrics}");
}

/// In the newest segment that has one.
fn flip_a_bit_of_a_payload(data: &Path) {
    let directories = std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path());
    let segments = directories
        .filter(|path| path.is_dir())
        .flat_map(|path| std::fs::read_dir(path).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("segment-"));
    for path in segments {
        let mut bytes = std::fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(64).position(|window| window == [b'x'; 64]) {
            bytes[at + 9] ^= 4;
            std::fs::write(&path, bytes).unwrap();
            return;
        }
    }
    panic!("no payload is found");
}

#[test]
fn what_is_no_store_is_not_looked_at_and_not_changed() {
    let directory = tempfile::tempdir().unwrap();
    let (code, text) = verify(directory.path());
    assert_eq!(code, Some(1));
    assert!(text.ends_with(": not a Weirlog store\n"), "{text}");
    assert_eq!(verify(&directory.path().join("absent")).0, Some(1));
    let (code, text) = repair(directory.path(), &directory.path().join("copy"));
    assert_eq!(code, Some(1));
    assert!(text.ends_with(": not a Weirlog store\n"), "{text}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}
