//! The last part of a run: first id and CRC of each block, in the order of the blocks.
//!
//! ```text
//! 12 bytes a block: 8 first producer id, 4 CRC-32 of the block as it stands in the block
//! ```
//!
//! Invariant: ids ascend strictly, so that a search finds the only block that can hold an id. The CRC of the whole
//! index stands in the header.

use crate::error::Malformed;
use crate::format::cursor::Cursor;
use crate::types::ProducerId;

/// Bytes of the index for each block.
pub const INDEX_ENTRY_SIZE: usize = 8 + 4;

/// What the index knows of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRef {
    /// The smallest id in the block.
    pub first_id: ProducerId,
    /// The block's CRC-32.
    pub crc: u32,
}

/// The index of a run, held on the heap while the run is open: 12 bytes for each block of 17 to 100 producers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunIndex {
    // Apart, because a search touches only the ids.
    first_ids: Vec<i64>,
    crcs: Vec<u32>,
}

impl RunIndex {
    /// Adds the next block.
    pub fn push(&mut self, block: BlockRef) {
        self.first_ids.push(block.first_id.0);
        self.crcs.push(block.crc);
    }

    /// How many blocks there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.first_ids.len()
    }

    /// Whether the run has no block.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.first_ids.is_empty()
    }

    /// What is known of the `nth` block.
    #[must_use]
    pub fn block(&self, nth: usize) -> Option<BlockRef> {
        Some(BlockRef { first_id: ProducerId(*self.first_ids.get(nth)?), crc: *self.crcs.get(nth)? })
    }

    /// Which block holds `id` if any does.
    #[must_use]
    pub fn locate(&self, id: ProducerId) -> Option<usize> {
        self.first_ids.partition_point(|first| *first <= id.0).checked_sub(1)
    }

    /// The bytes of the index.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len() * INDEX_ENTRY_SIZE);
        for (first, crc) in self.first_ids.iter().zip(&self.crcs) {
            out.extend_from_slice(&first.to_be_bytes());
            out.extend_from_slice(&crc.to_be_bytes());
        }
        out
    }

    /// Reads the bytes of the index, all of which must be there and pass `crc`.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the CRC fails, if a part is missing or if the ids do not ascend.
    pub fn decode(bytes: &[u8], crc: u32) -> Result<Self, Malformed> {
        let found = crc32fast::hash(bytes);
        if found != crc {
            return Err(Malformed::new("index CRC", 0, format!("{crc:08x}"), format!("{found:08x}")));
        }
        let blocks = bytes.len() / INDEX_ENTRY_SIZE;
        let mut index = Self { first_ids: Vec::with_capacity(blocks), crcs: Vec::with_capacity(blocks) };
        let mut cursor = Cursor::new(bytes);
        for _ in 0..blocks {
            let first = cursor.i64("first id of a block")?;
            if let Some(last) = index.first_ids.last().filter(|last| **last >= first) {
                let at = (cursor.position() - 8) as u64;
                return Err(Malformed::new("first id of a block", at, format!("more than {last}"), first));
            }
            index.first_ids.push(first);
            index.crcs.push(cursor.u32("CRC of a block")?);
        }
        cursor.finish("end of the index")?;
        Ok(index)
    }
}
