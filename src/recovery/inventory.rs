//! What a partition directory holds, by names and lengths alone.
//!
//! Invariant: a listing decides nothing. A name that is neither Kafka's nor ours is left out here and therefore left
//! alone by all that follows.

use std::path::Path;
use std::sync::Arc;

use crate::error::Error;
use crate::format::names::{FileName, LeftoverSuffix};
use crate::segment::replace::{self, Stage};
use crate::storage::{EntryKind, Storage};
use crate::types::{LogPoint, Offset};

/// A `.log` file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentFile {
    /// Its first offset, from the name.
    pub(super) base: Offset,
    /// Its length in bytes.
    pub(super) len: u64,
    pub(super) name: NameNow,
}

/// A compacted segment that takes the place of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Replacement {
    pub(super) end: LogPoint,
    /// Whether only the manifest does not know that it is done.
    pub(super) is_finished: bool,
}

impl Replacement {
    pub(super) fn unfinished(self) -> Option<LogPoint> {
        (!self.is_finished).then_some(self.end)
    }

    /// Whether what the manifest says of the files of the segment at `base` holds for other ones.
    pub(super) fn covers(&self, base: Offset) -> bool {
        base >= self.end.segment && base < self.end.offset
    }
}

/// Under which name a segment is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NameNow {
    /// Its own.
    Log,
    /// It is about to take the place of others.
    Swap,
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
    /// Names of results of a compaction that count for nothing.
    pub(super) cleaned: Vec<String>,
    /// A compacted segment that counts, and has taken the place of others, or will have, since the manifest was written:
    /// its end.
    pub(super) replacement: Option<Replacement>,
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
                FileName::Log(base) => {
                    inventory.segments.push(SegmentFile { base, len: entry.len, name: NameNow::Log })
                }
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
                FileName::KafkaLeftover(LeftoverSuffix::Cleaned) => inventory.cleaned.push(entry.name),
                FileName::LogLock
                | FileName::Move
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

    /// The same as it will be when the replacement that the manifest names is finished, or undone if it had not begun.
    pub(super) fn with_replacement(
        mut self,
        storage: &Arc<dyn Storage>,
        dir: &Path,
        replacement: Option<LogPoint>,
    ) -> Result<Self, Error> {
        // The source of a copy that was made, and whose removal a power cut has undone.
        let logs: Vec<_> = self.swaps.iter().filter_map(|name| swap_base(name, Which::Log)).collect();
        let unfinished = replacement.map(|end| end.segment);
        let stray = |base| Some(base) != unfinished && !logs.contains(&base);
        let is_stray = |name: &mut String| swap_base(name, Which::Index).is_some_and(stray);
        self.cleaned.extend(self.swaps.extract_if(.., is_stray));
        let Some(end) = replacement else { return Ok(self) };
        let base = end.segment;
        let ours = |name: &String| {
            [Which::Log, Which::Index].into_iter().any(|which| swap_base(name, which) == Some(base))
        };
        let swaps = self.swaps.extract_if(.., |name| ours(name)).collect::<Vec<_>>();
        let stage = replace::stage(&**storage, dir, &end)?;
        if stage == Stage::NotBegun {
            self.cleaned.extend(swaps);
            return Ok(self);
        }
        let is_finished = stage == Stage::InPlace && swaps.is_empty() && !self.holds_replaced(&end);
        self.replacement = Some(Replacement { end, is_finished });
        self.segments.retain(|segment| segment.base <= base || segment.base >= end.offset);
        let name = if stage == Stage::Swapped { NameNow::Swap } else { NameNow::Log };
        let new = SegmentFile { base, len: end.position.0, name };
        match self.segments.iter_mut().find(|segment| segment.base == base) {
            Some(old) => *old = new,
            None => {
                self.segments.push(new);
                self.segments.sort_unstable_by_key(|segment| segment.base);
            }
        }
        Ok(self)
    }

    /// Whether a file is there of a segment whose place another one has taken.
    fn holds_replaced(&self, end: &LogPoint) -> bool {
        let within = |base: Offset| base > end.segment && base < end.offset;
        self.segments.iter().any(|segment| within(segment.base))
            || self.indexes.iter().any(|(base, _)| within(*base))
            || self.snapshots.iter().any(|base| within(*base))
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

/// A kind of file of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Log,
    Index,
}

/// The segment that a `.swap` file of this kind belongs to.
fn swap_base(name: &str, which: Which) -> Option<Offset> {
    match (FileName::parse(LeftoverSuffix::Swap.stem(name)?), which) {
        (FileName::Log(base), Which::Log) => Some(base),
        (FileName::Index(base) | FileName::TimeIndex(base) | FileName::TxnIndex(base), Which::Index) => {
            Some(base)
        }
        _ => None,
    }
}
