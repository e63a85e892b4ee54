//! Look-ups in a sound segment beside any index at all.
//!
//! Invariant under test: whatever stands in the index files, every answer is that of a walk over all batches, for a
//! sealed segment and for the one that is appended to. One thing is left out, as `segment::read` says: two neighbours
//! of a time index that both name real batches and both lie about being the newest so far.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use oncelog::format::batch::{Attributes, seal};
use oncelog::format::names::{index_name, log_name, time_index_name};
use oncelog::index::{IndexSize, OffsetEntry, TimeEntry};
use oncelog::segment::active::ActiveSegment;
use oncelog::segment::indexes::{IndexLimits, SegmentIndexes, load};
use oncelog::segment::read::{BatchAt, RangeEnd};
use oncelog::segment::sealed::SealedSegment;
use oncelog::storage::Storage;
use oncelog::{BatchHeader, Error, LeaderEpoch, LogPoint, Offset, Position};

use super::disk::{disk, put};
use super::input::{Input, mutate};
use super::naive;

const DIR: &str = "/t-0";
/// Most index entries whose lies are written down one by one.
const FORGED: usize = 3;

/// Runs the target.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let segment = Segment::read(&mut input);
    let interval_bytes = [0, 100, 400][input.below(3)];
    let limits = IndexLimits { interval_bytes, size: IndexSize(4096) };
    let (offsets, times) = index_files(&mut input, &segment, limits);
    let (_, storage) = disk(Path::new(DIR));
    put(&*storage, &Path::new(DIR).join(log_name(segment.base)), &segment.bytes);
    if let Some(bytes) = &offsets {
        put(&*storage, &Path::new(DIR).join(index_name(segment.base)), bytes);
    }
    if let Some(bytes) = &times {
        put(&*storage, &Path::new(DIR).join(time_index_name(segment.base)), bytes);
    }
    let times_count = !segment.is_forged_beyond_proof(times.as_deref().unwrap_or_default());
    judge_sealed(&storage, &segment, limits, times_count);
    judge_active(&storage, &segment, limits, times_count);
}

/// A segment, and its batches as they were written.
struct Segment {
    base: Offset,
    bytes: Vec<u8>,
    batches: Vec<(u64, BatchHeader)>,
}

impl Segment {
    /// Batches of very different sizes and timestamps that jump; some carry one stored batch as their value.
    fn read(input: &mut Input<'_>) -> Self {
        let base = Offset(i64::from(input.number::<u8>()) << 32);
        let mut segment = Self { base, bytes: Vec::new(), batches: Vec::new() };
        let mut next = base;
        for _ in 0..input.below(40) {
            let shape: u8 = input.number();
            let records = 1 + i32::from(shape & 3);
            let timestamp = i64::from(input.number::<u8>()) - 1;
            let payload = match (shape >> 2) & 7 {
                0 => Vec::new(),
                1 => sealed(next, records, timestamp, &[]).1,
                2 => [sealed(next, 1, i64::from(shape), b"x").1, vec![shape; 40]].concat(),
                size => vec![shape; usize::from(size) * 60],
            };
            let (header, bytes) = sealed(next, records, timestamp, &payload);
            segment.batches.push((segment.bytes.len() as u64, header));
            segment.bytes.extend_from_slice(&bytes);
            // Compaction leaves gaps.
            next = header.next_offset().saturating_add(i64::from(shape >> 6));
        }
        segment
    }

    fn end(&self) -> Offset {
        self.batches.last().map_or(self.base, |(_, header)| header.next_offset())
    }

    fn len(&self) -> Position {
        Position(self.bytes.len() as u64)
    }

    /// First batch that answers, as the walk finds it.
    fn first(&self, wanted: impl Fn(&BatchHeader) -> bool) -> Option<(u64, BatchHeader)> {
        self.batches.iter().copied().find(|(_, header)| wanted(header))
    }

    /// The batch with the largest timestamp, the first of them.
    fn newest(&self) -> Option<TimeEntry> {
        let with_timestamp = self.batches.iter().filter(|(_, header)| header.max_timestamp >= 0);
        let mut newest: Option<TimeEntry> = None;
        for (_, header) in with_timestamp {
            if newest.is_none_or(|newest| header.max_timestamp > newest.timestamp) {
                newest =
                    Some(TimeEntry { timestamp: header.max_timestamp, last_offset: header.last_offset() });
            }
        }
        newest
    }

    fn range_end(&self, from: u64, limit: Position, max_bytes: u64) -> RangeEnd {
        let most = from.saturating_add(max_bytes);
        let inside = self.batches.iter().filter(|(at, _)| *at >= from && *at < limit.0);
        let beyond = inside.skip(1).find(|(at, header)| at + header.size() as u64 > most);
        match beyond {
            Some((at, header)) => RangeEnd { position: Position(*at), next_offset: Some(header.base_offset) },
            None => RangeEnd { position: limit, next_offset: None },
        }
    }

    /// Whether two neighbours of the time index name real batches that are not the newest so far.
    fn is_forged_beyond_proof(&self, times: &[u8]) -> bool {
        let liars: Vec<bool> =
            times.chunks_exact(12).map(|entry| self.is_true_but_misplaced(entry)).collect();
        liars.windows(2).any(|pair| pair[0] && pair[1])
    }

    fn is_true_but_misplaced(&self, entry: &[u8]) -> bool {
        let (Some(timestamp), Some(relative)) = (naive::array(entry, 0), naive::array(entry, 8)) else {
            return false;
        };
        let timestamp = i64::from_be_bytes(timestamp);
        let offset = self.base.saturating_add(i64::from(i32::from_be_bytes(relative)));
        let place = self
            .batches
            .iter()
            .position(|(_, header)| header.last_offset() == offset && header.max_timestamp == timestamp);
        place.is_some_and(|place| {
            self.batches[..place].iter().any(|(_, header)| header.max_timestamp >= timestamp)
        })
    }
}

fn sealed(base_offset: Offset, records: i32, max_timestamp: i64, payload: &[u8]) -> (BatchHeader, Vec<u8>) {
    let header = BatchHeader {
        base_offset,
        batch_length: 0,
        leader_epoch: LeaderEpoch(0),
        magic: 2,
        crc: 0,
        attributes: Attributes(0),
        last_offset_delta: records - 1,
        base_timestamp: max_timestamp,
        max_timestamp,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        record_count: records,
    };
    let bytes = seal(header, payload);
    let header = naive::batch(&bytes);
    let Some(header) = header else { unreachable!("a sealed batch does not hold") };
    (header, bytes.to_vec())
}

/// Both index files: missing, of any bytes, or what the rule writes with some damage.
fn index_files(
    input: &mut Input<'_>,
    segment: &Segment,
    limits: IndexLimits,
) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let mut indexes = SegmentIndexes::new(segment.base, limits);
    for (at, header) in &segment.batches {
        indexes.batch_appended(Position(*at), header);
    }
    indexes.seal_entry();
    let (mut offsets, mut times) = (indexes.offsets().to_bytes(), indexes.times().to_bytes());
    let shape: u8 = input.number();
    if shape & 1 != 0 {
        forge(input, segment, &mut offsets, 8);
    }
    if shape & 2 != 0 {
        forge(input, segment, &mut times, 12);
    }
    if shape & 4 != 0 {
        mutate(input, &mut offsets, 3);
    }
    if shape & 8 != 0 {
        mutate(input, &mut times, 3);
    }
    if shape & 16 != 0 {
        let len = input.below(96);
        offsets = input.bytes(len).to_vec();
    }
    if shape & 32 != 0 {
        times = input.rest().to_vec();
    }
    ((shape & 64 == 0).then_some(offsets), (shape & 128 == 0).then_some(times))
}

/// Puts other batches, or places inside of batches, into entries.
fn forge(input: &mut Input<'_>, segment: &Segment, index: &mut [u8], entry_size: usize) {
    for _ in 0..input.below(FORGED) {
        let nth = input.below(index.len() / entry_size);
        let Some((at, header)) = segment.batches.get(input.below(segment.batches.len())) else { return };
        let Some(entry) = index.chunks_exact_mut(entry_size).nth(nth) else { return };
        let last = header.last_offset().distance_from(segment.base) + i64::from(input.number::<u8>() & 1);
        let last = i32::try_from(last).unwrap_or(i32::MAX).to_be_bytes();
        if entry_size == 8 {
            // 61 bytes on stands the batch that some batches carry.
            let position = i32::try_from(at + [0, 61, 1][input.below(3)]).unwrap_or(i32::MAX);
            entry[..4].copy_from_slice(&last);
            entry[4..].copy_from_slice(&position.to_be_bytes());
        } else {
            entry[..8].copy_from_slice(&header.max_timestamp.to_be_bytes());
            entry[8..].copy_from_slice(&last);
        }
    }
}

fn judge_sealed(storage: &Arc<dyn Storage>, segment: &Segment, limits: IndexLimits, times_count: bool) {
    let path = Path::new(DIR).join(log_name(segment.base));
    let sealed =
        || SealedSegment::new(storage, path.clone(), segment.base..segment.end(), segment.len(), limits);
    let kept = sealed();
    for target in targets(segment) {
        let expected = segment.first(|header| header.last_offset() >= target);
        assert_found(kept.locate(target), expected, &format!("sealed, offset {target}"));
    }
    if times_count {
        for timestamp in -1..=256 {
            let expected = segment.first(|header| header.max_timestamp >= timestamp);
            assert_found(
                kept.locate_timestamp(timestamp),
                expected,
                &format!("sealed, timestamp {timestamp}"),
            );
        }
        // Once with what the look-ups before have learned, once without.
        for newest in [kept.newest(), sealed().newest()] {
            assert!(newest.as_ref().is_ok_and(|newest| *newest == segment.newest()), "newest: {newest:?}");
        }
    }
    for (at, header) in &segment.batches {
        let Ok(Some(from)) = kept.locate(header.base_offset) else { continue };
        for max_bytes in [0, 100, header.size() as u64, 700, 5000] {
            let found = kept.range_end(&from, segment.len(), max_bytes);
            let expected = segment.range_end(*at, segment.len(), max_bytes);
            assert!(found.as_ref().is_ok_and(|found| *found == expected), "{found:?}, walked {expected:?}");
        }
    }
}

fn judge_active(storage: &Arc<dyn Storage>, segment: &Segment, limits: IndexLimits, times_count: bool) {
    let path = Path::new(DIR).join(log_name(segment.base));
    let file = storage.open(&path, oncelog::storage::OpenMode::Write);
    let Ok(file) = file else { unreachable!("{file:?}") };
    let end = OffsetEntry { last_offset: segment.end(), position: segment.len() };
    let loaded = load(&**storage, Path::new(DIR), &*file, segment.base, end, limits);
    let Ok(loaded) = loaded else { unreachable!("a sound segment is not read: {loaded:?}") };
    let last_batch = segment.batches.last().map(|(at, header)| (Position(*at), header.fingerprint()));
    let point =
        LogPoint { segment: segment.base, position: segment.len(), offset: segment.end(), last_batch };
    let active = ActiveSegment::open_at(file, path, point, loaded.indexes, 0, limits);
    let view = active.view();
    if times_count {
        assert_eq!(active.newest(), segment.newest());
    }
    for target in targets(segment) {
        let expected = segment.first(|header| header.last_offset() >= target);
        let found = view.locate(active.claim(target), segment.len(), target);
        assert_found(found, expected, &format!("active, offset {target}"));
    }
    for timestamp in (-1..=256).filter(|_| times_count) {
        let expected = segment.first(|header| header.max_timestamp >= timestamp);
        let found = view.locate_timestamp(active.claim_timestamp(timestamp), segment.len(), timestamp);
        assert_found(found, expected, &format!("active, timestamp {timestamp}"));
    }
    for (at, header) in &segment.batches {
        let Ok(Some(from)) = view.locate(None, segment.len(), header.base_offset) else { continue };
        for max_bytes in [0, 500, 5000] {
            let claim = active.claim_position(Position(at + max_bytes));
            let found = view.range_end(claim, &from, segment.len(), max_bytes);
            let expected = segment.range_end(*at, segment.len(), max_bytes);
            assert!(found.as_ref().is_ok_and(|found| *found == expected), "{found:?}, walked {expected:?}");
        }
    }
}

/// Every offset around every batch.
fn targets(segment: &Segment) -> Vec<Offset> {
    let around = |range: Range<Offset>| (range.start.0 - 1..=range.end.0 + 1).map(Offset);
    let mut targets: Vec<Offset> = around(segment.base..segment.base).collect();
    targets.extend(
        segment.batches.iter().flat_map(|(_, header)| around(header.base_offset..header.last_offset())),
    );
    targets.dedup();
    targets
}

fn assert_found(found: Result<Option<BatchAt>, Error>, expected: Option<(u64, BatchHeader)>, what: &str) {
    let found = found.map(|batch| batch.map(|batch| (batch.position().0, *batch.header())));
    assert!(found.as_ref().is_ok_and(|found| *found == expected), "{what}: {found:?}, walked {expected:?}");
}
