use proptest::prelude::*;

use super::*;
use crate::format::batch_builder::BatchBuilder;

fn header() -> BatchHeader {
    BatchHeader {
        base_offset: Offset(0x0102_0304_0506_0708),
        batch_length: 0x1112_1314,
        leader_epoch: LeaderEpoch(0x2122_2324),
        magic: 2,
        crc: 0x3132_3334,
        attributes: Attributes(0x0012),
        last_offset_delta: 0x4142_4344,
        base_timestamp: 0x5152_5354_5556_5758,
        max_timestamp: 0x6162_6364_6566_6768,
        producer_id: 0x7172_7374_7576_7778,
        producer_epoch: 0x0a0b,
        base_sequence: 0x1a1b_1c1d,
        record_count: 0x2a2b_2c2d,
    }
}

fn batch() -> Bytes {
    let producer = (ProducerId(7), ProducerEpoch(1), Sequence::new(9).unwrap());
    let builder = BatchBuilder::new().producer(producer.0, producer.1, producer.2);
    builder.record_at(1000, Some(b"k"), Some(b"v")).record_at(1005, None, None).build().unwrap()
}

fn checked() -> CheckedBatch {
    RawBatch(batch()).check().unwrap()
}

#[test]
fn each_field_stands_at_its_byte() {
    let bytes = header().to_bytes();
    #[rustfmt::skip]
    let expected = [
        0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08,
        0x11, 0x12, 0x13, 0x14,
        0x21, 0x22, 0x23, 0x24,
        0x02,
        0x31, 0x32, 0x33, 0x34,
        0x00, 0x12,
        0x41, 0x42, 0x43, 0x44,
        0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58,
        0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68,
        0x71, 0x72, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78,
        0x0a, 0x0b,
        0x1a, 0x1b, 0x1c, 0x1d,
        0x2a, 0x2b, 0x2c, 0x2d,
    ];
    assert_eq!(bytes, expected);
    assert_eq!(BatchHeader::parse(&bytes), Ok(header()));
}

#[test]
fn a_header_that_contradicts_itself_is_refused_at_the_field() {
    let refused = |change: fn(&mut BatchHeader)| {
        let mut header = header();
        change(&mut header);
        let error = BatchHeader::parse(&header.to_bytes()).unwrap_err();
        (error.field, error.at)
    };
    assert_eq!(refused(|h| h.magic = 1), ("magic", 16));
    assert_eq!(refused(|h| h.batch_length = 48), ("batch length", 8));
    assert_eq!(refused(|h| h.batch_length = -1), ("batch length", 8));
    assert_eq!(refused(|h| h.base_offset = Offset(-1)), ("base offset", 0));
    assert_eq!(refused(|h| h.base_offset = Offset(i64::MAX)), ("base offset", 0));
    assert_eq!(refused(|h| h.last_offset_delta = -1), ("last offset delta", 23));
    assert_eq!(refused(|h| h.record_count = -1), ("record count", 57));
    assert_eq!(refused(|h| h.record_count = h.last_offset_delta + 2), ("record count", 57));
    assert_eq!(refused(|h| h.producer_epoch = -1), ("producer epoch", 51));
}

/// Every magic but 2 has another layout, so nothing else is said of such a batch.
#[test]
fn another_magic_is_the_only_complaint() {
    let mut bytes = [0xff; HEADER_SIZE];
    bytes[MAGIC_AT] = 1;
    let error = BatchHeader::parse(&bytes).unwrap_err();
    assert_eq!((error.field, error.expected.as_str(), error.found.as_str()), ("magic", "2", "1"));
}

/// Kafka: `DefaultRecordBatchTest.testSizeInBytes`.
#[test]
fn a_batch_is_exactly_as_long_as_it_says() {
    let bytes = batch();
    assert_eq!(checked().header().size(), bytes.len());
    let short = RawBatch(bytes.slice(..bytes.len() - 1)).check().unwrap_err();
    assert_eq!((short.field, short.at), ("batch length", 8));
    let longer = RawBatch([&bytes[..], &[0]].concat().into()).check().unwrap_err();
    assert_eq!(longer.field, "batch length");
    for len in 0..HEADER_SIZE {
        assert_eq!(RawBatch(bytes.slice(..len)).check().unwrap_err().field, "batch header");
    }
}

/// Kafka: `DefaultRecordBatchTest.testInvalidCrc`.
#[test]
fn every_flipped_bit_that_the_crc_covers_is_noticed() {
    let bytes = batch();
    for bit in ATTRIBUTES_AT * 8..bytes.len() * 8 {
        let mut damaged = bytes.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(RawBatch(damaged.into()).check().is_err(), "bit {bit}");
    }
    let mut damaged = bytes.to_vec();
    damaged[HEADER_SIZE] ^= 1;
    let error = RawBatch(damaged.into()).check().unwrap_err();
    assert_eq!((error.field, error.at), ("CRC", 17));
    assert_eq!(error.expected, format!("{:#010x}", checked().header().crc));
}

#[test]
fn a_crc_is_never_taken_over_bytes_that_are_not_there() {
    let error = verify_crc(checked().header(), &batch()[..20]).unwrap_err();
    assert_eq!((error.field, error.found.as_str()), ("batch header", "20 left"));
    assert_eq!(crc32c(b"123456789"), 0xe306_9283, "the check value of CRC-32C");
}

/// Kafka: `DefaultRecordBatchTest.testSetLastOffset`, `testSetPartitionLeaderEpoch`.
#[test]
fn what_the_leader_stamps_leaves_the_crc_valid() {
    let prefix = checked().stamped_prefix(Offset(500), LeaderEpoch(6));
    let stamped = [&prefix[..], &batch()[ATTRIBUTES_AT..]].concat();
    let stamped = RawBatch(stamped.into()).check().unwrap();
    let expected =
        BatchHeader { base_offset: Offset(500), leader_epoch: LeaderEpoch(6), ..*checked().header() };
    assert_eq!(*stamped.header(), expected);
    assert_eq!((expected.last_offset(), expected.next_offset()), (Offset(501), Offset(502)));
}

/// Kafka: `DefaultRecordBatchTest.testSetLogAppendTime`.
#[test]
fn broker_timestamps_rewrite_the_crc_and_nothing_else() {
    let stamped = checked().with_log_append_time(9999);
    let proven = RawBatch(stamped.bytes().clone()).check().unwrap();
    assert_eq!(proven, stamped);
    let expected = BatchHeader {
        attributes: Attributes(Attributes::LOG_APPEND_TIME),
        max_timestamp: 9999,
        crc: stamped.header().crc,
        ..*checked().header()
    };
    assert_eq!(*stamped.header(), expected);
    assert_eq!(stamped.payload(), checked().payload());
    assert_eq!(stamped.clone().with_log_append_time(9999), stamped);
}

/// Kafka: `DefaultRecordBatchTest.testIncrementSequence`, `testDecrementSequence`.
#[test]
fn sequences_wrap_after_the_largest() {
    let at = |value| Sequence::new(value).unwrap();
    assert_eq!(at(5).wrapping_add(10), at(15));
    assert_eq!(at(i32::MAX).wrapping_add(1), at(0));
    assert_eq!(at(i32::MAX - 5).wrapping_add(10), at(4));
    assert_eq!(at(5).wrapping_sub(5), at(0));
    assert_eq!(at(0).wrapping_sub(1), at(i32::MAX));
    assert_eq!(at(4).wrapping_sub(10), at(i32::MAX - 5));
}

#[test]
fn each_attribute_bit_has_its_meaning() {
    let none = Attributes(0);
    assert_eq!((none.codec(), none.timestamp_type()), (0, TimestampType::CreateTime));
    assert!(!none.is_transactional() && !none.is_control() && !none.has_delete_horizon());
    assert_eq!(Attributes(7).codec(), 7);
    assert_eq!(Attributes(-1).codec(), 7);
    assert_eq!(Attributes(8).timestamp_type(), TimestampType::LogAppendTime);
    assert!(Attributes(16).is_transactional() && !Attributes(!16).is_transactional());
    assert!(Attributes(32).is_control() && !Attributes(!32).is_control());
    assert!(Attributes(64).has_delete_horizon() && !Attributes(!64).has_delete_horizon());
}

#[test]
fn a_max_timestamp_is_put_right_with_its_crc() {
    let right = checked().with_max_timestamp(1003);
    assert_eq!(RawBatch(right.bytes().clone()).check(), Ok(right.clone()));
    let expected = BatchHeader { max_timestamp: 1003, crc: right.header().crc, ..*checked().header() };
    assert_eq!(*right.header(), expected);
    assert_eq!(right.with_max_timestamp(1005).bytes(), checked().bytes());
}

#[test]
fn a_fingerprint_tells_offsets_epoch_count_and_bytes() {
    let expected = Fingerprint {
        last_offset: Offset(1),
        leader_epoch: LeaderEpoch::NONE,
        record_count: 2,
        crc: checked().header().crc,
    };
    assert_eq!(checked().header().fingerprint(), expected);
}

#[test]
fn sealing_computes_length_and_crc_whatever_the_header_says() {
    let sealed = seal(BatchHeader { batch_length: -5, crc: 1, ..*checked().header() }, checked().payload());
    assert_eq!(sealed, batch());
}

proptest! {
    #[test]
    fn any_header_that_parses_survives_the_round_trip(mut bytes: [u8; 32], rest: [u8; 29]) {
        bytes[MAGIC_AT] = 2;
        let bytes = [&bytes[..], &rest[..]].concat();
        if let Ok(header) = BatchHeader::parse(&bytes) {
            prop_assert_eq!(&header.to_bytes()[..], &bytes[..]);
            prop_assert!(header.next_offset() > header.base_offset);
        }
    }

    #[test]
    fn bytes_of_any_kind_never_make_the_check_panic(bytes in proptest::collection::vec(any::<u8>(), 0..150)) {
        let _ = RawBatch(bytes.into()).check();
    }
}
