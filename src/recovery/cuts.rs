//! What leaves the log behind its end, and what of it is worth keeping aside.
//!
//! Invariant: every byte behind the end is in exactly one cut; a cut without a keepsake holds nothing but zeros, or
//! what a truncation was to remove.

use std::collections::HashMap;
use std::ops::ControlFlow;

use super::log_files::LogFiles;
use super::plan::{Context, Cut};
use super::report::{CutReport, RecoveryReport};
use super::walk::{DamageShape, Stop};
use crate::error::Error;
use crate::format::batch::{BatchHeader, HEADER_SIZE, MAGIC_AT};
use crate::format::names::{keepsake_name, log_name};
use crate::segment::scan::{DamageKind, EndReason, scan_checked};
use crate::storage::File;
use crate::types::{Offset, Position};

/// Up to so many bytes behind a damaged header are searched for batches that follow it.
const SEARCH_LIMIT: u64 = 16 << 20;

/// Where the log ends and why.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tail<'a> {
    /// The last segment that stays.
    pub(super) active: usize,
    /// What stays of it, in bytes.
    pub(super) active_len: u64,
    pub(super) end: Offset,
    pub(super) stop: &'a Stop,
    /// Whether what follows is to go by a truncation that was begun.
    pub(super) intended: bool,
    /// Whether the machine did not restart since the log was last open.
    pub(super) same_boot: bool,
}

/// All cuts, in the order of the log; each has its line in the report.
pub(super) fn of(
    context: &Context<'_>,
    files: &LogFiles<'_>,
    tail: &Tail<'_>,
    report: &mut RecoveryReport,
) -> Result<Vec<Cut>, Error> {
    let mut cuts = Vec::new();
    let mut numbers = HashMap::new();
    let last = files.count().saturating_sub(1);
    for index in tail.active..files.count() {
        let Some(segment) = files.get(index) else { break };
        let whole = index > tail.active;
        let from = if whole { 0 } else { tail.active_len };
        if !whole && from >= segment.len {
            continue;
        }
        let file = files.file(index)?;
        let found = look(&**file, from, segment.len).map_err(|e| Error::io("read", &files.path(index), e))?;
        let keep = !tail.intended && !found.all_zero && from < segment.len;
        let offset = if whole { segment.base } else { tail.end };
        let keepsake = keep.then(|| {
            let number = numbers.entry(offset).or_insert_with(|| context.inventory.free_keepsake(offset));
            let name = keepsake_name(offset, *number);
            *number = number.saturating_add(1);
            name
        });
        let reason = if tail.intended {
            "a truncation that was begun".to_owned()
        } else if whole {
            "it follows the end of the log".to_owned()
        } else {
            reason_of(tail.stop)
        };
        let ends_inside_last_batch = index == last
            && found.valid_batches == 0
            && is_short(tail.stop, segment.len.saturating_sub(from));
        report.cuts.push(CutReport {
            file: log_name(segment.base),
            bytes: from..segment.len,
            offset,
            valid_batches: found.valid_batches,
            keepsake: keepsake.clone(),
            reason,
            suspicious: tail.same_boot && !tail.intended && !ends_inside_last_batch && from < segment.len,
        });
        cuts.push(Cut { segment: segment.base, from, to: segment.len, whole, keepsake });
    }
    Ok(cuts)
}

/// Whether the `left` bytes behind the end are the beginning of one batch. The first of them may well be zeros.
fn is_short(stop: &Stop, left: u64) -> bool {
    let Stop::Damage(damage) = stop else { return false };
    match damage.kind {
        DamageShape::Bytes(DamageKind::ShortHeader | DamageKind::ShortBatch) => true,
        DamageShape::Bytes(DamageKind::Zeros) => left < HEADER_SIZE as u64,
        DamageShape::Bytes(DamageKind::BadHeader | DamageKind::BadCrc)
        | DamageShape::Discontinuity
        | DamageShape::SegmentGap => false,
    }
}

fn reason_of(stop: &Stop) -> String {
    match stop {
        Stop::Damage(damage) => damage.malformed.to_string(),
        Stop::EndOfLog | Stop::Limit => "it follows the end of the log".to_owned(),
    }
}

/// What stands among bytes that are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Found {
    valid_batches: u64,
    all_zero: bool,
}

fn look(file: &dyn File, from: u64, len: u64) -> std::io::Result<Found> {
    let mut found = Found { valid_batches: 0, all_zero: true };
    let mut at = from;
    loop {
        let before = found.valid_batches;
        let scanned = scan_checked(file, Position(at), len, |_, _, _| {
            found.valid_batches += 1;
            ControlFlow::Continue(())
        })?;
        found.all_zero &= found.valid_batches == before;
        let EndReason::Damage(damage) = scanned.reason else { return Ok(found) };
        if damage.kind == DamageKind::Zeros {
            return Ok(found);
        }
        found.all_zero = false;
        match next_candidate(file, scanned.position.0 + 1, len)? {
            Some(next) => at = next,
            None => return Ok(found),
        }
    }
}

/// The next byte at which a header parses whose batch fits.
fn next_candidate(file: &dyn File, from: u64, len: u64) -> std::io::Result<Option<u64>> {
    let left = len.saturating_sub(from);
    if left > SEARCH_LIMIT {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.read_to(&mut bytes, usize::try_from(left).unwrap_or(usize::MAX), from)?;
    let candidates =
        bytes.windows(HEADER_SIZE).enumerate().filter(|(_, window)| window.get(MAGIC_AT) == Some(&2));
    for (at, window) in candidates {
        if let Ok(header) = BatchHeader::parse(window)
            && at.saturating_add(header.size()) <= bytes.len()
            && crate::format::batch::verify_crc(
                &header,
                bytes.get(at..at + header.size()).unwrap_or_default(),
            )
            .is_ok()
        {
            return Ok(Some(from + at as u64));
        }
    }
    Ok(None)
}
