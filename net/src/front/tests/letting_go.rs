//! What a connection that is closed for its memory gives back, and when.

use super::*;

/// Half messages of connections that were closed for them stayed until their writers had their turn, behind all readers
/// that had something to read, each with a half message of its own: 600 MB under a ceiling of 64 MB on a busy machine.
#[test]
fn what_a_connection_is_closed_for_goes_before_anybody_reads_more() {
    const HALF_SIZE_BYTES: usize = 300_000;
    let executor = LocalExecutorBuilder::new(Placement::Unbound).io_memory(1 << 20).ring_depth(64);
    executor.make().unwrap().run(async {
        let net = NetConfig { buffered_bytes_max: 1 << 20, ..NetConfig::default() };
        let front = open_front(CoreId(0), 1, net).await;
        let (mesh, incoming) = make_ends(1).remove(0).connect().await;
        front.start(mesh, incoming).await;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = std::thread::spawn(move || {
            let mut socket = TcpStream::connect(address).unwrap();
            let half = "x".repeat(HALF_SIZE_BYTES);
            let half = format!("CONNECT {{}}\r\nPUB a 400000\r\n{half}");
            socket.write_all(half.as_bytes()).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut said = String::new();
            // A reset is an end too.
            let _ = socket.read_to_string(&mut said);
            said
        });
        front.accept(listener.shared_accept().await.unwrap());
        let line = front.lines.borrow()[0].clone().unwrap();
        while line.rest.borrow().filled < HALF_SIZE_BYTES {
            assert!(!client.is_finished(), "it waits for a word");
            GlommioRuntime.sleep(TICK).await;
        }
        // It comes to hold more than the ceiling.
        front.with_core(|core, _| core.keep_received(line.id, 2 << 20));
        assert!(front.core.borrow().is_closing(line.id));
        assert_eq!(line.rest.borrow().bytes.capacity(), 0, "nothing has waited since");
        while !line.is_finished.get() {
            GlommioRuntime.sleep(TICK).await;
        }
        let said = client.join().unwrap();
        assert!(said.contains("-ERR 'Too Many Bytes Buffered'"), "{said}");
        front.stop().await;
    });
}
