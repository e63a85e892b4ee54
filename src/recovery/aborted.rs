//! The aborted transactions of the segments, as their `.txnindex` files must have them.
//!
//! Invariant: what stands in a file below the place from which the log was read was durable before the checkpoint was,
//! and is taken from there if it is what the manifest notes; the rest follows from the batches, whatever stands in a
//! file. Only files that are not as they must be are written again.

use std::collections::BTreeSet;
use std::path::Path;

use super::log_files::{LogFiles, Place};
use super::plan::Context;
use super::replay::{Fold, Halt, LogFacts};
use super::report::RecoveryReport;
use super::walk::{Depth, Route, walk};
use crate::error::{Error, Malformed};
use crate::format::index_entry::AbortedTxn;
use crate::format::names::{LeftoverSuffix, suffixed, txn_index_name};
use crate::format::txn_index_note::{MAX_TXN_INDEX_NOTES, TxnIndexNote};
use crate::index::read_txn_index;
use crate::segment::scan::Density;
use crate::storage::read_all;
use crate::testing::{self, Break};
use crate::types::{EngineTime, Offset};

/// Room for more than 30 million transactions.
const MAX_INDEX_SIZE: u64 = 1 << 30;

/// The aborted transactions of one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentAborted {
    /// Base offset of the segment.
    pub base: Offset,
    /// In the order of their markers.
    pub entries: Vec<AbortedTxn>,
    /// Whether the file says the same and is durable.
    pub stored: bool,
}

/// What the manifest that was read says of the files.
#[derive(Clone, Copy, Debug)]
pub(super) struct Notes<'a> {
    pub(super) listed: &'a [TxnIndexNote],
    /// Whether nothing will be written: then all of them were proven already.
    pub(super) proven: bool,
    /// Whether a truncation is finished, which may have cut the files behind the checkpoint before.
    pub(super) cut: bool,
}

impl Notes<'_> {
    fn of(&self, base: Offset) -> Option<TxnIndexNote> {
        let at = self.listed.binary_search_by_key(&base, |note| note.base).ok()?;
        self.listed.get(at).copied()
    }
}

/// Where the state comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sources<'a> {
    /// What the batches from `from` on have shown.
    pub(super) facts: &'a LogFacts,
    pub(super) from: Offset,
    /// Below this offset files are believed where they can be read. Our own are up to `from`, Kafka's as far as Kafka
    /// made them durable.
    pub(super) believed: Offset,
    /// Number of the active segment.
    pub(super) active: usize,
    pub(super) log_end: Offset,
    pub(super) notes: Notes<'a>,
}

/// What is known of the files.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Of the segments from the one that holds `from`, and of those below whose file is not as noted.
    pub(super) segments: Vec<SegmentAborted>,
    /// What the next manifest notes.
    pub(super) notes: Vec<TxnIndexNote>,
}

/// The aborted transactions of all segments.
pub(super) fn of_segments(
    context: &Context<'_>,
    files: &LogFiles<'_>,
    sources: Sources<'_>,
    report: &mut RecoveryReport,
) -> Result<Files, Error> {
    // The segment that holds `from` may be one that is cut away: the active one is looked at in any case.
    let first = files.covering(sources.from).unwrap_or(0).min(sources.active);
    let there = files_there(context);
    let mut all = Files::default();
    let below = if sources.notes.proven { first } else { 0 };
    for index in below..files.count().min(sources.active.saturating_add(1)) {
        let Some(base) = files.get(index).map(|segment| segment.base) else { break };
        let next = files.get(index + 1).filter(|_| index < sources.active);
        let next = next.map_or(sources.log_end, |next| next.base);
        let noted = sources.notes.of(base);
        if index >= first {
            let noted = noted.filter(|_| !sources.notes.cut);
            let bytes = if there.contains(&base) { read(context, base)? } else { None };
            let segment = of_segment(files, sources, index, base..next, Stored { bytes, noted }, report)?;
            all.notes.extend(segment.note());
            all.segments.push(segment);
        } else if noted.is_some() || there.contains(&base) {
            let file = Stored { bytes: read(context, base)?, noted };
            match file.entries(base, next) {
                Some(Err(malformed)) => {
                    report.reject(txn_index_name(base), malformed);
                    let entries = from_headers(files, index, next)?;
                    let segment = SegmentAborted { base, entries, stored: false };
                    all.notes.extend(segment.note());
                    all.segments.push(segment);
                }
                Some(Ok(_)) | None => {
                    all.notes.extend(TxnIndexNote::of(base, &file.bytes.unwrap_or_default()))
                }
            }
        }
    }
    all.notes.drain(..all.notes.len().saturating_sub(MAX_TXN_INDEX_NOTES));
    Ok(all)
}

/// Whether all files begin with what the manifest notes of them. A note whose segment is gone says nothing.
pub(super) fn all_as_noted(
    context: &Context<'_>,
    files: &LogFiles<'_>,
    notes: &[TxnIndexNote],
) -> Result<bool, Error> {
    for note in notes.iter().filter(|note| files.index_of(note.base).is_some()) {
        if note.check(&read(context, note.base)?.unwrap_or_default()).is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Base offsets of the `.txnindex` files in the directory.
fn files_there(context: &Context<'_>) -> BTreeSet<Offset> {
    let indexes = context.inventory.indexes.iter();
    let replaced = context.inventory.replacement.map(|replacement| replacement.end.segment);
    let there = indexes.filter(|(base, name)| *name == txn_index_name(*base)).map(|(base, _)| *base);
    there.chain(replaced).collect()
}

fn read(context: &Context<'_>, base: Offset) -> Result<Option<Vec<u8>>, Error> {
    let read = |path: &Path| {
        read_all(&**context.storage, path, MAX_INDEX_SIZE).map_err(|e| Error::io("read", path, e))
    };
    // Beside a compacted segment that has not its name yet, or not all of them, stands what belongs to it.
    if context.inventory.replacement.is_some_and(|replacement| replacement.end.segment == base)
        && let Some(bytes) = read(&context.dir.join(suffixed(&txn_index_name(base), LeftoverSuffix::Swap)))?
    {
        return Ok(Some(bytes));
    }
    read(&context.dir.join(txn_index_name(base)))
}

/// A file as it was found.
#[derive(Debug)]
struct Stored {
    bytes: Option<Vec<u8>>,
    noted: Option<TxnIndexNote>,
}

impl Stored {
    /// Its entries whose markers lie below `end`; `None` if there is no file and none was noted.
    fn entries(&self, base: Offset, end: Offset) -> Option<Result<Vec<AbortedTxn>, Malformed>> {
        let bytes = match (&self.bytes, &self.noted) {
            (None, None) => return None,
            (bytes, _) => bytes.as_deref().unwrap_or_default(),
        };
        let as_noted = self.noted.map_or(Ok(()), |note| note.check(bytes));
        Some(as_noted.and_then(|()| read_txn_index(base, bytes, end)))
    }
}

impl SegmentAborted {
    fn to_bytes(&self) -> Vec<u8> {
        self.entries.iter().flat_map(|entry| entry.to_bytes()).collect()
    }

    fn note(&self) -> Option<TxnIndexNote> {
        TxnIndexNote::of(self.base, &self.to_bytes())
    }
}

fn of_segment(
    files: &LogFiles<'_>,
    sources: Sources<'_>,
    index: usize,
    offsets: std::ops::Range<Offset>,
    file: Stored,
    report: &mut RecoveryReport,
) -> Result<SegmentAborted, Error> {
    let std::ops::Range { start: base, end: next } = offsets;
    let believed = sources.believed.min(next);
    let shown = |from: Offset, to: Offset| {
        let aborted = &sources.facts.aborted_txns;
        let range = aborted.partition_point(|txn| txn.last_offset < from)
            ..aborted.partition_point(|txn| txn.last_offset < to);
        aborted.get(range).unwrap_or_default().iter().copied()
    };
    let mut entries = match file.entries(base, believed) {
        Some(Ok(_)) if testing::broken(Break::LoseAbortedIndex) => Vec::new(),
        Some(Ok(entries)) => entries,
        // Where nothing was aborted there is no file, and compaction by Kafka takes it away with the records.
        None => shown(base, believed).collect(),
        Some(Err(malformed)) => {
            report.reject(txn_index_name(base), malformed);
            if base < sources.from { from_headers(files, index, believed)? } else { Vec::new() }
                .into_iter()
                .filter(|txn| txn.last_offset < sources.from)
                .chain(shown(base.max(sources.from), believed))
                .collect()
        }
    };
    let behind = shown(base.max(believed), next);
    let replayed = behind.clone().next().is_some();
    entries.extend(behind);
    let bytes = file.bytes;
    add_begun_before(&mut entries, sources, base.max(believed)..next, bytes.as_deref(), base);
    let segment = SegmentAborted { base, entries, stored: false };
    let stored = !replayed && bytes.unwrap_or_default() == segment.to_bytes();
    Ok(SegmentAborted { stored, ..segment })
}

/// Transactions that Kafka aborted and that began below the first offset present: only the file knows where. An entry
/// is believed if the log has an abort marker at its place.
fn add_begun_before(
    entries: &mut Vec<AbortedTxn>,
    sources: Sources<'_>,
    range: std::ops::Range<Offset>,
    bytes: Option<&[u8]>,
    base: Offset,
) {
    let orphans = &sources.facts.aborts_without_begin;
    let Some(Ok(read)) = bytes.filter(|_| !orphans.is_empty()).map(|b| read_txn_index(base, b, range.end))
    else {
        return;
    };
    let before = entries.len();
    entries.extend(read.into_iter().filter(|txn| {
        range.contains(&txn.last_offset)
            && orphans
                .binary_search_by_key(&txn.last_offset, |(_, marker)| *marker)
                .is_ok_and(|at| orphans.get(at).is_some_and(|(producer, _)| *producer == txn.producer))
    }));
    if entries.len() > before {
        entries.sort_unstable_by_key(|txn| txn.last_offset);
    }
}

/// The aborted transactions of a segment, up to `end`, from the headers of the whole log: for a damaged file.
fn from_headers(files: &LogFiles<'_>, index: usize, end: Offset) -> Result<Vec<AbortedTxn>, Error> {
    let first = files.first().unwrap_or(Offset::ZERO);
    let base = files.get(index).map_or(first, |segment| segment.base);
    let mut fold = Fold::new(None, LogFacts::default(), EngineTime(0));
    let route = Route {
        from: Place::start_of(0, first),
        until_segment: index,
        limit: Some(end),
        depth: Depth::Headers,
        density: Density::Sparse,
        progress: None,
    };
    match walk(files, route, |visit| fold.visit(files, &visit)) {
        Ok(_) => {}
        Err(Halt::Error(error) | Halt::Chain(error)) => return Err(error),
    }
    let mut found = std::mem::take(&mut fold.facts.aborted_txns);
    found.retain(|txn| txn.last_offset >= base);
    Ok(found)
}
