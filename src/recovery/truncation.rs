//! Truncation as a recovery: an intent in the manifest, and the plan by which the next open would finish it.
//!
//! Invariant: reads only. What a running log does to truncate is what an open does after a crash in the middle of it:
//! one manifest with the intent, then a plan carried out. So there is one procedure, and a refusal, which comes from the
//! plan, comes before the first write.

use std::path::Path;
use std::sync::Arc;

use super::assemble::{Decision, Drop, assemble};
use super::below;
use super::inventory::Inventory;
use super::log_files::{LogFiles, Place};
use super::options::RecoveryOptions;
use super::own;
use super::passes::Passed;
use super::plan::{Context, FirstBase, Plan};
use super::replay::LogFacts;
use super::report::{RecoveryKind, RecoveryReport};
use super::state::Built;
use super::walk::{Depth, Route, Seen, Stop, walk};
use crate::checkpoint::{Chain, LongestChain};
use crate::error::Error;
use crate::format::manifest::{CompactionState, Extent, Manifest, RunRef, TruncationIntent};
use crate::producer::ProducerMap;
use crate::segment::scan::Density;
use crate::storage::Storage;
use crate::types::{Gaps, LeaderEpoch, LogPoint, Offset};

/// A truncation that was decided and not begun.
#[derive(Debug)]
pub struct Truncation {
    /// To be written first: the intent, under a higher truncation generation, with the lower watermark and without any
    /// run above the cut.
    pub manifest: Manifest,
    /// To be carried out then; the manifest that it ends with has no intent.
    pub plan: Plan,
}

/// Decides how the log in `dir` is cut at `target`, or before the batch that holds it.
///
/// `now` is the manifest as it would be written at this moment, `newest` the last leader epoch of the log.
///
/// # Errors
///
/// [`Error::TruncationTooLow`] if no producer state is kept below the cut; [`Error::Corrupt`] or [`Error::Io`] if what
/// stays cannot be read.
pub fn plan_truncation(
    storage: &Arc<dyn Storage>,
    dir: &Path,
    now: &Manifest,
    target: Offset,
    newest: LeaderEpoch,
    options: &RecoveryOptions,
) -> Result<Truncation, Error> {
    let inventory = Inventory::take(storage, dir)?;
    let context = Context { storage, dir, options, inventory };
    let below = below::dropped(&context, now)?;
    let files = own::without_oldest(&context, below);
    let cut = cut_point(&files, target)?;
    let mut manifest =
        next(now, TruncationIntent { cut: cut.offset, extent: Extent::Above, leader_epoch: newest });
    // The batch before the cut, not the start of a segment that goes.
    if manifest.watermark.offset >= cut.offset {
        manifest.watermark = cut;
    }
    // Nor can anybody go on from below what compaction has reached.
    let present = files.first().unwrap_or(now.log_start_offset).max(now.compaction.reached);
    manifest.compaction.clean_to = now.compaction.clean_to.min(cut.offset);
    manifest.chain = kept(&context, &now.chain, present, cut.offset)?;
    manifest.previous_chain = kept(&context, &now.previous_chain, present, cut.offset)?;
    if manifest.chain.is_empty() {
        manifest.chain = std::mem::take(&mut manifest.previous_chain);
    }
    if manifest.chain.is_empty() && present > Offset::ZERO {
        let lowest = lowest_end(&context, now, present)?;
        return Err(Error::TruncationTooLow { asked: target, lowest });
    }
    let plan = own::plan_with_manifest(&context, manifest.clone())?;
    Ok(Truncation { manifest, plan })
}

/// Decides how the log in `dir` loses everything and begins anew, empty, at `start`.
///
/// # Errors
///
/// [`Error::Io`] if the directory cannot be read.
pub fn plan_fresh_start(
    storage: &Arc<dyn Storage>,
    dir: &Path,
    now: &Manifest,
    start: Offset,
    newest: LeaderEpoch,
    options: &RecoveryOptions,
) -> Result<Truncation, Error> {
    let inventory = Inventory::take(storage, dir)?;
    let context = Context { storage, dir, options, inventory };
    let intent = TruncationIntent { cut: start, extent: Extent::Whole, leader_epoch: newest };
    let manifest = Manifest {
        chain: Vec::new(),
        previous_chain: Vec::new(),
        watermark: LogPoint::segment_start(start),
        log_start_offset: start,
        gaps: Gaps::None,
        txn_indexes: Vec::new(),
        compaction: CompactionState::default(),
        ..next(now, intent)
    };
    let plan = start_anew(&context, manifest.clone(), RecoveryReport::new(RecoveryKind::Unclean))?;
    Ok(Truncation { manifest, plan })
}

/// The plan that finishes an intent of [`Extent::Whole`].
pub(super) fn start_anew(
    context: &Context<'_>,
    manifest: Manifest,
    mut report: RecoveryReport,
) -> Result<Plan, Error> {
    let start = manifest.log_start_offset;
    report.note(format!("the log is begun anew at offset {start}, as was intended"));
    report.watermark = manifest.watermark;
    let nothing = LogFiles::new(context.storage, context.dir, &[]);
    let end = Place::start_of(0, start);
    let passed =
        Passed { end, last_segment: 0, tail: None, stop: Stop::EndOfLog, damaged_below: false, scanned: 0 };
    let built = Built {
        passed,
        producers: ProducerMap::new(),
        facts: LogFacts::default(),
        open_txns: Vec::new(),
        from: start,
        batches: 0,
        bytes: 0,
        unverified: 0,
        odd_markers: 0,
        chain: Chain::empty(),
    };
    // A log that begins later needs a base that says so: nothing below its start can be replayed.
    let first_base = if start > Offset::ZERO { FirstBase::Needed } else { FirstBase::NotNeeded };
    let below = context.inventory.segments.len();
    let decision = Decision {
        manifest,
        below,
        drop: Drop::AtOnce,
        finished_intent: Some(start),
        clean: false,
        first_base,
        believed: start,
        report,
    };
    assemble(context, &nothing, decision, built)
}

/// `now` with an intent, under the next generation.
fn next(now: &Manifest, intent: TruncationIntent) -> Manifest {
    Manifest {
        sequence: now.sequence.saturating_add(1),
        truncation_generation: now.truncation_generation.saturating_add(1),
        intent: Some(intent),
        failed_sync: None,
        clean_close: None,
        ..now.clone()
    }
}

/// The end of the last batch that ends at or below `target`. Reads the headers of one segment.
fn cut_point(files: &LogFiles<'_>, target: Offset) -> Result<LogPoint, Error> {
    let Some(index) = files.covering(Offset(target.0.saturating_sub(1))) else {
        return Ok(LogPoint::segment_start(files.first().unwrap_or(target)));
    };
    let base = files.get(index).map_or(target, |segment| segment.base);
    let route = Route {
        from: Place::start_of(index, base),
        until_segment: index,
        limit: Some(target),
        depth: Depth::Headers,
        density: Density::Sparse,
        progress: None,
    };
    let walked = walk::<Error>(files, route, |_| Ok(Seen::Taken))?;
    if let Stop::Damage(damage) = walked.stop {
        let path = files.path(index);
        let len = files.get(index).map_or(0, |segment| segment.len.saturating_sub(damage.position.0));
        let advice = "run `oncelog verify` on the directory; the log was not changed";
        let corruption = damage.malformed.in_file(&path, damage.position.0, len, advice);
        return Err(Error::Corrupt(Box::new(corruption)));
    }
    Ok(files.point(&walked.end))
}

/// The runs of a chain that end at or below `cut`; none if nobody could go on from there, because the batches behind
/// them, up to the first offset present, are deleted or compacted.
fn kept(context: &Context<'_>, named: &[RunRef], present: Offset, cut: Offset) -> Result<Vec<RunRef>, Error> {
    let LongestChain { chain, .. } = Chain::open_longest(&**context.storage, context.dir, named)?;
    let kept: Vec<_> = chain.runs().iter().take_while(|run| run.to().offset <= cut).collect();
    let reaches = kept.last().is_some_and(|newest| newest.to().offset >= present);
    Ok(kept.into_iter().filter(|_| reaches).map(|run| run.reference()).collect())
}

/// The lowest offset at which a run of either chain ends from which the log can go on.
fn lowest_end(context: &Context<'_>, manifest: &Manifest, present: Offset) -> Result<Offset, Error> {
    let mut lowest = None;
    for named in [&manifest.chain, &manifest.previous_chain] {
        let LongestChain { chain, .. } = Chain::open_longest(&**context.storage, context.dir, named)?;
        let end = chain.runs().iter().map(|run| run.to().offset).find(|end| *end >= present);
        lowest = lowest.into_iter().chain(end).min();
    }
    Ok(lowest.unwrap_or(manifest.watermark.offset))
}
