//! What the fuzz targets call, over items that are private otherwise. Compiled only by cargo-fuzz, which sets
//! `--cfg fuzzing`.
//!
//! Each function takes any bytes and panics where a promise is broken: no bytes from a disk make the engine panic, or
//! serve what was not put in. A checksum would keep a fuzzer out, so each structure is read both as it comes and with
//! its checksum made right.

use crate::disk::BLOCK_SIZE_BYTES;

mod frames;
mod life;
mod operations;
mod recovery;
mod states;
mod structures;

/// A frame of the log: any bytes, a sealed frame around any table, and a frame that was written and then damaged.
pub fn batch_frame(input: &[u8]) {
    frames::any_bytes(input);
    frames::any_table(input);
    frames::damaged(&mut Choices::new(input));
}

/// State records: what is read is written and read again as the same, and any of them put a shard's subscriptions
/// together.
pub fn state_record(input: &[u8]) {
    states::one(input);
    states::many(input);
}

/// Checkpoints, footers, and the structures of one block.
pub fn checkpoint_footer(input: &[u8]) {
    structures::checkpoint(input);
    structures::footer(input);
    structures::blocks(input);
}

/// A store is opened after its files were damaged.
pub fn recovery(input: &[u8]) {
    recovery::damaged_store(&mut Choices::new(input));
}

/// A store is used, killed, loses power and is opened again, in any order, beside a model of what it promises.
pub fn operations(input: &[u8]) {
    operations::lives(&mut Choices::new(input));
}

/// The input as a source of choices: zeros once it is used up.
struct Choices<'a> {
    rest: &'a [u8],
}

impl<'a> Choices<'a> {
    fn new(input: &'a [u8]) -> Self {
        Self { rest: input }
    }

    fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *first
    }

    /// A number below `bound`, 0 if that is 0; takes only the bytes it needs, so that inputs stay short.
    fn below(&mut self, bound: usize) -> usize {
        let mut value = 0;
        let mut range = 1_usize;
        while range < bound {
            value = (value << 8) | usize::from(self.byte());
            range <<= 8;
        }
        value % bound.max(1)
    }

    /// Up to `length_max` bytes.
    fn bytes(&mut self, length_max: usize) -> &'a [u8] {
        let length = self.below(length_max + 1).min(self.rest.len());
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }
}

/// Puts the right checksum into a structure that keeps it in bytes 4..8, of all bytes behind it.
fn seal(bytes: &mut [u8]) {
    let (head, checked) = bytes.split_at_mut(8);
    head[4..].copy_from_slice(&crc32c::crc32c(checked).to_le_bytes());
}

/// `head` up to its length field, then that field, then the body: what each of the structures with a length is.
fn with_body(head: &[u8], body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("inputs are small");
    let mut bytes = head[..8].to_vec();
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(body);
    seal(&mut bytes);
    bytes
}

/// `bytes` as a whole block; `None` if they are longer.
fn block_of(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    (bytes.len() <= BLOCK_SIZE_BYTES).then(|| {
        bytes.resize(BLOCK_SIZE_BYTES, 0);
        bytes
    })
}
