//! Appends by the leader (UnifiedLogTest, LocalLogTest).

use oncelog::format::batch::RawBatch as Raw;
use oncelog::storage::{Fault, OperationKind};
use oncelog::{
    BatchBuilder, Codec, Durability, Error, Isolation, LeaderEpoch, LogConfig, Offset, RawBatch, Rejection,
};

use crate::world::{NOW, World, of, plain, sequence, small};

/// Kafka: `UnifiedLogTest.testAppendInfoFirstOffset`, `LocalLogTest.testLogAppend`.
#[test]
fn an_append_is_answered_with_the_offsets_it_was_given() {
    let world = World::new();
    let first = world.append(plain(&["a", "b"])).unwrap();
    assert_eq!((first.base_offset, first.last_offset, first.timestamp), (Some(Offset(0)), Offset(1), NOW));
    let second = world.append(plain(&["c"])).unwrap();
    assert_eq!((second.base_offset, second.last_offset), (Some(Offset(2)), Offset(2)));
    assert_eq!(world.log().log_end_offset(), Offset(3));
    assert_eq!(world.values(0), ["a", "b", "c"]);
}

/// Kafka: `UnifiedLogTest.testAppendAndReadWithSequentialOffsets`.
#[test]
fn every_record_is_read_at_the_offset_it_was_appended_at() {
    let world = World::new();
    for n in 0..60 {
        assert_eq!(world.add(plain(&[&format!("value {n}")])), n);
    }
    assert!(world.segments().len() > 5);
    for n in 0..60 {
        let record = &world.log().fetch(Offset(n), 1, Isolation::LogEnd).unwrap().records().unwrap()[0];
        assert_eq!(
            (record.offset, record.value.as_deref()),
            (Offset(n), Some(format!("value {n}").as_bytes()))
        );
    }
}

/// Kafka: `UnifiedLogTest.testNonSequentialAppend`.
#[test]
fn a_batch_behind_a_gap_in_sequence_is_refused_with_the_sequence_that_is_next() {
    let world = World::new();
    world.add(of(1, 0, 0, 1));
    match world.rejection(of(1, 0, 2, 1)) {
        Rejection::OutOfOrder { expected, found, .. } => {
            assert_eq!((expected, found), (sequence(1), sequence(2)));
        }
        other => panic!("{other}"),
    }
}

/// Kafka: `UnifiedLogTest.testAppendWithNoTimestamp`.
#[test]
fn a_record_without_a_timestamp_is_accepted() {
    let world = World::with(LogConfig { timestamp_before_max_ms: Some(1000), ..small() });
    let batch = BatchBuilder::new().record_at(-1, None, Some(b"timeless")).build().unwrap();
    world.add(batch);
    assert_eq!(world.records(0)[0].timestamp, -1);
}

/// Kafka: `UnifiedLogTest.testAppendMessageWithNullPayload`.
#[test]
fn a_record_without_a_value_is_accepted_and_stays_without() {
    let world = World::new();
    world.add(BatchBuilder::new().record_at(NOW, Some(b"k"), None).build().unwrap());
    let record = &world.records(0)[0];
    assert_eq!((record.key.as_deref(), record.value.as_deref()), (Some(b"k".as_slice()), None));
}

/// Kafka: `UnifiedLogTest.testMessageSetSizeCheck`.
#[test]
fn a_batch_that_fits_into_no_segment_is_refused() {
    let world = World::new();
    let batch = plain(&["x".repeat(900).as_str()]);
    let found = batch.len() as u64;
    assert_eq!(world.rejection(batch), Rejection::SegmentTooSmall { limit: 800, found });
}

/// Kafka: `UnifiedLogTest.testMessageSizeCheck`.
#[test]
fn a_batch_above_the_configured_size_is_refused_and_one_of_just_that_size_is_not() {
    let batch = plain(&["just right"]);
    let limit = u32::try_from(batch.len()).unwrap();
    let world = World::with(LogConfig { max_batch_bytes: limit, ..small() });
    world.add(batch);
    let larger = plain(&["just right!"]);
    let found = larger.len() as u64;
    assert_eq!(world.rejection(larger), Rejection::BatchTooLarge { limit: u64::from(limit), found });
}

/// Kafka: `UnifiedLogTest.testCompressedMessages`, `LogValidatorTest.checkCompressed`, `checkNonCompressed`,
/// `testDifferentCodecCausesRecompression`: here nothing is ever compressed anew.
#[test]
fn a_batch_of_any_codec_is_kept_as_it_came_and_read_back() {
    let world = World::new();
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let builder = BatchBuilder::new().codec(codec);
        let batch = builder
            .record_at(NOW, Some(b"k"), Some(b"hello"))
            .record_at(NOW, Some(b"k"), Some(b"there"))
            .build()
            .unwrap();
        let base = world.add(batch.clone());
        let stored = world.log().fetch(Offset(base), 1, Isolation::LogEnd).unwrap().bytes().unwrap();
        assert_eq!(stored[16..], batch[16..], "from the magic byte on, {codec:?}");
        assert_eq!(world.values(base), ["hello", "there"]);
    }
}

/// Kafka: `UnifiedLogTest.shouldApplyEpochToMessageOnAppendIfLeader`, `DefaultRecordBatchTest.testSetPartitionLeaderEpoch`.
#[test]
fn the_leader_stamps_its_epoch_and_the_crc_stays_right() {
    let world = World::with(LogConfig { leader_epoch: Some(LeaderEpoch(72)), ..small() });
    world.add(plain(&["a"]));
    let stored = world.log().fetch(Offset(0), 1, Isolation::LogEnd).unwrap().bytes().unwrap();
    let checked = Raw(stored).check().unwrap();
    assert_eq!(checked.header().leader_epoch, LeaderEpoch(72));
}

/// Kafka: `UnifiedLogTest.testAppendToOrReadFromLogInFailedLogDir`. Kafka takes the whole directory offline; here the
/// log stays readable up to what is durable.
#[test]
fn after_a_failed_sync_nothing_is_appended_and_what_was_durable_is_read() {
    let mut world = World::new();
    world.add(plain(&["kept"]));
    world.memory.fail(Fault::on(OperationKind::SyncData).named(".log"));
    let unsure = world.append(plain(&["unsure"])).unwrap_err();
    assert!(matches!(&unsure, Error::Indeterminate { .. }), "{unsure}");
    let refused = world.append(plain(&["refused"])).unwrap_err();
    assert!(matches!(&refused, Error::Unavailable { .. }), "{refused}");
    assert_eq!((unsure.kafka_code(), refused.kafka_code()), (56, 56));
    let shown = world.log().fetch(Offset(0), 1 << 20, Isolation::HighWatermark).unwrap().records().unwrap();
    assert_eq!(shown.len(), 1);
    world.kill();
    world.open().unwrap();
    world.add(plain(&["again"]));
}

/// Kafka: `LocalLogTest.testLogFlush`, `UnifiedLogTest.testHighWatermarkMaintenance`.
#[test]
fn a_buffered_append_does_not_move_the_high_watermark_and_a_flush_does() {
    let world = World::new();
    world.log().append(RawBatch(plain(&["a", "b"])), Durability::Buffered).unwrap();
    assert_eq!((world.log().high_watermark(), world.log().log_end_offset()), (Offset(0), Offset(2)));
    assert_eq!(world.log().flush().unwrap(), Offset(2));
    assert_eq!(world.log().high_watermark(), Offset(2));
    assert_eq!(world.log().flush().unwrap(), Offset(2), "a second flush has nothing to do");
}
