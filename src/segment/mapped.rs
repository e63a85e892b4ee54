//! The index files of a sealed segment, mapped.
//!
//! Invariant: an entry is a claim until the batch that it points to has borne it out; what was proven once stays so,
//! because neither file changes.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::format::names::{index_name, time_index_name};
use crate::index::{Claim, OffsetEntry, SealedOffsetIndex, SealedTimeIndex, Trust};
use crate::storage::{File, Mapping, OpenMode, Storage};
use crate::types::{Offset, Position};

use super::read::{self, Anchor};

/// The two index files of a segment.
#[derive(Debug)]
pub(super) struct MappedIndexes {
    pub(super) offsets: SealedOffsetIndex,
    pub(super) times: SealedTimeIndex,
    /// One bit for each offset entry that was proven: proving takes two reads and a CRC.
    proven: Box<[AtomicU64]>,
}

impl MappedIndexes {
    /// The index files beside `log`, of the segment that begins at `base` and ends at `end`, if both are there and
    /// plausible. The caller may take a failure for absence: an index is a cache.
    pub(super) fn of(
        storage: &dyn Storage,
        log: &Path,
        base: Offset,
        end: OffsetEntry,
    ) -> io::Result<Option<Self>> {
        let dir = log.parent().unwrap_or(Path::new(""));
        let map = |name: String| -> io::Result<Mapping> {
            let file = storage.open(&dir.join(name), OpenMode::Read)?;
            file.map(file.len()?)
        };
        let offsets = SealedOffsetIndex::new(base, map(index_name(base))?, end);
        let times = SealedTimeIndex::new(base, map(time_index_name(base))?, end.last_offset);
        let (Ok(offsets), Ok(times)) = (offsets, times) else { return Ok(None) };
        let proven = (0..offsets.len().div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Ok(Some(Self { offsets, times, proven }))
    }

    /// The place that an entry of the offset index claims, if the claim is right.
    pub(super) fn prove(&self, file: &dyn File, limit: Position, claim: Claim) -> io::Result<Option<Anchor>> {
        let (word, bit) = (self.proven.get(claim.number / 64), 1u64 << (claim.number % 64));
        // The bit speaks of the file, which does not change; nothing else is published by it.
        let known = word.is_some_and(|word| word.load(Ordering::Relaxed) & bit != 0);
        let claim = if known { Claim { trust: Trust::Proven, ..claim } } else { claim };
        let anchor = read::prove(file, limit, &claim)?;
        if let (Some(word), Some(_), false) = (word, anchor, known) {
            word.fetch_or(bit, Ordering::Relaxed);
        }
        Ok(anchor)
    }
}
