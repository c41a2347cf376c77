//! The edge of one core: sockets, channels and timers around a [`Core`]. It decides nothing; it carries bytes in and
//! out, rings bells, and never keeps the core borrowed over a wait.

mod line;
pub mod monitor;
mod passwords;
mod reader;
#[cfg(test)]
mod tests;
mod tls;
pub mod upstream;
mod wire;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use glommio::net::AcceptedTcpStream;
use weirlog_engine::disk::Disk;
use weirlog_engine::runtime::{Doorbell, Runtime};
use weirlog_engine::types::Monotonic;

use crate::address::Address;
use crate::auth::PasswordCheck;
use crate::core::{Core, Notice, RuntimeSettings};
use crate::ids::ConnectionId;
use crate::mesh::{Incoming, Mesh};
use line::Line;
use monitor::Reports;
use reader::SCRATCH_SIZE_BYTES;
use wire::Wire;

/// A core that stops waits so long for the others to stop too. One that has failed never does; what clients of one that
/// is stuck send has the fate of what a killed server had not read.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two looks.
const SILENCE_TICK: Duration = Duration::from_millis(1);

/// One core with its edges.
pub struct Front<D: Disk, R: Runtime> {
    core: RefCell<Core<D, R>>,
    runtime: R,
    mesh: OnceCell<Mesh>,
    lines: RefCell<Vec<Option<Rc<Line>>>>,
    /// What sockets are read into, one after the other.
    scratch: RefCell<Vec<u8>>,
    /// When the timer task will wake; none: not before it is rung.
    armed: Cell<Option<Monotonic>>,
    timer_bell: Doorbell,
    is_stopping: Cell<bool>,
    /// Connections whose TLS handshake is under way.
    handshakes: Cell<usize>,
    /// Passwords that wait to be compared; the core bounds their number.
    passwords: RefCell<VecDeque<(ConnectionId, PasswordCheck)>>,
    password_bell: Doorbell,
    reports: Reports,
    on_notice: Box<dyn Fn(Notice)>,
}

impl<D: Disk, R: Runtime> Front<D, R> {
    /// Edges around `core`, which is not started yet. `on_notice` tells the operator.
    #[must_use]
    pub fn new(core: Core<D, R>, runtime: R, on_notice: Box<dyn Fn(Notice)>) -> Rc<Self> {
        Rc::new(Self {
            core: RefCell::new(core),
            runtime,
            mesh: OnceCell::new(),
            lines: RefCell::default(),
            scratch: RefCell::new(vec![0; SCRATCH_SIZE_BYTES]),
            armed: Cell::new(None),
            timer_bell: Doorbell::default(),
            is_stopping: Cell::new(false),
            handshakes: Cell::new(0),
            passwords: RefCell::default(),
            password_bell: Doorbell::default(),
            reports: Reports::default(),
            on_notice,
        })
    }

    /// Starts the core and its tasks. Returns when all cores are ready for connections.
    pub async fn start(self: &Rc<Self>, mesh: Mesh, incoming: Vec<Incoming>) {
        assert!(self.mesh.set(mesh).is_ok(), "a core is started once");
        for link in incoming {
            glommio::spawn_local(self.clone().receive(link)).detach();
        }
        glommio::spawn_local(self.clone().run_storage()).detach();
        glommio::spawn_local(self.clone().run_timers()).detach();
        glommio::spawn_local(self.clone().run_passwords()).detach();
        self.with_core(|core, now| core.start(now));
        while !self.core.borrow().is_ready() {
            // Once at start, some hundred microseconds: not worth a bell.
            self.runtime.sleep(Duration::from_millis(1)).await;
        }
    }

    /// Takes over a socket that any core has accepted.
    pub fn accept(self: &Rc<Self>, socket: AcceptedTcpStream) {
        if self.is_stopping.get() {
            return;
        }
        let stream = socket.bind_to_executor();
        let address = stream.peer_addr().map(Address::from).unwrap_or_default();
        // Without it small answers wait for the client's delayed acks; a socket that refuses is about to close.
        let _ = stream.set_nodelay(true);
        // Else the kernel keeps the port from other programs for a minute after this side closed first: it lets one in
        // only where both ends of the past said that they may be followed.
        let _ = socket2::SockRef::from(&stream).set_reuse_address(true);
        let tls = self.core.borrow().tls();
        if let Some(tls) = tls {
            self.welcome(address, stream, tls);
            return;
        }
        let id = self.with_core(|core, now| core.connection_opened(address, now));
        let line = self.add_line(id, Wire::Plain(stream));
        glommio::spawn_local(self.clone().read_loop(line)).detach();
    }

    /// A socket for a connection of the core, with its writer. Its reader is the caller's.
    fn add_line(self: &Rc<Self>, id: ConnectionId, wire: Wire) -> Rc<Line> {
        let line = Rc::new(Line::new(id, wire));
        {
            let mut lines = self.lines.borrow_mut();
            let slot = id.slot as usize;
            if lines.len() <= slot {
                lines.resize_with(slot + 1, || None);
            }
            lines[slot] = Some(line.clone());
        }
        glommio::spawn_local(self.clone().write_loop(line.clone())).detach();
        // What was marked before the line existed.
        line.writer.ring();
        line
    }

    /// Takes other settings, on all cores.
    pub fn reload(&self, settings: &Arc<RuntimeSettings>) {
        self.with_core(|core, now| core.reload(settings, now));
    }

    /// Tells clients to go elsewhere and closes those that stay. The caller accepts no more sockets.
    pub fn enter_lame_duck(&self) {
        self.with_core(Core::enter_lame_duck);
    }

    /// Whether no client is left after [`Front::enter_lame_duck`] and its grace period.
    #[must_use]
    pub fn is_lame_duck_over(&self) -> bool {
        self.core.borrow().is_lame_duck_over(self.runtime.now())
    }

    /// Ends the core's work, when all others are about to: nothing is taken in any more, all that is open is committed
    /// and acked.
    pub async fn stop(&self) {
        self.is_stopping.set(true);
        self.with_core(Core::fall_silent);
        let mut waited = Duration::ZERO;
        while !self.core.borrow().are_all_silent() && waited < SILENCE_TIMEOUT {
            self.runtime.sleep(SILENCE_TICK).await;
            waited += SILENCE_TICK;
        }
        let storage = self.core.borrow().storage().clone();
        storage.close().await;
        self.with_core(Core::on_storage);
        // The writers have their turn.
        self.runtime.sleep(Duration::from_millis(5)).await;
        // The ring may let go of its sockets only after the process has ended: clients shall know before.
        for line in self.lines.borrow().iter().flatten() {
            line.finish();
        }
    }

    /// Lets the core do something, then carries out what came of it.
    pub(crate) fn with_core<T>(
        &self,
        work: impl FnOnce(&mut Core<D, R>, weirlog_engine::types::Now) -> T,
    ) -> T {
        let now = self.runtime.now();
        let result = work(&mut self.core.borrow_mut(), now);
        self.perform();
        result
    }

    /// Carries out what the core wants done.
    fn perform(&self) {
        let mut core = self.core.borrow_mut();
        core.storage().pump();
        let lines = self.lines.borrow();
        let line = |id: ConnectionId| {
            lines.get(id.slot as usize).and_then(Option::as_ref).filter(|line| line.id == id)
        };
        for id in core.take_flushes() {
            if let Some(line) = line(id) {
                line.writer.ring();
            }
        }
        for id in core.take_releases() {
            if let Some(line) = line(id) {
                line.let_go();
            }
        }
        for id in core.take_wakes() {
            if let Some(line) = line(id) {
                line.reader.ring();
            }
        }
        if let Some(mesh) = self.mesh.get() {
            for (to, batch) in core.take_mesh() {
                mesh.send(to, batch);
            }
        }
        let checks = core.take_password_checks();
        if !checks.is_empty() {
            self.passwords.borrow_mut().extend(checks);
            self.password_bell.ring();
        }
        for (ticket, report) in core.take_reports() {
            self.reports.arrive(ticket, report);
        }
        for notice in core.take_notices() {
            (self.on_notice)(notice);
        }
        if core.has_work() {
            core.storage().doorbell().ring();
        }
        let deadline = core.next_deadline();
        let is_earlier = deadline.is_some_and(|at| self.armed.get().is_none_or(|armed| at < armed));
        if is_earlier {
            self.timer_bell.ring();
        }
    }

    async fn run_storage(self: Rc<Self>) {
        let bell = self.core.borrow().storage().doorbell().clone();
        loop {
            bell.wait().await;
            self.with_core(Core::on_storage);
            // A bell that is rung again at once must not keep the others from their turn.
            yield_now().await;
        }
    }

    async fn run_timers(self: Rc<Self>) {
        loop {
            let deadline = self.core.borrow().next_deadline();
            self.armed.set(deadline);
            let ring = pin!(self.timer_bell.wait());
            match deadline {
                Some(at) => {
                    let wait = Duration::from_nanos(at.since(self.runtime.now().mono));
                    first_of(ring, pin!(self.runtime.sleep(wait))).await;
                }
                None => ring.await,
            }
            if deadline.is_some_and(|at| at <= self.runtime.now().mono) {
                self.with_core(Core::on_tick);
            }
        }
    }

    async fn receive(self: Rc<Self>, link: Incoming) {
        while let Some(batch) = link.receiver.recv().await {
            self.with_core(|core, now| core.on_mesh(link.from, batch, now));
        }
    }
}

/// Returns when either has happened.
pub(crate) async fn first_of(
    mut one: std::pin::Pin<&mut impl Future<Output = ()>>,
    mut other: std::pin::Pin<&mut impl Future<Output = ()>>,
) {
    poll_fn(|context| {
        if one.as_mut().poll(context).is_ready() || other.as_mut().poll(context).is_ready() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

/// Lets the other tasks of the executor run first.
async fn yield_now() {
    let mut has_yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
