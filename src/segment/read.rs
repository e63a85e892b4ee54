//! Finds batches in a segment file: by offset, by timestamp, by a number of bytes.
//!
//! Invariant: whatever an index says, the answer is that of a walk from the first byte. A walk may begin further on
//! only at an [`Anchor`], a byte that is proven to be the first one of a batch. An index entry alone is no proof, not
//! even if a whole batch with a right CRC stands where it points: a record may carry a stored batch as its value. So
//! [`prove`] walks from the entry before it (or the start of the file) and must meet the batch exactly there, with the
//! last offset that the entry names.
//!
//! Why that is enough: a walk that begins at a true border meets true borders only, so one wrong entry is always
//! found. Two neighbours that are wrong together would both have to point into one record's value at batches with the
//! offsets that they name, the first of them with a right CRC. Damage does not do that; who forges index and records
//! to match can forge the log as well.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use crate::error::{Error, Malformed};
use crate::format::batch::{BatchHeader, HEADER_SIZE};
use crate::index::{Claim, OffsetEntry, TimeClaim, TimeEntry, Trust};
use crate::storage::File;
use crate::types::{Offset, Position};

use super::scan::{Damage, DamageKind, EndReason, ScanEnd, check_batch, scan_headers};

/// A byte that is proven to be the first one of a batch (or of the file), with what lies before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    position: Position,
    /// Last offset of the batch that begins here; every batch before has a smaller one.
    last_offset: Option<Offset>,
}

impl Anchor {
    /// The first byte of the file: always right, and far from everything.
    pub const START: Self = Self { position: Position::ZERO, last_offset: None };

    /// Where it is.
    #[must_use]
    pub fn position(self) -> Position {
        self.position
    }

    fn of_entry(entry: OffsetEntry) -> Self {
        Self { position: entry.position, last_offset: Some(entry.last_offset) }
    }

    /// The anchor, unless it lies behind the first batch that ends at or behind `target`.
    fn at_or_before(self, target: Offset) -> Self {
        if self.last_offset.is_some_and(|last| last > target) { Self::START } else { self }
    }
}

/// A batch that a walk has met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchAt {
    position: Position,
    header: BatchHeader,
}

impl BatchAt {
    /// Its first byte.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// Its header; the CRC was not compared.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The byte behind it.
    #[must_use]
    pub fn end(&self) -> Position {
        self.position.saturating_add(self.header.size() as u64)
    }

    /// A place from which walks can begin.
    #[must_use]
    pub fn anchor(&self) -> Anchor {
        Anchor { position: self.position, last_offset: Some(self.header.last_offset()) }
    }

    /// The place behind it.
    #[must_use]
    pub fn anchor_behind(&self) -> Anchor {
        Anchor { position: self.end(), last_offset: None }
    }
}

/// Where a range of whole batches ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeEnd {
    /// The byte behind the last batch of the range.
    pub position: Position,
    /// Base offset of the batch that begins there: where reading goes on. `None` if the range ends at the limit, whose
    /// offset the caller knows.
    pub next_offset: Option<Offset>,
}

/// Why a look-up has no answer.
#[derive(Debug)]
pub enum ReadFailure {
    /// A read failed.
    Io(io::Error),
    /// The walk met bytes that are no batch, before the limit.
    Damage {
        /// Where the batch should begin.
        position: Position,
        /// What is wrong with it.
        damage: Damage,
    },
}

impl From<io::Error> for ReadFailure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl ReadFailure {
    /// The batch at `position` has a base offset that it cannot have there.
    #[must_use]
    pub fn misplaced(position: Position, header: &BatchHeader, expected: &str) -> Self {
        let malformed = Malformed::new("base offset", 0, expected, header.base_offset);
        Self::Damage { position, damage: Damage { kind: DamageKind::BadHeader, malformed } }
    }

    /// The failure as an error about the segment file at `path`.
    #[must_use]
    pub fn in_file(self, path: &Path) -> Error {
        match self {
            Self::Io(source) => Error::io("read", path, source),
            Self::Damage { position, damage } => {
                let advice = "restore the file or open the log with salvage; verify lists all damage";
                Error::Corrupt(Box::new(damage.malformed.in_file(
                    path,
                    position.0,
                    HEADER_SIZE as u64,
                    advice,
                )))
            }
        }
    }
}

/// Proves an entry of the offset index of the segment whose readable bytes end at `limit`; `None` if it is wrong, or
/// the entry before it is.
///
/// # Errors
///
/// That of a failing read.
pub fn prove(file: &dyn File, limit: Position, claim: &Claim) -> io::Result<Option<Anchor>> {
    let entry = claim.entry;
    if claim.trust == Trust::Proven {
        return Ok(Some(Anchor::of_entry(entry)));
    }
    if entry.position >= limit {
        return Ok(None);
    }
    let from = match claim.previous {
        None if claim.number == 0 => Position::ZERO,
        Some(previous) if previous.position < entry.position && previous.last_offset < entry.last_offset => {
            let stands = check_batch(file, previous.position, limit.0)?;
            if stands.is_none_or(|header| header.last_offset() != previous.last_offset) {
                return Ok(None);
            }
            previous.position
        }
        Some(_) | None => return Ok(None),
    };
    let mut met = false;
    scan_headers(file, from, limit.0, |at, header| {
        if at < entry.position {
            return ControlFlow::Continue(());
        }
        met = at == entry.position && header.last_offset() == entry.last_offset;
        ControlFlow::Break(())
    })?;
    Ok(met.then(|| Anchor::of_entry(entry)))
}

/// The first batch before `limit` whose last offset is at or above `target`: the one that holds `target`, or, where
/// compaction has left a gap, the next one. `None` if all batches end below it.
///
/// # Errors
///
/// [`ReadFailure`] if a read fails or damage stands before the answer.
pub fn locate(
    file: &dyn File,
    limit: Position,
    anchor: Anchor,
    target: Offset,
) -> Result<Option<BatchAt>, ReadFailure> {
    first_from(file, limit, anchor.at_or_before(target).position, |header| header.last_offset() >= target)
}

/// The first batch from `anchor` on, and before `limit`, with a timestamp at or above `timestamp` (milliseconds).
///
/// # Errors
///
/// As [`locate`].
pub fn locate_timestamp(
    file: &dyn File,
    limit: Position,
    anchor: Anchor,
    timestamp: i64,
) -> Result<Option<BatchAt>, ReadFailure> {
    first_from(file, limit, anchor.position, |header| header.max_timestamp >= timestamp)
}

/// Proves an entry of the time index: gives the batch with its last offset and timestamp, before which no batch has a
/// timestamp as large; `None` if the entry is wrong, or the one before it is.
///
/// As in [`prove`], the walk begins at the batch of the entry before, so one wrong entry is always found. `near` is an
/// anchor for [`TimeClaim::begins_at`].
///
/// # Errors
///
/// As [`locate`].
pub fn prove_time(
    file: &dyn File,
    limit: Position,
    near: Anchor,
    claim: &TimeClaim,
) -> Result<Option<BatchAt>, ReadFailure> {
    let entry = claim.entry;
    let is = |batch: &BatchAt, entry: TimeEntry| {
        batch.header.last_offset() == entry.last_offset && batch.header.max_timestamp == entry.timestamp
    };
    if claim.trust == Trust::Proven {
        return Ok(locate(file, limit, near, entry.last_offset)?.filter(|batch| is(batch, entry)));
    }
    let from = match claim.previous {
        None if claim.number == 0 => Position::ZERO,
        Some(previous)
            if previous.timestamp < entry.timestamp && previous.last_offset <= entry.last_offset =>
        {
            match locate(file, limit, near, previous.last_offset)?.filter(|batch| is(batch, previous)) {
                Some(batch) => batch.position,
                None => return Ok(None),
            }
        }
        Some(_) | None => return Ok(None),
    };
    let newer = |header: &BatchHeader| header.max_timestamp >= entry.timestamp;
    let batch =
        first_from(file, limit, from, |header| newer(header) || header.last_offset() >= entry.last_offset)?;
    Ok(batch.filter(|batch| is(batch, entry)))
}

/// Where the longest range of whole batches from `from` ends that has at most `max_bytes` bytes, is not empty, and
/// does not go beyond `limit`, itself the end of a batch. An `anchor` inside of the range shortens the walk.
///
/// # Errors
///
/// As [`locate`].
pub fn range_end(
    file: &dyn File,
    from: &BatchAt,
    limit: Position,
    max_bytes: u64,
    anchor: Option<Anchor>,
) -> Result<RangeEnd, ReadFailure> {
    let most = from.position.saturating_add(max_bytes);
    if limit <= most {
        return Ok(RangeEnd { position: limit, next_offset: None });
    }
    let inside = |anchor: &Anchor| anchor.position > from.position && anchor.position <= most;
    let start = anchor.filter(inside).map_or(from.position, |anchor| anchor.position);
    let mut end = RangeEnd { position: limit, next_offset: None };
    let mut order = Order::default();
    let scan = scan_headers(file, start, limit.0, |position, header| {
        if order.is_broken_by(position, header) {
            return ControlFlow::Break(());
        }
        if position > from.position && position.saturating_add(header.size() as u64) > most {
            end = RangeEnd { position, next_offset: Some(header.base_offset) };
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    order.check()?;
    damage_before(limit, scan)?;
    Ok(end)
}

fn first_from(
    file: &dyn File,
    limit: Position,
    from: Position,
    wanted: impl Fn(&BatchHeader) -> bool,
) -> Result<Option<BatchAt>, ReadFailure> {
    let mut found = None;
    let mut order = Order::default();
    let scan = scan_headers(file, from, limit.0, |position, header| {
        if order.is_broken_by(position, header) {
            return ControlFlow::Break(());
        }
        if wanted(header) {
            found = Some(BatchAt { position, header: *header });
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    order.check()?;
    damage_before(limit, scan)?;
    Ok(found)
}

/// What a walk holds base offsets against: no checksum covers them, but they rise.
#[derive(Default)]
struct Order {
    /// The offset behind the batch before.
    next: Option<Offset>,
    broken: Option<ReadFailure>,
}

impl Order {
    fn is_broken_by(&mut self, position: Position, header: &BatchHeader) -> bool {
        if let Some(next) = self.next.filter(|next| header.base_offset < *next) {
            self.broken = Some(ReadFailure::misplaced(position, header, &format!("{next} or more")));
            return true;
        }
        self.next = Some(header.next_offset());
        false
    }

    fn check(self) -> Result<(), ReadFailure> {
        self.broken.map_or(Ok(()), Err)
    }
}

/// Turns the end of a walk that did not come to `limit` into a failure.
pub(super) fn damage_before(limit: Position, end: ScanEnd) -> Result<(), ReadFailure> {
    match end.reason {
        EndReason::Damage(damage) => Err(ReadFailure::Damage { position: end.position, damage }),
        EndReason::EndOfFile if end.position < limit => {
            let malformed = Malformed::new("file length", 0, format!("{limit} or more"), end.position);
            let damage = Damage { kind: DamageKind::ShortHeader, malformed };
            Err(ReadFailure::Damage { position: end.position, damage })
        }
        EndReason::EndOfFile | EndReason::Stopped => Ok(()),
    }
}

#[cfg(test)]
mod tests;
