//! One pass over the batches of a log, across its segments.
//!
//! Invariant: a walk visits an unbroken run of batches: each parses, continues the one before by offset and leader
//! epoch, and (with [`Depth::Checked`]) matches its CRC; a segment begins where the one before ends. It says where and
//! why the run ends and judges nothing: whether that is a torn tail or corruption depends on where it is.

use std::ops::ControlFlow;

use super::log_files::{LogFiles, Place};
use super::options::{OnProgress, RecoveryProgress};
use crate::error::{Error, Malformed};
use crate::format::batch::BatchHeader;
use crate::segment::roll::is_expressible;
use crate::segment::scan::{Continuity, DamageKind, Density, EndReason, ScanEnd, scan_checked, scan_headers};
use crate::types::{Offset, Position};

/// How much of a batch is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// All of it, and its CRC is proven.
    Checked,
    /// The header.
    Headers,
}

/// A batch on the way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Visit<'a> {
    pub(super) segment: usize,
    pub(super) position: Position,
    pub(super) header: &'a BatchHeader,
    /// All bytes of the batch, where they were read and proven.
    pub(super) bytes: Option<&'a [u8]>,
}

/// What a visitor makes of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// It belongs to the run.
    Taken,
    /// It breaks a rule that only the visitor looks at: the run ends before it.
    Damaged(Malformed),
}

/// Where the walk goes and what it demands.
#[derive(Clone, Copy)]
pub(super) struct Route<'a> {
    pub(super) from: Place,
    /// The walk ends at the end of this segment.
    pub(super) until_segment: usize,
    /// Batches that do not end at or below this offset are not visited.
    pub(super) limit: Option<Offset>,
    pub(super) depth: Depth,
    pub(super) density: Density,
    pub(super) progress: Option<&'a OnProgress>,
}

/// Why the run of batches ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The last segment ends behind its last batch.
    EndOfLog,
    /// The limit of the route is reached.
    Limit,
    /// What stands behind the run does not continue it.
    Damage(Damage),
}

/// The first bytes that do not continue a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Damage {
    pub(super) segment: usize,
    pub(super) position: Position,
    pub(super) kind: DamageShape,
    /// The rule that is broken; its byte counts from `position`.
    pub(super) malformed: Malformed,
}

/// What the damage looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DamageShape {
    /// The bytes are no batch.
    Bytes(DamageKind),
    /// A batch that does not continue the one before.
    Discontinuity,
    /// A segment that does not begin where the one before ends.
    SegmentGap,
}

/// What a walk found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Walk {
    /// Behind the last batch of the run, in the segment that holds it; the start of the route if there was none.
    pub(super) end: Place,
    /// The last segment that the run reaches: behind that of `end` if empty ones follow it.
    pub(super) last_segment: usize,
    /// Bytes of the batches visited.
    pub(super) bytes: u64,
    /// Number of batches visited.
    pub(super) batches: u64,
    pub(super) stop: Stop,
}

/// Bytes between two reports of progress.
const PROGRESS_BYTES: u64 = 8 << 20;

/// Walks the route and shows every batch to `visit`.
///
/// # Errors
///
/// Those of reading and of `visit`. Damage is not an error but a [`Stop`].
pub(super) fn walk<E: From<Error>>(
    files: &LogFiles<'_>,
    route: Route<'_>,
    mut visit: impl FnMut(Visit<'_>) -> Result<Seen, E>,
) -> Result<Walk, E> {
    let mut continuity = Continuity::new(route.from.offset, route.density, route.from.leader_epoch);
    let mut found = Walk {
        end: route.from,
        last_segment: route.from.segment,
        bytes: 0,
        batches: 0,
        stop: Stop::EndOfLog,
    };
    let mut from = route.from.position;
    loop {
        let (index, segment) = match files.get(found.last_segment) {
            Some(segment) => (found.last_segment, segment),
            None => return Ok(found),
        };
        let mut outcome = Ok(None);
        let mut told = from.0;
        let mut step = |position: Position, header: &BatchHeader, bytes: Option<&[u8]>| {
            // What stands behind the limit is not judged at all: after a power cut it may be half a header.
            let reached = |limit| continuity.expected() >= limit || header.next_offset() > limit;
            if route.limit.is_some_and(reached) {
                outcome = Ok(Some(Stop::Limit));
                return ControlFlow::Break(());
            }
            let continues = continuity.check(header);
            let seen = match continues {
                Ok(()) => visit(Visit { segment: index, position, header, bytes }),
                Err(malformed) => Ok(Seen::Damaged(malformed)),
            };
            match seen {
                Ok(Seen::Taken) => {}
                Ok(Seen::Damaged(malformed)) => {
                    let kind = DamageShape::Discontinuity;
                    outcome = Ok(Some(Stop::Damage(Damage { segment: index, position, kind, malformed })));
                    return ControlFlow::Break(());
                }
                Err(error) => {
                    outcome = Err(error);
                    return ControlFlow::Break(());
                }
            }
            let next = position.saturating_add(header.size() as u64);
            found.end = Place {
                segment: index,
                position: next,
                offset: header.next_offset(),
                leader_epoch: header.leader_epoch,
                last_batch: Some((position, header.fingerprint())),
            };
            found.batches += 1;
            found.bytes += header.size() as u64;
            if next.0 - told >= PROGRESS_BYTES || next.0 == segment.len {
                told = next.0;
                tell(route.progress, segment.base, next.0, segment.len);
            }
            ControlFlow::Continue(())
        };
        let file = files.file(index)?;
        let scanned = match route.depth {
            Depth::Checked => scan_checked(&**file, from, segment.len, |position, header, bytes| {
                step(position, header, Some(bytes))
            }),
            Depth::Headers => {
                scan_headers(&**file, from, segment.len, |position, header| step(position, header, None))
            }
        };
        let ScanEnd { position, reason } = scanned.map_err(|e| Error::io("read", &files.path(index), e))?;
        if let Some(stop) = outcome? {
            return Ok(Walk { stop, ..found });
        }
        // The limit first: damage that begins right at it lies behind the route.
        if route.limit.is_some_and(|limit| continuity.expected() >= limit) {
            return Ok(Walk { stop: Stop::Limit, ..found });
        }
        if let EndReason::Damage(damage) = reason {
            let kind = DamageShape::Bytes(damage.kind);
            let stop = Stop::Damage(Damage { segment: index, position, kind, malformed: damage.malformed });
            return Ok(Walk { stop, ..found });
        }
        if index >= route.until_segment {
            return Ok(found);
        }
        let Some(next) = files.get(index + 1) else { return Ok(found) };
        if let Some(damage) = gap(files, index + 1, continuity.expected(), route.density)? {
            return Ok(Walk { stop: Stop::Damage(damage), ..found });
        }
        if next.base > continuity.expected() {
            continuity = Continuity::new(next.base, route.density, continuity.leader_epoch());
        }
        found.last_segment = index + 1;
        from = Position::ZERO;
    }
}

/// What is wrong with the place at which a segment begins, behind one that ends at `expected`.
fn gap(
    files: &LogFiles<'_>,
    segment: usize,
    expected: Offset,
    density: Density,
) -> Result<Option<Damage>, Error> {
    let base = files.get(segment).map_or(expected, |segment| segment.base);
    let (fits, wanted) = match density {
        Density::Dense => (base == expected, expected.to_string()),
        Density::Sparse => (base >= expected, format!("{expected} or more")),
        Density::Followed if base > expected => {
            let first = files.header_at(segment, Position::ZERO)?;
            let far = first.is_some_and(|first| !is_expressible(expected, first.last_offset()));
            (far, format!("{expected}, or an offset that no index could express"))
        }
        Density::Followed => (base == expected, expected.to_string()),
    };
    let malformed = || Malformed::new("base offset of the segment", 0, wanted, base);
    Ok((!fits).then(|| Damage {
        segment,
        position: Position::ZERO,
        kind: DamageShape::SegmentGap,
        malformed: malformed(),
    }))
}

fn tell(progress: Option<&OnProgress>, segment: Offset, bytes_done: u64, bytes_total: u64) {
    if let Some(progress) = progress {
        progress(RecoveryProgress { segment, bytes_done, bytes_total });
    }
}
