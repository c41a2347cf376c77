//! Rewriting segments, beside everything else: one at a time on a core, in steps of about 100 us of work or one read or
//! write, and while clients keep the core busy with a pause behind each that is longer than the step.

use std::rc::Rc;
use std::time::Duration;

use super::CoreStorage;
use super::jobs::Job;
use crate::clustering::gather::{Gather, InputRuns, Share};
use crate::clustering::write::ClusterWriter;
use crate::clustering::{ClusterPlan, Input, Written};
use crate::disk::{BLOCK_SIZE_BYTES, Disk, DiskFile, SharedBytes};
use crate::error::DiskError;
use crate::format::footer::Footer;
use crate::format::{FRAME_HEADER_BYTES, FrameHeader};
use crate::index::frames::FrameNote;
use crate::log::history::{READ_BYTES, read_footer, read_window};
use crate::log::scan::{FrameAt, frame_at};
use crate::log::segment::{SegmentPlan, declare_clustered, prepare_unfilled, segment_path};
use crate::runtime::Runtime;
use crate::types::{ChannelId, Generation, Index, Monotonic, SegmentNumber, Sequence};

/// What one pass gathers at most: with the footers of its inputs it stays below 64 MiB.
const PASS_BYTES_MAX: usize = 40 << 20;
/// While nobody publishes a step takes so long at least. (A simulated clock stands still in a step: then each is one.)
const QUIET_STEP: Duration = Duration::from_millis(1);
/// Pauses while somebody publishes, for the time that a step took.
const BUSY_PAUSES: u32 = 3;
/// The shortest pause: others have their turn.
const PAUSE_MIN: Duration = Duration::from_micros(20);
/// After a failure nothing is rewritten for a while.
const FAILURE_WAIT_MS: u64 = 10_000;

/// Why nothing came of it.
enum Stop {
    /// The core stops.
    Closing,
    /// This input is not as its footer says.
    Damaged(SegmentNumber),
    /// What was written cannot be read back, or the disk is full or failing: the output is dropped.
    Failed,
}

impl From<DiskError> for Stop {
    fn from(_: DiskError) -> Self {
        Self::Failed
    }
}

/// A window of a file that frames are read from.
#[derive(Default)]
struct Window {
    start: u64,
    bytes: Option<SharedBytes>,
}

/// Channels of one pass: number, name, first live sequence, and what they have.
type PassChannel<'a> = (ChannelId, &'a str, Sequence, Share);

impl<D: Disk, R: Runtime> CoreStorage<D, R> {
    /// Starts to rewrite what the shard finds worth it, unless the core is at it already.
    pub(super) fn start_clustering(self: &Rc<Self>, at: usize) {
        let is_at_it = self.busy.borrow().iter().any(|(_, job)| *job == Job::Clustering);
        if is_at_it || self.is_closing.get() {
            return;
        }
        let plan = self.with_shard(at, |shard| shard.take_clustering(&mut self.rng.borrow_mut()));
        let Some(plan) = plan else { return };
        self.spawn_job(at, Job::Clustering, async move |core| core.cluster(at, plan).await);
    }

    async fn cluster(self: &Rc<Self>, at: usize, mut plan: ClusterPlan<D::File>) {
        let segment = SegmentPlan {
            shard: self.ids[at],
            number: plan.number,
            generation: plan.generation,
            size_bytes: 0,
            term: self.with_shard(at, |shard| shard.log.term()),
            store: self.with_shard(at, |shard| shard.config.store.clone()),
        };
        let recycled = plan.recycled.take();
        match self.write_output(at, &plan, segment, recycled).await {
            Ok((file, written)) => {
                let mut switch =
                    self.with_shard(at, |shard| shard.begin_switch(plan, file, written));
                while !self
                    .with_shard(at, |shard| shard.go_on_switching(&mut switch, self.runtime.now()))
                {
                    self.runtime.sleep(PAUSE_MIN).await;
                }
                self.statistics.borrow_mut().clustered_count += 1;
            }
            Err(stop) => {
                // Its header says that it is nothing; what cannot be removed now is found at the next open.
                let _ = self.disk.remove(&segment_path(self.ids[at], plan.number)).await;
                if let Stop::Damaged(number) = stop {
                    self.with_shard(at, |shard| shard.keep_from_clustering(number));
                } else if !matches!(stop, Stop::Closing) {
                    self.wait_behind_failure().await;
                }
                self.with_shard(at, crate::shard::Shard::end_clustering);
            }
        }
        self.progress(at);
    }

    async fn wait_behind_failure(&self) {
        let end = self.runtime.now().mono.after_ms(FAILURE_WAIT_MS);
        while !self.is_closing.get() && self.runtime.now().mono < end {
            self.runtime.sleep(Duration::from_millis(100)).await;
        }
    }

    async fn write_output(
        &self,
        at: usize,
        plan: &ClusterPlan<D::File>,
        mut segment: SegmentPlan,
        recycled: Option<(SegmentNumber, Rc<D::File>)>,
    ) -> Result<(Rc<D::File>, Written), Stop> {
        let file = prepare_unfilled(&self.disk, &segment, recycled).await?;
        let mut footers = Vec::new();
        for input in &plan.inputs {
            let Input { number, generation, file, end } = input;
            let footer = read_footer(&**file, *number, *generation, *end).await?;
            footers.push(footer.ok_or(Stop::Damaged(*number))?);
        }
        let frame_max = segment.store.frame_size_bytes_max;
        let mut writer = ClusterWriter::new(file.clone(), plan.number, plan.generation, frame_max);
        let mut first = ChannelId(0);
        let mut gather = Gather::default();
        loop {
            let next = self.share_out(at, &footers, first, &mut gather).await?;
            self.make_room(&mut gather).await?;
            for (input, footer) in plan.inputs.iter().zip(&footers) {
                self.gather_input(&mut gather, input, footer).await?;
            }
            let mut since = self.runtime.now().mono;
            writer.write(&gather, async || self.pace(&mut since).await).await?;
            match next {
                Some(next) => first = next,
                None => break,
            }
        }
        drop((footers, gather));
        let (frames, written) = writer.finish().await?;
        self.read_back(&file, &frames, plan).await?;
        // What limits removed is not in the output: a restart must know it.
        let trims = self.with_shard(at, |shard| shard.log_trims_now());
        self.committed(at, trims).await?;
        segment.size_bytes = written.end.0;
        declare_clustered(&*file, &segment, plan.numbers(), plan.last_index).await?;
        Ok((file, written))
    }

    async fn make_room(&self, gather: &mut Gather) -> Result<(), Stop> {
        gather.begin();
        let mut since = self.runtime.now().mono;
        while !gather.make_room() {
            self.pace(&mut since).await?;
        }
        Ok(())
    }

    /// Has `gather` the channels from `first` on that fit one pass; the first that does not.
    async fn share_out(
        &self,
        at: usize,
        footers: &[Footer],
        first: ChannelId,
        gather: &mut Gather,
    ) -> Result<Option<ChannelId>, Stop> {
        gather.clear();
        let mut cost = 0;
        let mut next = first;
        let mut since = self.runtime.now().mono;
        loop {
            let mut is_end = true;
            let live_from = |id| self.with_shard(at, |shard| shard.live_from(id));
            for (id, name, live_from, share) in shares(footers, next, live_from).take(256) {
                is_end = false;
                if cost > 0 && cost + share.cost_bytes() > PASS_BYTES_MAX {
                    return Ok(Some(id));
                }
                cost += share.cost_bytes();
                if !share.is_empty() {
                    gather.add(id, name, live_from, share);
                }
                next = ChannelId(id.0 + 1);
            }
            if is_end {
                return Ok(None);
            }
            self.pace(&mut since).await?;
        }
    }

    async fn gather_input(
        &self,
        gather: &mut Gather,
        input: &Input<D::File>,
        footer: &Footer,
    ) -> Result<(), Stop> {
        let mut runs: InputRuns<'_> = gather.runs_of(footer);
        let mut window = Window::default();
        let mut since = self.runtime.now().mono;
        for number in gather.needed_frames(footer) {
            let note = footer.frame(number).ok_or(Stop::Damaged(input.number))?;
            let identity = (input.number, input.generation);
            self.take_frame(&input.file, identity, note, &mut window, |found| {
                gather.take_frame(found, number, &mut runs).is_ok()
            })
            .await?;
            self.pace(&mut since).await?;
        }
        gather.check_input(&mut runs).map_err(|_| Stop::Damaged(input.number))
    }

    /// Gives the frame at a place to `take`, which says whether it was right.
    async fn take_frame(
        &self,
        file: &D::File,
        (number, generation): (SegmentNumber, Generation),
        note: &FrameNote,
        window: &mut Window,
        take: impl FnOnce(&crate::log::scan::FoundFrame<'_>) -> bool,
    ) -> Result<(), Stop> {
        let position = u64::from(note.block) * BLOCK_SIZE_BYTES as u64;
        if !window.holds_frame(position) {
            window.read(file, position).await?;
        }
        let at = usize::try_from(position - window.start).expect("inside the window");
        let is_right =
            match frame_at(window.bytes().get(at..).unwrap_or_default(), number, generation) {
                FrameAt::Whole(found) => take(&found),
                FrameAt::Partial | FrameAt::None => false,
            };
        if is_right { Ok(()) } else { Err(Stop::Damaged(number)) }
    }

    /// What was written is read once more before anything relies on it.
    async fn read_back(
        &self,
        file: &D::File,
        frames: &[FrameNote],
        plan: &ClusterPlan<D::File>,
    ) -> Result<(), Stop> {
        let mut window = Window::default();
        let mut since = self.runtime.now().mono;
        for note in frames {
            let identity = (plan.number, plan.generation);
            let result =
                self.take_frame(file, identity, note, &mut window, |found| found.is_intact()).await;
            // The output's own damage is no input's.
            result.map_err(|stop| match stop {
                Stop::Damaged(_) => Stop::Failed,
                other => other,
            })?;
            self.pace(&mut since).await?;
        }
        Ok(())
    }

    /// Waits until all up to `index` is on disk.
    async fn committed(&self, at: usize, index: Index) -> Result<(), Stop> {
        while self.with_shard(at, |shard| shard.log.committed() < index) {
            let is_over = self.with_shard(at, |shard| shard.log.finished().is_some());
            if is_over {
                return Err(Stop::Failed);
            }
            self.stop_if_closing()?;
            self.runtime.sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    fn stop_if_closing(&self) -> Result<(), Stop> {
        if self.is_closing.get() { Err(Stop::Closing) } else { Ok(()) }
    }

    /// Lets others have their turn: behind each step and for longer than it took while somebody publishes, else behind
    /// longer ones: readers of history gain by it.
    async fn pace(&self, since: &mut Monotonic) -> Result<(), Stop> {
        self.stop_if_closing()?;
        let now = self.runtime.now();
        let took = Duration::from_nanos(now.mono.since(*since));
        let pause = if self.is_publishing(now) {
            took * BUSY_PAUSES
        } else if !took.is_zero() && took < QUIET_STEP {
            return Ok(());
        } else {
            Duration::ZERO
        };
        self.runtime.sleep(pause.clamp(PAUSE_MIN, Duration::from_millis(20))).await;
        *since = self.runtime.now().mono;
        Ok(())
    }
}

impl Window {
    fn bytes(&self) -> &[u8] {
        self.bytes.as_ref().map_or(&[], |bytes| (**bytes).as_ref())
    }

    /// Whether the frame at this place is in it, as far as its header says.
    fn holds_frame(&self, position: u64) -> bool {
        let Some(at) = position.checked_sub(self.start) else { return false };
        let rest = usize::try_from(at).ok().and_then(|at| self.bytes().get(at..));
        let Some(rest) = rest.filter(|rest| rest.len() >= FRAME_HEADER_BYTES) else { return false };
        FrameHeader::decode(rest).is_some_and(|(header, _)| header.length_bytes() <= rest.len())
    }

    async fn read<F: DiskFile>(&mut self, file: &F, position: u64) -> Result<(), Stop> {
        self.start = position;
        self.bytes = Some(read_window(file, position, READ_BYTES).await?);
        Ok(())
    }
}

/// The channels from `first` on with what they have in all inputs, in order.
fn shares<'a>(
    footers: &'a [Footer],
    first: ChannelId,
    live_from: impl Fn(ChannelId) -> Option<Sequence>,
) -> impl Iterator<Item = PassChannel<'a>> {
    let mut lists: Vec<_> =
        footers.iter().map(|footer| footer.channels_from(first).peekable()).collect();
    std::iter::from_fn(move || {
        let id = lists.iter_mut().filter_map(|list| Some(list.peek()?.0)).min()?;
        let live_from = live_from(id).unwrap_or(Sequence(u64::MAX));
        let mut share = Share::default();
        let mut name = "";
        for list in &mut lists {
            if let Some((_, known, runs)) = list.next_if(|(next, ..)| *next == id) {
                share.add(Share::of(runs, live_from));
                name = known;
            }
        }
        Some((id, name, live_from, share))
    })
}
