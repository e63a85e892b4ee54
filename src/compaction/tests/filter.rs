use super::*;

/// Kafka: `LogCleanerTest.testCleanSegmentsRetainingLastEmptyBatch`, `testSizeTrimmedForPreallocatedAndCompactedTopic`
/// aside.
#[test]
fn the_newest_of_each_key_stays_and_a_batch_without_records_goes() {
    let log = [batch(0, "abc"), batch(3, "a"), batch(4, "ba"), batch(6, "d")];
    let left = round(&log, &[], NOW);
    assert_eq!(
        records(&left).iter().map(|r| (r.0, r.1)).collect::<Vec<_>>(),
        [(2, b'c'), (4, b'b'), (5, b'a'), (6, b'd')]
    );
    assert_eq!(left.len(), 3);
    assert_eq!(left[1..], log[2..], "what loses nothing is the same bytes");
}

#[test]
fn a_batch_that_loses_records_keeps_its_header_but_for_count_and_timestamp() {
    let log = [batch(0, "zab"), batch(3, "z")];
    let left = round(&log, &[], NOW);
    let (old, new) = (header(&log[0]), header(&left[0]));
    assert_eq!(
        new,
        BatchHeader {
            record_count: 2,
            max_timestamp: 500 + i64::from(b'b'),
            batch_length: new.batch_length,
            crc: new.crc,
            ..old
        }
    );
    assert_eq!(records(&left)[0], (1, b'a', 500 + i64::from(b'a')));
}

/// Kafka: `MemoryRecordsTest.testFilterTo*Compression`.
#[test]
fn a_compressed_batch_is_compressed_again_by_its_own_codec() {
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let log = [builder(0, "abc").codec(codec).build().unwrap(), batch(3, "b")];
        let left = round(&log, &[], NOW);
        assert_eq!(header(&left[0]).attributes.codec(), codec.id());
        assert_eq!(records(&left).iter().map(|r| r.0).collect::<Vec<_>>(), [0, 2, 3]);
    }
}

/// Kafka: `LogCleanerTest.testTombstoneDeletion`, `MemoryRecordsTest` with the delete horizon (KIP-534).
#[test]
fn a_tombstone_gets_a_horizon_once_and_goes_when_it_has_passed() {
    let log = [batch(0, "a"), batch(1, "Ab")];
    let first = round(&log, &[], NOW);
    let set = header(&first[0]);
    assert!(set.attributes.has_delete_horizon());
    assert_eq!(set.base_timestamp, NOW + 1_000);
    assert_eq!(records(&first), [(1, b'a', 500 + i64::from(b'A')), (2, b'b', 500 + i64::from(b'b'))]);
    let second = round(&first, &[], NOW + 999);
    assert_eq!(second, first, "the horizon is not moved");
    let third = round(&second, &[], NOW + 1_000);
    assert_eq!(records(&third), [(2, b'b', 500 + i64::from(b'b'))]);
    assert_eq!(header(&third[0]).base_timestamp, NOW + 1_000);
    assert_eq!(round(&third, &[], NOW + 5_000), third);
}

#[test]
fn broker_timestamps_stay_whatever_goes() {
    let stamped = |offset, keys: &str| {
        let batch = crate::format::batch::RawBatch(batch(offset, keys)).check().unwrap();
        batch.with_log_append_time(7_777).into_bytes()
    };
    let left = round(&[stamped(0, "aBc"), stamped(3, "a")], &[], NOW);
    assert_eq!(records(&left), [(1, b'b', 7_777), (2, b'c', 7_777), (3, b'a', 7_777)]);
    assert!(header(&left[0]).attributes.has_delete_horizon());
}

/// Kafka: `LogCleanerTest.testMessageWithoutKey` ("cleaner should ... drop unkeyed messages").
#[test]
fn records_without_a_key_go_and_are_counted() {
    let log = [BatchBuilder::new().record(None, Some(b"v")).record(Some(b"k"), Some(b"v")).build().unwrap()];
    let map = map_of(&log, &[]);
    let mut filter = Filter::new(&map, Offset(i64::MAX), Transactions::default(), NOW, RETENTION, &nobody);
    let Kept::Anew(left) = filter.take(&header(&log[0]), &log[0], false).unwrap() else { panic!() };
    assert_eq!(records(&[left]), [(1, b'k', 0)]);
    assert_eq!(filter.removed(), Removed { records: 1, without_key: 1, ..Removed::default() });
}

#[test]
fn what_lies_behind_the_end_of_the_round_is_not_looked_at() {
    let log = [batch(0, "a"), batch(1, "a"), batch(2, "A")];
    let map = map_of(&log[..2], &[]);
    let mut filter = Filter::new(&map, Offset(2), Transactions::default(), NOW, RETENTION, &nobody);
    let kept: Vec<_> = log.iter().map(|batch| filter.take(&header(batch), batch, false).unwrap()).collect();
    assert_eq!(kept, [Kept::Nothing, Kept::AsItIs, Kept::AsItIs]);
}

/// Kafka: `LogCleanerTest.testCleanSegmentsRetainingLastEmptyBatch`.
#[test]
fn the_batch_that_is_named_keeps_its_header() {
    let log = [builder(0, "ab").codec(Codec::Gzip).build().unwrap(), batch(2, "ab")];
    let map = map_of(&log, &[]);
    let mut filter = Filter::new(&map, Offset(i64::MAX), Transactions::default(), NOW, RETENTION, &nobody);
    let Kept::Anew(left) = filter.take(&header(&log[0]), &log[0], true).unwrap() else { panic!() };
    let (old, new) = (header(&log[0]), header(&left));
    let bare = BatchHeader {
        record_count: 0,
        base_timestamp: -1,
        attributes: Attributes(0),
        batch_length: 49,
        crc: new.crc,
        ..old
    };
    assert_eq!((new, left.len()), (bare, HEADER_SIZE));
    assert_eq!(filter.take(&new, &left, true).unwrap(), Kept::AsItIs);
    assert_eq!(filter.take(&new, &left, false).unwrap(), Kept::Nothing);
}

/// Kafka: `LogCleanerTest.testDuplicateCheckAfterCleaning`, `testMultiPassSegmentCleaningWithAbortedTransactions` aside.
#[test]
fn the_last_batch_of_a_producer_stays_as_a_header_with_its_sequence() {
    let of = |offset, sequence| {
        let sequence = Sequence::new(sequence).unwrap();
        builder(offset, "a").producer(ProducerId(5), ProducerEpoch(3), sequence).build().unwrap()
    };
    let log = [of(0, 10), of(1, 11), batch(2, "a")];
    let last = |_| Ok(Some(LastWritten { epoch: ProducerEpoch(3), last_offset: Some(Offset(1)) }));
    let left = round_with(&log, &[], NOW, &last);
    let kept = header(&left[0]);
    assert_eq!((left.len(), kept.base_offset, kept.base_sequence, kept.record_count), (2, Offset(1), 11, 0));
    assert_eq!(round(&log, &[], NOW).len(), 1, "a producer that is not known any more");
}

/// Kafka: `LogCleanerTest.testCleanWithTransactionMarkersOfActiveProducer` (the third case of the rule).
#[test]
fn a_marker_stays_as_a_header_if_it_is_all_that_is_known_of_the_epoch() {
    let log = [marker(0, 5, ControlKind::Commit)];
    let last = |_| Ok(Some(LastWritten { epoch: ProducerEpoch(0), last_offset: None }));
    let first = round_with(&log, &[], NOW, &last);
    let second = round_with(&first, &[], NOW + 1_000, &last);
    let kept = header(&second[0]);
    assert_eq!((kept.record_count, kept.attributes.is_control(), kept.producer_id), (0, true, 5));
    assert_eq!(round_with(&second, &[], NOW + 1_000, &last), second);
    let later = |_| Ok(Some(LastWritten { epoch: ProducerEpoch(1), last_offset: None }));
    assert_eq!(round_with(&second, &[], NOW + 1_000, &later), Vec::<Bytes>::new());
}

/// Kafka: `LogCleanerTest.testAbortMarkerRemoval`, `testCommitMarkerRemoval`, `testCommitMarkerRetentionWithEmptyBatch`.
#[test]
fn a_marker_goes_after_the_last_record_of_its_transaction_and_its_own_horizon() {
    let log = [
        txn(0, 1, "a"),
        marker(1, 1, ControlKind::Abort),
        txn(2, 2, "b"),
        marker(3, 2, ControlKind::Commit),
        batch(4, "b"),
    ];
    let list = [aborted(1, 0, 1)];
    let first = round(&log, &list, NOW);
    assert_eq!(first, [log[1].clone(), log[3].clone(), log[4].clone()], "their records were met");
    let second = round(&first, &list, NOW);
    assert_eq!(second.len(), 3);
    assert_eq!(header(&second[0]).base_timestamp, NOW + 1_000);
    assert!(header(&second[1]).attributes.has_delete_horizon());
    assert_eq!(round(&second, &list, NOW + 999), second);
    assert_eq!(round(&second, &list, NOW + 1_000), log[4..]);
}

/// Kafka: `LogCleanerTest.testCommitMarkerRetentionWithEmptyBatch`.
#[test]
fn a_marker_stays_while_an_emptied_batch_of_its_transaction_does() {
    let log = [txn(0, 2, "b"), marker(1, 2, ControlKind::Commit), batch(2, "b")];
    let last = |_| Ok(Some(LastWritten { epoch: ProducerEpoch(0), last_offset: Some(Offset(0)) }));
    let first = round_with(&log, &[], NOW, &last);
    assert_eq!(header(&first[0]).record_count, 0);
    let second = round_with(&first, &[], NOW + 9_000, &last);
    assert_eq!(second, first);
}
