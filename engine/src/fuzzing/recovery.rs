//! A store of some lives, written by the storage itself; its files are damaged; then it is opened again.
//!
//! What must hold: opening ends, with a store or with an error; what is served was published under its number; what is
//! served once is served again; new messages get new numbers; and without damage nothing is missing.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::Choices;
use super::life::{CHANNELS, Inbox, Key, Life, Served, new_disk, request};
use crate::disk::{BLOCK_SIZE_BYTES, Disk, DiskFile};
use crate::error::OpenError;
use crate::format::align_block;
use crate::request::{StartAt, SubscriptionKind, Ticket};
use crate::runtime::Runtime;
use crate::sim::{SimDisk, SimExecutor};
use crate::types::Timestamp;
use crate::verify::{Verified, verify};

const PAYLOAD_BYTES_MAX: usize = 2_000;
const DAMAGES_MAX: usize = 8;

/// What was published, by channel and number. A number whose message was lost by damage may be given again.
type Published = BTreeMap<Key, Vec<Bytes>>;

thread_local! {
    /// The stores to damage, made once.
    static STORES: OnceCell<Vec<Store>> = const { OnceCell::new() };
}

/// A store at rest.
struct Store {
    files: BTreeMap<String, Vec<u8>>,
    /// The same store earlier.
    older: BTreeMap<String, Vec<u8>>,
    published: Published,
    /// What must be there, and be missed if it is not. Without a clean stop nothing says that the end was committed.
    committed: BTreeSet<Key>,
}

/// See the module's head.
pub(super) fn damaged_store(choices: &mut Choices<'_>) {
    STORES.with(|stores| {
        let stores = stores.get_or_init(make_stores);
        let store = &stores[choices.below(stores.len())];
        let mut files = store.files.clone();
        let mut damages = Vec::new();
        while damages.len() < DAMAGES_MAX && !choices.is_empty() {
            damages.push(damage(&mut files, store, choices));
        }
        let extent = match damages.as_slice() {
            _ if files == store.files => Extent::None,
            [(_, Extent::Block)] => Extent::Block,
            _ => Extent::More,
        };
        check(store, &files, extent, &damages);
    });
}

/// How much was damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    None,
    /// A part of one block.
    Block,
    More,
}

fn check(
    store: &Store,
    files: &BTreeMap<String, Vec<u8>>,
    extent: Extent,
    damages: &[(String, Extent)],
) {
    let executor = SimExecutor::new(1);
    let disk = new_disk(&executor);
    executor.block_on(write_files(&disk, files));
    let looked_at = look_at(&executor, &disk);
    let mut published = store.published.clone();
    let mut before: Option<Served> = None;
    for life in 0..2 {
        let opened = Life::open(&executor, &disk, 0);
        assert!(opened.is_ok() || extent == Extent::More, "one block costs the store: {damages:?}");
        let Ok(opened) = opened else { return };
        let served = read_all(&opened);
        for (key, payload) in &served {
            let known = published.get(key).is_some_and(|payloads| payloads.contains(payload));
            assert!(known, "{key:?} was not published as this: {payload:?} {damages:?}");
        }
        if life == 0 && extent != Extent::More {
            let looked_at = looked_at.as_ref().expect("it opens").messages;
            assert_eq!(looked_at, served.len() as u64, "verify and server agree: {damages:?}");
        }
        let missing = store.committed.iter().find(|key| !served.contains_key(*key));
        let mut reported = opened.storage().report().damage.clone();
        reported.extend(opened.with(|shard| shard.take_damage()));
        match extent {
            Extent::None => {
                assert_eq!(missing, None, "it was committed: {damages:?}");
                assert_eq!(reported, []);
            }
            // What was lost once stays so, and is told only once.
            Extent::Block if life == 0 => {
                assert!(
                    missing.is_none() || !reported.is_empty(),
                    "lost in silence: {missing:?} {damages:?}"
                );
            }
            _ => {}
        }
        for (key, payload) in before.iter().flatten() {
            assert_eq!(served.get(key), Some(payload), "served before: {key:?} {damages:?}");
        }
        let sizes = [10, 1_000];
        let mut now_served = served.clone();
        for (key, payload) in publish_some(&opened, &sizes, life) {
            assert!(!served.contains_key(&key), "a number is given once: {key:?} {damages:?}");
            now_served.insert(key.clone(), payload.clone());
            published.entry(key).or_default().push(payload);
        }
        before = opened.with(|shard| shard.failure()).is_none().then_some(now_served);
        opened.stop();
    }
}

/// What `verify` finds. It changes nothing.
fn look_at(executor: &SimExecutor, disk: &SimDisk) -> Result<Verified, OpenError> {
    let before = read_files(disk);
    let group = executor.group();
    let found = executor.block_on(verify(disk, group.now()));
    group.kill();
    assert!(read_files(disk) == before, "verify changes nothing");
    found
}

fn make_stores() -> Vec<Store> {
    vec![
        make_store(1, &[(10, true)]),
        make_store(2, &[(10, false)]),
        make_store(3, &[(60, true), (8, false), (4, true)]),
        make_store(4, &[(40, false), (40, false)]),
    ]
}

/// Lives with a number of messages a channel each, and whether each ends with a clean stop.
fn make_store(seed: u64, lives: &[(usize, bool)]) -> Store {
    let executor = SimExecutor::new(seed);
    let disk = new_disk(&executor);
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut published, mut older) = (Published::new(), BTreeMap::new());
    for (life, (messages, is_clean)) in lives.iter().enumerate() {
        let opened = Life::open(&executor, &disk, 0).expect("nothing is damaged");
        subscribe_durably(&opened);
        for part in 0..2 {
            let sizes: Vec<_> = (0..messages / 2)
                .map(|_| random.usize(..PAYLOAD_BYTES_MAX) >> random.u32(..9))
                .collect();
            let new = publish_some(&opened, &sizes, life * 2 + part);
            published.extend(new.into_iter().map(|(key, payload)| (key, vec![payload])));
            if life + 1 == lives.len() && part == 0 {
                older = read_files(&disk);
            }
        }
        deliver_and_ack(&opened);
        if *is_clean {
            opened.stop()
        } else {
            opened.kill()
        }
        executor.run_for(Duration::from_millis(10));
    }
    let is_clean = lives.last().is_some_and(|(_, is_clean)| *is_clean);
    let committed = if is_clean { published.keys().cloned().collect() } else { BTreeSet::new() };
    Store { files: read_files(&disk), older, committed, published }
}

fn read_files(disk: &SimDisk) -> BTreeMap<String, Vec<u8>> {
    let files =
        disk.paths().into_iter().filter_map(|path| disk.peek(&path).map(|file| (path, file)));
    files.collect()
}

async fn write_files(disk: &SimDisk, files: &BTreeMap<String, Vec<u8>>) {
    for (path, bytes) in files {
        if let Some((directory, _)) = path.split_once('/') {
            disk.create_directory(directory).await.expect("it may exist");
        }
        let file = disk.create(path).await.expect("paths are different");
        let used = align_block(used_bytes(bytes)).max(BLOCK_SIZE_BYTES);
        let mut buffer = file.buffer(used);
        let length = used.min(bytes.len());
        buffer[..length].copy_from_slice(&bytes[..length]);
        file.write_at(0, Rc::new(buffer)).await.expect("the disk is fine");
        file.truncate(bytes.len() as u64).await.expect("the disk is fine");
        file.sync().await.expect("the disk is fine");
    }
}

/// Without the zeros at the end.
fn used_bytes(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// One thing that disks do to files.
fn damage(
    files: &mut BTreeMap<String, Vec<u8>>,
    store: &Store,
    choices: &mut Choices<'_>,
) -> (String, Extent) {
    let kind = choices.byte() % 16;
    let Some(path) = files.keys().nth(choices.below(files.len())).cloned() else {
        return (String::new(), Extent::None);
    };
    let other = match kind {
        10 | 11 => store.older.get(&path).cloned().unwrap_or_default(),
        12 | 13 => files.values().nth(choices.below(files.len())).cloned().unwrap_or_default(),
        _ => Vec::new(),
    };
    let file = files.get_mut(&path).expect("it is one of them");
    // A little behind the end of what is used, so that what is not may become so.
    let place = choices.below(used_bytes(file) + BLOCK_SIZE_BYTES);
    let block = place - place % BLOCK_SIZE_BYTES;
    let sector = place - place % 512;
    let from = if kind == 12 { choices.below(other.len()) / BLOCK_SIZE_BYTES } else { 0 };
    match kind {
        0..4 => {
            let bit = choices.byte() % 8;
            file.iter_mut().skip(place).take(1).for_each(|byte| *byte ^= 1 << bit);
        }
        4 | 5 => file.iter_mut().skip(sector).take(512).for_each(|byte| *byte = 0),
        6 | 7 => file.iter_mut().skip(block).take(BLOCK_SIZE_BYTES).for_each(|byte| *byte = 0),
        8 => {
            let with = choices.byte();
            file.iter_mut().skip(sector).take(512).for_each(|byte| *byte = byte.wrapping_add(with));
        }
        9 => file.truncate(if choices.byte() % 2 == 0 { block } else { place }),
        // The old version of a block comes back, or another block's content.
        10 | 12 | 13 => {
            let from = if kind == 10 { block } else { from * BLOCK_SIZE_BYTES };
            let with = other.iter().skip(from).take(BLOCK_SIZE_BYTES);
            file.iter_mut().skip(block).zip(with).for_each(|(byte, with)| *byte = *with);
        }
        // A whole file's old version.
        11 if !other.is_empty() => *file = other,
        14 => file.extend_from_slice(choices.bytes(64)),
        _ => drop(files.remove(&path)),
    }
    let extent = if kind < 9 { Extent::Block } else { Extent::More };
    (format!("{kind} at {place} of {path}"), extent)
}

/// Publishes a message of each size to each channel, and returns those that were committed.
fn publish_some(life: &Life<'_>, sizes: &[usize], tag: usize) -> Vec<(Key, Bytes)> {
    let mut published = Vec::new();
    for (nth, size) in sizes.iter().enumerate() {
        for channel in CHANNELS {
            let mut payload = format!("{channel} {tag} {nth} ").into_bytes();
            payload.resize(payload.len() + size, b'.');
            let now = life.runtime().now();
            let Ok(one) = life.with(|shard| shard.publish(channel, &payload, now)) else {
                continue;
            };
            published.push((one.index, (channel.to_owned(), one.sequence.0), Bytes::from(payload)));
        }
        if let Some((index, ..)) =
            published.last().filter(|_| nth % 3 == 0 || nth + 1 == sizes.len())
        {
            life.wait(*index);
        }
    }
    let committed = life.with(|shard| shard.committed());
    published.retain(|(index, ..)| *index <= committed);
    published.into_iter().map(|(_, key, payload)| (key, payload)).collect()
}

/// Reads every channel from its start, and some from elsewhere.
fn read_all(life: &Life<'_>) -> Served {
    // Both lives start at the same time: this is in the middle of the first.
    let middle = StartAt::Time(Timestamp(life.runtime().now().wall.0 + 1_000_000));
    life.read_all(&[(CHANNELS[0], middle), (CHANNELS[1], StartAt::LastReceived)])
}

fn subscribe_durably(life: &Life<'_>) {
    life.register_client();
    life.with(|shard| {
        let now = life.runtime().now();
        for channel in CHANNELS {
            let durable = SubscriptionKind::Durable { name: "durable".into() };
            shard.subscribe(request(channel, durable, StartAt::First), Ticket(3), now);
            let queue = SubscriptionKind::Queue { group: "group".into(), is_durable: true };
            shard.subscribe(request(channel, queue, StartAt::First), Ticket(4), now);
        }
    });
}

/// Delivers what there is and lets the positions go to the log.
fn deliver_and_ack(life: &Life<'_>) {
    let mut inbox = Inbox::default();
    life.deliver(&mut inbox);
    life.with(|shard| {
        for (id, sequence) in inbox.last.drain(..) {
            // Some are left, so that they come again.
            if let Some(token) = inbox.tokens.get(&id).filter(|_| sequence.0 % 5 > 0) {
                shard.ack(id, *token, sequence, life.runtime().now());
            }
        }
    });
    life.pass(Duration::from_millis(20));
    life.deliver(&mut inbox);
}
