//! The segments of a log as recovery reads them.
//!
//! Invariant: reads only. A file is opened once, when its bytes are first needed, so that a log of a thousand sealed
//! segments costs nothing but names.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::inventory::{NameNow, SegmentFile};
use crate::error::Error;
use crate::format::batch::{BatchHeader, HEADER_SIZE, verify_crc};
use crate::format::names::log_name;
use crate::segment::replace::swap_path;
use crate::storage::{File, OpenMode, Storage};
use crate::types::{Fingerprint, LeaderEpoch, LogPoint, Offset, Position};

/// A place between two batches, with what the next batch has to continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Which of the segments.
    pub(super) segment: usize,
    /// The byte in it.
    pub(super) position: Position,
    /// The offset that comes next.
    pub(super) offset: Offset,
    /// Leader epoch of the batch before.
    pub(super) leader_epoch: LeaderEpoch,
    /// The batch that ends here, if one in this segment does.
    pub(super) last_batch: Option<(Position, Fingerprint)>,
}

impl Place {
    /// The start of a segment.
    pub(super) fn start_of(segment: usize, base: Offset) -> Self {
        Self {
            segment,
            position: Position::ZERO,
            offset: base,
            leader_epoch: LeaderEpoch::NONE,
            last_batch: None,
        }
    }
}

/// What stands where a [`LogPoint`] says that a batch ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// That batch.
    AsNamed,
    /// Its segment is not there.
    NoSegment,
    /// The segment ends before.
    Short,
    /// Bytes that are not that batch.
    Other,
}

/// The segments, oldest first, opened as needed.
#[derive(Debug)]
pub(super) struct LogFiles<'a> {
    storage: &'a Arc<dyn Storage>,
    dir: &'a Path,
    segments: Vec<(SegmentFile, OnceCell<Arc<dyn File>>)>,
}

impl<'a> LogFiles<'a> {
    pub(super) fn new(storage: &'a Arc<dyn Storage>, dir: &'a Path, segments: &[SegmentFile]) -> Self {
        let segments = segments.iter().map(|segment| (*segment, OnceCell::new())).collect();
        Self { storage, dir, segments }
    }

    pub(super) fn count(&self) -> usize {
        self.segments.len()
    }

    pub(super) fn get(&self, index: usize) -> Option<SegmentFile> {
        self.segments.get(index).map(|(segment, _)| *segment)
    }

    /// Base offset of the first segment.
    pub(super) fn first(&self) -> Option<Offset> {
        self.get(0).map(|segment| segment.base)
    }

    pub(super) fn last(&self) -> Option<SegmentFile> {
        self.segments.last().map(|(segment, _)| *segment)
    }

    /// Where the segment with this base offset is.
    pub(super) fn index_of(&self, base: Offset) -> Option<usize> {
        self.segments.binary_search_by_key(&base, |(segment, _)| segment.base).ok()
    }

    /// The last segment that begins at or below `offset`.
    pub(super) fn covering(&self, offset: Offset) -> Option<usize> {
        self.segments.partition_point(|(segment, _)| segment.base <= offset).checked_sub(1)
    }

    pub(super) fn path(&self, index: usize) -> PathBuf {
        match self.get(index) {
            Some(SegmentFile { base, name: NameNow::Swap, .. }) => swap_path(self.dir, base),
            Some(segment) => self.dir.join(log_name(segment.base)),
            None => self.dir.to_path_buf(),
        }
    }

    /// The file of a segment, open for reading.
    pub(super) fn file(&self, index: usize) -> Result<&Arc<dyn File>, Error> {
        let path = self.path(index);
        let Some((_, cell)) = self.segments.get(index) else {
            return Err(Error::io("open", &path, std::io::ErrorKind::NotFound.into()));
        };
        if let Some(file) = cell.get() {
            return Ok(file);
        }
        let file = self.storage.open(&path, OpenMode::Read).map_err(|e| Error::io("open", &path, e))?;
        Ok(cell.get_or_init(|| file))
    }

    /// The header at `position`, if one that parses stands there and its batch ends within the file.
    pub(super) fn header_at(&self, index: usize, position: Position) -> Result<Option<BatchHeader>, Error> {
        let Some(segment) = self.get(index) else { return Ok(None) };
        let mut bytes = [0; HEADER_SIZE];
        if position.0.saturating_add(HEADER_SIZE as u64) > segment.len {
            return Ok(None);
        }
        let file = self.file(index)?;
        file.read_exact_at(&mut bytes, position.0).map_err(|e| Error::io("read", &self.path(index), e))?;
        let header = BatchHeader::from_array(&bytes).ok();
        Ok(header.filter(|header| position.0.saturating_add(header.size() as u64) <= segment.len))
    }

    /// Whether the batch that `point` names stands where it says and ends where it says. One header is read.
    pub(super) fn standing(&self, point: &LogPoint) -> Result<Standing, Error> {
        let Some(index) = self.index_of(point.segment) else { return Ok(Standing::NoSegment) };
        let Some(segment) = self.get(index) else { return Ok(Standing::NoSegment) };
        if segment.len < point.position.0 {
            return Ok(Standing::Short);
        }
        let Some((position, fingerprint)) = point.last_batch else { return Ok(Standing::AsNamed) };
        let Some(header) = self.header_at(index, position)? else { return Ok(Standing::Other) };
        let same = header.fingerprint() == fingerprint
            && position.saturating_add(header.size() as u64) == point.position
            && header.next_offset() == point.offset;
        Ok(if same { Standing::AsNamed } else { Standing::Other })
    }

    /// Whether the bytes of the batch that ends at `point` match their CRC. Reads that batch.
    pub(super) fn last_batch_is_sound(&self, point: &LogPoint) -> Result<bool, Error> {
        let (Some(index), Some((position, _))) = (self.index_of(point.segment), point.last_batch) else {
            return Ok(true);
        };
        let Some(header) = self.header_at(index, position)? else { return Ok(false) };
        let mut bytes = Vec::new();
        let read = self.file(index)?.read_to(&mut bytes, header.size(), position.0);
        read.map_err(|e| Error::io("read", &self.path(index), e))?;
        Ok(bytes.len() == header.size() && verify_crc(&header, &bytes).is_ok())
    }

    /// The whole batch with this header at `position`.
    pub(super) fn batch(
        &self,
        index: usize,
        position: Position,
        header: &BatchHeader,
    ) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let read = self.file(index)?.read_to(&mut bytes, header.size(), position.0);
        read.map_err(|e| Error::io("read", &self.path(index), e))?;
        Ok(bytes)
    }

    /// `point` as a place to begin at, if its segment is there.
    pub(super) fn place(&self, point: &LogPoint) -> Option<Place> {
        Some(Place {
            segment: self.index_of(point.segment)?,
            position: point.position,
            offset: point.offset,
            leader_epoch: point.last_batch.map_or(LeaderEpoch::NONE, |(_, batch)| batch.leader_epoch),
            last_batch: point.last_batch,
        })
    }

    /// A place as it is kept on disk.
    pub(super) fn point(&self, place: &Place) -> LogPoint {
        let segment = self.get(place.segment).map_or(place.offset, |segment| segment.base);
        LogPoint { segment, position: place.position, offset: place.offset, last_batch: place.last_batch }
    }
}
