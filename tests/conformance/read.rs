//! Reads by offset and by timestamp (UnifiedLogTest, LocalLogTest).

use oncelog::{BatchBuilder, Durability, Error, Isolation, Offset, RawBatch};

use crate::world::{NOW, World, plain};

fn base_offsets(world: &World, from: i64, max_bytes: usize) -> Vec<i64> {
    let fetched = world.log().fetch(Offset(from), max_bytes, Isolation::LogEnd).unwrap();
    fetched.batches().unwrap().map(|batch| batch.unwrap().header.base_offset.0).collect()
}

/// Kafka: `UnifiedLogTest.testReadWithMinMessage`, `testReadWithTooSmallMaxLength`.
#[test]
fn a_read_with_too_small_a_limit_gives_one_whole_batch() {
    let world = World::new();
    world.add(plain(&["a", "b"]));
    world.add(plain(&["c"]));
    for limit in [0, 1, 60] {
        assert_eq!(base_offsets(&world, 0, limit), [0]);
        assert_eq!(base_offsets(&world, 1, limit), [0], "the batch that holds the offset");
        assert_eq!(base_offsets(&world, 2, limit), [2]);
    }
    let first = plain(&["a", "b"]).len();
    let both = first + plain(&["c"]).len();
    assert_eq!(base_offsets(&world, 0, both - 1), [0]);
    assert_eq!(base_offsets(&world, 0, both), [0, 2]);
}

/// Kafka: `UnifiedLogTest.testReadOutOfRange`.
#[test]
fn a_read_outside_of_the_log_says_what_the_log_holds_and_one_at_its_end_is_empty() {
    let world = World::new();
    world.add(plain(&["a"]));
    for asked in [Offset(-1), Offset(2), Offset(i64::MAX)] {
        match world.log().fetch(asked, 100, Isolation::LogEnd).unwrap_err() {
            Error::OffsetOutOfRange { asked: found, log_start_offset, log_end_offset } => {
                assert_eq!((found, log_start_offset, log_end_offset), (asked, Offset(0), Offset(1)));
            }
            other => panic!("{other}"),
        }
    }
    assert!(world.log().fetch(Offset(1), 100, Isolation::LogEnd).unwrap().is_empty());
}

/// Kafka: `UnifiedLogTest.testFetchUpToLogEndOffset`, `testFetchUpToHighWatermark`,
/// `LocalLogTest.testWhenFetchOffsetHigherThanMaxOffset`.
#[test]
fn a_read_ends_at_the_bound_of_its_isolation() {
    let world = World::new();
    world.add(plain(&["durable"]));
    world.log().append(RawBatch(plain(&["written"])), Durability::Buffered).unwrap();
    let read = |from, isolation| {
        let fetched = world.log().fetch(Offset(from), 1 << 20, isolation).unwrap();
        (fetched.records().unwrap().len(), fetched.high_watermark().0, fetched.log_start_offset().0)
    };
    assert_eq!(read(0, Isolation::HighWatermark), (1, 1, 0));
    assert_eq!(read(0, Isolation::LogEnd), (2, 1, 0));
    assert_eq!(read(1, Isolation::HighWatermark), (0, 1, 0));
    assert_eq!(read(2, Isolation::HighWatermark), (0, 1, 0), "above the high watermark, below the log end");
    world.log().flush().unwrap();
    assert_eq!(read(0, Isolation::HighWatermark), (2, 2, 0));
}

/// Kafka: `UnifiedLogTest.testHighWatermarkMetadataUpdatedAfterSegmentRoll`.
#[test]
fn a_read_up_to_the_high_watermark_works_across_rolls() {
    let world = World::new();
    for n in 0..40 {
        world.log().append(RawBatch(plain(&["value"])), Durability::Buffered).unwrap();
        let high_watermark = world.log().high_watermark();
        let mut seen = 0;
        loop {
            let fetched = world.log().fetch(Offset(seen), 1 << 20, Isolation::HighWatermark).unwrap();
            let Some(last) = fetched.batches().unwrap().last() else { break };
            seen = last.unwrap().header.next_offset().0;
        }
        assert_eq!(Offset(seen), high_watermark, "after {n} batches");
        if n % 7 == 0 {
            world.log().flush().unwrap();
        }
    }
    assert!(world.segments().len() > 3);
}

/// Kafka: `UnifiedLogTest.testFetchOffsetByTimestampWithMaxTimestampIncludesTimestamp`,
/// `testFetchOffsetByTimestampIncludesLeaderEpoch` (the header of the fetched batch has it).
#[test]
fn the_first_record_at_or_after_a_timestamp_is_found_whatever_their_order() {
    let world = World::new();
    let at = |times: &[i64]| {
        let add = |builder: BatchBuilder, time: &i64| builder.record_at(NOW + time, None, Some(b"v"));
        times.iter().fold(BatchBuilder::new(), add).build().unwrap()
    };
    let times: [&[i64]; 6] = [&[10, 30, 20], &[5], &[40, 35], &[1, 2, 3], &[60], &[50, 70]];
    for round in 0..6 {
        for times in times {
            world.add(at(&times.iter().map(|time| time + round * 100).collect::<Vec<_>>()));
        }
    }
    assert!(world.segments().len() > 3);
    let records = world.records(0);
    for asked in NOW - 1..NOW + 700 {
        let expected = records.iter().find(|record| record.timestamp >= asked);
        let expected = expected.map(|record| (record.offset, record.timestamp));
        assert_eq!(world.log().offset_for_timestamp(asked, Isolation::LogEnd).unwrap(), expected, "{asked}");
    }
}

/// Kafka: `UnifiedLogTest.testFetchOffsetByTimestampShouldReadOnlyLocalLogWhenLogIsEmpty`.
#[test]
fn an_empty_log_has_no_record_for_any_timestamp() {
    let world = World::new();
    for asked in [-1, 0, NOW] {
        assert_eq!(world.log().offset_for_timestamp(asked, Isolation::HighWatermark).unwrap(), None);
    }
    assert!(world.log().fetch(Offset(0), 1, Isolation::HighWatermark).unwrap().is_empty());
}
