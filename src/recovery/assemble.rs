//! Turns a decision about a log into a plan: what is cut, unlinked and rewritten, and what the log is then.
//!
//! Invariant: the plan covers every byte of every segment: it is kept, or stands in a cut of the report.

use super::aborted::{self, Notes, Sources};
use super::cuts::{self, Tail};
use super::epoch_file::{self, Settled};
use super::inventory::Replacement;
use super::kafka_root::exists;
use super::log_files::{LogFiles, Place};
use super::outcome::{Recovered, SegmentFacts};
use super::plan::{Context, FirstBase, Plan};
use super::report::{RecoveryKind, RecoveryReport};
use super::state::Built;
use super::walk::{Depth, Route, Seen, walk};
use crate::checkpoint::number_behind;
use crate::error::Error;
use crate::format::manifest::Manifest;
use crate::format::names::{CLEAN_SHUTDOWN, log_name, run_name, snapshot_name, txn_index_name};
use crate::segment::scan::Density;
use crate::types::{LeaderEpoch, LogPoint, Offset, Position};

/// What was decided before.
#[derive(Debug)]
pub(super) struct Decision {
    /// As read or put together; here it becomes the one that is written, unless the log is clean.
    pub(super) manifest: Manifest,
    /// How many of the oldest segments lie below the log start and are not part of `files`.
    pub(super) below: usize,
    /// When these go.
    pub(super) drop: Drop,
    /// The cut of a truncation that this recovery finishes.
    pub(super) finished_intent: Option<Offset>,
    pub(super) clean: bool,
    pub(super) first_base: FirstBase,
    /// Below this offset `.txnindex` files are believed.
    pub(super) believed: Offset,
    pub(super) report: RecoveryReport,
}

/// When segments below the log start are deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drop {
    /// At once: the manifest that was read says that they are gone.
    AtOnce,
    /// Once a manifest says so: all that is known of the producers stands in them.
    Named,
}

pub(super) fn assemble(
    context: &Context<'_>,
    files: &LogFiles<'_>,
    decision: Decision,
    built: Built,
) -> Result<Plan, Error> {
    let Decision { mut manifest, below, drop, finished_intent, clean, first_base, believed, mut report } =
        decision;
    let passed = &built.passed;
    let end = passed.end;

    let active = passed.last_segment;
    let create_segment = (files.count() == 0).then_some(end.offset);
    let active_base = files.get(active).map_or(end.offset, |segment| segment.base);
    let active_len = if end.segment == active { end.position.0 } else { 0 };
    let log_end = end.offset.max(active_base);

    let tail = Tail {
        active,
        active_len,
        end: end.offset,
        stop: &passed.stop,
        intended: finished_intent
            .is_some_and(|cut| end.offset >= cut || passed.stop == super::walk::Stop::Limit),
        same_boot: manifest.boot_id != [0; 16] && manifest.boot_id == context.storage.boot_id(),
    };
    let cuts = cuts::of(context, files, &tail, &mut report)?;

    let mut unlinks = Vec::new();
    if !clean {
        let dropped = context.inventory.segments.get(..below).unwrap_or_default();
        for segment in dropped {
            unlinks.push(log_name(segment.base));
        }
        let gone = |base: Offset| {
            dropped.iter().any(|segment| segment.base == base)
                || cuts.iter().any(|cut| cut.whole && cut.segment == base)
        };
        unlinks.extend(
            context.inventory.indexes.iter().filter(|(base, _)| gone(*base)).map(|(_, name)| name.clone()),
        );
        // A segment that gets such a base later would take the entries for its own.
        let exists = |base: Offset| context.inventory.segments.iter().any(|segment| segment.base == base);
        let indexes = context.inventory.indexes.iter();
        unlinks.extend(
            indexes
                .filter(|(base, name)| !exists(*base) && *name == txn_index_name(*base))
                .map(|(_, name)| name.clone()),
        );
        // A log that begins anew knows none of the producers before.
        let anew = files.count() == 0 && (finished_intent.is_some() || drop == Drop::Named);
        let stale = |snapshot: Offset| {
            anew || snapshot > log_end || dropped.iter().any(|segment| segment.base == snapshot)
        };
        unlinks.extend(
            context.inventory.snapshots.iter().filter(|end| stale(**end)).map(|end| snapshot_name(*end)),
        );
    }

    let unfinished = context.inventory.replacement.and_then(Replacement::unfinished);
    if let Some(end) = unfinished {
        report.note(format!(
            "the compaction of offsets {} to {} that was begun is finished",
            end.segment, end.offset
        ));
    }
    let first = files.first().unwrap_or(Offset::ZERO);
    if first > manifest.log_start_offset {
        report.note(format!(
            "the log starts at offset {first}: the batches from {} on were removed by another program",
            manifest.log_start_offset
        ));
    }
    manifest.log_start_offset = manifest.log_start_offset.max(first).min(log_end);
    let segments: Vec<SegmentFacts> = (0..files.count())
        .take_while(|index| *index <= active)
        .filter_map(|index| {
            let segment = files.get(index)?;
            let next = files.get(index + 1).filter(|_| index < active).map_or(log_end, |next| next.base);
            let len = if index == active { active_len } else { segment.len };
            Some(SegmentFacts { base: segment.base, len, next_offset: next })
        })
        .collect();
    let end_point = if end.segment == active && files.count() > 0 {
        files.point(&end)
    } else {
        LogPoint::segment_start(active_base)
    };
    // Behind a gap the log goes on where an empty segment begins: a watermark at the last batch would let the next
    // recovery end it there, and give offsets out a second time.
    let durable_end = if files.count() == 0 || log_end > end.offset { end_point } else { files.point(&end) };

    let rewrite = passed.tail.filter(|tail| !clean && tail.offset < end.offset);
    report.rewritten_bytes =
        rewrite.map_or(0, |from| bytes_between(files, from.segment, from.position, &end));
    let sync_from = passed.tail.filter(|_| !clean).and_then(|tail| files.get(tail.segment.min(active)));
    let sync_from_segment = match sync_from {
        Some(segment) => Some(segment.base),
        None => cuts.iter().filter(|cut| !cut.whole).map(|cut| cut.segment).next(),
    };

    let used = |number: &u64| {
        let named = manifest.chain.iter().chain(&manifest.previous_chain);
        named.into_iter().any(|run| run.number == *number)
    };
    let mut leftovers = Vec::new();
    let next_run_number = manifest.next_run_number.max(number_behind(&context.inventory.runs));
    if !clean {
        leftovers.extend(
            context.inventory.runs.iter().filter(|number| !used(number)).map(|number| run_name(*number)),
        );
        leftovers.extend(context.inventory.temporaries.iter().cloned());
        leftovers.extend(context.inventory.deleted.iter().cloned());
        if drop == Drop::Named {
            leftovers.append(&mut unlinks);
        }
        // Another program's are its own to delete.
        if matches!(report.kind, RecoveryKind::Unclean | RecoveryKind::ManifestLost) {
            leftovers.extend(context.inventory.cleaned.iter().cloned());
        }
        manifest.compaction.replacement = None;
        // What follows behind a salvage that went below them no round has seen, and its batches are all there.
        manifest.compaction.clean_to = manifest.compaction.clean_to.min(log_end);
        manifest.compaction.reached = manifest.compaction.reached.min(log_end);
        manifest.sequence = manifest.sequence.saturating_add(1);
        manifest.next_run_number = next_run_number;
        manifest.watermark = durable_end;
        manifest.intent = None;
        manifest.failed_sync = None;
        manifest.clean_close = None;
        manifest.boot_id = context.storage.boot_id();
    }

    if built.odd_markers > 0 {
        report.note(format!(
            "{} control batches have no marker that can be read: passed over",
            built.odd_markers
        ));
    }
    report.log_start_offset = manifest.log_start_offset;
    report.log_end_offset = log_end;
    report.scanned_bytes = passed.scanned;
    report.replayed_bytes = built.bytes;
    report.unverified_bytes = built.unverified;
    report.replayed_batches = built.batches;
    report.dirty_producers = built.producers.len() as u64;
    report.deleted = unlinks.iter().chain(&leftovers).cloned().collect();

    let notes = Notes { listed: &manifest.txn_indexes, proven: clean, cut: finished_intent.is_some() };
    let sources = Sources { facts: &built.facts, from: built.from, believed, active, log_end, notes };
    let aborted = aborted::of_segments(context, files, sources, &mut report)?;
    if !clean {
        manifest.txn_indexes = aborted.notes;
    }
    let aborted = aborted.segments;
    let Settled { epochs: leader_epochs, write: epoch_file } =
        epoch_file::settle(context, built.facts.leader_epochs, log_end, clean, &mut report)?;
    let leader_epoch = last_leader_epoch(files, active, &end)?
        .max(leader_epochs.latest().map_or(LeaderEpoch::NONE, |start| start.epoch));
    let ever_written = log_end > Offset::ZERO || manifest.log_start_offset > Offset::ZERO;
    let clean_shutdown = match context.dir.parent().map(|root| root.join(CLEAN_SHUTDOWN)) {
        Some(path) if !clean && exists(context.storage, &path)? => Some(path),
        _ => None,
    };
    let outcome = Recovered {
        report,
        chain: built.chain,
        previous_chain: manifest.previous_chain.clone(),
        producers: built.producers,
        segments,
        end: end_point,
        leader_epoch,
        leader_epochs,
        open_txns: built.open_txns,
        completed_txns: built.facts.completed_txns,
        aborted,
        replayed_from: built.from,
        log_start_offset: manifest.log_start_offset,
        next_run_number,
        clean,
        ever_written,
        manifest,
    };
    Ok(Plan {
        outcome,
        finish: unfinished,
        cuts,
        unlinks,
        leftovers,
        rewrite_from: rewrite.map(|place| files.point(&place)),
        sync_from_segment,
        create_segment,
        clean_shutdown,
        epoch_file,
        first_base,
    })
}

/// Leader epoch of the batch before the log end. Where the active segment is empty and nothing that was read knows it,
/// the headers of the segment before are read.
fn last_leader_epoch(files: &LogFiles<'_>, active: usize, end: &Place) -> Result<LeaderEpoch, Error> {
    let mut index = active;
    let mut epoch = end.leader_epoch;
    while epoch == LeaderEpoch::NONE && end.last_batch.is_none() && index > 0 {
        index -= 1;
        let base = files.get(index).map_or(Offset::ZERO, |segment| segment.base);
        let route = Route {
            from: Place::start_of(index, base),
            until_segment: index,
            limit: None,
            depth: Depth::Headers,
            density: Density::Sparse,
            progress: None,
        };
        let walked = walk::<Error>(files, route, |_| Ok(Seen::Taken))?;
        epoch = walked.end.leader_epoch;
        if walked.batches > 0 {
            break;
        }
    }
    Ok(epoch)
}

fn bytes_between(files: &LogFiles<'_>, segment: usize, from: Position, end: &Place) -> u64 {
    if segment == end.segment {
        return end.position.0.saturating_sub(from.0);
    }
    let first = files.get(segment).map_or(0, |segment| segment.len.saturating_sub(from.0));
    let between = (segment + 1..end.segment).filter_map(|index| files.get(index)).map(|segment| segment.len);
    between.fold(first.saturating_add(end.position.0), u64::saturating_add)
}
