//! Which transactions were aborted (Kafka's `TransactionIndex`).
//!
//! Invariant: entries stand in the index of the segment that holds their marker, and their markers rise. Unlike the
//! other indexes this one cannot be made from the headers of its segment, because a transaction may begin in an earlier
//! one; so what stands below the last checkpoint is durable before the checkpoint is, and what stands above it follows
//! from the log again. A segment without aborted transactions has no such file.

use crate::error::Malformed;
use crate::format::index_entry::AbortedTxn;
use crate::storage::Mapping;
use crate::types::Offset;

use super::entry::{Unwritten, last_where};

/// Whether the aborted transactions of a range are all found, once those of a segment are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collected {
    /// No later segment can have one.
    All,
    /// The next segment may have more.
    SoFar,
}

/// The index of the segment that is appended to, on the heap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnIndex {
    base: Offset,
    entries: Vec<AbortedTxn>,
    written: usize,
    /// Whether the file may hold more than the written entries.
    longer: bool,
}

impl TxnIndex {
    /// An empty index of the segment that begins at `base`.
    #[must_use]
    pub fn new(base: Offset) -> Self {
        Self { base, entries: Vec::new(), written: 0, longer: false }
    }

    /// An index of the segment that begins at `base`, of entries that are in its file.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the markers do not rise or the first lies below `base`.
    pub fn of_written(base: Offset, entries: &[AbortedTxn]) -> Result<Self, Malformed> {
        let mut index = Self::of_unwritten(base, entries)?;
        index.written = index.entries.len();
        index.longer = false;
        Ok(index)
    }

    /// As [`Self::of_written`], but whatever is in the file is to be replaced.
    ///
    /// # Errors
    ///
    /// As [`Self::of_written`].
    pub fn of_unwritten(base: Offset, entries: &[AbortedTxn]) -> Result<Self, Malformed> {
        let mut index = Self { longer: true, ..Self::new(base) };
        entries.iter().try_for_each(|entry| index.push(*entry))?;
        Ok(index)
    }

    /// Adds a transaction that was aborted.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if its marker is not behind that of the one before, or lies below the base; the index is left as it
    /// was.
    pub fn push(&mut self, entry: AbortedTxn) -> Result<(), Malformed> {
        let last = self.entries.last().map(|last| last.last_offset);
        check(self.base, last, self.entries.len(), &entry)?;
        self.entries.push(entry);
        Ok(())
    }

    /// Drops the transactions whose marker is at or behind `offset`.
    pub fn truncate_to(&mut self, offset: Offset) {
        let kept = self.entries.partition_point(|entry| entry.last_offset < offset);
        self.longer |= kept < self.written;
        self.entries.truncate(kept);
        self.written = self.written.min(kept);
    }

    /// The entries that are not in the file yet; from here on they count as written. `None` if the file is as it should
    /// be: where there never was an entry, none is made.
    #[must_use]
    pub fn take_unwritten(&mut self) -> Option<Unwritten> {
        let rest = self.entries.get(self.written..).unwrap_or_default();
        if rest.is_empty() && !self.longer {
            return None;
        }
        let position = (self.written * AbortedTxn::SIZE) as u64;
        let bytes = rest.iter().flat_map(|entry| entry.to_bytes()).collect();
        self.written = self.entries.len();
        self.longer = false;
        Some(Unwritten { position, bytes })
    }

    /// As [`Self::take_unwritten`], but with those that are in the file already.
    #[must_use]
    pub fn take_all(&mut self) -> Option<Unwritten> {
        self.longer |= self.written > 0;
        self.written = 0;
        self.take_unwritten()
    }

    /// Takes back that entries were written: the write of what [`Self::take_unwritten`] gave has failed.
    pub fn give_back(&mut self, unwritten: &Unwritten) {
        let entries = usize::try_from(unwritten.position).unwrap_or(usize::MAX) / AbortedTxn::SIZE;
        self.written = self.written.min(entries);
        self.longer = true;
    }

    /// Adds to `found` the transactions that were aborted at or behind `from` and began before `upper`.
    pub fn collect(&self, from: Offset, upper: Offset, found: &mut Vec<AbortedTxn>) -> Collected {
        let first = self.entries.partition_point(|entry| entry.last_offset < from);
        collect(self.entries.iter().skip(first).copied(), upper, found)
    }

    /// All entries, by rising marker.
    #[must_use]
    pub fn entries(&self) -> &[AbortedTxn] {
        &self.entries
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All entries as they stand in the file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.entries.iter().flat_map(|entry| entry.to_bytes()).collect()
    }
}

/// Reads the entries of the file of the segment that begins at `base`, as far as their markers lie below `end`. A piece
/// of an entry behind the last whole one is passed over, as Kafka does: it was never synced.
///
/// # Errors
///
/// [`Malformed`] if an entry is none, if markers do not rise, or if the first lies below `base`.
pub fn read_txn_index(base: Offset, bytes: &[u8], end: Offset) -> Result<Vec<AbortedTxn>, Malformed> {
    let mut entries: Vec<AbortedTxn> = Vec::new();
    for (number, bytes) in bytes.as_chunks::<{ AbortedTxn::SIZE }>().0.iter().enumerate() {
        let entry = parse(number, bytes)?;
        if entry.last_offset >= end {
            break;
        }
        check(base, entries.last().map(|last| last.last_offset), number, &entry)?;
        entries.push(entry);
    }
    Ok(entries)
}

/// The index file of a sealed segment, every entry of which was looked at once.
#[derive(Debug)]
pub struct SealedTxnIndex {
    entries: Mapping,
    count: usize,
}

impl SealedTxnIndex {
    /// The index of the segment that begins at `base` and ends before the offset `end`.
    ///
    /// # Errors
    ///
    /// As [`read_txn_index`]; also if a marker lies at or behind `end`. Nothing can be said of the segment's
    /// transactions then.
    pub fn new(base: Offset, entries: Mapping, end: Offset) -> Result<Self, Malformed> {
        let count = usize::try_from(entries.len()).unwrap_or(0) / AbortedTxn::SIZE;
        let index = Self { entries, count };
        let mut last = None;
        for number in 0..count {
            let entry = index.get(number)?;
            check(base, last, number, &entry)?;
            if entry.last_offset >= end {
                let at = (number * AbortedTxn::SIZE) as u64 + 18;
                return Err(Malformed::new("last offset", at, format!("below {end}"), entry.last_offset));
            }
            last = Some(entry.last_offset);
        }
        Ok(index)
    }

    /// As [`TxnIndex::collect`].
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the file has changed since it was opened.
    pub fn collect(
        &self,
        from: Offset,
        upper: Offset,
        found: &mut Vec<AbortedTxn>,
    ) -> Result<Collected, Malformed> {
        let below = |number: usize| self.get(number).is_ok_and(|entry| entry.last_offset < from);
        let first = last_where(self.count, below).map_or(0, |number| number + 1);
        for number in first..self.count {
            if collect(std::iter::once(self.get(number)?), upper, found) == Collected::All {
                return Ok(Collected::All);
            }
        }
        Ok(Collected::SoFar)
    }

    fn get(&self, number: usize) -> Result<AbortedTxn, Malformed> {
        let at = number * AbortedTxn::SIZE;
        let bytes = self.entries.read(at as u64);
        let bytes = bytes.ok_or_else(|| Malformed::new("entry", at as u64, "34 bytes", "the end"))?;
        parse(number, &bytes)
    }
}

/// An entry whose last stable offset is not below `upper` is the last that matters: transactions that end behind it
/// began at or behind that offset.
fn collect(
    entries: impl Iterator<Item = AbortedTxn>,
    upper: Offset,
    found: &mut Vec<AbortedTxn>,
) -> Collected {
    for entry in entries {
        if entry.first_offset < upper {
            found.push(entry);
        }
        if entry.last_stable_offset >= upper {
            return Collected::All;
        }
    }
    Collected::SoFar
}

fn parse(number: usize, bytes: &[u8; AbortedTxn::SIZE]) -> Result<AbortedTxn, Malformed> {
    AbortedTxn::from_bytes(bytes)
        .map_err(|malformed| Malformed { at: malformed.at + (number * AbortedTxn::SIZE) as u64, ..malformed })
}

fn check(base: Offset, last: Option<Offset>, number: usize, entry: &AbortedTxn) -> Result<(), Malformed> {
    let least = last.map_or(base, |last| last.saturating_add(1));
    if entry.last_offset >= least {
        return Ok(());
    }
    let at = (number * AbortedTxn::SIZE) as u64 + 18;
    Err(Malformed::new("last offset", at, format!("{least} or more"), entry.last_offset))
}

#[cfg(test)]
mod tests;
