//! From timestamps to offsets (Kafka's `TimeIndex`).
//!
//! Invariant: timestamps of a growing index rise strictly and offsets never fall. An entry names the batch that brought
//! the largest timestamp so far, so every batch before it has smaller ones. The last slot of the file is kept for the
//! entry that is forced in when the segment is sealed or closed: retention reads that one.

use crate::error::Malformed;
use crate::format::index_entry::TimeIndexEntry;
use crate::storage::Mapping;
use crate::types::Offset;

use super::entry::{IndexSize, TimeClaim, TimeEntry, Trust, Unwritten, last_where};
use super::offset::uneven;

/// The index of the segment that is appended to, on the heap.
#[derive(Clone, Debug)]
pub struct TimeIndex {
    base: Offset,
    entries: Vec<TimeIndexEntry>,
    claimed: usize,
    written: usize,
    most: usize,
}

impl TimeIndex {
    /// An empty index of the segment that begins at `base`.
    #[must_use]
    pub fn new(base: Offset, size: IndexSize) -> Self {
        Self { base, entries: Vec::new(), claimed: 0, written: 0, most: size.entries(TimeIndexEntry::SIZE) }
    }

    /// The index that stands in a file, as far as it speaks of offsets below `end`. The entries are claims.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the file is not made of whole entries that rise and fit: it is of no use then.
    pub fn from_file(base: Offset, size: IndexSize, bytes: &[u8], end: Offset) -> Result<Self, Malformed> {
        let mut index = Self::new(base, size);
        let (entries, rest) = bytes.as_chunks::<{ TimeIndexEntry::SIZE }>();
        if !rest.is_empty() {
            return Err(uneven(bytes.len() as u64, TimeIndexEntry::SIZE));
        }
        for bytes in entries {
            let entry = TimeIndexEntry::from_bytes(bytes)?;
            if entry.last_offset(base) >= end {
                break;
            }
            let before = index.entries.len();
            index.push_unless_more_than(index.most, entry.timestamp(), entry.last_offset(base))?;
            if index.entries.len() == before {
                let at = (before * TimeIndexEntry::SIZE) as u64;
                return Err(Malformed::new(
                    "timestamp",
                    at,
                    "more than in the entry before",
                    entry.timestamp(),
                ));
            }
        }
        index.claimed = index.entries.len();
        index.written = index.entries.len();
        Ok(index)
    }

    /// Adds the batch that ends with `last_offset` and whose `timestamp` is the largest so far; does nothing if an
    /// entry has that timestamp or a larger one already.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the offset falls, does not fit into 31 bits, or only the reserved slot is left; the index is
    /// left as it was.
    pub fn push(&mut self, timestamp: i64, last_offset: Offset) -> Result<(), Malformed> {
        self.push_unless_more_than(self.most.saturating_sub(1), timestamp, last_offset)
    }

    /// Adds the last entry of a segment that is sealed or closed, in the reserved slot if need be.
    ///
    /// # Errors
    ///
    /// As [`Self::push`], except that the reserved slot may be used.
    pub fn seal_entry(&mut self, timestamp: i64, last_offset: Offset) -> Result<(), Malformed> {
        self.push_unless_more_than(self.most, timestamp, last_offset)
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
            position: (self.written * TimeIndexEntry::SIZE) as u64,
            bytes: rest.iter().flat_map(|entry| entry.to_bytes()).collect(),
        }
    }

    /// Takes back that entries were written: the write of what [`Self::take_unwritten`] gave has failed.
    pub fn give_back(&mut self, unwritten: &Unwritten) {
        let entries = usize::try_from(unwritten.position).unwrap_or(usize::MAX) / TimeIndexEntry::SIZE;
        self.written = self.written.min(entries);
    }

    /// The last entry whose timestamp is at or below `timestamp` (milliseconds): the first batch with `timestamp` or
    /// a larger one is not before it.
    #[must_use]
    pub fn floor(&self, timestamp: i64) -> Option<TimeClaim> {
        self.claim(last_where(self.entries.len(), |n| {
            self.get(n).is_some_and(|entry| entry.timestamp <= timestamp)
        })?)
    }

    /// The last entry.
    #[must_use]
    pub fn last(&self) -> Option<TimeClaim> {
        self.claim(self.entries.len().checked_sub(1)?)
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

    /// Whether only the reserved slot is left: the segment must be rolled before the next batch.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.entries.len() >= self.most.saturating_sub(1)
    }

    /// All entries as they stand in the file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.entries.iter().flat_map(|entry| entry.to_bytes()).collect()
    }

    fn get(&self, number: usize) -> Option<TimeEntry> {
        self.entries.get(number).map(|entry| decoded(*entry, self.base))
    }

    fn claim(&self, number: usize) -> Option<TimeClaim> {
        let trust = if number < self.claimed { Trust::Claimed } else { Trust::Proven };
        let previous = number.checked_sub(1).and_then(|before| self.get(before));
        Some(TimeClaim { number, entry: self.get(number)?, previous, trust })
    }

    fn push_unless_more_than(
        &mut self,
        most: usize,
        timestamp: i64,
        last_offset: Offset,
    ) -> Result<(), Malformed> {
        let at = (self.entries.len() * TimeIndexEntry::SIZE) as u64;
        let last = self.last().map(|last| last.entry);
        if let Some(last) = last.filter(|last| last_offset < last.last_offset) {
            let expected = format!("{} or more", last.last_offset);
            return Err(Malformed::new("relative offset", at + 8, expected, last_offset));
        }
        // A timestamp of -1 says that there is none.
        if timestamp <= last.map_or(-1, |last| last.timestamp) {
            return Ok(());
        }
        if self.entries.len() >= most {
            return Err(Malformed::new("entry count", at, format!("at most {most}"), "one more"));
        }
        self.entries.push(TimeIndexEntry::new(self.base, timestamp, last_offset)?);
        Ok(())
    }
}

/// The index file of a sealed segment. Every entry is a claim.
#[derive(Debug)]
pub struct SealedTimeIndex {
    base: Offset,
    entries: Mapping,
    count: usize,
}

impl SealedTimeIndex {
    /// The index of the segment that begins at `base` and ends before the offset `end`.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the bytes are not whole entries, or if the last two do not rise and lie below `end`: so looks
    /// a file that Kafka made at its full size and never trimmed.
    pub fn new(base: Offset, entries: Mapping, end: Offset) -> Result<Self, Malformed> {
        let len = entries.len();
        if !len.is_multiple_of(TimeIndexEntry::SIZE as u64) {
            return Err(uneven(len, TimeIndexEntry::SIZE));
        }
        let index = Self { base, entries, count: usize::try_from(len).unwrap_or(0) / TimeIndexEntry::SIZE };
        if let Some(number) = index.count.checked_sub(1) {
            let at = (number * TimeIndexEntry::SIZE) as u64;
            let broken = |found: String| {
                Malformed::new("last entry", at, format!("rises and is below offset {end}"), found)
            };
            let claim = index.claim(number).ok_or_else(|| broken("a negative field".to_owned()))?;
            let rises = match claim.previous {
                Some(previous) => rises(previous, claim.entry),
                None => number == 0,
            };
            if !rises || claim.entry.timestamp < 0 || claim.entry.last_offset >= end {
                return Err(broken(format!("{:?} behind {:?}", claim.entry, claim.previous)));
            }
        }
        Ok(index)
    }

    /// The last entry whose timestamp is at or below `timestamp` (milliseconds).
    #[must_use]
    pub fn floor(&self, timestamp: i64) -> Option<TimeClaim> {
        let holds = |entry: TimeEntry| entry.timestamp <= timestamp;
        let claim = self.claim(last_where(self.count, |n| self.get(n).is_some_and(holds))?)?;
        holds(claim.entry).then_some(claim)
    }

    /// The last entry.
    #[must_use]
    pub fn last(&self) -> Option<TimeClaim> {
        self.claim(self.count.checked_sub(1)?)
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

    fn get(&self, number: usize) -> Option<TimeEntry> {
        let bytes = self.entries.read((number as u64).checked_mul(TimeIndexEntry::SIZE as u64)?)?;
        Some(decoded(TimeIndexEntry::from_bytes(&bytes).ok()?, self.base))
    }

    fn claim(&self, number: usize) -> Option<TimeClaim> {
        let previous = number.checked_sub(1).and_then(|before| self.get(before));
        Some(TimeClaim { number, entry: self.get(number)?, previous, trust: Trust::Claimed })
    }
}

fn rises(before: TimeEntry, after: TimeEntry) -> bool {
    before.timestamp < after.timestamp && before.last_offset <= after.last_offset
}

fn decoded(entry: TimeIndexEntry, base: Offset) -> TimeEntry {
    TimeEntry { timestamp: entry.timestamp(), last_offset: entry.last_offset(base) }
}

#[cfg(test)]
mod tests;
