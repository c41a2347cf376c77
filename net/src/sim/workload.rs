//! One run: clients at work, faults drawn from the seed, then calm, and the last checks.

use std::cell::{Cell, RefCell};
use std::hash::Hasher as _;
use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;
use rustc_hash::FxHasher;
use weirlog_engine::runtime::Runtime;
use weirlog_engine::sim::{Faults, SimDisk, SimExecutor};
use weirlog_engine::storage::{StorageConfig, Tuning};
use weirlog_engine::types::Monotonic;
use weirlog_engine::verify::verify;

use super::client::{CLUSTER_ID, Client};
use super::limits::Limits;
use super::model::Model;
use super::script::own_rng;
use super::server::{Server, ServerPlan};
use super::{FaultKind, History, Log, Outcome, Script, SimPlan, Violation, World};
use crate::config::NetConfig;
use crate::core::Notice;

const CHANNELS: [&str; 4] = ["alpha", "beta.one", "gamma", "delta-4.x"];
const PAYLOAD_SIZE_BYTES_MAX: u32 = 8 << 10;
/// A store has this many shards at most; cores, of which there are as many at most, vary from start to start.
pub(super) const SHARDS_MAX: u16 = 4;
/// A server is ready within this; recovery reads little here.
pub(super) const START_MS_MAX: u64 = 20_000;
/// When faults have stopped all is delivered and acked within this.
const DRAIN_MS_MAX: u64 = 180_000;

/// Clients that rest do so for longer than it takes to be calm and for the longest wait to be over twice.
const REST_MS: u64 = 60_000;
/// How often queue groups are looked at.
const CHECK_MS: u64 = 200;
/// What chance is for, apart from faults: whether clients rest, what a server is started with in the end, and clients,
/// the reader of all channels first.
const REST: u64 = 1;
const LAST_START: u64 = 2;
const CLIENT: u64 = 3;

/// How late a violation is seen.
const STEP_MAX: Duration = Duration::from_millis(10);

pub(super) struct Run {
    pub(super) plan: SimPlan,
    pub(super) executor: SimExecutor,
    pub(super) disk: SimDisk,
    rng: Rng,
    /// Each kind of trouble's own chance.
    pub(super) chances: Vec<(FaultKind, Rng)>,
    pub(super) world: Rc<World>,
    clients: Vec<Rc<RefCell<Client>>>,
    pub(super) shard_count: u16,
    core_count: u16,
    limits: Limits,
    tuning: Tuning,
    /// How many times rarer trouble is: in some runs much happens between two blows.
    pub(super) calm: u32,
    /// Rounds of the workload so far.
    pub(super) rounds: u64,
    /// The fault that strikes, or struck last: its chance decides on all that it leads to.
    pub(super) striking: FaultKind,
    /// Groups are looked at again then.
    checked_until: Monotonic,
    /// A server was ready on this disk before.
    pub(super) has_store: bool,
    pub(super) crashes: u64,
    /// Places where bytes changed at rest, each with its file.
    pub(super) rotted: Vec<String>,
    clustered: u64,
    emptied: u64,
}

/// Runs one seed to its end.
///
/// # Errors
/// The first promise that was broken.
pub fn run(plan: SimPlan, log: Option<Log>) -> Result<Outcome, Violation> {
    perform(plan, None, log).0
}

/// Does only what stands in a script, which was made of a run of the same plan.
///
/// # Errors
/// The first promise that was broken.
pub fn run_script(plan: SimPlan, script: Script, log: Option<Log>) -> Result<Outcome, Violation> {
    perform(plan, Some(script), log).0
}

/// A run, and what was done in it.
pub(super) fn perform(
    plan: SimPlan,
    script: Option<Script>,
    log: Option<Log>,
) -> (Result<Outcome, Violation>, History) {
    let mut run = Run::new(plan, script, log);
    let worked = run.work().and_then(|()| run.rot_last());
    let now_us = |run: &Run| run.world.runtime.now().mono.0 / 1_000;
    run.world.history.borrow_mut().ended_at_us = now_us(&run);
    let result = worked.and_then(|()| run.drain());
    let result = result.map(|()| run.outcome()).map_err(|what| {
        let at_ms = now_us(&run) / 1_000;
        run.kill_server(false);
        Violation { plan, at_ms, what }
    });
    let history = run.world.history.take();
    (result, history)
}

impl Run {
    fn new(plan: SimPlan, script: Option<Script>, log: Option<Log>) -> Self {
        let mut rng = Rng::with_seed(plan.seed);
        let executor = SimExecutor::new(plan.seed);
        let runtime = executor.runtime();
        let disk = SimDisk::new(runtime.clone(), rng.u64(..));
        // On a slow disk much is under way whenever something fails.
        let write_us_max = [200, 200, 2_000, 20_000][rng.usize(..4)];
        let write_time_max = Duration::from_micros(write_us_max);
        disk.set_faults(Faults { write_time_max, ..Faults::default() });
        let channels: Vec<String> = CHANNELS[..rng.usize(1..=CHANNELS.len())]
            .iter()
            .map(|name| (*name).to_owned())
            .collect();
        let limits = Limits::draw(&plan, &channels);
        let world = Rc::new(World {
            runtime,
            // A write and its flush may both be slow, each a hundred times.
            model: RefCell::new(Model::new(limits.clone(), 300 + write_us_max / 5)),
            server: RefCell::default(),
            channels,
            connections: RefCell::default(),
            connections_count: Cell::new(0),
            operations: Cell::new(0),
            is_draining: Cell::new(false),
            is_quiet: Cell::new(false),
            is_disk_failing: Cell::new(false),
            failing_life: Cell::new(0),
            is_full_until: Cell::new(Monotonic(0)),
            is_slow_until: Cell::new(Monotonic(0)),
            lag_us_max: Rc::default(),
            padding_bytes_max: [100, 100, 1_000, 5_000][rng.usize(..4)],
            has_rotted: Cell::new(false),
            faults: plan.faults,
            limits: limits.clone(),
            script,
            history: RefCell::default(),
            log,
        });
        let shard_count = rng.u16(1..=SHARDS_MAX);
        let tuning = Tuning { tail_bytes_max: 1 << rng.u32(17..21), ..Tuning::small() };
        let chances = FaultKind::ALL.map(|kind| (kind, kind.rng(plan.seed))).into();
        let mut run = Self {
            plan,
            executor,
            disk,
            core_count: rng.u16(1..=3).min(shard_count),
            calm: [1, 1, 3, 8][rng.usize(..4)],
            rng,
            chances,
            world,
            clients: Vec::new(),
            shard_count,
            limits,
            tuning,
            rounds: 0,
            striking: FaultKind::Cores,
            checked_until: Monotonic(0),
            has_store: false,
            crashes: 0,
            rotted: Vec::new(),
            clustered: 0,
            emptied: 0,
        };
        for number in 0..run.rng.usize(2..=5) {
            if run.world.script.as_ref().is_none_or(|script| script.has_client(number)) {
                run.add_client(Some(number));
            }
        }
        run
    }

    /// Adds client `number`; none: the reader of all channels.
    fn add_client(&mut self, number: Option<usize>) {
        let mut rng =
            own_rng(self.plan.seed, number.map_or(CLIENT, |number| CLIENT + 1 + number as u64));
        let seed = rng.u64(..);
        let client = Rc::new(RefCell::new(Client::new(number, self.world.clone(), seed)));
        self.clients.push(client.clone());
        let think_ms_max = [2, 20, 60, 200][rng.usize(..4)];
        let (acting, runtime) = (client.clone(), self.world.runtime.clone());
        let weak = Rc::downgrade(&acting);
        self.world.runtime.spawn(async move {
            loop {
                runtime.sleep(Duration::from_micros(rng.u64(1..think_ms_max * 1_000))).await;
                let Some(client) = weak.upgrade() else { return };
                Client::turn(&client);
            }
        });
    }

    pub(super) fn start_server(&mut self) {
        let plan = self.server_plan();
        let core_count = plan.core_count;
        let life = self.world.model.borrow_mut().life_begins();
        if self.world.is_disk_failing.get() {
            self.world.failing_life.set(life);
        }
        self.world.log(|| format!("starts with {core_count} cores, {} shards", self.shard_count));
        let server = Server::start(self.executor.group(), self.disk.clone(), plan);
        *self.world.server.borrow_mut() = Some(server);
    }

    /// What the server is started with now.
    pub(super) fn server_plan(&mut self) -> ServerPlan {
        let (shard_count, striking) = (self.shard_count, self.striking);
        let chance = self.chance(striking);
        let drawn = chance.u16(1..=3).min(shard_count);
        let (storage_seed, seed) = (chance.u64(..), chance.u64(..));
        let is_other = self.plan.faults.has(FaultKind::Cores);
        ServerPlan {
            core_count: if is_other { drawn } else { self.core_count },
            storage: StorageConfig {
                cluster_id: CLUSTER_ID.to_owned(),
                shard_count: Some(self.shard_count),
                payload_size_bytes_max: PAYLOAD_SIZE_BYTES_MAX,
                channels_max: self.limits.channels_max,
                limits: self.limits.rules(),
                seed: storage_seed,
                tuning: self.tuning,
            },
            net: NetConfig {
                cluster_id: CLUSTER_ID.to_owned(),
                shard_count: self.shard_count,
                channels_max: self.limits.channels_max,
                payload_size_bytes_max: PAYLOAD_SIZE_BYTES_MAX as usize,
                heartbeat_interval_ms: 5_000,
                heartbeat_timeout_ms: 2_000,
                ..NetConfig::default()
            },
            seed,
        }
    }

    pub(super) fn kill_server(&mut self, is_clean: bool) {
        let now = self.world.runtime.now().mono;
        self.world.model.borrow_mut().life_ends(now, is_clean);
        if let Some(server) = self.world.server.borrow_mut().take() {
            let statistics = server.statistics();
            self.clustered += statistics.clustered_count;
            self.emptied += statistics.emptied_count;
            server.kill();
        }
    }

    /// Lets time pass, in steps so short that a violation is told close to its time.
    pub(super) fn pass(&mut self, duration: Duration) -> Result<(), String> {
        let mut left = duration;
        while left > STEP_MAX {
            self.pass_step(STEP_MAX)?;
            left -= STEP_MAX;
        }
        self.pass_step(left)
    }

    fn pass_step(&mut self, duration: Duration) -> Result<(), String> {
        self.executor.run_for(duration);
        self.check_groups();
        let server = self.world.server.borrow().clone();
        if let Some(server) = server {
            let is_disk_failing = self.world.is_disk_failing.get();
            if let Some(reason) = server.failure()
                && !is_disk_failing
            {
                return Err(format!("the server does not start: {reason}"));
            }
            self.world.hear_damage(&server);
            self.has_store |= server.is_listening();
            for notice in server.take_notices() {
                self.world.log(|| format!("notice {notice:?}"));
                match notice {
                    Notice::SlowConsumer { .. } | Notice::Shed { .. } => {}
                    Notice::LogFinished { .. } | Notice::Damage(_) if is_disk_failing => {}
                    Notice::Damage(damage) if self.has_rotted() => {
                        self.world.model.borrow_mut().told(&damage);
                    }
                    other => return Err(format!("{other:?}")),
                }
            }
        }
        match self.world.model.borrow().violation() {
            Some(what) => Err(what.clone()),
            None => Ok(()),
        }
    }

    fn work(&mut self) -> Result<(), String> {
        self.start_server();
        if let Some(script) = self.world.script.clone() {
            return self.trouble_by(&script);
        }
        while self.world.operations.get() < self.plan.steps {
            let us = match self.rng.u8(..20) {
                0 => self.rng.u64(0..3_000_000),
                1..5 => self.rng.u64(0..300_000),
                _ => self.rng.u64(0..50_000),
            };
            self.pass(Duration::from_micros(us))?;
            self.trouble()?;
        }
        Ok(())
    }

    /// Nobody is refused from now on, so that all can be read and taken up.
    fn admit_all(&mut self) -> Result<(), String> {
        if !self.limits.refuses() {
            return Ok(());
        }
        self.stop_server()?;
        self.limits.admit_all();
        self.world.model.borrow_mut().admits_all();
        self.start_server();
        self.wait_until_listening()
    }

    /// In some runs clients go on not to ack for a while after faults have stopped: what they owe must come again.
    fn rest(&mut self) -> Result<(), String> {
        if own_rng(self.plan.seed, REST).u8(..4) > 0 {
            return Ok(());
        }
        self.world.log(|| "clients rest".to_owned());
        self.world.is_quiet.set(true);
        self.pass(Duration::from_millis(REST_MS))
    }

    /// Checks that queue groups get again what they do not ack.
    fn check_groups(&mut self) {
        let now = self.world.runtime.now().mono;
        if now < self.checked_until {
            return;
        }
        self.checked_until = now.after_ms(CHECK_MS);
        let clients = self.clients.iter().map(|client| client.borrow());
        let reachable_since = clients
            .filter_map(|client| Some((client.name.clone(), client.reachable_since()?)))
            .collect();
        self.world.model.borrow_mut().check_group_redeliveries(now, &reachable_since);
    }

    pub(super) fn stop_server(&mut self) -> Result<(), String> {
        let server = self.world.server.borrow().clone();
        let listening = server.filter(|server| server.is_listening());
        let Some(server) = listening else {
            self.kill_server(false);
            return Ok(());
        };
        self.world.log(|| "stops".to_owned());
        server.stop();
        for _ in 0..START_MS_MAX / 10 {
            if server.is_stopped() {
                self.kill_server(true);
                return Ok(());
            }
            self.pass(Duration::from_millis(10))?;
        }
        Err("a clean stop does not end".to_owned())
    }

    pub(super) fn wait_until_listening(&mut self) -> Result<(), String> {
        for _ in 0..START_MS_MAX / 10 {
            let server = self.world.server.borrow().clone();
            if server.is_some_and(|server| server.is_listening()) {
                return Ok(());
            }
            self.pass(Duration::from_millis(10))?;
        }
        Err("the server does not get ready".to_owned())
    }

    /// Faults have stopped: everybody comes back, all is delivered and acked, then all is checked.
    fn drain(&mut self) -> Result<(), String> {
        self.world.log(|| "calm begins".to_owned());
        self.striking = FaultKind::Cores;
        *self.chance(FaultKind::Cores) = own_rng(self.plan.seed, LAST_START);
        self.wait_until_listening()?;
        self.rest()?;
        self.admit_all()?;
        self.world.is_draining.set(true);
        self.wait_for(|run| run.clients.iter().all(|client| client.borrow().is_published()))?;
        self.pass(Duration::from_secs(12))?;
        self.add_client(None);
        self.wait_for(|run| run.world.model.borrow().unread() == 0)?;
        // What is stored though nobody was told comes too.
        self.pass(Duration::from_secs(3))?;
        let now = self.world.runtime.now().mono;
        self.world.model.borrow_mut().check_audit(now);
        self.world.model.borrow_mut().check_channels();
        self.pass(Duration::ZERO)?;
        self.wait_for(|run| {
            let now = run.world.runtime.now().mono;
            run.clients.iter().all(|client| client.borrow().is_settled())
                && run.world.model.borrow().missing(now).is_none()
                && run.world.model.borrow().owed(now).is_none()
        })?;
        self.world.model.borrow_mut().check_channels();
        self.world.model.borrow_mut().check_starts();
        self.pass(Duration::ZERO)?;
        self.stop_server()?;
        self.check_files()
    }

    /// Whatever happened, the files are as they were written: what was not durable is no part of the log.
    fn check_files(&mut self) -> Result<(), String> {
        let now = self.world.runtime.now();
        let found = self.executor.block_on(verify(&self.disk, now));
        let found = found.map_err(|error| format!("nobody can look at the store: {error}"))?;
        if self.has_rotted() {
            self.world.model.borrow_mut().check_verified(&found);
            return self.pass(Duration::ZERO);
        }
        match found.damage.first() {
            None if found.missing == 0 => Ok(()),
            damage => Err(format!("{} messages are missing, damage {damage:?}", found.missing)),
        }
    }

    /// Lets time pass until `is_done`, or complains.
    fn wait_for(&mut self, is_done: impl Fn(&Self) -> bool) -> Result<(), String> {
        for _ in 0..DRAIN_MS_MAX / 200 {
            self.pass(Duration::from_millis(200))?;
            if is_done(self) {
                return Ok(());
            }
        }
        self.world.model.borrow_mut().check_channels();
        self.pass(Duration::ZERO)?;
        let now = self.world.runtime.now().mono;
        let (missing, owed) = {
            let model = self.world.model.borrow();
            (model.missing(now), model.owed(now))
        };
        let states: Vec<String> = self
            .clients
            .iter()
            .filter(|client| !client.borrow().is_settled())
            .map(|client| client.borrow().state())
            .collect();
        let unread = self.world.model.borrow().unread();
        Err(format!(
            "no end after {DRAIN_MS_MAX} ms of calm: {missing:?}, {owed:?}, {unread} unread, {states:?}"
        ))
    }

    /// A hash over all that is on the disk.
    pub(super) fn disk_hash(&self) -> u64 {
        let mut hasher = FxHasher::default();
        for path in self.disk.paths() {
            hasher.write(path.as_bytes());
            hasher.write(&self.disk.peek(&path).unwrap_or_default());
        }
        hasher.finish()
    }

    fn outcome(&mut self) -> Outcome {
        let model = self.world.model.borrow();
        Outcome {
            operations: self.world.operations.get(),
            crashes: self.crashes,
            acked: model.acked_count,
            delivered: model.delivered_count,
            clustered: self.clustered,
            emptied: self.emptied,
            rotted: self.rotted.len() as u64,
            trace_hash: self.executor.trace_hash(),
            disk_hash: self.disk_hash(),
        }
    }
}
