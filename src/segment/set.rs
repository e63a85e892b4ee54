//! All segments of a log, in order, as readers see them.
//!
//! Invariant: a set never changes. Segments do not overlap and their base offsets rise; the one that is appended to is
//! the last. A change makes a new set that shares the segments, and a reader goes on with the one that it has.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Error;
use crate::index::Claim;
use crate::storage::File;
use crate::types::{Offset, Position};

use super::active::TimeStart;
use super::read::{self, Anchor, BatchAt, RangeEnd, ReadFailure};
use super::sealed::SealedSegment;

/// What readers need of the segment that is appended to. How far it may be read, and where to begin, they are told by
/// the log at each call.
#[derive(Clone, Debug)]
pub struct ActiveView {
    base: Offset,
    path: PathBuf,
    file: Arc<dyn File>,
}

impl ActiveView {
    pub(super) fn new(base: Offset, path: PathBuf, file: Arc<dyn File>) -> Self {
        Self { base, path, file }
    }

    /// Offset at which the segment begins.
    #[must_use]
    pub fn base(&self) -> Offset {
        self.base
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &Arc<dyn File> {
        &self.file
    }

    /// Path of the `.log` file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The first batch before `limit` whose last offset is at or above `target`. `claim` is what
    /// [`super::active::ActiveSegment::claim`] says of the target.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], or [`Error::Corrupt`] if damage stands before the answer.
    pub fn locate(
        &self,
        claim: Option<Claim>,
        limit: Position,
        target: Offset,
    ) -> Result<Option<BatchAt>, Error> {
        self.answer(|file| read::locate(file, limit, anchor(file, limit, claim)?, target))
    }

    /// The first batch before `limit` with a timestamp at or above `timestamp` (milliseconds). `start` is what
    /// [`super::active::ActiveSegment::claim_timestamp`] says of the timestamp. The limit should be the
    /// end of the segment even if the answer must lie below another: a claim that points behind it cannot be proven,
    /// and the walk then begins at the first byte.
    ///
    /// # Errors
    ///
    /// As [`Self::locate`].
    pub fn locate_timestamp(
        &self,
        start: Option<TimeStart>,
        limit: Position,
        timestamp: i64,
    ) -> Result<Option<BatchAt>, Error> {
        self.answer(|file| {
            let batch = match start {
                Some(start) => read::prove_time(file, limit, anchor(file, limit, start.near)?, &start.claim)?,
                None => None,
            };
            let anchor = batch.map_or(Anchor::START, |batch| batch.anchor());
            read::locate_timestamp(file, limit, anchor, timestamp)
        })
    }

    /// As [`Self::locate_timestamp`], of the batches behind `batch`.
    ///
    /// # Errors
    ///
    /// As [`Self::locate`].
    pub fn locate_timestamp_behind(
        &self,
        batch: &BatchAt,
        limit: Position,
        timestamp: i64,
    ) -> Result<Option<BatchAt>, Error> {
        self.answer(|file| read::locate_timestamp(file, limit, batch.anchor_behind(), timestamp))
    }

    /// Where the longest range of whole batches from `from` ends that has at most `max_bytes` bytes (but at least one
    /// batch) and does not go beyond `limit`, the end of a batch. `claim` is what
    /// [`super::active::ActiveSegment::claim_position`] says of `from` plus `max_bytes`.
    ///
    /// # Errors
    ///
    /// As [`Self::locate`].
    pub fn range_end(
        &self,
        claim: Option<Claim>,
        from: &BatchAt,
        limit: Position,
        max_bytes: u64,
    ) -> Result<RangeEnd, Error> {
        self.answer(|file| {
            let anchor = anchor(file, limit, claim)?;
            read::range_end(file, from, limit, max_bytes, Some(anchor))
        })
    }

    fn answer<T>(&self, ask: impl FnOnce(&dyn File) -> Result<T, ReadFailure>) -> Result<T, Error> {
        ask(&*self.file).map_err(|failure| failure.in_file(&self.path))
    }
}

fn anchor(file: &dyn File, limit: Position, claim: Option<Claim>) -> Result<Anchor, ReadFailure> {
    let proven = claim.map(|claim| read::prove(file, limit, &claim)).transpose()?;
    Ok(proven.flatten().unwrap_or(Anchor::START))
}

/// One segment of a set.
#[derive(Clone, Copy, Debug)]
pub enum SegmentRef<'a> {
    /// A complete one.
    Sealed(&'a Arc<SealedSegment>),
    /// The one that is appended to.
    Active(&'a ActiveView),
}

impl SegmentRef<'_> {
    /// Offset at which it begins.
    #[must_use]
    pub fn base(&self) -> Offset {
        match self {
            Self::Sealed(segment) => segment.base(),
            Self::Active(view) => view.base(),
        }
    }
}

/// The segments of a log.
#[derive(Clone, Debug)]
pub struct SegmentSet {
    sealed: Arc<Vec<Arc<SealedSegment>>>,
    active: ActiveView,
}

impl SegmentSet {
    /// A set of complete segments, by rising base offset, and the one that is appended to.
    #[must_use]
    pub fn new(sealed: Vec<Arc<SealedSegment>>, active: ActiveView) -> Self {
        debug_assert!(sealed.is_sorted_by(|a, b| a.next_offset() <= b.base()), "segments do not overlap");
        debug_assert!(
            sealed.last().is_none_or(|last| last.next_offset() <= active.base()),
            "the active one is last"
        );
        Self { sealed: Arc::new(sealed), active }
    }

    /// The segment with the greatest base offset at or below `offset`; `None` if all begin above it.
    ///
    /// Where compaction has left a gap at its end, the batch that follows `offset` may be in a later segment.
    #[must_use]
    pub fn find(&self, offset: Offset) -> Option<SegmentRef<'_>> {
        self.from(offset).next().filter(|segment| segment.base() <= offset)
    }

    /// All segments from [`Self::find`] on; from the first one if all begin above `offset`.
    pub fn from(&self, offset: Offset) -> impl Iterator<Item = SegmentRef<'_>> {
        let first = if self.active.base <= offset { self.sealed.len() } else { self.floor(offset) };
        self.sealed.iter().skip(first).map(SegmentRef::Sealed).chain([SegmentRef::Active(&self.active)])
    }

    /// All segments.
    pub fn iter(&self) -> impl Iterator<Item = SegmentRef<'_>> {
        self.from(Offset(i64::MIN))
    }

    /// The complete segments, by rising base offset.
    #[must_use]
    pub fn sealed(&self) -> &[Arc<SealedSegment>] {
        &self.sealed
    }

    /// The segment that is appended to.
    #[must_use]
    pub fn active(&self) -> &ActiveView {
        &self.active
    }

    /// Offset at which the first segment begins.
    #[must_use]
    pub fn first_base(&self) -> Offset {
        self.sealed.first().map_or(self.active.base, |first| first.base())
    }

    /// Bytes of all complete segments.
    #[must_use]
    pub fn sealed_bytes(&self) -> u64 {
        self.sealed.iter().fold(0, |sum, segment| sum.saturating_add(segment.len().0))
    }

    /// The set after a roll: the segment that was appended to is complete, and another has its place.
    #[must_use]
    pub fn rolled(&self, sealed: Arc<SealedSegment>, active: ActiveView) -> Self {
        let mut all = Vec::with_capacity(self.sealed.len() + 1);
        all.extend(self.sealed.iter().cloned());
        all.push(sealed);
        Self::new(all, active)
    }

    /// The set without the first `count` complete segments, and those.
    #[must_use]
    pub fn without_first(&self, count: usize) -> (Self, Vec<Arc<SealedSegment>>) {
        let (gone, kept) = self.sealed.split_at(count.min(self.sealed.len()));
        (Self::new(kept.to_vec(), self.active.clone()), gone.to_vec())
    }

    /// Whether it holds this very segment, not another of its name.
    #[must_use]
    pub fn has(&self, segment: &Arc<SealedSegment>) -> bool {
        self.sealed.get(self.floor(segment.base())).is_some_and(|now| Arc::ptr_eq(now, segment))
    }

    /// The set with `segment` let go of what it has open, mapped and on the heap; the same set if it is not in it any more.
    /// Another one may have its base by now: compaction gives a base again.
    #[must_use]
    pub fn releasing(&self, segment: &Arc<SealedSegment>) -> Self {
        let release = |old: &Arc<SealedSegment>| {
            if Arc::ptr_eq(old, segment) { Arc::new(old.released()) } else { Arc::clone(old) }
        };
        Self::new(self.sealed.iter().map(release).collect(), self.active.clone())
    }

    /// The set with `segment` in the place of those that begin at or above its base and below its end.
    #[must_use]
    pub fn compacted(&self, segment: &Arc<SealedSegment>) -> Self {
        let (base, end) = (segment.base(), segment.next_offset());
        let before = self.sealed.iter().take_while(|old| old.base() < base).cloned();
        let behind = self.sealed.iter().skip_while(|old| old.base() < end).cloned();
        Self::new(before.chain([Arc::clone(segment)]).chain(behind).collect(), self.active.clone())
    }

    /// Number of the last complete segment that begins at or below `offset`, or 0.
    fn floor(&self, offset: Offset) -> usize {
        self.sealed.partition_point(|segment| segment.base() <= offset).saturating_sub(1)
    }
}

#[cfg(test)]
mod tests;
