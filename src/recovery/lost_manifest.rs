//! A plan without a manifest, in a directory that holds other files of ours.
//!
//! Invariant: nothing is taken for known that only the manifest knew. Runs are adopted if they touch and the log bears
//! them out, and the report says what was taken in the place of what was lost.

use super::evidence::watermark::{self, Finding};
use super::kafka;
use super::kafka_root::KafkaRoot;
use super::log_files::LogFiles;
use super::own::{Chains, weigh};
use super::plan::{Context, Plan};
use super::report::{RecoveryKind, RecoveryReport};
use super::walk::{Depth, Route, Seen, walk};
use crate::checkpoint::{Chain, adopt_runs, read_slots};
use crate::error::Error;
use crate::format::manifest::Manifest;
use crate::format::names::{MANIFEST, WATERMARK, run_name};
use crate::segment::scan::Density;
use crate::types::{EngineTime, Gaps, LogPoint, Offset};

/// Plans without a manifest, in a directory that holds other files of ours.
pub(super) fn plan_without_manifest(context: &Context<'_>, reason: String) -> Result<Plan, Error> {
    let mut report = RecoveryReport::new(RecoveryKind::ManifestLost);
    kafka::refuse_unfinished_compaction(context)?;
    report.reject(MANIFEST, reason);
    let adoption = adopt_runs(&**context.storage, context.dir, &context.inventory.runs)?;
    for (number, why) in &adoption.rejected {
        report.reject(run_name(*number), why);
    }
    let slots = read_slots(&**context.storage, context.dir)?;
    if !slots.is_empty() {
        report.reject(WATERMARK, "which truncation generation is in force stood in the manifest");
    }
    let files = LogFiles::new(context.storage, context.dir, &context.inventory.segments);
    let root = KafkaRoot::read(context)?;
    let first = files.first().unwrap_or(Offset::ZERO);
    let log_start = first.max(root.log_start_offset.unwrap_or(Offset::ZERO));
    if log_start > Offset::ZERO {
        report.note(format!(
            "the log start offset is not known either: {log_start} is taken, from the first segment or the root"
        ));
    }
    // A run was written after a sync of the log up to its end: where its batch stands, all before is durable.
    let mut claims =
        adoption.chains.iter().flat_map(|chain| chain.runs()).map(|run| *run.to()).collect::<Vec<_>>();
    claims.sort_by_key(|point| std::cmp::Reverse(point.offset));
    let mut watermark = LogPoint::segment_start(first);
    for claim in claims {
        if matches!(watermark::examine(&files, &claim, log_start)?, Finding::Holds(_)) {
            watermark = claim;
            break;
        }
    }
    report.watermark = watermark;
    let finding = watermark::examine(&files, &watermark, log_start)?;
    let gaps = gaps_behind(&files, &finding)?;
    if gaps == Gaps::Possible {
        report.note("offsets are left out in the log: taken for gaps of the leader's log that it follows");
    }
    let newest = adoption.chains.iter().filter_map(Chain::newest).map(|run| run.header().engine_time).max();
    let manifest = Manifest {
        next_run_number: adoption.next_run_number,
        // Above every slot's, so that none of them counts.
        truncation_generation: slots.iter().map(|slot| slot.generation.saturating_add(1)).max().unwrap_or(1),
        engine_time: newest.unwrap_or(EngineTime(0)),
        gaps,
        ..Manifest::first(watermark, log_start)
    };
    weigh(context, manifest, finding, watermark, report, Chains::Adopted(adoption.chains))
}

/// Whether the batches behind what is known durable leave offsets out. Only the manifest knew whether they may: to cut the
/// log at the first gap, as at a torn tail, would take away what was acknowledged.
fn gaps_behind(files: &LogFiles<'_>, finding: &Finding) -> Result<Gaps, Error> {
    let Finding::Holds(from) = finding else { return Ok(Gaps::None) };
    let batches = |density| {
        let route = Route {
            from: *from,
            until_segment: usize::MAX,
            limit: None,
            depth: Depth::Headers,
            density,
            progress: None,
        };
        walk::<Error>(files, route, |_| Ok(Seen::Taken)).map(|walked| walked.batches)
    };
    let leads_further = batches(Density::Followed)? > batches(Density::Dense)?;
    Ok(if leads_further { Gaps::Possible } else { Gaps::None })
}
