//! Clustering: sealed segments rewritten with each channel's messages together.
//!
//! Messages of thousands of channels stand in the log as they came: a reader of one channel would read all others'
//! too, and a segment in which one channel keeps a message keeps all its space. So segments that no recovery reads any
//! more (all is behind the older checkpoint) are rewritten: one or several that follow each other become one, sorted by
//! channel and sequence, without what limits have removed and without padding. Records keep their bytes and checksums.
//!
//! ```text
//! choose inputs -> read their footers -> in passes over ranges of channels: gather records, write frames
//!   -> footer -> read back -> header says "clustered, instead of these inputs": one block, the switch
//!   -> the index is told, channel by channel -> two checkpoints later the inputs' files are spare
//! ```
//!
//! Until the header is written the output is garbage at open; from then on the inputs are. They stay until both
//! checkpoints that are kept know the output, so that no single damaged block loses both.

use std::rc::Rc;

use crate::types::{Generation, Index, Position, SegmentNumber};

pub(crate) mod choose;
pub(crate) mod gather;
pub(crate) mod write;

/// Segments that become one at most: their numbers fit the header.
pub(crate) const INPUTS_MAX: usize = 16;

/// A segment to be rewritten.
pub(crate) struct Input<F> {
    pub number: SegmentNumber,
    pub generation: Generation,
    pub file: Rc<F>,
    /// Where its footer is.
    pub end: Position,
}

/// What is to be rewritten, and as what.
pub(crate) struct ClusterPlan<F> {
    /// In the order of the log.
    pub inputs: Vec<Input<F>>,
    /// The last batch in them.
    pub last_index: Index,
    /// The output's number and life.
    pub number: SegmentNumber,
    pub generation: Generation,
    /// A dead segment's file, whose blocks are used again.
    pub recycled: Option<(SegmentNumber, Rc<F>)>,
}

impl<F> ClusterPlan<F> {
    /// The numbers of the inputs.
    pub(crate) fn numbers(&self) -> Vec<SegmentNumber> {
        self.inputs.iter().map(|input| input.number).collect()
    }
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written {
    /// Where the footer is.
    pub end: Position,
    /// Runs in the footer.
    pub runs_count: u32,
}
