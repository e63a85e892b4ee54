//! What leaves the log behind its end, and what of it is worth keeping aside.
//!
//! Invariant: every byte behind the end is in exactly one cut; a cut without a keepsake holds nothing but zeros, or
//! what a truncation was to remove.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::log_files::LogFiles;
use super::plan::{Context, Cut};
use super::report::{CutReport, RecoveryReport};
use super::walk::{DamageShape, Stop};
use crate::error::Error;
use crate::format::batch::{BatchHeader, HEADER_SIZE, MAGIC_AT, verify_crc};
use crate::format::names::{keepsake_name, log_name};
use crate::segment::scan::{DamageKind, EndReason, scan_checked};
use crate::storage::File;
use crate::types::{Offset, Position};

/// Up to so many bytes behind a damaged header are searched for batches that follow it.
const SEARCH_LIMIT: u64 = 16 << 20;
/// Bytes that such a search may prove, so that bytes made to look like batches cannot hold up an opening.
const CHECK_LIMIT: usize = 256 << 20;
/// Damaged batches that are stepped over where there is too much to search.
const SKIP_LIMIT: usize = 1000;

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
        let found = look(file, from, segment.len).map_err(|e| Error::io("read", &files.path(index), e))?;
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

fn look(file: &Arc<dyn File>, from: u64, len: u64) -> std::io::Result<Found> {
    let mut found = Found { valid_batches: 0, all_zero: true };
    let mut at = from;
    for _ in 0..SKIP_LIMIT {
        let before = found.valid_batches;
        let scanned = scan_checked(&**file, Position(at), len, |_, _, _| {
            found.valid_batches += 1;
            ControlFlow::Continue(())
        })?;
        found.all_zero &= found.valid_batches == before;
        let EndReason::Damage(damage) = scanned.reason else { return Ok(found) };
        if damage.kind == DamageKind::Zeros {
            return Ok(found);
        }
        found.all_zero = false;
        let damaged = scanned.position.0;
        let left = len.saturating_sub(damaged);
        if left <= SEARCH_LIMIT {
            let mut bytes = Vec::new();
            file.read_to(&mut bytes, usize::try_from(left).unwrap_or(usize::MAX), damaged)?;
            found.valid_batches += batches_among(&bytes);
            return Ok(found);
        }
        // Too much to search byte by byte: go on behind the batch if its header tells where that is.
        let mut header = [0; HEADER_SIZE];
        file.read_exact_at(&mut header, damaged)?;
        match BatchHeader::from_array(&header) {
            Ok(header) if header.size() as u64 <= left => at = damaged.saturating_add(header.size() as u64),
            _ => return Ok(found),
        }
    }
    Ok(found)
}

/// How many batches with a right CRC begin somewhere among these bytes, none inside another.
fn batches_among(bytes: &[u8]) -> u64 {
    let mut found = 0;
    let mut checked = 0;
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| rest.len() >= HEADER_SIZE && checked < CHECK_LIMIT) {
        let header = match rest.get(MAGIC_AT) {
            Some(2) => BatchHeader::parse(rest).ok(),
            _ => None,
        };
        let batch = header.and_then(|header| Some((header, rest.get(..header.size())?)));
        at += 1;
        if let Some((header, batch)) = batch {
            checked += batch.len();
            if verify_crc(&header, batch).is_ok() {
                found += 1;
                at += batch.len() - 1;
            }
        }
    }
    found
}
