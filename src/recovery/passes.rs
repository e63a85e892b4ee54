//! The one or two passes over the log behind a checkpoint: first over what is known durable, then over the tail.
//!
//! Invariant: every byte is read once. Damage in the first pass is damage of durable bytes, damage in the second is a
//! tail that never was; this module keeps the two apart and decides neither.

use super::log_files::{LogFiles, Place};
use super::options::RecoveryOptions;
use super::replay::Halt;
use super::walk::{Damage, DamageShape, Depth, Route, Seen, Stop, Visit, Walk, walk};
use crate::error::Malformed;
use crate::segment::scan::Density;
use crate::types::Offset;

/// How much of the log is known to be on the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durable {
    /// All below this place.
    To(Place),
    /// All of it: whoever wrote it stopped in order.
    All,
}

/// What is read and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Course {
    /// Where the state begins that the batches are applied to.
    pub(super) from: Place,
    pub(super) durable: Durable,
    /// How much is read of what is known durable.
    pub(super) below: Depth,
    /// Whether durable bytes may have gaps in their offsets.
    pub(super) density_below: Density,
    /// Whether the tail may.
    pub(super) density_above: Density,
    /// The log ends here at the latest: the cut of a truncation that was begun.
    pub(super) limit: Option<Offset>,
}

/// What the passes found.
#[derive(Clone, Debug)]
pub(super) struct Passed {
    /// Where the log ends.
    pub(super) end: Place,
    /// The last segment of the log, which an append goes to.
    pub(super) last_segment: usize,
    /// Where the tail begins that is not known to be durable.
    pub(super) tail: Option<Place>,
    /// Why the log ends there.
    pub(super) stop: Stop,
    /// Whether it ends where it is known to be durable.
    pub(super) damaged_below: bool,
    /// Bytes read with their CRC.
    pub(super) scanned: u64,
}

/// Makes the passes; shows `visit` every batch behind the start of the state.
pub(super) fn pass(
    files: &LogFiles<'_>,
    course: Course,
    options: &RecoveryOptions,
    mut visit: impl FnMut(&Visit<'_>) -> Result<Seen, Halt>,
) -> Result<Passed, Halt> {
    let mut show = |batch: Visit<'_>| {
        if batch.header.base_offset >= course.from.offset {
            let seen = visit(&batch)?;
            if seen != Seen::Taken {
                return Ok(seen);
            }
        }
        Ok::<_, Halt>(Seen::Taken)
    };
    let route = |from: Place, limit: Option<Offset>, depth: Depth, density: Density| Route {
        from,
        until_segment: usize::MAX,
        limit,
        depth,
        density,
        progress: options.progress.as_ref(),
    };

    let mut scanned = 0;
    let tail = match course.durable {
        Durable::All => None,
        Durable::To(watermark) => Some(watermark),
    };
    if tail.is_none_or(|watermark| course.from.offset < watermark.offset) {
        let limit = tail.map(|watermark| watermark.offset);
        let mut walked =
            walk(files, route(course.from, limit, course.below, course.density_below), &mut show)?;
        scanned += if course.below == Depth::Checked { walked.bytes } else { 0 };
        if let Some(watermark) = tail {
            misses(&mut walked, &watermark, course.density_below);
        }
        let damaged_below = matches!(walked.stop, Stop::Damage(_));
        if damaged_below || tail.is_none() {
            let Walk { end, last_segment, stop, .. } = walked;
            return Ok(Passed { end, last_segment, tail: None, stop, damaged_below, scanned });
        }
    }
    let from = tail.unwrap_or(course.from);
    let walked = walk(files, route(from, course.limit, Depth::Checked, course.density_above), &mut show)?;
    scanned += walked.bytes;
    let Walk { end, last_segment, stop, .. } = walked;
    Ok(Passed { end, last_segment, tail, stop, damaged_below: false, scanned })
}

/// Turns a run that does not lead to the watermark into damage where it ends.
fn misses(walked: &mut Walk, watermark: &Place, density: Density) {
    if matches!(walked.stop, Stop::Damage(_)) {
        return;
    }
    let end = walked.end;
    let meets = match density {
        Density::Dense => end.offset == watermark.offset,
        Density::Sparse | Density::Followed => end.offset <= watermark.offset && walked.stop == Stop::Limit,
    };
    if meets && (end.segment != watermark.segment || end.position == watermark.position) {
        return;
    }
    let expected = format!("a batch that ends at offset {}, which is durable", watermark.offset);
    let found = match walked.stop {
        Stop::EndOfLog => "the end of the log".to_owned(),
        _ => "a batch across it".to_owned(),
    };
    let malformed = Malformed::new("end of the durable log", 0, expected, found);
    let kind = DamageShape::Discontinuity;
    walked.stop = Stop::Damage(Damage { segment: end.segment, position: end.position, kind, malformed });
}
