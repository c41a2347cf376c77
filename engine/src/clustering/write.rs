//! The output: frames in the order of channel and sequence, and the footer.

use std::ops::Range;
use std::rc::Rc;

use super::Written;
use super::gather::{Gather, GatherChannel, Record};
use crate::disk::{BLOCK_SIZE_BYTES, DiskFile, DiskResult};
use crate::format::footer::FooterWriter;
use crate::format::{self, FrameHeader, Table, TableRun};
use crate::index::frames::{FrameNote, FrameNumber};
use crate::index::runs::Run;
use crate::log::batch::Times;
use crate::log::segment::write_block;
use crate::types::{Generation, Index, Position, SegmentNumber, Term};

/// A frame is ended when its records reach this: a reader of one channel reads little of its neighbours.
const FRAME_BYTES_TARGET: usize = 128 << 10;

/// Writes one output file.
pub(crate) struct ClusterWriter<F> {
    file: Rc<F>,
    number: SegmentNumber,
    generation: Generation,
    frame_bytes_target: usize,
    position: u64,
    last_crc: u32,
    frames: Vec<FrameNote>,
    footer: FooterWriter,
}

/// The frame that is put together.
#[derive(Default)]
struct OpenFrame {
    table: Table,
    /// Parts of the gathered bytes.
    pieces: Vec<Range<usize>>,
    size_bytes: usize,
    times: Times,
}

impl OpenFrame {
    fn push(&mut self, channel: &GatherChannel, record: &Record, gather: &Gather) {
        let length = record.length as usize;
        let end = record.start + format::align_record(length);
        match self.pieces.last_mut() {
            Some(piece) if piece.end == record.start => piece.end = end,
            _ => self.pieces.push(record.start..end),
        }
        self.size_bytes += end - record.start;
        if let Some((time, _)) = format::message(gather.bytes(record.start..record.start + length))
        {
            self.times.add(time);
        }
        let at = format::count_u32(self.table.lengths.len());
        self.table.lengths.push(record.length);
        self.table.crcs.push(record.crc);
        match self.table.runs.last_mut() {
            Some(run)
                if run.channel == channel.id && run.sequence(run.count) == record.sequence =>
            {
                run.count += 1;
            }
            _ => self.table.runs.push(TableRun {
                channel: channel.id,
                first: record.sequence,
                count: 1,
                record: at,
            }),
        }
    }
}

impl<F: DiskFile> ClusterWriter<F> {
    pub(crate) fn new(
        file: Rc<F>,
        number: SegmentNumber,
        generation: Generation,
        frame_size_bytes_max: u32,
    ) -> Self {
        Self {
            file,
            number,
            generation,
            // The tables of the smallest records take as much again, three times.
            frame_bytes_target: FRAME_BYTES_TARGET.min(frame_size_bytes_max as usize / 4),
            position: format::SEGMENT_HEADER_BYTES,
            last_crc: 0,
            frames: Vec::new(),
            footer: FooterWriter::default(),
        }
    }

    /// Writes all that a pass gathered. `pace` is waited for behind each frame.
    pub(crate) async fn write<E: From<crate::error::DiskError>>(
        &mut self,
        gather: &Gather,
        mut pace: impl AsyncFnMut() -> Result<(), E>,
    ) -> Result<(), E> {
        let mut frame = OpenFrame::default();
        for (channel, records) in gather.channels() {
            let mut runs: Vec<Run> = Vec::new();
            for record in records {
                let is_full = frame.size_bytes + record.length as usize > self.frame_bytes_target;
                if is_full && frame.size_bytes > 0 {
                    self.write_frame(std::mem::take(&mut frame), gather).await?;
                    pace().await?;
                }
                frame.push(channel, record, gather);
                add_to_runs(&mut runs, record, FrameNumber(self.frames.len() as u64));
            }
            let runs = runs.iter().copied();
            self.footer.channel(channel.id, &channel.name, FrameNumber(0), runs);
        }
        if frame.size_bytes > 0 {
            self.write_frame(frame, gather).await?;
            pace().await?;
        }
        Ok(())
    }

    async fn write_frame(&mut self, frame: OpenFrame, gather: &Gather) -> DiskResult<()> {
        let table = frame.table.encode(&[]);
        let length = format::frame_length_bytes(table.len(), frame.size_bytes);
        let header = FrameHeader {
            blocks: u16::try_from(length / BLOCK_SIZE_BYTES).expect("it is as small as a batch"),
            is_clustered: true,
            record_count: format::count_u32(frame.table.lengths.len()),
            table_length: format::count_u32(table.len()),
            generation: self.generation,
            segment: self.number,
            term: Term(0),
            index: Index(self.frames.len() as u64 + 1),
            committed: Index(0),
            previous_crc: self.last_crc,
            table_crc: format::table_crc(self.generation, &table),
        };
        let mut buffer = self.file.buffer(length);
        let pieces = frame.pieces.iter().map(|piece| gather.bytes(piece.clone()));
        self.last_crc = format::put_frame(buffer.as_mut(), &header, &table, pieces);
        self.file.write_at(self.position, Rc::new(buffer)).await?;
        self.frames.push(FrameNote {
            segment: self.number,
            block: u32::try_from(self.position / BLOCK_SIZE_BYTES as u64)
                .expect("segments are small"),
            first_time: frame.times.first,
            last_time: frame.times.last,
        });
        self.position += length as u64;
        Ok(())
    }

    /// Writes the footer; the frames, to be read back, and what there is now.
    pub(crate) async fn finish(self) -> DiskResult<(Vec<FrameNote>, Written)> {
        let runs_count = self.footer.runs_count();
        let bytes = self.footer.finish(self.generation, self.number, self.frames.iter());
        write_block(&*self.file, self.position, &bytes).await?;
        let end = self.position + format::align_block(bytes.len()) as u64;
        if self.file.length_bytes().await? > end {
            self.file.truncate(end).await?;
        }
        let written = Written { end: Position(self.position), runs_count };
        Ok((self.frames, written))
    }
}

fn add_to_runs(runs: &mut Vec<Run>, record: &Record, frame: FrameNumber) {
    match runs.last_mut() {
        Some(run) if run.frame == frame && run.last().next() == record.sequence => {
            run.count += 1;
            run.bytes = run.bytes.saturating_add(record.length);
        }
        _ => runs.push(Run { first: record.sequence, count: 1, bytes: record.length, frame }),
    }
}
