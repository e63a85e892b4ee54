use proptest::prelude::*;

use super::*;

fn entry(producer: i64) -> SnapshotEntry {
    SnapshotEntry {
        producer: ProducerId(producer),
        epoch: ProducerEpoch(3),
        last_batch: Some(SnapshotBatch {
            last_sequence: Sequence::new(9),
            last_offset: Offset(40),
            offset_delta: 4,
        }),
        timestamp: 1_795_219_424_032,
        coordinator_epoch: CoordinatorEpoch(2),
        txn_first_offset: Some(Offset(12)),
    }
}

fn with_crc(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32c(&bytes[COUNT_AT..]);
    bytes[CRC_AT..COUNT_AT].copy_from_slice(&crc.to_be_bytes());
    bytes
}

#[test]
fn an_entry_has_the_bytes_that_kafka_writes() {
    let bytes = encode([&entry(4009)]).unwrap();
    assert_eq!(bytes.len(), 56);
    assert_eq!(bytes[..2], [0, 1]);
    assert_eq!(bytes[6..10], [0, 0, 0, 1]);
    #[rustfmt::skip]
    let expected = [
        0, 0, 0, 0, 0, 0, 0x0f, 0xa9,
        0, 3,
        0, 0, 0, 9,
        0, 0, 0, 0, 0, 0, 0, 40,
        0, 0, 0, 4,
        0, 0, 0x01, 0xa1, 0xfb, 0x6a, 0x83, 0x20,
        0, 0, 0, 2,
        0, 0, 0, 0, 0, 0, 0, 12,
    ];
    assert_eq!(bytes[10..], expected);
    assert_eq!(parse(&bytes), Ok(vec![entry(4009)]));
}

#[test]
fn an_empty_snapshot_is_ten_bytes() {
    let bytes = encode([]).unwrap();
    assert_eq!(bytes, [0, 1, 0x48, 0x67, 0x4b, 0xc7, 0, 0, 0, 0]);
    assert_eq!(parse(&bytes), Ok(vec![]));
}

#[test]
fn a_producer_known_by_a_marker_alone_has_no_batch() {
    let marker = SnapshotEntry { last_batch: None, txn_first_offset: None, ..entry(1) };
    let bytes = marker.to_bytes();
    assert_eq!(bytes[10..26], [255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0]);
    assert_eq!(bytes[38..], [255; 8]);
    assert_eq!(parse(&encode([&marker]).unwrap()), Ok(vec![marker]));
}

#[test]
fn a_batch_of_a_coordinator_has_an_offset_and_no_sequence() {
    let batch = SnapshotBatch { last_sequence: None, last_offset: Offset(40), offset_delta: 4 };
    let written = SnapshotEntry { last_batch: Some(batch), ..entry(1) };
    assert_eq!(parse(&encode([&written]).unwrap()), Ok(vec![written]));
    assert_eq!((batch.first_sequence(), batch.first_offset()), (None, Offset(36)));
}

#[test]
fn the_first_sequence_is_counted_back_across_the_wrap() {
    let batch = SnapshotBatch { last_sequence: Sequence::new(1), last_offset: Offset(40), offset_delta: 4 };
    assert_eq!(batch.first_sequence(), Sequence::new(i32::MAX - 2));
}

#[test]
fn another_version_is_refused() {
    let mut bytes = encode([&entry(1)]).unwrap();
    bytes[1] = 2;
    let error = parse(&bytes).unwrap_err();
    assert_eq!((error.field, error.expected.as_str(), error.found.as_str()), ("version", "1", "2"));
}

/// Kafka: `ProducerStateManagerTest.testLoadFromCorruptSnapshotFile` and its relatives.
#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let bytes = encode([&entry(1), &entry(2)]).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(parse(&damaged).is_err(), "bit {bit}");
    }
    for len in 0..bytes.len() {
        assert!(parse(&bytes[..len]).is_err(), "{len} bytes");
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert_eq!(parse(&longer).unwrap_err().field, "CRC");
}

#[test]
fn a_count_that_the_bytes_do_not_back_is_refused_before_anything_is_allocated() {
    for count in [0, 1, 3, i32::MAX, -1, i32::MIN] {
        let mut bytes = encode([&entry(1), &entry(2)]).unwrap();
        bytes[COUNT_AT..HEADER_SIZE].copy_from_slice(&i32::to_be_bytes(count));
        let error = parse(&with_crc(bytes)).unwrap_err();
        assert_eq!((error.field, error.found), ("number of entries", count.to_string()));
    }
    let mut ragged = encode([&entry(1)]).unwrap();
    ragged.push(0);
    assert_eq!(parse(&with_crc(ragged)).unwrap_err().field, "number of entries");
}

#[test]
fn a_producer_with_two_entries_is_refused_at_the_second() {
    let error = parse(&encode([&entry(1), &entry(2), &entry(1)]).unwrap()).unwrap_err();
    assert_eq!((error.field, error.at), ("producer id", 10 + 2 * 46));
}

#[test]
fn an_entry_that_contradicts_itself_is_refused_at_the_field() {
    let broken = |at: usize, field: &[u8]| {
        let mut bytes = encode([&entry(1)]).unwrap();
        bytes[HEADER_SIZE + at..HEADER_SIZE + at + field.len()].copy_from_slice(field);
        let error = parse(&with_crc(bytes)).unwrap_err();
        (error.field, error.at - HEADER_SIZE as u64)
    };
    assert_eq!(broken(0, &(-1i64).to_be_bytes()), ("producer id", 0));
    assert_eq!(broken(8, &(-1i16).to_be_bytes()), ("producer epoch", 8));
    assert_eq!(broken(10, &(-2i32).to_be_bytes()), ("last sequence", 10));
    assert_eq!(broken(14, &(-2i64).to_be_bytes()), ("last offset", 14));
    assert_eq!(broken(22, &(-1i32).to_be_bytes()), ("offset delta", 22));
    assert_eq!(broken(22, &41i32.to_be_bytes()), ("offset delta", 22));
    assert_eq!(broken(34, &(-2i32).to_be_bytes()), ("coordinator epoch", 34));
    assert_eq!(broken(38, &(-2i64).to_be_bytes()), ("transaction's first offset", 38));
}

#[test]
fn what_lies_at_or_above_the_end_of_the_snapshot_is_refused() {
    assert_eq!(validate_at(&[entry(1), entry(2)], Offset(41)), Ok(()));
    let error = validate_at(&[entry(1)], Offset(40)).unwrap_err();
    assert_eq!((error.field, error.at, error.found.as_str()), ("last offset", 24, "40"));
    let txn_only = SnapshotEntry { last_batch: None, ..entry(2) };
    let error = validate_at(&[txn_only, txn_only], Offset(12)).unwrap_err();
    assert_eq!((error.field, error.at), ("transaction's first offset", 48));
}

fn any_entry() -> impl Strategy<Value = SnapshotEntry> {
    let batch = (proptest::option::of(0..=i32::MAX), 0..=i64::MAX, 0..=i32::MAX).prop_map(
        |(sequence, last, delta)| SnapshotBatch {
            last_sequence: sequence.and_then(Sequence::new),
            last_offset: Offset(last),
            offset_delta: delta.min(i32::try_from(last).unwrap_or(i32::MAX)),
        },
    );
    let rest = (0..=i16::MAX, any::<i64>(), -1..=i32::MAX, proptest::option::of(0..=i64::MAX));
    (0..=i64::MAX, proptest::option::of(batch), rest).prop_map(
        |(id, last_batch, (epoch, timestamp, coordinator, txn))| SnapshotEntry {
            producer: ProducerId(id),
            epoch: ProducerEpoch(epoch),
            last_batch,
            timestamp,
            coordinator_epoch: CoordinatorEpoch(coordinator),
            txn_first_offset: txn.map(Offset),
        },
    )
}

proptest! {
    #[test]
    fn any_entries_survive_the_round_trip(mut entries in proptest::collection::vec(any_entry(), 0..20)) {
        entries.sort_by_key(|entry| entry.producer);
        entries.dedup_by_key(|entry| entry.producer);
        prop_assert_eq!(parse(&encode(&entries).unwrap()), Ok(entries));
    }

    #[test]
    fn bytes_of_any_kind_never_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 10..200)) {
        let mut framed = bytes;
        framed[..2].copy_from_slice(&VERSION.to_be_bytes());
        let _ = parse(&with_crc(framed));
    }
}
