//! What stands in the log's directory while nobody has it open.
//!
//! Invariant: only reads. What is read here decides which damage the test may do (a valid chain must remain) and how much
//! the next recovery may read.

use std::path::Path;

use anyhow::{Context, Result};
use oncelog::checkpoint::{self, ManifestState};
use oncelog::format::manifest::{Manifest, RunRef};
use oncelog::format::names::{self, FileName};
use oncelog::format::run::RunHeader;
use oncelog::storage::{Storage, read_all};
use oncelog::types::LogPoint;

/// A run of the crash test has at most some hundred producers.
const MAX_RUN: u64 = 16 << 20;

/// The directory.
#[derive(Clone, Debug)]
pub(super) struct Inspected {
    /// Base offset and length of each segment, oldest first.
    pub(super) segments: Vec<(i64, u64)>,
    /// The runs that the manifest names, base first, up to the first that cannot be read.
    pub(super) chain: Vec<Run>,
    pub(super) previous: Vec<Run>,
    /// The greatest watermark among manifest and slots.
    pub(super) watermark: Option<LogPoint>,
    /// What the manifest names as log start.
    pub(super) log_start: i64,
    /// The offset that each `.snapshot` is of.
    pub(super) snapshots: Vec<i64>,
}

/// A readable run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) number: u64,
    pub(super) end: LogPoint,
}

impl Inspected {
    pub(super) fn read(storage: &dyn Storage, dir: &Path) -> Result<Self> {
        let mut segments = Vec::new();
        let mut snapshots = Vec::new();
        for entry in storage.list(dir).with_context(|| format!("list {}", dir.display()))? {
            match FileName::parse(&entry.name) {
                FileName::Log(base) => segments.push((base.0, entry.len)),
                FileName::Snapshot(end) => snapshots.push(end.0),
                _ => {}
            }
        }
        segments.sort_unstable();
        let manifest = match checkpoint::read_manifest(storage, dir)? {
            ManifestState::Present(manifest) => Some(*manifest),
            _ => None,
        };
        let named = |runs: fn(&Manifest) -> &[RunRef]| match &manifest {
            Some(manifest) => readable(storage, dir, runs(manifest)),
            None => Vec::new(),
        };
        let chain = named(|manifest| &manifest.chain);
        let previous = named(|manifest| &manifest.previous_chain);
        let watermark = manifest.as_ref().map(|manifest| manifest.watermark);
        let log_start = manifest.as_ref().map_or(0, |manifest| manifest.log_start_offset.0);
        let generation = manifest.as_ref().map_or(0, |manifest| manifest.truncation_generation);
        let slots = checkpoint::read_slots(storage, dir)?;
        let slots = slots.iter().filter(|slot| slot.generation == generation).map(|slot| slot.point);
        let watermark = watermark.into_iter().chain(slots).max_by_key(|point| point.offset);
        Ok(Self { segments, chain, previous, watermark, log_start, snapshots })
    }

    /// The offset of the first batch there is; a segment wholly below the log start is there no more.
    pub(super) fn first_offset(&self) -> i64 {
        let ends = self.segments.iter().skip(1).map(|(base, _)| *base).chain([i64::MAX]);
        let mut present = self.segments.iter().zip(ends).skip_while(|(_, end)| *end <= self.log_start);
        present.next().map_or(0, |((base, _), _)| *base)
    }

    /// Whether all state can be had from the log alone.
    pub(super) fn is_whole(&self) -> bool {
        self.first_offset() == 0
    }

    /// Where the chains end that the next open can use, the furthest first; with `damaged`, that run is lost.
    pub(super) fn chain_ends(&self, damaged: Option<u64>) -> Vec<LogPoint> {
        let usable = |chain: &[Run]| -> Vec<LogPoint> {
            chain.iter().take_while(|run| Some(run.number) != damaged).map(|run| run.end).collect()
        };
        let mut ends = usable(&self.chain);
        ends.extend(usable(&self.previous));
        // The batch that ends there must be there, or nothing binds the chain to this log.
        ends.retain(|end| end.offset.0 > self.first_offset() && self.holds(end));
        ends.sort_by_key(|end| std::cmp::Reverse(end.offset));
        ends
    }

    /// Whether a producer's state can still be had if this run is lost.
    pub(super) fn survives_without(&self, damaged: u64) -> bool {
        self.is_whole() || !self.chain_ends(Some(damaged)).is_empty()
    }

    fn holds(&self, point: &LogPoint) -> bool {
        let mut segments = self.segments.iter();
        point.position.0 == 0
            || segments.any(|(base, len)| *base == point.segment.0 && *len >= point.position.0)
    }

    /// Bytes of log behind a place; of the whole log if there is none.
    pub(super) fn bytes_behind(&self, point: Option<&LogPoint>) -> u64 {
        let Some(point) = point else { return self.segments.iter().map(|(_, len)| len).sum() };
        let behind = |(base, len): &(i64, u64)| match base.cmp(&point.segment.0) {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Equal => len.saturating_sub(point.position.0),
            std::cmp::Ordering::Greater => *len,
        };
        self.segments.iter().map(behind).sum()
    }
}

fn readable(storage: &dyn Storage, dir: &Path, named: &[RunRef]) -> Vec<Run> {
    named.iter().map_while(|name| read_run(storage, dir, *name)).collect()
}

fn read_run(storage: &dyn Storage, dir: &Path, named: RunRef) -> Option<Run> {
    let bytes = read_all(storage, &dir.join(names::run_name(named.number)), MAX_RUN).ok()??;
    let len = RunHeader::peek_len(&bytes, bytes.len() as u64).ok()?;
    let (header, crc) = RunHeader::decode(bytes.get(..len)?).ok()?;
    let whole = bytes.len() as u64 == header.file_len();
    (whole && crc == named.header_crc).then_some(Run { number: header.number, end: header.to })
}

#[cfg(test)]
mod tests {
    use oncelog::types::{Offset, Position};

    use super::*;

    fn run(number: u64, segment: i64, position: u64, offset: i64) -> Run {
        let (segment, position, offset) = (Offset(segment), Position(position), Offset(offset));
        Run { number, end: LogPoint { segment, position, offset, last_batch: None } }
    }

    fn inspected(segments: &[(i64, u64)]) -> Inspected {
        Inspected {
            segments: segments.to_vec(),
            chain: vec![run(1, 0, 300, 30), run(4, 100, 200, 120)],
            previous: vec![run(1, 0, 300, 30), run(2, 0, 900, 90)],
            watermark: None,
            log_start: 0,
            snapshots: Vec::new(),
        }
    }

    fn ends(inspected: &Inspected, damaged: Option<u64>) -> Vec<i64> {
        inspected.chain_ends(damaged).iter().map(|end| end.offset.0).collect()
    }

    #[test]
    fn every_beginning_of_both_chains_counts_the_furthest_first() {
        let whole = inspected(&[(0, 1000), (100, 500)]);
        assert_eq!(ends(&whole, None), [120, 90, 30, 30]);
        assert_eq!(ends(&whole, Some(4)), [90, 30, 30]);
        assert_eq!(ends(&whole, Some(1)), [0; 0]);
    }

    #[test]
    fn a_chain_that_ends_outside_of_the_log_does_not_count() {
        let cut_back = inspected(&[(0, 1000), (100, 199)]);
        assert_eq!(ends(&cut_back, None), [90, 30, 30]);
        let without_beginning = inspected(&[(100, 500)]);
        assert_eq!(ends(&without_beginning, None), [120]);
    }

    #[test]
    fn without_its_newest_run_a_log_lives_from_other_runs_or_from_its_beginning() {
        assert!(inspected(&[(0, 1000), (100, 500)]).survives_without(4));
        assert!(inspected(&[(0, 1000), (100, 500)]).survives_without(1), "the whole log is there");
        assert!(!inspected(&[(100, 500)]).survives_without(4));
    }

    #[test]
    fn bytes_behind_a_place_are_those_of_its_segment_and_of_later_ones() {
        let whole = inspected(&[(0, 1000), (100, 500)]);
        assert_eq!(whole.bytes_behind(Some(&run(2, 0, 900, 90).end)), 600);
        assert_eq!(whole.bytes_behind(Some(&run(4, 100, 200, 120).end)), 300);
        assert_eq!(whole.bytes_behind(None), 1500);
    }
}
