//! Plans for a directory that Kafka wrote.
//!
//! Invariant: the result is at least Kafka's own: the log ends where Kafka would end it or not at all (what Kafka would
//! cut below its recovery point is refused), and every producer that Kafka's `.snapshot` or a batch header names is
//! there. What Kafka would throw away is kept aside.

use super::assemble::{Decision, Drop, assemble};
use super::corrupt;
use super::kafka_root::KafkaRoot;
use super::log_files::{LogFiles, Place};
use super::options::Salvage;
use super::passes::{Course, Durable, pass};
use super::plan::{Context, FirstBase, Plan};
use super::replay::{Fold, Halt, LogFacts};
use super::report::{RecoveryKind, RecoveryReport};
use super::short_log;
use super::snapshot::{self, Candidate};
use super::state::Built;
use super::walk::{Damage, DamageShape, Depth, Route, Seen, Stop, walk};
use crate::checkpoint::Chain;
use crate::error::{Corruption, Error, Malformed};
use crate::format::batch::LOG_OVERHEAD;
use crate::format::cursor::Cursor;
use crate::format::manifest::Manifest;
use crate::format::names::snapshot_name;
use crate::segment::scan::{DamageKind, Density};
use crate::types::{History, LogPoint, Offset};

/// Where the CRC of a message before format 2 stands: behind offset and size.
const OLD_CRC_AT: usize = LOG_OVERHEAD;

/// Plans for a directory without any file of ours: empty, or Kafka's.
pub(super) fn plan_fresh(context: &Context<'_>) -> Result<Plan, Error> {
    let root = KafkaRoot::read(context)?;
    let files = LogFiles::new(context.storage, context.dir, &context.inventory.segments);
    let empty = files.count() == 0;
    let kind = match (empty, root.clean_shutdown) {
        (true, _) => RecoveryKind::NewLog,
        (false, true) => RecoveryKind::KafkaClean,
        (false, false) => RecoveryKind::KafkaUnclean,
    };
    let mut report = RecoveryReport::new(kind);
    for note in &root.notes {
        report.note(note.clone());
    }
    refuse_unfinished_compaction(context)?;
    let first = files.first().unwrap_or(Offset::ZERO);
    let (durable, watermark) = durable(context, &files, &root, &mut report)?;
    report.watermark = watermark;
    let log_start = first.max(root.log_start_offset.unwrap_or(Offset::ZERO));
    let manifest = Manifest::first(watermark, log_start);
    plan_adoption(context, &files, &root, manifest, durable, report)
}

/// A crash of Kafka in the middle of putting compacted segments in place: only Kafka knows how to finish it.
pub(super) fn refuse_unfinished_compaction(context: &Context<'_>) -> Result<(), Error> {
    let Some(name) = context.inventory.swaps.first() else { return Ok(()) };
    Err(Error::Corrupt(Box::new(Corruption {
        path: context.dir.join(name),
        bytes: 0..0,
        offsets: None,
        what: "compaction by Kafka that was not finished".to_owned(),
        expected: "no .swap file".to_owned(),
        found: format!("{} of them", context.inventory.swaps.len()),
        advice: "start and stop Kafka once on this directory: it finishes the compaction".to_owned(),
    })))
}

/// Message sets of Kafka before 0.11 are no damage, and are not ours to cut.
fn refuse_old_format(files: &LogFiles<'_>, damage: &Damage) -> Result<(), Error> {
    let Some(segment) = files.get(damage.segment) else { return Ok(()) };
    let path = files.path(damage.segment);
    let mut head = [0; OLD_CRC_AT + 5];
    let left = segment.len.saturating_sub(damage.position.0);
    if left < head.len() as u64 {
        return Ok(());
    }
    let file = files.file(damage.segment)?;
    file.read_exact_at(&mut head, damage.position.0).map_err(|e| Error::io("read", &path, e))?;
    let mut cursor = Cursor::new(&head);
    let fields =
        cursor.i64("offset").and_then(|_| Ok((cursor.i32("size")?, cursor.u32("CRC")?, cursor.i8("magic")?)));
    let Ok((size, crc, magic @ (0 | 1))) = fields else { return Ok(()) };
    // The CRC (IEEE) covers what stands behind it; no damaged batch of today's format comes by a right one.
    let Some(covered) = usize::try_from(size).ok().and_then(|size| size.checked_sub(4)) else {
        return Ok(());
    };
    if (LOG_OVERHEAD as u64).saturating_add(covered as u64 + 4) > left {
        return Ok(());
    }
    let mut bytes = Vec::new();
    let at = damage.position.saturating_add(OLD_CRC_AT as u64 + 4).0;
    file.read_to(&mut bytes, covered, at).map_err(|e| Error::io("read", &path, e))?;
    if crc32fast::hash(&bytes) != crc {
        return Ok(());
    }
    Err(Error::Corrupt(Box::new(Corruption {
        path,
        bytes: damage.position.0..damage.position.0.saturating_add((LOG_OVERHEAD + covered + 4) as u64),
        offsets: None,
        what: "message format".to_owned(),
        expected: "2".to_owned(),
        found: format!("{magic}, as Kafka wrote it before 0.11"),
        advice: "copy the topic with a client: a consumer and a producer of today write format 2".to_owned(),
    })))
}

/// How far Kafka made the log durable.
pub(super) fn durable(
    context: &Context<'_>,
    files: &LogFiles<'_>,
    root: &KafkaRoot,
    report: &mut RecoveryReport,
) -> Result<(Durable, LogPoint), Error> {
    let Some(first) = files.first() else {
        let start = root.log_start_offset.unwrap_or(Offset::ZERO);
        return Ok((Durable::To(Place::start_of(0, start)), LogPoint::segment_start(start)));
    };
    if root.clean_shutdown {
        let last = files.last().map_or(first, |last| last.base);
        return Ok((Durable::All, LogPoint::segment_start(last)));
    }
    let Some(recovery_point) = root.recovery_point.filter(|point| *point > first) else {
        report.note("Kafka left no recovery point: the whole log is checked and written again");
        return Ok((Durable::To(Place::start_of(0, first)), LogPoint::segment_start(first)));
    };
    let index = files.covering(recovery_point).unwrap_or(0);
    let base = files.get(index).map_or(first, |segment| segment.base);
    let route = Route {
        from: Place::start_of(index, base),
        until_segment: index,
        limit: Some(recovery_point),
        depth: Depth::Headers,
        density: Density::Sparse,
        progress: None,
    };
    let walked = walk::<Error>(files, route, |_| Ok(Seen::Taken))?;
    let place = walked.end;
    let point = files.point(&place);
    let is_last = index + 1 == files.count();
    let short = is_last && walked.stop == Stop::EndOfLog && place.offset < recovery_point;
    let damage = match walked.stop {
        Stop::Damage(damage) => Some(damage),
        Stop::EndOfLog if short => Some(Damage {
            segment: index,
            position: place.position,
            kind: DamageShape::Discontinuity,
            malformed: Malformed::new(
                "end of the durable log",
                0,
                format!("Kafka's recovery point, offset {recovery_point}"),
                format!("the end of the log at offset {}", place.offset),
            ),
        }),
        Stop::EndOfLog | Stop::Limit => None,
    };
    if let Some(damage) = &damage {
        refuse_old_format(files, damage)?;
    }
    match damage {
        Some(damage) if context.options.salvage == Salvage::Refuse => {
            let claimed = LogPoint { offset: recovery_point, ..point };
            Err(corrupt::below_watermark(files, &damage, &claimed, place.offset))
        }
        Some(damage) => {
            report.note(format!(
                "salvaged below Kafka's recovery point {recovery_point}: {}",
                damage.malformed
            ));
            report.salvaged = true;
            Ok((Durable::To(place), point))
        }
        None => Ok((Durable::To(place), point)),
    }
}

/// Makes a log that Kafka wrote ours: its state from `.snapshot` and batch headers.
pub(super) fn plan_adoption(
    context: &Context<'_>,
    files: &LogFiles<'_>,
    root: &KafkaRoot,
    mut manifest: Manifest,
    durable: Durable,
    mut report: RecoveryReport,
) -> Result<Plan, Error> {
    let first = files.first().unwrap_or(manifest.log_start_offset);
    let mut refused = Vec::new();
    let (candidates, built) = loop {
        let candidates = snapshot::candidates(context, first, &refused, &mut report)?;
        match fold_all(context, files, first, &manifest, durable, &candidates)? {
            Ok(built) => break (candidates, built),
            Err((end, reason)) => {
                report.reject(snapshot_name(end), reason);
                refused.push(end);
            }
        }
    };
    if let Stop::Damage(damage) = &built.passed.stop {
        refuse_old_format(files, damage)?;
    }
    report.snapshot = candidates.first().map(|newest| snapshot_name(newest.end));
    if built.passed.damaged_below && context.options.salvage == Salvage::Refuse {
        let watermark = LogPoint { offset: end_claim(files, root), ..report.watermark };
        return Err(match &built.passed.stop {
            Stop::Damage(damage) => {
                corrupt::below_watermark(files, damage, &watermark, built.passed.end.offset)
            }
            Stop::EndOfLog | Stop::Limit => corrupt::no_segment(context.dir, files, &watermark),
        });
    }
    if built.passed.damaged_below {
        report.salvaged = true;
    }
    prove_last_batch(context, files, &built.passed.end)?;
    if report.salvaged {
        manifest.history = History::Salvaged;
    }
    if durable == Durable::All {
        report.watermark = files.point(&built.passed.end);
    }
    if first > Offset::ZERO && candidates.is_empty() {
        report.note(format!(
            "no .snapshot of Kafka could be used and the log begins at offset {first}: producers whose batches are \
             all gone are not known, as they would not be to Kafka"
        ));
    }
    // An empty log that begins later is no whole log either: nothing shows that no batch was before it.
    let at_zero = first == Offset::ZERO && files.last().is_none_or(|last| last.base == Offset::ZERO);
    let empty = built.batches == 0 && at_zero;
    // Even without producers: compaction may have left gaps, which the log of ours that begins here must not have, so
    // a state that is put together from the whole log would end at the first of them.
    let first_base =
        if empty && built.producers.is_empty() { FirstBase::NotNeeded } else { FirstBase::Needed };
    manifest.chain = Vec::new();
    manifest.previous_chain = Vec::new();
    let believed = match durable {
        Durable::All => Offset(i64::MAX),
        Durable::To(place) => place.offset,
    };
    let decision = Decision {
        manifest,
        below: 0,
        drop: Drop::AtOnce,
        finished_intent: None,
        clean: false,
        first_base,
        believed,
        report,
    };
    if short_log::ends_below_its_start(context, files, &decision, &built) {
        return short_log::begin_at_log_start(context, files, decision, built);
    }
    assemble(context, files, decision, built)
}

/// The batch that our watermark will name. Only its header may have been read, and the next opening proves it.
fn prove_last_batch(context: &Context<'_>, files: &LogFiles<'_>, end: &Place) -> Result<(), Error> {
    let point = files.point(end);
    let Some((position, batch)) = point.last_batch else { return Ok(()) };
    if context.options.salvage == Salvage::Cut || files.last_batch_is_sound(&point)? {
        return Ok(());
    }
    let malformed = Malformed::new("CRC", 0, format!("{:#010x}", batch.crc), "another over the bytes");
    let damage =
        Damage { segment: end.segment, position, kind: DamageShape::Bytes(DamageKind::BadCrc), malformed };
    Err(corrupt::below_watermark(files, &damage, &point, batch.last_offset))
}

/// What a refusal says was durable.
fn end_claim(files: &LogFiles<'_>, root: &KafkaRoot) -> Offset {
    root.recovery_point.unwrap_or_else(|| files.last().map_or(Offset::ZERO, |last| last.base))
}

/// One fold over all headers from the first segment on, with the newest snapshot put in at its offset.
fn fold_all(
    context: &Context<'_>,
    files: &LogFiles<'_>,
    first: Offset,
    manifest: &Manifest,
    durable: Durable,
    candidates: &[Candidate],
) -> Result<Result<Built, (Offset, String)>, Error> {
    let seen = manifest.engine_time;
    let mut fold = Fold::new(None, LogFacts::default(), seen);
    let newest = candidates.first();
    if let Some(oldest) = candidates.iter().find(|candidate| candidate.end == first) {
        fold.put_in(&oldest.entries);
    }
    let mut waiting = newest.filter(|newest| newest.end > first);
    let mut contradiction = None;
    let course = Course {
        from: Place::start_of(0, first),
        durable,
        below: if context.options.salvage == Salvage::Cut { Depth::Checked } else { Depth::Headers },
        density_below: Density::Sparse,
        density_above: Density::Sparse,
        limit: None,
    };
    let passed = pass(files, course, context.options, |visit| {
        if let Some(snapshot) = waiting
            && visit.header.next_offset() > snapshot.end
        {
            waiting = None;
            let inside = visit.header.base_offset < snapshot.end;
            let said = if inside {
                Some("a batch lies across its end".to_owned())
            } else {
                snapshot::contradiction(&fold, &snapshot.entries)
            };
            match said {
                Some(reason) => contradiction = Some((snapshot.end, reason)),
                None => fold.put_in(&snapshot.entries),
            }
        }
        fold.visit(files, visit)
    });
    let passed = match passed {
        Ok(passed) => passed,
        Err(Halt::Error(error) | Halt::Chain(error)) => return Err(error),
    };
    if let Some(snapshot) = waiting {
        let active = files.get(passed.last_segment).map_or(first, |segment| segment.base);
        let end = passed.end.offset.max(active);
        if snapshot.end > end {
            let reason = format!("it covers offsets up to {}, above the end of the log, {end}", snapshot.end);
            return Ok(Err((snapshot.end, reason)));
        }
        match snapshot::contradiction(&fold, &snapshot.entries) {
            Some(reason) => contradiction = Some((snapshot.end, reason)),
            None => fold.put_in(&snapshot.entries),
        }
    }
    if let Some(contradiction) = contradiction {
        return Ok(Err(contradiction));
    }
    let (batches, bytes, unverified, odd_markers) =
        (fold.batches, fold.bytes, fold.unverified, fold.odd_markers);
    let open_txns = match fold.open_transactions() {
        Ok(open_txns) => open_txns,
        Err(Halt::Error(error) | Halt::Chain(error)) => return Err(error),
    };
    let facts = std::mem::take(&mut fold.facts);
    let producers = fold.into_producers();
    let chain = Chain::empty();
    Ok(Ok(Built {
        passed,
        producers,
        facts,
        open_txns,
        from: first,
        batches,
        bytes,
        unverified,
        odd_markers,
        chain,
    }))
}
