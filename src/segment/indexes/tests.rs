use proptest::prelude::*;

use super::*;
use crate::segment::test_log::{TestLog, disk, file_of, index, put};

const LIMITS: IndexLimits = IndexLimits { interval_bytes: 300, size: IndexSize(1 << 16) };

fn built(log: &TestLog) -> SegmentIndexes {
    rebuild(&*file_of(&log.bytes), Offset::ZERO, Position(log.len()), LIMITS).unwrap().0
}

fn end_of(log: &TestLog) -> OffsetEntry {
    OffsetEntry { last_offset: log.next_offset(), position: Position(log.len()) }
}

/// What [`load`] makes of these index files.
fn loaded(log: &TestLog, offsets: Option<&[u8]>, times: Option<&[u8]>) -> Loaded {
    let (storage, dir) = disk();
    for (name, bytes) in [(index_name(Offset::ZERO), offsets), (time_index_name(Offset::ZERO), times)] {
        if let Some(bytes) = bytes {
            put(&*storage, &dir.join(name), bytes);
        }
    }
    load(&*storage, &dir, &*file_of(&log.bytes), Offset::ZERO, end_of(log), LIMITS).unwrap()
}

#[test]
fn an_entry_is_due_once_more_than_the_interval_follows_the_last_indexed_batch() {
    // Batches of 100 bytes: the fifth begins behind 400 bytes, which are the first to be more than 300.
    let log = TestLog::with_payloads(&[39; 12]);
    let indexes = built(&log);
    let positions: Vec<u64> = [400, 800].into();
    let found: Vec<u64> = indexes
        .offsets()
        .to_bytes()
        .chunks(8)
        .map(|entry| u64::from(u32::from_be_bytes(entry[4..].try_into().unwrap())))
        .collect();
    assert_eq!(found, positions);
    assert_eq!(indexes.times().len(), 2);
    assert_eq!(indexes.times().last().unwrap().entry.timestamp, log.headers()[8].max_timestamp);
}

#[test]
fn the_newest_batch_is_the_first_one_with_the_largest_timestamp() {
    let mut log = TestLog::default();
    for timestamp in [-1, 7, 9, 9, 8] {
        log.push(1, timestamp, b"x");
    }
    let indexes = built(&log);
    assert_eq!(indexes.newest(), Some(TimeEntry { timestamp: 9, last_offset: Offset(2) }));
    assert_eq!(indexes.first_timestamp(), None);
}

/// Kafka: `LogSegmentTest.testGetFirstBatchTimestamp`.
#[test]
fn the_first_timestamp_is_that_of_the_first_batch() {
    let mut log = TestLog::default();
    log.push(1, 7, b"x");
    log.push(1, 3, b"x");
    assert_eq!(built(&log).first_timestamp(), Some(7));
    assert_eq!(built(&TestLog::default()).first_timestamp(), None);
}

#[test]
fn a_batch_that_an_index_cannot_express_is_left_out() {
    let log = TestLog::with_payloads(&[400; 9]);
    let limits = IndexLimits { size: IndexSize(2 * 8), ..LIMITS };
    let (indexes, _) = rebuild(&*file_of(&log.bytes), Offset::ZERO, Position(log.len()), limits).unwrap();
    assert_eq!((indexes.offsets().len(), indexes.times().len()), (2, 0));
    assert_eq!(indexes.newest().unwrap().timestamp, 1_008);
}

#[test]
fn files_that_are_complete_are_loaded_as_they_are() {
    let log = TestLog::varied(60);
    let built = built(&log);
    let got = loaded(&log, Some(&built.offsets().to_bytes()), Some(&built.times().to_bytes()));
    assert!(!got.rebuilt);
    assert_eq!(got.indexes.offsets().to_bytes(), built.offsets().to_bytes());
    assert_eq!(got.indexes.times().to_bytes(), built.times().to_bytes());
    assert_eq!(
        (got.indexes.newest(), got.indexes.first_timestamp()),
        (built.newest(), built.first_timestamp())
    );
    assert_eq!(got.indexes.bytes_since_entry, built.bytes_since_entry);
    assert!(got.indexes.offsets().unwritten().bytes.is_empty());
}

/// Kafka: `LogSegmentTest.testRecoveryFixesCorruptIndex`, `testRecoveryFixesCorruptTimeIndex`.
#[test]
fn missing_and_damaged_files_are_made_anew() {
    let log = TestLog::varied(60);
    let built = built(&log);
    let (offsets, times) = (built.offsets().to_bytes(), built.times().to_bytes());
    let (mut bad_offsets, mut bad_times) = (offsets.clone(), times.clone());
    *bad_offsets.last_mut().unwrap() ^= 1;
    *bad_times.last_mut().unwrap() ^= 1;
    for (offsets, times) in [
        (None, Some(&times)),
        (Some(&offsets), None),
        (Some(&bad_offsets), Some(&times)),
        (Some(&offsets), Some(&bad_times)),
    ] {
        let got = loaded(&log, offsets.map(Vec::as_slice), times.map(Vec::as_slice));
        assert!(got.rebuilt);
        assert_eq!(got.indexes.offsets().to_bytes(), built.offsets().to_bytes());
        assert_eq!(got.indexes.times().to_bytes(), built.times().to_bytes());
        assert_eq!(got.indexes.offsets().unwritten().bytes, built.offsets().to_bytes());
    }
}

#[test]
fn an_empty_segment_has_nothing_to_rebuild() {
    let got = loaded(&TestLog::default(), None, None);
    assert!(!got.rebuilt && got.indexes.offsets().is_empty() && got.indexes.newest().is_none());
}

/// Kafka: `LogSegmentTest.testReloadLargestTimestampAndNextOffsetAfterTruncation`.
#[test]
fn entries_behind_the_end_are_dropped_with_their_timestamps() {
    let log = TestLog::varied(60);
    let whole = built(&log);
    let mut cut = TestLog::varied(31);
    let got = loaded(&cut, Some(&whole.offsets().to_bytes()), Some(&whole.times().to_bytes()));
    assert_eq!(got.indexes.offsets().to_bytes(), built(&cut).offsets().to_bytes());
    assert_eq!(got.indexes.newest(), built(&cut).newest());
    cut.push(1, 99_999, b"x");
    assert_eq!(built(&cut).newest().unwrap().timestamp, 99_999);
}

#[test]
fn damage_before_the_end_is_a_failure() {
    let mut log = TestLog::varied(20);
    let at = index(log.positions()[7]);
    log.bytes[at + 16] = 0;
    let (storage, dir) = disk();
    let failure =
        load(&*storage, &dir, &*file_of(&log.bytes), Offset::ZERO, end_of(&log), LIMITS).unwrap_err();
    let ReadFailure::Damage { position, .. } = failure else { panic!("not damage") };
    assert_eq!(position.0, log.positions()[7]);
}

proptest! {
    #[test]
    fn files_that_end_early_are_completed_from_the_headers(lost_offsets in 0usize..12, lost_times in 0usize..12) {
        let log = TestLog::varied(80);
        let built = built(&log);
        let (offsets, times) = (built.offsets().to_bytes(), built.times().to_bytes());
        let kept = |bytes: &[u8], size: usize, lost: usize| bytes.len().saturating_sub(size * lost);
        let got = loaded(
            &log,
            Some(&offsets[..kept(&offsets, 8, lost_offsets)]),
            Some(&times[..kept(&times, 12, lost_times)]),
        );
        prop_assert!(!got.rebuilt);
        prop_assert_eq!(got.indexes.offsets().to_bytes(), offsets);
        prop_assert_eq!(got.indexes.newest(), built.newest());
        prop_assert_eq!(got.indexes.first_timestamp(), built.first_timestamp());
    }
}
