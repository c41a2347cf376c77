//! Reads of history, paced by core.
//!
//! What reads bring is taken apart while publishes wait, and the disk has less time for commits. So beside commits few
//! are on their way at once, however many subscribers catch up. Shards take turns.

use std::rc::Rc;

use super::CoreStorage;
use crate::disk::{Disk, DiskFile, DiskResult};
use crate::error::DiskError;
use crate::format::footer::Footer;
use crate::log::history::{read_footer, read_window};
use crate::recovery::replay::rebuild_footer;
use crate::runtime::Runtime;
use crate::shard::{ReadKey, ReadResult, ReadWork};
use crate::types::Now;

/// What the reads of one core that are on their way bring: 4 of a log's frames, 13 of a clustered segment's. More waits for the disk, and whatever else is asked of the disk waits behind: a subscription's record
/// must be on disk before it is answered.
const READ_BYTES_IN_FLIGHT_MAX: usize = 2 << 20;
/// Beside commits: 1,000 subscribers that caught up over a history in which their channels were finely interleaved took
/// publishers seven eighths of their rate with 64 reads on their way, half with 4, and a third with 2.
const READS_BESIDE_COMMITS_MAX: usize = 2;
/// So long after a request that is answered from the disk there are others. With many subscriptions that come one after
/// the other, each read of history is for more of them the sooner they are there.
const ANSWERING_MS: u64 = 20;
/// So long after a commit of messages somebody publishes.
const PUBLISHING_MS: u64 = 100;

/// A read that fails is tried this often before its messages count as lost.
const READ_TRIES_MAX: usize = 3;

impl<D: Disk, R: Runtime> CoreStorage<D, R> {
    /// Starts reads of the shards in turn, as many as may be on their way.
    pub(super) fn start_reads(self: &Rc<Self>, now: Now) {
        let is_answering = now.mono < self.answering_at.get().after_ms(ANSWERING_MS);
        let is_awaited = is_answering || self.is_publishing(now);
        let most = if is_awaited { READS_BESIDE_COMMITS_MAX } else { usize::MAX };
        while self.reads_in_flight.get() < most
            && self.read_bytes_in_flight.get() < READ_BYTES_IN_FLIGHT_MAX
        {
            let Some((at, work)) = self.next_read() else { return };
            self.reads_in_flight.set(self.reads_in_flight.get() + 1);
            self.read_bytes_in_flight.set(self.read_bytes_in_flight.get() + work.read_bytes);
            self.statistics.borrow_mut().history_reads += 1;
            let core = self.clone();
            self.runtime.spawn(async move { core.read(at, work).await });
        }
    }

    /// Whether a message was committed a short time ago.
    pub(super) fn is_publishing(&self, now: Now) -> bool {
        now.mono < self.published_at.get().after_ms(PUBLISHING_MS)
    }

    /// A read of the next shard that wants one. The turn goes on behind it.
    fn next_read(&self) -> Option<(usize, ReadWork<D::File>)> {
        let count = self.shards.len();
        (0..count).map(|step| (self.read_turn.get() + step) % count).find_map(|at| {
            let work = self.with_shard(at, |shard| shard.take_read())?;
            self.read_turn.set((at + 1) % count);
            Some((at, work))
        })
    }

    async fn read(self: &Rc<Self>, at: usize, work: ReadWork<D::File>) {
        let mut result = read_once(&work).await;
        for _ in 1..READ_TRIES_MAX {
            if result.is_ok() {
                break;
            }
            result = read_once(&work).await;
        }
        self.reads_in_flight.set(self.reads_in_flight.get() - 1);
        self.read_bytes_in_flight.set(self.read_bytes_in_flight.get() - work.read_bytes);
        self.with_shard(at, |shard| shard.read_done(work.key, result, self.runtime.now()));
        self.progress(at);
        self.pump();
    }
}

async fn read_once<F: DiskFile>(work: &ReadWork<F>) -> DiskResult<ReadResult> {
    match work.key {
        ReadKey::Frame(_) => {
            let window = read_window(&*work.file, work.position.0, work.read_bytes).await?;
            Ok(ReadResult::Window(window))
        }
        ReadKey::Footer(_) => Ok(ReadResult::Footer(Rc::new(footer_for_readers(work).await?))),
    }
}

/// One that is damaged is made anew from the segment's frames.
async fn footer_for_readers<F: DiskFile>(work: &ReadWork<F>) -> DiskResult<Footer> {
    let ReadWork { file, segment, generation, position, .. } = work;
    if let Some(footer) = read_footer(&**file, *segment, *generation, *position).await? {
        return Ok(footer);
    }
    let bytes = rebuild_footer(&**file, *segment, *generation, *position).await?;
    Footer::decode(bytes, *generation, *segment).ok_or(DiskError::Io {
        file: String::new(),
        what: "reading a footer",
        reason: "made anew, it cannot be read".into(),
    })
}
