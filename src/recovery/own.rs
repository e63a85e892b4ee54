//! Plans for a log that we wrote.
//!
//! Invariant: below what is known durable nothing may be missing or damaged, and no producer may be forgotten: where
//! either cannot be shown, the plan is a refusal that names both the finding and the way out.

use super::aborted;
use super::assemble::{Decision, Drop, assemble};
use super::below;
use super::corrupt;
use super::evidence::mark::{self, Mark};
use super::evidence::watermark::{self, Finding};
use super::kafka;
use super::kafka_root::KafkaRoot;
use super::log_files::{LogFiles, Place};
use super::options::Salvage;
use super::passes::Durable;
use super::plan::{Context, FirstBase, Plan};
use super::report::{ChainReport, RecoveryKind, RecoveryReport};
use super::short_log;
use super::state::{Basis, Built, Ground, build};
use super::truncation;
use crate::checkpoint::{Chain, LongestChain, read_slots};
use crate::error::Error;
use crate::format::manifest::{Extent, Manifest, RunRef};
use crate::format::names::run_name;
use crate::segment::scan::Density;
use crate::testing::{self, Break};
use crate::types::{Gaps, History, LogPoint, Offset};

/// Plans with the manifest that was read.
pub(super) fn plan_with_manifest(context: &Context<'_>, manifest: Manifest) -> Result<Plan, Error> {
    let all = LogFiles::new(context.storage, context.dir, &context.inventory.segments);
    let mut report = RecoveryReport::new(RecoveryKind::Unclean);
    let mark = mark::examine(&all, &manifest)?;
    if let Mark::Holds(end) = mark
        && !testing::broken(Break::ScanEverything)
    {
        report.kind = RecoveryKind::Clean;
        report.watermark = end;
        let below = below::dropped(context, &manifest)?;
        let files = without_oldest(context, below);
        let ground = Ground::of(context, &manifest, Durable::All);
        let chains = Chains::Named;
        return decide(context, &files, below, manifest, ground, chains, report, Found::Clean);
    }
    let slots = read_slots(&**context.storage, context.dir)?;
    let watermark = watermark::greatest(&manifest, &slots);
    report.watermark = watermark;
    if let Some(why) = why_another_program(context, &mark)? {
        report.note(why);
        report.kind = RecoveryKind::AnotherProgramWrote;
    }
    if let Some(failed) = manifest.failed_sync {
        report.note(format!(
            "a sync failed before the log was closed: nothing above offset {} was counted on",
            failed.durable.offset
        ));
    }
    // On all segments: if another program wrote here, our log start is void like the rest.
    if let Some(intent) = manifest.intent.filter(|intent| intent.extent == Extent::Whole) {
        if !watermark::later_epoch_anywhere(&all, intent.leader_epoch)? {
            return truncation::start_anew(context, manifest, report);
        }
        let reason = "a batch has a later leader epoch than the log had when all of it was to go";
        return foreign(context, manifest, reason, report, Chains::Named);
    }
    let finding = watermark::examine(&all, &watermark, manifest.log_start_offset)?;
    weigh(context, manifest, finding, watermark, report, Chains::Named)
}

/// What shows that another program wrote here, whatever stands at the watermark.
fn why_another_program(context: &Context<'_>, mark: &Mark) -> Result<Option<String>, Error> {
    Ok(match mark {
        Mark::Stale(reason) => {
            Some(format!("the log was closed in order, but another program wrote here since: {reason}"))
        }
        // We take it away before we write, and leave it behind logs alone that are marked themselves.
        Mark::None if KafkaRoot::read(context)?.clean_shutdown => Some(
            "the log was not closed in order, but the mark of a clean stop in the root is another program's"
                .to_owned(),
        ),
        Mark::None | Mark::Holds(_) => None,
    })
}

/// Which chains there are to try.
#[derive(Debug)]
pub(super) enum Chains {
    /// Those that the manifest names.
    Named,
    /// Those that were put together from runs, longest first.
    Adopted(Vec<Chain>),
}

/// What the evidence says of the log as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Clean,
    Unclean,
    Foreign,
    /// The log is damaged or short below the watermark.
    Broken,
}

pub(super) fn weigh(
    context: &Context<'_>,
    mut manifest: Manifest,
    finding: Finding,
    watermark: LogPoint,
    mut report: RecoveryReport,
    chains: Chains,
) -> Result<Plan, Error> {
    let all = LogFiles::new(context.storage, context.dir, &context.inventory.segments);
    let salvage = context.options.salvage == Salvage::Cut;
    match finding {
        Finding::Foreign(reason) => foreign(context, manifest, &reason, report, chains),
        Finding::Holds(place) => {
            if watermark::appended_since_intent(&all, &place, &manifest)? {
                let reason = "a batch above the cut of an unfinished truncation has a later leader epoch than the log \
                              had then";
                return foreign(context, manifest, reason, report, chains);
            }
            let below = below::dropped(context, &manifest)?;
            let files = without_oldest(context, below);
            let place = replaced(&all, &files, place);
            let durable = if testing::broken(Break::ScanEverything) {
                Durable::To(Place::start_of(0, files.first().unwrap_or(manifest.log_start_offset)))
            } else {
                Durable::To(place)
            };
            let mut ground = Ground::of(context, &manifest, durable);
            if report.kind == RecoveryKind::AnotherProgramWrote {
                // It may be a follower of a compacted log, and begin segments behind gaps.
                manifest.gaps = Gaps::Possible;
                (ground.density_below, ground.density_above) = (Density::Sparse, Density::Sparse);
            }
            if let Some(intent) = manifest.intent {
                report.note(format!("the truncation to offset {} that was begun is finished", intent.cut));
                ground.limit = Some(intent.cut);
            }
            decide(context, &files, below, manifest, ground, chains, report, Found::Unclean)
        }
        Finding::Broken { valid, damage } if salvage => {
            let refusal = corrupt::below_watermark(&all, &damage, &watermark, valid.offset);
            report.note(format!("salvaged: {refusal}"));
            let below = below::dropped(context, &manifest)?;
            let files = without_oldest(context, below);
            let place = replaced(&all, &files, valid);
            let ground = Ground::of(context, &manifest, Durable::To(place));
            decide(context, &files, below, manifest, ground, chains, report, Found::Broken)
        }
        Finding::Broken { valid, damage } => {
            Err(corrupt::below_watermark(&all, &damage, &watermark, valid.offset))
        }
        Finding::NoSegment | Finding::Deleted if salvage => {
            report.note(format!("salvaged: no segment holds offset {}, which was durable", watermark.offset));
            let files = without_oldest(context, 0);
            let start = files.first().unwrap_or(manifest.log_start_offset);
            let ground = Ground::of(context, &manifest, Durable::To(Place::start_of(0, start)));
            decide(context, &files, 0, manifest, ground, chains, report, Found::Broken)
        }
        Finding::NoSegment | Finding::Deleted => Err(corrupt::no_segment(context.dir, &all, &watermark)),
    }
}

/// Watermark, intent and log start are void; Kafka's recovery point takes the watermark's place.
fn foreign(
    context: &Context<'_>,
    mut manifest: Manifest,
    reason: &str,
    mut report: RecoveryReport,
    chains: Chains,
) -> Result<Plan, Error> {
    report.kind = RecoveryKind::AnotherProgramWrote;
    report.note(format!("another program wrote here: {reason}"));
    let root = KafkaRoot::read(context)?;
    for note in &root.notes {
        report.note(note.clone());
    }
    kafka::refuse_unfinished_compaction(context)?;
    let files = LogFiles::new(context.storage, context.dir, &context.inventory.segments);
    manifest.truncation_generation = manifest.truncation_generation.saturating_add(1);
    manifest.intent = None;
    manifest.clean_close = None;
    manifest.txn_indexes.clear();
    // It may have cut the log and appended to it: a round that passes over that takes a tombstone for the last of its key.
    manifest.compaction.clean_to = Offset::ZERO;
    manifest.log_start_offset =
        files.first().unwrap_or(Offset::ZERO).max(root.log_start_offset.unwrap_or(Offset::ZERO));
    let (durable, watermark) = kafka::durable(context, &files, &root, &mut report)?;
    report.watermark = watermark;
    let ground = Ground {
        // A batch that is gone was not deleted by our own retention.
        log_start: Offset::ZERO,
        must_be_bound: true,
        density_below: Density::Sparse,
        density_above: Density::Sparse,
        ..Ground::of(context, &manifest, durable)
    };
    match choose(context, &files, &manifest, &ground, &chains, &mut report, Found::Foreign)? {
        Some(chosen) => finish(context, &files, 0, manifest, &ground, chosen, report, Found::Foreign),
        None => kafka::plan_adoption(context, &files, &root, manifest, durable, report),
    }
}

#[expect(clippy::too_many_arguments, reason = "all of it is one decision, made in one place")]
fn decide(
    context: &Context<'_>,
    files: &LogFiles<'_>,
    below: usize,
    manifest: Manifest,
    ground: Ground,
    chains: Chains,
    mut report: RecoveryReport,
    found: Found,
) -> Result<Plan, Error> {
    let chosen = choose(context, files, &manifest, &ground, &chains, &mut report, found)?;
    let Some(chosen) = chosen else {
        return Err(corrupt::no_chain(context.dir, files, &report.rejected));
    };
    finish(context, files, below, manifest, &ground, chosen, report, found)
}

/// A chain that holds, with the state built on it.
#[derive(Debug)]
struct Chosen {
    basis: Basis,
    built: Built,
    previous: Vec<RunRef>,
    is_previous: bool,
}

/// Tries the chains in their order: the present one; its beginnings, the one before and its beginnings, the one that
/// leads furthest first; the whole log.
fn choose(
    context: &Context<'_>,
    files: &LogFiles<'_>,
    manifest: &Manifest,
    ground: &Ground,
    chains: &Chains,
    report: &mut RecoveryReport,
    found: Found,
) -> Result<Option<Chosen>, Error> {
    // Once there was a chain, compaction may have followed, and a log with gaps no longer tells all. Before, gaps are
    // those of a leader's log that is followed.
    let dense = Ground { density_below: Density::Dense, ..*ground };
    let checkpointed = !manifest.chain.is_empty() || matches!(chains, Chains::Adopted(_));
    let mut attempt = |basis: Basis, chain: &Chain, previous: Vec<RunRef>, is_previous: bool| {
        let ground = if basis == Basis::WholeLog && checkpointed { &dense } else { ground };
        let reason = match build(files, basis, chain, ground, context.options)? {
            Ok(built) => return Ok(Some(Chosen { basis, built, previous, is_previous })),
            Err(reason) => reason,
        };
        let newest = chain.newest().map(|run| run_name(run.header().number));
        report.reject(newest.unwrap_or_else(|| "the whole log".to_owned()), reason);
        Ok::<_, Error>(None)
    };
    let scan_everything = testing::broken(Break::ScanEverything);
    let mut tried = Vec::new();
    if !scan_everything {
        match chains {
            Chains::Named => {
                let LongestChain { chain, rejected } =
                    Chain::open_longest(&**context.storage, context.dir, &manifest.chain)?;
                let whole = rejected.is_none() && !chain.is_empty();
                if whole
                    && let Some(chosen) =
                        attempt(Basis::Chain, &chain, manifest.previous_chain.clone(), false)?
                {
                    return Ok(Some(chosen));
                }
                let before = Chain::open_longest(&**context.storage, context.dir, &manifest.previous_chain)?;
                let lost = [rejected, before.rejected].into_iter().flatten();
                tried.extend(lost.map(|(run, why)| (run_name(run.number), why.to_string())));
                let beginnings = (1..=chain.len() - usize::from(whole)).map(|len| (chain.prefix(len), false));
                let before = (1..=before.chain.len()).map(|len| (before.chain.prefix(len), true));
                let mut others: Vec<_> = beginnings.chain(before).collect();
                // A run that deltas were merged into is lost: the deltas themselves lead further than the base alone.
                others.sort_by_key(|(chain, is_previous)| {
                    (std::cmp::Reverse(chain.end().map(|end| end.offset)), *is_previous)
                });
                for (chain, is_previous) in &others {
                    let previous = if *is_previous { Vec::new() } else { manifest.previous_chain.clone() };
                    if let Some(chosen) = attempt(Basis::Chain, chain, previous, *is_previous)? {
                        note_rejected(report, tried);
                        return Ok(Some(chosen));
                    }
                }
            }
            Chains::Adopted(adopted) => {
                for chain in adopted {
                    for len in (1..=chain.len()).rev() {
                        if let Some(chosen) = attempt(Basis::Chain, &chain.prefix(len), Vec::new(), false)? {
                            return Ok(Some(chosen));
                        }
                    }
                }
            }
        }
    }
    let nothing = Chain::empty();
    let mut chosen = None;
    if found != Found::Foreign {
        chosen = attempt(Basis::WholeLog, &nothing, Vec::new(), false)?;
        if chosen.is_none() && context.options.salvage == Salvage::Cut {
            chosen = attempt(Basis::WhateverIsThere, &nothing, Vec::new(), false)?;
        }
    }
    note_rejected(report, tried);
    Ok(chosen)
}

fn note_rejected(report: &mut RecoveryReport, tried: Vec<(String, String)>) {
    for (name, reason) in tried {
        report.reject(name, reason);
    }
}

#[expect(clippy::too_many_arguments, reason = "all of it is one decision, made in one place")]
fn finish(
    context: &Context<'_>,
    files: &LogFiles<'_>,
    below: usize,
    mut manifest: Manifest,
    ground: &Ground,
    chosen: Chosen,
    mut report: RecoveryReport,
    found: Found,
) -> Result<Plan, Error> {
    let Chosen { basis, built, previous, is_previous } = chosen;
    let salvaged = built.passed.damaged_below || found == Found::Broken || basis == Basis::WhateverIsThere;
    if built.passed.damaged_below && context.options.salvage == Salvage::Refuse {
        let watermark = report.watermark;
        return Err(match &built.passed.stop {
            super::walk::Stop::Damage(damage) => {
                corrupt::below_watermark(files, damage, &watermark, built.passed.end.offset)
            }
            super::walk::Stop::EndOfLog | super::walk::Stop::Limit => {
                corrupt::no_segment(context.dir, files, &watermark)
            }
        });
    }
    if salvaged {
        report.salvaged = true;
        manifest.history = History::Salvaged;
        // What is damaged cannot be made anew from a damaged log.
        manifest.txn_indexes.clear();
        manifest.truncation_generation = manifest.truncation_generation.saturating_add(1);
    }
    if basis == Basis::Chain && !built.chain.is_empty() {
        report.chain = Some(ChainReport {
            runs: built.chain.references().iter().map(|run| run.number).collect(),
            end: built.from,
            previous: is_previous,
        });
    } else if basis == Basis::WholeLog && !manifest.chain.is_empty() {
        report.note("no run could be used: the producers were put together from the whole log");
    }
    if manifest.history == History::Salvaged && !salvaged {
        report.note("the log was salvaged before: unknown producers cannot be told from lost ones");
    }
    let mut clean = found == Found::Clean && !salvaged;
    if clean && !aborted::all_as_noted(context, files, &manifest.txn_indexes)? {
        // What the file must hold is written, so it is not a clean directory any more.
        clean = false;
        report.kind = RecoveryKind::Unclean;
    }
    let used = built.chain.references();
    let kept_previous = if salvaged || found == Found::Foreign {
        kept(context, &previous, built.passed.end.offset)?
    } else {
        previous
    };
    let first_base = if basis == Basis::WhateverIsThere { FirstBase::Needed } else { FirstBase::NotNeeded };
    if !clean {
        manifest.chain = used;
        manifest.previous_chain = kept_previous;
        manifest.intent = None;
    }
    let finished_intent = ground.limit;
    let believed = built.from;
    let decision = Decision {
        manifest,
        below,
        drop: Drop::AtOnce,
        finished_intent,
        clean,
        first_base,
        believed,
        report,
    };
    if decision.report.kind == RecoveryKind::ManifestLost
        && short_log::ends_below_its_start(context, files, &decision, &built)
    {
        return short_log::begin_at_log_start(context, files, decision, built);
    }
    assemble(context, files, decision, built)
}

/// The runs of a chain that end at or below `end`.
fn kept(context: &Context<'_>, named: &[RunRef], end: Offset) -> Result<Vec<RunRef>, Error> {
    let LongestChain { chain, .. } = Chain::open_longest(&**context.storage, context.dir, named)?;
    Ok(chain.runs().iter().take_while(|run| run.to().offset <= end).map(|run| run.reference()).collect())
}

pub(super) fn without_oldest<'a>(context: &Context<'a>, below: usize) -> LogFiles<'a> {
    let segments = context.inventory.segments.get(below..).unwrap_or_default();
    LogFiles::new(context.storage, context.dir, segments)
}

/// The same place when the segments are counted from another first one; the first one's start if it is gone.
fn replaced(all: &LogFiles<'_>, files: &LogFiles<'_>, place: Place) -> Place {
    let base = all.get(place.segment).map(|segment| segment.base);
    match base.and_then(|base| files.index_of(base)) {
        Some(segment) => Place { segment, ..place },
        None => Place::start_of(0, files.first().unwrap_or(place.offset)),
    }
}
