//! Malformed batches: each is rejected by its own rule, with its own code, and nothing is written. Settings out of range:
//! the message says what is accepted.

use std::sync::Arc;

use bytes::Bytes;
use oncelog::format::batch::{ATTRIBUTES_AT, Attributes, BatchHeader, HEADER_SIZE, crc32c, seal};
use oncelog::storage::{ManualClock, MemoryStorage};
use oncelog::{
    BatchBuilder, Durability, Error, LeaderEpoch, Log, LogConfig, Malformed, Offset, ProducerEpoch,
    ProducerId, RawBatch, Rejection, Sequence, TimestampType,
};

use super::stand::{Stand, all_files};
use crate::common::check::{DIR, environment_with_clock, small_config};
use crate::common::ledger::{Issued, NOW_MS};

fn good() -> Bytes {
    Issued::new(1, 0, 7, 2).bytes
}

/// A good batch with another header, whose CRC is right.
fn with(change: impl FnOnce(&mut BatchHeader)) -> Bytes {
    let good = good();
    let mut header = BatchHeader::parse(&good).unwrap();
    change(&mut header);
    seal(header, &good[HEADER_SIZE..])
}

/// A good header before another payload, with a CRC that is right.
fn with_payload(payload: &[u8]) -> Bytes {
    seal(BatchHeader::parse(&good()).unwrap(), payload)
}

fn built(batch: BatchBuilder) -> Bytes {
    batch.record_at(NOW_MS, None, Some(b"value")).build().unwrap()
}

fn corrupt(field: &'static str, at: u64, expected: &str, found: &str) -> Rejection {
    Rejection::CorruptMessage(Malformed::new(field, at, expected, found))
}

fn invalid(field: &'static str, at: u64, expected: &str, found: &str) -> Rejection {
    Rejection::InvalidRecord(Malformed::new(field, at, expected, found))
}

/// Name, bytes, rule, Kafka's code.
fn malformed() -> Vec<(&'static str, Bytes, Rejection, i16)> {
    let good = good();
    let len = good.len();
    let behind_length = i32::try_from(len - 12).unwrap();
    let edited = |at: usize, byte: u8| {
        let mut bytes = good.to_vec();
        bytes[at] = byte;
        Bytes::from(bytes)
    };
    let long: Bytes = [&good[..], &[0]].concat().into();
    let twice: Bytes = [&good[..], &good[..]].concat().into();
    let payload = &good[HEADER_SIZE..];
    let trailing = [payload, &[0]].concat();
    let mut offset_twice = payload.to_vec();
    // The second record begins in the middle: length, attributes, timestamp delta, offset delta.
    offset_twice[payload.len() / 2 + 3] = 0;
    let length = |given: usize| format!("{} (the bytes given, less 12)", given - 12);
    let crc = |bytes: &[u8], field_of: &[u8]| {
        let stated = BatchHeader::parse(field_of).unwrap().crc;
        let found = format!("{:#010x} over the bytes", crc32c(&bytes[ATTRIBUTES_AT..]));
        corrupt("CRC", 17, &format!("{stated:#010x}"), &found)
    };
    let (wrong_bit, wrong_crc) = (edited(len - 2, 1), edited(17, !good[17]));
    let large = Issued::new(1, 0, 7, 30).bytes;
    let producer = |sequence| {
        BatchBuilder::new().producer(ProducerId(1), ProducerEpoch(0), Sequence::new(sequence).unwrap())
    };
    let far = NOW_MS + 3_600_001;
    vec![
        ("nothing at all", Bytes::new(), corrupt("batch header", 0, "61 bytes", "0 left"), 2),
        ("less than a header", good.slice(..60), corrupt("batch header", 0, "61 bytes", "60 left"), 2),
        (
            "one byte short",
            good.slice(..len - 1),
            corrupt("batch length", 8, &length(len - 1), &behind_length.to_string()),
            2,
        ),
        ("one byte long", long, corrupt("batch length", 8, &length(len + 1), &behind_length.to_string()), 2),
        ("two batches", twice, corrupt("batch length", 8, &length(2 * len), &behind_length.to_string()), 2),
        ("magic 1", edited(16, 1), invalid("magic", 16, "2", "1"), 87),
        ("magic 3", edited(16, 3), invalid("magic", 16, "2", "3"), 87),
        ("a wrong bit in the payload", wrong_bit.clone(), crc(&wrong_bit, &good), 2),
        ("a wrong CRC", wrong_crc.clone(), crc(&good, &wrong_crc), 2),
        (
            "one record too many in the header",
            with(|header| (header.record_count, header.last_offset_delta) = (3, 2)),
            invalid("record length", 110, "1 bytes", "0 left"),
            87,
        ),
        (
            "one record too few in the header",
            with(|header| (header.record_count, header.last_offset_delta) = (1, 0)),
            invalid("record count", 55, "the end", "55 more bytes"),
            87,
        ),
        (
            "no record",
            seal(BatchHeader { record_count: 0, ..BatchHeader::parse(&good).unwrap() }, &[]),
            invalid("record count", 57, "at least 1", "0"),
            87,
        ),
        (
            "a delta that is not the count less one",
            with(|header| header.last_offset_delta = 5),
            invalid("last offset delta", 23, "1 (record count less 1)", "5"),
            87,
        ),
        (
            "a negative delta",
            with(|header| header.last_offset_delta = -1),
            corrupt("last offset delta", 23, "0 or more", "-1"),
            2,
        ),
        (
            "a producer without sequence",
            built(BatchBuilder::new().producer_without_sequence(ProducerId(1), ProducerEpoch(0))),
            invalid("base sequence", 53, "0 or more beside a producer id", "-1"),
            87,
        ),
        (
            "a control batch",
            with(|header| header.attributes.0 |= Attributes::CONTROL),
            invalid("attributes", 21, "no control bit from a client", "0x0020"),
            87,
        ),
        (
            "a delete horizon",
            with(|header| header.attributes.0 |= Attributes::DELETE_HORIZON),
            invalid("attributes", 21, "no delete horizon from a client", "0x0040"),
            87,
        ),
        (
            "a transactional batch that nobody has verified",
            built(producer(7).transactional()),
            Rejection::InvalidTxnState(
                "producer 1 would begin a transaction of epoch 0 that was not verified: ask for a guard, ask the \
                 transaction coordinator, and send the batch again with the guard"
                    .to_owned(),
            ),
            48,
        ),
        (
            "a transactional batch of nobody",
            built(BatchBuilder::new().transactional()),
            invalid("producer id", 43, "0 or more in a transaction", "-1"),
            87,
        ),
        (
            "the broker's timestamps from a client",
            built(producer(7).timestamp_type(TimestampType::LogAppendTime)),
            Rejection::InvalidTimestamp(Malformed::new(
                "attributes",
                21,
                "CreateTime from a client",
                "LogAppendTime",
            )),
            32,
        ),
        (
            "a base offset",
            built(producer(7).base_offset(Offset(5))),
            invalid("base offset", 0, "0 from a producer", "5"),
            87,
        ),
        (
            "an hour and a millisecond in the future",
            producer(7).record_at(far, None, None).build().unwrap(),
            Rejection::InvalidTimestamp(Malformed::new(
                "max timestamp",
                35,
                format!("{} to {}", NOW_MS - 86_400_000, NOW_MS + 3_600_000),
                far,
            )),
            32,
        ),
        (
            "a day and a millisecond in the past",
            producer(7).record_at(NOW_MS - 86_400_001, None, None).build().unwrap(),
            Rejection::InvalidTimestamp(Malformed::new(
                "max timestamp",
                35,
                format!("{} to {}", NOW_MS - 86_400_000, NOW_MS + 3_600_000),
                NOW_MS - 86_400_001,
            )),
            32,
        ),
        (
            "an unknown codec",
            with(|header| header.attributes.0 |= 5),
            Rejection::UnsupportedCompression { codec: 5, why: "no codec has this number".to_owned() },
            76,
        ),
        (
            "a byte behind the last record",
            with_payload(&trailing),
            invalid("record count", 110, "the end", "1 more bytes"),
            87,
        ),
        ("half a record", with_payload(&payload[..80]), invalid("record", 56, "54 bytes", "24 left"), 87),
        ("an offset twice", with_payload(&offset_twice), invalid("offset delta", 58, "1", "0"), 87),
        (
            "larger than is accepted",
            large.clone(),
            Rejection::BatchTooLarge { limit: 1_500, found: large.len() as u64 },
            10,
        ),
    ]
}

#[test]
fn each_malformed_batch_is_rejected_by_its_rule_and_nothing_is_written() {
    let disk = MemoryStorage::new();
    let config =
        LogConfig { max_batch_bytes: 1_500, timestamp_before_max_ms: Some(86_400_000), ..small_config() };
    let environment = environment_with_clock(&disk, Arc::new(ManualClock::new(NOW_MS)));
    let (log, _) = Log::open_with(DIR, config, environment).unwrap();
    for sequence in 0..7 {
        log.append(Issued::new(1, 0, sequence, 1).raw(), Durability::Durable).unwrap();
    }
    let (files, operations, end) = (all_files(&disk), disk.operations(), log.log_end_offset());
    let entry = log.producer(ProducerId(1)).unwrap();
    for (name, bytes, expected, code) in malformed() {
        match log.append(RawBatch(bytes), Durability::Durable) {
            Err(Error::Rejected(rejection)) => {
                assert_eq!(rejection.kafka_code(), code, "{name}: {rejection}");
                assert_eq!(rejection, expected, "{name}");
            }
            other => panic!("{name}: {other:?}"),
        }
        assert_eq!(disk.operations(), operations, "{name}: the disk was touched");
        assert_eq!((log.log_end_offset(), log.producer(ProducerId(1)).unwrap()), (end, entry), "{name}");
    }
    assert_eq!(all_files(&disk), files);
    log.append(RawBatch(good()), Durability::Durable).unwrap();
}

#[test]
fn bytes_that_their_codec_does_not_know_are_rejected() {
    let stand = Stand::with_history();
    for (codec, name) in [(1, "gzip"), (2, "snappy"), (3, "lz4"), (4, "zstd")] {
        let answer =
            stand.log.append(RawBatch(with(|header| header.attributes.0 |= codec)), Durability::Durable);
        match answer {
            Err(Error::Rejected(rejection @ Rejection::InvalidRecord(_))) => {
                assert!(rejection.to_string().starts_with(&format!("invalid record: {name}")), "{rejection}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    assert_eq!(stand.log.log_end_offset(), Offset(21));
}

#[test]
fn a_batch_larger_than_a_segment_is_rejected() {
    let disk = MemoryStorage::new();
    let config = LogConfig { segment_bytes: 200, ..small_config() };
    let environment = environment_with_clock(&disk, Arc::new(ManualClock::new(NOW_MS)));
    let (log, _) = Log::open_with(DIR, config, environment).unwrap();
    let batch = Issued::new(1, 0, 0, 3);
    let found = batch.bytes.len() as u64;
    match log.append(batch.raw(), Durability::Durable) {
        Err(Error::Rejected(rejection)) => {
            assert_eq!(rejection, Rejection::SegmentTooSmall { limit: 200, found });
            assert_eq!(rejection.kafka_code(), 18);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_setting_out_of_range_is_refused_with_its_range_before_anything_is_made() {
    let good = small_config;
    let settings = [
        (LogConfig { segment_bytes: 127, ..good() }, "segment_bytes is 127; accepted is 128 to 2147483647"),
        (LogConfig { segment_ms: 0, ..good() }, "segment_ms is 0; accepted is 1 to 9223372036854775807"),
        (
            LogConfig { index_interval_bytes: 1 << 31, ..good() },
            "index_interval_bytes is 2147483648; accepted is 0 to 2147483647",
        ),
        (
            LogConfig { segment_index_bytes: 8, ..good() },
            "segment_index_bytes is 8; accepted is 24 to 2147483647",
        ),
        (LogConfig { max_batch_bytes: 60, ..good() }, "max_batch_bytes is 60; accepted is 61 to 2147483647"),
        (
            LogConfig { producer_expiry_ms: 0, ..good() },
            "producer_expiry_ms is 0; accepted is 1 to 18446744073709551615",
        ),
        (
            LogConfig { checkpoint_bytes: 0, ..good() },
            "checkpoint_bytes is 0; accepted is 1 to 18446744073709551615",
        ),
        (
            LogConfig { checkpoint_producers: 0, ..good() },
            "checkpoint_producers is 0; accepted is 1 to 18446744073709551615",
        ),
        (
            LogConfig { background_sync_bytes: 0, ..good() },
            "background_sync_bytes is 0; accepted is 1 to 18446744073709551615",
        ),
        (LogConfig { queue_bytes: 0, ..good() }, "queue_bytes is 0; accepted is 1 to 1099511627776"),
    ];
    for (config, message) in settings {
        let disk = MemoryStorage::new();
        let environment = environment_with_clock(&disk, Arc::new(ManualClock::new(NOW_MS)));
        let error = Log::open_with(DIR, config, environment).unwrap_err();
        assert!(matches!(error, Error::Misuse(_)), "{error:?}");
        assert_eq!(error.to_string(), format!("misuse: {message}"));
        assert_eq!(disk.operations(), 0, "{message}");
    }
}

#[test]
fn a_negative_segment_age_is_shown_as_it_was_given() {
    let error = LogConfig { segment_ms: -5, ..small_config() }.validate().unwrap_err();
    assert_eq!(error.to_string(), "misuse: segment_ms is -5; accepted is 1 to 9223372036854775807");
}

#[test]
fn a_leader_epoch_below_that_of_the_log_is_refused_with_the_range() {
    let Stand { disk, log, .. } = Stand::new();
    drop(log);
    let open = |epoch| {
        let config = LogConfig { leader_epoch: Some(LeaderEpoch(epoch)), ..small_config() };
        Log::open_with(DIR, config, environment_with_clock(&disk, Arc::new(ManualClock::new(NOW_MS))))
    };
    let (log, _) = open(6).unwrap();
    log.append(Issued::new(1, 0, 0, 1).raw(), Durability::Durable).unwrap();
    drop(log);
    let message = open(5).unwrap_err().to_string();
    assert!(message.starts_with("misuse: leader_epoch is 5; "), "{message}");
    assert!(message.ends_with("accepted is 6 to 2147483647"), "{message}");
}
