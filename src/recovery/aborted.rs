//! The aborted transactions of the segments behind a checkpoint, as their `.txnindex` files must have them.
//!
//! Invariant: what stands in a file below the place from which the log was read was durable before the checkpoint was,
//! and is taken from there; the rest follows from the batches, whatever stands in a file. Only files that are not as
//! they must be are written again.

use super::log_files::{LogFiles, Place};
use super::plan::Context;
use super::replay::{Fold, Halt, LogFacts};
use super::report::RecoveryReport;
use super::walk::{Depth, Route, walk};
use crate::error::Error;
use crate::format::index_entry::AbortedTxn;
use crate::format::names::txn_index_name;
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
}

/// The aborted transactions of all segments from the one that holds `from`.
pub(super) fn of_segments(
    context: &Context<'_>,
    files: &LogFiles<'_>,
    sources: Sources<'_>,
    report: &mut RecoveryReport,
) -> Result<Vec<SegmentAborted>, Error> {
    let first = files.covering(sources.from).unwrap_or(0);
    let mut all = Vec::new();
    for index in first..files.count().min(sources.active.saturating_add(1)) {
        let Some(segment) = files.get(index) else { break };
        let next = files.get(index + 1).filter(|_| index < sources.active);
        let next = next.map_or(sources.log_end, |next| next.base);
        all.push(of_segment(context, files, sources, index, segment.base, next, report)?);
    }
    Ok(all)
}

fn of_segment(
    context: &Context<'_>,
    files: &LogFiles<'_>,
    sources: Sources<'_>,
    index: usize,
    base: Offset,
    next: Offset,
    report: &mut RecoveryReport,
) -> Result<SegmentAborted, Error> {
    let name = txn_index_name(base);
    let there = context.inventory.indexes.iter().any(|(_, known)| *known == name);
    let path = context.dir.join(&name);
    let bytes = if there {
        read_all(&**context.storage, &path, MAX_INDEX_SIZE).map_err(|e| Error::io("read", &path, e))?
    } else {
        None
    };
    let believed = sources.believed.min(next);
    let shown = |from: Offset, to: Offset| {
        let aborted = &sources.facts.aborted_txns;
        let range = aborted.partition_point(|txn| txn.last_offset < from)
            ..aborted.partition_point(|txn| txn.last_offset < to);
        aborted.get(range).unwrap_or_default().iter().copied()
    };
    let read = bytes.as_deref().map(|bytes| read_txn_index(base, bytes, believed));
    let mut entries = match &read {
        Some(Ok(_)) if testing::broken(Break::LoseAbortedIndex) => Vec::new(),
        Some(Ok(entries)) => entries.clone(),
        // Where nothing was aborted there is no file, and compaction by Kafka takes it away with the records.
        None => shown(base, believed).collect(),
        Some(Err(malformed)) => {
            report.reject(name, malformed);
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
    add_begun_before(&mut entries, sources, base.max(believed)..next, bytes.as_deref(), base);
    let as_bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_bytes()).collect();
    let stored = !replayed && bytes.unwrap_or_default() == as_bytes;
    Ok(SegmentAborted { base, entries, stored })
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
