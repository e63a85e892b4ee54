//! What indexes answer, and the bytes that they leave for their files.
//!
//! Invariant: an answer says how far it can be trusted.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::storage::{File, OpenMode, Storage};
use crate::types::{Offset, Position};

/// A batch as the offset index names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OffsetEntry {
    /// Offset of the batch's last record.
    pub last_offset: Offset,
    /// First byte of the batch.
    pub position: Position,
}

/// A batch as the time index names it: no batch before it has a timestamp as large as its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimeEntry {
    /// Largest timestamp of the batch, in milliseconds.
    pub timestamp: i64,
    /// Offset of the batch's last record.
    pub last_offset: Offset,
}

/// Where an entry comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trust {
    /// Made from the batch itself by this process.
    Proven,
    /// Read from a file.
    Claimed,
}

/// An answer of an offset index, with what is needed to prove it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    /// Number of the entry, from 0.
    pub number: usize,
    /// The entry.
    pub entry: OffsetEntry,
    /// The entry before it; `None` if it is the first, or if the one before it cannot be read.
    pub previous: Option<OffsetEntry>,
    /// How far the entry can be trusted.
    pub trust: Trust,
}

/// An answer of a time index, with what is needed to prove it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimeClaim {
    /// Number of the entry, from 0.
    pub number: usize,
    /// The entry.
    pub entry: TimeEntry,
    /// The entry before it; `None` if it is the first, or if the one before it cannot be read.
    pub previous: Option<TimeEntry>,
    /// How far the entry can be trusted.
    pub trust: Trust,
}

impl TimeClaim {
    /// The offset at which a proof begins; `None` if it begins at the start of the segment.
    #[must_use]
    pub fn begins_at(&self) -> Option<Offset> {
        match self.trust {
            Trust::Proven => Some(self.entry.last_offset),
            Trust::Claimed => self.previous.map(|previous| previous.last_offset),
        }
    }
}

/// How many bytes the file of an index may have (`segment.index.bytes` in Kafka).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IndexSize(pub u32);

impl Default for IndexSize {
    fn default() -> Self {
        Self(10 << 20)
    }
}

impl IndexSize {
    /// How many whole entries fit.
    pub(super) fn entries(self, entry_size: usize) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX) / entry_size
    }
}

/// Entries that are not in the file of their index yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unwritten {
    /// Where in the file they belong, in bytes; everything behind them is to be cut.
    pub position: u64,
    /// The entries.
    pub bytes: Vec<u8>,
}

impl Unwritten {
    /// Writes the entries into the index file at `path`, which is made if it is missing, and cuts what is behind them.
    ///
    /// Durability: none; the file is returned to be synced by whoever needs it durable. The file must not be mapped.
    ///
    /// # Errors
    ///
    /// That of the failing operation; writing again is safe.
    pub fn write(&self, storage: &dyn Storage, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = storage.open(path, OpenMode::Create)?;
        let end = self.position.saturating_add(self.bytes.len() as u64);
        let len = file.len()?;
        if len > end {
            file.set_len(end)?;
        }
        file.write_all_at(&self.bytes, self.position)?;
        Ok(file)
    }
}

/// Number of the last of `count` sorted entries for which `holds`, or `None` if it holds for none.
///
/// If the entries are not sorted the result is some number below `count` whose entry must be looked at again; the
/// search takes no longer.
pub(super) fn last_where(count: usize, holds: impl Fn(usize) -> bool) -> Option<usize> {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low.checked_sub(1)
}
