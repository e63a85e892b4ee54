//! What a leader accepts of a client (LogValidatorTest).

use bytes::Bytes;
use oncelog::format::batch::{Attributes, BatchHeader, HEADER_SIZE, seal};
use oncelog::{
    BatchBuilder, Codec, Isolation, LogConfig, Malformed, Offset, ProducerEpoch, ProducerId, Rejection,
    TimestampType,
};

use crate::world::{NOW, World, plain, small};

/// The batch with its header changed and its CRC right again.
fn altered(batch: &Bytes, alter: impl FnOnce(&mut BatchHeader)) -> Bytes {
    let mut header = BatchHeader::parse(batch).unwrap();
    alter(&mut header);
    seal(header, &batch[HEADER_SIZE..])
}

fn invalid_record(world: &World, batch: Bytes) -> Malformed {
    match world.rejection(batch) {
        Rejection::InvalidRecord(malformed) => malformed,
        other => panic!("expected an invalid record, found {other:?}"),
    }
}

fn corrupt(world: &World, batch: Bytes) -> Malformed {
    match world.rejection(batch) {
        Rejection::CorruptMessage(malformed) => malformed,
        other => panic!("expected a corrupt message, found {other:?}"),
    }
}

fn invalid_timestamp(world: &World, batch: Bytes) -> Malformed {
    match world.rejection(batch) {
        Rejection::InvalidTimestamp(malformed) => malformed,
        other => panic!("expected an invalid timestamp, found {other:?}"),
    }
}

/// Kafka: `LogValidatorTest.checkOnlyOneBatch`, `checkAllowMultiBatch`.
#[test]
fn two_batches_in_one_request_are_refused() {
    let world = World::new();
    let both = [plain(&["a"]), plain(&["b"])].concat();
    corrupt(&world, both.into());
}

/// Kafka: `LogValidatorTest.testBatchWithoutRecordsNotAllowed`.
#[test]
fn a_batch_without_records_is_refused() {
    let world = World::new();
    let empty = BatchBuilder::new().build().unwrap();
    assert_eq!(invalid_record(&world, empty).field, "record count");
}

/// Kafka: `LogValidatorTest.checkMismatchMagic`.
#[test]
fn a_batch_of_another_magic_is_refused_as_invalid_not_as_damaged() {
    let world = World::new();
    for magic in [0, 1, 3] {
        let mut batch = plain(&["a"]).to_vec();
        batch[16] = magic;
        assert_eq!(invalid_record(&world, batch.into()).field, "magic");
    }
}

/// Kafka: `LogValidatorTest.checkInvalidChecksum`, `DefaultRecordBatchTest.testInvalidCrc`.
#[test]
fn a_batch_with_a_wrong_checksum_is_refused_as_damaged() {
    let world = World::new();
    let batch = plain(&["a"]);
    for at in 17..batch.len() {
        let mut bytes = batch.to_vec();
        bytes[at] ^= 0x40;
        corrupt(&world, bytes.into());
    }
}

/// A batch that is cut or followed by something is refused as damaged, whatever is left of it.
#[test]
fn a_batch_that_is_too_short_or_too_long_is_refused() {
    let world = World::new();
    let batch = plain(&["a"]);
    for len in 0..batch.len() {
        corrupt(&world, batch.slice(..len));
    }
    corrupt(&world, [&batch[..], &[0]].concat().into());
}

/// Kafka: `LogValidatorTest.checkInvalidSequence`.
#[test]
fn a_producer_id_without_a_sequence_is_refused() {
    let world = World::new();
    let batch = BatchBuilder::new().producer_without_sequence(ProducerId(1), ProducerEpoch(0)).record_at(
        NOW,
        None,
        Some(b"v"),
    );
    assert_eq!(invalid_record(&world, batch.build().unwrap()).field, "base sequence");
}

/// Kafka: `LogValidatorTest.testValidationOfBatchesWithNonSequentialInnerOffsets`,
/// `testNonIncreasingOffsetRecordBatchHasMetricsLogged`.
#[test]
fn records_whose_offsets_skip_one_are_refused() {
    let world = World::new();
    let batch =
        BatchBuilder::new().record_at(NOW, None, Some(b"a")).skip_offsets(1).record_at(NOW, None, None);
    let skipping = batch.build().unwrap();
    let count_fits = altered(&skipping, |header| header.last_offset_delta = 1);
    invalid_record(&world, skipping);
    invalid_record(&world, count_fits);
}

/// Kafka: `LogValidatorTest.testRecordBatchWithCountOverrides`, `testInconsistentCountAndOffset`,
/// `testUnmatchedNumberOfRecords`, `DefaultRecordBatchTest.testInvalidRecordCountTooManyNonCompressedV2`,
/// `testInvalidRecordCountTooLittleNonCompressedV2` and their compressed twins.
#[test]
fn the_record_count_is_the_offset_range_is_the_number_of_records() {
    let world = World::new();
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let builder = BatchBuilder::new().codec(codec).record_at(NOW, None, Some(b"a"));
        let batch =
            builder.record_at(NOW, None, Some(b"b")).record_at(NOW, None, Some(b"c")).build().unwrap();
        for (count, delta) in [(3, 1), (3, 3), (2, 2), (4, 2), (0, 2), (-1, 2), (3, -1)] {
            let wrong = altered(&batch, |header| {
                (header.record_count, header.last_offset_delta) = (count, delta);
            });
            let rejection = world.rejection(wrong);
            assert!(matches!(rejection.kafka_code(), 2 | 87), "{codec:?} {count} {delta}: {rejection}");
        }
        for count in [1, 2, 4, 5] {
            let wrong = altered(&batch, |header| {
                (header.record_count, header.last_offset_delta) = (count, count - 1);
            });
            invalid_record(&world, wrong);
        }
        world.add(batch);
    }
}

/// Kafka: `LogValidatorTest.testAbsoluteOffsetAssignmentNonCompressed`, `testAbsoluteOffsetAssignmentCompressed`,
/// `testRelativeOffsetAssignmentNonCompressedV2`, `testRelativeOffsetAssignmentCompressedV2`.
#[test]
fn records_get_the_offsets_from_the_log_end_on() {
    let world = World::new();
    for codec in [Codec::None, Codec::Gzip] {
        let end = world.log().log_end_offset().0;
        let builder = BatchBuilder::new().codec(codec).record_at(NOW, None, Some(b"a"));
        world.add(builder.record_at(NOW, None, Some(b"b")).build().unwrap());
        let offsets: Vec<i64> = world.records(end).iter().map(|record| record.offset.0).collect();
        assert_eq!(offsets, [end, end + 1]);
    }
    let elsewhere = altered(&plain(&["a"]), |header| header.base_offset = Offset(7));
    assert_eq!(invalid_record(&world, elsewhere).field, "base offset");
}

/// Kafka: `LogValidatorTest.checkLogAppendTimeNonCompressed`, `checkLogAppendTimeWithoutRecompression`,
/// `DefaultRecordBatchTest.testSetLogAppendTime`.
#[test]
fn log_append_time_rewrites_the_header_and_nothing_else() {
    let world = World::with(LogConfig { timestamp_type: TimestampType::LogAppendTime, ..small() });
    world.advance(123);
    for codec in [Codec::None, Codec::Lz4] {
        let builder = BatchBuilder::new().codec(codec).record_at(NOW - 5000, None, Some(b"a"));
        let batch = builder.record_at(NOW + 99_000_000, None, Some(b"b")).build().unwrap();
        let base = world.add(batch.clone());
        let fetched = world.log().fetch(Offset(base), 1, Isolation::LogEnd).unwrap();
        let stored = fetched.batches().unwrap().next().unwrap().unwrap();
        assert_eq!(stored.header.max_timestamp, world.wall_ms());
        assert_eq!(stored.header.attributes.timestamp_type(), TimestampType::LogAppendTime);
        assert_eq!(stored.bytes[HEADER_SIZE..], batch[HEADER_SIZE..]);
        let times: Vec<i64> = stored.records().unwrap().iter().map(|record| record.timestamp).collect();
        assert_eq!(times, [world.wall_ms(); 2]);
    }
}

/// Kafka: `LogValidatorTest.testInvalidCreateTimeNonCompressedV2`, `testInvalidCreateTimeCompressedV2`,
/// `testRecordWithFutureTimestampIsRejected`, `testRecordWithPastTimestampIsRejected`.
#[test]
fn timestamps_too_far_from_now_are_refused_and_those_at_the_limit_are_not() {
    let limits =
        LogConfig { timestamp_before_max_ms: Some(1000), timestamp_after_max_ms: Some(500), ..small() };
    let world = World::with(limits);
    for codec in [Codec::None, Codec::Zstd] {
        let at = |timestamp| {
            let builder = BatchBuilder::new().codec(codec);
            builder.record_at(NOW + timestamp, None, Some(b"v")).build().unwrap()
        };
        world.add(at(-1000));
        world.add(at(500));
        assert_eq!(invalid_timestamp(&world, at(-1001)).field, "max timestamp");
        assert_eq!(invalid_timestamp(&world, at(501)).field, "max timestamp");
    }
    let both = BatchBuilder::new().record_at(NOW - 1001, None, Some(b"v")).record_at(NOW, None, Some(b"v"));
    let one_too_old = invalid_timestamp(&world, both.build().unwrap());
    assert_eq!((one_too_old.field, one_too_old.found), ("record timestamp", (NOW - 1001).to_string()));
    let marked = altered(&plain(&["a"]), |header| header.attributes.0 |= Attributes::LOG_APPEND_TIME);
    assert_eq!(invalid_timestamp(&world, marked).field, "attributes");
}

/// Kafka: `LogValidatorTest.testInvalidRecordExceptionHasBatchIndex`, `testInvalidTimestampExceptionHasBatchIndex`. Kafka
/// tells the index of the record in the batch; here it is the byte, of the header or of the opened records.
#[test]
fn a_rejection_names_the_field_its_place_and_both_values() {
    let world = World::with(LogConfig { timestamp_after_max_ms: Some(500), ..small() });
    let batch = BatchBuilder::new().record_at(NOW, None, Some(b"a")).skip_offsets(1);
    let skipping = batch.record_at(NOW, None, Some(b"b")).build().unwrap();
    let skipping = altered(&skipping, |header| header.last_offset_delta = 1);
    // The first record takes eight bytes; length, attributes and timestamp of the second take three.
    assert_eq!(invalid_record(&world, skipping), Malformed::new("offset delta", 11, 1, 2));

    let future = BatchBuilder::new().record_at(NOW + 501, None, Some(b"v")).build().unwrap();
    let expected = format!("any time to {}", NOW + 500);
    assert_eq!(invalid_timestamp(&world, future), Malformed::new("max timestamp", 35, expected, NOW + 501));
}

/// A header whose largest timestamp is not that of its records is put right, so that no index learns a wrong one.
#[test]
fn a_wrong_max_timestamp_in_the_header_is_put_right() {
    let world = World::new();
    let wrong = altered(&plain(&["a"]), |header| header.max_timestamp = NOW + 1_000_000_000);
    assert_eq!(world.append(wrong).unwrap().timestamp, NOW);
    assert_eq!(world.log().offset_for_timestamp(NOW + 1, Isolation::LogEnd).unwrap(), None);
}

/// Kafka: `LogValidatorTest.testControlRecordsNotAllowedFromClients`, `testControlRecordsNotCompressed`.
#[test]
fn a_control_batch_is_refused_from_a_client() {
    let world = World::new();
    let marker = altered(&plain(&["a"]), |header| header.attributes.0 |= Attributes::CONTROL);
    assert_eq!(invalid_record(&world, marker).field, "attributes");
    let cleaned = altered(&plain(&["a"]), |header| header.attributes.0 |= Attributes::DELETE_HORIZON);
    assert_eq!(invalid_record(&world, cleaned).field, "attributes");
}

/// Kafka: `LogValidatorTest.testBatchWithInvalidRecordsAndInvalidTimestamp`. In Kafka the timestamp error wins; here a
/// timestamp is judged only where the records can be read.
#[test]
fn invalid_records_win_over_an_invalid_timestamp() {
    let world = World::with(LogConfig { timestamp_after_max_ms: Some(500), ..small() });
    let future = BatchBuilder::new().record_at(NOW + 501, None, Some(b"v")).build().unwrap();
    let both = altered(&future, |header| (header.record_count, header.last_offset_delta) = (2, 1));
    invalid_record(&world, both);
}

#[test]
fn an_unknown_codec_is_refused_by_its_number() {
    let world = World::new();
    for id in 5..8 {
        let batch = altered(&plain(&["a"]), |header| header.attributes.0 |= id);
        match world.rejection(batch) {
            Rejection::UnsupportedCompression { codec, .. } => assert_eq!(i16::from(codec), id),
            other => panic!("{other}"),
        }
    }
}
