//! What lies between clients and the server, and between its cores: pipes that are first in, first out, each with
//! delays of its own, and connections made of two of them that can be cut at any moment.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;
use weirlog_engine::runtime::{Doorbell, Runtime};
use weirlog_engine::sim::SimRuntime;
use weirlog_engine::types::Monotonic;

/// Bytes on their way to a client, above which its server can write no more: a socket buffer, small enough that a
/// client that does not read is felt.
const SOCKET_BYTES_MAX: usize = 64 << 10;

/// One direction: what is sent arrives later, in the order it was sent.
pub(super) struct Pipe<T> {
    queue: RefCell<VecDeque<(Monotonic, T)>>,
    /// When the last one arrives: none that is sent later comes earlier.
    last: Cell<Monotonic>,
    bell: Doorbell,
    /// When the receiver learns that nothing more comes.
    ends_at: Cell<Option<Monotonic>>,
}

impl<T> Default for Pipe<T> {
    fn default() -> Self {
        Self {
            queue: RefCell::default(),
            last: Cell::default(),
            bell: Doorbell::default(),
            ends_at: Cell::new(None),
        }
    }
}

impl<T> Pipe<T> {
    /// Sends; behind the end it goes nowhere.
    pub(super) fn send(&self, item: T, at: Monotonic) {
        if self.ends_at.get().is_some() {
            return;
        }
        let at = at.max(self.last.get());
        self.last.set(at);
        self.queue.borrow_mut().push_back((at, item));
        self.bell.ring();
    }

    /// Nothing more is sent. What is on the way still arrives, but for the last `lost` items; the receiver learns of
    /// the end at `at` or when all has arrived.
    pub(super) fn end(&self, at: Monotonic, lost: usize) {
        if self.ends_at.get().is_some_and(|known| known <= at) {
            return;
        }
        let mut queue = self.queue.borrow_mut();
        let kept = queue.len().saturating_sub(lost);
        queue.truncate(kept);
        self.ends_at.set(Some(at));
        self.bell.ring();
    }

    /// Nothing arrives any more, not even what is on the way.
    pub(super) fn end_now(&self) {
        self.queue.borrow_mut().clear();
        self.ends_at.set(Some(Monotonic(0)));
        self.bell.ring();
    }

    pub(super) fn ends_at(&self) -> Option<Monotonic> {
        self.ends_at.get()
    }

    fn len(&self) -> usize {
        self.queue.borrow().len()
    }

    /// Waits for the next item; none: the end.
    pub(super) async fn receive(&self, runtime: &SimRuntime) -> Option<T> {
        loop {
            let now = runtime.now().mono;
            let head = self.queue.borrow().front().map(|(at, _)| *at);
            let until = match (head, self.ends_at.get()) {
                (Some(at), _) if at <= now => {
                    return self.queue.borrow_mut().pop_front().map(|(_, item)| item);
                }
                (Some(at), _) => at,
                (None, Some(end)) if end <= now => return None,
                (None, Some(end)) => end,
                (None, None) => {
                    self.bell.wait().await;
                    continue;
                }
            };
            runtime.sleep(Duration::from_nanos(until.since(now))).await;
        }
    }
}

/// A connection between a client and the server.
pub(super) struct Connection {
    /// Its number in this run.
    pub(super) number: u64,
    pub(super) to_server: Pipe<Vec<u8>>,
    pub(super) to_client: Pipe<Vec<u8>>,
    /// Bytes sent to the client and not taken.
    waiting_bytes: Cell<usize>,
    /// Rung when the client took some.
    room: RefCell<Option<Doorbell>>,
    is_cut: Cell<bool>,
    rng: RefCell<Rng>,
    /// The longest delay of a chunk.
    delay_us_max: u64,
    /// What the network adds to it at present.
    lag_us_max: Rc<Cell<u64>>,
}

impl Connection {
    pub(super) fn new(number: u64, mut rng: Rng, lag_us_max: Rc<Cell<u64>>) -> Rc<Self> {
        let delay_us_max = [50, 500, 5_000, 50_000][rng.usize(..4)];
        Rc::new(Self {
            number,
            to_server: Pipe::default(),
            to_client: Pipe::default(),
            waiting_bytes: Cell::new(0),
            room: RefCell::default(),
            is_cut: Cell::new(false),
            rng: RefCell::new(rng),
            delay_us_max,
            lag_us_max,
        })
    }

    /// Whether the network has failed under it, whoever knows.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut.get()
    }

    /// Whom to wake when there is room again.
    pub(super) fn set_room_bell(&self, bell: Doorbell) {
        *self.room.borrow_mut() = Some(bell);
    }

    fn arrival(&self, now: Monotonic) -> Monotonic {
        let delay_us_max = self.delay_us_max + self.lag_us_max.get();
        let delay_us = self.rng.borrow_mut().u64(1..=delay_us_max);
        Monotonic(now.0 + delay_us * 1_000)
    }

    /// The client sends, in pieces of any size.
    pub(super) fn send_to_server(&self, mut bytes: &[u8], now: Monotonic) {
        while !bytes.is_empty() {
            let length = self.piece(bytes.len());
            let (piece, rest) = bytes.split_at(length);
            let at = self.arrival(now);
            self.to_server.send(piece.to_vec(), at);
            bytes = rest;
        }
    }

    fn piece(&self, length: usize) -> usize {
        let mut rng = self.rng.borrow_mut();
        if rng.u8(..4) == 0 { rng.usize(1..=length) } else { length }
    }

    /// The server sends as much of `bytes` as there is room for; 0: none.
    pub(super) fn send_to_client(&self, bytes: &[u8], now: Monotonic) -> usize {
        let room = SOCKET_BYTES_MAX.saturating_sub(self.waiting_bytes.get());
        let length = bytes.len().min(room);
        if length == 0 {
            return 0;
        }
        let length = self.piece(length);
        self.waiting_bytes.set(self.waiting_bytes.get() + length);
        let at = self.arrival(now);
        self.to_client.send(bytes[..length].to_vec(), at);
        length
    }

    /// The client takes the next piece.
    pub(super) async fn receive_at_client(&self, runtime: &SimRuntime) -> Option<Vec<u8>> {
        let piece = self.to_client.receive(runtime).await?;
        self.waiting_bytes.set(self.waiting_bytes.get().saturating_sub(piece.len()));
        if let Some(bell) = &*self.room.borrow() {
            bell.ring();
        }
        Some(piece)
    }

    /// The network fails; each side learns of it after its delay, and some of what is on the way is lost.
    pub(super) fn cut(&self, now: Monotonic, server_after: Duration, client_after: Duration) {
        self.is_cut.set(true);
        let after =
            |duration: Duration| Monotonic(now.0 + u64::try_from(duration.as_nanos()).unwrap_or(0));
        let lost = |count: usize| self.rng.borrow_mut().usize(0..=count);
        self.to_server.end(after(server_after), lost(self.to_server.len()));
        self.to_client.end(after(client_after), lost(self.to_client.len()));
    }

    /// The server's process is gone.
    pub(super) fn server_died(&self, now: Monotonic) {
        self.is_cut.set(true);
        self.to_server.end_now();
        let (lost, after_us) = {
            let mut rng = self.rng.borrow_mut();
            (rng.usize(0..=self.to_client.len()), rng.u64(0..50_000))
        };
        self.to_client.end(Monotonic(now.0 + after_us * 1_000), lost);
    }

    /// The server closes its side: all that it wrote arrives first.
    pub(super) fn server_closes(&self, now: Monotonic) {
        self.is_cut.set(true);
        self.to_server.end_now();
        let at = self.arrival(now);
        self.to_client.end(at, 0);
    }

    /// The client closes its side: all that it wrote arrives first.
    pub(super) fn client_closes(&self, now: Monotonic) {
        self.is_cut.set(true);
        let at = self.arrival(now);
        self.to_server.end(at, 0);
        self.to_client.end_now();
    }
}
