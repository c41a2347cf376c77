//! What lies behind all handles of a simulated disk: names and files, seen and durable, and the writes in flight.
//!
//! Plain state without a clock: the handles decide when something happens, this decides what.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::disk::memory::lock::FileLock;
use crate::disk::memory::names::{Names, split};
use crate::disk::{BLOCK_SIZE_BYTES, DiskResult};
use crate::error::DiskError;
use crate::sim::disk::content::{Change, Content, SECTOR_SIZE_BYTES};
use crate::sim::disk::faults::{Chance, Faults};

/// An inode's number: never used twice.
pub(super) type FileNumber = u64;

/// The disk's whole state.
pub(super) struct World {
    pub(super) random: fastrand::Rng,
    pub(super) faults: Faults,
    /// Counts crashes: handles of an earlier life are dead.
    pub(super) life: u64,
    visible: Names<FileNumber>,
    durable: Names<FileNumber>,
    name_changes: Vec<NameChange>,
    files: BTreeMap<FileNumber, File>,
    in_flight: BTreeMap<u64, InFlight>,
    number_last: u64,
}

struct File {
    content: Content,
    lock: Rc<FileLock>,
    /// Space that it takes: to the end of the last block written or allocated.
    allocated_bytes: u64,
}

/// A write that the device has not begun.
struct InFlight {
    file: FileNumber,
    change: Change,
}

/// A change of names in one directory, durable as a whole or not at all.
struct NameChange {
    order: u64,
    directory: String,
    steps: Vec<NameStep>,
}

enum NameStep {
    Link(String, FileNumber),
    Unlink(String),
    Directory(String),
}

/// What the device did with a write.
pub(super) enum Landing {
    /// All is visible, and to be settled under this number.
    Landed(u64),
    /// Nobody waited for it, and the device never began.
    Nothing,
    /// An error; some of it may be visible.
    Failed(DiskError),
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            faults: Faults::default(),
            life: 0,
            visible: Names::default(),
            durable: Names::default(),
            name_changes: Vec::new(),
            files: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            number_last: 0,
        }
    }

    /// The names that a process sees.
    pub(super) fn names(&self) -> &Names<FileNumber> {
        &self.visible
    }

    /// A number above all before: for files, writes and the order of changes.
    pub(super) fn next_number(&mut self) -> u64 {
        self.number_last += 1;
        self.number_last
    }

    /// Whether a fault of this chance strikes now on this path.
    pub(super) fn strikes(&mut self, chance: impl Fn(&Faults) -> Chance, path: &str) -> bool {
        let chance = chance(&self.faults);
        self.faults.concern(path) && chance.strikes(&mut self.random)
    }

    pub(super) fn content(&mut self, file: FileNumber) -> &mut Content {
        &mut self.file(file).content
    }

    pub(super) fn lock(&mut self, file: FileNumber) -> Rc<FileLock> {
        Rc::clone(&self.file(file).lock)
    }

    /// Hands a write to the device.
    pub(super) fn submit(&mut self, file: FileNumber, position: u64, bytes: Vec<u8>) -> u64 {
        let write = self.next_number();
        let change = Change::Write { position, bytes };
        self.in_flight.insert(write, InFlight { file, change });
        write
    }

    /// The device carries out a write. `is_abandoned`: its process is dead.
    pub(super) fn land(&mut self, write: u64, path: &str, is_abandoned: bool) -> Landing {
        let InFlight { file, change } = self
            .in_flight
            .remove(&write)
            .expect("a write lands once, and in the life that submitted it");
        let Change::Write { position, bytes } = &change else {
            unreachable!("only writes are submitted");
        };
        if is_abandoned && self.random.u8(0..3) == 0 {
            return Landing::Nothing;
        }
        if let Err(full) = self.claim(file, position + bytes.len() as u64, path) {
            return Landing::Failed(full);
        }
        if self.strikes(|faults| faults.write_error, path) {
            let parts = change.sectors(&mut self.random.fork());
            self.land_parts(file, parts);
            return Landing::Failed(io_error(path, "write"));
        }
        if self.strikes(|faults| faults.short_write, path) {
            let wanted = bytes.len();
            let written = self.random.usize(0..wanted / SECTOR_SIZE_BYTES) * SECTOR_SIZE_BYTES;
            let part = Change::Write { position: *position, bytes: bytes[..written].to_vec() };
            self.land_parts(file, vec![part]);
            return Landing::Failed(DiskError::Short { file: path.to_owned(), written, wanted });
        }
        let order = self.next_number();
        self.content(file).land(order, change, true);
        Landing::Landed(order)
    }

    /// The device has flushed a landed write, or its process is dead and the flush may never have been asked for.
    pub(super) fn complete(&mut self, file: FileNumber, order: u64, is_abandoned: bool) {
        if is_abandoned && self.random.bool() {
            self.content(file).abandon(order);
        } else {
            self.content(file).settle(order);
        }
    }

    /// Changes a file's length; durable by the next sync or by a later write to the file.
    pub(super) fn set_length(&mut self, file: FileNumber, length_bytes: u64) {
        // Growing by length alone makes a hole, which takes no space.
        let allocated = &mut self.file(file).allocated_bytes;
        *allocated = (*allocated).min(to_blocks(length_bytes));
        let order = self.next_number();
        self.content(file).land(order, Change::Length(length_bytes), false);
    }

    /// Takes space up to `length_bytes`, or says that there is none and takes nothing.
    pub(super) fn claim(
        &mut self,
        file: FileNumber,
        length_bytes: u64,
        path: &str,
    ) -> DiskResult<()> {
        let wanted = to_blocks(length_bytes);
        let allocated = self.file(file).allocated_bytes;
        if wanted <= allocated {
            return Ok(());
        }
        let space = self.faults.space_bytes_max.unwrap_or(u64::MAX);
        if self.used_bytes() + (wanted - allocated) > space {
            return Err(DiskError::Full { file: path.to_owned() });
        }
        self.file(file).allocated_bytes = wanted;
        Ok(())
    }

    /// Space taken by all files that have a name or are open.
    pub(super) fn used_bytes(&self) -> u64 {
        let mut used = 0;
        for (number, file) in &self.files {
            if file.is_open() || self.visible.leads_to(number) {
                used += file.allocated_bytes;
            }
        }
        used
    }

    /// Makes an empty file under a new name.
    pub(super) fn create(&mut self, path: &str) -> DiskResult<FileNumber> {
        let file = self.next_number();
        self.visible.insert(path, file)?;
        let content = Content::default();
        self.files.insert(file, File { content, lock: Rc::default(), allocated_bytes: 0 });
        self.change_names(split(path).0, vec![NameStep::Link(path.to_owned(), file)]);
        Ok(file)
    }

    /// Moves a name. Within one directory it is one change; between two it may be half durable.
    pub(super) fn rename(&mut self, from: &str, to: &str) -> DiskResult<()> {
        let file = self.visible.file(from)?;
        self.visible.rename(from, to)?;
        let unlink = NameStep::Unlink(from.to_owned());
        let link = NameStep::Link(to.to_owned(), file);
        if split(from).0 == split(to).0 {
            self.change_names(split(from).0, vec![unlink, link]);
        } else {
            self.change_names(split(to).0, vec![link]);
            self.change_names(split(from).0, vec![unlink]);
        }
        Ok(())
    }

    /// Removes a name.
    pub(super) fn remove(&mut self, path: &str) -> DiskResult<()> {
        self.visible.remove(path)?;
        self.change_names(split(path).0, vec![NameStep::Unlink(path.to_owned())]);
        Ok(())
    }

    /// Makes a directory.
    pub(super) fn create_directory(&mut self, directory: &str) -> DiskResult<()> {
        let is_new = !self.visible.is_directory(directory);
        self.visible.create_directory(directory)?;
        if is_new {
            let step = NameStep::Directory(directory.to_owned());
            self.change_names(split(directory).0, vec![step]);
        }
        Ok(())
    }

    /// Makes the changes of names in `directory` up to `order` durable.
    pub(super) fn settle_names(&mut self, directory: &str, order: u64) {
        let changes = std::mem::take(&mut self.name_changes);
        let (settled, rest): (Vec<_>, Vec<_>) = changes
            .into_iter()
            .partition(|change| change.directory == directory && change.order <= order);
        self.name_changes = rest;
        for change in settled {
            self.apply_names(change);
        }
        self.forget_nameless();
    }

    /// Power fails: what is not durable is drawn by `random`; all handles and locks are gone.
    pub(super) fn crash(&mut self, random: &mut fastrand::Rng) {
        self.life += 1;
        for change in std::mem::take(&mut self.name_changes) {
            if random.bool() {
                self.apply_names(change);
            }
        }
        self.visible = self.durable.clone();
        let mut in_flight: BTreeMap<FileNumber, Vec<Change>> = BTreeMap::new();
        for write in std::mem::take(&mut self.in_flight).into_values() {
            in_flight.entry(write.file).or_default().push(write.change);
        }
        let names = &self.visible;
        self.files.retain(|number, _| names.leads_to(number));
        for (number, file) in &mut self.files {
            file.content.crash(in_flight.remove(number).unwrap_or_default(), random);
            file.allocated_bytes = to_blocks(file.content.length_bytes());
            file.lock = Rc::default();
        }
    }

    fn file(&mut self, file: FileNumber) -> &mut File {
        self.files.get_mut(&file).expect("files of this life are kept")
    }

    fn land_parts(&mut self, file: FileNumber, parts: Vec<Change>) {
        for part in parts {
            let order = self.next_number();
            self.content(file).land(order, part, false);
        }
    }

    /// Frees the files that no name leads to, now or after a crash, and nobody has open.
    fn forget_nameless(&mut self) {
        let (visible, durable, changes) = (&self.visible, &self.durable, &self.name_changes);
        self.files.retain(|number, file| {
            file.is_open()
                || visible.leads_to(number)
                || durable.leads_to(number)
                || changes.iter().any(|change| change.leads_to(*number))
        });
    }

    fn change_names(&mut self, directory: &str, steps: Vec<NameStep>) {
        let order = self.next_number();
        self.name_changes.push(NameChange { order, directory: directory.to_owned(), steps });
    }

    fn apply_names(&mut self, change: NameChange) {
        // The directory itself may not have survived: then nothing in it did.
        if !self.durable.is_directory(&change.directory) {
            return;
        }
        for step in change.steps {
            match step {
                NameStep::Link(path, file) => self.durable.put(&path, file),
                NameStep::Unlink(path) => drop(self.durable.take(&path)),
                NameStep::Directory(path) => self.durable.put_directory(&path),
            }
        }
    }
}

impl File {
    /// Whether it is locked, by a handle or a write in flight, or waited for.
    fn is_open(&self) -> bool {
        Rc::strong_count(&self.lock) > 1
    }
}

impl NameChange {
    fn leads_to(&self, number: FileNumber) -> bool {
        self.steps.iter().any(|step| matches!(step, NameStep::Link(_, file) if *file == number))
    }
}

/// The error that the device gives by itself.
pub(super) fn io_error(path: &str, what: &'static str) -> DiskError {
    DiskError::Io { file: path.to_owned(), what, reason: "simulated input/output error".to_owned() }
}

fn to_blocks(length_bytes: u64) -> u64 {
    length_bytes.next_multiple_of(BLOCK_SIZE_BYTES as u64)
}
