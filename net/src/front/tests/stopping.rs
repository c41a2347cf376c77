//! What a core does on its way to its end.

use super::*;

/// Connections were read until the executor ended, 5 ms behind the last commit hint: what was answered then nothing
/// witnessed, and acks were taken that nobody logged any more.
#[test]
fn a_core_that_stops_takes_nothing_in() {
    let executor = LocalExecutorBuilder::new(Placement::Unbound).io_memory(1 << 20).ring_depth(64);
    executor.make().unwrap().run(async {
        let front = open_front(CoreId(0), 1, NetConfig::default()).await;
        let (mesh, incoming) = make_ends(1).remove(0).connect().await;
        front.start(mesh, incoming).await;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stops, stopping) = channel();
        let (greeted, greetings) = channel();
        let client = std::thread::spawn(move || {
            let mut socket = TcpStream::connect(address).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            line(&mut socket);
            say(&mut socket, "");
            greeted.send(()).unwrap();
            stopping.recv().unwrap();
            socket.write_all(b"PING\r\n").unwrap();
            let mut said = String::new();
            // A reset is an end too.
            let _ = socket.read_to_string(&mut said);
            said
        });
        front.accept(listener.shared_accept().await.unwrap());
        while greetings.try_recv().is_err() {
            assert!(!client.is_finished(), "it is greeted");
            GlommioRuntime.sleep(TICK).await;
        }
        let line = front.lines.borrow()[0].clone().unwrap();
        let mut stop = pin!(front.stop());
        assert!(poll_fn(|context| Poll::Ready(stop.as_mut().poll(context).is_pending())).await);
        stops.send(()).unwrap();
        for _ in 0..PATIENCE.as_millis() / TICK.as_millis() {
            if line.rest.borrow().filled > 0 {
                break;
            }
            GlommioRuntime.sleep(TICK).await;
        }
        assert_eq!(line.rest.borrow().filled, b"PING\r\n".len(), "it came, and nobody took it");
        stop.await;
        let said = client.join().unwrap();
        assert!(!said.contains("PONG"), "{said}");
    });
}
