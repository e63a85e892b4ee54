//! When a new segment begins (UnifiedLogTest, LocalLogTest).

use oncelog::{BatchBuilder, Durability, Isolation, LogConfig, Offset, RawBatch};

use crate::world::{NOW, World, plain, small};

fn at(timestamp: i64) -> bytes::Bytes {
    BatchBuilder::new().record_at(timestamp, None, Some(b"v")).build().unwrap()
}

/// Kafka: `UnifiedLogTest.testSizeBasedLogRoll`, `LocalLogTest.testNewSegmentsAfterRoll`.
#[test]
fn a_segment_is_rolled_before_it_would_grow_beyond_its_size() {
    let size = plain(&["x"]).len();
    let world = World::with(LogConfig { segment_bytes: u32::try_from(5 * size).unwrap(), ..small() });
    for n in 0..12 {
        assert_eq!(world.add(plain(&["x"])), n);
    }
    assert_eq!(world.segments(), [0, 5, 10]);
    for name in ["00000000000000000000.log", "00000000000000000005.log"] {
        assert_eq!(world.read(name).len(), 5 * size);
    }
    assert_eq!(world.values(0).len(), 12);
}

/// Kafka: `UnifiedLogTest.testLogRolls`: a log that is appended to for long has as many segments as fit its bytes.
#[test]
fn a_log_rolls_as_often_as_its_bytes_ask_for() {
    let size = plain(&["x"]).len();
    let world = World::with(LogConfig { segment_bytes: u32::try_from(10 * size + 3).unwrap(), ..small() });
    for _ in 0..100 {
        world.log().append(RawBatch(plain(&["x"])), Durability::Buffered).unwrap();
    }
    assert_eq!(world.segments(), (0..10).map(|n| n * 10).collect::<Vec<_>>());
}

/// Kafka: `UnifiedLogTest.testTimeBasedLogRollDuringAppend`.
#[test]
fn a_segment_is_rolled_by_the_time_between_its_first_batch_and_the_next() {
    let hour = 3_600_000;
    let world = World::with(LogConfig { segment_ms: hour, timestamp_after_max_ms: None, ..small() });
    world.advance(10 * 3_600_000);
    world.add(at(NOW));
    assert_eq!(world.segments(), [0], "an empty segment is not rolled, however old");
    world.add(at(NOW + hour));
    assert_eq!(world.segments(), [0], "exactly the limit");
    world.advance(10 * 3_600_000);
    world.add(at(NOW + 10));
    assert_eq!(world.segments(), [0], "timestamps count, not the clock");
    world.add(at(NOW + hour + 1));
    assert_eq!(world.segments(), [0, 3]);
}

/// Kafka: `UnifiedLogTest.testTimeBasedLogRollDuringAppend`, its second half.
#[test]
fn a_segment_that_begins_without_a_timestamp_is_rolled_by_the_clock() {
    let world = World::with(LogConfig { segment_ms: 3_600_000, ..small() });
    world.add(at(-1));
    world.advance(3_600_000);
    world.add(at(-1));
    assert_eq!(world.segments(), [0]);
    world.advance(1);
    world.add(at(-1));
    assert_eq!(world.segments(), [0, 2]);
}

/// Kafka: `LogSegmentTest.testAppendForLogSegmentOffsetOverflowException`, `OffsetIndexTest.appendTooMany`: at the facade
/// a full index rolls the segment.
#[test]
fn a_segment_is_rolled_when_its_index_is_full() {
    let size = u32::try_from(plain(&["x"]).len()).unwrap();
    let config =
        LogConfig { segment_bytes: 1 << 20, index_interval_bytes: size, segment_index_bytes: 36, ..small() };
    let world = World::with(config);
    for n in 0..40 {
        assert_eq!(world.add(plain(&["x"])), n);
    }
    assert!(world.segments().len() > 3, "{:?}", world.segments());
    assert_eq!(world.values(0).len(), 40);
}

/// Kafka: `LocalLogTest.testRollEmptyActiveSegment`, `testRollSegmentThatAlreadyExists`,
/// `UnifiedLogTest.testRollSegmentThatAlreadyExists`: no roll makes a second segment of the same base offset.
#[test]
fn opening_and_closing_an_empty_log_makes_no_second_segment() {
    let mut world = World::new();
    for _ in 0..3 {
        world.log().maintain().unwrap();
        world.log().flush().unwrap();
        world.reopen();
        assert_eq!(world.segments(), [0]);
    }
    world.add(plain(&["a"]));
    assert_eq!(world.segments(), [0]);
}

/// Kafka: `UnifiedLogTest.testFlushingEmptyActiveSegments`.
#[test]
fn a_log_whose_active_segment_is_empty_is_flushed_closed_and_read() {
    let size = plain(&["x"]).len();
    let mut world = World::with(LogConfig { segment_bytes: u32::try_from(2 * size).unwrap(), ..small() });
    for n in 0..4 {
        assert_eq!(world.add(plain(&["x"])), n);
    }
    // A segment that a crash left empty behind the last one.
    world.kill();
    world.write("00000000000000000004.log", &[]);
    world.open().unwrap();
    assert_eq!(world.segments(), [0, 2, 4]);
    assert_eq!(world.log().flush().unwrap(), Offset(4));
    world.reopen();
    assert_eq!(world.add(plain(&["y"])), 4);
    let fetched = world.log().fetch(Offset(4), 1, Isolation::HighWatermark).unwrap();
    assert_eq!(fetched.records().unwrap()[0].value.as_deref(), Some(b"y".as_slice()));
}
