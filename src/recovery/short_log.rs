//! A log that ends below its start: records were deleted up to an offset, and a crash took what was not synced.
//!
//! Invariant: no offset below the log start is given out again, because consumers have been there; so the log begins
//! anew at its start, as Kafka's does (`LogLoader`). Unlike there the producers of what is left stay known: nothing is
//! deleted before a base that holds them is named.

use super::assemble::{Decision, Drop, assemble};
use super::log_files::{LogFiles, Place};
use super::passes::Passed;
use super::plan::{Context, FirstBase, Plan};
use super::state::Built;
use super::walk::Stop;
use crate::error::Error;
use crate::format::names::log_name;
use crate::types::{LogPoint, Offset};

/// Whether all that is left of the log lies below the log start that the root's file names. A segment that begins there is
/// empty: an opening that died has made it. So is one that begins above: it was rolled to, and nothing of it was synced.
pub(super) fn ends_below_its_start(
    context: &Context<'_>,
    files: &LogFiles<'_>,
    decision: &Decision,
    built: &Built,
) -> bool {
    let start = decision.manifest.log_start_offset;
    files.count() > 0
        && start > log_end(files, built)
        && context.inventory.segments.iter().all(|segment| segment.base < start || segment.len == 0)
}

/// The plan for such a log.
pub(super) fn begin_at_log_start(
    context: &Context<'_>,
    files: &LogFiles<'_>,
    mut decision: Decision,
    built: Built,
) -> Result<Plan, Error> {
    let start = decision.manifest.log_start_offset;
    decision.report.note(format!(
        "the log ends at offset {}, below its start {start} that the root's file names: it begins anew there",
        log_end(files, &built)
    ));
    decision.below = context.inventory.segments.partition_point(|segment| segment.base < start);
    decision.drop = Drop::Named;
    decision.first_base = FirstBase::Needed;
    decision.report.watermark = LogPoint::segment_start(start);
    let end = Place::start_of(0, start);
    let passed = Passed { end, last_segment: 0, tail: None, stop: Stop::EndOfLog, ..built.passed };
    let nothing = LogFiles::new(context.storage, context.dir, &[]);
    let mut plan = assemble(context, &nothing, decision, Built { passed, from: start, ..built })?;
    // At once, because an opening that dies behind the manifest would go on where they begin.
    let segments = context.inventory.segments.iter().map(|segment| (segment.base, log_name(segment.base)));
    let above: Vec<String> = segments
        .chain(context.inventory.indexes.iter().cloned())
        .filter(|(base, _)| *base > start)
        .map(|(_, name)| name)
        .collect();
    plan.outcome.report.deleted.extend(above.iter().cloned());
    plan.unlinks.extend(above);
    Ok(plan)
}

fn log_end(files: &LogFiles<'_>, built: &Built) -> Offset {
    let last = files.get(built.passed.last_segment).map_or(Offset::ZERO, |last| last.base);
    built.passed.end.offset.max(last)
}
