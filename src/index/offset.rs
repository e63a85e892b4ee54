//! From offsets to positions: one entry for every few KiB of batches (Kafka's `OffsetIndex`).
//!
//! Invariant: offsets and positions of a growing index rise strictly. Its entries at and behind `claimed` were pushed
//! by this process; those before were read from a file. A sealed index promises nothing about its entries.

use crate::error::Malformed;
use crate::format::index_entry::OffsetIndexEntry;
use crate::storage::Mapping;
use crate::types::{Offset, Position};

use super::entry::{Claim, IndexSize, OffsetEntry, Trust, Unwritten, last_where};

/// The index of the segment that is appended to, on the heap.
#[derive(Clone, Debug)]
pub struct OffsetIndex {
    base: Offset,
    entries: Vec<OffsetIndexEntry>,
    claimed: usize,
    written: usize,
    most: usize,
}

impl OffsetIndex {
    /// An empty index of the segment that begins at `base`.
    #[must_use]
    pub fn new(base: Offset, size: IndexSize) -> Self {
        Self { base, entries: Vec::new(), claimed: 0, written: 0, most: size.entries(OffsetIndexEntry::SIZE) }
    }

    /// The index that stands in a file, as far as it speaks of what lies before `end`, the place in the segment from
    /// which on the caller pushes entries itself. The entries are claims.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the file is not made of whole entries that rise and fit: it is of no use then.
    pub fn from_file(
        base: Offset,
        size: IndexSize,
        bytes: &[u8],
        end: OffsetEntry,
    ) -> Result<Self, Malformed> {
        let mut index = Self::new(base, size);
        let (entries, rest) = bytes.as_chunks::<{ OffsetIndexEntry::SIZE }>();
        if !rest.is_empty() {
            return Err(uneven(bytes.len() as u64, OffsetIndexEntry::SIZE));
        }
        for bytes in entries {
            let entry = OffsetIndexEntry::from_bytes(bytes)?;
            if entry.position() >= end.position || entry.last_offset(base) >= end.last_offset {
                break;
            }
            index.push(entry.last_offset(base), entry.position())?;
        }
        index.claimed = index.entries.len();
        index.written = index.entries.len();
        Ok(index)
    }

    /// Adds the batch that ends with `last_offset` and begins at `position`.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if offset or position does not rise, does not fit into 31 bits, or the index is full; the index
    /// is left as it was.
    pub fn push(&mut self, last_offset: Offset, position: Position) -> Result<(), Malformed> {
        let at = (self.entries.len() * OffsetIndexEntry::SIZE) as u64;
        if self.is_full() {
            return Err(Malformed::new("entry count", at, format!("at most {}", self.most), "one more"));
        }
        if let Some(last) = self.last() {
            if last_offset <= last.last_offset {
                return Err(Malformed::new(
                    "relative offset",
                    at,
                    format!("more than {}", last.last_offset),
                    last_offset,
                ));
            }
            if position <= last.position {
                return Err(Malformed::new(
                    "position",
                    at + 4,
                    format!("more than {}", last.position),
                    position,
                ));
            }
        }
        self.entries.push(OffsetIndexEntry::new(self.base, last_offset, position)?);
        Ok(())
    }

    /// Drops the entries of batches that hold `offset` or anything behind it.
    pub fn truncate_to(&mut self, offset: Offset) {
        let kept = self.entries.partition_point(|entry| entry.last_offset(self.base) < offset);
        self.entries.truncate(kept);
        self.claimed = self.claimed.min(kept);
        self.written = self.written.min(kept);
    }

    /// The entries that are not in the file yet; from here on they count as written.
    #[must_use]
    pub fn take_unwritten(&mut self) -> Unwritten {
        let unwritten = self.unwritten();
        self.written = self.entries.len();
        unwritten
    }

    /// The entries that are not in the file yet.
    #[must_use]
    pub fn unwritten(&self) -> Unwritten {
        let rest = self.entries.get(self.written..).unwrap_or_default();
        Unwritten {
            position: (self.written * OffsetIndexEntry::SIZE) as u64,
            bytes: rest.iter().flat_map(|entry| entry.to_bytes()).collect(),
        }
    }

    /// Takes back that entries were written: the write of what [`Self::take_unwritten`] gave has failed.
    pub fn give_back(&mut self, unwritten: &Unwritten) {
        let entries = usize::try_from(unwritten.position).unwrap_or(usize::MAX) / OffsetIndexEntry::SIZE;
        self.written = self.written.min(entries);
    }

    /// The last batch in the index whose last offset is at or below `target`.
    #[must_use]
    pub fn floor(&self, target: Offset) -> Option<Claim> {
        self.claim(last_where(self.entries.len(), |n| {
            self.get(n).is_some_and(|entry| entry.last_offset <= target)
        })?)
    }

    /// The last batch in the index that begins at or before `limit`.
    #[must_use]
    pub fn floor_position(&self, limit: Position) -> Option<Claim> {
        self.claim(last_where(self.entries.len(), |n| {
            self.get(n).is_some_and(|entry| entry.position <= limit)
        })?)
    }

    /// The last entry.
    #[must_use]
    pub fn last(&self) -> Option<OffsetEntry> {
        self.get(self.entries.len().checked_sub(1)?)
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether no entry fits any more: the segment must be rolled before the next batch.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.entries.len() >= self.most
    }

    /// All entries as they stand in the file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.entries.iter().flat_map(|entry| entry.to_bytes()).collect()
    }

    fn get(&self, number: usize) -> Option<OffsetEntry> {
        self.entries.get(number).map(|entry| decoded(*entry, self.base))
    }

    fn claim(&self, number: usize) -> Option<Claim> {
        let trust = if number < self.claimed { Trust::Claimed } else { Trust::Proven };
        let previous = number.checked_sub(1).and_then(|before| self.get(before));
        Some(Claim { number, entry: self.get(number)?, previous, trust })
    }
}

/// The index file of a sealed segment. Every entry is a claim.
#[derive(Debug)]
pub struct SealedOffsetIndex {
    base: Offset,
    entries: Mapping,
    count: usize,
}

impl SealedOffsetIndex {
    /// The index of the segment that begins at `base` and whose last batch ends before `end`.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the bytes are not whole entries, or if the last two do not rise and lie before `end`: so looks
    /// a file that Kafka made at its full size and never trimmed.
    pub fn new(base: Offset, entries: Mapping, end: OffsetEntry) -> Result<Self, Malformed> {
        let len = entries.len();
        if !len.is_multiple_of(OffsetIndexEntry::SIZE as u64) {
            return Err(uneven(len, OffsetIndexEntry::SIZE));
        }
        let count = usize::try_from(len).unwrap_or(0) / OffsetIndexEntry::SIZE;
        let index = Self { base, entries, count };
        if let Some(number) = count.checked_sub(1) {
            let at = (number * OffsetIndexEntry::SIZE) as u64;
            let broken = |found: String| {
                Malformed::new("last entry", at, format!("rises and is before {end:?}"), found)
            };
            let claim = index.claim(number).ok_or_else(|| broken("a negative field".to_owned()))?;
            let rises = match claim.previous {
                Some(previous) => rises(previous, claim.entry),
                None => number == 0,
            };
            if !rises || !self::rises(claim.entry, end) {
                return Err(broken(format!("{:?} behind {:?}", claim.entry, claim.previous)));
            }
        }
        Ok(index)
    }

    /// The last batch in the index whose last offset is at or below `target`.
    #[must_use]
    pub fn floor(&self, target: Offset) -> Option<Claim> {
        let holds = |entry: OffsetEntry| entry.last_offset <= target;
        let claim = self.claim(last_where(self.count, |n| self.get(n).is_some_and(holds))?)?;
        holds(claim.entry).then_some(claim)
    }

    /// The last batch in the index that begins at or before `limit`.
    #[must_use]
    pub fn floor_position(&self, limit: Position) -> Option<Claim> {
        let holds = |entry: OffsetEntry| entry.position <= limit;
        let claim = self.claim(last_where(self.count, |n| self.get(n).is_some_and(holds))?)?;
        holds(claim.entry).then_some(claim)
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn get(&self, number: usize) -> Option<OffsetEntry> {
        let bytes = self.entries.read((number as u64).checked_mul(OffsetIndexEntry::SIZE as u64)?)?;
        Some(decoded(OffsetIndexEntry::from_bytes(&bytes).ok()?, self.base))
    }

    fn claim(&self, number: usize) -> Option<Claim> {
        let previous = number.checked_sub(1).and_then(|before| self.get(before));
        Some(Claim { number, entry: self.get(number)?, previous, trust: Trust::Claimed })
    }
}

fn decoded(entry: OffsetIndexEntry, base: Offset) -> OffsetEntry {
    OffsetEntry { last_offset: entry.last_offset(base), position: entry.position() }
}

fn rises(before: OffsetEntry, after: OffsetEntry) -> bool {
    before.last_offset < after.last_offset && before.position < after.position
}

pub(super) fn uneven(len: u64, entry_size: usize) -> Malformed {
    Malformed::new("file length", 0, format!("a multiple of {entry_size}"), len)
}

#[cfg(test)]
mod tests;
