//! Times in which all goes well: what must happen then, and how soon.

use super::*;

const WAIT_MS_MAX: u64 = 1_000;
/// Tolerance at both ends and the rest between scans.
const SLACK_MS: u64 = 40;

impl Model {
    /// All goes well for some time: then each message comes, again and again, until it is acked.
    pub(super) fn calm(&mut self) {
        self.world.log.channel(ORDERS).unread.clear();
        self.world.inbox.room.clear();
        for client in 1..5 {
            self.world.subscriptions.set_client_responsive(key(client), true);
        }
        while self.group_of.keys().any(|id| {
            let is_active = self.world.subscriptions.view(*id).unwrap().is_active;
            is_active && !self.started.contains(id)
        }) {
            self.activate();
        }
        let ids: Vec<_> = self.group_of.keys().copied().collect();
        for id in ids {
            self.world.subscriptions.resume(id);
        }
        self.world.inbox.refused.clear();
        self.world.subscriptions.channel_ready(ORDERS);
        let start = self.world.now.mono;
        let settled = start.after_ms(2 * WAIT_MS_MAX + SLACK_MS);
        while self.world.now.mono < start.after_ms(4 * WAIT_MS_MAX) {
            self.run_until_idle();
            if self.world.now.mono >= settled {
                self.check_in_time();
            }
            let next = self.world.now.mono.after_ms(self.random.u64(1..300));
            let deadline = self.world.subscriptions.next_deadline();
            let next = deadline.map_or(next, |at| at.max(self.world.now.mono).min(next));
            self.world.set_time(next);
        }
        self.drain();
    }

    fn run_until_idle(&mut self) {
        let sent = self.world.run();
        self.world.inbox.sent = sent;
        self.check_sent();
    }

    fn is_listening(&self, track: &Track) -> bool {
        track.members.keys().any(|id| self.started.contains(id))
    }

    fn check_in_time(&self) {
        let bound = Monotonic(self.world.now.mono.0 - (WAIT_MS_MAX + SLACK_MS) * 1_000_000);
        for track in self.tracks.values().filter(|track| self.is_listening(track)) {
            for (sequence, waiting) in &track.waiting {
                let is_late = waiting.sent_at < bound && !self.is_gone(*sequence);
                assert!(
                    !is_late,
                    "{sequence} did not come again: {waiting:?} {:?}",
                    self.world.now
                );
            }
        }
    }

    /// Acks everything until nothing comes any more: then each group has had all there is.
    fn drain(&mut self) {
        let last = self.world.log.last(ORDERS);
        for round in 0.. {
            assert!(round < 10 * (last + 10), "it ends");
            self.run_until_idle();
            let mut acked = 0;
            for track in self.tracks.values_mut() {
                let Some(&id) = track.members.keys().find(|id| self.started.contains(id)) else {
                    continue;
                };
                while let Some((sequence, _)) = track.waiting.pop_first() {
                    self.world.ack(id, sequence);
                    track.acked.insert(sequence);
                    acked += 1;
                }
            }
            if acked == 0 {
                break;
            }
        }
        for (id, group) in &self.group_of {
            let track = &self.tracks[group];
            if !self.is_listening(track) {
                continue;
            }
            let view = self.world.subscriptions.view(*id).unwrap();
            assert!(view.last_sent.0 >= last, "{view:?} has not got all up to {last}");
            let left = (track.last_sent + 1..=last).find(|sequence| !self.is_gone(*sequence));
            assert_eq!(left, None, "{view:?} was not sent it");
        }
    }
}
