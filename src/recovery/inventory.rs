//! What a partition directory holds, by names and lengths alone.
//!
//! Invariant: a listing decides nothing. A name that is neither Kafka's nor ours is left out here and therefore left
//! alone by all that follows.

use std::path::Path;
use std::sync::Arc;

use crate::error::Error;
use crate::format::names::{FileName, LeftoverSuffix};
use crate::storage::{EntryKind, Storage};
use crate::types::Offset;

/// A `.log` file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentFile {
    /// Its first offset, from the name.
    pub(super) base: Offset,
    /// Its length in bytes.
    pub(super) len: u64,
}

/// The files of a partition directory that recovery knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Inventory {
    /// Oldest first.
    pub(super) segments: Vec<SegmentFile>,
    /// Numbers of `producers.<number>.run`, ascending.
    pub(super) runs: Vec<u64>,
    /// Numbers of `.snapshot` files, newest first.
    pub(super) snapshots: Vec<Offset>,
    /// Names of `.index`, `.timeindex` and `.txnindex` files with their segment.
    pub(super) indexes: Vec<(Offset, String)>,
    /// Names of our temporary files, of no meaning.
    pub(super) temporaries: Vec<String>,
    /// Names of results of a compaction by Kafka that were about to take their place.
    pub(super) swaps: Vec<String>,
    /// Names of files of deleted segments that were about to be unlinked.
    pub(super) deleted: Vec<String>,
    /// Keepsakes that are there already.
    pub(super) keepsakes: Vec<(Offset, u32)>,
    /// Whether `oncelog.manifest` is there.
    pub(super) has_manifest: bool,
    /// Whether `oncelog.watermark` is there.
    pub(super) has_watermark: bool,
}

impl Inventory {
    /// Lists `dir`.
    pub(super) fn take(storage: &Arc<dyn Storage>, dir: &Path) -> Result<Self, Error> {
        let mut inventory = Self::default();
        for entry in storage.list(dir).map_err(|e| Error::io("list", dir, e))? {
            if entry.kind != EntryKind::File {
                continue;
            }
            match FileName::parse(&entry.name) {
                FileName::Log(base) => inventory.segments.push(SegmentFile { base, len: entry.len }),
                FileName::Index(base) | FileName::TimeIndex(base) | FileName::TxnIndex(base) => {
                    inventory.indexes.push((base, entry.name));
                }
                FileName::Snapshot(end) => inventory.snapshots.push(end),
                FileName::Run(number) => inventory.runs.push(number),
                FileName::Manifest => inventory.has_manifest = true,
                FileName::Watermark => inventory.has_watermark = true,
                FileName::NextSegment | FileName::Temporary => inventory.temporaries.push(entry.name),
                FileName::Keepsake { offset, number } => inventory.keepsakes.push((offset, number)),
                FileName::KafkaLeftover(LeftoverSuffix::Swap) => inventory.swaps.push(entry.name),
                FileName::KafkaLeftover(LeftoverSuffix::Deleted) => inventory.deleted.push(entry.name),
                FileName::KafkaLeftover(LeftoverSuffix::Cleaned)
                | FileName::LogLock
                | FileName::LeaderEpochs
                | FileName::PartitionMetadata
                | FileName::Unknown => {}
            }
        }
        inventory.segments.sort_unstable_by_key(|segment| segment.base);
        inventory.runs.sort_unstable();
        inventory.snapshots.sort_unstable_by_key(|end| std::cmp::Reverse(*end));
        inventory.indexes.sort_unstable();
        inventory.temporaries.sort_unstable();
        Ok(inventory)
    }

    /// How many of the oldest segments lie wholly below `log_start`: the segment behind them begins at or below it.
    pub(super) fn segments_below(&self, log_start: Offset) -> usize {
        self.segments.iter().skip(1).take_while(|next| next.base <= log_start).count()
    }

    /// Whether a file of ours, other than a leftover, says that we wrote here.
    pub(super) fn is_ours(&self) -> bool {
        self.has_manifest || self.has_watermark || !self.runs.is_empty()
    }

    /// The first number of a keepsake of what was cut at `offset` that is free.
    pub(super) fn free_keepsake(&self, offset: Offset) -> u32 {
        let taken = self.keepsakes.iter().filter(|keepsake| keepsake.0 == offset).map(|keepsake| keepsake.1);
        taken.max().map_or(0, |number| number.saturating_add(1))
    }
}
