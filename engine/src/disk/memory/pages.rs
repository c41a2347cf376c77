//! The bytes of a file in memory: pages of 64 KiB, absent where all is zero.

use std::collections::BTreeMap;

/// Large enough that a frame touches one or two, small enough that a sparse file stays small.
const PAGE_SIZE_BYTES: usize = 64 * 1024;

/// A sparse file's content.
#[derive(Clone, Default)]
pub(crate) struct Pages {
    length_bytes: u64,
    pages: BTreeMap<u64, Box<[u8]>>,
}

impl Pages {
    /// The file's length.
    pub(crate) fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    /// Puts `bytes` at `position`, and extends the file as needed.
    pub(crate) fn write(&mut self, position: u64, bytes: &[u8]) {
        let mut at = position;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (page, offset) = place(at);
            let (part, remainder) = rest.split_at(rest.len().min(PAGE_SIZE_BYTES - offset));
            self.write_page(page, offset, part);
            at += part.len() as u64;
            rest = remainder;
        }
        self.extend(at);
    }

    /// Up to `length_bytes` from `position`; fewer at the end of the file.
    pub(crate) fn read(&self, position: u64, length_bytes: usize) -> Vec<u8> {
        let available = self.length_bytes.saturating_sub(position);
        let length = usize::try_from(available).map_or(length_bytes, |all| all.min(length_bytes));
        let mut bytes = vec![0; length];
        let mut at = position;
        let mut rest = bytes.as_mut_slice();
        while !rest.is_empty() {
            let (page, offset) = place(at);
            let length = rest.len().min(PAGE_SIZE_BYTES - offset);
            let (part, remainder) = rest.split_at_mut(length);
            if let Some(stored) = self.pages.get(&page) {
                part.copy_from_slice(&stored[offset..offset + part.len()]);
            }
            at += part.len() as u64;
            rest = remainder;
        }
        bytes
    }

    /// Cuts or extends the file. What is cut off reads as zeros when the file grows again.
    pub(crate) fn set_length(&mut self, length_bytes: u64) {
        let (page, offset) = place(length_bytes);
        if length_bytes < self.length_bytes {
            let first_gone = if offset == 0 { page } else { page + 1 };
            drop(self.pages.split_off(&first_gone));
            if let Some(last) = self.pages.get_mut(&page) {
                last[offset..].fill(0);
            }
        }
        self.length_bytes = length_bytes;
    }

    /// Makes the file at least this long.
    pub(crate) fn extend(&mut self, length_bytes: u64) {
        self.length_bytes = self.length_bytes.max(length_bytes);
    }

    /// Pages that take memory.
    #[cfg(test)]
    pub(crate) fn page_count(&self) -> usize {
        self.pages.len()
    }

    fn write_page(&mut self, page: u64, offset: usize, part: &[u8]) {
        // Zeros over a hole stay a hole: segments are filled with zeros before use.
        if !self.pages.contains_key(&page) && part.iter().all(|byte| *byte == 0) {
            return;
        }
        let stored =
            self.pages.entry(page).or_insert_with(|| vec![0; PAGE_SIZE_BYTES].into_boxed_slice());
        stored[offset..offset + part.len()].copy_from_slice(part);
    }
}

fn place(position: u64) -> (u64, usize) {
    let page = position / PAGE_SIZE_BYTES as u64;
    (page, (position % PAGE_SIZE_BYTES as u64) as usize)
}
