//! One simulated file's bytes: what a reader sees now, what a power cut leaves, and what lies between.
//!
//! ```text
//! in flight --land--> volatile --settle--> durable
//!                     seen by readers      survives a crash
//! ```

use crate::disk::memory::pages::Pages;

/// What a device writes in one piece: a crash tears a write at these borders.
pub(super) const SECTOR_SIZE_BYTES: usize = 512;

/// A change of a file.
#[derive(Clone)]
pub(super) enum Change {
    /// Bytes at a position.
    Write { position: u64, bytes: Vec<u8> },
    /// The file is this long now.
    Length(u64),
}

/// A file's content.
#[derive(Default)]
pub(super) struct Content {
    durable: Pages,
    visible: Pages,
    volatile: Vec<Volatile>,
}

/// A change that readers see and a crash may take back.
struct Volatile {
    order: u64,
    change: Change,
    /// Its writer waits for it to settle: only the writer or a sync may settle it, and no failed sync forgets it.
    has_writer: bool,
}

impl Content {
    /// Lets readers see a change. `order` rises from call to call.
    pub(super) fn land(&mut self, order: u64, change: Change, has_writer: bool) {
        assert!(self.volatile.last().is_none_or(|last| last.order < order));
        change.apply(&mut self.visible);
        self.volatile.push(Volatile { order, change, has_writer });
    }

    /// Makes the change `order` durable. An earlier one that it overlaps, and an earlier change of length, go with
    /// it and with all before them, as a device and a journal keep order.
    pub(super) fn settle(&mut self, order: u64) {
        let Some(index) = self.volatile.iter().position(|volatile| volatile.order == order) else {
            // A sync was faster.
            return;
        };
        let (older, rest) = self.volatile.split_at(index);
        let is_bound = older.iter().any(|volatile| volatile.change.binds(&rest[0].change));
        let first = if is_bound { 0 } else { index };
        for volatile in self.volatile.drain(first..=index) {
            volatile.change.apply(&mut self.durable);
        }
    }

    /// Nobody waits any more for the change `order`, which stays volatile.
    pub(super) fn abandon(&mut self, order: u64) {
        for volatile in &mut self.volatile {
            volatile.has_writer &= volatile.order != order;
        }
    }

    /// A sync: all that landed up to `order` is durable.
    pub(super) fn settle_up_to(&mut self, order: u64) {
        let count = self.volatile.partition_point(|volatile| volatile.order <= order);
        for volatile in self.volatile.drain(..count) {
            volatile.change.apply(&mut self.durable);
        }
    }

    /// A failed sync: the changes up to `order` count as written though they are not, and no later sync will write
    /// them. Readers see them until the crash.
    pub(super) fn forget_up_to(&mut self, order: u64) {
        self.volatile.retain(|volatile| volatile.order > order || volatile.has_writer);
    }

    /// Power fails: each volatile change, then each of `in_flight`, survives wholly, in part or not.
    pub(super) fn crash(&mut self, mut in_flight: Vec<Change>, random: &mut fastrand::Rng) {
        random.shuffle(&mut in_flight);
        let volatile = self.volatile.drain(..).map(|volatile| volatile.change);
        for change in volatile.chain(in_flight) {
            for survivor in change.survivors(random) {
                survivor.apply(&mut self.durable);
            }
        }
        self.visible = self.durable.clone();
    }

    /// What a reader gets.
    pub(super) fn read(&self, position: u64, length_bytes: usize) -> Vec<u8> {
        self.visible.read(position, length_bytes)
    }

    /// The length that a reader sees.
    pub(super) fn length_bytes(&self) -> u64 {
        self.visible.length_bytes()
    }

    /// Changes bytes at rest, for readers now and after a crash.
    pub(super) fn damage(&mut self, position: u64, bytes: &[u8]) {
        self.durable.write(position, bytes);
        self.visible.write(position, bytes);
    }
}

impl Change {
    fn apply(&self, pages: &mut Pages) {
        match self {
            Self::Write { position, bytes } => pages.write(*position, bytes),
            Self::Length(length_bytes) => pages.set_length(*length_bytes),
        }
    }

    /// Whether `later` cannot be durable without this.
    fn binds(&self, later: &Self) -> bool {
        let (Some((start, end)), Some((later_start, later_end))) = (self.range(), later.range())
        else {
            return true;
        };
        start < later_end && later_start < end
    }

    fn range(&self) -> Option<(u64, u64)> {
        match self {
            Self::Write { position, bytes } => Some((*position, position + bytes.len() as u64)),
            Self::Length(_) => None,
        }
    }

    /// What a crash leaves of a change that is not durable.
    fn survivors(self, random: &mut fastrand::Rng) -> Vec<Self> {
        match random.u8(0..3) {
            0 => Vec::new(),
            1 => vec![self],
            _ => self.sectors(random),
        }
    }

    /// Some of a write's sectors: few, half or most of them. A length is whole.
    pub(super) fn sectors(self, random: &mut fastrand::Rng) -> Vec<Self> {
        let Self::Write { position, bytes } = self else { return vec![self] };
        let eighths = [1, 4, 7][random.usize(0..3)];
        let sectors = bytes.chunks(SECTOR_SIZE_BYTES).zip((position..).step_by(SECTOR_SIZE_BYTES));
        let kept = sectors.filter(|_| random.u8(0..8) < eighths);
        kept.map(|(sector, position)| Self::Write { position, bytes: sector.to_vec() }).collect()
    }
}
