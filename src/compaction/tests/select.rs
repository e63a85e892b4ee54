use super::*;

const HOUR: i64 = 3_600_000;

/// Segments of ten offsets and 100 bytes whose newest records have these ages in hours.
fn segments(ages: &[i64]) -> Vec<SegmentShape> {
    (0..)
        .zip(ages)
        .map(|(number, hours)| SegmentShape {
            base: Offset(number * 10),
            end: Offset(number * 10 + 10),
            bytes: 100,
            first_timestamp: Some(NOW - hours * HOUR),
            newest_timestamp: Some(NOW - hours * HOUR),
        })
        .collect()
}

fn moment(log_start: i64, clean_to: i64, limit: i64) -> Moment {
    Moment {
        log_start_offset: Offset(log_start),
        clean_to: Offset(clean_to),
        limit: Offset(limit),
        now_ms: NOW,
    }
}

fn taken(ages: &[i64], moment: Moment, config: &CompactionConfig) -> Option<(usize, i64, u64, u64)> {
    let found = cleanable(&segments(ages), &moment, config)?;
    Some((found.segments, found.from.0, found.clean_bytes, found.dirty_bytes))
}

/// Kafka: `LogCleanerManagerTest.testCleanableOffsetsForNone`.
#[test]
fn all_complete_segments_below_the_limit_are_taken() {
    let config = CompactionConfig::default();
    assert_eq!(taken(&[9, 9, 9], moment(0, 0, 30), &config), Some((3, 0, 0, 300)));
    assert_eq!(taken(&[9, 9, 9], moment(0, 0, 29), &config), Some((2, 0, 0, 200)));
    assert_eq!(taken(&[9, 9, 9], moment(0, 0, 9), &config), None);
    assert_eq!(taken(&[9, 9, 9], moment(0, 20, 30), &config), Some((3, 20, 200, 100)));
    assert_eq!(taken(&[9, 9, 9], moment(0, 30, 30), &config), None, "all is clean");
    assert_eq!(taken(&[9, 9, 9], moment(0, 25, 30), &config), Some((3, 25, 200, 100)));
}

/// Kafka: `LogCleanerManagerTest.testLogsUnderCleanupIneligibleForCompaction` aside; the checkpoint below the log start.
#[test]
fn what_lies_below_the_log_start_is_not_dirty() {
    let config = CompactionConfig::default();
    assert_eq!(taken(&[9, 9, 9], moment(14, 0, 30), &config), Some((3, 14, 100, 200)));
}

/// Kafka: `LogCleanerManagerTest.testCleanableOffsetsForTime`, `testCleanableOffsetsForShortTime`.
#[test]
fn the_first_young_segment_and_all_behind_it_are_left() {
    let config = CompactionConfig { min_lag_ms: 5 * 3_600_000, ..CompactionConfig::default() };
    assert_eq!(taken(&[9, 4, 9], moment(0, 0, 30), &config), Some((1, 0, 0, 100)));
    assert_eq!(taken(&[9, 5, 9], moment(0, 0, 30), &config), Some((3, 0, 0, 300)));
    assert_eq!(taken(&[4, 9, 9], moment(0, 0, 30), &config), None);
    assert_eq!(taken(&[4, 9, 9], moment(0, 10, 30), &config), Some((3, 10, 100, 200)), "clean already");
}

/// Kafka: `LogCleanerManagerTest.testGrabFilthiestCompactedLog*`, `testNeedCompactionNow` and the maximal lag.
#[test]
fn a_round_is_due_by_the_dirty_part_or_by_the_oldest_dirty_record() {
    let due = |clean_to, config: &CompactionConfig| {
        is_due(&cleanable(&segments(&[9, 9, 2, 1]), &moment(0, clean_to, 40), config).unwrap(), NOW, config)
    };
    let config = CompactionConfig::default();
    assert!(due(0, &config) && due(10, &config));
    assert!(!due(20, &config), "half is not more than half");
    let lag = |hours: u64| CompactionConfig { max_lag_ms: Some(hours * 3_600_000), ..config };
    assert!(due(20, &lag(1)));
    assert!(!due(20, &lag(2)));
    assert!(!due(30, &lag(1)));
}

/// Kafka: `LogCleanerTest.testSegmentGrouping`, `testSegmentGroupingWithSparseOffsets`,
/// `testSegmentGroupingFollowingLoadOfZeroIndex`.
#[test]
fn neighbours_become_one_segment_as_long_as_size_and_offsets_allow() {
    let four = segments(&[1, 1, 1, 1]);
    assert_eq!(groups(&four, 1000).iter().map(|group| group.len()).collect::<Vec<_>>(), [4]);
    assert_eq!(groups(&four, 200), [0..2, 2..4]);
    assert_eq!(groups(&four, 199), [0..1, 1..2, 2..3, 3..4]);
    assert_eq!(groups(&four, 1), [0..1, 1..2, 2..3, 3..4], "one that is too large stands alone");
    assert_eq!(groups(&[], 1000), Vec::<std::ops::Range<usize>>::new());
    let mut sparse = segments(&[1, 1, 1]);
    sparse[1].end = Offset(i64::from(i32::MAX));
    sparse[2].base = Offset(i64::from(i32::MAX));
    sparse[2].end = Offset(i64::from(i32::MAX) + 1);
    assert_eq!(groups(&sparse, 1000), [0..2, 2..3]);
}
