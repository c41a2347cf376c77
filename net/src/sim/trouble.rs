//! What is done to the server while clients work: see [`FaultKind`].

use std::time::Duration;

use fastrand::Rng;
use weirlog_engine::runtime::Runtime;
use weirlog_engine::sim::{Chance, Faults};

use super::script::own_rng;
use super::server::Server;
use super::workload::{Run, SHARDS_MAX, START_MS_MAX};
use super::{Deed, FaultKind, Script};

/// After space is back publishing goes on within this, on a disk that takes no time.
const FULL_MS_MAX: u64 = 3_000;
/// Writes that were under way have landed after this.
const LANDED_MS_MAX: u64 = 5_000;
/// What waits behind a slow operation is through after this.
const SLOW_MS_MAX: u64 = 8_000;

impl Run {
    /// One kind's source of chance.
    pub(super) fn chance(&mut self, kind: FaultKind) -> &mut Rng {
        let found = self.chances.iter_mut().find(|(known, _)| *known == kind);
        &mut found.expect("each kind has one").1
    }

    /// Each kind of trouble strikes or not.
    pub(super) fn trouble(&mut self) -> Result<(), String> {
        self.rounds += 1;
        for kind in FaultKind::ALL {
            if kind.per_mille() > 0 && self.draw(kind, self.rounds) && self.may_strike(kind) {
                self.strike_in(kind, self.rounds)?;
            }
        }
        Ok(())
    }

    fn may_strike(&self, kind: FaultKind) -> bool {
        match kind {
            FaultKind::Rot => self.is_rotting(),
            // A disk that rots fails in no other way: what is lost is known exactly.
            FaultKind::WriteErrors | FaultKind::ReadErrors if self.is_rotting() => false,
            _ => self.plan.faults.has(kind),
        }
    }

    /// A kind strikes whatever is drawn, in a round of its own.
    pub(super) fn strike_anew(&mut self, kind: FaultKind) -> Result<(), String> {
        self.rounds += 1;
        self.draw(kind, self.rounds);
        self.strike_in(kind, self.rounds)
    }

    /// Whether a kind strikes in this round: what it draws from then on depends on nothing that happened before.
    fn draw(&mut self, kind: FaultKind, round: u64) -> bool {
        let rounds = 1_000 * self.calm;
        let seed = self.plan.seed;
        let chance = self.chance(kind);
        *chance = own_rng(kind.rng(seed).u64(..), round);
        chance.u32(..rounds) < kind.per_mille()
    }

    fn strike_in(&mut self, kind: FaultKind, round: u64) -> Result<(), String> {
        let now = self.world.runtime.now().mono;
        let deed = Deed::Fault { at_us: now.0 / 1_000, kind, round };
        self.world.history.borrow_mut().note(deed, now, kind.deed().to_owned());
        self.striking = kind;
        self.strike(kind)
    }

    /// The faults of a script, each at its time, then nothing more until its end.
    pub(super) fn trouble_by(&mut self, script: &Script) -> Result<(), String> {
        for deed in &script.deeds {
            if let Deed::Fault { at_us, kind, round } = *deed {
                self.pass_until(at_us)?;
                self.draw(kind, round);
                self.strike_in(kind, round)?;
            }
        }
        self.pass_until(script.ends_at_us)
    }

    fn pass_until(&mut self, at_us: u64) -> Result<(), String> {
        let us = at_us.saturating_sub(self.world.runtime.now().mono.0 / 1_000);
        self.pass(Duration::from_micros(us))
    }

    fn strike(&mut self, kind: FaultKind) -> Result<(), String> {
        match kind {
            FaultKind::Power | FaultKind::Kill | FaultKind::Stop => self.interrupt(kind),
            FaultKind::WriteErrors => self.fail_writes(),
            FaultKind::ReadErrors => self.fail_reads(),
            FaultKind::FullDisk => self.fill_disk(),
            FaultKind::SlowDisk => self.slow_disk(),
            FaultKind::Clock => {
                self.jump_clock();
                Ok(())
            }
            FaultKind::Cuts => {
                self.cut_connection();
                Ok(())
            }
            FaultKind::Lag => self.lag(),
            FaultKind::Rot => self.rot(),
            FaultKind::Stalls | FaultKind::Cores | FaultKind::Limits => Ok(()),
        }
    }

    fn cut_connection(&mut self) {
        let connections = self.world.connections.borrow().clone();
        if connections.is_empty() {
            return;
        }
        let rng = self.chance(FaultKind::Cuts);
        let connection = &connections[rng.usize(..connections.len())];
        let mut delay_ms = || match rng.u8(..16) {
            // Half open: nothing tells this side.
            0 => rng.u64(0..40_000),
            1..4 => rng.u64(0..15_000),
            _ => rng.u64(0..50),
        };
        let server_after = Duration::from_millis(delay_ms());
        let client_after = Duration::from_millis(delay_ms());
        if !connection.is_cut() {
            self.world.log(|| {
                let number = connection.number;
                format!("cuts connection {number}: {server_after:?}, {client_after:?}")
            });
            connection.cut(self.world.runtime.now().mono, server_after, client_after);
        }
    }

    /// The server ends, perhaps more than once, and comes back.
    fn interrupt(&mut self, kind: FaultKind) -> Result<(), String> {
        if self.chance(kind).bool() {
            self.wait_for_ack()?;
        }
        self.end_server(kind)?;
        loop {
            let pause_us = match self.chance(kind).u8(..4) {
                0 => 0,
                1 | 2 => self.chance(kind).u64(0..100_000),
                _ => self.chance(kind).u64(0..5_000_000),
            };
            self.pass(Duration::from_micros(pause_us))?;
            if self.chance(kind).u8(..8) == 0 {
                self.start_with_other_shards()?;
            }
            self.start_server();
            if self.chance(kind).u8(..5) > 0 {
                return self.wait_until_listening();
            }
            let us = self.chance(kind).u64(0..5_000);
            self.pass(Duration::from_micros(us))?;
            self.end_server(kind)?;
        }
    }

    /// The number of shards is fixed when a store is made: a start that asks for another one is refused, and leaves the
    /// disk as it is.
    fn start_with_other_shards(&mut self) -> Result<(), String> {
        let mut plan = self.server_plan();
        let other = self.chance(self.striking).u16(1..=SHARDS_MAX);
        if other == self.shard_count || !self.has_store || !self.plan.faults.has(FaultKind::Cores) {
            return Ok(());
        }
        // What a killed process had under way still lands.
        self.pass(Duration::from_millis(LANDED_MS_MAX))?;
        self.world.log(|| format!("a start with {other} shards"));
        plan.storage.shard_count = Some(other);
        plan.net.shard_count = other;
        let before = self.disk_hash();
        let server = Server::start(self.executor.group(), self.disk.clone(), plan);
        for _ in 0..START_MS_MAX / 10 {
            self.pass(Duration::from_millis(10))?;
            if server.failure().is_some() || server.is_listening() {
                break;
            }
        }
        let failure = server.failure().unwrap_or_default();
        server.kill();
        if !failure.contains("shards, which are fixed") {
            let shards = self.shard_count;
            return Err(format!(
                "a start with {other} shards for {shards} is not refused: {failure:?}"
            ));
        }
        if self.disk_hash() == before {
            Ok(())
        } else {
            Err(format!("a start that was refused for its {other} shards changed the disk"))
        }
    }

    pub(super) fn end_server(&mut self, kind: FaultKind) -> Result<(), String> {
        self.crashes += 1;
        match kind {
            FaultKind::Stop => return self.stop_server(),
            FaultKind::Power => {
                self.world.log(|| "power fails".to_owned());
                self.kill_server(false);
                let mut rng = self.chance(self.striking).fork();
                self.disk = self.disk.crash(&mut rng);
            }
            _ => {
                self.world.log(|| "kill -9".to_owned());
                self.kill_server(false);
            }
        }
        Ok(())
    }

    /// Lets time pass until just after some publisher has heard that its message is stored: the moment at which losing
    /// it is easiest.
    fn wait_for_ack(&mut self) -> Result<(), String> {
        let before = self.world.model.borrow().acked_count;
        for _ in 0..2_000 {
            self.pass(Duration::from_micros(10))?;
            if self.world.model.borrow().acked_count > before {
                break;
            }
        }
        Ok(())
    }

    /// Power fails or the process is killed, as far as there is such trouble.
    fn end_hard(&mut self, kind: FaultKind) -> Result<(), String> {
        let is_power = self.chance(kind).bool() && self.plan.faults.has(FaultKind::Power);
        self.end_server(if is_power { FaultKind::Power } else { FaultKind::Kill })
    }

    /// The disk refuses some of what is written, for a while. What was acked before stays; of what is refused anything
    /// may have been stored. Then the server is started anew, perhaps first before the disk is whole again.
    fn fail_writes(&mut self) -> Result<(), String> {
        let rng = self.chance(FaultKind::WriteErrors);
        let chance = Chance([20_000, 200_000, 1_000_000][rng.usize(..3)]);
        let mut faults = Faults::default();
        match rng.u8(..4) {
            0 => faults.short_write = chance,
            1 => faults.sync_error = chance,
            _ => faults.write_error = chance,
        }
        self.fail_disk(FaultKind::WriteErrors, faults)
    }

    fn fail_reads(&mut self) -> Result<(), String> {
        let rng = self.chance(FaultKind::ReadErrors);
        let chance = Chance([20_000, 200_000, 1_000_000][rng.usize(..3)]);
        self.fail_disk(FaultKind::ReadErrors, Faults { read_error: chance, ..Faults::default() })?;
        let now = self.world.runtime.now().mono;
        self.world.model.borrow_mut().reads_failed(now);
        Ok(())
    }

    fn fail_disk(&mut self, kind: FaultKind, faults: Faults) -> Result<(), String> {
        let before = self.disk.faults();
        let faults = Faults {
            write_time_max: before.write_time_max,
            operation_time_max: before.operation_time_max,
            slow: before.slow,
            ..faults
        };
        self.world.log(|| format!("the disk fails: {faults:?}"));
        self.world.is_disk_failing.set(true);
        self.world.failing_life.set(self.world.model.borrow().life());
        self.disk.set_faults(faults);
        let now = self.world.runtime.now().mono;
        self.world.model.borrow_mut().life_ends(now, false);
        let us = self.chance(kind).u64(0..400_000);
        self.pass(Duration::from_micros(us))?;
        self.end_hard(kind)?;
        if self.chance(kind).u8(..3) == 0 {
            self.start_server();
            let ms = self.chance(kind).u64(0..2_000);
            self.pass(Duration::from_millis(ms))?;
            self.end_hard(kind)?;
        }
        self.disk.set_faults(before);
        self.world.is_disk_failing.set(false);
        let us = self.chance(kind).u64(0..100_000);
        self.pass(Duration::from_micros(us))?;
        self.start_server();
        self.wait_until_listening()
    }

    /// There is no space for a while. Who is refused is told, nothing fails for good, and publishing goes on by itself.
    fn fill_disk(&mut self) -> Result<(), String> {
        let kind = FaultKind::FullDisk;
        let (ms, room_bytes) =
            (self.chance(kind).u64(100..6_000), self.chance(kind).u64(0..300_000));
        let before = self.disk.faults();
        // A segment is made before publishing goes on: some slow writes.
        let write_us_max = u64::try_from(before.write_time_max.as_micros()).unwrap_or(u64::MAX);
        let back_ms = FULL_MS_MAX + write_us_max / 2;
        let space_bytes_max = Some(self.disk.used_bytes() + room_bytes);
        self.world.log(|| format!("no space for {ms} ms, but {room_bytes} bytes"));
        let until = self.world.runtime.now().mono.after_ms(ms + back_ms);
        self.world.is_full_until.set(until);
        self.world.disturb(ms + back_ms);
        self.disk.set_faults(Faults { space_bytes_max, ..before.clone() });
        self.pass(Duration::from_millis(ms / 2))?;
        if self.chance(kind).u8(..4) == 0 {
            self.end_hard(kind)?;
            self.start_server();
        }
        self.pass(Duration::from_millis(ms - ms / 2))?;
        self.disk.set_faults(before);
        let now = self.world.runtime.now().mono;
        self.world.is_full_until.set(now.after_ms(back_ms));
        self.world.disturb(back_ms);
        self.world.log(|| "there is space again".to_owned());
        Ok(())
    }

    fn slow_disk(&mut self) -> Result<(), String> {
        let before = self.disk.faults();
        let rng = self.chance(FaultKind::SlowDisk);
        let ms = rng.u64(100..3_000);
        let slow = Faults {
            write_time_max: Duration::from_millis(rng.u64(1..20)),
            operation_time_max: Duration::from_millis(rng.u64(1..5)),
            slow: Chance(rng.u32(0..100_000)),
            ..before.clone()
        };
        self.world.log(|| format!("the disk is slow for {ms} ms"));
        self.world.disturb(ms + SLOW_MS_MAX);
        self.disk.set_faults(slow);
        self.pass(Duration::from_millis(ms))?;
        self.disk.set_faults(before);
        self.world.disturb(SLOW_MS_MAX);
        Ok(())
    }

    /// Steps of up to ten seconds are followed by all that goes by the wall clock, jumps are not believed.
    fn jump_clock(&mut self) {
        let rng = self.chance(FaultKind::Clock);
        let is_step = rng.bool();
        let size_ms = if is_step { rng.i64(1..10_000) } else { FAR_MS[rng.usize(..FAR_MS.len())] };
        let by_ms = if rng.bool() { size_ms } else { -size_ms };
        self.world.log(|| format!("the wall clock jumps by {by_ms} ms"));
        self.executor.shift_wall_clock(by_ms * 1_000_000);
        let now = self.world.runtime.now().wall;
        self.world.model.borrow_mut().clock_jumped(by_ms, is_step, now);
    }

    fn lag(&mut self) -> Result<(), String> {
        let rng = self.chance(FaultKind::Lag);
        let (ms, lag_ms) = (rng.u64(100..4_000), rng.u64(10..1_500));
        self.world.log(|| format!("the network is slow for {ms} ms, by up to {lag_ms} ms"));
        // What is sent last arrives with its answer after this.
        self.world.disturb(ms + 4 * lag_ms);
        self.world.lag_us_max.set(lag_ms * 1_000);
        self.pass(Duration::from_millis(ms))?;
        self.world.lag_us_max.set(0);
        Ok(())
    }
}

/// Two minutes, an hour, ten years.
const FAR_MS: [i64; 3] = [120_000, 3_600_000, 315_360_000_000];
