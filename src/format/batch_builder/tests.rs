use proptest::prelude::*;

use super::*;
use crate::format::compression::decompress;
use crate::format::record::{Records, validate_records};

fn check(bytes: &Bytes) -> CheckedBatch {
    RawBatch(bytes.clone()).check().unwrap()
}

#[test]
fn a_batch_of_one_record_has_the_bytes_that_kafka_writes() {
    let batch = BatchBuilder::new()
        .base_offset(Offset(5))
        .leader_epoch(LeaderEpoch(2))
        .producer(ProducerId(7), ProducerEpoch(1), Sequence::new(9).unwrap())
        .record_at(1000, Some(b"a"), None)
        .build()
        .unwrap();
    #[rustfmt::skip]
    let expected = [
        0, 0, 0, 0, 0, 0, 0, 5,
        0, 0, 0, 57,
        0, 0, 0, 2,
        2,
        0xff, 0x8e, 0xae, 0x35,
        0, 0,
        0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0x03, 0xe8,
        0, 0, 0, 0, 0, 0, 0x03, 0xe8,
        0, 0, 0, 0, 0, 0, 0, 7,
        0, 1,
        0, 0, 0, 9,
        0, 0, 0, 1,
        0x0e, 0, 0, 0, 2, b'a', 1, 0,
    ];
    assert_eq!(batch[..], expected);
}

/// Kafka: `DefaultRecordBatchTest.buildDefaultRecordBatch`.
#[test]
fn what_is_left_out_stands_as_none() {
    let header = *check(&BatchBuilder::new().record(None, Some(b"v")).build().unwrap()).header();
    assert_eq!((header.base_offset, header.leader_epoch), (Offset(0), LeaderEpoch::NONE));
    assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (-1, -1, -1));
    assert_eq!((header.attributes, header.producer(), header.sequences()), (Attributes(0), None, None));
    assert_eq!((header.base_timestamp, header.max_timestamp), (0, 0));
}

/// Kafka: `DefaultRecordBatchTest.buildDefaultRecordBatchWithProducerId`.
#[test]
fn records_keep_their_timestamps_and_get_consecutive_offsets() {
    let batch = BatchBuilder::new()
        .base_offset(Offset(100))
        .record_at(50, Some(b"k1"), Some(b"v1"))
        .record_at(40, None, None)
        .record(Some(b""), Some(b""))
        .record_with_headers(60, None, Some(b"v4"), &[("h", Some(b"x")), ("", None)])
        .build()
        .unwrap();
    let batch = check(&batch);
    let header = *batch.header();
    assert_eq!((header.base_timestamp, header.max_timestamp, header.last_offset_delta), (50, 60, 3));
    let records = Records::new(batch.payload(), header.record_count).collect::<Result<Vec<_>, _>>().unwrap();
    let places: Vec<_> =
        records.iter().map(|record| (record.offset(&header).0, record.timestamp(&header))).collect();
    assert_eq!(places, [(100, 50), (101, 40), (102, 40), (103, 60)]);
    let keys: Vec<_> = records.iter().map(|record| record.key).collect();
    assert_eq!(keys, [Some(&b"k1"[..]), None, Some(&b""[..]), None]);
    let values: Vec<_> = records.iter().map(|record| record.value).collect();
    assert_eq!(values, [Some(&b"v1"[..]), None, Some(&b""[..]), Some(&b"v4"[..])]);
    let headers: Vec<_> = records[3].headers.iter().map(|h| (h.key, h.value)).collect();
    assert_eq!(headers, [("h", Some(&b"x"[..])), ("", None)]);
}

/// Kafka: `DefaultRecordBatchTest.buildDefaultRecordBatchWithSequenceWrapAround`.
#[test]
fn sequences_of_a_batch_may_wrap() {
    let first = Sequence::new(i32::MAX - 1).unwrap();
    let mut builder = BatchBuilder::new().producer(ProducerId(1), ProducerEpoch(0), first);
    for _ in 0..4 {
        builder = builder.record(None, Some(b"v"));
    }
    let header = *check(&builder.build().unwrap()).header();
    assert_eq!(header.sequences(), Some((first, Sequence::new(1).unwrap())));
}

/// Kafka: `DefaultRecordBatchTest.testWriteEmptyHeader`.
#[test]
fn a_batch_without_records_is_a_bare_header() {
    let batch = BatchBuilder::new()
        .base_offset(Offset(1))
        .producer(ProducerId(23), ProducerEpoch(5), Sequence::new(42).unwrap())
        .codec(Codec::Zstd)
        .transactional()
        .control()
        .last_offset_delta(14)
        .build()
        .unwrap();
    assert_eq!(batch.len(), HEADER_SIZE);
    let header = *check(&batch).header();
    assert_eq!((header.last_offset(), header.record_count, header.base_timestamp), (Offset(15), 0, -1));
    assert_eq!(header.sequences(), Some((Sequence::new(42).unwrap(), Sequence::new(56).unwrap())));
    assert_eq!(header.attributes.codec(), 0);
    assert!(header.attributes.is_transactional() && header.attributes.is_control());
}

#[test]
fn skipped_offsets_make_the_gaps_that_compaction_leaves() {
    let batch = BatchBuilder::new()
        .skip_offsets(2)
        .record(None, Some(b"a"))
        .skip_offsets(3)
        .record(None, Some(b"b"))
        .skip_offsets(1)
        .build()
        .unwrap();
    let batch = check(&batch);
    assert_eq!((batch.header().last_offset_delta, batch.header().record_count), (7, 2));
    let deltas: Vec<_> =
        Records::new(batch.payload(), 2).map(|record| record.unwrap().offset_delta).collect();
    assert_eq!(deltas, [2, 6]);
}

#[test]
fn a_delete_horizon_stands_in_the_place_of_the_base_timestamp() {
    let batch = BatchBuilder::new().delete_horizon(9000).record_at(1000, Some(b"k"), None).build().unwrap();
    let batch = check(&batch);
    let header = *batch.header();
    assert!(header.attributes.has_delete_horizon());
    assert_eq!((header.base_timestamp, header.max_timestamp), (9000, 1000));
    let record = Records::new(batch.payload(), 1).next().unwrap().unwrap();
    assert_eq!(record.timestamp(&header), 1000);
}

#[test]
fn a_broker_timestamp_is_that_of_every_record() {
    let builder = BatchBuilder::new().timestamp_type(TimestampType::LogAppendTime);
    let batch = check(&builder.record_at(10, None, None).record_at(30, None, None).build().unwrap());
    let header = *batch.header();
    assert_eq!(header.attributes.timestamp_type(), TimestampType::LogAppendTime);
    let stamps = Records::new(batch.payload(), 2).map(|record| record.unwrap().timestamp(&header));
    assert_eq!(stamps.collect::<Vec<_>>(), [30, 30]);
    let back = BatchBuilder::new().timestamp_type(TimestampType::LogAppendTime);
    let back = back.timestamp_type(TimestampType::CreateTime).record(None, None).build().unwrap();
    assert_eq!(check(&back).header().attributes, Attributes(0));
}

#[test]
fn what_does_not_fit_the_format_is_an_error_of_build() {
    let field = |builder: BatchBuilder| builder.build().unwrap_err().field;
    let far = BatchBuilder::new().record_at(i64::MIN, None, None).record_at(1, None, None);
    assert_eq!(field(far), "timestamp");
    let wide = BatchBuilder::new().skip_offsets(u32::MAX).record(None, None);
    assert_eq!(field(wide), "last offset delta");
    let crowded = BatchBuilder::new().record(None, None).record(None, None).last_offset_delta(0);
    assert_eq!(field(crowded), "record count");
    assert_eq!(field(BatchBuilder::new().base_offset(Offset(-1)).record(None, None)), "base offset");
    let negative = BatchBuilder::new().producer_without_sequence(ProducerId(1), ProducerEpoch(-1));
    assert_eq!(field(negative.record(None, None)), "producer epoch");
}

#[test]
fn a_batch_gets_another_producer_and_keeps_the_rest() {
    let batch =
        BatchBuilder::new().base_offset(Offset(3)).record_at(5, Some(b"k"), Some(b"v")).build().unwrap();
    let other = restamp(&batch, ProducerId(8), ProducerEpoch(2), Sequence::new(11).unwrap()).unwrap();
    let expected = BatchBuilder::new()
        .base_offset(Offset(3))
        .producer(ProducerId(8), ProducerEpoch(2), Sequence::new(11).unwrap())
        .record_at(5, Some(b"k"), Some(b"v"))
        .build();
    assert_eq!(Ok(other), expected);
    let short = restamp(&batch[..68], ProducerId(8), ProducerEpoch(2), Sequence::ZERO).unwrap_err();
    assert_eq!((short.field, short.found.as_str()), ("batch length", "68"));
}

type Fields = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>);

fn any_record() -> impl Strategy<Value = Fields> {
    let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200));
    (0..i64::MAX / 2, bytes(), bytes(), proptest::collection::vec(("\\PC{0,9}", bytes()), 0..3))
}

proptest! {
    #[test]
    fn any_records_survive_the_round_trip_in_every_codec(
        fields in proptest::collection::vec(any_record(), 1..20),
        codec in proptest::sample::select(Codec::ALL.to_vec()),
    ) {
        let mut builder = BatchBuilder::new().codec(codec);
        for (timestamp, key, value, headers) in &fields {
            let headers: Vec<_> = headers.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
            builder = builder.record_with_headers(*timestamp, key.as_deref(), value.as_deref(), &headers);
        }
        let built = match builder.build() {
            Ok(built) => built,
            // A build without the codec says so; there is nothing to compare.
            Err(error) => {
                prop_assert_eq!(error.field, "codec");
                return Ok(());
            }
        };
        let batch = check(&built);
        let header = *batch.header();
        prop_assert_eq!(header.attributes.codec(), codec.id());
        let payload = decompress(codec, batch.payload(), 1 << 20).unwrap();
        let summary = validate_records(&payload, header.record_count).unwrap();
        prop_assert_eq!(header.base_timestamp + summary.max_timestamp_delta, header.max_timestamp);
        let read: Vec<Fields> = Records::new(&payload, header.record_count).map(|record| {
            let record = record.unwrap();
            let headers = record.headers.iter().map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec))).collect();
            (record.timestamp(&header), record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec), headers)
        }).collect();
        prop_assert_eq!(read, fields);
    }
}
