//! The production server's edges over the simulated network: what `front`, `mesh` and the program do with sockets,
//! channels and threads, done with pipes and tasks. The cores inside are the ones that servers run.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use fastrand::Rng;
use weirlog_engine::error::{Damage, OpenError};
use weirlog_engine::runtime::{Doorbell, Runtime};
use weirlog_engine::sim::{SimDisk, SimRuntime};
use weirlog_engine::storage::{ChannelSlots, DiskStatistics, Storage, StorageConfig, open_store};
use weirlog_engine::types::{Monotonic, Now, ShardId};

use super::network::{Connection, Pipe};
use crate::address::Address;
use crate::config::NetConfig;
use crate::core::{Core, Next, Notice};
use crate::front::first_of;
use crate::ids::{ConnectionId, CoreId};
use crate::link::LinkBatch;

/// A link's longest delay.
const LINK_DELAY_US_MAX: u64 = 300;
/// An accepted socket reaches its core after at most this.
const HANDOFF_DELAY_US_MAX: u64 = 1_000;

type SimCore = Core<SimDisk, SimRuntime>;
type Links = Rc<Vec<Vec<Pipe<LinkBatch>>>>;

/// What a server is started with.
#[derive(Clone)]
pub(super) struct ServerPlan {
    pub(super) core_count: u16,
    pub(super) storage: StorageConfig,
    pub(super) net: NetConfig,
    pub(super) seed: u64,
}

/// One process.
pub(super) struct Server {
    group: SimRuntime,
    edges: Vec<RefCell<Option<Rc<Edge>>>>,
    connections: RefCell<Vec<Rc<Connection>>>,
    turn: Cell<usize>,
    rng: RefCell<Rng>,
    /// Why it does not run.
    failure: RefCell<Option<String>>,
    /// Damage that recovery reports, to be heard of before anybody connects.
    found: RefCell<Vec<Damage>>,
    is_stopping: Cell<bool>,
    /// Cores that are still closing.
    stopping_count: Cell<usize>,
}

/// One core with its edges.
struct Edge {
    core: RefCell<SimCore>,
    runtime: SimRuntime,
    own: CoreId,
    links: Links,
    lines: RefCell<Vec<Option<Rc<Line>>>>,
    armed: Cell<Option<Monotonic>>,
    timer_bell: Doorbell,
    is_started: Cell<bool>,
    rng: RefCell<Rng>,
    notices: RefCell<Vec<Notice>>,
}

/// One socket.
struct Line {
    id: ConnectionId,
    connection: Rc<Connection>,
    reader: Doorbell,
    writer: Doorbell,
    is_finished: Cell<bool>,
}

impl Server {
    /// Starts a process in `group` on `disk`; it is ready some time later, or failed.
    pub(super) fn start(group: SimRuntime, disk: SimDisk, plan: ServerPlan) -> Rc<Self> {
        let server = Rc::new(Self {
            group: group.clone(),
            edges: (0..plan.core_count).map(|_| RefCell::new(None)).collect(),
            connections: RefCell::default(),
            turn: Cell::new(0),
            rng: RefCell::new(Rng::with_seed(plan.seed)),
            failure: RefCell::default(),
            found: RefCell::default(),
            is_stopping: Cell::new(false),
            stopping_count: Cell::new(0),
        });
        let starting = server.clone();
        group.spawn(async move {
            if let Err(error) = starting.open(disk, plan).await {
                starting.fail(error.to_string());
            }
        });
        server
    }

    async fn open(self: &Rc<Self>, disk: SimDisk, plan: ServerPlan) -> Result<(), OpenError> {
        let info = open_store(&disk, &plan.storage).await?;
        let slots = ChannelSlots::new(plan.storage.channels_max);
        let count = usize::from(plan.core_count);
        let links: Links =
            Rc::new((0..count).map(|_| (0..count).map(|_| Pipe::default()).collect()).collect());
        for own in (0..plan.core_count).map(CoreId) {
            let (server, disk, plan) = (self.clone(), disk.clone(), plan.clone());
            let (info, slots, links) = (info.clone(), slots.clone(), links.clone());
            self.group.spawn(async move {
                let shards: Vec<ShardId> = (0..info.shard_count)
                    .filter(|shard| shard % plan.core_count == own.0)
                    .map(ShardId)
                    .collect();
                let runtime = server.group.clone();
                let opened =
                    Storage::open(disk, runtime, &info, &plan.storage, slots, &shards).await;
                match opened {
                    Ok(storage) => server.run(own, storage, &plan, links).await,
                    Err(error) => server.fail(error.to_string()),
                }
            });
        }
        Ok(())
    }

    async fn run(
        self: Rc<Self>,
        own: CoreId,
        storage: Storage<SimDisk, SimRuntime>,
        plan: &ServerPlan,
        links: Links,
    ) {
        self.found.borrow_mut().extend(storage.report().damage.iter().cloned());
        let seed = plan.seed.wrapping_add(u64::from(own.0) + 1);
        let core = Core::new(plan.net.clone(), own, plan.core_count, storage, seed);
        let edge = Rc::new(Edge {
            core: RefCell::new(core),
            runtime: self.group.clone(),
            own,
            links,
            lines: RefCell::default(),
            armed: Cell::new(None),
            timer_bell: Doorbell::default(),
            is_started: Cell::new(false),
            rng: RefCell::new(Rng::with_seed(seed)),
            notices: RefCell::default(),
        });
        *self.edges[usize::from(own.0)].borrow_mut() = Some(edge.clone());
        edge.start().await;
    }

    fn fail(&self, reason: String) {
        self.failure.borrow_mut().get_or_insert(reason);
    }

    /// Why it does not run, if so.
    pub(super) fn failure(&self) -> Option<String> {
        self.failure.borrow().clone()
    }

    /// Damage that recovery has reported since the last call.
    pub(super) fn take_found(&self) -> Vec<Damage> {
        self.found.take()
    }

    /// What its commits, reads and other work on the disk came to.
    pub(super) fn statistics(&self) -> DiskStatistics {
        let mut statistics = DiskStatistics::default();
        for edge in &self.edges {
            if let Some(edge) = &*edge.borrow() {
                statistics.merge(&edge.core.borrow().storage().statistics());
            }
        }
        statistics
    }

    /// What its cores had to tell since the last call.
    pub(super) fn take_notices(&self) -> Vec<Notice> {
        let mut notices = Vec::new();
        for edge in &self.edges {
            if let Some(edge) = &*edge.borrow() {
                notices.append(&mut edge.notices.borrow_mut());
            }
        }
        notices
    }

    /// Whether it listens: the first core is ready.
    pub(super) fn is_listening(&self) -> bool {
        let first = self.edges[0].borrow();
        !self.is_stopping.get() && first.as_ref().is_some_and(|edge| edge.is_started.get())
    }

    /// Whether [`Server::stop`] is through.
    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopping.get() && self.stopping_count.get() == 0
    }

    /// Takes a connection over.
    pub(super) fn accept(self: &Rc<Self>, connection: Rc<Connection>) {
        self.connections.borrow_mut().retain(|known| !known.is_cut());
        self.connections.borrow_mut().push(connection.clone());
        let turn = self.turn.replace((self.turn.get() + 1) % self.edges.len());
        let delay = Duration::from_micros(self.rng.borrow_mut().u64(0..HANDOFF_DELAY_US_MAX));
        let server = self.clone();
        self.group.spawn(async move {
            server.group.sleep(delay).await;
            loop {
                let edge = server.edges[turn].borrow().clone().filter(|edge| edge.is_started.get());
                if let Some(edge) = edge {
                    edge.accept(connection);
                    return;
                }
                server.group.sleep(Duration::from_millis(1)).await;
            }
        });
    }

    /// Begins a clean stop: SIGTERM.
    pub(super) fn stop(self: &Rc<Self>) {
        self.stopping_count.set(self.edges.len());
        for edge in &self.edges {
            let edge = edge.borrow().clone();
            let server = self.clone();
            self.group.spawn(async move {
                if let Some(edge) = edge {
                    edge.with_core(Core::fall_silent);
                    while !edge.core.borrow().are_all_silent() {
                        server.group.sleep(Duration::from_millis(1)).await;
                    }
                    let storage = edge.core.borrow().storage().clone();
                    storage.close().await;
                    edge.with_core(Core::on_storage);
                    server.group.sleep(Duration::from_millis(5)).await;
                }
                server.stopping_count.set(server.stopping_count.get() - 1);
            });
        }
        self.is_stopping.set(true);
    }

    /// The process ends here and now.
    pub(super) fn kill(&self) {
        let now = self.group.now().mono;
        self.group.kill();
        for connection in self.connections.borrow_mut().drain(..) {
            connection.server_died(now);
        }
        for edge in &self.edges {
            // Edge, lines and core hold each other's clones.
            if let Some(edge) = edge.borrow_mut().take() {
                edge.lines.borrow_mut().clear();
            }
        }
    }
}

impl Edge {
    async fn start(self: &Rc<Self>) {
        for from in 0..self.links.len() {
            if from != usize::from(self.own.0) {
                self.runtime.spawn(self.clone().receive(from));
            }
        }
        self.runtime.spawn(self.clone().run_storage());
        self.runtime.spawn(self.clone().run_timers());
        self.with_core(|core, now| core.start(now));
        while !self.core.borrow().is_ready() {
            self.runtime.sleep(Duration::from_millis(1)).await;
        }
        self.is_started.set(true);
    }

    fn accept(self: &Rc<Self>, connection: Rc<Connection>) {
        let id = self.with_core(|core, now| core.connection_opened(Address::default(), now));
        let line = Rc::new(Line {
            id,
            connection,
            reader: Doorbell::default(),
            writer: Doorbell::default(),
            is_finished: Cell::new(false),
        });
        line.connection.set_room_bell(line.writer.clone());
        {
            let mut lines = self.lines.borrow_mut();
            let slot = id.slot as usize;
            if lines.len() <= slot {
                lines.resize_with(slot + 1, || None);
            }
            lines[slot] = Some(line.clone());
        }
        self.runtime.spawn(self.clone().write_loop(line.clone()));
        self.runtime.spawn(self.clone().read_loop(line.clone()));
        line.writer.ring();
    }

    fn with_core<T>(&self, work: impl FnOnce(&mut SimCore, Now) -> T) -> T {
        let now = self.runtime.now();
        let result = work(&mut self.core.borrow_mut(), now);
        self.perform(now);
        result
    }

    fn perform(&self, now: Now) {
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
        for id in core.take_wakes() {
            if let Some(line) = line(id) {
                line.reader.ring();
            }
        }
        for (to, batch) in core.take_mesh() {
            let delay_us = self.rng.borrow_mut().u64(1..=LINK_DELAY_US_MAX);
            let at = Monotonic(now.mono.0 + delay_us * 1_000);
            self.links[usize::from(self.own.0)][usize::from(to.0)].send(batch, at);
        }
        self.notices.borrow_mut().extend(core.take_notices());
        if core.has_work() {
            core.storage().doorbell().ring();
        }
        let deadline = core.next_deadline();
        if deadline.is_some_and(|at| self.armed.get().is_none_or(|armed| at < armed)) {
            self.timer_bell.ring();
        }
    }

    async fn receive(self: Rc<Self>, from: usize) {
        let links = self.links.clone();
        let pipe = &links[from][usize::from(self.own.0)];
        let from = CoreId(u16::try_from(from).expect("made from a u16"));
        while let Some(batch) = pipe.receive(&self.runtime).await {
            self.with_core(|core, now| core.on_mesh(from, batch, now));
        }
    }

    async fn run_storage(self: Rc<Self>) {
        let bell = self.core.borrow().storage().doorbell().clone();
        loop {
            bell.wait().await;
            self.with_core(Core::on_storage);
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

    async fn read_loop(self: Rc<Self>, line: Rc<Line>) {
        let mut rest = Vec::new();
        let mut needed = 0;
        while let Some(piece) = line.connection.to_server.receive(&self.runtime).await {
            if line.is_finished.get() {
                break;
            }
            rest.extend_from_slice(&piece);
            if rest.len() < needed {
                continue;
            }
            let mut next = self.offer(&line, &mut rest);
            while next == Next::Wait {
                line.reader.wait().await;
                if line.is_finished.get() {
                    break;
                }
                next = self.offer(&line, &mut rest);
            }
            if next == Next::Close || line.is_finished.get() {
                break;
            }
            needed = if let Next::Read { needed } = next { needed } else { 0 };
        }
        while self.core.borrow().is_open_for_write(line.id) && !line.is_finished.get() {
            line.reader.wait().await;
        }
        self.with_core(|core, now| core.connection_closed(line.id, now));
        if let Some(slot) = self.lines.borrow_mut().get_mut(line.id.slot as usize) {
            slot.take_if(|other| other.id == line.id);
        }
        line.writer.ring();
    }

    fn offer(&self, line: &Line, rest: &mut Vec<u8>) -> Next {
        let intake = self.with_core(|core, now| core.on_bytes(line.id, rest, now));
        rest.drain(..intake.consumed);
        intake.next
    }

    async fn write_loop(self: Rc<Self>, line: Rc<Line>) {
        while let Some(is_waiting) = self.write_some(&line) {
            if is_waiting {
                line.writer.wait().await;
            } else {
                yield_now().await;
            }
        }
        line.is_finished.set(true);
        line.connection.server_closes(self.runtime.now().mono);
        line.reader.ring();
    }

    /// Writes a piece. Tells whether to wait for the bell; none: the connection is over.
    fn write_some(&self, line: &Line) -> Option<bool> {
        let now = self.runtime.now();
        let count = {
            let core = self.core.borrow();
            let outbox = core.outbox(line.id)?;
            if outbox.is_empty() {
                return if core.is_closing(line.id) { None } else { Some(true) };
            }
            line.connection.send_to_client(outbox.head(), now.mono)
        };
        if count == 0 {
            self.with_core(|core, now| core.write_blocked(line.id, now));
            return Some(true);
        }
        let has_work = self.core.borrow_mut().written(line.id, count, now);
        if has_work {
            self.perform(now);
        }
        Some(false)
    }
}

/// Lets the other tasks run first.
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
